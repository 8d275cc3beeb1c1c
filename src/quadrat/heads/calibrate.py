"""Temperature scaling: one number that makes stated probabilities as frequent as they say.

Guo et al. 2017 (https://arxiv.org/abs/1706.04599): logits are divided by T, chosen by likelihood on
tiles that the head has not seen. It changes no label. Pure numpy; knows no heads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]
T_RANGE = (0.05, 20.0)


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Probabilities of logits (N, K); a logit of -inf is a probability of 0."""
    result: Floats = special.softmax(logits / temperature, axis=1)
    return result


def fit_temperature(logits: Floats, truth: NDArray[np.int64]) -> float:
    """The temperature of the highest likelihood, within T_RANGE.

    The negative log-likelihood is convex in 1/T; its slope, the mean over tiles of (expected logit
    under the model - logit of the truth), is brought to 0 by bisection. Tiles whose truth has
    probability 0 at every temperature say nothing of T and are left out; so are classes of
    probability 0.

    Args:
        logits: (N, K) float64, -inf where a class is impossible.
        truth: (N,) class ids.

    Returns:
        T; 1.0 when no tile is left.
    """
    known = np.isfinite(logits[np.arange(len(truth)), truth])
    z, t = logits[known].astype(np.float64), truth[known]
    if not len(z):
        return 1.0
    finite = np.where(np.isfinite(z), z, 0.0)
    of_truth = z[np.arange(len(t)), t]

    def slope(log_beta: float) -> float:
        p = softmax(z, float(np.exp(-log_beta)))
        return float(((p * finite).sum(axis=1) - of_truth).mean())

    low, high = -np.log(T_RANGE[1]), -np.log(T_RANGE[0])
    if slope(high) <= 0:
        return T_RANGE[0]
    if slope(low) >= 0:
        return T_RANGE[1]
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return float(np.exp(-(low + high) / 2))
