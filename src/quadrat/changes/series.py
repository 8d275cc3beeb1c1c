"""More than two dates: the most likely class sequence of each tile, and when it changed.

A hidden Markov model (Rabiner 1989, https://doi.org/10.1109/5.18626): the hidden state is the
tile's class, transitions between successive dates are learned from all tiles (Baum-Welch), and the
evidence of a date is its likelihood: of recalibrated probabilities, or of labels with the date's
confusion. A tile that leaves its class for one date was mistaken on that date; a tile that leaves
its class and stays away has changed. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quadrat.changes.pair import PSEUDO, start_prior

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STEPS = 30


@dataclass(frozen=True)
class SeriesPosterior:
    """What each tile was on each date.

    Attributes:
        path: (N, T) int64, the most likely sequence of classes.
        marginal: (N, T, K) float32, P(class on that date | all dates).
        moved: (N, T - 1) float32, P(the class changed in that interval | all dates).
        joint: (T - 1, K, K) expected tiles that went from class i to j in each interval.
        transitions: (T - 1, K, K) learned transition probabilities, rows sum to 1.
        start: (K,) learned class shares on the first date.
    """

    path: Ints
    marginal: NDArray[np.float32]
    moved: NDArray[np.float32]
    joint: Floats
    transitions: Floats
    start: Floats


def from_labels(labels: ArrayLike, confusion: ArrayLike) -> Floats:
    """Likelihood of each class given a map's label, (N, K), from the map's confusion.

    Args:
        labels: (N,) mapped class ids.
        confusion: (K, K) counts or shares, rows = truth, columns = map.
    """
    c = np.asarray(confusion, np.float64) + 0.5
    rates = c / c.sum(1, keepdims=True)
    like: Floats = rates[:, np.asarray(labels)].T
    scaled: Floats = like / like.max(1, keepdims=True)
    return scaled


def confusion(labels: Ints, classes: Floats) -> Floats:
    """Expected tiles of each class (rows) with each label (columns), (K, K).

    Args:
        labels: (N,) mapped class ids. classes: (N, K) P(class).
    """
    return np.stack([classes[labels == c].sum(0) for c in range(classes.shape[1])], axis=1)


def infer(
    likelihoods: Sequence[Floats],
    shares: ArrayLike,
    *,
    groups: Ints | None = None,
    steps: int = STEPS,
) -> SeriesPosterior:
    """Class sequences of N tiles over T dates.

    Args:
        likelihoods: one (N, K) a date, up to a factor a tile.
        shares: (K,) class shares on the first date, to start from.
        groups: (K,) the coarser class of each class: `moved` is from one group to another.
    """
    like = _stacked(likelihoods)
    start = np.asarray(shares, np.float64)
    start = (start + 1e-4) / (start + 1e-4).sum()
    joint0 = start_prior(start)
    moves = np.repeat((joint0 / joint0.sum(1, keepdims=True))[None], len(like) - 1, axis=0)
    for _ in range(steps):
        before = moves
        forward, backward = _passes(like, start, moves)
        gamma = forward[0] * backward[0]
        gamma = (gamma / gamma.sum(1, keepdims=True)).sum(0)
        start = (gamma + PSEUDO / len(start)) / (gamma.sum() + PSEUDO)
        # PSEUDO tiles that mostly stayed are added to the expected counts
        counts = _joints(like, forward, backward, moves) + PSEUDO * start_prior(start)[None]
        moves = counts / counts.sum(2, keepdims=True)
        if np.abs(moves - before).max() < 1e-5:
            break
    forward, backward = _passes(like, start, moves)
    marginal = forward * backward
    marginal /= marginal.sum(-1, keepdims=True)
    return SeriesPosterior(
        _viterbi(like, start, moves),
        marginal.transpose(1, 0, 2).astype(np.float32),
        _moved(like, forward, backward, moves, groups).astype(np.float32),
        _joints(like, forward, backward, moves),
        moves,
        start,
    )


def _stacked(likelihoods: Sequence[Floats]) -> Floats:
    """(T, N, K), none of them 0."""
    return np.stack([np.maximum(v, 1e-12) for v in likelihoods])


def _passes(like: Floats, start: Floats, moves: Floats) -> tuple[Floats, Floats]:
    """Scaled forward and backward probabilities, each (T, N, K)."""
    forward, backward = np.empty_like(like), np.empty_like(like)
    forward[0] = start * like[0]
    forward[0] /= forward[0].sum(1, keepdims=True)
    for t in range(1, len(like)):
        forward[t] = (forward[t - 1] @ moves[t - 1]) * like[t]
        forward[t] /= forward[t].sum(1, keepdims=True)
    backward[-1] = 1.0
    for t in range(len(like) - 2, -1, -1):
        backward[t] = (backward[t + 1] * like[t + 1]) @ moves[t].T
        backward[t] /= backward[t].sum(1, keepdims=True)
    return forward, backward


def _steps(
    like: Floats, forward: Floats, backward: Floats, moves: Floats
) -> Iterator[tuple[Floats, Floats, Floats]]:
    """For each interval what comes before it (N, K), what comes after it (N, K), evidence (N,)."""
    for t in range(len(moves)):
        left, right = forward[t], backward[t + 1] * like[t + 1]
        yield left, right, np.maximum(((left @ moves[t]) * right).sum(1), 1e-300)


def _joints(like: Floats, forward: Floats, backward: Floats, moves: Floats) -> Floats:
    """Expected tiles of each transition in each interval, (T - 1, K, K)."""
    return np.stack([
        moves[t] * (left.T @ (right / evidence[:, None]))
        for t, (left, right, evidence) in enumerate(_steps(like, forward, backward, moves))
    ])  # fmt: skip


def _moved(
    like: Floats, forward: Floats, backward: Floats, moves: Floats, groups: Ints | None
) -> Floats:
    """P(the group of the class changed) in each interval, (N, T - 1)."""
    same = _same(like.shape[2], groups)
    return np.stack([
        np.clip(1 - ((left @ (moves[t] * same)) * right).sum(1) / evidence, 0, 1)
        for t, (left, right, evidence) in enumerate(_steps(like, forward, backward, moves))
    ], axis=1)  # fmt: skip


def _same(k: int, groups: Ints | None) -> Floats:
    """(K, K): 1 where two classes are of one group."""
    g = np.arange(k) if groups is None else groups
    return np.equal.outer(g, g).astype(np.float64)


def _viterbi(like: Floats, start: Floats, moves: Floats) -> Ints:
    """Most likely sequences, (N, T)."""
    dates, n, _ = like.shape
    score = np.log(start) + np.log(like[0])
    came = np.empty((dates - 1, n, like.shape[2]), np.int64)
    for t in range(1, dates):
        through = score[:, :, None] + np.log(moves[t - 1])[None]
        came[t - 1] = through.argmax(1)
        score = through.max(1) + np.log(like[t])
    path = np.empty((n, dates), np.int64)
    path[:, -1] = score.argmax(1)
    for t in range(dates - 2, -1, -1):
        path[:, t] = came[t][np.arange(n), path[:, t + 1]]
    return path


def wanted(
    likelihoods: Sequence[Floats],
    found: SeriesPosterior,
    source: Ints,
    target: Ints,
    groups: Ints | None = None,
) -> tuple[Floats, Ints]:
    """When each tile most likely went from one of `source` to another of `target`.

    Args:
        likelihoods: as given to `infer`.
        source, target: class ids.
        groups: (K,) the coarser class of each class: going within one is no change.

    Returns:
        (N, T - 1) probabilities that it did in each interval, and (N, 3) int64: the likeliest
        interval, the class before and the class after.
    """
    like = _stacked(likelihoods)
    forward, backward = _passes(like, found.start, found.transitions)
    k = like.shape[2]
    mask = np.zeros((k, k))
    mask[np.ix_(source, target)] = 1.0
    mask[_same(k, groups) > 0] = 0.0
    p = np.empty((like.shape[1], len(like) - 1))
    cell = np.empty((like.shape[1], len(like) - 1), np.int64)
    steps = _steps(like, forward, backward, found.transitions)
    for t, (left, right, evidence) in enumerate(steps):
        joint = left[:, :, None] * (found.transitions[t] * mask) * right[:, None, :]
        p[:, t] = joint.sum((1, 2)) / evidence
        cell[:, t] = joint.reshape(len(joint), -1).argmax(1)
    when = p.argmax(1)
    best = cell[np.arange(len(p)), when]
    return p, np.stack([when, best // k, best % k], axis=1)


def ends(likelihoods: Sequence[Floats], found: SeriesPosterior) -> Floats:
    """P(class i on the first date and j on the last | all dates), (N, K, K)."""
    like = _stacked(likelihoods)
    through = found.start[None, :, None] * like[0][:, :, None] * np.eye(like.shape[2])[None]
    for t in range(1, len(like)):
        through = (through @ found.transitions[t - 1]) * like[t][:, None, :]
        through /= np.maximum(through.sum((1, 2), keepdims=True), 1e-300)
    result: Floats = through
    return result
