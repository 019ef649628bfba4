"""Measure how fast training is, as a ratio: environment steps/s of training over those of plain random stepping.

    python benchmarks/throughput.py

Training is the default run of train.py on SimpleDoorKey with the teacher queried in every state: collecting, querying,
updating, logging and saving included. Random stepping is the stock MiniGrid-DoorKey-8x8-v0. A second pair compares a
live LLM whose reply book is full, behind an address where nothing answers, with the same book as a recorded teacher.
All take turns in one process, so that the ratios hold on a machine whose speed drifts. Prints a line for each round,
the peak memory, `live/recorded X.XX` and at last `ratio X.XX`, medians of the rounds.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import gymnasium as gym

sys.path.insert(0, str(Path(__file__).parent.parent))
from harness.cli import InputError, Parser, errors_in_one_line
from harness.config import Config, configure
from harness.provenance import Provenance
from harness.run_files import read_metrics
from harness.task import open_task
from harness.workers import Workers
from llm.query import make_query
from train import check_run, train


def random_stepping(seconds: float) -> float:
    """Return steps per second of uniformly random actions in the stock environment, resets included."""
    env = gym.make("MiniGrid-DoorKey-8x8-v0")
    env.reset(seed=0)
    env.action_space.seed(0)
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for _ in range(100):
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            if terminated or truncated:
                env.reset()
        steps += 100
    return steps / (time.perf_counter() - started)


def training(config: Config) -> float:
    """Return steps per second of a training run from its first iteration to its last."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        task = open_task(config)
        train(task, Path(folder), Workers(), make_query(task), Provenance(Path(folder), dict))
        seconds = time.perf_counter() - started
        return read_metrics(Path(folder) / "metrics.csv")[-1]["steps"] / seconds


@errors_in_one_line("throughput.py")
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both pairs in turn."""
    parser = Parser(
        prog="benchmarks/throughput.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=60, help="of training, a round")
    parser.add_argument("--env", default="SimpleDoorKey")
    parser.add_argument("--student", default="small")
    parser.add_argument("--teacher-model", default="qwen2.5-coder-1.5b", help="whose book is full, for the second pair")
    given = parser.parse_args(arguments)
    if given.rounds < 1:
        raise InputError(f"--rounds is {given.rounds}; it must be at least 1")
    config = configure(
        {
            "env": given.env,
            "student": given.student,
            "iterations": given.iterations,
            "i1": min(Config.i1, given.iterations),
            "i2": given.iterations,
        }
    )
    recorded = replace(config, teacher_model=given.teacher_model)
    live = replace(recorded, teacher_url="http://127.0.0.1:9/v1")  # the discard port
    for each in (config, recorded, live):
        check_run(each, Workers())
    ratios, pairs = [], []
    for number in range(given.rounds):
        before = random_stepping(2.0)
        trained = training(config)
        plain = (before + random_stepping(2.0)) / 2
        ratios.append(trained / plain)
        # Each goes first every other round, since a machine may slow down or speed up within a pair.
        speeds = {teacher: training(teacher) for teacher in ((recorded, live), (live, recorded))[number % 2]}
        pairs.append(speeds[live] / speeds[recorded])
        print(
            f"round {number}: random stepping {plain:.0f} steps/s, training {trained:.0f} steps/s; with "
            f"{given.teacher_model}'s book recorded {speeds[recorded]:.0f} steps/s, live {speeds[live]:.0f} steps/s"
        )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    print(f"live/recorded {statistics.median(pairs):.2f}")
    print(f"ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
