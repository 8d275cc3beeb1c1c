"""A head learned from the features of one precision: fitted, calibrated, measured.

On this machine by scikit-learn, on a cluster by Spark ML; what comes out is the same. It does not
know which precisions there are to choose from (`forms`), nor the model (`training`).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from quadrat import backbones, tiles
from quadrat.engines import Engine, abilities
from quadrat.engines.local import available_cpus
from quadrat.features import Features, Selection, cached, featurize, featurize_parts
from quadrat.heads import samples as sampling
from quadrat.heads.calibrate import fit_temperature
from quadrat.heads.fit import Floats, Head, Settings, fit, probabilities, together
from quadrat.legend import Legend
from quadrat.skipped import Skipped

CALIBRATION_TILES = 2000  # held-out predictions that fix one number well enough
# tiles that a calibrating head is fitted to at most: the few levels of a tree are settled by a part
# of many tiles, and fitting it is what takes the time; a logistic head grows less sure with each
MOST = {"forest": 12_000}
# Heads with chance in them: how many are fitted, on at most how many tiles, to compare precisions.
# The accuracy of one forest varies by more than half a point with its seed alone.
BY_CHANCE = {"forest": (8, 4000)}
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """What is learned from what.

    Attributes:
        graph: the network; for `int8` its quantised graph.
        where: what to call the source in messages.
        calibrate: whether probabilities matter; if not, their temperature stays 1.
        compare: whether precisions are compared by what comes of it.
    """

    source: tiles.Source
    graph: backbones.FeatureGraph
    select: Selection
    engine: Engine | None
    cache: str | None
    legend: Legend
    settings: Settings
    where: str
    precision: str = "fp32"
    calibrate: bool = True
    compare: bool = False


@dataclass(frozen=True)
class Fitted:
    """A head fitted to features, calibrated and measured.

    Attributes:
        probabilities: of the validation tiles, calibrated, (N, K).
        accuracy: share of the validation tiles that are right; None without any.
    """

    head: Head
    temperature: float
    probabilities: Floats
    accuracy: float | None
    warnings: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Learned:
    """What came of a job.

    Attributes:
        compared: validation accuracy to compare precisions by: the head's own, or the mean over
            several seeds where the head has chance in it; None without validation tiles.
        skipped: name and reason of each tile that could not be read.
        trainer: who fitted the head.
    """

    samples: sampling.Samples
    fitted: Fitted
    compared: float | None
    skipped: tuple[Skipped, ...]
    feature_seconds: float
    fit_seconds: float
    trainer: str


def learn(job: Job, on_progress: Progress | None = None) -> Learned:
    """Features by the job's engine and a head on them; on Spark neither passes through here."""
    if abilities(job.engine).trains_heads:
        return _on_spark(job, on_progress)
    return _here(job, on_progress)


def _here(job: Job, on_progress: Progress | None) -> Learned:
    found = _features(job, on_progress)
    samples = sampling.sort(found.index, job.legend, job.where, job.settings.seed)
    begun = time.perf_counter()
    fitted = fit_form(found, samples, job.legend, job.settings, job.calibrate)
    compared = _compared(found, samples, job, fitted) if job.compare else None
    seconds = time.perf_counter() - begun
    return Learned(samples, fitted, compared, found.skipped, found.seconds, seconds, "scikit-learn")


def _compared(found: Features, samples: sampling.Samples, job: Job, fitted: Fitted) -> float | None:
    """What these features are worth to such heads; see `Learned.compared`."""
    if job.settings.head not in BY_CHANCE or not len(samples.validation):
        return fitted.accuracy
    heads, most = BY_CHANCE[job.settings.head]
    drawn = np.random.default_rng(job.settings.seed).permutation(samples.train)[:most]
    drawn = np.sort(drawn)
    x, y = np.asarray(found.values[drawn]), samples.y[drawn]
    if len(np.unique(y)) < 2:
        return fitted.accuracy
    held, truth = np.asarray(found.values[samples.validation]), samples.y[samples.validation]
    right = 0
    for n in range(heads):
        settings = dataclasses.replace(job.settings, seed=job.settings.seed + n)
        head, _ = fit(x, y, len(job.legend), settings)
        right += int((probabilities(head, held).argmax(1) == truth).sum())
    return right / (heads * len(truth))


def random_split(job: Job, samples: sampling.Samples) -> tuple[sampling.Ints, Floats]:
    """What a split by chance would have measured: classes and probabilities of its held-out tiles.

    The same tiles are dealt anew, as many to validation as before, without regard to where they
    lie; a head like the job's is fitted to the others. For `metrics.split_gap`.
    """
    found = _features(job, None)
    pool = np.concatenate([samples.train, samples.validation])
    dealt = np.random.default_rng(job.settings.seed).permutation(pool)
    held, rest = map(np.sort, np.split(dealt, [len(samples.validation)]))
    head, _ = fit(found.values[rest], samples.y[rest], len(job.legend), job.settings)
    return samples.y[held], probabilities(head, found.values[held])


def _on_spark(job: Job, on_progress: Progress | None) -> Learned:
    from quadrat.heads import spark

    parts = featurize_parts(
        job.source,
        job.graph,
        precision=job.precision,
        select=job.select,
        engine=job.engine,
        cache=job.cache,
        on_progress=on_progress,
    )
    begun = time.perf_counter()
    done = spark.fit(parts, job.legend, job.settings, job.engine, job.where)
    fitted = Fitted(done.head, done.temperature, done.probabilities, done.accuracy)
    seconds = time.perf_counter() - begun
    return Learned(
        done.samples, fitted, done.accuracy, done.skipped, parts.seconds, seconds, "Spark ML"
    )


def _features(job: Job, on_progress: Progress | None) -> Features:
    """Features of the selection; a part of those of all tiles where these are in the cache."""
    select = job.select
    if select.sample_frac < 1 or select.shares is not None:
        every = dataclasses.replace(select, sample_frac=1.0, shares=None)
        less = dataclasses.replace(select, shares=None)
        for wider in (every, less):
            whole = cached(job.source, job.graph, job.precision, wider)
            if whole is None or wider == select:
                continue
            keep = np.flatnonzero(select.mask(whole.index))
            return dataclasses.replace(
                whole, values=whole.values[keep], index=whole.index.take(keep)
            )
    return featurize(
        job.source,
        job.graph,
        precision=job.precision,
        select=select,
        engine=job.engine,
        cache=job.cache,
        on_progress=on_progress,
    )


def fit_form(
    features: Features,
    samples: sampling.Samples,
    legend: Legend,
    settings: Settings,
    calibrate: bool = True,
) -> Fitted:
    """Fit, calibrate and measure a head on features of one precision."""
    k = len(legend)
    x, y = features.values[samples.train], samples.y[samples.train]
    temperature: float = 1.0
    notes: tuple[str, ...] = ()
    with together(), ThreadPoolExecutor(2 if available_cpus() > 1 else 1) as pool:
        whole = pool.submit(fit, x, y, k, settings)
        if calibrate:
            temperature, notes = pool.submit(_calibrate, x, y, samples, k, settings).result()
        head, said = whole.result()
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
    rng = np.random.default_rng(settings.seed)
    logits, truth, n = [], [], 0
    for i in range(sampling.FOLDS):
        rest, held = np.flatnonzero(fold != i), np.flatnonzero(fold == i)
        rest = np.sort(rng.permutation(rest)[: MOST.get(settings.head)])
        if len(held) and len(np.unique(y[rest])) >= 2:
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
