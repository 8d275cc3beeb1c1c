"""quadrat change: land-use change between dates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from quadrat.cli import common
from quadrat.cli import imagery as reading

if TYPE_CHECKING:
    from quadrat.changes import ChangeResult

SHOWN = 12


@common.verb()
@click.argument("dates", nargs=-1, required=True, metavar="DATE_1 DATE_2...")
@common.out_option("change", "Folder for the tables, the list of candidates and their pictures.")
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
@common.legend_option(None, "Fold the classes into this legend first, as nlcd3.")
@click.option(
    "--min-probability",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="List tiles whose change is at least so likely.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Most candidates in the list.")
@click.option(
    "--smoothing",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.25,
    show_default=True,
    help="Weight of the neighbours in a tile's prior; for two dates.",
)
@click.option(
    "--recalibrate/--no-recalibrate",
    default=True,
    show_default=True,
    help="Fit later dates' scores to ground that did not change.",
)
@click.option(
    "--normalise",
    type=click.Choice(("linear", "histogram", "none")),
    default="linear",
    show_default=True,
    help="How later imagery is brought to the first date's colours; with --model.",
)
@click.option(
    "--align/--no-align",
    default=True,
    show_default=True,
    help="Fit the model's last layer to later dates, on ground that did not change; with --model.",
)
@click.option(
    "--evidence",
    "evidence_from",
    type=click.Choice(("probabilities", "labels")),
    default="probabilities",
    show_default=True,
    help="What a series goes by: probabilities, or labels with each date's confusion.",
)
@click.option(
    "--split",
    type=click.Choice(("auto", "test", "validation", "all")),
    default="auto",
    show_default=True,
    help="Labelled tiles of the first date that its scores are checked on.",
)
@click.option(
    "--show",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="Candidates that get a before/after picture.",
)
@click.option(
    "--imagery",
    multiple=True,
    metavar="URI",
    help="Take pictures from this file or folder; once a date, in their order.",
)
@click.option(
    "--level",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Of the intervals.",
)
@reading.reading_options
@common.seed_option
@common.overwrite_option
@common.engine_options
def command(
    dates: Sequence[str],
    out: str,
    model: str | None,
    engine: str,
    master: str | None,
    workers: int | None,
    **options: Any,
) -> common.Answer:
    """Find land-use change between DATE_1 and DATE_2, or over a series of dates.

    Dates are scores of the same ground, earliest first; with --model they are imagery or tile
    sets, the first of which may be labelled.
    """
    from quadrat.changes import change

    if model is None:
        places = [common.place("scores", d) for d in dates]
    else:
        places, model = list(dates), common.place("models", model)
    with common.engine(engine, master, workers) as made, common.progress("change") as report:
        result = change(places, out, model=model, engine=made, on_progress=report, **options)
    return common.Answer(result, described(result))


def described(result: ChangeResult) -> str:
    """The changes in words."""
    from quadrat.changes.result import spread, total

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
    lines += [common.table(heads, rows)] if rows else []
    if len(result.moves) > SHOWN:
        lines.append(f"and {len(result.moves) - SHOWN} more transitions, in change.md")
    lines.append(
        f"{result.candidates:,} candidates ({result.wanted}), about {result.expected_false:.1f} "
        f"of them expected to be false: {result.files['csv']}"
    )
    if result.pictures:
        lines.append(f"{len(result.pictures):,} pictures: {result.out}/pictures")
    return "\n".join([*lines, *result.notes])
