"""The summary in words: what a reader should take away, with how sure it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from quadrat.area.tables import number
from quadrat.metrics import Figure
from quadrat.report.content import Content, Day

SURE = "{:.0%}"


def summary(content: Content) -> list[str]:
    """Sentences, one list item each."""
    found = [_day(day) for day in content.days]
    found += [s for day in content.days for s in _worth(day)]
    if content.change is not None:
        found += _change(content.change)
    if not content.days and content.model is not None:
        found.append(
            f"The model tells {len(content.model.legend)} classes apart: "
            f"{', '.join(content.model.legend.names)}."
        )
    return found


def _day(day: Day) -> str:
    k = len(day.legend)
    if day.area is None:
        return f"{day.date}: {day.count:,} pictures in {k} classes."
    rows = sorted(day.area.rows, key=lambda r: -r.raw_ha)
    parts = []
    for row in rows[:3]:
        figure = row.adjusted
        if figure is None:
            parts.append(f"{row.name} {number(row.raw_ha)} ha as mapped")
        else:
            parts.append(
                f"{row.name} {number(figure.value)} ha "
                f"({number(figure.low)} to {number(figure.high)})"
            )
    return (
        f"{day.date}: {day.count:,} tiles, {number(day.area.total_ha)} ha, in {k} classes. "
        f"The largest: {'; '.join(parts)}."
    )


def _worth(day: Day) -> list[str]:
    found = day.accuracy
    if found is None:
        return [f"{day.date}: there are no reference labels, so nothing is known of its errors."]
    words = [
        f"{day.date}: {_share(found.overall)} of {found.tiles:,} reference tiles are mapped right."
    ]
    ranked = [
        (f.value, n)
        for f, n in zip(found.producers, found.names, strict=True)
        if math.isfinite(f.value)
    ]
    if len(ranked) > 1:
        worst = min(ranked)
        words[0] += (
            f" {worst[1]} is missed most: {1 - worst[0]:.0%} of it is mapped as something else."
        )
    if found.calibration is not None:
        ece = found.calibration.ece.value
        good = "can be taken at their word" if ece < 0.05 else "are not to be taken at their word"
        words.append(
            f"{day.date}: stated probabilities {good}: they are off by {ece:.1%} on average."
        )
    return words


def _share(figure: Figure) -> str:
    if not math.isfinite(figure.low):
        return f"{figure.value:.1%}"
    return f"{figure.value:.1%} ({figure.low:.1%} to {figure.high:.1%})"


def _change(said: Mapping[str, Any]) -> list[str]:
    dates, ha = said["dates"], float(said["tile_ha"])
    changed = sum(f["value"] for f in said["changed"])
    words = [
        f"{dates[0]} to {dates[-1]}: about {number(changed)} of {said['tiles']:,} tiles changed "
        f"({number(changed * ha)} ha). Laying the first and the last map on each other would have "
        f"shown {said['compared_changed']:,}."
    ]
    net = max(
        zip(said["names"], said["net"], strict=True), key=lambda p: abs(p[1]["value"]), default=None
    )
    if net is not None and abs(net[1]["value"]) >= 0.5:
        name, f = net
        way = "gained" if f["value"] > 0 else "lost"
        ends = ""
        if f["low"] is not None:
            a, b = sorted((abs(f["low"]) * ha, abs(f["high"]) * ha))
            same = f["low"] * f["high"] > 0
            ends = f" ({number(a)} to {number(b)})" if same else ", which may also be nothing"
        words.append(f"{name} {way} {number(abs(f['value']) * ha)} ha net{ends}.")
    words.append(
        f"{said['candidates']:,} candidate tiles ({said['wanted']}) are listed, of which about "
        f"{said['expected_false']:.1f} are expected not to be real."
    )
    return words
