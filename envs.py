"""The four MiniGrid tasks of LLM4Teach (paper section 4.1.1 and A.2), with a map of what was seen.

    python envs.py                      # walk at random through one room of each task, drawn in the terminal
    gym.make("LavaDoorKey-v0")          # after `import envs`, anywhere

One walled room stands in a 10 x 10 grid. The exit is locked; the key is somewhere in the room; the agent sees 3 x 3
cells. Opening the door ends the episode with MiniGrid's reward 1 - 0.9 * steps / max_steps; nothing else is rewarded.

    SimpleDoorKey    one door, one key of the same colour
    LavaDoorKey      the same, and one cell of lava, which ends the episode without reward
    ColoredDoorKey   a blue door, a blue key that opens it and a red key that does not
    DivergedDoorKey  two doors on opposite walls, one key near the centre, 60 steps instead of 150

The observation is a memory (W, H, 4), uint8: for every cell seen so far (object, colour, state) in MiniGrid's
encoding, 0 where unseen; the object carried is shown at the agent's cell; the last plane holds the agent's direction
at its cell, 4 elsewhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from minigrid.core.actions import Actions
from minigrid.core.constants import COLOR_NAMES, DIR_TO_VEC, IDX_TO_COLOR, OBJECT_TO_IDX
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Door, Key, Lava, WorldObj
from minigrid.minigrid_env import MiniGridEnv

GRID_SIZE = 10
EMPTY = (OBJECT_TO_IDX["empty"], 0, 0)
NUM_ACTIONS = len(Actions)
NO_AGENT = 4  # last plane, where the agent is not; directions are 0 east, 1 south, 2 west, 3 north
KEY, DOOR = OBJECT_TO_IDX["key"], OBJECT_TO_IDX["door"]
# The cells (ahead, aside) of the 3 x 3 view; those two ahead with the cells of which one must let the look through.
VIEW: dict[tuple[int, int], list[tuple[int, int]]] = {
    **{(ahead, aside): [] for ahead in (0, 1) for aside in (-1, 0, 1)},
    (2, 0): [(1, -1), (1, 0), (1, 1)],
    (2, -1): [(1, -1), (1, 0), (2, 0)],
    (2, 1): [(1, 0), (1, 1), (2, 0)],
}
VECTORS = [(int(x), int(y)) for x, y in DIR_TO_VEC]


class DoorKeyEnv(MiniGridEnv):
    """What the four tasks share: the room, the exit, the memory. `_furnish` says what else is in the room."""

    max_steps_allowed: ClassVar[int] = 150
    min_room: ClassVar[int] = 5
    things: ClassVar[tuple[str, ...]] = ("{} key", "{} door")  # what the state text may name; {} is the room's colour

    def __init__(self, max_steps: int | None = None, render_mode: str | None = None, **kwargs: Any) -> None:
        """`max_steps`: the time limit, the paper's by default; `kwargs` go to MiniGridEnv (tile_size, ...)."""
        super().__init__(
            mission_space=MissionSpace(mission_func=lambda: "open the door"),
            grid_size=GRID_SIZE,
            max_steps=self.max_steps_allowed if max_steps is None else max_steps,
            agent_view_size=3,
            render_mode=render_mode,
            **kwargs,
        )
        self.observation_space = spaces.Box(0, 255, (GRID_SIZE, GRID_SIZE, 4), np.uint8)
        self.memory = np.zeros((GRID_SIZE, GRID_SIZE, 4), np.uint8)
        self.doors: list[Door] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Draw a new room from `seed` and forget everything seen."""
        self.memory[:] = (0, 0, 0, NO_AGENT)
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take a step of MiniGrid's; an opened door terminates the episode with the reward."""
        x, y = self.agent_pos
        self.memory[x, y] = (*EMPTY, NO_AGENT)  # nothing but the agent can stand where it stood
        observation, reward, terminated, truncated, info = super().step(action)
        if action == self.actions.toggle and any(door.is_open for door in self.doors):
            reward, terminated = self._reward(), True
        return observation, float(reward), terminated, truncated and not terminated, info

    def gen_obs(self) -> np.ndarray:
        """Write the 3 x 3 view into the memory and return a copy of it.

        For a view this small MiniGrid's visibility (`Grid.process_vis`) has a closed form: the agent's row and the
        next are seen, and a cell two ahead is seen if one of the cells that VIEW names for it is seen and lets the
        look through.
        """
        x, y = (int(c) for c in self.agent_pos)
        forward_x, forward_y = VECTORS[self.agent_dir]
        right_x, right_y = -forward_y, forward_x
        transparent: set[tuple[int, int]] = set()
        for (ahead, aside), between in VIEW.items():
            if between and transparent.isdisjoint(between):
                continue
            i, j = x + ahead * forward_x + aside * right_x, y + ahead * forward_y + aside * right_y
            if 0 <= i < GRID_SIZE and 0 <= j < GRID_SIZE:
                thing = self.grid.get(i, j)
                if thing is None or thing.see_behind():
                    transparent.add((ahead, aside))
                self.memory[i, j, :3] = thing.encode() if thing else EMPTY
        self.memory[x, y] = (*(self.carrying.encode() if self.carrying else EMPTY), self.agent_dir)
        return self.memory.copy()

    def _gen_grid(self, width: int, height: int) -> None:
        """Draw the room in the top left corner: walls, then doors, agent and key in the task's order."""
        self.grid = Grid(width, height)
        self.room = (self._rand_int(self.min_room, width + 1), self._rand_int(self.min_room, height + 1))
        self.grid.wall_rect(0, 0, *self.room)
        self.doors = []
        self._furnish()

    def _furnish(self) -> None:
        color = self._rand_elem(sorted(COLOR_NAMES))
        self._put_door(self._rand_int(0, 4), color)
        self.place_agent((0, 0), self.room)
        self._put(Key(color))

    def _put_door(self, wall: int, color: str) -> tuple[int, int]:
        """Set a locked door in a wall (0 east, 1 south, 2 west, 3 north); return the cell in front of it."""
        width, height = self.room
        along = self._rand_int(1, (height if wall in (0, 2) else width) - 1)
        x, y = [(width - 1, along), (along, height - 1), (0, along), (along, 0)][wall]
        door = Door(color, is_locked=True)
        self.doors.append(door)
        self.grid.set(x, y, door)
        return x - VECTORS[wall][0], y - VECTORS[wall][1]

    def _put(self, thing: WorldObj, never_at: tuple[int, int] | None = None) -> None:
        """Place `thing` on a free cell of the room other than `never_at`."""
        self.place_obj(thing, (0, 0), self.room, reject_fn=lambda _, position: tuple(position) == never_at)


