"""Scores on disk from arrays, as `quadrat score` writes them, for tests of what reads scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from quadrat import geoparquet, parts
from quadrat.grid import Grid
from quadrat.legend import Legend, load_legend
from quadrat.parts import PartRecord
from quadrat.scores import Scores, columns, likeness
from quadrat.scores.files import write_manifest

GRID = Grid("EPSG:26917", 224.0, 1.0)


def write_scores(
    uri: str,
    rows: np.ndarray,
    cols: np.ndarray,
    probabilities: np.ndarray,
    *,
    truth: np.ndarray | None = None,
    split: np.ndarray | None = None,
    date: str | None = None,
    legend: Legend | None = None,
    grid: Grid | None = GRID,
    source: str = "imagery.tif",
    pieces: int = 2,
    shares: np.ndarray | None = None,
    reference: np.ndarray | None = None,
    threshold: float | None = None,
    distance: np.ndarray | None = None,
    **info: Any,
) -> str:
    """Scores of N tiles; truth (N,) class ids, -1 for none; split (N,) words, "" for none.

    Expected shares and those of the label source are (N, K); a threshold is that of 90% sets;
    distances from the training tiles are (N,).
    """
    legend = legend or load_legend("nlcd6")
    names, n = legend.names, len(rows)
    values: dict[str, Any] = {
        "row": rows,
        "col": cols,
        "path": [None] * n,
        "source": [source] * n,
        "date": [date] * n,
        "truth": columns.class_names(np.full(n, -1) if truth is None else truth, legend),
        "split": [None] * n if split is None else [s or None for s in split],
        "label": columns.class_names(probabilities.argmax(1), legend),
        "geometry": geoparquet.wkb_array((grid or GRID).wkb(rows, cols)),
    }
    for k, name in enumerate(names):
        values[columns.probability(name)] = probabilities[:, k].astype(np.float32)
        if shares is not None:
            values[columns.share(name)] = shares[:, k].astype(np.float32)
        if reference is not None:
            said = reference[:, k].astype(np.float32)
            values[columns.reference(name)] = pa.array(said, pa.float32(), mask=np.isnan(said))
    if threshold is not None:
        inside = probabilities.astype(np.float32) >= threshold
        values[columns.SET_SIZE] = np.maximum(inside.sum(1), 1)
        info["conformal"] = {"level": 0.9, "threshold": threshold}
    if distance is not None:
        values[columns.DISTANCE] = distance.astype(np.float32)
        counts = likeness.counted(pa.chunked_array([values["source"]]), distance)
        info["distance"] = likeness.summary([counts], 0.99)
    layout = columns.schema(
        names, shares=shares is not None, references=reference is not None,
        sets=threshold is not None, distance=distance is not None,
    )  # fmt: skip
    table = pa.table(
        [v if isinstance(v := values[f.name], pa.Array) else pa.array(v, f.type) for f in layout],
        schema=layout,
    )
    made = []
    for i, at in enumerate(np.array_split(np.arange(n), pieces)):
        name = f"part-{i:05d}"
        one = geoparquet.write_part(parts.place(uri, name), table.take(at), (grid or GRID).crs)
        made.append(PartRecord(name, one.rows, one.sha256))
    about = {
        "size_px": 224,
        "model": {"uri": "model", "digest": "0" * 64, "run_id": None},
        "source": {"uri": source, "kind": "rasters", "digest": "1" * 64},
        "precision": "fp32",
        "sample_frac": 1.0,
        "dates": [date] if date else [],
        "counts": {},
        "dropped": 0,
        "skipped": {"count": 0, "listed": []},
        "provenance": {},
        "shares": shares is not None,
        "references": reference is not None,
        **info,
    }
    return write_manifest(Scores(uri, legend, grid, tuple(made), about)).uri


def square(side: int, row: int = -18326, col: int = 2503) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of side x side tiles."""
    r, c = np.divmod(np.arange(side * side), side)
    return r + row, c + col


def certain(ids: np.ndarray, k: int = 6, p: float = 0.9) -> np.ndarray:
    """Probabilities (N, K) that say the class with p."""
    out = np.full((len(ids), k), (1 - p) / (k - 1))
    out[np.arange(len(ids)), ids] = p
    return out
