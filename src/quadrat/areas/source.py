"""Ground of the classes as a label source would map it, by a map and held-out tiles of the source.

The sum of a model's shares is biased where the model is. By how much is told by tiles that did not
train it: the mean difference to the label source's shares is taken off (the difference estimator),
with the variance between the blocks that were held out, and Student's interval with one degree of
freedom fewer than blocks. What comes out is what the source would say of all tiles, its own errors
included. It is no truth: that takes plots which people interpreted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from quadrat import metrics, storage
from quadrat import scores as dated
from quadrat.areas import design as designs
from quadrat.areas import intervals
from quadrat.areas.design import SurveyDesign
from quadrat.areas.reference import BLOCK, in_blocks, of_split, split_block
from quadrat.areas.tables import AreaResult, AreaRow
from quadrat.errors import InputError, LabelError
from quadrat.metrics import Estimate
from quadrat.sampling import cost, frame
from quadrat.scores import DateScores

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST_BLOCKS = 3
HALF_WIDTH = 0.1  # of the interval, as a share of the area: the goal of the advised sample
WANTED = "Developed"  # the class that the advice is for, where the legend has it
SMALL = 0.005  # a class with a smaller share of the map is replaced by the most common one


def says_shares(day: DateScores) -> bool:
    """Whether the scores have shares of ground, and the label source's beside them."""
    return day.shares is not None and day.reference is not None


def of_ground(
    day: DateScores,
    split: str = "auto",
    blocks: int | None = None,
    level: float = 0.95,
    notes: Sequence[str] = (),
) -> AreaResult:
    """Ground of each class as the label source would map it.

    Args:
        split: which tiles are the reference; see `quadrat.areas.area`.
        blocks: side of the blocks that were held out, tiles; 0 for single tiles; None takes what
            the tile set says, or looks how they lie.

    Raises:
        LabelError: the label source says nothing of held-out tiles, or of fewer than three blocks.
    """
    if day.shares is None or day.reference is None:
        raise LabelError(
            f"{storage.redact(day.uri)} has no shares of ground with the label source's beside "
            "them; score a tile set with labels, or say --estimand plots"
        )
    known = np.asarray(~np.isnan(day.reference).any(1))
    inside, named = of_split(day.split, known, split)
    at = np.flatnonzero(known & inside)
    if not len(at):
        raise LabelError(
            f"{storage.redact(day.uri)}: the label source says no shares of {named or 'any'} "
            "tiles; hold some out when tiling, or interpret plots: quadrat sample"
        )
    shares = day.shares.astype(np.float64)
    off = day.reference[at].astype(np.float64) - shares[at]
    plan, place = _plan(day, inside, at, blocks)
    se, wide, freedom = designs.standard_error(plan, off)
    total_ha, tile_ha, uneven = _ground(day)
    value = shares.mean(0) + off.mean(0)
    half = intervals.student(level, freedom) * wide
    low, high = np.maximum(value - half, 0.0), np.minimum(value + half, 1.0)
    mapped = np.bincount(day.mapped, minlength=len(day.legend))
    held = np.bincount(day.mapped[at], minlength=len(day.legend))
    rows = [
        AreaRow(
            name, "class", int(mapped[i]), int(held[i]), float(mapped[i] * tile_ha),
            Estimate(*(float(v[i]) * total_ha for v in (value, low, high))),
            float(se[i]) * total_ha, intervals.STUDENT,
        )
        for i, name in enumerate(day.legend.names)
    ]  # fmt: skip
    source = label_source(day)
    return AreaResult(
        title=f"Area of ground as {source} would map it, {day.date}", dates=(day.date,),
        names=day.legend.names, strata=day.legend.names,
        colors=tuple(c.color for c in day.legend.classes), adjusted=True, tile_ha=tile_ha,
        total_ha=total_ha, level=level, rows=tuple(rows), accuracy=None, files={},
        estimand="ground",
        notes=(
            *dated.synthetic_note((day,)), *notes,
            f"Reference: {len(at):,} {named or 'labelled'} tiles by {source}; the model's shares "
            f"differ from it by {_worst(day, off)} there, and this is taken off.",
            place, *_trained(day, at), *uneven, *advice(day),
        ),
    )  # fmt: skip


def _plan(
    day: DateScores, inside: NDArray[np.bool_], at: Ints, side: int | None
) -> tuple[SurveyDesign, str]:
    """The held-out tiles as blocks, or one by one, and the words for it."""
    if side is None:
        side = split_block(day) or (BLOCK if in_blocks(day.rows, day.cols, inside) else 0)
    whole, one = np.array([float(len(day))]), np.zeros(len(at), np.int64)
    if not side:
        if len(at) < 2:
            raise LabelError("one held-out tile says nothing of the spread; hold out more")
        return SurveyDesign(one, whole), "They are taken as drawn one by one."
    ids = metrics.block_ids(day.rows[at], day.cols[at], side)
    number = len(np.unique(ids))
    if number < LEAST_BLOCKS:
        raise LabelError(
            f"{storage.redact(day.uri)}: the held-out tiles lie in {number} blocks of {side} x "
            f"{side} tiles, which say too little of the spread; hold out at least {LEAST_BLOCKS} "
            "(quadrat tile --block with a smaller number, or --validation with a larger one)"
        )
    words = f"They lie in {number} blocks of {side} x {side} tiles; errors are between blocks."
    return SurveyDesign(one, whole, ids), words


def _ground(day: DateScores) -> tuple[float, float, tuple[str, ...]]:
    tile_ha, uneven = day.ground()
    return tile_ha * len(day), tile_ha, uneven


def label_source(day: DateScores) -> str:
    """What the labels came from, as people call it."""
    uri = (day.info.get("provenance") or {}).get("labels")
    return storage.basename(storage.redact(str(uri))) if uri else "the label source"


def _worst(day: DateScores, off: Floats) -> str:
    """The class whose shares are furthest off, in words."""
    bias = -off.mean(0)
    k = int(np.abs(bias).argmax())
    return f"up to {bias[k] * 100:+.1f} points ({day.legend.names[k]})"


def _trained(day: DateScores, at: Ints) -> tuple[str, ...]:
    if not (day.split[at] == "train").any():
        return ()
    return ("Some reference tiles trained the model, so that its bias looks smaller than it is.",)


def advice(day: DateScores, half_width: float = HALF_WIDTH) -> tuple[str, ...]:
    """A note that agreement with labels is not accuracy, and the sample that would measure it."""
    shown = np.bincount(day.mapped, minlength=len(day.legend)) / len(day)
    names = day.legend.names
    wanted = names[int(shown.argmax())]
    if WANTED in names and shown[names.index(WANTED)] >= SMALL:
        wanted = WANTED
    said = "This is agreement with the label source, not the truth."
    try:
        plots = cost(frame.of_day(day), wanted, half_width)
    except InputError:
        return (said,)
    command = f"quadrat sample {storage.redact(day.uri)} --out sample --area {wanted}"
    return (
        f"{said} Areas of the truth need plots that people interpret: {command} --half-width "
        f"{half_width:.0%} draws about {plots:,} plots.",
    )


def noted(result: AreaResult, day: DateScores) -> AreaResult:
    """A result whose reference is the label source, with what it is not."""
    return replace(result, notes=(*result.notes, *advice(day)))
