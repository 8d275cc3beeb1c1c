"""Links: remote images read window by window give what copies give, for few more bytes."""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from rasterio.warp import transform_bounds

from conftest import ROOT
from fetch_server import serving
from fetch_world import World, make_world, small_world
from quadrat.fetching import link
from quadrat.raster import RasterInfo, info


def quadrat(
    *args: str, cwd: Path, check: bool = True, **env: str
) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "quadrat.cli", *args], cwd=cwd, capture_output=True, text=True,
        timeout=300, env={**os.environ, **env}, check=False,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stderr
    return done


COUNTIES = [
    "noise",
    pytest.param("one zone", marks=pytest.mark.slow),
    pytest.param("two zones", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=COUNTIES)
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """A served world of noise in two zones, or the synthetic county."""
    folder = tmp_path_factory.mktemp("served")
    if request.param == "noise":
        with small_world(folder, two_zones=True, block=512) as made:
            yield made
        return
    county = request.getfixturevalue("county")
    with serving() as server:
        yield make_world(server, county, folder, two_zones=request.param == "two zones", block=512)


def held(files: Iterable[Path], tiles: Iterable[tuple[int, int]], tile_m: float, crs: str) -> int:
    """Bytes of the blocks that tiles' windows touch, each block once.

    A tile is read from the first file that holds it whole, or else from all that it meets.
    """
    opened = [rasterio.open(f) for f in files]
    need: dict[int, set[tuple[int, int]]] = defaultdict(set)
    for row, col in tiles:
        ground = (col * tile_m, -(row + 1) * tile_m, (col + 1) * tile_m, -row * tile_m)
        for n, data in enumerate(opened):
            b = data.bounds
            w, s, e, t = (
                ground if str(data.crs) == crs else transform_bounds(crs, data.crs, *ground)
            )
            c0, c1 = max(0, int(w - b.left)), min(data.width, int(e - b.left))
            r0, r1 = max(0, int(b.top - t)), min(data.height, int(b.top - s))
            if c0 >= c1 or r0 >= r1:
                continue
            high, wide = data.block_shapes[0]
            need[n] |= {
                (i, j)
                for i in range(c0 // wide, (c1 - 1) // wide + 1)
                for j in range(r0 // high, (r1 - 1) // high + 1)
            }
            if b.left <= w and e <= b.right and b.bottom <= s and t <= b.top:
                break
    total = 0
    for n, blocks in need.items():
        for i, j in blocks:
            total += int(opened[n].get_tag_item(f"BLOCK_SIZE_{i}_{j}", "TIFF", bidx=1))
    for data in opened:
        data.close()
    return total


@pytest.mark.long
def test_links_score_as_copies_do_for_few_more_bytes(
    world: World, county_model: str, tmp_path: Path
) -> None:
    place = ["--county", "Middlesex, VA", "--year", "2014"]
    quadrat("fetch", "naip", *place, "--out", "copies", *world.addresses, cwd=tmp_path)
    said = quadrat(
        "fetch", "naip", *place, "--out", "links", "--link", *world.addresses, cwd=tmp_path
    )
    service = re.search(r"VSICURL_PC_SAS_TOKEN_URL=(\S+)", said.stdout)
    assert service is not None
    assert sum(p.stat().st_size for p in (tmp_path / "links").rglob("*.vrt")) < 40_000
    world.server.clear()
    outline = ["--within", "copies/outline.geojson"]
    quadrat("score", county_model, "copies/2014", *outline, "--out", "a", cwd=tmp_path)
    assert world.server.requests == []
    quadrat(
        "score", county_model, "links/2014", *outline, "--out", "b", cwd=tmp_path,
        VSICURL_PC_SAS_TOKEN_URL=service[1],
    )  # fmt: skip
    a, b = (pq.read_table(tmp_path / s / "parts") for s in "ab")
    assert len(a) == len(b) > 30
    for name in a.column_names:
        if name == "source":
            stems = [[Path(s).stem for s in t[name].to_pylist()] for t in (a, b)]
            assert stems[0] == stems[1]
        else:
            assert a[name].equals(b[name]), name
    assert set(b["date"].to_pylist()) == {"2014-10-02"}
    read = sum(r.sent for r in world.server.seen("/naip/"))
    tiles = list(zip(a["row"].to_pylist(), a["col"].to_pylist(), strict=True))
    files = sorted((tmp_path / "copies" / "2014").glob("*.tif"))
    least = held(files, tiles, 224.0, "EPSG:26917")
    print(f"links: {read:,} bytes read, {least:,} held by the windows, {read / least:.3f}")
    assert read <= 1.3 * least
    assert read < sum(f.stat().st_size for f in files), "and fewer than the files have"


def test_links_hold_no_secret_and_are_written_once(world: World, tmp_path: Path) -> None:
    line = ["fetch", "naip", "--county", "Middlesex, VA", "--year", "2011", "--out", "links",
            "--link", *world.addresses]  # fmt: skip
    quadrat(*line, cwd=tmp_path)
    links = sorted((tmp_path / "links" / "2011").glob("*.vrt"))
    assert len(links) == 6
    for path in links:
        assert "sig=" not in path.read_text() and "pc_collection=naip" in path.read_text()
    world.server.clear()
    assert "0 written" in quadrat(*line, cwd=tmp_path).stdout
    assert world.server.seen("/naip/") == []


def test_a_link_says_what_the_image_says(world: World) -> None:
    path = next(iter(world.images.values()))
    text = link.vrt(info(str(path)), str(path))
    with (
        rasterio.MemoryFile(text.encode(), ext=".vrt") as memory,
        memory.open() as data,
        rasterio.open(path) as image,
    ):
        assert (data.crs, data.transform) == (image.crs, image.transform)
        assert data.shape == image.shape and data.dtypes == image.dtypes
        assert data.colorinterp[:3] == image.colorinterp[:3]
        assert np.array_equal(data.read(), image.read())


@pytest.mark.parametrize("mask", ["nodata", "band", "alpha"])
def test_a_link_keeps_what_is_no_data(tmp_path: Path, mask: str) -> None:
    pixels = np.random.default_rng(3).integers(1, 255, (4, 64, 80)).astype(np.uint8)
    if mask == "alpha":
        pixels[3] = 255
    path = tmp_path / "a.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(
        path, "w", driver="GTiff", width=80, height=64, count=4, dtype="uint8", crs="EPSG:26917",
        transform=rasterio.transform.from_origin(5e5, 4e6, 1, 1), photometric="RGB",
        nodata=0 if mask == "nodata" else None, alpha="yes" if mask == "alpha" else "no",
    ) as out:  # fmt: skip
        pixels[:, :10, :20] = 0
        out.write(pixels)
        if mask == "band":
            out.write_mask((np.arange(80) > 30) & np.ones((64, 1), bool))
    facts: RasterInfo = info(str(path))
    linked = tmp_path / "a.vrt"
    linked.write_text(link.vrt(facts, str(path)))
    with rasterio.open(path) as image, rasterio.open(linked) as data:
        assert np.array_equal(data.read(), image.read())
        assert np.array_equal(data.dataset_mask(), image.dataset_mask())
        assert not data.dataset_mask().all()


def fetch_until_killed(world: World, out: Path, line: list[str], after_s: float) -> int:
    """Start the fetch, kill it that long after its first image began to come; its exit code."""
    world.server.clear()
    job = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while job.poll() is None and time.monotonic() < until:
            if world.server.seen("/naip/", "GET"):
                time.sleep(after_s)
                break
            time.sleep(0.005)
        job.send_signal(signal.SIGKILL)
    finally:
        job.wait(30)
    return job.returncode


@pytest.mark.parametrize(
    "kills", [2, pytest.param(10, marks=pytest.mark.slow)], ids=["twice", "ten times"]
)
def test_a_fetch_that_is_killed_ends_with_every_file_whole_and_none_fetched_twice(
    tmp_path: Path, kills: int
) -> None:
    with small_world(tmp_path / "world", rows=2, cols=3) as world:
        out, rng = tmp_path / "naip", random.Random(kills)
        line = [sys.executable, "-m", "quadrat.cli", "fetch", "naip", "--county", "Middlesex, VA",
                "--years", "2011", "2014", "--out", str(out), *world.addresses]  # fmt: skip
        total = sum(p.stat().st_size for p in world.images.values())
        # each of four connections gets this much, so that all kills fall into the fetch
        world.server.bytes_per_s = total / 4 / (0.5 * kills + 1)
        sent: dict[str, int] = defaultdict(int)
        done: set[str] = set()
        for _ in range(kills):
            assert fetch_until_killed(world, out, line, rng.uniform(0.02, 0.9)) == -signal.SIGKILL
            for request in world.server.seen("/naip/", "GET"):
                assert Path(request.path).name not in done, "a file that was whole came again"
                sent[request.path] += request.sent
            found = sorted(out.rglob("*.tif"))
            for path in found:
                assert path.read_bytes() == world.images[path.stem].read_bytes()
                assert Path(f"{path}.quadrat.json").exists()
            done = {p.name.removeprefix("va_") for p in found}
        assert len(done) < 12, "the kills fell into the fetch"
        world.server.clear()
        world.server.bytes_per_s = None
        subprocess.run(line, check=True, capture_output=True, timeout=120)
        for request in world.server.seen("/naip/", "GET"):
            assert Path(request.path).name not in done
            sent[request.path] += request.sent
        files = {p.stem: p for p in out.rglob("*.tif")}
        assert set(files) == set(world.images)
        for name, path in files.items():
            mine = hashlib.sha256(path.read_bytes()).hexdigest()
            assert mine == hashlib.sha256(world.images[name].read_bytes()).hexdigest()
        assert not list(out.rglob("*.part*"))
        # what was under way at each kill, four chunks of 64 kB and as many in the sockets, is lost
        print(f"killed {kills} times: {sum(sent.values()):,} bytes sent for {total:,}")
        assert total <= sum(sent.values()) <= total + kills * 4 * 2 * 65536


@pytest.mark.slow
def test_the_documented_way_from_a_county_to_a_map(
    county: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every command of docs/your-county.md, in order, against the local servers."""
    text = (ROOT / "docs" / "your-county.md").read_text("utf-8")
    way = text.split("## The whole way")[1].split("\n## ")[0]
    lines = re.findall(r"^    (quadrat .+)$", way, re.MULTILINE)
    assert [line.split()[1] for line in lines][:4] == ["fetch", "fetch", "fetch", "tile"]
    with serving() as server:
        world = make_world(server, county, tmp_path_factory.mktemp("served"), two_zones=True)
        for line in lines:
            command = re.sub(r"\s+#.*", "", line)
            # the documented years and place, as far as the synthetic county has them
            command = command.replace("2010", "2011").replace("2016", "2014")
            command = command.replace("Middlesex, MA", "Middlesex, VA")
            if command.startswith("quadrat fetch naip"):
                command += " " + " ".join(world.addresses)
            elif command.startswith("quadrat fetch nlcd"):
                command += " " + " ".join(world.label_addresses)
            command = command.replace("quadrat", f"{sys.executable} -m quadrat.cli", 1)
            done = subprocess.run(
                command, shell=True, cwd=tmp_path, executable="/bin/bash", capture_output=True,
                text=True, timeout=600, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{line}\n{done.stderr}"
    with rasterio.open(tmp_path / "map-2014.tif") as data:
        assert data.crs.to_epsg() == 26917 and data.res == (224, 224)
