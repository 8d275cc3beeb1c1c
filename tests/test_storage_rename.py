"""Writes to file systems that show a file while it grows (HDFS): a rename makes them whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from quadrat import storage
from quadrat.errors import StorageError


class Growing(DirFileSystem):
    """A folder of this disk as if it were HDFS: no rename onto a file; writes come in pieces."""

    protocol = "growing"
    root = ""
    seen: list[list[str]] = []  # noqa: RUF012 - what a listing shows in the middle of each write
    broken = False

    def __init__(self, **options: Any) -> None:
        super().__init__(path=self.root, fs=LocalFileSystem(), **options)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("growing://").strip("/")

    def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
        place = Path(self.root) / self._strip_protocol(path)
        place.write_bytes(value[: len(value) // 2])
        self.seen.append(storage.list_names(f"growing://{place.parent.relative_to(self.root)}"))
        if self.broken:
            raise OSError("connection lost")
        place.write_bytes(value)

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        new = Path(self.root) / self._strip_protocol(path2)
        if new.exists():
            raise FileExistsError(path2)
        (Path(self.root) / self._strip_protocol(path1)).rename(new)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[str]:
    Growing.root, Growing.seen, Growing.broken = str(tmp_path), [], False
    Growing.clear_instance_cache()
    fsspec.register_implementation("growing", Growing, clobber=True)
    yield "growing://out"
    Growing.clear_instance_cache()


def test_a_file_is_not_seen_before_it_is_whole(root: str, tmp_path: Path) -> None:
    storage.write_bytes(storage.join(root, "part-00000.parquet"), b"0123456789")
    assert Growing.seen == [[]]
    assert (tmp_path / "out" / "part-00000.parquet").read_bytes() == b"0123456789"
    assert storage.list_names(root) == ["part-00000.parquet"]


def test_a_file_is_replaced(root: str) -> None:
    uri = storage.join(root, "part-00000.parquet")
    storage.write_bytes(uri, b"first")
    storage.write_bytes(uri, b"second")
    assert storage.read_bytes(uri) == b"second"
    assert Growing.seen[-1] == ["part-00000.parquet"]


def test_a_write_that_breaks_off_leaves_nothing(root: str, tmp_path: Path) -> None:
    Growing.broken = True
    with pytest.raises(StorageError, match="connection lost"):
        storage.write_bytes(storage.join(root, "part-00000.parquet"), b"0123456789")
    assert list((tmp_path / "out").iterdir()) == []
