"""Blocks of tiles, bootstrap draws of their sums, and estimates with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quadrat import grid
from quadrat.errors import InputError
from quadrat.metrics.matrix import Floats, Ints

DRAWS = 1000
# Without blocks, tiles are dealt at random into this many groups: the variance between random
# groups estimates that between tiles without bias, at a fraction of the work.
RANDOM_GROUPS = 2000


def block_ids(rows: ArrayLike, cols: ArrayLike, side: int = 8) -> Ints:
    """The square block of `side` x `side` tiles that each tile lies in, shape (N,) int64.

    Neighbouring tiles are alike and err alike; a bootstrap that draws whole blocks keeps that.
    """
    if side < 1:
        raise InputError(f"a block of {side} tiles a side; use at least 1")
    r = np.floor_divide(np.asarray(rows, np.int64), side)
    c = np.floor_divide(np.asarray(cols, np.int64), side)
    return grid.tile_keys(r, c)


def block_sums(values: ArrayLike, groups: ArrayLike) -> Floats:
    """Sums of the rows of `values` (N, V) in each group, shape (B, V), groups in sorted order."""
    v = np.asarray(values, np.float64)
    _, place = np.unique(np.asarray(groups), return_inverse=True)
    out = np.zeros((int(place.max()) + 1 if place.size else 0, v.shape[1]))
    for j in range(v.shape[1]):
        out[:, j] = np.bincount(place, weights=v[:, j], minlength=len(out))
    return out


def bootstrap_sums(sums: Floats, *, draws: int = DRAWS, seed: int = 0) -> Floats:
    """Totals of `draws` resamples of whole blocks with replacement, (B, V) -> (draws, V)."""
    blocks = len(sums)
    rng = np.random.default_rng(seed)
    out = np.empty((draws, sums.shape[1]))
    for start in range(0, draws, 250):  # 250 at a time bounds the table of counts
        n = min(250, draws - start)
        counts = rng.multinomial(blocks, np.full(blocks, 1.0 / blocks), size=n)
        out[start : start + n] = counts @ sums
    return out


def interval(draws: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Percentile interval over the first axis, NaN draws left out; NaN where all are."""
    lost = ~np.isfinite(draws).any(0)
    filled = np.where(lost, 0.0, draws)
    low, high = np.nanquantile(filled, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.where(lost, np.nan, low), np.where(lost, np.nan, high)


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; NaN ends where there are fewer than two blocks."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """value, low, high; null for what is not defined."""
        pairs = (("value", self.value), ("low", self.low), ("high", self.high))
        return {k: (float(v) if np.isfinite(v) else None) for k, v in pairs}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Estimate:
        """The Estimate that `to_dict` gave."""
        return cls(*(number(values.get(k)) for k in ("value", "low", "high")))


def number(value: Any) -> float:
    """A number from JSON, null as NaN."""
    return float("nan") if value is None else float(value)


def estimates(values: ArrayLike, draws: Floats | None, level: float = 0.95) -> tuple[Estimate, ...]:
    """An estimate for each of `values` (V,) with draws (D, V); no interval without draws."""
    flat = np.atleast_1d(np.asarray(values, np.float64))
    if draws is None:
        return tuple(Estimate(float(v), np.nan, np.nan) for v in flat)
    low, high = interval(draws.reshape(len(draws), -1), level)
    return tuple(
        Estimate(float(v), float(a), float(b)) for v, a, b in zip(flat, low, high, strict=True)
    )


def groups_or_random(truth: Ints, groups: ArrayLike | None, seed: int) -> NDArray[Any]:
    """The group of each tile, (N,); without groups a random one of `RANDOM_GROUPS`."""
    if groups is None:
        deal = np.random.default_rng(seed).permutation(len(truth))
        return deal % RANDOM_GROUPS
    g = np.asarray(groups)
    if g.shape != truth.shape:
        raise InputError(f"{g.size} block ids for {truth.size} tiles; give one a tile")
    return g
