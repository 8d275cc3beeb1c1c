"""quadrat change: land-use change between dates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from quadrat import choices
from quadrat.cli import args, common, words

if TYPE_CHECKING:
    from quadrat.changes import ChangeResult

SHOWN = 12


@common.verb()
@click.argument("dates", nargs=-1, required=True, metavar="DATE_1 DATE_2...")
@args.out("change", "Folder for the tables, the list of candidates and their pictures.")
@click.option(
    "--model",
    metavar="MODEL",
    help="Score the dates, which are imagery or tile sets, with this model first.",
)
@click.option(
    "--from", "from_classes", multiple=True, metavar="CLASS", help="List changes from this class."
)
@click.option(
    "--to", "to_classes", multiple=True, metavar="CLASS", help="List changes to this class."
)
@args.coarser
@args.option("at-least", args.SHARE, 0.25, "Share of a tile that is a change.")
@args.option("min-probability", args.SHARE, 0.5, "List tiles whose change is at least so likely.")
@click.option("--limit", type=args.COUNT, help="Most candidates in the list.")
@args.option(
    "smoothing",
    click.FloatRange(0, 1, max_open=True),
    0.25,
    "Weight of the neighbours in a tile's prior; for two dates.",
)
@args.option(
    "recalibrate/--no-recalibrate",
    None,
    True,
    "Fit later dates' scores to ground that did not change.",
)
@args.option(
    "normalise",
    choices.NORMALISATIONS,
    "none",
    "How later imagery is brought to the first date's colours; with --model.",
)
@args.option(
    "evidence",
    choices.EVIDENCE,
    "auto",
    "What changes are judged by: parts of tiles (cells), with --model; their probabilities; in a "
    "series also labels with each date's confusion.",
    into="evidence_from",
)
@args.labelled
@args.option("show", args.COUNT_OR_0, 100, "Candidates that get a before/after picture.")
@args.pictures_from
@args.level
@args.reading
@args.seed
@args.overwrite
@args.engine
def command(
    dates: Sequence[str],
    out: str,
    model: str | None,
    engine: args.EngineArgs,
    **options: Any,
) -> common.Answer:
    """Find land-use change between DATE_1 and DATE_2, or over a series of dates.

    Dates are scores of the same ground, earliest first; with --model they are imagery or tile
    sets, the first of which may be labelled.
    """
    from quadrat.changes import change

    if model is None:
        places = [args.place("scores", d) for d in dates]
    else:
        places, model = list(dates), args.place("models", model)
    with common.engine(engine) as made, common.progress("change") as report:
        result = change(places, out, model=model, engine=made, on_progress=report, **options)
    return common.Answer(result, described(result))


def described(result: ChangeResult) -> str:
    """The changes in words."""
    from quadrat.changes.tables import spread, total

    rows = [
        [m.source, m.target, f"{m.compared:,}", spread(m.expected, 1),
         spread(m.expected, result.tile_ha)]
        for m in result.moves[:SHOWN]
    ]  # fmt: skip
    heads = ["from", "to", "maps differ", "expected tiles", "hectares"]
    lines = [
        f"{result.dates[0]} to {result.dates[-1]}: {result.tiles:,} tiles, "
        f"{spread(total(result.changed), 1)} changed ({result.compared_changed:,} differ when the "
        "maps are compared)",
    ]
    lines += [words.table(heads, rows)] if rows else []
    if len(result.moves) > SHOWN:
        lines.append(f"and {len(result.moves) - SHOWN} more transitions, in change.md")
    lines.append(
        f"{result.candidates:,} candidates ({result.wanted}), about {result.expected_false:.1f} "
        f"of them expected to be false: {result.files['csv']}"
    )
    if result.pictures:
        lines.append(f"{len(result.pictures):,} pictures: {result.out}/pictures")
    return "\n".join([*lines, *result.notes])
