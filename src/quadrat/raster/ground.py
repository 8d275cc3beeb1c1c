"""Ground areas: how many hectares of the Earth a tile covers, whatever its projection says.

A projection that is not equal-area stretches the ground: a square of Web Mercator at 38 degrees
north covers 0.62 of the area that its sides say. Areas are of the WGS 84 ellipsoid, by the closed
form of the area between the equator and a latitude. This module does not know pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quadrat.errors import GridError
from quadrat.grid import Bounds, Grid
from quadrat.raster import files

Floats = NDArray[np.float64]

LONLAT = "EPSG:4326"
SEMI_MAJOR, FLATTENING = 6378137.0, 1 / 298.257223563  # of WGS 84, metres
STEP_M = 50.0  # half the distance over which the scale is measured
KNOT_M = 4000.0  # ratios are computed so far apart and interpolated: exact to 1e-7
WARNED, REFUSED = 0.01, 0.10  # how far ground and nominal area may differ


def area_ratio(crs: str, x: ArrayLike, y: ArrayLike) -> Floats:
    """Ground area over nominal area at points of a projected CRS in metres, of their shape.

    NaN where a point has no place on the Earth.

    Raises:
        GridError: the CRS is not one of the Earth.
    """
    xs, ys = np.asarray(x, np.float64), np.asarray(y, np.float64)
    steps = np.array([(1, 0), (-1, 0), (0, 1), (0, -1)]) * STEP_M
    lon, lat = files.transform_points(
        crs, LONLAT, xs[..., None] + steps[:, 0], ys[..., None] + steps[:, 1]
    )
    with np.errstate(invalid="ignore"):
        turn = np.stack([lon[..., 0] - lon[..., 1], lon[..., 2] - lon[..., 3]])
        turn = np.radians((turn + 180) % 360 - 180)  # across the antimeridian too
        zone = _zone_area(np.radians(np.where(np.isfinite(lat), lat, np.nan)))
        rise = np.stack([zone[..., 0] - zone[..., 1], zone[..., 2] - zone[..., 3]])
        ratio: Floats = np.abs(turn[0] * rise[1] - turn[1] * rise[0]) / (2 * STEP_M) ** 2
    return ratio


def _zone_area(lat: Floats) -> Floats:
    """Square metres between the equator and latitudes in radians, for a radian of longitude."""
    e = math.sqrt(FLATTENING * (2 - FLATTENING))
    sine = np.sin(lat)
    areas: Floats = (
        (SEMI_MAJOR * (1 - FLATTENING)) ** 2
        / 2
        * (sine / (1 - (e * sine) ** 2) + np.arctanh(e * sine) / e)
    )
    return areas


def tile_hectares(
    grid: Grid, rows: NDArray[np.integer], cols: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Hectares of ground that each tile covers, (N,).

    Raises:
        GridError: a tile has no place on the Earth.
    """
    step = max(1, int(KNOT_M / grid.tile_m))  # tiles from knot to knot
    r, c = np.asarray(rows, np.int64), np.asarray(cols, np.int64)
    i, j = r // step, c // step
    u, v = (r + 0.5) / step - i, (c + 0.5) / step - j
    squares, place = np.unique(np.stack([i, j], axis=1), axis=0, return_inverse=True)
    side = step * grid.tile_m
    knots = squares[:, None, :] + np.array([(0, 0), (0, 1), (1, 0), (1, 1)])  # (squares, 4, 2)
    at = area_ratio(grid.crs, knots[..., 1] * side, -knots[..., 0] * side)[place.ravel()]
    ratio = (1 - u) * ((1 - v) * at[:, 0] + v * at[:, 1]) + u * ((1 - v) * at[:, 2] + v * at[:, 3])
    if not np.isfinite(ratio).all():
        n = int(np.flatnonzero(~np.isfinite(ratio))[0])
        raise GridError(f"tile ({r[n]}, {c[n]}) has no place on the Earth in {grid.crs[:60]}")
    hectares: Floats = ratio * (grid.tile_m**2 / 1e4)
    return hectares


def check(grid: Grid, areas: Sequence[Bounds]) -> None:
    """Refuse a grid whose tiles are far from the size that `tile_m` says.

    Args:
        areas: the ground of the imagery, in the grid's CRS.
    """
    if abs(_furthest(grid, areas) - 1) > REFUSED:
        raise GridError(
            f"{_said(grid, areas)}; plots are measured on the ground: {_cure(areas, grid)}"
        )


def warnings(grid: Grid, areas: Sequence[Bounds]) -> tuple[str, ...]:
    """What a user should know of tiles whose ground differs from their nominal area by over 1%."""
    if abs(_furthest(grid, areas) - 1) <= WARNED:
        return ()
    return (f"{_said(grid, areas)}; hectares are of the ground; {_cure(areas, grid)}",)


def _said(grid: Grid, areas: Sequence[Bounds]) -> str:
    nominal = grid.tile_m**2 / 1e4
    return (
        f"a tile of {grid.tile_m:g} m covers {nominal * _furthest(grid, areas):.3g} ha of ground "
        f"in {grid.crs[:60]}, not {nominal:.3g}"
    )


def _furthest(grid: Grid, areas: Sequence[Bounds]) -> float:
    """The ratio of ground to nominal area that is furthest from 1, at corners and middles."""
    ratio = area_ratio(grid.crs, *_points(areas))
    finite = ratio[np.isfinite(ratio)]
    if not len(finite):
        raise GridError(f"the imagery has no place on the Earth in {grid.crs[:60]}; check its CRS")
    return float(finite[np.argmax(np.abs(np.log(np.maximum(finite, 1e-9))))])


def _points(areas: Sequence[Bounds]) -> tuple[Floats, Floats]:
    left, bottom, right, top = np.array(areas, np.float64).T
    x = [left, right, left, right, (left + right) / 2]
    y = [bottom, bottom, top, top, (bottom + top) / 2]
    return np.concatenate(x), np.concatenate(y)


def _cure(areas: Sequence[Bounds], grid: Grid) -> str:
    """The CRS that fits all of the imagery: its UTM zone, or Albers in the conterminous states."""
    lon, lat = files.transform_points(grid.crs, LONLAT, *_points(areas))
    placed = np.isfinite(lon) & np.isfinite(lat)
    lon, lat = lon[placed], lat[placed]
    whole = Bounds(float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max()))
    choices = [files.suggest_crs(whole, LONLAT)]
    if whole.left > -125 and whole.right < -66 and whole.bottom > 24 and whole.top < 50:
        choices.append("EPSG:5070")
    for crs in choices:
        ratio = area_ratio(crs, *files.transform_points(LONLAT, crs, lon, lat))
        if np.isfinite(ratio).all() and np.abs(ratio - 1).max() <= WARNED:
            return f"give --crs {crs}"
    return "give an equal-area CRS with --crs"
