"""What a second worker brings: environment steps/s of two DD-PPO workers over one, and whether they learn the same.

    python benchmarks/workers.py                                              # SimpleDoorKey, three seeds
    python benchmarks/workers.py --env habitat-navpick --iterations 4 --num-simulators 1

Four take turns for every seed: one worker; two that share its episodes and minibatches, so that they should learn the
same; two that have as many each as the one, which is how Wijmans et al. scale; and two runs of one worker side by side
that do not know of each other, which is the most that the machine has to give. Prints the speed, from the end of the
first iteration to the end of the last, and what was learned by then; at last `shared X.XX`, `each X.XX` and `apart
X.XX`, the medians over the seeds of the speed of two over that of one.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
import storage
import train

ROOT = Path(train.__file__).parent


def run(workers: int, settings: list[str]) -> tuple[float, str]:
    """Train with so many workers; steps per second, and what the run's metrics say."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        launch = ["torch.distributed.run", "--standalone", f"--nproc_per_node={workers}", str(ROOT / "train.py")]
        command = [sys.executable, "-m", *launch, "--run-dir", str(run_dir), "--episodes", "1", *settings]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{workers} workers failed with exit code {done.returncode}: {done.stderr[-2000:]}")
        events = EventAccumulator(str(run_dir))
        events.Reload()
        first, *_, last = events.Scalars("return")
        rows = storage.read_metrics(run_dir / "metrics.csv")
    success = np.array([row["success"] for row in rows])
    half = next((row["steps"] for row in rows if row["success"] >= 0.5), None)
    learned = (
        f"success {success[-10:].mean():.1%} in the last ten iterations, half of one iteration's first after {half}"
    )
    return (last.step - first.step) / (last.wall_time - first.wall_time), f"{learned} steps"


def main() -> None:
    """Measure one worker and two in turn."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Further settings go to train.py.",
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=60)
    arguments, settings = parser.parse_known_args()
    settings += ["--iterations", str(arguments.iterations)]
    config = train.configure(vars(train.parse(settings)))
    doubled = [
        "--num-trajectories",
        str(2 * config.num_trajectories),
        "--minibatch-size",
        str(2 * config.minibatch_size),
    ]
    # Runs at a time, workers of each, settings.
    ways = {"one": (1, 1, []), "shared": (1, 2, []), "each": (1, 2, doubled), "apart": (2, 1, [])}
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for seed in range(arguments.seeds):
        for name, (runs, workers, more) in list(ways.items())[:: 1 if seed % 2 == 0 else -1]:
            given = [*settings, "--seed", str(seed), *more]
            with ThreadPoolExecutor(runs) as side_by_side:
                done = list(side_by_side.map(run, [workers] * runs, [given] * runs))
            speeds[name].append(sum(speed for speed, _ in done))
            print(f"seed {seed}, {name}: {speeds[name][-1]:.0f} steps/s, {done[0][1]}", flush=True)
    for name in list(ways)[1:]:
        print(f"{name} {statistics.median(two / one for two, one in zip(speeds[name], speeds['one'])):.2f}")


if __name__ == "__main__":
    main()
