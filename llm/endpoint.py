"""An OpenAI-compatible chat endpoint: refusals are learned from, what may pass is retried, tokens are counted."""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Callable
from urllib.parse import parse_qs, urlsplit

from llm.parameters import NAMES, Parameters
from llm.response import MALFORMED, Answer, read_error, read_json, read_pause, read_tokens
from llm.secret import Secret
from llm.transport import TransientError, check_proxy, send

log = logging.getLogger(__name__)

OWN_FIELDS = (*NAMES, "max_completion_tokens", "model", "messages")  # of a request's body


class LLMError(RuntimeError):
    """The LLM gave no answer that can be used; the text says what was asked, what came and what to do."""


class RefusedError(Exception):
    """The endpoint does not take the request, or no request at all, and no waiting mends it."""

    def __init__(self, message: str, status: int, said: str) -> None:
        """Keep the status that came or was meant, and what the endpoint said."""
        super().__init__(message)
        self.status, self.said = status, said


class Endpoint:
    """An OpenAI-compatible chat endpoint: OpenAI, vLLM, Ollama, llama.cpp, LM Studio.

    Endpoints differ. A parameter that this one refuses is sent in another form or left out from then on, which is
    logged once and kept in `parameters.notes`.
    """

    attempts = 6  # at a reply, unless the endpoint says "later"
    longest_pause = 30.0  # seconds between two attempts, unless the endpoint asks for more
    longest_wait = 300.0  # seconds after which no further attempt at one reply begins, and for a whole reply,
    longest_token = 0.25  # or as many for each token of an answer, where a slow machine thinks at length
    most_bytes = 1_000_000  # of one reply

    def __init__(
        self,
        url: str,
        model: str,
        key: str = "",
        max_requests: int = 0,
        prices: Sequence[float] = (0, 0),
        max_tokens: int = 6400,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        """Make an endpoint; nothing is sent yet.

        url: up to and with /v1; Azure's has an api-version.  key: sent to the endpoint and shown nowhere.
        max_requests: 0, no limit.  prices: of a million prompt tokens and of a million completion tokens.
        max_tokens: most of one answer, thoughts included.  body: further fields of a request.  Raises ValueError where
        url, key or the environment's proxy cannot be used.
        """
        import requests

        try:
            parts = urlsplit(url)
            requests.Request("POST", url).prepare()
            usable = parts.scheme in ("http", "https") and "@" not in parts.netloc and not parts.fragment
        except (requests.RequestException, UnicodeError, ValueError):
            usable = False
        if not usable or (parts.query and set(parse_qs(parts.query)) != {"api-version"}):
            raise ValueError(
                "the endpoint's url must look like http://127.0.0.1:8000/v1, without a key or password; Azure's ends "
                "with ?api-version=..."
            )
        check_proxy(url)
        self.secret = Secret(key)
        if key and not self.secret.parts:
            log.warning(
                "the key has fewer than %d characters, as a word may: it is not hidden where %s echoes it",
                Secret.shortest, url,
            )  # fmt: skip
        self.url, _, self.query = url.partition("?")
        self.url = self.url.rstrip("/")
        self.model, self.max_requests, self.prices, self.body = model, max_requests, prices, body or {}
        self.bill: Counter[str] = Counter({"requests": 0, "prompt tokens": 0, "completion tokens": 0})
        self.parameters = Parameters(self.url, max_tokens)
        self.lock, self.last_wait = threading.Lock(), ""
        self.stopped = threading.Event()  # while it is set, no pause is made and no attempt follows another

    @property
    def cost(self) -> float:
        """Return the cost of all tokens so far, in the currency of the prices."""
        tokens = self.bill["prompt tokens"], self.bill["completion tokens"]
        return sum(number * price for number, price in zip(tokens, self.prices)) / 1_000_000

    @property
    def gives_several(self) -> bool:
        """Return whether the endpoint gives several answers to a request, which saves prompt tokens."""
        return not self.parameters.refused["n"]

    def models(self) -> list[str] | None:
        """Return the names of the endpoint's models, None if it has no list of them; raises LLMError."""

        def read(reply: Any) -> list[str] | None:
            try:
                listed = (reply.get("data") or reply["models"]) if isinstance(reply, dict) else reply
                return [self.secret.hide(str(entry.get("id") or entry["name"])) for entry in listed]
            except MALFORMED:
                return None

        try:
            return self._retry("models", None, read)
        except RefusedError:
            return None

    def complete(
        self, messages: list[dict[str, str]], temperature: float, count: int = 1, letters: int = 0
    ) -> list[Answer]:
        """Return up to `count` answers and at least one.

        letters: if not 0, an answer is one of so many letters: a single token with its log-probabilities. An answer
        that is cut off is left out as long as more tokens can be allowed; where all are, the request is repeated with
        more. What may pass (no connection, 429, 5xx, a broken reply) is retried. Raises LLMError.
        """

        def read(reply: Any) -> list[Answer]:
            with self.lock:
                self.bill.update(read_tokens(reply))
            answers = []
            for choice in reply["choices"]:
                with suppress(*MALFORMED):  # the others are paid for, too
                    answers.append(Answer.read(choice, letters > 0, self.secret.hide))
            answers = [answer for answer in answers if letters or answer.text.strip() or answer.cut]
            if not answers:
                raise ValueError("no answer")
            return answers

        while True:
            request = self.parameters.request(temperature, count, letters)
            body = {"model": self.model, "messages": messages, **self.body, **request.fields}
            try:
                answers = self._retry("chat/completions", body, read)
            except RefusedError as refusal:
                if refusal.status in (400, 422) and self.parameters.learn(request, refusal.said):
                    continue
                raise LLMError(f"{self.url} refused model {self.model!r}: {refusal}; {self._hint(refusal)}") from None
            if letters and not answers[0].first_token:
                raise LLMError(f"{self.url} gives no log-probabilities for {self.model!r}; choose mode soft")
            whole = [answer for answer in answers if not answer.cut]
            self.parameters.accept(request, len(answers), cut=len(answers) - len(whole))
            if request.room >= self.parameters.most_tokens:
                return answers
            if whole:
                return whole

    def _retry(self, path: str, body: Any, read: Callable[[Any], Any]) -> Any:
        from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_before_delay, wait_exponential

        def error(state: RetryCallState) -> Any:
            return state.outcome and state.outcome.exception()

        def pause(state: RetryCallState) -> float:
            return max(wait_exponential(max=self.longest_pause)(state), error(state).pause)

        def enough(state: RetryCallState) -> bool:
            tried = state.attempt_number >= self.attempts and not error(state).busy
            return tried or self.stopped.is_set() or stop_before_delay(self.longest_wait)(state)

        def tell(state: RetryCallState) -> None:
            line = f"{error(state)}; trying again in {state.upcoming_sleep:.3g} s"
            with self.lock:
                known, self.last_wait = self.last_wait == line, line
            if not known:
                log.warning("%s: %s", self.url, line)

        retrying = Retrying(
            retry=retry_if_exception_type(TransientError),
            stop=enough,
            wait=pause,
            sleep=self.sleep,
            before_sleep=tell,
            reraise=True,
        )
        try:
            return retrying(self._exchange, path, body, read)
        except TransientError as last:
            tries = retrying.statistics["attempt_number"]
            raise LLMError(f"{self.url} gave no answer in {tries} attempts, at last {last}; is it running?") from None

    def sleep(self, seconds: float) -> None:
        """Wait between two attempts."""
        self.stopped.wait(seconds)

    def _exchange(self, path: str, body: Any, read: Callable[[Any], Any]) -> Any:
        """Make one request and read its reply; raises TransientError, RefusedError or LLMError."""
        key, headers = self.secret.key, {}
        if key:
            headers["Authorization"] = f"Bearer {key}"
            if self.query:
                headers["api-key"] = key  # Azure's
        if body is not None:
            with self.lock:
                made = self.bill["requests"]
                if self.max_requests and made >= self.max_requests:
                    raise LLMError(f"{made} requests were made, the most that is allowed; allow more to go on")
                self.bill["requests"] += 1
        url = f"{self.url}/{path}" + (f"?{self.query}" if self.query else "")
        longest = max(self.longest_wait, self.longest_token * self.parameters.room)
        response = send(url, body, headers, longest, self.most_bytes)
        text = response.content[:10_000].decode("utf-8", errors="replace")
        try:
            reply = read_json(response.content)
        except MALFORMED:
            reply = text
        status, said = read_error(response.status, reply)
        came = f"status {status}, {self.secret.hide(said or text)[:200]!r}"
        if status in (408, 409, 425, 429) or (status >= 500 and status != 501):  # 501: it will never do that
            raise TransientError(came, read_pause(response.headers), busy=status in (429, 503))
        if status != 200 or (self._lacks_version and text.lstrip().startswith("<")):
            raise RefusedError(came, status, said)
        try:
            return read(reply)
        except MALFORMED:
            raise TransientError(f"a reply without a text: {came}") from None

    @property
    def _lacks_version(self) -> bool:
        return not (self.query or re.search(r"/v\d", urlsplit(self.url).path))

    def _hint(self, refusal: RefusedError) -> str:
        if refusal.status == 402:
            return "nothing is left to pay for it; pay, or choose another endpoint"
        if re.search(r"(?i)log[ _]?prob", refusal.said):
            return "choose mode soft"
        if any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", refusal.said) for name in self.body):
            return "leave out the further field that it names"
        if refusal.status in (200, 404, 405) and self._lacks_version:
            return f"most urls end with /v1; try {self.url}/v1"
        return "check url, model and key"
