"""What really changes in the synthetic county between its dates: which tiles, to what, how much.

A third of the events cover whole tiles, in clumps of one to four; a third a half to nine tenths of
one tile; a third a seventh to two fifths of one. Parts are taken from one side of the tile, as
estates are. It does not know zones, colours or files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat.county.classes import (
    BARREN,
    CULTIVATED,
    DEVELOPED,
    FOREST,
    HERBACEOUS,
    SHRUB,
    WATER,
)

I32 = NDArray[np.int32]
Ints = NDArray[np.integer[Any]]
# Shares of the tile that an event of each sort takes.
WHOLE, PART, SMALL = (1.0, 1.0), (0.5, 0.9), (0.15, 0.4)
LATTICE = 9  # tiles: one event in each square of so many
# What a class can turn to, with cumulated odds.
TURNS: dict[int, tuple[tuple[float, int], ...]] = {
    BARREN: ((1.0, DEVELOPED),),
    CULTIVATED: ((0.85, DEVELOPED), (1.0, HERBACEOUS)),
    FOREST: ((0.65, DEVELOPED), (1.0, HERBACEOUS)),
    HERBACEOUS: ((0.8, DEVELOPED), (0.9, SHRUB), (1.0, CULTIVATED)),
    SHRUB: ((0.8, DEVELOPED), (1.0, BARREN)),
}


@dataclass(frozen=True)
class Events:
    """The events of a county; each array is (rows, cols).

    Attributes:
        tile_m: side of a tile in metres.
        new_class: the class that the tile's ground turns to; -1 as it was. int8.
        since: the date from which on, int8.
        depth: metres of the tile that turn, counted from `side`, int16.
        side: 0 west, 1 east, 2 north, 3 south, int8.
    """

    tile_m: int
    new_class: NDArray[np.int8]
    since: NDArray[np.int8]
    depth: NDArray[np.int16]
    side: NDArray[np.int8]


def none(rows: int, cols: int, tile_m: int) -> Events:
    """No event at all."""
    shape = (rows, cols)
    return Events(
        tile_m, np.full(shape, -1, np.int8), np.full(shape, 127, np.int8),
        np.full(shape, tile_m, np.int16), np.zeros(shape, np.int8),
    )  # fmt: skip


def choose(
    blank: Events, dates: int, class_at: Callable[[I32, I32], Any], rng: np.random.Generator
) -> Events:
    """Events for about one tile in fifty.

    Args:
        blank: of the county's shape; filled and returned.
        class_at: (x, y) in metres -> classes before any change.
    """
    rows, cols = blank.new_class.shape
    for r0 in range(0, rows, LATTICE):
        for c0 in range(0, cols, LATTICE):
            height, width = (int(n) for n in rng.choice([1, 1, 2], size=2))
            rs = rng.integers(r0, r0 + LATTICE, size=40)
            cs = rng.integers(c0, c0 + LATTICE, size=40)
            pick, since = float(rng.random()), int(rng.integers(1, dates))
            part = rng.uniform(*(WHOLE, PART, SMALL)[rng.integers(3)])
            side = int(rng.integers(4))
            if part < 1:
                height = width = 1
            inside = np.flatnonzero((rs + height <= rows) & (cs + width <= cols))
            old = _main_class(class_at, rs[inside], cs[inside], (height, width), blank.tile_m)
            able = np.flatnonzero(old >= 0)
            if not len(able):
                continue
            r, c = int(rs[inside[able[0]]]), int(cs[inside[able[0]]])
            box = np.s_[r : r + height, c : c + width]
            turns = TURNS[int(old[able[0]])]
            blank.new_class[box] = next(new for odds, new in turns if pick <= odds)
            blank.since[box] = since
            blank.depth[box] = round(part * blank.tile_m)
            blank.side[box] = side
    return blank


def _main_class(
    class_at: Callable[[I32, I32], Any], rs: Ints, cs: Ints, shape: tuple[int, int], tile_m: int
) -> NDArray[np.int64]:
    """The main class of the clump of tiles at each place, (n,) int64.

    -1 where no class that can change covers most of it, or a tenth of it is Developed already.
    """
    dy = np.arange(4, shape[0] * tile_m, 20)[:, None]
    dx = np.arange(4, shape[1] * tile_m, 20)[None, :]
    y, x = np.broadcast_arrays(
        (rs * tile_m).reshape(-1, 1, 1) + dy, (cs * tile_m).reshape(-1, 1, 1) + dx
    )
    cls = class_at(x.astype(np.int32), y.astype(np.int32)).reshape(len(rs), dy.size * dx.size)
    main = cls[:, cls.shape[1] // 2].astype(np.int64)
    most = (cls == main[:, None]).mean(1) > 0.6
    free = (cls == DEVELOPED).mean(1) < 0.1
    return np.where(most & free & np.isin(main, list(TURNS)), main, -1)


def turn(events: Events, cls: NDArray[np.uint8], x: I32, y: I32, date: int) -> None:
    """Turn the classes at positions where an event has happened by `date` (changes `cls`)."""
    rows, cols = events.new_class.shape
    tile = np.int32(events.tile_m)
    col, row = x // tile, y // tile
    inside = (row >= 0) & (row < rows) & (col >= 0) & (col < cols)
    k = np.where(inside, row * np.int32(cols) + col, 0)
    new = np.where(
        inside & (events.since.ravel().take(k) <= date), events.new_class.ravel().take(k), -1
    )
    tx, ty = x - col * tile, y - row * tile
    ways = (tx, tile - 1 - tx, ty, tile - 1 - ty)
    reached = np.choose(events.side.ravel().take(k), ways)
    on = (new >= 0) & (cls != WATER) & (reached < events.depth.ravel().take(k))
    cls[on] = new[on].astype(np.uint8)
