"""Accuracy on mixed ground: by purity of the plots, and errors of the shares. Pure numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat.metrics.bootstrap import Estimate, block_sums
from quadrat.metrics.intervals import means, ratios
from quadrat.metrics.matrix import Floats, Ints

PURE = 0.9  # share of the main class from which on a plot is called pure
EDGES = (0.0, 0.5, 0.6, 0.7, 0.8, PURE, 1.0)  # of the bands of purity


@dataclass(frozen=True)
class PurityBand:
    """Accuracy of the plots whose main class has a share from `low` to `high`."""

    low: float
    high: float
    tiles: int
    accuracy: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "low": self.low,
            "high": self.high,
            "tiles": self.tiles,
            "accuracy": self.accuracy.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PurityBand:
        """The band that `to_dict` gave."""
        ends = float(values["low"]), float(values["high"])
        return cls(*ends, int(values["tiles"]), Estimate.from_dict(values["accuracy"]))


@dataclass(frozen=True)
class Shares:
    """How far the expected shares of classes are from the reference's.

    Attributes:
        error: part of a plot's ground that is given to a wrong class, on average: half the sum of
            the differences of the shares.
        reference: (K,) mean shares by the reference.
        bias: of each class, the mean expected share less the mean reference share.
    """

    names: tuple[str, ...]
    tiles: int
    error: Estimate
    reference: tuple[float, ...]
    bias: tuple[Estimate, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        rows = zip(self.names, self.reference, self.bias, strict=True)
        return {
            "tiles": self.tiles,
            "error": self.error.to_dict(),
            "classes": [
                {"name": name, "reference": share, "bias": bias.to_dict()}
                for name, share, bias in rows
            ],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Shares:
        """The shares that `to_dict` gave."""
        rows = values["classes"]
        return cls(
            tuple(str(row["name"]) for row in rows),
            int(values["tiles"]),
            Estimate.from_dict(values["error"]),
            tuple(float(row["reference"]) for row in rows),
            tuple(Estimate.from_dict(row["bias"]) for row in rows),
        )


def by_purity(
    truth: Ints,
    predicted: Ints,
    shares: Floats,
    blocks: NDArray[Any],
    level: float,
    *,
    independent: bool,
) -> tuple[Estimate | None, tuple[PurityBand, ...]]:
    """Accuracy of pure plots, None without any, and of each band of purity that has plots.

    Args:
        truth: (N,) main classes, -1 for none. shares: (N, K) of the reference.
        blocks: (N,) block ids. independent: whether these mean nothing.
    """
    purity = shares.max(axis=1)
    # the last band takes its upper end
    bands = np.searchsorted(EDGES[1:-1], np.round(purity, 6), side="right")
    known = (truth >= 0) & np.isfinite(purity)
    inside = (bands[:, None] == np.arange(len(EDGES) - 1)) & known[:, None]
    right = inside & (truth == predicted)[:, None]
    tops, bottoms = (block_sums(m.astype(np.float64), blocks) for m in (right, inside))
    accuracies = ratios(tops, bottoms, level, independent=independent)
    listed = tuple(
        PurityBand(low, high, int(bottoms[:, i].sum()), accuracies[i])
        for i, (low, high) in enumerate(pairwise(EDGES))
        if bottoms[:, i].any()
    )
    pure = accuracies[EDGES.index(PURE)]
    return (pure if np.isfinite(pure.value) else None), listed


def share_figures(
    reference: Floats, expected: Floats, names: Sequence[str], blocks: NDArray[Any], level: float
) -> Shares | None:
    """How far shares (N, K) are off; None where no tile's are known (NaN)."""
    known = np.isfinite(reference).all(axis=1)
    if not known.any():
        return None
    off = expected[known] - reference[known]
    error = np.abs(off).sum(axis=1, keepdims=True) / 2
    ones = np.ones((int(known.sum()), 1))
    sums = block_sums(np.concatenate([error, off, ones], axis=1), blocks[known])
    averages = means(sums[:, :-1], sums[:, -1], level)
    return Shares(
        tuple(names),
        len(ones),
        averages[0],
        tuple(reference[known].mean(axis=0).tolist()),
        averages[1:],
    )
