"""Heads that Spark ML trains on a cluster, from features that stay where the workers wrote them.

LogisticRegression and RandomForestClassifier, whose numbers become the same heads as those that are
trained on one machine. What comes to the driver is small: labels and splits, the model, the
probabilities of validation tiles and of at most `CALIBRATION_TILES` held-out ones; no features. It
does not know networks or bundles.

Workers read the features by this package's own storage, so that every URI serves; Spark's own file
systems (hadoop-aws, hadoop-azure) are not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import geoparquet, storage
from quadrat import skipped as skips
from quadrat.engines import Engine, SparkHost, spark_errors
from quadrat.errors import EngineError
from quadrat.features import NOTE, FeatureParts
from quadrat.heads import samples as sampling
from quadrat.heads.calibrate import fit_temperature, softmax
from quadrat.heads.export import Tree
from quadrat.heads.fit import ABSENT, FLOOR, Floats, Forest, Head, Ints, Logistic, Settings
from quadrat.legend import Legend
from quadrat.skipped import Skipped
from quadrat.tiles.types import INDEX

MAX_ITER = 10  # of logistic regression, as in the system that this one replaces
CALIBRATION_TILES = 20_000
ENOUGH = 2000  # held-out predictions that fix one number well enough
LIGHT = ("row", "col", "path", "label", "split")
NO_USE, TRAIN, VALIDATION = -1, 0, 1
SCHEMA = "place long, y int, use int, fold int, weight double, values array<float>"


@dataclass(frozen=True)
class SparkFit:
    """A head that Spark trained, calibrated, with what validation tiles get.

    Attributes:
        samples: which tiles trained and which validate; positions as in the parts, one after the
            other.
        probabilities: (validation tiles, K), calibrated.
        skipped: name and reason of each tile that could not be read.
        model: Spark's own, on the column `features`.
    """

    head: Head
    temperature: float
    samples: sampling.Samples
    probabilities: Floats
    skipped: tuple[Skipped, ...]
    model: Any

    @property
    def accuracy(self) -> float | None:
        """Share of the validation tiles that are right."""
        truth = self.samples.y[self.samples.validation]
        return float((self.probabilities.argmax(1) == truth).mean()) if len(truth) else None


def fit(
    parts: FeatureParts, legend: Legend, settings: Settings, engine: Engine | None, where: str
) -> SparkFit:
    """Train a head on Spark.

    Args:
        parts: features of labelled tiles.
        where: what to call the source in messages.

    Raises:
        TrainError: see `samples.sort`. EngineError: a job failed.
    """
    if not isinstance(engine, SparkHost):
        raise EngineError("Spark ML trains on a Spark session; give --engine spark")
    index, sizes, skipped = _light(parts)
    samples = sampling.sort(index, legend, where, settings.seed)
    present = np.unique(samples.y[samples.train])
    table = _uses(samples, present, settings)
    try:
        frame = _frame(engine, parts, sizes, table).persist()
        try:
            return _fit(frame, samples, skipped, present, len(legend), parts.dim, settings)
        finally:
            frame.unpersist()
    except EngineError:
        raise
    except Exception as error:
        raise spark_errors.translated(error, "training on Spark failed") from error


def _fit(
    frame: Any,
    samples: sampling.Samples,
    skipped: tuple[Skipped, ...],
    present: Ints,
    k: int,
    dim: int,
    settings: Settings,
) -> SparkFit:
    train = frame.where(f"use = {TRAIN}")
    held_logits, held_truth = [], []
    for fold in range(sampling.FOLDS):
        rest, held = train.where(f"fold <> {fold}"), train.where(f"fold = {fold}")
        if rest.select("y").distinct().count() < len(present):
            continue
        head, model = _train(rest, present, k, dim, settings)
        places, logits = _predicted(model, held.limit(CALIBRATION_TILES), head, present, k)
        held_logits.append(logits)
        held_truth.append(samples.y[places])
        if sum(map(len, held_truth)) >= ENOUGH:
            break
    temperature = 1.0
    if sum(map(len, held_truth)) >= 2 * k:
        temperature = fit_temperature(np.concatenate(held_logits), np.concatenate(held_truth))
    head, model = _train(train, present, k, dim, settings)
    _, logits = _predicted(model, frame.where(f"use = {VALIDATION}"), head, present, k)
    probabilities = softmax(logits, temperature)
    return SparkFit(head, temperature, samples, probabilities, skipped, model)


def _predicted(model: Any, frame: Any, head: Head, present: Ints, k: int) -> tuple[Ints, Floats]:
    """Places of tiles in order, and their logits (N, K): Spark's, in the words of `Head`."""
    column = "rawPrediction" if isinstance(head, Logistic) else "probability"
    arrays = spark_errors.import_pyspark("pyspark.ml.functions")
    chosen = model.transform(frame).select("place", arrays.vector_to_array(column).alias("v"))
    rows = sorted(chosen.collect(), key=lambda row: int(row.place))
    values = np.array([row.v for row in rows], np.float64).reshape(len(rows), -1)
    logits = np.full((len(rows), k), -np.inf)
    if isinstance(head, Forest):
        values = np.log(values[:, : len(present)] + head.floor[present])
    logits[:, present[: values.shape[1]]] = values
    return np.array([row.place for row in rows], np.int64), logits


