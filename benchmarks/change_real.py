"""Change on real imagery where almost nothing changed but the colours: what is called changed?

    python benchmarks/change_real.py [--data FOLDER] [--out FOLDER] [--normalise linear]

Two sets of NAIP (public domain): 16 patches in West Virginia, summer 2011 and autumn 2014; places
in six Californian cities at two dates each. There are too few labelled tiles to train on, so the
model is trained elsewhere, on UC Merced Land Use (other scale, other places), folded to three
classes:
a hard case for whoever compares two maps. Patches are laid out on the grid with gaps, since their
true neighbours are not there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from quadrat.change import change
from quadrat.change.recolour import normalisation, recoloured
from quadrat.heads import train
from quadrat.model import load_model
from quadrat.raster import open_imagery, write_geotiff
from quadrat.score import score
from quadrat.tiles import tile

FOLD = {
    "Cultivated": ("agricultural",),
    "Developed": (
        "buildings", "denseresidential", "freeway", "intersection", "mediumresidential",
        "mobilehomepark", "overpass", "parkinglot", "runway", "sparseresidential", "storagetanks",
    ),
    "Undeveloped": ("beach", "chaparral", "forest", "golfcourse", "river"),
}  # fmt: skip
CRS, SIDE = "EPSG:26917", 224
ACROSS = 8  # patches in a row of the layout


def pictures(data: Path, out: Path, each: int = 50) -> Path:
    """UC Merced as one folder a class of FOLD, by links."""
    for name, members in FOLD.items():
        folder = out / "pictures" / name
        folder.mkdir(parents=True, exist_ok=True)
        for member in members:
            for file in sorted((data / "ucmerced" / member).glob("*.jpg"))[:each]:
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


def lay_out(places: dict[str, dict[str, Path]], pixel_m: float, out: Path) -> dict[str, str]:
    """Two GeoTIFFs, earliest and latest date, every other tile of the grid a patch's middle."""
    rows = -(-len(places) // ACROSS)
    tile_m = SIDE * pixel_m
    left, top = 2000 * tile_m, 20000 * tile_m
    files = {}
    for name, pick in (("earlier", min), ("later", max)):
        canvas = np.zeros((4, 2 * rows * SIDE, 2 * ACROSS * SIDE), np.uint8)
        for n, dates in enumerate(places.values()):
            with rasterio.open(dates[pick(dates)]) as source:
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
    data: Path, which: str, pixel_m: float, model: str, out: Path, method: str
) -> dict[str, Any]:
    """Score both dates of a set and look for change."""
    out.mkdir(parents=True, exist_ok=True)
    places = patches(data, which)
    files = lay_out(places, pixel_m, out)
    grid = {"crs": CRS, "tile_m": SIDE * pixel_m, "pixel_m": pixel_m}
    sets = {
        n: tile([f], str(out / f"tiles_{n}"), date=n, overwrite=True, nodata=0, **grid)
        for n, f in files.items()
    }
    made = []
    for n in files:
        using = model
        if n == "later" and method != "none":
            a, b = (open_imagery([files[k]], nodata=0, **grid) for k in ("earlier", "later"))
            rows, cols = (
                np.array([20000 * -1 + 2 * (k // ACROSS) for k in range(len(places))]),
                np.array([2000 + 2 * (k % ACROSS) for k in range(len(places))]),
            )
            normal = normalisation(a, b, rows, cols, method)
            using = recoloured(load_model(model), normal, str(out / "model_later")).uri
        made.append(score(using, sets[n].uri, str(out / f"scores_{n}"), overwrite=True).uri)
    got = change(made, str(out / "change"), smoothing=0.0, imagery=list(files.values()))
    return {
        "set": which,
        "normalise": method,
        "tiles": got.tiles,
        "called_changed": got.candidates,
        "share": got.candidates / got.tiles,
        "expected_changed": got.changed[0].value,
        "maps_differ": got.compared_changed,
        "maps_differ_share": got.compared_changed / got.tiles,
        "pictures": str(out / "change" / "pictures"),
    }


def main() -> None:
    """Run it and print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = Path(__file__).parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=os.environ.get("QUADRAT_TEST_DATA", root))
    parser.add_argument("--out", type=Path, default=Path("quadrat-change-real"))
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--normalise", nargs="*", default=["none", "linear", "histogram"])
    parser.add_argument("--keep", action="store_true", help="keep what was written")
    args = parser.parse_args()
    data = Path(args.data)
    if not (data / "naip-ca").is_dir():
        sys.exit(f"real imagery is not at {data}; give --data")
    model = str(args.out / "model")
    if not (args.out / "model" / "model.json").exists():
        train(
            str(pictures(data, args.out)), model, backbone=args.backbone, precision="fp32",
            class_weight="balanced", cache=str(args.out / "cache"),
        )  # fmt: skip
    for which, pixel_m in (("naip-nlcd-wv", 1.0), ("naip-ca", 0.6)):
        for method in args.normalise:
            found = one(data, which, pixel_m, model, args.out / which / method, method)
            print(json.dumps(found), flush=True)
    if not args.keep:
        shutil.rmtree(args.out)


if __name__ == "__main__":
    main()
