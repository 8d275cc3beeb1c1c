"""quadrat pack: a folder of images, one subfolder a class -> a tile set."""

from __future__ import annotations

from typing import Any

import click

from quadrat.cli import common
from quadrat.cli.tile import ENCODINGS, described


@common.verb()
@click.argument("folder")
@common.out_option("tiles")
@click.option(
    "--size-px",
    type=click.IntRange(min=1),
    default=224,
    show_default=True,
    help="Side of a tile, pixels.",
)
@click.option(
    "--legend",
    metavar="NAME|FILE",
    help="Land-use classes; the subfolders' names by default.",
)
@click.option(
    "--split",
    type=click.Choice(("random", "none")),
    default="random",
    show_default=True,
    help="How validation images are chosen; folders train/, validation/, test/ come first.",
)
@click.option(
    "--validation",
    type=click.FloatRange(0, 1),
    default=0.2,
    show_default=True,
    help="Share of validation images.",
)
@click.option(
    "--test",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of test images.",
)
@common.seed_option
@click.option(
    "--resize/--no-resize",
    default=True,
    show_default=True,
    help="Resize images of another size, or skip and list them.",
)
@click.option("--balance", is_flag=True, help="As many tiles of every class as of the rarest.")
@click.option("--keep-duplicates", is_flag=True, help="Keep images equal to an earlier one.")
@click.option(
    "--encoding",
    type=click.Choice(ENCODINGS),
    default="zstd",
    show_default=True,
    help="How tiles are kept; all are without loss.",
)
@common.overwrite_option
@common.strict_option
def command(folder: str, out: str, legend: str | None, split: str, **options: Any) -> common.Answer:
    """Turn FOLDER, with one subfolder of PNG, JPEG or TIFF images a class, into a tile set."""
    from quadrat.legend import load_legend
    from quadrat.tiles import pack

    with common.progress("pack", "images") as report:
        result = pack(
            folder,
            out,
            legend=None if legend is None else load_legend(legend),
            split=None if split == "none" else split,
            on_progress=report,
            **options,
        )
    return common.Answer(result, described(result))