def _light(parts: FeatureParts) -> tuple[pa.Table, list[int], tuple[Skipped, ...]]:
    """Labels, splits and places of all tiles; tiles in each part; tiles that were skipped."""
    tables: list[pa.Table] = []
    skipped: list[Skipped] = []
    for name in parts.names:
        uri = storage.join(parts.uri, name)
        tables.append(geoparquet.read_part(uri, LIGHT, schema=INDEX))
        skipped += skips.from_lists((geoparquet.read_note(uri, NOTE) or {})["skipped"])
    return pa.concat_tables(tables), [len(t) for t in tables], tuple(skipped)


def _uses(samples: sampling.Samples, present: Ints, settings: Settings) -> NDArray[np.void]:
    """What each tile is for: class (its place among those present), use, fold, weight."""
    kinds = [("y", np.int32), ("use", np.int8), ("fold", np.int8), ("weight", np.float64)]
    out = np.zeros(len(samples.y), np.dtype(kinds))
    out["use"] = NO_USE
    out["use"][samples.train] = TRAIN
    out["use"][samples.validation] = VALIDATION
    # validation tiles of a class that training lacks count as wrong, on the driver
    out["y"] = np.clip(np.searchsorted(present, samples.y), 0, len(present) - 1)
    out["fold"][samples.train] = sampling.folds(samples, settings.seed)[0]
    out["weight"] = 1.0
    if settings.class_weight == "balanced":
        counts = np.bincount(out["y"][samples.train], minlength=len(present))
        out["weight"] = (len(samples.train) / (len(present) * counts))[out["y"]]
    return out


def _frame(
    engine: SparkHost, parts: FeatureParts, sizes: Sequence[int], uses: NDArray[np.void]
) -> Any:
    """A row a tile that has a use: the columns of SCHEMA and `features`, a vector."""
    engine.prepare()
    read = _reader(parts, sizes, uses)
    count = len(parts.names)
    functions = spark_errors.import_pyspark("pyspark.ml.functions")
    rows = engine.spark.range(0, count, 1, count).mapInArrow(read, SCHEMA)
    return rows.withColumn("features", functions.array_to_vector("values")).drop("values")


