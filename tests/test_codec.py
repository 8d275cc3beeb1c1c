"""Pictures and tiles as bytes: the same pixels as Pillow's, whatever decodes them."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from quadrat import codec
from quadrat.codec import pictures, png
from quadrat.errors import ImageError


def picture(height: int = 37, width: int = 53, seed: int = 0) -> np.ndarray:
    """Smooth ground with noise and hard edges, so that encoders use all their filters."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    base = np.stack([3 * x + y, 2 * y + x, x * y // 9], axis=2) % 256
    noise = rng.integers(0, 12, base.shape)
    base[height // 3 :, width // 2 :] = rng.integers(0, 256, 3)
    return ((base + noise) % 256).astype(np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def interlaced(pixels: np.ndarray) -> bytes:
    """An Adam7 PNG, which Pillow reads and does not write."""
    height, width = pixels.shape[:2]
    raw = b""
    for y0, x0, dy, dx in (
        (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
        (1, 0, 2, 1),
    ):  # fmt: skip
        some = pixels[y0::dy, x0::dx]
        if some.size:
            raw += b"".join(b"\0" + row.tobytes() for row in some)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    packed = zlib.compress(raw)
    half = len(packed) // 2  # in two pieces, as large files have it
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed[:half])
        + chunk(b"IDAT", packed[half:]) + chunk(b"IEND", b"")
    )  # fmt: skip


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def colour_key() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add(b"gAMA", struct.pack(">I", 100_000))  # linear light: Pillow leaves the pixels alone
    info.add_text("comment", "kept from somewhere")
    return info


def kinds() -> dict[str, bytes]:
    rgb = Image.fromarray(picture())
    return {
        "png": saved(rgb, "PNG"),
        "png, stored": saved(rgb, "PNG", compress_level=0),
        "png, best": saved(rgb, "PNG", optimize=True),
        "png, interlaced": interlaced(picture()),
        "png, transparent colour": saved(rgb, "PNG", transparency=tuple(picture()[0, 0].tolist())),
        "png, gamma and text": saved(rgb, "PNG", pnginfo=colour_key()),
        "png, grey": saved(rgb.convert("L"), "PNG"),
        "png, grey and alpha": saved(rgb.convert("LA"), "PNG"),
        "png, palette": saved(rgb.convert("P"), "PNG"),
        "png, palette of 4 bits": saved(rgb.quantize(11), "PNG", bits=4),
        "png, black and white": saved(rgb.convert("1"), "PNG"),
        "png, alpha": saved(rgb.convert("RGBA"), "PNG"),
        "png, one pixel": saved(Image.fromarray(picture(1, 1)), "PNG"),
        "jpeg": saved(rgb, "JPEG", quality=92),
        "jpeg, 4:4:4 progressive": saved(rgb, "JPEG", subsampling=0, progressive=True),
        "jpeg, grey": saved(rgb.convert("L"), "JPEG"),
        "jpeg, cmyk": saved(rgb.convert("CMYK"), "JPEG"),
        "tiff": saved(rgb, "TIFF"),
        "tiff, lzw": saved(rgb, "TIFF", compression="tiff_lzw"),
        "tiff, deflate": saved(rgb, "TIFF", compression="tiff_adobe_deflate"),
        "tiff, palette": saved(rgb.convert("P"), "TIFF"),
        "tiff, alpha": saved(rgb.convert("RGBA"), "TIFF"),
    }


KINDS = kinds()


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_have_the_pixels_that_pillow_finds(kind: str) -> None:
    want = np.asarray(Image.open(io.BytesIO(KINDS[kind])).convert("RGB"))
    got = codec.read_image(KINDS[kind])
    assert got.dtype == np.uint8 and got.shape == want.shape
    assert np.array_equal(got, want)


def test_lossless_pictures_come_back_as_they_were() -> None:
    for kind in ("png", "png, best", "png, interlaced", "tiff, lzw", "png, gamma and text"):
        assert np.array_equal(codec.read_image(KINDS[kind]), picture()), kind


FAST = ("imagecodecs", "pyspng")


@pytest.fixture(params=FAST)
def only(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """One of the fast decoders and no other."""
    pytest.importorskip(request.param, reason="pip install 'quadrat[fast-png]'")
    for name in set(FAST) - {request.param}:
        monkeypatch.setitem(sys.modules, name, None)
    png._fast_png.cache_clear()
    yield request.param
    png._fast_png.cache_clear()


def test_each_fast_decoder_finds_pillows_pixels(only: str) -> None:
    assert len(png._fast_png()) == 1
    for kind, data in KINDS.items():
        want = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert np.array_equal(codec.read_image(data), want), kind


def test_the_fast_decoder_is_used(only: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_read_pillow", lambda data, name: 1 / 0)
    for kind in ("png", "png, gamma and text", "png, best"):
        assert np.array_equal(codec.read_image(KINDS[kind]), picture())


def test_without_a_fast_decoder_pillow_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FAST:
        monkeypatch.setitem(sys.modules, name, None)
    png._fast_png.cache_clear()
    assert png._fast_png() == ()
    assert np.array_equal(codec.read_image(KINDS["png, interlaced"]), picture())
    png._fast_png.cache_clear()


@pytest.mark.parametrize("at", [0.3, 0.6, 0.95])
def test_a_png_that_ends_early_is_an_error(at: float) -> None:
    data = KINDS["png"]
    with pytest.raises(ImageError, match="truncated or damaged"):
        codec.read_image(data[: int(at * len(data))])


def test_a_png_with_a_flipped_bit_is_an_error() -> None:
    data = bytearray(KINDS["png"])
    data[len(data) // 2] ^= 4
    with pytest.raises(ImageError, match="truncated or damaged"):
        codec.read_image(bytes(data))


@pytest.mark.parametrize("name", codec.ENCODINGS)
@pytest.mark.parametrize("size", [1, 5, 16, 17, 31, 32, 224])
def test_tiles_come_back_as_they_were(name: str, size: int) -> None:
    chip = picture(size, size, seed=size)
    data = codec.get_encoding(name).encode(chip)
    assert np.array_equal(codec.decode(data, name, size), chip)


def test_zstd_is_read_in_three_lines_of_numpy() -> None:
    """As docs/formats.md says: Zstandard, then each row is the difference to the row above."""
    zstandard = pytest.importorskip("zstandard", reason="an independent decoder")
    chip = picture(224, 224)
    raw = zstandard.ZstdDecompressor().decompress(codec.get_encoding("zstd").encode(chip))
    rows = np.frombuffer(raw, np.uint8).reshape(224, 224, 3)
    assert np.array_equal(np.cumsum(rows, axis=0, dtype=np.uint8), chip)


def test_a_damaged_tile_is_an_error(tmp_path: Path) -> None:
    data = codec.get_encoding("zstd").encode(picture(32, 32))
    with pytest.raises(ImageError, match="damaged"):
        codec.decode(data[: len(data) // 2], "zstd", 32)
