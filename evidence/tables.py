"""Format the tables of results/ in Markdown, from its rows and episodes alone; for reproduce.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Callable, NamedTuple

import numpy as np

from evidence.measure import Row
from evidence.plan import ARMS, TASKS, Group, place_of
from evidence.results import EPISODE, Results, column
from evidence.statistics import (
    FEWEST,
    Comparison,
    Interval,
    Sample,
    bootstrap,
    improvement,
    iqm,
    judge,
    summarize_rooms,
)
from harness.config import default_config
from harness.task import open_task

FORMATS = {"length": (1, 1, ""), "return": (1, 3, ""), "success": (100, 1, " %"), "steps": (0.001, 0, "")}
# Differences that do not matter: 0.01 of return, 2 points of success, 10 % of steps, which are compared as logarithms.
MARGINS = {"return": 0.01, "success": 0.02, "steps": float(np.log10(1.1))}


def kind_of(name: str) -> str:
    """Return which of FORMATS and MARGINS a column has."""
    return "steps" if name.startswith("steps") else name.rpartition("_")[2]


def format_table(heads: str, lines: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table, or "" where it has no lines; `heads` has commas between the columns."""
    names, lines = heads.split(", "), list(lines)
    rows = (names, ["---"] * len(names), *lines) if lines else ()
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def format_number(number: float, name: str) -> str:
    """Format a number without its unit; an infinite number of steps is "never"."""
    scale, digits, _ = FORMATS[kind_of(name)]
    return f"{number * scale:.{digits}f}" if np.isfinite(number) else "never"


def format_cell(
    numbers: Sequence[float], name: str, middle: Callable[[Sequence[float]], Any], interval: Interval | None
) -> str:
    """Format the middle of numbers with its interval, or without one the numbers themselves; "-" of none."""
    unit = FORMATS[kind_of(name)][2]
    if len(numbers) == 0:
        return "-"
    if interval is None:
        return ", ".join(format_number(number, name) for number in numbers) + unit
    low, high = (format_number(end, name) for end in interval)
    return f"{format_number(middle(numbers), name)} [{low}, {high}]{unit}"


# ---------------------------------------------------------------------------------------------------------------- cells


class Cells(NamedTuple):
    """Cells and samples of the groups of a budget."""

    results: Results
    budget: str

    def rows(self, group: Group | str) -> list[Row]:
        """Return the rows of a group."""
        return self.results.select(self.budget, group if isinstance(group, str) else group.name)

    def seeds(self, group: Group | str) -> str:
        """Return how many seeds there are."""
        return str(len(self.rows(group)))

    def rooms(self, group: Group | str, name: str, actor: str) -> list[np.ndarray]:
        """Return a score of an actor in each evaluation room, by seed; seeds without that actor are left out."""
        episodes = [self.results.episodes[row["run"]] for row in self.rows(group)]
        return [own[actor][:, 1 + EPISODE.index(name)] for own in episodes if actor in own]

    def actor(self, group: Group | str) -> str:
        """Return who is measured in a group: its student, or of the LLM alone the teacher."""
        return "student" if self.rooms(group, "success", "student") else "teacher"

    def final(self, group: Group | str, name: str, actor: str = "") -> str:
        """Format a final score of an actor, by default the group's: the mean over seeds and rooms, with an interval."""
        actor = actor or self.actor(group)
        numbers, interval = summarize_rooms(self.rooms(group, name, actor))
        return format_cell(numbers, name, np.mean, interval)

    def learning(self, group: Group | str, name: str) -> str:
        """Format the mean of a column over the seeds; of steps the median, "never" among them."""
        rows = self.rows(group)
        if name.startswith("steps"):
            numbers = [row[name] or np.inf for row in rows if row["steps"]]
        else:
            numbers = column(rows, name)
        middle: Callable[..., Any] = np.median if name.startswith("steps") else np.mean
        enough = len(numbers) >= FEWEST
        interval = bootstrap([np.array(numbers)], lambda samples: middle(samples[0], axis=1)) if enough else None
        never = np.isinf(numbers).sum() if enough else 0
        note = f" ({never} of {len(numbers)} never)" if never else ""
        return format_cell(numbers, name, middle, interval) + note

    def sample(self, group: Group | str, name: str) -> Sample:
        """Return a column of a group to be compared; of steps their logarithms, at least those of the whole run."""
        rows = self.rows(group)
        if name.startswith("steps"):
            rows = [row for row in rows if row["steps"]]
            reached = [row[name] or row["steps"] for row in rows]
            return Sample(np.log10(reached).tolist(), censored=any(row[name] == "" for row in rows))
        return Sample(column(rows, name))

    def compare(self, first: Group | str, second: Group | str, name: str) -> Comparison:
        """Return a column of two groups to be judged."""
        return Comparison(self.sample(first, name), self.sample(second, name), MARGINS[kind_of(name)])


