"""Habitat's Nav & Pick for LLM4Teach (paper section 4.2 and A.5): a gymnasium environment on top of habitat-lab's task.

    python -m navpick.envs              # ten steps at random on the real simulator, what is seen in words

A Fetch robot starts anywhere in a room, goes to a table and picks up an object with its suction cup. Task, sensors and
measures are habitat-lab's: `RearrangePickTask-v0` and `NavToObjTask-v0`.

    habitat-navpick   start anywhere; success: the right object is held and the arm is back at rest
    habitat-pick      the same from where the option can start, in reach; habitat-lab's pick skill starts within 2 m
    habitat-nav       start more than 3 m away; success: the object is in reach and ahead

An observation is one float32 vector, what the student sees first:

    depth     128 * 128 depths of the head camera in [0, 1], row by row
    sensors   A.5.1's proprioceptive and GPS sensors, see SENSORS, each divided by a scale
    hints     for the teacher only, see HINTS: where the geodesic path leads, what the semantic camera shows; or zeros

An action is 11 numbers in habitat-lab's order: 7 arm joints, grip, 2 base velocities, stop; see ACTIONS.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from navpick.layout import ACTIONS, AHEAD, HINTS, IMAGE_SIDE, IN_REACH, MIN_PIXELS, NUM_ACTIONS, SENSORS, SIZE, read

HOME = Path(__file__).resolve().parents[1] / "data" / "home"  # the home that this project brings
INSTALL = "conda env create -f environment.yml"
FILM_SIDE = 192


class LabTask(NamedTuple):
    """What a task takes from habitat-lab: its configuration, and there the measures of success and reward."""

    config: str
    success: str
    reward: str = ""  # "": `HabitatEnv.potential` instead


TASKS = {
    "habitat-navpick": LabTask("benchmark/rearrange/skills/pick.yaml", "pick_success", "pick_reward"),
    "habitat-pick": LabTask("benchmark/rearrange/skills/pick.yaml", "pick_success", "pick_reward"),
    "habitat-nav": LabTask("benchmark/rearrange/skills/nav_to_obj.yaml", "nav_to_obj_success"),
}


class Settings(NamedTuple):
    """What of an environment can be chosen; coefficients of the reward as paper section A.5.1 has it."""

    folder: str = str(HOME)  # a data set, laid out like habitat-lab's `data/`
    max_steps: int = 650  # Table 3's 602.69 steps on average need more than 602; no shipped configuration has that
    pick_reward: float = 2.0  # once, for picking the object; the paper's number is lost, this is habitat-lab's
    dist_reward: float = 2.0  # a metre that the end effector comes nearer, in habitat-nav the base; habitat-lab's
    force_penalty: float = 1.0  # once, when force ends the episode, but not in habitat-nav; habitat-lab's
    slack_reward: float = -0.005  # every step; the paper's
    success_reward: float = 0.0  # once, for success; habitat-lab's is 10, with which the paper's returns do not fit
    gpu: int = -1  # device that renders; -1: no CUDA device
    hints: bool = True  # whether there is a teacher to tell them; their camera costs time
    film: bool = False  # whether `render` can be called; two more cameras cost time


class HabitatError(RuntimeError):
    """Habitat is not there, a data set is not one, or a simulator died."""


def find_files(folder: Path, split: str) -> tuple[Path, Path]:
    """The episode file of a split and the robot in a data-set folder; HabitatError if they are not there."""
    if not folder.is_dir():
        raise HabitatError(f"{folder} is not a folder; a Habitat data set is one, laid out like habitat-lab's data/")
    episodes = sorted(folder.glob(f"datasets/**/{split}/rearrange_easy.json.gz"))
    robots = sorted(folder.glob("robots/**/*suction.urdf"))
    if not episodes:
        raise HabitatError(f"{folder} has no episodes: datasets/**/{split}/rearrange_easy.json.gz is missing")
    if not robots:
        raise HabitatError(f"{folder} has no robot: robots/**/*suction.urdf, the Fetch with a suction cup, is missing")
    return episodes[-1], robots[0]


def read_episodes(habitat: Any, config: Any, folder: Path) -> Any:
    """habitat-lab's data set of the configured file, with paths under `data/` turned into paths under `folder`.

    HabitatError if the file is not one of rearrangement episodes, or names what is not there.
    """

    def under_folder(text: str) -> str:
        return str(folder / text[len("data/") :]) if text.startswith("data/") else text

    Path("data").mkdir(exist_ok=True)  # habitat-lab writes its physics settings there, in whatever folder we are
    try:
        dataset = habitat.make_dataset(config.type, config=config)
        for episode in dataset.episodes:
            episode.scene_dataset_config = under_folder(episode.scene_dataset_config)
            episode.scene_id = under_folder(episode.scene_id)
            paths = [under_folder(path) for path in episode.additional_obj_config_paths]
            episode.additional_obj_config_paths = paths
        missing = [path for path in (dataset.episodes[0].scene_dataset_config, *paths) if not Path(path).exists()]
    except Exception as error:  # a file of another kind can raise nearly anything
        raise HabitatError(f"{config.data_path} is not a file of rearrangement episodes: {error!r}") from None
    if missing:
        raise HabitatError(f"{config.data_path} needs {missing[0]}, which is not there")
    return dataset


def import_habitat() -> Any:
    """habitat-lab with habitat-sim behind it, without the noise; HabitatError if they are not installed."""
    for name in ("MAGNUM_LOG", "HABITAT_SIM_LOG"):
        os.environ.setdefault(name, "quiet")
    os.environ.setdefault("HABITAT_LAB_LOG", "50")
    os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa's software renderer: threads of its own only get in the way
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # silence gym's deprecation notice
            import gym as _gym  # noqa: F401
        import habitat
        import habitat_sim  # noqa: F401
    except ImportError as error:
        raise HabitatError(
            f"Habitat is not installed ({error}); {INSTALL}, and then conda activate llm4teach"
        ) from None
    return habitat


def check(folder: str) -> None:
    """HabitatError where Habitat is not installed, or a folder has no robot or no episodes for both splits."""
    import_habitat()
    for split in ("train", "val"):
        find_files(Path(folder), split)


def make_config(habitat: Any, task: str, settings: Settings, split: str) -> tuple[Any, Any]:
    """habitat-lab's configuration of a task with ours on top, and the data set of a split."""
    folder = Path(settings.folder)
    path, robot = find_files(folder, split)
    sensors = "target_start_sensor,target_start_gps_compass_sensor,joint_sensor,is_holding_sensor"
    sensors += ",end_effector_sensor,relative_resting_pos_sensor"
    agent = "habitat.simulator.agents.main_agent"
    cameras = ["head_panoptic_sensor"] if settings.hints else []
    cameras += ["third_rgb_sensor", "head_rgb_sensor"] if settings.film else []
    config = habitat.get_config(
        TASKS[task].config,
        [
            "habitat/task/rearrange/actions=fetch_suction_arm_base_stop",
            f"habitat/task/lab_sensors=[{sensors}]",
            *(f"+habitat/simulator/sim_sensors@{agent}.sim_sensors.{camera}={camera}" for camera in cameras),
        ],
    )
    from habitat.config import read_write

    with read_write(config):
        habitat_ = config.habitat
        habitat_.environment.max_episode_steps = settings.max_steps
        habitat_.dataset.data_path, habitat_.dataset.scenes_dir = str(path), str(folder)
        dataset = read_episodes(habitat, habitat_.dataset, folder)
        simulator = habitat_.simulator
        simulator.habitat_sim_v0.gpu_device_id = settings.gpu
        simulator.scene_dataset = dataset.episodes[0].scene_dataset_config
        simulator.additional_object_paths = dataset.episodes[0].additional_obj_config_paths
        simulator.habitat_sim_v0.allow_sliding = True  # else a robot sticks to the edges that shortest paths follow
        simulator.concur_render = False
        simulator.agents.main_agent.articulated_agent_urdf = str(robot)
        for name, sensor in simulator.agents.main_agent.sim_sensors.items():
            sensor.width = sensor.height = FILM_SIDE if "rgb" in name else IMAGE_SIDE
        measures = habitat_.task.measurements
        if task == "habitat-nav":
            habitat_.task.object_in_hand_sample_prob = 0.0  # else some go to where the object belongs, unsensed
            measures.nav_to_pos_succ.success_distance = IN_REACH
            measures.rearrange_nav_to_obj_success.update({"must_call_stop": False, "success_angle_dist": AHEAD})
        else:
            coefficients = {"pick_reward": settings.pick_reward, "dist_reward": settings.dist_reward}
            measures.pick_reward.update({**coefficients, "force_pen": 0.0, "force_end_pen": settings.force_penalty})
            if task == "habitat-navpick":  # the whole room is nearer than that, in any direction
                habitat_.task.spawn_max_dist_to_obj, habitat_.task.base_angle_noise = 100.0, math.pi
            else:  # where the option can start; from habitat-lab's 2 m some push against the wrong side of a table
                habitat_.task.spawn_max_dist_to_obj = IN_REACH
    return config, dataset


