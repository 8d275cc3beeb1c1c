"""What the system and C libraries raise, in Quadrat's words: one line with the thing and the cure.

Readers use `translated` where they know the name of what they read. The command line and the
engines use `translate` for what still arrives there. Libraries are recognised by the names of their
packages, so none is loaded here. It does not know formats or verbs.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from quadrat.errors import (
    EngineError,
    FetchError,
    ImageError,
    InputError,
    ModelError,
    QuadratError,
    RasterError,
    RunError,
    StorageError,
)
from quadrat.redaction import redact

# errno -> text; {name} is the file or address, {doing} is "reading", "writing" and so on
SYSTEM: Mapping[int, str] = {
    errno.ENOENT: "{name} does not exist; check the path",
    errno.EACCES: "no permission for {doing} {name}; check its owner and mode",
    errno.EPERM: "no permission for {doing} {name}; check its owner and mode",
    errno.EISDIR: "{name} is a folder, not a file; name a file",
    errno.ENOTDIR: "a file stands where {name} needs a folder; choose another",
    errno.EEXIST: "{name} exists already; choose another name",
    errno.ENOTEMPTY: "the folder {name} is not empty; choose another name",
    errno.ENOSPC: "no space left for {doing} {name}; free some and run the same command again "
    "(finished parts are kept)",
    errno.EFBIG: "{name} is larger than its disk or `ulimit -f` allows; choose another place",
    errno.EROFS: "{name} is on a read-only disk; choose another place",
    errno.ENAMETOOLONG: "{name} is a longer name than the disk takes; use a shorter one",
    errno.ELOOP: "{name} is a link that leads to itself; remove it",
    errno.EMFILE: "too many files are open for {doing} {name}; raise `ulimit -n` or use fewer "
    "--workers",
    errno.ENFILE: "too many files are open on this machine for {doing} {name}; try again later",
    errno.ENOMEM: "out of memory for {doing} {name}; use fewer --workers",
    errno.EAGAIN: "the system refused {doing} {name} (processes or threads ran out); raise "
    "`ulimit -u` or use fewer --workers",
    errno.EIO: "{doing} {name} failed: its disk reports an error; check the disk",
    errno.ESTALE: "{name} is gone from its network disk; mount it again",
    errno.ENXIO: "{name} is no regular file; name a file on a disk",
    errno.ECONNREFUSED: "nothing answers at {name}; check the address, and that it runs",
    errno.EHOSTUNREACH: "{name} cannot be reached; check the network",
    errno.ENETUNREACH: "{name} cannot be reached; check the network",
    errno.ETIMEDOUT: "{name} does not answer; check the address and the network",
    errno.ECONNRESET: "{name} broke off the connection; try again",
}  # fmt: skip
SYSTEM = {**SYSTEM, errno.EDQUOT: SYSTEM[errno.ENOSPC]}

# package of an exception's type -> the error that it becomes, and what is said before its own text
FOREIGN: Mapping[str, tuple[type[QuadratError], str]] = {
    **dict.fromkeys(("rasterio", "pyogrio"), (RasterError, "GDAL cannot use it")),
    **dict.fromkeys(("shapely", "pyproj"), (InputError, "its geometry or CRS cannot be used")),
    "pyarrow": (StorageError, "its table cannot be used"),
    **dict.fromkeys(("PIL", "imagecodecs", "pyspng"), (ImageError, "its picture is damaged")),
    **dict.fromkeys(("zlib", "lzma", "zipfile", "struct"), (InputError, "its bytes are damaged")),
    **dict.fromkeys(("json", "tomllib", "csv", "_csv", "xml"), (InputError, "its text is damaged")),
    **dict.fromkeys(("onnx", "google", "onnxruntime", "openvino"), (ModelError, "the graph fails")),
    "numpy": (InputError, "its numbers cannot be used"),
    **dict.fromkeys(("sqlite3", "sqlalchemy", "alembic", "mlflow"), (RunError, "it fails")),
    **dict.fromkeys(
        (
            "requests", "urllib3", "http", "ssl", "socket", "aiohttp", "botocore", "aiobotocore",
            "azure", "s3fs", "adlfs", "fsspec", "pystac", "pystac_client",
        ),
        (FetchError, "a service failed"),
    ),
    **dict.fromkeys(("py4j", "pyspark", "grpc"), (EngineError, "Spark failed")),
    "torch": (EngineError, "torch failed"),
}  # fmt: skip

TYPES: Mapping[type[OSError], int] = {
    FileNotFoundError: errno.ENOENT,
    PermissionError: errno.EACCES,
    FileExistsError: errno.EEXIST,
    IsADirectoryError: errno.EISDIR,
    NotADirectoryError: errno.ENOTDIR,
    ConnectionRefusedError: errno.ECONNREFUSED,
}
MAX_TEXT = 200


@contextmanager
def translated(
    name: str, doing: str = "reading", kind: type[QuadratError] | None = None
) -> Iterator[None]:
    """Turn what the block raises into one line about `name`; defects pass as they are.

    Args:
        doing: "reading", "writing", "listing" and so on.
        kind: the error that everything becomes; by default it depends on what was raised.
    """
    try:
        yield
    except QuadratError:
        raise
    except Exception as error:
        found = translate(error, name, doing, kind)
        if found is None:
            raise
        raise found from None


def translate(
    error: BaseException,
    name: str = "",
    doing: str = "reading",
    kind: type[QuadratError] | None = None,
) -> QuadratError | None:
    """An error in Quadrat's words; None where only a defect of Quadrat explains it.

    Args:
        name: what was worked on; taken from the error where it is empty and the error knows it.
        doing: see `translated`. kind: see `translated`.
    """
    if isinstance(error, QuadratError):
        return error
    if isinstance(error, OSError) and _package(error) not in ("rasterio", "PIL", "pyarrow"):
        return (kind or _kind_of(error) or StorageError)(_system(error, name, doing))
    found = _by_text(error, name) or _by_type(error, name)
    if found is not None:
        return (kind or type(found))(str(found))
    foreign = FOREIGN.get(_package(error))
    if foreign is None:
        return None
    default, said = foreign
    return (kind or default)(f"{name or 'the input'} failed: {said} ({short(error)}); replace it")


def _package(error: BaseException) -> str:
    return type(error).__module__.split(".")[0]


def _kind_of(error: BaseException) -> type[QuadratError] | None:
    foreign = FOREIGN.get(_package(error))
    return foreign[0] if foreign else None


def _system(error: OSError, name: str, doing: str) -> str:
    thing = name or (os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "")
    text = SYSTEM.get(error.errno or _number(error))
    if text is not None:
        return text.format(name=thing or "a file", doing=doing)
    return f"{doing} {thing or 'a file'} failed: {short(error)}"


def _number(error: OSError) -> int:
    """The errno that an error's type stands for: remote file systems give the type alone."""
    return next((n for kind, n in TYPES.items() if isinstance(error, kind)), 0)


