"""Reproduce the paper's results: Table 3, Figures 3, 4, 6 and 7, and what it leaves open; with seeds and intervals.

    python reproduce.py all                            # the quick budget: few seeds and short runs
    python reproduce.py table3 --budget paper          # the paper's protocol: its Table 1, its schedule, 1000 rooms
    python reproduce.py fig4 --budget default --seeds 3 --jobs 8
    python reproduce.py fig7 --budget paper --missing  # only the runs that have no row in results/ yet
    python reproduce.py tables                         # runs nothing: tables and pictures anew, from results/ alone

    table3      four methods and a control without an LLM on four tasks: their scores, beside the paper's numbers
    fig3        the same runs: return over environment steps, and when they learn
    control     the same runs: what the LLM adds to a teacher that spreads evenly over the menu
    aggregate   the same runs: over all tasks, and the share of runs above each height
    fig4        soft, sampled, hard and log-probability teachers on DivergedDoorKey
    fig6        Nav & Pick with scripted and learned options, where Habitat is installed; --habitat-data: ReplicaCAD
    navpick     the same runs: success by place, options and method
    fig7        schedules of lambda on ColoredDoorKey
    teachers    small language models as teachers on four tasks
    errors      the same runs: how teachers err
    robustness  teachers with wrong answers, or few: their own return, and when their students learn
    student     why plain PPO succeeds here: the published net, without and with the agent's view; ours without that
                view or one-hot codes; Monte-Carlo returns, a constant learning rate
    cost        how long all these runs took, and the memory that they needed

Every run is a process of train.py with a folder under runs/reproduce/BUDGET/. What is finished is kept and what was
interrupted is resumed, so that the same command goes on after Ctrl-C or a crash and nothing runs twice. Runs are made
seed by seed: stopped early, there are few seeds of everything. Tables say how many; with --jobs 0 they are made of
what is finished, and nothing is run.

results/ holds runs.csv, episodes.csv.gz and curves.csv.gz with all runs of all budgets, from which every table and
picture is made: results/BUDGET/TARGET.md, .png and .pdf, claims.md (what the paper claims) and assertions.md (what we
do). Where README.md or a page in docs/ shows one of these tables, it is brought up to date.
"""

from __future__ import annotations

if __name__ == "__main__":  # before torch and scipy, whose import takes a second
    from harness import terminal

    terminal.prepare()

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple

from evidence import draw, plan, tables, teachers
from evidence.claims import assertions_table, claims_table
from evidence.pages import write_table
from evidence.plan import BUDGETS, Budget, Group, Run
from evidence.results import Results
from evidence.runs import is_finished, run_unfinished
from harness.cli import InputError, Parser, errors_in_one_line
from harness.workers import count_cores


class Target(NamedTuple):
    """A table or figure that can be reproduced."""

    title: str
    table: Callable[[tables.Cells, Sequence[Group]], str]
    draw: Callable[[Path, tables.Cells, Sequence[Group]], None] | None = None
    groups: Callable[[Budget], list[Group]] = lambda budget: []  # the runs behind it; none: those of all others
    budgets: tuple[str, ...] = tuple(BUDGETS)  # that it is a part of
    seeds: Callable[[Budget], int] = lambda budget: budget.side_seeds


def groups_of(name: str, budget: Budget) -> list[Group]:
    """Return the groups that a target shows, each once."""
    own = TARGETS[name].groups(budget) or [group for target in TARGETS.values() for group in target.groups(budget)]
    return list({group.name: group for group in own}.values())


def groups_with_runs(name: str, cells: tables.Cells) -> list[Group]:
    """Return the groups that a target shows and that have runs; [] where nothing is there but runs of Table 3.

    Other targets compare with Table 3's runs; without any of their own there is nothing to compare.
    """
    budget = BUDGETS[cells.budget]
    main = {group.name for group in plan.main_groups(budget)}
    added = {group.name for group in TARGETS[name].groups(budget)} - main
    groups = [group for group in groups_of(name, budget) if cells.rows(group)]
    return groups if not added or added & {group.name for group in groups} else []


SHORT = ("quick", "default")
MAIN: Any = {"groups": plan.main_groups, "seeds": lambda budget: budget.seeds}
LONG: Any = {"seeds": lambda budget: 3}  # of runs that take hours
TARGETS = {
    "table3": Target("Table 3", tables.table3, **MAIN),
    "fig3": Target("Figure 3: when they learn", tables.learning_table, draw.draw_tasks, **MAIN),
    "control": Target("What the LLM adds", tables.control_table, **MAIN),
    "aggregate": Target("Over all tasks", tables.aggregate_table, draw.draw_profile, **MAIN),
    "fig4": Target("Figure 4: hard and soft instructions", tables.groups_table, draw.draw_groups, plan.mode_groups),
    "fig6": Target(
        "Figure 6: Nav & Pick", tables.figure6_table, draw.draw_places, plan.habitat_groups, ("default",), **LONG
    ),
    "navpick": Target("Nav & Pick: success", tables.places_table, None, plan.habitat_groups, ("default",), **LONG),
    "fig7": Target("Figure 7: schedules of lambda", tables.groups_table, draw.draw_groups, plan.schedule_groups),
    "teachers": Target("Small models as teachers", tables.groups_table, None, plan.teacher_groups, SHORT),
    "errors": Target("How teachers err", teachers.errors_table, None, plan.teacher_groups, SHORT),
    "robustness": Target("Faulty teachers", teachers.faulty_table, draw.draw_faulty, plan.faulty_groups, SHORT),
    "student": Target(
        "Why PPO succeeds", tables.groups_table, draw.draw_groups, plan.student_groups, ("default", "paper"), **LONG
    ),
    "cost": Target("What the runs cost", teachers.cost_table),
}


