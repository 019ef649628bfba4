"""What an endpoint's response holds, in any of the usual forms: answers, log-probabilities, tokens, or an error."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Callable, NamedTuple

# What reading raises where something has another form.
MALFORMED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
MEANINGS = (  # of the words in an error, as statuses
    (402, r"insufficient.?(?:quota|balance|credit|funds)|billing|payment.?required"),
    (404, r"not.?found|unexpected.endpoint|does.not.exist"),
    (401, r"invalid.?api.?key|authenticat|unauthori[sz]ed"),
    (403, r"permission|forbidden"),
    (429, r"rate.?limit|too.?many.?requests|resource.?exhausted"),
    (400, r"invalid.?(?:request|value|param)|bad.?request|unsupported|context.?length"),
    (503, r"unavailable|overloaded|loading"),
)


class Answer(NamedTuple):
    """One of the choices in an endpoint's reply."""

    text: str  # as it came; thoughts that came apart stand before it in <think>...</think>
    first_token: dict[str, float]  # of a letter: the likeliest tokens -> log-probability; {} if the endpoint sends none
    cut: bool  # at the limit of tokens, and not a letter

    @classmethod
    def read(cls, choice: dict[str, Any], letter: bool, hide: Callable[[str], str]) -> Answer:
        """Read a choice from JSON; `hide` takes the key out of a text. Raises one of MALFORMED."""
        message = choice["message"]
        apart = next(filter(None, map(message.get, ("reasoning_content", "reasoning", "thinking"))), "")
        parts = [*texts(apart, thought=True), *texts(message.get("content") or message.get("refusal"))]
        text = "".join(text for text, thought in parts if not thought)
        if thoughts := "".join(text for text, thought in parts if thought):
            text = f"<think>{thoughts}</think>{text}"
        tokens = first_token(choice.get("logprobs")) if letter else {}
        cut = not letter and choice.get("finish_reason") in ("length", "max_tokens")
        return cls(hide(text), {hide(token): value for token, value in tokens.items()}, cut)


def texts(content: Any, thought: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield the texts in a message's content, a text or a list of parts, each with whether it is a thought."""
    if isinstance(content, str):
        yield content, thought
    elif isinstance(content, Mapping):
        kind = str(content.get("type", "text"))
        thought = thought or "think" in kind or "reason" in kind
        if thought or "text" in kind:
            inner = next(filter(None, map(content.get, ("text", kind, "content", "summary"))), "")
            yield from texts(inner, thought)
    else:
        for part in content or ():
            yield from texts(part, thought)


def first_token(logprobs: Any) -> dict[str, float]:
    """Return the likeliest first tokens of an answer with their log-probabilities, {} where they make no sense.

    Two shapes are read: `content`, a list of tokens each with its `top_logprobs`; and the older one, in which
    `top_logprobs` is a list beside that of the tokens. Impossible tokens, null or minus infinity, are left out.
    """
    try:
        tops = logprobs["content"][0]["top_logprobs"] if logprobs.get("content") else logprobs["top_logprobs"]
        if isinstance(tops, list) and "tokens" in logprobs:
            tops = tops[0]
        pairs = tops.items() if isinstance(tops, Mapping) else [(top["token"], top["logprob"]) for top in tops]
        values = {str(token): float(value) for token, value in pairs if value is not None}
        if not sum(map(math.exp, values.values())) < 1.01:  # no log-probabilities: NaN, above 0, or 0 for every token
            return {}
    except MALFORMED:
        return {}
    return {token: round(min(value, 0.0), 4) for token, value in values.items() if value > -math.inf}


def read_json(content: bytes) -> Any:
    """Return the JSON in a response, also behind a byte-order mark and before a "data: [DONE]".

    Server-sent events become what would have come in one piece. Raises one of MALFORMED.
    """
    text = content.decode("utf-8-sig", errors="replace").lstrip()
    if re.match(r"(?:data|event|id|retry)?:", text):
        return join_events(text)
    reply, _ = json.JSONDecoder().raw_decode(text)
    return reply


def join_events(text: str) -> dict[str, Any]:
    """Return server-sent events as one reply; raises one of MALFORMED, also where they end before the answers do."""
    choices: dict[int, dict[str, Any]] = {}
    usage = None
    lines = [line[5:].strip() for line in text.split("\n") if line.startswith("data:")]
    for event in (json.loads(line) for line in lines if line != "[DONE]"):
        if event.get("error"):
            return dict(event)
        usage = event.get("usage") or usage
        for piece in event.get("choices") or ():
            choice = choices.setdefault(piece.get("index", 0), {"message": {}, "logprobs": {}, "finish_reason": None})
            message = choice["message"]
            for name, more in (piece.get("delta") or piece.get("message") or {}).items():
                if more:
                    message[name] = message[name] + more if name in message else more
            if not any(choice["logprobs"].values()):  # those of the first token
                choice["logprobs"] = piece.get("logprobs") or {}
            choice["finish_reason"] = piece.get("finish_reason") or choice["finish_reason"]
    if "[DONE]" not in lines and not all(choice["finish_reason"] for choice in choices.values()):
        raise ValueError("the events end early")
    return {"choices": list(choices.values()), "usage": usage}


def read_tokens(reply: Any) -> dict[str, int]:
    """Return how many tokens a reply says were used, 0 where what it says is not a number."""
    usage = reply.get("usage")
    numbers = usage if isinstance(usage, dict) else {}
    tokens = {f"{kind} tokens": numbers.get(f"{kind}_tokens") for kind in ("prompt", "completion")}
    return {
        name: int(number) if isinstance(number, (int, float)) and 0 <= number < 1e12 else 0
        for name, number in tokens.items()
    }


def read_error(status: int, reply: Any) -> tuple[int, str]:
    """Return the status that a reply means, and what its error says; (200, "") where it holds none.

    An error that comes with status 200 says what it is in a code, a type or in words. A quota that is used up may come
    as "too many requests", though no waiting mends it.
    """
    if isinstance(reply, list) and len(reply) == 1:
        reply = reply[0]
    error = (reply.get("error") or reply) if isinstance(reply, dict) else reply
    if status == 200 and (not isinstance(reply, dict) or (error is reply and reply.get("object") != "error")):
        return 200, ""
    said = describe(error)
    kind = " ".join(str(error.get(name, "")) for name in ("code", "type", "status")) if isinstance(error, dict) else ""
    meant = meaning(kind)
    if meant == 402 or status != 200:
        return 402 if meant == 402 else status, said
    code = re.search(r"\b[45]\d\d\b", kind)
    return int(code[0]) if code else meant or meaning(said) or 500, said


def meaning(words: str) -> int:
    """Return the status that says the same as these words of an error, 0 if none does."""
    return next((status for status, pattern in MEANINGS if re.search(f"(?i){pattern}", words)), 0)


def describe(error: Any) -> str:
    """Return the text of an error: the parameter that it names, if it does, and its message."""
    if isinstance(error, list):
        return " ".join(map(describe, error))
    if not isinstance(error, dict):
        return str(error)
    told = filter(None, map(error.get, ("param", "loc", "message", "msg", "detail", "code", "type")))
    return " ".join(map(describe, told))


def read_pause(headers: Mapping[str, str]) -> float:
    """Return the seconds that an endpoint asks to wait, also in milliseconds or as a date; 0 if for none."""
    wait = headers.get("Retry-After", "")
    try:
        seconds = float(headers["retry-after-ms"]) / 1000 if "retry-after-ms" in headers else float(wait)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(wait).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):  # TypeError: Python 3.9
            return 0.0
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0
