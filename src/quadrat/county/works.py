"""Textures of what people make: fields, pasture, towns, roads, pits."""

from __future__ import annotations

import numpy as np

from quadrat.county.land import smooth_noise
from quadrat.county.nature import shrubs
from quadrat.county.shapes import (
    SIDE,
    Picture,
    crowns,
    fractal,
    grain,
    grid,
    ground,
    light,
    shadow,
    trees,
)


def _rows(rng: np.random.Generator, spacing: int, depth: float) -> Picture:
    y, _ = grid()
    wave = np.cos(2 * np.pi * y / (SIDE / (SIDE // spacing)))
    bright = 1.0 + depth * wave * (0.8 + 0.3 * fractal(rng, 12, 40))
    bright += 0.035 * grain(rng) + 0.05 * fractal(rng, 5, 11, 30)
    # the sprayer's tramlines, and headlands
    track = (y % 32 < 2) & (np.abs(grain(rng)) < 1.8)
    bright[track] -= 0.11
    bare = fractal(rng, 5, 9, 33) > 1.9
    return np.where(bare, 1, 0).astype(np.uint8), bright


def rows_wide(rng: np.random.Generator, low: float) -> Picture:
    """Row crop, rows 4 m apart as they show at one metre."""
    return _rows(rng, 4, 0.12)


def rows_narrow(rng: np.random.Generator, low: float) -> Picture:
    """Drilled crop: fine rows with wider passes of the machine."""
    group, bright = _rows(rng, 8, 0.06)
    y, _ = grid()
    return group, bright + 0.05 * np.sign(np.sin(2 * np.pi * y / 16))


def swaths(rng: np.random.Generator, low: float) -> Picture:
    """Mown or harvested: broad swaths with the stalks' direction turning at each pass."""
    y, _ = grid()
    wobble = np.rint(1.5 * fractal(rng, 4, 8)).astype(int)
    band = ((y + wobble) // 8) % 2
    bright = 1.0 + 0.085 * (band * 2 - 1) + 0.04 * grain(rng) + 0.05 * fractal(rng, 6, 14)
    windrow = ((y + wobble) % 16) < 2
    return windrow.astype(np.uint8) * 2, bright + 0.12 * windrow


def paddocks(rng: np.random.Generator, low: float) -> Picture:
    """Grazed grassland: even in the growing season, a pattern of strips eaten bare in a drought."""
    y, x = grid()
    bright = ground(rng, 0.05, 0.025)
    group = np.where(fractal(rng, 5, 12, 30) > 0.8, 1, 0).astype(np.uint8)
    eaten = rng.normal(0, 1, size=(8, 16))[y // 64, x // 32]
    bright += 0.13 * low * eaten
    fence = (y % 64 < 3) | (x % 32 < 2)
    bright[fence] += 0.16 * low
    group[fence & (grain(rng) < 0.5 + low)] = 2
    barn = rng.random((4, 4))[y // 128, x // 128] < 0.3
    barn &= (np.abs(y % 128 - 40) < 5) & (np.abs(x % 128 - 70) < 10)
    bales = rng.random((64, 64))[y // 8, x // 8] < 0.14 * low
    bales &= (y % 8 < 2) & (x % 8 < 2) & (smooth_noise(rng, SIDE, 4) > -0.2)
    for on, high in ((barn, 5.0), (bales, 1.4)):
        bright[shadow(np.where(on, high, 0.0), 0.8 + 1.2 * low) & ~on] *= 0.62
        group[on], bright[on] = 4, 1.1
    return trees(rng, low, group, bright, spacing=40.0, keep=0.35, tree=5)


def _wells(rng: np.random.Generator, low: float, worn: float) -> Picture:
    """Shrubland with well pads and lanes: grown over in a wet summer, worn pale in a drought."""
    y, x = grid()
    group, bright = shrubs(rng, low, 8.0, 0.8)
    wear = 0.12 + worn * low
    pad = (np.abs(y % 64 - 30) < 9) & (np.abs(x % 128 - 50) < 13)
    pad &= rng.random((8, 4))[y // 64, x // 128] < 0.7
    lane = (y % 64 < 5) | (x % 128 < 5)
    open_ = (pad | lane) & (rng.random((SIDE, SIDE)) < wear)
    group[open_], bright[open_] = 3, 1.0
    tank = pad & (np.abs(y % 64 - 26) < 3) & (np.abs(x % 128 - 44) < 5)
    tank &= rng.random((8, 4))[y // 64, x // 128] < wear
    bright[shadow(np.where(tank, 5.0, 0.0), 0.8 + low) & ~tank] *= 0.62
    group[tank], bright[tank] = 4, 1.1
    return group, bright


def wells(rng: np.random.Generator, low: float) -> Picture:
    """Well pads that a drought shows a little."""
    return _wells(rng, low, 0.45)


def wells_worn(rng: np.random.Generator, low: float) -> Picture:
    """Well pads that a drought shows plainly."""
    return _wells(rng, low, 0.85)


def quarry(rng: np.random.Generator, low: float) -> Picture:
    """Worked ground: pads, haul roads, heaps and pits."""
    y, x = grid()
    level = rng.integers(0, 4, size=(6, 6))
    wy = (y + np.rint(7 * fractal(rng, 6, 12)).astype(int)) % SIDE
    wx = (x + np.rint(7 * fractal(rng, 6, 12)).astype(int)) % SIDE
    height = level[wy * 6 // SIDE, wx * 6 // SIDE] * 4.0
    heap, _ = crowns(rng, 32.0, (6.0, 11.0), 0.3)
    height = height + heap
    bright = 1.0 + 0.12 * light(height, 0.7) + 0.05 * fractal(rng, 8, 20) + 0.03 * grain(rng)
    bright[shadow(height, 0.7 + 0.8 * low)] *= 0.66
    road = (np.abs(wy % 128 - 64) < 4) | (np.abs(wx % 170 - 60) < 4)
    bright[road] = (1.14 + 0.03 * grain(rng))[road]
    group = level[wy * 6 // SIDE, wx * 6 // SIDE].astype(np.uint8) % 3
    return group, bright


def asphalt(rng: np.random.Generator, low: float) -> Picture:
    """Road surface."""
    return np.zeros((SIDE, SIDE), np.uint8), 1 + 0.05 * fractal(rng, 9, 64) + 0.03 * grain(rng)


# Groups of the town palettes.
STREET, ROOF_DARK, ROOF_RED, ROOF_PALE, LAWN, LEAF, LEAF2, PAVED = range(8)


def _town(
    rng: np.random.Generator, low: float, *, block: tuple[int, int], street: int, lot: int,
    house: tuple[float, float], trees: float, built: float,
) -> Picture:  # fmt: skip
    """Streets round blocks; two rows of lots in a block, a house, a drive and trees on each."""
    y, x = grid()
    bv, bu = block
    by, bx, ly, lx = y // bv, x // bu, y % bv, x % bu
    inner_v, inner_u = bv - street, bu - street
    iy, ix = ly - street, lx - street
    on_street = (iy < 0) | (ix < 0)
    half = inner_v // 2
    side, li = np.clip(iy // half, 0, 1), np.clip(ix // lot, 0, max(0, inner_u // lot - 1))
    n = (SIDE // bv, SIDE // bu, 2, max(1, inner_u // lot))
    pick = rng.random((6, *n))[:, by, bx, side, li]
    # metres from the street, and along the lot
    depth = np.where(side == 0, iy, inner_v - 1 - iy)
    across = ix - li * lot
    wide, deep = lot * (0.5 + 0.25 * pick[0]), house[0] + (house[1] - house[0]) * pick[1]
    u, v = across - lot * (0.5 + 0.16 * (pick[2] - 0.5)), depth - (half * 0.42 + 3 * pick[3])
    roof = (np.abs(u) < wide / 2) & (np.abs(v) < deep / 2) & (pick[4] < built) & ~on_street
    drive = (np.abs(across - 2) < 1.6) & (depth < half * 0.45) & ~on_street
    group = np.full((SIDE, SIDE), LAWN, np.uint8)
    bright = 0.97 + 0.05 * fractal(rng, 20, 60) + 0.03 * grain(rng)
    bright += 0.16 * (pick[5] - 0.5)
    group[drive] = PAVED
    group[on_street] = STREET
    kerb = ~on_street & ((depth == 1) | (depth == 2))
    group[kerb] = PAVED
    height = np.where(roof, 4.5 - np.abs(v) / deep * 3, 0.0)
    on, number = crowns(rng, 11.0, (2.0, 4.4), trees)
    leaf = (on > 0) & ~roof & ~((iy < 1) | (ix < 1))
    height = np.maximum(height, np.where(leaf, on, 0))
    bright[on_street] = (1 + 0.03 * grain(rng))[on_street]
    bright[leaf] = (0.92 + 0.15 * light(on, 1.0) + 0.05 * grain(rng))[leaf]
    group[leaf] = LEAF + (number[leaf] % 2)
    dark = shadow(height, 0.8 + 1.0 * low) & ~roof
    bright[dark] *= 0.6
    group[roof] = (1 + np.floor(pick[5] * 3).astype(np.uint8))[roof]
    bright[roof] = (1.02 + 0.13 * np.sign(v) + 0.02 * grain(rng))[roof]
    return group, bright


def suburb_leafy(rng: np.random.Generator, low: float) -> Picture:
    """Large lots under trees."""
    return _town(rng, low, block=(128, 256), street=8, lot=31, house=(9, 14), trees=0.42, built=0.9)


def suburb(rng: np.random.Generator, low: float) -> Picture:
    """Houses on lots of a fifth of an acre."""
    return _town(rng, low, block=(64, 128), street=8, lot=20, house=(9, 13), trees=0.22, built=0.95)


def farmsteads(rng: np.random.Generator, low: float) -> Picture:
    """Scattered houses on large lots."""
    return _town(rng, low, block=(128, 256), street=7, lot=60, house=(10, 15), trees=0.2, built=0.8)


def _wooded(rng: np.random.Generator, low: float, thin: float) -> Picture:
    """Houses and lanes under trees: hidden in leaf, seen when the leaves have fallen."""
    group, bright = farmsteads(rng, low)
    group[group == LEAF], group[group == LEAF2] = LAWN, LAWN
    # the palette of a wooded lot: town colours below 4, crowns of different sorts from 4 on
    height, number = crowns(rng, 7.5, (4.6, 6.4), 0.97)
    rough = height + 0.5 * grain(rng) * (height > 0)
    bare = rng.random(number.max() + 1)[number] < thin * low
    on = (height > 0) & ~(bare & (rng.random(height.shape) < 0.75))
    bright[shadow(np.where(on, height, 0.0), 0.7 + 1.0 * low) & ~on] *= 0.62
    tone = rng.normal(0, 0.09, size=number.max() + 1)
    bright[on] = (0.92 + 0.16 * light(rough, 1.0) + tone[number] + 0.05 * grain(rng))[on]
    group[on] = (5 + number % 3)[on]
    return group, bright


def wooded_lots(rng: np.random.Generator, low: float) -> Picture:
    """A wooded settlement that thins a little in autumn."""
    return _wooded(rng, low, 0.62)


def wooded_lots_open(rng: np.random.Generator, low: float) -> Picture:
    """A wooded settlement that loses most leaves."""
    return _wooded(rng, low, 0.93)


def dense(rng: np.random.Generator, low: float) -> Picture:
    """Close housing."""
    return _town(rng, low, block=(64, 128), street=9, lot=14, house=(12, 18), trees=0.12, built=1.0)


def commercial(rng: np.random.Generator, low: float) -> Picture:
    """Large roofs and car parks."""
    y, x = grid()
    bv, bu, street = 128, 128, 10
    by, bx, ly, lx = y // bv, x // bu, y % bv - street, x % bu - street
    on_street = (ly < 0) | (lx < 0)
    pick = rng.random((6, SIDE // bv, SIDE // bu))[:, by, bx]
    w, d = 40 + 45 * pick[0], 30 + 45 * pick[1]
    u, v = lx - (bu - street) * (0.35 + 0.3 * pick[2]), ly - (bv - street) * (0.35 + 0.3 * pick[3])
    roof = (np.abs(u) < w / 2) & (np.abs(v) < d / 2) & ~on_street
    group = np.full((SIDE, SIDE), PAVED, np.uint8)
    bright = 0.86 + 0.04 * fractal(rng, 16, 50) + 0.025 * grain(rng)
    # cars: 2 x 5 m in double rows along the aisles
    row, place = ly // 9, lx // 3
    parked = rng.random((SIDE // bv, SIDE // bu, 15, 44))
    here = parked[by, bx, np.clip(row, 0, 14), np.clip(place, 0, 43)]
    car = (here < 0.55) & (ly % 9 < 5) & (lx % 3 < 2) & ~on_street & ~roof & (ly > 8) & (lx > 8)
    car &= pick[4] < 0.8
    group[car] = np.where(here[car] < 0.2, ROOF_PALE, np.where(here[car] < 0.4, STREET, ROOF_RED))
    bright[car] = 0.6 + here[car] * 1.2
    green = ~on_street & ((ly < 6) | (lx < 6))
    group[green], bright[green] = LAWN, (0.95 + 0.05 * grain(rng))[green]
    group[on_street], bright[on_street] = STREET, (1 + 0.03 * grain(rng))[on_street]
    dark = shadow(np.where(roof, 8.0, 0.0), 0.7 + 0.8 * low) & ~roof
    bright[dark] *= 0.6
    unit = (np.abs(u) % 17 < 2.2) & (np.abs(v) % 14 < 2.2)
    group[roof] = np.where(pick[5] < 0.75, ROOF_PALE, ROOF_DARK)[roof]
    bright[roof] = np.where(unit, 0.75, 1.08 + 0.03 * fractal(rng, 6, 18))[roof]
    return group, bright
