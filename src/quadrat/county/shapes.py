"""What textures are drawn with: periodic noise, crowns, light, shadow. Metres and arrays only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quadrat.county.land import smooth_noise

SIDE = 512
LEVELS = 32
# Brightness 1 (a palette's own colour) lies on the scale: level v is LOW + v * STEP.
LOW, STEP = 0.22, 0.04

F = NDArray[np.float64]
Groups = NDArray[np.uint8]
Picture = tuple[Groups, F]


def grid() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of every pixel, (SIDE, SIDE) each."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    return y, x


def fractal(rng: np.random.Generator, *lattices: int, fall: float = 0.6) -> F:
    """Periodic noise of several sizes about 0 with deviation 1."""
    total = np.zeros((SIDE, SIDE))
    for k, n in enumerate(lattices):
        total += smooth_noise(rng, SIDE, n) * fall**k
    return np.asarray(total / total.std())


def grain(rng: np.random.Generator) -> F:
    """Noise of single pixels, deviation 1."""
    return rng.standard_normal((SIDE, SIDE))


def crowns(
    rng: np.random.Generator, spacing: float, radius: tuple[float, float], keep: float = 1.0
) -> tuple[F, NDArray[np.int64]]:
    """Rounded crowns on a jittered lattice: height in metres (0 between them) and crown number."""
    n = round(SIDE / spacing)
    step = SIDE / n
    py, px = rng.uniform(0.1, 0.9, size=(2, n, n))
    r = rng.uniform(*radius, size=(n, n))
    r[rng.random((n, n)) > keep] = 0.01
    y, x = grid()
    cy, cx = (y / step).astype(int), (x / step).astype(int)
    height, number = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE), np.int64)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            j, i = (cy + dy) % n, (cx + dx) % n
            ddy = y + 0.5 - (cy + dy + py[j, i]) * step
            ddx = x + 0.5 - (cx + dx + px[j, i]) * step
            h = r[j, i] * (1.3 - (ddx * ddx + ddy * ddy) / (r[j, i] ** 2) * 1.3)
            higher = h > height
            height[higher], number[higher] = h[higher], (j * n + i)[higher]
    return height, number


def light(height: F, sun: float) -> F:
    """Shade of the slopes, the sun in the south-east (the usual hours of flight), about 0."""
    gy, gx = np.roll(height, 1, 0) - height, np.roll(height, 1, 1) - height
    return np.clip(-(gy * 0.6 + gx * 0.8) * sun, -1.0, 1.0)


def shadow(height: F, length: float) -> NDArray[np.bool_]:
    """Where something higher towards the sun takes the light; `length` metres a metre of height."""
    dark = np.zeros(height.shape, bool)
    for k in range(1, 15):
        dy, dx = round(-0.6 * k), round(-0.8 * k)
        dark |= np.roll(height, (dy, dx), (0, 1)) > height + k / length + 0.3
    return dark


def pack(group: Groups | int, bright: F) -> NDArray[np.uint8]:
    """Group and brightness in one byte."""
    level = np.clip(np.rint((bright - LOW) / STEP), 0, LEVELS - 1).astype(np.uint8)
    return np.asarray((np.asarray(group, np.uint8) << np.uint8(5)) | level, np.uint8)


def ground(rng: np.random.Generator, patch: float, grainy: float) -> F:
    """Mottled ground of brightness 1, patchy and grainy."""
    return 1.0 + patch * fractal(rng, 4, 9, 21, 47) + grainy * grain(rng)


def trees(
    rng: np.random.Generator, low: float, group: Groups, bright: F, *, spacing: float,
    keep: float, tree: int, radius: tuple[float, float] = (2.0, 4.5),
) -> Picture:  # fmt: skip
    """Draw single trees or shrubs and their shadows onto a picture (changes it)."""
    height, number = crowns(rng, spacing, radius, keep)
    on = height > 0
    dark = shadow(height, 1.0 + 1.2 * low) & ~on
    bright[dark] *= 0.6
    tone = rng.normal(0, 0.08, size=number.max() + 1)
    bright[on] = (0.9 + 0.16 * light(height, 1.0) + tone[number] + 0.04 * grain(rng))[on]
    group[on] = tree + (number[on] % 2)
    return group, bright
