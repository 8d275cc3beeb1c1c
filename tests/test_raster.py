"""Imagery on the grid: where every pixel lands, mosaics, nodata, resampling."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rasterio.warp import reproject

from conftest import Writer, scene
from quadrat import raster
from quadrat.errors import GridError, RasterError
from quadrat.grid import Bounds, Grid, TileRange

# tile (-18326, 2500) has its upper left corner at x = 560000, y = 4105024
ORIGIN = TileRange(-18326, -18325, 2500, 2501)


def test_an_aligned_file_is_read_pixel_for_pixel(write_raster: Writer) -> None:
    file = write_raster("a.tif", scene(448, 672), tiled=True, compress="deflate")
    imagery = raster.open_imagery([file])
    pixels, valid = raster.read_block(imagery, TileRange(-18326, -18324, 2500, 2503))
    assert valid is None
    assert np.array_equal(pixels, scene(448, 672))


def test_a_file_off_by_some_pixels_gives_the_same_ground(write_raster: Writer) -> None:
    whole = write_raster("a.tif", scene(460, 460))
    moved = write_raster("b.tif", scene(450, 450, 7, 3), left=560003.0, top=4105017.0)
    inner = TileRange(-18325, -18324, 2501, 2502)
    blocks = [raster.read_block(raster.open_imagery([f]), inner) for f in (whole, moved)]
    assert np.array_equal(blocks[0][0], blocks[1][0])
    assert np.array_equal(blocks[0][0], scene(224, 224, 224, 224))


def test_files_that_meet_are_one_and_the_first_wins(write_raster: Writer) -> None:
    whole = scene(224, 224)
    left = write_raster("l.tif", whole[:, :, :130])
    right = write_raster("r.tif", np.full((3, 224, 124), 9, np.uint8), left=560100.0)
    pixels, valid = raster.read_block(raster.open_imagery([left, right]), ORIGIN)
    assert valid is None
    assert np.array_equal(pixels[:, :, :130], whole[:, :, :130])
    assert (pixels[:, :, 130:] == 9).all()


@pytest.mark.parametrize("how", ["file", "option", "mask", "alpha"])
def test_nodata_is_found_however_it_is_said(write_raster: Writer, how: str) -> None:
    pixels = scene(224, 224) // 2 + 1
    pixels[:, :56] = 0
    if how == "alpha":
        alpha = np.where(np.arange(224)[:, None] < 56, 0, 255) * np.ones((1, 224))
        pixels = np.concatenate([pixels, alpha[None].astype(np.uint8)])
        file = write_raster("a.tif", pixels, photometric="RGB", alpha="YES")
    else:
        file = write_raster("a.tif", pixels, **({"nodata": 0} if how == "file" else {}))
    if how == "mask":
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(file, "r+") as data:
            data.write_mask(np.arange(224)[:, None] * np.ones((1, 224)) >= 56)
    imagery = raster.open_imagery([file], nodata=0.0 if how == "option" else None)
    _, valid = raster.read_block(imagery, ORIGIN)
    assert valid is not None
    assert not valid[:56].any() and valid[56:].all()


def test_near_infrared_that_calls_itself_alpha_is_no_mask(write_raster: Writer) -> None:
    pixels = np.concatenate([scene(224, 224), scene(224, 224)[:1] // 3])
    file = write_raster("a.tif", pixels, photometric="RGB", alpha="YES")
    _, valid = raster.read_block(raster.open_imagery([file]), ORIGIN)
    assert valid is None
    _, warped = raster.read_block(raster.open_imagery([file], pixel_m=2.0), ORIGIN)
    assert warped is None or warped.mean() > 0.98


def test_finer_pixels_are_averaged_over_the_ground(write_raster: Writer) -> None:
    rng = np.random.default_rng(0)
    fine = rng.integers(0, 256, (3, 448, 448)).astype(np.uint8)
    file = write_raster("fine.tif", fine, pixel=0.5)
    pixels, _ = raster.read_block(raster.open_imagery([file], pixel_m=1.0), ORIGIN)
    mean = fine.reshape(3, 224, 2, 224, 2).mean(axis=(2, 4))
    assert np.abs(pixels - mean).max() <= 1


@pytest.mark.parametrize("kernel", ["bilinear", "cubic"])
def test_another_crs_is_warped_as_gdal_warps_it(write_raster: Writer, kernel: str) -> None:
    smooth = np.stack([np.add.outer(np.arange(900) * k, np.arange(900)) // 12 for k in (1, 2, 0)])
    file = write_raster("a.tif", smooth.astype(np.uint8))
    imagery = raster.open_imagery([file], crs="EPSG:32618", resampling=kernel)
    area = imagery.grid.covering(imagery.areas[0])
    inner = TileRange(area.r0 + 1, area.r0 + 3, area.c0 + 1, area.c0 + 3)
    pixels, valid = raster.read_block(imagery, inner)
    left, _, _, top = imagery.grid.range_bounds(inner)
    expected = np.zeros_like(pixels)
    with rasterio.open(file) as data:
        reproject(
            rasterio.band(data, (1, 2, 3)), expected, dst_crs="EPSG:32618",
            dst_transform=Affine(1, 0, left, 0, -1, top), resampling=Resampling[kernel],
        )  # fmt: skip
    assert valid is None or valid.all()
    off = np.abs(pixels.astype(int) - expected)
    assert (off <= 1).mean() > 0.999


def test_16_bit_imagery_is_stretched_as_asked(write_raster: Writer) -> None:
    values = (scene(224, 224).astype(np.uint16) + 100) * 10
    file = write_raster("a.tif", values)
    imagery = raster.open_imagery([file], stretch=(1000, 3550))
    pixels, _ = raster.read_block(imagery, ORIGIN)
    assert np.array_equal(pixels, scene(224, 224))


@pytest.mark.parametrize(
    ("make", "options", "says"),
    [
        ({"crs": None}, {}, "no CRS.*gdal_edit"),
        ({"crs": "EPSG:4326", "left": -79.0, "top": 37.0, "pixel": 1e-5}, {}, "--crs EPSG:26917"),
        ({"crs": "EPSG:2284"}, {}, "units of 0.3048"),
        ({"bands": 1}, {}, "--bands"),
        ({"dtype": "uint16"}, {}, "--stretch"),
        ({}, {"bands": (1, 2, 9)}, "has 3 bands"),
        ({}, {"stretch": (9.0, 2.0)}, "smaller"),
        ({}, {"crs": "EPSG:99999999"}, "no CRS"),
        ({}, {"resampling": "magic"}, "bilinear"),
    ],
)
def test_imagery_that_cannot_be_used_is_refused_with_the_cure(
    write_raster: Writer, make: dict, options: dict, says: str
) -> None:
    make = dict(make)
    pixels = scene(64, 64)[: make.pop("bands", 3)].astype(make.pop("dtype", "uint8"))
    file = write_raster("bad.tif", pixels, **make)
    with pytest.raises((RasterError, GridError), match=says) as caught:
        raster.open_imagery([file], **options)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_text_file_are_no_rasters(tmp_path: Path) -> None:
    with pytest.raises(RasterError, match="does not exist"):
        raster.open_imagery([str(tmp_path / "no.tif")])
    (tmp_path / "a.tif").write_text("not a raster")
    with pytest.raises(RasterError, match="cannot be opened as a raster"):
        raster.open_imagery([str(tmp_path / "a.tif")])


def test_a_cog_has_its_colours_place_and_nodata(tmp_path: Path) -> None:
    from quadrat.raster import write_cog

    values = (np.arange(12).reshape(1, 3, 4) % 3).astype(np.uint8)
    colours = {0: (1, 2, 3, 255), 1: (4, 5, 6, 255)}
    where = (224.0, 0.0, 560000.0, 0.0, -224.0, 4105024.0)
    write_cog(str(tmp_path / "m.tif"), values, "EPSG:26917", where, nodata=255, colormap=colours)
    with rasterio.open(tmp_path / "m.tif") as data:
        assert np.array_equal(data.read(), values)
        assert data.crs.to_epsg() == 26917 and data.nodata == 255
        assert data.colormap(1)[1] == (4, 5, 6, 255)
        assert tuple(data.transform)[:6] == where
        assert data.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_ten_dates_of_one_quarter_quad_lie_on_one_grid(real_data: Path) -> None:
    files = sorted((real_data / "naip-nd").glob("*.tif"))
    assert len(files) == 10
    means = []
    for file in files:
        imagery = raster.open_imagery([str(file)], tile_m=1120, pixel_m=5)
        inner = TileRange(-4650, -4648, 435, 437)
        pixels, valid = raster.read_block(imagery, inner)
        assert valid is None or valid.mean() > 0.99
        means.append(pixels.mean(axis=0).astype(float))
    # fields and roads of two years correlate on the same ground, and not a few pixels beside it
    same = np.corrcoef(means[-1].ravel(), means[-2].ravel())[0, 1]
    moved = np.corrcoef(means[-1].ravel(), np.roll(means[-2], (9, 9), (0, 1)).ravel())[0, 1]
    assert same > moved + 0.05


def test_points_without_a_place_in_a_crs_are_said() -> None:
    with pytest.raises(GridError, match="no point of the CRS EPSG:4326 goes to EPSG:26917"):
        raster.transform_points("EPSG:4326", "EPSG:26917", [448_000.0], [4_300_688.0])


def test_utm_zones_are_suggested_for_america_and_elsewhere() -> None:
    assert raster.suggest_crs(Bounds(-79.1, 37.0, -79.0, 37.1), "EPSG:4326") == "EPSG:26917"
    assert raster.suggest_crs(Bounds(8.0, 47.0, 8.1, 47.1), "EPSG:4326") == "EPSG:32632"
    assert raster.suggest_crs(Bounds(151.0, -34.0, 151.1, -33.9), "EPSG:4326") == "EPSG:32756"


def test_grid_of_the_first_file_is_used(write_raster: Writer) -> None:
    assert raster.open_imagery([write_raster("a.tif", scene(64, 64))]).grid == Grid("EPSG:26917")
