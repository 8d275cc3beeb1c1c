"""Bad input: one clear line that names the thing and the cure, and finished work is kept."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from conftest import Writer, scene
from crafted import relist
from quadrat import codec, geoparquet, tiles
from quadrat.errors import (
    ImageError,
    LabelError,
    QuadratError,
    RasterError,
    StorageError,
    TileSetError,
)
from quadrat.scoring import score


def truncated(path: str, share: float = 0.5) -> str:
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: int(len(data) * share)])
    return path


def everything(source: Any) -> list[dict]:
    return [r for p in source.parts() for b in tiles.read_part(p) for r in b.index.to_pylist()]


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_truncated_picture_is_named(tmp_path: Path, ending: str) -> None:
    file = str(tmp_path / f"a.{ending}")
    Image.fromarray(scene(224, 224).transpose(1, 2, 0)).save(file)
    with pytest.raises(ImageError, match=rf"a\.{ending} is truncated or damaged"):
        codec.read_image(truncated(file))


def test_pictures_that_are_none_or_16_bit_or_huge(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(ImageError, match="not a PNG, JPEG or TIFF"):
        codec.read_image(str(tmp_path / "a.png"))
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(tmp_path / "b.png")
    with pytest.raises(ImageError, match="16-bit"):
        codec.read_image(str(tmp_path / "b.png"))
    Image.new("RGB", (4097, 2)).save(tmp_path / "c.png")
    with pytest.raises(ImageError, match="4096"):
        codec.read_image(str(tmp_path / "c.png"))


def test_grey_palette_and_alpha_pictures_become_rgb(tmp_path: Path) -> None:
    rgb = Image.fromarray(scene(32, 32).transpose(1, 2, 0))
    for mode in ("L", "P", "RGBA"):
        rgb.convert(mode).save(tmp_path / f"{mode}.png")
        want = np.asarray(Image.open(tmp_path / f"{mode}.png").convert("RGB"))
        assert np.array_equal(codec.read_image(str(tmp_path / f"{mode}.png")), want)


def test_damaged_pictures_are_skipped_and_listed_unless_strict(tmp_path: Path) -> None:
    for i in range(4):
        file = tmp_path / "in" / "Forest" / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene(224, 224, i).transpose(1, 2, 0)).save(file)
    truncated(str(tmp_path / "in" / "Forest" / "2.png"))
    made = tiles.pack(str(tmp_path / "in"), str(tmp_path / "set"), split=None)
    assert made.tiles == 3
    assert made.info["skipped"]["listed"][0][0] == "Forest/2.png"
    with pytest.raises(TileSetError, match=r"2\.png.*--strict"):
        tiles.pack(str(tmp_path / "in"), str(tmp_path / "s2"), split=None, strict=True)


def test_a_truncated_geotiff_loses_only_its_damaged_tiles(
    write_raster: Writer, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 896, 896)).astype(np.uint8)
    file = truncated(write_raster("a.tif", noise, tiled=True, compress="deflate"), 0.6)
    made = tiles.tile([file], str(tmp_path / "set"))
    rows = everything(made)
    assert 4 <= len(rows) < 16
    assert len(rows) + made.info["skipped"]["count"] == 16
    assert "a.tif cannot be read" in made.info["skipped"]["listed"][0][1]
    with pytest.raises(RasterError, match="--strict"):
        tiles.tile([file], str(tmp_path / "s2"), strict=True)


def test_labels_that_do_not_overlap(write_raster: Writer, tmp_path: Path) -> None:
    image = write_raster("a.tif", scene(448, 448))
    labels = write_raster("l.tif", np.full((1, 50, 50), 41, np.uint8), left=1e5, pixel=30.0)
    with pytest.raises(LabelError, match="does not overlap the imagery"):
        tiles.tile([image], str(tmp_path / "set"), labels=labels)


def test_unknown_codes_are_listed_with_counts(write_raster: Writer, tmp_path: Path) -> None:
    image = write_raster("a.tif", scene(448, 448))
    codes = np.full((1, 20, 20), 77, np.uint8)
    file = write_raster("l.tif", codes, pixel=30.0)
    with pytest.raises(LabelError, match=r"77 \(\d+ points\)"):
        tiles.tile([image], str(tmp_path / "set"), labels=file)
    codes[:, :, :10] = 41
    file = write_raster("m.tif", codes, pixel=30.0)
    made = tiles.tile([image], str(tmp_path / "s2"), labels=file, split=None)
    assert set(made.info["unknown_codes"]) == {"77"} and made.info["unknown_codes"]["77"] > 0


def test_a_damaged_tile_in_a_part_is_skipped_and_listed(
    write_raster: Writer, tmp_path: Path
) -> None:
    made = tiles.tile([write_raster("a.tif", scene(448, 448))], str(tmp_path / "set"))
    uri = made.parts()[0].uri
    table = geoparquet.read_part(uri)
    images = table["image"].to_pylist()
    images[1], images[2] = images[1][:50], None
    at = table.column_names.index("image")
    geoparquet.write_part(uri, table.set_column(at, "image", pa.array(images)), "EPSG:26917")
    for size in (64, 1):  # of a batch: some of its tiles are damaged, or all
        batches = [b for p in relist(made).parts() for b in tiles.read_part(p, size)]
        assert sum(len(b.chips) for b in batches) == sum(len(b.index) for b in batches) == 2
        assert {s.name for b in batches for s in b.skipped} == {
            "tile (-18326, 2501)", "tile (-18325, 2500)",
        }  # fmt: skip


def test_a_part_that_is_cut_off_is_named(write_raster: Writer, tmp_path: Path) -> None:
    made = tiles.tile([write_raster("a.tif", scene(448, 448))], str(tmp_path / "set"))
    truncated(made.parts()[0].uri)
    with pytest.raises(QuadratError, match=r"part-00000\.parquet is not the part that was"):
        everything(made)


def test_tiles_that_stand_twice_are_refused(write_raster: Writer, tmp_path: Path) -> None:
    made = tiles.tile([write_raster("a.tif", scene(448, 448))], str(tmp_path / "set"))
    uri = made.parts()[0].uri
    table = geoparquet.read_part(uri)
    geoparquet.write_part(uri, pa.concat_tables([table, table.slice(1, 1)]), "EPSG:26917")
    with pytest.raises(TileSetError, match=r"tile \(-18326, 2501\) stands in it twice"):
        tiles.index(relist(made))


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"version": 99},
        {"parts": [{"name": "../../etc/passwd", "tiles": 1}]},
        {"parts": [{"name": "/etc/passwd", "tiles": 1}]},
        {"encoding": "pickle"},
        {"size_px": 10**9},
        {"size_px": "many"},
        {"grid": {"crs": 1}},
        {"legend": {"name": "x", "classes": [{"name": "../x"}]}},
        {"parts": None},
    ],
    ids=lambda c: json.dumps(c)[:40],
)
def test_a_crafted_tile_set_is_refused(write_raster: Writer, tmp_path: Path, change: dict) -> None:
    made = tiles.tile([write_raster("a.tif", scene(448, 448))], str(tmp_path / "set"))
    file = tmp_path / "set" / "tileset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(TileSetError) as caught:
        tiles.open_tileset(made.uri)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("label", ["../../out", "a/b", ".."])
def test_unpacking_never_writes_outside_its_folder(
    write_raster: Writer, tmp_path: Path, label: str
) -> None:
    made = tiles.tile([write_raster("a.tif", scene(448, 448))], str(tmp_path / "set"))
    uri = made.parts()[0].uri
    table = geoparquet.read_part(uri)
    at = table.column_names.index("label")
    geoparquet.write_part(
        uri, table.set_column(at, "label", pa.array([label] * len(table))), "EPSG:26917"
    )
    relist(made)
    with pytest.raises(TileSetError, match="no file name"):
        tiles.unpack(made.uri, str(tmp_path / "deep" / "out"))
    assert not list(tmp_path.rglob("*.png"))


def test_output_that_cannot_be_written(
    write_raster: Writer, tmp_path: Path, county_model: str
) -> None:
    image = write_raster("a.tif", scene(448, 448))
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"file"):
        tiles.tile([image], str(tmp_path / "file"))
    if os.geteuid():
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(StorageError, match="permission"):
            score(county_model, [image], str(tmp_path / "closed" / "s"))


def test_nothing_there(tmp_path: Path, county_model: str) -> None:
    with pytest.raises(TileSetError, match="does not exist"):
        tiles.open_tiles(str(tmp_path / "no"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(TileSetError, match="holds no pictures"):
        tiles.open_tiles(str(tmp_path / "empty"))
    with pytest.raises(RasterError, match="does not exist"):
        score(county_model, [str(tmp_path / "no.tif")], str(tmp_path / "s"))
