"""Reproduce the paper's results: Table 3, Figures 3, 4, 6 and 7, and two questions that it leaves open.

    python reproduce.py all                        # two seeds and short runs
    python reproduce.py table3 --budget full       # the paper's protocol: its Table 1, its schedule, 1000 rooms
    python reproduce.py fig4 --seeds 3 --jobs 8

    table3      four methods on four tasks: their scores after training, beside the paper's numbers
    fig3        the same runs: return over environment steps, and when they learn
    fig4        hard, soft and log-probability teachers on DivergedDoorKey
    fig6        Nav & Pick, from the finished runs of habitat-navpick under runs/
    fig7        schedules of lambda on ColoredDoorKey
    queries     a teacher that answers only so many different questions
    robustness  a teacher some of whose answers were replaced by wrong ones

Every run is a process of train.py with a run folder. Finished runs are kept and interrupted ones resumed, so that the
same command continues after Ctrl-C or a crash, and ends with the same tables. It writes to results/BUDGET/: runs.csv
with a row for each run, a table (.md) and a picture (.png) for each target; and results/claims.md: the paper's claims,
one by one, judged by all runs. Where README.md or a page in docs/ shows one of these tables, it is brought up to date.

Intervals are 95 % intervals of the mean over seeds, by Student's t; two groups are compared by Welch's interval of the
difference of their means.
"""

from __future__ import annotations

if __name__ == "__main__":  # before torch and scipy, whose import takes a second
    from harness import terminal

    terminal.prepare()

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Callable, NamedTuple

from evidence import draw, measure, plan
from evidence.claims import claims_table
from evidence.draw import Folders
from evidence.measure import Row, read_rows
from evidence.plan import Budget, Groups
from evidence.runs import run_unfinished
from harness.cli import InputError, Parser, errors_in_one_line


class Target(NamedTuple):
    """A table or figure that can be reproduced."""

    title: str
    groups: Callable[[Budget, Path], Groups]  # the runs behind it; none where the user's own runs are measured
    table: Callable[[Sequence[Row], Sequence[str]], str]
    draw: Callable[[Path, Sequence[Row], Folders], None] | None


TARGETS = {
    "table3": Target("Table 3", plan.main_groups, measure.table3, None),
    "fig3": Target("Figure 3: when they learn", plan.main_groups, measure.learning_table, draw.draw_fig3),
    "fig4": Target("Figure 4: hard and soft instructions", plan.mode_groups, measure.groups_table, draw.draw_groups),
    "fig6": Target("Figure 6: Nav & Pick", lambda budget, books: {}, measure.table3, draw.draw_groups),
    "fig7": Target("Figure 7: schedules of lambda", plan.schedule_groups, measure.groups_table, draw.draw_groups),
    "queries": Target("What a question buys", plan.question_groups, measure.groups_table, draw.draw_numbers),
    "robustness": Target("A teacher with wrong answers", plan.flipped_groups, measure.groups_table, draw.draw_numbers),
}


def find_navpick_runs(folder: Path) -> Folders:
    """Return the finished runs of habitat-navpick in a folder, by group."""
    found: Folders = {}
    for method in plan.METHODS:
        for path in sorted(folder.glob("*/eval.json")):
            result = json.loads(path.read_text())
            if (result["env"], result["method"]) == ("habitat-navpick", method):
                found.setdefault(f"habitat-navpick-{method}", []).append(path.parent)
    return found


def write_target(name: str, budget: Budget, folders: Folders, results: Path) -> None:
    """Write a target's rows into runs.csv, its table and its picture, and the claims table; print the table."""
    target = TARGETS[name]
    rows = [measure.measure_run(group, folder) for group, own in folders.items() for folder in own]
    kept = [row for row in read_rows(results / "runs.csv") if row["group"] not in folders]
    measure.write_rows(sorted([*kept, *rows], key=lambda row: row["run"]), results / "runs.csv")
    text = target.table(read_rows(results / "runs.csv"), list(folders))  # from the same rows that a reader finds
    ours = bool(target.groups(budget, Path()))
    description = budget.description if ours else "Whatever runs there were, as long as they were."
    measure.write_table(results / f"{name}.md", f"**{target.title}.** {description}", text)
    judged = "**Claims.** Unclear: the interval allows both, or a group has a single seed."
    measure.write_table(results.parent / "claims.md", judged, claims_table(results.parent))
    if target.draw:
        target.draw(results / f"{name}.png", rows, folders)
    picture = f", {name}.png" if target.draw else ""
    print(f"\n{target.title}\n\n{text}\nin {results}: runs.csv, {name}.md{picture}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; raises InputError."""
    parser = Parser(prog="reproduce.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--budget", choices=tuple(plan.BUDGETS), default="quick")
    parser.add_argument("--seeds", type=int, help="of every group; by default the budget's")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time; by default one a core")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for the runs")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder for what comes out")
    given = parser.parse_args(arguments)
    for name in ("seeds", "jobs"):
        if getattr(given, name) is not None and not 1 <= getattr(given, name) <= 1000:
            raise InputError(f"--{name} is {getattr(given, name)}; it must be from 1 to 1000")
    return given


@errors_in_one_line("reproduce.py")
def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not finished, then write the tables and pictures of every target that was asked for."""
    given = parse(arguments)
    budget = plan.BUDGETS[given.budget]
    runs_dir, results = (given.runs / "reproduce" / given.budget).resolve(), given.results / given.budget
    books = runs_dir / "replies"
    for folder in (books, results):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder} cannot be made: {error.strerror}; see --runs and --results") from None
    names = list(TARGETS) if given.target == "all" else [given.target]
    plans = {name: plan.plan_runs(TARGETS[name].groups(budget, books), budget, given.seeds) for name in names}
    runs = list({run.name: run for own in plans.values() for run in own}.values())
    for run in runs:
        if "replies" in run.settings and not Path(run.settings["replies"]).exists():
            plan.write_faulty_book(Path(run.settings["replies"]))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if runs:
            run_unfinished(runs, runs_dir, given.jobs)
        for name in names:
            folders: Folders = {}
            for run in plans[name]:
                folders.setdefault(run.group, []).append(runs_dir / run.name)
            folders = folders or find_navpick_runs(given.runs)
            if folders:
                write_target(name, budget, folders, results)
            else:
                print(f"\n{name} is left out: {given.runs} has no finished run of train.py --env habitat-navpick")
    except KeyboardInterrupt:
        print("stopped; what was run is kept, the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
