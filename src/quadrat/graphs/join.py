"""Graphs put together, cut and written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quadrat.errors import ModelError
from quadrat.graphs.check import STANDARD_DOMAINS, describe, fix_size, opset, parse
from quadrat.graphs.operators import STABLE

if TYPE_CHECKING:
    import onnx

OPSET = 13
HEAD = "head/"  # what the names of a joined head's nodes begin with
LAYERS = ("Gemm", "MatMul")
KEPT = "kept"  # a tensor of what is kept of a tile in place of what the head reads
POOLS = ("GlobalAveragePool", "ReduceMean")


def join_graphs(feature_onnx: bytes, head_onnx: bytes, size_px: int | None = None) -> bytes:
    """One graph from chips to what a head gives: a feature graph followed by the head.

    Args:
        feature_onnx: chips `(N, H, W, 3) uint8` -> features `(N, D) float32`, opset 13 or later.
        head_onnx: features `(N, D) float32` -> one or more outputs `(N, K) float32`, of operators
            whose meaning has not changed since opset 13.
        size_px: the side of the tiles, for a feature graph that takes any.

    Returns:
        The ONNX file's bytes; input as in the feature graph, outputs as in the head (one alone is
        called `probabilities`).
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
    if not head.graph.output or len(head.graph.input) != 1:
        raise ModelError("a head has one input, the features, and at least one output")
    given = [output.name for output in head.graph.output]
    called = given if len(given) > 1 else ["probabilities"]
    joined = onnx.ModelProto()
    joined.CopyFrom(feature)
    joined.producer_name, joined.producer_version = "quadrat", ""
    joined.graph.name = "tiles to classes"
    joined.graph.ClearField("value_info")
    del joined.graph.output[:]
    _append(joined, head, info.output, called)
    return serialise(joined)


def add_head(model_onnx: bytes, head_onnx: bytes) -> bytes | None:
    """A model's graph with one more head, which reads what the model's last layer reads.

    Args:
        head_onnx: as in `join_graphs`; its outputs come after those of the model.

    Returns:
        The ONNX file's bytes; None for a model without a last layer (see `before_head`).
    """
    model, head = parse(model_onnx, "the model"), parse(head_onnx, "the head")
    features = before_head(model)
    if features is None:
        return None
    _append(model, head, features, [output.name for output in head.graph.output])
    return serialise(model)


def _append(
    joined: onnx.ModelProto, head: onnx.ModelProto, features: str, called: list[str]
) -> None:
    """Put a head's nodes behind those of a graph.

    Args:
        features: the tensor that the head reads.
        called: what its outputs are called.
    """
    foreign = {n.op_type for n in head.graph.node} - STABLE
    if foreign and opset(head) != opset(joined):
        raise ModelError(f"the head uses {sorted(foreign)[0]}, which differs between ONNX opsets")
    taken = {name for node in joined.graph.node for name in (*node.input, *node.output)}
    for name in sorted(taken.intersection(called)):
        raise ModelError(f"the feature graph has a tensor named `{name}`; rename it")
    prefix = HEAD
    while any(name.startswith(prefix) for name in taken):
        prefix = f"_{prefix}"
    given = [output.name for output in head.graph.output]
    names = {head.graph.input[0].name: features, **dict(zip(given, called, strict=True))}
    for weight in head.graph.initializer:
        joined.graph.initializer.add().CopyFrom(weight)
        joined.graph.initializer[-1].name = prefix + weight.name
    for i, node in enumerate(head.graph.node):
        copy = joined.graph.node.add()
        copy.CopyFrom(node)
        copy.name = f"{prefix}{node.op_type}{i}"
        copy.input[:] = [names.get(n, prefix + n) if n else n for n in node.input]
        copy.output[:] = [names.get(n, prefix + n) for n in node.output]
    for output, name in zip(head.graph.output, called, strict=True):
        joined.graph.output.add().CopyFrom(output)
        joined.graph.output[-1].name = name


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


def before_head(proto: onnx.ModelProto) -> str | None:
    """The tensor that the head reads: what its nodes take from others, else the last layer's."""
    made = {o for n in proto.graph.node if n.name.lstrip("_").startswith(HEAD) for o in n.output}
    if made:
        weights = {w.name for w in proto.graph.initializer}
        for node in proto.graph.node:
            if set(node.output) & made:
                outer = [i for i in node.input if i and i not in made and i not in weights]
                if outer:
                    return str(outer[0])
    for node in reversed(proto.graph.node):
        if node.op_type in LAYERS:
            return str(node.input[0])
    return None


