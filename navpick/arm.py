"""The robot's arm as its URDF describes it: joints, limits, hand, and from these the kinematics.

    python -m navpick.arm [URDF]        # where the suction cup is on its way to a spot over a table; the home's robot

Nothing here is a robot's number: another arm that habitat-lab can drive as a Fetch with a suction cup is read the same
way. All positions are metres in the robot's base frame: x ahead, y to the left, z up.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

TORSO_LIFT = 0.15  # metres; habitat-lab's FetchRobot holds the torso there
NUM_JOINTS = 7  # the arm is the last seven turning joints before the hand
ELBOW = 3  # the joint from which the forearm begins
DAMPING = 0.1
UP = np.array([0.0, 0.0, 1.0])


class ArmError(ValueError):
    """A URDF is not that of a robot with an arm."""


class Pose(NamedTuple):
    """Where the arm's hand is."""

    joints: np.ndarray  # (7, 3), where the joints are
    tip: np.ndarray  # (3,), the middle of the suction cup's outer face
    pointing: np.ndarray  # (3,), the unit vector out of the suction cup
    rotation: np.ndarray  # (3, 3), the frame in which habitat-lab's sensors give what is seen from the hand
    jacobian: np.ndarray  # (6, 7): the tip's velocity and the hand's angular velocity for each joint's


class Arm(NamedTuple):
    """What the kinematics need; each joint stands in the frame that the joint before it turns."""

    offsets: np.ndarray  # (7, 4, 4), each joint's place
    axes: np.ndarray  # (7, 3), what it turns about
    lower: np.ndarray  # (7,), radians, -inf where it turns without end
    upper: np.ndarray
    hand: np.ndarray  # (3, 3), the sensors' frame in that of the last joint
    tip: np.ndarray  # (3,), the suction cup's outer face in that frame
    outward: np.ndarray  # (3,), the unit vector out of it in that frame

    def pose(self, angles: np.ndarray) -> Pose:
        """Return where the hand is at these joint angles (7,), radians."""
        frames = self.offsets @ turn(self.axes, angles)
        for joint in range(1, len(frames)):
            frames[joint] = frames[joint - 1] @ frames[joint]
        rotations, origins = frames[:, :3, :3], frames[:, :3, 3]
        axes = (rotations @ self.axes[..., None])[..., 0]
        last = rotations[-1]
        tip = last @ self.tip + origins[-1]
        jacobian = np.concatenate([np.cross(axes, tip - origins).T, axes.T])
        return Pose(origins, tip, last @ self.outward, last @ self.hand, jacobian)

    @property
    def shoulder(self) -> np.ndarray:
        """Where the second joint is, (3,), with the first at 0."""
        return (self.offsets[0] @ self.offsets[1])[:3, 3]

    @property
    def length(self) -> float:
        """Metres from the second joint to the tip of the stretched arm."""
        return float(np.linalg.norm(self.offsets[2:, :3, 3], axis=1).sum() + np.linalg.norm(self.tip))

    def steps_towards(self, angles: np.ndarray, pose: Pose, target: np.ndarray, tilt: float = 0.0) -> np.ndarray:
        """Return changes of the joints (7,), radians, that bring the tip to `target`, and the cup to point down.

        `pose`: at these angles; `tilt`: radians by which the cup is to point ahead instead.

        Two tasks in order (Siciliano & Slotine 1991), each by damped least squares (Wampler 1986): what the tip does
        not need is left for the pointing. So an object that is too far away to be met from above is met from aside.
        """
        error = target - pose.tip
        error *= min(1.0, 0.1 / max(float(np.linalg.norm(error)), 1e-9))  # linear only nearby
        ahead = np.array([*target[:2], 0.0]) / max(float(np.linalg.norm(target[:2])), 1e-9)
        turning = 0.5 * np.cross(pose.pointing, np.sin(tilt) * ahead - np.cos(tilt) * UP)
        # Turning about the cup's axis is free.
        linear, angular = pose.jacobian[:3], pose.jacobian[3:]
        angular = angular - np.outer(pose.pointing, pose.pointing @ angular)
        movable = np.ones(len(angles))
        while True:
            reach = linear * movable
            change = damped_inverse(reach, DAMPING) @ error
            idle = np.diag(movable) - damped_inverse(reach, 1e-3) @ reach  # what leaves the tip where it is
            change += idle @ damped_inverse(angular @ idle, DAMPING) @ (turning - angular @ change)
            beyond = (angles + change < self.lower) | (angles + change > self.upper)
            if not beyond[movable > 0].any():
                return np.clip(angles + change, self.lower, self.upper) - angles
            movable[beyond] = 0.0  # the others do what these cannot


