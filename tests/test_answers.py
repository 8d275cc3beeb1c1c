"""Answers of interpreters, from every file that they come in, and what is wrong with them."""

from __future__ import annotations

import csv
import json
import sqlite3
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest

from made_scores import certain, square, write_scores
from quadrat.errors import InputError, LabelError
from quadrat.legend import load_legend
from quadrat.sampling import PlotSample, sample
from quadrat.sampling.answers import read_answers
from quadrat.sampling.package import COLUMNS

NAMES = load_legend("nlcd6").names


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> PlotSample:
    """30 plots of a map of 2018."""
    folder = tmp_path_factory.mktemp("s")
    rows, cols = square(20)
    ids = np.random.default_rng(0).integers(0, 6, 400)
    scores = write_scores(str(folder / "scores"), rows, cols, certain(ids), date="2018-06-01")
    return sample(scores, str(folder / "sample"), plots=30, export=("ceo", "kml", "template"),
                  points=5)  # fmt: skip


def answer(plot: int, **values: Any) -> dict[str, Any]:
    """A row as the review page writes it."""
    bare = {
        "plot": plot, "tile": "", "interpreter": "ann", "date": "2018-06-01", "class": "Forest",
        "shares": None, "change": None, "confidence": 3, "note": "", "observable": 1,
        "seconds": 12.5, "answered": "2026-01-01T00:00:00Z", "revision": 1,
    }  # fmt: skip
    return bare | values


def package(path: Path, rows: list[dict[str, Any]], about: dict[str, str] | None = None) -> str:
    """A table of answers as any program writes it with SQLite alone."""
    with sqlite3.connect(path) as base:
        base.execute(f"CREATE TABLE answers ({', '.join(COLUMNS)})")
        marks = ", ".join("?" * len(COLUMNS))
        base.executemany(
            f"INSERT INTO answers VALUES ({marks})", [[r[c] for c in COLUMNS] for r in rows]
        )
        if about is not None:
            base.execute("CREATE TABLE review (key, value)")
            base.executemany("INSERT INTO review VALUES (?, ?)", about.items())
    base.close()
    return str(path)


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return str(path)


