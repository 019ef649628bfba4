"""What stands where in an observation and an action of Nav & Pick: one place for all that read or write them."""

from __future__ import annotations

import functools
import math

import numpy as np

IMAGE_SIDE = 64
# What every student knows besides the depth image: numbers, and the scale that brings them to about one.
SENSORS = {
    "joint": (7, math.pi),  # angles of the arm
    "is_holding": (1, 1.0),
    "obj_start_sensor": (3, 2.0),  # where the object is from the end effector, metres, in its frame
    "obj_start_gps_compass": (2, 3.0),  # distance and angle of the object from the base, metres and radians
    "relative_resting_position": (3, 1.0),  # from the end effector to where it rests, metres, in the base's frame
    "ee_pos": (3, 1.0),  # the end effector, metres, in the base's frame
}
# What the teacher knows besides, and the guided student: the geodesic path to a place from which the object can be
# picked, and whether the object is in reach, and whether it, or others, are seen.
HINTS = {
    "corner_distance": (1, 3.0),  # metres to the path's next corner
    "corner_bearing": (1, math.pi),  # how far to turn to face that corner, on arrival the object, radians to the left
    "path_length": (1, 3.0),  # metres, 0 on arrival
    "in_reach": (1, 1.0),
    "sees_target": (1, 1.0),
    "sees_others": (1, 1.0),
}
READINGS = {**SENSORS, **HINTS}  # in the order in which they stand behind the depth image
ACTIONS = {"arm_action": 7, "grip_action": 1, "base_vel": 2, "rearrange_stop": 1}
NUM_SENSORS, NUM_HINTS = (sum(size for size, _ in readings.values()) for readings in (SENSORS, HINTS))
NUM_ACTIONS = sum(ACTIONS.values())
SIZE = IMAGE_SIDE**2 + NUM_SENSORS + NUM_HINTS
MAX_DEPTH = 10.0  # metres at which a depth is 1; habitat-lab's
ARRIVED = 0.2  # metres from a place
AHEAD = 0.3  # radians; an object is ahead of the base within these
ARM, GRIP, FORWARD, TURN, STOP = slice(0, 7), 7, 8, 9, 10  # of an action
NO_STOP = -2.0  # a scripted policy's "stop": as far from 0 as a student's at the start, and surer
STAND_STILL = np.array([0.0] * STOP + [NO_STOP], np.float32)


@functools.cache
def sensor_slice(name: str) -> slice:
    """Return where a sensor or hint stands in an observation."""
    at = IMAGE_SIDE**2
    for reading, (size, _) in READINGS.items():
        if reading == name:
            break
        at += size
    return slice(at, at + READINGS[name][0])


def read(observation: np.ndarray, name: str) -> np.ndarray:
    """Return a reading of a sensor or hint in metres or radians."""
    return observation[sensor_slice(name)] * READINGS[name][1]


def in_reach(observation: np.ndarray) -> bool:
    """Return whether the robot stands where the object can be picked, and faces it, as a hint says."""
    return bool(read(observation, "in_reach")[0])
