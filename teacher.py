"""The teacher of LLM4Teach (paper section 3.2): state text -> distribution over plans -> mixture of options, Eq. (1).

    python teacher.py show replies/ColoredDoorKey.jsonl         # every answer in a reply book
    python teacher.py record --env ColoredDoorKey --teacher-url http://127.0.0.1:8000/v1 --teacher-model NAME
    python teacher.py ask "The agent observes a red key, and holds nothing." --teacher-url ... --teacher-model ...
    python teacher.py score --env ColoredDoorKey replies/NAME-soft.jsonl    # beside the paper's LLM, state by state

pi_T(. | s) = sum_k Pr_LLM(k | c(s)) pi_k(. | s).  c(s) is the state as text. An LLM answers with a plan, a list of
options in order; the first one that is not finished acts. Pr_LLM(k | c(s)) is the share of the answers in which
option k acts (mode "soft"), or the probability of the letter that stands for it (mode "logprobs").

Answers are kept in a reply book: JSON lines, each with the state, the plans with their shares, and where they came
from. `RecordedReplies` looks answers up in one; `LiveReplies` also asks an LLM behind any OpenAI-compatible endpoint
for what is missing, and writes each answer there as it arrives, so that none is paid for twice.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import re
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, NamedTuple, NoReturn, Protocol
from urllib.parse import urlsplit

import numpy as np

REPLIES = Path(__file__).parent / "replies"
COLORS = ("red", "blue", "green", "purple", "yellow", "grey")
COLOR_WORD = re.compile(rf"\b({'|'.join(COLORS)})\b")
NO_PLAN = "(not a plan)"
log = logging.getLogger(__name__)

Shares = dict  # plan, "go to red key, pick up red key" -> its share of the LLM's answers


# ----------------------------------------------------------------------------------------------------- Eq. (1), teacher


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


class Advice(NamedTuple):
    """What is said of a state: K policies, and how much of the teacher each one is."""

    shares: np.ndarray  # (K,), float32
    policies: np.ndarray  # float32: (K, A) probabilities, or (K, 2, D) means and standard deviations of Gaussians


class Teacher:
    """The LLM-based teacher agent: called with an observation, it returns pi_T(. | s) of Eq. (1)."""

    def __init__(
        self,
        ask: Callable[[str], Shares],
        describe: Callable[[np.ndarray], str],
        make_option: Callable[[str], Option],
        num_actions: int | None,
        mode: str = "soft",
    ) -> None:
        """Bind the parts together.

        ask: state text -> shares of plans.  describe: c(s), observation -> text.  make_option: name -> option,
        ValueError if there is none.  num_actions: A, None where the options' policies are Gaussians.  mode: "soft"
        uses the whole distribution (section 3.2.1), "hard" only its most frequent plan.
        """
        self.ask, self.describe, self.make_option, self.mode = ask, describe, make_option, mode
        self.knows_nothing = None if num_actions is None else np.full((1, num_actions), 1 / num_actions, np.float32)
        self.invalid_plans: Counter[str] = Counter()  # plan -> how often it was given where it could not be followed
        self.calls, self.invalid_share, self.entropy = 0, 0.0, 0.0
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
        shares = {option: share / (1 - invalid) for option, share in acting.items()}
        self.calls += 1
        self.invalid_share += invalid
        self.entropy -= sum(share * math.log(share) for share in shares.values())
        return shares

    def __call__(self, observation: np.ndarray) -> Advice:
        """pi_T(. | s) = sum_k Pr_LLM(k | c(s)) pi_k(. | s), Eq. (1).

        A mixture of probabilities is one again, K = 1; uniform where no plan is valid: such a teacher has nothing to
        say. Gaussians stay apart, one for each option that acts; none where no plan is valid.
        """
        probabilities = self.option_probabilities(observation)
        shares = np.array(list(probabilities.values()), np.float32)
        policies = np.array([option.policy(observation) for option in probabilities], np.float32)
        if self.knows_nothing is None:
            return Advice(shares, policies)
        return Advice(np.ones(1, np.float32), shares[None] @ policies if len(shares) else self.knows_nothing)

    def pop_statistics(self) -> dict[str, float]:
        """Means over the calls since this was last asked.

        invalid_share: of the answers, those that could not be followed.  teacher_entropy: of Pr_LLM(k | c(s)) over
        the options k, in nats; 0 for a teacher that is sure.
        """
        calls = max(self.calls, 1)
        means = {"invalid_share": self.invalid_share / calls, "teacher_entropy": self.entropy / calls}
        self.calls, self.invalid_share, self.entropy = 0, 0.0, 0.0
        return means


class EveryOption:
    """The hierarchical baseline's teachers (Matthews et al. 2022): no LLM, each option advises for itself."""

    def __init__(
        self, names: Sequence[str], describe: Callable[[np.ndarray], str], make_option: Callable[[str], Option]
    ) -> None:
        """`names`: the options' names, with {} for the colour that the state text names first."""
        self.names, self.describe, self.make_option = names, describe, make_option

    def __call__(self, observation: np.ndarray) -> Advice:
        """pi_k(. | s) of every option k, with share 1, or 0 where option k cannot start or has ended."""
        colors = COLOR_WORD.findall(self.describe(observation)) or COLORS
        options = [self.make_option(name.format(colors[0])) for name in self.names]
        can_act = [option.can_start(observation) and not option.is_done(observation) for option in options]
        policies = [option.policy(observation) for option in options]
        return Advice(np.array(can_act, np.float32), np.array(policies, np.float32))

    def pop_statistics(self) -> dict[str, float]:
        """No LLM, nothing to say of its answers."""
        return {}


