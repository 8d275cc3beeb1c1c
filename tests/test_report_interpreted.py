"""The report on a map whose sample of plots was interpreted: against the estimators themselves."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.warp
import rasterio.windows
from PIL import Image

import quadrat as qd
from made_samples import COL, GRID, ROW, write_imagery
from made_scores import certain, square, write_scores
from quadrat.areas.tables import number
from quadrat.errors import InputError, ScoresError
from quadrat.grid import TileRange
from quadrat.legend import load_legend
from quadrat.reports import overlays
from quadrat.reviews import store
from quadrat.reviews.answers import PlotAnswer, Seen
from quadrat.reviews.plots import open_plots
from quadrat.tiles.overview import overview

WET = Seen("2014-09-30", "Wetlands", {"Wetlands": 1.0})


@pytest.fixture
def read(write_raster: Callable[..., str], tmp_path: Path) -> tuple[str, Any, str]:
    """Scores of 64 tiles, a sample of 40, and what two interpreters and a settler said of it."""
    rows, cols = square(8, ROW, COL)
    legend = load_legend("nlcd8")
    ids = np.where(rows % 2 == 0, legend.id("Forest"), legend.id("Developed"))
    scores = write_scores(
        str(tmp_path / "scores"), rows, cols, certain(ids, k=8), date="2014-09-30",
        legend=legend, grid=GRID,
        provenance={"imagery": [{"file": write_imagery(write_raster)[1]}]},
    )  # fmt: skip
    drawn = qd.sample(scores, str(tmp_path / "plots"), plots=40, seed=4)
    listed = open_plots(drawn.uri)
    kept = store.create(f"{drawn.uri}/review.gpkg", listed.about)
    for who in ("Ana", "Ben"):
        said = []
        for plot in listed.plots:
            word = "Forest" if plot.row % 2 == 0 else "Developed"
            if plot.number in (3, 7) and who == "Ben":
                word = "Water"
            mixed = {"Forest": 0.6, "Shrub": 0.4}
            seen = Seen("2014-09-30", word, {word: 1.0})
            if plot.number == 9:
                seen = Seen("2014-09-30", "Forest", mixed)
            if plot.number == 11:
                seen = Seen("2014-09-30", observable=False)
            said.append(PlotAnswer(plot.number, plot.tile, who, (seen,)))
        store.append(kept, said)
    settled = PlotAnswer(3, listed.plot(3).tile, "settled", (WET,))
    store.append(kept, [settled])
    return scores, drawn, str(kept.path)


def cells(page: str, caption: str) -> list[list[str]]:
    """Rows of the table with a caption, as text."""
    table = next(t for t in re.findall(r"<table.*?</table>", page, re.DOTALL) if caption in t)
    body = table.split("<tbody>")[1]
    return [
        [re.sub(r"<[^>]+>", "", c).strip() for c in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    ]


def test_the_report_says_what_interpreted_plots_say(
    read: tuple[str, Any, str], tmp_path: Path
) -> None:
    scores, drawn, answers = read
    out = tmp_path / "report.html"
    result = qd.report([scores], str(out), sample=drawn.uri, answers=[answers])
    assert {"Interpreted plots", "Disputed plots"} <= set(result.sections)
    page = out.read_text("utf-8")
    # the figures of `area`
    area = qd.area(scores, sample=drawn.uri, answers=[answers])
    rows = {r[0]: r for r in cells(page, area.title)}
    assert set(rows) == {r.name for r in area.rows}
    for row in area.rows:
        if row.adjusted is not None and row.se_ha is not None:
            assert rows[row.name][3].startswith(number(row.adjusted.value))
            assert rows[row.name][4] == number(row.se_ha)
    assert area.accuracy is not None
    assert f"{area.accuracy.overall.value:.1%}" in page
    # who, how, and how far they agree
    assert cells(page, "Who interpreted them") == [["Ana", "39"], ["Ben", "39"], ["settled", "1"]]
    strata = cells(page, "How plots were drawn and answered")
    assert sum(int(r[3]) for r in strata) == 39 and sum(int(r[4]) for r in strata) == 1
    (pair,) = cells(page, "How they agree")
    assert pair[:3] == ["Ana, Ben", "2014-09-30", "39"] and pair[3] == f"{37 / 39:.1%}"
    # where: a dot a plot, and the two disputed ones with their pictures
    chart = next(s for s in re.findall(r"<svg.*?</svg>", page, re.DOTALL) if "plots lie" in s)
    assert chart.count("<circle") == 40 and "cannot be observed 1" in chart
    section = page.split('id="disputed"')[1].split("</section>")[0]
    assert section.count("<figure") == 2 and section.count("data:image/jpeg") == 2
    assert "2 plots were read unlike each other, 1 of them are settled" in section
    assert "<strong>Ben</strong>: Water" in section and "<strong>settled</strong>: Wet" in section
    assert f"By {39} interpreted plots the map is right on" in result.summary[0]


def test_a_sample_of_another_map_is_refused(read: tuple[str, Any, str], tmp_path: Path) -> None:
    scores, drawn, answers = read
    rows, cols = square(8, ROW, COL)
    other = write_scores(
        str(tmp_path / "other"), rows, cols, certain(np.zeros(64, int), k=8), date="2014-09-30",
        legend=load_legend("nlcd8"), grid=GRID,
    )  # fmt: skip
    out = str(tmp_path / "report.html")
    with pytest.raises(InputError, match="none of the maps of this report"):
        qd.report([other], out, sample=drawn.uri, answers=[answers])
    with pytest.raises(InputError, match="needs its answers"):
        qd.report([scores], out, sample=drawn.uri)
    with pytest.raises(InputError, match="name it with --sample"):
        qd.report([scores], out, answers=[answers])


def test_pictures_that_are_gone_are_said(read: tuple[str, Any, str], tmp_path: Path) -> None:
    scores, drawn, answers = read
    (tmp_path / "2014-09-30.tif").unlink()
    out = tmp_path / "report.html"
    qd.report([scores], str(out), sample=drawn.uri, answers=[answers])
    page = out.read_text("utf-8")
    assert "No pictures of disputed plots" in page
    assert page.split('id="disputed"')[1].split("</section>")[0].count("<figure") == 2


def test_readers_who_gave_no_shares_tell_of_plots(
    read: tuple[str, Any, str], tmp_path: Path
) -> None:
    scores, drawn, answers = read
    kept = store.open_store(answers)
    tile = open_plots(drawn.uri).plot(1).tile
    store.append(kept, [PlotAnswer(1, tile, "Ana", (Seen("2014-09-30", "Forest"),))])
    out = tmp_path / "report.html"
    qd.report([scores], str(out), sample=drawn.uri, answers=[answers])
    page = out.read_text("utf-8")
    assert "Area of plots by main class" in page
    assert "Of 1 of the plots readers said the main class and no shares" in page


def data(path: Path) -> dict[str, Any]:
    """What the page's script reads."""
    text = path.read_text("utf-8").split('<script type="application/json" id="data">')[1]
    return dict(json.loads(text.split("</script>")[0]))


