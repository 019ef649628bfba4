"""The four MiniGrid tasks as train.py sees them: what they make, their options' names, the renaming of colours."""

from itertools import permutations

import numpy as np
import pytest

from doorkey.task import COLORS, rename_colors
from envs import TASKS, describe
from harness.cli import InputError
from harness.config import configure
from harness.task import open_task


@pytest.mark.parametrize("name", TASKS)
def test_the_task_makes_what_it_says(name):
    task = open_task(configure({"env": name}))
    ((first, second),) = task.make_envs(2, "train")  # one group
    assert first.env is not second.env
    observation, _ = first.env.reset(seed=1)
    assert isinstance(first.env, TASKS[name])
    assert task.describe(observation) == describe(observation)
    assert task.num_actions == first.env.action_space.n == 7
    assert task.encode([observation, observation]).dtype == np.uint8
    picture = task.picture(first, observation)
    assert (picture.shape, picture.dtype) == ((240, 240, 3), np.uint8)
    for option in task.name_options("The agent observes a purple key, and holds nothing."):
        assert task.make_option(option).name == option
        assert "{}" not in option


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SimpleDoorKey", ["explore", "go to grey key", "pick up grey key", "drop grey key", "go to grey door",
                           "open grey door"]),
        ("ColoredDoorKey", ["explore", "go to blue key", "pick up blue key", "drop blue key", "go to red key",
                            "pick up red key", "drop red key", "go to blue door", "open blue door"]),
        ("DivergedDoorKey", ["explore", "go to grey key", "pick up grey key", "drop grey key", "go to grey door",
                             "open grey door", "go to second grey door", "open second grey door"]),
    ],
)  # fmt: skip
def test_options_of_the_baseline_are_named_after_the_rooms_color(name, options):
    assert open_task(configure({"env": name})).name_options("The agent observes a grey door, a red key") == options


def test_a_task_that_is_not_there():
    assert set(TASKS) == {"SimpleDoorKey", "LavaDoorKey", "ColoredDoorKey", "DivergedDoorKey"}
    with pytest.raises(InputError, match=r"'NoDoorKey'; choose from SimpleDoorKey, LavaDoorKey"):
        open_task(configure({"env": "NoDoorKey"}))


def test_rename_colors_in_order_of_appearance():
    text = "The agent observes a grey key, a red key, a grey door, and holds a green key."
    renamed, restore = rename_colors(text)
    assert renamed == "The agent observes a red key, a blue key, a red door, and holds a green key."
    assert restore("drop green key, go to second red key") == "drop green key, go to second grey key"  # the way back
    assert restore("open blue door") == "open red door"
    assert restore(renamed) == text
    unchanged = "The bored agent observes nothing reddish, and holds a greyhound."  # whole words only
    assert rename_colors(unchanged)[0] == unchanged


def test_rename_colors_makes_permutations_equal():
    template = "The agent observes a {0} key, a {1} key, a {0} door, and holds a {2} key."
    renamed = {rename_colors(template.format(*colors))[0] for colors in permutations(COLORS, 3)}
    assert renamed == {template.format("red", "blue", "green")}
    assert rename_colors(template.format("red", "red", "blue"))[0] not in renamed  # equal colours stay equal
