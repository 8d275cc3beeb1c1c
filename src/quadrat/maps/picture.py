"""A map as a picture for people: classes in colour, legend, title, scale, north.

It draws arrays; it does not know scores or files of the grid.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import storage
from quadrat.legend import Legend
from quadrat.maps.arrays import NO_TILE

LONG_INCHES = 8.0  # of the longer side of the ground
DPI = 150
INK, PAPER, GROUND = "#222222", "#ffffff", "#f2f2f2"


def picture(
    classes: NDArray[np.uint8],
    legend: Legend,
    *,
    tile_m: float,
    title: str,
    note: str = "",
) -> bytes:
    """A PNG of (R, C) class ids (NO_TILE: no tile), north up.

    Args:
        note: a line of small print below the map.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = classes.shape
    scale = LONG_INCHES / max(height, width)
    high, wide = max(2.2, height * scale), max(3.0, width * scale)
    side, top, bottom = 2.4, 0.55, 0.75
    figure = Figure(figsize=(wide + side, high + top + bottom), dpi=DPI, facecolor=PAPER)
    canvas: Any = FigureCanvasAgg(figure)
    full_w, full_h = wide + side, high + top + bottom
    axes = figure.add_axes(
        (0.15 / full_w, bottom / full_h, (wide - 0.15) / full_w, high / full_h), facecolor=GROUND
    )
    axes.imshow(_coloured(classes, legend), interpolation="nearest", aspect="equal")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#999999")
    axes.set_title(title, loc="left", fontsize=12, color=INK)
    _legend(figure, axes, classes, legend, x=(wide + 0.1) / full_w, y=1 - top / full_h)
    _scale(axes, width, height, tile_m)
    figure.text((wide + 1.9) / full_w, bottom / full_h, "▲\nN", ha="center", color=INK, fontsize=11)
    figure.text(0.15 / full_w, 0.12 / full_h, note, fontsize=7, color="#555555")
    out = storage.buffer()
    # without the program's version, so that the same map is the same file
    canvas.print_png(out, metadata={"Software": None, "Title": title})
    return out.getvalue()


def _coloured(classes: NDArray[np.uint8], legend: Legend) -> NDArray[np.uint8]:
    """(R, C, 4) uint8; nothing where there is no tile."""
    table = np.zeros((256, 4), np.uint8)
    for i, c in enumerate(legend.classes):
        table[i] = (*c.rgb, 255)
    return np.asarray(table[classes])


def _legend(
    figure: Any, axes: Any, classes: NDArray[np.uint8], legend: Legend, *, x: float, y: float
) -> None:
    from matplotlib.patches import Patch

    counts = np.bincount(classes[classes != NO_TILE], minlength=len(legend))
    shares = counts / max(1, counts.sum())
    entries = [
        Patch(facecolor=c.color, edgecolor=INK, linewidth=0.4, label=f"{c.name}  {share:.1%}")
        for c, share in zip(legend.classes, shares, strict=True)
        if share > 0 or len(legend) <= 12
    ]
    if (classes == NO_TILE).any():
        entries.append(Patch(facecolor=GROUND, edgecolor="#999999", linewidth=0.4, label="no tile"))
    box = figure.legend(
        handles=entries, loc="upper left", bbox_to_anchor=(x, y), frameon=False, fontsize=9,
        labelcolor=INK, title="Share of tiles", title_fontsize=9, alignment="left",
    )  # fmt: skip
    box.set_in_layout(False)


def _scale(axes: Any, width: int, height: int, tile_m: float) -> None:
    """A bar of a round length, about a fourth of the map's width, below it."""
    length = round_length(width * tile_m / 4)
    tiles = length / tile_m
    y = height - 0.5 + height * 0.03
    axes.plot(
        [-0.5, tiles - 0.5], [y, y], color=INK, linewidth=2.5, solid_capstyle="butt", clip_on=False
    )
    text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    axes.text(tiles - 0.5 + width * 0.015, y, text, va="center", fontsize=8, color=INK)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


def round_length(metres: float) -> float:
    """The largest 1, 2 or 5 times a power of ten that is not above `metres`."""
    power = 10.0 ** np.floor(np.log10(metres))
    return float(max(m for m in (1, 2, 5) if m * power <= metres * (1 + 1e-9)) * power)
