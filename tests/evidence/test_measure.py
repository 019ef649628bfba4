"""What is measured of finished runs: moving averages, intervals with hand-worked numbers, rows, tables in the pages."""

import numpy as np
import pytest

from evidence.measure import (
    column,
    compare_with_paper,
    difference,
    format_cell,
    interval,
    measure_run,
    moving_average,
    read_rows,
    steps_to,
    write_rows,
    write_table,
)
from harness.config import parse


def test_interval_hand_worked():
    mean, half = interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    # t of 2 degrees of freedom, standard error 1 / sqrt(3)
    assert half == pytest.approx(4.30265 / np.sqrt(3), rel=1e-5)
    assert interval([5.0]) == (5.0, np.inf)


def test_difference_of_equal_spreads_is_students():
    low, high = difference([1.0, 2.0, 3.0], [11.0, 12.0, 13.0])
    half = 2.776445 * np.sqrt(2 / 3)  # t of 4 degrees of freedom
    assert (low, high) == (pytest.approx(-10 - half, rel=1e-5), pytest.approx(-10 + half, rel=1e-5))
    assert difference([1.0], [2.0, 3.0]) == (-np.inf, np.inf)
    assert difference([1.0, 1.0], [0.5, 0.5]) == (0.5, 0.5)
    assert np.isfinite(difference([1.0, 1.0], [0.5, 0.6])).all()


def test_compared_with_the_paper(make_row):
    group, numbers = "LavaDoorKey-ppo", ((0.95, 0.5), (0.96, 0.51), (0.94, 0.49))
    rows = [make_row(group, success=success, **{"return": reward}) for success, reward in numbers]
    assert compare_with_paper(rows, group, "return", 0.1) == "higher"
    assert compare_with_paper(rows, group, "return", 0.9) == "lower"
    assert compare_with_paper(rows, group, "success", 0.95) == "same"
    assert compare_with_paper(rows[:1], group, "success", 0.95) == "one seed"


def test_moving_average_over_a_hundred_episodes(tmp_path, make_run):
    steps, average, width = moving_average(make_run(tmp_path / "a", [1.0, 0.0, 0.8, 1.0]), "success")
    assert width == 2  # iterations of fifty episodes
    assert steps.tolist() == [100, 200, 300, 400]
    assert average == pytest.approx([1.0, 0.5, 0.4, 0.9])


def test_steps_to_90_percent_of_the_last_hundred_episodes(tmp_path, make_run):
    assert steps_to(make_run(tmp_path / "a", [1.0, 0.0, 0.8, 1.0, 1.0])) == 400
    assert steps_to(make_run(tmp_path / "b", [1.0, 0.0, 0.8, 0.9])) is None


def test_a_cell_says_how_many_seeds_have_a_number(make_row):
    rows = [make_row("LavaDoorKey-ppo", seed=0, steps_to_90=89500), make_row("LavaDoorKey-ppo", seed=1)]
    assert column(rows, "LavaDoorKey-ppo", "steps_to_90") == [89500]
    assert format_cell(rows, "LavaDoorKey-ppo", "steps_to_90") == "90k (1 of 2 seeds)"
    assert format_cell(rows[1:], "LavaDoorKey-ppo", "steps_to_90") == "never"


def test_rows_survive_the_csv(tmp_path):
    rows = [
        {"run": "a", "seed": 1, "return": 0.1 + 0.2, "steps_to_90": "", "torch": "2.13.0"},
        {"run": "b", "seed": 2},
    ]
    write_rows(rows, tmp_path / "runs.csv")
    written = (tmp_path / "runs.csv").read_text()
    assert read_rows(tmp_path / "runs.csv")[0] == rows[0]
    write_rows(read_rows(tmp_path / "runs.csv"), tmp_path / "runs.csv")
    assert (tmp_path / "runs.csv").read_text() == written


@pytest.mark.parametrize(
    "given", [{"env": "SimpleDoorKey"}, {"env": "habitat-navpick", "seed": 3}, {"env": "habitat-nav", "i1": 15}]
)
def test_the_command_of_a_row_is_that_of_its_run(given, tmp_path, make_run):
    given = {**given, "num_trajectories": 20}
    row = measure_run("a", make_run(tmp_path / "a", **given, run_dir="somewhere"))
    assert vars(parse(row["command"].removeprefix("python train.py ").split())) == given


def test_a_book_in_a_row_is_named_from_here(tmp_path, monkeypatch, make_run):
    monkeypatch.chdir(tmp_path)
    folder = make_run(tmp_path / "a", replies=str(tmp_path / "books" / "b.jsonl"))
    assert "--replies books/b.jsonl" in measure_run("a", folder)["command"]


PAGE = "Before.\n<!-- results/a.md -->\n{}<!-- end -->\nAfter. <!-- end -->\n"


def test_every_page_that_shows_a_table_is_brought_up_to_date(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "results").mkdir()
    pages = {"README.md": PAGE, "docs/twice.md": PAGE + PAGE, "docs/never.md": "Nothing.\n", "docs/other.txt": PAGE}
    for name, text in pages.items():
        (tmp_path / name).write_text(text.format("old\n", "old\n"))
    for name in ("a", "b"):
        write_table(tmp_path / "results" / f"{name}.md", "Heading", f"{name} \\1\n", root=tmp_path)
    assert (tmp_path / "results" / "b.md").read_text() == "Heading\n\nb \\1\n"
    for name, text in pages.items():
        shown = "a \\1\n" if name.endswith(".md") else "old\n"
        assert (tmp_path / name).read_text() == text.format(shown, shown)


def test_a_marker_without_an_end_spoils_nothing(tmp_path):
    text = "<!-- results/a.md -->\nBetween.\n<!-- results/b.md -->\nold\n<!-- end -->\n"
    (tmp_path / "README.md").write_text(text)
    (tmp_path / "results").mkdir()
    write_table(tmp_path / "results" / "a.md", "Heading", "a\n", root=tmp_path)
    assert (tmp_path / "README.md").read_text() == text
