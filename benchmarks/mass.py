"""Accuracy on all ground, by plots that were read by eye: main classes, shares, views.

    python benchmarks/mass.py DATA [--json FILE]

DATA holds aerial images (`*.tif`) and `plots.csv`: plots on Quadrat's grid, each read twice
(columns `interpreter`, `source`, `row`, `col` and a share for each of eight classes). A plot's
reference is the mean of its two readings. Plots are mixed as they are on real ground: most have no
class on 90% of their ground.

Five folds, whole images each, are held out in turn. Everything is chosen inside the training folds:
the strength of the penalty by the likelihood of their own held-out images, the temperatures and the
threshold of the sets of classes from the same predictions. Ways that are compared:

    main        the head is fitted to main classes, as labels by `--rule largest` alone would be
    pure        the head is fitted to pure plots alone
    shares      the head is fitted to the shares of all plots
    + N views   ... which it sees N times, turned and mirrored
    strength    ... with the penalty that `quadrat train` has, instead of one that is chosen
    scored in N ... and the scores are the mean over N views of each held-out plot
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quadrat import backbones, features, metrics
from quadrat.heads.calibrate import HeldOut, Scalings, fit_scalings, one_hot
from quadrat.heads.fit import Settings, fit
from quadrat.legend import load_legend
from quadrat.tiles import tile

CLASSES = ("water", "developed", "barren", "forest", "shrub", "herbaceous", "cultivated", "wetland")
FOLDS = 5
STRENGTHS = (0.005, 0.01, 0.02, 0.05)
SHIPPED = Settings().reg
DEFAULT = f"shares + 4 views, strength {SHIPPED:g}"  # what `quadrat train` does
PURE = 0.9
BLOCK = 8
WAYS = (
    ("pure plots' classes", "pure", 1, 1),
    ("main classes", "main", 1, 1),
    ("shares", "shares", 1, 1),
    ("shares + 4 views", "shares", 4, 1),
    (DEFAULT, "shares", 4, 1),
    ("shares + 4 views, scored in 4", "shares", 4, 4),
    ("shares + 8 views, scored in 8", "shares", 8, 8),
)


@dataclass(frozen=True)
class Plots:
    """Features (views, N, D), shares (N, K) and the image of each plot (N,)."""

    x: np.ndarray
    shares: np.ndarray
    image: np.ndarray

    @property
    def main(self) -> np.ndarray:
        return self.shares.argmax(1)

    def take(self, at: np.ndarray) -> Plots:
        return Plots(self.x[:, at], self.shares[at], self.image[at])


# the folder and the side of a tile set -> the graph for it, and its precision
Network = Callable[[str, int], tuple[backbones.FeatureGraph, str]]


def shipped(uri: str, size_px: int) -> tuple[backbones.FeatureGraph, str]:
    """The default backbone in float."""
    return backbones.feature_graph("efficientnet_lite0", size_px=size_px), "fp32"


def replaced(graph: backbones.FeatureGraph, onnx: bytes) -> backbones.FeatureGraph:
    """The same network in another form, made for one size."""
    return dataclasses.replace(graph, onnx=onnx, any_size=False)


def read(data: str, folder: str, views: int, network: Network = shipped) -> Plots:
    """The plots with their features in every view."""
    readings: dict[tuple[int, int], list[dict]] = {}
    with Path(data, "plots.csv").open() as file:
        for row in csv.DictReader(file):
            readings.setdefault((int(row["row"]), int(row["col"])), []).append(row)
    keys = sorted(readings)
    shares = np.array(
        [np.mean([[float(r[c]) for c in CLASSES] for r in readings[k]], axis=0) for k in keys]
    )
    images = sorted(str(p) for p in Path(data).glob("*.tif"))
    cut = tile(images, f"{folder}/tiles", split=None, max_nodata=0.5)
    graph, precision = network(cut.uri, cut.size_px)
    found = [features.featurize(cut, graph, precision=precision, view=v) for v in range(views)]
    index = found[0].index
    cut_keys = zip(index["row"].to_pylist(), index["col"].to_pylist(), strict=True)
    place = {key: i for i, key in enumerate(cut_keys)}
    at = np.array([place[k] for k in keys])
    x = np.stack([f.values[at] for f in found])
    sources = np.array([readings[k][0]["source"] for k in keys])
    return Plots(x, shares / shares.sum(1, keepdims=True), sources)


def folds(image: np.ndarray, seed: int) -> np.ndarray:
    """A fold for each plot: whole images, the largest dealt first."""
    names, place = np.unique(image, return_inverse=True)
    sizes = np.bincount(place)
    order = np.random.default_rng(seed).permutation(len(names))
    fold, filled = np.zeros(len(names), int), np.zeros(FOLDS)
    for unit in order[np.argsort(-sizes[order], kind="stable")]:
        fold[unit] = filled.argmin()
        filled[fold[unit]] += sizes[unit]
    return fold[place]


def fitted(plots: Plots, kind: str, views: int, reg: float) -> object:
    """A head fitted to these plots."""
    targets, at = plots.shares, np.arange(len(plots.image))
    if kind != "shares":
        targets = one_hot(plots.main, len(CLASSES))
    if kind == "pure":
        at = np.flatnonzero(plots.shares.max(1) >= PURE)
    x = np.concatenate(plots.x[:views][:, at])
    head, _ = fit(x, np.tile(targets[at], (views, 1)), len(CLASSES), Settings(reg=reg))
    return head


def said(head: object, x: np.ndarray, scalings: Scalings) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and shares, the mean over the views of x (views, N, D)."""
    logits = [head.logits(view) for view in x]
    both = (scalings.probabilities, scalings.shares)
    return tuple(np.mean([scaling(z) for z in logits], axis=0) for scaling in both)


