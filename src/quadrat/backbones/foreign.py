"""A user's own feature network (`.onnx`): checked, and wrapped to take chips and give features.

It is data: it may name standard operators only and must carry its weights inside, so that running
it calls no foreign library and reads no other file. Which runtime will run it is not known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from quadrat.backbones.pickles import printable
from quadrat.errors import BackboneError

Pixels = tuple[float, float, float]

MIN_OPSET = 9
PREFIX = "network/"
DOMAINS = ("", "ai.onnx")


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
    network = _parse(data, what)
    _check_contained(network, what)
    network = _checked(network, what)
    entry = _input(network, what)
    if entry.kind == _kinds()["uint8"] and (mean is not None or std is not None):
        raise BackboneError(
            f"{what} takes uint8 and so normalises by itself; leave out the mean and the deviation"
        )
    side = _side(entry, size_px, what)
    dim, rank = _output(network, what)
    numbers: tuple[Pixels, Pixels] | None = None
    if entry.kind != _kinds()["uint8"]:
        numbers = (mean or default[0], std or default[1])
        if not np.isfinite(numbers).all() or min(numbers[1]) <= 0:
            raise BackboneError("mean and deviation must be finite, the deviation above 0")
    joined = _checked(_join(network, entry, rank, dim, numbers), what)
    return Wrapped(
        onnx=bytes(joined.SerializeToString(deterministic=True)),
        size_px=side,
        dim=dim,
        any_size=entry.sides == (None, None),
        mean=numbers[0] if numbers else None,
        std=numbers[1] if numbers else None,
    )


def _kinds() -> dict[str, int]:
    from onnx import TensorProto

    return {
        "uint8": TensorProto.UINT8,
        "float32": TensorProto.FLOAT,
        "float16": TensorProto.FLOAT16,
    }


def _parse(data: bytes, what: str) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        network = onnx.load_model_from_string(data)
    except (DecodeError, ValueError, RuntimeError):
        raise BackboneError(f"{what} is not an ONNX network; export one to .onnx") from None
    if not network.graph.node:
        raise BackboneError(f"{what} is not an ONNX network; export one to .onnx")
    return network


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and those inside its nodes (branches and loops)."""
    waiting = [graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else []
                waiting += list(attribute.graphs)


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def _check_contained(network: Any, what: str) -> None:
    """Nothing outside the file: no data in other files, no operators of other libraries."""
    from onnx import TensorProto

    if network.functions:
        raise BackboneError(
            f"{what} defines functions of its own; inline them with onnx.inliner and save it again"
        )
    domains = {each.domain for each in network.opset_import}
    for graph in _graphs(network.graph):
        domains |= {node.domain for node in graph.node}
        for tensor in _tensors(graph):
            if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
                raise BackboneError(
                    f"{what} keeps weights in another file, which is not read; save it as one "
                    "file (torch.onnx.export(..., external_data=False))"
                )
    for domain in sorted(domains - set(DOMAINS)):
        raise BackboneError(
            f"{what} needs operators of {printable(domain)}; export it with standard ONNX "
            "operators only"
        )
    version = max((each.version for each in network.opset_import), default=0)
    if version < MIN_OPSET:
        raise BackboneError(f"{what} has opset {version}; export it with {MIN_OPSET} or later")


def _checked(network: Any, what: str) -> Any:
    """The network with all shapes worked out, if it is sound."""
    from onnx import checker, shape_inference

    try:
        checker.check_model(network)
        return shape_inference.infer_shapes(network, strict_mode=True, data_prop=True)
    except (checker.ValidationError, shape_inference.InferenceError, ValueError) as error:
        reason = printable(" ".join(str(error).split()))
        raise BackboneError(
            f"{what} is not a sound ONNX network ({reason}); export it again"
        ) from None


def _sides(value: Any) -> list[int | None]:
    dims = value.type.tensor_type.shape.dim
    return [int(d.dim_value) if d.HasField("dim_value") else None for d in dims]


def _input(network: Any, what: str) -> _Input:
    """The one input: which type, which order of axes."""
    constants = {each.name for each in network.graph.initializer}
    inputs = [each for each in network.graph.input if each.name not in constants]
    if len(inputs) != 1:
        raise BackboneError(f"{what} has {len(inputs)} inputs; a backbone has one, the tiles")
    sides, kind = _sides(inputs[0]), inputs[0].type.tensor_type.elem_type
    if len(sides) != 4 or kind not in _kinds().values():
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


def _output(network: Any, what: str) -> tuple[int, int]:
    """Features and dimensions of the one output."""
    outputs = network.graph.output
    if len(outputs) != 1:
        raise BackboneError(f"{what} has {len(outputs)} outputs; a backbone has one, the features")
    if outputs[0].type.tensor_type.elem_type not in (_kinds()["float32"], _kinds()["float16"]):
        raise BackboneError(f"the output of {what} is not float32; export the features as float32")
    sides = _sides(outputs[0])
    if len(sides) not in (2, 4):
        raise BackboneError(
            f"the output of {what} has {len(sides)} dimensions; features are (N, D) or (N, C, H, W)"
        )
    if sides[1] is None or sides[1] < 1:
        raise BackboneError(
            f"how many features {what} gives is left open; export it with that axis fixed"
        )
    return sides[1], len(sides)


def _join(
    network: Any, entry: _Input, rank: int, dim: int, numbers: tuple[Pixels, Pixels] | None
) -> Any:
    """chips -> planes or not -> float -> normalised -> the network -> pooled -> features."""
    from onnx import TensorProto, compose, helper, numpy_helper

    network = compose.add_prefix(network, PREFIX)
    graph = network.graph
    before: list[Any] = []
    after: list[Any] = []
    constants: list[Any] = []
    x = "chips"

    def put(nodes: list[Any], op: str, inputs: Sequence[str], name: str, **more: Any) -> str:
        nodes.append(helper.make_node(op, list(inputs), [name], name, **more))
        return name

    if not entry.channels_last:
        x = put(before, "Transpose", [x], "pixels/planes", perm=[0, 3, 1, 2])
    if numbers is not None:
        x = put(before, "Cast", [x], "pixels/float", to=TensorProto.FLOAT)
        shape = (1, 1, 1, 3) if entry.channels_last else (1, 3, 1, 1)
        for op, name, values in (("Sub", "mean", numbers[0]), ("Div", "deviation", numbers[1])):
            array = np.asarray(values, np.float32).reshape(shape)
            constants.append(numpy_helper.from_array(array, f"pixels/{name}"))
            x = put(before, op, [x, f"pixels/{name}"], f"pixels/less_{name}")
    put(before, "Cast", [x], PREFIX + entry.name, to=entry.kind)
    y = graph.output[0].name
    y = put(after, "Cast", [y], "features/float", to=TensorProto.FLOAT)
    y = put(after, "GlobalAveragePool", [y], "features/pool") if rank == 4 else y
    put(after, "Flatten", [y], "features")
    nodes = [*before, *graph.node, *after]
    sides = [
        side if side is not None else axis for side, axis in zip(entry.sides, "HW", strict=True)
    ]
    chips = helper.make_tensor_value_info("chips", TensorProto.UINT8, ["N", *sides, 3])
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", dim])
    del graph.node[:], graph.output[:], graph.value_info[:]
    kept = [each for each in graph.input if each.name != PREFIX + entry.name]
    del graph.input[:]
    graph.node.extend(nodes)
    graph.input.extend([chips, *kept])
    graph.output.append(features)
    graph.initializer.extend(constants)
    return network
