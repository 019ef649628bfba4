"""Gymnasium's Taxi-v3, described in words: every option is on the menu in every state, so the LLM has to think.

python train.py --env examples/taxi.py:Taxi
"""

from __future__ import annotations

from functools import cache
from typing import Any, Callable, NamedTuple

import gymnasium as gym
import numpy as np

LANDMARKS = ("red", "green", "yellow", "blue")  # as Taxi-v3 numbers them; a passenger at 4 is in the taxi
CELLS = ((0, 0), (0, 4), (4, 0), (4, 3))  # (row, column) of each
PICK_UP, PUT_DOWN, ABOARD = 4, 5, 4


def read(observation: int) -> tuple[tuple[int, int], int, int]:
    """Return the taxi's (row, column), the passenger's place and the destination, as Taxi-v3 packs them into a number."""
    rest, destination = divmod(int(observation), 4)
    rest, passenger = divmod(rest, 5)
    return divmod(rest, 5), passenger, destination


@cache
def routes(landmark: int) -> dict[tuple[int, int], int]:
    """Return for each cell the move that begins a shortest way to a landmark, from the environment's own table."""
    table = gym.make("Taxi-v3").unwrapped.P
    moves, frontier = {CELLS[landmark]: 0}, [CELLS[landmark]]
    for cell in frontier:
        for state in range(0, 500, 20):  # the taxi in every cell, the passenger at red, the destination red
            came_from = read(state)[0]
            for move in range(4):
                if came_from not in moves and read(table[state][move][0][1])[0] == cell:
                    moves[came_from] = move
                    frontier.append(came_from)
    return moves


class Option(NamedTuple):
    """Always the same action in a state, until it is done; it can start anywhere, sensible or not."""

    choose: Callable[[int], int]
    is_done: Callable[[int], bool]

    def can_start(self, observation: int) -> bool:
        """Return True."""
        return True

    def policy(self, observation: int) -> np.ndarray:
        """Return the probabilities of the six actions."""
        return np.eye(6, dtype=np.float32)[self.choose(observation)]


class Taxi:
    """Bring the passenger to the destination."""

    option_names = (*(f"go to {landmark}" for landmark in LANDMARKS), "pick up", "put down")
    rules = """You direct a taxi in a small town with four landmarks: red, green, yellow and blue.
It wins by picking up the passenger and putting the passenger down at the destination."""
    option_help = """Options: go to red; go to green; go to yellow; go to blue; pick up; put down.
Pick up works only where the passenger waits, put down only at the destination with the passenger in the taxi."""
    scene = "where the passenger, the destination and the taxi are"
    examples = tuple(
        (state, f"Scene: {state}\nReasoning: {reasoning}\nDecision: {decision}")
        for state, reasoning, decision in (
            ("The passenger waits at green, the destination is red, and the taxi is not at green.",
             "The taxi must be where the passenger waits, and it is not there yet.", "go to green, pick up"),
            ("The passenger is in the taxi, the destination is yellow, and the taxi is not at yellow.",
             "The passenger is in the taxi and wants to be at yellow.", "go to yellow, put down"),
            ("The passenger waits at blue, the destination is yellow, and the taxi is at blue.",
             "The taxi is where the passenger waits.", "pick up"),
            ("The passenger is in the taxi, the destination is green, and the taxi is at green.",
             "The taxi is at the destination with the passenger.", "put down"),
        )
    )  # fmt: skip
    synonyms = {"drive to|move to": "go to", "pick up passenger": "pick up", "(?:put|drop)(?: passenger)? (?:down|off)": "put down"}
    defaults = {"iterations": 100, "episodes": 200, "i1": 20, "i2": 60, "num_trajectories": 20, "epochs": 6}

    def make_env(self, render_mode: str | None = None) -> gym.Env:
        """Return Taxi-v3; an episode has at most 200 steps."""
        return gym.make("Taxi-v3", render_mode=render_mode)

    def describe(self, observation: int) -> str:
        """Return where the passenger is, where to, and whether the taxi is at the landmark that matters: 32 texts."""
        cell, passenger, destination = read(observation)
        where = "is in the taxi" if passenger == ABOARD else f"waits at {LANDMARKS[passenger]}"
        needed = destination if passenger == ABOARD else passenger
        there = "at" if cell == CELLS[needed] else "not at"
        return (
            f"The passenger {where}, the destination is {LANDMARKS[destination]}, "
            f"and the taxi is {there} {LANDMARKS[needed]}."
        )

    def states(self) -> list[str]:
        """Return all texts of states that the game can be in: a passenger at the destination has arrived."""
        possible = [s for s in range(500) if read(s)[1] != read(s)[2]]
        return list(dict.fromkeys(map(self.describe, possible)))

    def make_option(self, name: str) -> Any:
        """Return the option of that name."""
        if name == "pick up":
            return Option(lambda _: PICK_UP, lambda observation: read(observation)[1] == ABOARD)
        if name == "put down":
            return Option(lambda _: PUT_DOWN, lambda observation: read(observation)[1] != ABOARD)
        landmark = LANDMARKS.index(name.removeprefix("go to "))  # ValueError if there is none
        return Option(
            lambda observation: routes(landmark)[read(observation)[0]],
            lambda observation: read(observation)[0] == CELLS[landmark],
        )
