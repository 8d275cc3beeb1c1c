"""Answers on disk: nothing that was kept is lost, whoever writes and whatever is killed."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pyogrio
import pytest

from made_samples import CLASSES, DATES
from quadrat.errors import InputError, LabelError, StorageError
from quadrat.legend import LandClass, Legend, load_legend
from quadrat.reviews import latest, open_store, store, training_labels
from quadrat.reviews.answers import PlotAnswer, Seen
from quadrat.sampling import package

LEGEND = Legend("own", tuple(LandClass(n, c) for n, c in CLASSES))
ABOUT = {
    "sample": "a" * 64, "purpose": "estimation", "dates": list(DATES),
    "classes": ["Water", "Developed", "Forest", "Cultivated"],
}  # fmt: skip


def counted(file: Path) -> dict[str, dict[int, PlotAnswer]]:
    """The answers of a file that count: interpreter -> plot -> answer."""
    return latest(store.read(open_store(str(file))))


def said(
    plot: int, first: str | None, last: str | None, name: str = "Ana", **more: object
) -> PlotAnswer:
    seen = tuple(Seen(d, c) for d, c in zip(DATES, (first, last), strict=True))
    change = None if first is None else ("no" if first == last else "yes")
    return PlotAnswer(plot, f"r{plot}_c0", name, seen, change, **more)  # type: ignore[arg-type]


def test_an_answer_is_a_row_a_date_and_one_for_the_change(tmp_path: Path) -> None:
    file = tmp_path / "review.gpkg"
    made = store.create(str(file), ABOUT)
    shares = {"Forest": 0.7, "Water": 0.3}
    seen = (Seen(DATES[0], "Forest", shares), Seen(DATES[1], observable=False))
    store.append(made, [PlotAnswer(4, "r4_c0", "Ana", seen, None, 2, "clouds", 7.5)])
    store.append(made, [said(5, "Forest", "Developed", confidence=3)])
    table = pyogrio.read_dataframe(file, layer="answers", read_geometry=False).astype(object)
    table = table.where(table.notna(), None)
    assert table["plot"].tolist() == [4, 4, 4, 5, 5, 5]
    assert table["date"].tolist() == [*DATES, ""] * 2
    assert table["class"].tolist() == ["Forest", None, None, "Forest", "Developed", None]
    assert json.loads(table["shares"][0]) == shares and table["shares"][1] is None
    assert table["observable"].tolist() == [True, False, False, True, True, True]
    assert table["change"].tolist() == [None] * 5 + ["yes"]
    assert set(table["note"]) == {"clouds", ""} and table["revision"].tolist() == [1] * 6
    assert store.read(made)[0].seen == seen


def test_the_file_is_a_geopackage(tmp_path: Path) -> None:
    """What the standard asks of one (OGC 12-128r18, sections 1.1 and 2.4)."""
    file = tmp_path / "review.gpkg"
    store.create(str(file), ABOUT)
    head = file.read_bytes()[:100]
    assert head[:16] == b"SQLite format 3\0" and head[68:72] == b"GPKG"
    assert int.from_bytes(head[60:64], "big") == 10300
    with closing(sqlite3.connect(file)) as base:
        systems = {r[0]: r[1] for r in base.execute(
            "SELECT srs_id, organization FROM gpkg_spatial_ref_sys")}  # fmt: skip
        assert systems == {-1: "NONE", 0: "NONE", 4326: "EPSG"}
        listed = dict(base.execute("SELECT table_name, data_type FROM gpkg_contents"))
        assert listed == {"answers": "attributes", "review": "attributes"}
        for table in listed:
            columns = base.execute(f"PRAGMA table_info({table})").fetchall()
            assert [(c[1], c[2]) for c in columns if c[5]] == [("id", "INTEGER")]
            kinds = {c[2] for c in columns}
            assert kinds <= {"INTEGER", "TEXT", "REAL", "BOOLEAN"}
        assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert base.execute("PRAGMA foreign_key_check").fetchall() == []
    names = [name for name, _ in pyogrio.list_layers(file)]
    assert sorted(names) == ["answers", "review"]


def test_the_latest_revision_counts_and_an_undo_is_one(tmp_path: Path) -> None:
    made = store.create(str(tmp_path / "review.gpkg"), ABOUT)
    (first,) = store.append(made, [said(1, "Forest", "Forest")])
    store.append(made, [said(1, "Forest", "Developed")])
    store.append(made, [said(1, "Water", "Water", "Ben")])
    (gone,) = store.append(made, [first.takes_back()])
    assert (first.revision, gone.revision) == (1, 3)
    counts = counted(tmp_path / "review.gpkg")
    assert counts["Ana"] == {} and counts["Ben"][1].classes == ("Water", "Water")
    store.append(made, [said(1, "Cultivated", "Cultivated")])
    assert latest(store.read(made))["Ana"][1].revision == 4
    assert len(store.read(made)) == 5


def test_answers_cannot_be_changed_or_removed(tmp_path: Path) -> None:
    file = tmp_path / "review.gpkg"
    store.append(store.create(str(file), ABOUT), [said(1, "Forest", "Forest")])
    with closing(sqlite3.connect(file)) as base:
        for line in ("UPDATE answers SET class='Water'", "DELETE FROM answers"):
            with pytest.raises(sqlite3.DatabaseError, match="only added"):
                base.execute(line)


def test_what_is_no_file_of_answers_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        open_store(str(tmp_path / "none.gpkg"))
    (tmp_path / "text.gpkg").write_text("no database, and longer than the head of one " * 20)
    with pytest.raises(InputError, match="--answers"):
        store.create(str(tmp_path / "text.gpkg"), ABOUT)
    with closing(sqlite3.connect(tmp_path / "other.gpkg")) as base, base:
        base.execute("CREATE TABLE plots (id INTEGER)")
    with pytest.raises(InputError, match="no answers of quadrat review"):
        store.create(str(tmp_path / "other.gpkg"), ABOUT)
    with pytest.raises(StorageError, match="a disk of this machine"):
        store.create("s3://box/review.gpkg", ABOUT)


@pytest.mark.parametrize("purpose", ["estimation", "candidates", ""])
def test_a_plot_that_was_drawn_to_estimate_never_trains(tmp_path: Path, purpose: str) -> None:
    file = str(tmp_path / "review.gpkg")
    store.append(store.create(file, ABOUT | {"purpose": purpose}), [said(1, "Forest", "Forest")])
    with pytest.raises(LabelError, match="such plots never train"):
        training_labels(file, LEGEND, DATES[0])
    # nor by a review of other plots that is laid into its file
    with pytest.raises(InputError, match="purpose differs"):
        store.create(file, ABOUT | {"purpose": "training"})


def test_labels_to_train_with_are_what_interpreters_said_of_one_date(tmp_path: Path) -> None:
    file = str(tmp_path / "review.gpkg")
    made = store.create(file, ABOUT | {"purpose": "training"})
    mixed = (Seen(DATES[0], "Forest", {"Forest": 0.6, "Water": 0.4}), Seen(DATES[1], "Water"))
    unseen = (Seen(DATES[0], observable=False), Seen(DATES[1], "Water"))
    store.append(made, [
        said(1, "Forest", "Water"), said(2, "Forest", "Water"), said(3, "Forest", "Water"),
        PlotAnswer(4, "r4_c0", "Ana", unseen), said(1, "Developed", "Water", "Ben"),
        PlotAnswer(2, "r2_c0", "Ben", mixed), said(3, "Water", "Water", "Ben"),
        said(3, "Cultivated", "Water", "settled"),
    ])  # fmt: skip
    found = training_labels(file, LEGEND, DATES[0])
    assert list(zip(found.rows, found.cols, strict=True)) == [(1, 0), (2, 0), (3, 0)]
    # Water, Developed, Forest, Cultivated
    expected = [[0, 0.5, 0.5, 0], [0.2, 0, 0.8, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(found.shares, expected)
    with pytest.raises(LabelError, match="say which"):
        training_labels(file, LEGEND)
    with pytest.raises(LabelError, match="it has no 2020"):
        training_labels(file, LEGEND, "2020")
    with pytest.raises(LabelError, match="which legend nlcd3 lacks"):
        training_labels(file, load_legend("nlcd3"), DATES[0])


def test_answers_to_another_sample_are_refused(tmp_path: Path) -> None:
    file = str(tmp_path / "review.gpkg")
    store.create(file, ABOUT)
    with pytest.raises(InputError, match="another sample"):
        store.create(file, {**ABOUT, "sample": "b" * 64})
    with pytest.raises(InputError, match="purpose differs"):
        store.create(file, {**ABOUT, "purpose": "training"})


# Forks writers, so that each is in the midst of its work at once; it kills Ana's `kills` times.
DRIVER = """
import json, os, signal, sys, time
from quadrat.reviews import store
from test_reviews_store import ABOUT, said

