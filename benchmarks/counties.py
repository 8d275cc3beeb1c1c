"""Whether figures are about all ground: composed counties, whose true shares are known.

    python benchmarks/counties.py DATA [--layouts augusta durham] [--seeds 0 1 2 3 4] [--json FILE]

Each county (`composed.py`) is cut, trained and scored as a user would, with every default. Then
what `train` prints is compared with the truth, the drawn pixels: labels have errors at borders.

    printed     accuracy on all held-out ground, as `train` prints it first
    validation  accuracy on the validation plots alone, printed after it
    true        accuracy over all plots of the county, by main classes of the drawn pixels. None of
                their imagery trained: the same ground is drawn anew, with other pictures in the
                same places, and scored
    fitted      ... over all plots as they were first drawn, those that the model was fitted to
                among them
    ECE         expected calibration error of all plots, drawn anew, less chance
    <60%        ... of those whose main class has less than 60% of the ground; and as first drawn
    error       part of the ground that shares give to wrong classes, all plots, drawn anew
    sets        how many 90% sets hold the true main class, all plots, drawn anew
    areas       classes of more than 10% of the ground: how far `area` is from what the label source
                says of all plots, of that; the largest
    hold        of the classes of the county, how many 95% intervals of `area` hold what the label
                source says of all plots

With `--priors` a second table shows what the option `--prior` is for. Heads are fitted as if each
class had the same part of the ground (`--class-weight balanced`), with and without `--prior` of the
county's shares by its labels: their accuracy, error of shares and largest bias of a class's share
on held-out ground.

The county's imagery is removed when it was scored. With `--json` each county is written as soon as
it is done, with its areas class by class and the seconds that each step took. `--keep FOLDER` keeps
each county's scores and truth as arrays (`anew_` those of the second drawing).
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import composed
from quadrat import metrics
from quadrat.areas import area
from quadrat.heads import TrainResult, train
from quadrat.labels import main_classes
from quadrat.scores import columns, open_scores
from quadrat.scoring import score
from quadrat.tiles import TileSet, tile

MIXED = 0.6
LARGE = 0.1  # of the ground
COLUMNS = (
    "printed", "validation", "true", "fitted", "ECE", "<60%", "<60% fitted", "error", "sets",
    "areas", "hold",
)  # fmt: skip
WAYS = ("as it is", "balanced", "balanced, --prior")


def truth_of(county: Path, names: tuple[str, ...]) -> dict[tuple[int, int], list[float]]:
    """True shares of each plot, in the legend's order."""
    with (county / "truth.csv").open() as file:
        return {
            (int(r["row"]), int(r["col"])): [float(r.get(f"f1_{n}", 0.0)) for n in names]
            for r in csv.DictReader(file)
        }


def worth(result: TrainResult) -> dict[str, float]:
    """What a training says of all held-out ground."""
    ground = result.ground
    return {
        "accuracy": ground["overall"]["value"],
        "error": ground["shares"]["error"]["value"],
        "bias": max(abs(c["bias"]["value"]) for c in ground["shares"]["classes"]),
    }


def arrays_of(uri: str, county: Path) -> dict[str, np.ndarray]:
    """Scores of a county's plots beside what is drawn there."""
    done = open_scores(uri)
    table, names = done.table(), done.legend.names
    rows, cols = (table[c].to_numpy().astype(np.int64) for c in ("row", "col"))
    known = truth_of(county, names)
    true = np.array([known[place] for place in zip(rows.tolist(), cols.tolist(), strict=True)])
    p = done.probabilities(table)
    found = {
        "rows": rows, "cols": cols, "p": p, "true": true,
        "shares": columns.to_rows(table, done.share_columns),
        "split": np.array([s or "" for s in table["split"].to_pylist()]),
        "sets": metrics.coverage(p, main_classes(true), done.threshold),
    }  # fmt: skip
    if done.has_references:
        found["reference"] = columns.to_rows(table, done.reference_columns)
    return found


def run(data: str, folder: Path, drawn: dict[str, Any], *, priors: bool) -> dict[str, Any]:
    """One county, from its making to its figures; also the arrays that are pooled.

    Args:
        drawn: layout, seed, rows and cols of `composed.make`.
    """
    county, how = folder / "county", {"cache": str(folder / "cache")}
    took = Watch()
    composed.make(data, county, **drawn)
    took("draw")
    cut = tile([str(county / "date1.tif")], str(folder / "tiles"), labels=str(county / "nlcd1.tif"))
    took("tile")
    model = train(cut, str(folder / "model"), **how)
    took("train")
    scored = score(model.uri, cut.uri, str(folder / "scores")).uri
    own = arrays_of(scored, county)
    areas = areas_of(scored, own)
    took("score")
    composed.make(data, county, **drawn, redrawn=1)
    took("draw anew")
    again = score(model.uri, [str(county / "date1.tif")], str(folder / "anew"))
    anew = arrays_of(again.uri, county)
    took("score anew")
    figures = {
        "printed": model.ground["overall"]["value"],
        "low": model.ground["overall"]["low"],
        "high": model.ground["overall"]["high"],
        "validation": model.accuracy,
        **measured(own, anew),
        **worth_of(areas),
        "pure": float((own["true"].max(1) >= metrics.PURE).mean()),
    }
    ways = with_priors(cut, model, own, folder, how) if priors else {}
    took("priors")
    return {
        "figures": figures, "own": own, "anew": anew, "areas": areas, "seconds": took.seconds,
        "priors": ways,
    }  # fmt: skip


def with_priors(
    cut: TileSet, model: TrainResult, own: dict[str, np.ndarray], folder: Path, how: dict[str, str]
) -> dict[str, dict[str, float]]:
    """What three ways to fit a head are worth on held-out ground; see WAYS."""
    by_labels = np.nanmean(own["reference"], axis=0)
    names = open_scores(str(folder / "scores")).legend.names
    prior = {n: float(s) for n, s in zip(names, by_labels / by_labels.sum(), strict=True)}
    even = {"class_weight": "balanced", "precision": "fp32", **how}
    ways = (
        worth(model),
        worth(train(cut, str(folder / "even"), **even)),
        worth(train(cut, str(folder / "prior"), prior=prior, **even)),
    )
    return dict(zip(WAYS, ways, strict=True))


class Watch:
    """Seconds since the last step, by the name of the step that they were spent on."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.at = time.perf_counter()

    def __call__(self, step: str) -> None:
        now = time.perf_counter()
        self.seconds[step], self.at = round(now - self.at, 1), now


def areas_of(scored: str, own: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Each class that the label source has: its part of the ground by `area`, by the source itself
    and by the drawn pixels."""
    result = area(scored)
    source, true = np.nanmean(own["reference"], axis=0), own["true"].mean(axis=0)
    return [
        {
            "class": row.name, "source": float(source[k]), "true": float(true[k]),
            "value": row.adjusted.value / result.total_ha,
            "low": row.adjusted.low / result.total_ha, "high": row.adjusted.high / result.total_ha,
        }
        for k, row in enumerate(result.rows)
        if source[k] > 0
    ]  # fmt: skip


def worth_of(areas: list[dict[str, Any]]) -> dict[str, float]:
    """What the areas of a county, or of several, are worth against the label source's own."""
    off = [abs(a["value"] / a["source"] - 1) for a in areas if a["source"] > LARGE]
    held = [a["low"] <= a["source"] <= a["high"] for a in areas]
    return {"areas": max(off), "hold": float(np.mean(held)), "cases": len(held)}


def off(a: dict[str, np.ndarray], most: float = 1.1) -> float:
    """Expected calibration error of plots whose main class has less than `most` of the ground."""
    main, inside = main_classes(a["true"]), a["true"].max(1) < most
    blocks = metrics.block_ids(a["rows"], a["cols"]) + a.get("county", 0)
    found = metrics.calibration(main[inside], a["p"][inside], groups=blocks[inside], draws=0)
    return found.ece.value


def measured(own: dict[str, np.ndarray], anew: dict[str, np.ndarray]) -> dict[str, float]:
    """What the scores of a county, or of several, are worth against the drawn pixels."""

    def right(a: dict[str, np.ndarray]) -> float:
        main = main_classes(a["true"])
        return float((a["p"].argmax(1) == main)[main >= 0].mean())

    return {
        "true": right(anew),
        "fitted": right(own),
        "ECE": off(anew),
        "<60%": off(anew, MIXED),
        "<60% fitted": off(own, MIXED),
        "error": float(np.abs(anew["shares"] - anew["true"]).sum(1).mean() / 2),
        "sets": float(np.nanmean(anew["sets"])),
    }


def pooled(found: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The plots of several counties together."""
    apart = [np.full(len(f["rows"]), n * 10_000_000_000_000) for n, f in enumerate(found)]
    every = {k: np.concatenate([f[k] for f in found]) for k in found[0]}
    return every | {"county": np.concatenate(apart)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--layouts", nargs="+", default=["augusta", "durham"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--cols", type=int, default=50)
    parser.add_argument("--priors", action="store_true", help="the second table as well")
    parser.add_argument("--keep", help="a folder for each county's arrays")
    parser.add_argument("--json")
    args = parser.parse_args()
    print(f"| county | {' | '.join(COLUMNS)} |\n|---|{'---:|' * len(COLUMNS)}")
    results: dict[str, dict[str, Any]] = {}
    priors: dict[str, dict[str, Any]] = {}
    every: dict[str, dict[str, Any]] = {"areas": {}, "seconds": {}}
    kept: dict[str, list[dict[str, Any]]] = {layout: [] for layout in args.layouts}
    for seed, layout in itertools.product(args.seeds, args.layouts):
        with tempfile.TemporaryDirectory() as folder:
            drawn = {"layout": layout, "seed": seed, "rows": args.rows, "cols": args.cols}
            found = run(args.data, Path(folder), drawn, priors=args.priors)
        name = f"{layout} {seed}"
        results[name], priors[name] = found["figures"], found["priors"]
        kept[layout].append(found)
        every["areas"][name], every["seconds"][name] = found["areas"], found["seconds"]
        if args.keep:
            Path(args.keep).mkdir(parents=True, exist_ok=True)
            arrays = found["own"] | {f"anew_{k}": v for k, v in found["anew"].items()}
            np.savez_compressed(Path(args.keep) / f"{layout}{seed}.npz", **arrays)
        print(line(name, found["figures"]), flush=True)
        if args.json:
            said = {"counties": results, "priors": priors, **every}
            Path(args.json).write_text(json.dumps(said, indent=1))
    for layout, all_of in kept.items():
        own, anew = (pooled([f[k] for f in all_of]) for k in ("own", "anew"))
        areas = [a for f in all_of for a in f["areas"]]
        results[layout] = measured(own, anew) | worth_of(areas)
        print(line(f"{layout}, all plots together", results[layout]), flush=True)
    if args.priors:
        print_priors(priors)
    if args.json:
        said = {"counties": results, "priors": priors, **every}
        Path(args.json).write_text(json.dumps(said, indent=1))


def print_priors(priors: dict[str, dict[str, Any]]) -> None:
    """The second table, means over counties."""
    print("\n| head | accuracy | error of shares | largest bias of a class |\n|---|---:|---:|---:|")
    for way in WAYS:
        rows = [p[way] for p in priors.values()]
        cells = [f"{np.mean([r[k] for r in rows]):.3f}" for k in ("accuracy", "error", "bias")]
        print(f"| {way} | {' | '.join(cells)} |")


def line(name: str, figures: dict[str, float]) -> str:
    cells = (f"{figures[c]:.3f}" if c in figures else "" for c in COLUMNS)
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
