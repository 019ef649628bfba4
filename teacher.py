"""The teacher of LLM4Teach (paper section 3.2): state text -> distribution over plans -> mixture of options, Eq. (1).

    python teacher.py                                   # Eq. (1) in a corridor of five cells, by hand-made answers
    python teacher.py show replies/BOOK.jsonl           # every answer in a reply book
    python teacher.py record --env NAME --teacher-url http://127.0.0.1:8000/v1 --teacher-model NAME

pi_T(. | s) = sum_k Pr_LLM(k | c(s)) pi_k(. | s).  c(s) is the state as text. An LLM answers with a plan, options in
order; the first that is not finished acts. Pr_LLM(k | c(s)) is the share of the answers in which option k acts.

Answers are kept in a reply book: JSON lines, each with a state, and plans with their shares. `RecordedReplies` looks
answers up in one; llm/ queries a live LLM and writes such books.
"""

from __future__ import annotations

import _signal as signal  # what `signal` wraps in enums, whose import takes a while
import os
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:

    def stop(*_: object) -> None:
        """End with one line, also while numpy is imported; what queries an LLM saves its answers first."""
        os.write(2, b"teacher.py: stopped\n")
        os._exit(130)

    signal.signal(signal.SIGINT, stop)

import codecs
import io
import json
import math
import random
import reprlib
import runpy
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple, Protocol

import numpy as np

NO_PLAN = "(not a plan)"
MODES = ("soft", "sampled", "logprobs", "hard", "uniform")
LONGEST_LINE = 2**24  # characters of a reply book's line: what never ends is no book
Shares = dict  # plan, "go to the left end, press the button" -> its share of the LLM's answers
Restore = Callable[[str], str]  # a plan in the words of a canonical state text -> in the words of the state itself


class Option(Protocol):
    """What the teacher needs of an option: the triple of Sutton et al. 1999 as functions of the observation."""

    def can_start(self, observation: Any) -> bool:
        """Return whether the observation is in the initiation set."""

    def policy(self, observation: Any) -> np.ndarray:
        """Return pi_k(. | s): probabilities (A,), or the means and standard deviations of a Gaussian, (2, D)."""

    def is_done(self, observation: Any) -> bool:
        """Return whether the option ends here."""


class Advice(NamedTuple):
    """What the teachers say about one state: K policies, and how much each of them counts."""

    prior: np.ndarray  # (K,), float32: Pr_LLM(k | c(s)), or 1 where option k can act; 0: no advice, masked in the loss
    policies: np.ndarray  # float32: (K, A) probabilities, or (K, 2, D) means and standard deviations of Gaussians


class OptionShapeError(ValueError):
    """Options returned policies of shapes that do not fit the task."""


def stack_policies(options: Sequence[Option], observation: Any, num_actions: int | None) -> np.ndarray:
    """Return the policies of K options in a state, (K, A), or (K, 2, D) where `num_actions` is None.

    Raises OptionShapeError if a policy has another shape.
    """
    policies = [option.policy(observation) for option in options]
    shapes = {np.shape(policy) for policy in policies}
    if len(shapes) > 1 or (num_actions is not None and shapes - {(num_actions,)}):
        expected = f"({num_actions},), a probability for each action" if num_actions else "(2, D), means and deviations"
        raise OptionShapeError(f"options return policies of shape {sorted(shapes)}; each must be of shape {expected}")
    return np.array(policies, np.float32)


