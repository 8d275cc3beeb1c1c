"""The sections of the page as HTML; everything that comes from outside is escaped here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from quadrat.area.tables import ACRES, number
from quadrat.metrics import Figure, Metrics
from quadrat.report import charts
from quadrat.report.content import Content, Day
from quadrat.report.images import Layer


def text(value: Any) -> str:
    """Escaped text."""
    return escape(str(value), quote=True)


def section(name: str, title: str, body: str) -> str:
    """A section with its heading."""
    head = f'<h2 id="{name}-h">{title}</h2>'
    return f'<section id="{name}" aria-labelledby="{name}-h">{head}{body}</section>'


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], caption: str, words: int = 1) -> str:
    """A table whose first `words` columns are text and the others figures; cells are HTML."""
    top = "".join(f'<th scope="col">{h}</th>' for h in heads)
    lines = []
    for row in rows:
        cells = [f'<th scope="row">{row[0]}</th>']
        cells += [
            f"<td>{c}</td>" if i < words else f'<td class="n">{c}</td>'
            for i, c in enumerate(row[1:], start=1)
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}"><table>'
        f"<caption>{text(caption)}</caption><thead><tr>{top}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def share(figure: Figure | None) -> str:
    """`91.2% (88.0 to 93.9%)`."""
    if figure is None or not math.isfinite(figure.value):
        return "–"
    if not math.isfinite(figure.low):
        return f"{figure.value:.1%}"
    return f"{figure.value:.1%} <small>({100 * figure.low:.1f} to {figure.high:.1%})</small>"


def quantity(figure: Figure | Mapping[str, Any] | None, factor: float = 1.0) -> str:
    """`1,234 (1,100 to 1,380)`, in another unit."""
    if figure is None:
        return "–"
    if not isinstance(figure, Figure):
        ends = (figure.get(k) for k in ("value", "low", "high"))
        figure = Figure(*(math.nan if v is None else float(v) for v in ends))
    main = number(figure.value * factor)
    if not math.isfinite(figure.low):
        return main
    low, high = number(figure.low * factor), number(figure.high * factor)
    return f"{main} <small>({low} to {high})</small>"


def swatch(color: str) -> str:
    """A small square of a class's colour."""
    return f'<span class="swatch" style="background:{text(color)}" aria-hidden="true"></span>'


def named(name: str, color: str) -> str:
    """A class with its colour."""
    return f"{swatch(color)}{text(name)}"


def accuracy(day: Day) -> str:
    """Overall figures and those of each class."""
    found = day.accuracy
    if found is None:
        return "<p>There are no reference labels, so accuracy is not known.</p>"
    lines = [
        ["Overall accuracy", share(found.overall)],
        ["Balanced accuracy", share(found.balanced)],
        ["F1, mean of classes", share(found.macro_f1)],
        ["F1, weighted by tiles", share(found.weighted_f1)],
    ]
    if day.coarse is not None:
        lines.append(["Overall accuracy, three classes", share(day.coarse.overall)])
    if day.area is not None and day.area.accuracy is not None:
        lines.append(
            ["Overall accuracy, weighted to the whole map", share(day.area.accuracy.overall)]
        )
    where = f", {found.blocks} blocks of 8 x 8 tiles" if found.blocks else ""
    caption = f"On {found.tiles:,} reference tiles{where}; {found.level:.0%} intervals"
    classes = [
        [
            named(name, day.legend.classes[i].color), f"{int(found.confusion[i].sum()):,}",
            share(found.producers[i]), share(found.users[i]), share(found.f1[i]),
        ]
        for i, name in enumerate(found.names)
    ]  # fmt: skip
    heads = ["Class", "Tiles", "Producer’s accuracy (recall)", "User’s accuracy (precision)", "F1"]
    return table(["Figure", "Value"], lines, caption) + table(heads, classes, "Each class")


