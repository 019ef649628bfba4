"""The teacher's options for Habitat's Nav & Pick (paper section 4.2): navigate, pick.

An option is the triple (initiation set, policy, termination) of Sutton, Precup & Singh (1999). All three are functions
of the observation vector alone (navpick/layout.py); each policy is a diagonal Gaussian over the 11-dim action: its
means and standard deviations, (2, 11).

Both are scripted: navigate follows the geodesic path that the observation's hints lead along, pick moves the arm by
inverse kinematics (navpick/arm.py). Policies that were trained, as the paper's were, take their places in
`make_option`; where an option can start and when it is done stay the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Callable, NamedTuple

import numpy as np

from navpick.arm import Arm
from navpick.layout import AHEAD, ARM, FORWARD, GRIP, NO_STOP, NUM_ACTIONS, STOP, TURN, in_reach, read

OPTION_NAMES = ("navigate", "pick")
# Standard deviations of the scripted policies: as large as they do no harm, since a student explores with them.
DEVIATIONS = {name: np.full(NUM_ACTIONS, 0.1, np.float32) for name in OPTION_NAMES}
DEVIATIONS["navigate"][[FORWARD, TURN]] = 0.2, 0.4
DEVIATIONS["pick"][ARM] = 0.3

MAX_ADVANCE = 10 / 120  # metres a step at action 1: habitat-lab's speed at 120 Hz
MAX_JOINT_STEP = 0.0125  # radians a step at action 1
BRAKING = 8  # an arm that far from its target, in steps at full speed, is down to 1 / sqrt(2) of full speed
# Least share of full speed while it turns: a student that is unsure whether left or right would stand there for ever.
CREEP = 0.15
TURN_ON_THE_SPOT = 0.5  # metres before the end of the path


def navigate(observation: np.ndarray) -> np.ndarray:
    """Return means (11,): turn to the geodesic path's next corner and go there; at its end, turn to the object.

    Where a step ago and a step on call for nearly the same action, a student learns it easily: so all is proportional.
    Suction is on as in pick, because a student cannot see where one option takes over from the other.
    """
    means = np.zeros(NUM_ACTIONS, np.float32)
    means[GRIP], means[STOP] = 1.0, NO_STOP
    metres, bearing = read(observation, "corner_distance")[0], read(observation, "corner_bearing")[0]
    means[TURN] = np.clip(bearing / AHEAD, -1.0, 1.0)
    slowest = CREEP if read(observation, "path_length")[0] > TURN_ON_THE_SPOT else 0.0
    means[FORWARD] = min(metres / MAX_ADVANCE, 1.0) * max(slowest, 1.0 - abs(bearing) / (2 * AHEAD))
    return means


def joint_actions(change: np.ndarray) -> np.ndarray:
    """Return the arm's actions (7,) in [-1, 1] for changes in radians: as fast as can be, slower near the end."""
    return change / np.hypot(BRAKING * MAX_JOINT_STEP, np.abs(change).max())


# The suction cup comes down a cone, two metres for each metre that it is aside of the object. In a steeper cone a
# centimetre aside turns down into up, and a student learns it slowly; in one of 45 degrees it failed more often.
HOVER = 0.2  # metres over the object's middle from which it comes down: clear of the top of a box
BELOW = 0.08  # metres under its middle to the cone's tip: cups are open above
TILT = 0.6  # radians from straight down to straight ahead: so the wrist stays clear of what is behind the object
CLEAR = 0.25  # metres over where the object lay from which the arm goes straight to rest


def pick(observation: np.ndarray, arm: Arm) -> np.ndarray:
    """Return means (11,): the cup over the object, down on it; once it holds, straight up, then back to rest."""
    means = np.zeros(NUM_ACTIONS, np.float32)
    means[GRIP], means[STOP] = 1.0, NO_STOP
    angles = read(observation, "joint")
    pose = arm.pose(angles)
    thing = read(observation, "ee_pos") + pose.rotation @ read(observation, "obj_start_sensor")
    lifted = 0.0
    if read(observation, "is_holding")[0]:
        lifted = np.clip((pose.tip[2] - thing[2]) / CLEAR, 0.0, 1.0)
        target = pose.tip + read(observation, "relative_resting_position") * [lifted, lifted, 1.0]
    else:
        means[TURN] = np.clip(-read(observation, "obj_start_gps_compass")[1] / AHEAD, -1.0, 1.0)
        aside = np.linalg.norm(pose.tip[:2] - thing[:2])
        target = thing + np.array([0, 0, min(2 * aside - BELOW, HOVER)])
    means[ARM] = joint_actions(arm.steps_towards(angles, pose, target, TILT * (1.0 - lifted)))
    return means


Policy = Callable[[np.ndarray], np.ndarray]  # observation -> means and standard deviations of the action, (2, 11)


class Option(NamedTuple):
    """What it does, where it can start, when it is done; all from an observation vector."""

    policy: Policy
    can_start: Callable[[np.ndarray], bool]
    is_done: Callable[[np.ndarray], bool]


def holds(observation: np.ndarray) -> bool:
    """Return whether the robot holds something."""
    return bool(read(observation, "is_holding")[0])


def make_option(
    name: str, arm: Arm, learned: Mapping[str, Policy] | None = None, start_anywhere: bool = True
) -> Option:
    """Return the option of that name, for a robot with this arm, with a learned policy where there is one.

    Every state is in the initiation set, as A.4.1 has it for MiniGrid, so that an LLM has to choose. Without
    `start_anywhere` one option alone can act in each state. Raises ValueError if there is no such option.
    """
    scripted: dict[str, Callable[[np.ndarray], np.ndarray]] = {"navigate": navigate, "pick": partial(pick, arm=arm)}
    if name not in scripted:
        raise ValueError(f"there is no option {name!r}; there are {', '.join(OPTION_NAMES)}")

    def policy(observation: np.ndarray) -> np.ndarray:
        return np.stack([scripted[name](observation), DEVIATIONS[name]])

    def can_start(observation: np.ndarray) -> bool:
        if start_anywhere:
            return True
        return not holds(observation) if name == "navigate" else in_reach(observation) or holds(observation)

    def is_done(observation: np.ndarray) -> bool:
        return name == "navigate" and in_reach(observation)

    return Option((learned or {}).get(name, policy), can_start, is_done)