class Teacher:
    """The LLM-based teacher agent: called with an observation, it returns pi_T(. | s) of Eq. (1)."""

    def __init__(
        self,
        query: Callable[[str], Shares],
        describe: Callable[[Any], str],
        make_option: Callable[[str], Option],
        num_actions: int | None,
        mode: str = "soft",
        canonicalize: Callable[[str], tuple[str, Restore]] = lambda state: (state, str),
        unknown_state: str = "stop",
        on_unknown: Callable[[str], None] = lambda state: None,
        draw: Callable[[Sequence[float]], int] = lambda shares: random.choices(range(len(shares)), shares)[0],
    ) -> None:
        """Bind the parts together.

        query: state text -> shares of plans.  describe: c(s), observation -> text.  make_option: name -> option,
        ValueError if there is none.  num_actions: A, or None where the options' policies are Gaussians.  mode: "soft"
        uses the whole distribution (section 3.2.1), "sampled" one option, drawn from it at each call, "hard" only its
        most frequent plan.  canonicalize: state text -> the text that is asked about, which may stand for many states,
        and how its plans are put back into the words of the state.  unknown_state: what to do where `query` raises
        UnknownStateError: "stop" raises it, "silent" gives no advice.  on_unknown: called with each such state text
        first.  draw: shares -> the index of one, at random.
        """
        self.query, self.describe, self.make_option, self.num_actions = query, describe, make_option, num_actions
        self.mode, self.canonicalize, self.silent = mode, canonicalize, unknown_state == "silent"
        self.on_unknown, self.draw = on_unknown, draw
        self.invalid_plans: Counter[str] = Counter()  # plan -> how often it was given where it could not be followed
        self.options: dict[str, Option] = {}  # those that plans name
        self.totals: defaultdict[str, float] = defaultdict(float)
        self._plans: dict[str, list[tuple[list[str], float, str]] | None] = {}

    def plans(self, state: str) -> list[tuple[list[str], float, str]] | None:
        """Return the LLM's plans for a state text as (names of the options in order, share, wording).

        No options: the answer is not a plan. None: there is no answer for this state.
        """
        if state not in self._plans:
            self._plans[state] = self._read_plans(state)
        return self._plans[state]

    def _read_plans(self, state: str) -> list[tuple[list[str], float, str]] | None:
        canonical, restore = self.canonicalize(state)
        try:
            shares = self.query(canonical)
        except UnknownStateError:
            self.on_unknown(canonical)
            if self.silent:
                return None
            raise
        if self.mode == "hard":
            shares = {max(shares, key=lambda plan: shares[plan]): 1.0}
        plans = []
        for plan, share in shares.items():
            wording = restore(plan)
            names = [name.strip() for name in wording.split(",")]
            try:
                self.options.update({name: self.make_option(name) for name in names if name not in self.options})
            except (ValueError, KeyError):
                names = []
            plans.append((names, share, wording))
        return plans

    def option_probabilities(self, observation: Any) -> dict[str, float]:
        """Return Pr_LLM(k | c(s)) of Eq. (1), by name: in each plan the first option that is not finished acts.

        An answer that is not a plan, or whose active option cannot start here, is counted in `invalid_plans`, and its
        share is spread over the valid ones in proportion. Empty if no plan is valid, or there is no answer.
        """
        plans = self.plans(self.describe(observation))
        self.totals["calls"] += 1
        active: dict[str, float] = {}
        invalid = 0.0
        for names, share, wording in plans or ():
            name = next((name for name in names if not self.options[name].is_done(observation)), None)
            if name is None or not self.options[name].can_start(observation):
                self.invalid_plans[wording] += 1
                invalid += share
            else:
                active[name] = active.get(name, 0.0) + share
        probabilities = {name: share / (1 - invalid) for name, share in active.items()}
        self.totals["invalid_share"] += invalid
        self.totals["no_advice_share"] += not active
        self.totals["teacher_entropy"] -= sum(p * math.log(p) for p in probabilities.values())
        return probabilities

    def __call__(self, observation: Any) -> Advice:
        """Return pi_T(. | s) = sum_k Pr_LLM(k | c(s)) pi_k(. | s), Eq. (1).

        A mixture of probabilities is again one, K = 1. Gaussians stay apart, one for each active option. Where no plan
        can be followed Eq. (2) has nothing to compare with: the prior is 0, and the policy, which acts only where the
        teacher plays alone, is uniform; of Gaussians there are none.
        """
        probabilities = self.option_probabilities(observation)
        if self.mode == "sampled" and probabilities:
            probabilities = {list(probabilities)[self.draw(list(probabilities.values()))]: 1.0}
        if self.num_actions is not None and not probabilities:
            uniform = np.full((1, self.num_actions), 1 / self.num_actions, np.float32)
            return Advice(np.zeros(1, np.float32), uniform)
        prior = np.array(list(probabilities.values()), np.float32)
        policies = stack_policies([self.options[name] for name in probabilities], observation, self.num_actions)
        if self.num_actions is None:
            return Advice(prior, policies)
        return Advice(np.ones(1, np.float32), prior[None] @ policies)

    def pop_statistics(self) -> dict[str, float]:
        """Return means over the calls since the last time, and start anew.

        invalid_share: of the answers, those that could not be followed.  teacher_entropy: of Pr_LLM(k | c(s)) over
        the options k, in nats; 0 for a teacher that is sure.  no_advice_share: of the states, those in which no answer
        could be followed, or for which there is none.
        """
        calls = max(self.totals["calls"], 1)
        means = {name: self.totals[name] / calls for name in ("invalid_share", "teacher_entropy", "no_advice_share")}
        self.totals.clear()
        return means