# --------------------------------------------------------------------------------------------------------------- tables


def paper_sample(name: str, score: float, success: float, episodes: int) -> Sample:
    """Return a number of the paper's Table 3 with its standard error: that of so many rooms, and of its rounding.

    A return is taken to be the same wherever there is success, so that it spreads as success does.
    """
    number = success if name == "success" else score
    error = number / max(success, 1e-9) * np.sqrt(success * (1 - success) / episodes)
    rounding = (0.0005 if name == "success" else 0.005) / np.sqrt(3)
    return Sample([number], error=float(np.hypot(error, rounding)))


def table3(cells: Cells, groups: Sequence[Group]) -> str:
    """Format Table 3: our runs beside the paper's numbers, and how ours are to them."""
    lines, comparisons = [], []
    for group in groups:
        if not cells.rows(group):
            continue
        env = group.settings["env"]
        paper = open_task(default_config(env)).paper.get(group.arm)
        final = [cells.final(group, name) for name in ("length", "return", "success")]
        told = [f"{paper[0]:.2f}", f"{paper[1]:.2f}", f"{paper[2]:.1%}"] if paper else ["-", "-", "-"]
        lines.append([group.task, group.arm, cells.seeds(group), *final, *told])
        for name in ("return", "success"):
            theirs = paper_sample(name, paper[1], paper[2], episodes=1000) if paper else Sample([])
            comparisons.append(Comparison(cells.sample(group, name), theirs, MARGINS[name]))
    verdicts = ["-" if verdict == "no runs" else verdict for verdict in judge(comparisons)]
    heads = "task, method, seeds, length, return, success, paper: length, return, success"
    return format_table(
        heads + ", our return is, our success is",
        [[*line, *verdicts[2 * k : 2 * k + 2]] for k, line in enumerate(lines)],
    )


def learning_table(cells: Cells, groups: Sequence[Group]) -> str:
    """Format when each method learns, by task: the area under the curve, and the steps until it stays."""
    lines = []
    for group in groups:
        if group.arm != "llm-only" and cells.rows(group):
            names = ("auc_return", "auc_success", "steps_to_50", "steps_to_90")
            lines.append([group.task, group.arm, cells.seeds(group), *(cells.learning(group, n) for n in names)])
    heads = "task, method, seeds, mean return of the first steps, mean success"
    return format_table(heads + ", thousand steps until 50 % stay, until 90 % stay", lines)


def groups_table(cells: Cells, groups: Sequence[Group]) -> str:
    """Format a line for each group: the student, its teacher alone, and when the student learns."""
    lines = []
    for group in groups:
        if cells.rows(group):
            lines.append([
                group.task, group.arm, cells.seeds(group),
                *(cells.final(group, name) for name in ("return", "success")),
                *(cells.final(group, name, "teacher") for name in ("return", "success")),
                *(cells.learning(group, name) for name in ("auc_success", "steps_to_90")),
            ])  # fmt: skip
    heads = "task, runs, seeds, return, success, its teacher's return, success"
    return format_table(heads + ", mean success of the first steps, thousand steps until 90 % stay", lines)


def figure6_table(cells: Cells, groups: Sequence[Group]) -> str:
    """Format Nav & Pick: a line for each place and method, the student beside its teacher in the same rooms.

    The paper's numbers end the table. Of its reward the coefficients are lost, so that returns do not compare.
    """
    lines = []
    for group in groups:
        if not cells.rows(group):
            continue
        actor = cells.actor(group)
        line = [place_of(group.task), group.arm, cells.seeds(group)]
        for name in ("success", "length"):
            line += [cells.final(group, name), cells.final(group, name, "teacher") if actor == "student" else "-"]
        lost = np.concatenate(cells.rooms(group, "success", actor)) == 0
        late = lost & (np.concatenate(cells.rooms(group, "truncated", actor)) == 1)
        line += [cells.final(group, "return"), f"{late.sum()} of {lost.sum()}"]
        lines.append([*line, *(cells.learning(group, name) for name in ("auc_success", "steps_to_90"))])
    paper = open_task(default_config(groups[0].settings["env"])).paper
    for arm, (length, score, success) in paper.items():
        told = [f"{success:.1%}", "-", f"{length:.2f}", "-", f"{score:.2f}"]
        if arm == "llm4teach":
            told[1], told[3] = f"{paper['llm-only'][2]:.1%}", f"{paper['llm-only'][0]:.2f}"
        lines.append(["the paper's", arm, "-", *told, "-", "-", "-"])
    heads = "place, method, seeds, success, its teacher's, steps, its teacher's, return, of its failures time out"
    return format_table(heads + ", mean success of the first steps, thousand steps until 90 % stay", lines)