def damped_inverse(matrix: np.ndarray, damping: float) -> np.ndarray:
    """Return M^T (M M^T + damping^2 I)^-1, (7, 3), of M, (3, 7).

    Without LAPACK, whose threads take a hundred times as long for three equations as the arithmetic.
    """
    (a, b, c), (d, e, f), (g, h, i) = (matrix @ matrix.T + damping**2 * np.eye(3)).tolist()
    adjugate = [
        [e * i - f * h, c * h - b * i, b * f - c * e],
        [f * g - d * i, a * i - c * g, c * d - a * f],
        [d * h - e * g, b * g - a * h, a * e - b * d],
    ]
    determinant = a * adjugate[0][0] + b * adjugate[1][0] + c * adjugate[2][0]
    return matrix.T @ np.array(adjugate) / determinant


def turn(axes: np.ndarray, angles: Any) -> np.ndarray:
    """Return the rotations (..., 4, 4) by angles (...) about unit vectors (..., 3), by Rodrigues' formula."""
    x, y, z = np.moveaxis(axes, -1, 0)
    o = np.zeros_like(x)
    cross = np.moveaxis(np.array([[o, -z, y, o], [z, o, -x, o], [-y, x, o, o], [o, o, o, o]]), (0, 1), (-2, -1))
    sin, cos = (np.asarray(f(angles))[..., None, None] for f in (np.sin, np.cos))
    return np.eye(4) + sin * cross + (1 - cos) * cross @ cross


def read_arm(urdf: Path) -> Arm:
    """Return the arm that a URDF describes; raises ArmError where there is none.

    The hand is the link with the most turning joints between it and the base. habitat-sim puts a link's frame where
    the URDF puts its inertia, and habitat-lab tilts the base's by -90 degrees about x, so that z points up.
    """
    try:
        robot = ET.parse(urdf).getroot()
        links = {link.attrib["name"]: link for link in robot.findall("link")}
        above = {joint.find("child").attrib["link"]: joint for joint in robot.findall("joint")}  # type: ignore[union-attr]
        chains = {name: chain_to(name, above) for name in links}
        hand = max(chains, key=lambda name: (sum(map(turns, chains[name])), len(chains[name])))
        chain = chains[hand]
        arm = [joint for joint in chain if turns(joint)][-NUM_JOINTS:]
        if len(arm) < NUM_JOINTS:
            raise ArmError(f"{urdf} has no arm: {hand} has {len(arm)} turning joints above it, {NUM_JOINTS} are needed")
        base = links[chain[0].find("parent").attrib["link"]]  # type: ignore[union-attr]
        frame = np.linalg.inv(inertial(base) @ turn(np.array([1.0, 0.0, 0.0]), -np.pi / 2))
        offsets = []
        for joint in chain:
            frame = frame @ origin(joint)
            if joint in arm:
                offsets.append(frame)
                frame = np.eye(4)
            elif joint.attrib["type"] == "prismatic" and not offsets:
                frame = frame @ lift(axis_of(joint) * TORSO_LIFT)
        outward = axis_of(arm[-1])
        corners = np.array([(frame @ [*corner, 1.0])[:3] for corner in contact_corners(links[hand])])
        reach = corners @ outward
        if abs(reach.min()) > abs(reach.max()):
            outward, reach = -outward, -reach
        tip = corners[reach > reach.max() - 1e-3].mean(0)
        lower, upper = np.array([limits_of(joint) for joint in arm]).T
    except (OSError, ET.ParseError, AttributeError, KeyError, ValueError) as error:
        if isinstance(error, ArmError):
            raise
        raise ArmError(f"{urdf} cannot be read as a robot ({error!r})") from None
    rotation = (frame @ inertial(links[hand]))[:3, :3]
    return Arm(np.array(offsets), np.array([axis_of(joint) for joint in arm]), lower, upper, rotation, tip, outward)


