"""Errors of the system and of C libraries become one line that names the thing and the cure."""

from __future__ import annotations

import dataclasses
import errno
import io
import os
import pickle
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import portalocker
import pyarrow as pa
import pytest
import shapely

from made_scores import write_scores
from quadrat import border, cli, engines, geoparquet, parts, servers, storage, text
from quadrat.areas import area
from quadrat.cli import common
from quadrat.errors import (
    EngineError,
    InputError,
    LockedError,
    QuadratError,
    RasterError,
    RunError,
    ScoresError,
    StorageError,
)
from quadrat.parts import PartRecord
from quadrat.runs import store
from quadrat.scores import files, open_scores


def deep() -> None:
    deep()


def gdal() -> None:
    import rasterio
    from rasterio.windows import Window

    with rasterio.open("/vsimem/none.tif") as data:
        data.read(window=Window(0, 0, 1, 1))


CALLS: dict[str, tuple[Callable[[], object], type[QuadratError], str]] = {
    "missing": (lambda: Path("/nothing").read_bytes(), StorageError, "/nothing does not exist"),
    "long name": (lambda: Path("/" + "x" * 300).stat(), StorageError, "longer name than the disk"),
    "NUL": (lambda: Path("a\0b").stat(), InputError, "NUL"),
    "recursion": (deep, InputError, "nested too deeply"),
    "overflow": (lambda: np.array([10**30]).astype(np.int64), InputError, "out of range"),
    "infinity": (lambda: int(float("inf")), InputError, "out of range"),
    "surrogates": (lambda: "\ud800".encode(), InputError, "not UTF-8"),
    "bytes": (lambda: b"\xff".decode(), InputError, "not UTF-8"),
    "memory": (lambda: np.empty(1 << 60, np.uint8), QuadratError, "out of memory"),
    "table": (lambda: pa.ipc.open_file(pa.py_buffer(b"none")), StorageError, "its table"),
    "geometry": (lambda: shapely.from_wkb(b"none"), InputError, "its geometry"),
    "GDAL": (gdal, RasterError, "GDAL"),
    "packed bytes": (lambda: zlib.decompress(b"none"), InputError, "its bytes are damaged"),
    "layout": (lambda: struct.unpack("<q", b"1"), InputError, "its bytes are damaged"),
}


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_what_others_raise_is_said_in_quadrats_words(call: str) -> None:
    function, kind, words = CALLS[call]
    with pytest.raises(kind, match=words) as caught, border.translated(""):
        function()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", sorted(border.SYSTEM), ids=errno.errorcode.__getitem__)
def test_every_error_of_the_system_names_the_file(number: int) -> None:
    found = border.translate(OSError(number, os.strerror(number), "a.tif"), doing="writing")
    assert isinstance(found, StorageError) and "a.tif" in str(found) and ";" in str(found)


def test_threads_that_cannot_start_and_users_without_a_home_are_said() -> None:
    found = border.translate(RuntimeError("can't start new thread"))
    assert isinstance(found, EngineError) and "ulimit -u" in str(found)
    found = border.translate(RuntimeError("Could not determine home directory."))
    assert isinstance(found, StorageError) and "QUADRAT_CACHE" in str(found)


def test_a_defect_stays_one() -> None:
    for error in (KeyError("x"), TypeError("x"), ValueError("x"), AttributeError("x")):
        assert border.translate(error) is None
        with pytest.raises(type(error)), border.translated("a.tif"):
            raise error


def test_the_command_line_says_it_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, (function, _, words) in CALLS.items():
        monkeypatch.setattr(cli.cli, "main", lambda *_a, f=function, **_k: f())
        assert cli.run(["tile"]) == 1
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == 1 and "defect" not in said, name


def _deep_part(part: str) -> str:
    deep()
    return part


