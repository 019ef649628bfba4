"""Reply books that are being written: every answer of a live LLM is a line, on disk before it is used."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

from harness.files import append
from llm.answers import letter_shares
from llm.endpoint import Endpoint, LLMError
from llm.judge import summarize, warnings
from llm.prompts import Prompt
from teacher import NO_PLAN, Shares, is_cut_off, mean_shares, read_records

log = logging.getLogger(__name__)

LOOKS = (10, 30, 100)  # after so many answers of a process the user is told what they are worth


def book_name(model: str, mode: str) -> str:
    """Return the name of the file with a model's answers, unless another book is named."""
    return f"{re.sub('[^A-Za-z0-9.-]', '_', model)}-{mode}.jsonl"


def append_line(path: Path, line: str) -> None:
    """Append a line, whole or not at all; it is on disk when this returns."""
    append(path, line + "\n", sync=True)


def repair_last_line(path: Path) -> None:
    """Cut off what a crash left of a last line, or give it the line break it lacks."""
    with path.open("r+b") as file:
        text = file.read()
        last = [b"", *text.splitlines(keepends=True)][-1]
        if last and not last.endswith((b"\n", b"\r")):
            try:
                json.loads(last)
                file.write(b"\n")
            except ValueError:
                if is_cut_off(last.decode("utf-8-sig", "replace")):  # else it is no book, and stays as it is
                    file.truncate(len(text) - len(last))


