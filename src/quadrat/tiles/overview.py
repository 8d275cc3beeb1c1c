"""A date's ground seen from afar: all tiles as one small picture, from imagery or from a tile set.

It does not know what is laid over it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import raster
from quadrat.grid import Grid, TileRange
from quadrat.raster import Imagery
from quadrat.tiles.rasters import expand
from quadrat.tiles.sets import is_tileset
from quadrat.tiles.sources import open_tiles, read_part
from quadrat.tiles.surroundings import imagery_of

Pixels = NDArray[np.uint8]  # (H, W, 3)
Placed = tuple[int, int, Pixels]  # row, col, a small picture of the tile


def overview(
    info: Mapping[str, Any],
    grid: Grid,
    area: TileRange,
    px: int,
    imagery: Sequence[str] = (),
) -> Pixels:
    """The ground of scores as one picture of `px` pixels a tile.

    Args:
        info: what a manifest of scores says (`Scores.info`).
        area: rows and columns of the picture.
        imagery: files to read instead of those that the scores name.

    Returns:
        pixels (rows * px, cols * px, 3) uint8, white where nothing is known.

    Raises:
        ScoresError: the scores name nothing that is still there.
        RasterError, GridError: imagery that cannot be read.
    """
    rows, cols = area.r1 - area.r0, area.c1 - area.c0
    picture = np.full((rows * px, cols * px, 3), 255, np.uint8)
    for row, col, small in _small(info, grid, area, px, imagery):
        r, c = row - area.r0, col - area.c0
        if 0 <= r < rows and 0 <= c < cols:
            picture[r * px : (r + 1) * px, c * px : (c + 1) * px] = small
    return picture


def _small(
    info: Mapping[str, Any], grid: Grid, area: TileRange, px: int, imagery: Sequence[str]
) -> Iterator[Placed]:
    source = info.get("source") or {}
    uri = str(source.get("uri", ""))
    if not imagery and source.get("kind") == "tileset" and is_tileset(uri):
        for part in open_tiles(uri).parts():
            for batch in read_part(part, 64):
                places = zip(*(batch.index[n].to_pylist() for n in ("row", "col")), strict=True)
                for chip, (row, col) in zip(batch.chips, places, strict=True):
                    if row is not None:
                        yield row, col, _shrunk(chip, px)
        return
    files, reading = (expand(imagery), {}) if imagery else imagery_of(info)
    opened = raster.open_imagery(
        files, crs=grid.crs, tile_m=grid.tile_m, pixel_m=grid.pixel_m, **reading
    )
    yield from _of_imagery(opened, grid, area, px)


def _of_imagery(opened: Imagery, grid: Grid, area: TileRange, px: int) -> Iterator[Placed]:
    s = grid.size_px
    for row in range(area.r0, area.r1):
        line = TileRange(row, row + 1, area.c0, area.c1)
        pixels, valid = raster.read_block(opened, line)
        strip = pixels.transpose(1, 2, 0)
        if valid is not None:
            strip = np.where(valid[..., None], strip, np.uint8(255))
        for i in range(area.c1 - area.c0):
            at = slice(i * s, (i + 1) * s)
            if valid is None or valid[:, at].any():
                yield row, area.c0 + i, _shrunk(np.ascontiguousarray(strip[:, at]), px)


def _shrunk(chip: Pixels, px: int) -> Pixels:
    from PIL import Image

    small = Image.fromarray(chip).resize((px, px), Image.Resampling.BOX)
    return np.asarray(small, np.uint8)
