"""Two rooms of a MiniGrid: fetch the key, open the door, walk to the goal. python train.py --env examples/two_rooms.py:TwoRooms"""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from minigrid.core.constants import OBJECT_TO_IDX, STATE_TO_IDX
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Door, Goal, Key
from minigrid.minigrid_env import MiniGridEnv
from minigrid.wrappers import FullyObsWrapper, ImgObsWrapper

EMPTY, DOOR, KEY, GOAL, AGENT = (OBJECT_TO_IDX[name] for name in ("empty", "door", "key", "goal", "agent"))
LEFT, RIGHT, FORWARD, PICK_UP, TOGGLE = 0, 1, 2, 3, 5
STEPS = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])  # one step ahead, by the direction that the agent looks in


class TwoRoomsEnv(MiniGridEnv):
    """Agent and key are in the left room, the goal is in the right one, a locked door between them."""

    def __init__(self, render_mode: str | None = None) -> None:
        mission = MissionSpace(lambda: "get to the goal")
        super().__init__(mission, width=9, height=6, max_steps=150, render_mode=render_mode, tile_size=24)

    def _gen_grid(self, width: int, height: int) -> None:
        self.grid = Grid(width, height)
        self.grid.wall_rect(0, 0, width, height)
        wall = self._rand_int(3, 6)
        self.grid.vert_wall(wall, 0, height)
        self.grid.set(wall, self._rand_int(1, height - 1), Door("yellow", is_locked=True))
        self.place_obj(Key("yellow"), (0, 0), (wall, height))
        self.place_agent((0, 0), (wall, height))
        self.place_obj(Goal(), (wall + 1, 0), (width - wall - 1, height))


def find(grid: np.ndarray, kind: int) -> Any:
    """Return the cell of the agent, key, door or goal; None if it is not on the grid, as a key that is held."""
    return next(zip(*(axis.tolist() for axis in np.nonzero(grid[:, :, 0] == kind))), None)


def door(grid: np.ndarray) -> str:
    """Return whether the door is open, closed or locked; the agent can only stand in an open one."""
    return list(STATE_TO_IDX)[grid[find(grid, DOOR)][2]] if find(grid, DOOR) else "open"


class Option(NamedTuple):
    """Walk up to a thing on a shortest way, then do with it what is to be done."""

    thing: int
    use: int

    def action(self, grid: np.ndarray) -> int | None:
        """Return the next action, None if this cannot be done from here."""
        start, target = find(grid, AGENT), find(grid, self.thing)
        free = (grid[:, :, 0] == EMPTY) | (grid[:, :, 0] == GOAL) | (grid[:, :, 0] == DOOR) & (door(grid) == "open")
        ways, frontier = {target: target}, [target] if target else []  # cell -> the next one on its way
        for x, y in frontier:
            for cell in ((x + dx, y + dy) for dx, dy in STEPS.tolist()):
                if cell not in ways and (cell == start or free[cell]):
                    ways[cell] = (x, y)
                    frontier.append(cell)
        if start not in ways or (self.thing == DOOR and door(grid) == "locked" and find(grid, KEY)):
            return None
        turns = (int((np.subtract(ways[start], start) == STEPS).all(1).argmax()) - int(grid[start][2])) % 4
        return (self.use if ways[start] == target else FORWARD, RIGHT, RIGHT, LEFT)[turns]

    def can_start(self, grid: np.ndarray) -> bool:
        return self.action(grid) is not None

    def policy(self, grid: np.ndarray) -> np.ndarray:
        action = self.action(grid)
        return np.full(7, 1 / 7) if action is None else np.eye(7)[action]

    def is_done(self, grid: np.ndarray) -> bool:
        return door(grid) == "open" if self.thing == DOOR else find(grid, self.thing) is None


class TwoRooms:
    """What the task says; where everything is, the student is told as seen by the agent."""

    options = {"pick up key": Option(KEY, PICK_UP), "open door": Option(DOOR, TOGGLE), "go to goal": Option(GOAL, FORWARD)}
    option_names = tuple(options)
    rules = "You guide an agent in two rooms. A locked door is between them, and the goal is in the right room. The agent wins at the goal."
    option_help = "Options: pick up key; open door; go to goal. A locked door opens only with the key in hand. The agent can go to the goal only if the door is open or it is in the right room."
    scene = "where the agent is, the key and the door"
    examples = ()
    defaults = {}
