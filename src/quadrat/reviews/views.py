"""Pictures of a plot with the ground around it, one a date, all of one place and scale."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from quadrat import dates as dating
from quadrat import scores, storage
from quadrat.errors import InputError, ScoresError
from quadrat.reviews.plots import Plot, PlotList
from quadrat.tiles import surroundings
from quadrat.tiles.surroundings import Pixels, Surroundings

CONTEXT = 3  # tiles along a picture
MOST_CONTEXT = 15
MOST_SIDE = 2048  # pixels along a picture; larger ones are averaged
QUALITY = 92  # of JPEG: at 1 m a pixel no artefact shows at four screen pixels each
KEPT = 64  # pictures in memory


class Views:
    """The pictures of a list of plots; read when they are asked for, the latest kept.

    Attributes:
        context: tiles along a picture, the plot in the middle.
    """

    def __init__(
        self,
        listed: PlotList,
        imagery: Sequence[str] = (),
        context: int = CONTEXT,
        **reading: Any,
    ) -> None:
        if not 1 <= context <= MOST_CONTEXT or context % 2 == 0:
            raise InputError(
                f"--context {context}: use an odd number of tiles from 1 to {MOST_CONTEXT}"
            )
        self.context = context
        self._places = {p.number: (p.row, p.col) for p in listed.plots}
        self._grounds = _open(listed, imagery, (context - 1) // 2, reading)
        self._kept: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def pixels(self, plot: Plot, date: int) -> Pixels:
        """A plot with the tiles around it on a date, (H, W, 3) uint8; errors as `jpeg`."""
        return self._grounds[date](*self._places[plot.number])

    def jpeg(self, plot: Plot, date: int) -> bytes:
        """A plot's picture on a date (its place among the dates), JPEG.

        Raises:
            QuadratError: the imagery cannot be read there.
        """
        key = (plot.number, date)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = encoded(self.pixels(plot, date))
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return made


def encoded(pixels: Pixels) -> bytes:
    """Pixels (H, W, 3) as JPEG of at most `MOST_SIDE` pixels a side."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    if max(image.size) > MOST_SIDE:
        image.thumbnail((MOST_SIDE, MOST_SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, subsampling=0)
    return out.getvalue()


def by_date(imagery: Sequence[str], dates: Sequence[str]) -> list[list[str]]:
    """The files of each date: `DATE=FILE`, or one a date in their order.

    Raises:
        InputError: a date that is none of these, or as many files as there are not dates.
    """
    found: list[list[str]] = [[] for _ in dates]
    plain = []
    for given in imagery:
        word, sign, uri = given.partition("=")
        at = _place(word, dates) if sign else None
        if at is not None:
            found[at].append(uri)
        elif sign and dating.find(word) is not None:
            raise InputError(f"--imagery {given}: the plots are of {', '.join(dates)}")
        else:
            plain.append(given)
    if plain and (len(plain) != len(dates) or any(found)):
        raise InputError(
            f"--imagery names {len(plain)} without a date for {len(dates)} dates; give one a date, "
            f"in their order, or --imagery {dates[0]}=FILE"
        )
    if plain:
        return [[uri] for uri in plain]
    lacking = [d for d, files in zip(dates, found, strict=True) if not files]
    if lacking and imagery:
        raise InputError(f"--imagery names nothing for {lacking[0]}; add {lacking[0]}=FILE")
    return found


def _place(word: str, dates: Sequence[str]) -> int | None:
    """Which date a word means: the same, or the only one that it has a day in common with."""
    if word in dates:
        return dates.index(word)
    if dating.find(word) is None:
        return None
    alike = [i for i, d in enumerate(dates) if dating.span(d) and not dating.differ(word, d)]
    return alike[0] if len(alike) == 1 else None


def _open(
    listed: PlotList, imagery: Sequence[str], around: int, reading: dict[str, Any]
) -> list[Surroundings]:
    """Where the pixels of each date come from."""
    if imagery:
        return [
            surroundings.of_imagery(files, listed.grid, around=around, **reading)
            for files in by_date(imagery, listed.dates)
        ]
    places = [(p.row, p.col) for p in listed.plots]
    found = []
    for date, uri in zip(listed.dates, _scores(listed), strict=True):
        info = scores.open_scores(uri).info
        what = f"no pictures of {date}: {storage.redact(uri)}"
        found.append(
            surroundings.of_source(info, listed.grid, places, what=what, around=around, **reading)
        )
    return found


def _scores(listed: PlotList) -> list[str]:
    """The scores of each date, which say where their pixels came from."""
    uri = str(listed.source.get("uri", ""))
    if listed.source.get("kind") == "scores":
        return [uri]
    place = storage.join(uri, "change.json")
    dates = storage.read_json(place).get("dates", []) if storage.exists(place) else []
    if set(listed.dates) <= set(dates):
        within = [storage.join(uri, f"scores_{dates.index(d) + 1}") for d in listed.dates]
        if all(storage.exists(storage.join(w, "scores.json")) for w in within):
            return within
    raise ScoresError(
        f"{storage.redact(listed.uri)} does not say where the pictures of its dates are; give "
        "--imagery DATE=FILE for each date"
    )