def confusion(found: Metrics, colors: Sequence[str]) -> str:
    """The matrix with shading and shares of the row."""
    heads = [
        "On the ground ↓, on the map →",
        *(named(n, c) for n, c in zip(found.names, colors, strict=True)),
        "Tiles",
    ]
    body = []
    for i, name in enumerate(found.names):
        total = int(found.confusion[i].sum())
        cells = []
        for j, n in enumerate(found.confusion[i]):
            part = n / total if total else 0.0
            hue = "33,102,172" if i == j else "178,88,6"
            dark = "#fff" if part > 0.55 else "#111"
            cells.append(
                f'<td class="n" style="background:rgba({hue},{part:.2f});color:{dark}">{n:,}'
                f"<br><small>{part:.0%}</small></td>"
            )
        body.append(
            f'<tr><th scope="row">{named(name, colors[i])}</th>{"".join(cells)}'
            f'<td class="n">{total:,}</td></tr>'
        )
    top = "".join(f'<th scope="col">{h}</th>' for h in heads)
    caption = "Confusion matrix: tiles, and share of the class on the ground"
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}">'
        f'<table class="matrix"><caption>{caption}</caption><thead><tr>{top}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def calibration(found: Metrics) -> str:
    """The reliability diagram and its figures."""
    known = found.calibration
    if known is None:
        return "<p>Only classes were given, no probabilities.</p>"
    lines = [
        ["Expected calibration error", share(known.ece)],
        ["Negative log-likelihood, nats", _three(known.nll)],
        ["Brier score, 0 to 2", _three(known.brier)],
    ]
    words = (
        "Dots on the diagonal: stated probabilities can be taken at their word. Below it the model "
        "is too sure, above it not sure enough. Bars count the tiles."
    )
    figures = table(["Figure", "Value"], lines, "Calibration")
    return f"<p>{words}</p>{charts.reliability(known)}{figures}"


def _three(figure: Figure) -> str:
    if not math.isfinite(figure.low):
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} <small>({figure.low:.3f} to {figure.high:.3f})</small>"


def area(day: Day) -> str:
    """Hectares and acres of each class."""
    found = day.area
    if found is None:
        return ""
    if not found.adjusted:
        warn = (
            '<p class="warn"><strong>Unadjusted.</strong> There are no reference labels: these are '
            "counts of the map, its errors included, and they have no interval.</p>"
        )
    else:
        warn = (
            "<p>Adjusted for the map’s errors with the stratified estimator (Olofsson et al. "
            "2014). Diamonds are what the map alone would say.</p>"
        )
    heads = ["Class", "Tiles", "Mapped ha", "Adjusted ha", "Standard error", "Adjusted acres"]
    rows = []
    for row, color in zip(found.rows, found.colors, strict=True):
        rows.append(
            [
                named(row.name, color), f"{row.tiles:,}", number(row.raw_ha),
                quantity(row.adjusted), number(row.se_ha), quantity(row.adjusted, ACRES),
            ]
        )  # fmt: skip
    spoken = "; ".join(
        f"{r.name} {number(r.raw_ha if r.adjusted is None else r.adjusted.value)}"
        for r in found.rows
    )
    chart = charts.bars(
        [r.name for r in found.rows], found.colors, [r.raw_ha for r in found.rows],
        [r.adjusted for r in found.rows], "hectares",
        f"Area of each class in hectares: {spoken}",
    )  # fmt: skip
    caption = f"Area, {day.date}; {found.level:.0%} intervals"
    return warn + chart + table(heads, rows, caption)


