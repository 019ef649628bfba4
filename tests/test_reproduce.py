"""What reproduce.py plans, measures and says; a cut call of it ends with the same table as a whole one."""

import csv
import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import storage

import reproduce
import teacher
import train

ROOT = Path(__file__).parent.parent


def test_interval_hand_worked():
    mean, half = reproduce.interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(
        4.30265 / np.sqrt(3), rel=1e-5
    )  # t of 2 degrees of freedom, standard error 1 / sqrt(3)
    assert reproduce.interval([5.0]) == (5.0, np.inf)


def test_difference_of_equal_spreads_is_students():
    low, high = reproduce.difference([1.0, 2.0, 3.0], [11.0, 12.0, 13.0])
    half = 2.776445 * np.sqrt(2 / 3)  # t of 4 degrees of freedom
    assert (low, high) == (pytest.approx(-10 - half, rel=1e-5), pytest.approx(-10 + half, rel=1e-5))
    assert reproduce.difference([1.0], [2.0, 3.0]) == (-np.inf, np.inf)
    assert reproduce.difference([1.0, 1.0], [0.5, 0.5]) == (0.5, 0.5)
    assert np.isfinite(reproduce.difference([1.0, 1.0], [0.5, 0.6])).all()


@pytest.mark.parametrize(
    ("ends", "outcome"), [((0.1, 0.2), "confirmed"), ((-0.2, -0.1), "refuted"), ((-1, 1), "unclear")]
)
def test_judge(ends, outcome):
    assert reproduce.judge(*ends) == outcome


def row(group, **columns):
    env, method = group.rsplit("-", 1)
    return {"group": group, "env": env, "method": method, "steps": 1e6, "steps_to_90": "", **columns}


def test_claims_follow_the_numbers():
    def outcomes(ours, theirs):
        rows = [row("LavaDoorKey-llm4teach", seed=s, success=1.0, **{"return": ours + s / 1000}) for s in range(3)]
        rows += [
            row("LavaDoorKey-ppo", seed=s, success=0.9 + s / 100, **{"return": theirs - s / 1000}) for s in range(3)
        ]
        return {claim: outcome for _, claim, _, outcome, _ in reproduce.claims(rows)}

    better, worse = outcomes(0.8, 0.5), outcomes(0.5, 0.8)
    assert better["LLM4Teach ends above ppo"] == "confirmed"
    assert worse["LLM4Teach ends above ppo"] == "refuted"
    assert better["baseline RL struggles: success below 50 %"] == "refuted"


def test_a_run_that_never_learns_counts_with_all_its_steps():
    rows = [
        row("LavaDoorKey-llm4teach", seed=s, success=1, steps_to_90=89.5e3 + 1e3 * s, **{"return": 1}) for s in range(2)
    ]
    rows += [row("LavaDoorKey-ppo", seed=s, success=0, **{"return": 0}) for s in range(2)]
    outcome = ["LavaDoorKey", "confirmed", "90 ± 6k against never"]
    assert ["4.1.2", "LLM4Teach learns in fewer steps than ppo", *outcome] in reproduce.claims(rows)


def test_the_full_budget_has_the_last_word(tmp_path):
    for budget, tasks in (("quick", ("LavaDoorKey", "ColoredDoorKey")), ("full", ("ColoredDoorKey",))):
        success = {"quick": 0.2, "full": 0.9}[budget]
        rows = [row(f"{task}-ppo", run=f"{task}-{s}", seed=s, success=success) for task in tasks for s in range(2)]
        (tmp_path / budget).mkdir()
        reproduce.write_rows([{**own, "return": 0.0} for own in rows], tmp_path / budget / "runs.csv")
    lines = [line.strip("| ").split(" | ") for line in reproduce.claims_table(tmp_path).splitlines()[2:]]
    assert [(task, outcome, budget) for _, _, task, outcome, _, budget in lines] == [
        ("LavaDoorKey", "confirmed", "quick"),
        ("ColoredDoorKey", "refuted", "full"),
    ]


def test_compared_with_the_paper():
    rows = [row("LavaDoorKey-ppo", success=s, **{"return": r}) for s, r in ((0.95, 0.5), (0.96, 0.51), (0.94, 0.49))]
    assert reproduce.compared(rows, "LavaDoorKey-ppo", "return", 0.1) == "higher"
    assert reproduce.compared(rows, "LavaDoorKey-ppo", "return", 0.9) == "lower"
    assert reproduce.compared(rows, "LavaDoorKey-ppo", "success", 0.95) == "same"
    assert reproduce.compared(rows[:1], "LavaDoorKey-ppo", "success", 0.95) == "one seed"


def test_flipped_books():
    book = teacher.read_replies(ROOT / "replies" / "SimpleDoorKey.jsonl")

    def wrong(share):
        answers = [(state, *plans) for state, plans in reproduce.flip(book, share, random.Random(0))]
        assert len(answers) == 10 * len(book)
        return np.mean([plan not in book[state] for state, plan in answers])

    assert wrong(0.0) == 0.0
    assert 0.3 < wrong(0.5) < 0.7
    assert wrong(1.0) == 1.0