def records(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_the_page_and_a_csv_say_the_same(drawn: PlotSample, tmp_path: Path) -> None:
    shares = json.dumps({"Forest": 0.7, "Shrub": 0.3})
    rows = [
        answer(1, shares=shares, tile=drawn.tiles[0]),
        answer(2, **{"class": "shrub"}),
        answer(3, observable=0, **{"class": None}),
        answer(4, **{"class": "Cultivated"}),
        answer(4, revision=2, **{"class": "Barren"}),
        answer(5), answer(5, revision=2, **{"class": None}),
        answer(1, interpreter="bob", shares=json.dumps({"Shrub": 1.0}), **{"class": "Shrub"}),
    ]  # fmt: skip
    own = read_answers([package(tmp_path / "review.gpkg", rows)], drawn)
    for row in rows:
        row["observable"] = "yes" if row["observable"] else "no"
    other = read_answers([written(tmp_path / "a.csv", rows)], drawn)
    for got in (own, other):
        assert got.interpreters == ("ann", "bob")
        assert dict(zip(NAMES, got.shares[0, 0, 0], strict=True))["Forest"] == 0.7
        assert got.main[0, :4, 0].tolist() == [NAMES.index(n) if n else -1 for n in (
            "Forest", "Shrub", "", "Barren")]  # fmt: skip
        assert got.answered[0, :6].tolist() == [True, True, True, True, False, False]
        assert got.observable[0, :3].tolist() == [True, True, False]
        assert got.usable.sum(1).tolist() == [3, 1]


def test_what_was_settled_counts_in_place_of_the_others(drawn: PlotSample, tmp_path: Path) -> None:
    rows = [answer(n, interpreter=who) for n in (1, 2) for who in ("ann", "bob")]
    rows += [answer(2, interpreter="settled", **{"class": "Shrub"})]
    got = read_answers([package(tmp_path / "r.gpkg", rows)], drawn)
    assert got.counted[:, :2].tolist() == [[True, False], [True, False], [False, True]]


def test_the_template_is_filled_in_and_read(drawn: PlotSample, tmp_path: Path) -> None:
    template = Path(drawn.uri, "answers-template.csv")
    rows = records(template)
    assert [int(r["plot"]) for r in rows] == list(range(1, 31))
    for row in rows[:20]:
        row |= {"interpreter": "ann", "share_Forest": "0.6", "share_Shrub": "0.4"}
    got = read_answers([written(tmp_path / "filled.csv", rows)], drawn)
    assert got.usable.sum() == 20
    assert got.shares[got.interpreters.index("ann"), 0, 0].sum() == pytest.approx(1)
    assert got.main[got.interpreters.index("ann"), 0, 0] == -1


def test_collect_earth_gets_its_columns_and_points_inside_the_plots(drawn: PlotSample) -> None:
    plots = records(Path(drawn.uri, "ceo_plots.csv"))
    points = records(Path(drawn.uri, "ceo_samples.csv"))
    assert list(plots[0]) == ["LON", "LAT", "PLOTID"] and len(plots) == 30
    assert list(points[0]) == ["LON", "LAT", "PLOTID", "SAMPLEID"] and len(points) == 750
    outlines = geopandas.read_file(Path(drawn.uri, "sample.gpkg")).set_index("plot").geometry
    at = geopandas.points_from_xy(*zip(*((p["LON"], p["LAT"]) for p in points), strict=True))
    mine = outlines.loc[[int(p["PLOTID"]) for p in points]]
    assert all(o.contains(p) for o, p in zip(mine, at, strict=True))
    kml = geopandas.read_file(Path(drawn.uri, "sample.kml"))
    assert kml["Name"].tolist() == [str(n) for n in range(1, 31)]


CEO_HEAD = ("plotid", "center_lon", "center_lat", "shape", "size_m", "sample_points", "email",
            "flagged", "flagged_reason", "collection_time", "analysis_duration",
            "common_securewatch_date", "total_securewatch_dates")  # fmt: skip


def test_collect_earths_plot_export_gives_shares(drawn: PlotSample, tmp_path: Path) -> None:
    asked = [f"Land use:{n}" for n in NAMES] + ["Sure?:yes", "Sure?:no"]
    bare = (
        dict.fromkeys(CEO_HEAD, "")
        | dict.fromkeys(asked, 0)
        | {"email": "ann@x", "flagged": "false"}
    )
    rows = [
        bare
        | {"plotid": 1, "Land use:Forest": "60.00", "Land use:Shrub": "40.00", "Sure?:yes": 100},
        bare | {"plotid": 2, "flagged": "true", "flagged_reason": "cloud"},
        bare | {"plotid": 3},
    ]
    path = tmp_path / "ceo.csv"
    written(path, rows)
    path.write_text("\ufeff" + path.read_text())
    got = read_answers([str(path)], drawn)
    assert got.interpreters == ("ann@x",)
    assert got.shares[0, 0, 0, NAMES.index("Forest")] == pytest.approx(0.6)
    assert got.usable[0, :3].tolist() == [True, False, False]
    assert got.observable[0, :3].tolist() == [True, False, True]


def test_collect_earths_sample_export_counts_points(drawn: PlotSample, tmp_path: Path) -> None:
    rows = [
        {"plotid": plot, "sampleid": i + 1, "lon": 0, "lat": 0, "email": who, "flagged": "false",
         "collection_time": "", "analysis_duration": "3 secs", "imagery_title": "x",
         "sample_geom": "POINT(0 0)", "pl_note": "Forest", "Cover": word}
        for who, plot, words in (("ann", 1, ["Forest"] * 3 + ["Shrub"]), ("bob", 1, ["Shrub"] * 4))
        for i, word in enumerate(words)
    ]  # fmt: skip
    got = read_answers([written(tmp_path / "ceo.csv", rows)], drawn)
    at = NAMES.index("Forest")
    assert got.shares[:, 0, 0, at].tolist() == pytest.approx([0.75, 0.0])


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([answer(31)], r"plot 31 is not in the sample, whose plots are 1 to 30"),
        ([answer(0)], "plot 0 is not in the sample"),
        ([answer(1), answer(1)], "ann answered plot 1 twice.*revision"),
        ([answer(1, **{"class": "Forrest"})], "did you mean Forest"),
        ([answer(1, shares='{"Woods": 1}')], "'Woods' is no class"),
        ([answer(1, shares='{"Forest": 0.5}')], "sum to 1, not to 0.5"),
        ([answer(1, shares='{"Forest": 60, "Shrub": 40}')], "sum to 1, not to 100"),
        ([answer(1, shares="half")], "are no shares"),
        ([answer(1, shares='{"Shrub": 0.8, "Forest": 0.2}')], "Shrub has the largest share"),
        ([answer(1, date="2019")], "'2019' is no date of the sample.*2018-06-01"),
        ([answer(1, tile="r1_c1")], "not r1_c1; the answers are to another sample"),
        ([answer("one")], "'one' is no plot number"),
        ([answer(1, revision="x")], "no revision number"),
    ],
)
def test_answers_that_cannot_be_are_said(
    drawn: PlotSample, tmp_path: Path, rows: list[dict[str, Any]], match: str
) -> None:
    for made in (package(tmp_path / "r.gpkg", rows), written(tmp_path / "r.csv", rows)):
        with pytest.raises(LabelError, match=match):
            read_answers([made], drawn)


