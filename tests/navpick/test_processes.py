"""Simulators' processes, with Habitat or without."""

import os
import signal
import time
from multiprocessing import Pipe

import pytest

from navpick import processes
from navpick.lab import Settings
from navpick.processes import ProcessEnv


def test_ctrl_c_does_not_end_a_simulator_also_while_it_starts(tmp_path):
    room = ProcessEnv("habitat-navpick", "val", Settings(folder=str(tmp_path)))
    for _ in range(20):  # a terminal sends it to every process of a command
        os.kill(room.process.pid, signal.SIGINT)
        time.sleep(0.01)
    assert room.pipe.poll(60)
    assert "signal" not in str(room.pipe.recv())  # what ended it is that there is no data set, or no Habitat
    room.process.join(10)
    assert room.process.exitcode == 0


def test_a_signal_that_comes_while_a_simulator_starts_reaches_the_trainer(tmp_path):
    room = ProcessEnv("habitat-navpick", "val", Settings(folder=str(tmp_path)))
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())
    room.process.kill()


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
def test_what_ends_a_simulator_is_told_with_what_to_do_where_that_is_known(tmp_path, monkeypatch, error, told):
    def fails(*_):
        raise error

    monkeypatch.setattr(processes, "HabitatEnv", fails)
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    ours, theirs = Pipe()
    (tmp_path / "log").touch()
    monkeypatch.setenv("NAVPICK_LOG", "")
    processes.serve(theirs, "habitat-navpick", "val", Settings(), str(tmp_path / "log"))
    assert str(ours.recv()) == told
