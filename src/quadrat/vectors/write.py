"""Layers of polygons written as GeoPackage, with styles for QGIS, or as KML."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import border, storage
from quadrat.errors import VectorError

# GeoPackages hold the time of writing; a fixed one makes the same layer the same bytes.
WRITTEN = "2000-01-01T00:00:00.000Z"
DRIVERS = {".gpkg": "GPKG", ".kml": "KML"}
# programs of many years read the first; GDAL's own default is newer
OPTIONS: Mapping[str, Mapping[str, str]] = {"GPKG": {"VERSION": "1.2"}, "KML": {}}

# the table that QGIS looks in for a layer's styles, as GDAL makes it
STYLES = """
CREATE TABLE layer_styles (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), f_table_schema TEXT(256),
  f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
  useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
  update_time DATETIME DEFAULT CURRENT_TIMESTAMP);
"""  # noqa: E501


@dataclass(frozen=True)
class StyledLayer:
    """A layer to write.

    Attributes:
        shapes: (N,) WKB polygons in `crs`.
        columns: name -> N values: whole numbers, numbers, yes and no, or texts; NaN and None are
            null.
        styles: name -> QML of QGIS; the first is the one that a program opens the layer with.
    """

    name: str
    crs: str
    shapes: NDArray[np.object_]
    columns: Mapping[str, Any]
    styles: Mapping[str, bytes] = field(default_factory=dict)


def write_layer(
    uri: str, layer: str, crs: str, shapes: NDArray[np.object_], columns: Mapping[str, Any]
) -> None:
    """Write a file of one layer in one step; see `StyledLayer` and `write_layers`."""
    write_layers(uri, [StyledLayer(layer, crs, shapes, columns)])


def write_layers(uri: str, layers: Sequence[StyledLayer]) -> None:
    """Write a file of layers in one step; it replaces what is there.

    Args:
        uri: its ending says the format: `.gpkg`, or `.kml` for one layer without styles.

    Raises:
        VectorError: it cannot be written.
    """
    suffix = next((s for s in DRIVERS if uri.lower().endswith(s)), None)
    if suffix is None:
        raise VectorError(f"{storage.redact(uri)} is neither .gpkg nor .kml; name it so")
    with storage.atomic_path(uri) as path, _at_one_time():
        path.unlink()  # GDAL opens a file that is there
        try:
            for layer in layers:
                _add(path, layer, DRIVERS[suffix], first=layer is layers[0])
            if any(layer.styles for layer in layers):
                _add_styles(path, layers)
        except Exception as error:  # noqa: BLE001 - GDAL's wrapper raises anything
            raise VectorError(
                f"{storage.redact(uri)} could not be written ({border.short(error)})"
            ) from None


@contextmanager
def _at_one_time() -> Iterator[None]:
    """GDAL writes the time that is given, and its warnings go nowhere."""
    import pyogrio

    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": WRITTEN})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})


def _add(path: Path, layer: StyledLayer, driver: str, *, first: bool) -> None:
    import pyogrio

    pyogrio.raw.write(
        str(path), layer.shapes, [_column(v) for v in layer.columns.values()],
        list(layer.columns), layer=layer.name, driver=driver, geometry_type="Polygon",
        crs=layer.crs, append=not first, dataset_options=dict(OPTIONS[driver]) if first else None,
    )  # fmt: skip


def _add_styles(path: Path, layers: Sequence[StyledLayer]) -> None:
    with closing(sqlite3.connect(path)) as base, base:
        base.executescript(STYLES)
        base.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, last_change) "
            "VALUES ('layer_styles', 'attributes', 'layer_styles', ?)",
            (WRITTEN,),
        )
        base.executemany(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, "
            "f_geometry_column, styleName, styleQML, styleSLD, useAsDefault, description, owner, "
            "update_time) VALUES ('', '', ?, 'geom', ?, ?, '', ?, ?, '', ?)",
            [
                (layer.name, name, style.decode(), i == 0, name, WRITTEN)
                for layer in layers
                for i, (name, style) in enumerate(layer.styles.items())
            ],
        )


def _column(values: Any) -> NDArray[Any]:
    """Values as pyogrio takes them."""
    if isinstance(values, np.ndarray):
        return values
    listed: Sequence[Any] = values
    return np.array(listed, dtype=object)
