"""What every source of tiles is made of: parts, batches, and the columns of a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import geoparquet
from quadrat.grid import Grid
from quadrat.legend import Legend
from quadrat.skipped import Skipped

Chips = NDArray[np.uint8]  # (N, H, W, 3)

ROW_GROUP = 64  # tiles
ROW_GROUP_BYTES = 256 << 20  # of their pixels, at most

INDEX = pa.schema(
    [
        ("row", pa.int32()),
        ("col", pa.int32()),
        ("path", pa.string()),
        ("source", pa.string()),
        ("date", pa.string()),
        ("nodata", pa.float32()),
        ("label", pa.string()),
        ("split", pa.string()),
        ("geometry", pa.binary()),
    ]
)


@dataclass(frozen=True)
class Batch:
    """Some tiles of a part.

    Attributes:
        index: one row a tile: the columns of `INDEX`, then the shares of the classes where the
            source has them (see `targets`).
        chips: `(N, size_px, size_px, 3) uint8`, RGB; rows as in `index`.
        skipped: name and reason of each tile that could not be read.
        dropped: tiles left out for nodata.
        flat: tiles of imagery that are of a single colour.
    """

    index: pa.Table
    chips: Chips
    skipped: tuple[Skipped, ...] = ()
    dropped: int = 0
    flat: int = 0


class Part(Protocol):
    """A piece of a source, small and picklable."""

    @property
    def name(self) -> str:
        """`part-00012`: unique in the source, and the same in every run."""

    @property
    def count(self) -> int:
        """Number of tiles; for imagery, the most that there can be."""


class Source(Protocol):
    """Tiles that can be read part by part: a tile set, a folder of images, or rasters."""

    @property
    def kind(self) -> str:
        """`tileset`, `folder` or `rasters`."""

    @property
    def uri(self) -> str:
        """Where it lies; of several rasters, all of them in words."""

    @property
    def size_px(self) -> int:
        """Pixels along a side of a tile."""

    @property
    def grid(self) -> Grid | None:
        """The grid of the tiles; None for images without a place."""

    @property
    def legend(self) -> Legend | None:
        """The classes of the labels; None where there are none."""

    @property
    def digest(self) -> str:
        """SHA-256 that changes when the tiles do."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where the pixels come from, as plain values for runs and reports."""

    def parts(self) -> Sequence[Part]:
        """The parts, in a fixed order."""


@dataclass(frozen=True)
class Columns:
    """Columns of N rows that most sources fill alike; None stands for a column of nulls."""

    rows: NDArray[np.int64] | None = None
    cols: NDArray[np.int64] | None = None
    path: Sequence[str | None] | None = None
    source: Sequence[str] | None = None
    date: Sequence[str | None] | None = None
    nodata: NDArray[np.float32] | None = None
    label: Sequence[str | None] | None = None
    split: Sequence[str | None] | None = None
    grid: Grid | None = None


def make_index(n: int, c: Columns) -> pa.Table:
    """A table with the columns of `INDEX` from what is known."""
    values = vars(c) | {
        "row": c.rows, "col": c.cols,
        "nodata": np.zeros(n, np.float32) if c.nodata is None else c.nodata,
    }  # fmt: skip
    arrays = {
        field.name: pa.nulls(n, field.type)
        if values.get(field.name) is None
        else pa.array(values[field.name], field.type)
        for field in INDEX
    }
    if c.grid is not None and c.rows is not None and c.cols is not None:
        arrays["geometry"] = geoparquet.wkb_array(c.grid.wkb(c.rows, c.cols))
    return pa.table(arrays, schema=INDEX)


def row_group(size_px: int) -> int:
    """Tiles that are written, and later read, together: 64, or fewer where they are large."""
    return min(ROW_GROUP, max(1, ROW_GROUP_BYTES // (3 * size_px**2)))


def empty_chips(size_px: int) -> Chips:
    """No tiles at all."""
    return np.empty((0, size_px, size_px, 3), np.uint8)
