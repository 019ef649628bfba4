"""Run folders and rows of runs.csv for the tests of evidence/ and reproduce.py."""

import csv
import json

import pytest

from harness.config import configure
from harness.run_files import write_config


@pytest.fixture
def make_row():
    """Return a function that makes a row of a group, ENV-METHOD."""

    def make_row(group, **columns):
        env, method = group.rsplit("-", 1)
        return {"group": group, "env": env, "method": method, "steps": 1e6, "steps_to_90": "", **columns}

    return make_row


@pytest.fixture
def make_run():
    """Return a function that makes the folder of a finished run with this success in training."""

    def make_run(folder, success=(0.0, 0.0), **settings):
        folder.mkdir(parents=True)
        config = configure({"num_trajectories": 50, **settings})
        write_config(config, folder)
        with (folder / "metrics.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("iteration", "steps", "lambda", "return", "success", "length"))
            writer.writerows((i, 100 * (i + 1), 0, value / 2, value, 2) for i, value in enumerate(success))
        result = {"env": config.env, "method": config.method, "length": 5, "return": 0, "success": 0}
        (folder / "eval.json").write_text(json.dumps(result))
        return folder

    return make_run
