"""A Web Coverage Service 1.0.0 (OGC 03-065r6): what a coverage is, and pieces of it as stored.

Pieces are asked for on the coverage's own grid, in its own projection and pixel size, and refused
when they do not come back so: codes of land cover must never be resampled. It does not know NLCD.

Version 1.0.0, because the MRLC's GeoServer answers 2.0.1 requests for one year of its Annual NLCD
with an internal error ("startTime is null", reported by its users).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from quadrat import raster, storage
from quadrat.errors import FetchError, RasterError
from quadrat.fetching import http
from quadrat.raster import RasterInfo
from quadrat.redaction import redact

GML = "{http://www.opengis.net/gml}"
WCS = "{http://www.opengis.net/wcs}"
TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")


@dataclass(frozen=True)
class CodeGrid:
    """The grid that codes are stored on, north up.

    Attributes:
        left, top: the outer corner of the upper left pixel, in `crs`.
        pixel: units of `crs` (metres) a pixel.
    """

    crs: str
    left: float
    top: float
    pixel: float
    width: int
    height: int


@dataclass(frozen=True)
class Coverage(CodeGrid):
    """A coverage of a service, on its own grid.

    Attributes:
        times: year -> the position in time as the service writes it; empty for a timeless coverage.
    """

    url: str
    name: str
    times: dict[int, str]


def describe(client: http.Client, url: str, name: str) -> Coverage:
    """What the service says of a coverage (DescribeCoverage).

    Raises:
        FetchError: there is no such coverage, or its grid is turned or not square.
    """
    params = {"service": "WCS", "version": "1.0.0", "request": "DescribeCoverage", "coverage": name}
    _, body = client.whole(url, params=params)
    root = _xml(url, body)
    grid = root.find(f".//{GML}RectifiedGrid")
    try:
        if grid is None:
            raise ValueError("it describes no grid")
        origin = _numbers(grid.findtext(f"{GML}origin/{GML}pos"))
        steps = [_numbers(v.text) for v in grid.findall(f"{GML}offsetVector")]
        limits = grid.find(f"{GML}limits/{GML}GridEnvelope")
        low, high = (_numbers(limits.findtext(GML + k)) for k in ("low", "high"))
        (dx, skew_x), (skew_y, dy) = steps
        if skew_x or skew_y or dx <= 0 or dx != -dy:
            raise ValueError("its pixels are not square and north up")
    except (ValueError, AttributeError, TypeError) as error:
        raise FetchError(
            f"{name} of {redact(url)} cannot be used ({error}); give --source FILE instead"
        ) from None
    days = root.findall(f".//{WCS}temporalDomain/{GML}timePosition")
    times = {int(t.text[:4]): t.text.strip() for t in days if t.text and t.text[:4].isdigit()}
    # the origin is the middle of the upper left pixel
    return Coverage(
        str(grid.get("srsName")), origin[0] - dx / 2, origin[1] + dx / 2, dx,
        int(high[0] - low[0]) + 1, int(high[1] - low[1]) + 1, url, name, times,
    )  # fmt: skip


def get(
    client: http.Client,
    coverage: Coverage,
    window: tuple[int, int, int, int],
    path: Path,
    time: str | None = None,
) -> RasterInfo:
    """Fetch a window of a coverage as stored, into a GeoTIFF at `path`.

    Args:
        window: rows `[r0, r1)`, columns `[c0, c1)` of the coverage's grid: r0, r1, c0, c1.

    Raises:
        FetchError: the service refuses, or gives another grid than its own.
    """
    r0, r1, c0, c1 = window
    p = coverage.pixel
    left, top = coverage.left, coverage.top
    box = (left + c0 * p, top - r1 * p, left + c1 * p, top - r0 * p)
    params = {
        "service": "WCS", "version": "1.0.0", "request": "GetCoverage", "coverage": coverage.name,
        "crs": coverage.crs, "response_crs": coverage.crs, "bbox": ",".join(f"{v!r}" for v in box),
        "width": str(c1 - c0), "height": str(r1 - r0), "format": "GeoTIFF",
        "interpolation": "nearest neighbor", **({"time": time} if time else {}),
    }  # fmt: skip
    _, body = client.whole(coverage.url, params=params)
    if not body.startswith(TIFF):
        _xml(coverage.url, body)
        raise FetchError(f"{redact(coverage.url)} sent no GeoTIFF; try later, or --source FILE")
    storage.write_bytes(str(path), body)
    try:
        info = raster.info(str(path))
    except RasterError as error:
        raise FetchError(f"{redact(coverage.url)} sent a damaged GeoTIFF ({error})") from None
    _same_grid(coverage, info, box, (r1 - r0, c1 - c0))
    return info


def _same_grid(
    coverage: Coverage,
    info: RasterInfo,
    box: tuple[float, float, float, float],
    shape: tuple[int, int],
) -> None:
    a, b, left, d, e, top = info.transform
    p, near = coverage.pixel, 0.01 * coverage.pixel
    same = (
        (info.height, info.width) == shape
        and b == d == 0
        and abs(a - p) * info.width < near
        and abs(e + p) * info.height < near
        and abs(left - box[0]) < near
        and abs(top - box[3]) < near
    )
    if not same:
        raise FetchError(
            f"{redact(coverage.url)} sent resampled values ({info.width} x {info.height} pixels "
            f"from {left:.2f}, {top:.2f}, not {shape[1]} x {shape[0]} from {box[0]:.2f}, "
            f"{box[3]:.2f}); they would not be its codes: give --source FILE instead"
        )


def _xml(url: str, body: bytes) -> Any:
    """An XML answer; FetchError with the service's words when it is an exception."""
    if re.search(rb"<!(?:DOCTYPE|ENTITY)", body[:2000]):
        raise FetchError(f"{redact(url)} sent a web page, not XML; check --service")
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError:
        raise FetchError(
            f"{redact(url)} answers neither XML nor GeoTIFF; check --service"
        ) from None
    if "Exception" in root.tag:
        said = " ".join(" ".join(root.itertext()).split())[:160] or "no reason given"
        raise FetchError(
            f"{redact(url)} refuses ({said}); check --service and --coverage, or give --source FILE"
        )
    return root


def _numbers(text: str | None) -> list[float]:
    return [float(v) for v in str(text).split()]
