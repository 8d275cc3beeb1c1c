"""Do areas from interpreted samples hold? By simulation, on maps whose truth is known.

    python benchmarks/sampling.py map SCORES TRUTH [--n 300] [--draws 500] [--seed 0] [--json FILE]
    python benchmarks/sampling.py change CHANGE TRUTH [--tiles 20880] [--n 2500] [--draws 500]
    python benchmarks/sampling.py mass DATA [--n 100] [--draws 500]
    python benchmarks/sampling.py source SCORES...

SCORES or CHANGE is what `quadrat score` or `quadrat change` made of a composed county
(`composed.py`), TRUTH its truth.csv. The truth stands for what interpreters would say. A draw is
one sample; "held" is how many of the 95% intervals hold the true area; "half-width" is that of the
regression estimator over that of post-stratification by the map's classes, on average.

map     every design at n plots, ground and plots by main class, classes of 2% or more; a goal of
        +-10% of the most common class below half of the ground, and how many draws reach it.
change  newly developed ground: plots that +-20% needs, by simple random sampling and by the
        omission strata, and what n plots give. A small county is laid side by side until it has
        enough tiles.
mass    plots that were read twice (`plots.csv`): repeated samples of n of them, the readings of two
        interpreters as answers, against the mean of both readings over all plots. What the map says
        is the shares of a head trained on the images that the plot is not in.
source  whether areas of ground "as the label source would map it" hold what that source says of all
        tiles, for each class of each folder of scores.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from quadrat.areas import design as designs
from quadrat.areas import estimators, source
from quadrat.areas.design import SurveyDesign
from quadrat.areas.interpreted import Interpretation
from quadrat.areas.sampled import figures_of
from quadrat.metrics import block_ids
from quadrat.sampling import draw, frame, plan, strata
from quadrat.sampling.frame import SamplingFrame
from quadrat.sampling.strata import Strata, StrataOptions
from quadrat.scores import read

LEAST, PURE = 0.02, 0.9
NAMES = ("regression", "post-stratified", "direct")


@dataclass(frozen=True)
class Design:
    """A way to draw: its strata, how plots are dealt to them, and what is drawn."""

    name: str
    by: tuple[str, ...] = ()
    rule: str = "proportional"
    how: str = "stratified"
    side: int = 0


DESIGNS = (
    Design("random"),
    Design("classes, proportional", ("class",)),
    Design("classes, equal", ("class",), "equal"),
    Design("certainty, neyman", ("certainty",), "neyman"),
    Design("classes x certainty, neyman", ("class", "certainty"), "neyman"),
    Design("systematic", how="systematic"),
    Design("clusters of 2 x 2", how="clusters", side=2),
)


def truth_of(uri: str, of: SamplingFrame, date: int = 1) -> np.ndarray:
    """True shares of the frame's tiles, (N, K); classes that the truth lacks have none."""
    with Path(uri).open() as file:
        rows = {(int(r["row"]), int(r["col"])): r for r in csv.DictReader(file)}
    keys = zip(of.rows.tolist(), of.cols.tolist(), strict=True)
    names = of.legend.names
    found = np.array([[float(rows[k].get(f"f{date}_{n}", 0)) for n in names] for k in keys])
    return found / found.sum(1, keepdims=True)


def interpretation(
    of: SamplingFrame, made: Strata, drawn: draw.Drawn, values: np.ndarray, how: Design,
    told: tuple[np.ndarray, ...], seed: int = 0,
) -> Interpretation:  # fmt: skip
    """The drawn plots with the truth for answers. told: see `told`."""
    shares, cell, means, cells = told
    at = drawn.places
    path = clusters = None
    blocks = 0
    if how.how == "systematic":
        way = draw.path(of.rows, of.cols, seed)
        place = np.empty(len(of), np.int64)
        place[way] = np.arange(len(of))
        path = place[at]
    if how.how == "clusters":
        every = block_ids(of.rows, of.cols, how.side)
        clusters, blocks = every[at], len(np.unique(every))
    plan_ = SurveyDesign(made.of[at], made.sizes.astype(float), clusters, blocks, path)
    return Interpretation(
        plan_, at, values[at], values[at][None], ("truth",), shares[at], means, cell[at], cells,
        made.names,
    )  # fmt: skip


