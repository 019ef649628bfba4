"""Training with a live LLM: what is asked, kept and told, also where the endpoint fails."""

import os
from pathlib import Path

import pytest

import train
from harness.cli import InputError
from harness.config import configure, flag
from harness.task import open_task
from llm.query import make_query, reply_book
from teacher import read_records, read_replies
from tests.llm.server import FAULTS, KEY, MODES, PROMPT

pytestmark = pytest.mark.usefixtures("no_pictures")


def run(tmp_path, name, *more):
    """A short run of train.py with a reply book of its own; the rows of its metrics."""
    train.main(["--env", "SimpleDoorKey", "--iterations", "3", "--i1", "1", "--i2", "3", "--num-trajectories", "4",
                "--episodes", "5", "--run-dir", str(tmp_path / name), "--replies", str(tmp_path / "book.jsonl"),
                "--teacher-model", "m", "--teacher-samples", "2", *more])  # fmt: skip
    return (tmp_path / name / "metrics.csv").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("mode", [*MODES, "sampled"])
def test_training_asks_each_state_once_and_hides_the_key(serve, tmp_path, monkeypatch, capfd, mode):
    monkeypatch.setenv("MY_KEY", KEY)
    server = serve()
    flags = ("--teacher-url", server.url, "--teacher-key-env", "MY_KEY", "--teacher-mode", mode)
    first = run(tmp_path, "first", *flags)
    states = read_replies(tmp_path / "book.jsonl")
    needed = {
        "soft": 2 * len(states),
        "sampled": 2 * len(states),
        "hard": len(states),
        "logprobs": sum(len(PROMPT.plans(state)) for state in states),
    }
    assert len(server.bodies) == needed[mode] > 2
    assert run(tmp_path, "second", *flags) == first
    assert run(tmp_path, "recorded", "--teacher-mode", mode) == first  # the book alone
    assert len(server.bodies) == needed[mode]  # nothing was asked again
    assert "LLM: 0 requests" in (shown := "".join(capfd.readouterr()))
    assert KEY not in shown
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


@pytest.mark.slow
def test_the_bill_is_logged(serve, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    server = serve()
    run(tmp_path, "run", "--teacher-url", server.url)
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    last = {name: events.Scalars(name)[-1].value for name in events.Tags()["scalars"] if name.startswith("llm/")}
    assert last["llm/requests"] == last["llm/answers"] == 2 * last["llm/states asked"] <= len(server.bodies)
    assert last["llm/prompt tokens"] == 7 * last["llm/requests"]
    assert {"llm/states found", "llm/unparsable", "llm/seconds waited", "llm/cost"} < set(last)
    assert len(events.Scalars("teacher_entropy")) == 3


@pytest.mark.slow
def test_training_with_faults_ends_as_without_or_in_one_line(serve, tmp_path, capfd):
    good = run(tmp_path, "good", "--teacher-url", serve().url)
    os.rename(tmp_path / "book.jsonl", tmp_path / "good.jsonl")
    server = serve(faults=FAULTS, share=0.5)
    for number in range(20):  # each time goes on where the last one had to stop
        try:
            assert run(tmp_path, f"run{number}", "--teacher-url", server.url) == good
            break
        except SystemExit as stopped:
            assert stopped.code == 2
            assert "--resume" in capfd.readouterr().err.splitlines()[-1]
        assert len(read_records(tmp_path / "book.jsonl")) == server.answered
    assert read_replies(tmp_path / "book.jsonl") == read_replies(tmp_path / "good.jsonl")


def test_a_model_names_its_book():
    task = open_task(configure({"teacher_model": "some/model:1b", "teacher_mode": "logprobs"}))
    assert reply_book(task) == Path(train.__file__).parent / "replies" / "some_model_1b-logprobs.jsonl"
    task = open_task(configure({"teacher_model": "some/model:1b", "teacher_mode": "sampled"}))
    assert reply_book(task).name == "some_model_1b-soft.jsonl"


@pytest.mark.slow
def test_plain_ppo_asks_nobody(serve, tmp_path):
    server = serve()
    run(tmp_path, "run", "--method", "ppo", "--teacher-url", server.url)
    assert not server.bodies
    assert not (tmp_path / "book.jsonl").exists()


@pytest.mark.parametrize("flags", [("--teacher-url", "nonsense"), (), ("--teacher-url", "http://h/v1", "--seed", "x")])
def test_flags_that_do_not_fit(tmp_path, capfd, flags):
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path, "run", *flags)
    assert stopped.value.code == 2
    assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--teacher-mode", "logprobs"), "--teacher-model"),
        (("--teacher-url", "http://127.0.0.1:9/v1"), "--teacher-model"),
        (("--teacher-model", "unheard-of"), "unheard-of-soft.jsonl"),
        (("--teacher-examples", "6"), "from 0 to 5"),
    ],
)
def test_teacher_flags_that_do_not_fit(tmp_path, capfd, flags, says):
    with pytest.raises(SystemExit) as stopped:
        train.main(["--run-dir", str(tmp_path / "run"), *flags])
    (line,) = capfd.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert says in line


def test_the_control_asks_no_llm_and_spreads_evenly_over_the_menu(tmp_path):
    task = open_task(configure({"env": "SimpleDoorKey", "teacher_mode": "uniform"}))
    state = "The agent observes a red key, and holds nothing."
    assert make_query(task)(state) == dict.fromkeys(task.plans(state), 1 / len(task.plans(state)))
    for name, value in (("teacher_url", "http://h/v1"), ("teacher_model", "m"), ("replies", "book")):
        with pytest.raises(InputError, match=f"leave out {flag(name)}"):
            make_query(open_task(configure({"env": "SimpleDoorKey", "teacher_mode": "uniform", name: value})))
