"""Paths, locks and processes by the rules of other systems, as far as they can be told on this one.

Windows' rules for paths are Python's own (`PureWindowsPath`, `ntpath`); what has no stand-in here
runs in the CI's matrix of systems.
"""

from __future__ import annotations

import ast
import ntpath
import subprocess
import sys
from pathlib import Path, PureWindowsPath

import pytest

import quadrat
from quadrat import storage
from quadrat.config import Config
from quadrat.maps import geopackage
from quadrat.storage import holding, uris

POSIX_ONLY = {"fcntl", "grp", "pwd", "resource", "termios", "pty", "posix"}
PACKAGE = Path(quadrat.__file__).parent


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uris, "SEPARATORS", "\\/")
    monkeypatch.setattr(uris, "Path", PureWindowsPath)
    monkeypatch.setattr(uris, "abspath", lambda path: ntpath.abspath(str(path)))


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        (r"C:\data\tiles", r"C:\data\tiles"),
        ("C:/data/tiles", r"C:\data\tiles"),
        ("file:///C:/data/tiles", r"C:\data\tiles"),
        (r"\\server\share\tiles", r"\\server\share\tiles"),
        (r"data\tiles", r"data\tiles"),
    ],
)
def test_paths_of_windows_are_local(windows: None, uri: str, path: str) -> None:
    assert storage.is_local(uri) and str(storage.local_path(uri)) == path
    assert storage.basename(uri) == "tiles" == storage.basename(uri + "/")
    assert storage.basename(storage.join(uri, "parts", "part-00000.parquet")) == (
        "part-00000.parquet"
    )
    assert str(storage.parent(uri)) == str(PureWindowsPath(path).parent)


def test_one_place_has_one_name_on_windows(windows: None) -> None:
    names = (r"C:\data\x\..\tiles", "C:/data/tiles", "file:///C:/data/tiles")
    assert {storage.normalise(n) for n in names} == {r"C:\data\tiles"}


def test_addresses_of_stores_are_the_same_on_windows(windows: None) -> None:
    assert not storage.is_local("s3://bucket/tiles")
    assert storage.join("s3://bucket/tiles", "parts", "a") == "s3://bucket/tiles/parts/a"
    assert storage.basename("az://box/tiles/") == "tiles"
    assert storage.parent("s3://bucket/tiles") == "s3://bucket"


def test_a_backslash_in_a_name_is_no_folder_on_posix() -> None:
    assert storage.basename("/data/a\\b") == "a\\b"


def test_a_name_with_a_drive_is_a_path_and_no_name_in_a_folder() -> None:
    config = Config(tiles="/sets")
    assert config.place("tiles", "county") == "/sets/county"
    assert config.place("tiles", "C:/county") == "C:/county"


def test_a_picture_on_another_drive_keeps_its_whole_path(monkeypatch: pytest.MonkeyPatch) -> None:
    class Drive(PureWindowsPath):
        def absolute(self) -> PureWindowsPath:
            return self

    monkeypatch.setattr(storage, "local_path", Drive)
    monkeypatch.setattr(geopackage.os.path, "relpath", ntpath.relpath)
    monkeypatch.setattr(geopackage, "PurePath", PureWindowsPath)
    assert geopackage._from(r"C:\gis\map.gpkg", r"D:\c\p\1.jpg") == "D:/c/p/1.jpg"
    assert geopackage._from(r"C:\gis\map.gpkg", r"C:\c\p\1.jpg") == "../c/p/1.jpg"


def test_no_module_of_one_system_alone_is_imported() -> None:
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            named = (
                {a.name for a in node.names} if isinstance(node, ast.Import)
                else {str(node.module)} if isinstance(node, ast.ImportFrom) else set()
            )  # fmt: skip
            assert not named & POSIX_ONLY, file


def test_files_are_read_and_written_in_utf8_whatever_the_system_takes() -> None:
    """Text without an encoding is another text on Windows; only Linux' own files are ASCII."""
    found = []
    for file in PACKAGE.rglob("*.py"):
        text = file.read_text("utf-8")
        for node in ast.walk(ast.parse(text)):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            said = [*node.args, *(k.value for k in node.keywords)]
            modes = [a.value for a in said if isinstance(a, ast.Constant)]
            encoded = any(str(m).lower().startswith(("utf", "ascii", "latin")) for m in modes)
            if node.func.attr == "read_text" and not said and "/proc" not in text:
                found.append((file.name, node.lineno))
            if node.func.attr == "write_text" and not encoded:
                found.append((file.name, node.lineno))
    assert not found


def test_a_process_that_ended_is_told_from_one_that_runs() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert storage.is_alive(child.pid)
        child.communicate(b"\n")
    assert not storage.is_alive(child.pid)


def test_a_lock_that_others_cannot_read_names_no_holder(tmp_path: Path) -> None:
    class Locked:
        def seek(self, _: int) -> None:
            raise PermissionError(13, "Permission denied")

    assert holding._holder(Locked()) == "unknown"  # type: ignore[arg-type]


def test_a_disk_without_locks_is_warned_of_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(*_: object, **__: object) -> bool:
        raise OSError("no locks available")

    monkeypatch.setattr(holding, "lock_file", none)
    with storage.lock(str(tmp_path)):
        pass
    assert "has no locks" in caplog.text


def test_without_the_files_of_linux_the_machine_is_still_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from quadrat.engines import local
    from quadrat.model import machine

    def gone(*_: object, **__: object) -> str:
        raise FileNotFoundError(2, "No such file")

    monkeypatch.setattr(Path, "read_text", gone)
    machine._cpuinfo.cache_clear()
    try:
        assert machine.cpu_name()
        assert local.available_cpus() >= 1
        monkeypatch.delattr(local.os, "sched_getaffinity", raising=False)
        assert local.available_cpus() >= 1
    finally:
        machine._cpuinfo.cache_clear()
