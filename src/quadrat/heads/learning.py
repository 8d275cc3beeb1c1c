"""A head learned from the features of one precision: fitted, calibrated, measured.

On this machine by numpy and scikit-learn, on a cluster by Spark ML; what comes out is the same. It
does not know which precisions there are to choose from (`forms`), nor the model (`training`).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import backbones, metrics, tiles
from quadrat.engines import Engine, abilities
from quadrat.engines.local import available_cpus
from quadrat.errors import TrainError
from quadrat.features import Features, Selection, cached, featurize, featurize_parts
from quadrat.heads import distance as distances
from quadrat.heads import samples as sampling
from quadrat.heads.calibrate import HeldOut, Scaling, Scalings, fit_scalings
from quadrat.heads.distance import Distance
from quadrat.heads.fit import Floats, Head, Settings, fit, one_thread
from quadrat.legend import Legend
from quadrat.skipped import Skipped

CALIBRATION_TILES = 2000  # held-out predictions that two temperatures are fitted to, at most
# most tiles that a head for calibration is fitted to: shallow trees change little with more tiles
# and take long to fit; the confidence of a logistic head does depend on their number
MOST = {"forest": 12_000}
# Random heads: how many are fitted, on at most how many tiles, to compare precisions.
# The accuracy of one forest varies by more than half a point with its seed alone.
BY_CHANCE = {"forest": (8, 4000)}
LEVEL = 0.9  # of the conformal sets
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """What a head is trained from, and how.

    Attributes:
        graph: the network; for `int8` its quantised graph.
        where: what to call the source in messages.
        calibrate: whether probabilities matter; if not, their temperature stays 1.
        compare: whether precisions are compared by what comes of it.
        views: of each training tile (see `model.views`).
        prior: class shares of the ground that is to be mapped, (K,); None for the training tiles'.
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
    views: int = 1
    prior: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Fitted:
    """A head fitted to features, calibrated and measured.

    Attributes:
        scalings: what its logits say.
        probabilities, shares: of the validation tiles, (N, columns).
        accuracy: share of the validation tiles whose main class is right; None without any.
        held_out: what the scalings were fitted to; None without calibration.
        conformal: the sets of classes (see `metrics.conformal`); empty where nothing is known.
        distance: how unlike the training tiles another is; None where they are too few.
    """

    head: Head
    scalings: Scalings
    probabilities: Floats
    shares: Floats
    accuracy: float | None
    held_out: HeldOut | None = None
    conformal: Mapping[str, Any] = field(default_factory=dict)
    distance: Distance | None = None
    warnings: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Learned:
    """The result of a job.

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
    """Compute features on the job's engine and fit a head; on Spark the driver sees neither."""
    if abilities(job.engine).trains_heads:
        return _on_spark(job, on_progress)
    return _here(job, on_progress)


def _here(job: Job, on_progress: Progress | None) -> Learned:
    features = _features(job, 0, _nth(on_progress, 0, job.views))
    samples = sampling.sort(features.index, job.legend, job.where, job.settings.seed)
    x, seconds = _training_rows(job, features, samples.train, on_progress)
    begun = time.perf_counter()
    fitted = fit_form(x, features, samples, job)
    compared = _compared(features, samples, job, fitted) if job.compare else None
    took = time.perf_counter() - begun
    return Learned(samples, fitted, compared, features.skipped, seconds, took, "scikit-learn")


def _nth(on_progress: Progress | None, at: int, passes: int) -> Progress | None:
    """The progress callback of pass number `at`."""
    if on_progress is None:
        return None
    return lambda done, total: on_progress(at * total + done, passes * total)


def _training_rows(
    job: Job,
    found: Features,
    train: sampling.Ints,
    on_progress: Progress | None,
    splits: tuple[str, ...] = ("train",),
) -> tuple[NDArray[np.float32], float]:
    """Features of training tiles in every view, (views, n, D), and the seconds they took.

    Args:
        found: features of all tiles in view 0.
        train: places of the tiles in it.
        splits: that the tiles are of, where there are splits.
    """
    rows, seconds = [found.values[train]], found.seconds
    for view in range(1, job.views):
        select = job.select
        if select.splits is not None:
            select = dataclasses.replace(select, splits=splits)
        more = _features(
            dataclasses.replace(job, select=select), view, _nth(on_progress, view, job.views)
        )
        # the same parts in the same order: those of view 0 that the narrower selection takes
        places = np.full(len(found.index), -1)
        taken = np.flatnonzero(select.mask(found.index))
        if len(taken) != len(more.index):
            raise TrainError(f"{job.where} changed while it was read; run the same command again")
        places[taken] = np.arange(len(taken))
        rows.append(more.values[places[train]])
        seconds += more.seconds
    return np.stack(rows), seconds


