"""Radiometric normalisation: one date's colours as another date's camera and light would give them.

The ground that did not change carries the relation. It is found by iteratively re-weighted
multivariate alteration detection (Canty & Nielsen 2008, "Automatic radiometric normalization of
multitemporal satellite imagery with the iteratively re-weighted MAD transformation",
https://doi.org/10.1016/j.rse.2007.07.013): canonical variates of the two dates' bands, whose
differences are large where something changed, weigh the next round. Then each band of the later
date is mapped to the earlier one's:

    linear      gain and offset by orthogonal regression on the invariant ground
    histogram   the monotone map that gives the invariant ground the same distribution

It takes out what camera, haze and light did to everything alike. What a season does to one class
and not to another is left to the recalibration of the scores (`recalibrate`).

Pure numpy, on paired colours; it does not know files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quadrat import choices
from quadrat.errors import InputError

Floats = NDArray[np.float64]

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
        new = np.maximum(_survival((mad**2 / spread).sum(1), d), 1e-12)
        if new.mean() < LEAST_SHARE:
            break
        weight, moved, last = new, np.abs(rho - last).max(), rho
        if moved < 1e-4:
            break
    return weight


def _survival(x: Floats, d: int) -> Floats:
    """P(chi-square of `d` (3) degrees of freedom > x), in closed form."""
    if d != 3:
        raise InputError("normalisation works on three bands: red, green, blue")
    erfc = np.array([math.erfc(v) for v in np.sqrt(x / 2)])
    tail: Floats = erfc + np.sqrt(2 * x / math.pi) * np.exp(-x / 2)
    return tail


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
