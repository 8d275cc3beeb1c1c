"""How many plots each stratum of a frame gets: by a number, or by a goal and what is expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat.sampling import allocation as allocations
from quadrat.sampling import expectation
from quadrat.sampling import frame as frames
from quadrat.sampling import strata as groups
from quadrat.sampling.allocation import Expectation, Goal
from quadrat.sampling.answers import PlotAnswers
from quadrat.sampling.files import PlotSample
from quadrat.sampling.frame import SamplingFrame
from quadrat.sampling.strata import Strata, StrataOptions

Ints = NDArray[np.int64]

PLOTS, MINIMUM = 300, 20


@dataclass(frozen=True)
class SamplePlan:
    """How many plots each stratum gets, and what says so.

    Attributes:
        counts, reserve: (H,).
        expected: half-width of the target's interval, as part of the target; None without a target.
    """

    counts: Ints
    reserve: Ints
    rule: str
    goal: Goal | None
    expectation: Expectation | None
    expected: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "rule": self.rule,
            "goal": None if self.goal is None else self.goal.to_dict(),
            "assumes": None if self.expectation is None else self.expectation.assumes,
            "expected_share": None if self.expectation is None else self.expectation.share,
            "expected_half_width": self.expected,
        }


def cost(frame: SamplingFrame, area: str, half_width: float, level: float = 0.95) -> int:
    """How many plots the area of a class needs, in strata of the map's classes.

    Raises:
        InputError: no sample reaches it.
    """
    made = groups.stratify(frame, StrataOptions(by=tuple(groups.usual(frame))))
    plan = planned(
        frame, made, StrataOptions(), plots=None, rule="neyman", minimum=None, area=area,
        half_width=half_width, level=level, accuracy=None, reserve=0,
    )  # fmt: skip
    return int(plan.counts.sum())


def planned(
    frame: SamplingFrame,
    made: Strata,
    options: StrataOptions,
    *,
    plots: int | None,
    rule: str,
    minimum: int | None,
    area: str | None,
    half_width: float | None,
    level: float,
    accuracy: float | None,
    reserve: int,
    earlier: tuple[PlotSample, PlotAnswers] | None = None,
) -> SamplePlan:
    """Plots of each stratum, by number or by goal.

    Args:
        earlier: an interpreted sample, which says how much plots differ from the map.
    """
    sizes, expected = made.sizes, None
    least = MINIMUM if minimum is None else minimum
    what, share, mapped, target = _target(frame, options, area)
    if area is not None or frame.moves is not None or half_width is not None:
        pilot = None
        if earlier is not None:
            to = options.to_classes if area is None else (area,)
            gained = np.asarray(frames.wanted_moves(frame, options.from_classes, to).any(0))
            pilot = expectation.from_answers(frame, *earlier, target, gained)
        elif accuracy is None and target is not None:
            pilot = expectation.from_labels(frame, target)
        hidden = 0.0 if frame.moves is None else expectation.HIDDEN
        expected = expectation.expect(
            made, share, mapped, accuracy=accuracy, pilot=pilot, hidden=hidden
        )
    spread = expected.spread if expected is not None else _overall(frame, made)
    if half_width is not None and expected is not None:
        goal = Goal(what, half_width, level, expected.share)
        weights = allocations.neyman(sizes, spread)
        counts = allocations.needed(goal, sizes, spread, weights, least)
        rule = "neyman"
    else:
        goal = None
        n = PLOTS if plots is None else plots
        weights = allocations.RULES[rule](sizes, spread)
        # a minimum that nobody asked for gives way to a small sample
        small = least if minimum is not None else min(least, max(2, n // (2 * len(sizes))))
        counts = allocations.allocate(weights, sizes, n, small)
    half = None
    if expected is not None:
        half = allocations.expected_half_width(counts, sizes, spread, level) / expected.share
    spare = sizes - counts
    more = np.zeros(len(sizes), np.int64)
    if reserve:
        more = allocations.allocate(counts.astype(float), spare, min(reserve, int(spare.sum())), 0)
    return SamplePlan(counts, more, rule, goal, expected, half)


def _target(
    frame: SamplingFrame, options: StrataOptions, area: str | None
) -> tuple[str, Any, Any, int | None]:
    """What a plan is about: its name, its share of each tile, where it is mapped, its class id."""
    if frame.moves is None:
        if area is None:
            return "", frame.shares[:, 0], frame.mapped[:, -1] == 0, None
        target = frame.legend.id(area)
        name = frame.legend.names[target]
        return name, frame.shares[:, target], frame.mapped[:, -1] == target, target
    to_classes = options.to_classes if area is None else (area,)
    asked = frames.wanted_moves(frame, options.from_classes, to_classes)
    p = frames.change_probability(frame, asked)
    what = f"change to {' or '.join(to_classes)}" if to_classes else "change"
    return what, p, p >= groups.CHANGED, None


def _overall(frame: SamplingFrame, made: Strata) -> Any:
    """Standard deviation of the classes together in each stratum, by the map's own shares, (H,)."""
    doubt = (frame.shares * (1 - frame.shares)).sum(1)
    sums = np.bincount(made.of, weights=doubt, minlength=len(made.names))
    return np.sqrt(sums / np.maximum(made.sizes, 1))
