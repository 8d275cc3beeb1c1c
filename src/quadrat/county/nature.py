"""Textures of what grows and lies bare: forest, grass, shrubs, rock, soil, water."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quadrat.county.land import smooth_noise
from quadrat.county.shapes import (
    SIDE,
    F,
    Picture,
    crowns,
    fractal,
    grain,
    ground,
    light,
    shadow,
    trees,
)


def _forest(
    rng: np.random.Generator, low: float, spacing: float, radius: tuple[float, float], sorts: int
) -> Picture:
    height, number = crowns(rng, spacing, radius)
    if sorts > 3:
        height = _leaf_fall(rng, height, number, low)
    rough = height + 0.5 * grain(rng) * (height > 0)
    bright = 0.92 + 0.16 * light(rough, 1.0) + 0.05 * grain(rng)
    tone = rng.normal(0, 0.09, size=number.max() + 1)
    bright += tone[number] + 0.05 * fractal(rng, 8, 24)
    bright[shadow(height, 0.7 + 1.0 * low)] *= 0.58
    bright[height <= 0] *= 0.62
    # neighbouring crowns tend to be of one sort
    patch = fractal(rng, 6, 20)
    own = rng.normal(0, 0.9, size=number.max() + 1)[number]
    group = np.clip(np.floor((patch * 0.8 + own) * sorts / 4 + sorts / 2), 0, sorts - 1)
    return group.astype(np.uint8), bright


def _leaf_fall(rng: np.random.Generator, height: F, number: NDArray[np.int64], low: float) -> F:
    """Broad-leaved crowns thin out with the season: the sun shines through some to the ground."""
    bare = rng.random(number.max() + 1)[number] < 0.35 * low
    holes = rng.random(height.shape) < 0.45
    return np.where(bare & holes, height * 0.3, height)


def broadleaf(rng: np.random.Generator, low: float) -> Picture:
    """Middle-aged broad-leaved stand."""
    return _forest(rng, low, 7.0, (3.4, 6.0), 8)


def broadleaf_old(rng: np.random.Generator, low: float) -> Picture:
    """Old broad-leaved stand: wide crowns."""
    return _forest(rng, low, 10.5, (5.0, 8.5), 8)


def conifer(rng: np.random.Generator, low: float) -> Picture:
    """Dense conifers: small pointed crowns."""
    return _forest(rng, low, 5.0, (2.4, 3.8), 3)


def mixed(rng: np.random.Generator, low: float) -> Picture:
    """Conifers among broad-leaved trees (groups 5 to 7 of the palette are conifers)."""
    return _forest(rng, low, 7.5, (3.0, 6.4), 8)


def grass(rng: np.random.Generator, low: float) -> Picture:
    """Grassland: soft mottling, cattle paths, a tree here and there."""
    bright = ground(rng, 0.06, 0.025)
    group = np.where(fractal(rng, 5, 12, 30) > 0.7, 1, 0).astype(np.uint8)
    path = np.abs(fractal(rng, 3, 6)) < 0.022
    group[path], bright[path] = 2, 1.12
    return trees(rng, low, group, bright, spacing=64.0, keep=0.35, tree=5)


def grass_tufts(rng: np.random.Generator, low: float) -> Picture:
    """Rough grassland: tufts and wet hollows."""
    bright = ground(rng, 0.07, 0.04) + 0.05 * smooth_noise(rng, SIDE, 170)
    group = np.clip(np.floor(fractal(rng, 7, 16, 40) + 1), 0, 2).astype(np.uint8)
    return group, bright


def shrubs(rng: np.random.Generator, low: float, spacing: float, keep: float) -> Picture:
    """Shrubs `spacing` metres apart on dry ground."""
    bright = ground(rng, 0.06, 0.045)
    group = np.where(fractal(rng, 6, 15, 40) > 0.3, 1, 0).astype(np.uint8)
    # in a drought the grass between dies in patches and the smaller shrubs lose their leaves
    dead = fractal(rng, 9, 26) > 2.2 - 1.6 * low
    group[dead], bright[dead] = 2, bright[dead] * 1.08
    keep *= 1 - 0.3 * low
    return trees(rng, low, group, bright, spacing=spacing, keep=keep, tree=5, radius=(0.9, 2.3))


def shrub(rng: np.random.Generator, low: float) -> Picture:
    """Scattered shrubs on dry ground."""
    return shrubs(rng, low, 8.0, 0.75)


def shrub_dense(rng: np.random.Generator, low: float) -> Picture:
    """Thicket with gaps."""
    return shrubs(rng, low, 5.2, 0.85)


def rock(rng: np.random.Generator, low: float) -> Picture:
    """Bare rock: ridges, joints and scree."""
    n = fractal(rng, 5, 11, 23, 50, 110, fall=0.75)
    ridges = 1 - np.abs(fractal(rng, 7, 15, 31))
    height = 3.0 * n + 2.0 * ridges
    bright = 1.0 + 0.13 * light(height, 1.0) + 0.06 * n + 0.03 * grain(rng)
    bright[shadow(height, 0.5 + 0.6 * low)] *= 0.8
    return np.clip(np.floor(n + 1), 0, 2).astype(np.uint8), bright


def gullies(rng: np.random.Generator, low: float) -> Picture:
    """Bare soil: gullies, washed fans and wheel tracks."""
    n = fractal(rng, 3, 7, 16)
    gully = np.abs(fractal(rng, 4, 10, 22)) < 0.10
    bright = 1.0 + 0.09 * n + 0.03 * grain(rng)
    bright[gully] -= 0.16
    bright[np.roll(gully, (-2, -2), (0, 1)) & ~gully] += 0.09
    track = np.abs(fractal(rng, 2, 5) - 0.4) < 0.02
    bright[track] += 0.15
    return np.clip(np.floor(n * 0.8 + 1), 0, 2).astype(np.uint8), bright


def water(rng: np.random.Generator, low: float) -> Picture:
    """Open water: ripples."""
    return np.zeros((SIDE, SIDE), np.uint8), 1 + 0.04 * fractal(rng, 5, 60) + 0.015 * grain(rng)


def marsh(rng: np.random.Generator, low: float) -> Picture:
    """Reeds and sedges with winding channels and pools (group 3)."""
    group, bright = grass_tufts(rng, low)
    open_ = (np.abs(fractal(rng, 4, 9, 20)) < 0.10) | (fractal(rng, 9, 22) > 1.5 + 0.4 * low)
    group[open_], bright[open_] = 3, (1.0 + 0.02 * grain(rng))[open_]
    return group, bright


def swamp(rng: np.random.Generator, low: float) -> Picture:
    """Open stand over standing water (group 3)."""
    height, number = crowns(rng, 9.0, (2.6, 5.4), 0.85)
    on = height > 0
    bright = 1.0 + 0.03 * grain(rng)
    bright[shadow(height, 0.7 + 1.0 * low) & ~on] *= 0.7
    tone = rng.normal(0, 0.09, size=number.max() + 1)
    bright[on] = (0.92 + 0.16 * light(height, 1.0) + tone[number] + 0.05 * grain(rng))[on]
    group = np.full(height.shape, 3, np.uint8)
    group[on] = (number % 3)[on]
    return group, bright
