"""Graphs made node by node from arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

IR_VERSION = 8
# types of elements by their names in numpy, numbered as ONNX's TensorProto numbers them
KINDS = {"float32": 1, "uint8": 2, "int32": 6, "float16": 10}


def node(op: str, inputs: Sequence[str], name: str, **attributes: Any) -> Any:
    """A node; its one output bears its name."""
    from onnx import helper

    return helper.make_node(op, list(inputs), [name], name, **attributes)


def constant(name: str, values: NDArray[Any]) -> Any:
    """An array that a graph holds."""
    from onnx import numpy_helper

    return numpy_helper.from_array(np.ascontiguousarray(values), name)


def tensor(name: str, kind: str, shape: Sequence[int | str]) -> Any:
    """An input or output: its name, type of elements and shape; a text is an axis of any length."""
    from onnx import helper

    return helper.make_tensor_value_info(name, KINDS[kind], list(shape))


def assemble(
    name: str,
    nodes: Sequence[Any],
    ends: Sequence[Any],
    constants: Sequence[Any],
    opset: int,
) -> bytes:
    """The ONNX file's bytes of a graph with one input.

    Args:
        ends: the input, then each output, as `tensor` makes them.
    """
    from onnx import checker, helper

    graph = helper.make_graph(list(nodes), name, [ends[0]], list(ends[1:]), list(constants))
    model = helper.make_model(
        graph,
        producer_name="quadrat",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", opset)],
    )
    checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))
