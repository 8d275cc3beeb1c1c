"""Tiles as bytes, without loss, and picture files as pixels. It does not know tile sets.

The default encoding, `zstd`, stores the difference of each row of pixels to the row above,
compressed by Zstandard at level 1. Anyone can read it in three lines of numpy (see
`docs/formats.md`). On NAIP tiles it takes 0.72 of the raw size against 0.67 for PNG, and writes and
reads many times faster, which decides how fast a tile set scores (`benchmarks/encodings.py`).
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import storage
from quadrat.errors import ImageError

Chip = NDArray[np.uint8]  # (H, W, 3)
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
MAX_SIDE = 4096
MAX_BYTES = 256 << 20  # of a picture file: four bands of 32 bits at `MAX_SIDE`
BAND = 16  # rows of a tile that are added up together
_STORED = 65535  # bytes of a stored block of Deflate, at most
_PNG_END = b"\0\0\0\0IEND\xae\x42\x60\x82"


@dataclass(frozen=True)
class Encoding:
    """One way to keep a tile: bytes from `(H, W, 3) uint8`, and back into such an array."""

    name: str
    encode: Callable[[Chip], bytes]
    decode_into: Callable[[bytes | memoryview, Chip], None]


def _zstd_encode(chip: Chip) -> bytes:
    rows = np.ascontiguousarray(chip).reshape(len(chip), -1)
    step = rows.copy()
    step[1:] -= rows[:-1]  # wraps modulo 256, so nothing is lost
    return bytes(pa.Codec("zstd", compression_level=1).compress(step, asbytes=True))


def _zstd_decode(data: bytes | memoryview, out: Chip) -> None:
    try:
        raw = pa.Codec("zstd").decompress(data, out.nbytes)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ImageError(f"an encoded tile is damaged ({_line(error)})") from None
    _add_up(np.frombuffer(raw, np.uint8).reshape(len(out), -1), out.reshape(len(out), -1))


def _add_up(steps: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Each row the sum of the steps down to it, modulo 256: `np.add.accumulate`, but faster.

    Rows are added up in bands of `BAND` at once, then each band is lifted by the end of the one
    above it: few long additions instead of many short ones.
    """
    whole = len(steps) // BAND * BAND
    source, sums = (a[:whole].reshape(-1, BAND, a.shape[1]) for a in (steps, out))
    if whole:
        sums[:, 0] = source[:, 0]
        for i in range(1, BAND):
            np.add(sums[:, i - 1], source[:, i], out=sums[:, i])
        for i in range(1, len(sums)):
            sums[i] += sums[i - 1, -1]
    for i in range(whole, len(steps)):
        out[i] = steps[i] if i == 0 else out[i - 1] + steps[i]


def _raw_decode(data: bytes | memoryview, out: Chip) -> None:
    flat = np.frombuffer(data, np.uint8)
    if flat.size != out.size:
        raise ImageError(f"an encoded tile has {flat.size} bytes instead of {out.size}")
    out[:] = flat.reshape(out.shape)


def _png_encode(chip: Chip) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(chip).save(out, "PNG", compress_level=1)
    return out.getvalue()


def _png_decode(data: bytes | memoryview, out: Chip) -> None:
    pixels = read_image(bytes(data))
    if pixels.shape != out.shape:
        raise ImageError(f"an encoded tile is {pixels.shape[:2]} pixels, not {out.shape[:2]}")
    out[:] = pixels


ENCODINGS: dict[str, Encoding] = {
    "zstd": Encoding("zstd", _zstd_encode, _zstd_decode),
    "png": Encoding("png", _png_encode, _png_decode),
    "raw": Encoding("raw", lambda chip: np.ascontiguousarray(chip).tobytes(), _raw_decode),
}


def get_encoding(name: str) -> Encoding:
    """An encoding by name; ImageError for an unknown one."""
    if name not in ENCODINGS:
        raise ImageError(f"no encoding {name!r}; choose one of {', '.join(ENCODINGS)}")
    return ENCODINGS[name]


def decode(data: bytes | memoryview, encoding: str, size_px: int) -> Chip:
    """One tile, `(size_px, size_px, 3) uint8`; ImageError when it is damaged."""
    out = np.empty((size_px, size_px, 3), np.uint8)
    get_encoding(encoding).decode_into(data, out)
    return out


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def read_image(source: str | bytes) -> Chip:
    """A picture file (PNG, JPEG, TIFF) as `(H, W, 3) uint8` RGB.

    Grey pictures get three equal bands, palettes their colours; alpha is dropped.

    Args:
        source: a URI, or the file's bytes.

    Raises:
        ImageError: not a picture, truncated, 16-bit, or larger than 4096 pixels a side.
    """
    data = storage.read_bytes(source) if isinstance(source, str) else source
    name = storage.redact(source) if isinstance(source, str) else "a picture"
    fast = _read_png(data) if data[:8] == b"\x89PNG\r\n\x1a\n" else None
    return fast if fast is not None else _read_pillow(data, name)


