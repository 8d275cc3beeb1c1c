"""Batches of a part read ahead of their use, on a thread of their own.

While one batch is computed on, the next ones are read, decoded and put together; all of that
releases the interpreter lock. Order and content are those of `read_part`, so results do not depend
on it. It does not know what batches are for.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from quadrat.tiles.sources import read_part
from quadrat.tiles.types import Batch, Part

AHEAD = 2  # batches that wait at most, for each part at work
BYTES = 5 << 20  # of a batch, about: 32 tiles of 224 px
_CHECK_S = 0.2

_pools: dict[int, ThreadPoolExecutor] = {}
_lock = threading.Lock()


def batch_tiles(size_px: int) -> int:
    """Tiles of a batch, a multiple of 4 (networks compute four at once), by their size."""
    return max(4, min(1024, BYTES // (3 * size_px * size_px) // 4 * 4))


def read_ahead(part: Part, batch_size: int, most: int = AHEAD) -> Iterator[Batch]:
    """The batches of `read_part`, in its order, read on another thread.

    An error of reading is raised where the batch is asked for.
    """
    waiting: queue.Queue[Batch | BaseException | None] = queue.Queue(most)
    left = threading.Event()

    def put(item: Batch | BaseException | None) -> bool:
        while not left.is_set():
            try:
                waiting.put(item, timeout=_CHECK_S)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for batch in read_part(part, batch_size):
                if not put(batch):
                    return
        except BaseException as error:  # noqa: BLE001 - raised where the batch is asked for
            put(error)
        else:
            put(None)

    _readers().submit(work)
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        left.set()


def _readers() -> ThreadPoolExecutor:
    """Threads that stay, so that files stay open from part to part; a forked process has its own.

    A thread is started only when none is idle: there are as many as parts at work at once.
    """
    with _lock:
        pool = _pools.get(os.getpid())
        if pool is None:
            _pools.clear()
            pool = ThreadPoolExecutor(256, thread_name_prefix="quadrat-read")
            _pools[os.getpid()] = pool
        return pool
