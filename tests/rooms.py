"""Draw MiniGrid rooms by hand, follow options through them, and find by brute force what they should do."""

from collections import deque

import numpy as np
from minigrid.core.actions import Actions
from minigrid.core.grid import Grid
from minigrid.core.world_object import Door, Key, Lava, Wall

from envs import SimpleDoorKeyEnv
from options import UNSEEN

LETTERS = {
    "#": Wall,
    "~": Lava,
    "r": lambda: Key("red"),
    "b": lambda: Key("blue"),
    "R": lambda: Door("red", is_locked=True),
    "B": lambda: Door("blue", is_locked=True),
}
EAST, SOUTH, WEST, NORTH = range(4)
STEPS = {EAST: (1, 0), SOUTH: (0, 1), WEST: (-1, 0), NORTH: (0, -1)}


def draw(picture, direction, carrying=None, see_all=False):
    """Return a room of the picture's cells, one letter each, with the agent at A."""
    env = SimpleDoorKeyEnv(max_steps=1000)
    env.reset(seed=0)
    env.grid, env.doors, env.carrying, env.agent_dir = Grid(10, 10), [], carrying, direction
    env.memory[:] = (0, 0, 0, 4)
    for y, line in enumerate(picture.split()):
        for x, letter in enumerate(line):
            if letter == "A":
                env.agent_pos = (x, y)
            elif letter in LETTERS:
                env.grid.set(x, y, LETTERS[letter]())
                if letter in "RB":
                    env.doors.append(env.grid.get(x, y))
    if see_all:
        reveal(env)
    return env


def reveal(env):
    """Put the whole grid into the memory."""
    env.memory[:, :, :3] = env.grid.encode()
    env.gen_obs()


def follow(env, option, at_most=400):
    """Run an option to its end; return its actions, and whether the episode ended with it."""
    memory, actions = env.gen_obs(), []
    while not option.is_done(memory):
        assert len(actions) < at_most, f"{option.name} does not end"
        actions.append(Actions(int(option.policy(memory).argmax())))
        memory, _, terminated, truncated, _ = env.step(actions[-1])
        if terminated or truncated:
            return actions, True
    return actions, False


def brute_force(free, start, goal):
    """Return the least number of turns and moves to a pose where goal(x, y, direction) holds; None if there is none."""
    distance, queue = {start: 0}, deque([start])
    while queue:
        pose = queue.popleft()
        if goal(*pose):
            return distance[pose]
        x, y, direction = pose
        neighbours = [(x, y, (direction + 1) % 4), (x, y, (direction + 3) % 4)]
        ahead = (x + STEPS[direction][0], y + STEPS[direction][1])
        if ahead in free:
            neighbours.append((*ahead, direction))
        for neighbour in neighbours:
            if neighbour not in distance:
                distance[neighbour] = distance[pose] + 1
                queue.append(neighbour)
    return None


def reachable(env, walkable):
    """Return the cells that can be walked to, over empty ones and what is walkable, and those beside them."""
    inside, stack = {tuple(int(c) for c in env.agent_pos)}, [tuple(int(c) for c in env.agent_pos)]
    beside = set()
    while stack:
        x, y = stack.pop()
        for dx, dy in STEPS.values():
            cell = (x + dx, y + dy)
            thing = env.grid.get(*cell)
            if cell not in inside and (thing is None or thing.type in walkable):
                inside.add(cell)
                stack.append(cell)
            beside.add(cell)
    return inside | beside


def walkable(option_set):
    """Return what an option set walks over, besides empty cells."""
    return {"lava"} if option_set == "paper" else set()


def sees(env):
    """Return the cells that were seen."""
    return {(int(x), int(y)) for x, y in np.argwhere(env.memory[:, :, 0] != UNSEEN)}
