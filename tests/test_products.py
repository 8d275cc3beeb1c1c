"""Who may write into an output folder: never over another kind; failures block nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import made_scores
import small_tiles
from conftest import Writer, scene
from quadrat import codec, products, storage, tiles
from quadrat.changes import change
from quadrat.county import make_county
from quadrat.errors import LabelError, QuadratError, ScoresError, TileSetError
from quadrat.heads import train
from quadrat.scores import open_scores
from quadrat.scoring import score


def everything(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name != ".lock"
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A raster, and one small product of several kinds."""
    folder = tmp_path_factory.mktemp("world")
    raster = small_tiles.write_raster(folder / "r.tif", 16, 16)
    model = small_tiles.save_model(str(folder / "models"))
    made = tiles.tile([raster], str(folder / "tiles"), tile_m=8.0, split=None)
    scores = score(model, made.uri, str(folder / "scores")).uri
    for date in (1, 2):
        rows, cols = made_scores.square(6)
        p = made_scores.certain(np.zeros(36, int))
        made_scores.write_scores(str(folder / f"date{date}"), rows, cols, p, date=f"200{date}")
    change([str(folder / "date1"), str(folder / "date2")], str(folder / "change"), show=0)
    picture = folder / "pictures" / "Forest"
    picture.mkdir(parents=True)
    (picture / "a.png").write_bytes(codec.get_encoding("png").encode(np.zeros((8, 8, 3), np.uint8)))
    return {
        "raster": raster, "models": model, "tiles": made.uri, "scores": scores,
        "change": str(folder / "change"), "pictures": str(folder / "pictures"),
        "dates": str(folder),
    }  # fmt: skip


WRITERS: dict[str, Callable[[dict[str, str], str], Any]] = {
    "tile": lambda w, out: tiles.tile([w["raster"]], out, tile_m=8.0, overwrite=True),
    "pack": lambda w, out: tiles.pack(w["pictures"], out, size_px=8, split=None, overwrite=True),
    "balance": lambda w, out: tiles.balance(
        tiles.pack(w["pictures"], out + "-p", size_px=8, split=None).uri, out, overwrite=True
    ),
    "unpack": lambda w, out: tiles.unpack(w["tiles"], out),
    "score": lambda w, out: score(w["models"], w["tiles"], out, overwrite=True),
    "train": lambda w, out: train(w["tiles"], out, backbone="mean_colour"),
    "change": lambda w, out: change(
        [f"{w['dates']}/date1", f"{w['dates']}/date2"], out, show=0, overwrite=True
    ),
    "demo": lambda w, out: make_county(out, tiles=16, workers=1),
}
OWN = {"tile": "tiles", "pack": "tiles", "balance": "tiles", "score": "scores", "train": "models",
       "change": "change"}  # fmt: skip


@pytest.mark.parametrize("verb", WRITERS)
def test_no_verb_writes_over_another_kind_of_product(
    world: dict[str, str], tmp_path: Path, verb: str
) -> None:
    for kind in ("tiles", "models", "scores", "change"):
        if OWN.get(verb) == kind:
            continue
        out = tmp_path / kind
        shutil.copytree(world[kind], out)
        before = everything(out)
        with pytest.raises(QuadratError, match=r"holds .*choose another --out") as caught:
            WRITERS[verb](world, str(out))
        assert "\n" not in str(caught.value)
        assert everything(out) == before


def test_an_unfinished_product_of_another_kind_is_left_as_well(
    world: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "tiles"
    shutil.copytree(world["tiles"], out)
    (out / "tileset.json").unlink()
    before = everything(out)
    with pytest.raises(ScoresError, match="holds a tile set, not scores"):
        score(world["models"], world["tiles"], str(out), overwrite=True)
    assert everything(out) == before


def test_a_command_that_failed_is_not_in_the_way_of_the_next(
    write_raster: Writer, world: dict[str, str], tmp_path: Path
) -> None:
    image, out = write_raster("a.tif", scene(448, 448)), str(tmp_path / "set")
    elsewhere = write_raster("l.tif", np.full((1, 9, 9), 41, np.uint8), left=700000.0)
    with pytest.raises(LabelError, match="does not overlap"):
        tiles.tile([image], out, labels=elsewhere)
    dark = write_raster("dark.tif", np.zeros((3, 448, 448), np.uint8))
    with pytest.raises(TileSetError, match="no tile is left"):
        tiles.tile([dark], out, nodata=0)
    assert storage.list_names(out) == []
    assert tiles.tile([image], out).tiles == 4

    out = str(tmp_path / "scores")
    with pytest.raises(ScoresError, match="no tile of"):
        score(world["models"], dark, out, nodata=0)
    assert storage.list_names(out) == []
    assert score(world["models"], dark, out).tiles == open_scores(out).tiles > 0


def test_a_plan_without_parts_is_replaced_and_one_with_parts_is_not(
    world: dict[str, str], tmp_path: Path
) -> None:
    out = str(tmp_path / "set")
    products.write_plan("tiles", out, "another")  # of a run that was killed at once
    made = tiles.tile([world["raster"]], out, tile_m=8.0)
    Path(out, "tileset.json").unlink()
    with pytest.raises(TileSetError, match=r"an unfinished run of a tile set.*--overwrite"):
        tiles.tile([world["raster"]], out, tile_m=16.0)
    assert len(list(Path(out, "parts").glob("*.parquet"))) == len(made.parts())
    assert tiles.tile([world["raster"]], out, tile_m=16.0, overwrite=True).tiles == 64


def test_other_files_stay_and_are_never_overwritten(world: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "mine" / "parts").mkdir(parents=True)
    (tmp_path / "mine" / "parts" / "part-00000.parquet").write_text("x")
    before = everything(tmp_path / "mine")
    for verb in ("tile", "pack", "score"):
        with pytest.raises(QuadratError, match=r"holds other files \(parts\)"):
            WRITERS[verb](world, str(tmp_path / "mine"))
    assert everything(tmp_path / "mine") == before


def test_only_files_of_dead_processes_are_swept_where_several_write(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        with storage.atomic_path(str(tmp_path / "a.bin")):
            os._exit(0)  # as if killed: nothing is cleaned up
    os.waitpid(pid, 0)
    with storage.atomic_path(str(tmp_path / "b.bin")) as mine:
        foreign = tmp_path / ".part-00000000-1-x.tmp.bin"
        foreign.touch()
        assert len(list(tmp_path.iterdir())) == 3
        storage.sweep(str(tmp_path), dead=True)
        assert sorted(tmp_path.iterdir()) == sorted([mine, foreign])
        foreign.unlink()
    assert [p.name for p in tmp_path.iterdir()] == ["b.bin"]


def test_scratch_folders_go_and_those_of_killed_processes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = (
        "import os, signal, tempfile; from quadrat import storage\n"
        f"tempfile.tempdir = {str(tmp_path)!r}\n"
        "with storage.scratch('run') as folder:\n"
        "    (folder / 'a').write_text('a'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    (left,) = tmp_path.iterdir()
    with storage.scratch("run") as first, storage.scratch("run") as second:
        assert first != second and first.is_dir() and second.is_dir()  # this process lives
        assert not left.exists()
    assert not list(tmp_path.iterdir())
