"""Features and heads: a county's training tiles to a model, then second heads on kept features.

    python benchmarks/training.py [--tiles 44184] [--runs 1]

The tiles are cut from the synthetic county and all labelled by majority (44,184 is the size of the
training set of the system that Quadrat replaces); a fifth of them validates. "First" is `train`
with nothing in the cache: features in the accepted precision and the comparison with float that
accepts it, calibration, head, model. "Second" is `train` again with other settings.
"""

import argparse
import os
import shutil
import time
from pathlib import Path
from statistics import median

import measure
from quadrat.county import make_county
from quadrat.heads import train
from quadrat.tiles import open_tileset, tile

SECOND = {
    "second head, logistic": {"head": "logistic", "reg": 0.01},
    "second head, forest": {"head": "forest"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, default=44_184)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--precision", default="auto")
    measure.start(run, parser)


def run(args: argparse.Namespace, folder: Path) -> None:
    cut = folder / f"labelled-{args.tiles}"
    if not (cut / "tileset.json").exists():
        county = make_county(str(folder / f"county-{args.tiles}"), tiles=args.tiles, dates=1)
        tile(
            [county.imagery[0]], str(cut), labels=county.labels[0], rule="majority",
            threshold=0.01, split="random",
        )  # fmt: skip
    tiles = open_tileset(str(cut))
    seconds: dict[str, list[float]] = {}
    seen, cache = {}, str(folder / "cache")
    os.environ["QUADRAT_CACHE"] = cache  # nothing of the user's own is used
    for _ in range(args.runs):
        shutil.rmtree(cache, ignore_errors=True)
        for name, options in {"first head, logistic": {}, **SECOND}.items():
            start = time.perf_counter()
            done = train(
                tiles.uri, str(folder / "model"), backbone=args.backbone, cache=cache,
                precision=args.precision, **options,
            )  # fmt: skip
            seconds.setdefault(name, []).append(time.perf_counter() - start)
            seen[name] = (done.precision, dict(done.seconds), done.accuracy)
    print(measure.in_words(measure.machine()))
    print(f"{tiles.tiles:,} tiles, {args.backbone}")
    rows = []
    for name, values in seconds.items():
        precision, parts, accuracy = seen[name]
        rows.append((
            name, precision, f"{median(values):.1f}", f"{parts['features']:.1f}",
            f"{parts['fit']:.1f}", f"{accuracy:.2%}",
        ))  # fmt: skip
    head = ("", "precision", "seconds", "features, s", "fits, s", "accuracy")
    print(measure.table(head, rows))
    measure.write(args.json, {"tiles": tiles.tiles, "seconds": seconds})


if __name__ == "__main__":
    main()
