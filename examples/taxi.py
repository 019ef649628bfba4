"""Gymnasium's taxi in words: python train.py --env examples/taxi.py:Taxi."""

from __future__ import annotations

from functools import cache
from typing import Any, Callable, NamedTuple

import gymnasium as gym
import numpy as np

TAXI = "Taxi-v3" if "Taxi-v3" in gym.registry else "Taxi-v4"  # newer releases of gymnasium have only v4
LANDMARKS = ("red", "green", "yellow", "blue")  # as Taxi-v3 numbers them; a passenger at 4 is in the taxi
CELLS = ((0, 0), (0, 4), (4, 0), (4, 3))  # (row, column) of each
PICK_UP, PUT_DOWN, ABOARD = 4, 5, 4
ACTIONS = np.eye(6, dtype=np.float32)  # probabilities, one row for each action


def read(observation: int) -> tuple[tuple[int, int], int, int]:
    """Return the taxi's (row, column), the passenger's place and the destination, from an observation."""
    rest, destination = divmod(int(observation), 4)
    rest, passenger = divmod(rest, 5)
    return divmod(rest, 5), passenger, destination


@cache
def routes(landmark: int) -> dict[tuple[int, int], int]:
    """Return for each cell the move that begins a shortest way to a landmark, from the environment's own table."""
    table = gym.make(TAXI).unwrapped.P
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
    """What it does and when it is done; it can start anywhere, whether that makes sense or not."""

    policy: Callable[[int], np.ndarray]  # observation -> the probabilities of the six actions
    is_done: Callable[[int], bool]
    can_start: Callable[[int], bool] = lambda observation: True


class Taxi:
    """Bring the passenger to the destination."""

    option_names = (*(f"go to {landmark}" for landmark in LANDMARKS), "pick up", "put down")
    rules = "You direct a taxi between red, green, yellow and blue. Bring the passenger to the destination."
    option_help = """Options: go to red; go to green; go to yellow; go to blue; pick up; put down.
Pick up only where the passenger waits, put down only at the destination."""
    scene = "where the passenger and the taxi are"
    examples = (
        ("The passenger waits at green, and the taxi is not at green.",
         "Scene: passenger at green, taxi elsewhere.\nReasoning: Go there first.\nDecision: go to green, pick up"),
        ("The passenger is in the taxi and wants to go to yellow, and the taxi is not at yellow.",
         "Scene: passenger in the taxi.\nReasoning: The destination is yellow.\nDecision: go to yellow, put down"),
        ("The passenger waits at yellow, and the taxi is at yellow.",
         "Scene: passenger and taxi at yellow.\nReasoning: It can get in.\nDecision: pick up"),
        ("The passenger is in the taxi and wants to go to green, and the taxi is at green.",
         "Scene: passenger in the taxi, arrived.\nReasoning: It can get out.\nDecision: put down"),
    )  # fmt: skip
    synonyms = {"drive to|move to": "go to", "(pick up|put down)(?: passenger| at \\w+)+": r"\1"}
    defaults = {"iterations": 100, "episodes": 200, "num_trajectories": 20, "epochs": 6, "entropy_coef": 0.01}
    defaults |= {"lambda_0": 1.0, "i1": 15, "i2": 30}  # soon on its own: the LLM errs

    def make_env(self, render_mode: str | None = None) -> gym.Env:
        """Return the taxi, at most 200 steps an episode; rewards are divided by 20, to be near 1."""
        return gym.wrappers.TransformReward(gym.make(TAXI, render_mode=render_mode), lambda reward: reward / 20)

    def describe(self, observation: int) -> str:
        """Return where the passenger is or wants to go, and whether the taxi is there: 16 texts."""
        cell, passenger, destination = read(observation)
        needed = destination if passenger == ABOARD else passenger
        where = "is in the taxi and wants to go to" if passenger == ABOARD else "waits at"
        there = "at" if cell == CELLS[needed] else "not at"
        return f"The passenger {where} {LANDMARKS[needed]}, and the taxi is {there} {LANDMARKS[needed]}."

    def states(self) -> list[str]:
        """Return all texts of states that the game can be in: a passenger at the destination has arrived."""
        possible = [s for s in range(500) if read(s)[1] != read(s)[2]]
        return list(dict.fromkeys(map(self.describe, possible)))

    def make_option(self, name: str) -> Any:
        """Return the option of that name."""
        if name == "pick up":
            return Option(lambda s: ACTIONS[PICK_UP], lambda s: read(s)[1] == ABOARD)
        if name == "put down":
            return Option(lambda s: ACTIONS[PUT_DOWN], lambda s: read(s)[1] != ABOARD)
        goal = LANDMARKS.index(name.replace("go to ", "", 1))  # ValueError if there is none
        return Option(lambda s: ACTIONS[routes(goal)[read(s)[0]]], lambda s: read(s)[0] == CELLS[goal])
