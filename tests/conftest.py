"""Fixtures of the tests that train."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from helpers import tiny

import harness.report
import train


@pytest.fixture
def tidy(tmp_path, monkeypatch):
    """Elsewhere, on one thread, and with the signals as they were afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "count_cores", lambda: 1)
    torch.set_num_threads(1)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def no_pictures(monkeypatch):
    """The GIF takes longer than a tiny training."""
    monkeypatch.setattr(harness.report, "draw_films", lambda *_: None)
    monkeypatch.setattr(harness.report, "draw_curve", lambda *_: None)


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness.report, "draw_films", lambda *_: None)
        train.main(tiny(folder))
    return folder


@pytest.fixture
def finished(finished_once, tmp_path):
    """A finished run of one's own."""
    folder = Path(shutil.copytree(finished_once, tmp_path / "finished"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "run_dir": str(folder)}, indent=2) + "\n")
    return folder
