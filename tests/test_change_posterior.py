"""Posteriors, likelihoods, sequences and colours against closed forms and simulated truth."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from quadrat.changes import colours, likelihood, order, pair, series, totals
from quadrat.changes.question import ask
from quadrat.errors import InputError
from quadrat.legend import from_names

K = 4
STAY = 0.96


def ground(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True classes on two dates, with a known joint prior: only class 3 grows."""
    shares = np.array([0.35, 0.3, 0.2, 0.15])
    joint = np.diag(shares)
    for i in range(3):
        joint[i, 3] = 0.03 * shares[i]
        joint[i, i] -= joint[i, 3]
    cell = rng.choice(K * K, n, p=joint.ravel())
    return cell // K, cell % K, joint


def scores_of(
    z: np.ndarray, rng: np.random.Generator, sharp: float = 3.0, shift: np.ndarray | None = None
) -> np.ndarray:
    """Probabilities of a model that is exactly calibrated for equal shares, then shifted.

    Logits are class signals plus normal noise; with means `sharp` on the own class and unit
    variance, softmax(sharp * signal) is the pair.
    """
    signal = rng.normal(size=(len(z), K))
    signal[np.arange(len(z)), z] += sharp
    logits = sharp * signal
    if shift is not None:
        logits = logits @ shift[:-1] + shift[-1]
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


# duller by 0.6 and pulled towards class 3, as brown leaves are towards bare ground
SHIFT = np.vstack([0.6 * np.eye(K), [0.0, 1.5, -1.0, 3.0]])


def plain(k: int = K) -> likelihood.Recalibration:
    return likelihood.Recalibration(likelihood.identity(k).weights, np.full(k, 1 / k), 0.0)


def given(p_a: np.ndarray) -> likelihood.FirstDate:
    """A first date whose probabilities are exactly calibrated for equal shares."""
    return likelihood.mapped_by(plain(), p_a)


def changed_in(found: pair.PairPosterior) -> np.ndarray:
    """P(the class on date B is another one), (N,)."""
    return 1 - np.trace(found.pairs, axis1=1, axis2=2, dtype=float)


def to_class_3(found: pair.PairPosterior) -> np.ndarray:
    """P(from one of the other classes to class 3), (N,)."""
    return found.pairs[:, :3, 3].sum(1, dtype=float)


def test_the_posterior_is_bayes_rule() -> None:
    rng = np.random.default_rng(0)
    prior = rng.dirichlet(np.ones(9)).reshape(3, 3)
    a, b = rng.random((5, 3)), rng.random((5, 3))
    pairs, evidence = pair.pair_posterior(prior, a, b)
    for n in range(5):
        table = {(i, j): prior[i, j] * a[n, i] * b[n, j] for i, j in product(range(3), range(3))}
        assert evidence[n] == pytest.approx(sum(table.values()))
        for (i, j), value in table.items():
            assert pairs[n, i, j] == pytest.approx(value / sum(table.values()))


def test_the_transition_prior_is_found_from_scores_alone() -> None:
    rng = np.random.default_rng(1)
    a, b, joint = ground(40_000, rng)
    like = [plain().likelihood(scores_of(z, rng)) for z in (a, b)]
    found = pair.fit_prior(*like, pair.start_prior(np.ones(K)))
    assert found.sum() == pytest.approx(1)
    assert np.abs(found - joint).max() < 0.004
    assert found[:3, 3].sum() == pytest.approx(joint[:3, 3].sum(), rel=0.15)


def test_recalibration_undoes_a_known_shift() -> None:
    rng = np.random.default_rng(2)
    z = rng.integers(0, K, 6000)
    shifted = scores_of(z, rng, shift=SHIFT)
    right = likelihood.fit(shifted, np.eye(K)[z], outlier_rate=0.0)
    test = rng.integers(0, K, 6000)
    rng2 = np.random.default_rng(3)
    oracle = scores_of(test, np.random.default_rng(3))
    seen = scores_of(test, rng2, shift=SHIFT)

    def loss(p: np.ndarray) -> float:
        return float(-np.log(p[np.arange(len(test)), test]).mean())

    assert loss(right(seen)) < loss(oracle) + 0.05 < loss(seen) - 0.2
    assert right(seen).sum(1) == pytest.approx(np.ones(6000))


