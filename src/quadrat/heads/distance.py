"""How unlike the training tiles a tile is, by its features.

The distance of a tile is one less the largest cosine between its features and those of a training
tile, in units of the distance that 99% of held-out tiles stay within: a tile beyond 1 is less like
the training tiles than all but 1% of their own ground is. Each feature is first centred and scaled
as the training tiles have it. Products are taken along the training tiles' first principal axes,
lengths in all directions, so that a tile is far, too, by what no training tile has.

It is the dissimilarity index of Meyer and Pebesma (2021,
https://doi.org/10.1111/2041-210X.13650) with the cosine of deep features for the distance (Sun et
al. 2022, https://arxiv.org/abs/2204.06507). Held-out tiles are measured by axes and training tiles
of other folds: whole blocks of ground where tiles have places. Knows features and folds; no tiles,
no classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from quadrat import graphs
from quadrat.model import DISTANCE

Floats = NDArray[np.float64]
Features = NDArray[np.float32]
Ints = NDArray[np.int64]

LEVEL = 0.99  # share of held-out tiles whose distance is at most 1
AXES = 64
KEPT = 1024  # training tiles that are kept for the comparison
MOST = 4000  # training tiles that the axes and the unit are computed from
LEAST = 50  # held-out tiles that the unit needs
TINY = 1e-6  # added to squared lengths, so that features equal to the mean divide by no zero
OPSET = 13
TOO_FEW = (
    f"fewer than {LEAST} held-out tiles are too few to tell where imagery is unlike the training "
    "tiles: scores of this model have no distance"
)


@dataclass(frozen=True)
class Distance:
    """What a tile's distance is computed with; call it with features (N, D) for distances (N,).

    Attributes:
        mean, scale: (D,) of the training tiles' features.
        axes: (D, Q) of unit length.
        known: (M, Q) training tiles along the axes, divided by their lengths in all directions.
        unit: the distance that is given as 1.
        held_out: held-out tiles that the unit was told from.
    """

    mean: Floats
    scale: Floats
    axes: Floats
    known: Floats
    unit: float = 1.0
    held_out: int = 0

    def __call__(self, x: Features) -> Floats:
        """Distances (N,) of features (N, D)."""
        cosines = self.along(x) @ self.known.T
        distances: Floats = (1 - cosines.max(axis=1)) / self.unit
        return distances

    def along(self, x: Features) -> Floats:
        """Coordinates on the axes, divided by the length of the whole feature vector, (N, Q)."""
        z = (x - self.mean) / self.scale
        rows: Floats = (z @ self.axes) / np.sqrt((z**2).sum(axis=1, keepdims=True) + TINY)
        return rows

    def to_dict(self) -> dict[str, Any]:
        """What a model's file says of it."""
        return {
            "level": LEVEL, "unit": self.unit, "held_out": self.held_out,
            "training": len(self.known), "axes": self.axes.shape[1],
        }  # fmt: skip

    def export(self) -> bytes:
        """The ONNX graph, features `(N, D) float32` -> distances `(N, 1) float32`."""
        weights: Mapping[str, NDArray[Any]] = {
            "mean": self.mean.astype(np.float32),
            "scale": self.scale.astype(np.float32),
            "axes": self.axes.astype(np.float32),
            "known": np.ascontiguousarray(self.known.T.astype(np.float32)),
            "tiny": np.array(TINY, np.float32),
            "per unit": np.array(-1 / self.unit, np.float32),
            "one": np.array(1 / self.unit, np.float32),
            "second": np.array([1]),
        }
        nodes = [
            graphs.node("Sub", ["features", "mean"], "centred"),
            graphs.node("Div", ["centred", "scale"], "standard"),
            graphs.node("Mul", ["standard", "standard"], "squares"),
            graphs.node("ReduceSum", ["squares", "second"], "sum of squares", keepdims=1),
            graphs.node("Add", ["sum of squares", "tiny"], "squared length"),
            graphs.node("Sqrt", ["squared length"], "length"),
            graphs.node("MatMul", ["standard", "axes"], "along"),
            graphs.node("MatMul", ["along", "known"], "products"),
            graphs.node("Unsqueeze", ["products", "second"], "in one channel"),
            graphs.node("GlobalMaxPool", ["in one channel"], "largest in it"),
            graphs.node("Flatten", ["largest in it"], "largest"),
            graphs.node("Div", ["largest", "length"], "cosine"),
            graphs.node("Mul", ["cosine", "per unit"], "less"),
            graphs.node("Add", ["less", "one"], DISTANCE),
        ]
        ends = [
            graphs.tensor("features", "float32", ["N", len(self.mean)]),
            graphs.tensor(DISTANCE, "float32", ["N", 1]),
        ]
        constants = [graphs.constant(name, array) for name, array in weights.items()]
        return graphs.assemble("distance", nodes, ends, constants, OPSET)


def fit(x: Features, fold: Ints, seed: int = 0) -> Distance | None:
    """Fit to training tiles; the unit comes from each fold, measured against the other folds.

    Args:
        x: (N, D) features of the training tiles.
        fold: (N,) the fold of each.

    Returns:
        None where the tiles are too few, or all alike.
    """
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.permutation(len(x))[:MOST])
    x, fold = np.asarray(x[drawn]), fold[drawn]
    held = []
    for i in np.unique(fold):
        others = _known(x[fold != i], rng)
        if others is not None:
            held.append(others(x[fold == i]))
    return _in_units(_known(x, rng), np.concatenate(held) if held else np.empty(0))


def fit_to(x: Features, held: Features, seed: int = 0) -> Distance | None:
    """Fit to training tiles (N, D); the unit comes from the tiles `held` (n, D).

    For a network that learned from the training tiles: no fold of them is new to it.
    """
    rng = np.random.default_rng(seed)
    distance = _known(x[np.sort(rng.permutation(len(x))[:MOST])], rng)
    return None if distance is None else _in_units(distance, distance(held))


def _known(x: Features, rng: np.random.Generator) -> Distance | None:
    """Cosine distances without a unit; None for fewer than three tiles, or equal ones."""
    count = min(AXES, len(x) - 2, x.shape[1])
    spread = x.std(axis=0, dtype=np.float64) if len(x) else np.zeros(1)
    typical = float(np.median(spread))
    if count < 1 or not typical > 0:
        return None
    mean, scale = x.mean(axis=0, dtype=np.float64), np.sqrt(spread**2 + typical**2)
    z, d = (x - mean) / scale, x.shape[1]
    axes = linalg.eigh(z.T @ z, subset_by_index=[d - count, d - 1])[1]
    distance = Distance(mean, scale, axes, np.empty((0, count)))
    kept = np.sort(rng.permutation(len(x))[:KEPT])
    return replace(distance, known=distance.along(x[kept]))


def _in_units(found: Distance | None, held: Floats) -> Distance | None:
    """Set the unit to the LEVEL quantile of held-out distances (conformal: n + 1)."""
    n = len(held)
    if found is None or n < LEAST:
        return None
    place = min(n, int(np.ceil(LEVEL * (n + 1))))
    unit = float(np.sort(held)[place - 1])
    return replace(found, unit=unit, held_out=n) if unit > 0 else None
