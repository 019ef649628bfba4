"""Two rooms, a goal behind a locked door: python train.py --env examples/two_rooms.py:TwoRooms."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from minigrid.core.constants import OBJECT_TO_IDX, STATE_TO_IDX
from minigrid.wrappers import FullyObsWrapper, ImgObsWrapper

from nets import mlp_student

ENV = "MiniGrid-DoorKey-8x8-v0"
EMPTY, DOOR, KEY, GOAL, AGENT = (OBJECT_TO_IDX[name] for name in ("empty", "door", "key", "goal", "agent"))
LEFT, RIGHT, FORWARD, IDLE, USE = 0, 1, 2, 6, {KEY: 3, DOOR: 5, GOAL: 2}  # of seven actions
STEPS = [(1, 0), (0, 1), (-1, 0), (0, -1)]  # one step ahead, by the direction that the agent looks in


def find(grid: np.ndarray, kind: int) -> Any:
    """Return the cell of agent, key, door or goal; None if it is not on the grid, as a key that is held."""
    return next(zip(*(axis.tolist() for axis in np.nonzero(grid[:, :, 0] == kind))), None)


def door(grid: np.ndarray) -> str:
    """Return whether the door is open, closed or locked; the agent stands in an open one."""
    return list(STATE_TO_IDX)[grid[find(grid, DOOR)][2]] if find(grid, DOOR) else "open"


class Option(NamedTuple):
    """Walk up to a thing on a shortest way, then use it."""

    thing: int

    def action(self, grid: np.ndarray) -> int:
        """Return the next action; IDLE if this cannot be done from here."""
        start, target = find(grid, AGENT), find(grid, self.thing)
        free = np.isin(grid[:, :, 0], [EMPTY, GOAL, DOOR if door(grid) == "open" else GOAL])
        ways, frontier = {target: target}, [target] if target else []  # cell -> the next one on its way
        for x, y in frontier:
            for cell in ((x + dx, y + dy) for dx, dy in STEPS):
                if cell not in ways and (cell == start or free[cell]):
                    ways[cell] = (x, y)
                    frontier.append(cell)
        if start not in ways or (self.thing == DOOR and door(grid) == "locked" and find(grid, KEY)):
            return IDLE
        turns = (STEPS.index((ways[start][0] - start[0], ways[start][1] - start[1])) - int(grid[start][2])) % 4
        return (USE[self.thing] if ways[start] == target else FORWARD, RIGHT, RIGHT, LEFT)[turns]

    def can_start(self, grid: np.ndarray) -> bool:  # noqa: D102
        return self.action(grid) != IDLE

    def policy(self, grid: np.ndarray) -> np.ndarray:  # noqa: D102
        return np.eye(7)[self.action(grid)]

    def is_done(self, grid: np.ndarray) -> bool:  # noqa: D102
        return door(grid) == "open" if self.thing == DOOR else find(grid, self.thing) is None


class TwoRooms:
    """Fetch the key, open the door, walk to the goal."""

    option_names = ("pick up key", "open door", "go to goal")
    rules = "You guide an agent in a room with a key. The goal is in the next room, behind a locked door."
    option_help = "Options: pick up key; open door; go to goal. The key opens a locked door; only then go to the goal."
    examples = (("The key lies in a room, the door is locked.",
                 "Scene: no key, a locked door.\nReasoning: The key comes first.\nDecision: pick up key, open door"),
                ("The key is held, the door is closed.",
                 "Scene: a key, a closed door.\nReasoning: Open it.\nDecision: open door, go to goal"))  # fmt: skip
    defaults = {"iterations": 60, "episodes": 200, "i1": 15, "i2": 40, "num_trajectories": 20}

    def make_env(self, render_mode: str | None = None) -> Any:
        """Return an environment that observes the whole grid, (8, 8, 3)."""
        return ImgObsWrapper(FullyObsWrapper(gym.make(ENV, max_steps=150, render_mode=render_mode)))

    def make_option(self, name: str) -> Option:  # noqa: D102
        return Option((KEY, DOOR, GOAL)[self.option_names.index(name)])

    def describe(self, grid: np.ndarray) -> str:
        """Return what matters about key and door: six texts."""
        return f"The key {'lies in a room' if find(grid, KEY) else 'is held'}, the door is {door(grid)}."

    def states(self) -> list[str]:  # noqa: D102
        return [f"The key {k}, the door is {d}." for k in ("lies in a room", "is held") for d in STATE_TO_IDX]

    def encode(self, grids: Any) -> np.ndarray:
        """Return what the student sees, (B, 15): door, what is around, and where things lie, as seen by the agent."""
        rows = []
        for grid, (x, y) in ((grid, find(grid, AGENT)) for grid in grids):
            (ax, ay), *_ = around = [STEPS[(grid[x, y, 2] + turn) % 4] for turn in range(4)]
            row = [door(grid) == "locked", door(grid) == "open", *(grid[x + dx, y + dy, 0] / 8 for dx, dy in around)]
            for cell in (find(grid, thing) for thing in (KEY, DOOR, GOAL)):
                dx, dy = (cell[0] - x, cell[1] - y) if cell else (0, 0)
                row += [cell is not None, (dx * ax + dy * ay) / 8, (dy * ax - dx * ay) / 8]
            rows.append(row)
        return np.array(rows, np.float32)

    def make_student(self, num_teachers: int) -> Any:  # noqa: D102
        return mlp_student(15, 7, num_teachers)
