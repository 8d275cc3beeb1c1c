"""How many plots each stratum gets, and how many a goal needs.

`equal` serves figures of every stratum alike, `proportional` those of the whole; `neyman` gives
more where plots are expected to differ most (Neyman 1934; Cochran 1977, section 5.5). A goal is a
half-width that the area of one class, or of a change, must have: the smallest sample that reaches
it in nine draws of ten, under what is assumed. It does not know files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ASSURANCE = 0.9  # probability that a sample reaches the half-width that was asked for
KURTOSIS = 8.0  # assumed, of a plot's values: it sets how much estimated variances vary
LEAST_SPREAD = 0.01  # smallest standard deviation that is assumed of a stratum


@dataclass(frozen=True)
class Goal:
    """What an estimate shall reach.

    Attributes:
        what: the class, or the change, in words.
        half_width: as part of its area. level: of the interval.
        share: the part of the ground that it is expected to have.
    """

    what: str
    half_width: float
    level: float
    share: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"of": self.what, "half_width": self.half_width, "level": self.level,
                "expected_share": self.share, "assurance": ASSURANCE}  # fmt: skip


@dataclass(frozen=True)
class Expectation:
    """What a sample is planned on.

    Attributes:
        share: the part of the ground that the target is expected to have.
        spread: (H,) standard deviation, within each stratum, of what the estimate rests on.
        assumes: in words.
    """

    share: float
    spread: Floats
    assumes: str


def equal(sizes: Ints, _: Floats) -> Floats:
    """As many plots in every stratum, (H,) weights."""
    return np.ones(len(sizes))


def proportional(sizes: Ints, _: Floats) -> Floats:
    """By the strata's tiles, (H,) weights."""
    return sizes.astype(np.float64)


def neyman(sizes: Ints, spread: Floats) -> Floats:
    """By the strata's tiles times their standard deviation, (H,) weights."""
    return np.asarray(sizes * np.maximum(spread, LEAST_SPREAD))


# `--allocation` -> the strata's weights; the names are `choices.ALLOCATIONS`.
RULES: Mapping[str, Callable[[Ints, Floats], Floats]] = {
    "equal": equal,
    "proportional": proportional,
    "neyman": neyman,
}


def allocate(weights: Floats, sizes: Ints, n: int, minimum: int) -> Ints:
    """Plots of each stratum, (H,), `n` in all.

    Args:
        weights: (H,) what the plots are dealt by.
        minimum: plots that every stratum gets, all of its tiles where it has fewer.

    Raises:
        InputError: fewer plots than the minimum takes, or more than there are tiles.
    """
    floor = np.minimum(sizes, minimum)
    if n > sizes.sum():
        raise InputError(f"{n:,} plots of {sizes.sum():,} tiles; ask for fewer --plots")
    if floor.sum() > n:
        raise InputError(
            f"{len(sizes)} strata of at least {minimum} plots need {floor.sum():,} plots; ask for "
            "more --plots, a smaller --minimum or fewer strata"
        )
    weights = np.maximum(np.asarray(weights, np.float64), 1e-12)
    fixed, share = np.zeros(len(sizes), bool), np.zeros(len(sizes))
    bound = np.zeros(len(sizes))
    while True:  # strata that get too few or too many are set, and the others share the rest
        left = n - bound[fixed].sum()
        share = np.where(fixed, bound, left * weights / max(weights[~fixed].sum(), 1e-300))
        low, high = ~fixed & (share < floor), ~fixed & (share > sizes)
        if not (low.any() or high.any()):
            break
        # the side that errs more goes first, so that the sum stays within reach
        over = (share - sizes)[high].sum() >= (floor - share)[low].sum()
        now = high if over else low
        bound[now] = (sizes if over else floor)[now]
        fixed |= now
    return _rounded(share, floor, sizes, n)


def _rounded(share: Floats, floor: Ints, sizes: Ints, n: int) -> Ints:
    """Whole numbers that sum to `n`, largest remainders up."""
    whole = np.clip(np.floor(share + 1e-9).astype(np.int64), floor, sizes)
    for i in np.argsort(whole - share, kind="stable"):
        if whole.sum() >= n:
            break
        whole[i] += whole[i] < sizes[i]
    while whole.sum() < n:
        whole[np.argmax(sizes - whole)] += 1
    while whole.sum() > n:
        whole[np.argmax(whole - floor)] -= 1
    return whole


def standard_error(plots: Ints, sizes: Ints, spread: Floats) -> float:
    """Standard error of a stratified mean, as expected."""
    weight = sizes / sizes.sum()
    left = 1 - plots / np.maximum(sizes, 1)
    each = np.divide(weight**2 * left * spread**2, plots, out=np.zeros(len(sizes)),
                     where=plots > 0)  # fmt: skip
    return float(np.sqrt(each.sum()))


def needed(goal: Goal, sizes: Ints, spread: Floats, weights: Floats, minimum: int) -> Ints:
    """The smallest allocation that is expected to reach a goal, (H,).

    Raises:
        InputError: not even all tiles reach it.
    """
    spread = np.maximum(spread, LEAST_SPREAD)
    low, high = int(np.minimum(sizes, minimum).sum()), int(sizes.sum())
    low = max(low, 2)

    def reached(n: int) -> bool:
        plots = allocate(weights, sizes, n, minimum)
        return expected_half_width(plots, sizes, spread, goal.level) <= (
            goal.half_width * goal.share
        )

    if not reached(high):
        raise InputError(
            f"no sample reaches {goal.half_width:.0%} for {goal.what}; ask for a wider --half-width"
        )
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle + 1, high)
    return allocate(weights, sizes, high, minimum)


def expected_half_width(plots: Ints, sizes: Ints, spread: Floats, level: float) -> float:
    """Expected 90% quantile of the half-width over repeated samples."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    varies = np.sqrt((KURTOSIS - 1) / (4 * max(int(plots.sum()), 1)))
    more = 1 + NormalDist().inv_cdf(ASSURANCE) * varies
    return float(z * more * standard_error(plots, sizes, spread))
