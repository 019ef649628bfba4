"""Draw the figures with matplotlib, from results/ alone: curves, profiles, faulty teachers; for reproduce.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evidence.measure import EPISODES
from evidence.plan import ARMS, BUDGETS, QWEN, TASKS, Group, place_of
from evidence.results import CURVE, column
from evidence.statistics import FEWEST, bootstrap, iqm, profile, summarize_rooms
from evidence.tables import Cells
from harness.files import atomically

BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
# Okabe & Ito's colours, which can be told apart with every kind of colour vision, and in grey by line and mark. An arm
# looks the same everywhere.
STYLES: dict[str, tuple[str, Any, str]] = {
    "llm4teach": (BLUE, "-", "o"), "uniform": (PURPLE, (0, (1, 1)), "X"), "hierarchical": (ORANGE, "--", "s"),
    "ppo": (GREEN, "-.", "^"), "sampled": (BLUE, "-.", "s"), "hard": (BLUE, "--", "v"),
    f"{QWEN}-soft": (ORANGE, "-", "D"), f"{QWEN}-sampled": (ORANGE, "-.", "^"), f"{QWEN}-hard": (ORANGE, "--", "<"),
    f"{QWEN}-logprobs": (ORANGE, ":", ">"), "constant": (RED, "--", "s"),
    "linear-short": (ORANGE, "-.", "^"), "linear-long": (SKY, ":", "D"), "uniform-linear-short": (PURPLE, "--", "P"),
    "ppo-paper-net": (GREEN, "-", "P"), "ppo-paper-net-view": (RED, "-", "*"), "llm4teach-paper-net": (BLUE, ":", "p"),
    "ppo-monte-carlo": (GREEN, "--", "<"),
    "ppo-constant-rate": (GREEN, ":", "d"), "ppo-absolute": (SKY, "-", "X"), "ppo-integers": (PURPLE, "--", "D"),
}  # fmt: skip
# What the legend says where that is not the arm itself.
LABELS = {"uniform": "control, no LLM", "uniform-linear-short": "control, linear-short"}
TEACHER = "#000000"
# Nothing that differs between two calls.
METADATA: dict[str, dict[str, Any]] = {"png": {"Software": None}, "pdf": {"CreationDate": None}}


@contextmanager
def open_figure(
    path: Path, titles: Sequence[str], note: str, x: str, y: str, sharey: bool = True
) -> Iterator[list[Any]]:
    """Yield a panel for each title, two in a row; save PATH.png and PATH.pdf with one legend, of all panels."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    lines = -(-len(titles) // 2)
    style: Any = {"font.size": 17, "lines.linewidth": 2.5, "axes.grid": True, "grid.alpha": 0.3, "pdf.fonttype": 42}
    with rc_context(style):
        figure = Figure(figsize=(12, 3.5 * lines + 2.2), layout="constrained")
        panels = figure.subplots(lines, 2, sharey=sharey, squeeze=False)
        for panel, title in zip(panels.flat, titles):
            panel.set_title(title)
        for panel in panels.flat[len(titles) :]:
            panel.set_axis_off()
        yield list(panels.flat[: len(titles)])
        named = {}
        for panel in panels.flat:
            named.update({label: handle for handle, label in zip(*panel.get_legend_handles_labels())})
        if named:
            rows = -(-len(named) // 3)
            figure.legend(named.values(), named.keys(), loc="outside upper center", ncols=-(-len(named) // rows))
        figure.supxlabel(f"{x}\n{note}", fontsize=14)
        figure.supylabel(y, fontsize=17)
        for form, metadata in METADATA.items():
            with atomically(path.with_name(f"{path.name}.{form}")) as part:
                figure.savefig(part, dpi=100, format=form, metadata=metadata)


def describe(cells: Cells, groups: Sequence[Group]) -> str:
    """Return the budget and the numbers of seeds, for a note in the picture."""
    counts = sorted({len(cells.rows(group)) for group in groups})
    seeds = f"n = {counts[0]}" + (f" to {counts[-1]}" if counts[1:] else "")
    return f"{cells.budget} budget, {seeds} seeds"


# --------------------------------------------------------------------------------------------------------------- curves


def draw_curve(panels: Sequence[Any], cells: Cells, group: Group, name: str) -> float:
    """Draw a column of the training curves of a group into both panels; return where it ends.

    From FEWEST seeds on their interquartile mean with its 95 % bootstrap interval; of fewer every seed as a thin line.
    """
    color, line, mark = STYLES[group.arm]
    steps, heights = align_curves([cells.results.curves[row["run"]] for row in cells.rows(group)], name)
    enough = len(heights) >= FEWEST
    low, high = bootstrap([heights], lambda samples: iqm(samples[0], axis=1)) if enough else (None, None)
    for panel in panels:
        style = {"color": color, "linestyle": line, "marker": mark, "markevery": (0.03, 0.16), "markersize": 8}
        label = LABELS.get(group.arm, group.arm)
        if enough:
            panel.plot(steps, iqm(heights, axis=0), label=label, **style)
            panel.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
        else:
            for own in heights:
                panel.plot(steps, own, label=label, **{**style, "linewidth": 1.2, "markersize": 5})
    return steps[-1]


def align_curves(curves: Sequence[np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps that are dense on both scales, and a column of curves there, (n, steps).

    They begin where all curves have begun and end with the longest; a shorter one goes on with its last value, as in
    the area under a curve: those that learn late are the longest, and would be cut off with the shortest.
    """
    begin, end = max(curve[0, 0] for curve in curves), max(curve[-1, 0] for curve in curves)
    steps = np.unique(np.r_[np.linspace(begin, end, 150), np.geomspace(begin, end, 150)])
    return steps, np.stack([np.interp(steps, curve[:, 0], curve[:, CURVE.index(name)]) for curve in curves])


def draw_score(panel: Any, at: float, cells: Cells, group: Group, name: str, actor: str) -> None:
    """Draw the score in the evaluation rooms beside the curves: the mark of a student is full, of its teacher empty."""
    heights, interval = summarize_rooms(cells.rooms(group, name, actor))
    color, _, mark = STYLES[group.arm]
    error = None if interval is None else np.abs(np.subtract(interval, heights))[:, None]  # down and up
    panel.errorbar(
        [at] * len(heights), heights, error, color=color, linestyle="", marker=mark, markersize=9, capsize=4,
        markerfacecolor=color if actor == "student" else "white",
    )  # fmt: skip


def draw_curves(path: Path, cells: Cells, groups: Sequence[Group], name: str, log_too: bool = True) -> None:
    """Draw the training curves of a column over environment steps: a panel with linear steps for each task.

    With `log_too` a second panel has logarithmic steps, on which a method that learns early can be told from the axis.
    Groups whose arm has no style are in the tables only; where there are no others, there is no picture.
    """
    from matplotlib.ticker import EngFormatter

    groups = [group for group in groups if cells.rows(group)]
    students = [group for group in groups if group.arm in STYLES]
    if not students:
        return
    tasks = list(dict.fromkeys(group.task for group in students))
    scales = (", linear", ", log") if log_too else ("",)
    titles = [place_of(task) + scale for task in tasks for scale in scales]
    kinds = {True: "line: interquartile mean, band: 95 % bootstrap", False: "thin lines: single seeds"}
    drawn = {len(cells.rows(group)) >= FEWEST for group in students}
    curves = "; ".join(kinds[enough] for enough in kinds if enough in drawn)
    note = (
        f"{describe(cells, students)}; a point: {EPISODES} training episodes\n"
        f"{curves}; a run that has ended goes on with its last point\n"
        "in evaluation rooms: the marks at the right (students full, teachers empty) and the teacher alone"
    )
    with open_figure(path, titles, note, "environment steps", f"{name} in training") as panels:
        for task, own in zip(tasks, np.reshape(panels, (len(tasks), len(scales)))):
            learners = [group for group in students if group.task == task]
            end = max(draw_curve(own, cells, group, name) for group in learners)
            for place, group in enumerate(learners, start=1):
                for actor in ("student", "teacher"):
                    draw_score(own[0], end * (1 + 0.04 * place), cells, group, name, actor)
            draw_teacher(own, cells, [group for group in groups if group.task == task], name)
            own[0].locator_params(axis="x", nbins=5)
            own[0].xaxis.set_major_formatter(EngFormatter(sep=""))  # 100k
            own[0].set_ylim(-0.03, 1.03)
            for log in own[1:]:
                log.set_xscale("log")
                label_steps(log.xaxis)


def label_steps(axis: Any) -> None:
    """Label a logarithmic axis of steps: 10k, 30k, 100k and so on."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.set_major_formatter(EngFormatter(sep=""))
    axis.set_minor_formatter(NullFormatter())  # by default it labels where there is less than a decade


def draw_teacher(panels: Sequence[Any], cells: Cells, groups: Sequence[Group], name: str) -> None:
    """Draw the LLM alone, which does not learn, in the evaluation rooms: a line with its band, or one of each seed."""
    taught = [group for group in groups if group.arm in ("llm-only", "llm4teach")]
    if taught:
        heights, interval = summarize_rooms(cells.rooms(taught[0], name, "teacher"))
        for panel in panels:
            if interval:
                panel.axhspan(*interval, color=TEACHER, alpha=0.15, linewidth=0)
            for height in heights:
                panel.axhline(height, color=TEACHER, linestyle=(0, (5, 3)), linewidth=1.5, label="teacher alone")


draw_tasks = partial(draw_curves, name="return")
draw_groups = partial(draw_curves, name="success")
draw_places = partial(draw_curves, name="success", log_too=False)


# --------------------------------------------------------------------------------------------------- profiles, teachers


def name_area(cells: Cells) -> str:
    """Return the title of a panel that shows areas under the curve of success."""
    return f"mean success, first {BUDGETS[cells.budget].horizon // 1000}k steps"


def draw_profile(path: Path, cells: Cells, groups: Sequence[Group]) -> None:
    """Draw performance profiles over all tasks: the share of runs above each height."""
    heights = np.linspace(0, 1, 201)
    note = f"{describe(cells, groups)} of each of {len(TASKS)} tasks, which count the same; band: 95 % bootstrap"
    titles = [name_area(cells), "return at the end"]
    with open_figure(path, titles, note, "height", "share of runs above") as panels:
        for arm in list(ARMS)[1:]:
            color, line, mark = STYLES[arm]
            for panel, name in zip(panels, ("auc_success", "return")):
                strata = [np.array(column(cells.rows(f"{task}-{arm}"), name)) for task in TASKS]
                if not all(map(len, strata)):
                    continue
                panel.plot(
                    heights, profile(strata, heights), color=color, linestyle=line, marker=mark, markevery=0.12,
                    markersize=8, label=LABELS.get(arm, arm),
                )  # fmt: skip
                if min(map(len, strata)) >= FEWEST:
                    low, high = bootstrap(strata, lambda samples: profile(samples, heights))
                    panel.fill_between(heights, low, high, color=color, alpha=0.2, linewidth=0)
                panel.set(ylim=(-0.03, 1.03))


def draw_faulty(path: Path, cells: Cells, groups: Sequence[Group]) -> None:
    """Draw when students of faulty teachers learn over their teachers' own return: a point a book."""
    kinds = {"flipped": ("wrong answers", RED, "^"), "questions": ("few answers", SKY, "o")}
    note = f"{describe(cells, groups)} a level; lines: median of runs without such a teacher; crosses: at least so many"
    titles = [name_area(cells), "steps until 90 % stay"]
    with open_figure(path, titles, note, "return of the teacher itself", "", sharey=False) as panels:
        for kind, (label, color, mark) in kinds.items():
            rows = [row for group in groups if group.arm.startswith(kind) for row in cells.rows(group)]
            if not rows:
                continue
            x = np.array([row["teacher_return"] for row in rows])
            panels[0].plot(x, [row["auc_success"] for row in rows], mark, color=color, label=label, alpha=0.7)
            steps = np.array([row["steps_to_90"] or row["steps"] for row in rows])
            reached = np.array([row["steps_to_90"] != "" for row in rows])
            panels[1].plot(x[reached], steps[reached], mark, color=color, alpha=0.7)
            panels[1].plot(x[~reached], steps[~reached], "x", color=color, markersize=9)
        for group in groups:
            if group.arm in STYLES:
                color, line, _ = STYLES[group.arm]
                label = LABELS.get(group.arm, group.arm)
                levels = [np.median(column(cells.rows(group), "auc_success"))]
                levels.append(np.median([row["steps_to_90"] or row["steps"] for row in cells.rows(group)]))
                for panel, level in zip(panels, levels):
                    panel.axhline(level, color=color, linestyle=line, linewidth=1.5, label=label)
        panels[0].set_ylim(-0.03, 1.03)
        panels[1].set_yscale("log")
        label_steps(panels[1].yaxis)
