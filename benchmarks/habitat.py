"""Measure how fast training in Habitat is, as ratios: steps/s of simulators, of training, of habitat-baselines.

    python benchmarks/habitat.py

Four things take turns, so that the ratios hold on a machine whose speed drifts: one simulator stepped at random in this
process; as many as training has, each in its own process, stepped at random; training habitat-navpick, the teacher
queried in every state, updates and checkpoints included; and, where it is installed with its configurations, the DD-PPO
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
from harness.cli import InputError, Parser, errors_in_one_line
from harness.config import configure
from harness.task import Task, open_task
from harness.workers import Workers
from llm.query import make_query
from navpick.dataset import HOME
from navpick.envs import HabitatEnv
from navpick.lab import Settings
from navpick.layout import NUM_ACTIONS
from navpick.task import NavPickConfig
from rollout import LocalEnv, run_all
from train import check_run, train

TASK = "habitat-navpick"


def random_actions(rng: np.random.Generator, count: int) -> list[dict[str, Any]]:
    """Return `count` uniformly random actions that never stop the episode, as arguments of step."""
    actions = rng.uniform(-1.0, 1.0, (count, NUM_ACTIONS))
    actions[:, -1] = -1.0
    return [{"action": action} for action in actions]


def random_stepping(envs: Sequence[Any], steps: int) -> float:
    """Return steps per second of all environments together, resets included."""
    rng = np.random.default_rng(0)
    run_all(envs, "reset", [{"seed": 2 * k} for k in range(len(envs))])
    started = time.perf_counter()
    for _ in range(steps // len(envs)):
        results = run_all(envs, "step", random_actions(rng, len(envs)))
        over = [env for env, (_, _, terminated, truncated, _) in zip(envs, results) if terminated or truncated]
        if over:
            run_all(over, "reset", [{"seed": int(seed)} for seed in rng.integers(1000, size=len(over))])
    return steps / (time.perf_counter() - started)


def training(task: Task) -> float:
    """Return steps per second of training, from the end of its first iteration to the end of its last."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tempfile.TemporaryDirectory() as folder:
        train(task, Path(folder), Workers(), make_query(task))
        events = EventAccumulator(folder)
        events.Reload()
        first, *_, last = events.Scalars("return")
        return (last.step - first.step) / (last.wall_time - first.wall_time)


def habitat_baselines(simulators: int, updates: int) -> float:
    """Return steps per second as the trainer of habitat-baselines reports them; rooms, robot and task are ours."""
    robot = next(HOME.glob("robots/**/*suction.urdf"))
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"  # the paths in episodes begin with it, and checkpoints are written to it
        data.mkdir()
        for path in HOME.iterdir():
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
            f"habitat.environment.max_episode_steps={Settings().max_steps}",
            "habitat.dataset.data_path=data/datasets/train/rearrange_easy.json.gz",
            "habitat.dataset.scenes_dir=data",
            "habitat.simulator.scene_dataset=data/home.scene_dataset_config.json",
            "habitat.simulator.additional_object_paths=[data/objects]",
            f"habitat.simulator.agents.main_agent.articulated_agent_urdf=data/{robot.relative_to(HOME)}",
            "habitat.simulator.habitat_sim_v0.allow_sliding=True",
            "habitat.simulator.agents.main_agent.sim_sensors.head_depth_sensor.width=128",
            "habitat.simulator.agents.main_agent.sim_sensors.head_depth_sensor.height=128",
            f"habitat.simulator.habitat_sim_v0.gpu_device_id={Settings().gpu}",
        ]
        loud = {**os.environ, "HABITAT_LAB_LOG": "20"}  # its speed is in its log, which navpick/envs.py has silenced
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=loud)
        speeds = re.findall(r"fps: ([0-9.]+)", done.stdout + done.stderr)
        if done.returncode or not speeds:
            raise SystemExit(f"habitat-baselines failed with exit code {done.returncode}: {done.stderr[-9000:]}")
        return float(speeds[-1])


@errors_in_one_line("habitat.py")
def main() -> None:
    """Measure all in turn."""
    parser = Parser(
        prog="benchmarks/habitat.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--simulators", type=int, default=NavPickConfig.num_simulators)
    parser.add_argument("--iterations", type=int, default=4, help="of training, a round")
    parser.add_argument("--student", default="small")
    arguments = parser.parse_args()
    for name, least in (("rounds", 1), ("simulators", 1), ("iterations", 2)):
        if getattr(arguments, name) < least:
            raise InputError(f"--{name} is {getattr(arguments, name)}; it must be at least {least}")
    config = configure(
        {
            "env": TASK,
            "iterations": arguments.iterations,
            "num_simulators": arguments.simulators,
            "student": arguments.student,
        }
    )
    check_run(config, Workers())
    compare = importlib.util.find_spec("habitat_baselines") is not None
    if not compare:
        print("habitat-baselines is not installed, and is left out")
    task = open_task(config)
    alone = [LocalEnv(HabitatEnv(TASK, "train"))]
    envs = [env for group in task.make_envs(arguments.simulators, "train") for env in group]
    rows = []
    for number in range(arguments.rounds):
        measures = {
            "one simulator": lambda: random_stepping(alone, 500),
            f"{arguments.simulators} simulators": lambda: random_stepping(envs, 1000),
            "training": lambda: training(task),
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
