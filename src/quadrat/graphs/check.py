"""What may be loaded: standard operators of a list, weights inside, sizes in bounds.

A graph is trusted with nothing. What is left after these checks can compute numbers, of a size that
is known before, and do nothing else.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quadrat.errors import ModelError
from quadrat.graphs.operators import ALLOWED
from quadrat.graphs.sizes import MAX_RANK, check_sizes, constants_of, printable

if TYPE_CHECKING:
    import onnx

STANDARD_DOMAINS = ("", "ai.onnx")
MAX_BYTES = (1 << 31) - 1  # of a file: what protobuf holds, and a ViT of 300 million weights needs
MAX_NODES = 20_000  # the largest of common networks have about 6,000, constants among them
MAX_INPUTS = 256  # of one node
MAX_NUMBER = 1 << 20  # of an attribute that is a whole number
UNBOUNDED = ("Constant", "Slice")  # their numbers may be the largest there are: "to the end"


@dataclass(frozen=True)
class GraphInfo:
    """What a checked graph takes and gives.

    Attributes:
        input: name of the one input.
        outputs: names of the outputs.
        batch: tiles a call when the graph fixes it, else None.
        size_px: pixels along a side when the graph fixes them, else None.
        dims: length of a row of each output when the graph says it, else None.
        operators: how many nodes it has, constants aside.
        architecture: digest of operators and weight shapes; the same for the same network with
            other weights.
    """

    input: str
    outputs: tuple[str, ...]
    batch: int | None
    size_px: int | None
    dims: tuple[int | None, ...]
    operators: int
    architecture: str

    @property
    def output(self) -> str:
        """Name of the first output."""
        return self.outputs[0]

    @property
    def dim(self) -> int | None:
        """Length of a row of the first output when the graph says it, else None."""
        return self.dims[0]


def parse(data: bytes, what: str) -> onnx.ModelProto:
    """The graph in `data`; ModelError when it is none, or holds what no network on tiles needs.

    What other software notes of a graph (names of shapes, documentation of tensors) is left out.

    Args:
        what: what the bytes came from, for messages.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if len(data) > MAX_BYTES:
        raise ModelError(f"{what} is larger than 2 GiB; give a smaller network")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError:
        raise ModelError(f"{what} is not an ONNX network; export or save it again") from None
    if not proto.graph.node:
        raise ModelError(f"{what} is not an ONNX network, or an empty one; export or save it again")
    proto.graph.ClearField("value_info")
    # protobuf hands out a name that is no UTF-8 as bytes, which no later step can use
    if not all(isinstance(name, str) for name in _names(proto)):
        raise ModelError(
            f"{what} is not a sound ONNX network (a name is not text); export it again"
        )
    _check_nodes(proto, what)
    _check_weights(proto, what)
    return proto


def _names(proto: onnx.ModelProto) -> Iterator[str | bytes]:
    graph = proto.graph
    for each in (*graph.input, *graph.output, *graph.initializer):
        yield each.name
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    for imported in proto.opset_import:
        yield imported.domain
    for value in (*graph.input, *graph.output):
        yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)


def _check_nodes(proto: onnx.ModelProto, what: str) -> None:
    graph = proto.graph
    if proto.functions or proto.training_info:
        raise ModelError(
            f"{what} defines functions of its own or training steps; inline them with onnx.inliner "
            "or export a plain graph"
        )
    if len(graph.node) > MAX_NODES:
        raise ModelError(
            f"{what} has {len(graph.node):,} operators; a network on tiles has at most "
            f"{MAX_NODES:,}: give a smaller one"
        )
    for node in graph.node:
        if node.domain not in STANDARD_DOMAINS:
            raise ModelError(
                f"{what} needs operators of {printable(node.domain)} ({printable(node.op_type)}), "
                "which is not standard ONNX; export with standard operators only"
            )
        if node.op_type not in ALLOWED:
            raise ModelError(
                f"{what} needs the operator {printable(node.op_type)}, which no network on tiles "
                "may use; export it without branches, loops, random numbers and sequences"
            )
        if len(node.input) > MAX_INPUTS or len(node.output) > MAX_INPUTS:
            raise ModelError(f"{what} has an operator of more than {MAX_INPUTS} inputs or outputs")
        for each in node.attribute:
            if each.HasField("g") or each.graphs:
                raise ModelError(f"{what} holds graphs within a graph; export a plain one")
            numbers = () if node.op_type in UNBOUNDED else (each.i, *each.ints)
            if any(abs(n) > MAX_NUMBER for n in numbers):
                raise ModelError(
                    f"{what} has {printable(each.name)} of {node.op_type} beyond {MAX_NUMBER:,}; "
                    "export it again"
                )


