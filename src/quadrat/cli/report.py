"""quadrat report: one HTML file on a map, its worth and what changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from quadrat.cli import args, common

if TYPE_CHECKING:
    from quadrat.reports import ReportResult


@common.verb()
@click.argument("sources", nargs=-1, required=True, metavar="SCORES|RUN...")
@args.out("", "The HTML file.")
@click.option(
    "--change",
    metavar="FOLDER",
    help="What quadrat change wrote; it is looked for anew when there are two dates or more.",
)
@click.option("--model", metavar="MODEL", help="The model, where it is not where the scores say.")
@click.option("--title", help="Of the page; made from the dates if not given.")
@click.option("--place", metavar="NAME", help="What the ground is called; nothing is looked up.")
@args.coarser
@args.labelled
@args.option(
    "pictures",
    args.COUNT_OR_0,
    60,
    "Candidates of change with before/after pictures in the file.",
)
@args.option("mistakes", args.COUNT_OR_0, 24, "Most confident mistakes shown for each date.")
@args.pictures_from
@args.option(
    "under", args.COUNT_OR_0, 20_000, "Imagery lies under a map of up to so many tiles; 0 for none."
)
@click.option(
    "--overlay", multiple=True, metavar="FILE", help="Roads, towns, outlines for the map; repeat."
)
@click.option(
    "--tables", metavar="FILE", help="All estimates too, as .csv or .xlsx (the extra xlsx)."
)
@click.option(
    "--sample", metavar="FOLDER", help="Plots that were drawn from SCORES or the change, and read."
)
@click.option("--answers", multiple=True, metavar="FILE", help="Answers to the sample; repeat.")
@args.tracking
def command(
    sources: Sequence[str], out: str, change: str | None, model: str | None, **options: Any
) -> common.Answer:
    """Write a self-contained HTML report on SCORES of one date or more, earliest first.

    A RUN (an id, its beginning, or a name) adds how the model was trained; alone, it reports on the
    training's own validation.
    """
    from quadrat import storage
    from quadrat.reports import report

    placed = [args.place("scores", s) for s in sources]
    named = [p if storage.exists(p) else s for p, s in zip(placed, sources, strict=True)]
    with common.progress("report", "pictures") as progress:
        result = report(
            named,
            out,
            change=change,
            model=None if model is None else args.place("models", model),
            on_progress=progress,
            **options,
        )
    made = [("files", uri) for uri in (result.uri, result.tables) if uri is not None]
    if change is None and result.change is not None:
        made.append(("change", result.change))
    return common.Answer(result, described(result), tuple(made))


def described(result: ReportResult) -> str:
    """The summary, and where the page lies."""
    small = result.bytes < 1e5
    size = f"{result.bytes / 1e3:,.0f} kB" if small else f"{result.bytes / 1e6:,.1f} MB"
    lines = [*result.summary, "", f"written: {result.uri} ({size})"]
    if result.tables is not None:
        lines.append(f"tables: {result.tables}")
    if result.change is not None:
        lines.append(f"change: {result.change}")
    return "\n".join(lines)
