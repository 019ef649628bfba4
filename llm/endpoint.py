"""An OpenAI-compatible chat endpoint: refusals are learned from, what may pass is retried, tokens are counted."""

from __future__ import annotations

import json
import logging
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

log = logging.getLogger(__name__)


def without_thoughts(answer: str) -> str:
    """Return an answer without what stands between <think> and </think>, or after a <think> that nothing ends."""
    return re.sub(r"(?s)<think>.*?(</think>|$)", "", answer)


class LLMError(RuntimeError):
    """The LLM gave no answer that can be used; the text says what was asked, what came and what to do."""


class TransientError(Exception):
    """A failure that may pass; `retry_after` is the wait in seconds that the endpoint asks for."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        """Keep what came back instead of an answer."""
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
        """Read a choice from JSON; one of another form raises whatever it happens to raise."""
        message, logprobs = choice["message"], (choice.get("logprobs") or {}).get("content") or [{}]
        text, thoughts = message.get("content") or "", message.get("reasoning_content") or message.get("reasoning")
        if thoughts:
            text = f"<think>{thoughts}</think>{text}"
        tops = {top["token"]: round(float(top["logprob"]), 4) for top in logprobs[0].get("top_logprobs") or []}
        cut = choice.get("finish_reason") == "length" and "<think>" in text and not without_thoughts(text).strip()
        return cls(text, {token: value for token, value in tops.items() if math.isfinite(value)}, cut)


class Endpoint:
    """An OpenAI-compatible chat endpoint: OpenAI, vLLM, Ollama, llama.cpp, LM Studio.

    Endpoints differ. What this one refuses is learned on the way, logged once, and requested in another form: several
    answers per request, the name of the token limit, room for thoughts, the number of log-probabilities.
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
        self.gives_several = True  # answers per request, which saves prompt tokens
        self.limit, self.max_tokens, self.top_logprobs = "max_tokens", 400, 20

    @property
    def cost(self) -> float:
        """Return the cost of all tokens so far, in the currency of the prices."""
        tokens = self.bill["prompt tokens"], self.bill["completion tokens"]
        return sum(number * price for number, price in zip(tokens, self.prices)) / 1_000_000

    def complete(
        self, messages: list[dict[str, str]], temperature: float, count: int = 1, letter: bool = False
    ) -> list[Answer]:
        """Return up to `count` answers and at least one; with `letter` a single token with its log-probabilities.

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
