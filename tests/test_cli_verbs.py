"""The verbs on a small synthetic county, as a user runs them: one working folder, start to end."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import rasterio
from PIL import Image

from quadrat.cli import run


@pytest.fixture(scope="module")
def work(county: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Every verb run once, in a folder of its own; the answers of `--json` by verb."""
    folder = tmp_path_factory.mktemp("work")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    patch.setenv("QUADRAT_CACHE", str(folder / "cache"))
    answers: dict[str, Any] = {"folder": folder}
    lines = {
        "tile": f"tile {county.imagery[0]} --labels {county.labels[0]} --out tiles --block 3 "
        "--validation 0.3",
        "train": "train tiles --out model --backbone mean_colour --workers 1",
        "forest": "train tiles --out forest --backbone mean_colour --head forest --name woods",
        "score": f"score model {county.imagery[1]} --out scores --csv scores.csv",
        "map": "map scores --out map.tif --png map.png --geojson map.geojson --smooth 2",
        "unpack": "unpack tiles --out pictures",
        "pack": "pack pictures --out packed",
        "list": "runs list",
        "show": "runs show woods",
        "compare": "runs compare model woods --out chart.png",
        "clean": "clean --dry-run",
    }
    for verb, line in lines.items():
        answers[verb] = answer(line)
    yield answers
    patch.undo()


def answer(line: str) -> Any:
    """The JSON of a command line that must succeed."""
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = run([*line.split(), "--json"])
    assert code == 0, out.getvalue()
    return json.loads(out.getvalue())


def test_a_tile_set_says_what_it_holds(work: Any, county: Any) -> None:
    found = work["tile"]
    rows = pq.read_table(work["folder"] / "tiles" / "parts")
    assert found["tiles"] == len(rows) == county.tiles
    assert found["audit"]["touching"] == 0
    assert sum(found["counts"]["split"].values()) == county.tiles


def test_training_says_how_good_the_model_is_and_keeps_the_run(work: Any) -> None:
    found = work["train"]
    assert 0.3 < found["accuracy"] <= 1
    assert (
        json.loads((work["folder"] / "model" / "model.json").read_text())["run_id"]
        == (found["run"])
    )
    names = {r["name"]: r for r in work["list"]["runs"]}
    assert set(names) == {"model", "woods"}
    overall = names["model"]["metrics"]["validation/overall"]
    assert overall == pytest.approx(found["metrics"]["overall"]["value"])
    assert work["show"]["params"]["head"] == "forest"
    assert work["show"]["tags"]["data/digest"] == work["tile"]["digest"]
    assert work["show"]["tags"]["model/digest"] == work["forest"]["digest"]


def test_comparing_shows_what_differs_and_draws_it(work: Any) -> None:
    assert work["compare"]["params"]["head"] == ["logistic", "forest"]
    assert len(work["compare"]["metrics"]["validation/overall"]) == 2
    with Image.open(work["folder"] / "chart.png") as chart:
        assert chart.width > 500


def test_scores_are_of_every_tile_and_in_a_table(work: Any, county: Any) -> None:
    assert work["score"]["tiles"] == county.tiles == sum(work["score"]["counts"].values())
    with (work["folder"] / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == county.tiles
    assert set(rows[0]) == {"filepath", "pred_label"}


def test_a_map_lies_on_the_right_ground(work: Any, county: Any) -> None:
    with rasterio.open(work["folder"] / "map.tif") as data:
        assert data.crs.to_epsg() == 26917
        assert tuple(data.bounds) == pytest.approx(tuple(county.grid.range_bounds(county.area)))
        assert (data.read(1) != data.nodata).sum() == county.tiles
    assert (work["folder"] / "map.png").stat().st_size > 5_000


def test_pictures_go_out_and_in_again(work: Any, county: Any) -> None:
    assert work["unpack"]["tiles"] == county.tiles
    assert work["pack"]["counts"]["label"] == work["tile"]["counts"]["label"]


def test_clean_lists_what_was_made(work: Any) -> None:
    items = work["clean"]["items"]
    kinds = [i["kind"] for i in items]
    assert {k: kinds.count(k) for k in set(kinds) - {"cache"}} == {
        "tiles": 2, "models": 2, "runs": 2, "scores": 1, "files": 9,
    }  # fmt: skip
    assert work["clean"]["deleted"] is False
    assert all(i["bytes"] > 0 for i in items if i["kind"] != "cache")


def test_clean_asks_before_it_deletes(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from quadrat import workspace

    monkeypatch.chdir(tmp_path)
    (tmp_path / "map.png").write_bytes(b"x")
    workspace.note("files", "map.png")
    assert run(["clean"]) == 2
    assert "--yes" in capsys.readouterr().err
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    for reply, is_there in (("n", True), ("y", False)):
        monkeypatch.setattr("click.termui.visible_prompt_func", lambda _, reply=reply: reply)
        assert run(["clean", "--only", "files"]) == 0
        assert (tmp_path / "map.png").exists() is is_there
    assert run(["clean", "--yes"]) == 0
    assert "nothing" in capsys.readouterr().out


def test_words_for_people(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same without --json: features are made, and the words name the outputs."""
    monkeypatch.setenv("QUADRAT_CACHE", str(tmp_path / "cache"))  # others have these features
    assert run(["train", "tiles", "--out", "model", "--backbone", "mean_colour"]) == 0
    out, err = capsys.readouterr()
    assert "overall accuracy 0." in out or "overall accuracy 1." in out
    assert "producer's" in out
    assert "features: " in err
    assert run(["runs", "list", "--sort", "validation/overall"]) == 0
    assert "woods" in capsys.readouterr().out
    assert run(["runs", "compare", "model"]) == 1  # two runs have that name by now
    assert "2 runs are called 'model'" in capsys.readouterr().err


def test_mistakes_are_one_line_and_leave_no_run(
    work: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for line, says in (
        ("train nowhere --out m2", "nowhere"),
        ("score nowhere tiles --out s2", "nowhere"),
        ("map tiles --out t.tif", "scores.json"),
        ("tile nowhere.tif --out t2", "nowhere.tif"),
        ("runs show nowhere", "no run 'nowhere'"),
    ):
        assert run(line.split()) == 1
        err = capsys.readouterr().err.strip()
        assert err.startswith("Error: ") and says in err and "\n" not in err
        assert "defect" not in err
    folder = work["folder"]
    assert not any((folder / n).exists() for n in ("m2", "s2", "t2", "t.tif"))


@pytest.mark.slow
def test_the_demo_is_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUADRAT_CACHE", str(tmp_path / "cache"))
    assert run(["demo", "--tiles", "320", "--seed", "1"]) == 0
    out = capsys.readouterr().out
    for name in ("map.png", "map.tif", "scores/parts", "county/imagery_2011.tif", "runs.db"):
        assert name in out
        assert (tmp_path / "demo" / name).exists()
    assert run(["demo", "--tiles", "320", "--seed", "1"]) == 0  # again, over the first
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    assert run(["demo", "--out", "mine"]) == 1
    assert "choose another --out" in capsys.readouterr().err
    assert run(["clean", "--yes"]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"mine"}
