"""A date's table: columns in and out, a coarser legend, dates on the ground that they share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from made_scores import certain, square, write_scores
from quadrat import grid as grids
from quadrat import scores
from quadrat.errors import ScoresError
from quadrat.legend import fold, load_legend
from quadrat.scores import columns

NLCD6, NLCD3 = load_legend("nlcd6"), load_legend("nlcd3")


def test_what_was_written_is_read_in_the_order_of_rows_and_columns(tmp_path: Path) -> None:
    rows, cols = square(6)
    mixed = np.random.default_rng(0).permutation(36)
    ids = np.arange(36) % 6
    truth = np.where(ids == 3, -1, ids)
    split = np.where(ids < 2, "test", "")
    uri = write_scores(
        str(tmp_path), rows[mixed], cols[mixed], certain(ids)[mixed], truth=truth[mixed],
        split=split[mixed], date="2011-07-01",
    )  # fmt: skip
    day = scores.read(uri)
    assert day.date == "2011-07-01" and len(day) == 36
    np.testing.assert_array_equal(day.rows, rows)
    np.testing.assert_array_equal(day.cols, cols)
    np.testing.assert_array_equal(day.mapped, ids)
    np.testing.assert_array_equal(day.truth, truth)
    np.testing.assert_array_equal(day.split, split)
    np.testing.assert_allclose(day.probabilities, certain(ids), rtol=1e-6)
    some = day.take(np.array([4, 2]))
    assert some.cols.tolist() == [cols[4], cols[2]] and some.truth.tolist() == [4, 2]


def test_a_coarser_legend_sums_probabilities_and_shares(tmp_path: Path) -> None:
    rows, cols = square(10)
    p = np.random.default_rng(1).dirichlet(np.ones(6) / 2, 100)
    day = scores.read(write_scores(str(tmp_path), rows, cols, p, truth=p.argmax(1)))
    assert day.shares is None and day.folded(NLCD6) is day and day.folded(NLCD3).shares is None
    to = fold(NLCD6, NLCD3)
    expected = np.stack([p[:, to == k].sum(1) for k in range(3)], axis=1)
    shares = day.probabilities[:, ::-1].copy()
    coarse = scores.DateScores(**{**vars(day), "shares": shares}).folded(NLCD3)
    np.testing.assert_allclose(coarse.probabilities, expected, atol=1e-6)
    np.testing.assert_array_equal(coarse.mapped, expected.argmax(1))
    np.testing.assert_array_equal(coarse.truth, to[p.argmax(1)])
    by_share = np.stack([p[:, ::-1][:, to == k].sum(1) for k in range(3)], axis=1)
    assert coarse.shares is not None
    np.testing.assert_allclose(coarse.shares, by_share, atol=1e-6)


def test_the_truth_is_the_main_class_of_the_reference_where_its_shares_are_known(
    tmp_path: Path,
) -> None:
    rows, cols = square(2)
    reference = np.zeros((4, 6))
    reference[0, [0, 2]] = 0.55, 0.45  # no rule for pure plots labels it, and it has a main class
    reference[1, [1, 3]] = 0.5  # two equal shares: none
    reference[2, 4] = 0.2  # most ground has no class
    reference[3] = np.nan  # nothing is known but its label
    truth = np.array([-1, -1, 4, 5])
    uri = write_scores(
        str(tmp_path), rows, cols, certain(truth % 6), truth=truth, reference=reference
    )
    day = scores.read(uri)
    assert day.truth.tolist() == [0, -1, -1, 5]
    assert day.reference is not None
    np.testing.assert_allclose(day.reference, reference, atol=1e-7)
    assert scores.open_scores(uri).table()["frac_Developed"].null_count == 1
    mixed = np.zeros((4, 6))
    mixed[:, [NLCD6.names.index(n) for n in ("Developed", "Forest", "Shrub")]] = 0.4, 0.3, 0.3
    other = write_scores(
        str(tmp_path / "b"), rows, cols, certain(truth % 6), truth=truth, reference=mixed
    )
    fine = scores.read(other)
    assert {NLCD6.names[i] for i in fine.truth} == {"Developed"}
    coarse = fine.folded(NLCD3)  # 0.6 of the ground is undeveloped
    assert {NLCD3.names[i] for i in coarse.truth} == {"Undeveloped"}


def test_sets_fold_to_the_classes_that_one_of_theirs_folds_into(tmp_path: Path) -> None:
    rows, cols = square(10)
    p = np.random.default_rng(2).dirichlet(np.ones(6) / 2, 100)
    uri = write_scores(str(tmp_path), rows, cols, p, threshold=0.2)
    day = scores.read(uri)
    assert day.sets is not None
    expected = (p >= 0.2) | (p == p.max(1, keepdims=True))
    np.testing.assert_array_equal(day.sets, expected)
    found = scores.open_scores(uri)
    assert found.threshold == 0.2
    np.testing.assert_array_equal(found.table()["set_size"].to_numpy(), expected.sum(1))
    to = fold(NLCD6, NLCD3)
    coarse = day.folded(NLCD3).sets
    assert coarse is not None
    for i in range(100):
        assert set(np.flatnonzero(coarse[i])) == {int(to[k]) for k in np.flatnonzero(expected[i])}
    some = day.take(np.array([7, 3])).sets
    np.testing.assert_array_equal(some, expected[[7, 3]])


def test_dates_are_matched_on_the_ground_that_all_of_them_show(tmp_path: Path) -> None:
    days = []
    for n, shift in enumerate((0, 2, 3)):
        rows, cols = square(6, row=-3 + shift, col=-2)  # on both sides of the origin
        ids = (rows + cols) % 6
        days.append(scores.read(write_scores(str(tmp_path / str(n)), rows, cols, certain(ids))))
    matched = scores.match(days)
    for day in matched:
        assert day.rows.tolist() == np.repeat([0, 1, 2], 6).tolist()
        np.testing.assert_array_equal(day.mapped, (day.rows + day.cols) % 6)
    far = scores.read(write_scores(str(tmp_path / "far"), *square(6, row=99), certain(ids)))
    with pytest.raises(ScoresError, match="no tile in common"):
        scores.match([days[0], far])


def test_a_tile_id_is_one_number_that_sorts_as_rows_and_columns_do() -> None:
    rows = np.array([-(2**31), -1, -1, 0, 0, 2**31 - 1])
    cols = np.array([5, -(2**31), 2**31 - 1, -1, 0, -7])
    keys = grids.tile_keys(rows, cols)
    assert np.all(np.diff(keys) > 0)
    mixed = np.array([3, 0, 5, 1, 4, 2])
    wanted = np.array([[keys[2], keys[0]], [keys[5], keys[0] + 1]])
    assert grids.places_of(keys[mixed], wanted).tolist() == [[5, 1], [2, -1]]
    assert grids.places_of(keys[:0], keys).tolist() == [-1] * 6


def test_class_names_are_ids_and_back() -> None:
    ids = np.array([2, -1, 0, 2])
    column = pa.chunked_array([columns.class_names(ids, NLCD6)])
    assert column.to_pylist() == ["Developed", None, NLCD6.names[0], "Developed"]
    np.testing.assert_array_equal(columns.class_ids(column, NLCD6, "a"), ids)
    with pytest.raises(ScoresError, match="'Wood'"):
        columns.class_ids(pa.chunked_array([["Wood"]]), NLCD6, "a")


def test_parts_have_room_for_shares_beside_probabilities() -> None:
    assert "share_Developed" not in columns.schema(NLCD6.names).names
    with_shares = columns.schema(NLCD6.names, shares=True).names
    assert [n for n in with_shares if n.startswith("share_")] == [
        columns.share(n) for n in NLCD6.names
    ]
    rows = np.arange(12, dtype=np.float32).reshape(2, 6)
    names = [columns.share(n) for n in NLCD6.names]
    np.testing.assert_array_equal(
        columns.to_rows(pa.table(columns.from_rows(names, rows)), names), rows
    )
