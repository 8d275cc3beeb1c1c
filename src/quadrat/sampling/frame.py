"""The sampling frame: every tile that may be drawn, with what the map says of it.

Tiles outside the imagery of a date are not in it: there is nothing to interpret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import geoparquet, metrics, products, raster, scores, storage
from quadrat import grid as grids
from quadrat import legend as legends
from quadrat.errors import InputError, QuadratError, ScoresError
from quadrat.grid import Grid
from quadrat.legend import LandClass, Legend
from quadrat.scores import DateScores

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

CHANGE = products.PRODUCTS["change"].manifest
LONLAT = "EPSG:4326"
FLOOR = 1e-4  # of probabilities whose ratio is taken


@dataclass(frozen=True)
class SamplingFrame:
    """The tiles that may be drawn, in the order of rows and columns.

    Attributes:
        kind: `scores` or `change`.
        uri, digest: what it was read from; the digest is that of its tables.
        dates: one for scores, the first and the last for a change.
        legend: of the map.
        rows, cols: (N,) int64.
        mapped: (N, D) int64, class ids of each date's map.
        shares: (N, K) float64, the expected part of each tile's ground that a class has, or of a
            change the probabilities of the last date's classes.
        has_shares: whether these are shares, or probabilities of the main class.
        moves: (N, K, K) float64, probabilities of each transition; None for scores.
        ends: (N, 2, K) float64, the first and last date's own probabilities; None for scores.
        split: (N,) of str, "" where a tile is in none.
        label_shares: (N, K) float64, the shares that the label source says, NaN where it does not;
            None where the scores keep none.
    """

    kind: str
    uri: str
    digest: str
    dates: tuple[str, ...]
    legend: Legend
    grid: Grid
    rows: Ints
    cols: Ints
    mapped: Ints
    shares: Floats
    has_shares: bool = False
    moves: Floats | None = None
    ends: Floats | None = None
    split: NDArray[np.str_] | None = None
    label_shares: Floats | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, places: Ints) -> SamplingFrame:
        """The tiles at `places`, in that order."""

        def some(values: Any) -> Any:
            return None if values is None else values[places]

        return replace(
            self, rows=self.rows[places], cols=self.cols[places], mapped=self.mapped[places],
            shares=self.shares[places], moves=some(self.moves), ends=some(self.ends),
            split=some(self.split), label_shares=some(self.label_shares),
        )  # fmt: skip

    def lonlat(self) -> tuple[Floats, Floats]:
        """Longitude and latitude of the tiles' centres, (N,) each, degrees."""
        x, y = self.grid.centres(self.rows, self.cols)
        return raster.transform_points(self.grid.crs, LONLAT, x, y) if len(x) else (x, y)

    def beside(self, marked: Flags) -> Flags:
        """Tiles that touch a marked one, corners too, (N,)."""
        keys = grids.tile_keys(self.rows, self.cols)
        near = np.zeros(len(self), np.bool_)
        at = np.flatnonzero(marked)
        for dr in (-1, 0, 1):
            for dc in (-1, 0, 1):
                there = grids.places_of(
                    keys, grids.tile_keys(self.rows[at] + dr, self.cols[at] + dc)
                )
                near[there[there >= 0]] = True
        return near & ~marked


def read(uri: str, legend: str | None = None) -> SamplingFrame:
    """The frame of a folder of scores or of change.

    Args:
        legend: a coarser legend that scores are folded into.

    Raises:
        InputError: the folder holds neither. ScoresError: it is unfinished or damaged.
    """
    uri = storage.normalise(uri)
    kinds = products.kinds_of(uri)
    if "change" in kinds:
        if legend is not None:
            raise InputError("--legend folds scores; name it to quadrat change for a change")
        return _of_change(uri)
    if "scores" not in kinds:
        raise InputError(
            f"{storage.redact(uri)} holds neither scores nor a change; name a folder that quadrat "
            "score or quadrat change made"
        )
    return _of_scores(uri, legend)


def _of_scores(uri: str, legend: str | None) -> SamplingFrame:
    day = scores.read(uri)
    if legend is not None:
        day = day.folded(legends.load_legend(legend))
    return of_day(day)


def of_day(day: DateScores) -> SamplingFrame:
    """The frame of one date's scores."""
    shares = day.ground_shares
    return SamplingFrame(
        kind="scores", uri=day.uri, digest=scores.open_scores(day.uri).digest, dates=(day.date,),
        legend=day.legend, grid=day.grid, rows=day.rows, cols=day.cols,
        mapped=day.mapped[:, None], shares=shares.astype(np.float64),
        has_shares=day.shares is not None, split=day.split,
        label_shares=None if day.reference is None else day.reference.astype(np.float64),
    )  # fmt: skip