def test_season_is_taken_out_where_comparing_maps_drowns_in_it() -> None:
    rng = np.random.default_rng(4)
    a, b, _ = ground(20_000, rng)
    p_a, p_b = scores_of(a, rng, 2.8), scores_of(b, rng, 2.8, shift=SHIFT)
    real = (a != 3) & (b == 3)
    compared = (p_a.argmax(1) != 3) & (p_b.argmax(1) == 3)
    got = pair.infer(given(p_a), p_b)
    chance = to_class_3(got)
    order = np.argsort(-chance)
    length = int(np.searchsorted(np.cumsum(real[order]), 0.8 * real.sum())) + 1
    precision = real[order[:length]].mean()
    assert real[compared].mean() < 0.45
    assert precision > 0.8
    false, stated = length - real[order[:length]].sum(), (1 - chance[order[:length]]).sum()
    assert stated == pytest.approx(false, rel=0.3)
    assert chance.sum() == pytest.approx(real.sum(), rel=0.15)
    # without the recalibration, the same model on the second date finds what the season did
    naive = to_class_3(pair.infer(given(p_a), p_b, date_b=plain()))
    assert naive.sum() > 1.5 * real.sum()


def test_stated_probabilities_of_change_are_kept() -> None:
    """Among tiles called changed with a probability near p, a share near p has changed."""
    rng = np.random.default_rng(5)
    a, b, _ = ground(60_000, rng)
    p_a, p_b = scores_of(a, rng, 2.5), scores_of(b, rng, 2.5)
    got = pair.infer(given(p_a), p_b, date_b=plain())
    for low, high in ((0.1, 0.3), (0.3, 0.6), (0.6, 0.9)):
        inside = (changed_in(got) >= low) & (changed_in(got) < high)
        assert inside.sum() > 100
        stated, true = changed_in(got)[inside].mean(), (a != b)[inside].mean()
        assert stated == pytest.approx(true, abs=0.06)


