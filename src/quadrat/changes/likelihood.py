"""Likelihood of each class given a date's probabilities, by logistic recalibration.

A model trained on one date says something else on another: leaves are off, grass is brown, the
camera differs. Its probabilities still tell the classes apart. The map

    q(z | x) = (1 - outlier rate) softmax(W log p(x) + b) + outlier rate * prior

corrects them, and q / prior is the likelihood. W and b stand for the shift; the outlier rate for
confident mistakes, which no scaling of confidence describes. The map is fitted to soft targets, so
that an EM can use it (`pair`). It has about K^2 numbers, so it cannot follow single tiles that
changed: they stand out after the fit.

The first date's map is fitted to its reference tiles, where it has some (`first_date`).

Scaling after Platt 1999 and Guo et al. 2017 (https://arxiv.org/abs/1706.04599).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, softmax

from quadrat import choices
from quadrat.areas import reference
from quadrat.errors import InputError, LabelError
from quadrat.scores import DateScores

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FLOOR = 1e-8  # smallest probability before its logarithm; float32 rounds less to 0
# Reference tiles are plots of one class. Mixed plots and wrong labels mislead a model more often
# than reference tiles show. Half of the errors that they do show, within these bounds, keeps a list
# of changes from promising fewer false ones than it holds (measured by benchmarks/change_demo.py).
OUTLIER_RATES = (0.005, 0.015)
OUTLIERS_OF_ERRORS = 0.5
UNCHECKED_OUTLIER_RATE = 0.01
MOST_TILES = 20_000  # enough for a fit of some 40 coefficients
LEAST_REFERENCE = 60  # reference tiles that a recalibration needs


@dataclass(frozen=True)
class Recalibration:
    """q = (1 - outlier rate) softmax(features @ weights) + outlier rate * prior.

    Attributes:
        weights: (K + 1, K) float64; the last row is the bias.
        prior: (K,) class shares of the targets it was fitted to: q / prior is a likelihood.
        outlier_rate: share of tiles whose scores say nothing of their class.
    """

    weights: Floats
    prior: Floats
    outlier_rate: float

    def __call__(self, probabilities: ArrayLike) -> Floats:
        """Recalibrated probabilities, (N, K)."""
        q = softmax(features(probabilities) @ self.weights, axis=1)
        mixed: Floats = (1 - self.outlier_rate) * q + self.outlier_rate * self.prior
        return mixed

    def likelihood(self, probabilities: ArrayLike) -> Floats:
        """p(x | z) up to a factor a tile, (N, K), at most 1 in each row."""
        ratio = self(probabilities) / np.maximum(self.prior, 1e-9)
        scaled: Floats = ratio / ratio.max(1, keepdims=True)
        return scaled


def features(probabilities: ArrayLike) -> Floats:
    """Centred log probabilities and a one, (N, K + 1)."""
    logs = np.log(np.clip(np.asarray(probabilities, np.float64), FLOOR, 1.0))
    centred = logs - logs.mean(1, keepdims=True)
    return np.concatenate([centred, np.ones((len(centred), 1))], axis=1)


def identity(k: int, prior: ArrayLike | None = None) -> Recalibration:
    """The identity map, with the outlier rate of unchecked scores."""
    weights = np.concatenate([np.eye(k), np.zeros((1, k))])
    shares = np.full(k, 1.0 / k) if prior is None else np.asarray(prior, np.float64)
    return Recalibration(weights, shares / shares.sum(), UNCHECKED_OUTLIER_RATE)


def fit(
    probabilities: ArrayLike,
    targets: ArrayLike,
    *,
    start: Recalibration | None = None,
    ridge: float = 1.0,
    steps: int = 12,
    outlier_rate: float | None = None,
    seed: int = 0,
) -> Recalibration:
    """Fit to soft targets by Newton's method.

    Args:
        probabilities: (N, K) what the model said.
        targets: (N, K) how much each tile belongs to each class; rows of zeros are left out.
        start: where to begin.
        ridge: pull towards the identity, in tiles.
        outlier_rate: kept as given; None estimates it from the errors on the targets.
    """
    x, y = features(probabilities), np.asarray(targets, np.float64)
    used = np.flatnonzero(y.sum(1) > 1e-9)
    if len(used) > MOST_TILES:
        used = np.sort(np.random.default_rng(seed).choice(used, MOST_TILES, replace=False))
    x, y = x[used], y[used]
    k = y.shape[1]
    plain = identity(k).weights
    w = plain.copy() if start is None else start.weights.copy()
    prior = (y.sum(0) + 0.5) / (y.sum() + 0.5 * k)
    loss = _loss(x, y, w, plain, ridge)
    for _ in range(steps):
        step = _newton_step(x, y, w, plain, ridge)
        for shrink in (1.0, 0.5, 0.25, 0.1, 0.01):
            tried = _loss(x, y, w - shrink * step, plain, ridge)
            if tried < loss:
                break
        else:
            break
        w, gain, loss = w - shrink * step, loss - tried, tried
        if gain < 1e-6 * max(loss, 1.0):
            break
    if outlier_rate is None:
        outlier_rate = _rate_of_errors(softmax(x @ w, axis=1), y)
    return Recalibration(w, prior, outlier_rate)


def _loss(x: Floats, y: Floats, w: Floats, plain: Floats, ridge: float) -> float:
    """Cross-entropy of the targets, summed, with the ridge."""
    return float(-(y * log_softmax(x @ w, axis=1)).sum() + 0.5 * ridge * ((w - plain) ** 2).sum())


def _newton_step(x: Floats, y: Floats, w: Floats, plain: Floats, ridge: float) -> Floats:
    """A Newton step of the loss, shape of w."""
    d, k = w.shape
    q = softmax(x @ w, axis=1)
    weight = y.sum(1)
    gradient = x.T @ (weight[:, None] * q - y) + ridge * (w - plain)
    hessian = np.zeros((d, k, d, k))
    for i in range(k):
        for j in range(i, k):
            curve = weight * q[:, i] * ((1.0 if i == j else 0.0) - q[:, j])
            block = x.T @ (curve[:, None] * x)
            hessian[:, i, :, j] = block
            hessian[:, j, :, i] = block
    flat = hessian.reshape(d * k, d * k) + ridge * np.eye(d * k)
    step: Floats = np.linalg.solve(flat, gradient.ravel()).reshape(d, k)
    return step


def _rate_of_errors(q: Floats, y: Floats) -> float:
    """The outlier rate from the share of targets whose class the map gets wrong."""
    weight = y.sum(1)
    wrong = float((weight * (q.argmax(1) != y.argmax(1))).sum() + 1) / float(weight.sum() + 2)
    return min(max(OUTLIERS_OF_ERRORS * wrong, OUTLIER_RATES[0]), OUTLIER_RATES[1])


def class_shares(like: Floats, start: Floats, steps: int = 50) -> Floats:
    """Class shares of the area that make one date's scores most likely, (K,) (Saerens 2002).

    https://doi.org/10.1162/089976602753284446
    """
    shares = start / start.sum()
    for _ in range(steps):
        joint = like * shares
        shares = (joint / np.maximum(joint.sum(1, keepdims=True), 1e-300)).mean(0)
    found: Floats = shares
    return found


@dataclass(frozen=True)
class FirstDate:
    """The first date's recalibration, and the reference tiles that it was fitted to.

    Attributes:
        map: the date's recalibration.
        like: (N, C) likelihood of its tiles.
        shares: (C,) class shares of the area by its scores alone.
        places, truth: reference tiles and their classes; empty without any.
        notes: what a reader must know.
    """

    map: Recalibration
    like: Floats
    shares: Floats
    places: Ints
    truth: Ints
    notes: tuple[str, ...]


def mapped_by(
    map_: Recalibration,
    probabilities: ArrayLike,
    *,
    places: Ints | None = None,
    truth: Ints | None = None,
    notes: tuple[str, ...] = (),
) -> FirstDate:
    """The first date as a recalibration gives it; reference tiles are none by default."""
    none = np.empty(0, np.int64)
    like = map_.likelihood(probabilities)
    shares = class_shares(like, map_.prior)
    return FirstDate(
        map_, like, shares, none if places is None else places, none if truth is None else truth,
        notes,
    )  # fmt: skip


def first_date(first: DateScores, split: str) -> FirstDate:
    """Recalibrate the first date on its reference tiles, where it has some.

    Args:
        split: which labelled tiles are the reference, see `quadrat.areas.area`.
    """
    p, k = first.probabilities.astype(np.float64), len(first.legend)
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
        # the training prior is unknown: the mean of equal shares and the scores' mean
        return mapped_by(identity(k, 0.5 * p.mean(0) + 0.5 / k), p, notes=(note,))
    truth = ref.truth[:, 0]
    fitted = fit(p[ref.places], np.eye(k)[truth])
    return mapped_by(fitted, p, places=ref.places, truth=truth, notes=ref.notes)
