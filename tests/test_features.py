"""Features: right, kept, resumable, and only of the tiles asked for."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from quadrat import backbones, storage, tiles
from quadrat import features as features_module
from quadrat.engines import get_engine
from quadrat.errors import EngineError, ModelError, QuadratError
from quadrat.features import Selection, cached, featurize, featurize_parts
from quadrat.model import runtime
from quadrat.tiles import folders

SIZE = 16


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUADRAT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty pictures of two classes in parts of eight, one of them damaged."""
    monkeypatch.setattr(folders, "PART_TILES", 8)
    rng = np.random.default_rng(0)
    for split, n in (("train", 14), ("validation", 6)):
        for name in ("a", "b"):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                chip = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
                Image.fromarray(chip).save(folder / f"{i:02}.png")
    damaged = tmp_path / "pictures/train/b/03.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    return tmp_path / "pictures"


def graph(name: str = "mean_colour") -> backbones.FeatureGraph:
    return backbones.feature_graph(name, size_px=SIZE)


def source(pictures: Path) -> tiles.Source:
    return tiles.open_tiles(str(pictures), size_px=SIZE)


class Counting:
    """The local engine, counting parts; fails from the part number `fail_from` on."""

    name = "local"

    def __init__(self, fail_from: int = 10**9) -> None:
        self.slots, self.ran, self.fail_from = 1, 0, fail_from

    def run(self, task: Callable[[Any], Any], parts: Sequence[Any]) -> Iterator[Any]:
        for part in parts:
            if self.ran >= self.fail_from:
                raise EngineError("the power went off")
            self.ran += 1
            yield task(part)


def test_each_row_is_of_its_picture(pictures: Path) -> None:
    found = featurize(source(pictures), graph())
    assert found.values.shape == (39, 12) and found.values.dtype == np.float32
    assert isinstance(found.values, np.memmap)
    for row, path in zip(found.values, found.index["path"].to_pylist(), strict=True):
        pixels = np.asarray(Image.open(pictures / path), np.float64)
        np.testing.assert_allclose(row[:3], pixels.mean((0, 1)) / 255, atol=1e-5)
    assert found.index["label"].to_pylist()[0] == "a"
    [left_out] = found.skipped
    assert left_out.name == "train/b/03.png" and left_out.reason


def test_the_second_time_costs_nothing(pictures: Path, own_cache: Path) -> None:
    engine = Counting()
    first = featurize(source(pictures), graph(), engine=engine)
    assert engine.ran == 5 and first.seconds > 0
    second = featurize(source(pictures), graph(), engine=engine)
    assert engine.ran == 5 and second.seconds == 0
    np.testing.assert_array_equal(first.values, second.values)
    assert second.skipped == first.skipped and second.index.equals(first.index)
    # the cache holds the array once, not the parts as well
    left = {p.name for p in Path(first.uri).rglob("*") if p.is_file()}
    assert left <= {"values.npy", "index.parquet", "features.json", ".lock"}


def test_what_changes_the_features_changes_their_place(pictures: Path) -> None:
    first = featurize(source(pictures), graph())
    chip = np.zeros((SIZE, SIZE, 3), np.uint8)
    Image.fromarray(chip).save(pictures / "train/a/00.png")
    engine = Counting()
    changed = featurize(source(pictures), graph(), engine=engine)
    assert engine.ran == 5 and changed.digest != first.digest
    assert (changed.values[0] == 0).all() and not (first.values[0] == 0).all()


def test_a_job_that_was_killed_goes_on_where_it_was(pictures: Path) -> None:
    engine = Counting(fail_from=3)
    with pytest.raises(EngineError, match="power"):
        featurize(source(pictures), graph(), engine=engine)
    assert cached(source(pictures), graph(), "fp32", Selection()) is None
    engine = Counting()
    resumed = featurize(source(pictures), graph(), engine=engine)
    assert engine.ran == 2
    whole = featurize(source(pictures), graph(), cache=str(pictures.parent / "other"))
    np.testing.assert_array_equal(resumed.values, whole.values)


@pytest.mark.parametrize("name", ["values.npy", "features.json", "index.parquet"])
def test_a_damaged_cache_is_made_again(pictures: Path, name: str) -> None:
    first = featurize(source(pictures), graph())
    values = np.array(first.values)
    path = Path(first.uri) / name
    path.write_bytes(path.read_bytes()[:20])
    engine = Counting()
    again = featurize(source(pictures), graph(), engine=engine)
    assert engine.ran == 5
    np.testing.assert_array_equal(again.values, values)


