"""The grid of square plots: pixels <-> ground. Pure arithmetic; knows no files and no projections.

Rows run south and columns east, as in a raster; row 0, column 0 starts at the CRS origin. Tile
(row, col) is the ground with

    col * tile_m <= x < (col + 1) * tile_m      and      row * tile_m <= -y < (row + 1) * tile_m

so rows are negative north of the origin. Intervals are half-open everywhere: rows `[r0, r1)`.
The grid depends on the CRS and the tile size alone, never on a file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quadrat.errors import GridError
from quadrat.records import Record

MAX_SIZE_PX = 4096


class TileId(NamedTuple):
    """The name of one square of ground on a grid, the same for every year and mosaic."""

    row: int
    col: int


class Bounds(NamedTuple):
    """A rectangle in the units of a CRS."""

    left: float
    bottom: float
    right: float
    top: float


class TileRange(NamedTuple):
    """A rectangle of tiles: rows `[r0, r1)`, columns `[c0, c1)`."""

    r0: int
    r1: int
    c0: int
    c1: int

    @property
    def n_tiles(self) -> int:
        """How many tiles."""
        return max(0, self.r1 - self.r0) * max(0, self.c1 - self.c0)


@dataclass(frozen=True)
class Grid(Record):
    """Squares of `tile_m` metres in one projected CRS, `pixel_m` metres a pixel.

    Attributes:
        crs: an authority code ("EPSG:26917") or WKT2 text of a projected CRS in metres.
    """

    crs: str
    tile_m: float = 224.0
    pixel_m: float = 1.0

    def __post_init__(self) -> None:
        if not (self.tile_m > 0 and self.pixel_m > 0 and math.isfinite(self.tile_m)):
            raise GridError(f"tile {self.tile_m} m and pixel {self.pixel_m} m must be above 0")
        size = self.tile_m / self.pixel_m
        if abs(size - round(size)) > 1e-6 or not 1 <= round(size) <= MAX_SIZE_PX:
            raise GridError(
                f"a tile of {self.tile_m} m is not a whole number of {self.pixel_m} m pixels "
                f"between 1 and {MAX_SIZE_PX}; change --tile-m or --pixel-m"
            )

    @property
    def size_px(self) -> int:
        """Pixels along one side of a tile."""
        return round(self.tile_m / self.pixel_m)

    def bounds(self, tile: TileId) -> Bounds:
        """The ground of one tile."""
        return self.range_bounds(TileRange(tile.row, tile.row + 1, tile.col, tile.col + 1))

    def range_bounds(self, tiles: TileRange) -> Bounds:
        """The ground of a rectangle of tiles."""
        m = self.tile_m
        return Bounds(tiles.c0 * m, -tiles.r1 * m, tiles.c1 * m, -tiles.r0 * m)

    def tile_at(self, x: float, y: float) -> TileId:
        """The tile that holds the point."""
        return TileId(math.floor(-y / self.tile_m), math.floor(x / self.tile_m))

    def covering(self, bounds: Bounds) -> TileRange:
        """The smallest rectangle of tiles that holds `bounds`; a touch of 1 mm is no overlap."""
        m, eps = self.tile_m, 1e-3
        return TileRange(
            math.floor((-bounds.top + eps) / m),
            math.ceil((-bounds.bottom - eps) / m),
            math.floor((bounds.left + eps) / m),
            math.ceil((bounds.right - eps) / m),
        )

    def centres(
        self, rows: NDArray[np.integer[Any]], cols: NDArray[np.integer[Any]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Centres of tiles, x and y in metres, (N,) float64 each."""
        r, c = np.asarray(rows, np.float64), np.asarray(cols, np.float64)
        return (c + 0.5) * self.tile_m, -(r + 0.5) * self.tile_m

    def wkb(
        self, rows: NDArray[np.integer[Any]], cols: NDArray[np.integer[Any]]
    ) -> NDArray[np.void]:
        """The tiles' outlines as little-endian WKB polygons, shape (N,) of 93-byte records."""
        point = np.dtype([("x", "<f8"), ("y", "<f8")])
        layout = np.dtype(
            [("order", "u1"), ("kind", "<u4"), ("rings", "<u4"), ("n", "<u4"), ("p", point, (5,))]
        )
        out = np.empty(len(rows), dtype=layout)
        out["order"], out["kind"], out["rings"], out["n"] = 1, 3, 1, 5
        r, c = np.asarray(rows, np.float64), np.asarray(cols, np.float64)
        # counter-clockwise from the south-west corner, closed
        for i, (dr, dc) in enumerate(((1, 0), (1, 1), (0, 1), (0, 0), (1, 0))):
            out["p"]["x"][:, i] = (c + dc) * self.tile_m
            out["p"]["y"][:, i] = -(r + dr) * self.tile_m
        return out.view(f"V{layout.itemsize}")


def tile_keys(rows: NDArray[np.integer[Any]], cols: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """One number for each TileId, (N,) int64, in the order of rows and then columns."""
    return (np.asarray(rows, np.int64) << 32) + np.asarray(cols, np.int64)


def places_of(keys: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each wanted key stands in `keys`, int64, shape of `wanted`; -1 where it does not.

    Args:
        keys: (N,) of `tile_keys`, each once, in any order.
    """
    if not len(keys):
        return np.full(wanted.shape, -1, np.int64)
    order = np.argsort(keys, kind="stable")
    at = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    return np.where(keys[at] == wanted, at, -1)


def from_dict(data: Mapping[str, Any]) -> Grid:
    """A grid from the values that `Grid.to_dict` gave; GridError when they are not one."""
    try:
        return Grid(str(data["crs"]), float(data["tile_m"]), float(data["pixel_m"]))
    except (KeyError, TypeError, ValueError) as error:
        raise GridError(f"not a grid: {error}; it needs crs, tile_m and pixel_m") from None
