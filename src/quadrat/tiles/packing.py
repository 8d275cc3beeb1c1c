"""Tile sets from folders of pictures and back; balancing; what every maker of tile sets shares."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import codec, geoparquet, parts, products, storage
from quadrat import split as splitting
from quadrat.engines import Engine, get_engine
from quadrat.errors import TileSetError
from quadrat.legend import Legend, load_legend
from quadrat.parts import PartRecord
from quadrat.progress import counted
from quadrat.skipped import Skipped
from quadrat.split import SPLITS, Split
from quadrat.tiles import folders, sets
from quadrat.tiles.sets import TileSet
from quadrat.tiles.types import INDEX, row_group


def begin(out: str, plan: str, overwrite: bool, engine: Engine) -> TileSet | None:
    """Make a held folder ready for a tile set.

    Returns:
        The tile set, where an earlier run of the same plan finished it and all of it is there.
    """
    ready = None
    if products.claim("tiles", out, plan, overwrite):
        ready = parts.finished(out, sets.MANIFEST, sets.open_tileset, engine)
    products.write_plan("tiles", out, plan)
    return ready


def finish(made: TileSet) -> TileSet:
    """Count and audit the parts as they are on disk, and write `tileset.json`."""
    out, info = made.uri, made.info
    table = sets.read_index(made, ["row", "col", "path", "label", "split"])
    counts: dict[str, Any] = {name: _counts(table[name].to_pylist()) for name in ("label", "split")}
    if not made.tiles:
        products.clear("tiles", out)
        raise TileSetError(
            f"no tile is left for {storage.redact(out)}: {info.get('dropped', {})} dropped; check "
            "--max-nodata, --nodata and the place of the files"
        )
    audit = None
    if made.legend is not None and table["split"].null_count < len(table):
        audit = audit_table(table, made.legend).to_dict()
    return sets.write_manifest(replace(made, info={"counts": counts, "audit": audit, **info}))


def _counts(values: Sequence[str | None]) -> dict[str, int]:
    return dict(sorted(Counter(v or "none" for v in values).items()))


def audit_table(table: pa.Table, legend: Legend) -> splitting.Audit:
    """The audit of a tile set's split, from its index."""
    splits = split_ids(table)
    placed = table["row"].null_count == 0
    rows = table["row"].to_numpy().astype(np.int64) if placed else None
    cols = table["col"].to_numpy().astype(np.int64) if placed else None
    return splitting.audit(splits, rows, cols, labels=label_ids(table, legend), names=legend.names)


def label_ids(table: pa.Table, legend: Legend) -> NDArray[np.int64]:
    """Class ids of an index's labels, -1 for none; TileSetError for a label of no class."""
    lookup: dict[str | None, int] = {n: i for i, n in enumerate(legend.names)}
    lookup[None] = -1
    try:
        return np.array([lookup[v] for v in table["label"].to_pylist()], np.int64)
    except KeyError as error:
        raise TileSetError(f"the label {error} is no class of legend {legend.name}") from None


def split_ids(table: pa.Table) -> NDArray[np.int8]:
    """0 train, 1 validation, 2 test, -1 none; TileSetError for another word."""
    lookup: dict[str | None, int] = {n: i for i, n in enumerate(SPLITS)}
    lookup[None] = -1
    try:
        return np.array([lookup[v] for v in table["split"].to_pylist()], np.int8)
    except KeyError as error:
        raise TileSetError(f"{error} is no split; it is one of {', '.join(SPLITS)}") from None


