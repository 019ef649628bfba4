"""Every file that can be run by itself, and what it shows."""

import re
import subprocess
import sys
from dataclasses import fields

import pytest
from helpers import ROOT, TRAIN
from PIL import Image

from harness.config import config_class
from harness.find import BUILT_IN


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments", "says"),
    [
        ("annealing.py", [], r"stepwise.*\n[\s\S]*annealing\.png"),
        ("envs.py", [], r"SimpleDoorKey: The agent[\s\S]*DivergedDoorKey: The agent"),
        ("options.py", [], r"explore: \d+ actions, (done|the episode ended)"),
        ("options.py", ["--options", "repaired", "--gif", "out.gif"], r"explore: \d+ actions, done"),
        ("teacher.py", ["show", str(ROOT / "replies" / "LavaDoorKey.jsonl")], r"holds nothing\.\n +100.0%  explore"),
        ("teacher.py", [], r"^(The agent stands in cell \d of 0 to 4\.  pi_T: left \d\.\d\d, right \d\.\d\d\n){5}$"),
        ("nets.py", [], r"small +23,836 weights\npaper +843,576 weights\nmlp "),
    ],
    ids=["annealing", "envs", "options", "options-gif", "show", "teacher", "nets"],
)
def test_demo(script, arguments, says, tmp_path):
    command = [sys.executable, str(ROOT / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert re.search(says, done.stdout)
    if script == "annealing.py":
        with Image.open(tmp_path / "annealing.png") as plot:
            assert min(plot.size) > 100
    if "--gif" in arguments:
        with Image.open(tmp_path / "out.gif") as film:
            assert film.n_frames > 3


@pytest.mark.slow
def test_teacher_shows_a_book_where_it_lies():
    command = [sys.executable, "teacher.py", "show", "replies/ColoredDoorKey.jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("The agent observes") >= 14  # ColoredDoorKey


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments", "says"),
    [
        ("options.py", ["--do", "fly"], "fly"),
        ("options.py", ["--do", "open purple door"], "open purple door"),
        ("teacher.py", ["show", "nowhere.jsonl"], "nowhere.jsonl"),
        ("-m harness.report", ["nowhere"], "nowhere"),
        ("-m evidence.books", ["nowhere"], "not the name of a book"),
    ],
)
def test_demo_with_bad_input(script, arguments, says):
    command = [sys.executable, *script.split(), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_report_of_a_finished_run(finished):
    command = [sys.executable, "-m", "harness.report", str(finished)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert re.search(r"iteration +\d+\n[\s\S]*\ndrawn: .*curve\.png\n$", done.stdout)


@pytest.mark.slow
def test_throughput_ends_with_a_ratio(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "throughput.py"), "--rounds", "1", "--iterations", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"ratio \d+\.\d\d", done.stdout.splitlines()[-1])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_help_reads_like_documentation():
    done = subprocess.run([*TRAIN, "--help"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0
    text = " ".join(done.stdout.split())
    every = {f for name in BUILT_IN for f in fields(config_class(name))}
    for flag in ("resume", "eval", *(f.name.replace("_", "-") for f in every)):
        assert re.search(rf"^  --{flag}\b", done.stdout, re.MULTILINE)
    for f in every:
        assert f.metadata["help"] in text
    assert "nets for --student: small, paper, small-absolute, small-integers, paper-view." in text