def test_files_that_are_no_answers_are_said(drawn: PlotSample, tmp_path: Path) -> None:
    none = tmp_path / "none.csv"
    none.write_text("a,b\n1,2\n")
    with pytest.raises(LabelError, match="answers need plot, interpreter, date"):
        read_answers([str(none)], drawn)
    with pytest.raises(LabelError, match="name a file of answers"):
        read_answers([str(tmp_path / "absent.csv")], drawn)
    with pytest.raises(LabelError, match="no table of answers"):
        read_answers([str(Path(drawn.uri, "sample.gpkg"))], drawn)
    torn = tmp_path / "torn.gpkg"
    torn.write_bytes(Path(drawn.uri, "sample.gpkg").read_bytes()[:3000])
    with pytest.raises(LabelError, match="cannot be read as answers"):
        read_answers([str(torn)], drawn)
    with pytest.raises(InputError, match="--answers"):
        read_answers([], drawn)
    head = written(tmp_path / "ceo.csv", [dict.fromkeys(CEO_HEAD, "") | {"Sure?:yes": 1}])
    with pytest.raises(LabelError, match="no question has the classes"):
        read_answers([head], drawn)


def test_answers_to_another_sample_are_refused(drawn: PlotSample, tmp_path: Path) -> None:
    mine = package(tmp_path / "a.gpkg", [answer(1)], {"sample": json.dumps(drawn.digest)})
    assert read_answers([mine], drawn).usable.sum() == 1
    other = package(tmp_path / "b.gpkg", [answer(1)], {"sample": json.dumps("0" * 64)})
    with pytest.raises(LabelError, match="answers to another sample"):
        read_answers([other], drawn)


def test_the_file_of_answers_stays_as_it_is(drawn: PlotSample, tmp_path: Path) -> None:
    path = tmp_path / "review.gpkg"
    package(path, [answer(1)])
    before, names = path.read_bytes(), sorted(p.name for p in tmp_path.iterdir())
    read_answers([str(path)], drawn)
    assert path.read_bytes() == before and sorted(p.name for p in tmp_path.iterdir()) == names
