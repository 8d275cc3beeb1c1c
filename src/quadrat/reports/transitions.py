"""Areas of each date and the changes between them, as `quadrat change` estimated them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from quadrat.areas import AreaResult
from quadrat.areas.tables import ACRES
from quadrat.metrics import Estimate
from quadrat.reports import charts
from quadrat.reports.content import Content
from quadrat.reports.markup import matrix, named, quantity, signed, table, text

NO_REFERENCE = (
    '<p class="warn"><strong>No reference labels.</strong> The first date’s errors are not '
    "known, so these figures have no intervals.</p>"
)
PROBABILITIES = (
    "Estimated from all dates’ probabilities, their known errors and how common each change is."
)
PROBABILITIES_AREAS = (
    "Estimated from all dates’ probabilities and their known errors, so that areas and changes "
    "agree"
)
CELLS = (
    "Estimated from parts of the tiles that look unlike before, each judged by changes planted "
    "into the imagery’s own tiles and by tiles that show other ground of the same class."
)
CELLS_AREAS = "The first date’s, and what changed since, so that areas and changes agree"
LIKELY = 0.5  # tiles expected; rarer transitions are folded away


def areas(content: Content, said: Mapping[str, Any]) -> str:
    """The area of each class on each date; with change, the page's only estimate of it.

    Args:
        said: what `change.json` says; of a date that plots were read on they say it.
    """
    names, ha = [str(n) for n in said["names"]], float(said["tile_ha"])
    days, colors, plots = (
        [str(d) for d in said["dates"]],
        colors_of(content, said),
        surveyed(content),
    )
    figures = [
        list(hectares(plots[day], names) if day in plots else
             [_times(Estimate.from_dict(f), ha) for f in told])
        for day, told in zip(days, said["areas"], strict=True)
    ]  # fmt: skip
    words = (
        f"<p>{CELLS_AREAS if by_cells(said) else PROBABILITIES_AREAS}; "
        '<a href="#change">Change</a> says how.</p>'
    )
    if plots:
        words += (
            f"<p>Those of {text(', '.join(plots))} are of "
            '<a href="#plots">interpreted plots</a>, so changes need not add up to them.</p>'
        )
    if not said["reference_tiles"]:
        words += NO_REFERENCE
    rows = [
        [named(n, colors[k]), *(quantity(day[k], unit) for unit in (1.0, ACRES)
                                for day in figures)]
        for k, n in enumerate(names)
    ]  # fmt: skip
    heads = ["Class", *(f"{text(d)}, {unit}" for unit in ("ha", "acres") for d in days)]
    caption = f"Area of each class; {float(said['level']):.0%} intervals"
    chart = charts.curves(days, names, colors, figures, factor=1.0, unit="hectares")
    return words + chart + table(heads, rows, caption)


def change(content: Content) -> str:
    """Transitions and net change, with intervals."""
    said = content.change
    if said is None:
        return ""
    names, ha = [str(n) for n in said["names"]], float(said["tile_ha"])
    days = [str(d) for d in said["dates"]]
    level = f"{float(said['level']):.0%} intervals"
    colors = colors_of(content, said)
    if changes_by_plots(content):
        return (
            '<p>What changed is estimated from <a href="#plots">interpreted plots</a>; what the '
            "maps’ probabilities alone say is in the change’s own change.md.</p>"
        )
    body = (
        f"<p>{CELLS if by_cells(said) else PROBABILITIES} Comparing two maps tile by tile would "
        "count the mistakes of both as change.</p>"
    )
    if not said["reference_tiles"]:
        body += NO_REFERENCE
    rows = [
        [named(n, colors[k]), quantity(f, ha), quantity(f, ha * ACRES)]
        for k, (n, f) in enumerate(zip(names, said["net"], strict=True))
    ]
    heads = ["Class", "Net change, ha", "Net change, acres"]
    body += table(heads, rows, f"Net change of each class, {days[0]} to {days[-1]}; {level}")
    body += _moves(said, names, colors, ha, f"Changes, {days[0]} to {days[-1]}; {level}")
    if said.get("matrix"):
        caption = f"From (rows) to (columns): hectares expected, {days[0]} to {days[-1]}"
        full = _matrix(said["matrix"], names, colors, ha, caption)
        body += f"<details><summary>All transitions as a matrix</summary>{full}</details>"
    return body


def changes_by_plots(content: Content) -> bool:
    """Whether people read plots of the change, which are the page's estimate of it then."""
    return content.interpreted is not None and len(content.interpreted.area.dates) > 1


