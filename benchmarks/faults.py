"""Try what goes wrong, and print the table of docs/reliability.md: kind, what was tried and how often, what happens.

    python benchmarks/faults.py                 # 200 kills, then the tests of each kind: a quarter of an hour
    python benchmarks/faults.py --kills 10

Runs are killed at random moments and resumed until they are done; then metrics.csv and student.pt must be those of a
run that was never killed, byte for byte. Four processes record one reply book, of a little server in this process, and
are killed and started again until it is full; then each answer must stand in it once. The other rows count tests,
whose inputs the tests name.
"""

from __future__ import annotations

import argparse
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))
from harness.cli import InputError, Parser, errors_in_one_line
from harness.workers import count_cores
from teacher import read_records
from tests.llm.server import Server

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = ["--iterations", "60", "--num-trajectories", "2", "--episodes", "1", "--method", "llm4teach"]
SAMPLES = 40  # answers a state
WAIT = 100  # seconds that a process may be waited for


class Kind(NamedTuple):
    """A row of the table that tests fill: what was tried, the tests that try it, and what happens."""

    name: str
    tests: str
    happens: str


KINDS = (
    Kind("a command line, made from its parser's own description", "tests/test_fuzz.py", "one line, exit code 2"),
    Kind("a setting or a file that cannot be used", "tests/harness/test_bad_input.py", "one line, exit code 2"),
    Kind("a checkpoint, rows or weights from elsewhere; numbers that are not finite", "tests/harness/test_checks.py",
         "one line, exit code 2; what was good stays"),
    Kind("a full disk", "tests/harness/test_full_disk.py", "one line; the run goes on once there is room"),
    Kind("two processes on a run; folders and links of all kinds", "tests/harness/test_files.py",
         "the second says so and ends"),
    Kind("a reply book from elsewhere", "tests/test_books.py", "read, or one line; never changed"),
    Kind("streams that are closed or full, encodings, Ctrl-C during imports", "tests/harness/test_terminal.py",
         "the run goes on; one line, exit code 130"),
)  # fmt: skip


def spawn(*command: str) -> subprocess.Popen[str]:
    """Start one of our programs."""
    words = [sys.executable, str(ROOT / command[0]), *command[1:]]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str], after: float, number: int) -> str:
    """Send a signal after so many seconds, if the process is not done by then; return its stderr."""
    try:
        return process.communicate(timeout=after)[1]
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        return process.communicate(timeout=WAIT)[1]


def kill_a_run(folder: Path, chance: random.Random, whole: Path, longest: float) -> tuple[int, int]:
    """Train in a folder, killed at random moments until it has a student; return how often, and 1 if that differs.

    whole: the folder of a run that was never killed, which took `longest` seconds; a kill falls anywhere in these.
    """
    kills = 0
    while not (folder / "student.pt").exists():
        resume = (folder / "config.json").exists()
        process = spawn("train.py", *(["--resume", str(folder)] if resume else [*SETTINGS, "--run-dir", str(folder)]))
        errors = end(process, chance.uniform(0, longest), signal.SIGKILL)
        if process.returncode not in (0, -signal.SIGKILL):
            raise InputError(f"a run that was killed {kills} times cannot go on: {errors[-500:]}")
        kills += process.returncode != 0
    names = ("metrics.csv", "student.pt")
    return kills, int(any((folder / name).read_bytes() != (whole / name).read_bytes() for name in names))


def interrupt_a_run(folder: Path, chance: random.Random, longest: float) -> bool:
    """Press Ctrl-C at a random moment; return whether the run ended in one line and exit code 130, or was finished."""
    process = spawn("train.py", *SETTINGS, "--run-dir", str(folder))
    errors = end(process, chance.uniform(0.2, longest), signal.SIGINT)
    said = [line for line in errors.replace("\r", "\n").splitlines() if line and "it/s" not in line]
    stopped = process.returncode == 130 and len(said) == 1 and not list(folder.rglob("*.part"))
    return stopped or process.returncode == 0


