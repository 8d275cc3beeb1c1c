"""Which tiles gained a class between two dates, how sure that is, and how much ground it is.

A tile's score is the log-odds, by logistic regression, that its two dates are a planted change
(`planted`) of the class and not one of the county's own pairs, nearly all of which did not change.
What a pair is judged by (`contrast`) and the judge itself never saw the tile or its 4 x 4 block.

How many of the best scores are false is counted with decoys, as target and decoy lists are in
proteomics (Elias and Gygi 2007) and the local false discovery rate is in genetics (Efron 2001):
swapped pairs are other ground of the same class. A share of the county's tiles shows other ground
as well (fields in turn, new roofs, other water); the share is read off the pattern within tiles, of
which nothing is left where ground was replaced. So many decoys as score higher than a tile, times
that share, are the false ones to expect above it. What real tiles score more often than decoys
does not account for is change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from quadrat import metrics
from quadrat.changes import contrast, planted
from quadrat.changes.cells import CHUNK
from quadrat.changes.order import tilted
from quadrat.heads import regression

Rows = NDArray[np.float32]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Judge = Callable[[Rows], Floats]

FOLDS, BLOCK = 4, 4
FITTED = 3000  # tiles whose cells the yardsticks are fitted to
MOST_PASTED, MOST_SWAPPED, MOST_OWN = 12_000, 9000, 12_000
PASTED, SWAPPED = 6, 4  # a tile, in small counties
# weights of the kinds of pairs that a judge learns from, of the county's own
PLANTED, BESIDE, DECOYS = 0.3, 0.3, 1.0
BESIDE_GAIN = 0.03  # of a class that a paste did not bring
LINEAR, SQUARED = 0.01, 0.003  # of the judges: inverse strength of the penalty
STEPS = 150  # of the judges' search
CLIP = 4.0  # standard deviations
LOCAL = 3  # the column of `contrast.measure` with the likeness of the pattern within a tile
SHRINK = 3.0  # relative error of the false ones, by which a doubtful number is made smaller
UNSEEN = 0.5  # changes at least that are looked for among tiles that do not stand out
PARTS = (0.6, 0.7, 0.8, 0.9, 0.95)  # of planted changes, that score higher
COUNTED = 2  # the first of these that tells how many changed
MOST_REPLACED = 0.6  # beyond it too little is left to reckon with
LOW = 0.25  # of the decoys, up to whose likeness tiles are counted


@dataclass(frozen=True)
class Gains:
    """What N tiles gained of K classes, those asked for, between two dates.

    Attributes:
        score: (N, K) log-odds of a planted change against the county's own pairs.
        probability: (N, K) that the tile gained at least so much of the class as was asked.
        size: (N, K) the share of the tile that it gained, if so.
        expected: (K, 3) how many tiles gained so much: least, value, most (95%).
        told: (K,) whether gains of the class could be planted; where not, nothing is known of them
            and what is expected is 0.
        replaced: share of the tiles that show other ground of the same class.
    """

    score: Floats
    probability: Floats
    size: Floats
    expected: Floats
    told: NDArray[np.bool_]
    replaced: float


@dataclass(frozen=True)
class _Part:
    """What was measured in one fold: own pairs, pasted ones with what they gained, decoys."""

    own: tuple[Rows, Rows]
    pasted: tuple[Rows, Rows]
    gained: Rows
    decoys: tuple[Rows, Rows]


def between(
    one: NDArray[np.float16],
    two: NDArray[np.float16],
    classes: Rows,
    place: tuple[Ints, Ints],
    *,
    fold: Floats,
    at_least: float,
    seed: int = 0,
) -> Gains:
    """Gains between two dates.

    Args:
        one, two: (N, S, D) cells of the earlier and the later date.
        classes: (N, S, C) shares of the earlier ground in each cell, rows of 0 where unknown.
        place: rows and columns of the tiles, (N,) each.
        fold: (C, K) 1 where one of these classes belongs to one that is asked for. Pairs are
            measured in all of them, and judged by those asked for.
        at_least: share of a tile that is a change.
    """
    n, k = len(one), fold.shape[1]
    columns, pools, into = _asked(fold)
    folds = fold_assignment(*place, seed)
    one, two = _scale(one), _scale(two)
    parts = [
        _measured(
            one, two, classes, into=into, mine=folds == i, rng=np.random.default_rng([seed, i])
        )
        for i in range(FOLDS)
    ]
    replaced = _replaced(parts)
    score, size = np.zeros((n, k)), np.zeros((n, k))
    probability, expected = np.zeros((n, k)), np.zeros((k, 3))
    told = np.zeros(k, bool)
    for j, (c, pool) in enumerate(zip(columns, pools, strict=True)):
        pasted, decoys, room = [], [], np.zeros(n, bool)
        for i, part in enumerate(parts):
            here, own = np.flatnonzero(folds == i), _rows(part.own, c)
            others = [p for o, p in enumerate(parts) if o != i]
            judge = _judge(others, c, pool, at_least, np.random.default_rng([seed, i, c]))
            score[here, j] = judge(own)
            size[here, j] = _sizes(others, pool, at_least)(own)
            room[here] = _room(part.own, c, at_least)
            decoys.append(judge(_rows(_take(part.decoys, _room(part.decoys, c, at_least)), c)))
            brought = part.gained[:, c] >= at_least
            pasted.append(judge(_rows(_take(part.pasted, brought), c)))
        told[j] = sum(map(len, pasted)) > 0
        probability[room, j], expected[j] = _against(
            score[room, j], np.concatenate(decoys), np.concatenate(pasted), replaced
        )
    return Gains(score, probability, size, expected, told, replaced)


def _asked(fold: Floats) -> tuple[list[int], list[Ints], Rows]:
    """How the classes asked for are judged.

    A class that is one of the earlier ground's own is judged among these, which teach more. One
    that holds several is a class of its own, judged among those asked for.

    Args:
        fold: (C, K).

    Returns:
        The place of each of the K among the classes that are measured, those that it is judged
        among, and (C, M) 1 where a class of the ground belongs to one that is measured.
    """
    own, parts = len(fold), fold.sum(0)
    wide = np.flatnonzero(parts != 1)
    columns = [
        int(fold[:, j].argmax()) if parts[j] == 1 else own + int((wide == j).argmax())
        for j in range(fold.shape[1])
    ]
    among = [np.arange(own) if c < own else np.array(columns) for c in columns]
    return columns, among, np.hstack([np.eye(own), fold[:, wide]]).astype(np.float32)


def fold_assignment(rows: Ints, cols: Ints, seed: int = 0) -> Ints:
    """The fold of each tile, (N,): whole blocks, at random."""
    _, place = np.unique(metrics.block_ids(rows, cols, BLOCK), return_inverse=True)
    deal = np.random.default_rng(seed).permutation(int(place.max()) + 1) % FOLDS
    fold: Ints = deal[place].astype(np.int64)
    return fold


def _scale(cells: NDArray[np.float16]) -> NDArray[np.float16]:
    """Cells (N, S, D) of a date with mean 0 and spread 1 in each of the D."""
    total, square, count = 0.0, 0.0, 0
    for i in range(0, len(cells), CHUNK):
        part = cells[i : i + CHUNK].astype(np.float64)
        total, square = total + part.sum((0, 1)), square + (part**2).sum((0, 1))
        count += part.shape[0] * part.shape[1]
    mean = total / count
    spread = np.sqrt(np.maximum(square / count - mean**2, 0)) + 1e-6
    out = np.empty(cells.shape, np.float16)
    for i in range(0, len(cells), CHUNK):
        out[i : i + CHUNK] = (cells[i : i + CHUNK] - mean) / spread
    return out


def _measured(
    one: NDArray[np.float16],
    two: NDArray[np.float16],
    classes: Rows,
    *,
    into: Rows,
    mine: NDArray[np.bool_],
    rng: np.random.Generator,
) -> _Part:
    """Pairs of the tiles that are `mine`, by yardsticks fitted to the others."""
    fitted = np.sort(rng.permutation(np.flatnonzero(~mine))[:FITTED])
    at = np.flatnonzero(mine)
    before, after = (x[fitted].astype(np.float32).reshape(-1, x.shape[2]) for x in (one, two))
    sticks = contrast.fit(before, after, classes[fitted].reshape(-1, classes.shape[2]), rng)

    def measure(tiles: Ints, later: Rows | None = None) -> tuple[Rows, Rows]:
        found = []
        for i in range(0, len(tiles), CHUNK):
            some = tiles[i : i + CHUNK]
            new = two[some].astype(np.float32) if later is None else later[i : i + CHUNK]
            found.append(
                contrast.measure(sticks, one[some].astype(np.float32), new, classes[some], into)
            )
        pairs, each = zip(*found, strict=True)
        return np.concatenate(pairs), np.concatenate(each)

    some = np.sort(rng.permutation(at)[:FITTED])
    new, ground = two[some].astype(np.float32), classes[some]
    pasted = planted.pasted(new, ground, min(PASTED * len(some), MOST_PASTED // FOLDS), rng)
    decoys = planted.swapped(new, ground, min(SWAPPED * len(some), MOST_SWAPPED // FOLDS), rng)
    return _Part(
        measure(at), measure(some[pasted.at], pasted.cells), pasted.gained @ into,
        measure(some[decoys.at], decoys.cells),
    )  # fmt: skip


def _room(measures: tuple[Rows, Rows], c: int, at_least: float) -> NDArray[np.bool_]:
    """Where there was so little of a class that it could gain what is asked, (n,)."""
    room: NDArray[np.bool_] = measures[1][:, c, 0] <= 1 - at_least
    return room


def _take(measures: tuple[Rows, Rows], which: Ints | NDArray[np.bool_]) -> tuple[Rows, Rows]:
    return measures[0][which], measures[1][which]


def _rows(measures: tuple[Rows, Rows], c: int | Ints) -> Rows:
    """What is said of pairs, and of one class in each, (n, G + F + K)."""
    pair, each = measures
    n, k = each.shape[:2]
    of = np.broadcast_to(np.asarray(c), (n,))
    return np.hstack([pair, each[np.arange(n), of], np.eye(k, dtype=np.float32)[of]])


def _judge(
    parts: Sequence[_Part], c: int, pool: Ints, at_least: float, rng: np.random.Generator
) -> Judge:
    """What tells planted changes from a county's own pairs: rows of class c -> log-odds.

    Args:
        pool: the classes whose gains teach it, c among them.
    """
    x, y, weight = [], [], []

    def learn(measures: tuple[Rows, Rows], of: int | Ints, target: int, total: float) -> None:
        if len(measures[0]):
            rows = _rows(measures, of)
            x.append(rows)
            y.append(np.full(len(rows), target))
            weight.append(np.full(len(rows), total / len(rows)))

    for part in parts:
        own = _take(part.own, np.sort(rng.permutation(len(part.own[0]))[: MOST_OWN // FOLDS]))
        n = len(own[0])
        learn(own, c, 0, n / 2)
        learn(own, rng.choice(pool, n), 0, n / 2)
        most, brought = _brought(part, pool, at_least)
        learn(_take(part.pasted, brought), most[brought], 1, PLANTED * n)
        any_class = rng.choice(pool, len(most))
        beside = part.gained[np.arange(len(most)), any_class] < BESIDE_GAIN
        learn(_take(part.pasted, beside), any_class[beside], 0, BESIDE * n)
        learn(part.decoys, rng.choice(pool, len(part.decoys[0])), 0, DECOYS * n)
    k = parts[0].own[1].shape[1]
    return _fitted(np.concatenate(x), np.concatenate(y), np.concatenate(weight), k)


def _brought(part: _Part, pool: Ints, at_least: float) -> tuple[Ints, NDArray[np.bool_]]:
    """The class that each paste brought most of, and whether it is as much as a change."""
    gained = part.gained[:, pool]
    return pool[gained.argmax(1)], gained.max(1) >= at_least


def _fitted(x: Rows, y: Ints, weight: Floats, k: int) -> Judge:
    """The mean of two logistic regressions, on the rows and on the rows with their squares."""
    if len(np.unique(y)) < 2:
        return lambda rows: np.full(len(rows), -np.inf)
    plain = _scaling(x)

    def squared(rows: Rows) -> Rows:
        out = plain(rows)
        return np.hstack([out, out[:, :-k] ** 2])

    targets = weight[:, None] * np.eye(2)[y]
    lines = []
    for form, strength in ((plain, LINEAR), (squared, SQUARED)):
        coef, offset, _ = regression.fit(form(x), targets, 1 / (strength * len(x)), STEPS)
        lines.append((form, coef[1] - coef[0], offset[1] - offset[0]))
    return lambda rows: np.mean([form(rows) @ coef + b for form, coef, b in lines], axis=0)


def _scaling(x: Rows) -> Callable[[Rows], Rows]:
    """Rows in standard deviations from the mean of x, clipped."""
    mean, spread = x.mean(0), x.std(0) + 1e-9
    return lambda rows: np.clip((rows - mean) / spread, -CLIP, CLIP).astype(np.float32)


def _sizes(parts: Sequence[_Part], pool: Ints, at_least: float) -> Judge:
    """How large a gain is, learnt from planted ones: rows -> share."""
    x, y = [], []
    for part in parts:
        most, brought = _brought(part, pool, at_least)
        x.append(_rows(_take(part.pasted, brought), most[brought]))
        y.append(part.gained[brought, most[brought]])
    if not sum(map(len, y)):
        return lambda rows: np.full(len(rows), at_least)
    rows = np.concatenate(x)
    plain = _scaling(rows)
    coef = contrast.ridge(plain(rows), np.concatenate(y)[:, None], 1.0)
    return lambda r: np.clip(contrast.straight(plain(r), coef)[:, 0], at_least, 1.0)


def _replaced(parts: Sequence[_Part]) -> float:
    """The share of tiles in which nothing is left of the pattern, as in decoys."""
    own = np.concatenate([p.own[0][:, LOCAL] for p in parts])
    decoys = np.concatenate([p.decoys[0][:, LOCAL] for p in parts])
    if not len(decoys):
        return 1.0
    found = (own <= np.quantile(decoys, LOW)).mean() / LOW
    return float(np.clip(found, 1 / len(own), 1.0))


def _against(
    score: Floats, decoys: Floats, pasted: Floats, replaced: float
) -> tuple[Floats, Floats]:
    """How many of the best scores are changes.

    Args:
        score: (N,) of the tiles. decoys, pasted: of planted pairs. replaced: share of tiles that
            are like decoys.

    Returns:
        (N,) probabilities, which fall with the score; how many changed: least, value, most.
    """
    n = len(score)
    order = np.argsort(-score, kind="stable")
    best = score[order]
    if not len(pasted) or not n or not np.isfinite(best).all():
        return np.zeros(n), np.zeros(3)
    weight = n * replaced / (len(decoys) + 1)
    false = weight * (_above(decoys, best) + 1)
    # decoys hold as many changes as the tiles that they were made of: these are no false ones
    share = 1 - min(replaced, MOST_REPLACED)
    # how many there would be, judged by those that score as high as a part of the planted ones
    part = np.array(PARTS)
    at = np.searchsorted(-best, -np.quantile(pasted, 1 - part), side="right")  # tiles not below
    far = np.concatenate([[0.0], false])[at]
    many = np.maximum(at - far, 0.0) / (part * share)
    wrong = np.maximum(far - (1 - share) * at, 0.0)  # the decoys above that are no changes
    chance = at + 1 + far * weight
    doubt = np.sqrt(chance + wrong**2) / (part * share)  # decoys may be wrong by their number
    error = np.sqrt(chance + (SHRINK * wrong) ** 2) / (part * share) / np.maximum(many, 1e-9)
    surest = COUNTED + int(error[COUNTED:].argmin())
    value = many[surest] * max(0.0, 1 - error[surest] ** 2)
    seen = value * _above(pasted, best) / len(pasted)
    true = np.maximum.accumulate(
        np.minimum((np.arange(1, n + 1) - false) / share, seen).clip(0.0, None)
    )
    steps = isotonic_regression(np.diff(true, prepend=0.0), increasing=False).x.clip(0.0, 1.0)
    probability = np.empty(n)
    probability[order] = _falling(steps, best, value)
    low, high = (many - 1.96 * doubt).min(), (many + 1.96 * doubt).max()
    return probability, np.array([min(max(low, 0.0), value), value, min(max(high, value), n)])


def _falling(steps: Floats, best: Floats, value: float) -> Floats:
    """Probabilities that fall from tile to tile: no two of the best are taken as equal.

    What is expected beyond the tiles that stand out lies among the others by the odds of each.

    Args:
        steps: (N,) probabilities in blocks. best: (N,) scores from the highest. value: their sum.
    """
    smooth = tilted(steps)
    rest = max(value - smooth.sum(), UNSEEN)
    odds = np.exp(best - best[0]) * (1 - smooth)
    more = rest * odds / max(odds.sum(), 1e-300)
    found: Floats = np.minimum.accumulate(np.minimum(smooth + more, 1.0))
    return found


def _above(scores: Floats, values: Floats) -> Ints:
    """How many scores are not below each value."""
    ranked = np.sort(scores)
    return len(ranked) - np.searchsorted(ranked, values, side="left")
