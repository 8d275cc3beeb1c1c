"""One date's scores as arrays, in a coarser legend, and several dates on the ground they share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import dates as dating
from quadrat import grid as grids
from quadrat import legend as legends
from quadrat import metrics, raster, storage
from quadrat.errors import ScoresError
from quadrat.grid import Grid
from quadrat.labels import main_classes
from quadrat.legend import Legend
from quadrat.scores import columns, files

Ints = NDArray[np.int64]

ALIKE = 0.01  # a note says when the ground of tiles differs by more than this share


@dataclass(frozen=True)
class DateScores:
    """The scores of one date, tiles in the order of rows and columns.

    Attributes:
        uri: the folder of the scores.
        date: as the scores say it, else their folder's name.
        rows, cols: (N,) int64.
        mapped, truth: (N,) int64 class ids. The truth is the main class by the label source's
            shares, or its label where there are none; -1 where neither is known.
        split: (N,) of str, "" where a tile is in none.
        probabilities: (N, K) float32, that a class is the main class of the tile.
        shares: (N, K) float32, the expected part of the tile's ground that a class has; None where
            the scores have none.
        reference: (N, K) float32, the shares that the label source says, NaN where it says none;
            None where the scores have none.
        sets: (N, K) bool, the classes in each tile's conformal set; None where there are none.
        distance: (N,) float32, how unlike the training tiles each tile is; above 1 is unlike them.
            None where the scores do not say.
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
    probabilities: NDArray[np.float32]
    shares: NDArray[np.float32] | None = None
    reference: NDArray[np.float32] | None = None
    sets: NDArray[np.bool_] | None = None
    distance: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ground_shares(self) -> NDArray[np.float32]:
        """(N, K) shares of the ground; the probabilities where the scores have no shares."""
        return self.probabilities if self.shares is None else self.shares

    def take(self, places: Ints) -> DateScores:
        """The tiles at `places`, in that order."""
        return replace(
            self, rows=self.rows[places], cols=self.cols[places], mapped=self.mapped[places],
            truth=self.truth[places], split=self.split[places],
            probabilities=self.probabilities[places],
            shares=None if self.shares is None else self.shares[places],
            reference=None if self.reference is None else self.reference[places],
            sets=None if self.sets is None else self.sets[places],
            distance=None if self.distance is None else self.distance[places],
        )  # fmt: skip

    def folded(self, coarse: Legend) -> DateScores:
        """The same tiles in a coarser legend, less those that are mostly ground that it masks.

        Probabilities are summed before the most likely class is taken, as on maps.
        """
        if coarse.names == self.legend.names:
            return self
        to, k = legends.fold(self.legend, coarse), len(coarse)
        p, kept = metrics.fold_mapped(self.probabilities, to, k)
        left = self.take(np.flatnonzero(kept))
        shares, reference = (
            None if rows is None else metrics.fold_probabilities(rows, to, k)
            for rows in (left.shares, left.reference)
        )
        return replace(
            left, legend=coarse, probabilities=p, mapped=p.argmax(1),
            truth=truth(np.where(left.truth >= 0, to[left.truth], -1), reference),
            shares=shares, reference=reference,
            sets=None if left.sets is None else metrics.fold_sets(left.sets, to, k),
        )  # fmt: skip

    def ground(self) -> tuple[float, tuple[str, ...]]:
        """Mean hectares of the tiles, and a note where tiles differ by more than 1%."""
        hectares = raster.tile_hectares(self.grid, self.rows, self.cols)
        low, high, mean = float(hectares.min()), float(hectares.max()), float(hectares.mean())
        if high <= low * (1 + ALIKE):
            return mean, ()
        note = (
            f"Tiles cover {low:.4g} to {high:.4g} ha of ground in {self.grid.crs[:60]}; areas are "
            f"tiles times their mean, {mean:.4g} ha. A grid in an equal-area CRS has none of this."
        )
        return mean, (note,)


def truth(labels: Ints, reference: NDArray[np.float32] | None) -> Ints:
    """Main classes by the label source, (N,) ids, -1 for none.

    Args:
        labels: (N,) its labels, for tiles whose shares are unknown. A rule may label pure plots
            alone; figures are about all of them.
        reference: (N, K) its shares, NaN where unknown; None without any.
    """
    if reference is None:
        return labels
    main = main_classes(reference)
    main = np.where(main < reference.shape[1], main, -1)
    found: Ints = np.where(np.isnan(reference).any(axis=1), labels, main)
    return found