def patch(rng: np.random.Generator, side: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Ground with one patch of 3 x 3 changes and one lone change."""
    a = np.where(np.arange(side * side) % side < side // 2, 0, 1)
    b = a.copy().reshape(side, side)
    b[10:13, 5:8] = 3
    b[30, 30] = 3
    return a, b.ravel()


def test_neighbours_help_patches_and_spare_a_lone_change() -> None:
    rng = np.random.default_rng(6)
    a, b = patch(rng)
    rows, cols = np.divmod(np.arange(1600), 40)
    near = pair.neighbours(rows, cols)
    changed = b != a
    alone, together, false = [], [], []
    for _ in range(8):
        p_a, p_b = scores_of(a, rng, 2.2), scores_of(b, rng, 2.2)
        p_b[30 * 40 + 30] = [0.01, 0.01, 0.01, 0.97]
        bare = pair.infer(given(p_a), p_b, date_b=plain())
        with_near = pair.infer(given(p_a), p_b, date_b=plain(), neighbours=near)
        lone = 30 * 40 + 30
        alone.append(changed_in(with_near)[lone] / changed_in(bare)[lone])
        both = changed.copy()
        both[lone] = False
        together.append(changed_in(with_near)[both].mean() - changed_in(bare)[both].mean())
        false.append(changed_in(with_near)[~changed].sum() / changed_in(bare)[~changed].sum())
    assert np.mean(together) > 0.02  # the patch is surer
    assert np.mean(false) < 0.95  # noise is less
    assert np.mean(alone) > 0.4  # the lone change is not smoothed away


def test_neighbours_are_those_next_to_a_tile_and_nothing_wraps() -> None:
    rng = np.random.default_rng(7)
    cells = rng.choice(30 * 20, 200, replace=False)
    rows, cols = cells // 20 - 18_000, cells % 20 - 7
    at = {(r, c): i for i, (r, c) in enumerate(zip(rows.tolist(), cols.tolist(), strict=True))}
    found = pair.neighbours(rows, cols)
    steps = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
    for i, (r, c) in enumerate(zip(rows.tolist(), cols.tolist(), strict=True)):
        assert found[i].tolist() == [at.get((r + dr, c + dc), -1) for dr, dc in steps]
    assert pair.neighbours([], []).shape == (0, 8)


# -- series ------------------------------------------------------------------------------------


def every_sequence(like: np.ndarray, start: np.ndarray, moves: np.ndarray) -> dict:
    """P(sequence and evidence) of one tile by trying all, (T, K) likelihood."""
    dates, k = like.shape
    found = {}
    for path in product(range(k), repeat=dates):
        p = start[path[0]] * like[0, path[0]]
        for t in range(1, dates):
            p *= moves[t - 1][path[t - 1], path[t]] * like[t, path[t]]
        found[path] = p
    return found


def test_sequences_are_those_of_trying_all() -> None:
    rng = np.random.default_rng(8)
    like = [rng.random((6, 3)) + 0.05 for _ in range(4)]
    got = series.infer(like, np.ones(3) / 3, steps=3)
    source, target = np.array([0]), np.array([1, 2])
    p, best = series.wanted(like, got, source, target)
    both = series.ends(like, got)
    for n in range(6):
        table = every_sequence(np.stack([v[n] for v in like]), got.start, got.transitions)
        total = sum(table.values())
        assert tuple(got.path[n]) == max(table, key=lambda s: table[s])
        for t in range(4):
            for c in range(3):
                exact = sum(v for s, v in table.items() if s[t] == c) / total
                assert got.marginal[n, t, c] == pytest.approx(exact, abs=1e-6)
        for t in range(3):
            exact = sum(v for s, v in table.items() if s[t] != s[t + 1]) / total
            assert got.moved[n, t] == pytest.approx(exact, abs=1e-6)
            exact = sum(v for s, v in table.items() if s[t] == 0 and s[t + 1] != 0) / total
            assert p[n, t] == pytest.approx(exact)
        exact = sum(v for s, v in table.items() if s[0] == 1 and s[-1] == 2) / total
        assert both[n, 1, 2] == pytest.approx(exact)
        assert best[n, 0] == p[n].argmax() and best[n, 1] == 0 and best[n, 2] in (1, 2)


def test_a_flicker_is_a_mistake_and_a_lasting_change_has_its_year() -> None:
    rng = np.random.default_rng(9)
    n, dates = 4000, 5
    z = np.repeat(rng.choice(3, n)[:, None], dates, axis=1)
    year = np.where(rng.random(n) < 0.05, rng.integers(1, dates, n), -1)
    for i in np.flatnonzero(year > 0):
        z[i, year[i] :] = 3
    like = [plain().likelihood(scores_of(z[:, t], rng, 2.2)) for t in range(dates)]
    flicker = np.flatnonzero(year < 0)[:40]
    for i in flicker:  # confidently wrong on one date in the middle
        like[2][i] = [0.02, 0.02, 0.02, 1.0]
    got = series.infer(like, np.ones(K) / K)
    steps = np.diff(got.path, axis=1) != 0
    when = np.where(steps.any(1), steps.argmax(1), -1)
    changed = np.flatnonzero(year > 0)
    assert (when[changed] == year[changed] - 1).mean() > 0.75
    assert (when[flicker] == -1).mean() > 0.8
    compared = np.mean([(v.argmax(1) == z[:, t]).mean() for t, v in enumerate(like)])
    assert (got.path == z).mean() > 0.97 > compared + 0.02
    true = [(z[:, t] != z[:, t + 1]).sum() for t in range(dates - 1)]
    assert got.joint.sum((1, 2)) == pytest.approx([n] * 4)
    assert got.moved.sum(0) == pytest.approx(true, rel=0.35)


def test_labels_with_their_confusion_are_evidence_too() -> None:
    confusion = np.array([[90, 10], [30, 70]])
    like = series.from_labels([0, 1], confusion)
    assert like[0, 1] / like[0, 0] == pytest.approx(30.5 / 101 / (90.5 / 101))
    assert like[1, 0] / like[1, 1] == pytest.approx(10.5 / 70.5)


def test_going_within_a_group_is_no_change() -> None:
    rng = np.random.default_rng(10)
    like = [rng.random((50, 4)) + 0.01 for _ in range(3)]
    groups = np.array([0, 0, 1, 1])
    got = series.infer(like, np.ones(4) / 4, groups=groups, steps=2)
    p, _ = series.wanted(like, got, np.arange(4), np.arange(4), groups)
    assert p == pytest.approx(got.moved.astype(float), abs=1e-6)
    fine = series.infer(like, np.ones(4) / 4, steps=2)
    assert np.all(got.moved <= fine.moved + 1e-6)


# -- totals ------------------------------------------------------------------------------------


def test_totals_contain_the_truth() -> None:
    """Net change over simulated counties: 95% intervals are not too short."""
    hits, trials = 0, 14
    contrast = np.zeros((1, K, K))
    contrast[0, :3, 3], contrast[0, 3, :3] = 1, -1
    for seed in range(trials):
        rng = np.random.default_rng(100 + seed)
        a, b, _ = ground(3000, rng)
        p_a, p_b = scores_of(a, rng), scores_of(b, rng, shift=SHIFT)
        post = pair.infer(given(p_a), p_b)
        blocks = np.arange(3000) // 40
        checked = totals.check(post.pairs.sum(2)[:800], a[:800], blocks[:800])
        (net,) = totals.of_pair(post, p_a, p_b, contrast, checked, blocks=blocks)
        hits += net.low <= (b == 3).sum() - (a == 3).sum() <= net.high
    assert hits >= 12


def test_without_references_a_total_has_no_interval() -> None:
    rng = np.random.default_rng(11)
    a, b, _ = ground(500, rng)
    p_a, p_b = scores_of(a, rng), scores_of(b, rng)
    post = pair.infer(likelihood.mapped_by(likelihood.identity(K), p_a), p_b)
    (total,) = totals.of_pair(post, p_a, p_b, np.ones((1, K, K)), None, blocks=np.arange(500))
    assert total.value == pytest.approx(500, rel=1e-4)
    assert np.isnan(total.low) and np.isnan(total.high)


# -- colours -----------------------------------------------------------------------------------


def ground_colours(rng: np.random.Generator, n: int = 4000) -> np.ndarray:
    base = np.array([[70, 95, 60], [150, 140, 110], [180, 175, 170], [110, 120, 80]], float)
    return np.clip(base[rng.integers(0, 4, n)] + rng.normal(0, 12, (n, 3)), 0, 255)


GAIN, OFFSET = np.array([0.7, 0.85, 1.2]), np.array([60.0, 35.0, -35.0])


@pytest.mark.parametrize("method", ["linear", "histogram"])
def test_a_known_haze_is_undone_though_some_ground_changed(method: str) -> None:
    rng = np.random.default_rng(12)
    first = ground_colours(rng)
    later = np.clip(first * GAIN + OFFSET + rng.normal(0, 2, first.shape), 0, 255)
    later[:400] = rng.uniform(0, 255, (400, 3))  # 10% became something else
    got = colours.fit(first, later, method)
    error = np.abs(got(later[400:].astype(np.uint8)).astype(float) - first[400:])
    assert error.mean() < 4 < np.abs(later - first)[400:].mean() - 8
    assert np.all(got.after < 0.5 * got.before)
    if method == "linear":
        for band in range(3):
            slope = np.polyfit(np.arange(90, 170), got.lut[band, 90:170].astype(float), 1)[0]
            assert slope == pytest.approx(1 / GAIN[band], rel=0.05)
    assert np.all(np.diff(got.lut.astype(int), axis=1) >= 0)


def test_no_normalisation_leaves_pixels_as_they_are() -> None:
    rng = np.random.default_rng(13)
    pixels = ground_colours(rng)
    got = colours.fit(pixels, pixels * 0.9, "none")
    whole = np.arange(768, dtype=np.uint8).reshape(16, 16, 3)
    assert np.array_equal(got(whole), whole)


def test_equal_dates_are_left_alone() -> None:
    pixels = ground_colours(np.random.default_rng(14))
    got = colours.fit(pixels, pixels, "linear")
    assert np.abs(got.lut.astype(int) - np.arange(256)).max() <= 1


def test_flat_or_unrelated_colours_do_not_run_away() -> None:
    rng = np.random.default_rng(15)
    flat = np.full((500, 3), 100.0)
    assert np.isfinite(colours.fit(flat, flat + 20, "linear").after).all()
    wild = colours.fit(rng.uniform(0, 255, (500, 3)), rng.uniform(0, 255, (500, 3)), "linear")
    assert np.all(wild.lut[:, 255].astype(int) - wild.lut[:, 0] <= 255)


def test_too_little_common_ground_and_unknown_methods_are_said() -> None:
    pixels = ground_colours(np.random.default_rng(16), 30)
    with pytest.raises(InputError, match="--normalise none"):
        colours.fit(pixels, pixels)
    with pytest.raises(InputError, match="none, linear, histogram"):
        colours.fit(pixels, pixels, "magic")


def test_where_scores_have_shares_tiles_are_listed_by_what_they_gained() -> None:
    question = ask(
        from_names(["Water", "Developed", "Undeveloped"]), None, ["Undeveloped"], ["Developed"],
        least=0.5, at_least=0.25, limit=None, recalibrated=True, smoothing=0.0, kind="auto",
        split="auto", level=0.95, seed=0,
    )  # fmt: skip
    rng = np.random.default_rng(4)
    built = rng.random((2, 200))
    one, two = (np.stack([np.zeros(200), b, 1 - b], axis=1) for b in built)
    none = np.zeros(200, bool)
    rise = built[1] - built[0]  # without water nothing else can have changed
    np.testing.assert_allclose(order.gain(one, two, none, question), rise, atol=1e-12)
    # where the maps differ by such a change a tile comes first among its like
    differ = (built[0] < 0.5) & (built[1] > 0.5)
    score = order.gain(one, two, differ, question)
    assert np.corrcoef(score - rise, differ)[0, 1] > 0.999

    ends = rng.dirichlet(np.ones(9), 200).reshape(200, 3, 3)
    got = order.along(ends, question.asked, score)
    np.testing.assert_allclose(got.sum((1, 2)), 1)
    before, after = ((e * question.asked).sum((1, 2)) for e in (ends, got))
    assert after.sum() == pytest.approx(before.sum(), rel=1e-3)
    assert (np.diff(after[np.argsort(-score)]) < 0).all()
    # what is not asked for keeps its proportions
    others = ~question.asked
    np.testing.assert_allclose(
        got[:, others] / got[:, others].sum(1, keepdims=True),
        ends[:, others] / ends[:, others].sum(1, keepdims=True),
    )
