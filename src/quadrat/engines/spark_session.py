"""Spark sessions: found or started, with settings that suit parts worked on by one thread each.

It does not know tasks or parts.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from quadrat.engines import spark_ship
from quadrat.engines.spark_errors import import_pyspark, translated
from quadrat.errors import EngineError
from quadrat.redaction import redact

# Spark itself sets OMP_NUM_THREADS to an executor's cores for each of its Python processes: with a
# process a core that is cores times too many.
DEFAULTS = {
    **{f"spark.executorEnv.{name}": "1" for name in spark_ship.THREADS},
    "spark.ui.showConsoleProgress": "false",  # it would write over ours
    "spark.log.level": "ERROR",
    "spark.python.worker.reuse": "true",  # a model is loaded once a process
    # Spark's own retries end on another host, where one lacks Python, say
    "spark.excludeOnFailure.taskAndStage.enabled": "true",
    "spark.excludeOnFailure.task.maxTaskAttemptsPerExecutor": "2",
}

# Without a cluster nobody else has business here: ports on loopback, behind a secret of the process
# (Spark makes one for local masters), and no web page, which would have neither.
LOOPBACK = "127.0.0.1"
ALONE = {
    "spark.driver.host": LOOPBACK,
    "spark.driver.bindAddress": LOOPBACK,
    "spark.ui.enabled": "false",
    "spark.authenticate": "true",
}

MASTERS = r"local(\[.+\])?$|local-cluster\[|spark://.|yarn$|k8s://.|sc://."

CONNECT_MODE = "SPARK_CONNECT_MODE_ENABLED"
CONNECT_SLOTS = 64  # Spark Connect does not tell how many cores the cluster has

_tags = itertools.count(1)


def open_session(
    master: str | None, workers: int | None, conf: Mapping[str, str], app: str
) -> Session:
    """The session that this process has, when it fits what is asked; else a new one."""
    if master is not None and not re.match(MASTERS, master):
        raise EngineError(
            f"{master} is no Spark master; use local[*], spark://host:7077, yarn, k8s://... or "
            "sc://host:15002"
        )
    found = _found()
    if found is not None:
        return _joined(found, master, conf)
    try:
        if master is not None and master.startswith("sc://"):
            return Session(_connect(master, conf), owned=True)
        return Session(_start(master, workers, conf, app), owned=True)
    except EngineError:
        raise
    except Exception as error:  # noqa: BLE001 - py4j, grpc and Spark each have their own tree
        raise translated(error, f"Spark cannot start on {master or 'local[*]'}") from None


def current_session() -> Session:
    """The session that this process has; EngineError without one."""
    found = _found()
    if found is None:
        raise EngineError("there is no Spark session; make one first (SparkSession.builder...)")
    return Session(found, owned=False)


def _found() -> Any:
    """This process's session, or None. A process has one Spark context at most."""
    import_pyspark("pyspark.sql")
    if (connect := _found_connect()) is not None:
        return connect
    if os.environ.get("SPARK_REMOTE"):
        return import_pyspark("pyspark.sql").SparkSession.builder.getOrCreate()
    context = import_pyspark("pyspark").SparkContext._active_spark_context
    if context is None or context._jsc is None:
        return None
    return import_pyspark("pyspark.sql").SparkSession.builder.getOrCreate()


def _found_connect() -> Any:
    """This process's Spark Connect session, of this thread or of another one, or None."""
    module = sys.modules.get("pyspark.sql.connect.session")
    if module is None:
        return None
    for found in (
        module.SparkSession.getActiveSession(),
        getattr(module.SparkSession, "_default_session", None),
    ):
        if found is not None and not found.is_stopped:
            return found
    return None


def _joined(spark: Any, master: str | None, conf: Mapping[str, str]) -> Session:
    session = Session(spark, owned=False)
    if session.connect:
        if master is not None and not master.startswith("sc://"):
            raise EngineError(
                f"this process has a Spark Connect session, not one of {master}; "
                "stop it or leave --master out"
            )
    elif master is not None and spark.sparkContext.master != master:
        raise EngineError(
            f"this process has a Spark session of {spark.sparkContext.master} already; "
            f"stop it, or leave --master {master} out to use it"
        )
    unlike = [k for k, v in conf.items() if session.setting(k) != v]
    if unlike:
        raise EngineError(
            f"{unlike[0]} cannot be set: this process has a Spark session already; stop it first"
        )
    return session


