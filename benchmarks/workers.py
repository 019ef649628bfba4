"""What a second worker brings: environment steps/s of two DD-PPO workers over one, and whether they learn the same.

    python benchmarks/workers.py                                   # SimpleDoorKey, three seeds

One worker and two, with the same number of episodes an iteration between them, take turns for every seed. Prints the
speed, from the end of the first iteration to the end of the last, what was learned by then, and at last `ratio X.XX`,
the median over the seeds of two workers' speed over one's.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
import train

ROOT = Path(train.__file__).parent


def run(workers: int, arguments: list[str]) -> tuple[float, str]:
    """Train with so many workers; steps per second, and what the run's metrics say."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        launch = ["torch.distributed.run", "--standalone", f"--nproc_per_node={workers}", str(ROOT / "train.py")]
        command = [sys.executable, "-m", *launch, "--run-dir", str(run_dir), "--episodes", "1", *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{workers} workers failed with exit code {done.returncode}: {done.stderr[-2000:]}")
        events = EventAccumulator(str(run_dir))
        events.Reload()
        first, *_, last = events.Scalars("return")
        rows = train.read_metrics(run_dir / "metrics.csv")
    success = np.array([row["success"] for row in rows])
    half = next((row["steps"] for row in rows if row["success"] >= 0.5), None)
    learned = (
        f"success {success[-10:].mean():.1%} in the last ten iterations, half of an iteration's after {half} steps"
    )
    return (last.step - first.step) / (last.wall_time - first.wall_time), learned


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
    ratios = []
    for seed in range(arguments.seeds):
        speeds = {}
        for workers in (1, 2) if seed % 2 == 0 else (2, 1):
            flags = ["--seed", str(seed), "--iterations", str(arguments.iterations), *settings]
            speeds[workers], learned = run(workers, flags)
            print(f"seed {seed}, {workers} worker(s): {speeds[workers]:.0f} steps/s, {learned}", flush=True)
        ratios.append(speeds[2] / speeds[1])
    print(f"ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
