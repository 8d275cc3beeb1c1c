"""Change on the synthetic county, whose true changes are known: are the listed ones real?

    python benchmarks/change_demo.py [--tiles 600 2000 6000] [--seeds 0 1 2] [--out FOLDER]

Each county has two dates with a season between them (hazy summer, dry autumn) and known changes.
The model is trained on the first date alone, as `quadrat demo` trains it; nothing of the second
date's truth is used. For the changes from undeveloped ground to Developed:

    share real    of the shortest list that holds 80% of the real ones
    maps compared the same of the tiles that differ when the two maps are laid on each other
    expected      false ones that the list says it holds, next to those that it does hold
    developed     net change of the developed area with its 95% interval, next to the true one
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.transform
import rasterio.warp

from quadrat.changes import change
from quadrat.county import County, make_county
from quadrat.heads import train
from quadrat.legend import Legend, fold, load_legend
from quadrat.scores import DateScores, match, read
from quadrat.tiles import tile

RECALL = 0.8
COARSE, SOURCE, TARGET = "nlcd3", "Undeveloped", "Developed"
# What changes are judged by: cells, or probabilities of imagery as it is or with colours mapped.
WAYS: dict[str, dict[str, Any]] = {
    "cells": {},
    "none": {"evidence_from": "probabilities"},
    "linear": {"evidence_from": "probabilities", "normalise": "linear"},
    "histogram": {"evidence_from": "probabilities", "normalise": "histogram"},
}


def made(out: Path, tiles: int, seed: int, wrong: float = 0.0) -> tuple[County, str, str]:
    """The county; the first date's labelled tiles; the model that was trained on them."""
    county = make_county(str(out / "county"), tiles=tiles, seed=seed)
    cut, model = str(out / "tiles"), str(out / "model")
    labels = spoiled(county, out / "wrong.tif", wrong, seed) if wrong else county.labels[0]
    tile(
        [county.imagery[0]], cut, labels=labels, block=4, seed=seed, overwrite=True,
        date=str(county.years[0]),
    )  # fmt: skip
    train(cut, model, seed=seed, cache=str(out / "cache"))
    return county, cut, model


def spoiled(county: County, out: Path, share: float, seed: int) -> str:
    """The first date's label raster with another class painted on a share of the tiles."""
    rng = np.random.default_rng(seed)
    with rasterio.open(county.labels[0]) as source:
        codes, profile, place = source.read(1), source.profile, source.transform
        area = county.area
        rows, cols = np.mgrid[area.r0 : area.r1, area.c0 : area.c1].reshape(2, -1)
        chosen = np.flatnonzero(rng.random(rows.size) < share)
        x, y = county.grid.centres(rows[chosen], cols[chosen])
        x, y = rasterio.warp.transform(county.grid.crs, source.crs, x, y)
    half = round(0.5 * (county.grid.tile_m / place.a + 1))
    known = np.unique(codes[codes > 0])
    for r, c in zip(*rasterio.transform.rowcol(place, x, y), strict=True):
        part = codes[max(r - half, 0) : r + half + 1, max(c - half, 0) : c + half + 1]
        part[part > 0] = rng.choice(known)
    with rasterio.open(out, "w", **profile) as target:
        target.write(codes, 1)
    return str(out)


def truth_of(county: County, day: DateScores, legend: Legend) -> tuple[np.ndarray, np.ndarray]:
    """True majority classes of the day's tiles on both dates, in `legend`; -1 is water."""
    fine = load_legend("nlcd6")
    with Path(county.truth).open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [n for n in rows[0] if n.startswith("class_")]
    folded = dict(zip(fine.names, fold(fine, legend).tolist(), strict=True))
    known = {(int(r["row"]), int(r["col"])): [folded.get(r[c], -1) for c in columns] for r in rows}
    both = np.array([known[p] for p in zip(day.rows.tolist(), day.cols.tolist(), strict=True)])
    return both[:, 0], both[:, 1]


def ranked(real: np.ndarray, order: np.ndarray) -> int:
    """Length of the shortest list that holds RECALL of the real ones; 0 when none does."""
    held = np.cumsum(real[order])
    enough = np.flatnonzero(held >= RECALL * real.sum())
    return int(enough[0]) + 1 if len(enough) else 0


