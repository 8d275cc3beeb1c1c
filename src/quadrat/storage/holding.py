"""One writer per folder: locks, temporary files of killed processes, empty folders."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from quadrat import border
from quadrat.errors import LockedError, StorageError
from quadrat.storage.systems import translated
from quadrat.storage.uris import is_local, local_path

log = logging.getLogger(__name__)

TEMPORARY = ".part-"  # names of files that are being written begin so; no listing shows them


def make_dirs(uri: str) -> None:
    """Make a local folder and its parents; object stores need none."""
    if is_local(uri):
        with translated(uri, "making"):
            try:
                local_path(uri).mkdir(parents=True, exist_ok=True)
            except FileExistsError:
                raise StorageError(
                    f"{uri} is a file where a folder is needed; choose another name"
                ) from None


def remove_empty(uri: str) -> None:
    """Remove a local folder and the folders in it, as far as nothing is left in them."""
    if is_local(uri):
        for folder, _, _ in os.walk(local_path(uri), topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()


def owner() -> str:
    """The beginning of the names of this process's temporary files: host and process."""
    host = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
    return f"{TEMPORARY}{host}-{os.getpid()}-"


def sweep(uri: str, *, dead: bool = False) -> None:
    """Remove what a killed process left half-written in a local folder.

    Args:
        dead: only the files of processes of this machine that are no more, for folders that
            several processes write at the same time; without, the folder's lock must be held.
    """
    if is_local(uri) and local_path(uri).is_dir():
        host = owner().removeprefix(TEMPORARY).split("-")[0]
        for path in local_path(uri).glob(".part-*.tmp*"):
            written_by = re.match(rf"\.part-{host}-(\d+)-", path.name)
            if not dead or (written_by and not is_alive(int(written_by[1]))):
                path.unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Whether a process of this machine runs."""
    import psutil  # on Windows, signal 0 would not ask but end

    return bool(psutil.pid_exists(pid))


@contextmanager
def scratch(what: str) -> Iterator[Path]:
    """A folder of this process alone among the system's temporary files, gone when the block ends.

    Those that killed processes of this machine left go first.

    Args:
        what: what the folder is for; a part of its name.

    Raises:
        StorageError: it cannot be made.
    """
    prefix = f"quadrat-{what}-{owner().removeprefix(TEMPORARY)}"
    kind = prefix.rsplit("-", 2)[0]
    try:
        for left in Path(tempfile.gettempdir()).glob(f"{kind}-*-*"):
            made_by = re.match(rf"{kind}-(\d+)-", left.name)
            if made_by and not is_alive(int(made_by[1])):
                shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=prefix))
    except OSError as error:
        raise StorageError(
            f"no scratch folder can be made ({error.strerror}); set TMPDIR"
        ) from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def lock(uri: str, *, wait: bool = False, name: str = ".lock") -> Iterator[None]:
    """Hold an output folder alone; LockedError when another process has it.

    On a local disk the operating system gives the lock back when the holder dies, however it dies.
    Object stores and some network disks have no such lock: there, two writers are harmless because
    a part is written whole and each writes the same content.

    Args:
        wait: wait for the other process instead. name: the file in the folder that is locked.
    """
    if not is_local(uri):
        yield
        return
    make_dirs(uri)
    path = local_path(uri) / name
    with translated(str(path), "locking"):
        file = path.open("a+b")
    with file:
        try:
            held = lock_file(file, wait=wait)
        except OSError as error:
            held = True
            log.warning(
                "the disk of %s has no locks (%s): start no second command on it meanwhile",
                uri, border.short(error),
            )  # fmt: skip
        if not held:
            raise LockedError(
                f"another process ({_holder(file)}) is writing {uri}; wait for it or choose "
                "another --out"
            )
        file.truncate(0)
        file.write(f"pid {os.getpid()}".encode())
        file.flush()
        yield


def lock_file(file: BinaryIO, *, wait: bool = False) -> bool:
    """Lock an open file until it is closed; False where another process holds it.

    Args:
        wait: wait for the other process instead.

    Raises:
        OSError: the disk has no locks.
    """
    import portalocker
    from portalocker.exceptions import AlreadyLocked, LockException

    flags = portalocker.LockFlags.EXCLUSIVE
    while True:
        try:
            portalocker.lock(file, flags if wait else flags | portalocker.LockFlags.NON_BLOCKING)
            return True
        except AlreadyLocked:
            if not wait:  # Windows gives up waiting after some seconds
                return False
        except LockException as error:
            raise OSError(str(error)) from None


def _holder(file: BinaryIO) -> str:
    """What the holder of a lock wrote in its file; Windows does not let others read it."""
    with suppress(OSError):
        file.seek(0)
        return file.read(64).decode(errors="replace").strip() or "unknown"
    return "unknown"
