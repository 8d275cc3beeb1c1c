"""Change on real imagery where almost nothing changed but the colours: what is called changed?

    python benchmarks/change_real.py [--data FOLDER] [--out FOLDER] [--normalise linear]

Two sets of NAIP (public domain): 16 patches in West Virginia, summer 2011 and autumn 2014; places
in six Californian cities at two dates each. There are too few labelled tiles to train on, so the
model is trained elsewhere, on UC Merced Land Use (other scale, other places), folded to three or
to five classes: a hard case for whoever compares two maps. Patches are laid out on the grid with
gaps, since their true neighbours are not there. With --plant, a few places' later date is a picture
of another class: what never calls a change should not pass for good.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from quadrat.changes import change
from quadrat.heads import train
from quadrat.raster import write_geotiff
from quadrat.tiles import tile

DEVELOPED = (
    "buildings", "denseresidential", "freeway", "intersection", "mediumresidential",
    "mobilehomepark", "overpass", "parkinglot", "runway", "sparseresidential", "storagetanks",
)  # fmt: skip
WILD = ("beach", "chaparral", "forest", "golfcourse", "river")
FOLDS = {
    3: {"Cultivated": ("agricultural",), "Developed": DEVELOPED, "Undeveloped": WILD},
    5: {
        "Barren": ("beach",),
        "Cultivated": ("agricultural",),
        "Developed": DEVELOPED,
        "Forest": ("forest",),
        "Shrub": ("chaparral",),
    },
}
TRAINED = 50  # of the 100 pictures of a class; the planted changes are among the others
CRS, SIDE = "EPSG:26917", 224
ACROSS = 8  # patches in a row of the layout
TOP, LEFT = -20000, 2000  # row and column of the first


def pictures(data: Path, out: Path, classes: int) -> Path:
    """UC Merced as one folder a class, by links."""
    for name, members in FOLDS[classes].items():
        folder = out / "pictures" / name
        folder.mkdir(parents=True, exist_ok=True)
        for member in members:
            for file in sorted((data / "ucmerced" / member).glob("*.jpg"))[:TRAINED]:
                link = folder / file.name
                if not link.exists():
                    link.symlink_to(file.resolve())
    return out / "pictures"


def patches(data: Path, which: str) -> dict[str, dict[str, Path]]:
    """Place -> date -> file."""
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for file in sorted((data / which).glob("*_*.tif")):
        place, date = file.stem.rsplit("_", 1)
        found[place][date] = file
    return {p: d for p, d in found.items() if len(d) > 1}


def lay_out(
    places: dict[str, dict[str, Path]], pixel_m: float, out: Path, planted: list[Path]
) -> dict[str, str]:
    """Two GeoTIFFs, earliest and latest date, every other tile of the grid a patch's middle.

    The last places' later date is one of the `planted` pictures instead: a change that is real.
    """
    rows = -(-len(places) // ACROSS)
    tile_m = SIDE * pixel_m
    left, top = LEFT * tile_m, -TOP * tile_m
    files = {}
    for name, pick in (("earlier", min), ("later", max)):
        canvas = np.zeros((4, 2 * rows * SIDE, 2 * ACROSS * SIDE), np.uint8)
        for n, dates in enumerate(places.values()):
            file, left_over = dates[pick(dates)], len(places) - n
            if name == "later" and left_over <= len(planted):
                file = planted[left_over - 1]
            with rasterio.open(file) as source:
                pixels = source.read((1, 2, 3))
            y0, x0 = (pixels.shape[1] - SIDE) // 2, (pixels.shape[2] - SIDE) // 2
            i, j = divmod(n, ACROSS)
            here = (
                slice(2 * i * SIDE, (2 * i + 1) * SIDE),
                slice(2 * j * SIDE, (2 * j + 1) * SIDE),
            )
            canvas[:3, here[0], here[1]] = np.maximum(pixels[:, y0 : y0 + SIDE, x0 : x0 + SIDE], 1)
        files[name] = str(out / f"{name}.tif")
        write_geotiff(files[name], canvas[:3], CRS, (pixel_m, 0, left, 0, -pixel_m, top), nodata=0)
    return files


def one(
    data: Path, which: str, pixel_m: float, model: str, out: Path, method: str, plant: int
) -> dict[str, Any]:
    """Score both dates of a set and look for change."""
    out.mkdir(parents=True, exist_ok=True)
    places = patches(data, which)
    other = "forest" if which == "naip-ca" else "denseresidential"
    planted = sorted((data / "ucmerced" / other).glob("*.jpg"))[TRAINED : TRAINED + plant]
    files = lay_out(places, pixel_m, out, planted)
    grid = {"crs": CRS, "tile_m": SIDE * pixel_m, "pixel_m": pixel_m}
    sets = {
        n: tile([f], str(out / f"tiles_{n}"), date=n, overwrite=True, nodata=0, **grid)
        for n, f in files.items()
    }
    got = change(
        [made.uri for made in sets.values()], str(out / "change"), model=model, normalise=method,
        smoothing=0.0, min_probability=0.0, show=24, imagery=list(files.values()), overwrite=True,
    )  # fmt: skip
    with Path(got.files["csv"]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    called = {(int(r["row"]), int(r["col"])) for r in rows if float(r["probability"]) >= 0.5}
    real = {place(n) for n in range(len(places) - plant, len(places))}
    return {
        "set": which, "normalise": method, "tiles": got.tiles, "planted": plant,
        "called_changed": len(called), "share": round(len(called) / got.tiles, 4),
        "planted_found": len(called & real),
        "expected_changed": round(got.changed[0].value, 3),
        "maps_differ": got.compared_changed,
        "maps_differ_share": round(got.compared_changed / got.tiles, 4),
        "likeliest": [(r["from"], r["to"], r["probability"]) for r in rows[:3]],
        "pictures": str(out / "change" / "pictures"),
    }  # fmt: skip


def place(n: int) -> tuple[int, int]:
    """Row and column of the n-th patch on the grid."""
    i, j = divmod(n, ACROSS)
    return TOP + 2 * i, LEFT + 2 * j


def main() -> None:
    """Run it and print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = Path(__file__).parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=os.environ.get("QUADRAT_TEST_DATA", root))
    parser.add_argument("--out", type=Path, default=Path("quadrat-change-real"))
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--normalise", nargs="*", default=["none", "linear", "histogram"])
    parser.add_argument("--classes", type=int, nargs="*", choices=FOLDS, default=list(FOLDS))
    parser.add_argument(
        "--plant", action="store_true", help="also with a few places that really changed"
    )
    parser.add_argument("--keep", action="store_true", help="keep what was written")
    args = parser.parse_args()
    data = Path(args.data)
    if not (data / "naip-ca").is_dir():
        sys.exit(f"real imagery is not at {data}; give --data")
    for classes in args.classes:
        home = args.out / f"{classes}-classes"
        model = str(home / "model")
        if not (home / "model" / "model.json").exists():
            train(
                str(pictures(data, home, classes)), model, backbone=args.backbone,
                precision="fp32", class_weight="balanced", cache=str(home / "cache"),
            )  # fmt: skip
        for which, pixel_m, plant in (("naip-nlcd-wv", 1.0, 1), ("naip-ca", 0.6, 3)):
            for method in args.normalise:
                for n in (0, plant) if args.plant else (0,):
                    out = home / which / f"{method}-{n}"
                    found = one(data, which, pixel_m, model, out, method, n)
                    print(json.dumps({"classes": classes, **found}), flush=True)
    if not args.keep:
        shutil.rmtree(args.out)


if __name__ == "__main__":
    main()
