"""The area table as Markdown, CSV and a figure. It knows results, not how they came about."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from quadrat import storage, text
from quadrat.errors import InputError

if TYPE_CHECKING:
    from quadrat.areas import AreaResult, AreaRow

ACRES = 2.4710538146716533  # a hectare, international acres
UNITS = {"hectares": ("ha", 1.0), "acres": ("ac", ACRES)}


def number(value: float | None) -> str:
    """A quantity of area as people read it: no more digits than it has meaning."""
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    return (
        f"{value:,.0f}"
        if size >= 100 or value == 0
        else f"{value:,.1f}"
        if size >= 1
        else f"{value:.2f}"
    )


def markdown(result: AreaResult, units: Sequence[str] = ("hectares", "acres")) -> str:
    """The result as a Markdown document."""
    lines = [f"# {result.title}", ""]
    if not result.adjusted:
        lines += [
            "**Unadjusted**: counted on the map, errors of the map included; there is no interval.",
            "",
        ]
    for unit in units:
        lines += [*_table(result, unit), ""]
    if result.accuracy is not None:
        lines += [*_accuracy(result), ""]
    lines += [f"- {note}" for note in result.notes]
    return "\n".join(lines).rstrip() + "\n"


def _table(result: AreaResult, unit: str) -> list[str]:
    if unit not in UNITS:
        raise InputError(f"no unit {unit!r}; choose {' or '.join(UNITS)}")
    short, factor = UNITS[unit]
    level = f"{result.level:.0%}"
    what = "Change" if len(result.dates) > 1 else "Class"
    tile = (
        "" if result.tile_ha is None else f" (1 tile = {number(result.tile_ha * factor)} {short})"
    )
    lines = [f"Area in {unit}{tile}", ""]
    if result.adjusted:
        lines += [
            f"| {what} | Tiles mapped | Reference tiles | Mapped {short} | Adjusted {short} "
            f"| Standard error | {level} interval | Interval of |",
            "|---|---:|---:|---:|---:|---:|---:|---|",
        ]
    else:
        lines += [f"| {what} | Tiles mapped | Mapped {short}, unadjusted |", "|---|---:|---:|"]
    for row in result.rows:
        cells = [row.name, f"{row.tiles:,}"]
        if row.adjusted is None or row.se_ha is None:
            lines.append(_line([*cells, number(row.raw_ha * factor)]))
            continue
        ends = (number(row.adjusted.low * factor), number(row.adjusted.high * factor))
        cells += [
            f"{row.reference:,}",
            number(row.raw_ha * factor),
            number(row.adjusted.value * factor),
            number(row.se_ha * factor),
            f"{ends[0]} to {ends[1]}",
            row.interval or "",
        ]
        lines.append(_line(cells))
    return lines


def _accuracy(result: AreaResult) -> list[str]:
    found = result.accuracy
    if found is None:
        return []

    def share(figure: Any) -> str:
        if not math.isfinite(figure.value):
            return "–"
        return f"{figure.value:.1%} ({figure.low:.1%} to {figure.high:.1%})"

    lines = [
        f"Overall accuracy {share(found.overall)}, {result.level:.0%} intervals.",
        "",
        "| Class | User's accuracy | Producer's accuracy |",
        "|---|---:|---:|",
    ]
    for name, user, producer in zip(result.strata, found.users, found.producers, strict=True):
        if math.isfinite(user.value) or math.isfinite(producer.value):
            lines.append(_line([name, share(user), share(producer)]))
    return lines


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"


CSV_COLUMNS = (
    "name", "kind", "tiles", "reference_tiles", "mapped_ha", "mapped_ac", "adjusted",
    "area_ha", "se_ha", "low_ha", "high_ha", "area_ac", "se_ac", "low_ac", "high_ac",
    "interval",
)  # fmt: skip


def csv_text(result: AreaResult) -> str:
    """The rows as CSV, full precision; `adjusted` says no where the area is the map's own."""
    rows = []
    for row in result.rows:
        cells: list[Any] = [row.name, row.kind, row.tiles, row.reference]
        cells += [row.raw_ha, row.raw_ha * ACRES]
        if row.adjusted is None or row.se_ha is None:
            cells += ["no", *[""] * 9]
        else:
            values = (row.adjusted.value, row.se_ha, row.adjusted.low, row.adjusted.high)
            cells += ["yes", *values, *(v * ACRES for v in values), row.interval]
        rows.append(cells)
    out = io.StringIO()
    text.write_table(out, CSV_COLUMNS, rows)
    return out.getvalue()


def figure_png(result: AreaResult, colors: Sequence[str] = (), dpi: int = 120) -> bytes:
    """Mapped areas as open marks, adjusted ones as bars with their intervals; PNG bytes."""
    from matplotlib.figure import Figure as Canvas

    rows = _shown(result)
    canvas = Canvas(figsize=(7.5, 1.2 + 0.42 * len(rows)), layout="constrained")
    axes = canvas.subplots()
    hues = dict(zip(result.names, colors, strict=False))
    for at, row in enumerate(rows):
        color = hues.get(row.name, "#4477aa")
        value = row.raw_ha if row.adjusted is None else row.adjusted.value
        axes.barh(at, value, color=color, height=0.62, alpha=0.85, zorder=2)
        if row.adjusted is not None:
            gap = [[value - row.adjusted.low], [row.adjusted.high - value]]
            axes.errorbar(value, at, xerr=gap, fmt="none", ecolor="black", capsize=3, zorder=3)
            axes.plot(row.raw_ha, at, marker="D", mfc="white", mec="black", ls="", ms=5, zorder=4)
    axes.set_yticks(range(len(rows)), [r.name for r in rows])
    axes.invert_yaxis()
    axes.axvline(0, color="black", lw=0.8)
    axes.grid(axis="x", color="#dddddd", zorder=0)
    adjusted = f"adjusted, {result.level:.0%} interval; diamond: as mapped"
    axes.set_xlabel(f"hectares ({adjusted if result.adjusted else 'as mapped, UNADJUSTED'})")
    axes.set_title(result.title, loc="left", fontsize=10)
    out = storage.buffer()
    canvas.savefig(out, format="png", dpi=dpi)
    return bytes(out.getvalue())


def _shown(result: AreaResult) -> list[AreaRow]:
    """What fits a figure: every class, or the changes and the net change a class."""
    if len(result.dates) < 2:
        return list(result.rows)
    return [r for r in result.rows if r.kind in ("transition", "net")][:24]
