"""The planned runs are ones that train.py accepts, seed by seed."""

import pytest

import reproduce
from evidence.plan import ARMS, BOOKS, BUDGETS, TASKS, find_horizon, main_groups, plan_runs, teacher_groups
from evidence.runs import flags
from harness.config import parse


@pytest.mark.parametrize("budget", BUDGETS)
def test_every_planned_run_is_one_that_train_takes(budget, tmp_path):
    for target in reproduce.TARGETS.values():
        for run in plan_runs(budget, target.groups(BUDGETS[budget]), 2, tmp_path):
            assert "{" not in "".join(map(str, run.settings.values()))
            assert vars(parse(flags(run.settings))) == run.settings


def test_paper_is_the_papers_protocol():
    runs = plan_runs("paper", main_groups(BUDGETS["paper"]), BUDGETS["paper"].seeds)
    taught = [run.settings for run in runs if run.group.name == "LavaDoorKey-llm4teach"]
    assert [settings["seed"] for settings in taught] == [0, 1, 2, 3, 4]
    paper = {"i1": 1000, "i2": 2000, "num_trajectories": 10, "minibatch_size": 128, "episodes": 1000}
    assert paper.items() <= taught[0].items()
    assert sum(run.group.name == "LavaDoorKey-ppo" for run in runs) == 5  # as many as ours


def test_runs_are_planned_seed_by_seed():
    runs = plan_runs("default", main_groups(BUDGETS["default"]), 10)
    assert len(runs) == 10 * 5 * len(TASKS)
    assert [run.settings["seed"] for run in runs] == sorted(run.settings["seed"] for run in runs)
    assert len({run.name for run in runs}) == len(runs)
    assert runs[0].name == f"default/{runs[0].folder}" == "default/SimpleDoorKey-llm-only-seed0"


def test_a_faulty_run_has_a_book_of_its_own():
    groups = reproduce.TARGETS["robustness"].groups(BUDGETS["default"])
    runs = [run for run in plan_runs("default", groups, 3) if "replies" in run.settings]
    assert {run.settings["replies"] for run in runs} >= {str(BOOKS / f"flipped-25-{seed}.jsonl") for seed in range(3)}
    assert len({run.settings["replies"] for run in runs}) == len(runs)


def test_two_seeds_do_not_compare_two_recordings():
    arms = {name: {group.arm for group in teacher_groups(budget)} for name, budget in BUDGETS.items()}
    assert arms["default"] - arms["quick"] == {"smollm2-135m-soft-again"}


def test_a_data_set_that_is_not_given_is_left_out(tmp_path):
    groups = reproduce.TARGETS["fig6"].groups(BUDGETS["default"])
    homes = {f"navpick-home{kind}" for kind in ("", "-restricted", "-learned", "-learned-restricted")}
    assert {run.group.task for run in plan_runs("default", groups, 1)} == homes
    runs = plan_runs("default", groups, 1, tmp_path)
    assert {run.settings.get("habitat_data", "") for run in runs} == {"", str(tmp_path)}


def test_in_habitat_nothing_is_run_twice_under_two_names():
    places = {}
    for group in reproduce.TARGETS["fig6"].groups(BUDGETS["default"]):
        places.setdefault(group.task, set()).add(group.arm)
    assert places["navpick-home"] == places["navpick-replicacad"] == set(ARMS)
    assert places.pop("navpick-home-restricted") == set(ARMS) - {"ppo"}  # shows that the control is the LLM's very run
    for place, arms in places.items():
        assert ("uniform" in arms) == ("restricted" not in place)
        assert ("ppo" in arms) == (not {"learned", "restricted"} & set(place.split("-")))  # it uses no options
        assert ("llm-only" in arms) == (not {"learned", "guided"} & set(place.split("-")))  # it has no student


def test_horizons():
    assert find_horizon("paper", "LavaDoorKey") == 600_000
    assert find_horizon("default", "navpick-home") == 300_000
