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

from quadrat import border
from quadrat.engines.contract import Abilities
from quadrat.errors import EngineError, QuadratError

P = TypeVar("P")
R = TypeVar("R")


NO_LIMIT = 1 << 16


def available_cpus() -> int:
    """Cores that this process may use: affinity and the container's CPU limit respected."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cpus, cgroup_limit()))


def cgroup_limit(root: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup") -> int:
    """CPUs that control groups allow, rounded up; a large number without a quota.

    Args:
        root: where the control groups are. own: which of them this process is in; a quota of any
            group above it counts too.
    """
    limits = [NO_LIMIT]
    for line in _lines(Path(own)) or ["0::/"]:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        # version 2 names no controllers; a container may show its own group as the root
        top = Path(root) / ("cpu" if controllers else "")
        steps = Path(path.strip().lstrip("/"))
        for group in (steps, *steps.parents):
            limits.append(_quota(top / group, "cpu" if controllers else ""))
    return min(limits)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _quota(group: Path, controller: str) -> int:
    """The CPUs of one control group."""
    if controller:
        found = _lines(group / "cpu.cfs_quota_us")[:1] + _lines(group / "cpu.cfs_period_us")[:1]
    else:
        found = " ".join(_lines(group / "cpu.max")[:1]).split()
    if len(found) < 2 or not all(v.isdigit() and int(v) > 0 for v in found[:2]):
        return NO_LIMIT  # `max`, -1, or no such file
    return max(1, -(-int(found[0]) // int(found[1])))


class LocalEngine:
    """The engine of one machine.

    Args:
        workers: tasks at the same time; by default one a core.
    """

    name = "local"
    abilities = Abilities(tasks_share_process=True)

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
    first = border.translate(failed[0][1]) or failed[0][1]
    texts = {str(border.translate(e) or e) for _, e in failed}
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
