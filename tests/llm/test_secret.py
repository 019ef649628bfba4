"""A key is hidden in whatever spelling it comes, and honest texts are left as they are."""

import base64
import html
import json
import random
import string
from urllib.parse import quote

import pytest
from helpers import refused

from harness.config import check_settings, configure
from llm.secret import Secret

KEY = "sk-Canary_1+2/3=4567.89"
EIGHT = "pa55w0rd"
LONG = "sk-proj-" + "".join(random.Random(0).choices(string.ascii_letters, k=156))


def escaped(form):
    return lambda key: "".join(form.format(ord(letter)) for letter in key)


def base64_of(text, encode=base64.b64encode):
    return lambda key: encode(text.format(key).encode()).decode()


SPELLINGS = {
    "plain": str,
    "in a header": "Authorization: Bearer {}".format,
    "quoted": repr,
    "other case": str.upper,
    "JSON": escaped("\\u{:04x}"),
    "JSON in JSON": lambda key: json.dumps(json.dumps({"key": key.replace("/", "\\/")})),
    "escapes in JSON in JSON": escaped("\\\\\\\\u{:04X}"),
    "Python": escaped("\\x{:02x}"),
    "URL": lambda key: quote(key, safe=""),
    "URL, every character": escaped("%{:02X}"),
    "URL in URL": lambda key: quote(quote(key, safe=""), safe=""),
    "HTML": html.escape,
    "HTML, decimal": escaped("&#{};"),
    "HTML, hexadecimal": escaped("&#x{:X};"),
    "base64": base64_of("{}"),
    "base64 of a header": base64_of("Bearer {}"),
    "base64 of a user and a password": base64_of("user:{}"),
    "base64 for URLs": base64_of("me:{}", base64.urlsafe_b64encode),
    "first half": lambda key: key[: max(8, len(key) // 2)],
    "second half": lambda key: key[-max(8, len(key) // 2) :],
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(
    "key", [KEY, EIGHT, "sk-proj-" + "".join(random.Random(0).choices(string.ascii_letters, k=156))]
)
def test_a_key_is_hidden(key, spelling):
    echoed = SPELLINGS[spelling](key)
    shown = Secret(key).hide(f"You sent «{echoed}», which is wrong.")
    assert shown.startswith("You sent «")
    assert shown.endswith("», which is wrong.")
    assert "***" in shown
    for frame in ("Authorization: Bearer ", '"{\\"key\\": \\"', "QmVhcmVyIH"):  # what is not of the key
        shown, echoed = shown.replace(frame, ""), echoed.replace(frame, "")
    assert longest_in_common(shown, echoed) < 8


def longest_in_common(one, other):
    return max(k for k in range(len(other) + 1) if any(other[at : at + k] in one for at in range(len(other) - k + 1)))


def test_honest_texts_stay_as_they_are():
    chance = random.Random(1)
    for _ in range(300):
        text = "".join(chance.choices(string.printable + "äß→\u2028\ud800\\\\%&#;", k=200))
        assert Secret(KEY).hide(text) == text
    for text in ("Decision: go to red key", "100 % & more; a\\nb, \\u00e9 %41 &#65;", "\\" * 5000, "&#0" * 999, ""):
        assert Secret(KEY).hide(text) == text


def test_two_keys_in_a_text_are_two():
    assert Secret(KEY).hide(f"{KEY}, {KEY}") == "***, ***"


@pytest.mark.parametrize("key", ["", "explore", "x", "EMPTY"])
def test_a_key_that_may_be_a_word_is_not_hidden(key):
    assert Secret(key).hide(f"Decision: {key}") == f"Decision: {key}"
    assert not Secret(key).parts


@pytest.mark.parametrize("key", ["x y", "a\n", "schlüssel", "a\x00"])
def test_a_key_that_no_header_holds(key):
    with pytest.raises(ValueError, match="set it again") as raised:
        Secret(key)
    assert key not in str(raised.value)


KEY = "sk-9fQ2xK7vB1mT4zR8"


@pytest.mark.parametrize(
    "settings",
    [
        {"teacher_body": f'{{"user": "{KEY}"}}'},
        {"teacher_body": '{"api_key": "another-one-9281"}'},
        {"teacher_body": "{'Authorization': Bearer another-one-9281}"},
        {"teacher_key_env": "sk-another-one-9281"},
        {"teacher_key_env": "hf_another_one_9281", "teacher_url": "http://127.0.0.1:9/v1", "teacher_model": "m"},
        {"teacher_model": KEY},
        {"teacher_model": "m", "teacher_url": f"http://127.0.0.1:9/{KEY}/v1"},
        {"replies": f"{KEY}.jsonl"},
        {"run_dir": f"runs-{KEY}"},
    ],
    ids=str,
)
def test_a_key_among_the_settings_is_refused_and_kept_nowhere(settings, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    arguments = [part for name, value in settings.items() for part in ("--" + name.replace("_", "-"), value)]
    line = refused(capsys, *arguments)
    assert "environment variable" in line
    assert KEY not in line
    assert "9281" not in line
    assert not any(tmp_path.rglob("*"))


def test_a_key_may_stand_in_a_variable_of_any_name(monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    settings = {"teacher_url": "http://127.0.0.1:9/v1", "teacher_model": "m", "teacher_key_env": "MY_KEY"}
    check_settings(configure({**settings, "teacher_body": '{"max_tokens_to_keep": 3, "tokens": {"a": 1}}'}))
    monkeypatch.setenv("MY_KEY", "m")  # what may be a word is no key that could be found
    check_settings(configure(settings))
