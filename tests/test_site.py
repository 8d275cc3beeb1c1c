"""The documentation site: built without a broken link, every page in its navigation, no strangers'
servers asked when it is opened."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

pytest.importorskip("mkdocs", reason="needs quadrat[docs]")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "site"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict", "-d", str(out)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def test_every_page_is_built_and_in_the_navigation(site: Path) -> None:
    start = (site / "index.html").read_text("utf-8")
    pages = [p.stem for p in (ROOT / "docs").glob("*.md") if p.stem != "index"]
    pages += ["changes", "contributing", "support", "security", "benchmarks"]
    for page in pages:
        assert (site / page / "index.html").is_file(), page
        assert f'href="{page}/"' in start, f"{page} is not in the navigation"


def test_links_between_files_of_the_repository_lead_to_pages(site: Path) -> None:
    """Links out of docs/ and into it, which are other ones on the site."""
    contributing = (site / "contributing" / "index.html").read_text("utf-8")
    assert 'href="../design/"' in contributing
    report = (site / "report" / "index.html").read_text("utf-8")
    assert "../notebook/model_prediction_analysis.ipynb" in report
    assert (site / "notebook" / "model_prediction_analysis.ipynb").is_file()
    for name in ("gallery/virginia.jpg", "demo-map.png"):
        assert (site / name).stat().st_size > 10_000


def test_a_page_asks_no_other_server(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]+src="(https?:)?//([^"/]+)', text)
        loaded += re.findall(
            r'<link[^>]+rel="(?:stylesheet|preconnect)"[^>]+href="(https?:)?//([^"/]+)', text
        )
        assert not loaded, (page, loaded[:3])


def test_pictures_of_real_ground_are_small() -> None:
    pictures = list((ROOT / "docs" / "gallery").iterdir())
    assert len(pictures) >= 4
    assert all(p.suffix == ".jpg" and p.stat().st_size < 200_000 for p in pictures)
