"""What only the Spark engine does: sessions, names in Spark's pages, crashes, shipping itself."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quadrat.engines import get_engine
from quadrat.engines.spark import SparkEngine
from quadrat.errors import EngineError, MissingExtraError

pytest.importorskip("pyspark", reason="the Spark engine needs pyspark")

# the first JVM of a process keeps its settings: another test's "no UI" would hold here too
CONF = {"spark.driver.memory": "512m", "spark.ui.port": "0", "spark.ui.enabled": "true"}


@pytest.fixture(scope="module")
def engine() -> Iterator[SparkEngine]:
    made = SparkEngine("local[2]", conf=CONF, app="quadrat test")
    yield made
    made.close()


def wait_a_little(folder: str, part: int) -> int:
    """Note when a part was at work."""
    start = time.time()
    time.sleep(0.2)
    (Path(folder) / str(part)).write_text(json.dumps([start, time.time()]))
    return part


def test_a_part_that_kills_its_process_is_named_and_the_rest_is_finished(
    engine: SparkEngine,
) -> None:
    def task(part: int) -> int:
        if part == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return part

    results = []
    with pytest.raises(EngineError, match=r"^Spark gave up on it: its Python process died"):
        for result in engine.run(task, range(12)):
            results.append(result)
    assert sorted(results) == [i for i in range(12) if i != 5]


@pytest.mark.long
def test_a_wave_with_a_crash_in_it_is_cut_until_the_part_is_found(
    engine: SparkEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine._session, "slots", lambda: 40)  # waves of more than one part

    def task(part: int) -> int:
        if part in (5, 6):
            os.kill(os.getpid(), signal.SIGKILL)
        return part

    results = []
    with pytest.raises(EngineError, match="died each time"):
        for result in engine.run(task, range(24)):
            results.append(result)
    assert sorted(set(results)) == [i for i in range(24) if i not in (5, 6)]
    assert len(results) == 22


def test_a_process_is_kept_from_part_to_part(engine: SparkEngine) -> None:
    pids = list(engine.run(lambda part: os.getpid(), range(12)))
    assert len(set(pids)) <= 3  # two slots, and perhaps one that a crash above replaced
    assert os.getpid() not in pids


def test_a_task_has_one_thread_for_its_libraries(engine: SparkEngine) -> None:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GDAL_NUM_THREADS")
    seen = set(engine.run(lambda part: tuple(os.environ[n] for n in names), range(4)))
    assert seen == {("1", "1", "1")}


def test_jobs_and_stages_say_what_they_do(engine: SparkEngine, tmp_path: Path) -> None:
    assert engine.ui is not None
    list(engine.run(functools.partial(wait_a_little, str(tmp_path)), range(4)))
    api = f"{engine.ui}/api/v1/applications"
    (app,) = read(api)
    assert app["name"] == "quadrat test"
    jobs = {j["description"] for j in read(f"{api}/{app['id']}/jobs") if "description" in j}
    stages = {s["name"] for s in read(f"{api}/{app['id']}/stages")}
    for said in (jobs, stages):
        found = [
            re.fullmatch(r"quadrat wait a little: parts? (\d+)(?: to (\d+))? of 4", text)
            for text in said
        ]
        named = [range(int(m[1]), int(m[2] or m[1]) + 1) for m in found if m]
        assert sorted(part for wave in named for part in wave) == [1, 2, 3, 4]


def read(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)


def listening(pid: int) -> set[str]:
    """Addresses on which a process listens, as the kernel's tables have them."""
    sockets = set()
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            sockets.add(str(handle.readlink()))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            cells = line.split()
            if cells[3] == "0A" and f"socket:[{cells[9]}]" in sockets:
                found.add(cells[1].split(":")[0])
    return found


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}


def test_a_session_of_this_machine_listens_on_loopback_with_authentication(
    engine: SparkEngine,
) -> None:
    java = engine.spark.sparkContext._gateway.proc.pid
    assert list(engine.run(lambda part: part, [1])) == [1]
    assert listening(java)
    assert listening(java) <= LOOPBACK
    assert engine.spark.sparkContext.getConf().get("spark.authenticate") == "true"