def test_areas_of_the_page_are_those_of_the_plots(
    read: tuple[str, Any, str], tmp_path: Path
) -> None:
    scores, drawn, answers = read
    out = tmp_path / "report.html"
    qd.report([scores], str(out), sample=drawn.uri, answers=[answers])
    area = qd.area(scores, sample=drawn.uri, answers=[answers])
    shown = {r[0]: r[1] for r in cells(out.read_text("utf-8"), "Area of ")}
    for row in area.rows:
        if row.adjusted is not None:
            assert shown[row.name].startswith(number(row.adjusted.value))


def test_with_change_the_date_of_the_plots_has_their_areas_alone(
    read: tuple[str, Any, str], tmp_path: Path
) -> None:
    scores, drawn, answers = read
    rows, cols = square(8, ROW, COL)
    legend = load_legend("nlcd8")
    ids = np.where((rows % 2 == 0) & (cols > COL + 1), legend.id("Forest"), legend.id("Developed"))
    later = write_scores(
        str(tmp_path / "later"), rows, cols, certain(ids, k=8), date="2018-09-30",
        legend=legend, grid=GRID,
    )  # fmt: skip
    out, table = tmp_path / "report.html", tmp_path / "t.csv"
    qd.report(
        [scores, later], str(out), sample=drawn.uri, answers=[answers], tables=str(table), under=0
    )
    page = out.read_text("utf-8")
    told = {r[0]: r for r in cells(page, "Area of each class")}
    area = qd.area(scores, sample=drawn.uri, answers=[answers])
    known = {r.name: r.adjusted for r in area.rows if r.adjusted is not None}
    for name, figure in known.items():
        assert told[name][1].startswith(number(figure.value))
    assert 'Those of 2014-09-30 are of <a href="#plots">interpreted plots</a>' in page
    top = max(known, key=lambda n: known[n].value)
    assert f"Largest by area: {top} {number(known[top].value)} ha (" in page
    with table.open(encoding="utf-8") as file:
        listed = list(csv.DictReader(file))
    of = [r for r in listed if r["class"] == top and r["unit"] == "hectares"]
    dates = {
        r["quantity"]: r["date"] for r in of if "area" in r["quantity"] or "plots" in r["quantity"]
    }
    assert dates == {"area": "2018-09-30", "class, by interpreted plots": "2014-09-30"}
    assert area.accuracy is not None
    (right,) = [r for r in listed if r["quantity"] == "Overall accuracy, by interpreted plots"]
    assert float(right["value"]) == pytest.approx(area.accuracy.overall.value)


