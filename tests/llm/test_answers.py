"""What answers mean: each kind of thing that LLMs write around, in and instead of a plan; letters worked by hand."""

import math

import pytest

from harness.config import configure
from harness.task import open_task
from llm.answers import letter_shares, understand
from llm.prompts import Prompt
from teacher import NO_PLAN
from tests.llm.server import ANSWER, LETTERS, PLAN, STATE

TASK = open_task(configure({"env": "SimpleDoorKey"}))
PROMPT = Prompt.of(TASK)
ENTER = "go to red door, open red door"


def understood(answer):
    return understand(answer, TASK.vocabulary(STATE), TASK.synonyms)


@pytest.mark.parametrize(
    ("answer", "plan"),
    [
        (ANSWER, PLAN),
        ("Decision: Explore.", "explore"),
        ("**Decision:**\n- Go to the Red Key\n- Grab the red key", PLAN),
        ('decision: "unlock the second blue door" with the blue key', "open second blue door"),
        ("<think>Decision: explore</think>Decision: {drop blue key, walk to red key}", "drop blue key, go to red key"),
        ("I would say Decision: explore. No. Decision: open red door", "open red door"),
        ("go to red key", "go to red key"),
        ("Decision: first approach the red key, then pick it up", PLAN),
        ("Decision: grab the blue key, then put it down", "pick up blue key, drop blue key"),
        ("Decision: do not explore and drop the red key", NO_PLAN),  # drop it, or do not?
        ("Decision: go to the second red door, finally unlock it", "go to second red door, open second red door"),
        ("Reasoning: go to red key, then the red door is", NO_PLAN),  # cut off
        ("<think>go to red key", NO_PLAN),  # cut off
        ("Decision: go to X", NO_PLAN),
        ("Decision: __import__('os').system('true')", NO_PLAN),
        ("", NO_PLAN),
    ],
)
def test_answers_in_general(answer, plan):
    assert understood(answer) == plan


@pytest.mark.parametrize(
    "thoughts",
    [
        "It holds the red key. Decision: drop red key? No, that loses it.</think>\n",  # opened by the chat template
        "<think>a</think><think>Decision: explore</think>\n",
        "<think>\nThe answer goes behind <think> marks.\n</think>\n\n",
        "<THOUGHT>\nDecision: drop red key\n</THOUGHT>\n\n",
        "<reflection>Decision: explore</reflection>",
        "<seed:think>Decision: explore</seed:think>",
        "◁think▷Decision: explore◁/think▷",
        "[THINK]Decision: drop red key[/THINK] ",
        "<|channel|>analysis<|message|>Decision: explore<|end|><|start|>assistant<|channel|>final<|message|>",
        "analysisDecision: explore? No, the door is seen.assistantfinal",
        "assistantanalysisDecision: explore? No. assistantfinal",
        "<|channel|>commentary<|message|>Decision: explore<|end|><|channel|>final <|constrain|>json<|message|>",
        "<|begin_of_thought|>Decision: explore<|end_of_thought|><|begin_of_solution|>",
        "<|START_THINKING|>Decision: explore<|END_THINKING|><|START_RESPONSE|>",
        "<|think|>Decision: explore<|/think|>",
        "<scratchpad>Decision: explore</scratchpad>",
        "<think time=3>one <think>two</think> Decision: explore</think>",
        '<details type="reasoning" done="true">\nDecision: explore\n</details>',
        "Thinking...\nDecision: explore\n...done thinking.\n\n",
    ],
)
@pytest.mark.parametrize("label", ["Decision: ", ""])
def test_thoughts_are_not_followed(thoughts, label):
    assert understood(thoughts + label + ENTER) == ENTER


@pytest.mark.parametrize(
    "answer",
    [
        "Let me see, the agent may explore first, or drop red key, and",
        "<thinking>Decision: explore",
        "[think]Decision: drop red key",
        "<|channel|>analysis<|message|>A Decision: line is wanted, explore for one",
        "analysisDecision: explore",
        "<|START_THINKING|>Decision: explore",
        "<scratchpad>\nexplore",
    ],
)
def test_thoughts_that_were_cut_off_are_no_plan(answer):
    assert understood(answer) == NO_PLAN