@pytest.mark.parametrize("count", [0, 2, 6])
def test_withheld_books(count):
    replies = teacher.RecordedReplies(ROOT / "replies" / "SimpleDoorKey.jsonl")
    book = dict(reproduce.withhold(replies, count))
    answered = [state for state, plans in book.items() if plans == replies.book[state]]
    assert set(book) == set(replies.book)
    assert answered == list(book)[:count]
    assert all(book[state] == {"(not a plan)": 1.0} for state in list(book)[count:])
    assert not count or answered[0] == "The agent observes nothing, and holds nothing."


@pytest.mark.parametrize("budget", reproduce.BUDGETS)
def test_every_planned_run_is_one_that_train_takes(budget):
    budget = reproduce.BUDGETS[budget]
    for target in reproduce.TARGETS.values():
        for run in reproduce.plan(target.groups(budget, Path("/books")), budget, None):
            assert "{" not in run.settings.get("replies", "")
            given = vars(train.parse(reproduce.flags(run.settings)))
            assert given == run.settings


def test_full_is_the_papers_protocol():
    runs = reproduce.plan(reproduce.main_groups(reproduce.BUDGETS["full"], Path()), reproduce.BUDGETS["full"], None)
    taught = [run.settings for run in runs if run.group == "LavaDoorKey-llm4teach"]
    assert [settings["seed"] for settings in taught] == [0, 1, 2, 3, 4]
    paper = {"i1": 1000, "i2": 2000, "num_trajectories": 10, "minibatch_size": 128, "episodes": 1000}
    assert paper.items() <= taught[0].items()
    assert sum(run.group == "LavaDoorKey-ppo" for run in runs) == 3


def fake_run(folder, success):
    folder.mkdir(parents=True)
    storage.write_config(train.Config(num_trajectories=50), folder)
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("iteration", "steps", "success"))
        writer.writerows((i, 100 * (i + 1), value) for i, value in enumerate(success))


def test_steps_to_90_percent_of_the_last_hundred_episodes(tmp_path):
    fake_run(tmp_path / "a", [1.0, 0.0, 0.8, 1.0, 1.0])  # two iterations hold a hundred episodes
    assert reproduce.steps_to(tmp_path / "a") == 400
    fake_run(tmp_path / "b", [1.0, 0.0, 0.8, 0.9])
    assert reproduce.steps_to(tmp_path / "b") is None


def test_rows_survive_the_csv(tmp_path):
    rows = [
        {"run": "a", "seed": 1, "return": 0.1 + 0.2, "steps_to_90": "", "torch": "2.13.0"},
        {"run": "b", "seed": 2},
    ]
    reproduce.write_rows(rows, tmp_path / "runs.csv")
    written = (tmp_path / "runs.csv").read_text()
    assert reproduce.read_rows(tmp_path / "runs.csv")[0] == rows[0]
    reproduce.write_rows(reproduce.read_rows(tmp_path / "runs.csv"), tmp_path / "runs.csv")
    assert (tmp_path / "runs.csv").read_text() == written


def test_tables_in_results_and_readme_are_those_of_the_runs():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tables = sorted((ROOT / "results").rglob("*.md"))
    assert tables
    for path in tables:
        if path.stem == "claims":
            made = reproduce.claims_table(path.parent)
        else:
            rows = reproduce.read_rows(path.parent / "runs.csv")
            target = reproduce.TARGETS[path.stem]
            groups = list(target.groups(reproduce.BUDGETS[path.parent.name], Path()))
            nav_and_pick = [group for group in dict.fromkeys(row["group"] for row in rows) if "habitat" in group]
            order = [f"habitat-navpick-{method}" for method in reproduce.METHODS]
            made = target.table(rows, groups or sorted(nav_and_pick, key=order.index))
        assert path.read_text().split("\n\n", 1)[1] == made
        marker = f"<!-- {path.relative_to(ROOT).as_posix()} -->\n"
        if marker in readme:
            assert readme.split(marker)[1].split("<!-- end -->")[0] == made
    shown = set(re.findall(r"<!-- (results/\S+) -->", readme))
    assert shown <= {path.relative_to(ROOT).as_posix() for path in tables}
    assert {"results/full/table3.md", "results/full/fig3.md", "results/full/fig6.md", "results/claims.md"} <= shown


TINY = """
import sys, reproduce
reproduce.BUDGETS["quick"] = reproduce.Budget(1, 1, {"iterations": 12, "episodes": 2, "num_trajectories": 4}, 2, 4, "")
reproduce.main(sys.argv[1:])
"""


