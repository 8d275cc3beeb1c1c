"""How far interpreters agree: Cohen's kappa of each two, with its interval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from quadrat.errors import InputError
from quadrat.metrics import Estimate
from quadrat.records import Record
from quadrat.reviews.answers import CHANGES, SETTLED, PlotAnswer
from quadrat.reviews.order import Answered

CHANGE = "change"
LEAST = 2  # plots that two interpreters answered both


@dataclass(frozen=True)
class Agreement(Record):
    """How two interpreters agree on one thing.

    Attributes:
        first, second: their names. of: a date, or `change`.
        plots: that both of them could say it of.
        agreed: share of these on which they say the same.
        kappa: agreement beyond chance, -1 to 1, with its interval.
        table: (K, K) counts, rows the first interpreter's, columns the second's.
        names: of the rows and columns.
    """

    first: str
    second: str
    of: str
    plots: int
    agreed: float
    kappa: Estimate
    table: tuple[tuple[int, ...], ...]
    names: tuple[str, ...]


def agreements(
    answered: Answered, dates: Sequence[str], classes: Sequence[str], level: float = 0.95
) -> tuple[Agreement, ...]:
    """The agreement of each two interpreters on the class of each date and on change.

    Plots count alike, whatever their weights in the sample: the figures are about interpreters, not
    about the ground. Who settled what others disagreed on is no interpreter here.
    """
    found = []
    names = [n for n in sorted(answered) if n != SETTLED]
    for a, b in combinations(names, 2):
        both = sorted(set(answered[a]) & set(answered[b]))
        pairs = [(answered[a][n], answered[b][n]) for n in both]
        for of, known, said in _questions(pairs, dates, classes):
            if len(said) < LEAST:
                continue
            table = np.zeros((len(known), len(known)), np.int64)
            for one, other in said:
                table[known.index(one), known.index(other)] += 1
            agreed = float(np.trace(table) / table.sum())
            rows = tuple(tuple(int(n) for n in row) for row in table)
            figure = kappa(table, level)
            found.append(Agreement(a, b, of, len(said), agreed, figure, rows, tuple(known)))
    return tuple(found)


def _questions(
    pairs: Sequence[tuple[PlotAnswer, PlotAnswer]], dates: Sequence[str], classes: Sequence[str]
) -> Iterator[tuple[str, Sequence[str], list[tuple[str, str]]]]:
    """What can be agreed on, the words for it, and what two interpreters said of each plot."""
    for i, date in enumerate(dates):
        said = [(a.classes[i], b.classes[i]) for a, b in pairs]
        yield date, classes, [(x, y) for x, y in said if x is not None and y is not None]
    changes = [(a.change, b.change) for a, b in pairs]
    yield CHANGE, CHANGES, [(x, y) for x, y in changes if x is not None and y is not None]


def kappa(table: ArrayLike, level: float = 0.95) -> Estimate:
    """Cohen's kappa of a square table of counts, with its large-sample interval.

    The standard error is that of Fleiss, Cohen & Everitt (1969), Psychological Bulletin 72,
    323-327, for agreement other than chance's. Without a single disagreement it is 0 and says
    nothing: the ends are NaN then, and so is all where both interpreters say one class only.

    Args:
        table: (K, K); rows one interpreter, columns the other.
    """
    counts = np.asarray(table, np.float64)
    n = counts.sum()
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or n < 1:
        raise InputError("kappa needs a square table of counts, some of them above 0")
    p = counts / n
    rows, cols = p.sum(1), p.sum(0)
    chance = float(rows @ cols)
    if math.isclose(chance, 1):
        return Estimate(math.nan, math.nan, math.nan)
    found = float((np.trace(p) - chance) / (1 - chance))
    on = np.diag(p)
    same = float(on @ (1 - (rows + cols) * (1 - found)) ** 2)
    # p_ij (p_.i + p_j.)^2 over i != j
    apart = p * (cols[:, None] + rows[None, :]) ** 2
    other = (1 - found) ** 2 * float(apart.sum() - np.trace(apart))
    less = (found - chance * (1 - found)) ** 2
    variance = (same + other - less) / (n * (1 - chance) ** 2)
    if variance <= 1e-15:
        return Estimate(found, math.nan, math.nan)
    from scipy.stats import norm

    half = float(norm.ppf(0.5 + level / 2)) * math.sqrt(variance)
    return Estimate(found, max(found - half, -1.0), min(found + half, 1.0))
