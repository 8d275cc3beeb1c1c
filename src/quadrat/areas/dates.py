"""One date's scores as arrays, and two dates on the same ground."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import dates as dating
from quadrat import legend as legends
from quadrat import raster, scoring, storage
from quadrat.errors import ScoresError
from quadrat.grid import Grid
from quadrat.legend import Legend

Ints = NDArray[np.int64]

ALIKE = 0.01  # tiles whose ground differs by more than this share of it are told of


@dataclass(frozen=True)
class Dated:
    """The scores of one date, tiles in the order of rows and columns.

    Attributes:
        date: as the scores say it, else their folder's name.
        rows, cols: (N,) int64.
        mapped, truth: (N,) int64 class ids; truth is -1 where there is no reference label.
        split: (N,) of str, "" where a tile is in none.
        probabilities: (N, K) float32, or None when they were not asked for.
    """

    uri: str
    date: str
    legend: Legend
    grid: Grid
    info: Mapping[str, Any]
    rows: Ints
    cols: Ints
    mapped: Ints
    truth: Ints
    split: NDArray[np.str_]
    probabilities: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, places: Ints) -> Dated:
        """The tiles at `places`, in that order."""
        p = self.probabilities
        return Dated(
            self.uri, self.date, self.legend, self.grid, self.info,
            self.rows[places], self.cols[places], self.mapped[places], self.truth[places],
            self.split[places], None if p is None else p[places],
        )  # fmt: skip

    def folded(self, coarse: Legend) -> Dated:
        """The same tiles in a coarser legend.

        With probabilities, these are summed before the most likely class is taken, as on maps.
        """
        if coarse.names == self.legend.names:
            return self
        to = legends.fold(self.legend, coarse)
        p = self.probabilities
        summed = None
        if p is not None:
            summed = np.zeros((len(p), len(coarse)), np.float32)
            for fine, place in enumerate(to):
                summed[:, place] += p[:, fine]
        truth = np.where(self.truth >= 0, to[self.truth], -1)
        return Dated(
            self.uri, self.date, coarse, self.grid, self.info, self.rows, self.cols,
            to[self.mapped] if summed is None else summed.argmax(1), truth, self.split, summed,
        )  # fmt: skip


def synthetic_note(days: Iterable[Dated]) -> tuple[str, ...]:
    """A note where any date's imagery is generated; none elsewhere."""
    return (scoring.SYNTHETIC,) if any(scoring.is_synthetic(d.info) for d in days) else ()


def tile_ground(day: Dated) -> tuple[float, tuple[str, ...]]:
    """Mean hectares of ground of a date's tiles, and a note where tiles differ by more than 1%."""
    hectares = raster.tile_hectares(day.grid, day.rows, day.cols)
    low, high, mean = float(hectares.min()), float(hectares.max()), float(hectares.mean())
    if high <= low * (1 + ALIKE):
        return mean, ()
    note = (
        f"Tiles cover {low:.4g} to {high:.4g} ha of ground in {day.grid.crs[:60]}; areas are "
        f"tiles times their mean, {mean:.4g} ha. A grid in an equal-area CRS has none of this."
    )
    return mean, (note,)


