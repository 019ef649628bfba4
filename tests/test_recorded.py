"""The recorded answers of the paper's LLM: a line for every state that can be reached, and its plans."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from doorkey.task import rename_colors
from envs import NUM_ACTIONS, TASKS, describe
from options import OPTION_SETS, make_option
from rollout import evaluation_seeds
from teacher import NO_PLAN, RecordedReplies, Teacher, read_replies

REPLIES = Path(__file__).parents[1] / "replies"


def book(task):
    return read_replies(REPLIES / f"{task}.jsonl")


def reached(task, option_set):
    """Return canonical texts of the states on walks that follow the teacher, random options, and random actions."""
    rng, texts = np.random.default_rng(0), set()
    option = partial(make_option, option_set=option_set)
    nouns = (
        ("{} key", "{} door", "second {} door") if task != "ColoredDoorKey" else ("red key", "blue key", "blue door")
    )
    teacher = Teacher(
        RecordedReplies(REPLIES / f"{task}.jsonl"), describe, option, NUM_ACTIONS, canonicalize=rename_colors
    )
    env = TASKS[task](max_steps=150)
    for seed in range(90):
        memory, _ = env.reset(seed=seed)
        color = env.doors[0].color
        options = [option("explore")]
        options += [option(f"{verb} {noun.format(color)}") for verb in ("go to", "pick up", "drop") for noun in nouns]
        ended, chosen, until = False, options[0], 0
        while not ended:
            text = rename_colors(describe(memory))[0]
            texts.add(text)
            if seed % 3 == 0:  # the teacher
                action = rng.choice(NUM_ACTIONS, p=teacher(memory).policies[0])
            elif seed % 3 == 1 and rng.random() < 0.9:  # options at random, a few steps each
                if env.step_count >= until or chosen.is_done(memory) or not chosen.can_start(memory):
                    chosen, until = options[rng.integers(len(options))], env.step_count + rng.integers(1, 20)
                action = chosen.policy(memory).argmax()
            else:
                action = rng.choice(NUM_ACTIONS, p=[0.15, 0.15, 0.4, 0.2, 0.05, 0.025, 0.025])
            memory, _, terminated, truncated, _ = env.step(action)
            ended = terminated or truncated
    return texts


@pytest.mark.slow
@pytest.mark.parametrize("option_set", OPTION_SETS)
@pytest.mark.parametrize("task", TASKS)
def test_the_book_holds_every_reachable_state_and_no_other(task, option_set):
    assert reached(task, option_set) == set(book(task))


# Rows of the paper's own answers, copied by hand. k, d: the key and the door; 1, 2: the colour named first, second.
ROWS = [
    ("SimpleDoorKey", "observes nothing, and holds nothing", {"explore": 1.0}),
    ("SimpleDoorKey", "observes a red key, and holds nothing",
     {"go to red key, pick up red key": 0.98, "pick up red key": 0.02}),
    ("SimpleDoorKey", "observes nothing, and holds a red key",
     {"explore": 0.68, "go to red door, open red door": 0.22, "explore, go to red door, open red door": 0.04,
      "explore, go to red door": 0.02, "explore, open red door": 0.02, NO_PLAN: 0.02}),
    ("SimpleDoorKey", "observes a red door, and holds a red key",
     {"go to red door, open red door": 0.92, "go to red key, pick up red key, go to red door, open red door": 0.06,
      "explore, go to red door": 0.02}),
    ("ColoredDoorKey", "observes nothing, and holds a red key", {"explore": 0.94, NO_PLAN: 0.06}),
    ("ColoredDoorKey", "observes a red door, and holds a blue key", {"explore": 0.98, "go to blue key": 0.02}),
    ("ColoredDoorKey", "observes a red door, and holds a red key",
     {"go to red door, open red door": 0.72, "open red door": 0.28}),
    ("ColoredDoorKey", "observes a red key, a blue door, and holds a blue key",
     {"drop blue key, go to red key, pick up red key": 0.71, "go to blue door, open blue door": 0.29}),
    ("ColoredDoorKey", "observes a red key, a blue key, a blue door, and holds nothing",
     {"go to blue key, pick up blue key": 0.72, "pick up blue key": 0.24, "go to red key, pick up red key": 0.04}),
    ("DivergedDoorKey", "observes a red door, a second red door, and holds nothing", {"explore": 1.0}),
    ("DivergedDoorKey", "observes a red door, a second red door, and holds a red key",
     {"go to red door, open red door": 0.5, "go to second red door, open second red door": 0.5}),
]  # fmt: skip


@pytest.mark.parametrize(("task", "state", "plans"), ROWS)
def test_recorded_shares_are_those_of_the_papers_teacher(task, state, plans):
    assert book(task)[f"The agent {state}."] == plans


def test_lava_has_the_answers_of_simple():
    assert book("LavaDoorKey") == book("SimpleDoorKey")


@pytest.mark.parametrize("task", TASKS)
def test_recorded_plans_are_plans_and_say_where_they_came_from(task):
    for line in (REPLIES / f"{task}.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        assert record["model"] == "ChatGLM-turbo"
        assert "LLM4Teach" in record["source"]
        assert record["prompt"]
        assert rename_colors(record["state"])[0] == record["state"]
        for plan in record["plans"]:
            for step in plan.split(", "):
                assert step == NO_PLAN or make_option(step).name == step


def test_the_llm_alone_opens_the_door_of_simple():
    replies = RecordedReplies(REPLIES / "SimpleDoorKey.jsonl")
    teacher = Teacher(replies, describe, make_option, NUM_ACTIONS, canonicalize=rename_colors)
    rng, env = np.random.default_rng(0), TASKS["SimpleDoorKey"]()
    returns = []
    for seed in evaluation_seeds(0, 100):
        memory, _ = env.reset(seed=seed)
        ended = False
        while not ended:
            memory, reward, terminated, truncated, _ = env.step(rng.choice(NUM_ACTIONS, p=teacher(memory).policies[0]))
            ended = terminated or truncated
        returns.append(reward)
    assert np.mean(np.array(returns) > 0) >= 0.99
    assert 0.83 < np.mean(returns) < 0.91  # the paper: 0.87
