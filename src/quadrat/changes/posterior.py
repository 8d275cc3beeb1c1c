"""What became of each tile: the posterior of every transition, given two dates' scores.

Comparing two maps counts every mistake of either as a change; where little changed, mistakes
outnumber changes. Here each tile has a hidden class on each date with a joint prior J (the
transitions of the whole area, learned from the data), and each date's scores are evidence with a
likelihood L that says how that date's scores look for each class:

    P(i -> j | tile)  ~  J[i, j] * L_a[tile, i] * L_b[tile, j]

J is the maximum of the likelihood, found by expectation-maximisation (Dempster et al. 1977; for
class shares: Saerens et al. 2002, https://doi.org/10.1162/089976602753284446). The second date's
likelihood is recalibrated in the same loop to what the first says of the tiles that most likely did
not change, which takes out season and colour. A tile's own prior mixes J with what its neighbours
became: change comes in patches, yet a lone change keeps at least the share 1 - mix of its prior.

Pure numpy. It does not know files, legends or maps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quadrat import grid
from quadrat.changes import recalibrate
from quadrat.changes.recalibrate import Recalibration

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROUNDS = 25
SETTLED = 1e-3  # of the expected share of any transition: another round changes nothing
PSEUDO = 1.0  # tiles added to each cell of J: none is ruled out by the data alone
MIX = 0.25  # more finds little more, and counts what neighbours err alike as evidence


@dataclass(frozen=True)
class Posterior:
    """Per-tile transitions and what they were inferred with.

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

    @property
    def changed(self) -> Floats:
        """P(the class on date B is another one), (N,)."""
        stay = np.trace(self.pairs, axis1=1, axis2=2, dtype=np.float64)
        moved: Floats = np.clip(1.0 - stay, 0.0, 1.0)
        return moved

    def of(self, source: ArrayLike, target: ArrayLike) -> Floats:
        """P(from one of the classes `source` to one of `target`), (N,)."""
        part = self.pairs[:, np.asarray(source)][:, :, np.asarray(target)]
        total: Floats = part.sum((1, 2), dtype=np.float64)
        return total


def start_prior(shares: ArrayLike, stay: float = 0.97) -> Floats:
    """A joint prior of classes that mostly stay, (K, K)."""
    s = np.asarray(shares, np.float64)
    s = (s + 1e-4) / (s + 1e-4).sum()
    k = len(s)
    move = np.full((k, k), (1 - stay) / max(k - 1, 1))
    np.fill_diagonal(move, stay)
    prior: Floats = s[:, None] * move / (s[:, None] * move).sum()
    return prior


def pair_posterior(prior: Floats, like_a: Floats, like_b: Floats) -> tuple[Floats, Floats]:
    """Posterior of pairs (N, K, K) and evidence (N,).

    Args:
        prior: (K, K), or (N, K, K) with one a tile.
    """
    joint = prior * like_a[:, :, None] * like_b[:, None, :]
    evidence = joint.sum((1, 2))
    return joint / np.maximum(evidence, 1e-300)[:, None, None], evidence


def fit_prior(
    like_a: Floats, like_b: Floats, start: Floats, *, steps: int = 100, tolerance: float = 1e-7
) -> Floats:
    """The joint prior that makes the scores most likely, (K, K), by EM."""
    prior, n = start.copy(), len(like_a)
    k = len(prior)
    for _ in range(steps):
        # sum over tiles of prior * a b^T / (a^T prior b), without the (N, K, K) array
        evidence = np.maximum(((like_a @ prior) * like_b).sum(1), 1e-300)
        counts = prior * (like_a.T @ (like_b / evidence[:, None]))
        new = (counts + PSEUDO / k**2) / (n + PSEUDO)
        moved = np.abs(new - prior).max()
        prior = new
        if moved < tolerance:
            break
    return prior


