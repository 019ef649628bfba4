"""Several answers, room for thoughts, retries, waiting, the bill and the url, met by a loopback server."""

import json
import socket
import time
from email.utils import formatdate

import pytest

from llm.endpoint import Endpoint, LLMError
from llm.replies import LiveReplies
from teacher import NO_PLAN, read_records
from tests.llm.server import ANSWER, FAULTS, KEY, PLAN, PROMPT, STATE

QUESTION = PROMPT.stages(STATE, 5)


def said(server, key="", **how):
    """What an LLMError says where a server is asked for one answer."""
    with pytest.raises(LLMError) as raised:
        Endpoint(server.url, "m", key, **how).complete(QUESTION, 0.7)
    return str(raised.value)


# ------------------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("endpoint", "requests", "notes"),
    [
        ({"most": 10}, 1, 0),
        ({"most": 6}, 2, 0),
        ({"most": 1}, 10, 1),
        ({"refuses": {"n": 1}}, 11, 1),
    ],
    ids=["gives all", "gives six", "gives one", "refuses"],
)
def test_several_answers_to_one_request(serve, tmp_path, endpoint, requests, notes):
    server = serve(answers=(ANSWER, "Decision: explore"), **endpoint)
    replies = LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), PROMPT)
    assert replies(STATE) == {PLAN: 0.5, "explore": 0.5}
    assert len(server.bodies) == replies.endpoint.bill["requests"] == requests
    assert server.answered == len(read_records(tmp_path / "b")) == 10  # none was thrown away
    assert len(replies.endpoint.parameters.notes) == notes


def test_thoughts_get_more_room(serve, tmp_path, caplog):
    server = serve(room=1000)
    assert LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), PROMPT, "hard")(STATE) == {PLAN: 1.0}
    assert [body["max_tokens"] for body in server.bodies] == [400, 1600]
    assert len(caplog.records) == 1
    endless = serve(room=10**6)
    assert LiveReplies(tmp_path / "c", Endpoint(endless.url, "m"), PROMPT, "hard")(STATE) == {NO_PLAN: 1.0}
    assert [body["max_tokens"] for body in endless.bodies] == [400, 1600, 6400]


def test_the_ceiling_is_a_setting(serve):
    server = serve(room=10**6)
    for most, rooms in ((2000, [400, 1600, 2000]), (90, [90])):
        server.bodies.clear()
        (answer,) = Endpoint(server.url, "m", max_tokens=most).complete(QUESTION, 0.7)
        assert answer.cut
        assert answer.text == "<think>Well, "
        assert [body["max_tokens"] for body in server.bodies] == rooms


def test_more_room_that_is_refused_is_not_asked_for_again(serve, caplog):
    server = serve(room=10**6, refuses={"max_tokens": 2000}, words="max_tokens is too large for 4096 tokens of context")
    endpoint = Endpoint(server.url, "m")
    for _ in range(2):
        assert endpoint.complete(QUESTION, 0.7)[0].cut
    assert [body["max_tokens"] for body in server.bodies] == [400, 1600, 6400, 1600, 1600]
    assert len(caplog.records) == len(endpoint.parameters.notes) == 3  # twice more, and then no more


def choice(content, reason="stop", **more):
    return {"message": {"content": content, **more}, "finish_reason": reason}


def test_of_several_answers_those_that_are_whole_are_kept(serve):
    mixed = json.dumps({"choices": [choice(ANSWER), choice("Scene: a", "length"), choice("", "length")]})
    server = serve(first=[mixed], most=9)
    endpoint = Endpoint(server.url, "m")
    assert [answer.text for answer in endpoint.complete(QUESTION, 0.7, 3)] == [ANSWER]
    assert [answer.text for answer in endpoint.complete(QUESTION, 0.7, 2)] == [ANSWER, ANSWER]
    assert [body["max_tokens"] for body in server.bodies] == [400, 1600]


def test_hidden_thoughts_that_are_cut_off_leave_an_empty_answer(serve):
    empty = json.dumps({"choices": [choice("", "length")]})
    thinks = json.dumps({"choices": [choice(None, "length", reasoning="First, ")]})
    server = serve(first=[empty, thinks])
    answers = Endpoint(server.url, "m", max_tokens=1600).complete(QUESTION, 0.7)
    assert [(answer.text, answer.cut) for answer in answers] == [("<think>First, </think>", True)]


def test_one_choice_that_cannot_be_read_costs_that_one(serve):
    server = serve(first=[json.dumps({"choices": [7, choice(ANSWER), {"message": None}, choice(None)]})])
    assert [answer.text for answer in Endpoint(server.url, "m").complete(QUESTION, 0.7, 4)] == [ANSWER]


@pytest.mark.parametrize("usage", [None, [3], "7.0", {"prompt_tokens": "7"}, {"prompt_tokens": float("nan")},
                                   {"prompt_tokens": float("inf"), "completion_tokens": -4}])  # fmt: skip
