"""Cutting: tiles/s of one core from a tiled DEFLATE uint8 GeoTIFF, before encoding; labels/s.

    python benchmarks/cutting.py [--tiles 4000] [--warped 1000]

The imagery is the synthetic county. "Cut" is the time from the file to chips in memory, one thread.
"Warped" cuts on a grid in another CRS, or from pixels of 0.6 m, against GDAL's own warp (rasterio's
`reproject`, one thread, the same resampling) of the whole area into memory in the same round.
"""

import argparse
import tempfile
import time
from statistics import median

import numpy as np

import measure
from quadrat import labels, tiles
from quadrat.county import make_county
from quadrat.legend import load_legend
from quadrat.tiles import open_rasters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=4000)
    parser.add_argument("--warped", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        county = make_county(folder, tiles=args.tiles, dates=1)
        figures = {
            "cut, tiles/s of one core": cut(county.imagery[0], args.runs),
            "nine-point labels, tiles/s": label(county, args.runs),
        }
        shares: dict[str, float] = {}
        small = make_county(f"{folder}/warped", tiles=args.warped, dates=1).imagery[0]
        for name, (file, crs) in {
            "another CRS (EPSG:26918)": (small, "EPSG:26918"),
            "another CRS (EPSG:5070)": (small, "EPSG:5070"),
            "0.6 m to 1 m": (finer(small, f"{folder}/finer.tif"), "EPSG:26917"),
        }.items():
            ours, gdal = warped(file, crs, args.runs)
            figures[f"warped, {name}"], figures[f"GDAL's warp, {name}"] = ours, gdal
            shares[name] = median(a / b for a, b in zip(ours, gdal, strict=True))
    for name, values in figures.items():
        print(f"{name:40s} median {median(values):10,.0f}   {[round(v) for v in values]}")
    for name, share in shares.items():
        print(f"{name:40s} {share:.0%} of GDAL's own warp")
    measure.write(args.json, {"rates": figures, "of_gdal": shares})


def finer(file: str, out: str) -> str:
    """The same pixels as if they were 0.6 m."""
    import rasterio
    from rasterio import Affine

    with rasterio.open(file) as data:
        t = data.transform
        profile = {**data.profile, "transform": Affine(0.6, 0, t.c, 0, -0.6, t.f), "predictor": 2}
        with rasterio.open(out, "w", **profile) as made:
            made.write(data.read())
    return out


def warped(file: str, crs: str, runs: int) -> tuple[list[float], list[float]]:
    """Tiles/s of reading parts, and of one warp of the same rectangle, turn by turn."""
    import rasterio
    from rasterio import Affine
    from rasterio.enums import Resampling
    from rasterio.warp import reproject

    source = open_rasters([file], crs=crs, max_nodata=1.0)
    parts, grid = source.parts(), source.grid
    size, p = grid.size_px, grid.pixel_m
    r0, r1 = min(x.tiles.r0 for x in parts), max(x.tiles.r1 for x in parts)
    c0, c1 = min(x.tiles.c0 for x in parts), max(x.tiles.c1 for x in parts)
    pixels = np.empty((3, (r1 - r0) * size, (c1 - c0) * size), np.uint8)
    ours, gdal = [], []
    for _ in range(runs):
        start = time.perf_counter()
        n = read_all(parts)
        ours.append(n / (time.perf_counter() - start))
        start = time.perf_counter()
        with rasterio.open(file) as data:
            fine = abs(data.transform.a) < 0.98 * p
            reproject(
                rasterio.band(data, (1, 2, 3)), pixels, dst_crs=crs, num_threads=1,
                dst_transform=Affine(p, 0, c0 * size * p, 0, -p, -r0 * size * p),
                resampling=Resampling.average if fine else Resampling.bilinear,
            )  # fmt: skip
        gdal.append(n / (time.perf_counter() - start))
    return ours, gdal


def read_all(parts) -> int:
    """Read every tile; how many there were."""
    return sum(len(batch.chips) for part in parts for batch in tiles.read_part(part))


def cut(file: str, runs: int) -> list[float]:
    source = open_rasters([file], max_nodata=1.0)
    parts, rates = source.parts(), []
    for _ in range(runs):
        start = time.perf_counter()
        n = read_all(parts)
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
