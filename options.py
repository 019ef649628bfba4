"""The teacher's options for MiniGrid (paper section 4.1.1 and A.4.1): explore, go to, pick up, drop, open.

    python options.py                                   # explore one room, drawn in the terminal
    python options.py --do "go to red key" --gif out.gif

An option is the triple (initiation set, policy, termination) of Sutton, Precup & Singh (1999). All three are functions
of the memory observation alone: an array (W, H, 4) that holds object, colour, state and agent direction of every cell
seen so far. Each policy is a Dirac distribution over MiniGrid's seven primitive actions.

Two sets:

    paper     compiled for SimpleDoorKey, as in the paper: lava counts as free floor, drop and pick up are one action
    repaired  lava is avoided; drop seeks the nearest free cell; pick up with full hands drops there first (A.4.1)
"""

from __future__ import annotations

import argparse
import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, Callable

import numpy as np
from minigrid.core.actions import Actions
from minigrid.core.constants import COLOR_TO_IDX, DIR_TO_VEC, IDX_TO_COLOR, IDX_TO_OBJECT, OBJECT_TO_IDX

UNSEEN, EMPTY, WALL = OBJECT_TO_IDX["unseen"], OBJECT_TO_IDX["empty"], OBJECT_TO_IDX["wall"]
DOOR, KEY, LAVA = OBJECT_TO_IDX["door"], OBJECT_TO_IDX["key"], OBJECT_TO_IDX["lava"]
NO_AGENT = 4  # last plane of the memory, where the agent is not
VECTORS = [(int(x), int(y)) for x, y in DIR_TO_VEC]  # of the directions 0 east, 1 south, 2 west, 3 north
DIRAC = np.eye(len(Actions), dtype=np.float32)  # row a: the distribution that always takes action a

Pose = tuple  # (x, y, direction)


@dataclass(frozen=True)
class Scene:
    """A memory observation, decoded once for all options."""

    width: int
    height: int
    kinds: bytes  # object index of the cell x, y at x * height + y
    pose: tuple[int, int, int]
    carrying: str | None  # "red key"
    things: dict[str, tuple[int, int]] = field(hash=False)  # where "red key" or "second red door" stands

    def kind(self, x: int, y: int) -> int:
        """Return the object index of the cell; outside of the grid that of a wall."""
        return self.kinds[x * self.height + y] if 0 <= x < self.width and 0 <= y < self.height else WALL


@lru_cache(maxsize=1024)
def _decode(memory: bytes, width: int, height: int) -> Scene:
    kinds, colors, directions = memory[0::4], memory[1::4], memory[3::4]
    agent = next(i for i, direction in enumerate(directions) if direction != NO_AGENT)
    carrying = None
    things: dict[str, tuple[int, int]] = {}
    for i in sorted((i for i, kind in enumerate(kinds) if kind in (KEY, DOOR)), key=lambda i: (i % height, i)):
        name = f"{IDX_TO_COLOR[colors[i]]} {IDX_TO_OBJECT[kinds[i]]}"
        if i == agent:
            carrying = name
        else:  # counted in reading order, as the state text does
            things[f"second {name}" if name in things else name] = divmod(i, height)
    return Scene(width, height, kinds, (*divmod(agent, height), directions[agent]), carrying, things)


def read_scene(memory: np.ndarray) -> Scene:
    """Decode a memory observation (W, H, 4); equal observations are decoded once."""
    return _decode(memory.tobytes(), *memory.shape[:2])


def _ahead(pose: Pose) -> tuple[int, int]:
    x, y, direction = pose
    return x + VECTORS[direction][0], y + VECTORS[direction][1]


def shortest_path(
    scene: Scene,
    goal: Callable[[Pose], bool],
    passable: frozenset[int],
    heuristic: Callable[[Pose], float] = lambda pose: 0,
) -> list[int] | None:
    """Return the shortest path by A* over poses (x, y, direction): left, right and forward cost one each.

    goal: is this pose one?  passable: the objects one can walk over.  heuristic: a lower bound of the cost from a
    pose to a goal. Returns the actions of a cheapest path, [] if the agent is there already, None if no path leads
    there.
    """
    start = scene.pose
    came_from: dict[Pose, tuple[Pose, int]] = {}
    cost = {start: 0}
    queue: list[tuple[float, int, Pose]] = [(heuristic(start), 0, start)]
    pushed = 0  # breaks ties by age, so that the path is the same on every machine
    done = set()
    while queue:
        pose = heapq.heappop(queue)[2]
        if pose in done:
            continue
        done.add(pose)
        if goal(pose):
            actions = []
            while pose != start:
                pose, action = came_from[pose]
                actions.append(action)
            return actions[::-1]
        x, y, direction = pose
        ahead = _ahead(pose)
        moves = [(Actions.left, (x, y, (direction - 1) % 4)), (Actions.right, (x, y, (direction + 1) % 4))]
        if scene.kind(*ahead) in passable:
            moves.insert(0, (Actions.forward, (*ahead, direction)))
        total = cost[pose] + 1
        for action, after in moves:
            if total < cost.get(after, float("inf")):
                pushed += 1
                cost[after], came_from[after] = total, (pose, action)
                heapq.heappush(queue, (total + heuristic(after), pushed, after))
    return None


