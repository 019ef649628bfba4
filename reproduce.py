"""The paper's evidence, run and drawn anew: Table 3, Figures 3, 4, 6 and 7, and two questions that it leaves open.

    python reproduce.py all                        # two seeds and short runs
    python reproduce.py table3 --budget full       # the paper's protocol: its Table 1, its schedule, 1000 rooms
    python reproduce.py fig4 --seeds 3 --jobs 8

    table3      four methods on four tasks: where they end, beside the paper's numbers
    fig3        the same runs: return over environment steps, and when they learn
    fig4        hard, soft and log-probability teachers on DivergedDoorKey
    fig6        Nav & Pick, from the finished runs of habitat-navpick under runs/
    fig7        schedules of lambda on ColoredDoorKey
    queries     what each question buys: a teacher who may ask only so many different ones
    robustness  a teacher part of whose answers were replaced by wrong ones

Every run is `train.py` in a folder of its own. Finished runs are left alone and cut ones resumed, so that the same
command goes on after Ctrl-C or a crash, and ends with the same tables. Results go to results/BUDGET/: runs.csv with a
row for each run, a table (.md) and a picture (.png) for each target; and to results/claims.md: what the paper claims,
one by one, judged by all runs. Where README.md shows one of these tables, it is brought up to date.

Intervals are of the mean over seeds, 95 %, by Student's t; two groups are compared by Welch's interval of the
difference of their means.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import json
import os
import platform
import random
import re
import shlex
import signal
import subprocess
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Callable, NamedTuple, NoReturn

import numpy as np
from scipy import stats
from tqdm import tqdm

import envs
import options
import storage
import teacher
import train

ROOT = Path(__file__).resolve().parent
TASKS = ("SimpleDoorKey", "LavaDoorKey", "ColoredDoorKey", "DivergedDoorKey")
METHODS = ("llm-only", "ppo", "hierarchical", "llm4teach")
MODEL = "qwen2.5-coder-1.5b"  # whose sampled answers and log-probabilities are both recorded, for Fig. 4
FAULTY = "SimpleDoorKey"  # where answers are replaced or withheld: its teacher alone never fails
FLIPPED = (0, 25, 50, 75, 100)  # percent of its answers that are wrong
QUESTIONS = (0, 1, 2, 4, 6)  # how many different ones may be asked; it has six
EPISODES = 100  # of training, in a moving average
PACKAGES = ("torch", "numpy", "gymnasium", "minigrid")


class Budget(NamedTuple):
    """How much is run."""

    seeds: int  # of llm4teach
    baseline_seeds: int  # of the rest
    settings: dict[str, Any]  # of every run
    i1: int
    i2: int
    says: str


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


def fail(message: str) -> NoReturn:
    """End with one line on stderr and exit code 2."""
    print(f"reproduce.py: {message}", file=sys.stderr)
    raise SystemExit(2)


# ---------------------------------------------------------------------------------------------------- what is to be run


class Run(NamedTuple):
    """One call of train.py."""

    group: str  # what the runs of several seeds have in common: a line of a figure
    settings: dict[str, Any]  # of train.Config

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.group}-seed{self.settings['seed']}"

    @property
    def iterations(self) -> int:
        """How long it is, for the progress view."""
        return self.settings["iterations"] if self.settings["method"] != "llm-only" else 1


def main_groups(budget: Budget, books: Path) -> dict[str, dict[str, Any]]:
    """Table 3 and Fig. 3: every method on every task."""
    return {f"{task}-{method}": {"env": task, "method": method} for task in TASKS for method in METHODS}


def mode_groups(budget: Budget, books: Path) -> dict[str, dict[str, Any]]:
    """Fig. 4: one LLM, three ways to take its answers."""
    return {
        f"DivergedDoorKey-{mode}": {"env": "DivergedDoorKey", "teacher_model": MODEL, "teacher_mode": mode}
        for mode in ("hard", "soft", "logprobs")
    }


def schedule_groups(budget: Budget, books: Path) -> dict[str, dict[str, Any]]:
    """Fig. 7: constant, two linear ones, and the stepwise schedule of Table 3."""
    linear = {"anneal": "linear", "i1": 0}
    groups: dict[str, dict[str, Any]] = {"constant": {"anneal": "constant"}, "llm4teach": {}}
    groups |= {"linear-short": {**linear, "i2": budget.i1}, "linear-long": {**linear, "i2": budget.i2}}
    return {f"ColoredDoorKey-{name}": {"env": "ColoredDoorKey", **settings} for name, settings in groups.items()}


def flipped_groups(budget: Budget, books: Path) -> dict[str, dict[str, Any]]:
    """Teachers part of whose answers are wrong."""
    return {
        f"{FAULTY}-flipped-{n}": {"env": FAULTY, "replies": f"{books}/flipped-{n}-seed{{seed}}.jsonl"} for n in FLIPPED
    }


def question_groups(budget: Budget, books: Path) -> dict[str, dict[str, Any]]:
    """Teachers that may ask only so many different questions."""
    return {f"{FAULTY}-questions-{n}": {"env": FAULTY, "replies": f"{books}/questions-{n}.jsonl"} for n in QUESTIONS}


def plan(groups: dict[str, dict[str, Any]], budget: Budget, seeds: int | None) -> list[Run]:
    """The runs of these groups with every setting that matters; `seeds`: how many, if not as many as the budget has."""
    runs = []
    for group, settings in groups.items():
        settings = {"method": "llm4teach", "i1": budget.i1, "i2": budget.i2, **budget.settings, **settings}
        taught = settings["method"] == "llm4teach" and "replies" not in settings
        for seed in range(seeds or (budget.seeds if taught else budget.baseline_seeds)):
            book = {"replies": settings["replies"].format(seed=seed)} if "replies" in settings else {}
            runs.append(Run(group, {**settings, **book, "seed": seed}))
    return runs


def write_faulty_book(path: Path) -> None:
    """The book `flipped-PERCENT-seedSEED.jsonl` or `questions-N.jsonl`, made from the recorded teacher's."""
    recorded = ROOT / "replies" / f"{FAULTY}.jsonl"
    flipped = re.fullmatch(r"flipped-(\d+)-seed(\d+)", path.stem)
    if flipped:
        answers = flip(teacher.read_replies(recorded), int(flipped[1]) / 100, random.Random(int(flipped[2])))
    else:
        answers = withhold(teacher.RecordedReplies(recorded), int(path.stem.split("-")[1]))
    with storage.atomically(path) as part:
        part.write_text("".join(json.dumps({"state": state, "plans": plans}) + "\n" for state, plans in answers))


