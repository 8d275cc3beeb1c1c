"""`train --labels`: what people said of plots that were drawn to train with, and nothing else."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import quadrat as qd
from quadrat import tiles
from quadrat.cli import run
from quadrat.errors import InputError, LabelError, TrainError
from quadrat.reviews import store
from quadrat.reviews.answers import PlotAnswer, Seen
from quadrat.reviews.plots import open_plots
from quadrat.tiles import read_part
from quadrat.tiles.relabelled import GivenLabels, RelabelledSet


def answered(sample: str, said: Any) -> str:
    """A review of a sample in which every plot has the answer `said(plot)`: class or shares."""
    listed = open_plots(sample)
    file = f"{sample}/review.gpkg"
    kept = store.create(file, listed.about)
    answers = []
    for plot in listed.plots:
        what = said(plot)
        shares = what if isinstance(what, dict) else None
        main = max(what, key=what.get) if shares else what
        seen = tuple(Seen(d, main, shares) for d in listed.dates)
        answers.append(PlotAnswer(plot.number, plot.tile, "Ana", seen))
    store.append(kept, answers)
    return file


@pytest.fixture(scope="module")
def scores(county_tiles: Any, county_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = str(tmp_path_factory.mktemp("reviewed") / "scores")
    qd.score(county_model, county_tiles.uri, out, keep_features=True)
    return out


def train(county_tiles: Any, folder: Path, name: str, **more: Any) -> Any:
    return qd.train(
        county_tiles.uri, str(folder / name), backbone="mean_colour", precision="fp32",
        cache=str(folder / "cache"), **more,
    )  # fmt: skip


def test_labels_of_people_replace_those_of_their_tiles(
    county_tiles: Any, scores: str, tmp_path: Path
) -> None:
    made = qd.sample(scores, str(tmp_path / "more"), plots=25, purpose="training")
    assert made.info["chosen_by"] == "gradients of the last layer"
    labels = answered(made.uri, lambda plot: "Barren" if plot.number % 2 else "Cultivated")
    plain = train(county_tiles, tmp_path, "plain")
    result = train(county_tiles, tmp_path, "reviewed", labels=labels)
    # by hand: the class of every training tile, the plots' by the interpreter
    index = tiles.index(county_tiles)
    said = {
        (int(r), int(c)): "Barren" if n % 2 else "Cultivated"
        for n, r, c in zip(made.plots, made.rows, made.cols, strict=True)
    }
    expected, before, placed = Counter(), Counter(), 0
    rows = zip(*(index[n].to_pylist() for n in ("row", "col", "label", "split")), strict=True)
    for row, col, label, split in rows:
        if split == "train":
            placed += (row, col) in said
            expected[said.get((row, col), label)] += 1
            before[label] += 1
    names = county_tiles.legend.names
    assert {n: result.tiles["train"].get(n, 0) for n in names} == {n: expected[n] for n in names}
    assert {n: plain.tiles["train"].get(n, 0) for n in names} == {n: before[n] for n in names}
    assert result.tiles["validation"] == plain.tiles["validation"]
    about = qd.open_model(result.uri).info.head["labels"]
    scored = str(tmp_path / "scored")
    qd.score(result.uri, county_tiles.uri, scored)
    assert qd.open_scores(scored).info["model"]["labels"] == about
    assert about["tiles"] == placed == len(about["places"]) > 5
    assert about["sample"] == made.digest
    assert result.digest != plain.digest
    if placed < 25:
        assert any("train nothing" in w for w in result.warnings)


def test_tiles_are_read_with_the_labels_that_were_given(county_tiles: Any) -> None:
    index = tiles.index(county_tiles)
    names = county_tiles.legend.names
    rows, cols = (index[n].to_numpy().astype(np.int64)[5:8] for n in ("row", "col"))
    shares = np.zeros((3, len(names)))
    shares[0, 1], shares[1, [0, 2]], shares[2, 3] = 1, 0.5, 1
    source = RelabelledSet(county_tiles, GivenLabels(names, rows, cols, shares))
    assert source.digest != county_tiles.digest
    batches = [b for part in source.parts() for b in read_part(part)]
    plain = [b for part in county_tiles.parts() for b in read_part(part)]
    for mine, theirs in zip(batches, plain, strict=True):
        assert np.array_equal(mine.chips, theirs.chips)
        for i in range(len(theirs.index)):
            new, old = (
                mine.index.slice(i, 1).to_pylist()[0],
                theirs.index.slice(i, 1).to_pylist()[0],
            )
            at = np.flatnonzero((rows == old["row"]) & (cols == old["col"]))
            if len(at):
                k = int(at[0])
                old["label"] = (names[1], None, names[3])[k]
                old |= {f"frac_{n}": shares[k, j] for j, n in enumerate(names)}
            assert new == old
    assert tiles.index(source).drop(["part"]).to_pylist() == [
        r for b in batches for r in b.index.to_pylist()
    ]


def test_a_sample_for_areas_trains_nothing(county_tiles: Any, scores: str, tmp_path: Path) -> None:
    made = qd.sample(scores, str(tmp_path / "areas"), plots=25)
    labels = answered(made.uri, lambda plot: "Barren")
    with pytest.raises(LabelError, match="drawn for estimation; such plots never train"):
        train(county_tiles, tmp_path, "model", labels=labels)
    assert not (tmp_path / "model").exists()


@pytest.mark.long
def test_labels_that_do_not_fit_are_named(
    county_tiles: Any, scores: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = qd.sample(scores, str(tmp_path / "more"), plots=10, purpose="training")
    labels = answered(made.uri, lambda plot: "Barren")
    (tmp_path / "pictures" / "a").mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "pictures" / "a" / "1.png")
    with pytest.raises(TrainError, match="no tile set on a grid"):
        qd.train(tiles.open_folder(str(tmp_path / "pictures")), str(tmp_path / "m"), labels=labels)
    code = run(
        ["train", county_tiles.uri, "--backbone", "mean_colour", "--precision", "fp32",
         "--labels", str(tmp_path / "none.gpkg"), "--out", str(tmp_path / "m")]
    )  # fmt: skip
    assert code == 1 and "none.gpkg does not exist" in capsys.readouterr().err


def test_plots_that_trained_a_map_do_not_measure_it(
    county_tiles: Any, scores: str, tmp_path: Path
) -> None:
    """A sample that was drawn first, and plots to train with that were not kept apart from it."""
    first = qd.sample(scores, str(tmp_path / "first"), plots=60)
    kept = answered(first.uri, lambda plot: {"Forest": 1.0})
    more = qd.sample(scores, str(tmp_path / "more"), plots=150, purpose="training")
    labels = answered(more.uri, lambda plot: {"Developed": 1.0})
    anew = train(county_tiles, tmp_path, "anew", labels=labels)
    qd.score(anew.uri, county_tiles.uri, str(tmp_path / "again"))
    how = {"sample": first.uri, "answers": [kept], "other_map": True}
    with pytest.raises(InputError, match=r"plots of .*first trained the model of .*again"):
        qd.area(str(tmp_path / "again"), **how)
    apart = qd.sample(
        scores, str(tmp_path / "apart"), plots=150, purpose="training", apart_from=[first.uri]
    )
    labels = answered(apart.uri, lambda plot: {"Developed": 1.0})
    better = train(county_tiles, tmp_path, "better", labels=labels)
    qd.score(better.uri, county_tiles.uri, str(tmp_path / "third"))
    assert qd.area(str(tmp_path / "third"), **how).rows
