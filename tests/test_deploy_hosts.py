"""Several hosts, each with its own address, name and files, that share object storage alone.

They are network namespaces of one machine, and run what the image's containers run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cluster as clusters
import services
import small_tiles
from conftest import ROOT
from deploy_hosts import BUCKET, Host, hosts, serve_s3
from finetune_tiles import write_tiles
from quadrat import tiles
from quadrat.scores import open_scores
from quadrat.scoring import score

pytestmark = pytest.mark.slow

NODE = str(ROOT / "deploy" / "image" / "quadrat-node")
PARTS = 24
# In single precision, with steps proportional to gradients: where a gradient is next to nothing,
# AdamW makes a whole step of a difference in its last digit.
TRAINING: dict[str, Any] = {
    "backbone": "shufflenet_v2_x0_5", "weights": "random", "pixels": 32, "epochs": 3, "batch": 15,
    "lr": 0.02, "optimizer": "sgd", "precision": "fp32", "batch_norm": "frozen",
}  # fmt: skip


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """What hosts do not see of this machine: all that the tests write."""
    return [tmp_path_factory.getbasetemp()]


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    return tmp_path / "storage" / BUCKET


def environ_of(hidden: list[Path], storage: dict[str, str]) -> dict[str, str]:
    """Variables such as a container of the cluster has."""
    own = str(hidden[0])
    return {
        **storage, "HOME": own, "QUADRAT_CACHE": f"{own}/cache", "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip


def test_two_nodes_train_as_one(hidden: list[Path], bucket: Path, tmp_path: Path) -> None:
    """The same losses and the same weights as one process, with batches over both nodes."""
    pytest.importorskip("torch", reason="fine-tuning needs pip install 'quadrat[finetune]'")
    pytest.importorskip("s3fs", reason="the hosts share s3://")
    from quadrat.finetuning import FinetuneSettings, Machine, finetune

    made = write_tiles(tmp_path / "made", {"train": 67, "validation": 31})
    one = finetune(
        made.uri, str(tmp_path / "one"), FinetuneSettings(**TRAINING), Machine("cpu", 1, 1)
    )
    with hosts("storage", "first", "second", hidden=hidden) as (storage, first, second):
        environ = environ_of(hidden, serve_s3(storage, bucket.parent))
        shutil.copytree(made.uri, bucket / "tiles")
        command = [
            sys.executable,
            NODE,
            "finetune",
            "2",
            "1",
            "first",
            f"s3://{BUCKET}/tiles",
            "--out",
            f"s3://{BUCKET}/model",
            "--device",
            "cpu",
            "--threads",
            "1",
            "--json",
        ]
        for name, value in TRAINING.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        nodes = [
            host.start(command, tmp_path / f"{host.name}.log",
                       {**environ, "JOB_COMPLETION_INDEX": str(number)})
            for number, host in enumerate((first, second))
        ]  # fmt: skip
        codes = [node.wait(240) for node in nodes]
    said = [(tmp_path / f"{name}.log").read_text() for name in ("first", "second")]
    assert codes == [0, 0], "\n".join(text[-2000:] for text in said)
    result = json.loads(said[0][said[0].index("{\n") :])
    assert result["machine"]["processes"] == 2
    for a, b in zip(one.history, result["history"], strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)
        assert b["validation_loss"] == pytest.approx(a["validation_loss"], rel=1e-5)
    alone, together = weights(tmp_path / "one"), weights(bucket / "model")
    assert alone.keys() == together.keys() and len(alone) > 50
    for name, values in alone.items():
        largest = np.abs(values).max()
        np.testing.assert_allclose(together[name], values, rtol=0, atol=1e-5 * largest)


def weights(model: Path) -> dict[str, Any]:
    """Name -> values, of a bundle's network."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(model / "model.onnx")).graph
    found = {x.name: numpy_helper.to_array(x) for x in graph.initializer}
    return {name: x for name, x in found.items() if x.dtype == np.float32 and x.size > 1}


@pytest.fixture
def secret() -> Iterator[Path]:
    """A folder that all hosts see, as a cluster's secrets and settings are; it holds no data."""
    with tempfile.TemporaryDirectory(prefix="quadrat-") as name:
        folder = Path(name)
        key = os.urandom(24).hex()
        (folder / "key").write_text(key)
        shutil.copy(ROOT / "deploy" / "rehearsal.conf", folder / "given")
        lines = [
            (folder / "given").read_text(), "spark.authenticate true",
            f"spark.authenticate.secret {key}",
        ]  # fmt: skip
        (folder / "spark-defaults.conf").write_text("\n".join(lines))
        yield folder


def where_quadrat_is() -> set[Path]:
    """The folders that this Python finds the package in, with and without these tests' path."""
    code = "import quadrat; print(quadrat.__path__[0])"
    bare = {name: x for name, x in os.environ.items() if name != "PYTHONPATH"}
    return {
        Path(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/",
                            check=True, env=environ).stdout.strip())
        for environ in (bare, dict(os.environ))
    }  # fmt: skip


