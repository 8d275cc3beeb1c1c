"""The stratified estimator of area and accuracy, with standard errors. Pure numpy.

The map's classes are strata of known size, because every tile is mapped. A sample of tiles with
reference labels says what lies in each stratum. After Olofsson et al. 2014, "Good practices for
estimating area and assessing accuracy of land change", Remote Sensing of Environment 148, 42-57
(https://doi.org/10.1016/j.rse.2014.02.015), equations 1 to 11. Three things are added, each of
which changes nothing where it does not apply: the finite-population correction, since the reference
tiles are some of the mapped ones; reference values that are shares of a tile instead of one class;
and the variance between clusters, for reference tiles that lie in blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quadrat.errors import InputError
from quadrat.metrics import Estimate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Sample:
    """Reference tiles in strata of known size.

    Attributes:
        stratum: (n,) int64, the stratum (map class) of each reference tile.
        values: (n, J) float64, the reference: share of each class in the tile, 0 or 1 where a tile
            is one class.
        sizes: (H,) float64, the mapped population of each stratum, in any unit of area.
        counted: whether sizes are tiles of which the reference tiles are a part, which is what
            the finite-population correction needs.
        clusters: (n,) ids of the blocks that were sampled as wholes, or None.
    """

    stratum: Ints
    values: Floats
    sizes: Floats
    counted: bool = False
    clusters: Ints | None = None

    @property
    def counts(self) -> Ints:
        """Reference tiles in each stratum, (H,)."""
        return np.bincount(self.stratum, minlength=len(self.sizes)).astype(np.int64)

    @property
    def weights(self) -> Floats:
        """Each stratum's share of the population, (H,)."""
        shares: Floats = self.sizes / self.sizes.sum()
        return shares


def stratum_means(sample: Sample, values: Floats) -> Floats:
    """Mean of `values` (n, V) in each stratum, (H, V); 0 in a stratum without references."""
    counts = np.maximum(sample.counts, 1)[:, None]
    return _sums(sample.stratum, values, len(sample.sizes)) / counts


def _sums(place: Ints, values: Floats, size: int) -> Floats:
    out = np.zeros((size, values.shape[1]))
    np.add.at(out, place, values)
    return out


def mean(sample: Sample, values: Floats) -> Floats:
    """The population mean of `values` (n, V), shape (V,): strata by their weights (eq. 9)."""
    result: Floats = sample.weights @ stratum_means(sample, values)
    return result


def standard_error(sample: Sample, values: Floats) -> Floats:
    """Standard error of `mean(sample, values)`, shape (V,) (eq. 10).

    With clusters: the variance between the clusters' weighted residuals, which holds when tiles
    of a cluster err alike.
    """
    residual = values - stratum_means(sample, values)[sample.stratum]
    counts, weights = sample.counts, sample.weights
    if sample.clusters is not None:
        ids, place = np.unique(sample.clusters, return_inverse=True)
        each = (weights / np.maximum(counts, 1))[sample.stratum][:, None] * residual
        between = _sums(place.astype(np.int64), each, len(ids))
        g = len(ids)
        variance = g / max(g - 1, 1) * (between**2).sum(0)
    else:
        spread = (
            _sums(sample.stratum, residual**2, len(counts)) / np.maximum(counts - 1, 1)[:, None]
        )
        left = (
            1.0 - counts / np.maximum(sample.sizes, 1) if sample.counted else np.ones(len(counts))
        )
        per = weights**2 * np.clip(left, 0.0, 1.0) / np.maximum(counts, 1)
        variance = per @ spread
    root: Floats = np.sqrt(variance)
    return root


def ratio(sample: Sample, top: Floats, bottom: Floats) -> tuple[Floats, Floats]:
    """A ratio of two means and its standard error, each (V,), by linearisation (eq. 3, 7).

    NaN where the bottom is 0.
    """
    a, b = mean(sample, top), mean(sample, bottom)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(b > 0, a / b, np.nan)
        se = standard_error(sample, top - np.nan_to_num(value) * bottom) / b
    return value, np.where(b > 0, se, np.nan)


