"""Parts are what their manifest says, or one clear line; SHA-256 against hashlib."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import made_scores
import small_tiles
from conftest import Writer, scene
from crafted import relist
from quadrat import backbones, geoparquet, maps, scores, tiles
from quadrat.errors import QuadratError, ScoresError, StorageError, TileSetError
from quadrat.features import featurize
from quadrat.geoparquet import Expected
from quadrat.heads import train
from quadrat.scores import open_scores
from quadrat.scoring import score
from quadrat.tiles import TileSet

CHANGED = r"part-0000\d\.parquet is not the part that was written there.*run the command again"


@dataclass(frozen=True)
class Originals:
    """A raster, a model, and what was made from them."""

    raster: str
    model: str
    tiles: str
    scores: str


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Originals:
    folder = tmp_path_factory.mktemp("originals")
    raster = small_tiles.write_raster(folder / "r.tif", 32, 32)
    model = small_tiles.save_model(str(folder / "model"))
    made = tiles.tile([raster], str(folder / "tiles"), tile_m=8.0, split=None)
    return Originals(raster, model, made.uri, score(model, made.uri, str(folder / "scores")).uri)


@pytest.fixture
def made(originals: Originals, tmp_path: Path) -> TileSet:
    """A tile set of four parts of 16 x 16 tiles."""
    shutil.copytree(originals.tiles, tmp_path / "tiles")
    return tiles.open_tileset(str(tmp_path / "tiles"))


@pytest.fixture
def scored(originals: Originals, tmp_path: Path) -> str:
    """Its scores."""
    shutil.copytree(originals.scores, tmp_path / "scores")
    return str(tmp_path / "scores")


def files(folder: str) -> list[Path]:
    return sorted(Path(folder, "parts").glob("*.parquet"))


def manifest(folder: str) -> Path:
    return next(p for n in ("tileset.json", "scores.json") if (p := Path(folder, n)).exists())


def shorter(file: Path) -> None:
    table = pq.read_table(file)
    pq.write_table(table.slice(0, len(table) // 2), file)


def flipped(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 1
    file.write_bytes(data)


DAMAGE = {
    "shorter": shorter,
    "one bit": flipped,
    "another part": lambda f: shutil.copy(f.with_name("part-00001.parquet"), f),
    "cut off": lambda f: f.write_bytes(f.read_bytes()[:-20]),
    "empty": lambda f: f.write_bytes(b""),
    "gone": lambda f: f.unlink(),
}


def test_manifests_list_the_rows_and_the_sha256_of_each_part(made: TileSet, scored: str) -> None:
    for folder in (made.uri, scored):
        listed = json.loads(manifest(folder).read_text())["parts"]
        assert [p["name"] for p in listed] == [f.stem for f in files(folder)]
        for entry, file in zip(listed, files(folder), strict=True):
            assert entry["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
            assert entry["tiles"] == pq.read_metadata(file).num_rows == 256


def test_the_same_cut_elsewhere_has_the_same_digest(
    originals: Originals, made: TileSet, tmp_path: Path
) -> None:
    again = tiles.tile([originals.raster], str(tmp_path / "b"), tile_m=8.0, split=None)
    assert again.digest == made.digest and again.records == made.records
    assert [f.read_bytes() for f in files(again.uri)] == [f.read_bytes() for f in files(made.uri)]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_part_of_a_tile_set_is_never_scored_or_learned_from(
    originals: Originals, made: TileSet, tmp_path: Path, damage: str
) -> None:
    DAMAGE[damage](files(made.uri)[0])
    graph = _graph()
    for use in (
        lambda: score(originals.model, made.uri, str(tmp_path / "s")),
        lambda: featurize(tiles.open_tileset(made.uri), graph),
        lambda: tiles.unpack(made.uri, str(tmp_path / "png")),
    ):
        with pytest.raises(QuadratError, match=r"part-0000\d\.parquet") as caught:
            use()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "s" / "scores.json").exists()


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_scores_are_never_counted(scored: str, tmp_path: Path, damage: str) -> None:
    DAMAGE[damage](files(scored)[0])
    for use in (
        lambda: maps.map(scored, str(tmp_path / "map.tif")),
        lambda: scores.read(scored),
        lambda: open_scores(scored).table(),
    ):
        with pytest.raises(QuadratError, match=r"part-0000\d\.parquet") as caught:
            use()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_same_command_makes_damaged_parts_again(
    originals: Originals, made: TileSet, scored: str, damage: str
) -> None:
    before = [f.read_bytes() for folder in (made.uri, scored) for f in files(folder)]
    stamps = [files(folder)[-1].stat().st_mtime_ns for folder in (made.uri, scored)]
    for folder in (made.uri, scored):
        DAMAGE[damage](files(folder)[0])
    tiles.tile([originals.raster], made.uri, tile_m=8.0, split=None)
    score(originals.model, made.uri, scored)
    assert before == [f.read_bytes() for folder in (made.uri, scored) for f in files(folder)]
    assert stamps == [files(folder)[-1].stat().st_mtime_ns for folder in (made.uri, scored)]
    assert len(open_scores(scored).table()) == made.tiles


def halved(data: dict[str, Any]) -> None:
    data["parts"] = data["parts"][::2]


def recounted(data: dict[str, Any]) -> None:
    data["parts"][0]["tiles"] -= 1
    data["parts"][1]["tiles"] += 1


def doubled(data: dict[str, Any]) -> None:
    data["parts"].append(data["parts"][0])


def unhashed(data: dict[str, Any]) -> None:
    data["parts"][0]["sha256"] = "x"


def believed(data: dict[str, Any]) -> None:
    data["digest"] = "0" * 64


def unlisted(data: dict[str, Any]) -> None:
    del data["parts"][0]["sha256"]


@pytest.mark.parametrize("craft", [halved, recounted, doubled, unhashed, believed, unlisted])
def test_a_manifest_whose_list_does_not_hold_is_refused(
    made: TileSet, scored: str, craft: Callable[[dict[str, Any]], None]
) -> None:
    for folder, opens in ((made.uri, tiles.open_tileset), (scored, open_scores)):
        place = manifest(folder)
        data = json.loads(place.read_text())
        craft(data)
        place.write_text(json.dumps(data))
        with pytest.raises((TileSetError, ScoresError), match="is damaged") as caught:
            opens(folder)
        assert "\n" not in str(caught.value)


def test_what_an_earlier_quadrat_made_is_refused_with_the_cure(made: TileSet, scored: str) -> None:
    for folder, opens in ((made.uri, tiles.open_tileset), (scored, open_scores)):
        place = manifest(folder)
        data = json.loads(place.read_text())
        data["version"], data["parts"] = 1, [{"name": "part-00000.parquet", "tiles": 256}]
        place.write_text(json.dumps(data))
        with pytest.raises(QuadratError, match=r"no digests.*run the command.*--overwrite"):
            opens(folder)


def _graph() -> Any:
    return backbones.feature_graph("mean_colour", size_px=small_tiles.SIZE)


def two_classes(folder: Path, swapped: bool) -> TileSet:
    """Dark and bright tiles, called by their names or by each other's; balanced and split."""
    from PIL import Image

    rng = np.random.default_rng(1)
    for name, low in (("Dark", 0), ("Bright", 128)):
        place = folder / ("Bright" if (name == "Dark") == swapped else "Dark")
        place.mkdir(parents=True)
        for i in range(60):
            pixels = rng.integers(low, low + 100, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(place / f"{i}.png")
    return tiles.pack(str(folder), str(folder) + "-set", size_px=8)


def test_a_crafted_set_never_poisons_the_features_of_an_honest_one(tmp_path: Path) -> None:
    honest = two_classes(tmp_path / "honest", swapped=False)
    crafted = two_classes(tmp_path / "crafted", swapped=True)
    assert honest.digest != crafted.digest
    for line in ("digest", "parts"):  # it says that it is the other, in part or in whole
        data = json.loads(manifest(crafted.uri).read_text())
        data[line] = json.loads(manifest(honest.uri).read_text())[line]
        manifest(crafted.uri).write_text(json.dumps(data))
        with pytest.raises(QuadratError):
            train(crafted.uri, str(tmp_path / f"bad-{line}"), backbone="mean_colour")
    done = train(honest.uri, str(tmp_path / "good"), backbone="mean_colour")
    assert done.metrics is not None and done.metrics["overall"]["value"] == 1.0
    table = open_scores(score(done.uri, honest.uri, str(tmp_path / "s")).uri).table()
    assert table["label"].to_pylist() == table["truth"].to_pylist()


@pytest.mark.parametrize("null", ["row", "col"])
def test_doubled_rows_are_found_beside_a_row_without_a_place(
    write_raster: Writer, tmp_path: Path, null: str
) -> None:
    made = tiles.tile([write_raster("a.tif", scene(448, 448))], str(tmp_path / "set"))
    uri = made.parts()[0].uri
    table = geoparquet.read_part(uri)
    table = pa.concat_tables([table, table])
    at = table.column_names.index(null)
    values = pa.array([None, *table[null].to_pylist()[1:]], pa.int32())
    geoparquet.write_part(uri, table.set_column(at, null, values), "EPSG:26917")
    with pytest.raises(TileSetError, match="have a place and the others have none"):
        tiles.index(relist(made))


def test_rows_with_neither_place_nor_path_are_refused() -> None:
    from quadrat.tiles.sets import check_unique

    nothing = pa.table({"row": pa.nulls(3, pa.int32()), "col": pa.nulls(3, pa.int32()),
                        "path": pa.array(["a", None, "a"])})  # fmt: skip
    with pytest.raises(TileSetError, match="neither a place nor a path"):
        check_unique(nothing, "set")


def test_scores_of_a_set_with_doubled_rows_are_not_finished(
    originals: Originals, made: TileSet, tmp_path: Path
) -> None:
    uri = made.parts()[0].uri
    table = geoparquet.read_part(uri)
    geoparquet.write_part(uri, pa.concat_tables([table, table.slice(0, 1)]), "EPSG:26917")
    with pytest.raises(TileSetError, match="stands in it twice"):
        score(originals.model, relist(made).uri, str(tmp_path / "s"))
    assert not (tmp_path / "s" / "scores.json").exists()


def test_balancing_is_finished_by_the_same_command_at_any_moment(
    write_raster: Writer, tmp_path: Path
) -> None:
    image = write_raster("a.tif", scene(224 * 2, 224 * 40))
    codes = np.where(np.arange(80) < 20, 41, 11).astype(np.uint8)
    labels = write_raster("l.tif", np.broadcast_to(codes, (1, 4, 80)), pixel=112.0)
    how: dict[str, Any] = {"labels": labels, "split": "random", "balance": True, "rule": "majority"}
    whole = tiles.tile([image], str(tmp_path / "whole"), **how)
    out = str(tmp_path / "set")
    tiles.tile([image], out, **how)
    manifest(out).unlink()
    again = tiles.tile([image], out, **how)
    assert again.digest == whole.digest and again.info["counts"] == whole.info["counts"]
    assert tiles.tile([image], out, **how).digest == whole.digest


def test_parts_larger_than_what_is_held_in_memory_are_checked_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(geoparquet, "HELD", 1000)
    uri, table = str(tmp_path / "a.parquet"), pa.table({"a": np.arange(5000)})
    written = geoparquet.write_part(uri, table, None)
    assert written == Expected(5000, hashlib.sha256(Path(uri).read_bytes()).hexdigest())
    assert geoparquet.read_part(uri, expected=written).equals(table)
    with pytest.raises(StorageError, match="is not the part that was written there"):
        geoparquet.read_part(uri, expected=Expected(5000, "0" * 64))
    with pytest.raises(StorageError, match="is not the part that was written there"):
        geoparquet.read_part(uri, expected=Expected(4999, written.sha256))


def test_scores_made_by_arrays_open(tmp_path: Path) -> None:
    rows, cols = made_scores.square(4)
    uri = made_scores.write_scores(
        str(tmp_path / "s"), rows, cols, made_scores.certain(np.zeros(16, int))
    )
    opened = open_scores(uri)
    there = [p.stem for p in sorted(Path(uri, "parts").glob("*.parquet"))]
    assert opened.tiles == 16 and there == list(opened.names)
