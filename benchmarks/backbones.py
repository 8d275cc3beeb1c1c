"""Any backbones against each other: a frozen head on each, over tile sets of your own.

    python benchmarks/backbones.py --tiles ucmerced=FOLDER --tiles mass=DATA \\
        --backbones efficientnet_lite0,efficientnet_lite1,timm:vit_small_patch16_224 [--json FILE]

A tile set is NAME=FOLDER, one of two kinds:

    pictures, a subfolder a class    each seed draws half of every class to train with and measures
                                     the other half
    images and `plots.csv`           as benchmarks/mass.py: plots that were read by eye, five folds
                                     of whole images, which each seed deals anew

Both are computed in int8 where the CPU has it (with ranges from some of all tiles, without their
labels), else in float. The head is the one of `quadrat train`, with its strength.

Accuracy is the mean over seeds, with the 95% interval of Student's t over them: the seeds share
tiles, so it says how much the draw of the split matters, not what other ground would give. Within
one seed every backbone sees the same split. Tiles/s are those of the network alone on one thread,
measured in turns after all else (`--no-speed` leaves it out); compare them within one run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

import mass
import measure
from quadrat import backbones, features, model
from quadrat.backbones import FeatureGraph, Given
from quadrat.heads.calibrate import one_hot
from quadrat.heads.fit import Settings, fit
from quadrat.tiles import open_tiles, pack, read_part

ROUNDS, ROUND_S, BATCH = 5, 0.5, 16


@dataclass(frozen=True)
class Result:
    """Accuracy of a backbone on a tile set, one number a seed."""

    backbone: str
    tiles: str
    precision: str
    accuracy: list[float]

    def interval(self) -> tuple[float, float, float]:
        """Mean, and the ends of its interval; both NaN of one seed."""
        mean, n = float(np.mean(self.accuracy)), len(self.accuracy)
        if n < 2:
            return mean, float("nan"), float("nan")
        half = float(stats.t.ppf(0.975, n - 1) * np.std(self.accuracy, ddof=1) / np.sqrt(n))
        return mean, mean - half, mean + half


def pictures(name: str, folder: str, work: Path, args: argparse.Namespace) -> list[Result]:
    """Half of every class trains, the other half measures."""
    tiles = pack(folder, str(work / name), split=None, keep_duplicates=True)
    found = []
    for backbone in args.names:
        graph, precision = quick_form(backbone, args)(tiles.uri, tiles.size_px)
        seen = [
            features.featurize(tiles, graph, precision=precision, view=v) for v in range(args.views)
        ]
        names, y = np.unique(seen[0].index["label"].to_pylist(), return_inverse=True)
        x = np.stack([f.values for f in seen])
        accuracy = []
        for seed in range(args.seeds):
            train = halves(y, seed)
            rows = np.concatenate(x[:, train])
            targets = np.tile(one_hot(y[train], len(names)), (args.views, 1))
            head, _ = fit(rows, targets, len(names), Settings(seed=seed))
            accuracy.append(float((head.logits(x[0][~train]).argmax(1) == y[~train]).mean()))
            print(f"{name} {seed} {backbone}: {accuracy[-1]:.4f}", flush=True)
        found.append(Result(backbone, name, precision, accuracy))
    return found


def halves(y: np.ndarray, seed: int) -> np.ndarray:
    """Which pictures train: half of every class."""
    rng, train = np.random.default_rng(seed), np.zeros(len(y), bool)
    for k in np.unique(y):
        places = rng.permutation(np.flatnonzero(y == k))
        train[places[: len(places) // 2]] = True
    return train


def plots(name: str, data: str, work: Path, args: argparse.Namespace) -> list[Result]:
    """Plots that were read by eye, whole images held out in turn."""
    found = []
    for backbone in args.names:
        read = mass.read(
            data, str(work / f"{name}-{len(found)}"), args.views, quick_form(backbone, args)
        )
        accuracy = []
        for seed in range(args.seeds):
            figures = mass.way(read, "shares", args.views, 1, seed=seed, strengths=(mass.SHIPPED,))
            accuracy.append(mass.number(figures["accuracy"]))
            print(f"{name} {seed} {backbone}: {accuracy[-1]:.4f}", flush=True)
        found.append(Result(backbone, name, "int8" if model.has_int8() else "fp32", accuracy))
    return found


def quick_form(backbone: str, args: argparse.Namespace) -> mass.Network:
    """Makes a backbone's graph for a tile set, in int8 where the CPU has it."""

    def make(uri: str, size_px: int) -> tuple[FeatureGraph, str]:
        source = open_tiles(uri)
        chips = np.concatenate([b.chips.copy() for p in source.parts() for b in read_part(p)])
        step = np.linspace(0, len(chips) - 1, model.CALIBRATION_TILES).astype(int)
        graph = backbones.feature_graph(
            backbone, size_px=size_px, given=Given(**args.said), chips=lambda: chips[:16]
        )
        if not (model.has_int8() and model.can_quantise(graph.onnx)):
            return graph, "fp32"
        small = model.quantise(graph.onnx, chips[step], size_px=size_px)
        return mass.replaced(graph, small), "int8"

    return make


