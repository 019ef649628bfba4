"""Learned options: students trained on the options' own tasks, then frozen (paper section 4.2.1).

    python -m navpick.learned RUN_DIR    # ship a finished run's student: its weights in half precision, and a card

Those that ship are in navpick/weights/, one for each option and data set.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.cli import InputError, Parser, errors_in_one_line
from harness.config import default_config, flag, stored_config
from harness.provenance import read_provenance
from harness.run_files import read_metrics, read_weights, write_weights
from navpick.dataset import HOME
from navpick.layout import NUM_ACTIONS, NUM_SENSORS
from navpick.nets import STUDENTS
from navpick.options import OPTION_NAMES, Policy

WEIGHTS = Path(__file__).parent / "weights"
TASKS = {"habitat-nav": "navigate", "habitat-pick": "pick"}
DATA = {
    "home": "the home in data/home, MIT like all of this project",
    "replicacad": (
        "ReplicaCAD (CC BY 4.0, Meta Platforms) with habitat's Fetch (CC BY-NC-SA 4.0, adapted from Fetch Robotics' "
        "fetch_ros)"
    ),
}


def data_name(folder: Path) -> str:
    """Return which of DATA a data-set folder is; raises InputError if it is neither."""
    if folder.resolve() == HOME:
        return "home"
    if (folder / "replica_cad").is_dir():
        return "replicacad"
    raise InputError(
        f"{folder} is neither the home nor ReplicaCAD; options that were learned on other data do not ship, give their "
        "student.pt as --options NAV.PT,PICK.PT"
    )


def learned_policies(options: str, folder: Path) -> dict[str, Policy]:
    """Return the policies of --options by option; {} if all are scripted. Raises InputError.

    `options`: scripted; learned, those that ship for the data set in `folder`; or NAV.PT,PICK.PT.
    """
    if options == "scripted":
        return {}
    if options == "learned":
        paths = [str(WEIGHTS / f"{data_name(folder)}-{name}.pt") for name in OPTION_NAMES]
    else:
        paths = options.split(",")
    if len(paths) != len(OPTION_NAMES):
        raise InputError(
            f"--options is {options}; give scripted, learned, or a student.pt for each of {', '.join(OPTION_NAMES)}, "
            "in this order and with a comma between them"
        )
    return {name: read_policy(Path(path)) for name, path in zip(OPTION_NAMES, paths)}


def read_policy(path: Path) -> Policy:
    """Return the policy of a student trained in Habitat: observation -> means and standard deviations, (2, 11).

    Raises InputError if the file does not hold the weights of such a student.
    """
    weights = read_weights(path)
    for make in STUDENTS.values():
        student = make(NUM_ACTIONS, num_sensors=NUM_SENSORS)
        try:
            student.load_state_dict(weights)
        except RuntimeError:  # the weights are another net's
            continue

        @torch.inference_mode()
        def policy(observation: np.ndarray, student: Any = student) -> np.ndarray:
            gaussian = student(torch.from_numpy(observation)[None]).policy
            return torch.cat([gaussian.mean, gaussian.stddev]).numpy()

        return policy
    raise InputError(
        f"{path} is not the student.pt of an option, which python train.py --env habitat-nav --method ppo trains"
    )


def ship(run_dir: Path) -> Path:
    """Write a finished run's student to WEIGHTS, in half precision, with a card; return the weights' path.

    Raises InputError if the run is not a finished one of an option's task.
    """
    settings = stored_config(run_dir)
    task, method = settings["env"], settings["method"]
    if task not in TASKS or method == "llm-only":
        raise InputError(
            f"{run_dir} is a run of {task} by {method}; give one of {' or '.join(TASKS)} that trained a student"
        )
    for name in ("metrics.csv", "student.pt", "eval.json"):
        if not (run_dir / name).exists():
            raise InputError(f"{run_dir} is not finished, it has no {name}; python train.py --resume {run_dir}")
    steps = read_metrics(run_dir / "metrics.csv")[-1]["steps"]
    weights = read_weights(run_dir / "student.pt")
    try:
        measured = json.loads((run_dir / "eval.json").read_text())
    except ValueError as error:
        raise InputError(
            f"{run_dir / 'eval.json'} cannot be read ({error}); python train.py --eval {run_dir}"
        ) from None
    data = data_name(Path(settings["habitat_data"] or HOME))
    path = WEIGHTS / f"{data}-{TASKS[task]}.pt"
    WEIGHTS.mkdir(exist_ok=True)
    write_weights(path, {name: weight.half() for name, weight in weights.items()})
    rows = {
        "command": f"`{command(settings)}`",
        "method": settings["method"],
        "seed, workers": f"{settings['seed']}, {settings['workers']}",
        "commit": ", ".join(
            dict.fromkeys(entry.get("commit", "") for entry in read_provenance(run_dir / "provenance.json"))
        ),
        "environment steps": f"{steps:,.0f}",
        "success": f"{measured['success']:.0%} of {measured['episodes']} unseen episodes",
        "return, steps an episode": f"{measured['return']:.2f}, {measured['length']:.1f}",
        "student": f"{settings['student']}, {measured['weights']:,} weights, in half precision",
        "data": DATA[data],
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    path.with_suffix(".md").write_text(f"# {TASKS[task]}, learned\n\n| | |\n| --- | --- |\n{table}\n")
    return path


def command(settings: dict[str, Any]) -> str:
    """Return the command that repeats a run: its settings where they differ from the defaults of its task."""
    defaults = default_config(settings["env"])
    own = [
        f
        for f in fields(defaults)
        if settings[f.name] != getattr(defaults, f.name) and not f.metadata["changeable"] and f.name != "run_dir"
    ]
    words = []
    for f in own:
        if f.type == "bool":
            words.append(flag(f.name if settings[f.name] else f"no_{f.name}"))
        else:
            words.append(f"{flag(f.name)} {'DIR' if f.metadata['path'] else settings[f.name]}")
    return " ".join(["python train.py", f"--env {settings['env']}", *words])


@errors_in_one_line("navpick.learned")
def main(arguments: Sequence[str] | None = None) -> None:
    """Ship a finished run's student."""
    parser = Parser(
        prog="-m navpick.learned", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="a finished run of habitat-nav or habitat-pick")
    path = ship(parser.parse_args(arguments).run_dir)
    print(f"wrote {path}, {path.stat().st_size / 1024:.0f} KiB, and {path.with_suffix('.md').name}")


if __name__ == "__main__":
    main()
