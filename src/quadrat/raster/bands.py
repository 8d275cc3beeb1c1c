"""Which bands are red, green and blue: by the user, the file's colour interpretation, or place."""

from __future__ import annotations

import re
from dataclasses import dataclass

from quadrat import storage
from quadrat.errors import RasterError
from quadrat.raster.files import RasterInfo

Three = tuple[int, int, int]
COLOURS = ("red", "green", "blue")
# Colour spaces that GDAL hands over as they are stored, in rasterio's words.
OTHER_SPACES = {
    "cyan": "CMYK", "magenta": "CMYK", "Y": "YCbCr", "Cb": "YCbCr", "Cr": "YCbCr", "hue": "HLS",
    "saturation": "HLS",
}  # fmt: skip


@dataclass(frozen=True)
class Roles:
    """The red, green and blue band of a file, from 1, and how they are known."""

    bands: Three
    known_by: str

    def __str__(self) -> str:
        named = ", ".join(f"{c} {b}" for c, b in zip(COLOURS, self.bands, strict=True))
        return f"{named} ({self.known_by})"


def roles(i: RasterInfo, given: Three | None, alpha: int | None) -> Roles:
    """The bands to read.

    Args:
        given: what the user named. alpha: the band that tells missing pixels, or None.

    Raises:
        RasterError: a colour table, another colour space, bands that contradict each other, or too
            few of them.
    """
    name = storage.redact(i.uri)
    if "palette" in i.colours:
        raise RasterError(
            f"{name} holds places in a colour table, not colours; "
            f"write its colours first: gdal_translate -expand rgb {name} rgb.tif"
        )
    if given is not None:
        _check_given(i, given, name)
        return Roles(given, "as given")
    space = next((OTHER_SPACES[c] for c in i.colours if c in OTHER_SPACES), None)
    if space:
        raise RasterError(f"{name} is in {space} colours; convert it to RGB first")
    by_colour, by_name = _found(i.colours), _found(i.names)
    if by_colour and by_name and by_colour != by_name:
        raise RasterError(
            f"{name} contradicts itself: its colour interpretation says {_text(by_colour)}, its "
            f"band names say {_text(by_name)}; say which with --bands R G B"
        )
    if by_colour or by_name:
        how = "colour interpretation" if by_colour else "band names"
        return Roles(by_colour or by_name or (1, 2, 3), how)
    free = [b for b in range(1, i.count + 1) if b != alpha][:3]
    said = [i.colours[b - 1] for b in free if len(i.colours) >= b]
    if any(c in COLOURS and COLOURS[n] != c for n, c in enumerate(said)) or "nir" in said:
        raise RasterError(
            f"the bands of {name} are {', '.join(i.colours)}, so red, green and blue are not "
            "known; name three with --bands R G B"
        )
    if len(free) < 3:
        raise RasterError(_too_few(i, (1, 2, 3), name))
    return Roles((free[0], free[1], free[2]), "by place in the file")


def _check_given(i: RasterInfo, bands: Three, name: str) -> None:
    if len(bands) != 3:
        raise RasterError(f"--bands {bands}: three bands are needed, red, green and blue")
    if min(bands) < 1 or max(bands) > i.count:
        raise RasterError(_too_few(i, bands, name))


def _too_few(i: RasterInfo, bands: Three, name: str) -> str:
    plural = "s" if i.count != 1 else ""
    return (
        f"{name} has {i.count} band{plural}, but bands {bands} are wanted; "
        "choose them with --bands R G B (1 1 1 reads one band as grey)"
    )


def _found(words: tuple[str, ...]) -> Three | None:
    """The places of red, green and blue among words, when each stands there exactly once."""
    plain = [re.sub(r"[\s_-]+", " ", w.strip().lower()).removesuffix(" band") for w in words]
    if any(plain.count(c) != 1 for c in COLOURS):
        return None
    r, g, b = (plain.index(c) + 1 for c in COLOURS)
    return r, g, b


def _text(bands: Three) -> str:
    return " ".join(map(str, bands))


def summary(infos: tuple[RasterInfo, ...]) -> tuple[str, ...]:
    """The bands that are read, in words: one text where all files agree, else one each."""
    texts = [str(Roles(i.bands, i.bands_known_by)) for i in infos]
    return tuple(
        text if len(set(texts)) == 1 else f"{text} in {texts.count(text):,} of {len(texts):,} files"
        for text in dict.fromkeys(texts)
    )