def _start(master: str | None, workers: int | None, conf: Mapping[str, str], app: str) -> Any:
    settings = {"spark.app.name": app, **DEFAULTS}
    if master is not None:
        settings["spark.master"] = master
        if master.startswith("spark://") and workers:
            settings["spark.cores.max"] = str(workers)
    settings.update(conf)
    if _is_on_this_machine(master) and "spark.pyspark.python" not in settings:
        # workers here must be this very interpreter, not the first `python3` of the path
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    settings = {**_unless_a_cluster(_launched(settings), settings), **settings}
    builder = import_pyspark("pyspark.sql").SparkSession.builder
    for key, value in settings.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def _launched(settings: Mapping[str, str]) -> Any:
    """Start Java; its `SparkConf`, which knows what spark-submit and spark-defaults.conf say.

    Settings travel to Java as arguments, which every user of the machine sees: those with a secret
    are given to the session later.
    """
    pyspark = import_pyspark("pyspark")
    shown = [(k, v) for k, v in settings.items() if redact(f"{k}={v}") == f"{k}={v}"]
    # of a local master Spark's page, if it is asked for, listens where this variable says
    alone = settings.get("spark.master", "").startswith("local")
    added = alone and "SPARK_LOCAL_IP" not in os.environ
    if added:
        os.environ["SPARK_LOCAL_IP"] = LOOPBACK
    try:
        conf = pyspark.SparkConf(loadDefaults=False).setAll(shown)
        pyspark.SparkContext._ensure_initialized(conf=conf)
    finally:
        if added:
            del os.environ["SPARK_LOCAL_IP"]
    return pyspark.SparkConf()


def _unless_a_cluster(known: Any, settings: Mapping[str, str]) -> dict[str, str]:
    """ALONE where no cluster is named, but for what the user has set otherwise.

    Args:
        known: the `SparkConf` of spark-submit and spark-defaults.conf.
    """

    def given(key: str) -> str | None:
        value = settings.get(key) or known.get(key)
        return None if value is None else str(value)

    if not (given("spark.master") or "local[*]").startswith("local"):
        return {}
    address = import_pyspark("pyspark").SparkContext._jvm.System.getenv("SPARK_LOCAL_IP")
    if str(given("spark.ui.enabled")).lower() == "true" and not address:
        raise EngineError(
            "Spark's own page (spark.ui.enabled) would listen on every address of this machine; "
            f"set SPARK_LOCAL_IP={LOOPBACK}, or leave it off"
        )
    return {key: value for key, value in ALONE.items() if given(key) is None}


def _is_on_this_machine(master: str | None) -> bool:
    if master is None:  # local[*], unless spark-submit says otherwise
        return "PYSPARK_GATEWAY_PORT" not in os.environ
    return master.startswith("local") or bool(
        re.match(r"spark://(127\.|localhost|\[::1\])", master)
    )


def _connect(url: str, conf: Mapping[str, str]) -> Any:
    import_pyspark("pyspark.sql.connect.session")  # needs more packages than pyspark itself
    builder = import_pyspark("pyspark.sql").SparkSession.builder.remote(url)
    for key, value in conf.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


