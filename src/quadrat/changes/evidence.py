"""From scores to likelihoods: what each date's scores mean, checked on reference tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quadrat import choices, metrics
from quadrat.areas import reference
from quadrat.changes import posterior, recalibrate, series, spread
from quadrat.changes.posterior import Posterior
from quadrat.changes.recalibrate import Recalibration
from quadrat.changes.spread import Checked
from quadrat.errors import InputError, LabelError
from quadrat.scores import DateScores

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST_REFERENCE = 60  # tiles: fewer cannot say what the scores mean


@dataclass(frozen=True)
class Basis:
    """What the first date's scores mean, and the tiles that say so.

    Attributes:
        date_a: the first date's recalibration.
        places, truth: reference tiles and their classes on the first date; empty without any.
        notes: what a reader must know.
    """

    date_a: Recalibration
    places: Ints
    truth: Ints
    notes: tuple[str, ...]


def basis(first: DateScores, split: str, *, aligned: bool = False, refitted: bool = False) -> Basis:
    """Calibrate the first date on its reference tiles, where it has some.

    Args:
        aligned: whether later dates' scores come from `align`.
        refitted: whether the first date's do as well: no layer saw the tile that it scored, and
            all labelled tiles are reference tiles.
    """
    if refitted:
        return _refitted(first)
    p = _probabilities(first)
    k, none = len(first.legend), np.empty(0, np.int64)
    choices.check("split", split, choices.LABELLED, InputError)
    try:
        ref = reference.from_scores((first,), split, block=0)
    except LabelError:
        ref = None
    if ref is None or len(ref.places) < LEAST_REFERENCE:
        note = (
            f"Fewer than {LEAST_REFERENCE} reference tiles on the first date: its scores were "
            "taken as calibrated, and figures have no intervals."
        )
        # class shares of what it was trained on are not known: half way from equal to these scores'
        shares = 0.5 * p.mean(0) + 0.5 / k
        return Basis(recalibrate.identity(k, shares), none, none, (note,))
    truth = ref.truth[:, 0]
    least = recalibrate.ALIGNED_LAPSE if aligned else recalibrate.LAPSES[0]
    fitted = recalibrate.fit(p[ref.places], np.eye(k)[truth], least_lapse=least)
    return Basis(fitted, ref.places, truth, ref.notes)


def _refitted(first: DateScores) -> Basis:
    places = np.flatnonzero(first.truth >= 0)
    truth = first.truth[places]
    note = (
        f"Reference: {len(places):,} labelled tiles of the first date, each scored by a last layer "
        "that was fitted to others."
    )
    fitted = recalibrate.fit_with_lapse(_probabilities(first)[places], truth)
    return Basis(fitted, places, truth, (note,))


def settled(found: Basis, a: DateScores, b: DateScores, post: Posterior) -> Basis:
    """The basis with the lapse that labels and both dates' scores tell together.

    Args:
        found: of scores by layers that never saw the tile.
        post: the posterior of `a` and `b` with it.
    """
    like_a, like_b = (
        cal.ratio(_probabilities(day)[found.places])
        for cal, day in ((post.date_a, a), (post.date_b, b))
    )
    lapse, _ = recalibrate.independent_lapse(like_a, like_b, post.prior, found.truth)
    return replace(found, date_a=replace(found.date_a, lapse=lapse))


def _probabilities(day: DateScores) -> Floats:
    return day.probabilities.astype(np.float64)


def classes_of(first: DateScores, found: Basis) -> Floats:
    """P(class) of the first date's tiles by its scores alone, (N, K)."""
    like = found.date_a.likelihood(_probabilities(first))
    joint = like * posterior.class_shares(like, found.date_a.prior)
    p: Floats = joint / np.maximum(joint.sum(1, keepdims=True), 1e-300)
    return p


def check(found: Basis, first: Floats, fold: Ints, blocks: Ints) -> Checked | None:
    """How the first date's posteriors compare with its reference tiles.

    Args:
        first: (N, C) posterior of the result's classes.
        fold: (K,) the result's class of each class of the scores.
    """
    if not len(found.places):
        return None
    return spread.check(first[found.places], fold[found.truth], blocks[found.places])


def mapped_likelihood(day: DateScores, classes: Floats) -> tuple[Floats, Floats]:
    """Likelihood of the labels alone, and the date's confusion that it comes from.

    Args:
        classes: (N, K) how likely each class is on that date; its sums a label are the confusion.
    """
    k = len(day.legend)
    confusion = np.stack([classes[day.mapped == c].sum(0) for c in range(k)], axis=1)
    return series.from_labels(day.mapped, confusion), confusion


def infer_pair(
    a: DateScores,
    b: DateScores,
    found: Basis,
    *,
    recalibrated: bool = True,
    aligned: bool = False,
    smoothing: float = posterior.MIX,
    seed: int = 0,
) -> Posterior:
    """Posterior transitions between two dates; `aligned` scores of the second are fitted to it."""
    near = posterior.neighbours(a.rows, a.cols) if smoothing else None
    plain_b = found.date_a
    if aligned:
        shares = classes_of(a, found).mean(0)
        plain_b = replace(recalibrate.identity(len(a.legend), shares), lapse=found.date_a.lapse)
    return posterior.infer(
        _probabilities(a),
        _probabilities(b),
        date_a=found.date_a,
        date_b=None if recalibrated else plain_b,
        neighbours=near,
        mix=smoothing,
        seed=seed,
    )


def block_ids(day: DateScores) -> Ints:
    """The 8 x 8 blocks of tiles within which errors are alike."""
    return metrics.block_ids(day.rows, day.cols, reference.BLOCK)
