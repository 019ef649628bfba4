"""Running train.py for the planned runs: no folder is taken for another run's, a failed run is named."""

import pytest

from evidence import runs
from evidence.plan import Group, Run
from evidence.runs import check_folder, flags, format_seconds, is_finished, run_unfinished, seconds_left, seconds_of
from harness.cli import InputError


def planned(**settings):
    settings = {"env": "SimpleDoorKey", "method": "llm4teach", "num_trajectories": 50, "seed": 0, **settings}
    return Run("quick", Group("x", "y", {}), settings)


def test_a_folder_with_another_run_is_not_taken(tmp_path, make_run):
    folder = make_run(tmp_path / "x-y-seed0", replies="/here/a.jsonl")
    check_folder(planned(replies="/there/a.jsonl"), folder)  # a book is known by its name
    check_folder(planned(replies="/there/a.jsonl"), tmp_path / "nothing there")
    with pytest.raises(InputError, match="has method 'llm4teach', and 'ppo' is planned"):
        check_folder(planned(method="ppo", replies="a.jsonl"), folder)
    with pytest.raises(InputError, match=r"has replies .*b\.jsonl' is planned"):
        check_folder(planned(replies="b.jsonl"), folder)


def test_a_run_is_finished_once_it_is_measured(tmp_path, make_run):
    run = planned()
    assert not is_finished(run, tmp_path)
    make_run(tmp_path / run.folder)
    assert is_finished(run, tmp_path)
    assert seconds_of(run, tmp_path) == 10


def test_what_is_left_is_told_from_what_is_done():
    a, b = planned(), Run("quick", Group("z", "y", {}), {"seed": 0})
    assert seconds_left([(a, 0.0), (a, 4.0), (b, 0.0)], {"x-y": [10.0, 20.0]}) == 15 + 11 + 15
    assert seconds_left([(a, 99.0)], {"x-y": [10.0]}) == 0
    assert format_seconds(seconds_left([(a, 0.0)], {})) == "? min"
    assert [format_seconds(seconds) for seconds in (59, 7100, 7300)] == ["1 min", "118 min", "2:02 h"]


def test_settings_as_words():
    given = {"env": "LavaDoorKey", "teacher_mode": "uniform", "deterministic": True, "anneal_learning_rate": False}
    assert flags(given) == [
        "--env", "LavaDoorKey", "--teacher-mode", "uniform", "--deterministic", "--no-anneal-learning-rate",
    ]  # fmt: skip


@pytest.mark.slow
def test_runs_side_by_side_have_a_thread_each(tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text("import torch\nprint(torch.get_num_threads())\n")
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    run = planned()
    with (tmp_path / "lock").open("w") as lock:
        assert runs.start(run, tmp_path, lock.fileno()).wait() == 0
    assert (tmp_path / f"{run.folder}.log").read_text().split() == ["1"]


def test_a_failed_run_is_named(tmp_path):
    run = planned(device="nowhere", iterations=1)._replace(group=Group("x", "model-1.5b", {}))
    with pytest.raises(InputError, match=r"quick/x-model-1\.5b-seed0 ended with exit code 2"):
        run_unfinished([run], tmp_path, jobs=1)
    assert "device 'nowhere' cannot be used" in (tmp_path / "x-model-1.5b-seed0.log").read_text()


def test_what_cannot_be_run_is_said_before_anything_runs(tmp_path, monkeypatch, make_run):
    task = tmp_path / "tasks.py"
    task.write_text(
        "from doorkey.task import LavaDoorKey\n"
        "from harness.cli import InputError\n\n\n"
        "class Empty(LavaDoorKey):\n"
        "    def check(self):\n"
        "        raise InputError('the rooms are missing; download them')\n"
    )
    first, last = planned(), planned(env=f"{task}:Empty")._replace(group=Group("z", "y", {}))
    monkeypatch.setattr(runs, "run_processes", lambda *_: pytest.fail("something was run"))
    with pytest.raises(InputError, match="the rooms are missing; download them"):
        run_unfinished([first, last], tmp_path, jobs=1)
    make_run(tmp_path / last.folder, env=f"{task}:Empty", num_trajectories=50)  # what is finished needs no rooms
    monkeypatch.setattr(runs, "run_processes", lambda *_: [])
    run_unfinished([first, last], tmp_path, jobs=1)
