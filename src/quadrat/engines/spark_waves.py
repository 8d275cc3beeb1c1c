"""One call of the Spark engine's `run`: which parts are out, which are back, which go again.

Parts go out in waves, each a Spark job of one task a slot, with enough waves under way that no slot
waits for a slow part. It does not know what tasks do.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from quadrat.engines import spark_session, spark_ship
from quadrat.engines.hosts import GRACE_S, Hosts
from quadrat.engines.spark_errors import translated

Outcome = tuple[int, bool, Any]  # place in the sequence, whether it went well, result or error
Wave = Sequence[int]  # places in the sequence of parts

log = logging.getLogger("quadrat.engines.spark")

JOBS = 8  # Spark jobs under way at once, at most
TASK_S = 2.0  # work in a Spark task: what a lost worker costs, and the interval of progress
MOST_PARTS = 64  # of a task
QUIET_S = 60.0  # without a running task, before the user is told that Spark gives no cores


class Waves:
    """The waves of one task over its parts."""

    def __init__(
        self,
        session: spark_session.Session,
        task: Callable[[Any], Any],
        parts: Sequence[Any],
        workers: int | None,
    ) -> None:
        self._session = session
        self._parts = parts
        self._workers = workers
        self._task = spark_ship.dumps(task, task)
        self._what = spark_ship.describe(task)
        self._sent = 0
        self._again: deque[Wave] = deque()  # waves that Spark gave up, cut smaller
        self._elsewhere: list[int] = []  # parts that wait for another host
        self._hosts = Hosts(session.hosts, 0.0 if session.is_local() else GRACE_S)
        self._back, self._first = 0, 0.0  # parts back after the first ones, and when these came
        self._tag = session.new_tag()

    def results(self) -> Iterator[Outcome]:
        """Every part's outcome, as the waves come back."""
        pool = ThreadPoolExecutor(JOBS, thread_name_prefix="quadrat-spark")
        waiting: dict[Future[list[spark_ship.Row]], Wave] = {}
        heard, warned = time.monotonic(), False
        try:
            while True:
                jobs, tasks = self._shape()
                while len(waiting) < jobs and (wave := self._next(jobs, tasks)):
                    waiting[pool.submit(self._send, wave, min(tasks, len(wave)))] = wave
                if not waiting:
                    return
                done, _ = wait(waiting, timeout=5.0, return_when=FIRST_COMPLETED)
                if done or self._session.tasks_at_work():
                    heard = time.monotonic()
                elif not warned and time.monotonic() - heard > QUIET_S:
                    warned = True
                    page = self._session.ui() or "its master's page"
                    log.warning("Spark has given this job no cores yet; see %s", page)
                for future in done:
                    yield from self._collect(future, waiting.pop(future))
        finally:
            if waiting:
                self._session.cancel(self._tag)
            pool.shutdown(wait=True, cancel_futures=True)

    def _shape(self) -> tuple[int, int]:
        """Jobs under way at once, and tasks in each.

        Three times as many tasks as there are slots, so that a slot finds its next one when a
        job's last tasks still run; with a limit on parts at work, no more than the limit.
        """
        if self._workers:
            jobs = min(JOBS, self._workers)
            return jobs, self._workers // jobs
        return 3, self._session.slots()

    def _next(self, jobs: int, tasks: int) -> Wave:
        if self._again:
            return self._again.popleft()
        if self._elsewhere:
            wave, self._elsewhere = self._elsewhere[:tasks], self._elsewhere[tasks:]
            return wave
        first = self._sent
        each = self._parts_a_task(jobs * tasks)
        self._sent = min(len(self._parts), first + tasks * each)
        return range(first, self._sent)

    def _parts_a_task(self, under_way: int) -> int:
        """Parts that take TASK_S by the finished ones, at most half of a slot's fair share."""
        if not self._back:
            return 1
        given = self._session.slots()
        slots = min(given, self._workers) if self._workers else given
        seconds = (time.monotonic() - self._first) * slots / self._back
        fair = (len(self._parts) - self._sent) // (2 * under_way)
        return max(1, min(fair, MOST_PARTS, int(TASK_S / max(seconds, 1e-3))))

    def _send(self, wave: Wave, tasks: int) -> list[spark_ship.Row]:
        """Run one wave as a Spark job; in a thread of its own, since a job's name is a thread's."""
        self._session.label(self._tag, self._title(wave))
        orders = [
            (spark_ship.dumps(self._parts[p], self._parts[p]), self._hosts.refusing(p))
            for p in wave
        ]
        return self._session.collect(spark_ship.work(self._task, orders), len(wave), tasks)

    def _title(self, wave: Wave) -> str:
        which = f"parts {wave[0] + 1} to {wave[-1] + 1}" if len(wave) > 1 else f"part {wave[0] + 1}"
        return f"quadrat {self._what}: {which} of {len(self._parts)}"

    def _collect(self, future: Future[list[spark_ship.Row]], wave: Wave) -> Iterator[Outcome]:
        error = future.exception()
        if error is None:
            rows = future.result()
            if self._first:
                self._back += sum(outcome == spark_ship.DONE for _, outcome, _, _ in rows)
            else:
                self._first = time.monotonic()
            for n, outcome, data, host in rows:
                yield from self._judged(wave[n], outcome, data, host)
        elif not isinstance(error, Exception):
            raise error
        elif self._session.is_gone():
            raise translated(error, "the Spark session ended") from error
        elif len(wave) > 1:
            # a part that kills its Python process takes its wave along: find it by halves
            middle = len(wave) // 2
            self._again += [wave[:middle], wave[middle:]]
        else:
            yield wave[0], False, translated(error, "Spark gave up on it")

    def _judged(self, place: int, outcome: str, data: bytes, host: str) -> Iterator[Outcome]:
        """The outcome of a part, unless another host is to try it."""
        if outcome == spark_ship.DONE:
            self._hosts.succeeded(place, host)
            yield place, True, spark_ship.loads(data)
            return
        if outcome == spark_ship.REFUSED:
            error = self._hosts.refused(place, host)
        else:
            error = spark_ship.loads(data)
            if self._hosts.failed(place, host, error):
                error = None
        if error is None:
            self._elsewhere.append(place)
        else:
            yield place, False, error
