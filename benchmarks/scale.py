"""Cost a tile from ten thousand to a million tiles, peak memory, and time to the first tile.

    python benchmarks/scale.py [--counts 10000,100000,1000000] [--model MODEL --imagery FILE]

Tiles of 8 pixels and a model of mean colours: what could grow with the number of tiles (plans,
tables, results, manifests) is the same as with tiles of 224. Each count is scored by `quadrat
score` in a process of its own. With MODEL and a small raster of its tiles, the time from the start
of the process to a finished file of scores is an upper bound of the time to the first tile.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median

import measure

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", default="10000,100000,1000000")
    parser.add_argument("--runs", type=int, default=3, help="of the smaller counts and the start")
    parser.add_argument("--model", help="a model for the start; by default one is trained")
    parser.add_argument("--imagery", help="a small raster for it")
    parser.add_argument("--json")
    args = parser.parse_args()
    rows, figures = [], {}
    print(measure.in_words(measure.machine()))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        start = first(args, folder)
        for count in (int(c) for c in args.counts.split(",")):
            figures[count] = scored(folder / str(count), count, args.runs if count < 500_000 else 1)
            f = figures[count]
            rows.append((
                f"{f['tiles']:,}", f"{f['seconds']:.2f}", f"{f['us']:.1f}", f"{f['peak_mb']:,.0f}"
            ))  # fmt: skip
            print(measure.table(("tiles", "seconds", "us a tile", "peak, MB"), rows), flush=True)
    print(f"start of the process to a few tiles scored and written: {median(start):.2f} s")
    measure.write(args.json, {"counts": figures, "start_s": start})


def scored(folder: Path, count: int, runs: int) -> dict[str, float]:
    """The median run of `quadrat score`; `us` is the time a tile without the process's start."""
    import small_tiles

    folder.mkdir()
    across = max(32, round(count**0.5 / 32) * 32)
    down = max(32, round(count / across / 32) * 32)
    raster = small_tiles.write_raster(folder / "r.tif", across, down)
    model = small_tiles.save_model(str(folder / "model"))
    found = [process(model, raster, folder / f"scores-{n}") for n in range(runs)]
    seconds, peak = median(f[0] for f in found), max(f[1] for f in found)
    tiles = across * down
    tiny = small_tiles.write_raster(folder / "tiny.tif", 4, 4)
    begin = median(process(model, tiny, folder / f"tiny-{n}")[0] for n in range(3))
    return {
        "tiles": tiles, "seconds": seconds, "us": 1e6 * (seconds - begin) / tiles, "peak_mb": peak,
    }  # fmt: skip


def process(model: str, raster: str, out: Path) -> tuple[float, float]:
    """Seconds and peak memory (MB) of `quadrat score` in a process of its own."""
    return measure.process(["score", model, raster, "--out", str(out)])


def first(args: argparse.Namespace, folder: Path) -> list[float]:
    """Seconds of scoring a few tiles by a real network, from the start of the process."""
    import scoring
    from quadrat.raster import info, write_geotiff

    model, imagery = args.model, args.imagery
    if model is None or imagery is None:
        county, tiles = scoring.county(folder, 400)
        model = scoring.trained(folder, tiles.uri, "efficientnet_lite0", None, "auto")
        imagery = str(folder / "few.tif")
        small = window(county, 600)
        about = info(county)
        write_geotiff(imagery, small, about.crs, about.transform)
    process(model, imagery, folder / "warm")  # the measured choice of a runtime is kept on disk
    return [process(model, imagery, folder / f"first-{n}")[0] for n in range(max(3, args.runs))]


def window(file: str, size: int) -> object:
    """The north-west corner of a raster, (3, size, size)."""
    import rasterio

    with rasterio.open(file) as data:
        return data.read((1, 2, 3), window=((0, size), (0, size)))


if __name__ == "__main__":
    main()
