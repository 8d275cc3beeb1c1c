"""Scoring against the network alone, same model, same threads, same run.

    python benchmarks/scoring.py [--tiles 4000] [--runs 5] [--precision auto]

"Network alone" runs the same compiled model on chips that lie in memory, one caller a core, and is
interleaved with the others so that a change of the machine's speed meets all alike.
"""

import argparse
import json
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np

from quadrat import model as models
from quadrat.demo import make_demo
from quadrat.engines import get_engine
from quadrat.heads import train
from quadrat.score import score
from quadrat.tiles import read_part, tile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=4000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--json")
    args = parser.parse_args()
    engine = get_engine()
    with tempfile.TemporaryDirectory() as folder:
        county = make_demo(f"{folder}/county", tiles=args.tiles, dates=1)
        tiles = tile([county.imagery[0]], f"{folder}/tiles", labels=county.labels[0], block=4)
        train(tiles.uri, f"{folder}/model", backbone=args.backbone, cache=f"{folder}/cache")
        bundle = models.load_model(f"{folder}/model")
        network = models.runner(bundle, args.precision, workers=engine.slots)
        chips = next(read_part(tiles.parts()[0], 64)).chips
        rates: dict[str, list[float]] = {"network alone": [], "rasters": [], "tile set": []}
        for _ in range(args.runs):
            rates["network alone"].append(alone(network, chips, engine.slots, 2 * args.tiles))
            for name, source in (("rasters", [county.imagery[0]]), ("tile set", tiles.uri)):
                out = f"{folder}/scores"
                shutil.rmtree(out, ignore_errors=True)
                start = time.perf_counter()
                done = score(bundle.uri, source, out, precision=args.precision, engine=engine)
                rates[name].append(done.tiles / (time.perf_counter() - start))
    top = median(rates["network alone"])
    print(f"{network.runtime}, {network.precision}, {engine.slots} workers, {args.tiles} tiles")
    for name, values in rates.items():
        share = median(v / a for v, a in zip(values, rates["network alone"], strict=True))
        print(
            f"{name:14s} median {median(values):8,.0f} tiles/s   {share:6.1%} of the network alone"
        )
    if args.json:
        Path(args.json).write_text(json.dumps({"rates": rates, "ceiling": top}))


def alone(network, chips: np.ndarray, slots: int, total: int) -> float:
    each = max(1, total // slots // len(chips))

    def work(_: int) -> None:
        for _ in range(each):
            network(chips)

    with ThreadPoolExecutor(slots) as pool:
        start = time.perf_counter()
        list(pool.map(work, range(slots)))
        return each * slots * len(chips) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
