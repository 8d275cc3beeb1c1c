"""One date's colours as another date's camera and light would give them, in front of the model.

The ground that did not change shows how the colours are related. It is found by iteratively
re-weighted multivariate alteration detection (Canty & Nielsen 2008, "Automatic radiometric
normalization of multitemporal satellite imagery with the iteratively re-weighted MAD
transformation", https://doi.org/10.1016/j.rse.2007.07.013): canonical variates of the two dates'
bands, whose differences are large where something changed, weigh the next round. Then each band of
the later date is mapped to the earlier one's:

    linear      gain and offset by orthogonal regression on the invariant ground
    histogram   the monotone map that gives the invariant ground the same distribution

The map goes before the model's own graph as a table look-up. So the later date is scored with the
same engines and formats as any imagery, and no second copy of it is written.

Camera, haze and light act on everything alike and are taken out. What a season does to one class
and not to another is left to the cells (`contrast`) and to the recalibration of scores
(`likelihood`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc

from quadrat import choices, graphs, raster
from quadrat import model as models
from quadrat.errors import InputError, ScoresError
from quadrat.grid import TileRange
from quadrat.model import Model
from quadrat.raster import Imagery
from quadrat.tiles import RasterSource, Source, read_part

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Place = tuple[int, int]  # row, col

PATCHES = 8  # a side: colours are averaged over the 64 squares of a tile
MOST_TILES = 600
LEAST_PAIRS = 50
ROUNDS = 30
INVARIANT = 0.9  # probability of no change above which ground is held to be invariant
# Where a season changed every class in its own way, no ground keeps the relation of the others and
# the weights of round after round run into fewer and fewer pixels; they stop at this share.
LEAST_SHARE = 0.25


@dataclass(frozen=True)
class Normalisation:
    """How the later date's pixels are mapped.

    Attributes:
        lut: (3, 256) uint8; new value of each old value of red, green and blue.
        invariant: share of the paired ground that was held to be invariant.
        before, after: (3,) root mean square difference of the dates' colours on it, in levels.
    """

    method: str
    lut: NDArray[np.uint8]
    invariant: float
    before: Floats
    after: Floats

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Mapped pixels; the last axis holds red, green and blue."""
        return np.stack([self.lut[b][pixels[..., b]] for b in range(3)], axis=-1)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "method": self.method,
            "invariant": self.invariant,
            "rms_before": [round(float(v), 3) for v in self.before],
            "rms_after": [round(float(v), 3) for v in self.after],
            "lut": self.lut.tolist(),
        }


def fit(earlier: ArrayLike, later: ArrayLike, method: str = "linear") -> Normalisation:
    """The map that gives the later date the earlier one's colours.

    Args:
        earlier, later: (N, 3) colours of the same N pieces of ground, 0 to 255, averaged over at
            least a few metres (the dates' pixels do not lie on each other to the metre).

    Raises:
        InputError: too little ground in common, or a method that is none.
    """
    choices.check("normalisation", method, choices.NORMALISATIONS, InputError)
    a, b = np.asarray(earlier, np.float64), np.asarray(later, np.float64)
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 3 or len(a) < LEAST_PAIRS:
        raise InputError(
            f"{len(a)} and {len(b)} pieces of common ground; normalisation needs {LEAST_PAIRS} "
            "or more: use --normalise none"
        )
    levels = np.arange(256, dtype=np.float64)
    weight = no_change(a, b)
    stable = weight >= min(INVARIANT, float(np.quantile(weight, 1 - LEAST_SHARE)))
    lut = np.empty((3, 256), np.uint8)
    for band in range(3):
        x, y = b[stable, band], a[stable, band]
        if method == "linear":
            gain, offset = _orthogonal(x, y)
            values = gain * levels + offset
        elif method == "histogram":
            values = _matched(x, y, levels)
        else:
            values = levels
        lut[band] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    mapped = np.stack([np.interp(b[:, i], levels, lut[i]) for i in range(3)], axis=1)
    return Normalisation(
        method, lut, float(stable.mean()), _rms(a[stable] - b[stable]),
        _rms(a[stable] - mapped[stable]),
    )  # fmt: skip


def _rms(values: Floats) -> Floats:
    root: Floats = np.sqrt((values**2).mean(0))
    return root


def no_change(a: Floats, b: Floats) -> Floats:
    """Probability of no change of each pair, (N,), by iteratively re-weighted MAD.

    Bands are brought to unit spread first; a small ridge keeps nearly equal bands apart.
    """
    n, d = a.shape
    weight = np.ones(n)
    last = np.full(d, -1.0)
    for _ in range(ROUNDS):
        total = weight.sum()
        za, zb = (v - (weight @ v) / total for v in (a, b))
        saa, sbb, sab = ((weight * u.T) @ v / total for u, v in ((za, za), (zb, zb), (za, zb)))
        for s in (saa, sbb):
            s[np.diag_indices(d)] += 1e-6 * np.trace(s) / d + 1e-9
        la, lb = np.linalg.cholesky(saa), np.linalg.cholesky(sbb)
        core = np.linalg.solve(la, np.linalg.solve(lb, sab.T).T)
        u, rho, vt = np.linalg.svd(core)
        mad = za @ np.linalg.solve(la.T, u) - zb @ np.linalg.solve(lb.T, vt.T)
        # a variate's variance is 2 (1 - rho); a floor keeps equal dates from dividing by nothing
        spread = np.maximum(2 * (1 - np.minimum(rho, 1.0)), 1e-6)
        new = np.maximum(chdtrc(d, (mad**2 / spread).sum(1)), 1e-12)
        if new.mean() < LEAST_SHARE:
            break
        weight, moved, last = new, np.abs(rho - last).max(), rho
        if moved < 1e-4:
            break
    return weight


