"""Plots to train with: informative ones, and never those that areas are estimated by."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import quadrat as qd
from made_scores import certain, square, write_scores
from quadrat.cli import run
from quadrat.errors import InputError
from quadrat.sampling import informative


def test_plots_that_the_model_is_unsure_of_are_chosen() -> None:
    rng = np.random.default_rng(0)
    p = certain(rng.integers(0, 6, 400), p=0.995)
    unsure = rng.choice(400, 60, replace=False)
    p[unsure] = rng.dirichlet(np.ones(6), 60)
    chosen = informative.choose(p, 30, np.random.default_rng(1), features=rng.normal(size=(400, 8)))
    assert len(set(chosen)) == 30
    assert np.isin(chosen, unsure).mean() > 0.9


def test_plots_that_look_alike_are_not_chosen_again_and_again() -> None:
    """Ten looks, one of which 500 tiles share: each look is chosen before one comes twice."""
    rng = np.random.default_rng(0)
    look = np.concatenate([np.zeros(500, int), np.arange(1, 10)])
    x = rng.normal(size=(10, 16))[look] + rng.normal(scale=1e-6, size=(509, 16))
    p = np.full((509, 4), 0.25) + rng.normal(scale=1e-9, size=(509, 4))
    chosen = informative.choose(p, 10, np.random.default_rng(1), features=x)
    assert sorted(look[chosen]) == list(range(10))


def test_gradients_are_told_apart_without_being_written_out() -> None:
    """Distances against the outer products themselves."""
    rng = np.random.default_rng(3)
    p, x = rng.dirichlet(np.ones(4), 50), rng.normal(size=(50, 5))
    chosen = informative.choose(p, 50, np.random.default_rng(7), features=x)
    residual = -p.copy()
    residual[np.arange(50), p.argmax(1)] += 1
    g = np.einsum("nk,nd->nkd", residual, informative.standardised(x)).reshape(50, -1)
    length = (g**2).sum(1)
    again, nearest, free = np.random.default_rng(7), length.copy(), np.ones(50, bool)
    at = int(length.argmax())
    for step in range(40):
        assert chosen[step] == at
        nearest, free[at] = np.minimum(nearest, ((g - g[at]) ** 2).sum(1)), False
        weight = np.where(free, nearest, 0)
        at = int(again.choice(50, p=weight / weight.sum()))


def test_plots_do_not_touch_while_there_is_room() -> None:
    rows, cols = square(20)
    p = np.random.default_rng(0).dirichlet(np.ones(6), 400)
    chosen = informative.choose(p, 60, np.random.default_rng(1), rows=rows, cols=cols)
    r, c = rows[chosen], cols[chosen]
    apart = np.maximum(np.abs(r[:, None] - r), np.abs(c[:, None] - c))
    assert apart[~np.eye(60, dtype=bool)].min() >= 2
    assert (
        len(set(informative.choose(p, 400, np.random.default_rng(1), rows=rows, cols=cols))) == 400
    )
    with pytest.raises(InputError, match="draw fewer"):
        informative.choose(p, 401, np.random.default_rng(1))


@pytest.fixture
def scores(tmp_path: Path) -> str:
    """400 tiles of which the last 100 are held out to validate."""
    rows, cols = square(20)
    split = np.where(np.arange(400) < 300, "train", "validation")
    p = np.random.default_rng(0).dirichlet(np.ones(6), 400)
    return write_scores(str(tmp_path / "scores"), rows, cols, p, split=split, date="2011-06-03")


def test_a_sample_to_train_with_has_no_tile_that_measures(scores: str, tmp_path: Path) -> None:
    areas = qd.sample(scores, str(tmp_path / "areas"), plots=100, seed=3)
    made = qd.sample(
        scores, str(tmp_path / "more"), plots=40, purpose="training", apart_from=[areas.uri], seed=1
    )
    assert made.purpose == "training" and len(made) == 40 and not made.strata
    rows, cols = square(20)
    at = {t: i for i, t in enumerate(zip(rows.tolist(), cols.tolist(), strict=True))}
    mine = {(int(r), int(c)) for r, c in zip(made.rows, made.cols, strict=True)}
    assert all(at[t] < 300 for t in mine)  # none of the validation tiles
    assert not mine & {(int(r), int(c)) for r, c in zip(areas.rows, areas.cols, strict=True)}
    again = qd.open_sample(made.uri)
    assert again.purpose == "training" and np.isnan(again.probability).all()
    assert again.info["apart_from"] == [areas.digest]
    assert again.info["chosen_by"] == "probabilities"


def test_what_is_for_probability_samples_is_refused(scores: str, tmp_path: Path) -> None:
    out = str(tmp_path / "more")
    for option in (
        {"design": "random"}, {"strata": ["certainty"]}, {"reserve": 5}, {"area": "Forest"},
        {"half_width": 0.1}, {"allocation": "equal"}, {"minimum": 3}, {"accuracy": 0.8},
    ):  # fmt: skip
        with pytest.raises(InputError, match="is for probability samples"):
            qd.sample(scores, out, purpose="training", **option)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="--apart-from needs --for training"):
        qd.sample(scores, out, apart_from=[out])
    with pytest.raises(InputError, match="draw fewer"):
        qd.sample(scores, out, purpose="training", plots=301)


def test_the_command_says_that_no_areas_follow(
    scores: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "more")
    assert run(["sample", scores, "--for", "training", "--plots", "20", "--out", out]) == 0
    said = capsys.readouterr().out
    assert "20 plots to train with" in said and "no areas follow from them" in said
    assert json.loads((tmp_path / "more" / "sample.json").read_text())["purpose"] == "training"