def test_a_bill_that_is_none_costs_no_answer(serve, usage):
    server = serve(first=[json.dumps({"choices": [choice(ANSWER)], "usage": usage})])
    endpoint = Endpoint(server.url, "m")
    assert endpoint.complete(QUESTION, 0.7)[0].text == ANSWER
    assert endpoint.bill == {"requests": 1, "prompt tokens": 0, "completion tokens": 0}


def test_the_models_that_an_endpoint_lists(serve):
    for models, names in (
        ('{"object": "list", "data": [{"id": "tiny"}, {"id": "huge"}]}', ["tiny", "huge"]),
        ('{"models": [{"name": "tiny"}]}', ["tiny"]),
        (f'[{{"id": "{KEY}"}}]', ["***"]),
        ("<html>", None),
        ("{}", None),
        (None, None),
    ):
        server = serve(models=models)
        assert Endpoint(server.url, "m", KEY).models() == names
        assert server.paths[-1] == "/v1/models"


# ------------------------------------------------------------------------------------------------- retries and waiting


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in ("429", "503")])
def test_every_fault_is_retried_and_then_named(serve, tmp_path, pauses, fault):
    server = serve(faults=(fault,), share=1.0)
    endpoint = Endpoint(server.url, "m", KEY)
    with pytest.raises(LLMError, match="no answer in 6 attempts") as raised:
        LiveReplies(tmp_path / "b", endpoint, PROMPT, "hard")(STATE)
    assert endpoint.bill["requests"] == len(server.bodies) == 6
    assert pauses == [1, 2, 4, 8, 16]
    assert KEY not in str(raised.value)


@pytest.mark.parametrize("status", [429, 503])
def test_an_endpoint_that_says_later_is_waited_for(serve, pauses, caplog, status):
    server = serve(first=[(status, '{"error": {"message": "Loading model"}}', {})] * 11)
    assert Endpoint(server.url, "m").complete(QUESTION, 0.7)[0].text == ANSWER
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30]
    assert f"status {status}, 'Loading model'; trying again in 1 s" in caplog.text
    assert len(caplog.records) == 6  # the same line is not said twice in a row
    pauses.clear()
    busy = serve(faults=(str(status),), share=1.0)
    assert f"at last status {status}" in said(busy)
    assert 270 < sum(pauses) < Endpoint.longest_wait


@pytest.mark.parametrize("status", [408, 409, 425, 500, 502, 529])
def test_what_may_pass_is_tried_again(serve, pauses, status):
    server = serve(first=[(status, "", {})])
    assert Endpoint(server.url, "m").complete(QUESTION, 0.7)[0].text == ANSWER
    assert pauses == [1]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "45.5"}, 45.5),
        ({"Retry_After": "2"}, 2),
        ({"retry_after_ms": "1500", "Retry_After": "77"}, 1.5),
        ({"Retry_After": "soon"}, 1),
        ({"Retry_After": "nan"}, 1),
        ({"Retry_After": "-7"}, 1),
        ({"Retry_After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 1),
    ],
)
def test_as_long_as_the_endpoint_asks(serve, pauses, caplog, headers, seconds):
    server = serve(first=[(429, "slow down", headers)])
    Endpoint(server.url, "m").complete(QUESTION, 0.7)
    assert pauses == [seconds]
    assert f"'slow down'; trying again in {seconds:g} s" in caplog.text


def test_until_the_date_that_the_endpoint_names(serve, pauses):
    server = serve(first=[(503, "", {"Retry_After": formatdate(time.time() + 100, usegmt=True)})])
    Endpoint(server.url, "m").complete(QUESTION, 0.7)
    assert pauses == [pytest.approx(95, abs=5)]


def test_a_long_retry_after_is_not_waited_for(serve, pauses):
    server = serve(first=[(429, "slow down", {"Retry_After": "301"})])
    assert "no answer in 1 attempts, at last status 429, 'slow down'" in said(server)
    assert not pauses


def test_nobody_listens(pauses):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(LLMError, match="no answer in 6 attempts, at last ConnectionError; is it running"):
        Endpoint(url, "m").complete(QUESTION, 0.7)


def test_who_gives_up_does_not_wait(serve):
    server = serve(faults=("503",), share=1.0)
    endpoint = Endpoint(server.url, "m")
    endpoint.stopped.set()
    with pytest.raises(LLMError, match="no answer in 1 attempts"):
        endpoint.complete(QUESTION, 0.7)


def test_one_request_that_fails_ends_the_pauses_of_the_others(tmp_path, serve, pauses):
    server = serve(first=[(401, "", {})], faults=("503",), share=1.0, delay=0.01)
    endpoint = Endpoint(server.url, "m")
    endpoint.parameters.refused["n"] = 1
    with pytest.raises(LLMError):
        LiveReplies(tmp_path / "b", endpoint, PROMPT, workers=2)(STATE)
    assert len(pauses) < 10  # to the end there are 16


