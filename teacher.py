"""The teacher of LLM4Teach (paper section 3.2): state text -> distribution over plans -> mixture of options, Eq. (1).

    python teacher.py --replies replies/ColoredDoorKey.jsonl          # every recorded state and the LLM's plans

pi_T(. | s) = sum_k Pr_LLM(k | c(s)) pi_k(. | s).  c(s) is the state as text. An LLM answers with a plan, a list of
options in order; the first one that is not finished acts, and Pr_LLM(k | c(s)) is the share of the answers in which
option k acts.

Answers are recorded in a reply book: JSON lines, each with the state, the plans with their shares, and where they
came from.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Callable, Protocol

import numpy as np

COLORS = ("red", "blue", "green", "purple", "yellow", "grey")
COLOR_WORD = re.compile(rf"\b({'|'.join(COLORS)})\b")

Shares = dict  # plan, "go to red key, pick up red key" -> its share of the LLM's answers


class Option(Protocol):
    """What the teacher needs of an option: the triple of Sutton et al. 1999 as functions of the observation."""

    def can_start(self, observation: np.ndarray) -> bool:
        """Whether the observation is in the initiation set."""

    def policy(self, observation: np.ndarray) -> np.ndarray:
        """pi_k(. | s), probabilities of the actions, (A,)."""

    def is_done(self, observation: np.ndarray) -> bool:
        """Whether the option ends here."""


def rename_colors(text: str) -> tuple[str, dict[str, str]]:
    """Rename colours in order of appearance to red, blue, ..., so that one recorded answer serves all colours.

    Returns the renamed text and the map that leads back, a permutation of all colours. Two texts that differ in a
    permutation of colours become equal.
    """
    found = list(dict.fromkeys(COLOR_WORD.findall(text)))
    back = dict(zip(COLORS, found + [color for color in COLORS if color not in found]))
    forth = {old: new for new, old in back.items()}
    return COLOR_WORD.sub(lambda match: forth[match[0]], text), back


def read_replies(path: str | Path) -> dict[str, Shares]:
    """Read a reply book: one JSON object a line with at least {"state": text, "plans": {plan: share, ...}}.

    The shares of a state add up to 1 (to 1e-6). Raises OSError if the file cannot be read, ValueError with file and
    line if a line is not of this form, if a share is not a positive number, or if a state stands there twice.
    """
    book: dict[str, Shares] = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            state, plans = record["state"], {str(plan): float(share) for plan, share in record["plans"].items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f'{path}, line {number}: {error!r}; a line is {{"state": "...", "plans": {{"plan": share}}}}'
            ) from None
        if not isinstance(state, str) or state in book:
            raise ValueError(f"{path}, line {number}: state {state!r} is not a text or stands there twice")
        if not plans or min(plans.values()) <= 0 or not abs(sum(plans.values()) - 1) < 1e-6:
            raise ValueError(
                f"{path}, line {number}: the plans' shares are {plans}; they must be positive and add up to 1"
            )
        book[state] = plans
    if not book:
        raise ValueError(f"{path} holds no answers")
    return book


class UnknownStateError(LookupError):
    """There is no answer for a state text."""


class RecordedReplies:
    """Answers from a reply book, looked up by state text.

    Calling it is asking: a live LLM takes its place with the same signature.
    """

    def __init__(self, path: str | Path) -> None:
        """Read the book at `path`; raises as `read_replies` does."""
        self.path = path
        self.book = read_replies(path)

    def __call__(self, state: str) -> Shares:
        """Plans and shares for a state text with its colours renamed; UnknownStateError if it was never recorded."""
        if state not in self.book:
            example = json.dumps({"state": state, "plans": {"explore": 1.0}})
            raise UnknownStateError(
                f"no answer is recorded in {self.path} for {state!r}; ask an LLM and add a line like {example}"
            )
        return self.book[state]


class Teacher:
    """The LLM-based teacher agent: called with an observation, it returns pi_T(. | s) of Eq. (1)."""

    def __init__(
        self,
        ask: Callable[[str], Shares],
        describe: Callable[[np.ndarray], str],
        make_option: Callable[[str], Option],
        num_actions: int,
        mode: str = "soft",
    ) -> None:
        """Bind the parts together.

        ask: state text -> shares of plans.  describe: c(s), observation -> text.  make_option: name -> option,
        ValueError if there is none.  mode: "soft" uses the whole distribution (section 3.2.1), "hard" only its most
        frequent plan.
        """
        self.ask, self.describe, self.make_option, self.mode = ask, describe, make_option, mode
        self.knows_nothing = np.full(num_actions, 1 / num_actions, np.float32)
        self.invalid_plans: Counter[str] = Counter()  # plan -> how often it was given where it could not be followed
        self.calls, self.invalid_share = 0, 0.0
        self._plans: dict[str, list[tuple[list[Option], float, str]]] = {}

    def plans(self, state: str) -> list[tuple[list[Option], float, str]]:
        """The LLM's plans for a state text: (options in order, share, wording); no options if it is not a plan."""
        if state not in self._plans:
            canonical, originals = rename_colors(state)
            shares = self.ask(canonical)
            if self.mode == "hard":
                shares = {max(shares, key=lambda plan: shares[plan]): 1.0}
            self._plans[state] = []
            for plan, share in shares.items():
                wording = COLOR_WORD.sub(lambda match: originals[match[0]], plan)
                try:
                    steps = [self.make_option(step.strip()) for step in wording.split(",")]
                except ValueError:
                    steps = []
                self._plans[state].append((steps, share, wording))
        return self._plans[state]

    def option_probabilities(self, observation: np.ndarray) -> dict[Option, float]:
        """Pr_LLM(k | c(s)) of Eq. (1): in each plan the first option that is not finished acts.

        A plan that is none, or whose acting option names something absent, is counted in `invalid_plans` and its
        share is spread over the valid ones in proportion. Empty if no plan is valid.
        """
        acting: dict[Option, float] = {}
        invalid = 0.0
        for steps, share, wording in self.plans(self.describe(observation)):
            option = next((step for step in steps if not step.is_done(observation)), None)
            if option is None or not option.can_start(observation):
                self.invalid_plans[wording] += 1
                invalid += share
            else:
                acting[option] = acting.get(option, 0.0) + share
        self.calls += 1
        self.invalid_share += invalid
        return {option: share / (1 - invalid) for option, share in acting.items()}

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """pi_T(. | s) = sum_k Pr_LLM(k | c(s)) pi_k(. | s), Eq. (1), as one teacher: (1, A), float32.

        Uniform where no plan is valid: such a teacher has nothing to say.
        """
        shares = self.option_probabilities(observation)
        if not shares:
            return self.knows_nothing[None]
        policies = np.stack([option.policy(observation) for option in shares])  # (options, A)
        return np.array([list(shares.values())], np.float32) @ policies

    def pop_invalid_share(self) -> float:
        """Mean share of the answers that could not be followed, over the calls since this was last asked."""
        share = self.invalid_share / max(self.calls, 1)
        self.calls, self.invalid_share = 0, 0.0
        return share


