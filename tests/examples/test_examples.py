"""The three examples, and tasks of a user's own: good ones through every method, bad ones said in one line."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import train
from harness.config import configure
from harness.task import inspect_task, open_task
from teacher import read_replies

ROOT = Path(__file__).parents[2]
EXAMPLES = {"two_rooms.py": "TwoRooms", "taxi.py": "Taxi", "reach.py": "Reach"}
METHODS = ("llm4teach", "llm-only", "hierarchical", "ppo")
TINY = {"iterations": 1, "episodes": 1, "num_trajectories": 1, "epochs": 1, "i1": 1, "i2": 2}

CORRIDOR = """
import gymnasium as gym
import numpy as np


class Env(gym.Env):
    observation_space = gym.spaces.Box(0, 9, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.cell, self.steps = int(self.np_random.integers(9)), 0
        return np.array([self.cell], np.float32), {}

    def step(self, action):
        self.cell, self.steps = max(0, min(9, self.cell + 2 * int(action) - 1)), self.steps + 1
        return np.array([self.cell], np.float32), float(self.cell == 9), self.cell == 9, self.steps == 20, {}


class Walk:
    def __init__(self, step):
        self.step = step

    def can_start(self, observation):
        return True

    def policy(self, observation):
        return np.eye(2)[self.step]

    def is_done(self, observation):
        return False


class Corridor:
    option_names = ("left", "right")

    def make_env(self, render_mode=None):
        return Env()

    def describe(self, observation):
        return "the left half" if observation[0] < 5 else "the right half"

    def make_option(self, name):
        return Walk(self.option_names.index(name))
"""


SPACE = "gym.spaces.Box(0, 9, (1,), np.float32)"


def command(env, **settings):
    """Arguments of a tiny run."""
    settings = {"env": env, **TINY, **settings}
    return [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", str(value))]


@pytest.fixture(autouse=True)
def elsewhere(tidy, monkeypatch):
    """In an empty folder, and with the path as it was afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def write(tmp_path):
    """A function that writes the corridor's file, some of its text replaced, and returns what --env takes."""

    def write_task(*changes, name="corridor.py"):
        text = CORRIDOR
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / name).write_text(text)
        return f"{tmp_path / name}:Corridor"

    return write_task


def fail(capsys, arguments, code=2):
    """What a command that fails says on stderr, after the progress bar: one line where the exit code is 2."""
    with pytest.raises(SystemExit) as end:
        train.main(arguments)
    assert end.value.code == code
    said = "".join(line for line in capsys.readouterr().err.splitlines(keepends=True) if "it/s" not in line).strip("\r")
    if code == 2:
        assert said.count("\n") == 1
        assert said.startswith("train.py: ")
    return said


def rows(run_dir):
    return list(csv.DictReader((run_dir / "metrics.csv").open()))


# -------------------------------------------------------------------------------------------------------- the examples


@pytest.mark.parametrize(("file", "name"), EXAMPLES.items())
def test_an_example_is_one_short_file_that_fits_the_door(file, name):
    assert len((ROOT / "examples" / file).read_text().splitlines()) < 100
    task = open_task(configure({"env": f"{ROOT / 'examples' / file}:{name}"}))
    inspect_task(task)
    assert 1 < len(task.states()) == len(set(task.states())) <= 100


@pytest.mark.slow
@pytest.mark.parametrize(("file", "name"), EXAMPLES.items())
def test_the_teachers_numbers_on_the_page_are_what_comes_out(file, name, tmp_path):
    page = (ROOT / "docs" / "own_task.md").read_text(encoding="utf-8")
    table = [line.split("|") for line in page.split("## What the examples reach")[1].splitlines() if "|" in line]
    column = next(number for number, head in enumerate(table[0]) if file in head)
    success, score = next(line[column] for line in table if "llm-only" in line[1]).split(";")
    train.main(["--env", f"{ROOT / 'examples' / file}:{name}", "--method", "llm-only", "--seed", "1",
                "--run-dir", str(tmp_path / "run")])  # fmt: skip
    result = json.loads((tmp_path / "run" / "eval.json").read_text())
    assert 100 * result["success"] == pytest.approx(float(success.split(",")[1]), abs=0.6)  # an episode of 200
    assert result["return"] == pytest.approx(float(score.split(",")[1]), abs=0.02)


@pytest.mark.parametrize(("file", "name"), EXAMPLES.items())
def test_an_examples_book_answers_for_every_state(file, name):
    task = open_task(configure({"env": f"{ROOT / 'examples' / file}:{name}"}))
    book = read_replies(task.book)
    assert set(book) == set(task.states())
    options = {option.strip() for plans in book.values() for plan in plans for option in plan.split(",")}
    assert options - {"(not a plan)"} <= set(task.option_names)


