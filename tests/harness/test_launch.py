"""`--workers N`: the processes that train.py starts itself, from one command line to the end of all of them."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers import TRAIN, assert_same_run, read_metrics, refused

from harness import config, workers
from harness.config import configure

slow, tidy = pytest.mark.slow, pytest.mark.usefixtures("tidy")


def tiny(folder, count=2, **changes):
    """A command line."""
    settings = {"env": "SimpleDoorKey", "workers": count, "iterations": 5, "i1": 2, "i2": 4, "num_trajectories": 5,
                "episodes": 4, "run_dir": folder, **changes}  # fmt: skip
    return [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def start(*arguments):
    return subprocess.Popen([*TRAIN, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    """What it printed; it has to succeed."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output


def said(errors):
    """The lines of stderr without the progress bar."""
    return [line for line in errors.splitlines() if line.strip() and "it/s" not in line and "s/it" not in line]


def others(process, folder, count=1, rows=2):
    """The processes that it started, once there are so many of them and of rows."""
    found, metrics = [], folder / "metrics.csv"
    while len(found) < count or (len(read_metrics(folder)) if metrics.exists() else 0) < rows:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
        pgrep = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True)
        found = [int(number) for number in pgrep.stdout.split()]
    return found


def wait_until_gone(numbers):
    until = time.monotonic() + 60
    while any(is_running(number) for number in numbers):
        assert time.monotonic() < until
        time.sleep(0.02)


def is_running(number):
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(number)], capture_output=True, text=True).stdout
    return bool(state) and not state.startswith("Z")  # an orphan that is over waits for its new parent


# ------------------------------------------------------------------------------------------------------------ defaults


def test_as_many_workers_as_there_are_cores_and_episodes(monkeypatch):
    monkeypatch.setattr(config, "count_cores", lambda: 4)
    assert configure({}).workers == 1
    assert configure({"workers": 0}).workers == 4
    assert configure({"workers": 0, "num_trajectories": 3}).workers == 3
    assert configure({"env": "habitat-navpick"}).workers == 4
    assert configure({"env": "habitat-navpick", "workers": 2}).workers == 2


def test_the_cores_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5, 6}, raising=False)
    assert workers.count_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert workers.count_cores() == 1


