"""The summary in words: what a reader should take away, with how sure it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import metrics, raster
from quadrat.areas.tables import ACRES, number
from quadrat.changes.tables import total as summed
from quadrat.metrics import Estimate, Metrics
from quadrat.reports.content import Content, Day, label_source
from quadrat.reports.interpreted import sentences
from quadrat.reports.transitions import changes_by_plots, hectares, surveyed
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
            found.append((f"Agrees with the labels{tail}", *_percent(day.accuracy.overall)))
            if day.accuracy.pure is not None and len(day.accuracy.purity) > 1:
                found.append((f"Of pure plots alone{tail}", *_percent(day.accuracy.pure)))
    trained = validated(content)
    if trained is not None:
        found.append(("Overall accuracy on held-out ground", *_percent(trained.overall)))
    placed = [d for d in content.days if d.area is not None]
    if placed and placed[0].area is not None:
        ha = placed[0].area.total_ha
        more = f"{number(ha * ACRES)} acres, {_tiles(placed[0])}"
        found.append(("Area mapped", f"{number(ha)} ha", more))
    if content.change is not None:
        said = content.change
        total = total_changed(said)
        share = total.value / max(int(said["tiles"]), 1)
        ha = float(said["tile_ha"])
        more = f"{number(total.value * ha * ACRES)} acres, {share:.1%} of all ground"
        if not changes_by_plots(content):
            found.append(("Changed", f"{number(total.value * ha)} ha", more))
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
        found.append(_day(day, _areas(content, day)))
        found += _worth(day)
    if content.change is not None:
        found += _change(content.change, changes_by_plots(content))
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


def front(content: Content) -> list[tuple[str, list[str]]]:
    """The first page: questions that a reader has, each with its sentences.

    Nothing where there are no scores: a model alone has no place.
    """
    days = content.days
    if not days:
        return []
    much = [_day(d, _areas(content, d)) for d in days]
    sure = [s for d in days for s in _worth(d)]
    if content.interpreted is not None:
        sure = [*sentences(content.interpreted), *sure]
    found = [("What is this?", _what(content)), ("Where?", _where(content))]
    known = [d.date for d in days if d.grid is not None and d.info.get("dates")]
    found.append(("When?", [f"Aerial imagery of {_listed(known)}."] if known else []))
    found.append(("How much of each class?", much))
    if content.change is not None:
        found.append(("What changed?", _change(content.change, changes_by_plots(content))))
    found += [("How sure is this?", sure), ("What it must not be used for", _unfit(content))]
    return [(asked, said) for asked, said in found if said]


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _what(content: Content) -> list[str]:
    day = content.days[0]
    if day.grid is None:
        return ["What a model takes pictures for. They have no place, so there is no map."]
    m = day.grid.tile_m
    ha = m * m / 1e4
    made = "generated imagery, not of a real place" if content.synthetic else "aerial imagery"
    said = (
        f"A map of how land is used, made by a computer model from {made}. Each square of {m:g} by "
        f"{m:g} m ({number(ha)} ha, {number(ha * ACRES)} acres) has one of {len(day.legend)} "
        f"classes: {_listed(day.legend.names)}."
    )
    return [said]


def _where(content: Content) -> list[str]:
    day = next((d for d in content.days if d.tiles is not None and d.area is not None), None)
    named = [f"{content.place}."] if content.place else []
    if day is None or day.tiles is None or day.grid is None or day.area is None:
        return named
    m, rows, cols = day.grid.tile_m, day.tiles.rows, day.tiles.cols
    x = np.array([cols.min(), cols.max() + 1]) * m
    y = -np.array([rows.max() + 1, rows.min()]) * m
    lon, lat = raster.transform_points(day.grid.crs, "EPSG:4326", x, y)
    ends = f"{_degrees(lat, 'NS')} and {_degrees(lon, 'EW')}"
    ha = day.area.total_ha
    size = f"{number(ha)} ha ({number(ha * ACRES)} acres, {number(ha / 100)} square kilometres)"
    return [*named, f"{day.count:,} squares of ground, {size}, {ends}."]


def _degrees(ends: NDArray[np.float64], sides: str) -> str:
    low, high = (f"{abs(v):.2f}° {sides[0] if v >= 0 else sides[1]}" for v in ends)
    return low if low == high else f"{low} to {high}"


def _unfit(content: Content) -> list[str]:
    """What a reader must not do with the page."""
    said = []
    if content.synthetic:
        said.append("For anything about a real place: the imagery is generated.")
    grid = next((d.grid for d in content.days if d.grid is not None), None)
    if grid is not None:
        m = f"{grid.tile_m:g} m"
        said.append(
            f"For a single parcel, lot or field: a square of {m} is the least that it shows, with "
            "one class for all of it."
        )
        said.append("For boundaries, taxes, permits or any legal purpose: it is no survey.")
    days = content.days
    if any(d.accuracy is None for d in days):
        first = days[0].accuracy is not None
        if content.change is None:
            said.append(
                "For areas of a date without reference labels as if they were measured: its errors "
                "are not known."
            )
        elif first:
            said.append(
                "A date without reference labels has no accuracy of its own; its figures rely on "
                "those of the first date."
            )
    read = content.interpreted.area.dates if content.interpreted is not None else ()
    bare = [d.date for d in days if d.accuracy is not None and d.date not in read]
    if bare:
        of = f" of {_listed(bare)}" if read else ""
        made = "was made from satellite images and " if label_source(days) == "nlcd" else ""
        said.append(
            f"As the truth{of}: its figures say how far it agrees with the label source, which "
            f"{made}has errors of its own."
        )
    if content.change is not None and int(content.change["candidates"]):
        said.append("Against anyone on the list of candidates: each is a place to look at first.")
    return said


def _areas(content: Content, day: Day) -> list[tuple[str, Estimate]]:
    """Each class's hectares on a date: the estimate that the page's Area section shows.

    Plots that were read on the date come first, then the change, then the date's own.
    """
    said, plots = content.change, surveyed(content)
    if day.area is None:
        return []
    if said is not None and day.date in said["dates"] and day.date not in plots:
        figures = map(Estimate.from_dict, said["areas"][list(said["dates"]).index(day.date)])
        ha = float(said["tile_ha"])
        return [
            (str(n), Estimate(f.value * ha, f.low * ha, f.high * ha))
            for n, f in zip(said["names"], figures, strict=True)
        ]
    names = [r.name for r in day.area.rows]
    return list(zip(names, hectares(day.area, names), strict=True))


def _day(day: Day, areas: list[tuple[str, Estimate]]) -> str:
    k = len(areas) or len(day.legend)
    if day.area is None:
        return f"{day.date}: {day.count:,} pictures in {k} classes."
    parts = [
        f"{n} {_ha(f)}, {number(f.value * ACRES)} acres"
        for n, f in sorted(areas, key=lambda a: -a[1].value)[:3]
    ]
    sure = any(math.isfinite(f.low) for _, f in areas)
    how = "Largest by area" if sure else "Largest as mapped, errors included"
    return (
        f"{day.date}: {day.count:,} tiles, {number(day.area.total_ha)} ha, in {k} classes. "
        f"{how}: {'; '.join(parts)}."
    )


def _ha(figure: Estimate, factor: float = 1.0) -> str:
    main = f"{number(figure.value * factor)} ha"
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


def total_changed(said: Mapping[str, Any]) -> Estimate:
    """Expected tiles changed, over all intervals of a change."""
    found = summed(tuple(Estimate.from_dict(f) for f in said["changed"]))
    return Estimate(found.value, max(found.low, 0.0), found.high)


def _change(said: Mapping[str, Any], read: bool) -> list[str]:
    """What changed; where plots were `read`, they say how much."""
    dates, ha = said["dates"], float(said["tile_ha"])
    total = total_changed(said)
    words = [
        f"{dates[0]} to {dates[-1]}: {_ha(total, ha)} changed, about "
        f"{round_count(total.value)} of {int(said['tiles']):,} tiles. Laying the first and the "
        f"last map on each other would have shown {int(said['compared_changed']):,}, the mistakes "
        "of both included."
    ]
    net = max(
        zip(said["names"], map(Estimate.from_dict, said["net"]), strict=True),
        key=lambda p: abs(p[1].value),
        default=None,
    )
    if read:
        words = [f"{dates[0]} to {dates[-1]}: how much changed is said by the interpreted plots."]
    elif net is not None and abs(net[1].value) >= 0.5:
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