def _orthogonal(x: Floats, y: Floats) -> tuple[float, float]:
    """Gain and offset of y on x when both carry noise: the main axis of their spread."""
    sx, sy = x.var(), y.var()
    sxy = float(((x - x.mean()) * (y - y.mean())).mean())
    if sxy <= 0 or sx <= 1e-9:
        gain = 1.0  # no relation to learn: leave the contrast, move the mean
    else:
        gain = float((sy - sx + np.hypot(sy - sx, 2 * sxy)) / (2 * sxy))
        gain = min(max(gain, 1 / 3), 3.0)
    return gain, float(y.mean() - gain * x.mean())


def _matched(x: Floats, y: Floats, levels: Floats) -> Floats:
    """The monotone map that takes the distribution of x to that of y, straight in the tails."""
    shares = np.linspace(0.005, 0.995, 100)
    qx, qy = np.quantile(x, shares), np.quantile(y, shares)
    keep = np.concatenate([[True], np.diff(qx) > 1e-6])
    qx, qy = qx[keep], qy[keep]
    values = np.interp(levels, qx, qy)
    values = np.where(levels < qx[0], levels + (qy[0] - qx[0]), values)
    mapped: Floats = np.where(levels > qx[-1], levels + (qy[-1] - qx[-1]), values)
    return mapped


def normalisation(
    earlier: Imagery | Source,
    later: Imagery | Source,
    rows: Ints,
    cols: Ints,
    method: str,
    *,
    seed: int = 0,
) -> Normalisation:
    """The colour map from the later date to the earlier.

    Args:
        earlier, later: imagery, or tiles that were cut from it.
        rows, cols: (N,) tiles that both may show, of which MOST_TILES at most are read.

    Raises:
        ScoresError: no tile is whole in both.
    """
    at = np.arange(len(rows))
    if len(at) > MOST_TILES:
        at = np.sort(np.random.default_rng(seed).choice(at, MOST_TILES, replace=False))
    wanted = list(zip(rows[at].tolist(), cols[at].tolist(), strict=True))
    before, after = (_colours(ground, wanted) for ground in (earlier, later))
    both = [place for place in wanted if place in before and place in after]
    if not both:
        raise ScoresError(
            "the two dates' imagery has no whole tile in common; both must show the same ground"
        )
    a, b = (np.concatenate([colours[place] for place in both]) for colours in (before, after))
    return fit(a, b, method)


def _colours(ground: Imagery | Source, wanted: list[Place]) -> dict[Place, Floats]:
    """Mean colours of the squares of each wanted tile that is whole, (64, 3) each."""
    if isinstance(ground, RasterSource):
        ground = ground.imagery
    if isinstance(ground, Imagery):
        read = ((place, _whole(ground, *place)) for place in wanted)
        return {place: _means(pixels) for place, pixels in read if pixels is not None}
    left, found = set(wanted), {}
    for part in ground.parts():
        for batch in read_part(part) if left else ():
            names = ("row", "col", "nodata")
            for i, (row, col, nodata) in enumerate(
                zip(*(batch.index[n].to_pylist() for n in names), strict=True)
            ):
                if (row, col) in left and not nodata:
                    left.discard((row, col))
                    found[row, col] = _means(batch.chips[i].transpose(2, 0, 1))
    return found


def _whole(imagery: Imagery, row: int, col: int) -> NDArray[np.uint8] | None:
    """A tile's pixels, (3, H, W); None where one has no data."""
    pixels, valid = raster.read_block(imagery, TileRange(row, row + 1, col, col + 1))
    return None if valid is not None and not valid.all() else pixels


def _means(pixels: NDArray[np.uint8]) -> Floats:
    """Mean colours of the PATCHES x PATCHES squares of (3, H, W) pixels, (64, 3)."""
    step = max(1, pixels.shape[1] // PATCHES)
    n = pixels.shape[1] // step
    cut = pixels[:, : n * step, : n * step].reshape(3, n, step, n, step)
    means: Floats = cut.mean((2, 4), dtype=np.float64).reshape(3, -1).T
    return means


def recoloured(model: Model, normal: Normalisation, out: str) -> Model:
    """The same model for imagery of the later date: colours are mapped before its first layer."""
    forms = {p: _with_table(model.onnx(p), normal.lut) for p in model.info.forms}
    note = (
        f"Reads imagery through a {normal.method} normalisation of colours to another date; "
        "do not use it for that other date."
    )
    info = dataclasses.replace(
        model.info,
        head={**model.info.head, "normalisation": normal.to_dict()},
        warnings=(*model.info.warnings, note),
        created="",
    )
    return models.save_model(out, forms.pop("fp32"), info, forms)


def _with_table(graph: bytes, lut: NDArray[np.uint8]) -> bytes:
    """The graph with a look-up of each channel in front."""
    proto = graphs.parse(graph, "the model")
    name = graphs.describe(proto, "the model", len(models.OUTPUTS)).input
    constants = [
        graphs.constant("colour/table", lut.reshape(-1)),
        graphs.constant("colour/shift", np.array([0, 256, 512], np.int32)),
    ]
    front = [
        graphs.node("Cast", [name], "colour/wide", to=graphs.KINDS["int32"]),
        graphs.node("Add", ["colour/wide", "colour/shift"], "colour/place"),
        graphs.node("Gather", ["colour/table", "colour/place"], "colour/mapped", axis=0),
    ]
    return graphs.put_before(proto, name, front, constants)
