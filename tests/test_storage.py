"""Files: written whole or not at all, one writer a folder, errors with cures, nothing secret."""

import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from quadrat import border, storage
from quadrat.errors import LockedError, MissingExtraError, StorageError
from quadrat.storage import systems


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    target = str(tmp_path / "a" / "b.bin")
    storage.write_bytes(target, b"one")
    with pytest.raises(ZeroDivisionError), storage.atomic_path(target) as path:
        path.write_bytes(b"half")
        1 / 0  # noqa: B018
    assert storage.read_bytes(target) == b"one"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.bin"]


def test_files_get_the_users_mode(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "x"), b"")
    (tmp_path / "y").write_bytes(b"")
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "y").stat().st_mode


def test_any_fsspec_address_works_alike() -> None:
    uri = storage.join("memory://bucket/folder", "x.json")
    storage.write_json(uri, {"a": [1, "ü"]})
    assert storage.read_json(uri) == {"a": [1, "ü"]}
    assert storage.list_names("memory://bucket/folder", ".json") == ["x.json"]
    assert storage.list_names("memory://bucket/nothing") == []
    assert fsspec.filesystem("memory").cat_file("/bucket/folder/x.json").startswith(b"{")
    storage.remove(uri)
    assert not storage.exists(uri)


def test_one_writer_a_folder_and_the_lock_dies_with_its_holder(tmp_path: Path) -> None:
    code = (
        "import sys; from quadrat import storage\n"
        "with storage.lock(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(LockedError, match=f"pid {other.pid}"), storage.lock(str(tmp_path)):
            pass
    finally:
        other.kill()
        other.communicate()
    with storage.lock(str(tmp_path)):
        pass


def test_errors_name_the_file_and_the_cure(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nothing.bin does not exist; check"):
        storage.read_bytes(str(tmp_path / "nothing.bin"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="a file"):
        storage.write_bytes(str(tmp_path / "file" / "x"), b"")
    (tmp_path / "half.json").write_text('{"a": ')
    with pytest.raises(StorageError, match="not whole JSON"):
        storage.read_json(str(tmp_path / "half.json"))
    with pytest.raises((StorageError, MissingExtraError), match="nosuch"):
        storage.read_bytes("nosuch://x/y")


def test_a_full_disk_keeps_finished_parts_and_says_so() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with (
        pytest.raises(StorageError, match="no space left"),
        systems.translated("x", "writing"),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x" * 4096)


def test_what_may_be_secret_is_not_shown() -> None:
    shown = storage.redact("https://u:p@host/a.tif?sig=S3CRET&se=2026#x")
    assert shown == "https://host/a.tif"
    assert "S3CRET" not in border.short(ValueError("GET /a?sig=S3CRET failed"))
    assert storage.redact("/data/a?b.tif") == "/data/a?b.tif"
