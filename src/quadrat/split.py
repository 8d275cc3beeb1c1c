"""Train, validation and test tiles that do not leak, and the audit that shows it.

Neighbouring tiles look alike, so a random split measures memory, not skill. Here whole groups (a
county, a file, a field's value) or whole spatial blocks go to one split, and training tiles within
`buffer` tiles of a held-out tile are left out. Tiles without a label go with their block or source:
what is said of held-out ground is said of all of it. It knows tile ids and labels, not pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from quadrat import choices
from quadrat.errors import SplitError
from quadrat.records import Record

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST, NONE = 0, 1, 2, -1
TRIES = 64  # seeded draws of blocks, of which the best balanced is kept

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Split(Record):
    """How to split.

    Attributes:
        method: `block` (squares of `block` x `block` tiles), `source` (groups), or `random`
            (tile by tile: leaks, for comparison only).
        buffer: training tiles nearer than this many tiles to a held-out tile are left out.
        validation, test: shares of the tiles, 0 to 1.
    """

    method: str = "block"
    validation: float = 0.2
    test: float = 0.0
    block: int = 8
    buffer: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        choices.check("split", self.method, choices.SPLITS, SplitError)
        if min(self.validation, self.test) < 0 or self.validation + self.test >= 1:
            raise SplitError(
                f"validation {self.validation} and test {self.test} leave no training tiles; "
                "their sum must be below 1"
            )
        if self.block < 1 or self.buffer < 0:
            raise SplitError(
                f"block {self.block} must be 1 or more, buffer {self.buffer} 0 or more"
            )


@dataclass(frozen=True)
class Audit(Record):
    """What was checked of a split: no held-out tile may touch or neighbour a training tile.

    Attributes:
        tiles: tiles in each split.
        left_out: tiles in none, because they lie in the buffer; of pictures, labelled ones.
        held_out: validation and test tiles with a place.
        touching: of those, how many are, touch or neighbour (8 neighbours) a training tile.
        classes: labelled tiles of each class in each split.
        checked: False for pictures without a place, where neighbours cannot be known.
    """

    computed = ("share",)

    tiles: Mapping[str, int]
    left_out: int
    held_out: int
    touching: int
    classes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    checked: bool = True

    @property
    def share(self) -> float:
        """Share of held-out tiles that touch or neighbour a training tile; 0 is right."""
        return self.touching / self.held_out if self.held_out else 0.0

    def __str__(self) -> str:
        sizes = ", ".join(f"{n} {s}" for s, n in self.tiles.items() if n)
        if not self.checked:
            return f"split: {sizes}; places are unknown, so neighbours cannot be checked"
        return (
            f"split: {sizes}; {self.left_out} left out as buffer; {self.touching} of "
            f"{self.held_out} held-out tiles ({self.share:.1%}) touch or neighbour a training tile"
        )


def assign(
    split: Split,
    rows: Ints | None,
    cols: Ints | None,
    *,
    groups: Sequence[str] | None = None,
    labels: Ints | None = None,
) -> NDArray[np.int8]:
    """The split of every tile: 0 train, 1 validation, 2 test, -1 none (buffer); `(N,) int8`.

    Args:
        rows, cols: `(N,)` tile ids; None for pictures without a place.
        groups: each tile's source, for the method `source`.
        labels: `(N,)` class ids, -1 for none; used to give every split its share of the labelled
            tiles, and every class where it can.
    """
    if split.method == "source":
        if groups is None:
            raise SplitError("a split by source needs each tile's source")
        unit = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)[1]
    elif split.method == "block":
        if rows is None or cols is None:
            raise SplitError(
                "a split by block needs places, and these pictures have none; "
                "use --split source or random"
            )
        unit = blocks(rows, cols, split.block)
    else:
        n = len(rows) if rows is not None else len(groups or ())
        unit = np.arange(n)
    result = _draw(unit, split, labels, stratify=split.method == "random")
    if rows is not None and cols is not None and split.buffer and split.method != "random":
        near = _near(rows, cols, result > TRAIN, split.buffer)
        result[(result == TRAIN) & near] = NONE
        if split.test:  # test tiles must not neighbour validation tiles either
            near = _near(rows, cols, result == TEST, split.buffer)
            result[(result == VALIDATION) & near] = NONE
    return result


def blocks(rows: Ints, cols: Ints, size: int) -> Ints:
    """The number of each tile's spatial block, from 0; blocks are anchored at the grid's origin."""
    r, c = np.floor_divide(rows, size), np.floor_divide(cols, size)
    pair = np.stack([r, c], axis=1)
    return np.unique(pair, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _draw(unit: Ints, split: Split, labels: Ints | None, stratify: bool) -> NDArray[np.int8]:
    """Give whole units to splits at random, keeping of several draws the one that fits best."""
    n_units = int(unit.max()) + 1 if len(unit) else 0
    held = (1 if split.validation else 0) + (1 if split.test else 0)
    if n_units < held + 1:
        raise SplitError(
            f"{n_units} {'source' if split.method == 'source' else 'block'}(s) cannot be split in "
            f"{held + 1}; use smaller blocks (--block) or more sources"
        )
    k = int(labels.max()) + 1 if labels is not None and len(labels) else 0
    # tiles of each class in each unit; column 0 counts the labelled ones, or all without labels
    table = np.zeros((n_units, k + 1))
    known = labels >= 0 if labels is not None and k else np.ones(len(unit), np.bool_)
    np.add.at(table[:, 0], unit[known], 1)
    if labels is not None and k:
        np.add.at(table, (unit[known], labels[known] + 1), 1)
    rng = np.random.default_rng(split.seed)
    if stratify:
        return _stratified(
            labels if labels is not None else np.zeros(len(unit), np.int64), split, rng
        )
    best, best_cost = np.zeros(n_units, np.int8), np.inf
    for _ in range(TRIES if n_units <= 20_000 else 4):
        drawn = _fill(rng.permutation(n_units), table[:, 0], split)
        cost = _cost(drawn, table, split)
        if cost < best_cost:
            best, best_cost = drawn, cost
    return best[unit]


def _fill(order: Ints, sizes: NDArray[np.float64], split: Split) -> NDArray[np.int8]:
    """Units in the order given: first to test, then to validation, until each has its share."""
    drawn = np.zeros(len(order), np.int8)
    total, start = sizes.sum(), 0
    reserve = len(order) - 1  # one unit stays for training whatever the shares
    for which, share in ((TEST, split.test), (VALIDATION, split.validation)):
        if not share:
            continue
        gone = np.cumsum(sizes[order[start:]])
        take = min(int(np.searchsorted(gone, share * total)) + 1, max(1, reserve - start))
        if take > 1 and abs(gone[take - 2] - share * total) < abs(gone[take - 1] - share * total):
            take -= 1
        drawn[order[start : start + take]] = which
        start += take
    return drawn


def _cost(drawn: NDArray[np.int8], table: NDArray[np.float64], split: Split) -> float:
    """How far the held-out shares are from those wanted, of all tiles and of every class."""
    total = np.maximum(table.sum(axis=0), 1)
    cost = 0.0
    for which, share in ((VALIDATION, split.validation), (TEST, split.test)):
        if share:
            got = table[drawn == which].sum(axis=0) / total
            cost += float(np.square(got - share).sum())
            cost += float(((got == 0) & (table.sum(axis=0) > 0)).sum())  # a class is missing
    left = table[drawn == TRAIN].sum(axis=0)
    return cost + float(((left == 0) & (table.sum(axis=0) > 0)).sum())


def _stratified(labels: Ints, split: Split, rng: np.random.Generator) -> NDArray[np.int8]:
    result = np.zeros(len(labels), np.int8)
    for value in np.unique(labels):
        mine = rng.permutation(np.flatnonzero(labels == value))
        a = round(split.test * len(mine))
        b = a + round(split.validation * len(mine))
        result[mine[:a]], result[mine[a:b]] = TEST, VALIDATION
    return result


def _near(rows: Ints, cols: Ints, of: NDArray[np.bool_], distance: int) -> NDArray[np.bool_]:
    """Which tiles lie within `distance` tiles (in rows and columns) of a tile marked in `of`."""
    if not of.any():
        return np.zeros(len(rows), np.bool_)
    r0, c0 = int(rows.min()), int(cols.min())
    width = int(cols.max()) - c0 + 1 + 2 * distance
    key = (rows - r0 + distance) * width + (cols - c0 + distance)
    marked = np.unique(key[of])
    near = np.zeros(len(rows), np.bool_)
    for dr in range(-distance, distance + 1):
        for dc in range(-distance, distance + 1):
            near |= np.isin(key + dr * width + dc, marked, assume_unique=False)
    return near


def audit(
    splits: NDArray[np.int8],
    rows: Ints | None,
    cols: Ints | None,
    *,
    labels: Ints | None = None,
    names: Sequence[str] = (),
) -> Audit:
    """Count, independently of how the split was made, held-out tiles that touch training tiles."""
    tiles = {s: int((splits == i).sum()) for i, s in enumerate(SPLITS)}
    held = splits > TRAIN
    classes: dict[str, dict[str, int]] = {}
    if labels is not None:
        for i, s in enumerate(SPLITS):
            counts = np.bincount(labels[(splits == i) & (labels >= 0)], minlength=len(names))
            classes[s] = {n: int(c) for n, c in zip(names, counts, strict=True)}
    placed = rows is not None and cols is not None
    touching = 0
    if rows is not None and cols is not None:
        touching = int((_near(rows, cols, splits == TRAIN, 1) & held).sum())
    none = splits == NONE
    left_out = none if placed or labels is None else none & (labels >= 0)
    return Audit(tiles, int(left_out.sum()), int(held.sum()), touching, classes, checked=placed)


def balance(
    labels: Ints, seed: int = 0, among: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Which tiles to keep so that every class has as many as the rarest: random removal, seeded.

    Args:
        labels: `(N,)` class ids; -1 tiles are dropped.
        among: `(N,) bool`, the tiles to choose from; the others are dropped.
    """
    keep = np.zeros(len(labels), np.bool_)
    usable = labels >= 0 if among is None else (labels >= 0) & among
    values, counts = np.unique(labels[usable], return_counts=True)
    if not len(values):
        return keep
    rng = np.random.default_rng(seed)
    for value in values:
        mine = np.flatnonzero(usable & (labels == value))
        keep[rng.permutation(mine)[: counts.min()]] = True
    return keep
