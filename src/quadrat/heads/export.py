"""Heads as ONNX graphs: features `(N, D) float32` -> probabilities `(N, K) float32`.

Whatever trained a head (scikit-learn, Spark), its numbers come here as plain arrays, so that every
head becomes the same kind of graph. Knows no trainer and no tiles.

Only operators are used whose meaning has not changed since opset 13: a head joins any feature
graph, and both runtimes take it. There is no `ai.onnx.ml` in it, which OpenVINO lacks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quadrat import graphs
from quadrat.errors import TrainError

OPSET = 13
MAX_DEPTH = 64


@dataclass(frozen=True)
class Tree:
    """One decision tree as arrays over its M nodes; node 0 is the root.

    Attributes:
        left, right: (M,) int, the child where `x[feature] <= threshold`, and the other; -1 at a
            leaf.
        feature: (M,) int, the feature compared; any value at a leaf.
        threshold: (M,) float64; any value at a leaf.
        values: (M, K) float64, class shares; those of leaves count.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    values: NDArray[np.float64]


def export_logistic(
    coef: ArrayLike,
    intercept: ArrayLike,
    mean: ArrayLike,
    scale: ArrayLike,
    temperature: float = 1.0,
) -> bytes:
    """`softmax((((x - mean) / scale) @ coef.T + intercept) / temperature)` as an ONNX graph.

    Args:
        coef: (K, D), on standardised features; one row a class of the legend.
        intercept: (K,).
        mean, scale: (D,) of the training features; scale must be above 0.

    Raises:
        TrainError: shapes that do not fit, numbers that are not finite, a scale or temperature that
            is not above 0.
    """
    w, b = np.asarray(coef, np.float64), np.asarray(intercept, np.float64)
    m, s = np.asarray(mean, np.float64), np.asarray(scale, np.float64)
    if w.ndim != 2 or b.shape != w.shape[:1] or m.shape != w.shape[1:] or s.shape != m.shape:
        raise TrainError(
            f"a logistic head of shapes {w.shape}, {b.shape}, {m.shape}, {s.shape} does not fit; "
            "it takes (K, D), (K,), (D,), (D,)"
        )
    if not all(np.isfinite(a).all() for a in (w, b, m, s)) or (s <= 0).any():
        raise TrainError("a logistic head must have finite numbers and scales above 0; train again")
    _check_temperature(temperature)
    k, d = w.shape
    mean32, scale32 = m.astype(np.float32), s.astype(np.float32)
    # a feature far from 0 that varies little would feel the rounding of its mean: undo it exactly
    b = b + w @ ((mean32.astype(np.float64) - m) / s)
    w = w * (scale32.astype(np.float64) / s)
    weights = {
        "mean": mean32,
        "scale": scale32,
        "coef": (w / temperature).astype(np.float32),
        "intercept": (b / temperature).astype(np.float32),
    }
    nodes = [
        ("Sub", ["features", "mean"], "centred", {}),
        ("Div", ["centred", "scale"], "standard", {}),
        ("Gemm", ["standard", "coef", "intercept"], "logits", {"transB": 1}),
        ("Softmax", ["logits"], "probabilities", {"axis": -1}),
    ]
    return _graph("logistic head", nodes, weights, d, k)


