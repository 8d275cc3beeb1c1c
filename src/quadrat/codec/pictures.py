"""Picture files as pixels: PNG, JPEG and TIFF of 8 bits a band, or what else the file is."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import border, storage
from quadrat.codec import png, tiff
from quadrat.errors import ImageError, RasterError

Chip = NDArray[np.uint8]  # (H, W, 3)
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
MAX_SIDE = 4096
MAX_BYTES = 256 << 20  # of a picture file: four bands of 32 bits at `MAX_SIDE`
_JPEG = b"\xff\xd8\xff"
# how files begin that are often called like pictures
_OTHERS = {
    b"RIFF": "a WebP picture", b"GIF8": "a GIF picture", b"BM": "a BMP picture",
    b"\0\0\0\x0cjP": "a JPEG 2000 picture", b"\xff\x4f\xff\x51": "a JPEG 2000 picture",
    b"8BPS": "a Photoshop file", b"%PDF": "a PDF file", b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive", b"version https://git-lfs": "a pointer of Git LFS",
    b"<": "a web page or XML",
}  # fmt: skip
_ORIENTATION = 274  # of EXIF; 1 is as it lies
# Pillow's modes of 8 bits whose colours are known
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})


def read_image(source: str | bytes) -> Chip:
    """A picture file (PNG, JPEG, TIFF) as `(H, W, 3) uint8` RGB.

    Grey pictures get three equal bands, palettes their colours; alpha is dropped. Pictures that a
    camera marked as turned are turned.

    Args:
        source: a URI, or the file's bytes.

    Raises:
        ImageError: not a picture, truncated, not of 8 bits, or larger than 4096 pixels a side.
        StorageError: a file that cannot be read, or of more than `MAX_BYTES`.
    """
    name = storage.redact(source) if isinstance(source, str) else "a picture"
    data = storage.read_bytes(source, MAX_BYTES) if isinstance(source, str) else source
    if data.startswith(png.SIGNATURE):
        fast = png.read(data, MAX_SIDE)
        return fast if fast is not None else _read_pillow(data, name)
    if data.startswith((_JPEG, *tiff.SIGNATURES)):
        return _read_pillow(data, name)
    raise ImageError(f"{name} is {_what(data)}, not a PNG, JPEG or TIFF picture; convert it")


def _what(data: bytes) -> str:
    """The kind of a file that is no picture."""
    if not data:
        return "empty"
    if data[4:8] == b"ftyp":
        return "a HEIF, AVIF or video file"
    head = data.lstrip() if data.lstrip().startswith(b"<") else data
    formats = (what for start, what in _OTHERS.items() if head.startswith(start))
    return next(formats, "something else")


def _read_pillow(data: bytes, name: str) -> Chip:
    """A PNG, JPEG or TIFF file by Pillow, whose errors all become ImageErrors."""
    kind = "or of a kind that is not read"
    try:
        if data.startswith(png.SIGNATURE):
            _check_png(data, name)
        elif not data.startswith(_JPEG):
            layout = tiff.read_layout(data)
            layout.check(name)
            kind = f"or a TIFF of a layout that is not read: {layout}"
            if layout.is_raster:
                return _read_raster(data, name)
        with _open(data) as picture:
            _check_side(picture.size, name)
            if picture.mode not in _MODES:
                raise ImageError(
                    f"{name} has pixels of the kind {picture.mode}; save it as 8-bit RGB"
                )
            return np.asarray(_upright(picture).convert("RGB"))
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise anything on what is damaged
        raise ImageError(
            f"{name} is truncated or damaged, {kind} ({border.short(error)}); replace it"
        ) from None


def _open(data: bytes) -> Any:
    """The picture, its pixels not read yet; `Image.open` would guess the format."""
    from PIL import JpegImagePlugin, PngImagePlugin, TiffImagePlugin

    file = io.BytesIO(data)
    if data.startswith(png.SIGNATURE):
        return PngImagePlugin.PngImageFile(file)
    if data.startswith(_JPEG):
        return JpegImagePlugin.JpegImageFile(file)
    return TiffImagePlugin.TiffImageFile(file)


def _check_side(size: tuple[int, int], name: str) -> None:
    if max(size) > MAX_SIDE:
        raise ImageError(
            f"{name} is {size[0]:,} x {size[1]:,} pixels, more than {MAX_SIDE}; imagery goes in "
            "as GeoTIFF through quadrat tile"
        )


def _check_png(data: bytes, name: str) -> None:
    if len(data) > 24 and data[24] > 8:  # bits a band
        raise ImageError(f"{name} is a PNG of {data[24]}-bit bands; save it as 8-bit RGB first")


def _upright(picture: Any) -> Any:
    """The picture turned by its EXIF orientation; Pillow turns TIFFs itself."""
    from PIL import ImageOps

    turned = picture.format != "TIFF" and picture.getexif().get(_ORIENTATION, 1) != 1
    return ImageOps.exif_transpose(picture) if turned else picture


def _read_raster(data: bytes, name: str) -> Chip:
    from quadrat import raster

    try:
        return raster.read_rgb(data, MAX_SIDE)
    except RasterError as error:
        raise ImageError(f"{name} {error}") from None


def resize(chip: Chip, size_px: int) -> Chip:
    """A square picture of another size: area average when shrinking, bilinear when growing."""
    if chip.shape[:2] == (size_px, size_px):
        return chip
    from PIL import Image

    # Pillow's bilinear filter widens with the scale, so that shrinking averages
    picture = Image.fromarray(chip).resize((size_px, size_px), Image.Resampling.BILINEAR)
    return np.asarray(picture)
