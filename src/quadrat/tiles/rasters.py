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

from quadrat import dates as dating
from quadrat import raster, storage, vectors
from quadrat.errors import RasterError
from quadrat.fetching import record
from quadrat.grid import Bounds, Grid, TileId, TileRange
from quadrat.legend import Legend
from quadrat.raster import Imagery, ReadFailure
from quadrat.skipped import Skipped
from quadrat.tiles import extent, overlap
from quadrat.tiles.types import Batch, Chips, Columns, empty_chips, make_index

SIDE = 16  # tiles along a part: small enough that workers end together, few blocks read twice
MANY = 500_000  # tiles from which on parts are of four times the size: a quarter of the files
MAX_NODATA = 0.0002  # ten pixels of a tile of 224 x 224: the reference rule


@dataclass(frozen=True)
class RasterPart:
    """Some tiles of a square of 16 x 16, or of 32 x 32 where there are very many.

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
    notes: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know, a sentence each: of the files' dates, of the grid."""
        return (*self.notes, *raster.grid_warnings(self.imagery.grid, self.imagery.areas))

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
        outline = vectors.digest(self.within) if self.within else None
        return storage.digest_json([self.imagery.digest, self.max_nodata, outline, self.dates])

    def parts(self) -> Sequence[RasterPart]:
        """Squares of tiles that the imagery touches, row by row from the north-west."""
        return list(self._parts())

    def _parts(self) -> Iterator[RasterPart]:
        grid, areas = self.imagery.grid, self.imagery.areas
        outline = _outline(self.within, grid.crs, _around(areas)) if self.within else None
        ranges = [grid.covering(a) for a in areas]
        if outline is not None:
            inside = grid.covering(Bounds(*outline.bounds))
            ranges = [extent.common(r, inside) for r in ranges]
        most = sum(r.n_tiles for r in ranges)
        extent.check_number(self.imagery, most)
        side = SIDE if most < MANY else 2 * SIDE
        squares: dict[tuple[int, int], list[int]] = {}
        for n, r in enumerate(ranges):
            if not r.n_tiles:
                continue
            for i in range(r.r0 // side, (r.r1 - 1) // side + 1):
                for j in range(r.c0 // side, (r.c1 - 1) // side + 1):
                    squares.setdefault((i, j), []).append(n)
        number = 0
        for (i, j), members in sorted(squares.items()):
            box, mask = _cover(i, j, side, [ranges[n] for n in members])
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


def _cover(
    i: int, j: int, side: int, ranges: Sequence[TileRange]
) -> tuple[TileRange, NDArray[np.bool_]]:
    """A square of tiles, and which of them a file touches."""
    r0, c0 = i * side, j * side
    mask = np.zeros((side, side), np.bool_)
    for r in ranges:
        mask[max(0, r.r0 - r0) : max(0, r.r1 - r0), max(0, r.c0 - c0) : max(0, r.c1 - c0)] = True
    return TileRange(r0, r0 + side, c0, c0 + side), mask


def _shrink(box: TileRange, mask: NDArray[np.bool_]) -> tuple[TileRange, NDArray[np.bool_]]:
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    a, b, c, d = int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1
    return TileRange(box.r0 + a, box.r0 + b, box.c0 + c, box.c0 + d), mask[a:b, c:d]


def _outline(uri: str, crs: str, near: Bounds) -> Any:
    import shapely

    shapes, _ = vectors.read_polygons(uri, crs, near=near)
    whole = shapely.union_all(shapes)
    if whole.is_empty:
        raise RasterError(f"{storage.redact(uri)} has no polygons on the imagery; check --within")
    shapely.prepare(whole)
    return whole


def _around(areas: Sequence[Bounds]) -> Bounds:
    """The rectangle that holds all of them."""
    left, bottom, right, top = (list(edges) for edges in zip(*areas, strict=True))
    return Bounds(min(left), min(bottom), max(right), max(top))


def _inside(outline: Any, grid: Grid, box: TileRange) -> NDArray[np.bool_]:
    """Which tiles of a square have their centre inside the outline."""
    import shapely

    rows, cols = np.mgrid[box.r0 : box.r1, box.c0 : box.c1]
    x, y = grid.centres(rows, cols)
    inside: NDArray[np.bool_] = shapely.contains_xy(outline, x, y)
    return inside


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
    alpha: int | None = None,
) -> RasterSource:
    """Imagery as a source of tiles; reads headers only.

    Args:
        max_nodata: tiles with a larger share of nodata pixels (0 to 1) are dropped.
        within: polygons; only tiles with their centre inside are taken.
        alpha: the band that is 0 where pixels are missing, 0 for none.
        date: acquisition date of all files; by default from each file's fetch record or tags.

    Raises:
        InputError: the date is none. RasterError: two files show the same ground on two dates.
        RasterError, GridError: see `quadrat.raster.open_imagery`.
    """
    if not 0 <= max_nodata <= 1:
        raise RasterError(f"--max-nodata {max_nodata} is a share of the tile, from 0 to 1")
    given = None if date is None else dating.parse(date)
    uris = [storage.normalise(u) if storage.is_local(u) else u for u in expand(imagery)]
    opened = raster.open_imagery(
        uris, crs=crs, tile_m=tile_m, pixel_m=pixel_m, bands=bands, nodata=nodata,
        stretch=stretch, resampling=resampling, alpha=alpha,
    )  # fmt: skip
    extent.check_size(opened, max_nodata)
    records = [record.read_record(i.uri) or {} for i in opened.infos]
    dates = tuple(given or _date_of(r, i.tags) for r, i in zip(records, opened.infos, strict=True))
    provenance = {
        "imagery": [
            {
                "file": storage.redact(i.uri),
                "date": d,
                "bands": list(i.bands),
                **({"fetched": r} if r else {}),
                **({"synthetic": True} if ("SYNTHETIC", "yes") in i.tags else {}),
            }
            for i, d, r in zip(opened.infos, dates, records, strict=True)
        ],
        "bands": list(raster.bands_summary(opened.infos)),
        "alpha": alpha,
        "within": within,
    }  # fmt: skip
    said = () if given else overlap.check_dates(opened, dates)
    return RasterSource(opened, max_nodata, dates, within, provenance=provenance, notes=said)


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
    named = dict(tags)
    texts = [fetched.get("date"), *(named.get(k) for k in ("ACQUISITION_DATE", "TIFFTAG_DATETIME"))]
    return next((d for d in (dating.find(str(t)) for t in texts if t) if d), None)


def read(part: RasterPart, batch_size: int) -> Iterator[Batch]:
    """The tiles of a part in batches of `batch_size`, the last one of what is left.

    A row of tiles is read as one window; its pixels are copied once, to their places in a batch.
    """
    batches = _Batches(part, batch_size)
    for i, wanted in enumerate(part.mask):
        cols = np.flatnonzero(wanted)
        if len(cols):
            # gaps inside are read and thrown away
            c0, c1 = part.tiles.c0 + int(cols[0]), part.tiles.c0 + int(cols[-1]) + 1
            row = part.tiles.r0 + i
            yield from _read_strip(batches, TileRange(row, row + 1, c0, c1), cols - cols[0])
    if batches.has_more:
        yield batches.take()


def _read_strip(batches: _Batches, strip: TileRange, take: NDArray[np.int64]) -> Iterator[Batch]:
    try:
        pixels, valid = raster.read_block(batches.part.imagery, strip)
    except ReadFailure as error:
        if strip.n_tiles == 1:
            batches.skipped.append(Skipped(f"tile ({strip.r0}, {strip.c0})", str(error)))
            return
        # a damaged block spoils the whole window: read its tiles one by one
        for c in (strip.c0 + take).tolist():
            one = TileRange(strip.r0, strip.r1, c, c + 1)
            yield from _read_strip(batches, one, np.zeros(1, np.int64))
        return
    yield from batches.add(strip, take, pixels, _share(valid, take))


class _Batches:
    """Tiles of one strip after another, put together to batches of one length."""

    def __init__(self, part: RasterPart, size: int) -> None:
        self.part, self.size = part, size
        self._start()

    def _start(self) -> None:
        self.skipped: list[Skipped] = []
        self.dropped = self.flat = 0
        self.chips: Chips | None = None
        self.rows: list[int] = []
        self.cols: list[int] = []
        self.nodata: list[float] = []

    @property
    def has_more(self) -> bool:
        """Whether tiles or skipped tiles wait to be taken."""
        return bool(self.rows or self.skipped or self.dropped)

    def add(
        self,
        strip: TileRange,
        take: NDArray[np.int64],
        pixels: NDArray[np.uint8],
        nodata: NDArray[np.float32],
    ) -> Iterator[Batch]:
        """Take in the chosen tiles of a strip `(3, S, n*S)`; batches that are full."""
        s = pixels.shape[1]
        picture = pixels.transpose(1, 2, 0)  # (S, n*S, 3)
        keep = nodata <= self.part.max_nodata
        self.dropped += int((~keep).sum())
        for t, share in zip(take[keep].tolist(), nodata[keep].tolist(), strict=True):
            if self.chips is None:
                self.chips = np.empty((self.size, s, s, 3), np.uint8)
            chip = self.chips[len(self.rows)]
            chip[:] = picture[:, t * s : (t + 1) * s]
            # a few pixels tell almost always
            if (chip[:: 1 + s // 4, 0] == chip[0, 0]).all() and (chip == chip[0, 0]).all():
                self.flat += 1
            self.rows.append(strip.r0)
            self.cols.append(strip.c0 + t)
            self.nodata.append(share)
            if len(self.rows) == self.size:
                yield self.take()

    def take(self) -> Batch:
        """The batch so far; the next one begins."""
        imagery, n = self.part.imagery, len(self.rows)
        places = zip(self.rows, self.cols, strict=True)
        owner = [source_of(imagery, TileId(r, c)) for r, c in places]
        index = make_index(
            n,
            Columns(
                rows=np.array(self.rows, np.int64),
                cols=np.array(self.cols, np.int64),
                source=[storage.redact(imagery.infos[k].uri) for k in owner],
                date=[self.part.dates[k] for k in owner],
                nodata=np.array(self.nodata, np.float32),
                grid=imagery.grid,
            ),
        )
        chips = empty_chips(imagery.grid.size_px) if self.chips is None else self.chips[:n]
        batch = Batch(index, chips, tuple(self.skipped), self.dropped, self.flat)
        self._start()
        return batch


def _share(valid: NDArray[np.bool_] | None, take: NDArray[np.int64]) -> NDArray[np.float32]:
    """Share of nodata pixels of each tile of a strip."""
    if valid is None:
        return np.zeros(len(take), np.float32)
    size = valid.shape[0]
    bad = (~valid).reshape(size, -1, size).sum(axis=(0, 2), dtype=np.int64)
    share: NDArray[np.float32] = (bad[take] / size**2).astype(np.float32)
    return share


def source_of(imagery: Imagery, tile: TileId) -> int:
    """The number of the first file whose ground holds the tile's centre (else the first met)."""
    m = imagery.grid.tile_m
    x, y = (tile.col + 0.5) * m, -(tile.row + 0.5) * m
    for n, a in enumerate(imagery.areas):
        if a.left <= x < a.right and a.bottom < y <= a.top:
            return n
    return 0
