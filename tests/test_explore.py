"""Explore, in both option sets: it sees all that can be reached, by the nearest views."""

import numpy as np
import pytest
from minigrid.core.actions import Actions
from minigrid.core.constants import OBJECT_TO_IDX
from minigrid.core.world_object import Key, Lava
from rooms import EAST, NORTH, SOUTH, WEST, brute_force, draw, follow, reachable, reveal, sees, walkable

from envs import TASKS, SimpleDoorKeyEnv
from options import OPTION_SETS, UNSEEN, make_option


@pytest.mark.parametrize("option_set", OPTION_SETS)
@pytest.mark.parametrize("task", TASKS)
def test_explore_sees_everything_reachable_and_ends(task, option_set):
    env = TASKS[task](max_steps=10_000)
    explore, burnt = make_option("explore", option_set), 0
    for seed in range(120):
        env.reset(seed=seed)
        expected = reachable(env, walkable(option_set))
        _, ended = follow(env, explore)
        burnt += ended
        assert ended or expected <= sees(env), f"room {seed}"
    if task == "LavaDoorKey" and option_set == "paper":
        assert burnt > 5  # it walks into the lava
    else:
        assert burnt == 0


@pytest.mark.slow
@pytest.mark.parametrize("carrying", [None, Key("red")], ids=["free hands", "full hands"])
@pytest.mark.parametrize("option_set", OPTION_SETS)
def test_explore_sees_everything_reachable_behind_obstacles(option_set, carrying):
    rng = np.random.default_rng(1)
    obstacles = [lambda: Key("blue")] if option_set == "paper" else [lambda: Key("blue"), Lava]
    env, shut_off = SimpleDoorKeyEnv(max_steps=10_000), 0
    for seed in range(200):
        env.reset(seed=seed)
        for _ in range(rng.integers(1, 12)):
            if np.sum(env.grid.encode()[: env.room[0], : env.room[1], 0] == OBJECT_TO_IDX["empty"]) > 2:
                env.place_obj(obstacles[rng.integers(len(obstacles))](), (0, 0), env.room)
        env.carrying = carrying
        env.memory[:] = (0, 0, 0, 4)
        env.gen_obs()
        expected = reachable(env, set())
        _, ended = follow(env, make_option("explore", option_set))
        assert not ended
        assert expected <= sees(env), f"room {seed}"
        shut_off += len(expected) < env.room[0] * env.room[1] - 4  # corners lie beside no free cell
    assert shut_off > 5


@pytest.mark.parametrize("option_set", OPTION_SETS)
@pytest.mark.parametrize("task", TASKS)
def test_explore_goes_on_with_a_key_in_the_hand(task, option_set):
    env = TASKS[task](max_steps=10_000)
    for seed in range(40):
        env.reset(seed=seed)
        (x, y) = next((x, y) for x in range(10) for y in range(10) if getattr(env.grid.get(x, y), "type", "") == "key")
        env.carrying = env.grid.get(x, y)
        env.grid.set(x, y, None)
        env.memory[:] = (0, 0, 0, 4)
        expected = reachable(env, walkable(option_set))
        _, ended = follow(env, make_option("explore", option_set))
        assert ended or expected <= sees(env), f"room {seed}"
        assert not ended or (task, option_set) == ("LavaDoorKey", "paper")


@pytest.mark.parametrize(
    ("direction", "expected"),
    [(EAST, Actions.forward), (SOUTH, Actions.forward), (WEST, Actions.left), (NORTH, Actions.right)],
)
@pytest.mark.parametrize("option_set", OPTION_SETS)
def test_explore_turns_to_where_the_unseen_lies(option_set, direction, expected):
    # In the north-west corner of an empty room the unseen lies to the east and to the south.
    env = draw("####### #A....# #.....# #.....# #######", direction)
    assert make_option("explore", option_set).policy(env.gen_obs()).argmax() == expected


@pytest.mark.parametrize(
    ("task", "option_set"),
    [("SimpleDoorKey", "paper"), ("ColoredDoorKey", "paper"), ("ColoredDoorKey", "repaired"),
     ("LavaDoorKey", "repaired")],
)  # fmt: skip
def test_explore_goes_to_the_nearest_view_of_an_unseen_cell(task, option_set):
    env, rng, sought = TASKS[task](max_steps=10_000), np.random.default_rng(3), 0
    for seed in range(80):
        env.reset(seed=seed)
        reveal(env)
        cells = [(x, y) for x in range(10) for y in range(10)]
        free = {(x, y) for x, y in cells if env.grid.get(x, y) is None and x < env.room[0] and y < env.room[1]}
        walked = {(x, y) for x, y in free & reachable(env, set()) if (x, y) != tuple(env.agent_pos)}
        hidden = sorted(walked)[rng.integers(len(walked))]
        env.memory[hidden] = (UNSEEN, 0, 0, 4)
        pose = (*(int(c) for c in env.agent_pos), env.agent_dir)

        def shows_it(x, y, direction, hidden=hidden):  # by MiniGrid's own visibility
            env.agent_pos, env.agent_dir = (x, y), direction
            at = env.relative_coords(*hidden)
            return at is not None and env.gen_obs_grid()[1][at]

        expected = brute_force(free, pose, shows_it)
        env.agent_pos, env.agent_dir = pose[:2], pose[2]
        actions, _ = follow(env, make_option("explore", option_set))
        assert len(actions) == expected, f"room {seed}"
        sought += expected > 0
    assert sought > 40


def test_explore_is_done_at_once_when_nothing_is_unseen():
    env = draw("##### #A..# #...# #...# #####", EAST, see_all=True)
    for option_set in OPTION_SETS:
        assert make_option("explore", option_set).is_done(env.gen_obs())
        assert make_option("explore", option_set).policy(env.gen_obs()).argmax() == Actions.done
