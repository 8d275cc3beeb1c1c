"""ONNX graphs as data: what may be loaded, how two are joined. Knows no files and no runtime.

A graph is trusted with nothing: only the standard operators, all weights inside the file, one
picture input. What is left can compute numbers and do nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quadrat.errors import ModelError

if TYPE_CHECKING:
    import onnx

OPSET = 13
IR_VERSION = 8
STANDARD_DOMAINS = ("", "ai.onnx")
# operators whose meaning has not changed since opset 13: a head of these joins any backbone
STABLE_OPS = frozenset(
    (
        *("Add", "Div", "Flatten", "Gather", "GatherElements", "Gemm", "Identity", "LessOrEqual"),
        *("MatMul", "Mul", "Pow", "ReduceSum", "Softmax", "Sub", "Where"),
    )
)


@dataclass(frozen=True)
class GraphInfo:
    """What a checked graph takes and gives.

    Attributes:
        input, output: names of the one input and the one output.
        batch: tiles a call when the graph fixes it, else None.
        size_px: pixels along a side when the graph fixes them, else None.
        dim: length of an output row when the graph says it, else None.
        architecture: digest of operators and weight shapes; the same for the same network with
            other weights.
    """

    input: str
    output: str
    batch: int | None
    size_px: int | None
    dim: int | None
    architecture: str


def parse(data: bytes, what: str) -> onnx.ModelProto:
    """The graph in `data`; ModelError when it is none, or could reach outside itself.

    Args:
        what: what the bytes came from, for messages.
    """
    import onnx
    from google.protobuf.message import DecodeError

    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError:
        raise ModelError(f"{what} is not an ONNX graph; save the model again") from None
    if not proto.graph.node:
        raise ModelError(f"{what} is not an ONNX graph, or an empty one; save the model again")
    if proto.functions or proto.training_info:
        raise ModelError(f"{what} holds functions or training steps; export a plain graph")
    for graph in _graphs(proto.graph):
        for node in graph.node:
            if node.domain not in STANDARD_DOMAINS:
                raise ModelError(
                    f"{what} needs operator {node.domain}.{node.op_type}, which is not standard "
                    "ONNX; export with standard operators only"
                )
        for tensor in _tensors(graph):
            if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
                raise ModelError(
                    f"{what} keeps weights in other files; save it as one file without external "
                    "data"
                )
    return proto


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer or inner.sparse_initializer:
                    yield from _graphs(inner)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield sparse.values
                yield sparse.indices


def opset(proto: onnx.ModelProto) -> int:
    """The version of the standard operators that a graph uses."""
    return max((o.version for o in proto.opset_import if o.domain in STANDARD_DOMAINS), default=0)


def describe(proto: onnx.ModelProto, what: str) -> GraphInfo:
    """Input and output of a network on pictures; ModelError for any other graph."""
    import onnx

    weights = {w.name for w in proto.graph.initializer}
    inputs = [i for i in proto.graph.input if i.name not in weights]
    if len(inputs) != 1 or len(proto.graph.output) != 1:
        raise ModelError(
            f"{what} has {len(inputs)} inputs and {len(proto.graph.output)} outputs; a network on "
            "tiles has one of each"
        )
    tensor = inputs[0].type.tensor_type
    shape = [d.dim_value or None for d in tensor.shape.dim]
    picture = len(shape) == 4 and shape[3] == 3 and shape[1] == shape[2]
    if tensor.elem_type != onnx.TensorProto.UINT8 or not picture:
        raise ModelError(
            f"{what} does not take tiles: its input must be uint8 of shape (N, H, W, 3), square"
        )
    out = proto.graph.output[0].type.tensor_type
    dims = [d.dim_value or None for d in out.shape.dim]
    if out.elem_type != onnx.TensorProto.FLOAT or len(dims) not in (0, 2):
        raise ModelError(f"{what} must give float32 rows of shape (N, D), one a tile")
    return GraphInfo(
        input=inputs[0].name,
        output=proto.graph.output[0].name,
        batch=shape[0],
        size_px=shape[1],
        dim=dims[1] if dims else None,
        architecture=_architecture(proto),
    )


def _architecture(proto: onnx.ModelProto) -> str:
    total = hashlib.sha256()
    for graph in _graphs(proto.graph):
        for node in graph.node:
            total.update(f"{node.op_type} {len(node.input)} {len(node.output)};".encode())
        for weight in graph.initializer:
            total.update(f"{weight.data_type} {list(weight.dims)};".encode())
    return total.hexdigest()


def join_graphs(feature_onnx: bytes, head_onnx: bytes, size_px: int | None = None) -> bytes:
    """One graph from chips to probabilities: a feature graph followed by a head.

    Args:
        feature_onnx: chips `(N, H, W, 3) uint8` -> features `(N, D) float32`, opset 13 or later.
        head_onnx: features `(N, D) float32` -> probabilities `(N, K) float32`, of operators whose
            meaning has not changed since opset 13.
        size_px: the side of the tiles, for a feature graph that takes any.

    Returns:
        The ONNX file's bytes; input as in the feature graph, output `probabilities`.
    """
    import onnx

    feature = parse(feature_onnx, "the feature graph")
    head = parse(head_onnx, "the head")
    info = describe(feature, "the feature graph")
    if size_px is not None:
        fix_size(feature, info, size_px)
    if opset(feature) < OPSET:
        raise ModelError(
            f"the feature graph uses ONNX opset {opset(feature)}; export it at opset {OPSET} or "
            "later"
        )
    foreign = {n.op_type for n in head.graph.node} - STABLE_OPS
    if foreign and opset(head) != opset(feature):
        raise ModelError(f"the head uses {sorted(foreign)[0]}, which differs between ONNX opsets")
    if len(head.graph.output) != 1 or len(head.graph.input) != 1:
        raise ModelError("a head has one input (features) and one output (probabilities)")
    taken = {name for node in feature.graph.node for name in (*node.input, *node.output)}
    if "probabilities" in taken:
        raise ModelError("the feature graph has a tensor named `probabilities`; rename it")
    prefix = "head/"
    while any(name.startswith(prefix) for name in taken):
        prefix = f"_{prefix}"
    names = {head.graph.input[0].name: info.output, head.graph.output[0].name: "probabilities"}

    joined = onnx.ModelProto()
    joined.CopyFrom(feature)
    joined.producer_name, joined.producer_version = "quadrat", ""
    joined.graph.name = "tiles to probabilities"
    joined.graph.ClearField("value_info")
    for weight in head.graph.initializer:
        joined.graph.initializer.add().CopyFrom(weight)
        joined.graph.initializer[-1].name = prefix + weight.name
    for i, node in enumerate(head.graph.node):
        copy = joined.graph.node.add()
        copy.CopyFrom(node)
        copy.name = f"{prefix}{node.op_type}{i}"
        copy.input[:] = [names.get(n, prefix + n) if n else n for n in node.input]
        copy.output[:] = [names.get(n, prefix + n) for n in node.output]
    del joined.graph.output[:]
    joined.graph.output.add().CopyFrom(head.graph.output[0])
    joined.graph.output[0].name = "probabilities"
    return serialise(joined)


def fix_size(proto: onnx.ModelProto, info: GraphInfo, size_px: int) -> None:
    """Make a graph that takes tiles of any size one that takes tiles of `size_px`."""
    if info.size_px is None:
        for tensor in proto.graph.input:
            if tensor.name == info.input:
                for i in (1, 2):
                    tensor.type.tensor_type.shape.dim[i].dim_value = size_px


def serialise(proto: onnx.ModelProto) -> bytes:
    """The bytes of a graph, the same bytes every time; only the operator sets that it uses."""
    kept = [o for o in proto.opset_import if o.domain in STANDARD_DOMAINS]
    if len(kept) != len(proto.opset_import):
        versions = [(o.domain, o.version) for o in kept]
        del proto.opset_import[:]
        for domain, version in versions:
            proto.opset_import.add(domain=domain, version=version)
    data: Any = proto.SerializeToString(deterministic=True)
    return bytes(data)
