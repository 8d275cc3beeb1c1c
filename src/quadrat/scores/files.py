"""Scores on disk: `scores.json` and GeoParquet parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import geoparquet, parts, products, storage
from quadrat import grid as grids
from quadrat import legend as legends
from quadrat.errors import GridError, LegendError, ScoresError, StorageError
from quadrat.grid import Grid
from quadrat.legend import Legend
from quadrat.parts import PartRecord
from quadrat.scores import columns as named
from quadrat.scores import frames
from quadrat.shown import Chart, shown

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd
    import xarray as xr

FORMAT = products.PRODUCTS["scores"].format
VERSION = 2
MANIFEST = "scores.json"
SYNTHETIC = "The imagery is synthetic: it is generated and shows no real place."


@shown
@dataclass(frozen=True)
class Scores:
    """Scores that are finished.

    Attributes:
        records: the parts, with rows and SHA-256 of each.
        info: everything else of `scores.json`: model, source, precision, counts, provenance.
    """

    uri: str
    legend: Legend
    grid: Grid | None
    records: tuple[PartRecord, ...]
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The parts' names, without ending."""
        return tuple(r.name for r in self.records)

    @property
    def tiles(self) -> int:
        """How many tiles were scored."""
        return sum(r.rows for r in self.records)

    @property
    def has_shares(self) -> bool:
        """Whether the parts have `share_<class>` columns beside `p_<class>`."""
        return bool(self.info.get("shares"))

    @property
    def has_references(self) -> bool:
        """Whether the parts have the shares of the source's labels, `frac_<class>`."""
        return bool(self.info.get("references"))

    @property
    def threshold(self) -> float | None:
        """Of the conformal sets, whose sizes are `set_size` in the parts; None without sets.

        A tile's set holds its most probable class, and every other of at least this probability.
        """
        found = (self.info.get("conformal") or {}).get("threshold")
        return None if found is None else float(found)

    @property
    def distance(self) -> Mapping[str, Any]:
        """Tiles unlike the training ground, in all and by image (see `likeness.summary`).

        Empty where the parts have no column `distance`.
        """
        found: Mapping[str, Any] = self.info.get("distance") or {}
        return found

    @property
    def features(self) -> int:
        """How many features of each tile the parts keep; 0 where they keep none."""
        return int(self.info.get("features", 0))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the parts' and over legend and grid."""
        return parts.digest(_head(self.legend, self.grid), self.records)

    @property
    def _schema(self) -> pa.Schema:
        return named.schema(
            self.legend.names, shares=self.has_shares, references=self.has_references,
            sets=self.threshold is not None, distance=bool(self.distance), features=self.features,
        )  # fmt: skip

    @property
    def _light(self) -> list[str]:
        """All columns but the outlines and the features."""
        return [n for n in self._schema.names if n not in ("geometry", named.FEATURES)]

    @cached_property
    def _expected(self) -> Mapping[str, geoparquet.Expected]:
        return {r.name: r.expected for r in self.records}

    def part(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """One part as a table; StorageError when it is not the one that was written."""
        table = geoparquet.read_part(
            parts.place(self.uri, name),
            columns,
            schema=self._schema,
            expected=self._expected[name],
        )
        known = {"label", *self.probability_columns, *self.share_columns}
        lacking = [c for c in table.column_names if c in known and table[c].null_count]
        if lacking:
            raise StorageError(
                f"{storage.redact(self.uri)}: {name} has tiles without {lacking[0]}; score again"
            )
        return table

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All scores as one table; memory grows with their number (about 100 bytes a tile)."""
        try:
            tables = [self.part(n, columns) for n in self.names]
        except StorageError as error:
            raise ScoresError(str(error)) from None
        if not tables:
            raise ScoresError(f"{storage.redact(self.uri)} holds no scores")
        return pa.concat_tables(tables)

    def to_parquet(self, uri: str) -> None:
        """Write all scores as one GeoParquet file, part after part.

        Raises:
            ScoresError: there are none. StorageError: it cannot be written.
        """
        if not self.names:
            raise ScoresError(f"{storage.redact(self.uri)} holds no scores")
        crs = self.grid.crs if self.grid else None
        with geoparquet.part_writer(uri, self.part(self.names[0]).schema, crs) as writer:
            for name in self.names:
                writer.write(self.part(name))

    def plot(self, title: str | None = None) -> Chart:
        """The main classes of the tiles on the ground, as a picture for notebooks.

        Raises:
            ScoresError: pictures without a place, or tiles too far apart for one picture.
        """
        return frames.plot(self, title)

    def explore(self, **options: Any) -> Any:
        """The tiles on a map in a browser, in the classes' colours: GeoPandas' `explore`.

        Args:
            options: of GeoPandas' `explore`, such as `tiles` for the map below.

        Raises:
            MissingExtraError: folium is not installed.
            ScoresError: pictures without a place, or more tiles than a browser shows.
        """
        return frames.explore(self, options)

    def to_pandas(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """A DataFrame, one row a tile; all columns but the outlines by default.

        Raises:
            MissingExtraError: pandas is not installed. ScoresError: as `table`.
        """
        frame: pd.DataFrame = frames.to_pandas(self.table(columns or self._light))
        return frame

    def to_geopandas(self, columns: Sequence[str] | None = None) -> gpd.GeoDataFrame:
        """A GeoDataFrame, one row a tile with its outline in the grid's CRS.

        Raises:
            MissingExtraError: GeoPandas is not installed. ScoresError: pictures without a place.
        """
        light = [c for c in columns or self._light if c != "geometry"]
        table = self.table([*light, "geometry"])
        frame: gpd.GeoDataFrame = frames.to_geopandas(table, self.grid, self.uri)
        return frame

    def to_xarray(self) -> xr.Dataset:
        """A Dataset of one cell a tile: rows run south (`y` falls), columns east.

        `label` and `truth` (y, x) int16 are class ids, -1 where there is none; `probability` and,
        where the scores have them, `share` (class, y, x) float32 are NaN where there is no tile.
        `x` and `y` are the tiles' centres, metres in the CRS that `spatial_ref` names as CF does.

        Raises:
            MissingExtraError: xarray is not installed. ScoresError: pictures without a place, a
                tile twice, tiles too far apart.
        """
        made: xr.Dataset = frames.to_xarray(self)
        return made

    @property
    def probability_columns(self) -> tuple[str, ...]:
        """The columns of probabilities, in the legend's order."""
        return tuple(named.probability(n) for n in self.legend.names)

    @property
    def share_columns(self) -> tuple[str, ...]:
        """The columns of shares, in the legend's order; empty where the scores have none."""
        return tuple(named.share(n) for n in self.legend.names if self.has_shares)

    @property
    def reference_columns(self) -> tuple[str, ...]:
        """The columns of the label source's shares, in order; empty where the scores have none."""
        return tuple(named.reference(n) for n in self.legend.names if self.has_references)

    def probabilities(self, table: pa.Table) -> NDArray[np.float32]:
        """The probability columns of a table of these scores, `(N, K) float32`."""
        return named.to_rows(table, self.probability_columns)

    def to_dict(self) -> dict[str, Any]:
        """What a script wants to know."""
        return {
            "uri": self.uri,
            "legend": self.legend.name,
            "grid": self.grid.to_dict() if self.grid else None,
            "tiles": self.tiles,
            "digest": self.digest,
            **self.info,
        }


def _head(legend: Legend, grid: Grid | None) -> list[Any]:
    """What is needed to read the bytes of the parts."""
    return [FORMAT, VERSION, *parts.meaning(grid, legend)]


def write_manifest(made: Scores) -> Scores:
    """Write `scores.json`, which makes the parts scores."""
    storage.write_json(
        storage.join(made.uri, MANIFEST),
        {
            "format": FORMAT,
            "version": VERSION,
            "legend": made.legend.to_dict(),
            "grid": made.grid.to_dict() if made.grid else None,
            "parts": [r.to_dict() for r in made.records],
            "digest": made.digest,
            "tiles": made.tiles,
            **made.info,
        },
    )
    return open_scores(made.uri)


def is_synthetic(info: Mapping[str, Any]) -> bool:
    """Whether any imagery behind scores says of itself that it is generated.

    Args:
        info: what `Scores.info` holds.
    """
    listed = (info.get("provenance") or {}).get("imagery") or ()
    return any(isinstance(i, Mapping) and bool(i.get("synthetic")) for i in listed)


def open_scores(uri: str) -> Scores:
    """Read `scores.json`; ScoresError when it is missing, damaged, foreign or unfinished."""
    uri = storage.normalise(uri)
    data = products.read_manifest("scores", uri, (VERSION,), by="quadrat score", error=ScoresError)
    known = {"format", "version", "legend", "grid", "parts", "digest", "tiles"}
    try:
        legend = legends.from_dict(data["legend"])
        grid = grids.from_dict(data["grid"]) if data["grid"] else None
        records = parts.parse(data, _head(legend, grid))
        info = {k: v for k, v in data.items() if k not in known}
        return Scores(uri, legend, grid, records, info)
    except (KeyError, TypeError, ValueError, AttributeError, GridError, LegendError) as error:
        raise ScoresError(
            f"the manifest of {storage.redact(uri)} is damaged ({error}); score again"
        ) from None
