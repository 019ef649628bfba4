"""What the settings say of an endpoint reaches it, or ends in one line."""

import pytest

from harness.cli import InputError
from harness.config import configure
from harness.task import open_task
from llm.query import make_live_replies, read_body
from tests.llm.server import KEY, STATE


def replies(tmp_path, url, **settings):
    settings = {"teacher_url": url, "teacher_model": "m", "replies": str(tmp_path / "b"), **settings}
    return make_live_replies(open_task(configure(settings)))


def test_settings_reach_the_endpoint(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    server = serve(room=700)
    live = replies(tmp_path, server.url, teacher_mode="hard", teacher_max_tokens=800, teacher_key_env="MY_KEY",
                   teacher_body='{"chat_template_kwargs": {"enable_thinking": false}, "top_p": 0.9}')  # fmt: skip
    live(STATE)
    assert [body["max_tokens"] for body in server.bodies] == [400, 800]
    assert all(body["chat_template_kwargs"] == {"enable_thinking": False} for body in server.bodies)
    assert server.bodies[0]["top_p"] == 0.9
    assert server.headers == [f"Bearer {KEY}"] * 2


@pytest.mark.parametrize("text", ["", "{}", ' {"a": [1, null, {"b": "ä"}]} '])
def test_further_fields(text):
    assert read_body(text) == ({"a": [1, None, {"b": "ä"}]} if "a" in text else {})


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "7", "null", '"a"', "reasoning_effort=low", "{'a': 1}", '{"a": NaN}', '{"a": [-Infinity]}',
     '{"a": 1e999}', "[" * 100_000, '{"a": ' * 100_000],
)  # fmt: skip
def test_further_fields_that_are_none(text):
    with pytest.raises(InputError, match="it must be a JSON object") as raised:
        read_body(text)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "name", ["model", "messages", "stream", "n", "temperature", "max_tokens", "max_completion_tokens", "logprobs",
             "top_logprobs"]
)  # fmt: skip
def test_further_fields_that_are_ours(name):
    with pytest.raises(InputError, match=f"has a field '{name}'"):
        read_body(f'{{"a": 1, "{name}": 1}}')


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"teacher_url": "http://h/v1?key=x"}, "must look like"), ({"teacher_body": "x"}, "--teacher-body is 'x'")],
)
def test_what_cannot_be_used_ends_in_one_line(tmp_path, settings, says):
    with pytest.raises(InputError, match=says):
        replies(tmp_path, **{"url": settings.pop("teacher_url", "http://h/v1"), **settings})


def test_a_proxy_that_cannot_be_used_ends_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("https_proxy", "nonsense")
    with pytest.raises(InputError, match="the proxy in https_proxy is not a URL"):
        replies(tmp_path, "https://h.test/v1")
