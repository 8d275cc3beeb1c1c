"""From raster to map on real imagery: UC Merced's pictures for training, NAIP and NLCD for testing.

    python benchmarks/landuse.py UCMERCED WV [--out FOLDER]

UC Merced's 21 classes fold into the land-use classes that it has (river and harbor are water and
have none; nothing in it is herbaceous). A head is fitted on half of it and tested on the other
half, then scores NAIP patches of West Virginia (WV: imagery `*_2011.tif`, `*_2014.tif`, labels
`nlcd.tif`), cut on the grid and labelled with their NLCD. The pictures have pixels of 0.3 m and the
patches of 1 m, so the second figure says how far such a model travels, not how good the method is.
"""

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path

from quadrat import maps
from quadrat.heads import train
from quadrat.legend import LandClass, Legend, load_legend
from quadrat.scores import open_scores
from quadrat.scoring import score
from quadrat.tiles import pack, tile

CLASSES = {
    "Barren": ["beach"],
    "Cultivated": ["agricultural"],
    "Developed": [
        "airplane", "baseballdiamond", "buildings", "denseresidential", "freeway", "golfcourse",
        "intersection", "mediumresidential", "mobilehomepark", "overpass", "parkinglot", "runway",
        "sparseresidential", "storagetanks", "tenniscourt",
    ],
    "Forest": ["forest"],
    "Shrub": ["chaparral"],
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ucmerced")
    parser.add_argument("wv")
    parser.add_argument("--out")
    parser.add_argument("--json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(args.out or temporary)
        figures = {"ucmerced": fit(args.ucmerced, out)}
        for year in (2011, 2014):
            figures[str(year)] = apply(args.wv, out, year)
    for name, values in figures.items():
        print(name, json.dumps(values))
    if args.json:
        Path(args.json).write_text(json.dumps(figures))


def fit(ucmerced: str, out: Path) -> dict:
    for name, folders in CLASSES.items():
        (out / "pictures" / name).mkdir(parents=True, exist_ok=True)
        for folder in folders:
            for file in sorted(Path(ucmerced, folder).iterdir()):
                link = out / "pictures" / name / file.name
                if not link.exists():
                    link.symlink_to(file.resolve())
    nlcd = {c.name: c for c in load_legend("nlcd6").classes}
    legend = Legend("ucmerced5", tuple(LandClass(n, nlcd[n].color, nlcd[n].codes) for n in CLASSES))
    made = pack(str(out / "pictures"), str(out / "packed"), validation=0.5, legend=legend)
    result = train(made.uri, str(out / "model"), class_weight="balanced", cache=str(out / "cache"))
    return {"tiles": made.tiles, "accuracy": round(result.accuracy, 4)}


def apply(wv: str, out: Path, year: int) -> dict:
    images = [str(f) for f in sorted(Path(wv).glob(f"*_{year}.tif"))]
    tile(
        images, str(out / f"tiles-{year}"), labels=str(Path(wv, "nlcd.tif")), rule="majority",
        split=None, date=str(year), max_nodata=0.25,
    )  # fmt: skip
    score(str(out / "model"), str(out / f"tiles-{year}"), str(out / f"scores-{year}"))
    scores = open_scores(str(out / f"scores-{year}"))
    maps.map(scores.uri, str(out / f"map-{year}.tif"), png=str(out / f"map-{year}.png"))
    table = scores.table(["truth", "label"]).to_pylist()
    known = [r for r in table if r["truth"]]
    return {
        "tiles": len(table),
        "labelled": len(known),
        "correct": sum(r["truth"] == r["label"] for r in known),
        "truth": dict(Counter(r["truth"] for r in known)),
        "mapped": dict(Counter(r["label"] for r in table)),
    }


if __name__ == "__main__":
    main()
