"""A tile and the tiles around it, as one picture: from imagery, or from a tile set.

It does not know why a place is looked at.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quadrat import raster, storage
from quadrat.errors import ScoresError
from quadrat.grid import Grid, TileRange
from quadrat.raster import Imagery
from quadrat.tiles.rasters import expand
from quadrat.tiles.sets import is_tileset
from quadrat.tiles.sources import open_tiles, read_part

Pixels = NDArray[np.uint8]  # (H, W, 3)

NO_DATA = 60  # grey of ground without pixels


class Surroundings(Protocol):
    """Pixels of places on one date."""

    def __call__(self, row: int, col: int) -> Pixels:
        """A tile in the middle of the tiles around it, (n * size_px, n * size_px, 3) uint8."""
        ...


@dataclass(frozen=True)
class _OfImagery:
    imagery: Imagery
    around: int

    def __call__(self, row: int, col: int) -> Pixels:
        n = self.around
        pixels, valid = raster.read_block(
            self.imagery, TileRange(row - n, row + n + 1, col - n, col + n + 1)
        )
        out = np.ascontiguousarray(pixels.transpose(1, 2, 0))
        if valid is not None:
            out = np.where(valid[..., None], out, np.uint8(NO_DATA))
        return out


@dataclass(frozen=True)
class _OfTileSet:
    """`chips` (N, size_px, size_px, 3) lie on disk; `places` says which is where."""

    chips: Pixels
    places: Mapping[tuple[int, int], int]
    around: int

    def __call__(self, row: int, col: int) -> Pixels:
        n, s = self.around, self.chips.shape[1]
        side = 2 * n + 1
        out = np.full((side * s, side * s, 3), NO_DATA, np.uint8)
        for i in range(side):
            for j in range(side):
                at = self.places.get((row - n + i, col - n + j))
                if at is not None:
                    out[i * s : (i + 1) * s, j * s : (j + 1) * s] = self.chips[at]
        return out


def of_imagery(
    imagery: Sequence[str], grid: Grid, *, around: int = 1, **reading: Any
) -> Surroundings:
    """Pixels of files, or of folders of files, read when they are asked for.

    Args:
        around: tiles on each side of the middle one.
        reading: bands, nodata, stretch and alpha, as for `quadrat.raster.open_imagery`.

    Raises:
        RasterError, GridError: as `open_imagery`.
    """
    given = {k: v for k, v in reading.items() if v is not None}
    opened = raster.open_imagery(
        expand(imagery), crs=grid.crs, tile_m=grid.tile_m, pixel_m=grid.pixel_m, **given
    )
    return _OfImagery(opened, around)


def of_tile_set(uri: str, places: Sequence[tuple[int, int]], *, around: int = 1) -> Surroundings:
    """The wanted tiles of a tile set and those around them, read once into a file without a name.

    Args:
        places: (row, col) of the tiles that will be asked for.
    """
    steps = range(-around, around + 1)
    wanted = {(r + i, c + j) for r, c in places for i in steps for j in steps}
    opened = open_tiles(uri)
    s = opened.size_px
    found: dict[tuple[int, int], int] = {}
    with tempfile.TemporaryFile() as file:
        for part in opened.parts():
            if not wanted:
                break
            for batch in read_part(part, 64):
                rows, cols = (batch.index[n].to_pylist() for n in ("row", "col"))
                for i, place in enumerate(zip(rows, cols, strict=True)):
                    if place in wanted:
                        wanted.discard(place)
                        found[place] = len(found)
                        file.write(batch.chips[i].tobytes())
        file.flush()
        chips: Pixels = np.empty((0, s, s, 3), np.uint8)
        if found:
            chips = np.memmap(file, np.uint8, "r", shape=(len(found), s, s, 3))
    return _OfTileSet(chips, found, around)


def of_source(
    info: Mapping[str, Any],
    grid: Grid,
    places: Sequence[tuple[int, int]],
    *,
    what: str = "the folder of scores",
    around: int = 1,
    **reading: Any,
) -> Surroundings:
    """Pixels from where scores came from: the tile set, or the imagery, that was scored.

    Args:
        info: what a manifest of scores says (`Scores.info`).
        what: the scores, as the subject of a message.

    Raises:
        ScoresError: they name nothing that is still there.
    """
    source = info.get("source") or {}
    uri, kind = str(source.get("uri", "")), str(source.get("kind", ""))
    if kind == "tileset" and is_tileset(uri):
        return of_tile_set(uri, places, around=around)
    files, recorded = imagery_of(info, what=what)
    given = {k: v for k, v in reading.items() if v is not None}
    return of_imagery(files, grid, around=around, **(recorded | given))


def imagery_of(
    info: Mapping[str, Any], *, what: str = "the folder of scores"
) -> tuple[list[str], dict[str, Any]]:
    """The files that scores came from, and how their bands were read (`raster.open_imagery`).

    Raises:
        ScoresError: as `of_source`.
    """
    told = info.get("provenance") or {}
    listed = told.get("imagery") or []
    files = [str(i.get("file", "")) for i in listed]
    missing = [f for f in files if storage.is_local(f) and not storage.exists(f)]
    if not files or missing:
        gone = f"; {storage.redact(missing[0])} is gone" if missing else ""
        raise ScoresError(f"{what} names no imagery that can be read{gone}; give it with --imagery")
    reading: dict[str, Any] = {} if told.get("alpha") is None else {"alpha": int(told["alpha"])}
    bands = {tuple(int(b) for b in i.get("bands") or ()) for i in listed}
    if len(bands) == 1 and len(next(iter(bands))) == 3:  # files of one kind, or as was asked
        reading["bands"] = bands.pop()
    return files, reading
