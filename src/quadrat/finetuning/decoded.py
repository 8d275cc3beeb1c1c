"""Files of decoded tiles that are mapped into memory, and removed when a training ends."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from quadrat import storage
from quadrat.errors import TrainError


def place(name: str) -> Path:
    """The file of this name in the user's cache."""
    folder = storage.cache_dir() / "decoded"
    storage.make_dirs(str(folder))
    return folder / f"{name}.u8"


@contextlib.contextmanager
def own_file(path: Path) -> Iterator[Path]:
    """A file and its index beside it, removed when the block ends.

    The file is locked meanwhile. Files without a lock are of trainings that were killed; they are
    removed first.
    """
    for other in path.parent.glob("*.u8"):
        with contextlib.suppress(OSError), other.open("r+b") as left:
            if storage.lock_file(left):
                _remove(other)
    file = path.open("wb")
    try:
        with contextlib.suppress(OSError):  # a disk without locks
            storage.lock_file(file, wait=True)
        yield path
    finally:
        _remove(path)
        file.close()


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_suffix(".parquet").unlink(missing_ok=True)


def mapped(path: Path, shape: tuple[int, ...], mode: Any) -> np.memmap[Any, np.dtype[np.uint8]]:
    """The tiles of a file as an array.

    Raises:
        TrainError: a new file has no room on its disk.
    """
    need = int(np.prod(shape, dtype=np.int64))
    if mode == "w+" and shutil.disk_usage(path.parent).free < need + (1 << 28):
        raise TrainError(
            f"the decoded tiles take {need / 1e9:.1f} GB and {path.parent} has no room for them; "
            "set QUADRAT_CACHE to a larger disk, or use --sample-frac"
        )
    return np.memmap(path, np.uint8, mode, shape=shape)
