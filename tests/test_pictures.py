"""Picture files of odd layouts: their right pixels, or an error that says what they are."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from quadrat import codec
from quadrat.errors import ImageError, StorageError

SIDE = 24


def bands(count: int, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(count).integers(0, 120, (count, SIDE, SIDE)).astype(dtype)


def tiff(pixels: np.ndarray, colours: tuple[ColorInterp, ...] = (), **options: Any) -> bytes:
    """The bands `(B, H, W)` as GDAL writes them."""
    with warnings.catch_warnings(), MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(
            driver="GTiff", count=len(pixels), height=pixels.shape[1], width=pixels.shape[2],
            dtype=pixels.dtype, **options,
        ) as file:  # fmt: skip
            file.write(pixels)
            if colours:
                file.colorinterp = colours
        return bytes(memory.getbuffer())


def rgb(pixels: np.ndarray) -> np.ndarray:
    return pixels[:3].transpose(1, 2, 0)


BLACK = {"photometric": "minisblack"}
RGB = {"photometric": "rgb"}
R, G, B, OTHER = (
    ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined,
)  # fmt: skip


@pytest.mark.parametrize(
    ("count", "options"),
    [
        (3, BLACK), (4, BLACK), (3, BLACK | {"interleave": "band"}),
        (3, BLACK | {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}),
        (3, RGB | {"interleave": "band"}), (4, RGB | {"alpha": "no"}), (5, RGB), (8, RGB),
        (3, RGB | {"bigtiff": "yes"}), (3, RGB | {"endianness": "big"}),
        (3, RGB | {"compress": "lzw", "predictor": 2}), (3, RGB | {"compress": "zstd"}),
    ],
)  # fmt: skip
def test_tiffs_of_8_bits_are_read_as_gdal_wrote_them(count: int, options: dict[str, Any]) -> None:
    pixels = bands(count)
    assert np.array_equal(codec.read_image(tiff(pixels, **options)), rgb(pixels))


def test_bands_that_say_their_colours_are_read_by_them() -> None:
    pixels = bands(5)
    found = codec.read_image(tiff(pixels, (OTHER, B, G, R, OTHER), **BLACK))
    assert np.array_equal(found, pixels[[3, 2, 1]].transpose(1, 2, 0))


def test_grey_tiffs_are_grey_and_white_is_white() -> None:
    grey = bands(1)
    want = np.repeat(grey.transpose(1, 2, 0), 3, axis=2)
    assert np.array_equal(codec.read_image(tiff(grey)), want)
    assert np.array_equal(codec.read_image(tiff(grey, photometric="miniswhite")), 255 - want)


def test_smaller_copies_in_a_tiff_are_no_other_pictures(tmp_path: Path) -> None:
    pixels, place = bands(3), tmp_path / "a.tif"
    place.write_bytes(tiff(pixels, transform=rasterio.Affine(1.0, 0, 0, 0, -1.0, 0), **RGB))
    with rasterio.open(place, "r+") as file:
        file.build_overviews([2])
    assert np.array_equal(codec.read_image(str(place)), rgb(pixels))


def two_pages() -> bytes:
    out = io.BytesIO()
    one, two = (Image.fromarray(rgb(bands(n))) for n in (3, 4))
    one.save(out, "TIFF", save_all=True, append_images=[two])
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (tiff(bands(3, "uint16"), **RGB), r"3 bands of 16 bits \(unsigned, RGB"),
        (tiff(bands(4, "uint16"), interleave="band", **RGB), r"4 bands of 16 bits"),
        (tiff(bands(1, "uint16")), r"1 band of 16 bits \(unsigned, MinIsBlack"),
        (tiff(bands(1, "uint16"), nbits=12), r"1 band of 12 bits"),
        (tiff(bands(1, "int16")), r"1 band of 16 bits \(signed"),
        (tiff(bands(1, "int8")), r"1 band of 8 bits \(signed"),
        (tiff(bands(3, "float32"), **RGB), r"3 bands of 32 bits \(floating point"),
        (tiff(bands(2)), r"2 bands of 8 bits .* two bands are no picture"),
        (tiff(bands(3), photometric="cielab"), r"CIELAB"),
        (tiff(bands(8), **BLACK), r"8 bands and does not say which are red"),
        (tiff(np.zeros((3, 64, 64), np.uint8), sparse_ok=True, **RGB), r"never written"),
        (two_pages(), r"several pictures"),
    ],
)  # fmt: skip
def test_other_tiffs_are_refused_by_their_layout(data: bytes, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        codec.read_image(data)


def png16(colour_type: int, count: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = bands(count, ">u2").transpose(1, 2, 0)
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 16, colour_type, 0, 0, 0)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )  # fmt: skip


@pytest.mark.parametrize(("colour_type", "count"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bit_pngs_are_refused(colour_type: int, count: int) -> None:
    with pytest.raises(ImageError, match="PNG of 16-bit bands"):
        codec.read_image(png16(colour_type, count))


def saved(kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(rgb(bands(3))).save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"), (saved("BMP"), "a BMP picture"), (saved("GIF"), "a GIF picture"),
        (saved("WEBP"), "a WebP picture"), (saved("JPEG2000"), "a JPEG 2000 picture"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS"),
        (b"\n<!DOCTYPE html><html></html>", "a web page"), (b"hello", "something else"),
    ],
)  # fmt: skip
def test_files_that_are_called_like_pictures_are_named_by_what_they_are(
    tmp_path: Path, data: bytes, says: str
) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageError, match=rf"a\.png is {says}.*not a PNG, JPEG or TIFF"):
        codec.read_image(str(tmp_path / "a.png"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_pictures_that_a_camera_marked_as_turned_are_turned(kind: str) -> None:
    exif = Image.Exif()
    exif[274] = 6  # to be turned by 90 degrees clockwise
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255  # the left half; turned, the upper one
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, exif=exif)
    found = codec.read_image(out.getvalue())
    assert found.shape == (32, 16, 3)
    assert found[:16].min() > 250 and found[16:].max() < 5


def test_a_file_too_large_for_a_picture_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(codec.MAX_BYTES + 1)  # a hole: no space is taken

    def never(self: Path) -> bytes:
        raise AssertionError("it was read")

    monkeypatch.setattr(Path, "read_bytes", never)
    with pytest.raises(StorageError, match="larger than 256 MB"):
        codec.read_image(str(tmp_path / "a.png"))
    os.mkfifo(tmp_path / "b.png")  # opening it would wait for a writer
    with pytest.raises(StorageError, match=r"b\.png"):
        codec.read_image(str(tmp_path / "b.png"))
    with pytest.raises(StorageError, match="does not exist"):
        codec.read_image(str(tmp_path / "c.png"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_picture_that_claims_to_be_huge_takes_no_memory(kind: str) -> None:
    import tracemalloc

    data = bytearray(saved(kind))
    side = {"PNG": (16, ">II"), "JPEG": (data.find(b"\xff\xc0") + 5, ">HH")}
    if kind == "TIFF":  # width and height are the first two tags
        first = int.from_bytes(data[4:8], "little") + 2
        for at in (first, first + 12):
            data[at + 2 : at + 12] = struct.pack("<HII", 4, 1, 60_000)
    else:
        at, form = side[kind]
        struct.pack_into(form, data, at, 60_000, 60_000)
    if kind == "PNG":
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match="60,000 x 60,000 pixels, more than 4096"):
            codec.read_image(bytes(data))
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def damaged() -> list[bytes]:
    """Pictures of many layouts with bytes changed, cut off and put in; seeded."""
    rng = np.random.default_rng(3)
    whole = [
        saved("PNG"), saved("JPEG"), saved("TIFF", compression="tiff_lzw"),
        tiff(bands(3), **BLACK), tiff(bands(8), compress="deflate", **RGB),
    ]  # fmt: skip
    result = []
    for n in range(150):
        data = bytearray(whole[n % len(whole)])
        for at in rng.integers(0, min(len(data), 300), int(rng.integers(1, 6))):
            data[at] = rng.choice([0, 1, 127, 128, 255])
        result.append(bytes(data[: int(rng.integers(8, len(data)))] if n % 3 == 0 else data))
    return result


def test_damaged_pictures_are_read_or_refused_in_one_line() -> None:
    refused = 0
    for data in damaged():
        try:
            found = codec.read_image(data)
            assert found.dtype == np.uint8 and found.shape[2:] == (3,)
        except ImageError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 50
