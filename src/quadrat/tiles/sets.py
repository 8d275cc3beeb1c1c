"""Tile sets on disk: `tileset.json` and GeoParquet parts.

It does not know where pixels come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import codec, geoparquet, parts, products, storage
from quadrat import grid as grids
from quadrat import legend as legends
from quadrat.errors import GridError, ImageError, LegendError, StorageError, TileSetError
from quadrat.grid import MAX_SIZE_PX, Grid
from quadrat.legend import Legend
from quadrat.parts import PartRecord
from quadrat.shown import shown
from quadrat.skipped import Skipped
from quadrat.tiles import targets
from quadrat.tiles.types import INDEX, Batch, empty_chips

FORMAT = products.PRODUCTS["tiles"].format
VERSION = 2
MANIFEST = "tileset.json"


@dataclass(frozen=True)
class SetPart:
    """One Parquet part of a tile set.

    Attributes:
        classes: names of the classes whose shares are columns of the part.
    """

    record: PartRecord
    uri: str
    size_px: int
    encoding: str
    classes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The part's name."""
        return self.record.name

    @property
    def count(self) -> int:
        """Tiles in it."""
        return self.record.rows


@shown
@dataclass(frozen=True)
class TileSet:
    """A tile set that exists.

    Attributes:
        encoding: how the tiles are kept (`quadrat.codec.ENCODINGS`).
        records: the parts, with rows and SHA-256 of each.
        digest: computed from these and from what else decides what the tiles are.
        info: everything else of `tileset.json`: counts, dropped, audit, provenance.
    """

    uri: str
    grid: Grid | None
    legend: Legend | None
    size_px: int
    encoding: str
    records: tuple[PartRecord, ...]
    info: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "tileset"

    @property
    def tiles(self) -> int:
        """How many tiles."""
        return sum(r.rows for r in self.records)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the parts' and over grid, legend, size and encoding."""
        return parts.digest(
            _head(self.grid, self.legend, self.size_px, self.encoding), self.records
        )

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where the pixels and labels come from."""
        provenance = self.info.get("provenance", {})
        return provenance if isinstance(provenance, dict) else {}

    def parts(self) -> Sequence[SetPart]:
        """The parts in the order of their numbers."""
        return [
            SetPart(r, parts.place(self.uri, r.name), self.size_px, self.encoding, self.classes)
            for r in self.records
        ]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes whose shares are columns of the parts; none without shares."""
        return self.legend.names if self.legend and self.info.get("shares") else ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "uri": self.uri,
            "tiles": self.tiles,
            "size_px": self.size_px,
            "grid": self.grid.to_dict() if self.grid else None,
            "legend": self.legend.name if self.legend else None,
            "digest": self.digest,
            **{k: v for k, v in self.info.items() if k != "provenance"},
        }


def is_tileset(uri: str) -> bool:
    """Whether a folder holds a finished tile set."""
    return storage.exists(storage.join(uri, MANIFEST))


def _head(grid: Grid | None, legend: Legend | None, size_px: int, encoding: str) -> list[Any]:
    """The values that give the bytes of the parts their meaning, for the digest."""
    return [FORMAT, VERSION, *parts.meaning(grid, legend), size_px, encoding]


def write_manifest(made: TileSet) -> TileSet:
    """Write `tileset.json`, which makes the parts a tile set."""
    storage.write_json(
        storage.join(made.uri, MANIFEST),
        {
            "format": FORMAT,
            "version": VERSION,
            "grid": made.grid.to_dict() if made.grid else None,
            "legend": made.legend.to_dict() if made.legend else None,
            "size_px": made.size_px,
            "encoding": made.encoding,
            "parts": [r.to_dict() for r in made.records],
            "digest": made.digest,
            **made.info,
        },
    )
    return open_tileset(made.uri)


def open_tileset(uri: str) -> TileSet:
    """Read `tileset.json`; TileSetError when it is missing, damaged or foreign."""
    uri = storage.normalise(uri)
    by = "quadrat tile or quadrat pack"
    data = products.read_manifest("tiles", uri, (VERSION,), by=by, error=TileSetError)
    try:
        return _parse(uri, data)
    except (KeyError, TypeError, ValueError, AttributeError, GridError, LegendError) as error:
        raise TileSetError(
            f"the manifest of {storage.redact(uri)} is damaged ({error}); make the tile set again"
        ) from None


def _parse(uri: str, data: Mapping[str, Any]) -> TileSet:
    size_px, encoding = int(data["size_px"]), str(data["encoding"])
    if encoding not in codec.ENCODINGS:
        raise TileSetError(f"{storage.redact(uri)} has tiles in the unknown encoding {encoding!r}")
    if not 1 <= size_px <= MAX_SIZE_PX:
        raise TileSetError(f"{storage.redact(uri)} has tiles of {size_px} pixels")
    known = {"format", "version", "grid", "legend", "size_px", "encoding", "parts", "digest"}
    grid = grids.from_dict(data["grid"]) if data["grid"] else None
    legend = legends.from_dict(data["legend"]) if data["legend"] else None
    return TileSet(
        uri=uri,
        grid=grid,
        legend=legend,
        size_px=size_px,
        encoding=encoding,
        records=parts.parse(data, _head(grid, legend, size_px, encoding)),
        info={k: v for k, v in data.items() if k not in known},
    )