def speeds(args: argparse.Namespace) -> dict[str, float]:
    """Tiles/s of each network alone on one thread, int8 where it can be, the best round of each."""
    rng = np.random.default_rng(0)
    chips = rng.integers(0, 256, (BATCH, args.size_px, args.size_px, 3), np.uint8)
    networks, best = {}, dict.fromkeys(args.names, 0.0)
    for name in args.names:
        graph = backbones.feature_graph(name, size_px=args.size_px, given=Given(**args.said))
        onnx, precision = graph.onnx, "fp32"
        if model.has_int8() and model.can_quantise(onnx):
            onnx, precision = model.quantise(onnx, chips, size_px=args.size_px), "int8"
        networks[name] = model.compile_network(
            onnx, precision=precision, workers=1, size_px=args.size_px
        )
        networks[name](chips)
    for _ in range(ROUNDS):
        for name, network in networks.items():
            calls, start = 0, time.perf_counter()
            while time.perf_counter() - start < ROUND_S:
                network(chips)
                calls += 1
            best[name] = max(best[name], calls * BATCH / (time.perf_counter() - start))
    return best


def table(results: list[Result], rates: dict[str, float], licences: dict[str, str]) -> str:
    lines = [
        "| tiles | backbone | precision | accuracy | 95% interval | tiles/s | licence |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    for r in results:
        mean, low, high = r.interval()
        lines.append(
            f"| {r.tiles} | {r.backbone} | {r.precision} | {mean:.2%} | {low:.2%} to {high:.2%} | "
            f"{speed(rates.get(r.backbone))} | {licences[r.backbone] or 'unknown'} |"
        )
    return "\n".join(lines)


def speed(rate: float | None) -> str:
    return "not measured" if rate is None else f"{rate:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiles", action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--backbones", default="efficientnet_lite0", metavar="NAME,...")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--views", type=int, default=4, help="of each training tile")
    parser.add_argument("--size-px", type=int, default=224, help="of the tiles that are timed")
    parser.add_argument("--accept-licence", action="store_true")
    parser.add_argument("--no-speed", action="store_true", help="on a machine that is not idle")
    parser.add_argument("--json")
    args = parser.parse_args()
    args.names = args.backbones.split(",")
    args.said = {"accept_licence": True} if args.accept_licence else {}
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        for each in args.tiles:
            name, _, path = each.partition("=")
            kind = plots if Path(path, "plots.csv").exists() else pictures
            results += kind(name, path, Path(folder), args)
    given = Given(**args.said)
    licences = {
        n: backbones.feature_graph(n, size_px=args.size_px, given=given).licence for n in args.names
    }
    rates = {} if args.no_speed else speeds(args)
    print(table(results, rates, licences))
    if args.json:
        rows = [{**vars(r), "tiles_per_s": rates.get(r.backbone)} for r in results]
        said = {"machine": measure.machine(), "results": rows, "licences": licences}
        Path(args.json).write_text(json.dumps(said, indent=1))


if __name__ == "__main__":
    main()
