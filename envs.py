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

import re
from collections.abc import Sequence
from typing import Any, Callable, ClassVar

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
        """MiniGrid's step; an opened door terminates the episode with the reward."""
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
    """c(s), the state as text (A.2): every key and door seen, in reading order, keys first, and what is held.

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


# ------------------------------------------------------------------------------------- the tasks, as train.py sees them

COLORS = ("red", "blue", "green", "purple", "yellow", "grey")
COLOR_WORD = re.compile(rf"\b({'|'.join(COLORS)})\b")
THING = rf"(?:second )?(?:{'|'.join(COLORS)}) (?:key|door)"
VERBS = {"key": ("go to", "pick up", "drop"), "door": ("go to", "open")}


def rename_colors(text: str) -> tuple[str, Callable[[str], str]]:
    """Rename colours in order of appearance to red, blue, ..., so that one recorded answer serves all colours.

    Returns the renamed text, and how a plan for it is put back into the colours of `text`. Two texts that differ in a
    permutation of colours become equal.
    """
    found = list(dict.fromkeys(COLOR_WORD.findall(text)))
    back = dict(zip(COLORS, found + [color for color in COLORS if color not in found]))
    forth = {old: new for new, old in back.items()}
    return (
        COLOR_WORD.sub(lambda match: forth[match[0]], text),
        lambda plan: COLOR_WORD.sub(lambda match: back[match[0]], plan),
    )


TABLE_3 = ("llm4teach", "llm-only", "hierarchical", "ppo")  # its rows: episode length, return, success


class DoorKey:
    """What the four tasks have in common; see harness/task.py for what each name means."""

    Env: ClassVar[type[DoorKeyEnv]]
    config: Any
    defaults: ClassVar = {"options": "paper"}
    option_sets: ClassVar = ("paper", "repaired")
    students: ClassVar = ("small", "paper")
    describe = staticmethod(describe)
    canonicalize = staticmethod(rename_colors)
    rules = """\
You guide an agent in a walled room. It wins by opening a locked door, which needs a key of the same colour.
It sees only what is near, so what it has not seen yet must be explored. It can hold one key."""
    option_help = """\
