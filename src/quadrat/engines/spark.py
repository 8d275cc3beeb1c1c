"""Tasks on a Spark cluster, or on this machine by Spark.

The driver sends the pickled task and the parts out, and gets each part's small result back; what a
part names is read and written by the workers. A task works on several parts where parts are quick,
because starting one costs Spark some 20 ms; towards the end tasks get small again, so that slots
end together. A failure of the task itself comes back as a value, so that Spark retries only what it
is for: lost workers and executors. A failure that may be its host's goes to another host (`hosts`).

It does not know what tasks do. Sessions are made in `spark_session`; the package is brought to the
workers by `spark_ship`; parts go out in `spark_waves`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from quadrat.engines import spark_session
from quadrat.engines.contract import Abilities
from quadrat.engines.local import failure
from quadrat.engines.spark_errors import import_pyspark
from quadrat.engines.spark_waves import Waves
from quadrat.errors import EngineError

P = TypeVar("P")
R = TypeVar("R")


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

    @property
    def abilities(self) -> Abilities:
        """Connect does not show a forest's trees."""
        heads = ("logistic",) if self._session.connect else ("logistic", "forest")
        return Abilities(trains_heads=heads, starts_processes=True)

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
        for place, ok, result in Waves(self._session, task, parts, self._workers).results():
            if ok:
                yield result
            else:
                failed.append((parts[place], result))
        if failed:
            raise failure(failed)


def pandas_udf(function: Callable[..., Any], returns: str) -> Any:
    """A pandas UDF for the session that this process has, whose workers get this package.

    For modules that must not import pyspark themselves.

    Args:
        returns: the result's type in Spark's words (`"array<float>"`).

    Raises:
        EngineError: there is no session.
    """
    session = spark_session.current_session()
    session.ready()
    with session.functions():
        return import_pyspark("pyspark.sql.functions").pandas_udf(function, returns)
