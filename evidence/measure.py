"""Measure finished runs: a row of runs.csv for each, 95 % intervals over seeds, Markdown tables; for reproduce.py."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from evidence.plan import METHODS, ROOT, TASKS
from evidence.runs import flags
from harness.config import configure, stored_config
from harness.files import atomically
from harness.provenance import COST, read_provenance
from harness.run_files import read_metrics
from harness.task import open_task

PACKAGES = ("torch", "numpy", "gymnasium", "minigrid", "habitat-sim", "habitat-lab")  # of which a row has the versions
EPISODES = 100  # training episodes in a moving average
Row = dict[str, Any]  # a run, as in runs.csv; "" where it has no value
TEXTS = (
    "run",
    "group",
    "env",
    "method",
    "command",
    "commit",
    "code",
    "machine",
    "python",
    *PACKAGES,
    "system",
    "processor",
)


def moving_average(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Average a column of metrics.csv over the last EPISODES episodes.

    Returns environment steps, averages, and the number of rows in an average; the first rows have fewer behind them
    and are averages over those.
    """
    rows = read_metrics(folder / "metrics.csv")
    width = -(-EPISODES // stored_config(folder)["num_trajectories"])
    total = np.cumsum([0.0, *(row[name] for row in rows)])
    ends = np.arange(1, len(rows) + 1)
    begins = np.maximum(0, ends - width)
    return np.array([row["steps"] for row in rows]), (total[ends] - total[begins]) / (ends - begins), width


def steps_to(folder: Path, threshold: float = 0.9) -> int | None:
    """Return the environment steps until `threshold` of the last EPISODES training episodes succeed, None if never."""
    steps, success, width = moving_average(folder, "success")
    reached = np.flatnonzero(success[width - 1 :] > threshold - 1e-9)
    return int(steps[width - 1 + reached[0]]) if len(reached) else None


def measure_run(group: str, folder: Path) -> Row:
    """Return a finished run as a row of runs.csv, with the command that repeats it."""
    result, config = json.loads((folder / "eval.json").read_text()), stored_config(folder)
    defaults = vars(configure({"env": config["env"]}))
    given = {k: v for k, v in config.items() if k == "env" or (k != "run_dir" and v != defaults[k])}
    given |= {"replies": os.path.relpath(given["replies"])} if "replies" in given else {}
    has_student = config["method"] != "llm-only"
    return {
        "run": folder.name,
        "group": group,
        **{name: config[name] for name in ("env", "method", "seed")},
        **{name: result[name] for name in ("length", "return", "success")},
        **{f"teacher_{name}": result.get("teacher", {}).get(name, "") for name in ("return", "success")},
        "steps": read_metrics(folder / "metrics.csv")[-1]["steps"] if has_student else "",
        "steps_to_90": (steps_to(folder) if has_student else None) or "",
        "command": shlex.join(["python", "train.py", *flags(given)]),
        **merge(read_provenance(folder / "provenance.json")),
    }


def merge(entries: Sequence[dict[str, Any]]) -> Row:
    """Return how a run was made, of all processes that worked on it: their seconds and requests are added up."""
    made: Row = {}
    for entry in entries:
        versions = {name: entry["packages"].get(name, "") for name in PACKAGES}
        for name, value in {**entry, **versions}.items():
            if name in ("seconds", *COST[1:]):
                made[name] = made.get(name, 0) + value
            elif name == "memory_mib":
                made[name] = max(made.get(name, 0), value)
            elif name != "packages" and str(value) not in str(made.get(name, "")).split(", "):
                made[name] = f"{made[name]}, {value}" if name in made else value
    return made


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Write a .csv with a row for each run."""
    with atomically(path) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[Row]:
    """Read what `write_rows` wrote, numbers as numbers; [] if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v if k in TEXTS or v == "" else json.loads(v) for k, v in row.items()} for row in rows]


def column(rows: Iterable[Row], group: str, name: str) -> list[float]:
    """Return a column of the rows of a group, without the runs that have no value there."""
    return [row[name] for row in rows if row["group"] == group and row[name] != ""]


# ------------------------------------------------------------------------------------------------------------ intervals


