"""Accuracy figures against scikit-learn, closed forms and simulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
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
    assert got.ece.value == pytest.approx(0.3)
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


def test_folding_equals_scoring_the_folded_classes() -> None:
    truth, p = sample(2000)
    places = legend.fold(legend.load_legend("nlcd6"), legend.load_legend("nlcd3"))
    pred = p.argmax(1)
    folded = metrics.fold_confusion(metrics.confusion(truth, pred, 6), places)
    assert folded.tolist() == metrics.confusion(places[truth], places[pred], 3).tolist()
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
    weighted = metrics.summarise(truth, pred, ["a", "b"], shares={"a": 4, "b": 1})
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
        metrics.summarise([0, 1], [0, 1], "ab", shares={"Water": 1.0})
    with pytest.raises(InputError, match="class shares"):
        metrics.summarise([0, 1], [0, 1], "ab", shares=[1.0, -1.0])


def test_metrics_is_pure_numpy() -> None:
    folder = Path(metrics.__file__).parent
    text = "".join(f.read_text("utf-8") for f in folder.glob("*.py"))
    assert not any(f"import {name}" in text for name in ("scipy", "sklearn", "pandas", "pyarrow"))
