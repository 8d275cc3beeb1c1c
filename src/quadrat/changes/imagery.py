"""Dates given as imagery or tile sets: scored first, later ones through a normalisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import dates as dating
from quadrat import model as models
from quadrat import scoring, storage
from quadrat.changes import align, recolour
from quadrat.engines import Engine
from quadrat.errors import InputError
from quadrat.model import Model
from quadrat.scores import DateScores, open_scores
from quadrat.tiles import Source, source_dates

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Read:
    """Dates that were scored here.

    Attributes:
        scores: the scores' URIs, a date each.
        sources, models: what was scored, and the model that did it, a date each.
        told: the normalisation of each date, as plain values.
        learned: whether the model learned its last layer, and nothing else, from the labels of the
            first date's tiles.
    """

    scores: tuple[str, ...]
    sources: tuple[Source, ...]
    models: tuple[Model, ...]
    told: dict[str, Any]
    engine: Engine | None
    on_progress: Progress | None
    learned: bool

    def features(self, n: int, day: DateScores) -> NDArray[np.float32]:
        """Features of the tiles of the n-th date, (N, D)."""
        return align.read_features(
            self.sources[n], self.models[n], day.rows, day.cols, engine=self.engine,
            on_progress=self.on_progress,
        )  # fmt: skip


def score(
    dates: Sequence[str],
    out: str,
    model: str,
    normalise: str,
    how: dict[str, Any],
    *,
    overwrite: bool = False,
    engine: Engine | None = None,
    on_progress: Progress | None = None,
) -> Read:
    """Score each date into a folder of `out`, later ones in the first one's colours.

    Args:
        normalise: a method of `radiometry`.
        how: bands, nodata and stretch, for imagery.
    """
    bundle = models.open_model(model)
    sources = [_placed(uri, scoring.open_source([uri], bundle, **how)) for uri in dates]
    days = [dating.period(source_dates(s)) for s in sources]
    dating.check_order([(storage.redact(u), d) for u, d in zip(dates, days, strict=True)])
    made: list[str] = []
    used: list[Model] = []
    told: list[dict[str, Any] | None] = []
    for n, uri in enumerate(dates):
        using, normal = bundle, None
        if n and normalise != "none":
            first = open_scores(made[0]).table(["row", "col"])
            rows, cols = (first[c].to_numpy().astype(np.int64) for c in ("row", "col"))
            normal = recolour.normalisation(sources[0], sources[n], rows, cols, normalise)
            using = recolour.recoloured(bundle, normal, storage.join(out, f"model_{n + 1}"))
        place = storage.join(out, f"scores_{n + 1}")
        scoring.score(
            using.uri, [uri], place, engine=engine, on_progress=on_progress, overwrite=overwrite,
            **how,
        )  # fmt: skip
        made.append(place)
        used.append(using)
        told.append(None if normal is None else normal.to_dict())
    return Read(
        tuple(made), tuple(sources), tuple(used), {"normalisation": told}, engine, on_progress,
        _learned(bundle, sources[0]),
    )  # fmt: skip


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


def unaligned(read: Read | None) -> str:
    """What to say where later dates' scores are not aligned though they might be."""
    if read is None:
        return (
            "Scores alone were compared; with imagery and --model the model's last layer is fitted "
            "to later dates, which takes out a season better."
        )
    return f"Fewer than {align.LEAST_TILES} tiles: the model was not fitted to later dates."
