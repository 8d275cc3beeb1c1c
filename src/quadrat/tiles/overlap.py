"""Imagery that shows the same ground more than once: dates that must not become one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely

from quadrat import dates, storage
from quadrat.errors import RasterError
from quadrat.raster import Imagery

SAME = 0.5  # of the smaller file: neighbours in a mosaic have less in common


def check_dates(imagery: Imagery, days: Sequence[str | None]) -> tuple[str, ...]:
    """Warnings of files that show the same ground, or are of several years.

    Args:
        days: the date of each file, None where it is not known.

    Raises:
        RasterError: two files show the same ground on two dates.
    """
    names = [storage.redact(info.uri) for info in imagery.infos]
    hidden = set()
    for i, j in _pairs(imagery):
        a, b = days[i], days[j]
        if a is None or b is None:
            hidden.add(j)
        elif dates.differ(a, b):
            raise RasterError(
                f"{names[i]} ({a}) and {names[j]} ({b}) show the same ground; give one date a "
                "command, or call them one date with --date"
            )
    texts = []
    if hidden:
        some = ", ".join(names[n] for n in sorted(hidden)[:3])
        more = f" and {len(hidden) - 3:,} more" if len(hidden) > 3 else ""
        texts.append(
            f"{some}{more} show ground that files named before them cover, which win; if these are "
            "other dates, give one date a command"
        )
    years = {d[:4] for d in days if d}
    if len(years) > 1:
        texts.append(
            f"the imagery is of {len(years)} years, {dates.period(years)}; each tile keeps the "
            "date of its file"
        )
    return tuple(texts)


def _pairs(imagery: Imagery) -> list[tuple[int, int]]:
    """Files that show the same ground, the one named first before the other."""
    boxes = shapely.box(*np.array([(a.left, a.bottom, a.right, a.top) for a in imagery.areas]).T)
    one, two = shapely.STRtree(boxes).query(boxes, predicate="intersects")
    one, two = one[one < two], two[one < two]
    common = shapely.area(shapely.intersection(boxes[one], boxes[two]))
    least = np.minimum(shapely.area(boxes)[one], shapely.area(boxes)[two])
    same = common > SAME * least
    return sorted(zip(one[same].tolist(), two[same].tolist(), strict=True))
