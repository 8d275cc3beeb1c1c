"""Which bands are red, green and blue, and what stands in the way of knowing it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from conftest import Writer, scene
from quadrat import raster
from quadrat.cli import cli
from quadrat.errors import RasterError
from quadrat.grid import TileRange
from quadrat.raster.files import RasterInfo

ORIGIN = TileRange(-18326, -18325, 2500, 2501)
C = ColorInterp


def write(
    write_raster: Writer, colours: tuple[ColorInterp, ...] = (), names: tuple[str, ...] = ()
) -> str:
    """A file whose n-th band is n everywhere."""
    count = len(colours or names)
    pixels = np.ones((count, 224, 224), np.uint8) * np.arange(1, count + 1)[:, None, None]
    file = write_raster("a.tif", pixels.astype(np.uint8), photometric="MINISBLACK")
    with rasterio.open(file, "r+") as data:
        if colours:
            data.colorinterp = colours
        for n, name in enumerate(names, 1):
            data.set_band_description(n, name)
    return file


@pytest.mark.parametrize(
    ("colours", "names", "bands", "known_by"),
    [
        ((C.blue, C.green, C.red), (), (3, 2, 1), "colour interpretation"),
        ((C.blue, C.green, C.red, C.undefined), (), (3, 2, 1), "colour interpretation"),
        ((C.alpha, C.red, C.green, C.blue), (), (2, 3, 4), "colour interpretation"),
        ((), ("Blue", "Green", "Red", "NIR"), (3, 2, 1), "band names"),
        ((C.gray, C.undefined, C.undefined), (), (1, 2, 3), "by place in the file"),
    ],
)
def test_bands_are_what_the_file_says(
    write_raster: Writer,
    colours: tuple[ColorInterp, ...],
    names: tuple[str, ...],
    bands: tuple[int, ...],
    known_by: str,
) -> None:
    imagery = raster.open_imagery([write(write_raster, colours, names)])
    pixels, _ = raster.read_block(imagery, ORIGIN)
    assert tuple(pixels[:, 5, 5]) == bands
    named = f"red {bands[0]}, green {bands[1]}, blue {bands[2]} ({known_by})"
    assert raster.bands_summary(imagery.infos) == (named,)


def test_each_file_of_a_mosaic_has_its_own_roles(write_raster: Writer) -> None:
    whole = scene(224, 224)
    left = write_raster("l.tif", whole[:, :, :100], photometric="RGB")
    right = write_raster("r.tif", whole[::-1, :, 100:], left=560100.0, photometric="MINISBLACK")
    with rasterio.open(right, "r+") as data:
        data.colorinterp = (C.blue, C.green, C.red)
    imagery = raster.open_imagery([left, right])
    pixels, valid = raster.read_block(imagery, ORIGIN)
    assert valid is None and np.array_equal(pixels, whole)
    assert [t.rsplit(") ", 1)[1] for t in raster.bands_summary(imagery.infos)] == [
        "in 1 of 2 files"
    ] * 2


@pytest.mark.parametrize(
    ("colours", "names", "says"),
    [
        ((C.red, C.green, C.blue), ("blue", "green", "red"), "contradicts itself.*--bands"),
        ((C.nir, C.red, C.green), (), "not known.*--bands"),
        ((C.blue, C.undefined, C.undefined), (), "not known.*--bands"),
        ((C.cyan, C.magenta, C.yellow, C.black), (), "CMYK"),
    ],
)
def test_bands_that_are_not_known_are_asked_for(
    write_raster: Writer, colours: tuple[ColorInterp, ...], names: tuple[str, ...], says: str
) -> None:
    file = write(write_raster, colours, names)
    with pytest.raises(RasterError, match=says):
        raster.open_imagery([file])
    assert raster.open_imagery([file], bands=(3, 1, 2)).infos[0].bands == (3, 1, 2)


def test_a_colour_table_is_refused_with_the_cure(write_raster: Writer) -> None:
    file = write_raster("a.tif", scene(224, 224)[:1])
    with rasterio.open(file, "r+") as data:
        data.write_colormap(1, {n: (n, 255 - n, 0, 255) for n in range(256)})
    for bands in (None, (1, 1, 1)):
        with pytest.raises(RasterError, match=r"colour table.*gdal_translate -expand rgb"):
            raster.open_imagery([file], bands=bands)


@pytest.mark.parametrize("given", [["3,2,1"], ["3", "2", "1"], ["3, 2, 1"]])
def test_bands_are_taken_with_commas_and_with_spaces(
    write_raster: Writer, tmp_path: Path, given: list[str]
) -> None:
    from quadrat.tiles import open_tiles, read_part

    file = write_raster("a.tif", scene(448, 448))
    out = str(tmp_path / "t")
    line = ["tile", file, "--bands", *given, "--out", out, "--alpha", "none", "--split", "none"]
    assert cli.main(line, standalone_mode=False) is None
    opened = open_tiles(out)
    batch = next(read_part(opened.parts()[0]))
    assert np.array_equal(batch.chips[0].transpose(2, 0, 1), scene(448, 448)[::-1, :224, :224])
    assert opened.info["provenance"]["bands"] == ["red 3, green 2, blue 1 (as given)"]
    assert opened.info["provenance"]["imagery"][0]["bands"] == [3, 2, 1]


def test_facts_are_plain_values(write_raster: Writer) -> None:
    found: RasterInfo = raster.info(write(write_raster, (C.red, C.green, C.blue, C.alpha)))
    assert (found.count, found.colours) == (4, ("red", "green", "blue", "alpha"))
