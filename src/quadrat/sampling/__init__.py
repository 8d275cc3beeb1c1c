"""Probability samples of plots to interpret: who is drawn, at what rate, and the files for it.

Areas that stand up to an audit come from a sample whose inclusion probabilities are known, that
people interpreted without seeing the map (Olofsson et al. 2014, Remote Sensing of Environment 148;
Stehman and Foody 2019, Remote Sensing of Environment 231). A walk in one direction:

    frame        the tiles that may be drawn
    strata       groups of them
    expectation  how much plots are expected to differ, and what says so
    allocation   plots for each stratum, by rule or by goal; plan: the two together
    draw         the tiles
    informative, training    plots to train with: other tiles, for another purpose
    files        the sample's folder
    exchange     Collect Earth Online, KML, a template for answers
    package      the GeoPackage that holds answers
    answers      what interpreters said, read and checked

It does not know areas, models or pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from quadrat import choices, storage
from quadrat.errors import InputError
from quadrat.sampling import draw, exchange, training
from quadrat.sampling import frame as frames
from quadrat.sampling import strata as groups
from quadrat.sampling.answers import PlotAnswers, read_answers
from quadrat.sampling.draw import Drawn
from quadrat.sampling.files import (
    ESTIMATION,
    TRAINING,
    PlotSample,
    SampledGround,
    SampleStratum,
    open_sample,
    write,
)
from quadrat.sampling.frame import SamplingFrame
from quadrat.sampling.plan import SamplePlan, cost, planned
from quadrat.sampling.strata import Strata, StrataOptions

__all__ = ["PlotSample", "SampleStratum", "cost", "open_sample", "sample", "write"]


def sample(
    scores: str,
    out: str,
    *,
    plots: int | None = None,
    design: str = "stratified",
    strata: Sequence[str] = (),
    regions: str | None = None,
    region_field: str | None = None,
    omission: bool = True,
    from_classes: Sequence[str] = (),
    to_classes: Sequence[str] = (),
    within: str | None = None,
    legend: str | None = None,
    allocation: str = "proportional",
    minimum: int | None = None,
    area: str | None = None,
    half_width: float | None = None,
    level: float = 0.95,
    accuracy: float | None = None,
    pilot: str | None = None,
    answers: Sequence[str] = (),
    reserve: int = 0,
    cluster: int = 3,
    export: Sequence[str] = (),
    points: int = 1,
    seed: int = 0,
    overwrite: bool = False,
    purpose: str = ESTIMATION,
    apart_from: Sequence[str] = (),
) -> PlotSample:
    """Draw a probability sample of a map's tiles, to be interpreted as plots.

    For the purpose `training`, draw the most informative tiles instead, which are no probability
    sample: a model may be trained on them, and no area be estimated.

    Args:
        scores: a folder of scores, or of a change, whose tiles are drawn from.
        out: folder for `sample.gpkg`, `sample.csv` and `sample.json`.
        plots: how many; 300 by default, or as many as `half_width` needs.
        design: `stratified` (at random in each stratum), `random` (of all tiles), `systematic`
            (at even steps, in each stratum if there are any) or `clusters` (whole blocks).
        strata: `class`, `certainty`, `change`, `transition`, `region`; several are crossed. By
            default the map's classes, or `change` for a change.
        regions: polygons for the strata `region`; `region_field` names them.
        omission: whether strata of change part unchanged tiles by how likely they hide change.
        from_classes, to_classes: the changes that strata of change, and a goal, are about.
        within: polygons; only tiles with their centre inside are drawn from.
        legend: a coarser legend to fold scores into first.
        allocation: `proportional`, `equal` or `neyman`; a goal takes `neyman`.
        minimum: least plots of a stratum, 20 by default.
        area: the class whose area is the goal; of a change, leave it out or name the class gained.
        half_width: of the goal's interval, as part of its area: 0.1 is +-10%.
        level: of that interval.
        accuracy: the map's accuracy, where the plan is to rest on a stated one.
        pilot: an earlier sample of the map, where the plan is to rest on it; with its `answers`.
        reserve: plots in reserve, for those that cannot be observed.
        cluster: side of the blocks of `clusters`, tiles.
        export: further files: `ceo` (Collect Earth Online), `kml`, `template` (a CSV to fill in).
        points: of Collect Earth Online along a side of each plot; 1 leaves them to its designer.
        purpose: `estimation` or `training`. The latter takes `plots` (200 by default), `within`,
            `legend`, `export`, `points`, `seed` and `apart_from` alone.
        apart_from: samples for estimation whose tiles are not drawn to train with.

    Raises:
        InputError: too few tiles, a goal that no sample reaches, options that do not go together.
    """
    for kind in export:
        choices.check("export", kind, choices.EXPORTS, InputError)
    choices.check("purpose", purpose, choices.PURPOSES, InputError)
    options = StrataOptions(
        tuple(strata), regions, region_field, omission, tuple(from_classes), tuple(to_classes)
    )
    frame = frames.read(scores, legend)
    if within is not None:
        frame = _inside(frame, within)
    if purpose == TRAINING:
        training.refuse(
            design=design, strata=options != StrataOptions(), allocation=allocation,
            minimum=minimum, area=area, half_width=half_width, accuracy=accuracy, reserve=reserve,
            pilot=pilot,
        )  # fmt: skip
        drawn_to_train = training.draw(frame, out, plots=plots, apart_from=apart_from, seed=seed)
        return _written(drawn_to_train, None, overwrite, export, points)
    if apart_from:
        raise InputError("--apart-from needs --for training; every tile can be drawn to estimate")
    _check(frame, options, design, plots=plots, allocation=allocation, half_width=half_width,
           area=area, reserve=reserve, accuracy=accuracy)  # fmt: skip
    earlier = _earlier(pilot, answers, accuracy)
    if not options.by and design == "stratified":
        options = replace(options, by=tuple(groups.usual(frame)))
    made = groups.stratify(frame, options)
    plan = planned(
        frame, made, options, plots=plots, rule=allocation, minimum=minimum, area=area,
        half_width=half_width, level=level, accuracy=accuracy, reserve=reserve, earlier=earlier,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    if design == "clusters":
        drawn = draw.clusters(frame, cluster, int(plan.counts.sum()), rng)
    elif design == "systematic":
        drawn = draw.systematic(frame, made, plan.counts, plan.reserve, seed)
    else:
        drawn = draw.at_random(made, plan.counts, plan.reserve, rng)
    side = cluster if design == "clusters" else None
    result = of_drawn(
        frame, made, drawn, plan, out=out, design=design, seed=seed, cluster=side, legend=legend
    )
    ground = SampledGround(frame.rows, frame.cols, made.of)
    return _written(result, ground, overwrite, export, points)


def _earlier(
    pilot: str | None, answers: Sequence[str], accuracy: float | None
) -> tuple[PlotSample, PlotAnswers] | None:
    """An interpreted sample that a plan rests on."""
    if (pilot is None) != (not answers):
        raise InputError("--pilot FOLDER and --answers FILE go together; give both or neither")
    if pilot is None:
        return None
    if accuracy is not None:
        raise InputError("--accuracy and --pilot both say how much plots differ; give one of them")
    earlier = open_sample(pilot)
    return earlier, read_answers(answers, earlier)


def _written(
    drawn: PlotSample,
    ground: SampledGround | None,
    overwrite: bool,
    export: Sequence[str],
    points: int,
) -> PlotSample:
    written = write(drawn, ground, overwrite)
    exchange.export(written, export, points)
    return written


def _check(
    frame: SamplingFrame,
    options: StrataOptions,
    design: str,
    *,
    plots: int | None,
    allocation: str,
    half_width: float | None,
    area: str | None,
    reserve: int,
    accuracy: float | None,
) -> None:
    """Refuse options that do not go together."""
    choices.check("design", design, choices.DESIGNS, InputError)
    choices.check("allocation", allocation, choices.ALLOCATIONS, InputError)
    if options.by and design in ("random", "clusters"):
        raise InputError(
            f"--design {design} draws without strata; leave --strata out, or take stratified"
        )
    if design == "clusters" and (half_width is not None or reserve):
        raise InputError(
            "--design clusters takes neither --half-width nor --reserve; give --plots alone"
        )
    if half_width is not None and plots is not None:
        raise InputError("--plots and --half-width both say how many; give one of them")
    if half_width is not None and not 0 < half_width < 1:
        raise InputError(f"--half-width {half_width:g} is no part of an area; 10% or 0.1, say")
    if half_width is None and accuracy is not None and area is None and frame.moves is None:
        raise InputError("--accuracy plans the area of one class; name it with --area")
    if half_width is not None and area is None and frame.moves is None:
        raise InputError("--half-width needs the class whose area it is of: --area CLASS")
    if frame.moves is None and (options.from_classes or options.to_classes):
        raise InputError("--from and --to are about a change; name a folder of quadrat change")
    if (options.regions is not None) != ("region" in options.by):
        raise InputError("--regions FILE and --strata region go together; give both or neither")
    if plots is not None and plots < 2:
        raise InputError(f"{plots} plots say nothing of their spread; draw at least 2")
    if reserve < 0:
        raise InputError(f"--reserve {reserve}; use 0 or more")


def _inside(frame: SamplingFrame, within: str) -> SamplingFrame:
    inside = groups.by_region(frame, StrataOptions(regions=within))
    return frame.take(np.flatnonzero(inside.of < len(inside.names) - 1))


def of_drawn(
    frame: SamplingFrame,
    made: Strata,
    drawn: Drawn,
    plan: SamplePlan,
    *,
    out: str,
    design: str,
    seed: int,
    cluster: int | None = None,
    legend: str | None = None,
    purpose: str = ESTIMATION,
) -> PlotSample:
    """The sample that was drawn, before it is written."""
    of = made.of[drawn.places]
    spare = np.bincount(of[drawn.reserve], minlength=len(made.names))
    counts = np.bincount(of[~drawn.reserve], minlength=len(made.names))
    listed = tuple(
        SampleStratum(code, name, rule, int(tiles), int(n), int(more))
        for code, name, rule, tiles, n, more in zip(
            made.codes, made.names, made.rules, made.sizes, counts, spare, strict=True
        )
    )
    info: Mapping[str, Any] = {
        "allocation": plan.to_dict(),
        "cluster": cluster,
        "legend_file": legend,
    }
    return PlotSample(
        uri=storage.normalise(out), purpose=purpose, design=design, seed=seed, grid=frame.grid,
        legend=frame.legend, dates=frame.dates, strata=listed, rows=frame.rows[drawn.places],
        cols=frame.cols[drawn.places], stratum=of, probability=drawn.probability,
        reserve=drawn.reserve, source=frames.described(frame), info=info,
    )  # fmt: skip
