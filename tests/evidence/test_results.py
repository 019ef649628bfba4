"""results/ gives back what was put in, and the same runs give the same bytes."""

import numpy as np
import pytest

from evidence.plan import ARMS, doorkey
from evidence.results import Results, column

GROUPS = [doorkey("LavaDoorKey", arm) for arm in ARMS]


def test_what_is_written_is_what_is_read(make_results, tmp_path):
    results = make_results(GROUPS, 2)
    again = Results(tmp_path / "results")
    assert again.rows == results.rows
    for run, actors in results.episodes.items():
        for actor, numbers in actors.items():
            np.testing.assert_allclose(again.episodes[run][actor], numbers)
    before = {path.name: path.read_bytes() for path in (tmp_path / "results").iterdir()}
    assert set(before) == {"runs.csv", "episodes.csv.gz", "curves.csv.gz"}
    again.write()
    assert {path.name: path.read_bytes() for path in (tmp_path / "results").iterdir()} == before


def test_packed_tables_have_the_same_bytes_on_every_python(make_results, tmp_path):
    make_results(GROUPS, 1)
    packed = list((tmp_path / "results").glob("*.gz"))
    assert len(packed) == 2
    for path in packed:
        header = path.read_bytes()[:10]  # gzip's (RFC 1952): no name, no time, best compression, no system
        assert header == b"\x1f\x8b\x08\x00" + bytes(4) + b"\x02\xff", path.name


def test_a_run_takes_the_place_of_one_of_its_name(make_results, tmp_path, make_run):
    from evidence.plan import Run

    results = make_results(GROUPS, 1)
    count = len(results.rows)
    run = Run("default", GROUPS[1], {"env": "LavaDoorKey", "method": "ppo", "seed": 0})
    results.add(run, make_run(tmp_path / "run", [1.0, 1.0], env="LavaDoorKey", method="ppo"))
    assert len(results.rows) == count
    assert results.rows[run.name]["steps_to_90"] == 200
    assert results.episodes[run.name]["student"].tolist() == [[1, 1, 4, 1, 0], [3, 0, 6, 0, 1]]
    assert "teacher" not in results.episodes[run.name]
    assert len(results.curves[run.name]) == 1


def test_groups_are_told_apart_by_budget_and_in_the_order_of_seeds(make_results):
    results = make_results(GROUPS, 3)
    assert [row["seed"] for row in results.select("default", "LavaDoorKey-ppo")] == [0, 1, 2]
    assert results.select("quick", "LavaDoorKey-ppo") == []
    assert column(results.select("default", "LavaDoorKey-ppo"), "teacher_return") == []


def test_a_run_that_went_on_elsewhere_can_be_read(make_results, tmp_path):
    results = make_results(GROUPS[:1], 1)
    (row,) = results.rows.values()
    row["cores"] = "2, 16"
    results.write()
    (again,) = Results(tmp_path / "results").rows.values()
    assert again["cores"] == "2, 16"


def test_no_files_are_no_runs(tmp_path):
    assert Results(tmp_path).rows == {}
    with pytest.raises(FileNotFoundError):
        (tmp_path / "runs.csv").read_text()
