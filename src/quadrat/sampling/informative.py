"""Plots to train with: those from whose labels a head would learn most.

A plot is chosen for what its label would move in the model's last layer: the gradient of the loss
at the likeliest class, which is long where the model is unsure and points elsewhere where features
differ (BADGE: Ash et al. 2020, "Deep batch active learning by diverse, uncertain gradient lower
bounds"). Plots are drawn one after the other, each with a chance in the square of its distance to
the nearest one drawn before, as k-means++ draws its seeds. On the ground no two touch.

Such plots are no probability sample: nothing about areas follows from them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quadrat.errors import InputError

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

MOST = 50_000  # tiles compared: those that the model is least sure of


def choose(
    probabilities: Floats,
    n: int,
    rng: np.random.Generator,
    *,
    features: Floats | None = None,
    rows: Ints | None = None,
    cols: Ints | None = None,
) -> Ints:
    """Places of the n most informative tiles, in the order in which they were chosen.

    Args:
        probabilities: (N, K) of the classes.
        features: (N, D) of the model's last layer; without, tiles differ by probabilities alone.
        rows, cols: (N,) tile ids; without, tiles may lie side by side. Where too few are left
            that do not touch, they may touch.

    Raises:
        InputError: fewer than n tiles.
    """
    if n > len(probabilities):
        raise InputError(f"{n:,} plots to train with, of {len(probabilities):,} tiles; draw fewer")
    sure = probabilities.max(1)
    kept = np.sort(np.argsort(sure, kind="stable")[: max(MOST, n)])
    residual = -probabilities[kept].astype(np.float64)
    residual[np.arange(len(kept)), probabilities[kept].argmax(1)] += 1
    inputs = np.ones((len(kept), 1)) if features is None else standardised(features[kept])
    place = None if rows is None or cols is None else np.stack([rows[kept], cols[kept]], axis=1)
    return np.asarray(kept[_spread(residual, inputs, place, n, rng)])


def standardised(features: Floats) -> Floats:
    """Features with mean 0 and deviation 1, and a 1 for the intercept, (N, D + 1) float32."""
    x = np.asarray(features, np.float32)
    scale = x.std(0)
    x = (x - x.mean(0)) / np.where(scale > 0, scale, 1)
    return np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1)


def _spread(
    residual: Floats, inputs: Floats, place: Ints | None, n: int, rng: np.random.Generator
) -> Ints:
    """k-means++ seeds among gradients, which are the outer products of residuals and inputs.

    The product of two gradients is that of their residuals times that of their inputs, so that no
    gradient is ever written out.
    """
    length = (residual**2).sum(1) * (inputs.astype(np.float64) ** 2).sum(1)
    nearest, free = length.copy(), np.ones(len(length), bool)
    chosen: list[int] = []
    for step in range(n):
        weight = np.where(free, nearest, 0.0)
        if step == 0:
            at = int(np.where(free, length, -1).argmax())
        elif weight.sum() > 0:
            at = int(rng.choice(len(weight), p=weight / weight.sum()))
        else:
            at = _any(free, chosen, rng)
        chosen.append(at)
        alike = (residual @ residual[at]) * (inputs @ inputs[at])
        nearest = np.minimum(nearest, np.maximum(length + length[at] - 2 * alike, 0))
        free[at] = False
        if place is not None:
            free &= np.abs(place - place[at]).max(1) > 1
    return np.array(chosen, np.int64)


def _any(free: Flags, chosen: list[int], rng: np.random.Generator) -> int:
    """An unchosen tile, if possible one that touches no chosen tile."""
    left = free if free.any() else np.ones(len(free), bool)
    left[chosen] = False
    return int(rng.choice(np.flatnonzero(left)))
