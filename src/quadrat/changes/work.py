"""`change` on scores: two dates by the pair posterior, more by the hidden Markov model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat.changes import align, candidates, evidence, posterior, series, spread
from quadrat.changes.candidates import Candidates
from quadrat.changes.evidence import Basis
from quadrat.changes.posterior import Posterior
from quadrat.changes.recalibrate import Recalibration
from quadrat.changes.result import Move
from quadrat.legend import Legend
from quadrat.metrics import Estimate
from quadrat.scores import DateScores

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


FEW = 300  # tiles


@dataclass(frozen=True)
class Options:
    """How to look for change; see `quadrat.changes.change`.

    Attributes:
        legend: of the result; `places` (K,) has its class for each class of the scores. Change is
            inferred in the scores' own classes, which say more, and folded then.
        source, target: class ids of `legend`.
        aligned: whether later dates' scores come from `align`.
        refitted: whether the first date's do, from its labels.
    """

    legend: Legend
    places: Ints
    source: Ints
    target: Ints
    least: float
    limit: int | None
    recalibrated: bool
    aligned: bool
    smoothing: float
    kind: str
    split: str
    level: float
    seed: int
    refitted: bool = False


@dataclass(frozen=True)
class Found:
    """What was inferred, before it is written.

    Attributes:
        cells: expected tiles of each transition, K x K row by row, from class i to j.
        path: (N, T) most likely classes; `moved` (N, T - 1) P(changed in the interval).
        ends: (N, K, K) P(class i on the first date and j on the last).
        when: (M,) for each candidate, the interval of its change.
    """

    path: Ints
    moved: Floats
    ends: Floats
    listed: Candidates
    when: Ints
    cells: tuple[Estimate, ...]
    moves: tuple[Move, ...]
    areas: tuple[tuple[Estimate, ...], ...]
    net: tuple[Estimate, ...]
    changed: tuple[Estimate, ...]
    method: dict[str, Any]
    reference: int
    notes: tuple[str, ...]


def _infer(
    a: DateScores, b: DateScores, base: Basis, options: Options, smoothing: float
) -> Posterior:
    return evidence.infer_pair(
        a, b, base, recalibrated=options.recalibrated, aligned=options.aligned,
        smoothing=smoothing, seed=options.seed,
    )  # fmt: skip


def basis(first: DateScores, options: Options) -> Basis:
    """What the first date's scores mean."""
    return evidence.basis(first, options.split, aligned=options.aligned, refitted=options.refitted)


def aligned(
    days: Sequence[DateScores],
    read: Callable[[int, DateScores], NDArray[np.float32]],
    options: Options,
) -> tuple[list[DateScores], Basis]:
    """The days with probabilities by layers fitted to each date (see `align`), and their basis.

    The first date's are fitted to its labels, with `options.refitted`; else they stay as they are.
    Later dates' are first fitted to the first date's classes, as if nothing had changed; then to
    what both dates say, in which a changed tile has its new class.

    Args:
        read: gives the features (N, D) of a date, by its place.
    """
    first, k = days[0], len(days[0].legend)
    folds = align.folds_of(first.rows, first.cols, options.seed)
    if options.refitted:
        p = align.cross_fitted(read(0, first), first.truth, k, folds, seed=options.seed)
        first = replace(first, probabilities=p.astype(np.float32))
    base, out = basis(first, options), [first]
    before = evidence.classes_of(first, base).argmax(1)
    for n, day in enumerate(days[1:], start=1):
        x, classes = read(n, day), before
        for _ in range(2):
            p = align.cross_fitted(x, classes, k, folds, seed=options.seed)
            day = replace(day, probabilities=p.astype(np.float32))
            post = _infer(first, day, base, options, options.smoothing)
            classes = post.pairs.sum(1).argmax(1)
            if options.refitted and n == 1:
                base = evidence.settled(base, first, day, post)
        out.append(day)
    return out, base


