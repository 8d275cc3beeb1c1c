"""Spark sessions: found or started, with settings that suit parts worked on by one thread each.

It does not know tasks or parts.
"""

from __future__ import annotations

import importlib
import itertools
import os
import re
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from quadrat.engines import spark_ship
from quadrat.errors import EngineError, MissingExtraError
from quadrat.redaction import redact

# Spark itself sets OMP_NUM_THREADS to an executor's cores for each of its Python processes: with a
# process a core that is cores times too many.
DEFAULTS = {
    **{f"spark.executorEnv.{name}": "1" for name in spark_ship.THREADS},
    "spark.ui.showConsoleProgress": "false",  # it would write over ours
    "spark.log.level": "ERROR",
    "spark.python.worker.reuse": "true",  # a model is loaded once a process
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

CONNECT_SLOTS = 64  # Spark Connect does not tell how many cores the cluster has

_tags = itertools.count(1)


def import_pyspark(module: str) -> Any:
    """A module of pyspark; MissingExtraError when pyspark is not installed."""
    # said by pyspark's own start about its pandas API, which nothing here uses
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if (error.name or "").split(".")[0] in ("pyspark", "py4j"):
            raise MissingExtraError("the Spark engine", "spark") from None
        raise EngineError(f"{module} cannot be imported: {_line(error)}") from None


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
    if os.environ.get("SPARK_REMOTE") or os.environ.get("SPARK_CONNECT_MODE_ENABLED"):
        return import_pyspark("pyspark.sql").SparkSession.builder.getOrCreate()
    if "pyspark.sql.connect.session" in sys.modules:
        connect = sys.modules["pyspark.sql.connect.session"].SparkSession
        with suppress(Exception):
            if (active := connect.getActiveSession()) is not None:
                return active
    context = import_pyspark("pyspark").SparkContext._active_spark_context
    if context is None or context._jsc is None:
        return None
    return import_pyspark("pyspark.sql").SparkSession.builder.getOrCreate()


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
    module = import_pyspark("pyspark.sql.connect.session")
    builder = module.SparkSession.builder.remote(url)
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

    def collect(
        self, work: spark_ship.Work, places: range, tasks: int | None = None
    ) -> list[spark_ship.Row]:
        """Run `work` over places in so many tasks, by default one a place; the rows it yields."""
        tasks = tasks or len(places)
        if self.connect:
            frame = self.spark.range(places.start, places.stop, 1, tasks)
            rows = frame.mapInArrow(spark_ship.in_arrow(work), spark_ship.SCHEMA).collect()
            return [(r.place, r.ok, bytes(r.data)) for r in rows]
        context = self.spark.sparkContext
        # not `collect()`, which puts a line number where we put the job's name
        return list(context.runJob(context.parallelize(places, tasks), work))

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


def translated(error: BaseException, what: str) -> EngineError:
    """Spark's many lines as one, with a cure where it is known."""
    if isinstance(error, EngineError):
        return error
    text = str(error)
    for pattern, cure in CURES:
        if re.search(pattern, text):
            return EngineError(f"{what}: {cure}")
    return EngineError(f"{what}: {_reason(text) or type(error).__name__}")


CURES = (
    (
        r"JAVA_GATEWAY_EXITED|JAVA_HOME",
        "Java did not start (its own lines say more); install Java 17 or newer, or set JAVA_HOME",
    ),
    (
        r"PYTHON_VERSION_MISMATCH|different version than that in driver",
        "the workers' Python is of another version than this one; set PYSPARK_PYTHON to the "
        f"workers' Python {sys.version_info.major}.{sys.version_info.minor}",
    ),
    (
        r"Cannot run program \"([^\"]+)\"",
        "the workers have no Python of that name; set PYSPARK_PYTHON to theirs",
    ),
    (
        r"All masters are unresponsive|UnknownHostException|Failed to connect to master",
        "no Spark master answers there; check --master and that it runs",
    ),
    (
        r"Python worker exited unexpectedly|EOFException|exit code 137|SIGKILL",
        "its Python process died each time, out of memory perhaps; give workers more memory or "
        "make parts of fewer tiles",
    ),
)


def _reason(text: str) -> str:
    """The line of a Java or Python trace that says why."""
    lines = [line.strip().lstrip(": ") for line in text.splitlines()]
    keep = [
        line
        for line in lines
        if line
        and not re.match(r"at |\.\.\. |Traceback|File \"|An error occurred|Driver stack", line)
    ]
    caused = [line for line in keep if line.startswith("Caused by")]
    return _clip((caused[-1:] or keep or lines)[0])


def _line(error: BaseException) -> str:
    return _clip(" ".join(str(error).split()))


def _clip(text: str) -> str:
    return text if len(text) <= 240 else text[:240] + "..."
