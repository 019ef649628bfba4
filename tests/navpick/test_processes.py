"""Simulators' processes, with Habitat or without."""

import os
import signal
import time

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
