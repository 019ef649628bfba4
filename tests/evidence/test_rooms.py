"""Copies of rooms are found whatever seed drew them, and only those."""

import gymnasium as gym
import numpy as np
import pytest
from minigrid.core.constants import OBJECT_TO_IDX

from evidence import rooms
from harness.cli import InputError


@pytest.fixture
def env():
    return gym.make("envs:SimpleDoorKey-v0").unwrapped


class Recolored:
    """An environment whose doors and keys have other colours."""

    def __init__(self, env, colors):
        self.env, self.colors = env, colors

    def reset(self, seed):
        self.env.reset(seed=seed)
        self.agent_pos, self.agent_dir, self.grid = self.env.agent_pos, self.env.agent_dir, self

    def encode(self):
        cells = self.env.grid.encode().copy()
        doors_and_keys = np.isin(cells[..., 0], [OBJECT_TO_IDX["door"], OBJECT_TO_IDX["key"]])
        cells[doors_and_keys, 1] = np.array(self.colors)[cells[doors_and_keys, 1]]
        return cells


def test_a_room_is_a_copy_of_itself_alone(env):
    drawn = [rooms.draw_room(env, seed) for seed in range(50)]
    assert len({room.exact for room in drawn}) == 50
    assert [rooms.draw_room(env, seed) for seed in range(50)] == drawn


def test_other_colours_make_another_room_but_for_its_colours(env):
    for seed in range(20):
        here, there = rooms.draw_room(env, seed), rooms.draw_room(Recolored(env, [3, 0, 1, 2, 5, 4]), seed)
        assert here.exact != there.exact
        assert here.colorless == there.colorless


def test_one_colour_for_all_is_another_room(env):
    mixed = gym.make("envs:ColoredDoorKey-v0").unwrapped
    assert rooms.draw_room(mixed, 0).colorless != rooms.draw_room(Recolored(mixed, [0] * 6), 0).colorless


def test_where_the_agent_starts_is_a_part_of_the_room(env):
    env.reset(seed=0)
    turned = Recolored(env, range(6))
    before = rooms.draw_room(turned, 0)
    reset = turned.reset
    turned.reset = lambda seed: (reset(seed), setattr(turned, "agent_dir", (turned.agent_dir + 1) % 4))
    assert rooms.draw_room(turned, 0).colorless != before.colorless


def test_copies_are_counted_each_time_they_are_drawn(env):
    assert rooms.count_copies(env, [1, 3, 5], [5, 7, 5, 9]) == (2, 2)
    assert rooms.count_copies(env, [], [5, 7]) == (0, 0)


def test_the_number_of_seeds_is_checked():
    with pytest.raises(InputError, match="--seeds is 0; it must be from 1 to 1000"):
        rooms.main.__wrapped__(["--seeds", "0"])