def read(uri: str) -> DateScores:
    """One date's scores; ScoresError when they have no place on the ground."""
    name, scores = storage.redact(uri), files.open_scores(uri)
    if scores.grid is None:
        raise ScoresError(
            f"{name} scores pictures without a place; areas and change need tiles "
            "on a grid: score a tile set or rasters"
        )
    wanted = ["row", "col", "date", "truth", "split", "label"]
    kinds = scores.share_columns, scores.reference_columns
    wanted += [columns.DISTANCE] if scores.distance else []
    table = scores.table([*wanted, *scores.probability_columns, *sum(kinds, ())])
    if not len(table):
        raise ScoresError(f"{name} has no tiles; score again")
    if table["row"].null_count or table["col"].null_count:
        raise ScoresError(f"{name} has tiles without a place; score again")
    rows, cols = (table[c].to_numpy().astype(np.int64) for c in ("row", "col"))
    keys = grids.tile_keys(rows, cols)
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(np.diff(keys[order]) == 0)
    if len(same):
        at = order[same[0]]
        raise ScoresError(
            f"{name} has tile ({rows[at]}, {cols[at]}) twice; score each date of a place by itself"
        )
    p = scores.probabilities(table)[order]
    shares, reference = (columns.to_rows(table, kind)[order] if kind else None for kind in kinds)
    labels = columns.class_ids(table["truth"], scores.legend, name)[order]
    threshold = scores.threshold
    return DateScores(
        uri=uri, date=_date(scores.uri, scores.info, table["date"]), legend=scores.legend,
        grid=scores.grid, info=scores.info, rows=rows[order], cols=cols[order],
        mapped=columns.class_ids(table["label"], scores.legend, name)[order],
        truth=truth(labels, reference), split=columns.words(table["split"])[order],
        probabilities=p, shares=shares, reference=reference,
        sets=None if threshold is None else metrics.in_set(p, threshold),
        distance=table[columns.DISTANCE].to_numpy()[order] if scores.distance else None,
    )  # fmt: skip


def read_features(day: DateScores) -> NDArray[np.float32]:
    """Features of a date's tiles, (N, D), as `score` kept them; ScoresError where it did not."""
    scores = files.open_scores(day.uri)
    if not scores.features:
        raise ScoresError(f"{storage.redact(day.uri)} keeps no features; score again")
    table = scores.table(["row", "col", columns.FEATURES])
    kept = grids.tile_keys(table["row"].to_numpy(), table["col"].to_numpy())
    at = grids.places_of(kept, grids.tile_keys(day.rows, day.cols))
    return columns.to_features(table[columns.FEATURES])[at]


def _date(uri: str, info: Mapping[str, Any], column: pa.ChunkedArray) -> str:
    """What the date is called: as the scores say it, else as their folder is named."""
    dates = [str(d) for d in info.get("dates") or ()]
    if not dates:
        dates = sorted({d for d in column.unique().to_pylist() if d})
    return dating.period(dates) or storage.basename(uri)


def match(days: Sequence[DateScores]) -> tuple[DateScores, ...]:
    """The tiles that all dates have, in the same order.

    Raises:
        ScoresError: other grids or legends, or no ground in common.
    """
    first, keys = days[0], grids.tile_keys(days[0].rows, days[0].cols)
    for day in days[1:]:
        _alike(first, day)
        keys = np.intersect1d(keys, grids.tile_keys(day.rows, day.cols), assume_unique=True)
        if not len(keys):
            raise ScoresError(
                f"{storage.redact(first.uri)} and {storage.redact(day.uri)} have no tile in "
                "common; they must show the same ground"
            )
    return tuple(d.take(np.searchsorted(grids.tile_keys(d.rows, d.cols), keys)) for d in days)


def _alike(a: DateScores, b: DateScores) -> None:
    """ScoresError where two dates lie on different grids or have different classes."""
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


def synthetic_note(days: Iterable[DateScores]) -> tuple[str, ...]:
    """A note where any date's imagery is generated; none elsewhere."""
    return (files.SYNTHETIC,) if any(files.is_synthetic(d.info) for d in days) else ()
