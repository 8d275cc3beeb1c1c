"""Where a file's pixels land: turned and mirrored files, other zones, and how sharp they stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.warp import transform
from scipy.ndimage import gaussian_filter, map_coordinates

from conftest import Writer, scene
from quadrat import raster
from quadrat.grid import TileRange

LEFT, TOP = 560000.0, 4105024.0  # upper left of tile (-73304, 10000) of 56 m
BLOCK = TileRange(-73304, -73302, 10000, 10003)
ZONE = "EPSG:32617"


def natural(height: int, width: int) -> np.ndarray:
    """Detail at every pixel, as imagery has it, (3, H, W) uint8."""
    noise = np.random.default_rng(0).normal(size=(3, height, width))
    smooth = np.stack([gaussian_filter(n, 0.8) for n in noise])
    return (smooth / smooth.std() * 40 + 128).clip(0, 255).astype(np.uint8)


def opened(file: str, **options: Any) -> raster.Imagery:
    return raster.open_imagery([file], tile_m=56, **options)


def turned(pixels: np.ndarray, quarters: int, mirrored: bool, p: float) -> tuple:
    """A north-up picture with its upper left at (LEFT, TOP), kept turned; and its geotransform."""
    height, width = pixels.shape[1:]
    to_ground = Affine(p, 0, LEFT, 0, -p, TOP)
    for _ in range(quarters):  # np.rot90: new (r, c) holds old (c, W - 1 - r)
        pixels = np.rot90(pixels, axes=(1, 2))
        to_ground = to_ground @ Affine(0, -1, width, 1, 0, 0)
        height, width = width, height
    if mirrored:
        pixels = pixels[:, :, ::-1]
        to_ground = to_ground @ Affine(-1, 0, width, 0, 1, 0)
    return np.ascontiguousarray(pixels), to_ground


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
@pytest.mark.parametrize("bands", [(1, 2, 3), (2, 2, 2)])
def test_a_turned_or_mirrored_copy_gives_the_same_pixels(
    write_raster: Writer, quarters: int, mirrored: bool, bands: tuple[int, int, int]
) -> None:
    whole = scene(120, 175)
    whole[:, 60:, :50] = 0
    pixels, to_ground = turned(whole, quarters, mirrored, 1.0)
    file = write_raster("t.tif", pixels, transform=to_ground, nodata=0, tiled=True)
    imagery = opened(file, bands=bands)
    assert imagery.areas[0] == (LEFT, TOP - 120, LEFT + 175, TOP)
    got, valid = raster.read_block(imagery, BLOCK)
    wanted = whole[[b - 1 for b in bands], :112, :168]
    assert np.array_equal(got, wanted)
    assert valid is not None and np.array_equal(valid, (wanted != 0).any(0))


def test_a_turn_reckoned_with_sines_is_a_quarter_turn_all_the_same(write_raster: Writer) -> None:
    whole = scene(120, 175)
    to_ground = (
        Affine.translation(LEFT, TOP - 120) @ Affine.rotation(90) @ Affine(1, 0, 0, 0, -1, 0)
    )
    off = Affine(6e-17, to_ground.b, to_ground.c, to_ground.d, -6e-17, to_ground.f)
    file = write_raster("t.tif", np.rot90(whole, -1, axes=(1, 2)), transform=off)
    got, valid = raster.read_block(opened(file), BLOCK)
    assert valid is None and np.array_equal(got, whole[:, :112, :168])


def bilinear(
    pixels: np.ndarray, to_ground: Affine, crs: str, imagery: raster.Imagery
) -> np.ndarray:
    """BLOCK by scipy: bilinear between the file's pixels, whatever their size."""
    (xs, ys), shape = ground(imagery, 1)
    xs, ys = transform(imagery.grid.crs, crs, xs.ravel(), ys.ravel())
    cols, rows = ~to_ground @ (np.array(xs), np.array(ys))
    at = [(rows - 0.5).reshape(shape), (cols - 0.5).reshape(shape)]
    return np.stack([map_coordinates(b.astype(float), at, order=1) for b in pixels])


def ground(imagery: raster.Imagery, k: int) -> tuple:
    """x and y of the centres of BLOCK's pixels, or of k x k parts of each."""
    left, bottom, right, top = imagery.grid.range_bounds(BLOCK)
    p = imagery.grid.pixel_m / k
    x, y = np.arange(left + p / 2, right, p), np.arange(top - p / 2, bottom, -p)
    grid = np.meshgrid(x, y)
    return grid, grid[0].shape


def steepness(pixels: np.ndarray, axis: int) -> float:
    return float(np.abs(np.diff(pixels.astype(float), axis=axis)).mean())


