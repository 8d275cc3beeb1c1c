"""Files at any URI: reads, atomic writes, digests, one writer per output. The only home of fsspec.

A URI is a local path or an fsspec address (`s3://`, `az://`, `hdfs://`, `memory://`). A file is
written under its final name in one step, so a file that exists is whole: on a local disk by a
temporary file and a rename, on object storage by a single put. It does not know tables or pixels.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast

from quadrat import border, servers
from quadrat.errors import LockedError, MissingExtraError, QuadratError, StorageError
from quadrat.redaction import redact as redact  # of every URI that is told or written down

log = logging.getLogger(__name__)

EXTRAS = {"s3": "s3", "s3a": "s3", "az": "azure", "abfs": "azure", "abfss": "azure", "adl": "azure"}

# Scheme -> the address of the server that its client talks to.
SERVERS: Mapping[str, Callable[[Any], str]] = {
    **dict.fromkeys(("s3", "s3a"), lambda client: str(client.s3.meta.endpoint_url)),
    **dict.fromkeys(
        ("az", "abfs", "abfss", "adl"), lambda client: str(client.service_client.primary_endpoint)
    ),
}
# object stores: what is put there is not seen before it is whole
ONE_PUT = ("s3", "s3a", "az", "abfs", "abfss", "adl", "gs", "gcs", "memory")
MAX_JSON = 32 << 20  # bytes: a manifest of 200,000 parts; as values it takes 20 times that
TEMPORARY = ".part-"  # names of files that are being written begin so; no listing shows them


def _scheme(uri: str) -> str:
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", uri)
    return match.group(1).lower() if match else "file"


def is_local(uri: str) -> bool:
    """Whether the URI is a path on this machine."""
    return _scheme(uri) in ("file", "local")


def local_path(uri: str) -> Path:
    """The path of a local URI; StorageError for any other."""
    if not is_local(uri):
        raise StorageError(f"{redact(uri)} is not on this machine; give a local path")
    text = re.sub(r"^(file|local)://", "", uri)
    if "\0" in text:
        raise StorageError(f"{text!r} holds a NUL byte; use another name")
    with border.translated(repr(text), kind=StorageError):
        os.fsencode(text)  # text of JSON may be no file name at all
        return Path(text).expanduser() if text.startswith("~") else Path(text)


def normalise(uri: str) -> str:
    """An absolute form: the same place has the same text in every folder and process."""
    return os.path.abspath(local_path(uri)) if is_local(uri) else uri.rstrip("/")  # noqa: PTH100


def join(uri: str, *names: str) -> str:
    """A URI below another."""
    if is_local(uri):
        return str(local_path(uri).joinpath(*names))
    return "/".join([uri.rstrip("/"), *names])


def basename(uri: str) -> str:
    """The last name of a URI, without a query."""
    bare = uri if is_local(uri) else redact(uri)
    return bare.rstrip("/").rsplit("/", 1)[-1]


def parent(uri: str) -> str:
    """The folder that holds a URI."""
    if is_local(uri):
        return str(local_path(uri).parent)
    return uri.rstrip("/").rsplit("/", 1)[0]


@contextmanager
def _translated(uri: str, doing: str) -> Iterator[None]:
    """Turn what file systems raise into one line that names the file and the cure."""
    name = redact(uri)
    try:
        yield
    except QuadratError:
        raise
    except Exception as error:
        translated = border.translate(error, name, doing, StorageError)
        if translated is not None:
            raise translated from None
        if is_local(uri):
            raise
        # each remote file system has its own error tree; none may escape with its credentials
        raise StorageError(f"{doing} {name} failed: {border.short(error)}") from None


def _filesystem(uri: str) -> Any:
    import fsspec

    scheme = _scheme(uri)
    try:
        # a listing that is remembered misses what another process or thread has written since
        options = {"use_listings_cache": False} if scheme in ONE_PUT else {}
        found = fsspec.filesystem(scheme if scheme != "https" else "http", **options)
    except ImportError:
        if scheme in EXTRAS:
            raise MissingExtraError(f"{scheme}:// storage", EXTRAS[scheme]) from None
        raise StorageError(f"no file system for {scheme}:// is installed; see fsspec") from None
    except ValueError as error:
        raise StorageError(f"{redact(uri)} cannot be opened: {border.short(error)}") from None
    if scheme in SERVERS:
        _check_answers(SERVERS[scheme](found))
    return found


@lru_cache(maxsize=64)
def _check_answers(server: str) -> None:
    """Ask each server once a process: a dead one keeps its client trying for minutes."""
    try:
        servers.check_answers(server)
    except OSError as error:
        raise StorageError(
            f"the store {redact(server)} does not answer ({border.short(error)}); check its "
            "address and the network"
        ) from None


def exists(uri: str) -> bool:
    """Whether a file or folder is there."""
    with _translated(uri, "looking for"):
        if is_local(uri):
            return local_path(uri).exists()
        return bool(_filesystem(uri).exists(uri))


def is_dir(uri: str) -> bool:
    """Whether a folder is there (on object storage: whether anything lies below)."""
    with _translated(uri, "looking for"):
        if is_local(uri):
            return local_path(uri).is_dir()
        return bool(_filesystem(uri).isdir(uri))


def size(uri: str) -> int:
    """Bytes of a file."""
    with _translated(uri, "reading"):
        if is_local(uri):
            return border.check_regular(local_path(uri))
        return int(_filesystem(uri).size(uri))


def fingerprint(uri: str) -> str:
    """A text that changes when a file does: its size and time, or the store's tag.

    The content is not read.
    """
    with _translated(uri, "reading"):
        if is_local(uri):
            stat = local_path(uri).stat()
            return f"{stat.st_size}-{stat.st_mtime_ns}"
        entry = _filesystem(uri).info(uri)
        tag = next((entry[k] for k in ("ETag", "etag", "LastModified") if entry.get(k)), "")
        return f"{entry.get('size', '')}-{tag}"


def read_bytes(uri: str, most: int | None = None) -> bytes:
    """The whole content of a file; StorageError when it cannot be read.

    Args:
        most: bytes that it may have, checked before memory is asked for.
    """
    with _translated(uri, "reading"):
        if is_local(uri):
            path = local_path(uri)
            _check_size(uri, border.check_regular(path), most)
            return path.read_bytes()
        if most is not None:
            _check_size(uri, int(_filesystem(uri).size(uri)), most)
        return cast(bytes, _filesystem(uri).cat_file(uri))


def _check_size(uri: str, found: int, most: int | None) -> None:
    if most is not None and found > most:
        raise StorageError(
            f"{redact(uri)} is larger than {most >> 20:,} MB, too large for such a file; "
            "check what it is"
        )


def open_read(uri: str) -> BinaryIO:
    """A seekable file to read from."""
    with _translated(uri, "reading"):
        if is_local(uri):
            border.check_regular(local_path(uri))
            return local_path(uri).open("rb")
        return cast(BinaryIO, _Remote(uri, _filesystem(uri).open(uri, "rb")))


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
        with _translated(self._uri, "reading"):
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


def make_dirs(uri: str) -> None:
    """Make a local folder and its parents; object stores need none."""
    if is_local(uri):
        with _translated(uri, "making"):
            try:
                local_path(uri).mkdir(parents=True, exist_ok=True)
            except FileExistsError:
                raise StorageError(
                    f"{uri} is a file where a folder is needed; choose another name"
                ) from None


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
    with _translated(uri if local else folder, "writing"):
        handle, name = tempfile.mkstemp(prefix=_owner(), suffix=f".tmp{suffix}", dir=folder)
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
    with _translated(uri, "writing"):
        system = _filesystem(uri)
        if _scheme(uri) in ONE_PUT:
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
    with _translated(uri, "listing"):
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
            entries_ = _filesystem(uri).ls(uri, detail=False, refresh=True)
        except TypeError:
            entries_ = _filesystem(uri).ls(uri, detail=False)
        except FileNotFoundError:
            return []
        names = (str(e).rstrip("/").rsplit("/", 1)[-1] for e in entries_)
        return sorted(n for n in names if n.endswith(suffix) and not n.startswith("."))


def remove(uri: str) -> None:
    """Remove a file; nothing happens when it is not there."""
    with _translated(uri, "removing"):
        if is_local(uri):
            local_path(uri).unlink(missing_ok=True)
        else:
            with suppress(FileNotFoundError):
                _filesystem(uri).rm_file(uri)


def remove_empty(uri: str) -> None:
    """Remove a local folder and the folders in it, as far as nothing is left in them."""
    if is_local(uri):
        for folder, _, _ in os.walk(local_path(uri), topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()


def _owner() -> str:
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
        host = _owner().removeprefix(TEMPORARY).split("-")[0]
        for path in local_path(uri).glob(".part-*.tmp*"):
            owner = re.match(rf"\.part-{host}-(\d+)-", path.name)
            if not dead or (owner and not is_alive(int(owner[1]))):
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


def digest_bytes(data: bytes) -> str:
    """SHA-256 as hexadecimal text."""
    return hashlib.sha256(data).hexdigest()


def digest_json(value: Any) -> str:
    """SHA-256 of plain values in one canonical form."""
    return digest_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def digest_file(uri: str) -> str:
    """SHA-256 of a file's content, read in pieces."""
    with _translated(uri, "reading"), open_read(uri) as file:
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
    with _translated(str(path), "locking"):
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


def buffer() -> io.BytesIO:
    """A file in memory, for libraries that write to one."""
    return io.BytesIO()