def pack(
    folder: str,
    out: str,
    *,
    size_px: int = folders.DEFAULT_PX,
    legend: str | Legend | None = None,
    split: str | None = "random",
    validation: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    resize: bool = True,
    balance: bool = False,
    keep_duplicates: bool = False,
    encoding: str = "zstd",
    overwrite: bool = False,
    strict: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> TileSet:
    """Pack a folder of pictures, one subfolder a class, into a tile set.

    Args:
        legend: a shipped name, a TOML file, or a Legend; by default the subfolders are the classes.
        split: `random` (pictures have no place, so nothing better can be had), or None; a folder
            with `train/`, `validation/`, `test/` above the classes keeps its own.
        resize: pictures of another size are resized to `size_px`; otherwise skipped and listed.
        keep_duplicates: keep pictures that are equal to an earlier one of the same class. A
            picture that stands in two classes, or in two splits, is listed and kept once.

    Raises:
        TileSetError, ImageError (with `strict`), StorageError.
    """
    known = load_legend(legend) if isinstance(legend, str) else legend
    source = folders.open_folder(folder, size_px=size_px, legend=known, resize=resize)
    how = Split(split or "random", validation, test, seed=seed)
    unread = next((u for u in source.unused if u.is_picture), None)
    if unread is not None and strict:
        raise TileSetError(f"{source.uri}: {unread} (--strict)")
    own = any(p.split for p in source.pictures)
    out = storage.normalise(out)
    options = {
        "split": "own folders" if own else (split and how.to_dict()), "seed": seed,
        "keep_duplicates": keep_duplicates, "encoding": encoding, "balance": balance,
    }  # fmt: skip
    plan = storage.digest_json([source.digest, options])
    with products.hold("tiles", out):
        if ready := begin(out, plan, overwrite, get_engine()):
            return replace(ready, info={**ready.info, **_told(source)})
        splits = _picture_splits(source, None if own else split, how)
        writer = _Packer(out, encoding, source, keep_duplicates, strict)
        every = counted(source.parts(), len(source.pictures), on_progress, lambda part: part.count)
        written = [writer.write(part, splits) for part in every]
        records = [record for record in written if record.rows]
        if not records and writer.skipped:
            raise TileSetError(f"no picture of {source.uri} is read; {writer.skipped[0].reason}")
        info = {
            "dropped": {"duplicates": len(writer.duplicates)},
            "duplicates": writer.duplicates[:100],
            "skipped": {"count": len(writer.skipped), "listed": writer.skipped[:100]},
            **_told(source),
            "provenance": {**source.provenance, "options": options},
        }
        made = TileSet(out, None, source.legend, size_px, encoding, tuple(records), info)
        return finish(rebalanced(made, seed) if balance else made)


def _told(source: folders.FolderSource) -> dict[str, Any]:
    """The unused entries of a folder and its warnings, for `tileset.json`."""
    return {
        "unused": [u.to_dict() for u in source.unused],
        "warnings": list(source.warnings),
    }


def _picture_splits(
    source: folders.FolderSource, split: str | None, how: Split
) -> dict[str, str | None]:
    paths = [p.path for p in source.pictures]
    if split is None:
        return {p.path: p.split for p in source.pictures}
    if split == "block":
        raise TileSetError("pictures have no place, so there are no blocks; use --split random")
    labels = [
        source.legend.id(p.label) if source.legend and p.label else -1 for p in source.pictures
    ]
    ids = splitting.assign(how, None, None, groups=paths, labels=np.array(labels, np.int64))
    return {
        path: SPLITS[i] if i >= 0 and label >= 0 else None
        for path, i, label in zip(paths, ids.tolist(), labels, strict=True)
    }


class _Packer:
    """Writes the parts of a packed folder and remembers what it saw."""

    def __init__(
        self, out: str, encoding: str, source: folders.FolderSource, keep: bool, strict: bool
    ) -> None:
        self.out, self.encoding = out, encoding
        self.pictures = {p.path: p for p in source.pictures}
        self.keep, self.strict = keep, strict
        self.seen: dict[bytes, str] = {}
        self.duplicates: list[list[str]] = []
        self.skipped: list[Skipped] = []

    def write(self, part: folders.FolderPart, splits: Mapping[str, str | None]) -> PartRecord:
        """Write one part."""
        encode = codec.get_encoding(self.encoding).encode
        fields = [f for f in INDEX if f.name != "geometry"]
        schema = pa.schema([*fields, pa.field("image", pa.binary()), INDEX.field("geometry")])
        with geoparquet.part_writer(parts.place(self.out, part.name), schema, None) as writer:
            for batch in folders.read(part, row_group(part.size_px)):
                if batch.skipped and self.strict:
                    raise TileSetError(f"{batch.skipped[0].reason} (--strict)")
                self.skipped += batch.skipped
                images = [encode(c) for c in batch.chips]
                paths = batch.index["path"].to_pylist()
                good = [
                    i for i, (p, image) in enumerate(zip(paths, images, strict=True))
                    if self._is_new(p, image)
                ]  # fmt: skip
                index = batch.index.take(pa.array(good, pa.int64()))
                given = pa.array([splits.get(paths[i]) for i in good], pa.string())
                index = index.set_column(INDEX.get_field_index("split"), "split", given)
                picked = pa.array([images[i] for i in good], pa.binary())
                table = index.append_column("image", picked).select(schema.names)
                writer.write(table.cast(schema))
        return PartRecord(part.name, writer.rows, writer.sha256)

    def _is_new(self, path: str, image: bytes) -> bool:
        digest = hashlib.sha256(image).digest()
        earlier = self.seen.setdefault(digest, path)
        if earlier == path:
            return True
        mine, other = self.pictures[path], self.pictures[earlier]
        if (mine.label, mine.split) != (other.label, other.split):
            kind = "class" if mine.label != other.label else "split"
            why = f"the same picture as {earlier}, which is of another {kind}"
            self.skipped.append(Skipped(path, why))
            return False
        self.duplicates.append([path, earlier])
        return self.keep


def unpack(
    tileset: str,
    out: str,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the tiles of `tileset` as PNG files, one folder a class; how many were written.

    Tiles with a place are called `r<row>_c<col>.png`, those without a label go to `unlabelled/`.
    Where two would get one name, in any case or Unicode form, the later one is called
    `name-2.png`. A file that is there already is left if it is the same.

    Raises:
        TileSetError: a path in the tile set would lie outside `out`, or another file is there.
    """
    source = sets.open_tileset(tileset)
    if held := products.kinds_of(out):
        words = " and ".join(products.PRODUCTS[k].words for k in sorted(held))
        raise TileSetError(f"{storage.redact(out)} holds {words}; choose another --out")
    for name in storage.list_names(out):
        storage.sweep(storage.join(out, name), dead=True)
    encode = codec.get_encoding("png").encode
    taken: dict[str, int] = {}
    batches = (b for part in source.parts() for b in sets.read(part, row_group(part.size_px)))
    written = 0
    for batch in counted(batches, source.tiles, on_progress, lambda batch: len(batch.index)):
        for row, chip in zip(batch.index.to_pylist(), batch.chips, strict=True):
            _write_new(storage.join(out, *_free_name(row, taken)), encode(chip))
            written += 1
    return written


def _write_new(uri: str, data: bytes) -> None:
    """Write a file, and never over another one."""
    if not storage.exists(uri):
        storage.write_bytes(uri, data)
    elif storage.read_bytes(uri) != data:
        raise TileSetError(
            f"{storage.redact(uri)} is there and is another picture; choose another --out"
        )


def _free_name(row: Mapping[str, Any], taken: dict[str, int]) -> tuple[str, str]:
    """Folder and file name of a tile, unlike all in `taken` (name -> last number given)."""
    folder = str(row["label"] or folders.UNLABELLED)
    if row["path"]:
        stem = str(row["path"]).rsplit("/", 1)[-1].rsplit(".", 1)[0]
    else:
        stem = f"r{row['row']}_c{row['col']}"
    for name in (folder, stem):
        if name in ("", ".", "..") or "/" in name or "\\" in name or "\x00" in name:
            raise TileSetError(
                f"{name!r} in the tile set is no file name; it was not made by Quadrat"
            )
    first = _key(folder, stem)
    name, number = stem, taken.get(first, 1)
    while _key(folder, name) in taken:
        number += 1
        name = f"{stem}-{number}"
    taken[first] = number
    taken.setdefault(_key(folder, name), 1)
    return folder, f"{name}.png"


def _key(folder: str, stem: str) -> str:
    """The same text for names that some file systems take for one (`A` and `a`)."""
    return unicodedata.normalize("NFC", f"{folder}/{stem}".casefold())


def balance(tileset: str, out: str, *, seed: int = 0, overwrite: bool = False) -> TileSet:
    """A copy of a tile set in which every class has as many tiles as the rarest, in each split."""
    source = sets.open_tileset(tileset)
    if source.legend is None:
        raise TileSetError(f"{storage.redact(tileset)} has no labels; cut it with --labels")
    out = storage.normalise(out)
    plan = storage.digest_json([source.digest, "balance", seed])
    with products.hold("tiles", out):
        if ready := begin(out, plan, overwrite, get_engine()):
            return ready
        return finish(_rewrite(source, out, _keep(source, seed)))


def rebalanced(made: TileSet, seed: int) -> TileSet:
    """A tile set that has no manifest yet, with its parts balanced; the caller holds its lock."""
    keep = _keep(made, seed)
    return made if keep.all() else _rewrite(made, made.uri, keep)


def _keep(source: TileSet, seed: int) -> NDArray[np.bool_]:
    table = sets.read_index(source, ["row", "col", "path", "label", "split"])
    if source.legend is None:
        return np.ones(len(table), np.bool_)
    return balanced(label_ids(table, source.legend), split_ids(table), seed)


def balanced(labels: NDArray[np.int64], splits: NDArray[np.int8], seed: int) -> NDArray[np.bool_]:
    """Which tiles stay when each split keeps as many of every class as of its rarest, `(N,) bool`.

    Tiles without a label stay.
    """
    keep = labels < 0
    for s in np.unique(splits):
        keep |= splitting.balance(labels, seed, splits == s)
    return keep


def _rewrite(source: TileSet, out: str, keep: NDArray[np.bool_]) -> TileSet:
    """Write the kept rows of every part to `out`, part by part, each in one step."""
    start, records = 0, []
    for part in source.parts():
        mine = keep[start : start + part.count]
        start += part.count
        target = parts.place(out, part.name)
        if mine.all() and target == part.uri:
            records.append(part.record)
            continue
        table = geoparquet.read_part(part.uri, expected=part.record.expected)
        table = table.filter(pa.array(mine))
        if len(table):
            # without a note: should this run be stopped, the next one cuts the part again
            written = geoparquet.write_part(target, table, source.grid.crs if source.grid else None)
            records.append(PartRecord(part.name, written.rows, written.sha256))
    info = {k: v for k, v in source.info.items() if k not in ("counts", "audit")}
    info["dropped"] = {**info.get("dropped", {}), "balance": int((~keep).sum())}
    return replace(source, uri=out, records=tuple(records), info=info)
