"""How results look at a prompt and in a notebook."""

from __future__ import annotations

import html
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import quadrat as qd
from made_scores import square, write_scores
from quadrat.shown import shown


@shown
@dataclass(frozen=True)
class Sample:
    """A result with every kind of value."""

    values: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return self.values


SAMPLE = Sample(
    {
        "uri": "s3://key:secret@box/a?X-Amz-Signature=abc",
        "tiles": 66_123,
        "digest": "0" * 64,
        "legend": None,
        "accuracy": {"value": 0.912, "low": 0.88, "high": 0.94},
        "counts": {"<Forest>": 12, "Water": np.int64(3)},
        "parts": ["a", "b"],
        "many": list(range(1000)),
        "classes": [{"name": "Forest"}, {"name": "Water"}],
        "title": "a\x1b[31m" + "x" * 500,
    }
)


def test_a_result_is_one_short_line_at_the_prompt() -> None:
    line = repr(SAMPLE)
    assert line.startswith("<Sample uri=s3://") and line.endswith(">")
    assert "tiles=66,123" in line and "digest" not in line
    assert len(line) < 300 and "\x1b" not in line and "secret" not in line


def test_a_result_is_a_table_in_a_notebook() -> None:
    page = SAMPLE._repr_html_()  # type: ignore[attr-defined]
    for words in (
        "0.912 (0.88 to 0.94)",
        "Water 3",
        "a, b",
        "1,000",
        "Forest, Water",
        "66,123",
        "0" * 64,
    ):
        assert words in page
    assert "&lt;Forest&gt; 12" in page and "<Forest>" not in page
    assert "secret" not in page and "legend" not in page and "\x1b" not in page


def test_what_users_open_says_what_it_is(tmp_path: Path) -> None:
    for name in ("dark", "light"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32), name == "light" and "white").save(
            tmp_path / "pictures" / name / "a.png"
        )
    tiles = qd.pack(str(tmp_path / "pictures"), str(tmp_path / "tiles"), size_px=32, split=None)
    rows, cols = square(3)
    scores = qd.open_scores(
        write_scores(str(tmp_path / "s"), rows, cols, np.eye(6).repeat(2, 0)[:9])
    )
    folder = qd.open_tiles(str(tmp_path / "pictures"), size_px=32)
    for thing, words in (
        (folder, ("tiles=2",)),
        (tiles, ("tiles=2", "size_px=32")),
        (scores, ("tiles=9", "nlcd6")),
    ):
        line = repr(thing)
        assert line.startswith(f"<{type(thing).__name__} uri=") and len(line) < 400
        page = html.unescape(thing._repr_html_())  # type: ignore[attr-defined]
        assert all(w in line for w in words) and page.startswith("<table>")


@pytest.mark.parametrize("verb", [v for v, (room, _) in qd.VERBS.items() if room and v != "unpack"])
def test_what_a_verb_returns_is_shown_so(verb: str) -> None:
    function = getattr(qd, verb)
    module = importlib.import_module(function.__module__)
    kind = vars(module).get(function.__annotations__["return"]) or getattr(
        sys.modules[f"quadrat.{qd.VERBS[verb][0]}"], function.__annotations__["return"]
    )
    assert hasattr(kind, "_repr_html_") and hasattr(kind, "to_dict")
