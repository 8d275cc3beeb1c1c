"""The ranked list of changes: which tiles, how sure, how many false ones, and its files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import geoparquet, raster, storage, text
from quadrat.changes.posterior import Posterior
from quadrat.changes.question import Question
from quadrat.legend import Legend
from quadrat.maps.outlines import geojson
from quadrat.scores import DateScores

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COLUMNS = (
    "rank", "row", "col", "x", "y", "lon", "lat", "from", "to", "probability", "changed",
    "expected_false", "period", "classes", "label_a", "label_b",
)  # fmt: skip
KINDS = {n: pa.int32() for n in ("rank", "row", "col")} | {
    n: pa.string() for n in ("from", "to", "period", "classes", "label_a", "label_b")
}


@dataclass(frozen=True)
class Candidates:
    """Tiles that changed, likeliest first.

    Attributes:
        at: (M,) places among the tiles.
        when: (M,) the interval of the change.
        source, target: (M,) class ids of the likeliest transition that was asked for.
        probability: (M,) float64, that one of the asked-for transitions happened.
        changed: (M,) float64, that the class changed at all.
    """

    at: Ints
    when: Ints
    source: Ints
    target: Ints
    probability: Floats
    changed: Floats

    def __len__(self) -> int:
        return len(self.at)

    @property
    def expected_false(self) -> Floats:
        """Expected false ones among the first 1, 2, ... M of the list, (M,)."""
        running: Floats = np.cumsum(1.0 - self.probability)
        return running


def rank(found: Posterior, question: Question) -> Candidates:
    """The tiles whose probability of an asked-for transition is at least `question.least`."""
    p = found.wanted
    order = np.argsort(-p, kind="stable")
    order = order[p[order] >= max(question.least, 1e-12)][: question.limit]
    moved = found.moved[order]
    changed = moved[:, 0] if moved.shape[1] == 1 else 1 - np.prod(1 - moved, axis=1)
    when, before, after = found.best[order].T
    return Candidates(order, when, before, after, p[order], changed)


def records(
    listed: Candidates, found: Posterior, days: Sequence[DateScores], legend: Legend
) -> list[dict[str, Any]]:
    """The list as plain rows, one a candidate.

    Args:
        legend: of the result.
    """
    a, b, when, path = days[0], days[-1], listed.when, found.path
    rows, cols = a.rows[listed.at], a.cols[listed.at]
    xs, ys = a.grid.centres(rows, cols)
    lon, lat = raster.transform_points(a.grid.crs, "EPSG:4326", xs, ys) if len(xs) else (xs, ys)
    names, running = legend.names, listed.expected_false
    own = a.legend.names
    return [
        {
            "rank": i + 1,
            "row": int(rows[i]),
            "col": int(cols[i]),
            "x": float(xs[i]),
            "y": float(ys[i]),
            "lon": round(float(lon[i]), 7),
            "lat": round(float(lat[i]), 7),
            "from": names[listed.source[i]],
            "to": names[listed.target[i]],
            "probability": round(float(listed.probability[i]), 6),
            "changed": round(float(listed.changed[i]), 6),
            "expected_false": round(float(running[i]), 4),
            "period": f"{days[when[i]].date} to {days[when[i] + 1].date}",
            "classes": " > ".join(names[c] for c in _classes(path[at], listed, i)),
            "label_a": own[a.mapped[at]],
            "label_b": own[b.mapped[at]],
        }
        for i, at in enumerate(listed.at)
    ]


def _classes(path: Ints, listed: Candidates, i: int) -> list[int]:
    """The classes of a candidate's dates, with those of the change itself where it happened."""
    classes, when = [int(c) for c in path], int(listed.when[i])
    classes[when], classes[when + 1] = int(listed.source[i]), int(listed.target[i])
    return classes


def write(listed: list[dict[str, Any]], first: DateScores, out: str) -> dict[str, str]:
    """`candidates.parquet`, `.geojson` and `.csv`; the files' URIs by kind.

    Args:
        listed: see `records`. first: the first date, for the grid.
    """
    files = {k: storage.join(out, f"candidates.{k}") for k in ("parquet", "geojson", "csv")}
    rows, cols = (np.array([r[n] for r in listed], np.int64) for n in ("row", "col"))
    columns = {n: pa.array([r[n] for r in listed], KINDS.get(n, pa.float64())) for n in COLUMNS}
    columns["geometry"] = geoparquet.wkb_array(first.grid.wkb(rows, cols))
    geoparquet.write_part(files["parquet"], pa.table(columns), first.grid.crs)
    storage.write_bytes(files["geojson"], geojson(first.grid, rows, cols, listed))
    table = io.StringIO()
    text.write_table(table, COLUMNS, ([r[c] for c in COLUMNS] for r in listed))
    storage.write_bytes(files["csv"], table.getvalue().encode())
    return files