def before_pooling(proto: onnx.ModelProto) -> Iterator[str]:
    """The tensors that are averaged on the way to the head, the one nearest to it first."""
    makers = {output: node for node in proto.graph.node for output in node.output}
    ahead, seen = [before_head(proto)], set()
    while ahead:
        name = ahead.pop(0)
        node = makers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type in POOLS:
            yield str(node.input[0])
        ahead += node.input


def linear_head(proto: onnx.ModelProto) -> NDArray[np.float32] | None:
    """What a linear head does to its features, (D, K): logits are features @ this + constants.

    None for a head of another kind.
    """
    from onnx import numpy_helper

    known = {w.name: w for w in proto.graph.initializer}
    ahead: list[tuple[str | None, Any]] = [(before_head(proto), np.float32(1.0))]
    while ahead:
        name, scale = ahead.pop(0)
        for node in proto.graph.node:
            if name not in node.input[:1] or len(node.input) < 2 or node.input[1] not in known:
                continue
            by = numpy_helper.to_array(known[node.input[1]])
            if node.op_type in LAYERS and by.ndim == 2:
                across = any(a.name == "transB" and a.i for a in node.attribute)
                weights = by.T if across else by
                return np.asarray(np.reshape(scale, (-1, 1)) * weights, np.float32)
            if node.op_type in ("Add", "Sub"):
                ahead.append((node.output[0], scale))
            if node.op_type in ("Mul", "Div"):
                ahead.append((node.output[0], scale * by if node.op_type == "Mul" else scale / by))
    return None


def append(proto: onnx.ModelProto, nodes: list[Any], constants: list[Any]) -> None:
    """Put nodes behind those of a graph.

    Args:
        nodes, constants: as `node` and `constant` make them.
    """
    proto.graph.initializer.extend(constants)
    proto.graph.node.extend(nodes)


def kept(proto: onnx.ModelProto) -> str | None:
    """The tensor of what is kept of a tile: `KEPT` where there is one, else the head's input."""
    if any(KEPT in node.output for node in proto.graph.node):
        return KEPT
    return before_head(proto)


def cut_after(proto: onnx.ModelProto, name: str) -> bytes:
    """The graph up to one float tensor, which becomes its output."""
    import onnx

    needed, kept = {name}, []
    for node in reversed(proto.graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    weights = [w for w in proto.graph.initializer if w.name in needed]
    kept.reverse()
    for part, values in ((proto.graph.node, kept), (proto.graph.initializer, weights)):
        copies = [type(v).FromString(v.SerializeToString()) for v in values]
        del part[:]
        part.extend(copies)
    del proto.graph.output[:]
    proto.graph.output.append(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
    )
    return serialise(proto)


def with_output(proto: onnx.ModelProto, name: str) -> bytes:
    """The graph with one more output, a float tensor of it."""
    import onnx

    proto.graph.output.append(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
    )
    return serialise(proto)


def put_before(proto: onnx.ModelProto, first: str, nodes: list[Any], constants: list[Any]) -> bytes:
    """The graph behind other nodes: what read `first` reads the last of these.

    Args:
        nodes, constants: as `node` and `constant` make them.
    """
    mapped = nodes[-1].output[0]
    for node in proto.graph.node:
        node.input[:] = [mapped if n == first else n for n in node.input]
    proto.graph.initializer.extend(constants)
    rest = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend([*nodes, *rest])
    return serialise(proto)


def enclose(
    proto: onnx.ModelProto,
    prefix: str,
    ends: tuple[Any, Any],
    *,
    before: list[Any],
    after: list[Any],
    constants: list[Any],
) -> onnx.ModelProto:
    """The graph, each of its names behind `prefix`, between other nodes.

    Args:
        ends: the input and the output of the whole, as `tensor` makes them.
    """
    from onnx import compose

    first = {i.name for i in proto.graph.input} - {w.name for w in proto.graph.initializer}
    inner = compose.add_prefix(proto, prefix)
    graph = inner.graph
    nodes = [*before, *graph.node, *after]
    kept = [i for i in graph.input if i.name.removeprefix(prefix) not in first]
    del graph.node[:], graph.output[:], graph.input[:]
    graph.node.extend(nodes)
    graph.input.extend([ends[0], *kept])
    graph.output.append(ends[1])
    graph.initializer.extend(constants)
    return inner
