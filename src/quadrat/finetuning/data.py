"""Labelled tiles for training: decoded once, sorted into training, validation and test tiles.

Tiles are held in memory, or, when they are many or several processes share them, in a file mapped
into memory, so that any order of them is cheap. It does not know networks or augmentation.

A tile never trains and validates: the two come from different splits, a validation set of one's own
must be another set, and pictures whose pixels are those of a held-out tile are taken out of the
training tiles.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import geoparquet, storage, tiles
from quadrat import skipped as skips
from quadrat.errors import TrainError
from quadrat.features import Selection
from quadrat.finetuning import decoded
from quadrat.finetuning.distributed import Group
from quadrat.finetuning.feed import Ids
from quadrat.finetuning.sets import Sets
from quadrat.finetuning.settings import FinetuneSettings, Machine
from quadrat.grid import Grid
from quadrat.heads import samples as sampling
from quadrat.legend import Legend
from quadrat.skipped import Skipped
from quadrat.tiles import targets as said
from quadrat.tiles.types import INDEX

BATCH = 64
SPLITS = ("train", "validation", "test")
COLUMNS = ("row", "col", "path", "source", "label", "split")
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TileData:
    """Decoded labelled tiles.

    Attributes:
        chips: (N, S, S, 3) uint8, in memory or mapped from a file; rows of no tile are 0.
        labels: (N,) main classes, K where most ground has no class in the legend; -1 for none and
            for rows of no tile.
        targets: (N, columns) class shares as they are learned (see `heads.samples.Samples`); None
            where every tile is of one class.
        masks: whether one more column than the legend has classes is learned, for ground without
            a class.
        train, validation, test: places of the tiles.
        blocks: (N,) spatial blocks of the tiles; None for pictures without a place.
        called: what each tile is called in messages.
        held_out: how validation tiles came about: see `heads.samples.Samples`; `other` for a set
            of their own.
        digest: of the tiles of all sets.
    """

    chips: NDArray[np.uint8]
    labels: Ids
    targets: NDArray[np.float32] | None
    masks: bool
    train: Ids
    validation: Ids
    test: Ids
    blocks: Ids | None
    called: tuple[str, ...]
    legend: Legend
    size_px: int
    grid: Grid | None
    digest: str
    held_out: str
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What is learned, in words."""
        return (*self.legend.names, sampling.MASKED) if self.masks else self.legend.names

    def counts(self) -> dict[str, dict[str, int]]:
        """Tiles of each main class in each split."""
        counted = {}
        for split in SPLITS:
            ids = self.labels[getattr(self, split)]
            counts = np.bincount(ids[ids >= 0], minlength=len(self.names))
            named = {c: int(n) for c, n in zip(self.names, counts, strict=False)}
            if split != "test" or counts.any():
                counted[split] = named
        return counted


@contextlib.contextmanager
def loaded(
    sets: Sets, settings: FinetuneSettings, machine: Machine, group: Group, on_progress: Progress
) -> Iterator[TileData]:
    """All labelled tiles, decoded, while the block lasts.

    Raises:
        TrainError: no labels, one class, nothing to validate with, processes that see other tiles.
        StorageError: no space for the file of decoded tiles.
    """
    plan = _planned(sets, settings)
    with contextlib.ExitStack() as stack:
        if group.size == 1:
            held = _hold(plan, machine, stack)
            read = _read(plan, held, machine, on_progress)
        else:
            held, read = _share(plan, machine, group, stack, on_progress)
        yield _sorted(sets, settings, held, read)


@dataclass(frozen=True)
class _Role:
    """Which tiles of a set are read, and what they are for.

    Attributes:
        use: `own` (what the set's splits say), `train` or `validation`.
        splits: whether the set has splits.
    """

    select: Selection
    use: str
    splits: bool

    def chosen(self, index: pa.Table) -> NDArray[np.bool_]:
        """(N,) which tiles are read."""
        return self.select.mask(index)

    def named(self, index: pa.Table) -> pa.Table:
        """The columns of tiles, `split` saying what they are for in this training."""
        index = index.select([*COLUMNS, *said.columns(index)])
        if self.use == "own":
            return index
        if self.use == "validation":
            words: list[str | None] = ["validation"] * len(index)
        else:
            # The training set's own validation tiles neither train nor validate.
            had = index["split"].to_pylist()
            words = [w if w in ("train", "test") else None for w in had]
            words = words if self.splits else ["train"] * len(index)
        return index.set_column(COLUMNS.index("split"), "split", pa.array(words, pa.string()))


