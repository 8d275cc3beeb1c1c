"""Train a head on a backbone's features and save the model: `quadrat train`.

**What trains what.** The head is fitted to the class shares of all tiles of the split `train`,
mixed ones too, seen in several views where they are few. Its temperatures and the sets of classes
are fitted to predictions for those same tiles by heads that had not seen them: the training tiles
are dealt into five folds (whole blocks of ground where they have places), for each fold a head is
fitted to the other four and predicts this one, and all these predictions calibrate; then the head
itself is fitted to all training tiles. (With many tiles one fold is enough.) So no tile calibrates
a head that it trained, no training tile is wasted, and the validation tiles neither train nor
calibrate: they measure the finished model.

It does not know which engine computes the features, nor the run history: events are told to
`on_event`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import backbones, graphs, model, products, storage, tiles
from quadrat import skipped as skips
from quadrat.engines import Engine, abilities
from quadrat.errors import TrainError
from quadrat.features import Selection
from quadrat.heads import reviewed, worth
from quadrat.heads import samples as sampling
from quadrat.heads.fit import Settings
from quadrat.heads.forms import Form, Forms, learn_forms
from quadrat.heads.learning import Job, Learned, Progress
from quadrat.heads.result import TrainResult
from quadrat.legend import Legend
from quadrat.model import views as turns

Event = Callable[[str, Mapping[str, Any]], None]
VIEWS = 4  # of each training tile, where they are few
ON_SPARK = (0.01, 10)  # regularisation and iterations, as in the system that this replaces
PARITY_TILES = 16
SIZES = 1.5  # times that pixels may be larger or smaller than those a network was trained on
MOST_VIEWED = 12_000  # tiles in all views, at most, where the number of views is not said


def train(
    source: tiles.Source | str,
    out: str,
    *,
    backbone: str = "efficientnet_lite0",
    weights: str | None = None,
    head: str = "logistic",
    sample_frac: float = 1.0,
    seed: int = 0,
    reg: float | None = None,
    max_iter: int | None = None,
    trees: int = 20,
    depth: int = 5,
    class_weight: str = "none",
    views: int | None = None,
    prior: Mapping[str, float] | None = None,
    labels: str | None = None,
    precision: str = "auto",
    split_gap: bool = False,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    range: tuple[float, float] | None = None,
    pooling: str | None = None,
    pixels: int | None = None,
    accept_licence: bool = False,
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
        backbone: a network by name or a feature network as an `.onnx` file (see
            `backbones.feature_graph`).
        weights: a file of the backbone's weights; its published ones by default.
        head: `logistic` or `forest`.
        sample_frac: share of the training tiles to use, above 0 and at most 1.
        reg, max_iter: of `logistic` (see `fit.Settings`); by default 0.02 and 200, on Spark 0.01
            and 10.
        trees, depth: of `forest`.
        class_weight: `none` or `balanced`.
        views: of each training tile, 1 to 8 (turned, mirrored); each costs as much as the tiles. By
            default 4, or fewer where there are more than 3,000 tiles.
        prior: class -> share of the ground that is to be mapped, where that is known and the
            training tiles have other shares; classes that it does not name have what is left, in
            proportion.
        labels: a file of answers to plots that were drawn to train with (see `review`); they
            replace the labels and shares of these tiles.
        precision: what the model is to be scored in: `auto` tries int8, then bf16, on a GPU fp16
            (see `forms`); `int8`, `bf16` and `fp16` insist that they are tried; `fp32` tries
            nothing else.
        split_gap: fit a second head on a random split of the same tiles, to say how much accuracy
            such a split would have promised; on this machine only.
        mean, std, range, pooling, pixels, accept_licence: what is to be said of a network that does
            not say it itself (see `backbones.Given`).
        engine: where features are computed and, on `spark`, the head is trained (by Spark ML, see
            `heads.spark`); this machine by default.
        cache: where the engine's workers keep features; the user's cache by default.
        run_id: the run of the history that this is.
        on_event: told `params`, `data`, `metrics`, `ground`, `forms` and `model` as they come.
        on_progress: tiles featurized, of all.

    Raises:
        TrainError: no labels, one class, bad settings. InputError: the source is not usable.
        BackboneError, ModelError, StorageError, EngineError: see `backbones`, `features`.
        LabelError: `labels` of plots that were drawn to estimate with, or that do not fit.
    """
    begun = time.perf_counter()
    tell = on_event or (lambda event, values: None)
    strength, steps = _strength(engine, reg, max_iter, head=head, split_gap=split_gap)
    settings = Settings(head, strength, steps, trees, depth, class_weight, seed)
    _check(out, sample_frac, views)
    where = storage.redact(source if isinstance(source, str) else source.uri)
    opened = tiles.open_tiles(source) if isinstance(source, str) else source
    legend, tileset_digest = _legend(opened, where), opened.digest
    given = None if labels is None else reviewed.with_labels(opened, labels, legend)
    opened = opened if given is None else given.source
    light = tiles.index(opened)
    uses = sampling.sort(light, legend, where, seed)  # fails before the work, not after it
    said = backbones.Given(mean, std, range, pooling, pixels, accept_licence)
    graph = backbones.feature_graph(
        backbone, weights, size_px=opened.size_px, given=said, chips=lambda: _some_chips(opened)
    )
    seen = views or _views(len(uses.train) * sample_frac)
    told = {"sample_frac": sample_frac, "views": seen, **({"prior": dict(prior)} if prior else {})}
    told |= {} if given is None else {"labels": dict(given.about)}
    tell("params", {"backbone": graph.name, **_network(graph), **told, **settings.to_dict()})

    job = Job(
        opened, graph, _selection(light, sample_frac, seed), engine, cache, legend, settings, where,
        views=seen, prior=None if prior is None else _prior(prior, uses, legend),
    )  # fmt: skip
    forms = learn_forms(job, light, uses, precision, on_progress)
    form = forms.kept[forms.precision]
    learned, counts = form.learned, form.learned.samples.counts(legend)
    tell("data", {"uri": where, "digest": opened.digest, "tiles": counts})
    figures = worth.validation(learned, legend, seed)
    ground = worth.ground(learned, legend, seed)
    gap = worth.split_gap(form.job, learned, figures) if split_gap else None
    table = {name: _form(form.learned) for name, form in forms.kept.items()}
    told["trainer"] = learned.trainer
    info = _info(
        job, forms, about=told, figures={**(figures or {}), "forms": table, "ground": ground},
        warnings=_warnings(job, forms, given), run_id=run_id, tileset_digest=tileset_digest,
    )  # fmt: skip
    saved = _save(out, forms, info)
    _tell_worth(tell, figures, ground, gap)
    tell("forms", {"precision": forms.precision, **table})
    tell("model", {"uri": saved.uri, "digest": saved.digest})
    return TrainResult(
        uri=saved.uri,
        digest=saved.digest,
        backbone=graph.name,
        network=graph.to_dict(),
        head=settings.to_dict(),
        metrics=figures,
        ground=ground,
        precision=forms.precision,
        device=model.device(forms.precision),
        views=seen,
        forms=table,
        tiles=counts,
        held_out=learned.samples.held_out,
        seconds={**_seconds(forms), "total": time.perf_counter() - begun},
        skipped=learned.skipped,
        warnings=info.warnings,
        split_gap=gap,
    )


