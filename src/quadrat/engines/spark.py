"""Tasks on a Spark cluster, or on this machine by Spark.

The driver sends the pickled task and the parts out, and gets each part's small result back; what a
part names is read and written by the workers. Parts go out in waves, each a Spark job of one task a
slot, with enough waves under way that no slot waits for a slow part. A task works on several parts
where parts are quick, because starting one costs Spark some 20 ms; towards the end tasks get small
again, so that slots end together. A failure of the task itself comes back as a value, so that Spark
retries only what it is for: lost workers and executors.

It does not know what tasks do. Sessions are made in `spark_session`; the package is brought to the
workers by `spark_ship`.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Self, TypeVar

from quadrat.engines import spark_session, spark_ship
from quadrat.engines.local import failure
from quadrat.errors import EngineError

P = TypeVar("P")
R = TypeVar("R")
Outcome = tuple[int, bool, Any]  # place in the sequence, whether it went well, result or error

log = logging.getLogger("quadrat.engines.spark")

JOBS = 8  # Spark jobs under way at once, at most
TASK_S = (
    2.0  # of work in a Spark task, about; what a lost worker costs, and progress comes so often
)
MOST_PARTS = 64  # of a task
QUIET_S = 60.0  # without a task at work for so long, say that Spark has given no cores


class SparkEngine:
    """The engine of a cluster.

    Args:
        master: `local[*]` (the default), `spark://host:7077`, `yarn`, `k8s://...`, or
            `sc://host:15002` for Spark Connect. When it is None, a session that this process has
            already (a notebook on Databricks), and what `spark-submit` says, are used.
        workers: parts at work at once; by default as many as Spark has cores.
        conf: Spark settings (`{"spark.executor.memory": "4g"}`); those of `spark-defaults.conf`
            and of `spark-submit` hold as well.
        app: the application's name in Spark's pages.

    Raises:
        MissingExtraError: pyspark is not installed.
        EngineError: Java is missing, the master cannot be reached, or this process has a session of
            another master.
    """

    name = "spark"

    def __init__(
        self,
        master: str | None = None,
        *,
        workers: int | None = None,
        conf: Mapping[str, str] | None = None,
        app: str = "quadrat",
    ) -> None:
        if workers is not None and workers < 1:
            raise EngineError(f"{workers} workers cannot work; give 1 or more")
        self._workers = workers
        self._session = spark_session.open_session(master, workers, conf or {}, app)

    @property
    def slots(self) -> int:
        """Tasks at work at the same time: what the cluster gives now."""
        given = self._session.slots()
        return min(given, self._workers) if self._workers else given

    @property
    def ui(self) -> str | None:
        """The address of Spark's own page on this application, where it has one."""
        return self._session.ui()

    @property
    def spark(self) -> Any:
        """The `SparkSession`."""
        return self._session.spark

    def prepare(self) -> None:
        """Bring this package to the workers, for jobs that are not run by `run`."""
        self._session.ready()

    def close(self) -> None:
        """End the session if this engine started it."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def run(self, task: Callable[[P], R], parts: Sequence[P]) -> Iterator[R]:
        """See `quadrat.engines.Engine`."""
        if not len(parts):
            return
        self.prepare()
        failed: list[tuple[P, BaseException]] = []
        for place, ok, result in _Waves(self._session, task, parts, self._workers).results():
            if ok:
                yield result
            else:
                failed.append((parts[place], result))
        if failed:
            raise failure(failed)


class _Waves:
    """One call of `run`: which parts are out, and which are back."""

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
        self._again: deque[range] = deque()  # waves that Spark gave up, cut smaller
        self._back, self._first = 0, 0.0  # parts back after the first ones, and when these came
        self._tag = session.new_tag()

    def results(self) -> Iterator[Outcome]:
        """Every part's outcome, as the waves come back."""
        pool = ThreadPoolExecutor(JOBS, thread_name_prefix="quadrat-spark")
        waiting: dict[Future[list[Outcome]], range] = {}
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

    def _next(self, jobs: int, tasks: int) -> range:
        if self._again:
            return self._again.popleft()
        first = self._sent
        each = self._parts_a_task(jobs * tasks)
        self._sent = min(len(self._parts), first + tasks * each)
        return range(first, self._sent)

    def _parts_a_task(self, under_way: int) -> int:
        """As many parts as take TASK_S by what is back, and at most half of what each will get."""
        if not self._back:
            return 1
        given = self._session.slots()
        slots = min(given, self._workers) if self._workers else given
        seconds = (time.monotonic() - self._first) * slots / self._back
        fair = (len(self._parts) - self._sent) // (2 * under_way)
        return max(1, min(fair, MOST_PARTS, int(TASK_S / max(seconds, 1e-3))))

    def _send(self, wave: range, tasks: int) -> list[Outcome]:
        """Run one wave as a Spark job; in a thread of its own, since a job's name is a thread's."""
        self._session.label(self._tag, self._title(wave))
        parts = {place: self._parts[place] for place in wave}
        work = spark_ship.work(self._task, {k: spark_ship.dumps(p, p) for k, p in parts.items()})
        rows = self._session.collect(work, wave, tasks)
        return [(place, ok, spark_ship.loads(data)) for place, ok, data in rows]

    def _title(self, wave: range) -> str:
        which = f"parts {wave.start + 1} to {wave.stop}" if len(wave) > 1 else f"part {wave[0] + 1}"
        return f"quadrat {self._what}: {which} of {len(self._parts)}"

    def _collect(self, future: Future[list[Outcome]], wave: range) -> Iterator[Outcome]:
        error = future.exception()
        if error is None:
            if self._first:
                self._back += len(wave)
            else:
                self._first = time.monotonic()
            yield from future.result()
        elif not isinstance(error, Exception):
            raise error
        elif self._session.is_gone():
            raise spark_session.translated(error, "the Spark session ended") from error
        elif len(wave) > 1:
            # a part that kills its Python process takes its wave along: find it by halves
            middle = wave.start + len(wave) // 2
            self._again += [range(wave.start, middle), range(middle, wave.stop)]
        else:
            yield wave[0], False, spark_session.translated(error, "Spark gave up on it")


def pandas_udf(function: Callable[..., Any], returns: str) -> Any:
    """A pandas UDF for the session that this process has, whose workers get this package.

    For modules that must not import pyspark themselves.

    Args:
        returns: the result's type in Spark's words (`"array<float>"`).

    Raises:
        EngineError: there is no session.
    """
    spark_session.current_session().ready()
    return spark_session.import_pyspark("pyspark.sql.functions").pandas_udf(function, returns)
