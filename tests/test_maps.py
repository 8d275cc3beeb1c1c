"""Maps: each tile's pixel on its own ground, the right colours, folding and smoothing. Files are
read with rasterio and Pillow alone; smoothing is checked against a plain loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import rasterio
from PIL import Image
from rasterio.warp import transform

import made_scores
from quadrat import geoparquet, maps, storage
from quadrat.errors import InputError, LegendError, ScoresError
from quadrat.grid import Grid
from quadrat.legend import Legend, fold, from_names, load_legend
from quadrat.maps import NO_TILE, frame, plurality, summarise
from quadrat.maps.picture import round_length
from quadrat.metrics import fold_probabilities
from quadrat.parts import PartRecord
from quadrat.scores import Scores, open_scores
from quadrat.scores.files import write_manifest

NLCD6 = load_legend("nlcd6")
GRID = Grid("EPSG:26917", 224.0, 1.0)


def write_scores(
    folder: Path,
    rows: Any,
    cols: Any,
    p: Any,
    *,
    legend: Legend = NLCD6,
    grid: Grid | None = GRID,
    parts: int = 2,
) -> Scores:
    records = []
    for i, chosen in enumerate(np.array_split(np.arange(len(rows)), parts)):
        columns = {
            "row": pa.array(rows[chosen], pa.int32()),
            "col": pa.array(cols[chosen], pa.int32()),
        }
        for k, name in enumerate(legend.names):
            columns[f"p_{name}"] = pa.array(p[chosen, k], pa.float32())
        name = f"part-{i:05d}"
        place = storage.join(str(folder), "parts", f"{name}.parquet")
        written = geoparquet.write_part(place, pa.table(columns), None)
        records.append(PartRecord(name, written.rows, written.sha256))
    info = {"model": {"digest": "abc"}}
    return write_manifest(Scores(str(folder), legend, grid, tuple(records), info))


def county(seed: int = 0, height: int = 7, width: int = 11, keep: float = 0.85) -> Any:
    """An uneven county with holes: rows and columns (north of the origin), probabilities."""
    rng = np.random.default_rng(seed)
    r, c = np.nonzero(rng.random((height, width)) < keep)
    order = rng.permutation(len(r))
    p = rng.dirichlet(np.full(6, 0.4), len(r)).astype(np.float32)
    return (r - 18326)[order], (c + 2503)[order], p


@pytest.fixture
def scored(tmp_path: Path) -> Any:
    rows, cols, p = county()
    return write_scores(tmp_path / "scores", rows, cols, p), rows, cols, p


def test_each_tile_has_its_class_at_its_own_place(scored: Any, tmp_path: Path) -> None:
    scores, rows, cols, p = scored
    done = maps.map(scores, str(tmp_path / "map.tif"), entropy=str(tmp_path / "entropy.tif"))
    label = p.argmax(1)
    x, y = (cols + 0.5) * 224.0, -(rows + 0.5) * 224.0
    with rasterio.open(done.uri) as data, rasterio.open(done.certainty) as sure:
        assert data.crs.to_epsg() == sure.crs.to_epsg() == 26917
        assert data.transform == sure.transform and data.res == (224.0, 224.0)
        assert np.array_equal([v[0] for v in data.sample(zip(x, y, strict=True))], label)
        values = np.array(list(sure.sample(zip(x, y, strict=True))))
        classes = data.read(1)
        assert sure.count == 1
        assert (classes != data.nodata).sum() == len(rows) == done.tiles
        assert np.isnan(sure.read(1)).sum() == classes.size - len(rows)
    np.testing.assert_allclose(values[:, 0], p.max(1), rtol=1e-6)
    q = p.astype(np.float64)
    entropy = [-sum(v * np.log2(v) for v in row if v > 0) for row in q]
    with rasterio.open(str(done.entropy)) as data:
        values = np.array(list(data.sample(zip(x, y, strict=True))))
    np.testing.assert_allclose(values[:, 0], entropy, atol=1e-5)
    assert done.counts == {n: int((label == k).sum()) for k, n in enumerate(NLCD6.names)}


def test_the_tile_of_the_corner_is_in_the_corner(tmp_path: Path) -> None:
    """One tile of another class, far from any axis of symmetry: swaps and flips move it."""
    r, c = np.mgrid[-30:-22, 5:18].reshape(2, -1)
    p = np.zeros((len(r), 6), np.float32)
    p[:, 3] = 1
    odd = np.flatnonzero((r == -29) & (c == 7))
    p[odd] = np.eye(6, dtype=np.float32)[2]
    scores = write_scores(tmp_path / "s", r, c, p)
    done = maps.map(scores, str(tmp_path / "m.tif"))
    with rasterio.open(done.uri) as data:
        assert data.shape == (8, 13)
        assert tuple(np.argwhere(data.read(1) == 2)[0]) == (1, 2)
        assert data.bounds.left == 5 * 224 and data.bounds.top == 30 * 224
        assert tuple(done.bounds) == tuple(data.bounds)


def test_it_is_a_cog_with_the_legends_colours(scored: Any, tmp_path: Path) -> None:
    scores, *_ = scored
    done = maps.map(scores, str(tmp_path / "map.tif"))
    with rasterio.open(done.uri) as data:
        assert data.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert data.count == 1 and data.dtypes[0] == "uint8" and data.nodata == NO_TILE
        colours = data.colormap(1)
        for i, c in enumerate(NLCD6.classes):
            assert colours[i] == (*c.rgb, 255)
            assert data.tags()[f"CLASS_{i}"] == c.name
        assert data.tags()["MODEL_DIGEST"] == "abc"
    with rasterio.open(done.certainty) as data:
        assert data.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert data.descriptions == ("probability of the class shown",)


def mixed_county(folder: Path, **more: Any) -> Any:
    """The county of before with expected shares, and 90% sets."""
    rows, cols, p = county()
    shares = np.random.default_rng(3).dirichlet(np.full(6, 0.7), len(rows))
    uri = made_scores.write_scores(
        str(folder), rows, cols, p, shares=shares, threshold=0.2, pieces=3, **more
    )
    return open_scores(uri), rows, cols, p, shares


def test_shares_are_a_band_a_class(tmp_path: Path) -> None:
    scores, rows, cols, _, shares = mixed_county(tmp_path / "s")
    done = maps.map(scores, str(tmp_path / "map.tif"), shares=str(tmp_path / "shares.tif"))
    x, y = (cols + 0.5) * 224.0, -(rows + 0.5) * 224.0
    assert done.shares is not None
    with rasterio.open(done.shares) as data:
        assert data.descriptions == NLCD6.names and data.crs.to_epsg() == 26917
        assert data.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        values = np.array(list(data.sample(zip(x, y, strict=True))))
        assert np.isnan(data.read()).all(axis=0).sum() == data.width * data.height - len(rows)
    np.testing.assert_allclose(values, shares, atol=1e-6)
    three = maps.map(
        scores, str(tmp_path / "m3.tif"), shares=str(tmp_path / "s3.tif"), legend="nlcd3"
    )
    to = fold(NLCD6, load_legend("nlcd3"))
    with rasterio.open(str(three.shares)) as data:
        values = np.array(list(data.sample(zip(x, y, strict=True))))
    for k in range(3):
        np.testing.assert_allclose(values[:, k], shares[:, to == k].sum(1), atol=1e-6)


def test_the_map_of_sets_counts_the_classes_of_the_conformal_sets(tmp_path: Path) -> None:
    scores, rows, cols, p, _ = mixed_county(tmp_path / "s")
    done = maps.map(
        scores, str(tmp_path / "m.tif"), sets=str(tmp_path / "sets.tif"),
        geojson=str(tmp_path / "m.geojson"),
    )  # fmt: skip
    inside = (p >= 0.2) | (p == p.max(1, keepdims=True))
    x, y = (cols + 0.5) * 224.0, -(rows + 0.5) * 224.0
    with rasterio.open(str(done.sets)) as data:
        assert data.descriptions == ("classes in the conformal set",)
        assert data.tags()["SETS"] == "conformal, hold the main class of 90% of tiles"
        values = np.array(list(data.sample(zip(x, y, strict=True))))
    np.testing.assert_array_equal(values[:, 0], inside.sum(1))
    outlines = json.loads((tmp_path / "m.geojson").read_text())["features"]
    found = {(f["properties"]["row"], f["properties"]["col"]): f["properties"] for f in outlines}
    for i, place in enumerate(zip(rows.tolist(), cols.tolist(), strict=True)):
        assert found[place]["set_size"] == inside[i].sum()


def test_scores_without_shares_give_no_map_of_them(scored: Any, tmp_path: Path) -> None:
    scores, *_ = scored
    with pytest.raises(ScoresError, match=r"no shares of the ground.*train and score again"):
        maps.map(scores, str(tmp_path / "m.tif"), shares=str(tmp_path / "s.tif"))
    with pytest.raises(InputError, match="two outputs"):
        maps.map(scores, str(tmp_path / "m.tif"), shares=str(tmp_path / "m.tif"))


def test_a_large_map_has_overviews(tmp_path: Path) -> None:
    r, c = np.mgrid[0:600, 0:700].reshape(2, -1)
    p = np.zeros((len(r), 2), np.float32)
    p[np.arange(len(r)), (c > 300).astype(int)] = 1
    scores = write_scores(tmp_path / "s", r, c, p, legend=from_names(["a", "b"]))
    done = maps.map(scores, str(tmp_path / "m.tif"))
    with rasterio.open(done.uri) as data:
        assert data.overviews(1)
        small = data.read(1, out_shape=(300, 350))
        assert set(np.unique(small)) == {0, 1}  # classes are not averaged


def test_nlcd3_sums_probabilities_before_it_chooses(tmp_path: Path) -> None:
    """Three undeveloped classes of 0.2 each outweigh Developed at 0.4."""
    order = {n: i for i, n in enumerate(NLCD6.names)}
    p = np.zeros((2, 6), np.float32)
    p[0, order["Developed"]] = 0.4
    p[0, [order["Forest"], order["Shrub"], order["Barren"]]] = 0.2
    p[1, order["Cultivated"]] = 0.7
    p[1, order["Forest"]] = 0.3
    scores = write_scores(tmp_path / "s", np.array([0, 0]), np.array([0, 1]), p, parts=1)
    done = maps.map(
        scores, str(tmp_path / "m.tif"), legend="nlcd3", entropy=str(tmp_path / "e.tif")
    )
    three = load_legend("nlcd3").names
    with rasterio.open(done.uri) as data, rasterio.open(done.certainty) as sure:
        assert [three[v] for v in data.read(1)[0]] == ["Undeveloped", "Cultivated"]
        np.testing.assert_allclose(sure.read(1)[0], [0.6, 0.7], rtol=1e-6)
    with rasterio.open(str(done.entropy)) as data:
        np.testing.assert_allclose(data.read(1)[0], [0.97095, 0.88129], atol=1e-4)
    assert done.legend == "nlcd3" and done.counts["Developed"] == 0
    six = maps.map(scores, str(tmp_path / "six.tif"))
    assert six.counts["Developed"] == 1


def test_fold_adds_up() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(5), 20)
    to = np.array([1, 0, 1, 2, 0])
    expected = np.stack([p[:, 1] + p[:, 4], p[:, 0] + p[:, 2], p[:, 3]], 1)
    np.testing.assert_allclose(fold_probabilities(p, to, 3), expected, rtol=1e-6)


def slow_plurality(classes: Any, k: int, centre: float) -> Any:
    out = classes.copy()
    for r in range(classes.shape[0]):
        for c in range(classes.shape[1]):
            if classes[r, c] == NO_TILE:
                continue
            votes = [0.0] * k
            for rr in (r - 1, r, r + 1):
                for cc in (c - 1, c, c + 1):
                    if 0 <= rr < classes.shape[0] and 0 <= cc < classes.shape[1]:
                        v = classes[rr, cc]
                        if v != NO_TILE:
                            votes[v] += centre if (rr, cc) == (r, c) else 1
            if votes.count(max(votes)) == 1:
                out[r, c] = votes.index(max(votes))
    return out


@pytest.mark.parametrize("centre", [0.0, 1.0, 2.0, 2.5, 3.0, 8.0])
def test_plurality_is_what_a_plain_loop_gives(centre: float) -> None:
    rng = np.random.default_rng(int(centre * 10))
    for shape in ((9, 14), (1, 7), (6, 1), (1, 1)):
        classes = rng.integers(0, 4, shape).astype(np.uint8)
        classes[rng.random(shape) < 0.25] = NO_TILE
        before = classes.copy()
        np.testing.assert_array_equal(
            plurality(classes, 4, centre), slow_plurality(classes, 4, centre)
        )
        np.testing.assert_array_equal(classes, before)  # the input is left alone
        if centre == 8:
            np.testing.assert_array_equal(plurality(classes, 4, centre), classes)


def test_smoothing_removes_a_speck_and_keeps_a_pair() -> None:
    field = np.zeros((5, 7), np.uint8)
    field[2, 3] = 1
    assert not plurality(field, 2, 2.0).any()
    field[2, 3:5] = 1
    field[3, 3:5] = 1
    np.testing.assert_array_equal(plurality(field, 2, 3.0), field)


def test_a_smoothed_map_says_so_and_keeps_its_figures(scored: Any, tmp_path: Path) -> None:
    scores, rows, cols, p = scored
    raw = maps.map(scores, str(tmp_path / "raw.tif"), entropy=str(tmp_path / "a.tif"))
    done = maps.map(
        scores, str(tmp_path / "smooth.tif"), smooth=1.0, entropy=str(tmp_path / "b.tif")
    )
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()
    with (
        rasterio.open(raw.uri) as a, rasterio.open(done.uri) as b,
        rasterio.open(done.certainty) as sure,
    ):  # fmt: skip
        before, after = a.read(1), b.read(1)
        np.testing.assert_array_equal(after, slow_plurality(before, 6, 1.0))
        assert done.smoothed == (before != after).sum() > 0
        assert b.tags()["SMOOTHED"].startswith("3x3") and a.tags()["SMOOTHED"] == "no"
        r, c = rows - rows.min(), cols - cols.min()
        shown = p[np.arange(len(p)), after[r, c]]
        np.testing.assert_allclose(sure.read(1)[r, c], shown, rtol=1e-6)


def test_entropy_at_its_ends() -> None:
    p = np.array([[1, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0]], np.float32)
    cls, entropy = summarise(p)
    assert cls.tolist() == [0, 0, 0] and entropy.tolist() == [0.0, 2.0, 1.0]


def test_the_picture_shows_the_map_north_up(tmp_path: Path) -> None:
    """Colours of the picture, scanned: the classes lie where the raster has them."""
    r, c = np.mgrid[0:10, 0:20].reshape(2, -1)
    p = np.zeros((len(r), 6), np.float32)
    cls = np.where((r < 5) & (c < 10), 2, np.where(r < 5, 1, np.where(c < 10, 3, 5)))
    p[np.arange(len(r)), cls] = 1
    scores = write_scores(tmp_path / "s", r, c, p)
    png = tmp_path / "map.png"
    maps.map(scores, str(tmp_path / "m.tif"), png=str(png), title="Synthetic: a test")
    picture = np.asarray(Image.open(png).convert("RGB")).astype(int)
    assert picture.shape[1] > picture.shape[0] > 300
    middle = {}
    for k in (2, 1, 3, 5):
        same = (np.abs(picture - NLCD6.classes[k].rgb).sum(-1) < 6).nonzero()
        assert len(same[0]) > 20_000
        middle[k] = np.median(same[0]), np.median(same[1])
    assert middle[2][0] < middle[3][0] and middle[1][0] < middle[5][0]
    assert middle[2][1] < middle[1][1] and middle[3][1] < middle[5][1]
    again = tmp_path / "again.png"
    maps.map(scores, str(tmp_path / "m.tif"), png=str(again), title="Synthetic: a test")
    assert png.read_bytes() == again.read_bytes()


def test_the_scale_bar_is_a_round_length() -> None:
    lengths = [round_length(m) for m in (1, 1999, 2000, 5600 / 4, 49_999, 99.0)]
    assert lengths == [1, 1000, 2000, 1000, 20_000, 50]


def test_geojson_has_each_tile_round_its_centre(scored: Any, tmp_path: Path) -> None:
    scores, rows, cols, p = scored
    path = tmp_path / "map.geojson"
    maps.map(scores, str(tmp_path / "m.tif"), geojson=str(path))
    features = json.loads(path.read_text())["features"]
    assert [(f["properties"]["row"], f["properties"]["col"]) for f in features] == list(
        zip(rows.tolist(), cols.tolist(), strict=True)
    )
    x, y = list((cols + 0.5) * 224.0), list(-(rows + 0.5) * 224.0)
    lons, lats = transform("EPSG:26917", "EPSG:4326", x, y)
    for f, lon, lat, q in zip(features, lons, lats, p, strict=True):
        ring = np.array(f["geometry"]["coordinates"][0])
        assert np.array_equal(ring[0], ring[-1])
        np.testing.assert_allclose(ring[:-1].mean(0), (lon, lat), atol=1e-6)
        area = np.sum(ring[:-1, 0] * ring[1:, 1] - ring[1:, 0] * ring[:-1, 1])
        assert area > 0
        assert f["properties"]["class"] == NLCD6.names[q.argmax()]
        assert f["properties"]["probability"] == pytest.approx(float(q.max()), abs=1e-4)


def test_too_many_outlines_are_refused_before_anything_is_written(
    scored: Any, tmp_path: Path
) -> None:
    scores, *_ = scored
    with pytest.raises(ScoresError, match="--limit 10"):
        maps.map(scores, str(tmp_path / "m.tif"), geojson=str(tmp_path / "m.json"), limit=10)
    assert not (tmp_path / "m.tif").exists()


def test_what_cannot_be_mapped_is_said(tmp_path: Path) -> None:
    rows, cols, p = county()
    out = str(tmp_path / "m.tif")
    placeless = write_scores(tmp_path / "a", rows, cols, p, grid=None)
    with pytest.raises(ScoresError, match="without a place"):
        maps.map(placeless, out)
    twice = write_scores(
        tmp_path / "b", np.append(rows, rows[:3]), np.append(cols, cols[:3]), np.vstack([p, p[:3]])
    )
    with pytest.raises(ScoresError, match="3 tiles are scored more than once"):
        maps.map(twice, out)
    empty = write_scores(tmp_path / "c", rows[:0], cols[:0], p[:0], parts=1)
    with pytest.raises(ScoresError, match="no tiles"):
        maps.map(empty, out)
    with pytest.raises(ScoresError, match="apart"):
        frame(np.array([0, 90_000]), np.array([0, 90_000]))
    with pytest.raises(ScoresError, match="quadrat score"):
        maps.map(str(tmp_path / "nothing"), out)
    good = write_scores(tmp_path / "d", rows, cols, p)
    other = write_scores(tmp_path / "e", rows, cols, p, legend=from_names([*"abcdef"]))
    with pytest.raises(LegendError, match="no place"):
        maps.map(other, out, legend="nlcd3")
    for options, word in (
        ({"smooth": -1.0}, "smooth"),
        ({"smooth": float("nan")}, "smooth"),
        ({"png": out}, "two outputs"),
        ({"dissolve": True}, "--dissolve is for a GeoPackage"),
        ({"change": "c"}, "--change is for a GeoPackage"),
        ({"gpkg": str(tmp_path / "m.shp")}, r"\.gpkg"),
        ({"geojson": str(tmp_path / "m_certainty.tif")}, "two outputs"),
    ):
        with pytest.raises(InputError, match=word):
            maps.map(good, out, **options)
    with pytest.raises(InputError, match=r"\.tif"):
        maps.map(good, str(tmp_path / "map.png"))
    assert not Path(out).exists()