# ---------------------------------------------------------------------------------------------------------- reply books


def read_replies(path: str | Path) -> dict[str, Shares]:
    """Read a reply book: one JSON object a line with at least {"state": text, "plans": {plan: share, ...}}.

    The shares of a line add up to 1 (to 1e-6). A state may have several lines, say one an answer: its shares are their
    mean. Raises OSError if the file cannot be read, ValueError with file and line if a line is not of this form or a
    share is not a positive number.
    """
    lines: dict[str, list[Shares]] = {}
    for record in read_records(path):
        lines.setdefault(record["state"], []).append(record["plans"])
    if not lines:
        raise ValueError(f"{path} holds no answers")
    return {state: mean_shares(answers) for state, answers in lines.items()}


def read_records(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a reply book, checked; see `read_replies`. A last line that a crash cut off is left out."""
    records = []
    lines = Path(path).read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            state = record["state"]
            record["plans"] = plans = {str(plan): float(share) for plan, share in record["plans"].items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if number == len(lines) and isinstance(error, json.JSONDecodeError):
                break
            raise ValueError(
                f'{path}, line {number}: {error!r}; a line is {{"state": "...", "plans": {{"plan": share}}}}'
            ) from None
        if not isinstance(state, str):
            raise ValueError(f"{path}, line {number}: state {state!r} is not a text")
        if not plans or min(plans.values()) <= 0 or not abs(sum(plans.values()) - 1) < 1e-6:
            raise ValueError(
                f"{path}, line {number}: the plans' shares are {plans}; they must be positive and add up to 1"
            )
        records.append(record)
    return records


def mean_shares(answers: Sequence[Shares]) -> Shares:
    """Pr_LLM(plan | c(s)) of section 3.2.1: the share of each plan, averaged over the answers."""
    total: Counter[str] = Counter()
    for plans in answers:
        total.update(plans)
    return {plan: share / len(answers) for plan, share in total.items()}


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


def append_line(path: Path, line: str) -> None:
    """Append a line; it is on disk when this returns."""
    with path.open("ab") as file:
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def mend(path: Path) -> None:
    """Cut off what a crash left of a last line, or give it the line break it lacks."""
    with path.open("r+b") as file:
        whole, _, rest = file.read().rpartition(b"\n")
        try:
            file.write(b"\n" if rest and json.loads(rest) else b"")
        except ValueError:
            file.truncate(len(whole) + 1 if whole else 0)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a book for this process: whoever else would ask for the same answers waits, and then finds them there."""
    from filelock import FileLock, Timeout

    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.warning("another process is asking for %s; waiting for its answers", path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


# ----------------------------------------------------------------------------------------------------- asking in words


RULES = """You guide an agent in a walled room. It wins by opening a locked door, which needs a key of the same colour.
It sees only what is near, so what it has not seen yet must be explored. It can hold one key."""
STAGES = """Options: explore; go to X; pick up X; drop X; open X. X is a key or door with its colour, such as red key.
Pick up and open work only next to X, so go to X first. Answer in three lines:
Scene: a summary of what is seen and held.
Reasoning: what is needed next.
Decision: the options in order, separated by commas."""
# States and answers, in the colours that `rename_colors` uses last. Small models keep the format only with several.
EXAMPLES = (
    (
        "The agent observes a grey key, a yellow key, a grey door, and holds nothing.",
        "Scene: two keys and a grey door are seen, nothing is held.\n"
        "Reasoning: The grey door needs the grey key, which is seen and not held yet.\n"
        "Decision: go to grey key, pick up grey key",
    ),
    (
        "The agent observes a yellow door, and holds a yellow key.",
        "Scene: a yellow door is seen, a yellow key is held.\n"
        "Reasoning: The key that is held fits the door that is seen.\n"
        "Decision: go to yellow door, open yellow door",
    ),
    (
        "The agent observes a grey key, a grey door, and holds a yellow key.",
        "Scene: a grey key and a grey door are seen, a yellow key is held.\n"
        "Reasoning: The yellow key does not fit the grey door; the grey key does, and only one key can be held.\n"
        "Decision: drop yellow key, go to grey key, pick up grey key",
    ),
    (
        "The agent observes a yellow key, and holds nothing.",
        "Scene: a yellow key is seen, nothing is held.\n"
        "Reasoning: A key is needed for the door, and one is seen.\n"
        "Decision: go to yellow key, pick up yellow key",
    ),
    (
        "The agent observes a grey door, and holds nothing.",
        "Scene: a grey door is seen, no key is seen and none is held.\n"
        "Reasoning: A grey key is needed, and it has not been seen yet.\n"
        "Decision: explore",
    ),
)
# The same for Habitat's Nav & Pick, section 4.2, whose states begin with "The robot".
HABITAT_RULES = """\
You guide a robot in a room. It wins by picking up the target object and bringing its arm back to rest.
It sees only what is ahead, and picks only what is in reach; to come near and to turn there it navigates."""
HABITAT_STAGES = """Options: navigate; pick. Navigate brings the robot to the target object. Pick grasps it, lifts it
and brings the arm back to rest, also where it is held already. Answer in three lines:
Scene: a summary of what is seen and held.
Reasoning: what is needed next.
Decision: the options in order, separated by commas."""
HABITAT_EXAMPLES = (
    (
        "The robot sees the target object far away, and holds nothing.",
        "Scene: the target object is seen but not in reach, nothing is held.\n"
        "Reasoning: The robot must come near the target object before it can pick it up.\n"
        "Decision: navigate, pick",
    ),
    (
        "The robot sees other objects, and holds the target object.",
        "Scene: the target object is held.\n"
        "Reasoning: The arm has to come back to rest with it, which is the rest of pick.\n"
        "Decision: pick",
    ),
)
Messages = list  # of {"role": "user" or "assistant", "content": text}


def chat(rules: str, turns: Sequence[tuple[str, str]], question: str) -> Messages:
    """Chat messages: the rules before the first question, examples as turns, the question last.

    The rules stand in the first user turn and not in a system message, which some chat templates drop.
    """
    messages = []
    for example, answer in turns:
        messages += [{"role": "user", "content": example}, {"role": "assistant", "content": answer}]
    messages.append({"role": "user", "content": question})
    messages[0]["content"] = f"{rules}\n\n{messages[0]['content']}"
    return messages


def stages_prompt(state: str, examples: int) -> Messages:
    """The chain of thought of section 4.1.1: summarise the scene, reason, decide."""
    spoken = dialect(state)
    turns = [(f"State: {example}", answer) for example, answer in spoken.examples[:examples]]
    return chat(f"{spoken.rules}\n{spoken.stages}", turns, f"State: {state}")


THING = rf"(?:second )?(?:{'|'.join(COLORS)}) (?:key|door)"
STEP = re.compile(
    r"\b(?:(?P<explore>explor\w*|search\w*|look around)"
    r"|(?:(?P<go>go(?: over)? to|move to|walk to|approach)|(?P<pick>pick(?: up)?|grab|take|get|collect)"
    r"|(?P<drop>drop|put down|release)|(?P<open>open|unlock))"
    rf" (?:(?:the|a|an) )?(?P<thing>{THING}))\b"
)
VERBS = {"go": "go to", "pick": "pick up", "drop": "drop", "open": "open"}
HABITAT_STEP = re.compile(r"\b(?:(?P<navigate>navigate|go to|move to|approach)|(?P<pick>pick|grab|grasp|take))\b")


def find_options(words: str) -> list[str]:
    """The options that words name, one after the other."""
    steps = []
    for match in STEP.finditer(words):
        verb = next((VERBS[name] for name in VERBS if match[name]), None)
        steps.append(f"{verb} {match['thing']}" if verb else "explore")
    return steps


def sensible_plans(state: str) -> list[str]:
    """What can be done in a state, each as a plan that its first option names."""
    seen, _, held = state.partition("holds")
    verbs = {"key": "pick up", "door": "open"}
    plans = ["explore", *(f"drop {thing}" for thing in re.findall(THING, held))]
    return plans + [f"go to {thing}, {verbs[thing.split()[-1]]} {thing}" for thing in re.findall(THING, seen)]


class Dialect(NamedTuple):
    """How the LLM is told of a kind of task, and how its answers are understood."""

    rules: str
    stages: str
    examples: tuple[tuple[str, str], ...]  # states and answers
    find_options: Callable[[str], Sequence[str]]  # those that words name
    plans: Callable[[str], list[str]]  # what can be done in a state, as mode logprobs offers it


MINIGRID = Dialect(RULES, STAGES, EXAMPLES, find_options, sensible_plans)
HABITAT = Dialect(
    HABITAT_RULES,
    HABITAT_STAGES,
    HABITAT_EXAMPLES,
    lambda words: [str(match.lastgroup) for match in HABITAT_STEP.finditer(words)],
    lambda state: ["navigate, pick", "pick"],
)


def dialect(state: str) -> Dialect:
    """The one that a state text is in."""
    return HABITAT if state.startswith("The robot") else MINIGRID


def without_thoughts(answer: str) -> str:
    """An answer without what stands between <think> and </think>, or after a <think> that nothing ends."""
    return re.sub(r"(?s)<think>.*?(</think>|$)", "", answer)


def parse_plan(answer: str, state: str = "") -> str:
    """The plan for a state in an answer, as option names separated by commas; NO_PLAN if it names no option.

    Read is what follows the last "Decision:". An answer without one is read whole if it does not reason, else it was
    cut off before it decided. Thoughts between <think> and </think> are left out; bullets, quotes, capitals, articles
    and synonyms such as "unlock" and "grab" are understood.
    """
    answer = without_thoughts(answer).lower()
    _, decided, decision = answer.rpartition("decision")
    if not decided and "reasoning" in answer:
        return NO_PLAN
    words = re.sub(r"[^a-z]+", " ", decision)
    return ", ".join(dialect(state).find_options(words)) or NO_PLAN


# ---------------------------------------------------------------------------------------------------- asking in letters


LETTERS = "Answer with the letter of what to do next, nothing else."


def choices(state: str, rotation: int = 0) -> list[str]:
    """The plans that make sense in a state, in one of as many orders as plans.

    The letters' positions bias small models; over all rotations each plan has had each letter.
    """
    plans = dialect(state).plans(state)
    return plans[rotation % len(plans) :] + plans[: rotation % len(plans)]


def letters_prompt(state: str, rotation: int, examples: int) -> Messages:
    """The state with its choices behind the letters A, B, ...; to be answered with one token."""

    def question(state: str, rotation: int) -> str:
        lines = [f"{chr(ord('A') + k)}. {plan}" for k, plan in enumerate(choices(state, rotation))]
        return "\n".join([f"State: {state}", *lines])

    turns = []
    for number, (example, answer) in enumerate(dialect(state).examples[:examples]):
        first = parse_plan(answer, example).split(", ")[0]
        letter = next(k for k, plan in enumerate(choices(example, number)) if plan.startswith(first))
        turns.append((question(example, number), chr(ord("A") + letter)))
    return chat(f"{dialect(state).rules}\n{LETTERS}", turns, question(state, rotation))


def prompt_version(state: str, letters: bool, examples: int) -> str:
    """The prompt's name, "stages-5-bc724ef6": way to ask, number of examples, checksum of its text for an example.

    One for all states of a kind of task; where the text changes, the name does.
    """
    asked, _ = dialect(state).examples[0]
    messages = letters_prompt(asked, 0, examples) if letters else stages_prompt(asked, examples)
    return f"{'letters' if letters else 'stages'}-{examples}-{zlib.crc32(json.dumps(messages).encode()):08x}"


def letter_shares(first_token: dict[str, float], state: str, rotation: int) -> tuple[Shares, float]:
    """Softmax of the letters' log-probabilities, and the probability of all valid letters together.

    first_token: the likeliest first tokens of an answer -> log-probability.  Tokens that differ in blanks or
    punctuation are one letter. What an endpoint leaves out for being unlikely counts as impossible; without any valid
    letter all is NO_PLAN.
    """
    plans = choices(state, rotation)
    mass = [0.0] * len(plans)
    for token, log_probability in first_token.items():
        letter = token.strip(" \n\t\u2581\u0120.:()*\"'")  # some endpoints show blanks as these two signs
        if len(letter) == 1 and 0 <= ord(letter) - ord("A") < len(plans):
            mass[ord(letter) - ord("A")] += math.exp(log_probability)
    total = sum(mass)
    return {plan: m / total for plan, m in zip(plans, mass) if m > 0} if total > 0 else {NO_PLAN: 1.0}, total


def judge_letters(records: Sequence[dict[str, Any]]) -> str:
    """How likely an answer in a book of letters is a valid letter at all, and how near the shares are to chance.

    The latter as the mean of entropy / log(number of choices) over the states that have a choice: 1 is chance.
    """
    mass: list[float] = []
    shares: dict[str, list[Shares]] = {}
    for record in records:
        mass.append(letter_shares(record["answer"], record["state"], record["sample"])[1])
        shares.setdefault(record["state"], []).append(record["plans"])
    entropies = [
        -sum(share * math.log(share) for share in mean_shares(answers).values()) / math.log(len(choices(state)))
        for state, answers in shares.items()
        if len(choices(state)) > 1
    ]
    entropy = np.mean(entropies) if entropies else 0.0
    verdict = ", hardly better than chance: a teacher that knows little; try mode soft" if entropy > 0.9 else ""
    return f"valid letters have {np.mean(mass):.0%} of the probability, entropy {entropy:.2f} of chance's{verdict}"


# ------------------------------------------------------------------------------------------------------------- endpoint


class LLMError(RuntimeError):
    """The LLM gave no answer that can be used; the text says what was asked, what came and what to do."""


class TransientError(Exception):
    """A failure that may pass; `retry_after` is the wait in seconds that the endpoint asks for."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        """What came back instead of an answer."""
        super().__init__(message)
        self.retry_after = retry_after


class RefusedError(Exception):
    """The endpoint does not take the request as it is."""


class Answer(NamedTuple):
    """One of the choices in an endpoint's reply."""

    text: str  # thoughts, if there are any, in <think>...</think>, also where the endpoint sends them apart
    first_token: dict[str, float]  # its likeliest first tokens -> log-probability; {} if the endpoint sends none
    cut_in_thought: bool  # at the limit of tokens

    @classmethod
    def read(cls, choice: dict[str, Any]) -> Answer:
        """From JSON; a choice of another form raises whatever it happens to raise."""
        message, logprobs = choice["message"], (choice.get("logprobs") or {}).get("content") or [{}]
        text, thoughts = message.get("content") or "", message.get("reasoning_content") or message.get("reasoning")
        if thoughts:
            text = f"<think>{thoughts}</think>{text}"
        tops = {top["token"]: round(float(top["logprob"]), 4) for top in logprobs[0].get("top_logprobs") or []}
        cut = choice.get("finish_reason") == "length" and "<think>" in text and not without_thoughts(text).strip()
        return cls(text, {token: value for token, value in tops.items() if math.isfinite(value)}, cut)


class Endpoint:
    """An OpenAI-compatible chat endpoint: OpenAI, vLLM, Ollama, llama.cpp, LM Studio.

    Endpoints differ. What this one does not do is found out on the way, logged once, and asked for in another way:
    several answers to one request, the name of the limit of tokens, room for thoughts, how many log-probabilities.
    """

    attempts = 6
    longest_pause = 30.0  # seconds between two attempts, unless the endpoint asks for more
    longest_wait = 300.0  # seconds after which no further attempt at one reply begins, and for a reply to trickle in
    timeout = (10.0, 180.0)  # seconds to connect and to wait for data; a first answer on a busy CPU takes a minute
    most_bytes = 1_000_000  # of one reply
    most_tokens = 6400  # of one answer, thoughts included

    def __init__(
        self, url: str, model: str, key: str = "", max_requests: int = 0, prices: Sequence[float] = (0, 0)
    ) -> None:
        """`url`: up to and with /v1.  `key`: sent to the endpoint and to nowhere else.  `max_requests`: 0, no limit.

        prices: of a million prompt tokens and of a million completion tokens.  Raises ValueError where url or key
        cannot be used.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
            raise ValueError("the endpoint's url must look like http://127.0.0.1:8000/v1, without a key or password")
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise ValueError("the key holds a blank, a line break or another character that no key has; set it again")
        self.url, self.model, self.key = url.rstrip("/"), model, key
        self.max_requests, self.prices = max_requests, prices
        self.bill: Counter[str] = Counter({"requests": 0, "prompt tokens": 0, "completion tokens": 0})
        self.lock = threading.Lock()
        self.gives_several = True  # answers to one request, which saves prompt tokens
        self.limit, self.max_tokens, self.top_logprobs = "max_tokens", 400, 20

    @property
    def cost(self) -> float:
        """Of all tokens so far, in the currency of the prices."""
        tokens = self.bill["prompt tokens"], self.bill["completion tokens"]
        return sum(number * price for number, price in zip(tokens, self.prices)) / 1_000_000

    def ask(self, messages: Messages, temperature: float, count: int = 1, letter: bool = False) -> list[Answer]:
        """Up to `count` answers and at least one; with `letter` one of a single token, with log-probabilities.

        What may pass (no connection, 429, 5xx, a broken reply) is retried. Raises LLMError.
        """
        while True:
            body: dict[str, Any] = {"temperature": temperature, self.limit: 1 if letter else self.max_tokens}
            if letter:
                body |= {"logprobs": True, "top_logprobs": self.top_logprobs}
            elif count > 1 and self.gives_several:
                body["n"] = count
            try:
                answers = self._retry({"model": self.model, "messages": messages, **body})
            except RefusedError as refusal:
                if "max_tokens" in body and "max_completion_tokens" in str(refusal):
                    self._adapt("limit", "max_completion_tokens", "takes max_completion_tokens instead of max_tokens")
                elif "n" in body:
                    self._adapt("gives_several", False, f"refuses n = {count}; asking for one answer at a time")
                elif body.get("top_logprobs", 0) > 5:
                    self._adapt("top_logprobs", 5, f"refuses top_logprobs = {self.top_logprobs}; asking for 5")
                else:
                    raise LLMError(
                        f"{self.url} refused model {self.model!r}: {refusal}; check url, model and key"
                    ) from None
                continue
            if letter and not answers[0].first_token:
                raise LLMError(f"{self.url} gives no log-probabilities for {self.model!r}; choose mode soft")
            if "n" in body and len(answers) == 1:
                self._adapt("gives_several", False, f"gave one answer to n = {count}; asking for one at a time")
            if not letter and all(answer.cut_in_thought for answer in answers) and body[self.limit] < self.most_tokens:
                more = min(4 * body[self.limit], self.most_tokens)
                self._adapt("max_tokens", more, f"was cut off in thought; allowing {more} tokens")
                continue
            return answers

    def _adapt(self, name: str, value: Any, what: str) -> None:
        with self.lock:
            if getattr(self, name) != value:
                setattr(self, name, value)
                log.warning("%s %s", self.url, what)

    def _retry(self, body: dict[str, Any]) -> list[Answer]:
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, stop_before_delay, wait_exponential

        def pause(state: Any) -> float:
            return max(wait_exponential(max=self.longest_pause)(state), state.outcome.exception().retry_after)

        retrying = Retrying(
            retry=retry_if_exception_type(TransientError),
            stop=stop_after_attempt(self.attempts) | stop_before_delay(self.longest_wait),
            wait=pause,
            reraise=True,
        )
        try:
            return retrying(self._post, body)
        except TransientError as error:
            tries = retrying.statistics["attempt_number"]
            raise LLMError(f"{self.url} gave no answer in {tries} attempts, at last {error}; is it running?") from None

    def _post(self, body: dict[str, Any]) -> list[Answer]:
        import requests
        import urllib3

        def authorize(request: Any) -> Any:  # as a callable, so that no .netrc takes the key's place
            if self.key:
                request.headers["Authorization"] = f"Bearer {self.key}"
            return request

        with self.lock:
            made = self.bill["requests"]
            if self.max_requests and made >= self.max_requests:
                raise LLMError(f"{made} requests were made, the most that is allowed; allow more to go on")
            self.bill["requests"] += 1
        started = time.monotonic()
        try:
            with requests.post(
                f"{self.url}/chat/completions",
                json=body,
                auth=authorize,
                timeout=self.timeout,
                stream=True,
                allow_redirects=False,
            ) as response:
                content = b""
                while piece := response.raw.read1(65536, decode_content=True):  # returns what has come so far
                    content += piece
                    if len(content) > self.most_bytes:
                        raise TransientError(f"a reply of more than {self.most_bytes:,} bytes")
                    if time.monotonic() - started > self.longest_wait:
                        raise TransientError(f"a reply that was not complete after {self.longest_wait:.0f} s")
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise TransientError(type(error).__name__) from None
        status, text = response.status_code, content.decode("utf-8", errors="replace")
        if self.key:
            text = text.replace(self.key, "***")  # a server may echo it
        came = f"status {status}, {text[:200]!r}"
        if status == 429 or status >= 500:
            wait_for = response.headers.get("Retry-After", "")
            raise TransientError(came, float(wait_for) if wait_for.isdecimal() else 0.0)
        if status in (400, 422):
            raise RefusedError(came)
        if status != 200:
            raise LLMError(f"{self.url} refused model {self.model!r}: {came}; check url, model and key")
        try:
            reply = json.loads(text)
            usage = reply.get("usage") or {}
            tokens = {f"{kind} tokens": int(usage.get(f"{kind}_tokens") or 0) for kind in ("prompt", "completion")}
            answers = [Answer.read(choice) for choice in reply["choices"]]
            answers = [answer for answer in answers if "logprobs" in body or answer.text.strip()]
            if not answers:
                raise ValueError("no answer")
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
            raise TransientError(f"a reply without a text: {came}") from None
        with self.lock:
            self.bill.update(tokens)
        return answers


# -------------------------------------------------------------------------------------------------------- live teacher


MODES = ("soft", "logprobs", "hard")


def book_path(model: str, mode: str) -> Path:
    """Where a model's answers are kept unless another book is named; one book serves all tasks."""
    return REPLIES / f"{re.sub('[^A-Za-z0-9.-]', '_', model)}-{mode}.jsonl"


def read_answer(record: dict[str, Any]) -> Shares:
    """Plans and shares of one answer, from the raw answer that its line of the book keeps."""
    if isinstance(record["answer"], str):
        return {parse_plan(record["answer"], record["state"]): 1.0}
    return letter_shares(record["answer"], record["state"], record["sample"])[0]


class LiveReplies:
    """A reply book that asks an LLM for what it does not hold, section 3.2.1.

    Calling it is asking, as with `RecordedReplies`. Every answer is a line of the book, raw answer included, written
    as it arrives. Several processes may share the book; no answer is asked for twice.
    """

    def __init__(
        self, path: str | Path, endpoint: Endpoint, mode: str = "soft", samples: int = 10, temperature: float = 0.7,
        examples: int = len(EXAMPLES), workers: int = 4,
    ) -> None:  # fmt: skip
        """Open or make the book at `path`.

        mode: "soft" asks for `samples` answers a state at `temperature`, "hard" for one at temperature 0, "logprobs"
        for one letter in each rotation of a state's choices.  examples: how many of EXAMPLES the prompt shows.
        workers: requests at a time.  Raises OSError if the book cannot be made or read, ValueError if it is none, or
        another model's or prompt's.
        """
        self.path, self.endpoint, self.mode, self.examples, self.workers = Path(path), endpoint, mode, examples, workers
        self.samples = 1 if mode == "hard" else samples
        self.temperature = {"soft": temperature, "hard": 0.0, "logprobs": 1.0}[mode]
        self.counts: Counter[str] = Counter({"states found": 0, "states asked": 0, "answers": 0, "unparsable": 0})
        self.seconds, self.lock = 0.0, threading.Lock()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        self._read()

    def origin(self, state: str) -> dict[str, Any]:
        """Where an answer for a state comes from, as its line in the book says."""
        version = prompt_version(state, self.mode == "logprobs", self.examples)
        return {"model": self.endpoint.model, "prompt": version, "temperature": self.temperature}

    def _read(self) -> None:
        self.book: dict[str, dict[int, Shares]] = {}  # state -> number of the sample or rotation -> plans
        for record in read_records(self.path):
            origin = self.origin(record["state"])
            other = {name: record.get(name) for name in origin}
            if other != origin:
                raise ValueError(f"{self.path} holds answers of {other}, not of {origin}; name another book")
            answers = self.book.setdefault(record["state"], {})
            answers[record.get("sample", len(answers))] = record["plans"]

    def missing(self, states: Sequence[str]) -> list[tuple[str, int]]:
        """What is still to be asked: states with the numbers of their samples or rotations."""
        return [
            (state, sample)
            for state in states
            for sample in range(len(choices(state)) if self.mode == "logprobs" else self.samples)
            if sample not in self.book.get(state, {})
        ]

    def __call__(self, state: str) -> Shares:
        """Plans and shares for a state text with its colours renamed; raises LLMError, or OSError from the book."""
        answers = self.counts["answers"]
        self.fill([state])
        self.counts["states asked" if self.counts["answers"] > answers else "states found"] += 1
        return mean_shares(list(self.book[state].values()))

    def fill(self, states: Sequence[str], arrived: Callable[[], Any] = lambda: None) -> None:
        """Ask for whatever the book lacks of these states; `arrived` is called after each answer.

        Raises as a call does; the answers under way at that moment still arrive and are kept.
        """
        if not self.missing(states):
            return
        started = time.perf_counter()
        with locked(self.path), ThreadPoolExecutor(self.workers) as pool:
            mend(self.path)
            try:
                self._read()  # another process may have asked
            except ValueError as error:
                raise LLMError(str(error)) from None
            try:
                while missing := self.missing(states):
                    together = self.mode == "soft" and self.endpoint.gives_several
                    requests: dict[Any, list[tuple[str, int]]] = {}
                    for state, sample in missing:
                        requests.setdefault(state if together else (state, sample), []).append((state, sample))
                    jobs = [pool.submit(self._ask, request, arrived) for request in requests.values()]
                    for job in as_completed(jobs):
                        job.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
            finally:
                self.seconds += time.perf_counter() - started

    def _ask(self, request: Sequence[tuple[str, int]], arrived: Callable[[], Any]) -> None:
        state, sample = request[0]
        if self.mode == "logprobs":
            messages = letters_prompt(state, sample, self.examples)
        else:
            messages = stages_prompt(state, self.examples)
        answers = self.endpoint.ask(messages, self.temperature, len(request), self.mode == "logprobs")
        for (state, sample), answer in zip(request, answers):
            record = {"state": state, "plans": {}, **self.origin(state), "sample": sample,
                      "answer": answer.first_token if self.mode == "logprobs" else answer.text}  # fmt: skip
            record["plans"] = plans = read_answer(record)
            with self.lock:
                append_line(self.path, json.dumps(record))
                self.book.setdefault(state, {})[sample] = plans
                self.counts.update({"answers": 1, "unparsable": NO_PLAN in plans})
                arrived()

    def statistics(self) -> dict[str, float]:
        """What this process asked, found and paid."""
        return {**self.endpoint.bill, **self.counts, "seconds waited": self.seconds, "cost": self.endpoint.cost}

    def summary(self) -> str:
        """The same in a line, and what the letters are worth."""
        cost = f", cost {self.endpoint.cost:.4g}" if any(self.endpoint.prices) else ""
        counts = ", ".join(f"{number} {name}" for name, number in {**self.endpoint.bill, **self.counts}.items())
        letters = f"; {judge_letters(read_records(self.path))}" if self.mode == "logprobs" else ""
        return f"LLM: {counts}, {self.seconds:.0f} s waited{cost}; the book is {self.path}{letters}"


# -------------------------------------------------------------------------------------------------------- command line


def fail(message: str) -> NoReturn:
    """End with one line on stderr and exit code 2."""
    print(f"teacher.py: {message}", file=sys.stderr)
    raise SystemExit(2)


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where to read on; exit code 2."""
        fail(f"{message}; see python teacher.py --help")


def show(book: dict[str, Shares]) -> None:
    """Print every state of a book with its plans and shares."""
    for state, plans in book.items():
        print(state)
        for plan, share in sorted(plans.items(), key=lambda item: -item[1]):
            print(f"    {share:5.1%}  {plan}")


def positive(text: str) -> int:
    """A number of at least one, from the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def first_options(plans: Shares) -> Shares:
    """The share of each option that a plan begins with: what acts when nothing is finished."""
    firsts: Counter[str] = Counter()
    for plan, share in plans.items():
        firsts[plan.split(",")[0]] += share
    return firsts


def score(book: dict[str, Shares], reference: dict[str, Shares]) -> None:
    """Print two books state by state: the option that each begins with most often, and how much they have in common.

    common = sum_k min(p_k, q_k), 1 where the shares p and q of the first options are the same, 0 if they share none.
    """
    agreed, total = 0, 0.0
    print(f"{'book':26}{'reference':26}common  state")
    for state, plans in reference.items():
        ours, theirs = first_options(book[state]), first_options(plans)
        common = sum(min(ours[option], theirs[option]) for option in ours)
        best = [max(shares, key=lambda option: shares[option]) for shares in (ours, theirs)]
        tops = [f"{shares[option]:4.0%} {option}" for shares, option in zip((ours, theirs), best)]
        print(f"{tops[0]:26}{tops[1]:26}{common:6.0%}  {state}")
        agreed, total = agreed + (best[0] == best[1]), total + common
    print(f"{len(reference)} states: the same option first in {agreed}, {total / len(reference):.0%} in common")


def ask(replies: LiveReplies, state: str) -> None:
    """Ask about one state and print prompt, raw answers, plans and shares."""
    shares = replies(state)
    letters = replies.mode == "logprobs"
    for message in letters_prompt(state, 0, replies.examples) if letters else stages_prompt(state, replies.examples):
        print(f"--- {message['role']}\n{message['content']}\n")
    for record in read_records(replies.path):
        if record["state"] == state:
            plans = ", or ".join(f"{share:.0%} {plan}" for plan, share in record["plans"].items())
            print(f"--- answer {record['sample']}\n{record['answer']}\n=> {plans}\n")
    show({state: shares})


def record(replies: LiveReplies, states: Sequence[str]) -> None:
    """Ask about all the states, with a progress bar, and print what it took."""
    from tqdm import tqdm

    with tqdm(total=len(replies.missing(states)), unit=" answers") as bar:
        replies.fill(states, bar.update)
    records = [record for record in read_records(replies.path) if record["state"] in states]
    paid = replies.statistics()
    names = ("requests", "prompt tokens", "completion tokens", "seconds waited")
    rows = {"states": len(states), **{name: paid[name] for name in names}}
    if any(replies.endpoint.prices):
        rows["cost"] = paid["cost"]
    rows["share unparsable"] = sum(NO_PLAN in record["plans"] for record in records) / len(records)
    for name, number in rows.items():
        print(f"{name:18}{number:12,.4g}" if isinstance(number, float) else f"{name:18}{number:12,}")
    print(f"of the {len(records)} answers on these states in {replies.path}")
    if replies.mode == "logprobs":
        print(judge_letters(records))


def main(arguments: Sequence[str] | None = None) -> None:
    """Show, record, ask or score."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", title="commands", metavar="{show,record,ask,score}")
    tasks = [*(path.stem for path in sorted(REPLIES.glob("*Key.jsonl"))), "habitat"]
    shower = commands.add_parser("show", help="print a reply book")
    shower.add_argument("book", nargs="?", default=REPLIES / "ColoredDoorKey.jsonl")
    recorder = commands.add_parser("record", help="ask for every state text that a task can reach")
    asker = commands.add_parser("ask", help="ask about one state text; shows prompt, answers, plans and shares")
    asker.add_argument("state", help='such as "The agent observes a red key, and holds nothing."')
    scorer = commands.add_parser("score", help="compare two reply books state by state")
    scorer.add_argument("book")
    scorer.add_argument("reference", nargs="?", help="default: the paper's LLM, replies/ENV.jsonl")
    for command in (recorder, scorer):
        command.add_argument("--env", required=True, choices=tasks, help="the task whose states are meant")
    for command in (recorder, asker):
        command.add_argument("--teacher-url", required=True, help="OpenAI-compatible endpoint, http://.../v1")
        command.add_argument("--teacher-model", required=True)
        command.add_argument("--teacher-mode", choices=MODES, default="soft")
        command.add_argument("--teacher-key-env", default="OPENAI_API_KEY", help="environment variable with its key")
        command.add_argument("--teacher-samples", type=positive, default=10, help="answers per state in mode soft")
        command.add_argument("--teacher-temperature", type=float, default=0.7, help="of mode soft")
        command.add_argument("--teacher-examples", type=int, choices=range(len(EXAMPLES) + 1), default=len(EXAMPLES),
                             help="examples in the prompt")  # fmt: skip
        command.add_argument("--teacher-workers", type=positive, default=4, help="requests at a time")
        command.add_argument("--teacher-max-requests", type=int, default=0, help="retries included; 0: no limit")
        command.add_argument("--teacher-prompt-price", type=float, default=0.0, help="of a million prompt tokens")
        command.add_argument(
            "--teacher-completion-price", type=float, default=0.0, help="of a million tokens of answers"
        )
        command.add_argument("--replies", help="the book; default: replies/MODEL-MODE.jsonl")
    given = parser.parse_args(arguments)
    if given.command is None:
        given = parser.parse_args(["show"])
    try:
        if given.command == "show":
            show(read_replies(given.book))
        elif given.command == "score":
            states = list(read_replies(REPLIES / f"{given.env}.jsonl"))
            books = []
            for path in (given.book, given.reference or REPLIES / f"{given.env}.jsonl"):
                book = read_replies(path)
                lacks = [state for state in states if state not in book]
                if lacks:
                    raise ValueError(f"{path} lacks {len(lacks)} states of {given.env}, the first is {lacks[0]!r}")
                books.append({state: book[state] for state in states})
            score(*books)
        else:
            endpoint = Endpoint(
                given.teacher_url, given.teacher_model, os.environ.get(given.teacher_key_env, ""),
                given.teacher_max_requests, (given.teacher_prompt_price, given.teacher_completion_price),
            )  # fmt: skip
            replies = LiveReplies(
                given.replies or book_path(given.teacher_model, given.teacher_mode), endpoint, given.teacher_mode,
                given.teacher_samples, given.teacher_temperature, given.teacher_examples, given.teacher_workers,
            )  # fmt: skip
            if given.command == "ask":
                ask(replies, rename_colors(given.state)[0])
            else:
                record(replies, list(read_replies(REPLIES / f"{given.env}.jsonl")))
    except (OSError, ValueError, LLMError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        print("teacher.py: stopped; the answers that came are kept, the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
