"""The files of a run, written so that no crash spoils them: settings, metrics, checkpoint, weights.

config.json holds every setting, metrics.csv a row an iteration, checkpoint.pt all that the next iteration depends on,
provenance.json how the run was made.
Files are written beside their place and moved there whole. Weights are tensors in dictionaries, read with
`weights_only=True`: no code is run that came in a file.
"""

from __future__ import annotations

import csv
import io
import json
import signal
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from harness.checks import check_rows, check_state, not_finite
from harness.cli import InputError
from harness.files import append, atomically, named, read_text
from harness.provenance import Provenance
from harness.workers import Workers
from rollout import NotFiniteError, is_over

COLUMNS = ("iteration", "steps", "lambda", "return", "success", "length")  # of metrics.csv, before a method's own


class RunFileError(InputError):
    """A file of a run cannot be used; the text says which, why, and what to do."""


def write_config(config: Any, run_dir: Path) -> None:
    """Write config.json: every setting of the run, the fields of a dataclass."""
    with atomically(run_dir / "config.json") as part:
        part.write_text(json.dumps(asdict(config), indent=2) + "\n")


class Log:
    """metrics.csv, a row an iteration, the same to the last digit for the same seed; TensorBoard events, with more."""

    def __init__(self, run_dir: Path, first: int, steps: int) -> None:
        """Go on after `first` iterations; a row that a killed run wrote beyond its checkpoint is dropped.

        Raises RunFileError if the rows are not those of a run with so many iterations and steps.
        """
        from torch.utils.tensorboard import SummaryWriter  # half a second

        self.path = run_dir / "metrics.csv"
        rows = read_metrics(self.path)
        try:
            check_rows(rows, first, steps)
        except ValueError as error:
            raise RunFileError(f"{self.path} does not belong to checkpoint.pt: {error}; restore its own") from None
        self.rows = rows[:first]
        purge = self.rows[-1]["steps"] + 1 if self.rows else None
        with named(run_dir):
            self.events = SummaryWriter(str(run_dir), purge_step=purge)
        with atomically(self.path) as part, part.open("w", newline="") as file:
            if self.rows:
                csv.DictWriter(file, self.rows[0]).writeheader()
                csv.DictWriter(file, self.rows[0]).writerows(self.rows)

    def write(self, row: dict[str, Any], varying: dict[str, float]) -> None:
        """Append a row; an empty string stands for what this iteration does not have.

        `varying` differs from run to run, as speed does, and goes to the events only.
        """
        if self.rows and list(self.rows[0]) != list(row):
            raise RunFileError(f"{self.path} has columns {', '.join(self.rows[0])}; this run's are {', '.join(row)}")
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, row)
        if not self.rows:
            writer.writeheader()
        writer.writerow(row)
        append(self.path, text.getvalue())
        self.rows.append(row)
        with named(self.path.parent):
            for name, value in {**row, **varying}.items():
                if value != "":
                    self.events.add_scalar(name, value, row["steps"])
            self.events.flush()

    def summary(self, speed: float) -> str:
        """Return what the progress bar shows about the last ten iterations."""
        mean = {name: np.mean([row[name] for row in self.rows[-10:]]) for name in ("return", "success")}
        now = self.rows[-1]
        distance = f"distance to teacher {now['distance']:.3f}" if now["lambda"] else "no teacher"
        scores = f"return {mean['return']:.2f}, success {mean['success']:.0%}"
        return f"lambda {now['lambda']:.2f}, {scores}, {distance}, {speed:.0f} steps/s"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a metrics.csv, numbers as numbers, without a last one that was cut off; [] without the file.

    Raises RunFileError if it cannot be read, or holds what is not a finite number.
    """
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = []
    try:
        whole = read_text(path).rpartition("\n")[0]
        reader = csv.DictReader(io.StringIO(whole))
        lacks = [name for name in COLUMNS if whole and name not in (reader.fieldnames or [])]
        if lacks:
            raise ValueError(f"no column {lacks[0]}")
        for texts in reader:
            row = {k: v if v == "" else int(v) if k in ("iteration", "steps") else float(v) for k, v in texts.items()}
            for name in not_finite(row):
                raise ValueError(f"{name} is {row[name]}")
            rows.append(row)
        return rows
    except (OSError, ValueError, TypeError, csv.Error) as error:
        where = f"{path}, line {len(rows) + 2}" if rows else path
        raise RunFileError(f"{where} cannot be read ({first_line(error)}); restore a copy or train again") from None


def random_state(device: torch.device) -> torch.Tensor:
    """Return the state of a worker's random numbers, on the CPU and, behind it, on its GPU, (1, bytes)."""
    states = [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])
    return torch.cat(states)[None]


def load_checkpoint(
    run_dir: Path,
    config: Any,
    student: nn.Module,
    optimizer: torch.optim.Optimizer,
    rank: int,
    device: torch.device,
) -> tuple[int, int]:
    """Restore what `Run.save` wrote; returns iterations and environment steps done, (0, 0) without a file.

    A worker beyond those that saved goes on with the random numbers that it started with. Raises RunFileError if the
    file cannot be read or is another run's.
    """
    path = run_dir / "checkpoint.pt"
    if not path.exists():
        return 0, 0
    state = read_weights(path)
    try:
        names = [name for name in ("env", "method", "student") if state["config"][name] != getattr(config, name)]
        if not names:
            check_state(state, student, optimizer)
            student.load_state_dict(state["student"])
            optimizer.load_state_dict(state["optimizer"])
            if rank < len(state["random"]):
                random, on_cpu = state["random"][rank], len(torch.get_rng_state())
                torch.set_rng_state(random[:on_cpu].clone())  # torch aborts on a view
                if device.type == "cuda" and len(random) > on_cpu:
                    torch.cuda.set_rng_state(random[on_cpu:].clone(), device)
            return int(state["iteration"]), int(state["steps"])
    except Exception as error:  # what is in the file may be of any shape
        raise RunFileError(
            f"{path} is not a checkpoint of this run's student ({first_line(error)}); restore its own, restore the "
            "task if that has changed its spaces or options, or train again"
        ) from None
    of, here = state["config"][names[0]], getattr(config, names[0])
    raise RunFileError(f"{path} is of {names[0]} {of}, this run of {here}; restore its own")


