"""A continuous task without a further package: touch two points in the order told, never the second one first.

python train.py --env examples/reach.py:Reach
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

COLORS = ("red", "blue")
SPEED, RADIUS, LIMIT = 0.15, 0.12, 60  # of a step; of a point; most steps


class ReachEnv(gym.Env):
    """A hand in a square of side 2; whoever touches the second point before the first has lost."""

    observation_space = gym.spaces.Box(-1, 1, (8,), np.float32)  # hand, red, blue, is blue first, is the first touched
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        """Draw hand and points, none of them touching another, and the order."""
        super().reset(seed=seed)
        while True:
            self.hand, *self.points = self.np_random.uniform(-0.9, 0.9, (3, 2))
            pairs = ((self.hand, self.points[0]), (self.hand, self.points[1]), self.points)
            if all(np.linalg.norm(a - b) > 3 * RADIUS for a, b in pairs):
                break
        self.first, self.touched, self.steps = int(self.np_random.integers(2)), False, 0
        return self.observe(), {}

    def observe(self) -> np.ndarray:
        """Return what the student sees, eight numbers."""
        return np.array([*self.hand, *self.points[0], *self.points[1], self.first, self.touched], np.float32)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Move the hand; the reward is 1 for both points in order, less for every step that it took."""
        self.hand = np.clip(self.hand + SPEED * np.clip(action, -1, 1), -1, 1)
        self.steps += 1
        near = [bool(np.linalg.norm(self.hand - point) < RADIUS) for point in self.points]
        failed = near[1 - self.first] and not self.touched
        success = near[1 - self.first] and self.touched
        self.touched = self.touched or near[self.first]
        reward = 1 - 0.5 * self.steps / LIMIT if success else 0.0
        return self.observe(), reward, failed or success, self.steps >= LIMIT, {"success": success}

    def render(self) -> np.ndarray:
        """Return a picture of 120 x 120: the points in their colours, the hand in black."""
        picture = np.full((120, 120, 3), 255, np.uint8)
        rows, columns = np.mgrid[-1:1:120j, -1:1:120j]
        for (x, y), color, size in zip([*self.points, self.hand], ((220, 0, 0), (0, 0, 220), (0, 0, 0)), (1, 1, 0.5)):
            picture[(columns - x) ** 2 + (rows - y) ** 2 < (size * RADIUS) ** 2] = color
        return picture


class Touch(NamedTuple):
    """Move straight to a point; a Gaussian over the hand's motion. It ends when the first point was touched."""

    color: int

    def can_start(self, observation: np.ndarray) -> bool:
        """Return True: each can be tried at any time."""
        return True

    def policy(self, observation: np.ndarray) -> np.ndarray:
        """Return means and standard deviations, (2, 2)."""
        way = observation[2 + 2 * self.color : 4 + 2 * self.color] - observation[:2]
        return np.stack([way / max(float(np.abs(way).max()), SPEED), np.full(2, 0.2)]).astype(np.float32)

    def is_done(self, observation: np.ndarray) -> bool:
        """Return whether this point comes first and was touched; after the second one the episode is over."""
        return bool(observation[6] == self.color and observation[7])


class Reach:
    """Touch both points in order."""

    option_names = ("touch red", "touch blue")
    rules = "You guide a hand to a red and a blue point. They must be touched in the order that the state tells."
    option_help = "Options: touch red; touch blue."
    scene = "the order, and what has been touched"
    examples = (("The order is red, then blue; nothing has been touched yet.",
                 "Scene: red comes first, and neither is touched.\nReasoning: The hand must touch red and then blue.\n"
                 "Decision: touch red, touch blue"),
                ("The order is red, then blue; red has been touched.",
                 "Scene: red comes first, and it is touched.\nReasoning: Blue is left.\nDecision: touch blue"))  # fmt: skip
    defaults = {"iterations": 120, "episodes": 500, "i1": 30, "i2": 80, "num_trajectories": 50, "action_std": 0.3}

    def make_env(self, render_mode: str | None = None) -> gym.Env:
        """Return the environment above."""
        return ReachEnv(render_mode)

    def describe(self, observation: np.ndarray) -> str:
        """Return the order and what is done: four texts."""
        first = int(observation[6])
        touched = f"{COLORS[first]} has" if observation[7] else "nothing has"
        return f"The order is {COLORS[first]}, then {COLORS[1 - first]}; {touched} been touched{'' if observation[7] else ' yet'}."

    def states(self) -> list[str]:
        """Return all four texts."""
        return [self.describe(np.array([*[0] * 6, first, touched])) for first in (0, 1) for touched in (0, 1)]

    def make_option(self, name: str) -> Touch:
        """Return the option of that name."""
        return Touch(COLORS.index(name.removeprefix("touch ")))
