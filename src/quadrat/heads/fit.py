"""Heads fitted to class shares: softmax regression, random forest. The only home of scikit-learn.

A tile of which 60% is forest and 40% grass teaches 60% of a tile of each; a tile that has a label
alone teaches its class. A fitted head gives logits, so that one calibration serves all: a logistic
head its scores, a forest the logarithm of its shares. Knows features and shares, not tiles.

Linear algebra runs on one thread: a thread of BLAS that waits for a busy core makes every small
product wait, which cost up to thirty times on a machine with other work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quadrat import choices
from quadrat.engines.local import available_cpus
from quadrat.errors import TrainError
from quadrat.heads import regression
from quadrat.heads.calibrate import Scaling, one_hot
from quadrat.heads.export import Tree, export_forest, export_logistic

Features = NDArray[np.float32]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# the logit of a class that training never saw: its probability is 0 in float32 at every temperature
ABSENT = -1e5
BLOCK = 4096
# added to a forest's shares: with few trees a rare class may get a share of 0, whose logarithm
# cannot be calibrated
FLOOR = 1e-3


@dataclass(frozen=True)
class Settings:
    """How a head is fitted.

    Attributes:
        head: `logistic` or `forest`.
        reg: L2 strength of `logistic`: what is minimised is the mean loss + reg / 2 * |coef|^2 on
            standardised features, so that it means the same for any number of tiles.
        max_iter: steps of L-BFGS at most.
        trees, depth: of `forest`.
        class_weight: `none`, or `balanced`: each class weighs the same however many tiles it has.
    """

    head: str = "logistic"
    reg: float = 0.02
    max_iter: int = 200
    trees: int = 20
    depth: int = 5
    class_weight: str = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        choices.check("head", self.head, choices.HEADS, TrainError)
        choices.check("class weights", self.class_weight, choices.CLASS_WEIGHTS, TrainError)
        if not (np.isfinite(self.reg) and self.reg > 0):
            raise TrainError(f"--reg {self.reg} must be above 0")
        if min(self.max_iter, self.trees, self.depth) < 1:
            raise TrainError("--max-iter, --trees and --depth must be 1 or more")

    def to_dict(self) -> dict[str, Any]:
        """What decides this head; not the settings of the other one."""
        own: dict[str, Any] = {"reg": self.reg, "max_iter": self.max_iter}
        if self.head == "forest":
            own = {"trees": self.trees, "depth": self.depth}
        return {
            "head": self.head,
            **own,
            "class_weight": self.class_weight,
            "seed": self.seed,
        }


class Head(Protocol):
    """A fitted head."""

    def logits(self, x: Features) -> Floats:
        """(N, D) -> (N, K); -inf where a class is impossible."""

    def export(self, outputs: Mapping[str, Scaling], classes: int | None = None) -> bytes:
        """The ONNX graph, features -> the outputs, the first `classes` columns of each."""


@dataclass(frozen=True)
class Logistic:
    """`softmax(((x - mean) / scale) @ coef.T + intercept)`; coef (K, D)."""

    coef: Floats
    intercept: Floats
    mean: Floats
    scale: Floats

    def logits(self, x: Features) -> Floats:
        """See Head."""
        out = np.empty((len(x), len(self.coef)))
        with one_thread():
            for i in range(0, len(x), BLOCK):
                standard = (x[i : i + BLOCK].astype(np.float64) - self.mean) / self.scale
                out[i : i + BLOCK] = standard @ self.coef.T + self.intercept
        out[:, self.intercept <= ABSENT] = -np.inf
        return out

    def export(self, outputs: Mapping[str, Scaling], classes: int | None = None) -> bytes:
        """See Head."""
        return export_logistic(
            self.coef, self.intercept, self.mean, self.scale, outputs=outputs, classes=classes
        )


@dataclass(frozen=True)
class Forest:
    """The mean of the trees' class shares, lifted by `floor` (K,)."""

    trees: tuple[Tree, ...]
    features: int
    floor: Floats

    def logits(self, x: Features) -> Floats:
        """See Head."""
        total = np.zeros((len(x), self.trees[0].values.shape[1]))
        rows = np.arange(len(x))
        for tree in self.trees:
            node = np.zeros(len(x), np.int64)
            while (inner := tree.left[node] >= 0).any():
                at = node[inner]
                goes_left = x[rows[inner], tree.feature[at]] <= tree.threshold[at]
                node[inner] = np.where(goes_left, tree.left[at], tree.right[at])
            total += tree.values[node]
        with np.errstate(divide="ignore"):
            return np.log(total / len(self.trees) + self.floor)

    def export(self, outputs: Mapping[str, Scaling], classes: int | None = None) -> bytes:
        """See Head."""
        return export_forest(
            self.trees, self.features, floor=self.floor, outputs=outputs, classes=classes
        )


