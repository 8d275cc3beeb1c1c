"""Features kept with the scores: the rows that the model's last layer reads, from the same pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quadrat import backbones, scores
from quadrat import model as models
from quadrat.errors import ModelError, ScoresError
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


def test_a_model_without_a_last_layer_keeps_none(tmp_path: Path) -> None:
    from test_change_align import whole

    model = whole([("Softmax", ["colour"], "probabilities", {})], str(tmp_path / "m"))
    with pytest.raises(ModelError, match="--no-align"):
        models.runner(model, "fp32", features=True)
