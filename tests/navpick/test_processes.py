"""Simulators' processes, with Habitat or without."""

import os
import subprocess
import sys
from multiprocessing import Pipe

import pytest
from helpers import ROOT

from navpick import processes
from navpick.dataset import HabitatError
from navpick.lab import Settings
from navpick.processes import ProcessEnv


def test_ctrl_c_in_a_terminal_does_not_reach_a_simulator(tmp_path):
    room = ProcessEnv("habitat-navpick", "val", Settings(folder=str(tmp_path)))
    assert os.getpgid(room.process.pid) == room.process.pid != os.getpgid(0)  # a terminal signals a group
    room.process.kill()
    room.process.wait()


def test_a_simulator_answers_from_any_folder_and_ends_with_its_object(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "navpick.py").write_text("raise ImportError('of the same name')")
    (tmp_path / "empty").mkdir()
    room = ProcessEnv("habitat-navpick", "val", Settings(folder="empty"))
    with pytest.raises(HabitatError) as told:  # of a data set without episodes, or of no Habitat
        room.result()
    assert "Habitat" in str(told.value) or str(tmp_path / "empty") in str(told.value)
    assert room.process.wait(10) == 0
    other = ProcessEnv("habitat-navpick", "val", Settings())
    process = other.process
    del other
    process.wait(60)  # raises TimeoutExpired where it does not end


def test_a_simulator_that_dies_is_told_with_its_last_words():
    room = ProcessEnv("habitat-navpick", "val", Settings())
    with open(room.errors.name, "ab") as log:
        log.write(b"first\nno more room\n")
    room.process.kill()
    with pytest.raises(HabitatError, match=r"a simulator died \(signal 9\): no more room; "):
        room.result()


def test_a_simulator_does_without_torch():
    code = "import sys; sys.modules['torch'] = None; import navpick.envs, navpick.processes"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ZeroDivisionError("by zero"), "the simulator failed: ZeroDivisionError('by zero')"),
        (
            AttributeError("'NavPickSim' object has no attribute 'sensors'"),
            "the simulator failed: AttributeError(\"'NavPickSim' object has no attribute 'sensors'\"); "
            "pip install habitat-lab==0.3.320250127, which was written for this habitat-sim",
        ),
    ],
)
def test_what_ends_a_simulator_is_told_with_what_to_do_where_that_is_known(monkeypatch, error, told):
    def fails(*_):
        raise error

    monkeypatch.setattr(processes, "HabitatEnv", fails)
    ours, theirs = Pipe()
    ours.send(("habitat-navpick", "val", Settings()))
    processes.serve(theirs)
    assert str(ours.recv()) == told