def flip(book: dict[str, teacher.Shares], share: float, rng: random.Random) -> Iterator[tuple[str, teacher.Shares]]:
    """Ten answers a state, drawn from its recorded shares, each replaced by a wrong one with probability `share`.

    Wrong is an option that no recorded answer for the state begins with: exploring, or going to, picking up, dropping
    or opening what the state names.
    """
    for state, shares in book.items():
        right = {recorded.split(", ")[0] for recorded in shares}
        things = re.findall(r"\w+ (?:key|door)", state)
        wrong = ["explore", *(f"{verb} {thing}" for thing in things for verb in ("go to", "pick up", "drop", "open"))]
        wrong = [option for option in wrong if option not in right] or ["(not a plan)"]
        for answer in rng.choices(list(shares), list(shares.values()), k=10):
            yield state, {rng.choice(wrong) if rng.random() < share else answer: 1.0}


def withhold(replies: teacher.RecordedReplies, count: int) -> Iterator[tuple[str, teacher.Shares]]:
    """The answers to the first `count` different questions, in the order in which the teacher meets them in ten rooms.

    To all others the answer is no plan, so that the teacher has nothing to say.
    """
    met: dict[str, teacher.Shares] = {}

    def ask(state: str) -> teacher.Shares:
        return met.setdefault(state, replies(state))

    mixture = teacher.Teacher(ask, envs.describe, options.make_option, envs.NUM_ACTIONS)
    train.torch.manual_seed(0)
    train.play(envs.make_rooms(FAULTY, 10), envs.training_seeds(0, 0, 10), train.teacher_acts(mixture))
    for at, state in enumerate({**met, **replies.book}):
        yield state, replies(state) if at < count else {"(not a plan)": 1.0}


