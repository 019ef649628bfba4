"""A continuous task: touch two points in order. Try it: python train.py --env examples/reach.py:Reach."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

COLORS = ("red", "blue")
SPEED, RADIUS, LIMIT = 0.15, 0.12, 60  # of a step; of a point; most steps


class ReachEnv(gym.Env):
    """A hand in a square of side 2; to touch the second point before the first ends the episode without a reward."""

    observation_space = gym.spaces.Box(-2, 2, (8,), np.float32)  # the ways to red and blue; hand, order, what is done
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    render_mode = "rgb_array"

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        """Draw hand and points, none of them touching another, and the order."""
        super().reset(seed=seed)
        places = self.np_random.permutation(9)[:3]  # cells of a 3 x 3 grid, so that none touches another
        corners = np.stack([places // 3, places % 3], 1) * 0.6 - 0.8
        self.hand, *self.points = corners + self.np_random.uniform(0, 0.4, (3, 2))
        self.first, self.touched, self.steps = int(self.np_random.integers(2)), False, 0
        return self.observe(), {}

    def observe(self) -> np.ndarray:
        """Return what the student sees."""
        ways = [number for point in self.points for number in point - self.hand]
        return np.array([*ways, *self.hand, self.first, self.touched], np.float32)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Move the hand; the reward is 1 for both points in order, less for every step that it took."""
        self.hand = np.clip(self.hand + SPEED * np.clip(action, -1, 1), -1, 1)
        self.steps += 1
        near = [bool(np.linalg.norm(self.hand - point) < RADIUS) for point in self.points]
        success, failed = (near[1 - self.first] and self.touched == done for done in (True, False))
        self.touched = self.touched or near[self.first]
        reward = success * (1 - 0.5 * self.steps / LIMIT)
        return self.observe(), reward, failed or success, self.steps >= LIMIT, {"success": success}

    def render(self) -> np.ndarray:
        """Return a picture of 120 x 120: the points in their colours, the hand in black."""
        picture, (rows, columns) = np.full((120, 120, 3), 255, np.uint8), np.mgrid[-1:1:120j, -1:1:120j]
        for (x, y), color in zip([*self.points, self.hand], ((220, 0, 0), (0, 0, 220), (0, 0, 0))):
            picture[np.hypot(columns - x, rows - y) < RADIUS] = color
        return picture


class Touch(NamedTuple):
    """Move straight to a point; a Gaussian over the hand's motion. It ends when the first point was touched."""

    color: int
    can_start: Any = lambda observation: True  # at any time

    def policy(self, observation: np.ndarray) -> np.ndarray:
        """Return means and standard deviations, (2, 2): full speed, slower in the last steps."""
        way = observation[2 * self.color : 2 * self.color + 2]
        return np.stack([way / max(np.abs(way).max(), 2 * SPEED), np.full(2, 0.2)])

    def is_done(self, observation: np.ndarray) -> bool:
        """Return whether this point comes first and was touched; after the second one the episode is over."""
        return bool(observation[6] == self.color and observation[7])


class Reach:
    """Touch both points in order."""

    option_names = ("touch red", "touch blue")
    rules = "You guide a hand to a red and a blue point. They must be touched in the order that the state tells."
    option_help = "Options: touch red; touch blue."
    examples = (
        ("Still to be touched: red, then blue.",
         "Scene: both are left.\nReasoning: Red comes first.\nDecision: touch red, touch blue"),
        ("Still to be touched: red.", "Scene: red is left.\nReasoning: Only red is left.\nDecision: touch red"),
    )  # fmt: skip
    defaults = {"iterations": 120, "episodes": 200, "i1": 30, "i2": 70, "num_trajectories": 20}
    defaults |= {"epochs": 10, "minibatch_size": 128}

    def make_env(self, render_mode: str | None = None) -> gym.Env:
        """Return the environment above, which can always draw."""
        return ReachEnv()

    def describe(self, observation: np.ndarray) -> str:
        """Return what is left to do: four texts."""
        first, touched = int(observation[6]), bool(observation[7])
        return f"Still to be touched: {COLORS[1 - first] if touched else ', then '.join(COLORS[:: 1 - 2 * first])}."

    def states(self) -> list[str]:
        """Return all four texts."""
        return [self.describe([0] * 6 + [first, touched]) for first in (0, 1) for touched in (0, 1)]

    def make_option(self, name: str) -> Touch:
        """Return the option of that name."""
        return Touch(COLORS.index(name.replace("touch ", "", 1)))