file, kills, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def begin(name, first, count):
    out, told = os.pipe()
    pid = os.fork()
    if not pid:
        made = store.create(file, ABOUT)
        for plot in range(first, first + count):
            store.append(made, [said(plot, "Forest", "Developed", name)])
            os.write(told, b"%d " % plot)  # only now does anyone believe that it is kept
        os._exit(0)
    os.close(told)
    return pid, out

def end(pid, out, seen=b""):
    while piece := os.read(out, 4096):
        seen += piece
    assert os.waitpid(pid, 0)[1] in (0, signal.SIGKILL)
    return [int(n) for n in seen.split()]

kept = {"Ana": [], "Ben": []}
for attempt in range(max(kills, 1)):
    first = 1 + 1000 * attempt
    ana = begin("Ana", first, 900 if kills else count)
    ben = begin("Ben", first, count)
    seen = b""
    if kills:
        while seen.count(b" ") < 3:
            seen += os.read(ana[1], 4096)
        time.sleep(0.002 * attempt)  # at another point of a write each time
        os.kill(ana[0], signal.SIGKILL)
    kept["Ana"] += end(*ana, seen)
    kept["Ben"] += end(*ben)
print(json.dumps(kept))
"""


def drive(file: Path, kills: int, count: int) -> dict[str, list[int]]:
    """What two writers were told is kept, the first of whom is killed again and again."""
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(file), str(kills), str(count)], check=True, text=True,
        capture_output=True, cwd=Path(__file__).parent, timeout=240,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    found: dict[str, list[int]] = json.loads(done.stdout)
    return found


def test_two_who_write_at_once_lose_nothing(tmp_path: Path) -> None:
    file, all_60 = tmp_path / "review.gpkg", list(range(1, 61))
    assert drive(file, 0, 60) == {"Ana": all_60, "Ben": all_60}
    counts = counted(file)
    assert {n: sorted(mine) for n, mine in counts.items()} == {"Ana": all_60, "Ben": all_60}


def test_writers_that_are_killed_lose_nothing_that_was_kept(tmp_path: Path) -> None:
    """Ten times: two write at once, one of them is killed in the midst of it."""
    file = tmp_path / "review.gpkg"
    told = drive(file, 10, 5)
    counts = counted(file)
    assert len(told["Ana"]) >= 30 and len(told["Ben"]) == 50
    assert set(told["Ana"]) <= set(counts["Ana"]) and set(told["Ben"]) == set(counts["Ben"])
    # an answer that nobody was told of is whole, or is not there
    assert all(a.classes == ("Forest", "Developed") for a in counts["Ana"].values())
    # what a killed writer left beside the file is gone with the next answer
    store.append(open_store(str(file)), [said(1, "Forest", "Developed", name="Cy")])
    assert not file.with_name("review.gpkg-journal").exists()


def test_an_unfinished_write_is_taken_back_when_the_answers_are_read(tmp_path: Path) -> None:
    file = tmp_path / "answers.gpkg"
    with closing(sqlite3.connect(file)) as base:
        base.execute("CREATE TABLE answers (plot)")
        base.execute("INSERT INTO answers VALUES (1)")
        base.commit()
    killed = """
import os, signal, sqlite3, sys
base = sqlite3.connect(sys.argv[1], isolation_level=None)
base.execute("PRAGMA cache_size=2")
base.execute("BEGIN IMMEDIATE")
for _ in range(2000):
    base.execute("INSERT INTO answers VALUES (?)", ("x" * 500,))
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", killed, str(file)], check=False)
    assert file.with_name("answers.gpkg-journal").stat().st_size > 0
    with closing(package.connect(file)) as base:
        assert [r["plot"] for r in base.execute("SELECT * FROM answers")] == [1]
    assert not file.with_name("answers.gpkg-journal").exists()
