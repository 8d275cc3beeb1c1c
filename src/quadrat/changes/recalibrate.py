"""Recalibration of one date's probabilities: a small logistic map of log probabilities.

A model trained on one date says something else on another: leaves are off, grass is brown, the
camera differs. What it says still tells the classes apart, in other words. The map

    q(z | x) = (1 - lapse) softmax(W log p(x) + b) + lapse * prior

puts them right: W and b for the shift, the lapse for confident mistakes, which no scaling of
confidence describes. It is fitted to soft targets, so that an EM can use it (`posterior`). A smooth
map of K numbers cannot take up single tiles that changed; that is why the fit leaves them visible.

Scaling after Platt 1999 and Guo et al. 2017 (https://arxiv.org/abs/1706.04599). Pure numpy; it
does not know where targets come from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

Floats = NDArray[np.float64]

FLOOR = 1e-8  # of a probability, before its logarithm: above what float32 can tell from 0
# References are plots of one class; the plots in between, and wrong labels, fool a model more often
# than they show. Half of the errors that they do show, within these bounds, is what keeps a list of
# changes from promising fewer false ones than it holds (benchmarks/change_demo.py measures it).
LAPSES = (0.005, 0.015)
# Scores by layers that never saw the tile are seldom sure and wrong (`align`).
ALIGNED_LAPSE = 0.002
LAPSE_OF_ERRORS = 0.5
UNCHECKED_LAPSE = 0.01
MOST_TILES = 20_000  # a fit of some 40 numbers needs no more


@dataclass(frozen=True)
class Recalibration:
    """q = (1 - lapse) softmax(features @ weights) + lapse * prior.

    Attributes:
        weights: (K + 1, K) float64; the last row is the bias.
        prior: (K,) class shares of the targets it was fitted to: q / prior is a likelihood.
        lapse: share of tiles about which the scores say nothing.
    """

    weights: Floats
    prior: Floats
    lapse: float

    def __call__(self, probabilities: ArrayLike) -> Floats:
        """Recalibrated probabilities, (N, K)."""
        q = softmax(features(probabilities) @ self.weights, axis=1)
        mixed: Floats = (1 - self.lapse) * q + self.lapse * self.prior
        return mixed

    def likelihood(self, probabilities: ArrayLike) -> Floats:
        """p(x | z) up to a factor a tile, (N, K), at most 1 in each row."""
        ratio = self(probabilities) / np.maximum(self.prior, 1e-9)
        scaled: Floats = ratio / ratio.max(1, keepdims=True)
        return scaled

    def ratio(self, probabilities: ArrayLike) -> Floats:
        """p(x | z) / p(x) as if there were no lapse, (N, K)."""
        q = softmax(features(probabilities) @ self.weights, axis=1)
        told: Floats = q / np.maximum(self.prior, 1e-9)
        return told

    def without_lapse(self) -> Recalibration:
        """The same map with hardly a lapse: what totals are compared with."""
        return replace(self, lapse=min(self.lapse, 1e-4))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "weights": self.weights.tolist(),
            "prior": self.prior.tolist(),
            "lapse": self.lapse,
        }


def features(probabilities: ArrayLike) -> Floats:
    """Centred log probabilities and a one, (N, K + 1)."""
    logs = np.log(np.clip(np.asarray(probabilities, np.float64), FLOOR, 1.0))
    centred = logs - logs.mean(1, keepdims=True)
    return np.concatenate([centred, np.ones((len(centred), 1))], axis=1)


def identity(k: int, prior: ArrayLike | None = None) -> Recalibration:
    """The map that leaves probabilities as they are, but for the lapse of unchecked scores."""
    weights = np.concatenate([np.eye(k), np.zeros((1, k))])
    shares = np.full(k, 1.0 / k) if prior is None else np.asarray(prior, np.float64)
    return Recalibration(weights, shares / shares.sum(), UNCHECKED_LAPSE)


def fit(
    probabilities: ArrayLike,
    targets: ArrayLike,
    *,
    start: Recalibration | None = None,
    ridge: float = 1.0,
    steps: int = 12,
    lapse: float | None = None,
    least_lapse: float = LAPSES[0],
    seed: int = 0,
) -> Recalibration:
    """Fit to soft targets by Newton's method.

    Args:
        probabilities: (N, K) what the model said.
        targets: (N, K) how much each tile belongs to each class; rows of zeros are left out.
        start: where to begin.
        ridge: pull towards the identity, in tiles.
        lapse: kept as given; None takes it from the errors on the targets.
        least_lapse: what it is then at least.
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
    rate = _fit_lapse(softmax(x @ w, axis=1), y, least_lapse) if lapse is None else lapse
    return Recalibration(w, prior, rate)


