"""Labels that informative plots save: accuracy after n labels, chosen or drawn at random.

    python benchmarks/informative.py ucmerced FOLDER [--seeds 5]
    python benchmarks/informative.py mass FOLDER [--seeds 20]

Half of the tiles (of each class) are tested on and never chosen from. Both ways begin with the same
tiles, drawn at random, and go on in rounds: a logistic head on the default backbone's features is
fitted to what is labelled, and more is labelled, by `quadrat.sampling.informative` or at random.
Printed: mean accuracy by the number of labels, and the labels with which informative plots reach
what random ones reach with all or with half of the pool (between rounds by straight lines).
"""

import argparse
import csv
import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from quadrat import features, raster, tiles
from quadrat.backbones import feature_graph
from quadrat.grid import TileRange
from quadrat.heads.calibrate import softmax
from quadrat.heads.fit import Settings, fit
from quadrat.sampling import informative

SHARES = (
    "water", "developed", "barren", "forest", "shrub", "herbaceous", "cultivated", "wetland",
)  # fmt: skip
STEPS = {
    "ucmerced": (42, 84, 126, 168, 210, 273, 336, 420, 525, 630, 840, 1050),
    "mass": (12, 18, 24, 30, 36, 42, 54, 66, 90, 121),
}


def plots_as_pictures(source: Path, out: Path) -> Path:
    """The interpreted plots as a folder of pictures, by the main class of the readings' mean."""
    readings: dict = {}
    with (source / "plots.csv").open() as file:
        for row in csv.DictReader(file):
            place = int(row["row"]), int(row["col"]), row["source"]
            readings.setdefault(place, []).append([float(row[c]) for c in SHARES])
    for (row, col, name), shares in readings.items():
        imagery = raster.open_imagery([str(source / name)])
        pixels, _ = raster.read_block(imagery, TileRange(row, row + 1, col, col + 1))
        folder = out / SHARES[int(np.mean(shares, axis=0).argmax())]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.transpose(1, 2, 0)).save(folder / f"{row}_{col}.png")
    return out


def read(folder: Path, cache: str):
    """Features (N, D), class ids (N,), file names, classes."""
    source = tiles.open_tiles(str(folder), size_px=224)
    graph = feature_graph("efficientnet_lite0", size_px=224)
    found = features.featurize(source, graph, cache=cache)
    names = found.index["label"].to_pylist()
    classes = sorted(set(names))
    y = np.array([classes.index(n) for n in names])
    return np.asarray(found.values), y, [Path(p).stem for p in found.index["path"].to_pylist()]


def halves(y, rng):
    """A pool to choose from and tiles to test on, half of each class."""
    pool, test = [], []
    for k in np.unique(y):
        mine = rng.permutation(np.flatnonzero(y == k))
        pool += mine[: (len(mine) + 1) // 2].tolist()
        test += mine[(len(mine) + 1) // 2 :].tolist()
    return np.array(pool), np.array(test)


def curve(data, labelled, pool, test, steps, how, seed):
    """Accuracy at each number of labels."""
    x, y, places = data
    k, rng, found, p = int(y.max()) + 1, np.random.default_rng(seed), [], None
    for upto in steps:
        free, more = np.setdiff1d(pool, labelled), upto - len(labelled)
        if more > 0 and how == "random":
            labelled = np.append(labelled, rng.permutation(free)[:more])
        elif more > 0:
            where = (
                {} if places is None else dict(zip(("rows", "cols"), places[free].T, strict=True))
            )
            at = informative.choose(p[free], more, rng, features=x[free], **where)
            labelled = np.append(labelled, free[at])
        head, _ = fit(x[labelled], y[labelled], k, Settings())
        p = softmax(head.logits(x))
        found.append(float((p[test].argmax(1) == y[test]).mean()))
    return found


def needed(steps, accuracy, goal):
    """Labels at which a mean curve reaches a goal; None where it does not."""
    best = np.maximum.accumulate(accuracy)
    if best[-1] < goal:
        return None
    at = int(np.argmax(best >= goal))
    if at == 0:
        return float(steps[0])
    part = (goal - best[at - 1]) / (best[at] - best[at - 1])
    return float(steps[at - 1] + part * (steps[at] - steps[at - 1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=list(STEPS))
    parser.add_argument("folder")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cache")
    parser.add_argument("--json")
    args = parser.parse_args()
    steps = STEPS[args.what]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.folder)
        if args.what == "mass":
            folder = plots_as_pictures(folder, Path(temporary) / "plots")
        x, y, names = read(folder, args.cache or f"{temporary}/cache")
    places = None
    if args.what == "mass":
        places = np.array([[int(v) for v in n.split("_")] for n in names])
    curves = {"random": [], "informative": []}
    for seed in range(args.seeds):
        rng = np.random.default_rng(seed)
        pool, test = halves(y, rng)
        first = rng.permutation(pool)[: steps[0]]
        for how, found in curves.items():
            found.append(curve((x, y, places), first, pool, test, steps, how, seed))
        print(f"seed {seed}", {h: f"{c[-1][len(steps) // 2]:.3f}" for h, c in curves.items()},
              flush=True)  # fmt: skip
    mean = {how: np.mean(c, axis=0) for how, c in curves.items()}
    print("labels  random  informative")
    for i, n in enumerate(steps):
        print(f"{n:6}  {mean['random'][i]:.3f}   {mean['informative'][i]:.3f}")
    for n in (steps[-1], min(steps, key=lambda s: abs(s - steps[-1] / 2))):
        goal = mean["random"][steps.index(n)]
        got = needed(steps, mean["informative"], goal)
        said = "never" if got is None else f"{got:.0f} labels, {got / n:.0%}"
        print(f"what random reaches with {n} labels ({goal:.3f}): {said}")
    if args.json:
        Path(args.json).write_text(json.dumps({"steps": steps, "curves": curves}))


if __name__ == "__main__":
    main()
