"""TIFF pictures: what a file's tags say of its pixels, and whether such pixels are read."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from quadrat.errors import ImageError

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # little and big endian, and BigTIFF
# https://www.awaresystems.be/imaging/tiff/tifftags/baseline.html
_BITS, _COMPRESSION, _COLOURS, _BANDS, _EXTRA, _NUMBERS = 258, 259, 262, 277, 338, 339
_KIND = 254  # bit 0: a smaller copy; bit 2: a mask
_BLOCKS = (273, 324)  # offsets of strips, of tiles; 0 where a block was never written
_WHITE, _BLACK, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_COLOUR_NAMES = {
    _WHITE: "MinIsWhite", _BLACK: "MinIsBlack", _RGB: "RGB", _PALETTE: "palette", 4: "mask",
    _CMYK: "CMYK", _YCBCR: "YCbCr", 8: "CIELAB", 9: "ICCLAB", 32803: "colour filter array",
}  # fmt: skip
_NUMBER_NAMES = {1: "unsigned", 2: "signed", 3: "floating point", 4: "undefined", 6: "complex"}
_ALPHA = (1, 2)  # associated, unassociated


@dataclass(frozen=True)
class Layout:
    """What the first directory of a TIFF says.

    Attributes:
        bits: of a pixel, a band each. numbers, extra: SampleFormat and ExtraSamples of TIFF 6.0.
        colours: PhotometricInterpretation, -1 where it is missing.
        pages: more than one picture, not counting smaller copies and masks.
        sparse: some blocks were never written.
    """

    bands: int
    bits: tuple[int, ...]
    numbers: tuple[int, ...]
    colours: int
    extra: tuple[int, ...]
    compression: int
    pages: bool
    sparse: bool

    def __str__(self) -> str:
        bands = f"{self.bands:,} band{'s' if self.bands != 1 else ''}"
        numbers = _NUMBER_NAMES.get(max(self.numbers, default=1), "of another kind")
        least, most = min(self.bits, default=1), max(self.bits, default=1)
        bits = str(most) if least == most else f"{least} to {most}"
        colours = _COLOUR_NAMES.get(self.colours, f"colours {self.colours}")
        return f"{bands} of {bits} bits ({numbers}, {colours}, compression {self.compression})"

    @property
    def is_raster(self) -> bool:
        """Whether only raster libraries read these bands.

        Those are three or more of photometric type MinIsBlack, or more than six.
        """
        return (self.bands >= 3 and self.colours == _BLACK) or self.bands > 6

    def check(self, name: str) -> None:
        """ImageError where such pixels are not read."""
        fault = self._fault()
        if fault:
            raise ImageError(
                f"{name} is a TIFF of this layout: {self}; {fault}: save it as 8-bit RGB, or cut "
                "it with quadrat tile"
            )

    def _fault(self) -> str:
        if any(b > 8 for b in self.bits) or set(self.numbers) - {1, 4}:
            return "only 8-bit unsigned pictures are read"
        if self.colours not in (_WHITE, _BLACK, _RGB, _PALETTE, _CMYK, _YCBCR):
            return "such colours are not read"
        if self.colours <= _BLACK and self.bands == 2 and not set(_ALPHA) & set(self.extra):
            return "two bands are no picture"
        if self.pages:
            return "it holds several pictures, of which only one would be read"
        if self.sparse:
            return "some of its pixels were never written"
        return ""


def read_layout(data: bytes) -> Layout:
    """The layout of a TIFF's first picture; what Pillow raises where its tags are damaged."""
    from PIL import TiffImagePlugin

    file = io.BytesIO(data)
    big = data[2] == 43 or data[3] == 43
    tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(16 if big else 8))
    file.seek(tags.next)
    tags.load(file)
    bands = int(tags.get(_BANDS, 1))
    pages = False
    if tags.next:
        file.seek(tags.next)
        second = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if big else 8])
        second.load(file)
        pages = not int(second.get(_KIND, 0)) & 5
    return Layout(
        bands,
        _several(tags.get(_BITS, 1)),
        _several(tags.get(_NUMBERS, 1)),
        int(tags.get(_COLOURS, -1)),
        _several(tags.get(_EXTRA, ())),
        int(tags.get(_COMPRESSION, 1)),
        pages,
        any(0 in _several(tags.get(tag, ())) for tag in _BLOCKS),
    )


def _several(value: Any) -> tuple[int, ...]:
    return tuple(int(v) for v in value) if isinstance(value, tuple) else (int(value),)
