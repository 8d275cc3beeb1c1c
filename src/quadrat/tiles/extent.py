"""How much ground imagery covers: too much to plan, too little for a tile, or without content."""

from __future__ import annotations

from quadrat import raster, storage
from quadrat.errors import RasterError
from quadrat.grid import TileRange
from quadrat.raster import Imagery

MOST_TILES = 20_000_000  # a million square kilometres of tiles of 224 m
MANY_FLAT = 0.01  # share of tiles of a single colour from which on a warning is given


def check_size(imagery: Imagery, max_nodata: float) -> None:
    """RasterError for pixels larger than a tile, and for imagery of which no tile can be kept."""
    grid = imagery.grid
    for i in imagery.infos:
        pixel = raster.source_pixel(i, grid)
        if pixel > grid.tile_m:
            raise RasterError(
                f"a pixel of {storage.redact(i.uri)} is {pixel:,.0f} m wide, more than a tile of "
                f"{grid.tile_m:g} m; check its CRS and pixel size with gdalinfo"
            )
    width, height = (
        max(a[k + 2] for a in imagery.areas) - min(a[k] for a in imagery.areas) for k in (0, 1)
    )
    held = min(grid.tile_m, width) * min(grid.tile_m, height) / grid.tile_m**2
    name = storage.redact(imagery.infos[0].uri)
    if held < 1 - max_nodata - 1e-9:
        raise RasterError(
            f"{name} is {width:,.0f} x {height:,.0f} m, smaller than "
            f"one plot of {grid.tile_m:g} x {grid.tile_m:g} m; give more imagery, or cut smaller "
            "tiles (--tile-m)"
        )


def check_number(imagery: Imagery, most: int) -> None:
    """RasterError before very many tiles are planned, as of a file with a wrong pixel size."""
    if most > MOST_TILES:
        km2 = most * imagery.grid.tile_m**2 / 1e6
        name = storage.redact(imagery.infos[0].uri)
        raise RasterError(
            f"{name} covers {km2:,.0f} km2, about {most:,} tiles of "
            f"{imagery.grid.tile_m:g} m and more than {MOST_TILES:,}; check its CRS and pixel size "
            "with gdalinfo, or give an outline with --within"
        )


def common(a: TileRange, b: TileRange) -> TileRange:
    """The tiles of both rectangles; none where they do not meet."""
    return TileRange(max(a.r0, b.r0), min(a.r1, b.r1), max(a.c0, b.c0), min(a.c1, b.c1))


def flat_warning(flat: int, tiles: int) -> tuple[str, ...]:
    """A warning where many of the tiles are of a single colour; () where few are."""
    if flat < max(2, MANY_FLAT * tiles):
        return ()
    return (
        f"{flat:,} of {tiles:,} tiles are of a single colour: pixels without data that the imagery "
        "does not declare? Then give --nodata or --alpha",
    )
