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

from quadrat.area.dates import Dated, pair, read
from quadrat.change import change
from quadrat.change.recolour import normalisation, recoloured
from quadrat.demo import Demo, make_demo
from quadrat.grid import Grid
from quadrat.heads import train
from quadrat.legend import fold, load_legend
from quadrat.model import load_model
from quadrat.raster import open_imagery
from quadrat.score import score
from quadrat.storage import exists
from quadrat.tiles import tile

RECALL = 0.8
COARSE, SOURCE, TARGET = "nlcd3", "Undeveloped", "Developed"


def scored(out: Path, tiles: int, seed: int, methods: list[str]) -> tuple[Demo, str, dict[str, str]]:
    """The county, the first date's scores, and the second date's, one a normalisation."""
    county = make_demo(str(out / "county"), tiles=tiles, seed=seed)
    first, second = county.imagery
    cut, model, score_a = (str(out / n) for n in ("tiles", "model", "scores_a"))
    if not exists(f"{model}/model.json"):
        tile([first], cut, labels=county.labels[0], block=4, seed=seed, overwrite=True)
        train(cut, model, seed=seed, cache=str(out / "cache"))
    score(model, cut, score_a, overwrite=True)
    made = {}
    for method in methods:
        using = model
        if method != "none":
            grid: Grid = county.grid
            a, b = (
                open_imagery([f], crs=grid.crs, tile_m=grid.tile_m, pixel_m=grid.pixel_m)
                for f in (first, second)
            )
            day = read(score_a)
            normal = normalisation(a, b, day.rows, day.cols, method)
            using = recoloured(load_model(model), normal, str(out / f"model_{method}")).uri
        made[method] = score(using, second, str(out / f"scores_b_{method}"), overwrite=True).uri
    return county, score_a, made


def truth_of(county: Demo, day: Dated) -> tuple[np.ndarray, np.ndarray]:
    """True majority classes of the day's tiles on both dates, in the coarse legend; -1 is water."""
    fine, coarse = load_legend("nlcd6"), load_legend(COARSE)
    with open(county.truth, newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [n for n in rows[0] if n.startswith("class_")]
    folded = dict(zip(fine.names, fold(fine, coarse).tolist(), strict=True))
    known = {(int(r["row"]), int(r["col"])): [folded.get(r[c], -1) for c in columns] for r in rows}
    both = np.array([known[p] for p in zip(day.rows.tolist(), day.cols.tolist(), strict=True)])
    return both[:, 0], both[:, 1]


def ranked(real: np.ndarray, order: np.ndarray) -> int:
    """Length of the shortest list that holds RECALL of the real ones; 0 when none does."""
    held = np.cumsum(real[order])
    enough = np.flatnonzero(held >= RECALL * real.sum())
    return int(enough[0]) + 1 if len(enough) else 0


def measured(county: Demo, uri_a: str, uri_b: str, out: Path, smoothing: float) -> dict[str, Any]:
    """The figures of one pair of scores."""
    a, b = pair(read(uri_a, probabilities=True), read(uri_b, probabilities=True))
    legend = load_legend(COARSE)
    s, t = legend.id(SOURCE), legend.id(TARGET)
    true_a, true_b = truth_of(county, a)
    real = (true_a == s) & (true_b == t)
    got = change(
        [uri_a, uri_b], str(out), legend=COARSE, from_classes=[SOURCE], to_classes=[TARGET],
        min_probability=0.0, smoothing=smoothing, show=0,
    )  # fmt: skip
    with open(got.files["csv"], newline="") as file:
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
    e, h, c, d = (found[k] for k in ("at_80", "at_half", "maps_compared", "developed"))
    inside = "in" if d["low"] is not None and d["low"] <= d["true"] <= d["high"] else "OUT"
    interval = "none" if d["low"] is None else f"{d['low']:.1f}..{d['high']:.1f}"
    share = "-" if c["share_real"] is None else f"{c['share_real']:.0%}"
    return (
        f"{found['size']:>6} {found['seed']:>4} {found['normalise']:>9} {found['real']:>4} "
        f"{found['right_a']:>6.1%} {found['right_b']:>6.1%} | "
        f"{e['listed']:>4} {e['share_real']:>5.0%} {e['stated_false']:>6.1f} {e['false']:>4} | "
        f"{h['listed']:>4} {h['share_real']:>5.0%} {h['stated_false']:>6.1f} {h['false']:>4} | "
        f"{c['listed']:>5} {share:>4} {c['recall']:>4.0%} | "
        f"{d['true']:>4} {d['value']:>6.1f} {interval:>14} {inside} ({d['maps']:+d} maps)"
    )


HEAD = (
    "  size seed normalise real right_a right_b | list real stated false (80% found) | "
    "list real stated false (p >= 0.5) | maps compared: list real found | developed: true value"
)


def main() -> None:
    """Run it and print the table, then pooled figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, nargs="+", default=[600, 2000, 6000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--normalise", nargs="+", default=["none", "linear", "histogram"])
    parser.add_argument("--smoothing", type=float, default=0.25)
    parser.add_argument("--out", type=Path, default=Path("quadrat-change-demo"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", action="store_true", help="keep the county and the scores")
    args = parser.parse_args()
    table = []
    print(HEAD, flush=True)
    for size in args.tiles:
        for seed in args.seeds:
            out = args.out / f"{size}-{seed}"
            county, first, later = scored(out, size, seed, args.normalise)
            for method, uri in later.items():
                found = measured(county, first, uri, out / f"change_{method}", args.smoothing)
                table.append({"size": size, "seed": seed, "normalise": method, **found})
                print(line(table[-1]), flush=True)
            if not args.keep:
                shutil.rmtree(out)
    for method in args.normalise:
        rows = [r for r in table if r["normalise"] == method]
        for name in ("at_80", "at_half"):
            n, false, stated = (
                sum(r[name][k] for r in rows) for k in ("listed", "false", "stated_false")
            )
            print(
                f"{method}, {name}, together: {n} listed, {1 - false / max(n, 1):.1%} real, "
                f"{stated:.1f} false ones stated, {false} true"
            )
    if args.json:
        args.json.write_text(json.dumps(table))


if __name__ == "__main__":
    main()
