"""Whether figures are about all ground: composed counties, whose true shares are known.

    python benchmarks/counties.py DATA [--layouts augusta durham] [--seeds 0 1 2 3 4] [--json FILE]

Each county (`composed.py`) is cut, trained and scored as a user would, with every default. Then
what `train` prints is compared with the truth, the drawn pixels: labels have errors at borders.

    printed     accuracy on all held-out ground, as `train` prints it first, and its interval
    validation  accuracy on the validation plots alone, printed after it
    unseen      true accuracy over the plots that trained nothing, by main classes of drawn pixels
    all         ... over all plots of the map, those that the model was fitted to among them
    ECE         expected calibration error of the unseen plots, less chance
    <60%        ... of plots whose main class has less than 60%: unseen ones, and all of them
    error       part of the ground that shares give to wrong classes, unseen plots
    sets        how many 90% sets hold the true main class, unseen plots

A second table shows what `--prior` is for. Heads are fitted as if each class had the same part of
the ground (`--class-weight balanced`), with and without `--prior` of the county's shares by its
labels: their accuracy, error of shares and largest bias of a class's share on held-out ground.

The county's imagery is removed when it was scored. `--keep FOLDER` keeps each county's scores and
truth as arrays.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import composed
from quadrat import metrics
from quadrat.heads import TrainResult, train
from quadrat.labels import main_classes
from quadrat.scores import columns, open_scores
from quadrat.scoring import score
from quadrat.tiles import tile

MIXED = 0.6
COLUMNS = (
    "printed", "validation", "unseen", "all", "ECE", "<60% unseen", "<60% all", "error", "sets"
)  # fmt: skip
WAYS = ("as it is", "balanced", "balanced, --prior")


def truth_of(county: Path, names: tuple[str, ...]) -> dict[tuple[int, int], list[float]]:
    """True shares of each plot, in the legend's order."""
    with (county / "truth.csv").open() as file:
        return {
            (int(r["row"]), int(r["col"])): [float(r.get(f"f1_{n}", 0.0)) for n in names]
            for r in csv.DictReader(file)
        }


def ece(p: np.ndarray, truth: np.ndarray, blocks: np.ndarray) -> float:
    """Expected calibration error."""
    return metrics.calibration(truth, p, groups=blocks, draws=0).ece.value


def worth(result: TrainResult) -> dict[str, float]:
    """What a training says of all held-out ground."""
    ground = result.ground
    return {
        "accuracy": ground["overall"]["value"],
        "error": ground["shares"]["error"]["value"],
        "bias": max(abs(c["bias"]["value"]) for c in ground["shares"]["classes"]),
    }


def run(data: str, folder: Path, layout: str, seed: int, rows: int, cols: int) -> dict[str, Any]:
    """One county, from its making to its figures; also the arrays that are pooled."""
    county = folder / "county"
    composed.make(data, county, layout=layout, seed=seed, rows=rows, cols=cols)
    cut = tile([str(county / "date1.tif")], str(folder / "tiles"), labels=str(county / "nlcd1.tif"))
    (county / "date1.tif").unlink()
    how = {"cache": str(folder / "cache")}
    model = train(cut, str(folder / "model"), **how)
    done = open_scores(score(model.uri, cut.uri, str(folder / "scores")).uri)
    table, names = done.table(), done.legend.names
    where = np.array([table["row"].to_pylist(), table["col"].to_pylist()]).T
    known = truth_of(county, names)
    true = np.array([known[r, c] for r, c in where.tolist()])
    p, shares = done.probabilities(table), columns.to_rows(table, done.share_columns)
    reference = columns.to_rows(table, done.reference_columns)
    split = np.array([s or "" for s in table["split"].to_pylist()])
    arrays = {
        "p": p, "shares": shares, "true": true, "reference": reference, "split": split,
        "rows": where[:, 0], "cols": where[:, 1],
        "sets": metrics.coverage(p, main_classes(true), done.threshold),
    }  # fmt: skip
    figures = {
        "printed": model.ground["overall"]["value"],
        "low": model.ground["overall"]["low"],
        "high": model.ground["overall"]["high"],
        "validation": model.accuracy,
        **measured(arrays),
        "pure": float((true.max(1) >= metrics.PURE).mean()),
    }
    by_labels = np.nanmean(reference, axis=0)
    prior = {n: float(s) for n, s in zip(names, by_labels / by_labels.sum(), strict=True)}
    even = {"class_weight": "balanced", "precision": "fp32", **how}
    ways = (
        worth(model),
        worth(train(cut, str(folder / "even"), **even)),
        worth(train(cut, str(folder / "prior"), prior=prior, **even)),
    )
    return {"figures": figures, "arrays": arrays, "priors": dict(zip(WAYS, ways, strict=True))}


