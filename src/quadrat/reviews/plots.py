"""The plots that are looked at: a sample's, or the candidates of a result of change.

It does not know interpreters, nor where pictures come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from quadrat import geoparquet, products, sampling, scores, storage, text
from quadrat import grid as grids
from quadrat.errors import InputError, QuadratError, ScoresError
from quadrat.grid import Grid
from quadrat.legend import LandClass, Legend

CANDIDATES = "candidates"  # the purpose of a list that was not drawn: it says nothing of all ground


@dataclass(frozen=True)
class Plot:
    """A tile to look at.

    Attributes:
        number: its name in the sample. tile: its tile id, as text.
        stratum: never shown to interpreters, as it tells what the map says.
        reserve: whether it only replaces a plot of its stratum that cannot be seen.
        lon, lat: its centre, degrees.
    """

    number: int
    tile: str
    row: int
    col: int
    stratum: str
    reserve: bool
    lon: float
    lat: float


@dataclass(frozen=True)
class PlotList:
    """What is reviewed.

    Attributes:
        purpose: `estimation`, `training`, or `candidates` of change.
        digest: of the list; answers belong to one.
        source: what it was drawn from: `kind` (`scores`, `change`), `uri`, `digest`.
    """

    uri: str
    purpose: str
    digest: str
    dates: tuple[str, ...]
    legend: Legend
    grid: Grid
    plots: tuple[Plot, ...]
    source: Mapping[str, Any]
    _places: dict[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        places = {p.number: i for i, p in enumerate(self.plots)}
        if len(places) < len(self.plots):
            raise InputError(
                f"{storage.redact(self.uri)} names a plot twice; draw the sample again"
            )
        object.__setattr__(self, "_places", places)

    def plot(self, number: int) -> Plot:
        """The plot of a number; InputError when there is none."""
        at = self._places.get(number)
        if at is None:
            raise InputError(
                f"plot {number} is not in {storage.redact(self.uri)}; check the sample"
            )
        return self.plots[at]

    @property
    def about(self) -> dict[str, Any]:
        """What a file of answers says of it."""
        return {
            "sample": self.digest,
            "purpose": self.purpose,
            "dates": list(self.dates),
            "classes": list(self.legend.names),
        }


def open_plots(uri: str) -> PlotList:
    """The plots of a folder that `quadrat sample` or `quadrat change` made.

    Raises:
        InputError: the folder holds neither, or is damaged.
    """
    uri = storage.normalise(uri)
    kinds = products.kinds_of(uri)
    if "change" in kinds:
        return _of_change(uri)
    if "sample" in kinds:
        return _of_sample(uri)
    raise InputError(
        f"{storage.redact(uri)} holds neither a sample nor a change; draw one with quadrat sample"
    )


def _of_sample(uri: str) -> PlotList:
    """The plots of a sample."""
    found = sampling.open_sample(uri)
    codes = [found.strata[i].code if i >= 0 else "" for i in found.stratum.tolist()]
    lon, lat = found.lonlat()
    columns = (
        found.plots.tolist(), found.tiles, found.rows.tolist(), found.cols.tolist(), codes,
        found.reserve.tolist(), lon.tolist(), lat.tolist(),
    )  # fmt: skip
    return PlotList(
        uri=uri, purpose=found.purpose, digest=found.digest, dates=found.dates,
        legend=found.legend, grid=found.grid,
        plots=tuple(Plot(*row) for row in zip(*columns, strict=True)), source=found.source,
    )  # fmt: skip


def _of_change(uri: str) -> PlotList:
    """The candidates of a change, by rank: no probability sample."""
    place, listed = storage.join(uri, "change.json"), storage.join(uri, "candidates.csv")
    said, data = storage.read_json(place), storage.read_bytes(listed)
    try:
        classes = [
            LandClass(str(n), str(c)) for n, c in zip(said["names"], said["colors"], strict=True)
        ]
        _, rows = text.read_table(data)
        plots = tuple(
            Plot(
                int(r["rank"] or ""), f"r{r['row']}_c{r['col']}", int(r["row"] or ""),
                int(r["col"] or ""), "", False, float(r["lon"] or ""), float(r["lat"] or ""),
            )
            for r in rows
        )  # fmt: skip
        return PlotList(
            uri=uri, purpose=CANDIDATES, digest=storage.digest_bytes(data),
            dates=tuple(str(d) for d in said["dates"]), legend=Legend("change", tuple(classes)),
            grid=grids.from_dict(said["grid"]), plots=plots,
            source={"kind": "change", "uri": uri},
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, QuadratError) as error:
        raise InputError(
            f"{storage.redact(place)} is damaged, or of an earlier Quadrat ({error}); run quadrat "
            "change again"
        ) from None


def mapped(listed: PlotList) -> dict[int, tuple[str, ...]]:
    """What the map says of each plot: plot number -> class names, one a date.

    Raises:
        ScoresError: the map is gone, or has other tiles.
    """
    uri, kind = str(listed.source.get("uri", "")), listed.source.get("kind")
    keys = grids.tile_keys(
        np.array([p.row for p in listed.plots]), np.array([p.col for p in listed.plots])
    )
    if kind == "scores":
        day = scores.read(uri)
        own = grids.tile_keys(day.rows, day.cols)
        names = [[day.legend.names[i] for i in day.mapped]]
    else:
        ends = ["class_1", f"class_{len(listed.dates)}"]
        kinds = {"row": pa.int32(), "col": pa.int32()} | dict.fromkeys(ends, pa.string())
        table = geoparquet.read_part(
            storage.join(uri, "transitions.parquet"), list(kinds), schema=pa.schema(kinds)
        )
        own = grids.tile_keys(table["row"].to_numpy(), table["col"].to_numpy())
        names = [table[c].to_pylist() for c in ends]
    at = grids.places_of(own, keys)
    if (at < 0).any():
        raise ScoresError(
            f"{storage.redact(uri)} lacks plots of {storage.redact(listed.uri)}; it was made anew "
            "since: leave --show-map out"
        )
    return {
        p.number: tuple(str(n[i]) for n in names) for p, i in zip(listed.plots, at, strict=True)
    }
