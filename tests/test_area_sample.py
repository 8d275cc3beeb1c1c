"""Areas from interpreted plots: against published examples, textbook formulas and known truth."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_scores import square, write_scores
from quadrat.areas import area, design, estimators, interpreters
from quadrat.areas.design import SurveyDesign
from quadrat.areas.estimators import Auxiliary
from quadrat.areas.interpreted import Interpretation, moved
from quadrat.areas.sampled import accuracy, figures_of
from quadrat.cli import run
from quadrat.errors import InputError, LabelError, ScoresError
from quadrat.legend import load_legend
from quadrat.sampling import PlotSample, open_sample, sample

NAMES = load_legend("nlcd3").names
K = len(NAMES)

# Stehman 2014, Int. J. Remote Sens. 35, 4923-4939, tables 2 and 3: strata, map and reference of 40
# plots; strata of 40,000, 30,000, 20,000 and 10,000. Figures of pages 4932 to 4936, with the digits
# of the R package mapaccuracy 0.1.2, which follows the paper's equations; for the standard error of
# the producer's accuracy the paper prints 0.114 by a slip.
STRATA = "A" * 10 + "B" * 10 + "C" * 10 + "D" * 10
MAP = "A" * 7 + "B" * 3 + "A" + "B" * 11 + "C" * 6 + "BB" + "D" * 10
TRUE = "AAAAACBABC" + "A" + "B" * 5 + "AABB" + "CCCCCDDBBA" + "D" * 7 + "CCB"
SIZES = np.array([40_000.0, 30_000, 20_000, 10_000])


def ids(letters: str) -> np.ndarray:
    return np.array(["ABCD".index(c) for c in letters])


def stehman() -> Interpretation:
    """The example as an interpretation of one reading; what the map says elsewhere is not used."""
    values, shown = np.eye(4)[ids(TRUE)], np.eye(4)[ids(MAP)]
    cells = np.tile(SIZES[:, None] / 4, (1, 4))
    return Interpretation(
        SurveyDesign(ids(STRATA), SIZES), np.arange(40), values, values[None], ("one",), shown,
        cells / SIZES[:, None], ids(MAP), cells, tuple("ABCD"),
    )  # fmt: skip


def test_stehmans_example_of_strata_unlike_the_map() -> None:
    found = stehman()
    value = design.mean(found.design, found.values)
    se = design.standard_error(found.design, found.values)[0]
    assert value[[0, 2]] == pytest.approx([0.35, 0.20])
    assert se[[0, 2]] == pytest.approx([0.0822478, 0.06427977], abs=2e-5)  # fpc: 1 - 10 / 40,000
    got = accuracy(found, 0.95)
    assert got.overall.value == pytest.approx(0.63)
    assert got.users[1].value == pytest.approx(0.5744681, abs=1e-7)
    assert got.producers[1].value == pytest.approx(0.7941176, abs=1e-7)
    for top, bottom, expected in (
        (ids(TRUE) == ids(MAP), np.ones(40), 0.08464219),
        ((ids(TRUE) == 1) & (ids(MAP) == 1), ids(MAP) == 1, 0.1247822),
        ((ids(TRUE) == 1) & (ids(MAP) == 1), ids(TRUE) == 1, 0.1165479),
    ):
        a, b = (design.mean(found.design, np.array(v, float)[:, None])[0] for v in (top, bottom))
        residual = (np.array(top, float) - a / b * np.array(bottom, float)) / b
        error = design.standard_error(found.design, residual[:, None])[0][0]
        assert error == pytest.approx(expected, abs=3e-5)


def simple(y: np.ndarray, x: np.ndarray, total: np.ndarray) -> tuple[SurveyDesign, Auxiliary]:
    """One stratum of 1,000 tiles; the map's mean of x is `total` over all tiles."""
    n = len(y)
    plan = SurveyDesign(np.zeros(n, np.int64), np.array([1000.0]))
    group = (x[:, 0] > 0.5).astype(np.int64)
    aux = Auxiliary(x, total[None], np.zeros_like(x), np.zeros((1, x.shape[1])), group,
                    np.array([700.0, 300.0]))  # fmt: skip
    return plan, aux


