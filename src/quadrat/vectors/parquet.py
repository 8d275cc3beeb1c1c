"""Features of GeoParquet files: any column of geometry, as WKB or in GeoArrow's own encodings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import border, geoparquet
from quadrat.errors import StorageError, VectorError

LONLAT = "OGC:CRS84"
MOST_ROWS = 50_000_000
MOST_BYTES = 1 << 30  # of the columns that are read
MOST_CHUNK = 512 << 20  # bytes of a column of a row group
WKB = ("wkb", "geoarrow.wkb", "ogc.wkb")
WKT = ("wkt", "geoarrow.wkt", "ogc.wkt")
# GeoArrow's name -> shapely's, and how many lists are one in another
NESTED = {
    "point": ("POINT", 0), "linestring": ("LINESTRING", 1), "polygon": ("POLYGON", 2),
    "multipoint": ("MULTIPOINT", 1), "multilinestring": ("MULTILINESTRING", 2),
    "multipolygon": ("MULTIPOLYGON", 3),
}  # fmt: skip


@dataclass(frozen=True)
class _Geometry:
    """The main column of geometry; `all` names every one. `encoding` is in small letters."""

    column: str
    encoding: str
    crs: str
    all: tuple[str, ...]


def fields(path: str, name: str) -> list[str]:
    """Names of a file's columns that are no geometry."""
    schema = _schema(path, name)
    return [n for n in schema.names if n not in _geometry(schema, name).all]


def read(
    path: str, name: str, columns: Sequence[str]
) -> tuple[str, NDArray[np.object_], list[list[Any]]]:
    """CRS (text, "" for none), shapely geometries (N,), and values of the columns.

    Raises:
        VectorError: no geometry, an encoding that is unknown, damaged or too many bytes.
    """
    geometry = _geometry(_schema(path, name), name)
    table = _table(path, name, [*columns, geometry.column])
    shapes = _decode(table[geometry.column], geometry, name)
    return geometry.crs, shapes, [table[c].to_pylist() for c in columns]


def _schema(path: str, name: str) -> pa.Schema:
    try:
        schema = geoparquet.schema(path)
    except StorageError as error:
        raise VectorError(_reworded(error, path, name)) from None
    if len(set(schema.names)) < len(schema.names):
        raise VectorError(f"{name} has two columns of one name; write it again")
    return schema


