"""Labels that people gave, laid on a tile set to train with: `train --labels`.

They train and do nothing else: a tile that a split holds out, or leaves out beside held-out ones,
keeps the label that it had. Only plots that were drawn to train with have such labels (see
`quadrat.reviews.training`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from quadrat import dates as dating
from quadrat import grid as grids
from quadrat import reviews, storage, tiles
from quadrat.errors import LabelError, TrainError
from quadrat.legend import Legend
from quadrat.tiles.relabelled import GivenLabels, RelabelledSet
from quadrat.tiles.sets import TileSet


@dataclass(frozen=True)
class Reviewed:
    """A tile set with people's labels.

    Attributes:
        about: what the model says of them: the file, its sample, how many tiles, which.
        warnings: a sentence each.
    """

    source: RelabelledSet
    about: Mapping[str, Any]
    warnings: tuple[str, ...]


def with_labels(source: tiles.Source, uri: str, legend: Legend) -> Reviewed:
    """A tile set with the labels of a file of answers for the tiles that train.

    Raises:
        TrainError: no tile set, or none of its training tiles has an answer.
        LabelError: answers to plots that were drawn to estimate with, other classes, another date.
    """
    where = storage.redact(source.uri)
    if not isinstance(source, TileSet) or source.grid is None:
        raise TrainError(
            f"{where} is no tile set on a grid; --labels are of tiles: cut one with quadrat tile"
        )
    told = reviews.training_labels(uri, legend, _date(source, uri))
    index = tiles.index(source)
    keys = grids.tile_keys(index["row"].to_numpy(), index["col"].to_numpy())
    at = grids.places_of(keys, grids.tile_keys(told.rows, told.cols))
    words = np.array([w or "" for w in index["split"].to_pylist()], dtype=object)
    usable = at >= 0
    if (words != "").any():
        usable &= np.where(at >= 0, words[np.maximum(at, 0)] == "train", False)
    if not usable.any():
        raise TrainError(
            f"none of the {len(told)} tiles that {told.name} labels trains in {where}; draw "
            "plots from scores of this tile set"
        )
    given = GivenLabels(legend.names, told.rows[usable], told.cols[usable], told.shares[usable])
    left = int((~usable).sum())
    note = (
        f"{left} of {len(told)} tiles that {told.name} labels are not in the split `train` of "
        f"{where} and train nothing",
    )
    about = {
        "file": told.name, "sample": told.sample, "date": told.date, "tiles": int(usable.sum()),
        "places": np.stack([given.rows, given.cols], axis=1).tolist(),
    }  # fmt: skip
    return Reviewed(RelabelledSet(source, given), about, note if left else ())


def _date(source: TileSet, uri: str) -> str | None:
    """The date of the answers that is the tile set's; None where there is one date only."""
    dates = [str(d) for d in reviews.open_store(uri).about.get("dates", ())]
    if len(dates) < 2:
        return None
    own = dating.period(tiles.source_dates(source))
    alike = [d for d in dates if own and dating.span(d) and not dating.differ(d, own)]
    if len(alike) != 1:
        raise LabelError(
            f"{storage.redact(uri)} has answers for {', '.join(dates)}, and "
            f"{storage.redact(source.uri)} is of {own or 'no known date'}; cut it with the --date "
            "that is meant"
        )
    return alike[0]
