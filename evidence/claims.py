"""What the paper claims, and what we assert ourselves, judged by the rows of results/; for reproduce.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from evidence.plan import FAULTY, FLIPPED, QWEN, TASKS
from evidence.results import Results
from evidence.statistics import Comparison, Sample, judge
from evidence.tables import FORMATS, MARGINS, Cells, format_table, kind_of


class Claim(NamedTuple):
    """A sentence that a comparison of two groups, or of a group and a number, bears out or not, on each task."""

    place: str  # in the paper
    words: str
    tasks: Sequence[str]
    arm: str
    name: str  # the column compared
    relation: str  # that would confirm it: higher, lower or level
    second: str | float  # the other arm on the same task, TEACHER, or a number


SIMPLE, COLORED, DIVERGED = TASKS[:1], TASKS[2:3], TASKS[3:]
# With scripted options and with learned ones, that start in any state or in some.
SCRIPTED = ("navpick-home", "navpick-home-restricted", "navpick-replicacad", "navpick-replicacad-guided")
LEARNED = ("navpick-home-learned", "navpick-home-learned-restricted", "navpick-replicacad-learned")
STEPS = "steps_to_90"
TEACHER = "its teacher"  # the LLM alone, in the rooms of the runs that it taught

# Section 4 and A.7, in the sense of their words. Thresholds of ours: a method that struggles or does not succeed opens
# less than half of the doors, one that succeeds more; nearly 100 % is more than 95 %.
PAPER = (
    Claim(
        "4.1.2", "baseline RL struggles to complete tasks, even the simplest",
        TASKS, "ppo", "success", "lower", 0.5,
    ),
    Claim("4.1.2", "hierarchical RL eventually succeeds", TASKS, "hierarchical", "success", "higher", 0.5),
    Claim(
        "4.1.2", "hierarchical RL needs over 10,000 iterations, and does not succeed in fewer", TASKS,
        "hierarchical", "success", "lower", 0.5,
    ),
    Claim("4.1.2", "LLM4Teach is more sample-efficient than baseline RL", TASKS, "llm4teach", STEPS, "lower", "ppo"),
    Claim("4.1.2", "and than hierarchical RL", TASKS, "llm4teach", STEPS, "lower", "hierarchical"),
    Claim(
        "4.1.2", "LLM4Teach has a higher return than LLM soly",
        TASKS[1:], "llm4teach", "return", "higher", "llm-only",
    ),
    Claim("4.1.2", "but not on SimpleDoorKey", SIMPLE, "llm4teach", "return", "level", "llm-only"),
    Claim("4.1.2", "LLM soly has a success rate of nearly 100 %", SIMPLE, "llm-only", "success", "higher", 0.95),
    Claim(
        "4.1.2", "LLM soly has a return of 0.52; Table 3 of the same paper: 0.40",
        COLORED, "llm-only", "return", "level", 0.52,
    ),
    Claim("4.1.2", "LLM4Teach has a return of 0.77; Table 3: 0.78", COLORED, "llm4teach", "return", "level", 0.77),
    Claim(
        "4.1.3", "soft instructions are more sample-efficient than hard ones",
        DIVERGED, "llm4teach", STEPS, "lower", "hard",
    ),
    Claim("4.1.3", "the same, with a small LLM", DIVERGED, f"{QWEN}-soft", STEPS, "lower", f"{QWEN}-hard"),
    Claim(
        "4.1.3", "so are log-probabilities, with a small LLM",
        DIVERGED, f"{QWEN}-logprobs", STEPS, "lower", f"{QWEN}-hard",
    ),
    Claim(
        "4.1.3", "no significant disparity between the two",
        DIVERGED, f"{QWEN}-logprobs", STEPS, "level", f"{QWEN}-soft",
    ),
    Claim("A.7", "a constant lambda does not succeed", COLORED, "constant", "success", "lower", 0.5),
    Claim(
        "A.7", "a lambda that falls linearly until i1 does not succeed",
        COLORED, "linear-short", "success", "lower", 0.5,
    ),
    Claim(
        "A.7", "a lambda that falls linearly until i2 does not succeed",
        COLORED, "linear-long", "success", "lower", 0.5,
    ),
    Claim("A.7", "the stepwise schedule succeeds", COLORED, "llm4teach", "success", "higher", 0.5),
    Claim("4.2.2", "baseline RL struggles to complete the task", SCRIPTED, "ppo", "success", "lower", 0.5),
    Claim("4.2.2", "so does hierarchical RL", SCRIPTED + LEARNED, "hierarchical", "success", "lower", 0.5),
    Claim(
        "4.2.2", "LLM4Teach is more sample-efficient than baseline RL",
        SCRIPTED, "llm4teach", STEPS, "lower", "ppo",
    ),
    Claim("4.2.2", "and than hierarchical RL", SCRIPTED + LEARNED, "llm4teach", STEPS, "lower", "hierarchical"),
    Claim(
        "4.2.2", "LLM4Teach succeeds more often than LLM soly",
        SCRIPTED + LEARNED, "llm4teach", "success", "higher", TEACHER,
    ),
)  # fmt: skip

EVERYWHERE = TASKS + SCRIPTED
OWN = (
    Claim(
        "", "LLM4Teach succeeds more often in the first steps than the control",
        EVERYWHERE, "llm4teach", "auc_success", "higher", "uniform",
    ),
    Claim("", "LLM4Teach learns in fewer steps than the control", EVERYWHERE, "llm4teach", STEPS, "lower", "uniform"),
    *(
        Claim("", f"{words} than the control where lambda falls linearly until i1", COLORED, "linear-short", name,
              relation, "uniform-linear-short")
        for words, name, relation in (
            ("LLM4Teach succeeds more often in the first steps", "auc_success", "higher"),
            ("LLM4Teach learns in fewer steps", STEPS, "lower"),
        )
    ),
    Claim("", "LLM4Teach ends level with the control", EVERYWHERE, "llm4teach", "success", "level", "uniform"),
    Claim("", "the control learns in fewer steps than plain PPO", EVERYWHERE, "uniform", STEPS, "lower", "ppo"),
    Claim("", "LLM4Teach ends level with plain PPO", TASKS, "llm4teach", "success", "level", "ppo"),
    *(
        Claim(
            "", "soft instructions teach more in the first steps than an option drawn at each step",
            DIVERGED, soft, "auc_success", "higher", sampled,
        )
        for soft, sampled in (("llm4teach", "sampled"), (f"{QWEN}-soft", f"{QWEN}-sampled"))
    ),
    *(
        Claim("", f"{n} % wrong answers cost steps", (FAULTY,), f"flipped-{n}", STEPS, "higher", "llm4teach")
        for n in FLIPPED
    ),
    Claim(
        "", "a teacher without a right answer is worse than none",
        (FAULTY,), "flipped-100", STEPS, "higher", "ppo",
    ),
    Claim("", "a teacher without any answer is no worse than none", (FAULTY,), "questions-0", STEPS, "level", "ppo"),
    Claim("", "plain PPO fails with the published net", SIMPLE, "ppo-paper-net", "success", "lower", 0.5),
    Claim(
        "", "plain PPO fails with the published net on the agent's view",
        SIMPLE, "ppo-paper-net-view", "success", "lower", 0.5,
    ),
    Claim("", "plain PPO fails without the agent's view", SIMPLE, "ppo-absolute", "success", "lower", 0.5),
    Claim("", "plain PPO fails where codes are read as quantities", SIMPLE, "ppo-integers", "success", "lower", 0.5),
    Claim("", "plain PPO fails with Monte-Carlo returns", SIMPLE, "ppo-monte-carlo", "success", "lower", 0.5),
    Claim(
        "", "plain PPO fails where the learning rate does not fall",
        SIMPLE, "ppo-constant-rate", "success", "lower", 0.5,
    ),
)  # fmt: skip


def judge_claims(results: Results, claims: Sequence[Claim]) -> list[list[str]]:
    """Return place, words, task, budget, outcome and numbers of all claims that there are runs for, judged together.

    The paper's and the default budget stand side by side; the quick one where neither has runs.
    """
    comparisons, lines = [], []
    for claim in claims:
        for task in claim.tasks:
            compared = {
                budget: compare(Cells(results, budget), claim, task) for budget in ("paper", "default", "quick")
            }
            found = {b: pair for b, pair in compared.items() if pair[0].first.numbers and pair[0].second.numbers}
            if len(found) > 1:
                found.pop("quick", None)
            for budget, (comparison, numbers) in found.items():
                comparisons.append(comparison)
                lines.append((claim, task, budget, numbers))
    judged = []
    for (claim, task, budget, numbers), verdict in zip(lines, judge(comparisons)):
        refuted = verdict in ("higher", "lower", "level") and verdict != claim.relation
        outcome = "confirmed" if verdict == claim.relation else f"refuted: {verdict}" if refuted else verdict
        judged.append([claim.place, claim.words, task, budget, outcome, numbers])
    return judged


def compare(cells: Cells, claim: Claim, task: str) -> tuple[Comparison, str]:
    """Return what a claim compares on a task, and the same as a text."""
    show = cells.learning if claim.name in (STEPS, "auc_success") else cells.final
    first, second = f"{task}-{claim.arm}", claim.second
    if second == TEACHER:
        theirs, told = cells.sample(first, f"teacher_{claim.name}"), cells.final(first, claim.name, "teacher")
    elif isinstance(second, str):
        theirs, told = cells.sample(f"{task}-{second}", claim.name), show(f"{task}-{second}", claim.name)
    else:
        scale, _, unit = FORMATS[kind_of(claim.name)]
        theirs, told = Sample([second], error=0.0), f"{second * scale:g}{unit}"
    comparison = Comparison(cells.sample(first, claim.name), theirs, MARGINS[kind_of(claim.name)])
    return comparison, f"{show(first, claim.name)} against {told}"


def claims_table(results: Results) -> str:
    """Format the paper's claims."""
    return format_table("paper, claim, task, budget, here, numbers", judge_claims(results, PAPER))


def assertions_table(results: Results) -> str:
    """Format what we assert ourselves."""
    return format_table("assertion, task, budget, here, numbers", [line[1:] for line in judge_claims(results, OWN)])
