"""What answers for a state text in a run: an LLM with its reply book, or a recorded book alone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Callable

from harness.cli import InputError
from harness.config import flag
from llm.endpoint import OWN_FIELDS, Endpoint
from llm.prompts import Prompt
from llm.replies import LiveReplies, book_name
from teacher import RecordedReplies, Shares, UnknownStateError, mean_shares

Query = Callable[[str], Shares]


def make_query(task: Any) -> Query | None:
    """Return what answers for a state text: an LLM with its reply book, or a book alone; None if the method needs none.

    In mode uniform, the control without an LLM, all plans that make sense in a state have the same share. Raises
    InputError.
    """
    config = task.config
    if config.method not in ("llm4teach", "llm-only"):
        return None
    if config.teacher_mode == "uniform":
        for name in ("teacher_url", "teacher_model", "replies"):
            if getattr(config, name):
                raise InputError(f"--teacher-mode uniform asks no LLM and reads no book; leave out {flag(name)}")
        return lambda state: mean_shares([{plan: 1.0} for plan in task.plans(state)])
    if config.teacher_url:
        return make_live_replies(task)
    book = reply_book(task)
    if not book.exists() and not config.replies and config.unknown_state == "silent":
        return no_replies
    try:
        return RecordedReplies(book)
    except FileNotFoundError:
        raise InputError(
            f"the replies file {book} is not there; record one with python teacher.py record --env {config.env}, name "
            "another with --replies, query an LLM with --teacher-url, or train with --unknown-state silent"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"the replies file cannot be used: {error}; --replies names a reply book such as those in replies/"
        ) from None


def reply_book(task: Any) -> Path:
    """Return where the answers of the configured LLM are; raises InputError if it cannot have any."""
    config = task.config
    if config.replies:
        return Path(config.replies)
    if config.teacher_model:
        return task.reply_folder / book_name(config.teacher_model, asked_mode(config))
    if config.teacher_mode == "logprobs":
        raise InputError(
            "--teacher-mode logprobs needs an LLM whose log-probabilities are known, and those of the task's own "
            "answers are not; name one with --teacher-model, or its book with --replies"
        )
    return task.book


def asked_mode(config: Any) -> str:
    """Return the mode in which an LLM is asked: mode sampled draws from the answers of mode soft."""
    return "soft" if config.teacher_mode == "sampled" else str(config.teacher_mode)


def no_replies(state: str) -> Shares:
    """Raise UnknownStateError: there is no reply book."""
    raise UnknownStateError(f"there is no reply book for {state!r}")


def make_live_replies(task: Any) -> LiveReplies:
    """Return the LLM behind --teacher-url with its reply book; raises InputError."""
    config = task.config
    if not config.teacher_model:
        raise InputError("--teacher-url is given without --teacher-model; name the model that the endpoint serves")
    if not task.rules:
        raise InputError(f"{config.env} has no rules, so no LLM can be asked: say in `rules` what is to be done")
    try:
        endpoint = Endpoint(
            config.teacher_url, config.teacher_model, os.environ.get(config.teacher_key_env, ""),
            config.teacher_max_requests, (config.teacher_prompt_price, config.teacher_completion_price),
            config.teacher_max_tokens, read_body(config.teacher_body),
        )  # fmt: skip
    except ValueError as error:
        raise InputError(f"the LLM cannot be queried: {error}; see --teacher-url and --teacher-key-env") from None
    try:
        return LiveReplies(
            reply_book(task), endpoint, Prompt.of(task), asked_mode(config), config.teacher_samples,
            config.teacher_temperature, config.teacher_examples, config.teacher_workers,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise InputError(
            f"the replies file cannot be used: {error}; --replies names a book for this LLM's answers"
        ) from None


def read_body(text: str) -> dict[str, Any]:
    """Return further fields of a request from JSON, {} for an empty text; raises InputError."""
    try:
        body = json.loads(text or "{}")
        json.dumps(body, allow_nan=False)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise InputError(
            f"--teacher-body is {text[:80]!r}; it must be a JSON object of finite numbers and texts, such as "
            '{"reasoning_effort": "low"}, in single quotes for the shell'
        )
    for name in OWN_FIELDS:
        if name in body:
            raise InputError(f"--teacher-body has a field {name!r}, which is set for each request; leave it out")
    return body
