"""Ground areas by pyproj, independent of Quadrat's own."""

from __future__ import annotations

import numpy as np
from pyproj import Geod
from rasterio.warp import transform

from quadrat.grid import Grid, TileId


def geodesic(grid: Grid, tile: TileId) -> float:
    """Hectares of a tile on the WGS 84 ellipsoid, its sides in 50 pieces."""
    left, bottom, right, top = grid.bounds(tile)
    s = np.linspace(0, 1, 50, endpoint=False)
    x = [left + s * (right - left), right + 0 * s, right - s * (right - left), left + 0 * s]
    y = [bottom + 0 * s, bottom + s * (top - bottom), top + 0 * s, top - s * (top - bottom)]
    lon, lat = transform(grid.crs, "EPSG:4326", np.concatenate(x), np.concatenate(y))
    return float(abs(Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)[0]) / 1e4)
