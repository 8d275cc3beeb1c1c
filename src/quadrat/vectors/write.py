"""Layers of polygons written as GeoPackage or KML."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import border, storage
from quadrat.errors import VectorError

# GeoPackages hold the time of writing; a fixed one makes the same layer the same bytes.
WRITTEN = "2000-01-01T00:00:00.000Z"
DRIVERS = {".gpkg": "GPKG", ".kml": "KML"}


def write_layer(
    uri: str, layer: str, crs: str, shapes: NDArray[np.object_], columns: Mapping[str, Any]
) -> None:
    """Write a file of one layer in one step; it replaces what is there.

    Args:
        uri: its ending says the format, `.gpkg` or `.kml`.
        shapes: (N,) WKB polygons in `crs`.
        columns: name -> N values: whole numbers, numbers, yes and no, or texts.

    Raises:
        VectorError: it cannot be written.
    """
    import pyogrio

    suffix = next((s for s in DRIVERS if uri.lower().endswith(s)), None)
    if suffix is None:
        raise VectorError(f"{storage.redact(uri)} is neither .gpkg nor .kml; name it so")
    fields = [_column(v) for v in columns.values()]
    with storage.atomic_path(uri) as path, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path.unlink()  # GDAL opens a file that is there
        before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": WRITTEN})
        try:
            pyogrio.raw.write(
                str(path), shapes, fields, list(columns), layer=layer, driver=DRIVERS[suffix],
                geometry_type="Polygon", crs=crs,
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001 - GDAL's wrapper raises anything
            raise VectorError(
                f"{storage.redact(uri)} could not be written ({border.short(error)})"
            ) from None
        finally:
            pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})


def _column(values: Any) -> NDArray[Any]:
    """Values as pyogrio takes them."""
    if isinstance(values, np.ndarray):
        return values
    listed: Sequence[Any] = values
    return np.array(listed, dtype=object)