def test_imagery_lies_under_the_map_tile_by_tile(
    read: tuple[str, Any, str], tmp_path: Path
) -> None:
    scores, _, _ = read
    out = tmp_path / "report.html"
    qd.report([scores], str(out))
    found = data(out)
    uri = found["under"]["2014-09-30"].removeprefix("data:image/jpeg;base64,")
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))), float)
    layer = found["layers"][0]
    assert layer["date"] == "2014-09-30"
    px = seen.shape[0] // layer["height"]
    assert seen.shape == (px * layer["height"], px * layer["width"], 3)
    with rasterio.open(tmp_path / "2014-09-30.tif") as file:
        left, top = layer_corner(found)
        window = rasterio.windows.from_bounds(
            left, top - 32 * layer["height"], left + 32 * layer["width"], top, file.transform
        )
        truth = file.read(window=window).transpose(1, 2, 0).astype(float)
    for r in range(layer["height"]):
        for c in range(layer["width"]):
            mean = truth[32 * r : 32 * r + 32, 32 * c : 32 * c + 32].mean((0, 1))
            tile = seen[px * r : px * r + px, px * c : px * c + px].mean((0, 1))
            assert np.abs(mean - tile).max() < 6
    qd.report([scores], str(out), under=0)
    assert data(out)["under"] == {}
    qd.report([scores], str(out), under=63)
    assert data(out)["under"] == {} and "more than 63; --under raises" in out.read_text("utf-8")


def test_imagery_under_the_map_is_read_as_it_was_scored(
    write_raster: Callable[..., str], tmp_path: Path
) -> None:
    """Bands as the scores say; what is missing is white; what is gone is named."""
    pixels = np.zeros((3, 64, 64), np.uint8)
    pixels[0], pixels[1], pixels[2] = 40, 90, 200
    pixels[:, 32:, :16] = 0  # nodata: half of a tile
    left, top = COL * 32, -ROW * 32
    uri = write_raster("a.tif", pixels, left=left, top=top, nodata=0)
    listed = [{"file": uri, "bands": [3, 1, 2]}]
    info = {"provenance": {"imagery": listed}}
    area = TileRange(ROW, ROW + 3, COL, COL + 2)
    seen = overview(info, GRID, area, 4)
    assert (seen[:4] == (200, 40, 90)).all()
    assert (seen[4:8, :2] == 255).all() and (seen[4:8, 2:] == (200, 40, 90)).all()
    assert (seen[8:] == 255).all()
    listed.append({"file": str(tmp_path / "gone.tif"), "bands": [3, 1, 2]})
    with pytest.raises(ScoresError, match=r"gone\.tif is gone"):
        overview(info, GRID, area, 4)


