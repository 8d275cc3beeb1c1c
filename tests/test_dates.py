"""Acquisition dates: one form, none that is none, and none that becomes another's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Writer, scene
from made_scores import certain, square, write_scores
from quadrat import areas, changes, dates, tiles
from quadrat.errors import InputError, RasterError
from quadrat.reports import report


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("2014-07-03", "2014-07-03"), ("2014", "2014"), (" 2014-7-3 ", "2014-07-03"),
        ("20140703", "2014-07-03"), ("20140703 120000", "2014-07-03"),
        ("2014:07:03 12:00:00", "2014-07-03"), ("2014/07/03", "2014-07-03"),
        ("2014-07-03T17:04:05.123Z", "2014-07-03"), ("2014-07-03T17:04+02:00", "2014-07-03"),
        ("2016-02-29", "2016-02-29"),
    ],
)  # fmt: skip
def test_dates_have_one_form(text: str, date: str) -> None:
    assert dates.find(text) == dates.parse(text) == date


@pytest.mark.parametrize(
    "text",
    [
        "", "July 2014", "2014-13-45", "2015-02-29", "2014-07", "03/07/2014", "07-03-2014", "14",
        "0000:00:00 00:00:00", "201407031", "2014-07/03", "2014-07-03 or so", "1066", "2999-01-01",
        "\u0662\u0660\u0661\u0664", "2014\n2015", "unknown",
    ],
)  # fmt: skip
def test_what_is_no_date_is_refused(text: str) -> None:
    assert dates.find(text) is None
    with pytest.raises(InputError, match="is no date; give YYYY-MM-DD or YYYY"):
        dates.parse(text)


def test_periods_and_their_days() -> None:
    assert dates.period(["2014-08-01", "2014-07-03"]) == "2014-07-03 to 2014-08-01"
    assert dates.period(["2014", "2014"]) == "2014" and dates.period([]) == ""
    assert dates.span("2014-07-03 to 2015") == ("2014-07-03", "2015-12-31")
    assert dates.span("my scores") is None
    assert dates.differ("2014", "2015-01-01") and dates.differ("2014-07-03", "2014-07-04")
    assert not dates.differ("2014", "2014-07-03") and not dates.differ("2014", "early")


def test_order_is_checked_where_it_is_known() -> None:
    dates.check_order([("a", "2014"), ("b", "2014-07-03"), ("c", "scores"), ("d", "2014 to 2016")])
    with pytest.raises(InputError, match=r"c \(2014-07-03\) is earlier than a \(2016\)"):
        dates.check_order([("a", "2016"), ("b", "scores"), ("c", "2014-07-03")])


def tagged(write_raster: Writer, name: str, seed: int = 0, **tags: str) -> str:
    import rasterio

    file = write_raster(name, scene(448, 448, seed))
    with rasterio.open(file, "r+") as raster:
        raster.update_tags(**tags)
    return file


def days(made: Any) -> set[str | None]:
    batches = (b for p in made.parts() for b in tiles.read_part(p))
    return {row["date"] for b in batches for row in b.index.to_pylist()}


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("20140703 120000", "2014-07-03"), ("2014:07:03 12:00:00", "2014-07-03"),
        ("unknown", None), ("0000:00:00", None), ("July 2014", None),
    ],
)  # fmt: skip
def test_the_date_of_a_files_tag_is_a_date_or_none(
    write_raster: Writer, tmp_path: Path, text: str, date: str | None
) -> None:
    file = tagged(write_raster, "a.tif", TIFFTAG_DATETIME=text)
    made = tiles.tile([file], str(tmp_path / "t"), split=None)
    assert days(made) == {date}


def test_a_tag_that_is_no_date_does_not_hide_one_that_is(write_raster: Writer) -> None:
    tags = {"ACQUISITION_DATE": "summer", "TIFFTAG_DATETIME": "2014:07:03 12:00:00"}
    assert tiles.open_rasters([tagged(write_raster, "a.tif", **tags)]).dates == ("2014-07-03",)


def test_a_given_date_is_checked_and_normalised(write_raster: Writer, tmp_path: Path) -> None:
    file = write_raster("a.tif", scene(448, 448))
    made = tiles.tile([file], str(tmp_path / "t"), split=None, date="20140703")
    assert days(made) == {"2014-07-03"}
    with pytest.raises(InputError, match="--date '2014-13-45' is no date"):
        tiles.tile([file], str(tmp_path / "u"), split=None, date="2014-13-45")


def test_two_dates_of_one_ground_are_not_made_one(write_raster: Writer, tmp_path: Path) -> None:
    a, b = (
        tagged(write_raster, f"{y}.tif", y, ACQUISITION_DATE=f"{y}-07-03") for y in (2014, 2016)
    )
    says = r"2014\.tif \(2014-07-03\) and .*2016\.tif \(2016-07-03\) show the same ground.*--date"
    with pytest.raises(RasterError, match=says):
        tiles.tile([a, b], str(tmp_path / "t"), split=None)
    made = tiles.tile([a, b], str(tmp_path / "u"), split=None, date="2016")
    assert days(made) == {"2016"} and made.info["warnings"] == []


def test_ground_that_is_shown_twice_without_a_date_is_said(
    write_raster: Writer, tmp_path: Path
) -> None:
    files = [write_raster(f"{n}.tif", scene(448, 448, n)) for n in range(5)]
    made = tiles.tile(files, str(tmp_path / "t"), split=None)
    (text,) = made.info["warnings"]
    assert re.search(r"1\.tif, .*2\.tif, .*3\.tif and 1 more show ground that files named", text)


def test_neighbours_that_overlap_a_little_are_one_mosaic(
    write_raster: Writer, tmp_path: Path
) -> None:
    import rasterio

    a = tagged(write_raster, "a.tif", ACQUISITION_DATE="2014-07-03")
    b = tagged(write_raster, "b.tif", ACQUISITION_DATE="2015-06-01")
    with rasterio.open(b, "r+") as file:
        file.transform = rasterio.Affine.translation(400, 0) * file.transform
    made = tiles.tile([a, b], str(tmp_path / "t"), split=None)
    assert days(made) == {"2014-07-03", "2015-06-01"}
    assert made.info["warnings"] == [
        "the imagery is of 2 years, 2014 to 2015; each tile keeps the date of its file"
    ]


def test_reversed_dates_are_refused(tmp_path: Path) -> None:
    rows, cols = square(4)
    p = certain(np.arange(16) % 2)
    early = write_scores(str(tmp_path / "a"), rows, cols, p, date="2014")
    late = write_scores(str(tmp_path / "b"), rows, cols, p, date="2016-07-03")
    for work in (
        lambda: changes.change([late, early], str(tmp_path / "c")),
        lambda: report([late, early], str(tmp_path / "r.html")),
        lambda: areas.area(late, early),
    ):
        with pytest.raises(InputError, match=r"\(2014\) is earlier than .* \(2016-07-03\)"):
            work()
    assert not (tmp_path / "r.html").exists()
