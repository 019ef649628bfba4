"""Measure a finished run: its row of results/runs.csv, with the command that repeats it; for reproduce.py."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from evidence.plan import BOOKS, ROOT, Run, find_horizon
from evidence.runs import flags
from harness.cli import InputError
from harness.config import default_config, stored_config
from harness.provenance import COST, read_provenance
from harness.run_files import read_metrics

EPISODES = 100  # training episodes in a mean
PACKAGES = ("torch", "numpy", "gymnasium", "minigrid", "habitat-sim")  # whose versions stand in a row
Row = dict[str, Any]  # a run, as in runs.csv; "" where it has no value


class Metrics(NamedTuple):
    """What is measured of a run's training, an entry an iteration."""

    steps: np.ndarray  # environment steps by its end
    returns: np.ndarray  # means over its episodes
    success: np.ndarray
    width: int  # iterations that have EPISODES episodes or more


def read_training(folder: Path) -> Metrics:
    """Read a run's metrics.csv; raises InputError."""
    rows = read_metrics(folder / "metrics.csv")
    width = -(-EPISODES // stored_config(folder)["num_trajectories"])
    steps, returns, success = (np.array([row[name] for row in rows], float) for name in ("steps", "return", "success"))
    return Metrics(steps, returns, success, width)


def moving_average(values: np.ndarray, width: int) -> np.ndarray:
    """Return the mean of each value and the width - 1 before it; the first width - 1 values have none."""
    return np.convolve(values, np.ones(width) / width, "valid")


def steps_to_stay(training: Metrics, threshold: float) -> int | None:
    """Return the environment steps from which the mean of the last EPISODES episodes stays at or above a threshold.

    None where it never does: the last mean is below. A first touch of a noisy mean would come sooner than it is held.
    """
    below = np.flatnonzero(moving_average(training.success, training.width) < threshold - 1e-9)
    first = below[-1] + 1 if len(below) else 0
    at = first + training.width - 1
    return int(training.steps[at]) if at < len(training.steps) else None


def area_under_curve(training: Metrics, values: np.ndarray, horizon: int) -> float:
    """Return the mean of a learning curve over the first `horizon` environment steps.

    Each iteration's mean counts with its steps. A run that ended sooner goes on with the mean of its last EPISODES
    episodes.
    """
    ends = np.minimum(training.steps, horizon)
    counted = np.diff(ends, prepend=0.0)
    last = values[-training.width :].mean()
    return float((values @ counted + last * (horizon - ends[-1])) / horizon)


def thin_curve(training: Metrics) -> np.ndarray:
    """Return (steps, return, success), a row for each EPISODES training episodes and a last one for the rest."""
    starts = np.arange(0, len(training.steps), training.width)
    ends = np.append(starts[1:], len(training.steps))
    means = [np.add.reduceat(values, starts) / (ends - starts) for values in (training.returns, training.success)]
    return np.stack([training.steps[ends - 1], *means], axis=1)


def read_episodes(folder: Path) -> list[tuple[str, ...]]:
    """Return the rows of a run's episodes.csv."""
    with (folder / "episodes.csv").open(newline="") as file:
        return [tuple(row) for row in csv.reader(file)][1:]


def measure_run(run: Run, folder: Path) -> Row:
    """Return a finished run as a row of runs.csv."""
    result = json.loads((folder / "eval.json").read_text())
    student = run.settings["method"] != "llm-only"
    alone = result.get("teacher", {}) if student else result
    horizon = find_horizon(run.budget, run.group.task)
    learning: Row = dict.fromkeys(("steps", "auc_return", "auc_success", "steps_to_50", "steps_to_90"), "")
    if student:
        training = read_training(folder)
        learning = {
            "steps": int(training.steps[-1]),
            "auc_return": area_under_curve(training, training.returns, horizon),
            "auc_success": area_under_curve(training, training.success, horizon),
            "steps_to_50": steps_to_stay(training, 0.5) or "",
            "steps_to_90": steps_to_stay(training, 0.9) or "",
        }
    return {
        "run": run.name,
        "budget": run.budget,
        "group": run.group.name,
        "task": run.group.task,
        "arm": run.group.arm,
        "seed": run.settings["seed"],
        **{name: result[name] for name in ("return", "length", "success")},
        **{f"teacher_{name}": alone.get(name, "") for name in ("return", "length", "success")},
        **{name: alone.get(name, "") for name in ("invalid_share", "teacher_entropy", "no_advice_share")},
        "horizon": horizon if student else "",
        **learning,
        "command": repeat_command(folder),
        **how_made(read_provenance(folder / "provenance.json")),
    }


def repeat_command(folder: Path) -> str:
    """Return the command that repeats a run, from a fresh clone; a book of evidence.books is written first.

    It is the same for a run that another clone made. DIR is the folder of a Habitat data set, which nobody else has in
    the same place. Raises InputError if nobody else has the run's reply book.
    """
    config = stored_config(folder)
    defaults = vars(default_config(config["env"]))
    given = {k: v for k, v in config.items() if k == "env" or (k != "run_dir" and v != defaults[k])}
    if "habitat_data" in given:
        given["habitat_data"] = "DIR"
    if "replies" in given:
        given["replies"] = place_in_clone(Path(given["replies"])).as_posix()
    book = Path(given.get("replies", ""))
    first = ["python", "-m", "evidence.books", book.stem, "&&"] if ROOT / book.parent == BOOKS else []
    return shlex.join([*first, "python", "train.py", *flags(given)]).replace("'&&'", "&&")


def place_in_clone(book: Path) -> Path:
    """Return where a reply book of some clone of this project stands in every clone; raises InputError if it does not.

    Those of evidence.books need not be there yet.
    """
    for start in range(1, len(book.parts)):
        place = Path(*book.parts[start:])
        if (ROOT / place).is_file() or (ROOT / place).parent == BOOKS:
            return place
    raise InputError(
        f"{book} is no reply book of this project, so that nobody else can repeat its run; use one that is"
    )


def how_made(entries: Sequence[dict[str, Any]]) -> Row:
    """Return how a run was made by all processes that worked on it: seconds and requests are added up."""
    made: Row = {}
    for entry in entries:
        versions = {name: entry["packages"].get(name, "") for name in PACKAGES}
        for name, value in {**entry, **versions}.items():
            if name in ("seconds", *COST[1:]):
                made[name] = made.get(name, 0) + value
            elif name == "memory_mib":
                made[name] = max(made.get(name, 0), value)
            elif name != "packages" and str(value) not in str(made.get(name, "")).split(", "):
                made[name] = f"{made[name]}, {value}" if made.get(name) else value
    return made
