"""The dates to compare: their scores on the tiles that all of them have, in one order.

Dates are folders of scores, or imagery and tile sets that are scored here, later ones in the first
date's colours (`colours`). Each date is decoded and inferred once: its cells (`cells`) are kept
with its scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from quadrat import dates as dating
from quadrat import legend as legends
from quadrat import model as models
from quadrat import scores, scoring, storage
from quadrat.changes import cells, colours
from quadrat.errors import InputError
from quadrat.legend import Legend
from quadrat.scores import DateScores
from quadrat.tiles import Source, source_dates

Normalisations = tuple[dict[str, Any] | None, ...]

LEAST_TILES = 300  # fewer tell too little of what a season does to ground that stays


@dataclass(frozen=True)
class Chronology:
    """Dates on their common tiles, earliest first.

    Attributes:
        days: the same tiles in the same order.
        normalisation: of each date's colours, as plain values; empty for dates given as scores.
        first: the tiles of the first date, where it was scored here.
        cells: of a tile, that are kept with each date's scores; 0 where none are.
        notes: what a reader must know.
    """

    days: tuple[DateScores, ...]
    normalisation: Normalisations = ()
    first: Source | None = None
    cells: int = 0
    notes: tuple[str, ...] = ()


def open_dates(
    dates: Sequence[str], out: str, model: str | None, coarse: Legend | None, **how: Any
) -> Chronology:
    """The dates that a user names: scores or, with a model, what is scored into `out` first.

    Args:
        how: as for `_scored`.

    Raises:
        ScoresError: other grids or legends, or no ground in common.
        InputError: dates in another order, pictures without a place.
    """
    if model is None:
        days, notes = _read(dates, coarse, dates)
        return Chronology(days, notes=notes)
    made, normalisation, first, kept = _scored(dates, out, model, **how)
    days, notes = _read(made, coarse, dates)
    why = "" if kept else "the model's network has no map of places"
    if kept and len(days[0]) < LEAST_TILES:
        kept, why = 0, f"fewer than {LEAST_TILES} tiles are on all dates"
    if not kept and how["keep"]:
        notes += (f"Dates were compared by their probabilities, which finds less: {why}.",)
    return Chronology(days, normalisation, first, kept, notes)


def _read(
    uris: Sequence[str], coarse: Legend | None, names: Sequence[str]
) -> tuple[tuple[DateScores, ...], tuple[str, ...]]:
    """The tiles that all dates have, and notes on others.

    They are folded only where legends differ, or where the coarser one masks ground.

    Args:
        names: what the user named; a date that does not say when it was is called after it.
    """
    days = [scores.read(uri) for uri in uris]
    dating.check_order([(storage.redact(n), d.date) for n, d in zip(names, days, strict=True)])
    for n, (day, name) in enumerate(zip(days, names, strict=True)):
        if day.date == storage.basename(day.uri):
            days[n] = replace(day, date=storage.basename(name).rsplit(".", 1)[0])
    days, notes = _folded(days, coarse)
    most = max(len(d) for d in days)
    days = list(scores.match(days))
    lost = most - len(days[0])
    if len({d.date for d in days}) < len(days):
        days = [replace(d, date=f"{d.date} ({storage.basename(d.uri)})") for d in days]
    if lost:
        notes += (f"{lost:,} tiles are not in the scores of every date and were left out.",)
    return tuple(days), notes


def _folded(
    days: list[DateScores], coarse: Legend | None
) -> tuple[list[DateScores], tuple[str, ...]]:
    """Dates in the coarser legend where they need it, and a note on tiles that it masks."""
    if coarse is None:
        return days, ()
    masks = (legends.fold(days[0].legend, coarse) == legends.MASKED).any()
    if len({d.legend.names for d in days}) == 1 and not masks:
        return days, ()
    folded = [d.folded(coarse) for d in days]
    lost = max(map(len, days)) - min(map(len, folded))
    note = (
        f"{lost:,} tiles are mostly ground that legend {coarse.name} has no class for on one date "
        "or more, and were left out."
    )
    return folded, (note,) if lost else ()


def _scored(
    uris: Sequence[str],
    out: str,
    model: str,
    *,
    normalise: str,
    keep: bool,
    seed: int,
    reading: dict[str, Any],
    **job: Any,
) -> tuple[list[str], Normalisations, Source, int]:
    """Score imagery or tile sets, a date each into a folder of `out`.

    Args:
        normalise: how later dates are brought to the first one's colours, see `colours`.
        keep: whether cells are kept, where the model has some.
        seed: of the tiles on which their directions are found.
        reading: bands, nodata, stretch and alpha, for imagery.
        job: overwrite, engine and on_progress, see `quadrat.scoring.score`.

    Returns:
        The scores' URIs, each date's normalisation, the first date's tiles, and how many cells of
        a tile are kept.
    """
    bundle = models.open_model(model)
    sources = [_placed(uri, scoring.open_source([uri], bundle, **reading)) for uri in uris]
    days = [dating.period(source_dates(s)) for s in sources]
    dating.check_order([(storage.redact(u), d) for u, d in zip(uris, days, strict=True)])
    place = storage.join(out, "model_1")
    with_cells = cells.kept(bundle, sources[0], place, seed) if keep else None
    bundle, count = with_cells or (bundle, 0)
    made: list[str] = []
    told: list[dict[str, Any] | None] = []
    for n, uri in enumerate(uris):
        using, normal = bundle, None
        if n:
            first = scores.open_scores(made[0])
            if normalise != "none":
                places = first.table(["row", "col"])
                rows, cols = (places[c].to_numpy().astype(np.int64) for c in ("row", "col"))
                normal = colours.normalisation(sources[0], sources[n], rows, cols, normalise)
                using = colours.recoloured(bundle, normal, storage.join(out, f"model_{n + 1}"))
        made.append(storage.join(out, f"scores_{n + 1}"))
        told.append(None if normal is None else normal.to_dict())
        scoring.score(using.uri, [uri], made[-1], keep_features=count > 0, **reading, **job)
    return made, tuple(told), sources[0], count


def _placed(uri: str, source: Source) -> Source:
    if source.grid is None:
        raise InputError(
            f"{storage.redact(uri)} holds pictures without a place; name raster files, a folder of "
            "them or a tile set on a grid, or score it first and leave out --model"
        )
    return source
