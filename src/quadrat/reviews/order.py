"""Which plot comes next: each interpreter's own order, reserves, what is left to settle."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from quadrat.reviews.answers import SETTLED, PlotAnswer
from quadrat.reviews.plots import Plot, PlotList

Answered = Mapping[str, Mapping[int, PlotAnswer]]  # interpreter -> plot -> the answer that counts


def shuffled(plots: Iterable[Plot], interpreter: str, digest: str) -> list[int]:
    """The plots' numbers in an interpreter's own order: by name and list, the same at each start.

    Interpreters tire and learn; orders that differ keep this from falling on the same plots.
    """
    numbers = sorted(p.number for p in plots)
    seed = hashlib.sha256(f"{interpreter}\0{digest}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(seed[:16], "big"))
    return [numbers[i] for i in rng.permutation(len(numbers))]


def queue(listed: PlotList, interpreter: str, answered: Answered) -> list[int]:
    """All plots that an interpreter is asked for, answered ones too, in order.

    A reserve comes last, and only in the place of a plot of its stratum that cannot be seen, in
    the order of the sample. For `settled` it is what interpreters disagree on.
    """
    if interpreter == SETTLED:
        left = disputed(answered)
        return shuffled((p for p in listed.plots if p.number in left), interpreter, listed.digest)
    main = [p for p in listed.plots if not p.reserve]
    mine = answered.get(interpreter, {})
    unseen = {number for number, a in mine.items() if not a.observable}
    short = Counter(p.stratum for p in listed.plots if p.number in unseen)
    taken = []
    for plot in listed.plots:
        if plot.reserve and short[plot.stratum] > 0:
            short[plot.stratum] -= 1
            taken.append(plot.number)
    return [*shuffled(main, interpreter, listed.digest), *taken]


def disputed(answered: Answered) -> dict[int, list[PlotAnswer]]:
    """The plots that two interpreters or more answered unlike each other, with these answers.

    Answers are alike when they have the same main class on each date, the same change, and see
    the ground on the same dates.
    """
    by_plot: dict[int, list[PlotAnswer]] = {}
    for name, mine in sorted(answered.items()):
        if name != SETTLED:
            for number, answer in mine.items():
                by_plot.setdefault(number, []).append(answer)
    return {
        number: several
        for number, several in sorted(by_plot.items())
        if len({said(a) for a in several}) > 1
    }


def said(answer: PlotAnswer) -> tuple[object, ...]:
    """What two answers must have in common to agree."""
    return (*answer.classes, answer.change, *(s.observable for s in answer.seen))
