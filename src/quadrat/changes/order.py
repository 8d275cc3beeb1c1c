"""The order in which tiles are listed where only scores are compared.

The posterior counts the changes. But on mixed ground it is a poor order: it trusts each date's
class, and most tiles have several. There the share of ground that a tile gained, as the scores of
both dates have it, puts more real changes first; two maps laid on each other are its coarsest form.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from quadrat.changes.question import Question

Floats = NDArray[np.float64]

DIFFER = 0.1  # of a tile, that two maps which differ are worth: no list is worse than the maps' own
TILT = 1e-3  # by how much the last of equal probabilities is lower than the first


def gain(one: Floats, two: Floats, differ: NDArray[np.bool_], question: Question) -> Floats:
    """The asked-for change that two dates' shares (N, K) speak for most, (N,).

    Of the change from i to j it is one[i] two[j] less one[j] two[i]: the way there less the way
    back. Where there are two classes it is by how much the share of the second rose.

    Args:
        differ: (N,) where the maps of the two dates differ by a change that was asked for.
    """
    there = one[:, :, None] * two[:, None, :]
    net = np.where(question.asked, there - there.transpose(0, 2, 1), -1.0)
    best: Floats = net.max((1, 2)) + DIFFER * differ
    return best


def along(ends: Floats, asked: NDArray[np.bool_], score: Floats) -> Floats:
    """Posterior transitions whose asked-for part falls with a score, no two tiles alike.

    Where that part does not fall it is pooled (isotonic regression), so that its sum stays about
    the same; a tile's other transitions make up the rest.

    Args:
        ends: (N, K, K), each summing to 1. asked: (K, K). score: (N,).
    """
    wanted = np.where(asked, ends, 0.0).sum((1, 2), dtype=np.float64)
    ranks = np.argsort(-score, kind="stable")
    steps = isotonic_regression(wanted[ranks], increasing=False).x
    falling = np.empty(len(ranks))
    falling[ranks] = tilted(steps)
    of_asked = falling / np.maximum(wanted, 1e-300)
    of_others = (1 - falling) / np.maximum(1 - wanted, 1e-300)
    factor = np.where(asked, of_asked[:, None, None], of_others[:, None, None])
    out: Floats = (ends * factor).clip(0.0, 1.0)
    return out


def tilted(steps: Floats) -> Floats:
    """Probabilities (N,) that do not rise, made to fall from each to the next."""
    out: Floats = steps * (1 - TILT * np.arange(len(steps)) / len(steps))
    return out
