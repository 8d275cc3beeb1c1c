"""A bad host must not eat the job: the Spark engine on simulated hosts, without Java."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from quadrat.engines import hosts, spark_session, spark_ship, spark_waves
from quadrat.engines.hosts import Hosts
from quadrat.engines.spark import SparkEngine
from quadrat.errors import EngineError, StorageError, TileSetError

pytest.importorskip("pyspark", reason="parts are pickled by pyspark's cloudpickle")

PARTS = 200


class Simulated:
    """A session whose hosts are threads of their names; each works on one task at a time."""

    connect = False

    def __init__(self, *names: str, told: bool = True) -> None:
        self._told = told
        self._names = names
        self._tasks: queue.Queue[Any] = queue.Queue()
        for name in names:
            threading.Thread(target=self._host, name=name, daemon=True).start()

    def _host(self) -> None:
        while True:
            work, numbers, future = self._tasks.get()
            try:
                future.set_result(list(work(numbers)))
            except Exception as error:  # noqa: BLE001
                future.set_exception(error)

    def collect(self, work: spark_ship.Work, count: int, tasks: int) -> list[spark_ship.Row]:
        futures: list[Future[list[spark_ship.Row]]] = []
        for n in range(tasks):
            futures.append(Future())
            numbers = range(n * count // tasks, (n + 1) * count // tasks)
            self._tasks.put((work, numbers, futures[-1]))
        return list(itertools.chain.from_iterable(f.result() for f in futures))

    def hosts(self) -> int | None:
        return len(self._names) if self._told else None

    def slots(self) -> int:
        return len(self._names)

    def is_local(self) -> bool:
        return len(self._names) == 1

    def ready(self) -> None: ...

    def label(self, tag: str, title: str) -> None: ...

    def new_tag(self) -> str:
        return "tag"

    def tasks_at_work(self) -> bool:
        return True

    def is_gone(self) -> bool:
        return False

    def cancel(self, tag: str) -> None: ...


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., SparkEngine]]:
    monkeypatch.setattr(
        spark_ship, "host_function", lambda: lambda: threading.current_thread().name
    )
    monkeypatch.setattr(spark_ship, "PAUSE_S", 0.02)
    monkeypatch.setattr(spark_waves, "GRACE_S", 0.5)

    def make(*names: str, told: bool = True) -> SparkEngine:
        session = Simulated(*names, told=told)
        monkeypatch.setattr(spark_session, "open_session", lambda *a: session)
        return SparkEngine()

    yield make


TRIES: Counter[tuple[str, int]] = Counter()


@pytest.fixture(autouse=True)
def _no_tries() -> None:
    TRIES.clear()


def failing_on(bad: tuple[str, ...], error: Exception, seconds: float = 0.005) -> Any:
    """A task that fails at once on some hosts, and takes a while on others."""

    def task(part: int) -> int:
        import test_engine_hosts

        host = threading.current_thread().name
        test_engine_hosts.TRIES[host, part] += 1
        if host in bad:
            raise error
        time.sleep(seconds)
        return part

    return task


@pytest.mark.parametrize(
    "error",
    [
        StorageError("no space left for writing scores"),
        StorageError("s3://bucket/a failed: Unable to locate credentials"),
        ImportError("libgdal.so: cannot open shared object file"),
        OSError(28, "No space left on device"),
        MemoryError(),
    ],
    ids=["disk", "credentials", "library", "os", "memory"],
)
@pytest.mark.parametrize("told", [True, False], ids=["counted", "uncounted"])
def test_one_failing_host_of_two_loses_no_part(start: Any, error: Exception, told: bool) -> None:
    engine = start("good", "bad", told=told)
    results = list(engine.run(failing_on(("bad",), error), range(PARTS)))
    assert sorted(results) == list(range(PARTS))
    tried = [part for host, part in TRIES if host == "bad"]
    assert len(tried) < PARTS / 2  # barred after a while, and given no more
    assert max(TRIES.values()) == 1


def test_a_host_is_barred_by_name_after_three_in_a_row(
    start: Any, caplog: pytest.LogCaptureFixture
) -> None:
    engine = start("good", "bad", "fine")
    list(engine.run(failing_on(("bad",), OSError("sig=S3cr3t: no disk")), range(PARTS)))
    (said,) = [r.getMessage() for r in caplog.records if "gets no more" in r.getMessage()]
    assert said.startswith("the host bad failed 3 parts that others could do")
    assert "S3cr3t" not in said


def test_a_part_that_fails_everywhere_is_tried_twice_and_bars_nobody(start: Any) -> None:
    def task(part: int) -> int:
        import test_engine_hosts

        test_engine_hosts.TRIES[threading.current_thread().name, part] += 1
        time.sleep(0.002)
        if part % 3 == 0:
            raise TileSetError(f"part {part} is cut short")
        return part

    engine, results = start("one", "two"), []
    with pytest.raises(EngineError, match=r"^67 parts failed"):
        for result in engine.run(task, range(PARTS)):
            results.append(result)
    assert sorted(results) == [p for p in range(PARTS) if p % 3]
    for part in range(PARTS):
        tries = TRIES["one", part], TRIES["two", part]
        assert tries == (1, 1) if part % 3 == 0 else sum(tries) == 1


def test_a_fault_of_the_task_itself_is_tried_once(start: Any) -> None:
    engine = start("one", "two")
    with pytest.raises(EngineError, match=r"^20 parts failed.*ValueError"):
        list(engine.run(failing_on(("one", "two"), ValueError("no such thing")), range(20)))
    assert sum(TRIES.values()) == 20


def test_a_host_that_comes_late_is_waited_for(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark_waves, "GRACE_S", 30.0)
    engine = start("bad", "good")
    session: Any = engine._session
    begun = time.monotonic()
    monkeypatch.setattr(session, "hosts", lambda: 1 if time.monotonic() < begun + 0.5 else 2)
    results = list(engine.run(failing_on(("bad",), OSError("no disk")), range(PARTS)))
    assert sorted(results) == list(range(PARTS))


def test_where_all_hosts_fail_the_reason_is_told(start: Any) -> None:
    engine = start("one", "two")
    with pytest.raises(StorageError, match=r"^no space left$"):
        list(engine.run(failing_on(("one", "two"), StorageError("no space left")), range(20)))
    assert sum(TRIES.values()) == 40


def test_one_host_alone_tries_nothing_twice(start: Any) -> None:
    engine = start("one")
    with pytest.raises(StorageError, match=r"^no space left$"):
        list(engine.run(failing_on(("one",), StorageError("no space left")), range(20)))
    assert sum(TRIES.values()) == 20


def test_two_bad_hosts_of_three_lose_no_part(start: Any) -> None:
    task = failing_on(("bad", "worse"), OSError("no disk"), 0.01)
    results = list(start("good", "bad", "worse").run(task, range(PARTS)))
    assert sorted(results) == list(range(PARTS))


def test_a_success_ends_the_row() -> None:
    seen = Hosts(lambda: 2)
    for place in range(20):
        assert seen.failed(place, "flaky", OSError("no disk"))
        seen.succeeded(place, "good")
        if place % 2:
            seen.succeeded(100 + place, "flaky")
    assert seen.barred == frozenset()


def test_a_host_that_is_left_alone_ends_the_job_in_words() -> None:
    count = [2]
    seen = Hosts(lambda: count[0], grace_s=0.0)
    for place in range(hosts.STRIKES):
        assert seen.failed(place, "bad", OSError("no disk"))
        seen.succeeded(place, "good")
    assert seen.barred == {"bad"}
    assert seen.refused(50, "bad") is None
    count[0] = 1  # the good one died
    assert "no host is left that works: bad" in str(seen.refused(50, "bad"))
