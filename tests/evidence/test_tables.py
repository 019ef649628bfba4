"""Cells and tables, with hand-worked numbers."""

import numpy as np
import pytest

import reproduce
from evidence.plan import ARMS, BUDGETS, TASKS, Group, doorkey
from evidence.tables import (
    Cells,
    control_table,
    figure6_table,
    format_cell,
    format_table,
    paper_sample,
    places_table,
    table3,
)
from evidence.teachers import cost_table, errors_table

PPO, ALONE, OURS, CONTROL = (doorkey("LavaDoorKey", arm) for arm in ("ppo", "llm-only", "llm4teach", "uniform"))


def test_a_table():
    assert format_table("a, b", [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"
    assert format_table("a, b", iter(())) == ""


@pytest.mark.parametrize(
    ("numbers", "name", "interval", "text"),
    [
        ([0.5, 1.0], "success", None, "50.0, 100.0 %"),
        ([0.5, 1.0], "success", (0.4, 1.0), "75.0 [40.0, 100.0] %"),
        ([89_500.0, np.inf], "steps_to_90", None, "90, never"),
        ([10_000.0] * 5, "steps_to_90", (9_000.0, np.inf), "10 [9, never]"),
        ([], "return", None, "-"),
    ],
)
def test_a_cell(numbers, name, interval, text):
    assert format_cell(numbers, name, np.mean, interval) == text


def test_below_five_seeds_there_is_no_interval(make_results, tmp_path):
    few = Cells(make_results([PPO], 3, folder=tmp_path / "few"), "default")
    enough = Cells(make_results([PPO], 5, folder=tmp_path / "enough"), "default")
    for show in ("final", "learning"):
        name = "success" if show == "final" else "auc_success"
        assert "[" not in getattr(few, show)(PPO, name)
        assert "[" in getattr(enough, show)(PPO, name)
    assert few.seeds(PPO) == "3"


def test_runs_that_never_learn_are_counted(make_results):
    cells = Cells(make_results([PPO], 5, learns_at=lambda group: 1e7), "default")
    assert cells.learning(PPO, "steps_to_90") == "never [never, never] (5 of 5 never)"
    sample = cells.sample(PPO, "steps_to_90")
    assert sample.censored
    assert sample.numbers == pytest.approx([np.log10(600_000)] * 5)  # with all their steps


def test_the_papers_number_has_the_error_of_its_rooms_and_of_its_rounding():
    sample = paper_sample("success", 0.75, 0.9, 1000)
    assert sample.error == pytest.approx(np.hypot(np.sqrt(0.9 * 0.1 / 1000), 0.0005 / np.sqrt(3)))
    assert paper_sample("return", 0.75, 0.9, 1000).error == pytest.approx(
        np.hypot(0.75 / 0.9 * np.sqrt(0.9 * 0.1 / 1000), 0.005 / np.sqrt(3))
    )


def test_table3_stands_beside_the_papers(make_results):
    text = table3(Cells(make_results([PPO, ALONE, CONTROL], 5), "default"), [PPO, ALONE, CONTROL])
    ppo, alone, control = (line.strip("| ").split(" | ") for line in text.splitlines()[2:])
    assert ppo[6:] == ["149.61", "0.00", "5.0%", "higher", "higher"]
    assert alone[7:9] == ["0.48", "54.6%"]
    assert control[6:] == ["-"] * 5  # the paper has no such thing


def test_what_the_llm_adds(make_results):
    groups = [doorkey(task, arm) for task in TASKS for arm in ("llm4teach", "uniform")]
    results = make_results(groups, 5, learns_at=lambda group: 2e4 if group.arm == "llm4teach" else 1e5)
    lines = [line.strip("| ").split(" | ") for line in control_table(Cells(results, "default"), []).splitlines()[2:]]
    assert [line[0] for line in lines] == list(TASKS)
    for _, seeds, area, steps, final in lines:
        assert seeds == "5"
        assert area.endswith("higher")
        assert steps.endswith("lower")
        assert final.endswith(("level", "undecided"))


def test_places_have_their_teacher_in_the_rooms_of_its_student_or_alone(make_results):
    env = {"env": "habitat-navpick"}
    taught, alone = (
        Group("navpick-here", "llm4teach", {**env, "method": "llm4teach"}),
        Group("navpick-there-learned", "llm-only", {**env, "method": "llm-only"}),
    )
    alone_here = Group("navpick-here", "llm-only", alone.settings)
    results = make_results([taught, alone, alone_here], 1)
    for run, own in results.episodes.items():
        for actor, success in (("student", 0.5), ("teacher", 0.25 if "llm4teach" in run else 1.0)):
            if actor in own:
                own[actor] = np.tile([[0, 1, 9, success, 0]], (4, 1))
    lines = places_table(Cells(results, "default"), [alone_here, taught, alone]).splitlines()[2:]
    assert lines == [
        "| here | 25.0 % | 50.0 % | - | - | - |",
        "| there, learned | 100.0 % | - | - | - | - |",
        "| the paper's | 62.0% | 69.0% | 12.0% | - | 0.0% |",
    ]


def test_nav_and_pick_hand_worked(make_results):
    settings = {"env": "habitat-navpick"}
    taught, alone = (Group("navpick-here-learned", arm, {**settings, **ARMS[arm]}) for arm in ("llm4teach", "llm-only"))
    results = make_results([taught, alone], 2)
    student = [(1, 2.0, 100, 1, 0), (2, 0.0, 650, 0, 1), (3, 0.0, 50, 0, 0), (4, 1.0, 650, 1, 1)]
    teacher = [(1, 2.0, 300, 1, 0), (2, 0.0, 650, 0, 1), (3, 0.0, 650, 0, 1), (4, 0.0, 40, 0, 0)]
    for own in results.episodes.values():
        own.update({actor: np.array({"student": student, "teacher": teacher}[actor], float) for actor in own})
    table = figure6_table(Cells(results, "default"), [taught, alone]).splitlines()[2:]
    ours, told, *papers = (line.strip("| ").split(" | ") for line in table)
    # The student succeeds in two of four rooms, once as time runs out, which is no failure; one failure times out.
    assert ours[:3] == ["here, learned", "llm4teach", "2"]
    assert ours[3:7] == ["50.0, 50.0 %", "25.0, 25.0 %", "362.5, 362.5", "410.0, 410.0"]
    assert ours[7:9] == ["0.750, 0.750", "2 of 4"]
    assert told[3:9] == ["25.0, 25.0 %", "-", "410.0, 410.0", "-", "0.500, 0.500", "4 of 6"]
    assert told[9:] == ["-", "-"]  # it does not learn
    assert ["the paper's", "llm4teach", "-", "69.0%", "62.0%", "233.45", "330.23", "2.39", "-", "-", "-"] in papers


def test_errors_of_teachers_hand_worked(make_results):
    results = make_results([OURS], 1)
    (run,) = results.episodes
    columns = ("room", "return", "length", "success", "truncated")
    teacher = [(1, 0, 30, 0, 0), (3, 0, 150, 0, 1), (5, 1, 20, 1, 0), (7, 1, 40, 1, 0)]
    student = [(1, 1, 9, 1, 0), (3, 1, 9, 1, 0), (5, 1, 15, 1, 0), (7, 0, 150, 0, 1)]
    assert len(columns) == len(teacher[0])
    results.episodes[run] = {"teacher": np.array(teacher, float), "student": np.array(student, float)}
    (line,) = errors_table(Cells(results, "default"), [OURS]).splitlines()[2:]
    # One of four fails, one times out; both succeed in one room, 20 steps against 15.
    assert line == "| LavaDoorKey | llm4teach | 1 | 10.0% | 25.0% | 25.0% | 1.33 |"


def test_costs_are_added_up(make_results):
    (line,) = cost_table(Cells(make_results([PPO], 3), "default"), [PPO]).splitlines()[2:]
    assert line == "| LavaDoorKey | ppo | 3 | 70 s | 0.1 h | 400 MiB | 0 | a CPU |"


@pytest.mark.parametrize("name", reproduce.TARGETS)
def test_every_target_has_a_table_from_any_number_of_runs(name, make_results, tmp_path):
    groups = reproduce.groups_of(name, BUDGETS["default"])
    for seeds in (1, 5):
        cells = Cells(make_results(groups, seeds, folder=tmp_path / str(seeds)), "default")
        lines = reproduce.TARGETS[name].table(cells, groups).splitlines()
        assert len(lines) > 2
        assert len({line.count("|") for line in lines}) == 1