Options: explore; go to X; pick up X; drop X; open X. X is a key or door with its colour, such as red key.
Pick up and open work only next to X, so go to X first."""
    scene = "what is seen and held"
    # In the colours that `rename_colors` uses last. Small models keep the format only with several examples.
    examples: ClassVar = (
        (
            "The agent observes a grey key, a yellow key, a grey door, and holds nothing.",
            "Scene: two keys and a grey door are seen, nothing is held.\n"
            "Reasoning: The grey door needs the grey key, which is seen and not held yet.\n"
            "Decision: go to grey key, pick up grey key",
        ),
        (
            "The agent observes a yellow door, and holds a yellow key.",
            "Scene: a yellow door is seen, a yellow key is held.\n"
            "Reasoning: The key that is held fits the door that is seen.\n"
            "Decision: go to yellow door, open yellow door",
        ),
        (
            "The agent observes a grey key, a grey door, and holds a yellow key.",
            "Scene: a grey key and a grey door are seen, a yellow key is held.\n"
            "Reasoning: The yellow key does not fit the grey door; the grey key does, and only one key can be held.\n"
            "Decision: drop yellow key, go to grey key, pick up grey key",
        ),
        (
            "The agent observes a yellow key, and holds nothing.",
            "Scene: a yellow key is seen, nothing is held.\n"
            "Reasoning: A key is needed for the door, and one is seen.\n"
            "Decision: go to yellow key, pick up yellow key",
        ),
        (
            "The agent observes a grey door, and holds nothing.",
            "Scene: a grey door is seen, no key is seen and none is held.\n"
            "Reasoning: A grey key is needed, and it has not been seen yet.\n"
            "Decision: explore",
        ),
    )
    synonyms: ClassVar = {
        "(?:go to )?explor\\w*(?: room| area)?|search(?: room| area)?|look around": "explore",
        "go over to|move(?: over)? to|walk(?: over)? to|approach": "go to",
        "pick(?: up)?|grab|take|get|collect": "pick up",
        "put down|release": "drop",
        "unlock": "open",
        "gray": "grey",
        rf"(open {THING}) (?:with|using)(?: {THING}| key)": r"\1",
    }

    @property
    def option_names(self) -> list[str]:
        """Every option that makes sense: explore, and what can be done with each thing; {} is the room's colour."""
        things = self.Env.things
        return ["explore", *(f"{verb} {thing}" for thing in things for verb in VERBS[thing.split()[-1]])]

    def name_options(self, state: str) -> list[str]:
        """Return the option names with the colour that the state text names first."""
        color = next(iter(COLOR_WORD.findall(state)), COLORS[0])
        return [name.format(color) for name in self.option_names]

    def make_env(self, render_mode: str | None = None) -> DoorKeyEnv:
        """Return an environment, without gymnasium's checking wrappers, which cost more than a step does."""
        return self.Env(render_mode=render_mode)

    def make_option(self, name: str) -> Any:
        """Return the option of that name in the set that --options names."""
        from options import make_option

        return make_option(name, self.config.options)

    def make_student(self, num_teachers: int) -> Any:
        """Return our small net, or the published one."""
        from nets import paper_student, small_student

        return {"small": small_student, "paper": paper_student}[self.config.student](NUM_ACTIONS, num_teachers)

    def plans(self, state: str) -> list[str]:
        """Return what can be done in a state: things are gone to and used, since a plan ends beside them otherwise."""
        seen, _, held = state.partition("holds")
        use = {"key": "pick up", "door": "open"}
        plans = ["explore", *(f"drop {thing}" for thing in re.findall(THING, held))]
        return plans + [f"go to {thing}, {use[thing.split()[-1]]} {thing}" for thing in re.findall(THING, seen)]

    def vocabulary(self, state: str) -> Sequence[str]:
        """Return every option there is, also with things that the state does not name."""
        return VOCABULARY

    def picture(self, env: Any, observation: np.ndarray) -> np.ndarray:
        """Return the room from above, (H, W, 3); what was seen so far is lit."""
        room = env.env
        return room.grid.render(24, tuple(room.agent_pos), room.agent_dir, highlight_mask=observation[:, :, 0] > 0)

    def check(self) -> None:
        """Pass: these tasks need nothing that could be missing."""


VOCABULARY = ["explore"] + [
    f"{verb} {ordinal}{color} {noun}"
    for noun in VERBS
    for verb in ("go to", "pick up", "drop", "open")
    for color in COLORS
    for ordinal in ("", "second ")
]


class SimpleDoorKey(DoorKey):
    """See `SimpleDoorKeyEnv`."""

    Env = SimpleDoorKeyEnv
    paper: ClassVar = dict(
        zip(TABLE_3, ((30.49, 0.81, 0.964), (22.28, 0.87, 1.0), (49.83, 0.7, 0.96), (143.99, 0.05, 0.101)))
    )


class LavaDoorKey(DoorKey):
    """See `LavaDoorKeyEnv`."""

    Env = LavaDoorKeyEnv
    paper: ClassVar = dict(
        zip(TABLE_3, ((36.84, 0.75, 0.909), (15.79, 0.48, 0.546), (43.05, 0.63, 0.851), (149.61, 0.0, 0.05)))
    )


class ColoredDoorKey(DoorKey):
    """See `ColoredDoorKeyEnv`."""

    Env = ColoredDoorKeyEnv
    paper: ClassVar = dict(
        zip(TABLE_3, ((36.27, 0.78, 0.94), (90.73, 0.4, 0.468), (42.69, 0.74, 0.958), (145.84, 0.03, 0.066)))
    )


class DivergedDoorKey(DoorKey):
    """See `DivergedDoorKeyEnv`."""

    Env = DivergedDoorKeyEnv
    paper: ClassVar = dict(
        zip(TABLE_3, ((30.65, 0.53, 0.931), (50.1, 0.19, 0.372), (27.21, 0.59, 0.98), (59.63, 0.01, 0.019)))
    )


def main() -> None:
    """Walk ten steps at random through a room of each task and draw what is there in the terminal."""
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
