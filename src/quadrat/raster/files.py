"""Facts of one raster file, and conversions between CRSs. It does not know grids."""

from __future__ import annotations

import json
import math
import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quadrat import border, storage
from quadrat.errors import GridError
from quadrat.grid import Bounds
from quadrat.raster.opening import environment, gdal_name, is_remote, open_header
from quadrat.raster.validity import find_alpha

Transform = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class RasterInfo:
    """Facts of one raster file.

    Attributes:
        crs: authority code or WKT2 text; "" when the file has none.
        transform: a, b, c, d, e, f of x = a*col + b*row + c, y = d*col + e*row + f.
        bounds: in the units of `crs`.
        count: bands, an alpha band among them.
        mask: "nodata", "band" (a mask or alpha band), or "none".
        alpha: the band that is 0 where pixels are missing, from 1.
        block: rows and columns of the file's own blocks.
        fingerprint: a text that changes when the file, or one that it reads from, is replaced; ""
            on the web.
        colours: each band's colour interpretation in rasterio's words. names: its description.
        remote: whether reading pixels needs the network.
        bands: the red, green and blue band, as `bands.roles` decided.
    """

    uri: str
    crs: str
    transform: Transform
    width: int
    height: int
    count: int
    dtype: str
    nodata: float | None
    bounds: Bounds
    mask: str
    alpha: int | None
    block: tuple[int, int]
    tags: tuple[tuple[str, str], ...] = ()
    fingerprint: str = ""
    colours: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    remote: bool = False
    bands: tuple[int, int, int] = (1, 2, 3)
    bands_known_by: str = ""

    @property
    def pixel_area(self) -> float:
        """Area of a pixel, in square units of `crs`."""
        a, b, _, d, e, _ = self.transform
        return abs(a * e - b * d)

    @property
    def north_up(self) -> bool:
        """Whether rows run south and columns east, as in almost every file."""
        a, b, _, d, e, _ = self.transform
        return b == 0 and d == 0 and a > 0 and e < 0


def info(uri: str) -> RasterInfo:
    """Facts of a raster; RasterError when it is missing or not a raster."""
    from rasterio.errors import NotGeoreferencedWarning

    remote = is_remote(uri)
    with warnings.catch_warnings(), environment(remote):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # the caller says it, with a cure
        data = open_header(uri)
    with environment(remote), data:
        return replace(describe(uri, data), remote=remote)


def describe(uri: str, data: Any) -> RasterInfo:
    """Facts of an open rasterio dataset."""
    from rasterio.enums import MaskFlags

    t = data.transform
    alpha = find_alpha(data)
    flags = data.mask_flag_enums[0]
    if alpha or (MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags):
        mask = "band"
    else:
        mask = "nodata" if data.nodata is not None else "none"
    return RasterInfo(
        uri=uri,
        crs=crs_text(data.crs) if data.crs else "",
        transform=(t.a, t.b, t.c, t.d, t.e, t.f),
        width=data.width,
        height=data.height,
        count=data.count,
        dtype=data.dtypes[0],
        nodata=None if data.nodata is None else float(data.nodata),
        bounds=_bounds((t.a, t.b, t.c, t.d, t.e, t.f), data.width, data.height),
        mask=mask,
        alpha=alpha,
        block=tuple(data.block_shapes[0]),
        tags=tuple(sorted((str(k), str(v)) for k, v in data.tags().items())),
        fingerprint=_fingerprint(uri, data),
        colours=tuple(c.name for c in data.colorinterp),
        names=tuple(d or "" for d in data.descriptions),
    )


def _fingerprint(uri: str, data: Any) -> str:
    if uri.startswith(("http://", "https://")):  # signed anew each time: only its path counts
        return ""
    own = storage.fingerprint(uri)
    others = sorted(f for f in data.files if f != gdal_name(uri) and Path(f).is_file())
    return storage.digest_json([own, *map(storage.fingerprint, others)]) if others else own


def _bounds(transform: Transform, width: int, height: int) -> Bounds:
    """The rectangle around a raster's corners, whichever way its rows and columns run."""
    a, b, c, d, e, f = transform
    corners = ((0, 0), (width, 0), (0, height), (width, height))
    xs = [a * col + b * row + c for col, row in corners]
    ys = [d * col + e * row + f for col, row in corners]
    return Bounds(min(xs), min(ys), max(xs), max(ys))


