"""Where the robot can stand to pick an object up: on the map, within the arm's reach, with room for the arm.

The map is habitat-sim's: its navigation mesh for the floor, its ray casting against the furniture for what is above. No
place is read from an episode or a receptacle.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import habitat_sim
import numpy as np
from magnum import Vector3

from navpick.arm import Arm, turn

RADII = np.arange(0.45, 1.25, 0.05)  # metres between base and object
COMFORTABLE = 0.85  # farther away the arm is nearly straight; only if nothing nearer will do
UP = np.array([0.0, 1.0, 0.0])
DIRECTIONS = [np.array([math.cos(bearing), 0.0, math.sin(bearing)]) for bearing in np.arange(36) * math.tau / 36]
MARGIN = 0.1  # metres of the arm's length that stay bent
WIDTH = 0.12  # metres to either side of the arm's way that must be free
SWEEP = np.linspace(-0.6, 0.6, 13)  # radians from the object's direction that the arm takes while it picks
TURN = 0.7  # metres round the base that the arm takes while the robot turns
STEP = 0.2  # radians between two looks at what is in the arm's way as the robot turns
THICK = 1.1  # how much farther out than its joints the arm takes room


def places_to_stand(furniture: Furniture, thing: np.ndarray, arm: Arm) -> tuple[np.ndarray, str]:
    """Return the places on the floor (K, 3) from which the arm's way to `thing` (3,) is free and its room greatest.

    Where there are none, returns the place that is nearest to the object, and why it cannot be picked.
    """
    sim = furniture.sim
    nearest = sim.safe_snap_point(thing)
    floor = nearest[1]
    heights = arm.shoulder[2] + np.array([0.0, 0.3])  # between them are the upper arm and the elbow
    rise = thing[1] - floor - arm.shoulder[2]
    reach = math.sqrt(max(0.0, (arm.length - MARGIN) ** 2 - rise**2)) + arm.shoulder[0]
    stood, found = 0, []
    for radius in RADII[: np.searchsorted(RADII, reach)]:
        for away in DIRECTIONS:
            place = np.array([0, floor, 0]) + (thing + radius * away) * [1, 0, 1]
            if math.dist(place, sim.pathfinder.snap_point(place, sim.largest_island_idx)) > 0.02:
                continue
            stood += 1
            shoulders = [place + height * UP for height in heights]
            aside = WIDTH * np.cross(away, UP)
            over = thing + WIDTH * UP
            if furniture.between((shoulder + side, over + side) for shoulder in shoulders for side in (-aside, aside)):
                continue
            sweep = [math.cos(turned) * -away + math.sin(turned) * np.cross(away, UP) for turned in SWEEP]
            in_picking = furniture.between((s, s + radius * direction) for s in shoulders for direction in sweep)
            in_turning = furniture.between((s, s + TURN * way) for s in shoulders for way in DIRECTIONS[::2])
            found.append((place, radius > COMFORTABLE, in_picking, in_turning))
    if not found:
        gap = math.dist(nearest[::2], thing[::2])
        why = f"the arm reaches {reach:.2f} m, and the robot comes no nearer than {gap:.2f} m"
        if stood:
            why = f"furniture is in the arm's way from each of {stood} places within its reach of {reach:.2f} m"
        return nearest[None], why
    best = min(rank for _, *rank in found)
    return np.array([place for place, *rank in found if rank == best]), ""


class Furniture:
    """What stands in the room and is neither the robot nor an object to pick."""

    def __init__(self, sim: Any) -> None:
        self.sim = sim
        robot = sim.articulated_agent.sim_obj
        self.others = {robot.object_id, *robot.link_object_ids, *sim.scene_obj_ids}

    def between(self, ways: Iterable[tuple[np.ndarray, np.ndarray]]) -> int:
        """Return how many of these straight ways, each from a point (3,) to a point (3,), meet furniture."""
        return sum(self.meets(start, end) for start, end in ways)

    def in_turning(self, base: np.ndarray, points: np.ndarray, turned: float) -> int:
        """Return how often furniture is in the way of the arm's points (K, 3) as the robot turns on the spot.

        Straight ways lead to each from the robot's axis, every STEP radians of `turned`, to the left.

        base: the robot's transformation (4, 4) at the start; points: metres in its frame.
        """
        angles = np.arange(0.0, abs(turned), STEP) * np.sign(turned)
        frames = base @ turn(np.array([0.0, 0.0, 1.0]), angles)  # (N, 4, 4)
        starts, ends = (
            np.moveaxis(frames @ np.c_[points * scale, np.ones(len(points))].T, 1, -1)[..., :3].reshape(-1, 3)
            for scale in ([0, 0, 1], [THICK, THICK, 1])
        )
        return self.between(zip(starts, ends))

    def meets(self, start: np.ndarray, end: np.ndarray) -> bool:
        """Return whether a straight way meets furniture."""
        ray = habitat_sim.geo.Ray(Vector3(*start), Vector3(*(end - start)))  # from arrays it takes twice as long
        hits = self.sim.cast_ray(ray, max_distance=1.0).hits
        return any(hit.object_id not in self.others for hit in hits)
