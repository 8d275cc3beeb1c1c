"""Tiles read straight from imagery, no files in between. It does not know labels.

Parts are squares of 16 x 16 tiles anchored at the grid's origin, so that they are the same for
every mosaic; inside a part, tiles are read row by row, each row as one window.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import labels, raster, storage
from quadrat.errors import RasterError
from quadrat.fetch import record
from quadrat.grid import Grid, TileId, TileRange
from quadrat.legend import Legend
from quadrat.raster import Imagery, ReadFailure
from quadrat.tiles.types import Batch, Chips, Columns, empty_chips, make_index

SIDE = 16  # tiles along a part: small enough that workers end together, few blocks read twice
MAX_NODATA = 0.0002  # ten pixels of a tile of 224 x 224: the reference rule


@dataclass(frozen=True)
class RasterPart:
    """Some tiles of a square of 16 x 16.

    Attributes:
        wanted: `(r1-r0, c1-c0) bool` packed to bits; None for all of `tiles`.
        dates: acquisition date of each file of `imagery`, or None.
    """

    name: str
    imagery: Imagery
    tiles: TileRange
    wanted: bytes | None
    max_nodata: float
    dates: tuple[str | None, ...]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Which tiles of the rectangle belong to the part, `(rows, cols) bool`."""
        shape = (self.tiles.r1 - self.tiles.r0, self.tiles.c1 - self.tiles.c0)
        if self.wanted is None:
            return np.ones(shape, np.bool_)
        bits = np.unpackbits(np.frombuffer(self.wanted, np.uint8), count=shape[0] * shape[1])
        return bits.reshape(shape).astype(np.bool_)

    @property
    def count(self) -> int:
        """Tiles at most: some may be dropped for nodata."""
        return int(self.mask.sum())


