"""Which tiles train a head, which validate it, and in what groups they are held out.

All tiles whose shares are known train or validate, mixed ones too, whatever rule labelled them.
Knows shares, labels, splits and places; no features and no heads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import split as splits
from quadrat.errors import SplitError, TrainError
from quadrat.labels import main_classes
from quadrat.legend import Legend
from quadrat.tiles import targets

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

HELD_OUT = 0.2  # share that is held out where a source has no validation tiles
FOLDS = 5
BLOCK = 8  # tiles along a side of the blocks that are held out whole
MASKED = "masked"  # name of the column for ground without a class


@dataclass(frozen=True)
class Samples:
    """Tiles sorted into their uses.

    Attributes:
        y: (N,) main classes; K where most ground has no class in the legend, -1 for none.
        shares: (N, K) class shares, NaN where they are unknown; a row sums to less than 1 where
            ground has no class.
        masks: whether the training tiles show ground without a class: one more column is then
            learned, and tiles that are mostly such ground are masked.
        train, validation: positions in the index.
        blocks: (N,) spatial blocks; None for pictures without a place.
        held_out: how validation tiles came about: `source` (the source's own split), `block` or
            `random` (held out here).
        warnings: a sentence each.
    """

    y: Ints
    shares: Floats
    masks: bool
    train: Ints
    validation: Ints
    blocks: Ints | None
    held_out: str
    warnings: tuple[str, ...]

    @property
    def columns(self) -> int:
        """What is learned: K, or K + 1 where there is ground without a class."""
        return int(self.shares.shape[1]) + int(self.masks)

    def targets(self, where: Ints) -> Floats:
        """Shares of some tiles as they are learned, (n, columns); rows sum to 1."""
        rows = self.shares[where]
        if self.masks:
            rest = np.clip(1 - rows.sum(axis=1, keepdims=True), 0.0, 1.0)
            rows = np.concatenate([rows, rest], axis=1)
        whole: Floats = rows / np.maximum(rows.sum(axis=1, keepdims=True), 1e-9)
        return whole

    def main(self, where: Ints) -> Ints:
        """Main classes of some tiles, -1 for those that cannot be learned or have none."""
        classes: Ints = np.where(self.y[where] < self.columns, self.y[where], -1)
        return classes

    def names(self, legend: Legend) -> tuple[str, ...]:
        """What is learned, in words."""
        return (*legend.names, MASKED) if self.masks else legend.names

    def counts(self, legend: Legend) -> dict[str, dict[str, int]]:
        """Tiles of each main class in training and validation, and of none where there are such."""
        words, counted = (*legend.names, MASKED, "no main class"), {}
        for name, where in (("train", self.train), ("validation", self.validation)):
            ids = np.where(self.y[where] < 0, len(legend) + 1, self.y[where])
            counts = np.bincount(ids, minlength=len(words)).tolist()
            kept = [(c, n) for c, n in zip(words, counts, strict=True) if n or c in legend.names]
            counted[name] = dict(kept)
        return counted


def sort(index: pa.Table, legend: Legend, where: str, seed: int = 0) -> Samples:
    """Sort the tiles of an index.

    Tiles of the split `train` train; those of `validation` validate and do nothing else. A source
    without splits has a fifth of its tiles held out to validate: whole blocks of ground with a
    buffer where the tiles have places, else tile by tile, each class alike. A source with `train`
    tiles alone is treated the same.

    Args:
        index: columns `label`, `split`, `row`, `col`, and shares where there are (see
            `tiles.targets`).
        where: what to call the source in messages.

    Raises:
        TrainError: no labels, labels that the legend lacks, no training tiles, training tiles of
            one class only.
    """
    check_labels(index, legend, where)
    shares = targets.shares(index, legend.names)
    y = main_classes(shares)
    word = np.array(index["split"].to_pylist(), dtype=object).astype(str)
    known = ~np.isnan(shares).any(axis=1)
    if not known.any():
        raise TrainError(f"no tile of {where} has a label; cut it with --labels, or label folders")
    has_splits = (word != "None").any()
    usable = known & (word == "train") if has_splits else known
    train = np.flatnonzero(usable)
    validation = np.flatnonzero(known & (word == "validation"))
    if not len(train):
        raise TrainError(f"no tile of {where} is in the split `train`; split it again")
    rows, cols, blocks = places(index)
    held_out, warnings = "source", []
    if not len(validation):
        train, validation, held_out = _hold_out(train, y, rows, cols, seed)
        said = "blocks of ground" if held_out == "block" else "tiles at random"
        warnings.append(
            f"{where} has no validation tiles: a fifth of the training tiles ({len(validation)}, "
            f"{said}) were held out and trained nothing"
        )
    masks = bool((y[train] == len(legend)).any())
    samples = Samples(y, shares, masks, train, validation, blocks, held_out, ())
    return replace(samples, warnings=(*warnings, *_classes(samples, legend, where)))


def check_labels(index: pa.Table, legend: Legend, where: str) -> None:
    """TrainError for a label that the legend lacks."""
    strange = sorted(set(index["label"].unique().to_pylist()) - {None, *legend.names})
    if strange:
        raise TrainError(
            f"{where} has tiles labelled {strange[0]!r}, which is no class of legend {legend.name}"
        )


def places(index: pa.Table) -> tuple[Ints | None, Ints | None, Ints | None]:
    """Rows, columns and block numbers of tiles; None where one has no place."""
    if index["row"].null_count or index["col"].null_count:
        return None, None, None
    rows = index["row"].to_numpy().astype(np.int64)
    cols = index["col"].to_numpy().astype(np.int64)
    return rows, cols, splits.blocks(rows, cols, BLOCK)


def _hold_out(
    train: Ints, y: Ints, rows: Ints | None, cols: Ints | None, seed: int
) -> tuple[Ints, Ints, str]:
    blocked = None
    method = "random"
    if rows is not None and cols is not None:
        try:
            how = splits.Split("block", validation=HELD_OUT, block=BLOCK, seed=seed)
            blocked = splits.assign(how, rows[train], cols[train], labels=y[train])
            method = "block"
        except SplitError:  # too few blocks: then tile by tile, which the result says
            blocked = None
    if blocked is None:
        how = splits.Split("random", validation=HELD_OUT, seed=seed)
        zero = np.zeros(len(train), np.int64)
        blocked = splits.assign(how, zero, zero, labels=y[train])
    return train[blocked == splits.TRAIN], train[blocked == splits.VALIDATION], method


def _classes(samples: Samples, legend: Legend, where: str) -> list[str]:
    """Warnings about the classes; TrainError where nothing can be learned."""
    k, train = len(legend), samples.train
    in_train = samples.shares[train].sum(axis=0)
    held = samples.y[samples.validation]
    in_validation = np.bincount(held[held >= 0], minlength=k)[:k]
    present = np.flatnonzero(in_train)
    if len(present) + samples.masks < 2:
        only = legend.names[present[0]] if len(present) else "no class"
        raise TrainError(
            f"all {len(train)} training tiles of {where} are {only}; training needs at least two "
            "classes"
        )
    said = []
    empty = [legend.names[i] for i in np.flatnonzero((in_train == 0) & (in_validation == 0))]
    if empty:
        said.append(f"no tile is {', '.join(empty)}: the model never gives such a class")
    unseen = [legend.names[i] for i in np.flatnonzero((in_train == 0) & (in_validation > 0))]
    if unseen:
        said.append(
            f"{', '.join(unseen)} is among the validation tiles only: the model never gives it and "
            "its tiles count as wrong"
        )
    masked = int((samples.y[train] == k).sum())
    if masked:
        said.append(
            f"{masked} training tiles are mostly ground that legend {legend.name} has no class for "
            "(water): such tiles are masked, not mapped"
        )
    elif (held == k).any():
        said.append(
            f"ground that legend {legend.name} has no class for is among the validation tiles "
            "only: it is mapped as the class that it looks most like, and counts as wrong"
        )
    if not len(samples.validation):
        said.append("there are no validation tiles: nothing is known of the accuracy")
    return said


def folds(samples: Samples, seed: int = 0) -> tuple[Ints, str]:
    """A fold, 0 to FOLDS - 1, for each training tile; tiles of one block share theirs.

    Returns:
        (len(train),) folds, and what was kept together: `block` or `tile`.
    """
    rng = np.random.default_rng(seed)
    y = samples.y[samples.train]
    if samples.blocks is not None:
        block = np.unique(samples.blocks[samples.train], return_inverse=True)[1].reshape(-1)
        sizes = np.bincount(block)
        if len(sizes) >= 2 * FOLDS:
            fold = np.empty(len(sizes), np.int64)
            filled = np.zeros(FOLDS)
            order = rng.permutation(len(sizes))
            for unit in order[np.argsort(-sizes[order], kind="stable")]:  # largest first
                fold[unit] = filled.argmin()
                filled[fold[unit]] += sizes[unit]
            return fold[block], "block"
    result = np.empty(len(y), np.int64)
    for value in np.unique(y):  # those without a main class, too
        mine = rng.permutation(np.flatnonzero(y == value))
        result[mine] = (np.arange(len(mine)) + rng.integers(FOLDS)) % FOLDS
    return result, "tile"
