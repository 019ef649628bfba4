"""The command reproduce.py: an interrupted call, given again, ends with the same files; the tables are the runs'."""

import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import reproduce
from evidence import plan
from evidence.claims import assertions_table, claims_table
from evidence.plan import BUDGETS, Run, doorkey
from evidence.results import Results
from evidence.tables import Cells

ROOT = Path(__file__).parent.parent.parent


def test_tables_in_results_and_pages_are_those_of_the_runs():
    results = Results(ROOT / "results")
    made = {"results/claims.md": claims_table(results), "results/assertions.md": assertions_table(results)}
    for budget in BUDGETS:
        cells = Cells(results, budget)
        for path in sorted((ROOT / "results" / budget).glob("*.md")):
            if path.stem in reproduce.TARGETS:
                groups = reproduce.groups_with_runs(path.stem, cells)
                made[f"results/{budget}/{path.name}"] = reproduce.TARGETS[path.stem].table(cells, groups)
    assert len(made) > 2
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))]
    for name, table in made.items():
        assert (ROOT / name).read_text().split("\n\n", 1)[1] == table
        for page in pages:
            for shown in page.split(f"<!-- {name} -->\n")[1:]:
                assert shown.split("<!-- end -->")[0] == table
    shown = {name for page in pages for name in re.findall(r"<!-- (results/\S+) -->", page)}
    assert shown <= {*made, *OTHERS}
    assert {"results/claims.md", "results/default/table3.md", "results/default/control.md"} <= shown


OTHERS = {
    *(f"results/full/{name}.md" for name in ("table3", "fig3")),  # by an earlier version
    "results/default/rooms.md",  # by evidence.rooms
}


TINY = """
import sys, reproduce
from evidence.plan import BUDGETS, Budget
settings = {"iterations": 12, "episodes": 2, "num_trajectories": 4, "i1": 2, "i2": 4}
BUDGETS["quick"] = Budget(1, 1, settings, 1000, "")
fig4 = reproduce.TARGETS["fig4"]  # with three of its groups, so that it takes less time
reproduce.TARGETS["fig4"] = fig4._replace(groups=lambda budget: fig4.groups(budget)[:3])
reproduce.main(sys.argv[1:])
"""


def call(folder, *arguments):
    folders = ["--runs", str(folder / "runs"), "--results", str(folder / "results")]
    command = [sys.executable, "-c", TINY, *arguments, *folders]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_cut_and_called_again_it_ends_with_the_same_table(tmp_path):
    whole = call(tmp_path / "whole", "fig4")
    assert whole.wait(timeout=300) == 0, whole.stderr.read()
    cut = call(tmp_path / "cut", "fig4")
    metrics = tmp_path / "cut/runs/reproduce/quick/DivergedDoorKey-hard-seed0/metrics.csv"
    while not metrics.exists() and cut.poll() is None:
        time.sleep(0.05)
    time.sleep(random.Random(0).uniform(0, 1))
    cut.send_signal(signal.SIGSTOP)  # so that it is not done before the second has started, however slow that is
    second = call(tmp_path / "cut", "fig4")
    assert second.wait(timeout=60) == 2
    assert "still under way" in second.stderr.read().splitlines()[-1]
    cut.send_signal(signal.SIGTERM)
    cut.send_signal(signal.SIGCONT)
    assert cut.wait(timeout=60) == 130
    assert not (tmp_path / "cut/results/quick/fig4.md").exists()
    again = call(tmp_path / "cut", "fig4")
    assert again.wait(timeout=300) == 0, again.stderr.read()
    for name in ("quick/fig4.md", "claims.md", "quick/fig4.png", "quick/fig4.pdf", "episodes.csv.gz", "curves.csv.gz"):
        first, second = ((tmp_path / folder / "results" / name).read_bytes() for folder in ("cut", "whole"))
        assert first == second
    rows = Results(tmp_path / "whole" / "results").rows.values()
    assert [row["run"] for row in rows] == sorted(row["run"] for row in rows)
    assert all(row["seconds"] > 0 and row["command"].startswith("python train.py") for row in rows)


def test_tables_are_made_again_from_results_alone(make_results, tmp_path, capsys):
    make_results(plan.main_groups(BUDGETS["default"]), 5)
    folder = tmp_path / "results"
    reproduce.main(["tables", "--results", str(folder)])
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"default/table3.md", "default/control.md", "default/fig3.png", "default/fig3.pdf", "claims.md"} <= names
    assert not any(name.startswith(("quick/", "paper/")) for name in names)  # which have no runs
    assert "default/cost.md" in names
    assert not names & {"default/fig4.md", "default/fig7.png", "default/robustness.md"}  # but for Table 3's runs
    assert "| SimpleDoorKey | ppo | 5 |" in capsys.readouterr().out


