"""The four MiniGrid tasks as train.py sees them (section 4.1, A.2): rooms, options, students, what an LLM reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Callable, ClassVar

import numpy as np

from doorkey.ablations import AbsoluteGrid, EgocentricPaperBody, IntegerGrid
from envs import (
    NUM_ACTIONS,
    ColoredDoorKeyEnv,
    DivergedDoorKeyEnv,
    DoorKeyEnv,
    LavaDoorKeyEnv,
    SimpleDoorKeyEnv,
    describe,
)
from nets import paper_student, small_student
from options import make_option

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


STUDENTS: dict[str, Callable[..., Any]] = {
    "small": small_student,
    "paper": paper_student,
    "small-absolute": partial(small_student, body=AbsoluteGrid),
    "small-integers": partial(small_student, body=IntegerGrid),
    "paper-view": partial(paper_student, body=EgocentricPaperBody),
}
TABLE_3 = ("llm4teach", "llm-only", "hierarchical", "ppo")  # its rows: episode length, return, success


class DoorKey:
    """What the four tasks have in common; see harness/task.py for what each name means."""

    Env: ClassVar[type[DoorKeyEnv]]
    config: Any
    defaults: ClassVar = {"options": "paper"}
    option_sets: ClassVar = ("paper", "repaired")
    students: ClassVar = tuple(STUDENTS)
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
        "(?:go over|(?:move|walk|navigate|head)(?: over)?) to|approach": "go to",
        "pick(?: up)?|grab|take|get|collect": "pick up",
        "put down|release": "drop",
        "unlock": "open",
        "gray": "grey",
        rf"(open {THING}) (?:with|using)(?: {THING}| key)": r"\1",
    }

    @property
    def reply_folder(self) -> Path:
        """The folder of reply books at the top: the paper's LLM answered for these tasks (A.3)."""
        return Path(__file__).parents[1] / "replies"

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
        return make_option(name, self.config.options)

    def make_student(self, num_teachers: int) -> Any:
        """Return our small net, the published one, or ours without one of its ideas."""
        return STUDENTS[self.config.student](NUM_ACTIONS, num_teachers)

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
        """Do nothing: these tasks need nothing that could be missing."""


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
