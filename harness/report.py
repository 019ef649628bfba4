"""What a finished run is reported as: a table beside the paper's numbers, eval.json, episodes.csv, pictures.

python -m harness.report RUN_DIR          # the last row of its metrics, and its curve.png
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.cli import InputError, Parser, errors_in_one_line
from harness.files import atomically
from harness.run_files import read_metrics
from harness.task import Task
from rollout import Act, Decision, Episode, evaluate, evaluation_seeds, rollout


def report(task: Task, run_dir: Path, actors: dict[str, Act], about: dict[str, Any], teacher: Any) -> None:
    """Evaluate the actors, print the table, write episodes.csv and eval.json; with a student play.gif and curve.png.

    actors: "student" or "teacher", or both -> how it acts.  about: what eval.json says of the student.  teacher: the
    mixture whose statistics are reported, or None.
    """
    config = task.config
    seeds = evaluation_seeds(config.seed, config.episodes)
    episodes = {name: evaluate(task, act) for name, act in actors.items()}
    result: dict[str, Any] = {
        "env": config.env,
        "method": config.method,
        "episodes": config.episodes,
        "seeds": [seeds[0], seeds[-1]],
        "seed": config.seed,
        "deterministic": config.deterministic,
        "options": config.options,
        **about,
    }
    if "student" in actors:
        result |= means(episodes["student"])
    if "teacher" in actors:
        measured = means(episodes["teacher"]) | teacher.pop_statistics()
        result |= {"teacher": measured} if "student" in actors else measured
        if teacher.invalid_plans:
            plans = ", ".join(f"{plan!r} {count}x" for plan, count in teacher.invalid_plans.most_common(3))
            print(f"{measured['invalid_share']:.1%} of the teacher's answers could not be followed; most often {plans}")
    write_episodes(run_dir / "episodes.csv", episodes)
    with atomically(run_dir / "eval.json") as part:  # the last of what a finished run is known by
        part.write_text(json.dumps(result, indent=2) + "\n")
    print(table(task, result))
    if "student" in actors:
        warn_of_teacher(task, read_metrics(run_dir / "metrics.csv"))
        draw_films(task, run_dir, actors)
        draw_curve(run_dir)


def means(episodes: Sequence[Episode]) -> dict[str, float]:
    """Return mean return, length and success."""
    return {
        "return": float(np.mean([episode.score for episode in episodes])),
        "length": float(np.mean([episode.length for episode in episodes])),
        "success": float(np.mean([episode.success for episode in episodes])),
    }


def write_episodes(path: Path, episodes: dict[str, list[Episode]]) -> None:
    """Write episodes.csv: a row for each actor and room."""
    with atomically(path) as part, part.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("actor", "room", "return", "length", "success", "truncated"))
        for actor, own in episodes.items():
            writer.writerows((actor, e.room, float(e.score), e.length, int(e.success), int(e.truncated)) for e in own)


def table(task: Task, result: dict[str, Any]) -> str:
    """Return the method measured, its teacher if that was measured too, and the paper's row, as lines of text."""
    config = task.config
    measured = {"student" if config.method != "llm-only" else "teacher (llm-only)": result}
    if "teacher" in result:
        measured["teacher (llm-only)"] = result["teacher"]
    lines = [f"{config.env}, {config.episodes} episodes", f"{'':26}{'length':>8}{'return':>8}{'success':>9}"]
    lines += [
        f"{name:26}{row['length']:8.2f}{row['return']:8.3f}{row['success']:9.1%}" for name, row in measured.items()
    ]
    if config.method in task.paper:
        length, reward, success = task.paper[config.method]
        lines.append(f"{'paper, ' + config.method:26}{length:8.2f}{reward:8.2f}{success:9.1%}")
    return "\n".join(lines)


def warn_of_teacher(task: Task, rows: Sequence[dict[str, Any]]) -> None:
    """Print a warning if lambda was not 0 in the last of its metrics' `rows`: the last phase of Eq. (3) is missing."""
    config = task.config
    for row in rows[-1:]:
        if row["lambda"] > 0 and config.method == "llm4teach" and config.anneal != "constant":
            done, unit = (row["steps"], "steps") if task.anneals_over_steps else (row["iteration"] + 1, "iterations")
            print(
                f"warning: the student never trained without its teacher, lambda was {row['lambda']:.3g} at the end; "
                f"the run had {done:,} {unit}, --i2 is {config.i2:,}: --resume it with more --iterations, or make "
                "--i2 smaller in a new run"
            )


