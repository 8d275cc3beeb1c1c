"""Ways to Spark: settings of the command line, spark-submit, Connect, one model a process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from quadrat import cli, engines
from quadrat.engines import Abilities, get_engine, tasks_per_process
from quadrat.errors import TrainError

ROOT = Path(__file__).parents[1]


def test_settings_of_the_command_line_reach_the_engine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import quadrat.scoring  # noqa: F401 - modules bind the engine's maker when first loaded

    asked: list[dict[str, Any]] = []

    def stop(name: str, **options: Any) -> Any:
        asked.append({"name": name, **options})
        raise engines.EngineError("enough")

    monkeypatch.setattr(engines, "get_engine", stop)
    line = ["score", "model", "tiles", "--out", "scores", "--engine", "spark"]
    conf = ["--conf", "spark.executor.memory=4g", "--conf", "spark.x=a=b"]
    assert cli.run([*line, *conf]) == 1
    assert asked[0]["conf"] == {"spark.executor.memory": "4g", "spark.x": "a=b"}
    assert cli.run(line) == 1
    assert asked[1]["conf"] is None
    assert cli.run([*line, "--conf", "spark.executor.memory"]) == 2
    assert "is no KEY=VALUE" in capsys.readouterr().err
    assert cli.run([*line[:-1], "local", *conf]) == 2
    assert "--conf needs --engine spark" in capsys.readouterr().err


def test_a_udf_opens_a_model_once_in_a_process(
    county_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quadrat import model as models
    from quadrat import spark

    opened: list[str] = []
    load = models.open_model
    monkeypatch.setattr(models, "open_model", lambda uri: opened.append(uri) or load(uri))
    Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(tmp_path / "a.png")
    picture = (tmp_path / "a.png").read_bytes()
    digest = load(county_model).digest
    results = []
    for _ in range(5):  # each batch comes with a copy of its own
        scorer = spark._Scorer(county_model, digest, "fp32", None, "label")
        results.append(scorer([picture, None]))
    assert len(opened) == 1
    assert all(r == results[0] and r[0] is not None and r[1] is None for r in results)


class Connected:
    """An engine like Spark on Connect, which must not be asked to work."""

    name = "spark"
    slots = 1
    abilities = Abilities(trains_heads=("logistic",))


def test_a_forest_on_connect_is_refused_at_once(tmp_path: Path) -> None:
    from quadrat.heads import train

    with pytest.raises(TrainError, match=r"Spark Connect does not show a forest's trees; give"):
        train("nowhere", str(tmp_path / "m"), head="forest", engine=Connected())  # type: ignore[arg-type]
    assert not (tmp_path / "m").exists()


def test_an_engine_that_says_nothing_shares_no_process() -> None:
    assert tasks_per_process(types.SimpleNamespace(slots=7)) == 1  # type: ignore[arg-type]
    assert tasks_per_process(get_engine("local", workers=3)) == 3


def test_a_connect_session_of_the_process_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyspark")
    from quadrat.engines import spark_session

    session = types.SimpleNamespace(is_stopped=False)
    kind = types.SimpleNamespace(getActiveSession=lambda: None, _default_session=session)
    module: Any = types.ModuleType("pyspark.sql.connect.session")
    module.SparkSession = kind
    monkeypatch.setitem(sys.modules, "pyspark.sql.connect.session", module)
    monkeypatch.setenv("SPARK_CONNECT_MODE_ENABLED", "1")  # as pyspark's own builder leaves it
    assert spark_session._found() is session


def test_the_file_for_spark_submit_is_the_command_line(tmp_path: Path) -> None:
    file = ROOT / "src" / "quadrat" / "cli" / "__main__.py"
    assert "/cli/__main__.py" in (ROOT / "docs" / "cluster.md").read_text("utf-8")
    done = subprocess.run(
        [sys.executable, str(file), "train", "--help"],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "--backbone" in done.stdout


@pytest.mark.slow
def test_spark_submit_as_printed_runs(county_model: str, county_tiles: Any, tmp_path: Path) -> None:
    pyspark = pytest.importorskip("pyspark")
    text = (ROOT / "docs" / "cluster.md").read_text("utf-8")
    (printed,) = re.findall(r"^    (spark-submit (?:.*\\\n)+.*)$", text, re.MULTILINE)
    printed = re.sub(r"--master yarn", "--master local[1]", printed)
    printed = re.sub(
        r"spark\.pyspark\.python=\S+", f"spark.pyspark.python={sys.executable}", printed
    )
    printed = printed.replace("az://county/model", county_model)
    printed = printed.replace("az://county/tiles", county_tiles.uri)
    printed = printed.replace("az://county/scores", str(tmp_path / "scores"))
    folders = [str(Path(sys.executable).parent), str(Path(pyspark.__file__).parent / "bin")]
    done = subprocess.run(
        ["bash", "-c", f"{printed} --json"],
        capture_output=True, text=True, timeout=400, check=False, cwd=tmp_path,
        env={
            **os.environ,
            "PATH": os.pathsep.join([*folders, os.environ["PATH"]]),
            "PYTHONPATH": str(ROOT / "src"),
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout[done.stdout.index("{") :])
    assert found["tiles"] == county_tiles.tiles
