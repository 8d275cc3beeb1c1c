"""What lies under the map and over it: imagery, bounded in size, and the user's roads and towns."""

from __future__ import annotations

import io
from collections.abc import Sequence

from quadrat import pages
from quadrat.errors import QuadratError
from quadrat.reports.content import Content
from quadrat.reports.layers import area_of
from quadrat.tiles.overview import Pixels, overview

MOST_PX = 1600  # along the picture's longer side: at most some 600 kB a date
MOST_TILE_PX = 24
QUALITY = 72


def under(
    found: Content, imagery: Sequence[str], most: int
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Imagery of the first and last date, JPEG addresses by date, and what could not be shown.

    Args:
        imagery: of each date, instead of what its scores name; none, or one a date.
        most: tiles; the ground of more is not read.
    """
    made: dict[str, str] = {}
    notes = []
    given = [[i] for i in imagery] or [[] for _ in found.days]
    placed = [(d, g) for d, g in zip(found.days, given, strict=True) if d.tiles is not None]
    for day, files in {id(p): p for p in (*placed[:1], *placed[-1:])}.values():
        if day.grid is None or not most:
            continue
        area = area_of(found)
        rows, cols = area.r1 - area.r0, area.c1 - area.c0
        if rows * cols > most:
            notes.append(
                f"No imagery under the map of {day.date}: its frame has {rows * cols:,} tiles, "
                f"more than {most:,}; --under raises the number."
            )
            continue
        px = min(max(MOST_PX // max(rows, cols), 1), MOST_TILE_PX)
        try:
            picture = overview(day.info, day.grid, area, px, files)
        except QuadratError as error:
            notes.append(f"No imagery under the map of {day.date}: {error}.")
            continue
        made[day.date] = _jpeg(picture)
    return made, tuple(notes)


def _jpeg(pixels: Pixels) -> str:
    from PIL import Image

    image = Image.fromarray(pixels)
    if max(image.size) > MOST_PX:  # one pixel a tile of a very large county
        image.thumbnail((MOST_PX, MOST_PX))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, optimize=True)
    return pages.data_uri(out.getvalue(), "image/jpeg")
