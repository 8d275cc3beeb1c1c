"""`train`: from tiles to a model, what trains what, and everything that can be wrong with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import rasterio
from affine import Affine
from PIL import Image
from scipy.special import softmax

from quadrat import backbones, features, heads, metrics, scores, scoring, tiles
from quadrat.errors import QuadratError, TrainError
from quadrat.heads import learning, training
from quadrat.model import open_model, runner

SIZE = 16
COLOURS = {"brick": (170, 90, 70), "grass": (90, 160, 80), "water": (60, 90, 160)}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUADRAT_CACHE", str(tmp_path / "cache"))


def paint(rng: np.random.Generator, name: str, noise: float = 45.0) -> np.ndarray:
    """A chip of the class's colour, off by as much as classes differ, so that some are mistaken."""
    colour = np.array(COLOURS[name]) + rng.normal(0, noise, 3)
    chip = colour + rng.normal(0, 10, (SIZE, SIZE, 3))
    return chip.clip(0, 255).astype(np.uint8)


def write(folder: Path, counts: Mapping[str, Mapping[str, int]], seed: int = 0) -> str:
    rng = np.random.default_rng(seed)
    for split, classes in counts.items():
        for name, n in classes.items():
            place = folder / split / name
            place.mkdir(parents=True, exist_ok=True)
            for i in range(n):
                Image.fromarray(paint(rng, name)).save(place / f"{i:03}.png")
    return str(folder)


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    each = dict.fromkeys(COLOURS, 60)
    return write(tmp_path / "pictures", {"train": each, "validation": dict.fromkeys(COLOURS, 30)})


