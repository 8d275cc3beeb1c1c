"""Places: a county or state by name, a rectangle, or a polygon file, as an outline.

Outlines of counties and states are the Census Bureau's cartographic boundary files (1:500,000,
public domain), fetched once and cached. An outline is kept as GeoJSON in longitude and latitude. It
does not know imagery.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from quadrat import raster, storage, vectors
from quadrat.errors import FetchError, InputError
from quadrat.fetching import http
from quadrat.fetching.names import choose_county, choose_state, split_name
from quadrat.grid import Bounds

BOUNDARIES = "https://www2.census.gov/geo/tiger/GENZ{year}/shp/cb_{year}_us_{kind}_500k.zip"
BOUNDARY_YEAR = 2023
LONLAT = "EPSG:4326"


@dataclass(frozen=True)
class Place:
    """A place on the ground.

    Attributes:
        name: what it is called in records ("Middlesex County, Massachusetts").
        outline: shapely polygon or multipolygon, longitude and latitude (EPSG:4326).
        source: where the outline comes from.
    """

    name: str
    outline: Any
    source: str

    @property
    def bounds(self) -> Bounds:
        """Longitude and latitude: west, south, east, north."""
        return Bounds(*self.outline.bounds)

    @cached_property
    def metric_crs(self) -> str:
        """An equal-area projection in metres around the place (Lambert azimuthal)."""
        b = self.bounds
        lon, lat = (b.left + b.right) / 2, (b.bottom + b.top) / 2
        return f"+proj=laea +lat_0={lat:.4f} +lon_0={lon:.4f} +datum=WGS84 +units=m +no_defs"

    def metric(self, geometry: Any) -> Any:
        """A geometry in longitude and latitude, in `metric_crs`."""
        return reproject(geometry, LONLAT, self.metric_crs)

    @cached_property
    def area_km2(self) -> float:
        """Its area."""
        return float(self.metric(self.outline).area / 1e6)

    def to_geojson(self) -> dict[str, Any]:
        """A GeoJSON feature collection of one feature."""
        return {
            "type": "FeatureCollection",
            "features": [
                {
                    "type": "Feature",
                    "properties": {
                        "name": self.name,
                        "source": self.source,
                        "area_km2": round(self.area_km2, 3),
                    },
                    "geometry": _rounded(self.outline).__geo_interface__,
                }
            ],
        }


def find_place(
    *,
    county: str | None = None,
    state: str | None = None,
    bbox: Sequence[float] | None = None,
    polygon: str | None = None,
    boundaries: str | None = None,
    boundary_year: int = BOUNDARY_YEAR,
    client: http.Client | None = None,
) -> Place:
    """The place that one of `county`, `state`, `bbox` and `polygon` names.

    Args:
        county: "Middlesex, MA", "Middlesex County, Massachusetts", or a five-digit GEOID.
        state: "MA", "Massachusetts", or a two-digit FIPS code.
        bbox: west, south, east, north, in degrees.
        polygon: a vector file (GeoPackage, GeoJSON, shapefile, GeoParquet); all its polygons.
        boundaries: address or path of the Census files, with {year} and {kind}; the Bureau's own
            by default.
        boundary_year: the files' vintage. Connecticut's counties are planning regions since 2022.
        client: sends the requests; one of its own when None.

    Raises:
        InputError: none or several of them, a name that is unknown or ambiguous (listed), a file
            without polygons or CRS.
        FetchError: the boundaries cannot be had.
    """
    given = {"county": county, "state": state, "bbox": bbox, "polygon": polygon}
    named = [k for k, v in given.items() if v is not None]
    if len(named) != 1:
        said = " and ".join(f"--{k}" for k in named) or "no place"
        raise InputError(f"{said} given; give one of --county, --state, --bbox, --polygon")
    if bbox is not None:
        return _rectangle(bbox)
    if polygon is not None:
        file, layer = vectors.split(polygon)
        return Place(layer or Path(storage.basename(file)).stem, read_outline(polygon), polygon)
    address = boundaries or BOUNDARIES
    if county is not None:
        table = _census(address, "county", boundary_year, client)
        row = choose_county(split_name(county), table.rows, boundary_year)
        name = f"{row.full_name}, {row.state_name}"
    else:
        table = _census(address, "state", boundary_year, client)
        row = choose_state(str(state), table.rows)
        name = row.full_name
    outline = table.outline(row.number)
    return Place(name, outline, f"{table.source} GEOID {row.geoid}")


def _rectangle(bbox: Sequence[float]) -> Place:
    from shapely.geometry import box

    if len(bbox) != 4:
        raise InputError(f"--bbox has {len(bbox)} numbers; give west south east north in degrees")
    west, south, east, north = (float(v) for v in bbox)
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise InputError(
            f"--bbox {west:g} {south:g} {east:g} {north:g} is no rectangle; give west south east "
            "north in degrees (west and south first; negative in the Americas)"
        )
    name = f"{west:g} {south:g} {east:g} {north:g}"
    return Place(name, box(west, south, east, north), "--bbox")


@dataclass(frozen=True)
class _Table:
    source: str
    rows: tuple[Any, ...]
    outline: Callable[[int], Any]


def _census(address: str, kind: str, year: int, client: http.Client | None) -> _Table:
    """The rows of a boundary file, and a function that reads one row's outline."""
    from quadrat.fetching.names import Row

    try:
        where = address.format(year=year, kind=kind)
    except (KeyError, IndexError, ValueError):
        raise InputError(
            f"--boundaries {address} is no pattern; write {{year}} and {{kind}}"
        ) from None
    path = str(_cached(where, client)) if re.match(r"https?://", where) else where
    table = vectors.read(path, None)
    missing = {"STATEFP", "NAME", "GEOID"} - set(table.columns)
    if missing:
        raise FetchError(
            f"{storage.basename(where)} lacks {', '.join(sorted(missing))}; "
            "it is no Census boundary file"
        )
    named = table.columns
    full = named.get("NAMELSAD", named["NAME"])
    rows = tuple(
        Row(i, str(g), str(s), str(n), str(f))
        for i, (g, s, n, f) in enumerate(
            zip(named["GEOID"], named["STATEFP"], named["NAME"], full, strict=True)
        )
    )

    def outline(number: int) -> Any:
        # NAD83 and WGS 84 differ by a metre or two; the outline is generalised by far more
        return _whole(replace(table, shapes=table.shapes[[number]], columns={}, crs=LONLAT))

    return _Table(Path(storage.basename(where)).stem, rows, outline)


