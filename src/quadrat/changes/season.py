"""The season taken out of later dates: the model's last layer, fitted anew to each of them.

A season changes some classes and not others (worn ground among shrubs, bare fields). No map of
colours takes that out, and six probabilities near 0 and 1 hold too little to tell it from a change.
The features before the last layer hold it. Nearly all ground keeps its class, so the later date's
features with the classes of the earlier date are a training set with few wrong labels. A strongly
regularised last layer fitted to it knows the season, and a changed tile still looks like what it
became. Each tile is scored by a layer that never saw it or its block (cross-fitting); a layer that
had seen it would only repeat the class that it was told.

This is self-training (pseudo-labels; Lee 2013) under the label noise of few changes. Nothing is
known of the later date's classes.

The first date's layer is fitted to its own labels in the same way, where the model learned from
them: its scores of a tile then come from a layer that never saw it, and all labels can check them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from quadrat import metrics, scores
from quadrat.changes import chronology, likelihood, pair
from quadrat.changes.chronology import Chronology
from quadrat.changes.likelihood import FirstDate
from quadrat.changes.question import Question
from quadrat.heads import fit as heads

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FOLDS = 5
BLOCK = 4  # tiles a side of the blocks that are left out together
STRENGTH = 0.3  # regularisation, 60 times that of training: a few labels are wrong
STEPS = 60
MOST_TILES = 8000  # that one fit sees
FLOOR = 1e-6  # of a probability: a class that a fold never saw stays possible


def removed(dates: Chronology, question: Question, *, align: bool) -> tuple[Chronology, FirstDate]:
    """The dates with later ones scored by layers fitted to them, and what the first one's mean.

    Dates whose features were not kept, and few tiles, are left as they are.

    Args:
        align: whether it is wanted.
    """
    first = dates.days[0]
    if not align:
        return dates, likelihood.first_date(first, question.split)
    if not dates.kept or len(first) < chronology.LEAST_TILES:
        noted = replace(dates, notes=(*dates.notes, _unaligned(dates)))
        return noted, likelihood.first_date(first, question.split)
    known = int((first.truth >= 0).sum())
    refitted = dates.learned and question.split == "auto" and known >= chronology.LEAST_TILES
    return _aligned(replace(dates, aligned=True, refitted=refitted), question)


def _unaligned(dates: Chronology) -> str:
    if not dates.normalisation:
        return (
            "Scores alone were compared; with imagery and --model the model's last layer is fitted "
            "to later dates, which takes out a season better."
        )
    return f"Fewer than {chronology.LEAST_TILES} tiles: the model was not fitted to later dates."


def _aligned(dates: Chronology, question: Question) -> tuple[Chronology, FirstDate]:
    """Later dates' layers are fitted twice.

    First to the first date's classes, as if nothing had changed; then to what both dates say, in
    which a changed tile has its new class.
    """
    first, k, seed = dates.days[0], len(dates.days[0].legend), question.seed
    folds = fold_assignment(first.rows, first.cols, seed)
    if dates.refitted:
        p = cross_fitted(scores.read_features(first), first.truth, k, folds, seed=seed)
        first = replace(first, probabilities=p.astype(np.float32))
    meaning = likelihood.first_date(first, question.split, aligned=True, refitted=dates.refitted)
    days, before = [first], (meaning.like * meaning.shares).argmax(1)
    for n, day in enumerate(dates.days[1:], start=1):
        x, classes = scores.read_features(day), before
        for _ in range(2):
            p = cross_fitted(x, classes, k, folds, seed=seed)
            day = replace(day, probabilities=p.astype(np.float32))
            post = pair.between(day, meaning, question, aligned=True, smoothing=question.smoothing)
            classes = post.pairs.sum(1).argmax(1)
            if dates.refitted and n == 1:
                like = (
                    cal.ratio(d.probabilities[meaning.places])
                    for cal, d in ((post.date_a, first), (post.date_b, day))
                )
                meaning = likelihood.with_both_dates(
                    meaning, first.probabilities, *like, joint=post.prior
                )
        days.append(day)
    return replace(dates, days=tuple(days)), meaning


def fold_assignment(rows: Ints, cols: Ints, seed: int = 0) -> Ints:
    """The fold of each tile, (N,): whole blocks, at random."""
    _, place = np.unique(metrics.block_ids(rows, cols, BLOCK), return_inverse=True)
    deal = np.random.default_rng(seed).permutation(int(place.max()) + 1) % FOLDS
    fold: Ints = deal[place].astype(np.int64)
    return fold


def cross_fitted(
    x: NDArray[np.float32], classes: Ints, k: int, folds: Ints, *, seed: int = 0
) -> Floats:
    """Probabilities of each tile by a layer fitted to the other folds, (N, K).

    Args:
        x: (N, D) features. classes: (N,) presumed class ids, -1 where nothing is presumed.
        folds: (N,) fold of each tile.
    """
    out = np.full((len(x), k), 1.0 / k)
    rng = np.random.default_rng(seed)
    settings = heads.Settings(reg=STRENGTH, max_iter=STEPS, seed=seed)
    for fold in np.unique(folds):
        seen = np.flatnonzero((folds != fold) & (classes >= 0))
        if len(seen) > MOST_TILES:
            seen = np.sort(rng.choice(seen, MOST_TILES, replace=False))
        if len(np.unique(classes[seen])) < 2:
            continue
        head, _ = heads.fit(x[seen], classes[seen], k, settings)
        left = np.flatnonzero(folds == fold)
        out[left] = softmax(head.logits(x[left]), axis=1)
    out = np.maximum(out, FLOOR)
    result: Floats = out / out.sum(1, keepdims=True)
    return result
