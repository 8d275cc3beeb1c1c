"""The season taken out: features of any model, layers that never saw a tile, what they find."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest

from made_scores import square
from quadrat import backbones
from quadrat import model as models
from quadrat.changes import change, colours, season
from quadrat.errors import ModelError
from quadrat.legend import from_names
from quadrat.tiles import index

K = 3


def run_graph(onnx: bytes, chips: np.ndarray) -> np.ndarray:
    return np.asarray(models.compile_network(onnx, size_px=chips.shape[1])(chips))


def features(model: models.Model, chips: np.ndarray) -> np.ndarray:
    return np.asarray(models.runner(model, "fp32", features=True).predict(chips).features)


def test_a_models_features_are_its_backbones(county_model: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    chips = rng.integers(0, 256, (4, 224, 224, 3), np.uint8)
    bundle = models.open_model(county_model)
    network = backbones.feature_graph("mean_colour")
    direct = run_graph(network.onnx, chips)
    np.testing.assert_allclose(features(bundle, chips), direct, atol=1e-3)
    pixels = rng.uniform(0, 200, (500, 3))
    normal = colours.fit(pixels, pixels * 0.7 + 40, "linear")
    through = features(colours.recoloured(bundle, normal, str(tmp_path / "model")), chips)
    np.testing.assert_allclose(through, run_graph(network.onnx, normal(chips)), atol=1e-3)


def whole(nodes: list[tuple[str, list[str], str, dict[str, Any]]], out: str) -> Any:
    """A model of one graph, made by nobody's `train`: chips -> mean colour -> ... -> classes."""
    from onnx import TensorProto, helper, numpy_helper

    weights = {"w": np.arange(9.0).reshape(3, 3).astype(np.float32), "b": np.ones(3, np.float32)}
    front = [
        ("Cast", ["chips"], "wide", {"to": TensorProto.FLOAT}),
        ("ReduceMean", ["wide"], "colour", {"axes": [1, 2], "keepdims": 0}),
    ]
    graph = helper.make_graph(
        [helper.make_node(op, i, [o], name=o, **a) for op, i, o, a in [*front, *nodes]], "g",
        [helper.make_tensor_value_info("chips", TensorProto.UINT8, ["N", 8, 8, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(v, n) for n, v in weights.items()],
    )  # fmt: skip
    made = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    info = models.ModelInfo(
        legend=from_names(["a", "b", "c"]), size_px=8, backbone={"name": "own"}

    )  # fmt: skip
    return models.save_model(out, made.SerializeToString(), info)


def test_the_last_layer_of_any_model_is_found_or_said_to_be_missing(tmp_path: Path) -> None:
    chips = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 3), np.uint8)
    last = [("Gemm", ["colour", "w", "b"], "z", {}), ("Softmax", ["z"], "probabilities", {})]
    with_layer = whole(last, str(tmp_path / "a"))
    np.testing.assert_allclose(features(with_layer, chips), chips.mean((1, 2)), rtol=1e-4)
    without = whole([("Softmax", ["colour"], "probabilities", {})], str(tmp_path / "b"))
    with pytest.raises(ModelError, match="--no-align"):
        features(without, chips)


def ground(seed: int) -> tuple[np.ndarray, ...]:
    """Features of 40 x 40 tiles on a later date: class 0, 1, 2 on an axis each.

    A third of class 1 is worn: it looks like class 2 on two thirds of its axis, and has an axis of
    its own. A few tiles really became class 2.
    """
    rng = np.random.default_rng(seed)
    rows, cols = square(40)
    n = len(rows)
    before = rng.choice(K, n, p=[0.4, 0.4, 0.2])
    after = before.copy()
    after[rng.choice(np.flatnonzero(before != 2), 24, replace=False)] = 2
    worn = (after == 1) & (rng.random(n) < 0.33)
    x = rng.normal(size=(n, 12)).astype(np.float32)
    x[np.arange(n), after] += 8
    x[worn, 1] -= 6
    x[worn, 2] += 6
    x[worn, 5] += 6
    return rows, cols, before, after, worn, x


