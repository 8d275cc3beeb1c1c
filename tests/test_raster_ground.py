"""Hectares are of the ground, and grids in any CRS of the Earth work or say why not."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform

from conftest import Writer, scene
from geodesy import geodesic
from quadrat import raster
from quadrat.errors import GridError, RasterError
from quadrat.grid import Grid, TileId, TileRange
from quadrat.raster.ground import area_ratio
from quadrat.tiles import open_rasters, source_warnings, tile

BLOCK = TileRange(-18326, -18325, 2500, 2501)


PLACES = [
    ("EPSG:26917", -79.0, 38.0),
    ("EPSG:26917", -84.4, 33.0),  # at the zone's edge and beyond
    ("EPSG:32601", 179.99, 66.0),  # across the antimeridian
    ("EPSG:26717", -79.0, 38.0),  # another ellipsoid
    ("EPSG:32756", 151.2, -33.9),
    ("EPSG:3857", -79.0, 38.0),
    ("EPSG:5070", -79.0, 38.0),
    ("EPSG:3035", 24.0, 62.0),
    ("EPSG:3347", -110.0, 60.0),
    ("EPSG:3031", 10.0, -75.0),
    ("ESRI:102008", -100.0, 50.0),
    ("+proj=laea +lat_0=38 +lon_0=-79 +units=m +datum=WGS84", -79.3, 38.2),
]  # fmt: skip


@pytest.mark.parametrize("tile_m", [56.0, 224.0, 9000.0])
@pytest.mark.parametrize(("crs", "lon", "lat"), PLACES)
def test_a_tiles_hectares_are_those_of_its_geodesic_outline(
    crs: str, lon: float, lat: float, tile_m: float
) -> None:
    (x,), (y,) = transform("EPSG:4326", crs, [lon], [lat])
    grid = Grid(crs, tile_m, tile_m)
    first = grid.tile_at(x, y)
    tiles = [TileId(first.row + i, first.col + 3 * i) for i in (0, 7, 40 if tile_m < 1000 else 9)]
    got = raster.tile_hectares(grid, *(np.array(v) for v in zip(*tiles, strict=True)))
    wanted = [geodesic(grid, t) for t in tiles]
    assert got == pytest.approx(wanted, rel=3e-7 if tile_m < 1000 else 1e-5)


def test_web_mercator_covers_the_squared_cosine_of_its_sides() -> None:
    lat = np.array([0.0, 38.0, 60.0])
    x, y = transform("EPSG:4326", "EPSG:3857", [-79.0] * 3, lat)
    e2, phi = 0.0066943799901413165, np.radians(lat)
    # spherical formulas on an ellipsoid: the radii of curvature over the sphere's
    wanted = np.cos(phi) ** 2 * (1 - e2) / (1 - e2 * np.sin(phi) ** 2) ** 2
    assert area_ratio("EPSG:3857", np.array(x), np.array(y)) == pytest.approx(wanted, rel=1e-9)


def at(crs: str, lon: float, lat: float) -> dict:
    (x,), (y,) = transform("EPSG:4326", crs, [lon], [lat])
    return {"crs": crs, "left": round(x / 56) * 56.0, "top": round(y / 56) * 56.0}


def test_web_mercator_is_refused_with_the_cure(write_raster: Writer) -> None:
    file = write_raster("m.tif", scene(112, 112), **at("EPSG:3857", -81.6, 38.0))
    with pytest.raises(
        GridError, match=r"covers 0\.194 ha.*not 0\.314.*--crs EPSG:26917"
    ) as caught:
        raster.open_imagery([file], tile_m=56)
    assert "\n" not in str(caught.value)
    assert raster.open_imagery([file], tile_m=56, crs="EPSG:26917").grid.crs == "EPSG:26917"
    near = write_raster("e.tif", scene(112, 112), **at("EPSG:3857", -79.0, 0.5))
    assert source_warnings(open_rasters([near], tile_m=56)) == ()


def test_a_grid_over_one_per_cent_off_is_warned_of(write_raster: Writer, tmp_path: object) -> None:
    file = write_raster("w.tif", scene(112, 112), **at("EPSG:26917", -72.5, 34.0))
    made = tile([file], f"{tmp_path}/tiles", tile_m=56, split=None)
    (said,) = made.info["warnings"]
    assert "--crs EPSG:26918" in said and "hectares are of the ground" in said
    wide = [
        write_raster(f"{i}.tif", scene(112, 112), **at("EPSG:26914", lon, 32.0))
        for i, lon in enumerate((-106.6, -93.6))
    ]
    (said,) = source_warnings(open_rasters(wide, tile_m=56))
    assert "--crs EPSG:5070" in said


def wkt(code: int, **kw: str) -> str:
    return CRS.from_epsg(code).to_wkt(**kw)


LIKE_26917 = {
    "compound": "EPSG:26917+5703",
    "an ESRI text": wkt(26917, version="WKT1_ESRI"),
    "no code": wkt(26917).replace(',AUTHORITY["EPSG","26917"]', ""),
}


@pytest.mark.parametrize("named", LIKE_26917)
def test_other_spellings_of_a_crs_are_read_as_it(write_raster: Writer, named: str) -> None:
    file = write_raster("a.tif", scene(224, 224), crs=LIKE_26917[named])
    imagery = raster.open_imagery([file])
    assert imagery.grid.crs == "EPSG:26917"
    pixels, valid = raster.read_block(imagery, BLOCK)
    assert valid is None and np.array_equal(pixels, scene(224, 224))


@pytest.mark.parametrize(
    "crs",
    [
        "ESRI:102008",
        "+proj=aea +lat_0=36.5 +lon_0=-80.5 +lat_1=36 +lat_2=39 +datum=NAD83 +units=m",
        "+proj=utm +zone=17 +ellps=intl +units=m",
    ],
)
def test_a_crs_without_a_code_of_epsg_has_a_grid_of_its_own(write_raster: Writer, crs: str) -> None:
    (x,), (y,) = transform("EPSG:4326", crs, [-80.0], [37.0])
    left, top = round(x / 224) * 224.0, round(y / 224) * 224.0
    file = write_raster("a.tif", scene(224, 224), crs=crs, left=left, top=top)
    imagery = raster.open_imagery([file])
    assert not imagery.grid.crs.startswith("EPSG:")
    tile_id = imagery.grid.tile_at(left + 1, top - 1)
    box = TileRange(tile_id.row, tile_id.row + 1, tile_id.col, tile_id.col + 1)
    pixels, valid = raster.read_block(imagery, box)
    assert valid is None and np.array_equal(pixels, scene(224, 224))
    got = raster.tile_hectares(imagery.grid, np.array([box.r0]), np.array([box.c0]))
    assert got == pytest.approx([5.0176], rel=0.004)


def test_a_compound_crs_with_a_code_of_its_own_is_its_horizontal_part() -> None:
    assert raster.normalise_crs("EPSG:7405") == "EPSG:27700"


def test_an_unknown_datum_is_not_taken_for_a_known_one() -> None:
    unknown = raster.normalise_crs("+proj=utm +zone=17 +ellps=intl +units=m")
    x, y = raster.transform_points(unknown, "EPSG:32617", [5e5], [4.1e6])
    assert abs(x[0] - 5e5) < 1 and abs(y[0] - 4.1e6) < 200  # by the ellipsoid alone, no shift


@pytest.mark.parametrize(
    ("crs", "says"),
    [
        ("EPSG:2284", "units of 0.3048 m.*--crs EPSG:26917"),
        ("EPSG:2284+6360", "units of 0.3048 m.*--crs EPSG:26917"),
        ("+proj=utm +zone=17 +datum=NAD83 +units=km", "units of 1000"),
        ('LOCAL_CS["plan",UNIT["metre",1]]', "neither projected.*-a_srs"),
        ("EPSG:4978", "neither projected"),
        ("ESRI:103881", "no point of the CRS ESRI:103881 goes to EPSG:4326"),
    ],
)
def test_a_crs_that_no_grid_can_have_is_refused_in_one_line(
    write_raster: Writer, crs: str, says: str
) -> None:
    place = (
        Affine(1, 0, 11_600_000, 0, -1, 3_500_000)
        if "2284" in crs
        else Affine(1, 0, 5e5, 0, -1, 4e6)
    )
    if "km" in crs:
        place = Affine(0.001, 0, 500, 0, -0.001, 4000)
    file = write_raster("a.tif", scene(64, 64), crs=crs, transform=place)
    with pytest.raises((GridError, RasterError), match=says) as caught:
        raster.open_imagery([file])
    assert "\n" not in str(caught.value)