@pytest.mark.long
def test_without_a_master_there_is_no_open_port_no_page_and_no_secret_argument() -> None:
    done = run_script(
        f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_spark import LOOPBACK, listening
        from quadrat.engines import get_engine

        secret = {{"spark.hadoop.fs.s3a.secret.key": "S3cr3t", "spark.driver.memory": "512m"}}
        engine = get_engine("spark", conf=secret)
        context = engine.spark.sparkContext
        java = context._gateway.proc.pid
        print(context.master, engine.ui, context.getConf().get("spark.authenticate"))
        print(bool(listening(java)) and listening(java) <= LOOPBACK)
        print(context.getConf().get("spark.hadoop.fs.s3a.secret.key"))
        print("S3cr3t" in Path(f"/proc/{{java}}/cmdline").read_text())
        engine.close()
        """,
    )
    assert done.stdout.splitlines() == ["local[*] None true", "True", "S3cr3t", "False"], (
        done.stderr[-2000:]
    )


def test_workers_is_the_most_parts_at_once(engine: SparkEngine, tmp_path: Path) -> None:
    one = SparkEngine(workers=1)
    assert one.slots == 1
    assert sorted(one.run(functools.partial(wait_a_little, str(tmp_path)), range(5))) == [*range(5)]
    spans = [json.loads(p.read_text()) for p in tmp_path.iterdir()]
    assert max(sum(s <= t < e for s, e in spans) for t, _ in spans) == 1


def test_a_session_that_the_process_has_is_used_and_left_alone(engine: SparkEngine) -> None:
    with SparkEngine() as guest:
        assert guest.spark.sparkContext is engine.spark.sparkContext
        assert list(guest.run(lambda part: part, [1])) == [1]
    assert list(engine.run(lambda part: part, [2])) == [2]


def test_a_session_is_found_from_another_thread(engine: SparkEngine) -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(SparkEngine().spark.sparkContext))
    thread.start()
    thread.join()
    assert found == [engine.spark.sparkContext]


def test_another_master_than_the_sessions_is_an_error(engine: SparkEngine) -> None:
    with pytest.raises(EngineError, match=r"a Spark session of local\[2\] already"):
        get_engine("spark", master="local[1]")


def test_a_setting_that_comes_too_late_is_an_error(engine: SparkEngine) -> None:
    with pytest.raises(EngineError, match=r"spark\.executor\.memory cannot be set"):
        SparkEngine(conf={"spark.executor.memory": "3g"})
    assert SparkEngine(conf={"spark.driver.memory": "512m"}).slots == 2


def test_what_cannot_be_pickled_is_told_in_a_line(engine: SparkEngine) -> None:
    lock = threading.Lock()

    def task(part: int) -> bool:
        return lock.locked()

    with pytest.raises(EngineError, match=r"^task cannot be sent to Spark's workers: .*lock"):
        list(engine.run(task, [1]))


def test_without_pyspark_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    with pytest.raises(MissingExtraError, match=r"^the Spark engine needs an extra: .*\[spark\]"):
        SparkEngine("local[1]")


def run_script(text: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a driver of its own; Java's own lines go to stderr."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


PRINT_ERROR = """
    from quadrat.engines import get_engine
    from quadrat.errors import EngineError
    try:
        list(get_engine("spark", master={master!r}).run(print, [1]))
    except EngineError as error:
        print(error)
"""


def test_without_java_the_cure_is_named(tmp_path: Path) -> None:
    done = run_script(
        PRINT_ERROR.format(master="local[1]"), JAVA_HOME=str(tmp_path), SPARK_LOCAL_IP="127.0.0.1"
    )
    assert done.stdout.startswith("Spark cannot start on local[1]: Java did not start (")
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize("master", ["nowhere", "local[", "spark://", "http://a:7077"])
def test_a_master_that_is_none_is_named(master: str) -> None:
    with pytest.raises(EngineError, match=r"is no Spark master; use local\[\*\], spark://"):
        SparkEngine(master)


@pytest.mark.long
def test_the_package_is_sent_to_workers_that_lack_it(tmp_path: Path) -> None:
    import quadrat

    source = Path(quadrat.__file__).parents[1]
    if source.name == "site-packages":
        pytest.skip("the package is installed as a copy, and cannot be hidden from workers")
    # a worker's Python that starts without this package on its path
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys\nsys.path[:] = [p for p in sys.path if p != {str(source)!r}]\n"
    )
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\nPYTHONPATH="{tmp_path}:$PYTHONPATH" exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    done = run_script(
        """
        from quadrat.engines import get_engine
        from quadrat import legend

        def task(part):
            import quadrat
            return quadrat.__file__, legend.load_legend("nlcd6").names

        engine = get_engine("spark", master="local[1]", conf={"spark.ui.enabled": "false"})
        for file, names in engine.run(task, [1]):
            print(file)
            print(*names)
        engine.close()
        """,
        PYSPARK_PYTHON=str(python),
        SPARK_LOCAL_IP="127.0.0.1",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    file, names = done.stdout.splitlines()
    assert ".zip" in file
    assert {"Developed", "Forest", "Shrub"} < set(names.split())


def test_importing_the_engines_loads_no_pyspark() -> None:
    done = run_script("import sys, quadrat.engines.local; print('pyspark' in sys.modules)")
    assert done.stdout == "False\n"
