"""The teacher's options for Habitat's Nav & Pick (paper section 4.2): navigate, pick.

    python -m navpick.options           # the arm on its way to a spot over a table

An option is the triple (initiation set, policy, termination) of Sutton, Precup & Singh (1999). All three are functions
of the observation vector alone (navpick/layout.py); each policy is a diagonal Gaussian over the 11-dim action: its
means and standard deviations, (2, 11).

Both are scripted: navigate follows the geodesic path that the observation's hints lead along, pick moves the arm by
damped least squares (Wampler 1986) on the Fetch's kinematics. Policies that were trained, as the paper's were, take
their places in `make_option`; where an option can start and when it is done stay the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Callable, NamedTuple

import numpy as np

from navpick.layout import AHEAD, ARM, FORWARD, GRIP, IN_REACH, NO_STOP, NUM_ACTIONS, STOP, TURN, read

# Standard deviations of the scripted policies.
DEVIATIONS = np.full(NUM_ACTIONS, 0.1, np.float32)

MAX_ADVANCE = 10 / 120  # metres a step at action 1: habitat-lab's speed at 120 Hz
MAX_JOINT_STEP = 0.0125  # radians a step at action 1
BRAKING = 4  # steps from its target, the arm slows down
TORSO_LIFT = 0.15  # habitat-lab holds it there
# The Fetch's arm from base to wrist: where each joint stands on the link before, metres, and the axis it turns about.
JOINTS = (
    ((-0.086875 + 0.119525, 0, 0.37743 + TORSO_LIFT + 0.34858), 2),
    ((0.117, 0, 0.06), 1),
    ((0.219, 0, 0), 0),
    ((0.133, 0, 0), 1),
    ((0.197, 0, 0), 0),
    ((0.1245, 0, 0), 1),
    ((0.1385, 0, 0), 0),
)
LIMITS = np.array([1.6056, 1.518, np.inf, 2.251, np.inf, 2.16, np.inf])
LOWER_LIMITS = np.array([-1.6056, -1.221, -np.inf, -2.251, -np.inf, -2.16, -np.inf])
SUCTION = (0.16645 + 0.08, 0, 0)  # the end effector on the wrist


def kinematics(angles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Position (3,) and rotation (3, 3) of the end effector in the base's frame, and their Jacobian (6, 7)."""
    position, rotation = np.zeros(3), np.eye(3)
    axes, origins = [], []
    for (offset, axis), angle in zip(JOINTS, angles):
        position = position + rotation @ offset
        axes.append(rotation[:, axis])
        origins.append(position)
        cos, sin = np.cos(angle), np.sin(angle)
        turn = np.eye(3)
        j, k = (axis + 1) % 3, (axis + 2) % 3
        turn[j, j] = turn[k, k] = cos
        turn[j, k], turn[k, j] = -sin, sin
        rotation = rotation @ turn
    position = position + rotation @ SUCTION
    linear = np.cross(axes, position - np.array(origins))
    return position, rotation, np.concatenate([linear.T, np.array(axes).T])


def move_arm(angles: np.ndarray, target: np.ndarray, damping: float = 0.1) -> np.ndarray:
    """Joint steps (7,), in [-1, 1], that bring the end effector towards `target` with the suction cup pointing down.

    Damped least squares: dq = J^T (J J^T + damping^2 I)^-1 e, with the error e of position and pointing.
    """
    position, rotation, jacobian = kinematics(angles)
    pointing = np.cross(rotation[:, 0], (0, 0, -1))  # axis and sine of the angle to straight down
    error = np.concatenate([target - position, 0.5 * pointing])
    error[:3] *= min(1.0, 0.1 / max(float(np.linalg.norm(error[:3])), 1e-9))  # linear only nearby
    square = jacobian @ jacobian.T + damping**2 * np.eye(6)
    step = jacobian.T @ np.linalg.solve(square, error)
    step = np.clip(angles + step, LOWER_LIMITS, LIMITS) - angles
    return step / max(BRAKING * MAX_JOINT_STEP, float(np.abs(step).max()))


