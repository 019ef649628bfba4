"""Draw the figures with matplotlib: curves over environment steps, and scores over a number; for reproduce.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from evidence.measure import Row, column, interval, moving_average
from evidence.plan import METHODS, TASKS
from harness.files import atomically

# Okabe & Ito's colours, which can be told apart with every kind of colour vision; a method has the same colour and
# line everywhere.
STYLES = {
    "llm4teach": ("#0072B2", "-"), "hierarchical": ("#E69F00", "--"), "ppo": ("#009E73", "-."),
    "llm-only": ("#000000", ":"), "soft": ("#0072B2", "-"), "hard": ("#D55E00", "--"), "logprobs": ("#CC79A7", "-."),
    "constant": ("#D55E00", "--"), "linear-short": ("#CC79A7", "-."), "linear-long": ("#56B4E9", ":"),
}  # fmt: skip
Folders = dict[str, list[Path]]  # group -> the folders of its runs


@contextmanager
def open_figure(path: Path, titles: Sequence[str], x: str, y: str = "", sharey: bool = True) -> Iterator[list[Any]]:
    """Yield a panel for each title, two in a row; save the figure with one legend, that of the first panel."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    columns, lines = min(2, len(titles)), -(-len(titles) // 2)
    with rc_context({"font.size": 15, "lines.linewidth": 2.5, "axes.grid": True, "grid.alpha": 0.3}):
        figure = Figure(figsize=(5.5 * columns + 1, 3.7 * lines + 1.2), layout="constrained")
        panels = figure.subplots(lines, columns, sharey=sharey, squeeze=False)
        for panel, title in zip(panels.flat, titles):
            panel.set_title(title)
        yield list(panels.flat)
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2 * columns)
        figure.supxlabel(x)
        figure.supylabel(y)
        with atomically(path) as part:
            figure.savefig(part, dpi=100, format="png")


def draw_curve(panel: Any, folders: Sequence[Path], name: str, label: str) -> None:
    """Draw a column of metrics.csv over environment steps: the mean over the seeds and its 95 % interval."""
    curves = [moving_average(folder, name)[:2] for folder in folders]
    steps = np.geomspace(max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves), 300)
    heights = np.stack([np.interp(steps, *curve) for curve in curves])  # (seeds, 300)
    color, line = STYLES[label]
    panel.plot(steps, heights.mean(0), color=color, linestyle=line, label=label)
    if len(curves) > 1:
        half = stats.sem(heights) * stats.t.ppf(0.975, len(curves) - 1)
        panel.fill_between(steps, heights.mean(0) - half, heights.mean(0) + half, color=color, alpha=0.2, linewidth=0)
    panel.set(xscale="log", ylim=(-0.03, 1.03))  # intervals of two seeds reach far beyond


def draw_level(panel: Any, rows: Sequence[Row], group: str, name: str) -> None:
    """Draw the mean of a group of the LLM alone as a horizontal line: it does not learn."""
    color, line = STYLES["llm-only"]
    panel.axhline(float(np.mean(column(rows, group, name))), color=color, linestyle=line, label="llm-only")


def draw_fig3(path: Path, rows: Sequence[Row], folders: Folders) -> None:
    """Draw return over environment steps: a panel for each task, a line for each method."""
    with open_figure(path, TASKS, "environment steps", "return in training") as panels:
        for task, panel in zip(TASKS, panels):
            for method in METHODS[1:]:
                draw_curve(panel, folders[f"{task}-{method}"], "return", method)
            draw_level(panel, rows, f"{task}-llm-only", "return")


def draw_groups(path: Path, rows: Sequence[Row], folders: Folders) -> None:
    """Draw success over environment steps on one task: a line for each group."""
    task = rows[0]["env"]
    with open_figure(path, [task], "environment steps", "success in training") as (panel,):
        for group, own in folders.items():
            label = group.removeprefix(f"{task}-")
            if label == "llm-only":
                draw_level(panel, rows, group, "success")
            else:
                draw_curve(panel, own, "success", label)


def draw_numbers(path: Path, rows: Sequence[Row], folders: Folders) -> None:
    """Draw the success of student and teacher, and the steps to 90 %, over the number at the end of a group's name."""
    numbers = [int(group.split("-")[-1]) for group in folders]
    x = "questions that may be asked" if "questions" in next(iter(folders)) else "% of the answers wrong"
    with open_figure(path, ["success at the end", "steps to 90 %, thousands"], x, sharey=False) as panels:
        for panel, name, label in (
            (panels[0], "success", "llm4teach"), (panels[0], "teacher_success", "llm-only"),
            (panels[1], "steps_to_90", "llm4teach"),
        ):  # fmt: skip
            marks = [(n, *interval(own)) for n, group in zip(numbers, folders) if (own := column(rows, group, name))]
            at, heights, halves = np.array(marks).reshape(-1, 3).T
            halves[np.isinf(halves)] = 0
            scale = 1000 if name == "steps_to_90" else 1
            color, line = STYLES[label]
            panel.errorbar(
                at, heights / scale, halves / scale, color=color, linestyle=line, marker="o", capsize=5, label=label
            )
        panels[0].set_ylim(-0.03, 1.03)
        panels[1].set_ylim(bottom=0)