@pytest.mark.parametrize("method", [pytest.param(m, marks=[pytest.mark.slow] * (m != "llm4teach")) for m in METHODS])
@pytest.mark.parametrize(("file", "name"), EXAMPLES.items())
def test_an_example_runs_with_every_method(file, name, method, tmp_path, no_pictures):
    train.main(command(f"{ROOT / 'examples' / file}:{name}", method=method, run_dir=tmp_path / "run"))
    result = json.loads((tmp_path / "run" / "eval.json").read_text())
    assert result["method"] == method
    assert {"return", "length", "success"} <= set(result)


@pytest.mark.slow
@pytest.mark.parametrize(("file", "name"), EXAMPLES.items())
def test_an_example_is_drawn(file, name, tmp_path):
    train.main(command(f"{ROOT / 'examples' / file}:{name}", method="ppo", run_dir=tmp_path / "run"))
    assert (tmp_path / "run" / "play.gif").exists()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS[1:])
def test_a_task_of_four_names_runs_with_every_method(write, method, tmp_path):
    train.main(command(write(), method=method, unknown_state="silent", run_dir=tmp_path / "run"))
    assert not (tmp_path / "run" / "play.gif").exists()  # it has no pictures


# ----------------------------------------------------------------------------------------------------------- bad tasks


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([("    def describe(", "    def tell(")], "has no describe; a task offers make_env, describe, option_names"),
        ([("return np.eye(2)", "return np.eye(3)")], r"each must be of shape \(2,\), a probability for each action"),
        ([('"the left half"', "1"), ('"the right half"', "2")], "describe returns [12]; it must return a text"),
        (
            [("np.eye(2)[self.step]", "np.array([0.5, 0.4])")],
            r"'left' returns \[0\.[\d, .]+\]; probabilities .* add up",
        ),
        (
            [("gym.spaces.Discrete(2)", "gym.spaces.MultiBinary(2)")],
            "has actions in MultiBinary.*; allowed are Discrete",
        ),
        ([("Discrete(2)", "Discrete(2, start=1)")], "allowed are Discrete from 0"),
        ([(SPACE, "gym.spaces.Sequence(gym.spaces.Discrete(2))")], r"observes Sequence\(.*, which cannot be flattened"),
        ([(SPACE, 'type("Mine", (gym.Space,), {})((1,), np.float32)')], "observes .*Mine.*, which cannot be flattened"),
        ([("self.steps == 20, {}", "{}")], "step returns 4 values.*old gym API"),
        ([("np.float32), {}\n\n    def step", "np.float32)\n\n    def step")], r"reset returns a ndarray"),
        ([('("left", "right")', "()")], "has no option_names"),
        ([('("left", "right")', '"left"')], "has option_names 'left'; they are a tuple of texts, at least one"),
        ([("    def is_done(self", "    def ended(self")], "option 'left' has no is_done"),
    ],
)
def test_a_bad_task_ends_in_one_line(write, changes, told, capsys):
    env = write(*changes)
    assert re.search(told, fail(capsys, command(env, method="ppo")))
    assert not Path("runs").exists()


def test_a_task_that_encodes_for_its_own_student_may_observe_what_cannot_be_flattened(write, tmp_path, no_pictures):
    own = """    def encode(self, observations):
        return np.array([[observation[0] / 9] for observation in observations], np.float32)

    def make_student(self, num_teachers):
        from nets import mlp_student

        return mlp_student(1, 2, num_teachers)

    def make_env("""
    env = write((SPACE, "gym.spaces.Sequence(gym.spaces.Discrete(10))"), ("    def make_env(", own))
    train.main(command(env, method="ppo", run_dir=tmp_path / "run"))
    assert (tmp_path / "run" / "eval.json").exists()


def test_continuous_actions_need_means_and_deviations(write, capsys):
    box = ("gym.spaces.Discrete(2)", "gym.spaces.Box(-1, 1, (2,), np.float32)")
    assert "it must be (2, 2)" in fail(capsys, command(write(box), method="ppo"))


def test_a_file_or_class_that_is_not_there(write, tmp_path, capsys):
    assert f"{tmp_path / 'none.py'} is not a file" in fail(capsys, command("none.py:Corridor"))
    file = write().rpartition(":")[0]
    assert "has no class 'Nothing'; it has Env, Walk, Corridor" in fail(capsys, command(f"{file}:Nothing"))
    assert "there is no module 'nowhere' here" in fail(capsys, command("nowhere:Corridor"))