@lru_cache(maxsize=1024)
def _explore(scene: Scene, passable: frozenset[int]) -> int | None:
    """Scan the unseen line by line: straight on while anything unseen lies further ahead, else turn to where it lies.

    None when everything is seen, that is when walls close the area. "Unseen" are the cells of the smallest rectangle
    known to hold the room: it ends at a wall seen over two cells. With something in the way a straight scan could turn
    in circles; then the nearest view of a new cell is sought, a distance that every step shortens.
    """
    if any(name.endswith("key") for name in scene.things) or (LAVA not in passable and LAVA in scene.kinds):
        return _nearest_view(scene, passable)
    height = scene.height
    walls = scene.kinds.replace(bytes([DOOR]), bytes([WALL]))
    stretch = bytes([WALL, WALL])
    across = [x + 1 for x in range(1, scene.width) if stretch in walls[x * height + 1 : (x + 1) * height]]
    down = [y + 1 for y in range(1, height) if stretch in walls[height + y :: height]]
    room_width, room_height = min(across, default=scene.width), min(down, default=height)
    columns = [x for x in range(room_width) if UNSEEN in scene.kinds[x * height : x * height + room_height]]
    rows = [y for y in range(room_height) if UNSEEN in scene.kinds[y : room_width * height : height]]
    if not rows:
        return None
    x, y, direction = scene.pose
    # Does anything unseen lie two or more cells to the east, south, west, north? Nearer cells come into view anyway.
    beyond = [reach >= 2 for reach in (columns[-1] - x, rows[-1] - y, x - columns[0], y - rows[0])]
    if beyond[direction] and scene.kind(*_ahead(scene.pose)) in passable:
        return Actions.forward
    turn_right = beyond[(direction + 1) % 4] and not beyond[(direction - 1) % 4]
    return Actions.right if turn_right else Actions.left


def _nearest_view(scene: Scene, passable: frozenset[int]) -> int | None:
    """Return the first action towards the nearest pose that shows an unseen cell beside a free one, or None."""
    frontier: set[tuple[int, int]] = set()
    for i, kind in enumerate(scene.kinds):
        if kind in passable or divmod(i, scene.height) == scene.pose[:2]:
            x, y = divmod(i, scene.height)
            frontier.update((x + dx, y + dy) for dx, dy in VECTORS if scene.kind(x + dx, y + dy) == UNSEEN)

    def shows_new(pose: Pose) -> bool:
        x, y, direction = pose
        forward_x, forward_y = VECTORS[direction]
        for side in (-1, 0, 1):  # the cells beside the agent, those one ahead, and those two ahead that nothing hides
            i, j = x - side * forward_y, y + side * forward_x
            near = (i + forward_x, j + forward_y)
            far = (i + 2 * forward_x, j + 2 * forward_y)
            if (i, j) in frontier or near in frontier or (far in frontier and scene.kind(*near) not in (WALL, DOOR)):
                return True
        return False

    path = shortest_path(scene, shows_new, passable) if frontier else None
    return path[0] if path else None


def _go_to(scene: Scene, name: str, passable: frozenset[int]) -> int:
    """Return the first action of a shortest path to a pose that faces the object; unseen cells count as free."""
    target = scene.things.get(name)
    if target is None:
        return Actions.done

    def steps_left(pose: Pose) -> int:
        return abs(pose[0] - target[0]) + abs(pose[1] - target[1]) - 1

    path = shortest_path(scene, lambda pose: _ahead(pose) == target, passable | {UNSEEN}, steps_left)
    return path[0] if path else Actions.done


def _drop_nearest(scene: Scene, passable: frozenset[int]) -> int:
    """Turn or walk to the nearest pose that faces a free cell, then drop."""
    path = shortest_path(scene, lambda pose: scene.kind(*_ahead(pose)) == EMPTY, passable)
    return Actions.done if path is None else path[0] if path else Actions.drop


@dataclass(frozen=True)
class Option:
    """(initiation set, policy, termination) of Sutton et al. 1999, each a function of the memory (W, H, 4)."""

    name: str
    initiation: Callable[[Scene], bool]
    action: Callable[[Scene], int]
    termination: Callable[[Scene], bool]

    def can_start(self, memory: np.ndarray) -> bool:
        """Return whether the state is in the initiation set: any state in which the option's object is known."""
        return self.initiation(read_scene(memory))

    def policy(self, memory: np.ndarray) -> np.ndarray:
        """Return pi_k(. | s): the probabilities of the seven actions, (7,), all on one."""
        return DIRAC[self.action(read_scene(memory))]

    def is_done(self, memory: np.ndarray) -> bool:
        """Return whether the option has reached its end in this state."""
        return self.termination(read_scene(memory))


