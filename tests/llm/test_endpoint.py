"""What endpoints refuse, break and delay, met by a loopback server that misbehaves on purpose."""

import os
import socket

import pytest

from llm.endpoint import Endpoint, LLMError
from llm.replies import LiveReplies
from teacher import MODES, NO_PLAN, read_records
from tests.llm.server import ANSWER, FAULTS, KEY, PLAN, PROMPT, STATE, Handler


@pytest.mark.parametrize("letters", [None, {}])
def test_an_endpoint_without_log_probabilities(serve, tmp_path, letters):
    with pytest.raises(LLMError, match=r"gives no log-probabilities.*choose mode soft"):
        LiveReplies(tmp_path / "b", Endpoint(serve(letters=letters).url, "m"), PROMPT, "logprobs")(STATE)


def test_an_endpoint_that_shows_five_log_probabilities(serve, tmp_path, caplog):
    server = serve(refuses={"top_logprobs": 5})
    replies = LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), PROMPT, "logprobs", workers=1)
    replies(STATE)
    assert [body["top_logprobs"] for body in server.bodies] == [20, 5, 5]
    assert len(caplog.records) == 1


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
def test_several_answers_to_one_request(serve, tmp_path, caplog, endpoint, requests, notes):
    server = serve(answers=(ANSWER, "Decision: explore"), **endpoint)
    replies = LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), PROMPT)
    assert replies(STATE) == {PLAN: 0.5, "explore": 0.5}
    assert len(server.bodies) == replies.endpoint.bill["requests"] == requests
    assert server.answered == len(read_records(tmp_path / "b")) == 10  # none was thrown away
    assert len(caplog.records) == notes


def test_an_endpoint_with_another_name_for_the_limit(serve, tmp_path, caplog):
    server = serve(refuses={"max_tokens": 0})
    LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), PROMPT, "hard")(STATE)
    assert ["max_completion_tokens" in body for body in server.bodies] == [False, True]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thoughts_in_a_field_of_their_own_are_kept_and_not_followed(serve, tmp_path, field):
    server = serve(answers=("Decision: explore",), message={field: "Decision: open red door"})
    assert LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), PROMPT, "hard")(STATE) == {"explore": 1.0}
    (record,) = read_records(tmp_path / "b")
    assert record["answer"] == "<think>Decision: open red door</think>Decision: explore"


def test_thoughts_get_more_room(serve, tmp_path, caplog):
    server = serve(room=1000)
    assert LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), PROMPT, "hard")(STATE) == {PLAN: 1.0}
    assert [body["max_tokens"] for body in server.bodies] == [400, 1600]
    assert len(caplog.records) == 1
    endless = serve(room=10**6)
    assert LiveReplies(tmp_path / "c", Endpoint(endless.url, "m"), PROMPT, "hard")(STATE) == {NO_PLAN: 1.0}
    assert [body["max_tokens"] for body in endless.bodies] == [400, 1600, 6400]


@pytest.mark.parametrize("fault", [*FAULTS, "drip"])
def test_every_fault_is_retried_and_then_named(serve, tmp_path, fault, monkeypatch):
    server = serve(faults=(fault,), share=1.0)
    endpoint = Endpoint(server.url, "m", KEY)
    if fault == "drip":  # a byte now and then: no time-out of the socket ever comes
        monkeypatch.setattr(Endpoint, "longest_wait", 0.3)
    with pytest.raises(LLMError, match=f"no answer in {1 if fault == 'drip' else 6} attempts") as raised:
        LiveReplies(tmp_path / "b", endpoint, PROMPT, "hard")(STATE)
    assert endpoint.bill["requests"] == len(server.bodies)
    assert KEY not in str(raised.value)


def test_nobody_listens(tmp_path, monkeypatch):
    monkeypatch.setattr(Endpoint, "longest_pause", 0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(LLMError, match="no answer in 6 attempts, at last ConnectionError; is it running"):
        LiveReplies(tmp_path / "b", Endpoint(url, "m"), PROMPT, "hard")(STATE)


def test_a_silent_endpoint_times_out(tmp_path, monkeypatch):
    monkeypatch.setattr(Endpoint, "longest_pause", 0)
    monkeypatch.setattr(Endpoint, "timeout", (0.05, 0.05))
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts and says nothing
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with pytest.raises(LLMError, match="no answer in 6 attempts, at last ReadTimeout"):
            LiveReplies(tmp_path / "b", Endpoint(url, "m"), PROMPT, "hard")(STATE)


@pytest.mark.parametrize("status", ["400", "401", "404"])
def test_what_will_not_pass_is_not_retried(serve, status):
    server = serve(faults=(status,), share=1.0)
    with pytest.raises(LLMError, match=rf"status {status}.*\*\*\*.*check url, model and key"):
        Endpoint(server.url, "m", KEY).complete(PROMPT.stages(STATE, 5), 0.7)
    assert len(server.bodies) == 1


def test_a_long_retry_after_is_not_waited_for(serve, monkeypatch):
    server = serve(faults=("429",), share=1.0)
    monkeypatch.setattr(Endpoint, "longest_wait", 0.5)
    monkeypatch.setattr(Handler, "reply", lambda self, *a, Retry_After, reply=Handler.reply: reply(  # noqa: N803
        self, *a, Retry_After="86400"))  # fmt: skip
    with pytest.raises(LLMError, match="no answer in 1 attempts"):
        Endpoint(server.url, "m").complete(PROMPT.stages(STATE, 5), 0.7)


def test_the_bill_is_bounded(serve, tmp_path):
    server = serve()
    with pytest.raises(LLMError, match="5 requests were made"):
        LiveReplies(tmp_path / "b", Endpoint(server.url, "m", max_requests=5), PROMPT, samples=9)(STATE)
    assert len(read_records(tmp_path / "b")) == len(server.bodies) == 5


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8000/v1", "ftp://h/v1", f"http://me:{KEY}@h/v1", f"http://h/v1?k={KEY}"]
)
def test_a_url_that_cannot_be_used(url):
    with pytest.raises(ValueError, match="must look like http") as raised:
        Endpoint(url, "m")
    assert KEY not in str(raised.value)


def test_a_key_that_cannot_be_sent_is_not_shown():
    with pytest.raises(ValueError, match="set it again") as raised:
        Endpoint("http://h/v1", "m", KEY + "\n")
    assert KEY not in str(raised.value)


@pytest.mark.skipif("LLM4TEACH_TEST_URL" not in os.environ, reason="LLM4TEACH_TEST_URL names no real server to ask")
@pytest.mark.parametrize("mode", MODES)
def test_a_real_server(tmp_path, mode):
    endpoint = Endpoint(os.environ["LLM4TEACH_TEST_URL"], os.environ.get("LLM4TEACH_TEST_MODEL", "default"),
                        os.environ.get("OPENAI_API_KEY", ""))  # fmt: skip
    replies = LiveReplies(tmp_path / "b", endpoint, PROMPT, mode, samples=3)
    assert sum(replies(STATE).values()) == pytest.approx(1)
    assert len(read_records(tmp_path / "b")) == {"soft": 3, "hard": 1, "logprobs": 2}[mode]
    asked = endpoint.bill["requests"]
    assert replies(STATE)
    assert endpoint.bill["requests"] == asked
