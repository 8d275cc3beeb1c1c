"""Files from the web: resumable, checked, in parallel; whole under their names or not there.

A download grows in `<file>.part`; `<file>.part.json` says which version of the file it is of (its
strong ETag) and how long the whole is. A download that was stopped goes on where it ended, with
`Range` and `If-Range` (RFC 9110), so that a file that changed meanwhile is begun anew instead of
being patched together. When all bytes are there, their number, the server's MD5 (where it sends
one) and a read of the file are checked; only then does it get its name. It does not know what it
fetches.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from quadrat import storage
from quadrat.errors import FetchError, QuadratError, StorageError
from quadrat.fetching import http
from quadrat.fetching.signing import Signer
from quadrat.redaction import redact

WORKERS = 4
REFUSED = (401, 403)
UNRANGED = 416
SPARE = 50 << 20  # bytes to leave free on the disk


@dataclass(frozen=True)
class Wanted:
    """One file to fetch.

    Attributes:
        href: its address, unsigned.
        path: where it goes.
        size: bytes of the whole, where known; a file of another length is refused.
        check: reads the finished download and raises a QuadratError when it is damaged.
        before: called just before the file gets its name (to write what must exist with it).
    """

    href: str
    path: Path
    size: int | None = None
    check: Callable[[Path], object] | None = None
    before: Callable[[int], object] | None = None

    @property
    def part(self) -> Path:
        """The file that holds what has arrived so far."""
        return self.path.with_name(self.path.name + ".part")

    @property
    def note(self) -> Path:
        """The JSON file with the ETag, size and MD5 of the download."""
        return self.path.with_name(self.path.name + ".part.json")


@dataclass(frozen=True)
class Failure:
    """A file that could not be fetched, and why."""

    wanted: Wanted
    error: QuadratError


class _Stopped(Exception):
    """Raised in transfers when the user or another failure ends the run."""


def download(
    client: http.Client,
    wanted: Sequence[Wanted],
    *,
    signer: Signer | None = None,
    workers: int = WORKERS,
    already: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Failure]:
    """Fetch files in parallel; those that could not be fetched do not stop the others.

    Args:
        already: bytes of files that are there and not wanted any more, for the progress.
        on_progress: called with bytes there and bytes in all; the first call counts what earlier
            runs left.

    Raises:
        StorageError: not enough space for the rest, or a disk that cannot be written.
    """
    total = already + sum(w.size or 0 for w in wanted)
    done = _Counter(total, on_progress)
    done.add(already + sum(_length(w.part) for w in wanted))
    _check_space(wanted)
    stop = threading.Event()
    failures: list[Failure] = []
    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="fetch") as pool:
        jobs = {pool.submit(download_one, client, w, signer, done.add, stop): w for w in wanted}
        try:
            for job in as_completed(jobs):
                try:
                    job.result()
                except StorageError:
                    raise
                except _Stopped:
                    continue
                except QuadratError as error:
                    failures.append(Failure(jobs[job], error))
        finally:
            stop.set()
            for job in jobs:
                job.cancel()
    return failures


def download_one(
    client: http.Client,
    wanted: Wanted,
    signer: Signer | None = None,
    add: Callable[[int], None] | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Fetch one file; a partial download is continued.

    Raises:
        FetchError: it is refused, gone, or was damaged twice.
        StorageError: it cannot be written.
    """
    count = add or (lambda _: None)
    with _writing(wanted.path):
        pass  # makes the folder, or says why not
    for second in (False, True):
        _Transfer(client, wanted, signer, count, stop or threading.Event()).run()
        try:
            _verify(wanted)
        except QuadratError as error:
            count(-_length(wanted.part))
            wanted.part.unlink(missing_ok=True)
            wanted.note.unlink(missing_ok=True)
            if second:
                raise FetchError(
                    f"{redact(wanted.href)} came damaged twice ({error}); it is damaged at its "
                    "source: leave it out, or tell the service"
                ) from None
            continue
        _finish(wanted)
        return


