"""Run train.py for every planned run, many at a time; for reproduce.py."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from evidence.books import write_faulty_book
from evidence.plan import BOOKS, ROOT, Run
from harness.cli import InputError
from harness.config import config_class, configure, default_config, flag, stored_config
from harness.provenance import read_provenance
from harness.task import check_task, open_task


def is_finished(run: Run, runs_dir: Path) -> bool:
    """Return whether a run was trained and measured: eval.json is the last of the files that its row is made of."""
    return (runs_dir / run.folder / "eval.json").exists()


def is_begun(folder: Path) -> bool:
    """Return whether there is a run that can be resumed."""
    return (folder / "config.json").exists()


def run_unfinished(runs: Sequence[Run], runs_dir: Path, jobs: int) -> None:
    """Run train.py for every run that is not finished, `jobs` processes at a time, with one progress bar.

    Ctrl-C and SIGTERM make every process save its run and stop. The processes inherit a lock on `runs_dir`: if this one
    is killed and they continue, the next call raises InputError. So do, before anything runs, a folder that holds
    another run and a task that cannot be run, such as one whose data are missing; and in the end a process that failed.
    """
    with (runs_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"runs in {runs_dir} are still under way; wait for them or end them, or choose another --runs"
            ) from None
        for run in runs:
            check_folder(run, runs_dir / run.folder)
        for run in {run.group.name: run for run in runs if not is_finished(run, runs_dir)}.values():
            check_task(open_task(configure(run.settings)))
        failed = run_processes(runs, runs_dir, jobs, lock.fileno())
    if failed:
        raise InputError(
            f"{'; '.join(failed)}; see the .log beside its folder in {runs_dir}, then give the same command again"
        )


def run_processes(runs: Sequence[Run], runs_dir: Path, jobs: int, lock: int) -> list[str]:
    """Run train.py for every run that is not finished, in their order; return a message for each that failed."""
    took: dict[str, list[float]] = defaultdict(list)  # group -> seconds of its finished runs
    waiting: deque[Run] = deque()
    for run in runs:
        if is_finished(run, runs_dir):
            took[run.group.name].append(seconds_of(run, runs_dir))
        else:
            waiting.append(run)
    running: dict[subprocess.Popen[bytes], tuple[Run, float]] = {}
    failed, told = [], ""
    bar = tqdm(
        total=len(runs), dynamic_ncols=True, bar_format="{percentage:3.0f}%|{bar:20}| {n} of {total} runs{postfix}"
    )
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                run = waiting.popleft()
                running[start(run, runs_dir, lock)] = run, time.monotonic()
            for process, (run, _) in list(running.items()):
                if process.poll() is not None:
                    del running[process]
                    if process.returncode:
                        failed.append(f"{run.name} ended with exit code {process.returncode}")
                    else:
                        took[run.group.name].append(seconds_of(run, runs_dir))
            left = [(run, 0.0) for run in waiting]
            left += [(run, time.monotonic() - since) for run, since in running.values()]
            names = ", ".join(run.folder for run, _ in running.values())
            state = f"{format_seconds(seconds_left(left, took) / jobs)} left; {names}"
            if (bar.n, told) != (len(runs) - len(left), state):
                bar.n, told = len(runs) - len(left), state
                bar.set_postfix_str(state)
            time.sleep(0.5)
    finally:
        bar.close()
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
    return failed


def seconds_of(run: Run, runs_dir: Path) -> float:
    """Return how long a finished run took."""
    return sum(entry["seconds"] for entry in read_provenance(runs_dir / run.folder / "provenance.json"))


def seconds_left(left: Sequence[tuple[Run, float]], took: dict[str, list[float]]) -> float:
    """Return how long runs still take, each so many seconds under way: as long as finished runs of their group.

    A group without a finished run takes the mean of all that are finished; NaN without any.
    """
    everything = [seconds for group in took.values() for seconds in group]
    expected = [np.mean(took.get(run.group.name) or everything or np.nan) - under_way for run, under_way in left]
    return float(sum(max(0.0, seconds) if seconds == seconds else np.nan for seconds in expected))


def format_seconds(seconds: float) -> str:
    """Format a duration for the progress bar."""
    if np.isnan(seconds):
        return "? min"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60}:{minutes % 60:02} h"


def start(run: Run, runs_dir: Path, lock: int) -> subprocess.Popen[bytes]:
    """Start or resume a run; in its own session, so that Ctrl-C reaches it only by way of this process."""
    folder, book = runs_dir / run.folder, Path(run.settings.get("replies", ""))
    if book.parent == BOOKS and not book.exists():
        write_faulty_book(book)
    settings = ["--resume", str(folder)] if is_begun(folder) else [*flags(run.settings), "--run-dir", str(folder)]
    with (runs_dir / f"{run.folder}.log").open("ab") as log:  # a model's name may have a dot
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
    """Raise InputError if the folder exists and holds a run with other settings than the planned ones.

    What may differ is what a run may change: the device and the like. A book is known by its name.
    """
    if not is_begun(folder):
        return
    env = run.settings["env"]
    stored, planned = stored_config(folder), {**vars(default_config(env)), **run.settings}
    for field in fields(config_class(env)):
        name = field.name
        if name == "run_dir" or (field.metadata["changeable"] and name not in run.settings):
            continue
        here, there = (Path(s[name]).name if field.metadata["path"] else s[name] for s in (stored, planned))
        if here != there:
            raise InputError(
                f"{folder} has {name} {stored[name]!r}, and {planned[name]!r} is planned; move it, or choose another "
                "--runs"
            )
