"""What the classes mean, in words and in pictures of tiles that the model is surest of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quadrat.legend import SHIPPED, LandClass, Legend
from quadrat.reports.markup import named, text
from quadrat.scores import DateScores

MOST_EXAMPLES = 3  # a class
NLCD = {  # without the codes of Alaska alone
    11: "open water", 12: "ice and snow that stay",
    21: "lawns, parks and large lots, mostly plants", 22: "houses among gardens",
    23: "dense housing", 24: "centres, industry and large paved ground",
    31: "bare rock, sand, clay and pits",
    41: "forest that sheds its leaves", 42: "evergreen forest", 43: "mixed forest",
    52: "shrubs and young trees",
    71: "grassland",
    81: "pasture and hay", 82: "fields of crops",
    90: "wooded wetland", 95: "reeds, sedges and other wetland without trees",
}  # fmt: skip
CODES = {*NLCD, 51, 72, 73, 74, 0, 127, 250, 255}  # all, with those that mean "not mapped"


@dataclass(frozen=True)
class Example:
    """A tile of a class that the model is surest of.

    Attributes:
        class_id: its place in the date's legend. probability: of that class.
        picture: a data address.
    """

    class_id: int
    where: str
    probability: float
    picture: str


def surest(day: DateScores) -> list[tuple[int, int]]:
    """(class id, place in the table) of the tiles that each class is surest of."""
    found = []
    for k in range(len(day.legend)):
        at = np.flatnonzero(day.mapped == k)
        order = np.argsort(-day.probabilities[at, k], kind="stable")
        found += [(k, int(i)) for i in at[order][:MOST_EXAMPLES]]
    return found


def is_nlcd(legend: Legend, source: str) -> bool:
    """Whether a legend's codes are NLCD's, as other sources number their classes as they like.

    Args:
        source: the kind of the labels' fetch record, "" without one.
    """
    if legend.name in SHIPPED:
        return True
    codes = {*legend.ignore, *legend.background, *(k for c in legend.classes for k in c.codes)}
    return source == "nlcd" and codes <= CODES


def meaning(one: LandClass, *, nlcd: bool) -> str:
    """What a class holds, in words; from its codes where they are NLCD's, else its members."""
    held = [NLCD[c] for c in one.codes if nlcd and c in NLCD] or list(one.members)
    if not held:
        return "The legend says no more than the name."
    said = "; ".join(held)
    return f"{said[0].upper()}{said[1:]}."


def section(legend: Legend, examples: Sequence[Example], date: str, source: str) -> str:
    """A card a class: colour, meaning, examples; `source` as in `is_nlcd`."""
    nlcd = is_nlcd(legend, source)
    cards = "".join(
        _card(one, meaning(one, nlcd=nlcd), [e for e in examples if e.class_id == k])
        for k, one in enumerate(legend.classes)
    )
    words = "<p>A square has the class that covers most of it, so it may hold others too."
    if examples:
        words += (
            f" Pictures are squares of {text(date)} that the model is surest of: typical of what "
            "it takes for the class, not proof that it is right."
        )
    else:
        words += " There are no pictures: the imagery was not at hand."
    return f'{words}</p><div class="cards wide">{cards}</div>'


def _card(one: LandClass, said: str, examples: Sequence[Example]) -> str:
    shown = "".join(
        f'<img src="{e.picture}" width="160" height="160" '
        f'alt="{text(f"{one.name}, {e.where}, {e.probability:.0%} sure")}">'
        for e in examples
    )
    pictures = f'<div class="examples">{shown}</div>' if shown else ""
    return (
        f'<div class="card"><h3>{named(one.name, one.color)}</h3><p>{text(said)}</p>'
        f"{pictures}</div>"
    )