def told(of: SamplingFrame, made: Strata) -> tuple[np.ndarray, ...]:
    """What the map says of every tile, and on average of each stratum."""
    k, h = len(of.legend), len(made.names)
    cell = of.mapped[:, -1]
    sums = np.stack([np.bincount(made.of, of.shares[:, i], h) for i in range(k)], 1)
    cells = np.bincount(made.of * k + cell, minlength=h * k).reshape(h, k).astype(float)
    return of.shares, cell, sums / made.sizes[:, None], cells


def drawn_as(
    of: SamplingFrame, made: Strata, how: Design, counts: np.ndarray, rng: np.random.Generator,
    seed: int = 0,
) -> draw.Drawn:  # fmt: skip
    none = np.zeros(len(counts), np.int64)
    if how.how == "systematic":
        return draw.systematic(of, made, counts, none, seed)
    if how.how == "clusters":
        return draw.clusters(of, how.side, int(counts.sum()), rng)
    return draw.at_random(made, counts, none, rng)


def counts_of(of: SamplingFrame, made: Strata, how: Design, n: int) -> np.ndarray:
    return plan.planned(
        of, made, StrataOptions(), plots=n, rule=how.rule, minimum=None, area=None,
        half_width=None, level=0.95, accuracy=None, reserve=0,
    ).counts  # fmt: skip


def simulate(
    of: SamplingFrame, values: np.ndarray, how: Design, n: int, draws: int, seed: int
) -> dict:
    """Coverage, half-widths and errors of each estimator, (draws, K) arrays."""
    made = strata.stratify(of, StrataOptions(by=how.by))
    counts, said = counts_of(of, made, how, n), told(of, made)
    rng, k = np.random.default_rng(seed), values.shape[1]
    true = values.mean(0)
    found: dict[str, list] = {name: [] for name in NAMES}
    for number in range(draws):
        got = drawn_as(of, made, how, counts, rng, number)
        one = interpretation(of, made, got, values, how, said, number)
        for name in NAMES:
            f = figures_of(one, np.eye(k), name, 0.95)
            held = (f.low - 1e-12 <= true) & (true <= f.high + 1e-12)
            found[name].append(
                np.stack([held, (f.high - f.low) / 2, f.value - true, f.se, f.exact])
            )
    return {name: np.stack(each) for name, each in found.items()}  # (draws, 5, K)


def of_map(args: argparse.Namespace) -> list[dict]:
    """Every design and both estimands; then the goal."""
    of = frame.read(args.scores)
    true = truth_of(args.truth, of)
    if not of.has_shares:
        print("the scores have no shares: probabilities stand for them")
    main = np.eye(true.shape[1])[true.argmax(1)]
    print(f"{len(of):,} tiles; {(true.max(1) >= PURE).mean():.0%} pure; "
          f"map right on {(of.mapped[:, 0] == true.argmax(1)).mean():.1%}")  # fmt: skip
    rows = []
    for what, values in (("ground", true), ("plots", main)):
        big = np.flatnonzero(values.mean(0) >= LEAST)
        names = [of.legend.names[i] for i in big]
        print(f"\n{what}, n = {args.n}, {args.draws} draws: {', '.join(names)}")
        print("| design | held, regression | held, post-stratified | held, direct | half-width | "
              "on average | against direct | exact |")  # fmt: skip
        print("|---|---|---|---|---|---:|---:|---:|")
        for how in DESIGNS:
            start = time.perf_counter()
            got = simulate(of, values, how, args.n, args.draws, args.seed)
            row = summary(got, big)
            rows.append({"what": what, "design": how.name, "classes": names, **row,
                         "seconds": time.perf_counter() - start})  # fmt: skip
            print(line(how.name, row), flush=True)
    rows.append(goal(of, true, args))
    return rows


def summary(got: dict, big: np.ndarray) -> dict:
    half = {n: got[n][:, 1][:, big].mean(0) for n in NAMES}
    ratio = half["regression"] / half["post-stratified"]
    return {
        **{f"held {n}": got[n][:, 0][:, big].mean(0).round(3).tolist() for n in NAMES},
        "half-width ratio": ratio.round(3).tolist(),
        "mean ratio": float(ratio.mean()),
        "against direct": float((half["regression"] / half["direct"]).mean()),
        "exact": float(got["regression"][:, 4][:, big].mean()),
        "spread": (got["regression"][:, 2][:, big].std(0)
                   / got["post-stratified"][:, 2][:, big].std(0)).round(3).tolist(),
    }  # fmt: skip


