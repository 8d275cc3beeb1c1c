"""Check that no tile is scored twice, without holding all TileIds at once.

Each part says what it spans; only parts whose spans meet are read and compared, two at a time. So
the driver's memory does not grow with the tiles. It does not know how parts were made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from quadrat.errors import TileSetError
from quadrat.scores import Scores
from quadrat.tiles import sets

Span = tuple[int, int, int, int] | tuple[str, str] | None
KEYS = ["row", "col", "path"]


def span(table: pa.Table, uri: str = "") -> Span:
    """First and last row and column, or first and last path, of the tiles of a part.

    None for a part without tiles, and for one in which a tile stands twice: it is to be looked at.
    """
    try:
        sets.check_unique(table.select(KEYS), uri)
    except TileSetError:
        return None
    if not len(table):
        return None
    if not table["row"].null_count:
        rows, cols = pc.min_max(table["row"]).as_py(), pc.min_max(table["col"]).as_py()
        return rows["min"], rows["max"], cols["min"], cols["max"]
    if not table["path"].null_count:
        paths = pc.min_max(table["path"]).as_py()
        return paths["min"], paths["max"]
    return None


def check(done: Scores, spans: Sequence[Span], uri: str) -> None:
    """TileSetError when a tile of the tile set `uri` was scored twice.

    Args:
        spans: of the parts of `done`, in their order.
    """
    for place, span in enumerate(spans):
        if span is None:
            sets.check_unique(done.part(done.names[place], KEYS), uri)
    for a, b in meeting(spans):
        both = pa.concat_tables([done.part(done.names[i], KEYS) for i in (a, b)])
        sets.check_unique(both, uri)


def meeting(spans: Sequence[Span]) -> Iterator[tuple[int, int]]:
    """Pairs of parts that may hold the same tile."""
    boxes = [(i, s) for i, s in enumerate(spans) if s is not None and len(s) == 4]
    if boxes:
        where = np.array([i for i, _ in boxes])
        for a, b in _boxes(np.array([s for _, s in boxes], np.int64)):
            yield int(where[a]), int(where[b])
    texts = sorted((s, i) for i, s in enumerate(spans) if s is not None and len(s) == 2)
    for n, (first, i) in enumerate(texts):
        for second, j in texts[n + 1 :]:
            if second[0] > first[1]:
                break
            yield i, j


def _boxes(boxes: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Pairs of boxes `(n, 4)` of first row, last row, first column, last column that meet."""
    order = np.argsort(boxes[:, 0], kind="stable")
    boxes = boxes[order]
    ends = np.searchsorted(boxes[:, 0], boxes[:, 1], side="right")
    for n, box in enumerate(boxes):
        near = boxes[n + 1 : ends[n]]  # those that begin before this one ends, by row
        for m in np.flatnonzero((near[:, 2] <= box[3]) & (near[:, 3] >= box[2])):
            yield int(order[n]), int(order[n + 1 + m])
