"""A raster from elsewhere reads no other file and reaches no network; links are known by digest."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio

from conftest import Writer, scene
from fetch_server import FetchServer, serving
from quadrat import raster, storage
from quadrat.errors import RasterError
from quadrat.fetching import link
from quadrat.grid import TileRange
from quadrat.raster import opening
from quadrat.tiles import open_rasters

ORIGIN = TileRange(-18326, -18325, 2500, 2501)


@pytest.fixture
def server() -> Iterator[FetchServer]:
    with serving() as made:
        yield made


def mosaic(source: str, relative: int = 0, kind: str = "SimpleSource", more: str = "") -> str:
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{b}"><{kind}>'
        f'<SourceFilename relativeToVRT="{relative}">{source}</SourceFilename>'
        f"<SourceBand>{b}</SourceBand>{more}</{kind}></VRTRasterBand>"
        for b in (1, 2, 3)
    )
    return (
        '<VRTDataset rasterXSize="224" rasterYSize="224"><SRS>EPSG:26917</SRS>'
        f"<GeoTransform>560000,1,0,4105024,0,-1</GeoTransform>{bands}</VRTDataset>"
    )


def texts(target: str) -> dict[str, str]:
    """Descriptions of rasters that stand for something else."""
    return {
        "vrt": mosaic(target),
        "wms": f'<GDAL_WMS><Service name="TMS"><ServerUrl>{target}/${{z}}</ServerUrl></Service>'
        "<DataWindow><SizeX>224</SizeX><SizeY>224</SizeY></DataWindow></GDAL_WMS>",
        "gti": f"<GDALTileIndexDataset><IndexDataset>{target}</IndexDataset>"
        "</GDALTileIndexDataset>",
        "wmts": f"<GDAL_WMTS><GetCapabilitiesUrl>{target}</GetCapabilitiesUrl></GDAL_WMTS>",
    }


@pytest.mark.parametrize("kind", ["vrt", "wms", "gti", "wmts"])
def test_a_tif_that_is_a_description_is_refused(
    write_raster: Writer, tmp_path: Path, server: FetchServer, kind: str
) -> None:
    secret = write_raster("secret.tif", scene(224, 224))
    for target in (secret, f"/vsicurl/{server.url}/x.tif", f"{server.url}/x.tif"):
        file = tmp_path / "a.tif"
        file.write_text(texts(target)[kind])
        with pytest.raises(RasterError, match=r"a\.tif cannot be opened as a raster"):
            raster.open_imagery([str(file)])
    assert server.requests == []


def test_a_vrt_may_name_local_files_and_nothing_else(
    write_raster: Writer, tmp_path: Path, server: FetchServer
) -> None:
    good = write_raster("b.tif", scene(224, 224))
    text_file = tmp_path / "notes.txt"
    text_file.write_text("private")
    os.mkfifo(tmp_path / "pipe.tif")
    (tmp_path / "inner.tif").write_text(mosaic(good))
    refused = {
        f"/vsicurl/{server.url}/x.tif": "no file on this machine",
        f"{server.url}/x.tif": "no file on this machine",
        f"vrt://{good}": "no file on this machine",
        f"/vsizip/{good}": "no file on this machine",
        "&lt;GDAL_WMS&gt;": "no file on this machine",
        f"NETCDF:{good}:x": "no file on this machine",
        str(text_file): "cannot be opened",
        str(tmp_path / "pipe.tif"): "no regular file",
        str(tmp_path / "inner.tif"): "cannot be opened",
        str(tmp_path / "gone.tif"): "does not exist",
    }
    file = tmp_path / "m.vrt"
    for source, says in refused.items():
        file.write_text(mosaic(source))
        with pytest.raises(RasterError, match=rf"m\.vrt.*{says}") as caught:
            raster.open_imagery([str(file)])
        assert "\n" not in str(caught.value) and "private" not in str(caught.value)
    for relative, source in ((0, good), (1, "b.tif")):
        file.write_text(mosaic(source, relative))
        pixels, valid = raster.read_block(raster.open_imagery([str(file)]), ORIGIN)
        assert valid is None and np.array_equal(pixels, scene(224, 224))
    assert server.requests == []


@pytest.mark.parametrize(
    "text",
    [
        mosaic("b.tif", 1).replace("<VRTDataset ", '<VRTDataset subClass="VRTWarpedDataset" '),
        mosaic("b.tif", 1).replace(
            "<VRTRasterBand ", '<VRTRasterBand subClass="VRTDerivedRasterBand" '
        ),
        mosaic("b.tif", 1, more="<OpenOptions><OOI key='X'>1</OOI></OpenOptions>"),
        mosaic("b.tif", 1, kind="ArraySource"),
        mosaic("b.tif", 1).replace("<SRS>", "<GDALWarpOptions/><SRS>"),
        '<!DOCTYPE x [<!ENTITY a "b">]>' + mosaic("b.tif", 1),
        "<VRTDataset",
        "GDAL",
        "<VRTDataset rasterXSize='9' rasterYSize='9'/>",
    ],
)
def test_a_vrt_that_is_more_than_a_mosaic_is_refused(
    write_raster: Writer, tmp_path: Path, text: str
) -> None:
    write_raster("b.tif", scene(224, 224))
    (tmp_path / "m.vrt").write_text(text)
    with pytest.raises(RasterError, match=r"m\.vrt") as caught:
        raster.open_imagery([str(tmp_path / "m.vrt")])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", [".msk", ".ovr"])
def test_a_sidecar_reads_no_other_file(
    write_raster: Writer, tmp_path: Path, server: FetchServer, ending: str
) -> None:
    file = write_raster("a.tif", scene(224, 224))
    Path(f"{file}{ending}").write_text(mosaic(f"/vsicurl/{server.url}/x.tif"))
    with pytest.raises(RasterError, match="is no TIFF"):
        raster.open_imagery([file])
    assert server.requests == []


def test_overviews_in_another_file_are_refused(write_raster: Writer, server: FetchServer) -> None:
    file = write_raster("a.tif", scene(224, 224))
    Path(f"{file}.aux.xml").write_text(
        '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">'
        f"{server.url}/x.tif</MDI></Metadata></PAMDataset>"
    )
    with pytest.raises(RasterError, match="overviews in another file"):
        raster.open_imagery([file])
    other = write_raster("b.tif", scene(224, 224))
    with rasterio.open(other, "r+") as data:
        data.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=f"{server.url}/x.tif")
    with pytest.raises(RasterError, match="overviews in another file"):
        raster.open_imagery([other])
    assert server.requests == []


def test_a_link_is_known_by_its_digest_and_not_by_its_name(
    write_raster: Writer, tmp_path: Path, server: FetchServer
) -> None:
    facts = raster.info(write_raster("b.tif", scene(224, 224)))
    text = link.vrt(facts, f"/vsicurl/{server.url}/x.tif")
    file = tmp_path / "m.vrt"
    file.write_text(text)
    for record in ({}, {"kind": "naip"}, {"link": "0" * 64}, {"link": None}):
        Path(f"{file}.quadrat.json").write_text(json.dumps(record))
        with pytest.raises(RasterError, match="no file on this machine"):
            raster.open_imagery([str(file)])
    Path(f"{file}.quadrat.json").write_text(
        json.dumps({"link": storage.digest_bytes(text.encode())})
    )
    assert raster.open_imagery([str(file)]).infos[0].remote
    assert server.requests == [], "facts of a link cost no request"


@pytest.mark.parametrize(
    "name", ["zip://a.zip!b.tif", "/vsizip/a.zip/b.tif", "/vsitar/a.tar/b.tif", "tar+gz://a!b.tif"]
)
def test_rasters_in_archives_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(RasterError, match=r"lies in an archive.*unpack it"):
        open_rasters([name])


def test_pipes_devices_and_folders_are_no_rasters(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.tif")
    for name in (str(tmp_path / "p.tif"), "/dev/zero"):
        with pytest.raises(RasterError, match="no regular file"):
            raster.open_imagery([name])


def test_a_file_of_one_huge_block_is_refused_before_memory_is_asked_for(tmp_path: Path) -> None:
    file = str(tmp_path / "a.tif")
    with rasterio.open(
        file, "w", driver="GTiff", width=30_000, height=30_000, count=3, dtype="uint8",
        crs="EPSG:26917", transform=rasterio.Affine(1, 0, 560000, 0, -1, 4105024),
        tiled=True, blockxsize=16_384, blockysize=16_384, compress="deflate", SPARSE_OK=True,
    ):  # fmt: skip
        pass
    with pytest.raises(RasterError, match="blocks of 16,384 x 16,384 px"):
        raster.open_imagery([file])


def test_what_is_too_much_too_small_or_of_one_colour_is_said(
    write_raster: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quadrat.tiles import extent, tile

    small = write_raster("small.tif", scene(100, 100))
    with pytest.raises(RasterError, match="100 x 100 m, smaller than one plot"):
        open_rasters([small])
    coarse = write_raster("coarse.tif", scene(8, 8), pixel=5000.0)
    with pytest.raises(RasterError, match=r"a pixel of .* is 5,000 m wide"):
        open_rasters([coarse])
    monkeypatch.setattr(extent, "MOST_TILES", 500_000)
    huge = write_raster("huge.tif", scene(800, 800), pixel=200.0, left=0.0, top=5e6)
    with pytest.raises(RasterError, match=r"covers .* km2, about .* tiles"):
        open_rasters([huge]).parts()
    black = scene(448, 448)
    black[:, :, :224] = 0
    made = tile([write_raster("black.tif", black)], str(tmp_path / "t"), split=None)
    assert made.tiles == 4
    assert made.info["warnings"] == [
        "2 of 4 tiles are of a single colour: pixels without data that the imagery does not "
        "declare? Then give --nodata or --alpha"
    ]


def test_drivers_that_read_elsewhere_are_not_allowed() -> None:
    assert not {"VRT", "WMS", "WMTS", "WCS", "GTI", "HTTP", "STACIT", "MRF", "netCDF"} & set(
        opening.DRIVERS
    )
