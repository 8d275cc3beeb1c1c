"""Checked shapes: polygons or points of a vector file, in another CRS, where they are needed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import border, raster
from quadrat.errors import GridError, VectorError
from quadrat.grid import Bounds
from quadrat.vectors.layers import VectorLayer

Shapes = NDArray[np.object_]
POINT, POLYGON, MULTIPOINT, MULTIPOLYGON, COLLECTION = 0, 3, 4, 6, 7  # shapely's numbers of types
MARGIN = 0.05  # of the area's longer side, around it
STEP_DEGREES, STEP_METRES = 0.01, 1000.0  # of an edge between projected points: bends by 3 cm
MOST_STEPS = 100_000  # of one shape's outline


def polygons(
    features: VectorLayer, crs: str, near: Bounds | None = None
) -> tuple[Shapes, NDArray[np.int64]]:
    """The features' polygons in another CRS, and the features that they are of.

    An edge is straight in the file's own CRS. Shapes are cut to `near` before they are projected,
    as points far away have no place in most projections.

    Args:
        near: the area that is needed, in `crs`; None takes all.

    Returns:
        shapes (M,), polygons and multipolygons, and their features' places (M,); features without
        a shape, and those that are nowhere near, are left out.

    Raises:
        VectorError: no CRS, coordinates that are none of it, points or lines, shapes that have no
            place in `crs`.
    """
    import shapely

    source = _own_crs(features)
    try:
        shapes, at = _areas(features)
        # the same CRS needs neither cutting nor projecting
        if near is not None and source != crs:
            shapes, at = _cut(shapes, at, source, crs, near)
        shapes = _projected(features.name, shapes, source, crs)
        whole = _polygonal(shapes)
    except shapely.errors.ShapelyError as error:
        raise VectorError(
            f"{features.name} has polygons that cannot be worked with ({border.short(error)}); "
            "mend them with ogr2ogr -makevalid"
        ) from None
    there = ~shapely.is_empty(whole)
    return whole[there], at[there]


def lines_and_points(
    features: VectorLayer, crs: str, near: Bounds
) -> tuple[Shapes, NDArray[np.int64]]:
    """What a map shows of any features, in another CRS: lines, points, outlines of polygons.

    Args:
        near: the area that is needed, in `crs`; shapes are cut to it, with a margin.

    Returns:
        shapes (M,), points and lines alone, and their features' places (M,) in ascending order.

    Raises:
        VectorError: as `polygons`, but of any kind of shape.
    """
    import shapely

    source = _own_crs(features)
    shapes, at = _exploded(features.shapes, np.arange(len(features.shapes)))
    flat = shapely.get_type_id(shapes) == POLYGON
    shapes[flat] = shapely.boundary(shapes[flat])
    spots = shapely.get_type_id(shapes) == POINT
    try:
        points_, of_points = _cut(shapes[spots], at[spots], source, crs, near)
        lines, of_lines = _exploded(*_cut(shapes[~spots], at[~spots], source, crs, near))
        kept = shapely.get_type_id(lines) != POINT  # where a line only touches the area
        at = np.concatenate([of_points, of_lines[kept]])
        order = np.argsort(at, kind="stable")
        shapes = np.concatenate([points_, lines[kept]])[order]
        return _projected(features.name, shapes, source, crs), at[order]
    except shapely.errors.ShapelyError as error:
        raise VectorError(
            f"{features.name} has shapes that cannot be worked with ({border.short(error)}); "
            "mend them with ogr2ogr -makevalid"
        ) from None


def points(features: VectorLayer, crs: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Features that are all points, in another CRS: x and y, (N,) each."""
    import shapely

    source, kinds = _own_crs(features), shapely.get_type_id(features.shapes)
    if (kinds != POINT).any() or shapely.is_empty(features.shapes).any():
        bad = int(np.flatnonzero((kinds != POINT) | shapely.is_empty(features.shapes))[0])
        raise VectorError(f"{features.name}: feature {bad + 1} is no point; give a file of points")
    x, y = shapely.get_x(features.shapes), shapely.get_y(features.shapes)
    try:
        x, y = raster.transform_points(source, crs, x, y)
    except GridError as error:
        raise VectorError(f"{features.name}: {error}; save it in another CRS") from None
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise VectorError(
            f"{features.name} has points without a place in {crs[:60]}; check its CRS"
        )
    return x, y


def _own_crs(features: VectorLayer) -> str:
    """The file's CRS, once its coordinates are numbers, and degrees where the CRS has degrees."""
    import shapely

    name = features.name
    if not features.crs:
        raise VectorError(f"{name} has no CRS; save it with one (ogr2ogr -a_srs EPSG:...)")
    try:
        crs = raster.normalise_crs(features.crs)
    except GridError:
        raise VectorError(
            f"{name} has a CRS that is not understood; save it with another (ogr2ogr -t_srs)"
        ) from None
    xy = shapely.get_coordinates(features.shapes)
    if not np.isfinite(xy).all():
        raise VectorError(f"{name} has coordinates that are no numbers; correct or remove them")
    if len(xy) and not raster.crs_unit(crs)[0] and (np.abs(xy).max(0) > (360.01, 90.01)).any():
        low, high = xy.min(0), xy.max(0)
        raise VectorError(
            f"{name} has coordinates that are no degrees (x {low[0]:.0f} to {high[0]:.0f}, "
            f"y {low[1]:.0f} to {high[1]:.0f}), but {crs[:40]} is its CRS; give the file its CRS "
            "(ogr2ogr -a_srs EPSG:... named.gpkg)"
        )
    return crs