def navigate(observation: np.ndarray) -> np.ndarray:
    """Means (11,): turn to the next corner of the geodesic path and go there; near the object, turn to that.

    Where a step ago and a step on call for nearly the same action, a student learns it easily: so all is proportional.
    """
    means = np.zeros(NUM_ACTIONS, np.float32)
    means[GRIP], means[STOP] = -1.0, NO_STOP
    ahead, left = read(observation, "corner_ahead")[0], read(observation, "corner_left")[0]
    distance, angle = read(observation, "obj_start_gps_compass")
    near = distance < IN_REACH or read(observation, "path_length")[0] < 0.1
    bearing, metres = (-angle, 0.0) if near else (np.arctan2(left, ahead), np.hypot(ahead, left))
    means[TURN] = np.clip(bearing / AHEAD, -1.0, 1.0)
    means[FORWARD] = min(metres / MAX_ADVANCE, 1.0) * max(0.0, 1.0 - abs(bearing) / (2 * AHEAD))
    return means


HOVER = 0.12  # metres over the object from which the suction cup comes straight down
CLEAR = 0.25  # metres over where the object lay from which the arm goes straight to rest


def pick(observation: np.ndarray) -> np.ndarray:
    """Means (11,): suction cup over the object, straight down; once it holds, straight up, then back to rest."""
    means = np.zeros(NUM_ACTIONS, np.float32)
    means[GRIP], means[STOP] = 1.0, NO_STOP
    angles = read(observation, "joint")
    position, rotation, _ = kinematics(angles)
    thing = position + rotation @ read(observation, "obj_start_sensor")
    if read(observation, "is_holding")[0]:
        lifted = np.clip((position[2] - thing[2]) / CLEAR, 0.0, 1.0)
        target = position + read(observation, "relative_resting_position") * [lifted, lifted, 1.0]
    else:
        aside = np.linalg.norm(position[:2] - thing[:2])
        target = thing + np.array([0, 0, np.clip(4 * (aside - 0.02), 0.0, HOVER)])
    means[ARM] = move_arm(angles, target)
    return means


Policy = Callable[[np.ndarray], np.ndarray]  # observation -> means and standard deviations of the action, (2, 11)


class Option(NamedTuple):
    """What it does, where it can start, when it is done; all from an observation vector."""

    policy: Policy
    can_start: Callable[[np.ndarray], bool]
    is_done: Callable[[np.ndarray], bool]


def scripted(means: Callable[[np.ndarray], np.ndarray]) -> Policy:
    """A policy with these means and always the same standard deviations."""
    return lambda observation: np.stack([means(observation), DEVIATIONS])


def in_reach(observation: np.ndarray) -> bool:
    """Whether the object can be picked from here."""
    distance, angle = read(observation, "obj_start_gps_compass")
    return bool(distance < IN_REACH and abs(angle) < AHEAD)


def holds(observation: np.ndarray) -> bool:
    """Whether the robot holds something."""
    return bool(read(observation, "is_holding")[0])


OPTIONS = {
    "navigate": Option(scripted(navigate), lambda observation: not holds(observation), in_reach),
    "pick": Option(scripted(pick), lambda observation: in_reach(observation) or holds(observation), lambda _: False),
}


def make_option(name: str, learned: Mapping[str, Policy] | None = None) -> Option:
    """The option of that name, with a learned policy where there is one; ValueError if there is no such option."""
    if name not in OPTIONS:
        raise ValueError(f"there is no option {name!r}; there are {', '.join(OPTIONS)}")
    return OPTIONS[name]._replace(policy=(learned or {}).get(name, OPTIONS[name].policy))


def main() -> None:
    """Move the arm from where it rests to a spot over a table, and print where the suction cup is on the way."""
    angles, target = np.array([-0.45, -1.08, 0.1, 0.935, -0.001, 1.573, 0.005]), np.array([0.65, 0.0, 0.75])
    for step in range(201):
        position, rotation, _ = kinematics(angles)
        if step % 40 == 0:
            tilt = np.degrees(np.arccos(np.clip(-rotation[2, 0], -1.0, 1.0)))
            print(f"step {step:3d}  cup at {np.round(position, 3)} m, {tilt:4.1f} degrees from straight down")
        angles = angles + MAX_JOINT_STEP * move_arm(angles, target)


if __name__ == "__main__":
    main()
