"""Count the evaluation rooms that are copies of training rooms: their seeds all differ, the rooms need not.

    python -m evidence.rooms                                    # the default budget, its ten seeds
    python -m evidence.rooms --budget quick --seeds 2

A room is its walls, doors, keys and lava, and where the agent starts. Two rooms are copies but for their colours if a
permutation of the colours of doors and keys makes them equal.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from minigrid.core.constants import OBJECT_TO_IDX

from evidence.pages import write_table
from evidence.plan import BUDGETS, ROOT, TASKS
from evidence.tables import format_table
from harness.cli import InputError, Parser, errors_in_one_line
from harness.config import default_config
from rollout import evaluation_seeds, training_seeds


class Room(NamedTuple):
    """A room, as bytes that two rooms share if they are copies, and as bytes that they share but for their colours."""

    exact: bytes
    colorless: bytes


def draw_room(env: Any, seed: int) -> Room:
    """Draw the room of a seed in one of MiniGrid's environments, unwrapped."""
    env.reset(seed=seed)
    cells = env.grid.encode()  # of each cell kind, colour and state
    start = bytes((*map(int, env.agent_pos), env.agent_dir))
    colored = np.isin(cells[..., 0], [OBJECT_TO_IDX["door"], OBJECT_TO_IDX["key"]])  # an empty cell has red's number
    _, first, which = np.unique(cells[colored, 1], return_index=True, return_inverse=True)
    renamed = cells.copy()
    renamed[colored, 1] = np.argsort(np.argsort(first))[which]  # in order of appearance
    return Room(cells.tobytes() + start, renamed.tobytes() + start)


def count_copies(env: Any, training: Iterable[int], evaluation: Iterable[int]) -> tuple[int, int]:
    """Count the rooms of evaluation seeds that are rooms of training seeds too: exactly, and but for their colours."""
    trained = [draw_room(env, seed) for seed in training]
    drawn = [draw_room(env, seed) for seed in evaluation]
    exact, colorless = ({room[kind] for room in trained} for kind in (0, 1))
    return sum(room.exact in exact for room in drawn), sum(room.colorless in colorless for room in drawn)


@errors_in_one_line("evidence.rooms")
def main(arguments: Sequence[str] | None = None) -> None:
    """Count the copies of every task and write their table to results/BUDGET/rooms.md."""
    parser = Parser(prog="-m evidence.rooms", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", choices=tuple(BUDGETS), default="default")
    parser.add_argument("--seeds", type=int, help="of every task; by default the budget's")
    given = parser.parse_args(arguments)
    budget = BUDGETS[given.budget]
    seeds = budget.seeds if given.seeds is None else given.seeds
    if not 1 <= seeds <= 1000:
        raise InputError(f"--seeds is {seeds}; it must be from 1 to 1000")
    lines = []
    for task in TASKS:
        settings = {**vars(default_config(task)), **budget.settings}
        rooms, episodes = settings["iterations"] * settings["num_trajectories"], settings["episodes"]
        env = gym.make(f"envs:{task}-v0").unwrapped
        counts = [
            count_copies(env, training_seeds(seed, 0, rooms), evaluation_seeds(seed, episodes)) for seed in range(seeds)
        ]
        exact, colorless = (f"{sum(column)} of {seeds * episodes:,}" for column in zip(*counts))
        lines.append((task, str(seeds), f"{rooms:,}", f"{episodes:,}", exact, colorless))
    heads = "task, seeds, training rooms a seed, evaluation rooms a seed, copies, copies but for colours"
    text = format_table(heads, lines)
    write_table(
        ROOT / "results" / given.budget / "rooms.md",
        "**Copies.** Evaluation rooms that are copies of a training room of the same run.",
        text,
    )
    print(text, end="")


if __name__ == "__main__":
    main()
