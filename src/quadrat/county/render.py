"""Windows of the synthetic county as pictures: ground -> textures -> colours.

A window is a pure function of (seed, size, date, position): windows agree where they meet. It does
not know files or coordinate systems.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quadrat.county import palette, shapes, texture
from quadrat.county.classes import CULTIVATED
from quadrat.county.land import (
    ALL_KINDS,
    CELL,
    I32,
    TABLE,
    VARIANTS,
    Land,
    mix,
    smooth_noise,
)

_MASK = shapes.SIDE - 1
_BITS = shapes.SIDE.bit_length() - 1


class Painter:
    """Paints windows of one land at one date.

    Args:
        atlas: the textures of this date's sun (`texture.atlas`).
    """

    def __init__(
        self, land: Land, date: int, atlas: NDArray[np.uint8], look: palette.Season
    ) -> None:
        self._land, self._date = land, date
        self._atlas = atlas.ravel()
        self._colours = palette.colours(look)
        self._textures, self._materials = _tables()
        rng = np.random.default_rng([land.seed, 5])
        self._patch = _steps(smooth_noise(rng, TABLE, 24) + 0.7 * smooth_noise(rng, TABLE, 60), 1.0)
        rng = np.random.default_rng([land.seed, 6, date])
        self._haze = _steps(smooth_noise(rng, TABLE, 32), 1.0)
        self._strips = rng.integers(-1, 2, size=256).astype(np.int32)

    def window(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Pixels of the window whose corner lies `x` metres east and `y` south, (H, W, 3) uint8.

        All four are multiples of CELL metres.
        """
        xs = np.arange(x, x + width, CELL, dtype=np.int32)[None, :]
        ys = np.arange(y, y + height, CELL, dtype=np.int32)[:, None]
        xs, ys = (np.ascontiguousarray(a) for a in np.broadcast_arrays(xs, ys))
        cells = self._land.cells(xs, ys, self._date)
        layer, lut = self._wear(cells.cls, cells.kind, cells.parcel, xs, ys)
        c = self._land.zone_cos.take(cells.zone, mode="clip")
        s = self._land.zone_sin.take(cells.zone, mode="clip")
        h = cells.parcel.view(np.int32)
        u = xs * c + ys * s + ((h & _MASK) << 8)
        v = ys * c - xs * s + (((h >> 9) & _MASK) << 8)
        out = np.empty((height, width), np.uint32)
        for dy in range(CELL):
            for dx in range(CELL):
                at = ((v + (c * dy - s * dx)) >> 8) & _MASK
                at <<= _BITS
                at |= ((u + (c * dx + s * dy)) >> 8) & _MASK
                at |= layer
                value = self._atlas.take(at)
                out[dy::CELL, dx::CELL] = self._colours.take(lut | value)
        return np.ascontiguousarray(out.view(np.uint8).reshape(height, width, 4)[..., :3])

    def _wear(
        self,
        cls: NDArray[np.uint8],
        kind: NDArray[np.uint8],
        parcel: NDArray[np.uint32],
        xs: I32,
        ys: I32,
    ) -> tuple[I32, I32]:
        """Offsets into the textures and into the colour table, (h, w) int32."""
        h = parcel.view(np.int32)
        variant = (h >> 20) & 7
        # a field changes its crop with the date; nothing else changes its sort
        variant = np.where(cls == CULTIVATED, (variant + 3 * self._date) & 7, variant)
        k = (kind.astype(np.int32) << 3) | variant
        layer = self._textures.take((kind.astype(np.int32) << 3) | ((h >> 23) & 7))
        material = self._materials.take(k)
        at = (((ys >> 3) & 255) << 8) + ((xs >> 3) & 255)
        gain = self._patch.ravel().take(at) + ((h >> 14) & 3)
        slow = (((ys >> 6) & 255) << 8) + ((xs >> 6) & 255)
        # dithered, so that the steps do not show
        grain = (mix((xs * np.int32(7919) + ys * np.int32(104729)).view(np.uint32)) & 31).view(
            np.int32
        )
        fine = self._haze.ravel().take(slow) * 3 + 16 + grain
        strip = (xs + (ys >> 2)) // np.int32(2900)
        gain = gain + (fine >> 5) + self._strips.take(strip & 255) + 5
        np.clip(gain, 0, palette.GAINS - 1, out=gain)
        return layer << (2 * _BITS), (material * palette.GAINS + gain) << 8


def _steps(noise: NDArray[np.float64], step: float) -> I32:
    return np.asarray(np.rint(noise / noise.std() * step), np.int32)


def _tables() -> tuple[I32, I32]:
    """(kind, variant) -> texture and material, each (kinds * VARIANTS,) int32."""
    textures = list(texture.TEXTURES)
    shape = (len(ALL_KINDS), VARIANTS)
    t, m = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    for i, kind in enumerate(ALL_KINDS):
        for v in range(VARIANTS):
            t[i, v] = textures.index(kind.textures[v % len(kind.textures)])
            m[i, v] = palette.NAMES.index(kind.materials[v % len(kind.materials)])
    return t.ravel(), m.ravel()