@pytest.mark.parametrize(("gpu", "device"), [(True, "cuda"), (False, "cpu")])
def test_the_device_where_it_is_left_to_the_machine(gpu, device, monkeypatch):
    monkeypatch.setattr(config.torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr("navpick.task.choose_renderer", lambda wanted: (device, ""))
    assert configure({}).device == "cpu"
    assert configure({"device": "auto"}).device == configure({"env": "habitat-navpick"}).device == device
    assert configure({"device": "cuda:1"}).device == "cuda:1"


def test_what_was_chosen_stays_chosen(monkeypatch):
    chosen = configure({"workers": 0, "device": "auto"})
    monkeypatch.setattr(config, "count_cores", lambda: 1 + chosen.workers)
    monkeypatch.setattr(config.torch.cuda, "is_available", lambda: chosen.device == "cpu")
    assert chosen.fit_to_machine() == chosen


# ----------------------------------------------------------------------------------------------------------- bad input


@tidy
def test_bad_numbers(tmp_path, capsys):
    assert "--workers is -1; it must be at least 0" in refused(capsys, *tiny("run", -1))
    assert "--num-trajectories is 3; 10 workers" in refused(capsys, *tiny("run", 10, num_trajectories=3))
    assert "--workers" in refused(capsys, *tiny("run", "many"))
    assert not list(tmp_path.iterdir())


@tidy
def test_a_number_beside_torchruns(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert "--workers is 2 but torchrun started 3; leave out" in refused(capsys, *tiny("run"))
    assert not list(tmp_path.iterdir())


@tidy
def test_a_run_of_an_earlier_version_goes_on_with_one(finished):
    stored = json.loads((finished / "config.json").read_text())
    assert stored.pop("workers") == 1
    (finished / "config.json").write_text(json.dumps(stored))
    assert config.stored_config(finished)["workers"] == 1


# ---------------------------------------------------------------------------------------------------------- whole runs


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two") / "run"
    return folder, finish(start(*tiny(folder)))


@slow
def test_two_workers_make_the_run_that_torchruns_two_make(two, tmp_path):
    folder, output = two
    assert output.count("workers: 2, cores: ") == output.count("everything is in") == 1
    assert json.loads((folder / "config.json").read_text())["workers"] == 2
    command = [TRAIN[0], "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", TRAIN[1]]
    arguments = tiny(tmp_path / "run", 0)  # as many as torchrun starts
    subprocess.run([*command, *arguments], check=True, capture_output=True, timeout=300)
    assert_same_run(tmp_path / "run", folder)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["workers"] == 2


@slow
def test_of_three_nobody_is_preempted(tmp_path):
    for name in ("one", "again"):
        finish(start(*tiny(tmp_path / name, 3)))
    assert_same_run(tmp_path / "again", tmp_path / "one")
    first = read_metrics(tmp_path / "one")[0]
    assert int(first["steps"]) == round(5 * float(first["length"]))  # every episode was played to its end


@slow
def test_a_worker_that_is_killed_ends_the_run_in_a_line_and_it_can_go_on(two, tmp_path):
    process = start(*tiny(tmp_path / "run"))
    (other,) = others(process, tmp_path / "run")
    os.kill(other, signal.SIGKILL)
    (line,) = said(process.communicate(timeout=300)[1])
    assert process.returncode == 2
    assert line.startswith("train.py: another worker was lost: it is gone; ")
    assert line.endswith(f"python train.py --resume {tmp_path / 'run'}")
    finish(start("--resume", tmp_path / "run"))  # with two again
    assert_same_run(tmp_path / "run", two[0])


FAILING = """
import os
from envs import *
from harness.find import find_task

class Failing(find_task("SimpleDoorKey")):
    Error = ConnectionError
    described = 0
    def describe(self, observation):
        Failing.described += 1
        if Failing.described > 800 and os.environ.get("RANK", "0") in {ranks}:
            raise ConnectionError("the cable of " + os.environ.get("RANK", "0") + " came off")
        return super().describe(observation)
"""


@slow
@pytest.mark.parametrize(("ranks", "told"), [("1", 1), ("0", 0), ("01", 0)])
def test_the_reason_of_a_worker_is_what_is_read_and_once(ranks, told, tmp_path):
    (tmp_path / "failing.py").write_text(FAILING.format(ranks=list(ranks)))
    book = Path(TRAIN[1]).parent / "replies" / "SimpleDoorKey.jsonl"
    changes = {"env": f"{tmp_path / 'failing.py'}:Failing", "replies": book, "iterations": 100, "i2": 100}
    process = start(*tiny(tmp_path / "run", 3, **changes))
    (line,) = said(process.communicate(timeout=300)[1])
    assert process.returncode == 2
    assert line.startswith(f"train.py: the cable of {told} came off; ")


@slow
def test_ctrl_c_stops_all(tmp_path):
    process = start(*tiny(tmp_path / "run", iterations=100_000))
    found = others(process, tmp_path / "run")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said(errors) == [
        f"stopped; what was trained is kept, go on with: python train.py --resume {tmp_path / 'run'}"
    ]
    assert not any(map(is_running, found))


@slow
@pytest.mark.parametrize("when", ["before they are connected", "in training"])
def test_the_others_end_with_the_first_that_is_killed(when, tmp_path):
    process = start(*tiny(tmp_path / "run", 3, iterations=100_000))
    found = others(process, tmp_path / "run", 2, rows=2 if when == "in training" else 0)
    process.kill()
    assert said(process.communicate(timeout=60)[1]) == []
    wait_until_gone(found)
