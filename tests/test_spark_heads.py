"""Heads that Spark ML trains: the bundle gives what Spark itself gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from quadrat import geoparquet, legend, storage
from quadrat.engines.spark import SparkEngine
from quadrat.errors import TrainError
from quadrat.features import FeatureParts
from quadrat.heads import Settings
from quadrat.heads import spark as trainer
from quadrat.heads.calibrate import Scaling, fit_scalings

pytest.importorskip("pyspark", reason="the Spark engine needs pyspark")

LEGEND = legend.from_names(["a", "b", "c", "d", "e"])
DIM = 40
TILES = 10_000


@pytest.fixture(scope="module")
def engine() -> Iterator[SparkEngine]:
    made = SparkEngine("local[2]", conf={"spark.driver.memory": "1g", "spark.ui.enabled": "false"})
    yield made
    made.close()


@pytest.fixture(scope="module")
def features() -> tuple[np.ndarray, np.ndarray]:
    """10,000 tiles of four overlapping classes; class `d` has none."""
    rng = np.random.default_rng(3)
    y = rng.choice([0, 1, 2, 4], TILES, p=[0.4, 0.3, 0.2, 0.1])
    centres = rng.normal(size=(5, DIM)) * 0.5
    x = rng.normal(size=(TILES, DIM)) + centres[y]
    x = x * np.logspace(-2, 2, DIM) + np.linspace(-50, 50, DIM)  # of all scales and offsets
    x[:, 7] = 3.0  # a feature that never varies
    return x.astype(np.float32), y


@pytest.fixture(scope="module")
def parts(
    features: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> FeatureParts:
    """The features as parts, as `features.featurize_parts` writes them."""
    x, y = features
    folder = str(tmp_path_factory.mktemp("parts"))
    names = []
    for n, start in enumerate(range(0, TILES, 1500)):
        stop = min(TILES, start + 1500)
        flat = pa.array(x[start:stop].reshape(-1))
        table = pa.table(
            {
                "row": pa.array(np.arange(start, stop) // 100, pa.int32()),
                "col": pa.array(np.arange(start, stop) % 100, pa.int32()),
                "path": pa.nulls(stop - start, pa.string()),
                "label": [LEGEND.names[i] for i in y[start:stop]],
                "split": ["train" if i % 5 else "validation" for i in range(start, stop)],
                "features": pa.FixedSizeListArray.from_arrays(flat, DIM),
            }
        )
        names.append(f"part-{n:05d}.parquet")
        uri = storage.join(folder, names[-1])
        geoparquet.write_part(uri, table, None, note={"skipped": []})
    return FeatureParts(folder, tuple(names), DIM, "digest", 0.0)


def run_onnx(data: bytes, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def of_spark(engine: SparkEngine, model: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spark's own probabilities and predictions, in the order of `x`."""
    from pyspark.ml.functions import array_to_vector, vector_to_array

    rows = [(i, row.tolist()) for i, row in enumerate(x)]
    frame = engine.spark.createDataFrame(rows, "place long, values array<float>")
    frame = frame.withColumn("features", array_to_vector("values"))
    found = model.transform(frame).select(
        "place", "prediction", vector_to_array("probability").alias("p")
    )
    done = sorted(found.collect(), key=lambda r: r.place)
    return np.array([r.p for r in done]), np.array([int(r.prediction) for r in done])


@pytest.mark.long
@pytest.mark.parametrize("head", ["logistic", "forest"])
def test_the_bundles_head_gives_what_spark_gives(
    head: str,
    engine: SparkEngine,
    parts: FeatureParts,
    features: tuple[np.ndarray, np.ndarray],
) -> None:
    settings = Settings(head, max_iter=10)
    done = trainer.fit([parts], LEGEND, settings, engine, "tiles")
    x, y = features
    expected, labels = of_spark(engine, done.model, x)
    present = np.array([0, 1, 2, 4])

    plain = run_onnx(uncalibrated(done.head), x)
    assert plain.shape == (TILES, 5)
    assert np.abs(plain[:, present] - expected).max() < 1e-5
    assert (plain[:, 3] == 0).all()
    assert (plain.argmax(1) == present[labels]).all()

    assert done.held_out is not None
    assert len(done.held_out.main) >= trainer.ENOUGH
    scaling = fit_scalings(done.held_out).probabilities
    calibrated = run_onnx(done.head.export({"probabilities": scaling}), x)
    floor = trainer.FLOOR if head == "forest" else 0.0
    sharpened = (expected + floor) ** (1 / scaling.temperature)
    sharpened /= sharpened.sum(1, keepdims=True)
    assert np.abs(calibrated[:, present] - sharpened).max() < 1e-5
    assert (calibrated.argmax(1) == present[labels]).all()

    held = np.arange(0, TILES, 5)
    assert np.abs(scaling(done.logits) - calibrated[held]).max() < 1e-5
    assert (done.logits.argmax(1) == y[held]).mean() > 0.5  # chance is 0.4


