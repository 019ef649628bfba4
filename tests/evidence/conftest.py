"""Run folders, and results of runs that never were, for the tests of evidence/ and reproduce.py."""

import csv
import json

import numpy as np
import pytest

from evidence.plan import BUDGETS, Run, plan_runs
from evidence.results import Results
from harness.config import configure
from harness.run_files import write_config


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
        numbers = {"length": 5, "return": 0.5, "success": 0.5}
        (folder / "eval.json").write_text(json.dumps({"env": config.env, "method": config.method, **numbers}))
        actor = "teacher" if config.method == "llm-only" else "student"
        rows = [(actor, 1, 1.0, 4, 1, 0), (actor, 3, 0.0, 6, 0, 1)]
        with (folder / "episodes.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("actor", "room", "return", "length", "success", "truncated"), *rows])
        entry = {"commit": "abc1234", "python": "3.11.7", "packages": {"torch": "2.0"}, "system": "Linux", "cores": 2}
        cost = {"seconds": 10.0, "memory_mib": 300, "requests": 0, "prompt_tokens": 0, "completion_tokens": 0}
        (folder / "provenance.json").write_text(json.dumps([{**entry, "processor": "a CPU", **cost}]))
        return folder

    return make_run


@pytest.fixture
def make_results(tmp_path):
    """Return a function that makes results of groups, with a row, a curve and episodes for each seed."""

    def make_results(groups, seeds, budget="default", learns_at=lambda group: 100_000, folder=tmp_path / "results"):
        results, rng = Results(folder), np.random.default_rng(0)
        for run in plan_runs(budget, list(groups), seeds, data=tmp_path):
            add_run(results, run, learns_at(run.group) * rng.uniform(0.8, 1.2), rng)
        results.write()
        return Results(folder)

    return make_results


def add_run(results: Results, run: Run, learns_at: float, rng: np.random.Generator) -> None:
    """Add a run whose success rises to 1 around a number of steps."""
    steps = np.arange(1, 101) * 6000.0
    success = 1 / (1 + np.exp(-(np.log(steps) - np.log(learns_at)) * 5)) * rng.uniform(0.97, 1.0, len(steps))
    episodes = {actor: draw_episodes(rng, chance) for actor, chance in (("student", 0.98), ("teacher", 0.6))}
    student = run.settings["method"] != "llm-only"
    if not student:
        episodes.pop("student")
    if run.settings["method"] in ("ppo", "hierarchical"):
        episodes.pop("teacher")
    acting = episodes["student" if student else "teacher"].mean(0)
    alone = episodes.get("teacher", np.full((1, 5), np.nan)).mean(0)
    taught = "teacher" in episodes
    results.rows[run.name] = {
        "run": run.name, "budget": run.budget, "group": run.group.name, "task": run.group.task, "arm": run.group.arm,
        "seed": run.settings["seed"], "return": acting[1], "length": acting[2], "success": acting[3],
        "teacher_return": alone[1] if taught else "", "teacher_success": alone[3] if taught else "",
        "invalid_share": 0.1 if taught else "",
        "auc_return": success[:50].mean() / 2 if student else "", "auc_success": success[:50].mean() if student else "",
        "steps": steps[-1] if student else "", "horizon": BUDGETS[run.budget].horizon,
        "steps_to_50": learns_at if student and learns_at < 6e5 else "",
        "steps_to_90": 1.5 * learns_at if student and learns_at < 4e5 else "",
        "seconds": 70.0, "memory_mib": 400, "requests": 0, "processor": "a CPU",
    }  # fmt: skip
    results.episodes[run.name] = episodes
    if student:
        results.curves[run.name] = np.stack([steps, 0.85 * success, success], axis=1)


def draw_episodes(rng: np.random.Generator, chance: float) -> np.ndarray:
    """Return 50 evaluation episodes: room, return, length, success, truncated."""
    success = rng.random(50) < chance
    return np.stack([np.arange(50) * 2 + 1, 0.85 * success, 20 + 100 * ~success, success, ~success], axis=1).astype(
        float
    )
