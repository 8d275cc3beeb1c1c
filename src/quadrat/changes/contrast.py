"""What two dates' cells say of a tile: how unlike they are, and what classes the later one has.

A cell is one place of the network's last map, about 32 m of ground: a vector in which the network
has put what it sees there. Seasons, sun and camera change the vectors of all ground. So the later
date is measured with its own yardsticks, fitted to ground that, nearly all of it, has not changed:

    classes     softmax regression from a date's cells to the earlier date's classes of the cells
    expected    ridge regression from the earlier cell to the later one
    usual       ridge regression from the class of the ground to the later cell

and how far a cell is from what is expected, or usual, counts in units of the spread that all cells
have (Mahalanobis 1936). Everything is cross-fitted: yardsticks never saw the tiles they measure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from quadrat.heads import regression

Rows = NDArray[np.float32]

MOST_CELLS = 60_000  # that a yardstick is fitted to
STRENGTH, STEPS = 0.005, 60  # of the softmax regressions
EXPECTED, USUAL = 100.0, 1.0  # of the ridge regressions
SHRINK = 0.05  # of covariances, towards a multiple of the unit matrix
LEVELS = (0.1, 0.5, 0.75, 0.9)  # quantiles over the cells of a tile
FLOOR = 1e-2  # of shares whose logarithm is taken


@dataclass(frozen=True)
class Yardsticks:
    """What the cells of tiles are measured with.

    Attributes:
        earlier, later: from cells (M, D) to class shares (M, K).
        expected: (D + 1, D) from an earlier cell and 1 to the later one.
        usual: (K + 1, D) from the classes of the ground and 1 to the later cell.
        residual, around: (D, D) whitening of what these leave: vectors times it have unit spread.
    """

    earlier: Callable[[Rows], Rows]
    later: Callable[[Rows], Rows]
    expected: Rows
    usual: Rows
    residual: Rows
    around: Rows


def fit(one: Rows, two: Rows, classes: Rows, rng: np.random.Generator) -> Yardsticks:
    """Yardsticks from cells of ground most of which is the same on both dates.

    Args:
        one, two: (M, D) cells of the earlier and the later date. classes: (M, K) shares of the
            ground of each; rows whose sum is 0 are unknown and left out.
    """
    known = np.flatnonzero(classes.sum(1) > 0)
    at = rng.permutation(known)[:MOST_CELLS]
    one, two, classes = one[at], two[at], classes[at]
    expected = ridge(one, two, EXPECTED)
    usual = ridge(classes, two, USUAL)
    return Yardsticks(
        _softmax(one, classes), _softmax(two, classes), expected, usual,
        _whitening(two - straight(one, expected)), _whitening(two - straight(classes, usual)),
    )  # fmt: skip


def _softmax(cells: Rows, classes: Rows) -> Callable[[Rows], Rows]:
    there = np.flatnonzero(classes.sum(0) > 0)
    if len(there) < 2:
        alone = (classes.sum(0) > 0).astype(np.float32)
        return lambda x: np.broadcast_to(alone, (len(x), len(alone)))
    coef, intercept, _ = regression.fit(
        cells, classes[:, there].astype(np.float64), STRENGTH, STEPS
    )
    weights, offset = coef.T.astype(np.float32), intercept.astype(np.float32)

    def shares(x: Rows) -> Rows:
        out = np.zeros((len(x), classes.shape[1]), np.float32)
        out[:, there] = softmax(x @ weights + offset, axis=1)
        return out

    return shares


def ridge(x: Rows, y: Rows, strength: float) -> Rows:
    """Ridge regression: coefficients (D + 1, E) of y on x and 1, whose own is not shrunk."""
    mx, my = x.mean(0), y.mean(0)
    x, y = x - mx, y - my
    gram = (x.T @ x).astype(np.float64) + strength * np.eye(x.shape[1])
    coef = np.linalg.solve(gram, (x.T @ y).astype(np.float64))
    return np.concatenate([coef, (my - mx @ coef)[None]]).astype(np.float32)


def straight(x: Rows, coef: Rows) -> Rows:
    """What `ridge` says of rows x, (M, E)."""
    out: Rows = x @ coef[:-1] + coef[-1]
    return out


def _whitening(rest: Rows) -> Rows:
    cov = np.cov(rest.T.astype(np.float64))
    d = len(cov)
    cov += SHRINK * np.trace(cov) / d * np.eye(d)
    return np.linalg.cholesky(np.linalg.inv(cov)).astype(np.float32)


def measure(
    sticks: Yardsticks, one: Rows, two: Rows, classes: Rows, fold: Rows
) -> tuple[Rows, Rows]:
    """What is said of pairs of tiles.

    Args:
        one, two: (n, S, D) cells of the earlier and the later date. classes: (n, S, K) shares of
            the earlier ground, rows of 0 where unknown.
        fold: (K, L) 1 where one of these classes belongs to one that is asked for.

    Returns:
        (n, G) of the pair, and (n, L, F) of each class asked for in it, its share first.
    """
    n, s, d = two.shape
    k = classes.shape[2]
    flat = two.reshape(n * s, d)
    p1 = sticks.earlier(one.reshape(n * s, d)).reshape(n, s, k)
    p2 = sticks.later(flat).reshape(n, s, k)
    ground = np.where(classes.sum(2, keepdims=True) > 0, classes, p1)
    likely = straight(one.reshape(n * s, d), sticks.expected)  # as the later date would show it
    away = _length((flat - likely) @ sticks.residual)
    seen = likely.reshape(n, s, d)
    odd = _length((flat - straight(ground.reshape(n * s, k), sticks.usual)) @ sticks.around)
    away, odd = away.reshape(n, s), odd.reshape(n, s)
    t, s1, s2 = ground.mean(1), p1.mean(1), p2.mean(1)
    m1, m2 = seen.mean(1), two.mean(1)
    pair = np.column_stack([
        np.abs(s2 - s1).sum(1), np.abs(s2 - t).sum(1), _cosine(m1, m2),
        _cosine((seen - m1[:, None]).reshape(n, -1), (two - m2[:, None]).reshape(n, -1)),
        _levels(_cosine(seen, two)), _levels(away), _levels(odd),
        _levels(np.abs(p2 - p1).sum(2) / 2), _levels(np.abs(p2 - ground).sum(2) / 2),
    ])  # fmt: skip
    p2, base = p2 @ fold, (p1 + ground) / 2 @ fold  # (n, s, l)
    t, s1, s2 = t @ fold, s1 @ fold, s2 @ fold
    gain = np.maximum(p2 - base, 0)
    weight = np.maximum(away - np.median(away, 1, keepdims=True), 0)
    weight /= weight.sum(1, keepdims=True) + 1e-9
    each = np.stack([
        t, s1, s2, s2 - s1, s2 - t,
        np.log(s2 + FLOOR) - np.log((s1 + t) / 2 + FLOOR), np.log(gain.mean(1) + 0.02),
        np.quantile(gain, 0.75, axis=1), np.quantile(gain, 0.9, axis=1),
        np.einsum("ns,nsk->nk", weight, p2 - base),
        np.einsum("ns,nsk->nk", weight, np.log((p2 + 0.02) / (base + 0.02))),
    ], axis=2)  # fmt: skip
    return pair.astype(np.float32), each.astype(np.float32)


def _length(x: NDArray[Any]) -> NDArray[Any]:
    out: NDArray[Any] = np.sqrt(np.einsum("ij,ij->i", x, x))
    return out


def _cosine(x: Rows, y: Rows) -> Rows:
    across = np.einsum("...d,...d->...", x, y)
    out: Rows = across / np.sqrt(
        np.einsum("...d,...d->...", x, x) * np.einsum("...d,...d->...", y, y) + 1e-9
    )
    return out


def _levels(values: Rows) -> Rows:
    out: Rows = np.quantile(values, LEVELS, axis=1).T
    return out
