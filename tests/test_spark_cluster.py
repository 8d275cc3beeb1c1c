"""Failures on a real standalone cluster: a master and two workers, each a process on loopback.

Whatever dies, every tile is scored exactly once, nothing is lost, and nothing half-written is read.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import cluster as clusters
import small_tiles
from quadrat import tiles
from quadrat.scores import open_scores
from quadrat.scoring import score

pytest.importorskip("pyspark", reason="the Spark engine needs pyspark")

PARTS = 24


@dataclass(frozen=True)
class Work:
    """What is scored, and what it must give."""

    model: str
    source: str
    expected: Any


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    folder = tmp_path_factory.mktemp("work")
    raster = small_tiles.write_raster(folder / "r.tif", 16 * 6, 16 * 4)
    made = tiles.tile([raster], str(folder / "tiles"), tile_m=8.0, split=None)
    assert len(made.parts()) == PARTS
    bundle = small_tiles.save_model(str(folder / "model"))
    score(bundle, made.uri, str(folder / "scores"))
    return Work(bundle, made.uri, table(str(folder / "scores")))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clusters.Cluster]:
    with clusters.standalone(tmp_path_factory.mktemp("cluster"), workers=2) as running:
        yield running


def table(uri: str) -> Any:
    return open_scores(uri).table().sort_by([("row", "ascending"), ("col", "ascending")])


class Driver:
    """A driver process on the cluster."""

    def __init__(self, cluster: clusters.Cluster, work: Work, folder: Path, **job: Any) -> None:
        self.cluster, self.folder = cluster, folder
        self.out = str(folder / "out")
        self.attempts = folder / "attempts"
        self.attempts.mkdir(exist_ok=True)
        job = {"master": cluster.url, "model": work.model, "source": work.source, **job}
        job |= {"out": self.out, "attempts": str(self.attempts)}
        with (folder / "driver.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("cluster_job.py")), json.dumps(job)],
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"},
            )

    def parts(self) -> list[Path]:
        """Parts of the scores that are there."""
        return sorted((self.folder / "out" / "parts").glob("part-*.parquet"))

    def wait_for_parts(self, count: int) -> None:
        """Until so many parts are there."""
        clusters.until(
            lambda: len(self.parts()) >= count or self.process.poll() is not None, f"{count} parts"
        )
        assert self.process.poll() is None, (self.folder / "driver.log").read_text()[-3000:]

    def wait_for_work(self, worker: subprocess.Popen[bytes]) -> None:
        """Until a worker has just begun a part: it has it in hand for `pause` seconds more."""

        def busy() -> bool:
            inside = {str(pid) for pid in clusters.descendants(worker.pid)}
            return any(
                time.time() - p.stat().st_mtime < 0.2 and p.read_text() in inside
                for p in self.attempts.iterdir()
            )

        clusters.until(busy, "the worker to begin a part")

    def result(self) -> dict[str, Any]:
        """What the driver prints in the end."""
        out, _ = self.process.communicate(timeout=180)
        assert out, (self.folder / "driver.log").read_text()[-3000:]
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found

    def kill(self) -> None:
        """End the driver and its Java process at once; until the cluster knows."""
        for pid in [*clusters.descendants(self.process.pid), self.process.pid]:
            os.kill(pid, signal.SIGKILL)
        self.process.communicate()
        clusters.until(lambda: not self.cluster.state()["activeapps"], "the application to end")

    def tries(self) -> Counter[str]:
        """Part -> attempts at it."""
        return Counter(p.name.rsplit("-", 1)[0] for p in self.attempts.iterdir())


def assert_all_scored_once(driver: Driver, work: Work) -> None:
    assert table(driver.out).equals(work.expected)
    names = {p.name for p in (driver.folder / "out" / "parts").iterdir()}
    assert names == {f"part-{i:05d}.parquet" for i in range(PARTS)}


@pytest.mark.long
def test_a_worker_killed_in_mid_job(cluster: clusters.Cluster, work: Work, tmp_path: Path) -> None:
    driver = Driver(cluster, work, tmp_path, pause=0.5)
    driver.wait_for_parts(4)
    driver.wait_for_work(cluster.workers[-1])
    cluster.kill(cluster.workers[-1])
    left = PARTS - len(driver.parts())
    result = driver.result()
    cluster.add_worker()
    assert left > 5, "the worker was killed too late to show anything"
    assert result["tiles"] == work.expected.num_rows
    assert_all_scored_once(driver, work)
    assert sum(driver.tries().values()) > PARTS  # what the worker had in hand was tried again


@pytest.mark.slow
def test_a_driver_killed_and_the_job_resumed(
    cluster: clusters.Cluster, work: Work, tmp_path: Path
) -> None:
    driver = Driver(cluster, work, tmp_path, pause=0.4)
    driver.wait_for_parts(6)
    driver.kill()
    kept = {p.name: p.stat().st_mtime_ns for p in driver.parts()}
    assert 6 <= len(kept) < PARTS - 5
    for path in driver.parts():
        assert pq.read_table(path).num_rows == 256  # whole: a half-written part has no name
    again = Driver(cluster, work, tmp_path)
    assert again.result()["tiles"] == work.expected.num_rows
    assert_all_scored_once(again, work)
    now = {p.name: p.stat().st_mtime_ns for p in again.parts()}
    assert {n: now[n] for n in kept} == kept  # finished parts were not written again


@pytest.mark.slow
def test_a_part_that_always_fails_is_named_and_the_rest_is_finished(
    cluster: clusters.Cluster, work: Work, tmp_path: Path
) -> None:
    error = Driver(cluster, work, tmp_path, failing="part-00007").result()["error"]
    assert error.startswith("EngineError: 1 parts failed (part-00007); the rest is finished")
    assert error.endswith("ValueError: this part always fails")
    parts = Driver(cluster, work, tmp_path)  # the same job again, now that it can work
    assert parts.result()["tiles"] == work.expected.num_rows
    assert_all_scored_once(parts, work)
    assert parts.tries()["part-00007"] == 2


@pytest.mark.slow
def test_a_corrupt_tile_is_skipped_and_named_as_on_this_machine(
    cluster: clusters.Cluster, work: Work, tmp_path: Path
) -> None:
    source = damaged_copy(work, tmp_path / "tiles", whole_part=False)
    here = score(work.model, source, str(tmp_path / "here"))
    there = Driver(cluster, Work(work.model, source, None), tmp_path).result()
    assert here.skipped == there["skipped"] == 1
    assert there["listed"] == [list(s) for s in here.listed]
    assert there["tiles"] == work.expected.num_rows - 1
    assert table(str(tmp_path / "out")).equals(table(str(tmp_path / "here")))


@pytest.mark.slow
def test_a_part_cut_short_is_named_and_the_rest_is_finished(
    cluster: clusters.Cluster, work: Work, tmp_path: Path
) -> None:
    source = damaged_copy(work, tmp_path / "tiles", whole_part=True)
    driver = Driver(cluster, Work(work.model, source, None), tmp_path)
    error = driver.result()["error"]
    assert "part-00003.parquet" in error
    assert "is not a whole Parquet file" in error
    assert [p.stem for p in driver.parts()] == [f"part-{i:05d}" for i in range(PARTS) if i != 3]


@pytest.mark.slow
def test_a_speculative_duplicate_of_a_task_does_no_harm(
    cluster: clusters.Cluster, work: Work, tmp_path: Path
) -> None:
    speculation = {
        "spark.speculation": "true",
        "spark.speculation.interval": "200ms",
        "spark.speculation.task.duration.threshold": "2s",
    }
    driver = Driver(cluster, work, tmp_path, hanging="part-00005", conf=speculation)
    assert driver.result()["tiles"] == work.expected.num_rows
    assert driver.tries()["part-00005"] == 2  # the first one hangs for a minute
    assert_all_scored_once(driver, work)


@pytest.mark.slow
def test_a_host_that_lacks_a_library_loses_no_part(work: Work, tmp_path: Path) -> None:
    """One of two workers has no runtime to run a network with."""
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    names = ("onnxruntime", "openvino")
    (lacking / "sitecustomize.py").write_text(
        f"import sys\nfor n in {names}: sys.modules[n] = None\n"
    )
    paths = os.pathsep.join([str(lacking), os.environ.get("PYTHONPATH", "")])
    with clusters.standalone(tmp_path / "cluster", workers=1) as running:
        running.add_worker(environ={"PYTHONPATH": paths})
        driver = Driver(running, work, tmp_path, pause=0.2)
        result = driver.result()
    said = (tmp_path / "driver.log").read_text()
    assert result.get("tiles") == work.expected.num_rows, (result, said[-2000:])
    assert_all_scored_once(driver, work)
    assert "the host 127.0.0.3 failed 3 parts that others could do; it gets no more" in said
    assert max(driver.tries().values()) <= 2
    assert sum(driver.tries().values()) < 1.5 * PARTS


def damaged_copy(work: Work, target: Path, *, whole_part: bool) -> str:
    """The tile set with one picture damaged, or with the end of one part missing."""
    shutil.copytree(work.source, target)
    part = target / "parts" / "part-00003.parquet"
    if whole_part:
        os.truncate(part, part.stat().st_size - 100)
    else:
        found = pq.read_table(part)
        images = found["image"].to_pylist()
        images[100] = images[100][:20]
        place = found.column_names.index("image")
        damaged = found.set_column(place, found.schema.field("image"), [images])
        pq.write_table(damaged, part, row_group_size=256)
    return str(target)
