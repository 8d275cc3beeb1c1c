"""Accuracy figures against scikit-learn, closed forms and simulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap, t
from sklearn import metrics as reference

from quadrat import legend, metrics
from quadrat.errors import InputError

NAMES = ("Barren", "Cultivated", "Developed", "Forest", "Herbaceous", "Shrub")


def sample(n: int, seed: int = 0, sharp: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Truth drawn from the stated probabilities: a map that is calibrated by construction."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(6, 1.0 / sharp), n)
    truth = (rng.random(n)[:, None] < p.cumsum(1)).argmax(1)
    return truth, p


def test_confusion_has_truth_in_rows_and_leaves_out_the_unlabelled() -> None:
    got = metrics.confusion([0, 0, 1, -1, 2], [0, 1, 1, 2, 0], 3)
    assert got.dtype == np.int64
    assert got.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_figures_agree_with_scikit_learn() -> None:
    truth, p = sample(3000)
    pred = p.argmax(1)
    matrix = metrics.confusion(truth, pred, 6)
    precision, recall, f1, _ = reference.precision_recall_fscore_support(truth, pred)
    assert matrix.tolist() == reference.confusion_matrix(truth, pred).tolist()
    np.testing.assert_allclose(metrics.users(matrix), precision)
    np.testing.assert_allclose(metrics.producers(matrix), recall)
    np.testing.assert_allclose(metrics.f1(matrix), f1)
    assert metrics.overall(matrix) == pytest.approx(reference.accuracy_score(truth, pred))
    assert metrics.balanced(matrix) == pytest.approx(reference.balanced_accuracy_score(truth, pred))
    assert metrics.macro_f1(matrix) == pytest.approx(f1.mean())
    assert metrics.weighted_f1(matrix) == pytest.approx(
        reference.f1_score(truth, pred, average="weighted")
    )


def test_calibration_scores_agree_with_scikit_learn_and_a_calibrated_map_has_no_ece() -> None:
    truth, p = sample(40_000)
    got = metrics.calibration(truth, p, draws=0)
    assert got.nll.value == pytest.approx(reference.log_loss(truth, p, labels=range(6)))
    onehot = np.eye(6)[truth]
    assert got.brier.value == pytest.approx(((p - onehot) ** 2).sum(1).mean())
    assert got.ece.value < 0.01
    assert got.count.sum() == len(truth)


def test_ece_of_an_overconfident_map_is_the_overconfidence() -> None:
    # says 0.9 and is right 6 times in 10
    p = np.tile([0.9, 0.1], (1000, 1))
    truth = np.r_[np.zeros(600, int), np.ones(400, int)]
    got = metrics.calibration(truth, p)
    assert got.ece.value == pytest.approx(0.3, abs=1e-3)  # less what chance makes of 1,000 tiles
    filled = got.count > 0
    assert got.confidence[filled].tolist() == pytest.approx([0.9])
    assert got.accuracy[filled].tolist() == pytest.approx([0.6])


def test_absent_classes_are_not_defined_and_do_not_spoil_the_means() -> None:
    matrix = np.array([[8, 2, 0], [0, 10, 0], [0, 0, 0]])
    assert np.isnan(metrics.producers(matrix)[2]) and np.isnan(metrics.users(matrix)[2])
    assert metrics.balanced(matrix) == pytest.approx(0.9)
    # truth without any prediction: recall and F1 are 0, the user's accuracy is not defined
    never = np.array([[5, 0], [5, 0]])
    assert metrics.producers(never)[1] == 0 and metrics.f1(never)[1] == 0
    assert np.isnan(metrics.users(never)[1])
    summary = metrics.summarise([0, 0, 1], [0, 0, 0], ["a", "b"])
    assert summary.to_dict()["classes"][1]["users"]["value"] is None


def test_folded_probabilities_are_sums() -> None:
    _, p = sample(2000)
    places = legend.fold(legend.load_legend("nlcd6"), legend.load_legend("nlcd3"))
    coarse = metrics.fold_probabilities(p, places)
    np.testing.assert_allclose(coarse.sum(1), 1)
    np.testing.assert_allclose(coarse[:, 1], p[:, 1])  # Cultivated is alone


def test_population_weights_turn_a_balanced_test_into_the_countys_accuracy() -> None:
    # a class right 9 of 10 times, one right half of the time; the county is 80% the first
    matrix = np.array([[90, 10], [50, 50]])
    county = metrics.reweight(matrix, [0.8, 0.2])
    assert metrics.overall(county) == pytest.approx(0.8 * 0.9 + 0.2 * 0.5)
    assert metrics.users(county)[1] == pytest.approx(0.1 / (0.08 + 0.1))
    truth = np.repeat([0, 1], 100)
    pred = np.r_[np.repeat([0, 1], [90, 10]), np.repeat([0, 1], [50, 50])]
    weighted = metrics.summarise(truth, pred, ["a", "b"], population={"a": 4, "b": 1})
    assert weighted.population and weighted.overall.value == pytest.approx(0.82)


def test_the_retired_notebooks_recall_was_not_recall() -> None:
    """Its printed figures give four equations a class; the true recalls are the solution.

    It printed "recall" = TP / (TN + FN). With N = 1: TP/p are the tiles mapped so, hence
    TN + FN = 1 - TP/p, and TP = r (1 - TP/p).
    """
    p = np.array([0.935, 0.761, 0.955, 0.776, 0.721, 0.576])
    a = np.array([0.922, 0.945, 0.977, 0.943, 0.901, 0.859])
    r = np.array([0.127, 0.161, 0.202, 0.192, 0.091, 0.164])
    tp = r / (1 + r / p)
    fp = tp * (1 / p - 1)
    tn = a - tp
    fn = 1 - tp - fp - tn
    assert tp.sum() == pytest.approx(0.773, abs=2e-3)  # the overall accuracy it printed
    assert (tp + fn).sum() == pytest.approx(1.0, abs=5e-3)
    for c in range(6):
        binary = np.rint(11_760 * np.array([[tn[c], fp[c]], [fn[c], tp[c]]])).astype(int)
        assert metrics.users(binary)[1] == pytest.approx(p[c], abs=2e-3)
        assert metrics.overall(binary) == pytest.approx(a[c], abs=2e-3)
        true_recall = metrics.producers(binary)[1]
        assert true_recall == pytest.approx(tp[c] / (tp[c] + fn[c]), abs=2e-3)
        assert true_recall > 0.5 > 0.21 > r[c]
    # with its nominal 1,960 tiles a class instead of the shares that its figures imply
    nominal = tp / (1960 / 11_760)
    assert (nominal.min(), nominal.max()) == (
        pytest.approx(0.48, abs=0.01),
        pytest.approx(1.0, abs=0.01),
    )


def test_blocks_are_squares_of_ground_on_both_sides_of_the_origin() -> None:
    ids = metrics.block_ids([-1, -8, -9, 0, 7, 8], [0, 7, 0, 0, 7, 0], side=8)
    assert ids[0] == ids[1] and ids[3] == ids[4]
    assert len(set(ids.tolist())) == 4
    with pytest.raises(InputError, match="at least 1"):
        metrics.block_ids([0], [0], side=0)


BANDS = ((0, 0.5), (0.5, 0.6), (0.6, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 1.0))


def block_map(rng: np.random.Generator, blocks: int, size: int) -> tuple[np.ndarray, ...]:
    """Blocks whose accuracies differ: mean 0.75, so that tiles of a block err together."""
    rate = rng.beta(3, 1, blocks)
    right = rng.random((blocks, size)) < rate[:, None]
    truth = rng.integers(0, 2, (blocks, size))
    return truth.ravel(), np.where(right, truth, 1 - truth).ravel(), np.repeat(range(blocks), size)


def test_block_intervals_cover_the_truth_where_intervals_of_single_tiles_do_not() -> None:
    rng = np.random.default_rng(5)
    hits, naive, trials = 0, 0, 120
    for trial in range(trials):
        truth, pred, groups = block_map(rng, 60, 30)
        block = metrics.summarise(truth, pred, "ab", groups=groups, draws=200, seed=trial).overall
        single = metrics.summarise(truth, pred, "ab", draws=200, seed=trial).overall
        hits += block.low <= 0.75 <= block.high
        naive += single.low <= 0.75 <= single.high
    assert 0.90 <= hits / trials <= 0.99
    assert naive / trials < 0.75


def test_intervals_of_independent_tiles_match_the_binomial() -> None:
    rng = np.random.default_rng(2)
    truth = np.zeros(20_000, int)
    pred = (rng.random(20_000) < 0.2).astype(int)
    got = metrics.summarise(truth, pred, "ab").overall
    half = 1.96 * np.sqrt(got.value * (1 - got.value) / 20_000)
    assert (got.high - got.low) / 2 == pytest.approx(half, rel=0.1)


def test_the_interval_of_single_tiles_is_clopper_and_pearsons() -> None:
    for right, of in ((99, 100), (100, 100), (1, 40), (300, 350)):
        pred = np.r_[np.zeros(right, int), np.ones(of - right, int)]
        got = metrics.summarise(np.zeros(of, int), pred, "ab").overall
        exact = binomtest(right, of).proportion_ci(0.95, "exact")
        few = (1.959964 / t.ppf(0.975, of - 1)) ** 2  # what the t distribution takes off
        assert got.low == pytest.approx(exact.low, abs=0.004) and few > 0.9
        assert got.high == pytest.approx(exact.high, abs=0.004)


@pytest.mark.parametrize(
    ("rate", "blocks", "size"), [(0.99, 20, 5), (0.99, 15, 20), (0.86, 12, 50)]
)
def test_intervals_hold_near_one_and_with_few_blocks(rate: float, blocks: int, size: int) -> None:
    """Rates of blocks differ (beta, intraclass correlation 0.1); a percentile bootstrap of the
    first covers about two thirds."""
    rng, hits, percentile, trials = np.random.default_rng(3), 0, 0, 300
    for trial in range(trials):
        own = rng.beta(9 * rate, 9 * (1 - rate), blocks)
        right = rng.random((blocks, size)) < own[:, None]
        groups = np.repeat(np.arange(blocks), size)
        got = metrics.summarise(
            np.zeros(right.size, int), (~right).ravel().astype(int), "ab", groups=groups, draws=0
        ).overall
        hits += got.low <= rate <= got.high
        sums = right.sum(1, keepdims=True).astype(float)
        drawn = metrics.bootstrap_sums(sums, draws=200, seed=trial) / right.size
        low, high = metrics.interval(drawn)
        percentile += bool(low[0] <= rate <= high[0])
    assert hits / trials > 0.92
    assert percentile < hits


def test_kappa_is_scikit_learns_and_disagreement_has_two_parts() -> None:
    truth, p = sample(400)
    matrix = metrics.confusion(truth, p.argmax(1), len(NAMES))
    found = metrics.summarise(truth, p, NAMES).scores
    assert found["kappa"].value == pytest.approx(reference.cohen_kappa_score(truth, p.argmax(1)))
    parts = found["quantity"].value + found["allocation"].value
    assert parts == pytest.approx(1 - metrics.overall(matrix))
    # Two classes: 20 of 100 plots of A are mapped B, 5 of B are mapped A. The map has 15 plots of A
    # too few, which is quantity; 5 pairs of plots have changed places, which is allocation.
    by_hand = metrics.summarise([0] * 100 + [1] * 100, [1] * 20 + [0] * 85 + [1] * 95, "ab").scores
    assert by_hand["quantity"].value == pytest.approx(15 / 200)
    assert by_hand["allocation"].value == pytest.approx(10 / 200)
    for name in ("kappa", "quantity", "allocation", "macro_f1"):
        assert found[name].low <= found[name].value <= found[name].high


def test_the_bootstrap_interval_is_scipys_bca() -> None:
    rng = np.random.default_rng(0)
    values = rng.exponential(size=40)
    own = metrics.bootstrap_sums(values[:, None], draws=4000, seed=1)[:, 0] / 40
    without = (values.sum() - values) / 39
    got = metrics.corrected(values.mean(), own, without, 0.95)
    peer = bootstrap((values,), np.mean, n_resamples=4000, method="BCa", rng=rng)
    assert got.low == pytest.approx(peer.confidence_interval.low, abs=0.03)
    assert got.high == pytest.approx(peer.confidence_interval.high, abs=0.03)


def stated(n: int, rng: np.random.Generator, power: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of three classes, and truths that they are right about when `power` is 1."""
    p = rng.dirichlet(np.full(3, 0.5), n)
    true = p**power / (p**power).sum(1, keepdims=True)
    return p, (true.cumsum(1) < rng.random((n, 1))).sum(1)


