"""Nav & Pick as train.py sees it: settings, states, answers, advice."""

import importlib.util
import itertools
import re

import numpy as np
import pytest
import torch

import ppo
import train
from harness.cli import InputError
from harness.config import configure
from harness.task import check_task, open_task
from llm.prompts import Prompt
from llm.query import make_query
from llm.replies import read_answer
from navpick import envs, options
from navpick.layout import sensor_slice
from navpick.nets import STUDENTS
from teacher import NO_PLAN, EveryOption, Teacher, read_replies
from tests.navpick.readings import readings

TASK = open_task(configure({"env": "habitat-navpick"}))
RESTRICTED = open_task(configure({"env": "habitat-navpick", "start_anywhere": False}))
KINDS = [pytest.param(kind, marks=[pytest.mark.slow] * (kind == "paper")) for kind in STUDENTS]


@pytest.mark.skipif(importlib.util.find_spec("habitat_sim") is not None, reason="habitat-sim is installed")
def test_without_habitat_there_is_one_line(capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        train.main(["--env", "habitat-navpick", "--run-dir", str(tmp_path / "run")])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "Habitat is not installed" in line
    assert "conda env create -f environment.yml" in line


@pytest.mark.skipif(importlib.util.find_spec("habitat_sim") is not None, reason="habitat-sim is installed")
def test_random_steps_without_habitat_are_one_line(capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        envs.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"navpick\.envs: Habitat cannot be imported \(.*conda env create", line)


def test_options_of_another_task():
    with pytest.raises(InputError, match="choose from paper, repaired"):
        check_task(open_task(configure({"options": "scripted"})))


def all_states():
    """Every state text: what is seen, what else, and what is held."""
    for near, target, others, holding in itertools.product((0, 1), repeat=4):
        observation = readings(in_reach=near, is_holding=holding)
        observation[sensor_slice("sees_target")] = target
        observation[sensor_slice("sees_others")] = others
        yield envs.describe(observation)


def test_the_recorded_answers_know_every_state():
    book = read_replies(TASK.book)
    assert set(book) == set(all_states())
    assert len(book) == 8


@pytest.mark.parametrize(
    ("answer", "plan"),
    [
        ("Scene: ...\nReasoning: pick needs reach\nDecision: navigate, pick", "navigate, pick"),
        ("Decision: 1. Go to the target object 2. grab it", "navigate, pick"),
        ("Decision: wait", NO_PLAN),
        ("Reasoning: it should navigate", NO_PLAN),
    ],
)
def test_plans_of_the_robot(answer, plan):
    record = {"answer": answer, "state": "The robot sees no objects, and holds nothing."}
    assert read_answer(record, Prompt.of(TASK)) == {plan: 1.0}


@pytest.mark.parametrize(
    ("task", "far", "holding"),
    [(TASK, *[{"navigate": 0.7, "pick": 0.3}] * 2), (RESTRICTED, {"navigate": 1.0}, {"pick": 1.0})],
)
def test_the_llm_chooses_only_where_options_can_start_anywhere(task, far, holding):
    teacher = Teacher(lambda _: {"navigate": 0.7, "pick": 0.3}, task.describe, task.make_option, None)
    there = {"path_length": 2.0}
    assert teacher.option_probabilities(readings(**there)) == pytest.approx(far)
    assert teacher.option_probabilities(readings(**there, is_holding=1)) == pytest.approx(holding)
    assert teacher.option_probabilities(readings(in_reach=1)) == pytest.approx({"pick": 1.0})  # navigate is done


def test_with_restricted_options_the_control_is_the_llms_teacher_in_every_state():
    control = open_task(configure({"env": "habitat-navpick", "start_anywhere": False, "teacher_mode": "uniform"}))
    both = [Teacher(make_query(t), t.describe, t.make_option, None) for t in (RESTRICTED, control)]
    for near, target, others, holding in itertools.product((0, 1), repeat=4):
        seen = {"sees_target": target, "sees_others": others}
        state = readings(path_length=2.0, in_reach=near, is_holding=holding, **seen)
        llm, uniform = (teacher(state) for teacher in both)
        assert llm.prior.tolist() == uniform.prior.tolist() == [1.0]
        np.testing.assert_array_equal(llm.policies, uniform.policies)


def test_gaussian_options_stay_apart_in_the_advice_and_the_batch():
    shares = {"navigate, pick": 0.75, "pick": 0.2, "sing": 0.05}
    teacher = Teacher(lambda _: shares, lambda _: "a state", RESTRICTED.make_option, None)
    far, near = (
        readings(obj_start_gps_compass=(2.0, 0.0), corner_distance=1.0, path_length=1.0),
        readings(obj_start_gps_compass=(0.6, 0.0)),
    )
    assert teacher(far).prior.tolist() == [1.0]  # pick cannot start, singing is no option
    np.testing.assert_array_equal(teacher(far).policies[0], TASK.make_option("navigate").policy(far))
    assert teacher(near).prior.tolist() == [1.0]  # navigate is done, pick acts in both plans
    nobody = Teacher(lambda _: {"sing": 1.0}, lambda _: "", TASK.make_option, None)(far)
    assert len(nobody.prior) == 0
    every = EveryOption(lambda _: list(options.OPTION_NAMES), lambda _: "", RESTRICTED.make_option, None)(far)
    assert every.prior.tolist() == [1.0, 0.0]
    stacked, policies = train.stack_advice([teacher(far), nobody, every], TASK)
    assert stacked.tolist() == [[1, 0], [0, 0], [1, 0]]
    assert policies.shape == (3, 2, 2, 11)
    np.testing.assert_array_equal(policies[2], every.policies)
    none, empty = train.stack_advice([nobody, nobody], TASK)
    assert none.tolist() == [[0], [0]]
    weights, to_uniform = ppo.weigh_teachers(torch.zeros(2, 1), none)
    policy = ppo.DiagonalGaussian(11, 0.5)(torch.zeros(2, 11))
    assert ppo.distance(weights, empty, policy).tolist() == to_uniform.tolist() == [0, 0]
