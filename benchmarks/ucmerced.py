"""Accuracy on UC Merced: default backbone and logistic head, half of each class held out.

    python benchmarks/ucmerced.py FOLDER [--seeds 5] [--head logistic]

FOLDER has one subfolder of pictures per class. Each seed draws its own half of every class for
training; the other half is only ever tested on. Pictures are resized to 224 pixels.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from quadrat.heads import train
from quadrat.tiles import pack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--head", default="logistic")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--json")
    args = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(args.seeds):
            tiles = pack(
                args.folder, f"{folder}/tiles-{seed}", validation=0.5, seed=seed,
                keep_duplicates=True,
            )  # fmt: skip
            result = train(
                tiles.uri, f"{folder}/model-{seed}", backbone=args.backbone, head=args.head,
                seed=seed, cache=f"{folder}/cache",
            )  # fmt: skip
            results.append(result.accuracy)
            print(f"seed {seed}: {result.accuracy:.4f}", flush=True)
    mean, spread = float(np.mean(results)), float(np.std(results, ddof=1)) if args.seeds > 1 else 0
    print(f"mean {mean:.4f}, standard deviation {spread:.4f}, {args.seeds} seeds")
    if args.json:
        Path(args.json).write_text(json.dumps({"accuracy": results, "mean": mean}))


if __name__ == "__main__":
    main()