def test_engines_say_it_too() -> None:
    with pytest.raises(InputError, match="nested too deeply"):
        list(engines.get_engine("local", workers=1).run(_deep_part, ["a", "b"]))
    error = border.translate(OSError(errno.EACCES, "", "a"))
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - our own bytes


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A pipe or a device would be waited for, or read, without end."""
    os.mkfifo(tmp_path / "pipe")
    for name in (str(tmp_path / "pipe"), os.devnull):
        for read in (storage.read_bytes, storage.open_read, storage.read_json, storage.digest_file):
            with pytest.raises(StorageError, match="no regular file"):
                read(name)
    with pytest.raises(StorageError, match="is a folder"):
        storage.read_bytes(str(tmp_path))


def test_a_json_file_is_bounded_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "MAX_JSON", 1 << 20)
    (tmp_path / "a.json").write_text("[" + "1," * (1 << 19) + "1]")
    with pytest.raises(StorageError, match="larger than 1 MB"):
        storage.read_json(str(tmp_path / "a.json"))
    (tmp_path / "b.json").write_text("[" * 100_000)
    with pytest.raises(StorageError, match="not whole JSON"):
        storage.read_json(str(tmp_path / "b.json"))


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b", "x" * 300])
def test_names_that_no_disk_takes_are_said(name: str) -> None:
    for call in (storage.exists, storage.is_dir, storage.read_bytes, storage.make_dirs):
        with pytest.raises(StorageError) as caught:
            call(name)
        assert "\n" not in str(caught.value)


def test_a_closed_folder_is_said_where_it_is_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(self: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "exists", closed)
    monkeypatch.setattr(Path, "is_dir", closed)
    for call in (storage.exists, storage.is_dir):
        with pytest.raises(StorageError, match="no permission for looking for"):
            call(str(tmp_path / "x"))


def test_a_user_without_a_home_is_told_to_set_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QUADRAT_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for an unknown user id
    with pytest.raises(StorageError, match="QUADRAT_CACHE"):
        storage.cache_dir()
    monkeypatch.setenv("QUADRAT_CACHE", "/somewhere")
    assert storage.cache_dir() == Path("/somewhere")


def test_a_disk_without_locks_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_file: object, _how: object) -> None:
        raise portalocker.LockException("Operation not supported")

    with storage.lock(str(tmp_path)), pytest.raises(LockedError), storage.lock(str(tmp_path)):
        pass
    monkeypatch.setattr(portalocker, "lock", refuse)
    with storage.lock(str(tmp_path)):
        storage.write_bytes(str(tmp_path / "a"), b"x")
    assert "has no locks" in caplog.text and str(tmp_path) in caplog.text


def test_a_tables_columns_have_the_types_asked_for(tmp_path: Path) -> None:
    """Casts that change no value are made; everything else is refused, with the column's name."""
    uri = str(tmp_path / "a.parquet")
    wanted = pa.schema([("row", pa.int32()), ("label", pa.string())])

    def read(**columns: pa.Array) -> pa.Table:
        geoparquet.write_part(uri, pa.table(columns), None)
        batches = list(geoparquet.iter_batches(uri, wanted.names, schema=wanted))
        whole = geoparquet.read_part(uri, wanted.names, schema=wanted)
        assert pa.Table.from_batches(batches, wanted) == whole
        return whole

    words = pa.array(["a", None])
    found = read(
        row=pa.array([1, None], pa.int64()), label=words.dictionary_encode(), more=words
    )  # fmt: skip
    assert found.schema == wanted and found.to_pylist()[0] == {"row": 1, "label": "a"}
    with pytest.raises(StorageError, match=r"a\.parquet lacks the column label"):
        read(row=pa.array([1]))
    with pytest.raises(StorageError, match=r"the column 'row' is int64, not int32"):
        read(row=pa.array([1 << 40, 1]), label=words)
    with pytest.raises(StorageError, match=r"the column 'row' is double, not int32"):
        read(row=pa.array([0.5, 1]), label=words)
    with pytest.raises(StorageError, match=r"the column 'label' is list"):
        read(row=pa.array([1]), label=pa.array([["a"]]))
    twice = pa.table([pa.array([1]), pa.array([2]), words[:1]], names=["row", "row", "label"])
    geoparquet.write_part(uri, twice, None)
    with pytest.raises(StorageError, match="has twice the column row"):
        geoparquet.read_part(uri, wanted.names)


def test_a_small_file_that_states_many_rows_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path / "a.parquet")
    geoparquet.write_part(uri, pa.table({"row": pa.nulls(1_000_000, pa.int32())}), None)
    assert len(geoparquet.read_part(uri)) == 1_000_000
    monkeypatch.setattr(geoparquet, "FREE_BYTES", 1 << 20)
    with pytest.raises(StorageError, match="states 1,000,000 rows in"):
        geoparquet.read_part(uri)


def test_a_small_file_that_unpacks_to_gigabytes_is_not_read(tmp_path: Path) -> None:
    """Zeros pack by 1 to 10,000: 17 KB would take 512 MB."""
    uri = str(tmp_path / "a.parquet")
    zeros = pa.array([bytes(1 << 26)], pa.binary())
    table = pa.table({**{f"c{i}": zeros for i in range(8)}, "row": pa.array([1])})
    geoparquet.write_part(uri, table, None)
    assert Path(uri).stat().st_size < 1 << 20
    told = r"a\.parquet states 536,\d{3},\d{3} unpacked bytes in \d+,\d{3} bytes, too many"
    with pytest.raises(StorageError, match=told):
        geoparquet.read_part(uri)
    with pytest.raises(StorageError, match=told):
        next(geoparquet.iter_batches(uri))
    assert geoparquet.read_part(uri, ["row"]).to_pydict() == {"row": [1]}


