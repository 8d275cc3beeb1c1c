"""A sample on disk: `sample.gpkg` and `sample.csv` for people, `sample.json` for what it is.

`frame.parquet` has every tile that could be drawn, with its stratum: the ground a sample is of.

The tables hold nothing that the map says: strata stand in them by code, so that whoever interprets
the plots in QGIS is as blind as on the review page. `sample.json`, written last, says what the
strata are, how they were drawn and from what.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import choices, geoparquet, products, raster, storage, text, vectors
from quadrat import grid as grids
from quadrat.errors import InputError, QuadratError, StorageError
from quadrat.grid import Grid
from quadrat.legend import LandClass, Legend
from quadrat.records import Record
from quadrat.shown import shown

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

FORMAT = products.PRODUCTS["sample"].format
VERSION = 1
MANIFEST, TABLE, PACKAGE, LAYER = "sample.json", "sample.csv", "sample.gpkg", "plots"
FRAME = "frame.parquet"
FRAME_SCHEMA = pa.schema({"row": pa.int32(), "col": pa.int32(), "stratum": pa.int32()})
ESTIMATION, TRAINING = choices.PURPOSES
LONLAT = "EPSG:4326"
COLUMNS = (
    "plot", "tile", "row", "col", "stratum", "stratum_size", "stratum_sample", "probability",
    "reserve", "lon", "lat",
)  # fmt: skip


@dataclass(frozen=True)
class SampleStratum(Record):
    """A stratum of a sample.

    Attributes:
        code: what the plots' table calls it, which tells nothing of the map.
        name: what it is; interpreters do not see it. rule: how tiles came into it.
        tiles: of the frame. plots, reserve: that were drawn.
    """

    code: str
    name: str
    rule: str
    tiles: int
    plots: int
    reserve: int = 0


@shown
@dataclass(frozen=True)
class PlotSample:
    """Plots to interpret, in the order of drawing, those in reserve last.

    Attributes:
        purpose: `estimation` or `training`; plots of one are never used for the other.
        design: how they were drawn, one of `choices.DESIGNS`; "" for plots to train with.
        dates: that the plots are to be interpreted on.
        strata: see `SampleStratum`; empty for plots to train with.
        rows, cols: (n,) tile ids. stratum: (n,) places in `strata`, -1 where there are none.
        probability: (n,) inclusion probability, NaN where it is not known.
        reserve: (n,) plots that stand in for ones that cannot be observed.
        source: what it was drawn from: `kind` (`scores`, `change`), `uri`, `digest`.
        info: everything else of `sample.json`: allocation, what it assumes.
    """

    uri: str
    purpose: str
    design: str
    seed: int
    grid: Grid
    legend: Legend
    dates: tuple[str, ...]
    strata: tuple[SampleStratum, ...]
    rows: Ints
    cols: Ints
    stratum: Ints
    probability: Floats
    reserve: Flags
    source: Mapping[str, Any] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def plots(self) -> Ints:
        """The plots' numbers, from 1, (n,)."""
        return np.arange(1, len(self) + 1, dtype=np.int64)

    @property
    def tiles(self) -> tuple[str, ...]:
        """The plots' tile ids as text."""
        pairs = zip(self.rows.tolist(), self.cols.tolist(), strict=True)
        return tuple(tile_name(r, c) for r, c in pairs)

    @property
    def digest(self) -> str:
        """SHA-256 of `sample.csv`, which answers are to; "" before it is written."""
        return str(self.info.get("sha256", ""))

    def lonlat(self) -> tuple[Floats, Floats]:
        """Longitude and latitude of the plots' centres, degrees, seven digits, (n,) each."""
        x, y = self.grid.centres(self.rows, self.cols)
        lon, lat = raster.transform_points(self.grid.crs, LONLAT, x, y) if len(x) else (x, y)
        return lon.round(7), lat.round(7)

    def columns(self) -> dict[str, Any]:
        """The plots' table: `COLUMNS`, n values each."""
        codes = [s.code for s in self.strata]
        size, drawn = ([getattr(s, n) for s in self.strata] for n in ("tiles", "plots"))
        lon, lat = self.lonlat()
        at = self.stratum.tolist()
        return {
            "plot": self.plots, "tile": list(self.tiles), "row": self.rows, "col": self.cols,
            "stratum": [codes[i] if i >= 0 else "" for i in at],
            "stratum_size": np.array([size[i] if i >= 0 else 0 for i in at], np.int64),
            "stratum_sample": np.array([drawn[i] if i >= 0 else 0 for i in at], np.int64),
            "probability": self.probability, "reserve": self.reserve, "lon": lon, "lat": lat,
        }  # fmt: skip

    def outlines(self) -> NDArray[np.object_]:
        """The plots' outlines in longitude and latitude, (n,) WKB polygons."""
        import shapely

        m, n = self.grid.tile_m, len(self)
        # counter-clockwise from the south-west corner, closed
        x = (self.cols[:, None] + np.array([0, 1, 1, 0, 0])) * m
        y = -(self.rows[:, None] + np.array([1, 1, 0, 0, 1])) * m
        lon, lat = raster.transform_points(self.grid.crs, LONLAT, x, y) if n else (x, y)
        rings = shapely.linearrings(np.stack([lon, lat], -1).round(7))
        return np.asarray(shapely.to_wkb(shapely.polygons(rings)), dtype=object)

    def to_dict(self) -> dict[str, Any]:
        """What `sample.json` says, with the folder."""
        return {"uri": storage.redact(self.uri), **_manifest(self)}


