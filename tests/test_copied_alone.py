"""A file copied alone into an empty folder runs its demonstration, or says in one line what it wants beside it."""

import shutil
import subprocess
import sys

import pytest
from helpers import ROOT

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["annealing", "ppo", "teacher", "envs", "options", "nets"])
def test_alone(name, tmp_path):
    script = shutil.copy(ROOT / f"{name}.py", tmp_path)
    command = [sys.executable, "-E", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert "Traceback" not in done.stderr, done.stderr
    if done.returncode == 0:
        assert done.stdout.endswith("\nsolved\n") if name == "ppo" else done.stdout
        assert done.stderr == ""
    else:
        assert done.returncode == 2
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"{name}.py: ")


@pytest.mark.parametrize("name", ["annealing", "ppo", "teacher", "envs"])
def test_needs_nothing_beside_it(name, tmp_path):
    """Whoever wants only this file can import it from anywhere."""
    shutil.copy(ROOT / f"{name}.py", tmp_path)
    done = subprocess.run(
        [sys.executable, "-E", "-c", f"import {name}"], capture_output=True, text=True, cwd=tmp_path, timeout=100
    )
    assert done.returncode == 0, done.stderr


def test_teacher_alone_shows_a_book_and_names_what_the_rest_wants(tmp_path):
    shutil.copy(ROOT / "teacher.py", tmp_path)
    shutil.copy(ROOT / "replies" / "LavaDoorKey.jsonl", tmp_path / "book.jsonl")

    def run(*arguments):
        command = [sys.executable, "-E", "teacher.py", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=100)

    assert run("show", "book.jsonl").stdout.count("The agent observes") > 5
    for arguments in (["record"], ["show"], ["show", "nowhere.jsonl"], ["ask", "--env", "SimpleDoorKey"]):
        done = run(*arguments)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith("teacher.py: ")
