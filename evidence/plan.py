"""Plan the runs behind the paper's tables and figures: budgets, and groups of runs that differ in their seeds."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from harness.config import Config

ROOT = Path(__file__).resolve().parent.parent
BOOKS = ROOT / "runs" / "books"  # where evidence.books writes
TASKS = ("SimpleDoorKey", "LavaDoorKey", "ColoredDoorKey", "DivergedDoorKey")
ARMS: dict[str, dict[str, Any]] = {  # in the order of the tables and figures
    "llm-only": {"method": "llm-only"},
    "ppo": {"method": "ppo"},
    "hierarchical": {"method": "hierarchical"},
    "uniform": {"method": "llm4teach", "teacher_mode": "uniform"},  # the control: a teacher without an LLM
    "llm4teach": {"method": "llm4teach"},
}
QWEN, SMOLLM = "qwen2.5-coder-1.5b", "smollm2-135m"  # their sampled answers and log-probabilities are recorded
FAULTY = "SimpleDoorKey"  # the task whose answers are replaced or withheld: its teacher alone always succeeds
FLIPPED = (25, 50, 75, 100)  # percentages of wrong answers
QUESTIONS = (0, 1, 2, 4)  # numbers of different questions that are answered; the task has six


class Budget(NamedTuple):
    """Number of seeds and training length of the runs on MiniGrid."""

    seeds: int  # of the methods that Table 3 and Fig. 3 compare
    side_seeds: int  # of everything else
    settings: dict[str, Any]  # of every run
    horizon: int  # environment steps over which the area under a curve is taken
    title: str

    @property
    def description(self) -> str:
        """Describe the budget in a sentence, for the tables."""
        given = {"num_trajectories": Config.num_trajectories, **self.settings}
        minibatches = f"minibatches of {given['minibatch_size']}, " if "minibatch_size" in given else ""
        return (
            f"{self.title}: {given['iterations']} iterations of {given['num_trajectories']} episodes, {minibatches}"
            f"i1 = {given['i1']}, i2 = {given['i2']}, {given['episodes']} evaluation rooms a seed."
        )


BUDGETS = {
    "quick": Budget(
        5, 2,
        {"iterations": 50, "episodes": 100, "num_trajectories": 25, "minibatch_size": 128, "i1": 15, "i2": 25},
        150_000, "Quick budget",
    ),
    "default": Budget(
        10, 10, {"iterations": 200, "episodes": 200, "i1": 15, "i2": 100}, 300_000, "Default budget",
    ),
    "paper": Budget(
        5, 5,
        {
            "iterations": 3000, "episodes": 1000, "num_trajectories": 10, "minibatch_size": 128,
            "i1": 1000, "i2": 2000,
        },
        600_000, "The paper's budget, its Table 1 and schedule",
    ),
}  # fmt: skip
HABITAT_HORIZON = 300_000
NAV_PICK = "navpick-"  # before the place, in the name of a task of Fig. 6


class Group(NamedTuple):
    """Runs that differ in their seeds only: a line of a figure."""

    task: str
    arm: str
    settings: dict[str, Any]  # what is special in the settings of harness.config.Config

    @property
    def name(self) -> str:
        """Name in the results."""
        return f"{self.task}-{self.arm}"


class Run(NamedTuple):
    """One call of train.py."""

    budget: str
    group: Group
    settings: dict[str, Any]  # all that are given

    @property
    def folder(self) -> str:
        """Name of the run folder."""
        return f"{self.group.name}-seed{self.settings['seed']}"

    @property
    def name(self) -> str:
        """Name in the results."""
        return f"{self.budget}/{self.folder}"


# --------------------------------------------------------------------------------------- the groups behind each target


def doorkey(task: str, arm: str, **settings: Any) -> Group:
    """Return a group on one of MiniGrid's tasks, by default with the settings of an arm of that name."""
    return Group(task, arm, {"env": task, **(settings or ARMS[arm])})


def model_group(task: str, model: str, mode: str) -> Group:
    """Return the group of a small model's students."""
    return doorkey(task, f"{model}-{mode}", method="llm4teach", teacher_model=model, teacher_mode=mode)


def main_groups(budget: Budget) -> list[Group]:
    """Return the groups of Table 3 and Fig. 3: every method on every task."""
    return [doorkey(task, arm) for task in TASKS for arm in ARMS]


def mode_groups(budget: Budget) -> list[Group]:
    """Return the groups of Fig. 4: the paper's LLM soft, sampled and hard, a small one in four ways, and the control.

    Of the paper's LLM no log-probabilities are known.
    """
    task = "DivergedDoorKey"
    own = [doorkey(task, mode, method="llm4teach", teacher_mode=mode) for mode in ("sampled", "hard")]
    small = [model_group(task, QWEN, mode) for mode in ("soft", "sampled", "hard", "logprobs")]
    return [doorkey(task, "llm4teach"), *own, *small, doorkey(task, "uniform")]


def schedule_groups(budget: Budget) -> list[Group]:
    """Return the groups of Fig. 7: a constant lambda, two linear schedules, and the stepwise one of Table 3.

    On the stepwise schedule and on the shorter linear one there is the control, too.
    """
    task, linear = "ColoredDoorKey", {"method": "llm4teach", "anneal": "linear", "i1": 0}
    short: dict[str, Any] = {**linear, "i2": budget.settings["i1"]}
    return [
        doorkey(task, "constant", method="llm4teach", anneal="constant"),
        doorkey(task, "linear-short", **short),
        doorkey(task, "linear-long", **linear, i2=budget.settings["i2"]),
        doorkey(task, "llm4teach"),
        doorkey(task, "uniform-linear-short", **{**short, **ARMS["uniform"]}),
        doorkey(task, "uniform"),
    ]