def _compared(found: Features, samples: sampling.Samples, job: Job, fitted: Fitted) -> float | None:
    """Validation accuracy to compare precisions by; see `Learned.compared`."""
    if job.settings.head not in BY_CHANCE or not len(samples.validation):
        return fitted.accuracy
    heads, most = BY_CHANCE[job.settings.head]
    drawn = np.random.default_rng(job.settings.seed).permutation(samples.train)[:most]
    drawn = np.sort(drawn)
    x, targets = np.asarray(found.values[drawn]), samples.targets(drawn)
    if np.count_nonzero(targets.sum(axis=0)) < 2:
        return fitted.accuracy
    held, truth = np.asarray(found.values[samples.validation]), samples.y[samples.validation]
    known, right = truth >= 0, 0
    for n in range(heads):
        settings = dataclasses.replace(job.settings, seed=job.settings.seed + n)
        head, _ = fit(x, targets, samples.columns, settings)
        right += int((head.logits(held).argmax(1) == truth)[known].sum())
    return right / (heads * max(1, int(known.sum())))


def random_split(job: Job, samples: sampling.Samples) -> tuple[sampling.Ints, Floats]:
    """Classes and probabilities of the held-out tiles of a random split.

    The same tiles are dealt anew, as many to validation as before, without regard to where they
    lie; a head like the job's is fitted to the others. For `metrics.split_gap`.
    """
    pool = np.concatenate([samples.train, samples.validation])
    dealt = np.random.default_rng(job.settings.seed).permutation(pool)
    held, rest = map(np.sort, np.split(dealt, [len(samples.validation)]))
    features = _features(job, 0, None)
    x, _ = _training_rows(job, features, rest, None, ("train", "validation"))
    head, _ = fit(
        np.concatenate(x), np.tile(samples.targets(rest), (job.views, 1)), samples.columns,
        job.settings,
    )  # fmt: skip
    return samples.y[held], Scaling()(head.logits(features.values[held]))


def _on_spark(job: Job, on_progress: Progress | None) -> Learned:
    from quadrat.heads import spark

    parts = [
        featurize_parts(
            job.source,
            job.graph,
            precision=job.precision,
            select=job.select,
            view=view,
            engine=job.engine,
            cache=job.cache,
            on_progress=_nth(on_progress, view, job.views),
        )
        for view in range(job.views)
    ]
    begun = time.perf_counter()
    done = spark.fit(parts, job.legend, job.settings, job.engine, job.where)
    held_out = done.held_out if job.calibrate else None
    near = distances.fit(*done.drawn, job.settings.seed) if job.calibrate else None
    fitted = judged(
        done.head, done.logits, done.samples, held_out=held_out, near=near, notes=(), job=job
    )
    took = time.perf_counter() - begun
    seconds = sum(p.seconds for p in parts)
    return Learned(done.samples, fitted, fitted.accuracy, done.skipped, seconds, took, "Spark ML")


def _features(job: Job, view: int, on_progress: Progress | None) -> Features:
    """Features of the selection, taken from the cache where it has those of more tiles."""
    select = job.select
    if select.sample_frac < 1 or select.shares is not None:
        every = dataclasses.replace(select, sample_frac=1.0, shares=None)
        less = dataclasses.replace(select, shares=None)
        for wider in (every, less):
            whole = cached(job.source, job.graph, job.precision, wider, view)
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
        view=view,
        engine=job.engine,
        cache=job.cache,
        on_progress=on_progress,
    )


