"""Taking away what was made, and nothing else."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import made_scores
from quadrat import runs, storage, workspace
from quadrat.cli import run
from quadrat.errors import InputError, RunError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder that we are in, with a cache of its own."""
    monkeypatch.setenv("QUADRAT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder


def make(path: Path, size: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def tile_set(folder: Path) -> Path:
    make(folder / "tileset.json")
    make(folder / "plan.json")
    make(folder / "parts" / "part-00000.parquet", 100)
    make(folder / "parts" / ".part-abc.tmp.parquet", 5)  # of a process that was killed
    return folder


def everything(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_a_tile_set_goes_whole(place: Path) -> None:
    tile_set(place / "tiles")
    workspace.note("tiles", "tiles")
    (item,) = workspace.inventory()
    assert (item.kind, item.uri, item.bytes) == ("tiles", str(place / "tiles"), 125)
    done = workspace.clean()
    assert done.deleted and done.bytes == 125
    assert list(place.iterdir()) == []


def test_what_the_change_verb_writes_goes_whole(place: Path) -> None:
    ids = np.arange(64) % 6
    for date, found in (("2010", ids), ("2016", np.roll(ids, 1))):
        made_scores.write_scores(f"scores-{date}", *made_scores.square(8),
                                 made_scores.certain(found), date=date)  # fmt: skip
    assert run(["change", "scores-2010", "scores-2016", "--out", "moved"]) == 0
    assert len(everything(place / "moved")) > 5
    (item,) = workspace.inventory()
    assert (item.kind, item.uri) == ("change", str(place / "moved"))
    assert set(item.files) == {str(p) for p in (place / "moved").rglob("*") if p.is_file()}
    workspace.clean()
    assert not (place / "moved").exists()


def test_a_dry_run_deletes_nothing(place: Path) -> None:
    tile_set(place / "tiles")
    workspace.note("tiles", "tiles")
    before = everything(place)
    done = workspace.clean(dry_run=True)
    assert not done.deleted and done.bytes == 125
    assert everything(place) == before
    json.dumps(done.to_dict())


def test_what_was_not_noted_is_not_listed(place: Path) -> None:
    tile_set(place / "another")
    assert workspace.inventory() == ()
    workspace.clean()
    assert len(everything(place)) == 4


def test_other_files_in_our_folder_stay_with_it(place: Path) -> None:
    folder = tile_set(place / "tiles")
    make(folder / "notes.txt")
    make(folder / "parts" / "mine.parquet")
    workspace.note("tiles", "tiles")
    (item,) = workspace.clean().items
    assert item.foreign == ("notes.txt", "parts/mine.parquet")
    assert everything(place) == {"tiles/notes.txt", "tiles/parts/mine.parquet"}


def test_a_folder_that_is_no_longer_ours_stays(place: Path) -> None:
    make(place / "tiles" / "thesis.tex")
    make(place / "tiles" / "parts" / "part-00000.parquet")
    workspace.note("tiles", "tiles")
    workspace.clean()
    assert everything(place) == {"tiles/thesis.tex", "tiles/parts/part-00000.parquet"}


def test_links_are_removed_and_not_followed(place: Path, tmp_path: Path) -> None:
    treasure = make(tmp_path / "treasure" / "part-00000.parquet")
    folder = place / "tiles"
    make(folder / "tileset.json")
    (folder / "parts").symlink_to(treasure.parent)
    workspace.note("tiles", "tiles")
    workspace.clean()
    assert treasure.exists()


def test_a_file_that_was_changed_since_stays(place: Path) -> None:
    make(place / "map.png", 10)
    workspace.note("files", "map.png")
    make(place / "other.png", 10)
    workspace.note("files", "other.png")
    make(place / "map.png", 11)
    assert [i.uri for i in workspace.clean().items] == [str(place / "other.png")]
    assert everything(place) == {"map.png"}


def test_only_some_kinds(place: Path) -> None:
    tile_set(place / "tiles")
    make(place / "model" / "model.json")
    make(place / "model" / "model.onnx", 50)
    make(place / "model" / "checkpoints" / "best-0003.pt")
    make(place / "model" / "checkpoints" / "last.pt")
    workspace.note("tiles", "tiles")
    workspace.note("models", "model")
    workspace.clean(only=["models"])
    assert not (place / "model").exists()
    assert (place / "tiles" / "tileset.json").exists()
    assert [i.kind for i in workspace.inventory()] == ["tiles"]
    with pytest.raises(InputError, match="no kind 'nope'"):
        workspace.inventory(only=["nope"])


def test_a_thing_made_twice_is_one_thing(place: Path) -> None:
    tile_set(place / "tiles")
    workspace.note("tiles", "tiles")
    workspace.note("tiles", str(place / "tiles"))
    assert len(workspace.inventory()) == 1


def test_what_is_being_written_stays(place: Path) -> None:
    tile_set(place / "tiles")
    workspace.note("tiles", "tiles")
    with storage.lock("tiles"):
        done = workspace.clean()
    assert len(done.kept) == 1
    assert "another process" in done.kept[0][1]
    assert (place / "tiles" / "parts" / "part-00000.parquet").exists()
    assert len(workspace.inventory()) == 1


def test_fetched_rasters_are_those_that_the_summary_names(place: Path) -> None:
    folder = place / "imagery"
    make(folder / "2010" / "m_1.tif", 100)
    make(folder / "2010" / "m_1.tif.quadrat.json")
    make(folder / "2010" / "mine.tif")
    (folder / "fetch.json").write_text(json.dumps({"files": {"2010/m_1.tif": {}, "../x.tif": {}}}))
    outside = make(place / "x.tif")
    workspace.note("imagery", "imagery")
    workspace.clean()
    assert everything(place) == {"imagery/2010/mine.tif", outside.name}


def test_caches_are_listed_and_go(place: Path, tmp_path: Path) -> None:
    make(tmp_path / "cache" / "features" / ("ab" * 16) / "values.npy", 1000)
    for name in ("mine.txt", "features/mine.npy", "features/thesis/values.npy", "decoded/a.u8"):
        make(tmp_path / "cache" / name)
    tile_set(place / "tiles")
    workspace.note("tiles", "tiles")
    assert [(i.kind, i.bytes) for i in workspace.inventory(only=["cache"])] == [("cache", 1000)]
    workspace.clean()
    assert everything(tmp_path / "cache") == {
        "mine.txt", "features/mine.npy", "features/thesis/values.npy", "decoded/a.u8",
    }  # fmt: skip


def test_a_damaged_ledger_line_is_passed_over(place: Path) -> None:
    tile_set(place / "tiles")
    workspace.note("tiles", "tiles")
    with (place / workspace.LEDGER).open("a") as ledger:
        ledger.write('{"kind": "tiles", "uri": ')
    assert len(workspace.inventory()) == 1


def test_no_password_of_the_history_is_noted(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(runs, "files_of", lambda run, tracking_uri: asked.append(tracking_uri))
    address = "postgresql://me:S3cr3t@db/runs"
    workspace.note("runs", address, run="a" * 32)
    assert "S3cr3t" not in (place / workspace.LEDGER).read_text()
    assert workspace.inventory(only=["runs"]) == ()
    monkeypatch.setenv("QUADRAT_TRACKING_URI", address)
    assert workspace.inventory(only=["runs"]) == ()
    assert asked == ["postgresql://db/runs", address]


def test_runs_go_with_their_files_and_the_last_with_the_history(place: Path) -> None:
    made = []
    for name in ("a", "b"):
        with runs.start("train", name=name) as run:
            run.file("folder/note.txt", b"12345")
        made.append(run)
        workspace.note("runs", run.tracking_uri, run=run.id)
    with runs.start("train", name="by hand") as other:
        other.file("note.txt", b"1")
    items = workspace.inventory(only=["runs"])
    assert [(i.run, i.bytes) for i in items] == [(r.id, 5) for r in made]
    workspace.clean()
    assert [r.name for r in runs.list_runs()] == ["by hand"]
    assert len(list((place / "quadrat-work" / "artifacts").rglob("note.txt"))) == 1

    workspace.note("runs", other.tracking_uri, run=other.id)
    workspace.clean()
    assert everything(place) == set()


def test_a_history_that_was_used_otherwise_too_stays(place: Path) -> None:
    with runs.start("train") as run:
        pass
    workspace.note("runs", run.tracking_uri, run=run.id)
    database = run.tracking_uri.removeprefix("sqlite:///")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("INSERT INTO registered_models (name) VALUES ('mine')")
        connection.commit()
    workspace.clean()
    assert Path(database).exists()
    assert runs.list_runs() == ()


def test_a_folder_that_cannot_be_written_says_so(place: Path) -> None:
    make(place / "quadrat-work")
    with pytest.raises(Exception, match="quadrat-work is a file"):
        workspace.note("tiles", "tiles")


def test_the_ledger_is_appended_in_whole_lines(place: Path) -> None:
    pids = []
    for i in range(4):
        pid = os.fork()
        if pid == 0:
            for j in range(50):
                workspace.note("tiles", f"tiles-{i}-{j}-{'x' * 200}")
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    lines = (place / workspace.LEDGER).read_text().splitlines()
    assert len({json.loads(line)["uri"] for line in lines}) == 200


def run_with_a_file(name: str = "a") -> runs.Run:
    with runs.start("train", name=name) as run:
        run.file("model/model.json", b"12345")
    workspace.note("runs", run.tracking_uri, run=run.id)
    return run


def tell(run: runs.Run, sql: str, *values: str) -> None:
    database = run.tracking_uri.removeprefix("sqlite:///")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(sql, values)
        connection.commit()


@pytest.mark.parametrize("where", ["{id}/artifacts", "work/../{id}"])
def test_a_path_in_the_history_never_leads_clean_elsewhere(
    place: Path, tmp_path: Path, where: str
) -> None:
    run = run_with_a_file()
    elsewhere = tmp_path / where.format(id=run.id)
    treasure = make(elsewhere / "model" / "model.json", 5)
    treasure.write_bytes(b"12345")
    tell(run, "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", str(elsewhere), run.id)
    (item,) = workspace.inventory(only=["runs"])
    assert item.files == ()
    workspace.clean()
    assert treasure.read_bytes() == b"12345"
    assert runs.list_runs() == ()


def test_a_link_in_a_runs_folder_is_not_followed(place: Path, tmp_path: Path) -> None:
    with runs.start("train", name="by hand"):
        pass
    run = run_with_a_file()
    folder = place / "quadrat-work" / "artifacts" / run.id / "artifacts"
    treasure = tmp_path / "treasure"
    (folder / "model").rename(treasure)
    (folder / "model").symlink_to(treasure)
    workspace.clean()
    assert (treasure / "model.json").read_bytes() == b"12345"
    again = run_with_a_file("b")
    folder = place / "quadrat-work" / "artifacts" / again.id
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    workspace.clean()
    assert (tmp_path / "moved" / "artifacts" / "model" / "model.json").exists()


def test_files_that_a_run_did_not_keep_stay(place: Path) -> None:
    with runs.start("train", name="by hand"):
        pass
    run = run_with_a_file()
    folder = place / "quadrat-work" / "artifacts" / run.id / "artifacts"
    make(folder / "notes.txt")
    make(folder / "model" / "mine.onnx")
    (item,) = workspace.inventory(only=["runs"])
    assert item.bytes == 5 and len(item.foreign) == 2
    workspace.clean()
    assert {p.name for p in folder.rglob("*") if p.is_file()} == {"notes.txt", "mine.onnx"}
    run = run_with_a_file("b")
    changed = place / "quadrat-work" / "artifacts" / run.id / "artifacts" / "model" / "model.json"
    changed.write_bytes(b"mine")
    workspace.clean()
    assert changed.read_bytes() == b"mine"


def test_an_id_that_is_none_deletes_nothing(place: Path) -> None:
    run = run_with_a_file()
    for bad in ("*", "../../x", "a" * 31, "A" * 32, "' OR 1=1 --", "%"):
        workspace.note("runs", run.tracking_uri, run=bad)
        with pytest.raises(RunError, match="is no run's id"):
            runs.delete_run(bad)
    assert [i.run for i in workspace.inventory(only=["runs"])] == [run.id]
    assert [r.id for r in runs.list_runs()] == [run.id]


def test_a_crafted_ledger_names_nothing_that_was_not_made_here(place: Path, tmp_path: Path) -> None:
    other = tile_set(tmp_path / "other")
    secret = make(tmp_path / "secret.txt")
    stat = secret.stat()
    make(place / workspace.LEDGER).write_text(
        "".join(
            json.dumps(entry) + "\n"
            for entry in (
                {"kind": "tiles", "uri": str(other)},
                {"kind": "tiles", "uri": str(other), "sha256": "0" * 64, "place": str(other)},
                {"kind": "models", "uri": str(tmp_path)},
                {
                    "kind": "files",
                    "uri": str(secret),
                    "stamp": f"{stat.st_size}-{stat.st_mtime_ns}",
                },
                {"kind": "tiles", "uri": ["x"]},
            )
        )
    )
    assert workspace.inventory(only=["tiles", "models", "files"]) == ()
    workspace.clean()
    assert secret.exists() and len(everything(other)) == 4


def test_a_product_that_was_replaced_or_moved_behind_a_link_is_not_ours(
    place: Path, tmp_path: Path
) -> None:
    tile_set(place / "tiles")
    workspace.note("tiles", "tiles")
    make(place / "tiles" / "tileset.json", 11)  # somebody made another one here
    assert workspace.inventory(only=["tiles"]) == ()
    workspace.note("tiles", "tiles")
    (place / "tiles").rename(tmp_path / "kept")
    (place / "tiles").symlink_to(tmp_path / "kept")
    workspace.clean()
    assert len(everything(tmp_path / "kept")) == 4
