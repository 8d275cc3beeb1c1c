"""The analysis notebook runs from top to bottom: on its own county, and on a user's scores."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import ROOT
from made_scores import certain, square, write_scores

nbformat = pytest.importorskip("nbformat", reason="nbformat is in the extra 'notebook'")
nbclient = pytest.importorskip("nbclient", reason="nbclient is in the extra 'notebook'")

NOTEBOOK = ROOT / "notebooks" / "model_prediction_analysis.ipynb"


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, source: Any = None) -> Any:
    """The executed notebook; its files go to `folder`."""
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    book = nbformat.read(NOTEBOOK, 4)
    if source is not None:
        first = next(c for c in book.cells if c.cell_type == "code")
        first.source = f"SOURCE = {source!r}"
    client = nbclient.NotebookClient(
        book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    return book


def said(book: Any) -> str:
    """All that the notebook printed and displayed as text."""
    texts = []
    for cell in book.cells:
        for output in cell.get("outputs", ()):
            texts.append(output.get("text", ""))
            texts.append(output.get("data", {}).get("text/markdown", ""))
    return "\n".join(texts)


def pictures(book: Any) -> int:
    return sum(
        "image/png" in o.get("data", {}) or "image/jpeg" in o.get("data", {})
        for c in book.cells
        for o in c.get("outputs", ())
    )


def test_it_is_kept_without_outputs_and_has_one_line_to_change() -> None:
    book = nbformat.read(NOTEBOOK, 4)
    code = [c for c in book.cells if c.cell_type == "code"]
    assert all(not c.outputs and c.execution_count is None for c in code)
    assert len(code[0].source.splitlines()) == 1 and code[0].source.startswith("SOURCE = ")
    assert "synthetic" in book.cells[0].source
    private = re.compile(r"from quadrat\S* import .*\b_|import quadrat\S*\._|\._[a-z]")
    assert not any(private.search(c.source) for c in code)


@pytest.mark.long
def test_it_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = run(tmp_path, monkeypatch)
    text = said(book)
    assert "SYNTHETIC" in text
    assert re.search(r"overall accuracy \*\*[\d.]+%", text)
    assert "# Change, 2011-07-15 to 2014-10-20" in text and "open in a browser" in text
    assert pictures(book) >= 5  # matrix, reliability, map, mistakes, candidates
    page = next(tmp_path.glob("quadrat-*/report.html")).read_text("utf-8")
    assert "Most confident mistakes" in page


@pytest.mark.long
def test_it_takes_a_users_scores_by_one_changed_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, cols = square(12)
    truth = (rows + cols) % 6
    shown = np.where(np.arange(144) % 9 == 0, (truth + 1) % 6, truth)
    uri = write_scores(str(tmp_path / "mine"), rows, cols, certain(shown), truth=truth, date="2018")
    text = said(run(tmp_path, monkeypatch, uri))
    assert f"`{uri}`: 144 tiles" in text
    assert "144 labelled tiles, overall accuracy **88.9%" in text  # 16 of 144 are wrong
    assert "SYNTHETIC" not in text and "# Change" not in text
