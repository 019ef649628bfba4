"""Learned options: read, taken for the scripted ones, shipped with a card."""

import json
import re
import shlex

import numpy as np
import pytest
import torch

from harness.cli import InputError
from harness.config import configure, parse
from harness.run_files import read_weights, write_config, write_weights
from harness.task import open_task
from navpick import learned, options
from navpick.dataset import HOME
from navpick.layout import NUM_SENSORS, SIZE
from navpick.learned import learned_policies
from navpick.nets import STUDENTS
from nets import small_student
from tests.navpick.readings import readings

KINDS = [pytest.param(kind, marks=[pytest.mark.slow] * (kind == "paper")) for kind in STUDENTS]


@pytest.mark.parametrize("kind", KINDS)
def test_trained_students_take_the_place_of_the_script(kind, tmp_path):
    paths, students = [tmp_path / "nav.pt", tmp_path / "pick.pt"], []
    for path in paths:
        students.append(STUDENTS[kind](11, num_sensors=NUM_SENSORS))
        torch.nn.init.normal_(students[-1].actor.weight)
        write_weights(path, students[-1].state_dict())
    task = open_task(configure({"env": "habitat-navpick", "options": ",".join(map(str, paths))}))
    make_option = task.make_option
    observation = readings(obj_start_gps_compass=(2.0, 0.1))
    for name, student in zip(options.OPTION_NAMES, students):
        policy = student(torch.from_numpy(observation)[None]).policy
        mean, deviation = make_option(name).policy(observation)
        np.testing.assert_allclose(mean, policy.mean[0].detach(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(deviation, policy.stddev[0].detach(), rtol=1e-5)
        arrived = readings(in_reach=1)
        assert make_option(name).is_done(arrived) == (name == "navigate")
    with pytest.raises(ValueError, match="dance"):
        make_option("dance")


@pytest.mark.parametrize("what", ["of another task", "no file", "no weights"])
def test_options_that_cannot_be_loaded(what, tmp_path):
    path = tmp_path / "nav.pt"
    if what == "of another task":
        write_weights(path, small_student(7).state_dict())
    elif what == "no weights":
        path.write_text("a picture of a robot")
    with pytest.raises(InputError) as error:
        learned_policies(f"{path},{path}", HOME)
    line = str(error.value)
    assert "\n" not in line
    assert str(path) in line
    assert {"of another task": "not the student.pt of an option", "no file": "No such file"}.get(what, "") in line


def test_words_that_name_no_options():
    with pytest.raises(InputError, match=r"give scripted, learned, or a student\.pt for each of navigate, pick"):
        learned_policies("paper", HOME)


@pytest.fixture
def finished_run(tmp_path):
    """A run folder of habitat-nav as train.py leaves it."""
    settings = {"env": "habitat-nav", "method": "ppo", "iterations": 7, "learning_rate": 5e-4, "seed": 3}
    config = configure({**settings, "episodes": 20, "workers": 2, "run_dir": str(tmp_path)})
    student = STUDENTS["small"](11, num_sensors=NUM_SENSORS)
    write_config(config, tmp_path)
    write_weights(tmp_path / "student.pt", student.state_dict())
    measured = {"success": 0.85, "episodes": 20, "return": 1.5, "length": 99.25, "weights": 261111}
    (tmp_path / "eval.json").write_text(json.dumps(measured))
    rows = "iteration,steps,lambda,return,success,length\n0,1200,1,0,0,9\n1,2500,0,1,1,9\n"
    (tmp_path / "metrics.csv").write_text(rows)
    (tmp_path / "provenance.json").write_text(json.dumps([{"commit": "abc1234"}, {"commit": "abc1234"}]))
    return tmp_path, student


def test_a_student_ships_in_half_precision_with_its_card(finished_run, tmp_path, monkeypatch):
    monkeypatch.setattr(learned, "WEIGHTS", tmp_path / "weights")
    run_dir, student = finished_run
    path = learned.ship(run_dir)
    assert path == tmp_path / "weights" / "home-navigate.pt"
    assert path.stat().st_size < 600_000
    for name, weight in read_weights(path).items():
        assert weight.dtype == torch.float16
        torch.testing.assert_close(weight.float(), student.state_dict()[name], rtol=1e-3, atol=1e-6)
    card = path.with_suffix(".md").read_text()
    command = "python train.py --env habitat-nav --method ppo --seed 3 --iterations 7 --learning-rate 0.0005"
    for row in (
        f"`{command}`",
        "| ppo |",
        "| 3, 2 |",
        "| abc1234 |",
        "2,500",
        "85% of 20 unseen episodes",
        "1.50, 99.2",
        "MIT",
    ):
        assert row in card
    write_weights(tmp_path / "weights" / "home-pick.pt", student.state_dict())
    assert set(learned_policies("learned", HOME)) == {"navigate", "pick"}


@pytest.mark.parametrize("path", sorted(learned.WEIGHTS.glob("*.pt")), ids=lambda path: path.stem)
def test_what_ships_is_small_and_acts_and_its_card_has_its_command(path):
    assert path.stat().st_size < 2**20
    means, deviations = learned.read_policy(path)(np.zeros(SIZE, np.float32))
    assert means.shape == deviations.shape == (11,)
    assert np.isfinite(means).all()
    assert (deviations > 0).all()
    command = re.search(r"`python train.py (.+)`", path.with_suffix(".md").read_text(encoding="utf-8"))[1]
    assert learned.TASKS[parse(shlex.split(command)).env] in path.stem


def test_the_command_of_a_run_on_other_data(tmp_path):
    settings = vars(configure({"env": "habitat-pick", "habitat_data": str(tmp_path), "workers": 3}))
    assert learned.command(settings) == "python train.py --env habitat-pick --habitat-data DIR"


def test_the_command_of_a_run_with_a_constant_learning_rate():
    command = learned.command(vars(configure({"env": "habitat-nav", "anneal_learning_rate": False})))
    assert command == "python train.py --env habitat-nav --no-anneal-learning-rate"
    assert parse(shlex.split(command)[2:]).anneal_learning_rate is False


def test_which_data_options_ship_for(tmp_path):
    (tmp_path / "replica_cad").mkdir()
    assert (learned.data_name(HOME), learned.data_name(tmp_path)) == ("home", "replicacad")
    assert {path.stem for path in learned.WEIGHTS.glob("*.pt")} == {
        f"{data}-{option}" for data in learned.DATA for option in options.OPTION_NAMES
    }
    with pytest.raises(
        InputError, match=r"neither the home nor ReplicaCAD; .* give their student\.pt as --options NAV"
    ):
        learned_policies("learned", tmp_path / "replica_cad")


@pytest.mark.parametrize("settings", [{"env": "habitat-navpick"}, {"env": "habitat-nav", "method": "llm-only"}])
def test_a_run_that_trained_no_option_does_not_ship(finished_run, settings):
    run_dir, _ = finished_run
    write_config(configure({**settings, "run_dir": str(run_dir)}), run_dir)
    with pytest.raises(InputError, match="habitat-nav or habitat-pick that trained a student"):
        learned.ship(run_dir)


@pytest.mark.parametrize("lacking", ["metrics.csv", "student.pt", "eval.json"])
def test_a_run_that_is_not_finished_does_not_ship(finished_run, lacking, tmp_path, monkeypatch):
    monkeypatch.setattr(learned, "WEIGHTS", tmp_path / "weights")
    run_dir, _ = finished_run
    (run_dir / lacking).unlink()
    with pytest.raises(InputError) as error:
        learned.ship(run_dir)
    assert str(error.value) == (f"{run_dir} is not finished, it has no {lacking}; python train.py --resume {run_dir}")
    assert not learned.WEIGHTS.exists()


@pytest.mark.parametrize("damaged", ["student.pt", "eval.json"])
def test_a_run_with_a_damaged_file_does_not_ship(finished_run, damaged, tmp_path, monkeypatch):
    monkeypatch.setattr(learned, "WEIGHTS", tmp_path / "weights")
    run_dir, _ = finished_run
    (run_dir / damaged).write_text("{")
    with pytest.raises(InputError, match=rf"{damaged} cannot be read \("):
        learned.ship(run_dir)
    assert not learned.WEIGHTS.exists()