def test_parts_are_parquet_for_anyone_and_may_lie_anywhere(pictures: Path) -> None:
    parts = featurize_parts(source(pictures), graph(), cache="memory://features")
    found = featurize(source(pictures), graph(), cache="memory://features")
    assert len(parts.names) == 5
    tables = []
    for name in parts.names:
        with fsspec.open(storage.join(parts.uri, name)) as file:
            tables.append(pq.read_table(file))
    rows = [r for t in tables for r in t["features"].to_pylist()]
    np.testing.assert_array_equal(np.array(rows, np.float32), found.values)
    assert [p for t in tables for p in t["path"].to_pylist()] == found.index["path"].to_pylist()


def test_only_the_tiles_asked_for(pictures: Path) -> None:
    only = featurize(source(pictures), graph(), select=Selection(splits=("validation",)))
    assert set(only.index["split"].to_pylist()) == {"validation"} and len(only.values) == 12
    none = featurize(source(pictures), graph(), select=Selection(splits=("test",)))
    assert none.values.shape == (0, 12)


def test_a_sample_is_of_training_tiles_by_name_and_seed(pictures: Path) -> None:
    whole = featurize(source(pictures), graph())
    names = {}
    for seed in (0, 1):
        select = Selection(sample_frac=0.4, seed=seed)
        found = featurize(source(pictures), graph(), select=select)
        splits = found.index["split"].to_pylist()
        assert splits.count("validation") == 12, "validation tiles are never sampled away"
        assert 4 <= splits.count("train") <= 18
        names[seed] = found.index["path"].to_pylist()
        keep = select.mask(whole.index)
        np.testing.assert_array_equal(found.values, whole.values[keep])
    assert names[0] != names[1]


def test_samples_have_their_share_and_are_independent() -> None:
    n = 20_000
    index = pa.table(
        {
            "path": pa.nulls(n, pa.string()),
            "row": pa.array(np.arange(n) // 100, pa.int32()),
            "col": pa.array(np.arange(n) % 100, pa.int32()),
            "label": pa.nulls(n, pa.string()),
            "split": pa.nulls(n, pa.string()),
        }
    )
    one, two = (Selection(sample_frac=0.1, seed=s).mask(index) for s in (0, 1))
    assert one.mean() == pytest.approx(0.1, abs=0.01)
    assert (one & two).mean() == pytest.approx(0.01, abs=0.003)


def test_engines_and_precisions_have_their_own_features(pictures: Path) -> None:
    one = featurize(source(pictures), graph(), engine=get_engine("local", workers=2))
    try:
        rounded = featurize(source(pictures), graph(), precision="bf16")
    except QuadratError as error:
        assert "bf16" in str(error)
        pytest.skip("this CPU has no bf16")
    assert rounded.digest != one.digest
    np.testing.assert_allclose(rounded.values, one.values, atol=0.02)


def test_progress_counts_tiles(pictures: Path) -> None:
    seen: list[tuple[int, int]] = []
    featurize(source(pictures), graph(), on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (40, 40) and [d for d, _ in seen] == sorted(d for d, _ in seen)


def test_a_network_for_another_size_is_refused(pictures: Path) -> None:
    proto = onnx.load_model_from_string(graph().onnx)
    for i in (1, 2):
        proto.graph.input[0].type.tensor_type.shape.dim[i].dim_value = 8
    fixed = dataclasses.replace(graph(), onnx=proto.SerializeToString(), any_size=False)
    with pytest.raises(ModelError, match="takes tiles of 8 px, not 16"):
        featurize(source(pictures), fixed)


def test_a_network_that_was_changed_on_its_way_is_refused(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = storage.write_bytes

    def changed(uri: str, data: bytes) -> None:
        real(uri, data[:-1] + b"\0" if uri.endswith("network.onnx") else data)

    monkeypatch.setattr(features_module.storage, "write_bytes", changed)
    monkeypatch.setattr(runtime, "_compiled", OrderedDict())
    with pytest.raises(ModelError, match="not the network that was asked for"):
        featurize(source(pictures), graph())
