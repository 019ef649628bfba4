"""Running train.py for the planned runs: no folder is taken for another run's, a failed run is named."""

import json
import sys

import pytest

from evidence.plan import Run
from evidence.runs import check_folder, count_iterations, run_unfinished, write_provenance
from harness.cli import InputError


def test_a_folder_with_another_run_is_not_taken(tmp_path, make_run):
    folder = make_run(tmp_path / "x-seed0")
    check_folder(Run("x", {"method": "llm4teach", "seed": 0}), folder)
    with pytest.raises(InputError, match="has method llm4teach, and ppo is planned"):
        check_folder(Run("x", {"method": "ppo", "seed": 0}), folder)


def test_iterations_are_the_rows_of_the_metrics(tmp_path, make_run):
    assert count_iterations(tmp_path / "nowhere") == 0
    assert count_iterations(make_run(tmp_path / "x", [0.0, 0.5, 1.0])) == 3


def test_provenance_says_with_what_a_run_was_made(tmp_path):
    write_provenance(tmp_path)
    made = json.loads((tmp_path / "provenance.json").read_text())
    assert made["python"] == ".".join(map(str, sys.version_info[:3]))
    assert list(made) == ["code", "python", "torch", "numpy", "gymnasium", "minigrid", "machine"]


@pytest.mark.slow
def test_a_failed_run_is_named(tmp_path):
    settings = {"method": "ppo", "device": "nowhere", "iterations": 1, "seed": 0}
    with pytest.raises(InputError, match="x-seed0 ended with exit code 2"):
        run_unfinished([Run("x", settings)], tmp_path, jobs=1)
    assert "device 'nowhere' cannot be used" in (tmp_path / "x-seed0.log").read_text()