class Session:
    """A Spark session, classic or Connect, in the words that the engine needs.

    Args:
        owned: whether to stop it on `close`.
    """

    def __init__(self, spark: Any, *, owned: bool) -> None:
        self.spark = spark
        self.connect = "connect" in type(spark).__module__
        self._owned = owned
        self._ready = False

    def setting(self, key: str) -> str | None:
        """A setting's value, or None."""
        if self.connect:
            value = self.spark.conf.get(key, None)
        else:
            value = self.spark.sparkContext.getConf().get(key)
        return None if value is None else str(value)

    def slots(self) -> int:
        """Tasks that the cluster can work on at once now."""
        if self.connect:
            return int(self.setting("spark.default.parallelism") or CONNECT_SLOTS)
        cores = int(self.spark.sparkContext.defaultParallelism)
        return max(1, cores // int(self.setting("spark.task.cpus") or 1))

    def ui(self) -> str | None:
        """The address of the application's page, or None."""
        return None if self.connect else self.spark.sparkContext.uiWebUrl

    def is_local(self) -> bool:
        """Whether the driver's own process works on the parts."""
        return not self.connect and bool(self.spark.sparkContext._jsc.sc().isLocal())

    def hosts(self) -> int | None:
        """Hosts that have executors now; None where Spark does not tell."""
        if self.connect:
            return None
        try:
            if self.is_local():
                return 1
            scala = self.spark.sparkContext._jsc.sc()
            addresses = set(scala.getExecutorMemoryStatus().keySet().mkString(" ").split())
            addresses.discard(scala.env().blockManager().blockManagerId().hostPort())  # the driver
            return max(1, len({a.rsplit(":", 1)[0] for a in addresses}))
        except Exception:  # noqa: BLE001 - py4j raises what it likes when Java is gone
            return None

    def collect(self, work: spark_ship.Work, count: int, tasks: int) -> list[spark_ship.Row]:
        """Run `work` over the numbers below `count` in so many tasks; the rows it yields."""
        if self.connect:
            frame = self.spark.range(0, count, 1, tasks)
            rows = frame.mapInArrow(spark_ship.in_arrow(work), spark_ship.SCHEMA).collect()
            return [(r.number, r.outcome, bytes(r.data), r.host) for r in rows]
        context = self.spark.sparkContext
        # not `collect()`, which puts a line number where we put the job's name
        return list(context.runJob(context.parallelize(range(count), tasks), work))

    def ready(self) -> None:
        """Bring this package to the workers unless they have the same; once a session."""
        if not self._ready:
            try:
                spark_ship.prepare(self)
            except EngineError:
                raise
            except Exception as error:
                raise translated(error, "Spark cannot run Python on its workers") from error
            self._ready = True

    def add_package(self, path: str) -> None:
        """Put a zip of Python code on the path of every worker."""
        if self.connect:
            self.spark.addArtifacts(path, pyfile=True)
        else:
            self.spark.sparkContext.addPyFile(path)

    @contextmanager
    def functions(self) -> Iterator[None]:
        """Within the block pyspark's functions are of this session's kind, classic or Connect.

        Pyspark goes by a variable, which only one of the two ways to make a Connect session sets.
        """
        added = self.connect and CONNECT_MODE not in os.environ
        if added:
            os.environ[CONNECT_MODE] = "1"
        try:
            yield
        finally:
            if added:
                del os.environ[CONNECT_MODE]

    def new_tag(self) -> str:
        """A name for the jobs of one run, to end them by."""
        return f"quadrat-{os.getpid()}-{next(_tags)}"

    def label(self, tag: str, title: str) -> None:
        """Name the jobs and stages that this thread starts from now on."""
        if self.connect:
            self.spark.addTag(tag)
            return
        context = self.spark.sparkContext
        context.setJobGroup(tag, title, interruptOnCancel=False)
        context.setLocalProperty("callSite.short", title)  # the name of the stages
        context.setLocalProperty("callSite.long", title)

    def cancel(self, tag: str) -> None:
        """End the jobs of a run."""
        with suppress(Exception):  # the session may be gone, and its jobs with it
            if self.connect:
                self.spark.interruptTag(tag)
            else:
                self.spark.sparkContext.cancelJobGroup(tag)

    def tasks_at_work(self) -> bool:
        """Whether any task runs now; True where Spark does not tell."""
        if self.connect:
            return True
        tracker = self.spark.sparkContext.statusTracker()
        infos = (tracker.getStageInfo(s) for s in tracker.getActiveStageIds())
        return any(i is not None and i.numActiveTasks for i in infos)

    def is_gone(self) -> bool:
        """Whether the session has ended."""
        try:
            if self.connect:
                return bool(self.spark.is_stopped)
            jsc = self.spark.sparkContext._jsc
            return jsc is None or bool(jsc.sc().isStopped())
        except Exception:  # noqa: BLE001 - py4j raises what it likes when Java is gone
            return True

    def close(self) -> None:
        """Stop a session that was started here."""
        if self._owned:
            with suppress(Exception):  # ended already
                self.spark.stop()