def export_forest(
    trees: Sequence[Tree],
    features: int,
    temperature: float = 1.0,
    floor: ArrayLike = 0.0,
) -> bytes:
    """A random forest as an ONNX graph that gives probabilities.

    They are `q / sum(q)` with `q = (p + floor) ** (1 / temperature)`, p the mean of the trees'
    class shares.

    All trees descend together, one level a step: at node n a tile goes to `left[n]` where
    `x[feature[n]] <= threshold[n]`; a leaf leads to itself. With temperature 1 and floor 0 the
    result is p as it is.

    A trainer compares float32 features to float64 thresholds; each threshold is rounded down to
    the next float32, which decides every float32 feature the same way.

    Args:
        features: D.
        floor: scalar or (K,), at least 0, added to the shares: no temperature can make a class
            possible that no tree has seen in a leaf.

    Raises:
        TrainError: no trees, arrays that are not a tree, a temperature that is not above 0.
    """
    if not trees:
        raise TrainError("a forest needs at least one tree")
    _check_temperature(temperature)
    depth = max(_depth(t, features) for t in trees)
    k = trees[0].values.shape[1]
    starts = np.concatenate([[0], np.cumsum([len(t.left) for t in trees])]).astype(np.int64)
    left, right, feature, threshold, values = [], [], [], [], []
    for tree, start in zip(trees, starts, strict=False):
        leaf = tree.left < 0
        own = start + np.arange(len(leaf))
        left.append(np.where(leaf, own, tree.left + start))
        right.append(np.where(leaf, own, tree.right + start))
        feature.append(np.where(leaf, 0, tree.feature))
        threshold.append(np.where(leaf, 0.0, tree.threshold))
        values.append(tree.values)
    roots = starts[:-1]
    table = {
        "left": np.concatenate(left),
        "right": np.concatenate(right),
        "feature": np.concatenate(feature),
        "threshold": round_down(np.concatenate(threshold)),
    }
    weights: dict[str, NDArray[Any]] = {
        **table,
        **{f"root_{name}": array[roots] for name, array in table.items()},
        "values": (np.concatenate(values) / len(trees)).astype(np.float32),
        "over_trees": np.array([1], np.int64),
    }
    nodes = _descent(depth)
    nodes.append(("Gather", ["values", f"node{depth}"], "votes", {"axis": 0}))
    nodes.append(("ReduceSum", ["votes", "over_trees"], "shares", {"keepdims": 0}))
    lift = np.broadcast_to(np.asarray(floor, np.float64), (k,))
    if not np.isfinite(lift).all() or (lift < 0).any():
        raise TrainError("a forest's floor must be at least 0")
    if temperature == 1.0 and not lift.any():
        nodes.append(("Identity", ["shares"], "probabilities", {}))
    else:
        weights["power"] = np.array(1.0 / temperature, np.float32)
        weights["floor"] = lift.astype(np.float32)
        nodes.append(("Add", ["shares", "floor"], "lifted", {}))
        nodes.append(("Pow", ["lifted", "power"], "sharpened", {}))
        nodes.append(("ReduceSum", ["sharpened", "over_trees"], "total", {"keepdims": 1}))
        nodes.append(("Div", ["sharpened", "total"], "probabilities", {}))
    return _graph("forest head", nodes, weights, features, k)


def _descent(depth: int) -> list[tuple[str, list[str], str, dict[str, Any]]]:
    """Nodes that lead from all roots to the leaves; `node<depth>` (N, trees) are the leaves."""
    nodes: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Gather", ["features", "root_feature"], "x0", {"axis": 1}),
        ("LessOrEqual", ["x0", "root_threshold"], "goes_left0", {}),
        ("Where", ["goes_left0", "root_left", "root_right"], "node1", {}),
    ]
    for i in range(1, depth):
        for name in ("feature", "threshold", "left", "right"):
            nodes.append(("Gather", [name, f"node{i}"], f"{name}{i}", {"axis": 0}))
        nodes.append(("GatherElements", ["features", f"feature{i}"], f"x{i}", {"axis": 1}))
        nodes.append(("LessOrEqual", [f"x{i}", f"threshold{i}"], f"goes_left{i}", {}))
        nodes.append(("Where", [f"goes_left{i}", f"left{i}", f"right{i}"], f"node{i + 1}", {}))
    return nodes


def round_down(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 at most as large: `x <= t` is the same for every float32 x."""
    near = threshold.astype(np.float32)
    lower = np.nextafter(near, np.float32(-np.inf))
    return np.where(near.astype(np.float64) > threshold, lower, near).astype(np.float32)


def _depth(tree: Tree, features: int) -> int:
    """Steps from the root to the deepest leaf, at least 1; TrainError for what is no tree."""
    n = len(tree.left)
    arrays = (tree.right, tree.feature, tree.threshold, tree.values)
    inner = tree.left >= 0
    good = (
        n > 0
        and all(len(a) == n for a in arrays)
        and (inner == (tree.right >= 0)).all()
        and max(tree.left.max(), tree.right.max()) < n
        and ((tree.feature[inner] >= 0) & (tree.feature[inner] < features)).all()
        and np.isfinite(tree.threshold[inner]).all()
        and np.isfinite(tree.values).all()
    )
    if not good:
        raise TrainError("a forest head must be made of whole trees on the given features")
    level, depth = np.array([0]), 0
    while (level := level[inner[level]]).size:
        depth += 1
        if depth > MAX_DEPTH:
            raise TrainError(f"a tree is deeper than {MAX_DEPTH}; train with a smaller --depth")
        level = np.unique(np.concatenate([tree.left[level], tree.right[level]]))
    return max(1, depth)


def _check_temperature(temperature: float) -> None:
    if not (np.isfinite(temperature) and temperature > 0):
        raise TrainError(f"a temperature must be above 0, not {temperature}")


def _graph(
    name: str,
    nodes: Sequence[tuple[str, list[str], str, dict[str, Any]]],
    weights: Mapping[str, NDArray[Any]],
    d: int,
    k: int,
) -> bytes:
    ends = (
        graphs.tensor("features", "float32", ["N", d]),
        graphs.tensor("probabilities", "float32", ["N", k]),
    )
    made = [graphs.node(op, i, o, **attributes) for op, i, o, attributes in nodes]
    constants = [graphs.constant(key, array) for key, array in weights.items()]
    return graphs.assemble(name, made, ends, constants, OPSET)
