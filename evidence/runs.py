"""Run train.py for every planned run, many at a time; for reproduce.py."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from evidence.plan import ROOT, Run
from harness.cli import InputError
from harness.config import flag, stored_config


def run_unfinished(runs: Sequence[Run], runs_dir: Path, jobs: int) -> None:
    """Run train.py for every run that is not finished, `jobs` processes at a time, with one progress bar.

    A run is finished once its folder has an eval.json. Ctrl-C and SIGTERM make every process save its run and
    stop. The processes inherit a lock on `runs_dir`: if this one is killed and they continue, the next call raises
    InputError. So do a folder that holds another run, and a process that fails.
    """
    with (runs_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"runs in {runs_dir} are still under way; wait for them or end them, or choose another --runs"
            ) from None
        for run in runs:
            check_folder(run, runs_dir / run.name)
        failed = run_processes(runs, runs_dir, jobs, lock.fileno())
    if failed:
        raise InputError(
            f"{'; '.join(failed)}; see the .log beside its folder in {runs_dir}, then give the same command again"
        )


def run_processes(runs: Sequence[Run], runs_dir: Path, jobs: int, lock: int) -> list[str]:
    """Run train.py for every run that is not finished; return a message for each process that failed."""
    done = {run.name: run.iterations for run in runs if (runs_dir / run.name / "eval.json").exists()}
    waiting = deque(run for run in runs if run.name not in done)
    running: dict[subprocess.Popen[bytes], Run] = {}
    failed = []
    bar = tqdm(total=sum(run.iterations for run in runs), initial=sum(done.values()), unit="it", dynamic_ncols=True)
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running[start(waiting[0], runs_dir, lock)] = waiting[0]
                waiting.popleft()
            for process, run in list(running.items()):
                done[run.name] = min(count_iterations(runs_dir / run.name), run.iterations)
                if process.poll() is not None:
                    del running[process]
                    done[run.name] = run.iterations
                    if process.returncode:
                        failed.append(f"{run.name} ended with exit code {process.returncode}")
            bar.n = sum(done.values())
            finished = len(runs) - len(waiting) - len(running)
            bar.set_postfix_str(f"{finished} of {len(runs)} runs; {', '.join(run.name for run in running.values())}")
            time.sleep(0.5)
    finally:
        bar.close()
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
    return failed


def start(run: Run, runs_dir: Path, lock: int) -> subprocess.Popen[bytes]:
    """Start or resume a run; in its own session, so that Ctrl-C reaches it only by way of this process."""
    folder = runs_dir / run.name
    settings = ["--resume", str(folder)] if folder.exists() else [*flags(run.settings), "--run-dir", str(folder)]
    with folder.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *settings], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True, pass_fds=(lock,),
        )  # fmt: skip


def flags(settings: dict[str, Any]) -> list[str]:
    """Return settings as arguments of train.py."""
    words = []
    for name, value in settings.items():
        words += [flag(name), str(value)] if not isinstance(value, bool) else [flag(name if value else f"no_{name}")]
    return words


def check_folder(run: Run, folder: Path) -> None:
    """Raise InputError if the folder exists and holds a run with other settings than the planned ones."""
    if folder.exists():
        stored = stored_config(folder)
        for name, value in run.settings.items():
            if stored[name] != value:
                raise InputError(
                    f"{folder} has {name} {stored[name]}, and {value} is planned; move it, or choose another --runs"
                )


def count_iterations(folder: Path) -> int:
    """Return the number of training iterations that a run has finished."""
    path = folder / "metrics.csv"
    return max(0, path.read_bytes().count(b"\n") - 1) if path.exists() else 0
