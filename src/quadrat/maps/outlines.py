"""Tiles as GeoJSON polygons, in longitude and latitude (RFC 7946)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import raster
from quadrat.grid import Grid


def geojson(
    grid: Grid,
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    properties: Sequence[Mapping[str, Any]],
) -> bytes:
    """The outlines of tiles (N,), each with its properties."""
    # counter-clockwise from the south-west corner, closed
    x = (cols[:, None] + np.array([0, 1, 1, 0, 0])) * grid.tile_m
    y = -(rows[:, None] + np.array([1, 1, 0, 0, 1])) * grid.tile_m
    lon, lat = raster.transform_points(grid.crs, "EPSG:4326", x, y) if len(rows) else (x, y)
    features = [
        {
            "type": "Feature",
            "properties": values,
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        }
        for values, ring in zip(properties, np.stack([lon, lat], -1).round(7).tolist(), strict=True)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()