def test_the_calibration_error_of_right_probabilities_is_about_0() -> None:
    rng = np.random.default_rng(7)
    right, wrong, plain = [], [], []
    for _ in range(60):
        p, truth = stated(600, rng)
        found = metrics.calibration(truth, p, draws=50)
        right.append(found.ece.value)
        assert found.ece.low <= found.ece.value <= found.ece.high
        held = found.count > 0
        gap = np.abs(found.accuracy - found.confidence)[held]
        plain.append((gap * found.count[held]).sum() / 600)
        wrong.append(metrics.calibration(stated(600, rng, 0.4)[1], p, draws=0).ece.value)
    assert np.mean(right) < 0.6 * np.mean(plain)
    p, truth = stated(100_000, rng, 0.4)
    many = metrics.calibration(truth, p, draws=0).ece.value
    few = [metrics.calibration(*stated(600, rng, 0.4)[::-1], draws=0).ece.value for _ in range(40)]
    assert np.mean(few) == pytest.approx(many, abs=0.01)


def test_conformal_sets_hold_the_main_class_as_often_as_stated() -> None:
    rng, covered, sizes = np.random.default_rng(4), [], []
    for _ in range(60):
        p, truth = stated(1600, rng)
        groups = np.repeat(np.arange(40), 40)
        found = metrics.conformal(p, truth, groups, 0.9)
        assert found["blocks"] == 40 and found["tiles"] == 1600
        new, main = stated(2000, rng)
        covered.append(metrics.in_set(new, found["threshold"])[np.arange(2000), main].mean())
        sizes.append(metrics.set_sizes(new, found["threshold"]))
        inside = metrics.in_set(new, found["threshold"])
        assert inside[np.arange(2000), new.argmax(1)].all()  # the main class is always in it
        assert np.array_equal(inside.sum(1), sizes[-1])
    assert 0.897 <= np.mean(covered) < 0.91  # 60 means of 2,000: 0.0013 by chance
    assert 1 < np.mean(sizes) < 3


