"""Tasks on threads of this process, one a core.

Reading, decoding and inference all release the interpreter lock, and each task uses one thread of
its own, so that threads keep every core busy without a second copy of the model in memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

from quadrat.errors import EngineError, QuadratError

P = TypeVar("P")
R = TypeVar("R")


def available_cpus() -> int:
    """Cores that this process may use: affinity and the container's CPU limit respected."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cpus, _cgroup_limit()))


def _cgroup_limit() -> int:
    """CPUs that a container's quota allows, rounded up; a large number without a quota."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text().strip()
            period = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return 1 << 16
    if not quota.isdigit() or int(quota) <= 0:
        return 1 << 16
    return max(1, -(-int(quota) // int(period)))


class LocalEngine:
    """The engine of one machine.

    Args:
        workers: tasks at the same time; by default one a core.
    """

    name = "local"

    def __init__(self, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise EngineError(f"{workers} workers cannot work; give 1 or more")
        self.slots = workers or available_cpus()

    def run(self, task: Callable[[P], R], parts: Sequence[P]) -> Iterator[R]:
        """See `quadrat.engines.Engine`."""
        failed: list[tuple[P, BaseException]] = []
        pool = ThreadPoolExecutor(self.slots, thread_name_prefix="quadrat")
        waiting: dict[Future[R], P] = {}
        queue = iter(parts)
        try:
            # hand out a few ahead instead of all: a million futures would cost memory
            for part in queue:
                waiting[pool.submit(task, part)] = part
                if len(waiting) >= 2 * self.slots:
                    yield from self._collect(waiting, failed)
            while waiting:
                yield from self._collect(waiting, failed)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        if failed:
            raise failure(failed)

    @staticmethod
    def _collect(waiting: dict[Future[R], P], failed: list[tuple[P, BaseException]]) -> Iterator[R]:
        done, _ = wait(waiting, return_when=FIRST_COMPLETED)
        for future in done:
            part = waiting.pop(future)
            error = future.exception()
            if error is None:
                yield future.result()
            elif isinstance(error, Exception):
                failed.append((part, error))
            else:
                raise error


def failure(failed: Sequence[tuple[P, BaseException]]) -> QuadratError:
    """One error for the parts that failed: our own error itself where all failed alike."""
    first = failed[0][1]
    texts = {str(e) for _, e in failed}
    if isinstance(first, QuadratError) and len(texts) == 1:
        return first
    names = ", ".join(str(getattr(p, "name", p))[:80] for p, _ in failed[:5])
    more = f" and {len(failed) - 5} more" if len(failed) > 5 else ""
    kind = "" if isinstance(first, QuadratError) else f"{type(first).__name__}: "
    error = EngineError(
        f"{len(failed)} parts failed ({names}{more}); the rest is finished and kept, run again to "
        f"retry; first: {kind}{first}"
    )
    error.__cause__ = first
    return error
