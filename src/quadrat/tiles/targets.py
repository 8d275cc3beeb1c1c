"""Class shares of tiles: their columns in an index, and their values.

A tile's target is its class shares where the label source says them, else its label alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

PREFIX = "frac_"
POINTS = "points"  # the class at each of m x m points of a tile


def classes(source: Any) -> tuple[str, ...]:
    """Names of the classes whose shares a source has; none for imagery and folders."""
    return tuple(getattr(source, "classes", ()))


def column(name: str) -> str:
    """The column of a class's share."""
    return f"{PREFIX}{name}"


def fields(names: Sequence[str]) -> list[pa.Field]:
    """The columns of shares of these classes, with their types."""
    return [pa.field(column(name), pa.float32()) for name in names]


def points_field(points: NDArray[np.int8]) -> pa.Field:
    """The column of the classes at points of tiles, (N, m, m) int8; see `quadrat.labels.Labels`."""
    return pa.field(POINTS, pa.list_(pa.int8(), points.shape[1] * points.shape[2]))


def points_column(points: NDArray[np.int8]) -> pa.Array:
    """Points (N, m, m) as a column, a list a tile, row by row."""
    flat = pa.array(np.ascontiguousarray(points).reshape(-1), pa.int8())
    return pa.FixedSizeListArray.from_arrays(flat, points.shape[1] * points.shape[2])


def points(column: pa.ChunkedArray) -> NDArray[np.int8] | None:
    """The points of a column, (N, m, m) int8; None where the column holds none."""
    kind = column.type
    if not pa.types.is_fixed_size_list(kind) or not pa.types.is_int8(kind.value_type):
        return None
    whole, side = column.combine_chunks(), math.isqrt(kind.list_size)
    if side * side != kind.list_size or whole.null_count or whole.flatten().null_count:
        return None
    values: NDArray[np.int8] = whole.flatten().to_numpy().reshape(len(column), side, side)
    return values


def columns(table: pa.Table) -> list[str]:
    """The columns of shares that a table has."""
    return [n for n in table.column_names if n.startswith(PREFIX)]


def known(table: pa.Table) -> NDArray[np.bool_]:
    """Which tiles of an index have a label or shares, (N,) bool."""
    known_rows = np.array(table["label"].is_valid().to_numpy(), dtype=np.bool_)
    for name in columns(table)[:1]:  # the shares of a tile are all known, or none
        known_rows |= np.array(table[name].is_valid().to_numpy(), dtype=np.bool_)
    return known_rows


def shares(table: pa.Table, names: Sequence[str]) -> NDArray[np.float64]:
    """Class shares of the tiles of an index, (N, K); NaN in the rows of tiles without any.

    A row sums to less than 1 where ground has no class in the legend. A tile that has a label and
    no shares has all of its ground in that class.

    Args:
        names: the K classes.
    """
    found = np.full((len(table), len(names)), np.nan)
    if columns(table):
        for k, name in enumerate(names):
            values = table[column(name)].to_numpy().astype(np.float64)
            found[:, k] = np.clip(values, 0.0, 1.0)
        found /= np.maximum(found.sum(axis=1, keepdims=True), 1.0)
    place = {name: k for k, name in enumerate(names)}
    ids = np.array([place.get(word, -1) for word in table["label"].to_pylist()], np.int64)
    alone = np.isnan(found).any(axis=1)
    found[alone] = np.where(ids[alone, None] < 0, np.nan, np.eye(len(names))[ids[alone]])
    return found
