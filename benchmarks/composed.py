"""A composed county: the layout of a real NLCD raster, filled with real aerial pictures.

    python benchmarks/composed.py DATA OUT [--layout augusta] [--seed 0] [--dates 1]

The *layout* is real: plots are as mixed as in Georgia, North Carolina or Utah. The *pictures* are
real: UC Merced, one pixel taken for one metre, composited along the NLCD pattern with wavy borders.
Where they lie is invented. The labels have errors at the borders of classes, as NLCD has. DATA is a
folder with `nlcd/` and `ucmerced/`. The same arguments give the same files.

Written to OUT
    date1.tif   RGB uint8, 1 m, EPSG:26917, its corner on Quadrat's grid of 224 m.
    date2.tif   with `--dates 2`: other light, season and sensor, known changes, and other pictures
                of the class for a share of the plots. May be shifted, blurred, coarser, clouded.
    nlcd1.tif   labels of date 1: NLCD codes on 30 m cells. Wetlands are drawn, and labelled, as the
                forest or grass that they look like: there are no pictures of wetlands.
    truth.csv   a row a plot: row, col, class_1, class_2 (main classes by the true pixels),
                share_1 (of the main class), f1_<class>, f2_<class> (true shares), built, cut,
                kind, covered, different, label_wrong.
    county.json what it was made with.

Even-numbered pictures are of date 1 and odd-numbered ones of date 2: no model has seen the latter.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.transform import from_origin
from scipy import ndimage

TILE, CELL, CRS = 224, 30, "EPSG:26917"
ROW0, COL0 = -18326, 2503
LAYOUTS = {"augusta": "augusta_nlcd.tif", "durham": "durham_nlcd.tif", "zion": "zion_nlcd2011.tif"}
NAMES = ("Barren", "Cultivated", "Developed", "Forest", "Herbaceous", "Shrub", "Water")
DEVELOPED, FOREST, HERBACEOUS, WATER = 2, 3, 4, 6


@dataclass(frozen=True)
class Texture:
    """What is drawn alike: its class, the code that labels say, its NLCD codes, its folders."""

    cls: int
    code: int
    codes: tuple[int, ...]
    folders: tuple[str, ...]


TEXTURES = (
    Texture(0, 31, (31,), ("beach",)),
    Texture(1, 82, (81, 82), ("agricultural",)),
    Texture(3, 41, (41, 42, 43, 90), ("forest",)),
    Texture(4, 71, (71, 72, 95), ("golfcourse",)),
    Texture(5, 52, (51, 52), ("chaparral",)),
    Texture(6, 11, (11, 12), ("river", "harbor")),
    Texture(2, 21, (21,), ("sparseresidential", "tenniscourt", "baseballdiamond")),
    Texture(2, 22, (22,), ("mediumresidential", "sparseresidential")),
    Texture(2, 23, (23,), ("mediumresidential", "denseresidential", "mobilehomepark",
                           "intersection")),
    Texture(2, 24, (24,), ("buildings", "parkinglot", "storagetanks", "freeway", "overpass",
                           "runway", "airplane")),
)  # fmt: skip
CLASS = np.array([t.cls for t in TEXTURES], np.int8)
CODE = np.array([t.code for t in TEXTURES], np.uint8)
GRASS, BUILT = 3, (6, 7, 7, 8, 8, 9, 9)  # textures of cut forest and of newly built ground
# The season of date 2, a class: gains of red, green and blue, and what is added; they vary by plot.
SEASON = {
    0: (1.04, 1.00, 0.95, 2), 1: (1.22, 1.00, 0.82, 4), 2: (1.02, 1.00, 0.98, 0),
    3: (1.24, 0.96, 0.84, 8), 4: (1.20, 1.02, 0.78, 6), 5: (1.08, 0.97, 0.90, 3),
    6: (0.97, 1.00, 1.04, 0),
}  # fmt: skip
# How likely a wrong label of a whole plot is (--patch), by pairs of classes; 0.5 for the others.
CONFUSED = {(3, 5): 4, (4, 5): 4, (1, 4): 4, (2, 4): 2, (0, 2): 2, (2, 3): 2}


@dataclass(frozen=True)
class Options:
    """What a county is made with.

    Attributes:
        dates: 1 or 2.
        redrawn: another number draws other pictures on the same ground.
        border: share of label cells at borders of classes that take a neighbour's code.
        patch: share of plots whose labels are all wrong.
        changes: share of plots with newly built ground, a third each whole, partial and small.
        cuts: share of plots whose forest is cut.
        different: share of plots with another picture of the class on date 2.
        season: 0 to 1, how far date 2 differs in colour and light.
        shift: metres that date 2 is misregistered. gsd: its pixel in metres. blur: its sigma.
        cloud, nodata: shares of plots. overlap: western share of the county that date 2 covers.
    """

    layout: str = "augusta"
    seed: int = 0
    rows: int = 50
    cols: int = 60
    dates: int = 1
    redrawn: int = 0
    border: float = 0.10
    patch: float = 0.0
    changes: float = 0.015
    cuts: float = 0.004
    different: float = 0.3
    season: float = 1.0
    shift: float = 0.0
    gsd: float = 1.0
    blur: float = 0.7
    cloud: float = 0.0
    nodata: float = 0.0
    overlap: float = 1.0


@dataclass
class Ground:
    """The true ground: texture ids (H, W) of both dates, and what changed, a value a plot."""

    first: np.ndarray
    second: np.ndarray
    kind: np.ndarray
    built: np.ndarray
    cut: np.ndarray
    covered: np.ndarray
    different: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))


class Pictures:
    """UC Merced's pictures by texture; even-numbered for date 1, odd-numbered for date 2."""

    def __init__(self, data: Path) -> None:
        self.paths = []
        for texture in TEXTURES:
            each = [sorted((data / "ucmerced" / f).glob("*.jpg")) for f in texture.folders]
            self.paths.append([[p for e in each for p in e[half::2]] for half in (0, 1)])

    @lru_cache(maxsize=2500)  # noqa: B019 - one object a county
    def read(self, path: Path) -> np.ndarray:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        pad = [(0, max(0, 256 - pixels.shape[0])), (0, max(0, 256 - pixels.shape[1])), (0, 0)]
        return np.pad(pixels, pad, mode="reflect")[:256, :256]

    def crop(self, path: Path, how: int, dy: int, dx: int) -> np.ndarray:
        """A crop of 224 px of a picture turned in one of eight ways."""
        pixels = np.rot90(self.read(path), how % 4)
        pixels = pixels[:, ::-1] if how >= 4 else pixels
        return pixels[dy : dy + TILE, dx : dx + TILE]


