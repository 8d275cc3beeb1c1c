"""quadrat score: a model over tiles, images or rasters -> scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from quadrat.cli import args, common, words

if TYPE_CHECKING:
    from quadrat.scoring import ScoresSummary


@common.verb()
@args.placed("model", "models")
@args.placed("source", "tiles", nargs=-1)
@args.out("scores")
@args.precision("Numbers that the network works in; auto is what the model was accepted in.")
@args.option(
    "views",
    click.IntRange(1, 8),
    1,
    "Views of each tile, turned and mirrored: better scores for so many times the time.",
)
@args.sample_frac("Share of the tiles to score, chosen at random.")
@args.seed
@click.option("--csv", metavar="URI", help="Also write filepath,pred_label to this file.")
@click.option("--parquet", metavar="URI", help="Also write all scores to one GeoParquet file.")
@args.imagery
@args.flag("resize", "Resize images of another size.")
@args.overwrite
@args.strict
@args.flag("keep_features", "Keep the features that the model's last layer reads with the scores.")
@args.engine
def command(
    model: str,
    source: Sequence[str],
    out: str,
    engine: args.EngineArgs,
    **options: Any,
) -> common.Answer:
    """Score SOURCE with MODEL.

    SOURCE is a tile set, a folder of images, or raster files, which are read on the model's grid
    with no tile files in between. Stopped at any moment, the same command goes on where it was.
    """
    from quadrat.scoring import score

    with common.engine(engine) as made, common.progress("score") as report:
        sources = source[0] if len(source) == 1 else list(source)
        result = score(model, sources, out, engine=made, on_progress=report, **options)
    files = tuple(("files", uri) for uri in (result.csv, result.parquet) if uri)
    return common.Answer(result, described(result), files)


def described(result: ScoresSummary) -> str:
    """Scores in words."""
    lines = [
        f"{result.uri}: {result.tiles:,} tiles scored in {result.precision} on {result.device}",
        f"labels: {words.counts_text(result.counts)}",
    ]
    lines += [f"bands: {text}" for text in result.bands]
    if result.dropped:
        lines.append(f"dropped: nodata {result.dropped:,}")
    if result.masked:
        lines.append(f"masked: {result.masked:,}")
    lines += words.skipped_text(result.listed, result.skipped)
    lines += [f"warning: {text}" for text in result.warnings]
    lines += [f"table: {uri}" for uri in (result.csv, result.parquet) if uri]
    return "\n".join(lines)