def end_worker(way: str, worker: Host, process: Any, log: Path) -> None:
    """End a worker: it drains, as a container that is stopped, or goes at once."""
    if way == "power cut":
        worker.end()
        return
    told = worker.start([sys.executable, NODE, "drain"], log, {"NODE_WORKER_PID": str(process.pid)})
    assert told.wait(120) == 0, log.read_text()


def start_cluster(
    master: Host, workers: tuple[Host, ...], environ: dict[str, str], hidden: list[Path], logs: Path
) -> list[Any]:
    """A master, and workers whose Python has no quadrat; the workers' processes."""
    node = [sys.executable, NODE]
    master.wait_for(7077, master.start([*node, "master"], logs / "master.log", environ))
    without, bare = [*hidden, *sorted(where_quadrat_is())], {**environ, "PYTHONPATH": ""}
    look, told = [sys.executable, "-c", "import quadrat.scoring"], logs / "look.log"
    assert workers[0].start(look, told, bare, without).wait(120) == 1
    assert "No module named 'quadrat" in told.read_text()
    started = [w.start([*node, "worker"], logs / f"{w.name}.log", bare, without) for w in workers]
    for worker, process in zip(workers, started, strict=True):
        worker.wait_for(8081, process)
    return started


@pytest.mark.parametrize("way", ["drained", "power cut"])
def test_a_worker_goes_in_mid_job_and_the_scores_are_the_same(
    way: str, hidden: list[Path], bucket: Path, secret: Path, tmp_path: Path
) -> None:
    """Workers have no quadrat, no file of the driver's, and no storage but the bucket."""
    pyspark = pytest.importorskip("pyspark", reason="the Spark engine needs pyspark")
    pytest.importorskip("s3fs", reason="the hosts share s3://")
    raster = small_tiles.write_raster(tmp_path / "r.tif", 16 * 6, 16 * 4)
    made = tiles.tile([raster], str(tmp_path / "tiles"), tile_m=8.0, split=None)
    model = small_tiles.save_model(str(tmp_path / "model"))
    score(model, made.uri, str(tmp_path / "scores"))
    own, parts, log = hidden[0], bucket / "scores" / "parts", tmp_path / "driver.log"

    def done() -> int:
        return len(list(parts.glob("*.parquet")))

    with hosts("storage", "master", "one", "two", hidden=hidden) as (storage, master, one, two):
        environ = environ_of(hidden, serve_s3(storage, bucket.parent)) | {
            "SPARK_HOME": str(Path(pyspark.__file__).parent), "SPARK_CONF_DIR": f"{own}/conf",
            "SPARK_LOCAL_DIRS": f"{own}/spark", "SPARK_DAEMON_MEMORY": "256m",
            "PYSPARK_PYTHON": sys.executable, "NODE_SPARK_CONF": str(secret / "given"),
            "NODE_SPARK_SECRET": str(secret / "key"), "NODE_CORES": "1", "NODE_HEAP": "1g",
            "QUADRAT_MASTER": "spark://master:7077",
        }  # fmt: skip
        for name in ("tiles", "model"):
            shutil.copytree(tmp_path / name, bucket / name)
        working = start_cluster(master, (one, two), environ, hidden, tmp_path)
        job = {
            "master": "spark://master:7077", "model": f"s3://{BUCKET}/model",
            "source": f"s3://{BUCKET}/tiles", "out": f"s3://{BUCKET}/scores",
            "attempts": str(own), "pause": 1.0, "conf": {"spark.driver.host": master.address},
        }  # fmt: skip
        command = [sys.executable, str(ROOT / "tests" / "cluster_job.py"), json.dumps(job)]
        driver = master.start(command, log, {**environ, "SPARK_CONF_DIR": str(secret)})
        clusters.until(lambda: done() >= 4 or driver.poll() is not None, "4 parts", 240)
        assert driver.poll() is None, log.read_text()[-3000:]
        left = PARTS - done()
        end_worker(way, two, working[1], tmp_path / "drain.log")
        assert driver.wait(240) == 0, log.read_text()[-3000:]
    assert left > 5, "the worker went too late to show anything"
    result = json.loads(log.read_text().splitlines()[-1])
    expected = table(tmp_path / "scores")
    assert result.get("tiles") == expected.num_rows, result
    assert table(bucket / "scores").equals(expected)
    assert {p.name for p in parts.iterdir()} == {f"part-{i:05d}.parquet" for i in range(PARTS)}
    for each in ("one", "two", "master", "driver"):
        assert services.S3_SECRET not in (tmp_path / f"{each}.log").read_text()


def table(folder: Path) -> Any:
    found = open_scores(str(folder)).table()
    return found.sort_by([("row", "ascending"), ("col", "ascending")])