# -------------------------------------------------------------------------------------------------------------- running


def run_all(runs: Sequence[Run], runs_dir: Path, jobs: int) -> None:
    """Run what is not finished, `jobs` at a time, in one progress view.

    A run is finished once its folder has a provenance.json. Ctrl-C and SIGTERM have every run save and stop. The runs
    hold the lock, too: where this process is killed and they go on, the next one does not get in their way.
    """
    lock = (runs_dir / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fail(f"runs in {runs_dir} are still under way; wait for them or end them, or choose another --runs")
    for run in runs:
        check_folder(run, runs_dir / run.name)
    done = {run.name: run.iterations for run in runs if (runs_dir / run.name / "provenance.json").exists()}
    todo = deque(run for run in runs if run.name not in done)
    live: dict[subprocess.Popen[bytes], Run] = {}
    failed = []
    bar = tqdm(total=sum(run.iterations for run in runs), initial=sum(done.values()), unit="it", dynamic_ncols=True)
    try:
        while todo or live:
            while todo and len(live) < jobs:
                live[start(todo[0], runs_dir, lock.fileno())] = todo[0]
                todo.popleft()
            for process, run in list(live.items()):
                done[run.name] = min(iterations(runs_dir / run.name), run.iterations)
                if process.poll() is not None:
                    del live[process]
                    done[run.name] = run.iterations
                    if process.returncode:
                        failed.append(f"{run.name} ended with exit code {process.returncode}")
                    else:
                        write_provenance(runs_dir / run.name)
            bar.n = sum(done.values())
            finished = len(runs) - len(todo) - len(live)
            bar.set_postfix_str(f"{finished} of {len(runs)} runs; {', '.join(run.name for run in live.values())}")
            time.sleep(0.5)
    finally:
        bar.close()
        for process in live:
            process.terminate()
        for process in live:
            process.wait()
    if failed:
        fail(f"{'; '.join(failed)}; see the .log beside its folder in {runs_dir}, then give the same command again")


def start(run: Run, runs_dir: Path, lock: int) -> subprocess.Popen[bytes]:
    """Start a run in a folder of its own, or go on with it; in a session of its own, so that Ctrl-C comes from here."""
    folder = runs_dir / run.name
    settings = ["--resume", str(folder)] if folder.exists() else [*flags(run.settings), "--run-dir", str(folder)]
    with folder.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *settings], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True, pass_fds=(lock,),
        )  # fmt: skip


def flags(settings: dict[str, Any]) -> list[str]:
    """Settings as train.py takes them."""
    return [text for name, value in settings.items() for text in (f"--{name.replace('_', '-')}", str(value))]


def check_folder(run: Run, folder: Path) -> None:
    """End with a clear line where a folder that is there holds another run than the one that is planned."""
    if folder.exists():
        stored = train.stored_config(folder)
        for name, value in run.settings.items():
            if stored[name] != value:
                fail(f"{folder} has {name} {stored[name]}, and {value} is planned; move it, or choose another --runs")


def iterations(folder: Path) -> int:
    """How many training iterations a run has behind it."""
    path = folder / "metrics.csv"
    return max(0, path.read_bytes().count(b"\n") - 1) if path.exists() else 0