def read(uri: str, *, probabilities: bool = False) -> Dated:
    """One date's scores; ScoresError when they have no place on the ground."""
    scores = scoring.open_scores(uri)
    if scores.grid is None or scores.legend is None:
        raise ScoresError(
            f"{storage.redact(uri)} scores pictures without a place; areas and change need tiles "
            "on a grid: score a tile set or rasters"
        )
    names = scores.legend.names
    columns = ["row", "col", "date", "truth", "split", "label"]
    if probabilities:
        columns += [f"p_{n}" for n in names]
    table = scores.table(columns)
    if not len(table):
        raise ScoresError(f"{storage.redact(uri)} has no tiles; score again")
    if table["row"].null_count or table["col"].null_count:
        raise ScoresError(f"{storage.redact(uri)} has tiles without a place; score again")
    rows, cols = (table[c].to_numpy().astype(np.int64) for c in ("row", "col"))
    order = np.lexsort((cols, rows))
    same = (np.diff(rows[order]) == 0) & (np.diff(cols[order]) == 0)
    if same.any():
        at = order[np.flatnonzero(same)[0]]
        raise ScoresError(
            f"{storage.redact(uri)} has tile ({rows[at]}, {cols[at]}) twice; score each date of a "
            "place by itself"
        )
    p = None
    if probabilities:
        stack = [table[f"p_{n}"].to_numpy() for n in names]
        p = np.stack(stack, axis=1).astype(np.float32)[order]
    return Dated(
        uri,
        _date(scores.uri, scores.info, table["date"]),
        scores.legend,
        scores.grid,
        scores.info,
        rows[order],
        cols[order],
        _class_ids(table["label"], scores.legend, uri)[order],
        _class_ids(table["truth"], scores.legend, uri)[order],
        np.array([s or "" for s in table["split"].to_pylist()], dtype=np.str_)[order],
        p,
    )


def _class_ids(column: pa.ChunkedArray, legend: Legend, uri: str) -> Ints:
    """Class names as ids, -1 for null."""
    coded = column.combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    words = coded.dictionary.to_pylist()
    unknown = [w for w in words if w not in legend.names]
    if unknown:
        raise ScoresError(
            f"{storage.redact(uri)} has the label {unknown[0]!r}, which its legend lacks; "
            "score again with one legend"
        )
    ids = np.array([legend.id(w) for w in words] + [-1], dtype=np.int64)
    places = coded.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)
    found: Ints = ids[places.astype(np.int64)]
    return found


def _date(uri: str, info: Mapping[str, Any], column: pa.ChunkedArray) -> str:
    """What the date is called: as the scores say it, else as their folder is named."""
    dates = [str(d) for d in info.get("dates") or ()]
    if not dates:
        dates = sorted({d for d in column.unique().to_pylist() if d})
    return dating.period(dates) or storage.basename(uri)


def pair(a: Dated, b: Dated) -> tuple[Dated, Dated]:
    """The tiles that both dates have, in the same order.

    Raises:
        ScoresError: other grids or legends, or no ground in common.
    """
    if a.grid != b.grid:
        what = next(
            f"{n.replace('_', ' ')} {getattr(a.grid, n)} and {getattr(b.grid, n)}"
            for n in ("crs", "tile_m", "pixel_m")
            if getattr(a.grid, n) != getattr(b.grid, n)
        )
        raise ScoresError(
            f"{storage.redact(a.uri)} and {storage.redact(b.uri)} lie on different grids ({what}); "
            "score both dates with the same --crs, --tile-m and --pixel-m"
        )
    if a.legend.names != b.legend.names:
        raise ScoresError(
            f"{storage.redact(a.uri)} has the classes {', '.join(a.legend.names)} and "
            f"{storage.redact(b.uri)} {', '.join(b.legend.names)}; fold both into one legend "
            "with --legend"
        )
    at_a, at_b = shared(a.rows, a.cols, b.rows, b.cols)
    if not len(at_a):
        raise ScoresError(
            f"{storage.redact(a.uri)} and {storage.redact(b.uri)} have no tile in common; "
            "they must show the same ground"
        )
    return a.take(at_a), b.take(at_b)


def shared(rows_a: Ints, cols_a: Ints, rows_b: Ints, cols_b: Ints) -> tuple[Ints, Ints]:
    """Places of the tiles that both lists name, in the first list's order of rows and columns."""
    low = min(cols_a.min(initial=0), cols_b.min(initial=0))
    width = int(max(cols_a.max(initial=0), cols_b.max(initial=0)) - low) + 1
    key_a, key_b = (r * width + (c - low) for r, c in ((rows_a, cols_a), (rows_b, cols_b)))
    _, at_a, at_b = np.intersect1d(key_a, key_b, assume_unique=True, return_indices=True)
    return at_a.astype(np.int64), at_b.astype(np.int64)
