"""Before and after: each candidate with its eight neighbours, both dates at one place and scale.

Pixels come from where the scores came from: the imagery that was scored, or the tile set. It does
not know how candidates were found.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

from quadrat import storage
from quadrat.errors import QuadratError
from quadrat.scores import DateScores
from quadrat.tiles import surroundings
from quadrat.tiles.surroundings import Pixels, Surroundings

PANEL = 330  # pixels along a panel of 3 x 3 tiles
GAP, STRIP = 10, 22
QUALITY = 88


def open_ground(
    day: DateScores,
    places: Sequence[tuple[int, int]],
    imagery: Sequence[str] = (),
    **reading: Any,
) -> Surroundings:
    """Where the pixels of a date come from; each place with its eight neighbours.

    Args:
        places: (row, col) of the tiles whose pictures will be wanted.
        imagery: files to read instead of those that the scores name.
        reading: bands, nodata and stretch, as for `quadrat.raster.open_imagery`.

    Raises:
        ScoresError: the scores name nothing that is still there.
    """
    if imagery:
        return surroundings.of_imagery(imagery, day.grid, **reading)
    what = f"no pictures of {day.date}: {storage.redact(day.uri)}"
    return surroundings.of_source(day.info, day.grid, places, what=what, **reading)


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
