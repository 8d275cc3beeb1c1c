"""A change folder as the report shows it: its result, its candidates and their pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from quadrat import changes, geoparquet, storage, text
from quadrat.errors import InputError


def read_change(uri: str) -> tuple[Mapping[str, Any], tuple[Mapping[str, str], ...], pa.Table]:
    """A change folder: its result, candidates and transitions."""
    said = changes.read_result(uri)
    listed = storage.join(uri, "candidates.csv")
    try:
        _, records = text.read_table(storage.read_bytes(listed))
    except InputError as error:
        raise InputError(f"{storage.redact(listed)} cannot be read: {error}") from None
    rows = tuple({k: v or "" for k, v in r.items()} for r in records)
    if not all(_is_candidate(r) for r in rows):
        raise InputError(f"{storage.redact(listed)} is damaged; run quadrat change again")
    kinds = {"row": pa.int32(), "col": pa.int32()}
    kinds |= {f"class_{n}": pa.string() for n in range(1, len(said["dates"]) + 1)}
    kinds |= {f"changed_{n}": pa.float32() for n in range(1, len(said["dates"]))}
    table = geoparquet.read_part(
        storage.join(uri, "transitions.parquet"), list(kinds), schema=pa.schema(kinds)
    )
    return said, rows, table


def _is_candidate(row: Mapping[str, str]) -> bool:
    """Whether a row of `candidates.csv` has what the report shows of it, numbers as numbers."""
    try:
        whole = [int(row[k]) for k in ("rank", "row", "col")]
        real = [float(row[k]) for k in ("probability", "expected_false", "lat", "lon")]
    except (KeyError, ValueError):
        return False
    return {"from", "to", "period"} <= set(row) and all(map(math.isfinite, [*whole, *real]))


def read_shots(said: Mapping[str, Any], uri: str, most: int) -> dict[int, bytes]:
    """Pictures of the first candidates by rank, as they are on disk now."""
    found = {}
    folder = storage.join(uri, "pictures")
    for name in storage.list_names(folder, ".jpg"):
        rank = name.split("_", 1)[0]
        if rank.isdigit() and int(rank) <= most:
            found[int(rank)] = storage.read_bytes(storage.join(folder, name))
    return found