def measured(
    county: County, first: str, model: str, out: Path, how: dict[str, Any]
) -> dict[str, Any]:
    """The figures of one way to look for change."""
    got = change(
        [first, county.imagery[1]], str(out), model=model, legend=COARSE, from_classes=[SOURCE],
        to_classes=[TARGET], min_probability=0.0, show=0, overwrite=True, **how,
    )  # fmt: skip
    both = (read(str(out / f"scores_{n}")) for n in (1, 2))
    a, b = match(list(both))
    legend = load_legend(COARSE)
    s, t = legend.id(SOURCE), legend.id(TARGET)
    true_a, true_b = truth_of(county, a, legend)
    real = (true_a == s) & (true_b == t)
    with Path(got.files["csv"]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    place = {p: i for i, p in enumerate(zip(a.rows.tolist(), a.cols.tolist(), strict=True))}
    order = np.array([place[int(r["row"]), int(r["col"])] for r in rows])
    p = np.array([float(r["probability"]) for r in rows])
    length, half = ranked(real, order), int((p >= 0.5).sum())
    shown_a, shown_b = (d.folded(legend).mapped for d in (a, b))
    compared = (shown_a == s) & (shown_b == t)
    net = got.net[t]
    move = next(m for m in got.moves if (m.source, m.target) == (SOURCE, TARGET)).expected

    def listed(n: int) -> dict[str, Any]:
        false = int((~real[order[:n]]).sum())
        return {
            "listed": n, "false": false, "stated_false": round(float((1 - p[:n]).sum()), 2),
            "share_real": round(1 - false / max(n, 1), 4),
            "recall": round(float(real[order[:n]].sum() / real.sum()), 4),
        }  # fmt: skip

    return {
        "tiles": len(a), "real": int(real.sum()),
        "right_a": round(float((shown_a == true_a)[true_a >= 0].mean()), 4),
        "right_b": round(float((shown_b == true_b)[true_b >= 0].mean()), 4),
        "at_80": listed(length), "at_half": listed(half),
        "at_tenth": listed(int((p >= 0.1).sum())),
        "maps_compared": {
            "listed": int(compared.sum()),
            "share_real": round(float(real[compared].mean()), 4) if compared.any() else None,
            "recall": round(float(compared[real].mean()), 4),
        },
        "moved": {"true": int(real.sum()), **move.to_dict()},
        "developed": {
            "true": int((true_b == t).sum() - (true_a == t).sum()), **net.to_dict(),
            "maps": int((shown_b == t).sum() - (shown_a == t).sum()),
        },
    }  # fmt: skip


def line(found: dict[str, Any]) -> str:
    """One row of the table."""
    c, d = found["maps_compared"], found["developed"]
    inside, interval = "", "none"
    if d["low"] is not None:
        inside = "in" if d["low"] <= d["true"] <= d["high"] else "OUT"
        interval = f"{d['low']:.1f}..{d['high']:.1f}"
    share = "-" if c["share_real"] is None else f"{c['share_real']:.0%}"
    lists = " | ".join(
        f"{v['listed']:>4} {v['share_real']:>5.1%} {v['stated_false']:>5.1f} {v['false']:>4}"
        for v in (found[k] for k in ("at_80", "at_half", "at_tenth"))
    )
    return (
        f"{found['size']:>6} {found['seed']:>4} {found['way']:>12} {found['real']:>4} | {lists} | "
        f"{c['listed']:>4} {share:>4} {c['recall']:>4.0%} | "
        f"{d['true']:>4} {d['value']:>6.1f} {interval:>14} {inside} ({d['maps']:+d})"
    )


HEAD = (
    "                              | 80% of real found       | p >= 0.5                |"
    " p >= 0.1                | maps compared  | developed, net tiles\n"
    "  size seed          way real | list  real state fals | list  real state fals |"
    " list  real state fals | list real found | true value interval (maps)"
)


def main() -> None:
    """Run it and print the table, then pooled figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, nargs="+", default=[600, 2000, 6000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["cells", "none"])
    parser.add_argument(
        "--unlabelled", action="store_true", help="give the first date as imagery, without labels"
    )
    parser.add_argument(
        "--wrong-labels", type=float, default=0.0, metavar="SHARE",
        help="paint another class on this share of the first date's labels",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("quadrat-change-demo"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", action="store_true", help="keep the county and the scores")
    args = parser.parse_args()
    table = []
    print(HEAD, flush=True)
    for size in args.tiles:
        for seed in args.seeds:
            out = args.out / f"{size}-{seed}"
            county, first, model = made(out, size, seed, args.wrong_labels)
            for way in args.ways:
                given = county.imagery[0] if args.unlabelled else first
                found = measured(county, given, model, out / way, WAYS[way])
                table.append({"size": size, "seed": seed, "way": way, **found})
                print(line(table[-1]), flush=True)
            if not args.keep:
                shutil.rmtree(out)
    for way in args.ways:
        rows = [r for r in table if r["way"] == way]
        for name in ("at_80", "at_half", "at_tenth"):
            n, false, stated = (
                sum(r[name][k] for r in rows) for k in ("listed", "false", "stated_false")
            )
            print(
                f"{way}, {name}, together: {n} listed, {1 - false / max(n, 1):.1%} real, "
                f"{stated:.1f} false ones stated, {false} true"
            )
    if args.json:
        args.json.write_text(json.dumps(table))


if __name__ == "__main__":
    main()
