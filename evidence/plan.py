"""Plan the runs behind the paper's tables and figures: budgets, settings, and faulty reply books; for reproduce.py."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from harness.config import configure
from harness.files import atomically
from harness.task import open_task
from rollout import act_by_teacher, rollout, training_seeds
from teacher import NO_PLAN, RecordedReplies, Shares, Teacher, read_replies

ROOT = Path(__file__).resolve().parent.parent
TASKS = ("SimpleDoorKey", "LavaDoorKey", "ColoredDoorKey", "DivergedDoorKey")
METHODS = ("llm-only", "ppo", "hierarchical", "llm4teach")  # in the order of the tables and figures
MODEL = "qwen2.5-coder-1.5b"  # its sampled answers and its log-probabilities are both recorded, for Fig. 4
FAULTY = "SimpleDoorKey"  # the task whose answers are replaced or withheld: its teacher alone always succeeds
FLIPPED = (0, 25, 50, 75, 100)  # percentages of wrong answers
QUESTIONS = (0, 1, 2, 4, 6)  # numbers of different questions that are answered; the task has six


class Budget(NamedTuple):
    """Number of seeds and training length."""

    seeds: int  # of llm4teach
    baseline_seeds: int  # of the other methods, and of teachers with faulty books
    settings: dict[str, Any]  # of every run
    i1: int
    i2: int
    description: str


BUDGETS = {
    "quick": Budget(
        2, 2, {"iterations": 200, "episodes": 200}, 15, 100,
        "Quick budget: 200 iterations of 50 episodes, i1 = 15, i2 = 100, 200 evaluation rooms. Enough to see who "
        "learns first; too few seeds and steps to say where anybody ends.",
    ),
    "full": Budget(
        5, 3, {"iterations": 3000, "episodes": 1000, "num_trajectories": 10, "minibatch_size": 128}, 1000, 2000,
        "Full budget, the paper's Table 1 and schedule: 3000 iterations of 10 episodes, minibatches of 128, i1 = 1000, "
        "i2 = 2000, 1000 evaluation rooms.",
    ),
}  # fmt: skip

Groups = dict[str, dict[str, Any]]  # name of a group of runs, a line of a figure -> what is special in its settings


class Run(NamedTuple):
    """One call of train.py."""

    group: str  # the runs of a group differ in their seeds only
    settings: dict[str, Any]  # of harness.config.Config

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return f"{self.group}-seed{self.settings['seed']}"

    @property
    def iterations(self) -> int:
        """Length of the run for the progress bar."""
        return self.settings["iterations"] if self.settings["method"] != "llm-only" else 1


def main_groups(budget: Budget, books: Path) -> Groups:
    """Return the groups of Table 3 and Fig. 3: every method on every task."""
    return {f"{task}-{method}": {"env": task, "method": method} for task in TASKS for method in METHODS}


def mode_groups(budget: Budget, books: Path) -> Groups:
    """Return the groups of Fig. 4: one LLM, whose answers are used in three ways."""
    return {
        f"DivergedDoorKey-{mode}": {"env": "DivergedDoorKey", "teacher_model": MODEL, "teacher_mode": mode}
        for mode in ("hard", "soft", "logprobs")
    }


def schedule_groups(budget: Budget, books: Path) -> Groups:
    """Return the groups of Fig. 7: a constant lambda, two linear schedules, and the stepwise one of Table 3."""
    linear = {"anneal": "linear", "i1": 0}
    groups: Groups = {"constant": {"anneal": "constant"}, "llm4teach": {}}
    groups |= {"linear-short": {**linear, "i2": budget.i1}, "linear-long": {**linear, "i2": budget.i2}}
    return {f"ColoredDoorKey-{name}": {"env": "ColoredDoorKey", **settings} for name, settings in groups.items()}


def flipped_groups(budget: Budget, books: Path) -> Groups:
    """Return the groups whose teachers give wrong answers; their reply books are in the folder `books`."""
    return {
        f"{FAULTY}-flipped-{n}": {"env": FAULTY, "replies": f"{books}/flipped-{n}-seed{{seed}}.jsonl"} for n in FLIPPED
    }


def question_groups(budget: Budget, books: Path) -> Groups:
    """Return the groups whose teachers answer few questions; their reply books are in the folder `books`."""
    return {f"{FAULTY}-questions-{n}": {"env": FAULTY, "replies": f"{books}/questions-{n}.jsonl"} for n in QUESTIONS}


def plan_runs(groups: Groups, budget: Budget, seeds: int | None = None) -> list[Run]:
    """Return the runs of these groups, `seeds` or else the budget's number of them per group, with their settings."""
    runs = []
    for group, settings in groups.items():
        settings = {"method": "llm4teach", "i1": budget.i1, "i2": budget.i2, **budget.settings, **settings}
        taught = settings["method"] == "llm4teach" and "replies" not in settings
        for seed in range(seeds or (budget.seeds if taught else budget.baseline_seeds)):
            book = {"replies": settings["replies"].format(seed=seed)} if "replies" in settings else {}
            runs.append(Run(group, {**settings, **book, "seed": seed}))
    return runs


# --------------------------------------------------------------------------------------------------- faulty reply books


def write_faulty_book(path: Path) -> None:
    """Write the reply book `flipped-PERCENT-seedSEED.jsonl` or `questions-N.jsonl`, made from the recorded one."""
    recorded = ROOT / "replies" / f"{FAULTY}.jsonl"
    flipped = re.fullmatch(r"flipped-(\d+)-seed(\d+)", path.stem)
    if flipped:
        answers = flip(read_replies(recorded), int(flipped[1]) / 100, random.Random(int(flipped[2])))
    else:
        answers = withhold(RecordedReplies(recorded), int(path.stem.split("-")[1]))
    with atomically(path) as part:
        part.write_text("".join(json.dumps({"state": state, "plans": plans}) + "\n" for state, plans in answers))


def flip(book: dict[str, Shares], share: float, rng: random.Random) -> Iterator[tuple[str, Shares]]:
    """Yield ten answers for each state, drawn from its recorded ones; each is wrong with probability `share`.

    A wrong answer is an option that no recorded answer for the state begins with: explore, or go to, pick up, drop
    or open something that the state text names.
    """
    for state, shares in book.items():
        right = {recorded.split(", ")[0] for recorded in shares}
        things = re.findall(r"\w+ (?:key|door)", state)
        wrong = ["explore", *(f"{verb} {thing}" for thing in things for verb in ("go to", "pick up", "drop", "open"))]
        wrong = [option for option in wrong if option not in right] or [NO_PLAN]
        for answer in rng.choices(list(shares), list(shares.values()), k=10):
            yield state, {rng.choice(wrong) if rng.random() < share else answer: 1.0}


def withhold(replies: RecordedReplies, count: int) -> Iterator[tuple[str, Shares]]:
    """Yield the recorded answers to `count` different questions, the first that the teacher meets in ten episodes.

    The answer to every other question is not a plan, so the teacher has no advice there.
    """
    met: dict[str, Shares] = {}

    def query(state: str) -> Shares:
        return met.setdefault(state, replies(state))

    task = open_task(configure({"env": FAULTY}))
    teacher = Teacher(query, task.describe, task.make_option, task.num_actions, canonicalize=task.canonicalize)
    torch.manual_seed(0)
    rollout(task.make_envs(10, "train"), training_seeds(0, 0, 10), act_by_teacher(teacher, task))
    for number, state in enumerate({**met, **replies.book}):
        yield state, replies(state) if number < count else {NO_PLAN: 1.0}
