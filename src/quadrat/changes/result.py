"""What `change` answers, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import scores
from quadrat.changes import series
from quadrat.changes.candidates import Candidates
from quadrat.changes.chronology import Chronology
from quadrat.changes.posterior import Posterior
from quadrat.changes.question import Question
from quadrat.changes.totals import Totals
from quadrat.grid import Grid
from quadrat.metrics import Estimate
from quadrat.shown import shown

Ints = NDArray[np.int64]

FEW = 300  # tiles: with fewer, real change may be mistaken for the season


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
        tile_ha: mean ground area of the tiles, hectares. grid: that they are of.
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
    grid: Grid
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
            "grid": self.grid.to_dict(),
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


def answer(
    question: Question,
    dates: Chronology,
    maps: Sequence[Ints],
    found: Posterior,
    *,
    reference: int,
    notes: Sequence[str],
    sums: Totals,
    listed: Candidates,
    out: str,
) -> ChangeResult:
    """The result, before its files are written.

    Args:
        maps: (N,) class ids of each date's own map, in the result's legend.
        reference: labelled tiles that it was checked on. notes: what a reader must know of it.
    """
    k, legend, days = len(question.legend), question.legend, dates.days
    tile_ha, uneven = days[0].ground()
    notes = [*scores.synthetic_note(days), *dates.notes, *notes]
    if found.maps and question.recalibrated and len(days[0]) < FEW:
        notes.append(
            f"{len(days[0])} tiles are few to recalibrate a date on: what changed on many of them "
            "may be taken for the season."
        )
    notes += uneven
    if not len(listed):
        notes.append(f"No tile reaches a probability of {question.least:g}: the list is empty.")
    return ChangeResult(
        out=out,
        dates=tuple(d.date for d in days),
        names=legend.names,
        colors=tuple(c.color for c in legend.classes),
        tiles=len(days[0]),
        tile_ha=tile_ha,
        grid=days[0].grid,
        level=question.level,
        moves=_moves(legend.names, maps, sums.cells),
        matrix=tuple(sums.cells[i * k : i * k + k] for i in range(k)),
        areas=sums.areas,
        net=sums.net,
        changed=sums.changed,
        compared_changed=int((maps[0] != maps[-1]).sum()),
        candidates=len(listed),
        expected_false=float((1 - listed.probability).cumsum()[-1]) if len(listed) else 0.0,
        least=question.least,
        wanted=question.wanted,
        reference=reference,
        method=_method(question, dates, found, sums),
        notes=tuple(notes),
    )


def _method(
    question: Question, dates: Chronology, found: Posterior, sums: Totals
) -> dict[str, Any]:
    """How it was found, as plain values."""
    if not found.maps:
        told = {**found.kind, **found.learned, "at_least": question.at_least}
        return told | ({"normalisation": list(dates.normalisation)} if dates.normalisation else {})
    own = [found.own[:, t] for t in range(len(dates.days))]
    tables = [series.confusion(d.mapped, p) for d, p in zip(dates.days, own, strict=True)]
    done = {"recalibrated": question.recalibrated, "smoothing": found.smoothing}
    method = {
        **found.kind,
        **done,
        **found.learned,
        "confusion": [np.round(t, 3).tolist() for t in tables],
        "dates": [
            {"weights": m.weights.tolist(), "prior": m.prior.tolist(),
             "outlier_rate": m.outlier_rate}
            for m in found.maps
        ],
        "inflation": sums.inflation,
    }  # fmt: skip
    return method | ({"normalisation": list(dates.normalisation)} if dates.normalisation else {})


def _moves(
    names: Sequence[str], maps: Sequence[Ints], cells: Sequence[Estimate]
) -> tuple[Move, ...]:
    """The transitions that are expected or compared at all, most expected first.

    Args:
        maps: (N,) class ids of each date's own map.
        cells: expected tiles of each transition, K x K row by row.
    """
    k = len(names)
    compared = np.bincount(maps[0] * k + maps[-1], minlength=k * k)
    found = [
        Move(names[i], names[j], int(compared[i * k + j]), cells[i * k + j])
        for i in range(k)
        for j in range(k)
        if i != j and (compared[i * k + j] or cells[i * k + j].value >= 0.05)
    ]
    return tuple(sorted(found, key=lambda m: -m.expected.value))