def make(data: str | Path, out: str | Path, **options: object) -> dict:
    """Make a county; returns what county.json holds. See `Options`."""
    data, out, how = Path(data), Path(out), Options(**options)
    out.mkdir(parents=True, exist_ok=True)
    cells, drawn, rng = _layout(data, replace(how, redrawn=0))
    rng, ground = copy.deepcopy(rng), Ground(drawn, drawn.copy(), *_nothing(how))
    if how.dates > 1:
        change(ground, how, rng)
    labels, wrong = labelled(cells, shares(ground.first, how), how, rng)
    ground.different = rng.random(how.rows * how.cols) < how.different
    corner = COL0 * TILE, -ROW0 * TILE
    paint(out, Pictures(data), ground, how, rng, corner)
    _write(out / "nlcd1.tif", labels[None], (*corner, CELL), nodata=0, compress="deflate")
    _write_truth(out / "truth.csv", ground, wrong, how)
    told = {**asdict(how), "plots": how.rows * how.cols}
    (out / "county.json").write_text(json.dumps(told, indent=1))
    return told


@lru_cache(maxsize=1)  # another drawing of the same ground takes them: they are most of the work
def _layout(data: Path, how: Options) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Cells, texture ids, and what draws the rest."""
    rng = np.random.default_rng([how.seed, 77])
    cells = layout(data, how, rng)
    return cells, textures(cells, how, rng), rng


def _nothing(how: Options) -> tuple[np.ndarray, ...]:
    n = how.rows * how.cols
    return np.array([""] * n, dtype=object), np.zeros(n), np.zeros(n), np.ones(n)


def layout(data: Path, how: Options, rng: np.random.Generator) -> np.ndarray:
    """Texture ids on 30 m cells: a window of the raster, mirrored where that is too small."""
    with rasterio.open(data / "nlcd" / LAYOUTS[how.layout]) as file:
        codes = file.read(1)
    table = np.full(256, -1, np.int8)
    for i, texture in enumerate(TEXTURES):
        table[list(texture.codes)] = i
    cells = table[codes]
    if (cells < 0).any():  # the nearest known code
        at = ndimage.distance_transform_edt(cells < 0, return_distances=False, return_indices=True)
        cells = cells[tuple(at)]
    need = (how.rows * TILE // CELL + 2, how.cols * TILE // CELL + 2)
    lacks = [(0, max(0, n - s)) for n, s in zip(need, cells.shape, strict=True)]
    cells = np.pad(cells, lacks, "symmetric")
    y, x = (int(rng.integers(0, s - n + 1)) for s, n in zip(cells.shape, need, strict=True))
    cells = cells[y : y + need[0], x : x + need[1]]
    return cells[:, ::-1] if rng.random() < 0.5 else cells


def textures(cells: np.ndarray, how: Options, rng: np.random.Generator) -> np.ndarray:
    """Texture ids of pixels: the cells with wavy borders."""
    h, w = how.rows * TILE, how.cols * TILE
    wave_y, wave_x = (9 * smooth_noise(rng, (h, w), 24) for _ in range(2))
    y = (np.arange(h, dtype=np.float32)[:, None] + wave_y) // CELL
    x = (np.arange(w, dtype=np.float32)[None, :] + wave_x) // CELL
    high, wide = cells.shape
    return cells[y.clip(0, high - 1).astype(np.int16), x.clip(0, wide - 1).astype(np.int16)]


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> np.ndarray:
    """Smooth noise of unit spread, made on a coarse lattice."""
    small = rng.normal(size=(shape[0] // 8 + 8, shape[1] // 8 + 8))
    small = ndimage.gaussian_filter(small, sigma / 8)
    big = ndimage.zoom(small, 8, order=1)[: shape[0], : shape[1]]
    return (big / big.std()).astype(np.float32)


def shares(ground: np.ndarray, how: Options) -> np.ndarray:
    """True shares of the classes in each plot, (N, 7)."""
    plots = CLASS[ground].reshape(how.rows, TILE, how.cols, TILE)
    each = [(plots == k).mean((1, 3)) for k in range(len(NAMES))]
    return np.stack(each, -1).reshape(-1, len(NAMES))


def plot(array: np.ndarray, p: int, how: Options) -> np.ndarray:
    """The pixels of plot p, a view."""
    r, c = divmod(p, how.cols)
    return array[r * TILE : (r + 1) * TILE, c * TILE : (c + 1) * TILE]


def change(ground: Ground, how: Options, rng: np.random.Generator) -> None:
    """Build on some plots (half of them in clusters), and cut the forest of others."""
    f1, n = shares(ground.first, how), how.rows * how.cols
    free = (f1[:, DEVELOPED] < 0.15) & (f1[:, WATER] < 0.2)
    wanted, chosen = round(how.changes * n), []
    for p in rng.permutation(np.flatnonzero(free)).tolist():
        if len(chosen) >= wanted:
            break
        if p in chosen:
            continue
        chosen.append(p)
        if rng.random() < 0.25:
            near = [q for q in _beside(p, how) if free[q] and q not in chosen]
            chosen += near[: int(rng.integers(1, 4))]
    for number, p in enumerate(chosen[:wanted]):
        build(ground, p, ("whole", "partial", "small")[number % 3], how, rng)
    forest = np.flatnonzero((f1[:, FOREST] > 0.6) & (ground.kind == ""))
    for p in rng.choice(forest, min(len(forest), round(how.cuts * n)), replace=False).tolist():
        part = plot(ground.second, p, how)
        trees = CLASS[part] == FOREST
        ground.cut[p], ground.kind[p] = trees.mean(), "cut"
        part[trees] = GRASS


def _beside(p: int, how: Options) -> list[int]:
    r, c = divmod(p, how.cols)
    steps = ((r, c + 1), (r + 1, c), (r + 1, c + 1))
    return [y * how.cols + x for y, x in steps if y < how.rows and x < how.cols]


def build(ground: Ground, p: int, kind: str, how: Options, rng: np.random.Generator) -> None:
    """Newly built ground in plot p, with a straight border, as estates have."""
    part = plot(ground.second, p, how)
    wanted = {"whole": 1.0, "partial": rng.uniform(0.55, 0.9), "small": rng.uniform(0.1, 0.4)}[kind]
    angle = rng.uniform(0, 2 * np.pi)
    v = np.cos(angle) * np.arange(TILE)[:, None] + np.sin(angle) * np.arange(TILE)[None, :]
    land = CLASS[part] != WATER
    mask = land if wanted == 1.0 else land & (v <= np.quantile(v, wanted))
    ground.kind[p], ground.built[p] = kind, (mask & (CLASS[part] != DEVELOPED)).mean()
    part[mask] = rng.choice(BUILT)


def labelled(
    cells: np.ndarray, f1: np.ndarray, how: Options, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """NLCD codes of date 1 with their errors, and which plots are labelled wrong as a whole."""
    labels, edge = CODE[cells], np.zeros(cells.shape, bool)
    for step in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        edge |= np.roll(cells, step, (0, 1)) != cells
    y, x = np.nonzero(edge & (rng.random(cells.shape) < how.border))
    side = rng.integers(0, 4, len(y))
    from_y = np.clip(y + np.array([0, 1, 0, -1])[side], 0, cells.shape[0] - 1)
    from_x = np.clip(x + np.array([1, 0, -1, 0])[side], 0, cells.shape[1] - 1)
    labels[y, x] = CODE[cells[from_y, from_x]]
    wrong = rng.random(how.rows * how.cols) < how.patch
    codes = np.array([31, 82, 22, 41, 71, 52])
    for p in np.flatnonzero(wrong).tolist():
        r, c = divmod(p, how.cols)
        own = int(f1[p, :6].argmax())
        like = np.array([CONFUSED.get((min(own, k), max(own, k)), 0.5) for k in range(6)])
        like[own] = 0
        top, left = r * TILE // CELL, c * TILE // CELL
        labels[top : top + 9, left : left + 9] = rng.choice(codes, p=like / like.sum())
    return labels, wrong


def paint(
    out: Path, pics: Pictures, ground: Ground, how: Options, rng: np.random.Generator,
    corner: tuple[int, int],
) -> None:  # fmt: skip
    """Draw and write the dates."""
    n, (h, w) = how.rows * how.cols, ground.first.shape
    clouded = rng.choice(n, round(how.cloud * n), replace=False)
    blank = set(rng.choice(n, round(how.nodata * n), replace=False).tolist())
    thick, haze = set(clouded[: len(clouded) // 2].tolist()), set(clouded.tolist())
    images = [np.zeros((h, w, 3), np.uint8) for _ in range(how.dates)]
    for p in range(n):
        own = np.random.default_rng([how.seed, 5 + 100 * how.redrawn, p])
        one, two = composited(pics, ground, p, how, own)
        plot(images[0], p, how)[:] = np.clip(one, 1, 255)
        if two is None:
            continue
        two = seen_later(two, how, own)
        if p in haze:
            two = clouds(two, p in thick, own)
        ground.covered[p] = p not in thick and p not in blank
        plot(images[1], p, how)[:] = 0 if p in blank else np.clip(two, 1, 255)
    _write(out / "date1.tif", images[0].transpose(2, 0, 1), (*corner, 1.0))
    if how.dates > 1:
        keep = round(how.overlap * how.cols)
        images[1][:, keep * TILE :] = 0
        ground.covered.reshape(how.rows, how.cols)[:, keep:] = 0
        place = (corner[0] + how.shift, corner[1] + 0.6 * how.shift, how.gsd)
        _write(out / "date2.tif", resampled(images[1], how.gsd).transpose(2, 0, 1), place)


def composited(
    pics: Pictures, ground: Ground, p: int, how: Options, own: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None]:
    """A plot on both dates, (224, 224, 3) float32; a picture for each of its textures."""
    g1, g2 = plot(ground.first, p, how), plot(ground.second, p, how)
    one, two = (np.zeros((TILE, TILE, 3), np.float32) for _ in range(2))
    for g in np.flatnonzero(_each(g1) + _each(g2)).tolist():
        even, odd = pics.paths[g]
        path, turn = even[own.integers(len(even))], int(own.integers(8))
        dy, dx = own.integers(4, 28, 2)
        gain = own.uniform(0.9, 1.1) * (1 + own.normal(0, 0.03, 3))
        mask = g1 == g
        one[mask] = pics.crop(path, turn, dy, dx)[mask] * gain
        if how.dates < 2:
            continue
        if ground.different[p] or not mask.any():
            path, turn = odd[own.integers(len(odd))], int(own.integers(8))
            at = own.integers(4, 28, 2)
        else:
            at = np.clip(np.add([dy, dx], own.integers(-3, 4, 2)), 0, 31)
        tone, k = np.array(SEASON[int(CLASS[g])]), how.season * own.uniform(0.4, 1.3)
        hue = 1 + k * (tone[:3] - 1) + how.season * own.normal(0, 0.03, 3)
        mask = g2 == g
        two[mask] = pics.crop(path, turn, *at)[mask] * gain * hue + k * tone[3]
    return one, two if how.dates > 1 else None


def _each(ground: np.ndarray) -> np.ndarray:
    """How many pixels each texture has, (10,)."""
    return np.bincount(ground.ravel(), minlength=len(TEXTURES))


def seen_later(pixels: np.ndarray, how: Options, own: np.random.Generator) -> np.ndarray:
    """Sun from the other side, blur, less contrast, haze and the sensor's noise."""
    light = pixels.mean(2)
    relief = np.clip(light - np.roll(light, (4, 4), (0, 1)), -60, 60)
    pixels = pixels - 0.35 * how.season * relief[..., None]
    if how.blur:
        pixels = ndimage.gaussian_filter(pixels, (how.blur, how.blur, 0))
    pixels = (pixels - 128) * (1 - 0.12 * how.season) + 128 + 8 * how.season
    return pixels + own.normal(0, 3, pixels.shape)


