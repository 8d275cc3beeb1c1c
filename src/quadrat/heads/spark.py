"""Heads that Spark ML trains on a cluster, from features that stay where the workers wrote them.

LogisticRegression and RandomForestClassifier, whose numbers become the same heads as those that are
trained on one machine. A tile of several classes is a row for each, weighted by its share. What
comes to the driver is small: shares and splits, the model, what it says of validation tiles and of
at most `CALIBRATION_TILES` held-out ones, and the features of about `DRAWN` training tiles, which
tell what imagery is like them. It does not know networks or bundles.

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
from quadrat.heads.calibrate import HeldOut
from quadrat.heads.export import Tree
from quadrat.heads.fit import (
    ABSENT,
    FLOOR,
    Floats,
    Forest,
    Head,
    Ints,
    Logistic,
    Settings,
    balanced_weights,
)
from quadrat.legend import Legend
from quadrat.skipped import Skipped
from quadrat.tiles import targets
from quadrat.tiles.types import INDEX

CALIBRATION_TILES = 20_000
DRAWN = 2000  # training tiles whose features come to the driver
ENOUGH = 2000  # held-out predictions that one temperature is fitted to, at most
LIGHT = ("row", "col", "path", "label", "split")
NO_USE, TRAIN, VALIDATION = -1, 0, 1
# a row a training tile, view and class; `one` marks a single row of each tile, to predict with
SCHEMA = "place long, y int, use int, fold int, one int, weight double, values array<float>"


@dataclass(frozen=True)
class SparkFit:
    """A head that Spark trained, with its out-of-fold predictions.

    Attributes:
        samples: which tiles trained and which validate; positions as in the parts, one after the
            other.
        logits: (validation tiles, columns).
        held_out: predictions for training tiles by heads of the other folds; None without any.
        drawn: features (n, D) of some training tiles, and their folds (n,).
        skipped: name and reason of each tile that could not be read.
        model: Spark's own, on the column `features`.
    """

    head: Head
    samples: sampling.Samples
    logits: Floats
    held_out: HeldOut | None
    drawn: tuple[NDArray[np.float32], Ints]
    skipped: tuple[Skipped, ...]
    model: Any


def fit(
    views: Sequence[FeatureParts],
    legend: Legend,
    settings: Settings,
    engine: Engine | None,
    where: str,
) -> SparkFit:
    """Train a head on Spark.

    Args:
        views: features of the tiles in each view, the first as they are.
        where: what to call the source in messages.

    Raises:
        TrainError: see `samples.sort`. EngineError: a job failed.
    """
    if not isinstance(engine, SparkHost):
        raise EngineError("Spark ML trains on a Spark session; give --engine spark")
    index, sizes, skipped = _light(views[0])
    samples = sampling.sort(index, legend, where, settings.seed)
    present = np.flatnonzero(samples.targets(samples.train).sum(axis=0) > 0)
    uses = _uses(samples, present, settings)
    try:
        frame = _frame(engine, views, sizes, uses).persist()
        try:
            return _fit(
                frame,
                samples,
                skipped=skipped,
                present=present,
                dim=views[0].dim,
                settings=settings,
            )
        finally:
            frame.unpersist()
    except EngineError:
        raise
    except Exception as error:
        raise spark_errors.translated(error, "training on Spark failed") from error


def _fit(
    frame: Any,
    samples: sampling.Samples,
    *,
    skipped: tuple[Skipped, ...],
    present: Ints,
    dim: int,
    settings: Settings,
) -> SparkFit:
    train, k = frame.where(f"use = {TRAIN}"), samples.columns
    held_logits: list[Floats] = []
    held_places: list[Ints] = []
    for fold in range(sampling.FOLDS):
        rest, held = train.where(f"fold <> {fold}"), train.where(f"fold = {fold}")
        if rest.select("y").distinct().count() < len(present):
            continue
        head, model = _train(rest, present, k, dim, settings)
        once = held.where("one = 1").limit(CALIBRATION_TILES)
        places, logits = _predicted(model, once, head, present, k)
        held_logits.append(logits)
        held_places.append(places)
        if sum(map(len, held_places)) >= ENOUGH:
            break
    held_out = None
    if held_places:
        at = np.concatenate(held_places)
        blocks = None if samples.blocks is None else samples.blocks[at]
        held_out = HeldOut(
            np.concatenate(held_logits), samples.targets(at), samples.main(at), blocks
        )
    head, model = _train(train, present, k, dim, settings)
    _, logits = _predicted(model, frame.where(f"use = {VALIDATION}"), head, present, k)
    drawn = _drawn(train.where("one = 1"), len(samples.train))
    return SparkFit(head, samples, logits, held_out, drawn, skipped, model)


def _drawn(frame: Any, tiles: int) -> tuple[NDArray[np.float32], Ints]:
    """Features and folds of about DRAWN training tiles, evenly taken."""
    arrays = spark_errors.import_pyspark("pyspark.ml.functions")
    some = frame.where(f"place % {max(1, tiles // DRAWN)} = 0")
    rows = some.select("place", "fold", arrays.vector_to_array("features").alias("v")).collect()
    rows = sorted(rows, key=lambda row: int(row.place))
    folds = np.array([row.fold for row in rows], np.int64)
    return np.array([row.v for row in rows], np.float32).reshape(len(rows), -1), folds


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
        columns = [*LIGHT, *(targets.column(n) for n in parts.classes)]
        tables.append(geoparquet.read_part(uri, columns, schema=INDEX))
        skipped += skips.from_lists((geoparquet.read_note(uri, NOTE) or {})["skipped"])
    return pa.concat_tables(tables), [len(t) for t in tables], tuple(skipped)


def _uses(samples: sampling.Samples, present: Ints, settings: Settings) -> NDArray[np.void]:
    """What each tile is for: use, fold, and what it weighs in each class that is present."""
    kinds = [("use", np.int8), ("fold", np.int8), ("weight", np.float64, (len(present),))]
    out = np.zeros(len(samples.y), np.dtype(kinds))
    out["use"] = NO_USE
    out["use"][samples.train] = TRAIN
    out["use"][samples.validation] = VALIDATION
    out["fold"][samples.train] = sampling.folds(samples, settings.seed)[0]
    shares = samples.targets(samples.train)[:, present]
    if settings.class_weight == "balanced":
        shares = shares * balanced_weights(shares)
    out["weight"][samples.train] = shares
    return out


def _frame(
    engine: SparkHost,
    views: Sequence[FeatureParts],
    sizes: Sequence[int],
    uses: NDArray[np.void],
) -> Any:
    """The rows of SCHEMA, with `features`, a vector, for `values`."""
    engine.prepare()
    read = _reader(views, sizes, uses)
    count = len(views[0].names) * len(views)
    functions = spark_errors.import_pyspark("pyspark.ml.functions")
    rows = engine.spark.range(0, count, 1, count).mapInArrow(read, SCHEMA)
    return rows.withColumn("features", functions.array_to_vector("values")).drop("values")


def _reader(
    views: Sequence[FeatureParts], sizes: Sequence[int], uses: NDArray[np.void]
) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """The function that workers run: numbers of a view's parts in, rows out."""
    starts = np.concatenate([[0], np.cumsum(sizes)])
    pieces = [uses[starts[i] : starts[i + 1]] for i in range(len(sizes))]
    uris = [[storage.join(v.uri, name) for name in v.names] for v in views]
    firsts = [int(s) for s in starts]

    def read(batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            for n in batch.column(0).to_pylist():
                view, part = divmod(n, len(pieces))
                start = 0
                for rows in geoparquet.iter_batches(uris[view][part], ["features"], 1024):
                    mine = pieces[part][start : start + rows.num_rows]
                    yield _rows(mine, firsts[part] + start, view, rows.column(0))
                    start += rows.num_rows

    return read


def _rows(uses: NDArray[np.void], first: int, view: int, values: Any) -> pa.RecordBatch:
    """The rows of some tiles of one view.

    Args:
        first: place of the first tile. values: their features, a list a tile.
    """
    train = uses["use"] == TRAIN
    at, y = np.nonzero((uses["weight"] > 0) & train[:, None])
    weight = uses["weight"][at, y]
    one = np.zeros(len(at), np.int32)
    if view == 0:
        one[np.unique(at, return_index=True)[1]] = 1
        held = np.flatnonzero(uses["use"] == VALIDATION)
        at, y = np.concatenate([at, held]), np.concatenate([y, np.zeros(len(held), np.int64)])
        weight = np.concatenate([weight, np.ones(len(held))])
        one = np.concatenate([one, np.ones(len(held), np.int32)])
    whole = pa.int32()
    columns = {
        "place": pa.array(at + first),
        "y": pa.array(y).cast(whole),
        "use": pa.array(uses["use"][at]).cast(whole),
        "fold": pa.array(uses["fold"][at]).cast(whole),
        "one": pa.array(one),
        "weight": pa.array(weight),
        "values": values.cast(pa.list_(pa.float32())).take(pa.array(at)),
    }
    return pa.RecordBatch.from_pydict(columns)


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