@pytest.fixture
def county(tmp_path: Path) -> str:
    """40 x 40 tiles of three classes in patches of 4 x 4, cut from a raster with labels."""
    rng = np.random.default_rng(0)
    patch = rng.integers(3, size=(10, 10))
    names, codes = list(COLOURS), np.array([21, 71, 81])
    image = np.zeros((3, 40 * SIZE, 40 * SIZE), np.uint8)
    label = np.zeros((40 * SIZE, 40 * SIZE), np.uint8)
    for r in range(40):
        for c in range(40):
            k = patch[r // 4, c // 4]
            at = np.s_[r * SIZE : (r + 1) * SIZE, c * SIZE : (c + 1) * SIZE]
            image[(slice(None), *at)] = paint(rng, names[k]).transpose(2, 0, 1)
            label[at] = codes[k]
    place = {
        "crs": "EPSG:26917",
        "transform": Affine(1, 0, 500_000, 0, -1, 4_000_000),
        "driver": "GTiff",
        "width": 40 * SIZE,
        "height": 40 * SIZE,
        "dtype": "uint8",
    }
    with rasterio.open(tmp_path / "image.tif", "w", count=3, **place) as file:
        file.write(image)
    with rasterio.open(tmp_path / "label.tif", "w", count=1, **place) as file:
        file.write(label, 1)
    out = str(tmp_path / "tiles")
    tiles.tile(
        [str(tmp_path / "image.tif")],
        out,
        labels=str(tmp_path / "label.tif"),
        tile_m=float(SIZE),
        pixel_m=1.0,
    )
    return out


def do(source: str, out: Path, **options: Any) -> heads.TrainResult:
    opened = tiles.open_tiles(source, size_px=SIZE)
    return heads.train(opened, str(out), backbone="mean_colour", **{"precision": "fp32"} | options)


def chips_of(source: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    opened = tiles.open_tiles(source, size_px=SIZE)
    assert opened.legend is not None
    chips, y = [], []
    for part in opened.parts():
        for batch in tiles.read_part(part):
            mine = [s == split for s in batch.index["split"].to_pylist()]
            chips.append(batch.chips[mine])
            labels = np.array(batch.index["label"].to_pylist(), object)[mine]
            y += [opened.legend.id(n) if n else -1 for n in labels]
    return np.concatenate(chips), np.array(y)


@pytest.mark.parametrize("head", ["logistic", "forest"])
def test_the_model_gives_what_training_measured(pictures: str, tmp_path: Path, head: str) -> None:
    result = do(pictures, tmp_path / "model", head=head)
    model = open_model(str(tmp_path / "model"))
    chips, y = chips_of(pictures, "validation")
    p = runner(model)(chips)
    assert result.accuracy == pytest.approx((p.argmax(1) == y).mean())
    assert 0.7 < result.accuracy < 0.99, "some are mistaken by design"
    found = metrics.summarise(y, p, model.legend.names).to_dict()
    assert result.metrics is not None
    assert result.metrics["confusion"] == found["confusion"]
    nll = result.metrics["calibration"]["nll"]["value"]
    assert nll == pytest.approx(found["calibration"]["nll"]["value"], abs=1e-4)
    assert model.info.head["head"] == head and model.info.backbone["name"] == "mean_colour"
    assert model.info.temperature == result.forms["fp32"]["temperature"]
    assert model.info.metrics["overall"] == result.metrics["overall"]
    json.dumps(result.to_dict())


def test_validation_tiles_change_nothing_but_the_figures(pictures: str, tmp_path: Path) -> None:
    do(pictures, tmp_path / "one")
    # other validation tiles with wrong labels: the same model, another accuracy
    for path in sorted(Path(pictures, "validation", "water").glob("*.png")):
        path.rename(Path(pictures, "validation", "brick", f"w{path.name}"))
    second = do(pictures, tmp_path / "two")
    assert (tmp_path / "one/model.onnx").read_bytes() == (tmp_path / "two/model.onnx").read_bytes()
    assert second.accuracy is not None and second.accuracy < 0.7


def test_no_tile_calibrates_a_head_that_it_trained(
    pictures: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[set[bytes], set[bytes]]] = []
    real = learning.fit

    def spying(x: Any, y: Any, k: int, settings: Any) -> Any:
        head, notes = real(x, y, k, settings)
        trained = {row.tobytes() for row in x}
        logits = head.logits

        class Spy:
            def logits(self, rows: Any) -> Any:
                seen.append((trained, {row.tobytes() for row in rows}))
                return logits(rows)

            def export(self, *how: Any) -> bytes:
                return bytes(head.export(*how))

        return Spy(), notes

    monkeypatch.setattr(learning, "fit", spying)
    do(pictures, tmp_path / "model")
    *calibrating, validating = seen
    assert len(calibrating) == 5
    for trained, asked in seen:
        assert not trained & asked
    assert len(set.union(*(asked for _, asked in calibrating))) == 180
    assert len(validating[1]) == 90


def test_calibration_helps_where_the_head_is_too_sure(tmp_path: Path) -> None:
    each, many = dict.fromkeys(COLOURS, 40), dict.fromkeys(COLOURS, 200)
    source = write(tmp_path / "p", {"train": each, "validation": many}, seed=5)
    # next to no regularisation on few tiles states what it remembers
    result = do(source, tmp_path / "model", reg=1e-3, max_iter=2000)
    assert result.forms["fp32"]["temperature"] > 1.2
    opened = tiles.open_tiles(source, size_px=SIZE)
    graph = backbones.feature_graph("mean_colour", size_px=SIZE)
    found = features.featurize(opened, graph)
    labels = heads.samples.sort(found.index, opened.legend, "p")  # type: ignore[arg-type]
    settings = heads.Settings(reg=1e-3, max_iter=2000)
    x, y = found.values, labels.y
    head, _ = heads.fit.fit(x[labels.train], y[labels.train], 3, settings)
    raw = softmax(head.logits(x[labels.validation]), axis=1)
    plain = metrics.summarise(y[labels.validation], raw, list(COLOURS)).to_dict()
    assert result.metrics is not None
    for name in ("nll", "ece"):
        assert result.metrics["calibration"][name]["value"] < plain["calibration"][name]["value"]


def test_a_tile_set_with_places_is_held_out_by_its_own_split(county: str, tmp_path: Path) -> None:
    result = do(county, tmp_path / "model")
    opened = tiles.open_tileset(county)
    assert result.held_out == "source"
    counted = opened.info["audit"]["tiles"]
    assert sum(result.tiles["train"].values()) == counted["train"]
    assert sum(result.tiles["validation"].values()) == counted["validation"]
    assert result.metrics is not None and result.metrics["blocks"] > 1
    model = open_model(str(tmp_path / "model"))
    assert model.grid == opened.grid and model.info.tileset_digest == opened.digest
    chips, y = chips_of(county, "validation")
    p = runner(model)(chips[y >= 0])
    assert result.accuracy == pytest.approx((p.argmax(1) == y[y >= 0]).mean())
    assert any("Forest" in w and "never gives" in w for w in result.warnings)


def test_without_validation_tiles_some_are_held_out_and_that_is_said(tmp_path: Path) -> None:
    source = write(tmp_path / "p", {"train": dict.fromkeys(COLOURS, 50)})
    result = do(source, tmp_path / "model")
    assert result.held_out == "random"
    assert sum(result.tiles["validation"].values()) == 30
    assert sum(result.tiles["train"].values()) == 120
    assert any("has no validation tiles" in w for w in result.warnings)
    assert open_model(str(tmp_path / "model")).info.warnings == result.warnings


def test_a_second_head_needs_no_features(pictures: str, tmp_path: Path) -> None:
    first = do(pictures, tmp_path / "one")
    second = do(pictures, tmp_path / "two", head="forest")
    sampled = do(pictures, tmp_path / "three", sample_frac=0.5, seed=1)
    assert first.seconds["features"] > 0
    assert second.seconds["features"] == sampled.seconds["features"] == 0
    assert sum(sampled.tiles["validation"].values()) == 90
    assert 60 < sum(sampled.tiles["train"].values()) < 120


def test_a_sample_is_the_same_from_the_cache_and_without(pictures: str, tmp_path: Path) -> None:
    alone = do(pictures, tmp_path / "one", sample_frac=0.5, seed=2)
    do(pictures, tmp_path / "whole")
    again = do(pictures, tmp_path / "two", sample_frac=0.5, seed=2)
    assert alone.tiles == again.tiles and alone.digest == again.digest


def test_training_is_repeatable_and_the_seed_matters(pictures: str, tmp_path: Path) -> None:
    one, same, other = (
        do(pictures, tmp_path / str(i), head="forest", seed=s) for i, s in enumerate((1, 1, 2))
    )
    assert one.digest == same.digest != other.digest


def test_events_tell_the_history_what_it_keeps(pictures: str, tmp_path: Path) -> None:
    events: list[tuple[str, Mapping[str, Any]]] = []
    result = do(
        pictures,
        tmp_path / "model",
        run_id="abc",
        on_event=lambda name, values: events.append((name, values)),
    )
    assert [name for name, _ in events] == ["params", "data", "metrics", "ground", "forms", "model"]
    told = dict(events)
    assert told["params"]["reg"] == 0.02 and told["params"]["backbone"] == "mean_colour"
    assert told["data"]["digest"] == tiles.open_tiles(pictures, size_px=SIZE).digest
    assert told["metrics"]["split"] == "validation"
    assert told["ground"] == result.ground
    assert told["model"]["uri"] == result.uri
    assert open_model(result.uri).info.run_id == "abc"


def test_damaged_pictures_are_left_out_and_told(pictures: str, tmp_path: Path) -> None:
    for name in ("train/grass/000.png", "validation/water/003.png"):
        Path(pictures, name).write_bytes(b"no picture")
    Path(pictures, "train", "grass", "dead.png").symlink_to("nowhere.png")
    result = do(pictures, tmp_path / "model")
    assert any("dead links skipped: 1 (train/grass/dead.png)" in w for w in result.warnings)
    assert {s.name for s in result.skipped} == {
        "train/grass/000.png",
        "validation/water/003.png",
    }
    assert result.tiles["train"]["grass"] == 59 and result.tiles["validation"]["water"] == 29
    assert any("2 tiles could not be read" in w for w in result.warnings)


def test_a_class_in_validation_only_counts_as_wrong(tmp_path: Path) -> None:
    source = write(
        tmp_path / "p",
        {"train": {"brick": 40, "grass": 40}, "validation": dict.fromkeys(COLOURS, 20)},
    )
    result = do(source, tmp_path / "model")
    assert any(w.startswith("water is among the validation tiles only") for w in result.warnings)
    assert result.accuracy is not None and result.accuracy <= 2 / 3
    assert result.metrics is not None
    assert np.array(result.metrics["confusion"])[:, 2].sum() == 0
    p = runner(open_model(result.uri))(chips_of(source, "validation")[0])
    assert (p[:, 2] == 0).all()


def test_very_few_tiles_train_without_calibration(tmp_path: Path) -> None:
    source = write(tmp_path / "p", {"train": {"brick": 2, "grass": 1}, "validation": {"brick": 2}})
    result = do(source, tmp_path / "model")
    assert result.forms["fp32"]["temperature"] == 1.0
    assert any("too few to calibrate" in w for w in result.warnings)


@pytest.mark.parametrize(
    ("counts", "options", "says"),
    [
        ({"train": {"brick": 5}, "validation": {"grass": 5}}, {}, "all 5 training tiles"),
        ({"validation": {"brick": 5, "grass": 5}}, {}, "is in the split `train`"),
        ({"train": {"brick": 5, "grass": 5}}, {"head": "svm"}, "no head 'svm'"),
        ({"train": {"brick": 5, "grass": 5}}, {"sample_frac": 0.0}, "--sample-frac 0.0"),
        ({"train": {"brick": 5, "grass": 5}}, {"sample_frac": 1.5}, "--sample-frac 1.5"),
    ],
)
def test_what_cannot_train_is_one_line_with_the_cure(
    tmp_path: Path,
    counts: Mapping[str, Mapping[str, int]],
    options: Mapping[str, Any],
    says: str,
) -> None:
    source = write(tmp_path / "p", counts)
    with pytest.raises(TrainError, match=says) as caught:
        do(source, tmp_path / "model", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model").exists()


def test_no_labels_and_no_source(tmp_path: Path) -> None:
    folder = tmp_path / "flat"
    folder.mkdir()
    Image.fromarray(np.zeros((SIZE, SIZE, 3), np.uint8)).save(folder / "x.png")
    with pytest.raises(TrainError, match="no legend"):
        do(str(folder), tmp_path / "model")
    with pytest.raises(QuadratError, match="does not exist"):
        heads.train(str(tmp_path / "nowhere"), str(tmp_path / "model"))


def test_the_gap_is_what_a_random_split_would_have_promised(tmp_path: Path) -> None:
    """Blocks of one colour each, whatever their class: known by heart, they tell nothing."""
    rng = np.random.default_rng(3)
    image = np.zeros((3, 64 * SIZE, 64 * SIZE), np.uint8)
    label = np.zeros((64 * SIZE, 64 * SIZE), np.uint8)
    for r in range(0, 64 * SIZE, 8 * SIZE):
        for c in range(0, 64 * SIZE, 8 * SIZE):
            at = np.s_[r : r + 8 * SIZE, c : c + 8 * SIZE]
            image[(slice(None), *at)] = rng.integers(0, 256, (3, 1, 1))
            label[at] = (21, 71, 81)[rng.integers(3)]
    place = {
        "crs": "EPSG:26917", "transform": Affine(1, 0, 499_968, 0, -1, 4_000_000), "dtype": "uint8",
        "driver": "GTiff", "width": 64 * SIZE, "height": 64 * SIZE,
    }  # fmt: skip
    for name, count, pixels in (("image", 3, image), ("label", 1, label[None])):
        with rasterio.open(tmp_path / f"{name}.tif", "w", count=count, **place) as file:
            file.write(pixels)
    made = tiles.tile(
        [str(tmp_path / "image.tif")], str(tmp_path / "tiles"), labels=str(tmp_path / "label.tif"),
        tile_m=float(SIZE), pixel_m=1.0,
    )  # fmt: skip
    done = heads.train(
        made.uri, str(tmp_path / "model"), backbone="mean_colour", precision="fp32", split_gap=True,
        head="forest", trees=40, depth=12,
    )  # fmt: skip
    assert done.accuracy is not None and done.split_gap is not None
    assert done.split_gap["random"]["value"] > 0.97
    assert done.split_gap["gap"]["value"] == pytest.approx(
        done.split_gap["random"]["value"] - done.accuracy
    )
    assert done.split_gap["gap"]["low"] > 0.1


def test_forests_compare_precisions_without_their_luck(
    pictures: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features that differ by rounding are worth the same, though single forests differ."""
    opened = tiles.open_tiles(pictures, size_px=SIZE)
    assert opened.legend is not None
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=2400)
    plain = rng.normal(size=(len(y), 40)) + 0.55 * np.eye(3)[y] @ rng.normal(size=(3, 40))
    words = np.array(opened.legend.names)[y]
    n = pa.nulls(len(y), pa.int32())
    index = pa.table({
        "row": n, "col": n, "path": [str(i) for i in range(len(y))], "label": words,
        "split": np.where(np.arange(len(y)) % 3, "train", "validation"),
    })  # fmt: skip

    def learned(values: np.ndarray) -> learning.Learned:
        found = features.Features(values.astype(np.float32), index, (), "", 0.0, "")
        monkeypatch.setattr(learning, "_features", lambda job, view, on_progress: found)
        graph = backbones.feature_graph("mean_colour", size_px=SIZE)
        settings = heads.Settings(head="forest", trees=5)
        return learning.learn(
            learning.Job(
                opened, graph, features.Selection(), None, None, opened.legend, settings, "x",
                calibrate=False, compare=True,
            )
        )  # fmt: skip

    alike = [learned(plain + rng.normal(0, 0.01, plain.shape)) for _ in range(12)]
    single = [found.fitted.accuracy for found in alike]
    compared = [found.compared for found in alike]
    assert np.std(single) > 1.5 * np.std(compared)
    worse = learned(plain + rng.normal(0, 1.0, plain.shape)).compared
    assert worse is not None and worse < min(compared) - heads.forms.MAX_FALL


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two tile sets of 1,024 tiles in three colours, up to two in a tile: the shares of the classes
    are those of the pixels, and the mean colour tells them."""
    folder = tmp_path_factory.mktemp("mixed")
    rng = np.random.default_rng(0)
    colours = np.array([[200, 60, 60], [60, 160, 60], [60, 60, 200]])
    side, count = 16, 32
    size = side * count
    pixels, codes = np.zeros((size, size, 3), np.uint8), np.zeros((size, size), int)
    for r in range(count):
        for c in range(count):
            a, b = rng.permutation(3)[:2]
            part = np.full((side, side), a)
            part[: rng.integers(0, side // 2 + 4)] = b
            box = np.s_[r * side : (r + 1) * side, c * side : (c + 1) * side]
            codes[box] = 41 * (part == 0) + 22 * (part == 1) + 11 * (part == 2)
            noise = rng.normal(0, 40, (side, side, 3)) + rng.normal(0, 6, 3)
            pixels[box] = np.clip(colours[part] + noise, 1, 255)
    options = {"crs": "EPSG:26917", "transform": Affine(1, 0, 320000, 0, -1, 4096000)}
    for name, bands in (("image", pixels.transpose(2, 0, 1)), ("codes", codes[None])):
        with rasterio.open(
            folder / f"{name}.tif", "w", driver="GTiff", count=len(bands), height=size, width=size,
            dtype="uint8", **options,
        ) as file:  # fmt: skip
            file.write(bands.astype(np.uint8))
    for legend in ("nlcd8", "nlcd6"):
        tiles.tile(
            [str(folder / "image.tif")], str(folder / legend), labels=str(folder / "codes.tif"),
            legend=legend, tile_m=float(side), block=2, buffer=0, validation=0.3,
        )  # fmt: skip
    return str(folder)


def test_shares_are_learned_from_all_tiles_and_both_outputs_are_calibrated(
    mixed: str, tmp_path: Path
) -> None:
    source = f"{mixed}/nlcd8"
    result = do(source, tmp_path / "model")
    opened = tiles.open_tileset(source)
    counted = opened.info["audit"]["tiles"]
    assert sum(result.tiles["train"].values()) == counted["train"]  # mixed ones too
    model = open_model(result.uri)
    assert model.info.outputs == ("probabilities", "shares", "distance") and not model.info.masks
    said, true = [], []
    for part in opened.parts():
        for batch in tiles.read_part(part):
            held = np.array(batch.index["split"].to_pylist()) == "validation"
            said.append(runner(model).predict(batch.chips[held]))
            true.append(tiles.targets.shares(batch.index, model.legend.names)[held])
    p, shares = (np.concatenate([s[i] for s in said]) for i in (0, 1))
    true = np.concatenate(true)
    assert np.abs(shares - true).sum(1).mean() / 2 < 0.12
    assert np.abs(p - true).sum(1).mean() / 2 > np.abs(shares - true).sum(1).mean() / 2
    assert (p.argmax(1) == shares.argmax(1)).all()  # one main class
    mixed_tiles = true.max(1) < 0.9
    assert mixed_tiles.mean() > 0.4
    assert (p.max(1) > shares.max(1))[mixed_tiles].mean() > 0.9
    assert result.metrics is not None and result.ground is not None
    assert result.ground["tiles"] > 2.5 * result.metrics["tiles"]  # the training tiles, too
    right = (p.argmax(1) == true.argmax(1)).mean()
    assert result.accuracy == pytest.approx(right, abs=0.02)
    conformal = model.info.conformal
    assert conformal["level"] == 0.9 and 0 < conformal["threshold"] < 1
    covered = metrics.coverage(p, true.argmax(1), conformal["threshold"]).mean()
    assert covered > 0.8


def test_tiles_of_ground_without_a_class_are_masked_and_said(mixed: str, tmp_path: Path) -> None:
    source = f"{mixed}/nlcd6"
    result = do(source, tmp_path / "model")
    assert open_model(result.uri).info.masks
    assert any("has no class for (water)" in w for w in result.warnings)
    table = tiles.index(tiles.open_tileset(source))
    shares = tiles.targets.shares(table, tiles.open_tileset(source).legend.names)
    water = {
        (r, c)
        for r, c, rest in zip(
            table["row"].to_pylist(), table["col"].to_pylist(), 1 - shares.sum(1), strict=True
        )
        if rest > 0.75
    }
    done = scoring.score(result.uri, source, str(tmp_path / "scores"))
    assert done.masked > 0.7 * len(water) > 10 and any("are masked" in w for w in done.warnings)
    found = scores.open_scores(done.uri)
    kept = found.table(["row", "col"])
    assert done.tiles + done.masked == len(table)
    left = set(zip(kept["row"].to_pylist(), kept["col"].to_pylist(), strict=True))
    assert len(left & water) < 0.1 * len(water)
    assert found.probabilities(found.table()).sum(1) == pytest.approx(1, abs=1e-5)


def test_a_prior_moves_the_shares_towards_the_ground_that_is_mapped(
    mixed: str, tmp_path: Path
) -> None:
    source = f"{mixed}/nlcd8"
    wet = do(source, tmp_path / "wet", prior={"Water": 0.8})
    plain = do(source, tmp_path / "plain")
    chips, _ = chips_of(source, "validation")
    means = {}
    for name, result in (("wet", wet), ("plain", plain)):
        said = runner(open_model(result.uri)).predict(chips)
        means[name] = said.shares.mean(0)  # type: ignore[union-attr]
    water = open_model(wet.uri).legend.id("Water")
    assert means["wet"][water] > means["plain"][water] + 0.1
    assert open_model(wet.uri).info.head["prior"] == {"Water": 0.8}
    for prior, says in (({"Water": 1.2}, "from 0 to 1"), ({"Sea": 0.1}, "has no class")):
        with pytest.raises(QuadratError, match=says):
            do(source, tmp_path / "no", prior=prior)


def test_views_are_kept_by_themselves_and_as_many_as_is_cheap(
    pictures: str, tmp_path: Path
) -> None:
    assert do(pictures, tmp_path / "auto").views == 4
    assert do(pictures, tmp_path / "two", views=2).seconds["features"] == 0  # of four that are kept
    assert do(pictures, tmp_path / "more", views=5).seconds["features"] > 0
    assert training._views(12_000) == 1 and training._views(5000) == 2 and training._views(9) == 4
    with pytest.raises(QuadratError, match="1 to 8"):
        do(pictures, tmp_path / "no", views=9)