def _by_text(error: BaseException, name: str) -> QuadratError | None:
    """Errors that Python raises under a common type and tells apart by their text alone."""
    text = str(error)
    if isinstance(error, ValueError) and re.search(r"null (byte|character)", text):
        return InputError(f"{name or 'a name'!r} holds a NUL byte; use another name")
    if isinstance(error, RuntimeError) and "start new thread" in text:
        return EngineError("the system starts no more threads; raise `ulimit -u`, or --workers 1")
    if isinstance(error, RuntimeError) and "home directory" in text:
        return StorageError("this user has no home folder; set HOME, or QUADRAT_CACHE to a folder")
    if isinstance(error, KeyError) and "getpwuid" in text:
        return StorageError("this user has no name on this machine; set USER and QUADRAT_CACHE")
    return None


def _by_type(error: BaseException, name: str) -> QuadratError | None:
    thing = name or "the input"
    if isinstance(error, MemoryError):
        return QuadratError("out of memory; use fewer --workers or smaller tiles")
    if isinstance(error, RecursionError):
        return InputError(f"{thing} is nested too deeply; make it flatter")
    if isinstance(error, OverflowError):
        return InputError(f"{thing} holds a number that is out of range ({short(error)})")
    if isinstance(error, UnicodeError):
        return InputError(f"{thing} holds text that is not UTF-8; save or name it as UTF-8")
    return None


def short(error: BaseException) -> str:
    """An error's text on one line of at most 200 characters, without secrets."""
    text = redact(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "..."


def check_regular(path: Path) -> int:
    """Bytes of a regular file; StorageError for pipes, devices and sockets, which have no end."""
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise StorageError(f"{path} is no regular file; copy it to a file on a disk first")
    return found.st_size
