"""The run history, read back through MLflow itself and through our own list."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from quadrat import metrics, runs
from quadrat.errors import MissingExtraError, QuadratError, RunError
from quadrat.runs import origin, store

NAMES = ("Developed", "Forest", "Crops & hay")


def figures() -> dict[str, Any]:
    """Accuracy of 200 tiles of which a known share is right."""
    truth = np.repeat([0, 1, 2], [100, 60, 40])
    pred = truth.copy()
    pred[:10], pred[100:130] = 1, 2
    return metrics.summarise(truth, pred, NAMES, draws=20).to_dict()


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A history with a finished, a failed and a stopped run."""
    folder = tmp_path_factory.mktemp("history")
    uri = f"sqlite:///{folder}/runs.db"
    (folder / "bundle").mkdir()
    (folder / "bundle" / "model.json").write_text('{"a": 1}')
    (folder / "bundle" / "model.onnx").write_bytes(b"onnx")
    with runs.start("train", name="logistic", params={"head": "logistic", "c": 1.0},
                    tracking_uri=uri) as run:  # fmt: skip
        run.record("params", {"sample_frac": 0.5, "head": "another", "weights": {"balanced": True}})
        run.record("data", {"digest": "abc", "tiles": 200, "splits": {"train": 150}})
        run.record("metrics", {"split": "validation", **figures()})
        run.record("model", {"uri": str(folder / "bundle"), "digest": "def"})
        run.record("features", {"tiles_per_s": 900, "place": "az://user@box/x?sig=SECRET"})
    for name, loss in (("slow", 1.0), ("fast", 0.5)):
        with runs.start("finetune", name=name, params={"lr": loss}, tracking_uri=uri) as run:
            for epoch in range(1, 6):
                run.record("epoch", {"epoch": epoch, "loss": loss / epoch,
                                     "validation": {"error": 1 / epoch}})  # fmt: skip
            run.record("metrics", {"split": "validation", "overall": {"value": 1 - loss / 5,
                                   "low": 0.1, "high": 1.0}})  # fmt: skip
    with pytest.raises(ValueError, match="bad"), runs.start("train", name="f", tracking_uri=uri):
        raise ValueError("bad\nthing")
    with pytest.raises(KeyboardInterrupt), runs.start("train", name="k", tracking_uri=uri):
        raise KeyboardInterrupt
    return uri


def mlflow_run(uri: str, name: str) -> Any:
    client = store.quiet_import().MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("quadrat").experiment_id
    (found,) = client.search_runs([experiment], f"attributes.run_name = '{name}'")
    return found


def test_mlflow_shows_settings_figures_and_digests(history: str) -> None:
    data = mlflow_run(history, "logistic").data
    assert data.params == {
        "head": "logistic", "c": "1.0", "sample_frac": "0.5", "weights/balanced": "True",
        "data/tiles": "200", "data/splits/train": "150",
    }  # fmt: skip
    assert data.metrics["validation/overall"] == pytest.approx(160 / 200)
    assert data.metrics["validation/classes/producers/Developed"] == pytest.approx(0.9)
    assert data.metrics["validation/classes/producers/Forest"] == pytest.approx(0.5)
    assert data.metrics["validation/classes/users/Crops _ hay"] == pytest.approx(40 / 70)
    assert data.metrics["validation/overall/low"] <= 0.8 <= data.metrics["validation/overall/high"]
    assert data.metrics["features/tiles_per_s"] == 900
    assert data.metrics["seconds"] > 0
    assert data.tags["data/digest"] == "abc"
    assert data.tags["model/digest"] == "def"
    assert data.tags["quadrat.source"] == origin.code()["source"]


def test_no_secret_is_kept(history: str) -> None:
    run = mlflow_run(history, "logistic")
    assert run.data.tags["features/place"] == "az://user@box/x"
    with sqlite3.connect(history.removeprefix("sqlite:///")) as database:
        assert "SECRET" not in "\n".join(database.iterdump())
    database.close()


