"""quadrat unpack: a tile set -> a folder of PNG files, one subfolder a class."""

from __future__ import annotations

from quadrat.cli import args, common


@common.verb()
@args.placed("tileset", "tiles")
@args.out("", "The folder to write to.")
def command(tileset: str, out: str) -> common.Answer:
    """Write TILESET's tiles as PNG files, one subfolder a class."""
    from quadrat.tiles import unpack

    with common.progress("unpack") as report:
        written = unpack(tileset, out, on_progress=report)
    return common.Answer({"uri": out, "tiles": written}, f"{out}: {written:,} PNG files")
