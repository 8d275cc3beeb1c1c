"""How sure totals of posterior probabilities are: expected tiles, with intervals.

Four things make a total uncertain: what the tiles really are, given their posteriors (more than
independent tiles would vary, because neighbours err alike: the reference tiles say by how much);
the prior and the recalibration, which were learned from the same tiles (refitted on resampled
blocks); and, for a class's area on one date, how well the reference tiles can tell that posteriors
are right on average (a net change has the same error on both dates and loses it); and the share of
confident mistakes, which reference plots of one class cannot show: what the total would be without
any is the measure of it. Without reference tiles nothing of it is known, and there is no interval.
Pure numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from quadrat import metrics
from quadrat.changes import posterior, recalibrate
from quadrat.changes.posterior import Posterior
from quadrat.metrics import Estimate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

REFITS = 20


@dataclass(frozen=True)
class Checked:
    """What the reference tiles say of the first date's posteriors.

    Attributes:
        inflation: variance of block sums of residuals over that of independent tiles; at least 1.
        mean_error: (K,) standard error of the mean residual of each class.
        tiles: reference tiles.
    """

    inflation: float
    mean_error: Floats
    tiles: int


def check(first: Floats, truth: Ints, blocks: Ints) -> Checked:
    """Compare posteriors with reference labels.

    Args:
        first: (n, K) posterior classes of the reference tiles on the first date.
        truth: (n,) their class ids.
        blocks: (n,) block ids.
    """
    k = first.shape[1]
    residual = np.eye(k)[truth] - first
    sums = metrics.block_sums(residual, blocks)
    variance = (first * (1 - first)).sum(0)
    spread = ((sums - sums.mean(0)) ** 2).sum(0)
    inflation = float(spread.sum() / max(variance.sum(), 1e-9))
    g = len(sums)
    mean_error = np.sqrt(g / max(g - 1, 1) * spread) / len(truth)
    return Checked(max(1.0, min(inflation, 50.0)), mean_error, len(truth))


def totals(
    post: Posterior,
    p_a: Floats,
    p_b: Floats,
    contrasts: Floats,
    checked: Checked | None,
    blocks: Ints,
    *,
    common: Floats | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Estimate, ...]:
    """Expected totals over all tiles, in tiles, with intervals where reference tiles were checked.

    Args:
        contrasts: (V, K, K) weights of each transition in each total.
        blocks: (N,) block ids, which refits draw from.
        common: (V,) standard error, in tiles, that all tiles of a total have in common.
    """
    pairs = post.pairs.astype(np.float64)
    each = np.einsum("nij,vij->nv", pairs, contrasts)
    value = each.sum(0)
    if checked is None:
        return tuple(Estimate(float(v), np.nan, np.nan) for v in value)
    square = np.einsum("nij,vij->nv", pairs, contrasts**2)
    inner = checked.inflation * (square - each**2).sum(0)
    refit = refits(post, p_a, p_b, contrasts, blocks, seed=seed)
    bare = expected(
        post.prior, post.date_a.without_lapse().likelihood(p_a),
        post.date_b.without_lapse().likelihood(p_b), contrasts,
    )  # fmt: skip
    both = np.hypot(np.zeros(len(value)) if common is None else common, value - bare)
    return _figures(value, inner + refit.var(0, ddof=1), both, level)


def expected(
    prior: Floats, like_a: Floats, like_b: Floats, contrasts: Floats, steps: int = 100
) -> Floats:
    """Expected totals (V,) with the prior refitted to these likelihoods; no neighbourhood."""
    found = posterior.fit_prior(like_a, like_b, prior, steps=steps)
    evidence = np.maximum(((like_a @ found) * like_b).sum(1), 1e-300)
    joint = found * (like_a.T @ (like_b / evidence[:, None]))
    totals_of: Floats = np.einsum("ij,vij->v", joint, contrasts)
    return totals_of


def _figures(
    value: Floats, variance: Floats, common: Floats | None, level: float
) -> tuple[Estimate, ...]:
    z = NormalDist().inv_cdf((1 + level) / 2)
    half = z * np.sqrt(variance + (0.0 if common is None else common**2))
    return tuple(
        Estimate(float(v), float(v - h), float(v + h)) for v, h in zip(value, half, strict=True)
    )


def plain(
    value: Floats,
    variance: Floats,
    checked: Checked | None,
    level: float,
    common: Floats | None = None,
) -> tuple[Estimate, ...]:
    """Estimates of totals (V,) whose tiles vary by `variance` (V,) were they independent."""
    if checked is None:
        return tuple(Estimate(float(v), np.nan, np.nan) for v in value)
    return _figures(value, checked.inflation * np.maximum(variance, 0.0), common, level)


def refits(
    post: Posterior, p_a: Floats, p_b: Floats, contrasts: Floats, blocks: Ints, *, seed: int = 0
) -> Floats:
    """Totals with prior and recalibration refitted on resampled blocks, (REFITS, V)."""
    rng = np.random.default_rng(seed)
    like_a = post.date_a.likelihood(p_a)
    like_b = post.date_b.likelihood(p_b)
    target = posterior.target_b(post.prior, like_a, like_b)
    ids, place = np.unique(blocks, return_inverse=True)
    out = np.empty((REFITS, len(contrasts)))
    for r in range(REFITS):
        weight = rng.multinomial(len(ids), np.full(len(ids), 1 / len(ids)))[place]
        cal = recalibrate.fit(
            p_b,
            target * weight[:, None],
            start=post.date_b,
            steps=3,
            lapse=post.date_b.lapse,
            seed=int(rng.integers(1 << 30)),
        )
        new_b = cal.likelihood(p_b)
        at = np.repeat(np.arange(len(weight)), weight)
        prior = posterior.fit_prior(like_a[at], new_b[at], post.prior, steps=15)
        evidence = np.maximum(((like_a @ prior) * new_b).sum(1), 1e-300)
        joint = prior * (like_a.T @ (new_b / evidence[:, None]))
        out[r] = np.einsum("ij,vij->v", joint, contrasts)
    return out