def change(content: Content) -> str:
    """Transitions, net change, and areas a date."""
    said = content.change
    if said is None:
        return ""
    ha = float(said["tile_ha"])
    names, days = list(said["names"]), list(said["dates"])
    rows = [
        [text(m["from"]), text(m["to"]), f"{m['compared']:,}", quantity(m["expected"]),
         quantity(m["expected"], ha), quantity(m["expected"], ha * ACRES)]
        for m in said["moves"]
    ]  # fmt: skip
    heads = ["From", "To", "Tiles, two maps compared", "Tiles expected", "Hectares", "Acres"]
    net = [
        [text(n), quantity(f), quantity(f, ha), quantity(f, ha * ACRES)]
        for n, f in zip(names, said["net"], strict=True)
    ]
    words = (
        "<p>“Two maps compared” counts every tile whose label differs, the mistakes of both maps "
        "included. “Expected” weighs both dates’ probabilities, their known errors and how common "
        "each change is.</p>"
    )
    body = words + table(heads, rows, f"Changes, {days[0]} to {days[-1]}", words=2)
    body += table(["Class", "Net tiles", "Net hectares", "Net acres"], net, "Gain less loss")
    areas = [[_figure(f) for f in day] for day in said["areas"]]
    colors = list(said.get("colors") or []) or [c.color for c in content.days[0].legend.classes]
    if len(colors) == len(names):
        body += charts.curves(days, names, colors, areas, ha, "hectares")
    return body


def _figure(values: Mapping[str, Any]) -> Figure:
    ends = (values.get(k) for k in ("value", "low", "high"))
    return Figure(*(math.nan if v is None else float(v) for v in ends))


def mistakes(days: Sequence[Day]) -> str:
    """Tiles that the model is sure of and wrong about, with pictures."""
    parts = []
    for day in days:
        cards = []
        for m in day.mistakes:
            alt = f"Aerial picture of {m.where}: labelled {m.truth}, mapped {m.label}"
            image = (
                f'<img src="{m.picture}" alt="{text(alt)}" width="160" height="160">'
                if m.picture
                else ""
            )
            cards.append(
                f'<figure class="card">{image}<figcaption><strong>{text(m.label)}</strong> '
                f"({m.probability:.0%}), labelled <strong>{text(m.truth)}</strong><br>"
                f"<small>{text(m.where)}</small></figcaption></figure>"
            )
        if cards:
            title = f"<h3>{text(day.date)}</h3>" if len(days) > 1 else ""
            parts.append(f'{title}<div class="cards">{"".join(cards)}</div>')
    if not parts:
        return "<p>No reference tile is mapped wrongly, or there are none.</p>"
    return (
        "<p>Some are the model’s mistakes, some the reference’s: look before you judge.</p>"
        + "".join(parts)
    )


def map_view(layers: Sequence[Layer], tile_m: float) -> str:
    """The map: a canvas that pans and zooms, its controls and its legend."""
    options = "".join(
        f'<label><input type="radio" name="layer" value="{i}"{"" if i else " checked"}> '
        f"{text(one.name)}</label>"
        for i, one in enumerate(layers)
    )
    plain = layers[0]
    return (
        f'<div class="map"><div class="bar" role="group" aria-label="Map controls">{options}'
        '<span class="buttons"><button type="button" data-zoom="in" aria-label="Zoom in">+</button>'
        '<button type="button" data-zoom="out" aria-label="Zoom out">−</button>'
        '<button type="button" data-zoom="all">Whole map</button></span></div>'
        '<canvas id="map-canvas" tabindex="0" role="img" '
        f'aria-label="Map of {text(plain.name)}" '
        'aria-describedby="map-about map-status"></canvas>'
        f'<noscript><img class="plain" src="{plain.png}" alt="Map of {text(plain.name)}">'
        '</noscript><p id="map-status" class="status" aria-live="polite">'
        "Point at a tile, or use the arrow keys.</p>"
        f'<p id="map-about" class="status">One pixel is one tile of {number(tile_m)} m. Drag or '
        "arrow keys to move; wheel, + and − to zoom; 0 for the whole map.</p>"
        '<ul id="map-legend" class="legend" aria-label="Legend"></ul></div>'
    )


