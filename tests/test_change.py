"""`change` from scores and from imagery: the list, its files, pictures, series, bad input."""

from __future__ import annotations

import csv
import io
import json
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
from PIL import Image

from made_scores import GRID, certain, square, write_scores
from quadrat import storage
from quadrat.changes import change, pictures, read_result
from quadrat.cli import run
from quadrat.errors import InputError, ScoresError
from quadrat.grid import Grid, TileId
from quadrat.legend import load_legend
from quadrat.scores import DateScores
from quadrat.tiles import surroundings

SIDE = 40
NAMES = load_legend("nlcd6").names


def scores_of(
    z: np.ndarray, rng: np.random.Generator, tilt: np.ndarray | None = None
) -> np.ndarray:
    """Calibrated probabilities of six classes; `tilt` is what a season adds to the logits."""
    signal = rng.normal(size=(len(z), 6))
    signal[np.arange(len(z)), z] += 3.2
    logits = 3.2 * signal
    if tilt is not None:
        logits = 0.7 * logits + tilt
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def truth(rng: np.random.Generator, dates: int = 2) -> np.ndarray:
    """(N, dates) classes; about 2% of the tiles become Developed in each interval, in pairs."""
    n = SIDE * SIDE
    z = np.repeat(rng.choice(6, n, p=[0.05, 0.2, 0.15, 0.35, 0.15, 0.1])[:, None], dates, axis=1)
    for t in range(1, dates):
        for i in rng.choice(n - 1, int(0.01 * n), replace=False):
            z[i : i + 2, t:] = 2
    return z


TILT = np.array([0.0, 0.5, 3.0, -2.0, 1.0, 0.0])  # bare trees look like roofs


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, np.ndarray]:
    """Two dates of scores, the second in another season; the true classes."""
    folder = tmp_path_factory.mktemp("two")
    rng = np.random.default_rng(0)
    z, (rows, cols) = truth(rng), square(SIDE)
    split = np.where(rng.random(len(rows)) < 0.4, "test", "train")
    first = write_scores(
        str(folder / "a"), rows, cols, scores_of(z[:, 0], rng), truth=z[:, 0], split=split,
        date="2011",
    )  # fmt: skip
    second = write_scores(str(folder / "b"), rows, cols, scores_of(z[:, 1], rng, TILT), date="2014")
    return first, second, z


def test_the_list_holds_real_changes_where_compared_maps_hold_the_season(
    two: tuple[str, str, np.ndarray], tmp_path: Path
) -> None:
    first, second, z = two
    got = change([first, second], str(tmp_path), to_classes=["developed"], show=0)
    real = (z[:, 0] != 2) & (z[:, 1] == 2)
    rows, cols = square(SIDE)
    at = {(r, c): i for i, (r, c) in enumerate(zip(rows.tolist(), cols.tolist(), strict=True))}
    table = list(csv.DictReader((tmp_path / "candidates.csv").read_text().splitlines()))
    hits = np.array([real[at[int(r["row"]), int(r["col"])]] for r in table])
    assert got.candidates == len(table) and got.wanted == "any class to Developed"
    assert hits.mean() > 0.8 and hits.sum() > 0.55 * real.sum()
    compared = sum(m.compared for m in got.moves if m.target == "Developed")
    assert compared > 2 * real.sum()
    false = (~hits).sum()
    assert abs(got.expected_false - false) < 3 + 2 * np.sqrt(max(false, 1))
    stated = np.array([float(r["probability"]) for r in table])
    assert np.all(np.diff(stated) <= 1e-9) and stated.min() >= 0.5
    assert float(table[-1]["expected_false"]) == pytest.approx((1 - stated).sum(), abs=1e-3)
    net = got.net[2]
    assert net.low < (z[:, 1] == 2).sum() - (z[:, 0] == 2).sum() < net.high
    assert sum(f.value for f in got.net) == pytest.approx(0, abs=1e-3)


def test_no_step_returns_to_an_earlier_one(
    two: tuple[str, str, np.ndarray], tmp_path: Path
) -> None:
    """A reader who follows `change` opens its modules one after the other.

    Each function of the room counts when it is first called, by the module it stands in.
    """
    met: dict[Any, str] = {}

    def watch(frame: Any, event: str, _: Any) -> None:
        module, code = frame.f_globals.get("__name__", ""), frame.f_code
        if event == "call" and module.startswith("quadrat.changes") and code.co_name[0] != "<":
            met.setdefault(code, module)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        change(list(two[:2]), str(tmp_path), show=0)
    finally:
        sys.setprofile(before)
    walk = [module for module, _ in groupby(met.values())]
    assert len(set(walk)) >= 10
    assert len(walk) - len(set(walk)) <= 8


