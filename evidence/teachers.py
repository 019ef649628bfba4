"""Tables about teachers: their errors by the paper's three kinds, faulty ones, and what all runs cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evidence.measure import Row
from evidence.plan import FAULTY, Group
from evidence.results import EPISODE, column
from evidence.tables import Cells, format_number, format_table

SUCCESS, TRUNCATED, LENGTH = (1 + EPISODE.index(name) for name in ("success", "truncated", "length"))


def errors_table(cells: Cells, groups: Sequence[Group]) -> str:
    """Format how teachers err, by the three kinds of 4.1.2, as far as a run records it; means over the seeds.

    Inconsistent: answers that cannot be executed. Incorrect: episodes that end in failure before the time limit, as in
    lava. Inefficient: episodes that time out, whatever for, and the steps of a teacher for each of its student's, in
    the rooms in which both succeed.
    """
    lines = []
    for group in groups:
        rows = [row for row in cells.rows(group) if row["invalid_share"] != ""]
        if rows:
            lines.append([group.task, group.arm, str(len(rows)), *count_errors(cells, rows)])
    heads = (
        "task, teacher, seeds, inconsistent: of its answers, incorrect: of its episodes, inefficient: of its episodes"
    )
    return format_table(heads + ", its steps for one of its student's", lines)


def count_errors(cells: Cells, rows: Sequence[Row]) -> list[str]:
    """Return the shares of inconsistent answers, failed and timed-out episodes, and the ratio of steps, as texts."""
    failed, late, ratios = [], [], []
    for row in rows:
        actors = cells.results.episodes[row["run"]]
        own = actors["teacher"]
        failed.append(np.mean((own[:, SUCCESS] == 0) & (own[:, TRUNCATED] == 0)))
        late.append(np.mean((own[:, SUCCESS] == 0) & (own[:, TRUNCATED] == 1)))
        if "student" in actors:
            both = (own[:, SUCCESS] == 1) & (actors["student"][:, SUCCESS] == 1)
            ratios += [own[both, LENGTH].mean() / actors["student"][both, LENGTH].mean()] if both.any() else []
    shares = [np.mean(column(rows, "invalid_share")), np.mean(failed), np.mean(late)]
    return [*(f"{share:.1%}" for share in shares), f"{np.mean(ratios):.2f}" if ratios else "-"]


def faulty_table(cells: Cells, groups: Sequence[Group]) -> str:
    """Format the students of faulty teachers, a book a run: how good the books are, and when they are learned from."""
    lines = []
    for group in groups:
        rows = cells.rows(group)
        if rows:
            returns = column(rows, "teacher_return")
            span = " to ".join(format_number(end, "return") for end in (min(returns), max(returns))) if returns else "-"
            names = ("auc_success", "steps_to_90")
            lines.append([group.arm, str(len(rows)), span, *(cells.learning(group, name) for name in names),
                          cells.final(group, "success")])  # fmt: skip
    heads = f"teacher on {FAULTY}, books, its return, mean success of the first steps, thousand steps until 90 % stay"
    return format_table(heads + ", success at the end", lines)


def cost_table(cells: Cells, groups: Sequence[Group]) -> str:
    """Format what the runs of a budget cost, by task and method: core time, memory, and a live LLM's requests."""
    lines = []
    for group in groups:
        rows = [row for row in cells.rows(group) if row.get("seconds", "") != ""]
        if rows:
            seconds = column(rows, "seconds")
            processors = ", ".join(dict.fromkeys(row["processor"] for row in rows))
            lines.append([
                group.task, group.arm, str(len(rows)), f"{np.median(seconds):.0f} s", f"{sum(seconds) / 3600:.1f} h",
                f"{max(column(rows, 'memory_mib')):.0f} MiB", f"{sum(column(rows, 'requests')):.0f}", processors,
            ])  # fmt: skip
    heads = "task, runs, number, median duration, of all together, peak memory, requests to an LLM, processor"
    return format_table(heads, lines)
