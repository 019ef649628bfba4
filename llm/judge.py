"""What the answers in a reply book are worth: how many were understood, and what will make training suffer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from llm.answers import letter_shares
from llm.prompts import Prompt
from teacher import NO_PLAN, Shares, mean_shares

TOO_MANY = 1 / 3  # of the answers, not understood
SUSPICIOUS = 4  # states with one and the same answer


def summarize(records: Sequence[dict[str, Any]]) -> str:
    """Return how many answers were understood, with one of those that were not."""
    lost = [record for record in records if NO_PLAN in record["plans"]]
    share = f"{len(records) - len(lost)} of {len(records)} answers were understood"
    if not lost:
        return share
    answer = str(lost[-1].get("answer", ""))
    shown = answer if len(answer) <= 160 else f"{answer[:60]} ... {answer[-95:]}"
    cut = ", cut off at the token limit" if lost[-1].get("cut") else ""
    return f"{share}; one that was not{cut}: {shown!r}"


def warnings(records: Sequence[dict[str, Any]], prompt: Prompt) -> dict[str, str]:
    """Return what is wrong with answers and what to try, a line for each kind of fault."""
    found = {}
    lost = sum(NO_PLAN in record["plans"] for record in records)
    if records and all(record.get("cut") for record in records):
        found["cut"] = "all answers were cut off at the token limit; allow more with --teacher-max-tokens"
    elif lost > TOO_MANY * len(records):
        found["lost"] = (
            f"training will suffer: {lost / len(records):.0%} of the answers are no plan; try more examples "
            "(--teacher-examples), another model, or more tokens (--teacher-max-tokens)"
        )
    plans = Counter(max(record["plans"], key=record["plans"].__getitem__) for record in records)
    states = {record["state"] for record in records}
    menus = {tuple(prompt.plans(state)) for state in states}
    if len(plans) == 1 and NO_PLAN not in plans and len(states) >= SUSPICIOUS and len(menus) > 1:
        found["alike"] = (
            f"all answers are {next(iter(plans))!r}, in {len(states)} states with different things to do; look at "
            "prompt and answers with python teacher.py ask, or try another model"
        )
    if records and isinstance(records[0].get("answer"), dict):
        mass, chance = judge_letters(records, prompt)
        if mass < 0.5:
            found["letters"] = f"valid letters have only {mass:.0%} of the probability; try mode soft"
        elif chance > 0.9:
            found["letters"] = (
                f"the letters' entropy is {chance:.2f} of chance's, hardly better than chance: a teacher that knows "
                "little; try mode soft"
            )
    return found


def judge_letters(records: Sequence[dict[str, Any]], prompt: Prompt) -> tuple[float, float]:
    """Return how probable valid letters are in a book of letters, and how near the shares are to chance.

    The latter is the mean of entropy / log(number of plans) over the states that have a choice: 1 is chance.
    """
    mass: list[float] = []
    shares: dict[str, list[Shares]] = {}
    for record in records:
        mass.append(letter_shares(record["answer"], prompt.rotated_plans(record["state"], record["sample"]))[1])
        shares.setdefault(record["state"], []).append(record["plans"])
    entropies = [
        -sum(share * math.log(share) for share in mean_shares(answers).values())
        / math.log(len(prompt.plans(state)))
        for state, answers in shares.items()
        if len(prompt.plans(state)) > 1
    ]  # fmt: skip
    return sum(mass) / len(mass), sum(entropies) / len(entropies) if entropies else 0.0
