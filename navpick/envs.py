"""Habitat's Nav & Pick for LLM4Teach (paper section 4.2 and A.5): a gymnasium environment on top of habitat-lab's task.

    python -m navpick.envs              # ten steps at random on the real simulator, what is seen in words

A Fetch robot starts anywhere in a room, goes to a table and picks up an object with its suction cup. Task, sensors and
measures are habitat-lab's: `RearrangePickTask-v0` and `NavToObjTask-v0`.

    habitat-navpick   start anywhere; success: the right object is held and the arm is back at rest
    habitat-pick      the same from where the option can start; habitat-lab's pick skill starts within 2 m
    habitat-nav       start more than 3 m away; success: the robot stands where the object can be picked, and faces it

An observation is one float32 vector, what every student sees first:

    depth     64 * 64 depths of the head camera in [0, 1], row by row
    sensors   A.5.1's proprioceptive and GPS sensors, see SENSORS, each divided by a scale as the hints are
    hints     for the teacher and the guided student: where the geodesic path leads, what the camera sees, see HINTS

An action is 11 numbers in habitat-lab's order: 7 arm joints, grip, 2 base velocities, stop; see ACTIONS.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any, Callable

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from navpick.arm import ELBOW, read_arm
from navpick.dataset import HabitatError, find_files
from navpick.lab import TASKS, Settings, make_lab_env, silence
from navpick.layout import (
    ACTIONS,
    AHEAD,
    ARRIVED,
    HINTS,
    IMAGE_SIDE,
    MAX_DEPTH,
    NUM_ACTIONS,
    READINGS,
    SIZE,
    in_reach,
    read,
)

# Where in an object's box it is looked for, as shares of the box's size.
NINE = np.array([(0.0, 0.0, 0.0), *(np.array(list(np.ndindex(2, 2, 2))) - 0.5) * (2 / 3)])


class HabitatEnv(gym.Env):
    """One simulator with a task of TASKS."""

    observation_space = spaces.Box(-np.inf, np.inf, (SIZE,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (NUM_ACTIONS,), np.float32)

    def __init__(self, task: str, split: str, settings: Settings | None = None) -> None:
        """Start it on the episodes of `split`, "train" or "val".

        Raises HabitatError without Habitat or a data set, and ArmError without an arm.
        """
        self.task, self.settings = task, settings or Settings()
        self.env = make_lab_env(task, split, self.settings)
        self.sim = self.env.sim
        self.arm = read_arm(find_files(Path(self.settings.folder), split)[1])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin episode `seed // 2`, modulo their number, from a start that the seed draws; without a seed, the next.

        Where the object cannot be picked from anywhere on the map, the info's "warning" says so.
        """
        import habitat_sim

        from navpick.places import Furniture, places_to_stand

        super().reset(seed=seed)
        with silence():
            if seed is not None:
                self.env.current_episode = self.env.episodes[seed // 2 % len(self.env.episodes)]
                self.env.reconfigure(self.env._config)  # loads the room, after which habitat-sim seeds its starts alike
                self.env.seed(seed % 2**31)
            sensors = self.env.reset()
        target = self.sim.scene_obj_ids[self.sim.get_targets()[0][0]]
        numbers = sorted(self.sim.scene_obj_ids, key=lambda number: number != target)
        self.objects = [self.sim.get_rigid_object_manager().get_object_by_id(number) for number in numbers]
        boxes = [thing.aabb for thing in self.objects]
        points = [np.array(box.center()) + np.array(box.size()) * NINE for box in boxes]
        self.points = np.array([np.c_[nine, np.ones(9)].T for nine in points])  # (N, 4, 9), in the objects' frames
        self.radii = np.array([[max(0.03, box.size().length() / 2)] for box in boxes])
        self.furniture = Furniture(self.sim)
        self.places, why = places_to_stand(self.furniture, np.array(self.objects[0].translation), self.arm)
        self.in_reach = False
        self.shortest = habitat_sim.MultiGoalShortestPath()
        self.shortest.requested_ends = self.places
        episode = self.env.current_episode
        info = (
            {"warning": f"episode {episode.episode_id}: {self.objects[0].handle} cannot be picked: {why}"}
            if why
            else {}
        )
        if self.task == "habitat-pick" and not why:
            self.stand_at(self.places[self.np_random.integers(len(self.places))])
            task = self.env.task
            sensors = task._get_observations(episode)
            # Else the first step would be paid for the way from where habitat-lab had put the robot.
            task.measurements.reset_measures(episode=episode, task=task, observations=sensors)
        observation = self.observe(sensors)
        self.before = self.potential()
        return observation, info

    def stand_at(self, place: np.ndarray) -> None:
        """Put the robot at a place, the object ahead."""
        robot, (x, _, z) = self.sim.articulated_agent, np.array(self.objects[0].translation) - place
        robot.base_pos = place
        robot.base_rot = math.atan2(-z, x) + self.np_random.uniform(-AHEAD, AHEAD)
        self.sim.maybe_update_articulated_agent()

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take a step of habitat-lab's; `info` says whether the episode was a success."""
        arguments, at = {}, 0
        for name, size in ACTIONS.items():
            arguments[name] = np.clip(action[at : at + size], -1.0, 1.0).astype(np.float32)
            at += size
        actions = ("arm_action", "base_velocity", "rearrange_stop")
        observation = self.observe(self.env.step({"action": actions, "action_args": arguments}))
        metrics = self.env.get_metrics()
        reward = self.settings.slack_reward
        if self.task == "habitat-nav":
            success = in_reach(observation)
            before, self.before = self.before, self.potential()
            reward += before - self.before
        else:
            success = bool(metrics["pick_success"])
            reward += float(metrics["pick_reward"])
        terminated = success or not self.env.task.is_episode_active or bool(action[-1] > 0)
        reward += self.settings.success_reward * success
        return observation, reward, terminated, self.env.episode_over and not terminated, {"success": success}

    def render(self) -> np.ndarray:  # type: ignore[override]
        """Return the robot from behind, and below what its head camera sees, (512, 256, 3) RGB; only with `film`."""
        return np.concatenate([self.sensors[name][..., :3] for name in ("third_rgb", "head_rgb")])

    def observe(self, sensors: dict[str, Any]) -> np.ndarray:
        """Return the observation vector from habitat-lab's sensors."""
        self.sensors = sensors
        self.path = self.path_to_place()
        self.in_reach = self.reaches()
        target, *others = self.seen()
        readings = {**sensors, **dict(zip(HINTS, (*self.path, self.in_reach, target, any(others))))}
        parts = [np.ravel(readings[name]) / scale for name, (_, scale) in READINGS.items()]
        return np.concatenate([sensors["head_depth"].ravel(), *parts], dtype=np.float32, casting="same_kind")

    def seen(self) -> np.ndarray:
        """Return which objects the depth image shows, (N,), the target first.

        It shows an object where one of nine points in it is as deep as the image is there. What a semantic camera
        would tell costs as much as the depth image itself.
        """
        camera = self.sim.agents[0].scene_node.subtree_sensors["head_depth"].object.absolute_transformation()
        places = np.array([thing.transformation for thing in self.objects])  # (N, 4, 4)
        x, y, z, _ = np.moveaxis(np.array(camera.inverted()) @ places @ self.points, 1, 0)  # (N, 9) each
        depth = np.maximum(-z, 1e-6)
        # The angle of view is 90 degrees.
        column, row = ((IMAGE_SIDE / 2) * (1 + np.array([x, -y]) / depth)).clip(0, IMAGE_SIDE - 1).astype(int)
        inside = (z < 0) & (np.abs(x) < depth) & (np.abs(y) < depth)
        image = self.sensors["head_depth"][row, column, 0] * MAX_DEPTH
        return np.asarray((inside & (np.abs(image - depth) < self.radii)).any(1))

    def metres_from_place(self) -> float:
        """Return how far the robot is from the nearest place to stand, as the crow flies."""
        here = np.array(self.sim.articulated_agent.base_pos)
        return float(np.linalg.norm(self.places - here, axis=1).min())

    def reaches(self) -> bool:
        """Return whether the robot stands where the object can be picked, and faces it.

        Once it does, it may turn away twice as far: at one edge for both ways, navigate and pick would take turns to
        the end of the episode.
        """
        _, angle = self.sensors["obj_start_gps_compass"]
        ahead = abs(angle) < (2 if self.in_reach else 1) * AHEAD
        return bool(ahead) and self.metres_from_place() < ARRIVED

    def path_to_place(self) -> tuple[float, float, float]:
        """Return where the geodesic path to the nearest place to stand leads, and how long it is.

        How far its next corner is, metres; how far to turn to face it, radians to the left; its length, metres. On
        arrival it is the object that is to be faced, and both lengths are 0.
        """
        robot = self.sim.articulated_agent
        here = np.array(robot.base_pos)
        thing = -self.sensors["obj_start_gps_compass"][1]
        if self.metres_from_place() < ARRIVED:
            return 0.0, thing, 0.0
        self.shortest.requested_start = here
        found = self.sim.pathfinder.find_path(self.shortest) and self.shortest.points
        path = self.shortest.points if found else [here, self.places[0]]
        ahead = next((point for point in path if math.dist(point, path[0]) > 0.05), path[-1])
        x, y, _ = robot.base_transformation.inverted().transform_point(ahead)
        bearing = way_round(math.atan2(y, x), thing, self.in_the_way)
        return math.hypot(x, y), bearing, sum(math.dist(a, b) for a, b in zip(path, path[1:]))

    def in_the_way(self, turned: float) -> int:
        """Return how often furniture is in the forearm's way as the robot turns on the spot; radians to the left."""
        pose = self.arm.pose(self.sensors["joint"])
        base = np.array(self.sim.articulated_agent.base_transformation)
        return self.furniture.in_turning(base, np.array([*pose.joints[ELBOW:], pose.tip]), turned)

    def potential(self) -> float:
        """Return what navigation is rewarded for lowering: metres times `dist_reward`, and radians to turn.

        habitat-lab's own reward for it has these terms as the crow flies; here they follow the geodesic path, which
        leads round tables, and at its end it is the object that the robot turns to.
        """
        _, bearing, metres = self.path
        return self.settings.dist_reward * metres + abs(math.remainder(bearing, math.tau))

    def close(self) -> None:
        """Close the simulator."""
        self.env.close()


def way_round(bearing: float, thing: float, in_the_way: Callable[[float], int]) -> float:
    """Return the angle to turn to a bearing, by the way round that is freer for the arm; radians to the left.

    Where both are as free, it is the way on which the robot does not face away from the object, at bearing `thing`: a
    student sees where the object is, but not the path, and so can tell which way its teacher turns.

    in_the_way: an angle to turn -> how often furniture is in the arm's way.
    """
    way = thing + math.remainder(bearing - thing, math.tau)
    if abs(way) < 2 * AHEAD:  # the arm moves little, whatever stands there
        return way
    other = way - math.copysign(math.tau, way)
    met = in_the_way(way)
    return other if met and in_the_way(other) < met else way  # each look casts many rays: a free way needs one


def describe(observation: np.ndarray) -> str:
    """Return c(s), the state as text: what the camera sees, whether the object is in reach, and what is held.

    "The robot sees the target object far away, other objects, and holds nothing." What is held is not named among what
    is seen.
    """
    holding = bool(read(observation, "is_holding")[0])
    things = []
    if read(observation, "sees_target")[0] and not holding:
        things.append("the target object in reach" if in_reach(observation) else "the target object far away")
    if read(observation, "sees_others")[0]:
        things.append("other objects")
    held = "the target object" if holding else "nothing"
    return f"The robot sees {', '.join(things) or 'no objects'}, and holds {held}."


def main() -> None:
    """Take ten steps at random in a room of each task, and print what is seen."""
    for task in TASKS:
        try:
            env = HabitatEnv(task, "val")
        except HabitatError as error:
            print(f"navpick.envs: {error}", file=sys.stderr)
            raise SystemExit(2) from None
        observation, _ = env.reset(seed=1)
        env.action_space.seed(0)
        for _ in range(10):
            observation, *_ = env.step(env.action_space.sample() * (1.0 - np.eye(NUM_ACTIONS)[-1]))
        print(f"{task}: {describe(observation)}")
        env.close()


if __name__ == "__main__":
    main()
