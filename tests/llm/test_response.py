"""The forms in which endpoints send answers, log-probabilities and errors."""

import json
import math

import pytest

from llm.endpoint import Endpoint
from llm.replies import LiveReplies
from llm.response import Answer, first_token, join_events, read_error, read_json
from teacher import read_records
from tests.llm.server import ANSWER, KEY, PLAN, PROMPT, STATE


def read(letter=False, **choice):
    return Answer.read(choice, letter, lambda text: text)


# --------------------------------------------------------------------------------------------------- text and thoughts


def part(kind, text, field=None):
    return {"type": kind, field or kind: text}


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "Go."}, "Go."),
        ({"content": ["Go", " on."]}, "Go on."),
        ({"content": [part("text", "Go"), part("text", " on.")]}, "Go on."),
        ({"content": [part("output_text", "Go.", "text"), part("image_url", {"url": "x"})]}, "Go."),
        ({"content": {"type": "text", "text": "Go."}}, "Go."),
        ({"content": [part("thinking", "Hm."), part("text", "Go.")]}, "<think>Hm.</think>Go."),
        ({"content": [part("thinking", [part("text", "H"), part("text", "m.")])]}, "<think>Hm.</think>"),
        ({"content": [part("reasoning", "Hm.", "text"), part("text", "Go.")]}, "<think>Hm.</think>Go."),
        ({"content": [part("text", "Go."), part("redacted_thinking", "xyz", "data")]}, "Go."),
        ({"content": "Go.", "reasoning": "Hm."}, "<think>Hm.</think>Go."),
        ({"content": None, "reasoning_content": "Hm."}, "<think>Hm.</think>"),
        ({"content": "", "thinking": "Hm.", "reasoning": None}, "<think>Hm.</think>"),
        ({"content": "Go.", "reasoning": [part("reasoning.text", "Hm.", "text")]}, "<think>Hm.</think>Go."),
        ({"content": "Go.", "reasoning": "Hm.", "reasoning_content": "Hm."}, "<think>Hm.</think>Go."),
        ({"content": "Go.", "reasoning": ""}, "Go."),
        ({"content": None, "refusal": "No."}, "No."),
        ({"content": None}, ""),
    ],
)
def test_texts_are_joined_and_thoughts_stand_apart(message, text):
    assert read(message=message).text == text


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thoughts_in_a_field_of_their_own_are_kept_and_not_followed(serve, tmp_path, field):
    server = serve(answers=("Decision: explore",), message={field: "Decision: open red door"})
    assert LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), PROMPT, "hard")(STATE) == {"explore": 1.0}
    (record,) = read_records(tmp_path / "b")
    assert record["answer"] == "<think>Decision: open red door</think>Decision: explore"


@pytest.mark.parametrize(
    ("reason", "cut"), [("length", True), ("max_tokens", True), ("stop", False), (None, False), (3, False)]
)
def test_an_answer_is_cut_at_the_limit_and_a_letter_never_is(reason, cut):
    assert read(message={"content": "Go"}, finish_reason=reason).cut == cut
    assert not read(letter=True, message={"content": "A"}, finish_reason=reason).cut


# --------------------------------------------------------------------------------------------------- log-probabilities

HALF, QUARTER = math.log(1 / 2), math.log(1 / 4)
PAIRS = [{"token": "A", "logprob": HALF}, {"token": "B", "logprob": QUARTER}]


@pytest.mark.parametrize(
    "logprobs",
    [
        {"content": [{"token": "A", "top_logprobs": PAIRS}, {"token": "x", "top_logprobs": []}]},
        {"content": [{"token": "A", "top_logprobs": {"A": HALF, "B": QUARTER}}]},
        {"content": [{"token": "A", "top_logprobs": [*PAIRS, {"token": "C", "logprob": None}]}]},
        {"content": [{"token": "A", "top_logprobs": [*PAIRS, {"token": "C", "logprob": -math.inf}]}]},
        {"tokens": ["A", "x"], "token_logprobs": [HALF, -1], "top_logprobs": [{"A": HALF, "B": QUARTER}, None]},
        {"tokens": ["A"], "token_logprobs": [None], "top_logprobs": [{"A": HALF, "B": QUARTER, "C": None}]},
        {"tokens": ["A"], "top_logprobs": {"A": HALF, "B": QUARTER, "C": -math.inf}},
        {"content": None, "tokens": ["A"], "top_logprobs": [{"A": HALF, "B": QUARTER}]},
    ],
)
def test_both_shapes_of_log_probabilities(logprobs):
    assert first_token(logprobs) == {"A": round(HALF, 4), "B": round(QUARTER, 4)}


@pytest.mark.parametrize(
    "tops",
    [{"A": math.nan, "B": -1}, {"A": 0.5}, {"A": 700, "B": 1e308}, {"A": 0, "B": 0}, {"A": "x"}, {"A": math.inf},
     {"A": [1]}, [["A", -1]], ["A"], [{"token": "A"}], [], {}, None, 3, {"A": None}],
)  # fmt: skip
def test_nonsense_is_no_log_probabilities(tops):
    for logprobs in ({"content": [{"top_logprobs": tops}]}, {"tokens": ["A"], "top_logprobs": [tops]}):
        assert first_token(logprobs) == {}


