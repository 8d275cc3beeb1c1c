"""Scores as arrays, one pixel a tile: folding, certainty, smoothing. Pure numpy.

It does not know files, coordinate systems or colours. Rows run south and columns east, as tiles do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat.errors import ScoresError
from quadrat.grid import TileRange

NO_TILE = 255  # class value where there is no tile
MOST_CLASSES = 255
MOST_PIXELS = 200_000_000

Ints = NDArray[np.integer[Any]]
Classes = NDArray[np.uint8]
Floats = NDArray[np.float32]


def summarise(probabilities: NDArray[Any]) -> tuple[Classes, Floats]:
    """The most likely class (N,) uint8, and the entropy in bits (N,) float32, of (N, K).

    Entropy is 0 where the model is sure and log2(K) where all classes are as likely.
    """
    if probabilities.shape[1] > MOST_CLASSES:
        raise ScoresError(
            f"a map holds at most {MOST_CLASSES} classes, not {probabilities.shape[1]}; "
            "fold them with --legend"
        )
    p = probabilities.astype(np.float64)
    logs = np.log2(p, out=np.zeros_like(p), where=p > 0)
    # the sum is never below 0, but rounding can give -0.0
    entropy = np.maximum(-(p * logs).sum(1), 0).astype(np.float32)
    return probabilities.argmax(1).astype(np.uint8), entropy


@dataclass(frozen=True)
class Frame:
    """Where tiles lie in a picture of one pixel a tile.

    Attributes:
        area: the rows and columns of the grid that the picture shows, half-open.
        at: place of each tile in the flattened picture, (N,) int64.
    """

    area: TileRange
    at: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the picture."""
        return self.area.r1 - self.area.r0, self.area.c1 - self.area.c0

    def place(self, values: NDArray[Any], empty: float) -> NDArray[Any]:
        """A picture of the tiles' values, `empty` where there is no tile."""
        out = np.full(self.shape, empty, values.dtype)
        out.ravel()[self.at] = values
        return out


def frame(rows: Ints, cols: Ints) -> Frame:
    """The smallest picture that holds the tiles.

    Raises:
        ScoresError: no tiles, a tile more than once, or tiles too far apart for one picture.
    """
    if not len(rows):
        raise ScoresError("there are no tiles to map; score some first")
    area = TileRange(int(rows.min()), int(rows.max()) + 1, int(cols.min()), int(cols.max()) + 1)
    height, width = area.r1 - area.r0, area.c1 - area.c0
    if height * width > MOST_PIXELS:
        raise ScoresError(
            f"the tiles lie {height:,} rows and {width:,} columns apart, "
            "too far for one map; map each place by itself"
        )
    at = pixels(area, rows, cols)
    twice = len(at) - len(np.unique(at))
    if twice:
        raise ScoresError(
            f"{twice:,} tiles are scored more than once (two dates in one folder?); "
            "score each date to its own folder"
        )
    return Frame(area, at)


def pixels(area: TileRange, rows: Ints, cols: Ints) -> NDArray[np.int64]:
    """Where tiles lie in the flattened picture of `area`, (N,)."""
    width = area.c1 - area.c0
    return (np.asarray(rows, np.int64) - area.r0) * width + (cols - area.c0)


def plurality(classes: Classes, k: int, centre: float) -> Classes:
    """Give each tile the class that most of its 3 x 3 surroundings have, a new array.

    Each of the eight neighbours has one vote, the tile itself `centre`. A class wins with more
    votes than every other; where it is a tie the tile stays as it is. Ground without a tile
    (NO_TILE) has no vote and stays so; the edge of the map counts as such.

    Args:
        classes: (R, C) uint8, below `k` or NO_TILE.
        centre: votes of the tile itself, 0 or more. From 8 on nothing changes.
    """
    votes = np.zeros((k, *classes.shape), np.float32)
    padded = np.pad(classes, 1, constant_values=NO_TILE)
    height, width = classes.shape
    ids = np.arange(k, dtype=np.uint8)[:, None, None]
    for dr in range(3):
        for dc in range(3):
            weight = centre if dr == dc == 1 else 1.0
            votes += (padded[dr : dr + height, dc : dc + width] == ids) * np.float32(weight)
    best = votes.max(0)
    winner = votes.argmax(0).astype(np.uint8)
    alone = (votes == best).sum(0) == 1
    return np.where(alone & (classes != NO_TILE), winner, classes)
