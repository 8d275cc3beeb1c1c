"""A county from one file: the plan, each step once, what is done again when something changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import quadrat as qd
from quadrat import jobs
from quadrat.cli import run as command
from quadrat.errors import InputError, StorageError

STEPS = ["tile", "train", "change", "map-1", "map-2", "area", "report"]
JOB = """
out = "made"
labels = "labels.tif"

[[dates]]
imagery = "first"

[[dates]]
imagery = "second.tif"

[tile]
block = 3

[train]
backbone = "mean_colour"

[change]
show = 2
"""


@pytest.fixture(scope="module")
def folder(county: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("job")
    (made / "first").mkdir()
    shutil.copy(county.imagery[0], made / "first" / "a.tif")
    shutil.copy(county.imagery[1], made / "second.tif")
    shutil.copy(county.labels[0], made / "labels.tif")
    (made / "county.toml").write_text(JOB)
    return made


@pytest.fixture(scope="module")
def done(folder: Path) -> tuple[Path, jobs.JobResult, list[str]]:
    """The job, stopped once before its report, and then gone on."""
    told: list[str] = []
    stopped = pytest.MonkeyPatch()

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    stopped.setattr(jobs, "VERBS", {**jobs.VERBS, "area": stop})
    stopped.setattr(jobs.inspect, "signature", _signature)
    with pytest.raises(KeyboardInterrupt):
        qd.run(str(folder / "county.toml"), on_plan=lambda s: told.extend(x.name for x in s))
    stopped.undo()
    return folder, qd.run(str(folder / "county.toml")), told


_real = jobs.inspect.signature


def _signature(function: Any) -> Any:
    """The stand-in for a verb has the verb's own names."""
    return _real(qd.area if function.__name__ == "stop" else function)


def states(folder: Path) -> dict[str, str]:
    return dict(qd.run(str(folder / "county.toml"), dry_run=True).states)


def test_the_plan_is_told_before_anything_is_made(done: Any) -> None:
    assert done[2] == STEPS


def test_a_stopped_job_goes_on_where_it_was(done: Any) -> None:
    folder, result, _ = done
    assert list(result.seconds) == ["area", "report"]
    assert [result.states[n] for n in STEPS] == ["done"] * 5 + ["to do"] * 2
    for files in result.made.values():
        assert all(Path(f).exists() for f in files)
    page = Path(result.report).read_text("utf-8")
    assert "The imagery is synthetic" in page
    assert (folder / "made" / "area" / "area.csv").is_file()
    assert (folder / "made" / "change" / "change.json").is_file()


def test_what_is_done_is_not_done_again(done: Any) -> None:
    folder, *_ = done
    before = {p: p.stat().st_mtime_ns for p in (folder / "made").rglob("*") if p.is_file()}
    again = qd.run(str(folder / "county.toml"))
    assert not again.seconds and set(again.states.values()) == {"done"}
    after = {p: p.stat().st_mtime_ns for p in (folder / "made").rglob("*") if p.is_file()}
    assert before == after


def test_a_changed_option_does_its_step_again_and_those_after_it(done: Any) -> None:
    folder, *_ = done
    job = folder / "county.toml"
    job.write_text(JOB + "\n[map]\nsmooth = 1.0\n")
    assert [n for n, s in states(folder).items() if s != "done"] == ["map-1", "map-2"]
    result = qd.run(str(job))
    assert list(result.seconds) == ["map-1", "map-2"]
    job.write_text(JOB.replace("show = 2", "show = 1"))
    assert [n for n, s in states(folder).items() if s == "done"] == ["tile", "train"]
    job.write_text(JOB)
    assert list(qd.run(str(job)).seconds) == ["map-1", "map-2"]


def test_replaced_imagery_does_all_again(done: Any) -> None:
    folder, *_ = done
    picture = folder / "first" / "a.tif"
    was = picture.stat()
    os.utime(picture, ns=(was.st_atime_ns, was.st_mtime_ns + 10**9))
    assert set(states(folder).values()) == {"to do again"}
    os.utime(picture, ns=(was.st_atime_ns, was.st_mtime_ns))
    second = folder / "second.tif"
    was = second.stat()
    os.utime(second, ns=(was.st_atime_ns, was.st_mtime_ns + 10**9))
    assert [n for n, s in states(folder).items() if s == "done"] == ["tile", "train"]
    os.utime(second, ns=(was.st_atime_ns, was.st_mtime_ns))


