"""Peak memory and seconds of `quadrat change` from a small county to ten of them.

    python benchmarks/change_scale.py [--counts 6600,66000,660000] [--dates 2] [--list]

Two folders of six-class scores a count, on disk as `quadrat score` writes them: classes lie in
patches, 2% of the ground changed, the later date's scores have drifted, a fifth of the first date's
tiles are test tiles. Each count is compared by `quadrat change --show 0` in a process of its own.
With --list every tile is a candidate (`--min-probability 0`), and a report is made on the result.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

import measure

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

K = 6


def main(args: argparse.Namespace, folder: Path) -> None:
    rows, figures = [], {}
    print(measure.in_words(measure.machine()))
    for count in (int(c) for c in args.counts.split(",")):
        place = folder / f"{count}-{args.dates}"
        uris = [str(place / f"scores_{n + 1}") for n in range(args.dates)]
        if not place.exists():
            write(uris, count)
        found = changed(uris, place / "change", args)
        figures[count] = found
        rows.append((f"{count:,}", *(f"{v:,.1f}" for v in found.values())))
        print(measure.table(("tiles", *found), rows), flush=True)
    measure.write(args.json, {"counts": figures, "dates": args.dates})


def changed(uris: list[str], out: Path, args: argparse.Namespace) -> dict[str, float]:
    """Seconds and peak memory of `quadrat change`, and of a report on it when all are listed."""
    extra = ["--min-probability", "0"] if args.list else []
    what = ["change", *uris, "--out", str(out), "--show", "0", "--overwrite", *extra]
    seconds, peak = measure.process(what)
    found = {"seconds": seconds, "peak, MB": peak, "written, MB": megabytes(out)}
    if args.list:
        page = out.parent / "report.html"
        what = ["report", *uris, "--change", str(out), "--out", str(page)]
        seconds, peak = measure.process([*what, "--pictures", "0", "--mistakes", "0"])
        found |= {"report, s": seconds, "report peak, MB": peak, "report, MB": megabytes(page)}
    return found


def megabytes(place: Path) -> float:
    files = [place] if place.is_file() else [f for f in place.rglob("*") if f.is_file()]
    return sum(f.stat().st_size for f in files) / 1e6


def write(uris: list[str], count: int) -> None:
    """The same ground a date each, `count` tiles."""
    from made_scores import write_scores

    rng = np.random.default_rng(0)
    across = round(count**0.5)
    rows, cols = np.divmod(np.arange(count), across)
    patch = rng.choice(K, 1 + (count // across // 8 + 1) * (across // 8 + 1), p=SHARES)
    truth = patch[(rows // 8) * (across // 8 + 1) + cols // 8]
    split = np.where(rng.random(count) < 0.2, "test", "train")
    for n, uri in enumerate(uris):
        write_scores(
            uri, rows, cols, scored(truth, n, rng), date=str(2011 + n),
            truth=truth if n == 0 else None, split=split if n == 0 else None,
            parts=1 + count // 32_000,
        )  # fmt: skip
        truth = np.where(rng.random(count) < 0.02, 2, truth)


SHARES = (0.05, 0.2, 0.15, 0.35, 0.15, 0.1)


def scored(truth: np.ndarray, drift: int, rng: np.random.Generator) -> np.ndarray:
    """Probabilities (N, K) of a model that is right on nine tiles of ten, less on later dates."""
    logits = rng.normal(0, 1.5, (len(truth), K)) + 4.5 * np.eye(K)[truth]
    logits += drift * 0.8 * np.roll(np.eye(K), 1, 1)[truth]
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", default="6600,66000,660000")
    parser.add_argument("--dates", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="list every tile, and report on it")
    measure.start(main, parser)
