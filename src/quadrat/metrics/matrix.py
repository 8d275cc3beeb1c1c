"""Confusion matrices and their figures; every figure accepts a stack `(..., K, K)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quadrat.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def confusion(truth_ids: ArrayLike, pred_ids: ArrayLike, k: int) -> Ints:
    """Counts of (truth, prediction), shape (K, K) int64; rows = truth, columns = prediction.

    Args:
        truth_ids: (N,) class ids 0..k-1; pairs whose truth is -1 (no label) are left out.
        pred_ids: (N,) class ids 0..k-1.

    Raises:
        InputError: ids outside the legend, or lengths that differ.
    """
    truth, pred = class_ids(truth_ids, k, "truth"), class_ids(pred_ids, k, "prediction")
    if truth.shape != pred.shape:
        raise InputError(
            f"{truth.size} truths for {pred.size} predictions; give one of each a tile"
        )
    keep = truth >= 0
    if np.any(pred[keep] < 0):
        raise InputError("a tile has a truth and no prediction; score it or leave it out")
    flat = np.bincount(truth[keep] * k + pred[keep], minlength=k * k)
    return flat.reshape(k, k).astype(np.int64)


def class_ids(values: ArrayLike, k: int, what: str) -> Ints:
    """Checked class ids, (N,) int64, -1 for "no label"; InputError names `what`."""
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise InputError(f"{what} must be one whole number (a class id) a tile")
    ids = array.astype(np.int64)
    if ids.size and (ids.min() < -1 or ids.max() >= k):
        raise InputError(
            f"{what} has class ids {ids.min()}..{ids.max()}; the legend has 0..{k - 1}"
        )
    return ids


def fold_probabilities(
    probabilities: NDArray[Any], places: ArrayLike, k: int | None = None
) -> NDArray[Any]:
    """Probabilities, or shares, of a coarser legend: the sums of those that fold together.

    Args:
        probabilities: (N, K) floats.
        places: (K,) fine class id -> coarse class id, as `legend.fold` gives it; -1 for classes
            that the coarser legend masks.
        k: classes of the coarser legend; by default those that something folds into.

    Returns:
        (N, k), in the type of `probabilities`; rows sum to less where classes are masked.
    """
    to = np.asarray(places)
    out = np.zeros((len(probabilities), int(to.max()) + 1 if k is None else k), probabilities.dtype)
    for fine, coarse in enumerate(to):
        if coarse >= 0:
            out[:, coarse] += probabilities[:, fine]
    return out


def fold_mapped(
    probabilities: NDArray[Any], places: ArrayLike, k: int
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Probabilities of a coarser legend for the tiles that it maps.

    Returns:
        (n, k) of the tiles that are left, rows sum to 1, and which of the N they are: those whose
        main class is masked are not.
    """
    folded = fold_probabilities(probabilities, places, k)
    if (np.asarray(places) >= 0).all():
        return folded, np.ones(len(folded), np.bool_)
    total = folded.sum(axis=1)
    kept: NDArray[np.bool_] = folded.max(axis=1) >= 1 - total
    return folded[kept] / total[kept, None], kept


def reweight(matrix: ArrayLike, shares: ArrayLike) -> Floats:
    """The matrix in shares of a population, shape (..., K, K) float64, summing to 1.

    A test set is often balanced while the county is not: each truth row is scaled so that the
    classes have the population's shares. A class without test tiles is left out, and the others
    scaled up.

    Args:
        shares: (K,) the population's class shares (any scale).
    """
    m, w = np.asarray(matrix, np.float64), np.asarray(shares, np.float64)
    if w.shape != m.shape[-1:] or np.any(w < 0) or not np.isfinite(w).all() or w.sum() <= 0:
        raise InputError(f"class shares must be {m.shape[-1]} numbers of at least 0, not all 0")
    scaled = np.nan_to_num(divide(m, m.sum(-1, keepdims=True))) * w[:, None]
    return np.nan_to_num(divide(scaled, scaled.sum((-2, -1), keepdims=True)))


def divide(top: NDArray[Any], bottom: NDArray[Any]) -> Floats:
    """Top / bottom, NaN where bottom is 0."""
    result: Floats = np.full(np.broadcast_shapes(top.shape, bottom.shape), np.nan)
    np.divide(top, bottom, out=result, where=bottom > 0)
    return result


