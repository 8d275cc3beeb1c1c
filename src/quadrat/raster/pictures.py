"""Small TIFF pictures in memory, of layouts that picture libraries do not know."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import border
from quadrat.errors import RasterError

COLOURS = ("red", "green", "blue")
_LOCK = threading.Lock()  # Python's filters of warnings are those of all threads
MAX_BLOCK = 256 << 20  # bytes of a block with all its bands, which GDAL holds at once


def read_rgb(data: bytes, max_side: int) -> NDArray[np.uint8]:
    """Red, green and blue of an 8-bit TIFF file, `(H, W, 3) uint8`.

    Three or four bands that do not say their colours are taken for RGB and one more.

    Raises:
        RasterError: of how a sentence on the file ends: "has 8 bands ...".
    """
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.io import MemoryFile

    try:
        with rasterio.Env(), MemoryFile(data) as memory, _open(memory) as file:
            if max(file.width, file.height) > max_side:
                raise RasterError(
                    f"is {file.width:,} x {file.height:,} pixels, more than {max_side}; imagery "
                    "goes in as GeoTIFF through quadrat tile"
                )
            rows, cols = file.block_shapes[0]
            if rows * cols * file.count > MAX_BLOCK:
                raise RasterError(f"has {file.count:,} bands in one block; keep red, green, blue")
            names = [c.name for c in file.colorinterp]
            if set(COLOURS) <= set(names):
                bands = [names.index(c) + 1 for c in COLOURS]
            elif file.count <= 4:
                bands = [1, 2, 3]
            else:
                raise RasterError(
                    f"has {file.count} bands and does not say which are red, green and blue; save "
                    "these three"
                )
            pixels: NDArray[np.uint8] = file.read(bands)
    except RasterioError as error:
        raise RasterError(
            f"is truncated or damaged ({border.short(error.__cause__ or error)}); replace it"
        ) from None
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))


def _open(memory: Any) -> Any:
    """Open a TIFF in memory, without the warning that it is not georeferenced."""
    from rasterio.errors import NotGeoreferencedWarning

    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return memory.open(driver="GTiff")
