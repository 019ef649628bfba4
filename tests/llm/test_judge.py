"""What the user is told of answers: how many were understood, and what will make training suffer."""

import math

import pytest

from llm.judge import judge_letters, summarize, warnings
from llm.replies import read_answer
from teacher import NO_PLAN
from tests.llm.server import PLAN, PROMPT, STATE

DOOR = "The agent observes a red door, and holds a red key."
NOTHING = "The agent observes nothing, and holds nothing."
BOX = "The agent observes nothing, and holds a red key."


def answered(plan, state=STATE, **more):
    return {"state": state, "plans": {plan: 1.0}, "sample": 0, "answer": "Decision: this and that", **more}


def letters(first_token, rotation):
    record = {"state": STATE, "sample": rotation, "answer": first_token}
    return {**record, "plans": read_answer(record, PROMPT)}


BIASED = [letters({"A": math.log(0.8), "B": math.log(0.1)}, rotation) for rotation in (0, 1)]  # always the first
SURE = [letters({"B": 0.0}, 0), letters({"A": 0.0}, 1)]
ELSEWHERE = [letters({"The": math.log(0.9), "A": math.log(0.03), "B": math.log(0.07)}, rotation) for rotation in (0, 1)]


def test_how_many_were_understood():
    assert summarize([answered(PLAN)] * 3) == "3 of 3 answers were understood"
    lost = answered(NO_PLAN, answer="I would \x1b[31mrather not.")
    assert summarize([answered(PLAN), lost]) == (
        "1 of 2 answers were understood; one that was not: 'I would \\x1b[31mrather not.'"
    )
    long = answered(NO_PLAN, answer="Well, " + 1000 * "and " + "that is all.", cut=True)
    said = summarize([long])
    assert "cut off at the token limit: 'Well, and" in said
    assert said.endswith("that is all.'")
    assert len(said) < 300


@pytest.mark.parametrize(
    ("records", "kinds"),
    [
        ([], []),
        ([answered(PLAN)] * 2 + [answered(NO_PLAN)], []),  # a third
        ([answered(PLAN)] * 3 + [answered(NO_PLAN)] * 2, ["lost"]),
        ([answered(NO_PLAN, cut=True)] * 3, ["cut"]),
        ([answered(NO_PLAN, cut=True)] * 3 + [answered(NO_PLAN)], ["lost"]),
        ([answered("explore", state) for state in (STATE, DOOR, NOTHING)], []),
        ([answered("explore", state) for state in (STATE, DOOR, NOTHING, BOX)], ["alike"]),
        ([answered("explore", state) for state in (STATE, DOOR, NOTHING)] + [answered("drop red key", BOX)], []),
        ([answered("explore", f"state {n}") for n in range(9)], []),  # in each there is as much to do
        (BIASED, ["letters"]),
        (ELSEWHERE, ["letters"]),
        (SURE, []),
    ],
)
def test_what_is_wrong_with_answers(records, kinds):
    assert list(warnings(records, PROMPT)) == kinds


def test_letters_hand_worked():
    assert judge_letters(BIASED, PROMPT) == pytest.approx((0.9, 1.0))
    assert judge_letters(SURE, PROMPT) == pytest.approx((1.0, 0.0))
    assert judge_letters(ELSEWHERE, PROMPT) == pytest.approx((0.1, 1.0))
    assert "1.00 of chance's" in warnings(BIASED, PROMPT)["letters"]
    assert "only 10%" in warnings(ELSEWHERE, PROMPT)["letters"]
