"""Chips to features, computed once and kept: part by part, by any engine, resumable.

Features depend on the tiles, the network and the precision; their digests name the folder in the
cache, so that a second head on the same tiles starts at once. Parts are Parquet files that Spark
and pandas read as they are; on this machine they become one memory-mapped array. It does not know
labels' meaning, heads, or which engine runs.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import geoparquet, model, storage, tiles
from quadrat import skipped as skips
from quadrat.backbones import FeatureGraph
from quadrat.engines import Engine, get_engine, tasks_per_process
from quadrat.errors import StorageError
from quadrat.model import views
from quadrat.skipped import Skipped
from quadrat.tiles.types import INDEX

VERSION = 2
COLUMNS = ("row", "col", "path", "source", "label", "split")
NOTE = ("skipped",)  # what is kept with a part
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Selection:
    """Which tiles of a source get features.

    Attributes:
        labelled: only tiles with a label or known shares.
        splits: only tiles of these splits; None for all.
        sample_frac: share of the tiles outside the splits `validation` and `test`, chosen by a
            hash of the tile's name and the seed: the same tiles whatever the parts and the engine.
        shares: label ("" for none) -> share of its tiles, of every split, chosen by another hash;
            None for all.
    """

    labelled: bool = False
    splits: tuple[str, ...] | None = None
    sample_frac: float = 1.0
    seed: int = 0
    shares: tuple[tuple[str, float], ...] | None = None

    def mask(self, index: pa.Table) -> NDArray[np.bool_]:
        """Which rows of an index are chosen, (N,) bool."""
        keep = np.ones(len(index), np.bool_)
        split = np.array(index["split"].to_pylist(), dtype=object)
        if self.labelled:
            keep &= tiles.targets.known(index)
        if self.splits is not None:
            keep &= np.isin(split.astype(str), self.splits)
        if self.sample_frac < 1:
            free = ~np.isin(split.astype(str), ("validation", "test"))
            keep &= ~free | (_draw(index, str(self.seed)) < self.sample_frac)
        if self.shares is not None:
            share = dict(self.shares)
            words = index["label"].to_pylist()
            limit = np.array([share.get(word or "", 0.0) for word in words])
            keep &= _draw(index, "shares") < limit
        return keep

    def to_dict(self) -> dict[str, Any]:
        """Plain values, part of the digest."""
        sampled = self.sample_frac < 1
        return {
            "labelled": self.labelled,
            "splits": list(self.splits) if self.splits is not None else None,
            "sample_frac": self.sample_frac,
            "seed": self.seed if sampled else None,
            "shares": [list(s) for s in self.shares] if self.shares is not None else None,
        }


def _draw(index: pa.Table, key: str) -> NDArray[np.float64]:
    """A number in [0, 1) for each tile that depends on its name and the key alone."""
    words = [
        hashlib.blake2b(name, digest_size=8, key=key.encode()).digest() for name in _names(index)
    ]
    return np.frombuffer(b"".join(words), "<u8") / 2.0**64


def _names(index: pa.Table) -> list[bytes]:
    """One name a tile: its path, or its TileId."""
    columns = (index[c].to_pylist() for c in ("path", "row", "col"))
    return [
        (path if path is not None else f"{row} {col}").encode()
        for path, row, col in zip(*columns, strict=True)
    ]


@dataclass(frozen=True)
class Features:
    """Features of a source's tiles.

    Attributes:
        values: (N, D) float32, memory-mapped: rows are read when they are used.
        index: N rows as in `values`: row, col, path, source, label, split, and the shares of the
            classes where the source has them (see `tiles.targets`).
        skipped: name and reason of each tile that could not be read.
        digest: of the tiles, the network and the precision.
        seconds: that it took; 0 when everything was in the cache.
        uri: the folder in the cache.
    """

    values: NDArray[np.float32]
    index: pa.Table
    skipped: tuple[Skipped, ...]
    digest: str
    seconds: float
    uri: str


@dataclass(frozen=True)
class FeatureParts:
    """Features as Parquet parts: the columns of `Features.index` and `features`, a list of float32.

    Attributes:
        names: the files below `uri`, in the order of the source's parts.
        dim: length of a feature row.
        classes: those whose shares are columns.
    """

    uri: str
    names: tuple[str, ...]
    dim: int
    digest: str
    seconds: float
    classes: tuple[str, ...] = ()


def featurize(
    source: tiles.Source,
    graph: FeatureGraph,
    *,
    precision: str = "fp32",
    select: Selection | None = None,
    view: int = 0,
    engine: Engine | None = None,
    cache: str | None = None,
    on_progress: Progress | None = None,
) -> Features:
    """Features of a source's tiles, from the cache or computed now.

    Args:
        graph: the network; for `int8` its quantised graph.
        precision: what it computes in: `fp32`, `bf16`, `int8`, `fp16`.
        select: which tiles; all by default.
        view: in which the network sees them (see `model.views`); each is kept by itself.
        engine: where parts are worked on; the local one by default.
        cache: a folder (any URI that the engine's workers reach); the user's cache by default.

    Raises:
        ModelError: the network does not run here or takes tiles of another size.
        StorageError: the cache cannot be written.
        EngineError: a part failed.
    """
    chosen = select or Selection()
    key = digest(source, graph, precision, chosen, view)
    home = storage.cache_dir() / "features" / key[:32]
    found = _load(home, key)
    if found is not None:
        return found
    parts = featurize_parts(
        source,
        graph,
        precision=precision,
        select=chosen,
        view=view,
        engine=engine,
        cache=cache,
        on_progress=on_progress,
    )
    with storage.lock(str(home)):
        skipped = _merge(parts, home)
        storage.write_json(
            str(home / "features.json"),
            {
                "version": VERSION,
                "digest": key,
                "skipped": skipped,
                "tiles": source.uri,
            },
        )
    if storage.normalise(parts.uri) == storage.normalise(str(home / "parts")):
        for name in parts.names:
            storage.remove(storage.join(parts.uri, name))
    loaded = _load(home, key)
    if loaded is None:
        raise StorageError(f"{home} changed while it was written; run the same command again")
    return Features(loaded.values, loaded.index, loaded.skipped, key, parts.seconds, loaded.uri)


def cached(
    source: tiles.Source, graph: FeatureGraph, precision: str, select: Selection, view: int = 0
) -> Features | None:
    """Features that are in the cache already, or None."""
    key = digest(source, graph, precision, select, view)
    return _load(storage.cache_dir() / "features" / key[:32], key)


def featurize_parts(
    source: tiles.Source,
    graph: FeatureGraph,
    *,
    precision: str = "fp32",
    select: Selection | None = None,
    view: int = 0,
    engine: Engine | None = None,
    cache: str | None = None,
    on_progress: Progress | None = None,
) -> FeatureParts:
    """Features as Parquet parts that stay where the workers wrote them; see `featurize`.

    A part that exists is whole and is not computed again.
    """
    begun = time.perf_counter()
    chosen = select or Selection()
    key = digest(source, graph, precision, chosen, view)
    root = cache if cache is not None else str(storage.cache_dir())
    folder = storage.join(root, "features", key[:32], "parts")
    engine = engine if engine is not None else get_engine("local")
    parts, classes = source.parts(), tiles.targets.classes(source)
    done = set(storage.list_names(folder, ".parquet"))
    todo = [p for p in parts if f"{p.name}.parquet" not in done]
    total = sum(p.count for p in parts)
    finished = total - sum(p.count for p in todo)
    if on_progress:
        on_progress(finished, total)
    network = storage.join(root, "features", key[:32], "network.onnx")
    for swept in (folder, storage.parent(folder)):
        storage.sweep(swept, dead=True)
    if todo:
        storage.write_bytes(network, graph.onnx)
        slots = tasks_per_process(engine)
        task = FeatureTask(
            network, graph.digest, graph.dim, folder, source.size_px, precision, chosen, slots,
            model.choose(graph.onnx, precision, source.size_px), classes, view,
        )  # fmt: skip
        for part_done in engine.run(task, todo):
            finished += part_done.count
            if on_progress:
                on_progress(finished, total)
    storage.remove(network)  # a run that was killed may have left it
    return FeatureParts(
        uri=folder,
        names=tuple(f"{p.name}.parquet" for p in parts),
        dim=graph.dim,
        digest=key,
        seconds=time.perf_counter() - begun if todo else 0.0,
        classes=classes,
    )


def digest(
    source: tiles.Source, graph: FeatureGraph, precision: str, select: Selection, view: int = 0
) -> str:
    """What decides the features: tiles, network, precision, selection, view."""
    return storage.digest_json(
        [VERSION, source.digest, source.size_px, graph.digest, precision, select.to_dict(), view]
    )


@dataclass(frozen=True)
class PartDone:
    """What a task gives back."""

    name: str
    count: int


@dataclass(frozen=True)
class FeatureTask:
    """Features of one part: read, compute, write one Parquet file. Picklable and idempotent."""

    network: str
    sha256: str
    dim: int
    folder: str
    size_px: int
    precision: str
    select: Selection
    workers: int
    runtime: str = "auto"  # the same for every part: runtimes differ in the last bits
    classes: tuple[str, ...] = ()  # whose shares the source has
    view: int = 0

    def __call__(self, part: tiles.Part) -> PartDone:
        """Work on one part."""
        network = model.shared_network(
            self.network,
            self.sha256,
            precision=self.precision,
            workers=self.workers,
            size_px=self.size_px,
            runtime=self.runtime,
        )
        skipped: list[Skipped] = []
        with geoparquet.part_writer(
            storage.join(self.folder, f"{part.name}.parquet"),
            _schema(self.dim, self.classes),
            None,
            compression="none",
        ) as writer:
            for batch in tiles.read_ahead(part, tiles.batch_tiles(self.size_px)):
                skipped.extend(batch.skipped)
                keep = self.select.mask(batch.index)
                kept = [*COLUMNS, *tiles.targets.columns(batch.index)]
                index, chips = batch.index.select(kept), batch.chips
                if not keep.all():
                    index, chips = index.filter(pa.array(keep)), chips[keep]
                if len(index):
                    writer.write(_table(index, network(views.seen(chips, self.view))))
            writer.note({"skipped": skipped})
        return PartDone(part.name, part.count)


def _schema(dim: int, classes: tuple[str, ...]) -> pa.Schema:
    index = [INDEX.field(name) for name in COLUMNS]
    features = pa.field("features", pa.list_(pa.float32(), dim))
    return pa.schema([*index, *tiles.targets.fields(classes), features])


def _table(index: pa.Table, rows: NDArray[np.float32]) -> pa.Table:
    flat = pa.array(np.ascontiguousarray(rows).reshape(-1))
    values = pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
    return index.append_column("features", values)


def _merge(parts: FeatureParts, home: Path) -> list[Skipped]:
    """One array and one index of all parts, in their order; the tiles skipped."""
    uris = [storage.join(parts.uri, name) for name in parts.names]
    total = sum(geoparquet.count(uri) for uri in uris)
    skipped: list[Skipped] = []
    tables = []
    with storage.atomic_path(str(home / "values.npy")) as path:
        values = _create(path, (total, parts.dim))
        start = 0
        for uri in uris:
            table = geoparquet.read_part(uri, schema=_schema(parts.dim, parts.classes))
            for chunk in table["features"].chunks:
                rows = chunk.flatten().to_numpy().reshape(-1, parts.dim)
                values[start : start + len(rows)] = rows
                start += len(rows)
            tables.append(table.drop_columns(["features"]))
            skipped.extend(skips.from_lists((geoparquet.read_note(uri, NOTE) or {})["skipped"]))
        if isinstance(values, np.memmap):
            values.flush()
        else:
            np.save(path, values)
    nothing = _schema(parts.dim, parts.classes).empty_table().drop_columns(["features"])
    index = pa.concat_tables(tables) if tables else nothing
    geoparquet.write_part(str(home / "index.parquet"), index, None)
    return skipped


def _create(path: Path, shape: tuple[int, int]) -> NDArray[np.float32]:
    if not shape[0]:  # nothing can be mapped of an empty file
        return np.empty(shape, np.float32)
    mapped: NDArray[np.float32] = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.float32, shape=shape
    )
    return mapped


def _load(home: Path, key: str) -> Features | None:
    """What is in the cache; None when it is not all there."""
    place = str(home / "features.json")
    if not storage.exists(place):
        return None
    try:
        facts = storage.read_json(place)
        if facts.get("version") != VERSION or facts.get("digest") != key:
            return None
        values: NDArray[np.float32] = np.load(
            home / "values.npy", mmap_mode="r", allow_pickle=False
        )
        index = geoparquet.read_part(str(home / "index.parquet"), schema=INDEX)
    except (StorageError, OSError, ValueError):
        return None
    if values.ndim != 2 or len(values) != len(index) or values.dtype != np.float32:
        return None
    skipped = skips.from_lists(facts["skipped"])
    return Features(values, index, skipped, key, 0.0, str(home))