class _Transfer:
    """The bytes of one file, over as many requests as it takes."""

    def __init__(
        self,
        client: http.Client,
        wanted: Wanted,
        signer: Signer | None,
        add: Callable[[int], None],
        stop: threading.Event,
    ) -> None:
        self.client, self.wanted, self.signer = client, wanted, signer
        self.add, self.stop = add, stop

    def run(self) -> None:
        """Send requests until the download is complete."""
        failed = refused = 0
        while True:
            before = _length(self.wanted.part)
            try:
                self._request()
                return
            except http.CutError as error:
                # a server that goes on sending is worth going on with, however often it cuts
                failed = 1 if _length(self.wanted.part) > before else failed + 1
                if failed >= self.client.policy.attempts:
                    raise FetchError(
                        f"{error}, {failed} times; run the same command again (what came is kept)"
                    ) from None
                self.client.sleep(self.client.wait(failed))
            except _RefusedRequest as error:
                refused = 1 if _length(self.wanted.part) > before else refused + 1
                renewed = self.signer is not None and self.signer.renew(error.url)
                if not renewed or refused > 2:
                    raise FetchError(
                        f"{redact(self.wanted.href)} answered {error.status}; access is "
                        "refused: check --sas and that the collection is public"
                    ) from None

    def _request(self) -> None:
        """One request for what is missing. CutError and _RefusedRequest mean: try again."""
        wanted = self.wanted
        have, note = _resumable(wanted)
        if have and have == note.get("size"):
            return  # stopped after the last byte
        headers = {"Range": f"bytes={have}-", "If-Range": note["etag"]} if have else {}
        if not have:
            self._drop()
        url = self.signer.sign(wanted.href) if self.signer else wanted.href
        also = (*REFUSED, UNRANGED)
        with self.client.stream(url, headers=headers, accept=also) as (head, chunks):
            if head.status in REFUSED:
                raise _RefusedRequest(url, head.status)
            goes_on = head.status == 206 and head.start == have and head.etag == note.get("etag")
            if have and head.status != 200 and not goes_on:
                self._drop()  # of another version, or not the range that was asked for
                raise http.CutError(f"{redact(wanted.href)} changed while it was fetched")
            if head.status == UNRANGED:
                raise FetchError(f"{redact(wanted.href)} refuses a plain request (416)")
            if have and head.status == 200:  # of another version: the whole of it comes
                self._drop()
                have = 0
            self._check_length(head)
            self._append(head, chunks, have)

    def _drop(self) -> None:
        self.add(-_length(self.wanted.part))
        self.wanted.part.unlink(missing_ok=True)
        self.wanted.note.unlink(missing_ok=True)

    def _check_length(self, head: http.Response) -> None:
        size = self.wanted.size
        if size is not None and head.length is not None and head.length != size:
            raise FetchError(
                f"{redact(self.wanted.href)} has {head.length:,} bytes where {size:,} were "
                "announced: it changes at this moment; run the same command again"
            )

    def _append(self, head: http.Response, chunks: Any, have: int) -> None:
        wanted = self.wanted
        with _writing(wanted.path):
            if not have:
                md5 = head.headers.get("content-md5")
                facts = {"etag": head.etag, "size": head.length, "md5": md5}
                storage.write_json(str(wanted.note), facts)
            # unbuffered: what came before a kill is on the disk and need not come again
            with wanted.part.open("ab" if have else "wb", buffering=0) as file:
                for chunk in chunks:
                    self._write(file, chunk)
        if head.length is not None and _length(wanted.part) < head.length:
            raise http.CutError(f"{redact(wanted.href)} ended in the middle of an answer")

    def _write(self, file: BinaryIO, chunk: bytes) -> None:
        if self.stop.is_set():
            raise _Stopped
        view = memoryview(chunk)
        while view:  # an unbuffered file may take less than it is given
            view = view[file.write(view) :]
        self.add(len(chunk))


class _RefusedRequest(Exception):
    """The server refuses a signature."""

    def __init__(self, url: str, status: int) -> None:
        super().__init__(str(status))
        self.url, self.status = url, status


def _note(wanted: Wanted) -> dict[str, Any]:
    try:
        note = storage.read_json(str(wanted.note))
    except StorageError:
        return {}
    return note if isinstance(note, dict) else {}


def _resumable(wanted: Wanted) -> tuple[int, dict[str, Any]]:
    """How many bytes can be continued from, and the ETag, size and MD5 of the whole."""
    have, note = _length(wanted.part), _note(wanted)
    size = note.get("size")
    # without a strong tag nothing says that the rest is of the same version
    if not isinstance(note.get("etag"), str) or not isinstance(size, int) or have > size:
        return 0, {}
    return have, note


def _verify(wanted: Wanted) -> None:
    size, note = _length(wanted.part), _note(wanted)
    whole = note.get("size") if wanted.size is None else wanted.size
    if whole is not None and size != whole:
        raise FetchError(f"it has {size:,} bytes of {whole:,}")
    if md5 := note.get("md5"):
        with wanted.part.open("rb") as file:
            total = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
        if base64.b64encode(total.digest()).decode() != md5:
            raise FetchError("its bytes do not have the sum that the server states")
    if wanted.check is not None:
        wanted.check(wanted.part)


def _finish(wanted: Wanted) -> None:
    with _writing(wanted.path):
        with wanted.part.open("rb+") as file:
            os.fsync(file.fileno())
        if wanted.before is not None:
            wanted.before(_length(wanted.part))
        wanted.part.replace(wanted.path)
        wanted.note.unlink(missing_ok=True)


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _check_space(todo: Sequence[Wanted]) -> None:
    if not todo:
        return
    need = sum(max(0, (w.size or 0) - _length(w.part)) for w in todo)
    folder = todo[0].path.parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if need + SPARE > free:
        raise StorageError(
            f"{need / 1e9:.2f} GB are to be fetched to {folder}, which has {free / 1e9:.2f} GB "
            "free; free some, choose another --out, or use --link"
        )


@contextlib.contextmanager
def _writing(path: Path) -> Any:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written ({error.strerror or error}); check the space and the "
            "permissions of its folder, and run the same command again (finished files are kept)"
        ) from None


class _Counter:
    """Bytes that are there, counted from several threads."""

    def __init__(self, total: int, on_progress: Callable[[int, int], None] | None) -> None:
        self._done, self._total, self._tell = 0, total, on_progress
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Count more bytes (or fewer, when some were thrown away)."""
        with self._lock:
            self._done += count
            if self._tell is not None:
                self._tell(self._done, self._total)