class EveryOption:
    """The hierarchical baseline's teachers (Matthews et al. 2022): no LLM, each option advises for itself."""

    def __init__(
        self, names: Sequence[str], describe: Callable[[np.ndarray], str], make_option: Callable[[str], Option]
    ) -> None:
        """`names`: the options' names, with {} for the colour that the state text names first."""
        self.names, self.describe, self.make_option = names, describe, make_option

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """pi_k(. | s) of every option k, (K, A); zeros where option k cannot start or has ended."""
        colors = COLOR_WORD.findall(self.describe(observation)) or COLORS
        options = [self.make_option(name.format(colors[0])) for name in self.names]
        can_act = [option.can_start(observation) and not option.is_done(observation) for option in options]
        return np.stack([option.policy(observation) * acts for option, acts in zip(options, can_act)])

    def pop_invalid_share(self) -> float:
        """No LLM, no answers that cannot be followed."""
        return 0.0


def main() -> None:
    """Print a reply book: every recorded state with its plans and shares."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    shipped = Path(__file__).parent / "replies" / "ColoredDoorKey.jsonl"
    parser.add_argument("--replies", default=shipped, help="reply book to print (default: ColoredDoorKey's)")
    path = parser.parse_args().replies
    try:
        book = read_replies(path)
    except (OSError, ValueError) as error:
        print(f"teacher.py: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    for state, plans in book.items():
        print(state)
        for plan, share in plans.items():
            print(f"    {share:5.0%}  {plan}")


if __name__ == "__main__":
    main()