@dataclass(frozen=True)
class _Plan:
    """What is read: parts, the places of their chosen tiles, and the parts' roles."""

    parts: tuple[tuple[tiles.Part, int, _Role], ...]
    shape: tuple[int, int, int, int]
    digest: str

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class _Read:
    """What was read: an index row and a digest for every tile that is there, and its place."""

    index: pa.Table
    places: Ids
    digests: NDArray[np.void]
    skipped: tuple[Skipped, ...]


def columns(sets: Sets, settings: FinetuneSettings) -> int:
    """What the tiles teach: the legend's classes, and ground without a class where there is such.

    Raises:
        TrainError: no labels, one class.
    """
    tables = []
    for source in (sets.source, sets.validation):
        if source is not None:
            index = tiles.index(source)
            role = _role(source is sets.validation, sets, index, settings)
            tables.append(role.named(index.filter(pa.array(role.chosen(index)))))
    whole = pa.concat_tables(tables, promote_options="default")
    return sampling.sort(whole, sets.legend, sets.where, settings.seed).columns


def _planned(sets: Sets, settings: FinetuneSettings) -> _Plan:
    parts: list[tuple[tiles.Part, int, _Role]] = []
    tables, place = [], 0
    for source in (sets.source, sets.validation):
        if source is None:
            continue
        index = tiles.index(source)
        role = _role(source is sets.validation, sets, index, settings)
        chosen = index.filter(pa.array(role.chosen(index)))
        if source is sets.validation and not len(chosen):
            raise TrainError(
                f"{storage.redact(source.uri)} has no labelled validation tiles; label some"
            )
        tables.append(role.named(chosen))
        counts: dict[str, int] = {}
        for name in chosen["part"].to_pylist():
            counts[name] = counts.get(name, 0) + 1
        for part in source.parts():
            if counts.get(part.name):
                parts.append((part, place, role))
                place += counts[part.name]
    # fails before the work, not after it
    whole = pa.concat_tables(tables, promote_options="default")
    sampling.sort(whole, sets.legend, sets.where, settings.seed)
    side = sets.source.size_px
    return _Plan(tuple(parts), (place, side, side, 3), sets.digest)


def _role(validates: bool, sets: Sets, index: pa.Table, settings: FinetuneSettings) -> _Role:
    has = bool(index["split"].null_count < len(index))
    if validates:
        return _Role(Selection(True, ("validation",) if has else None), "validation", has)
    select = Selection(True, SPLITS if has else None, settings.sample_frac, settings.seed)
    return _Role(select, "own" if sets.validation is None else "train", has)


def _hold(plan: _Plan, machine: Machine, stack: contextlib.ExitStack) -> NDArray[np.uint8]:
    """An array for the decoded tiles: in memory, or mapped from a temporary file."""
    if plan.bytes <= machine.memory_mb << 20:
        return np.zeros(plan.shape, np.uint8)
    path = stack.enter_context(decoded.own_file(decoded.place(f"{os.getpid()}-{plan.digest[:16]}")))
    return decoded.mapped(path, plan.shape, "w+")