def fill_a_book(book: Path, chance: random.Random, kills: int) -> tuple[int, int, int]:
    """Record a book with four processes, killed so often; return the answers in it, those wanted, those sent."""
    server = Server(delay=0.02)
    command = ["teacher.py", "record", "--env", "ColoredDoorKey", "--teacher-url", server.url, "--teacher-model", "m",
               "--teacher-samples", str(SAMPLES), "--replies", str(book)]  # fmt: skip
    processes = [spawn(*command) for _ in range(4)]
    for _ in range(kills):
        victim = chance.randrange(4)
        errors = end(processes[victim], chance.uniform(0, 4), signal.SIGKILL)
        if processes[victim].returncode not in (0, -signal.SIGKILL):
            raise InputError(f"recording failed: {errors[-500:]}")
        processes[victim] = spawn(*command)
    for process in processes:
        if process.wait(WAIT):
            raise InputError(f"recording failed: {process.communicate()[1][-500:]}")
    server.shutdown()
    records = read_records(book)
    answers = Counter((record["state"], record["sample"]) for record in records)
    wanted = len({record["state"] for record in records}) * SAMPLES
    return sum(number == 1 for number in answers.values()), wanted, server.answered


def measure(kills: int) -> Iterator[tuple[str, str, str]]:
    """Yield the rows of the table: kind, how often, what happened."""
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(count_cores()) as side_by_side:
        folder = Path(scratch)
        started = time.perf_counter()
        whole = spawn("train.py", *SETTINGS, "--run-dir", str(folder / "whole"))
        if whole.wait(WAIT):
            raise InputError(f"training failed: {whole.communicate()[1][-500:]}")
        longest = time.perf_counter() - started
        done, runs, differ = 0, 0, 0
        while done < kills:
            jobs = [
                side_by_side.submit(
                    kill_a_run, folder / f"run{number}", random.Random(number), folder / "whole", longest
                )
                for number in range(runs, runs + count_cores())
            ]
            runs += len(jobs)
            done += sum(job.result()[0] for job in jobs)
            differ += sum(job.result()[1] for job in jobs)
        often = f"{done} kills of {runs} runs"
        yield "`kill -9` while training, then `--resume`", often, f"{runs - differ} of {runs} byte-equal to a whole run"
        tries = max(1, kills // 10)
        chances = [random.Random(-number) for number in range(1, tries + 1)]
        good = sum(
            side_by_side.map(
                interrupt_a_run, [folder / f"stopped{n}" for n in range(tries)], chances, [longest] * tries
            )
        )
        yield "Ctrl-C at a random moment", f"{tries} times", f"{good} times one line, exit code 130, no half file"
        good, wanted, sent = fill_a_book(folder / "book.jsonl", random.Random(0), max(1, kills // 4))
        often = f"{max(1, kills // 4)} kills"
        yield (
            "`kill -9` of one of four processes on one book", often,
            f"{good} of {wanted} answers stand in it once; {sent - good} came when their process was gone",
        )  # fmt: skip
    for kind in KINDS:
        command = [sys.executable, "-m", "pytest", "-q", kind.tests]
        said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()[-1]
        counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error)", said)}
        failed = counts.get("failed", 0) + counts.get("error", 0)
        often = f"{counts.get('passed', 0)} tests, `{kind.tests}`"
        yield kind.name, often, f"{kind.happens}; {failed} failed" if failed else kind.happens


@errors_in_one_line("faults.py")
def main(arguments: Sequence[str] | None = None) -> None:
    """Try everything in turn and print a row as soon as it is known."""
    parser = Parser(
        prog="benchmarks/faults.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200, help="of training processes, at least")
    kills = parser.parse_args(arguments).kills
    if not 1 <= kills <= 100_000:
        raise InputError(f"--kills is {kills}; it must be from 1 to 100,000")
    print("| kind | how often | what happens |\n| --- | --- | --- |")
    for row in measure(kills):
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
