"""quadrat score: a model over tiles, images or rasters -> scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from quadrat import skipped as skips
from quadrat.cli import common
from quadrat.cli import imagery as reading

if TYPE_CHECKING:
    from quadrat.scoring import ScoresSummary


@common.verb()
@common.place_argument("model", "models")
@common.place_argument("source", "tiles", nargs=-1)
@common.out_option("scores")
@click.option(
    "--precision",
    type=click.Choice(("auto", "fp32", "bf16", "int8")),
    default="auto",
    show_default=True,
    help="Numbers that the network works in; auto is what the model was accepted in.",
)
@click.option(
    "--sample-frac",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Share of the tiles to score, chosen at random.",
)
@common.seed_option
@click.option("--csv", metavar="URI", help="Also write filepath,pred_label to this file.")
@reading.imagery_options
@click.option("--resize", is_flag=True, help="Resize images of another size.")
@common.overwrite_option
@common.strict_option
@common.engine_options
def command(
    model: str,
    source: Sequence[str],
    out: str,
    engine: str,
    master: str | None,
    workers: int | None,
    **options: Any,
) -> common.Answer:
    """Score SOURCE with MODEL.

    SOURCE is a tile set, a folder of images, or raster files, which are read on the model's grid
    with no tile files in between. Stopped at any moment, the same command goes on where it was.
    """
    from quadrat.scoring import score

    with common.engine(engine, master, workers) as made, common.progress("score") as report:
        sources = source[0] if len(source) == 1 else list(source)
        result = score(model, sources, out, engine=made, on_progress=report, **options)
    files = (("files", result.csv),) if result.csv else ()
    return common.Answer(result, described(result), files)


def described(result: ScoresSummary) -> str:
    """Scores in words."""
    lines = [
        f"{result.uri}: {result.tiles:,} tiles scored in {result.precision}",
        f"labels: {common.counts_text(result.counts)}",
    ]
    lines += [f"bands: {text}" for text in result.bands]
    if result.dropped:
        lines.append(f"dropped: nodata {result.dropped:,}")
    lines += common.skipped_text(skips.to_lists(result.listed), result.skipped)
    lines += [f"warning: {text}" for text in result.warnings]
    if result.csv:
        lines.append(f"table: {result.csv}")
    return "\n".join(lines)