def pair(
    a: DateScores, b: DateScores, base: Basis, options: Options, maps: Sequence[Ints]
) -> Found:
    """Two dates.

    Args:
        base: see `basis` and `aligned`.
        maps: each date's own map, see `mapped`.
    """
    post = _infer(a, b, base, options, options.smoothing)
    blocks, k = evidence.block_ids(a), len(options.legend)
    first, second = (post.pairs.sum(i, dtype=np.float64) for i in (2, 1))
    fold = np.eye(k)[options.places]  # (fine, coarse)
    checked = evidence.check(base, first @ fold, options.places, blocks)
    contrasts = np.einsum("vij,ai,bj->vab", _contrasts(k), fold, fold)
    figures = spread.totals(
        post, _p(a), _p(b), contrasts, checked, blocks, common=_common(k, len(a), checked),
        level=options.level, seed=options.seed,
    )  # fmt: skip
    cells, rest = figures[: k * k], figures[k * k :]
    folded = np.einsum("nab,ai,bj->nij", post.pairs, fold, fold, optimize=True)
    listed = candidates.rank(
        folded, options.source, options.target, least=options.least, most=options.limit
    )
    path = np.stack(np.divmod(folded.reshape(len(a), -1).argmax(1), k), axis=1)
    stay = np.trace(folded, axis1=1, axis2=2)
    method = {
        "kind": "pair posterior",
        "recalibrated": options.recalibrated,
        "aligned": options.aligned,
        "refitted": options.refitted,
        "smoothing": post.mix,
        "log_likelihood": post.log_likelihood,
        "prior": post.prior.tolist(),
        "confusion": [_confusion(d, p) for d, p in ((a, first), (b, second))],
        "dates": [post.date_a.to_dict(), post.date_b.to_dict()],
        "inflation": None if checked is None else checked.inflation,
    }
    return Found(
        path=path,
        moved=np.clip(1 - stay, 0, 1)[:, None],
        ends=folded,
        listed=listed,
        when=np.zeros(len(listed), np.int64),
        cells=tuple(_at_least_zero(c) for c in cells),
        moves=_moves(options, maps, cells),
        areas=(rest[:k], rest[k : 2 * k]),
        net=rest[2 * k : 3 * k],
        changed=rest[3 * k :],
        method=method,
        reference=len(base.places),
        notes=(*base.notes, *_few(a, options)),
    )


def _few(day: DateScores, options: Options) -> tuple[str, ...]:
    if not options.recalibrated or len(day) >= FEW:
        return ()
    return (
        f"{len(day)} tiles are few to recalibrate a date on: what changed on many of them may be "
        "taken for the season.",
    )


def _p(day: DateScores) -> Floats:
    return np.asarray(day.probabilities, np.float64)


def _confusion(day: DateScores, classes: Floats) -> list[list[float]]:
    """The date's expected confusion, rows = class inferred, columns = label, in tiles."""
    table: list[list[float]] = np.round(evidence.mapped_likelihood(day, classes)[1], 3).tolist()
    return table


def _contrasts(k: int) -> Floats:
    """Weights of the transitions in: each of them, classes at first and last, net, any change."""
    eye = np.eye(k)
    cells = np.eye(k * k).reshape(k * k, k, k)
    first = np.repeat(eye[:, :, None], k, axis=2)
    last = np.repeat(eye[:, None, :], k, axis=1)
    return np.concatenate([cells, first, last, last - first, (1 - eye)[None]])


def mapped(day: DateScores, options: Options) -> Ints:
    """The date's own map in the result's legend: probabilities summed, then the likeliest."""
    return day.folded(options.legend).mapped


def _common(k: int, tiles: int, checked: spread.Checked | None) -> Floats | None:
    """What the classes' areas, among `_contrasts`, have in common: an error of the mean."""
    if checked is None:
        return None
    error = tiles * checked.mean_error
    return np.concatenate([np.zeros(k * k), error, error, np.zeros(k + 1)])


def _moves(options: Options, maps: Sequence[Ints], cells: Sequence[Estimate]) -> tuple[Move, ...]:
    names, k = options.legend.names, len(options.legend)
    shown = maps[0] * k + maps[-1]
    compared = np.bincount(shown, minlength=k * k)
    found = [
        Move(names[i], names[j], int(compared[i * k + j]), _at_least_zero(cells[i * k + j]))
        for i in range(k)
        for j in range(k)
        if i != j and (compared[i * k + j] or cells[i * k + j].value >= 0.05)
    ]
    return tuple(sorted(found, key=lambda m: -m.expected.value))


def _at_least_zero(figure: Estimate) -> Estimate:
    return Estimate(figure.value, max(figure.low, 0.0), figure.high)


