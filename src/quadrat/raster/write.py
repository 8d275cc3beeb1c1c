"""GeoTIFFs and COGs, written under their final name in one step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import storage
from quadrat.errors import StorageError
from quadrat.raster import files, opening
from quadrat.raster.files import Transform


class Canvas:
    """A GeoTIFF that is being written, window by window."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def write_window(self, row: int, col: int, pixels: NDArray[Any]) -> None:
        """Write `pixels` (B, H, W) with its upper left corner at (row, col)."""
        _, height, width = pixels.shape
        self._data.write(pixels, window=((row, row + height), (col, col + width)))


@contextmanager
def create_geotiff(
    uri: str,
    *,
    width: int,
    height: int,
    count: int,
    crs: str,
    transform: Transform,
    dtype: str = "uint8",
    nodata: float | None = None,
    compress: str = "DEFLATE",
    level: int | None = None,
    block: int = 256,
    interleave: str = "pixel",
    tags: Mapping[str, str] | None = None,
    colormap: Mapping[int, tuple[int, int, int, int]] | None = None,
    band_names: Sequence[str] = (),
) -> Iterator[Canvas]:
    """A tiled GeoTIFF to be filled with windows; nothing appears under `uri` if the block fails."""
    import rasterio
    from affine import Affine
    from rasterio.errors import RasterioError

    options: dict[str, Any] = {
        "compress": compress,
        "BIGTIFF": "IF_SAFER",
        "interleave": interleave,
    }
    if level is not None:
        options["ZLEVEL"] = level
    if compress in ("DEFLATE", "ZSTD", "LZW"):
        options["predictor"] = 3 if np.issubdtype(np.dtype(dtype), np.floating) else 2
    if min(width, height) >= 16:
        options |= {"tiled": True, "blockxsize": block, "blockysize": block}
    with storage.atomic_path(uri) as path, opening.environment():
        try:
            with rasterio.open(
                path, "w", driver="GTiff", width=width, height=height, count=count, dtype=dtype,
                crs=files._crs(crs), transform=Affine(*transform), nodata=nodata, **options,
            ) as data:  # fmt: skip
                data.update_tags(**(tags or {}))
                if colormap:
                    data.write_colormap(1, dict(colormap))
                for i, name in enumerate(band_names, 1):
                    data.set_band_description(i, name)
                yield Canvas(data)
        except RasterioError as error:
            raise StorageError(
                f"{storage.redact(uri)} could not be written ({opening.line(error, uri)}); "
                "check the space and the permissions of its folder"
            ) from None


def write_geotiff(
    uri: str, array: NDArray[Any], crs: str, transform: Transform, **options: Any
) -> None:
    """Write `array` (B, H, W) as a tiled GeoTIFF; options as in `create_geotiff`."""
    count, height, width = array.shape
    with create_geotiff(
        uri, width=width, height=height, count=count, crs=crs, transform=transform,
        dtype=str(array.dtype), **options,
    ) as canvas:  # fmt: skip
        canvas.write_window(0, 0, array)


def write_cog(
    uri: str,
    array: NDArray[Any],
    crs: str,
    transform: Transform,
    *,
    nodata: float | None = None,
    colormap: Mapping[int, tuple[int, int, int, int]] | None = None,
    band_names: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
    overview_resampling: str = "nearest",
) -> None:
    """Write `array` (B, H, W) as a cloud-optimised GeoTIFF with overviews."""
    import rasterio
    from affine import Affine
    from rasterio.errors import RasterioError
    from rasterio.io import MemoryFile
    from rasterio.shutil import copy

    count, height, width = array.shape
    with storage.atomic_path(uri) as path, opening.environment():
        try:
            with MemoryFile() as memory:
                with memory.open(
                    driver="GTiff", width=width, height=height, count=count,
                    dtype=str(array.dtype), crs=files._crs(crs), transform=Affine(*transform),
                    nodata=nodata,
                ) as data:  # fmt: skip
                    data.write(array)
                    data.update_tags(**(tags or {}))
                    if colormap:
                        data.write_colormap(1, dict(colormap))
                    for i, name in enumerate(band_names, 1):
                        data.set_band_description(i, name)
                with rasterio.open(memory.name) as data:
                    copy(
                        data, path, driver="COG", compress="DEFLATE",
                        overview_resampling=overview_resampling,
                    )  # fmt: skip
        except RasterioError as error:
            raise StorageError(
                f"{storage.redact(uri)} could not be written ({opening.line(error, uri)}); "
                "check the space and the permissions of its folder"
            ) from None
