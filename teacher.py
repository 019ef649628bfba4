"""The teacher of LLM4Teach (paper section 3.2): state text -> distribution over plans -> mixture of options, Eq. (1).

    python teacher.py --replies replies/ColoredDoorKey.jsonl          # every recorded state and the LLM's plans

pi_T(. | s) = sum_k Pr_LLM(k | c(s)) pi_k(. | s).  c(s) is the state as text. An LLM answers with a plan, a list of
options in order; the first one that is not finished acts, and Pr_LLM(k | c(s)) is the share of the answers in which
option k acts.

Answers are kept in a reply book: JSON lines, each with the state, the plans with their shares, and where they came
from. `RecordedReplies` looks answers up in one; `LiveReplies` also asks an LLM behind any OpenAI-compatible endpoint
for what is missing, and writes each answer there as it arrives, so that none is paid for twice.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Callable, NamedTuple, Protocol
from urllib.parse import urlsplit

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


class LLMError(RuntimeError):
    """The LLM gave no answer that can be used; the text says what was asked, what came and what to do."""


class TransientError(Exception):
    """A failure that may pass; `retry_after` is the wait in seconds that the endpoint asks for."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        """What came back instead of an answer."""
        super().__init__(message)
        self.retry_after = retry_after


NO_PLAN = "(not a plan)"
PROMPT_VERSION = "stages-5"
TASK = """You guide an agent in a walled room. It wins by opening a locked door, which needs a key of the same colour.
It sees only what is near, so what it has not seen yet must be explored. It can hold one key.
Options: explore; go to X; pick up X; drop X; open X. X is a key or door with its colour, such as red key.
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


def prompt(state: str) -> list[dict[str, str]]:
    """The chain of thought of section 4.1.1 as chat messages: summarise the scene, reason, decide.

    The rule stands in the first user turn and not in a system message, which some chat templates drop.
    """
    messages = []
    for number, (example, answer) in enumerate((*EXAMPLES, (state, ""))):
        question = f"State: {example}"
        messages.append({"role": "user", "content": question if number else f"{TASK}\n\n{question}"})
        messages.append({"role": "assistant", "content": answer})
    return messages[:-1]


STEP = re.compile(
    r"\b(?:(?P<explore>explor\w*|search\w*|look around)"
    r"|(?:(?P<go>go(?: over)? to|move to|walk to|approach)|(?P<pick>pick(?: up)?|grab|take|get|collect)"
    r"|(?P<drop>drop|put down|release)|(?P<open>open|unlock))"
    rf" (?:(?:the|a|an) )?(?P<thing>(?:second )?(?:{'|'.join(COLORS)}) (?:key|door)))\b"
)
VERBS = {"go": "go to", "pick": "pick up", "drop": "drop", "open": "open"}


def parse_plan(answer: str) -> str:
    """The plan in an answer, as option names separated by commas; NO_PLAN if it names no option.

    Read is what follows the last "Decision:". An answer without one is read whole if it does not reason, else it was
    cut off before it decided. Thoughts between <think> and </think> are left out; bullets, quotes, capitals, articles
    and synonyms such as "unlock" and "grab" are understood.
    """
    answer = re.sub(r"(?s)<think>.*?(</think>|$)", "", answer).lower()
    _, decided, decision = answer.rpartition("decision")
    if not decided and "reasoning" in answer:
        return NO_PLAN
    words = re.sub(r"[^a-z]+", " ", decision)
    steps = []
    for match in STEP.finditer(words):
        verb = next((VERBS[name] for name in VERBS if match[name]), None)
        steps.append(f"{verb} {match['thing']}" if verb else "explore")
    return ", ".join(steps) or NO_PLAN


