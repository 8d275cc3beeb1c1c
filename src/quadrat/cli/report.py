"""quadrat report: one HTML file on a map, its worth and what changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from quadrat.cli import common

if TYPE_CHECKING:
    from quadrat.reports import ReportResult


@common.verb()
@click.argument("sources", nargs=-1, required=True, metavar="SCORES|RUN...")
@common.out_option("", "The HTML file.")
@click.option(
    "--change",
    metavar="FOLDER",
    help="What quadrat change wrote; it is looked for anew when there are two dates or more.",
)
@click.option("--model", metavar="MODEL", help="The model, where it is not where the scores say.")
@click.option("--title", help="Of the page; made from the dates if not given.")
@click.option("--legend", help="Fold the classes into this legend first, as nlcd3.")
@click.option(
    "--split",
    type=click.Choice(("auto", "test", "validation", "all")),
    default="auto",
    show_default=True,
    help="Labelled tiles that accuracy and area go by.",
)
@click.option(
    "--pictures",
    type=click.IntRange(min=0),
    default=60,
    show_default=True,
    help="Candidates of change with before/after pictures in the file.",
)
@click.option(
    "--mistakes",
    type=click.IntRange(min=0),
    default=24,
    show_default=True,
    help="Most confident mistakes shown for each date.",
)
@click.option(
    "--imagery",
    multiple=True,
    metavar="URI",
    help="Take pictures from this file or folder; once a date, in their order.",
)
@common.tracking_option
def command(
    sources: Sequence[str], out: str, change: str | None, model: str | None, **options: Any
) -> common.Answer:
    """Write a self-contained HTML report on SCORES of one date or more, earliest first.

    A RUN (an id, its beginning, or a name) adds how the model was trained; alone, it reports on the
    training's own validation.
    """
    from quadrat import storage
    from quadrat.reports import report

    placed = [common.place("scores", s) for s in sources]
    named = [p if storage.exists(p) else s for p, s in zip(placed, sources, strict=True)]
    with common.progress("report", "pictures") as progress:
        result = report(
            named,
            out,
            change=change,
            model=None if model is None else common.place("models", model),
            on_progress=progress,
            **options,
        )
    made = [("files", result.uri)]
    if change is None and result.change is not None:
        made.append(("change", result.change))
    return common.Answer(result, described(result), tuple(made))


def described(result: ReportResult) -> str:
    """The summary, and where the page lies."""
    small = result.bytes < 1e5
    size = f"{result.bytes / 1e3:,.0f} kB" if small else f"{result.bytes / 1e6:,.1f} MB"
    lines = [*result.summary, "", f"written: {result.uri} ({size})"]
    if result.change is not None:
        lines.append(f"change: {result.change}")
    return "\n".join(lines)
