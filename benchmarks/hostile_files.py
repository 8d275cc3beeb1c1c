"""Spoilers of rasters, vectors, legends, pictures and plots. See hostile_inputs.py."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import hostile_inputs as inputs
from hostile_inputs import LEFT, NUMBERS, READERS, SIZE, TOP, WORDS, Random, Spoiler, pick

CRSS = ("EPSG:4326", "EPSG:3857", "EPSG:2264", "EPSG:32733", None, "EPSG:4979", "+proj=geos +h=1")
TYPES = ("uint8", "int8", "uint16", "int16", "int32", "uint32", "float32", "float64", "complex64")


def spoil_raster(root: Path, rng: Random) -> list[str]:
    """Imagery or a label raster: other types, bands, places, CRSs, tags, or text of a VRT."""
    from affine import Affine

    name = pick(("a.tif", "labels.tif"), rng)
    if rng.random() < 0.3:
        return spoil_vrt(root, rng)
    shape = (int(rng.integers(1, 6)), int(rng.integers(1, 140)), int(rng.integers(1, 140)))
    kind = pick(TYPES, rng)
    values = (rng.random(shape) * 300).astype(kind)
    if kind.startswith(("float", "complex")) and rng.random() < 0.5:
        values[:, ::2] = pick((np.nan, np.inf, -np.inf, 1e38), rng)
    scale = pick((1.0, 1e-9, 1e6, 1e300, -1.0, 0.0, 30.0), rng)
    place = Affine(
        scale, pick((0, 0, 0.3, 1e9), rng), pick((LEFT, 0, 1e300, -1e7, np.nan), rng),
        pick((0, 0, -0.2), rng), pick((-1, -1, 1, 0, -1e-12), rng) * abs(scale),
        pick((TOP, 0, 1e18), rng),
    )  # fmt: skip
    options: dict[str, Any] = {"crs": pick(("EPSG:26917", *CRSS), rng), "transform": place}
    if rng.random() < 0.5:
        options["nodata"] = pick((0, 255, -9999.9, np.nan, np.inf, 1e300), rng)
    if rng.random() < 0.3:
        options["photometric"] = pick(("MINISWHITE", "CMYK", "YCBCR", "CIELAB", "RGB"), rng)
    try:
        inputs.write_raster(root / name, values, **options)
    except Exception:  # noqa: BLE001 - what GDAL does not write is left as noise with a TIFF's head
        (root / name).write_bytes(b"II*\0" + rng.bytes(400))
    return pick(READERS[name], rng)


def spoil_vrt(root: Path, rng: Random) -> list[str]:
    """A `.tif` that is a VRT's or another driver's text."""
    source = pick(
        ("a.tif", "/etc/passwd", "gone.tif", "/vsicurl/http://127.0.0.1:9/a.tif", "x.vrt"), rng
    )
    size = pick((128, 10**6, 2**31 - 1), rng)
    band = (
        f'<VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename relativeToVRT="1">'
        f"{source}</SourceFilename><SourceBand>{pick((1, 2, 99), rng)}</SourceBand></SimpleSource>"
        "</VRTRasterBand>"
    )
    text = (
        f'<VRTDataset rasterXSize="{size}" rasterYSize="{size}"><SRS>EPSG:26917</SRS>'
        f"<GeoTransform>{LEFT},1,0,{TOP},0,-1</GeoTransform>{band * 3}</VRTDataset>"
    )
    wms = '<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:9/</ServerUrl></Service></GDAL_WMS>'
    name = pick(("x.vrt", "x.tif"), rng)
    (root / name).write_text(pick((text, text, wms, text[: len(text) // 2]), rng))
    return ["tile", name, *inputs.TILE]


def spoil_vector(root: Path, rng: Random) -> list[str]:
    """GeoJSON with geometry that is none, or text of another driver."""
    places: tuple[Any, ...] = (
        [], [[]], [[[0, 0]]], [[[0, 0], [1, 1], [0, 0]]], [[[1e308, 1e308], [0, 1], [-1e308, 0]]],
        [[["a", "b"]]], None, 7, [[[LEFT, TOP], [LEFT + 64, TOP - 64], [LEFT, TOP]]] * 500,
        [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]],
    )  # fmt: skip
    kinds = ("Polygon", "MultiPolygon", "Point", "LineString", "GeometryCollection", "Nothing", 5)
    features = [
        {
            "type": "Feature",
            "properties": {"class": pick((*WORDS, "reddish", 1, None, [1]), rng)},
            "geometry": {"type": pick(kinds, rng), "coordinates": pick(places, rng)},
        }
        for _ in range(int(rng.integers(0, 4)))
    ]
    texts = (
        json.dumps({"type": "FeatureCollection", "features": features}),
        json.dumps({"type": "FeatureCollection", "features": features, "crs": pick(CRSS, rng)}),
        "<OGRVRTDataSource><OGRVRTLayer name='a'><SrcDataSource>/etc/passwd</SrcDataSource>"
        "</OGRVRTLayer></OGRVRTDataSource>",
        '{"type":"FeatureCollection","features":[' * 2000,
    )
    (root / "zones.geojson").write_text(pick((*texts[:2], *texts), rng))
    return pick(READERS["zones.geojson"], rng)


def spoil_legend(root: Path, rng: Random) -> list[str]:
    """A legend's keys and values."""
    text = inputs.LEGEND
    changes: tuple[Callable[[str], str], ...] = (
        lambda t: t.replace(
            "[1, 2]", str(pick((["a"], [1.5], [10**30], [-1], [True], [[1]]), rng))
        ),
        lambda t: t.replace('"reddish"', json.dumps(pick(WORDS, rng))),
        lambda t: t.replace("#aa0000", pick(("#12", "red", "#aa0000\\n", "=1"), rng)),
        lambda t: t.replace("codes", pick(("code", "codes.a", "name"), rng), 1),
        lambda t: t + "[[classes]]\nname = 'x'\n" * int(pick((1, 300, 40_000), rng)),
        lambda t: "a = " + "[" * int(pick((10, 1000, 100_000), rng)),
        lambda t: ".".join(["a"] * int(pick((10, 20_000), rng))) + " = 1",
        lambda t: re.sub("ignore.*", f"ignore = {pick(('7', '[4]', '{}', '[nan]'), rng)}", t),
        lambda t: t.replace("\n", "\r\n") + pick(("\0", "\ufeff", "\x1b[2J"), rng),
    )
    text = pick(changes, rng)(text)
    (root / "legend.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
    return READERS["legend.toml"][0]


def spoil_picture(root: Path, rng: Random) -> list[str]:
    """A picture of another mode or size, a PNG whose head says otherwise, or none at all."""
    from PIL import Image

    name = pick([n for n in READERS if n.startswith("pictures/")], rng)
    path = root / name
    how = int(rng.integers(5))
    if how == 0 and name.endswith("png"):
        data = bytearray(path.read_bytes())
        data[16:24] = b"".join(
            int(pick((0, 1, 40_000, 2**31 - 1, 2**32 - 1), rng)).to_bytes(4, "big") for _ in "ab"
        )
        data[24:29] = bytes(rng.integers(0, 17, 5).astype(np.uint8))
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
        path.write_bytes(data)
    elif how == 1:
        mode = pick(("1", "L", "LA", "P", "RGBA", "I;16", "I", "F", "CMYK", "YCbCr", "LAB"), rng)
        size = (int(rng.integers(1, 40)), int(rng.integers(1, 40)))
        try:
            Image.new(mode, size, 3).save(path)
        except (OSError, TypeError, ValueError, KeyError):
            Image.new("L", size).save(path)
    elif how == 2:
        inputs.write_raster(path, (rng.random((2, 9, 9)) * 99).astype(pick(TYPES, rng)))
    elif how == 3:
        path.write_bytes(
            pick((b"", b"\x89PNG\r\n\x1a\n", b"<svg/>", b"%PDF-1.4", b"\xff\xd8"), rng)
        )
    else:
        Image.new("RGB", (int(pick((1, 5000, 12_000), rng)), SIZE)).save(path, "PNG")
    return READERS[name][0]


def spoil_plots(root: Path, rng: Random) -> list[str]:
    """A table of plots: header, numbers, quotes, lines."""
    lines = (root / "plots.csv").read_text().splitlines()
    at = int(rng.integers(len(lines)))
    cells = lines[at].split(",")
    new = str(pick((*WORDS, *NUMBERS, '"', '"a\nb"', "=HYPERLINK(1)", "1,1"), rng))
    cells[int(rng.integers(len(cells)))] = new
    lines[at] = ",".join(cells * int(pick((1, 1, 2, 5000), rng)))
    text = pick(("\n", "\r", "\r\n", "\n\n"), rng).join(lines)
    (root / "plots.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
    return READERS["plots.csv"][0]


SPOILERS: dict[str, Spoiler] = {
    "bytes": inputs.spoil_bytes,
    "json": inputs.spoil_json,
    "parquet": inputs.spoil_parquet,
    "onnx": inputs.spoil_onnx,
    "raster": spoil_raster,
    "vector": spoil_vector,
    "legend": spoil_legend,
    "picture": spoil_picture,
    "plots": spoil_plots,
}
