"""Rasters opened: which drivers may read what, sidecars, links, GDAL's settings and errors.

A file is opened as what its name says: a `.vrt` as a mosaic that is checked first (`vrt`), a link
that `fetch --link` wrote as the image that it stands for, anything else by a driver that reads this
one file. So a file from elsewhere reads no other files and reaches no network.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quadrat import storage
from quadrat.errors import RasterError
from quadrat.raster import links, vrt

# bytes: a row of 512 px blocks of a part takes 8 MB, for each worker and open file
CACHE_BYTES = 64 << 20
# Each reads the file it is given and sidecars beside it, nothing else.
DRIVERS = ("GTiff", "JP2OpenJPEG", "JP2KAK", "JP2ECW", "PNG", "JPEG", "WEBP", "BMP", "HFA",
           "AAIGrid", "EHdr", "ENVI")  # fmt: skip
MOST_BLOCK_BYTES = 1 << 29
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@contextmanager
def environment(remote: bool = False) -> Iterator[None]:
    """GDAL's settings for Quadrat's reads; every call of GDAL runs inside.

    A local file's sidecars are looked for, and no remote file can be reached from it. A remote
    file's folder is not listed.
    """
    import rasterio

    reach = {} if remote else {"CPL_VSIL_CURL_ALLOWED_FILENAME": "none"}
    with rasterio.Env(
        **reach,
        GDAL_CACHEMAX=CACHE_BYTES,
        GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR" if remote else "TRUE",
        GDAL_VRT_ENABLE_PYTHON="NO",  # a VRT must not be able to run code
        GDAL_HTTP_MAX_RETRY="4",
        GDAL_HTTP_RETRY_DELAY="0.5",
        GDAL_HTTP_CONNECTTIMEOUT="15",
        GDAL_HTTP_LOW_SPEED_TIME="90",  # seconds without a byte: without it a dead server hangs us
        GDAL_HTTP_LOW_SPEED_LIMIT="1",
        VSI_CACHE="TRUE",
    ):
        yield


def is_remote(uri: str) -> bool:
    """Whether pixels come over the network: an address, or a link to one."""
    return not storage.is_local(uri) or links.is_link(uri)


def gdal_name(uri: str) -> str:
    """The name by which GDAL (through rasterio) opens a URI."""
    if storage.is_local(uri):
        return str(storage.local_path(uri))
    return re.sub(r"^(abfss?|adl)://", "az://", re.sub(r"^s3a://", "s3://", uri))


def open_dataset(uri: str) -> Any:
    """An open rasterio dataset; RasterError with the cure when it cannot be.

    A link is opened as the remote image that it stands for.
    """
    _refuse_virtual(uri)
    link = links.target(uri)
    if link is not None:
        return _open(link, uri, DRIVERS)
    if vrt.is_vrt(uri):
        return _open_mosaic(uri)
    return open_image(uri)


def open_header(uri: str) -> Any:
    """A dataset to be asked for facts only: a link is opened without a request to its image."""
    _refuse_virtual(uri)
    if links.target(uri) is not None:
        return _open(gdal_name(uri), uri, ("VRT",))
    return open_dataset(uri)


def _refuse_virtual(uri: str) -> None:
    """Refuse archives, and names of GDAL's virtual file systems."""
    name = storage.redact(uri)
    if re.match(r"/vsi(zip|tar|gzip|7z|rar)|[a-z+]*(zip|tar|tgz)[a-z0-9+]*://", uri, re.IGNORECASE):
        raise RasterError(
            f"{name} lies in an archive, from which windows cannot be read; unpack it and name the "
            "raster itself"
        )
    if uri.startswith("/vsi"):
        raise RasterError(
            f"{name} is a name of GDAL's; give the file's path or https://, s3:// URI"
        )


def open_image(uri: str) -> Any:
    """A dataset that is one file, no mosaic; RasterError with the cure when it cannot be opened."""
    if storage.is_local(uri):
        _check_file(uri)
        _check_sidecars(storage.local_path(uri))
    data = _open(gdal_name(uri), uri, DRIVERS)
    try:
        _check_dataset(data, storage.redact(uri))
    except RasterError:
        data.close()
        raise
    return data