class Answer(NamedTuple):
    """What an endpoint sent: the text and its bill."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class Endpoint:
    """An OpenAI-compatible chat endpoint: OpenAI, vLLM, Ollama, llama.cpp, LM Studio."""

    attempts = 6
    longest_pause = 30.0  # seconds between two attempts, unless the endpoint asks for more
    longest_wait = 300.0  # seconds after which no further attempt at one answer begins
    timeout = (10.0, 180.0)  # seconds to connect and to wait for data; a first answer on a busy CPU takes a minute
    most_bytes = 1_000_000  # of one answer

    def __init__(self, url: str, model: str, key: str = "", max_requests: int = 0) -> None:
        """`url`: up to and with /v1.  `key`: sent to the endpoint and to nowhere else.  `max_requests`: 0, no limit.

        Raises ValueError where url or key cannot be used.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
            raise ValueError("the endpoint's url must look like http://127.0.0.1:8000/v1, without a key or password")
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise ValueError("the key holds a blank, a line break or another character that no key has; set it again")
        self.url, self.model, self.key, self.max_requests = url.rstrip("/"), model, key, max_requests
        self.requests, self.lock = 0, threading.Lock()

    def ask(self, messages: list[dict[str, str]], temperature: float) -> Answer:
        """One answer. What may pass (no connection, 429, 5xx, a broken answer) is retried; raises LLMError."""
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
            return retrying(self._post, {"model": self.model, "messages": messages, "temperature": temperature})
        except TransientError as error:
            tries = retrying.statistics["attempt_number"]
            raise LLMError(f"{self.url} gave no answer in {tries} attempts, at last {error}; is it running?") from None

    def _post(self, body: dict[str, Any]) -> Answer:
        import requests

        def authorize(request: Any) -> Any:  # as a callable, so that no .netrc takes the key's place
            if self.key:
                request.headers["Authorization"] = f"Bearer {self.key}"
            return request

        with self.lock:
            if self.max_requests and self.requests >= self.max_requests:
                raise LLMError(f"{self.requests} requests were made, the most that is allowed; allow more to go on")
            self.requests += 1
        try:
            with requests.post(
                f"{self.url}/chat/completions",
                json={**body, "max_tokens": 400},
                auth=authorize,
                timeout=self.timeout,
                stream=True,
                allow_redirects=False,
            ) as response:
                content = b""
                for piece in response.iter_content(65536):
                    content += piece
                    if len(content) > self.most_bytes:
                        raise TransientError(f"an answer of more than {self.most_bytes:,} bytes")
        except requests.RequestException as error:
            raise TransientError(type(error).__name__) from None
        status, text = response.status_code, content.decode("utf-8", errors="replace")
        if self.key:
            text = text.replace(self.key, "***")  # a server may echo it
        came = f"status {status}, {text[:200]!r}"
        if status == 429 or status >= 500:
            wait_for = response.headers.get("Retry-After", "")
            raise TransientError(came, float(wait_for) if wait_for.isdecimal() else 0.0)
        if status != 200:
            raise LLMError(f"{self.url} refused model {self.model!r}: {came}; check url, model and key")
        try:
            reply = json.loads(text)
            answer = reply["choices"][0]["message"]["content"]
            usage = reply.get("usage") or {}
            if not isinstance(answer, str) or not answer.strip():
                raise ValueError("an empty answer")
            return Answer(answer, int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
            raise TransientError(f"an answer without a text: {came}") from None


class LiveReplies:
    """A reply book that asks an LLM for what it does not hold, section 3.2.1.

    Calling it is asking, as with `RecordedReplies`. Every answer is a line of the book, raw text included, written as
    it arrives; several processes may share the book.
    """

    def __init__(self, path: str | Path, endpoint: Endpoint, samples: int = 10, workers: int = 4) -> None:
        """samples: answers a state, at temperature 0.7; a single one is asked for at temperature 0.

        Raises OSError if the book cannot be made or read, ValueError if it is none or another LLM's.
        """
        self.path, self.endpoint, self.samples, self.workers = Path(path), endpoint, samples, workers
        self.temperature = 0.7 if samples > 1 else 0.0
        self.origin = {"model": endpoint.model, "prompt": PROMPT_VERSION, "temperature": self.temperature}
        self.bill: Counter[str] = Counter()
        self.seconds, self.lock = 0.0, threading.Lock()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        self._read()

    def _read(self) -> None:
        self.book: dict[str, list[Shares]] = {}
        for record in read_records(self.path):
            other = {name: record.get(name) for name in self.origin}
            if other != self.origin:
                raise ValueError(f"{self.path} holds answers of {other}, not of {self.origin}; name another book")
            self.book.setdefault(record["state"], []).append(record["plans"])

    def __call__(self, state: str) -> Shares:
        """Plans and shares for a state text with its colours renamed; raises LLMError, or OSError from the book."""
        if len(self.book.get(state, [])) < self.samples:
            try:
                self._read()  # another process may have asked
            except ValueError as error:
                raise LLMError(str(error)) from None
        missing = self.samples - len(self.book.get(state, []))
        self.bill["states asked" if missing > 0 else "states found"] += 1
        started = time.perf_counter()
        with ThreadPoolExecutor(self.workers) as pool:
            jobs = [pool.submit(self._ask, state) for _ in range(missing)]
            wait(jobs, return_when=FIRST_EXCEPTION)
            pool.shutdown(wait=True, cancel_futures=True)  # those that are under way still arrive and are kept
        self.seconds += time.perf_counter() - started
        for job in jobs:
            if not job.cancelled():
                job.result()  # raises what went wrong
        return mean_shares(self.book[state])

    def _ask(self, state: str) -> None:
        answer = self.endpoint.ask(prompt(state), self.temperature)
        plan = parse_plan(answer.text)
        record = {"state": state, "plans": {plan: 1.0}, **self.origin, "answer": answer.text}
        with self.lock:
            append_line(self.path, json.dumps(record))
            self.book.setdefault(state, []).append({plan: 1.0})
            self.bill.update(
                {"answers": 1, "prompt tokens": answer.prompt_tokens, "completion tokens": answer.completion_tokens,
                 "unparsable": plan == NO_PLAN}
            )  # fmt: skip

    def summary(self) -> str:
        """What this process asked, found and paid."""
        counts = ", ".join(f"{self.bill[name]} {name}" for name in (
            "states found", "states asked", "answers", "unparsable", "prompt tokens", "completion tokens"))  # fmt: skip
        return f"LLM: {self.endpoint.requests} requests, {counts}, {self.seconds:.0f} s waited; the book is {self.path}"


def append_line(path: Path, line: str) -> None:
    """Append a line, on disk when this returns; safe against other processes doing the same, and against crashes.

    What a crash left of a last line is cut off first.
    """
    with path.open("r+b") as file:
        try:
            import fcntl  # not on Windows, where only one process may write at a time

            fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
        except ImportError:
            pass
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(0)
            whole, _, rest = file.read().rpartition(b"\n")
            if rest:
                try:
                    json.loads(rest)
                    line = "\n" + line  # complete but for its end
                except ValueError:
                    file.truncate(len(whole) + 1 if whole else 0)
        file.seek(0, os.SEEK_END)
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


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