def test_the_confusion_matrix_is_a_figure_and_a_table(history: str) -> None:
    folder = Path(runs.show_run("logistic", tracking_uri=history).artifacts)
    rows = list(csv.reader(io.StringIO((folder / "confusion/validation.csv").read_text())))
    assert rows[0][1:] == list(NAMES)
    assert rows[1] == ["Developed", "90", "10", "0"]
    assert rows[2] == ["Forest", "0", "30", "30"]
    table = json.loads((folder / "confusion/validation.json").read_text())
    assert table["matrix"] == [[90, 10, 0], [0, 30, 30], [0, 0, 40]]
    with Image.open(folder / "confusion/validation.png") as picture:
        assert min(picture.size) > 300


def test_the_bundle_is_an_artifact_beside_the_database(history: str) -> None:
    folder = Path(runs.show_run("logistic", tracking_uri=history).artifacts)
    assert folder.is_relative_to(Path(history.removeprefix("sqlite:///")).parent / "artifacts")
    assert (folder / "model/model.onnx").read_bytes() == b"onnx"
    assert (folder / "model/model.json").read_text() == '{"a": 1}'


def test_runs_end_as_they_went(history: str) -> None:
    by_name = {r.name: r for r in runs.list_runs(tracking_uri=history)}
    assert [by_name[n].status for n in ("logistic", "f", "k")] == ["FINISHED", "FAILED", "KILLED"]
    assert by_name["f"].tags["quadrat.error"] == "ValueError: bad thing"
    assert mlflow_run(history, "f").info.status == "FAILED"


def test_lists_are_newest_first_or_best_first_and_filtered(history: str) -> None:
    assert [r.name for r in runs.list_runs(tracking_uri=history)] == [
        "k", "f", "fast", "slow", "logistic"
    ]  # fmt: skip
    best = runs.list_runs(sort="validation/overall", limit=3, tracking_uri=history)
    assert [r.name for r in best] == ["fast", "slow", "logistic"]
    assert {r.name for r in runs.list_runs(kind="finetune", tracking_uri=history)} == {
        "fast", "slow"
    }  # fmt: skip
    json.dumps([r.to_dict() for r in best])


def test_a_history_that_is_not_there_is_empty_and_stays_unmade(tmp_path: Path) -> None:
    assert runs.list_runs(tracking_uri=str(tmp_path / "none" / "runs.db")) == ()
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_found_by_id_by_its_beginning_and_by_name(history: str) -> None:
    run = runs.show_run("logistic", tracking_uri=history)
    assert runs.show_run(run.id, tracking_uri=history) == run
    assert runs.show_run(run.id[:10], tracking_uri=history) == run
    with pytest.raises(RunError, match="no run 'nope'; `quadrat runs list`"):
        runs.show_run("nope", tracking_uri=history)


def test_two_runs_of_one_name_ask_for_an_id(tmp_path: Path) -> None:
    uri = str(tmp_path / "runs.db")
    for _ in range(2):
        with runs.start("train", name="same", tracking_uri=uri):
            pass
    with pytest.raises(RunError, match="2 runs are called 'same'"):
        runs.show_run("same", tracking_uri=uri)