def interval(numbers: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % interval, by Student's t; infinite for a single number."""
    half = stats.sem(numbers) * stats.t.ppf(0.975, len(numbers) - 1) if len(numbers) > 1 else np.inf
    return float(np.mean(numbers)), float(half)


def difference(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Return Welch's 95 % interval of mean(first) - mean(second); infinite where one has a single number."""
    if min(len(first), len(second)) < 2:
        return -np.inf, np.inf
    gap = float(np.mean(first) - np.mean(second))
    if max(np.ptp(first), np.ptp(second)) < 1e-12:  # Welch's formula would divide by zero
        return gap, gap
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all numbers of one group are equal
        low, high = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    return float(low), float(high)


# --------------------------------------------------------------------------------------------------------------- tables

FORMATS = {"length": (1, 1, ""), "return": (1, 3, ""), "success": (100, 1, " %"), "steps_to_90": (0.001, 0, "k")}


def format_cell(rows: Sequence[Row], group: str, name: str) -> str:
    """Format the mean and interval of a column of a group; add how many seeds have a value if not all do."""
    numbers, runs = column(rows, group, name), len(column(rows, group, "seed"))
    if not numbers:
        return "never" if name == "steps_to_90" and column(rows, group, "steps") else "-"
    scale, digits, unit = FORMATS[name.removeprefix("teacher_")]
    mean, half = interval(numbers)
    text = f"{mean * scale:.{digits}f}" + (f" ± {half * scale:.{digits}f}" if half < np.inf else "") + unit
    return text + (f" ({len(numbers)} of {runs} seeds)" if len(numbers) < runs else "")


def format_table(heads: str, lines: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table; `heads` has commas between the columns."""
    names = heads.split(", ")
    return "\n".join("| " + " | ".join(line) + " |" for line in (names, ["---"] * len(names), *lines)) + "\n"


def compare_with_paper(rows: Sequence[Row], group: str, name: str, paper: float) -> str:
    """Return whether a mean is lower or higher than in the paper, or the same as far as the intervals can tell.

    The paper's return is known to 0.005, its success to Wilson's interval for its number of episodes.
    """
    low, high = paper - 0.005, paper + 0.005
    if name == "success":
        episodes = 100 if group.startswith("habitat") else 1000
        low, high = stats.binomtest(round(paper * episodes), episodes).proportion_ci(method="wilson")
    mean, half = interval(column(rows, group, name))
    if half == np.inf:
        return "one seed"
    return "lower" if mean + half < low else "higher" if mean - half > high else "same"


def table3(rows: Sequence[Row], groups: Sequence[str]) -> str:
    """Format Table 3: our runs of every group beside the paper's numbers."""
    lines = []
    for group in groups:
        task, method = next((row["env"], row["method"]) for row in rows if row["group"] == group)
        length, reward, success = open_task(configure({"env": task})).paper[method]
        seeds, steps = len(column(rows, group, "seed")), column(rows, group, "steps")
        ours = [format_cell(rows, group, name) for name in ("length", "return", "success")]
        paper = [f"{length:.2f}", f"{reward:.2f}", f"{success:.1%}"]
        verdicts = [
            compare_with_paper(rows, group, name, number) for name, number in (("return", reward), ("success", success))
        ]
        thousands = f"{np.mean(steps) / 1000:.0f}k" if steps else "-"
        lines.append([task, method, str(seeds), thousands, *ours, *paper, *verdicts])
    heads = "task, method, seeds, steps, length, return, success, paper: length, return, success"
    return format_table(heads + ", our return is, our success is", lines)


def learning_table(rows: Sequence[Row], groups: Sequence[str]) -> str:
    """Format the environment steps until 90 % of the last EPISODES training episodes succeed, by task and method."""
    lines = [[t, *(format_cell(rows, f"{t}-{method}", "steps_to_90") for method in METHODS[1:])] for t in TASKS]
    return format_table(", ".join(["steps to 90 %", *METHODS[1:]]), lines)


def groups_table(rows: Sequence[Row], groups: Sequence[str]) -> str:
    """Format a line for each group of runs: the student, its teacher alone, and when the student learns."""
    names = ("return", "success", "teacher_return", "teacher_success", "steps_to_90")
    lines = [[g, str(len(column(rows, g, "seed"))), *(format_cell(rows, g, name) for name in names)] for g in groups]
    return format_table("runs, seeds, return, success, its teacher's return, success, steps to 90 %", lines)


def write_table(path: Path, heading: str, text: str, root: Path = ROOT) -> None:
    """Write a table below its heading, and bring README.md and docs/*.md up to date wherever they show it.

    A page shows a table between two lines, <!-- results/full/table3.md --> and <!-- end -->, any number of times.
    """
    path.write_text(f"{heading}\n\n{text}")
    marker = f"<!-- {Path(os.path.relpath(path, root)).as_posix()} -->\n"
    shown = re.compile(re.escape(marker) + r"(?:(?!<!-- ).)*(?=<!-- end -->)", re.DOTALL)  # not past another marker
    for page in (*root.glob("README.md"), *root.glob("docs/*.md")):
        before = page.read_text(encoding="utf-8")
        after = shown.sub(lambda _: marker + text, before)
        if after != before:
            with atomically(page) as part:
                part.write_text(after, encoding="utf-8")