def test_the_files_open_elsewhere_and_agree(
    two: tuple[str, str, np.ndarray], tmp_path: Path
) -> None:
    got = change(list(two[:2]), str(tmp_path), show=0)
    parquet = geopandas.read_parquet(got.files["parquet"])
    geojson = geopandas.read_file(got.files["geojson"])
    text = list(csv.DictReader(Path(got.files["csv"]).read_text().splitlines()))
    assert len(parquet) == len(geojson) == len(text) == got.candidates > 10
    assert parquet.crs.to_epsg() == 26917 and geojson.crs.to_epsg() == 4326
    bounds = GRID.bounds(TileId(int(text[0]["row"]), int(text[0]["col"])))
    assert parquet.geometry[0].bounds == pytest.approx(tuple(bounds))
    back = geojson.to_crs(26917).geometry[0].bounds
    assert back == pytest.approx(tuple(bounds), abs=0.02)
    assert parquet["from"].tolist() == [r["from"] for r in text] == geojson["from"].tolist()
    every = geopandas.read_parquet(got.files["transitions"])
    assert len(every) == SIDE * SIDE and set(every["class_2"]) <= set(NAMES)
    said = read_result(str(tmp_path))
    assert said["candidates"] == got.candidates and said["dates"] == ["2011", "2014"]
    matrix = {(m["from"], m["to"]): m["expected"]["value"] for m in said["moves"]}
    assert sum(matrix.values()) == pytest.approx(got.changed[0].value, rel=0.05)
    assert "| From | To |" in Path(got.files["md"]).read_text()


def test_a_coarser_legend_folds_the_result(
    two: tuple[str, str, np.ndarray], tmp_path: Path
) -> None:
    fine = change(list(two[:2]), str(tmp_path / "fine"), show=0)
    coarse = change(
        list(two[:2]), str(tmp_path / "coarse"), legend="nlcd3", from_classes=["Undeveloped"],
        to_classes=["Developed"], show=0,
    )  # fmt: skip
    wild = ("Barren", "Forest", "Herbaceous", "Shrub")
    expected = sum(
        m.expected.value for m in fine.moves if m.source in wild and m.target == "Developed"
    )
    folded = next(m for m in coarse.moves if m.source == "Undeveloped" and m.target == "Developed")
    assert folded.expected.value == pytest.approx(expected, rel=0.02)
    assert coarse.names == load_legend("nlcd3").names
    table = csv.DictReader((tmp_path / "coarse" / "candidates.csv").read_text().splitlines())
    assert {(r["from"], r["to"]) for r in table} == {("Undeveloped", "Developed")}