@pytest.mark.parametrize("logprobs", [None, [], {}, "x", {"content": []}, {"content": [3]}, {"top_logprobs": None}])
def test_no_log_probabilities(logprobs):
    assert first_token(logprobs) == {}


def test_a_hair_above_0_is_rounding():
    assert first_token({"content": [{"top_logprobs": {"A": 1e-6, "B": -20}}]}) == {"A": 0.0, "B": -20.0}


# ------------------------------------------------------------------------------------------------------------ the body


def reply(**more):
    return json.dumps({"choices": [{"message": {"content": ANSWER}, "finish_reason": "stop"}], **more})


def events(*pieces, end="data: [DONE]\n\n"):
    return "".join(f"data: {json.dumps(piece)}\r\n\r\n" for piece in pieces) + end


def piece(index=0, reason=None, logprobs=None, **delta):
    return {"choices": [{"index": index, "delta": delta, "finish_reason": reason, "logprobs": logprobs}]}


STREAM = events(piece(role="assistant", content=""), piece(content=ANSWER[:9]), piece(content=ANSWER[9:]),
                piece(reason="stop"), {"choices": [], "usage": {"prompt_tokens": 5}})  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["\ufeff" + reply(), "\n \r\n\t" + reply(), reply() + "\n\ndata: [DONE]\n\n", "\ufeff\n" + reply(), STREAM,
     ": wait\n\n" + STREAM, "\n" + STREAM.replace("data: ", "data:"), "event: message\n" + STREAM,
     events(piece(content=ANSWER, reason="stop"), end=""), events(json.loads(reply()))],
)  # fmt: skip
def test_what_stands_around_a_reply_is_no_fault(serve, pauses, text):
    server = serve(first=[text])
    (answer,) = Endpoint(server.url, "m").complete(PROMPT.stages(STATE, 5), 0.7)
    assert answer == (ANSWER, {}, False)
    assert not pauses
    assert server.bodies[0]["stream"] is False


def test_events_of_several_answers_with_thoughts_and_log_probabilities():
    tops = {"content": [{"token": "a", "top_logprobs": {"a": -1}}]}
    later = {"content": [{"token": "b", "top_logprobs": {"b": -1}}]}
    joined = join_events(
        events(piece(1, content="b"), piece(0, reasoning="h", logprobs={"content": []}), piece(0, reasoning="m"),
               piece(0, content="a", logprobs=tops), piece(0, content="c", logprobs=later), piece(1, "length"),
               piece(0, "stop"), {"choices": [], "usage": {"prompt_tokens": 5}})
    )  # fmt: skip
    assert joined["usage"] == {"prompt_tokens": 5}
    assert [Answer.read(choice, False, str)[::2] for choice in joined["choices"]] == [
        ("b", True),
        ("<think>hm</think>ac", False),
    ]
    assert first_token(joined["choices"][1]["logprobs"]) == {"a": -1}


def test_events_that_end_early_or_in_an_error(serve, pauses):
    early = events(piece(content="Decision: exp"), end="")
    fails = events(piece(content="Decision: exp"), {"error": {"code": 503, "message": "gone"}}, end="")
    server = serve(first=[early, fails])
    assert Endpoint(server.url, "m").complete(PROMPT.stages(STATE, 5), 0.7)[0].text == ANSWER
    assert pauses == [1, 2]


def test_a_line_separator_in_an_answer_ends_no_event():
    line = json.dumps(piece(content="a\u2028b\x85c", reason="stop"), ensure_ascii=False)
    assert read_json(f"data: {line}\n\n".encode())["choices"][0]["message"]["content"] == "a\u2028b\x85c"


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("status", "reply", "means"),
    [
        (200, {"choices": []}, (200, "")),
        (200, {"choices": [], "error": None}, (200, "")),
        (200, [1, 2], (200, "")),
        (200, "<html>", (200, "")),
        (200, {"error": {"code": 422, "message": "hm"}}, (422, "hm 422")),
        (200, {"error": "rate limit reached"}, (429, "rate limit reached")),
        (200, {"error": ["a", "b"]}, (500, "a b")),
        (200, {"error": {"code": 20012, "message": "Model does not exist"}}, (404, "Model does not exist 20012")),
        (400, "n is bad", (400, "n is bad")),
        (400, {"message": "n is bad"}, (400, "n is bad")),
        (422, {"detail": [{"loc": ["body", "n"], "msg": "bad", "input": {"x": 1}}]}, (422, "body n bad")),
        (429, {"error": {"message": "check billing", "status": "RESOURCE_EXHAUSTED"}}, (429, "check billing")),
        (429, {"error": {"type": "insufficient_quota"}}, (402, "insufficient_quota")),
        (503, {"error": {"code": 503, "message": "Loading model"}}, (503, "Loading model 503")),
        (500, [{"error": {"message": "x"}}], (500, "x")),
    ],
)
def test_what_a_status_and_an_error_mean(status, reply, means):
    assert read_error(status, reply) == means


def test_a_key_in_an_answer_does_not_reach_the_book(serve, tmp_path):
    server = serve(answers=(f"Reasoning: {KEY}\nDecision: {PLAN}",), letters={"A": -0.1, KEY: -3.0, "B": -4.0})
    for mode in ("hard", "logprobs"):
        assert LiveReplies(tmp_path / mode, Endpoint(server.url, "m", KEY), PROMPT, mode)(STATE)
        book = (tmp_path / mode).read_text()
        assert "***" in book
        assert KEY not in book
