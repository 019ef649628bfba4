"""Eq. (3) and the schedules of A.7 against numbers worked by hand."""

import pytest

from annealing import SCHEDULES, check_schedule, constant, linear, stepwise


@pytest.mark.parametrize(
    ("i", "expected"),
    [
        # lambda_0 = 9, lambda_c = 1, i1 = 4, i2 = 7, so k = (9 - 1) / 4 = 2
        (0, 9.0),  # 9 - 2 * 0
        (1, 7.0),  # 9 - 2 * 1
        (3, 3.0),  # 9 - 2 * 3, the last of the fall
        (4, 1.0),  # i1 itself already holds lambda_c; 9 - 2 * 4 meets it there
        (6, 1.0),  # the last iteration before i2
        (7, 0.0),  # i2 itself is free of the teacher
        (100, 0.0),
    ],
)
def test_eq3_stepwise_hand_worked(i, expected):
    assert stepwise(i, 9.0, 1.0, 4, 7) == expected


@pytest.mark.parametrize(
    ("i", "expected"),
    [
        # 10, 0.1, 1000, 2000: k = 9.9 / 1000 = 0.0099
        (0, 10.0),
        (500, 5.05),  # 10 - 0.0099 * 500 = 10 - 4.95
        (999, 0.1099),  # 10 - 0.0099 * 999 = 10 - 9.8901
        (1000, 0.1),
        (1999, 0.1),
        (2000, 0.0),
    ],
)
def test_eq3_stepwise_papers_values(i, expected):
    assert stepwise(i, 10.0, 0.1, 1000, 2000) == pytest.approx(expected, abs=1e-12)


def test_eq3_stepwise_phases_of_no_length():
    # i1 = 0: nothing to fall over, lambda_c at once (and no division by i1); i1 = i2: nothing is held
    assert [stepwise(i, 9.0, 1.0, 0, 2) for i in range(4)] == [1, 1, 0, 0]
    assert [stepwise(i, 9.0, 1.0, 2, 2) for i in range(4)] == [9, 5, 0, 0]  # k = (9 - 1) / 2 = 4
    assert [stepwise(i, 9.0, 1.0, 0, 0) for i in range(2)] == [0, 0]


def test_a7_constant_hand_worked():
    assert [constant(i, 10.0, 0.1, 1, 3) for i in range(5)] == [0.1, 0.1, 0.1, 0, 0]
    assert [constant(i, 99.0, 0.1, 2, 3) for i in range(5)] == [0.1, 0.1, 0.1, 0, 0]  # no part for lambda_0 and i1


def test_a7_linear_hand_worked():
    # 8 * (1 - i / 4): a fall of 8 / 4 = 2 an iteration, 0 at i2 = 4 and not below 0 afterwards
    assert [linear(i, 8.0, 0.1, 1, 4) for i in range(7)] == [8, 6, 4, 2, 0, 0, 0]
    assert [linear(i, 8.0, 7.0, 3, 4) for i in range(7)] == [8, 6, 4, 2, 0, 0, 0]  # no part for lambda_c and i1
    assert linear(500, 10.0, 0.1, 1000, 2000) == 7.5  # 10 * (1 - 500 / 2000)


@pytest.mark.parametrize("name", ["stepwise", "constant", "linear"])
def test_every_schedule_never_rises_and_ends_at_i2(name):
    values = [SCHEDULES[name](i, 10.0, 0.1, 10, 20) for i in range(30)]
    assert values == sorted(values, reverse=True)
    assert [value > 0 for value in values] == [True] * 20 + [False] * 10


def test_schedules_are_the_three_of_the_paper():
    assert list(SCHEDULES.items()) == [("stepwise", stepwise), ("constant", constant), ("linear", linear)]


@pytest.mark.parametrize(
    ("lambda_0", "lambda_c", "i1", "i2", "named"),
    [
        (0.1, 10.0, 1, 2, ["0.1", "10.0", "lambda_c <= lambda_0"]),
        (10.0, -0.1, 1, 2, ["-0.1", "0 <= lambda_c"]),
        (-1.0, -2.0, 1, 2, ["-1.0", "-2.0"]),
        (float("inf"), 0.1, 1, 2, ["inf"]),
        (float("nan"), 0.1, 1, 2, ["nan"]),
        (10.0, float("nan"), 1, 2, ["nan"]),
        (10.0, 0.1, 5, 2, ["i1 is 5", "i2 is 2", "0 <= i1 <= i2"]),
        (10.0, 0.1, -1, 2, ["i1 is -1", "0 <= i1"]),
        (10.0, 0.1, -2, -1, ["i2 is -1"]),
    ],
)
def test_check_schedule_names_what_arrived_and_what_is_allowed(lambda_0, lambda_c, i1, i2, named):
    with pytest.raises(ValueError, match="must satisfy") as error:
        check_schedule(lambda_0, lambda_c, i1, i2)
    assert all(words in str(error.value) for words in named)


@pytest.mark.parametrize("allowed", [(10.0, 0.1, 1000, 2000), (0.0, 0.0, 0, 0), (1.0, 1.0, 5, 5)])
def test_check_schedule_lets_the_limits_pass(allowed):
    assert check_schedule(*allowed) is None
