"""The whole page: its sections in their order, its policy, style, script and data."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import quadrat
from quadrat import pages
from quadrat.grid import TileRange
from quadrat.reports import (
    classes,
    interpreted,
    layers,
    markup,
    provenance,
    sections,
    transitions,
    words,
)
from quadrat.reports.content import Content, Day, label_source
from quadrat.reports.markup import text
from quadrat.scores import SYNTHETIC

Part = tuple[str, str, str]  # the section's name in addresses, its title, its HTML


def page(found: Content, summary: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The page, and the names of its sections."""
    made = {
        "Made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "By": f"Quadrat {quadrat.__version__}",
    }
    asked = words.front(found) or [("In short", list(summary))]
    made_up = f'<p class="warn"><strong>{text(SYNTHETIC)}</strong></p>' if found.synthetic else ""
    front = f'<div class="front">{markup.questions(asked)}</div>'
    parts = [("summary", "Summary", f"{made_up}{markup.keys(words.keys(found))}{front}")]
    drawn = layers.layers(found)
    area = layers.area_of(found) if drawn else TileRange(0, 0, 0, 0)
    tile_m = next((d.grid.tile_m for d in found.days if d.grid is not None), 0.0)
    if drawn:
        parts.append(("map", "Map", sections.map_view(found, drawn, tile_m)))
    parts += _figures(found)
    board = len(parts)
    parts += _review(found)
    parts.append(("provenance", "Data and model", provenance.provenance(found, made)))
    data = {
        "layers": [vars(one) for one in drawn],
        "origin": {"row": int(area.r0), "col": int(area.c0)},
        "under": dict(found.under),
        "overlays": list(found.overlays),
        "tile_m": tile_m,
        "candidates": _rows(found),
    }
    page = _html(found.title, (parts[:board], parts[board:]), data, made)
    return page, tuple(title for _, title, _ in parts)


def _figures(found: Content) -> list[Part]:
    """What the land is, how much there is of it, and what changed."""
    parts = []
    first = next((d for d in found.days if d.examples), found.days[0] if found.days else None)
    if first is not None:
        source = label_source(found.days)
        body = classes.section(first.legend, first.examples, first.date, source)
        parts.append(("classes", "What the classes mean", body))
    if found.change is not None:
        parts.append(("area", "Area", transitions.areas(found, found.change)))
        parts.append(("change", "Change", transitions.change(found)))
        parts.append(("changed", "Candidates of change", sections.candidates(found)))
    elif any(d.area is not None for d in found.days):
        each = [sections.area(d) for d in found.days]
        several = len(found.days) > 1
        parts.append(("area", "Area", sections.each(found.days, each, several=several)))
    return parts


def _review(found: Content) -> list[Part]:
    """How good the map is, and how that is known."""
    parts = []
    if found.interpreted is not None:
        parts.append(("plots", "Interpreted plots", interpreted.section(found.interpreted)))
        if found.interpreted.disputed:
            said = interpreted.disputed_section(found.interpreted)
            parts.append(("disputed", "Disputed plots", said))
    parts += _accuracy(found.days) or _trained(found)
    if any(d.accuracy is not None for d in found.days):
        parts.append(("mistakes", "Most confident mistakes", sections.mistakes(found.days)))
    if found.days:
        parts.append(("methods", "Method notes", sections.methods(found)))
    return parts


def _accuracy(days: Sequence[Day]) -> list[Part]:
    """What the reference labels of the dates say."""
    if not days:
        return []
    several = len(days) > 1
    figures = sections.each(days, [sections.accuracy(d) for d in days], several=several)
    parts = [("accuracy", "Accuracy", figures)]
    known = [(d, d.accuracy) for d in days if d.accuracy is not None]
    if not known:
        return parts
    said = [d for d, _ in known]
    confusions = [sections.confusion(m, [c.color for c in d.legend.classes]) for d, m in known]
    parts.append(
        ("confusion", "Confusion matrix", sections.each(said, confusions, several=several))
    )
    reliability = [sections.calibration(m) for _, m in known]
    parts.append(("calibration", "Calibration", sections.each(said, reliability, several=several)))
    return parts


def _trained(found: Content) -> list[Part]:
    """What the model's own validation said, for a run without scores."""
    model, seen = found.model, words.validated(found)
    if model is None or seen is None:
        return []
    said = (
        f"As the training found it on {seen.tiles:,} tiles that it had held out: those of the "
        "validation, and training tiles as heads predicted them that had not seen them.",
    )
    day = Day(
        uri="", date="", legend=model.legend, grid=None, info={}, count=seen.tiles, accuracy=seen,
        coarse=None, area=None, tiles=None, mistakes=(), notes=said,
    )  # fmt: skip
    return _accuracy((day,))


def _rows(found: Content) -> list[dict[str, Any]]:
    whole, parts = ("rank", "row", "col"), ("probability", "expected_false", "lat", "lon")
    rows = []
    for row in found.rows:
        made: dict[str, Any] = {k: int(row[k]) for k in whole}
        made |= {k: float(row[k]) for k in parts}
        made |= {k: row[k] for k in ("from", "to", "period")}
        shot = found.shots.get(made["rank"])
        if shot is not None:
            made["picture"] = pages.data_uri(shot, "image/jpeg")
        rows.append(made)
    return rows


def _html(
    title: str,
    parts: tuple[Sequence[Part], Sequence[Part]],
    data: Mapping[str, Any],
    made: Mapping[str, str],
) -> str:
    css, js = (
        resources.files("quadrat.reports").joinpath(name).read_text("utf-8")
        for name in ("page.css", "page.js")
    )
    css += sections.shades()
    groups = list(zip(("For everyone", "For a reviewer"), parts, strict=True))
    links = "".join(_links(title, group) for title, group in groups)
    body = "".join(
        f'<p class="part">{title}</p>{"".join(markup.section(*part) for part in group)}'
        for title, group in groups
    )
    embedded = pages.embedded(data)
    name = text(title)
    day = text(made["Made"][:10])
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{pages.policy(css, js)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{name}</title><style>{css}</style></head><body>'
        '<a class="skip" href="#summary">To the summary</a>'
        f'<header><h1>{name}</h1><p class="by">Report of {day}, {text(made["By"])}</p></header>'
        f'<nav aria-label="Sections">{links}</nav><main>{body}</main>'
        "<footer>This file is whole: it needs no network and loads nothing.</footer>"
        f'<script type="application/json" id="data">{embedded}</script><script>{js}</script>'
        "</body></html>"
    )


def _links(title: str, parts: Sequence[Part]) -> str:
    items = "".join(f'<li><a href="#{name}">{text(head)}</a></li>' for name, head, _ in parts)
    return f'<p>{title}</p><ul aria-label="{title}">{items}</ul>'