class HabitatEnv(gym.Env):
    """One simulator with a task of TASKS; HabitatError from whatever keeps it from starting."""

    observation_space = spaces.Box(-np.inf, np.inf, (SIZE,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (NUM_ACTIONS,), np.float32)

    def __init__(self, task: str, split: str, settings: Settings | None = None) -> None:
        """`split`: "train" or "val", the episodes to play."""
        habitat = import_habitat()
        self.task, self.settings = TASKS[task], settings or Settings()
        config, dataset = make_config(habitat, task, self.settings, split)
        self.env = habitat.Env(config, dataset)
        self.sim, self.config = self.env.sim, config.habitat

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Play the episode that `seed` counts out, from a start that it draws."""
        super().reset(seed=seed)
        if seed is not None:
            self.env.current_episode = self.env.episodes[seed // 2 % len(self.env.episodes)]
            self.env.reconfigure(self.config)  # loads the room, after which habitat-sim seeds its starts alike
            self.env.seed(seed % 2**31)
        sensors = self.env.reset()
        targets, _ = self.sim.get_targets()
        target = self.sim.scene_obj_ids[targets[0]]
        others = [number for number in self.sim.scene_obj_ids if number != target]
        self.ids = np.array([target, *others]) + self.config.simulator.object_ids_start
        self.goal = self.sim.safe_snap_point(np.array(self.sim.get_target_objs_start()[0]))
        observation = self.observe(sensors)
        self.before = self.potential()
        return observation, {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """habitat-lab's step; `info` says whether the episode was a success."""
        arguments, at = {}, 0
        for name, size in ACTIONS.items():
            arguments[name] = np.clip(action[at : at + size], -1.0, 1.0).astype(np.float32)
            at += size
        actions = ("arm_action", "base_velocity", "rearrange_stop")
        sensors = self.env.step({"action": actions, "action_args": arguments})
        metrics = self.env.get_metrics()
        success = bool(metrics[self.task.success])
        active = self.env.task.is_episode_active
        terminated = success or not active or bool(action[-1] > 0)
        observation = self.observe(sensors)
        reward = self.settings.slack_reward + self.settings.success_reward * success
        if self.task.reward:
            reward += float(metrics[self.task.reward])
        else:
            before, self.before = self.before, self.potential()
            reward += before - self.before
        return observation, reward, terminated, self.env.episode_over and not terminated, {"success": success}

    def render(self) -> np.ndarray:  # type: ignore[override]
        """The robot from behind, and below what its head camera sees, (384, 192, 3) RGB; only with `film`."""
        return np.concatenate([self.sensors[name][..., :3] for name in ("third_rgb", "head_rgb")])

    def observe(self, sensors: dict[str, Any]) -> np.ndarray:
        """The observation vector from habitat-lab's sensors."""
        self.sensors = sensors
        parts = [sensors["head_depth"].ravel()]
        parts += [np.ravel(sensors[name]) / scale for name, (_, scale) in SENSORS.items()]
        parts.append(self.hints() if self.settings.hints else np.zeros(len(HINTS)))
        return np.concatenate(parts, dtype=np.float32, casting="same_kind")

    def hints(self) -> np.ndarray:
        """HINTS, where the robot stands now."""
        pixels = np.bincount(self.sensors["head_panoptic"].ravel(), minlength=self.ids.max() + 1)[self.ids]
        return np.array([*self.path_to_object(), pixels[0] >= MIN_PIXELS, pixels[1:].sum() >= MIN_PIXELS])

    def path_to_object(self) -> tuple[float, float, float]:
        """The next corner of the geodesic path to the object, metres ahead and to the left, and the path's length."""
        import habitat_sim

        robot, shortest = self.sim.articulated_agent, habitat_sim.ShortestPath()
        shortest.requested_start, shortest.requested_end = np.array(robot.base_pos), self.goal
        found = self.sim.pathfinder.find_path(shortest) and shortest.points
        path = shortest.points if found else [shortest.requested_start, self.goal]
        ahead = next((point for point in path if math.dist(point, path[0]) > 0.05), path[-1])
        corner = robot.base_transformation.inverted().transform_point(ahead)
        return corner[0], corner[1], sum(math.dist(a, b) for a, b in zip(path, path[1:]))

    def potential(self) -> float:
        """Return what navigation is rewarded for lowering: metres times `dist_reward`, and radians to turn.

        habitat-lab's own reward for it has these terms as the crow flies; here they follow the geodesic path, which
        leads round tables, and in reach it is the object that the robot turns to.
        """
        ahead, left, metres = self.path_to_object()
        distance, angle = self.sensors["obj_start_gps_compass"]
        turn = angle if distance < IN_REACH or metres < 0.1 else math.atan2(left, ahead)
        return self.settings.dist_reward * metres + abs(turn)

    def close(self) -> None:
        """Close the simulator."""
        self.env.close()


def describe(observation: np.ndarray) -> str:
    """c(s), the state as text: what the semantic camera shows, how near the object is, and what is held.

    "The robot sees the target object far away, other objects, and holds nothing." An object in reach and ahead is
    "in reach"; where it is comes from the GPS sensor. What is held is not named among what is seen.
    """
    distance, angle = read(observation, "obj_start_gps_compass")
    holding = bool(read(observation, "is_holding")[0])
    things = []
    if read(observation, "sees_target")[0] and not holding:
        near = distance < IN_REACH and abs(angle) < AHEAD
        things.append("the target object in reach" if near else "the target object far away")
    if read(observation, "sees_others")[0]:
        things.append("other objects")
    held = "the target object" if holding else "nothing"
    return f"The robot sees {', '.join(things) or 'no objects'}, and holds {held}."


def main() -> None:
    """Ten steps at random in a room of each task."""
    for task in TASKS:
        env = HabitatEnv(task, "val")
        observation, _ = env.reset(seed=1)
        env.action_space.seed(0)
        for _ in range(10):
            observation, *_ = env.step(env.action_space.sample() * (1.0 - np.eye(NUM_ACTIONS)[-1]))
        print(f"{task}: {describe(observation)}")
        env.close()


if __name__ == "__main__":
    main()
