"""quadrat pack: a folder of images, one subfolder a class -> a tile set."""

from __future__ import annotations

from typing import Any

import click

from quadrat.cli import args, common
from quadrat.cli.tile import described


@common.verb()
@click.argument("folder")
@args.out("tiles")
@args.option("size-px", args.COUNT, 224, "Side of a tile, pixels.")
@click.option(
    "--legend",
    metavar="NAME|FILE",
    help="Land-use classes; the subfolders' names by default.",
)
@args.option(
    "split",
    ("random", "none"),
    "random",
    "How validation images are chosen; folders train/, validation/, test/ come first.",
)
@args.held_out("images")
@args.seed
@args.option(
    "resize/--no-resize", None, True, "Resize images of another size, or skip and list them."
)
@args.balance
@args.flag("keep-duplicates", "Keep images equal to an earlier one.")
@args.encoding
@args.overwrite
@args.strict
def command(folder: str, out: str, legend: str | None, split: str, **options: Any) -> common.Answer:
    """Turn FOLDER, with one subfolder of PNG, JPEG or TIFF images a class, into a tile set."""
    from quadrat.tiles import pack

    with common.progress("pack", "images") as report:
        result = pack(
            folder,
            out,
            legend=legend,
            split=None if split == "none" else split,
            on_progress=report,
            **options,
        )
    return common.Answer(result, described(result))
