"""How unlike the training ground imagery is: the distance itself, in models, scores and words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pytest
import rasterio
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from made_scores import certain, square, write_scores
from quadrat import heads, maps, reports, scoring, tiles
from quadrat.cli import run
from quadrat.errors import ScoresError
from quadrat.heads import distance as distances
from quadrat.model import open_model, runner
from quadrat.scores import likeness, open_scores

SIZE = 16
COLOURS = {"brick": (170, 90, 70), "grass": (90, 160, 80), "water": (60, 90, 160)}


def features(n: int, d: int = 40, seed: int = 0, more: float = 0.0) -> np.ndarray:
    """Features that vary along ten directions, `more` of another one."""
    rng, base = np.random.default_rng(seed), np.random.default_rng(99)
    mixing, another = base.normal(size=(10, d)), base.normal(size=d)
    z = rng.normal(size=(n, 10)) @ mixing + rng.normal(0, 0.3, (n, d))
    return (3 + z + more * 3 * another).astype(np.float32)


def fitted(n: int = 600, **options: Any) -> distances.Distance:
    found = distances.fit(features(n, **options), np.arange(n) % 5)
    assert found is not None
    return found


def test_it_is_the_cosine_to_the_nearest_training_tile() -> None:
    """As scikit-learn finds it, where the axes span all features."""
    found, new = fitted(), features(200, seed=1)
    x = features(600)
    spread = np.sqrt(x.std(0) ** 2 + np.median(x.std(0)) ** 2)
    near = NearestNeighbors(n_neighbors=1, metric="cosine").fit((x - x.mean(0)) / spread)
    expected = near.kneighbors((new - x.mean(0)) / spread)[0][:, 0]
    np.testing.assert_allclose(found(new) * found.unit, expected, atol=1e-5)


def test_products_are_along_the_first_principal_axes_and_lengths_in_all_directions() -> None:
    found, x, new = fitted(d=150), features(600, d=150), features(50, d=150, seed=1)
    spread = np.sqrt(x.std(0) ** 2 + np.median(x.std(0)) ** 2)
    z, other = (x - x.mean(0)) / spread, (new - x.mean(0)) / spread
    pca = PCA(distances.AXES, svd_solver="full").fit(z)
    lengths = np.linalg.norm(other, axis=1)[:, None] * np.linalg.norm(z, axis=1)
    cosines = pca.transform(other) @ pca.transform(z).T / lengths
    np.testing.assert_allclose(found(new) * found.unit, 1 - cosines.max(1), atol=1e-4)


def test_one_tile_in_a_hundred_of_the_same_ground_is_beyond_and_nearly_all_of_another() -> None:
    beyond = [float((fitted(seed=s)(features(4000, seed=100 + s)) > 1).mean()) for s in range(4)]
    assert 0.003 < np.mean(beyond) < 0.02
    assert (fitted()(features(400, seed=7, more=2.0)) > 1).mean() > 0.9


def test_blocks_are_held_out_whole() -> None:
    """Tiles of a block that are nearly the same would call every other block unlike."""
    blocks = np.repeat(features(100), 8, axis=0)
    x = blocks + np.random.default_rng(3).normal(0, 0.02, blocks.shape).astype(np.float32)
    whole = distances.fit(x, np.arange(800) // 8 % 5)
    one_by_one = distances.fit(x, np.arange(800) % 5)
    assert whole is not None and one_by_one is not None
    new = features(2000, seed=5)
    assert (whole(new) > 1).mean() < 0.06 < 0.9 < (one_by_one(new) > 1).mean()


@pytest.mark.parametrize("n", [2, 40])
def test_too_few_tiles_or_tiles_all_alike_have_no_distance(n: int) -> None:
    assert distances.fit(features(n), np.arange(n) % 5) is None
    assert distances.fit(np.ones((200, 8), np.float32), np.arange(200) % 5) is None


def test_the_graph_gives_what_the_arrays_give() -> None:
    found, new = fitted(), features(33, seed=2, more=0.5)
    session = ort.InferenceSession(found.export(), providers=["CPUExecutionProvider"])
    (rows,) = session.run(["distance"], {"features": new})
    assert rows.shape == (33, 1) and rows.dtype == np.float32
    np.testing.assert_allclose(rows[:, 0], found(new), atol=1e-4)


@pytest.mark.parametrize(
    ("tiles_", "beyond", "unlike"),
    [(100, 1, False), (100, 5, False), (100, 8, True), (1, 1, False), (2, 2, True), (5, 1, False)],
)
def test_an_image_is_unlike_where_more_is_beyond_than_chance_makes(
    tiles_: int, beyond: int, unlike: bool
) -> None:
    found = likeness.summary([{"a.tif": [tiles_, beyond]}], 0.99)
    assert found["unlike"] is unlike and found["images"][0]["unlike"] is unlike
    assert bool(likeness.warning(found)) is unlike


def test_images_are_counted_over_parts_and_the_most_unlike_is_named() -> None:
    sources = pa.chunked_array([["a.tif", "b.tif"], ["b.tif"]])
    one = likeness.counted(sources, np.array([0.5, 1.5, 0.9]))
    assert one == {"a.tif": [1, 0], "b.tif": [2, 1]}
    found = likeness.summary([one, {"b.tif": [30, 29], "c.tif": [60, 1]}], 0.99)
    assert [i["source"] for i in found["images"]] == ["b.tif", "c.tif", "a.tif"]
    assert (found["tiles"], found["beyond"]) == (93, 31)
    (said,) = likeness.warning(found)
    assert "1 of 3 images" in said and "b.tif, 30 of 32" in said


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures of three colours, and others that are magenta and dark."""
    monkeypatch.setenv("QUADRAT_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for kind, colours in {
        "like": COLOURS,
        "unlike": dict.fromkeys(COLOURS, (150, 20, 190)),
    }.items():
        for name, colour in colours.items():
            place = tmp_path / kind / name
            place.mkdir(parents=True)
            for i in range(60):
                chip = np.array(colour) + rng.normal(0, 12, 3) + rng.normal(0, 10, (SIZE, SIZE, 3))
                Image.fromarray(chip.clip(0, 255).astype(np.uint8)).save(place / f"{i:03}.png")
    return tmp_path