def fit_with_lapse(
    probabilities: ArrayLike, truth: NDArray[np.int64], *, rounds: int = 30, seed: int = 0
) -> Recalibration:
    """Fit to class ids (N,), with the lapse by expectation-maximisation.

    For scores of tiles that nothing behind them ever saw, on labels of the whole area. A label is
    taken as the map's or as a lapse, each as far as it is likely; the lapse is the mean of its
    posterior under Jeffreys' prior, so that no mistake among n labels makes it 1 / (2 n + 2). It
    holds the labels' own mistakes as well; `independent_lapse` tells them apart.
    """
    p, n = np.asarray(probabilities, np.float64), len(truth)
    y = np.eye(p.shape[1])[truth]
    prior = (y.sum(0) + 0.5) / (y.sum() + 0.5 * y.shape[1])
    cal, lapse, mapped = None, ALIGNED_LAPSE, np.ones(n)
    for _ in range(rounds):
        cal = fit(p, y * mapped[:, None], start=cal, lapse=lapse, seed=seed)
        q = softmax(features(p) @ cal.weights, axis=1)[np.arange(n), truth]
        mapped = (1 - lapse) * q / ((1 - lapse) * q + lapse * prior[truth])
        before, lapse = lapse, float((n - mapped.sum() + 0.5) / (n + 1))
        if abs(lapse - before) < 1e-6:
            break
    weights = identity(y.shape[1]).weights if cal is None else cal.weights
    return Recalibration(weights, prior, lapse)


def independent_lapse(
    like_a: Floats, like_b: Floats, joint: Floats, truth: NDArray[np.int64], *, rounds: int = 200
) -> tuple[float, float]:
    """The share of scores that lapse on one date alone, and the share of labels that are wrong.

    Where both dates' scores agree and the label does not, the label is wrong, or the tile fools the
    model on both dates alike, which makes no change of it; where one date stands against the other
    and the label, that date's scores lapsed. By expectation-maximisation over the hidden classes of
    both dates, each share's posterior mean under Jeffreys' prior.

    Args:
        like_a, like_b: (n, K) q / prior of each date without a lapse.
        joint: (K, K) share of tiles of each class on date A and on date B.
        truth: (n,) class ids of date A's labels.
    """
    n, k = like_a.shape
    shares, own = joint.sum(1)[truth], np.eye(k)[truth]
    lapse = wrong = ALIGNED_LAPSE
    for _ in range(rounds):
        said = (1 - wrong) * own + wrong * shares[:, None]  # P(label | class on date A)
        a, b = (1 - lapse) * like_a + lapse, (1 - lapse) * like_b + lapse
        from_b, from_a = b @ joint.T, (said * a) @ joint
        evidence = np.maximum((said * a * from_b).sum(1), 1e-300)
        slips_a = lapse * (said * from_b).sum(1) / evidence
        slips_b = lapse * from_a.sum(1) / evidence
        errors = wrong * shares * (a * from_b).sum(1) / evidence
        before = lapse, wrong
        lapse = float((slips_a.sum() + slips_b.sum() + 0.5) / (2 * n + 1))
        wrong = float((errors.sum() + 0.5) / (n + 1))
        if max(abs(lapse - before[0]), abs(wrong - before[1])) < 1e-7:
            break
    return lapse, wrong


def _loss(x: Floats, y: Floats, w: Floats, plain: Floats, ridge: float) -> float:
    """Cross-entropy of the targets, summed, with the ridge."""
    logs = x @ w
    logs -= logs.max(1, keepdims=True)
    logs -= np.log(np.exp(logs).sum(1, keepdims=True))
    return float(-(y * logs).sum() + 0.5 * ridge * ((w - plain) ** 2).sum())


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


def _fit_lapse(q: Floats, y: Floats, least: float) -> float:
    """The share of tiles about which the scores say nothing, from the share that they get wrong."""
    weight = y.sum(1)
    wrong = float((weight * (q.argmax(1) != y.argmax(1))).sum() + 1) / float(weight.sum() + 2)
    return min(max(LAPSE_OF_ERRORS * wrong, least), LAPSES[1])
