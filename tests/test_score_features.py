"""Features kept with the scores: the rows that the model's last layer reads, from the same pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quadrat import backbones, scores
from quadrat import model as models
from quadrat.changes import colours
from quadrat.errors import ModelError, ScoresError
from quadrat.legend import from_names
from quadrat.scoring import score


def test_kept_features_are_the_backbones_and_scores_are_the_same(
    county_tiles: Any, county_model: str, tmp_path: Path
) -> None:
    plain, kept = (str(tmp_path / n) for n in ("plain", "kept"))
    score(county_model, county_tiles.uri, plain)
    score(county_model, county_tiles.uri, kept, keep_features=True)
    a, b = scores.read(plain), scores.read(kept)
    np.testing.assert_array_equal(a.probabilities, b.probabilities)
    x = scores.read_features(b)
    network = backbones.feature_graph("mean_colour")
    assert x.shape == (len(b), network.dim) and x.dtype == np.float32
    some = b.take(np.array([7, 3]))
    np.testing.assert_array_equal(scores.read_features(some), x[[7, 3]])
    run = models.compile_network(network.onnx, size_px=224)
    place = {t: i for i, t in enumerate(zip(b.rows.tolist(), b.cols.tolist(), strict=True))}
    from quadrat.tiles import read_part

    batch = next(iter(read_part(county_tiles.parts()[0])))
    at = [place[t] for t in zip(*(batch.index[c].to_pylist() for c in ("row", "col")), strict=True)]
    np.testing.assert_allclose(x[at], run(batch.chips), atol=1e-3)
    with pytest.raises(ScoresError, match="keeps no features"):
        scores.read_features(a)


def test_a_rerun_adds_the_features_that_were_not_kept(
    county_tiles: Any, county_model: str, tmp_path: Path
) -> None:
    out = str(tmp_path / "s")
    score(county_model, county_tiles.uri, out)
    plain = scores.read(out)
    score(county_model, county_tiles.uri, out, keep_features=True)
    kept = scores.open_scores(out)
    np.testing.assert_array_equal(scores.read(out).probabilities, plain.probabilities)
    assert kept.features == scores.read_features(plain).shape[1]
    score(county_model, county_tiles.uri, out)  # which asks for less
    assert scores.open_scores(out).digest == kept.digest


def graph(onnx: bytes, chips: np.ndarray) -> np.ndarray:
    return np.asarray(models.compile_network(onnx, size_px=chips.shape[1])(chips))


def features(model: models.Model, chips: np.ndarray) -> np.ndarray:
    return np.asarray(models.runner(model, "fp32", features=True).predict(chips).features)


def test_a_models_features_are_its_backbones(county_model: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    chips = rng.integers(0, 256, (4, 224, 224, 3), np.uint8)
    bundle = models.open_model(county_model)
    network = backbones.feature_graph("mean_colour")
    direct = graph(network.onnx, chips)
    np.testing.assert_allclose(features(bundle, chips), direct, atol=1e-3)
    pixels = rng.uniform(0, 200, (500, 3))
    normal = colours.fit(pixels, pixels * 0.7 + 40, "linear")
    through = features(colours.recoloured(bundle, normal, str(tmp_path / "model")), chips)
    np.testing.assert_allclose(through, graph(network.onnx, normal(chips)), atol=1e-3)


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
    with pytest.raises(ModelError, match="no features to keep"):
        features(without, chips)