def layer_corner(found: dict[str, Any]) -> tuple[float, float]:
    return found["origin"]["col"] * 32.0, -found["origin"]["row"] * 32.0


def test_roads_and_towns_lie_where_they_are(read: tuple[str, Any, str], tmp_path: Path) -> None:
    scores, _, _ = read
    x, y = (COL + np.array([1.0, 3.0, 6.5])) * 32, -(ROW + np.array([1.0, 2.5, 6.5])) * 32
    lon, lat = rasterio.warp.transform("EPSG:26917", "EPSG:4326", x, y)
    places = [list(p) for p in zip(lon, lat, strict=True)]

    def write(name: str, kind: str, where: Any) -> str:
        shape = {"type": kind, "coordinates": where}
        feature = {"type": "Feature", "properties": {"NAME": "<b>A"}, "geometry": shape}
        path = tmp_path / name
        path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
        return str(path)

    roads = write("roads.geojson", "LineString", places)
    towns = write("towns.geojson", "Point", places[2])
    bounds = write("bounds.geojson", "Polygon", [[*places, places[0]]])
    out = tmp_path / "report.html"
    qd.report([scores], str(out), overlay=[roads, towns, bounds])
    road, town, outline = data(out)["overlays"]
    assert [road["name"], town["name"]] == ["roads", "towns"]
    assert np.allclose(road["lines"], [[1, 1, 3, 2.5, 6.5, 6.5]], atol=0.06)
    assert town["points"] == [{"x": 6.5, "y": 6.5, "label": "<b>A"}]
    assert len(outline["lines"]) == 1 and len(outline["lines"][0]) == 8
    assert "<b>A" not in out.read_text("utf-8")
    far = write("far.geojson", "Point", [10.0, 50.0])
    with pytest.raises(InputError, match="nothing on the map"):
        qd.report([scores], str(out), overlay=[far])


def test_collections_are_drawn_by_their_parts_and_what_is_off_the_map_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at(*tiles: tuple[float, float]) -> list[list[float]]:
        """Coordinates of places in tiles, columns and rows from the map's first corner."""
        return [[(COL + x) * 32.0, -(ROW + y) * 32.0] for x, y in tiles]

    square_ = at((1, 1), (3, 1), (3, 3), (1, 1))
    mixed = [
        {"type": "Polygon", "coordinates": [square_]},
        {"type": "MultiPoint", "coordinates": at((4, 4), (5, 5))},
        {"type": "LineString", "coordinates": at((0, 0), (2, 2))},
    ]
    shapes: dict[str, Any] = {
        "mixed": {"type": "GeometryCollection", "geometries": mixed},
        "margin": {"type": "Point", "coordinates": at((8.2, 4))[0]},  # within 5% of the map
        "touching": {"type": "LineString", "coordinates": at((8.4, -1), (9, 4), (8.4, 9))},
    }
    uris = {}
    for name, shape in shapes.items():
        features = [{"type": "Feature", "properties": {"name": name}, "geometry": shape}]
        crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::26917"}}
        path = tmp_path / f"{name}.geojson"
        path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))
        uris[name] = str(path)
    area = TileRange(ROW, ROW + 8, COL, COL + 8)
    (one,) = overlays.overlays([uris["mixed"]], GRID, area)
    assert sorted(len(line) for line in one["lines"]) == [4, 8]
    assert [(p["x"], p["y"], p["label"]) for p in one["points"]] == [
        (4, 4, "mixed"), (5, 5, "mixed")
    ]  # fmt: skip
    for name in ("margin", "touching"):
        with pytest.raises(InputError, match="nothing on the map"):
            overlays.overlays([uris[name]], GRID, area)
    monkeypatch.setattr(overlays, "MOST_POINTS", 7)  # six of the lines, two places
    with pytest.raises(InputError, match="too much for a page"):
        overlays.overlays([uris["mixed"]], GRID, area)
