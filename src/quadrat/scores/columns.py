"""The columns of a part of scores: their names and types, and what they are as arrays.

Class names stand in the files; everywhere else a class is its id in the legend.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat.errors import ScoresError
from quadrat.legend import Legend

Ints = NDArray[np.int64]

FEATURES = "features"


def probability(name: str) -> str:
    """The column of the probability that a class is the main class of a tile."""
    return f"p_{name}"


def share(name: str) -> str:
    """The column of the expected part of a tile's ground that a class has."""
    return f"share_{name}"


def reference(name: str) -> str:
    """The column of a class's share by the source's own labels."""
    return f"frac_{name}"


SET_SIZE = "set_size"  # classes in a tile's conformal set
DISTANCE = "distance"  # how unlike the training tiles a tile is; see `likeness`


def schema(
    names: Sequence[str],
    *,
    shares: bool = False,
    references: bool = False,
    sets: bool = False,
    distance: bool = False,
    features: int = 0,
) -> pa.Schema:
    """The columns of a part of scores.

    Args:
        names: the legend's classes.
        shares: whether the part has the shares of the classes beside their probabilities.
        references: whether it has the shares that the source's labels say.
        sets: whether it has the sizes of the tiles' sets of classes.
        distance: whether it has the tiles' distances from the training tiles.
        features: their number, where the model's features of each tile are kept; 0 where not.
    """
    return pa.schema(
        [
            ("row", pa.int32()),
            ("col", pa.int32()),
            ("path", pa.string()),
            ("source", pa.string()),
            ("date", pa.string()),
            ("truth", pa.string()),
            ("split", pa.string()),
            ("label", pa.string()),
            *((probability(n), pa.float32()) for n in names),
            *((share(n), pa.float32()) for n in names if shares),
            *((reference(n), pa.float32()) for n in names if references),
            *(((SET_SIZE, pa.int8()),) if sets else ()),
            *(((DISTANCE, pa.float32()),) if distance else ()),
            *([(FEATURES, pa.list_(pa.float32(), features))] if features else []),
            ("geometry", pa.binary()),
        ]
    )


def from_rows(columns: Sequence[str], rows: NDArray[np.float32]) -> dict[str, pa.Array]:
    """The columns of an array (N, K), one a class."""
    return {n: pa.array(np.ascontiguousarray(rows[:, k])) for k, n in enumerate(columns)}


def to_rows(table: pa.Table, columns: Sequence[str]) -> NDArray[np.float32]:
    """Columns of a table side by side, (N, K) float32."""
    return np.stack([table[n].to_numpy() for n in columns], axis=1).astype(np.float32, copy=False)


def from_features(rows: NDArray[np.float32]) -> pa.Array:
    """Features (N, D) as a column."""
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])


def to_features(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """A column of features, (N, D) float32."""
    chunks = [c.flatten().to_numpy().reshape(len(c), -1) for c in column.chunks if len(c)]
    return np.concatenate(chunks) if chunks else np.empty((0, column.type.list_size), np.float32)


def class_names(ids: NDArray[np.integer], legend: Legend) -> pa.Array:
    """Class ids (N,) as names, null for -1."""
    words = pa.array(legend.names, pa.string())
    return words.take(pa.array(ids, pa.int64(), mask=np.asarray(ids) < 0))


def class_ids(column: pa.ChunkedArray, legend: Legend, uri: str) -> Ints:
    """Class names as ids, (N,) int64, -1 for null.

    Args:
        uri: whose column it is, for messages.

    Raises:
        ScoresError: a name that the legend lacks.
    """
    coded = column.combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    words = coded.dictionary.to_pylist()
    unknown = [w for w in words if w not in legend.names]
    if unknown:
        raise ScoresError(
            f"{uri} has the label {unknown[0]!r}, which its legend lacks; "
            "score again with one legend"
        )
    ids = np.array([legend.id(w) for w in words] + [-1], dtype=np.int64)
    places = coded.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)
    found: Ints = ids[places.astype(np.int64)]
    return found


def words(column: pa.ChunkedArray) -> NDArray[np.str_]:
    """A column of words, (N,) str, "" for null."""
    return np.array([w or "" for w in column.to_pylist()], dtype=np.str_)
