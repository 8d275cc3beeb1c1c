"""Tables with an outline a row, as GeoParquet 1.0 files. The only home of pyarrow.parquet.

It does not know what the columns mean.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import border, raster, storage
from quadrat.errors import StorageError

GEOMETRY = "geometry"
PACKED = ("image", "features")
# columns may take FREE_BYTES, and beyond it MAX_GROWTH times their file: Parquet packs equal values
ROW_BYTES, FREE_BYTES, MAX_GROWTH = 8, 256 << 20, 256
HELD = 16 << 20  # bytes of a file that is hashed and parsed in memory; a larger one stays on disk


@dataclass(frozen=True)
class Expected:
    """What a file must be: as many rows, and these bytes."""

    rows: int
    sha256: str


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
    # nothing of version 1.1 is used, and programs of before it read these files too
    return json.dumps(
        {"version": "1.0.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: column}}
    ).encode()


def _options(names: Sequence[str], compression: str) -> dict[str, Any]:
    words = ("source", "date", "label", "split", "truth")
    return {
        # encoded tiles and features do not get smaller by compression, which would only cost time
        "compression": {n: ("none" if n in PACKED else compression) for n in names},
        "use_dictionary": [n for n in names if n in words] or False,
        "write_statistics": [n for n in names if n not in (*PACKED, GEOMETRY)] or False,
    }


class _Hashed:
    """A file to write to that knows the SHA-256 of what was written; Parquet never goes back."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._total = hashlib.sha256()
        self.closed = False

    def write(self, data: Any) -> int:
        self._total.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        self.closed = True

    def hexdigest(self) -> str:
        return self._total.hexdigest()


class PartWriter:
    """A part that is being written, table by table.

    Attributes:
        rows: written so far.
        sha256: of the finished file; "" before the block of `part_writer` has ended.
    """

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self.rows, self.sha256 = 0, ""

    def write(self, table: pa.Table) -> None:
        """Append rows; each call makes at least one row group."""
        self._writer.write_table(table)
        self.rows += len(table)

    @property
    def written(self) -> Expected:
        """What a reader of the finished file is to find."""
        return Expected(self.rows, self.sha256)

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
        geo = _geo_metadata(crs, raster.projjson(crs) if crs else None, ["Polygon"] if crs else [])
        schema = schema.with_metadata(metadata | {b"geo": geo})
    with storage.atomic_path(uri) as path:
        sink = _Hashed(path)
        try:
            with pq.ParquetWriter(sink, schema, **_options(schema.names, compression)) as writer:
                part = PartWriter(writer)
                yield part
        except pa.ArrowException as error:
            raise StorageError(
                f"{storage.redact(uri)} could not be written: {border.short(error)}"
            ) from None
        finally:
            sink.close()
        part.sha256 = sink.hexdigest()


def write_part(uri: str, table: pa.Table, crs: str | None, *, note: Any = None) -> Expected:
    """Write a table as one part in one step; its rows and SHA-256."""
    with part_writer(uri, table.schema, crs) as writer:
        writer.write(table)
        if note is not None:
            writer.note(note)
    return writer.written


def read_note(uri: str, keys: Sequence[str] = ()) -> dict[str, Any] | None:
    """The plain values kept with a part, or None; StorageError when they lack one of `keys`."""
    with _open(uri) as file:
        note = _note(file)
    if note is not None and not (isinstance(note, dict) and set(keys) <= set(note)):
        raise StorageError(f"{storage.redact(uri)} is no part of this Quadrat; {_AGAIN}")
    return note


_AGAIN = "remove it and run the command again that made it"


def _note(file: Any) -> Any:
    raw = (file.metadata.metadata or {}).get(b"quadrat")
    try:
        return None if raw is None else json.loads(raw)
    except (ValueError, RecursionError):
        return None


def inspect(uri: str) -> tuple[Expected, Any]:
    """Rows and SHA-256 of a file as it is, computed from all of its bytes, and its note."""
    with _readable(uri), _whole(uri) as (source, sha256), _parquet(source) as file:
        return Expected(int(file.metadata.num_rows), sha256), _note(file)


@contextmanager
def _open(uri: str, expected: Expected | None = None) -> Iterator[Any]:
    """The open file; with `expected`, all of its bytes are hashed before any is parsed.

    Raises:
        StorageError: what cannot be read, also later in the block.
    """
    with _readable(uri):
        if expected is None:
            source: Any
            if storage.is_local(uri):
                storage.size(uri)  # a pipe has none
                source = str(storage.local_path(uri))
            else:
                source = storage.open_read(uri)
            with _parquet(source) as file:
                yield file
            return
        with _whole(uri) as (source, sha256):
            if sha256 != expected.sha256:
                raise _changed(uri)
            with _parquet(source) as file:
                _check_rows(uri, file, expected.rows)
                yield file


@contextmanager
def _readable(uri: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, RecursionError, UnicodeError, OverflowError) as error:
        raise StorageError(
            f"{storage.redact(uri)} is not a whole Parquet file ({border.short(error)}); {_AGAIN}"
        ) from None


def _check_rows(uri: str, file: Any, rows: int | None) -> None:
    if rows is not None and file.metadata.num_rows != rows:
        raise _changed(uri)


def _changed(uri: str) -> StorageError:
    return StorageError(
        f"{storage.redact(uri)} is not the part that was written there: its rows or its SHA-256 "
        "are other ones; run the command again that made it"
    )


