"""Before and after: each candidate with its eight neighbours, both dates at one place and scale.

Pixels come from where the scores came from: the imagery that was scored, or the tile set. It does
not know how candidates were found.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quadrat import raster, storage, tiles
from quadrat.errors import QuadratError, ScoresError
from quadrat.grid import TileRange
from quadrat.raster import Imagery
from quadrat.scores import DateScores

Pixels = NDArray[np.uint8]  # (H, W, 3)

PANEL = 330  # pixels along a panel of 3 x 3 tiles
GAP, STRIP = 10, 22
NO_DATA = 60  # grey of ground without pixels
QUALITY = 88


class Ground(Protocol):
    """Pixels of a place on one date."""

    def __call__(self, row: int, col: int) -> Pixels:
        """The 3 x 3 tiles about a tile, (3 * size_px, 3 * size_px, 3) uint8."""
        ...


@dataclass(frozen=True)
class _Rasters:
    imagery: Imagery

    def __call__(self, row: int, col: int) -> Pixels:
        pixels, valid = raster.read_block(
            self.imagery, TileRange(row - 1, row + 2, col - 1, col + 2)
        )
        out = np.ascontiguousarray(pixels.transpose(1, 2, 0))
        if valid is not None:
            out = np.where(valid[..., None], out, np.uint8(NO_DATA))
        return out


@dataclass(frozen=True)
class _Chips:
    chips: dict[tuple[int, int], Pixels]
    size_px: int

    def __call__(self, row: int, col: int) -> Pixels:
        s = self.size_px
        out = np.full((3 * s, 3 * s, 3), NO_DATA, np.uint8)
        for i in range(3):
            for j in range(3):
                chip = self.chips.get((row - 1 + i, col - 1 + j))
                if chip is not None:
                    out[i * s : (i + 1) * s, j * s : (j + 1) * s] = chip
        return out


def open_ground(
    day: DateScores,
    places: Sequence[tuple[int, int]],
    imagery: Sequence[str] = (),
    **reading: Any,
) -> Ground:
    """Where the pixels of a date come from.

    Args:
        places: (row, col) of the tiles whose pictures will be wanted.
        imagery: files to read instead of those that the scores name.
        reading: bands, nodata and stretch, as for `quadrat.raster.open_imagery`.

    Raises:
        ScoresError: the scores name nothing that is still there.
    """
    source = day.info.get("source") or {}
    uri, kind = str(source.get("uri", "")), str(source.get("kind", ""))
    if not imagery and kind == "tileset" and storage.exists(storage.join(uri, "tileset.json")):
        return _from_tile_set(uri, places)
    listed = (day.info.get("provenance") or {}).get("imagery") or []
    files = list(imagery) or [str(i.get("file", "")) for i in listed]
    missing = [f for f in files if storage.is_local(f) and not storage.exists(f)]
    if not files or missing:
        what = f"; {storage.redact(missing[0])} is gone" if missing else ""
        raise ScoresError(
            f"no pictures of {day.date}: {storage.redact(day.uri)} names no imagery that can be "
            f"read{what}; give it with --imagery"
        )
    g = day.grid
    given = {k: v for k, v in reading.items() if v is not None}
    return _Rasters(
        raster.open_imagery(files, crs=g.crs, tile_m=g.tile_m, pixel_m=g.pixel_m, **given)
    )


def _from_tile_set(uri: str, places: Sequence[tuple[int, int]]) -> Ground:
    """The wanted tiles and their neighbours, read once."""
    wanted = {(r + i, c + j) for r, c in places for i in (-1, 0, 1) for j in (-1, 0, 1)}
    found: dict[tuple[int, int], Pixels] = {}
    opened = tiles.open_tiles(uri)
    for part in opened.parts():
        if not wanted:
            break
        for batch in tiles.read_part(part, 64):
            rows, cols = (batch.index[n].to_pylist() for n in ("row", "col"))
            for i, place in enumerate(zip(rows, cols, strict=True)):
                if place in wanted:
                    found[place] = batch.chips[i].copy()
                    wanted.discard(place)
    return _Chips(found, opened.size_px)


def panel(pixels: Pixels) -> Any:
    """3 x 3 tiles as one picture with the centre tile outlined (a Pillow image)."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(pixels).resize((PANEL, PANEL), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(image)
    a, b = PANEL // 3, 2 * PANEL // 3
    draw.rectangle((a - 2, a - 2, b + 2, b + 2), outline=(0, 0, 0), width=1)
    draw.rectangle((a - 1, a - 1, b + 1, b + 1), outline=(255, 255, 255), width=2)
    return image


def side_by_side(pictures: Sequence[Pixels], words: Sequence[str]) -> bytes:
    """The dates' panels in a row, each under its words; JPEG bytes."""
    from PIL import Image, ImageDraw

    n = len(pictures)
    canvas = Image.new("RGB", (n * PANEL + (n - 1) * GAP, PANEL + STRIP), (255, 255, 255))
    draw = ImageDraw.Draw(canvas)
    for i, (pixels, text) in enumerate(zip(pictures, words, strict=True)):
        x = i * (PANEL + GAP)
        canvas.paste(panel(pixels), (x, STRIP))
        draw.text((x + 2, 5), _plain(text), fill=(0, 0, 0))
    out = io.BytesIO()
    canvas.save(out, "JPEG", quality=QUALITY, subsampling=0)
    return out.getvalue()


def _plain(text: str) -> str:
    """What Pillow's own font can draw."""
    return text.encode("latin-1", "replace").decode("latin-1")


def write(
    rows: Sequence[dict[str, Any]],
    days: Sequence[DateScores],
    out: str,
    *,
    imagery: Sequence[Sequence[str]] = (),
    on_progress: Callable[[int, int], None] | None = None,
    **reading: Any,
) -> tuple[list[str], list[str]]:
    """A picture for each candidate row in the folder `out`.

    Returns:
        The pictures' URIs, and what could not be done, a sentence each.
    """
    for old in storage.list_names(out, ".jpg"):  # of an earlier list
        storage.remove(storage.join(out, old))
    if not rows:
        return [], []
    places = [(int(r["row"]), int(r["col"])) for r in rows]
    try:
        grounds = [
            open_ground(d, places, imagery[i] if imagery else (), **reading)
            for i, d in enumerate(days)
        ]
    except QuadratError as error:
        return [], [f"No before/after pictures: {error}."]
    written, failed = [], []
    for n, (record, (row, col)) in enumerate(zip(rows, places, strict=True), start=1):
        try:
            pixels = [g(row, col) for g in grounds]
        except QuadratError as error:
            failed.append(f"No picture of tile ({row}, {col}): {error}.")
            continue
        words = [f"{d.date}: {label}" for d, label in zip(days, _labels(record, days), strict=True)]
        uri = storage.join(out, f"{record['rank']:05d}_r{row}_c{col}.jpg")
        storage.write_bytes(uri, side_by_side(pixels, words))
        written.append(uri)
        if on_progress is not None:
            on_progress(n, len(rows))
    return written, failed


def _labels(record: dict[str, Any], days: Sequence[DateScores]) -> list[str]:
    """What each date's picture is called: the classes inferred, first to last."""
    classes = record.get("classes")
    if isinstance(classes, str) and classes:
        return classes.split(" > ")
    return [str(record["from"]), *[str(record["to"])] * (len(days) - 1)]