def _check_weights(proto: onnx.ModelProto, what: str) -> None:
    """Every tensor has its numbers inside the file, as many as its shape says."""
    import onnx

    if proto.graph.sparse_initializer:
        raise ModelError(f"{what} keeps sparse weights; export it with dense ones")
    for tensor in _tensors(proto.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ModelError(
                f"{what} keeps weights in another file, which is not read; save it as one file "
                "(torch.onnx.export(..., external_data=False))"
            )
    for name, tensor in constants_of(proto).items():
        if min(tensor.dims, default=0) < 0 or len(tensor.dims) > MAX_RANK:
            raise ModelError(f"{what} has a weight of no sound shape ({printable(name)})")
        if math.prod(tensor.dims) != _stored(tensor):
            raise ModelError(
                f"{what} is damaged: its weight {printable(name)} has not the numbers of its shape "
                "in a type that can be read; save it again"
            )


def _stored(tensor: onnx.TensorProto) -> int:
    """How many numbers a tensor holds; -1 for a type without numbers."""
    from onnx import helper

    try:
        kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        field = helper.tensor_dtype_to_field(tensor.data_type)
    except KeyError:
        return -1
    if kind.hasobject or kind.kind not in "biuf":
        return -1
    if tensor.HasField("raw_data"):
        count, rest = divmod(len(tensor.raw_data), kind.itemsize)
        return -1 if rest else count
    return len(getattr(tensor, field))


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def opset(proto: onnx.ModelProto) -> int:
    """The version of the standard operators that a graph uses."""
    return max((o.version for o in proto.opset_import if o.domain in STANDARD_DOMAINS), default=0)


def describe(proto: onnx.ModelProto, what: str, outputs: int = 1) -> GraphInfo:
    """Input and outputs of a network on tiles; ModelError for any other graph.

    Args:
        outputs: how many it may have at most.
    """
    import onnx

    weights = {w.name for w in proto.graph.initializer}
    inputs = [i for i in proto.graph.input if i.name not in weights]
    found = proto.graph.output
    if len(inputs) != 1 or not 1 <= len(found) <= outputs:
        right = "one of each" if outputs == 1 else f"one input and 1 to {outputs} outputs"
        raise ModelError(
            f"{what} has {len(inputs)} inputs and {len(found)} outputs; a network on tiles has "
            f"{right}"
        )
    tensor = inputs[0].type.tensor_type
    shape = [d.dim_value or None for d in tensor.shape.dim]
    picture = len(shape) == 4 and shape[3] == 3 and shape[1] == shape[2]
    if tensor.elem_type != onnx.TensorProto.UINT8 or not picture:
        raise ModelError(
            f"{what} does not take tiles: its input must be uint8 of shape (N, H, W, 3), square"
        )
    dims: list[int | None] = []
    for out in (o.type.tensor_type for o in found):
        shown = [d.dim_value or None for d in out.shape.dim]
        if out.elem_type != onnx.TensorProto.FLOAT or len(shown) not in (0, 2):
            raise ModelError(f"{what} must give float32 rows of shape (N, D), one a tile")
        dims.append(shown[1] if shown else None)
    return GraphInfo(
        input=inputs[0].name,
        outputs=tuple(o.name for o in found),
        batch=shape[0],
        size_px=shape[1],
        dims=tuple(dims),
        operators=sum(node.op_type != "Constant" for node in proto.graph.node),
        architecture=_architecture(proto),
    )


def checked(
    data: bytes, what: str, size_px: int | None, outputs: int = 1
) -> tuple[onnx.ModelProto, GraphInfo]:
    """A network on tiles of one size, with all of its sizes in bounds; ModelError otherwise.

    Args:
        size_px: the side of the tiles, for a graph that takes any.
        outputs: how many it may have at most.
    """
    proto = parse(data, what)
    info = describe(proto, what, outputs)
    if info.size_px is None:
        if size_px is None:
            raise ModelError(f"{what} takes tiles of any size; say which with size_px")
        fix_size(proto, info, size_px)
        info = describe(proto, what, outputs)
    elif size_px not in (None, info.size_px):
        raise ModelError(f"{what} takes tiles of {info.size_px} px, not {size_px}")
    check_sizes(proto, what)
    return proto, info


def fix_size(proto: onnx.ModelProto, info: GraphInfo, size_px: int) -> None:
    """Make a graph that takes tiles of any size one that takes tiles of `size_px`."""
    if info.size_px is None:
        for tensor in proto.graph.input:
            if tensor.name == info.input:
                for i in (1, 2):
                    tensor.type.tensor_type.shape.dim[i].dim_value = size_px


def _architecture(proto: onnx.ModelProto) -> str:
    total = hashlib.sha256()
    for node in proto.graph.node:
        total.update(f"{node.op_type} {len(node.input)} {len(node.output)};".encode())
    for weight in proto.graph.initializer:
        total.update(f"{weight.data_type} {list(weight.dims)};".encode())
    return total.hexdigest()