def test_notes_of_a_part_are_checked(tmp_path: Path) -> None:
    uri = str(tmp_path / "a.parquet")
    table = pa.table({"a": pa.array([1])})
    geoparquet.write_part(uri, table, None, note={"skipped": []})
    assert geoparquet.read_note(uri, ("skipped",)) == {"skipped": []}
    with pytest.raises(StorageError, match="no part of this Quadrat"):
        geoparquet.read_note(uri, ("tiles",))
    geoparquet.write_part(uri, table, None, note=[1])
    with pytest.raises(StorageError, match="no part of this Quadrat"):
        geoparquet.read_note(uri)
    geoparquet.write_part(uri, table, None)
    assert geoparquet.read_note(uri) is None


def test_what_is_printed_gives_a_terminal_no_orders(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "a\x1b]0;owned\x07\x9b2J\u202egnp.\udcff\tb\nc é → 東"
    shown = "a\\x1b]0;owned\\x07\\x9b2J\\u202egnp.\\udcff\tb\nc é → 東"
    assert text.printable(said) == shown

    def fail(*_args: object, **_options: object) -> None:
        raise InputError(said)

    monkeypatch.setattr(cli.cli, "main", fail)
    assert cli.run(["tile", "--debug"]) == 1
    assert not set("\x1b\x07\x9b\u202e") & set(capsys.readouterr().err)
    common.show(common.Answer({}, said), as_json=False)
    assert capsys.readouterr().out == f"{shown}\n"


def test_csv_holds_no_formulas_and_reads_back_as_it_was() -> None:
    words = ["=HYPERLINK(1)", "+1", "-x", "@a", "\ttab", "'=x", "'quoted'", "Forest", "a,b"]
    out = io.StringIO()
    text.write_table(out, ["=name", "value"], [[w, -1.5] for w in words])
    cells = [line.split(",")[0].strip('"') for line in out.getvalue().splitlines()]
    assert [c for c in cells if c[:1] in ("=", "+", "-", "@", "\t")] == []
    assert out.getvalue().splitlines()[1] == "'=HYPERLINK(1),-1.5"
    header, rows = text.read_table(out.getvalue().encode())
    assert header == ["=name", "value"]
    assert [row["=name"] for row in rows] == words and rows[0]["value"] == "-1.5"


def test_scores_without_a_label_or_a_place_are_refused(tmp_path: Path) -> None:
    n = np.arange(4)
    uri = write_scores(str(tmp_path / "s"), n, n, np.full((4, 6), 1 / 6), pieces=1)
    part = parts.place(uri, open_scores(uri).names[0])
    whole = geoparquet.read_part(part)
    for column, words in (("label", "without label"), ("row", "without a place")):
        at = whole.column_names.index(column)
        holed = whole.set_column(at, column, pa.array([None, *whole[column].to_pylist()[1:]]))
        made = geoparquet.write_part(part, holed, None)
        found = dataclasses.replace(
            open_scores(uri), records=(PartRecord("part-00000", made.rows, made.sha256),)
        )
        files.write_manifest(found)
        with pytest.raises(ScoresError, match=words):
            area(uri, unadjusted=True)
        geoparquet.write_part(part, whole, None)
        files.write_manifest(
            dataclasses.replace(
                found, records=(PartRecord("part-00000", 4, storage.digest_file(part)),)
            )
        )


@pytest.mark.parametrize("scheme", ["http", "postgresql", "mysql+pymysql"])
def test_a_history_that_does_not_answer_is_said_at_once(scheme: str) -> None:
    with socket.socket() as free:  # bound and not listening: connections are refused
        free.bind(("127.0.0.1", 0))
        with pytest.raises(RunError, match="does not answer") as caught:
            store.check_answers(f"{scheme}://user:word@127.0.0.1:{free.getsockname()[1]}/x")
    assert "word" not in str(caught.value)


def test_a_history_that_takes_connections_and_stays_silent_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(servers, "PATIENCE_S", 0.4)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(RunError, match="does not answer"):
            store.check_answers(f"http://127.0.0.1:{silent.getsockname()[1]}")
        store.check_answers(f"postgresql://127.0.0.1:{silent.getsockname()[1]}/x")