@pytest.mark.parametrize(
    "rest",
    [
        "\n\nState: The agent observes nothing.\nScene: nothing.\nDecision: explore",
        "\nState: The agent observes nothing.\nDecision: explore",
        "\n\nState 2: The agent observes nothing.\nDecision: explore",
        "\n\nUser: State: nothing is seen.\nDecision: explore",
        "</s><s>user\nDecision: explore",
        " [/INST] Decision: explore",
        "<end_of_turn>\n<start_of_turn>user\nDecision: explore",
        "<|eot_id|><|start_header_id|>user<|end_header_id|>Decision: explore",
        "<｜end▁of▁sentence｜>",
        "<eos>",
        "\nAssistant: Decision: explore",
        "\n### Instruction:\nDecision: explore",
        "\nNext state: nothing. Decision: explore",
        "\n\n<think>Was that right? Decision: explore</think>",
        "\n<think>Decision: explore",
        ". This decision is based on the scene.",
        "\nThis plan follows from the rules.",
        "\nConfidence: high",
        "\n**Reason:** the key fits.",
        "\n```\nThat is all.",
        "\n***\nI hope this helps!",
        "\nExplanation: the key fits.",
        "\n(Note: the key fits.)",
        "\n\nOnce the door is open, the agent should explore.",
        "\n\nThis decision is final: nothing else is needed.",
    ],
)
def test_a_decision_ends(rest):
    assert understood(f"Scene: a door.\nReasoning: the key fits.\nDecision: {ENTER}{rest}") == ENTER


@pytest.mark.parametrize(
    "answer",
    [
        f"### Decision\n{ENTER}",
        f"## Final Answer:\n{ENTER}",
        f"FINAL DECISION: {ENTER}",
        f"My plan: {ENTER}",
        f"The decision is: {ENTER}",
        f"- **Decisions**: {ENTER}",
        f"Decision：{ENTER.replace(', ', '，')}",
        f"Decision:\n\n{ENTER}",
        f"Scene: a door. Reasoning: the key fits. Decision: {ENTER}.",
        f"Scene: a decision: is due.\nReasoning: the decision depends on the door.\nDecision: {ENTER}",
        f'{{"plan": "{ENTER}", "scene": "explore no more"}}',
        f'{{"reasoning": "no need to explore", "decision": "{ENTER}"}}',
        '```json\n{"scene": "a door",\n "decision": ["go to red door", "open red door"]}\n```',
        f"Answer: \\boxed{{{ENTER}}}",
        "Decision: $\\boxed{\\text{go to red door}, \\text{open red door}}$",
        f"<think>explore?</think><answer>{ENTER}</answer>",
        f"<answer>\n{ENTER}\n</answer>\nexplore later.",
        f"Decision(s): {ENTER}",
        f"DECISION - {ENTER}",
        f"3) **Decision:** {ENTER}",
        f"[Decision]: {ENTER}",
        f"Scene: a door.\n**Final Answer**\n{ENTER}",
        f"Scène : une porte.\nDécision : {ENTER}",
        f"场景：门。\n决定：{ENTER}",
        f"The final answer is $\\boxed{{\\text{{{ENTER}}}}}$.",
        f'{{"final_answer": "{ENTER}", "reasoning": "explore later"}}',
        '{"plan": [{"step": 1, "option": "go to red door"}, {"step": 2, "option": "open red door"}]} Later: explore.',
        '{"decision": ["go to red door", "open red door"], "reasoning": "no need to expl',  # cut off behind it
    ],
)
def test_a_decision_begins_behind_its_label(answer):
    assert understood(answer) == ENTER


@pytest.mark.parametrize(
    ("decision", "plan"),
    [
        ("approach the red door; unlock the red door with the red key", ENTER),
        ("move over to red door -> unlock it", ENTER),
        ("take the red key and then walk to the red door", "pick up red key, go to red door"),
        ("go to the second red door and open it", "go to second red door, open second red door"),
        ("collect the second blue key, then drop it", "pick up second blue key, drop second blue key"),
        ("GO_TO(RED_DOOR), OPEN(RED_DOOR)", ENTER),
        ("goToRedDoor; openRedDoor", ENTER),
        ("go-to red-door, open red-door", ENTER),
        ("open gray door", "open grey door"),
        ("go to the 2nd purple key", "go to second purple key"),
        ("1. Go to red door 2. Open red door.", ENTER),
        ("\n1) go to red door\n\n2) open red door", ENTER),
        ("Step 1: go to red door; Step 2: open red door", ENTER),
        ("Option 1: look around", "explore"),
        ("`go to red door`, *open red door*", ENTER),
        ("“go to red door” & <open red door>!", ENTER),
        ("explore, explore", "explore, explore"),
        ("First, go to red door. Finally, open red door.", ENTER),
        ("a) go to red door b) open red door", ENTER),
        ("go to red door | open red door", ENTER),
        ("go to red door, after that open it", ENTER),
        ("go to red door ⇒ open ｒed door", ENTER),
        ("go to red key, pick the red key up", "go to red key, pick up red key"),
        ("- go to red door\n\n- open red door", ENTER),
    ],
)
def test_wordings_of_a_plan(decision, plan):
    assert understood(f"Decision: {decision}") == plan