def test_a_syntax_error_is_told_with_file_and_line(tmp_path, capsys):
    (tmp_path / "broken.py").write_text("class Corridor:\n    option_names = (\n")
    said = fail(capsys, command("broken.py:Corridor"))
    assert f"{tmp_path / 'broken.py'}, line 2: " in said


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("return np.eye(2)[self.step]", "return np.eye(2)[self.nothing]", id="before training"),
        pytest.param("super().reset(seed=seed)", "assert (seed or 0) < 5; super().reset(seed=seed)", id="in training"),
    ],
)
def test_an_exception_in_a_users_code_keeps_its_traceback_from_there_on(write, old, new, tmp_path, capsys):
    env = write((old, new))
    said = fail(capsys, command(env, method="hierarchical", num_trajectories=5, run_dir="run"), code=1)
    assert re.search("AttributeError: .*nothing|AssertionError", said)
    frames = re.findall(r'File "([^"]+)", line \d+', said)
    assert frames[0] == str(tmp_path / "corridor.py")


# ------------------------------------------------------------------------------------------ where a task is found again


def test_a_run_goes_on_and_is_measured_from_another_folder(write, tmp_path, monkeypatch, capsys, no_pictures):
    write()
    train.main(command("corridor.py:Corridor", method="hierarchical", run_dir="run"))
    assert json.loads(Path("run/config.json").read_text())["env"] == f"{tmp_path / 'corridor.py'}:Corridor"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    train.main(["--resume", "../run", "--iterations", "2"])
    assert len(rows(tmp_path / "run")) == 2
    train.main(["--eval", "../run", "--episodes", "2"])
    assert json.loads((tmp_path / "run" / "eval.json").read_text())["episodes"] == 2
    capsys.readouterr()

    from harness.find import find_task

    (tmp_path / "corridor.py").rename(tmp_path / "moved.py")
    find_task.cache_clear()  # as in a new process
    assert "corridor.py is not a file" in fail(capsys, ["--eval", "../run"])


def test_a_module_is_found_from_the_current_folder(write, tmp_path, no_pictures):
    (tmp_path / "mine").mkdir()
    write(name="mine/walks.py")
    train.main(command("mine.walks:Corridor", method="hierarchical", run_dir="run"))
    assert (tmp_path / "run" / "eval.json").exists()


# ------------------------------------------------------------------------------------------------------ unknown states


def test_states_without_an_answer_are_silent_and_kept(write, tmp_path, capsys, no_pictures):
    (tmp_path / "replies").mkdir()
    line = {"state": "the left half", "plans": {"right": 1.0}}
    (tmp_path / "replies" / "Corridor.jsonl").write_text(json.dumps(line) + "\n")
    train.main(command(write(), unknown_state="silent", num_trajectories=8, episodes=8, run_dir="run"))
    kept = [json.loads(line) for line in Path("run/unknown_states.jsonl").read_text().splitlines()]
    assert kept == [{"state": "the right half"}]
    assert 0 < float(rows(Path("run"))[0]["no_advice_share"]) < 1
    assert "1 states had no answer, and no advice was given there" in capsys.readouterr().out


def test_a_state_without_an_answer_stops_a_run_and_says_how_to_record_one(write, tmp_path, capsys):
    (tmp_path / "replies").mkdir()
    line = {"state": "nowhere", "plans": {"right": 1.0}}
    (tmp_path / "replies" / "Corridor.jsonl").write_text(json.dumps(line) + "\n")
    said = fail(capsys, command(write(), run_dir="run"))
    assert "python teacher.py record --env" in said
    assert (tmp_path / "run" / "unknown_states.jsonl").exists()


def test_the_example_of_the_page_does_what_the_page_says(tmp_path, no_pictures):
    page = (ROOT / "docs" / "own_task.md").read_text()
    (code,) = re.findall(r"(?s)```python\n(.*?)```", page)
    (book,) = re.findall(r'(?m)(?:^\{"state".*\n)+', page)
    (tmp_path / "corridor.py").write_text(code)
    (tmp_path / "replies").mkdir()
    (tmp_path / "replies" / "Corridor.jsonl").write_text(book)
    arguments = ["--env", "corridor.py:Corridor", "--iterations", "2", "--episodes", "20", "--run-dir", "run"]
    train.main([*arguments, "--i1", "1", "--i2", "2"])
    assert json.loads(Path("run/eval.json").read_text())["teacher"]["success"] == 1


@pytest.mark.slow
def test_the_command_of_an_example_works_from_a_shell(tmp_path):
    arguments = command("examples/reach.py:Reach", method="llm-only", run_dir=tmp_path / "run")
    ran = subprocess.run([sys.executable, "train.py", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "teacher (llm-only)" in ran.stdout