def test_compare_gives_a_table_and_learning_curves_of_several_runs(
    history: str, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "compare.png"
    found = runs.compare_runs(["slow", "fast", "logistic"], out=str(out), tracking_uri=history)
    assert found.metrics["validation/overall"] == pytest.approx((0.8, 0.9, 0.8))
    assert found.metrics["validation/classes/f1/Forest"][:2] == (None, None)
    assert found.params["lr"] == ("1.0", "0.5", None)
    slow, fast, logistic = found.curves["epoch/loss"]
    assert slow == tuple((e, pytest.approx(1 / e)) for e in range(1, 6))
    assert fast == tuple((e, pytest.approx(0.5 / e)) for e in range(1, 6))
    assert logistic == ()
    json.dumps(found.to_dict())
    with Image.open(out) as picture:
        seen = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for color in ((0, 114, 178), (230, 159, 0), (0, 158, 115)):  # one a run
        assert (np.abs(seen.astype(int) - color).sum(1) < 12).sum() > 50


def test_compare_refuses_what_is_not_there(history: str) -> None:
    with pytest.raises(RunError, match="metric 'validation/nope'; they have: "):
        runs.compare_runs(["slow"], metrics=["validation/nope"], tracking_uri=history)
    with pytest.raises(RunError, match="name at least one"):
        runs.compare_runs([], tracking_uri=history)


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    uri = str(tmp_path / "runs.db")
    with pytest.raises(KeyboardInterrupt), runs.start("finetune", tracking_uri=uri) as run:
        run.record("params", {"lr": 1})
        run.record("epoch", {"epoch": 1, "loss": 3.0})
        run.record("epoch", {"epoch": 2, "loss": 9.0})
        raise KeyboardInterrupt
    with runs.start("finetune", params={"lr": 1}, resume=run.id, tracking_uri=uri) as again:
        again.record("epoch", {"epoch": 2, "loss": 2.0})
    (record,) = runs.list_runs(tracking_uri=uri)
    assert (record.id, record.status) == (run.id, "FINISHED")
    curves = runs.compare_runs([run.id], tracking_uri=uri).curves
    assert curves["epoch/loss"] == (((1, 3.0), (2, 2.0)),)


WRITER = """
    import sys
    from quadrat import runs
    with runs.start("train", name=sys.argv[2], tracking_uri=sys.argv[1]) as run:
        for step in range(20):
            run.record("epoch", {"epoch": step, "loss": step})
"""


@pytest.mark.long
def test_processes_write_one_new_history_at_once(tmp_path: Path) -> None:
    uri = str(tmp_path / "new" / "runs.db")
    command = [sys.executable, "-c", textwrap.dedent(WRITER), uri]
    writers = [
        subprocess.Popen([*command, f"w{i}"], stderr=subprocess.PIPE, text=True) for i in range(3)
    ]
    errors = [w.communicate(timeout=120)[1] for w in writers]
    assert errors == ["", "", ""]  # and none of MLflow's chatter
    found = runs.list_runs(tracking_uri=uri)
    assert sorted((r.name, r.status) for r in found) == [(f"w{i}", "FINISHED") for i in range(3)]
    curves = runs.compare_runs([r.id for r in found], tracking_uri=uri).curves["epoch/loss"]
    assert all(len(points) == 20 for points in curves)


@pytest.mark.long
def test_a_killed_run_is_told_from_one_at_work(tmp_path: Path) -> None:
    uri = str(tmp_path / "runs.db")
    script = (
        "import sys, time\nfrom quadrat import runs\n"
        f"with runs.start('train', tracking_uri={uri!r}):\n"
        "    print('ready', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert runs.list_runs(tracking_uri=uri)[0].status == "RUNNING"
    process.kill()
    process.wait()
    process.stdout.close()
    assert runs.list_runs(tracking_uri=uri)[0].status == "LOST"


def test_places_that_cannot_hold_a_history_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "text.db").write_text("this is no database, only some text\n" * 20)
    (tmp_path / "folder.db").mkdir()
    bad = {
        f"{tmp_path}/file/runs.db": "is a file where a folder is needed",
        f"{tmp_path}/text.db": "file is not a database; move it away",
        f"{tmp_path}/folder.db": "is a folder",
        "nonsense://user:SECRET@host/x": "--tracking-uri",
    }
    for uri, says in bad.items():
        with pytest.raises(QuadratError) as error, runs.start("train", tracking_uri=uri):
            pass
        assert says in str(error.value)
        assert "SECRET" not in str(error.value)
        assert "\n" not in str(error.value)


def test_a_server_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with (
        pytest.raises(RunError, match=r"http://127\.0\.0\.1:9"),
        runs.start("train", tracking_uri="http://me:SECRET@127.0.0.1:9"),
    ):
        pass


def test_the_commit_is_of_this_code_and_no_other(tmp_path: Path) -> None:
    package = tmp_path / "src" / "quadrat"
    package.mkdir(parents=True)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@e"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "m"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert origin.checkout_commit(package) == head.stdout.strip()
    assert origin.checkout_commit(tmp_path / ".venv" / "lib" / "quadrat") is None
    before = origin.source_digest(package)
    (package / "a.py").write_text("x = 1\n")
    assert origin.source_digest(package) != before


@pytest.mark.long
def test_the_pages_open_on_the_history(history: str) -> None:
    port = free_port()
    script = f"from quadrat import runs\nruns.ui({port}, tracking_uri={history!r})\n"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        base = f"http://127.0.0.1:{port}"
        wait_for(f"{base}/health")
        query = json.dumps({"experiment_ids": ["1"], "max_results": 50}).encode()
        request = urllib.request.Request(
            f"{base}/api/2.0/mlflow/runs/search", query, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            rows = json.load(answer)["runs"]
        assert {row["info"]["run_name"] for row in rows} >= {"logistic", "fast", "slow"}
        with runs.start("train", name="remote", tracking_uri=base) as run:
            run.record("metrics", {"split": "validation", **figures()})
        record = runs.show_run("remote", tracking_uri=base)
        assert record.metrics["validation/overall"] == pytest.approx(0.8)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def test_no_password_of_the_history_is_among_a_processs_arguments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(runs.store, "client", lambda uri: None)
    monkeypatch.setattr(os, "execve", lambda _, args, env: called.append((args, env)))
    address = "postgresql://me:S3cr3t@db/runs"
    runs.ui(tracking_uri=address)
    ((args, env),) = called
    assert "S3cr3t" not in " ".join(args)
    assert env["MLFLOW_BACKEND_STORE_URI"] == address


def test_pages_of_a_server_are_its_own() -> None:
    with pytest.raises(RunError, match="open http://host:1 in a browser"):
        runs.ui(tracking_uri="http://host:1")


def free_port() -> int:
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def wait_for(url: str) -> None:
    end = time.monotonic() + 180
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def test_pages_without_mlflows_server_name_the_extra(
    history: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base install has MLflow's client alone, which keeps, lists and compares runs."""
    monkeypatch.setattr(runs.store, "has_server", lambda: False)
    with pytest.raises(MissingExtraError, match=r"quadrat\[runs-ui\]"):
        runs.ui(tracking_uri=history)


def test_the_list_finds_the_histories_of_commands_in_this_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after `quadrat demo`, which keeps its history with its files."""
    from quadrat import workspace
    from quadrat.cli import run

    monkeypatch.chdir(tmp_path)
    assert run(["runs", "list"]) == 0
    assert "no runs yet" in capsys.readouterr().out
    demo = str(tmp_path / "demo" / "runs.db")
    with runs.start("train", name="demo", tracking_uri=demo) as made:
        made.record("metrics", {"split": "validation", **figures()})
    workspace.note("runs", made.tracking_uri, run=made.id)
    assert run(["runs", "list"]) == 0
    out = capsys.readouterr().out
    assert "demo" in out and str(Path("demo", "runs.db")) in out
    assert run(["runs", "show", "demo"]) == 0
    with runs.start("train", name="mine") as own:
        own.record("metrics", {"split": "validation", **figures()})
    capsys.readouterr()
    assert run(["runs", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["runs"]
    assert [r["name"] for r in listed] == ["mine", "demo"]
    assert listed[1]["tracking_uri"] == made.tracking_uri
    assert run(["runs", "compare", "demo", "--out", "c.png"]) == 0
    assert run(["runs", "show", "nowhere"]) == 1
    assert "no run 'nowhere'" in capsys.readouterr().err


def test_the_page_is_that_of_quadrats_experiment(tmp_path: Path) -> None:
    uri = str(tmp_path / "runs.db")
    with runs.start("train", name="a", tracking_uri=uri):
        pass
    assert runs.page(8000, tracking_uri=uri) == "http://127.0.0.1:8000/#/experiments/1"
    assert runs.page(tracking_uri="http://host:5000") == "http://host:5000"