def test_ratio_difference_and_post_stratified_are_the_textbooks() -> None:
    """Cochran 1977: 6.13 (ratio), 7.7 (difference), 5A.42 (post-stratified)."""
    rng = np.random.default_rng(0)
    x = rng.random((50, 1))
    y = np.clip(0.8 * x + rng.normal(0, 0.1, (50, 1)), 0, 1)
    plan, aux = simple(y, x, np.array([0.4]))
    left = 1 - 50 / 1000
    got = estimators.ratio(plan, y, aux)
    slope = y.mean() / x.mean()
    assert got.value[0] == pytest.approx(slope * 0.4)
    residual = y - slope * x
    expected = left / 50 * (residual**2).sum() / 49 * (0.4 / x.mean()) ** 2
    assert design.variance(plan, got.values)[0][0] == pytest.approx(expected)
    got = estimators.difference(plan, y, aux)
    assert got.value[0] == pytest.approx(0.4 + (y - x).mean())
    assert design.variance(plan, got.values)[0][0] == pytest.approx(left / 50 * (y - x).var(ddof=1))
    got = estimators.post_stratified(plan, y, aux)
    groups = [y[aux.group == g] for g in (0, 1)]
    assert got.value[0] == pytest.approx(0.7 * groups[0].mean() + 0.3 * groups[1].mean())
    expected = sum(w**2 * g.var(ddof=1) / len(g) for w, g in zip((0.7, 0.3), groups, strict=True))
    assert design.variance(plan, got.values)[0][0] == pytest.approx(left * expected * 50 / 49)


def test_regression_is_least_squares_on_the_other_folds() -> None:
    rng = np.random.default_rng(1)
    x = rng.random((60, 1))
    y = 0.3 + 0.5 * x + rng.normal(0, 0.05, (60, 1))
    plan, aux = simple(y, x, np.array([0.45]))
    got = estimators.regression(plan, y, aux)
    fold, parts = estimators.folds(plan), np.zeros(60)
    for f in range(estimators.FOLDS):
        slope, _ = np.polyfit(x[fold != f, 0], y[fold != f, 0], 1)
        parts[fold == f] = (y + slope * (0.45 - x))[fold == f, 0]
    assert got.value[0] == pytest.approx(parts.mean(), abs=1e-6)
    assert design.variance(plan, got.values)[0][0] == pytest.approx(
        (1 - 0.06) * parts.var(ddof=1) / 60, rel=1e-6
    )


