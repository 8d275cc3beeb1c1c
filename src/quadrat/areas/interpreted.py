"""Interpreted plots as numbers: what was seen in each, how it was drawn, what the map says there.

A plot's reference is the mean of its interpreters' readings, or what was settled. There are two
estimands. *Ground* counts the share of a plot that each class has; between two dates, what a class
lost within a plot is dealt to the classes that gained there, in proportion, which is the least
change that the shares allow. *Plots* counts each plot as its main class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quadrat import choices, metrics, storage
from quadrat import grid as grids
from quadrat import legend as legends
from quadrat.areas.design import SurveyDesign
from quadrat.areas.estimate import pool_small
from quadrat.areas.estimators import Auxiliary
from quadrat.errors import InputError, LabelError, ScoresError
from quadrat.legend import Legend
from quadrat.sampling import draw, files
from quadrat.sampling.answers import SETTLED, PlotAnswers
from quadrat.sampling.files import PlotSample
from quadrat.sampling.frame import SamplingFrame

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

GROUND, PLOTS = choices.ESTIMANDS
TIE = 1e-9


@dataclass(frozen=True)
class Interpretation:
    """m answered plots of a sample, in C cells: classes, or transitions between two dates.

    Attributes:
        design: how they were drawn. plots: (m,) their places in the sample.
        values: (m, C) the reference: each cell's part of a plot.
        readings: (J, m, C) what each interpreter says, NaN where nothing; none that were settled.
        shares: (m, C) the map's share (or probability) of each cell, in the plots.
        means: (H, C) the same over all tiles of each stratum.
        cell: (m,) the map's cell of each plot. cells: (H, C) tiles of each stratum mapped so.
        strata: names. notes: what a reader must know.
        joined: names of strata that were joined, as they had fewer than two answered plots.
    """

    design: SurveyDesign
    plots: Ints
    values: Floats
    readings: Floats
    interpreters: tuple[str, ...]
    shares: Floats
    means: Floats
    cell: Ints
    cells: Floats
    strata: tuple[str, ...]
    joined: tuple[str, ...] = ()

    def auxiliary(self, weights: Floats) -> Auxiliary:
        """What the map says of V figures, each a weighted sum of cells, (C, V)."""
        sizes = np.maximum(self.design.sizes, 1)[:, None]
        shown = np.eye(self.cells.shape[1])[self.cell]
        return Auxiliary(
            self.shares @ weights, self.means @ weights, shown @ weights,
            (self.cells / sizes) @ weights, self.cell, self.cells.sum(0),
        )  # fmt: skip


def interpret(
    sample: PlotSample,
    answers: PlotAnswers,
    frame: SamplingFrame,
    estimand: str,
    *,
    coarse: Legend | None = None,
    collapse: bool = False,
) -> Interpretation:
    """Join a sample's answers with the map.

    Args:
        coarse: a legend to fold both into. collapse: join strata of fewer than two answered plots.

    Raises:
        LabelError: too few answers, or answers without shares where ground is asked for.
        ScoresError: the map lacks tiles that the sample was drawn from.
    """
    choices.check("estimand", estimand, choices.ESTIMANDS, InputError)
    counted = answers.counted
    plots = np.flatnonzero(counted.any(0))
    if len(plots) < 2:
        raise LabelError(
            f"{', '.join(answers.files)}: {len(plots)} plots have an answer; areas need at least "
            "2, better 50 in each stratum"
        )
    fold = _fold(frame, coarse)
    readings = _readings(answers, plots, estimand, fold)
    values = _combined(readings, counted[:, plots])
    ground = files.read_ground(sample)
    own = grids.places_of(
        grids.tile_keys(frame.rows, frame.cols), grids.tile_keys(ground.rows, ground.cols)
    )
    if (own < 0).any():
        raise ScoresError(
            f"{storage.redact(frame.uri)} lacks {int((own < 0).sum()):,} of {len(own):,} tiles "
            f"that the sample {storage.redact(sample.uri)} was drawn from; name the map that it "
            "was drawn from"
        )
    frame = frame.take(own)
    shares, cell = _of_map(frame, fold)
    place, joined = _joined(sample, plots, collapse)
    strata = tuple(s.name for s in sample.strata)
    stratum = place[ground.stratum]
    h, c = len(sample.strata), shares.shape[1]
    sizes = np.bincount(stratum, minlength=h).astype(np.float64)
    sums = np.zeros((h, c))
    np.add.at(sums, stratum, shares)
    cells = np.bincount(stratum * c + cell, minlength=h * c).reshape(h, c).astype(np.float64)
    at = grids.places_of(
        grids.tile_keys(ground.rows, ground.cols),
        grids.tile_keys(sample.rows[plots], sample.cols[plots]),
    )
    return Interpretation(
        design=_design(sample, plots, place[sample.stratum[plots]], sizes, frame), plots=plots,
        values=values, readings=_unsettled(readings, answers), shares=shares[at],
        interpreters=tuple(n for n in answers.interpreters if n != SETTLED),
        means=sums / np.maximum(sizes, 1)[:, None], cell=cell[at], cells=cells, strata=strata,
        joined=tuple(strata[i] for i in joined),
    )  # fmt: skip


def _fold(frame: SamplingFrame, coarse: Legend | None) -> Ints:
    """The class of each of the map's classes in the result, (K,)."""
    if coarse is None or coarse.names == frame.legend.names:
        return np.arange(len(frame.legend))
    return legends.fold(frame.legend, coarse).astype(np.int64)