def _exploded(shapes: Shapes, at: NDArray[np.int64]) -> tuple[Shapes, NDArray[np.int64]]:
    """The points, lines and polygons that shapes and collections hold, and their places."""
    import shapely

    there = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
    shapes, at = shapes[there], at[there]
    while (shapely.get_type_id(shapes) >= MULTIPOINT).any():  # collections may hold collections
        shapes, of = shapely.get_parts(shapes, return_index=True)
        at = at[of]
    there = ~shapely.is_empty(shapes)
    return shapes[there], at[there]


def _areas(features: VectorLayer) -> tuple[Shapes, NDArray[np.int64]]:
    """Shapes that are there, made valid, and their places."""
    import shapely

    at = np.flatnonzero(~(shapely.is_missing(features.shapes) | shapely.is_empty(features.shapes)))
    shapes = features.shapes[at]
    kinds = shapely.get_type_id(shapes)
    strange = ~np.isin(kinds, (POLYGON, MULTIPOLYGON, COLLECTION))
    strange[kinds == COLLECTION] = shapely.is_empty(_polygonal(shapes[kinds == COLLECTION]))
    if not len(shapes):
        raise VectorError(f"{features.name} has no polygons, as none of its features has a shape")
    if strange.any():
        what = sorted({s.geom_type for s in shapes[strange]})
        raise VectorError(
            f"{features.name} has {int(strange.sum()):,} features of {len(shapes):,} that are no "
            f"polygons ({', '.join(what)}); give a file of areas"
        )
    broken = ~shapely.is_valid(shapes)
    if broken.any():
        shapes[broken] = shapely.make_valid(shapes[broken])
    return _polygonal(shapes), at


def _polygonal(shapes: Shapes) -> Shapes:
    """Polygons and multipolygons alone: collections without their points and lines, (N,)."""
    import shapely

    result = np.array(shapes, dtype=object)
    for i in np.flatnonzero(~np.isin(shapely.get_type_id(result), (POLYGON, MULTIPOLYGON))):
        parts = shapely.get_parts(shapely.get_parts(result[i]))
        result[i] = shapely.union_all(parts[shapely.get_type_id(parts) == POLYGON])
    return result


def _cut(
    shapes: Shapes, at: NDArray[np.int64], source: str, crs: str, near: Bounds
) -> tuple[Shapes, NDArray[np.int64]]:
    import shapely

    area = _area(near, source, crs)
    touching = shapely.intersects(area, shapes)
    shapes, at = shapes[touching], at[touching]
    across = ~shapely.covers(area, shapes)
    shapes[across] = shapely.intersection(shapes[across], area)
    return shapes, at


def _area(near: Bounds, source: str, crs: str) -> Any:
    """The needed area in the file's CRS, with a margin; empty where it has no place there."""
    import shapely

    margin = MARGIN * max(near.right - near.left, near.top - near.bottom)
    wide = Bounds(near.left - margin, near.bottom - margin, near.right + margin, near.top + margin)
    try:
        left, bottom, right, top = raster.transform_bounds(crs, source, wide)
    except GridError:
        return shapely.Polygon()
    if not all(math.isfinite(v) for v in (left, bottom, right, top)):
        return shapely.Polygon()
    if raster.crs_unit(source)[0]:
        return shapely.box(left, bottom, right, top)
    # beyond the antimeridian the right is less than the left; files count from -180 or from 0
    right += 360 if right < left else 0
    boxes = [shapely.box(left + turn, bottom, right + turn, top) for turn in (-360, 0, 360)]
    return shapely.union_all(boxes)


def _projected(name: str, shapes: Shapes, source: str, crs: str) -> Shapes:
    """Shapes in another CRS; long edges get points between, as they are bent there."""
    import shapely

    if source == crs or not len(shapes):
        return shapes
    projected, metres = raster.crs_unit(source)
    step = STEP_METRES / metres if projected and metres else STEP_DEGREES
    steps = np.maximum(step, shapely.length(shapes) / MOST_STEPS)

    def move(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack(raster.transform_points(source, crs, xy[:, 0], xy[:, 1]), axis=1)

    try:
        moved = np.asarray(shapely.transform(shapely.segmentize(shapes, steps), move))
    except GridError as error:
        raise VectorError(f"{name}: {error}; save it in another CRS") from None
    if not np.isfinite(shapely.get_coordinates(moved)).all():
        raise VectorError(
            f"{name} has polygons without a place in {crs[:60]}; check its CRS, or cut them to the "
            "area that is needed"
        )
    return moved
