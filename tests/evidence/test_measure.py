"""What is measured of a finished run: when it learns, with hand-worked numbers, and the command that repeats it."""

import json

import numpy as np
import pytest

from evidence.measure import (
    Metrics,
    area_under_curve,
    how_made,
    measure_run,
    moving_average,
    read_training,
    repeat_command,
    steps_to_stay,
    thin_curve,
)
from evidence.plan import BOOKS, ROOT, Group, Run
from harness.cli import InputError
from harness.config import parse


def training(*success, width=2):
    """Metrics of iterations of 100 steps each."""
    values = np.array(success)
    return Metrics(100.0 * np.arange(1, len(values) + 1), values / 2, values, width)


def test_a_mean_needs_all_its_episodes():
    assert moving_average(np.array([1.0, 0.0, 0.8, 1.0]), 2).tolist() == pytest.approx([0.5, 0.4, 0.9])


@pytest.mark.parametrize(
    ("success", "steps"),
    [
        ((1.0, 1.0, 1.0), 200),  # from the first whole mean on
        ((0.0, 1.0, 0.9, 0.9), 300),  # means 0.5, 0.95, 0.9
        ((1.0, 1.0, 0.0, 1.0, 1.0), 500),  # touched at 200, held from 500 on
        ((1.0, 1.0, 0.8), 200),  # exactly 0.9
        ((1.0, 1.0, 0.7), None),  # lost at the end
        ((0.0, 0.0), None),
        ((1.0,), None),  # fewer episodes than a mean has
    ],
)
def test_steps_from_which_the_mean_stays(success, steps):
    assert steps_to_stay(training(*success), 0.9) == steps


def test_the_area_under_a_curve_hand_worked():
    metrics = training(0.0, 0.4, 0.8)
    assert area_under_curve(metrics, metrics.success, 300) == pytest.approx(0.4)
    assert area_under_curve(metrics, metrics.success, 150) == pytest.approx((0 * 100 + 0.4 * 50) / 150)
    # Beyond its end a run goes on with the mean of its last episodes, 0.6.
    assert area_under_curve(metrics, metrics.success, 600) == pytest.approx((120 + 0.6 * 300) / 600)


def test_a_curve_has_a_point_for_a_hundred_episodes():
    points = thin_curve(training(0.0, 0.4, 0.8, 0.8, 1.0))
    assert points[:, 0].tolist() == [200, 400, 500]
    assert points[:, 2].tolist() == pytest.approx([0.2, 0.8, 1.0])
    assert points[:, 1].tolist() == pytest.approx([0.1, 0.4, 0.5])


def test_a_run_is_measured(tmp_path, make_run):
    folder = make_run(tmp_path / "run", [0.0, 1.0, 1.0, 1.0], method="ppo", seed=3)
    run = Run("default", Group("SimpleDoorKey", "ppo", {}), {"env": "SimpleDoorKey", "method": "ppo", "seed": 3})
    row = measure_run(run, folder)
    told = {"run": "default/SimpleDoorKey-ppo-seed3", "seed": 3, "steps": 400, "steps_to_50": 200, "steps_to_90": 300}
    assert told.items() <= row.items()
    assert row["teacher_return"] == ""
    assert (row["commit"], row["torch"], row["seconds"], row["memory_mib"]) == ("abc1234", "2.0", 10.0, 300)
    assert row["auc_success"] == pytest.approx((300 + 1.0 * (300_000 - 400)) / 300_000)
    assert read_training(folder).width == 2


def test_the_llm_alone_has_no_learning(tmp_path, make_run):
    folder = make_run(tmp_path / "run", method="llm-only")
    run = Run(
        "default", Group("SimpleDoorKey", "llm-only", {}), {"env": "SimpleDoorKey", "method": "llm-only", "seed": 0}
    )
    row = measure_run(run, folder)
    assert {row[name] for name in ("steps", "auc_success", "steps_to_90", "horizon")} == {""}
    assert row["teacher_return"] == row["return"] == 0.5


@pytest.mark.parametrize(
    "given", [{"env": "SimpleDoorKey"}, {"env": "habitat-navpick", "seed": 3}, {"env": "habitat-nav", "i1": 15}]
)
def test_the_command_of_a_row_is_that_of_its_run(given, tmp_path, make_run):
    given = {**given, "num_trajectories": 20, "anneal_learning_rate": False}
    command = repeat_command(make_run(tmp_path / "a", **given, run_dir="somewhere"))
    assert given.items() <= vars(parse(command.removeprefix("python train.py ").split())).items()


def test_a_command_names_no_folder_that_others_lack(tmp_path, make_run):
    command = repeat_command(make_run(tmp_path / "a", env="habitat-navpick", habitat_data=str(tmp_path / "data")))
    assert "--habitat-data DIR" in command
    assert str(tmp_path) not in command


def test_a_book_that_git_ignores_is_made_by_the_command(tmp_path, make_run):
    folder = make_run(tmp_path / "a", replies=str(BOOKS / "flipped-50-1.jsonl"))
    made, _, trained = repeat_command(folder).partition(" && ")
    assert made == "python -m evidence.books flipped-50-1"
    assert "--replies runs/books/flipped-50-1.jsonl" in trained


@pytest.mark.parametrize("name", ["runs/books/flipped-50-1.jsonl", "replies/second/smollm2-135m-soft.jsonl"])
def test_the_command_is_the_same_for_a_run_that_another_clone_made(name, tmp_path, make_run):
    here = repeat_command(make_run(tmp_path / "a", replies=str(ROOT / name)))
    there = repeat_command(make_run(tmp_path / "b", replies=f"/elsewhere/clone/{name}"))
    assert here == there
    assert f"--replies {name}" in there


def test_a_book_that_nobody_else_has_is_refused(tmp_path, make_run):
    with pytest.raises(InputError, match=r"my\.jsonl is no reply book of this project"):
        repeat_command(make_run(tmp_path / "a", replies=str(tmp_path / "my.jsonl")))


def test_what_several_processes_did_is_added_up(tmp_path, make_run):
    (entry,) = json.loads((make_run(tmp_path / "a") / "provenance.json").read_text())
    made = how_made([entry, {**entry, "commit": "def5678", "seconds": 5.0, "memory_mib": 200, "requests": 7}])
    assert (made["commit"], made["seconds"], made["memory_mib"], made["requests"]) == ("abc1234, def5678", 15, 300, 7)
    assert made["processor"] == "a CPU"