def _readings(answers: PlotAnswers, plots: Ints, estimand: str, fold: Ints) -> Floats:
    """Each interpreter's values of the answered plots, (J, m, C), NaN where there are none."""
    usable = answers.usable[:, plots]
    shares, main = answers.shares[:, plots], answers.main[:, plots]
    k, into = len(fold), int(fold.max()) + 1
    table = np.eye(into)[fold]
    named = np.where((main >= 0)[..., None], np.eye(k)[main], np.nan)
    bare = usable & np.isnan(shares).any((2, 3))
    if estimand == GROUND and bare.any():
        count = int(bare.any(0).sum())
        raise LabelError(
            f"{count:,} of {len(plots):,} answered plots have a class and no shares, so that the "
            "ground of the classes is not known; use --estimand plots, or answer with shares"
        )
    if estimand == GROUND:
        each = shares @ table
    else:  # a class that was named, else the largest share; equal shares count in equal parts
        most = shares >= np.nanmax(shares, axis=-1, keepdims=True, initial=-1) - TIE
        largest = most / np.maximum(most.sum(-1, keepdims=True), 1)
        each = np.where(np.isnan(named), largest, named) @ table
    each = np.where(usable[..., None, None], each, np.nan)
    if each.shape[2] == 1:
        return np.asarray(each[:, :, 0])
    first, last = each[:, :, 0], each[:, :, -1]
    same = (answers.change[:, plots] == "no")[..., None]
    middle = (first + last) / 2
    return moved(np.where(same, middle, first), np.where(same, middle, last))


def moved(first: Floats, last: Floats) -> Floats:
    """Transitions within plots, (..., K * K), of the shares on two dates, (..., K) each."""
    stay = np.minimum(first, last)
    loss, gain = first - stay, last - stay
    total = gain.sum(-1)[..., None, None]
    flow = np.divide(
        loss[..., :, None] * gain[..., None, :], total,
        out=np.zeros((*stay.shape, stay.shape[-1])), where=total > TIE,
    )  # fmt: skip
    flow = np.where(np.isnan(total), np.nan, flow)
    flow += stay[..., None] * np.eye(stay.shape[-1])
    return np.asarray(flow.reshape(*stay.shape[:-1], -1))


def _combined(readings: Floats, counted: Flags) -> Floats:
    """The mean of the readings that count, (m, C)."""
    kept = np.where(counted[..., None], np.nan_to_num(readings), 0.0)
    combined: Floats = kept.sum(0) / np.maximum(counted.sum(0), 1)[:, None]
    return combined


def _unsettled(readings: Floats, answers: PlotAnswers) -> Floats:
    own = [i for i, n in enumerate(answers.interpreters) if n != SETTLED]
    return np.asarray(readings[own])


def _of_map(frame: SamplingFrame, fold: Ints) -> tuple[Floats, Ints]:
    """The map's share of each cell, (N, C), and its own cell, (N,)."""
    table = np.eye(int(fold.max()) + 1)[fold]
    k = table.shape[1]
    if frame.moves is None:
        return frame.shares @ table, fold[frame.mapped[:, 0]]
    moves = np.einsum("nij,ia,jb->nab", frame.moves, table, table, optimize=True)
    return moves.reshape(len(frame), k * k), fold[frame.mapped[:, 0]] * k + fold[frame.mapped[:, 1]]


def _joined(sample: PlotSample, plots: Ints, collapse: bool) -> tuple[Ints, list[int]]:
    """Where each stratum goes, (H,), and which were joined with others."""
    h = len(sample.strata)
    if sample.info.get("cluster"):
        return np.zeros(h, np.int64), []
    held = np.bincount(sample.stratum[plots], minlength=h)
    sizes = np.array([s.tiles for s in sample.strata])
    small = [i for i in range(h) if held[i] < 2 and sizes[i] > held[i]]
    if not small or not collapse:
        return np.arange(h), []
    return pool_small(held, sizes), small


def _design(
    sample: PlotSample, plots: Ints, stratum: Ints, sizes: Floats, frame: SamplingFrame
) -> SurveyDesign:
    side = sample.info.get("cluster")
    rows, cols = sample.rows[plots], sample.cols[plots]
    if side:
        every = metrics.block_ids(frame.rows, frame.cols, int(side))
        return SurveyDesign(
            np.zeros(len(plots), np.int64), sizes, metrics.block_ids(rows, cols, int(side)),
            blocks=len(np.unique(every)),
        )  # fmt: skip
    if sample.design != "systematic":
        return SurveyDesign(stratum, sizes)
    # places along the path that the sample was drawn on
    way = draw.path(frame.rows, frame.cols, sample.seed)
    keys = grids.tile_keys(frame.rows[way], frame.cols[way])
    return SurveyDesign(stratum, sizes, path=grids.places_of(keys, grids.tile_keys(rows, cols)))


def empty_strata(found: Interpretation) -> Sequence[str]:
    """Names of strata that have ground and fewer than two answered plots, and are not joined."""
    if found.design.clusters is not None:
        return ()
    counts, sizes = found.design.counts, found.design.sizes
    lacking = (counts < 2) & (sizes > counts)
    return [found.strata[i] for i in np.flatnonzero(lacking)]