class SimpleDoorKeyEnv(DoorKeyEnv):
    """One door, one key."""


class LavaDoorKeyEnv(DoorKeyEnv):
    """One door, one key, one cell of lava, never right in front of the door."""

    def _furnish(self) -> None:
        color = self._rand_elem(sorted(COLOR_NAMES))
        doorstep = self._put_door(self._rand_int(0, 4), color)
        self.place_agent((0, 0), self.room)
        self._put(Key(color))
        self._put(Lava(), never_at=doorstep)


class ColoredDoorKeyEnv(DoorKeyEnv):
    """A blue door, a blue and a red key; neither key lies right in front of the door."""

    things = ("blue key", "red key", "blue door")

    def _furnish(self) -> None:
        doorstep = self._put_door(self._rand_int(0, 4), "blue")
        self.place_agent((0, 0), self.room)
        self._put(Key("blue"), never_at=doorstep)
        self._put(Key("red"), never_at=doorstep)


class DivergedDoorKeyEnv(DoorKeyEnv):
    """A 10 x 10 room, doors in two opposite walls, one key in the central 2 x 2 cells; either door is an exit."""

    max_steps_allowed = 60
    min_room = GRID_SIZE
    things = ("{} key", "{} door", "second {} door")

    def _furnish(self) -> None:
        color = self._rand_elem(sorted(COLOR_NAMES))
        wall = self._rand_int(0, 2)
        self._put_door(wall, color)
        self._put_door(wall + 2, color)
        self.place_obj(Key(color), (GRID_SIZE // 2 - 1, GRID_SIZE // 2 - 1), (2, 2))
        self.place_agent((0, 0), self.room)


TASKS = {"SimpleDoorKey": SimpleDoorKeyEnv, "LavaDoorKey": LavaDoorKeyEnv,
         "ColoredDoorKey": ColoredDoorKeyEnv, "DivergedDoorKey": DivergedDoorKeyEnv}  # fmt: skip
for _name, _task in TASKS.items():
    if f"{_name}-v0" not in gym.registry:
        gym.register(f"{_name}-v0", entry_point=_task)


def describe(memory: np.ndarray) -> str:
    """Return c(s), the state as text (A.2): every key and door seen, in reading order, keys first, and what is held.

    "The agent observes a red key, a red door, and holds a blue key." A second door of the same colour is "a second
    red door". Walls, lava and the agent's place are not named, as in the paper's experiments: grounding is left to
    the options.
    """
    things: list[str] = []
    held = "nothing"
    seen: dict[str, int] = {}
    for kind, noun in ((KEY, "key"), (DOOR, "door")):
        for y, x in np.argwhere(kind == memory[:, :, 0].T):
            name = f"{IDX_TO_COLOR[memory[x, y, 1]]} {noun}"
            if memory[x, y, 3] != NO_AGENT:
                held = f"a {name}"
            else:
                seen[name] = seen.get(name, 0) + 1
                things.append(f"a {'second ' if seen[name] > 1 else ''}{name}")
    return f"The agent observes {', '.join(things) or 'nothing'}, and holds {held}."


def main(arguments: Sequence[str] | None = None) -> None:
    """Walk ten steps at random through a room of each task and draw what is there in the terminal."""
    argparse.ArgumentParser(description=main.__doc__, usage=argparse.SUPPRESS).parse_args(arguments)
    rng = np.random.default_rng(0)
    for name, task in TASKS.items():
        room = task()
        memory, _ = room.reset(seed=1)
        for _ in range(10):
            memory, _, terminated, truncated, _ = room.step(int(rng.integers(NUM_ACTIONS)))
            if terminated or truncated:
                break
        print(f"{name}: {describe(memory)}\n{room.pprint_grid()}\n")


if __name__ == "__main__":
    main()