def line(name: str, row: dict) -> str:
    cells = [" ".join(f"{v:.3f}" for v in row[f"held {n}"]) for n in NAMES]
    ratio = " ".join(f"{v:.2f}" for v in row["half-width ratio"])
    return (
        f"| {name} | {' | '.join(cells)} | {ratio} | {row['mean ratio']:.2f} | "
        f"{row['against direct']:.2f} | {row['exact']:.0%} |"
    )


def goal(of: SamplingFrame, true: np.ndarray, args: argparse.Namespace) -> dict:
    """How many draws reach the half-width that a plan was made for."""
    share = true.mean(0)
    target = int(np.argmax(np.where(share < 0.5, share, 0)))
    made = strata.stratify(of, StrataOptions(by=("class",)))
    planned = plan.planned(
        of, made, StrataOptions(), plots=None, rule="neyman", minimum=None,
        area=of.legend.names[target], half_width=args.half_width, level=0.95, accuracy=None,
        reserve=0,
    )  # fmt: skip
    said, rng, hits = told(of, made), np.random.default_rng(args.seed), []
    for _ in range(args.draws):
        got = drawn_as(of, made, Design("goal"), planned.counts, rng)
        one = interpretation(of, made, got, true, Design("goal"), said)
        f = figures_of(one, np.eye(true.shape[1])[:, [target]], "regression", 0.95)
        half = (f.high - f.low)[0] / 2
        aim = share[target]
        hits.append((half <= args.half_width * aim, f.low[0] <= aim <= f.high[0], half / aim))
    reached, held, half = np.array(hits, float).T
    name = of.legend.names[target]
    print(
        f"\ngoal: {name} to +-{args.half_width:.0%}: {planned.counts.sum():,} plots; reached in "
        f"{reached.mean():.1%} of draws, half-width {half.mean():.1%} on average, held "
        f"{held.mean():.1%}\nassumes: {planned.expectation.assumes}"
    )
    return {"what": "goal", "class": name, "plots": int(planned.counts.sum()),
            "reached": float(reached.mean()), "held": float(held.mean()),
            "half_width": float(half.mean())}  # fmt: skip


# Change


