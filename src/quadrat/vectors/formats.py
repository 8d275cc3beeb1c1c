"""Which vector formats are read, told by their first bytes. It opens no file.

The list is closed: what is in none of these formats never reaches GDAL, whose other drivers follow
what a file says to other files and to the network.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

HEAD = 1 << 16  # bytes that tell a format
ENDINGS = (
    ".gpkg", ".parquet", ".geoparquet", ".geojson", ".json", ".geojsonl", ".shp", ".fgb", ".kml",
    ".kmz", ".gml", ".gdb", ".zip",
)  # fmt: skip
READ = (
    "GeoPackage, GeoParquet, GeoJSON, FlatGeobuf, shapefile, file geodatabase, KML and GML, "
    "zipped or not"
)


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: for people. suffix: of the name that GDAL is given. drivers: GDAL's, of which one
            must have opened it.
        prefix: what makes GDAL try no other driver, where there is such a thing.
        siblings: endings of the files that belong to it. options: open options of GDAL.
    """

    name: str
    suffix: str
    drivers: tuple[str, ...] = ()
    prefix: str = ""
    siblings: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)


FORMATS = {
    "parquet": Format("GeoParquet", ".parquet"),
    "zip": Format("zip archive", ".zip"),
    "gpkg": Format("GeoPackage", ".gpkg", ("GPKG",)),
    "fgb": Format("FlatGeobuf", ".fgb", ("FlatGeobuf",)),
    "geojson": Format("GeoJSON", ".geojson", ("GeoJSON",), "GeoJSON:"),
    "geojsonl": Format("GeoJSON lines", ".geojsonl", ("GeoJSONSeq",), "GeoJSONSeq:"),
    "kml": Format("KML", ".kml", ("KML", "LIBKML")),
    "gml": Format(
        "GML", ".gml", ("GML",), options={"WRITE_GFS": "NO", "DOWNLOAD_SCHEMA": "NO"}
    ),  # by default GDAL writes a .gfs file beside
    "shp": Format(
        "shapefile", ".shp", ("ESRI Shapefile",), siblings=(".shx", ".dbf", ".prj", ".cpg")
    ),
    "gdb": Format("file geodatabase", ".gdb", ("OpenFileGDB",)),
}  # fmt: skip


def sniff(head: bytes) -> Format | None:
    """The format of a file that begins with `head` (`HEAD` bytes of it), or None."""
    for magic, name in (
        (b"PAR1", "parquet"), (b"PK\x03\x04", "zip"), (b"fgb\x03", "fgb"),
        (b"SQLite format 3\x00", "gpkg"),
    ):  # fmt: skip
        if head.startswith(magic):
            return FORMATS[name]
    if len(head) >= 100 and struct.unpack_from(">i", head)[0] == 9994:
        return FORMATS["shp"]
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"\x1e"):
        return FORMATS["geojsonl"]
    if text.startswith(b"{"):
        lines = re.match(rb'\{\s*"type"\s*:\s*"Feature"[^\n]*\}\s*\n\s*\{', text)
        return FORMATS["geojsonl" if lines else "geojson"]
    return _xml(text) if text.startswith(b"<") else None


def _xml(text: bytes) -> Format | None:
    """KML or GML by the root element; None for what names another driver of GDAL's or entities."""
    if re.search(rb"<OGR\w|<!ENTITY|WFS_Capabilities", text, re.IGNORECASE):
        return None
    bare = re.sub(rb"<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>\[]*>", b"", text, flags=re.DOTALL)
    root = re.match(rb"\s*<(?:[\w.-]+:)?(\w+)", bare)
    if root is None:
        return None
    if root[1] == b"kml":
        return FORMATS["kml"]
    return FORMATS["gml"] if b"opengis.net/gml" in text else None