def open_view(text: str) -> Any:
    """A view that Quadrat wrote of a file that is open."""
    return _open(text, "a view of a raster", ("VRT",))


def _open(name: str, uri: str, drivers: tuple[str, ...]) -> Any:
    from rasterio.env import ensure_env_with_credentials
    from rasterio.errors import RasterioError, RasterioIOError
    from rasterio.io import DatasetReader

    shown = storage.redact(uri)
    try:
        # rasterio.open takes one driver; it gives the credentials of object stores in the same way
        return ensure_env_with_credentials(DatasetReader)(name, driver=list(drivers))
    except RasterioIOError as error:
        raise RasterError(
            f"{shown} cannot be opened as a raster ({line(error, uri)}); "
            "give a GeoTIFF, COG or VRT that gdalinfo opens"
        ) from None
    except (RasterioError, ValueError) as error:
        raise RasterError(f"{shown} cannot be opened as a raster: {line(error, uri)}") from None


def _open_mosaic(uri: str) -> Any:
    if storage.is_local(uri):
        _check_file(uri)
    mosaic = _prepared(uri, storage.fingerprint(uri))
    for path in mosaic.sources:  # GDAL reads zeros where a file has gone since
        if storage.is_local(path):
            _check_file(path)
    return _open(mosaic.text, uri, ("VRT",))


@functools.lru_cache(maxsize=64)
def _prepared(uri: str, fingerprint: str) -> vrt.Mosaic:
    """A VRT, checked once as long as it does not change."""
    return vrt.prepare(uri, vrt.read_text(uri), open_image)


def _check_file(uri: str) -> None:
    """Refuse what is no regular file: reading a pipe or a device may never end."""
    path, name = storage.local_path(uri), storage.redact(uri)
    if not path.exists():
        raise RasterError(f"{name} does not exist; check the path")
    if path.is_dir():
        raise RasterError(f"{name} is a folder, not a raster; name its files")
    if not path.is_file():
        raise RasterError(f"{name} is no regular file; name a raster file")


def _check_sidecars(path: Path) -> None:
    """Refuse masks and overviews beside a file that are no TIFFs: they could name other files."""
    for ending in (".msk", ".MSK", ".ovr", ".OVR"):
        beside = path.with_name(path.name + ending)
        if not beside.exists():
            continue
        _check_file(str(beside))
        _check_sidecars(beside)
        _check_tiff(str(beside), storage.fingerprint(str(beside)))
    facts = path.with_name(path.name + ".aux.xml")
    if facts.exists():
        _check_file(str(facts))
        if facts.stat().st_size > vrt.MOST_BYTES or b"OVERVIEW_FILE" in facts.read_bytes():
            raise RasterError(f"{facts} names overviews in another file; remove it")


@functools.lru_cache(maxsize=1024)
def _check_tiff(path: str, fingerprint: str) -> None:
    """A mask or overview file, looked at once as long as it does not change."""
    from rasterio.errors import NotGeoreferencedWarning

    with Path(path).open("rb") as file:
        if file.read(4) not in TIFF:
            raise RasterError(f"{path} is no TIFF; remove it, or write it anew with gdaladdo")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # it lies as its raster does
        with _open(path, path, ("GTiff",)) as data:
            _check_dataset(data, path)


def _check_dataset(data: Any, name: str) -> None:
    """Refuse overviews in other files, and blocks that need very much memory."""
    import numpy as np

    if "OVERVIEW_FILE" in data.tags(ns="OVERVIEWS"):
        raise RasterError(f"{name} names overviews in another file; write it anew: gdal_translate")
    rows, cols = data.block_shapes[0]
    size = rows * cols * data.count * np.dtype(data.dtypes[0]).itemsize
    if size > MOST_BLOCK_BYTES:
        raise RasterError(
            f"{name} is kept in blocks of {cols:,} x {rows:,} px ({size / 1e9:.1f} GB each); "
            "write it in tiles: gdal_translate -co TILED=YES -co COMPRESS=DEFLATE"
        )


def line(error: BaseException, uri: str) -> str:
    """What GDAL says, on one line, without secrets."""
    text = " ".join(str(error).split()).replace(uri, storage.redact(uri))
    return re.sub(r"(?i)(sig|token|key)=[^&\s'\"]+", r"\1=...", text)[:200]
