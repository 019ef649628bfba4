"""The command reproduce.py: an interrupted call, given again, ends with the same table; the tables are the runs'."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

import reproduce
from evidence.claims import claims_table
from evidence.measure import read_rows, write_rows
from evidence.plan import BUDGETS, METHODS

ROOT = Path(__file__).parent.parent.parent


def test_tables_in_results_and_pages_are_those_of_the_runs():
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))]
    tables = sorted((ROOT / "results").rglob("*.md"))
    assert tables
    for path in tables:
        if path.stem == "claims":
            made = claims_table(path.parent)
        else:
            rows = read_rows(path.parent / "runs.csv")
            target = reproduce.TARGETS[path.stem]
            groups = list(target.groups(BUDGETS[path.parent.name], Path()))
            navpick = [group for group in dict.fromkeys(row["group"] for row in rows) if "habitat" in group]
            order = [f"habitat-navpick-{method}" for method in METHODS]
            made = target.table(rows, groups or sorted(navpick, key=order.index))
        assert path.read_text().split("\n\n", 1)[1] == made
        marker = f"<!-- {path.relative_to(ROOT).as_posix()} -->\n"
        for page in pages:
            for shown in page.split(marker)[1:]:
                assert shown.split("<!-- end -->")[0] == made
    shown = {name for page in pages for name in re.findall(r"<!-- (results/\S+) -->", page)}
    assert shown <= {path.relative_to(ROOT).as_posix() for path in tables}
    assert {"results/full/table3.md", "results/full/fig3.md", "results/full/fig6.md", "results/claims.md"} <= shown


TINY = """
import sys, reproduce
from evidence.plan import BUDGETS, Budget
BUDGETS["quick"] = Budget(1, 1, {"iterations": 12, "episodes": 2, "num_trajectories": 4}, 2, 4, "")
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
    for name in ("quick/fig4.md", "claims.md", "quick/fig4.png"):
        first, second = ((tmp_path / folder / "results" / name).read_bytes() for folder in ("cut", "whole"))
        assert first == second
    assert json.loads((metrics.parent / "provenance.json").read_text())[0]["packages"]["torch"] == version("torch")


def test_nav_and_pick_is_drawn_from_the_runs_that_there_are(tmp_path, make_run, capsys):
    folders = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    reproduce.main(["fig6", *folders])
    assert "fig6 is left out" in capsys.readouterr().out
    make_run(tmp_path / "runs" / "a", [0.0, 0.5, 1.0], env="habitat-navpick", method="ppo")
    reproduce.main(["fig6", *folders])
    assert "| habitat-navpick | ppo | 1 |" in (tmp_path / "results/quick/fig6.md").read_text()
    assert (tmp_path / "results/quick/fig6.png").exists()


def test_stopped_while_it_draws_it_says_so(tmp_path, make_run, monkeypatch, capsys):
    def stop(*arguments):
        raise KeyboardInterrupt

    make_run(tmp_path / "runs" / "a", env="habitat-navpick", method="ppo")
    monkeypatch.setitem(reproduce.TARGETS, "fig6", reproduce.TARGETS["fig6"]._replace(draw=stop))
    with pytest.raises(SystemExit) as stopped:
        reproduce.main(["fig6", "--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")])
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "stopped; what was run is kept, the same command goes on\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["fig5"],
        ["fig3", "--seeds", "0"],
        ["fig3", "--jobs", "0"],
        ["fig3", "--budget", "x"],
        ["fig6", "--runs", "/dev/null"],
    ],
)
def test_bad_arguments_end_in_one_line(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        reproduce.main(arguments)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("reproduce.py: ")


def test_fewer_seeds_leave_none_of_the_others_behind(tmp_path, make_row, make_run):
    numbers = {"length": 9, "success": 0, "return": 0}
    rows = [make_row("LavaDoorKey-ppo", run=f"old-{s}", seed=s, **numbers) for s in range(5)]
    other = make_row("SimpleDoorKey-ppo", run="other", seed=0, **numbers)
    results = tmp_path / "results" / "quick"
    results.mkdir(parents=True)
    write_rows([*rows, other], results / "runs.csv")
    folder = make_run(tmp_path / "a", env="LavaDoorKey", method="ppo")
    reproduce.write_target("table3", BUDGETS["quick"], {"LavaDoorKey-ppo": [folder]}, results)
    assert [row["run"] for row in read_rows(results / "runs.csv")] == ["a", "other"]
    assert "| LavaDoorKey | ppo | 1 |" in (results / "table3.md").read_text()
