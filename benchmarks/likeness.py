"""Whether a model says where imagery is unlike the ground that it was trained on.

    python benchmarks/likeness.py DATA [--seed 70] [--json FILE]

Models are trained with every default, and score imagery that they should know and imagery that
they should not. DATA holds `ucmerced/` (pictures of 0.3 m), `naip-va/`, `naip-nlcd-wv/` (two dates,
summer and autumn) and `mass/` (1 m), and `nlcd/` for composed counties (`composed.py`).

    UC Merced   pictures of 21 classes; a fifth of each is held out
    county      a composed county, 24 x 32 plots; blocks are held out. It is drawn from UC Merced,
                one pixel taken for a metre
    mass        images of Massachusetts; a fifth of the images is held out. Its plots have labels,
                its other tiles not: distances are fitted to all tiles, without a head

`beyond` is the share of tiles whose distance is above 1, of which a hundredth is usual; `unlike` is
how many images (for a county blocks of 8 x 8 tiles) are called unlike the training ground, and
whether all of the imagery is.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import composed
from quadrat import backbones, features, metrics
from quadrat.heads import distance as distances
from quadrat.heads import train
from quadrat.scores import likeness, open_scores
from quadrat.scoring import score
from quadrat.tiles import TileSet, pack, tile

FOLDS = 5


def imagery(data: Path, folder: Path, seed: int) -> dict[str, TileSet]:
    """Imagery to score, cut as every model takes it."""
    found = {}

    def cut(name: str, files: list[Path], **options: Any) -> None:
        out = str(folder / name.replace(" ", "-"))
        found[name] = tile([str(f) for f in files], out, split=None, **options)

    cut("Virginia", [data / "naip-va/naip_va.tif"])
    for year in (2011, 2014):
        cut(f"West Virginia {year}", sorted((data / "naip-nlcd-wv").glob(f"*_{year}.tif")))
    cut("Massachusetts", sorted((data / "mass").glob("*.tif")))
    for layout in ("augusta", "durham"):
        made = folder / layout
        composed.make(data, made, layout=layout, seed=seed, rows=24, cols=32, dates=2)
        for date in (1, 2):
            more = {"labels": str(made / "nlcd1.tif")} if date == 1 else {}
            files = [str(made / f"date{date}.tif")]
            out = str(folder / f"{layout}{date}")
            found[f"{layout}, date {date}"] = tile(files, out, **more)
    return found


def beyond_of(uri: str, held_out: bool) -> dict[str, Any]:
    """How much of scored imagery is unlike the training ground, and how many images."""
    table = open_scores(uri).table()
    names = np.array(table["source"].to_pylist())
    if table["row"].null_count == 0 and len(set(names.tolist())) == 1:
        rows, cols = (table[c].to_numpy().astype(np.int64) for c in ("row", "col"))
        names = metrics.block_ids(rows, cols).astype(str)
    kept = (
        np.array(table["split"].to_pylist()) == "validation"
        if held_out
        else np.full(len(names), True)
    )
    return counted(names[kept], table["distance"].to_numpy()[kept])


def counted(images: np.ndarray, far: np.ndarray) -> dict[str, Any]:
    found = likeness.summary(
        [
            {
                n: [int((images == n).sum()), int((far[images == n] > 1).sum())]
                for n in set(images.tolist())
            }
        ],
        distances.LEVEL,
    )
    return {
        "tiles": found["tiles"], "beyond": found["beyond"] / found["tiles"], "all": found["unlike"],
        "images": len(found["images"]), "unlike": sum(i["unlike"] for i in found["images"]),
    }  # fmt: skip


def models(data: Path, folder: Path, cuts: dict[str, TileSet]) -> Iterator[tuple[str, str, dict]]:
    """Model, imagery and what its distances say of it."""
    how = {"cache": str(folder / "cache")}
    pictures = pack(str(data / "ucmerced"), str(folder / "ucm"), validation=0.2)
    trainings = {"UC Merced": pictures, "county (durham)": cuts["durham, date 1"]}
    for name, source in trainings.items():
        model = train(source, str(folder / name.split()[0]), **how).uri
        every = {"its own ground, held out": source, "UC Merced": pictures, **cuts}
        for n, (what, tiles_) in enumerate(every.items()):
            if what == name or (tiles_ is source and n):
                continue
            scored = score(model, tiles_.uri, str(folder / f"scores-{name.split()[0]}-{n}")).uri
            yield name, what, beyond_of(scored, held_out=n == 0)
    yield from of_mass(cuts | {"UC Merced": pictures}, how["cache"])


def of_mass(cuts: dict[str, TileSet], cache: str) -> Iterator[tuple[str, str, dict]]:
    """Distances from tiles of Massachusetts, by folds of whole images."""
    graph = backbones.feature_graph("efficientnet_lite0", size_px=224)
    own = features.featurize(cuts["Massachusetts"], graph, cache=cache)
    images = np.array(own.index["source"].to_pylist())
    names = np.unique(images)
    dealt = dict(zip(names, np.random.default_rng(0).permutation(len(names)) % FOLDS, strict=True))
    fold = np.array([dealt[i] for i in images])
    near = distances.fit(np.asarray(own.values[fold > 0]), fold[fold > 0])
    assert near is not None
    yield (
        "mass",
        "its own ground, held out",
        counted(images[fold == 0], near(own.values[fold == 0])),
    )
    for what, cut in cuts.items():
        if what != "Massachusetts":
            found = features.featurize(cut, graph, cache=cache)
            sources = np.array(found.index["source"].to_pylist())
            yield "mass", what, counted(sources, near(found.values))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--seed", type=int, default=70, help="of the composed counties")
    parser.add_argument("--json")
    args = parser.parse_args()
    results = []
    print("| trained on | scored | tiles | beyond | images unlike | all unlike |")
    print("|---|---|---:|---:|---:|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cuts = imagery(Path(args.data), folder, args.seed)
        for model, what, found in models(Path(args.data), folder, cuts):
            results.append({"model": model, "scored": what, **found})
            print(
                f"| {model} | {what} | {found['tiles']:,} | {found['beyond']:.1%} | "
                f"{found['unlike']} of {found['images']} | {'yes' if found['all'] else 'no'} |",
                flush=True,
            )
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
