"""Two dates: the posterior of every transition of each tile.

Comparing two maps counts every mistake of either map as a change; where little changed, mistakes
outnumber changes. Here each tile has a hidden class on each date. J is the joint prior of the two
classes, the same for the whole area; L is the likelihood of a date's scores (`likelihood`):

    P(i -> j | tile)  ~  J[i, j] * L_a[tile, i] * L_b[tile, j]

J maximises the likelihood of all scores, found by expectation-maximisation (Dempster et al. 1977;
for class shares Saerens et al. 2002, https://doi.org/10.1162/089976602753284446). In the same loop
the second date is recalibrated to what the first date says of tiles that most likely did not
change, which takes out season and colour. The prior of each tile mixes J with the posterior of its
neighbours: change comes in patches, yet a single changed tile keeps 1 - mix of its prior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quadrat import grid
from quadrat.changes import likelihood
from quadrat.changes.likelihood import FirstDate, Recalibration
from quadrat.changes.question import Question
from quadrat.scores import DateScores

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROUNDS = 25
SETTLED = 1e-3  # largest change of an expected transition share at which the rounds end
PSEUDO = 1.0  # tiles added to each cell of the joint prior: no transition has probability 0
MIX = 0.25  # weight of neighbours: more gains little, as neighbours share errors


@dataclass(frozen=True)
class PairPosterior:
    """Transitions of each tile, and what they were inferred with.

    Attributes:
        pairs: (N, K, K) float32; [n, i, j] = P(class i on date A and j on date B).
        prior: (K, K) the joint prior J, summing to 1.
        date_a, date_b: the recalibrations behind the likelihoods.
        mix: weight of the neighbourhood in a tile's own prior.
        log_likelihood: mean over tiles, nats.
    """

    pairs: NDArray[np.float32]
    prior: Floats
    date_a: Recalibration
    date_b: Recalibration
    mix: float
    log_likelihood: float


def between(
    later: DateScores, first: FirstDate, question: Question, *, smoothing: float
) -> PairPosterior:
    """Posterior transitions between the first date and a later one.

    Args:
        smoothing: weight of the neighbourhood; 0 leaves it out.
    """
    near = neighbours(later.rows, later.cols) if smoothing else None
    return infer(
        first, later.probabilities, date_b=None if question.recalibrated else first.map,
        neighbours=near, mix=smoothing, seed=question.seed,
    )  # fmt: skip


def infer(
    first: FirstDate,
    p_b: ArrayLike,
    *,
    date_b: Recalibration | None = None,
    neighbours: Ints | None = None,
    mix: float = MIX,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> PairPosterior:
    """Posterior transitions of N tiles.

    Args:
        first: date A.
        p_b: (N, K) date B's probabilities.
        date_b: what these mean; None fits it to the tiles that did not change.
        neighbours: (N, 8) places of each tile's neighbours, -1 where there is none; None leaves
            the neighbourhood out.
        mix: weight of the neighbourhood in a tile's prior, 0 to 1.
        rounds: of recalibrating date B, at most.
    """
    b, like_a = np.asarray(p_b, np.float64), first.like
    prior = start_prior(first.shares)
    if date_b is None:
        date_b, prior = _adapt(b, first, prior, rounds, seed)
    like_b = date_b.likelihood(b)
    prior = fit_prior(like_a, like_b, prior)
    pairs, evidence = pair_posterior(prior, like_a, like_b)
    used = mix if neighbours is not None else 0.0
    if neighbours is not None and mix:
        for _ in range(2):
            around = neighbour_mean(pairs, neighbours, prior)
            pairs, evidence = pair_posterior((1 - mix) * prior + mix * around, like_a, like_b)
    fitness = float(np.log(np.maximum(evidence, 1e-300)).mean()) if len(evidence) else 0.0
    return PairPosterior(pairs.astype(np.float32), prior, first.map, date_b, used, fitness)


def start_prior(shares: ArrayLike, stay: float = 0.97) -> Floats:
    """A joint prior of classes that mostly stay, (K, K)."""
    s = np.asarray(shares, np.float64)
    s = (s + 1e-4) / (s + 1e-4).sum()
    k = len(s)
    move = np.full((k, k), (1 - stay) / max(k - 1, 1))
    np.fill_diagonal(move, stay)
    prior: Floats = s[:, None] * move / (s[:, None] * move).sum()
    return prior


def _adapt(
    b: Floats, first: FirstDate, prior: Floats, rounds: int, seed: int
) -> tuple[Recalibration, Floats]:
    """Alternate between recalibrating date B to its posterior and refitting the prior.

    The first targets are date A's classes, as if nothing had changed; the next are date B's own
    posterior, in which a changed tile has its new class.
    """
    like_a, cal = first.like, None
    target = like_a * first.shares
    target /= np.maximum(target.sum(1, keepdims=True), 1e-300)
    for _ in range(rounds):
        cal = likelihood.fit(b, target, start=cal, outlier_rate=first.map.outlier_rate, seed=seed)
        like_b = cal.likelihood(b)
        before, prior = prior, fit_prior(like_a, like_b, prior, steps=20, tolerance=1e-6)
        target = target_b(prior, like_a, like_b)
        moved = 1 - np.trace(prior)
        if np.abs(prior - before).max() < SETTLED * max(moved, 1e-3):
            break
    return cal or likelihood.identity(b.shape[1]), prior


def fit_prior(
    like_a: Floats, like_b: Floats, start: Floats, *, steps: int = 100, tolerance: float = 1e-7
) -> Floats:
    """The joint prior that makes the scores most likely, (K, K), by EM."""
    prior, n, k = start.copy(), len(like_a), len(start)
    for _ in range(steps):
        new = (expected_pairs(prior, like_a, like_b) + PSEUDO / k**2) / (n + PSEUDO)
        moved = np.abs(new - prior).max()
        prior = new
        if moved < tolerance:
            break
    return prior


def expected_pairs(prior: Floats, like_a: Floats, like_b: Floats) -> Floats:
    """Expected tiles of each transition, (K, K), without the (N, K, K) array."""
    evidence = np.maximum(((like_a @ prior) * like_b).sum(1), 1e-300)
    counts: Floats = prior * (like_a.T @ (like_b / evidence[:, None]))
    return counts


def target_b(prior: Floats, like_a: Floats, like_b: Floats) -> Floats:
    """P(class on date B | both dates), (N, K), without the (N, K, K) array."""
    joint = (like_a @ prior) * like_b
    target: Floats = joint / np.maximum(joint.sum(1, keepdims=True), 1e-300)
    return target


def pair_posterior(prior: Floats, like_a: Floats, like_b: Floats) -> tuple[Floats, Floats]:
    """Posterior of pairs (N, K, K) and evidence (N,).

    Args:
        prior: (K, K), or (N, K, K) with one a tile.
    """
    joint = prior * like_a[:, :, None] * like_b[:, None, :]
    evidence = joint.sum((1, 2))
    return joint / np.maximum(evidence, 1e-300)[:, None, None], evidence


def neighbour_mean(values: Floats, neighbours: Ints, missing: Floats) -> Floats:
    """Mean of the neighbours' values (N, ...); `missing` for a tile without neighbours."""
    total, count = np.zeros_like(values), np.zeros(len(values))
    for column in neighbours.T:
        there = column >= 0
        total[there] += values[column[there]]
        count += there
    shape = (-1,) + (1,) * (values.ndim - 1)
    out = total / np.maximum(count, 1).reshape(shape)
    out[count == 0] = missing
    return out


def neighbours(rows: ArrayLike, cols: ArrayLike) -> Ints:
    """Place of each tile's eight neighbours in the arrays, (N, 8) int64; -1 where there is none.

    Order: north-west, north, north-east, west, east, south-west, south, south-east.
    """
    r, c = np.asarray(rows, np.int64), np.asarray(cols, np.int64)
    steps = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
    around = [grid.tile_keys(r + i, c + j) for i, j in steps]
    return grid.places_of(grid.tile_keys(r, c), np.stack(around, axis=1))
