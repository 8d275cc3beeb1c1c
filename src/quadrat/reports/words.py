"""The summary in words: what a reader should take away, with how sure it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from quadrat import metrics
from quadrat.areas.tables import number
from quadrat.changes.tables import total as summed
from quadrat.metrics import Estimate, Metrics
from quadrat.reports.content import Content, Day
from quadrat.reports.interpreted import sentences
from quadrat.scores import SYNTHETIC

Key = tuple[str, str, str]  # what, figure, its interval or what it counts
GOOD_ECE = 0.05


def keys(content: Content) -> list[Key]:
    """The figures to remember."""
    found: list[Key] = []
    plots = content.interpreted
    if plots is not None and plots.area.accuracy is not None:
        found.append(("Right, by interpreted plots", *_percent(plots.area.accuracy.overall)))
    for day in content.days:
        tail = f", {day.date}" if len(content.days) > 1 else ""
        if day.accuracy is not None:
            found.append((f"Overall accuracy{tail}", *_percent(day.accuracy.overall)))
            if day.accuracy.pure is not None and len(day.accuracy.purity) > 1:
                found.append((f"Of pure plots alone{tail}", *_percent(day.accuracy.pure)))
    trained = validated(content)
    if trained is not None:
        found.append(("Overall accuracy on held-out ground", *_percent(trained.overall)))
    placed = [d for d in content.days if d.area is not None]
    if placed and placed[0].area is not None:
        found.append(("Area mapped", f"{number(placed[0].area.total_ha)} ha", _tiles(placed[0])))
    if content.change is not None:
        said = content.change
        total = _changed(said)
        share = total.value / max(int(said["tiles"]), 1)
        ha = float(said["tile_ha"])
        found.append(("Changed", f"{number(total.value * ha)} ha", f"{share:.1%} of the tiles"))
        false = f"about {round_count(float(said['expected_false']))} of them not real"
        found.append(("Candidates", f"{int(said['candidates']):,}", false))
    return found


def _tiles(day: Day) -> str:
    return f"{day.count:,} tiles"


def _percent(figure: Estimate) -> tuple[str, str]:
    if not math.isfinite(figure.low) or figure.low == figure.high:
        return f"{figure.value:.1%}", ""
    return f"{figure.value:.1%}", f"{100 * figure.low:.1f} to {figure.high:.1%}"


def round_count(value: float) -> str:
    """A number of tiles that is an expectation: whole from ten on."""
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:,.1f}"


def summary(content: Content) -> list[str]:
    """Sentences, one list item each."""
    found = []
    if content.synthetic:
        found.append(SYNTHETIC)
    if content.interpreted is not None:
        found += sentences(content.interpreted)
    for day in content.days:
        found.append(_day(day, _areas(day, content.change)))
        found += _worth(day)
    if content.change is not None:
        found += _change(content.change)
    if not content.days and content.model is not None:
        found.append(
            f"The model tells {len(content.model.legend)} classes apart: "
            f"{', '.join(content.model.legend.names)}."
        )
        trained = validated(content)
        if trained is not None:
            value, ends = _percent(trained.overall)
            found.append(
                f"On held-out ground {value}{f' ({ends})' if ends else ''} of {trained.tiles:,} "
                f"tiles were told right{_pure(trained)}.{_missed(trained, 'taken for')}"
            )
        found.append(
            "No scores were given, so there is no map, no area and no change; name some after the "
            "run."
        )
    return found


def _areas(day: Day, said: Mapping[str, Any] | None) -> list[tuple[str, Estimate]]:
    """Each class's hectares on a date: the estimate that the page's Area section shows.

    Args:
        said: what `change.json` says, whose areas take the place of the date's own.
    """
    if day.area is None:
        return []
    if said is not None and day.date in said["dates"]:
        figures = map(Estimate.from_dict, said["areas"][list(said["dates"]).index(day.date)])
        ha = float(said["tile_ha"])
        return [
            (str(n), Estimate(f.value * ha, f.low * ha, f.high * ha))
            for n, f in zip(said["names"], figures, strict=True)
        ]
    return [(r.name, r.adjusted or Estimate(r.raw_ha, math.nan, math.nan)) for r in day.area.rows]


def _day(day: Day, areas: list[tuple[str, Estimate]]) -> str:
    k = len(day.legend)
    if day.area is None:
        return f"{day.date}: {day.count:,} pictures in {k} classes."
    parts = [f"{n} {_ha(f)}" for n, f in sorted(areas, key=lambda a: -a[1].value)[:3]]
    sure = any(math.isfinite(f.low) for _, f in areas)
    how = "Largest by area" if sure else "Largest as mapped, errors included"
    return (
        f"{day.date}: {day.count:,} tiles, {number(day.area.total_ha)} ha, in {k} classes. "
        f"{how}, ha: {'; '.join(parts)}."
    )


def _ha(figure: Estimate, factor: float = 1.0) -> str:
    main = number(figure.value * factor)
    if not math.isfinite(figure.low) or figure.low == figure.high:
        return main
    return f"{main} ({number(figure.low * factor)} to {number(figure.high * factor)})"


def _worth(day: Day) -> list[str]:
    found = day.accuracy
    if found is None:
        return [f"{day.date}: there are no reference labels, so nothing is known of its errors."]
    value, ends = _percent(found.overall)
    words = [
        f"{day.date}: {value}{f' ({ends})' if ends else ''} of {found.tiles:,} reference tiles are "
        f"mapped right{_pure(found)}.{_missed(found)} Right means as the label source says, which "
        "has errors of its own."
    ]
    if found.calibration is not None:
        ece = found.calibration.ece.value
        good = "can be taken at their word" if ece < GOOD_ECE else "must not be taken at their word"
        words.append(
            f"{day.date}: stated probabilities {good}; they are off by {ece:.1%} on average."
        )
    return words


def validated(content: Content) -> Metrics | None:
    """What the training found on ground that it held out, where the report has no scores."""
    model = content.model
    if content.days or model is None or "confusion" not in model.metrics:
        return None
    return metrics.from_dict(model.metrics.get("ground") or model.metrics)


def _pure(found: Metrics) -> str:
    """What mixed tiles are among all of them, and how many pure ones are right."""
    if found.pure is None or len(found.purity) < 2:
        return ""
    part = found.purity[-1].tiles / sum(b.tiles for b in found.purity)
    return (
        f"; of the pure ones alone ({part:.0%} of them, where one class has {metrics.PURE:.0%} of "
        f"the tile or more) {_percent(found.pure)[0]} are"
    )


def _missed(found: Metrics, how: str = "mapped as") -> str:
    """The class that is missed most, when one is."""
    ranked = [
        (f.value, n)
        for f, n in zip(found.producers, found.names, strict=True)
        if math.isfinite(f.value)
    ]
    worst = min(ranked, default=(1.0, ""))
    if worst[0] >= 1:
        return ""
    return f" {worst[1]} is missed most: {1 - worst[0]:.0%} of it is {how} something else."


def _changed(said: Mapping[str, Any]) -> Estimate:
    """Expected tiles changed, over all intervals."""
    found = summed(tuple(Estimate.from_dict(f) for f in said["changed"]))
    return Estimate(found.value, max(found.low, 0.0), found.high)


def _change(said: Mapping[str, Any]) -> list[str]:
    dates, ha = said["dates"], float(said["tile_ha"])
    total = _changed(said)
    words = [
        f"{dates[0]} to {dates[-1]}: {_ha(total, ha)} ha changed, about "
        f"{round_count(total.value)} of {int(said['tiles']):,} tiles. Laying the first and the "
        f"last map on each other would have shown {int(said['compared_changed']):,}, the mistakes "
        "of both included."
    ]
    net = max(
        zip(said["names"], map(Estimate.from_dict, said["net"]), strict=True),
        key=lambda p: abs(p[1].value),
        default=None,
    )
    if net is not None and abs(net[1].value) >= 0.5:
        words.append(_net(net[0], net[1], ha))
    n = int(said["candidates"])
    if not n:
        words.append("No tile is likely enough to have changed to be listed.")
    else:
        false = round_count(float(said["expected_false"]))
        words.append(
            f"{n:,} {'tile is' if n == 1 else 'tiles are'} listed as candidates "
            f"({said['wanted']}); about {false} of them are expected not to be real."
        )
    return words


def _net(name: str, figure: Estimate, ha: float) -> str:
    way = "gained" if figure.value > 0 else "lost"
    said = f"{name} {way} {number(abs(figure.value) * ha)} ha net"
    if not math.isfinite(figure.low):
        return f"{said}."
    if figure.low * figure.high <= 0:
        return f"{said}, which may also be nothing."
    low, high = sorted((abs(figure.low) * ha, abs(figure.high) * ha))
    return f"{said} ({number(low)} to {number(high)})."