def chosen(
    plots: Plots, kind: str, views: int, seed: int, strengths: tuple[float, ...]
) -> tuple[float, HeldOut]:
    """The penalty with the best likelihood on held-out images, and its predictions there."""
    fold, tried = folds(plots.image, seed), {}
    targets = plots.shares if kind == "shares" else one_hot(plots.main, len(CLASSES))
    for reg in strengths:
        logits = np.zeros(plots.shares.shape)
        for i in range(FOLDS):
            head = fitted(plots.take(np.flatnonzero(fold != i)), kind, views, reg)
            logits[fold == i] = head.logits(plots.x[0][fold == i])
        held = HeldOut(logits, plots.shares, plots.main, None)
        scaling = fit_scalings(HeldOut(logits, targets, plots.main, None)).shares
        p = np.maximum(scaling(logits), 1e-12)
        tried[reg] = (-(targets * np.log(p)).sum(1).mean(), held)
    best = min(tried, key=lambda reg: tried[reg][0])
    return best, tried[best][1]


def way(
    plots: Plots, kind: str, views: int, seen: int, *, seed: int, strengths: tuple[float, ...]
) -> dict:
    """Figures of one way over all plots, each held out once."""
    fold, k = folds(plots.image, seed), len(CLASSES)
    p, shares = np.zeros((2, *plots.shares.shape))
    covered, regs = np.zeros(len(fold)), []
    for i in range(FOLDS):
        train, test = plots.take(np.flatnonzero(fold != i)), plots.take(np.flatnonzero(fold == i))
        reg, held = chosen(train, kind, views, seed + 1, strengths)
        scalings = fit_scalings(held)
        if kind != "shares":  # its one output serves for both
            scalings = Scalings(scalings.probabilities, scalings.probabilities)
        head = fitted(train, kind, views, reg)
        p[fold == i], shares[fold == i] = said(head, test.x[:seen], scalings)
        sets = metrics.conformal(
            scalings.probabilities(held.logits), held.main, np.arange(len(held.main)), 0.9
        )
        covered[fold == i] = metrics.coverage(p[fold == i], test.main, sets["threshold"])
        regs.append(reg)
    groups = np.unique(plots.image, return_inverse=True)[1]
    found = metrics.summarise(
        plots.main, p, CLASSES[:k], groups=groups, shares=(plots.shares, shares)
    )
    return {
        "accuracy": found.overall.to_dict(),
        "pure": found.pure.to_dict(),
        "kappa": found.scores["kappa"].to_dict(),
        "share error": found.shares.error.to_dict(),
        "bias": {name: b.to_dict() for name, b in zip(CLASSES, found.shares.bias, strict=True)},
        "ece": found.calibration.ece.to_dict(),
        "coverage of 90% sets": float(covered.mean()),
        "strengths": regs,
    }


def number(figure: float | dict) -> float:
    return figure if isinstance(figure, float) else figure["value"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, default=3, help="deals of the images into folds")
    parser.add_argument("--json")
    args = parser.parse_args()
    assert len(CLASSES) == len(load_legend("nlcd8"))
    with tempfile.TemporaryDirectory() as folder:
        plots = read(args.data, folder, max(views for _, _, views, _ in WAYS))
    pure = (plots.shares.max(1) >= PURE).mean()
    print(f"{len(plots.image)} plots of {len(np.unique(plots.image))} images, {pure:.0%} pure")
    results: dict[str, list[dict]] = {}
    print("| fitted to | right, all plots | right, pure plots | error of shares | ECE | 90% sets |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, kind, views, seen in WAYS:
        strengths = (SHIPPED,) if name == DEFAULT else STRENGTHS
        results[name] = [
            way(plots, kind, views, seen, seed=seed, strengths=strengths)
            for seed in range(args.seeds)
        ]
        cells = [
            np.mean([number(r[key]) for r in results[name]])
            for key in ("accuracy", "pure", "share error", "ece", "coverage of 90% sets")
        ]
        first = results[name][0]["accuracy"]
        print(
            f"| {name} | {cells[0]:.1%} ({first['low']:.1%} to {first['high']:.1%}) | "
            f"{cells[1]:.1%} | {cells[2]:.3f} | {cells[3]:.3f} | {cells[4]:.1%} |",
            flush=True,
        )
    print(f"\nShares of all plots, {DEFAULT}:\n\n| class | read | expected | off by |")
    print("|---|---:|---:|---:|")
    for k, name in enumerate(CLASSES):
        read_share = plots.shares[:, k].mean()
        biases = [r["bias"][name] for r in results[DEFAULT]]
        off = np.mean([b["value"] for b in biases])
        half = np.mean([(b["high"] - b["low"]) / 2 for b in biases])
        print(f"| {name} | {read_share:.1%} | {read_share + off:.1%} | {off:+.1%} +- {half:.1%} |")
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