def trained(pictures: Path, **options: Any) -> heads.TrainResult:
    source = tiles.open_tiles(str(pictures / "like"), size_px=SIZE)
    how = {"backbone": "mean_colour", "precision": "fp32"} | options
    return heads.train(source, str(pictures / "model"), **how)


@pytest.mark.parametrize("head", ["logistic", "forest"])
def test_scores_say_where_pictures_are_unlike_those_that_trained(pictures: Path, head: str) -> None:
    model = open_model(trained(pictures, head=head).uri)
    assert model.info.outputs == ("probabilities", "shares", "distance")
    assert model.info.distance["level"] == 0.99
    like = scoring.score(model.uri, str(pictures / "like"), str(pictures / "a"))
    assert like.distance["beyond"] <= 0.03 * like.tiles
    assert not any("unlike" in w for w in like.warnings)
    unlike = scoring.score(model.uri, str(pictures / "unlike"), str(pictures / "b"))
    assert unlike.distance["unlike"] and unlike.distance["beyond"] > 0.2 * unlike.tiles
    (said,) = [w for w in unlike.warnings if "unlike" in w]
    assert "tiles are unlike the ground that the model was trained on (1% is usual)" in said
    table = open_scores(unlike.uri).table()
    assert table["distance"].type == pa.float32()
    assert int((table["distance"].to_numpy() > 1).sum()) == unlike.distance["beyond"]
    again = scoring.score(model.uri, str(pictures / "unlike"), str(pictures / "b"))
    assert again.distance == unlike.distance and said in again.warnings


def test_the_command_line_says_it(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = trained(pictures).uri
    out = str(pictures / "scores")
    assert run(["score", uri, str(pictures / "unlike"), "--out", out]) == 0
    assert "tiles are unlike the ground" in capsys.readouterr().out
    assert run(["score", uri, str(pictures / "unlike"), "--out", out, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["distance"]
    assert said["unlike"] and said["images"][0]["tiles"] == 180


def test_features_are_kept_beside_the_distance(pictures: Path) -> None:
    model = open_model(trained(pictures).uri)
    chips = np.random.default_rng(1).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)
    plain, more = runner(model).predict(chips), runner(model, features=True).predict(chips)
    assert plain.features is None and more.features is not None
    assert plain.distance is not None and plain.distance.shape == (5, 1)
    for one, other in zip(plain[:2], more[:2], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    np.testing.assert_allclose(plain.distance, more.distance, atol=1e-5)


def test_few_training_tiles_make_a_model_without_distances(pictures: Path) -> None:
    for place in (pictures / "like").glob("*/*.png"):
        if int(place.stem) >= 16:
            place.unlink()
    result = trained(pictures)
    assert any("no distance" in w for w in result.warnings)
    scores = open_scores(scoring.score(result.uri, str(pictures / "like"), str(pictures / "a")).uri)
    assert not scores.distance and "distance" not in scores.table().column_names


def test_maps_and_reports_show_where(tmp_path: Path) -> None:
    rows, cols = square(8)
    distance = np.linspace(0.2, 1.8, 64)
    p, uri = certain(np.arange(64) % 6), str(tmp_path / "scores")
    write_scores(uri, rows, cols, p, distance=distance, date="2016")
    place = str(tmp_path / "distance.tif")
    made = maps.map(
        uri, str(tmp_path / "map.tif"), distance=place, geojson=str(tmp_path / "a.json"),
    )  # fmt: skip
    assert place in made.files
    with rasterio.open(place) as file:
        np.testing.assert_allclose(file.read(1).ravel(), distance, atol=1e-6)
    outlines = json.loads((tmp_path / "a.json").read_text())["features"]
    assert outlines[0]["properties"]["distance"] == pytest.approx(0.2)
    reports.report([uri], str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert "32 of 64 tiles are unlike the ground that the model was trained on" in page
    assert "2016, likeness" in page
    write_scores(str(tmp_path / "like"), rows, cols, p, distance=distance / 2, date="2016")
    reports.report([str(tmp_path / "like")], str(tmp_path / "page.html"))
    assert "unlike the ground" not in (tmp_path / "page.html").read_text()


def test_scores_without_distances_give_no_map_of_them(tmp_path: Path) -> None:
    rows, cols = square(4)
    uri = write_scores(str(tmp_path / "scores"), rows, cols, certain(np.arange(16) % 6))
    with pytest.raises(ScoresError, match="no distances from the training tiles"):
        maps.map(uri, str(tmp_path / "map.tif"), distance=str(tmp_path / "d.tif"))
