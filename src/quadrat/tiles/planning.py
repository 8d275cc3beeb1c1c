"""What each tile is for, decided for all tiles before a pixel is read: label, split, balance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quadrat import labels as labelling
from quadrat import split as splitting
from quadrat import storage, vectors
from quadrat.errors import LabelError, RasterError, SplitError
from quadrat.grid import Bounds, TileId
from quadrat.labels import Labels, LabelSource
from quadrat.split import Split
from quadrat.tiles import packing
from quadrat.tiles.rasters import RasterPart, RasterSource, source_of


@dataclass(frozen=True)
class CutPart:
    """A part to be cut, with what is known of its tiles, in row-major order.

    Attributes:
        label: `(N,) int16` class ids, -1 none; split: `(N,) int8`, -1 none; keep: `(N,) bool`.
        fractions: `(N, K) float32`, NaN where they are unknown; None without labels.
        points: `(N, m, m) int8` classes at points of the tiles (see `Labels`); None without.
    """

    part: RasterPart
    label: NDArray[np.int16]
    split: NDArray[np.int8]
    keep: NDArray[np.bool_]
    fractions: NDArray[np.float32] | None
    points: NDArray[np.int8] | None = None

    @property
    def name(self) -> str:
        """The part's name."""
        return self.part.name

    @property
    def count(self) -> int:
        """Tiles at most."""
        return int(self.keep.sum())


def plan_cuts(
    source: RasterSource,
    labels: LabelSource | None,
    split: Split | None,
    *,
    groups: str | None,
    groups_field: str | None,
    balance: bool,
    labelled_only: bool,
    strict: bool,
) -> tuple[list[CutPart], Mapping[int, int]]:
    """Decide label, split and balance of every tile.

    The arguments are those of `tile`.

    Returns:
        the parts in which a tile is to be cut, and how often each unknown label code was met.
    """
    parts = source.parts()
    rows, cols = _tiles(parts)
    n, known = len(rows), None
    label, splits = np.full(n, -1, np.int64), np.full(n, -1, np.int8)
    if labels is not None:
        known = labelling.label_tiles(labels, source.grid, rows, cols)
        _check_labels(known, labels, strict)
        label = known.label.astype(np.int64)
        owners = _owners(source, rows, cols, groups, groups_field)
        if split is not None:
            main = labelling.main_classes(known.fractions)
            splits = splitting.assign(
                split, rows, cols, groups=list(owners), labels=np.where(main < 0, label, main)
            )
    keep = label >= 0 if labelled_only else np.ones(n, np.bool_)
    if balance:
        keep &= packing.balanced(label, splits, split.seed if split else 0)
    cuts, start = [], 0
    for part in parts:
        here = slice(start, start := start + part.count)
        ids, fractions, points = label[here].astype(np.int16), None, None
        if known is not None:
            fractions = known.fractions[here]
            points = None if known.points is None else known.points[here]
        cuts.append(CutPart(part, ids, splits[here], keep[here], fractions, points))
    return [c for c in cuts if c.count], known.unknown if known else {}


def _tiles(parts: Sequence[RasterPart]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of all tiles of all parts, row-major within each."""
    rows, cols = [], []
    for part in parts:
        r, c = np.nonzero(part.mask)
        rows.append(r + part.tiles.r0)
        cols.append(c + part.tiles.c0)
    if not rows:
        raise RasterError("no tile lies in the imagery; check --within and --tile-m")
    return np.concatenate(rows), np.concatenate(cols)


def _check_labels(known: Labels, labels: LabelSource, strict: bool) -> None:
    name = storage.redact(labels.uri)
    if not known.covered.any() and not known.unknown:
        raise LabelError(
            f"{name} does not overlap the imagery (or says nothing there); check both files' "
            "places and CRSs"
        )
    codes = ", ".join(f"{k} ({v} points)" for k, v in known.unknown.items())
    if known.unknown and (strict or not (known.fractions > 0).any()):
        raise LabelError(
            f"{name} holds codes that legend {labels.legend.name} does not know: {codes}; "
            "add them to a legend of your own"
        )


def _owners(
    source: RasterSource,
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    groups: str | None,
    field: str | None,
) -> NDArray[np.object_]:
    """The source of each tile: its file, or the value of the polygon that holds its centre."""
    if groups is None:
        if field is not None:
            raise SplitError("--groups-field needs polygons; give them with --groups")
        owner = [
            source_of(source.imagery, TileId(int(r), int(c)))
            for r, c in zip(rows, cols, strict=True)
        ]
        return np.array([source.imagery.infos[n].uri for n in owner], dtype=object)
    import shapely

    if field is None:
        raise SplitError(f"name the field of {storage.redact(groups)} with --groups-field")
    result = np.full(len(rows), "", dtype=object)
    x, y = source.grid.centres(rows, cols)
    near = Bounds(float(x.min()), float(y.min()), float(x.max()), float(y.max()))
    shapes, columns = vectors.read_polygons(groups, source.grid.crs, (field,), near=near)
    for shape, value in zip(shapes, columns[field], strict=True):
        shapely.prepare(shape)
        is_null = value is None or value != value  # a null among whole numbers is read as NaN
        result[shapely.contains_xy(shape, x, y)] = "" if is_null else str(value)
    return result
