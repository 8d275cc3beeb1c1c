"""The map's layers: classes and certainty of each date, and what changed, in one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from quadrat import maps
from quadrat.errors import ScoresError
from quadrat.grid import TileRange
from quadrat.maps.arrays import Frame, pixels
from quadrat.reports import images
from quadrat.reports.content import Content, Day
from quadrat.reports.images import Layer
from quadrat.reports.transitions import colors_of

UNCHANGED = "#dedede"
UNLIKE = "#b0307a"
MOST_KINDS = 250  # of classes or changes that the page can tell apart


def area_of(found: Content) -> TileRange:
    """The rows and columns of the map."""
    return _frame(found).area


def layers(found: Content) -> list[Layer]:
    """The map's layers in one frame."""
    if all(d.tiles is None for d in found.days):
        return []
    frame = _frame(found)
    made = [one for day in found.days for one in _day(day, frame)]
    if found.transitions is not None:
        made.append(_change(found, frame))
    return made


def _frame(found: Content) -> Frame:
    days = [d.tiles for d in found.days if d.tiles is not None]
    rows, cols = [d.rows for d in days], [d.cols for d in days]
    if found.transitions is not None:
        rows.append(found.transitions["row"].to_numpy().astype(np.int64))
        cols.append(found.transitions["col"].to_numpy().astype(np.int64))
    both = np.unique(np.stack([np.concatenate(rows), np.concatenate(cols)]), axis=1)
    return maps.frame(both[0], both[1])


def _day(day: Day, frame: Frame) -> list[Layer]:
    tiles = day.tiles
    if tiles is None:
        return []
    if len(day.legend) > MOST_KINDS:
        raise ScoresError(
            f"a page's map tells at most {MOST_KINDS} classes apart, not {len(day.legend)}; "
            "fold them with --legend"
        )
    at = pixels(frame.area, tiles.rows, tiles.cols)
    ids = np.full(frame.shape, images.EMPTY, np.uint8)
    ids.ravel()[at] = tiles.mapped
    sure = np.full(frame.shape, np.nan, np.float32)
    sure.ravel()[at] = tiles.probabilities.max(1)
    colors = apart([c.color for c in day.legend.classes])
    made = [
        images.layer(day.date, "The class of each tile.", ids, day.legend.names, colors),
        images.certainty(f"{day.date}, certainty", "The probability of the class shown.", sure),
    ]
    if tiles.sets is not None:
        sizes = np.full(frame.shape, images.EMPTY, np.uint8)
        sizes.ravel()[at] = tiles.sets.sum(axis=1) - 1
        words = [f"{n + 1} {'class' if n == 0 else 'classes'}" for n in range(len(day.legend))]
        about = "How many classes are still possible for a tile."
        made.append(
            images.layer(
                f"{day.date}, classes in doubt", about, sizes, words, images.ramp(len(words))
            )
        )
    if tiles.distance is not None:
        made.append(_likeness(day, tiles.distance, at, frame))
    return [replace(one, date=day.date) for one in made]


def _likeness(
    day: Day, distance: NDArray[np.float32], at: NDArray[np.int64], frame: Frame
) -> Layer:
    """Where tiles are unlike those that the model was trained on."""
    ids = np.full(frame.shape, images.EMPTY, np.uint8)
    ids.ravel()[at] = distance > 1
    level = float(day.info["distance"]["level"])
    about = f"Tiles that are further from the training tiles than {level:.0%} of their own ground."
    words = ("like the training tiles", "unlike them")
    return images.layer(f"{day.date}, likeness", about, ids, words, (UNCHANGED, UNLIKE))


def _change(found: Content, frame: Frame) -> Layer:
    """What each tile became, where change is likelier than not; light grey elsewhere."""
    table, said = found.transitions, found.change
    if table is None or said is None:
        raise ScoresError("there is no change to draw")
    last = len(said["dates"])
    first, after = (table[f"class_{n}"].to_pylist() for n in (1, last))
    steps = [table[f"changed_{n}"].to_numpy() for n in range(1, last)]
    moved = 1 - np.prod([1 - s for s in steps], axis=0) > 0.5
    kinds: dict[tuple[str, str], int] = {}
    ids = np.zeros(len(table), np.uint8)
    for i in np.flatnonzero(moved):
        pair = (str(first[i]), str(after[i]))
        if pair[0] == pair[1]:
            continue
        if pair not in kinds and len(kinds) >= MOST_KINDS:
            pair = ("another class", pair[1])
        ids[i] = kinds.setdefault(pair, len(kinds) + 1)
    palette = dict(zip(said["names"], colors_of(found, said), strict=True))
    labels = ["no change", *(f"{a} → {b}" for a, b in kinds)]
    colors = apart([UNCHANGED, *(palette[b] for _, b in kinds)])
    picture = np.full(frame.shape, images.EMPTY, np.uint8)
    picture.ravel()[pixels(frame.area, table["row"].to_numpy(), table["col"].to_numpy())] = ids
    return images.layer(
        f"change, {said['dates'][0]} to {said['dates'][-1]}",
        "Tiles that changed, in the colour of what they became.", picture, labels, colors,
        legend=_became(kinds, said["names"]), date=found.days[-1].date,
    )  # fmt: skip


def _became(kinds: dict[tuple[str, str], int], names: Sequence[str]) -> tuple[tuple[int, str], ...]:
    """The legend: one line a class that tiles became, as many pairs share its colour."""
    first: dict[str, int] = {}
    for (_, target), i in kinds.items():
        first.setdefault(target, i)
    lines = [(first[n], f"became {n}") for n in names if n in first]
    return ((0, "no change"), *lines)


def apart(colors: Sequence[str]) -> list[str]:
    """The colours, equal ones made slightly different: the page knows a class by its colour."""
    seen: set[str] = set()
    result = []
    for color in colors:
        r, g, b = images.rgb(color)
        color = f"#{r:02x}{g:02x}{b:02x}"
        while color in seen:
            b = b + 1 if b < 255 else b - 40
            color = f"#{r:02x}{g:02x}{b:02x}"
        seen.add(color)
        result.append(color)
    return result
