"""Annual NLCD land cover of a place and years, cut out as stored. The `quadrat fetch nlcd` verb.

From the MRLC's Web Coverage Service, or from any raster of the same codes (`source`): a national
COG on the web, of which only windows are read, or the file that the MRLC's download page gives. The
codes keep their own projection and pixels. It does not know land-use classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quadrat import choices, products, raster, storage
from quadrat.errors import FetchError, InputError
from quadrat.fetching import folder, http, record, wcs
from quadrat.fetching.places import LONLAT, Place, reproject
from quadrat.fetching.plan import checked_years
from quadrat.fetching.record import FileRecord
from quadrat.fetching.wcs import CodeGrid
from quadrat.raster.whole import read_values, verify
from quadrat.records import Record
from quadrat.redaction import redact
from quadrat.shown import shown

# Annual NLCD land cover of the conterminous United States, as the MRLC's services page has it
LICENCE = "public domain (USGS, Annual NLCD Collection 1, https://doi.org/10.5066/P94UXNTS)"
FIRST_YEAR = 1985
MARGIN_M = 300.0  # around the place, so that tiles across its edge have labels
PIECE = 2048  # pixels a side of one request
# NLCD's codes, those of Alaska included; 0 and 250 are outside the map
CODES = (0, 11, 12, 21, 22, 23, 24, 31, 41, 42, 43, 51, 52, 71, 72, 73, 74, 81, 82, 90, 95, 250)

Window = tuple[int, int, int, int]


@shown
@dataclass(frozen=True)
class FetchedCover(Record):
    """What a fetch of land cover did.

    Attributes:
        files: one raster a year.
        written: how many of them this run wrote; the others were there.
        pixels: columns and rows of each.
    """

    out: str
    place: Place
    source: str
    years: tuple[int, ...]
    files: tuple[str, ...]
    written: int
    pixels: tuple[int, int]
    dry_run: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; of the place its name and size."""
        place = {"place": self.place.name, "area_km2": round(self.place.area_km2, 3)}
        return super().to_dict() | place


class _Source(Protocol):
    """Where codes come from."""

    name: str
    grid: CodeGrid

    def read(self, window: Window) -> tuple[NDArray[Any], float | None]:
        """Codes of a window of the grid, and the one that means "none"."""