def _cached(url: str, client: http.Client | None) -> Path:
    from quadrat.fetching.download import Wanted, download_one

    # by address, so that another source of the same name is not taken for this one
    name = f"{storage.digest_bytes(url.encode())[:8]}-{storage.basename(url)}"
    path = storage.cache_dir() / "boundaries" / name
    if path.exists():
        return path
    storage.make_dirs(str(path.parent))

    def whole(part: Path) -> None:
        vectors.fields(str(part))

    own = client or http.Client()
    try:
        with storage.lock(str(path.parent)):
            if not path.exists():
                download_one(own, Wanted(url, path, check=whole))
    finally:
        if client is None:
            own.close()
    return path


def read_outline(uri: str) -> Any:
    """All polygons of a vector file as one shapely geometry in longitude and latitude.

    Raises:
        InputError: the file is missing, no vector file, without polygons or without a CRS.
    """
    return _whole(vectors.read(uri))


def _whole(features: vectors.VectorLayer) -> Any:
    import shapely

    shapes, _ = vectors.polygons(features, LONLAT)
    return shapely.union_all(shapes)


def reproject(geometry: Any, src: str, dst: str) -> Any:
    """A shapely geometry from one CRS to another, vertex by vertex."""
    import numpy as np
    import shapely

    if src == dst:
        return geometry

    def move(points: Any) -> Any:
        x, y = raster.transform_points(src, dst, points[:, 0], points[:, 1])
        return np.column_stack([x, y])

    return shapely.transform(geometry, move)


def write_outline(uri: str, place: Place) -> None:
    """Write a place's outline as GeoJSON, in one step."""
    storage.write_bytes(uri, (json.dumps(place.to_geojson()) + "\n").encode())


def _rounded(geometry: Any) -> Any:
    import numpy as np
    import shapely

    # 1e-7 of a degree is a centimetre
    return shapely.transform(geometry, lambda p: np.round(p, 7))