def fit(
    x: Features, targets: Ints | Floats, k: int, settings: Settings
) -> tuple[Head, tuple[str, ...]]:
    """Fit a head to features (N, D) and what the tiles are of k classes.

    Args:
        targets: (N, k) shares, whose rows sum to 1, or (N,) class ids.

    Returns:
        The head, and what a user should know of the fit, a sentence each.

    Raises:
        TrainError: fewer than two classes, features that are not finite.
    """
    shares = one_hot(targets.astype(np.int64), k) if targets.ndim == 1 else targets.astype(float)
    present = np.flatnonzero(shares.sum(axis=0) > 0)
    if len(present) < 2:
        raise TrainError("training needs tiles of at least two classes; label more tiles")
    if not np.isfinite(x).all():
        raise TrainError("the backbone gives features that are not finite; use other weights")
    shares = shares[:, present]
    if settings.class_weight == "balanced":
        shares = shares * balanced_weights(shares)
    with one_thread():
        return FITTERS[settings.head](x, shares, present, k, settings)


def balanced_weights(shares: Floats) -> Floats:
    """Weights (K,) that give every class of shares (N, K) the same total; mean 1."""
    total = shares.sum(axis=0)
    weights: Floats = shares.sum() / (len(total) * total)
    return weights


def _fit_logistic(
    x: Features, shares: Floats, present: Ints, k: int, settings: Settings
) -> tuple[Head, tuple[str, ...]]:
    mean = x.mean(axis=0, dtype=np.float64)
    scale = x.std(axis=0, dtype=np.float64)
    # a feature that hardly varies is mostly rounding error, above all in int8: dividing
    # by its own deviation alone would amplify that error
    typical = float(np.median(scale))
    scale = np.sqrt(scale**2 + typical**2) if typical > 0 else np.where(scale > 0, scale, 1.0)
    standard = x - mean.astype(np.float32)
    standard /= scale.astype(np.float32)
    coefficients, bias, ended = regression.fit(standard, shares, settings.reg, settings.max_iter)
    notes: tuple[str, ...] = ()
    if not ended:
        notes = (
            f"the logistic head had not converged after {settings.max_iter} steps; "
            "raise --max-iter for the last bit of accuracy",
        )
    coef, intercept = np.zeros((k, x.shape[1])), np.full(k, ABSENT)
    coef[present], intercept[present] = coefficients, bias
    return Logistic(coef, intercept, mean, scale), notes


def _fit_forest(
    x: Features, shares: Floats, present: Ints, k: int, settings: Settings
) -> tuple[Head, tuple[str, ...]]:
    """A forest on rows repeated once a class, weighted by the shares."""
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(
        n_estimators=settings.trees,
        max_depth=settings.depth,
        random_state=settings.seed,
        n_jobs=available_cpus(),
    )
    row, place = np.nonzero(shares)
    alone = len(row) == len(x)  # labels alone: nothing is repeated
    weights = shares[row, place]
    equal = bool(np.ptp(weights) == 0)
    model.fit(x if alone else x[row], present[place], None if equal else weights)
    trees = tuple(_tree(e.tree_, present, k) for e in model.estimators_)
    floor = np.zeros(k)
    floor[present] = FLOOR
    return Forest(trees, x.shape[1], floor), ()


def _tree(tree: Any, present: Ints, k: int) -> Tree:
    values = np.zeros((tree.node_count, k))
    shares = tree.value[:, 0, :]
    values[:, present] = shares / shares.sum(axis=1, keepdims=True)
    return Tree(
        left=tree.children_left.astype(np.int64),
        right=tree.children_right.astype(np.int64),
        feature=tree.feature.astype(np.int64),
        threshold=tree.threshold.astype(np.float64),
        values=values,
    )


Fitter = Callable[[Features, Floats, Ints, int, Settings], tuple[Head, tuple[str, ...]]]
FITTERS: dict[str, Fitter] = {
    "logistic": _fit_logistic,
    "forest": _fit_forest,
}


@contextmanager
def one_thread() -> Iterator[None]:
    """BLAS and OpenMP of this process on one thread while the block lasts."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield
