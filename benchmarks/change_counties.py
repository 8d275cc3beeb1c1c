"""Change on composed counties, whose true changes are known: are the listed ones real?

    python benchmarks/change_counties.py DATA [--layouts augusta durham] [--seeds 0 1 ... 9]
        [--rows 36] [--cols 40] [--options NAME=VALUE] [--json FILE] [--keep FOLDER]

Each county (`composed.py --dates 2`: real layouts, real pictures, another season, other pictures of
the same class for three plots in ten, about 1% of the plots built on) is cut, trained on its first
date and compared as docs/change.md says, with every default. A real change is new Developed ground
of at least a quarter of the plot. Nothing of the second date's truth is used.

    real     such plots
    80%      of the shortest list that holds 80% of them, how much is real
    false    in that list: stated and true
    maps     plots that differ when the two maps are laid on each other: how many, how many of them
             real; and how many real ones the list of the same length holds
    p>=.5    listed at a probability of 0.5, and how many of them are real
    net      net change of Developed ground, in plots: true, stated with its 95% interval

With `--json` each county is written as soon as it is done, and counties that are there are not done
again. `--options` are given to `composed.make`, as `shift=5`. With `--keep` imagery, tile sets and
models stay in a folder: the next run compares the dates only.
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
import pyarrow.parquet as pq

import composed
from quadrat.changes import change
from quadrat.heads import train
from quadrat.tiles import tile

BUILT, RECALL = 0.25, 0.8
COLUMN = "p_Undeveloped_to_Developed"


def truth_of(county: Path) -> dict[tuple[int, int], dict[str, str]]:
    """The truth table by row and column."""
    with (county / "truth.csv").open() as file:
        return {(int(r["row"]), int(r["col"])): r for r in csv.DictReader(file)}


def run(data: str, folder: Path, drawn: dict[str, Any], rest: dict[str, Any]) -> dict[str, Any]:
    """One county from pixels to figures."""
    began = time.perf_counter()
    cut, model, out = (str(folder / n) for n in ("tiles", "model", "change"))
    if not Path(model).exists():
        composed.make(data, folder / "c", dates=2, **drawn)
        labels = str(folder / "c" / "nlcd1.tif")
        one = [str(folder / "c" / "date1.tif")]
        tile(one, cut, labels=labels, date="2011", overwrite=True)
        train(cut, model, cache=str(folder / "cache"))
    ready = time.perf_counter()
    got = change(
        [cut, str(folder / "c" / "date2.tif")], out, model=model, legend="nlcd3",
        from_classes=["Undeveloped"], to_classes=["Developed"], show=0, overwrite=True, **rest,
    )  # fmt: skip
    seconds = {"before": ready - began, "change": time.perf_counter() - ready}
    return figures(out, truth_of(folder / "c"), got) | {"seconds": seconds}


def figures(out: str, truth: dict[tuple[int, int], dict[str, str]], got: Any) -> dict[str, Any]:
    """What the list and the net change are worth."""
    table = pq.read_table(f"{out}/transitions.parquet")
    places = list(zip(table["row"].to_pylist(), table["col"].to_pylist(), strict=True))
    built = np.array([float(truth[p]["built"]) for p in places])
    real, p = built >= BUILT, table[COLUMN].to_numpy().astype(np.float64)
    order = np.argsort(-p, kind="stable")
    hits = np.cumsum(real[order])
    length = int(np.flatnonzero(hits >= RECALL * real.sum())[0]) + 1 if real.any() else 0
    before, after = (np.array(table[f"label_{t}"].to_pylist()) for t in (1, 2))
    differ = (before != "Developed") & (after == "Developed")
    same = int(differ.sum())
    net = [sum(float(truth[q][f"f{t}_Developed"]) for q in places) for t in (1, 2)]
    stated = got.net[list(got.names).index("Developed")]
    return {
        "plots": len(places), "real": int(real.sum()), "length": length,
        "found": int(hits[length - 1]) if length else 0,
        "false": [float((1 - p[order[:length]]).sum()), float(length - hits[length - 1])],
        "maps": [same, int((differ & real).sum()), int(hits[same - 1]) if same else 0],
        "half": [int((p >= 0.5).sum()), int(real[p >= 0.5].sum())],
        "net": [net[1] - net[0], stated.value, stated.low, stated.high],
    }  # fmt: skip


def line(name: str, f: dict[str, Any]) -> str:
    """A county's figures as a row."""
    true, value, low, high = f["net"]
    held = "" if low <= true <= high else " OUT"
    return (
        f"{name:12} {f['plots']:6,} {f['real']:5} {f['found'] / max(f['length'], 1):6.0%} of "
        f"{f['length']:<4} {f['false'][0]:6.1f} / {f['false'][1]:<5.0f} {f['maps'][0]:5} "
        f"{f['maps'][1]:4} {f['maps'][2]:4} {f['half'][0]:5} {f['half'][1]:4} "
        f"{true:7.1f} {value:7.1f} ({low:.1f} to {high:.1f}){held}"
    )


def total(found: dict[str, dict[str, Any]]) -> str:
    """The figures over all counties."""
    rows = list(found.values())
    listed, hits = (sum(f[n] for f in rows) for n in ("length", "found"))
    stated, true = (sum(f["false"][i] for f in rows) for i in (0, 1))
    held = sum(f["net"][2] <= f["net"][0] <= f["net"][3] for f in rows)
    worse = sum(f["maps"][2] < f["maps"][1] for f in rows)
    return (
        f"{len(rows)} counties: {hits / max(listed, 1):.0%} of {listed} listed are real; false "
        f"ones stated {stated:.0f}, true {true:.0f}; net change held in {held}; worse than "
        f"comparing maps in {worse}"
    )


def main() -> None:
    """Run the counties and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--layouts", nargs="+", default=["augusta", "durham"])
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(10)))
    parser.add_argument("--rows", type=int, default=36)
    parser.add_argument("--cols", type=int, default=40)
    parser.add_argument("--options", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--normalise", default="none")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    more = {k: json.loads(v) for k, v in (o.split("=", 1) for o in args.options)}
    found = json.loads(args.json.read_text()) if args.json and args.json.exists() else {}
    for seed, layout in itertools.product(args.seeds, args.layouts):
        name = " ".join([layout, str(seed), *args.options])
        if name not in found:
            drawn = {"layout": layout, "seed": seed, "rows": args.rows, "cols": args.cols, **more}
            with tempfile.TemporaryDirectory() as once:
                folder = args.keep / name.replace(" ", "_") if args.keep else Path(once)
                folder.mkdir(parents=True, exist_ok=True)
                found[name] = run(args.data, folder, drawn, {"normalise": args.normalise})
            if args.json:
                args.json.write_text(json.dumps(found, indent=1))
        print(line(name, found[name]), flush=True)
    print(total(found))


if __name__ == "__main__":
    main()