def test_without_reference_tiles_figures_have_no_interval(
    two: tuple[str, str, np.ndarray], tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    z, (rows, cols) = truth(rng), square(SIDE)
    first = write_scores(str(tmp_path / "a"), rows, cols, scores_of(z[:, 0], rng))
    second = write_scores(str(tmp_path / "b"), rows, cols, scores_of(z[:, 1], rng))
    got = change([first, second], str(tmp_path / "out"), show=0)
    assert got.reference == 0 and np.isnan(got.net[2].low)
    assert any("no intervals" in n for n in got.notes)
    assert got.to_dict()["net"][2]["low"] is None
    assert "**No intervals**" in Path(got.files["md"]).read_text().split("\n|")[0]
    told = change(list(two[:2]), str(tmp_path / "told"), show=0)
    assert told.reference and "No intervals" not in Path(told.files["md"]).read_text()


def test_a_series_finds_when(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    dates = 4
    z, (rows, cols) = truth(rng, dates), square(SIDE)
    split = np.where(rng.random(len(rows)) < 0.4, "test", "train")
    uris = []
    for t in range(dates):
        uris.append(
            write_scores(
                str(tmp_path / str(t)), rows, cols,
                scores_of(z[:, t], rng, TILT * (t % 2)), date=str(2010 + 2 * t),
                truth=z[:, 0] if t == 0 else None, split=split,
            )
        )  # fmt: skip
    got = change(uris, str(tmp_path / "out"), to_classes=["Developed"], show=0)
    assert got.method["kind"] == "hidden Markov model"
    assert len(got.areas) == dates and len(got.changed) == dates - 1
    at = {(r, c): i for i, (r, c) in enumerate(zip(rows.tolist(), cols.tolist(), strict=True))}
    right = []
    for r in csv.DictReader((tmp_path / "out" / "candidates.csv").read_text().splitlines()):
        i = at[int(r["row"]), int(r["col"])]
        begin = int(r["period"].split(" to ")[0])
        t = (begin - 2010) // 2
        right.append(z[i, t] != 2 and z[i, t + 1] == 2)
        assert r["classes"].split(" > ")[t + 1] == "Developed"
    real = ((z[:, 0] != 2) & (z[:, -1] == 2)).sum()
    assert np.mean(right) > 0.8 and sum(right) > 0.7 * real
    for t in range(dates):
        developed = got.areas[t][2]
        assert developed.low < (z[:, t] == 2).sum() < developed.high
    by_label = change(uris, str(tmp_path / "labels"), evidence_from="labels", show=0)
    assert by_label.method["evidence"] == "labels"
    assert by_label.net[2].value == pytest.approx(got.net[2].value, rel=0.5)


# -- pictures ------------------------------------------------------------------------------------


def ground(write_raster: Any, name: str, colour: int) -> str:
    """5 x 5 whole tiles, each of its own grey, plus a margin; north-west tile (-18326, 2503)."""
    left, top = 2503 * 224.0, 18326 * 224.0
    grey = (np.arange(25).reshape(5, 5) * 8 + colour).astype(np.uint8)
    pixels = np.kron(grey, np.ones((224, 224), np.uint8))
    return str(write_raster(name, np.stack([pixels] * 3), left=left, top=top))


def test_pictures_show_both_dates_at_one_place_with_their_neighbours(
    write_raster: Any, tmp_path: Path
) -> None:
    rows, cols = square(5)
    z = np.full(25, 3)
    later = z.copy()
    later[[12, 0]] = 2
    uris = []
    for name, classes, colour in (("a", z, 10), ("b", later, 40)):
        imagery = ground(write_raster, f"{name}.tif", colour)
        uris.append(
            write_scores(
                str(tmp_path / name), rows, cols, certain(classes, p=0.995), date=name,
                provenance={"imagery": [{"file": imagery}]},
            )
        )  # fmt: skip
    got = change(uris, str(tmp_path / "out"), recalibrate=False, smoothing=0.0, min_probability=0.1)
    assert got.candidates == len(got.pictures) == 2
    middle = next(p for p in got.pictures if "r-18324_c2505" in p)
    image = np.asarray(Image.open(middle)).astype(int)
    panel, strip = pictures.PANEL, pictures.STRIP
    for x0, colour in ((0, 10), (panel + pictures.GAP, 40)):
        for i in range(3):
            for j in range(3):
                y = strip + panel * (2 * i + 1) // 6
                x = x0 + panel * (2 * j + 1) // 6
                expected = ((i + 1) * 5 + j + 1) * 8 + colour
                assert abs(image[y, x].mean() - expected) < 4
        edge = image[strip + panel // 3 - 1, x0 + panel // 2]
        assert edge.min() > 225  # the white outline of the centre tile
    corner = next(p for p in got.pictures if "r-18326_c2503" in p)
    outside = np.asarray(Image.open(corner)).astype(int)[strip + 50, 50]
    assert abs(outside.mean() - surroundings.NO_DATA) < 4


def test_imagery_that_is_gone_is_said_and_may_be_given(write_raster: Any, tmp_path: Path) -> None:
    rows, cols = square(5)
    z = np.full(25, 3)
    later = np.where(np.arange(25) == 12, 2, z)
    a, b = (
        write_scores(
            str(tmp_path / n), rows, cols, certain(c, p=0.995), date=n,
            provenance={"imagery": [{"file": str(tmp_path / "gone.tif")}]},
        )
        for n, c in (("a", z), ("b", later))
    )  # fmt: skip
    how = {"recalibrate": False, "smoothing": 0.0, "min_probability": 0.1}
    got = change([a, b], str(tmp_path / "out"), **how)
    assert not got.pictures and any("--imagery" in n for n in got.notes)
    given = [ground(write_raster, f"{n}.tif", 10) for n in "ab"]
    again = change([a, b], str(tmp_path / "out"), imagery=given, **how)
    assert len(again.pictures) == 1
    with pytest.raises(InputError, match="1 times for 2 dates"):
        change([a, b], str(tmp_path / "out"), imagery=given[:1], **how)


def test_pictures_from_a_tile_set(county: Any, county_tiles: Any, tmp_path: Path) -> None:
    index = county_tiles
    area = county.area
    row, col = area.r0 + 5, area.c0 + 5
    day = _dated(index.uri, row, col)
    from_tiles = pictures.open_ground(day, [(row, col)])(row, col)
    from_raster = surroundings.of_imagery([county.imagery[0]], county_tiles.grid)(row, col)
    assert np.array_equal(from_tiles, from_raster)


def _dated(uri: str, row: int, col: int) -> Any:
    one = np.array([0])
    return DateScores(
        uri, "2011", load_legend("nlcd6"), GRID, {"source": {"uri": uri, "kind": "tileset"}},
        np.array([row]), np.array([col]), one, one, np.array([""]), np.ones((1, 6)),
    )  # fmt: skip


# -- from imagery --------------------------------------------------------------------------------


def test_imagery_of_two_dates_is_normalised_scored_and_compared(
    county: Any, county_model: str, tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    got = change(
        list(county.imagery), out, model=county_model, show=3, min_probability=0.05, limit=20,
        normalise="linear", evidence_from="probabilities",
    )  # fmt: skip
    assert got.tiles >= county.tiles
    normal = got.method["normalisation"]
    assert normal[0] is None and normal[1]["method"] == "linear"
    assert np.all(np.array(normal[1]["rms_after"]) < np.array(normal[1]["rms_before"]))
    assert len(got.pictures) == min(3, got.candidates)
    again = change(
        list(county.imagery), out, model=county_model, show=0, min_probability=0.05, limit=20,
        normalise="linear", evidence_from="probabilities",
    )  # fmt: skip
    assert again.candidates == got.candidates
    assert not storage.list_names(storage.join(out, "pictures"))


def test_the_recoloured_model_is_the_model_on_recoloured_pixels(
    county_model: str, tmp_path: Path
) -> None:
    from quadrat import model as models
    from quadrat.changes import colours

    rng = np.random.default_rng(0)
    pixels = rng.uniform(0, 200, (500, 3))
    normal = colours.fit(pixels, pixels * 0.7 + 40, "linear")
    bundle = models.open_model(county_model)
    changed = colours.recoloured(bundle, normal, str(tmp_path / "model"))
    chips = rng.integers(0, 256, (4, 224, 224, 3), np.uint8)
    direct = models.runner(bundle, "fp32")(normal(chips))
    through = models.runner(models.open_model(changed.uri), "fp32")(chips)
    np.testing.assert_allclose(through, direct, atol=1e-5)
    assert any("normalisation" in w for w in changed.info.warnings)
    assert changed.digest != bundle.digest


# -- bad input -----------------------------------------------------------------------------------


def test_dates_that_cannot_be_compared_are_said(
    two: tuple[str, str, np.ndarray], tmp_path: Path
) -> None:
    first, second, _ = two
    out = str(tmp_path / "out")
    rows, cols = square(5)
    p = certain(np.arange(25) % 6)
    other = write_scores(str(tmp_path / "g"), rows, cols, p, grid=Grid("EPSG:26918"))
    three = write_scores(
        str(tmp_path / "l"), rows, cols, certain(np.arange(25) % 3, 3), legend=load_legend("nlcd3")
    )
    for dates, kind, match in (
        ([first], InputError, "1 date given"),
        ([first, first], InputError, "given twice"),
        ([first, other], ScoresError, "different grids"),
        ([first, three], ScoresError, "--legend"),
    ):
        with pytest.raises(kind, match=match):
            change(dates, out)
    assert change([first, three], out, legend="nlcd3", show=0).tiles == 25
    for options, match in (
        ({"from_classes": ["Forest"], "to_classes": ["Forest"]}, "same class"),
        ({"min_probability": 1.5}, "no share"),
        ({"smoothing": 1.0}, "below 1"),
        ({"normalise": "magic"}, "linear"),
        ({"evidence_from": "labels"}, "three dates"),
        ({"limit": 0}, "limit"),
    ):
        with pytest.raises(InputError, match=match):
            change([first, second], out, **options)
    with pytest.raises(Exception, match="no class 'Wood'"):
        change([first, second], out, from_classes=["Wood"])
    with pytest.raises(ScoresError, match="quadrat change"):
        read_result(str(tmp_path))


def test_nothing_changed_gives_an_empty_list_that_is_whole(tmp_path: Path) -> None:
    rows, cols = square(12)
    p = certain(np.arange(144) % 6, p=0.98)
    a, b = (write_scores(str(tmp_path / n), rows, cols, p, date=n) for n in ("a", "b"))
    got = change([a, b], str(tmp_path / "out"))
    assert got.candidates == 0 and got.expected_false == 0 and not got.pictures
    assert any("the list is empty" in n for n in got.notes)
    assert len(geopandas.read_parquet(got.files["parquet"])) == 0
    assert json.loads(Path(got.files["geojson"]).read_text())["features"] == []
    assert len(list(csv.reader(io.StringIO(Path(got.files["csv"]).read_text())))) == 1


def test_the_command_says_what_changed(
    two: tuple[str, str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    line = ["change", two[0], two[1], "--out", out, "--legend", "nlcd3", "--to", "Developed"]
    assert run([*line, "--show", "0"]) == 0
    text = capsys.readouterr().out
    assert "expected to be false" in text and "Undeveloped" in text
    assert run([*line, "--show", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["wanted"] == "any class to Developed"
    assert run(["change", two[0], "--out", out]) == 1
    assert "two or more" in capsys.readouterr().err
