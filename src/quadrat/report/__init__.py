"""`report`: one HTML file that works offline, for those who must decide on a map.

    content    what is shown, gathered from scores, change, model and run history
    words      the summary
    sections   the page's sections as HTML
    charts     inline SVG
    images     map layers and pictures as data addresses
    page.css, page.js

The file asks for nothing from anywhere: pictures are inside, and its own policy forbids the rest.
It does not know how anything was computed.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

import quadrat
from quadrat import change as changes
from quadrat import maps, metrics, storage
from quadrat.errors import InputError, QuadratError
from quadrat.maps.arrays import Frame
from quadrat.report import content as gathering
from quadrat.report import images, sections, words
from quadrat.report.content import Content, Day
from quadrat.report.images import Layer

__all__ = ["ReportResult", "report"]

POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
UNCHANGED = "#e8e8e8"


@dataclass(frozen=True)
class ReportResult:
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

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            **vars(self),
            "sections": list(self.sections),
            "summary": list(self.summary),
        }


def report(
    sources: Sequence[str],
    out: str,
    *,
    change: str | None = None,
    model: str | None = None,
    title: str | None = None,
    split: str = "auto",
    pictures: int = 60,
    mistakes: int = 24,
    imagery: Sequence[str] = (),
    tracking_uri: str | None = None,
) -> ReportResult:
    """Write a self-contained HTML report.

    Args:
        sources: scores of one date or more, earliest first, and at most one run of the history (an
            id, its beginning, or a name), whose model is described.
        out: the HTML file, any URI.
        change: a folder that `change` wrote. None looks for change itself when there are two dates
            or more, and writes it beside the report.
        model: the model that scored, where it is not where the scores say.
        split: which labelled tiles accuracy and area go by; see `quadrat.area.area`.
        pictures: candidates with pictures in the file.
        mistakes: most confident mistakes a date.
        imagery: a file, or folder of files, a date to take pictures from.

    Raises:
        InputError: nothing to report on, or a name that is neither scores nor a run.
    """
    if not out.lower().endswith((".html", ".htm")):
        raise InputError(f"{out} is no name for a web page; end it with .html")
    if min(pictures, mistakes) < 0:
        raise InputError("numbers of pictures and mistakes must be 0 or more")
    uris, run = _sort(sources, tracking_uri)
    if imagery and len(imagery) != len(uris):
        raise InputError(f"--imagery is given {len(imagery)} times for {len(uris)} dates")
    days = tuple(
        gathering.read_day(uri, split, mistakes, [imagery[i]] if imagery else ())
        for i, uri in enumerate(uris)
    )
    if change is None and len([d for d in days if d.grid is not None]) > 1:
        change = out.rsplit(".", 1)[0] + "_change"
        changes.change(uris, change, split=split, show=pictures, imagery=imagery)
    found = _gather(days, run, change, model, title, pictures)
    page, used = _page(found)
    data = page.encode("utf-8")
    storage.write_bytes(out, data)
    return ReportResult(
        uri=out, bytes=len(data), sections=used, summary=tuple(words.summary(found)),
        candidates=len(found.rows), pictures=len(found.shots), change=change,
    )  # fmt: skip


def _sort(sources: Sequence[str], tracking_uri: str | None) -> tuple[list[str], Any]:
    """Scores and the run among what was named."""
    uris: list[str] = []
    run = None
    for name in sources:
        if storage.exists(storage.join(name, "scores.json")) or storage.exists(name):
            uris.append(name)
        elif run is not None:
            raise InputError(f"{name!r} is a second run; a report describes one")
        else:
            try:
                run = gathering.run_of(name, tracking_uri)
            except QuadratError as error:
                raise InputError(
                    f"{name!r} is neither a folder of scores nor a run ({error})"
                ) from None
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
        shots = gathering.read_shots(said, change, most)
    dates = [d.date for d in days]
    name = title or (
        f"Land use, {' and '.join(dates) if len(dates) < 3 else f'{dates[0]} to {dates[-1]}'}"
        if dates
        else f"Run {run.name}"
    )
    return Content(name, days, said, rows, shots, transitions, about, run, tuple(notes))


def _page(found: Content) -> tuple[str, tuple[str, ...]]:
    """The page, and the names of its sections."""
    summary = "".join(f"<li>{sections.text(s)}</li>" for s in words.summary(found))
    parts = [("summary", "Summary", f'<ul class="summary">{summary}</ul>')]
    layers, origin = _layers(found)
    if layers:
        grid = next(d.grid for d in found.days if d.grid is not None)
        parts.append(("map", "Map", sections.map_view(layers, grid.tile_m)))
    parts += _accuracy(found)
    for day in found.days:
        if day.area is not None:
            parts.append((f"area{len(parts)}", f"Area{_of(day, found)}", sections.area(day)))
    if found.change is not None:
        parts.append(("change", "Change", sections.change(found)))
        parts.append(("candidates-list", "Candidates of change", sections.candidates(found)))
    if any(d.accuracy is not None for d in found.days):
        parts.append(("mistakes", "Most confident mistakes", sections.mistakes(found.days)))
    made = {
        "Report made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "Quadrat": quadrat.__version__,
    }
    parts.append(("provenance", "Data and model", sections.provenance(found, made)))
    data = {"layers": [vars(one) for one in layers], "origin": origin, "candidates": _rows(found)}
    return _html(found.title, parts, data), tuple(title for _, title, _ in parts)


def _of(day: Day, found: Content) -> str:
    return f", {sections.text(day.date)}" if len(found.days) > 1 else ""


def _accuracy(found: Content) -> list[tuple[str, str, str]]:
    parts = []
    for n, day in enumerate(found.days):
        tail = _of(day, found)
        parts.append((f"accuracy{n}", f"Accuracy{tail}", sections.accuracy(day)))
        if day.accuracy is not None:
            colors = [c.color for c in day.legend.classes]
            parts.append(
                (f"confusion{n}", f"Confusion{tail}", sections.confusion(day.accuracy, colors))
            )
            parts.append(
                (f"calibration{n}", f"Calibration{tail}", sections.calibration(day.accuracy))
            )
    if not found.days and found.model is not None and found.model.metrics:
        parts += _trained(found)
    return parts


def _trained(found: Content) -> list[tuple[str, str, str]]:
    """What the model's own validation said, for a run without scores."""
    model = found.model
    if model is None or "confusion" not in model.metrics:
        return []
    seen = metrics.from_dict(model.metrics)
    colors = [c.color for c in model.legend.classes]
    day = Day("", "validation", model.legend, None, {}, seen.tiles, seen, None, None, None, (), ())
    parts = [
        ("accuracy", "Accuracy in validation", sections.accuracy(day)),
        ("confusion", "Confusion in validation", sections.confusion(seen, colors)),
    ]
    if seen.calibration is not None:
        parts.append(("calibration", "Calibration", sections.calibration(seen)))
    return parts


