"""Scores in the tables of others: pandas, GeoPandas, xarray. The only home of the last two."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import charts, storage
from quadrat import grid as grids
from quadrat.errors import MissingExtraError, ScoresError
from quadrat.grid import Grid
from quadrat.scores import columns as named
from quadrat.shown import Chart

if TYPE_CHECKING:
    from quadrat.scores.files import Scores

Ints = NDArray[np.int64]
MOST_PIXELS = 50_000_000  # of a picture
MOST_SHOWN = 20_000  # tiles on a map in a browser
MOST_VALUES = 500_000_000  # of an array of probabilities: 2 GB


def to_pandas(table: pa.Table) -> Any:
    """A table of scores as a DataFrame, one row a tile; MissingExtraError without pandas."""
    _need("pandas")
    return table.to_pandas()


def to_geopandas(table: pa.Table, grid: Grid | None, uri: str) -> Any:
    """A table of scores as a GeoDataFrame, with outlines in the grid's CRS.

    Raises:
        ScoresError: the tiles have no place. MissingExtraError: GeoPandas is not installed.
    """
    geopandas = _need("geopandas")
    if grid is None:
        raise ScoresError(f"{storage.redact(uri)} scores pictures without a place; use to_pandas()")
    import shapely

    outlines = shapely.from_wkb(table["geometry"].to_numpy(zero_copy_only=False))
    frame = table.drop_columns(["geometry"]).to_pandas()
    return geopandas.GeoDataFrame(frame, geometry=outlines, crs=grid.crs)


def to_xarray(scores: Scores) -> Any:
    """Scores as a Dataset of one cell a tile; see `Scores.to_xarray`."""
    xarray = _need("xarray")
    name, grid = storage.redact(scores.uri), scores.grid
    if grid is None:
        raise ScoresError(f"{name} scores pictures without a place; use to_pandas()")
    wide = {"probability": scores.probability_columns, "share": scores.share_columns}
    table = scores.table(["row", "col", "label", "truth", *sum(wide.values(), ())])
    rows, cols = (table[c].to_numpy().astype(np.int64) for c in ("row", "col"))
    if not len(rows) or len(np.unique(grids.tile_keys(rows, cols))) < len(rows):
        raise ScoresError(f"{name} has no tile, or one twice; use to_pandas()")
    r0, c0 = int(rows.min()), int(cols.min())
    shape = int(rows.max()) - r0 + 1, int(cols.max()) - c0 + 1
    if shape[0] * shape[1] * len(scores.legend) > MOST_VALUES:
        raise ScoresError(
            f"{name}: tiles lie {shape[0]:,} rows and {shape[1]:,} columns apart, too far for one "
            "array; use to_pandas()"
        )

    def placed(values: NDArray[Any], empty: float) -> NDArray[Any]:
        out = np.full((*values.shape[1:], *shape), empty, values.dtype)
        out[..., rows - r0, cols - c0] = values.T
        return out

    ids = {c: named.class_ids(table[c], scores.legend, name) for c in ("label", "truth")}
    cells: dict[str, Any] = {
        c: (("y", "x"), placed(v.astype(np.int16), -1)) for c, v in ids.items()
    }
    for what, columns in wide.items():
        if columns:
            values = placed(named.to_rows(table, columns), np.nan)
            cells[what] = (("class", "y", "x"), values)
    m = grid.tile_m
    georeference = {"crs_wkt": grid.crs, "GeoTransform": f"{c0 * m} {m} 0 {-r0 * m} 0 {-m}"}
    return xarray.Dataset(
        cells,
        coords={
            "class": list(scores.legend.names),
            "y": -(np.arange(shape[0]) + r0 + 0.5) * m,
            "x": (np.arange(shape[1]) + c0 + 0.5) * m,
            "spatial_ref": ((), 0, georeference),
        },
        attrs={"crs": grid.crs, "legend": scores.legend.name},
    )


def plot(scores: Scores, title: str | None) -> Chart:
    """The main classes on the ground; see `Scores.plot`."""
    rows, cols, ids = _places(scores)
    area = (int(np.ptp(rows)) + 1) * (int(np.ptp(cols)) + 1)
    if area > MOST_PIXELS:
        raise ScoresError(
            f"{storage.redact(scores.uri)}: tiles lie too far apart for one picture; use map()"
        )
    dates = " ".join(str(d) for d in scores.info.get("dates") or ())
    named = title or f"Main class of {len(rows):,} tiles {dates}".strip()
    return Chart(charts.tiles(rows, cols, ids, scores.legend, named))


def explore(scores: Scores, options: dict[str, Any]) -> Any:
    """The tiles on folium's map; see `Scores.explore`."""
    _need("folium", "a map to explore", "explore")
    _need("mapclassify", "a map to explore", "explore")
    if scores.tiles > MOST_SHOWN:
        raise ScoresError(
            f"{scores.tiles:,} tiles are more than a browser shows ({MOST_SHOWN:,}); use map() "
            "with gpkg, or explore a part of to_geopandas()"
        )
    light = ["row", "col", "label", *scores.probability_columns, *scores.share_columns]
    frame = to_geopandas(scores.table([*light, "geometry"]), scores.grid, scores.uri)
    used = set(frame["label"])
    there = [c for c in scores.legend.classes if c.name in used]
    looks = {
        "column": "label", "categorical": True, "categories": [c.name for c in there],
        "cmap": [c.color for c in there], "style_kwds": {"weight": 0.3, "fillOpacity": 0.6},
    }  # fmt: skip
    return frame.explore(**(looks | options))


def _places(scores: Scores) -> tuple[Ints, Ints, Ints]:
    name = storage.redact(scores.uri)
    if scores.grid is None:
        raise ScoresError(f"{name} scores pictures without a place; use to_pandas()")
    table = scores.table(["row", "col", "label"])
    rows, cols = (table[c].to_numpy().astype(np.int64) for c in ("row", "col"))
    return rows, cols, named.class_ids(table["label"], scores.legend, name)


def _need(package: str, what: str = "", extra: str = "frames") -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise MissingExtraError(what or f"a table of {package}", extra) from None