def fit_form(
    x: NDArray[np.float32], features: Features, samples: sampling.Samples, job: Job
) -> Fitted:
    """Fit, calibrate and measure a head on features of one precision.

    Args:
        x: (views, n, D) features of the training tiles.
        features: of all tiles as they are.
    """
    targets, k = samples.targets(samples.train), samples.columns
    held_out: HeldOut | None = None
    near: Distance | None = None
    with one_thread(), ThreadPoolExecutor(2 if available_cpus() > 1 else 1) as pool:
        every = np.concatenate(x), np.tile(targets, (len(x), 1))
        whole = pool.submit(fit, *every, k, job.settings)
        if job.calibrate:
            held_out = pool.submit(_held_out, x, targets, samples, job.settings).result()
            near = distances.fit(x[0], sampling.folds(samples, job.settings.seed)[0])
        head, notes = whole.result()
    logits = head.logits(features.values[samples.validation])
    return judged(head, logits, samples, held_out=held_out, near=near, notes=notes, job=job)


def judged(
    head: Head,
    logits: Floats,
    samples: sampling.Samples,
    *,
    held_out: HeldOut | None,
    near: Distance | None,
    notes: tuple[str, ...],
    job: Job,
) -> Fitted:
    """A calibrated head and its validation figures.

    Args:
        logits: of the validation tiles.
        held_out: predictions that calibrate; None where nothing is to be.
        near: distances from the training tiles; None where nothing is to be said of them.
        notes: what a user should know of the fit.
    """
    scalings, conformal = Scalings(), {}
    if job.calibrate:
        if held_out is None or (held_out.main >= 0).sum() < 2 * samples.columns:
            notes = (
                *notes,
                f"{len(samples.train)} training tiles are too few to calibrate with; "
                "probabilities are as the head gives them",
            )
        else:
            scalings = fit_scalings(held_out)
            conformal = metrics.conformal(
                scalings.probabilities(held_out.logits), held_out.main, held_out.blocks, LEVEL
            )
    if job.prior is not None:
        shift = prior_shift(samples.targets(samples.train), job)
        scalings = Scalings(
            dataclasses.replace(scalings.probabilities, shift=shift),
            dataclasses.replace(scalings.shares, shift=shift),
        )
    p = scalings.probabilities(logits)
    truth = samples.y[samples.validation]
    known = truth >= 0
    right = (p.argmax(1) == truth)[known]
    return Fitted(
        head=head,
        scalings=scalings,
        probabilities=p,
        shares=scalings.shares(logits),
        accuracy=float(right.mean()) if len(right) else None,
        held_out=held_out,
        conformal=conformal,
        distance=near,
        warnings=notes if near is not None or not job.calibrate else (*notes, distances.TOO_FEW),
    )


def prior_shift(targets: Floats, job: Job) -> Floats:
    """Logit offsets for ground whose class shares differ from those of the training tiles.

    log(share there / share in training), (columns,); 0 for what either lacks, and for ground
    without a class, of which nothing is said.
    """
    had = targets.mean(axis=0)
    if job.settings.class_weight == "balanced":
        had = (had > 0) / max(1, int(np.count_nonzero(had)))
    wanted = np.zeros(len(had))
    given = np.asarray(job.prior, np.float64)
    wanted[: len(given)] = given / given.sum() * had[: len(given)].sum()
    both = (had > 0) & (wanted > 0)
    shift: Floats = np.zeros(len(had))
    shift[both] = np.log(wanted[both] / had[both])
    return shift


def _held_out(
    x: NDArray[np.float32], targets: Floats, samples: sampling.Samples, settings: Settings
) -> HeldOut | None:
    """Out-of-fold predictions of unturned training tiles by heads fitted to the other folds."""
    fold, _ = sampling.folds(samples, settings.seed)
    rng = np.random.default_rng(settings.seed)
    main = samples.main(samples.train)
    logits, places, n = [], [], 0
    for i in range(sampling.FOLDS):
        rest, held = np.flatnonzero(fold != i), np.flatnonzero(fold == i)
        rest = np.sort(rng.permutation(rest)[: MOST.get(settings.head)])
        if len(held) and np.count_nonzero(targets[rest].sum(axis=0)) >= 2:
            every = np.concatenate(x[:, rest]), np.tile(targets[rest], (len(x), 1))
            head, _ = fit(*every, samples.columns, settings)
            logits.append(head.logits(x[0][held]))
            places.append(held)
            n += len(held)
        if n >= CALIBRATION_TILES:
            break
    if not places:
        return None
    at = np.concatenate(places)
    blocks = None if samples.blocks is None else samples.blocks[samples.train[at]]
    return HeldOut(np.concatenate(logits), targets[at], main[at], blocks)
