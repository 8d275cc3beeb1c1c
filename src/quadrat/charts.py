"""Charts as PNG: confusion matrices, runs compared, tiles on the ground.

Matplotlib without its global state. It draws numbers; it does not know scores or runs.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat.legend import Legend

# Okabe and Ito's colours, told apart with the common colour-vision deficiencies.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#f0e442", "#000000")
DASHES = ("-", "--", "-.", ":")


def confusion(names: Sequence[str], matrix: Sequence[Sequence[int]], title: str) -> bytes:
    """A confusion matrix as PNG: counts, shaded by the share of each true class.

    Args:
        matrix: (K, K); rows = truth, columns = prediction.
    """
    from matplotlib.figure import Figure

    k = len(names)
    side = 2.5 + 0.55 * k
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    sums = [max(1, sum(row)) for row in matrix]
    shares = [[n / s for n in row] for row, s in zip(matrix, sums, strict=True)]
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, row in enumerate(matrix):
        for j, n in enumerate(row):
            color = "white" if shares[i][j] > 0.55 else "black"
            axes.text(j, i, f"{n:,}", ha="center", va="center", color=color, fontsize=8)
    axes.set_xticks(range(k), names, rotation=45, ha="right")
    axes.set_yticks(range(k), names)
    axes.set_xlabel("prediction (map)")
    axes.set_ylabel("truth (reference)")
    axes.set_title(title)
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    return _png(figure)


def comparison(
    labels: Sequence[str],
    metrics: Mapping[str, Sequence[float | None]],
    curves: Mapping[str, Sequence[Sequence[tuple[int, float]]]],
) -> bytes:
    """Runs side by side as PNG: bars of the figures between 0 and 1, and curves by epoch.

    Args:
        labels: one a run.
        metrics: name -> one value a run.
        curves: name -> for each run its points (epoch, value).
    """
    from matplotlib.figure import Figure

    bars = {
        n: v
        for n, v in metrics.items()
        if n != "seconds" and all(x is None or 0 <= x <= 1 for x in v)
    }
    panels = (1 if bars else 0) + len(curves)
    columns = min(3, max(1, len(curves)))
    rows = (1 if bars else 0) + -(-len(curves) // columns)
    width = max(7.0, 4.2 * columns, 0.5 + len(bars) * (0.5 + 0.18 * len(labels)))
    figure = Figure(figsize=(min(width, 24), 3.4 * max(1, rows)), layout="constrained")
    grid = figure.add_gridspec(max(1, rows), columns)
    if bars:
        _draw_bars(figure.add_subplot(grid[0, :]), labels, bars)
    for i, (name, runs) in enumerate(curves.items()):
        row, column = divmod(i, columns)
        _draw_curves(figure.add_subplot(grid[row + (1 if bars else 0), column]), name, runs)
    handles = [_swatch(label, COLORS[i % len(COLORS)]) for i, label in enumerate(labels)]
    if panels:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(labels)))
    return _png(figure)


def tiles(
    rows: NDArray[np.integer[Any]],
    cols: NDArray[np.integer[Any]],
    classes: NDArray[np.integer[Any]],
    legend: Legend,
    title: str,
) -> bytes:
    """Tiles where they lie, in their classes' colours, north up, as PNG.

    Args:
        rows, cols: (N,) on the grid. classes: (N,) ids.
    """
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure

    r, c = rows - rows.min(), cols - cols.min()
    picture = np.ones((int(r.max()) + 1, int(c.max()) + 1, 3))
    picture[r, c] = np.array([to_rgb(k.color) for k in legend.classes])[classes]
    high, wide = picture.shape[:2]
    scale = 5.0 / max(high, wide)
    figure = Figure(figsize=(max(2.5, wide * scale) + 2.2, max(2.0, high * scale) + 0.6),
                    layout="constrained")  # fmt: skip
    axes = figure.add_subplot()
    axes.imshow(picture, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)
    counts = np.bincount(classes, minlength=len(legend))
    marks = [
        _swatch(f"{k.name}  {n / len(classes):.0%}", k.color)
        for k, n in zip(legend.classes, counts, strict=True) if n
    ]  # fmt: skip
    figure.legend(handles=marks, loc="outside right upper", frameon=False, fontsize=8)
    return _png(figure)


def _draw_bars(
    axes: Any, labels: Sequence[str], bars: Mapping[str, Sequence[float | None]]
) -> None:
    width = 0.8 / len(labels)
    for i in range(len(labels)):
        places = [p + (i + 0.5) * width - 0.4 for p in range(len(bars))]
        heights = [0.0 if v[i] is None else v[i] for v in bars.values()]
        drawn = axes.bar(places, heights, width, color=COLORS[i % len(COLORS)])
        if len(bars) * len(labels) <= 24:
            marks = ["" if v[i] is None else f"{v[i]:.3f}" for v in bars.values()]
            axes.bar_label(drawn, marks, fontsize=7, padding=1)
    short = [name.replace("/classes", "").replace("/", "\n") for name in bars]
    axes.set_xticks(range(len(bars)), short, fontsize=8)
    axes.set_ylim(0, 1.08)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)


def _draw_curves(axes: Any, name: str, runs: Sequence[Sequence[tuple[int, float]]]) -> None:
    from matplotlib.ticker import MaxNLocator

    for i, points in enumerate(runs):
        if points:
            steps, values = zip(*points, strict=True)
            # dashes too: curves that lie on each other stay visible, and so without colour
            dash = DASHES[i % len(DASHES)]
            axes.plot(steps, values, dash, marker=".", color=COLORS[i % len(COLORS)])
    axes.set_title(name.removeprefix("epoch/"), fontsize=9)
    axes.set_xlabel("epoch", fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)


def _swatch(label: str, color: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=color, label=label)


def _png(figure: Any) -> bytes:
    memory = io.BytesIO()
    figure.savefig(memory, format="png", dpi=130)
    return memory.getvalue()
