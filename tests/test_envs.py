"""The four tasks: gymnasium's and MiniGrid's own judgement, the facts of the paper, the state text."""

import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from minigrid.core.actions import Actions
from minigrid.core.constants import COLOR_NAMES, COLOR_TO_IDX, OBJECT_TO_IDX
from minigrid.core.world_object import Key, Wall

from envs import TASKS, describe
from rollout import evaluation_seeds, training_seeds

STEPS = [(1, 0), (0, 1), (-1, 0), (0, -1)]  # east, south, west, north
UNSEEN_CELL = (0, 0, 0, 4)


@pytest.mark.parametrize("task", TASKS)
def test_gymnasium_accepts_the_task(task, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")  # a driver for windows may not get along with torch's compiler
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*WARN")  # what gymnasium's checker finds odd
        check_env(gym.make(f"{task}-v0", render_mode="rgb_array").unwrapped)
    env = gym.make(f"{task}-v0")
    observation, _ = env.reset(seed=1)
    assert env.observation_space.contains(observation)
    assert observation.shape == (10, 10, 4)
    assert env.action_space == gym.spaces.Discrete(7)


@pytest.mark.slow
@pytest.mark.parametrize("module", ["annealing", "envs", "options", "teacher"])
def test_module_stands_alone_and_without_torch(module):
    others = {
        "annealing",
        "doorkey",
        "envs",
        "habitat",
        "harness",
        "llm",
        "navpick",
        "nets",
        "options",
        "ppo",
        "rollout",
        "teacher",
    }
    others |= {"torch", "train"}
    command = f"import sys, {module}; print(*sys.modules)"
    root = Path(__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", command], cwd=root, capture_output=True, text=True, check=True)
    assert module in result.stdout.split()
    assert (others - {module}).isdisjoint(result.stdout.split())


def minigrids_view(env, memory):
    """Write MiniGrid's own 3 x 3 view, turned so that the agent stands at (1, 2) and faces up, into a memory."""
    grid, visible = env.gen_obs_grid()
    view = grid.encode(visible)
    x, y = (int(c) for c in env.agent_pos)
    forward, right = STEPS[env.agent_dir], STEPS[(env.agent_dir + 1) % 4]
    for i in range(3):
        for j in range(3):
            if visible[i, j]:
                ahead, aside = 2 - j, i - 1
                cell = (x + ahead * forward[0] + aside * right[0], y + ahead * forward[1] + aside * right[1])
                if 0 <= cell[0] < 10 and 0 <= cell[1] < 10:
                    memory[cell][:3] = view[i, j]
    memory[:, :, 3] = 4
    memory[x, y, 3] = env.agent_dir


def clutter(env, rng):
    """Put walls and keys on a third of the room's free cells, and forget what was seen."""
    for x in range(1, env.room[0] - 1):
        for y in range(1, env.room[1] - 1):
            if env.grid.get(x, y) is None and (x, y) != tuple(env.agent_pos) and rng.random() < 1 / 3:
                env.grid.set(x, y, Wall() if rng.random() < 2 / 3 else Key("grey"))
    env.memory[:] = UNSEEN_CELL
    return env.gen_obs()


@pytest.mark.slow
@pytest.mark.parametrize("cluttered", [False, True], ids=["the task's rooms", "cluttered rooms"])
@pytest.mark.parametrize("task", TASKS)
def test_memory_adds_up_minigrids_own_views(task, cluttered):
    rng, env = np.random.default_rng(0), TASKS[task](max_steps=250)
    met = {"picked up": 0, "dropped": 0, "carried through": 0, "hidden": 0, "partly hidden": 0}
    for seed in range(40):
        observation, _ = env.reset(seed=seed)
        if cluttered:
            observation = clutter(env, rng)
        expected = np.full((10, 10, 4), UNSEEN_CELL, np.uint8)
        minigrids_view(env, expected)
        assert np.array_equal(observation, expected)
        terminated = truncated = False
        while not (terminated or truncated):
            held, left = env.carrying, tuple(int(c) for c in env.agent_pos)
            action = rng.choice(7, p=[0.15, 0.15, 0.45, 0.15, 0.05, 0.03, 0.02])
            observation, _, terminated, truncated, _ = env.step(action)
            thing = env.grid.get(*left)
            expected[left][:3] = thing.encode() if thing else (OBJECT_TO_IDX["empty"], 0, 0)  # where it has just stood
            minigrids_view(env, expected)
            assert np.array_equal(observation, expected), f"room {seed}, step {env.step_count}"
            met["picked up"] += held is None and env.carrying is not None
            met["dropped"] += held is not None and env.carrying is None
            met["carried through"] += held is not None and tuple(env.agent_pos) != left
            far_row = env.gen_obs_grid()[1][:, 0].sum()
            met["hidden"] += far_row == 0
            met["partly hidden"] += far_row in (1, 2)
    if not cluttered:  # the tasks' rooms have no walls inside: the far row is seen as a whole or not at all
        assert met.pop("partly hidden") == 0
    assert min(met.values()) > 0, met


def test_an_observation_is_not_changed_by_later_steps():
    env = TASKS["SimpleDoorKey"]()
    first, _ = env.reset(seed=1)
    copy = first.copy()
    after, *_ = env.step(Actions.left)
    assert not np.array_equal(after, first)
    assert np.array_equal(first, copy)


@pytest.mark.parametrize("task", TASKS)
def test_reset_forgets(task):
    env = TASKS[task]()
    first, _ = env.reset(seed=5)
    assert np.sum(np.any(first[:, :, :3], axis=-1)) <= 9  # one view
    for action in [Actions.left] * 4:
        env.step(action)
    env.carrying = Key("red")
    assert "holds a red key" in describe(env.gen_obs())
    again, _ = env.reset(seed=5)
    assert np.array_equal(first, again)
    assert env.carrying is None
    assert env.step_count == 0


def before_the_door(task, **settings):
    """The task with the agent in front of its first door, the right key in the hand and no lava."""
    env = TASKS[task](**settings)
    env.reset(seed=3)
    door = env.doors[0]
    (x, y) = next((x, y) for x in range(10) for y in range(10) if env.grid.get(x, y) is door)
    env.agent_dir = next(d for d, (dx, dy) in enumerate(STEPS) if 0 < x - dx < 9 and 0 < y - dy < 9
                         and x - dx < env.room[0] - 1 and y - dy < env.room[1] - 1)  # fmt: skip
    env.agent_pos = (x - STEPS[env.agent_dir][0], y - STEPS[env.agent_dir][1])
    env.grid.set(*env.agent_pos, None)
    env.carrying = Key(door.color)
    return env


@pytest.mark.parametrize(
    ("task", "max_steps", "waits", "expected"),
    [
        ("SimpleDoorKey", None, 0, 0.994),  # 1 - 0.9 * 1 / 150
        ("LavaDoorKey", None, 49, 0.7),  # 1 - 0.9 * 50 / 150
        ("ColoredDoorKey", None, 99, 0.4),  # 1 - 0.9 * 100 / 150
        ("DivergedDoorKey", None, 19, 0.7),  # 1 - 0.9 * 20 / 60
        ("SimpleDoorKey", 9, 4, 0.5),  # 1 - 0.9 * 5 / 9
        ("SimpleDoorKey", 9, 8, 0.1),  # 1 - 0.9 * 9 / 9: the last step still counts, and is no truncation
    ],
)
def test_opening_the_door_ends_the_episode_with_minigrids_reward(task, max_steps, waits, expected):
    env = before_the_door(task, max_steps=max_steps)
    for _ in range(waits):
        assert env.step(Actions.done)[1:4] == (0, False, False)
    _, reward, terminated, truncated, _ = env.step(Actions.toggle)
    assert reward == pytest.approx(expected, abs=1e-12)
    assert isinstance(reward, float)
    assert (terminated, truncated) == (True, False)


def test_either_door_of_diverged_is_an_exit():
    env = before_the_door("DivergedDoorKey")
    env.doors.reverse()
    assert env.step(Actions.toggle)[2]


@pytest.mark.parametrize("held", [None, "red"])
def test_a_door_stays_shut_without_its_key(held):
    env = before_the_door("ColoredDoorKey")
    env.carrying = Key(held) if held else None
    assert env.step(Actions.toggle)[1:4] == (0, False, False)
    assert not env.doors[0].is_open


def test_lava_terminates_without_reward():
    env = TASKS["LavaDoorKey"]()
    env.reset(seed=0)
    lava = next((x, y) for x in range(10) for y in range(10) if getattr(env.grid.get(x, y), "type", "") == "lava")
    env.agent_dir = next(d for d, (dx, dy) in enumerate(STEPS) if env.grid.get(lava[0] - dx, lava[1] - dy) is None)
    env.agent_pos = (lava[0] - STEPS[env.agent_dir][0], lava[1] - STEPS[env.agent_dir][1])
    assert env.step(Actions.forward)[1:4] == (0, True, False)
    assert tuple(env.agent_pos) == lava


@pytest.mark.parametrize(
    ("task", "limit"),
    [("SimpleDoorKey", 150), ("LavaDoorKey", 150), ("ColoredDoorKey", 150), ("DivergedDoorKey", 60)],
)
def test_the_time_limit_truncates_and_does_not_terminate(task, limit):
    env = gym.make(f"{task}-v0")
    env.reset(seed=1)
    ends = [env.step(Actions.left)[1:4] for _ in range(limit)]
    assert ends == [(0, False, False)] * (limit - 1) + [(0, False, True)]
    env = gym.make(f"{task}-v0", max_steps=1)
    env.reset(seed=1)
    assert env.step(Actions.left)[1:4] == (0, False, True)


def survey(task, count=300):
    """What lies where in `count` rooms, each checked for walls and for the agent's place."""
    env, rooms = TASKS[task](), []
    for seed in range(count):
        env.reset(seed=seed)
        width, height = env.room
        things = {}
        for x in range(10):
            for y in range(10):
                thing = env.grid.get(x, y)
                on_wall = x < width and y < height and (x in (0, width - 1) or y in (0, height - 1))
                kind = thing.type if thing else None
                if on_wall:
                    assert kind in ("wall", "door")
                else:
                    assert kind not in ("wall", "door")
                    assert kind is None or (x < width and y < height)
                if kind not in (None, "wall"):
                    things.setdefault(kind, []).append(((x, y), thing))
        for (x, y), door in things["door"]:
            assert (x in (0, width - 1)) != (y in (0, height - 1))  # never in a corner
            assert door.is_locked
            assert not door.is_open
        x, y = env.agent_pos
        assert 0 < x < width - 1
        assert 0 < y < height - 1
        assert env.grid.get(x, y) is None
        rooms.append(((width, height), things, env.agent_dir))
    return rooms


def doorstep(position, room):
    """The one cell from which a door can be opened."""
    x, y = position
    return (min(max(x, 1), room[0] - 2), min(max(y, 1), room[1] - 2))


@pytest.mark.parametrize("task", ["SimpleDoorKey", "LavaDoorKey", "ColoredDoorKey"])
def test_rooms_are_of_every_size_from_5_to_10(task):
    rooms = survey(task)
    for side in (0, 1):
        assert {size[side] for size, *_ in rooms} == set(range(5, 11))
    assert {direction for *_, direction in rooms} == {0, 1, 2, 3}
    walls = set()
    for (width, height), things, _ in rooms:
        (((x, y), _),) = things["door"]
        walls.add((x == 0, x == width - 1, y == 0, y == height - 1))
    assert len(walls) == 4  # one of the four at a time, and each of them


def test_simple_has_a_key_of_the_doors_color():
    rooms = survey("SimpleDoorKey")
    for _, things, _ in rooms:
        assert {kind: len(found) for kind, found in things.items()} == {"door": 1, "key": 1}
        assert things["key"][0][1].color == things["door"][0][1].color
    assert {things["key"][0][1].color for _, things, _ in rooms} == set(COLOR_NAMES)


def test_lava_never_lies_in_front_of_the_door():
    keys_there = 0
    rooms = survey("LavaDoorKey")
    for room, things, _ in rooms:
        assert {kind: len(found) for kind, found in things.items()} == {"door": 1, "key": 1, "lava": 1}
        assert things["key"][0][1].color == things["door"][0][1].color
        step = doorstep(things["door"][0][0], room)
        assert things["lava"][0][0] != step
        keys_there += things["key"][0][0] == step
    assert keys_there > 3  # a thing that may lie there does, now and then
    assert {things["key"][0][1].color for _, things, _ in rooms} == set(COLOR_NAMES)


def test_colored_has_a_blue_door_and_two_keys_never_in_front_of_it():
    for room, things, _ in survey("ColoredDoorKey"):
        assert set(things) == {"door", "key"}
        assert [door.color for _, door in things["door"]] == ["blue"]
        assert sorted(key.color for _, key in things["key"]) == ["blue", "red"]
        assert doorstep(things["door"][0][0], room) not in [position for position, _ in things["key"]]


def test_diverged_has_doors_in_opposite_walls_and_a_key_in_the_middle():
    rooms = survey("DivergedDoorKey")
    pairs, middle = set(), set()
    for room, things, _ in rooms:
        assert room == (10, 10)
        assert {kind: len(found) for kind, found in things.items()} == {"door": 2, "key": 1}
        (position, key), doors = things["key"][0], things["door"]
        assert {door.color for _, door in doors} == {key.color}
        middle.add(position)
        (x1, y1), (x2, y2) = (place for place, _ in doors)
        pairs.add("east and west" if {x1, x2} == {0, 9} else "north and south" if {y1, y2} == {0, 9} else "others")
    assert middle == {(4, 4), (4, 5), (5, 4), (5, 5)}
    assert pairs == {"east and west", "north and south"}
    assert {things["key"][0][1].color for _, things, _ in rooms} == set(COLOR_NAMES)


def remember(things, holds=None):
    """A memory drawn by hand: things {(x, y): "red key"} and the agent at (1, 1)."""
    memory = np.full((10, 10, 4), UNSEEN_CELL, np.uint8)
    memory[:, 0, 0] = OBJECT_TO_IDX["wall"]
    memory[2, 2, 0] = OBJECT_TO_IDX["lava"]
    memory[1, 1] = (OBJECT_TO_IDX["empty"], 0, 0, 2)
    for cell, thing in [*things.items(), *([((1, 1), holds)] if holds else [])]:
        color, noun = thing.split()
        memory[cell][:2] = OBJECT_TO_IDX[noun], COLOR_TO_IDX[color]
    return memory


@pytest.mark.parametrize(
    ("things", "holds", "sentence"),
    [
        ({}, None, "The agent observes nothing, and holds nothing."),
        ({}, "grey key", "The agent observes nothing, and holds a grey key."),
        ({(3, 3): "red key"}, None, "The agent observes a red key, and holds nothing."),
        # keys before doors, wherever they are
        (
            {(3, 0): "red door", (3, 8): "red key"},
            "blue key",
            "The agent observes a red key, a red door, and holds a blue key.",
        ),
        # reading order: line by line, then along the line
        (
            {(8, 2): "blue key", (3, 5): "red key", (4, 5): "green key"},
            None,
            "The agent observes a blue key, a red key, a green key, and holds nothing.",
        ),
        (
            {(0, 7): "red door", (9, 3): "red door"},
            "red key",
            "The agent observes a red door, a second red door, and holds a red key.",
        ),
        # another colour is not a second one, nor does the held key count
        (
            {(3, 3): "red key", (5, 0): "blue door", (0, 5): "red door"},
            "red key",
            "The agent observes a red key, a blue door, a red door, and holds a red key.",
        ),
        (
            {(3, 3): "purple key", (6, 3): "purple key", (0, 5): "yellow door"},
            None,
            "The agent observes a purple key, a second purple key, a yellow door, and holds nothing.",
        ),
    ],
)
def test_describe_word_for_word(things, holds, sentence):
    assert describe(remember(things, holds)) == sentence


def test_describe_tells_a_key_in_the_hand_from_one_on_the_floor():
    env = before_the_door("ColoredDoorKey")
    env.grid.set(*env.front_pos, Key("red"))
    env.carrying = None
    env.memory[:] = UNSEEN_CELL
    assert describe(env.gen_obs()).startswith("The agent observes a red key")
    memory, *_ = env.step(Actions.pickup)
    assert describe(memory) == "The agent observes nothing, and holds a red key."
    memory, *_ = env.step(Actions.drop)
    assert describe(memory) == "The agent observes a red key, and holds nothing."


@pytest.mark.parametrize("task", TASKS)
def test_the_same_seed_draws_the_same_room(task):
    seeds = [*training_seeds(7, 0, 10), *evaluation_seeds(7, 10)]

    def room(env, seed):
        env.reset(seed=seed)
        return (env.grid.encode().tobytes(), tuple(int(c) for c in env.agent_pos), env.agent_dir, env.room)

    first, second = TASKS[task](), TASKS[task]()
    drawn = [room(first, seed) for seed in seeds]
    assert drawn == [room(second, seed) for seed in reversed(seeds)][::-1]  # whatever was drawn before
    assert len(set(drawn)) == len(seeds)
