"""`report`: one HTML file that works offline, for those who must decide on a map.

    content      what is shown, gathered from scores, model and run history
    changed      what is shown of a change folder
    words        the first page and the summary
    classes      what classes mean, with examples
    sections     map, accuracy, area, candidates, mistakes as HTML
    transitions  change as HTML
    interpreted  plots that people interpreted
    provenance   data and model as HTML
    markup       tables and figures as HTML
    layers       the map's layers; images makes them data addresses
    ground       imagery under the map; overlays: the user's roads and towns over it
    tables       all estimates as CSV or XLSX
    charts       inline SVG
    page         the page of its sections, with page.css and page.js

The file asks for nothing from anywhere: pictures are inside, and its own policy forbids the rest.
It does not know how anything was computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from quadrat import changes, storage
from quadrat import dates as dating
from quadrat.errors import InputError, QuadratError
from quadrat.records import Record
from quadrat.reports import changed, ground, interpreted, layers, page, words
from quadrat.reports import content as gathering
from quadrat.reports import tables as tabular
from quadrat.reports.content import Content, Day
from quadrat.sampling import open_sample
from quadrat.scores import is_synthetic
from quadrat.shown import shown

__all__ = ["ReportResult", "report"]


@shown
@dataclass(frozen=True)
class ReportResult(Record):
    """What was written.

    Attributes:
        uri: the HTML file; `change` the folder that change was read from or written to, `tables`
            the file of estimates.
        summary: the sentences at its top.
    """

    uri: str
    bytes: int
    sections: tuple[str, ...]
    summary: tuple[str, ...]
    candidates: int
    pictures: int
    change: str | None
    tables: str | None = None


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
    under: int = 20_000,
    overlay: Sequence[str] = (),
    tables: str | None = None,
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
        under: tiles of the map up to which imagery lies under it; 0 for none.
        overlay: vector files of roads, towns and outlines to draw on the map.
        tables: a file for all estimates, CSV or XLSX (the extra `xlsx`).
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
    if under < 0:
        raise InputError("the number of tiles that imagery lies under must be 0 or more")
    if tables is not None:
        tabular.check(tables)
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
    found = _gather(
        days, run, change=change, model=model, title=title, most=pictures, read=read, place=place
    )
    if any(d.tiles is not None for d in found.days):
        beneath, failed = ground.under(found, imagery, under)
        found = replace(found, under=beneath, notes=(*found.notes, *failed))
    if overlay:
        found = replace(found, overlays=_overlays(found, overlay))
    summary = words.summary(found)
    if tables is not None:
        tabular.write(tables, found)
    html, used = page.page(found, summary)
    data = html.encode("utf-8")
    storage.write_bytes(out, data)
    return ReportResult(
        uri=out, bytes=len(data), sections=used, summary=tuple(summary),
        candidates=len(found.rows), pictures=len(found.shots), change=change, tables=tables,
    )  # fmt: skip


def _overlays(found: Content, overlay: Sequence[str]) -> list[dict[str, Any]]:
    from quadrat.reports import overlays

    grid = next((d.grid for d in found.days if d.grid is not None), None)
    if grid is None:
        raise InputError("--overlay needs a map; these scores are of pictures without a place")
    return overlays.overlays(overlay, grid, layers.area_of(found))


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
    *,
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
        said, rows, transitions = changed.read_change(change)
        days = gathering.dated(days, said)
        shots = changed.read_shots(said, change, most)
    days = gathering.with_plots(days, read)
    dates = [d.date for d in days]
    synthetic = any(is_synthetic(d.info) for d in days)
    name = title or (_title(dates, synthetic, place) if dates else f"Run {run.name}")
    return Content(
        title=name, days=days, change=said, rows=rows, shots=shots, transitions=transitions,
        model=about, run=run, notes=tuple(notes), synthetic=synthetic, interpreted=read,
        place=place,
    )  # fmt: skip


def _title(dates: Sequence[str], synthetic: bool, place: str | None) -> str:
    when = " and ".join(dates) if len(dates) < 3 else f"{dates[0]} to {dates[-1]}"
    of = f" of {place}" if place else ""
    return f"{'Synthetic imagery: land' if synthetic else 'Land'} use{of}, {when}"
