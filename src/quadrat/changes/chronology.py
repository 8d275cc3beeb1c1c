"""The dates to compare: their scores on the tiles that all of them have, in one order.

Dates are folders of scores, or imagery and tile sets that are scored here, later ones in the first
date's colours (`colours`). Each date is decoded and inferred once: the features that `season`
fits to are kept with its scores.
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
from quadrat.changes import colours
from quadrat.errors import InputError
from quadrat.legend import Legend
from quadrat.model import Model
from quadrat.scores import DateScores
from quadrat.tiles import Source, source_dates

Normalisations = tuple[dict[str, Any] | None, ...]

LEAST_TILES = 300  # fewer tell too little of a season to fit a layer to


@dataclass(frozen=True)
class Chronology:
    """Dates on their common tiles, earliest first.

    Attributes:
        days: the same tiles in the same order.
        normalisation: of each date's colours, as plain values; empty for dates given as scores.
        learned: whether the model learned its last layer, and nothing else, from the labels of the
            first date's tiles.
        kept: whether the features of later dates are kept with their scores.
        aligned: whether later dates' probabilities come from layers fitted to them (`season`).
        refitted: whether the first date's do as well.
        notes: what a reader must know.
    """

    days: tuple[DateScores, ...]
    normalisation: Normalisations = ()
    learned: bool = False
    kept: bool = False
    aligned: bool = False
    refitted: bool = False
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
    made, learned = list(dates), False
    normalisation: Normalisations = ()
    if model is not None:
        made, normalisation, learned = _scored(dates, out, model, **how)
    days, notes = _read(made, coarse, dates)
    kept = bool(normalisation) and all(d.info.get("features") for d in days[1:])
    return Chronology(days, normalisation, learned, kept, notes=notes)


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
    reading: dict[str, Any],
    **job: Any,
) -> tuple[list[str], Normalisations, bool]:
    """Score imagery or tile sets, a date each into a folder of `out`.

    Args:
        normalise: how later dates are brought to the first one's colours, see `colours`.
        keep: whether features are kept, for `season`.
        reading: bands, nodata, stretch and alpha, for imagery.
        job: overwrite, engine and on_progress, see `quadrat.scoring.score`.

    Returns:
        The scores' URIs, each date's normalisation, and whether the model learned its last layer,
        and nothing else, from the labels of the first date's tiles.
    """
    bundle = models.open_model(model)
    sources = [_placed(uri, scoring.open_source([uri], bundle, **reading)) for uri in uris]
    days = [dating.period(source_dates(s)) for s in sources]
    dating.check_order([(storage.redact(u), d) for u, d in zip(uris, days, strict=True)])
    learned = _learned(bundle, sources[0])
    made: list[str] = []
    told: list[dict[str, Any] | None] = []
    for n, uri in enumerate(uris):
        using, normal, wanted = bundle, None, keep and learned
        if n:
            first = scores.open_scores(made[0])
            wanted = keep and first.tiles >= LEAST_TILES
            if normalise != "none":
                places = first.table(["row", "col"])
                rows, cols = (places[c].to_numpy().astype(np.int64) for c in ("row", "col"))
                normal = colours.normalisation(sources[0], sources[n], rows, cols, normalise)
                using = colours.recoloured(bundle, normal, storage.join(out, f"model_{n + 1}"))
        made.append(storage.join(out, f"scores_{n + 1}"))
        told.append(None if normal is None else normal.to_dict())
        scoring.score(using.uri, [uri], made[-1], keep_features=wanted, **reading, **job)
    return made, tuple(told), learned


def _learned(model: Model, first: Source) -> bool:
    """Published weights never saw these labels; a user's own, or fine-tuned ones, may have."""
    published = bool(model.info.backbone.get("licence"))
    tuned = model.info.head.get("head") == "finetune"
    return published and not tuned and model.info.tileset_digest == first.digest


def _placed(uri: str, source: Source) -> Source:
    if source.grid is None:
        raise InputError(
            f"{storage.redact(uri)} holds pictures without a place; name raster files, a folder of "
            "them or a tile set on a grid, or score it first and leave out --model"
        )
    return source
