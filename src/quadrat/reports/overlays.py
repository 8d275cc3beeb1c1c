"""Roads, towns, outlines: what the user lays over the map, in tiles from the map's first corner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely

from quadrat import storage, vectors
from quadrat.errors import InputError
from quadrat.grid import Bounds, Grid, TileRange

MOST_POINTS = 200_000  # of all lines, and named ones: some two megabytes of the page
FINEST = 0.05  # of a tile: what the map cannot show is left out
NAMES = ("name", "fullname", "label", "town", "city")  # a field in any case


def overlays(uris: Sequence[str], grid: Grid, area: TileRange) -> list[dict[str, Any]]:
    """Lines and named points of vector files, for the page.

    Args:
        area: the map's tiles; what lies elsewhere is left out.

    Raises:
        VectorError: a file that cannot be read. InputError: none of a file lies on the map, or it
            is too much for a page.
    """
    found, points = [], 0
    for uri in uris:
        one = _overlay(uri, grid, area)
        points += sum(len(line) for line in one["lines"]) // 2 + len(one["points"])
        if points > MOST_POINTS:
            raise InputError(
                f"--overlay {storage.redact(uri)} is too much for a page, more than "
                f"{MOST_POINTS:,} points; give fewer roads and places, or simplify it "
                "(ogr2ogr -simplify 20)"
            )
        found.append(one)
    return found


def _overlay(uri: str, grid: Grid, area: TileRange) -> dict[str, Any]:
    bare, layer = vectors.split(uri)
    names = [] if layer else vectors.names(uri)
    if len(names) > 1:
        raise InputError(
            f"--overlay {storage.redact(uri)} has the layers {', '.join(names)}; name one: "
            f"{storage.basename(bare)}|layername={names[0]}"
        )
    fields = vectors.fields(uri)
    field = next((f for n in NAMES for f in fields if f.lower() == n), None)
    near = grid.range_bounds(area)
    shapes, columns = vectors.read_drawn(uri, grid.crs, [field] if field else [], near=near)
    words = columns.get(field or "", [None] * len(shapes))
    lines, spots = [], []
    frame = shapely.box(near.left, near.bottom, near.right, near.top)
    for shape, word in zip(shapes, words, strict=True):
        if not frame.intersects(shape):  # they are cut with a margin around the map
            continue
        xy = _placed(shape, grid, near)
        if shape.geom_type == "Point":
            label = "" if word is None else str(word)
            spots.append({"x": float(xy[0, 0]), "y": float(xy[0, 1]), "label": label})
        elif len(xy) > 1:
            lines.append(xy.ravel().tolist())
    if not lines and not spots:
        raise InputError(f"--overlay {storage.redact(uri)} has nothing on the map’s ground")
    name = layer or storage.basename(bare).rsplit(".", 1)[0]
    return {"name": name, "lines": lines, "points": spots}


def _placed(part: Any, grid: Grid, near: Bounds) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(n, 2) columns and rows of tiles from the map's first corner."""
    xy = shapely.get_coordinates(part.simplify(FINEST * grid.tile_m))
    moved = (xy - (near.left, near.top)) * (1, -1) / grid.tile_m
    return np.asarray(moved.round(2), np.float64)
