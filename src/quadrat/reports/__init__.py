"""`report`: one HTML file that works offline, for those who must decide on a map.

    content      what is shown, gathered from scores, change, model and run history
    words        the first page and the summary
    classes      what classes mean, with examples
    sections     map, accuracy, area, candidates, mistakes as HTML
    transitions  change as HTML
    interpreted  plots that people interpreted
    provenance   data and model as HTML
    markup       tables and figures as HTML
    layers       the map's layers; images makes them data addresses
    charts       inline SVG
    page.css, page.js

The file asks for nothing from anywhere: pictures are inside, and its own policy forbids the rest.
It does not know how anything was computed.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import quadrat
from quadrat import changes, storage
from quadrat import dates as dating
from quadrat.errors import InputError, QuadratError
from quadrat.records import Record
from quadrat.reports import (
    classes,
    images,
    interpreted,
    layers,
    markup,
    provenance,
    sections,
    transitions,
    words,
)
from quadrat.reports import content as gathering
from quadrat.reports.content import Content, Day
from quadrat.reports.markup import text
from quadrat.reviews.offline import page_policy
from quadrat.sampling import open_sample
from quadrat.scores import SYNTHETIC, is_synthetic
from quadrat.shown import shown

__all__ = ["ReportResult", "report"]

Part = tuple[str, str, str]  # the section's name in addresses, its title, its HTML


@shown
@dataclass(frozen=True)
class ReportResult(Record):
    """What was written.

    Attributes:
        uri: the HTML file; `change` the folder that change was read from or written to.
        summary: the sentences at its top.
    """

    uri: str
    bytes: int
    sections: tuple[str, ...]
    summary: tuple[str, ...]
    candidates: int
    pictures: int
    change: str | None


def report(
    sources: Sequence[str],
    out: str,
    *,
    change: str | None = None,
    model: str | None = None,
    title: str | None = None,
    place: str | None = None,
    legend: str | None = None,
    split: str = "auto",
    pictures: int = 60,
    mistakes: int = 24,
    imagery: Sequence[str] = (),
    sample: str | None = None,
    answers: Sequence[str] = (),
    tracking_uri: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> ReportResult:
    """Write a self-contained HTML report.

    Args:
        sources: scores of one date or more, earliest first, and at most one run of the history (an
            id, its beginning, or a name), whose model is described.
        out: the HTML file, any URI.
        change: a folder that `change` wrote. None looks for change itself when there are two dates
            or more, and writes it beside the report.
        model: the model that scored, where it is not where the scores say.
        title: the page's; made from the dates and the place when None.
        place: what the ground is called; nothing is looked up.
        legend: a coarser legend (name or TOML file) that all is folded into.
        split: which labelled tiles accuracy and area go by; see `quadrat.areas.area`.
        pictures: candidates with pictures in the file.
        mistakes: most confident mistakes a date.
        imagery: a file, or folder of files, a date to take pictures from.
        sample: a folder of `sample`, drawn from the scores or from the change of the report.
        answers: files of answers to it.
        tracking_uri: the run history's address; None is the working folder's.
        on_progress: called with the candidates' pictures done, and those to do.

    Raises:
        InputError: nothing to report on, or a name that is neither scores nor a run.
        ScoresError: unfinished scores; dates on other grids or with other classes.
    """
    if not out.lower().endswith((".html", ".htm")):
        raise InputError(f"{out} is no name for a web page; end it with .html")
    if min(pictures, mistakes) < 0:
        raise InputError("numbers of pictures and mistakes must be 0 or more")
    uris, run = _sort(sources, tracking_uri)
    if imagery and len(imagery) != len(uris):
        raise InputError(f"--imagery is given {len(imagery)} times for {len(uris)} dates")
    days = tuple(
        gathering.read_day(uri, split, mistakes, [imagery[i]] if imagery else (), legend)
        for i, uri in enumerate(uris)
    )
    dating.check_order([(storage.redact(d.uri), d.date) for d in days])
    days = gathering.told_apart(days)
    if change is None and len([d for d in days if d.grid is not None]) > 1:
        change = out.rsplit(".", 1)[0] + "_change"
        changes.change(uris, change, legend=legend, split=split, show=pictures, imagery=imagery)
    if answers and sample is None:
        raise InputError("--answers are to a sample; name it with --sample")
    read = None
    if sample is not None:
        maps = [*uris, *([change] if change is not None else [])]
        read = interpreted.gather(
            sample, answers, maps, imagery=_of_sample(sample, days, imagery), legend=legend,
            most=pictures,
        )  # fmt: skip
    found = _gather(days, run, change, model, title, pictures, read, place)
    summary = words.summary(found)
    page, used = _page(found, summary)
    data = page.encode("utf-8")
    storage.write_bytes(out, data)
    return ReportResult(
        uri=out, bytes=len(data), sections=used, summary=tuple(summary),
        candidates=len(found.rows), pictures=len(found.shots), change=change,
    )  # fmt: skip


def _of_sample(uri: str, days: Sequence[Day], imagery: Sequence[str]) -> list[str]:
    """The imagery of a sample's dates, among that of the report's."""
    if not imagery:
        return []
    dates = open_sample(uri).dates
    by_date = {d.date.split(" (")[0]: given for d, given in zip(days, imagery, strict=True)}
    return [by_date[d] for d in dates] if set(dates) <= set(by_date) else []


def _sort(sources: Sequence[str], tracking_uri: str | None) -> tuple[list[str], Any]:
    """Scores and the run among what was named."""
    uris: list[str] = []
    run = None
    for name in sources:
        if storage.exists(storage.join(name, "scores.json")):
            uris.append(name)
            continue
        try:
            found = gathering.run_of(name, tracking_uri)
        except QuadratError as error:
            if storage.exists(name):
                uris.append(name)  # opening it says what it lacks
                continue
            raise InputError(
                f"{name!r} is neither a folder of scores nor a run ({error})"
            ) from None
        if run is not None:
            raise InputError(f"{name!r} is a second run; a report describes one")
        run = found
    if not uris and run is None:
        raise InputError("nothing to report on was given; name scores or a run")
    return uris, run


def _gather(
    days: tuple[Day, ...],
    run: Any,
    change: str | None,
    model: str | None,
    title: str | None,
    most: int,
    read: interpreted.InterpretedPlots | None,
    place: str | None,
) -> Content:
    given = model
    if given is None and run is not None:
        given = run.tags.get("model/uri")
    about, notes = gathering.model_of(days, given)
    said, transitions = None, None
    rows: tuple[Mapping[str, str], ...] = ()
    shots: Mapping[int, bytes] = {}
    if change is not None:
        said, rows, transitions = gathering.read_change(change)
        days = gathering.dated(days, said)
        shots = gathering.read_shots(said, change, most)
    dates = [d.date for d in days]
    synthetic = any(is_synthetic(d.info) for d in days)
    name = title or (_title(dates, synthetic, place) if dates else f"Run {run.name}")
    return Content(
        name, days, said, rows, shots, transitions, about, run, tuple(notes), synthetic, read, place
    )  # fmt: skip


def _title(dates: Sequence[str], synthetic: bool, place: str | None) -> str:
    when = " and ".join(dates) if len(dates) < 3 else f"{dates[0]} to {dates[-1]}"
    of = f" of {place}" if place else ""
    return f"{'Synthetic imagery: land' if synthetic else 'Land'} use{of}, {when}"


def _page(found: Content, summary: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The page, and the names of its sections."""
    made = {
        "Made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "By": f"Quadrat {quadrat.__version__}",
    }
    asked = words.front(found) or [("In short", list(summary))]
    made_up = f'<p class="warn"><strong>{text(SYNTHETIC)}</strong></p>' if found.synthetic else ""
    front = f'<div class="front">{markup.questions(asked)}</div>'
    parts = [("summary", "Summary", f"{made_up}{markup.keys(words.keys(found))}{front}")]
    drawn, origin = layers.layers(found)
    tile_m = next((d.grid.tile_m for d in found.days if d.grid is not None), 0.0)
    if drawn:
        parts.append(("map", "Map", sections.map_view(drawn, tile_m)))
    parts += _figures(found)
    board = len(parts)
    parts += _review(found)
    parts.append(("provenance", "Data and model", provenance.provenance(found, made)))
    data = {
        "layers": [vars(one) for one in drawn],
        "origin": origin,
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
        body = classes.section(first.legend.classes, first.examples, first.date)
        parts.append(("classes", "What the classes mean", body))
    if found.change is not None:
        colors = transitions.colors_of(found, found.change)
        parts.append(("area", "Area", transitions.areas(found.change, colors)))
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
    day = Day("", "", model.legend, None, {}, seen.tiles, seen, None, None, None, (), said)
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
            made["picture"] = images.data_uri(shot, "image/jpeg")
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
    # "<" cannot end the script element, nor open a comment in it
    embedded = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    name = text(title)
    day = text(made["Made"][:10])
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{page_policy(css, js)}">'
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
