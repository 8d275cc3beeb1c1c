"""Tile sets: cut them from imagery, read them, write them, pack folders of pictures into them.

    types     what every source of tiles is made of: parts, batches, the columns of a row
    targets   what is said of the ground of tiles: shares and labels
    sets      tile sets on disk
    folders   folders of pictures, one subfolder a class
    listing   what lies in such a folder, and what of it is not used
    relabelled  a tile set with other labels for some tiles
    rasters   tiles read straight from imagery
    overlap   imagery that shows the same ground more than once
    sources   one way to open and read every kind
    surroundings  a tile and the tiles around it, as one picture
    ahead     batches read while others are computed on
    planning  label, split and balance of every tile, before a pixel is read
    cut       `tile`: imagery and labels -> tile set
    packing   `pack`, `unpack`, `balance`

It does not know backbones, models or engines' insides.
"""

from quadrat.tiles import targets
from quadrat.tiles.ahead import batch_tiles, prefetched, read_ahead
from quadrat.tiles.cut import tile
from quadrat.tiles.folders import FolderSource, open_folder
from quadrat.tiles.packing import balance, pack, unpack
from quadrat.tiles.rasters import RasterSource, open_rasters
from quadrat.tiles.sets import TileSet, open_tileset
from quadrat.tiles.sources import index, open_tiles, read_part, source_dates, source_warnings
from quadrat.tiles.types import Batch, Part, Source

__all__ = [
    "Batch",
    "FolderSource",
    "Part",
    "RasterSource",
    "Source",
    "TileSet",
    "balance",
    "batch_tiles",
    "index",
    "open_folder",
    "open_rasters",
    "open_tiles",
    "open_tileset",
    "pack",
    "prefetched",
    "read_ahead",
    "read_part",
    "source_dates",
    "source_warnings",
    "targets",
    "tile",
    "unpack",
]