def candidates(content: Content) -> str:
    """The ranked list, a page at a time."""
    said = content.change
    if said is None:
        return ""
    if not content.rows:
        least = f"{said['least_probability']:g}"
        return f"<p>No tile reaches a probability of {least}: the list is empty.</p>"
    words = (
        f"<p>{len(content.rows):,} tiles ({text(said['wanted'])}) have a probability of at "
        f"least {said['least_probability']:g}, likeliest first; about "
        f"{said['expected_false']:.1f} of them are expected not to be real. The number beside each "
        "is how many false ones are expected down to there. Pictures show the tile, outlined, with "
        "its eight neighbours.</p>"
    )
    pager = (
        '<div class="pager" role="group" aria-label="Pages of candidates">'
        '<button type="button" data-page="first">First</button>'
        '<button type="button" data-page="back">Back</button>'
        '<label>Page <input id="page" type="number" min="1" value="1"> of '
        '<span id="pages"></span></label>'
        '<button type="button" data-page="next">Next</button>'
        '<button type="button" data-page="last">Last</button></div>'
    )
    return f'{words}{pager}<div id="candidates" class="cards wide" aria-live="polite"></div>'


def provenance(content: Content, made: Mapping[str, str]) -> str:
    """Where model, data and report come from."""
    rows = [[text(k), text(v)] for k, v in made.items()]
    model = content.model
    if model is not None:
        rows += [["Model’s backbone", text(model.backbone.get("name", "unknown"))],
                 ["Its weights, SHA-256", text(model.backbone.get("weights_sha256", "unknown"))],
                 ["Their licence", text(model.backbone.get("licence", "unknown"))],
                 ["Head", text(model.head.get("name", model.head.get("head", "unknown")))],
                 ["Trained on tile set, digest", text(model.tileset_digest or "unknown")],
                 ["Training run", text(model.run_id or "none")],
                 ["Model made", text(model.created)]]  # fmt: skip
        rows += [["Warning of the training", text(w)] for w in model.warnings]
    if content.run is not None:
        rows += [["Run", text(f"{content.run.name} ({content.run.id})")],
                 ["Run’s status", text(content.run.status)]]  # fmt: skip
        rows += [[f"Setting: {text(k)}", text(v)] for k, v in sorted(content.run.params.items())]
    for day in content.days:
        rows += _day_rows(day)
    body = table(["What", "Value"], rows, "Provenance", words=2)
    notes = [n for d in content.days for n in d.notes] + list(content.notes)
    if content.change is not None:
        notes += list(content.change["notes"])
    unique = list(dict.fromkeys(notes))
    if unique:
        body += "<h3>Notes</h3><ul>" + "".join(f"<li>{text(n)}</li>" for n in unique) + "</ul>"
    return body


def _day_rows(day: Day) -> list[list[str]]:
    model, source = (day.info.get(k) or {} for k in ("model", "source"))
    rows = [
        [f"Scores of {text(day.date)}", text(day.uri)],
        ["Their model, digest", text(model.get("digest", "unknown"))],
        ["Their source", text(f"{source.get('kind', '')} {source.get('uri', 'unknown')}")],
        ["Source’s digest", text(source.get("digest", "unknown"))],
        ["Precision of the numbers", text(day.info.get("precision", "unknown"))],
        ["Legend", text(day.legend.title or day.legend.name)],
    ]
    if day.grid is not None:
        rows.append(
            [
                "Grid",
                text(
                    f"{day.grid.crs[:60]}, tiles of {day.grid.tile_m:g} m, "
                    f"{day.grid.pixel_m:g} m a pixel"
                ),
            ]
        )
    imagery = (day.info.get("provenance") or {}).get("imagery") or []
    rows += [
        ["Imagery", text(" ".join(str(v) for v in (i.get("file"), i.get("date")) if v))]
        for i in imagery[:20]
    ]
    if len(imagery) > 20:
        rows.append(["Imagery", f"and {len(imagery) - 20} more files"])
    return rows
