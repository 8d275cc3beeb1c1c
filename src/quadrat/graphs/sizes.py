"""How large a graph is when it runs: every tensor's size and the work, before a runtime sees it.

The sizes are worked out node by node by ONNX's own shape inference, for one size of tiles. Only
small integers that decide shapes are computed, so a small file cannot ask for much here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quadrat import border
from quadrat.errors import ModelError
from quadrat.graphs.operators import ELEMENTWISE, FOLDED, PRODUCTS, WINDOWS

if TYPE_CHECKING:
    import onnx

BATCH = 4  # tiles of which sizes are worked out, where the graph leaves their number open
SMALL = 256  # elements: constants up to here may be shapes
MAX_TENSOR = 1 << 25  # elements a tile of any tensor; larger tiles may have more:
MAX_A_PIXEL = 64  # elements a pixel of the tile
MAX_PRODUCTS = 300 * 10**9  # multiplications a tile in convolutions and products of matrices
MAX_STEPS = 1 << 32  # elements a tile written or read by everything else
MAX_CHAIN = 128  # operators on single elements, one after another
MAX_RANK = 8

Shape = tuple[int, ...]


def check_sizes(proto: onnx.ModelProto, what: str, size_px: int | None = None) -> dict[str, Shape]:
    """The shape of every tensor, for one block of tiles.

    Args:
        size_px: the side of the tiles, for a graph that takes any.

    Raises:
        ModelError: the graph is unsound, or too large to run.
    """
    bare = _skeleton(proto, size_px)
    tiles, side = _tiles(bare)
    largest = tiles * max(MAX_TENSOR, MAX_A_PIXEL * side * side)
    walk = _ShapeWalk(proto, bare, what)
    for node in bare.graph.node:
        _check_tensors(node, walk.step(node), what, largest)
    _check_work(bare.graph, walk.shapes, what, tiles)
    return walk.shapes


def _skeleton(proto: onnx.ModelProto, size_px: int | None) -> onnx.ModelProto:
    """The graph for one block of tiles, with its constants as inputs; sound, or ModelError."""
    import onnx
    from onnx import helper

    bare = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import)
    graph, constants = bare.graph, constants_of(proto)
    graph.name = "skeleton"
    for value in proto.graph.input:
        if value.name in constants:
            continue
        copy = graph.input.add()
        copy.CopyFrom(value)
        for place, dim in enumerate(copy.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                dim.dim_value = BATCH if place == 0 or size_px is None else size_px
    graph.input.extend(
        helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
        for name, tensor in constants.items()
    )
    known = (o for o in proto.graph.output if o.type.tensor_type.HasField("shape"))
    graph.output.extend(known)
    graph.node.extend(n for n in proto.graph.node if not set(n.output) & set(constants))
    return bare


def constants_of(proto: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Weights and the tensors of Constant nodes, by name."""
    constants = {w.name: w for w in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Constant" and len(node.output) == 1:
            constants.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
    return constants


def _tiles(skeleton: onnx.ModelProto) -> tuple[int, int]:
    """Tiles at once and their side, of the skeleton's first input."""
    inputs = skeleton.graph.input
    dims = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim] if inputs else []
    return (max(1, dims[0]), max(dims[1:])) if len(dims) == 4 else (BATCH, 1)


class _ShapeWalk:
    """Goes through a graph in its order and keeps types, shapes and small values."""

    def __init__(self, proto: onnx.ModelProto, bare: onnx.ModelProto, what: str) -> None:
        from onnx import checker

        self.what = what
        self.opsets = {o.domain: o.version for o in bare.opset_import}
        self.ir_version = bare.ir_version
        try:
            checker.check_model(bare)
        except (checker.ValidationError, ValueError, RuntimeError) as error:
            raise self.unsound(error) from None
        self.types: dict[str, Any] = {}
        self.shapes: dict[str, Shape] = {}
        for value in bare.graph.input:
            self.keep(value.name, value.type)
        self.values = {
            name: tensor
            for name, tensor in constants_of(proto).items()
            if math.prod(tensor.dims) <= SMALL
        }

    def unsound(self, error: Exception) -> ModelError:
        return ModelError(
            f"{self.what} is not a sound ONNX network ({printable(border.short(error))}); "
            "export it again"
        )

    def keep(self, name: str, kind: Any) -> None:
        self.types[name] = kind
        tensor = kind.tensor_type
        if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
            self.shapes[name] = tuple(d.dim_value for d in tensor.shape.dim)

    def step(self, node: onnx.NodeProto) -> dict[str, Shape | None]:
        """The shapes of a node's outputs; None where they cannot be known."""
        from onnx import checker, defs, shape_inference

        inputs = [name for name in node.input if name]
        values = {name: self.values[name] for name in inputs if name in self.values}
        try:
            schema = defs.get_schema(node.op_type, self.opsets.get(node.domain, 1), node.domain)
            made = shape_inference.infer_node_outputs(
                schema, node, {name: self.types[name] for name in inputs if name in self.types},
                values, None, list(_opset_ids(self.opsets)), self.ir_version,
            )  # fmt: skip
        except (
            defs.SchemaError, checker.ValidationError, shape_inference.InferenceError, LookupError,
            RuntimeError, TypeError, ValueError,
        ) as error:  # fmt: skip
            raise self.unsound(error) from None
        for name, kind in made.items():
            self.keep(name, kind)
        if inputs and node.op_type in ELEMENTWISE:
            self.alike(node, inputs)
        if node.op_type in FOLDED and len(values) == len(inputs):
            self.fold(node, values)
        elif node.op_type == "Shape" and inputs and inputs[0] in self.shapes:
            ends = {a.name: a.i for a in node.attribute}
            part = slice(ends.get("start"), ends.get("end"))
            self.set(node.output[0], np.array(self.shapes[inputs[0]][part], np.int64))
        return {name: self.shapes.get(name) for name in node.output if name}

    def alike(self, node: onnx.NodeProto, inputs: list[str]) -> None:
        """Operators that ONNX defines by others have no inference of their own."""
        from onnx import helper

        if node.output[0] in self.shapes or any(name not in self.shapes for name in inputs):
            return
        try:
            shape = np.broadcast_shapes(*(self.shapes[name] for name in inputs))
        except ValueError as error:
            raise self.unsound(error) from None
        known = self.types.get(node.output[0], self.types[inputs[0]])
        kind = known.tensor_type.elem_type or self.types[inputs[0]].tensor_type.elem_type
        self.keep(node.output[0], helper.make_tensor_type_proto(kind, shape))

    def set(self, name: str, value: NDArray[Any]) -> None:
        from onnx import numpy_helper

        self.values[name] = numpy_helper.from_array(value, name)

    def fold(self, node: onnx.NodeProto, values: Mapping[str, Any]) -> None:
        """Compute a small output of small inputs: it may be a shape."""
        from onnx import numpy_helper
        from onnx.reference import ReferenceEvaluator

        shapes = [self.shapes.get(name) for name in node.output]
        if any(shape is None or math.prod(shape) > SMALL for shape in shapes):
            return
        try:
            feeds = {name: numpy_helper.to_array(value) for name, value in values.items()}
            with np.errstate(all="ignore"):
                outputs = ReferenceEvaluator(node, opsets=self.opsets).run(None, feeds)
            for name, value in zip(node.output, outputs, strict=True):
                self.set(name, np.asarray(value))
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
            return  # what cannot be computed stays unknown, and is refused where a size hangs on it