def _layers(found: Content) -> tuple[list[Layer], dict[str, int]]:
    """The map's layers in one frame, and the frame's first row and column."""
    days = [d for d in found.days if d.tiles is not None]
    if not days:
        return [], {"row": 0, "col": 0}
    rows = np.concatenate([d.tiles.rows for d in days if d.tiles is not None])
    cols = np.concatenate([d.tiles.cols for d in days if d.tiles is not None])
    both = np.unique(np.stack([rows, cols]), axis=1)
    frame = maps.frame(both[0], both[1])
    origin = {"row": int(frame.area.r0), "col": int(frame.area.c0)}
    layers = []
    for day in days:
        layers += _day_layers(day, frame)
    if found.transitions is not None:
        layers.append(_change_layer(found, frame))
    return layers, origin


def _place(frame: Frame, rows: NDArray[Any], cols: NDArray[Any]) -> NDArray[np.int64]:
    width = frame.area.c1 - frame.area.c0
    at: NDArray[np.int64] = (rows - frame.area.r0) * width + (cols - frame.area.c0)
    return at


def _day_layers(day: Day, frame: Frame) -> list[Layer]:
    tiles = day.tiles
    if tiles is None or tiles.probabilities is None:
        return []
    at = _place(frame, tiles.rows, tiles.cols)
    ids = np.full(frame.shape, images.EMPTY, np.uint8)
    ids.ravel()[at] = tiles.mapped
    sure = np.full(frame.shape, np.nan, np.float32)
    sure.ravel()[at] = tiles.probabilities.max(1)
    colors = [c.color for c in day.legend.classes]
    return [
        images.layer(day.date, "The class of each tile.", ids, day.legend.names, colors),
        images.certainty(f"{day.date}, certainty", "The probability of the class shown.", sure),
    ]


