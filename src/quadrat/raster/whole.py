"""Whole files and plain windows: every block read once, or values exactly as they are stored.

For what was fetched: a file is good when all of it can be read, and label codes are cut out, never
resampled. It knows no grid.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import storage
from quadrat.errors import RasterError
from quadrat.raster import files, opening
from quadrat.raster.files import RasterInfo

ROWS_BYTES = 64 << 20  # of pixels in memory at once


def verify(uri: str) -> RasterInfo:
    """Facts of a raster, after reading all of it.

    Raises:
        RasterError: it does not open, or a part of it cannot be read (truncated, damaged).
    """
    from rasterio.errors import RasterioError

    with opening.environment(opening.is_remote(uri)), opening.open_dataset(uri) as data:
        # whole rows of blocks, so that each block is decoded once
        step = data.block_shapes[0][0]
        row_bytes = data.width * data.count * np.dtype(data.dtypes[0]).itemsize
        step *= max(1, ROWS_BYTES // (row_bytes * step))
        try:
            for row in range(0, data.height, step):
                data.read(window=((row, min(data.height, row + step)), (0, data.width)))
        except RasterioError as error:
            raise RasterError(
                f"{storage.redact(uri)} is damaged ({opening.line(error, uri)}); fetch it again"
            ) from None
        return files.describe(uri, data)


def read_values(uri: str, r0: int, r1: int, c0: int, c1: int, *, band: int = 1) -> NDArray[Any]:
    """The stored values of rows `[r0, r1)`, columns `[c0, c1)` of a band, shape (r1-r0, c1-c0).

    Raises:
        RasterError: the window is not inside the raster, or cannot be read.
    """
    from rasterio.errors import RasterioError

    with opening.environment(opening.is_remote(uri)), opening.open_dataset(uri) as data:
        if not (0 <= r0 < r1 <= data.height and 0 <= c0 < c1 <= data.width):
            raise RasterError(f"{storage.redact(uri)} has no rows {r0}-{r1}, columns {c0}-{c1}")
        try:
            values: NDArray[Any] = data.read(band, window=((r0, r1), (c0, c1)))
        except RasterioError as error:
            raise RasterError(
                f"{storage.redact(uri)} cannot be read ({opening.line(error, uri)}); "
                "check the file or the network"
            ) from None
    return values
