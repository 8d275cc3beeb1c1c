"""Heads: exported graphs against scikit-learn, calibration, and what trains what."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import openvino
import pyarrow as pa
import pytest
from scipy.optimize import minimize_scalar
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from quadrat import legend as legends
from quadrat.errors import TrainError
from quadrat.heads import Settings, Tree, export_forest, export_logistic, fit_temperature
from quadrat.heads import samples as sampling
from quadrat.heads.calibrate import T_RANGE, HeldOut, Scaling, fit_scalings, one_hot, softmax
from quadrat.heads.export import round_down
from quadrat.heads.fit import Forest, Head, fit

K = 4
LEGEND = legends.from_names(["a", "b", "c", "d"])


def run_ort(graph: bytes, x: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(graph).run(None, {"features": x})[0]


def run_ov(graph: bytes, x: np.ndarray) -> np.ndarray:
    core = openvino.Core()
    net = core.compile_model(core.read_model(graph), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return net(x)[0]


def probabilities(head: Head, x: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    return softmax(head.logits(x), temperature)


def at(temperature: float, shift: np.ndarray | None = None) -> dict[str, Scaling]:
    """One output, at a temperature."""
    return {"probabilities": Scaling(temperature, shift)}


RUNTIMES = {"onnxruntime": run_ort, "openvino": run_ov}


def data(n: int = 600, d: int = 12, k: int = K, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping clusters, with features of very different size and one that never varies."""
    rng = np.random.default_rng(seed)
    y = rng.integers(k, size=n)
    x = rng.normal(size=(n, d)) + 1.2 * rng.normal(size=(k, d))[y]
    x = (x + np.linspace(-5, 30, d)) * np.logspace(-3, 3, d)
    x[:, 3] = 7.0
    return x.astype(np.float32), y.astype(np.int64)


# --- export


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_logistic_is_scikit_learns(runtime: str, temperature: float) -> None:
    x, y = data()
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(max_iter=500).fit(scaler.transform(x), y)
    graph = export_logistic(
        model.coef_, model.intercept_, scaler.mean_, scaler.scale_, outputs=at(temperature)
    )
    logits = model.decision_function(scaler.transform(x.astype(np.float64)))
    np.testing.assert_allclose(RUNTIMES[runtime](graph, x), softmax(logits, temperature), atol=2e-5)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("trees", "depth"), [(20, 5), (1, 1), (7, None), (40, 3)])
def test_forest_is_scikit_learns(runtime: str, trees: int, depth: int | None) -> None:
    x, y = data()
    model = RandomForestClassifier(trees, max_depth=depth, random_state=0).fit(x[:400], y[:400])
    graph = export_forest(
        [
            Tree(
                t.tree_.children_left,
                t.tree_.children_right,
                t.tree_.feature,
                t.tree_.threshold,
                t.tree_.value[:, 0, :],
            )
            for t in model.estimators_
        ],
        x.shape[1],
    )
    np.testing.assert_allclose(RUNTIMES[runtime](graph, x), model.predict_proba(x), atol=1e-6)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_feature_on_the_threshold_goes_where_scikit_learn_sends_it(runtime: str) -> None:
    # neighbouring float32 values: the thresholds lie halfway, between two float32 numbers
    base = np.float32(1.0)
    steps = [base]
    for _ in range(63):
        steps.append(np.nextafter(steps[-1], np.float32(2)))
    x = np.array(steps, np.float32).reshape(-1, 1)
    y = np.arange(64) // 4 % 2
    model = RandomForestClassifier(15, random_state=1).fit(x, y)
    trees = [
        Tree(
            t.tree_.children_left, t.tree_.children_right, t.tree_.feature, t.tree_.threshold,
            t.tree_.value[:, 0, :],
        )
        for t in model.estimators_
    ]  # fmt: skip
    got = RUNTIMES[runtime](export_forest(trees, 1), x)
    np.testing.assert_allclose(got, model.predict_proba(x), atol=1e-6)