def population(seed: int = 0, side: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """True shares of plots that are mixed and alike nearby, and what a model says of them."""
    rng = np.random.default_rng(seed)
    field = rng.normal(size=(side + 8, side + 8, K))
    smooth = sum(
        np.roll(field, (i, j), (0, 1)) for i in range(-4, 5) for j in range(-4, 5)
    )[4:-4, 4:-4] / 9  # fmt: skip
    logits = 3 * smooth.reshape(-1, K) + np.array([-2.5, 1.0, 0.0])
    true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    seen = logits + rng.normal(0, 0.8, logits.shape)
    return true, np.exp(seen) / np.exp(seen).sum(1, keepdims=True)


@pytest.mark.parametrize("kind", ["random", "strata", "systematic", "clusters"])
def test_intervals_hold_and_the_map_makes_them_narrow(kind: str) -> None:
    """Of 300 samples of 150 plots; every estimator is unbiased, and regression the narrowest."""
    true, shares = population()
    n_all, mapped = len(true), shares.argmax(1)
    rows, cols = square(40)
    rng = np.random.default_rng(3)
    groups = mapped if kind == "strata" else np.zeros(n_all, np.int64)
    groups = np.unique(groups, return_inverse=True)[1]
    h = int(groups.max()) + 1
    sizes = np.bincount(groups).astype(float)
    block = (rows // 4) * 1000 + cols // 4
    hits: dict[str, list[Any]] = {}
    for _ in range(300):
        path = clusters = None
        if kind == "strata":
            at = np.concatenate([rng.choice(np.flatnonzero(groups == g), 150 // h, False)
                                 for g in range(h)])  # fmt: skip
        elif kind == "systematic":
            at = np.floor((np.arange(150) + rng.random()) * n_all / 150).astype(int)
            path = at
        elif kind == "clusters":
            drawn = rng.choice(np.unique(block), 20, False)
            at = np.flatnonzero(np.isin(block, drawn))
            clusters = block[at]
        else:
            at = rng.choice(n_all, 150, False)
        plan = SurveyDesign(groups[at], sizes, clusters, len(np.unique(block)), path)
        found = interpretation(plan, true[at], shares, mapped, groups, at)
        for name in estimators.ESTIMATORS:
            got = figures_of(found, np.eye(K), name, 0.95)
            held = (got.low <= true.mean(0)) & (true.mean(0) <= got.high)
            hits.setdefault(name, []).append((held, got.value, got.high - got.low))
    width = {}
    for name, each in hits.items():
        held, value, wide = (np.array([e[i] for e in each]) for i in range(3))
        assert held.mean() > 0.92, name
        assert np.abs(value.mean(0) - true.mean(0)).max() < 5 * value.std(0).max() / 300**0.5
        width[name] = wide.mean(0)
    assert (width["regression"] < 0.75 * width["post-stratified"]).all()
    assert (width["regression"] < 1.02 * width["direct"]).all()


def interpretation(
    plan: SurveyDesign, values: np.ndarray, shares: np.ndarray, mapped: np.ndarray,
    groups: np.ndarray, at: np.ndarray,
) -> Interpretation:  # fmt: skip
    h, k = len(plan.sizes), shares.shape[1]
    means = np.stack([shares[groups == g].mean(0) for g in range(h)])
    cells = np.stack([np.bincount(mapped[groups == g], minlength=k) for g in range(h)])
    return Interpretation(
        plan, at, values, values[None], ("one",), shares[at], means, mapped[at],
        cells.astype(float), tuple(map(str, range(h))),
    )  # fmt: skip


def test_a_map_that_says_nothing_costs_nothing_but_chance() -> None:
    true, _ = population(4)
    rng, ratio = np.random.default_rng(5), []
    for _ in range(100):
        noise = rng.dirichlet(np.ones(K), len(true))
        at = rng.choice(len(true), 150, False)
        groups = np.zeros(len(true), np.int64)
        plan = SurveyDesign(groups[at], np.array([len(true)], float))
        found = interpretation(plan, true[at], noise, noise.argmax(1), groups, at)
        a, b = (figures_of(found, np.eye(K), n, 0.95).se for n in ("regression", "direct"))
        ratio.append(a / b)
    assert 0.99 < np.mean(ratio) < 1.04


def test_changes_within_plots_are_the_least_that_the_shares_allow() -> None:
    first = np.array([[0.6, 0.4, 0.0], [1.0, 0.0, 0.0], [0.5, 0.3, 0.2]])
    last = np.array([[0.6, 0.4, 0.0], [0.2, 0.5, 0.3], [0.2, 0.3, 0.5]])
    got = moved(first, last).reshape(3, 3, 3)
    assert got[0] == pytest.approx(np.diag([0.6, 0.4, 0.0]))
    assert got[1] == pytest.approx(np.array([[0.2, 0.5, 0.3], [0, 0, 0], [0, 0, 0]]))
    assert got[2] == pytest.approx(np.array([[0.2, 0, 0.3], [0, 0.3, 0], [0, 0, 0.2]]))
    assert got.sum(2) == pytest.approx(first) and got.sum(1) == pytest.approx(last)


def test_interpreters_who_see_more_of_a_class_widen_its_interval() -> None:
    """Two of a hundred interpreters, whose bias has a standard deviation of 0.05."""
    true, shares = population(6)
    rng = np.random.default_rng(7)
    groups = np.zeros(len(true), np.int64)
    held = {"one": 0, "two": 0}
    for _ in range(200):
        at = rng.choice(len(true), 150, False)
        plan = SurveyDesign(groups[at], np.array([len(true)], float))
        bias = rng.normal(0, 0.05, 2)
        each = np.stack([np.stack([true[at, 0] + b, true[at, 1] - b, true[at, 2]], 1)
                         for b in bias])  # fmt: skip
        found = interpretation(plan, each.mean(0), shares, shares.argmax(1), groups, at)
        both = Interpretation(**{**vars(found), "readings": each, "interpreters": ("a", "b")})
        for name, one in (("one", found), ("two", both)):
            got = figures_of(one, np.eye(K)[:, :1], "regression", 0.95)
            held[name] += int(got.low[0] <= true[:, 0].mean() <= got.high[0])
    assert held["one"] < 0.5 * 200 and held["two"] > 0.85 * 200
    assert interpreters.component(found, np.eye(K)) == (pytest.approx(np.zeros(K)), 1)


# -- the verb --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, PlotSample, np.ndarray]:
    """Scores of 1,600 tiles, a sample of 150, and the true shares of all tiles."""
    folder = tmp_path_factory.mktemp("a")
    true, shares = population(8)
    rows, cols = square(40)
    scores = write_scores(
        str(folder / "scores"), rows, cols, shares, date="2018", legend=load_legend("nlcd3")
    )
    return scores, sample(scores, str(folder / "sample"), plots=150, reserve=20), true


def answered(path: Path, drawn: PlotSample, true: np.ndarray, who: str = "ann", **odd: Any) -> str:
    """Every plot's shares; `odd`: changes of single columns, plot -> value."""
    rows = []
    for plot, row, col in zip(drawn.plots, drawn.rows, drawn.cols, strict=True):
        at = (row - -18326) * 40 + col - 2503
        shares = {n: round(float(s), 4) for n, s in zip(NAMES, true[at], strict=True)}
        values = {"plot": plot, "interpreter": who, "date": "2018", "class": "",
                  "shares": json.dumps(shares), "observable": "yes"}  # fmt: skip
        for column, changes in odd.items():
            if plot in changes:
                values[column] = changes[plot]
        rows.append(values)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(r for r in rows if r["shares"] != "skip")
    return str(path)


def test_areas_of_ground_hold_the_truth_and_say_what_they_are(
    drawn: tuple[str, PlotSample, np.ndarray], tmp_path: Path
) -> None:
    scores, plots, true = drawn
    answers = answered(tmp_path / "a.csv", plots, true)
    got = area(scores, sample=plots.uri, answers=[answers], out=str(tmp_path / "out"))
    assert got.title == "Area of ground, 2018" and got.estimand == "ground"
    for row, share in zip(got.rows, true.mean(0), strict=True):
        assert row.adjusted is not None and row.se_ha is not None and row.plain_se_ha is not None
        assert row.adjusted.low <= share * got.total_ha <= row.adjusted.high
        assert row.estimator == "regression" and row.se_ha < 0.8 * row.plain_se_ha
        assert row.tighter == "regression" and row.design_effect is not None
        assert row.design_effect < 0.5 and row.plots == 170
    text = (tmp_path / "out" / "area.md").read_text()
    assert "Design effect" in text and "| Stratum |" in text and "One interpreter" in text
    table = list(csv.DictReader((tmp_path / "out" / "area.csv").read_text().splitlines()))
    assert {r["estimator"] for r in table} == {"regression"}
    plain = area(scores, sample=plots.uri, answers=[answers], estimator="direct")
    by_hand = 0.0
    for i, stratum in enumerate(plots.strata):
        mine = plots.stratum == i
        at = (plots.rows[mine] - -18326) * 40 + plots.cols[mine] - 2503
        by_hand += stratum.tiles / 1600 * true[at, 1].mean()
    assert plain.rows[1].adjusted is not None
    assert plain.rows[1].adjusted.value == pytest.approx(by_hand * plain.total_ha, rel=1e-4)


def test_an_earlier_sample_plans_the_next_one(
    drawn: tuple[str, PlotSample, np.ndarray], tmp_path: Path
) -> None:
    """Plots that were interpreted differ from the map less than its shares allow at most."""
    scores, plots, true = drawn
    answers = [answered(tmp_path / "a.csv", plots, true)]
    goal: dict[str, Any] = {"area": NAMES[0], "half_width": 0.06}
    own = sample(scores, str(tmp_path / "own"), **goal)
    piloted = sample(scores, str(tmp_path / "piloted"), pilot=plots.uri, answers=answers, **goal)
    assert len(piloted) < 0.8 * len(own)
    assert "170 plots differ from the map's shares" in piloted.info["allocation"]["assumes"]
    expected = piloted.info["allocation"]["expected_share"]
    assert expected == pytest.approx(true[:, 0].mean(), abs=0.02)
    got = area(scores, sample=piloted.uri,
               answers=[answered(tmp_path / "b.csv", piloted, true)])  # fmt: skip
    row = got.rows[0].adjusted
    assert row is not None and (row.high - row.low) / 2 < 0.075 * true[:, 0].mean() * got.total_ha
    for wrong, match in (
        ({"pilot": plots.uri}, "go together"),
        ({"pilot": plots.uri, "answers": answers, "accuracy": 0.8}, "give one of them"),
    ):
        with pytest.raises(InputError, match=match):
            sample(scores, str(tmp_path / "w"), **goal, **wrong)


def test_plots_by_main_class_are_another_estimand(
    drawn: tuple[str, PlotSample, np.ndarray], tmp_path: Path
) -> None:
    scores, plots, true = drawn
    answers = answered(tmp_path / "a.csv", plots, true)
    got = area(scores, sample=plots.uri, answers=[answers], estimand="plots")
    assert got.title.startswith("Area of plots by main class")
    main = np.bincount(true.argmax(1), minlength=K) / 1600
    for row, share in zip(got.rows, main, strict=True):
        assert row.adjusted is not None and row.se_ha is not None
        assert abs(row.adjusted.value - share * got.total_ha) < 4 * row.se_ha
    direct = area(scores, sample=plots.uri, answers=[answers], estimand="plots", estimator="direct")
    at = (plots.rows - -18326) * 40 + plots.cols - 2503
    parts = [(true[at[plots.stratum == i]].argmax(1) == 1).mean() * s.tiles / 1600
             for i, s in enumerate(plots.strata)]  # fmt: skip
    assert direct.rows[1].adjusted is not None
    assert direct.rows[1].adjusted.value == pytest.approx(sum(parts) * direct.total_ha, rel=1e-6)


def test_plots_that_cannot_be_seen_are_missing_by_stratum(
    drawn: tuple[str, PlotSample, np.ndarray], tmp_path: Path
) -> None:
    """A third of the plots of one stratum is under cloud: its others stand for them."""
    scores, plots, true = drawn
    big = int(np.argmax([s.tiles for s in plots.strata]))
    mine = plots.plots[(plots.stratum == big) & ~plots.reserve]
    unseen = {int(p): "no" for p in mine[::3]}
    skipped = {int(p): "skip" for p in plots.plots[plots.reserve]}
    answers = answered(tmp_path / "a.csv", plots, true, observable=unseen, shares=skipped)
    got = area(scores, sample=plots.uri, answers=[answers], estimator="direct")
    assert got.survey is not None
    strata = {s["stratum"]: s for s in got.survey["strata"]}
    said = strata[plots.strata[big].name]
    assert (said["unobservable"], said["plots"]) == (len(unseen), len(mine))
    assert any(f"{len(unseen)} plots could not be observed" in n for n in got.notes)
    value = 0.0
    for i, stratum in enumerate(plots.strata):
        kept = [p - 1 for p in plots.plots[(plots.stratum == i) & ~plots.reserve]
                if int(p) not in unseen]  # fmt: skip
        at = (plots.rows[kept] - -18326) * 40 + plots.cols[kept] - 2503
        value += stratum.tiles / 1600 * true[at, 0].mean()
    assert got.rows[0].adjusted is not None
    assert got.rows[0].adjusted.value == pytest.approx(value * got.total_ha, rel=1e-3)


def test_strata_without_plots_are_not_estimable_unless_joined(
    drawn: tuple[str, PlotSample, np.ndarray], tmp_path: Path
) -> None:
    scores, plots, true = drawn
    small = int(np.argmin([s.tiles for s in plots.strata]))
    gone = {int(p): "skip" for p in plots.plots[plots.stratum == small]}
    answers = answered(tmp_path / "a.csv", plots, true, shares=gone)
    got = area(scores, sample=plots.uri, answers=[answers])
    assert {r.interval for r in got.rows} == {"not estimable"} and got.accuracy is None
    assert all(r.adjusted is None for r in got.rows)
    assert any(f"fewer than two answered plots ({plots.strata[small].name})" in n
               for n in got.notes)  # fmt: skip
    again = area(scores, sample=plots.uri, answers=[answers], collapse=True)
    assert all(r.adjusted is not None for r in again.rows)
    assert any("estimated together" in n for n in again.notes)


def test_a_class_that_was_never_drawn_is_not_estimable_but_bounded(tmp_path: Path) -> None:
    rows, cols = square(20)
    shares = np.tile([0.0, 0.7, 0.3], (400, 1))
    scores = write_scores(str(tmp_path / "s"), rows, cols, shares, date="2018",
                          legend=load_legend("nlcd3"))  # fmt: skip
    plots = sample(scores, str(tmp_path / "p"), plots=40, design="random")
    true = np.repeat(shares, 4, axis=0)
    answers = answered(tmp_path / "a.csv", plots, np.concatenate([true] * 2))
    row = area(scores, sample=plots.uri, answers=[answers]).rows[0]
    assert row.interval == "not estimable" and row.se_ha is None and row.adjusted is not None
    assert row.adjusted.value == 0 and 0.04 < row.adjusted.high / (400 * 5.0176) < 0.11


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"answers": []}, "--answers"),
        ({"reference": "plots.csv"}, "not about a sample"),
        ({"unadjusted": True}, "not about a sample"),
        ({"scores_b": "b"}, "name the folder of quadrat change"),
        ({"estimator": "magic"}, "choose one of regression"),
        ({"estimand": "pixels"}, "choose one of ground"),
    ],
)
def test_options_that_do_not_go_together_are_said(
    drawn: tuple[str, PlotSample, np.ndarray], tmp_path: Path, options: dict[str, Any], match: str
) -> None:
    scores, plots, true = drawn
    options = {"answers": [answered(tmp_path / "a.csv", plots, true)], **options}
    with pytest.raises(InputError, match=match):
        area(scores, sample=plots.uri, **options)


