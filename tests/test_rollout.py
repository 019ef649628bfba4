"""Rollouts on an environment that counts down: order, turns, where they stop; the seeds of episodes."""

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from rollout import Decision, LocalEnv, evaluate, evaluation_seeds, is_over, rollout, training_seeds


class CountingRoom:
    """An episode lasts as many steps as its seed says; the action is the reward."""

    def reset(self, *, seed):
        self.left = seed
        return np.full(1, seed, np.float32), {}

    def step(self, action):
        self.left -= 1
        return np.full(1, self.left, np.float32), float(action), self.left == 0, False, {"success": self.left % 2 == 0}


def test_two_rooms_play_five_episodes():
    together = []

    def act(observations):
        together.append(len(observations))
        return [Decision(1) for _ in observations]

    trajectories = rollout([[LocalEnv(CountingRoom()), LocalEnv(CountingRoom())]], [3, 1, 2, 4, 1], act)
    assert [len(trajectory) for trajectory in trajectories] == [3, 1, 2, 4, 1]
    assert [t[0].observation.item() for t in trajectories] == [3, 1, 2, 4, 1]
    assert together == [2, 2, 2, 2, 1, 1, 1]
    begun = rollout([[LocalEnv(CountingRoom())]], [3, 1], act, lambda: True)
    assert [len(trajectory) for trajectory in begun] == [1]  # the second has not begun


def test_the_student_decides_for_one_group_while_the_other_is_stepped():
    waiting = set()

    class Process(LocalEnv):
        def submit(self, method, **arguments):
            assert self not in waiting
            waiting.add(self)
            super().submit(method, **arguments)

        def result(self):
            waiting.remove(self)
            return super().result()

    def room():
        return Process(CountingRoom())

    decided = []

    def act(observations):
        decided.append((len(observations), len(waiting)))
        return [Decision(1) for _ in observations]

    trajectories = rollout([[room(), room()], [room()]], [3, 1, 2, 4, 1], act)
    assert [len(trajectory) for trajectory in trajectories] == [3, 1, 2, 4, 1]
    # A group of two rooms and one of one; the latter's last episode is over first.
    assert decided == [(2, 0), (1, 2), (2, 1), (1, 2), (2, 1), (1, 2), (1, 1), (1, 0)]


@pytest.mark.parametrize(
    ("info", "reward", "success"),
    [({"success": True}, -1.0, True), ({"success": False}, 1.0, False), ({}, 0.5, True), ({}, 0.0, False)],
)
def test_an_episode_is_a_success_where_the_environment_says_so_or_the_last_reward_is_above_0(info, reward, success):
    class OneStep:
        def reset(self, *, seed):
            return seed, {}

        def step(self, action):
            return 0, reward, False, True, info

    ((step,),) = rollout([[LocalEnv(OneStep())]], [5], lambda observations: [Decision(0) for _ in observations])
    assert is_over([step])
    assert (step.observation, step.truncated, bool(step.success)) == (5, True, success)


def test_training_seeds_are_even_and_evaluation_seeds_odd():
    # run 2 starts with room 100,000,000 + 2 * 1,000,000, whose seed is 2 * 102,000,000 + 1
    assert evaluation_seeds(2, 3) == [204_000_001, 204_000_003, 204_000_005]
    # run 1 starts at 2 * 2^32 = 8589934592; its rooms 3 and 4 are 2 * 3 and 2 * 4 further
    assert training_seeds(1, 3, 2) == [8589934598, 8589934600]
    for run in range(5):
        assert {seed % 2 for seed in training_seeds(run, 0, 1000)} == {0}
        assert {seed % 2 for seed in evaluation_seeds(run, 1000)} == {1}


def test_evaluation_seeds_differ_between_runs_and_go_through_a_hundred_episodes_in_turn():
    runs = [evaluation_seeds(run, 1000) for run in range(6)]
    assert len({seed for run in runs for seed in run}) == 6 * 1000
    for run in runs:
        assert [seed // 2 % 100 for seed in run] == 10 * list(range(100))  # as habitat-navpick chooses its episode
        assert max(run) < 2**31  # what Habitat's starts are drawn from


def test_an_evaluation_episode_by_episode():
    class Task(NamedTuple):
        config: Any = SimpleNamespace(seed=0, episodes=3)

        def make_envs(self, count, split):
            return [[LocalEnv(EndlessRoom()) for _ in range(count)]]

    class EndlessRoom(CountingRoom):
        """Ends after two steps for every other seed, and is cut off after three for the others."""

        def reset(self, *, seed):
            super().reset(seed=2 if seed // 2 % 2 else 3)
            self.ends = seed // 2 % 2
            return np.zeros(1), {}

        def step(self, action):
            observation, reward, over, *_ = super().step(action)
            return observation, reward, over and self.ends, over and not self.ends, {"success": over and self.ends}

    played = evaluate(Task(), lambda observations: [Decision(0.5) for _ in observations])
    assert played == [
        (200_000_001, 1.5, 3, False, True),
        (200_000_003, 1.0, 2, True, False),
        (200_000_005, 1.5, 3, False, True),
    ]


def test_training_seeds_differ_within_and_between_runs():
    runs = [training_seeds(run, 0, 5000) for run in range(6)]
    assert len({seed for run in runs for seed in run}) == 6 * 5000
    assert runs[2][:30] == [seed for i in range(3) for seed in training_seeds(2, 10 * i, 10)]  # batches go on