def _check(out: str, sample_frac: float, views: int | None) -> None:
    """Refuse what would fail after the work.

    Raises:
        TrainError, StorageError: an option out of its range, or something else in `out`.
    """
    if not 0 < sample_frac <= 1:
        raise TrainError(f"--sample-frac {sample_frac} must be above 0 and at most 1")
    if views is not None:
        turns.check(views)
    products.refuse_others("models", out)


def _tell_worth(
    tell: Event,
    figures: Mapping[str, Any] | None,
    ground: Mapping[str, Any] | None,
    gap: Mapping[str, Any] | None,
) -> None:
    """Tell the figures of the validation tiles and of all held-out ground, where there are any."""
    if figures is not None:
        more = {} if gap is None else {"split_gap": gap["gap"]["value"]}
        tell("metrics", {"split": "validation", **figures, **more})
    if ground is not None:
        tell("ground", ground)


def _seconds(forms: Forms) -> dict[str, float]:
    """What all precisions took."""
    every = [form.learned for form in forms.kept.values()]
    return {
        "features": sum(learned.feature_seconds for learned in every),
        "fit": sum(learned.fit_seconds for learned in every),
    }


def _strength(
    engine: Engine | None, reg: float | None, max_iter: int | None, *, head: str, split_gap: bool
) -> tuple[float, int]:
    """Regularisation and iterations where this engine trains the head.

    Raises:
        TrainError: the engine's trainer cannot do what was asked.
    """
    trained_there = abilities(engine).trains_heads
    if trained_there and head == "forest" and head not in trained_there:
        raise TrainError(
            "Spark Connect does not show a forest's trees; give --head logistic, or a --master "
            "that is not sc://"
        )
    if split_gap and trained_there:
        raise TrainError("--split-gap is measured on this machine; leave --engine spark out for it")
    strength, steps = ON_SPARK if trained_there else (Settings.reg, Settings.max_iter)
    return strength if reg is None else reg, steps if max_iter is None else max_iter


def _warnings(job: Job, forms: Forms, given: reviewed.Reviewed | None) -> tuple[str, ...]:
    """What a user should know of a training, a sentence each."""
    learned = forms.kept[forms.precision].learned
    return (
        *tiles.source_warnings(job.source),
        *(given.warnings if given is not None else ()),
        *learned.samples.warnings,
        *learned.fitted.warnings,
        *forms.warnings,
        *_pixel_size(job.graph, job.source),
        *skips.warning(learned.skipped),
    )


