"""Tile sets: the right pixels under the right name, readable by others, resumable, honest."""

import json
import shutil
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from conftest import Writer, scene
from quadrat import codec, tiles
from quadrat.errors import LabelError, SplitError, TileSetError
from quadrat.grid import Grid, TileId, TileRange
from quadrat.legend import from_dict


def everything(source: Any) -> tuple[list[dict], np.ndarray]:
    batches = [b for p in source.parts() for b in tiles.read_part(p)]
    return [r for b in batches for r in b.index.to_pylist()], np.concatenate(
        [b.chips for b in batches]
    )


def labels_raster(write: Writer, name: str = "labels.tif") -> str:
    """Forest in the west, developed in the east, 30 m, over 40 x 40 tiles."""
    codes = np.full((1, 300, 300), 41, np.uint8)
    codes[:, :, 150:] = 22
    return write(name, codes, pixel=30.0)


@pytest.fixture
def imagery(write_raster: Writer) -> str:
    return write_raster("imagery.tif", scene(8 * 224, 12 * 224), tiled=True, compress="deflate")


def test_every_tile_holds_its_own_ground(imagery: str, tmp_path: Path) -> None:
    made = tiles.tile([imagery], str(tmp_path / "set"))
    rows, chips = everything(made)
    assert len(rows) == made.tiles == 96
    whole = scene(8 * 224, 12 * 224).transpose(1, 2, 0)
    for row, chip in zip(rows, chips, strict=True):
        r, c = (row["row"] + 18326) * 224, (row["col"] - 2500) * 224
        assert np.array_equal(chip, whole[r : r + 224, c : c + 224])


def test_parts_open_in_geopandas_on_the_right_ground(imagery: str, tmp_path: Path) -> None:
    made = tiles.tile([imagery], str(tmp_path / "set"))
    frame = geopandas.read_parquet(made.parts()[0].uri)
    assert frame.crs.to_epsg() == 26917
    first = frame.iloc[0]
    bounds = made.grid.bounds(TileId(first["row"], first["col"]))
    assert first.geometry.bounds == tuple(bounds)
    assert made.to_dict()["counts"]["label"] == {"none": 96}


def test_the_encoding_is_what_the_documentation_says(imagery: str, tmp_path: Path) -> None:
    """The three lines of docs/formats.md, with another zstd than ours."""
    zstandard = pytest.importorskip("zstandard")
    made = tiles.tile([imagery], str(tmp_path / "set"))
    table = pq.read_table(made.parts()[0].uri)
    raw = zstandard.ZstdDecompressor().decompress(table["image"][0].as_py(), 224 * 672)
    rows = np.frombuffer(raw, np.uint8).reshape(224, 672)
    chip = np.cumsum(rows, axis=0, dtype=np.uint8).reshape(224, 224, 3)
    assert np.array_equal(chip, everything(made)[1][0])


@pytest.mark.parametrize("encoding", list(codec.ENCODINGS))
def test_no_encoding_loses_anything(encoding: str) -> None:
    chip = np.random.default_rng(2).integers(0, 256, (224, 224, 3)).astype(np.uint8)
    data = codec.get_encoding(encoding).encode(chip)
    assert np.array_equal(codec.decode(data, encoding, 224), chip)


def test_labels_split_and_audit_stand_in_the_set(
    imagery: str, write_raster: Writer, tmp_path: Path
) -> None:
    made = tiles.tile([imagery], str(tmp_path / "set"), labels=labels_raster(write_raster), block=2)
    rows, _ = everything(made)
    for row in rows:
        west = row["col"] < 2500 + 150 * 30 // 224
        assert row["label"] in (None, "Forest" if west else "Developed")
    assert made.info["audit"]["touching"] == 0 and made.info["audit"]["held_out"] > 5
    table = tiles.index(made)
    total = sum(table[f"frac_{n}"].to_numpy() for n in made.legend.names)
    assert total == pytest.approx(np.ones(96), abs=1e-6)
    stored = json.loads((tmp_path / "set" / "tileset.json").read_text())
    assert stored["audit"]["share"] == 0


