"""Textures of the synthetic county: small periodic pictures of crowns, rows, roofs, rock and grass.

A texture is (SIDE, SIDE) uint8, one metre a pixel, that repeats without a seam. Its values are not
colours: the upper three bits are a group (a roof, a lawn, one sort of crown), the lower five a
brightness; a palette turns both into colours, so one texture serves every season and crop. It does
not know the ground, palettes or dates beyond how far the season is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from quadrat.county import nature, shapes, works
from quadrat.county.shapes import Picture

TEXTURES: dict[str, Callable[[np.random.Generator, float], Picture]] = {
    "asphalt": works.asphalt,
    "broadleaf": nature.broadleaf,
    "broadleaf_old": nature.broadleaf_old,
    "commercial": works.commercial,
    "conifer": nature.conifer,
    "dense": works.dense,
    "farmsteads": works.farmsteads,
    "grass": nature.grass,
    "grass_tufts": nature.grass_tufts,
    "gullies": nature.gullies,
    "marsh": nature.marsh,
    "mixed": nature.mixed,
    "paddocks": works.paddocks,
    "quarry": works.quarry,
    "rock": nature.rock,
    "rows_narrow": works.rows_narrow,
    "rows_wide": works.rows_wide,
    "shrub": nature.shrub,
    "shrub_dense": nature.shrub_dense,
    "suburb": works.suburb,
    "suburb_leafy": works.suburb_leafy,
    "swamp": nature.swamp,
    "swaths": works.swaths,
    "water": nature.water,
    "wells": works.wells,
    "wells_worn": works.wells_worn,
    "wooded_lots": works.wooded_lots,
    "wooded_lots_open": works.wooded_lots_open,
}


@lru_cache(maxsize=3)
def atlas(seed: int, low: float) -> NDArray[np.uint8]:
    """All textures in the order of TEXTURES, (T, SIDE, SIDE) uint8.

    Args:
        low: how low the sun stands, 0 (midsummer noon) to 1 (late autumn): longer shadows. The same
            seed gives the same trees and houses at every sun.
    """
    drawn = [
        shapes.pack(*draw(np.random.default_rng([seed, 3, i]), low))
        for i, draw in enumerate(TEXTURES.values())
    ]
    pages = np.stack(drawn)
    pages.flags.writeable = False  # shared by the callers
    return pages
