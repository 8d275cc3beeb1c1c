"""Which tiles are drawn: at random, at even steps, at random in each stratum, or whole blocks.

Every tile has a known inclusion probability above 0. Plots are numbered in an order that is random
over the whole sample, so that any first part of a stratum's plots is a random sample of it, and so
that the order tells an interpreter nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quadrat.errors import InputError
from quadrat.sampling.frame import SamplingFrame, blocks
from quadrat.sampling.strata import Strata

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Drawn:
    """Places of the frame that are drawn, in the order of drawing, those in reserve last.

    Attributes:
        places: (n,) where they are in the frame.
        reserve: (n,) whether a plot stands in for one that cannot be observed.
        counts: (H,) plots of each stratum without reserve.
        probability: (n,) inclusion probability, without reserve.
    """

    places: Ints
    reserve: Flags
    counts: Ints
    probability: Floats


def at_random(strata: Strata, counts: Ints, reserve: Ints, rng: np.random.Generator) -> Drawn:
    """A simple random sample of each stratum, without replacement."""
    main, spare = [], []
    for h, (n, more) in enumerate(zip(counts.tolist(), reserve.tolist(), strict=True)):
        inside = np.flatnonzero(strata.of == h)
        taken = rng.permutation(len(inside))[: n + more]
        main.append(inside[taken[:n]])
        spare.append(inside[taken[n:]])
    first, last = (rng.permutation(np.concatenate(p)) for p in (main, spare))
    return _drawn(first, last, strata, counts)


def _drawn(first: Ints, last: Ints, strata: Strata, counts: Ints) -> Drawn:
    places = np.concatenate([first, last]).astype(np.int64)
    probability = (counts / np.maximum(strata.sizes, 1))[strata.of[places]]
    return Drawn(places, np.arange(len(places)) >= len(first), counts, probability)


def path(rows: Ints, cols: Ints, seed: int = 0) -> Ints:
    """The tiles' places along a Hilbert curve, (N,): neighbours on it are neighbours on the ground.

    D. Hilbert 1891; the steps are those of the usual bitwise walk.

    Args:
        seed: of where the curve lies and how it is turned.
    """
    y, x = rows - rows.min(), cols - cols.min()
    length = int(max(y.max(), x.max())) + 1
    shift = np.random.default_rng([seed, 1891]).integers(0, [length, length, 2])
    y, x = y + shift[0], x + shift[1]
    y, x = (x, y) if shift[2] else (y, x)
    bits = max(1, int(max(y.max(), x.max())).bit_length())
    key = np.zeros(len(rows), np.int64)
    x, y = x.copy(), y.copy()
    for level in range(bits - 1, -1, -1):
        side = np.int64(1) << level
        right, down = (x & side) > 0, (y & side) > 0
        key += side * side * np.where(right, np.where(down, 2, 3), np.where(down, 1, 0))
        turn = ~down
        flip = turn & right
        x, y = (
            np.where(flip, side - 1 - (x & (side - 1)), x & (side - 1)),
            np.where(flip, side - 1 - (y & (side - 1)), y & (side - 1)),
        )
        x, y = np.where(turn, y, x), np.where(turn, x, y)
    return np.argsort(key, kind="stable").astype(np.int64)


def systematic(
    frame: SamplingFrame, strata: Strata, counts: Ints, reserve: Ints, seed: int
) -> Drawn:
    """Every k-th tile along a path through the ground, from a random start, in each stratum.

    Plots in reserve are drawn at random from the other tiles.
    """
    rng, way = np.random.default_rng(seed), path(frame.rows, frame.cols, seed)
    main, spare = [], []
    for h, (n, more) in enumerate(zip(counts.tolist(), reserve.tolist(), strict=True)):
        inside = way[strata.of[way] == h]
        step = len(inside) / max(n, 1)
        at = np.floor((np.arange(n) + rng.random()) * step).astype(np.int64)
        at = np.minimum(at, len(inside) - 1)
        main.append(inside[at])
        rest = np.delete(inside, at)
        spare.append(rng.permutation(rest)[:more])
    first, last = (rng.permutation(np.concatenate(p)) for p in (main, spare))
    return _drawn(first, last, strata, counts)


def clusters(frame: SamplingFrame, side: int, n: int, rng: np.random.Generator) -> Drawn:
    """Whole blocks of `side` x `side` tiles, drawn at random, until they hold `n` plots.

    Raises:
        InputError: fewer than two blocks are drawn, or fewer than three exist.
    """
    of = blocks(frame, side)
    number = int(of.max()) + 1
    wanted = round(n * number / len(frame))
    if wanted < 2 or number < 3:
        raise InputError(
            f"{n} plots are {max(wanted, 0)} blocks of {side} x {side} tiles, which says nothing "
            "about the spread between blocks; use a smaller --cluster or more --plots"
        )
    chosen = rng.permutation(number)[:wanted]
    inside = np.flatnonzero(np.isin(of, chosen))
    first = rng.permutation(inside)
    return Drawn(
        first.astype(np.int64), np.zeros(len(first), np.bool_),
        np.array([len(first)], np.int64), np.full(len(first), wanted / number),
    )  # fmt: skip
