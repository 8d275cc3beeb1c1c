"""Pictures of the report, each as a data address: the page reads nothing from anywhere."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quadrat import pages
from quadrat.errors import InputError

EMPTY = 255  # no tile here
STEPS = 100  # of the certainty layer


@dataclass(frozen=True)
class Layer:
    """One layer of the map: an indexed PNG of one pixel a tile.

    Attributes:
        labels: what each index means; `colors` shows it, `#rrggbb`.
        legend: the legend's lines, an index and its words; other indices are in between.
        date: whose imagery lies under it.
    """

    name: str
    about: str
    png: str
    labels: tuple[str, ...]
    colors: tuple[str, ...]
    legend: tuple[tuple[int, str], ...]
    width: int
    height: int
    date: str = ""


def rgb(color: str) -> tuple[int, int, int]:
    """Red, green, blue of `#rrggbb`."""
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", color):
        raise InputError(f"{color!r} is no colour; write it as #rrggbb")
    value = int(color[1:], 16)
    return value >> 16, (value >> 8) & 255, value & 255


def layer(
    name: str,
    about: str,
    ids: NDArray[np.uint8],
    labels: Sequence[str],
    colors: Sequence[str],
    *,
    legend: Sequence[tuple[int, str]] | None = None,
    date: str = "",
) -> Layer:
    """An indexed, transparent-where-empty picture of ids (R, C); EMPTY has no tile."""
    from PIL import Image

    image = Image.fromarray(ids)
    flat = [0] * 768
    for i, color in enumerate(colors):
        flat[3 * i : 3 * i + 3] = rgb(color)
    image.putpalette(flat)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True, transparency=EMPTY)
    listed = tuple(enumerate(labels)) if legend is None else tuple(legend)
    return Layer(
        name, about, pages.data_uri(out.getvalue(), "image/png"), tuple(labels), tuple(colors),
        listed, ids.shape[1], ids.shape[0], date,
    )  # fmt: skip


def certainty(name: str, about: str, probability: NDArray[np.float32]) -> Layer:
    """Probability 0 to 1 in steps of a hundredth, light to dark; NaN where there is no tile."""
    known = np.isfinite(probability)
    ids = np.full(probability.shape, EMPTY, np.uint8)
    ids[known] = np.clip(np.rint(probability[known] * STEPS), 0, STEPS).astype(np.uint8)
    labels = [f"{i}%" for i in range(STEPS + 1)]
    legend = [(i, labels[i]) for i in (0, 25, 50, 75, 100)]
    return layer(name, about, ids, labels, ramp(STEPS + 1), legend=legend)


def ramp(n: int) -> list[str]:
    """N colours from light yellow to dark blue, in steps of like lightness."""
    stops = np.array([[255, 255, 217], [161, 218, 180], [65, 182, 196], [34, 94, 168], [8, 29, 88]])
    at = np.linspace(0, len(stops) - 1, n)
    channels = [np.interp(at, range(len(stops)), stops[:, c]) for c in range(3)]
    return [
        "#{:02x}{:02x}{:02x}".format(*(round(float(v)) for v in c))
        for c in zip(*channels, strict=True)
    ]


def thumbnail(pixels: NDArray[np.uint8], side: int = 160) -> str:
    """A square of a picture as a small JPEG address; (H, W, 3) uint8."""
    from PIL import Image

    image = Image.fromarray(pixels)
    if image.width != side:
        image = image.resize((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=82)
    return pages.data_uri(out.getvalue(), "image/jpeg")
