"""The common picture, a PNG of 8-bit RGB, by decoders that are faster than Pillow."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_STORED = 65535  # bytes of a stored block of Deflate, at most
_PNG_END = b"\0\0\0\0IEND\xae\x42\x60\x82"


def read(data: bytes, max_side: int) -> NDArray[np.uint8] | None:
    """Pixels of an 8-bit RGB file by the fastest decoder that is installed; None for other files.

    None too for what a decoder does not take: Pillow reads it, or says what is wrong with it.
    """
    if len(data) < 33 or data[24] != 8 or data[25] != 2:  # bit depth, colour type
        return None
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    packed = _packed_rows(data) if max(width, height) <= max_side else None
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
    """Installed decoders, the fastest first; each takes a file and its packed rows.

    imagecodecs decodes on several threads at once, pyspng holds the interpreter lock meanwhile.
    """
    decoders: list[Callable[[bytes, bytes], Any]] = []
    with suppress(ImportError, AttributeError):
        import imagecodecs  # type: ignore[import-not-found,import-untyped,unused-ignore]

        if imagecodecs.DEFLATE.available:
            decoders.append(partial(_by_two_libraries, imagecodecs))
        else:
            decoders.append(lambda data, _: imagecodecs.png_decode(data))
    with suppress(ImportError):
        import pyspng

        decoders.append(lambda data, _: pyspng.load(data, format="RGB"))
    return tuple(decoders)


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
    """The compressed rows of a PNG file, or None where only Pillow reads it right.

    That is where a chunk does not match its checksum or the end is missing, which not every decoder
    checks, and where EXIF data may turn the picture.
    """
    view, at, rows = memoryview(data), 8, []
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(view[at : at + 4], "big")
        if zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            return None
        kind = data[at + 4 : at + 8]
        if kind == b"eXIf":
            return None
        if kind == b"IDAT":
            rows.append(view[at + 8 : end])
        elif kind == b"IEND":
            return b"".join(rows)
        at = end + 4
    return None
