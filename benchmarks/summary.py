"""Tables of finished runs: Table 3 beside the paper, and environment steps to 90 % success, means over seeds.

    python benchmarks/summary.py runs/*                   # folders that train.py made; prints Markdown
    python benchmarks/summary.py runs/* --plot curve.png  # and draws success over environment steps
    python benchmarks/summary.py runs/* --teachers        # students beside their teachers, a row for each LLM and mode

A cell is the mean over the seeds, with the lowest and highest in brackets. Steps to 90 %: where the mean success of
the last 100 training episodes first reaches 0.9; episodes are those of training, with sampled actions.
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
from reproduce import smooth, steps_to


def cell(values: list[float], form: str) -> str:
    """Mean, and the range where there are several."""
    mean = format(float(np.mean(values)), form)
    return mean if len(values) == 1 else f"{mean} ({format(min(values), form)}..{format(max(values), form)})"


Runs = dict[tuple[str, str], list[tuple[Path, dict[str, Any]]]]  # task and method -> run folders, their eval.json


def tasks_of(runs: Runs) -> list[str]:
    """Those of the paper's tasks that there are runs of."""
    return [env for env in train.PAPER if any(runs.get((env, method)) for method in train.METHODS)]


def when(folders: list[Path], threshold: float) -> str:
    """Thousands of environment steps until `threshold`, over the seeds that reach it."""
    reached = [steps_to(folder, threshold) for folder in folders]
    times = [steps / 1000 for steps in reached if steps is not None]
    some = f" ({len(times)} of {len(reached)} seeds)" if 0 < len(times) < len(reached) else ""
    return (cell(times, ".0f") + "k" if times else "never") + some


def teachers(runs: Runs, threshold: float) -> None:
    """Print a row for each task, LLM and mode: the teacher alone, its students, and when they reach the threshold."""
    print("| task | LLM | mode | seeds | teacher: return | success | student: return | success | steps |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for env in train.PAPER:
        groups: dict[tuple[str, str], list[tuple[Path, dict[str, Any]]]] = defaultdict(list)
        for folder, result in runs[env, "llm4teach"]:
            config = json.loads((folder / "config.json").read_text())
            llm = (
                config["replies"] or config["teacher_model"] or "the paper's"
            )  # a book that was named stands for itself
            groups[llm, config["teacher_mode"]].append((folder, result))
        for (model, mode), group in sorted(groups.items()):
            results = [result for _, result in group]
            cells = [
                cell([row[name] for row in rows], form)
                for rows in ([result["teacher"] for result in results], results)
                for name, form in (("return", ".3f"), ("success", ".1%"))
            ]
            seeds = ", ".join(str(result["seed"]) for result in results)
            steps = when([folder for folder, _ in group], threshold)
            print(f"| {env} | {model} | {mode} | {seeds} | {' | '.join(cells)} | {steps} |")


def plot(runs: Runs, path: Path) -> None:
    """Success over environment steps for each task and method: the mean of the seeds and, lighter, their range."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    tasks = tasks_of(runs)
    columns = min(2, len(tasks))
    lines = -(-len(tasks) // columns)
    figure, panels = plt.subplots(
        lines, columns, figsize=(4.5 * columns, 3 * lines + 0.5), sharex=True, sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for env, panel in zip(tasks, panels.flat):
        for method, color, line in (("llm4teach", "C0", "-"), ("hierarchical", "C1", "--"), ("ppo", "C2", "-.")):
            curves = []
            for folder, _ in runs.get((env, method), []):
                curves.append(smooth(folder, "success")[:2])
            if curves:
                steps = np.geomspace(max(c[0][0] for c in curves), min(c[0][-1] for c in curves), 300)
                heights = np.stack([np.interp(steps, *curve) for curve in curves])
                panel.fill_between(steps, heights.min(0), heights.max(0), color=color, alpha=0.2, linewidth=0)
                panel.plot(steps, heights.mean(0), color=color, linestyle=line, label=method)
        for _, result in runs.get((env, "llm-only"), []):
            panel.axhline(result["success"], color="black", linestyle=":", label="teacher alone (llm-only)")
        panel.set(title=env, xscale="log", ylim=(-0.02, 1.02))
        panel.grid(alpha=0.3)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2 * columns)
    figure.supxlabel("environment steps")
    figure.supylabel("success in training")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Read the run folders and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders; those without eval.json are left out")
    parser.add_argument("--threshold", type=float, default=0.9, help="success that the second table asks for")
    parser.add_argument("--teachers", action="store_true", help="compare LLMs and modes instead of methods")
    parser.add_argument("--plot", type=Path, help="draw success over environment steps here")
    arguments = parser.parse_args()
    runs: Runs = defaultdict(list)
    for folder in sorted(arguments.runs):
        if (folder / "eval.json").exists():
            result = json.loads((folder / "eval.json").read_text())
            runs[result["env"], result["method"]].append((folder, result))
    if not tasks_of(runs):
        parser.error("no folder has an eval.json of a task of the paper; give those of finished runs")
    if arguments.plot:
        plot(runs, arguments.plot)
    if arguments.teachers:
        return teachers(runs, arguments.threshold)
    methods = ("llm-only", "ppo", "hierarchical", "llm4teach")
    print("| task | method | seeds | length | return | success | paper: length | return | success |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for env in train.PAPER:
        for method in methods:
            results = [result for _, result in runs[env, method]]
            if results:
                length, reward, success = train.PAPER[env][train.METHODS.index(method)]
                seeds = ", ".join(str(result["seed"]) for result in results)
                measured = " | ".join(
                    cell([result[name] for result in results], form)
                    for name, form in (("length", ".1f"), ("return", ".3f"), ("success", ".1%"))
                )
                print(f"| {env} | {method} | {seeds} | {measured} | {length:.2f} | {reward:.2f} | {success:.1%} |")
    print("\n| task | " + " | ".join(f"{m}: steps to {arguments.threshold:.1%}, of" for m in methods[1:]) + " |")
    print("| --- | --- | --- | --- |")
    for env in tasks_of(runs):
        row = []
        for method in methods[1:]:
            folders = [folder for folder, _ in runs[env, method]]
            total = [train.read_metrics(folder / "metrics.csv")[-1]["steps"] for folder in folders]
            row.append(f"{when(folders, arguments.threshold)}, {np.mean(total) / 1000:.0f}k" if folders else "not run")
        print(f"| {env} | {' | '.join(row)} |")


if __name__ == "__main__":
    main()
