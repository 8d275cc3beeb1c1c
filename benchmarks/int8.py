"""Accuracy of int8 against float32 on UC Merced: half of each class trains, half is tested.

    python benchmarks/int8.py FOLDER [--seeds 5] [--backbone resnet18 --weights FILE]

FOLDER has one subfolder of pictures per class. For each seed a logistic head is fitted to features
of each precision on the same half and measured on the other half; int8 is calibrated on tiles of
the training half. Float and bf16 features do not depend on the seed and are computed once.
"""

import argparse
import dataclasses
import os
import tempfile

import numpy as np

import measure
from quadrat import backbones
from quadrat import model as models
from quadrat.features import Selection, featurize
from quadrat.heads.fit import Settings, fit
from quadrat.model import CALIBRATION_TILES, quantise
from quadrat.tiles import open_tiles, pack, read_part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights")
    parser.add_argument("--json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["QUADRAT_CACHE"] = f"{folder}/cache"  # nothing of the user's own is used
        # the same number of classes and pictures; duplicates stay, as in published splits
        source = open_tiles(pack(args.folder, f"{folder}/tiles", keep_duplicates=True).uri)
        graph = backbones.feature_graph(args.backbone, args.weights, size_px=source.size_px)
        found = accuracies(source, graph, args.seeds)
    print(measure.in_words(measure.machine()))
    base, rows = np.array(found["fp32"]), []
    for name, values in found.items():
        mean, spread = np.mean(values), np.std(values, ddof=1) if len(values) > 1 else 0.0
        fall = (base - np.array(values)).mean()
        rows.append((name, f"{mean:.2%}", f"{spread:.2%}", f"{-100 * fall:+.2f}"))
    print(f"{args.backbone}, {args.seeds} seeds")
    print(measure.table(("precision", "accuracy", "deviation", "points against fp32"), rows))
    measure.write(args.json, {"backbone": args.backbone, "accuracy": found})


def accuracies(source, graph, seeds: int) -> dict[str, list[float]]:
    able = ["fp32"] + ["bf16"] * models.has_bf16() + ["int8"] * models.has_int8()
    once = {p: featurize(source, graph, precision=p) for p in able if p != "int8"}
    index = once["fp32"].index
    names = sorted(set(index["label"].to_pylist()))
    y = np.array([names.index(v) for v in index["label"].to_pylist()])
    found: dict[str, list[float]] = {p: [] for p in able}
    for seed in range(seeds):
        train = half(y, seed)
        for p in able:
            if p == "int8":
                chips = calibration(source, index, train, seed)
                small = quantise(graph.onnx, chips, size_px=source.size_px)
                int8 = dataclasses.replace(graph, onnx=small, any_size=False)
                features = featurize(source, int8, precision=p, select=Selection())
            else:
                features = once[p]
            x = np.asarray(features.values)
            head, _ = fit(x[train], y[train], len(names), Settings(seed=seed))
            right = head.logits(x[~train]).argmax(1) == y[~train]
            found[p].append(float(right.mean()))
        print(
            f"seed {seed}: " + ", ".join(f"{p} {v[-1]:.4f}" for p, v in found.items()), flush=True
        )
    return found


def half(y: np.ndarray, seed: int) -> np.ndarray:
    """Which tiles train: half of each class, (N,) bool."""
    rng, train = np.random.default_rng(seed), np.zeros(len(y), bool)
    for value in np.unique(y):
        mine = rng.permutation(np.flatnonzero(y == value))
        train[mine[: len(mine) // 2]] = True
    return train


def calibration(source, index, train: np.ndarray, seed: int) -> np.ndarray:
    """Some tiles of the training half, (N, H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    paths = np.array(index["path"].to_pylist())[train]
    chosen = set(rng.choice(paths, CALIBRATION_TILES, replace=False).tolist())
    chips = []
    for part in source.parts():
        for batch in read_part(part):
            paths_here = batch.index["path"].to_pylist()
            chips += [c.copy() for c, p in zip(batch.chips, paths_here, strict=True) if p in chosen]
    return np.stack(chips)


if __name__ == "__main__":
    main()
