"""quadrat tile: imagery and labels -> a tile set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from quadrat.cli import common
from quadrat.cli import imagery as reading

if TYPE_CHECKING:
    from quadrat.tiles import TileSet

RULES = ("nine-point", "majority")
SPLITS = ("block", "source", "random", "none")
ENCODINGS = ("zstd", "png", "raw")


@common.verb()
@click.argument("imagery", nargs=-1, required=True)
@common.out_option("tiles")
@click.option("--labels", metavar="URI", help="A label raster (NLCD), or polygons with --field.")
@common.legend_option()
@click.option(
    "--rule",
    type=click.Choice(RULES),
    default="nine-point",
    show_default=True,
    help="A tile has a label when its nine points agree, or when one class has the majority.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.5,
    show_default=True,
    help="Share of the tile that a class needs, for --rule majority.",
)
@click.option("--field", help="The polygons' field that holds the class; class if not given.")
@click.option("--layer", help="The layer of vector files (labels, within, groups) of several.")
@click.option(
    "--tile-m", type=float, default=224.0, show_default=True, help="Side of a tile, metres."
)
@click.option(
    "--pixel-m", type=float, default=1.0, show_default=True, help="Side of a pixel, metres."
)
@reading.imagery_options
@click.option(
    "--split",
    type=click.Choice(SPLITS),
    default="block",
    show_default=True,
    help="How validation tiles are chosen; random leaks, and is for comparison.",
)
@click.option(
    "--validation",
    type=click.FloatRange(0, 1),
    default=0.2,
    show_default=True,
    help="Share of validation tiles.",
)
@click.option(
    "--test",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of test tiles.",
)
@click.option(
    "--block",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Side of a block, tiles.",
)
@click.option(
    "--buffer",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Training tiles nearer than this many tiles to held-out ones are left out.",
)
@click.option("--groups", metavar="FILE", help="Polygons (counties) for --split source.")
@click.option("--groups-field", help="Their column that names the group.")
@click.option("--balance", is_flag=True, help="As many tiles of every class as of the rarest.")
@click.option("--labelled-only", is_flag=True, help="Leave out tiles without a label.")
@common.seed_option
@click.option(
    "--encoding",
    type=click.Choice(ENCODINGS),
    default="zstd",
    show_default=True,
    help="How tiles are kept; all are without loss.",
)
@common.overwrite_option
@common.strict_option
@common.engine_options
def command(
    imagery: Sequence[str],
    out: str,
    split: str,
    engine: str,
    master: str | None,
    workers: int | None,
    **options: Any,
) -> common.Answer:
    """Cut IMAGERY (GeoTIFF, COG or VRT files) into a tile set, with labels and a split."""
    from quadrat.tiles import tile

    with common.engine(engine, master, workers) as made, common.progress("tile") as report:
        result = tile(
            imagery,
            out,
            split=None if split == "none" else split,
            engine=made,
            on_progress=report,
            **options,
        )
    return common.Answer(result, described(result))


def described(tiles: TileSet) -> str:
    """A tile set in words: what it holds, what was left out, and the audit of its split."""
    from quadrat.split import Audit

    info = tiles.info
    lines = [f"{tiles.uri}: {tiles.tiles:,} tiles of {tiles.size_px} px"]
    if tiles.legend is not None:
        lines.append(f"labels: {common.counts_text(info['counts']['label'])}")
    lines += [f"bands: {text}" for text in info.get("provenance", {}).get("bands", ())]
    dropped = {k: n for k, n in info.get("dropped", {}).items() if n}
    if dropped:
        lines.append(f"dropped: {common.counts_text(dropped)}")
    if info.get("unknown_codes"):
        lines.append(
            f"unknown codes: {common.counts_text(info['unknown_codes'])}; "
            "a legend of your own may give them a class"
        )
    skipped = info.get("skipped", {})
    lines += common.skipped_text(skipped.get("listed", ()), skipped.get("count", 0))
    lines += [f"warning: {text}" for text in info.get("warnings", ())]
    if info.get("audit"):
        audit = {k: v for k, v in info["audit"].items() if k != "share"}
        lines.append(str(Audit(**audit)))
    return "\n".join(lines)
