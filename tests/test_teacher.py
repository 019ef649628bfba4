"""Eq. (1) against numbers worked by hand; reply books read, and refused; the other teachers."""

import json
from pathlib import Path

import numpy as np
import pytest

from doorkey.task import rename_colors
from envs import NUM_ACTIONS
from harness.config import configure
from harness.task import open_task
from options import make_option
from teacher import (
    EveryOption,
    OptionShapeError,
    RecordedReplies,
    Teacher,
    UnknownStateError,
    read_replies,
    stack_policies,
)

REPLIES = Path(__file__).parents[1] / "replies"


class Toy:
    """An option that follows fixed probabilities whatever is observed."""

    def __init__(self, probabilities, can_start=True, is_done=False):
        self.probabilities, self.starts, self.ends = np.array(probabilities, np.float32), can_start, is_done

    def can_start(self, _):
        return self.starts

    def policy(self, _):
        return self.probabilities

    def is_done(self, _):
        return self.ends


TOYS = {
    "east": Toy([1, 0, 0, 0]),
    "north": Toy([0, 1, 0, 0]),
    "either": Toy([0, 0, 0.5, 0.5]),
    "finished": Toy([0, 0, 0, 1], is_done=True),
    "absent": Toy([0, 0, 0, 1], can_start=False),
}


def toy_option(name):
    if name not in TOYS:
        raise ValueError(name)
    return TOYS[name]


def toy_teacher(shares, mode="soft"):
    return Teacher(lambda _: shares, lambda _: "the state", toy_option, 4, mode)


def test_eq1_mixture_hand_worked():
    teacher = toy_teacher({"east": 0.2, "north": 0.3, "either": 0.5})
    # 0.2 * (1, 0, 0, 0) + 0.3 * (0, 1, 0, 0) + 0.5 * (0, 0, 1/2, 1/2)
    mixture = teacher(None).policies
    np.testing.assert_allclose(mixture, [[0.2, 0.3, 0.25, 0.25]], atol=1e-7)
    assert (mixture.shape, mixture.dtype) == ((1, 4), np.float32)


def test_eq1_the_first_option_that_is_not_finished_acts():
    teacher = toy_teacher({"east, north": 0.1, "finished, north, east": 0.3, " finished ,finished,  either": 0.4,
                           "north": 0.2})  # fmt: skip
    # east 0.1; north 0.3 + 0.2, in two wordings; either 0.4, with half of it for each of its actions
    np.testing.assert_allclose(teacher(None).policies, [[0.1, 0.5, 0.2, 0.2]], atol=1e-7)
    assert teacher.option_probabilities(None) == {
        "east": pytest.approx(0.1), "north": pytest.approx(0.5), "either": pytest.approx(0.4),
    }  # fmt: skip
    assert not teacher.invalid_plans


def test_eq1_invalid_plans_are_counted_and_their_share_spread():
    teacher = toy_teacher({"sing, east": 0.1, "absent, east": 0.2, "finished, finished": 0.1, "north": 0.45,
                           "finished, either": 0.15})  # fmt: skip
    # 0.1 + 0.2 + 0.1 cannot be followed, 0.6 is left: north 0.45 / 0.6 = 3/4, either 0.15 / 0.6 = 1/4
    np.testing.assert_allclose(teacher(None).policies, [[0, 0.75, 0.125, 0.125]], atol=1e-7)
    teacher(None)
    assert teacher.invalid_plans == {"sing, east": 2, "absent, east": 2, "finished, finished": 2}
    assert teacher.pop_statistics()["invalid_share"] == pytest.approx(0.4)


def test_eq1_no_advice_when_nothing_is_valid():
    teacher = toy_teacher({"sing": 0.3, "absent": 0.7})
    np.testing.assert_array_equal(teacher(None).policies, [[0.25] * 4])  # what acts where the teacher plays alone
    assert teacher(None).prior == 0  # masked in the loss
    assert teacher.option_probabilities(None) == {}
    statistics = teacher.pop_statistics()
    assert statistics["invalid_share"] == pytest.approx(1)
    assert statistics["no_advice_share"] == 1