def _of_change(uri: str) -> SamplingFrame:
    place, table_uri = storage.join(uri, CHANGE), storage.join(uri, "transitions.parquet")
    name = storage.redact(uri)
    data = storage.read_json(place)
    try:
        names, colors, days = data["names"], data["colors"], [str(d) for d in data["dates"]]
        classes = [LandClass(str(n), str(c)) for n, c in zip(names, colors, strict=True)]
        legend, grid = Legend("change", tuple(classes)), grids.from_dict(data["grid"])
    except KeyError as error:
        raise ScoresError(
            f"{storage.redact(place)} lacks {error}; make it again with this Quadrat: "
            "quadrat change"
        ) from None
    except (TypeError, ValueError, AttributeError, QuadratError) as error:
        raise ScoresError(f"{storage.redact(place)} is damaged ({error}); run it again") from None
    k, last = len(legend), len(days)
    ends = [f"p_{a}_to_{b}" for a in legend.names for b in legend.names]
    kinds: dict[str, Any] = {"row": pa.int32(), "col": pa.int32()}
    kinds |= {c: pa.string() for c in ("class_1", f"class_{last}")}
    own = [f"{end}_p_{n}" for end in ("first", "last") for n in legend.names]
    kinds |= dict.fromkeys([*ends, *own], pa.float32())
    table = geoparquet.read_part(table_uri, list(kinds), schema=pa.schema(kinds))
    if not len(table):
        raise ScoresError(f"{name} has no tiles; run quadrat change again")
    rows, cols = (table[c].to_numpy().astype(np.int64) for c in ("row", "col"))
    order = np.argsort(grids.tile_keys(rows, cols), kind="stable")
    moves = np.stack([table[c].to_numpy() for c in ends], axis=1).reshape(-1, k, k)[order]
    moves = moves.astype(np.float64)
    alone = np.stack([table[c].to_numpy() for c in own], axis=1).reshape(-1, 2, k)[order]
    mapped = [
        scores.columns.class_ids(table[c], legend, name)[order]
        for c in ("class_1", f"class_{last}")
    ]
    return SamplingFrame(
        kind="change", uri=uri, digest=storage.digest_file(table_uri), dates=(days[0], days[-1]),
        legend=legend, grid=grid, rows=rows[order], cols=cols[order],
        mapped=np.stack(mapped, axis=1), shares=moves.sum(1), moves=moves,
        ends=alone.astype(np.float64),
    )  # fmt: skip


def wanted_moves(
    frame: SamplingFrame, from_classes: Sequence[str] = (), to_classes: Sequence[str] = ()
) -> Flags:
    """Which transitions are meant, (K, K): those between two classes that are asked for.

    Raises:
        LegendError: a class that the legend lacks. InputError: no change is asked for.
    """
    k = len(frame.legend)
    asked = ~np.eye(k, dtype=bool)
    for names, axis in ((from_classes, 0), (to_classes, 1)):
        if names:
            ids = [frame.legend.id(n) for n in names]
            kept = np.isin(np.arange(k), ids)
            asked &= kept[:, None] if axis == 0 else kept[None, :]
    if not asked.any():
        raise InputError("no change is asked for: --from and --to name the same class only")
    return asked


def change_probability(frame: SamplingFrame, asked: Flags) -> Floats:
    """The probability of a transition that is asked for, (N,)."""
    if frame.moves is None:
        raise InputError(
            f"{storage.redact(frame.uri)} is of one date; strata of change need a folder of "
            "quadrat change"
        )
    probability: Floats = frame.moves[:, asked].sum(1)
    return probability


def suspicion(frame: SamplingFrame, asked: Flags) -> Floats:
    """How likely each tile hides a change that is asked for, as a rank from 0 to 1, (N,).

    The mean of two ranks: of the probability of change, which is of whole tiles, and of how much
    more a class that is changed to shows on the last date than on the first, which is of parts of
    tiles too.
    """
    p = change_probability(frame, asked)
    if frame.ends is None:
        return _rank(p)
    first, last = np.log(np.maximum(frame.ends, FLOOR)).transpose(1, 0, 2)
    gained = asked.any(0)
    more: Floats = np.where(gained, last - first, -np.inf).max(1)
    return _rank(_rank(p) + _rank(more))


def _rank(values: Floats) -> Floats:
    """Ranks from 0 to 1, equal values in their order, (N,)."""
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks / max(len(values) - 1, 1)


def blocks(frame: SamplingFrame, side: int) -> Ints:
    """Which block of `side` x `side` tiles each tile lies in, (N,) from 0."""
    ids = metrics.block_ids(frame.rows, frame.cols, side)
    return np.unique(ids, return_inverse=True)[1].reshape(-1).astype(np.int64)


def described(frame: SamplingFrame) -> Mapping[str, Any]:
    """What the sample's file says of where it was drawn from."""
    return {"kind": frame.kind, "uri": storage.redact(frame.uri), "digest": frame.digest}
