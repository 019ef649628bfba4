"""Running train.py for the planned runs: no folder is taken for another run's, a failed run is named."""

import pytest

from evidence.plan import Run
from evidence.runs import check_folder, count_iterations, run_unfinished
from harness.cli import InputError


def test_a_folder_with_another_run_is_not_taken(tmp_path, make_run):
    folder = make_run(tmp_path / "x-seed0")
    check_folder(Run("x", {"method": "llm4teach", "seed": 0}), folder)
    with pytest.raises(InputError, match="has method llm4teach, and ppo is planned"):
        check_folder(Run("x", {"method": "ppo", "seed": 0}), folder)


def test_iterations_are_the_rows_of_the_metrics(tmp_path, make_run):
    assert count_iterations(tmp_path / "nowhere") == 0
    assert count_iterations(make_run(tmp_path / "x", [0.0, 0.5, 1.0])) == 3


@pytest.mark.slow
def test_a_failed_run_is_named(tmp_path):
    settings = {"method": "ppo", "device": "nowhere", "iterations": 1, "seed": 0}
    with pytest.raises(InputError, match="x-seed0 ended with exit code 2"):
        run_unfinished([Run("x", settings)], tmp_path, jobs=1)
    assert "device 'nowhere' cannot be used" in (tmp_path / "x-seed0.log").read_text()
