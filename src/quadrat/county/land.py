"""The ground of the synthetic county: what lies where, at which date. Pure integer arithmetic.

Everything is a function of the seed, the county's size and the position, so that any window gives
the same ground as the whole, to the last bit, on every machine. It does not know colours, pictures
or files.

Positions are whole metres east (`x`) and south (`y`) of the corner of the county's first tile; the
ground is constant on cells of CELL metres. Zones (a jittered lattice, warped) carry one class each
and a direction; parcels (fields, stands, neighbourhoods) divide a zone; roads and a river cross
all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quadrat.county import events
from quadrat.county.classes import (
    BARREN,
    CLASS_NAMES,
    CULTIVATED,
    DEVELOPED,
    FOREST,
    HERBACEOUS,
    SHRUB,
    WATER,
    WETLANDS,
)

CELL = 2  # metres
ZONE_M = 960  # mean width of a zone
PAD = 4  # zones kept around the county, for the margin of the imagery and the warp
TABLE = 256  # side of the periodic noise tables
FIXED = 256  # one, in the fixed-point directions

# Share of the zones that each class gets, in that order.
SHARES = (0.08, 0.17, 0.19, 0.22, 0.12, 0.10, 0.05, 0.07)
# Where each class would rather be: (east, south) pulls, before the whole is turned.
PULLS = (
    (1.2, 1.4), (-0.6, 1.6), (1.6, -0.4), (-1.4, -1.3), (0.1, 0.2), (-1.5, 0.5), (0.3, 0.4),
    (-0.2, -1.0),
)  # fmt: skip
# What lies in patches within a zone of each class: two of the four, as the zone's hash says.
WITHIN = (
    (HERBACEOUS, SHRUB, WATER, DEVELOPED),
    (FOREST, DEVELOPED, HERBACEOUS, WETLANDS),
    (FOREST, HERBACEOUS, FOREST, BARREN),
    (HERBACEOUS, DEVELOPED, WETLANDS, SHRUB),
    (CULTIVATED, FOREST, SHRUB, DEVELOPED),
    (HERBACEOUS, BARREN, FOREST, HERBACEOUS),
    (WETLANDS, WETLANDS, WATER, WATER),
    (WATER, FOREST, HERBACEOUS, FOREST),
)
# Level of the patches' noise (deviation PATCH) above which a patch lies, by two bits of the zone's
# hash: none, about 3%, 9% and 23% of the zone's ground for each of its two sorts.
PATCH = 4096
PATCH_LEVELS = (9.0, 1.9, 1.35, 0.75)

I32 = NDArray[np.int32]
U32 = NDArray[np.uint32]


@dataclass(frozen=True)
class Kind:
    """One sort of parcel.

    Attributes:
        cls: its class.
        code: its NLCD code in the label raster.
        textures: names of the textures that it may wear.
        materials: names of the palettes that it may wear; a field changes its own with the date.
        weight: how many of its class's parcels are of this kind.
    """

    cls: int
    code: int
    textures: tuple[str, ...]
    materials: tuple[str, ...]
    weight: float


KINDS = (
    Kind(BARREN, 31, ("rock",), ("granite", "sandstone"), 0.35),
    Kind(BARREN, 31, ("gullies",), ("clay", "sand"), 0.4),
    Kind(BARREN, 31, ("quarry",), ("granite", "sand", "sandstone"), 0.25),
    Kind(CULTIVATED, 82, ("rows_wide", "rows_narrow"), ("maize", "soy", "maize", "fallow"), 0.6),
    Kind(CULTIVATED, 82, ("rows_narrow", "swaths"), ("wheat", "soy", "cotton", "wheat"), 0.25),
    Kind(CULTIVATED, 81, ("swaths",), ("hay", "hay", "hay", "soy"), 0.15),
    Kind(DEVELOPED, 21, ("suburb_leafy", "farmsteads"), ("town",), 0.35),
    Kind(DEVELOPED, 22, ("suburb",), ("town", "town_dry"), 0.3),
    Kind(DEVELOPED, 23, ("dense",), ("town",), 0.2),
    Kind(DEVELOPED, 24, ("commercial",), ("town", "town_dry"), 0.15),
    Kind(FOREST, 41, ("broadleaf", "broadleaf_old"), ("oak", "maple", "beech"), 0.38),
    Kind(FOREST, 41, ("wooded_lots", "wooded_lots_open"), ("wooded",), 0.22),
    Kind(FOREST, 42, ("conifer",), ("pine", "spruce"), 0.2),
    Kind(FOREST, 43, ("mixed",), ("mixed",), 0.15),
    Kind(HERBACEOUS, 71, ("grass", "grass_tufts"), ("meadow", "prairie", "prairie"), 0.55),
    Kind(HERBACEOUS, 71, ("paddocks",), ("pasture",), 0.35),
    Kind(SHRUB, 52, ("shrub", "shrub_dense"), ("sage", "scrub", "scrub"), 0.6),
    Kind(SHRUB, 52, ("wells", "wells_worn"), ("field",), 0.4),
    Kind(WATER, 11, ("water",), ("lake",), 1.0),
    Kind(WETLANDS, 90, ("swamp", "broadleaf_old"), ("swamp",), 0.6),
    Kind(WETLANDS, 95, ("marsh", "grass_tufts"), ("marsh",), 0.4),
)
ROAD = Kind(DEVELOPED, 21, ("asphalt",), ("road", "gravel"), 0.0)
HEDGE = Kind(CULTIVATED, 82, ("grass_tufts",), ("verge",), 0.0)
ALL_KINDS = (*KINDS, ROAD, HEDGE)
ROAD_ID, HEDGE_ID = len(KINDS), len(KINDS) + 1
VARIANTS = 8
# Parcel sides in metres (along, across) by class.
PARCEL = ((520, 430), (340, 230), (470, 410), (610, 480), (560, 450), (540, 470), (2000, 2000),
          (580, 420))  # fmt: skip


@dataclass(frozen=True)
class Cells:
    """What lies on each cell: arrays of one shape.

    Attributes:
        cls: class id, uint8.
        kind: place in ALL_KINDS, uint8.
        parcel: hash of the parcel, uint32.
        zone: place in the zone table, int32.
    """

    cls: NDArray[np.uint8]
    kind: NDArray[np.uint8]
    parcel: U32
    zone: I32


def mix(h: U32) -> U32:
    """A well-stirred hash of uint32 values (two rounds of xor-shift and multiply), a new array."""
    h = h ^ (h >> np.uint32(16))
    h *= np.uint32(0x7FEB352D)
    h ^= h >> np.uint32(15)
    h *= np.uint32(0x846CA68B)
    h ^= h >> np.uint32(16)
    return h


def smooth_noise(rng: np.random.Generator, size: int, lattice: int) -> NDArray[np.float64]:
    """Periodic noise about 0 with deviation 1, (size, size): `lattice` random points a side."""
    points = rng.standard_normal((lattice, lattice))
    at = np.arange(size) * lattice / size
    i, f = at.astype(int), at % 1
    f = f * f * (3 - 2 * f)
    rows = points[i] * (1 - f)[:, None] + points[(i + 1) % lattice] * f[:, None]
    out = rows[:, i] * (1 - f) + rows[:, (i + 1) % lattice] * f
    return np.asarray((out - out.mean()) / out.std())


def _table(rng: np.random.Generator, amplitude: float, *lattices: int) -> I32:
    total = sum(smooth_noise(rng, TABLE, n) / (k + 1) for k, n in enumerate(lattices))
    return np.asarray(np.rint(total * amplitude / np.std(total)), np.int32)


def _between(tables: list[I32], x: I32, y: I32, bits: int) -> list[I32]:
    """Periodic tables at positions in metres, bilinear between points 2**bits apart, exact."""
    mask = np.int32((1 << bits) - 1)
    ix, iy, fx, fy = x >> bits, y >> bits, x & mask, y & mask
    a, b = (iy & 255) << 8, ((iy + 1) & 255) << 8
    c, d = ix & 255, (ix + 1) & 255
    ac, ad, bc, bd = a + c, a + d, b + c, b + d
    out = []
    for table in tables:
        t = table.ravel()
        top, low = t.take(ac), t.take(bc)
        top += ((t.take(ad) - top) * fx) >> bits
        low += ((t.take(bd) - low) * fx) >> bits
        top += ((low - top) * fy) >> bits
        out.append(top)
    return out


def _assign(rng: np.random.Generator, rows: int, cols: int, angle: float) -> NDArray[np.uint8]:
    """A class for every zone: pulled by a turned gradient, in the shares of SHARES."""
    v, u = np.mgrid[0:rows, 0:cols].astype(np.float64)
    u, v = (u + 0.5) / cols - 0.5, (v + 0.5) / rows - 0.5
    east, south = (
        u * math.cos(angle) - v * math.sin(angle),
        u * math.sin(angle) + v * math.cos(angle),
    )
    score = np.stack([a * east + b * south for a, b in PULLS], axis=-1)
    score += 0.55 * rng.gumbel(size=score.shape)
    price = np.zeros(len(SHARES))
    for step in range(200):  # prices that clear the market: every class gets its share
        got = np.bincount((score + price).argmax(-1).ravel(), minlength=len(SHARES)) / (rows * cols)
        price += (np.array(SHARES) - got) * (2.0 if step < 100 else 0.5)
    return np.asarray((score + price).argmax(-1), np.uint8)


class Land:
    """The ground of one county.

    Args:
        rows, cols: whole tiles of `tile_m` metres that the county holds.
        dates: how many dates; real changes happen between them.
    """

    def __init__(self, seed: int, rows: int, cols: int, dates: int, tile_m: int) -> None:
        self.seed, self.rows, self.cols, self.dates, self.tile_m = seed, rows, cols, dates, tile_m
        rng = np.random.default_rng([seed, 1])
        self._warp = [_table(rng, 150 * 16, 16, 32) for _ in range(2)]
        self._jitter = [_table(rng, 3.0, 64, 128) for _ in range(2)]
        self._patches = [_table(rng, PATCH, 64, 128) for _ in range(2)]
        self._angle = float(rng.uniform(0.25, 0.45))
        self._zones(rng)
        self._lines(rng)
        self._kinds()
        self.events = events.none(rows, cols, tile_m)
        if dates > 1:
            self.events = events.choose(
                self.events, dates, lambda x, y: self._class_at(x, y)[0],
                np.random.default_rng([seed, 2]),
            )  # fmt: skip

    def _zones(self, rng: np.random.Generator) -> None:
        zr = -(-self.rows * self.tile_m // ZONE_M) + 2 * PAD
        zc = -(-self.cols * self.tile_m // ZONE_M) + 2 * PAD
        self._zone_cols = zc
        jitter = rng.integers(-ZONE_M // 4, ZONE_M // 4, size=(2, zr, zc))
        centre = np.mgrid[0:zr, 0:zc] - PAD
        self._zone_y, self._zone_x = (
            (centre * ZONE_M + ZONE_M // 2 + jitter).astype(np.int32).reshape(2, -1)
        )
        cls = np.empty((zr, zc), np.uint8)
        cls[:] = _assign(rng, zr, zc, self._angle)
        inner = _assign(rng, zr - 2 * PAD, zc - 2 * PAD, self._angle)
        cls[PAD:-PAD, PAD:-PAD] = inner
        self.zone_class = cls.ravel()
        angle = rng.uniform(-0.45, 0.45, size=zr * zc)
        self.zone_cos = np.rint(np.cos(angle) * FIXED).astype(np.int32)
        self.zone_sin = np.rint(np.sin(angle) * FIXED).astype(np.int32)
        self._zone_hash = mix(
            np.arange(zr * zc, dtype=np.uint32) * np.uint32(0x9E3779B1) + np.uint32(self.seed)
        )

    def _lines(self, rng: np.random.Generator) -> None:
        def turn(angle: float) -> tuple[int, int]:
            return round(math.cos(angle) * FIXED), round(math.sin(angle) * FIXED)

        a = self._angle
        # direction, spacing, offset in metres: a lattice of roads that is turned and uneven
        self._roads = [
            (*turn(a), 1500, int(rng.integers(200, 700))),
            (*turn(a + math.pi / 2 + 0.12), 2300, int(rng.integers(200, 700))),
        ]
        self._river = (*turn(a + 0.75), 9000)

    def _kinds(self) -> None:
        """Tables from (class, 6 bits of the parcel's hash) to the kind."""
        self._kind_of = np.zeros((len(CLASS_NAMES), 64), np.uint8)
        for cls in range(len(CLASS_NAMES)):
            ids = [i for i, k in enumerate(KINDS) if k.cls == cls]
            share = np.cumsum([KINDS[i].weight for i in ids])
            at = (np.arange(64) + 0.5) / 64 * share[-1]
            self._kind_of[cls] = np.array(ids)[np.searchsorted(share, at)]
        self.code_of = np.array([k.code for k in ALL_KINDS], np.uint8)

    def _warped(self, x: I32, y: I32) -> tuple[I32, I32]:
        """Slow displacements in metres, whole numbers."""
        east, south = _between(self._warp, x, y, 7)
        return east >> 4, south >> 4

    def _class_at(self, x: I32, y: I32) -> tuple[NDArray[np.uint8], I32, I32, I32]:
        """Class before any change, zone, and the slow displacements (for the lines)."""
        wx, wy = self._warped(x, y)
        at = (((y >> 1) & 255) << 8) + ((x >> 1) & 255)
        jx, jy = (table.ravel().take(at) for table in self._jitter)
        zone = self._zone_at(x + wx + jx, y + wy + jy)
        cls = self.zone_class.take(zone, mode="clip")
        self._lay_patches(cls, zone, x + 2 * jx, y + 2 * jy)
        c, s, spacing = self._river
        middle = (self.cols * self.tile_m * c + self.rows * self.tile_m * s) // 2
        t = ((x * np.int32(c) + y * np.int32(s) - np.int32(middle)) >> 8) + 2 * wx - wy
        t = (t + spacing // 2) % np.int32(spacing) - spacing // 2
        cls[np.abs(t) < 22 + (np.abs(wy) >> 3)] = WATER
        return cls, zone, wx, wy

    def _zone_at(self, px: I32, py: I32) -> I32:
        """The zone of displaced positions: the nearest of the four points around.

        A jitter of a quarter of the lattice makes four enough.
        """
        zx, zy = (
            (px + (PAD * ZONE_M - ZONE_M // 2)) // ZONE_M,
            (py + (PAD * ZONE_M - ZONE_M // 2)) // ZONE_M,
        )
        base = zy * np.int32(self._zone_cols) + zx
        best, zone = None, base
        for step in (0, 1, self._zone_cols, self._zone_cols + 1):
            k = base + np.int32(step)
            dx, dy = px - self._zone_x.take(k, mode="clip"), py - self._zone_y.take(k, mode="clip")
            dist = dx * dx + dy * dy
            if best is None:
                best = dist
            else:
                nearer = dist < best
                zone = np.where(nearer, k, zone)
                best = np.minimum(dist, best)
        return zone

    def _lay_patches(self, cls: NDArray[np.uint8], zone: I32, x: I32, y: I32) -> None:
        """Put the patches of other classes into the zones: most plots of real ground are mixed."""
        own = self._zone_hash.take(zone, mode="clip").view(np.int32)
        level = np.rint(np.array(PATCH_LEVELS) * PATCH).astype(np.int32)
        within = np.array(WITHIN, np.uint8).ravel()
        base = cls.astype(np.int32) << 2
        for k, noise in enumerate(_between(self._patches, x, y, 6)):
            bits = own >> np.int32(4 + 4 * k)
            on = noise > level.take(bits & 3)
            cls[on] = within.take(base + ((bits >> 2) & 3))[on]

    def cells(self, x: I32, y: I32, date: int) -> Cells:
        """The ground at positions (whole metres, any shape) at date 0, 1, ...

        Positions are snapped to the corner of their cell, so that a point and a picture agree.
        """
        x, y = x & np.int32(-CELL), y & np.int32(-CELL)
        cls, zone, wx, wy = self._class_at(x, y)
        if date > 0:
            at = (((y >> 2) & 255) << 8) + ((x >> 2) & 255)
            jx, jy = (2 * table.ravel().take(at) for table in reversed(self._jitter))
            events.turn(self.events, cls, x + jx, y + jy, date)
        c, s = self.zone_cos.take(zone, mode="clip"), self.zone_sin.take(zone, mode="clip")
        u, v = (x * c + y * s) >> 8, (y * c - x * s) >> 8
        along = np.array([p[0] for p in PARCEL], np.int32).take(cls)
        across = np.array([p[1] for p in PARCEL], np.int32).take(cls)
        pu, pv = u // along, v // across
        h = self._zone_hash.take(zone, mode="clip")
        h = (
            h
            + pu.view(np.uint32) * np.uint32(0x85EBCA6B)
            + pv.view(np.uint32) * np.uint32(0xC2B2AE35)
        )
        h = mix(h + cls)
        kind = self._kind_of.ravel().take(
            (cls.astype(np.int32) << 6) + (h & np.uint32(63)).view(np.int32)
        )
        edge = np.minimum(u - pu * along, v - pv * across)
        kind[(cls == DEVELOPED) & (edge < 8)] = ROAD_ID
        kind[(cls == CULTIVATED) & (edge < 6)] = HEDGE_ID
        for cc, ss, spacing, offset in self._roads:
            t = (
                ((x * np.int32(cc) + y * np.int32(ss)) >> 8)
                + (wx >> 1)
                + (wy >> 2)
                + np.int32(offset)
            )
            on = t % np.int32(spacing) < 10
            kind[on] = ROAD_ID
            cls[on] = DEVELOPED
        return Cells(cls, kind, h, zone)
