"""Train a head on a backbone's features and save the model: `quadrat train`.

**What trains what.** The head is fitted to the tiles of the split `train`. Its temperature is
fitted to predictions for those same tiles by heads that had not seen them: the training tiles are
dealt into five folds (whole blocks of ground where they have places), for each fold a head is
fitted to the other four and predicts this one, and one temperature is fitted to all these
predictions; then the head itself is fitted to all training tiles. (With many tiles one fold is
enough.) So no tile calibrates a head that it trained, no training tile is wasted, and the
validation tiles neither train nor calibrate: they measure the finished model.

It does not know which engine computes the features, nor the run history: events are told to
`on_event`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from quadrat import backbones, metrics, model, storage, tiles
from quadrat.engines import Engine
from quadrat.errors import TrainError
from quadrat.features import Features, Selection, cached, featurize, featurize_parts
from quadrat.heads import samples as sampling
from quadrat.heads.calibrate import fit_temperature
from quadrat.heads.fit import Floats, Head, Settings, fit, probabilities
from quadrat.legend import Legend

CALIBRATION_TILES = 2000  # held-out predictions that fix one number well enough
Event = Callable[[str, Mapping[str, Any]], None]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TrainResult:
    """A trained model and what is known of it.

    Attributes:
        uri, digest: the bundle.
        metrics: validation figures (`Metrics.to_dict()`), None when there are no validation tiles.
        precision: what the model is scored in by default.
        forms: precision -> its validation accuracy and temperature.
        tiles: class -> tiles, of `train` and `validation`.
        held_out: where validation tiles come from (see `samples.Samples`).
        seconds: of `features`, `fit` and `total`.
        skipped: name and reason of each tile that could not be read.
        warnings: what a user should know, a sentence each.
    """

    uri: str
    digest: str
    backbone: str
    head: Mapping[str, Any]
    metrics: Mapping[str, Any] | None
    precision: str
    forms: Mapping[str, Mapping[str, Any]]
    tiles: Mapping[str, Mapping[str, int]]
    held_out: str
    seconds: Mapping[str, float]
    skipped: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def accuracy(self) -> float | None:
        """Overall accuracy on the validation tiles."""
        return None if self.metrics is None else float(self.metrics["overall"]["value"])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "uri": self.uri,
            "digest": self.digest,
            "backbone": self.backbone,
            "head": dict(self.head),
            "accuracy": self.accuracy,
            "precision": self.precision,
            "forms": {k: dict(v) for k, v in self.forms.items()},
            "tiles": {k: dict(v) for k, v in self.tiles.items()},
            "held_out": self.held_out,
            "seconds": dict(self.seconds),
            "skipped": [list(s) for s in self.skipped],
            "warnings": list(self.warnings),
            "metrics": self.metrics,
        }


@dataclass(frozen=True)
class Fitted:
    """A head fitted to the features of one precision, calibrated and measured."""

    head: Head
    temperature: float
    probabilities: Floats
    accuracy: float | None
    warnings: tuple[str, ...] = field(default=())


def train(
    source: tiles.Source | str,
    out: str,
    *,
    backbone: str = "efficientnet_lite0",
    weights: str | None = None,
    head: str = "logistic",
    sample_frac: float = 1.0,
    seed: int = 0,
    reg: float = 0.01,
    max_iter: int | None = None,
    trees: int = 20,
    depth: int = 5,
    class_weight: str = "none",
    engine: Engine | None = None,
    cache: str | None = None,
    run_id: str | None = None,
    on_event: Event | None = None,
    on_progress: Progress | None = None,
) -> TrainResult:
    """Train a head on a frozen backbone and save the model.

    Args:
        source: labelled tiles: a tile set, a folder of pictures a class, or its URI.
        out: the model's folder.
        backbone: a name in `BACKBONES`, or an `.onnx` feature network.
        weights: a file of the backbone's weights; its published ones by default.
        head: `logistic` or `forest`.
        sample_frac: share of the training tiles to use, above 0 and at most 1.
        reg, max_iter: of `logistic` (see `fit.Settings`); steps are 200 at most, 10 on Spark.
        trees, depth: of `forest`.
        class_weight: `none` or `balanced`.
        engine: where features are computed and, on `spark`, the head is trained (by Spark ML, see
            `heads.spark`); this machine by default.
        cache: where the engine's workers keep features; the user's cache by default.
        run_id: the run of the history that this is.
        on_event: told `params`, `data`, `metrics` and `model` as they come.
        on_progress: tiles featurized, of all.

    Raises:
        TrainError: no labels, one class, bad settings. InputError: the source is not usable.
        BackboneError, ModelError, StorageError, EngineError: see `backbones`, `features`.
    """
    begun = time.perf_counter()
    on_spark = engine is not None and engine.name == "spark"
    steps = max_iter if max_iter is not None else 10 if on_spark else Settings.max_iter
    settings = Settings(head, reg, steps, trees, depth, class_weight, seed)
    if not 0 < sample_frac <= 1:
        raise TrainError(f"--sample-frac {sample_frac} must be above 0 and at most 1")
    where = storage.redact(source if isinstance(source, str) else source.uri)
    opened = tiles.open_tiles(source) if isinstance(source, str) else source
    legend = _legend(opened, where)
    light = tiles.index(opened)
    sampling.sort(light, legend, where, seed)  # fails before the work, not after it
    select = _selection(light, sample_frac, seed)
    graph = backbones.feature_graph(backbone, weights, size_px=opened.size_px)
    tell = on_event or (lambda event, values: None)
    params = {"backbone": graph.name, "sample_frac": sample_frac, **settings.to_dict()}
    tell("params", params)

    def data(samples: sampling.Samples) -> None:
        tell("data", {"uri": where, "digest": opened.digest, "tiles": samples.counts(legend)})

    learn = _on_spark if on_spark else _here
    learned = learn(
        _Job(opened, graph, select, engine, cache, legend, settings, where), data, on_progress
    )
    samples, fitted = learned.samples, learned.fitted
    figures = _figures(fitted, samples, legend, seed)
    warnings = (*samples.warnings, *fitted.warnings, *_said(learned.skipped))
    info = model.ModelInfo(
        legend=legend,
        size_px=opened.size_px,
        grid=opened.grid,
        backbone={k: v for k, v in graph.to_dict().items() if k != "any_size"},
        head={**settings.to_dict(), "sample_frac": sample_frac, "trainer": learned.trainer},
        run_id=run_id,
        tileset_digest=opened.digest,
        metrics=figures or {},
        temperature=fitted.temperature,
        warnings=warnings,
    )
    joined = model.join_graphs(
        graph.onnx, fitted.head.export(fitted.temperature), size_px=opened.size_px
    )
    saved = model.save_model(out, joined, info)
    if figures is not None:
        tell("metrics", {"split": "validation", **figures})
    tell("model", {"uri": saved.uri, "digest": saved.digest})
    return TrainResult(
        uri=saved.uri,
        digest=saved.digest,
        backbone=graph.name,
        head=settings.to_dict(),
        metrics=figures,
        precision="fp32",
        forms={"fp32": {"accuracy": fitted.accuracy, "temperature": fitted.temperature}},
        tiles=samples.counts(legend),
        held_out=samples.held_out,
        seconds={
            "features": learned.feature_seconds,
            "fit": learned.fit_seconds,
            "total": time.perf_counter() - begun,
        },
        skipped=learned.skipped,
        warnings=warnings,
    )


@dataclass(frozen=True)
class _Job:
    """What is learned from what."""

    source: tiles.Source
    graph: backbones.FeatureGraph
    select: Selection
    engine: Engine | None
    cache: str | None
    legend: Legend
    settings: Settings
    where: str


@dataclass(frozen=True)
class _Learned:
    """What came of it."""

    samples: sampling.Samples
    fitted: Fitted
    skipped: tuple[tuple[str, str], ...]
    feature_seconds: float
    fit_seconds: float
    trainer: str


def _here(
    job: _Job, data: Callable[[sampling.Samples], None], on_progress: Progress | None
) -> _Learned:
    """Features from any engine, the head fitted on this machine."""
    found = _features(job.source, job.graph, "fp32", job.select, job.engine, job.cache, on_progress)
    samples = sampling.sort(found.index, job.legend, job.where, job.settings.seed)
    data(samples)
    begun = time.perf_counter()
    fitted = fit_form(found, samples, job.legend, job.settings)
    seconds = time.perf_counter() - begun
    return _Learned(samples, fitted, found.skipped, found.seconds, seconds, "scikit-learn")


def _on_spark(
    job: _Job, data: Callable[[sampling.Samples], None], on_progress: Progress | None
) -> _Learned:
    """Features and the head on a cluster; neither passes through here."""
    from quadrat.heads import spark

    parts = featurize_parts(
        job.source,
        job.graph,
        select=job.select,
        engine=job.engine,
        cache=job.cache,
        on_progress=on_progress,
    )
    begun = time.perf_counter()
    done = spark.fit(parts, job.legend, job.settings, job.engine, job.where)
    data(done.samples)
    fitted = Fitted(done.head, done.temperature, done.probabilities, done.accuracy)
    seconds = time.perf_counter() - begun
    return _Learned(done.samples, fitted, done.skipped, parts.seconds, seconds, "Spark ML")


def _legend(source: tiles.Source, where: str) -> Legend:
    if source.legend is None:
        raise TrainError(f"{where} has no legend: its tiles have no labels to learn from")
    return source.legend


def _selection(index: Any, sample_frac: float, seed: int) -> Selection:
    """Labelled tiles that train or validate; where there are no splits, all labelled ones."""
    has_splits = index["split"].null_count < len(index)
    return Selection(
        labelled=True,
        splits=("train", "validation") if has_splits else None,
        sample_frac=sample_frac,
        seed=seed,
    )


def _features(
    source: tiles.Source,
    graph: backbones.FeatureGraph,
    precision: str,
    select: Selection,
    engine: Engine | None,
    cache: str | None,
    on_progress: Progress | None,
) -> Features:
    """Features of the selection; a part of those of all tiles where these are in the cache."""
    if select.sample_frac < 1:
        whole = cached(source, graph, precision, Selection(select.labelled, select.splits))
        if whole is not None:
            keep = np.flatnonzero(select.mask(whole.index))
            return Features(
                whole.values[keep],
                whole.index.take(keep),
                whole.skipped,
                whole.digest,
                0.0,
                whole.uri,
            )
    return featurize(
        source,
        graph,
        precision=precision,
        select=select,
        engine=engine,
        cache=cache,
        on_progress=on_progress,
    )


def fit_form(
    features: Features, samples: sampling.Samples, legend: Legend, settings: Settings
) -> Fitted:
    """Fit, calibrate and measure a head on features of one precision."""
    k = len(legend)
    x, y = features.values[samples.train], samples.y[samples.train]
    temperature, notes = _calibrate(x, y, samples, k, settings)
    head, said = fit(x, y, k, settings)
    held = features.values[samples.validation]
    p = probabilities(head, held, temperature)
    right = p.argmax(1) == samples.y[samples.validation]
    return Fitted(
        head=head,
        temperature=temperature,
        probabilities=p,
        accuracy=float(right.mean()) if len(right) else None,
        warnings=(*notes, *said),
    )


def _calibrate(
    x: Any, y: sampling.Ints, samples: sampling.Samples, k: int, settings: Settings
) -> tuple[float, tuple[str, ...]]:
    """The temperature that suits predictions for tiles that a head has not seen."""
    fold, _ = sampling.folds(samples, settings.seed)
    logits, truth, n = [], [], 0
    for i in range(sampling.FOLDS):
        rest, held = fold != i, fold == i
        if held.any() and len(np.unique(y[rest])) >= 2:
            head, _ = fit(x[rest], y[rest], k, settings)
            logits.append(head.logits(x[held]))
            truth.append(y[held])
            n += len(truth[-1])
        if n >= CALIBRATION_TILES:
            break
    if n < 2 * k:
        return 1.0, (
            f"{len(y)} training tiles are too few to calibrate with; probabilities are as the head "
            "gives them",
        )
    return fit_temperature(np.concatenate(logits), np.concatenate(truth)), ()


def _figures(
    fitted: Fitted, samples: sampling.Samples, legend: Legend, seed: int
) -> dict[str, Any] | None:
    if not len(samples.validation):
        return None
    where = samples.validation
    groups = None if samples.blocks is None else samples.blocks[where]
    return metrics.summarise(
        samples.y[where], fitted.probabilities, legend.names, groups=groups, seed=seed
    ).to_dict()


def _said(skipped: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    if not skipped:
        return ()
    some = ", ".join(name for name, _ in skipped[:3])
    more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return (f"{len(skipped)} tiles could not be read and were left out: {some}{more}",)
