"""Areas from a probability sample of interpreted plots, with the map as auxiliary information.

Each row takes the estimator that was asked for; one that rests on too few plots takes the plots
alone and an exact interval, since neither a model nor a bell curve helps there. The row says which,
and how much wider or narrower than the plots alone it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quadrat import choices, raster, storage
from quadrat import legend as legends
from quadrat.areas import design as designs
from quadrat.areas import estimators, interpreters, intervals, response, tables
from quadrat.areas.estimate import Accuracy, Sample
from quadrat.areas.interpreted import GROUND, Interpretation, empty_strata, interpret
from quadrat.areas.response import FEWEST
from quadrat.areas.tables import AreaResult, AreaRow
from quadrat.errors import InputError
from quadrat.metrics import Estimate
from quadrat.sampling import frame as frames
from quadrat.sampling.answers import PlotAnswers, read_answers
from quadrat.sampling.files import PlotSample, open_sample
from quadrat.sampling.frame import SamplingFrame
from quadrat.scores import open_scores

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Figures:
    """V figures as parts of all ground, (V,) each.

    Attributes:
        exact: whether the figure is of the plots alone, with an exact interval.
        plain: standard error of the plots alone. simple: of as many drawn at random.
        interpreters: standard error between interpreters.
    """

    value: Floats
    se: Floats
    low: Floats
    high: Floats
    exact: NDArray[np.bool_]
    plain: Floats
    simple: Floats
    interpreters: Floats


def from_sample(
    map_uri: str,
    sample_uri: str,
    answers: Sequence[str],
    *,
    estimand: str = GROUND,
    estimator: str = "regression",
    legend: str | None = None,
    other_map: bool = False,
    collapse: bool = False,
    level: float = 0.95,
) -> AreaResult:
    """Areas of ground, or of plots by main class, from an interpreted sample.

    Args:
        other_map: take a map that is not the one the sample was drawn from; its tiles must be.
        collapse: join strata of fewer than two answered plots with others.

    Raises:
        InputError: the sample was drawn from another map, or to train with.
        LabelError: answers that are none of the sample's, or too few.
    """
    choices.check("estimator", estimator, choices.ESTIMATORS, InputError)
    sample = open_sample(sample_uri)
    frame = frames.read(map_uri, sample.info.get("legend_file"))
    _same_map(sample, frame, other_map)
    said = read_answers(answers, sample)
    coarse = None if legend is None else legends.load_legend(legend)
    interpretation = interpret(sample, said, frame, estimand, coarse=coarse, collapse=collapse)
    return estimated(interpretation, sample, said, frame, coarse=coarse, estimand=estimand,
                     estimator=estimator, level=level)  # fmt: skip


def _same_map(sample: PlotSample, frame: SamplingFrame, other_map: bool) -> None:
    """Refuse a map that was made anew, or has other classes."""
    name = storage.redact(sample.uri)
    if frame.legend.names != sample.legend.names:
        raise InputError(
            f"{storage.redact(frame.uri)} has the classes {', '.join(frame.legend.names)}, the "
            f"sample {name} {', '.join(sample.legend.names)}; name the map that it was drawn from"
        )
    if frame.digest != sample.source.get("digest") and not other_map:
        raise InputError(
            f"{storage.redact(frame.uri)} is not the map that {name} was drawn from (its digest "
            "differs); name that one, or say --other-map to use this one beside the sample's own "
            "strata"
        )
    if other_map:
        _not_trained_on(sample, frame)
    if len(frame.dates) != len(sample.dates):
        raise InputError(
            f"the sample {name} is of {len(sample.dates)} date(s), {storage.redact(frame.uri)} of "
            f"{len(frame.dates)}; name the map that it was drawn from"
        )


def _not_trained_on(sample: PlotSample, frame: SamplingFrame) -> None:
    """Refuse a map whose model learned people's labels of the sample's own tiles."""
    if frame.kind != "scores":
        return
    model = open_scores(frame.uri).info.get("model") or {}
    trained = {(int(r), int(c)) for r, c in (model.get("labels") or {}).get("places", ())}
    shared = len(trained & set(zip(sample.rows.tolist(), sample.cols.tolist(), strict=True)))
    if shared:
        raise InputError(
            f"{shared:,} plots of {storage.redact(sample.uri)} trained the model of "
            f"{storage.redact(frame.uri)}, so that its map is right on them by memory; draw "
            "another sample from this map, or plots to train with --apart-from the first one"
        )


def estimated(
    found: Interpretation,
    sample: PlotSample,
    said: PlotAnswers,
    frame: SamplingFrame,
    *,
    coarse: legends.Legend | None = None,
    estimand: str = GROUND,
    estimator: str = "regression",
    level: float = 0.95,
) -> AreaResult:
    """The areas of an interpretation."""
    legend = frame.legend if coarse is None else coarse
    names, change = legend.names, len(sample.dates) > 1
    counts = found.cells.sum(0)
    lines = rows_of(names, counts, found.values, change=change)
    weights = np.stack([w for _, _, w in lines], axis=1)
    lost = empty_strata(found)
    figures = None if lost else figures_of(found, weights, estimator, level)
    hectares = raster.tile_hectares(frame.grid, frame.rows, frame.cols)
    tile_ha = float(hectares.mean())
    total = tile_ha * float(counts.sum())
    rows = [
        _row(
            i,
            line,
            found,
            figures,
            counts=counts,
            tile_ha=tile_ha,
            total=total,
            estimator=estimator,
        )
        for i, line in enumerate(lines)
    ]
    strata = names if not change else tuple(_pair(a, b) for a in names for b in names)
    what = "ground" if estimand == GROUND else "plots by main class"
    when = f"{sample.dates[0]} to {sample.dates[-1]}" if change else sample.dates[0]
    return AreaResult(
        title=f"Area of {'change of ' if change else ''}{what}, {when}", dates=sample.dates,
        names=names, strata=strata, colors=tuple(c.color for c in legend.classes), adjusted=True,
        tile_ha=tile_ha, total_ha=total, level=level, rows=tuple(rows),
        accuracy=None if lost else accuracy(found, level), files={}, estimand=estimand,
        notes=tuple(response.notes(
            found, sample, said, frame, lost=lost, rows=rows, estimand=estimand
        )),
        survey=response.survey(found, sample, said),
    )  # fmt: skip


def rows_of(
    names: Sequence[str], counts: Floats, values: Floats, *, change: bool
) -> list[tuple[str, str, Floats]]:
    """Name, kind and weights of the cells, (C,), of each row."""
    k = len(names)
    if not change:
        return [(n, "class", np.eye(k)[i]) for i, n in enumerate(names)]
    cells = np.eye(k * k)
    seen = np.asarray((counts > 0) | (values > 0).any(0))
    rows: list[tuple[str, str, Floats]] = []
    for at in np.argsort(-counts, kind="stable"):
        i, j = divmod(int(at), k)
        if i != j and seen[at]:
            rows.append((_pair(names[i], names[j]), "transition", cells[at]))
    table = cells.reshape(k, k, k * k)
    off = table * (1 - np.eye(k))[..., None]
    for i, name in enumerate(names):
        rows.append((f"{name}, gained", "gain", off[:, i].sum(0)))
        rows.append((f"{name}, lost", "loss", off[i].sum(0)))
        rows.append((f"{name}, net", "net", off[:, i].sum(0) - off[i].sum(0)))
        rows.append((_pair(name, name), "stable", table[i, i]))
    return [row for row in rows if _possible(row, seen)]


def _possible(row: tuple[str, str, Floats], seen: NDArray[np.bool_]) -> bool:
    return bool(seen[row[2] != 0].any())


def _pair(a: str, b: str) -> str:
    return f"{a} → {b}" if a != b else f"{a} (stable)"


def figures_of(found: Interpretation, weights: Floats, estimator: str, level: float) -> Figures:
    """Estimates of V rows.

    Args:
        weights: (C, V) of the cells in each row.
    """
    design, y = found.design, found.values @ weights
    aux = found.auxiliary(weights)
    linear = estimators.ESTIMATORS[estimator](design, y, aux)
    se, wide, freedom = designs.standard_error(design, linear.values)
    plain = designs.standard_error(design, y)[0]
    between, readers = interpreters.component(found, weights)
    spread, freedom = interpreters.joined(wide, freedom, between, readers)
    half = intervals.student(level, freedom) * spread
    value, net = linear.value, np.asarray((weights < 0).any(0))
    low = np.maximum(value - half, np.where(net, -1.0, 0.0))
    high = np.minimum(value + half, 1.0)
    exact = np.zeros(len(value), bool)
    for v in np.flatnonzero(_rare(found, y)):
        figure, se[v] = _exact(found, y[:, v], level, bool(net[v]))
        value[v], low[v], high[v] = figure.value, figure.low, figure.high
        exact[v] = True
    return Figures(value, np.hypot(se, between), low, high, exact, plain,
                   np.sqrt(designs.simple_variance(design, y)), between)  # fmt: skip


def _sample(found: Interpretation) -> Sample:
    design = found.design
    return Sample(design.stratum, found.values, design.sizes, True, design.clusters)


def _rare(found: Interpretation, y: Floats) -> NDArray[np.bool_]:
    """Rows that rest on too few plots, (V,)."""
    held = (np.abs(y) > 0).sum(0)
    rare: NDArray[np.bool_] = held < FEWEST
    binary = np.asarray(np.isin(y, (-1.0, 0.0, 1.0)).all(0))
    sample = _sample(found)
    for v in np.flatnonzero(binary & ~rare):
        gain, loss = np.maximum(y[:, v], 0.0), np.maximum(-y[:, v], 0.0)
        rare[v] = intervals.few(sample, gain) or (loss.any() and intervals.few(sample, loss))
    return rare


def _exact(found: Interpretation, y: Floats, level: float, net: bool) -> tuple[Estimate, float]:
    """The plots alone with an exact interval, and their standard error."""
    sample = _sample(found)
    value = float(designs.mean(found.design, y[:, None])[0])
    se = float(designs.standard_error(found.design, y[:, None])[0][0])
    got = intervals.exact(sample, np.maximum(y, 0.0), level)
    if net:
        got = intervals.newcombe(got, intervals.exact(sample, np.maximum(-y, 0.0), level))
    return Estimate(value, got.low, got.high), se


def _row(
    at: int,
    line: tuple[str, str, Floats],
    found: Interpretation,
    figures: Figures | None,
    *,
    counts: Floats,
    tile_ha: float,
    total: float,
    estimator: str,
) -> AreaRow:
    name, kind, weights = line
    tiles = round(float(counts @ weights))
    inside = weights[found.cell] != 0
    held = int((np.abs(found.values @ weights) > 0).sum())
    bare = AreaRow(name, kind, tiles, int(inside.sum()), tiles * tile_ha, None, None)
    bare = replace(bare, plots=len(found.plots), found=held)
    if figures is None:
        return replace(bare, interval=tables.NOT_ESTIMABLE)
    f, scale = figures, total
    adjusted = Estimate(*(float(v[at]) * scale for v in (f.value, f.low, f.high)))
    none = held == 0 and not inside.any()
    effect = float(f.se[at] ** 2 / f.simple[at] ** 2) if f.simple[at] > 0 else None
    return replace(
        bare, adjusted=adjusted, se_ha=None if none else float(f.se[at]) * scale,
        interval=tables.NOT_ESTIMABLE if none
        else intervals.EXACT if f.exact[at] else intervals.STUDENT,
        estimator="direct" if f.exact[at] else estimator, design_effect=effect,
        plain_se_ha=float(f.plain[at]) * scale,
        interpreters_se_ha=float(f.interpreters[at]) * scale,
    )  # fmt: skip


def accuracy(found: Interpretation, level: float) -> Accuracy:
    """Overall, user's and producer's accuracy of the map (Stehman 2014), by exact intervals.

    Of ground: a user's accuracy is the part of the ground mapped so that is so.
    """
    design, y = found.design, found.values
    shown = np.eye(y.shape[1])[found.cell]
    agree = y * shown
    overall = _ratios(design, agree.sum(1, keepdims=True), np.ones((len(y), 1)), level)
    return Accuracy(
        overall[0], tuple(_ratios(design, agree, shown, level)),
        tuple(_ratios(design, agree, y, level)),
    )  # fmt: skip


def _ratios(
    design: designs.SurveyDesign, top: Floats, bottom: Floats, level: float
) -> list[Estimate]:
    """Ratios of means, NaN where no plot has the bottom; see `intervals.of_share`."""
    a, b = designs.mean(design, top), designs.mean(design, bottom)
    value = np.divide(a, b, out=np.full(len(a), np.nan), where=b > 0)
    residual = (top - np.nan_to_num(value) * bottom) / np.maximum(b, 1e-300)
    se, _, freedom = designs.standard_error(design, residual)
    ends = intervals.of_share(value, se, freedom, (bottom > 0).sum(0).astype(np.float64), level)
    return [Estimate(float(v), float(e[0]), float(e[1])) for v, e in zip(value, ends, strict=True)]