def write_weights(path: Path, state: dict[str, Any]) -> None:
    """Write what `read_weights` reads; by way of memory, since torch hides why a disk refused it."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with atomically(path) as part:
        part.write_bytes(buffer.getvalue())


def read_weights(path: Path) -> dict[str, Any]:
    """Read a file that `write_weights` wrote; raises RunFileError if it cannot be read."""
    try:
        if path.exists() and not path.is_file():  # a pipe never ends
            raise ValueError("it is not a file")
        with zipfile.ZipFile(path) as archive:  # torch does not look at the checksums
            damaged = archive.testzip()
        if damaged:
            raise ValueError(f"{damaged} is damaged")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise TypeError(f"it holds a {type(state).__name__}, not a dictionary")
        return state
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise RunFileError(f"{path} cannot be read ({first_line(error)}); restore a copy or train again") from None


def first_line(error: Exception) -> str:
    """Return the first line of an exception's text, or its name."""
    return next(iter(str(error).splitlines()), type(error).__name__)


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C or SIGTERM sets, to end a run between two iterations; a second one ends it at once."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handler(number: int, _frame: Any) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    try:
        for number in before:
            signal.signal(number, handler)
        yield stop
    finally:
        for number in before:
            signal.signal(number, before[number])


def append_unknown_state(path: Path, state: str) -> None:
    """Append a state text that has no answer, a JSON line for `teacher.py record --states`; none stands twice."""
    line = json.dumps({"state": state}) + "\n"
    if not path.exists() or line not in path.read_text().splitlines(keepends=True):
        append(path, line)


class Run:
    """Training as its folder and the terminal see it: where it goes on, its progress, rows and checkpoints.

    A signal stops it after the iteration that is under way.
    """

    def __init__(
        self, config: Any, run_dir: Path, student: nn.Module, optimizer: torch.optim.Optimizer,
        workers: Workers, device: torch.device, provenance: Provenance,
    ) -> None:  # fmt: skip
        """Restore the folder's checkpoint into student and optimizer, if there is one; raises RunFileError."""
        self.config, self.run_dir, self.student, self.optimizer = config, run_dir, student, optimizer
        self.workers, self.device, self.provenance, self.finished = workers, device, provenance, False
        self.first, self.total_steps = load_checkpoint(run_dir, config, student, optimizer, workers.rank, device)
        self.log = Log(run_dir, self.first, self.total_steps) if workers.rank == 0 else None
        if self.log:
            write_config(config, run_dir)

    def iterations(self) -> Iterator[int]:
        """Yield the iterations that are left; all workers stop after the same one where any of them got a signal."""
        started, steps_before = time.perf_counter(), self.total_steps
        self.speed = lambda: (self.total_steps - steps_before) / (time.perf_counter() - started)
        with stop_on_signal() as stop, tqdm(
            range(self.first, self.config.iterations), initial=self.first, total=self.config.iterations,
            dynamic_ncols=True, disable=not self.log,
        ) as self.progress:  # fmt: skip
            for i in self.progress:
                yield i
                if self.workers.sum(stop.is_set()):
                    return
        if self.log:
            write_weights(self.run_dir / "student.pt", self.student.state_dict())
            self.log.events.close()
        self.finished = True

    def save(
        self, i: int, steps: int, lambda_: float, trajectories: Sequence[Any], means: dict[str, float],
        columns: Sequence[str],
    ) -> None:  # fmt: skip
        """End an iteration: write its row and the checkpoint, all that the next iteration depends on.

        steps: of all workers in this iteration.  trajectories: this worker's, of which whole episodes count.  means:
        this worker's, of which `columns` are written, empty where there is none. Raises NotFiniteError before anything
        is written.
        """
        self.total_steps += steps
        means = self.workers.mean(means)
        episodes = [(sum(step.reward for step in t), t[-1].success, len(t)) for t in trajectories if is_over(t)]
        outcomes = self.workers.gather(torch.tensor(episodes, dtype=torch.float64).view(-1, 3))
        returns, successes, lengths = outcomes.numpy().T
        random = self.workers.gather(random_state(self.device))
        self.provenance.write(self.workers)
        if self.log:
            row = {
                "iteration": i,
                "steps": self.total_steps,
                "lambda": lambda_,
                "return": float(np.mean(returns)),
                "success": float(np.mean(successes)),
                "length": float(np.mean(lengths)),
                **{name: means.get(name, "") for name in columns},
            }
            checkpoint = {
                "config": asdict(self.config),
                "iteration": i + 1,
                "steps": self.total_steps,
                "student": self.student.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "random": random,
            }
            wrong = list(not_finite({**row, **checkpoint}))
            if wrong:
                raise NotFiniteError(f"{', '.join(wrong[:3])} {'are' if wrong[1:] else 'is'} not finite")
            speed = self.speed()
            self.log.write(row, {"steps_per_second": speed, **self.provenance.bill()})
            self.progress.set_postfix_str(self.log.summary(speed))
            write_weights(self.run_dir / "checkpoint.pt", checkpoint)