def call(folder, *arguments):
    command = [
        sys.executable,
        "-c",
        TINY,
        *arguments,
        "--runs",
        str(folder / "runs"),
        "--results",
        str(folder / "results"),
    ]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


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
    made = json.loads((metrics.parent / "provenance.json").read_text())
    assert made["torch"] == train.torch.__version__.split("+")[0] or made["torch"] == train.torch.__version__


def test_stopped_while_it_draws_it_says_so(tmp_path, monkeypatch, capsys):
    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(reproduce, "nav_and_pick", lambda folder: {"habitat-navpick-ppo": [folder]})
    monkeypatch.setattr(reproduce, "report", stopped)
    with pytest.raises(SystemExit) as stop:
        reproduce.main(["fig6", "--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")])
    assert stop.value.code == 130
    assert capsys.readouterr().err == "stopped; what was run is kept, the same command goes on\n"


def test_a_folder_with_another_run_is_not_taken(tmp_path, capsys):
    fake_run(tmp_path / "x-seed0", [1.0])
    with pytest.raises(SystemExit) as stop:
        reproduce.check_folder(reproduce.Run("x", {"method": "ppo", "seed": 0}), tmp_path / "x-seed0")
    assert stop.value.code == 2
    assert "has method llm4teach, and ppo is planned" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["fig5"], ["fig3", "--seeds", "0"], ["fig3", "--jobs", "0"], ["fig3", "--budget", "x"]]
)
def test_bad_arguments_end_in_one_line(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        reproduce.main(arguments)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("reproduce.py: ")


def test_the_command_of_a_row_is_that_of_its_run(tmp_path):
    fake_run(tmp_path / "a", [0.0, 0.0])
    (tmp_path / "a" / "eval.json").write_text(json.dumps({"length": 5, "return": 0, "success": 0}))
    for given in ({"env": "SimpleDoorKey"}, {"env": "habitat-navpick", "seed": 3}, {"env": "habitat-nav", "i1": 15}):
        config = train.configure({**given, "run_dir": "somewhere"})
        storage.write_config(config, tmp_path / "a")
        command = reproduce.measure("a", tmp_path / "a")["command"].removeprefix("python train.py ")
        assert vars(train.parse(command.split())) == given


def test_a_book_in_a_row_is_named_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fake_run(tmp_path / "a", [0.0, 0.0])
    (tmp_path / "a" / "eval.json").write_text(json.dumps({"length": 5, "return": 0, "success": 0}))
    storage.write_config(train.Config(replies=str(tmp_path / "books" / "b.jsonl")), tmp_path / "a")
    assert "--replies books/b.jsonl" in reproduce.measure("a", Path("a"))["command"]


def test_fewer_seeds_leave_none_of_the_others_behind(tmp_path):
    rows = [row("LavaDoorKey-ppo", run=f"old-{s}", seed=s, length=9, success=0, **{"return": 0}) for s in range(5)]
    other = row("SimpleDoorKey-ppo", run="other", seed=0, length=9, success=0, **{"return": 0})
    results = tmp_path / "results" / "quick"
    results.mkdir(parents=True)
    reproduce.write_rows([*rows, other], results / "runs.csv")
    fake_run(tmp_path / "a", [0.0, 0.0])
    storage.write_config(train.Config(env="LavaDoorKey", method="ppo"), tmp_path / "a")
    (tmp_path / "a" / "eval.json").write_text(json.dumps({"length": 5, "return": 0, "success": 0}))
    budget = reproduce.BUDGETS["quick"]
    reproduce.report("table3", budget, {"LavaDoorKey-ppo": [tmp_path / "a"]}, results)
    assert [own["run"] for own in reproduce.read_rows(results / "runs.csv")] == ["a", "other"]
    assert "| LavaDoorKey | ppo | 1 |" in (results / "table3.md").read_text()


def test_the_readme_is_brought_up_to_date(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "ROOT", tmp_path)
    (tmp_path / "README.md").write_text("Before.\n<!-- results/a.md -->\nold\n<!-- end -->\nAfter. <!-- end -->\n")
    (tmp_path / "results").mkdir()
    for name in ("a", "b"):
        reproduce.write_table(tmp_path / "results" / f"{name}.md", "Heading", f"{name}\n")
    assert (tmp_path / "results" / "b.md").read_text() == "Heading\n\nb\n"
    assert (tmp_path / "README.md").read_text() == (
        "Before.\n<!-- results/a.md -->\na\n<!-- end -->\nAfter. <!-- end -->\n"
    )


def test_the_first_numbers_in_the_readme_are_those_of_the_runs():
    first_screen = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## ")[0]
    rows = reproduce.read_rows(ROOT / "results" / "full" / "runs.csv")
    told = [float(number) for number in re.findall(r"(\d+\.\d) %", first_screen)]
    groups = [f"{task}-{method}" for method in ("llm4teach", "llm-only") for task in reproduce.TASKS]
    assert told == [round(100 * np.mean(reproduce.values(rows, group, "success")), 1) for group in groups]
    assert len(reproduce.values(rows, groups[0], "seed")) == 5
