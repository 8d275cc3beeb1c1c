"""The documentation is true: the README's commands run as they stand."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import rasterio

from conftest import ROOT


def commands(text: str) -> list[str]:
    """The `quadrat` lines of the README's path from rasters to a map, without comments."""
    section = text.split("## From your own rasters to a map")[1].split("\n## ")[0]
    lines = [line.strip() for line in section.splitlines() if line.startswith("    ")]
    return [re.sub(r"\s+#.*", "", line) for line in lines if line.startswith("quadrat ")]


@pytest.mark.long
def test_the_readmes_path_from_rasters_to_a_map_runs_as_it_stands(
    county: Any, tmp_path: Path
) -> None:
    (tmp_path / "imagery").mkdir()
    shutil.copy(county.imagery[0], tmp_path / "imagery" / "a.tif")
    (tmp_path / "imagery-2016").mkdir()
    shutil.copy(county.imagery[1], tmp_path / "imagery-2016" / "a.tif")
    shutil.copy(county.labels[0], tmp_path / "nlcd.tif")
    found = commands((ROOT / "README.md").read_text())
    assert 4 <= len(found) < 10
    for command in found:
        quadrat = f"{sys.executable} -m quadrat.cli"
        subprocess.run(
            command.replace("quadrat", quadrat, 1), shell=True, cwd=tmp_path, check=True,
            executable="/bin/bash", timeout=480,
        )  # fmt: skip
    with rasterio.open(tmp_path / "map.tif") as data:
        assert data.crs.to_epsg() == 26917 and data.res == (224, 224)
    assert (tmp_path / "map.png").stat().st_size > 5000
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "Overall accuracy" in page and "The imagery is synthetic" in page


def test_the_readmes_python_runs_with_a_quick_network(
    county: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(county.imagery[0], tmp_path / "imagery.tif")
    shutil.copy(county.labels[0], tmp_path / "nlcd.tif")
    monkeypatch.chdir(tmp_path)
    section = (ROOT / "README.md").read_text().split("## From Python")[1].split("\n## ")[0]
    code = "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))
    assert 'head="logistic"' in code
    made: dict[str, Any] = {}
    exec(code.replace('head="logistic"', 'head="logistic", backbone="mean_colour"'), made)
    assert made["scores"].tiles > 300 and len(made["scores"].to_pandas()) == made["scores"].tiles


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"
