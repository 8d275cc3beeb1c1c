"""One way to open, read and list every kind of source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from quadrat import products, storage
from quadrat.errors import TileSetError
from quadrat.legend import Legend
from quadrat.tiles import folders, rasters, relabelled, sets
from quadrat.tiles.folders import FolderPart, FolderSource, open_folder
from quadrat.tiles.rasters import RasterPart, RasterSource
from quadrat.tiles.relabelled import RelabelledPart, RelabelledSet
from quadrat.tiles.sets import SetPart, TileSet, open_tileset
from quadrat.tiles.types import Batch, Part, Source


def open_tiles(
    uri: str, *, size_px: int | None = None, legend: Legend | None = None, resize: bool = True
) -> TileSet | FolderSource:
    """A tile set, or a folder of pictures, one subfolder a class.

    Args:
        size_px: pixels of the tiles of a folder (224 by default); a tile set has its own.
        legend: for a folder; by default its subfolders make one.
        resize: whether a folder's pictures of another size are resized or skipped.

    Raises:
        TileSetError: neither, or damaged.
    """
    uri = storage.normalise(uri)
    if sets.is_tileset(uri):
        return open_tileset(uri)
    if not storage.exists(uri):
        raise TileSetError(f"{storage.redact(uri)} does not exist; check the path")
    if products.kinds_of(uri) == {"tiles"}:
        raise TileSetError(
            f"{storage.redact(uri)} is an unfinished tile set; run the command that made it again"
        )
    return open_folder(uri, size_px=size_px or folders.DEFAULT_PX, legend=legend, resize=resize)


_READERS: dict[type, Any] = {
    SetPart: sets.read,
    FolderPart: folders.read,
    RasterPart: rasters.read,
    RelabelledPart: relabelled.read,
}


def read_part(part: Part, batch_size: int = 64) -> Iterator[Batch]:
    """The tiles of a part in a fixed order, at most about `batch_size` at a time."""
    reader = _READERS.get(type(part))
    if reader is None:
        raise TileSetError(f"{type(part).__name__} is no part of a tile set, folder or imagery")
    yield from reader(part, batch_size)


def source_warnings(source: Source) -> tuple[str, ...]:
    """What a user of the source should know, a sentence each: entries of a folder not used, ..."""
    return source.warnings if isinstance(source, FolderSource | RasterSource) else ()


def source_dates(source: Source) -> list[str]:
    """The acquisition dates of the imagery that the tiles are from, in order; [] if unknown."""
    imagery = source.provenance.get("imagery") or ()
    return sorted({str(i["date"]) for i in imagery if isinstance(i, dict) and i.get("date")})


def index(source: Source) -> pa.Table:
    """One row a tile without pixels: the columns of `INDEX`, fractions where there are, `part`.

    Rows stand in the order in which `read_part` gives them. For pictures that turn out to be
    unreadable the row is there all the same.

    Raises:
        TileSetError: a tile stands twice in a tile set.
    """
    if isinstance(source, TileSet):
        return sets.read_index(source)
    if isinstance(source, RelabelledSet):
        return relabelled.read_index(source)
    if isinstance(source, FolderSource):
        table = folders.index_of(source.pictures, source.uri)
        names = [part.name for part in source.parts() for _ in range(part.count)]
        return table.append_column("part", pa.array(names, pa.string()))
    raise TileSetError("imagery has no labels; cut it with quadrat tile --labels first")
