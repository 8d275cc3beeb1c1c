"""Scores on disk: `scores.json` and GeoParquet parts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import geoparquet, storage
from quadrat import grid as grids
from quadrat import legend as legends
from quadrat.errors import GridError, LegendError, ScoresError, StorageError
from quadrat.grid import Grid
from quadrat.legend import Legend
from quadrat.tiles import sets

FORMAT = "quadrat-scores"
VERSION = 1
MANIFEST = "scores.json"
PART = re.compile(r"part-\d{5,9}")


@dataclass(frozen=True)
class Scores:
    """Scores that are finished.

    Attributes:
        names: the parts' names, without ending.
        info: everything else of `scores.json`: model, source, precision, counts, provenance.
    """

    uri: str
    legend: Legend
    grid: Grid | None
    names: tuple[str, ...]
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tiles(self) -> int:
        """How many tiles were scored."""
        return int(self.info.get("tiles", 0))

    def part(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """One part as a table."""
        return geoparquet.read_part(storage.join(self.uri, "parts", f"{name}.parquet"), columns)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All scores as one table; memory grows with their number (about 100 bytes a tile)."""
        try:
            tables = [self.part(n, columns) for n in self.names]
        except StorageError as error:
            raise ScoresError(str(error)) from None
        if not tables:
            raise ScoresError(f"{storage.redact(self.uri)} holds no scores")
        return pa.concat_tables(tables)

    def probabilities(self, table: pa.Table) -> NDArray[np.float32]:
        """The probability columns of a table of these scores, `(N, K) float32`."""
        return np.stack([table[f"p_{n}"].to_numpy() for n in self.legend.names], axis=1)

    def to_dict(self) -> dict[str, Any]:
        """What a script wants to know."""
        return {
            "uri": self.uri,
            "legend": self.legend.name,
            "grid": self.grid.to_dict() if self.grid else None,
            **self.info,
        }


def open_scores(uri: str) -> Scores:
    """Read `scores.json`; ScoresError when it is missing, damaged, foreign or unfinished."""
    uri = storage.normalise(uri)
    place = storage.join(uri, MANIFEST)
    if not storage.exists(place):
        is_tileset = storage.exists(storage.join(uri, sets.MANIFEST))
        if storage.exists(storage.join(uri, "plan.json")) and not is_tileset:
            raise ScoresError(
                f"{storage.redact(uri)} holds unfinished scores; run the same quadrat score again"
            )
        raise ScoresError(f"{storage.redact(uri)} holds no {MANIFEST}; make it with quadrat score")
    data = storage.read_json(place)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ScoresError(f"{storage.redact(place)} is not of Quadrat scores")
    if data.get("version") != VERSION:
        raise ScoresError(
            f"{storage.redact(uri)} has format version {data.get('version')}, this Quadrat reads "
            f"{VERSION}; score again"
        )
    known = {"format", "version", "legend", "grid", "parts"}
    try:
        names = tuple(str(n) for n in data["parts"])
        if not all(PART.fullmatch(n) for n in names):
            raise ScoresError(f"{storage.redact(uri)} names a part that is none")
        return Scores(
            uri,
            legends.from_dict(data["legend"]),
            grids.from_dict(data["grid"]) if data["grid"] else None,
            names,
            {k: v for k, v in data.items() if k not in known},
        )
    except (KeyError, TypeError, AttributeError, GridError, LegendError) as error:
        raise ScoresError(f"{storage.redact(place)} is damaged ({error}); score again") from None
