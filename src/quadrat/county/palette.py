"""Colours of the synthetic county: what each material looks like in summer and in a dry autumn.

A palette has a colour for each of a texture's eight groups. Between the seasons every material
changes in its own way (oak browns, pine stays, wheat turns to stubble, grass bleaches), and every
date has its own camera and haze; the figures are near those of aerial pictures of one place in two
seasons. It does not know the ground.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quadrat.county.shapes import LEVELS, LOW, STEP

RGB = tuple[int, int, int]
GAINS = 16  # brightness steps of the ground itself, about NEUTRAL_GAIN
GAIN_STEP = 0.03
NEUTRAL_GAIN = 7.5


@dataclass(frozen=True)
class Material:
    """Colours of the groups 0, 1, ... in summer and autumn; the last stands for all that follow."""

    summer: tuple[RGB, ...]
    autumn: tuple[RGB, ...]


_TOWN = ((118, 118, 120), (96, 90, 88), (140, 98, 84), (205, 203, 198))
_LEAVES = ((74, 100, 60), (64, 92, 58))
_TURNED = ((150, 120, 64), (120, 104, 66))

MATERIALS: dict[str, Material] = {
    "beech": Material(
        ((70, 98, 58), (76, 104, 60), (66, 94, 60), (78, 104, 64), (70, 100, 56)),
        ((168, 128, 70), (176, 140, 78), (150, 112, 70), (140, 124, 72), (184, 150, 84)),
    ),
    "clay": Material(
        ((176, 128, 96), (188, 142, 108), (198, 156, 124)),
        ((186, 146, 112), (196, 158, 124), (206, 170, 138)),
    ),
    "cotton": Material(((96, 122, 70), (150, 124, 92)), ((196, 188, 172), (166, 140, 112))),
    "fallow": Material(((158, 136, 106), (146, 120, 92)), ((176, 160, 128), (164, 140, 110))),
    "granite": Material(
        ((138, 134, 130), (156, 152, 146), (172, 168, 162)),
        ((146, 140, 130), (162, 156, 144), (180, 174, 162)),
    ),
    "field": Material(
        ((134, 140, 92), (144, 142, 98), (140, 140, 94), (168, 160, 132), (200, 198, 192),
         (72, 96, 60), (66, 90, 60), (66, 90, 60)),
        ((170, 156, 112), (176, 160, 118), (196, 182, 148), (206, 198, 178), (208, 206, 200),
         (126, 110, 74), (106, 100, 68), (106, 100, 68)),
    ),
    "gravel": Material(((186, 176, 156),), ((196, 188, 168),)),
    "hay": Material(
        ((120, 140, 82), (126, 140, 86), (148, 156, 96)),
        ((150, 152, 104), (158, 156, 112), (184, 176, 128)),
    ),
    "lake": Material(((44, 66, 74),), ((62, 78, 72),)),
    "maize": Material(((84, 118, 62), (140, 122, 84)), ((186, 164, 118), (166, 140, 104))),
    "maple": Material(
        ((68, 98, 58), (74, 104, 58), (64, 94, 58), (70, 100, 62), (60, 90, 58)),
        ((176, 104, 60), (190, 132, 62), (160, 92, 62), (126, 112, 68), (196, 150, 70),
         (150, 120, 90), (110, 100, 64), (136, 128, 112)),
    ),
    "marsh": Material(
        ((92, 112, 74), (110, 118, 80), (70, 90, 72), (50, 70, 76)),
        ((140, 130, 92), (156, 140, 100), (104, 104, 84), (68, 82, 76)),
    ),
    "meadow": Material(
        ((122, 140, 86), (132, 144, 92), (164, 154, 120), (120, 136, 84), (120, 136, 84),
         _LEAVES[0], _LEAVES[1], _LEAVES[1]),
        ((164, 158, 108), (176, 164, 116), (190, 176, 142), (164, 156, 108), (164, 156, 108),
         _TURNED[0], _TURNED[1], _TURNED[1]),
    ),
    "mixed": Material(
        ((70, 98, 58), (74, 102, 58), (66, 94, 58), (70, 98, 60), (62, 88, 58),
         (48, 76, 54), (46, 74, 54), (44, 70, 54)),
        ((166, 118, 68), (178, 138, 72), (146, 110, 74), (136, 122, 98), (120, 108, 66),
         (58, 82, 54), (54, 78, 54), (52, 74, 54)),
    ),
    "oak": Material(
        ((66, 96, 56), (70, 100, 56), (62, 90, 56), (72, 100, 62), (66, 94, 58)),
        ((140, 104, 68), (154, 120, 76), (128, 100, 72), (116, 112, 68), (168, 134, 78),
         (134, 122, 104), (104, 104, 62), (146, 112, 70)),
    ),
    "pasture": Material(
        ((124, 142, 88), (134, 144, 94), (150, 150, 104), (124, 142, 88), (196, 194, 188),
         _LEAVES[0], _LEAVES[1], _LEAVES[1]),
        ((172, 160, 116), (182, 166, 126), (206, 194, 164), (172, 160, 116), (206, 204, 198),
         _TURNED[0], _TURNED[1], _TURNED[1]),
    ),
    "pine": Material(
        ((52, 80, 56), (48, 76, 54), (58, 86, 58)),
        ((62, 88, 56), (58, 84, 54), (70, 92, 58)),
    ),
    "prairie": Material(
        ((140, 146, 92), (150, 148, 98), (168, 156, 122), (136, 142, 92), (136, 142, 92),
         _LEAVES[0], _LEAVES[1], _LEAVES[1]),
        ((180, 166, 120), (190, 172, 128), (196, 180, 146), (178, 164, 120), (178, 164, 120),
         _TURNED[0], _TURNED[1], _TURNED[1]),
    ),
    "road": Material(((126, 126, 128),), ((140, 138, 136),)),
    "sage": Material(
        ((158, 148, 114), (146, 142, 104), (150, 146, 110), (150, 146, 110), (150, 146, 110),
         (92, 108, 84), (84, 102, 78), (84, 102, 78)),
        ((176, 160, 126), (166, 152, 118), (202, 188, 158), (170, 156, 122), (170, 156, 122),
         (118, 118, 94), (110, 110, 88), (110, 110, 88)),
    ),
    "sand": Material(
        ((198, 180, 146), (208, 190, 156), (216, 200, 170)),
        ((206, 190, 156), (214, 198, 166), (222, 208, 180)),
    ),
    "sandstone": Material(
        ((172, 146, 118), (184, 158, 130), (196, 172, 146)),
        ((180, 158, 128), (192, 168, 140), (202, 182, 154)),
    ),
    "scrub": Material(
        ((134, 140, 92), (144, 142, 98), (140, 140, 94), (140, 140, 94), (140, 140, 94),
         (72, 96, 60), (66, 90, 60), (66, 90, 60)),
        ((170, 156, 112), (176, 160, 118), (204, 188, 152), (172, 158, 114), (172, 158, 114),
         (126, 110, 74), (106, 100, 68), (106, 100, 68)),
    ),
    "soy": Material(((104, 136, 66), (146, 128, 88)), ((168, 148, 104), (156, 134, 104))),
    "spruce": Material(
        ((46, 74, 56), (44, 70, 54), (52, 80, 58)),
        ((54, 80, 56), (52, 76, 54), (62, 84, 58)),
    ),
    "swamp": Material(
        ((58, 86, 62), (64, 92, 62), (54, 78, 62), (44, 58, 60)),
        ((112, 100, 78), (128, 112, 80), (96, 92, 76), (60, 68, 64)),
    ),
    "town": Material(
        (*_TOWN, (108, 134, 78), *_LEAVES, (184, 180, 172)),
        (*_TOWN, (150, 148, 102), *_TURNED, (190, 186, 176)),
    ),
    "town_dry": Material(
        (*_TOWN, (136, 142, 92), *_LEAVES, (178, 172, 160)),
        (*_TOWN, (172, 160, 116), *_TURNED, (186, 178, 164)),
    ),
    "verge": Material(
        ((98, 122, 72), (112, 128, 78), (84, 108, 64)),
        ((146, 138, 94), (160, 146, 104), (120, 116, 80)),
    ),
    "wooded": Material(
        (*_TOWN, (92, 112, 68), (70, 98, 58), (66, 96, 56), (72, 100, 60)),
        (*_TOWN, (150, 138, 98), (150, 116, 72), (140, 106, 68), (124, 108, 68)),
    ),
    "wheat": Material(((196, 174, 116), (170, 146, 106)), ((112, 132, 74), (150, 132, 96))),
}  # fmt: skip
NAMES = tuple(MATERIALS)


@dataclass(frozen=True)
class Season:
    """One date's look.

    Attributes:
        autumn: 0 summer to 1 dry autumn.
        gain, haze: the camera, a band: value * gain + haze.
    """

    autumn: float
    gain: tuple[float, float, float]
    haze: tuple[float, float, float]


def season(seed: int, date: int) -> Season:
    """Date 0 is a hazy summer, date 1 a dry autumn; later dates alternate, no two alike."""
    rng = np.random.default_rng([seed, 4, date])
    autumn = date % 2
    base = (
        ((0.86, 0.94, 0.92), (16.0, 18.0, 30.0))
        if not autumn
        else ((0.98, 0.98, 0.96), (4.0, 4.0, 6.0))
    )
    share, gain, haze = 0.0, np.array(base[0]), np.array(base[1])
    share = float(autumn)
    if date > 1:
        share = float(np.clip(autumn + rng.normal(0, 0.15), 0, 1))
        gain, haze = gain * rng.normal(1, 0.03, 3), haze + rng.normal(0, 3, 3)
    return Season(share, tuple(gain.tolist()), tuple(haze.tolist()))


def colours(look: Season) -> NDArray[np.uint32]:
    """The table (material, gain, group and level) -> colour, (M * GAINS * 256,) uint32.

    The four bytes of an entry are red, green, blue and nothing, in that order in memory.
    """
    groups = 256 // LEVELS
    light = LOW + STEP * np.arange(LEVELS)
    gain = 1 + GAIN_STEP * (np.arange(GAINS) - NEUTRAL_GAIN)
    out = np.zeros((len(MATERIALS), GAINS, groups, LEVELS, 4), np.uint8)
    for m, material in enumerate(MATERIALS.values()):
        summer, autumn = (_filled(c, groups) for c in (material.summer, material.autumn))
        own = summer * (1 - look.autumn) + autumn * look.autumn  # (groups, 3)
        f = gain[:, None, None] * light  # (GAINS, 1, LEVELS)
        rgb = own[None, :, None, :] * f[..., None]
        # light in the shade comes from the sky: bluer
        rgb *= 1 + np.clip(1 - light, 0, 1)[:, None] * np.array([-0.10, 0.0, 0.22])
        out[m, ..., :3] = np.clip(np.rint(rgb * look.gain + look.haze), 0, 255)
    return np.ascontiguousarray(out).view(np.uint32).ravel()


def _filled(groups: Sequence[RGB], n: int) -> NDArray[np.float64]:
    return np.array([groups[min(i, len(groups) - 1)] for i in range(n)], np.float64)
