"""Runs that are cut off, by whatever, go on as if nothing had been."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import ROOT, TRAIN, assert_same_run, contents, read_metrics, refused, tiny

import harness.report
import train
from harness import run_files

pytestmark = pytest.mark.usefixtures("tidy")


class KilledError(BaseException):
    """As a SIGKILL does, it ends everything at once."""


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_run_killed_around_any_write_goes_on_as_if_nothing_had_been(after, monkeypatch, no_pictures, tmp_path):
    """Die before and after every file that is replaced and every row that is written, one after the other."""
    monkeypatch.setattr(train, "report", lambda *_: None)
    arguments = {"iterations": 3, "num_trajectories": 1, "minibatch_size": 30}
    arguments.update(teacher_mode="sampled", teacher_model="smollm2-135m")  # torn everywhere: it draws at each step
    train.main(tiny("whole", **arguments))

    def mortal(function):
        def wrapped(*args, **kwargs):
            countdown[0] -= 1
            if countdown[0] == 0 and not after:
                raise KilledError
            result = function(*args, **kwargs)
            if countdown[0] == 0:
                raise KilledError
            return result

        return wrapped

    countdown = [0]
    monkeypatch.setattr(os, "replace", mortal(os.replace))
    monkeypatch.setattr(run_files.Log, "write", mortal(run_files.Log.write))
    for moment in range(1 if after else 2, 100):  # by the first the folder has its config.json: a run
        countdown[0] = moment
        folder = Path(f"cut{moment}")
        try:
            train.main(tiny(folder, **arguments))
        except KilledError:
            with (folder / "metrics.csv").open("a") as file:
                file.write("7,99")  # half a row
            countdown[0] = 0
            train.main(["--resume", str(folder)])
            assert_same_run(folder, Path("whole"))
        else:
            break
    assert moment > 1 + 2 * 3 + 3  # a row and a checkpoint an iteration; metrics.csv, config.json, student.pt


def wait_for(condition, process, seconds=60):
    until = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)


def start(*arguments):
    return subprocess.Popen([*TRAIN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_sigkill_at_random_moments(no_pictures):
    arguments = {"iterations": 24, "num_trajectories": 4, "epochs": 3, "episodes": 1}
    train.main(tiny("whole", **arguments))
    rng, folder, kills = random.Random(0), Path("cut"), 0
    while kills < 4:
        already = len(read_metrics(folder)) if folder.exists() else 0
        process = start(*(["--resume", str(folder)] if folder.exists() else tiny(folder, **arguments)))
        goal = already + rng.randint(1, 5)
        wait_for(lambda goal=goal: (folder / "metrics.csv").exists() and len(read_metrics(folder)) >= goal, process)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        process.communicate()
        if process.returncode != -signal.SIGKILL:  # it was faster
            break
        kills += 1
    assert kills >= 2
    assert len(read_metrics(folder)) > kills
    train.main(["--resume", str(folder)])
    assert_same_run(folder, Path("whole"))


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_says_how_to_go_on(no_pictures):
    process = start(*tiny("run", iterations=100_000))
    wait_for(lambda: Path("run/metrics.csv").exists() and len(read_metrics(Path("run"))) >= 2, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    said = re.search(r"train.py --resume (\S+)$", errors.splitlines()[-1])
    assert said
    done = len(read_metrics(Path("run")))
    assert torch.load("run/checkpoint.pt", weights_only=True)["iteration"] == done
    train.main(["--resume", said[1], "--iterations", str(done + 1)])
    assert [int(row["iteration"]) for row in read_metrics(Path("run"))] == list(range(done + 1))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_within_an_iteration_loses_nothing(number, monkeypatch, no_pictures, capsys):
    train.main(tiny("whole", iterations=4))
    play = train.rollout

    def interrupted(*arguments):
        trajectories = play(*arguments)
        if read_metrics(Path("cut"))[-1:] and len(read_metrics(Path("cut"))) == 1:
            signal.raise_signal(number)  # within iteration 1
        return trajectories

    with monkeypatch.context() as patch:
        patch.setattr(train, "rollout", interrupted)
        with pytest.raises(SystemExit) as stopped:
            train.main(tiny("cut", iterations=4))
    assert stopped.value.code == 130
    assert "--resume cut" in capsys.readouterr().err
    assert len(read_metrics(Path("cut"))) == 2
    train.main(["--resume", "cut"])
    assert_same_run(Path("cut"), Path("whole"))


def test_resume_of_a_finished_run_changes_nothing_and_can_add_iterations(finished, finished_once, no_pictures):
    train.main(["--resume", str(finished)])
    assert_same_run(finished, finished_once)
    assert (finished / "eval.json").read_bytes() == (finished_once / "eval.json").read_bytes()
    train.main(["--resume", str(finished), "--iterations", "3"])
    assert len(read_metrics(finished)) == 3
    assert json.loads((finished / "config.json").read_text())["iterations"] == 3


def test_a_missing_answer_names_the_state_and_keeps_the_checkpoint(capsys, no_pictures):
    book = (ROOT / "replies" / "DivergedDoorKey.jsonl").read_text()
    Path("book.jsonl").write_text(book)
    train.main(tiny("run", replies="book.jsonl", num_trajectories=4, iterations=1))
    before = Path("run/checkpoint.pt").read_bytes(), Path("run/metrics.csv").read_bytes()
    Path("book.jsonl").write_text(book.splitlines()[0])  # nothing seen, nothing held
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        train.main(["--resume", "run", "--iterations", "2"])
    assert stopped.value.code == 2
    errors = capsys.readouterr().err
    (line,) = re.findall(r"train\.py: .*", errors)
    assert re.search(r"The agent observes a red (key|door), and holds nothing\.", line)
    assert "book.jsonl" in line
    assert "--resume run" in line
    assert "--states run/unknown_states.jsonl" in line
    (unknown,) = Path("run/unknown_states.jsonl").read_text().splitlines()
    assert json.loads(unknown)["state"] in line
    assert "Traceback" not in errors
    assert (Path("run/checkpoint.pt").read_bytes(), Path("run/metrics.csv").read_bytes()) == before
    assert torch.load("run/checkpoint.pt", weights_only=True)["iteration"] == 1
    Path("book.jsonl").write_text(book)
    train.main(["--resume", "run", "--iterations", "2"])
    assert len(read_metrics(Path("run"))) == 2


def test_a_missing_answer_in_eval_is_one_line(finished, capsys, no_pictures):
    before = contents(finished)
    config = json.loads((finished / "config.json").read_text())
    Path("book.jsonl").write_text(json.dumps({"state": "never", "plans": {"explore": 1}}))
    (finished / "config.json").write_text(json.dumps({**config, "replies": "book.jsonl"}))
    assert "The agent observes" in refused(capsys, "--eval", str(finished))
    after = contents(finished)
    assert {path for path in before if before[path] != after[path]} == {Path("config.json")}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no limits to set")
def test_a_full_disk_is_one_line():
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000)); import train; "
    command = [sys.executable, "-c", limited + "train.main(sys.argv[1:])", *tiny(Path.cwd() / "run", episodes=1)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert "Traceback" not in done.stderr
    assert done.returncode == 2
    assert "--resume" in done.stderr.splitlines()[-1]


def test_ctrl_c_while_measuring_ends_with_130(capsys, monkeypatch, no_pictures):
    def measured(*_):
        if not interrupted:
            interrupted.append(signal.raise_signal(signal.SIGINT))
        return {"return": 0.0, "length": 1.0, "success": 0.0}

    interrupted = []
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background process may have been told to ignore it
    monkeypatch.setattr(harness.report, "evaluate", measured)
    with pytest.raises(SystemExit) as stopped:
        train.main(tiny("run"))
    assert stopped.value.code == 130
    assert "--resume run" in capsys.readouterr().err
