"""A map in memory: each tile's class and how sure it is, one pixel a tile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import legend as legends
from quadrat import metrics, storage
from quadrat.errors import ScoresError
from quadrat.grid import Bounds, Grid
from quadrat.legend import Legend
from quadrat.maps.arrays import NO_TILE, Frame, frame, plurality, summarise
from quadrat.scores import Scores, columns


@dataclass(frozen=True)
class TileMap:
    """A map in memory, one pixel a tile, rows south and columns east.

    Attributes:
        classes: (R, C) uint8, ids of `legend`; NO_TILE where there is no tile.
        probability: (R, C) float32, of the class shown; NaN where there is no tile.
        entropy: (R, C) float32, bits; NaN where there is no tile.
        set_size: (R, C) float32, classes in the tile's conformal set; None where scores have none.
        distance: (R, C) float32, how unlike the training tiles a tile is; None where scores have
            none.
        changed: tiles whose class smoothing changed.
    """

    legend: Legend
    grid: Grid
    frame: Frame
    classes: NDArray[np.uint8]
    probability: NDArray[np.float32]
    entropy: NDArray[np.float32]
    set_size: NDArray[np.float32] | None = None
    distance: NDArray[np.float32] | None = None
    changed: int = 0

    @property
    def bounds(self) -> Bounds:
        """The ground of the map, in the grid's CRS."""
        return self.grid.range_bounds(self.frame.area)

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """From (col, row) of a pixel's corner to x and y, in rasterio's order."""
        m = self.grid.tile_m
        return (m, 0.0, self.bounds.left, 0.0, -m, self.bounds.top)

    @property
    def places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns of the tiles on the grid, (N,) each, in the order of the scores."""
        area, at = self.frame.area, self.frame.at
        width = area.c1 - area.c0
        return at // width + area.r0, at % width + area.c0

    @property
    def counts(self) -> dict[str, int]:
        """Tiles of each class."""
        n = np.bincount(self.classes[self.classes != NO_TILE], minlength=len(self.legend))
        return dict(zip(self.legend.names, n.tolist(), strict=True))


def tile_map(scores: Scores, *, legend: str | None = None, smooth: float | None = None) -> TileMap:
    """The map of scores in memory; arguments and errors as in `map`. 18 bytes a tile."""
    if scores.grid is None:
        raise ScoresError(
            f"{storage.redact(scores.uri)} are scores of pictures without a place; "
            "score imagery or tiles cut from it to get a map"
        )
    shown = legends.load_legend(legend) if legend else scores.legend
    rows, cols, probabilities, sizes, far = [], [], [], [], []
    for table, fine, p in parts_of(scores, shown, (columns.DISTANCE,) if scores.distance else ()):
        probabilities.append(p)
        rows.append(table["row"].to_numpy())
        cols.append(table["col"].to_numpy())
        if scores.distance:
            far.append(table[columns.DISTANCE].to_numpy())
        if scores.threshold is not None:
            inside = metrics.in_set(fine, scores.threshold)
            if shown.names != scores.legend.names:
                inside = metrics.fold_sets(inside, legends.fold(scores.legend, shown), len(shown))
            sizes.append(inside.sum(axis=1, dtype=np.float32))
    if not rows:
        raise ScoresError(f"{storage.redact(scores.uri)} holds no tiles; score some first")
    return from_arrays(
        np.concatenate(rows), np.concatenate(cols), np.concatenate(probabilities),
        shown, scores.grid, smooth=smooth, sizes=np.concatenate(sizes) if sizes else None,
        distances=np.concatenate(far) if far else None,
    )  # fmt: skip


def parts_of(
    scores: Scores, shown: Legend, more: Sequence[str]
) -> Iterator[tuple[pa.Table, NDArray[np.float32], NDArray[np.float32]]]:
    """The tiles of each part that the legend maps, with their probabilities.

    Args:
        more: columns to read beside rows, columns and probabilities.

    Yields:
        The table (n rows), and the probabilities (n, K) of the scores' classes and (n, k) of the
        legend's.
    """
    same = shown.names == scores.legend.names
    to = None if same else legends.fold(scores.legend, shown)
    for name in scores.names:
        table = scores.part(name, ["row", "col", *scores.probability_columns, *more])
        fine = p = scores.probabilities(table)
        if to is not None:
            p, kept = metrics.fold_mapped(fine, to, len(shown))
            table, fine = table.filter(pa.array(kept)), fine[kept]
        yield table, fine, p


def from_arrays(
    rows: NDArray[Any],
    cols: NDArray[Any],
    probabilities: NDArray[Any],
    legend: Legend,
    grid: Grid,
    *,
    smooth: float | None = None,
    sizes: NDArray[np.float32] | None = None,
    distances: NDArray[np.float32] | None = None,
) -> TileMap:
    """The map of tiles (N,) with the probabilities (N, K) of the legend's classes.

    Args:
        sizes: (N,) classes in each tile's conformal set.
        distances: (N,) from the training tiles.
    """
    where = frame(rows, cols)
    cls, entropy = summarise(probabilities)
    before = where.place(cls, NO_TILE)
    classes = before if smooth is None else plurality(before, len(legend), smooth)
    own = classes.ravel()[where.at]
    shown = np.take_along_axis(probabilities, own[:, None].astype(np.int64), 1)[:, 0]
    return TileMap(
        legend=legend,
        grid=grid,
        frame=where,
        classes=classes,
        probability=where.place(shown.astype(np.float32), np.nan),
        entropy=where.place(entropy, np.nan),
        set_size=None if sizes is None else where.place(sizes, np.nan),
        distance=None if distances is None else where.place(distances, np.nan),
        changed=int((classes != before).sum()),
    )


def share_rows(scores: Scores, legend: Legend) -> NDArray[np.float32]:
    """The classes' shares of the ground, (N, k), in the order of the map's tiles.

    Raises:
        ScoresError: the scores have none.
    """
    if not scores.has_shares:
        raise ScoresError(
            f"{storage.redact(scores.uri)} has no shares of the ground: its model gives none; "
            "train and score again"
        )
    same, found = legend.names == scores.legend.names, []
    for table, _, _ in parts_of(scores, legend, scores.share_columns):
        rows = columns.to_rows(table, scores.share_columns)
        if not same:
            rows = metrics.fold_probabilities(
                rows, legends.fold(scores.legend, legend), len(legend)
            )
        found.append(rows)
    return np.concatenate(found)