@contextmanager
def lock_book(path: Path) -> Iterator[None]:
    """Hold a book for this process; other processes wait for the lock and then read these answers from the book."""
    from filelock import FileLock, Timeout

    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.warning("another process is querying for %s; waiting for its answers", path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class LiveReplies:
    """A reply book that queries an LLM for what it does not hold, section 3.2.1.

    It is called like `teacher.RecordedReplies`. Every answer is a line of the book, raw answer included, written as it
    arrives. Several processes may share the book; no answer is requested twice.
    """

    def __init__(
        self,
        path: str | Path,
        endpoint: Endpoint,
        prompt: Prompt,
        mode: str = "soft",
        samples: int = 10,
        temperature: float = 0.7,
        examples: int = 5,
        workers: int = 4,
    ) -> None:
        """Open or make the book at `path`.

        mode: "soft" takes `samples` answers a state at `temperature`, "hard" one at temperature 0, "logprobs" one
        letter in each rotation of a state's plans.  examples: how many of the prompt's are shown at most.
        workers: requests at a time.  Raises OSError if the book cannot be made or read, ValueError if the file is not
        a reply book, or was recorded with another model or prompt.
        """
        self.path, self.endpoint, self.prompt, self.mode, self.workers = Path(path), endpoint, prompt, mode, workers
        self.examples, self.samples = examples, 1 if mode == "hard" else samples
        temperature = {"soft": temperature, "hard": 0.0, "logprobs": 1.0}[mode]
        version = prompt.version(mode == "logprobs", self.examples)
        self.origin: dict[str, Any] = {"model": endpoint.model, "prompt": version, "temperature": temperature}
        self.counts: Counter[str] = Counter({"states found": 0, "states asked": 0, "answers": 0, "unparsable": 0})
        self.seconds, self.lock = 0.0, threading.Lock()
        self.told: set[str] = set()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        self._read()

    def _read(self) -> None:
        self.book: dict[str, dict[int, Shares]] = {}  # state -> number of the sample or rotation -> plans
        for record in read_records(self.path):
            other = {name: record.get(name) for name in self.origin}
            if other != self.origin:
                raise ValueError(f"{self.path} holds answers of {other}, not of {self.origin}; name another book")
            answers = self.book.setdefault(record["state"], {})
            answers[record.get("sample", len(answers))] = record["plans"]

    def missing(self, states: Sequence[str]) -> list[tuple[str, int]]:
        """Return what the book lacks: states with the numbers of their samples or rotations."""
        return [
            (state, sample)
            for state in states
            for sample in range(len(self.prompt.plans(state)) if self.mode == "logprobs" else self.samples)
            if sample not in self.book.get(state, {})
        ]

    def __call__(self, state: str) -> Shares:
        """Return the plans and shares for a canonical state text; raises LLMError, or OSError from the book."""
        answers = self.counts["answers"]
        self.fill([state])
        self.counts["states asked" if self.counts["answers"] > answers else "states found"] += 1
        return mean_shares(list(self.book[state].values()))

    def fill(self, states: Sequence[str], arrived: Callable[[], Any] = lambda: None) -> None:
        """Query for whatever the book lacks of these states; `arrived` is called after each answer.

        Raises as a call does; the answers under way at that moment still arrive and are kept.
        """
        if not self.missing(states):
            return
        started = time.perf_counter()
        with lock_book(self.path), ThreadPoolExecutor(self.workers) as pool:
            self.endpoint.stopped.clear()
            repair_last_line(self.path)
            try:
                self._read()  # another process may have queried
            except ValueError as error:
                raise LLMError(str(error)) from None
            try:
                while missing := self.missing(states):
                    several = self.mode == "soft" and self.endpoint.gives_several
                    requests: dict[Any, list[tuple[str, int]]] = {}
                    for state, sample in missing:
                        requests.setdefault(state if several else (state, sample), []).append((state, sample))
                    jobs = [pool.submit(self._query, request, arrived) for request in requests.values()]
                    for job in as_completed(jobs):
                        job.result()
            except BaseException:
                self.endpoint.stopped.set()
                pool.shutdown(cancel_futures=True)
                raise
            finally:
                self.seconds += time.perf_counter() - started

    def _query(self, request: Sequence[tuple[str, int]], arrived: Callable[[], Any]) -> None:
        state, sample = request[0]
        letters = self.mode == "logprobs"
        messages = (
            self.prompt.letters(state, sample, self.examples) if letters else self.prompt.stages(state, self.examples)
        )
        options = len(self.prompt.plans(state)) if letters else 0
        answers = self.endpoint.complete(messages, self.origin["temperature"], len(request), options)
        for (state, sample), answer in zip(request, answers):
            record = {"state": state, "plans": {}, **self.origin, "sample": sample,
                      "answer": answer.first_token if letters else answer.text,
                      **({"cut": True} if answer.cut else {})}  # fmt: skip
            record["plans"] = plans = read_answer(record, self.prompt)
            with self.lock:
                append_line(self.path, json.dumps(record))
                self.book.setdefault(state, {})[sample] = plans
                self.counts.update({"answers": 1, "unparsable": NO_PLAN in plans})
                if self.counts["answers"] in LOOKS:
                    self._tell()
                arrived()

    def _tell(self) -> None:
        """Log what the answers so far are worth: how many were understood, and what is wrong with them, each once."""
        records = read_records(self.path)
        for kind, line in {"understood": summarize(records), **warnings(records, self.prompt)}.items():
            if kind not in self.told:
                self.told.add(kind)
                log.warning("%s: %s", self.endpoint.model, line)

    def statistics(self) -> dict[str, float]:
        """Return what this process requested, found in the book, and paid."""
        return {**self.endpoint.bill, **self.counts, "seconds waited": self.seconds, "cost": self.endpoint.cost}

    def summary(self) -> str:
        """Return the same as a line, and what the letters are worth."""
        cost = f", cost {self.endpoint.cost:.4g}" if any(self.endpoint.prices) else ""
        counts = ", ".join(f"{number} {name}" for name, number in {**self.endpoint.bill, **self.counts}.items())
        records = read_records(self.path)
        verdicts = "".join(f"\n{line}" for line in [summarize(records), *warnings(records, self.prompt).values()])
        return f"LLM: {counts}, {self.seconds:.0f} s waited{cost}; the book is {self.path}{verdicts}"


def read_answer(record: dict[str, Any], prompt: Prompt) -> Shares:
    """Return the plans and shares of one answer, from the raw answer that its line of the book keeps.

    An answer that was cut off at the token limit is no plan, whatever it holds.
    """
    if record.get("cut"):
        return {NO_PLAN: 1.0}
    if isinstance(record["answer"], str):
        return {prompt.plan(record["answer"], record["state"]): 1.0}
    return letter_shares(record["answer"], prompt.rotated_plans(record["state"], record["sample"]))[0]
