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
from typing import Any

import numpy as np
from numpy.typing import NDArray

CELL = 2  # metres
ZONE_M = 832  # mean width of a zone
PAD = 4  # zones kept around the county, for the margin of the imagery and the warp
TABLE = 256  # side of the periodic noise tables
FIXED = 256  # one, in the fixed-point directions

# The ids of nlcd6, and one more for water, which has no class there.
BARREN, CULTIVATED, DEVELOPED, FOREST, HERBACEOUS, SHRUB, WATER = range(7)
CLASS_NAMES = ("Barren", "Cultivated", "Developed", "Forest", "Herbaceous", "Shrub", "Water")
# Share of the zones that each class gets, in that order.
SHARES = (0.10, 0.21, 0.18, 0.21, 0.14, 0.13, 0.03)
# Where each class would rather be: (east, south) pulls, before the whole is turned.
PULLS = ((1.2, 1.4), (-0.6, 1.6), (1.6, -0.4), (-1.4, -1.3), (0.1, 0.2), (-1.5, 0.5), (0.3, 0.4))

I32 = NDArray[np.int32]
U32 = NDArray[np.uint32]
Ints = NDArray[np.integer[Any]]


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
    Kind(FOREST, 90, ("broadleaf_old",), ("swamp",), 0.05),
    Kind(HERBACEOUS, 71, ("grass", "grass_tufts"), ("meadow", "prairie", "prairie"), 0.55),
    Kind(HERBACEOUS, 71, ("paddocks",), ("pasture",), 0.35),
    Kind(HERBACEOUS, 95, ("grass_tufts",), ("marsh",), 0.1),
    Kind(SHRUB, 52, ("shrub", "shrub_dense"), ("sage", "scrub", "scrub"), 0.6),
    Kind(SHRUB, 52, ("wells", "wells_worn"), ("field",), 0.4),
    Kind(WATER, 11, ("water",), ("lake",), 1.0),
)
ROAD = Kind(DEVELOPED, 21, ("asphalt",), ("road", "gravel"), 0.0)
HEDGE = Kind(CULTIVATED, 82, ("grass_tufts",), ("verge",), 0.0)
ALL_KINDS = (*KINDS, ROAD, HEDGE)
ROAD_ID, HEDGE_ID = len(KINDS), len(KINDS) + 1
VARIANTS = 8
# Parcel sides in metres (along, across) by class.
PARCEL = ((520, 430), (340, 230), (470, 410), (610, 480), (560, 450), (540, 470), (2000, 2000))


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
        self._angle = float(rng.uniform(0.25, 0.45))
        self._zones(rng)
        self._lines(rng)
        self._kinds()
        # -1: as it was; else the class that the tile turns to, and from which date on
        self.new_class = np.full((rows, cols), -1, np.int8)
        self.since = np.full((rows, cols), 127, np.int8)
        if dates > 1:
            self._events(np.random.default_rng([seed, 2]))

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

    def _events(self, rng: np.random.Generator) -> None:
        """Choose the tiles that really change: about one in fifty, in clumps of one to four."""
        side = 9
        for r0 in range(0, self.rows, side):
            for c0 in range(0, self.cols, side):
                height, width = rng.choice([1, 1, 2], size=2)
                rs = rng.integers(r0, r0 + side, size=40)
                cs = rng.integers(c0, c0 + side, size=40)
                pick, since = rng.random(), rng.integers(1, self.dates)
                inside = (rs + height <= self.rows) & (cs + width <= self.cols)
                where = np.flatnonzero(inside)
                if not len(where):
                    continue
                cls = self._clump_class(rs[where], cs[where], int(height), int(width))
                good = np.flatnonzero(cls >= 0)
                if not len(good):
                    continue
                g = good[0]
                new = _new_class(int(cls[g]), float(pick))
                r, c = int(rs[where[g]]), int(cs[where[g]])
                self.new_class[r : r + height, c : c + width] = new
                self.since[r : r + height, c : c + width] = since

    def _clump_class(self, rs: Ints, cs: Ints, height: int, width: int) -> NDArray[np.int64]:
        """The one class that covers the clump of tiles at each place; -1 where it is not one."""
        t = self.tile_m
        dy = np.arange(4, height * t, 20)[:, None]
        dx = np.arange(4, width * t, 20)[None, :]
        y = (rs * t).reshape(-1, 1, 1) + dy
        x = (cs * t).reshape(-1, 1, 1) + dx
        y, x = np.broadcast_arrays(y, x)
        cls = self._class_at(x.astype(np.int32), y.astype(np.int32))[0].reshape(len(rs), -1)
        first = cls[:, cls.shape[1] // 2].astype(np.int64)
        pure = (cls == first[:, None]).mean(1) > 0.97
        able = np.isin(first, list(_TURNS))
        return np.where(pure & able, first, -1)

    def _warped(self, x: I32, y: I32) -> tuple[I32, I32]:
        """Slow displacements in metres (bilinear between points 128 m apart), whole numbers."""
        ix, iy, fx, fy = x >> 7, y >> 7, x & 127, y & 127
        a = (iy & 255) << 8
        b = ((iy + 1) & 255) << 8
        c, d = ix & 255, (ix + 1) & 255
        ac, ad, bc, bd = a + c, a + d, b + c, b + d
        out = []
        for table in self._warp:
            t = table.ravel()
            top, low = t.take(ac), t.take(bc)
            top += ((t.take(ad) - top) * fx) >> 7
            low += ((t.take(bd) - low) * fx) >> 7
            top += ((low - top) * fy) >> 7
            out.append(top >> 4)
        return out[0], out[1]

    def _class_at(self, x: I32, y: I32) -> tuple[NDArray[np.uint8], I32, I32, I32]:
        """Class before any change, zone, and the slow displacements (for the lines)."""
        wx, wy = self._warped(x, y)
        at = (((y >> 1) & 255) << 8) + ((x >> 1) & 255)
        px = x + wx + self._jitter[0].ravel().take(at)
        py = y + wy + self._jitter[1].ravel().take(at)
        # the nearest of the four zone points around; jitter of a quarter makes four enough
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
        cls = self.zone_class.take(zone, mode="clip")
        c, s, spacing = self._river
        middle = (self.cols * self.tile_m * c + self.rows * self.tile_m * s) // 2
        t = ((x * np.int32(c) + y * np.int32(s) - np.int32(middle)) >> 8) + 2 * wx - wy
        t = (t + spacing // 2) % np.int32(spacing) - spacing // 2
        cls[np.abs(t) < 22 + (np.abs(wy) >> 3)] = WATER
        return cls, zone, wx, wy

    def cells(self, x: I32, y: I32, date: int) -> Cells:
        """The ground at positions (whole metres, any shape) at date 0, 1, ...

        Positions are snapped to the corner of their cell, so that a point and a picture agree.
        """
        x, y = x & np.int32(-CELL), y & np.int32(-CELL)
        cls, zone, wx, wy = self._class_at(x, y)
        if date > 0:
            self._change(cls, x, y, date)
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

    def _change(self, cls: NDArray[np.uint8], x: I32, y: I32, date: int) -> None:
        """Turn the class where a real change has happened by `date`; ragged edges, a few metres."""
        at = (((y >> 2) & 255) << 8) + ((x >> 2) & 255)
        col = (x + 2 * self._jitter[1].ravel().take(at)) // np.int32(self.tile_m)
        row = (y + 2 * self._jitter[0].ravel().take(at)) // np.int32(self.tile_m)
        inside = (row >= 0) & (row < self.rows) & (col >= 0) & (col < self.cols)
        k = np.where(inside, row * np.int32(self.cols) + col, 0)
        new = np.where(
            inside & (self.since.ravel().take(k) <= date), self.new_class.ravel().take(k), -1
        )
        turn = (new >= 0) & (cls != WATER)
        cls[turn] = new[turn].astype(np.uint8)


# What a class can turn to, with the odds; the rest of the pick is Developed.
_TURNS: dict[int, tuple[tuple[float, int], ...]] = {
    BARREN: ((1.0, DEVELOPED),),
    CULTIVATED: ((0.85, DEVELOPED), (1.0, HERBACEOUS)),
    FOREST: ((0.65, DEVELOPED), (1.0, HERBACEOUS)),
    HERBACEOUS: ((0.8, DEVELOPED), (0.9, SHRUB), (1.0, CULTIVATED)),
    SHRUB: ((0.8, DEVELOPED), (1.0, BARREN)),
}


def _new_class(old: int, pick: float) -> int:
    return next(new for odds, new in _TURNS[old] if pick <= odds)
