"""From a head's logits to class shares, and to probabilities of the main class.

A head is fitted to class shares. Its softmax is the expected share of each class, and no
probability: a plot that is surely 60% forest has a share of 0.6 and is Forest with a probability
near 1. One more temperature, fitted to main classes, makes the same logits probabilities; it
changes no main class. Temperatures are fitted to predictions for tiles that the head has not seen
(Guo et al. 2017, https://arxiv.org/abs/1706.04599). Pure numpy; knows no heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]
T_RANGE = (0.05, 20.0)


@dataclass(frozen=True)
class Scaling:
    """softmax(logits / temperature + shift).

    Attributes:
        shift: (K,) added to the scaled logits; None for nothing.
    """

    temperature: float = 1.0
    shift: Floats | None = None

    def __call__(self, logits: Floats) -> Floats:
        """Rows (N, K) that sum to 1; a logit of -inf gives 0."""
        scaled = logits / self.temperature
        return softmax(scaled if self.shift is None else scaled + self.shift)


@dataclass(frozen=True)
class Scalings:
    """The scalings of a model's two outputs."""

    probabilities: Scaling = Scaling()
    shares: Scaling = Scaling()

    def outputs(self) -> dict[str, Scaling]:
        """By the names of a graph's outputs, in their order."""
        return {"probabilities": self.probabilities, "shares": self.shares}


@dataclass(frozen=True)
class HeldOut:
    """Predictions for training tiles by heads that had not seen them.

    Attributes:
        logits: (n, columns). targets: (n, columns) shares. main: (n,) main classes, -1 for none.
        blocks: (n,) spatial blocks; None for pictures without a place.
    """

    logits: Floats
    targets: Floats
    main: NDArray[np.int64]
    blocks: NDArray[np.int64] | None


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Probabilities of logits (N, K); a logit of -inf is a probability of 0."""
    result: Floats = special.softmax(logits / temperature, axis=1)
    return result


def one_hot(ids: NDArray[np.int64], k: int) -> Floats:
    """Class ids (N,) as shares (N, k); a row of zeros for -1."""
    rows: Floats = (ids[:, None] == np.arange(k)).astype(np.float64)
    return rows


def fit_temperature(logits: Floats, targets: NDArray[np.generic]) -> float:
    """The temperature of the highest likelihood, within T_RANGE.

    The cross-entropy is convex in 1/T; its slope, the mean over tiles of (expected logit under the
    model - mean logit under the target), is brought to 0 by bisection. Tiles whose target has a
    share in a class of probability 0 say nothing of T and are left out; so are rows of zeros.

    Args:
        logits: (N, K) float64, -inf where a class is impossible.
        targets: (N,) class ids, or (N, K) shares whose rows sum to 1.

    Returns:
        T; 1.0 when no tile is left.
    """
    k = logits.shape[1]
    shares = one_hot(targets.astype(np.int64), k) if targets.ndim == 1 else targets.astype(float)
    finite = np.where(np.isfinite(logits), logits, 0.0).astype(np.float64)
    known = (shares.sum(axis=1) > 0) & ~((shares > 0) & ~np.isfinite(logits)).any(axis=1)
    z, finite, shares = logits[known].astype(np.float64), finite[known], shares[known]
    if not len(z):
        return 1.0
    wanted = (shares * finite).sum(axis=1)

    def slope(log_beta: float) -> float:
        p = softmax(z, float(np.exp(-log_beta)))
        return float(((p * finite).sum(axis=1) - wanted).mean())

    low, high = -np.log(T_RANGE[1]), -np.log(T_RANGE[0])
    if slope(high) <= 0:
        return T_RANGE[0]
    if slope(low) >= 0:
        return T_RANGE[1]
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return float(np.exp(-(low + high) / 2))


def fit_scalings(held_out: HeldOut) -> Scalings:
    """Both temperatures."""
    return Scalings(
        Scaling(fit_temperature(held_out.logits, held_out.main)),
        Scaling(fit_temperature(held_out.logits, held_out.targets)),
    )