def tile_name(row: int, col: int) -> str:
    """A tile id as text, as pictures' names have it."""
    return f"r{row}_c{col}"


def _manifest(sample: PlotSample) -> dict[str, Any]:
    return {
        "format": FORMAT, "version": VERSION, "purpose": sample.purpose, "design": sample.design,
        "seed": sample.seed, "plots": int((~sample.reserve).sum()),
        "reserve": int(sample.reserve.sum()), "dates": list(sample.dates),
        "grid": sample.grid.to_dict(),
        "legend": [{"name": c.name, "color": c.color} for c in sample.legend.classes],
        "strata": [s.to_dict() for s in sample.strata], "source": dict(sample.source),
        **sample.info,
    }  # fmt: skip


@dataclass(frozen=True)
class SampledGround:
    """The tiles that a sample was drawn from, in the order of rows and columns.

    Attributes:
        rows, cols: (N,) tile ids. stratum: (N,) places in the sample's strata.
    """

    rows: Ints
    cols: Ints
    stratum: Ints


def write(
    sample: PlotSample, ground: SampledGround | None = None, overwrite: bool = False
) -> PlotSample:
    """Write a sample's folder; `sample.json` last.

    Args:
        ground: what it was drawn from; None for plots to train with.

    Raises:
        InputError: the folder holds another sample and no `overwrite`, or other files, or answers
            for the sample that would be replaced.
    """
    name = storage.redact(sample.uri)
    with products.hold("sample", sample.uri):
        there = storage.list_names(sample.uri)
        if MANIFEST in there and not overwrite:
            raise InputError(
                f"{name} holds a sample; choose another --out, or --overwrite to draw it anew"
            )
        if any(n.startswith("review") for n in there):
            raise InputError(
                f"{name} holds answers to its sample, which is never replaced then; choose another "
                "--out"
            )
        storage.remove(storage.join(sample.uri, MANIFEST))
        columns = sample.columns()
        table = io.StringIO()
        text.write_table(table, COLUMNS, zip(*map(_plain, columns.values()), strict=True))
        data = table.getvalue().encode()
        storage.write_bytes(storage.join(sample.uri, TABLE), data)
        package = storage.join(sample.uri, PACKAGE)
        vectors.write_layer(package, LAYER, LONLAT, sample.outlines(), columns)
        info = {**sample.info, "sha256": storage.digest_bytes(data)}
        if ground is not None:
            columns = {"row": ground.rows, "col": ground.cols, "stratum": ground.stratum}
            listed = pa.table(columns).cast(FRAME_SCHEMA)
            made = geoparquet.write_part(storage.join(sample.uri, FRAME), listed, None)
            info["frame"] = {"tiles": made.rows, "sha256": made.sha256}
        whole = PlotSample(**{**vars(sample), "info": info})
        storage.write_json(storage.join(sample.uri, MANIFEST), _manifest(whole))
    return whole


