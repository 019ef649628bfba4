"""What an endpoint refuses is told by its message; that parameter alone takes another form, once, with one line."""

import json

import pytest

from llm.endpoint import Endpoint, LLMError
from llm.replies import LiveReplies
from teacher import read_records
from tests.llm.server import ANSWER, PROMPT, STATE

QUESTION = PROMPT.stages(STATE, 5)


def refusal(message, **fields):
    return (400, json.dumps({"error": {"message": message, **fields}}), {})


@pytest.mark.parametrize(
    "message",
    [
        refusal("Unsupported value: 'temperature' does not support 0.7. Only the default (1) value is supported."),
        refusal("This value is not supported with this model", param="temperature", code="unsupported_value"),
        (422, '{"detail": [{"loc": ["body", "temperature"], "msg": "Extra inputs", "input": {"n": 4}}]}', {}),
        (400, "`temperature` is deprecated for this model; n and max_tokens are fine", {}),
        (200, '{"error": {"code": 400, "message": "Temperature: must be 1"}}', {}),
    ],
)
def test_the_parameter_that_is_named_is_the_one_left_out(serve, caplog, message):
    server = serve(first=[message], most=9)
    endpoint = Endpoint(server.url, "m")
    for _ in range(2):
        endpoint.complete(QUESTION, 0.7, 4)
    assert ["temperature" in body for body in server.bodies] == [True, False, False]
    assert all(body["n"] == 4 and body["max_tokens"] == 400 for body in server.bodies)
    (record,) = caplog.records
    assert record.getMessage() == f"{server.url} refuses temperature = 0.7; nothing is sent"
    assert endpoint.parameters.notes == ["refuses temperature = 0.7; nothing is sent"]


@pytest.mark.parametrize(
    ("message", "after"),
    [
        ("'n' : number must be at most 1", {"n": None, "temperature": 0.7, "max_tokens": 400, "stream": False}),
        ("Only one completion choice is allowed", {"n": None, "temperature": 0.7}),
        ("Unrecognized field: stream", {"stream": None, "n": 4, "temperature": 0.7}),
        ("Use 'max_completion_tokens', not 'max_tokens'", {"max_tokens": None, "max_completion_tokens": 400, "n": 4}),
    ],
)
def test_each_parameter_has_another_form(serve, message, after):
    server = serve(first=[refusal(message)], most=9)
    assert len(Endpoint(server.url, "m").complete(QUESTION, 0.7, 4)) == (4 if after["n"] else 1)
    assert {name: server.bodies[1].get(name) for name in after} == after


@pytest.mark.parametrize(
    "message",
    ["This model's context has 2048 tokens", "n'est pas possible", "upstream: nothing \\n to say", "model 'm' is gone"],
)
def test_a_refusal_that_names_nothing_we_sent_ends_at_once(serve, caplog, message):
    server = serve(first=[refusal(message, param="messages")])
    with pytest.raises(LLMError, match=r"refused model 'm': status 400, .*messages .*check url, model and key"):
        Endpoint(server.url, "m").complete(QUESTION, 0.7, 4)
    assert len(server.bodies) == 1
    assert not caplog.records


def test_a_parameter_is_left_out_only_once(serve):
    server = serve(refuses={"n": 1}, words="temperature is not supported", most=9)
    with pytest.raises(LLMError, match="temperature is not supported"):
        Endpoint(server.url, "m").complete(QUESTION, 0.7, 4)
    assert [("temperature" in body, body["n"]) for body in server.bodies] == [(True, 4), (False, 4)]


def test_several_requests_at_a_time_learn_once(serve, tmp_path, caplog):
    server = serve(refuses={"temperature": 0}, words="{name}: only the default", delay=0.02)
    endpoint = Endpoint(server.url, "m")
    endpoint.parameters.refused["n"] = 1
    assert LiveReplies(tmp_path / "b", endpoint, PROMPT, samples=8, workers=4)(STATE)
    assert len([record for record in caplog.records if "refuses" in record.getMessage()]) == 1
    assert len(read_records(tmp_path / "b")) == 8


@pytest.mark.parametrize(
    ("most", "words", "asked"),
    [
        (5, "Invalid value for 'top_logprobs': must be less than or equal to 5.", [20, 5]),
        (11, "Requested sample logprobs of 20, which is greater than max allowed: 11", [20, 11]),
        (8, "top_logprobs must be between 0 and 8", [20, 8]),
        (4, "unsupported: {name}", [20, 5, 3]),
        (3, "{name}: at most 2 are given", [20, 3]),
    ],
)
def test_log_probabilities_down_to_what_the_letters_need(serve, caplog, most, words, asked):
    server = serve(refuses={"top_logprobs": most}, words=words)
    endpoint = Endpoint(server.url, "m")
    for _ in range(2):
        assert endpoint.complete(QUESTION, 1.0, letters=3)[0].first_token
    assert [body["top_logprobs"] for body in server.bodies] == [*asked, asked[-1]]
    assert len(caplog.records) == len(asked) - 1
    assert caplog.records[0].getMessage().endswith(f"refuses top_logprobs = 20; top_logprobs = {asked[1]} is sent")


def test_fewer_than_the_letters_need_are_too_few(serve):
    server = serve(refuses={"top_logprobs": 2}, words="{name}: at most {most}")
    with pytest.raises(LLMError, match="at most 2"):
        Endpoint(server.url, "m").complete(QUESTION, 1.0, letters=3)
    assert [body["top_logprobs"] for body in server.bodies] == [20, 3]
    server.refuses["top_logprobs"] = 3
    endpoint = Endpoint(server.url, "m")
    assert endpoint.complete(QUESTION, 1.0, letters=2)  # a state that has less to choose from
    assert endpoint.complete(QUESTION, 1.0, letters=3)
    with pytest.raises(LLMError, match="at most 3"):
        endpoint.complete(QUESTION, 1.0, letters=4)
    assert [body["top_logprobs"] for body in server.bodies[2:]] == [20, 3, 3, 4]


@pytest.mark.parametrize("letters", [None, {}])
def test_an_endpoint_without_log_probabilities(serve, tmp_path, letters):
    with pytest.raises(LLMError, match=r"gives no log-probabilities.*choose mode soft"):
        LiveReplies(tmp_path / "b", Endpoint(serve(letters=letters).url, "m"), PROMPT, "logprobs")(STATE)


def test_an_endpoint_that_refuses_log_probabilities(serve):
    server = serve(refuses={"logprobs": False}, words="logprobs are not supported with gpt-5 models")
    with pytest.raises(LLMError, match=r"not supported.*choose mode soft"):
        Endpoint(server.url, "m").complete(QUESTION, 1.0, letters=3)
    assert len(server.bodies) == 1


def test_the_letters_of_a_state_are_counted(serve, tmp_path):
    server = serve(refuses={"top_logprobs": 1})
    with pytest.raises(LLMError, match="refused"):
        LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), PROMPT, "logprobs", workers=1)(STATE)
    assert [body["top_logprobs"] for body in server.bodies][:3] == [20, 5, len(PROMPT.plans(STATE))]


def test_what_was_learned_holds_for_the_next_state(serve):
    server = serve(refuses={"temperature": 0, "max_tokens": 0}, words="Unsupported: {name}")
    endpoint = Endpoint(server.url, "m")
    assert endpoint.complete(QUESTION, 0.7)[0].text == ANSWER
    assert endpoint.parameters.notes == [
        "refuses temperature = 0.7; nothing is sent",
        "refuses max_tokens = 400; max_completion_tokens = 400 is sent",
    ]
    endpoint.complete(QUESTION, 0.7)
    assert len(server.bodies) == 4
