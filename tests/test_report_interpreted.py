"""The report on a map whose sample of plots was interpreted: against the estimators themselves."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import quadrat as qd
from made_samples import COL, GRID, ROW, write_imagery
from made_scores import certain, square, write_scores
from quadrat.areas.tables import number
from quadrat.errors import InputError
from quadrat.legend import load_legend
from quadrat.reviews import store
from quadrat.reviews.answers import PlotAnswer, Seen
from quadrat.reviews.plots import open_plots

WET = Seen("2014-09-30", "Wetlands", {"Wetlands": 1.0})


@pytest.fixture
def read(write_raster: Callable[..., str], tmp_path: Path) -> tuple[str, Any, str]:
    """Scores of 64 tiles, a sample of 40, and what two interpreters and a settler said of it."""
    rows, cols = square(8, ROW, COL)
    legend = load_legend("nlcd8")
    ids = np.where(rows % 2 == 0, legend.id("Forest"), legend.id("Developed"))
    scores = write_scores(
        str(tmp_path / "scores"), rows, cols, certain(ids, k=8), date="2014-09-30",
        legend=legend, grid=GRID,
        provenance={"imagery": [{"file": write_imagery(write_raster)[1]}]},
    )  # fmt: skip
    drawn = qd.sample(scores, str(tmp_path / "plots"), plots=40, seed=4)
    listed = open_plots(drawn.uri)
    kept = store.create(f"{drawn.uri}/review.gpkg", listed.about)
    for who in ("Ana", "Ben"):
        said = []
        for plot in listed.plots:
            word = "Forest" if plot.row % 2 == 0 else "Developed"
            if plot.number in (3, 7) and who == "Ben":
                word = "Water"
            mixed = {"Forest": 0.6, "Shrub": 0.4}
            seen = Seen("2014-09-30", word, {word: 1.0})
            if plot.number == 9:
                seen = Seen("2014-09-30", "Forest", mixed)
            if plot.number == 11:
                seen = Seen("2014-09-30", observable=False)
            said.append(PlotAnswer(plot.number, plot.tile, who, (seen,)))
        store.append(kept, said)
    settled = PlotAnswer(3, listed.plot(3).tile, "settled", (WET,))
    store.append(kept, [settled])
    return scores, drawn, str(kept.path)


def cells(page: str, caption: str) -> list[list[str]]:
    """Rows of the table with a caption, as text."""
    table = next(t for t in re.findall(r"<table.*?</table>", page, re.DOTALL) if caption in t)
    body = table.split("<tbody>")[1]
    return [
        [re.sub(r"<[^>]+>", "", c).strip() for c in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    ]


def test_the_report_says_what_interpreted_plots_say(
    read: tuple[str, Any, str], tmp_path: Path
) -> None:
    scores, drawn, answers = read
    out = tmp_path / "report.html"
    result = qd.report([scores], str(out), sample=drawn.uri, answers=[answers])
    assert {"Interpreted plots", "Disputed plots"} <= set(result.sections)
    page = out.read_text("utf-8")
    # the figures of `area`
    area = qd.area(scores, sample=drawn.uri, answers=[answers])
    rows = {r[0]: r for r in cells(page, area.title)}
    assert set(rows) == {r.name for r in area.rows}
    for row in area.rows:
        if row.adjusted is not None and row.se_ha is not None:
            assert rows[row.name][3].startswith(number(row.adjusted.value))
            assert rows[row.name][4] == number(row.se_ha)
    assert area.accuracy is not None
    assert f"{area.accuracy.overall.value:.1%}" in page
    # who, how, and how far they agree
    assert cells(page, "Who interpreted them") == [["Ana", "39"], ["Ben", "39"], ["settled", "1"]]
    strata = cells(page, "How plots were drawn and answered")
    assert sum(int(r[3]) for r in strata) == 39 and sum(int(r[4]) for r in strata) == 1
    (pair,) = cells(page, "How they agree")
    assert pair[:3] == ["Ana, Ben", "2014-09-30", "39"] and pair[3] == f"{37 / 39:.1%}"
    # where: a dot a plot, and the two disputed ones with their pictures
    chart = next(s for s in re.findall(r"<svg.*?</svg>", page, re.DOTALL) if "plots lie" in s)
    assert chart.count("<circle") == 40 and "cannot be observed 1" in chart
    section = page.split('id="disputed"')[1].split("</section>")[0]
    assert section.count("<figure") == 2 and section.count("data:image/jpeg") == 2
    assert "2 plots were read unlike each other, 1 of them are settled" in section
    assert "<strong>Ben</strong>: Water" in section and "<strong>settled</strong>: Wet" in section
    assert f"By {39} interpreted plots the map is right on" in result.summary[0]


def test_a_sample_of_another_map_is_refused(read: tuple[str, Any, str], tmp_path: Path) -> None:
    scores, drawn, answers = read
    rows, cols = square(8, ROW, COL)
    other = write_scores(
        str(tmp_path / "other"), rows, cols, certain(np.zeros(64, int), k=8), date="2014-09-30",
        legend=load_legend("nlcd8"), grid=GRID,
    )  # fmt: skip
    out = str(tmp_path / "report.html")
    with pytest.raises(InputError, match="none of the maps of this report"):
        qd.report([other], out, sample=drawn.uri, answers=[answers])
    with pytest.raises(InputError, match="needs its answers"):
        qd.report([scores], out, sample=drawn.uri)
    with pytest.raises(InputError, match="name it with --sample"):
        qd.report([scores], out, answers=[answers])


def test_pictures_that_are_gone_are_said(read: tuple[str, Any, str], tmp_path: Path) -> None:
    scores, drawn, answers = read
    (tmp_path / "2014-09-30.tif").unlink()
    out = tmp_path / "report.html"
    qd.report([scores], str(out), sample=drawn.uri, answers=[answers])
    page = out.read_text("utf-8")
    assert "No pictures of disputed plots" in page
    assert page.split('id="disputed"')[1].split("</section>")[0].count("<figure") == 2


def test_readers_who_gave_no_shares_tell_of_plots(
    read: tuple[str, Any, str], tmp_path: Path
) -> None:
    scores, drawn, answers = read
    kept = store.open_store(answers)
    tile = open_plots(drawn.uri).plot(1).tile
    store.append(kept, [PlotAnswer(1, tile, "Ana", (Seen("2014-09-30", "Forest"),))])
    out = tmp_path / "report.html"
    qd.report([scores], str(out), sample=drawn.uri, answers=[answers])
    page = out.read_text("utf-8")
    assert "Area of plots by main class" in page
    assert "Of 1 of the plots readers said the main class and no shares" in page
