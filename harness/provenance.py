"""How a run was made: by which code, with what, on which processor, at what cost; provenance.json in its folder."""

from __future__ import annotations

import json
import platform
import resource
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Callable

import torch

from harness.cli import InputError
from harness.files import atomically, read_text
from harness.workers import Workers, count_cores

ROOT = Path(__file__).resolve().parent.parent
COST = ("memory_mib", "requests", "prompt_tokens", "completion_tokens")


class Provenance:
    """provenance.json: a list with an entry for each process that trained or measured the run, in their order."""

    def __init__(self, run_dir: Path, bill: Callable[[], dict[str, float]]) -> None:
        """Read the entries of earlier processes; raises InputError.  `bill`: what a live LLM was asked and paid."""
        self.path, self.bill, self.started = run_dir / "provenance.json", bill, time.perf_counter()
        self.entry, self.others = make_entry(), [0] * len(COST)
        self.earlier = read_provenance(self.path)

    def write(self, workers: Workers | None = None) -> None:
        """Write the entry of this process as it is now; with `workers`, all of which call this, their cost is added."""
        own = self.cost()
        if workers:
            self.others = (workers.gather(torch.tensor([own])).sum(0) - torch.tensor(own)).tolist()
        if not workers or workers.rank == 0:
            self.entry["seconds"] = round(time.perf_counter() - self.started, 1)
            self.entry |= {name: a + b for name, a, b in zip(COST, own, self.others)}
            with atomically(self.path) as part:
                part.write_text(json.dumps([*self.earlier, self.entry], indent=2) + "\n")

    def cost(self) -> list[int]:
        """Return the peak memory of this process so far, and what it asked of a live LLM."""
        # The most resident memory that this process had at a time, to which those of the workers are added. Simulators
        # in processes of their own are not in it. Linux begins with what the process had that started this one.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        bill = self.bill()
        llm = [bill.get(f"llm/{name.replace('_', ' ')}", 0) for name in COST[1:]]
        return [peak // (2**20 if sys.platform == "darwin" else 2**10), *map(int, llm)]


def read_provenance(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a provenance.json, [] without the file; raises InputError."""
    try:
        entries = json.loads(read_text(path)) if path.exists() else []
        if not (isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)):
            raise ValueError("it is not a list of entries")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); restore a copy, or remove it to go on without") from None
    return entries


def make_entry() -> dict[str, Any]:
    """Return what is known of a process from its start on."""
    installed = {package.metadata["Name"]: package.version for package in metadata.distributions()}
    return {
        "commit": find_commit(),
        "python": platform.python_version(),
        "packages": dict(sorted(installed.items())),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": find_processor(),
        "cores": count_cores(),
    }


def find_commit() -> str:
    """Return the commit of this code, with + where files that a run could read differ from it; "" without git."""
    changed = ["diff", "--quiet", "HEAD", "--", ".", ":!results", ":!docs", ":!README.md", ":!tests"]
    try:
        commit, differs = (
            subprocess.run(["git", "-C", str(ROOT), *command], capture_output=True, text=True, check=False)
            for command in (["rev-parse", "--short=7", "HEAD"], changed)
        )
    except OSError:
        return ""
    return commit.stdout.strip() + "+" * (differs.returncode == 1) if commit.returncode == 0 else ""


def find_processor() -> str:
    """Return the name of the processor's model, as far as the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
