"""Files at any URI: reads, atomic writes, digests, one writer per output. The only home of fsspec.

A URI is a local path or an fsspec address (`s3://`, `az://`, `hdfs://`, `memory://`). A file is
written under its final name in one step, so a file that exists is whole: on a local disk by a
temporary file and a rename, on object storage by a single put. It does not know tables or pixels.

    uris      URIs as text
    systems   file systems and their errors
    holding   folders with one writer: locks, what killed processes left
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from quadrat import border
from quadrat.errors import StorageError
from quadrat.redaction import redact
from quadrat.storage.holding import (
    TEMPORARY,
    is_alive,
    lock,
    lock_file,
    make_dirs,
    owner,
    remove_empty,
    scratch,
    sweep,
)
from quadrat.storage.systems import ONE_PUT, filesystem, translated
from quadrat.storage.uris import basename, is_local, join, local_path, normalise, parent, scheme_of

__all__ = [
    "MAX_JSON", "atomic_path", "basename", "buffer", "cache_dir", "digest_bytes", "digest_file",
    "digest_json", "exists", "fingerprint", "is_alive", "is_dir", "is_local", "join",
    "list_names", "local_path", "lock", "lock_file", "make_dirs", "normalise", "open_read",
    "parent", "read_bytes", "read_json", "redact", "remove", "remove_empty", "scratch", "size",
    "sweep", "write_bytes", "write_json",
]  # fmt: skip

MAX_JSON = 32 << 20  # bytes: a manifest of 200,000 parts; as values it takes 20 times that


def exists(uri: str) -> bool:
    """Whether a file or folder is there."""
    with translated(uri, "looking for"):
        if is_local(uri):
            return local_path(uri).exists()
        return bool(filesystem(uri).exists(uri))


def is_dir(uri: str) -> bool:
    """Whether a folder is there (on object storage: whether anything lies below)."""
    with translated(uri, "looking for"):
        if is_local(uri):
            return local_path(uri).is_dir()
        return bool(filesystem(uri).isdir(uri))


def size(uri: str) -> int:
    """Bytes of a file."""
    with translated(uri, "reading"):
        if is_local(uri):
            return border.check_regular(local_path(uri))
        return int(filesystem(uri).size(uri))


def fingerprint(uri: str) -> str:
    """A text that changes when a file does: its size and time, or the store's tag.

    The content is not read.
    """
    with translated(uri, "reading"):
        if is_local(uri):
            stat = local_path(uri).stat()
            return f"{stat.st_size}-{stat.st_mtime_ns}"
        entry = filesystem(uri).info(uri)
        tag = next((entry[k] for k in ("ETag", "etag", "LastModified") if entry.get(k)), "")
        return f"{entry.get('size', '')}-{tag}"


def read_bytes(uri: str, most: int | None = None) -> bytes:
    """The whole content of a file; StorageError when it cannot be read.

    Args:
        most: bytes that it may have, checked before memory is asked for.
    """
    with translated(uri, "reading"):
        if is_local(uri):
            path = local_path(uri)
            _check_size(uri, border.check_regular(path), most)
            return path.read_bytes()
        if most is not None:
            _check_size(uri, int(filesystem(uri).size(uri)), most)
        return cast(bytes, filesystem(uri).cat_file(uri))


def _check_size(uri: str, found: int, most: int | None) -> None:
    if most is not None and found > most:
        raise StorageError(
            f"{redact(uri)} is larger than {most >> 20:,} MB, too large for such a file; "
            "check what it is"
        )


def open_read(uri: str) -> BinaryIO:
    """A seekable file to read from."""
    with translated(uri, "reading"):
        if is_local(uri):
            border.check_regular(local_path(uri))
            return local_path(uri).open("rb")
        return cast(BinaryIO, _Remote(uri, filesystem(uri).open(uri, "rb")))


class _Remote(io.RawIOBase):
    """A remote file whose errors, which come when it is read, are translated too."""

    def __init__(self, uri: str, file: Any) -> None:
        self._uri, self._file = uri, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def read(self, size: int | None = -1) -> bytes:
        with translated(self._uri, "reading"):
            return cast(bytes, self._file.read(-1 if size is None else size))

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, target: Any) -> int:
        data = self.read(len(target))
        target[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def write_bytes(uri: str, data: bytes | memoryview) -> None:
    """Write a file in one step: either all of it is there under its name, or nothing is."""
    if is_local(uri):
        path = local_path(uri)
        make_dirs(str(path.parent))
        with atomic_path(uri) as temporary, temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return
    _put(uri, bytes(data))


@contextmanager
def atomic_path(uri: str) -> Iterator[Path]:
    """A temporary local path, moved to `uri` (local or remote) when the block ends well.

    For libraries that write files themselves. Nothing stays behind when the block fails.
    """
    local = is_local(uri)
    folder = str(local_path(uri).parent) if local else tempfile.gettempdir()
    make_dirs(folder)
    suffix = Path(basename(uri)).suffix
    with translated(uri if local else folder, "writing"):
        handle, name = tempfile.mkstemp(prefix=owner(), suffix=f".tmp{suffix}", dir=folder)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            if local:
                mode = 0o666 & ~_umask()
                temporary.chmod(mode)
                temporary.replace(local_path(uri))
            else:
                _put(uri, temporary.read_bytes())
        finally:
            temporary.unlink(missing_ok=True)


def _put(uri: str, data: bytes) -> None:
    """Write a remote file in one step."""
    with translated(uri, "writing"):
        system = filesystem(uri)
        if scheme_of(uri) in ONE_PUT:
            system.pipe_file(uri, data)
            return
        # file systems such as HDFS show a file while it grows, but rename it in one step
        system.makedirs(parent(uri), exist_ok=True)
        temporary = join(parent(uri), f"{TEMPORARY}{os.urandom(8).hex()}.tmp")
        try:
            system.pipe_file(temporary, data)
            _rename(system, temporary, uri)
        except BaseException:
            with suppress(Exception):
                system.rm_file(temporary)
            raise


def _rename(system: Any, old: str, new: str) -> None:
    try:
        system.mv(old, new)
    except Exception:  # noqa: BLE001 - each file system has its own way to say that `new` exists
        # HDFS does not rename onto a file; what stands there is whole, and so is its successor
        system.rm_file(new)
        system.mv(old, new)


def _umask() -> int:
    # reading the mask means setting it; /proc gives it without a race between threads
    with suppress(OSError), Path("/proc/self/status").open() as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022


def read_json(uri: str) -> Any:
    """The values of a JSON file; StorageError when it is none, or larger than `MAX_JSON`."""
    data = read_bytes(uri, MAX_JSON)
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise StorageError(f"{redact(uri)} is not whole JSON; remove it or make it again") from None


def write_json(uri: str, value: Any) -> None:
    """Write plain values as JSON, in one step."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    with border.translated(f"a name in {redact(uri)}"):
        data = f"{text}\n".encode()
    write_bytes(uri, data)


