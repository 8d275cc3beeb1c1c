"""Labels to train with, from answers to plots that were drawn for it, and from no others.

Answers keep what their sample was drawn for. Those of a sample for estimation, and of candidates of
change, are refused here, and this is the only way from answers to training.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quadrat import choices, storage, text
from quadrat.errors import LabelError
from quadrat.legend import Legend
from quadrat.reviews import store
from quadrat.reviews.answers import SETTLED, PlotAnswer, Seen, latest

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
TRAINING = choices.PURPOSES[1]


@dataclass(frozen=True)
class TrainingLabels:
    """What interpreters said of tiles that may train.

    Attributes:
        name: the file of answers. sample: digest of the sample that they are to.
        date: that the answers are about.
        rows, cols: (n,) tile ids, each once.
        shares: (n, K) of the legend's classes, rows sum to 1: what was said, or all of the main
            class where no shares were; the mean of several interpreters.
    """

    name: str
    sample: str
    date: str
    rows: Ints
    cols: Ints
    shares: Floats

    def __len__(self) -> int:
        return len(self.rows)


def training_labels(uri: str, legend: Legend, date: str | None = None) -> TrainingLabels:
    """The labels of a file of answers, of the one date that it has or the one that is named.

    An answer under `settled` counts alone; plots that cannot be seen are left out.

    Raises:
        LabelError: plots that were not drawn to train with, other classes than the legend's, no
            such date, no answers. InputError: the file holds no answers.
    """
    kept = store.open_store(uri)
    name = storage.redact(uri)
    if kept.purpose != TRAINING:
        raise LabelError(
            f"{name} holds answers to plots that were drawn for {kept.purpose or 'nothing known'}; "
            "such plots never train. Draw others: quadrat sample --for training"
        )
    classes = [str(c) for c in kept.about.get("classes", ())]
    place = _places(name, classes, legend)
    when = _date(name, [str(d) for d in kept.about.get("dates", ())], date)
    tiles: dict[str, list[PlotAnswer]] = {}
    answered = latest(store.read(kept))
    settled = answered.pop(SETTLED, {})
    for mine in answered.values():
        for plot, answer in mine.items():
            if plot not in settled:
                tiles.setdefault(answer.tile, []).append(answer)
    for answer in settled.values():
        tiles[answer.tile] = [answer]
    k = len(legend)
    rows = {t: _mean((_seen(a, when) for a in said), place, k) for t, said in tiles.items()}
    found = {tile: shares for tile, shares in sorted(rows.items()) if shares is not None}
    if not found:
        raise LabelError(f"{name} has no answer for {when}; interpret the plots first")
    ids = np.array([_tile(name, tile) for tile in found], np.int64)
    return TrainingLabels(
        name, str(kept.about.get("sample", "")), when, ids[:, 0], ids[:, 1],
        np.stack(list(found.values())),
    )  # fmt: skip


def _places(name: str, classes: Sequence[str], legend: Legend) -> dict[str, int]:
    """Class of the answers -> class id; LabelError for one that the legend lacks."""
    found = {}
    for word in classes:
        match = text.match(word, legend.names)
        if match is None:
            raise LabelError(
                f"{name} has the class {text.shown(word)}, which legend {legend.name} lacks; "
                f"{text.near(word, legend.names)}"
            )
        found[word] = legend.id(match)
    return found


def _date(name: str, dates: Sequence[str], wanted: str | None) -> str:
    if wanted is None and len(dates) == 1:
        return dates[0]
    if wanted not in dates:
        said = "say which" if wanted is None else f"it has no {wanted}"
        raise LabelError(f"{name} has answers for {', '.join(dates)}; {said}")
    return str(wanted)


def _seen(answer: PlotAnswer, date: str) -> Seen:
    return next(s for s in answer.seen if s.date == date)


def _mean(said: Iterable[Seen], place: dict[str, int], k: int) -> Floats | None:
    """Mean shares (K,) of what can be seen; None where nobody saw the ground."""
    rows = []
    for seen in said:
        if seen.main is None:
            continue
        row = np.zeros(k)
        for word, share in (seen.shares or {seen.main: 1.0}).items():
            row[place[word]] += share
        rows.append(row)
    return np.mean(rows, axis=0) if rows else None


def _tile(name: str, tile: str) -> tuple[int, int]:
    match = re.fullmatch(r"r(-?\d+)_c(-?\d+)", tile)
    if match is None:
        raise LabelError(f"{name} has the tile {text.shown(tile)}, which is none; draw plots anew")
    return int(match[1]), int(match[2])
