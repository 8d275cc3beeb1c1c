"""Scoring from a tile set, a GeoTIFF and a folder of PNG files against the network alone.

    python benchmarks/scoring.py [--tiles 8000] [--runs 5] [--precision auto]
    python benchmarks/scoring.py --tiles 66000 --runs 1 --png 66000      the whole county

"Network alone" runs the same compiled model on tiles that lie in memory, one caller a core, in the
same round. The imagery is the synthetic county, a tiled DEFLATE GeoTIFF; the PNG files are written
by Pillow at its default level. Everything that `score` does is in its time, from opening the model
to the last line of the manifest; a first short pass warms the file cache.
"""

import argparse
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

from PIL import Image

import measure
from quadrat import model as models
from quadrat.county import make_county
from quadrat.engines import get_engine
from quadrat.heads import train
from quadrat.scoring import score
from quadrat.tiles import open_tileset, read_part, tile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, default=8000)
    parser.add_argument("--png", type=int, default=6000, help="PNG files; 0 for none")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights")
    measure.start(run, parser)


def run(args: argparse.Namespace, folder: Path) -> None:
    engine = get_engine()
    imagery, tiles = county(folder, args.tiles)
    model = trained(folder, tiles.uri, args.backbone, args.weights, args.precision)
    sources = {"tile set": tiles.uri, "GeoTIFF": [imagery]}
    if args.png:
        sources["PNG files"] = pictures(tiles, folder / f"png-{args.png}", args.png, engine.slots)
    bundle = models.open_model(model)
    network = models.runner(bundle, args.precision, workers=engine.slots)
    chips = next(read_part(tiles.parts()[0], 64)).chips
    counted: dict[str, int] = {}

    def scored(name: str) -> float:
        shutil.rmtree(folder / "scores", ignore_errors=True)
        start = time.perf_counter()
        done = score(
            model, sources[name], str(folder / "scores"), precision=args.precision, engine=engine
        )
        counted[name] = done.tiles
        return done.tiles / (time.perf_counter() - start)

    ways = {"network alone": lambda: measure.ceiling(network, chips, engine.slots)}
    ways |= {name: lambda name=name: scored(name) for name in sources}
    for name in sources:
        scored(name)
    rates = measure.rounds(ways, args.runs)
    print(measure.in_words(measure.machine()))
    print(f"{args.backbone}, {network.runtime}, {network.precision}, {engine.slots} streams")
    rows = []
    for name, values in rates.items():
        part = measure.share(values, rates["network alone"])
        seconds = measure.COUNTY / median(values)
        tiles_of = f"{counted[name]:,}" if name in counted else ""
        rows.append((name, tiles_of, f"{median(values):,.0f}", f"{part:.1%}", f"{seconds:.1f}"))
    print(measure.table(("from", "tiles", "tiles/s", "of the network", "66,000 tiles, s"), rows))
    facts = {"backbone": args.backbone, "precision": network.precision, "runtime": network.runtime}
    measure.write(args.json, {**facts, "rates": rates, "tiles": counted})


def county(folder: Path, tiles: int) -> tuple[str, object]:
    """The county's imagery and its tile set."""
    place, cut = folder / f"county-{tiles}", folder / f"tiles-{tiles}"
    if not (cut / "tileset.json").exists():
        made = make_county(str(place), tiles=tiles, dates=1)
        tile([made.imagery[0]], str(cut), labels=made.labels[0], block=4)
    return str(next(place.glob("imagery*.tif"))), open_tileset(str(cut))


def trained(folder: Path, tiles: str, backbone: str, weights: str | None, precision: str) -> str:
    """A logistic head on some of the tiles; with the form that is asked for."""
    where = folder / f"model-{Path(backbone).stem}-{precision}"
    if not (where / "model.json").exists():
        train(
            tiles, str(where), backbone=backbone, weights=weights, precision=precision,
            sample_frac=0.5, cache=str(folder / "cache"),
        )  # fmt: skip
    return str(where)


def pictures(tiles: object, folder: Path, count: int, workers: int) -> str:
    """Some tiles as PNG files, as Pillow writes them by default."""
    if not folder.exists():
        some, n = [], 0
        with ProcessPoolExecutor(workers) as pool:
            for part in tiles.parts():
                for batch in read_part(part):
                    take = batch.chips[: count - n]
                    some += [(folder / f"{n + i:06d}.png", c) for i, c in enumerate(take)]
                    n += len(take)
                    if len(some) >= 1024 or n >= count:
                        folder.mkdir(parents=True, exist_ok=True)
                        list(pool.map(_save, some, chunksize=32))
                        some = []
                if n >= count:
                    break
    return str(folder)


def _save(job: tuple) -> None:
    path, chip = job
    Image.fromarray(chip).save(path)


if __name__ == "__main__":
    main()