def many(days: Sequence[DateScores], base: Basis, options: Options, maps: Sequence[Ints]) -> Found:
    """Three dates or more."""
    first, fold = days[0], np.eye(len(options.legend))[options.places]
    like = [base.date_a.likelihood(_p(first))]
    kept = [base.date_a]
    for day in days[1:]:
        post = _infer(first, day, base, options, 0.0)
        like.append(post.date_b.likelihood(_p(day)))
        kept.append(post.date_b)
    shares = posterior.class_shares(like[0], base.date_a.prior)
    found = series.infer(like, shares, groups=options.places)
    if options.kind == "labels":
        marginal = found.marginal.astype(np.float64)
        like = [evidence.mapped_likelihood(d, marginal[:, t])[0] for t, d in enumerate(days)]
        found = series.infer(like, shares, groups=options.places)
    blocks = evidence.block_ids(first)
    marginal = found.marginal.astype(np.float64)
    classes = marginal @ fold
    checked = evidence.check(base, classes[:, 0], options.places, blocks)
    listed, when = _ranked(like, found, options)
    ends = np.einsum("nab,ai,bj->nij", series.ends(like, found), fold, fold, optimize=True)
    error = None if checked is None else len(first) * checked.mean_error
    areas = tuple(_sums(classes[:, t], checked, options.level, error) for t in range(len(days)))
    each = classes[:, -1] - classes[:, 0]
    variance = _net_variance(ends)
    flat = ends.reshape(len(first), -1)
    doubt = _without_lapse(days, kept, shares, found, options)
    cells = _sums(flat, checked, options.level, doubt.cells)
    method = {
        "kind": "hidden Markov model",
        "evidence": options.kind,
        "recalibrated": options.recalibrated,
        "aligned": options.aligned,
        "refitted": options.refitted,
        "smoothing": 0.0,
        "transitions": found.transitions.tolist(),
        "confusion": [_confusion(d, marginal[:, t]) for t, d in enumerate(days)],
        "dates": [c.to_dict() for c in kept],
        "inflation": None if checked is None else checked.inflation,
    }
    return Found(
        path=options.places[found.path],
        moved=found.moved.astype(np.float64),
        ends=ends,
        listed=listed,
        when=when,
        cells=tuple(_at_least_zero(c) for c in cells),
        moves=_moves(options, maps, cells),
        areas=areas,
        net=spread.plain(each.sum(0), variance.sum(0), checked, options.level, doubt.net),
        changed=_sums(found.moved.astype(np.float64), checked, options.level, doubt.changed),
        method=method,
        reference=len(base.places),
        notes=(*base.notes, *_few(first, options)),
    )


@dataclass(frozen=True)
class _Doubt:
    """What totals would lose or gain were there no confident mistakes, in tiles."""

    cells: Floats
    net: Floats
    changed: Floats


def _without_lapse(
    days: Sequence[DateScores],
    kept: Sequence[Recalibration],
    shares: Floats,
    found: series.Sequences,
    options: Options,
) -> _Doubt:
    """See `spread`: the fourth uncertainty, for a series."""
    fold = np.eye(len(options.legend))[options.places]
    like = [c.without_lapse().likelihood(_p(d)) for c, d in zip(kept, days, strict=True)]
    bare = series.infer(like, shares, groups=options.places)
    first, last = (found.marginal[:, t].sum(0, dtype=np.float64) for t in (0, -1))
    first0, last0 = (bare.marginal[:, t].sum(0, dtype=np.float64) for t in (0, -1))
    net = ((last - first) - (last0 - first0)) @ fold
    joints = found.joint.sum(0) - bare.joint.sum(0)
    cells = (fold.T @ joints @ fold).ravel()
    changed = (found.moved - bare.moved).sum(0, dtype=np.float64)
    return _Doubt(np.abs(cells), np.abs(net), np.abs(changed))


def _sums(
    p: Floats, checked: spread.Checked | None, level: float, common: Floats | None = None
) -> tuple[Estimate, ...]:
    return spread.plain(p.sum(0), (p * (1 - p)).sum(0), checked, level, common)


def _net_variance(ends: Floats) -> Floats:
    """Variance of each tile's gain less loss of each class, (N, K)."""
    gain = ends.sum(1) - np.diagonal(ends, axis1=1, axis2=2)
    loss = ends.sum(2) - np.diagonal(ends, axis1=1, axis2=2)
    spread_of: Floats = gain + loss - (gain - loss) ** 2
    return spread_of


def _ranked(
    like: list[Floats], found: series.Sequences, options: Options
) -> tuple[Candidates, Ints]:
    """The list, and the interval of each change."""
    candidates.check(options.source, options.target, options.least)
    source, target = (
        np.flatnonzero(np.isin(options.places, ids)) for ids in (options.source, options.target)
    )
    wanted, best = series.wanted(like, found, source, target, options.places)
    p = wanted.max(1)
    order = np.argsort(-p, kind="stable")
    order = order[p[order] >= max(options.least, 1e-12)][: options.limit]
    moved = 1 - np.prod(1 - found.moved[order].astype(np.float64), axis=1)
    when, before, after = best[order].T
    places = options.places
    return Candidates(order, places[before], places[after], p[order], moved), when
