"""quadrat review: people interpret plots on a page of this machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from quadrat.cli import args, common, words

if TYPE_CHECKING:
    from quadrat.reviews import ReviewResult

SHOWN = 20  # disputed plots named


@common.verb()
@click.argument("source", metavar="SAMPLE|CHANGE")
@click.option(
    "--imagery",
    multiple=True,
    metavar="DATE=URI",
    help="A file or folder of a date; repeat. What the map was made from if not given.",
)
@click.option(
    "--as",
    "interpreter",
    metavar="NAME",
    help="Who answers; the login name if not given. `settled` settles what interpreters differ on.",
)
@click.option(
    "--answers", metavar="FILE", help="The file of answers; SAMPLE/review.gpkg if not given."
)
@args.flag("show_map", "Show what the map says; without, a review is blind.")
@args.flag(
    "main_class",
    "Ask for the main class alone, not for shares; no areas of ground follow from it.",
)
@args.option("context", int, 3, "Tiles along a picture, odd; the plot is in the middle.")
@args.option("port", click.IntRange(0, 65535), 0, "Of the page; 0 takes a free one.")
@args.flag("open", "Open the page in this machine's browser.")
@click.option(
    "--static",
    metavar="FILE",
    help="Write one offline page to this file, for interpreters by mail.",
)
@click.option(
    "--import",
    "taken_in",
    multiple=True,
    metavar="FILE",
    help="Take in answers that an offline page saved; repeat.",
)
@args.flag("summary", "Only say how far the review is, and how interpreters agree.")
@args.level
@args.reading
def command(
    source: str, imagery: Sequence[str], taken_in: Sequence[str], open: bool, **options: Any
) -> common.Answer:
    """Interpret the plots of SAMPLE, or the candidates of CHANGE, on a page of this machine.

    Every answer is on disk before the next plot shows. End with Ctrl-C, or on the page.
    """
    from quadrat.reviews import review

    def address(url: str) -> None:
        common.echo(f"Review at {url}\nEnd with Ctrl-C, or on the page.", err=True)
        if open:
            click.launch(url)

    with common.progress("review", "plots") as progress:
        result = review(
            source, imagery=imagery, taken_in=taken_in, on_address=address, on_progress=progress,
            **options,
        )  # fmt: skip
    return common.Answer(result, described(result))


def described(result: ReviewResult) -> str:
    """How far the review is, in words."""
    lines = []
    if result.static is not None:
        lines.append(f"written: {result.static}")
    if result.taken_in:
        lines.append(f"{result.taken_in:,} answers taken in")
    lines.append(f"{result.plots:,} plots drawn for {result.purpose}; answers: {result.answers}")
    rows = [
        [i.name, f"{i.answered:,}", f"{i.left:,}", f"{i.unobservable:,}",
         "" if i.seconds is None else f"{i.seconds:.0f}"]
        for i in result.interpreters
    ]  # fmt: skip
    if rows:
        lines.append(
            words.table(["interpreter", "answered", "left", "cannot be seen", "s a plot"], rows)
        )
    kappas = [
        [f"{a.first}, {a.second}", a.of, f"{a.plots:,}", f"{a.agreed:.1%}", kappa(a.kappa)]
        for a in result.agreement
    ]
    if kappas:
        heads = ["interpreters", "on", "plots", "agree", f"kappa ({result.level:.0%} interval)"]
        lines.append(words.table(heads, kappas))
    if result.disputed:
        named = ", ".join(str(n) for n in result.disputed[:SHOWN])
        more = len(result.disputed) - SHOWN
        lines.append(
            f"{len(result.disputed):,} plots disputed, {result.settled:,} of them settled "
            f"(quadrat review ... --as settled): {named}"
            + (f" and {more} more" if more > 0 else "")
        )
    return "\n".join(lines)


def kappa(figure: Any) -> str:
    """`0.72 (0.61 to 0.83)`; the value alone where there is no interval."""
    if math.isnan(figure.value):
        return "not defined: one class only"
    if math.isnan(figure.low):
        return f"{figure.value:.2f}"
    return f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})"