def clouds(pixels: np.ndarray, thick: bool, own: np.random.Generator) -> np.ndarray:
    """Thick cloud, or haze."""
    noise = 0.15 * smooth_noise(own, (TILE, TILE), 40)
    alpha = np.clip(0.9 + noise, 0, 1) if thick else np.clip(0.35 + noise, 0, 0.7)
    return pixels * (1 - alpha[..., None]) + 235 * alpha[..., None]


def resampled(image: np.ndarray, gsd: float) -> np.ndarray:
    """The image (H, W, 3) at another pixel size."""
    if gsd == 1.0:
        return image
    kernel = Image.Resampling.BOX if gsd > 1 else Image.Resampling.BICUBIC
    size = round(image.shape[1] / gsd), round(10 * TILE / gsd)
    rows = range(0, len(image), 10 * TILE)
    strips = [Image.fromarray(image[i : i + 10 * TILE]).resize(size, kernel) for i in rows]
    return np.concatenate([np.asarray(s) for s in strips])


def _write(
    path: Path, bands: np.ndarray, place: tuple[float, float, float], nodata: int = 0, **more: str
) -> None:
    left, top, pixel = place
    with rasterio.open(
        path, "w", driver="GTiff", count=len(bands), height=bands.shape[1], width=bands.shape[2],
        dtype="uint8", crs=CRS, transform=from_origin(left, top, pixel, pixel), nodata=nodata,
        tiled=True, blockxsize=256, blockysize=256, bigtiff="IF_SAFER", **more,
    ) as file:  # fmt: skip
        for i, band in enumerate(bands):
            file.write(np.ascontiguousarray(band), i + 1)


def _write_truth(path: Path, ground: Ground, wrong: np.ndarray, how: Options) -> None:
    f1, f2 = shares(ground.first, how), shares(ground.second, how)
    names = ["row", "col", "class_1", "class_2", "share_1"]
    names += [f"f{date}_{name}" for date in (1, 2) for name in NAMES]
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow([*names, "built", "cut", "kind", "covered", "different", "label_wrong"])
        for p in range(len(f1)):
            r, c = divmod(p, how.cols)
            table.writerow([
                ROW0 + r, COL0 + c, NAMES[f1[p].argmax()], NAMES[f2[p].argmax()],
                round(f1[p].max(), 4), *f1[p].round(4), *f2[p].round(4),
                round(ground.built[p], 4), round(ground.cut[p], 4), ground.kind[p],
                float(ground.covered[p]), int(ground.different[p]), int(wrong[p]),
            ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("out")
    for name, value in asdict(Options()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    print(json.dumps(make(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
