"""Softmax regression to class shares, by L-BFGS. Pure numpy and scipy.

What is minimised is the mean cross-entropy of the shares + reg / 2 * |coef|^2. That is what
scikit-learn's LogisticRegression minimises on rows repeated once a class and weighted by the
shares, without the repetition.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Features = NDArray[np.float32]
Floats = NDArray[np.float64]

STEEPEST = 1e-4  # of the gradient, where the search ends
MEMORY = 10  # steps that L-BFGS remembers


def fit(x: Features, targets: Floats, reg: float, steps: int) -> tuple[Floats, Floats, bool]:
    """Fit coefficients (K, D) and intercepts (K,).

    Args:
        x: (N, D) standardised features.
        targets: (N, K) shares; a row weighs its sum. Every class has some of them.
        reg: strength of the L2 penalty.
        steps: of L-BFGS at most.

    Returns:
        Coefficients, intercepts, and whether the search had ended before the steps did.
    """
    n, d = x.shape
    k = targets.shape[1]
    weight = targets.sum(axis=1, keepdims=True)
    # two classes have one difference of logits, which is what is penalised
    strength = reg * (2.0 if k == 2 else 1.0)

    def loss(flat: Floats) -> tuple[float, Floats]:
        coef, intercept = flat[: k * d].reshape(k, d), flat[k * d :]
        z = (x @ coef.T.astype(np.float32)).astype(np.float64) + intercept
        z -= z.max(axis=1, keepdims=True)
        e = np.exp(z)
        total = e.sum(axis=1, keepdims=True)
        value = -(targets * (z - np.log(total))).sum() / n
        slope = (weight * e / total - targets) / n
        to_coef = (slope.T.astype(np.float32) @ x).astype(np.float64) + strength * coef
        gradient = np.concatenate([to_coef.ravel(), slope.sum(axis=0)])
        return float(value + strength / 2 * np.square(coef).sum()), gradient

    optimum = minimize(
        loss, np.zeros(k * d + k), jac=True, method="L-BFGS-B",
        options={"maxiter": steps, "maxfun": 3 * steps + 20, "maxcor": MEMORY, "gtol": STEEPEST,
                 "ftol": 64 * np.finfo(float).eps},
    )  # fmt: skip
    coef, intercept = optimum.x[: k * d].reshape(k, d), optimum.x[k * d :]
    return coef, intercept - intercept.mean(), optimum.nit < steps
