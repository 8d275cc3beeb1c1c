"""What tiles were on each date, by what they gained of the classes: the cells' way to an answer.

Gains are found date by date, in the classes of the result. What a tile gained of one class it lost
of the others in proportion to what it had of them. A change in a part of a tile is one; the main
class changes where what was gained is likely to be more than any other class has left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from quadrat.areas import source
from quadrat.changes import cells as cellular
from quadrat.changes import gains
from quadrat.changes.chronology import Chronology
from quadrat.changes.gains import Gains
from quadrat.changes.posterior import Posterior
from quadrat.changes.question import Question
from quadrat.changes.totals import Totals
from quadrat.errors import LabelError
from quadrat.metrics import Estimate
from quadrat.scores import DateScores

Rows = NDArray[np.float32]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SPREAD = 0.2  # standard error of the share that a tile gained, as planted changes show it


@dataclass(frozen=True)
class Flow:
    """Ground that went from class to class between two dates, in tiles.

    Attributes:
        moved: (K, K) expected. low, high: (K, K) the ends of what each may be.
        told: (K,) whether it could be told what was gained of each class.
    """

    moved: Floats
    low: Floats
    high: Floats
    told: NDArray[np.bool_]


def infer(dates: Chronology, question: Question) -> tuple[Posterior, tuple[Flow, ...], bool]:
    """What each tile was on each date, and the ground that moved in each interval.

    Args:
        dates: whose cells were kept with the scores.

    Returns:
        Both, and whether the first date's labels are of each cell.
    """
    days, fold = dates.days, question.fold
    n, k = len(days[0]), len(question.legend)
    earlier = cellular.read(days[0], dates.cells)
    classes, of_cells = cellular.classes(dates.first, days[0], days[0].legend, dates.cells)
    ground = _ground(days[0], classes)
    main, own = question.places[ground.argmax(1)], ground @ fold
    path, moved, flows = [main], [], []
    ends = np.zeros((n, k, k))
    wanted, best = np.zeros(n), np.zeros((n, 3), np.int64)
    for t, day in enumerate(days[1:]):
        later = cellular.read(day, dates.cells)
        found = gains.between(
            earlier, later, classes, (day.rows, day.cols), fold=fold,
            at_least=question.at_least, seed=question.seed,
        )  # fmt: skip
        lost = _lost(own)
        joint = found.probability[:, None, :] * lost
        off = joint.sum((1, 2))
        joint /= np.maximum(off, 1.0)[:, None, None]
        asked = np.where(question.asked, joint, 0.0)
        new = asked.sum((1, 2))
        over = new > wanted
        wanted[over] = new[over]
        best[over] = np.stack(
            [np.full(n, t), *np.divmod(asked.reshape(n, -1).argmax(1), k)], axis=1
        )[over]
        flows.append(_flow(found, lost, question.at_least))
        moved.append(joint.sum((1, 2)))
        ends = ends + joint
        path.append(_after(path[-1], found, own, question))
        changed = moved[-1] > 0.5
        classes = np.where(changed[:, None, None], 0, classes).astype(np.float32)
        earlier = later
    off = ends.sum((1, 2))
    ends /= np.maximum(off, 1.0)[:, None, None]
    stay = own / np.maximum(own.sum(1, keepdims=True), 1e-9)
    ends[:, np.arange(k), np.arange(k)] = (1 - np.minimum(off, 1.0))[:, None] * stay
    answer = Posterior(
        fine=None, maps=(), path=np.stack(path, axis=1), own=np.empty((n, len(days), 0)),
        moved=np.stack(moved, axis=1), ends=ends, wanted=wanted, best=best,
        kind={"kind": "planted changes"}, smoothing=0.0,
        learned={"replaced": found.replaced},
    )  # fmt: skip
    return answer, tuple(flows), of_cells


def known(
    dates: Chronology, flows: Sequence[Flow], question: Question, of_cells: bool
) -> tuple[int, tuple[str, ...]]:
    """Tiles of the first date whose ground is known, and what a reader must know.

    Args:
        of_cells: whether its labels are of each cell.
    """
    day = dates.days[0]
    tiles = day.truth >= 0 if day.reference is None else ~np.isnan(day.reference).any(1)
    notes = [
        "Changes were judged by planted ones, and false ones counted with tiles that show other "
        "ground of the same class. Classes that the label source confuses may look like change."
    ]
    untold = ~np.all([f.told for f in flows], axis=0)
    if untold.any():
        names = ", ".join(n for n, no in zip(question.legend.names, untold, strict=True) if no)
        notes.append(
            f"Whether there is more of {names} cannot be told: the earlier date has too little to "
            "learn from. No interval reckons with it."
        )
    if not of_cells:
        notes.append(
            "The first date has no label for each part of a tile, which would find more: cut it "
            "with quadrat tile --labels."
        )
    return int(tiles.sum()), tuple(notes)


def _ground(day: DateScores, classes: Rows) -> Floats:
    """Shares of the classes on the first date, (N, C): the label source's, else the model's."""
    known = classes.sum(2) > 0
    told = classes.sum(1) / np.maximum(known.sum(1, keepdims=True), 1)
    own = day.ground_shares
    shares: Floats = np.where(known.any(1, keepdims=True), told, own).astype(np.float64)
    return shares


def _lost(own: Floats) -> Floats:
    """(N, C, C): of what a tile gained of class j, the part that it lost of class i."""
    c = own.shape[1]
    lost = np.repeat(own[:, :, None] + 1e-6, c, axis=2)
    lost[:, np.arange(c), np.arange(c)] = 0
    out: Floats = lost / np.maximum(lost.sum(1, keepdims=True), 1e-12)
    return out


def _flow(found: Gains, lost: Floats, at_least: float) -> Flow:
    """Ground that moved, by how many tiles gained each class and how much a tile gained."""
    weight = found.probability * found.size  # (N, C)
    shape = np.einsum("nj,nij->ij", weight, lost, optimize=True)
    shape /= np.maximum(shape.sum(0, keepdims=True), 1e-12)  # of each class gained, what was lost
    size = weight.sum(0) / np.maximum(found.probability.sum(0), 1e-12)
    low, value, high = found.expected.T
    # the mean share that a change takes of a tile is known least of all: from what was asked to all
    moved, least, most = (shape * x for x in (value * size, low * at_least, high))
    return Flow(moved, least, most, found.told)


def _after(before: Ints, found: Gains, own: Floats, question: Question) -> Ints:
    """Main classes of the later date, (N,): those that more likely than not took the place."""
    ids = np.arange(len(own))
    gain = found.probability.argmax(1)
    mine, rest = own[ids, gain], own.copy()
    rest[ids, gain] = -1.0
    largest = rest.max(1)
    # a gain g leaves 1 - g / (1 - mine) of the others
    need = (largest - mine) / (1 + largest / np.maximum(1 - mine, 1e-6))
    became = found.probability[ids, gain] * ndtr((found.size[ids, gain] - need) / SPREAD)
    out: Ints = np.where(became > 0.5, gain, before)
    return out


def totals(dates: Chronology, flows: tuple[Flow, ...], question: Question) -> Totals:
    """Areas and changes of ground with intervals, in tiles."""
    first, k = dates.days[0], len(question.legend)
    moved = np.sum([f.moved for f in flows], axis=0)
    below = np.sqrt(np.sum([(f.moved - f.low) ** 2 for f in flows], axis=0))
    above = np.sqrt(np.sum([(f.high - f.moved) ** 2 for f in flows], axis=0))
    start = _areas(first, question)
    cells = [
        [_around(moved[i, j], below[i, j], above[i, j], least=0.0) for j in range(k)]
        for i in range(k)
    ]
    for i in range(k):
        gone = float(moved[i].sum())
        low, high = float(np.hypot.reduce(above[i])), float(np.hypot.reduce(below[i]))
        stay = start[i].value - gone
        cells[i][i] = _around(stay, low, high, least=0.0)
    areas, running = [start], None
    for t in range(len(flows)):
        running = _net(flows[: t + 1])
        areas.append(tuple(_sum(a, d) for a, d in zip(start, running, strict=True)))
    changed = tuple(
        _around(f.moved.sum(), _length(f.moved - f.low), _length(f.high - f.moved), least=0.0)
        for f in flows
    )
    flat = tuple(cell for row in cells for cell in row)
    return Totals(flat, tuple(areas), tuple(running or ()), changed, None)


def _length(x: Floats) -> float:
    """Error of a total: shared within what a class gained, independent between classes."""
    return float(np.sqrt((x.sum(0) ** 2).sum()))


def _net(flows: tuple[Flow, ...]) -> tuple[Estimate, ...]:
    """Gain less loss of each class."""
    value = np.sum([f.moved.sum(0) - f.moved.sum(1) for f in flows], axis=0)
    down, up = np.zeros(len(value)), np.zeros(len(value))
    for f in flows:
        low, high = f.moved - f.low, f.high - f.moved
        # what a class gained is uncertain as a whole; what it lost went to others, one by one
        down += low.sum(0) ** 2 + (high**2).sum(1)
        up += high.sum(0) ** 2 + (low**2).sum(1)
    return tuple(map(_around, value, np.sqrt(down), np.sqrt(up)))


def _sum(a: Estimate, b: Estimate) -> Estimate:
    value = a.value + b.value
    low = np.hypot(a.value - a.low, b.value - b.low)
    high = np.hypot(a.high - a.value, b.high - b.value)
    return _around(value, float(low), float(high), least=0.0)


def _around(value: float, down: float, up: float, *, least: float = -np.inf) -> Estimate:
    """The interval from `down` below a value, but not below `least`, to `up` above it."""
    return Estimate(float(value), float(max(value - down, least)), float(value + up))


def _areas(day: DateScores, question: Question) -> tuple[Estimate, ...]:
    """Ground of the classes on the first date; without intervals where no labels are held out."""
    try:
        found = source.of_ground(day, question.split, None, question.level)
        each = [row.adjusted for row in found.rows]
        ends = np.array([[e.value, e.low, e.high] for e in each if e is not None]) / found.tile_ha
    except LabelError:
        value = day.ground_shares.sum(0, dtype=np.float64)
        ends = np.stack([value, np.full(len(value), np.nan), np.full(len(value), np.nan)], axis=1)
    value = question.fold.T @ ends[:, 0]
    low, high = (
        np.sqrt(question.fold.T @ (ends[:, 0] - ends[:, 1]) ** 2),
        np.sqrt(question.fold.T @ (ends[:, 2] - ends[:, 0]) ** 2),
    )
    return tuple(map(_around, value, low, high))
