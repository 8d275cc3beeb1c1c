"""VRT text that Quadrat writes for itself: chosen bands of a file, and a mask of what is there.

It opens nothing and knows no grid.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

from quadrat import storage
from quadrat.errors import RasterError

Rect = tuple[float, float, float, float]  # x and y of the upper left corner, width, height; pixels

TYPES = {
    "uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32",
    "int32": "Int32", "uint64": "UInt64", "int64": "Int64", "float32": "Float32",
    "float64": "Float64",
}  # fmt: skip
MOST_BLOCKS = 4_000_000

# How a mask is made of the values of a source's band.
ALL = "<ScaleOffset>255</ScaleOffset><ScaleRatio>0</ScaleRatio>"  # every pixel of it is there
NOT_ZERO = "<LUT>0:0,0.000001:255</LUT>"
MASKED = "<UseMaskBand>true</UseMaskBand>"  # only where the source's own mask has pixels


def source(name: str, band: str, *, src: Rect | None = None, dst: Rect | None = None,
           how: str = "") -> str:  # fmt: skip
    """One source of a VRT band.

    Args:
        name: as GDAL opens it. band: its number, or "mask,1".
        src, dst: the window read and the window filled; None for the whole.
        how: `ALL`, `NOT_ZERO`, or "" for the values as they are.
    """
    kind = "ComplexSource" if how else "SimpleSource"
    window = _rect("SrcRect", src) + _rect("DstRect", dst)
    return (
        f'<{kind}><SourceFilename relativeToVRT="0">{escape(gdal_path(name))}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand>{window}{how}</{kind}>"
    )


def gdal_path(name: str) -> str:
    """The name inside a VRT of what rasterio opens by `name`."""
    store = re.match(r"(s3|az|gs)://", name)
    if store:
        return f"/vsi{store[1]}/{name[store.end() :]}"
    return f"/vsicurl/{name}" if name.startswith(("http://", "https://")) else name


def _rect(tag: str, rect: Rect | None) -> str:
    if rect is None:
        return ""
    x, y, width, height = rect
    return f'<{tag} xOff="{x!r}" yOff="{y!r}" xSize="{width!r}" ySize="{height!r}"/>'


def dataset(data: Any, bands: Sequence[int], mask: Sequence[str] | None) -> str:
    """VRT text of some bands of an open dataset, without colour interpretation.

    Args:
        data: an open rasterio dataset with a CRS.
        mask: sources of the mask; None for no mask.
    """
    t = data.transform
    kind = TYPES.get(data.dtypes[0])
    if kind is None:
        raise RasterError(
            f"{storage.redact(data.name)} holds {data.dtypes[0]} pixels; "
            "convert it to 8-bit, 16-bit or float with gdal_translate -ot"
        )
    body = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{n}"><ColorInterp>Undefined</ColorInterp>'
        f"{source(data.name, str(band))}</VRTRasterBand>"
        for n, band in enumerate(bands, 1)
    )
    if mask is not None:
        body += mask_band(mask)
    return (
        f'<VRTDataset rasterXSize="{data.width}" rasterYSize="{data.height}">'
        f"<SRS>{escape(data.crs.to_wkt())}</SRS>"
        f"<GeoTransform>{t.c!r},{t.a!r},{t.b!r},{t.f!r},{t.d!r},{t.e!r}</GeoTransform>"
        f"{body}</VRTDataset>"
    )


def mask_band(sources: Sequence[str]) -> str:
    """The mask of a VRT; pixels that no source covers are missing."""
    return f'<MaskBand><VRTRasterBand dataType="Byte">{"".join(sources)}</VRTRasterBand></MaskBand>'


def held(data: Any, bands: Sequence[int]) -> tuple[Rect, ...] | None:
    """The rectangles of a sparse GeoTIFF that are stored; None when all of it is.

    A block is absent when it is absent in all of `bands`: GDAL reads zeros there.

    Raises:
        RasterError: more than MOST_BLOCKS blocks.
    """
    if data.driver != "GTiff":
        return None
    high, wide = data.block_shapes[0]
    down, across = -(-data.height // high), -(-data.width // wide)
    if down * across > MOST_BLOCKS:
        raise RasterError(
            f"{storage.redact(data.name)} is kept in {down * across:,} blocks of {wide} x {high} "
            "px; write it with larger ones: gdal_translate -co TILED=YES -co BLOCKXSIZE=512"
        )
    apart = getattr(data.interleaving, "name", "pixel") == "band"
    planes = tuple(dict.fromkeys(bands)) if apart else (1,)
    rects: list[Rect] = []
    absent = False
    for y in range(down):
        start = None
        for x in range(across + 1):
            there = x < across and any(
                data.get_tag_item(f"BLOCK_OFFSET_{x}_{y}", "TIFF", bidx=b) for b in planes
            )
            absent |= x < across and not there
            if there and start is None:
                start = x
            elif not there and start is not None:
                left, right = start * wide, min(x * wide, data.width)
                top, bottom = y * high, min((y + 1) * high, data.height)
                rects.append((left, top, right - left, bottom - top))
                start = None
    return tuple(rects) if absent else None


def mask_sources(data: Any, src: Rect | None = None, dst: Rect | None = None) -> list[str]:
    """Sources of a mask of an open dataset, or of the window `src` of it, put into `dst`.

    The mask tells where the dataset has pixels; its nodata values are not looked at.
    """
    from rasterio.enums import MaskFlags

    flags = data.mask_flag_enums[0]
    if MaskFlags.per_dataset in flags or MaskFlags.alpha in flags:
        return [source(data.name, "mask,1", src=src, dst=dst)]
    rects = held(data, data.indexes)
    if rects is None:
        if MaskFlags.nodata in flags:
            return [source(data.name, "1", src=src, dst=dst, how=ALL)]
        return [source(data.name, "mask,1", src=src, dst=dst)]  # costs no reading
    whole = (0.0, 0.0, float(data.width), float(data.height))
    parts = (_clip(r, src or whole, dst or src or whole) for r in rects)
    return [source(data.name, "1", src=a, dst=b, how=ALL) for a, b in filter(None, parts)]


def _clip(rect: Rect, src: Rect, dst: Rect) -> tuple[Rect, Rect] | None:
    """The part of a rectangle of a source inside `src`, and where `dst` shows it."""
    x0, y0 = max(rect[0], src[0]), max(rect[1], src[1])
    x1, y1 = min(rect[0] + rect[2], src[0] + src[2]), min(rect[1] + rect[3], src[1] + src[3])
    if x0 >= x1 or y0 >= y1:
        return None
    kx, ky = dst[2] / src[2], dst[3] / src[3]
    place = (dst[0] + (x0 - src[0]) * kx, dst[1] + (y0 - src[1]) * ky)
    return (x0, y0, x1 - x0, y1 - y0), (*place, (x1 - x0) * kx, (y1 - y0) * ky)
