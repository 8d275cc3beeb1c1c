"""Batches prepared on a thread of their own while the last one is used.

Reading, decoding and putting together release the interpreter lock. Order and content are what they
would be without the thread, so results do not depend on it. It does not know what batches are for.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from quadrat.tiles.sources import read_part
from quadrat.tiles.types import Batch, Part

T = TypeVar("T")
AHEAD = 2  # batches that wait at most, for each part at work
BYTES = 5 << 20  # of a batch, about: 32 tiles of 224 px
_CHECK_S = 0.2

_pools: dict[int, ThreadPoolExecutor] = {}
_lock = threading.Lock()


def batch_tiles(size_px: int) -> int:
    """Tiles of a batch, a multiple of 4 (networks compute four at once), by their size."""
    return max(4, min(1024, BYTES // (3 * size_px * size_px) // 4 * 4))


def read_ahead(part: Part, batch_size: int, most: int = AHEAD) -> Iterator[Batch]:
    """The batches of `read_part`, in its order, read on another thread."""
    return prefetched(read_part(part, batch_size), most)


def prefetched(items: Iterator[T], most: int = AHEAD) -> Iterator[T]:
    """The same items in the same order, made on another thread while the last one is used.

    An error there is raised where the item is asked for. When the caller stops early, so does the
    thread.

    Args:
        most: items that wait at most.
    """
    ready: queue.Queue[T | BaseException] = queue.Queue(most)
    stop = threading.Event()

    def put(item: T | BaseException) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=_CHECK_S)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            if all(map(put, items)):
                put(StopIteration())
        except BaseException as error:  # noqa: BLE001 - raised where the item is asked for
            put(error)

    working = _readers().submit(work)
    try:
        while not isinstance(item := ready.get(), StopIteration):
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        working.result()


def _readers() -> ThreadPoolExecutor:
    """The pool of reading threads, which keep files open from part to part; one a process.

    A thread is started only when none is idle: there are as many as parts at work at once.
    """
    with _lock:
        pool = _pools.get(os.getpid())
        if pool is None:
            _pools.clear()
            pool = ThreadPoolExecutor(256, thread_name_prefix="quadrat-read")
            _pools[os.getpid()] = pool
        return pool
