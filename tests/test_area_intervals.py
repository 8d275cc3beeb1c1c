"""Intervals of rare classes against exact ones of other libraries, and by simulated sampling."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from scipy.stats import binomtest, hypergeom, t

from quadrat.areas import estimate, from_confusion, intervals, tables
from quadrat.areas.estimate import Sample


def drawn_of(strata: np.ndarray, each: list[int], rng: np.random.Generator) -> np.ndarray:
    """Places of `each[h]` tiles of every stratum."""
    return np.concatenate(
        [rng.choice(np.flatnonzero(strata == h), n, replace=False) for h, n in enumerate(each)]
    )


@pytest.mark.parametrize("n", [9, 60])
@pytest.mark.parametrize("found", [0, 1, 4, 8, 9])
def test_one_stratum_is_clopper_and_pearsons(n: int, found: int) -> None:
    values = (np.arange(n) < found).astype(float)
    sample = Sample(np.zeros(n, np.int64), np.eye(2)[values.astype(int)], np.array([1e6]))
    want = binomtest(found, n).proportion_ci(0.9, method="exact")
    figure, se, kind = intervals.interval(sample, values, 0.9)
    assert kind == intervals.EXACT and figure.value == pytest.approx(found / n)
    assert (figure.low, figure.high) == pytest.approx((want.low, want.high), abs=1e-12)
    assert se == pytest.approx(estimate.standard_error(sample, values[:, None])[0])
    # equal strata drawn alike are one
    half = Sample(np.arange(n) % 2, sample.values, np.array([(n + 1) // 2, n // 2]) * 1e4)
    again = intervals.interval(half, values, 0.9)[0]
    assert (again.low, again.high) == pytest.approx((want.low, want.high), abs=1e-9)


@pytest.mark.parametrize(("ground", "n"), [(5000, 100), (400, 80), (400, 300)])
def test_the_most_that_a_sample_without_any_may_miss(ground: int, n: int) -> None:
    sample = Sample(np.zeros(n, np.int64), np.ones((n, 1)), np.array([ground]), counted=True)
    high = intervals.interval(sample, np.zeros(n), 0.95)[0].high * ground
    least = next(x for x in range(ground) if hypergeom.pmf(0, ground, x, n) < 0.025)
    assert least - 1.5 < high < 1.05 * least + 1


def test_rare_ground_that_the_map_lacks_is_in_the_interval() -> None:
    """3 tiles of 4,000 lie in another map class; normal intervals hold them in half the samples."""
    rng = np.random.default_rng(2)
    strata = np.repeat([0, 1, 2], [2500, 1460, 40])
    truth = np.zeros(4000)
    truth[3960:] = 1  # a small map class that is right, sampled whole
    truth[[10, 700, 2600]] = 1
    sizes, true, draws = np.bincount(strata).astype(float), truth.mean(), 400
    held = {"normal": 0, "ours": 0, "none": 0}
    for _ in range(draws):
        at = drawn_of(strata, [500, 290, 40], rng)
        sample = Sample(strata[at], np.eye(2)[truth[at].astype(int)], sizes, counted=True)
        figure, se, kind = intervals.interval(sample, truth[at], 0.95)
        assert kind == intervals.EXACT
        assert figure.low <= figure.value <= figure.high
        held["ours"] += figure.low - 1e-9 <= true <= figure.high + 1e-9
        held["normal"] += abs(figure.value - true) <= 1.96 * se + 1e-9
        others = intervals.interval(sample, 1 - truth[at], 0.95)[0]  # the same, seen from there
        assert others.low == pytest.approx(1 - figure.high, abs=1e-9)
        held["none"] += se == 0
    assert held["none"] / draws > 0.4 and held["normal"] / draws < 0.6
    assert held["ours"] / draws >= 0.95


def test_uneven_weights_do_not_hide_what_the_sample_missed() -> None:
    """80 tiles are found where each stands for 3, and 0 to 6 where each stands for 30."""
    rng = np.random.default_rng(3)
    strata = np.repeat([0, 1], [6000, 300])
    truth = np.concatenate([np.arange(6000) < 60, np.arange(300) < 240]).astype(float)
    sizes, draws, hits, normal = np.bincount(strata).astype(float), 400, 0, 0
    for _ in range(draws):
        at = drawn_of(strata, [200, 100], rng)
        sample = Sample(strata[at], np.eye(2)[truth[at].astype(int)], sizes, counted=True)
        figure, se, _ = intervals.interval(sample, truth[at], 0.95)
        hits += figure.low <= truth.mean() <= figure.high
        normal += abs(figure.value - truth.mean()) <= 1.96 * se
    assert hits / draws >= 0.93 > 0.9 > normal / draws


def test_a_net_change_of_few_tiles_is_newcombes() -> None:
    # Newcombe 1998, Statistics in Medicine 17:873-890, table II: method 10 of 56/70 - 48/80
    def score(x: int, n: int) -> intervals.Estimate:
        ends = binomtest(x, n).proportion_ci(0.95, method="wilson")
        return intervals.Estimate(x / n, ends.low, ends.high)

    got = intervals.newcombe(score(56, 70), score(48, 80))
    assert (got.low, got.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    values = np.zeros(400)
    values[:3], values[3:5] = 1, -1
    sample = Sample(np.zeros(400, np.int64), np.zeros((400, 1)), np.array([1e5]))
    figure, _, kind = intervals.interval(sample, values, 0.95)
    assert kind == intervals.EXACT and figure.value == pytest.approx(1 / 400)
    assert -5 / 400 < figure.low < 0 < 3 / 400 < figure.high < 9 / 400


def test_tiles_that_err_together_are_worth_fewer() -> None:
    """Blocks of 10 that are alike are worth a tenth of their tiles."""
    block = np.repeat(np.arange(60), 10)
    common = np.eye(2)[np.random.default_rng(0).integers(0, 2, 60)][block]
    rare = np.zeros(600)
    wide, narrow = (
        intervals.interval(Sample(np.zeros(600, np.int64), common, np.array([1e6]), clusters=c),
                           rare, 0.95)[0].high
        for c in (block, None)
    )  # fmt: skip
    assert wide == pytest.approx(binomtest(0, 60).proportion_ci(0.95).high, rel=0.05)
    assert narrow == pytest.approx(binomtest(0, 600).proportion_ci(0.95).high, abs=1e-12)


def test_what_is_sampled_whole_is_known() -> None:
    truth = (np.arange(50) < 3).astype(float)
    sample = Sample(np.zeros(50, np.int64), np.eye(2)[truth.astype(int)], np.array([50.0]), True)
    figure, se, _ = intervals.interval(sample, truth, 0.95)
    assert (figure.low, figure.high, se) == pytest.approx((0.06, 0.06, 0))


def test_tables_say_which_interval_a_row_has() -> None:
    counts = np.array([[3, 0, 1], [0, 80, 10], [0, 5, 300]])  # rows = truth
    got = from_confusion(counts, [100.0, 2000.0, 8000.0], ("Rare", "Field", "Wood"))
    assert [r.interval for r in got.rows] == [intervals.EXACT, intervals.WALD, intervals.WALD]
    lines = got.to_markdown().splitlines()
    assert any(x.startswith("| Rare |") and x.endswith("| Clopper-Pearson |") for x in lines)
    assert any(x.startswith("| Wood |") and x.endswith("| Wald |") for x in lines)
    assert any(x.startswith("- Clopper-Pearson: fewer than 20 reference tiles") for x in lines)
    table = list(csv.DictReader(io.StringIO(tables.csv_text(got))))
    assert [r["interval"] for r in table] == [r.interval for r in got.rows]
    assert [r["interval"] for r in got.to_dict()["rows"]] == [r.interval for r in got.rows]


def test_few_blocks_take_students_quantile() -> None:
    """With z the interval of five blocks would be a third too short."""
    rng = np.random.default_rng(0)
    block = np.repeat(np.arange(5), 60)
    truth = (rng.random(300) < np.repeat(rng.uniform(0.3, 0.7, 5), 60)).astype(int)
    sample = Sample(np.zeros(300, np.int64), np.eye(2)[truth], np.array([1e6]), clusters=block)
    found = estimate.accuracy(sample, np.zeros(300, np.int64)).overall
    se = estimate.standard_error(sample, sample.values[:, :1])[0]
    assert (found.high - found.value) / se == pytest.approx(t.ppf(0.975, 4), rel=1e-6)
