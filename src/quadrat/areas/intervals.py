"""Intervals of an estimated share: Wald intervals, and exact ones for small samples.

A Wald interval (estimate ± 1.96 standard errors) has no width when the sample holds none of a
class, though the ground may hold some, and is too short with a few. Where a share rests on fewer
than `FEW` sampled tiles, Clopper and Pearson's interval (1934) takes its place, with the effective
sample size: Korn & Graubard 1998, Survey Methodology 24:193-201. A sample without any tile of the
class has no effective size, so the upper end assumes one more tile, where a tile stands for most
ground: Fay & Feuer 1997, Statistics in Medicine 16:791-801. A net change takes Newcombe's interval
of the difference between gain and loss (1998). Estimates and standard errors are those of
`estimate`. It does not know classes or areas.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quadrat.areas import estimate
from quadrat.areas.estimate import Sample
from quadrat.metrics import Estimate

Floats = NDArray[np.float64]

FEW = 20  # sampled tiles of a class, or of all others: with fewer there is no Wald interval
WALD, EXACT = "Wald", "Clopper-Pearson"
STUDENT = "Student's t"


def interval(sample: Sample, values: Floats, level: float) -> tuple[Estimate, float, str]:
    """The population mean of `values`, its standard error, and which interval it has.

    Args:
        values: (n,) what each reference tile adds: 0 to 1, or below 0 where it is a loss in a net
            sum.
    """
    z = estimate.spread(sample, level)
    value, se = _mean(sample, values)
    gain, loss = np.maximum(values, 0.0), np.maximum(-values, 0.0)
    net = bool(loss.any())
    if not few(sample, gain) and not (net and few(sample, loss)):
        ends = np.clip([value - z * se, value + z * se], -1.0 if net else 0.0, 1.0)
        return Estimate(value, float(ends[0]), float(ends[1])), se, WALD
    got = exact(sample, gain, level)
    if net:
        got = newcombe(got, exact(sample, loss, level))
    return Estimate(value, got.low, got.high), se, EXACT


def student(level: float, freedom: NDArray[np.float64]) -> Floats:
    """Standard errors on either side of an interval of Student's distribution."""
    from scipy.special import stdtrit

    estimate.quantile(level)  # raises for a level that is not between 0 and 1
    quantile: Floats = stdtrit(freedom, (1 + level) / 2)
    return quantile


def of_share(value: Floats, se: Floats, freedom: Floats, n: Floats, level: float) -> Floats:
    """Clopper and Pearson's interval of shares (V,) by their effective sample size, (V, 2).

    Korn and Graubard 1998: as many plots drawn at random as would give this standard error, fewer
    where its degrees of freedom are few; `n` (V,) plots where it is 0.
    """
    from scipy.special import betaincinv

    p = np.nan_to_num(value)
    size = np.divide(p * (1 - p), se**2, out=np.array(n, np.float64), where=se > 0)
    size = np.minimum(size, np.maximum(n, 1))
    size = size * (estimate.quantile(level) / student(level, freedom)) ** 2
    hits, misses, tail = p * size, (1 - p) * size, (1 - level) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(hits > 0, betaincinv(np.maximum(hits, 1e-12), misses + 1, tail), 0.0)
        high = np.where(misses > 0, betaincinv(hits + 1, np.maximum(misses, 1e-12), 1 - tail), 1.0)
    ends = np.stack([np.minimum(low, p), np.maximum(high, p)], axis=-1)
    return np.where(np.isnan(value)[..., None], np.nan, ends)


def _mean(sample: Sample, values: Floats) -> tuple[float, float]:
    """The mean of `values` (n,) and its standard error."""
    column = values[:, None]
    pair = estimate.mean(sample, column), estimate.standard_error(sample, column)
    return float(pair[0][0]), float(pair[1][0])


def few(sample: Sample, values: Floats) -> bool:
    """Whether the sample is too small for a Wald interval.

    It is when fewer than FEW tiles are of the class, or of all others, strata that are sampled
    whole left out. It is when (share / standard error)^2 is below FEW: with equal weights that is
    about the number of tiles found. And it is when the standard error is below that of a single
    tile where a tile stands for most ground, since such a tile may have been missed.
    """
    opened = _open(sample)
    inside = values[opened[sample.stratum]]
    if not len(inside):
        return False
    tiles = int((inside > 0).sum())
    if min(tiles, len(inside) - tiles) < FEW:
        return True
    value, se = _mean(sample, values)
    single = _design_effect(sample) * _unseen(sample)[opened].max() / sample.sizes.sum()
    return bool(min(value, 1 - value) ** 2 < FEW * se**2 or se < single)