def places_table(cells: Cells, groups: Sequence[Group]) -> str:
    """Format the success of Nav & Pick: a line for each place and its options, a column for each method.

    The teacher alone is measured in the same rooms as LLM4Teach's student, or by runs of its own where none is taught.
    """
    arms, lines = ("llm4teach", "hierarchical", "uniform", "ppo"), []
    for place in dict.fromkeys(group.task for group in groups):
        taught = f"{place}-llm4teach"
        teacher = cells.final(taught if cells.rows(taught) else f"{place}-llm-only", "success", "teacher")
        lines.append([place_of(place), teacher, *(cells.final(f"{place}-{arm}", "success") for arm in arms)])
    paper = open_task(default_config(groups[0].settings["env"])).paper
    told = [f"{paper[arm][2]:.1%}" if arm in paper else "-" for arm in ("llm-only", *arms)]
    return format_table("place, LLM alone, " + ", ".join(arms), [*lines, ["the paper's", *told]])


def control_table(cells: Cells, groups: Sequence[Group]) -> str:
    """Format what the LLM adds: LLM4Teach beside the control, whose teacher spreads evenly over the menu."""
    lines, comparisons = [], []
    for task in TASKS:
        ours, control = f"{task}-llm4teach", f"{task}-uniform"
        if cells.rows(ours) and cells.rows(control):
            seeds = "/".join(dict.fromkeys([cells.seeds(ours), cells.seeds(control)]))
            texts = [f"{cells.learning(ours, n)}; {cells.learning(control, n)}" for n in ("auc_success", "steps_to_90")]
            lines.append([task, seeds, *texts, f"{cells.final(ours, 'success')}; {cells.final(control, 'success')}"])
            comparisons += [cells.compare(ours, control, name) for name in ("auc_success", "steps_to_90", "success")]
    verdicts = judge(comparisons)
    for k, line in enumerate(lines):
        line[2:] = [f"{text}: {verdict}" for text, verdict in zip(line[2:], verdicts[3 * k :])]
    heads = "LLM; control, seeds, mean success of the first steps, thousand steps until 90 % stay, success at the end"
    return format_table(heads, lines)


def aggregate_table(cells: Cells, groups: Sequence[Group]) -> str:
    """Format each method over all tasks: interquartile means, and how probably LLM4Teach improves on it."""
    lines = []
    for arm in list(ARMS)[1:]:
        kinds = {}
        for name in ("auc_success", "return"):
            kinds[name] = [
                (
                    np.array(column(cells.rows(f"{task}-llm4teach"), name)),
                    np.array(column(cells.rows(f"{task}-{arm}"), name)),
                )
                for task in TASKS
            ]
        fewest = min(len(own) for pairs in kinds.values() for pair in pairs for own in pair)
        if not fewest:
            continue
        texts, enough = [], fewest >= FEWEST
        for name, pairs in kinds.items():
            strata = [theirs for _, theirs in pairs]
            middle = float(iqm(np.concatenate(strata)))
            interval = bootstrap(strata, lambda samples: iqm(np.concatenate(samples, 1), 1)) if enough else None
            texts.append(format_cell([middle], name, np.mean, interval))
            if arm == "llm4teach" or not enough:
                texts.append("-")
                continue
            chance, (low, high) = improvement(pairs)
            texts.append(f"{chance:.2f} [{low:.2f}, {high:.2f}]")
        lines.append([arm, str(fewest), *texts])
    heads = "method, seeds a task, IQM of mean success of the first steps, LLM4Teach is above it with probability"
    return format_table(heads + ", IQM of the return at the end, LLM4Teach is above it with probability", lines)