def measured(a: dict[str, np.ndarray], *, place: int = 0) -> dict[str, float]:
    """What the scores of a county, or of several, are worth against the drawn pixels."""
    main, unseen = main_classes(a["true"]), a["split"] != "train"
    blocks = metrics.block_ids(a["rows"], a["cols"]) + a.get("county", place)
    mixed, right = a["true"].max(1) < MIXED, a["p"].argmax(1) == main

    def off(which: np.ndarray) -> float:
        return ece(a["p"][which], main[which], blocks[which])

    return {
        "unseen": float(right[unseen & (main >= 0)].mean()),
        "all": float(right[main >= 0].mean()),
        "ECE": off(unseen),
        "<60% unseen": off(mixed & unseen),
        "<60% all": off(mixed),
        "error": float(np.abs(a["shares"] - a["true"])[unseen].sum(1).mean() / 2),
        "sets": float(np.nanmean(a["sets"][unseen])),
    }


def pooled(found: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """Figures over the plots of several counties together."""
    apart = [np.full(len(f["rows"]), n * 10_000_000_000_000) for n, f in enumerate(found)]
    every = {k: np.concatenate([f[k] for f in found]) for k in found[0]}
    return measured(every | {"county": np.concatenate(apart)})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--layouts", nargs="+", default=["augusta", "durham"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--cols", type=int, default=50)
    parser.add_argument("--keep", help="a folder for each county's arrays")
    parser.add_argument("--json")
    args = parser.parse_args()
    print(f"| county | {' | '.join(COLUMNS)} |\n|---|{'---:|' * len(COLUMNS)}")
    results: dict[str, dict[str, Any]] = {}
    priors: dict[str, dict[str, Any]] = {}
    for layout in args.layouts:
        arrays = []
        for seed in args.seeds:
            with tempfile.TemporaryDirectory() as folder:
                found = run(args.data, Path(folder), layout, seed, args.rows, args.cols)
                shutil.rmtree(Path(folder) / "tiles", ignore_errors=True)
            name = f"{layout} {seed}"
            results[name], priors[name] = found["figures"], found["priors"]
            arrays.append(found["arrays"])
            if args.keep:
                Path(args.keep).mkdir(parents=True, exist_ok=True)
                np.savez_compressed(Path(args.keep) / f"{layout}{seed}.npz", **found["arrays"])
            print(line(name, found["figures"]), flush=True)
        results[layout] = pooled(arrays)
        print(line(f"{layout}, all plots together", results[layout]), flush=True)
    print("\n| head | accuracy | error of shares | largest bias of a class |\n|---|---:|---:|---:|")
    for way in WAYS:
        rows = [p[way] for p in priors.values()]
        cells = [f"{np.mean([r[k] for r in rows]):.3f}" for k in ("accuracy", "error", "bias")]
        print(f"| {way} | {' | '.join(cells)} |")
    if args.json:
        said = {"counties": results, "priors": priors}
        Path(args.json).write_text(json.dumps(said, indent=1))


def line(name: str, figures: dict[str, float]) -> str:
    cells = (f"{figures[c]:.3f}" if c in figures else "" for c in COLUMNS)
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