def test_eq1_follows_the_observation():
    # Done from 3 on, can start from 1 on: the same plans give another mixture in another state with the same text.
    class Counting(Toy):
        def can_start(self, observation):
            return observation >= 1

        def is_done(self, observation):
            return observation >= 3

    options = {"count": Counting([1, 0]), "wait": Toy([0, 1])}
    teacher = Teacher(lambda _: {"count, wait": 0.75, "wait": 0.25}, lambda _: "the state", options.__getitem__, 2)
    np.testing.assert_allclose(teacher(0).policies, [[0, 1]])  # count cannot start: its share falls to wait
    np.testing.assert_allclose(teacher(1).policies, [[0.75, 0.25]])
    np.testing.assert_allclose(teacher(3).policies, [[0, 1]])  # count is finished: wait acts in both plans
    assert teacher.invalid_plans == {"count, wait": 1}


def test_pop_statistics_is_the_mean_since_it_was_last_asked():
    teacher = Teacher(lambda state: {"sing": 0.5, "east": 0.5} if state == "odd" else {"east": 1.0},
                      lambda number: "odd" if number % 2 else "even", toy_option, 4)  # fmt: skip
    for number in (1, 2, 4, 6):
        teacher(number)
    assert teacher.pop_statistics()["invalid_share"] == pytest.approx(0.125)  # (0.5 + 0 + 0 + 0) / 4
    assert teacher.pop_statistics()["invalid_share"] == 0  # nothing asked since
    teacher(1)
    assert teacher.pop_statistics()["invalid_share"] == pytest.approx(0.5)


def test_teacher_entropy_hand_worked():
    sure, torn = toy_teacher({"east": 1.0}), toy_teacher({"east": 0.375, "north": 0.375, "sing": 0.25})
    sure(None)
    torn(None)
    assert sure.pop_statistics() == {"invalid_share": 0, "teacher_entropy": 0, "no_advice_share": 0}
    # what can be followed are east and north, 0.375 / 0.75 = 1/2 each: log 2
    assert torn.pop_statistics() == {
        "invalid_share": 0.25, "teacher_entropy": pytest.approx(np.log(2)), "no_advice_share": 0,
    }  # fmt: skip


def test_hard_mode_follows_the_most_frequent_plan_only():
    shares = {"east": 0.2, "either": 0.5, "north": 0.3}
    np.testing.assert_allclose(toy_teacher(shares, "hard")(None).policies, [[0, 0, 0.5, 0.5]])
    # The plan is chosen, not the option: north acts in 0.3 + 0.3 of the answers, but either's plan is the commonest.
    shares = {"finished, north": 0.3, "either": 0.4, "north": 0.3}
    np.testing.assert_allclose(toy_teacher(shares, "hard")(None).policies, [[0, 0, 0.5, 0.5]])
    np.testing.assert_allclose(toy_teacher(shares, "soft")(None).policies, [[0, 0.6, 0.2, 0.2]], atol=1e-7)


def test_sampled_mode_follows_one_option_drawn_anew_at_each_call():
    drawn, given = iter([1, 0, 2]), []

    def draw(shares):
        given.append(shares)
        return next(drawn)

    shares = {"east": 0.375, "finished, north": 0.1875, "north": 0.1875, "either": 0.15, "sing": 0.1}
    teacher = Teacher(lambda _: shares, lambda _: "the state", toy_option, 4, "sampled", draw=draw)
    policies = [teacher(None).policies.tolist() for _ in range(3)]
    assert policies == [[[0, 1, 0, 0]], [[1, 0, 0, 0]], [[0, 0, 0.5, 0.5]]]
    assert given == 3 * [pytest.approx([0.375 / 0.9, 0.375 / 0.9, 0.15 / 0.9])]  # of the options that can act
    torn = -2 * 5 / 12 * np.log(5 / 12) - 1 / 6 * np.log(1 / 6)  # before the draw
    assert teacher.pop_statistics()["teacher_entropy"] == pytest.approx(torn)


