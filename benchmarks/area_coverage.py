"""Do 95% intervals of areas hold the truth in 95 of 100 samples? On the synthetic county.

    python benchmarks/area_coverage.py [--tiles 6000] [--seeds 0] [--draws 500] [--out FOLDER]

The county is scored on both dates (`benchmarks/change_demo.py` does it); its true classes are
known. Reference tiles are drawn 500 times as the estimator has it: at random in each class of the
map, in each transition of the two maps for change. A draw has SHARE of each, and not fewer than
LEAST. Tiles of water, which the legend has no class for, are left out of the ground.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from change_demo import made, truth_of
from quadrat.areas import estimated
from quadrat.areas.reference import Reference
from quadrat.legend import load_legend
from quadrat.scores import DateScores, match, read
from quadrat.scoring import score

SHARE, LEAST = 0.2, 50


def drawn(strata: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Places of the reference tiles of one draw."""
    chosen = []
    for stratum in np.unique(strata):
        inside = np.flatnonzero(strata == stratum)
        n = min(len(inside), max(LEAST, round(SHARE * len(inside))))
        chosen.append(rng.choice(inside, n, replace=False))
    return np.sort(np.concatenate(chosen))


def coverage(
    days: tuple[DateScores, ...], truth: np.ndarray, draws: int, seed: int
) -> dict[str, Any]:
    """How often each row's interval held its true area.

    Args:
        truth: (N, D) class ids of all tiles, one column a date.
    """
    names, k = days[0].legend.names, len(days[0].legend)
    strata = days[0].mapped if len(days) == 1 else days[0].mapped * k + days[1].mapped
    (tile_ha, _), rng = days[0].ground(), np.random.default_rng(seed)
    true = true_areas(names, truth, tile_ha)
    hits: dict[str, int] = dict.fromkeys(true, 0)
    mean: dict[str, float] = dict.fromkeys(true, 0.0)
    for _ in range(draws):
        at = drawn(strata, rng)
        result = estimated(days, Reference(at, truth[at], None, ()))
        found = {r.name: r.adjusted for r in result.rows}
        for name, area in true.items():
            figure = found.get(name)
            if figure is not None:
                hits[name] += figure.low - 1e-6 <= area <= figure.high + 1e-6
                mean[name] += figure.value / draws
            else:
                hits[name] += area <= (result.unlisted_ha or 0.0) + 1e-6
    return {
        "reference": len(at),
        "rows": {
            n: {"true_ha": round(true[n], 1), "mean_ha": round(mean[n], 1), "held": hits[n] / draws}
            for n in true
        },
        "held": sum(hits.values()) / draws / len(true),
        "least": min(hits.values()) / draws,
    }


def true_areas(names: tuple[str, ...], truth: np.ndarray, tile_ha: float) -> dict[str, float]:
    """Hectares of each class; or of each transition that happened, and net changes."""
    k = len(names)
    if truth.shape[1] == 1:
        counts = np.bincount(truth[:, 0], minlength=k)
        return {n: float(c * tile_ha) for n, c in zip(names, counts, strict=True) if c}
    table = np.bincount(truth[:, 0] * k + truth[:, 1], minlength=k * k).reshape(k, k)
    out = {
        f"{names[i]} → {names[j]}" if i != j else f"{names[i]} (stable)": float(t * tile_ha)
        for (i, j), t in np.ndenumerate(table)
        if t
    }
    gain = table.sum(0) - table.sum(1)
    return out | {f"{n}, net": float(g * tile_ha) for n, g in zip(names, gain, strict=True)}


def main() -> None:
    """Run it and print one table a county."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, default=6000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("quadrat-area-coverage"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", action="store_true", help="keep the county and the scores")
    args = parser.parse_args()
    table = []
    coarse = load_legend("nlcd3")
    for seed in args.seeds:
        out = args.out / f"{args.tiles}-{seed}"
        county, first, model = made(out, args.tiles, seed)
        uris = (
            score(model, source, str(out / name), overwrite=True).uri
            for name, source in (("scores_1", first), ("scores_2", county.imagery[1]))
        )
        a, b = match([read(uri) for uri in uris])
        for name, legend in (("nlcd6", a.legend), ("nlcd3", coarse)):
            truth = np.stack(truth_of(county, a, legend), axis=1)
            land = np.flatnonzero((truth >= 0).all(1))
            days = tuple(d.folded(legend).take(land) for d in (a, b))
            for kind, used in (("one date", 1), ("change", 2)):
                got = coverage(days[:used], truth[land][:, :used], args.draws, seed)
                table.append({"seed": seed, "legend": name, "what": kind, **got})
                print(f"seed {seed}, {name}, {kind}: {got['reference']} of {len(land)} tiles drawn")
                for row, values in got["rows"].items():
                    print(
                        f"  {row:32} {values['true_ha']:>10,.1f} ha true, "
                        f"{values['mean_ha']:>10,.1f} on average, held {values['held']:.1%}"
                    )
                print(f"  all rows: {got['held']:.1%}, the least: {got['least']:.1%}", flush=True)
        if not args.keep:
            shutil.rmtree(out)
    if args.json:
        args.json.write_text(json.dumps(table))


if __name__ == "__main__":
    main()