def chain_to(link: str, above: dict[str, ET.Element]) -> list[ET.Element]:
    """Return the joints from the base to a link; `above`: by link the joint that it hangs on.

    Raises ValueError if the link hangs on itself.
    """
    chain: list[ET.Element] = []
    while link in above:
        if above[link] in chain:
            raise ValueError(f"{link} hangs on itself")
        chain.insert(0, above[link])
        link = above[link].find("parent").attrib["link"]  # type: ignore[union-attr]
    return chain


def turns(joint: ET.Element) -> bool:
    """Return whether a joint turns."""
    return joint.attrib["type"] in ("revolute", "continuous")


def numbers(element: ET.Element | None, name: str, default: str) -> np.ndarray:
    """Return an attribute's numbers."""
    return np.array((element.attrib.get(name, default) if element is not None else default).split(), float)


def origin(element: ET.Element) -> np.ndarray:
    """Return where a joint, an inertia or a shape is on its link, (4, 4)."""
    place = element.find("origin")
    roll, pitch, yaw = numbers(place, "rpy", "0 0 0")
    x, y, z = np.eye(3)
    return lift(numbers(place, "xyz", "0 0 0")) @ turn(z, yaw) @ turn(y, pitch) @ turn(x, roll)


def lift(vector: np.ndarray) -> np.ndarray:
    """Return the translation (4, 4)."""
    frame = np.eye(4)
    frame[:3, 3] = vector
    return frame


def inertial(link: ET.Element) -> np.ndarray:
    """Return where a link's inertia is on it, (4, 4)."""
    inertia = link.find("inertial")
    return origin(inertia) if inertia is not None else np.eye(4)


def axis_of(joint: ET.Element) -> np.ndarray:
    """Return a joint's axis, a unit vector in the joint's frame."""
    axis = numbers(joint.find("axis"), "xyz", "1 0 0")
    return axis / np.linalg.norm(axis)


def limits_of(joint: ET.Element) -> tuple[float, float]:
    """Return the least and the greatest angle of a joint, radians."""
    if joint.attrib["type"] == "continuous":
        return -np.inf, np.inf
    limit = joint.find("limit")
    return float(limit.attrib["lower"]), float(limit.attrib["upper"])  # type: ignore[union-attr]


def contact_corners(link: ET.Element) -> list[np.ndarray]:
    """Return the corners of the boxes round a link's collision shapes, in its frame; of a mesh, only where it is."""
    corners = [np.zeros(3)]
    for shape in link.findall("collision"):
        geometry = shape.find("geometry")
        box, cylinder, sphere = (geometry.find(kind) for kind in ("box", "cylinder", "sphere"))  # type: ignore[union-attr]
        if box is not None:
            half = numbers(box, "size", "") / 2
        elif cylinder is not None:
            radius = float(cylinder.attrib["radius"])
            half = np.array([radius, radius, float(cylinder.attrib["length"]) / 2])
        else:
            half = np.full(3, float(sphere.attrib["radius"]) if sphere is not None else 0.0)
        corners += [(origin(shape) @ [*corner, 1.0])[:3] for corner in product(*zip(-half, half))]
    return corners


def main() -> None:
    """Print where a robot's suction cup is on the way from rest to a spot over a table."""
    home = Path(__file__).resolve().parents[1] / "data" / "home" / "robots" / "fetch_suction.urdf"
    try:
        arm = read_arm(Path(sys.argv[1]) if len(sys.argv) > 1 else home)
    except ArmError as error:
        print(f"navpick.arm: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    angles, target = np.array([-0.45, -1.08, 0.1, 0.935, -0.001, 1.573, 0.005]), np.array([0.65, 0.0, 0.75])
    for step in range(201):
        pose = arm.pose(angles)
        if step % 40 == 0:
            tilt = np.degrees(np.arccos(np.clip(-pose.pointing @ UP, -1.0, 1.0)))
            print(f"step {step:3d}  cup at {np.round(pose.tip, 3)} m, {tilt:4.1f} degrees from straight down")
        change = arm.steps_towards(angles, pose, target)
        angles = angles + 0.0125 * change / max(0.05, float(np.abs(change).max()))


if __name__ == "__main__":
    main()
