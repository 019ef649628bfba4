"""Prompts of a task for an LLM, in words (section 4.1.1) and in letters, made from what the task says about itself."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable

from llm.answers import understand

Messages = list  # of {"role": "user" or "assistant", "content": text}
STAGES = """Answer in three lines:
Scene: a summary of {scene}.
Reasoning: what is needed next.
Decision: the options in order, separated by commas."""
LETTERS = "Answer with the letter of what to do next, nothing else."


@dataclass(frozen=True)
class Prompt:
    """What an LLM is told about a task, and how its answers are matched."""

    rules: str  # the world and the goal
    option_help: str  # the options, and what each does
    scene: str  # what a state text holds
    examples: Sequence[tuple[str, str]]  # state texts and answers, in the stages' format
    plans: Callable[[str], Sequence[str]]  # the menu: the plans that make sense in a state
    vocabulary: Callable[[str], Sequence[str]]  # every option name that an answer may use in a state
    synonyms: Mapping[str, str]  # regular expression over words -> the task's own words

    @classmethod
    def of(cls, task: Any) -> Prompt:
        """Return a task's prompt; `task` has attributes of these names."""
        return cls(**{name: getattr(task, name) for name in cls.__dataclass_fields__})

    def plan(self, answer: str, state: str) -> str:
        """Return the plan in an answer, see llm.answers.understand."""
        return understand(answer, self.vocabulary(state), self.synonyms)

    def rotated_plans(self, state: str, rotation: int = 0) -> list[str]:
        """Return the plans that make sense in a state, in one of as many orders as plans.

        The letters' positions bias small models; over all rotations each plan has had each letter.
        """
        plans = list(self.plans(state))
        return plans[rotation % len(plans) :] + plans[: rotation % len(plans)]

    def stages(self, state: str, examples: int) -> Messages:
        """Return the chain of thought of section 4.1.1: summarise the scene, reason, decide."""
        turns = [(f"State: {example}", answer) for example, answer in self.examples[:examples]]
        return chat(f"{self.rules}\n{self.option_help} {STAGES.format(scene=self.scene)}", turns, f"State: {state}")

    def letters(self, state: str, rotation: int, examples: int) -> Messages:
        """Return the state with its plans behind the letters A, B, ...; to be answered with one token."""

        def question(state: str, rotation: int) -> str:
            plans = self.rotated_plans(state, rotation)
            return "\n".join([f"State: {state}", *(f"{chr(ord('A') + k)}. {plan}" for k, plan in enumerate(plans))])

        turns = []
        for number, (example, answer) in enumerate(self.examples[:examples]):
            first = self.plan(answer, example).split(", ")[0]
            plans = self.rotated_plans(example, number)
            letter = next(k for k, plan in enumerate(plans) if plan.split(", ")[0] == first)
            turns.append((question(example, number), chr(ord("A") + letter)))
        return chat(f"{self.rules}\n{LETTERS}", turns, question(state, rotation))

    def version(self, letters: bool, examples: int) -> str:
        """Return the prompt's name, "stages-5-bc724ef6": kind, number of examples, checksum of its text.

        The text is that for the task's first example; where it changes, the name does.
        """
        state = self.examples[0][0] if self.examples else ""
        messages = self.letters(state, 0, examples) if letters else self.stages(state, examples)
        return f"{'letters' if letters else 'stages'}-{examples}-{zlib.crc32(json.dumps(messages).encode()):08x}"


def chat(rules: str, turns: Sequence[tuple[str, str]], question: str) -> Messages:
    """Return chat messages: the rules before the first question, examples as turns, the question last.

    The rules stand in the first user turn and not in a system message, which some chat templates drop.
    """
    messages = []
    for example, answer in turns:
        messages += [{"role": "user", "content": example}, {"role": "assistant", "content": answer}]
    messages.append({"role": "user", "content": question})
    messages[0]["content"] = f"{rules}\n\n{messages[0]['content']}"
    return messages
