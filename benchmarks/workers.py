"""Measure what a second worker brings: steps/s of two DD-PPO workers over one, and whether they learn the same.

    python benchmarks/workers.py                                              # SimpleDoorKey, three seeds
    python benchmarks/workers.py --env habitat-navpick --iterations 4

Four take turns for every seed: one worker; two that share its episodes and minibatches, so that they should learn the
same; two that have as many each as the one, which is how Wijmans et al. scale; and two independent runs of one worker
at the same time, whose speed is the most that the machine has to give. Prints the speed, from the end of the first
iteration to the end of the last, and what was learned by then; at last `shared X.XX`, `each X.XX` and `apart X.XX`, the
medians over the seeds of the speed of two over that of one.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from harness.cli import InputError, Parser, errors_in_one_line
from harness.config import configure, flag, parse
from harness.run_files import read_metrics
from harness.workers import Workers
from train import check_run

ROOT = Path(__file__).resolve().parent.parent


def run(workers: int, settings: list[str]) -> tuple[float, str]:
    """Train with `workers` workers; return steps per second, and what the run's metrics say about learning."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        command = [sys.executable, str(ROOT / "train.py"), "--workers", str(workers), "--run-dir", str(run_dir)]
        done = subprocess.run([*command, "--episodes", "1", *settings], capture_output=True, text=True)
        if done.returncode:
            for line in done.stderr.splitlines():
                if line.startswith("train.py: "):
                    raise InputError(f"{workers} workers failed: {line}")
            raise SystemExit(f"{workers} workers failed with exit code {done.returncode}: {done.stderr[-2000:]}")
        events = EventAccumulator(str(run_dir))
        events.Reload()
        first, *_, last = events.Scalars("return")
        rows = read_metrics(run_dir / "metrics.csv")
    success = np.array([row["success"] for row in rows])
    half = next((row["steps"] for row in rows if row["success"] >= 0.5), None)
    learned = (
        f"success {success[-10:].mean():.1%} in the last ten iterations, half of one iteration's first after {half}"
    )
    return (last.step - first.step) / (last.wall_time - first.wall_time), f"{learned} steps"


@errors_in_one_line("workers.py")
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one worker and two in turn."""
    parser = Parser(
        prog="benchmarks/workers.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Further settings go to train.py.",
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=60)
    counts, settings = parser.parse_known_args(arguments)
    for name, least in (("seeds", 1), ("iterations", 2)):
        if getattr(counts, name) < least:
            raise InputError(f"--{name} is {getattr(counts, name)}; it must be at least {least}")
    settings += ["--iterations", str(counts.iterations)]
    given = vars(parse(settings))
    for name in ("resume", "eval", "run_dir", "workers"):
        if name in given:
            raise InputError(f"{flag(name)} was given, but the runs here have their own; leave it out")
    config = configure(given)
    check_run(config, Workers())
    doubled = [
        "--num-trajectories",
        str(2 * config.num_trajectories),
        "--minibatch-size",
        str(2 * config.minibatch_size),
    ]
    # Runs at a time, workers of each, settings.
    ways: dict[str, tuple[int, int, list[str]]] = {
        "one": (1, 1, []), "shared": (1, 2, []), "each": (1, 2, doubled), "apart": (2, 1, [])
    }  # fmt: skip
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for seed in range(counts.seeds):
        for name, (runs, workers, more) in list(ways.items())[:: 1 if seed % 2 == 0 else -1]:
            own = [*settings, "--seed", str(seed), *more]
            with ThreadPoolExecutor(runs) as side_by_side:
                done = list(side_by_side.map(run, [workers] * runs, [own] * runs))
            speeds[name].append(sum(speed for speed, _ in done))
            print(f"seed {seed}, {name}: {speeds[name][-1]:.0f} steps/s, {done[0][1]}", flush=True)
    for name in list(ways)[1:]:
        print(f"{name} {statistics.median(two / one for two, one in zip(speeds[name], speeds['one'])):.2f}")


if __name__ == "__main__":
    main()
