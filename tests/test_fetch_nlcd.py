"""NLCD of a place: cut as stored, from a Web Coverage Service or from a file."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform_geom
from shapely.geometry import box, shape

from fetch_server import COVERAGE, Fault
from fetch_world import World, small_world
from quadrat.errors import FetchError, InputError
from quadrat.fetching import FetchedCover, Place, fetch_nlcd, http, landcover, read_record
from quadrat.fetching.http import Policy

QUICK = Policy(attempts=4, base_s=0.01, longest_s=0.05, connect_s=2, read_s=5)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with small_world(tmp_path_factory.mktemp("world"), rows=1, cols=1) as made:
        yield made


@pytest.fixture
def world(served: World) -> Iterator[World]:
    served.server.clear()
    yield served
    served.server.coverage_shift, served.server.coverage_error = 0.0, None


def get(
    world: World, out: Path | str, years: tuple[int, ...] = (2011,), **options: Any
) -> FetchedCover:
    place = options.pop("place", Place("Middlesex", shape(world.outline), "test"))
    with http.Client(QUICK) as client:
        return fetch_nlcd(
            place, years, str(out), service=world.server.wcs, coverage=COVERAGE, client=client,
            **options,
        )  # fmt: skip


def check_as_stored(world: World, path: Path, year: int) -> None:
    """The codes are those of the source, pixel for pixel at its own places, around the county."""
    with rasterio.open(world.server.coverages[year]) as source, rasterio.open(path) as cut:
        assert cut.crs == source.crs and cut.res == source.res == (30, 30)
        assert cut.dtypes == source.dtypes and cut.nodata == source.nodata
        row = (source.bounds.top - cut.bounds.top) / 30
        col = (cut.bounds.left - source.bounds.left) / 30
        assert row == int(row) and col == int(col), "on the source's own lattice"
        r, c = int(row), int(col)
        stored = source.read(1)[r : r + cut.height, c : c + cut.width]
        assert np.array_equal(cut.read(1), stored)
        ground = shape(transform_geom("EPSG:4326", "EPSG:5070", world.outline))
        b = ground.bounds
        assert math.isclose(cut.bounds.left, b[0] - 300, abs_tol=31)
        assert box(*cut.bounds).covers(ground.buffer(298))


def test_the_codes_are_cut_out_as_stored(world: World, tmp_path: Path) -> None:
    result = get(world, tmp_path, (2011, 2014))
    assert result.written == 2
    for year in (2011, 2014):
        check_as_stored(world, tmp_path / f"nlcd_{year}.tif", year)
    found = read_record(str(tmp_path / "nlcd_2014.tif"))
    assert found["year"] == 2014 and found["licence"].startswith("public domain (USGS")
    assert found["gsd"] == 30.0 and found["crs"] == "EPSG:5070"
    asked = [r.query for r in world.server.seen("/geoserver") if "GetCoverage" in r.query]
    assert all("version=1.0.0" in q and "interpolation=nearest+neighbor" in q for q in asked)
    summary = json.loads((tmp_path / "fetch.json").read_text())
    assert set(summary["nlcd"]["years"]) == {"2011", "2014"}


def test_large_places_come_in_pieces(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landcover, "PIECE", 32)
    seen: list[tuple[int, int]] = []
    get(world, tmp_path, on_progress=lambda d, t: seen.append((d, t)))
    asked = [r for r in world.server.seen("/geoserver") if "GetCoverage" in r.query]
    assert len(asked) > 3
    check_as_stored(world, tmp_path / "nlcd_2011.tif", 2011)
    assert seen[0][0] == 0 and seen[-1][0] == seen[-1][1]


def test_a_second_call_fetches_only_what_is_missing(world: World, tmp_path: Path) -> None:
    get(world, tmp_path)
    world.server.clear()
    assert get(world, tmp_path, (2011, 2014)).written == 1
    asked = [r for r in world.server.seen("/geoserver") if "GetCoverage" in r.query]
    assert len(asked) == 1 and "time=2014" in asked[0].query
    (tmp_path / "nlcd_2011.tif").write_bytes(b"half of it")
    assert get(world, tmp_path).written == 1
    check_as_stored(world, tmp_path / "nlcd_2011.tif", 2011)


def test_a_dry_run_and_faults(world: World, tmp_path: Path) -> None:
    world.server.faults["/geoserver/wcs"] = [Fault(503), Fault(cut=50), Fault(429)]
    result = get(world, tmp_path / "out", dry_run=True)
    assert result.pixels[0] > 50 and not (tmp_path / "out").exists()
    world.server.faults["/geoserver/wcs"] = [Fault(), Fault(500), Fault(cut=900)]
    get(world, tmp_path)
    check_as_stored(world, tmp_path / "nlcd_2011.tif", 2011)


def test_resampled_codes_are_refused(world: World, tmp_path: Path) -> None:
    world.server.coverage_shift = 7.0
    with pytest.raises(FetchError, match="resampled values"):
        get(world, tmp_path)
    assert not (tmp_path / "nlcd_2011.tif").exists()


def test_what_the_service_says_is_passed_on(world: World, tmp_path: Path) -> None:
    world.server.coverage_error = "java.lang.NullPointerException: startTime is null"
    with pytest.raises(FetchError, match=r"refuses \(java.lang.NullPointerException: startTime"):
        get(world, tmp_path)
    world.server.coverage_error = None
    with http.Client(QUICK) as client:
        for service, coverage, words in (
            (world.server.wcs, "no:such", "Could not find coverage"),
            (world.server.stac, COVERAGE, "neither XML nor GeoTIFF"),
        ):
            with pytest.raises(FetchError, match=words):
                fetch_nlcd(
                    Place("x", shape(world.outline), "test"), [2011], str(tmp_path),
                    service=service, coverage=coverage, client=client,
                )  # fmt: skip


def test_years_and_places_that_there_are_not(world: World, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="has no 2012; its years are 2011 to 2014"):
        get(world, tmp_path, (2011, 2012))
    with pytest.raises(InputError, match="starts in 1985"):
        get(world, tmp_path, (1980,))
    alaska = Place("Anchorage", box(-150, 61, -149.5, 61.3), "test")
    with pytest.raises(InputError, match="conterminous United States"):
        get(world, tmp_path, place=alaska)


def test_from_a_file_on_this_machine(world: World, tmp_path: Path) -> None:
    pattern = str(world.folder / "Annual_NLCD_LndCov_{year}.tif")
    assert get(world, tmp_path, (2011, 2014), source=pattern).written == 2
    for year in (2011, 2014):
        check_as_stored(world, tmp_path / f"nlcd_{year}.tif", year)
    assert world.server.requests == []


def test_from_a_file_on_the_web_only_windows_are_read(world: World, tmp_path: Path) -> None:
    # in a process of its own: GDAL may hold the interpreter while it waits for the local server
    command = [
        sys.executable, "-m", "quadrat.cli", "fetch", "nlcd", "--bbox",
        *(str(v) for v in shape(world.outline).bounds), "--year", "2011", "--out", str(tmp_path),
        "--source", world.server.url + "/cog/Annual_NLCD_LndCov_{year}.tif",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    gets = world.server.seen("/cog/", "GET")
    assert gets and all(r.range for r in gets)
    with rasterio.open(tmp_path / "nlcd_2011.tif") as cut:
        codes, bounds = cut.read(1), cut.bounds
    with rasterio.open(world.server.coverages[2011]) as source:
        r, c = (
            int((source.bounds.top - bounds.top) / 30),
            int((bounds.left - source.bounds.left) / 30),
        )
        assert np.array_equal(codes, source.read(1)[r : r + codes.shape[0], c : c + codes.shape[1]])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((1, 300, 300), 1.5, np.float32), "no raster of codes"),
        (np.full((3, 300, 300), 21, np.uint8), "no raster of codes"),
        (np.full((1, 300, 300), 200, np.uint8), "200, which are no NLCD codes"),
    ],
)
def test_files_that_hold_no_codes(
    world: World, tmp_path: Path, values: np.ndarray, words: str
) -> None:
    with rasterio.open(world.server.coverages[2011]) as like:
        path = tmp_path / "other.tif"
        with rasterio.open(
            path, "w", driver="GTiff", count=values.shape[0], height=300, width=300,
            dtype=values.dtype, crs=like.crs, transform=like.transform,
        ) as out:  # fmt: skip
            out.write(values)
    with pytest.raises((InputError, FetchError), match=words):
        get(world, tmp_path / "out", source=str(path))
    assert not (tmp_path / "out" / "nlcd_2011.tif").exists()


def test_the_command_line(world: World, tmp_path: Path, capsys: Any) -> None:
    from quadrat.cli import run

    line = ["fetch", "nlcd", "--county", "Middlesex, VA", "--year", "2011", "--out", str(tmp_path)]
    assert run([*line, *world.label_addresses]) == 0
    assert "1 written; 0 were there" in capsys.readouterr().out
    assert run([*line, *world.label_addresses, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["written"] == 0