def read(part: SetPart, batch_size: int) -> Iterator[Batch]:
    """The tiles of a part; damaged ones are skipped and listed.

    Raises:
        StorageError: the part's rows or bytes are not those that the tile set lists.
    """
    decode = codec.get_encoding(part.encoding).decode_into
    kept = pa.schema([*INDEX, *targets.fields(part.classes)])
    schema, expected = kept.append(pa.field("image", pa.binary())), part.record.expected
    for rows in geoparquet.iter_batches(
        part.uri, schema.names, batch_size, schema=schema, expected=expected
    ):
        images = rows.column(rows.schema.get_field_index("image"))
        chips = np.empty((len(rows), part.size_px, part.size_px, 3), np.uint8)
        good: list[int] = []
        skipped: list[Skipped] = []
        for i in range(len(rows)):
            data = images[i].as_buffer()
            try:
                if data is None:
                    raise ImageError("it has no pixels")
                decode(memoryview(data), chips[len(good)])
                good.append(i)
            except ImageError as error:
                skipped.append(Skipped(tile_name(rows, i), str(error)))
        index = pa.Table.from_batches([rows.select(kept.names)]).cast(kept)
        if len(good) < len(rows):
            index, chips = index.take(pa.array(good, pa.int64())), chips[: len(good)]
        yield Batch(index, chips if len(good) else empty_chips(part.size_px), tuple(skipped))


def tile_name(rows: pa.RecordBatch | pa.Table, i: int) -> str:
    """The name of a row in messages: its path, or its tile id."""
    path = rows.column(rows.schema.get_field_index("path"))[i].as_py()
    if path:
        return str(path)
    place = [rows.column(rows.schema.get_field_index(n))[i].as_py() for n in ("row", "col")]
    return f"tile ({place[0]}, {place[1]})"


def read_index(tiles: TileSet, columns: Sequence[str] | None = None) -> pa.Table:
    """All light columns of all parts (no pixels), with a column `part`, in part order.

    Raises:
        TileSetError: a tile stands in it twice.
    """
    tables, schema = [], pa.schema([*INDEX, *targets.fields(tiles.classes)])
    for part in tiles.parts():
        have = geoparquet.columns(part.uri)
        lacking = [c for c in schema.names if c not in have]
        if lacking:
            raise TileSetError(
                f"{storage.redact(part.uri)} lacks the column {lacking[0]}; it is no Quadrat part"
            )
        heavy = ("image", targets.POINTS)
        wanted = [c for c in have if c not in heavy] if columns is None else list(columns)
        try:
            table = geoparquet.read_part(part.uri, wanted, schema=schema, rows=part.count)
        except StorageError as error:
            raise TileSetError(str(error)) from None
        name = pa.array([part.name] * len(table)).dictionary_encode()
        tables.append(table.append_column("part", name))
    if not tables:
        return INDEX.empty_table().append_column("part", pa.array([], pa.string()))
    whole = pa.concat_tables(tables, promote_options="default")
    check_unique(whole, tiles.uri)
    return whole


def read_points(tiles: TileSet) -> tuple[pa.Table, NDArray[np.int8]] | None:
    """The classes at points of all tiles: `row` and `col`, and (N, m, m) int8 in their order.

    None where a part has none: a tile set without labels, or of an earlier version.
    """
    tables = []
    for part in tiles.parts():
        if targets.POINTS not in geoparquet.columns(part.uri):
            return None
        wanted = ["row", "col", targets.POINTS]
        tables.append(geoparquet.read_part(part.uri, wanted, rows=part.count))
    if not tables or len({t.schema.field(targets.POINTS).type for t in tables}) > 1:
        return None
    whole = pa.concat_tables(tables)
    points = targets.points(whole[targets.POINTS])
    if points is None:
        raise TileSetError(
            f"{storage.redact(tiles.uri)} has damaged points; make the tile set again"
        )
    return whole.select(["row", "col"]), points


def check_unique(table: pa.Table, uri: str) -> None:
    """TileSetError when a TileId or a path stands twice in the table, or a tile has neither."""
    placed = len(table) - max(table["row"].null_count, table["col"].null_count)
    if 0 < placed < len(table):
        raise TileSetError(
            f"{storage.redact(uri)}: {placed} of its {len(table)} tiles have a place and the "
            "others have none; make it again"
        )
    if placed:
        key = table["row"].to_numpy().astype(np.int64) << 32
        key = key + table["col"].to_numpy().astype(np.int64)
        values, counts = np.unique(key, return_counts=True)
        if (counts > 1).any():
            first = int(values[counts > 1][0])
            col = ((first & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000
            raise TileSetError(
                f"{storage.redact(uri)}: tile ({(first - col) >> 32}, {col}) stands in it twice "
                f"({int((counts > 1).sum())} tiles do); cut one date into one tile set"
            )
    elif len(table):
        paths = table["path"].combine_chunks()
        if paths.null_count:
            raise TileSetError(
                f"{storage.redact(uri)}: {paths.null_count} tiles have neither a place nor a path; "
                "make it again"
            )
        if len(paths.unique()) < len(paths):
            raise TileSetError(f"{storage.redact(uri)}: a path stands in it twice; pack it again")
