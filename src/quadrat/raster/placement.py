"""How a file's pixels lie on the grid: on its lattice, turned or mirrored perhaps, or off it.

A file on the lattice is read as it is and turned in memory. Any other is warped by GDAL, which is
told the true ratio of the two pixels: left to itself it derives one from the shape of each window,
takes a rotation for a reduction, and blurs. This module does not know bands or nodata rules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import storage
from quadrat.errors import GridError
from quadrat.grid import Bounds, Grid
from quadrat.raster import files
from quadrat.raster.files import RasterInfo

ALIGNED = 0.01  # of a pixel: closer to the lattice than this is on it
FINER = 0.98  # of the grid's pixel: smaller ones are averaged
TURNED = 0.1  # sine of the turn from which GDAL's average of a pixel no longer covers its ground
MOST_FINE = 4  # sub-pixels along a pixel


@dataclass(frozen=True)
class Placement:
    """Where a file, or a warped view of it, lies on the grid's lattice.

    Attributes:
        row, col: the grid pixel at its upper left; height, width: its size in grid pixels.
        transposed: whether the file's rows run along the grid's columns.
        flip_rows, flip_cols: whether the grid's rows or columns run against the file's.
        fine: pixels of the view along one pixel of the grid; above 1 they are to be averaged.
    """

    row: int
    col: int
    height: int
    width: int
    transposed: bool = False
    flip_rows: bool = False
    flip_cols: bool = False
    fine: int = 1

    def window(self, r0: int, r1: int, c0: int, c1: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """The file's own rows and columns of the grid pixels `[r0, r1)`, `[c0, c1)`."""
        rows, cols = (r0 - self.row, r1 - self.row), (c0 - self.col, c1 - self.col)
        if self.flip_rows:
            rows = self.height - rows[1], self.height - rows[0]
        if self.flip_cols:
            cols = self.width - cols[1], self.width - cols[0]
        rows = rows[0] * self.fine, rows[1] * self.fine
        cols = cols[0] * self.fine, cols[1] * self.fine
        return (cols, rows) if self.transposed else (rows, cols)

    def laid(
        self, pixels: NDArray[Any], valid: NDArray[np.bool_] | None
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """What was read from `window`, `(B, h, w)` and `(h, w)`, as it lies on the grid."""
        if self.fine > 1:
            return _averaged(pixels, valid, self.fine)
        return self._turned(pixels), None if valid is None else self._turned(valid)

    def _turned(self, array: NDArray[Any]) -> NDArray[Any]:
        if self.transposed:
            array = array.swapaxes(-1, -2)
        if self.flip_rows:
            array = array[..., ::-1, :]
        return array[..., ::-1] if self.flip_cols else array


def on_lattice(i: RasterInfo, grid: Grid) -> Placement | None:
    """Where a file lies on the grid's lattice, or None when it is off it.

    Every corner counts: a resolution of 0.99999 drifts over a wide file.
    """
    if i.crs != grid.crs:
        return None
    a, b, c, d, e, f = i.transform
    cols = np.array([0, i.width, 0, i.width], np.float64)
    rows = np.array([0, 0, i.height, i.height], np.float64)
    at = np.stack([-(d * cols + e * rows + f), a * cols + b * rows + c], axis=1) / grid.pixel_m
    near = np.rint(at)  # (corners, 2): grid rows and columns
    if not np.isfinite(at).all() or np.abs(at - near).max() >= ALIGNED:
        return None
    along, down = near[1] - near[0], near[2] - near[0]  # along a row of the file, down a column
    transposed = bool(along[0])
    height, width = (i.width, i.height) if transposed else (i.height, i.width)
    first, second = (along, down) if transposed else (down, along)
    if (abs(first[0]), first[1], second[0], abs(second[1])) != (height, 0, 0, width):
        return None
    row, col = near.min(axis=0)
    return Placement(
        int(row), int(col), height, width, transposed, bool(first[0] < 0), bool(second[1] < 0)
    )


def warped(
    source: Any, i: RasterInfo, area: Bounds, grid: Grid, *, resampling: str, nodata: float | None
) -> tuple[Any, Placement]:
    """A view of an open file on the grid's lattice, with an alpha band for what is valid.

    Args:
        source: bands of colour alone, with a mask where one tells missing pixels.
        area: the file's ground in the grid's CRS.
        resampling: for pixels that are not finer than the grid's; finer ones are averaged.
        nodata: the value of pixels without data, or None.
    """
    from affine import Affine
    from rasterio.enums import Resampling
    from rasterio.vrt import WarpedVRT

    p = grid.pixel_m
    row, col = math.floor(-area.top / p), math.floor(area.left / p)
    height, width = math.ceil(-area.bottom / p) - row, math.ceil(area.right / p) - col
    steps = _steps(i, grid)
    sides = np.hypot(steps[:, 0], steps[:, 1])
    how, fine = resampling, 1
    if sides.max() < FINER * p:
        how = "average"
        if (np.abs(steps).min(axis=1) / sides).max() > TURNED:
            how, fine = "bilinear", min(MOST_FINE, max(2, round(p / float(sides.mean()))))
    q = p / fine
    view = WarpedVRT(
        source,
        crs=files._crs(grid.crs),
        transform=Affine(q, 0, col * p, 0, -q, -row * p),
        height=height * fine,
        width=width * fine,
        resampling=Resampling[how],
        src_nodata=nodata,
        add_alpha=True,
        warp_mem_limit=64,
        UNIFIED_SRC_NODATA="YES",  # missing are pixels that have it in all bands
        XSCALE=float(sides[0] / q),
        YSCALE=float(sides[1] / q),
    )
    return view, Placement(row, col, height, width, fine=fine)


def source_pixel(i: RasterInfo, grid: Grid) -> float:
    """Metres of a file's pixel on the ground of the grid's CRS, near the file's middle."""
    steps = _steps(i, grid)
    return float(np.hypot(steps[:, 0], steps[:, 1]).mean())


def _steps(i: RasterInfo, grid: Grid) -> NDArray[np.float64]:
    """A step along a row and one down a column of the file, (2, 2) x and y in the grid's CRS.

    Taken at the file's middle or, where that has no place in the CRS, at the nearest point of a
    few that has one.
    """
    a, b, c, d, e, f = i.transform
    shares = sorted(
        ((u, v) for u in (0.5, 0.25, 0.75, 0.0, 1.0) for v in (0.5, 0.25, 0.75, 0.0, 1.0)),
        key=lambda at: math.hypot(at[0] - 0.5, at[1] - 0.5),
    )
    at = np.array(shares) * (i.width, i.height)
    cols = at[:, :1] + (0, 1, 0)
    rows = at[:, 1:] + (0, 0, 1)
    xs, ys = files.transform_points(
        i.crs, grid.crs, a * cols + b * rows + c, d * cols + e * rows + f
    )
    with np.errstate(invalid="ignore"):
        steps = np.stack([xs[:, 1:] - xs[:, :1], ys[:, 1:] - ys[:, :1]], axis=2)
    placed = np.isfinite(steps).all(axis=(1, 2)) & (np.abs(steps).max(axis=2) > 0).all(axis=1)
    if not placed.any():
        raise GridError(f"{storage.redact(i.uri)} has no place in {grid.crs}; choose another --crs")
    first: NDArray[np.float64] = steps[int(np.argmax(placed))]
    return first


def _averaged(
    pixels: NDArray[Any], valid: NDArray[np.bool_] | None, fine: int
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Means over the valid pixels of `fine` x `fine`; valid where at least half of them are."""
    bands, height, width = pixels.shape
    blocks = pixels.reshape(bands, height // fine, fine, width // fine, fine)
    if valid is None:
        mean, kept = blocks.mean(axis=(2, 4), dtype=np.float64), None
    else:
        inside = valid.reshape(blocks.shape[1:])
        count = inside.sum(axis=(1, 3))
        total = np.where(inside, blocks, 0).sum(axis=(2, 4), dtype=np.float64)
        mean, kept = total / np.maximum(count, 1), 2 * count >= fine * fine
    if np.issubdtype(pixels.dtype, np.integer):
        mean = np.rint(mean)
    return mean.astype(pixels.dtype), kept
