"""Scoring: every tile exactly once, however it is read and however often it is killed."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import geopandas
import geopandas.testing
import numpy as np
import onnxruntime
import pandas
import pyarrow.parquet
import pytest

from quadrat import tiles
from quadrat.engines import get_engine
from quadrat.errors import ModelError, ScoresError
from quadrat.scores import open_scores
from quadrat.scoring import score


def by_tile(uri: str) -> dict[tuple[int, int], dict]:
    rows = open_scores(uri).table().to_pylist()
    found = {(r["row"], r["col"]): r for r in rows}
    assert len(found) == len(rows)
    return found


def test_scores_are_what_the_model_file_says(
    county_model: str, county_tiles: Any, tmp_path: Path
) -> None:
    """Against ONNX Runtime on the bundle's file, with no code of ours in between."""
    out = str(tmp_path / "scores")
    summary = score(county_model, county_tiles.uri, out, precision="fp32")
    assert summary.tiles == county_tiles.tiles == sum(summary.counts.values())
    session = onnxruntime.InferenceSession(Path(county_model) / "model.onnx")
    scores, names = by_tile(out), county_tiles.legend.names
    for part in county_tiles.parts():
        for batch in tiles.read_part(part):
            want = session.run(None, {session.get_inputs()[0].name: batch.chips})
            for row, p, share, far in zip(batch.index.to_pylist(), *want, strict=True):
                got = scores[row["row"], row["col"]]
                # runtimes add up a tile's 50,176 pixels in orders of their own
                assert [got[f"p_{n}"] for n in names] == pytest.approx(p, abs=5e-4)
                assert [got[f"share_{n}"] for n in names] == pytest.approx(share, abs=5e-4)
                assert got["distance"] == pytest.approx(far[0], abs=5e-3)
                assert [got[f"frac_{n}"] for n in names] == [row[f"frac_{n}"] for n in names]
                assert got["label"] == names[int(p.argmax())] or np.sort(p)[-2:].ptp() < 1e-3
                assert got["truth"] == row["label"] and got["split"] == row["split"]


def test_rasters_straight_give_the_same_as_the_tile_set(
    county: Any, county_model: str, county_tiles: Any, tmp_path: Path
) -> None:
    score(county_model, county_tiles.uri, str(tmp_path / "a"))
    score(county_model, [county.imagery[0]], str(tmp_path / "b"))
    a, b = by_tile(str(tmp_path / "a")), by_tile(str(tmp_path / "b"))
    assert a.keys() == b.keys()
    names = [f"p_{n}" for n in county_tiles.legend.names]
    for key, row in a.items():
        assert [row[n] for n in names] == pytest.approx([b[key][n] for n in names], abs=1e-5)


def test_scores_open_in_geopandas(county_model: str, county: Any, tmp_path: Path) -> None:
    score(county_model, [county.imagery[0]], str(tmp_path / "s"))
    frame = geopandas.read_parquet(sorted((tmp_path / "s" / "parts").iterdir())[0])
    assert frame.crs.to_epsg() == 26917
    assert frame.geometry.area.to_numpy() == pytest.approx(224.0**2)


def test_all_scores_in_one_file_open_in_geopandas(
    county_model: str, county_tiles: Any, tmp_path: Path
) -> None:
    one = str(tmp_path / "scores.parquet")
    done = score(county_model, county_tiles.uri, str(tmp_path / "s"), parquet=one)
    frame = geopandas.read_parquet(one)
    assert len(frame) == done.tiles and frame.crs.to_epsg() == 26917
    parts = [geopandas.read_parquet(p) for p in sorted((tmp_path / "s" / "parts").iterdir())]
    geopandas.testing.assert_geodataframe_equal(frame, pandas.concat(parts, ignore_index=True))
    about = json.loads(pyarrow.parquet.read_schema(one).metadata[b"geo"])
    assert about["version"] == "1.0.0"  # GDAL 3.5, of QGIS 3.28, reads it


def test_csv_and_a_sample(county_model: str, county_tiles: Any, tmp_path: Path) -> None:
    file = str(tmp_path / "pred.csv")
    some = score(county_model, county_tiles.uri, str(tmp_path / "s"), sample_frac=0.5, csv=file)
    assert 0.35 < some.tiles / county_tiles.tiles < 0.65
    with Path(file).open() as text:
        rows = list(csv.DictReader(text))
    assert len(rows) == some.tiles and set(rows[0]) == {"filepath", "pred_label"}
    again = score(county_model, county_tiles.uri, str(tmp_path / "t"), sample_frac=0.5)
    assert by_tile(some.uri).keys() == by_tile(again.uri).keys()