def test_what_was_deleted_is_made_again(done: Any) -> None:
    folder, *_ = done
    moved = folder / "made" / "report.html"
    moved.rename(folder / "kept.html")
    assert [n for n, s in states(folder).items() if s != "done"] == ["report"]
    (folder / "kept.html").rename(moved)


def test_a_job_of_one_date_scores_and_maps_it(folder: Path, tmp_path: Path) -> None:
    job = tmp_path / "one.toml"
    job.write_text(f'labels = "{folder}/labels.tif"\n[[dates]]\nimagery = "{folder}/first"\n')
    told: list[Sequence[jobs.JobStep]] = []
    result = qd.run(str(job), dry_run=True, on_plan=told.append)
    assert list(result.states) == ["tile", "train", "score", "map", "area", "report"]
    assert result.report is None and result.out == str(tmp_path / "county")
    assert "change" not in {k for step in told[0] for k in step.given}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('labels = "labels.tif"', "", "needs labels"),
        ('imagery = "first"', "", r"\[\[dates\]\] number 1 needs imagery"),
        ("[tile]", "[tyle]", "unknown key 'tyle'.*tile"),
        ("block = 3", "blok = 3", r"\[tile\]: unknown key 'blok'.*block"),
        ("block = 3", 'block = "3"', r"\[tile\] block = '3' cannot be"),
        ("block = 3", 'out = "x"', r"\[tile\]: unknown key 'out'"),
        ('imagery = "first"', "imagery = 1", "needs imagery"),
    ],
)
def test_what_a_job_cannot_say_is_told_with_the_cure(
    folder: Path, tmp_path: Path, old: str, new: str, said: str
) -> None:
    job = tmp_path / "bad.toml"
    job.write_text(JOB.replace(old, new, 1))
    with pytest.raises(InputError, match=said):
        qd.run(str(job), dry_run=True)


def test_files_that_are_not_there_are_named_before_anything_is_made(tmp_path: Path) -> None:
    job = tmp_path / "county.toml"
    job.write_text(JOB)
    with pytest.raises(StorageError, match="first"):
        qd.run(str(job))
    assert not (tmp_path / "made").exists()
    with pytest.raises(InputError, match=r"there is no .*nowhere\.toml"):
        qd.run(str(tmp_path / "nowhere.toml"))


def test_the_command_prints_the_plan(done: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder, *_ = done
    assert command(["run", str(folder / "county.toml"), "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert all(name in shown.err for name in STEPS) and "0 of 7 steps to do" in shown.out


def test_files_among_options_are_of_the_jobs_folder_and_a_new_one_is_seen(tmp_path: Path) -> None:
    for name in ("a.tif", "labels.tif", "outline.geojson", "roads.geojson"):
        (tmp_path / name).write_text("1")
    job = tmp_path / "county.toml"
    job.write_text(
        'labels = "labels.tif"\n[[dates]]\nimagery = "a.tif"\n[tile]\nwithin = "outline.geojson"\n'
        '[report]\noverlay = ["roads.geojson", "https://host/towns.geojson"]\nplace = "Ash"\n'
    )
    options = jobs.read_job(str(job)).options
    assert options["tile"]["within"] == str(tmp_path / "outline.geojson")
    assert options["report"]["overlay"] == (
        str(tmp_path / "roads.geojson"), "https://host/towns.geojson",
    )  # fmt: skip
    assert options["report"]["place"] == "Ash"
    job.write_text(job.read_text().replace(', "https://host/towns.geojson"', ""))

    def keys() -> dict[str, str]:
        return {s.name: s.key for s in jobs.plan(jobs.read_job(str(job)))}

    before = keys()
    (tmp_path / "roads.geojson").write_text("12")
    after = keys()
    assert [n for n in before if before[n] != after[n]] == ["report"]
    (tmp_path / "outline.geojson").write_text("12")
    assert all(a != b for a, b in zip(after.values(), keys().values(), strict=True))
    (tmp_path / "roads.geojson").unlink()
    with pytest.raises(StorageError, match=r"roads\.geojson"):
        keys()