def test_bad_samples_and_answers_are_said_with_the_cure(
    drawn: tuple[str, PlotSample, np.ndarray], tmp_path: Path
) -> None:
    scores, plots, true = drawn
    answers = answered(tmp_path / "a.csv", plots, true)
    with pytest.raises(InputError, match="give --sample"):
        area(scores, answers=[answers])
    rows, cols = square(40)
    _, other = population(9)
    legend = load_legend("nlcd3")
    anew = write_scores(str(tmp_path / "anew"), rows, cols, other, date="2018", legend=legend)
    with pytest.raises(InputError, match=r"not the map that .* was drawn from.*--other-map"):
        area(anew, sample=plots.uri, answers=[answers])
    got = area(anew, sample=plots.uri, answers=[answers], other_map=True)
    assert any("not the one that the sample was drawn from" in n for n in got.notes)
    small = write_scores(
        str(tmp_path / "small"), rows[:800], cols[:800], other[:800], date="2018", legend=legend
    )
    with pytest.raises(ScoresError, match="lacks 800 of 1,600 tiles"):
        area(small, sample=plots.uri, answers=[answers], other_map=True)
    bare = answered(tmp_path / "b.csv", plots, true, shares={3: ""}, **{"class": {3: NAMES[1]}})
    with pytest.raises(LabelError, match="1 of 170 answered plots have a class and no shares"):
        area(scores, sample=plots.uri, answers=[bare])
    assert area(scores, sample=plots.uri, answers=[bare], estimand="plots").rows
    path = Path(plots.uri, "sample.json")
    said = json.loads(path.read_text())
    training = tmp_path / "training"
    training.mkdir()
    for name in ("sample.csv", "frame.parquet"):
        (training / name).write_bytes(Path(plots.uri, name).read_bytes())
    (training / "sample.json").write_text(json.dumps(said | {"purpose": "training"}))
    assert open_sample(str(training)).purpose == "training"
    with pytest.raises(InputError, match="drawn to train with"):
        area(scores, sample=str(training), answers=[answers])


def test_the_command_prints_estimator_and_both_errors(
    drawn: tuple[str, PlotSample, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores, plots, true = drawn
    files = [answered(tmp_path / f"{w}.csv", plots, true, w) for w in ("ann", "bob")]
    words = ["area", scores, "--sample", plots.uri, "--answers", files[0], "--answers", files[1]]
    assert run(words) == 0
    said = capsys.readouterr().out
    assert "regression" in said and "interpreted by ann, bob" in said and "plots alone" in said
    assert run([*words, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["survey"]["interpreters"] == {"ann": 170, "bob": 170}
    assert data["rows"][0]["tighter"] == "regression"