def infer(
    p_a: ArrayLike,
    p_b: ArrayLike,
    *,
    date_a: Recalibration | None = None,
    date_b: Recalibration | None = None,
    neighbours: Ints | None = None,
    mix: float = MIX,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Posterior:
    """Posterior transitions of N tiles from the two dates' probabilities (N, K).

    Args:
        date_a: what date A's probabilities mean (fitted to reference tiles); None takes them as
            calibrated for equal class shares.
        date_b: what date B's mean; None fits it to the tiles that did not change.
        neighbours: (N, 8) places of each tile's neighbours, -1 where there is none; None leaves
            the neighbourhood out.
        mix: weight of the neighbourhood in a tile's prior, 0 to 1.
        rounds: of recalibrating date B, at most.
    """
    a, b = np.asarray(p_a, np.float64), np.asarray(p_b, np.float64)
    k = a.shape[1]
    cal_a = recalibrate.identity(k) if date_a is None else date_a
    like_a = cal_a.likelihood(a)
    shares = class_shares(like_a, cal_a.prior)
    prior = start_prior(shares)
    if date_b is None:
        cal_b, prior = _adapt(b, like_a, prior, shares, cal_a.lapse, rounds, seed)
    else:
        cal_b = date_b
    like_b = cal_b.likelihood(b)
    prior = fit_prior(like_a, like_b, prior)
    pairs, evidence = pair_posterior(prior, like_a, like_b)
    used = mix if neighbours is not None else 0.0
    if neighbours is not None and mix:
        pairs, evidence = _with_neighbours(pairs, evidence, prior, like_a, like_b, neighbours, mix)
    fitness = float(np.log(np.maximum(evidence, 1e-300)).mean()) if len(evidence) else 0.0
    return Posterior(pairs.astype(np.float32), prior, cal_a, cal_b, used, fitness)


def class_shares(like: Floats, start: Floats, steps: int = 50) -> Floats:
    """Class shares of the area that make one date's scores most likely (Saerens et al.)."""
    shares = start / start.sum()
    for _ in range(steps):
        joint = like * shares
        shares = (joint / np.maximum(joint.sum(1, keepdims=True), 1e-300)).mean(0)
    found: Floats = shares
    return found


def _adapt(
    b: Floats,
    like_a: Floats,
    prior: Floats,
    shares: Floats,
    lapse: float,
    rounds: int,
    seed: int,
) -> tuple[Recalibration, Floats]:
    """Recalibrate date B to the classes that the posterior gives it, in turn with the prior.

    The first targets are date A's classes, as if nothing had changed; the next are date B's own
    posterior, in which a changed tile has its new class.
    """
    target = like_a * shares
    target /= np.maximum(target.sum(1, keepdims=True), 1e-300)
    cal: Recalibration | None = None
    for _ in range(rounds):
        cal = recalibrate.fit(b, target, start=cal, lapse=lapse, seed=seed)
        like_b = cal.likelihood(b)
        before, prior = prior, fit_prior(like_a, like_b, prior, steps=20, tolerance=1e-6)
        target = target_b(prior, like_a, like_b)
        moved = 1 - np.trace(prior)
        if np.abs(prior - before).max() < SETTLED * max(moved, 1e-3):
            break
    if cal is None:
        cal = recalibrate.identity(b.shape[1])
    return cal, prior


def target_b(prior: Floats, like_a: Floats, like_b: Floats) -> Floats:
    """P(class on date B | both dates), (N, K), without the (N, K, K) array."""
    joint = (like_a @ prior) * like_b
    target: Floats = joint / np.maximum(joint.sum(1, keepdims=True), 1e-300)
    return target


def _with_neighbours(
    pairs: Floats,
    evidence: Floats,
    prior: Floats,
    like_a: Floats,
    like_b: Floats,
    neighbours: Ints,
    mix: float,
) -> tuple[Floats, Floats]:
    """Posterior with each tile's prior mixed with its neighbours' posterior."""
    for _ in range(2):
        around = neighbour_mean(pairs, neighbours, prior)
        pairs, evidence = pair_posterior((1 - mix) * prior + mix * around, like_a, like_b)
    return pairs, evidence


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
