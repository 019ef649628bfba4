"""The parameters of a request in the forms that an endpoint takes; one that it refuses takes another form."""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter
from typing import Any, NamedTuple

log = logging.getLogger(__name__)

NAMES = {  # of each parameter that is sent, as the message of a refusal may have it
    "stream": "stream",
    "temperature": "temperature",
    "max_tokens": "max_(?:completion_|output_|new_)?tokens",
    "n": r"n(?!'\w)|(?:completion|multiple|number of) (?:choice|completion)s?",
    "top_logprobs": r"top_logprobs|logprobs\W+(?:\w+\W+){0,4}?\d+",
    "logprobs": r"log[ _]?prob(?:s|abilities)",
}
ALLOWED = (
    r"(?i)(?:at most|up to|less than or equal to|<=|max\w*(?: \w+){0,3}|limit(?: \w+)?|\band|\b0(?: to)?)\W{1,4}(\d+)"
)


class Request(NamedTuple):
    """The parameters of one request."""

    forms: dict[str, list[dict[str, Any]]]  # parameter -> the fields that it may be sent as, best first
    at: dict[str, int]  # parameter -> which of these it is sent as
    room: int  # tokens of an answer
    letters: int  # out of which one is asked for, or 0

    @property
    def sent(self) -> dict[str, dict[str, Any]]:
        """Return the fields that each parameter is sent as."""
        return {name: forms[self.at[name]] for name, forms in self.forms.items()}

    @property
    def fields(self) -> dict[str, Any]:
        """Return all fields for the request's body."""
        return {name: value for fields in self.sent.values() for name, value in fields.items()}


class Parameters:
    """The parameters of all requests to an endpoint, and what was learned of them.

    notes: a line on each thing that was learned, as it was logged.
    """

    def __init__(self, url: str, most_tokens: int) -> None:
        """Begin with 400 tokens an answer; there may be `most_tokens` where answers are cut off."""
        self.url, self.most_tokens = url, most_tokens
        self.room = self.granted = min(400, most_tokens)  # tokens of an answer, and the most that was not refused
        self.fewer = 5  # log-probabilities, where 20 are refused without a word of how many are allowed
        self.refused: Counter[str] = Counter()  # parameter -> how many of its forms
        self.notes: list[str] = []
        self.lock = threading.Lock()

    def request(self, temperature: float, count: int, letters: int) -> Request:
        """Return the parameters of a request for `count` answers, or one letter out of `letters` if that is not 0."""
        room = self.room
        forms: dict[str, list[dict[str, Any]]] = {
            "stream": [{"stream": False}, {}],
            "temperature": [{"temperature": temperature}, {}],
            "max_tokens": [{name: 1 if letters else room} for name in ("max_tokens", "max_completion_tokens")],
        }
        if count > 1:
            forms["n"] = [{"n": count}, {}]
        if letters:
            forms["top_logprobs"] = self.top_logprobs(letters)
            forms["logprobs"] = [{"logprobs": True}]
        at = {name: min(self.refused[name], len(ways) - 1) for name, ways in forms.items()}
        return Request(forms, at, room, letters)

    def top_logprobs(self, letters: int) -> list[dict[str, Any]]:
        """Return how many log-probabilities are asked for, and how few will do: one for each letter."""
        numbers = {max(number, letters) for number in (20, self.fewer, letters)}
        return [{"top_logprobs": number} for number in sorted(numbers, reverse=True)]

    def learn(self, request: Request, said: str) -> bool:
        """Change the parameter that the message of a refusal names first; return False if there is no other way."""
        patterns = {name: rf"(?i)(?<![\w\\])(?:{NAMES[name]})(?!\w)" for name, fields in request.sent.items() if fields}
        found = {name: match.start() for name, p in patterns.items() if (match := re.search(p, said))}
        if not found:
            return False
        name = min(found, key=lambda name: found[name])
        forms, at = request.forms[name], request.at[name]
        with self.lock:
            if name == "max_tokens" and request.room > self.granted:
                if self.room == request.room:
                    self.room = self.most_tokens = self.granted
                    self.note(f"refuses {request.room} tokens; an answer that is cut off at {self.granted} stays cut")
                return True
            if name == "top_logprobs" and at == 0 and (allowed := re.search(ALLOWED, said)):
                self.fewer = min(int(allowed[1]), 20)
                forms = self.top_logprobs(request.letters)
            if at + 1 == len(forms):
                return False
            if self.refused[name] == at:  # and no other request has told before
                self.refused[name] += 1
                self.note(f"refuses {spell(forms[at])}; {spell(forms[at + 1])} is sent")
            return True

    def accept(self, request: Request, answers: int, cut: int) -> None:
        """Learn from answers, of which some were cut off: whether there were several, and how many tokens they need."""
        with self.lock:
            if "n" in request.fields and answers == 1 and not self.refused["n"]:
                self.refused["n"] = 1
                self.note(f"gave one answer to {spell(request.sent['n'])}; asking for one at a time")
            if not request.letters:
                self.granted = max(self.granted, request.room)
            if cut and self.room == request.room < self.most_tokens:
                self.room = min(4 * self.room, self.most_tokens)
                self.note(f"cut off an answer at {request.room} tokens; allowing {self.room}")

    def note(self, line: str) -> None:
        """Keep a line on what was learned, and log it."""
        self.notes.append(line)
        log.warning("%s %s", self.url, line)


def spell(fields: dict[str, Any]) -> str:
    """Return the fields of a parameter as a line has them."""
    return ", ".join(f"{name} = {value}" for name, value in fields.items()) or "nothing"