def test_sampled_mode_is_on_average_the_mixture():
    shares = {"east": 0.2, "north": 0.3, "either": 0.5}
    sampled = np.mean([toy_teacher(shares, "sampled")(None).policies for _ in range(4000)], axis=0)
    np.testing.assert_allclose(sampled, toy_teacher(shares)(None).policies, atol=5 * 0.5 / 4000**0.5)  # 5 deviations


def test_sampled_mode_draws_nothing_where_nothing_can_be_followed():
    teacher = Teacher(lambda _: {"absent": 1.0}, lambda _: "the state", toy_option, 4, "sampled", draw=None)
    assert teacher(None).prior == [0]


def test_the_llm_is_asked_with_renamed_colors_and_its_plan_named_back():
    asked, made = [], []

    def ask(state):
        asked.append(state)
        return {"drop blue key, go to red key": 0.5, "explore": 0.5}

    def make(name):
        made.append(name)
        return Toy([1, 0])

    teacher = Teacher(ask, lambda text: text, make, 2, canonicalize=rename_colors)
    teacher("The agent observes a blue key, and holds a red key.")
    teacher("The agent observes a blue key, and holds a red key.")
    assert asked == ["The agent observes a red key, and holds a blue key."]  # the same state is asked once
    assert made == ["drop red key", "go to blue key", "explore"]


def test_a_color_that_the_state_does_not_name_is_not_taken_for_one_that_it_does():
    # The LLM reads "a red key" and answers about a blue one that is not there; the key in the room is in fact blue.
    present, absent = Toy([1, 0]), Toy([0, 1], can_start=False)
    teacher = Teacher(lambda _: {"go to blue key": 0.5, "go to red key": 0.5}, lambda _: "a blue key",
                      lambda name: present if name == "go to blue key" else absent, 2,
                      canonicalize=rename_colors)  # fmt: skip
    np.testing.assert_allclose(teacher(None).policies, [[1, 0]])
    assert sum(teacher.invalid_plans.values()) == 1


def write(tmp_path, *lines):
    path = tmp_path / "book.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


GOOD = '{"state": "s", "plans": {"explore": 1.0}}'


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"state": "t", "plans"', "JSONDecodeError"),
        ("not JSON", "JSONDecodeError"),
        ('{"plans": {"explore": 1.0}}', "KeyError('state')"),
        ('{"state": "t"}', "KeyError('plans')"),
        ('{"state": "t", "plans": ["explore"]}', "AttributeError"),
        ('{"state": "t", "plans": {"explore": "often"}}', "often"),
        ('{"state": "t", "plans": {"explore": null}}', "TypeError"),
        ('["t", {"explore": 1.0}]', "TypeError"),
        ('{"state": 3, "plans": {"explore": 1.0}}', "state 3 is not a text"),
        ('{"state": "t", "plans": {}}', "must be positive and add up to 1"),
        ('{"state": "t", "plans": {"explore": 0.6, "open red door": 0.3}}', "add up to 1"),
        ('{"state": "t", "plans": {"explore": 0.6, "open red door": 0.41}}', "add up to 1"),
        ('{"state": "t", "plans": {"explore": 1.5, "open red door": -0.5}}', "must be positive"),
        ('{"state": "t", "plans": {"explore": 1.0, "open red door": 0}}', "must be positive"),
        ('{"state": "t", "plans": {"explore": NaN}}', "add up to 1"),
    ],
)
def test_read_replies_names_file_and_line(tmp_path, line, says):
    path = write(tmp_path, GOOD, "", line, "")
    with pytest.raises(ValueError, match="line 3: ") as error:
        read_replies(path)
    assert str(error.value).startswith(str(path))
    assert says in str(error.value)


@pytest.mark.parametrize("lines", [(), ("", "  ")])
def test_read_replies_of_nothing_names_the_file(tmp_path, lines):
    path = write(tmp_path, *lines)
    with pytest.raises(ValueError, match="holds no answers") as error:
        read_replies(path)
    assert str(path) in str(error.value)


def test_read_replies_averages_the_lines_of_a_state(tmp_path):
    other = '{"state": "s", "plans": {"explore": 0.5, "open red door": 0.5}}'
    assert read_replies(write(tmp_path, GOOD, other, "")) == {"s": {"explore": 0.75, "open red door": 0.25}}