def by_cells(said: Mapping[str, Any]) -> bool:
    """Whether change was found by comparing parts of tiles, not by the maps' probabilities."""
    method = said.get("method")
    return isinstance(method, Mapping) and method.get("kind") == "planted changes"


def surveyed(content: Content) -> dict[str, AreaResult]:
    """The areas by interpreted plots of the change's classes, by date: the page's estimate then."""
    wanted = None if content.change is None else set(content.change["names"])
    found = {d.date: d.area for d in content.days if d.area is not None and d.area.survey}
    return {n: a for n, a in found.items() if wanted is None or wanted == set(a.names)}


def hectares(area: AreaResult, names: Sequence[str]) -> list[Estimate]:
    """Each class's hectares, those of the map where there is no estimate."""
    rows = {r.name: r.adjusted or Estimate(r.raw_ha, math.nan, math.nan) for r in area.rows}
    return [rows[n] for n in names]


def _times(figure: Estimate, factor: float) -> Estimate:
    return Estimate(figure.value * factor, figure.low * factor, figure.high * factor)


def colors_of(content: Content, said: Mapping[str, Any]) -> list[str]:
    """The colours of the change's classes, from its file or from the dates' legends."""
    given = [str(c) for c in said.get("colors") or ()]
    if len(given) == len(said["names"]):
        return given
    known = {c.name: c.color for d in content.days for c in d.legend.classes}
    return [known.get(n, "#4477aa") for n in said["names"]]


def _moves(
    said: Mapping[str, Any], names: Sequence[str], colors: Sequence[str], ha: float, caption: str
) -> str:
    palette = dict(zip(names, colors, strict=True))
    likely: list[list[str]] = []
    rare: list[list[str]] = []
    for m in said["moves"]:
        row = [
            named(m["from"], palette[m["from"]]), named(m["to"], palette[m["to"]]),
            quantity(m["expected"], ha), quantity(m["expected"], ha * ACRES),
            quantity(m["expected"]),
        ]  # fmt: skip
        (likely if m["expected"]["value"] >= LIKELY else rare).append(row)
    heads = ["From", "To", "Hectares", "Acres", "Tiles"]
    body = table(heads, likely, caption, words=2) if likely else ""
    if not likely:
        body = "<p>No transition is expected of as much as half a tile.</p>"
    if rare:
        body += (
            f"<details><summary>{len(rare):,} transitions of less than half a tile each</summary>"
            f"{table(heads, rare, f'{caption}, rarer ones', words=2)}</details>"
        )
    return body


def _matrix(
    cells: Sequence[Sequence[Mapping[str, Any]]],
    names: Sequence[str],
    colors: Sequence[str],
    ha: float,
    caption: str,
) -> str:
    heads = ["From ↓, to →", *(named(n, c) for n, c in zip(names, colors, strict=True))]
    lines = []
    for i, row in enumerate(cells):
        inner = "".join(
            f'<td class="n">{signed(float(f["value"]) * ha)}<br>'
            f"<small>{signed(float(f['value']))} tiles</small></td>"
            for f in row
        )
        lines.append(f'<tr><th scope="row">{named(names[i], colors[i])}</th>{inner}</tr>')
    return matrix(heads, lines, caption)
