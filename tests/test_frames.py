"""Scores as pandas, GeoPandas and xarray see them, against the arrays that were written."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from PIL import Image

import quadrat as qd
from made_scores import GRID, square, write_scores
from quadrat import metrics

NAMES = qd.load_legend("nlcd6").names


@pytest.fixture
def written(tmp_path: Path) -> tuple[qd.Scores, dict[str, np.ndarray]]:
    """Scores of an uneven piece of ground with holes, in no order, and what they are."""
    rng = np.random.default_rng(5)
    rows, cols = square(7)
    keep = rng.permutation(49)[:30]
    rows, cols = rows[keep], cols[keep]
    p = rng.dirichlet(np.full(6, 0.4), 30).astype(np.float32)
    truth = np.where(rng.random(30) < 0.5, rng.integers(0, 6, 30), -1)
    uri = write_scores(str(tmp_path / "scores"), rows, cols, p, truth=truth, date="2011-07-01")
    return qd.open_scores(uri), {"row": rows, "col": cols, "p": p, "truth": truth}


def test_a_data_frame_has_a_row_a_tile(written: Any) -> None:
    scores, made = written
    frame = scores.to_pandas()
    assert len(frame) == 30 and "geometry" not in frame
    np.testing.assert_array_equal(frame["row"], made["row"])
    np.testing.assert_allclose(frame[[f"p_{n}" for n in NAMES]], made["p"])
    assert frame["label"].tolist() == [NAMES[k] for k in made["p"].argmax(1)]
    known = [NAMES[k] for k in made["truth"] if k >= 0]
    assert frame["truth"].dropna().tolist() == known
    assert list(scores.to_pandas(["col", "label"])) == ["col", "label"]


def test_outlines_are_the_tiles_ground(written: Any) -> None:
    pytest.importorskip("geopandas")
    scores, made = written
    frame = scores.to_geopandas()
    assert frame.crs.to_epsg() == 26917 and len(frame) == 30
    for row, col, outline in zip(frame["row"], frame["col"], frame.geometry, strict=True):
        square = shapely.box(col * 224, -(row + 1) * 224, (col + 1) * 224, -row * 224)
        assert outline.equals(square)
    few = scores.to_geopandas(["label"])
    assert list(few) == ["label", "geometry"]
    assert few["label"].tolist() == [NAMES[k] for k in made["p"].argmax(1)]


def test_a_dataset_lies_as_the_map_does(written: Any, tmp_path: Path) -> None:
    pytest.importorskip("xarray")
    scores, made = written
    cells = scores.to_xarray()
    with rasterio.open(qd.map(scores, str(tmp_path / "map.tif")).uri) as drawn:
        classes = drawn.read(1)
        west, north = drawn.transform.c + 112, drawn.transform.f - 112
    assert (float(cells.x[0]), float(cells.y[0])) == (west, north)
    label = cells.label.to_numpy()
    np.testing.assert_array_equal(np.where(label < 0, 255, label), classes)
    for i, (row, col) in enumerate(zip(made["row"], made["col"], strict=True)):
        x, y = (col + 0.5) * 224.0, -(row + 0.5) * 224.0
        one = cells.sel(x=x, y=y)
        assert int(one.label) == made["p"][i].argmax() and int(one.truth) == made["truth"][i]
        np.testing.assert_allclose(one.probability, made["p"][i])
    assert int(np.isfinite(cells.probability[0]).sum()) == 30
    assert cells["class"].to_numpy().tolist() == list(NAMES)
    assert cells.spatial_ref.attrs["crs_wkt"] == GRID.crs


@pytest.mark.parametrize("package", ["pandas", "geopandas", "xarray"])
def test_what_is_not_installed_is_said_with_the_cure(
    written: Any, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(qd.QuadratError, match=r"pip install 'quadrat\[frames\]'"):
        getattr(written[0], f"to_{package}")()


def test_pictures_without_a_place_have_a_data_frame_alone(tmp_path: Path) -> None:
    rows, cols = square(2)
    uri = write_scores(str(tmp_path), rows, cols, np.eye(6)[:4], grid=None)
    scores = qd.open_scores(uri)
    assert len(scores.to_pandas()) == 4
    for package in ("geopandas", "xarray"):
        pytest.importorskip(package)
        with pytest.raises(qd.QuadratError, match=r"without a place; use to_pandas\(\)"):
            getattr(scores, f"to_{package}")()


def png(picture: Any) -> np.ndarray:
    """What a notebook shows."""
    data = picture._repr_png_()
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def test_a_notebook_shows_the_tiles_in_their_colours(written: Any, tmp_path: Path) -> None:
    scores, made = written
    picture = scores.plot()
    pixels = png(picture)
    found = {
        n for n, c in zip(NAMES, qd.load_legend("nlcd6").classes, strict=True)
        if (np.abs(pixels - c.rgb).sum(-1) < 6).sum() > 300
    }  # fmt: skip
    assert found == {NAMES[k] for k in made["p"].argmax(1)}
    picture.save(str(tmp_path / "seen.png"))
    assert (tmp_path / "seen.png").read_bytes() == picture.png
    assert repr(picture).startswith("<Chart") and len(repr(picture)) < 80


def test_scores_are_explored_on_a_map_with_their_colours(written: Any) -> None:
    pytest.importorskip("folium", reason="needs quadrat[explore]")
    scores, made = written
    page = scores.explore(tiles=None).get_root().render()
    there = {NAMES[k] for k in made["p"].argmax(1)}
    for c in qd.load_legend("nlcd6").classes:
        assert (c.color in page) == (c.name in there)
    assert page.count('"type": "Polygon"') == 30


def test_exploring_without_folium_names_the_extra(
    written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "folium", None)
    with pytest.raises(qd.QuadratError, match=r"quadrat\[explore\]"):
        written[0].explore()


def test_the_confusion_matrix_is_a_picture() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 60)
    found = metrics.summarise(truth, truth, ("a", "b", "c"))
    assert png(found.plot()).shape[0] > 200