def _plain(column: Any) -> Sequence[Any]:
    """A column as CSV has it: whole numbers, yes and no as 1 and 0, nothing for NaN."""
    values = column.tolist() if hasattr(column, "tolist") else column
    return [int(v) if isinstance(v, bool) else "" if v != v else v for v in values]


def open_sample(uri: str) -> PlotSample:
    """Read a sample that is finished.

    Raises:
        InputError: there is none, it is damaged, or its table is not the one that was drawn.
    """
    uri = storage.normalise(uri)
    data = products.read_manifest("sample", uri, (VERSION,), by="quadrat sample", error=InputError)
    name = storage.redact(uri)
    try:
        raw = storage.read_bytes(storage.join(uri, TABLE))
    except StorageError as error:
        raise InputError(f"{name} lacks its table ({error}); draw the sample again") from None
    if storage.digest_bytes(raw) != data.get("sha256"):
        raise InputError(
            f"{name}/{TABLE} is not the table that was drawn; take it from where the sample was "
            "copied from, or draw the sample again"
        )
    try:
        return _read(uri, data, raw)
    except (KeyError, TypeError, ValueError, AttributeError, QuadratError) as error:
        raise InputError(f"the sample in {name} is damaged ({error}); draw it again") from None


def read_ground(sample: PlotSample) -> SampledGround:
    """The tiles that a sample was drawn from; InputError when they are not those."""
    try:
        about = sample.info["frame"]
        expected = geoparquet.Expected(int(about["tiles"]), str(about["sha256"]))
        table = geoparquet.read_part(
            storage.join(sample.uri, FRAME), schema=FRAME_SCHEMA, expected=expected
        )
    except (KeyError, TypeError, ValueError, StorageError) as error:
        raise InputError(
            f"{storage.redact(sample.uri)} lacks the tiles that it was drawn from ({error}); draw "
            "the sample again, or copy its whole folder"
        ) from None
    return SampledGround(*(table[c].to_numpy().astype(np.int64) for c in ("row", "col", "stratum")))


def _read(uri: str, data: Mapping[str, Any], raw: bytes) -> PlotSample:
    strata = tuple(SampleStratum(**s) for s in data["strata"])
    place = {s.code: i for i, s in enumerate(strata)}
    _, rows = text.read_table(raw)

    def numbers(column: str, kind: type) -> Any:
        return np.array([kind(r[column] or "nan") for r in rows], kind)

    known = {
        "format", "version", "purpose", "design", "seed", "plots", "reserve", "dates", "grid",
        "legend", "strata", "source",
    }  # fmt: skip
    classes = tuple(LandClass(str(c["name"]), str(c["color"])) for c in data["legend"])
    if data["purpose"] not in choices.PURPOSES:
        raise ValueError(f"purpose {data['purpose']!r}")
    return PlotSample(
        uri=uri, purpose=data["purpose"], design=str(data["design"]), seed=int(data["seed"]),
        grid=grids.from_dict(data["grid"]), legend=Legend("sample", classes),
        dates=tuple(str(d) for d in data["dates"]), strata=strata,
        rows=numbers("row", int).astype(np.int64), cols=numbers("col", int).astype(np.int64),
        stratum=np.array([place[r["stratum"]] if r["stratum"] else -1 for r in rows], np.int64),
        probability=numbers("probability", float).astype(np.float64),
        reserve=numbers("reserve", int).astype(bool), source=dict(data["source"]),
        info={k: v for k, v in data.items() if k not in known},
    )  # fmt: skip