# --------------------------------------------------------------------------------------------------- permanent errors


def error(**fields):
    return json.dumps({"error": fields})


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_will_not_pass_is_not_retried(serve, status):
    server = serve(faults=(str(status),), share=1.0)
    line = said(server, KEY)
    assert f"status {status}, 'you sent Bearer ***'" in line
    assert "check url, model and key" in line
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("first", "status"),
    [
        ((402, error(message="Add credits")), 402),
        ((429, error(message="You ran out", code="insufficient_quota")), 402),
        ((429, error(message="You ran out", type="insufficient_quota", code=None)), 402),
        ((200, error(message="Add credits", code=402)), 402),
        ((200, error(message="no such one", code="model_not_found", type="invalid_request_error")), 404),
        ((200, error(message="who are you?", code="invalid_api_key", type="invalid_request_error")), 401),
        ((200, error(message="who are you?", code="403")), 403),
        ((200, '{"object": "error", "message": "too long", "code": 400}'), 400),
        ((200, '[{"error": {"message": "too long", "code": 400}}]'), 400),
        ((200, '{"error": "model \'m\' not found"}'), 404),
    ],
)
def test_what_no_waiting_mends_ends_at_once(serve, first, status):
    server = serve(first=[(*first, {})])
    line = said(server)
    assert f"status {status}, " in line
    assert ("pay, or choose" in line) == (status == 402)
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    "first",
    [error(code=429), error(code="502"), error(code="rate_limit_exceeded"), error(message="overloaded"),
     error(type="server_error"), '{"error": "hm"}', '{"choices": [], "error": {"code": 503}}'],
)  # fmt: skip
def test_an_error_with_status_200_that_may_pass_is_waited_for(serve, pauses, first):
    server = serve(first=[first])
    assert Endpoint(server.url, "m").complete(QUESTION, 0.7)[0].text == ANSWER
    assert pauses == [1]


@pytest.mark.parametrize(
    "first",
    [(404, "Not Found"), (405, ""), (200, "<!doctype html>"), (200, '{"error": "Unexpected endpoint or method."}')],
)
def test_a_url_without_v1_is_told(serve, first):
    server = serve(first=[(*first, {})])
    with pytest.raises(LLMError, match=rf"most urls end with /v1; try {server.url}$"):
        Endpoint(server.url[: -len("/v1")], "m").complete(QUESTION, 0.7)
    assert server.paths == ["/chat/completions"]


# ------------------------------------------------------------------------------------------------------ bill, url, key


def test_the_bill_is_bounded(serve, tmp_path):
    server = serve()
    with pytest.raises(LLMError, match="5 requests were made"):
        LiveReplies(tmp_path / "b", Endpoint(server.url, "m", max_requests=5), PROMPT, samples=9)(STATE)
    assert len(read_records(tmp_path / "b")) == len(server.bodies) == 5


def test_a_url_with_a_version_sends_the_key_as_azure_wants_it(serve):
    server = serve()
    Endpoint(f"{server.url}/?api-version=2024-10-21", "m", KEY).complete(QUESTION, 0.7)
    Endpoint(server.url, "m", KEY).complete(QUESTION, 0.7)
    assert server.paths == ["/v1/chat/completions?api-version=2024-10-21", "/v1/chat/completions"]
    assert server.headers == [f"Bearer {KEY}"] * 2
    assert server.api_keys == [KEY, None]


def test_further_fields_are_sent(serve):
    server = serve()
    Endpoint(server.url, "m", body={"reasoning_effort": "low", "provider": {"order": ["x"]}}).complete(QUESTION, 0.7)
    (body,) = server.bodies
    assert (body["reasoning_effort"], body["provider"]) == ("low", {"order": ["x"]})
    assert body["stream"] is False


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8000/v1", "ftp://h/v1", f"http://me:{KEY}@h/v1", f"http://h/v1?k={KEY}", "http://h:x/v1",
     f"http://h/v1?api-version=1&key={KEY}", "http://[::1/v1", "http://h:99999/v1", "http://.h/v1", "http:///v1"],
)  # fmt: skip
def test_a_url_that_cannot_be_used(url):
    with pytest.raises(ValueError, match="must look like http") as raised:
        Endpoint(url, "m")
    assert KEY not in str(raised.value)


def test_a_key_that_cannot_be_sent_is_not_shown():
    with pytest.raises(ValueError, match="set it again") as raised:
        Endpoint("http://h/v1", "m", KEY + "\n")
    assert KEY not in str(raised.value)


def test_a_key_as_short_as_a_word_is_not_hidden_and_that_is_said(serve, caplog):
    server = serve(answers=("Decision: explore",))
    assert Endpoint(server.url, "m", "explore").complete(QUESTION, 0.7)[0].text == "Decision: explore"
    assert [record.getMessage() for record in caplog.records] == [
        f"the key has fewer than 8 characters, as a word may: it is not hidden where {server.url} echoes it"
    ]
