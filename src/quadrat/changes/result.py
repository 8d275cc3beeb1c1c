"""What `change` found, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat.areas.tables import number
from quadrat.metrics import Estimate
from quadrat.shown import shown

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Move:
    """One transition, over the whole time.

    Attributes:
        compared: tiles in it when the two maps are laid on each other, mistakes included.
        expected: tiles expected in it, given all evidence.
    """

    source: str
    target: str
    compared: int
    expected: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "from": self.source,
            "to": self.target,
            "compared": self.compared,
            "expected": self.expected.to_dict(),
        }


@shown
@dataclass(frozen=True)
class ChangeResult:
    """Changes between two dates or over a series.

    Attributes:
        dates: what the dates are called, first to last.
        tiles: tiles that all dates have.
        moves: every transition that is expected or compared at all, most expected first.
        matrix: (K, K) estimates of the tiles to have gone from class i to class j, first date to
            last; the diagonal stayed.
        areas: for each date, the expected tiles of each class.
        net: for each class, expected gain less loss, tiles.
        changed: for each interval, tiles expected to have changed.
        compared_changed: tiles that differ when the first and last maps are compared.
        tile_ha: mean ground area of the tiles, hectares.
        candidates: tiles in the list; `expected_false` of them are not real.
        least: the probability from which a tile is in the list.
        reference: labelled tiles of the first date that the scores were checked on; 0 means that
            nothing is known of errors, and figures have no intervals.
        method: how it was found: recalibration, normalisation, smoothing, confusions.
        notes: what a reader must know.
        files: what was written, by kind; `pictures` in the list's order.
    """

    out: str
    dates: tuple[str, ...]
    names: tuple[str, ...]
    colors: tuple[str, ...]
    tiles: int
    tile_ha: float
    level: float
    moves: tuple[Move, ...]
    matrix: tuple[tuple[Estimate, ...], ...]
    areas: tuple[tuple[Estimate, ...], ...]
    net: tuple[Estimate, ...]
    changed: tuple[Estimate, ...]
    compared_changed: int
    candidates: int
    expected_false: float
    least: float
    wanted: str
    reference: int
    method: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    pictures: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "dates": list(self.dates),
            "tiles": self.tiles,
            "tile_ha": self.tile_ha,
            "level": self.level,
            "names": list(self.names),
            "colors": list(self.colors),
            "moves": [m.to_dict() for m in self.moves],
            "matrix": [[f.to_dict() for f in row] for row in self.matrix],
            "areas": [[f.to_dict() for f in day] for day in self.areas],
            "net": [f.to_dict() for f in self.net],
            "changed": [f.to_dict() for f in self.changed],
            "compared_changed": self.compared_changed,
            "candidates": self.candidates,
            "expected_false": self.expected_false,
            "least_probability": self.least,
            "wanted": self.wanted,
            "reference_tiles": self.reference,
            "method": dict(self.method),
            "notes": list(self.notes),
            "files": dict(self.files),
            "pictures": list(self.pictures),
        }


def total(figures: tuple[Estimate, ...]) -> Estimate:
    """The sum of figures whose errors are independent."""
    value = sum(f.value for f in figures)
    half = float(np.sqrt(sum((f.high - f.value) ** 2 for f in figures)))
    return Estimate(value, value - half, value + half)


def spread(figure: Estimate, factor: float) -> str:
    """`12 (8 to 16)` in another unit; the value alone where there is no interval."""
    text = number(figure.value * factor)
    if not np.isfinite(figure.low):
        return text
    return f"{text} ({number(figure.low * factor)} to {number(figure.high * factor)})"
