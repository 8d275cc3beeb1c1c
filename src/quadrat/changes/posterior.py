"""What each tile was on each date, given all dates: two by `pair`, more by `series`.

Change is inferred in the scores' own classes, which say more, and folded into the classes of the
result afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat.changes import order, pair, series
from quadrat.changes.chronology import Chronology
from quadrat.changes.likelihood import FirstDate, Recalibration
from quadrat.changes.pair import PairPosterior
from quadrat.changes.question import Question
from quadrat.changes.series import SeriesPosterior

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Posterior:
    """N tiles on T dates, in the C classes of the scores and the K classes of the result.

    Attributes:
        fine: what was inferred from probabilities; None by cells (`ground`).
        maps: the recalibration of each date; none by cells.
        path: (N, T) int64, the most likely classes of the result.
        own: (N, T, C) P(class on that date), classes of the scores.
        moved: (N, T - 1) P(the class of the result changed in that interval).
        ends: (N, K, K) P(class i on the first date and j on the last).
        wanted: (N,) P(a transition that was asked for).
        best: (N, 3) int64 the likeliest of them: its interval, the class before and after.
        kind, smoothing, learned: how it was inferred, as plain values.
    """

    fine: PairPosterior | SeriesPosterior | None
    maps: tuple[Recalibration, ...]
    path: Ints
    own: Floats
    moved: Floats
    ends: Floats
    wanted: Floats
    best: Ints
    kind: Mapping[str, str]
    smoothing: float
    learned: Mapping[str, Any]


def infer(dates: Chronology, first: FirstDate, question: Question) -> Posterior:
    """The posterior of all dates."""
    return (_pair if len(dates.days) == 2 else _series)(dates, first, question)


def _pair(dates: Chronology, first: FirstDate, question: Question) -> Posterior:
    k, fold = len(question.legend), question.fold
    post = pair.between(dates.days[1], first, question, smoothing=question.smoothing)
    ends = np.einsum("nab,ai,bj->nij", post.pairs, fold, fold, optimize=True)
    shares = [day.shares for day in dates.days]
    if all(s is not None for s in shares):
        one, two = (np.asarray(s, np.float64) @ fold for s in shares)
        before, after = (question.places[day.mapped] for day in dates.days)
        gained = order.gain(one, two, question.asked[before, after], question)
        ends = order.along(ends, question.asked, gained)
    stay = np.trace(ends, axis1=1, axis2=2)
    changes = np.where(question.asked, ends, 0.0)
    likeliest = changes.reshape(len(ends), k * k).argmax(1)
    return Posterior(
        fine=post,
        maps=(post.date_a, post.date_b),
        path=np.stack(np.divmod(ends.reshape(len(ends), -1).argmax(1), k), axis=1),
        own=np.stack([post.pairs.sum(axis, dtype=np.float64) for axis in (2, 1)], axis=1),
        moved=np.clip(1 - stay, 0, 1)[:, None],
        ends=ends,
        wanted=changes.sum((1, 2), dtype=np.float64).clip(0.0, 1.0),
        best=np.stack([np.zeros_like(likeliest), *np.divmod(likeliest, k)], axis=1),
        kind={"kind": "pair posterior"},
        smoothing=post.mix,
        learned={"log_likelihood": post.log_likelihood, "prior": post.prior.tolist()},
    )


def _series(dates: Chronology, first: FirstDate, question: Question) -> Posterior:
    places, fold, days = question.places, question.fold, dates.days
    maps, like = [first.map], [first.like]
    for day in days[1:]:
        post = pair.between(day, first, question, smoothing=0.0)
        maps.append(post.date_b)
        like.append(post.date_b.likelihood(day.probabilities))
    found = series.infer(like, first.shares, groups=places)
    if question.kind == "labels":
        own = found.marginal.astype(np.float64)
        like = [
            series.from_labels(d.mapped, series.confusion(d.mapped, own[:, t]))
            for t, d in enumerate(days)
        ]
        found = series.infer(like, first.shares, groups=places)
    ends = series.ends(like, found)
    source, target = (
        np.flatnonzero(np.isin(places, ids)) for ids in (question.source, question.target)
    )
    wanted, best = series.wanted(like, found, source, target, places)
    best[:, 1:] = places[best[:, 1:]]
    return Posterior(
        fine=found,
        maps=tuple(maps),
        path=places[found.path],
        own=found.marginal.astype(np.float64),
        moved=found.moved.astype(np.float64),
        ends=np.einsum("nab,ai,bj->nij", ends, fold, fold, optimize=True),
        wanted=wanted.max(1),
        best=best,
        kind={"kind": "hidden Markov model", "evidence": question.kind},
        smoothing=0.0,
        learned={"transitions": found.transitions.tolist()},
    )
