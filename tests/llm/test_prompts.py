"""The prompts, against the checksums in the shipped books, and by hand."""

import json

import pytest

from doorkey.task import rename_colors
from envs import TASKS
from harness.config import configure
from harness.task import open_task
from llm.prompts import Prompt
from teacher import NO_PLAN
from tests.llm.server import PLAN, STATE


def prompt_of(env):
    return Prompt.of(open_task(configure({"env": env})))


PROMPT = prompt_of("SimpleDoorKey")


@pytest.mark.parametrize("env", TASKS)
def test_the_names_of_minigrids_prompts_are_those_in_the_shipped_books(env):
    assert prompt_of(env).version(letters=False, examples=5) == "stages-5-bc724ef6"
    assert prompt_of(env).version(letters=True, examples=5) == "letters-5-eeada288"


@pytest.mark.parametrize("env", ["habitat-navpick", "habitat-pick", "habitat-nav"])
def test_the_name_of_habitats_prompt_is_that_in_the_shipped_book(env):
    assert prompt_of(env).version(letters=False, examples=5) == "stages-5-36da1700"


def test_another_text_has_another_name():
    changed = type(PROMPT)(**{**vars(PROMPT), "rules": PROMPT.rules.replace("a walled room", "a room")})
    assert changed.version(False, 5) != PROMPT.version(False, 5)
    assert len({PROMPT.version(letters, examples) for letters in (True, False) for examples in range(6)}) == 12


def test_prompts_end_with_the_state_and_examples_follow_their_own_format():
    count = len(PROMPT.examples)
    for messages in (PROMPT.stages(STATE, count), PROMPT.letters(STATE, 0, count)):
        assert [m["role"] for m in messages] == ["user", "assistant"] * count + ["user"]
        assert messages[-1]["content"].startswith(f"State: {STATE}")
    for state, answer in PROMPT.examples:
        assert PROMPT.plan(answer, state) != NO_PLAN
        assert rename_colors(state)[0] != state  # no example is a state that could be asked
    (alone,) = PROMPT.stages(STATE, 0)
    assert alone["content"].startswith(PROMPT.rules)
    assert alone["content"].endswith(f"State: {STATE}")


def test_the_prompt_of_the_robot():
    prompt = prompt_of("habitat-navpick")
    messages = prompt.stages("The robot sees no objects, and holds nothing.", 5)
    assert messages[0]["content"].startswith(prompt.rules)
    assert "key" not in json.dumps(messages)
    for state, answer in prompt.examples:
        assert set(prompt.plan(answer, state).split(", ")) <= {"navigate", "pick"}


@pytest.mark.parametrize(
    ("state", "plans"),
    [
        ("The agent observes nothing, and holds nothing.", ["explore"]),
        (STATE, ["explore", PLAN]),
        ("The agent observes a red door, a second red door, and holds a red key.",
         ["explore", "drop red key", "go to red door, open red door", "go to second red door, open second red door"]),
        ("The agent observes a red key, a blue door, and holds a blue key.",
         ["explore", "drop blue key", PLAN, "go to blue door, open blue door"]),
    ],
)  # fmt: skip
def test_plans_and_their_rotations(state, plans):
    assert PROMPT.rotated_plans(state) == plans
    rotations = [PROMPT.rotated_plans(state, rotation) for rotation in range(len(plans))]
    assert all(sorted(letter) == sorted(plans) for letter in zip(*rotations))  # each plan has had each letter
    assert PROMPT.rotated_plans(state, len(plans)) == plans


def test_examples_of_the_letters_prompt_hand_worked():
    messages = PROMPT.letters(STATE, 1, len(PROMPT.examples))
    # The right choices are number 1 of 4, 2 of 3, 1 of 4, 1 of 2, 0 of 2, where example n has its list turned by n.
    assert [m["content"] for m in messages if m["role"] == "assistant"] == ["B", "B", "D", "A", "A"]
    assert messages[-1]["content"] == f"State: {STATE}\nA. {PLAN}\nB. explore"