def faulty_groups(budget: Budget) -> list[Group]:
    """Return the groups whose teachers give wrong answers, or few; each run has a reply book of its own."""
    names = [f"flipped-{n}" for n in FLIPPED] + [f"questions-{n}" for n in QUESTIONS]
    books = {name: str(BOOKS / f"{name}-{{seed}}.jsonl") for name in names}
    faulty = [doorkey(FAULTY, name, method="llm4teach", replies=book) for name, book in books.items()]
    return [*faulty, doorkey(FAULTY, "ppo"), doorkey(FAULTY, "uniform"), doorkey(FAULTY, "llm4teach")]


def teacher_groups(budget: Budget) -> list[Group]:
    """Return the groups of the small models as teachers, beside the paper's LLM and the control."""
    groups = []
    for task in TASKS:
        modes = ("soft", "hard", "logprobs") if task == "DivergedDoorKey" else ("soft", "logprobs")
        groups += [doorkey(task, "uniform"), doorkey(task, "llm4teach")]
        groups += [model_group(task, model, mode) for model in (QWEN, SMOLLM) for mode in modes]
    if budget is BUDGETS["quick"]:
        return groups  # two seeds cannot tell two recordings apart
    again = str(ROOT / "replies" / "second" / f"{SMOLLM}-soft.jsonl")  # as likely a recording as the first
    return [*groups, doorkey("ColoredDoorKey", f"{SMOLLM}-soft-again", method="llm4teach", replies=again)]


def student_groups(budget: Budget) -> list[Group]:
    """Return the groups that ask why plain PPO succeeds: the published net, then one thing changed at a time.

    The published net gets our view of the map; ours loses it, or its one-hot codes, its returns or its learning rate.
    """
    changes: dict[str, dict[str, Any]] = {
        "paper-net": {"student": "paper"},
        "paper-net-view": {"student": "paper-view"},
        "absolute": {"student": "small-absolute"},
        "integers": {"student": "small-integers"},
        "monte-carlo": {"gae_lambda": 1.0},
        "constant-rate": {"anneal_learning_rate": False},
    }
    groups = [doorkey("SimpleDoorKey", method) for method in ("ppo", "llm4teach")]
    for name, change in changes.items():
        groups += [doorkey(g.task, f"{g.arm}-{name}", method=g.arm, **change) for g in groups[:2]]
    return groups


def habitat_groups(budget: Budget) -> list[Group]:
    """Return the groups of Fig. 6: the home that we bring, and ReplicaCAD, whose data are not here, and their methods.

    Settings are the task's own; one worker each, so that their number does not change what comes out. Plain PPO, whose
    episodes are the longest, has as many environment steps as the others in fewer iterations. ReplicaCAD's learned
    options make the shortest ones: there lambda falls in fewer steps, else the teacher would stay to the end.

    Plain PPO uses no options, and the LLM alone trains no student: they are not run again where only that differs. In
    places that are called restricted one option alone can act in each state, so that the control is the LLM's very run:
    the home has it to show that.
    """
    data, guided, learned = {"habitat_data": "{data}"}, {"student": "guided"}, {"options": "learned"}
    restricted, short = {"start_anywhere": False}, {"i1": 120_000, "i2": 150_000}
    taught = {"hierarchical", "uniform", "llm4teach"}
    places: dict[str, tuple[dict[str, Any], set[str]]] = {
        "home": ({}, set(ARMS)),
        "home-restricted": (restricted, set(ARMS) - {"ppo"}),
        "home-learned": (learned, taught),
        "home-learned-restricted": ({**learned, **restricted}, {"llm4teach"}),
        "replicacad": (data, set(ARMS)),
        "replicacad-guided": ({**data, **guided}, {"ppo", *taught}),
        "replicacad-learned": ({**data, **guided, **learned, **short}, taught),
    }
    shared: dict[str, Any] = {"env": "habitat-navpick", "workers": 1}
    fewer: dict[str, dict[str, Any]] = {"ppo": {"iterations": 58}}
    return [
        Group(NAV_PICK + place, arm, {**shared, **settings, **ARMS[arm], **fewer.get(arm, {})})
        for place, (settings, arms) in places.items()
        for arm in ARMS
        if arm in arms
    ]


def place_of(task: str) -> str:
    """Return what tables and pictures call a task: in Nav & Pick the place and, after commas, what is special there."""
    return task.removeprefix(NAV_PICK).replace("-", ", ")


# ------------------------------------------------------------------------------------------------------------ the runs


def plan_runs(budget: str, groups: list[Group], seeds: int, data: Path | None = None) -> list[Run]:
    """Return the runs of these groups with their settings, seed by seed: a stop leaves few seeds of everything.

    data: a data set beside our home; without it the groups that need one are left out.
    """
    groups = [group for group in groups if data or "habitat_data" not in group.settings]
    runs = []
    for seed in range(seeds):
        for group in groups:
            shared = BUDGETS[budget].settings if group.task in TASKS else {}
            settings = {**shared, **group.settings, "seed": seed}
            for name in {"replies", "habitat_data"} & settings.keys():
                settings[name] = settings[name].format(seed=seed, data=data and data.resolve())
            runs.append(Run(budget, group, settings))
    return runs


def can_run(run: Run) -> bool:
    """Return whether what a run needs is installed: for Nav & Pick the simulator and habitat-lab."""
    return run.group.task in TASKS or all(find_spec(package) for package in ("habitat_sim", "habitat"))


def find_horizon(budget: str, task: str) -> int:
    """Return the environment steps over which the area under a learning curve is taken."""
    return BUDGETS[budget].horizon if task in TASKS else HABITAT_HORIZON
