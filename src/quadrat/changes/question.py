"""What is asked of `change`: which changes, in which classes, and how they are looked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import legend as legends
from quadrat.errors import InputError
from quadrat.legend import Legend

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Question:
    """Which changes are looked for, and how; see `quadrat.changes.change`.

    Attributes:
        legend: of the result.
        places: (C,) its class for each class of the scores.
        fold: (C, K) 1 where a class of the scores folds into one of the result.
        source, target: ids of the classes of `legend` that a change is from and to.
        wanted: these changes in words.
        at_least: share of a tile that is a change.
        least, limit: probability of the last of the list, and its length at most.
    """

    legend: Legend
    places: Ints
    fold: Floats
    source: Ints
    target: Ints
    wanted: str
    at_least: float
    least: float
    limit: int | None
    recalibrated: bool
    smoothing: float
    kind: str
    split: str
    level: float
    seed: int

    @property
    def asked(self) -> NDArray[np.bool_]:
        """Which transitions are looked for, (K, K)."""
        asked = np.zeros((len(self.legend), len(self.legend)), bool)
        asked[np.ix_(self.source, self.target)] = True
        np.fill_diagonal(asked, False)
        return asked


def ask(
    own: Legend,
    coarse: Legend | None,
    from_classes: Sequence[str],
    to_classes: Sequence[str],
    **how: Any,
) -> Question:
    """A question about scores of the legend `own`, folded into `coarse`.

    Args:
        how: the other fields of `Question`.

    Raises:
        LegendError: a class that the legend lacks. InputError: no change is asked for.
    """
    legend = coarse or own
    source, target = ([legend.id(n) for n in names] for names in (from_classes, to_classes))
    if len(set(source)) == 1 and set(source) == set(target):
        raise InputError("no change is asked for: --from and --to name the same class only")
    left, right = (" or ".join(legend.names[i] for i in ids) for ids in (source, target))
    wanted = f"{left or 'any class'} to {right or 'another class'}"
    every = range(len(legend))
    places = placed(own, legend)
    return Question(
        legend=legend, places=places, fold=np.eye(len(legend))[places],
        source=np.array(sorted(set(source or every)), np.int64),
        target=np.array(sorted(set(target or every)), np.int64),
        wanted=wanted if source or target else "any change", **how,
    )  # fmt: skip


def placed(own: Legend, legend: Legend) -> Ints:
    """The class of `legend` that each class of `own` folds into, (C,); -1 where it is masked.

    Raises:
        LegendError: a class has no place (see `legend.fold`).
    """
    return np.arange(len(own)) if own.names == legend.names else legends.fold(own, legend)