def fetch_nlcd(
    place: Place,
    years: Sequence[int],
    out: str,
    *,
    service: str = choices.NLCD_SERVICE,
    coverage: str = choices.NLCD_COVERAGE,
    source: str | None = None,
    dry_run: bool = False,
    client: http.Client | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> FetchedCover:
    """Fetch the land-cover codes of a place, one raster a year: `<out>/nlcd_<year>.tif`.

    Args:
        service, coverage: the Web Coverage Service (1.0.0) and the name of its coverage.
        source: a raster to cut from instead: a path or an http(s) address, with {year} where the
            year stands in it; of a COG on the web, only the place's windows are read.
        dry_run: look only; writes nothing.
        on_progress: called with pixels there and pixels in all.

    Raises:
        InputError: years that are none, a place outside the coverage, a folder of another place.
        FetchError: the service fails, lacks a year, or would resample.
    """
    chosen = checked_years(years, "Annual NLCD", FIRST_YEAR)
    own = client or http.Client()
    try:
        with nullcontext() if dry_run else products.hold("imagery", out):
            folder.check_place(out, place)
            if source is not None:
                sources: list[_Source] = [_File(source, y) for y in chosen]
            else:
                sources = [*_services(own, service, coverage, chosen)]
            return _run(place, chosen, sources, out, dry_run=dry_run, on_progress=on_progress)
    finally:
        if client is None:
            own.close()


def _services(client: http.Client, url: str, name: str, years: Sequence[int]) -> Iterator[_Source]:
    served = wcs.describe(client, url, name)
    missing = [y for y in years if served.times and y not in served.times]
    if missing:
        raise FetchError(
            f"{name} has no {', '.join(map(str, missing))}; its years are "
            f"{min(served.times)} to {max(served.times)}"
        )
    for year in years:
        yield _Service(client, served, served.times.get(year))


class _Service:
    """One year of a coverage."""

    def __init__(self, client: http.Client, coverage: wcs.Coverage, time: str | None) -> None:
        self._client, self._coverage, self._time = client, coverage, time
        self.grid: CodeGrid = coverage
        self.name = f"{redact(coverage.url)} {coverage.name}"

    def read(self, window: Window) -> tuple[NDArray[Any], float | None]:
        with storage.scratch("wcs") as folder:
            path = folder / "piece.tif"
            info = wcs.get(self._client, self._coverage, window, path, self._time)
            if info.count - bool(info.alpha) != 1:
                raise FetchError(
                    f"{self.name} sent {info.count} bands, a picture instead of codes; check "
                    "--coverage, or give --source FILE"
                )
            return read_values(str(path), 0, info.height, 0, info.width), info.nodata


class _File:
    """A raster of codes, here or on the web."""

    def __init__(self, source: str, year: int) -> None:
        try:
            self._uri = source.format(year=year)
        except (KeyError, IndexError, ValueError):
            raise InputError(f"--source {source} is no pattern; write {{year}} in it") from None
        self.name = redact(self._uri)
        info = raster.info(self._uri)
        a, _, left, _, e, top = info.transform
        whole = np.issubdtype(np.dtype(info.dtype), np.integer)
        if not (
            info.crs and info.north_up and a == -e and info.count - bool(info.alpha) == 1 and whole
        ):
            raise InputError(
                f"{self.name} is no raster of codes (one band of whole numbers, square pixels, "
                "north up, with a CRS); give one as the MRLC offers"
            )
        self._nodata = info.nodata
        self.grid = CodeGrid(info.crs, left, top, a, info.width, info.height)

    def read(self, window: Window) -> tuple[NDArray[Any], float | None]:
        return read_values(self._uri, *window), self._nodata


def _window(place: Place, grid: CodeGrid, name: str) -> Window:
    """The rows and columns of a grid that hold a place with its margin: r0, r1, c0, c1."""
    import shapely

    # the edges are straight in degrees, not in the grid's projection
    fine = shapely.segmentize(place.outline, 0.01)
    left, bottom, right, top = reproject(fine, LONLAT, grid.crs).bounds
    if not all(math.isfinite(v) for v in (left, bottom, right, top)):
        raise InputError(f"{place.name} has no place in {grid.crs}, the projection of {name}")
    m, p = MARGIN_M, grid.pixel
    r0, r1 = math.floor((grid.top - top - m) / p), math.ceil((grid.top - bottom + m) / p)
    c0, c1 = math.floor((left - m - grid.left) / p), math.ceil((right + m - grid.left) / p)
    r0, r1, c0, c1 = max(0, r0), min(grid.height, r1), max(0, c0), min(grid.width, c1)
    if r0 >= r1 or c0 >= c1:
        raise InputError(
            f"{place.name} is outside {name}; Annual NLCD covers the conterminous United States "
            "(elsewhere: --source FILE with a raster of NLCD codes)"
        )
    return r0, r1, c0, c1


def _pieces(window: Window) -> list[Window]:
    r0, r1, c0, c1 = window
    return [
        (r, min(r1, r + PIECE), c, min(c1, c + PIECE))
        for r in range(r0, r1, PIECE)
        for c in range(c0, c1, PIECE)
    ]


def _run(
    place: Place,
    years: Sequence[int],
    sources: Sequence[_Source],
    out: str,
    *,
    dry_run: bool,
    on_progress: Callable[[int, int], None] | None,
) -> FetchedCover:
    windows = [_window(place, s.grid, s.name) for s in sources]
    uris = [storage.join(out, f"nlcd_{y}.tif") for y in years]
    records = [
        FileRecord(
            kind="nlcd",
            item=f"Annual NLCD {y}",
            year=y,
            date=str(y),
            gsd=s.grid.pixel,
            crs=s.grid.crs,
            source=s.name,
            href="",
            licence=LICENCE,
            size=None,
            place=place.name,
        )
        for y, s in zip(years, sources, strict=True)
    ]
    height, width = windows[0][1] - windows[0][0], windows[0][3] - windows[0][2]
    answer = FetchedCover(
        out, place, sources[0].name, tuple(years), tuple(uris), 0, (width, height), dry_run
    )
    if dry_run:
        return answer
    folder.sweep(out)
    there = [_is_whole(u, r) for u, r in zip(uris, records, strict=True)]
    count = _Count([_size(w) for w in windows], there, on_progress)
    for uri, source, window, known, whole in zip(
        uris, sources, windows, records, there, strict=True
    ):
        if not whole:
            _write(uri, source, window, known, count)
    folder.write_summary(out, place, "nlcd", {
        "source": sources[0].name,
        "licence": LICENCE,
        "years": {str(y): {"file": storage.basename(u)} for y, u in zip(years, uris, strict=True)},
        "files": {storage.basename(u): storage.read_json(record.sidecar(u)) for u in uris},
    })  # fmt: skip
    return replace(answer, written=there.count(False))


def _size(window: Window) -> int:
    r0, r1, c0, c1 = window
    return (r1 - r0) * (c1 - c0)


class _Count:
    """Counts pixels for `on_progress`."""

    def __init__(
        self,
        sizes: Sequence[int],
        there: Sequence[bool],
        tell: Callable[[int, int], None] | None,
    ) -> None:
        self._done = sum(s for s, t in zip(sizes, there, strict=True) if t)
        self._total, self._tell = sum(sizes), tell
        self.add(0)

    def add(self, pixels: int) -> None:
        self._done += pixels
        if self._tell is not None:
            self._tell(self._done, self._total)


def _is_whole(uri: str, known: FileRecord) -> bool:
    """Whether a year's file exists, from the same source and of the size in its record."""
    beside = record.sidecar(uri)
    if not (storage.exists(uri) and storage.exists(beside)):
        return False
    known_file = storage.read_json(beside)
    return bool(
        isinstance(known_file, dict)
        and {**known_file, "size": None} == known.to_dict()
        and known_file.get("size") == storage.size(uri)
    )


def _write(uri: str, source: _Source, window: Window, known: FileRecord, count: _Count) -> None:
    r0, r1, c0, c1 = window
    grid = source.grid
    pieces = _pieces(window)
    first, nodata = source.read(pieces[0])
    transform = (
        grid.pixel, 0.0, grid.left + c0 * grid.pixel, 0.0, -grid.pixel, grid.top - r0 * grid.pixel
    )  # fmt: skip
    with raster.create_geotiff(
        uri, width=c1 - c0, height=r1 - r0, count=1, crs=grid.crs, transform=transform,
        dtype=str(first.dtype), nodata=nodata, tags={"QUADRAT_SOURCE": source.name},
    ) as canvas:  # fmt: skip
        for n, piece in enumerate(pieces):
            values = first if n == 0 else source.read(piece)[0]
            _check_codes(values, nodata, source.name)
            canvas.write_window(piece[0] - r0, piece[2] - c0, values[None])
            count.add(values.size)
    verify(uri)
    # a raster without its record is fetched again, so the record comes last
    record.write_record(uri, replace(known, size=storage.size(uri)))


def _check_codes(values: NDArray[Any], nodata: float | None, name: str) -> None:
    codes = np.unique(values)
    odd = [int(v) for v in codes if v not in CODES and v != nodata]
    if odd:
        listed = ", ".join(map(str, odd[:5])) + (", ..." if len(odd) > 5 else "")
        raise FetchError(
            f"{name} holds {listed}, which are no NLCD codes; it was resampled or is another "
            "product: give --source FILE with the land cover itself"
        )