@pytest.mark.parametrize(
    "decision",
    [
        "fly to the red door, open the red door",
        "go to red door, unlock the chest",
        "go to door, open door",
        "go to pink door, open pink door",
        "go to third red door",
        "go to red door, open red",
        "if it is locked, go to red door, otherwise explore",
        "go to red door or explore",
        "explore / drop red key",
        "go to red door (or explore), open red door",
        "open it",
        "explore, open it",
        "the agent should explore",
        "explore?",
        "go to red door, ...",
        "go to red door, ???",
        "explore twice",
        "either explore, or go to red door",
        "the options in order, separated by commas.",
        "go to red door (the red key opens it)",
    ],
)
def test_half_a_plan_is_no_plan(decision):
    assert understood(f"Decision: {decision}") == NO_PLAN


@pytest.mark.parametrize(
    ("decision", "plan"),
    [
        (f"never drop the red key; {ENTER}", ENTER),
        (f"don't explore, {ENTER}", ENTER),
        (f"Don’t explore. {ENTER}", ENTER),
        (f"{ENTER}, do not explore", ENTER),
        ("do not explore", NO_PLAN),
        ("cannot open red door", NO_PLAN),
    ],
)
def test_what_not_to_do_is_no_step(decision, plan):
    assert understood(f"Decision: {decision}") == plan


@pytest.mark.parametrize(
    "answer",
    [
        "I cannot choose for you.",
        "As an AI model, I do not explore.",
        "Decision: I would rather not say.",
        "Decision: none",
        "Decision:",
        "   \n",
        "Options such as explore or drop red key come to mind.",
        "The agent should go to the red door, as it has the key, and open it.",
    ],
)
def test_a_refusal_is_no_plan(answer):
    assert understood(answer) == NO_PLAN


@pytest.mark.parametrize(
    "part", ["<think>", "</think>", "do not ", "\n", "_", "Decision", "[{", '{"a":', "go to ", "1. "]
)
def test_a_long_answer_takes_no_longer_than_its_length_allows(part):
    """Each took minutes with a regular expression that goes over the rest of the answer from every place in it."""
    assert understood(part * (200_000 // len(part))) == NO_PLAN


def test_the_words_are_the_tasks_own():
    vocabulary, synonyms = ["Brew Tea", "pour the tea"], {"make": "brew", "serve": "pour"}
    assert understand("Decision: make a tea, serve it.", vocabulary, synonyms) == NO_PLAN  # the articles do not count
    assert understand("Decision: make tea, serve it", ["brew tea", "pour tea"], synonyms) == "brew tea, pour tea"
    assert understand("Plan: brew tea then pour tea", vocabulary, {}) == "Brew Tea, pour the tea"  # as the task has it


# ------------------------------------------------------------------------------------------------------------- letters


@pytest.mark.parametrize(
    ("first_token", "rotation", "shares", "mass"),
    [
        (LETTERS, 0, {"explore": 2 / 7, PLAN: 5 / 7}, 0.875),  # 0.25 : 0.5 + 0.125
        (LETTERS, 1, {PLAN: 2 / 7, "explore": 5 / 7}, 0.875),
        ({"(A)": 0.0, "C": 0.0, "a": 0.0, "AB": 0.0, "": 0.0}, 0, {"explore": 1.0}, 1.0),
        ({"\u2581A": math.log(0.5), "\u0120B.": math.log(0.5)}, 0, {"explore": 0.5, PLAN: 0.5}, 1.0),
        ({"The": -0.1, "C": -3.0}, 0, {NO_PLAN: 1.0}, 0.0),
        ({"A": -5000.0}, 0, {NO_PLAN: 1.0}, 0.0),
        ({}, 0, {NO_PLAN: 1.0}, 0.0),
    ],
)
def test_letter_shares_hand_worked(first_token, rotation, shares, mass):
    found, total = letter_shares(first_token, PROMPT.rotated_plans(STATE, rotation))
    assert found == pytest.approx(shares)
    assert total == pytest.approx(mass)
