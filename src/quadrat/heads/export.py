"""Heads as ONNX graphs: features `(N, D) float32` -> one or more outputs `(N, K) float32`.

Whatever trained a head (scikit-learn, Spark), its numbers come here as plain arrays, so that every
head becomes the same kind of graph. Knows no trainer and no tiles.

Only operators are used whose meaning has not changed since opset 13: a head joins any feature
graph, and both runtimes take it. There is no `ai.onnx.ml` in it, which OpenVINO lacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quadrat import graphs
from quadrat.errors import TrainError
from quadrat.heads.calibrate import Scaling

OPSET = 13
MAX_DEPTH = 64
ALONE: Mapping[str, Scaling] = {"probabilities": Scaling()}
Node = tuple[str, list[str], str, dict[str, Any]]


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
    *,
    outputs: Mapping[str, Scaling] = ALONE,
    classes: int | None = None,
) -> bytes:
    """Logits `((x - mean) / scale) @ coef.T + intercept`, scaled for each output, as an ONNX graph.

    Args:
        coef: (K, D), on standardised features; one row a class.
        intercept: (K,).
        mean, scale: (D,) of the training features; scale must be above 0.
        outputs: name -> what becomes of the logits (see `Scaling`).
        classes: how many columns are given; the others only share in the sum. All by default.

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
    k, d = w.shape
    mean32, scale32 = m.astype(np.float32), s.astype(np.float32)
    # a feature far from 0 that varies little would feel the rounding of its mean: undo it exactly
    b = b + w @ ((mean32.astype(np.float64) - m) / s)
    w = w * (scale32.astype(np.float64) / s)
    weights: dict[str, NDArray[Any]] = {
        "mean": mean32,
        "scale": scale32,
        "coef": w.astype(np.float32),
        "intercept": b.astype(np.float32),
    }
    nodes: list[Node] = [
        ("Sub", ["features", "mean"], "centred", {}),
        ("Div", ["centred", "scale"], "standard", {}),
        ("Gemm", ["standard", "coef", "intercept"], "logits", {"transB": 1}),
    ]
    for name, scaling in outputs.items():
        last = "logits"
        _check_scaling(scaling, k)
        if scaling.temperature != 1.0:
            weights[f"sharpness of {name}"] = np.array(1 / scaling.temperature, np.float32)
            nodes.append(("Mul", [last, f"sharpness of {name}"], f"scaled {name}", {}))
            last = f"scaled {name}"
        if scaling.shift is not None:
            weights[f"shift of {name}"] = scaling.shift.astype(np.float32)
            nodes.append(("Add", [last, f"shift of {name}"], f"shifted {name}", {}))
            last = f"shifted {name}"
        nodes.append(("Softmax", [last], f"all {name}", {"axis": -1}))
    return _graph("logistic head", nodes, weights, (d, k, classes or k), outputs)


def export_forest(
    trees: Sequence[Tree],
    features: int,
    *,
    floor: ArrayLike = 0.0,
    outputs: Mapping[str, Scaling] = ALONE,
    classes: int | None = None,
) -> bytes:
    """The trees' mean class shares p, scaled for each output, as an ONNX graph.

    An output is `q / sum(q)` with `q = (p + floor) ** (1 / temperature) * exp(shift)`.

    All trees descend together, one level a step: at node n a tile goes to `left[n]` where
    `x[feature[n]] <= threshold[n]`; a leaf leads to itself. With temperature 1, floor 0 and no
    shift the result is p as it is.

    A trainer compares float32 features to float64 thresholds; each threshold is rounded down to
    the next float32, which decides every float32 feature the same way.

    Args:
        features: D.
        floor: scalar or (K,), at least 0, added to the shares: no temperature can make a class
            possible that no tree has seen in a leaf.
        outputs, classes: see `export_logistic`.

    Raises:
        TrainError: no trees, arrays that are not a tree, a temperature that is not above 0.
    """
    if not trees:
        raise TrainError("a forest needs at least one tree")
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
    nodes.append(("ReduceSum", ["votes", "over_trees"], "mean of trees", {"keepdims": 0}))
    lift = np.broadcast_to(np.asarray(floor, np.float64), (k,))
    if not np.isfinite(lift).all() or (lift < 0).any():
        raise TrainError("a forest's floor must be at least 0")
    weights["floor"] = lift.astype(np.float32)
    nodes.append(("Add", ["mean of trees", "floor"], "lifted", {}))
    for name, scaling in outputs.items():
        _check_scaling(scaling, k)
        if scaling.temperature == 1.0 and scaling.shift is None and not lift.any():
            nodes.append(("Identity", ["lifted"], f"all {name}", {}))
            continue
        shift = np.zeros(k) if scaling.shift is None else scaling.shift
        weights[f"power of {name}"] = np.array(1.0 / scaling.temperature, np.float32)
        weights[f"factor of {name}"] = np.exp(shift).astype(np.float32)
        nodes.append(("Pow", ["lifted", f"power of {name}"], f"sharpened {name}", {}))
        nodes.append(("Mul", [f"sharpened {name}", f"factor of {name}"], f"scaled {name}", {}))
        nodes.append(
            ("ReduceSum", [f"scaled {name}", "over_trees"], f"sum of {name}", {"keepdims": 1})
        )
        nodes.append(("Div", [f"scaled {name}", f"sum of {name}"], f"all {name}", {}))
    return _graph("forest head", nodes, weights, (features, k, classes or k), outputs)


def _descent(depth: int) -> list[Node]:
    """Nodes that lead from all roots to the leaves; `node<depth>` (N, trees) are the leaves."""
    nodes: list[Node] = [
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


def _check_scaling(scaling: Scaling, k: int) -> None:
    if not (np.isfinite(scaling.temperature) and scaling.temperature > 0):
        raise TrainError(f"a temperature must be above 0, not {scaling.temperature}")
    shift = scaling.shift
    if shift is not None and (shift.shape != (k,) or not np.isfinite(shift).all()):
        raise TrainError(f"a shift of logits must be {k} finite numbers")


def _graph(
    name: str,
    nodes: Sequence[Node],
    weights: Mapping[str, NDArray[Any]],
    sizes: tuple[int, int, int],
    outputs: Iterable[str],
) -> bytes:
    """The graph of nodes that give `all <output>`, of which it gives the first columns.

    Args:
        sizes: features, columns that the nodes give, columns that the graph gives.
    """
    d, k, given = sizes
    constants = [graphs.constant(key, array) for key, array in weights.items()]
    made = [graphs.node(op, i, o, **attributes) for op, i, o, attributes in nodes]
    if given < k:
        constants.append(graphs.constant("classes", np.arange(given)))
    ends = [graphs.tensor("features", "float32", ["N", d])]
    for output in outputs:
        ends.append(graphs.tensor(output, "float32", ["N", given]))
        if given < k:
            made.append(graphs.node("Gather", [f"all {output}", "classes"], output, axis=1))
        else:
            made.append(graphs.node("Identity", [f"all {output}"], output))
    return graphs.assemble(name, made, ends, constants, OPSET)