def test_conformal_sets_hold_on_new_blocks_whose_tiles_err_alike() -> None:
    """Blocks differ in how often their stated probabilities are right."""
    rng, covered = np.random.default_rng(5), []

    def blocks(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        p, truth = stated(count * 40, rng)
        groups = np.repeat(np.arange(count), 40)
        wrong = rng.random(count * 40) < rng.beta(0.5, 4.5, count)[groups]
        return p, np.where(wrong, rng.integers(0, p.shape[1], len(p)), truth), groups

    for _ in range(120):
        p, truth, groups = blocks(25)
        threshold = metrics.conformal(p, truth, groups, 0.9)["threshold"]
        new, main, _ = blocks(50)
        covered.append(metrics.in_set(new, threshold)[np.arange(2000), main].mean())
    assert 0.895 <= np.mean(covered) < 0.925


def test_too_few_blocks_give_no_conformal_sets() -> None:
    p, truth = stated(90, np.random.default_rng(0))
    assert metrics.conformal(p, truth, np.arange(90) // 10, 0.9) == {}
    assert metrics.conformal(p, np.full(90, -1), None, 0.9) == {}
    assert metrics.conformal(p, truth, None, 0.9)["blocks"] == 90


def test_accuracy_by_purity_and_the_error_of_shares_as_a_plain_loop_finds_them() -> None:
    rng = np.random.default_rng(9)
    known = rng.dirichlet(np.full(3, 0.3), 400)
    known[7] = np.nan
    expected = np.clip(known + rng.normal(0, 0.1, known.shape), 0, 1)
    expected /= expected.sum(1, keepdims=True)
    truth = np.where(np.isnan(known).any(1), -1, np.nan_to_num(known).argmax(1))
    p = np.nan_to_num(expected, nan=1 / 3)
    groups = np.arange(400) // 10
    got = metrics.summarise(truth, p, "abc", groups=groups, shares=(known, expected))
    right: dict[tuple[float, float], list[bool]] = {}
    off, bias = [], []
    for i in range(400):
        if i == 7:
            continue
        top = round(known[i].max(), 6)
        low, high = next((a, b) for a, b in BANDS if a <= top < b or b == top == 1)
        right.setdefault((low, high), []).append(bool(p[i].argmax() == truth[i]))
        off.append(np.abs(known[i] - expected[i]).sum() / 2)
        bias.append(expected[i] - known[i])
    for band in got.purity:
        loop = right.pop((band.low, band.high))
        assert band.tiles == len(loop) and band.accuracy.value == pytest.approx(np.mean(loop))
        if (band.low, band.high) == (metrics.PURE, 1.0):
            assert got.pure == band.accuracy
    assert not right
    assert got.shares is not None and got.shares.tiles == 399
    assert got.shares.error.value == pytest.approx(np.mean(off))
    assert [b.value for b in got.shares.bias] == pytest.approx(np.mean(bias, 0))
    assert metrics.from_dict(got.to_dict()).to_dict() == got.to_dict()


def test_one_block_gives_no_interval_and_json_says_null() -> None:
    one = metrics.summarise([0, 1], [0, 0], "ab", groups=[7, 7])
    assert one.overall.value == 0.5
    assert one.to_dict()["overall"] == {"value": 0.5, "low": None, "high": None}


def test_a_countys_figures_rest_on_its_blocks() -> None:
    truth, p = sample(66_000)
    n = np.arange(66_000)
    groups = metrics.block_ids(n // 256, n % 256)
    got = metrics.summarise(truth, p, NAMES, groups=groups, draws=1000)
    assert got.blocks == 33 * 32
    assert got.calibration is not None and got.calibration.ece.low < got.calibration.ece.high


def test_the_same_seed_gives_the_same_intervals() -> None:
    truth, p = sample(500)
    assert (
        metrics.summarise(truth, p, NAMES, seed=3).to_dict()
        == metrics.summarise(truth, p, NAMES, seed=3).to_dict()
    )


def test_the_gap_between_splits_adds_uncertainties_in_squares() -> None:
    rng = np.random.default_rng(1)
    truth = np.zeros(4000, int)
    random = metrics.summarise(truth, (rng.random(4000) < 0.1).astype(int), "ab")
    spatial = metrics.summarise(truth, (rng.random(4000) < 0.2).astype(int), "ab")
    gap = metrics.split_gap(random, spatial)
    assert gap.value == pytest.approx(0.1, abs=0.03)
    half = 1.96 * np.sqrt(0.09 / 4000 + 0.16 / 4000)
    assert (gap.high - gap.low) / 2 == pytest.approx(half, rel=0.15)


@pytest.mark.parametrize(
    ("truth", "given", "match"),
    [
        ([0, 9], [0, 1], "class ids"),
        ([0, 1], [0], "truths for"),
        ([0.5, 1], [0, 1], "whole number"),
        ([-1, -1], [0, 1], "no tile has a reference label"),
        ([0, 1], [[1.0, 0.0]], "truths for"),
        ([0, 1], [[1.0], [1.0]], "probabilities a tile"),
        ([0, 1], [[np.nan, 1.0], [1.0, 0.0]], "between 0 and 1"),
        ([0, 1], [0, -1], "no prediction"),
    ],
)
def test_bad_input_is_said(truth: list[float], given: list[object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        metrics.summarise(truth, given, ["a", "b"])


def test_bad_shares_and_groups_are_said() -> None:
    with pytest.raises(InputError, match="block ids"):
        metrics.summarise([0, 1], [0, 1], "ab", groups=[1])
    with pytest.raises(InputError, match="Water"):
        metrics.summarise([0, 1], [0, 1], "ab", population={"Water": 1.0})
    with pytest.raises(InputError, match="class shares"):
        metrics.summarise([0, 1], [0, 1], "ab", population=[1.0, -1.0])


def test_metrics_knows_arrays_alone() -> None:
    folder = Path(metrics.__file__).parent
    text = "".join(f.read_text("utf-8") for f in folder.glob("*.py"))
    strange = ("scipy.stats", "sklearn", "pandas", "pyarrow", "quadrat.tiles", "quadrat.model")
    assert not any(f"import {name}" in text or f"from {name}" in text for name in strange)
