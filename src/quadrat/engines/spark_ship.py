"""What travels to Spark's workers: the package itself, tasks and parts, and results back.

Functions that run on workers before the package is there are closures, since cloudpickle sends
those whole. Pickles pass only between a driver and its own workers, as in all of Spark; none is
kept.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import io
import json
import logging
import os
import platform
import shutil
import sys
import sysconfig
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import quadrat
from quadrat.engines.hosts import PAUSE_S
from quadrat.engines.spark_errors import import_pyspark
from quadrat.errors import EngineError

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "GDAL_NUM_THREADS",
)

# What reading, decoding and scoring need on a worker; nothing of training.
NEEDED = ("numpy", "pyarrow", "fsspec", "rasterio", "shapely", "PIL", "onnxruntime")

LOOKS = 32  # at workers before the first job, at most
DONE, FAILED, REFUSED = "done", "failed", "refused"
Row = tuple[int, str, bytes, str]  # a part's number, outcome, pickled result or error, the host
Order = tuple[bytes, frozenset[str]]  # a pickled part, and the hosts that must not work on it
Work = Callable[[Iterable[int]], Iterator[Row]]
SCHEMA = "number long, outcome string, data binary, host string"  # of rows, for Spark Connect

log = logging.getLogger("quadrat.engines.spark")
_pickling = threading.Lock()


class _Shipper(Protocol):
    def collect(self, work: Work, count: int, tasks: int) -> list[Row]: ...

    def slots(self) -> int: ...

    def add_package(self, path: str) -> None: ...


def describe(task: Callable[..., Any]) -> str:
    """What a task does, for the names of jobs: the function's name in words."""
    while isinstance(task, functools.partial):
        task = task.func
    name = getattr(task, "__name__", type(task).__name__)
    return name.strip("_<>").replace("_", " ") or "task"


def dumps(value: Any, origin: Any) -> bytes:
    """Pickle a value for the workers.

    Modules that workers cannot have (a script, a notebook's helper file, a test) are sent whole.

    Args:
        origin: what says which module the value is from: the value itself, mostly.

    Raises:
        EngineError: it cannot be pickled.
    """
    cloudpickle = _cloudpickle()
    with _sent_whole(cloudpickle, origin):
        try:
            return bytes(cloudpickle.dumps(value))
        except Exception as error:  # noqa: BLE001 - an object's own reduce may raise anything
            raise EngineError(
                f"{describe(value) if callable(value) else type(value).__name__} cannot be sent to "
                f"Spark's workers: {error}"
            ) from None


def loads(data: bytes) -> Any:
    """A value that a worker of this driver sent back."""
    return _cloudpickle().loads(data)


def _cloudpickle() -> Any:
    return import_pyspark("pyspark.cloudpickle")


@contextmanager
def _sent_whole(cloudpickle: Any, origin: Any) -> Iterator[None]:
    while isinstance(origin, functools.partial):
        origin = origin.func
    name = getattr(origin, "__module__", None) or type(origin).__module__
    module = sys.modules.get(name)
    with _pickling:  # cloudpickle's list of modules is the process's
        if module is None or name == "__main__" or not _is_private(module):
            yield
            return
        cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            cloudpickle.unregister_pickle_by_value(module)


def _is_private(module: Any) -> bool:
    """Whether a module is of no installed package, so that workers lack it."""
    file = getattr(module, "__file__", None)
    if file is None or module.__name__.split(".")[0] in ("quadrat", "pyspark"):
        return False
    paths = sysconfig.get_paths()
    roots = {Path(paths[k]).resolve() for k in ("stdlib", "platstdlib", "purelib", "platlib")}
    return not any(root in Path(file).resolve().parents for root in roots)


def work(task: bytes, orders: Sequence[Order]) -> Work:
    """The function that Spark runs on workers: numbers of orders in, rows out."""
    threads, settle, own_name = THREADS, _settle_function(), host_function()
    done, failed, refused, pause_s = DONE, FAILED, REFUSED, PAUSE_S

    def run_parts(numbers: Iterable[int]) -> Iterator[Row]:
        import os
        import pickle
        import time

        from pyspark import cloudpickle

        dump: Callable[[object], bytes] = cloudpickle.dumps
        for name in threads:  # in a session that was not started by us
            os.environ.setdefault(name, "1")

        def error_bytes(error: Exception) -> bytes:
            try:
                data = dump(error)
                pickle.loads(data)  # noqa: S301 - some errors pickle, and then do not load
                return data
            except Exception:  # noqa: BLE001
                text = f"{type(error).__name__}: {error}"
                return dump(RuntimeError(text))

        host, paused = own_name(), False
        for number in numbers:
            part, refusing = orders[number]
            if host in refusing:
                if not paused:
                    time.sleep(pause_s)
                paused = True
                yield number, refused, b"", host
                continue
            try:
                function = pickle.loads(task)  # noqa: S301 - from this worker's own driver
                result = function(pickle.loads(part))  # noqa: S301
                row = number, done, dump(result), host
            except Exception as error:  # noqa: BLE001 - the driver raises it when the rest is done
                row = number, failed, error_bytes(error), host
            settle()
            yield row

    return run_parts


