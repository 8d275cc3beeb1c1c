"""The ranked list of changes: which tiles, how sure, how many false ones, and its files."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import geoparquet, raster, storage, text
from quadrat.errors import InputError
from quadrat.legend import Legend
from quadrat.scores import DateScores

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COLUMNS = (
    "rank", "row", "col", "x", "y", "lon", "lat", "from", "to", "probability", "changed",
    "expected_false", "period", "classes", "label_a", "label_b",
)  # fmt: skip


@dataclass(frozen=True)
class Candidates:
    """Tiles that changed, likeliest first.

    Attributes:
        at: (M,) places among the paired tiles.
        source, target: (M,) class ids of the likeliest transition that was asked for.
        probability: (M,) float64, that one of the asked-for transitions happened.
        changed: (M,) float64, that the class changed at all.
    """

    at: Ints
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


def rank(
    pairs: NDArray[Any],
    source: Ints,
    target: Ints,
    *,
    least: float = 0.5,
    most: int | None = None,
) -> Candidates:
    """The tiles whose probability of a wanted transition is at least `least`, likeliest first.

    Args:
        pairs: (N, K, K) posterior of transitions.
        source, target: class ids; a transition is from one of `source` to another class of
            `target`.
    """
    check(source, target, least)
    wanted = np.zeros(pairs.shape[1:], bool)
    wanted[np.ix_(source, target)] = True
    np.fill_diagonal(wanted, False)
    stay = np.trace(pairs, axis1=1, axis2=2, dtype=np.float64)
    pairs = np.where(wanted, pairs, 0.0)
    total = pairs.sum((1, 2), dtype=np.float64).clip(0.0, 1.0)
    order = np.argsort(-total, kind="stable")
    order = order[total[order] >= max(least, 1e-12)][:most]
    k = len(wanted)
    flat = pairs[order].reshape(len(order), k * k).argmax(1)
    changed = np.clip(1.0 - stay[order], 0.0, 1.0)
    return Candidates(order, flat // k, flat % k, total[order], changed)


def check(source: Ints, target: Ints, least: float) -> None:
    """InputError when nothing can be in the list."""
    if not 0 <= least <= 1:
        raise InputError(f"--min-probability {least} is no share; use a number from 0 to 1")
    if len(source) == len(target) == 1 and source[0] == target[0]:
        raise InputError("no change is asked for: --from and --to name the same class only")


def records(
    found: Candidates, when: Ints, path: Ints, days: Sequence[DateScores], legend: Legend
) -> list[dict[str, Any]]:
    """The list as plain rows, one a candidate.

    Args:
        when: (M,) the interval of each candidate's change.
        path: (N, T) most likely classes of all tiles.
        legend: of `found` and `path`.
    """
    a, b = days[0], days[-1]
    rows, cols = a.rows[found.at], a.cols[found.at]
    xs, ys = a.grid.centres(rows, cols)
    lon, lat = raster.transform_points(a.grid.crs, "EPSG:4326", xs, ys) if len(xs) else (xs, ys)
    names, running = legend.names, found.expected_false
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
            "from": names[found.source[i]],
            "to": names[found.target[i]],
            "probability": round(float(found.probability[i]), 6),
            "changed": round(float(found.changed[i]), 6),
            "expected_false": round(float(running[i]), 4),
            "period": f"{days[when[i]].date} to {days[when[i] + 1].date}",
            "classes": " > ".join(names[c] for c in _ends(path[at], found, int(when[i]), i)),
            "label_a": own[a.mapped[at]],
            "label_b": own[b.mapped[at]],
        }
        for i, at in enumerate(found.at)
    ]


def _ends(path: Ints, found: Candidates, when: int, i: int) -> list[int]:
    """The classes of a candidate's dates, with those of the change itself where it happened."""
    classes = [int(c) for c in path]
    classes[when], classes[when + 1] = int(found.source[i]), int(found.target[i])
    return classes


def write(rows: list[dict[str, Any]], a: DateScores, out: str) -> dict[str, str]:
    """`candidates.parquet`, `.geojson` and `.csv`; the files' URIs by kind."""
    files = {k: storage.join(out, f"candidates.{k}") for k in ("parquet", "geojson", "csv")}
    geoparquet.write_part(files["parquet"], _table(rows, a), a.grid.crs)
    storage.write_bytes(files["geojson"], _geojson(rows, a).encode())
    table = io.StringIO()
    text.write_table(table, COLUMNS, ([r[c] for c in COLUMNS] for r in rows))
    storage.write_bytes(files["csv"], table.getvalue().encode())
    return files


WHOLE, WORDS = ("rank", "row", "col"), ("from", "to", "period", "classes", "label_a", "label_b")


def _table(rows: list[dict[str, Any]], a: DateScores) -> pa.Table:
    kinds = {n: pa.int32() for n in WHOLE} | {n: pa.string() for n in WORDS}
    columns = {n: pa.array([r[n] for r in rows], kinds.get(n, pa.float64())) for n in COLUMNS}
    place = (np.array([r[n] for r in rows], np.int64) for n in ("row", "col"))
    columns["geometry"] = geoparquet.wkb_array(a.grid.wkb(*place))
    return pa.table(columns)


def _geojson(rows: list[dict[str, Any]], a: DateScores) -> str:
    """Outlines in longitude and latitude, as RFC 7946 wants them."""
    half = a.grid.tile_m / 2
    turn = ((-half, -half), (half, -half), (half, half), (-half, half), (-half, -half))
    features = []
    if rows:
        xs = np.array([[r["x"] + dx for dx, _ in turn] for r in rows])
        ys = np.array([[r["y"] + dy for _, dy in turn] for r in rows])
        lon, lat = raster.transform_points(a.grid.crs, "EPSG:4326", xs.ravel(), ys.ravel())
        ring = np.round(np.stack([lon, lat], -1).reshape(len(rows), 5, 2), 7).tolist()
        features = [
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [corners]},
                "properties": row,
            }
            for row, corners in zip(rows, ring, strict=True)
        ]
    return json.dumps({"type": "FeatureCollection", "features": features})
