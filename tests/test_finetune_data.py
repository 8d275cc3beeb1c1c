"""Which tiles train and which validate: never the same, wherever they lie."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune_tiles import write_pictures, write_tiles

torch = pytest.importorskip("torch", reason="fine-tuning needs pip install 'quadrat[finetune]'")

from quadrat import tiles  # noqa: E402
from quadrat.errors import TrainError  # noqa: E402
from quadrat.finetuning.data import loaded  # noqa: E402
from quadrat.finetuning.distributed import Group  # noqa: E402
from quadrat.finetuning.sets import open_sets  # noqa: E402
from quadrat.finetuning.settings import FinetuneSettings, Machine  # noqa: E402

ALONE = Group(0, 1, torch.device("cpu"))


def load(source: Any, validation: Any = None, memory_mb: int = 64, **options: Any) -> Any:
    sets = open_sets(source, validation)
    machine = Machine(memory_mb=memory_mb, threads=2)
    return loaded(sets, FinetuneSettings(**options), machine, ALONE, lambda done, total: None)


def pixels(data: Any, split: str) -> set[bytes]:
    return {data.chips[i].tobytes() for i in getattr(data, split)}


def test_training_and_validation_tiles_are_those_of_their_splits(tmp_path: Path) -> None:
    made = write_tiles(tmp_path, {"train": 30, "validation": 12, "test": 9})
    by_split: dict[str, set[bytes]] = {"train": set(), "validation": set(), "test": set()}
    truth = {}
    for part in made.parts():
        for batch in tiles.read_part(part):
            rows = batch.index.select(["split", "label"]).to_pylist()
            for row, chip in zip(rows, batch.chips, strict=True):
                by_split[row["split"]].add(chip.tobytes())
                truth[chip.tobytes()] = row["label"]
    with load(made.uri) as data:
        for split, expected in by_split.items():
            assert pixels(data, split) == expected
            for i in getattr(data, split):
                assert data.legend.names[data.labels[i]] == truth[data.chips[i].tobytes()]
                assert data.called[i].split("/")[-2] == truth[data.chips[i].tobytes()]
        assert data.counts()["test"] == {"brick": 3, "grass": 3, "water": 3}


def test_validation_is_never_the_training_folder(tmp_path: Path) -> None:
    """The retired system validated on its training folder; here that cannot be asked for."""
    made = write_pictures(tmp_path / "all", {"train": 30})
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    for validation in (made, f"{made}/", f"{made}/train", str(tmp_path / "all" / ".")):
        with pytest.raises(TrainError, match="holds the training tiles"):
            open_sets(made, validation)
    with pytest.raises(TrainError, match="holds the training tiles"):
        open_sets(f"{made}/train", made)
    with (
        pytest.raises(TrainError, match="30 of 30 training tiles are copies"),
        load(tiles.open_tiles(made, size_px=32), tiles.open_tiles(str(copy / "train"), size_px=32)),
    ):
        pass


def test_without_a_split_a_fifth_is_held_back_and_trains_nothing(tmp_path: Path) -> None:
    made = write_pictures(tmp_path / "all", {"": 60})
    with load(tiles.open_tiles(made, size_px=32)) as data:
        assert len(data.train) == 48 and len(data.validation) == 12
        assert not pixels(data, "train") & pixels(data, "validation")
        assert any("held out" in w for w in data.warnings)
        assert len(set(np.bincount(data.labels[data.validation]))) == 1


def test_copies_of_held_out_pictures_train_nothing(tmp_path: Path) -> None:
    made = tmp_path / "all"
    write_pictures(made, {"train": 30, "validation": 12})
    shutil.copy(made / "validation/grass/001.png", made / "train/grass/copy.png")
    with load(tiles.open_tiles(str(made), size_px=32)) as data:
        assert len(data.train) == 30
        assert not pixels(data, "train") & pixels(data, "validation")
        assert any("1 training tiles are copies" in w for w in data.warnings)


def test_a_validation_set_of_its_own_takes_the_place_of_the_sources(tmp_path: Path) -> None:
    made = write_tiles(tmp_path / "a", {"train": 30, "validation": 12})
    other = write_tiles(tmp_path / "b", {"train": 9, "validation": 15}, seed=77)
    with load(made.uri) as alone:
        own_train, own_validation = pixels(alone, "train"), pixels(alone, "validation")
    with load(made.uri, other.uri) as data:
        assert pixels(data, "train") == own_train
        assert len(data.validation) == 15
        assert not pixels(data, "validation") & (own_train | own_validation)
        assert data.held_out == "other"
        assert data.digest not in (made.digest, other.digest)


def test_validation_sets_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    made = write_tiles(tmp_path / "a", {"train": 30})
    with pytest.raises(TrainError, match=r"has tiles of 24 px and .* of 32"):
        open_sets(made.uri, write_tiles(tmp_path / "b", {"validation": 6}, side=24).uri)
    other = tmp_path / "c" / "roof"
    shutil.copytree(tmp_path / "a/pictures/train/brick", other)
    with pytest.raises(TrainError, match="other classes"):
        open_sets(made.uri, tiles.open_tiles(str(other.parent), size_px=32))


def test_tiles_too_many_for_the_memory_come_from_a_file_that_goes(tmp_path: Path) -> None:
    from quadrat import storage

    made = write_tiles(tmp_path, {"train": 30, "validation": 12})
    folder = storage.cache_dir() / "decoded"
    with load(made.uri) as held, load(made.uri, memory_mb=0) as mapped:
        assert isinstance(mapped.chips, np.memmap) and not isinstance(held.chips, np.memmap)
        np.testing.assert_array_equal(held.chips, mapped.chips)
        np.testing.assert_array_equal(held.train, mapped.train)
        assert list(folder.iterdir())
    assert not list(folder.iterdir())


def test_files_of_killed_trainings_go_and_those_of_others_stay(tmp_path: Path) -> None:
    from quadrat import storage

    made = write_tiles(tmp_path, {"train": 30, "validation": 12})
    folder = storage.cache_dir() / "decoded"
    folder.mkdir(parents=True, exist_ok=True)
    killed, index, used = (folder / n for n in ("1-a.u8", "1-a.parquet", "2-b.u8"))
    for path in (killed, index, used):
        path.write_bytes(b"tiles")
    with used.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with load(made.uri, memory_mb=0):
            assert len(list(folder.iterdir())) == 2
            assert used.exists() and not killed.exists() and not index.exists()
    used.unlink()


def test_no_room_for_the_file_is_said_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write_tiles(tmp_path, {"train": 30})
    usage = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with (
        pytest.raises(TrainError, match=r"no room for them; set QUADRAT_CACHE"),
        load(made.uri, memory_mb=0),
    ):
        pass


def test_unreadable_pictures_are_left_out_and_listed(tmp_path: Path) -> None:
    made = tmp_path / "all"
    write_pictures(made, {"train": 30, "validation": 12})
    for name in ("train/brick/000.png", "validation/water/002.png"):
        (made / name).write_bytes((made / name).read_bytes()[:100])
    with load(tiles.open_tiles(str(made), size_px=32)) as data:
        assert (len(data.train), len(data.validation)) == (29, 11)
        assert {s.name for s in data.skipped} == {"train/brick/000.png", "validation/water/002.png"}
        assert any("2 tiles could not be read" in w for w in data.warnings)
        for split in ("train", "validation"):
            for i in getattr(data, split):
                assert data.chips[i].any()
                assert data.called[i].split("/")[1] == data.legend.names[data.labels[i]]


def test_a_share_of_the_training_tiles(tmp_path: Path) -> None:
    made = write_tiles(tmp_path, {"train": 90, "validation": 12})
    with load(made.uri) as whole, load(made.uri, sample_frac=0.4) as some:
        assert 20 < len(some.train) < 55
        assert pixels(some, "train") < pixels(whole, "train")
        assert pixels(some, "validation") == pixels(whole, "validation")


def test_sets_that_cannot_train_are_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("read")

    monkeypatch.setattr(tiles, "read_part", never)
    write_pictures(tmp_path / "one", {"train": 12})
    for name in ("grass", "water"):
        shutil.rmtree(tmp_path / "one" / "train" / name)
    with pytest.raises(TrainError, match="at least two"), load(str(tmp_path / "one")):
        pass
    (tmp_path / "loose").mkdir()
    shutil.copy(tmp_path / "one/train/brick/000.png", tmp_path / "loose")
    with pytest.raises(TrainError, match="has no legend"), load(str(tmp_path / "loose")):
        pass
