"""Tables with an outline a row, as GeoParquet 1.1 files. The only home of pyarrow.parquet.

It does not know what the columns mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import raster, storage
from quadrat.errors import StorageError

GEOMETRY = "geometry"


def wkb_array(records: NDArray[np.void]) -> pa.Array:
    """Fixed-size WKB records, shape (N,), as a binary column, without a copy per row."""
    size = records.dtype.itemsize
    offsets = np.arange(len(records) + 1, dtype=np.int64) * size
    if len(records) * size >= 2**31:
        raise StorageError("too many outlines for one part; make parts of fewer tiles")
    data = pa.py_buffer(np.ascontiguousarray(records).tobytes())
    return pa.Array.from_buffers(
        pa.binary(), len(records), [None, pa.py_buffer(offsets.astype(np.int32)), data]
    )


def _geo_metadata(crs: str | None, crs_json: Any, kinds: Sequence[str]) -> bytes:
    column: dict[str, Any] = {"encoding": "WKB", "geometry_types": list(kinds)}
    # GeoParquet's CRS is PROJJSON; without one it would mean longitude and latitude
    column["crs"] = crs_json if crs else None
    return json.dumps(
        {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: column}}
    ).encode()


def projjson(crs: str) -> Any:
    """The PROJJSON form of a CRS text, as GeoParquet wants it."""
    return raster.projjson(crs)


def _options(names: Sequence[str], compression: str) -> dict[str, Any]:
    words = ("source", "date", "label", "split", "truth")
    return {
        # encoded tiles do not get smaller by a second compression, which would only cost time
        "compression": {n: ("none" if n == "image" else compression) for n in names},
        "use_dictionary": [n for n in names if n in words] or False,
        "write_statistics": [n for n in names if n not in ("image", GEOMETRY)] or False,
    }


class PartWriter:
    """A part that is being written, table by table."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def write(self, table: pa.Table) -> None:
        """Append rows; each call makes at least one row group."""
        self._writer.write_table(table)

    def note(self, value: Any) -> None:
        """Keep plain values with the part, read back by `read_note`."""
        self._writer.add_key_value_metadata({"quadrat": json.dumps(value)})


@contextmanager
def part_writer(
    uri: str, schema: pa.Schema, crs: str | None, *, compression: str = "zstd"
) -> Iterator[PartWriter]:
    """Write one part in pieces; it appears under `uri`, whole, when the block ends well.

    It is GeoParquet when the schema has a `geometry` column.

    Args:
        crs: CRS of the outlines; None says "unknown" (pictures without a place).
    """
    import pyarrow.parquet as pq

    if GEOMETRY in schema.names:
        metadata = dict(schema.metadata or {})
        geo = _geo_metadata(crs, projjson(crs) if crs else None, ["Polygon"] if crs else [])
        schema = schema.with_metadata(metadata | {b"geo": geo})
    with storage.atomic_path(uri) as path:
        try:
            with pq.ParquetWriter(path, schema, **_options(schema.names, compression)) as writer:
                yield PartWriter(writer)
        except pa.ArrowException as error:
            raise StorageError(
                f"{storage.redact(uri)} could not be written: {_line(error)}"
            ) from None


def write_part(uri: str, table: pa.Table, crs: str | None, *, note: Any = None) -> None:
    """Write a table as one part in one step."""
    with part_writer(uri, table.schema, crs) as writer:
        writer.write(table)
        if note is not None:
            writer.note(note)


def read_note(uri: str) -> Any:
    """The plain values kept with a part, or None."""
    with _open(uri) as file:
        raw = (file.metadata.metadata or {}).get(b"quadrat")
    return None if raw is None else json.loads(raw)


def _open(uri: str) -> Any:
    import pyarrow.parquet as pq

    source = str(storage.local_path(uri)) if storage.is_local(uri) else storage.open_read(uri)
    try:
        return pq.ParquetFile(source, memory_map=False)
    except FileNotFoundError:
        raise StorageError(f"{storage.redact(uri)} does not exist; check the path") from None
    except (pa.ArrowException, OSError) as error:
        raise StorageError(
            f"{storage.redact(uri)} is not a whole Parquet file ({_line(error)}); "
            "remove it and run the command again that made it"
        ) from None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]


def columns(uri: str) -> list[str]:
    """Names of a part's columns."""
    with _open(uri) as file:
        return list(file.schema_arrow.names)


def count(uri: str) -> int:
    """Rows of a part, from its footer."""
    with _open(uri) as file:
        return int(file.metadata.num_rows)


def read_part(uri: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A part as a table; StorageError when it is not whole."""
    with _open(uri) as file:
        try:
            return file.read(columns=list(columns) if columns is not None else None)
        except (pa.ArrowException, OSError) as error:
            raise StorageError(
                f"{storage.redact(uri)} cannot be read ({_line(error)}); "
                "remove it and run the command again that made it"
            ) from None


def geo_crs(uri: str) -> str | None:
    """The CRS of a GeoParquet file as text for rasterio, or None when it names none."""
    with _open(uri) as file:
        raw = (file.schema_arrow.metadata or {}).get(b"geo")
    if raw is None:
        return None
    try:
        geo = json.loads(raw)
        column = geo["columns"][geo["primary_column"]]
    except (ValueError, KeyError, TypeError):
        raise StorageError(f"{storage.redact(uri)} has broken GeoParquet metadata") from None
    crs = column.get("crs", "OGC:CRS84")
    if isinstance(crs, dict):
        ident = crs.get("id")
        if isinstance(ident, dict) and "authority" in ident and "code" in ident:
            return f"{ident['authority']}:{ident['code']}"
        return json.dumps(crs)
    return None if crs is None else str(crs)


def iter_batches(
    uri: str, columns: Sequence[str] | None = None, batch_size: int = 256
) -> Iterator[pa.RecordBatch]:
    """A part in pieces of at most `batch_size` rows, one row group in memory at a time."""
    with _open(uri) as file:
        try:
            yield from file.iter_batches(
                batch_size=batch_size,
                columns=list(columns) if columns is not None else None,
                use_threads=False,
            )
        except (pa.ArrowException, OSError) as error:
            raise StorageError(
                f"{storage.redact(uri)} cannot be read ({_line(error)}); "
                "remove it and run the command again that made it"
            ) from None