def quantile(level: float) -> float:
    """Standard errors on either side of an interval of the normal distribution."""
    if not 0 < level < 1:
        raise InputError(f"a level of {level} is no share; use a number between 0 and 1, as 0.95")
    return NormalDist().inv_cdf((1 + level) / 2)


def spread(sample: Sample, level: float) -> float:
    """Standard errors on either side of an interval of this sample.

    Of the normal distribution; of Student's with one degree of freedom fewer than blocks, where
    tiles lie in blocks, as few blocks tell the variance badly.
    """
    z = quantile(level)
    if sample.clusters is None:
        return z
    from scipy.special import stdtrit

    blocks = len(np.unique(sample.clusters))
    return float(stdtrit(max(blocks - 1, 1), (1 + level) / 2))


def as_estimates(
    value: Floats, se: Floats, z: float, low: float = -np.inf, high: float = np.inf
) -> tuple[Estimate, ...]:
    """Estimates with intervals of `z` standard errors, ends kept within [low, high]."""
    return tuple(
        Estimate(
            float(v), float(np.clip(v - z * s, low, high)), float(np.clip(v + z * s, low, high))
        )
        for v, s in zip(value, se, strict=True)
    )


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of the whole map, estimated from the sample, strata by their weights."""

    overall: Estimate
    users: tuple[Estimate, ...]
    producers: tuple[Estimate, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "overall": self.overall.to_dict(),
            "users": [f.to_dict() for f in self.users],
            "producers": [f.to_dict() for f in self.producers],
        }


def accuracy(sample: Sample, mapped: Ints, level: float = 0.95) -> Accuracy:
    """Overall, user's and producer's accuracy with intervals (eq. 1 to 3, 5 to 7).

    Args:
        mapped: (n,) the map's class of each reference tile, as a column of `sample.values`. It is
            the stratum itself unless strata were pooled.
    """
    k = sample.values.shape[1]
    shown = np.eye(k)[mapped]
    agree = sample.values * shown
    total = agree.sum(1, keepdims=True)
    users = ratio(sample, agree, shown)
    producers = ratio(sample, agree, sample.values)
    z = spread(sample, level)
    overall = as_estimates(mean(sample, total), standard_error(sample, total), z, 0.0, 1.0)[0]
    return Accuracy(
        overall,
        as_estimates(*users, z, 0.0, 1.0),
        as_estimates(*producers, z, 0.0, 1.0),
    )


def pool_small(counts: ArrayLike, sizes: ArrayLike) -> Ints:
    """Where each stratum goes so that all hold at least two references: (H,) new stratum ids.

    A variance needs two. Strata with fewer become one; where that one is still too small, it
    joins the largest of the others.
    """
    n, size = np.asarray(counts), np.asarray(sizes)
    if n.sum() < 2:
        raise InputError(
            f"{int(n.sum())} tiles with a reference label; an error-adjusted area needs at least 2"
        )
    small = (n < 2) & (size > 0)
    place = np.arange(len(n))
    if small.any():
        target = np.flatnonzero(small)[0]
        if n[small].sum() < 2:
            target = int(np.argmax(np.where(n >= 2, size, -1)))
        place[small] = target
    return place.astype(np.int64)


def sample_of_confusion(matrix: ArrayLike, mapped: ArrayLike) -> Sample:
    """The sample that a confusion matrix counts.

    Args:
        matrix: (K, K) counts, rows = truth, columns = map.
        mapped: (K,) area of each map class, any unit.
    """
    m, sizes = np.asarray(matrix), np.asarray(mapped, np.float64)
    k = len(sizes)
    if m.shape != (k, k) or np.any(m < 0):
        raise InputError(f"the confusion matrix must be {k} x {k} counts of at least 0")
    if not np.isfinite(sizes).all() or np.any(sizes < 0) or sizes.sum() <= 0:
        raise InputError("mapped areas must be numbers of at least 0, not all 0")
    truth, shown = np.divmod(np.repeat(np.arange(k * k), m.ravel().astype(np.int64)), k)
    return Sample(shown.astype(np.int64), np.eye(k)[truth], sizes)
