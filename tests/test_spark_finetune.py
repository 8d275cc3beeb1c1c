"""Fine-tuning with two processes that Spark's TorchDistributor starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quadrat.engines.spark import SparkEngine
from quadrat.errors import TrainError
from quadrat.finetuning import FinetuneSettings, Machine, finetune

pytest.importorskip("pyspark", reason="the Spark engine needs pyspark")
pytest.importorskip("torchvision", reason="fine-tuning needs torch and torchvision")


@pytest.fixture(scope="module")
def engine() -> Iterator[SparkEngine]:
    made = SparkEngine(
        "local[2]", conf={"spark.driver.memory": "512m", "spark.ui.enabled": "false"}
    )
    yield made
    made.close()


@pytest.mark.slow
def test_two_processes_on_spark_follow_the_curve_of_one(
    engine: SparkEngine, tmp_path: Path
) -> None:
    from finetune_tiles import write_tiles

    source = write_tiles(tmp_path, {"train": 60, "validation": 30}).uri
    settings = FinetuneSettings(
        backbone="resnet18",
        weights="random",
        depth="all",
        epochs=2,
        batch=12,
        seed=1,
    )
    events: list[tuple[str, Any]] = []
    one = finetune(source, str(tmp_path / "one"), settings, Machine("cpu", threads=1))
    two = finetune(
        source,
        str(tmp_path / "two"),
        settings,
        Machine("cpu", nproc=2, threads=1),
        engine=engine,
        on_event=lambda name, values: events.append((name, values)),
    )
    assert two.machine["processes"] == 2
    assert one.machine["processes"] == 1
    (a, b), (c, d) = ([h["loss"] for h in r.history] for r in (one, two))
    assert c == pytest.approx(a, rel=0.01)
    assert d == pytest.approx(b, rel=0.05)  # rounding grows from step to step
    names = [name for name, _ in events]
    assert names.count("epoch") == 2  # the first process alone speaks
    assert names[-1] == "model"


def test_more_processes_than_cores_is_an_error(engine: SparkEngine, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"--nproc 3 needs as many cores at once.* has 2"):
        finetune("tiles", str(tmp_path), machine=Machine("cpu", nproc=3), engine=engine)


@pytest.mark.long
def test_the_verb_trains_on_spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from finetune_tiles import write_tiles
    from quadrat import runs
    from quadrat.cli import run
    from quadrat.model import open_model

    monkeypatch.chdir(tmp_path)
    source = write_tiles(tmp_path, {"train": 24, "validation": 12}).uri
    words = (
        f"finetune {source} --out model --backbone shufflenet_v2_x0_5 --weights random --pixels 32 "
        "--batch 8 --epochs 2 --device cpu --threads 1 --engine spark --master local[2] --nproc 2"
    )
    assert run(words.split()) == 0
    assert open_model("model").legend.names
    (kept,) = runs.list_runs()
    assert kept.status == "FINISHED"