def _change_layer(found: Content, frame: Frame) -> Layer:
    """What each tile became, where change is likelier than not; light grey elsewhere."""
    table, said = found.transitions, found.change
    if table is None or said is None:
        raise InputError("there is no change to draw")
    last = len(said["dates"])
    names = list(said["names"])
    first, after = (table[f"class_{n}"].to_pylist() for n in (1, last))
    steps = [table[f"changed_{n}"].to_numpy() for n in range(1, last)]
    moved = 1 - np.prod([1 - s for s in steps], axis=0) > 0.5
    kinds: dict[tuple[str, str], int] = {}
    ids = np.zeros(len(table), np.uint8)
    for i in np.flatnonzero(moved):
        pair = (str(first[i]), str(after[i]))
        if pair[0] != pair[1]:
            ids[i] = kinds.setdefault(pair, len(kinds) + 1)
    palette = dict(zip(names, said.get("colors") or _colors(found, names), strict=True))
    labels = ["no change", *(f"{a} → {b}" for a, b in kinds)]
    colors = [UNCHANGED, *_apart([palette[b] for _, b in kinds])]
    picture = np.full(frame.shape, images.EMPTY, np.uint8)
    picture.ravel()[_place(frame, table["row"].to_numpy(), table["col"].to_numpy())] = ids
    return images.layer(
        f"change, {said['dates'][0]} to {said['dates'][-1]}",
        "Tiles that changed, in the colour of what they became.", picture, labels, colors,
    )  # fmt: skip


def _colors(found: Content, names: Sequence[str]) -> list[str]:
    known = {c.name: c.color for d in found.days for c in d.legend.classes}
    return [known.get(n, "#4477aa") for n in names]


def _apart(colors: Sequence[str]) -> list[str]:
    """The colours, each a trifle other than those before, so that the page can tell them by it."""
    seen: set[str] = {UNCHANGED}
    result = []
    for color in colors:
        r, g, b = images.rgb(color)
        while color in seen:
            b = b + 1 if b < 255 else b - 40
            color = f"#{r:02x}{g:02x}{b:02x}"
        seen.add(color)
        result.append(color)
    return result


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


def _html(title: str, parts: Sequence[tuple[str, str, str]], data: Mapping[str, Any]) -> str:
    css, js = (
        resources.files("quadrat.report").joinpath(name).read_text("utf-8")
        for name in ("page.css", "page.js")
    )
    links = "".join(f'<li><a href="#{name}">{head}</a></li>' for name, head, _ in parts)
    body = "".join(sections.section(*part) for part in parts)
    # "<" cannot end the script element, nor open a comment in it
    embedded = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    name = sections.text(title)
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{name}</title><style>{css}</style></head><body>'
        '<a class="skip" href="#summary">To the summary</a>'
        f'<header><h1>{name}</h1><nav aria-label="Sections"><ul>{links}</ul></nav></header>'
        f"<main>{body}</main><footer>Made with Quadrat; this file needs no network.</footer>"
        f'<script type="application/json" id="data">{embedded}</script><script>{js}</script>'
        "</body></html>"
    )