@pytest.mark.parametrize(
    ("crs", "pixel", "turn"),
    [
        ("EPSG:26916", 1.0, 0.0),  # the next zone: converges by 3.4 degrees
        (ZONE, 1.0, 3.0),
        (ZONE, 1.0, 30.0),
        (ZONE, 1.0, 45.0),
        (ZONE, 1.0, 91.0),
        (ZONE, 1.7, 20.0),
        ("EPSG:2284", 3.3, 0.0),  # feet
    ],
)
def test_warped_pixels_are_as_sharp_as_bilinear_ones(
    write_raster: Writer, crs: str, pixel: float, turn: float
) -> None:
    pixels = natural(400, 400)
    (x,), (y,) = transform(ZONE, crs, [LEFT + 84], [TOP - 56])
    to_ground = (
        Affine.translation(x, y)
        @ Affine.rotation(turn)
        @ Affine(pixel, 0, -200 * pixel, 0, -pixel, 200 * pixel)
    )
    file = write_raster("a.tif", pixels, crs=crs, transform=to_ground)
    imagery = opened(file, crs=ZONE)
    got, valid = raster.read_block(imagery, BLOCK)
    wanted = bilinear(pixels, to_ground, crs, imagery)
    assert valid is None
    assert np.abs(got - wanted).mean() < 0.3  # rounding to whole numbers makes 0.25
    for axis in (1, 2):
        assert steepness(got, axis) == pytest.approx(steepness(wanted, axis), rel=0.005)
    # and a pixel does not depend on the window that it is read with
    one = TileRange(BLOCK.r0 + 1, BLOCK.r1, BLOCK.c0 + 1, BLOCK.c0 + 2)
    alone, _ = raster.read_block(imagery, one)
    assert np.abs(alone.astype(int) - got[:, 56:, 56:112]).max() <= 1


def test_a_county_in_two_zones_is_as_sharp_in_one_as_in_the_other(write_raster: Writer) -> None:
    sharp = {}
    for zone in ("EPSG:26917", "EPSG:26918"):
        (x,), (y,) = transform(ZONE, zone, [LEFT + 84], [TOP - 56])
        # half a pixel off the lattice at least, so that both are interpolated
        place = Affine(1, 0, round(x) - 199.5, 0, -1, round(y) + 200.5)
        file = write_raster(f"{zone[-2:]}.tif", natural(400, 400), crs=zone, transform=place)
        imagery = opened(file, crs=ZONE)
        got, _ = raster.read_block(imagery, BLOCK)
        wanted = bilinear(natural(400, 400), place, zone, imagery)
        sharp[zone] = [steepness(got, a) / steepness(wanted, a) for a in (1, 2)]
    assert np.array(list(sharp.values())) == pytest.approx(1.0, abs=0.005)


@pytest.mark.parametrize(("pixel", "turn"), [(0.6, 2.0), (0.5, 45.0), (0.3, 30.0), (0.07, 45.0)])
def test_finer_pixels_of_a_turned_file_are_averaged_over_the_ground(
    write_raster: Writer, pixel: float, turn: float
) -> None:
    n = round(150 / pixel)
    pixels = (
        natural(n, n) if pixel > 0.1 else np.kron(natural(n // 5, n // 5), np.ones((5, 5), "u1"))
    )
    n = pixels.shape[1]
    half = n * pixel / 2
    to_ground = (
        Affine.translation(LEFT + 84, TOP - 56)
        @ Affine.rotation(turn)
        @ Affine(pixel, 0, -half, 0, -pixel, half)
    )
    file = write_raster("fine.tif", pixels, crs=ZONE, transform=to_ground)
    imagery = opened(file, crs=ZONE)
    got, valid = raster.read_block(imagery, BLOCK)
    k = 12
    (xs, ys), shape = ground(imagery, k)
    cols, rows = (np.floor(v).astype(int) for v in ~to_ground @ (xs.ravel(), ys.ravel()))
    inside = (cols >= 0) & (cols < n) & (rows >= 0) & (rows < n)
    found = np.where(inside, pixels[:, rows.clip(0, n - 1), cols.clip(0, n - 1)], 0)
    cells = (3, shape[0] // k, k, shape[1] // k, k)
    wanted = found.reshape(cells).mean((2, 4))
    whole = inside.reshape(cells[1:]).all((1, 3))
    assert valid is not None and valid[whole].all()
    assert valid.mean() == pytest.approx(inside.mean(), abs=0.02)
    off = np.abs(got - wanted)[:, whole]
    assert off.mean() < 1.8
    box = slice(20, 92), slice(40, 128)  # well inside
    for axis in (1, 2):
        ratio = steepness(got[:, *box], axis) / steepness(wanted[:, *box], axis)
        assert ratio == pytest.approx(1.0, abs=0.035)


def test_a_file_replaced_under_its_name_is_read_anew(write_raster: Writer, tmp_path: Path) -> None:
    file, vrt = str(tmp_path / "a.tif"), str(tmp_path / "a.vrt")
    for value in (10, 200):
        write_raster("a.tif", np.full((3, 56, 56), value, np.uint8))
        if value == 10:
            with rasterio.open(file) as data:
                rasterio.shutil.copy(data, vrt, driver="VRT")
        for name in (file, vrt):
            imagery = opened(name)
            pixels, _ = raster.read_block(imagery, TileRange(-73304, -73303, 10000, 10001))
            assert (pixels == value).all()