def repeated(of: SamplingFrame, tiles: int) -> tuple[SamplingFrame, np.ndarray]:
    """The frame side by side until it has so many tiles, and each tile's place in the first."""
    copies = -(-tiles // len(of))
    place = np.tile(np.arange(len(of)), copies)[:tiles]
    shift = np.repeat(np.arange(copies), len(of))[:tiles] * 100_000
    return replace(of.take(place), rows=of.rows[place] + shift), place


def built_of(uri: str, of: SamplingFrame) -> np.ndarray:
    with Path(uri).open() as file:
        rows = {(int(r["row"]), int(r["col"])): float(r["built"]) for r in csv.DictReader(file)}
    return np.array([rows[k] for k in zip(of.rows.tolist(), of.cols.tolist(), strict=True)])


def of_change(args: argparse.Namespace) -> list[dict]:
    """Newly developed ground by the omission strata, and by simple random sampling."""
    small = frame.read(args.scores)
    of, place = repeated(small, args.tiles)
    y = built_of(args.truth, small)[place]
    options = StrataOptions(by=("change",), to_classes=(args.to,))
    asked = frame.wanted_moves(of, (), (args.to,))
    p = frame.change_probability(of, asked)
    made = strata.stratify(of, options)
    print(f"{len(of):,} tiles ({len(small):,} laid side by side); new {args.to} {y.mean():.2%} of "
          f"the ground, {p.mean():.2%} expected")  # fmt: skip
    goal_ = plan.planned(
        of, made, options, plots=None, rule="neyman", minimum=None, area=None,
        half_width=args.half_width, level=0.95, accuracy=None, reserve=0,
    )  # fmt: skip
    fixed = plan.planned(
        of, made, options, plots=args.n, rule="neyman", minimum=None, area=None, half_width=None,
        level=0.95, accuracy=None, reserve=0,
    )  # fmt: skip
    print("| stratum | tiles | its part of the change | plots |\n|---|---:|---:|---:|")
    for h, name in enumerate(made.names):
        inside = made.of == h
        print(
            f"| {name} | {inside.sum():,} | {y[inside].sum() / y.sum():.0%} | {fixed.counts[h]:,} |"
        )
    whole = Strata(np.zeros(len(of), np.int64), ("all",), ("",))
    cases = [("omission strata", made, fixed.counts), ("omission strata, goal", made, goal_.counts)]
    cases += [("simple random", whole, np.array([n])) for n in (args.n, args.random)]
    rows = []
    print("\n| sample | plots | estimator | held | Wald | half-width | +-20% reached | exact |")
    print("|---|---:|---|---:|---:|---:|---:|---:|")
    for name, groups, counts in cases:
        for row in changed(of, y, p, groups, counts, args):
            rows.append({"sample": name, "plots": int(counts.sum()), **row})
            print(f"| {name} | {counts.sum():,} | {row['estimator']} | {row['held']:.3f} | "
                  f"{row['wald']:.3f} | {row['half']:.1%} | {row['reached']:.1%} | "
                  f"{row['exact']:.0%} |", flush=True)  # fmt: skip
    return rows


def changed(
    of: SamplingFrame, y: np.ndarray, p: np.ndarray, groups: Strata, counts: np.ndarray,
    args: argparse.Namespace,
) -> list[dict]:  # fmt: skip
    values, shares = np.stack([y, 1 - y], 1), np.stack([p, 1 - p], 1)
    cell = (p < strata.CHANGED).astype(np.int64)
    h = len(groups.names)
    means = np.stack([np.bincount(groups.of, s, h) for s in shares.T], 1) / groups.sizes[:, None]
    cells = np.bincount(groups.of * 2 + cell, minlength=2 * h).reshape(h, 2).astype(float)
    rng, true, found = np.random.default_rng(args.seed), y.mean(), {n: [] for n in NAMES}
    for _ in range(args.draws):
        got = draw.at_random(groups, counts, np.zeros(h, np.int64), rng)
        said = shares, cell, means, cells
        one = interpretation(of, groups, got, values, Design(""), said)
        for name in NAMES:
            f = figures_of(one, np.eye(2)[:, :1], name, 0.95)
            aux = one.auxiliary(np.eye(2)[:, :1])
            flat = estimators.ESTIMATORS[name](one.design, one.values[:, :1], aux)
            wald = 1.96 * np.sqrt(designs.variance(one.design, flat.values)[0][0])
            half = (f.high[0] - f.low[0]) / 2
            near = abs(flat.value[0] - true) <= wald
            found[name].append((f.low[0] <= true <= f.high[0], near, half / true,
                                half <= args.half_width * true, f.exact[0]))  # fmt: skip
    keys = ("held", "wald", "half", "reached", "exact")
    return [{"estimator": n, **dict(zip(keys, np.mean(f, 0).tolist(), strict=True))}
            for n, f in found.items()]  # fmt: skip


# Real plots that were read twice


def of_mass(args: argparse.Namespace) -> list[dict]:
    """Samples of the plots, each with two readings; the mean of both over all plots is the aim."""
    import mass
    from quadrat.metrics import matrix

    folder = args.work or "quadrat-mass"
    Path(folder).mkdir(exist_ok=True)
    plots = mass.read(args.data, folder, 4)
    readings = _readings(args.data)
    shares, fold = np.zeros_like(plots.shares), mass.folds(plots.image, args.seed)
    for i in range(mass.FOLDS):
        train, test = (plots.take(np.flatnonzero(pick)) for pick in (fold != i, fold == i))
        strength, held = mass.chosen(train, "shares", 4, args.seed + 1, (mass.SHIPPED,))
        scalings = mass.fit_scalings(held)
        head = mass.fitted(train, "shares", 4, strength)
        shares[fold == i] = mass.said(head, test.x, scalings)[1]
    main = readings.argmax(2)
    table = np.zeros((8, 8))
    np.add.at(table, (main[0], main[1]), 1)
    kappa = float(matrix.SCORES["kappa"].rule(table))
    print(f"{len(shares)} plots; readings agree on {(main[0] == main[1]).mean():.1%}, "
          f"kappa {kappa:.3f}")  # fmt: skip
    true = readings.mean(0).mean(0)
    big = np.flatnonzero(true >= LEAST)
    names = [mass.CLASSES[i] for i in big]
    print(f"aim: {', '.join(f'{n} {v:.3f}' for n, v in zip(names, true[big], strict=True))}")
    rng, n_all, rows = np.random.default_rng(args.seed), len(shares), []
    cell = shares.argmax(1)
    cells = np.bincount(cell, minlength=8)[None].astype(float)
    found: dict[str, list] = {n: [] for n in estimators.ESTIMATORS}
    for _ in range(args.draws):
        at = rng.choice(n_all, args.n, False)
        plan_ = SurveyDesign(np.zeros(args.n, np.int64), np.array([float(n_all)]))
        one = Interpretation(
            plan_, at, readings[:, at].mean(0), readings[:, at], ("A", "B"), shares[at],
            shares.mean(0)[None], cell[at], cells, ("all",),
        )  # fmt: skip
        for name in found:
            f = figures_of(one, np.eye(8), name, 0.95)
            found[name].append(np.stack([(f.low <= true) & (true <= f.high), (f.high - f.low) / 2,
                                         f.interpreters]))  # fmt: skip
    print("| estimator | held | half-width | of it, between interpreters |\n|---|---|---|---|")
    for name, each in found.items():
        held, half, between = np.stack(each).mean(0)[:, big]
        rows.append({"estimator": name, "classes": names, "held": held.tolist(),
                     "half": half.tolist(), "kappa": kappa})  # fmt: skip
        cells_ = (" ".join(f"{v:.3f}" for v in a) for a in (held, half, between))
        print(f"| {name} | {' | '.join(cells_)} |", flush=True)
    return rows


def _readings(data: str) -> np.ndarray:
    """Shares of both readings, (2, plots, classes), in the order of `mass.read`."""
    import mass

    found: dict[tuple[int, int], dict[str, list[float]]] = {}
    with Path(data, "plots.csv").open() as file:
        for row in csv.DictReader(file):
            key = int(row["row"]), int(row["col"])
            found.setdefault(key, {})[row["interpreter"]] = [float(row[c]) for c in mass.CLASSES]
    each = np.array([[found[k][who] for k in sorted(found)] for who in ("A", "B")])
    return each / each.sum(2, keepdims=True)


# The label source


def of_source(args: argparse.Namespace) -> list[dict]:
    """Each class of each county: is the source's own area within the interval?"""
    rows = []
    print(
        "| scores | class | by the source | estimate | interval | held |\n"
        "|---|---|---:|---:|---|---|"
    )
    for uri in args.scores:
        day = read(uri)
        own = np.nanmean(day.reference.astype(float), axis=0)
        got = source.of_ground(day)
        for row, share in zip(got.rows, own, strict=True):
            if share == 0:
                continue
            ends = row.adjusted.value, row.adjusted.low, row.adjusted.high
            value, low, high = (v / got.total_ha for v in ends)
            held = low <= share <= high
            rows.append({"scores": uri, "class": row.name, "own": float(share), "held": bool(held),
                         "estimate": value, "low": low, "high": high})  # fmt: skip
            print(f"| {uri} | {row.name} | {share:.4f} | {value:.4f} | {low:.4f} to {high:.4f} | "
                  f"{'yes' if held else 'no'} |")  # fmt: skip
    big = [r for r in rows if r["own"] >= 0.1]
    print(f"held in {sum(r['held'] for r in rows)} of {len(rows)} cases; classes above 10% are off "
          f"by {max(abs(r['estimate'] / r['own'] - 1) for r in big):.1%} at most")  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind, n in (("map", 300), ("change", 2500), ("mass", 100)):
        one = kinds.add_parser(kind)
        for name in ("data",) if kind == "mass" else ("scores", "truth"):
            one.add_argument(name)
        one.add_argument("--n", type=int, default=n)
        one.add_argument("--draws", type=int, default=500)
        one.add_argument("--seed", type=int, default=0)
        one.add_argument("--half-width", type=float, default=0.2 if kind == "change" else 0.1)
        one.add_argument("--tiles", type=int, default=20_880)
        one.add_argument("--random", type=int, default=6500, help="plots of a random sample too")
        one.add_argument("--to", default="Developed")
        one.add_argument("--work", help="where tiles of the real plots are kept")
        one.add_argument("--json", type=Path)
    one = kinds.add_parser("source")
    one.add_argument("scores", nargs="+")
    one.add_argument("--json", type=Path)
    args = parser.parse_args()
    start = time.perf_counter()
    runs = {"map": of_map, "change": of_change, "mass": of_mass, "source": of_source}
    rows = runs[args.kind](args)
    print(f"{time.perf_counter() - start:.0f} s")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
