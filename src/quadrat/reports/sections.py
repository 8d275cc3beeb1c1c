"""The sections of the page as HTML: map, accuracy, area, candidates, mistakes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from quadrat.areas.intervals import EXACT
from quadrat.areas.tables import ACRES, number
from quadrat.metrics import PURE, SCORES, Estimate, Metrics
from quadrat.reports import charts
from quadrat.reports.content import Content, Day, Mistake
from quadrat.reports.images import Layer
from quadrat.reports.markup import (
    matrix,
    named,
    notes,
    quantity,
    share,
    signed,
    table,
    text,
    three,
)
from quadrat.scores.likeness import warning

MOST_IMAGES = 10  # listed
STEPS = 20  # of the shading of a confusion matrix
NO_LABELS = (
    '<p class="warn"><strong>No reference labels.</strong> Nothing is known of this map’s errors: '
    "score tiles that have labels to learn how far it can be trusted.</p>"
)


def each(days: Sequence[Day], body: Sequence[str], *, several: bool) -> str:
    """One part a date, under the date where the report has several."""
    if not several:
        return "".join(body)
    return "".join(f"<h3>{text(d.date)}</h3>{b}" for d, b in zip(days, body, strict=True))


def accuracy(day: Day) -> str:
    """Overall figures and those of each class."""
    found, unlike = day.accuracy, likeness(day)
    if found is None:
        return unlike + NO_LABELS
    lines = [[SCORES[name].title, share(figure)] for name, figure in found.scores.items()]
    if found.pure is not None and len(found.purity) > 1:
        lines.insert(1, [f"Overall accuracy, pure plots alone ({PURE:.0%})", share(found.pure)])
    if found.shares is not None:
        lines.append(["Ground given to a wrong class", share(found.shares.error)])
    if day.coarse is not None:
        lines.append(["Overall accuracy, three classes", share(day.coarse.overall)])
    where = f" in {found.blocks} blocks of 8 × 8 tiles" if found.blocks else ""
    mixed = ", pure and mixed" if len(found.purity) > 1 else ""
    caption = f"{found.tiles:,} reference tiles{mixed}{where}; {found.level:.0%} intervals"
    classes = [
        [
            named(name, day.legend.classes[i].color), f"{int(found.confusion[i].sum()):,}",
            share(found.producers[i]), share(found.users[i]), share(found.f1[i]),
        ]
        for i, name in enumerate(found.names)
    ]  # fmt: skip
    heads = [
        "Class", "Tiles", "Producer’s accuracy<br>(recall)", "User’s accuracy<br>(precision)", "F1"
    ]  # fmt: skip
    return (
        f'{unlike}<div class="tables">{table(["Figure", "Value"], lines, caption)}'
        f"{table(heads, classes, 'Each class, on the same tiles')}{_purity(found)}</div>"
    )


def likeness(day: Day) -> str:
    """A warning where imagery is unlike what the model was trained on, with the images."""
    distance = day.info.get("distance") or {}
    said = warning(distance)
    if not said:
        return ""
    first = said[0][0].upper() + said[0][1:]
    listed = [i for i in distance["images"] if i["unlike"]]
    rows = [
        [text(i["source"]), f"{n:,}", f"{b:,}", f"{b / n:.0%}"]
        for i in listed[:MOST_IMAGES]
        for n, b in [(i["tiles"], i["beyond"])]
    ]
    warn = f'<p class="warn"><strong>Unlike the training ground.</strong> {text(first)}.</p>'
    if not rows:
        return warn
    caption = f"{len(rows):,} of {len(listed):,} images that are unlike the training ground"
    return warn + table(["Image", "Tiles", "Unlike", "Share"], rows, caption)


def _purity(found: Metrics) -> str:
    """Accuracy by the share of a plot that its main class has."""
    if len(found.purity) < 2:
        return ""
    rows = [
        [f"{band.low:.0%} to {band.high:.0%}", f"{band.tiles:,}", share(band.accuracy)]
        for band in found.purity
    ]
    heads = ["Main class’s share", "Tiles", "Overall accuracy"]
    return table(heads, rows, "Pure and mixed tiles: accuracy by the share of the main class")


def confusion(found: Metrics, colors: Sequence[str]) -> str:
    """The matrix with shading and shares of the row."""
    heads = ["On the ground ↓<br>on the map →"]
    heads += [named(n, c) for n, c in zip(found.names, colors, strict=True)]
    body = []
    for i, name in enumerate(found.names):
        total = int(found.confusion[i].sum())
        cells = []
        for j, n in enumerate(found.confusion[i]):
            part = n / total if total else 0.0
            small = f"<br><small>{part:.0%}</small>" if n else ""
            shade = f"{'right' if i == j else 'wrong'}-{round(part * STEPS)}"
            cells.append(f'<td class="n {shade}">{n:,}{small}</td>')
        body.append(
            f'<tr><th scope="row">{named(name, colors[i])}</th>{"".join(cells)}'
            f'<td class="n">{total:,}</td></tr>'
        )
    heads.append("Tiles")
    return matrix(
        heads, body, "Confusion matrix: tiles, and their share of the class on the ground"
    )


def shades() -> str:
    """Style rules of the confusion matrix’s cells, as the page’s policy takes no styles in tags."""
    rules = []
    for right, kind in ((True, "right"), (False, "wrong")):
        for i in range(STEPS + 1):
            ground, ink = _shade(i / STEPS, right=right)
            rules.append(f"td.{kind}-{i}{{background:{ground};color:{ink}}}")
    return "".join(rules)


def _shade(part: float, *, right: bool) -> tuple[str, str]:
    """Background and ink of a cell, the ink always readable on it."""
    full = (33, 102, 172) if right else (178, 88, 6)
    mixed = [round(255 + (c - 255) * part) for c in full]
    # Black or white, whichever has the higher contrast (WCAG 2.1): at least 4.58 on any colour.
    light = sum(w * _linear(v) for w, v in zip((0.2126, 0.7152, 0.0722), mixed, strict=True))
    ink = "#000000" if (light + 0.05) ** 2 > 0.05 * 1.05 else "#ffffff"
    return "#{:02x}{:02x}{:02x}".format(*mixed), ink


def _linear(value: int) -> float:
    """A byte of sRGB as linear light, 0 to 1."""
    c = value / 255
    return c / 12.92 if c <= 0.04045 else float(((c + 0.055) / 1.055) ** 2.4)


def calibration(found: Metrics) -> str:
    """The reliability diagram and its figures."""
    known = found.calibration
    if known is None:
        return "<p>Only classes were given, no probabilities.</p>"
    lines = [
        ["Expected calibration error", share(known.ece)],
        ["Negative log-likelihood, nats", three(known.nll)],
        ["Brier score, 0 to 2", three(known.brier)],
    ]
    words = (
        "<p>Dots on the diagonal: stated probabilities can be taken at their word. Below it the "
        "model is too sure, above it not sure enough. Bars count the tiles.</p>"
    )
    figures = table(["Figure", "Value"], lines, f"Calibration; {found.level:.0%} intervals")
    return f'<div class="pair">{charts.reliability(known)}<div>{words}{figures}</div></div>'


def area(day: Day) -> str:
    """Hectares and acres of each class on one date."""
    found = day.area
    if found is None:
        return "<p>Pictures without a place have no area.</p>"
    caption = f"Area of {number(found.total_ha)} ha, {day.date}"
    spoken = "; ".join(
        f"{r.name} {number(r.raw_ha if r.adjusted is None else r.adjusted.value)}"
        for r in found.rows
    )
    chart = charts.bars(
        [r.name for r in found.rows], found.colors,
        [r.adjusted or Estimate(r.raw_ha, math.nan, math.nan) for r in found.rows], "hectares",
        f"Area of each class in hectares: {spoken}",
    )  # fmt: skip
    pairs = list(zip(found.rows, found.colors, strict=True))
    if not found.adjusted:
        warn = (
            '<p class="warn"><strong>Unadjusted.</strong> There are no reference labels: these are '
            "counts of the map, its errors included, and they have no interval.</p>"
        )
        plain = [
            [named(r.name, c), f"{r.tiles:,}", number(r.raw_ha), number(r.raw_ha * ACRES)]
            for r, c in pairs
        ]
        heads = ["Class", "Tiles", "Hectares, unadjusted", "Acres, unadjusted"]
        return warn + chart + table(heads, plain, caption)
    how = (
        "with the map’s errors taken out"
        if found.survey is None
        else 'from <a href="#plots">interpreted plots</a>'
    )
    words = (
        f"<p>Estimated, {how}; lines through the bars are intervals. "
        '<a href="#methods">Method notes</a> say how.</p>'
    )
    rows = [
        [named(row.name, color), quantity(row.adjusted), quantity(row.adjusted, ACRES)]
        for row, color in pairs
    ]
    heads = ["Class", "Hectares", "Acres"]
    body = words + chart + table(heads, rows, f"{caption}; {found.level:.0%} intervals")
    # beside the figures that they are about: an error of 0 is not certainty
    kept = ("standard errors", EXACT, "not the truth")
    return body + notes(n for n in found.notes if any(k in n for k in kept))


def methods(content: Content) -> str:
    """How the figures were found: a reviewer’s appendix, a date after the other."""
    body = [_method(d) + notes(d.notes) for d in content.days]
    said = each(content.days, body, several=len(content.days) > 1)
    if content.change is not None:
        said += f"<h3>Change</h3>{notes(str(n) for n in content.change['notes'])}"
    return said


def _method(day: Day) -> str:
    """How a date's areas came from its map: counts, errors, kinds of interval."""
    found = day.area
    if found is None or not found.adjusted:
        return ""
    if found.survey is not None:
        how = "Areas are estimated from interpreted plots; see there."
    elif found.estimand == "ground":
        how = (
            f"{text(found.title)}: the model’s shares of every plot, less what they differ from "
            "the label source on held-out ground."
        )
    else:
        how = (
            "Areas of plots by main class, adjusted for the map’s errors with the stratified "
            "estimator of Olofsson et al. (2014)."
        )
    rows = [
        [
            named(row.name, color), f"{row.tiles:,}", number(row.raw_ha), number(row.se_ha),
            text(", ".join(w for w in (row.estimator, row.interval) if w)),
        ]
        for row, color in zip(found.rows, found.colors, strict=True)
    ]  # fmt: skip
    heads = ["Class", "Tiles", "Hectares, map alone", "Standard error", "Interval of"]
    caption = f"Behind the areas of {day.date}: what the map alone counts, not an estimate"
    return f"<p>{how}</p>{table(heads, rows, caption)}"


