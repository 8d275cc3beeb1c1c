"""Graphs from strangers: what is refused before a runtime sees it, and what is let through."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quadrat import graphs
from quadrat.errors import ModelError

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
SIZE = 8


def network(*nodes: Any, opset: int = 17, **constants: object) -> bytes:
    """Chips -> colours (N, 3) as `x` -> what `nodes` make of it -> `y`, rows."""
    first = [
        helper.make_node("Cast", ["chips"], ["f"], to=FLOAT),
        helper.make_node("ReduceMean", ["f"], ["x"], axes=[1, 2], keepdims=0),
    ]
    graph = helper.make_graph(
        [*first, *nodes],
        "it",
        [helper.make_tensor_value_info("chips", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("y", FLOAT, ["N", "K"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(model.SerializeToString())


def node(op: str, inputs: str, output: str, **attributes: Any) -> Any:
    return helper.make_node(op, inputs.split(), output.split(), **attributes)


def ints(*values: int) -> Any:
    return np.asarray(values, np.int64)


def chain(count: int, op: str = "Add", *between: Any) -> list[Any]:
    made = [node(op, f"{'x' if i == 0 else f'x{i}'} one", f"x{i + 1}") for i in range(count)]
    return [*made, *between, node("Identity", f"x{count}", "y")]


def doubled(count: int) -> list[Any]:
    made = [node("Concat", f"{'x' if i == 0 else f'x{i}'} " * 2, f"x{i + 1}", axis=1)
            for i in range(count)]  # fmt: skip
    return [*made, node("Identity", f"x{count}", "y")]


def branch() -> Any:
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["b"], value_float=1.0)], "b", [],
        [helper.make_tensor_value_info("b", FLOAT, [])],
    )  # fmt: skip
    return helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)


def body() -> Any:
    return helper.make_graph(
        [node("Identity", "c", "d"), node("Add", "v v", "w")],
        "b",
        [helper.make_tensor_value_info("i", INT64, []),
         helper.make_tensor_value_info("c", TensorProto.BOOL, []),
         helper.make_tensor_value_info("v", FLOAT, [])],
        [helper.make_tensor_value_info("d", TensorProto.BOOL, []),
         helper.make_tensor_value_info("w", FLOAT, [])],
    )  # fmt: skip


BIG = 1 << 40
HOSTILE: dict[str, tuple[bytes, str]] = {
    "If": (network(branch(), c=True), "operator If"),
    "Loop": (network(node("Loop", "n c x", "y", body=body()), n=BIG, c=True), "operator Loop"),
    "random numbers": (network(node("RandomNormalLike", "x", "y")), "operator RandomNormalLike"),
    "a sequence": (network(node("SequenceConstruct", "x x", "y")), "operator SequenceConstruct"),
    "a size by values": (network(node("NonZero", "x", "y")), "operator NonZero"),
    "Tile": (network(node("Tile", "x n", "y"), n=ints(1, BIG)), "asks for a tensor"),
    "Expand": (network(node("Expand", "x n", "e"), node("ReduceMean", "e", "y"),
                       n=ints(1 << 20, 1 << 10, 3)), "asks for a tensor|not a sound"),
    "ConstantOfShape": (network(node("ConstantOfShape", "n", "z"), node("Add", "x z", "y"),
                                n=ints(BIG, 3)), "asks for a tensor"),
    "Resize": (network(node("Unsqueeze", "x a", "u"), node("Resize", "u  s", "r"),
                       node("Squeeze", "r a", "y"), a=ints(1, 2),
                       s=np.asarray([1, 1, 1e6, 1e6], np.float32)), "a tensor|not a sound"),
    "Pad": (network(node("Pad", "x p", "y"), p=ints(0, 0, 0, BIG)), "asks for a tensor"),
    "Range": (network(node("Range", "a b c", "r"), node("Cast", "r", "y", to=FLOAT),
                      a=np.int64(0), b=np.int64(BIG), c=np.int64(1)), "asks for a tensor"),
    "a size computed on the way": (
        network(node("Shape", "x", "s"), node("Mul", "s k", "n"),
                node("ConstantOfShape", "n", "z"), node("Add", "x z", "y"), k=ints(1, BIG)),
        "asks for a tensor"),
    "a size from pixels": (
        network(node("Cast", "x", "i", to=INT64), node("ReduceSum", "i", "n", keepdims=0),
                node("Unsqueeze", "n a", "m"), node("ConstantOfShape", "m", "y"), a=ints(0)),
        "of unknown size"),
    "doubled forty times": (network(*doubled(40)), "asks for a tensor"),
    "a chain": (network(*chain(5000), one=np.float32(1)), "operators on single elements in a row"),
    "too many operators": (network(*chain(20_001), one=np.float32(1)), "operators; a network"),
    "a kernel beyond all bounds": (
        network(node("LRN", "f", "l", size=(1 << 31) - 1), node("Identity", "x", "y")),
        "size of LRN beyond"),
    "endless work": (
        network(node("Expand", "x n", "wide"), node("MatMul", "w wide", "v"),
                node("MatMul", "v w", "u"),
                *[node("MatMul", f"{'u' if i == 0 else f'u{i}'} w", f"u{i + 1}")
                  for i in range(200)], node("Identity", "u200", "y"),
                n=ints(4, 3), w=np.zeros((4, 4), np.float32)), "not a sound"),
    "a weight with fewer numbers than its shape says": (b"", ""),
    "a weight of texts": (network(node("Identity", "x", "y"), t=np.asarray(["a"], object)),
                          "has not the numbers"),
    "an input that is nobody's": (network(node("Add", "x nothing", "y")), "not a sound"),
}  # fmt: skip


def short() -> bytes:
    proto = onnx.load_model_from_string(network(node("Add", "x w", "y"), w=np.ones(3, np.float32)))
    proto.graph.initializer[0].dims[:] = [1 << 20]
    return bytes(proto.SerializeToString())


HOSTILE["a weight with fewer numbers than its shape says"] = (short(), "has not the numbers")


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_graphs_are_refused_before_a_runtime_sees_them(kind: str) -> None:
    data, says = HOSTILE[kind]
    with pytest.raises(ModelError, match=says) as caught:
        graphs.checked(data, "it.onnx", SIZE)
    assert str(caught.value).startswith("it.onnx ") and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_more_work_than_any_machine_does_is_refused() -> None:
    # a thousand products of (4096, 4096) matrices
    steps = [node("MatMul", f"{'big' if i == 0 else f'b{i}'} big", f"b{i + 1}") for i in range(100)]
    data = network(
        node("ConstantOfShape", "n", "big"), *steps, node("ReduceMean", "b100", "m"),
        node("Add", "x m", "z"), node("Flatten", "z", "y"), n=ints(4096, 4096),
    )  # fmt: skip
    with pytest.raises(ModelError, match="operations a tile, too many to run"):
        graphs.checked(data, "it", SIZE)


def test_shapes_that_exporters_compute_are_known() -> None:
    """As torch writes x.reshape(len(x), -1, 3)[:, :2]: sizes read, gathered, joined, used."""
    data = network(
        node("Shape", "f", "s"), node("Gather", "s zero", "n"), node("Unsqueeze", "n ax", "n1"),
        node("Concat", "n1 rest", "to", axis=0), node("Reshape", "f to", "g"),
        node("Slice", "g a b one", "h"), node("ReduceMean", "h", "y", axes=[1], keepdims=0),
        zero=np.int64(0), ax=ints(0), rest=ints(-1, 3), a=ints(0), b=ints(2**63 - 1), one=ints(1),
    )  # fmt: skip
    proto, facts = graphs.checked(data, "it", SIZE)
    shapes = graphs.check_sizes(proto, "it")
    assert shapes["g"] == (4, SIZE * SIZE, 3) and shapes["y"] == (4, 3)
    assert (facts.size_px, facts.operators) == (SIZE, 9)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mean_colour"])
def test_the_sizes_of_a_real_network_are_those_of_a_run(name: str) -> None:
    import onnxruntime

    from quadrat.backbones import feature_graph

    data = feature_graph(name, size_px=64).onnx
    proto, _ = graphs.checked(data, name, 64)
    shapes = graphs.check_sizes(proto, name)
    some = [n.output[0] for n in proto.graph.node][3::7]
    for each in some:
        proto.graph.output.append(onnx.ValueInfoProto(name=each))
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found = session.run(some, {"chips": np.zeros((4, 64, 64, 3), np.uint8)})
    assert [shapes[each] for each in some] == [array.shape for array in found]
