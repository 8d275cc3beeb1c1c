"""Which tiles train a head, which validate it, and in what groups they are held out.

Knows labels, splits and places; no features and no heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import split as splits
from quadrat.errors import SplitError, TrainError
from quadrat.legend import Legend

Ints = NDArray[np.int64]

HELD_OUT = 0.2  # share that is held out where a source has no validation tiles
FOLDS = 5
BLOCK = 8  # tiles along a side of the blocks that are held out whole


@dataclass(frozen=True)
class Samples:
    """Labelled tiles, sorted into their uses.

    Attributes:
        y: (N,) class ids; -1 for none.
        train, validation: positions in the index.
        blocks: (N,) spatial blocks; None for pictures without a place.
        held_out: how validation tiles came about: `source` (the source's own split), `block` or
            `random` (held out here).
        warnings: a sentence each.
    """

    y: Ints
    train: Ints
    validation: Ints
    blocks: Ints | None
    held_out: str
    warnings: tuple[str, ...]

    def counts(self, legend: Legend) -> dict[str, dict[str, int]]:
        """Tiles of each class in training and validation."""
        k = len(legend)
        found = {}
        for name, where in (("train", self.train), ("validation", self.validation)):
            counts = np.bincount(self.y[where], minlength=k)
            found[name] = {c: int(n) for c, n in zip(legend.names, counts, strict=True)}
        return found


def sort(index: pa.Table, legend: Legend, where: str, seed: int = 0) -> Samples:
    """Sort the tiles of an index.

    Tiles of the split `train` train; those of `validation` validate and do nothing else. A source
    without splits has a fifth of its tiles held out to validate: whole blocks of ground with a
    buffer where the tiles have places, else tile by tile, each class alike. A source with `train`
    tiles alone is treated the same.

    Args:
        index: columns `label`, `split`, `row`, `col`.
        where: what to call the source in messages.

    Raises:
        TrainError: no labels, labels that the legend lacks, no training tiles, training tiles of
            one class only.
    """
    y = class_ids(index, legend, where)
    word = np.array(index["split"].to_pylist(), dtype=object).astype(str)
    labelled = y >= 0
    if not labelled.any():
        raise TrainError(f"no tile of {where} has a label; cut it with --labels, or label folders")
    has_splits = (word != "None").any()
    usable = labelled & (word == "train") if has_splits else labelled
    train = np.flatnonzero(usable)
    validation = np.flatnonzero(labelled & (word == "validation"))
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
    warnings.extend(_classes(y, train, validation, legend, where))
    return Samples(y, train, validation, blocks, held_out, tuple(warnings))


def class_ids(index: pa.Table, legend: Legend, where: str) -> Ints:
    """Class ids of an index's labels, (N,); TrainError for a label that the legend lacks."""
    labels = index["label"].combine_chunks()
    words = labels.dictionary_encode() if not pa.types.is_dictionary(labels.type) else labels
    known = {name: i for i, name in enumerate(legend.names)}
    names = words.dictionary.to_pylist()
    strange = sorted(n for n in names if n not in known)
    if strange:
        raise TrainError(
            f"{where} has tiles labelled {strange[0]!r}, which is no class of legend {legend.name}"
        )
    ids = np.array([known[n] for n in names] + [-1], np.int64)
    codes = words.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)
    result: Ints = ids[codes.astype(np.int64)]
    return result


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
    found = None
    method = "random"
    if rows is not None and cols is not None:
        try:
            how = splits.Split("block", validation=HELD_OUT, block=BLOCK, seed=seed)
            found = splits.assign(how, rows[train], cols[train], labels=y[train])
            method = "block"
        except SplitError:  # too few blocks: then tile by tile, which the result says
            found = None
    if found is None:
        how = splits.Split("random", validation=HELD_OUT, seed=seed)
        zero = np.zeros(len(train), np.int64)
        found = splits.assign(how, zero, zero, labels=y[train])
    return train[found == splits.TRAIN], train[found == splits.VALIDATION], method


def _classes(y: Ints, train: Ints, validation: Ints, legend: Legend, where: str) -> list[str]:
    """What is odd about the classes; TrainError where nothing can be learned."""
    in_train = np.bincount(y[train], minlength=len(legend))
    in_validation = np.bincount(y[validation], minlength=len(legend))
    present = np.flatnonzero(in_train)
    if len(present) < 2:
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
    if not len(validation):
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
    for value in np.unique(y):
        mine = rng.permutation(np.flatnonzero(y == value))
        result[mine] = (np.arange(len(mine)) + rng.integers(FOLDS)) % FOLDS
    return result, "tile"
