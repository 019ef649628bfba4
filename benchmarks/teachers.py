"""Print a table of finished runs, a row for each task, LLM and mode: the teacher alone, its students, when they learn.

    python benchmarks/teachers.py runs/teachers/*         # folders that train.py made; prints Markdown

A cell is the mean over the seeds, with the lowest and highest in brackets. Steps: environment steps until 90 % of the
last 100 training episodes succeed; episodes are those of training, with sampled actions.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from evidence.measure import steps_to
from harness.cli import InputError, Parser, errors_in_one_line
from harness.config import stored_config

Runs = list[tuple[Path, dict[str, Any]]]  # run folders with their eval.json


def format_range(numbers: list[float], form: str) -> str:
    """Format the mean, and the range where there are several numbers."""
    mean = format(float(np.mean(numbers)), form)
    return mean if len(numbers) == 1 else f"{mean} ({format(min(numbers), form)}..{format(max(numbers), form)})"


def format_steps(runs: Runs) -> str:
    """Format the thousands of environment steps until 90 % success, over the seeds that reach it."""
    reached = [steps_to(folder) for folder, _ in runs]
    thousands = [steps / 1000 for steps in reached if steps is not None]
    some = f" ({len(thousands)} of {len(reached)} seeds)" if 0 < len(thousands) < len(reached) else ""
    return (format_range(thousands, ".0f") + "k" if thousands else "never") + some


def read_result(folder: Path) -> dict[str, Any]:
    """Return a run's eval.json, {} if there is none; raises InputError if it cannot be read."""
    path = folder / "eval.json"
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read: {error}; write it anew with python train.py --eval {folder}"
        ) from None


@errors_in_one_line("teachers.py")
def main(arguments: Sequence[str] | None = None) -> None:
    """Read the run folders and print the table."""
    parser = Parser(
        prog="benchmarks/teachers.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs of llm4teach; others are left out")
    groups: dict[tuple[str, str, str], Runs] = defaultdict(list)
    for folder in sorted(parser.parse_args(arguments).runs):
        result = read_result(folder)
        if "teacher" in result:
            config = stored_config(folder)
            # A book that was named stands for itself.
            llm = config["replies"] or config["teacher_model"] or "the paper's"
            groups[config["env"], llm, config["teacher_mode"]].append((folder, result))
    if not groups:
        parser.error("no folder has an eval.json of llm4teach; give those of finished runs")
    print("| task | LLM | mode | seeds | teacher: return | success | student: return | success | steps |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for (env, llm, mode), runs in sorted(groups.items(), key=lambda group: group[0]):
        students = [result for _, result in runs]
        cells = [
            format_range([row[name] for row in rows], form)
            for rows in ([student["teacher"] for student in students], students)
            for name, form in (("return", ".3f"), ("success", ".1%"))
        ]
        seeds = ", ".join(str(student["seed"]) for student in students)
        print(f"| {env} | {llm} | {mode} | {seeds} | {' | '.join(cells)} | {format_steps(runs)} |")


if __name__ == "__main__":
    main()