def test_what_is_finished_can_be_shown_while_the_rest_runs(make_run, tmp_path, capsys):
    (group,) = (g for g in plan.main_groups(BUDGETS["default"]) if g.name == "LavaDoorKey-ppo")
    (run,) = plan.plan_runs("default", [group], 1)
    make_run(tmp_path / "runs/reproduce/default" / run.folder, [0.5, 1.0], **run.settings)
    folders = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    reproduce.main(["table3", "--budget", "default", "--jobs", "0", *folders])
    assert "| LavaDoorKey | ppo | 1 |" in capsys.readouterr().out


def test_what_has_a_row_is_not_run_again_where_only_the_missing_is_asked_for(make_results, tmp_path, monkeypatch):
    groups = plan.schedule_groups(BUDGETS["default"])
    make_results(groups[:3], 1)
    asked = []
    monkeypatch.setattr(reproduce, "run_unfinished", lambda runs, *_: asked.extend(run.folder for run in runs))
    folders = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    before = (tmp_path / "results" / "runs.csv").read_bytes()
    reproduce.main(["fig7", "--budget", "default", "--seeds", "2", "--missing", *folders])
    assert asked == [*(f"{group.name}-seed0" for group in groups[3:]), *(f"{group.name}-seed1" for group in groups)]
    assert (tmp_path / "results" / "runs.csv").read_bytes() == before


def test_without_habitat_its_runs_are_left_out_and_what_is_finished_is_shown(make_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plan, "find_spec", lambda package: None)
    run, *others = plan.plan_runs("default", plan.habitat_groups(BUDGETS["default"]), 1)
    make_run(tmp_path / "runs/reproduce/default" / run.folder, [0.5, 1.0], num_trajectories=8, **run.settings)
    folders = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    reproduce.main(["fig6", "--seeds", "1", "--jobs", "1", *folders])
    said = capsys.readouterr().out
    assert f"{len(others)} runs in Habitat are left out: it is not installed; see docs/habitat.md\n" in said
    assert "| home | llm-only | 1 |" in said


@pytest.mark.parametrize("which", [0, -1], ids=["first", "last"])
@pytest.mark.parametrize("target", reproduce.TARGETS)
def test_a_single_finished_run_can_be_shown(target, which, make_results, capsys):
    budget = reproduce.TARGETS[target].budgets[0]
    group = reproduce.groups_of(target, BUDGETS[budget])[which]
    reproduce.write_targets([target], budget, make_results([group], 1, budget))
    assert f"\n{reproduce.TARGETS[target].title}" in capsys.readouterr().out


@pytest.mark.parametrize("target", ["control", "aggregate"])
def test_where_there_is_nothing_to_compare_nothing_is_written(target, make_results, capsys):
    results = make_results([doorkey("ColoredDoorKey", "llm4teach")], 5, "paper")
    reproduce.write_targets([target], "paper", results)
    assert "that it needs are not finished" in capsys.readouterr().out
    assert not (results.folder / "paper").exists()


def test_where_nothing_is_finished_it_says_so(tmp_path, capsys):
    folders = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    reproduce.main(["fig7", "--budget", "default", "--jobs", "0", *folders])
    assert capsys.readouterr().out == (
        "\nFigure 7: schedules of lambda: the runs of the default budget that it needs are not finished\n"
    )


def test_stopped_while_it_draws_it_says_so(make_results, tmp_path, monkeypatch, capsys):
    def stop(*arguments):
        raise KeyboardInterrupt

    make_results(plan.main_groups(BUDGETS["default"]), 1)
    monkeypatch.setitem(reproduce.TARGETS, "fig3", reproduce.TARGETS["fig3"]._replace(draw=stop))
    with pytest.raises(SystemExit) as stopped:
        reproduce.main(["tables", "--results", str(tmp_path / "results")])
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "stopped; what was run is kept, the same command goes on\n"


def test_runs_of_all_targets_are_made_once_and_seed_by_seed():
    runs = reproduce.plan_targets(reproduce.names_of("all", "quick"), "quick", None, None)
    assert len({run.name for run in runs}) == len(runs) > 100
    assert all(isinstance(run, Run) for run in runs)
    seeds = [run.settings["seed"] for run in runs]
    assert seeds == sorted(seeds)


@pytest.mark.parametrize(
    "arguments",
    [
        ["fig5"],
        ["fig3", "--seeds", "0"],
        ["fig3", "--jobs", "-1"],
        ["student", "--budget", "quick"],
        ["fig3", "--budget", "x"],
        ["fig6", "--runs", "/dev/null"],
        ["tables", "--results", "nowhere"],
        ["tables", "--results", "/dev/null"],
    ],
)
def test_bad_arguments_end_in_one_line(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        reproduce.main(arguments)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("reproduce.py: ")
