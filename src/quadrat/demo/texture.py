"""Textures of the synthetic county: small periodic pictures of crowns, rows, roofs, rock and grass.

A texture is (SIDE, SIDE) uint8, one metre a pixel, that repeats without a seam. Its values are not
colours: the upper three bits are a group (a roof, a lawn, one sort of crown), the lower five a
brightness; a palette turns both into colours, so one texture serves every season and crop. It does
not know the ground, palettes or dates beyond how low the sun stands.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from quadrat.demo.land import smooth_noise

SIDE = 512
LEVELS = 32
# Brightness 1 (a palette's own colour) is level NEUTRAL; level v is LOW + v * STEP.
LOW, STEP = 0.22, 0.04

F = NDArray[np.float64]
Groups = NDArray[np.uint8]
Picture = tuple[Groups, F]


def _grid() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    return y, x


def fractal(rng: np.random.Generator, *lattices: int, fall: float = 0.6) -> F:
    """Periodic noise of several sizes about 0 with deviation 1."""
    total = np.zeros((SIDE, SIDE))
    for k, n in enumerate(lattices):
        total += smooth_noise(rng, SIDE, n) * fall**k
    return np.asarray(total / total.std())


def _grain(rng: np.random.Generator) -> F:
    return rng.standard_normal((SIDE, SIDE))


def _crowns(
    rng: np.random.Generator, spacing: float, radius: tuple[float, float], keep: float = 1.0
) -> tuple[F, NDArray[np.int64]]:
    """Rounded crowns on a jittered lattice: height in metres (0 between them) and crown number."""
    n = round(SIDE / spacing)
    step = SIDE / n
    py, px = rng.uniform(0.1, 0.9, size=(2, n, n))
    r = rng.uniform(*radius, size=(n, n))
    r[rng.random((n, n)) > keep] = 0.01
    y, x = _grid()
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


def _light(height: F, sun: float) -> F:
    """Shade of the slopes, the sun in the south-east (the usual hours of flight), about 0."""
    gy, gx = np.roll(height, 1, 0) - height, np.roll(height, 1, 1) - height
    return np.clip(-(gy * 0.6 + gx * 0.8) * sun, -1.0, 1.0)


def _shadow(height: F, length: float) -> NDArray[np.bool_]:
    """Where something higher towards the sun takes the light; `length` metres a metre of height."""
    dark = np.zeros(height.shape, bool)
    for k in range(1, 15):
        dy, dx = round(-0.6 * k), round(-0.8 * k)
        dark |= np.roll(height, (dy, dx), (0, 1)) > height + k / length + 0.3
    return dark


def _pack(group: Groups | int, bright: F) -> NDArray[np.uint8]:
    level = np.clip(np.rint((bright - LOW) / STEP), 0, LEVELS - 1).astype(np.uint8)
    return np.asarray((np.asarray(group, np.uint8) << np.uint8(5)) | level, np.uint8)


def _forest(
    rng: np.random.Generator, low: float, spacing: float, radius: tuple[float, float], sorts: int
) -> Picture:
    height, number = _crowns(rng, spacing, radius)
    if sorts > 3:
        height = _leaf_fall(rng, height, number, low)
    rough = height + 0.5 * _grain(rng) * (height > 0)
    bright = 0.92 + 0.16 * _light(rough, 1.0) + 0.05 * _grain(rng)
    tone = rng.normal(0, 0.09, size=number.max() + 1)
    bright += tone[number] + 0.05 * fractal(rng, 8, 24)
    bright[_shadow(height, 0.7 + 1.0 * low)] *= 0.58
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


def _rows(rng: np.random.Generator, spacing: int, depth: float) -> Picture:
    y, _ = _grid()
    wave = np.cos(2 * np.pi * y / (SIDE / (SIDE // spacing)))
    bright = 1.0 + depth * wave * (0.8 + 0.3 * fractal(rng, 12, 40))
    bright += 0.035 * _grain(rng) + 0.05 * fractal(rng, 5, 11, 30)
    # the sprayer's tramlines, and headlands
    track = (y % 32 < 2) & (np.abs(_grain(rng)) < 1.8)
    bright[track] -= 0.11
    bare = fractal(rng, 5, 9, 33) > 1.9
    return np.where(bare, 1, 0).astype(np.uint8), bright


def rows_wide(rng: np.random.Generator, low: float) -> Picture:
    """Row crop, rows 4 m apart as they show at one metre."""
    return _rows(rng, 4, 0.12)


def rows_narrow(rng: np.random.Generator, low: float) -> Picture:
    """Drilled crop: fine rows with wider passes of the machine."""
    group, bright = _rows(rng, 8, 0.06)
    y, _ = _grid()
    return group, bright + 0.05 * np.sign(np.sin(2 * np.pi * y / 16))


def swaths(rng: np.random.Generator, low: float) -> Picture:
    """Mown or harvested: broad swaths with the stalks' direction turning at each pass."""
    y, _ = _grid()
    wobble = np.rint(1.5 * fractal(rng, 4, 8)).astype(int)
    band = ((y + wobble) // 8) % 2
    bright = 1.0 + 0.085 * (band * 2 - 1) + 0.04 * _grain(rng) + 0.05 * fractal(rng, 6, 14)
    windrow = ((y + wobble) % 16) < 2
    return windrow.astype(np.uint8) * 2, bright + 0.12 * windrow


def _ground(rng: np.random.Generator, patch: float, grain: float) -> F:
    return 1.0 + patch * fractal(rng, 4, 9, 21, 47) + grain * _grain(rng)


def grass(rng: np.random.Generator, low: float) -> Picture:
    """Grassland: soft mottling, cattle paths, a tree here and there."""
    bright = _ground(rng, 0.06, 0.025)
    group = np.where(fractal(rng, 5, 12, 30) > 0.7, 1, 0).astype(np.uint8)
    path = np.abs(fractal(rng, 3, 6)) < 0.022
    group[path], bright[path] = 2, 1.12
    return _trees(rng, low, group, bright, spacing=64.0, keep=0.35, tree=5)


def paddocks(rng: np.random.Generator, low: float) -> Picture:
    """Grazed grassland: even in the growing season, a pattern of strips eaten bare in a drought."""
    y, x = _grid()
    bright = _ground(rng, 0.05, 0.025)
    group = np.where(fractal(rng, 5, 12, 30) > 0.8, 1, 0).astype(np.uint8)
    eaten = rng.normal(0, 1, size=(8, 16))[y // 64, x // 32]
    bright += 0.13 * low * eaten
    fence = (y % 64 < 3) | (x % 32 < 2)
    bright[fence] += 0.16 * low
    group[fence & (_grain(rng) < 0.5 + low)] = 2
    barn = rng.random((4, 4))[y // 128, x // 128] < 0.3
    barn &= (np.abs(y % 128 - 40) < 5) & (np.abs(x % 128 - 70) < 10)
    bales = rng.random((64, 64))[y // 8, x // 8] < 0.14 * low
    bales &= (y % 8 < 2) & (x % 8 < 2) & (smooth_noise(rng, SIDE, 4) > -0.2)
    for on, high in ((barn, 5.0), (bales, 1.4)):
        bright[_shadow(np.where(on, high, 0.0), 0.8 + 1.2 * low) & ~on] *= 0.62
        group[on], bright[on] = 4, 1.1
    return _trees(rng, low, group, bright, spacing=40.0, keep=0.35, tree=5)


def grass_tufts(rng: np.random.Generator, low: float) -> Picture:
    """Rough grassland: tufts and wet hollows."""
    bright = _ground(rng, 0.07, 0.04) + 0.05 * smooth_noise(rng, SIDE, 170)
    group = np.clip(np.floor(fractal(rng, 7, 16, 40) + 1), 0, 2).astype(np.uint8)
    return group, bright


def _trees(
    rng: np.random.Generator, low: float, group: Groups, bright: F, *, spacing: float,
    keep: float, tree: int, radius: tuple[float, float] = (2.0, 4.5),
) -> Picture:  # fmt: skip
    height, number = _crowns(rng, spacing, radius, keep)
    on = height > 0
    shadow = _shadow(height, 1.0 + 1.2 * low) & ~on
    bright[shadow] *= 0.6
    tone = rng.normal(0, 0.08, size=number.max() + 1)
    bright[on] = (0.9 + 0.16 * _light(height, 1.0) + tone[number] + 0.04 * _grain(rng))[on]
    group[on] = tree + (number[on] % 2)
    return group, bright


def _shrubs(rng: np.random.Generator, low: float, spacing: float, keep: float) -> Picture:
    bright = _ground(rng, 0.06, 0.045)
    group = np.where(fractal(rng, 6, 15, 40) > 0.3, 1, 0).astype(np.uint8)
    # in a drought the grass between dies in patches and the smaller shrubs lose their leaves
    dead = fractal(rng, 9, 26) > 2.2 - 1.6 * low
    group[dead], bright[dead] = 2, bright[dead] * 1.08
    keep *= 1 - 0.3 * low
    return _trees(rng, low, group, bright, spacing=spacing, keep=keep, tree=5, radius=(0.9, 2.3))


def shrub(rng: np.random.Generator, low: float) -> Picture:
    """Scattered shrubs on dry ground."""
    return _shrubs(rng, low, 8.0, 0.75)


def _wells(rng: np.random.Generator, low: float, worn: float) -> Picture:
    """Shrubland with well pads and lanes: grown over in a wet summer, worn pale in a drought."""
    y, x = _grid()
    group, bright = _shrubs(rng, low, 8.0, 0.8)
    wear = 0.12 + worn * low
    pad = (np.abs(y % 64 - 30) < 9) & (np.abs(x % 128 - 50) < 13)
    pad &= rng.random((8, 4))[y // 64, x // 128] < 0.7
    lane = (y % 64 < 5) | (x % 128 < 5)
    open_ = (pad | lane) & (rng.random((SIDE, SIDE)) < wear)
    group[open_], bright[open_] = 3, 1.0
    tank = pad & (np.abs(y % 64 - 26) < 3) & (np.abs(x % 128 - 44) < 5)
    tank &= rng.random((8, 4))[y // 64, x // 128] < wear
    bright[_shadow(np.where(tank, 5.0, 0.0), 0.8 + low) & ~tank] *= 0.62
    group[tank], bright[tank] = 4, 1.1
    return group, bright


def wells(rng: np.random.Generator, low: float) -> Picture:
    """Well pads that a drought shows a little."""
    return _wells(rng, low, 0.45)


def wells_worn(rng: np.random.Generator, low: float) -> Picture:
    """Well pads that a drought shows plainly."""
    return _wells(rng, low, 0.85)


def shrub_dense(rng: np.random.Generator, low: float) -> Picture:
    """Thicket with gaps."""
    return _shrubs(rng, low, 5.2, 0.85)


def rock(rng: np.random.Generator, low: float) -> Picture:
    """Bare rock: ridges, joints and scree."""
    n = fractal(rng, 5, 11, 23, 50, 110, fall=0.75)
    ridges = 1 - np.abs(fractal(rng, 7, 15, 31))
    height = 3.0 * n + 2.0 * ridges
    bright = 1.0 + 0.13 * _light(height, 1.0) + 0.06 * n + 0.03 * _grain(rng)
    bright[_shadow(height, 0.5 + 0.6 * low)] *= 0.8
    return np.clip(np.floor(n + 1), 0, 2).astype(np.uint8), bright


def gullies(rng: np.random.Generator, low: float) -> Picture:
    """Bare soil: gullies, washed fans and wheel tracks."""
    n = fractal(rng, 3, 7, 16)
    gully = np.abs(fractal(rng, 4, 10, 22)) < 0.10
    bright = 1.0 + 0.09 * n + 0.03 * _grain(rng)
    bright[gully] -= 0.16
    bright[np.roll(gully, (-2, -2), (0, 1)) & ~gully] += 0.09
    track = np.abs(fractal(rng, 2, 5) - 0.4) < 0.02
    bright[track] += 0.15
    return np.clip(np.floor(n * 0.8 + 1), 0, 2).astype(np.uint8), bright


def quarry(rng: np.random.Generator, low: float) -> Picture:
    """Worked ground: pads, haul roads, heaps and pits."""
    y, x = _grid()
    level = rng.integers(0, 4, size=(6, 6))
    wy = (y + np.rint(7 * fractal(rng, 6, 12)).astype(int)) % SIDE
    wx = (x + np.rint(7 * fractal(rng, 6, 12)).astype(int)) % SIDE
    height = level[wy * 6 // SIDE, wx * 6 // SIDE] * 4.0
    heap, _ = _crowns(rng, 32.0, (6.0, 11.0), 0.3)
    height = height + heap
    bright = 1.0 + 0.12 * _light(height, 0.7) + 0.05 * fractal(rng, 8, 20) + 0.03 * _grain(rng)
    bright[_shadow(height, 0.7 + 0.8 * low)] *= 0.66
    road = (np.abs(wy % 128 - 64) < 4) | (np.abs(wx % 170 - 60) < 4)
    bright[road] = (1.14 + 0.03 * _grain(rng))[road]
    group = level[wy * 6 // SIDE, wx * 6 // SIDE].astype(np.uint8) % 3
    return group, bright


def water(rng: np.random.Generator, low: float) -> Picture:
    """Open water: ripples."""
    return np.zeros((SIDE, SIDE), np.uint8), 1 + 0.04 * fractal(rng, 5, 60) + 0.015 * _grain(rng)


def asphalt(rng: np.random.Generator, low: float) -> Picture:
    """Road surface."""
    return np.zeros((SIDE, SIDE), np.uint8), 1 + 0.05 * fractal(rng, 9, 64) + 0.03 * _grain(rng)


# Groups of the town palettes.
STREET, ROOF_DARK, ROOF_RED, ROOF_PALE, LAWN, LEAF, LEAF2, PAVED = range(8)


def _town(
    rng: np.random.Generator, low: float, *, block: tuple[int, int], street: int, lot: int,
    house: tuple[float, float], trees: float, built: float,
) -> Picture:  # fmt: skip
    """Streets round blocks; two rows of lots in a block, a house, a drive and trees on each."""
    y, x = _grid()
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
    bright = 0.97 + 0.05 * fractal(rng, 20, 60) + 0.03 * _grain(rng)
    bright += 0.16 * (pick[5] - 0.5)
    group[drive] = PAVED
    group[on_street] = STREET
    kerb = ~on_street & ((depth == 1) | (depth == 2))
    group[kerb] = PAVED
    height = np.where(roof, 4.5 - np.abs(v) / deep * 3, 0.0)
    on, number = _crowns(rng, 11.0, (2.0, 4.4), trees)
    leaf = (on > 0) & ~roof & ~((iy < 1) | (ix < 1))
    height = np.maximum(height, np.where(leaf, on, 0))
    bright[on_street] = (1 + 0.03 * _grain(rng))[on_street]
    bright[leaf] = (0.92 + 0.15 * _light(on, 1.0) + 0.05 * _grain(rng))[leaf]
    group[leaf] = LEAF + (number[leaf] % 2)
    shadow = _shadow(height, 0.8 + 1.0 * low) & ~roof
    bright[shadow] *= 0.6
    group[roof] = (1 + np.floor(pick[5] * 3).astype(np.uint8))[roof]
    bright[roof] = (1.02 + 0.13 * np.sign(v) + 0.02 * _grain(rng))[roof]
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
    height, number = _crowns(rng, 7.5, (4.6, 6.4), 0.97)
    rough = height + 0.5 * _grain(rng) * (height > 0)
    bare = rng.random(number.max() + 1)[number] < thin * low
    on = (height > 0) & ~(bare & (rng.random(height.shape) < 0.75))
    bright[_shadow(np.where(on, height, 0.0), 0.7 + 1.0 * low) & ~on] *= 0.62
    tone = rng.normal(0, 0.09, size=number.max() + 1)
    bright[on] = (0.92 + 0.16 * _light(rough, 1.0) + tone[number] + 0.05 * _grain(rng))[on]
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
    y, x = _grid()
    bv, bu, street = 128, 128, 10
    by, bx, ly, lx = y // bv, x // bu, y % bv - street, x % bu - street
    on_street = (ly < 0) | (lx < 0)
    pick = rng.random((6, SIDE // bv, SIDE // bu))[:, by, bx]
    w, d = 40 + 45 * pick[0], 30 + 45 * pick[1]
    u, v = lx - (bu - street) * (0.35 + 0.3 * pick[2]), ly - (bv - street) * (0.35 + 0.3 * pick[3])
    roof = (np.abs(u) < w / 2) & (np.abs(v) < d / 2) & ~on_street
    group = np.full((SIDE, SIDE), PAVED, np.uint8)
    bright = 0.86 + 0.04 * fractal(rng, 16, 50) + 0.025 * _grain(rng)
    # cars: 2 x 5 m in double rows along the aisles
    row, place = ly // 9, lx // 3
    parked = rng.random((SIDE // bv, SIDE // bu, 15, 44))
    here = parked[by, bx, np.clip(row, 0, 14), np.clip(place, 0, 43)]
    car = (here < 0.55) & (ly % 9 < 5) & (lx % 3 < 2) & ~on_street & ~roof & (ly > 8) & (lx > 8)
    car &= pick[4] < 0.8
    group[car] = np.where(here[car] < 0.2, ROOF_PALE, np.where(here[car] < 0.4, STREET, ROOF_RED))
    bright[car] = 0.6 + here[car] * 1.2
    green = ~on_street & ((ly < 6) | (lx < 6))
    group[green], bright[green] = LAWN, (0.95 + 0.05 * _grain(rng))[green]
    group[on_street], bright[on_street] = STREET, (1 + 0.03 * _grain(rng))[on_street]
    shadow = _shadow(np.where(roof, 8.0, 0.0), 0.7 + 0.8 * low) & ~roof
    bright[shadow] *= 0.6
    unit = (np.abs(u) % 17 < 2.2) & (np.abs(v) % 14 < 2.2)
    group[roof] = np.where(pick[5] < 0.75, ROOF_PALE, ROOF_DARK)[roof]
    bright[roof] = np.where(unit, 0.75, 1.08 + 0.03 * fractal(rng, 6, 18))[roof]
    return group, bright


TEXTURES: dict[str, Callable[[np.random.Generator, float], Picture]] = {
    "asphalt": asphalt,
    "broadleaf": broadleaf,
    "broadleaf_old": broadleaf_old,
    "commercial": commercial,
    "conifer": conifer,
    "dense": dense,
    "farmsteads": farmsteads,
    "grass": grass,
    "grass_tufts": grass_tufts,
    "gullies": gullies,
    "mixed": mixed,
    "paddocks": paddocks,
    "quarry": quarry,
    "rock": rock,
    "rows_narrow": rows_narrow,
    "rows_wide": rows_wide,
    "shrub": shrub,
    "shrub_dense": shrub_dense,
    "suburb": suburb,
    "suburb_leafy": suburb_leafy,
    "swaths": swaths,
    "water": water,
    "wells": wells,
    "wells_worn": wells_worn,
    "wooded_lots": wooded_lots,
    "wooded_lots_open": wooded_lots_open,
}


def atlas(seed: int, low: float) -> NDArray[np.uint8]:
    """All textures in the order of TEXTURES, (T, SIDE, SIDE) uint8.

    Args:
        low: how low the sun stands, 0 (midsummer noon) to 1 (late autumn): longer shadows. The same
            seed gives the same trees and houses at every sun.
    """
    pictures = []
    for i, draw in enumerate(TEXTURES.values()):
        pictures.append(_pack(*draw(np.random.default_rng([seed, 3, i]), low)))
    return np.stack(pictures)
