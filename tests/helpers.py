"""What tests of whole runs share: tiny command lines, and what is read off a run's folder."""

import csv
import json
import sys
from pathlib import Path

import pytest
import torch

import train
from harness.config import config_class
from harness.task import open_task

ROOT = Path(train.__file__).resolve().parent
TRAIN = [sys.executable, str(ROOT / "train.py")]
# Two iterations of two short episodes, the first under lambda_0, the second under lambda_c.
TINY = {
    "env": "DivergedDoorKey",
    "method": "llm4teach",
    "seed": 0,
    "iterations": 2,
    "episodes": 2,
    "anneal": "stepwise",
    "lambda_0": 10.0,
    "lambda_c": 0.1,
    "i1": 1,
    "i2": 9,
    "num_trajectories": 2,
    "epochs": 1,
    "minibatch_size": 64,
    "learning_rate": 1e-3,
}


def tiny(run_dir, **changes):
    """A command line."""
    settings = {**TINY, **changes, "run_dir": run_dir}
    return [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def read_metrics(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def weights(folder):
    return torch.load(folder / "student.pt", weights_only=True)


def stored_task(folder):
    """The task of a run, opened with its settings."""
    settings = json.loads((folder / "config.json").read_text())
    return open_task(config_class(settings["env"])(**settings))


def assert_same_run(folder, expected):
    """The same weights and the same metrics, to the last digit."""
    ours, theirs = weights(folder), weights(expected)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert (folder / "metrics.csv").read_bytes() == (expected / "metrics.csv").read_bytes()


def refused(capsys, *arguments):
    """The one line with which the command ends."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        train.main([str(argument) for argument in arguments])
    assert stopped.value.code == 2
    errors = capsys.readouterr().err
    (line,) = filter(str.strip, errors.splitlines())
    assert line.startswith("train.py: ")
    assert "Traceback" not in line
    return line