def list_names(uri: str, suffix: str = "") -> list[str]:
    """Names of the files directly in a folder that end with `suffix`, sorted; [] for no folder."""
    with translated(uri, "listing"):
        if is_local(uri):
            path = local_path(uri)
            if not path.is_dir():
                return []
            with os.scandir(path) as entries:
                return sorted(
                    e.name
                    for e in entries
                    if e.name.endswith(suffix) and not e.name.startswith(".")
                )
        try:
            entries_ = filesystem(uri).ls(uri, detail=False, refresh=True)
        except TypeError:
            entries_ = filesystem(uri).ls(uri, detail=False)
        except FileNotFoundError:
            return []
        names = (str(e).rstrip("/").rsplit("/", 1)[-1] for e in entries_)
        return sorted(n for n in names if n.endswith(suffix) and not n.startswith("."))


def remove(uri: str) -> None:
    """Remove a file; nothing happens when it is not there."""
    with translated(uri, "removing"):
        if is_local(uri):
            local_path(uri).unlink(missing_ok=True)
        else:
            with suppress(FileNotFoundError):
                filesystem(uri).rm_file(uri)


def digest_bytes(data: bytes) -> str:
    """SHA-256 as hexadecimal text."""
    return hashlib.sha256(data).hexdigest()


def digest_json(value: Any) -> str:
    """SHA-256 of plain values in one canonical form."""
    return digest_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def digest_file(uri: str) -> str:
    """SHA-256 of a file's content, read in pieces."""
    with translated(uri, "reading"), open_read(uri) as file:
        return hashlib.file_digest(cast(Any, file), "sha256").hexdigest()


def cache_dir() -> Path:
    """The cache folder: `QUADRAT_CACHE`, or `quadrat` in the user's cache folder.

    Raises:
        StorageError: the user has no home folder, and neither variable names another place.
    """
    with border.translated("the cache", kind=StorageError):
        chosen = os.environ.get("QUADRAT_CACHE")
        if chosen:
            return Path(chosen).expanduser()
        base = os.environ.get("XDG_CACHE_HOME")
        return (Path(base) if base else Path.home() / ".cache") / "quadrat"


def buffer() -> io.BytesIO:
    """A file in memory, for libraries that write to one."""
    return io.BytesIO()
