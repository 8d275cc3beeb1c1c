"""Areas as data, and as Markdown, CSV and a picture. It does not know how they came about."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quadrat import storage, text
from quadrat.areas.estimate import Accuracy
from quadrat.errors import InputError
from quadrat.metrics import Estimate
from quadrat.shown import shown

ACRES = 2.4710538146716533  # a hectare, international acres
NOT_ESTIMABLE = "not estimable"
UNITS = {"hectares": ("ha", 1.0), "acres": ("ac", ACRES)}


@dataclass(frozen=True)
class AreaRow:
    """One line of the table.

    Attributes:
        kind: `class`, `transition` (from one class to another), `stable` (a class that stayed),
            `gain`, `loss` or `net` (a class's gain less its loss).
        tiles: tiles mapped so (net: mapped gain less loss).
        reference: reference tiles mapped so.
        raw_ha: hectares as mapped.
        adjusted: hectares adjusted for the map's errors; None where it was not asked for.
        interval: which interval that is, `Wald`, `Student's t` or `Clopper-Pearson` (see
            `areas.intervals`), or `not estimable`.
        estimator: how it was estimated, for rows of an interpreted sample; and with these:
        plots: answered plots. found: those of them that hold any of the row's ground.
        design_effect: variance over that of as many plots drawn at random from all tiles.
        plain_se_ha: standard error of the plots alone.
        interpreters_se_ha: the part of the standard error that is between interpreters.
    """

    name: str
    kind: str
    tiles: int
    reference: int
    raw_ha: float
    adjusted: Estimate | None
    se_ha: float | None
    interval: str | None = None
    estimator: str | None = None
    plots: int | None = None
    found: int | None = None
    design_effect: float | None = None
    plain_se_ha: float | None = None
    interpreters_se_ha: float | None = None

    @property
    def tighter(self) -> str | None:
        """Which has the smaller standard error: the row's estimator, or the plots alone."""
        if self.se_ha is None or self.plain_se_ha is None or self.estimator == "direct":
            return None
        return str(self.estimator) if self.se_ha < self.plain_se_ha else "direct"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "name": self.name,
            "kind": self.kind,
            "tiles": self.tiles,
            "reference_tiles": self.reference,
            "mapped_ha": self.raw_ha,
            "adjusted_ha": None if self.adjusted is None else self.adjusted.to_dict(),
            "se_ha": self.se_ha,
            "interval": self.interval,
            **(self._of_sample() if self.plots is not None else {}),
        }

    def _of_sample(self) -> dict[str, Any]:
        return {
            "estimator": self.estimator,
            "plots": self.plots,
            "plots_with_it": self.found,
            "design_effect": self.design_effect,
            "plots_alone_se_ha": self.plain_se_ha,
            "interpreters_se_ha": self.interpreters_se_ha,
            "tighter": self.tighter,
        }


@shown
@dataclass(frozen=True)
class AreaResult:
    """Areas of one date's classes, or of the changes between two dates.

    Attributes:
        dates: one or two.
        names: the legend's classes; `strata` names the map classes or transitions that `accuracy`
            is about.
        adjusted: False when areas are the map's own, errors included.
        tile_ha: mean ground area of the tiles; None where areas do not come from tiles.
        unlisted_ha: upper end of the interval of any transition that was neither mapped nor found,
            which has no row; None where there is none.
        estimand: `ground` or `plots` (by main class).
        survey: of an interpreted sample: design, answers and nonresponse by stratum.
        notes: what a reader must know: where references came from, what was pooled.
        files: what was written, by kind.
    """

    title: str
    dates: tuple[str, ...]
    names: tuple[str, ...]
    strata: tuple[str, ...]
    colors: tuple[str, ...]
    adjusted: bool
    tile_ha: float | None
    total_ha: float
    level: float
    rows: tuple[AreaRow, ...]
    accuracy: Accuracy | None
    notes: tuple[str, ...]
    files: dict[str, str]
    unlisted_ha: float | None = None
    estimand: str | None = None
    survey: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "title": self.title,
            "dates": list(self.dates),
            "adjusted": self.adjusted,
            "tile_ha": self.tile_ha,
            "total_ha": self.total_ha,
            "level": self.level,
            "rows": [r.to_dict() for r in self.rows],
            "strata": list(self.strata),
            "accuracy": None if self.accuracy is None else self.accuracy.to_dict(),
            "unlisted_ha": self.unlisted_ha,
            "estimand": self.estimand,
            "survey": None if self.survey is None else dict(self.survey),
            "notes": list(self.notes),
            "files": dict(self.files),
        }

    def to_markdown(self) -> str:
        """The tables in hectares and acres, with notes."""
        return markdown(self)


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
        table = _table if result.survey is None else _survey_table
        lines += [*table(result, unit), ""]
    if result.survey is not None:
        lines += [*_response(result.survey), ""]
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


