"""Before a run is paid for: a handful of questions to an endpoint, and a report of what it can do and will cost."""

from __future__ import annotations

import difflib
import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.task import Task, open_task
from llm.answers import without_thoughts
from llm.endpoint import Endpoint, LLMError
from llm.judge import summarize, warnings
from llm.query import make_live_replies
from llm.replies import LiveReplies
from teacher import read_records

STATES = 4
SAMPLES = 2  # of each in mode soft, in one request where the endpoint gives several answers to one


def check(given: Any, task: Task) -> None:
    """Query the LLM about a few states and print a report; exit code 1 if a run would suffer.

    The run's own book stays as it is. Raises LLMError where the endpoint gives no answers.
    """
    states = list(task.states())
    with tempfile.TemporaryDirectory() as folder:
        config = replace(task.config, replies=str(Path(folder) / "book.jsonl"), teacher_samples=SAMPLES)
        replies = make_live_replies(open_task(config))
        show_model(replies.endpoint)
        replies.fill(states[:: math.ceil(len(states) / STATES)])
        records = read_records(replies.path)
    show_answers(records)
    show_cost(replies, len(records), states, task.config.teacher_samples)
    show_endpoint(replies)
    found = warnings(records, replies.prompt).values()
    print("\n".join(f"warning        {line}" for line in found) or "a run would work")
    if found:
        raise SystemExit(1)


def show_model(endpoint: Endpoint) -> None:
    """Print whether the endpoint knows the model, where it has a list of its models."""
    known = endpoint.models()
    if known is None:
        listed = "the endpoint has no list of its models"
    elif endpoint.model in known:
        listed = "in the endpoint's list of models"
    else:
        nearest = ", ".join(difflib.get_close_matches(endpoint.model, known, 3, cutoff=0))
        listed = f"not in the endpoint's list of models, where the nearest are: {nearest or 'none'}"
    print(f"endpoint       {endpoint.url}\nmodel          {endpoint.model}, {listed}")


def show_answers(records: Sequence[dict[str, Any]]) -> None:
    """Print the plans that were understood, and how long the thoughts before them are."""
    for state in dict.fromkeys(record["state"] for record in records):
        print(state)
        for plans in (record["plans"] for record in records if record["state"] == state):
            print(f"               {', or '.join(f'{share:.0%} {plan}' for plan, share in plans.items())}")
    print(f"answers        {summarize(records)}")
    answers = [record["answer"] for record in records if isinstance(record["answer"], str)]
    thoughts = [len(answer) - len(without_thoughts(answer)) for answer in answers]
    if answers:
        print(f"thoughts       {sum(thoughts) / len(answers):,.0f} characters an answer")


def show_cost(replies: LiveReplies, answered: int, states: Sequence[str], samples: int) -> None:
    """Print what the answers took, and from that what all states of the task would take.

    answered: how many answers came.  samples: answers a state in mode soft.
    """
    paid, per_state = replies.statistics(), {"soft": samples, "hard": 1}
    several = replies.mode == "soft" and replies.endpoint.gives_several
    asked = len(replies.book) if several else answered
    answers = sum(per_state.get(replies.mode, len(replies.prompt.plans(state))) for state in states)
    requests = len(states) if several else answers
    prompt, completion = paid["prompt tokens"] / asked, paid["completion tokens"] / answered
    seconds = paid["seconds waited"] / asked
    print(f"a request      {prompt:,.0f} prompt tokens, {seconds:.1f} s; an answer {completion:,.0f} tokens")
    prices = replies.endpoint.prices
    cost = (prompt * requests * prices[0] + completion * answers * prices[1]) / 1_000_000
    print(
        f"all states     {len(states):,}: {requests:,} requests, {prompt * requests:,.0f} prompt and "
        f"{completion * answers:,.0f} completion tokens, {seconds * requests / 60:.1f} minutes"
        + (f", cost {cost:.4g}" if any(prices) else "")
    )


def show_endpoint(replies: LiveReplies) -> None:
    """Print how many log-probabilities the endpoint gives, and what it does not accept."""
    endpoint, state = replies.endpoint, next(iter(replies.book))
    messages = replies.prompt.letters(state, 0, replies.examples)
    try:
        (answer,) = endpoint.complete(messages, 1.0, letters=len(replies.prompt.plans(state)))
        letters = f"{len(answer.first_token)} of the first token"
    except LLMError as error:
        letters = f"none: {error}"
    print(f"log-probs      {letters}")
    print(f"not accepted   {'; '.join(endpoint.parameters.notes) or 'nothing'}; a seed is not sent")
