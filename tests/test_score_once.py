"""Duplicates are found part by part: which parts are compared, against all pairs tried."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from quadrat.scoring.once import meeting, span


def table(rows: Any = None, cols: Any = None, paths: Any = None) -> pa.Table:
    n = len(rows if rows is not None else paths)
    return pa.table(
        {
            "row": pa.array(rows if rows is not None else [None] * n, pa.int32()),
            "col": pa.array(cols if cols is not None else [None] * n, pa.int32()),
            "path": pa.array(paths if paths is not None else [None] * n, pa.string()),
        }
    )


@pytest.mark.parametrize("seed", range(5))
def test_parts_that_share_a_tile_are_always_compared(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(40):
        corner, size = rng.integers(-30, 30, 2), rng.integers(1, 8, 2)
        cells = [
            (int(corner[0]) + i, int(corner[1]) + j) for i in range(size[0]) for j in range(size[1])
        ]
        keep = rng.random(len(cells)) < 0.7
        parts.append({c for c, k in zip(cells, keep, strict=True) if k} or {cells[0]})
    spans = [span(table([r for r, _ in p], [c for _, c in p])) for p in parts]
    found = {tuple(sorted(pair)) for pair in meeting(spans)}
    sharing = {
        (a, b) for a, b in itertools.combinations(range(len(parts)), 2) if parts[a] & parts[b]
    }
    assert sharing
    assert sharing <= found
    assert len(found) < len(parts) * (len(parts) - 1) / 2


def test_parts_of_a_grid_that_lie_side_by_side_are_not_read_again() -> None:
    spans = [
        span(table([i * 16, i * 16 + 15], [j * 16, j * 16 + 15]))
        for i in range(20)
        for j in range(20)
    ]
    assert list(meeting(spans)) == []


def test_paths_too() -> None:
    spans = [span(table(paths=p)) for p in (["a", "c"], ["d", "f"], ["b", "b2"], ["f", "z"])]
    assert {tuple(sorted(p)) for p in meeting(spans)} == {(0, 2), (1, 3)}


def test_a_part_with_a_tile_twice_is_to_be_looked_at() -> None:
    assert span(table([3, 3], [4, 4])) is None
    assert span(table(paths=["a", "a"])) is None
    assert span(table([3, 3], [4, 5])) == (3, 3, 4, 5)
