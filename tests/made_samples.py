"""Samples on disk, as `quadrat sample` writes them, over small imagery, for tests of reviews."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from quadrat.grid import Grid

GRID = Grid("EPSG:26917", 32.0, 1.0)
TOP, LEFT = 4105024.0, 560000.0  # the corner of the imagery, on the grid
ROW, COL = int(-TOP // 32), int(LEFT // 32)
DATES = ("2011-06-03", "2014-09-30")
CLASSES = (
    ("Water", "#4673a8"), ("Developed", "#c4281b"), ("Forest", "#2d6a2e"),
    ("Cultivated", "#dba43a"),
)  # fmt: skip
SECRET = "mapped as Developed, unsure"  # a stratum's name, which no interpreter may see


def write_sample(
    folder: Path,
    plots: int = 6,
    *,
    reserve: int = 0,
    dates: Sequence[str] = DATES,
    purpose: str = "estimation",
    classes: Sequence[tuple[str, str]] = CLASSES,
    grid: Grid = GRID,
    corner: tuple[int, int] = (ROW, COL),
    side: int = 8,
    source: dict[str, Any] | None = None,
) -> Path:
    """A sample of the inner tiles of `side` x `side`, two strata by turns, reserves last."""
    folder.mkdir(parents=True)
    inner = [(r, c) for r in range(1, side - 1) for c in range(1, side - 1)]
    chosen = np.random.default_rng(5).permutation(len(inner))[: plots + reserve]
    head = (
        "plot", "tile", "row", "col", "stratum", "stratum_size", "stratum_sample", "probability",
        "reserve", "lon", "lat",
    )  # fmt: skip
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(head)
    for n, at in enumerate(chosen, start=1):
        row, col = inner[at][0] + corner[0], inner[at][1] + corner[1]
        code = f"S{1 + n % 2}"
        writer.writerow(
            [n, f"r{row}_c{col}", row, col, code, 30, plots // 2, plots / 60, int(n > plots),
             round(-80.3 + n / 1000, 7), round(37.07 + n / 1000, 7)]
        )  # fmt: skip
    data = table.getvalue().encode()
    (folder / "sample.csv").write_bytes(data)
    strata = [
        {"code": f"S{h}", "name": SECRET, "rule": SECRET, "tiles": 30, "plots": plots // 2,
         "reserve": reserve // 2}
        for h in (1, 2)
    ]  # fmt: skip
    about = {
        "format": "quadrat-sample", "version": 1, "purpose": purpose, "design": "stratified",
        "seed": 0, "plots": plots, "reserve": reserve, "dates": list(dates),
        "grid": grid.to_dict(),
        "legend": [{"name": n, "color": c} for n, c in classes],
        "strata": strata, "source": source or {"kind": "change", "uri": "gone", "digest": "0" * 64},
        "sha256": hashlib.sha256(data).hexdigest(),
    }  # fmt: skip
    (folder / "sample.json").write_text(json.dumps(about))
    return folder


def write_imagery(write_raster: Callable[..., str], side: int = 8) -> list[str]:
    """Imagery of two dates over the tiles; each tile has grey levels of its own on each date."""
    found = []
    for date, base in zip(DATES, (30, 140), strict=True):
        levels = (base + np.arange(side * side).reshape(side, side) % 100).astype(np.uint8)
        pixels = np.kron(levels, np.ones((32, 32), np.uint8))
        found.append(write_raster(f"{date}.tif", np.stack([pixels] * 3), left=LEFT, top=TOP))
    return found


def grey(row: int, col: int, date: int, side: int = 8) -> int:
    """The level of a tile in that imagery."""
    return (30, 140)[date] + (row - ROW) * side + (col - COL)


def answer(plot: int, *classes: str, **more: Any) -> dict[str, Any]:
    """An answer for a plot as the page sends it, a class a date."""
    seen = [
        {"date": d, "main": c, "shares": None, "observable": True}
        for d, c in zip(DATES, classes, strict=True)
    ]
    change = "no" if len(set(classes)) == 1 else "yes"
    return {"plot": plot, "seen": seen, "change": change, "confidence": 2, "note": "",
            "seconds": 4.5} | more  # fmt: skip
