"""Links: small VRT files that read windows of remote COGs instead of copies of them.

A link has the size, place and bands of the image that it stands for, so that opening one costs no
request, and names the image by an address without a signature (see `http.gdal_name`). `tile`,
`score`, QGIS and anything else with GDAL 3.9 or later read it like a file.
"""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from quadrat.errors import RasterError
from quadrat.raster import RasterInfo
from quadrat.raster.view import TYPES

COLOURS = ("Red", "Green", "Blue")


def vrt(info: RasterInfo, name: str) -> str:
    """The text of a VRT that stands for one raster.

    Args:
        info: facts of the raster.
        name: the name by which GDAL reads it.

    Raises:
        RasterError: values of a type that a link cannot hold.
    """
    kind = TYPES.get(info.dtype)
    if kind is None:
        raise RasterError(f"images of {info.dtype} values cannot be linked; fetch without --link")
    a, b, c, d, e, f = info.transform
    count = info.count
    lines = [
        f'<VRTDataset rasterXSize="{info.width}" rasterYSize="{info.height}">',
        f"  <SRS>{escape(info.crs)}</SRS>" if info.crs else "",
        f"  <GeoTransform>{c!r}, {a!r}, {b!r}, {f!r}, {d!r}, {e!r}</GeoTransform>",
    ]
    for band in range(1, count + 1):
        lines += [
            f'  <VRTRasterBand dataType="{kind}" band="{band}">',
            f"    <NoDataValue>{info.nodata!r}</NoDataValue>" if info.nodata is not None else "",
            f"    <ColorInterp>{_colour(band, count, info.alpha)}</ColorInterp>",
            _source(info, name, kind, str(band)),
            "  </VRTRasterBand>",
        ]
    if info.mask == "band" and info.alpha is None:
        lines += [
            '  <MaskBand>\n    <VRTRasterBand dataType="Byte">',
            _source(info, name, kind, "mask,1"),
            "    </VRTRasterBand>\n  </MaskBand>",
        ]
    lines.append("</VRTDataset>")
    return "\n".join(line for line in lines if line) + "\n"


def _source(info: RasterInfo, name: str, kind: str, band: str) -> str:
    width, height = quoteattr(str(info.width)), quoteattr(str(info.height))
    rows, cols = info.block
    window = f'xOff="0" yOff="0" xSize={width} ySize={height}'
    # with its properties stated, the remote file is opened only when pixels are read
    return (
        "    <SimpleSource>\n"
        f'      <SourceFilename relativeToVRT="0">{escape(name)}</SourceFilename>\n'
        f"      <SourceBand>{band}</SourceBand>\n"
        f"      <SourceProperties RasterXSize={width} RasterYSize={height} "
        f'DataType="{kind}" BlockXSize="{cols}" BlockYSize="{rows}"/>\n'
        f"      <SrcRect {window}/>\n      <DstRect {window}/>\n"
        "    </SimpleSource>"
    )


def _colour(band: int, count: int, alpha: int | None) -> str:
    if band == alpha:
        return "Alpha"
    if count == 1:
        return "Gray"
    return COLOURS[band - 1] if band <= 3 else "Undefined"