def write_provenance(folder: Path) -> None:
    """provenance.json: what the run was made with and on; its code is the project's commit, + where files differ."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--exclude=*", "--dirty=+"]
    made = {
        "code": subprocess.run(git, capture_output=True, text=True).stdout.strip(),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
    with storage.atomically(folder / "provenance.json") as part:
        part.write_text(json.dumps(made, indent=2) + "\n")


# ------------------------------------------------------------------------------------------------------------ measuring

Row = dict[str, Any]  # a run, as in runs.csv; "" where it has nothing to say
TEXTS = ("run", "group", "env", "method", "command", "code", "python", *PACKAGES, "machine")


def smooth(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Environment steps, a column of metrics.csv averaged over the last EPISODES episodes, and how many rows these are.

    The first rows are means over as many as there are.
    """
    rows = storage.read_metrics(folder / "metrics.csv")
    width = -(-EPISODES // train.stored_config(folder)["num_trajectories"])
    total = np.cumsum([0.0, *(row[name] for row in rows)])
    ends = np.arange(1, len(rows) + 1)
    begins = np.maximum(0, ends - width)
    return np.array([row["steps"] for row in rows]), (total[ends] - total[begins]) / (ends - begins), width


def steps_to(folder: Path, threshold: float = 0.9) -> int | None:
    """Environment steps after which the last EPISODES training episodes succeed often enough; None if they never do."""
    steps, success, width = smooth(folder, "success")
    reached = np.flatnonzero(success[width - 1 :] > threshold - 1e-9)
    return int(steps[width - 1 + reached[0]]) if len(reached) else None


def measure(group: str, folder: Path) -> Row:
    """A finished run as a row."""
    result, config = json.loads((folder / "eval.json").read_text()), train.stored_config(folder)
    usual = vars(train.configure({"env": config["env"]}))
    given = {k: v for k, v in config.items() if k == "env" or (k != "run_dir" and v != usual[k])}
    given |= {"replies": os.path.relpath(given["replies"])} if "replies" in given else {}
    provenance, student = folder / "provenance.json", config["method"] != "llm-only"
    return {
        "run": folder.name,
        "group": group,
        **{name: config[name] for name in ("env", "method", "seed")},
        **{name: result[name] for name in ("length", "return", "success")},
        **{f"teacher_{name}": result.get("teacher", {}).get(name, "") for name in ("return", "success")},
        "steps": storage.read_metrics(folder / "metrics.csv")[-1]["steps"] if student else "",
        "steps_to_90": (steps_to(folder) if student else None) or "",
        "command": shlex.join(["python", "train.py", *flags(given)]),
        **(json.loads(provenance.read_text()) if provenance.exists() else {}),
    }


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """A .csv with a row for each run."""
    with storage.atomically(path) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[Row]:
    """What `write_rows` wrote, numbers as numbers; [] if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v if k in TEXTS or v == "" else json.loads(v) for k, v in row.items()} for row in rows]


def values(rows: Iterable[Row], group: str, name: str) -> list[float]:
    """A column of the runs of a group."""
    return [row[name] for row in rows if row["group"] == group and row[name] != ""]


def interval(numbers: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval; infinite for a single number."""
    half = stats.sem(numbers) * stats.t.ppf(0.975, len(numbers) - 1) if len(numbers) > 1 else np.inf
    return float(np.mean(numbers)), float(half)


def difference(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean of `first` less that of `second`; infinite where one has a single number."""
    if min(len(first), len(second)) < 2:
        return -np.inf, np.inf
    gap = float(np.mean(first) - np.mean(second))
    if max(np.ptp(first), np.ptp(second)) < 1e-12:  # which Welch's formula cannot take
        return gap, gap
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # one group is of equal numbers
        low, high = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    return float(low), float(high)


# --------------------------------------------------------------------------------------------------------------- tables

FORMS = {"length": (1, 1, ""), "return": (1, 3, ""), "success": (100, 1, " %"), "steps_to_90": (0.001, 0, "k")}


def cell(rows: Sequence[Row], group: str, name: str) -> str:
    """Mean and interval of a group's runs, for reading; says so where not all of them have a number."""
    numbers, runs = values(rows, group, name), len(values(rows, group, "seed"))
    if not numbers:
        return "never" if name == "steps_to_90" and values(rows, group, "steps") else "-"
    scale, digits, unit = FORMS[name.removeprefix("teacher_")]
    mean, half = interval(numbers)
    text = f"{mean * scale:.{digits}f}" + (f" ± {half * scale:.{digits}f}" if half < np.inf else "") + unit
    return text + (f" ({len(numbers)} of {runs} seeds)" if len(numbers) < runs else "")


def markdown(heads: str, lines: Iterable[Sequence[str]]) -> str:
    """A table; `heads` with commas between them."""
    columns = heads.split(", ")
    return "\n".join("| " + " | ".join(line) + " |" for line in (columns, ["---"] * len(columns), *lines)) + "\n"


def compared(rows: Sequence[Row], group: str, name: str, paper: float) -> str:
    """How a cell of Table 3 compares with the paper's as rounded there; a success has the interval of its episodes."""
    low, high = paper - 0.005, paper + 0.005
    if name == "success":
        episodes = 100 if group.startswith("habitat") else 1000
        low, high = stats.binomtest(round(paper * episodes), episodes).proportion_ci(method="wilson")
    mean, half = interval(values(rows, group, name))
    if half == np.inf:
        return "one seed"
    return "lower" if mean + half < low else "higher" if mean - half > high else "same"


def table3(rows: Sequence[Row], groups: Sequence[str]) -> str:
    """Our four methods beside the paper's, or those that there are runs of."""
    lines = []
    for group in groups:
        task, method = next((row["env"], row["method"]) for row in rows if row["group"] == group)
        paper = dict(zip(("length", "return", "success"), train.PAPER[task][train.METHODS.index(method)]))
        seeds = len(values(rows, group, "seed"))
        steps = [f"{np.mean(values(rows, group, 'steps')) / 1000:.0f}k" if values(rows, group, "steps") else "-"]
        theirs = [f"{paper['length']:.2f}", f"{paper['return']:.2f}", f"{paper['success']:.1%}"]
        verdicts = [compared(rows, group, name, paper[name]) for name in ("return", "success")]
        lines.append([task, method, str(seeds), *steps, *(cell(rows, group, n) for n in paper), *theirs, *verdicts])
    heads = "task, method, seeds, steps, length, return, success, paper: length, return, success"
    return markdown(heads + ", our return is, our success is", lines)


def learning_table(rows: Sequence[Row], groups: Sequence[str]) -> str:
    """Environment steps until 90 % of the last EPISODES training episodes succeed."""
    cells = [[task, *(cell(rows, f"{task}-{method}", "steps_to_90") for method in METHODS[1:])] for task in TASKS]
    return markdown(", ".join(["steps to 90 %", *METHODS[1:]]), cells)


def groups_table(rows: Sequence[Row], groups: Sequence[str]) -> str:
    """A line for each group of runs, with its teacher measured alone."""
    names = ("return", "success", "teacher_return", "teacher_success", "steps_to_90")
    lines = [[g, str(len(values(rows, g, "seed"))), *(cell(rows, g, name) for name in names)] for g in groups]
    return markdown("runs, seeds, return, success, its teacher's return, success, steps to 90 %", lines)


# --------------------------------------------------------------------------------------------------------------- claims


def judge(low: float, high: float, claimed: float = 0.0) -> str:
    """Whether a quantity with this interval is above what is claimed."""
    return "confirmed" if low > claimed else "refuted" if high < claimed else "unclear"


def claims(rows: Sequence[Row]) -> list[list[str]]:
    """What section 4 and A.7 say, claim by claim, judged by the intervals of the runs that there are.

    Lines of source, claim, task, outcome and numbers.
    """
    lines: list[list[str]] = []
    tasks = {row["group"]: row["env"] for row in rows}
    # A run that never got to 90 % counts with all its steps: it needs more.
    patient = [{**row, "steps_to_90": row["steps_to_90"] or row["steps"]} for row in rows]

    def level(source: str, claim: str, group: str, sign: int, claimed: float) -> None:
        """The group's success is above what is claimed, or with sign -1 below."""
        if values(rows, group, "success"):
            mean, half = interval(values(rows, group, "success"))
            outcome = judge(sign * mean - half, sign * mean + half, sign * claimed)
            lines.append([source, claim, tasks[group], outcome, cell(rows, group, "success")])

    def more(source: str, claim: str, first: str, second: str, name: str, sign: int = 1) -> None:
        """The first group has more of something than the second, or with sign -1 less."""
        if values(patient, first, name) and values(patient, second, name):
            gap = difference(values(patient, first, name), values(patient, second, name))
            outcome = judge(*sorted(sign * end for end in gap))
            numbers = f"{cell(rows, first, name)} against {cell(rows, second, name)}"
            lines.append([source, claim, tasks[first], outcome, numbers])

    for task in TASKS:
        level("4.1.2", "baseline RL struggles: success below 50 %", f"{task}-ppo", -1, 0.5)
    for task in TASKS:
        level("4.1.2", "hierarchical RL eventually succeeds: above 90 %", f"{task}-hierarchical", 1, 0.9)
    for other in ("hierarchical", "ppo"):
        for task in TASKS:
            claim = f"LLM4Teach learns in fewer steps than {other}"
            more("4.1.2", claim, f"{task}-llm4teach", f"{task}-{other}", "steps_to_90", -1)
    more("4.1.2", "the LLM alone has the higher return", f"{TASKS[0]}-llm-only", f"{TASKS[0]}-llm4teach", "return")
    for task in TASKS[1:]:
        claim = "LLM4Teach has a higher return than the LLM alone"
        more("4.1.2", claim, f"{task}-llm4teach", f"{task}-llm-only", "return")
    for task in TASKS:
        more("Table 3", "LLM4Teach ends above ppo", f"{task}-llm4teach", f"{task}-ppo", "return")
    for task in TASKS[:-1]:
        more("Table 3", "LLM4Teach ends above hierarchical", f"{task}-llm4teach", f"{task}-hierarchical", "return")
    claim = "hierarchical ends above LLM4Teach"
    more("Table 3", claim, "DivergedDoorKey-hierarchical", "DivergedDoorKey-llm4teach", "return")
    for mode in ("soft", "logprobs"):
        claim = f"{mode} instructions need fewer steps than hard ones"
        more("4.1.3", claim, f"DivergedDoorKey-{mode}", "DivergedDoorKey-hard", "steps_to_90", -1)
    for other in ("constant", "linear-short", "linear-long"):
        claim = f"the stepwise schedule ends above {other}"
        more("A.7", claim, "ColoredDoorKey-llm4teach", f"ColoredDoorKey-{other}", "return")
        level("A.7", f"{other} does not succeed: below 50 %", f"ColoredDoorKey-{other}", -1, 0.5)
    for percent in FLIPPED:
        claim = f"the student passes a teacher with {percent} % wrong answers"
        group = f"{FAULTY}-flipped-{percent}"
        students, alone = values(rows, group, "success"), values(rows, group, "teacher_success")
        if students:
            numbers = f"{cell(rows, group, 'success')} against {cell(rows, group, 'teacher_success')}"
            lines.append(["4.1.2", claim, FAULTY, judge(*difference(students, alone)), numbers])
    for other in METHODS[:-1]:
        claim = f"LLM4Teach succeeds more often than {other}"
        more("4.2.2", claim, "habitat-navpick-llm4teach", f"habitat-navpick-{other}", "success")
    return lines


def claims_table(results: Path) -> str:
    """The claims as the runs of each budget judge them; the full budget has the last word."""
    lines: dict[tuple[str, ...], list[str]] = {}
    for budget in BUDGETS:
        for line in claims(read_rows(results / budget / "runs.csv")):
            lines[tuple(line[:3])] = [*line, budget]
    return markdown("paper, claim, task, here, numbers, budget", lines.values())


# ------------------------------------------------------------------------------------------------------------- pictures

# Okabe & Ito's colours, told apart by every kind of colour vision; a method has the same one, and line, everywhere.
STYLES = {
    "llm4teach": ("#0072B2", "-"), "hierarchical": ("#E69F00", "--"), "ppo": ("#009E73", "-."),
    "llm-only": ("#000000", ":"), "soft": ("#0072B2", "-"), "hard": ("#D55E00", "--"), "logprobs": ("#CC79A7", "-."),
    "constant": ("#D55E00", "--"), "linear-short": ("#CC79A7", "-."), "linear-long": ("#56B4E9", ":"),
}  # fmt: skip
Folders = dict[str, list[Path]]  # of the runs of a group


@contextmanager
def picture(path: Path, titles: Sequence[str], x: str, y: str = "", sharey: bool = True) -> Iterator[list[Any]]:
    """Panels to draw in, two in a row; what they label goes into one legend."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns, lines = min(2, len(titles)), -(-len(titles) // 2)
    with plt.rc_context({"font.size": 15, "lines.linewidth": 2.5, "axes.grid": True, "grid.alpha": 0.3}):
        figure, panels = plt.subplots(
            lines, columns, figsize=(5.5 * columns + 1, 3.7 * lines + 1.2), sharey=sharey, squeeze=False,
            layout="constrained",
        )  # fmt: skip
        for panel, title in zip(panels.flat, titles):
            panel.set_title(title)
        yield list(panels.flat)
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2 * columns)
        figure.supxlabel(x)
        figure.supylabel(y)
        figure.savefig(path, dpi=100)
        plt.close(figure)


def draw_learning(panel: Any, folders: Sequence[Path], column: str, label: str) -> None:
    """A column of metrics.csv over environment steps: the mean of the seeds, and its interval."""
    curves = [smooth(folder, column)[:2] for folder in folders]
    steps = np.geomspace(max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves), 300)
    heights = np.stack([np.interp(steps, *curve) for curve in curves])
    color, line = STYLES[label]
    panel.plot(steps, heights.mean(0), color=color, linestyle=line, label=label)
    if len(curves) > 1:
        half = stats.sem(heights) * stats.t.ppf(0.975, len(curves) - 1)
        panel.fill_between(steps, heights.mean(0) - half, heights.mean(0) + half, color=color, alpha=0.2, linewidth=0)
    panel.set(xscale="log", ylim=(-0.03, 1.03))  # intervals of two seeds reach far beyond


def draw_fig3(path: Path, rows: Sequence[Row], folders: Folders) -> None:
    """Return over environment steps, four tasks, four methods."""
    with picture(path, TASKS, "environment steps", "return in training") as panels:
        for task, panel in zip(TASKS, panels):
            for method in METHODS[1:]:
                draw_learning(panel, folders[f"{task}-{method}"], "return", method)
            alone = float(np.mean(values(rows, f"{task}-llm-only", "return")))
            panel.axhline(alone, color=STYLES["llm-only"][0], linestyle=":", label="llm-only")


def draw_groups(path: Path, rows: Sequence[Row], folders: Folders) -> None:
    """Success over environment steps, a line for each group of one task."""
    task = rows[0]["env"]
    with picture(path, [task], "environment steps", "success in training") as (panel,):
        for group, own in folders.items():
            label = group.removeprefix(f"{task}-")
            if label == "llm-only":
                alone = float(np.mean(values(rows, group, "success")))
                panel.axhline(alone, color=STYLES[label][0], linestyle=":", label=label)
            else:
                draw_learning(panel, own, "success", label)


def draw_numbers(path: Path, rows: Sequence[Row], folders: Folders) -> None:
    """Success of student and teacher, and when the student learns, over the number that ends the groups' names."""
    numbers = [int(group.split("-")[-1]) for group in folders]
    x = "questions that may be asked" if "questions" in next(iter(folders)) else "% of the answers wrong"
    with picture(path, ["success at the end", "steps to 90 %, thousands"], x, sharey=False) as panels:
        for panel, column, label in (
            (panels[0], "success", "llm4teach"), (panels[0], "teacher_success", "llm-only"),
            (panels[1], "steps_to_90", "llm4teach"),
        ):  # fmt: skip
            marks = [(n, *interval(own)) for n, group in zip(numbers, folders) if (own := values(rows, group, column))]
            at, heights, halves = np.array(marks).reshape(-1, 3).T
            halves[np.isinf(halves)] = 0
            scale = 1000 if column == "steps_to_90" else 1
            color, line = STYLES[label]
            panel.errorbar(
                at, heights / scale, halves / scale, color=color, linestyle=line, marker="o", capsize=5, label=label
            )
        panels[0].set_ylim(-0.03, 1.03)
        panels[1].set_ylim(bottom=0)


# -------------------------------------------------------------------------------------------------------- command line


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where to read on; exit code 2."""
        fail(f"{message}; see python reproduce.py --help")


class Target(NamedTuple):
    """What can be asked for."""

    title: str
    groups: Callable[[Budget, Path], dict[str, dict[str, Any]]]  # name -> settings; {} for runs that a user made
    table: Callable[[Sequence[Row], Sequence[str]], str]
    draw: Callable[[Path, Sequence[Row], Folders], None] | None


TARGETS = {
    "table3": Target("Table 3", main_groups, table3, None),
    "fig3": Target("Figure 3: when they learn", main_groups, learning_table, draw_fig3),
    "fig4": Target("Figure 4: hard and soft instructions", mode_groups, groups_table, draw_groups),
    "fig6": Target("Figure 6: Nav & Pick", lambda budget, books: {}, table3, draw_groups),
    "fig7": Target("Figure 7: schedules of lambda", schedule_groups, groups_table, draw_groups),
    "queries": Target("What a question buys", question_groups, groups_table, draw_numbers),
    "robustness": Target("A teacher with wrong answers", flipped_groups, groups_table, draw_numbers),
}


def nav_and_pick(folder: Path) -> Folders:
    """The finished runs of habitat-navpick in a folder, by method."""
    found: Folders = {}
    for method in METHODS:
        for path in sorted(folder.glob("*/eval.json")):
            result = json.loads(path.read_text())
            if (result["env"], result["method"]) == ("habitat-navpick", method):
                found.setdefault(f"habitat-navpick-{method}", []).append(path.parent)
    return found


def report(name: str, budget: Budget, folders: Folders, results: Path) -> None:
    """Write a target's table and picture, its runs into runs.csv, and anew what all runs say of the claims."""
    target = TARGETS[name]
    rows = [measure(group, folder) for group, own in folders.items() for folder in own]
    kept = [row for row in read_rows(results / "runs.csv") if row["group"] not in folders]
    write_rows(sorted([*kept, *rows], key=lambda row: row["run"]), results / "runs.csv")
    text = target.table(read_rows(results / "runs.csv"), list(folders))  # of what others find there
    says = budget.says if target.groups(budget, Path()) else "Whatever runs there were, as long as they were."
    write_table(results / f"{name}.md", f"**{target.title}.** {says}", text)
    judged = "**Claims.** Unclear: the interval allows both, or a group has a single seed."
    write_table(results.parent / "claims.md", judged, claims_table(results.parent))
    if target.draw:
        target.draw(results / f"{name}.png", rows, folders)
    pictured = f", {name}.png" if target.draw else ""
    print(f"\n{target.title}\n\n{text}\nin {results}: runs.csv, {name}.md{pictured}")


def write_table(path: Path, heading: str, text: str) -> None:
    """Write a table below its heading, and into the README where that shows it: <!-- path --> table <!-- end -->."""
    path.write_text(f"{heading}\n\n{text}")
    readme = ROOT / "README.md"
    before, marker, after = readme.read_text().partition(f"<!-- {Path(os.path.relpath(path, ROOT)).as_posix()} -->\n")
    if marker:
        with storage.atomically(readme) as part:
            part.write_text(before + marker + text + "".join(after.partition("<!-- end -->")[1:]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, measure and draw."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--budget", choices=tuple(BUDGETS), default="quick")
    parser.add_argument("--seeds", type=int, help="of every group; by default the budget's")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time; by default one a core")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for the runs")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder for what comes out")
    given = parser.parse_args(arguments)
    for name in ("seeds", "jobs"):
        if getattr(given, name) is not None and getattr(given, name) < 1:
            fail(f"--{name} is {getattr(given, name)}; it must be at least 1")
    budget = BUDGETS[given.budget]
    runs_dir, results = (given.runs / "reproduce" / given.budget).resolve(), given.results / given.budget
    books = runs_dir / "replies"
    for folder in (books, results):
        folder.mkdir(parents=True, exist_ok=True)
    names = list(TARGETS) if given.target == "all" else [given.target]
    plans = {name: plan(TARGETS[name].groups(budget, books), budget, given.seeds) for name in names}
    runs = list({run.name: run for own in plans.values() for run in own}.values())
    for run in runs:
        if "replies" in run.settings and not Path(run.settings["replies"]).exists():
            write_faulty_book(Path(run.settings["replies"]))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if runs:
            run_all(runs, runs_dir, given.jobs)
        for name in names:
            folders: Folders = {}
            for run in plans[name]:
                folders.setdefault(run.group, []).append(runs_dir / run.name)
            folders = folders or nav_and_pick(given.runs)
            if folders:
                report(name, budget, folders, results)
            else:
                print(f"\n{name} is left out: {given.runs} has no finished run of train.py --env habitat-navpick")
    except KeyboardInterrupt:
        print("stopped; what was run is kept, the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