def crs_text(crs: Any) -> str:
    """`EPSG:n` where the horizontal part of a CRS has a code, WKT2 text otherwise."""
    from rasterio.crs import CRS

    if crs.wkt.startswith("COMPD_CS"):  # heights are no matter here
        crs = CRS.from_user_input(crs.to_dict(projjson=True)["components"][0])
    if re.search(r'DATUM\["unknown', crs.wkt, re.IGNORECASE):
        # PROJ would name a code of any datum on the same ellipsoid, hundreds of metres away
        return str(crs.to_wkt(version="WKT2_2019"))
    code = crs.to_epsg()
    if code:
        return f"EPSG:{code}"
    authority = crs.to_authority()
    if authority:
        return ":".join(authority)
    return str(crs.to_wkt(version="WKT2_2019"))


def _crs(text: str) -> Any:
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        return CRS.from_user_input(json.loads(text) if text.lstrip().startswith("{") else text)
    except (CRSError, ValueError):
        raise GridError(
            f"{text[:80]!r} is no CRS; give a code such as EPSG:26917 or WKT text"
        ) from None


def normalise_crs(text: str) -> str:
    """One text for one CRS: "EPSG:n" where it has a code; GridError for nonsense."""
    with environment():
        return crs_text(_crs(text))


def crs_unit(text: str) -> tuple[bool, float]:
    """Whether a CRS is projected, and metres a unit of its axes."""
    with environment():
        crs = _crs(text)
        if not crs.is_projected:
            return False, 0.0
        return True, float(crs.linear_units_factor[1])


def check_placed(text: str) -> None:
    """Refuse a CRS that is neither projected nor in degrees (local, geocentric): GridError."""
    with environment():
        crs = _crs(text)
        if crs.is_projected or crs.is_geographic:
            return
    raise GridError(
        f"the CRS {text[:60]} is neither projected nor in longitude and latitude, so it has no "
        "place on a map; set the true one with gdal_edit.py -a_srs EPSG:... on a copy"
    )


def projjson(text: str) -> Any:
    """The PROJJSON values of a CRS, as GeoParquet stores it."""
    with environment():
        crs = _crs(text)
        return json.loads(crs.to_json()) if hasattr(crs, "to_json") else crs.to_dict(projjson=True)


def suggest_crs(bounds: Bounds, crs: str) -> str:
    """The UTM zone (NAD83 in North America, else WGS 84) around the middle of `bounds`."""
    west, south, east, north = transform_bounds(crs, "EPSG:4326", bounds)
    lon, lat = (west + east) / 2, (south + north) / 2
    zone = min(60, max(1, math.floor((lon + 180) / 6) + 1))
    if -170 < lon < -50 and lat > 14 and 3 <= zone <= 23:
        return f"EPSG:{26900 + zone}"
    return f"EPSG:{(32600 if lat >= 0 else 32700) + zone}"


def transform_points(
    src: str, dst: str, x: ArrayLike, y: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points from one CRS to another, shapes kept; x before y (longitude before latitude).

    A point that cannot be projected comes back as infinity; GridError where no point can be.
    """
    xs, ys = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if src == dst:
        return xs, ys
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import CRSError, RasterioError
    from rasterio.warp import transform

    with environment():
        try:
            new_x, new_y = transform(_crs(src), _crs(dst), xs.ravel(), ys.ravel())[:2]
        except (RasterioError, CRSError, CPLE_BaseError) as error:
            raise GridError(
                f"no point of the CRS {src[:60]} goes to {dst[:60]} ({border.short(error)})"
            ) from None
    return np.asarray(new_x).reshape(xs.shape), np.asarray(new_y).reshape(ys.shape)


def transform_bounds(src: str, dst: str, bounds: Bounds) -> Bounds:
    """The rectangle around a rectangle's image in another CRS (edges densified)."""
    if src == dst:
        return bounds
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError
    from rasterio.warp import transform_bounds as warp_bounds

    with environment():
        try:
            return Bounds(*warp_bounds(_crs(src), _crs(dst), *bounds, densify_pts=21))
        except (RasterioError, CPLE_BaseError, ValueError) as error:
            raise GridError(
                f"the area {tuple(round(b, 3) for b in bounds)} has no place in {dst[:60]}: {error}"
            ) from None