def _mean(values: Floats) -> Floats:
    """The mean over the last axis of what is defined; NaN where nothing is."""
    defined = np.isfinite(values)
    return divide(np.where(defined, values, 0.0).sum(-1), defined.sum(-1).astype(np.float64))


def _diagonal(matrix: ArrayLike) -> NDArray[Any]:
    return np.diagonal(np.asarray(matrix), axis1=-2, axis2=-1)


def overall(matrix: ArrayLike) -> Floats:
    """Overall accuracy, shape (...)."""
    return divide(_diagonal(matrix).sum(-1), np.asarray(matrix).sum((-2, -1)))


def producers(matrix: ArrayLike) -> Floats:
    """Producer's accuracy (recall) a class, TP / (TP + FN), shape (..., K)."""
    return divide(_diagonal(matrix), np.asarray(matrix).sum(-1))


def users(matrix: ArrayLike) -> Floats:
    """User's accuracy (precision) a class, TP / (TP + FP), shape (..., K)."""
    return divide(_diagonal(matrix), np.asarray(matrix).sum(-2))


def f1(matrix: ArrayLike) -> Floats:
    """F1 a class, 2 TP / (2 TP + FP + FN), shape (..., K); NaN for a class nowhere at all."""
    m = np.asarray(matrix)
    return divide(2.0 * _diagonal(m), m.sum(-1) + m.sum(-2))


def balanced(matrix: ArrayLike) -> Floats:
    """Balanced accuracy: the mean producer's accuracy of the classes with truth, shape (...)."""
    return _mean(producers(matrix))


def macro_f1(matrix: ArrayLike) -> Floats:
    """The plain mean of F1 over the classes that are anywhere, shape (...)."""
    return _mean(f1(matrix))


def weighted_f1(matrix: ArrayLike) -> Floats:
    """The mean of F1 weighted by the classes' share of the truth, shape (...)."""
    m = np.asarray(matrix, np.float64)
    return divide((np.nan_to_num(f1(m)) * m.sum(-1)).sum(-1), m.sum((-2, -1)))


def kappa(matrix: ArrayLike) -> Floats:
    """Cohen's kappa: agreement above that of a map drawn by chance, shape (...)."""
    m = np.asarray(matrix, np.float64)
    total = m.sum((-2, -1))
    chance = divide((m.sum(-1) * m.sum(-2)).sum(-1), np.square(total))
    return divide(overall(m) - chance, 1 - chance)


def quantity_disagreement(matrix: ArrayLike) -> Floats:
    """Disagreement because the map has too much or too little of classes, shape (...)."""
    m = np.asarray(matrix, np.float64)
    return divide(np.abs(m.sum(-1) - m.sum(-2)).sum(-1) / 2, m.sum((-2, -1)))


def allocation_disagreement(matrix: ArrayLike) -> Floats:
    """Disagreement because classes lie in wrong places, shape (...).

    Quantity and allocation disagreement sum to 1 - overall accuracy (Pontius and Millones 2011,
    who advise them in place of kappa).
    """
    m = np.asarray(matrix, np.float64)
    return np.maximum(1 - overall(m) - quantity_disagreement(m), 0.0)


class Score(NamedTuple):
    """One number on a whole map: what it is called in reports, and its rule."""

    title: str
    rule: Callable[[ArrayLike], Floats]


# A row is all that a further figure needs, in `Metrics`, the run history, `runs compare`, reports.
SCORES: dict[str, Score] = {
    "overall": Score("Overall accuracy", overall),
    "balanced": Score("Balanced accuracy", balanced),
    "macro_f1": Score("F1, mean of classes", macro_f1),
    "weighted_f1": Score("F1, weighted by tiles", weighted_f1),
    "kappa": Score("Kappa", kappa),
    "quantity": Score("Quantity disagreement", quantity_disagreement),
    "allocation": Score("Allocation disagreement", allocation_disagreement),
}
# Figures of each class.
CLASS_SCORES: dict[str, Callable[[ArrayLike], Floats]] = {
    "producers": producers,
    "users": users,
    "f1": f1,
}