def _share(
    plan: _Plan,
    machine: Machine,
    group: Group,
    stack: contextlib.ExitStack,
    on_progress: Progress,
) -> tuple[NDArray[np.uint8], _Read]:
    """The decoded tiles in one file a machine: its first process writes it, all map it."""
    job = storage.digest_json(
        [os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT"), plan.digest]
    )
    local = int(os.environ.get("LOCAL_RANK", 0))
    # two tasks of a Spark cluster on one machine are each the first of their own group there
    first = int(os.environ.get("RANK", 0)) - local
    path = decoded.place(f"{job[:24]}-{first}")
    index = str(path.with_suffix(".parquet"))
    writes = local == 0
    if writes:
        stack.enter_context(decoded.own_file(path))
        held = decoded.mapped(path, plan.shape, "w+")
        read = _read(plan, held, machine, on_progress)
        held.flush()
        table = read.index.append_column("place", pa.array(read.places, pa.int64()))
        digests = pa.array([bytes(d) for d in read.digests], pa.binary(16))
        table = table.append_column("digest", digests)
        geoparquet.write_part(index, table, None)
    group.wait()
    if not writes:
        held = decoded.mapped(path, plan.shape, "r")
        table = geoparquet.read_part(index)
        digests_ = np.array(table["digest"].to_pylist(), dtype="V16")
        places = table["place"].to_numpy().astype(np.int64)
        read = _Read(table.drop_columns(["place", "digest"]), places, digests_, ())
    tiles_here = np.array([float(len(read.places))])
    if group.total(tiles_here)[0] != tiles_here[0] * group.size:
        raise TrainError(
            "the machines do not see the same tiles; put the tile set where all can read it"
        )
    return held, read


def _read(plan: _Plan, chips: NDArray[np.uint8], machine: Machine, on_progress: Progress) -> _Read:
    """Decode the chosen tiles into their places, a part a thread."""
    done = 0
    on_progress(0, plan.shape[0])

    def work(item: tuple[tiles.Part, int, _Role]) -> tuple[pa.Table, Ids, list[bytes], Any]:
        part, first, role = item
        rows, digests, place = [], [], first
        skipped: list[Skipped] = []
        for batch in tiles.read_part(part, batch_size=BATCH):
            skipped.extend(batch.skipped)
            keep = role.chosen(batch.index)
            some = batch.chips[keep]
            rows.append(role.named(batch.index.filter(pa.array(keep))))
            chips[place : place + len(some)] = some
            digests += [hashlib.blake2b(c.tobytes(), digest_size=16).digest() for c in some]
            place += len(some)
        table = pa.concat_tables(rows) if rows else INDEX.empty_table().select(COLUMNS)
        return table, np.arange(first, place), digests, skipped

    results = []
    with ThreadPoolExecutor(machine.threads or os.cpu_count() or 1) as pool:
        for result in pool.map(work, plan.parts):
            results.append(result)
            done += len(result[1])
            on_progress(done, plan.shape[0])
    on_progress(plan.shape[0], plan.shape[0])
    return _Read(
        pa.concat_tables([f[0] for f in results], promote_options="default"),
        np.concatenate([f[1] for f in results]),
        np.array([d for f in results for d in f[2]], dtype="V16"),
        tuple(s for f in results for s in f[3]),
    )


def _sorted(
    sets: Sets, settings: FinetuneSettings, chips: NDArray[np.uint8], read: _Read
) -> TileData:
    samples = sampling.sort(read.index, sets.legend, sets.where, settings.seed)
    word = np.array(read.index["split"].to_pylist(), dtype=object).astype(str)
    test = np.flatnonzero(~np.isnan(samples.shares).any(axis=1) & (word == "test"))
    if not len(samples.validation):
        raise TrainError(
            f"{sets.where} has too few tiles to hold some back for validation; "
            "label more, or give --validation"
        )
    # ground without a class that training lacks can be neither learned nor counted
    validation, test = (ids[samples.y[ids] < samples.columns] for ids in (samples.validation, test))
    held = np.concatenate([validation, test])
    train, warnings = _without_copies(samples.train, held, read.digests)
    places = read.places
    labels = np.full(len(chips), -1, np.int64)
    labels[places] = samples.y
    targets = None
    shares = samples.targets(np.arange(len(samples.y)))
    if ((shares > 0) & (shares < 1)).any():
        targets = np.zeros((len(chips), samples.columns), np.float32)
        targets[places] = np.nan_to_num(shares)
    names = np.full(len(chips), "", dtype=object)
    names[places] = _names(read.index)
    blocks = None
    if samples.blocks is not None:
        blocks = np.full(len(chips), -1, np.int64)
        blocks[places] = samples.blocks
    return TileData(
        chips=chips,
        labels=labels,
        targets=targets,
        masks=samples.masks,
        train=places[train],
        validation=places[validation],
        test=places[test],
        blocks=blocks,
        called=tuple(names),
        legend=sets.legend,
        size_px=sets.source.size_px,
        grid=sets.source.grid,
        digest=sets.digest,
        held_out="other" if sets.validation is not None else samples.held_out,
        skipped=read.skipped,
        warnings=(*sets.warnings, *samples.warnings, *warnings, *skips.warning(read.skipped)),
    )


def _without_copies(
    train: Ids, held: Ids, digests: NDArray[np.void]
) -> tuple[Ids, tuple[str, ...]]:
    """Training tiles whose pixels are not those of a held-out tile."""
    outside = {bytes(d) for d in digests[held]}
    copies = np.array([bytes(d) in outside for d in digests[train]], np.bool_)
    if not copies.any():
        return train, ()
    left = train[~copies]
    if len(left) < len(train) / 2:
        raise TrainError(
            f"{int(copies.sum())} of {len(train)} training tiles are copies of validation tiles: "
            "accuracy on them would be no accuracy; give other tiles to validate with"
        )
    return left, (
        f"{int(copies.sum())} training tiles are copies of held-out tiles and were left out",
    )


def _names(index: pa.Table) -> list[str]:
    columns = (index[c].to_pylist() for c in ("path", "row", "col"))
    return [
        path if path is not None else f"({row}, {col})"
        for path, row, col in zip(*columns, strict=True)
    ]