class EveryOption:
    """The hierarchical baseline's teachers (Matthews et al. 2022): no LLM, each option advises for itself."""

    def __init__(
        self,
        name_options: Callable[[str], Sequence[str]],
        describe: Callable[[Any], str],
        make_option: Callable[[str], Option],
        num_actions: int | None,
    ) -> None:
        """Bind the parts together; `name_options`: state text -> names of the K options, as many in every state."""
        self.name_options, self.describe, self.make_option = name_options, describe, make_option
        self.num_actions = num_actions

    def __call__(self, observation: Any) -> Advice:
        """Return pi_k(. | s) of every option k, with prior 1, or 0 where option k cannot start or has ended."""
        options = [self.make_option(name) for name in self.name_options(self.describe(observation))]
        can_act = [option.can_start(observation) and not option.is_done(observation) for option in options]
        return Advice(np.array(can_act, np.float32), stack_policies(options, observation, self.num_actions))

    def pop_statistics(self) -> dict[str, float]:
        """Return no statistics: this teacher does not query an LLM."""
        return {}


# ---------------------------------------------------------------------------------------------------------- reply books


class UnknownStateError(LookupError):
    """There is no answer for a state text."""


def read_replies(path: str | Path) -> dict[str, Shares]:
    """Read a reply book: one JSON object a line with at least {"state": text, "plans": {plan: share, ...}}.

    The shares of a line add up to 1 (to 1e-6). A state may have several lines, say one per answer: its shares are
    their mean. Raises OSError if the file cannot be read, ValueError with file and line if a line is not of this form
    or a share is not a positive number.
    """
    answers: dict[str, list[Shares]] = {}
    for record in read_records(path):
        answers.setdefault(record["state"], []).append(record["plans"])
    if not answers:
        raise ValueError(f"{path} holds no answers")
    return {state: mean_shares(shares) for state, shares in answers.items()}


def read_records(path: str | Path) -> list[dict[str, Any]]:
    """Read and check the lines of a reply book; see `read_replies`. A last line that a crash cut off is left out."""
    records = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, object_pairs_hook=unique)
            state = record["state"]
            record["plans"] = plans = {str(plan): float(share) for plan, share in record["plans"].items()}
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            if isinstance(error, json.JSONDecodeError) and is_cut_off(line):
                break
            raise ValueError(
                f'{path}, line {number}: {error!r:.200}; a line is {{"state": "...", "plans": {{"plan": share}}}}'
            ) from None
        if not isinstance(state, str):
            raise ValueError(f"{path}, line {number}: state {state!r:.80} is not a text")
        if not plans or min(plans.values()) <= 0 or not abs(sum(plans.values()) - 1) < 1e-6:
            raise ValueError(
                f"{path}, line {number}: the plans' shares are {reprlib.repr(plans)}; they must be positive and add "
                "up to 1"
            )
        records.append(record)
    return records


def read_lines(path: str | Path) -> Iterator[str]:
    """Yield the lines of a text in UTF-8, ended as on any system; raises OSError, or ValueError if it is no text."""
    if not Path(path).is_file() and Path(path).exists():
        raise ValueError(f"{path} is a directory, a pipe or a device; a reply book is a file")
    with open(path, "rb") as file:
        start = file.read(2)
        if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or b"\0" in start:
            raise ValueError(f"{path} is UTF-16, or not a text at all; a reply book is in UTF-8")
        file.seek(0)
        text = io.TextIOWrapper(file, "utf-8-sig", "replace")
        while line := text.readline(LONGEST_LINE):
            if len(line) == LONGEST_LINE:
                raise ValueError(f"{path} has a line of more than {LONGEST_LINE:,} characters; no answer is that long")
            yield line