@dataclass(frozen=True)
class RasterSource:
    """Imagery on a grid as a source of tiles."""

    imagery: Imagery
    max_nodata: float
    dates: tuple[str | None, ...]
    within: str | None = None
    kind: str = "rasters"
    legend: Legend | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        """The first file's URI, for messages."""
        return storage.redact(self.imagery.infos[0].uri)

    @property
    def grid(self) -> Grid:
        """The grid of the tiles."""
        return self.imagery.grid

    @property
    def size_px(self) -> int:
        """Pixels along one side of a tile."""
        return self.imagery.grid.size_px

    @property
    def digest(self) -> str:
        """Changes when imagery, grid, nodata rule or outline change."""
        outline = storage.digest_file(self.within) if self.within else None
        return storage.digest_json([self.imagery.digest, self.max_nodata, outline, self.dates])

    def parts(self) -> Sequence[RasterPart]:
        """Squares of tiles that the imagery touches, row by row from the north-west."""
        return list(self._parts())

    def _parts(self) -> Iterator[RasterPart]:
        grid, areas = self.imagery.grid, self.imagery.areas
        ranges = [grid.covering(a) for a in areas]
        squares: dict[tuple[int, int], list[int]] = {}
        for n, r in enumerate(ranges):
            for i in range(r.r0 // SIDE, (r.r1 - 1) // SIDE + 1):
                for j in range(r.c0 // SIDE, (r.c1 - 1) // SIDE + 1):
                    squares.setdefault((i, j), []).append(n)
        outline = _outline(self.within, grid.crs) if self.within else None
        number = 0
        for (i, j), members in sorted(squares.items()):
            box, mask = _cover(i, j, [ranges[n] for n in members])
            if outline is not None:
                mask &= _inside(outline, grid, box)
            if not mask.any():
                continue
            box, mask = _shrink(box, mask)
            part = replace(
                self.imagery,
                infos=tuple(self.imagery.infos[n] for n in members),
                areas=tuple(areas[n] for n in members),
            )
            wanted = None if mask.all() else np.packbits(mask).tobytes()
            dates = tuple(self.dates[n] for n in members)
            yield RasterPart(f"part-{number:05d}", part, box, wanted, self.max_nodata, dates)
            number += 1


def _cover(i: int, j: int, ranges: Sequence[TileRange]) -> tuple[TileRange, NDArray[np.bool_]]:
    """A square of tiles, and which of them a file touches."""
    r0, c0 = i * SIDE, j * SIDE
    mask = np.zeros((SIDE, SIDE), np.bool_)
    for r in ranges:
        mask[max(0, r.r0 - r0) : max(0, r.r1 - r0), max(0, r.c0 - c0) : max(0, r.c1 - c0)] = True
    return TileRange(r0, r0 + SIDE, c0, c0 + SIDE), mask


def _shrink(box: TileRange, mask: NDArray[np.bool_]) -> tuple[TileRange, NDArray[np.bool_]]:
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    a, b, c, d = int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1
    return TileRange(box.r0 + a, box.r0 + b, box.c0 + c, box.c0 + d), mask[a:b, c:d]


def _outline(uri: str, crs: str) -> Any:
    import shapely

    shapes, _ = labels.read_polygons(uri, crs)
    whole = shapely.union_all(shapes)
    if whole.is_empty:
        raise RasterError(f"{storage.redact(uri)} holds no polygons; check the outline")
    shapely.prepare(whole)
    return whole


def _inside(outline: Any, grid: Grid, box: TileRange) -> NDArray[np.bool_]:
    """Which tiles of a square have their centre inside the outline."""
    import shapely

    rows, cols = np.mgrid[box.r0 : box.r1, box.c0 : box.c1]
    x, y = grid.centres(rows, cols)
    found: NDArray[np.bool_] = shapely.contains_xy(outline, x, y)
    return found


def open_rasters(
    imagery: Sequence[str],
    *,
    crs: str | None = None,
    tile_m: float = 224.0,
    pixel_m: float = 1.0,
    bands: tuple[int, int, int] | None = None,
    nodata: float | None = None,
    stretch: tuple[float, float] | None = None,
    resampling: str = "bilinear",
    max_nodata: float = MAX_NODATA,
    within: str | None = None,
    date: str | None = None,
) -> RasterSource:
    """Imagery as a source of tiles; reads headers only.

    Args:
        max_nodata: tiles with a larger share of nodata pixels (0 to 1) are dropped.
        within: polygons; only tiles with their centre inside are taken.
        date: acquisition date of all files; by default from each file's fetch record or tags.

    Raises:
        RasterError, GridError: see `quadrat.raster.open_imagery`.
    """
    if not 0 <= max_nodata <= 1:
        raise RasterError(f"--max-nodata {max_nodata} is a share of the tile, from 0 to 1")
    uris = [storage.normalise(u) if storage.is_local(u) else u for u in expand(imagery)]
    found = raster.open_imagery(
        uris, crs=crs, tile_m=tile_m, pixel_m=pixel_m, bands=bands, nodata=nodata,
        stretch=stretch, resampling=resampling,
    )  # fmt: skip
    records = [record.read_record(i.uri) or {} for i in found.infos]
    dates = tuple(date or _date_of(r, i.tags) for r, i in zip(records, found.infos, strict=True))
    provenance = {
        "imagery": [
            {"file": storage.redact(i.uri), "date": d, **({"fetched": r} if r else {})}
            for i, d, r in zip(found.infos, dates, records, strict=True)
        ],
        "within": within,
    }
    return RasterSource(found, max_nodata, dates, within, provenance=provenance)


def expand(imagery: Sequence[str]) -> list[str]:
    """The files named, a folder standing for the rasters in it, an item list for its items."""
    result: list[str] = []
    for uri in imagery:
        if storage.is_local(uri) and storage.is_dir(uri):
            names = [
                n for n in storage.list_names(uri) if n.lower().endswith((".tif", ".tiff", ".vrt"))
            ]
            if not names:
                raise RasterError(f"{uri} holds no GeoTIFF or VRT; name the imagery's files")
            result += [storage.join(uri, n) for n in names]
        else:
            result.append(uri)
    return list(dict.fromkeys(result))


def _date_of(fetched: Mapping[str, Any], tags: Sequence[tuple[str, str]]) -> str | None:
    if fetched.get("date"):
        return str(fetched["date"])
    named = dict(tags)
    for key in ("ACQUISITION_DATE", "TIFFTAG_DATETIME"):
        text = named.get(key, "")[:10].replace(":", "-")
        if len(text) >= 4 and text[:4].isdigit() and text[:4] != "0000":
            return text
    return None


def read(part: RasterPart, batch_size: int) -> Iterator[Batch]:
    """The tiles of a part, a row of tiles (or `batch_size` of them) at a time."""
    mask = part.mask
    for i, wanted in enumerate(mask):
        cols = np.flatnonzero(wanted)
        while len(cols):
            # a window of at most batch_size tiles; gaps inside are read and thrown away
            c0 = int(cols[0])
            some = cols[cols < c0 + batch_size]
            cols = cols[len(some) :]
            strip = TileRange(
                part.tiles.r0 + i, part.tiles.r0 + i + 1,
                part.tiles.c0 + c0, part.tiles.c0 + int(some[-1]) + 1,
            )  # fmt: skip
            yield _read_strip(part, strip, some - c0)


def _read_strip(part: RasterPart, strip: TileRange, take: NDArray[np.int64]) -> Batch:
    try:
        pixels, valid = raster.read_block(part.imagery, strip)
        return _batch(part, strip.r0, strip.c0 + take, _cut(pixels, take), _share(valid, take))
    except ReadFailure as error:
        if strip.n_tiles == 1:
            name = f"tile ({strip.r0}, {strip.c0})"
            index = make_index(0, Columns(grid=part.imagery.grid))
            return Batch(index, empty_chips(part.imagery.grid.size_px), ((name, str(error)),))
    # a damaged block spoils the whole window: read its tiles one by one
    import pyarrow as pa

    single = [
        _read_strip(part, TileRange(strip.r0, strip.r1, c, c + 1), np.zeros(1, np.int64))
        for c in (strip.c0 + take).tolist()
    ]
    return Batch(
        pa.concat_tables([b.index for b in single]),
        np.concatenate([b.chips for b in single]),
        tuple(s for b in single for s in b.skipped),
        sum(b.dropped for b in single),
    )


def _cut(pixels: NDArray[np.uint8], take: NDArray[np.int64]) -> Chips:
    """A strip (3, S, n*S) to chips (len(take), S, S, 3)."""
    size = pixels.shape[1]
    out = np.empty((len(take), size, size, 3), np.uint8)
    for k, t in enumerate(take.tolist()):
        for band in range(3):
            out[k, :, :, band] = pixels[band, :, t * size : (t + 1) * size]
    return out


def _share(valid: NDArray[np.bool_] | None, take: NDArray[np.int64]) -> NDArray[np.float32]:
    """Share of nodata pixels of each tile of a strip."""
    if valid is None:
        return np.zeros(len(take), np.float32)
    size = valid.shape[0]
    bad = (~valid).reshape(size, -1, size).sum(axis=(0, 2), dtype=np.int64)
    share: NDArray[np.float32] = (bad[take] / size**2).astype(np.float32)
    return share


def _batch(
    part: RasterPart, row: int, cols: NDArray[np.int64], chips: Chips, nodata: NDArray[np.float32]
) -> Batch:
    keep = nodata <= part.max_nodata
    if not keep.all():
        cols, chips, nodata = cols[keep], chips[keep], nodata[keep]
    grid = part.imagery.grid
    owner = [source_of(part.imagery, TileId(row, int(c))) for c in cols]
    index = make_index(
        len(cols),
        Columns(
            rows=np.full(len(cols), row),
            cols=cols,
            source=[storage.redact(part.imagery.infos[n].uri) for n in owner],
            date=[part.dates[n] for n in owner],
            nodata=nodata,
            grid=grid,
        ),
    )
    return Batch(index, chips, (), int((~keep).sum()))


def source_of(imagery: Imagery, tile: TileId) -> int:
    """The number of the first file whose ground holds the tile's centre (else the first met)."""
    m = imagery.grid.tile_m
    x, y = (tile.col + 0.5) * m, -(tile.row + 0.5) * m
    for n, a in enumerate(imagery.areas):
        if a.left <= x < a.right and a.bottom < y <= a.top:
            return n
    return 0