def _reader(
    parts: FeatureParts, sizes: Sequence[int], uses: NDArray[np.void]
) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """The function that workers run: numbers of parts in, rows out."""
    starts = np.concatenate([[0], np.cumsum(sizes)])
    pieces = [uses[starts[i] : starts[i + 1]] for i in range(len(sizes))]
    uris = [storage.join(parts.uri, name) for name in parts.names]
    firsts, columns = [int(s) for s in starts], ("y", "use", "fold", "weight")

    def read(batches: Iterator[Any]) -> Iterator[Any]:
        import numpy
        import pyarrow

        from quadrat import geoparquet

        for batch in batches:
            for n in batch.column(0).to_pylist():
                start = 0
                for rows in geoparquet.iter_batches(uris[n], ["features"], 1024):
                    use = pieces[n][start : start + rows.num_rows]
                    place = numpy.arange(len(use)) + firsts[n] + start
                    start += rows.num_rows
                    keep = pyarrow.array(use["use"] >= 0)
                    kinds = (pyarrow.int32(), pyarrow.int32(), pyarrow.int32(), pyarrow.float64())
                    made = [
                        pyarrow.array(numpy.ascontiguousarray(use[c])).cast(t)
                        for c, t in zip(columns, kinds, strict=True)
                    ]
                    values = rows.column(0).cast(pyarrow.list_(pyarrow.float32()))
                    yield pyarrow.RecordBatch.from_arrays(
                        [pyarrow.array(place), *made, values], names=["place", *columns, "values"]
                    ).filter(keep)

    return read


def _train(frame: Any, present: Ints, k: int, dim: int, settings: Settings) -> tuple[Head, Any]:
    trainers = {"logistic": _logistic, "forest": _forest}
    return trainers[settings.head](frame, present, k, dim, settings)


def _logistic(frame: Any, present: Ints, k: int, dim: int, settings: Settings) -> tuple[Head, Any]:
    ml = spark_errors.import_pyspark("pyspark.ml.classification")
    stat = spark_errors.import_pyspark("pyspark.ml.stat")
    model = ml.LogisticRegression(
        featuresCol="features", labelCol="y", weightCol="weight", family="multinomial",
        regParam=settings.reg, maxIter=settings.max_iter,
    ).fit(frame)  # fmt: skip
    summary = stat.Summarizer.metrics("mean", "std").summary(frame["features"]).alias("s")
    (row,) = frame.select(summary).collect()
    mean, scale = np.asarray(row.s.mean.toArray()), np.asarray(row.s.std.toArray())
    scale[scale <= 1e-6 * np.maximum(1.0, np.abs(mean))] = 1.0
    raw = np.asarray(model.coefficientMatrix.toArray())
    coef, intercept = np.zeros((k, dim)), np.full(k, ABSENT)
    coef[present] = raw * scale
    intercept[present] = np.asarray(model.interceptVector.toArray()) + raw @ mean
    return Logistic(coef, intercept, mean, scale), model


def _forest(frame: Any, present: Ints, k: int, dim: int, settings: Settings) -> tuple[Head, Any]:
    ml = spark_errors.import_pyspark("pyspark.ml.classification")
    model = ml.RandomForestClassifier(
        featuresCol="features", labelCol="y", weightCol="weight",
        numTrees=settings.trees, maxDepth=settings.depth, seed=settings.seed,
    ).fit(frame)  # fmt: skip
    trees = tuple(_tree(t._java_obj.rootNode(), present, k) for t in model.trees)
    floor = np.zeros(k)
    floor[present] = FLOOR
    return Forest(trees, dim, floor), model


def _tree(root: Any, present: Ints, k: int) -> Tree:
    """One of Spark's trees as arrays, parents before children."""
    left: list[Any] = []
    right: list[Any] = []
    feature: list[Any] = []
    threshold: list[Any] = []
    values, queue = [], [root]
    for node in queue:  # grows while it is read
        shares = np.zeros(k)
        stats = np.asarray(list(node.impurityStats().stats()))
        shares[present[: len(stats)]] = stats / stats.sum()
        values.append(shares)
        if "LeafNode" in node.getClass().getSimpleName():
            row = (-1, -1, 0, 0.0)
        else:
            split, first = node.split(), len(queue)
            row = (first, first + 1, int(split.featureIndex()), float(split.threshold()))
            queue += [node.leftChild(), node.rightChild()]
        for column, value in zip((left, right, feature, threshold), row, strict=True):
            column.append(value)
    return Tree(
        np.array(left, np.int64),
        np.array(right, np.int64),
        np.array(feature, np.int64),
        np.array(threshold, np.float64),
        np.array(values),
    )