def _opset_ids(opsets: Mapping[str, int]) -> list[Any]:
    from onnx import helper

    return [helper.make_opsetid(domain, version) for domain, version in opsets.items()]


def _check_tensors(
    node: onnx.NodeProto, made: Mapping[str, Shape | None], what: str, largest: int
) -> None:
    for name, shape in made.items():
        if shape is None:
            raise ModelError(
                f"{what} has a tensor of unknown size ({printable(name)}, of {node.op_type}); "
                "export it with constant shapes"
            )
        if len(shape) > MAX_RANK or min(shape, default=0) < 0 or math.prod(shape) > largest:
            raise ModelError(
                f"{what} asks for a tensor of {printable(str(list(shape)))} ({node.op_type}), more "
                "than a network on tiles needs; give another network"
            )


def _check_work(graph: onnx.GraphProto, shapes: Mapping[str, Shape], what: str, tiles: int) -> None:
    products = steps = 0
    chain: dict[str, int] = {}
    for node in graph.node:
        out = sum(math.prod(shapes[name]) for name in node.output if name)
        read = [shapes[name] for name in node.input if name in shapes]
        if node.op_type in PRODUCTS:
            products += _products(node, out, read)
        elif node.op_type in WINDOWS:
            steps += out * _window(node)
        else:
            steps += out + sum(math.prod(shape) for shape in read)
        length = 0
        if node.op_type in ELEMENTWISE:
            length = 1 + max((chain.get(name, 0) for name in node.input), default=0)
        if length > MAX_CHAIN:
            raise ModelError(
                f"{what} has more than {MAX_CHAIN} operators on single elements in a row, which no "
                "network needs; give another network"
            )
        chain.update(dict.fromkeys(node.output, length))
    if products > tiles * MAX_PRODUCTS or steps > tiles * MAX_STEPS:
        raise ModelError(
            f"{what} needs {max(products, steps) / tiles:.1g} operations a tile, too many to run; "
            "give a smaller network"
        )


def _products(node: onnx.NodeProto, out: int, read: list[Shape]) -> int:
    """Multiplications of a convolution or a product of matrices, at least."""
    if node.op_type == "Einsum":
        # each letter of the equation is an axis; without letters (...) the axes themselves count
        equation = next((a.s.decode("ascii", "replace") for a in node.attribute), "")
        axes: dict[str, int] = {}
        for term, shape in zip(equation.split("->")[0].split(","), read, strict=False):
            letters = term.replace(" ", "").replace("...", "")
            axes.update(zip(letters, shape[len(shape) - len(letters) :], strict=False))
        return max(out, math.prod(axes.values()))
    weight = read[3] if node.op_type.startswith("QLinear") and len(read) > 3 else read[1]
    if node.op_type == "ConvTranspose":
        factors = [*read[0], *weight[1:]]
    elif "Conv" in node.op_type:
        factors = [out, *weight[1:]]
    else:
        factors = [out, max(read[0] if node.op_type == "Gemm" else read[0][-1:], default=1)]
    return math.prod(factors)


def _window(node: onnx.NodeProto) -> int:
    """Elements that one output of a pooling or a local normalisation reads."""
    sides = [a.ints for a in node.attribute if a.name == "kernel_shape"]
    size = [a.i for a in node.attribute if a.name == "size"]
    return max(1, int(math.prod([*(n for each in sides for n in each), *size])))


def printable(text: str) -> str:
    """A text out of a file, fit for a one-line message."""
    shown = "".join(c if c.isprintable() else "?" for c in text[:100])
    return shown + ("..." if len(text) > 100 else "")
