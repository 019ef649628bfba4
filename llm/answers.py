"""Understanding an answer: one generic function for words, one for letters, neither with a task's words in it.

A decision is cut into clauses, and each clause must be the name of an option; a clause that is none makes the whole
answer unparsable, since half a plan teaches nonsense.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Callable

import numpy as np

from teacher import NO_PLAN, Shares, mean_shares

# Thoughts, by the marks that models put around them; opened by the chat template, a closing mark stands alone.
THOUGHTS = re.compile(
    r"(?is)^.*[<◁]/(?:\w+:)?(?:think|thinking|thought|reasoning|reflection)[>▷]|^.*\[/think\]"
    r"|^.*<\|channel\|>final<\|message\|>|^analysis.*assistantfinal"
    r"|[<◁](?:\w+:)?(?:think|thinking|thought|reasoning|reflection)[>▷].*$|\[think\].*$|<\|channel\|>analysis.*$"
)
# A label stands at the start of a line or sentence, or is a key of a JSON object; a heading needs no colon.
LABEL = re.compile(
    r"(?im)(?:^|[.!?]|[{,]\s*\")[\W_]*(?:(?:my|the) )?(?:final )?(?:decision|answer|plan)s?(?: is)?[\"'*_\s]*[:：]"
    r"|^#+ *(?:final )?(?:decision|answer|plan)s? *$"
)
CHAT_MARK = re.compile(r"<\|[^|>]*\|>|</?s>|<(?:start|end)_of_turn>|\[/?INST\]")
NEXT_TURN = re.compile(r"(?i)\n\W*(?:state|user|human)(?: \d+)?\s*[:：]")
NEW_LINE = re.compile(r"(?im)\n\s*\n(?!\W*\d[.)])|^[\W_]*(?:state|scene|reasoning|note|explanation)s?\"?\s*[:：]")
SEPARATORS = re.compile(r"(?i)(?<!\w)(?:step |option )?\d+[.):]|[,;.\n&>→，；。、]|\band then\b|\bthen\b|\band\b")
NEGATED_PAIR = re.compile(r"(?i)\b(?:do not|don't|don’t|never)\b[^,;.\n]*\band\b")
SEQUENCE_WORDS = re.compile(r"^(?:first|second|third|next|finally|lastly) (?=\w+ )")
ORDINALS = {"1st": "first", "2nd": "second", "3rd": "third", "4th": "fourth"}


def understand(answer: str, vocabulary: Sequence[str], synonyms: Mapping[str, str]) -> str:
    """Return the plan in an answer, option names of the vocabulary separated by commas, or NO_PLAN.

    Read is what follows the last "Decision:" or "Final answer:", up to a blank line, a new label or a chat mark. An
    answer without such a label is read whole, so it must be a plan and nothing else. Case, articles, hyphens,
    underscores, quotes and brackets are ignored; synonyms are applied; "2nd" is "second"; "it" is what the clause
    before names; "do not ..." is no step.
    """
    decision = find_decision(answer)
    if NEGATED_PAIR.search(decision):  # "do not A and B" may mean either
        return NO_PLAN
    names = {words(name, {}): name for name in vocabulary}
    plan: list[str] = []
    for clause in filter(None, (words(clause, synonyms) for clause in SEPARATORS.split(decision))):
        if re.match(r"(do not|don t|never|not) ", clause):
            continue
        if clause not in names and plan:
            clause = resolve_pronoun(clause, plan[-1], names)
        if clause not in names:
            return NO_PLAN
        plan.append(names[clause])
    return ", ".join(plan) or NO_PLAN


def find_decision(answer: str) -> str:
    """Return the part of an answer that decides, without thoughts, labels and what follows it."""
    text = THOUGHTS.sub("", answer)
    turn = CHAT_MARK.split(text.strip())[0] or text
    labels = list(LABEL.finditer(NEXT_TURN.split(turn)[0]))
    if labels:
        turn = turn[labels[-1].end() :].lstrip()
    turn = re.sub(r"\\(?:boxed|text)|</?answer>|[{}$]", " ", turn)
    return re.split(r"\"\s*[,\]]*\s*\"?\w+\"\s*:", NEW_LINE.split(turn.strip())[0])[0]


def words(clause: str, synonyms: Mapping[str, str]) -> str:
    """Return a clause as plain words: lower case, no articles, no punctuation, the task's own words for synonyms."""
    clause = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", clause).lower()
    clause = re.sub(r"^\W*(?:\d+[.):]|option |step \d+:?)", " ", clause)
    tokens = [ORDINALS.get(token, token) for token in re.findall(r"[^\W_]+", clause)]
    text = SEQUENCE_WORDS.sub("", " ".join(token for token in tokens if token not in ("a", "an", "the")))
    text = re.sub(r"\b(\w+) it (up|down)\b", r"\1 \2 it", text)
    for pattern, replacement in synonyms.items():
        text = re.sub(rf"\b(?:{pattern})\b", replacement, text)
    return text


def resolve_pronoun(clause: str, before: str, names: Mapping[str, str]) -> str:
    """Return a clause with "it" replaced by as many last words of the option before as make it an option's name."""
    last = before.split()
    found = (re.sub(r"\bit\b", " ".join(last[at:]), clause) for at in range(1, len(last)))
    return next((candidate for candidate in found if candidate in names), clause)


def letter_shares(first_token: Mapping[str, float], plans: Sequence[str]) -> tuple[Shares, float]:
    """Return the softmax of the letters' log-probabilities, and the probability of all valid letters together.

    first_token: the likeliest first tokens of an answer -> log-probability.  plans: those behind A, B, ...  Tokens
    that differ in blanks or punctuation are one letter. What an endpoint leaves out for being unlikely counts as
    impossible; without any valid letter all is NO_PLAN.
    """
    mass = [0.0] * len(plans)
    for token, log_probability in first_token.items():
        letter = token.strip(" \n\t▁Ġ.:()*\"'")  # some endpoints show blanks as these two signs
        if len(letter) == 1 and 0 <= ord(letter) - ord("A") < len(plans):
            mass[ord(letter) - ord("A")] += math.exp(log_probability)
    total = sum(mass)
    return {plan: m / total for plan, m in zip(plans, mass) if m > 0} if total > 0 else {NO_PLAN: 1.0}, total


def judge_letters(records: Sequence[dict[str, Any]], rotated_plans: Callable[[str, int], Sequence[str]]) -> str:
    """Return how likely an answer in a book of letters is a valid letter at all, and how near the shares are to chance.

    The latter as the mean of entropy / log(number of plans) over the states that have a choice: 1 is chance.
    """
    mass: list[float] = []
    shares: dict[str, list[Shares]] = {}
    for record in records:
        mass.append(letter_shares(record["answer"], rotated_plans(record["state"], record["sample"]))[1])
        shares.setdefault(record["state"], []).append(record["plans"])
    entropies = [
        -sum(share * math.log(share) for share in mean_shares(answers).values())
        / math.log(len(rotated_plans(state, 0)))
        for state, answers in shares.items()
        if len(rotated_plans(state, 0)) > 1
    ]
    entropy = np.mean(entropies) if entropies else 0.0
    verdict = ", hardly better than chance: a teacher that knows little; try mode soft" if entropy > 0.9 else ""
    return f"valid letters have {np.mean(mass):.0%} of the probability, entropy {entropy:.2f} of chance's{verdict}"