@contextmanager
def _whole(uri: str) -> Iterator[tuple[Any, str]]:
    """A file to parse, and the SHA-256 of all of it: read once, and the same bytes for both."""
    import shutil
    import tempfile

    if storage.size(uri) <= HELD:
        data = storage.read_bytes(uri)
        yield pa.BufferReader(data), storage.digest_bytes(data)
        return
    with storage.open_read(uri) as file:
        if storage.is_local(uri):
            yield file, _rewound(file)
            return
        with tempfile.TemporaryFile() as copy:  # a second download would cost more than the disk
            shutil.copyfileobj(file, copy, 1 << 20)
            copy.seek(0)
            yield copy, _rewound(copy)


def _rewound(file: Any) -> str:
    total = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    return total


def _parquet(source: Any) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetFile(source, memory_map=False)


def schema(uri: str) -> pa.Schema:
    """A file's columns and metadata."""
    with _open(uri) as file:
        return file.schema_arrow


def columns(uri: str) -> list[str]:
    """Names of a part's columns."""
    return list(schema(uri).names)


def count(uri: str) -> int:
    """Rows of a part, from its footer."""
    with _open(uri) as file:
        return int(file.metadata.num_rows)


def largest_chunk(uri: str) -> int:
    """Bytes of the largest column of a row group when decompressed; a value is at most as large."""
    with _open(uri) as file:
        about = file.metadata
        groups = (about.row_group(i) for i in range(about.num_row_groups))
        sizes = (g.column(j).total_uncompressed_size for g in groups for j in range(g.num_columns))
        return max(sizes, default=0)


def read_part(
    uri: str,
    columns: Sequence[str] | None = None,
    *,
    schema: pa.Schema | None = None,
    expected: Expected | None = None,
    rows: int | None = None,
) -> pa.Table:
    """A part as a table.

    Args:
        columns: those to read; all by default.
        schema: types of columns (see `checked`); those that it does not name stay as they are.
        expected: what the whole file must be; all of its bytes are read.
        rows: how many rows it must have, where only some columns are read.

    Raises:
        StorageError: not whole, a column that is missing, of another type or there twice, more
            rows or bytes than a file of its size holds.
    """
    with _open(uri, expected) as file:
        _check_rows(uri, file, rows)
        names = _chosen(file, columns, uri)
        _check_size(file, names, uri, whole=True)
        return checked(file.read(columns=names), schema, uri)


def _chosen(file: Any, columns: Sequence[str] | None, uri: str) -> list[str]:
    """Names of the columns to read, each of which is there once."""
    have = list(file.schema_arrow.names)
    names = have if columns is None else list(columns)
    for name in names:
        if have.count(name) != 1:
            what = "lacks the column" if name not in have else "has twice the column"
            raise StorageError(f"{storage.redact(uri)} {what} {name}; it is no Quadrat part")
    return names


def checked(table: Any, schema: pa.Schema | None, uri: str) -> Any:
    """A table or batch whose columns have the types of `schema`, cast where no value changes.

    Raises:
        StorageError: a column of another type, or with a value that the type does not hold.
    """
    for at, field in enumerate(table.schema):
        if schema is None or field.name not in schema.names:
            continue
        kind = schema.field(field.name).type
        if field.type == kind:
            continue
        try:
            values = table.column(at).cast(kind)
        except pa.ArrowException as error:
            raise StorageError(
                f"{storage.redact(uri)}: the column {field.name!r} is {field.type}, not {kind} "
                f"({border.short(error)}); {_AGAIN}"
            ) from None
        table = table.set_column(at, pa.field(field.name, kind), values)
    return table


def _check_size(file: Any, names: Sequence[str], uri: str, *, whole: bool) -> None:
    """Refuse a small file whose columns, read whole or by row group, would fill the memory."""
    about = file.metadata
    groups = [_unpacked(about.row_group(i), names) for i in range(about.num_row_groups)]
    rows, unpacked = int(about.num_rows), sum(groups) if whole else max(groups, default=0)
    bound = rows * ROW_BYTES * len(names) if whole else 0
    for need, what in ((bound, f"{rows:,} rows"), (unpacked, f"{unpacked:,} unpacked bytes")):
        if need > FREE_BYTES and need > MAX_GROWTH * (size := storage.size(uri)):
            raise StorageError(
                f"{storage.redact(uri)} states {what} in {size:,} bytes, too many; {_AGAIN}"
            )


def _unpacked(group: Any, names: Sequence[str]) -> int:
    """Bytes of these columns of a row group when decompressed, as the file says."""
    starts = tuple(f"{n}." for n in names)  # the values of a list are at name.list.element
    chunks = (group.column(j) for j in range(group.num_columns))
    return sum(
        c.total_uncompressed_size
        for c in chunks
        if c.path_in_schema in names or c.path_in_schema.startswith(starts)
    )


def iter_batches(
    uri: str,
    columns: Sequence[str] | None = None,
    batch_size: int = 256,
    *,
    schema: pa.Schema | None = None,
    expected: Expected | None = None,
) -> Iterator[pa.RecordBatch]:
    """A part in pieces of at most `batch_size` rows, one row group decoded at a time.

    Arguments and errors are those of `read_part`.
    """
    with _open(uri, expected) as file:
        names = _chosen(file, columns, uri)
        _check_size(file, names, uri, whole=False)
        for batch in file.iter_batches(batch_size=batch_size, columns=names, use_threads=False):
            yield checked(batch, schema, uri)
