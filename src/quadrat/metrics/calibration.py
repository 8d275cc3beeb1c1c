"""Calibration: how well stated probabilities match observed frequencies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quadrat.errors import InputError
from quadrat.metrics.bootstrap import (
    DRAWS,
    Estimate,
    block_sums,
    bootstrap_sums,
    estimates,
    groups_or_random,
)
from quadrat.metrics.matrix import Floats, Ints, class_ids, divide

BINS = 15
_EPS = 1e-12


@dataclass(frozen=True)
class Calibration:
    """How well stated probabilities match observed frequencies.

    Attributes:
        edges: (BINS + 1,) ends of the bins of confidence (the highest probability of a tile).
        count, confidence, accuracy: (BINS,) tiles, mean confidence and share right in each bin
            (NaN in an empty one): the reliability diagram.
        ece: expected calibration error, the count-weighted mean of |accuracy - confidence|, less
            what chance alone makes of it: in bins of few tiles accuracy and confidence differ
            though probabilities are right.
        nll: mean negative log-likelihood of the truth, nats.
        brier: mean squared distance of probabilities to the truth, 0 to 2.
    """

    edges: Floats
    count: Ints
    confidence: Floats
    accuracy: Floats
    ece: Estimate
    nll: Estimate
    brier: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "edges": _plain(self.edges),
            "count": [int(n) for n in self.count],
            "confidence": _plain(self.confidence),
            "accuracy": _plain(self.accuracy),
            "ece": self.ece.to_dict(),
            "nll": self.nll.to_dict(),
            "brier": self.brier.to_dict(),
        }


def _plain(values: Floats) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]


def _calibration_terms(truth: Ints, p: Floats, bins: int) -> Floats:
    """A tile's contributions (N, 3 * bins + 2): one-hot bin, confidence, right; then NLL, Brier."""
    n = np.arange(len(p))
    confidence, right = p.max(1), (p.argmax(1) == truth).astype(np.float64)
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    out = np.zeros((len(p), 3 * bins + 2))
    out[n, place] = 1.0
    out[n, bins + place] = confidence
    out[n, 2 * bins + place] = right
    out[:, -2] = -np.log(np.maximum(p[n, truth], _EPS))
    out[:, -1] = (p**2).sum(1) - 2 * p[n, truth] + 1.0
    return out


def _calibration_figures(sums: Floats, bins: int, noise: Floats) -> Floats:
    """ECE, NLL and Brier of sums (..., 3 * bins + 2), shape (..., 3).

    Args:
        noise: (bins,) variance of the sum of (right - confidence) in each bin.
    """
    count, conf, right = (sums[..., i * bins : (i + 1) * bins] for i in range(3))
    total = count.sum(-1)
    gap = np.sqrt(np.maximum(np.square(right - conf) - noise, 0.0))
    ece = divide(gap.sum(-1), total)
    return np.stack([ece, divide(sums[..., -2], total), divide(sums[..., -1], total)], axis=-1)


def _noise(sums: Floats, bins: int) -> Floats:
    """Variance of the sum of (right - confidence) in each bin by chance, (bins,).

    That of tiles as independent draws, or between blocks, whichever is larger.
    """
    whole = sums.sum(0)
    count, conf = whole[:bins], whole[bins : 2 * bins]
    mean = np.nan_to_num(divide(conf, count))
    alone: Floats = count * mean * (1 - mean)
    blocks = len(sums)
    if blocks < 2:
        return alone
    off = sums[:, 2 * bins : 3 * bins] - sums[:, bins : 2 * bins]
    share = np.nan_to_num(divide(off.sum(0), count))  # systematic error of a tile
    between = np.square(off - share * sums[:, :bins]).sum(0) * blocks / (blocks - 1)
    larger: Floats = np.maximum(alone, between)
    return larger


def calibration(
    truth: ArrayLike,
    probabilities: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    bins: int = BINS,
    draws: int = DRAWS,
    level: float = 0.95,
    seed: int = 0,
) -> Calibration:
    """Reliability bins, ECE, NLL and Brier score of (N, K) probabilities; truth -1 is left out.

    ECE after Guo et al. 2017 (https://arxiv.org/abs/1706.04599), equal-width bins, each bin's
    squared gap less its variance by chance (as Kumar et al. 2019 debias its square,
    https://arxiv.org/abs/1909.10155); Brier after Brier 1950, summed over classes.
    """
    t, p, g = _aligned(truth, probabilities, groups, seed)
    sums = block_sums(_calibration_terms(t, p, bins), g)
    whole = sums.sum(0)
    drawn, noise = None, _noise(sums, bins)
    if len(sums) > 1 and draws:
        # a resample has twice the noise: that of the tiles and that of the drawing
        resamples = bootstrap_sums(sums, draws=draws, seed=seed)
        drawn = _calibration_figures(resamples, bins, 2 * noise)
    ece, nll, brier = (
        Estimate(e.value, min(e.low, e.value), max(e.high, e.value))
        for e in estimates(_calibration_figures(whole, bins, noise), drawn, level)
    )
    count = whole[:bins]
    return Calibration(
        np.linspace(0, 1, bins + 1),
        np.rint(count).astype(np.int64),
        divide(whole[bins : 2 * bins], count),
        divide(whole[2 * bins : 3 * bins], count),
        ece,
        nll,
        brier,
    )


def _aligned(
    truth: ArrayLike, probabilities: ArrayLike, groups: ArrayLike | None, seed: int
) -> tuple[Ints, Floats, NDArray[Any]]:
    """Truth, probabilities and groups of the labelled tiles."""
    p = np.asarray(probabilities, np.float64)
    if p.ndim != 2:
        raise InputError("probabilities must be a table of tiles by classes")
    if not np.isfinite(p).all() or (p.size and (p.min() < -1e-6 or p.max() > 1 + 1e-3)):
        raise InputError("probabilities must lie between 0 and 1; some do not or are not numbers")
    t = class_ids(truth, p.shape[1], "truth")
    if len(t) != len(p):
        raise InputError(f"{len(t)} truths for {len(p)} tiles; give one a tile, -1 where unknown")
    return t[t >= 0], p[t >= 0], groups_or_random(t, groups, seed)[t >= 0]
