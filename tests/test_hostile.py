"""A seeded part of benchmarks/hostile.py: malformed inputs of every reader end in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "hostile.py"
CASES = 63


@pytest.mark.long
def test_malformed_inputs_end_in_words_and_touch_nothing_else(tmp_path: Path) -> None:
    """In a process of its own, which forks: the tests' process has threads."""
    told = tmp_path / "told.json"
    done = subprocess.run(
        [sys.executable, BENCHMARK, "--cases", str(CASES), "--seed", "1", "--json", told],
        capture_output=True, text=True, check=False, timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(told.read_text())
    assert found.pop("inputs") == CASES
    assert set(found.values()) == {0}, done.stdout
