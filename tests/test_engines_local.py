"""How much of a machine the local engine takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from quadrat.engines import get_engine, local


def group(root: Path, name: str, content: str, file: str = "cpu.max") -> None:
    folder = root / name.lstrip("/")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(content)


@pytest.mark.parametrize(
    ("content", "want"),
    [("max 100000\n", local.NO_LIMIT), ("100000 100000\n", 1), ("150000 100000\n", 2),
     ("50000 100000", 1), ("800000 100000", 8), ("", local.NO_LIMIT), ("x", local.NO_LIMIT)],
)  # fmt: skip
def test_a_containers_quota_is_a_limit(tmp_path: Path, content: str, want: int) -> None:
    group(tmp_path, "/", content)
    own = tmp_path / "own"
    own.write_text("0::/\n")
    assert local.cgroup_limit(str(tmp_path), str(own)) == want


def test_a_quota_of_a_group_above_counts(tmp_path: Path) -> None:
    group(tmp_path, "/jobs", "200000 100000")
    group(tmp_path, "/jobs/mine", "max 100000")
    own = tmp_path / "own"
    own.write_text("0::/jobs/mine\n")
    assert local.cgroup_limit(str(tmp_path), str(own)) == 2


def test_control_groups_of_the_first_version(tmp_path: Path) -> None:
    group(tmp_path, "cpu/docker/1", "300000\n", "cpu.cfs_quota_us")
    group(tmp_path, "cpu/docker/1", "100000\n", "cpu.cfs_period_us")
    group(tmp_path, "cpu", "-1\n", "cpu.cfs_quota_us")
    group(tmp_path, "cpu", "100000\n", "cpu.cfs_period_us")
    own = tmp_path / "own"
    own.write_text("4:memory:/docker/1\n3:cpu,cpuacct:/docker/1\n")
    assert local.cgroup_limit(str(tmp_path), str(own)) == 3


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert local.cgroup_limit(str(tmp_path), str(tmp_path / "none")) == local.NO_LIMIT


def test_a_quota_limits_cores_workers_and_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(local, "cgroup_limit", lambda: 3)
    assert local.available_cpus() == 3 and get_engine("local").slots == 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity here")
def test_affinity_limits_workers() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from quadrat.engines import get_engine; print(get_engine().slots)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
