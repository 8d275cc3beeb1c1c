"""Maps in other programs: GDAL's names and tables of classes, QGIS's legends and pictures.

GDAL's and QGIS's own programs open the files; what they are not installed for is skipped.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import geopandas
import numpy as np
import pyarrow as pa
import pyogrio
import pytest
import rasterio
from PIL import Image

import made_scores
from quadrat import geoparquet, maps, raster, storage
from quadrat.errors import InputError, ScoresError
from quadrat.legend import from_names, load_legend
from quadrat.scores import open_scores

NLCD6 = load_legend("nlcd6")
QGIS = "/usr/bin/python3"  # Debian's, which has Debian's QGIS
LOOK = Path(__file__).parent / "qgis_look.py"
THERE = ("Developed", "Forest", "Cultivated")  # of the six classes


def has_qgis() -> bool:
    if not Path(QGIS).exists():
        return False
    asked = [QGIS, "-c", "import importlib.util as u; exit(u.find_spec('qgis') is None)"]
    return subprocess.run(asked, check=False).returncode == 0


def look(picture: Path, *files: str) -> dict[str, Any]:
    if not has_qgis():
        pytest.skip("needs python3-qgis")
    done = subprocess.run(
        [QGIS, str(LOOK), str(picture), *files], capture_output=True, check=True, timeout=120
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def scored(tmp_path: Path) -> Any:
    """An uneven county of three of six classes, with a hole: Forest west, Developed east, one
    square of Cultivated; shares, sets."""
    r, c = (v.ravel() for v in np.mgrid[-18326:-18320, 2503:2513])
    kept = (r != -18325) | (c != 2504)
    r, c = r[kept], c[kept]
    cls = np.where(c < 2507, NLCD6.id("Forest"), NLCD6.id("Developed"))
    cls = np.where((r >= -18322) & (c >= 2511), NLCD6.id("Cultivated"), cls)
    p = np.full((len(r), 6), 0.04, np.float32)
    p[np.arange(len(r)), cls] = 0.8
    uri = made_scores.write_scores(
        str(tmp_path / "scores"), r, c, p, shares=p[:, ::-1].copy(), threshold=0.2
    )
    return open_scores(uri), r, c, cls


def write_change(folder: Path, rows: Any, cols: Any, cls: Any) -> str:
    """What `quadrat change` writes that a GeoPackage reads: tile 3 went from Forest to Developed,
    the last tile is unknown."""
    grid, first, last = made_scores.GRID, cls.copy(), cls.copy()
    first[3], last[3] = NLCD6.id("Forest"), NLCD6.id("Developed")
    changed = np.full(len(rows), 0.02)
    changed[3] = 0.9
    names = np.array(NLCD6.names)
    table = {"row": rows, "col": cols, "class_1": names[first], "class_2": names[last],
             "changed_1": changed}  # fmt: skip
    less = {k: v[:-1] for k, v in table.items()}
    geoparquet.write_part(str(folder / "transitions.parquet"), pa.table(less), None)
    about = {"dates": ["2011", "2014"], "grid": grid.to_dict(), "moves": []}
    storage.write_json(str(folder / "change.json"), about)
    one = {"rank": [1], "row": rows[3:4], "col": cols[3:4], "from": ["Forest"],
           "to": ["Developed"], "probability": [0.9],
           "geometry": geoparquet.wkb_array(grid.wkb(rows[3:4], cols[3:4]))}  # fmt: skip
    geoparquet.write_part(str(folder / "candidates.parquet"), pa.table(one), grid.crs)
    (folder / "pictures").mkdir()
    (folder / "pictures" / "00001_r1_c1.jpg").touch()
    return str(folder)


def test_gdal_knows_the_classes_that_are_there(scored: Any, tmp_path: Path) -> None:
    scores, *_, cls = scored
    done = maps.map(scores, str(tmp_path / "map.tif"))
    assert set(done.styles) == {
        str(tmp_path / n) for n in ("map.qml", "map.tif.aux.xml", "map_certainty.qml")
    }
    root = ET.parse(tmp_path / "map.tif.aux.xml").getroot()
    rows = [[f.text for f in r] for r in root.iter("Row")]
    expected = [
        [str(NLCD6.id(n)), str((cls == NLCD6.id(n)).sum()), n,
         *(str(v) for v in NLCD6.classes[NLCD6.id(n)].rgb)]
        for n in NLCD6.names if n in THERE
    ]  # fmt: skip
    assert rows == expected
    if shutil.which("gdalinfo") is None:
        pytest.skip("needs gdalinfo")
    said = subprocess.run(
        ["gdalinfo", "-json", done.uri], capture_output=True, check=True, text=True
    ).stdout
    info = json.loads(said)
    assert info["bands"][0]["description"] == "class"
    assert info["bands"][0]["categories"] == list(NLCD6.names)
    assert said.count("Cultivated") >= 2  # among the names, and in the table


def test_statistics_of_an_earlier_map_do_not_stay(scored: Any, tmp_path: Path) -> None:
    old = tmp_path / "map_certainty.tif.aux.xml"
    old.write_text("<PAMDataset><PAMRasterBand band='1'/></PAMDataset>")
    maps.map(scored[0], str(tmp_path / "map.tif"))
    assert not old.exists()


def test_qgis_opens_the_rasters_with_names_and_colours(scored: Any, tmp_path: Path) -> None:
    scores, *_ = scored
    place = {n: str(tmp_path / f"{n}.tif") for n in ("map", "shares", "sets", "entropy")}
    out = place.pop("map")
    done = maps.map(scores, out, **place)
    picture = tmp_path / "seen.png"
    seen = look(picture, *place.values(), done.certainty, out)
    legend = [[n, NLCD6.classes[NLCD6.id(n)].color.lower()] for n in NLCD6.names if n in THERE]
    assert seen[out]["legend"] == legend and seen[out]["renderer"] == "paletted"
    sure = seen[done.certainty]
    assert sure["renderer"] == "singlebandpseudocolor"
    assert [name for name, _ in sure["legend"]] == ["0%", "25%", "50%", "75%", "100%"]
    assert seen[place["sets"]]["legend"] == [["1 class", "#fde725"]]
    assert {v["crs"] for v in seen.values()} == {"EPSG:26917"}
    assert all(v["valid"] for v in seen.values())
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    middle = {}
    for name in THERE:
        rgb = NLCD6.classes[NLCD6.id(name)].rgb
        same = np.argwhere(np.abs(pixels - rgb).sum(-1) < 6)
        assert len(same) > 5_000
        middle[name] = same.mean(0)
    assert middle["Forest"][1] < middle["Developed"][1] < middle["Cultivated"][1]
    assert middle["Cultivated"][0] > middle["Developed"][0]


def test_a_geopackage_has_every_tile_styled(scored: Any, tmp_path: Path) -> None:
    scores, rows, cols, cls = scored
    change = write_change(tmp_path / "change", rows, cols, cls)
    file = str(tmp_path / "map.gpkg")
    done = maps.map(scores, str(tmp_path / "map.tif"), gpkg=file, change=change)
    assert done.layers == ("tiles", "candidates")
    frame = geopandas.read_file(file, layer="tiles")
    assert frame.crs.to_epsg() == 26917 and len(frame) == len(rows)
    centres = frame.geometry.centroid
    assert np.allclose(centres.x, (cols + 0.5) * 224)
    assert np.allclose(centres.y, -(rows + 0.5) * 224)
    assert frame["class"].tolist() == [NLCD6.names[k] for k in cls]
    assert np.allclose(frame["probability"], 0.8) and (frame["set_size"] == 1).all()
    assert np.allclose(frame[[f"share_{n}" for n in NLCD6.names]].sum(axis=1), 1)
    assert frame["last_class"][3] == "Developed" and frame["changed"][3] == pytest.approx(0.9)
    last = frame.iloc[-1]
    assert last[["first_class", "last_class", "changed"]].isna().all()  # not of the change
    again = str(tmp_path / "again.gpkg")
    maps.map(scores, str(tmp_path / "map.tif"), gpkg=again, change=change)
    assert Path(file).read_bytes() == Path(again).read_bytes()
    seen = look(tmp_path / "seen.png", f"{file}|layername=tiles", f"{file}|layername=candidates")
    tiles, listed = seen.values()
    assert [n for n, _ in tiles["legend"]] == [n for n in NLCD6.names if n in THERE]
    assert tiles["styles"][:3] == ["class", "certainty", "change"]
    assert "share of Forest" in tiles["styles"]
    assert listed["features"] == 1 and listed["widgets"] == {"verdict": "ValueMap"}


def test_candidates_are_signed_off_and_never_lost(scored: Any, tmp_path: Path) -> None:
    scores, rows, cols, cls = scored
    change = write_change(tmp_path / "change", rows, cols, cls)
    (tmp_path / "gis").mkdir()
    file, out = str(tmp_path / "gis" / "map.gpkg"), str(tmp_path / "map.tif")
    maps.map(scores, out, gpkg=file, change=change)
    listed = pyogrio.read_dataframe(file, layer="candidates")
    assert listed["picture"].tolist() == ["../change/pictures/00001_r1_c1.jpg"]
    assert listed["verdict"].tolist() == [None]
    maps.map(scores, out, gpkg=file, change=change)  # nothing was signed off
    listed["verdict"] = "no change"
    pyogrio.write_dataframe(listed, file, layer="candidates")
    with pytest.raises(InputError, match="a candidate that people signed off"):
        maps.map(scores, out, gpkg=file, change=change)
    with pytest.raises(ScoresError, match="holds no change"):
        maps.map(scores, out, gpkg=str(tmp_path / "b.gpkg"), change=str(tmp_path))


def test_adjoining_tiles_of_one_class_are_one_polygon(scored: Any, tmp_path: Path) -> None:
    scores, rows, cols, cls = scored
    file = str(tmp_path / "areas.gpkg")
    maps.map(scores, str(tmp_path / "map.tif"), gpkg=file, dissolve=True)
    frame = geopandas.read_file(file, layer="areas")
    assert sorted(frame["class"]) == sorted(THERE)
    for name in THERE:
        row = frame[frame["class"] == name].iloc[0]
        own = cls == NLCD6.id(name)
        assert row["tiles"] == own.sum() and row["probability"] == pytest.approx(0.8)
        assert row.geometry.area == pytest.approx(own.sum() * 224**2)
        ground = raster.tile_hectares(made_scores.GRID, rows[own], cols[own]).sum()
        assert row["hectares"] == pytest.approx(ground)
    forest = frame[frame["class"] == "Forest"].geometry.iloc[0]
    assert len(forest.interiors) == 1 and frame.geometry.is_valid.all()
    change = write_change(tmp_path / "change", rows, cols, cls)
    maps.map(scores, str(tmp_path / "m.tif"), gpkg=file, dissolve=True, change=change)
    frame = geopandas.read_file(file, layer="areas")
    moved = frame[frame["last_class"] != frame["first_class"]].dropna(subset="changed")
    assert moved[["tiles", "changed"]].to_numpy().tolist() == [[1, pytest.approx(0.9)]]
    assert frame["tiles"].sum() == len(rows)


def test_styles_name_what_xml_must_escape(tmp_path: Path) -> None:
    legend = from_names(["Crops & <hay>", 'The "rest"'])
    p = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    uri = made_scores.write_scores(
        str(tmp_path / "s"), np.array([1, 1]), np.array([2, 3]), p, legend=legend
    )
    out = str(tmp_path / "m.tif")
    maps.map(uri, out, gpkg=str(tmp_path / "m.gpkg"))
    with rasterio.open(out) as data:
        assert data.read(1).tolist() == [[0, 1]]
    seen = look(tmp_path / "seen.png", out, str(tmp_path / "m.gpkg"))
    assert [[n for n, _ in v["legend"]] for v in seen.values()] == [list(legend.names)] * 2
