"""What is known of a fetched raster: item, acquisition date, resolution, licence, where it is from.

Each raster has its own record beside it, `<file>.quadrat.json`, written before the raster appears
under its name, so that a raster that is there has one. `fetch.json` in the output folder holds the
records of all of them, the place and what was missing. Light: tile sets read records through it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quadrat import storage
from quadrat.errors import StorageError
from quadrat.raster import RECORD as SUFFIX
from quadrat.records import Record

SUMMARY = "fetch.json"
OUTLINE = "outline.geojson"
FORMAT = 1


@dataclass(frozen=True)
class FileRecord(Record):
    """Where a raster comes from.

    Attributes:
        kind: "naip" or "nlcd".
        item: the service's own name of it.
        year: the year that it stands for.
        date: acquisition date YYYY-MM-DD; the year alone for NLCD, which is a map of a year.
        gsd: metres a pixel on the ground, as the service says.
        crs: its own projection; "" when the service does not say.
        source: the service or file that it came from, without any signature.
        href: the address of the file itself, without any signature; "" when it was cut out.
        licence: its terms, as the service states them.
        size: bytes of the file; None for a link.
        place: the name of the place that it was fetched for.
        link: SHA-256 of the text of a link; "" for a copy.
    """

    kind: str
    item: str
    year: int
    date: str
    gsd: float | None
    crs: str
    source: str
    href: str
    licence: str
    size: int | None
    place: str
    link: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they are written."""
        return {"quadrat": FORMAT, **super().to_dict()}


def sidecar(uri: str) -> str:
    """Where the record of a raster lies."""
    return uri + SUFFIX


def write_record(uri: str, record: FileRecord) -> None:
    """Write the record beside a raster, in one step."""
    storage.write_json(sidecar(uri), record.to_dict())


def read_record(uri: str) -> dict[str, Any] | None:
    """The record of a raster as plain values, or None when it has none.

    Looks beside the raster, then in the `fetch.json` of its folder and of the folder above (rasters
    that were moved without their records). Addresses of GDAL (`/vsi...`) and of the web have none.

    Raises:
        StorageError: a record that is there and is not whole.
    """
    if uri.startswith(("/vsi", "http://", "https://")):
        return None
    own = sidecar(uri)
    if storage.exists(own):
        record = storage.read_json(own)
        if not isinstance(record, dict):
            raise StorageError(f"{storage.redact(own)} is no record of a raster; remove it")
        return record
    name = storage.basename(uri)
    folder = storage.parent(uri)
    for above in (folder, storage.parent(folder)):
        summary = storage.join(above, SUMMARY)
        if storage.exists(summary):
            return _in_summary(storage.read_json(summary), name)
    return None


def _in_summary(summary: Any, name: str) -> dict[str, Any] | None:
    files = summary.get("files", {}) if isinstance(summary, dict) else {}
    for path, record in files.items() if isinstance(files, dict) else ():
        if str(path).rsplit("/", 1)[-1] == name and isinstance(record, dict):
            return record
    return None
