"""The label raster of the synthetic county: NLCD codes of 30 m in another CRS, with their errors.

As in NLCD, cells at the borders of classes may show the neighbour's class, and here and there a
whole patch is called something like it. It does not know colours or pictures.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from quadrat import raster
from quadrat.county.land import I32, U32, Land, mix
from quadrat.grid import Bounds

CRS = "EPSG:5070"
CELL_M = 30
ROWS = 256  # cells written at once
BORDER_ERRORS = 10  # one cell in so many shows the code that lies a cell further
PATCH_CELLS, PATCH_ERRORS = 13, 40  # of patches so wide, one in so many is called something else
# NLCD code -> what it is taken for in such a patch.
TAKEN_FOR: Mapping[int, int] = {
    11: 95, 21: 71, 22: 21, 23: 22, 24: 23, 31: 71, 41: 43, 42: 90, 43: 52, 52: 71, 71: 81,
    81: 71, 82: 81, 90: 41, 95: 71,
}  # fmt: skip


def write(
    uri: str, land: Land, date: int, *, whole: Bounds, margin: tuple[int, ...], crs: str,
    tags: Mapping[str, str],
) -> None:  # fmt: skip
    """Write the labels of one date as a GeoTIFF of one uint8 band, 0 where there is no label.

    Args:
        whole: of the county's tiles, in `crs`.
        margin: metres of ground labelled beyond it: west, north, east, south.
    """
    west, north, east, south = margin
    b = Bounds(whole.left - west, whole.bottom - south, whole.right + east, whole.top + north)
    outer = raster.transform_bounds(crs, CRS, b)
    # NLCD's own raster starts 15 m off the multiples of 30 m
    left, top = (outer.left // CELL_M) * CELL_M - 15, -(-outer.top // CELL_M) * CELL_M + 15
    width = int((outer.right - left) // CELL_M) + 1
    height = int((top - outer.bottom) // CELL_M) + 1
    with raster.create_geotiff(
        uri, width=width, height=height, count=1, crs=CRS,
        transform=(30.0, 0.0, left, 0.0, -30.0, top), nodata=0, tags=dict(tags),
        band_names=("NLCD code",),
    ) as canvas:  # fmt: skip
        for y in range(0, height, ROWS):
            h = min(ROWS, height - y)
            ex, ny = _projected(left, top - y * CELL_M, width, h, crs)
            inside = (ex >= b.left) & (ex < b.right) & (ny > b.bottom) & (ny <= b.top)
            codes = np.zeros((h, width), np.uint8)
            if inside.any():
                px = np.where(inside, np.floor(ex - whole.left), 0).astype(np.int32)
                py = np.where(inside, np.floor(whole.top - ny), 0).astype(np.int32)
                codes = seen_codes(land, px, py, date)
                codes[~inside] = 0
            canvas.write_window(y, 0, codes[None])


def seen_codes(land: Land, x: I32, y: I32, date: int) -> NDArray[np.uint8]:
    """The codes that the labels give for ground at positions in metres, errors included.

    An error is a function of the seed and the place, so most of them are the same at every date.
    """
    h = _hash(land.seed, x // CELL_M, y // CELL_M)
    off = np.where(h % BORDER_ERRORS == 0, np.int32(CELL_M), np.int32(0))
    ways = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.int32)[(h >> np.uint32(8)) & 3]
    codes = land.code_of[land.cells(x + off * ways[..., 0], y + off * ways[..., 1], date).kind]
    side = CELL_M * PATCH_CELLS
    wrong = _hash(land.seed + 1, x // side, y // side) % PATCH_ERRORS == 0
    other = np.arange(256, dtype=np.uint8)
    other[list(TAKEN_FOR)] = list(TAKEN_FOR.values())
    codes[wrong] = other[codes[wrong]]
    return codes


def _hash(seed: int, x: I32, y: I32) -> U32:
    return mix(
        x.astype(np.uint32) * np.uint32(0x85EBCA6B)
        + y.astype(np.uint32) * np.uint32(0xC2B2AE35)
        + np.uint32(seed)
    )


def _projected(
    left: float, top: float, width: int, height: int, crs: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres of label cells in the imagery's CRS, x and y, (height, width).

    Every eighth cell is projected and those between are interpolated: at most a millimetre off.
    """
    every = 8
    i = np.arange(0, -(-width // every) + 2) * every
    j = np.arange(0, -(-height // every) + 2) * every
    cx, cy = np.meshgrid(left + (i + 0.5) * CELL_M, top - (j + 0.5) * CELL_M)
    ex, ny = raster.transform_points(CRS, crs, cx, cy)
    fx, fy = np.arange(width) / every, np.arange(height) / every
    ix, iy = fx.astype(int), fy.astype(int)
    fx, fy = fx - ix, (fy - iy)[:, None]

    def between(v: NDArray[np.float64]) -> NDArray[np.float64]:
        rows = v[:, ix] * (1 - fx) + v[:, ix + 1] * fx
        return np.asarray(rows[iy] * (1 - fy) + rows[iy + 1] * fy)

    return between(ex), between(ny)