def test_a_tiles_own_presumed_class_has_no_say_in_its_score() -> None:
    rows, cols, before, _, _, x = ground(0)
    folds = season.fold_assignment(rows, cols)
    assert len(np.unique(folds)) == season.FOLDS
    blocks = {
        (r // season.BLOCK, c // season.BLOCK): set() for r, c in zip(rows, cols, strict=True)
    }
    for r, c, f in zip(rows, cols, folds, strict=True):
        blocks[r // season.BLOCK, c // season.BLOCK].add(f)
    assert all(len(v) == 1 for v in blocks.values())  # a block goes as a whole
    plain = season.cross_fitted(x, before, K, folds)
    fold = folds == 2
    told = np.where(fold, (before + 1) % K, before)
    lied = season.cross_fitted(x, told, K, folds)
    np.testing.assert_allclose(lied[fold], plain[fold], atol=1e-9)
    assert np.abs(lied[~fold] - plain[~fold]).max() > 0.05
    np.testing.assert_allclose(plain.sum(1), 1)


def test_tiles_of_no_known_class_teach_nothing() -> None:
    rows, cols, before, _, _, x = ground(3)
    folds = season.fold_assignment(rows, cols)
    known = np.random.default_rng(4).random(len(x)) < 0.4
    told = np.where(known, before, -1)
    strange = np.where(known[:, None], x, 50 * x + 7).astype(np.float32)
    got, same = (season.cross_fitted(v, told, K, folds) for v in (strange, x))
    np.testing.assert_allclose(got[known], same[known], atol=1e-9)
    assert (same[~known].argmax(1) == before[~known]).mean() > 0.7  # yet they are scored


def test_a_season_of_part_of_a_class_is_told_from_a_change() -> None:
    rows, cols, before, after, worn, x = ground(1)
    q = season.cross_fitted(x, before, K, season.fold_assignment(rows, cols))
    changed = before != after
    assert (q[changed].argmax(1) == 2).mean() > 0.9
    assert (q[worn].argmax(1) == 1).mean() > 0.95
    # a layer of the earlier date, which knows no worn ground, takes it for class 2
    early = x[~worn & ~changed]
    centres = np.stack([early[before[~worn & ~changed] == k].mean(0) for k in range(K)])
    naive = ((x[:, None, :3] - centres[None, :, :3]) ** 2).sum(2).argmin(1)
    assert (naive[worn] == 2).mean() > 0.7


def tuned(model: str, out: str) -> str:
    """The same model, saying that it was fine-tuned."""
    bundle = models.open_model(model)
    info = replace(bundle.info, head={"head": "finetune"}, precision="fp32")
    return models.save_model(out, bundle.onnx("fp32"), info).uri


def test_all_labels_check_the_scores_where_no_layer_behind_these_saw_them(
    county: Any, county_tiles: Any, county_model: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    table = index(county_tiles)
    splits = table["split"].to_numpy(zero_copy_only=False)
    known = ~table["label"].is_null().to_numpy()
    held = int((known & (splits == "validation")).sum())
    assert 40 <= held < 0.5 * known.sum() >= 50
    monkeypatch.setattr("quadrat.changes.chronology.LEAST_TILES", 100)
    monkeypatch.setattr("quadrat.changes.likelihood.LEAST_REFERENCE", 40)
    dates = [county_tiles.uri, county.imagery[1]]

    def found(model: str, **how: Any) -> Any:
        out = str(tmp_path / "out")
        return change(dates, out, model=model, show=0, overwrite=True, **how)

    got = found(county_model)
    assert got.method["refitted"] and got.reference == known.sum()
    assert "fitted to others" in Path(got.files["md"]).read_text()
    wide = found(county_model, split="validation")
    assert not wide.method["refitted"] and wide.reference == held
    # fine-tuned features have seen the labels of all training tiles
    assert found(tuned(county_model, str(tmp_path / "tuned"))).reference == held


def test_labelled_tiles_and_imagery_are_compared_with_intervals(
    county: Any, county_tiles: Any, county_model: str, tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    dates = [county_tiles.uri, county.imagery[1]]
    got = change(dates, out, model=county_model, legend="nlcd3", show=0, split="all")
    assert got.dates[0].startswith("2011") and got.dates[1].startswith("2014")
    assert got.method["aligned"] and got.reference >= 60
    assert any("ground that legend nlcd3 has no class for" in note for note in got.notes)
    assert got.tiles < county_tiles.tiles  # those that are water on one date
    k = len(got.names)
    values = np.array([[f.value for f in row] for row in got.matrix])
    assert values.shape == (k, k) and values.sum() == pytest.approx(got.tiles, rel=1e-3)
    for i in range(k):
        net = values[:, i].sum() - values[i].sum()
        assert got.net[i].value == pytest.approx(net, abs=1e-3)
        assert got.net[i].low < got.net[i].value < got.net[i].high
    matrix = list(csv.DictReader(Path(got.files["matrix"]).read_text().splitlines()))
    assert len(matrix) == k * k
    assert sum(float(r["ha"]) for r in matrix) == pytest.approx(got.tiles * got.tile_ha, rel=1e-3)
    areas = list(csv.DictReader(Path(got.files["areas"]).read_text().splitlines()))
    assert [r["class"] for r in areas] == list(got.names) * 2
    assert all(float(r["ac_low"]) < float(r["ac"]) < float(r["ac_high"]) for r in areas)
    tiles = geopandas.read_parquet(got.files["transitions"])
    odds = tiles[[c for c in tiles if c.startswith("p_")]].to_numpy()
    assert odds.shape == (got.tiles, k * k)
    np.testing.assert_allclose(odds.sum(1), 1, atol=1e-4)
    assert tiles["p_Undeveloped_to_Developed"].sum() == pytest.approx(
        values[got.names.index("Undeveloped"), got.names.index("Developed")], abs=0.01
    )
    text = Path(got.files["md"]).read_text()
    assert "hectares expected" in text and "tiles expected" in text
    plain = change(dates, out, model=county_model, legend="nlcd3", show=0, align=False)
    assert not plain.method["aligned"]
    assert plain.compared_changed == got.compared_changed  # the maps are the model's own
