"""Rasters of values that must never be interpolated (label codes), and polygons made into them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import storage
from quadrat.errors import RasterError
from quadrat.grid import Bounds
from quadrat.raster import files, opening
from quadrat.raster.files import RasterInfo


@dataclass(frozen=True)
class ValueRaster:
    """One band of whole numbers, sampled at points by nearest neighbour."""

    info: RasterInfo
    band: int = 1

    def sample(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Values of the pixels that hold the points.

        Args:
            x, y: coordinates in the raster's own CRS, any one shape.

        Returns:
            values int64 (0 where there is none) and whether there is one; the shape of `x`.
            A pixel that holds the raster's nodata value has none.
        """
        a, b, c, d, e, f = self.info.transform
        det = a * e - b * d
        # the inverse of the geotransform; a pixel holds its upper and left edge
        col = np.floor((e * (x - c) - b * (y - f)) / det)
        row = np.floor((a * (y - f) - d * (x - c)) / det)
        with np.errstate(invalid="ignore"):
            inside = (col >= 0) & (col < self.info.width) & (row >= 0) & (row < self.info.height)
        values = np.zeros(x.shape, np.int64)
        if not inside.any():
            return values, inside
        r, k = row[inside].astype(np.int64), col[inside].astype(np.int64)
        r0, r1, c0, c1 = int(r.min()), int(r.max()) + 1, int(k.min()), int(k.max()) + 1
        block = self._window(r0, r1, c0, c1)
        cells = block[r - r0, k - c0]
        values[inside] = cells
        if self.info.nodata is not None:
            inside[inside] = cells != self.info.nodata
        return values, inside

    def _window(self, r0: int, r1: int, c0: int, c1: int) -> NDArray[Any]:
        from rasterio.errors import RasterioError

        with opening.environment(self.info.remote), opening.open_dataset(self.info.uri) as data:
            try:
                block: NDArray[Any] = data.read(self.band, window=((r0, r1), (c0, c1)))
            except RasterioError as error:
                raise RasterError(
                    f"{storage.redact(self.info.uri)} cannot be read "
                    f"({opening.line(error, self.info.uri)}); fetch the file again"
                ) from None
        return block


def open_values(uri: str) -> ValueRaster:
    """A raster of whole numbers with a CRS; RasterError otherwise."""
    i = files.info(uri)
    name = storage.redact(uri)
    if not i.crs:
        raise RasterError(f"{name} has no CRS; set one with gdal_edit.py -a_srs EPSG:... on a copy")
    if not np.issubdtype(np.dtype(i.dtype), np.integer) or i.dtype == "uint64":
        raise RasterError(
            f"{name} holds {i.dtype} values; a label raster holds whole-number codes of int64 or "
            "smaller: write it with gdal_translate -ot Int32"
        )
    if i.count - bool(i.alpha) != 1:
        raise RasterError(
            f"{name} has {i.count} bands, as a picture has; a label raster has one band of codes: "
            "write that band with gdal_translate -b 1"
        )
    return ValueRaster(i)


def colour_table(uri: str) -> dict[int, tuple[int, int, int, int]]:
    """Value -> red, green, blue and alpha of a file's first band; RasterError where it has none."""
    with opening.environment(), opening.open_dataset(uri) as data:
        try:
            table: dict[int, tuple[int, int, int, int]] = data.colormap(1)
        except ValueError:
            raise RasterError(
                f"{storage.redact(uri)} has no colour table; name a map that quadrat map wrote"
            ) from None
    return table


def rasterize(
    shapes: Iterable[tuple[Any, int]], bounds: Bounds, height: int, width: int
) -> NDArray[np.int32]:
    """Polygons burnt into cells by the cells' centres, shape (height, width) int32, -1 elsewhere.

    Args:
        shapes: pairs of a shapely geometry (in the CRS of `bounds`) and a value; later ones win.
    """
    from affine import Affine
    from rasterio.features import rasterize as burn

    pairs = list(shapes)
    empty: NDArray[np.int32] = np.full((height, width), -1, np.int32)
    if not pairs:
        return empty
    transform = Affine(
        (bounds.right - bounds.left) / width, 0, bounds.left,
        0, -(bounds.top - bounds.bottom) / height, bounds.top,
    )  # fmt: skip
    with opening.environment():
        burnt: NDArray[np.int32] = burn(
            pairs, out_shape=(height, width), fill=-1, transform=transform, dtype="int32"
        )
    return burnt


def polygonize(
    ids: NDArray[np.int32], transform: files.Transform
) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """The outlines of areas of one value, WKB (M,), and the values (M,) int64.

    Args:
        ids: (H, W); areas touch along sides, not at corners; -1 is no area.
        transform: from (col, row) of a pixel's corner to x and y.
    """
    import shapely
    from affine import Affine
    from rasterio.features import shapes

    with opening.environment():
        found = [
            (shapely.geometry.shape(outline), int(value))
            for outline, value in shapes(ids, mask=ids >= 0, transform=Affine(*transform))
        ]
    outlines = np.array([shapely.to_wkb(polygon) for polygon, _ in found], dtype=object)
    return outlines, np.array([value for _, value in found], np.int64)
