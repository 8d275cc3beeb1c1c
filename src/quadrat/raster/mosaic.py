"""Many files read as one image on a grid: bands, nodata, resampling, priority where they meet.

A file whose pixels lie on the grid's own lattice is read as it is (turned or mirrored if need be);
any other is warped: averaged over the ground of a pixel when it is finer than the grid, bilinear
(or cubic) when it is not. Where files overlap, the one named first wins, and the next fills its
nodata.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import choices, storage
from quadrat.errors import GridError, RasterError
from quadrat.grid import Bounds, Grid, TileRange
from quadrat.raster import files, ground, opening, validity
from quadrat.raster.bands import roles
from quadrat.raster.files import RasterInfo
from quadrat.raster.placement import on_lattice, warped

OPEN_FILES = 16  # a worker's open files; a quarter-quad mosaic row needs two or three


@dataclass(frozen=True)
class Imagery:
    """What to read and how; plain values, so that a worker can open it anew.

    Attributes:
        infos: the files in order of priority.
        nodata: value that means "no data" in all three bands; None takes each file's own.
        stretch: lowest and highest value mapped to 0 and 255; None for 8-bit imagery.
        alpha: the band that is 0 where pixels are missing, 0 for none; None takes each file's own.
        areas: each file's ground in the grid's CRS.
    """

    grid: Grid
    infos: tuple[RasterInfo, ...]
    areas: tuple[Bounds, ...]
    nodata: float | None = None
    stretch: tuple[float, float] | None = None
    resampling: str = "bilinear"
    alpha: int | None = None

    @property
    def digest(self) -> str:
        """Changes when a file, its content, or a way of reading changes."""
        return storage.digest_json(
            {
                "grid": self.grid.to_dict(),
                "files": [[storage.redact(i.uri), i.fingerprint, i.bands] for i in self.infos],
                "how": [self.nodata, self.stretch, self.resampling, self.alpha],
            }
        )


class ReadFailure(RasterError):
    """A window of a file that opens could not be read (a truncated or damaged file)."""


def open_imagery(
    uris: Sequence[str],
    *,
    crs: str | None = None,
    tile_m: float = 224.0,
    pixel_m: float = 1.0,
    bands: tuple[int, int, int] | None = None,
    nodata: float | None = None,
    stretch: tuple[float, float] | None = None,
    resampling: str = "bilinear",
    alpha: int | None = None,
) -> Imagery:
    """Check the files and fix the grid; reads headers only.

    Args:
        crs: CRS of the grid, projected, in metres; the first file's by default.
        bands: three band numbers from 1: red, green, blue; by each file's own words by default.
        nodata: replaces the values that files declare.
        alpha: the band that is 0 where pixels are missing, 0 for none; the files' own by default.

    Raises:
        RasterError, GridError: naming the file and the cure.
    """
    if not uris:
        raise RasterError("no imagery was given; name at least one GeoTIFF, COG or VRT")
    choices.check("resampling", resampling, choices.RESAMPLINGS, RasterError)
    if stretch is not None and not stretch[0] < stretch[1]:
        raise RasterError(f"--stretch {stretch[0]} {stretch[1]}: the first must be the smaller")
    infos = tuple(_chosen(files.info(u), bands, nodata, alpha) for u in uris)
    for i in infos:
        _check(i, stretch)
    grid = Grid(_grid_crs(infos[0], crs), tile_m, pixel_m)
    areas = tuple(files.transform_bounds(i.crs, grid.crs, i.bounds) for i in infos)
    if not all(math.isfinite(v) for a in areas for v in a):
        raise GridError(f"the imagery has no place in {grid.crs}; choose another --crs")
    ground.check(grid, areas)
    return Imagery(grid, infos, areas, nodata, stretch, resampling, alpha)


def _chosen(
    i: RasterInfo, bands: tuple[int, int, int] | None, nodata: float | None, alpha: int | None
) -> RasterInfo:
    """The facts of a file with the bands that are read."""
    masked = i.alpha if alpha is None else alpha or None
    choice = roles(i, bands, masked)
    validity.check(i, choice.bands, nodata, alpha)
    return replace(i, bands=choice.bands, bands_known_by=choice.known_by)


def _check(i: RasterInfo, stretch: tuple[float, float] | None) -> None:
    name = storage.redact(i.uri)
    if not i.crs:
        raise RasterError(f"{name} has no CRS; set one with gdal_edit.py -a_srs EPSG:... on a copy")
    if not np.isfinite(i.transform).all() or not i.pixel_area:
        raise RasterError(f"{name} has pixels without an area; set them with gdal_edit.py -a_ullr")
    if i.dtype != "uint8" and stretch is None:
        raise RasterError(
            f"{name} holds {i.dtype} pixels, not 8-bit; "
            "map them to 8 bits with --stretch LOW HIGH (for example its 2% and 98% values)"
        )


def _grid_crs(first: RasterInfo, crs: str | None) -> str:
    text = files.normalise_crs(crs) if crs else first.crs
    name = f"the CRS {crs}" if crs else f"the CRS of {storage.redact(first.uri)}"
    files.check_placed(text)
    projected, metres = files.crs_unit(text)
    if not projected:
        raise GridError(
            f"{name} is in degrees; plots are measured in metres: "
            f"give --crs {files.suggest_crs(first.bounds, first.crs)}"
        )
    if abs(metres - 1) > 1e-9:
        raise GridError(
            f"{name} counts in units of {metres:.4f} m; "
            f"give --crs {files.suggest_crs(first.bounds, first.crs)}"
        )
    return text


class _Open:
    """One open file on the grid's lattice, warped if need be.

    Attributes:
        bands: of `data`. mask: its band that is 0 where pixels are missing; 0 for its mask, None
            for neither. least: the lowest value of the mask that stands for a pixel.
    """

    def __init__(self, i: RasterInfo, area: Bounds, imagery: Imagery) -> None:
        self.source = opening.open_dataset(i.uri)
        self.data: Any = self.source
        alpha = i.alpha if imagery.alpha is None else imagery.alpha
        how = validity.rule(self.source, i.bands, imagery.nodata, alpha)
        self.bands, self.nodata, self.least = i.bands, how.nodata, 1
        self.masks = ((how.alpha,) if how.alpha else ()) + ((0,) if how.mask else ())
        self.views: list[Any] = []
        place = on_lattice(i, imagery.grid)
        if place is None or how.held is not None:
            self._see(opening.open_view(validity.as_view(self.source, self.bands, how)))
            self.bands = (1, 2, 3)
            self.masks = (0,) if self.masks or how.held is not None else ()
        if place is None:
            nodata = validity.warp_nodata(how, i.dtype, i.uri)
            view, place = warped(
                self.data, i, area, imagery.grid, resampling=imagery.resampling, nodata=nodata
            )
            self._see(view)
            self.masks, self.nodata, self.least = (4,), None, 128
        self.place = place

    def _see(self, data: Any) -> None:
        self.views.append(data)
        self.data = data

    def close(self) -> None:
        for data in (*reversed(self.views), self.source):
            data.close()

    def read(
        self, r0: int, r1: int, c0: int, c1: int
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Pixels `(3, r1-r0, c1-c0)` of a window inside the file; which are valid (None: all)."""
        window = self.place.window(r0, r1, c0, c1)
        return self.place.laid(*self._read(window))

    def _read(
        self, window: tuple[tuple[int, int], tuple[int, int]]
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Pixels and validity of a window of the file's own rows and columns."""
        rows, cols = window
        if len(set(self.bands)) == 3:
            # pixel by pixel, as tiles are: what is cut from it needs no turning of bytes
            pixels = _interleaved(rows[1] - rows[0], cols[1] - cols[0], self.data.dtypes[0])
            self.data.read(self.bands, window=window, out=pixels)
        else:  # GDAL reads each band once
            pixels = np.stack([self.data.read(b, window=window) for b in self.bands])
        mask: NDArray[np.bool_] | None = None
        for band in self.masks:
            found = (
                self.data.read(band, window=window)
                if band
                else self.data.read_masks(1, window=window)
            ) >= self.least
            mask = found if mask is None else mask & found
        return pixels, validity.valid(pixels, mask, self.nodata)


def _interleaved(height: int, width: int, dtype: Any) -> NDArray[Any]:
    """A view (3, height, width) of memory that keeps the three bands of a pixel together."""
    return np.empty((height, width, 3), dtype).transpose(2, 0, 1)


class _Reader(threading.local):
    """Each worker thread's open files: one a file, the least used closed first."""

    def __init__(self) -> None:
        self.open: OrderedDict[tuple[Any, ...], _Open] = OrderedDict()

    def get(self, imagery: Imagery, n: int) -> _Open:
        i = imagery.infos[n]
        key = (i, imagery.grid, imagery.nodata, imagery.resampling, imagery.alpha)
        file = self.open.pop(key, None)
        if file is None:
            file = _Open(i, imagery.areas[n], imagery)
            while len(self.open) >= OPEN_FILES:
                self.open.popitem(last=False)[1].close()
        self.open[key] = file
        return file

    def forget(self, failed: RasterInfo) -> None:
        """Close a file that failed: GDAL reads zeros from a mosaic whose source failed once."""
        for key in [k for k in self.open if k[0] == failed]:
            self.open.pop(key).close()


_reader = _Reader()


def read_block(
    imagery: Imagery, tiles: TileRange
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """The pixels of a rectangle of tiles.

    Returns:
        pixels `(3, H, W) uint8`, 0 where there is no data; valid `(H, W) bool`, or None when all
        are. H and W are the rectangle's rows and columns times `grid.size_px`.

    Raises:
        ReadFailure: a file that opens cannot be read here.
    """
    from rasterio.errors import RasterioError

    size = imagery.grid.size_px
    r0, r1, c0, c1 = tiles.r0 * size, tiles.r1 * size, tiles.c0 * size, tiles.c1 * size
    area = imagery.grid.range_bounds(tiles)
    pixels: NDArray[Any] | None = None
    valid: NDArray[np.bool_] | None = None
    for n, (info, place) in enumerate(zip(imagery.infos, imagery.areas, strict=True)):
        if not _meet(area, place):
            continue
        with opening.environment(info.remote):
            try:
                opened = _reader.get(imagery, n)
                at = opened.place
                w = (
                    max(r0, at.row), min(r1, at.row + at.height),
                    max(c0, at.col), min(c1, at.col + at.width),
                )  # fmt: skip
                if w[0] >= w[1] or w[2] >= w[3]:
                    continue
                part, ok = opened.read(*w)
            except RasterioError as error:
                _reader.forget(info)
                raise ReadFailure(
                    f"{storage.redact(info.uri)} cannot be read near tile ({tiles.r0}, {tiles.c0}) "
                    f"({opening.line(error, info.uri)}); fetch the file again"
                ) from None
            part = _to_8bit(part, imagery.stretch)
            if w == (r0, r1, c0, c1) and pixels is None and ok is None:
                return part, None
            if pixels is None or valid is None:
                pixels = np.zeros((3, r1 - r0, c1 - c0), np.uint8)
                valid = np.zeros((r1 - r0, c1 - c0), np.bool_)
            here = (slice(w[0] - r0, w[1] - r0), slice(w[2] - c0, w[3] - c0))
            new = ~valid[here] if ok is None else ok & ~valid[here]
            np.copyto(pixels[:, here[0], here[1]], part, where=new)
            valid[here] |= new
            if valid.all():
                return pixels, None
    if pixels is None or valid is None:
        return np.zeros((3, r1 - r0, c1 - c0), np.uint8), np.zeros((r1 - r0, c1 - c0), np.bool_)
    return pixels, valid


def _meet(a: Bounds, b: Bounds) -> bool:
    return a.left < b.right and b.left < a.right and a.bottom < b.top and b.bottom < a.top


def _to_8bit(pixels: NDArray[Any], stretch: tuple[float, float] | None) -> NDArray[np.uint8]:
    if stretch is None:
        return pixels
    low, high = stretch
    scaled = (pixels.astype(np.float32) - low) * (255.0 / (high - low))
    if np.issubdtype(pixels.dtype, np.floating):
        scaled = np.where(np.isfinite(scaled), scaled, 0)
    eight: NDArray[np.uint8] = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return eight
