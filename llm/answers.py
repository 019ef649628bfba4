"""Understanding an answer: one generic function for words, one for letters, neither with a task's words in it.

A decision is cut into clauses, and each clause must be the name of an option; a clause that is none makes the whole
answer unparsable, since half a plan teaches nonsense.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from teacher import NO_PLAN, Shares

# Marks around thoughts: <think>, [THINK], ◁think▷, <|START_THINKING|>; and Ollama's.
THOUGHT = r"(?:\w+[:_])?(?:think(?:ing)?|thoughts?|reasoning|reflection|scratchpad|analysis|details)"
THOUGHT_MARK = re.compile(
    rf"(?im)(?P<closed>[<\[◁]\|?(?:/|end_of_|end_){THOUGHT}\s?\|?[>\]▷]|^\.\.\.done thinking\.)"
    rf"|[<\[◁]\|?(?:begin_of_|start_)?{THOUGHT}\b[^<>\[\]◁▷]{{0,99}}[>\]▷]|^Thinking\.\.\.$"
)
# Harmony's channels, of which the last, "final", is the answer; some endpoints leave out the marks.
CHANNELS = re.compile(r"<\|channel\|>|^(?:assistant)?(?:analysis|commentary)(?=\w)")
FINAL_CHANNEL = re.compile(r"<\|channel\|>final.{0,40}?<\|message\|>|assistantfinal")
CHAT_MARK = re.compile(r"<\|[^|>]{1,40}\|>|</?s>|<[be]os>|<(?:start|end)_of_turn>|\[/?INST\]")
NEXT_TURN = re.compile(r"(?i)\n[\W_]{0,9}(?:next )?(?:state|user|human|assistant|instruction|question|q)(?: \d+)?\s?:")
NAME = r"(?:decision|answer|plan|action|décision|decisión|decisão|entscheidung|решение|决定|決定)(?:s|\(s\))?"
# A label stands at the start of a line or sentence, or is a key of a JSON object; alone on its line it needs no colon.
LABEL = re.compile(
    rf"(?im)(?:^|[.!?]|[{{,]\s?[\"'])[\W_]{{0,9}}(?:(?:step )?\d+[\W_]{{1,5}})?(?:(?:my|the) )?(?:final[ _])?{NAME}"
    r"(?:(?: is)?[\"'*_\s\])]{0,9}:|(?: is)[\s$]{1,9}(?=\\boxed)|\s[=→–-]\s)"
    rf"|^[^\w\n/]{{0,9}}(?:final )?{NAME}[^\w\n]{{0,9}}$|<(?:final_)?{NAME}>"
)
# What ends a decision: a blank line that no list goes on behind, a rule, a tag, another label, a sentence about it.
END = re.compile(
    r"(?im)\n\s*\n(?!\s*(?:\W?\d+[.)]|[-*•]\s))|\n\s*(?:```|---|\*\*\*|===)|</\w+>"
    r"|^[\W_]{0,9}(?:\w+ )?(?:state|scene|reason|reasoning|rationale|justification|explanation|note|remark|comment"
    r"|confidence|probability|why|alternative|alternatively|outcome)s?[\"'*_]{0,3}\s?:"
    r"|[.\n]\s*(?:this|the|my) (?:decision|plan|answer|choice|order)\b"
    r"|[\"']\s?[,\]]{0,3}\s?[\"']\w+[\"']\s?:"  # the next key of a JSON object that is cut off
)
SEPARATORS = re.compile(
    r"(?i)(?<!\w)(?:step |option )?\d+[.):]|(?<!\w)[a-h][.)]\s|(?<!\w)i{1,3}[.)]\s|[,;.\n&|+>→⇒➜。、]"
    r"|\b(?:and then|then|and|followed by|after that|afterwards|subsequently)\b"
)
NEGATED_PAIR = re.compile(r"(?i)\b(?:do not|don't|don’t|never)\b[^,;.\n]{0,200}\band\b")
SEQUENCE_WORDS = re.compile(r"^(?:first|second|third|next|final|last)(?:ly)?(?: (?=\w+ )|$)")
ORDINALS = {"1st": "first", "2nd": "second", "3rd": "third", "4th": "fourth"}


def understand(answer: str, vocabulary: Sequence[str], synonyms: Mapping[str, str]) -> str:
    """Return the plan in an answer, option names of the vocabulary separated by commas, or NO_PLAN.

    Read is what follows the last "Decision:" or "Final answer:", up to a blank line, a new label or a chat mark. An
    answer without such a label is read whole, so it must be a plan and nothing else. Case, articles, hyphens,
    underscores, quotes and brackets are ignored; synonyms are applied; "2nd" is "second"; "it" is what the clause
    before names; "do not ..." is no step; "?" and "..." decide nothing.
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
    text = without_thoughts(unicodedata.normalize("NFKC", answer))  # one colon, one comma for all scripts
    turn = next(filter(str.strip, CHAT_MARK.split(text)), "").strip()
    turn = NEXT_TURN.split(turn)[0]
    decision = read_json(turn)
    if decision is None:
        labels = list(LABEL.finditer(turn))
        decision = turn[labels[-1].end() :] if labels else turn
    decision = re.sub(r"\\(?:boxed|text|textbf|mathrm)\b|\\ |<\w+>|[{}$]", " ", decision)
    decision = re.sub(r"\.{3}|\?", " etc ", decision)  # doubt, or the rest of a plan: a clause that is no option
    return END.split(decision.strip())[0]


def without_thoughts(text: str) -> str:
    """Return a text without what stands between marks of thoughts; a mark whose partner is missing goes to the end."""
    if CHANNELS.search(text):
        channels = FINAL_CHANNEL.split(text)
        text = channels[-1] if len(channels) > 1 else ""
    kept, at, thinking = "", 0, False
    for mark in THOUGHT_MARK.finditer(text):
        if mark["closed"]:
            kept = kept if thinking else ""  # else the chat template opened the thought
            at, thinking = mark.end(), False
        elif not thinking:
            kept, thinking = kept + text[at : mark.start()], True
    return kept if thinking else kept + text[at:]


def read_json(text: str) -> str | None:
    """Return the texts behind the first key of a JSON object that is a label, separated by commas; None without one."""
    try:
        found, _ = json.JSONDecoder().raw_decode(text, text.index("{"))
        return next(", ".join(strings(value)) for key, value in found.items() if LABEL.fullmatch(f"{key}:"))
    except (ValueError, RecursionError, StopIteration):
        return None


def strings(value: Any) -> list[str]:
    """Return all texts in a JSON value, at any depth."""
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for part in parts for text in strings(part)]


def words(clause: str, synonyms: Mapping[str, str]) -> str:
    """Return a clause as plain words: lower case, no articles, no punctuation, the task's own words for synonyms."""
    clause = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", clause).lower()
    clause = re.sub(r"^\W*(?:\d+[.):]|option |step \d+:?)", " ", clause)
    tokens = [ORDINALS.get(token, token) for token in re.findall(r"[^\W_]+", clause)]
    text = SEQUENCE_WORDS.sub("", " ".join(token for token in tokens if token not in ("a", "an", "the")))
    text = re.sub(r"^(\w+) (.+) (up|down)$", r"\1 \3 \2", text)
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
