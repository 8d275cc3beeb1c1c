"""Where imagery is unlike the ground that its model was trained on, told image by image.

A tile is beyond where its distance (see `heads.distance`) is above 1, which one held-out tile in a
hundred of the training ground is. An image is unlike that ground where five times as many are, and
more than chance makes of its number of tiles. Knows distances, not what they are made of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import special

from quadrat.scores.columns import words

TIMES = 5  # an image is unlike the training ground with this many times its share of tiles beyond 1
CHANCE = 0.001  # and if chance gives so many such tiles with a smaller probability


def counted(sources: pa.ChunkedArray, distances: NDArray[np.floating]) -> dict[str, list[int]]:
    """Tiles of each image, and those of them that are beyond, of the tiles of a part (N,)."""
    names, at = np.unique(words(sources), return_inverse=True)
    tiles, beyond = np.bincount(at), np.bincount(at, weights=distances > 1)
    pairs = zip(names.tolist(), tiles.tolist(), beyond.tolist(), strict=True)
    return {name: [n, int(b)] for name, n, b in pairs}


def summary(parts: Iterable[Mapping[str, Any]], level: float) -> dict[str, Any]:
    """What `scores.json` says of distances.

    Args:
        parts: `counted` of each part.
        level: share of held-out tiles of the training ground that are not beyond.

    Returns:
        `level`, `tiles`, `beyond`, `unlike` (of all tiles together), and `images` with `source`,
        `tiles`, `beyond` and `unlike` of each, the most unlike first.
    """
    found: dict[str, list[int]] = {}
    for part in parts:
        for source, (n, b) in part.items():
            had = found.setdefault(source, [0, 0])
            had[0], had[1] = had[0] + int(n), had[1] + int(b)
    order = sorted(found.items(), key=lambda item: (-item[1][1] / max(1, item[1][0]), item[0]))
    images = [{"source": source, **_judged(n, b, level)} for source, (n, b) in order]
    tiles, beyond = (sum(i[key] for i in images) for key in ("tiles", "beyond"))
    return {"level": level, **_judged(tiles, beyond, level), "images": images}


def _judged(tiles: int, beyond: int, level: float) -> dict[str, Any]:
    usual = 1 - level
    by_chance = float(special.bdtrc(beyond - 1, tiles, usual)) if beyond else 1.0
    unlike = beyond > TIMES * usual * tiles and by_chance < CHANCE
    return {"tiles": tiles, "beyond": beyond, "unlike": unlike}


def warning(distance: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence where imagery is unlike the training ground; none elsewhere.

    Args:
        distance: what `summary` gave; empty for scores without distances.
    """
    unlike = [i for i in distance.get("images", ()) if i["unlike"]]
    if not (unlike or distance.get("unlike")):
        return ()
    tiles, beyond = distance["tiles"], distance["beyond"]
    where = ""
    if unlike and len(distance["images"]) > 1:
        first = unlike[0]
        where = (
            f", most of all in {len(unlike):,} of {len(distance['images']):,} images (first: "
            f"{first['source']}, {first['beyond']:,} of {first['tiles']:,})"
        )
    return (
        f"{beyond:,} of {tiles:,} tiles are unlike the ground that the model was trained on "
        f"({1 - distance['level']:.0%} is usual){where}: accuracy, shares and probabilities may be "
        "worse there than validation says; label plots there and train again",
    )
