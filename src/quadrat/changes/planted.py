"""Pairs of dates that are known to have changed, made from the county's own later date.

No one knows which tiles changed. But ground of the later date can be put into another tile of the
later date: then the earlier and the later picture of that tile differ by a known change, under the
county's own season, sun and camera. What was put in are cells, so no picture is computed anew.

    pasted    a rectangle of another tile's cells: what its classes say was gained there
    swapped   cells of another tile that has the same class in the same place: other ground, and
              no change; the hardest thing to tell from one
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
Ints = NDArray[np.int64]

WHOLE = 0.4  # share of the pasted pairs that are pasted all over
DONORS = 20  # tiles that are tried, of which one's cells are swapped in
MIN_SWAPPED = 0.3  # share of a tile's cells that must be swapped
NARROW = 3  # cells along the shortest side of a rectangle


@dataclass(frozen=True)
class Planted:
    """Planted pairs.

    Attributes:
        at: (n,) the tile in which it was planted, among those given.
        cells: (n, S, D) its cells on the later date.
        gained: (n, K) share of the tile that each class gained.
    """

    at: Ints
    cells: Rows
    gained: Rows


def pasted(cells: Rows, classes: Rows, count: int, rng: np.random.Generator) -> Planted:
    """Tiles into which a rectangle of another tile's cells was pasted.

    Args:
        cells: (N, S, D) of the later date, S a square. classes: (N, S, K).
    """
    n, s, _ = cells.shape
    side = round(s**0.5)
    at, donor = rng.integers(n, size=count), rng.integers(n, size=count)
    narrow = min(NARROW, side)
    height, width = (rng.integers(narrow, side + 1, count) for _ in range(2))
    whole = rng.random(count) < WHOLE
    height[whole] = width[whole] = side
    top, left = (np.floor(rng.random(count) * (side + 1 - x)) for x in (height, width))
    line = np.arange(side)
    down = (line >= top[:, None]) & (line < (top + height)[:, None])
    along = (line >= left[:, None]) & (line < (left + width)[:, None])
    inside = (down[:, :, None] & along[:, None, :]).reshape(count, s, 1)
    # only ground whose class is known on both sides tells what was gained
    known = (classes.sum(2) > 0).all(1)
    keep = known[at] & known[donor]
    at, donor, inside = at[keep], donor[keep], inside[keep]
    made = np.where(inside, cells[donor], cells[at])
    gained = (np.where(inside, classes[donor], classes[at]) - classes[at]).mean(1)
    return Planted(at, made, gained)


def swapped(cells: Rows, classes: Rows, count: int, rng: np.random.Generator) -> Planted:
    """Tiles whose cells are those of another tile, wherever that has the same class.

    Every tile is as likely as any other to be one, whatever its mixture of classes: of `DONORS`
    tiles the one is taken that serves most cells.

    Args:
        cells, classes: as for `pasted`.
    """
    n = len(cells)
    main = np.where(classes.sum(2) > 0, classes.argmax(2), -1)  # (N, S)
    at = np.resize(rng.permutation(n), count)
    donor, most = at.copy(), np.zeros(count)
    for _ in range(DONORS):
        tried = rng.integers(n, size=count)
        serves = ((main[at] == main[tried]) & (main[at] >= 0)).mean(1)
        better = (serves > most) & (tried != at)
        donor[better], most[better] = tried[better], serves[better]
    keep = most > MIN_SWAPPED
    at, donor = at[keep], donor[keep]
    same = (main[at] == main[donor]) & (main[at] >= 0)
    made = np.where(same[:, :, None], cells[donor], cells[at])
    return Planted(at, made, np.zeros((len(at), classes.shape[2]), np.float32))