def test_read_replies_of_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl"):
        read_replies(tmp_path / "none.jsonl")


def test_read_replies_allows_rounding_and_blank_lines(tmp_path):
    thirds = json.dumps({"state": "t", "plans": {"a": 0.3333333, "b": 0.3333333, "c": 0.3333333}, "model": "m"})
    assert read_replies(write(tmp_path, "", GOOD, "", thirds, "")) == {
        "s": {"explore": 1.0},
        "t": {"a": 0.3333333, "b": 0.3333333, "c": 0.3333333},
    }


def test_an_unrecorded_state_is_an_error_that_names_it_and_the_file(tmp_path):
    path = write(tmp_path, GOOD)
    assert RecordedReplies(path)("s") == {"explore": 1.0}
    teacher = Teacher(
        RecordedReplies(path), lambda _: "a grey key", make_option, NUM_ACTIONS, canonicalize=rename_colors
    )
    with pytest.raises(UnknownStateError) as error:
        teacher(None)
    assert str(path) in str(error.value)
    assert "'a red key'" in str(error.value)  # as it is looked up
    example = str(error.value)[str(error.value).index("{") :]
    path.write_text(example)  # the line it proposes is one that can be read
    assert RecordedReplies(path)("a red key")


def test_a_silent_teacher_says_nothing_in_an_unknown_state_and_tells_of_it(tmp_path):
    told = []
    teacher = Teacher(RecordedReplies(write(tmp_path, GOOD)), str, lambda _: Toy([1, 0]), 2,
                      unknown_state="silent", on_unknown=told.append)  # fmt: skip
    for state in ("s", "grey", "grey", "t"):
        advice = teacher(state)
        assert (advice.policies.shape, advice.policies.dtype) == ((1, 2), np.float32)
        assert advice.prior.tolist() == [state == "s"]
    assert teacher.option_probabilities("grey") == {}
    assert told == ["grey", "t"]  # each state once
    assert teacher.pop_statistics()["no_advice_share"] == pytest.approx(4 / 5)


def test_policies_that_do_not_fit_are_named():
    assert stack_policies([TOYS["east"], TOYS["either"]], None, 4).tolist() == [[1, 0, 0, 0], [0, 0, 0.5, 0.5]]
    for options in ([TOYS["east"], Toy([1, 0])], [Toy([1, 0])]):
        with pytest.raises(OptionShapeError, match=r"\(2,\).*must be of shape \(4,\)"):
            stack_policies(options, None, 4)


def test_every_option_advises_for_itself():
    toys = {"go red": Toy([1, 0, 0, 0]), "drop red": TOYS["finished"], "open red": TOYS["absent"]}
    every = EveryOption(lambda state: [f"{verb} {state}" for verb in ("go", "drop", "open")],
                        lambda _: "red", toys.__getitem__, 4)  # fmt: skip
    # prior 0 for the one that has ended and the one that cannot start
    advice = every(None)
    np.testing.assert_array_equal(advice.policies, [[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]])
    assert advice.prior.tolist() == [1, 0, 0]
    assert every.pop_statistics() == {}


def test_every_option_in_a_room():
    task = open_task(configure({"env": "SimpleDoorKey"}))
    every = EveryOption(task.name_options, task.describe, task.make_option, task.num_actions)
    env = task.make_env()
    memory, _ = env.reset(seed=0)
    memory[:, :, :3] = env.grid.encode()
    memory[tuple(env.agent_pos)][:3] = (1, 0, 0)
    advice = every(memory)
    assert (advice.policies.shape, advice.policies.dtype) == ((6, NUM_ACTIONS), np.float32)
    # Everything is seen and nothing held: explore and drop have nothing to do, the other four have.
    assert advice.prior.tolist() == [0, 1, 1, 0, 1, 1]
    memory[:, :, :3] = 0
    memory[tuple(env.agent_pos)][:3] = (1, 0, 0)
    assert every(memory).prior.tolist() == [1, 0, 0, 0, 0, 0]  # nothing is seen: only explore can start
