"""Labels for tiles from a label raster (NLCD) or polygons: main class, shares, unknown codes.

Each tile is sampled on a lattice of `n x n` points; `n` is an odd multiple of 3, so that the nine
points of the reference rule (1/6, 3/6, 5/6 of each side) are among them. Label rasters are read by
nearest neighbour, never interpolated. It does not know imagery or splits.

Three kinds of ground are told apart: ground of a class; ground that the source knows and the legend
has no class for (`ignore`, as open water in `nlcd6`); and ground of which nothing is known (outside
the source, `background`, codes that the legend lacks).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import choices, raster, storage, text, vectors
from quadrat.errors import LabelError
from quadrat.grid import Grid, TileRange
from quadrat.legend import Legend
from quadrat.raster import ValueRaster

MAX_LATTICE = 45  # 2,025 points a tile: 5 m apart at 224 m
MAX_POINTS = 15  # a side, of the points that are kept: 15 m apart at 224 m
Sampler = Callable[
    [NDArray[np.int64], NDArray[np.int64]],
    tuple[NDArray[np.int16], dict[int, int]],
]
CHUNK = 1 << 18  # points sampled at once: memory does not grow with the county
NO_CLASS, UNKNOWN = -1, -2  # of a point, beside class ids
KNOWN = 0.9  # part of a tile that must be known for its shares to be


@dataclass(frozen=True)
class Labels:
    """Labels of N tiles.

    Attributes:
        label: `(N,) int16` class ids, -1 where the rule gives none.
        fractions: `(N, K) float32`, the share of each class in the known ground of a tile; a row
            sums to less than 1 where known ground has no class. NaN where less than `KNOWN` of the
            tile is known.
        unknown: codes that the legend does not know, with how many points had them.
        covered: `(N,) float32`, the part of each tile's ground that is known.
        points: `(N, m, m) int8`, the class at evenly spread points of the tile, from the north-west
            row by row; -1 where ground has no class, -2 where nothing is known; m is at most
            `MAX_POINTS`. None for a legend of more than 127 classes.
    """

    label: NDArray[np.int16]
    fractions: NDArray[np.float32]
    unknown: Mapping[int, int]
    covered: NDArray[np.float32]
    points: NDArray[np.int8] | None = None


@dataclass(frozen=True)
class Rule:
    """How points become a label: by a function of `choices.LABEL_RULES`.

    Attributes:
        threshold: from 0 to 1, for rules that ask for a share.
    """

    name: str = next(iter(choices.LABEL_RULES))
    threshold: float = 0.5

    def __post_init__(self) -> None:
        choices.check("label rule", self.name, choices.LABEL_RULES, LabelError)
        if not 0 < self.threshold <= 1:
            raise LabelError(f"--threshold {self.threshold} is not above 0 and at most 1")


@dataclass(frozen=True)
class LabelSource:
    """Where labels come from; plain values, so that a worker can open it anew.

    Attributes:
        field: polygons' column that holds the class (a name of the legend, or a code).
        lattice: points along a side of a tile.
    """

    uri: str
    legend: Legend
    rule: Rule
    lattice: int
    values: ValueRaster | None = None
    field: str = ""


def open_labels(
    uri: str,
    legend: Legend,
    grid: Grid,
    *,
    rule: Rule | None = None,
    field: str | None = None,
) -> LabelSource:
    """Check a label raster or polygon file; reads headers only.

    Args:
        uri: a raster, or a vector file (`file.gpkg|layername=plots` where it has several layers).
        field: the polygons' field that holds the class, `class` when None.

    Raises:
        LabelError, RasterError: missing, no CRS, no such field, naming the cure.
    """
    rule = rule or Rule()
    if vectors.is_vector(uri):
        name = field or "class"
        columns = vectors.fields(uri)
        if text.match(name, columns) is None:
            raise LabelError(
                f"{storage.redact(uri)} has no field {name!r}; it has {', '.join(columns)}: "
                "choose one with --field"
            )
        return LabelSource(uri, legend, rule, MAX_LATTICE, None, name)
    if field is not None:
        raise LabelError(f"--field {field} is for polygons, and {storage.redact(uri)} is a raster")
    values = raster.open_values(uri)
    if not legend.lookup():
        raise LabelError(
            f"legend {legend.name} has no codes, so the raster {storage.redact(uri)} means nothing "
            "in it; give each class its codes"
        )
    cell = raster.source_pixel(values.info, grid)
    return LabelSource(uri, legend, rule, lattice_for(grid.tile_m, cell), values)


def lattice_for(tile_m: float, cell_m: float) -> int:
    """Points along a side: an odd multiple of 3, about two a label cell, at most 45."""
    wanted = min(MAX_LATTICE, math.ceil(2 * tile_m / max(cell_m, 1e-6)))
    k = math.ceil(wanted / 3)
    return 3 * (k if k % 2 else k + 1) if 3 * k < MAX_LATTICE else MAX_LATTICE


def label_tiles(
    source: LabelSource, grid: Grid, rows: NDArray[np.int64], cols: NDArray[np.int64]
) -> Labels:
    """Label the tiles (row, col), in any order; memory does not grow with their number."""
    n, k = source.lattice, len(source.legend)
    step = max(1, CHUNK // (n * n))
    label = np.full(len(rows), -1, np.int16)
    fractions = np.zeros((len(rows), k), np.float32)
    covered = np.zeros(len(rows), np.float32)
    unknown: dict[int, int] = {}
    thin = -(-n // MAX_POINTS)  # 45 points a side are thinned to 15, by three
    side = n // thin
    points = np.full((len(rows), side, side), UNKNOWN, np.int8)
    sample = _sampler(source, grid, n, _around(rows, cols))
    decide = choices.load(choices.LABEL_RULES[source.rule.name])
    for i in range(0, len(rows), step):
        part = slice(i, i + step)
        classes, codes = sample(rows[part], cols[part])
        flat = classes.reshape(len(classes), -1)  # (M, n*n)
        if k <= np.iinfo(np.int8).max:
            points[part] = classes[:, thin // 2 :: thin, thin // 2 :: thin]
        counts = np.stack([(flat == c).sum(axis=1) for c in (*range(k), NO_CLASS)], axis=1)
        label[part] = decide(classes, counts, source.rule.threshold)
        covered[part] = counts.sum(axis=1) / (n * n)
        shares = counts[:, :k] / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        fractions[part] = np.where(covered[part, None] >= KNOWN, shares, np.nan)
        for code, count in codes.items():
            unknown[code] = unknown.get(code, 0) + count
    kept = points if k <= np.iinfo(np.int8).max else None
    return Labels(label, fractions, dict(sorted(unknown.items())), covered, kept)


# Label rules: (classes (M, n, n) int16 of the lattice points, counts (M, K + 1) of the points of
# each class and of known ground without one, threshold) -> labels (M,), -1 for none.


def largest(
    classes: NDArray[np.int16], counts: NDArray[np.int64], threshold: float
) -> NDArray[np.int16]:
    """The main class: the class of the largest share.

    None where two shares are equally large, where more ground has no class, and where unknown
    ground could decide.
    """
    points = classes.shape[1] * classes.shape[2]
    ordered = np.sort(counts, axis=1)
    unknown = points - counts.sum(axis=1)
    sure = ordered[:, -1] > ordered[:, -2] + unknown
    best = counts.argmax(axis=1)
    return np.where(sure & (best < counts.shape[1] - 1), best, NO_CLASS).astype(np.int16)


def nine_points_agree(
    classes: NDArray[np.int16], counts: NDArray[np.int64], threshold: float
) -> NDArray[np.int16]:
    """The class on which a tile's nine points (1/6, 3/6, 5/6 of each side) agree."""
    n = classes.shape[1]
    at = (n // 6, n // 2, n - 1 - n // 6)  # lattice points at 1/6, 3/6, 5/6
    nine = classes[:, at][:, :, at].reshape(len(classes), 9)
    agree = (nine == nine[:, :1]).all(axis=1) & (nine[:, 0] >= 0)
    return np.where(agree, nine[:, 0], np.int16(NO_CLASS))


def majority(
    classes: NDArray[np.int16], counts: NDArray[np.int64], threshold: float
) -> NDArray[np.int16]:
    """The class of the largest share, where that is at least the threshold of the tile."""
    points = classes.shape[1] * classes.shape[2]
    shares = (counts[:, :-1] / points).astype(np.float32)
    best = shares.argmax(axis=1).astype(np.int16)
    return np.where(shares.max(axis=1) >= threshold, best, np.int16(NO_CLASS))


def main_classes(shares: NDArray[np.floating]) -> NDArray[np.int64]:
    """Main classes of shares (N, K): ids; K where most ground has no class; -1 for none.

    None has a tile whose shares are unknown (NaN), or whose two largest are the same.
    """
    known = ~np.isnan(shares).any(axis=1)
    rest = 1 - shares.sum(axis=1, keepdims=True)
    every = np.where(known[:, None], np.concatenate([shares, rest], axis=1), 0.0)
    ordered = np.sort(every, axis=1)
    sure = known & (ordered[:, -1] > ordered[:, -2] + 1e-6)
    return np.where(sure, every.argmax(axis=1), -1)


def _around(rows: NDArray[np.int64], cols: NDArray[np.int64]) -> TileRange:
    """The rectangle of tiles that holds all of them."""
    if not len(rows):
        return TileRange(0, 0, 0, 0)
    return TileRange(int(rows.min()), int(rows.max()) + 1, int(cols.min()), int(cols.max()) + 1)


def _sampler(source: LabelSource, grid: Grid, n: int, tiles: TileRange) -> Sampler:
    """A function from some of `tiles` to classes (M, n, n) int16 and codes that are unknown."""
    if source.values is None:
        return _polygon_sampler(source, grid, n, tiles)
    values = source.values

    def sample(
        rows: NDArray[np.int64], cols: NDArray[np.int64]
    ) -> tuple[NDArray[np.int16], dict[int, int]]:
        x, y = _points(grid, rows, cols, n, values.info.crs)
        codes, inside = values.sample(x, y)
        return _classify(codes, inside, source.legend)

    return sample


def _points(
    grid: Grid, rows: NDArray[np.int64], cols: NDArray[np.int64], n: int, crs: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lattice points (M, n, n) in another CRS: axis 1 runs south, axis 2 east.

    Only the tiles' corners are projected; between them the projection is bent by less than a
    millimetre over a plot, so that the points follow by bilinear interpolation.
    """
    m = grid.tile_m
    corner_x = (cols[:, None] + np.array([0, 1, 0, 1])) * m  # (M, 4): NW, NE, SW, SE
    corner_y = -(rows[:, None] + np.array([0, 0, 1, 1])) * m
    x, y = raster.transform_points(grid.crs, crs, corner_x, corner_y)
    t = (2 * np.arange(n) + 1) / (2 * n)
    v, u = np.meshgrid(t, t, indexing="ij")
    weights = np.stack([(1 - v) * (1 - u), (1 - v) * u, v * (1 - u), v * u])  # (4, n, n)
    return np.tensordot(x, weights, 1), np.tensordot(y, weights, 1)


def _classify(
    codes: NDArray[np.int64], inside: NDArray[np.bool_], legend: Legend
) -> tuple[NDArray[np.int16], dict[int, int]]:
    """Class ids of codes (or NO_CLASS, UNKNOWN), and codes that the legend lacks with counts."""
    lookup = legend.lookup() | dict.fromkeys(legend.background, UNKNOWN)
    table = sorted(lookup.items())
    known = np.array([code for code, _ in table], np.int64)
    ids = np.array([value for _, value in table], np.int16)
    at = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    listed = known[at] == codes
    classes = np.where(listed, ids[at], np.int16(UNKNOWN))
    strange = inside & ~listed
    unknown: dict[int, int] = {}
    if strange.any():
        values, counts = np.unique(codes[strange], return_counts=True)
        unknown = {int(v): int(c) for v, c in zip(values, counts, strict=True)}
    classes[~inside] = UNKNOWN
    return classes, unknown


def _polygon_sampler(source: LabelSource, grid: Grid, n: int, tiles: TileRange) -> Sampler:
    import shapely

    shapes, columns = vectors.read_polygons(
        source.uri, grid.crs, (source.field,), near=grid.range_bounds(tiles)
    )
    codes = source.legend.lookup()
    values = [_class_of(v, source, codes) for v in columns[source.field]]
    tree = shapely.STRtree(shapes)

    def sample(
        rows: NDArray[np.int64], cols: NDArray[np.int64]
    ) -> tuple[NDArray[np.int16], dict[int, int]]:
        classes = np.full((len(rows), n, n), UNKNOWN, np.int16)
        for row in np.unique(rows):  # a row of tiles at a time bounds the burnt raster
            mine = np.flatnonzero(rows == row)
            c0, c1 = int(cols[mine].min()), int(cols[mine].max()) + 1
            area = grid.range_bounds(TileRange(int(row), int(row) + 1, c0, c1))
            hits = np.sort(tree.query(shapely.box(*area)))
            burnt = raster.rasterize(
                ((shapes[h], values[h]) for h in hits), area, n, n * (c1 - c0)
            ).reshape(n, c1 - c0, n)
            found = burnt[:, cols[mine] - c0].transpose(1, 0, 2)  # (M, n, n)
            ids = np.where(found >= len(source.legend), NO_CLASS, found)
            classes[mine] = np.where(found < 0, UNKNOWN, ids)
        return classes, {}

    return sample


def _class_of(value: Any, source: LabelSource, codes: Mapping[int, int]) -> int:
    """Class id of a polygon's field; len(legend) for a code that is known and has no class."""
    legend = source.legend
    name = text.match(value, legend.names) if isinstance(value, str) else None
    if name is not None:
        return legend.id(name)
    code = _whole(value)
    found = None if code is None else codes.get(code)
    if found is None:
        cure = text.near(value, legend.names) if isinstance(value, str) else "correct it"
        raise LabelError(
            f"{storage.redact(source.uri)}: {source.field} = {text.shown(value)} is no class of "
            f"legend {legend.name} and no code of it; {cure}"
        )
    return found if found >= 0 else len(legend)


def _whole(value: Any) -> int | None:
    """The whole number that a value is, or None: 41, 41.0 and "41", but not 41.7 or True."""
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"\s*[+-]?[0-9]{1,19}\s*", value) else None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    return int(value) if math.isfinite(value) and value == int(value) else None
