"""Measure how fast training in Habitat is, as ratios: steps/s of simulators, of training, of habitat-baselines.

    python benchmarks/habitat.py
    python benchmarks/habitat.py --habitat-data DIR

Four things take turns, so that the ratios hold on a machine whose speed drifts: a simulator a core, each in a process
of its own, stepped at random; training habitat-navpick as it is by default, the teacher queried in every state,
updates and checkpoints included; the same with the default of earlier versions, one worker with four simulators; and,
where it is installed with its configurations, the DD-PPO trainer of habitat-baselines with a simulator a core on the
same rooms, robot, camera and actions, with its own net (ResNet18 and LSTM) and settings. Prints every speed and the
most memory that training held, then the medians of the ratios. Loading the first rooms and robots is not counted, and
everything after that is, new episodes too.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
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
from harness.workers import count_cores
from navpick.dataset import HOME, find_files
from navpick.lab import Settings
from navpick.layout import IMAGE_SIDE, NUM_ACTIONS
from navpick.processes import ProcessEnv
from rollout import run_all

ROOT = Path(__file__).resolve().parents[1]
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


def memory(pid: int) -> float:
    """Return the memory of a process and its descendants, MiB; of a page that n processes share each has 1 / n."""
    folder = Path(f"/proc/{pid}")
    try:
        lines = (folder / "smaps_rollup").read_text().splitlines()
        own = sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
        children = [int(child) for path in folder.glob("task/*/children") for child in path.read_text().split()]
    except OSError:  # it has ended
        return 0.0
    return own + sum(map(memory, children))


def training(iterations: int, settings: Sequence[str]) -> tuple[float, float]:
    """Return steps per second of training, from the end of its first iteration to that of its last; and peak MiB."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tempfile.TemporaryDirectory() as folder:
        run_dir, errors, peak = f"{folder}/run", Path(folder) / "errors", 0.0
        command = [sys.executable, "train.py", "--env", TASK, "--iterations", str(iterations), "--episodes", "1"]
        with errors.open("w") as file:
            process = subprocess.Popen(
                [*command, *settings, "--run-dir", run_dir], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=file
            )
            while process.poll() is None:
                peak = max(peak, memory(process.pid))
                time.sleep(1)
        if process.returncode:
            raise InputError(errors.read_text().splitlines()[-1])
        events = EventAccumulator(run_dir)
        events.Reload()
        first, *_, last = events.Scalars("return")
        return (last.step - first.step) / (last.wall_time - first.wall_time), peak


def habitat_baselines(folder_of_data: Path, simulators: int, updates: int) -> float:
    """Return steps per second as the trainer of habitat-baselines reports them; rooms, robot and task are ours."""
    path, robot = find_files(folder_of_data, "train")
    episode = json.loads(gzip.decompress(path.read_bytes()))["episodes"][0]
    objects = ",".join(episode["additional_obj_config_paths"])
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"  # the paths in episodes begin with it, and checkpoints are written to it
        data.mkdir()
        for part in folder_of_data.iterdir():
            (data / part.name).symlink_to(part)
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
            f"habitat.dataset.data_path=data/{path.relative_to(folder_of_data)}",
            "habitat.dataset.scenes_dir=data",
            f"habitat.simulator.scene_dataset={episode['scene_dataset_config']}",
            f"habitat.simulator.additional_object_paths=[{objects}]",
            f"habitat.simulator.agents.main_agent.articulated_agent_urdf=data/{robot.relative_to(folder_of_data)}",
            "habitat.simulator.habitat_sim_v0.allow_sliding=True",
            f"habitat.simulator.agents.main_agent.sim_sensors.head_depth_sensor.width={IMAGE_SIDE}",
            f"habitat.simulator.agents.main_agent.sim_sensors.head_depth_sensor.height={IMAGE_SIDE}",
            f"habitat.simulator.habitat_sim_v0.gpu_device_id={Settings().gpu}",
        ]
        loud = {**os.environ, "HABITAT_LAB_LOG": "20"}  # its speed is in its log, which navpick/envs.py has silenced
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=loud)
        speeds = re.findall(r"fps: ([0-9.]+)", done.stdout + done.stderr)
        if done.returncode or not speeds:
            raise SystemExit(f"habitat-baselines failed with exit code {done.returncode}: {done.stderr[-9000:]}")
        return float(speeds[-1])


@errors_in_one_line("habitat.py")
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all in turn."""
    parser = Parser(
        prog="benchmarks/habitat.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--habitat-data", type=Path, default=HOME, help="data set; by default the home that we bring")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=5, help="of training, a round")
    given = parser.parse_args(arguments)
    for name, least in (("rounds", 1), ("iterations", 2)):
        if getattr(given, name) < least:
            raise InputError(f"--{name} is {getattr(given, name)}; it must be at least {least}")
    folder, cores = given.habitat_data.resolve(), count_cores()
    data = ["--habitat-data", str(folder)]
    compare = importlib.util.find_spec("habitat_baselines") is not None
    if not compare:
        print("habitat-baselines is not installed, and is left out")
    envs = [ProcessEnv(TASK, "train", Settings(folder=str(folder))) for _ in range(cores)]
    measures = {
        f"{cores} simulators": lambda: (random_stepping(envs, 2000), 0.0),
        "training": lambda: training(given.iterations, data),
        "training as before": lambda: training(given.iterations, [*data, "--workers", "1", "--num-simulators", "4"]),
    }
    if compare:
        measures["habitat-baselines"] = lambda: (habitat_baselines(folder, cores, updates=5), 0.0)
    rows = []
    for number in range(given.rounds):
        row = []
        for name, measure in measures.items():
            speed, peak = measure()
            print(f"round {number}: {name} {speed:.0f} steps/s{f', {peak:.0f} MiB' if peak else ''}", flush=True)
            row.append(speed)
        rows.append(row)
    table = np.array(rows)
    for column, name in enumerate(measures):
        if name != "training":
            print(f"training / {name} {statistics.median(table[:, 1] / table[:, column]):.2f}")


if __name__ == "__main__":
    main()