def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object's names and values as a dictionary; raises ValueError if a name stands twice."""
    thing = dict(pairs)
    if len(thing) < len(pairs):
        raise ValueError("a name stands twice")
    return thing


def is_cut_off(line: str) -> bool:
    """Return whether a line that is no JSON is the beginning of one that was being written, without its line break."""
    start = '{"state": "'
    return not line.endswith("\n") and (line.startswith(start) or start.startswith(line))


def mean_shares(answers: Sequence[Shares]) -> Shares:
    """Return Pr_LLM(plan | c(s)) of section 3.2.1: the share of each plan, averaged over the answers."""
    total: Counter[str] = Counter()
    for plans in answers:
        total.update(plans)
    return {plan: share / len(answers) for plan, share in total.items()}


class RecordedReplies:
    """Answers from a reply book, looked up by state text. llm.replies.LiveReplies has the same signature."""

    def __init__(self, path: str | Path) -> None:
        """Read the book at `path`; raises as `read_replies` does."""
        self.path = path
        self.book = read_replies(path)

    def __call__(self, state: str) -> Shares:
        """Return the plans and shares for a canonical state text; UnknownStateError if it was never recorded."""
        if state not in self.book:
            example = json.dumps({"state": state, "plans": {"an option, another option": 1.0}})
            raise UnknownStateError(
                f"no answer is recorded in {self.path} for {state!r}; query an LLM and add a line like {example}"
            )
        return self.book[state]


def printable(text: str) -> str:
    """Return a text with its control characters escaped: an LLM's words must not steer the terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def show(book: dict[str, Shares]) -> None:
    """Print every state of a book with its plans and shares."""
    for state, plans in book.items():
        print(printable(state))
        for plan, share in sorted(plans.items(), key=lambda item: -item[1]):
            print(f"    {share:5.1%}  {printable(plan)}")


class Walk(NamedTuple):
    """An option of the demonstration: walk to a cell of the corridor."""

    goal: int

    def can_start(self, cell: int) -> bool:
        """Return True: it can start anywhere."""
        return True

    def policy(self, cell: int) -> np.ndarray:
        """Return the probabilities of left and right, (2,)."""
        return np.array([self.goal < cell, self.goal >= cell], np.float32)

    def is_done(self, cell: int) -> bool:
        """Return whether the cell is reached."""
        return cell == self.goal


def demonstrate() -> None:
    """Print Eq. (1) in every cell of a corridor, for answers of which 70 % say left, then right, and 30 % right."""
    options = {"walk to the left end": Walk(0), "walk to the right end": Walk(4)}
    answer = {"walk to the left end, walk to the right end": 0.7, "walk to the right end": 0.3}
    teacher = Teacher(lambda state: answer, "The agent stands in cell {} of 0 to 4.".format, options.__getitem__, 2)
    for cell in range(5):
        left, right = teacher(cell).policies[0]
        print(f"{teacher.describe(cell)}  pi_T: left {left:.2f}, right {right:.2f}")


def main() -> None:
    """Demonstrate Eq. (1), or show a book; other commands are in llm/commands.py."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if len(sys.argv) == 1:
            demonstrate()
        elif len(sys.argv) == 3 and sys.argv[1] == "show" and not sys.argv[2].startswith("-"):
            show(read_replies(sys.argv[2]))
        else:
            runpy.run_module("llm.commands", run_name="__main__")  # as a program: nothing here depends on it
        print(end="", flush=True)
    except ImportError as error:
        print(f"teacher.py: wants the folders llm/ and harness/ beside it for this command ({error})", file=sys.stderr)
        raise SystemExit(2) from None
    except (OSError, ValueError) as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python writes at its end what a full disk refused
        if not isinstance(error, BrokenPipeError):  # a reader such as head has seen enough
            print(f"teacher.py: {error}", file=sys.stderr)
            raise SystemExit(2) from None


if __name__ == "__main__":
    main()