def test_rounding_down_never_changes_a_comparison() -> None:
    rng = np.random.default_rng(0)
    thresholds = np.concatenate([rng.normal(size=2000), rng.normal(size=2000) * 1e-30, [0.0, 1.0]])
    rounded = round_down(thresholds)
    near = thresholds.astype(np.float32)
    for x in (near, np.nextafter(near, np.float32(9)), np.nextafter(near, np.float32(-9))):
        np.testing.assert_array_equal(x.astype(np.float64) <= thresholds, x <= rounded)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_forests_temperature_is_that_of_its_log_probabilities(runtime: str) -> None:
    x, y = data()
    head, _ = fit(x, y, K, Settings(head="forest", trees=5, depth=3))
    assert isinstance(head, Forest)
    p = RUNTIMES[runtime](export_forest(head.trees, x.shape[1]), x)
    assert (p == 0).any(), "a share of zero must be among them"
    for floor in (0.0, np.array([1e-3, 1e-3, 0.0, 1e-3])):
        with np.errstate(divide="ignore"):
            expected = softmax(np.log(p.astype(np.float64) + floor), 0.6)
        graph = export_forest(head.trees, x.shape[1], floor=floor, outputs=at(0.6))
        got = RUNTIMES[runtime](graph, x)
        np.testing.assert_allclose(got, expected, atol=1e-5)


LEAF = Tree(
    np.array([-1]), np.array([-1]), np.array([0]), np.array([0.0]), np.array([[0.25, 0.75]])
)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_tree_that_is_one_leaf(runtime: str) -> None:
    x = np.zeros((3, 2), np.float32)
    got = RUNTIMES[runtime](export_forest([LEAF, LEAF], 2), x)
    np.testing.assert_allclose(got, [[0.25, 0.75]] * 3)


def broken(**changes: Any) -> Tree:
    stump: dict[str, Any] = {
        "left": np.array([1, -1, -1]),
        "right": np.array([2, -1, -1]),
        "feature": np.array([0, 0, 0]),
        "threshold": np.array([0.5, 0.0, 0.0]),
        "values": np.ones((3, 2)) / 2,
    }
    return Tree(**{**stump, **changes})


@pytest.mark.parametrize(
    "tree",
    [
        broken(left=np.array([3, -1, -1])),
        broken(right=np.array([-1, -1, -1])),
        broken(feature=np.array([2, 0, 0])),
        broken(threshold=np.array([np.nan, 0, 0])),
        broken(values=np.ones((2, 2))),
    ],
)
def test_what_is_no_tree_is_not_exported(tree: Tree) -> None:
    with pytest.raises(TrainError, match="whole trees"):
        export_forest([tree], 2)


def test_a_tree_that_leads_to_itself_is_not_exported() -> None:
    with pytest.raises(TrainError, match="deeper than 64"):
        export_forest([broken(left=np.array([0, -1, -1]))], 2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mean": np.zeros(3)}, "does not fit"),
        ({"scale": np.zeros(2)}, "scales above 0"),
        ({"coef": np.full((2, 2), np.nan)}, "finite"),
        ({"outputs": at(0.0)}, "temperature must be above 0"),
        ({"outputs": at(1.0, np.zeros(3))}, "2 finite numbers"),
    ],
)
def test_what_is_no_logistic_head_is_not_exported(change: dict[str, Any], says: str) -> None:
    good: dict[str, Any] = {
        "coef": np.ones((2, 2)), "intercept": np.zeros(2), "mean": np.zeros(2), "scale": np.ones(2)
    }  # fmt: skip
    with pytest.raises(TrainError, match=says):
        export_logistic(**{**good, **change})


# --- fit


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("head", ["logistic", "forest"])
@pytest.mark.parametrize("present", [(0, 1, 2, 3), (0, 2, 3), (1, 3)])
def test_the_graph_gives_what_the_head_gave(
    runtime: str, head: str, present: tuple[int, ...]
) -> None:
    x, y = data()
    mine = np.isin(y, present)
    fitted, _ = fit(x[mine], y[mine], K, Settings(head=head, depth=4, trees=9))
    expected = probabilities(fitted, x, 1.3)
    got = RUNTIMES[runtime](fitted.export(at(1.3)), x)
    np.testing.assert_allclose(got, expected, atol=2e-5)
    absent = [i for i in range(K) if i not in present]
    assert (got[:, absent] == 0).all()
    np.testing.assert_allclose(got.sum(1), 1, atol=1e-5)


