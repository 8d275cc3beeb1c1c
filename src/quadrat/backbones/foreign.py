"""A user's own feature network (`.onnx`): checked, and wrapped to take chips and give features.

It is data: it may name standard operators only and must carry its weights inside, so that running
it calls no foreign library and reads no other file. Which runtime will run it is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from quadrat import graphs
from quadrat.errors import BackboneError, ModelError
from quadrat.graphs import KINDS

Pixels = tuple[float, float, float]

MIN_OPSET = 9
PREFIX = "network/"


class Wrapped(NamedTuple):
    """A network that takes chips: its bytes, tile side, features, and what it normalises by."""

    onnx: bytes
    size_px: int
    dim: int
    any_size: bool
    mean: Pixels | None
    std: Pixels | None


class _Input(NamedTuple):
    name: str
    kind: int  # of its elements, as in TensorProto
    channels_last: bool
    sides: tuple[int | None, int | None]


def wrap(
    data: bytes,
    what: str,
    *,
    size_px: int | None,
    mean: Pixels | None,
    std: Pixels | None,
    default: tuple[Pixels, Pixels],
) -> Wrapped:
    """Check a feature network and put it between `chips` and `features`.

    Args:
        data: the file. One input of four dimensions: uint8 (its own normalisation inside), float32
            or float16, channels last or first; any number of tiles at once. One output: (N, D), or
            (N, C, H, W), which is averaged over H and W.
        what: its name, for messages.
        size_px: the side of the tiles; needed if the network leaves its size open.
        mean, std: normalisation of a float network in 0..255; `default` where None.

    Raises:
        BackboneError: naming what is wrong.
    """
    try:
        return _wrap(data, what, size_px, mean, std, default)
    except ModelError as error:
        raise BackboneError(str(error)) from None
    except TypeError:
        # protobuf hands out a name that is no UTF-8 as bytes, which no step here can use
        raise BackboneError(
            f"{what} is not a sound ONNX network (a name is not text); export it again"
        ) from None


def _wrap(
    data: bytes,
    what: str,
    size_px: int | None,
    mean: Pixels | None,
    std: Pixels | None,
    default: tuple[Pixels, Pixels],
) -> Wrapped:
    network = graphs.parse(data, what)
    if graphs.opset(network) < MIN_OPSET:
        raise BackboneError(
            f"{what} has opset {graphs.opset(network)}; export it with {MIN_OPSET} or later"
        )
    entry = _input(network, what)
    if entry.kind == KINDS["uint8"] and (mean is not None or std is not None):
        raise BackboneError(
            f"{what} takes uint8 and so normalises by itself; leave out the mean and the deviation"
        )
    side = _side(entry, size_px, what)
    output = _output(network, what)
    shape = graphs.check_sizes(network, what, side)[output.name]
    if len(shape) not in (2, 4) or shape[1] < 1:
        raise BackboneError(
            f"the output of {what} has {len(shape)} dimensions; features are (N, D) or (N, C, H, W)"
        )
    # a number of features that the file leaves open may hang on the tile's side
    any_size = entry.sides == (None, None) and shape[1] in _sides(output)[1:2]
    if not any_size:
        entry = entry._replace(sides=(side, side))
    numbers: tuple[Pixels, Pixels] | None = None
    if entry.kind != KINDS["uint8"]:
        numbers = (mean or default[0], std or default[1])
        if not np.isfinite(numbers).all() or min(numbers[1]) <= 0:
            raise BackboneError("mean and deviation must be finite, the deviation above 0")
    joined = _join(network, entry, shape, numbers)
    graphs.check_sizes(joined, what, side)
    return Wrapped(
        onnx=graphs.serialise(joined),
        size_px=side,
        dim=shape[1],
        any_size=any_size,
        mean=numbers[0] if numbers else None,
        std=numbers[1] if numbers else None,
    )


def _sides(value: Any) -> list[int | None]:
    dims = value.type.tensor_type.shape.dim
    return [int(d.dim_value) if d.HasField("dim_value") else None for d in dims]


def _input(network: Any, what: str) -> _Input:
    """The name, element type and axis order of the one input."""
    constants = {each.name for each in network.graph.initializer}
    inputs = [each for each in network.graph.input if each.name not in constants]
    if len(inputs) != 1:
        raise BackboneError(f"{what} has {len(inputs)} inputs; a backbone has one, the tiles")
    sides, kind = _sides(inputs[0]), inputs[0].type.tensor_type.elem_type
    kinds = [KINDS[name] for name in ("uint8", "float32", "float16")]
    if len(sides) != 4 or kind not in kinds:
        raise BackboneError(
            f"{what} does not take images: its input must be uint8, float32 or float16 with 4 "
            f"dimensions, (N, H, W, 3) or (N, 3, H, W); it has {len(sides)}"
        )
    if sides[0] is not None:
        raise BackboneError(
            f"{what} takes exactly {sides[0]} tiles at once; export it with a dynamic batch size"
        )
    last, first = sides[3] == 3, sides[1] == 3
    if last == first:
        raise BackboneError(
            f"the input of {what} has no axis of 3 channels, first or last; export it with the "
            "channels fixed at 3 (red, green, blue)"
        )
    place = (sides[1], sides[2]) if last else (sides[2], sides[3])
    return _Input(inputs[0].name, kind, last, place)


def _side(entry: _Input, size_px: int | None, what: str) -> int:
    known = {side for side in entry.sides if side is not None}
    if len(known) > 1:
        raise BackboneError(f"{what} takes tiles that are not square; export it for square ones")
    if not known:
        if size_px is None:
            raise BackboneError(f"{what} leaves its tile size open; give it in pixels (size_px)")
        return size_px
    side = known.pop()
    if size_px is not None and size_px != side:
        raise BackboneError(
            f"{what} takes tiles of {side} px, not {size_px}; cut tiles of that size or export it "
            "with an open size"
        )
    return side


def _output(network: Any, what: str) -> Any:
    """The one output, of floating-point numbers."""
    outputs = network.graph.output
    if len(outputs) != 1:
        raise BackboneError(f"{what} has {len(outputs)} outputs; a backbone has one, the features")
    if outputs[0].type.tensor_type.elem_type not in (KINDS["float32"], KINDS["float16"]):
        raise BackboneError(f"the output of {what} is not float32; export the features as float32")
    return outputs[0]


def _join(
    network: Any, entry: _Input, shape: tuple[int, ...], numbers: tuple[Pixels, Pixels] | None
) -> Any:
    """The whole graph: chips -> planes -> floats -> normalised -> network -> pooled -> features."""
    before: list[Any] = []
    after: list[Any] = []
    constants: list[Any] = []
    x = "chips"

    def put(nodes: list[Any], op: str, inputs: Sequence[str], name: str, **more: Any) -> str:
        nodes.append(graphs.node(op, inputs, name, **more))
        return name

    if not entry.channels_last:
        x = put(before, "Transpose", [x], "pixels/planes", perm=[0, 3, 1, 2])
    if numbers is not None:
        x = put(before, "Cast", [x], "pixels/float", to=KINDS["float32"])
        wide = (1, 1, 1, 3) if entry.channels_last else (1, 3, 1, 1)
        for op, name, values in (("Sub", "mean", numbers[0]), ("Div", "deviation", numbers[1])):
            array = np.asarray(values, np.float32).reshape(wide)
            constants.append(graphs.constant(f"pixels/{name}", array))
            x = put(before, op, [x, f"pixels/{name}"], f"pixels/less_{name}")
    put(before, "Cast", [x], PREFIX + entry.name, to=entry.kind)
    y = PREFIX + network.graph.output[0].name
    y = put(after, "Cast", [y], "features/float", to=KINDS["float32"])
    y = put(after, "GlobalAveragePool", [y], "features/pool") if len(shape) == 4 else y
    put(after, "Flatten", [y], "features")
    sides = [
        side if side is not None else axis for side, axis in zip(entry.sides, "HW", strict=True)
    ]
    chips = graphs.tensor("chips", "uint8", ["N", *sides, 3])
    features = graphs.tensor("features", "float32", ["N", shape[1]])
    return graphs.enclose(
        network, PREFIX, (chips, features), before=before, after=after, constants=constants
    )