def _unseen(sample: Sample) -> Floats:
    """Area per stratum that a sample misses with probability exp(-m), divided by m; (H,)."""
    counts, sizes = np.maximum(sample.counts, 1), np.maximum(sample.sizes, 1e-300)
    kept = np.minimum(counts / sizes, 1 - 1e-12)
    if not sample.counted or sample.clusters is not None:
        return np.asarray(sizes / counts)
    return np.asarray(-1 / np.log1p(-kept))


def _open(sample: Sample) -> NDArray[np.bool_]:
    """Strata that are not sampled whole, (H,)."""
    whole = sample.counted & (sample.counts >= sample.sizes) & (sample.clusters is None)
    opened: NDArray[np.bool_] = (sample.sizes > 0) & ~whole
    return opened


def exact(sample: Sample, values: Floats, level: float) -> Estimate:
    """Clopper and Pearson's interval of the mean of `values` (n,), from 0 to 1.

    It is exactly theirs for strata of equal weights and an infinite population.
    """
    opened, total = _open(sample), float(sample.sizes.sum())
    held = np.bincount(sample.stratum, weights=values, minlength=len(sample.sizes))
    known, ground = float(held[~opened].sum()), float(sample.sizes[opened].sum())
    counts, sizes, held = sample.counts[opened].astype(float), sample.sizes[opened], held[opened]
    weights = sizes / np.maximum(counts, 1)  # tiles of the map for each sampled tile
    kept = counts / sizes if sample.counted and sample.clusters is None else np.zeros(len(sizes))
    effect = _design_effect(sample)
    share = float(weights @ held)
    flip = share > ground / 2  # the interval of 1 - share is computed, and mirrored at the end
    if flip:
        held, share = counts - held, ground - share
    variance = effect * float((weights**2 * (1 - kept)) @ held)
    more = effect * float(_unseen(sample)[opened].max(initial=0.0))
    low = _end(share, variance, ground, (1 - level) / 2) if share else 0.0
    high = _end(share + more, variance + more**2, ground, (1 + level) / 2)
    low, high, share = (ground - high, ground - low, ground - share) if flip else (low, high, share)
    value, ends = (known + share) / total, [(known + low) / total, (known + high) / total]
    if sample.counted:  # the sampled tiles themselves are known
        bounds = values.sum() / total, 1 - (1 - values).sum() / total
        ends = [max(ends[0], bounds[0]), min(ends[1], bounds[1])]
    return Estimate(value, float(min(ends[0], value)), float(max(ends[1], value)))


def _end(share: float, variance: float, ground: float, quantile: float) -> float:
    """An end of the interval: a quantile of the beta distribution, in the unit of `ground`.

    Args:
        share: ground found. variance: of the ground found, as of a Poisson process.
    """
    from scipy.special import betaincinv

    if share >= ground or not variance:
        return min(share, ground)
    tiles = share**2 / variance
    return float(ground * betaincinv(tiles, ground * share / variance - tiles + 1, quantile))


def _design_effect(sample: Sample) -> float:
    """The design effect: variance between blocks over that of single tiles, at least 1."""
    if sample.clusters is None:
        return 1.0
    single = Sample(sample.stratum, sample.values, sample.sizes)
    between = float((estimate.standard_error(sample, sample.values) ** 2).sum())
    alone = float((estimate.standard_error(single, sample.values) ** 2).sum())
    return max(1.0, between / alone) if alone > 0 else 1.0


def newcombe(gain: Estimate, loss: Estimate) -> Estimate:
    """The difference of two independent shares (Newcombe 1998, method 10)."""
    value = gain.value - loss.value
    down = np.hypot(gain.value - gain.low, loss.high - loss.value)
    up = np.hypot(gain.high - gain.value, loss.value - loss.low)
    return Estimate(value, float(value - down), float(value + up))
