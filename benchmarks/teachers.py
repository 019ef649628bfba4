"""A table of finished runs, one row for each task, LLM and mode: the teacher alone, its students, and when they learn.

    python benchmarks/teachers.py runs/teachers/*         # folders that train.py made; prints Markdown

A cell is the mean over the seeds, with the lowest and highest in brackets. Steps: environment steps until 90 % of the
last 100 training episodes succeed; episodes are those of training, with sampled actions.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
import train
from reproduce import steps_to

Runs = list[tuple[Path, dict[str, Any]]]  # run folders with their eval.json


def cell(values: list[float], form: str) -> str:
    """Mean, and the range where there are several."""
    mean = format(float(np.mean(values)), form)
    return mean if len(values) == 1 else f"{mean} ({format(min(values), form)}..{format(max(values), form)})"


def when(runs: Runs) -> str:
    """Thousands of environment steps until 90 %, over the seeds that reach it."""
    reached = [steps_to(folder) for folder, _ in runs]
    times = [steps / 1000 for steps in reached if steps is not None]
    some = f" ({len(times)} of {len(reached)} seeds)" if 0 < len(times) < len(reached) else ""
    return (cell(times, ".0f") + "k" if times else "never") + some


def main() -> None:
    """Read the run folders and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs of llm4teach; others are left out")
    groups: dict[tuple[str, str, str], Runs] = defaultdict(list)
    for folder in sorted(parser.parse_args().runs):
        result = json.loads((folder / "eval.json").read_text()) if (folder / "eval.json").exists() else {}
        if "teacher" in result:
            config = train.stored_config(folder)
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
            cell([row[name] for row in rows], form)
            for rows in ([student["teacher"] for student in students], students)
            for name, form in (("return", ".3f"), ("success", ".1%"))
        ]
        seeds = ", ".join(str(student["seed"]) for student in students)
        print(f"| {env} | {llm} | {mode} | {seeds} | {' | '.join(cells)} | {when(runs)} |")


if __name__ == "__main__":
    main()
