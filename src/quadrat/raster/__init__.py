"""Imagery and other rasters: facts, windowed reads on a grid, mosaics, GeoTIFFs and COGs.

The only home of rasterio. It does not know tiles' labels, tile sets or models.

    opening    drivers and sidecars allowed, settings and errors of GDAL
    vrt        mosaics that users give, checked; links: those that `fetch --link` wrote
    validity   which pixels are missing; bands: which are red, green and blue
    files      facts of one file, CRS conversions
    placement  how a file lies on the grid: turned, mirrored, warped
    ground     ground areas of tiles
    mosaic     many files read as one on a grid
    values     label codes; whole: whole files and plain windows
    write      GeoTIFF and COG
    pictures   small TIFF pictures in memory
"""

from quadrat.raster.bands import summary as bands_summary
from quadrat.raster.files import (
    RasterInfo,
    crs_unit,
    info,
    normalise_crs,
    projjson,
    suggest_crs,
    transform_bounds,
    transform_points,
)
from quadrat.raster.ground import tile_hectares
from quadrat.raster.ground import warnings as grid_warnings
from quadrat.raster.links import RECORD, is_link
from quadrat.raster.mosaic import Imagery, ReadFailure, open_imagery, read_block
from quadrat.raster.opening import environment
from quadrat.raster.pictures import read_rgb
from quadrat.raster.placement import source_pixel
from quadrat.raster.values import ValueRaster, colour_table, open_values, polygonize, rasterize
from quadrat.raster.write import create_geotiff, write_cog, write_geotiff

__all__ = [
    "RECORD",
    "Imagery",
    "RasterInfo",
    "ReadFailure",
    "ValueRaster",
    "bands_summary",
    "colour_table",
    "create_geotiff",
    "crs_unit",
    "environment",
    "grid_warnings",
    "info",
    "is_link",
    "normalise_crs",
    "open_imagery",
    "open_values",
    "polygonize",
    "projjson",
    "rasterize",
    "read_block",
    "read_rgb",
    "source_pixel",
    "suggest_crs",
    "tile_hectares",
    "transform_bounds",
    "transform_points",
    "write_cog",
    "write_geotiff",
]