def _read_png(data: bytes) -> Chip | None:
    """The common case, 8-bit RGB, by the faster decoder where one is installed; None otherwise.

    None too for what a decoder does not take: Pillow reads it, or says what is wrong with it.
    """
    if len(data) < 33 or data[24] != 8 or data[25] != 2:  # bit depth, colour type
        return None
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    packed = _packed_rows(data) if max(width, height) <= MAX_SIDE else None
    if packed is None:
        return None
    for decode_png in _fast_png():
        try:
            pixels: Any = decode_png(data, packed)
        except (RuntimeError, ValueError):
            continue
        if isinstance(pixels, np.ndarray) and pixels.shape == (height, width, 3):
            return pixels if pixels.dtype == np.uint8 else None
    return None


@lru_cache(maxsize=1)
def _fast_png() -> tuple[Callable[[bytes, bytes], Any], ...]:
    """Decoders that are installed, best first, of a file and its packed rows: imagecodecs decodes
    on several threads at once, pyspng keeps the interpreter lock meanwhile.
    """
    found: list[Callable[[bytes, bytes], Any]] = []
    with suppress(ImportError, AttributeError):
        import imagecodecs  # type: ignore[import-not-found,import-untyped,unused-ignore]

        if imagecodecs.DEFLATE.available:
            found.append(partial(_by_two_libraries, imagecodecs))
        else:
            found.append(lambda data, _: imagecodecs.png_decode(data))
    with suppress(ImportError):
        import pyspng

        found.append(lambda data, _: pyspng.load(data, format="RGB"))
    return tuple(found)


def _by_two_libraries(imagecodecs: Any, data: bytes, packed: bytes) -> Any:
    """Unpack rows with libdeflate, twice as fast as what libpng has, and let libpng undo filters.

    It gets them as a PNG whose rows are stored and not packed (RFC 1950, 1951).
    """
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data[28]:
        raise ValueError("interlaced: its rows are of several lengths")
    size = height * (1 + 3 * width)  # a filter's number before each row
    rows = imagecodecs.deflate_decode(packed, out=size)
    if len(rows) != size:
        raise ValueError(f"{len(rows)} bytes of rows, not {size}")
    view = memoryview(rows)
    blocks: list[bytes | memoryview] = [b"\x78\x01"]
    for at in range(0, size, _STORED):
        n = min(_STORED, size - at)
        blocks += [struct.pack("<BHH", at + n == size, n, n ^ 0xFFFF), view[at : at + n]]
    stream = b"".join([b"IDAT", *blocks, struct.pack(">I", imagecodecs.deflate_adler32(rows))])
    length, checksum = len(stream) - 4, imagecodecs.deflate_crc32(stream)
    chunk = struct.pack(">I", length), stream, struct.pack(">I", checksum)
    return imagecodecs.png_decode(b"".join([data[:33], *chunk, _PNG_END]))


def _packed_rows(data: bytes) -> bytes | None:
    """A PNG's compressed rows; None when a chunk does not match its checksum or the end is missing,
    which not every decoder checks.
    """
    view, at, rows = memoryview(data), 8, []
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(view[at : at + 4], "big")
        if zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            return None
        kind = data[at + 4 : at + 8]
        if kind == b"IDAT":
            rows.append(view[at + 8 : end])
        elif kind == b"IEND":
            return b"".join(rows)
        at = end + 4
    return None


def _read_pillow(data: bytes, name: str) -> Chip:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "TIFF")) as picture:
                if max(picture.size) > MAX_SIDE:
                    raise ImageError(
                        f"{name} is {picture.size[0]} x {picture.size[1]} pixels, more than "
                        f"{MAX_SIDE}; imagery goes in as GeoTIFF through quadrat tile"
                    )
                if picture.mode.startswith(("I", "F")):
                    raise ImageError(
                        f"{name} is 16-bit or floating point; save it as 8-bit RGB first"
                    )
                return np.asarray(picture.convert("RGB"))
    except UnidentifiedImageError:
        raise ImageError(
            f"{name} is not a PNG, JPEG or TIFF picture; remove or convert it"
        ) from None
    except ImageError:
        raise
    except (
        OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, KeyError,
        Image.DecompressionBombError, Image.DecompressionBombWarning,
    ) as error:  # fmt: skip
        raise ImageError(f"{name} is truncated or damaged ({_line(error)}); replace it") from None


def resize(chip: Chip, size_px: int) -> Chip:
    """A square picture of another size: area average when shrinking, bilinear when growing."""
    if chip.shape[:2] == (size_px, size_px):
        return chip
    from PIL import Image

    # Pillow's bilinear filter widens with the scale, so that shrinking averages
    picture = Image.fromarray(chip).resize((size_px, size_px), Image.Resampling.BILINEAR)
    return np.asarray(picture)