def host_function() -> Callable[[], str]:
    """A worker's host by name: the address that it was given, or the machine's name; a closure."""

    def host() -> str:
        import os
        import socket

        return os.environ.get("SPARK_LOCAL_IP") or socket.gethostname()

    return host


def _settle_function() -> Callable[[], None]:
    """Call `gc.freeze()` once per worker; a closure.

    Spark has a worker collect garbage after each task. Over the modules and the model that stay
    for the process's life that takes 50 ms, of a task of about a second.
    """

    def settle() -> None:
        import gc
        import sys

        kept = sys.__dict__.setdefault("_quadrat_settled", [])
        if not kept:
            kept.append(True)
            gc.collect()
            gc.freeze()

    return settle


def in_arrow(work: Work) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """The same function over Arrow batches: Spark Connect has no other way."""
    names = [column.split()[0] for column in SCHEMA.split(", ")]

    def run_batches(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        for batch in batches:
            for row in work(batch.column(0).to_pylist()):
                kinds = (pa.int64(), pa.string(), pa.binary(), pa.string())
                columns = [pa.array([v], kind) for v, kind in zip(row, kinds, strict=True)]
                yield pa.RecordBatch.from_arrays(columns, names=names)

    return run_batches


def prepare(session: _Shipper) -> None:
    """Look at workers: send this package unless they have the same; refuse what cannot work.

    A host that lacks something where others do not is named and left to `hosts`.

    Raises:
        EngineError: every worker lacks a library, or has another Python.
    """
    seen = _look(session)
    lacks = {host: text for host, found in seen.items() if (text := _lack(found))}
    if len(lacks) == len(seen):
        raise EngineError(next(iter(lacks.values())))
    for host, text in lacks.items():
        log.warning("the host %s cannot work, others can: %s", host, text)
    own = package_digest(_package())
    if any(found["digest"] != own for host, found in seen.items() if host not in lacks):
        session.add_package(package_zip())


def _lack(found: Mapping[str, Any]) -> str | None:
    """What a worker cannot work without, with the cure; None where it can."""
    own = ".".join(platform.python_version_tuple()[:2])
    if found["python"] != own:
        return (
            f"the workers have Python {found['python']}, this is Python {own}; set PYSPARK_PYTHON "
            f"to one of Python {own} on the workers"
        )
    if found["missing"]:
        return (
            f"the workers' Python lacks {', '.join(found['missing'])}; install quadrat there "
            "(pip install quadrat), or set PYSPARK_PYTHON to a Python that has it"
        )
    return None


def _look(session: _Shipper) -> dict[str, dict[str, Any]]:
    """By host: Python version, digest of its own quadrat, and needed modules that it lacks."""
    needed, digest_of, own_name = NEEDED, _digest_function(), host_function()

    def look(numbers: Iterable[int]) -> Iterator[Row]:
        import importlib.util
        import json
        import platform

        for number in numbers:
            spec = importlib.util.find_spec("quadrat")
            folders = list(spec.submodule_search_locations or []) if spec else []
            found = {
                "python": ".".join(platform.python_version_tuple()[:2]),
                "digest": digest_of(folders[0]) if folders else None,
                "missing": [n for n in needed if importlib.util.find_spec(n) is None],
            }
            yield number, "", json.dumps(found).encode(), own_name()

    count = max(1, min(session.slots(), LOOKS))
    rows = session.collect(look, count, count)
    return {host: json.loads(data) for _, _, data, host in rows}


def _package() -> str:
    return str(Path(quadrat.__file__).parent)


def _digest_function() -> Callable[[str], str | None]:
    """`package_digest` as a closure, which travels whole."""

    def digest(folder: str) -> str | None:
        import hashlib
        import os

        total = hashlib.sha256()
        names = []
        for root, folders, files in os.walk(folder):
            folders[:] = [f for f in folders if f != "__pycache__"]
            names += [os.path.join(root, f) for f in files]  # noqa: PTH118
        if not names:  # in a zip, say
            return None
        for name in sorted(names):
            total.update(os.path.relpath(name, folder).encode() + b"\0")
            with open(name, "rb") as file:  # noqa: PTH123
                total.update(hashlib.sha256(file.read()).digest())
        return total.hexdigest()

    return digest


def package_digest(folder: str) -> str | None:
    """SHA-256 over a package's files and their names; None when there are none to read."""
    return _digest_function()(folder)


def package_zip() -> str:
    """A zip of this package, named by its digest; its path.

    Spark hands the file to every worker that starts, so it stays until this process ends.
    """
    folder = Path(_package())
    digest = hashlib.sha256((package_digest(str(folder)) or "").encode()).hexdigest()[:12]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, Path("quadrat") / path.relative_to(folder))
    # a folder of its own: a name that another user can foresee in /tmp could be theirs
    place = tempfile.mkdtemp(prefix="quadrat-")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    target = Path(place) / f"quadrat-{digest}.zip"
    target.write_bytes(out.getvalue())
    return os.fspath(target)
