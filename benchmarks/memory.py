"""Peak memory of cutting and scoring at 10,000 and 100,000 tiles, each in a process of its own.

    python benchmarks/memory.py [--small 10000] [--large 100000]

Tiles of 32 pixels keep the run short; what could grow with the number of tiles (plans, tables,
results) is the same as with tiles of 224.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=100_000)
    parser.add_argument("--json")
    args = parser.parse_args()
    figures: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for n in (args.small, args.large):
            place = Path(folder) / str(n)
            place.mkdir()
            run("make", place, n)
            for what in ("cut", "score"):
                figures.setdefault(what, []).append(run(what, place, n))
    for what, (small, large) in figures.items():
        print(
            f"{what:6s} {args.small:,} tiles {small:7.1f} MB   {args.large:,} tiles {large:7.1f} MB"
            f"   {large / small - 1:+.1%}"
        )
    if args.json:
        Path(args.json).write_text(json.dumps(figures))


def run(what: str, place: Path, n: int) -> float:
    command = [sys.executable, __file__, "--work", what, str(place), str(n)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(output.strip().splitlines()[-1])


def work(what: str, folder: str, n: int) -> None:
    side = round(n**0.5)
    if what == "make":
        make(folder, side)
    elif what == "cut":
        from quadrat.tiles import tile

        made = tile(
            [f"{folder}/a.tif"], f"{folder}/tiles", tile_m=32, labels=f"{folder}/l.tif",
            rule="majority", block=4,
        )  # fmt: skip
        assert abs(made.tiles - n) < 0.02 * n, made.tiles
    else:
        from quadrat.heads import train
        from quadrat.scoring import score

        if what == "score" and not Path(folder, "model").exists():
            subprocess.run(
                [sys.executable, __file__, "--work", "train", folder, str(n)], check=True
            )
        if what == "train":
            train(
                f"{folder}/tiles", f"{folder}/model", backbone="mean_colour", sample_frac=0.02,
                cache=f"{folder}/cache",
            )  # fmt: skip
            return
        done = score(f"{folder}/model", [f"{folder}/a.tif"], f"{folder}/scores")
        assert abs(done.tiles - n) < 0.02 * n, done.tiles
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def make(folder: str, side: int) -> None:
    from quadrat.raster import create_geotiff, write_geotiff

    px, rng = side * 32, np.random.default_rng(0)
    crs = "EPSG:26917"
    with create_geotiff(
        f"{folder}/a.tif", width=px, height=px, count=3, crs=crs, level=1,
        transform=(1, 0, 560000, 0, -1, 4105024), block=512,
    ) as canvas:  # fmt: skip
        for row in range(0, px, 512):
            height = min(512, px - row)
            base = rng.integers(0, 200, (3, height, 1)) + rng.integers(0, 50, (1, 1, px))
            canvas.write_window(row, 0, base.astype(np.uint8))
    codes = rng.choice([21, 41, 31, 52, 71, 82], (1, px // 30 + 2, px // 30 + 2)).astype(np.uint8)
    write_geotiff(f"{folder}/l.tif", codes, crs, (30, 0, 560000, 0, -30, 4105024))


if __name__ == "__main__":
    if "--work" in sys.argv:
        at = sys.argv.index("--work")
        work(*sys.argv[at + 1 : at + 3], int(sys.argv[at + 3]))
    else:
        main()