def record_episode(task: Task, env: Any, seed: int, act: Act) -> tuple[list[np.ndarray | None], bool]:
    """Return pictures of all states of an episode, and whether it was a success."""
    pictures: list[np.ndarray | None] = []

    def act_and_draw(observations: Sequence[Any]) -> Sequence[Decision]:
        pictures.append(task.picture(env, observations[0]))
        return act(observations)

    (trajectory,) = rollout([[env]], [seed], act_and_draw)
    return [*pictures, task.picture(env, trajectory[-1].next_observation)], trajectory[-1].success


def draw_films(task: Task, run_dir: Path, actors: dict[str, Act], episodes: int = 3) -> None:
    """Draw play.gif: each actor in the same rooms, side by side; of long episodes not every step.

    Nothing is drawn of a task without pictures.
    """
    from PIL import Image, ImageDraw

    torch.manual_seed(task.config.seed)
    (env,) = (env for group in task.make_envs(1, "val", film=True) for env in group)
    frames: list[Image.Image] = []
    for seed in evaluation_seeds(task.config.seed, episodes):
        films = {name: record_episode(task, env, seed, act) for name, act in actors.items()}
        if any(picture is None for pictures, _ in films.values() for picture in pictures):
            return
        longest = max(len(pictures) for pictures, _ in films.values())
        every = 1 + longest // 100
        for t in range(0, longest + 3 * every, every):
            columns = []
            for name, (pictures, success) in films.items():
                now = min(t, len(pictures) - 1)
                text = f"{name}, step {now}" + (": done" if success else ": failed") * (now == len(pictures) - 1)
                padded = np.pad(np.asarray(pictures[now]), ((22, 0), (0, 12), (0, 0)), constant_values=255)
                column = Image.fromarray(padded)
                ImageDraw.Draw(column).text((4, 5), text, fill="black")
                columns.append(np.asarray(column))
            frames.append(Image.fromarray(np.concatenate(columns, axis=1)).quantize(64))
    with atomically(run_dir / "play.gif") as part:
        frames[0].save(part, "GIF", save_all=True, append_images=frames[1:], duration=180, loop=0)


def draw_curve(run_dir: Path) -> None:
    """Draw curve.png: success, return and lambda over environment steps, and the teacher's scores if measured."""
    from matplotlib.figure import Figure  # not pyplot, which would take over a notebook's figures

    config, result = json.loads((run_dir / "config.json").read_text()), run_dir / "eval.json"
    teacher = json.loads(result.read_text()).get("teacher") if result.exists() else None
    rows = read_metrics(run_dir / "metrics.csv")
    steps = [row["steps"] for row in rows]
    width = 20  # iterations in the moving average
    figure = Figure(figsize=(7, 6), layout="constrained")
    success, returns, lambdas = figure.subplots(3, sharex=True, height_ratios=(2, 2, 1))
    for axes, name in ((success, "success"), (returns, "return")):
        values = [row[name] for row in rows]
        moving_average = [np.mean(values[max(0, t + 1 - width) : t + 1]) for t in range(len(values))]
        axes.plot(steps, moving_average, color="tab:blue", label=f"student (mean of {width} iterations)")
        if teacher:
            axes.axhline(teacher[name], color="tab:orange", linestyle="--", label="teacher alone")
        axes.set(ylabel=name)
    success.set(ylim=(-0.02, 1.02), title=f"{config['method']} on {config['env']}, seed {config['seed']}")
    success.legend(loc="lower right")
    lambdas.plot(steps, [row["lambda"] for row in rows], color="tab:gray")
    lambdas.set(xlabel="environment steps", ylabel="lambda")
    lambdas.set_yscale("symlog", linthresh=0.1)
    with atomically(run_dir / "curve.png") as part:
        figure.savefig(part, dpi=150, format="png")


@errors_in_one_line("harness.report")
def main(arguments: Sequence[str] | None = None) -> None:
    """Print where a run is and draw its curve."""
    parser = Parser(prog="-m harness.report", description=main.__doc__)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="folder of a run")
    run_dir = parser.parse_args(arguments).run_dir
    rows = read_metrics(run_dir / "metrics.csv")
    if not rows:
        raise InputError(f"{run_dir} has no metrics.csv with a row; give the folder of a run")
    for name, value in rows[-1].items():
        print(f"{name:16}{value}")
    draw_curve(run_dir)
    print(f"drawn: {run_dir / 'curve.png'}")


if __name__ == "__main__":
    main()
