"""Intervals, Holm's adjustment and verdicts, with hand-worked numbers."""

import numpy as np
import pytest
from scipy import stats

from evidence.statistics import (
    Comparison,
    Sample,
    bootstrap,
    holm,
    improvement,
    iqm,
    judge,
    p_values,
    percentiles,
    profile,
    summarize_rooms,
    two_level_interval,
    welch,
)


def test_the_interquartile_mean_leaves_out_a_quarter_at_either_end():
    assert iqm(np.array([0.0, 1, 2, 3, 4, 5, 6, 100])) == 3.5  # of 2, 3, 4, 5


def test_percentiles_of_infinite_numbers():
    assert percentiles(np.array([1.0] * 97 + [np.inf] * 3)) == (1.0, np.inf)


def test_a_bootstrap_of_equal_numbers_is_a_point_and_one_of_two_values_holds_both():
    assert bootstrap([np.full(5, 3.0)], lambda samples: samples[0].mean(1)) == (3.0, 3.0)
    low, high = bootstrap([np.array([0.0, 1.0] * 50)], lambda samples: samples[0].mean(1))
    # The standard error of a mean of 100 coins is 0.05.
    assert (low, high) == (pytest.approx(0.5 - 1.96 * 0.05, abs=0.02), pytest.approx(0.5 + 1.96 * 0.05, abs=0.02))


def test_each_stratum_is_resampled_by_itself():
    low, high = bootstrap([np.zeros(3), np.ones(3)], lambda samples: np.concatenate(samples, 1).mean(1))
    assert (low, high) == (0.5, 0.5)


def test_two_levels_hold_the_spread_of_rooms_and_of_seeds():
    same_rooms = [np.array([0.0, 1.0] * 50)] * 10  # seeds alike: rooms alone, 1000 coins
    low, high = two_level_interval(same_rooms)
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(1000), rel=0.15)
    low, high = two_level_interval([np.full(100, float(seed % 2)) for seed in range(10)])  # seeds alone, 10 coins
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(10), rel=0.15)


def test_few_seeds_are_shown_one_by_one_and_more_as_their_mean_with_its_interval():
    rooms = [np.full(10, k / 10) for k in range(5)]
    assert summarize_rooms(rooms[:2]) == ([0.0, 0.1], None)
    (mean,), (low, high) = summarize_rooms(rooms)
    assert mean == pytest.approx(0.2)
    assert low < mean < high


def test_the_probability_of_improvement_counts_pairs_and_halves_ties():
    chance, _ = improvement([(np.array([1.0, 3.0]), np.array([1.0, 2.0]))])
    assert chance == (0.5 + 0 + 1 + 1) / 4
    chance, (low, high) = improvement([(np.array([3.0, 4.0]), np.array([1.0, 2.0]))])
    assert (chance, low, high) == (1, 1, 1)


def test_a_profile_gives_every_task_the_same_weight():
    heights = np.array([0.0, 0.5])
    assert profile([np.array([0.2, 0.6]), np.array([0.6])], heights).tolist() == [1.0, 0.75]


def test_welch_hand_worked():
    gap, error, degrees = welch(Sample([1.0, 2.0, 3.0]), Sample([11.0, 12.0, 13.0]))
    assert (gap, error, degrees) == (-10, pytest.approx(np.sqrt(2 / 3)), pytest.approx(4))
    known = welch(Sample([1.0, 2.0, 3.0]), Sample([5.0], error=2.0))
    assert known == (-3, pytest.approx(np.sqrt(1 / 3 + 4)), pytest.approx((1 / 3 + 4) ** 2 / ((1 / 3) ** 2 / 2)))


def test_p_values_are_those_of_scipy():
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 1, 8).tolist(), rng.normal(0.5, 2, 6).tolist()
    differ, beyond = p_values(Comparison(Sample(first), Sample(second), 3.0))
    assert differ == pytest.approx(stats.ttest_ind(first, second, equal_var=False).pvalue)
    shifted = [
        stats.ttest_ind([x + sign * 3.0 for x in first], second, equal_var=False, alternative=side).pvalue
        for sign, side in ((1, "greater"), (-1, "less"))
    ]
    assert beyond == pytest.approx(max(shifted))


def test_p_values_without_any_spread():
    def compared(first, second):
        return p_values(Comparison(Sample([first] * 5), Sample([second] * 5), 0.02))

    assert compared(1.0, 1.0) == (1.0, 0.0)
    assert compared(1.0, 0.5) == (0.0, 1.0)
    assert compared(1.0, 0.99) == (0.0, 0.0)  # a difference that is there and does not matter


def test_holm_hand_worked():
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def near(middle, spread=0.001, **more):
    return Sample([middle + spread * k for k in (-2, -1, 0, 1, 2)], **more)


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        (near(1.0), near(0.5), "higher"),
        (near(0.5), near(1.0), "lower"),
        (near(0.5), near(0.501), "level"),
        (near(0.5, 0.5), near(0.6, 0.5), "undecided"),
        (Sample([1.0] * 4), near(0.5), "few seeds"),
        (Sample([]), near(0.5), "no runs"),
        (near(1.0), Sample([0.5], error=0.01), "higher"),
        (near(1.0, censored=True), near(0.5), "higher"),
        (near(1.0), near(0.5, censored=True), "undecided"),  # what is only known to be greater may be the higher one
        (near(0.5, censored=True), near(1.0), "undecided"),
        (near(0.5, censored=True), near(0.501), "undecided"),
    ],
)
def test_verdicts(first, second, verdict):
    assert judge([Comparison(first, second, 0.02)]) == [verdict]


def test_verdicts_are_adjusted_over_all_that_are_judged_together():
    close = Comparison(Sample([0.0, 0.1, 0.2, 0.3, 0.4]), Sample([0.2, 0.3, 0.4, 0.5, 0.6]), 0.02)
    differ, _ = p_values(close)
    assert 0.02 < differ < 0.1
    clear = Comparison(Sample([0.0, 0.1, 0.2, 0.3, 0.4]), Sample([0.33, 0.43, 0.53, 0.63, 0.73]), 0.02)
    assert 0.005 < p_values(clear)[0] < 0.02
    assert judge([clear]) == ["lower"]
    assert judge([clear, *[close] * 20])[0] == "undecided"
