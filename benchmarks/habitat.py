"""How fast training in Habitat is, as ratios: environment steps/s of simulators, of training, of habitat-baselines.

    python benchmarks/habitat.py

Four things take turns, so that the ratios hold on a machine whose speed drifts: one simulator stepped at random in this
process; as many as training has, in processes of their own, stepped at random; training habitat-navpick, the teacher
asked in every state, updates and checkpoints included; and, where it is installed with its configurations, the DD-PPO
trainer of habitat-baselines on the same rooms, robot, camera and actions, with its own net (ResNet18 and LSTM) and
settings. Prints every speed, then the medians of the ratios. Loading the first rooms and robots is not counted.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.pop(0)  # this folder, where `import habitat` would find this file
sys.path.insert(0, str(Path(__file__).parent.parent))
import ddppo
import habitat_envs
import train

TASK = "habitat-navpick"


def random_actions(rng: np.random.Generator, count: int) -> list[dict[str, Any]]:
    """Uniformly random, but never stop."""
    actions = rng.uniform(-1.0, 1.0, (count, habitat_envs.NUM_ACTIONS))
    actions[:, -1] = -1.0
    return [{"action": action} for action in actions]


def random_stepping(rooms: Sequence[Any], steps: int) -> float:
    """Steps per second of all rooms together, resets included."""
    rng = np.random.default_rng(0)
    train.each(rooms, "reset", [{"seed": 2 * k} for k in range(len(rooms))])
    started = time.perf_counter()
    for _ in range(steps // len(rooms)):
        results = train.each(rooms, "step", random_actions(rng, len(rooms)))
        over = [room for room, (_, _, terminated, truncated, _) in zip(rooms, results) if terminated or truncated]
        if over:
            train.each(over, "reset", [{"seed": int(seed)} for seed in rng.integers(1000, size=len(over))])
    return steps / (time.perf_counter() - started)


def training(config: train.Config) -> float:
    """Steps per second of training, from the end of its first iteration to the end of its last."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tempfile.TemporaryDirectory() as folder:
        train.train(config, Path(folder), ddppo.World())
        events = EventAccumulator(folder)
        events.Reload()
        first, *_, last = events.Scalars("return")
        return (last.step - first.step) / (last.wall_time - first.wall_time)


def habitat_baselines(simulators: int, updates: int) -> float:
    """Steps per second that the trainer of habitat-baselines reports; its settings but for rooms, robot and task."""
    home = habitat_envs.HOME
    robot = next(home.glob("robots/**/*suction.urdf"))
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"  # the paths in episodes begin with it, and checkpoints are written to it
        data.mkdir()
        for path in home.iterdir():
            (data / path.name).symlink_to(path)
        command = [
            *(sys.executable, "-m", "habitat_baselines.run", "--config-name=rearrange/rl_skill.yaml"),
            "habitat_baselines.trainer_name=ddppo",
            "habitat_baselines.rl.ddppo.distrib_backend=GLOO",
            f"habitat_baselines.num_environments={simulators}",
            f"habitat_baselines.num_updates={updates}",
            "habitat_baselines.total_num_steps=-1",
            "habitat_baselines.log_interval=1",
            "habitat_baselines.num_checkpoints=1",
            "habitat/task/rearrange/actions=fetch_suction_arm_base_stop",
            "habitat.task.spawn_max_dist_to_obj=100.0",
            f"habitat.task.base_angle_noise={np.pi}",
            f"habitat.environment.max_episode_steps={train.Config.max_steps}",
            "habitat.dataset.data_path=data/datasets/train/rearrange_easy.json.gz",
            "habitat.dataset.scenes_dir=data",
            "habitat.simulator.scene_dataset=data/home.scene_dataset_config.json",
            "habitat.simulator.additional_object_paths=[data/objects]",
            f"habitat.simulator.agents.main_agent.articulated_agent_urdf=data/{robot.relative_to(home)}",
            "habitat.simulator.habitat_sim_v0.allow_sliding=True",
            "habitat.simulator.agents.main_agent.sim_sensors.head_depth_sensor.width=128",
            "habitat.simulator.agents.main_agent.sim_sensors.head_depth_sensor.height=128",
            f"habitat.simulator.habitat_sim_v0.gpu_device_id={habitat_envs.Settings().gpu}",
        ]
        loud = {**os.environ, "HABITAT_LAB_LOG": "20"}  # its speed is in its log, which habitat_envs.py has silenced
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=loud)
        speeds = re.findall(r"fps: ([0-9.]+)", done.stdout + done.stderr)
        if done.returncode or not speeds:
            raise SystemExit(f"habitat-baselines failed with exit code {done.returncode}: {done.stderr[-9000:]}")
        return float(speeds[-1])


def main() -> None:
    """Measure all in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--simulators", type=int, default=train.Config.num_simulators)
    parser.add_argument("--iterations", type=int, default=4, help="of training, a round")
    parser.add_argument("--student", default="small")
    arguments = parser.parse_args()
    config = train.configure(
        {
            "env": TASK,
            "iterations": arguments.iterations,
            "num_simulators": arguments.simulators,
            "student": arguments.student,
        }
    )
    train.check(config, ddppo.World())
    compare = importlib.util.find_spec("habitat_baselines") is not None
    if not compare:
        print("habitat-baselines is not installed, and is left out")
    alone = [habitat_envs.HabitatEnv(TASK, "train")]
    rooms = config.family.make_rooms(config, arguments.simulators, "train")
    rows = []
    for number in range(arguments.rounds):
        measures = {
            "one simulator": lambda: random_stepping(alone, 500),
            f"{arguments.simulators} simulators": lambda: random_stepping(rooms, 1000),
            "training": lambda: training(config),
        }
        if compare:
            measures["habitat-baselines"] = lambda: habitat_baselines(arguments.simulators, updates=5)
        row = []
        for name, measure in measures.items():
            row.append(measure())
            print(f"round {number}: {name} {row[-1]:.0f} steps/s", flush=True)
        rows.append(row)
    table = np.array(rows)
    print(f"{arguments.simulators} simulators / one {statistics.median(table[:, 1] / table[:, 0]):.2f}")
    print(f"training / {arguments.simulators} simulators {statistics.median(table[:, 2] / table[:, 1]):.2f}")
    if compare:
        print(f"training / habitat-baselines {statistics.median(table[:, 2] / table[:, 3]):.2f}")


if __name__ == "__main__":
    main()
