"""A tile set with people's labels in place of its own for some tiles.

Nothing is written: labels and shares are replaced as tiles are read, on whatever engine. It does
not know where labels come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import grid as grids
from quadrat import storage
from quadrat.grid import Grid
from quadrat.legend import Legend
from quadrat.tiles import sets, targets
from quadrat.tiles.sets import SetPart, TileSet
from quadrat.tiles.types import Batch


@dataclass(frozen=True)
class GivenLabels:
    """Shares of the classes of some tiles.

    Attributes:
        names: the K classes.
        rows, cols: (n,) tile ids, each once. shares: (n, K), rows sum to 1.
    """

    names: tuple[str, ...]
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    shares: NDArray[np.float64]

    def laid_on(self, table: pa.Table) -> pa.Table:
        """An index with these labels and shares in the rows of their tiles."""
        if not len(table):
            return table
        keys = grids.tile_keys(table["row"].to_numpy(), table["col"].to_numpy())
        at = grids.places_of(grids.tile_keys(self.rows, self.cols), keys)
        mine = at >= 0
        if not mine.any():
            return table
        shares = self.shares[at[mine]]
        # two classes of the same largest share are no main class
        alone = (shares == shares.max(axis=1, keepdims=True)).sum(axis=1) == 1
        words = [
            self.names[k] if one else None for k, one in zip(shares.argmax(1), alone, strict=True)
        ]
        table = _replaced(table, "label", mine, words)
        for name in targets.columns(table):
            k = self.names.index(name.removeprefix(targets.PREFIX))
            table = _replaced(table, name, mine, shares[:, k].tolist())
        return table


def _replaced(
    table: pa.Table, name: str, mine: NDArray[np.bool_], values: Sequence[Any]
) -> pa.Table:
    """A column with other values in the rows that are marked."""
    place = table.column_names.index(name)
    found = table[name].to_pylist()
    for i, value in zip(np.flatnonzero(mine).tolist(), values, strict=True):
        found[i] = value
    return table.set_column(place, table.field(place), pa.array(found, table.field(place).type))


@dataclass(frozen=True)
class RelabelledPart:
    """A part of a tile set, and the labels that replace its own."""

    part: SetPart
    given: GivenLabels

    @property
    def name(self) -> str:
        """The part's name."""
        return self.part.name

    @property
    def count(self) -> int:
        """Tiles in it."""
        return self.part.count


@dataclass(frozen=True)
class RelabelledSet:
    """A tile set with other labels for some tiles; a `Source`."""

    tiles: TileSet
    given: GivenLabels
    kind: str = "tileset"

    @property
    def uri(self) -> str:
        """The tile set's."""
        return self.tiles.uri

    @property
    def size_px(self) -> int:
        """Pixels along a side of a tile."""
        return self.tiles.size_px

    @property
    def grid(self) -> Grid | None:
        """The grid of the tiles."""
        return self.tiles.grid

    @property
    def legend(self) -> Legend | None:
        """The classes of the labels."""
        return self.tiles.legend

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes whose shares are known."""
        return self.tiles.classes

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where the pixels come from."""
        return self.tiles.provenance

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the tile set's and the labels."""
        g = self.given
        return storage.digest_json(
            [self.tiles.digest, list(g.names), g.rows.tolist(), g.cols.tolist(), g.shares.tolist()]
        )

    def parts(self) -> Sequence[RelabelledPart]:
        """The tile set's parts, with the labels."""
        return [RelabelledPart(part, self.given) for part in self.tiles.parts()]


def read(part: RelabelledPart, batch_size: int) -> Iterator[Batch]:
    """The tiles of a part, as `sets.read`, with the labels that were given."""
    for batch in sets.read(part.part, batch_size):
        yield Batch(part.given.laid_on(batch.index), batch.chips, batch.skipped, batch.dropped)


def read_index(source: RelabelledSet) -> pa.Table:
    """As `sets.read_index`, with the labels that were given."""
    return source.given.laid_on(sets.read_index(source.tiles))