OPTION_SETS = ("paper", "repaired")


@cache
def make_option(name: str, option_set: str = "paper") -> Option:
    """Make the option called "explore" or "go to X", "pick up X", "drop X", "open X".

    X is a colour and a noun, "red key", with "second" before it for the second of that name in reading order.
    Raises ValueError if the name is not one of these or the set is not in OPTION_SETS.
    """
    if option_set not in OPTION_SETS:
        raise ValueError(f"option set {option_set!r} is unknown; choose from {', '.join(OPTION_SETS)}")
    repaired = option_set == "repaired"
    passable = frozenset({EMPTY} if repaired else {EMPTY, LAVA})
    if name == "explore":
        return Option(
            name,
            initiation=lambda scene: True,
            action=lambda scene: Actions.done if (move := _explore(scene, passable)) is None else move,
            termination=lambda scene: _explore(scene, passable) is None,
        )
    verb = next((verb for verb in ("go to ", "pick up ", "drop ", "open ") if name.startswith(verb)), "")
    thing = name[len(verb) :]
    words = thing.removeprefix("second ").split() if verb else []
    if len(words) != 2 or words[0] not in COLOR_TO_IDX or words[1] not in ("key", "door"):
        raise ValueError(
            f"{name!r} is not an option; write explore, or go to / pick up / drop / open and a colour and key or door"
        )

    def known(scene: Scene) -> bool:
        return scene.carrying == thing or thing in scene.things

    def faces(scene: Scene) -> bool:
        return _ahead(scene.pose) == scene.things.get(thing)

    def pick_up(scene: Scene) -> int:
        if repaired and scene.carrying is not None:
            return _drop_nearest(scene, passable)
        if repaired and not faces(scene):  # dropping turned the agent away
            return _go_to(scene, thing, passable)
        return Actions.pickup

    policies = {
        "go to ": (lambda scene: _go_to(scene, thing, passable), lambda scene: scene.carrying == thing or faces(scene)),
        "pick up ": (pick_up, lambda scene: scene.carrying == thing),
        "drop ": (
            lambda scene: _drop_nearest(scene, passable) if repaired else Actions.drop,
            lambda scene: scene.carrying != thing,
        ),
        "open ": (lambda scene: Actions.toggle, lambda scene: False),  # the episode ends with it
    }
    return Option(name, known, *policies[verb])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one option in a room until it ends, drawn in the terminal or saved as a GIF."""
    import gymnasium as gym

    parser = argparse.ArgumentParser(description=main.__doc__, usage=argparse.SUPPRESS)  # errors are one line
    parser.add_argument("--do", default="explore", help='the option, such as explore or "go to red key"')
    parser.add_argument("--options", default="paper", choices=OPTION_SETS)
    parser.add_argument(
        "--room", default="envs:SimpleDoorKey-v0", help="gymnasium id of a room with a memory observation"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--gif", help="save the pictures here instead of drawing in the terminal")
    given = parser.parse_args(arguments)
    if [] in vars(given).values():  # what argparse makes of "--do=--"
        parser.error("an option has no value")
    try:
        option = make_option(given.do, given.options)
    except ValueError as error:
        parser.error(str(error))
    try:
        room: Any = gym.make(given.room, render_mode="rgb_array")
        memory, _ = room.reset(seed=given.seed)
    except (ImportError, ValueError, gym.error.Error) as error:
        parser.error(
            f"--room is {given.room!r}, which wants envs.py beside this file, and --seed {given.seed}; or name "
            f"another room, or a seed of at least 0: {error!r}"
        )
    pictures = [room.render()]
    ended = False
    if not option.can_start(memory):
        parser.error(f"{given.do!r} cannot start in room {given.seed}: the object is not in sight; try another --seed")
    while not ended and not option.is_done(memory):
        action = Actions(int(option.policy(memory).argmax()))
        memory, _, terminated, truncated, _ = room.step(action)
        ended = terminated or truncated
        pictures.append(room.render())
        if not given.gif:
            print(f"{len(pictures) - 1}: {action.name}\n{room.unwrapped.pprint_grid()}\n")
    print(f"{given.do}: {len(pictures) - 1} actions, {'the episode ended' if ended else 'done'}")
    if given.gif:
        from PIL import Image

        first, *rest = (Image.fromarray(picture).resize((320, 320)) for picture in pictures)
        try:
            first.save(given.gif, "GIF", save_all=True, append_images=rest, duration=200, loop=0)
        except (OSError, ValueError) as error:
            parser.error(f"--gif is {given.gif!r}, which cannot be written: {error}")


if __name__ == "__main__":
    main()