def _table(path: str, name: str, columns: Sequence[str]) -> pa.Table:
    """The columns, read in pieces, so that a file of few bytes cannot ask for all memory."""
    try:
        if geoparquet.count(path) > MOST_ROWS:
            raise VectorError(f"{name} has more than {MOST_ROWS:,} rows; cut out what is needed")
        chunk = geoparquet.largest_chunk(path)
        if chunk > MOST_CHUNK:
            raise VectorError(f"{name} has row groups of {chunk:,} bytes; write smaller ones")
        batches, size = [], 0
        # a value that is kept once may be named in every row
        rows = min(4096, max(1, MOST_CHUNK // max(chunk, 1)))
        for batch in geoparquet.iter_batches(path, list(dict.fromkeys(columns)), rows):
            size += batch.nbytes
            if size > MOST_BYTES:
                raise VectorError(
                    f"{name} holds over {MOST_BYTES >> 20:,} MiB; cut out what is needed"
                )
            batches.append(batch)
        schema = geoparquet.schema(path)
    except StorageError as error:
        raise VectorError(_reworded(error, path, name)) from None
    kept = pa.schema([schema.field(c) for c in dict.fromkeys(columns)])
    return pa.Table.from_batches(batches, batches[0].schema if batches else kept)


def _reworded(error: StorageError, path: str, name: str) -> str:
    why = str(error).replace(path, name).split("; ", 1)[0]
    return f"{why}; write the GeoParquet file again"


def _geometry(schema: pa.Schema, name: str) -> _Geometry:
    """By GeoParquet's metadata, or by the columns' own Arrow extensions."""
    raw = (schema.metadata or {}).get(b"geo")
    if raw is None:
        return _by_extension(schema, name)
    try:
        geo = json.loads(raw)
        column, every = str(geo["primary_column"]), tuple(geo["columns"])
        about = geo["columns"][column]
        encoding, crs = str(about["encoding"]).lower(), about.get("crs", LONLAT)
        boxes = [one["covering"]["bbox"]["xmin"][0] for one in geo["columns"].values()
                 if "covering" in one]  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise VectorError(f"{name} has broken GeoParquet metadata; write it again") from None
    if column not in schema.names:
        raise VectorError(f"{name} lacks its column of geometry {column!r}; write it again")
    return _Geometry(column, encoding, crs_text(crs), (*every, *map(str, boxes)))


def _by_extension(schema: pa.Schema, name: str) -> _Geometry:
    columns = []
    for one in schema:
        about = one.metadata or {}
        kind = about.get(b"ARROW:extension:name", b"").decode("utf-8", "replace")
        said: Any = about.get(b"ARROW:extension:metadata", b"")
        if isinstance(one.type, pa.BaseExtensionType):
            kind = one.type.extension_name
            said = getattr(one.type, "__arrow_ext_serialize__", bytes)()
        if kind.startswith(("geoarrow.", "ogc.")):
            columns.append((one.name, kind, said))
    if len(columns) != 1:
        has = f"{len(columns)} columns" if columns else "no column"
        raise VectorError(f"{name} has {has} of geometry that it names; write it as GeoParquet")
    column, kind, said = columns[0]
    try:
        about = json.loads(said) if said else {}
        crs = about.get("crs") if isinstance(about, Mapping) else None
    except (ValueError, RecursionError):
        crs = None
    return _Geometry(column, kind.lower(), crs_text(crs), (column,))


def crs_text(crs: Any) -> str:
    """Text for rasterio of a CRS as PROJJSON or text; "" for none."""
    if not isinstance(crs, Mapping):
        return "" if crs is None else str(crs)
    ident = crs.get("id")
    if isinstance(ident, Mapping) and "authority" in ident and "code" in ident:
        return f"{ident['authority']}:{ident['code']}"
    return json.dumps(crs)


def _decode(column: pa.ChunkedArray, geometry: _Geometry, name: str) -> NDArray[np.object_]:
    import shapely

    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    kind = geometry.encoding
    if kind in WKB:
        return from_wkb(name, array.to_numpy(zero_copy_only=False))
    try:
        if kind in WKT:
            return np.asarray(shapely.from_wkt(array.to_numpy(zero_copy_only=False)))
        if kind.removeprefix("geoarrow.") in NESTED:
            return _nested(array, *NESTED[kind.removeprefix("geoarrow.")])
    except (
        shapely.errors.ShapelyError,
        pa.ArrowException,
        ValueError,
        TypeError,
        KeyError,
    ) as error:
        raise VectorError(
            f"{name} holds broken geometry ({border.short(error)}); write it again"
        ) from None
    raise VectorError(f"{name} has geometry in the encoding {kind!r}; write it with encoding WKB")


def _nested(array: pa.Array, kind: str, depth: int) -> NDArray[np.object_]:
    """Geometries of lists in lists of coordinates; None where a list is null."""
    import shapely

    known = ~np.asarray(array.is_null())
    inner = array.drop_null()
    offsets: list[NDArray[np.int64]] = []
    for _ in range(depth):
        at = inner.offsets.to_numpy().astype(np.int64)
        offsets.append(at - at[0])
        inner = inner.flatten()
    if pa.types.is_struct(inner.type):
        names = [inner.type.field(i).name for i in range(inner.type.num_fields)]
        parts = dict(zip(names, inner.flatten(), strict=True))
        points = np.stack([parts[k].to_numpy(zero_copy_only=False) for k in ("x", "y")], axis=1)
    else:
        points = inner.flatten().to_numpy(zero_copy_only=False).reshape(len(inner), -1)[:, :2]
    if any(
        len(a) and a[-1] > size for a, size in zip(offsets, _sizes(offsets, points), strict=True)
    ):
        raise ValueError("offsets beyond the coordinates")
    result = np.full(len(known), None, object)
    name = getattr(shapely.GeometryType, kind)
    result[known] = shapely.from_ragged_array(
        name, np.ascontiguousarray(points, np.float64), tuple(reversed(offsets)) or None
    )
    return result


def _sizes(offsets: Sequence[NDArray[np.int64]], points: NDArray[Any]) -> list[int]:
    """Number of members that each level of lists points into."""
    return [*(len(a) - 1 for a in offsets[1:]), len(points)][: len(offsets)]


def from_wkb(name: str, records: NDArray[np.object_]) -> NDArray[np.object_]:
    """Shapely geometries of two dimensions; VectorError where one is damaged or has no lines."""
    import shapely

    try:
        return np.asarray(shapely.force_2d(shapely.from_wkb(records)), dtype=object)
    except (shapely.errors.ShapelyError, TypeError, NotImplementedError) as error:
        raise VectorError(
            f"{name} holds geometry that is broken or of a kind without outlines "
            f"({border.short(error)}); save it as polygons"
        ) from None
