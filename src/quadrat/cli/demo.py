"""quadrat demo: a synthetic county -> tiles -> model -> scores -> map, in one folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from quadrat.cli import args, common, words

if TYPE_CHECKING:
    from quadrat.walkthrough import Demo


@common.verb()
@click.option(
    "--out", default="demo", show_default=True, metavar="FOLDER", help="The folder for all of it."
)
@args.option("tiles", args.COUNT, 600, "Size of the county: at least so many tiles of 224 m.")
@args.seed
@args.option("dates", click.IntRange(1, 10), 2, "Dates of imagery; the first is mapped.")
@args.tracking
@args.engine
def command(out: str, engine: args.EngineArgs, **options: Any) -> common.Answer:
    """Run the whole job on a generated county, offline.

    The county is synthetic: it shows no real place.
    """
    from quadrat.walkthrough import demo

    with common.engine(engine) as made:
        result = demo(
            out,
            engine=made,
            on_run=lambda run: common.note("runs", run.tracking_uri, run.id),
            on_step=common.progress,
            **options,
        )
    written = (
        ("county", result.county.out),
        ("tiles", result.tiles.uri),
        ("models", result.model.uri),
        ("scores", result.scores.uri),
        *(("files", uri) for uri in result.map.files),
    )
    return common.Answer(result, described(result), written)


def described(made: Demo) -> str:
    """Where to look."""
    lines = [
        f"a synthetic county of {made.county.tiles:,} tiles, of which {made.scores.tiles:,} scored",
        *(
            [words.accuracy_text(made.model.metrics, made.model.ground)]
            if made.model.metrics is not None
            else []
        ),
        "",
        "look at",
        f"  {made.map.png}  the map, a picture",
        f"  {made.map.uri}  the map, one pixel a tile, for QGIS",
        f"  {made.out}/scores/parts  every tile's probabilities, GeoParquet, for QGIS or GeoPandas",
        f"  {made.county.imagery[0]}  the imagery",
        f"  quadrat runs list  the run history, {made.tracking_uri}",
    ]
    if len(made.county.imagery) > 1:
        out, change = made.out, f"{made.out}/change"
        lines += [
            "",
            "next: what changed until the second date, how far to trust it, and all on one page",
            f"  quadrat change {out}/tiles {made.county.imagery[1]} --model {out}/model "
            f"--out {change}",
            f"  quadrat report {change}/scores_1 {change}/scores_2 --change {change} "
            f"--out {out}/report.html",
        ]
    return "\n".join(lines)
