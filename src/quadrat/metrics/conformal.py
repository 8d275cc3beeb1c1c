"""Sets of classes that hold the main class of a stated share of tiles (conformal prediction).

A tile's set is its main class and every other class whose probability reaches a threshold. The
threshold is the one with which the sets of tiles that trained nothing hold their main class as
often as stated. Of n tiles the share is raised to level * (1 + 1 / n), for the next one (Vovk et
al. 2005). Tiles of a block err alike, so that n is the number of independent tiles that they are
worth (see `intervals`). Pure numpy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quadrat.metrics.bootstrap import block_sums
from quadrat.metrics.intervals import effective
from quadrat.metrics.matrix import Floats, Ints, fold_probabilities


def conformal(
    probabilities: ArrayLike, truth: ArrayLike, groups: ArrayLike | None, level: float
) -> dict[str, Any]:
    """The threshold of sets that hold the main class of a share `level` of tiles.

    Args:
        probabilities: (N, K) for tiles that the model had not seen.
        truth: (N,) main classes; -1 is left out.
        groups: (N,) blocks; None takes tiles as independent.

    Returns:
        `level`, `threshold`, and the numbers of `tiles` and `blocks` that it rests on; {} where
        they are too few for the level: 9 blocks or fewer for 0.9.
    """
    p, t = np.asarray(probabilities, np.float64), np.asarray(truth, np.int64)
    known = t >= 0
    of_truth = p[known][np.arange(int(known.sum())), t[known]]
    block = np.arange(len(of_truth)) if groups is None else np.asarray(groups)[known]
    blocks = len(np.unique(block))
    if not blocks or level * (1 + 1 / blocks) >= 1:
        return {}
    n = float(len(of_truth))
    if groups is not None:
        held = (of_truth >= _reached(of_truth, level)).astype(np.float64)
        sums = block_sums(np.stack([held, np.ones(len(held))], axis=1), block)
        n = float(effective(sums[:, :1], sums[:, 1:], level)[0])
    wanted = level * (1 + 1 / max(n, blocks))
    threshold = _reached(of_truth, wanted)
    return {"level": level, "threshold": threshold, "tiles": len(of_truth), "blocks": blocks}


def _reached(values: Floats, share: float) -> float:
    """The largest threshold that at least a share `share` of the values reach."""
    return float(np.sort(values)[len(values) - int(np.ceil(share * len(values)))])


def in_set(probabilities: ArrayLike, threshold: float) -> NDArray[np.bool_]:
    """Which classes are in the tiles' sets, (N, K); the most probable class always is."""
    p = np.asarray(probabilities)
    inside: NDArray[np.bool_] = p >= threshold
    inside[np.arange(len(p)), p.argmax(axis=1)] = True
    return inside


def coverage(probabilities: ArrayLike, truth: Ints, threshold: float) -> Floats:
    """Whether each tile's set holds its main class, (N,) 0 or 1; NaN where truth is -1."""
    held = in_set(probabilities, threshold)[np.arange(len(truth)), truth]
    result: Floats = np.where(truth >= 0, held, np.nan)
    return result


def fold_sets(inside: NDArray[np.bool_], places: ArrayLike, k: int) -> NDArray[np.bool_]:
    """The sets in a coarser legend, (N, k): a class is in where one that folds into it is.

    Args:
        inside: (N, K). places: (K,) as `legend.fold` gives it.
    """
    folded: NDArray[np.bool_] = fold_probabilities(inside.astype(np.float32), places, k) > 0
    return folded


def set_sizes(probabilities: ArrayLike, threshold: float) -> Ints:
    """How many classes are in each tile's set, (N,), at least 1."""
    sizes: Ints = in_set(probabilities, threshold).sum(axis=1).astype(np.int64)
    return sizes