def test_two_classes_are_scikit_learns_on_softly_standardised_features() -> None:
    x, y = data(k=2)
    settings = Settings(reg=0.05)
    fitted, _ = fit(x, y, 2, settings)
    sd = x.std(0, dtype=np.float64)
    z = (x - x.mean(0, dtype=np.float64)) / np.sqrt(sd**2 + np.median(sd) ** 2)
    peer = LogisticRegression(C=1 / (0.05 * len(x)), max_iter=500).fit(z, y)
    np.testing.assert_allclose(probabilities(fitted, x), peer.predict_proba(z), atol=5e-3)


def mixed(n: int = 500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Tiles of two to four classes each: features are the classes' own, mixed by the shares."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(K, 0.4), n)
    shares[shares < 0.05] = 0
    shares /= shares.sum(1, keepdims=True)
    x = shares @ rng.normal(size=(K, 12)) + 0.2 * rng.normal(size=(n, 12))
    return x.astype(np.float32), shares


def repeated(x: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A row for each class of a tile, and its weight, by a plain loop."""
    rows = [(x[i], k, s) for i in range(len(x)) for k, s in enumerate(shares[i]) if s > 0]
    return tuple(np.array(part) for part in zip(*rows, strict=True))  # type: ignore[return-value]


@pytest.mark.parametrize("class_weight", ["none", "balanced"])
@pytest.mark.parametrize("k", [2, 4])
def test_shares_are_scikit_learns_fit_to_repeated_weighted_rows(k: int, class_weight: str) -> None:
    x, shares = mixed()
    shares = np.concatenate([shares[:, : k - 1], shares[:, k - 1 :].sum(1, keepdims=True)], axis=1)
    head, _ = fit(x, shares, k, Settings(reg=0.02, class_weight=class_weight))
    sd = x.std(0, dtype=np.float64)
    z = (x - x.mean(0, dtype=np.float64)) / np.sqrt(sd**2 + np.median(sd) ** 2)
    rows, y, w = repeated(z, shares)
    if class_weight == "balanced":
        w = w * (w.sum() / (k * np.bincount(y, weights=w)))[y]
    peer = LogisticRegression(C=1 / (0.02 * len(x)), max_iter=2000, tol=1e-8)
    expected = peer.fit(rows, y, w).predict_proba(z)
    np.testing.assert_allclose(probabilities(head, x), expected, atol=2e-3)


def test_a_forest_on_shares_is_scikit_learns_on_repeated_weighted_rows() -> None:
    x, shares = mixed()
    settings = Settings(head="forest", trees=8, depth=4, seed=3)
    head, _ = fit(x, shares, K, settings)
    rows, y, w = repeated(x, shares)
    peer = RandomForestClassifier(8, max_depth=4, random_state=3).fit(rows, y, w)
    lifted = peer.predict_proba(x) + 1e-3
    expected = lifted / lifted.sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities(head, x), expected, atol=1e-9)


def test_ids_are_shares_of_one_class() -> None:
    x, y = data()
    one, other = (fit(x, t, K, Settings())[0] for t in (y, one_hot(y, K)))
    np.testing.assert_array_equal(one.logits(x), other.logits(x))


def test_expected_shares_are_nearer_than_those_of_main_classes() -> None:
    """What a fit to hard labels says of a mixed tile is a class, not its shares."""
    x, shares = mixed(2000)
    train, held = slice(0, 1500), slice(1500, None)
    errors = {}
    for name, targets in (("shares", shares), ("main", shares.argmax(1))):
        head, _ = fit(x[train], targets[train], K, Settings(reg=0.002))
        errors[name] = np.abs(probabilities(head, x[held]) - shares[held]).sum(1).mean() / 2
    assert errors["shares"] < 0.6 * errors["main"]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", ["logistic", "forest"])
def test_both_outputs_and_fewer_columns_than_were_learned(runtime: str, name: str) -> None:
    """The last column is ground without a class: it shares in the sum and is not given."""
    x, shares = mixed()
    head, _ = fit(x, shares, K, Settings(head=name, trees=7))
    shift = np.log(np.array([1.0, 2.0, 0.5, 1.0]))
    outputs = {"probabilities": Scaling(0.5, shift), "shares": Scaling(1.1)}
    graph = head.export(outputs, 3)
    session = onnxruntime.InferenceSession(graph)
    assert [o.name for o in session.get_outputs()] == ["probabilities", "shares"]
    if runtime == "onnxruntime":
        got = session.run(None, {"features": x})
    else:
        core = openvino.Core()
        hint = {"INFERENCE_PRECISION_HINT": "f32"}
        found = core.compile_model(core.read_model(graph), "CPU", hint)(x)
        got = [found["probabilities"], found["shares"]]
    z = head.logits(x)
    np.testing.assert_allclose(got[0], softmax(z / 0.5 + shift)[:, :3], atol=2e-5)
    np.testing.assert_allclose(got[1], softmax(z, 1.1)[:, :3], atol=2e-5)


def test_reg_means_the_same_for_any_number_of_tiles() -> None:
    x, y = data()
    one, _ = fit(x, y, K, Settings(reg=0.1))
    five, _ = fit(np.tile(x, (5, 1)), np.tile(y, 5), K, Settings(reg=0.1))
    np.testing.assert_allclose(probabilities(one, x), probabilities(five, x), atol=5e-3)


def test_balanced_weights_find_the_rare_class() -> None:
    x, y = data(3000)
    keep = (y != 3) | (np.arange(len(y)) % 20 == 0)
    x, y = x[keep], y[keep]
    recall = {}
    for weight in ("none", "balanced"):
        head, _ = fit(x, y, K, Settings(class_weight=weight))
        recall[weight] = (probabilities(head, x)[y == 3].argmax(1) == 3).mean()
    assert recall["balanced"] > recall["none"]


def test_a_fit_that_did_not_converge_says_so() -> None:
    x, y = data()
    _, notes = fit(x, y, K, Settings(max_iter=2, reg=1e-6))
    assert "had not converged after 2 steps" in notes[0]
    _, notes = fit(x, y, K, Settings(reg=0.1))
    assert notes == ()


def test_the_seed_decides_the_forest() -> None:
    x, y = data()
    one, same, other = (
        probabilities(fit(x, y, K, Settings(head="forest", seed=s))[0], x) for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"head": "svm"}, "no head 'svm'; choose one of logistic, forest"),
        ({"class_weight": "auto"}, "no class weights 'auto'"),
        ({"reg": 0.0}, "--reg"),
        ({"trees": 0}, "--trees"),
        ({"depth": 0}, "--depth"),
    ],
)
def test_settings_that_cannot_be(change: dict[str, Any], says: str) -> None:
    with pytest.raises(TrainError, match=says):
        Settings(**change)


def test_features_that_are_not_numbers_are_refused() -> None:
    x, y = data()
    x[3, 2] = np.nan
    with pytest.raises(TrainError, match="not finite"):
        fit(x, y, K, Settings())


# --- calibration


@pytest.mark.parametrize("true", [0.3, 1.0, 2.5])
def test_the_temperature_that_made_the_labels_is_found(true: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20000, 5)) * 3
    p = softmax(logits, true)
    truth = (p.cumsum(1) < rng.random((len(p), 1))).sum(1)
    assert fit_temperature(logits, truth) == pytest.approx(true, rel=0.05)


def test_the_temperature_is_scipys_minimum() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(300, 4)) * 2
    truth = rng.integers(4, size=300)
    truth[:200] = logits[:200].argmax(1)

    def nll(log_t: float) -> float:
        p = softmax(logits, float(np.exp(log_t)))
        return float(-np.log(p[np.arange(300), truth]).mean())

    best = minimize_scalar(nll, bounds=(-3, 3), method="bounded", options={"xatol": 1e-8})
    assert fit_temperature(logits, truth) == pytest.approx(np.exp(best.x), rel=1e-4)


def test_a_temperature_of_shares_is_scipys_minimum() -> None:
    rng = np.random.default_rng(4)
    logits = rng.normal(size=(400, 4)) * 2
    shares = softmax(logits + rng.normal(size=logits.shape), 1.6)

    def cross_entropy(log_t: float) -> float:
        return float(-(shares * np.log(softmax(logits, float(np.exp(log_t))))).sum(1).mean())

    best = minimize_scalar(cross_entropy, bounds=(-3, 3), method="bounded", options={"xatol": 1e-8})
    assert fit_temperature(logits, shares) == pytest.approx(np.exp(best.x), rel=1e-4)
    ids = rng.integers(4, size=400)
    assert fit_temperature(logits, ids) == fit_temperature(logits, one_hot(ids, 4))


def test_the_probability_of_the_main_class_is_not_its_share() -> None:
    """Shares of 0.6 and 0.4, known to a tenth: the first is nearly always the larger."""
    rng = np.random.default_rng(5)
    expected = rng.dirichlet(np.full(3, 2.0), 6000)
    shares = np.clip(expected + 0.05 * rng.normal(size=expected.shape), 0, None)
    shares /= shares.sum(1, keepdims=True)
    main = shares.argmax(1)
    found = fit_scalings(HeldOut(np.log(expected), shares, main, None))
    assert found.shares.temperature == pytest.approx(1.0, abs=0.05)
    assert found.probabilities.temperature < 0.5
    p = found.probabilities(np.log(expected))
    said, right = p.max(1), (p.argmax(1) == main)
    for low, high in ((0.4, 0.6), (0.6, 0.8), (0.8, 0.95), (0.95, 1.0)):
        mine = (said >= low) & (said < high)
        assert said[mine].mean() == pytest.approx(right[mine].mean(), abs=0.05)
    assert np.array_equal(p.argmax(1), expected.argmax(1))  # no main class changes


def test_impossible_classes_do_not_move_the_temperature() -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(2000, 3)) * 2
    truth = (softmax(logits, 1.5).cumsum(1) < rng.random((2000, 1))).sum(1)
    wide = np.concatenate([logits, np.full((2000, 1), -np.inf)], axis=1)
    assert fit_temperature(wide, truth) == pytest.approx(fit_temperature(logits, truth))
    with_lost = np.concatenate([truth[:-50], np.full(50, 3)])
    assert fit_temperature(wide, with_lost) == pytest.approx(
        fit_temperature(logits[:-50], truth[:-50])
    )


def test_temperatures_stay_in_range() -> None:
    logits = np.array([[5.0, 0.0], [0.0, 5.0]] * 20)
    right = np.array([0, 1] * 20)
    assert fit_temperature(logits, right) == T_RANGE[0]
    assert fit_temperature(logits, 1 - right) == T_RANGE[1]
    assert fit_temperature(np.full((3, 2), -np.inf), np.zeros(3, np.int64)) == 1.0


# --- what trains what


def an_index(
    labels: list[str | None],
    split: list[str | None] | None = None,
    place: np.ndarray | None = None,
) -> pa.Table:
    n = len(labels)
    rows = pa.nulls(n, pa.int32()) if place is None else pa.array(place[:, 0], pa.int32())
    cols = pa.nulls(n, pa.int32()) if place is None else pa.array(place[:, 1], pa.int32())
    return pa.table(
        {
            "label": pa.array(labels, pa.string()),
            "split": pa.array(split or [None] * n, pa.string()),
            "row": rows,
            "col": cols,
        }
    )


def test_the_sources_split_is_kept_and_buffers_are_left_out() -> None:
    index = an_index(
        ["a", "b", "a", "b", None, "c", "a"],
        ["train", "train", "validation", None, "train", "test", "validation"],
    )
    found = sampling.sort(index, LEGEND, "tiles")
    np.testing.assert_array_equal(found.train, [0, 1])
    np.testing.assert_array_equal(found.validation, [2, 6])
    assert found.held_out == "source"


def test_without_a_split_blocks_of_ground_are_held_out_with_a_buffer() -> None:
    place = np.array([(r, c) for r in range(-40, 0) for c in range(40)])
    labels = [LEGEND.names[(r // 10 + c // 10) % 4] for r, c in place]
    found = sampling.sort(an_index(labels, place=place), LEGEND, "tiles")
    assert found.held_out == "block"
    held = place[found.validation]
    assert 0.1 < len(held) / len(place) < 0.3
    near = np.abs(place[found.train][:, None, :] - held[None]).max(2)
    assert near.min() == 2, "no training tile touches or neighbours a held-out one"
    assert any("no validation tiles: a fifth" in w for w in found.warnings)


def test_without_places_tiles_are_held_out_class_by_class() -> None:
    found = sampling.sort(an_index(["a"] * 50 + ["b"] * 100), LEGEND, "tiles", seed=3)
    assert found.held_out == "random"
    assert not set(found.train) & set(found.validation)
    np.testing.assert_array_equal(np.bincount(found.y[found.validation]), [10, 20])
    again = sampling.sort(an_index(["a"] * 50 + ["b"] * 100), LEGEND, "tiles", seed=3)
    np.testing.assert_array_equal(found.train, again.train)


@pytest.mark.parametrize(
    ("labels", "split", "says"),
    [
        ([None, None], None, "no tile of tiles has a label"),
        (["a", "x"], None, "labelled 'x', which is no class of legend"),
        (["a", "b"], ["validation", "test"], "no tile of tiles is in the split `train`"),
        (["a", "a", "b"], ["train", "train", "validation"], "all 2 training tiles of tiles are a"),
    ],
)
def test_what_cannot_train(
    labels: list[str | None], split: list[str | None] | None, says: str
) -> None:
    with pytest.raises(TrainError, match=says):
        sampling.sort(an_index(labels, split), LEGEND, "tiles")


def test_empty_and_unseen_classes_are_told() -> None:
    index = an_index(["a", "b", "c", "a"], ["train", "train", "validation", "validation"])
    warnings = sampling.sort(index, LEGEND, "tiles").warnings
    assert any(w.startswith("no tile is d:") for w in warnings)
    assert any(w.startswith("c is among the validation tiles only") for w in warnings)


def with_shares(index: pa.Table, shares: list[list[float | None]]) -> pa.Table:
    for k, name in enumerate(LEGEND.names):
        values = pa.array([row[k] for row in shares], pa.float32())
        index = index.append_column(f"frac_{name}", values)
    return index


def test_mixed_tiles_train_whatever_the_rule_said() -> None:
    index = with_shares(
        an_index(["a", None, None, "b", None], ["train"] * 4 + ["validation"]),
        [[0.9, 0.1, 0, 0], [0.5, 0.5, 0, 0], [0.2, 0.6, 0.2, 0], [None] * 4, [0, 0.4, 0.6, 0]],
    )
    found = sampling.sort(index, LEGEND, "tiles")
    np.testing.assert_array_equal(found.train, [0, 1, 2, 3])
    np.testing.assert_array_equal(found.y, [0, -1, 1, 1, 2])
    assert not found.masks
    np.testing.assert_allclose(
        found.targets(found.train),
        [[0.9, 0.1, 0, 0], [0.5, 0.5, 0, 0], [0.2, 0.6, 0.2, 0], [0, 1, 0, 0]],
    )
    counts = found.counts(LEGEND)
    assert counts["train"] == {"a": 1, "b": 2, "c": 0, "d": 0, "no main class": 1}


def test_ground_without_a_class_is_learned_and_said() -> None:
    index = with_shares(
        an_index([None, "a", "b"], ["train"] * 3), [[0.1, 0, 0, 0], [0.6, 0.2, 0, 0], [0, 1, 0, 0]]
    )
    found = sampling.sort(index, LEGEND, "tiles")
    assert found.masks and found.columns == 5 and found.names(LEGEND)[-1] == "masked"
    np.testing.assert_array_equal(found.y, [4, 0, 1])
    where = np.arange(2)
    np.testing.assert_allclose(
        found.targets(where), [[0.1, 0, 0, 0, 0.9], [0.6, 0.2, 0, 0, 0.2]], atol=1e-6
    )
    assert any("1 training tiles are mostly ground that" in w for w in found.warnings)


def test_folds_keep_blocks_together_and_are_even() -> None:
    place = np.array([(r, c) for r in range(64) for c in range(64)])
    labels = [LEGEND.names[(r + c) % 2] for r, c in place]
    index = an_index(labels, ["train"] * 4000 + ["validation"] * 96, place)
    found = sampling.sort(index, LEGEND, "tiles")
    fold, by = sampling.folds(found)
    assert by == "block"
    sizes = np.bincount(fold, minlength=sampling.FOLDS)
    assert sizes.min() > 600
    blocks = found.blocks[found.train]  # type: ignore[index]
    assert all(len(np.unique(fold[blocks == b])) == 1 for b in np.unique(blocks))


def test_folds_without_places_hold_each_class_alike() -> None:
    found = sampling.sort(
        an_index(["a"] * 50 + ["b"] * 25 + ["a"], ["train"] * 75 + ["validation"]),
        LEGEND,
        "tiles",
    )
    fold, by = sampling.folds(found)
    assert by == "tile"
    for i in range(sampling.FOLDS):
        np.testing.assert_array_equal(np.bincount(found.y[found.train][fold == i]), [10, 5])
