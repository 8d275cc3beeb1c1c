"""Missing pixels never become valid black, however a file tells them, on the grid and warped."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from conftest import Writer, scene
from quadrat import raster
from quadrat.errors import RasterError
from quadrat.grid import TileRange

ORIGIN = TileRange(-18326, -18325, 2500, 2501)
SIZE = 224
WEST = np.broadcast_to(np.arange(SIZE) < 70, (SIZE, SIZE))  # what is missing


def read(file: str, **options: Any) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Pixels and what is valid of the tile that the file covers."""
    pixels, valid = raster.read_block(raster.open_imagery([file], **options), ORIGIN)
    return pixels, np.ones((SIZE, SIZE), bool) if valid is None else valid


def warped(file: str, **options: Any) -> NDArray[np.bool_]:
    """What is valid of the same ground, through GDAL's warper at half the resolution."""
    imagery = raster.open_imagery([file], pixel_m=2.0, **options)
    _, valid = raster.read_block(imagery, ORIGIN)
    return np.ones((SIZE // 2,) * 2, bool) if valid is None else valid


def check_west_is_missing(file: str, **options: Any) -> None:
    _, valid = read(file, **options)
    assert np.array_equal(valid, ~WEST)
    half = warped(file, **options)
    assert not half[:, :34].any() and half[:, 36:].all()


@pytest.mark.parametrize("value", [math.nan, -9999.9, -3.4028234663852886e38, 0.0])
@pytest.mark.parametrize("declared", [True, False])
def test_nodata_of_float_files_is_what_gdal_reads_as_missing(
    write_raster: Writer, value: float, declared: bool
) -> None:
    pixels = scene(SIZE, SIZE).astype(np.float32) + 1
    pixels[:, WEST] = value
    file = write_raster("a.tif", pixels, **({"nodata": value} if declared else {}))
    if not declared and abs(value) < 1e38:
        assert read(file, stretch=(0, 256))[1].all(), "an ordinary value that nobody declared"
        return
    check_west_is_missing(file, stretch=(0, 256))
    if declared:
        with rasterio.open(file) as data:
            assert np.array_equal(data.read_masks(1) > 0, ~WEST)


def test_nodata_that_no_pixel_can_hold_hides_nothing(write_raster: Writer) -> None:
    file = write_raster("a.tif", scene(SIZE, SIZE))
    Path(f"{file}.aux.xml").write_text(
        "<PAMDataset>" + "".join(
            f'<PAMRasterBand band="{b}"><NoDataValue>-9999</NoDataValue></PAMRasterBand>'
            for b in (1, 2, 3)
        ) + "</PAMDataset>"
    )  # fmt: skip
    assert read(file)[1].all() and warped(file).all()
    with pytest.raises(RasterError, match="no pixel of type uint8 can be"):
        raster.open_imagery([file], nodata=-9999)


def test_only_pixels_whose_three_bands_are_nodata_are_missing(write_raster: Writer) -> None:
    pixels = scene(SIZE, SIZE) // 2 + 1
    pixels[:, WEST] = 0
    pixels[0, :, 100:180] = 0  # a colour without red is a colour
    file = write_raster("a.tif", pixels, nodata=0)
    check_west_is_missing(file)
    with rasterio.open(file) as data:
        assert np.array_equal(data.dataset_mask() > 0, ~WEST)


def test_a_mask_file_beside_the_raster_is_read(write_raster: Writer) -> None:
    file = write_raster("a.tif", scene(SIZE, SIZE))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(file, "r+") as data:
        data.write_mask(~WEST)
    assert Path(f"{file}.msk").exists()
    check_west_is_missing(file)


def test_nodata_and_crs_in_sidecars_are_read(write_raster: Writer, tmp_path: Path) -> None:
    pixels = scene(SIZE, SIZE) // 2 + 1
    pixels[:, WEST] = 0
    with rasterio.open(write_raster("b.tif", pixels)) as data:
        crs, t = data.crs.to_wkt(), data.transform
    file = str(tmp_path / "a.tif")
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(
        file, "w", driver="GTiff", count=3, height=SIZE, width=SIZE, dtype="uint8"
    ) as data:  # fmt: skip
        data.write(pixels)
    Path(f"{file}.aux.xml").write_text(
        f"<PAMDataset><SRS>{crs.replace('&', '&amp;')}</SRS>" + "".join(
            f'<PAMRasterBand band="{b}"><NoDataValue>0</NoDataValue></PAMRasterBand>'
            for b in (1, 2, 3)
        ) + "</PAMDataset>"
    )  # fmt: skip
    (tmp_path / "a.tfw").write_text(f"1\n0\n0\n-1\n{t.c + 0.5}\n{t.f - 0.5}\n")
    check_west_is_missing(file)


def with_alpha(write_raster: Writer, alpha: NDArray[Any], place: int, **options: Any) -> str:
    """A scene with an alpha band at a place of five bands, and near-infrared in the other."""
    pixels = scene(SIZE, SIZE).astype(alpha.dtype)
    pixels[:, alpha == 0] = 0
    infrared = np.full_like(alpha, 20)
    extra = [alpha, infrared] if place == 4 else [infrared, alpha]
    file = write_raster("a.tif", np.concatenate([pixels, np.stack(extra)]), **options)
    named = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, *[ColorInterp.undefined] * 2]
    named[place - 1] = ColorInterp.alpha
    with rasterio.open(file, "r+") as data:
        data.colorinterp = named
    return file


@pytest.mark.parametrize("place", [4, 5])
def test_alpha_is_found_wherever_it_stands(write_raster: Writer, place: int) -> None:
    alpha = np.where(WEST, 0, 255).astype(np.uint8)
    file = with_alpha(write_raster, alpha, place, photometric="RGB")
    check_west_is_missing(file)
    check_west_is_missing(file, bands=(9 - place, 1, 2))
    assert read(file, alpha=0)[1].all() and warped(file, alpha=0).all()
    with pytest.raises(RasterError, match=f"band {place}.*alpha"):
        raster.open_imagery([file], bands=(place, 1, 2))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_soft_alpha_hides_only_where_it_is_0(write_raster: Writer, dtype: str) -> None:
    ramp = np.linspace(1, np.iinfo(dtype).max, SIZE * SIZE).reshape(SIZE, SIZE)
    alpha = np.where(WEST, 0, ramp).astype(dtype)
    file = with_alpha(write_raster, alpha, 4, photometric="RGB")
    options = {} if dtype == "uint8" else {"stretch": (0, 255)}
    check_west_is_missing(file, **options)


def test_near_infrared_named_alpha_hides_nothing_unless_asked(write_raster: Writer) -> None:
    infrared = scene(SIZE, SIZE)[1] // 2
    infrared[WEST] = 0  # water
    pixels = np.concatenate([scene(SIZE, SIZE), infrared[None]])
    file = write_raster("a.tif", pixels, photometric="RGB", alpha="YES")
    assert read(file)[1].all() and warped(file).all()
    assert np.array_equal(read(file, alpha=4)[1], infrared > 0)
    with pytest.raises(RasterError, match="--alpha 9"):
        raster.open_imagery([file], alpha=9)


def test_blocks_that_a_sparse_file_does_not_hold_are_missing(write_raster: Writer) -> None:
    file = write_raster(
        "a.tif", np.zeros((3, SIZE, SIZE), np.uint8), tiled=True, blockxsize=64, blockysize=64,
        SPARSE_OK=True,
    )  # fmt: skip
    with rasterio.open(file, "r+") as data:
        data.write(scene(SIZE, SIZE)[:, :, 64:] // 2 + 1, window=((0, SIZE), (64, SIZE)))
    pixels, valid = read(file)
    assert not valid[:, :64].any() and valid[:, 64:].all()
    assert np.array_equal(pixels[:, :, 64:], scene(SIZE, SIZE)[:, :, 64:] // 2 + 1)
    half = warped(file)
    assert not half[:, :31].any() and half[:, 33:].all()


def vrt(path: Path, sources: list[tuple[str, int]], *, width: int = SIZE, extra: str = "") -> str:
    """A mosaic of files of 112 columns side by side: names, and the column where each begins."""

    def band(n: int) -> str:
        parts = "".join(
            f'<SimpleSource><SourceFilename relativeToVRT="1">{name}</SourceFilename>'
            f'<SourceBand>{n}</SourceBand><SourceProperties RasterXSize="112" RasterYSize="{SIZE}" '
            'DataType="Byte" BlockXSize="112" BlockYSize="16"/>'
            f'<SrcRect xOff="0" yOff="0" xSize="112" ySize="{SIZE}"/>'
            f'<DstRect xOff="{col}" yOff="0" xSize="112" ySize="{SIZE}"/></SimpleSource>'
            for name, col in sources
        )  # fmt: skip
        return f'<VRTRasterBand dataType="Byte" band="{n}">{extra}{parts}</VRTRasterBand>'

    path.write_text(
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{SIZE}"><SRS>EPSG:26917</SRS>'
        "<GeoTransform>560000,1,0,4105024,0,-1</GeoTransform>"
        f"{''.join(band(n) for n in (1, 2, 3))}</VRTDataset>"
    )
    return str(path)


def test_a_mosaic_with_a_hole_is_missing_there(write_raster: Writer, tmp_path: Path) -> None:
    whole = scene(SIZE, SIZE)
    write_raster("east.tif", whole[:, :, 112:], left=560112.0)
    file = vrt(tmp_path / "m.vrt", [("east.tif", 112)])
    pixels, valid = read(file)
    assert not valid[:, :112].any() and valid[:, 112:].all()
    assert np.array_equal(pixels[:, :, 112:], whole[:, :, 112:])
    half = warped(file)
    assert not half[:, :55].any() and half[:, 57:].all()


def test_a_mosaic_of_whole_files_reads_as_gdal_reads_it(
    write_raster: Writer, tmp_path: Path
) -> None:
    whole = scene(SIZE, SIZE)
    write_raster("west.tif", whole[:, :, :112])
    write_raster("east.tif", whole[:, :, 112:], left=560112.0)
    file = vrt(tmp_path / "m.vrt", [("west.tif", 0), ("east.tif", 112)])
    pixels, valid = read(file)
    with rasterio.open(file) as data:
        assert all(np.array_equal(pixels[b - 1], data.read(b)) for b in (1, 2, 3))
    assert valid.all() and np.array_equal(pixels, whole)


def test_a_mosaic_whose_file_is_gone_or_damaged_never_reads_black(
    write_raster: Writer, tmp_path: Path
) -> None:
    whole = scene(SIZE, SIZE)
    write_raster("west.tif", whole[:, :, :112])
    east = Path(write_raster("east.tif", whole[:, :, 112:], left=560112.0))
    file = vrt(tmp_path / "m.vrt", [("west.tif", 0), ("east.tif", 112)])
    imagery = raster.open_imagery([file])
    content = east.read_bytes()
    east.write_bytes(content[: len(content) // 2])
    for _ in range(3):  # GDAL may say it once and read zeros from then on
        with pytest.raises(raster.ReadFailure, match=r"m\.vrt"):
            raster.read_block(imagery, ORIGIN)
    east.unlink()
    for _ in range(3):
        with pytest.raises(RasterError, match=r"east\.tif does not exist"):
            raster.read_block(imagery, ORIGIN)
    with pytest.raises(RasterError, match=r"n\.vrt.*east\.tif does not exist"):
        raster.open_imagery([vrt(tmp_path / "n.vrt", [("west.tif", 0), ("east.tif", 112)])])
