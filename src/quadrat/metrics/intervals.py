"""Intervals that hold for shares near 0 and 1 and for few blocks.

A share of tiles gets the interval of Clopper and Pearson (1934) for as many independent tiles as
the blocks are worth (Korn and Graubard 1998): tiles of a block are alike, so that 600 tiles in 15
blocks may say no more than 60 tiles drawn one by one. A percentile bootstrap of a share of 0.99
covers 64% instead of 95% at 100 tiles. Other figures get the bootstrap's BCa interval (Efron 1987).
"""

from __future__ import annotations

import numpy as np
from scipy import special

from quadrat.metrics.bootstrap import Estimate
from quadrat.metrics.matrix import Floats, divide

# Where all tiles are right, or all wrong, blocks do not tell how alike their tiles err: then as
# alike as errors on maps often are.
ALIKE = 0.1


def ratios(
    tops: Floats, bottoms: Floats, level: float, *, independent: bool = False
) -> tuple[Estimate, ...]:
    """Shares sum(top) / sum(bottom) over blocks, with intervals.

    Args:
        tops, bottoms: (B, V) sums of each block: tiles that count, of all. A top is at most its
            bottom.
        independent: whether tiles were drawn one by one, so that blocks mean nothing.
    """
    total, blocks = bottoms.sum(axis=0), (bottoms > 0).sum(axis=0)
    share = divide(tops.sum(axis=0), total)
    if len(bottoms) < 2:
        return tuple(Estimate(float(p), np.nan, np.nan) for p in share)
    worth = total.astype(np.float64) if independent else effective(tops, bottoms, level)
    low, high = exact(share, worth, level)
    few = blocks < 2
    low, high = np.where(few, np.nan, low), np.where(few, np.nan, high)
    return tuple(
        Estimate(float(p), float(a), float(b)) for p, a, b in zip(share, low, high, strict=True)
    )


def effective(tops: Floats, bottoms: Floats, level: float) -> Floats:
    """How many independent tiles the tiles of blocks are worth, (V,), for shares as in `ratios`."""
    total, blocks = bottoms.sum(axis=0), (bottoms > 0).sum(axis=0)
    share = divide(tops.sum(axis=0), total)
    spread = np.square(tops - np.nan_to_num(share) * bottoms).sum(axis=0)
    variance = divide(spread * divide(blocks, blocks - 1), np.square(total))
    alone = divide(share * (1 - share), total)
    guessed = 1 + (total / np.maximum(blocks, 1) - 1) * ALIKE
    effect = np.where(alone > 0, divide(variance, alone), guessed)
    effect = np.maximum(np.nan_to_num(effect, nan=1.0), 1.0)
    q = (1 + level) / 2
    few = (special.ndtri(q) / special.stdtrit(np.maximum(blocks - 1, 1), q)) ** 2
    worth: Floats = total * few / effect
    return worth


def exact(share: Floats, n: Floats, level: float) -> tuple[Floats, Floats]:
    """The interval of Clopper and Pearson for shares (V,) of n (V,) tiles, not always whole."""
    tail = (1 - level) / 2
    p, n = np.nan_to_num(share), np.maximum(n, 1e-9)
    hits, misses = p * n, (1 - p) * n
    low = np.where(hits > 0, special.betaincinv(np.maximum(hits, 1e-12), misses + 1, tail), 0.0)
    high = np.where(
        misses > 0, special.betaincinv(hits + 1, np.maximum(misses, 1e-12), 1 - tail), 1.0
    )
    lost = np.isnan(share)
    return np.where(lost, np.nan, np.minimum(low, p)), np.where(lost, np.nan, np.maximum(high, p))


def means(sums: Floats, counts: Floats, level: float) -> tuple[Estimate, ...]:
    """Means of tiles' values, with intervals between blocks.

    Args:
        sums: (B, V) of the values in each block. counts: (B,) tiles of each block.
    """
    mean = sums.sum(axis=0) / max(counts.sum(), 1)
    blocks = len(sums)
    if blocks < 2:
        return tuple(Estimate(float(m), np.nan, np.nan) for m in mean)
    spread = np.square(sums - mean * counts[:, None]).sum(axis=0) * blocks / (blocks - 1)
    half = special.stdtrit(blocks - 1, (1 + level) / 2) * np.sqrt(spread) / counts.sum()
    return tuple(
        Estimate(float(m), float(m - h), float(m + h)) for m, h in zip(mean, half, strict=True)
    )


def corrected(value: float, draws: Floats, without: Floats, level: float) -> Estimate:
    """A figure with the bias-corrected and accelerated (BCa) interval of its bootstrap.

    Args:
        draws: (D,) the figure of each resample. without: (B,) the figure without each block.
    """
    draws, without = draws[np.isfinite(draws)], without[np.isfinite(without)]
    if not np.isfinite(value) or not len(draws) or np.ptp(draws) == 0:
        end = value if len(draws) and np.isfinite(value) else np.nan
        return Estimate(float(value), float(end), float(end))
    below = (draws < value).mean() + (draws == value).mean() / 2
    bias = special.ndtri(np.clip(below, 1 / (2 * len(draws)), 1 - 1 / (2 * len(draws))))
    pull = without.mean() - without
    spread = np.square(pull).sum() ** 1.5
    skew = np.power(pull, 3).sum() / (6 * spread) if spread > 0 else 0.0
    tails = special.ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    shifted = bias + (bias + tails) / (1 - skew * (bias + tails))
    low, high = np.quantile(draws, special.ndtr(shifted))
    return Estimate(float(value), float(min(low, value)), float(max(high, value)))
