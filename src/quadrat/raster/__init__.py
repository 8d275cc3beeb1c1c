"""Imagery and other rasters: facts, windowed reads on a grid, mosaics, GeoTIFFs and COGs.

The only home of rasterio. It does not know tiles' labels, tile sets or models.

    files      facts of one file, CRS conversions, errors of GDAL translated
    placement  how a file lies on the grid: turned, mirrored, warped
    mosaic     many files read as one on a grid
    write      GeoTIFF and COG
"""

from quadrat.raster.files import (
    RasterInfo,
    crs_unit,
    environment,
    info,
    normalise_crs,
    projjson,
    suggest_crs,
    transform_bounds,
    transform_points,
)
from quadrat.raster.mosaic import Imagery, ReadFailure, open_imagery, read_block
from quadrat.raster.placement import source_pixel
from quadrat.raster.values import ValueRaster, open_values, rasterize
from quadrat.raster.write import create_geotiff, write_cog, write_geotiff

__all__ = [
    "Imagery",
    "RasterInfo",
    "ReadFailure",
    "ValueRaster",
    "create_geotiff",
    "crs_unit",
    "environment",
    "info",
    "normalise_crs",
    "open_imagery",
    "open_values",
    "projjson",
    "rasterize",
    "read_block",
    "source_pixel",
    "suggest_crs",
    "transform_bounds",
    "transform_points",
    "write_cog",
    "write_geotiff",
]
