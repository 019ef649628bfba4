"""Real servers answer: recording, and a short training.

LLM4TEACH_TEST_SERVERS names them, "URL MODEL" for each, with ";" between them; without it these tests are skipped. A
key is read from OPENAI_API_KEY.
"""

import os
from contextlib import suppress

import pytest

import train
from llm.commands import main
from llm.endpoint import Endpoint, LLMError
from llm.replies import LiveReplies
from teacher import read_records
from tests.llm.server import PROMPT, STATE

SERVERS = [pair.split() for pair in os.environ.get("LLM4TEACH_TEST_SERVERS", "").split(";") if pair.strip()]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SERVERS, reason="LLM4TEACH_TEST_SERVERS names no real server"),
    pytest.mark.parametrize(("url", "model"), SERVERS),
]


def test_the_model_is_listed(url, model):
    names = Endpoint(url, model, os.environ.get("OPENAI_API_KEY", "")).models()
    assert names is None or model in names


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_record(tmp_path, capsys, url, model, mode):
    states = tmp_path / "states.jsonl"
    states.write_text(f'{{"state": "{STATE}"}}\n{{"state": "The agent observes nothing, and holds a red key."}}\n')
    command = ["record", "--env", "SimpleDoorKey", "--states", str(states), "--teacher-url", url, "--teacher-model",
               model, "--teacher-mode", mode, "--teacher-samples", "3", "--replies", str(tmp_path / "b")]  # fmt: skip
    main(command)
    records = read_records(tmp_path / "b")
    assert len(records) == {"soft": 6, "hard": 2}[mode]
    assert all(record["answer"].strip() for record in records)
    main(command)
    assert "requests                     0" in capsys.readouterr().out


def test_check(capsys, url, model):
    with suppress(SystemExit):  # a small model may not do for a run
        main(["check", "--env", "SimpleDoorKey", "--teacher-url", url, "--teacher-model", model])
    said = capsys.readouterr().out
    for row in ("endpoint", "model", "answers", "thoughts", "a request", "all states", "log-probs", "not accepted"):
        assert f"\n{row:15}" in f"\n{said}"


def test_letters_or_a_line_that_there_are_none(tmp_path, url, model):
    endpoint = Endpoint(url, model, os.environ.get("OPENAI_API_KEY", ""))
    try:
        shares = LiveReplies(tmp_path / "b", endpoint, PROMPT, "logprobs")(STATE)
    except LLMError as error:
        assert "choose mode soft" in str(error)
    else:
        assert sum(shares.values()) == pytest.approx(1)


def test_a_short_training(tmp_path, capsys, url, model):
    train.main(["--env", "SimpleDoorKey", "--iterations", "2", "--num-trajectories", "2", "--episodes", "2",
                "--i1", "1", "--i2", "2", "--run-dir", str(tmp_path / "run"), "--replies", str(tmp_path / "b"),
                "--teacher-url", url, "--teacher-model", model, "--teacher-mode", "hard"])  # fmt: skip
    assert read_records(tmp_path / "b")
    assert "LLM: " in capsys.readouterr().out
    assert (tmp_path / "run" / "student.pt").exists()
