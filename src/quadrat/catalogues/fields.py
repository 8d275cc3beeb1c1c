"""Values as STAC 1.1 and its extensions want them: places, times, classes, checksums."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from quadrat import dates, raster, storage
from quadrat.grid import Bounds
from quadrat.legend import LandClass

VERSION = "1.1.0"
_EXTENSIONS = "https://stac-extensions.github.io"
PROJECTION = f"{_EXTENSIONS}/projection/v2.0.0/schema.json"
CLASSIFICATION = f"{_EXTENSIONS}/classification/v2.0.0/schema.json"
FILE = f"{_EXTENSIONS}/file/v2.1.0/schema.json"
VERSIONED = f"{_EXTENSIONS}/version/v1.2.0/schema.json"
SCIENTIFIC = f"{_EXTENSIONS}/scientific/v1.0.0/schema.json"
MLM = f"{_EXTENSIONS}/mlm/v1.4.0/schema.json"

PARQUET = "application/vnd.apache.parquet"
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
TYPES = {
    ".json": "application/json", ".geojson": "application/geo+json", ".csv": "text/csv",
    ".md": "text/markdown", ".parquet": PARQUET, ".tif": COG, ".tiff": COG,
    ".onnx": "application/octet-stream", ".qml": "application/xml", ".xml": "application/xml",
}  # fmt: skip
STEPS = 8  # points along a side of an outline: straight on the grid is bent in longitude, latitude


def slug(name: str) -> str:
    """A name as an identifier: letters, digits, `.`, `_`, `-`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "product"


def outline(crs: str, bounds: Bounds) -> tuple[dict[str, Any], list[float]]:
    """The rectangle of ground as GeoJSON in longitude and latitude, and its box."""
    t = np.linspace(0, 1, STEPS + 1)[:-1]
    x = np.concatenate([t, np.ones(STEPS), 1 - t, np.zeros(STEPS)])
    y = np.concatenate([np.zeros(STEPS), t, np.ones(STEPS), 1 - t])
    lon, lat = raster.transform_points(
        crs, "EPSG:4326", bounds.left + x * (bounds.right - bounds.left),
        bounds.bottom + y * (bounds.top - bounds.bottom),
    )  # fmt: skip
    ring = np.stack([lon, lat], 1).round(7).tolist()
    box = [min(lon), min(lat), max(lon), max(lat)]
    shape = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    return shape, [round(float(v), 7) for v in box]


def projection(crs: str, bounds: Bounds) -> dict[str, Any]:
    """Fields of the projection extension."""
    box = [bounds.left, bounds.bottom, bounds.right, bounds.top]
    code = crs if re.fullmatch(r"[A-Z]+:\d+", crs) else None
    known: dict[str, Any] = {"proj:code": code}
    if code is None:
        known["proj:projjson"] = raster.projjson(crs)
    return {**known, "proj:bbox": box}


def when(text: str) -> dict[str, str | None] | None:
    """The times of a date, a year or a period; None when the text is none of these."""
    ends = dates.span(text)
    if ends is None:
        return None
    first, last = (f"{ends[0]}T00:00:00Z", f"{ends[1]}T23:59:59Z")
    if ends[0] == ends[1]:
        return {"datetime": first}
    return {"datetime": None, "start_datetime": first, "end_datetime": last}


def ends(properties: Mapping[str, Any]) -> tuple[str, str]:
    """First and last time of an item."""
    now = properties["datetime"]
    return properties.get("start_datetime") or now, properties.get("end_datetime") or now


def classes(listed: Mapping[int, LandClass]) -> list[dict[str, Any]]:
    """Values and their classes, for the classification extension; names are identifiers there."""
    return [
        {
            "value": value,
            "name": re.sub(r"[^A-Za-z0-9_-]+", "_", c.name) or f"class_{value}",
            "description": c.name,
            "color_hint": c.color.removeprefix("#").upper(),
        }
        for value, c in listed.items()
    ]


def citing(doi: str | None, citation: str | None) -> dict[str, str]:
    """Fields of the scientific extension; none where neither is given."""
    told = {"sci:doi": doi, "sci:citation": citation}
    return {key: value for key, value in told.items() if value}


def doi_link(doi: str | None) -> list[dict[str, str]]:
    """The link that the scientific extension wants beside a DOI."""
    return [{"rel": "cite-as", "href": f"https://doi.org/{doi}"}] if doi else []


def asset(
    uri: str,
    below: str,
    title: str,
    roles: Sequence[str],
    *,
    sha256: str = "",
    **more: Any,
) -> dict[str, Any]:
    """A file of a product.

    Args:
        below: the folder of the item's own file, from which a relative address leads to the file.
        sha256: of its content, where that is known.
    """
    kind = next((t for end, t in TYPES.items() if uri.lower().endswith(end)), None)
    checksum = {"file:checksum": f"1220{sha256}"} if sha256 else {}  # multihash of a SHA-256
    typed = {"type": kind} if kind else {}
    return {
        "href": href(uri, below),
        **typed,
        "title": title,
        "roles": [*roles],
        **checksum,
        **more,
    }


def href(uri: str, below: str) -> str:
    """The address of a file from a folder: relative where both are on one disk or in one store."""
    if storage.is_local(uri) and storage.is_local(below):
        file, folder = (storage.local_path(storage.normalise(u)) for u in (uri, below))
        if file.anchor == folder.anchor:
            return PurePath(os.path.relpath(file, folder)).as_posix()
        return file.as_uri()
    return storage.redact(uri)
