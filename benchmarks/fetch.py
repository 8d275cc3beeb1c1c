"""Fetching: what the client itself costs, and the bytes that links read.

    python benchmarks/fetch.py [--tiles 2500]

The synthetic county, cut into 2 x 2 images that overlap as NAIP's do (COG, DEFLATE, 512 px blocks),
is served on loopback by the tests' servers, so the network costs nothing: "fetch" is the rate of
requests, writing, checking the sum and reading every block. "Links" cuts the county from links and
counts at the server what was read, against the bytes of the blocks that the tiles touch.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fetch_server import serving
from fetch_world import make_world
from quadrat import tiles
from quadrat.county import make_county
from test_fetch_link import held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=2500)
    parser.add_argument("--json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving() as server:
        base = Path(folder)
        os.environ["QUADRAT_CACHE"] = str(base / "cache")
        county = make_county(str(base / "county"), tiles=args.tiles, dates=1)
        world = make_world(server, county, base / "served", rows=2, cols=2, block=512)
        figures = {**fetch(world, base), **links(world, base)}
    for name, value in figures.items():
        print(f"{name:44s} {value:14,.3f}")
    if args.json:
        Path(args.json).write_text(json.dumps(figures))


def quadrat(base: Path, *words: str, **env: str) -> tuple[float, str]:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "quadrat.cli", *words], cwd=base, check=True, text=True,
        capture_output=True, env={**os.environ, **env},
    )  # fmt: skip
    return time.perf_counter() - start, done.stdout


def fetch(world, base: Path) -> dict[str, float]:
    place = ["--county", "Middlesex, VA", "--year", "2011", *world.addresses]
    seconds, _ = quadrat(base, "fetch", "naip", *place, "--out", "copies")
    again, _ = quadrat(base, "fetch", "naip", *place, "--out", "copies")
    size = sum(f.stat().st_size for f in (base / "copies/2011").glob("*.tif"))
    return {
        "images": len(world.images),
        "MB of images": size / 1e6,
        "fetch, MB/s, the start left out": size / 1e6 / (seconds - again),
        "a second call that finds all there, s": again,
    }


def links(world, base: Path) -> dict[str, float]:
    place = ["--county", "Middlesex, VA", "--year", "2011", *world.addresses]
    _, said = quadrat(base, "fetch", "naip", *place, "--out", "links", "--link")
    service = re.search(r"VSICURL_PC_SAS_TOKEN_URL=(\S+)", said)[1]
    world.server.clear()
    cut = ["--within", "copies/outline.geojson", "--split", "none", "--encoding", "png"]
    quadrat(base, "tile", "links/2011", *cut, "--out", "a", VSICURL_PC_SAS_TOKEN_URL=service)
    read = sum(r.sent for r in world.server.seen("/naip/"))
    table = tiles.index(tiles.open_tiles(str(base / "a")))
    places = list(zip(table["row"].to_pylist(), table["col"].to_pylist(), strict=True))
    least = held(sorted((base / "copies/2011").glob("*.tif")), places, 224.0, "EPSG:26917")
    return {
        "tiles cut from links": len(places),
        "MB read": read / 1e6,
        "MB held by the tiles' blocks": least / 1e6,
        "read / held": read / least,
    }


if __name__ == "__main__":
    main()
