"""What results/ holds of all runs: runs.csv, episodes.csv.gz and curves.csv.gz, from which every table is made."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evidence.measure import Row, measure_run, read_episodes, read_training, thin_curve
from evidence.plan import Run
from harness.files import atomically

EPISODE = ("return", "length", "success", "truncated")  # of an evaluation episode, after its room
CURVE = ("steps", "return", "success")  # of EPISODES training episodes
NUMBERS = (
    "seed", "return", "length", "success", "teacher_return", "teacher_length", "teacher_success", "invalid_share",
    "teacher_entropy", "no_advice_share", "horizon", "steps", "auc_return", "auc_success", "steps_to_50",
    "steps_to_90", "seconds", "memory_mib", "requests", "prompt_tokens", "completion_tokens",
)  # fmt: skip


class Results:
    """Rows of runs.csv; of each run its evaluation episodes by actor, (rooms, 1 + len(EPISODE)), and its curve."""

    def __init__(self, folder: Path) -> None:
        """Read a folder; files that are not there are empty."""
        self.folder = folder
        self.rows: dict[str, Row] = {}
        self.episodes: dict[str, dict[str, np.ndarray]] = {}
        for row in read_csv(folder / "runs.csv"):
            self.rows[row["run"]] = {k: json.loads(v) if k in NUMBERS and v else v for k, v in row.items()}
        grouped: dict[tuple[str, str], list[list[float]]] = {}
        for row in read_csv(folder / "episodes.csv.gz"):
            numbers = [float(row[name]) for name in ("room", *EPISODE)]
            grouped.setdefault((row["run"], row["actor"]), []).append(numbers)
        for (run, actor), own in grouped.items():
            self.episodes.setdefault(run, {})[actor] = np.array(own)
        points: dict[str, list[list[float]]] = {}
        for row in read_csv(folder / "curves.csv.gz"):
            points.setdefault(row["run"], []).append([float(row[name]) for name in CURVE])
        self.curves: dict[str, np.ndarray] = {run: np.array(own) for run, own in points.items()}

    def add(self, run: Run, folder: Path) -> None:
        """Measure a finished run, in the place of one of the same name."""
        self.rows[run.name] = measure_run(run, folder)
        self.curves.pop(run.name, None)
        if run.settings["method"] != "llm-only":
            self.curves[run.name] = thin_curve(read_training(folder))
        actors: dict[str, list[tuple[float, ...]]] = {}
        for actor, *numbers in read_episodes(folder):
            actors.setdefault(actor, []).append(tuple(map(float, numbers)))
        self.episodes[run.name] = {actor: np.array(own) for actor, own in actors.items()}

    def write(self) -> None:
        """Write the three files; the same runs give the same bytes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        names = sorted(self.rows)
        rows = [self.rows[name] for name in names]
        heads = list(dict.fromkeys(name for row in rows for name in row))
        write_csv(self.folder / "runs.csv", heads, ([row.get(head, "") for head in heads] for row in rows))
        write_csv(
            self.folder / "episodes.csv.gz",
            ("run", "actor", "room", *EPISODE),
            (
                (name, actor, f"{room:.0f}", f"{score:.6g}", *(f"{number:.0f}" for number in rest))
                for name in names
                for actor, own in self.episodes[name].items()
                for room, score, *rest in own.tolist()
            ),
        )
        write_csv(
            self.folder / "curves.csv.gz",
            ("run", *CURVE),
            (
                (name, f"{steps:.0f}", f"{score:.4g}", f"{success:.4g}")
                for name in names
                if name in self.curves
                for steps, score, success in self.curves[name].tolist()
            ),
        )

    def select(self, budget: str, group: str) -> list[Row]:
        """Return the rows of a group, in the order of their seeds."""
        own = (row for row in self.rows.values() if (row["budget"], row["group"]) == (budget, group))
        return sorted(own, key=lambda row: row["seed"])


def column(rows: Iterable[Row], name: str) -> list[float]:
    """Return a column, without the runs that have no value there."""
    return [row[name] for row in rows if row.get(name, "") != ""]


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table of texts, compressed if its name ends in .gz; [] without the file."""
    if not path.exists():
        return []
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def write_csv(path: Path, heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table, compressed if its name ends in .gz; the same rows give the same bytes."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    data = text.getvalue().encode()
    with atomically(path) as part:
        if path.suffix == ".gz":  # not gzip.compress, whose header depends on the version of Python
            with part.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                packed.write(data)
        else:
            part.write_bytes(data)
