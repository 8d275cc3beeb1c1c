"""How many tiles changed and of what class they were: expected totals with intervals.

An interval counts four uncertainties:

1. the classes of the tiles, given their posteriors: more than for independent tiles, because
   neighbours err alike; the reference tiles say by how much (`ReferenceCheck.inflation`);
2. prior and recalibration, which were learned from the same tiles: they are fitted again to
   resampled blocks (two dates only);
3. for a class's area on one date, how well the reference tiles can tell that posteriors are right
   on average; a net change has the same error on both dates, where it cancels;
4. the share of confident mistakes, which reference tiles of one class cannot show: by how much the
   total differs from the one without outliers.

Without reference tiles none of it is known, and there is no interval.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from quadrat import metrics
from quadrat.areas import reference
from quadrat.changes import likelihood, pair, series
from quadrat.changes.chronology import Chronology
from quadrat.changes.likelihood import FirstDate
from quadrat.changes.pair import PairPosterior
from quadrat.changes.posterior import Posterior
from quadrat.changes.question import Question
from quadrat.changes.series import SeriesPosterior
from quadrat.metrics import Estimate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

REFITS = 20
BARE = 1e-4  # outlier rate at which outliers are ignored


@dataclass(frozen=True)
class Totals:
    """Expected tiles, with intervals where reference tiles were checked.

    Attributes:
        cells: of each transition from the first date to the last, K x K row by row.
        areas: of each class on each date.
        net: gain less loss of each class.
        changed: that changed in each interval.
        inflation: see `ReferenceCheck`; None without reference tiles.
    """

    cells: tuple[Estimate, ...]
    areas: tuple[tuple[Estimate, ...], ...]
    net: tuple[Estimate, ...]
    changed: tuple[Estimate, ...]
    inflation: float | None


@dataclass(frozen=True)
class ReferenceCheck:
    """How the first date's posteriors compare with its reference tiles.

    Attributes:
        inflation: variance of block sums of residuals over that of independent tiles; at least 1.
        mean_error: (K,) standard error of the mean residual of each class.
    """

    inflation: float
    mean_error: Floats


def check(first: Floats, truth: Ints, blocks: Ints) -> ReferenceCheck:
    """Compare posteriors with reference labels.

    Args:
        first: (n, K) posterior classes of the reference tiles on the first date.
        truth: (n,) their class ids.
        blocks: (n,) block ids.
    """
    residual = np.eye(first.shape[1])[truth] - first
    sums = metrics.block_sums(residual, blocks)
    variance = (first * (1 - first)).sum(0)
    spread = ((sums - sums.mean(0)) ** 2).sum(0)
    inflation = float(spread.sum() / max(variance.sum(), 1e-9))
    g = len(sums)
    mean_error = np.sqrt(g / max(g - 1, 1) * spread) / len(truth)
    return ReferenceCheck(max(1.0, min(inflation, 50.0)), mean_error)


def _at_least_zero(cells: tuple[Estimate, ...]) -> tuple[Estimate, ...]:
    return tuple(Estimate(c.value, max(c.low, 0.0), c.high) for c in cells)


def totals(
    chronology: Chronology, first: FirstDate, found: Posterior, question: Question
) -> Totals:
    """The totals of a posterior."""
    day, at = chronology.days[0], first.places
    blocks = metrics.block_ids(day.rows, day.cols, reference.BLOCK)
    checked = None
    if len(at):
        classes = found.own[:, 0] @ question.fold
        checked = check(classes[at], question.places[first.truth], blocks[at])
    if isinstance(found.fine, SeriesPosterior):
        of_cells, of_net, of_changed = _of_outliers(chronology, first, found, found.fine, question)
        return _of_series(found, question, checked, cells=of_cells, net=of_net, changed=of_changed)
    if found.fine is None:
        raise TypeError("changes by cells are summed by `ground`")
    k, fold = len(question.legend), question.fold
    common = None
    if checked is not None:
        error = len(day) * checked.mean_error
        common = np.concatenate([np.zeros(k * k), error, error, np.zeros(k + 1)])
    p_a, p_b = (d.probabilities.astype(np.float64) for d in chronology.days)
    contrasts = np.einsum("vij,ai,bj->vab", _contrasts(k), fold, fold)
    made = of_pair(
        found.fine, p_a, p_b, contrasts, checked, blocks=blocks, common=common,
        level=question.level, seed=question.seed,
    )  # fmt: skip
    cells, rest = made[: k * k], made[k * k :]
    return Totals(
        cells=_at_least_zero(cells), areas=(rest[:k], rest[k : 2 * k]), net=rest[2 * k : 3 * k],
        changed=rest[3 * k :], inflation=None if checked is None else checked.inflation,
    )  # fmt: skip


def _contrasts(k: int) -> Floats:
    """Weights of the transitions in: each of them, classes at first and last, net, any change."""
    eye = np.eye(k)
    cells = np.eye(k * k).reshape(k * k, k, k)
    first = np.repeat(eye[:, :, None], k, axis=2)
    last = np.repeat(eye[:, None, :], k, axis=1)
    return np.concatenate([cells, first, last, last - first, (1 - eye)[None]])


def of_pair(
    post: PairPosterior,
    p_a: Floats,
    p_b: Floats,
    contrasts: Floats,
    checked: ReferenceCheck | None,
    *,
    blocks: Ints,
    common: Floats | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Estimate, ...]:
    """Expected totals of transitions between two dates, in tiles.

    Args:
        p_a, p_b: (N, C) the dates' probabilities.
        contrasts: (V, C, C) weights of each transition in each total.
        blocks: (N,) block ids, which refits draw from.
        common: (V,) standard error, in tiles, that all tiles of a total have in common.
    """
    pairs = post.pairs.astype(np.float64)
    each = np.einsum("nij,vij->nv", pairs, contrasts)
    value = each.sum(0)
    if checked is None:
        return _estimates(value, None, level)
    square = np.einsum("nij,vij->nv", pairs, contrasts**2)
    inner = checked.inflation * (square - each**2).sum(0)
    refit = _refits(post, p_a, p_b, contrasts, blocks, seed=seed)
    like_a, like_b = (
        replace(date, outlier_rate=min(date.outlier_rate, BARE)).likelihood(p)
        for date, p in ((post.date_a, p_a), (post.date_b, p_b))
    )
    joint = pair.expected_pairs(pair.fit_prior(like_a, like_b, post.prior), like_a, like_b)
    bare = np.einsum("ij,vij->v", joint, contrasts)
    both = np.hypot(np.zeros(len(value)) if common is None else common, value - bare)
    return _estimates(value, inner + refit.var(0, ddof=1) + both**2, level)


def _refits(
    post: PairPosterior, p_a: Floats, p_b: Floats, contrasts: Floats, blocks: Ints, *, seed: int
) -> Floats:
    """Totals with prior and recalibration refitted on resampled blocks, (REFITS, V)."""
    rng = np.random.default_rng(seed)
    like_a, like_b = post.date_a.likelihood(p_a), post.date_b.likelihood(p_b)
    target = pair.target_b(post.prior, like_a, like_b)
    ids, place = np.unique(blocks, return_inverse=True)
    out = np.empty((REFITS, len(contrasts)))
    for r in range(REFITS):
        weight = rng.multinomial(len(ids), np.full(len(ids), 1 / len(ids)))[place]
        cal = likelihood.fit(
            p_b, target * weight[:, None], start=post.date_b, steps=3,
            outlier_rate=post.date_b.outlier_rate, seed=int(rng.integers(1 << 30)),
        )  # fmt: skip
        new_b = cal.likelihood(p_b)
        at = np.repeat(np.arange(len(weight)), weight)
        prior = pair.fit_prior(like_a[at], new_b[at], post.prior, steps=15)
        joint = pair.expected_pairs(prior, like_a, new_b)
        out[r] = np.einsum("ij,vij->v", joint, contrasts)
    return out


def _of_series(
    found: Posterior,
    question: Question,
    checked: ReferenceCheck | None,
    *,
    cells: Floats,
    net: Floats,
    changed: Floats,
) -> Totals:
    """Totals of a series.

    Args:
        cells, net, changed: standard errors that all tiles of a total have in common.
    """
    classes, ends = found.own @ question.fold, found.ends
    n, dates, _ = classes.shape
    error = None if checked is None else n * checked.mean_error
    gain, loss = (ends.sum(axis) - np.diagonal(ends, axis1=1, axis2=2) for axis in (1, 2))
    each = classes[:, -1] - classes[:, 0]
    variance = gain + loss - (gain - loss) ** 2
    return Totals(
        cells=_at_least_zero(_sums(ends.reshape(n, -1), checked, question.level, cells)),
        areas=tuple(
            _sums(classes[:, t], checked, question.level, error) for t in range(dates)
        ),
        net=_inflated(each.sum(0), variance.sum(0), checked, question.level, net),
        changed=_sums(found.moved, checked, question.level, changed),
        inflation=None if checked is None else checked.inflation,
    )  # fmt: skip


def _of_outliers(
    chronology: Chronology,
    first: FirstDate,
    found: Posterior,
    fine: SeriesPosterior,
    question: Question,
) -> tuple[Floats, Floats, Floats]:
    """By how many tiles transitions (K * K,), net (K,) and intervals differ without outliers."""
    fold, days = question.fold, chronology.days
    like = [
        replace(m, outlier_rate=min(m.outlier_rate, BARE)).likelihood(d.probabilities)
        for m, d in zip(found.maps, days, strict=True)
    ]
    bare = series.infer(like, first.shares, groups=question.places)
    (start, end), (start0, end0) = (
        [p.marginal[:, t].sum(0, dtype=np.float64) for t in (0, -1)] for p in (fine, bare)
    )
    net = ((end - start) - (end0 - start0)) @ fold
    cells = (fold.T @ (fine.joint.sum(0) - bare.joint.sum(0)) @ fold).ravel()
    changed = (fine.moved - bare.moved).sum(0, dtype=np.float64)
    return np.abs(cells), np.abs(net), np.abs(changed)


def _sums(
    p: Floats, checked: ReferenceCheck | None, level: float, common: Floats | None
) -> tuple[Estimate, ...]:
    """Totals of the columns of probabilities p (N, V)."""
    return _inflated(p.sum(0), (p * (1 - p)).sum(0), checked, level, common)


def _inflated(
    value: Floats,
    variance: Floats,
    checked: ReferenceCheck | None,
    level: float,
    common: Floats | None,
) -> tuple[Estimate, ...]:
    """Totals (V,) whose tiles vary by `variance` (V,) if they are independent."""
    if checked is None:
        return _estimates(value, None, level)
    more = 0.0 if common is None else common**2
    return _estimates(value, checked.inflation * np.maximum(variance, 0.0) + more, level)


def _estimates(value: Floats, variance: Floats | None, level: float) -> tuple[Estimate, ...]:
    """Normal intervals; none without a variance."""
    if variance is None:
        return tuple(Estimate(float(v), np.nan, np.nan) for v in value)
    half = NormalDist().inv_cdf((1 + level) / 2) * np.sqrt(variance)
    return tuple(
        Estimate(float(v), float(v - h), float(v + h)) for v, h in zip(value, half, strict=True)
    )
