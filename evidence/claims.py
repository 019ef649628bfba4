"""Test the paper's claims on the rows of runs.csv: each is confirmed, refuted or unclear; for reproduce.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evidence.measure import Row, column, difference, format_cell, format_table, interval, read_rows
from evidence.plan import BUDGETS, FAULTY, FLIPPED, METHODS, TASKS


def judge(low: float, high: float, claimed: float = 0.0) -> str:
    """Return whether a quantity with this interval is above what is claimed."""
    return "confirmed" if low > claimed else "refuted" if high < claimed else "unclear"


class Claims:
    """Claims of the paper with their outcomes: lines of source, claim, task, outcome and numbers."""

    def __init__(self, rows: Sequence[Row]) -> None:
        """Start without claims; a claim about a group without rows is left out."""
        self.rows, self.lines = rows, list[list[str]]()
        self.tasks = {row["group"]: row["env"] for row in rows}
        # A run that never reached 90 % counts with all its steps: it needs more.
        self.bounded = [{**row, "steps_to_90": row["steps_to_90"] or row["steps"]} for row in rows]

    def add_level(self, source: str, claim: str, group: str, sign: int, claimed: float) -> None:
        """Test whether the success of a group is above `claimed`, or with sign -1 below."""
        successes = column(self.rows, group, "success")
        if successes:
            mean, half = interval(successes)
            outcome = judge(sign * mean - half, sign * mean + half, sign * claimed)
            self.lines.append([source, claim, self.tasks[group], outcome, format_cell(self.rows, group, "success")])

    def add_order(self, source: str, claim: str, first: str, second: str, name: str, sign: int = 1) -> None:
        """Test whether a column is greater in the first group than in the second, or with sign -1 smaller."""
        ours, theirs = column(self.bounded, first, name), column(self.bounded, second, name)
        if ours and theirs:
            outcome = judge(*sorted(sign * end for end in difference(ours, theirs)))
            numbers = f"{format_cell(self.rows, first, name)} against {format_cell(self.rows, second, name)}"
            self.lines.append([source, claim, self.tasks[first], outcome, numbers])

    def add_passing(self, source: str, claim: str, group: str) -> None:
        """Test whether the students of a group succeed more often than their teacher alone."""
        students, alone = column(self.rows, group, "success"), column(self.rows, group, "teacher_success")
        if students:
            numbers = " against ".join(format_cell(self.rows, group, name) for name in ("success", "teacher_success"))
            self.lines.append([source, claim, self.tasks[group], judge(*difference(students, alone)), numbers])


def judge_claims(rows: Sequence[Row]) -> list[list[str]]:
    """Judge what section 4 and A.7 say, claim by claim, by the intervals of the runs in `rows`.

    Returns lines of source, claim, task, outcome and numbers.
    """
    claims = Claims(rows)
    for task in TASKS:
        claims.add_level("4.1.2", "baseline RL struggles: success below 50 %", f"{task}-ppo", -1, 0.5)
    for task in TASKS:
        claim = "hierarchical RL eventually succeeds: above 90 %"
        claims.add_level("4.1.2", claim, f"{task}-hierarchical", 1, 0.9)
    for other in ("hierarchical", "ppo"):
        for task in TASKS:
            claim = f"LLM4Teach learns in fewer steps than {other}"
            claims.add_order("4.1.2", claim, f"{task}-llm4teach", f"{task}-{other}", "steps_to_90", -1)
    claim = "the LLM alone has the higher return"
    claims.add_order("4.1.2", claim, f"{TASKS[0]}-llm-only", f"{TASKS[0]}-llm4teach", "return")
    for task in TASKS[1:]:
        claim = "LLM4Teach has a higher return than the LLM alone"
        claims.add_order("4.1.2", claim, f"{task}-llm4teach", f"{task}-llm-only", "return")
    for task in TASKS:
        claims.add_order("Table 3", "LLM4Teach ends above ppo", f"{task}-llm4teach", f"{task}-ppo", "return")
    for task in TASKS[:-1]:
        claim = "LLM4Teach ends above hierarchical"
        claims.add_order("Table 3", claim, f"{task}-llm4teach", f"{task}-hierarchical", "return")
    claim = "hierarchical ends above LLM4Teach"
    claims.add_order("Table 3", claim, f"{TASKS[-1]}-hierarchical", f"{TASKS[-1]}-llm4teach", "return")
    for mode in ("soft", "logprobs"):
        claim = f"{mode} instructions need fewer steps than hard ones"
        claims.add_order("4.1.3", claim, f"DivergedDoorKey-{mode}", "DivergedDoorKey-hard", "steps_to_90", -1)
    for other in ("constant", "linear-short", "linear-long"):
        claim = f"the stepwise schedule ends above {other}"
        claims.add_order("A.7", claim, "ColoredDoorKey-llm4teach", f"ColoredDoorKey-{other}", "return")
        claims.add_level("A.7", f"{other} does not succeed: below 50 %", f"ColoredDoorKey-{other}", -1, 0.5)
    for percent in FLIPPED:
        claim = f"the student passes a teacher with {percent} % wrong answers"
        claims.add_passing("4.1.2", claim, f"{FAULTY}-flipped-{percent}")
    for other in METHODS[:-1]:
        claim = f"LLM4Teach succeeds more often than {other}"
        claims.add_order("4.2.2", claim, "habitat-navpick-llm4teach", f"habitat-navpick-{other}", "success")
    return claims.lines


def claims_table(results: Path) -> str:
    """Format the claims as the runs of each budget judge them; where several do, the full budget's outcome stands."""
    lines: dict[tuple[str, ...], list[str]] = {}
    for budget in BUDGETS:
        for line in judge_claims(read_rows(results / budget / "runs.csv")):
            lines[tuple(line[:3])] = [*line, budget]
    return format_table("paper, claim, task, here, numbers, budget", lines.values())