def mistakes(days: Sequence[Day]) -> str:
    """Tiles that the model is sure of and wrong about, with pictures."""
    known = [d for d in days if d.accuracy is not None]
    body = each(known, [_cards(d) for d in known], several=len(days) > 1)
    if not any(d.mistakes for d in known):
        return body
    return (
        "<p>Reference tiles that the map shows as another class, the surest first. Some are the "
        f"model’s mistakes, some the reference’s: look before you judge.</p>{body}"
    )


def _cards(day: Day) -> str:
    if not day.mistakes:
        return "<p>No reference tile is mapped wrongly.</p>"
    return f'<div class="cards">{"".join(_mistake(m) for m in day.mistakes)}</div>'


def _mistake(m: Mistake) -> str:
    alt = f"Aerial picture of {m.where}: labelled {m.truth}, mapped {m.label}"
    image = (
        f'<img src="{m.picture}" alt="{text(alt)}" width="160" height="160">' if m.picture else ""
    )
    return (
        f'<figure class="card">{image}<figcaption>Mapped <strong>{text(m.label)}</strong> '
        f"({m.probability:.0%})<br>Labelled <strong>{text(m.truth)}</strong><br>"
        f"<small>{text(m.where)}</small></figcaption></figure>"
    )


def map_view(content: Content, layers: Sequence[Layer], tile_m: float) -> str:
    """The map: a canvas that pans and zooms, its controls and its legend."""
    options = "".join(
        f'<label><input type="radio" name="layer" value="{i}"{"" if i else " checked"}> '
        f"{text(one.name)}</label>"
        for i, one in enumerate(layers)
    )
    plain = layers[0]
    slider = (
        '<label class="under">Map <input type="range" id="under" min="0" max="100" value="0" '
        'aria-label="How much of the imagery under the map is seen, per cent"> imagery</label>'
        if content.under
        else ""
    )
    over = "".join(
        f'<label><input type="checkbox" name="overlay" value="{i}" checked> {text(one["name"])}'
        "</label>"
        for i, one in enumerate(content.overlays)
    )
    return (
        '<div class="map"><div class="bar"><fieldset><legend class="hidden">Layer of the map'
        f"</legend>{options}</fieldset>{slider}{over}"
        '<div class="buttons" role="group" aria-label="Zoom">'
        '<button type="button" data-zoom="in" aria-label="Zoom in">+</button>'
        '<button type="button" data-zoom="out" aria-label="Zoom out">−</button>'
        '<button type="button" data-zoom="all">Whole map</button></div></div>'
        '<ul id="map-legend" class="legend" aria-label="Legend"></ul>'
        '<canvas id="map-canvas" tabindex="0" role="img" '
        f'aria-label="Map of {text(plain.name)}" '
        'aria-describedby="map-about map-status"></canvas>'
        f'<noscript><img class="plain" src="{plain.png}" alt="Map of {text(plain.name)}">'
        '</noscript><p id="map-status" class="status" aria-live="polite">'
        "Point at a tile, or use the arrow keys.</p>"
        f'<p id="map-about" class="status">One square is one tile of {number(tile_m)} m; grid '
        "north is up. Drag or arrow keys move; + and −, or the wheel once the map is clicked, "
        "zoom; 0 shows all.</p></div>"
    )


def candidates(content: Content) -> str:
    """The ranked list, a page at a time."""
    said = content.change
    if said is None:
        return ""
    if not content.rows:
        least = f"{float(said['least_probability']):g}"
        return f"<p>No tile reaches a probability of {least}: the list is empty.</p>"
    n = len(content.rows)
    shown = len(content.shots)
    seen = (
        " Pictures show the tile, outlined, with its eight neighbours"
        + ("." if shown >= n else f"; the first {shown:,} have one.")
        if shown
        else " There are no pictures: the imagery was not at hand."
    )
    words = (
        f"<p>{n:,} {'tile has' if n == 1 else 'tiles have'} a probability of at least "
        f"{float(said['least_probability']):g} of {text(said['wanted'])}, likeliest first; about "
        f"{signed(float(said['expected_false']))} of them are expected not to be real.{seen}</p>"
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
    return (
        f'{words}{pager}<div id="candidates" class="cards wide" aria-live="polite"></div>'
        "<noscript><p>The list needs the page’s own script; candidates.csv has all of it.</p>"
        "</noscript>"
    )
