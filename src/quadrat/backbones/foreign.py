"""A user's own feature network (`.onnx`): checked, and wrapped to take chips and give features.

It is data: it may name standard operators only and must carry its weights inside, so that running
it calls no foreign library and reads no other file. Which runtime will run it is not known here.

Its metadata (ONNX `metadata_props`) may say `mean`, `std` and `range`, each one number or several
with commas, as `Given` has them; `pooling` and `prefix_tokens` of a network that gives tokens;
`pixel_m`; and `licence`. What the user gives goes before them. A network of floating-point numbers
whose normalisation neither says is refused: nothing is assumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from quadrat import graphs
from quadrat.backbones.given import CURE, Given, Pixels
from quadrat.errors import BackboneError, ModelError
from quadrat.graphs import KINDS

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
    pooling: str
    pixel_m: float | None
    licence: str


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
    given: Given,
) -> Wrapped:
    """Check a feature network and put it between `chips` and `features`.

    Args:
        data: the file. One input of four dimensions: uint8 (its own normalisation inside), float32
            or float16, channels last or first; any number of tiles at once. One output: (N, D),
            (N, C, H, W), which is averaged over H and W, or tokens (N, T, D), with a pooling.
        what: its name, for messages.
        size_px: the side of the tiles; needed if the network leaves its size open.
        given: what the user says of it.

    Raises:
        BackboneError: naming what is wrong.
    """
    try:
        return _wrap(data, what, size_px, given)
    except ModelError as error:
        raise BackboneError(str(error)) from None
    except TypeError:
        # protobuf hands out a name that is no UTF-8 as bytes, which no step here can use
        raise BackboneError(
            f"{what} is not a sound ONNX network (a name is not text); export it again"
        ) from None


def _wrap(data: bytes, what: str, size_px: int | None, given: Given) -> Wrapped:
    network = graphs.parse(data, what)
    if graphs.opset(network) < MIN_OPSET:
        raise BackboneError(
            f"{what} has opset {graphs.opset(network)}; export it with {MIN_OPSET} or later"
        )
    if given.pixels is not None:
        raise BackboneError(f"{what} takes tiles as they are cut; leave --pixels out")
    notes = _Notes(what, {each.key: each.value for each in network.metadata_props})
    entry = _input(network, what)
    side = _side(entry, size_px, what)
    output = _output(network, what)
    shape = graphs.check_sizes(network, what, side)[output.name]
    pooling = _pooling(shape, what, given, notes)
    # a number of features that the file leaves open may hang on the tile's side
    any_size = entry.sides == (None, None) and not pooling and shape[1] in _sides(output)[1:2]
    if not any_size:
        entry = entry._replace(sides=(side, side))
    prefix = int(notes.number("prefix_tokens") or 0)
    numbers = _normalisation(entry, what, given, notes)
    joined = _join(network, entry, shape, numbers, (pooling, prefix))
    graphs.check_sizes(joined, what, side)
    return Wrapped(
        onnx=graphs.serialise(joined),
        size_px=side,
        dim=_dim(shape, pooling),
        any_size=any_size,
        mean=numbers[0] if numbers else None,
        std=numbers[1] if numbers else None,
        pooling=pooling,
        pixel_m=notes.number("pixel_m"),
        licence=notes.texts.get("licence") or notes.texts.get("license") or "",
    )


class _Notes(NamedTuple):
    """What the file says about itself."""

    what: str
    texts: Mapping[str, str]

    def numbers(self, key: str) -> tuple[float, ...] | None:
        """Numbers with commas between them, with or without brackets."""
        if key not in self.texts:
            return None
        try:
            return tuple(float(v) for v in self.texts[key].strip("[]() ").split(","))
        except ValueError:
            raise BackboneError(
                f"the {key} in {self.what}'s metadata is no numbers: "
                f"{graphs.printable(self.texts[key][:40])}; export it again"
            ) from None

    def number(self, key: str) -> float | None:
        """One number."""
        found = self.numbers(key)
        return None if found is None else found[0]


def _normalisation(
    entry: _Input, what: str, given: Given, notes: _Notes
) -> tuple[Pixels, Pixels] | None:
    """Mean and deviation in 0..255 of a network of floats; None for one of bytes."""
    said = given.statistics
    if entry.kind == KINDS["uint8"]:
        if said is not None:
            raise BackboneError(f"{what} takes uint8 and so normalises by itself; leave out {CURE}")
        return None
    if said is not None:
        return said
    mean, std, limits = (notes.numbers(key) for key in ("mean", "std", "range"))
    if mean is None or std is None or limits is None or len(limits) != 2:
        raise BackboneError(
            f"{what} takes floating-point numbers and does not say how bytes become these; say it "
            f"with {CURE}"
        )
    return Given(mean=mean, std=std, range=(limits[0], limits[1])).statistics


def _pooling(shape: tuple[int, ...], what: str, given: Given, notes: _Notes) -> str:
    """How one row is made of tokens; "" for a network that gives one."""
    if len(shape) == 3 and min(shape[1:]) >= 1:
        chosen = Given(pooling=given.pooling or notes.texts.get("pooling")).pooling
        if chosen is None:
            raise BackboneError(
                f"{what} gives {shape[1]} tokens a tile; say with --pooling token, mean or both "
                "what its features are"
            )
        if int(notes.number("prefix_tokens") or 0) not in range(shape[1]):
            raise BackboneError(f"{what} has no tokens behind its prefix_tokens; export it again")
        return chosen
    if len(shape) not in (2, 4) or shape[1] < 1:
        raise BackboneError(
            f"the output of {what} has {len(shape)} dimensions; features are (N, D), (N, C, H, W) "
            "or tokens (N, T, D)"
        )
    if given.pooling is not None:
        raise BackboneError(f"{what} gives one row a tile; leave --pooling out")
    return ""


def _dim(shape: tuple[int, ...], pooling: str) -> int:
    return shape[-1] * (2 if pooling == "both" else 1) if pooling else shape[1]


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
    network: Any,
    entry: _Input,
    shape: tuple[int, ...],
    numbers: tuple[Pixels, Pixels] | None,
    pool: tuple[str, int],
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
    pooling, prefix = pool
    rows = []
    if pooling in ("token", "both"):
        constants.append(graphs.constant("features/first", np.zeros(1, np.int64)))
        first = put(after, "Gather", [y, "features/first"], "features/tokens", axis=1)
        rows.append(put(after, "Flatten", [first], "features/token"))
    if pooling in ("mean", "both"):
        # a product with the weights of a mean: ReduceMean and Slice change with the opset
        weights = np.where(np.arange(shape[1]) < prefix, 0, 1) / (shape[1] - prefix)
        constants.append(
            graphs.constant("features/weights", weights.astype(np.float32)[None, None])
        )
        mean = put(after, "MatMul", ["features/weights", y], "features/means")
        rows.append(put(after, "Flatten", [mean], "features/mean"))
    if pooling:
        y = put(after, "Concat", rows, "features/rows", axis=1)
    put(after, "Flatten", [y], "features")
    sides = [
        side if side is not None else axis for side, axis in zip(entry.sides, "HW", strict=True)
    ]
    chips = graphs.tensor("chips", "uint8", ["N", *sides, 3])
    features = graphs.tensor("features", "float32", ["N", _dim(shape, pooling)])
    return graphs.enclose(
        network, PREFIX, (chips, features), before=before, after=after, constants=constants
    )
