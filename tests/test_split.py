"""Splits do not leak, and the audit would see it if they did."""

import numpy as np
import pytest

from quadrat.errors import SplitError
from quadrat.split import NONE, TEST, TRAIN, VALIDATION, Split, assign, audit, balance, blocks


def square(side: int) -> tuple[np.ndarray, np.ndarray]:
    rows, cols = np.mgrid[-side // 2 : side - side // 2, 100 : 100 + side]
    return rows.ravel(), cols.ravel()


def touching(rows: np.ndarray, cols: np.ndarray, splits: np.ndarray) -> int:
    """Held-out tiles with a training tile among their eight neighbours, by a plain loop."""
    train = {(r, c) for r, c, s in zip(rows, cols, splits, strict=True) if s == TRAIN}
    held = [(r, c) for r, c, s in zip(rows, cols, splits, strict=True) if s > TRAIN]
    around = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    return sum(any((r + a, c + b) in train for a, b in around) for r, c in held)


@pytest.mark.parametrize("test", [0.0, 0.2])
def test_a_block_split_does_not_leak_and_has_about_the_shares(test: float) -> None:
    rows, cols = square(60)
    splits = assign(Split(validation=0.2, test=test, block=6), rows, cols)
    assert touching(rows, cols, splits) == 0
    assert 0.15 < (splits == VALIDATION).mean() < 0.25
    assert audit(splits, rows, cols).share == 0
    if test:
        assert touching(rows, cols, np.where(splits == TEST, VALIDATION, splits - 1)) == 0


def test_the_audit_agrees_with_a_plain_loop_on_a_split_that_leaks() -> None:
    rows, cols = square(20)
    splits = assign(Split("random", validation=0.3), rows, cols)
    found = audit(splits, rows, cols)
    assert found.touching == touching(rows, cols, splits) > 0
    assert found.share > 0.9


def test_a_split_by_source_keeps_a_source_whole_and_leaves_out_its_border() -> None:
    rows, cols = square(30)
    source = np.where(cols < 110, "a", np.where(cols < 120, "b", "c"))
    splits = assign(Split("source", validation=0.33), rows, cols, groups=list(source))
    for name in "abc":
        assert len(set(splits[source == name]) - {NONE}) == 1
    assert touching(rows, cols, splits) == 0
    assert (splits == NONE).sum() in (30, 60)  # one or two borders, one tile wide


def test_no_buffer_leaks_and_the_audit_says_so() -> None:
    rows, cols = square(32)
    splits = assign(Split(block=8, buffer=0), rows, cols)
    assert audit(splits, rows, cols).share > 0


def test_the_seed_decides_and_nothing_else() -> None:
    rows, cols = square(40)
    a, b, c = (assign(Split(block=5, seed=s), rows, cols) for s in (1, 1, 2))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_every_class_comes_into_every_split_where_it_can() -> None:
    rows, cols = square(48)
    labels = np.where(blocks(rows, cols, 6) % 9 == 0, 1, 0)  # a class in one block of nine
    splits = assign(Split(block=6, validation=0.2), rows, cols, labels=labels)
    found = audit(splits, rows, cols, labels=labels, names=("common", "rare")).classes
    assert min(found[s][n] for s in ("train", "validation") for n in ("common", "rare")) > 0


def test_balance_removes_at_random_down_to_the_rarest_class() -> None:
    labels = np.repeat([0, 1, 2, -1], [500, 80, 30, 40])
    keep = balance(labels, seed=4)
    assert np.array_equal(np.bincount(labels[keep]), [30, 30, 30])
    assert np.array_equal(keep, balance(labels, seed=4))
    assert not np.array_equal(keep, balance(labels, seed=5))
    assert 150 < np.flatnonzero(keep & (labels == 0)).mean() < 350  # not the first thirty


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"method": "magic"}, "no split"),
        ({"validation": 0.7, "test": 0.3}, "below 1"),
        ({"block": 0}, "block 0"),
    ],
)
def test_a_wrong_split_is_refused(given: dict, says: str) -> None:
    with pytest.raises(SplitError, match=says):
        Split(**given)


def test_too_few_blocks_are_refused_with_the_cure() -> None:
    with pytest.raises(SplitError, match="--block"):
        assign(Split(block=64), np.zeros(9, np.int64), np.arange(9))
