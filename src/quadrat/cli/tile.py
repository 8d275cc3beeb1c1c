"""quadrat tile: imagery and labels -> a tile set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from quadrat import choices
from quadrat.cli import args, common, words

if TYPE_CHECKING:
    from quadrat.tiles import TileSet


@common.verb()
@click.argument("imagery", nargs=-1, required=True)
@args.out("tiles")
@click.option("--labels", metavar="URI", help="A label raster (NLCD), or polygons with --field.")
@args.legend
@args.option(
    "rule",
    choices.LABEL_RULES,
    next(iter(choices.LABEL_RULES)),
    "A tile is labelled by its largest share, where its nine points agree, or by a majority.",
)
@args.option(
    "threshold", args.PART, 0.5, "Share of the tile that a class needs, for --rule majority."
)
@click.option("--field", help="The polygons' field that holds the class; class if not given.")
@click.option("--layer", help="The layer of vector files (labels, within, groups) of several.")
@args.option("tile-m", float, 224.0, "Side of a tile, metres.")
@args.option("pixel-m", float, 1.0, "Side of a pixel, metres.")
@args.imagery
@args.option(
    "split",
    (*choices.SPLITS, "none"),
    "block",
    "How validation tiles are chosen; random leaks, and is for comparison.",
)
@args.held_out("tiles")
@args.option("block", args.COUNT, 8, "Side of a block, tiles.")
@args.option(
    "buffer",
    args.COUNT_OR_0,
    1,
    "Training tiles nearer than this many tiles to held-out ones are left out.",
)
@click.option("--groups", metavar="FILE", help="Polygons (counties) for --split source.")
@click.option("--groups-field", help="Their column that names the group.")
@args.balance
@args.flag("labelled-only", "Leave out tiles without a label.")
@args.seed
@args.encoding
@args.overwrite
@args.strict
@args.engine
def command(
    imagery: Sequence[str],
    out: str,
    split: str,
    engine: args.EngineArgs,
    **options: Any,
) -> common.Answer:
    """Cut IMAGERY (GeoTIFF, COG or VRT files) into a tile set, with labels and a split."""
    from quadrat.tiles import tile

    with common.engine(engine) as made, common.progress("tile") as report:
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
        lines.append(f"labels: {words.counts_text(info['counts']['label'])}")
    lines += [f"bands: {text}" for text in info.get("provenance", {}).get("bands", ())]
    dropped = {k: n for k, n in info.get("dropped", {}).items() if n}
    if dropped:
        lines.append(f"dropped: {words.counts_text(dropped)}")
    if info.get("unknown_codes"):
        lines.append(
            f"unknown codes: {words.counts_text(info['unknown_codes'])}; "
            "a legend of your own may give them a class"
        )
    skipped = info.get("skipped", {})
    lines += words.skipped_text(skipped.get("listed", ()), skipped.get("count", 0))
    lines += [f"warning: {text}" for text in info.get("warnings", ())]
    if info.get("audit"):
        audit = {k: v for k, v in info["audit"].items() if k != "share"}
        lines.append(str(Audit(**audit)))
    return "\n".join(lines)