@pytest.mark.long
def test_shares_and_views_are_spark_mls_on_repeated_weighted_rows(
    engine: SparkEngine, tmp_path: Path
) -> None:
    """Against scikit-learn on rows repeated by hand: both minimise the same, to convergence."""
    rng = np.random.default_rng(1)
    shares = rng.dirichlet([0.4, 0.4, 0.4], 400)
    shares[shares < 0.1] = 0
    shares /= shares.sum(1, keepdims=True)
    three = legend.from_names(["a", "b", "c"])
    centres = rng.normal(size=(3, 6))
    views, xs = [], []
    for view in range(2):
        x = (shares @ centres + 0.3 * rng.normal(size=(400, 6))).astype(np.float32)
        table = pa.table({
            "row": pa.array(np.arange(400) // 20, pa.int32()),
            "col": pa.array(np.arange(400) % 20, pa.int32()),
            "path": pa.nulls(400, pa.string()),
            "label": pa.nulls(400, pa.string()),
            "split": ["train"] * 360 + ["validation"] * 40,
            **{f"frac_{n}": pa.array(shares[:, k], pa.float32()) for k, n in enumerate("abc")},
            "features": pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), 6),
        })  # fmt: skip
        folder = str(tmp_path / str(view))
        geoparquet.write_part(storage.join(folder, "p.parquet"), table, None, note={"skipped": []})
        views.append(FeatureParts(folder, ("p.parquet",), 6, "d", 0.0, ("a", "b", "c")))
        xs.append(x)
    settings = Settings(reg=1e-4, max_iter=300)
    done = trainer.fit(views, three, settings, engine, "tiles")
    train = np.concatenate([x[:360] for x in xs]).astype(np.float64)
    at, y = np.nonzero(np.tile(shares[:360], (2, 1)))
    w = np.tile(shares[:360], (2, 1))[at, y]
    scale = train.std(0)
    peer = LogisticRegression(C=1 / (1e-4 * len(train)), max_iter=3000, tol=1e-9)
    expected = peer.fit(train[at] / scale, y, w).predict_proba(xs[0][360:] / scale)
    assert np.abs(softmax(done.logits, axis=1) - expected).max() < 0.02
    assert done.held_out is not None and len(done.held_out.main) == 360
    np.testing.assert_allclose(done.held_out.targets.sum(1), 1)


def uncalibrated(head: Any) -> bytes:
    """The head as Spark has it: no temperature, no floor."""
    from dataclasses import replace

    if hasattr(head, "floor"):
        head = replace(head, floor=np.zeros(5))
    return bytes(head.export({"probabilities": Scaling()}))


@pytest.mark.long
def test_logistic_is_spark_mls_with_its_settings(engine: SparkEngine, parts: FeatureParts) -> None:
    done = trainer.fit([parts], LEGEND, Settings("logistic", reg=0.05, max_iter=7), engine, "tiles")
    assert done.model.getRegParam() == 0.05
    assert done.model.getMaxIter() == 7
    assert done.model.getFamily() == "multinomial"
    forest = trainer.fit([parts], LEGEND, Settings("forest", trees=4, depth=3), engine, "tiles")
    assert forest.model.getNumTrees == 4
    assert max(t.depth for t in forest.model.trees) <= 3


def test_one_class_is_an_error(engine: SparkEngine, tmp_path: Path) -> None:
    table = pa.table(
        {
            "row": pa.array([0, 1], pa.int32()),
            "col": pa.array([0, 1], pa.int32()),
            "path": pa.nulls(2, pa.string()),
            "label": ["a", "a"],
            "split": ["train", "train"],
            "features": pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(80, np.float32)), 40),
        }
    )
    geoparquet.write_part(str(tmp_path / "p.parquet"), table, None, note={"skipped": []})
    one = FeatureParts(str(tmp_path), ("p.parquet",), 40, "digest", 0.0)
    with pytest.raises(TrainError, match="at least two"):
        trainer.fit([one], LEGEND, Settings(), engine, "tiles")


@pytest.mark.long
def test_train_on_spark_makes_a_bundle_that_scores_without_spark(
    engine: SparkEngine, county_tiles: Any, tmp_path: Path
) -> None:
    from quadrat.heads import train
    from quadrat.model import open_model
    from quadrat.scoring import score

    done = train(
        county_tiles.uri,
        str(tmp_path / "model"),
        backbone="mean_colour",
        engine=engine,
        cache=str(tmp_path / "cache"),
    )
    info = open_model(done.uri).info
    assert info.head["trainer"] == "Spark ML"
    assert info.head["max_iter"] == 10
    assert info.outputs[-1] == "distance" and info.distance["held_out"] >= 50
    assert done.accuracy is not None and done.accuracy > 0.5
    summary = score(done.uri, county_tiles.uri, str(tmp_path / "scores"))
    assert summary.tiles > 200