def plan_targets(names: Sequence[str], budget: str, seeds: int | None, data: Path | None) -> list[Run]:
    """Return the runs behind targets, each once, seed by seed."""
    runs: dict[str, Run] = {}
    for name in names:
        target = TARGETS[name]
        groups = target.groups(BUDGETS[budget])
        for run in plan.plan_runs(budget, groups, seeds or target.seeds(BUDGETS[budget]), data):
            runs.setdefault(run.name, run)
    return sorted(runs.values(), key=lambda run: run.settings["seed"])


def write_targets(names: Sequence[str], budget: str, results: Results) -> None:
    """Write the tables and pictures of targets that there are runs for; print the tables, or that there are none."""
    cells = tables.Cells(results, budget)
    for name in names:
        target, folder = TARGETS[name], results.folder / budget
        groups = groups_with_runs(name, cells)
        text = target.table(cells, groups) if groups else ""
        if not text:
            print(f"\n{target.title}: the runs of the {budget} budget that it needs are not finished")
            continue
        description = "" if target.groups is plan.habitat_groups else f" {BUDGETS[budget].description}"
        write_table(folder / f"{name}.md", f"**{target.title}.**{description}", text)
        if target.draw and any(row["run"] in results.curves for group in groups for row in cells.rows(group)):
            target.draw(folder / name, cells, groups)
        pictures = "".join(f", {name}.{form}" for form in draw.METADATA if (folder / f"{name}.{form}").exists())
        print(f"\n{target.title}\n\n{text}\nin {folder}: {name}.md{pictures}")


def write_claims(results: Results) -> None:
    """Write the tables of what the paper claims and of what we assert."""
    judged = "Adjusted by Holm's method over this table. Undecided: the runs allow more than one outcome."
    write_table(results.folder / "claims.md", f"**What the paper claims.** {judged}", claims_table(results))
    write_table(results.folder / "assertions.md", f"**What we assert.** {judged}", assertions_table(results))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; raises InputError."""
    parser = Parser(prog="reproduce.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=[*TARGETS, "all", "tables"])
    parser.add_argument("--budget", choices=tuple(BUDGETS), help="by default the first that there is; tables: all")
    parser.add_argument("--seeds", type=int, help="of every group; by default the budget's")
    parser.add_argument("--jobs", type=int, default=count_cores(), help="runs at a time; by default one a core")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for the runs")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder for what comes out")
    parser.add_argument("--missing", action="store_true", help="leave out the runs whose rows are in --results already")
    parser.add_argument("--habitat-data", type=Path, help="a data set for fig6 beside our home, such as ReplicaCAD's")
    given = parser.parse_args(arguments)
    for name, least in (("seeds", 1), ("jobs", 0)):
        if getattr(given, name) is not None and not least <= getattr(given, name) <= 1000:
            raise InputError(f"--{name} is {getattr(given, name)}; it must be from {least} to 1000")
    allowed = TARGETS[given.target].budgets if given.target in TARGETS else tuple(BUDGETS)
    if given.budget and given.budget not in allowed:
        raise InputError(f"--budget is {given.budget}; {given.target} has {' or '.join(allowed)}")
    given.budgets = [given.budget] if given.budget else allowed if given.target == "tables" else allowed[:1]
    return given


@errors_in_one_line("reproduce.py")
def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not finished, then write the tables and pictures of every target that was asked for."""
    given = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if given.target == "tables":
            if not (given.results / "runs.csv").is_file():
                raise InputError(f"{given.results} has no runs.csv; name a folder that has, with --results")
            results = Results(given.results)
            for budget in given.budgets:
                write_targets(names_of("all", budget), budget, results)
            write_claims(results)
            return
        (budget,) = given.budgets
        names = names_of(given.target, budget)
        runs = plan_targets(names, budget, given.seeds, given.habitat_data)
        if given.missing:
            there = Results(given.results).rows
            runs = [run for run in runs if run.name not in there]
        runs_dir = (given.runs / "reproduce" / budget).resolve()
        for folder in (runs_dir, given.results):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"{folder} cannot be made: {error.strerror}; see --runs and --results") from None
        if given.jobs:
            possible = [run for run in runs if plan.can_run(run) or is_finished(run, runs_dir)]
            if left_out := len(runs) - len(possible):
                print(f"{left_out} runs in Habitat are left out: it is not installed; see docs/habitat.md")
            run_unfinished(possible, runs_dir, given.jobs)
        results = Results(given.results)
        for run in runs:
            if is_finished(run, runs_dir):
                results.add(run, runs_dir / run.folder)
        results.write()
        results = Results(given.results)  # what a reader finds there
        write_targets(names, budget, results)
        write_claims(results)
    except KeyboardInterrupt:
        print("stopped; what was run is kept, the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None


def names_of(target: str, budget: str) -> list[str]:
    """Return the targets that are meant: one, or all that are a part of a budget."""
    return [name for name in TARGETS if target in (name, "all") and budget in TARGETS[name].budgets]


if __name__ == "__main__":
    main()
