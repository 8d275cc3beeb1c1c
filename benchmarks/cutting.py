"""Cutting: tiles/s of one core from a tiled DEFLATE uint8 GeoTIFF, before encoding; labels/s.

    python benchmarks/cutting.py [--tiles 4000]

The imagery is the synthetic county. "Cut" is the time from the file to chips in memory, one thread.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from quadrat import labels, tiles
from quadrat.demo import make_demo
from quadrat.legend import load_legend
from quadrat.tiles import open_rasters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=4000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        county = make_demo(folder, tiles=args.tiles, dates=1)
        figures = {
            "cut, tiles/s of one core": cut(county.imagery[0], args.runs),
            "nine-point labels, tiles/s": label(county, args.runs),
        }
    for name, values in figures.items():
        print(f"{name:32s} median {median(values):10,.0f}   {[round(v) for v in values]}")
    if args.json:
        Path(args.json).write_text(json.dumps(figures))


def cut(file: str, runs: int) -> list[float]:
    source = open_rasters([file], max_nodata=1.0)
    parts, rates = source.parts(), []
    for _ in range(runs):
        start, n = time.perf_counter(), 0
        for part in parts:
            for batch in tiles.read_part(part):
                n += len(batch.chips)
        rates.append(n / (time.perf_counter() - start))
    return rates


def label(county, runs: int) -> list[float]:
    source = open_rasters([county.imagery[0]])
    rows, cols = [], []
    for part in source.parts():
        r, c = np.nonzero(part.mask)
        rows.append(r + part.tiles.r0)
        cols.append(c + part.tiles.c0)
    r, c = np.tile(np.concatenate(rows), 20), np.tile(np.concatenate(cols), 20)
    opened = labels.open_labels(county.labels[0], load_legend("nlcd6"), source.grid)
    rates = []
    for _ in range(runs):
        start = time.perf_counter()
        labels.nine_point(opened, source.grid, r, c)
        rates.append(len(r) / (time.perf_counter() - start))
    return rates


if __name__ == "__main__":
    main()