def _info(
    job: Job,
    forms: Forms,
    *,
    about: Mapping[str, Any],
    figures: Mapping[str, Any],
    warnings: tuple[str, ...],
    run_id: str | None,
    tileset_digest: str,
) -> model.ModelInfo:
    """What the model's file says; `about`: of the head, beside its settings."""
    learned = forms.kept[forms.precision].learned
    return model.ModelInfo(
        legend=job.legend,
        size_px=job.source.size_px,
        grid=job.source.grid,
        backbone={k: v for k, v in job.graph.to_dict().items() if k != "any_size"},
        head={**job.settings.to_dict(), **about},
        run_id=run_id,
        tileset_digest=tileset_digest,
        metrics=figures,
        temperature=learned.fitted.scalings.probabilities.temperature,
        masks=learned.samples.masks,
        conformal=learned.fitted.conformal,
        distance=_distance(forms, learned),
        precision=forms.precision,
        warnings=warnings,
    )


def _some_chips(source: tiles.Source) -> NDArray[np.uint8]:
    """The first tiles that can be read, to compare a backbone's graph with torch on."""
    for part in source.parts():
        for batch in tiles.read_part(part):
            if len(batch.chips):
                return np.ascontiguousarray(batch.chips[:PARITY_TILES])
    raise TrainError(f"{storage.redact(source.uri)} has no tile that can be read")


def _network(graph: backbones.FeatureGraph) -> dict[str, Any]:
    """What a run notes of a backbone."""
    names = ("weights_sha256", "licence", "mean", "std", "pooling", "parity")
    return {name: value for name in names if (value := graph.to_dict()[name])}


def _pixel_size(graph: backbones.FeatureGraph, source: tiles.Source) -> tuple[str, ...]:
    """A warning where the network was trained on pixels of another size than the tiles have."""
    here = None if source.grid is None else source.grid.pixel_m
    if here is None or graph.pixel_m is None:
        return ()
    if 1 / SIZES < here / graph.pixel_m < SIZES:
        return ()
    return (
        f"{graph.name} was trained on imagery of {graph.pixel_m:g} m a pixel, and these tiles have "
        f"{here:g} m",
    )


def _form(learned: Learned) -> dict[str, Any]:
    """What is known of one precision."""
    return {
        "accuracy": learned.fitted.accuracy,
        "compared": learned.compared,
        "temperature": learned.fitted.scalings.probabilities.temperature,
        "share_temperature": learned.fitted.scalings.shares.temperature,
        "train": len(learned.samples.train),
        "validation": len(learned.samples.validation),
    }


def _distance(forms: Forms, learned: Learned) -> dict[str, Any]:
    """What a model's file says of distances; nothing where a form is without them."""
    every = [form.learned.fitted.distance for form in forms.kept.values()]
    own = learned.fitted.distance
    return own.to_dict() if own is not None and None not in every else {}


def _joined(form: Form, info: model.ModelInfo) -> bytes:
    """The network and the head of a precision, with the distance where the model has that."""
    fitted = form.learned.fitted
    head = fitted.head.export(fitted.scalings.outputs(), len(info.legend))
    joined = graphs.join_graphs(form.job.graph.onnx, head, size_px=info.size_px)
    if not info.distance or fitted.distance is None:
        return joined
    return graphs.add_head(joined, fitted.distance.export()) or joined


def _save(out: str, forms: Forms, info: model.ModelInfo) -> model.Model:
    """Each precision's network and head, joined."""
    joined = {name: _joined(form, info) for name, form in forms.kept.items()}
    with products.hold("models", out):
        return model.save_model(out, joined.pop("fp32"), info, joined)


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


def _views(training: float) -> int:
    """Views of each training tile where their number is not said."""
    return int(max(1, min(VIEWS, MOST_VIEWED // max(1.0, training))))


def _prior(
    prior: Mapping[str, float], samples: sampling.Samples, legend: Legend
) -> tuple[float, ...]:
    """Shares of all classes from those that were given."""
    given = {legend.id(name): float(share) for name, share in prior.items()}
    left = 1.0 - sum(given.values())
    if any(not 0 <= share <= 1 for share in given.values()) or left < -1e-6:
        raise TrainError("--prior takes shares from 0 to 1 whose sum is at most 1")
    had = samples.shares[samples.train].sum(axis=0)
    others = [i for i in range(len(legend)) if i not in given]
    if not others or not had[others].sum():
        if abs(left) > 1e-6:
            raise TrainError(f"--prior names every class, and its shares sum to {1 - left:.3g}")
        return tuple(given.get(i, 0.0) for i in range(len(legend)))
    rest = max(left, 0.0) / had[others].sum()
    return tuple(given.get(i, float(had[i] * rest)) for i in range(len(legend)))