def _survey_table(result: AreaResult, unit: str) -> list[str]:
    """Rows of an interpreted sample: which estimator, what it is worth, and parts of its error."""
    several = len((result.survey or {}).get("interpreters", ())) > 1
    if unit not in UNITS:
        raise InputError(f"no unit {unit!r}; choose {' or '.join(UNITS)}")
    short, factor = UNITS[unit]
    what = "Change" if len(result.dates) > 1 else "Class"
    lines = [
        f"Area in {unit}",
        "",
        f"| {what} | Plots with it | Mapped {short} | Estimate {short} | Standard error "
        f"| of it, between interpreters | {result.level:.0%} interval | Interval of | Estimator "
        "| Standard error, plots alone | Design effect |",
        "|---|---:|---:|---:|---:|---:|---:|---|---|---:|---:|",
    ]
    for row in result.rows:
        cells = [row.name, f"{row.found or 0:,}", number(row.raw_ha * factor)]
        if row.adjusted is None or row.se_ha is None:
            most = "" if row.adjusted is None else f"at most {number(row.adjusted.high * factor)}"
            lines.append(_line([*cells, "–", "–", "", most, row.interval or "", "", "", ""]))
            continue
        effect = "–" if row.design_effect is None else f"{row.design_effect:.2f}"
        readers = number((row.interpreters_se_ha or 0.0) * factor) if several else "unknown"
        lines.append(_line([
            *cells, number(row.adjusted.value * factor), number(row.se_ha * factor), readers,
            f"{number(row.adjusted.low * factor)} to {number(row.adjusted.high * factor)}",
            row.interval or "", row.estimator or "",
            number(None if row.plain_se_ha is None else row.plain_se_ha * factor), effect,
        ]))  # fmt: skip
    return lines


def _response(survey: Mapping[str, Any]) -> list[str]:
    """Plots and answers of each stratum."""
    keys = ("stratum", "tiles", "plots", "answered", "unobservable", "unanswered")
    lines = [
        "| Stratum | Tiles | Plots | Answered | Cannot be observed | Not answered |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for stratum in survey["strata"]:
        values = [stratum[k] for k in keys]
        lines.append(_line([v if isinstance(v, str) else f"{v:,}" for v in values]))
    return lines


def _accuracy(result: AreaResult) -> list[str]:
    accuracy = result.accuracy
    if accuracy is None:
        return []

    def share(figure: Any) -> str:
        if not math.isfinite(figure.value):
            return "–"
        return f"{figure.value:.1%} ({figure.low:.1%} to {figure.high:.1%})"

    lines = [
        f"Overall accuracy {share(accuracy.overall)}, {result.level:.0%} intervals.",
        "",
        "| Class | User's accuracy | Producer's accuracy |",
        "|---|---:|---:|",
    ]
    for name, user, producer in zip(result.strata, accuracy.users, accuracy.producers, strict=True):
        if math.isfinite(user.value) or math.isfinite(producer.value):
            lines.append(_line([name, share(user), share(producer)]))
    return lines


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"


CSV_COLUMNS = (
    "name", "kind", "tiles", "reference_tiles", "mapped_ha", "mapped_ac", "adjusted",
    "area_ha", "se_ha", "low_ha", "high_ha", "area_ac", "se_ac", "low_ac", "high_ac",
    "interval", "estimator", "plots", "plots_with_it", "design_effect", "plots_alone_se_ha",
    "interpreters_se_ha",
)  # fmt: skip


def csv_text(result: AreaResult) -> str:
    """The rows as CSV, full precision; `adjusted` says no where the area is the map's own."""
    rows = []
    for row in result.rows:
        cells: list[Any] = [row.name, row.kind, row.tiles, row.reference]
        cells += [row.raw_ha, row.raw_ha * ACRES]
        if row.adjusted is None or row.se_ha is None:
            cells += ["no", *[""] * 8, row.interval or ""]
        else:
            values = (row.adjusted.value, row.se_ha, row.adjusted.low, row.adjusted.high)
            cells += ["yes", *values, *(v * ACRES for v in values), row.interval]
        cells += [
            "" if v is None else v
            for v in (row.estimator, row.plots, row.found, row.design_effect, row.plain_se_ha,
                      row.interpreters_se_ha)
        ]  # fmt: skip
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
