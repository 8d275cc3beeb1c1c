"""Charts of the report as inline SVG, each with a title and a description in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from quadrat.areas.tables import number
from quadrat.metrics import Calibration, Estimate
from quadrat.reports.markup import swatch, text

INK, GRID, BLUE = "#222222", "#dddddd", "#2166ac"
WIDE = 1.25


def _svg(
    width: int, height: int, title: str, about: str, body: Sequence[str], *, scale: float = 1.0
) -> str:
    """The chart; `scale` is how much larger than its units it is shown where there is room."""
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(about, quote=True)}" '
        f'class="chart" width="{round(width * scale)}"><title>{escape(title)}</title>'
        f"{''.join(body)}</svg>"
    )


def _text(x: float, y: float, words: str, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="{INK}">{text(words)}</text>'
    )


def _line(
    x1: float, y1: float, x2: float, y2: float, color: str = GRID, *, width: float = 1
) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" '
        f'stroke-width="{width}"/>'
    )


def reliability(found: Calibration) -> str:
    """Accuracy against confidence, a dot a bin; bars below count its tiles."""
    left, top, side, foot = 68, 12, 300, 60
    body = []
    for i in range(6):
        v = i / 5
        x, y = left + v * side, top + (1 - v) * side
        body += [_line(left, y, left + side, y), _line(x, top, x, top + side)]
        body.append(_text(left - 8, y + 4, f"{v:.0%}", "end"))
        body.append(_text(x, top + side + foot + 18, f"{v:.0%}", "middle"))
    body.append(_line(left, top + side, left + side, top, "#888888", width=1.5))
    most = max(int(found.count.max()), 1)
    width = side / len(found.count)
    words = []
    for i, n in enumerate(found.count):
        tall = (foot - 8) * float(n) / most
        body.append(
            f'<rect x="{left + i * width + 1:.1f}" y="{top + side + foot - tall:.1f}" '
            f'width="{width - 2:.1f}" height="{tall:.1f}" fill="#9ecae1"/>'
        )
        conf, acc = float(found.confidence[i]), float(found.accuracy[i])
        if n and math.isfinite(conf):
            x, y = left + conf * side, top + (1 - acc) * side
            body.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{BLUE}"/>')
            words.append(f"{conf:.0%} stated, {acc:.0%} right, {int(n)} tiles")
    body.append(_text(left + side / 2, top + side + foot + 36, "stated probability", "middle"))
    body.append(
        f'<text transform="translate(14 {top + side / 2}) rotate(-90)" text-anchor="middle" '
        f'font-size="12" fill="{INK}">share right</text>'
    )
    about = "Reliability diagram. " + "; ".join(words) + "."
    return _svg(left + side + 16, top + side + foot + 44, "Reliability", about, body)


def bars(
    names: Sequence[str],
    colors: Sequence[str],
    figures: Sequence[Estimate],
    unit: str,
    about: str,
) -> str:
    """A bar a class from 0 to its value, and its interval."""
    left, right, step, top = 110, 20, 28, 8
    width, height = 500, top + step * len(names) + 40
    ends = [0.0, *(v for f in figures for v in (f.value, f.low, f.high))]
    low, high = min(v for v in ends if math.isfinite(v)), max(v for v in ends if math.isfinite(v))
    span = (high - low) or 1.0

    def at(value: float) -> float:
        return left + (value - low) / span * (width - left - right)

    body = []
    for tick in _ticks(low, high):
        body += [_line(at(tick), top, at(tick), height - 34)]
        body.append(_text(at(tick), height - 18, number(tick), "middle"))
    for i, name in enumerate(names):
        y, figure = top + step * i + step / 2, figures[i]
        x0, x1 = sorted((at(0.0), at(figure.value)))
        body.append(_text(left - 8, y + 4, _short(name), "end"))
        body.append(
            f'<rect x="{x0:.1f}" y="{y - 9:.1f}" width="{x1 - x0:.1f}" height="18" '
            f'fill="{escape(colors[i], quote=True)}" stroke="{INK}" stroke-width="0.5"/>'
        )
        if math.isfinite(figure.low):
            a, b = at(figure.low), at(figure.high)
            body += [_line(a, y, b, y, INK, width=1.5), _line(a, y - 5, a, y + 5, INK, width=1.5)]
            body.append(_line(b, y - 5, b, y + 5, INK, width=1.5))
    body.append(_line(at(0.0), top, at(0.0), height - 34, INK))
    body.append(_text((left + width - right) / 2, height - 3, unit, "middle"))
    return _svg(width, height, unit, about, body, scale=WIDE)


def _short(name: str) -> str:
    return name if len(name) <= 16 else name[:15] + "…"


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers between."""
    span = high - low
    if span <= 0:
        return [low]
    step = 10.0 ** math.floor(math.log10(span))
    for factor in (0.2, 0.25, 0.5, 1.0, 2.0):
        if span / (step * factor) <= 7:
            step *= factor
            break
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def curves(
    dates: Sequence[str],
    names: Sequence[str],
    colors: Sequence[str],
    areas: Sequence[Sequence[Estimate]],
    *,
    factor: float,
    unit: str,
) -> str:
    """A line a class over the dates, with its interval as a bar at each."""
    left, right, top, width, height = 52, 112, 12, 520, 280
    values = [f.value * factor for day in areas for f in day]
    high = max([*values, *(f.high * factor for d in areas for f in d if math.isfinite(f.high)), 1])

    def x(t: int) -> float:
        return left + t * (width - left - right) / max(len(dates) - 1, 1)

    def y(v: float) -> float:
        return top + (1 - v / high) * (height - top - 40)

    body = []
    for tick in _ticks(0.0, high):
        body += [_line(left, y(tick), width - right, y(tick))]
        body.append(_text(left - 6, y(tick) + 4, number(tick), "end"))
    for t, date in enumerate(dates):
        body.append(_text(x(t), height - 20, date, "middle"))
    taken: list[float] = []
    order = sorted(range(len(names)), key=lambda k: -areas[-1][k].value)
    for k in order:
        points = [(x(t), y(day[k].value * factor)) for t, day in enumerate(areas)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        color = escape(colors[k], quote=True)
        body.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="3"/>')
        for t, day in enumerate(areas):
            if math.isfinite(day[k].low):
                ends = (y(day[k].low * factor), y(day[k].high * factor))
                body.append(_line(x(t), ends[0], x(t), ends[1], INK, width=1.5))
        place = points[-1][1]
        while any(abs(place - other) < 15 for other in taken):
            place += 15
        taken.append(place)
        body.append(_text(width - right + 10, place + 4, _short(names[k])))
    body.append(_text((left + width - right) / 2, height - 3, unit, "middle"))
    about = "; ".join(
        f"{n}: "
        + ", ".join(f"{d} {number(a[k].value * factor)}" for d, a in zip(dates, areas, strict=True))
        for k, n in enumerate(names)
    )
    return _svg(width, height, unit, f"{unit}. {about}.", body, scale=WIDE)


def plots(
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    read: Sequence[str],
    colors: Mapping[str, str],
    title: str,
) -> str:
    """Where plots lie, a dot each in the colour of what it is, and what the colours mean.

    Args:
        rows, cols: (n,) tile ids. read: (n,) what each plot is, a key of `colors`.
        colors: `#rrggbb`, or `none` for a dot that is not filled.
    """
    across, down = float(np.ptp(cols)) + 1, float(np.ptp(rows)) + 1
    scale = min(600 / across, 420 / down)
    width, height = across * scale + 24, down * scale + 24
    body = [
        f'<rect x="0.5" y="0.5" width="{width - 1:.1f}" height="{height - 1:.1f}" fill="#fafafa" '
        f'stroke="{GRID}"/>'
    ]
    for r, c, what in zip(rows.tolist(), cols.tolist(), read, strict=True):
        x, y = 12 + (c - cols.min() + 0.5) * scale, 12 + (r - rows.min() + 0.5) * scale
        fill = colors[what]
        ink = "#777777" if fill == "none" else "#222222"
        body.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{escape(fill, quote=True)}" '
            f'stroke="{ink}" stroke-width="0.7"/>'
        )
    counts = {what: read.count(what) for what in colors if what in read}
    said = "; ".join(f"{what} {n}" for what, n in counts.items())
    key = "".join(
        f"<li>{swatch(colors[what])}{text(what)} ({n:,})</li>" for what, n in counts.items()
    )
    chart = _svg(round(width), round(height), title, f"{title}: {said}.", body)
    return f'{chart}<ul class="legend" aria-label="What the plots are">{key}</ul>'
