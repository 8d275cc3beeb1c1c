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
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


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
    import fcntl

    make_dirs(uri)
    path = local_path(uri) / name
    with translated(str(path), "locking"):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 64).decode(errors="replace").strip() or "unknown"
            raise LockedError(
                f"another process ({holder}) is writing {uri}; wait for it or choose another --out"
            ) from None
        except OSError as error:
            log.warning(
                "the disk of %s has no locks (%s): start no second command on it meanwhile",
                uri, error.strerror,
            )  # fmt: skip
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"pid {os.getpid()}".encode(), 0)
        yield
    finally:
        os.close(handle)