def test_mixed_and_unlabelled_tiles_go_with_their_block(
    imagery: str, write_raster: Writer, tmp_path: Path
) -> None:
    """A checkerboard whose fields cross the tiles: by `nine-point` hardly a tile has a label."""
    codes = np.where(np.add.outer(np.arange(300) // 5, np.arange(300) // 5) % 2, 41, 22)
    codes[40:] = 0  # the source says nothing of the south
    labels = write_raster("l.tif", codes[None].astype(np.uint8), pixel=30.0)
    made = tiles.tile(
        [imagery], str(tmp_path / "set"), labels=labels, rule="nine-point", block=2, buffer=0
    )
    rows, _ = everything(made)
    unlabelled = [r for r in rows if r["label"] is None]
    assert len(unlabelled) > 90 and all(r["split"] for r in rows)
    blocks: dict = {}
    for r in rows:
        blocks.setdefault((r["row"] // 2, r["col"] // 2), set()).add(r["split"])
    assert all(len(splits) == 1 for splits in blocks.values())
    south = {r["row"] for r in rows if r["frac_Forest"] is None}
    assert south and max(r["row"] for r in rows if r["frac_Forest"] is not None) < min(south)
    known = [r for r in rows if r["frac_Forest"] is not None]
    assert {"train", "validation"} == {r["split"] for r in known}
    shares = tiles.targets.shares(tiles.index(made), made.legend.names)
    assert np.isnan(shares).any(1).sum() == len(rows) - len(known)
    assert shares[~np.isnan(shares).any(1)].sum(1) == pytest.approx(1)


def test_two_mosaics_of_the_same_ground_give_the_same_tiles(
    write_raster: Writer, tmp_path: Path
) -> None:
    whole = write_raster("a/w.tif", scene(700, 900))
    west = write_raster("b/w.tif", scene(700, 500))
    east = write_raster("b/e.tif", scene(700, 410, 0, 490), left=560490.0)
    one = everything(tiles.tile([whole], str(tmp_path / "one")))
    two = everything(tiles.tile([west, east], str(tmp_path / "two")))
    name = [(r["row"], r["col"]) for r in one[0]]
    assert name == [(r["row"], r["col"]) for r in two[0]] and len(name) == 12
    assert np.array_equal(one[1], two[1])


def test_tiles_with_nodata_are_dropped_and_counted(write_raster: Writer, tmp_path: Path) -> None:
    pixels = np.maximum(scene(448, 448), 1)
    pixels[:, 10:13, 10:13] = 0  # nine pixels in the first tile
    pixels[:, 10:14, 300:303] = 0  # twelve in the second
    file = write_raster("a.tif", pixels, nodata=0)
    made = tiles.tile([file], str(tmp_path / "set"))
    assert made.tiles == 3 and made.info["dropped"]["nodata"] == 1
    shares = {(r["row"], r["col"]): r["nodata"] for r in everything(made)[0]}
    assert shares[(-18326, 2500)] == pytest.approx(9 / 224**2)
    assert tiles.tile([file], str(tmp_path / "all"), max_nodata=1.0).tiles == 4


def test_only_tiles_inside_an_outline_are_cut(imagery: str, tmp_path: Path) -> None:
    import shapely

    grid = Grid("EPSG:26917")
    area = shapely.box(*grid.range_bounds(TileRange(-18325, -18322, 2502, 2507)))
    file = str(tmp_path / "outline.gpkg")
    geopandas.GeoDataFrame(geometry=[area], crs="EPSG:26917").to_crs(4326).to_file(file)
    made = tiles.tile([imagery], str(tmp_path / "set"), within=file)
    rows, _ = everything(made)
    assert {(r["row"], r["col"]) for r in rows} == {
        (r, c) for r in range(-18325, -18322) for c in range(2502, 2507)
    }


def test_balance_gives_every_class_as_many_tiles_even_after_nodata(
    write_raster: Writer, tmp_path: Path
) -> None:
    pixels = np.maximum(scene(8 * 224, 40 * 224), 1)
    pixels[:, :448, : 5 * 224] = 0
    file = write_raster("a.tif", pixels, nodata=0)
    made = tiles.tile(
        [file], str(tmp_path / "set"), labels=labels_raster(write_raster), balance=True,
        labelled_only=True, block=2,
    )  # fmt: skip
    for split in ("train", "validation"):
        counts = made.info["audit"]["classes"][split]
        assert counts["Forest"] == counts["Developed"] > 0
    assert made.info["dropped"]["balance"] > 0


def test_a_cut_that_was_stopped_goes_on_and_gives_the_same(
    write_raster: Writer, tmp_path: Path
) -> None:
    file = write_raster("a.tif", scene(224 * 3, 224 * 70))
    whole = tiles.tile([file], str(tmp_path / "whole"))
    out = tmp_path / "set"
    tiles.tile([file], str(out))
    (out / "tileset.json").unlink()
    kept, lost = sorted((out / "parts").iterdir())[:2]
    stamp = kept.stat().st_mtime_ns
    lost.unlink()
    again = tiles.tile([file], str(out))
    assert kept.stat().st_mtime_ns == stamp  # finished work is not done again
    assert again.digest == whole.digest
    assert everything(again)[0] == everything(whole)[0]


def test_another_output_is_not_overwritten_unasked(imagery: str, tmp_path: Path) -> None:
    out = str(tmp_path / "set")
    tiles.tile([imagery], out)
    with pytest.raises(TileSetError, match="--overwrite"):
        tiles.tile([imagery], out, tile_m=448)
    assert tiles.tile([imagery], out, tile_m=448, overwrite=True).tiles == 24
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(TileSetError):
        tiles.tile([imagery], str(tmp_path / "mine"), overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x"


def pictures(folder: Path, n: int = 6) -> Path:
    rng = np.random.default_rng(5)
    for name, ending in (("Forest", "png"), ("Urban", "jpg"), ("Water", "tif")):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            chip = rng.integers(0, 256, (224, 224, 3)).astype(np.uint8)
            Image.fromarray(chip).save(folder / name / f"{i}.{ending}", quality=95)
    return folder


def test_pictures_are_packed_and_unpacked_without_loss(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in")
    made = tiles.pack(str(folder), str(tmp_path / "set"), validation=0.5)
    assert made.legend.names == ("Forest", "Urban", "Water")
    assert made.info["counts"]["split"] == {"train": 9, "validation": 9}
    assert tiles.unpack(made.uri, str(tmp_path / "out")) == 18
    for file in folder.rglob("*.*"):
        back = tmp_path / "out" / file.parent.name / f"{file.stem}.png"
        assert np.array_equal(np.asarray(Image.open(file)), np.asarray(Image.open(back)))


def test_a_folder_is_read_like_a_tile_set(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in")
    made = tiles.pack(str(folder), str(tmp_path / "set"), split=None)
    a, b = everything(tiles.open_tiles(str(folder))), everything(made)
    assert [r["path"] for r in a[0]] == [r["path"] for r in b[0]]
    assert np.array_equal(a[1], b[1])


def test_train_and_validation_folders_stay_what_they_are(tmp_path: Path) -> None:
    pictures(tmp_path / "in" / "train")
    pictures(tmp_path / "in" / "val")
    rows, _ = everything(tiles.open_tiles(str(tmp_path / "in")))
    assert {(r["path"].split("/")[0], r["split"]) for r in rows} == {
        ("train", "train"), ("val", "validation"),
    }  # fmt: skip


def test_the_same_picture_twice_is_packed_once(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in")
    shutil.copy(folder / "Forest" / "0.png", folder / "Forest" / "9.png")
    shutil.copy(folder / "Forest" / "1.png", folder / "Water" / "9.png")
    made = tiles.pack(str(folder), str(tmp_path / "set"))
    assert made.tiles == 18
    assert made.info["duplicates"] == [["Forest/9.png", "Forest/0.png"]]
    assert "another class" in made.info["skipped"]["listed"][0][1]


def test_a_split_by_county_field(imagery: str, write_raster: Writer, tmp_path: Path) -> None:
    grid = Grid("EPSG:26917")
    boxes = [TileRange(-18326, -18318, c, c + 4) for c in (2500, 2504, 2508)]
    import shapely

    frame = geopandas.GeoDataFrame(
        {"county": ["A", "B", "C"]},
        geometry=[shapely.box(*grid.range_bounds(b)) for b in boxes], crs="EPSG:26917",
    )  # fmt: skip
    frame.to_file(tmp_path / "c.gpkg")
    codes = write_raster("l.tif", np.full((1, 300, 300), 41, np.uint8), pixel=30.0)
    options: dict[str, Any] = {"labels": codes, "split": "source", "validation": 0.34}
    made = tiles.tile(
        [imagery], str(tmp_path / "set"), groups=str(tmp_path / "c.gpkg"),
        groups_field="county", **options,
    )  # fmt: skip
    rows, _ = everything(made)
    for start in (2500, 2504, 2508):
        assert len({r["split"] for r in rows if start <= r["col"] < start + 4} - {None}) == 1
    assert made.info["audit"]["touching"] == 0
    with pytest.raises(SplitError, match="--groups-field"):
        tiles.tile([imagery], str(tmp_path / "x"), groups=str(tmp_path / "c.gpkg"), **options)


def test_three_hundred_classes_keep_their_names(write_raster: Writer, tmp_path: Path) -> None:
    """Class ids of 8 bits would wrap at 128, those without a sign at 256."""
    names = [f"class {i}" for i in range(300)]
    legend = from_dict(
        {"name": "many", "classes": [{"name": n, "codes": [i]} for i, n in enumerate(names)]}
    )
    codes = np.arange(300, dtype=np.int32).reshape(15, 20)
    pixels = codes.repeat(32, axis=0).repeat(32, axis=1)
    made = tiles.tile(
        [write_raster("a.tif", scene(480, 640))], str(tmp_path / "set"), tile_m=32, split=None,
        labels=write_raster("l.tif", pixels[None]), legend=legend,
    )  # fmt: skip
    rows, _ = everything(made)
    got = {(r["row"] + 128282, r["col"] - 17500): r["label"] for r in rows}
    assert got == {(i // 20, i % 20): n for i, n in enumerate(names)}


def test_options_that_need_labels_are_not_ignored(imagery: str, tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="--balance needs labels"):
        tiles.tile([imagery], str(tmp_path / "set"), balance=True)


def test_real_imagery_with_its_nlcd(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "naip-nlcd-wv"
    made = tiles.tile(
        [str(f) for f in sorted(folder.glob("*_2014.tif"))], str(tmp_path / "set"),
        labels=str(folder / "nlcd.tif"), rule="majority", split=None, date="2014",
    )  # fmt: skip
    rows, chips = everything(made)
    assert made.tiles == 12 and {r["date"] for r in rows} == {"2014"}
    assert {r["label"] for r in rows} <= {None, *made.legend.names}
    assert chips.std() > 10


def test_ten_years_of_one_quarter_quad_have_the_same_tile_ids(
    real_data: Path, tmp_path: Path
) -> None:
    found = []
    for file in sorted((real_data / "naip-nd").glob("*.tif")):
        made = tiles.tile(
            [str(file)], str(tmp_path / file.stem), pixel_m=5.0, tile_m=1120.0, max_nodata=0.01
        )
        found.append({(r["row"], r["col"]) for r in everything(made)[0]})
    assert len(found) == 10 and len(found[0]) == 12
    assert all(f == found[0] for f in found)


def test_a_layer_is_named_for_every_vector_file_of_several(
    imagery: str, write_raster: Writer, tmp_path: Path
) -> None:
    import shapely

    grid = Grid("EPSG:26917")
    boxes = [TileRange(-18326, -18318, c, c + 6) for c in (2500, 2506)]
    frame = geopandas.GeoDataFrame(
        {"class": ["forest", "Developed"]},
        geometry=[shapely.box(*grid.range_bounds(b)) for b in boxes], crs="EPSG:26917",
    )  # fmt: skip
    for layer, part in (("plots", frame), ("west", frame.iloc[:1])):
        part.to_file(tmp_path / "two.gpkg", layer=layer)
    file, codes = str(tmp_path / "two.gpkg"), labels_raster(write_raster)
    out = str(tmp_path / "set")
    made = tiles.tile([imagery], out, labels=file, layer="plots", split=None)
    assert made.info["counts"]["label"] == {"Developed": 48, "Forest": 48}
    inside = tiles.tile(
        [imagery], str(tmp_path / "w"), labels=codes, within=file, layer="west", split=None
    )
    assert inside.tiles == 48
    with pytest.raises(LabelError, match="2 layers"):
        tiles.tile([imagery], str(tmp_path / "x"), labels=file)
    with pytest.raises(LabelError, match="no layer 'plot'; did you mean plots"):
        tiles.tile([imagery], str(tmp_path / "x"), labels=file, layer="plot")
    with pytest.raises(LabelError, match="--layer a is for vector files of several"):
        tiles.tile([imagery], str(tmp_path / "x"), labels=codes, layer="a")
