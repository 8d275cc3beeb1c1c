"""Tiles as bytes, without loss.

The default encoding, `zstd`, stores the difference of each row of pixels to the row above,
compressed by Zstandard at level 1. Anyone can read it in three lines of numpy (see
`docs/formats.md`). On NAIP tiles it takes 0.72 of the raw size against 0.67 for PNG, and writes and
reads many times faster, which decides how fast a tile set scores (`benchmarks/tile_encodings.py`).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import border, choices
from quadrat.codec.pictures import Chip, read_image
from quadrat.errors import ImageError

BAND = 16  # rows of a tile that are added up together


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
        raise ImageError(f"an encoded tile is damaged ({border.short(error)})") from None
    _add_up(np.frombuffer(raw, np.uint8).reshape(len(out), -1), out.reshape(len(out), -1))


def _add_up(steps: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Cumulative sums of rows, modulo 256, faster than `np.add.accumulate`.

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
    choices.check("encoding", name, choices.ENCODINGS, ImageError)
    return ENCODINGS[name]


def decode(data: bytes | memoryview, encoding: str, size_px: int) -> Chip:
    """One tile, `(size_px, size_px, 3) uint8`; ImageError when it is damaged."""
    out = np.empty((size_px, size_px, 3), np.uint8)
    get_encoding(encoding).decode_into(data, out)
    return out