def test_a_folder_of_pictures_is_scored(
    county_model: str, county_tiles: Any, tmp_path: Path
) -> None:
    tiles.unpack(county_tiles.uri, str(tmp_path / "png"))
    (tmp_path / "png" / "Forest" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
    (tmp_path / "png" / "Forest" / "other.webp").touch()
    got = score(county_model, str(tmp_path / "png"), str(tmp_path / "s"))
    assert got.tiles == county_tiles.tiles and got.skipped == 1
    assert ".webp files skipped: 1 (Forest/other.webp)" in got.warnings[0]
    assert got.listed[0].name == "Forest/bad.png"
    straight = score(county_model, county_tiles.uri, str(tmp_path / "t"))
    assert got.counts == straight.counts


KILLED = """
import sys, time
from quadrat.engines import get_engine
from quadrat.scoring import score, task
read = task.read_ahead
def slow(part, size):
    for batch in read(part, size):
        time.sleep(0.05)
        yield batch
task.read_ahead = slow
score(sys.argv[1], sys.argv[2], sys.argv[3], engine=get_engine(workers=1))
"""


@pytest.mark.long
def test_killed_at_any_moment_and_started_again_every_tile_is_scored_once(
    county_model: str, county_tiles: Any, tmp_path: Path
) -> None:
    out = str(tmp_path / "s")
    tiles.unpack(county_tiles.uri, str(tmp_path / "png"))
    source = str(tmp_path / "png")
    command = [sys.executable, "-c", f"from quadrat.tiles import folders\n"
               f"folders.PART_TILES = 40\n{KILLED}", county_model, source, out]  # fmt: skip
    for attempt in range(3):
        process = subprocess.Popen(command)
        limit = time.monotonic() + 60
        while time.monotonic() < limit and process.poll() is None:
            if len(list(Path(out, "parts").glob("part-*.parquet"))) > attempt:
                break
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with pytest.raises(ScoresError, match="unfinished"):
            open_scores(out)
    subprocess.run(command, check=True, timeout=120)
    rows = open_scores(out).table(["path"])["path"].to_pylist()
    assert len(rows) == len(set(rows)) == county_tiles.tiles
    assert not list(Path(out).rglob("*.tmp*"))


def test_two_processes_on_one_output_are_one_too_many(
    county_model: str, county_tiles: Any, tmp_path: Path
) -> None:
    from quadrat import storage
    from quadrat.errors import LockedError

    out = str(tmp_path / "s")
    with storage.lock(out), pytest.raises(LockedError, match="another process"):
        score(county_model, county_tiles.uri, out)


def test_other_scores_are_not_overwritten_unasked(
    county_model: str, county: Any, county_tiles: Any, tmp_path: Path
) -> None:
    out = str(tmp_path / "s")
    score(county_model, county_tiles.uri, out)
    with pytest.raises(ScoresError, match="--overwrite"):
        score(county_model, [county.imagery[1]], out)
    score(county_model, [county.imagery[1]], out, overwrite=True)
    assert open_scores(out).info["source"]["kind"] == "rasters"


def test_tiles_of_another_size_are_refused(county_model: str, county: Any, tmp_path: Path) -> None:
    other = tiles.tile([county.imagery[0]], str(tmp_path / "set"), tile_m=448.0)
    with pytest.raises(ModelError, match=r"448 px.*224 px"):
        score(county_model, other.uri, str(tmp_path / "s"))
    coarse = tiles.tile([county.imagery[0]], str(tmp_path / "c"), tile_m=448.0, pixel_m=2.0)
    with pytest.raises(ModelError, match="cut them alike"):
        score(county_model, coarse.uri, str(tmp_path / "s"))


def test_workers_do_not_change_the_scores(county_model: str, county: Any, tmp_path: Path) -> None:
    for n in (1, 3):
        score(
            county_model, [county.imagery[0]], str(tmp_path / str(n)), engine=get_engine(workers=n)
        )
    one, three = (by_tile(str(tmp_path / str(n))) for n in (1, 3))
    assert {k: v["label"] for k, v in one.items()} == {k: v["label"] for k, v in three.items()}


@pytest.mark.parametrize("frac", [0.0, 1.5])
def test_a_wrong_sample_is_refused(county_model: str, tmp_path: Path, frac: float) -> None:
    with pytest.raises(ScoresError, match="sample-frac"):
        score(county_model, str(tmp_path), str(tmp_path / "s"), sample_frac=frac)
