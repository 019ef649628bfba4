"""Runs from end to end: what they leave behind, what each method does, and that they learn."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT, TINY, TRAIN, assert_same_run, read_metrics, stored_task, tiny, weights
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import envs
import nets
import ppo
import rollout
import teacher as teachers
import train
from harness.config import config_class, default_config
from harness.task import open_task
from harness.workers import Workers

pytestmark = pytest.mark.usefixtures("tidy")


# --------------------------------------------------------------------------------------------- what a run leaves behind


def check_run_folder(folder, settings):
    config = json.loads((folder / "config.json").read_text())
    assert config.keys() == {f.name for f in fields(config_class(settings["env"]))}
    assert {name: config[name] for name in settings} == settings

    rows = read_metrics(folder)
    assert [int(row["iteration"]) for row in rows] == list(range(settings["iterations"]))
    steps = [int(row["steps"]) for row in rows]
    assert all(0 < b - a <= 60 * settings["num_trajectories"] for a, b in zip([0, *steps], steps))

    events = EventAccumulator(str(folder))
    events.Reload()
    for name in ("return", "success", "lambda", "entropy", "steps_per_second"):
        assert [event.step for event in events.Scalars(name)] == steps
    assert [e.value for e in events.Scalars("entropy")] == pytest.approx([float(row["entropy"]) for row in rows])

    with Image.open(folder / "curve.png") as curve:
        assert min(curve.size) > 100
    with Image.open(folder / "play.gif") as film:
        assert film.n_frames > 3

    task = stored_task(folder)
    student = task.make_student(len(task.option_names) if config["method"] == "hierarchical" else 1)
    student.load_state_dict(weights(folder))
    result = json.loads((folder / "eval.json").read_text())
    check_result(result, settings)
    assert result["weights"] == sum(p.numel() for p in student.parameters())
    check_episodes(folder, result)
    assert not list(folder.glob("*.part"))


def check_episodes(folder, result):
    with (folder / "episodes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    measured = {"student": result, **({"teacher": result["teacher"]} if "teacher" in result else {})}
    assert [row["actor"] for row in rows] == [actor for actor in measured for _ in range(result["episodes"])]
    for actor, means in measured.items():
        own = [row for row in rows if row["actor"] == actor]
        assert [int(own[0]["room"]), int(own[-1]["room"])] == result["seeds"]
        for name in ("return", "length", "success"):
            assert np.mean([float(row[name]) for row in own]) == pytest.approx(means[name])


def check_result(result, settings):
    for name in ("env", "method", "episodes"):
        assert result[name] == settings[name]
    assert result["seeds"] == [200_000_001, 200_000_001 + 2 * (settings["episodes"] - 1)]
    assert 0 <= result["return"] <= result["success"] <= 1
    assert 1 <= result["length"] <= 60


@pytest.mark.parametrize("method", ["llm4teach", "hierarchical", "ppo"])
def test_run_folder(method, tmp_path, capsys):
    train.main(tiny(tmp_path / "run", method=method))
    check_run_folder(tmp_path / "run", {**TINY, "method": method})
    assert ("teacher" in json.loads(Path("run/eval.json").read_text())) == (method == "llm4teach")
    printed = capsys.readouterr()
    assert "student" in printed.out
    assert f"paper, {method}" in printed.out
    for told in ("lambda", "return", "success", "distance to teacher" if method != "ppo" else "no teacher", "steps/s"):
        assert told in printed.err


@pytest.mark.slow
def test_run_folder_of_the_paper_student(tmp_path):
    settings = {"student": "paper", "iterations": 1, "num_trajectories": 1, "episodes": 1}
    train.main(tiny(tmp_path / "run", **settings))
    check_run_folder(tmp_path / "run", {**TINY, **settings})
    assert json.loads(Path("run/eval.json").read_text())["weights"] == 843_576


@pytest.mark.parametrize(  # 23,836 and 843,576 weights
    ("student", "allowed", "threads"), [("small", 8, 1), ("paper", 8, 6), ("paper", 4, 4), ("paper", 1, 1)]
)
def test_the_size_of_a_student_decides_how_many_threads_torch_has(monkeypatch, student, allowed, threads):
    chosen = []
    monkeypatch.setattr(train, "count_cores", lambda: 6)
    monkeypatch.setattr(train, "THREADS", allowed)
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    train.make_student(open_task(replace(default_config("SimpleDoorKey"), student=student)), Workers())
    assert chosen[-1] == threads


def test_omp_num_threads_is_the_most_that_a_large_net_takes():
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "import train; print(train.THREADS)"]
    printed = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    assert printed.stdout.split() == ["1"]


def test_llm_only_writes_a_result_and_no_student(tmp_path, capsys):
    train.main(tiny(tmp_path / "run", method="llm-only"))
    check_result(json.loads(Path("run/eval.json").read_text()), {**TINY, "method": "llm-only"})
    files = {".lock", "config.json", "provenance.json", "eval.json", "episodes.csv"}
    assert {path.name for path in Path("run").iterdir()} == files
    assert "paper, llm-only" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("deterministic", [False, True])
def test_llm_only_in_subprocess(deterministic, tmp_path):
    # the recorded teacher solves every SimpleDoorKey
    arguments = ["--env", "SimpleDoorKey", "--method", "llm-only", "--episodes", "20", "--run-dir", "run"]
    subprocess.run([*TRAIN, *arguments, *["--deterministic"] * deterministic], cwd=tmp_path, check=True, timeout=100)
    result = json.loads((tmp_path / "run" / "eval.json").read_text())
    assert result["success"] >= 0.9
    assert result["deterministic"] == deterministic


@pytest.mark.parametrize(
    ("changes", "warned"),
    [({}, True), ({"i2": 1}, False), ({"anneal": "constant"}, False), ({"method": "hierarchical"}, False)],
)
def test_a_student_that_never_trained_alone_is_warned_of(no_pictures, capsys, changes, warned):
    train.main(tiny("run", **changes))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "never trained" in line] or [""]
    assert bool(line) == warned
    assert ("lambda was 0.1 at the end; the run had 2 iterations, --i2 is 9" in line) == warned


def test_eval_reproduces_the_numbers(finished, no_pictures):
    before = json.loads((finished / "eval.json").read_text())
    (finished / "eval.json").unlink()
    train.main(["--eval", str(finished)])
    assert json.loads((finished / "eval.json").read_text()) == before
    train.main(["--eval", str(finished), "--episodes", "3", "--deterministic"])
    after = json.loads((finished / "eval.json").read_text())
    assert (after["episodes"], after["seeds"], after["deterministic"]) == (3, [200_000_001, 200_000_005], True)
    assert weights(finished).keys() == nets.small_student(envs.NUM_ACTIONS).state_dict().keys()


def test_eval_measures_the_students_weights(finished, monkeypatch, no_pictures):
    state = weights(finished)
    state["actor.bias"] = torch.tensor([0.0, 0, 1e4, 0, 0, 0, 0])  # forward, whatever it sees
    torch.save(state, finished / "student.pt")
    films = []
    watch = rollout.rollout
    monkeypatch.setattr(rollout, "rollout", lambda *arguments: films.append(watch(*arguments)) or films[-1])
    train.main(["--eval", str(finished)])
    assert {step.action for trajectory in films[0] for step in trajectory} == {2}


# --------------------------------------------------------------------------------------------------------- the methods


def test_same_seed_same_metrics_other_seed_other_metrics(finished_once, no_pictures):
    train.main(tiny("again"))
    assert_same_run(Path("again"), finished_once)
    train.main(tiny("other", seed=1))
    assert (Path("other") / "metrics.csv").read_bytes() != (finished_once / "metrics.csv").read_bytes()


def test_a_teacher_that_never_answers_leaves_plain_ppo(no_pictures):
    Path("book.jsonl").write_text('{"state": "that is never met", "plans": {"explore": 1.0}}\n')
    train.main(tiny("silent", replies="book.jsonl", unknown_state="silent"))
    train.main(tiny("ppo", method="ppo"))
    silent, alone = weights(Path("silent")), weights(Path("ppo"))
    assert [row["no_advice_share"] for row in read_metrics(Path("silent"))] == ["1.0", "1.0"]
    assert all(torch.equal(silent[name], alone[name]) for name in alone)


def test_ppo_never_builds_a_teacher(monkeypatch, no_pictures):
    def built(*_):
        raise AssertionError("a teacher was built")

    for part in (teachers.Teacher, teachers.EveryOption, teachers.RecordedReplies):
        monkeypatch.setattr(part, "__init__", built)
    monkeypatch.setattr(teachers, "read_replies", built)
    train.main(tiny("run", method="ppo"))
    assert [(row["lambda"], row["distance"], row["invalid_share"]) for row in read_metrics(Path("run"))] == [
        ("0.0", "", "")
    ] * 2


def test_teacher_is_not_asked_where_lambda_is_0(monkeypatch):
    asked = []
    answer = teachers.Teacher.__call__
    monkeypatch.setattr(teachers.Teacher, "__call__", lambda self, state: asked.append(1) or answer(self, state))
    monkeypatch.setattr(train, "report", lambda *_: None)
    train.main(tiny("run", iterations=4, i1=1, i2=2))
    rows = read_metrics(Path("run"))
    assert [float(row["lambda"]) for row in rows] == [10, 0.1, 0, 0]
    assert [row["distance"] != "" for row in rows] == [True, True, False, False]
    assert len(asked) == int(rows[1]["steps"])  # once in every state visited until then


def test_hierarchical_learns_weights_and_never_leaves_its_teachers(no_pictures):
    train.main(tiny("run", method="hierarchical", iterations=3, i2=1, learning_rate=0.01))
    assert [float(row["lambda"]) for row in read_metrics(Path("run"))] == [10, 0.1, 0.1]
    task = stored_task(Path("run"))
    student, _ = train.make_student(task, Workers())  # before the training
    learned = weights(Path("run"))
    assert learned["over_teachers.weight"].shape == (len(task.option_names), 64)
    assert not torch.equal(learned["over_teachers.weight"], student.over_teachers.weight)


def test_settings_reach_the_update(monkeypatch, no_pictures):
    received = []
    update = ppo.update

    def spy(student, optimizer, batch, lambda_, **settings):
        received.append((lambda_, optimizer.param_groups[0]["lr"], settings))
        return update(student, optimizer, batch, lambda_, **settings)

    monkeypatch.setattr(ppo, "update", spy)
    chosen = {"epochs": 2, "minibatch_size": 50, "max_grad_norm": 0.4, "clip": 0.1, "value_coef": 0.6}
    chosen.update(entropy_coef=0.02, uniform_coef=0.3)
    train.main(tiny("run", learning_rate=0.01, **chosen))
    for _, _, settings in received:
        assert {name: settings[name] for name in chosen} == chosen
    assert [(lambda_, lr) for lambda_, lr, _ in received] == [(10, 0.01), (0.1, 0.005)]  # Adam's rate falls linearly
    train.main([*tiny("other", learning_rate=0.01), "--no-anneal-learning-rate"])
    assert [lr for _, lr, _ in received[2:]] == [0.01, 0.01]


def test_training_and_evaluation_rooms_never_meet(monkeypatch, no_pictures):
    used = []
    play = rollout.rollout
    for module in (train, rollout):
        monkeypatch.setattr(
            module, "rollout", lambda groups, seeds, *how: used.append(list(seeds)) or play(groups, seeds, *how)
        )
    for seed in (0, 1):
        train.main(tiny(f"run{seed}", seed=seed, iterations=3, method="ppo"))
    *training0, evaluation0 = used[:4]
    *training1, evaluation1 = used[4:]
    training = [seed for seeds in (*training0, *training1) for seed in seeds]
    assert len(training) == len(set(training)) == 2 * 3 * TINY["num_trajectories"]
    assert evaluation0 == [200_000_001, 200_000_003]
    assert evaluation1 == [202_000_001, 202_000_003]
    assert all(seed % 2 == 0 for seed in training)


# ------------------------------------------------------------------------------------------------------- does it learn?


@pytest.mark.slow
def test_llm4teach_learns_simple_door_key_and_ppo_alone_does_not(no_pictures):
    settings = {
        "env": "SimpleDoorKey", "episodes": 100, "num_trajectories": 50, "epochs": 3, "minibatch_size": 256,
        "learning_rate": 1e-3, "entropy_coef": 1e-3, "value_coef": 0.5, "discount": 0.99, "gae_lambda": 0.95,
        "clip": 0.2, "max_grad_norm": 0.5, "student": "small", "options": "paper", "teacher_mode": "soft",
    }  # fmt: skip
    train.main(tiny("taught", **settings, iterations=14, i1=7, i2=14))
    steps = int(read_metrics(Path("taught"))[-1]["steps"])
    # PPO alone runs nearly every episode into the limit of 150 steps: as many environment steps in fewer iterations
    train.main(tiny("alone", **settings, method="ppo", iterations=-(-steps // (50 * 140))))
    assert int(read_metrics(Path("alone"))[-1]["steps"]) >= steps
    taught, alone = (json.loads((Path(run) / "eval.json").read_text()) for run in ("taught", "alone"))
    assert taught["success"] >= 0.9
    assert taught["return"] >= 0.6
    assert alone["success"] < 0.3
