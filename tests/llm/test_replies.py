"""The reply book of a live LLM under crashes, crowds and faults; the books that are shipped."""

import json
import multiprocessing
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from envs import TASKS
from harness.config import configure
from harness.task import open_task
from llm.endpoint import Endpoint, LLMError
from llm.prompts import Prompt
from llm.replies import LiveReplies, append_line, book_name, read_answer, repair_last_line
from teacher import NO_PLAN, read_records, read_replies
from tests.llm.server import ANSWER, FAULTS, KEY, LETTERS, PLAN, PROMPT, STATE

ROOT = Path(__file__).parents[2]


def test_letters_are_asked_for_in_every_rotation_and_averaged(serve, tmp_path):
    server = serve()
    replies = LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), PROMPT, "logprobs")
    assert replies(STATE) == pytest.approx({"explore": 0.5, PLAN: 0.5})  # (2/7 + 5/7) / 2: a bias and no preference
    assert "hardly better than chance" in replies.summary()
    assert len(server.bodies) == 2
    assert {(b["max_tokens"], b["logprobs"], b["top_logprobs"], b["temperature"]) for b in server.bodies} == {
        (1, True, 20, 1.0)
    }
    assert read_replies(tmp_path / "b")[STATE] == pytest.approx(replies(STATE))
    assert [record["answer"] for record in read_records(tmp_path / "b")] == [
        {token: round(value, 4) for token, value in LETTERS.items()}
    ] * 2
    LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), PROMPT, "logprobs")(STATE)
    assert len(server.bodies) == 2


def test_shares_are_frequencies_and_a_state_is_asked_once(serve, tmp_path):
    server = serve(answers=(ANSWER, ANSWER, "Decision: explore", "Decision: sing"))
    book = tmp_path / "new" / "book.jsonl"
    first = LiveReplies(book, Endpoint(server.url, "m", KEY, prices=(1.0, 10.0)), PROMPT, samples=8, workers=3)
    shares = {PLAN: 0.5, "explore": 0.25, NO_PLAN: 0.25}
    assert first(STATE) == first(STATE) == pytest.approx(shares)
    assert first.counts == {"states asked": 1, "states found": 1, "answers": 8, "unparsable": 2}
    assert first.endpoint.bill == {"requests": 8, "prompt tokens": 7 * 8, "completion tokens": 3 * 8}
    assert first.endpoint.cost == pytest.approx((56 * 1 + 24 * 10) / 1e6)
    assert server.headers == [f"Bearer {KEY}"] * 8
    assert {body["temperature"] for body in server.bodies} == {0.7}
    again = LiveReplies(book, Endpoint(server.url, "m"), PROMPT, samples=8)
    assert again(STATE) == pytest.approx(shares)
    assert again.endpoint.bill["requests"] == 0
    assert read_replies(book)[STATE] == pytest.approx(shares)  # what --replies makes of it
    assert {record["answer"] for record in read_records(book)} >= {ANSWER, "Decision: sing"}
    more = LiveReplies(book, Endpoint(server.url, "m"), PROMPT, samples=10)
    more(STATE)
    assert len(read_records(book)) == 10  # only those that were missing


def test_hard_is_one_answer_at_temperature_0(serve, tmp_path):
    server = serve()
    assert LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), PROMPT, "hard")(STATE)
    assert [body["temperature"] for body in server.bodies] == [0.0]


@pytest.mark.parametrize("change", [{"model": "o"}, {"mode": "hard"}, {"temperature": 1.0}, {"examples": 1}])
def test_a_book_of_another_llm_is_refused(serve, tmp_path, change):
    server, settings = serve(), dict(change)
    LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), PROMPT, samples=2)(STATE)
    endpoint = Endpoint(server.url, settings.pop("model", "m"))
    with pytest.raises(ValueError, match="name another book"):
        LiveReplies(tmp_path / "b", endpoint, PROMPT, **{"samples": 2, **settings})


def test_a_book_of_another_prompt_is_refused(serve, tmp_path):
    server = serve()
    LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), PROMPT, "hard")(STATE)
    (record,) = read_records(tmp_path / "b")
    assert record["prompt"] == PROMPT.version(letters=False, examples=5)
    changed = replace(PROMPT, rules="Guide the agent.")
    with pytest.raises(ValueError, match=r"'prompt': 'stages-5-\w{8}', .* not of .* name another book"):
        LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), changed, "hard")


def ask_in_a_process(url, book, meet):
    meet.wait()
    LiveReplies(book, Endpoint(url, "m"), PROMPT, samples=4, workers=2)(STATE)


@pytest.mark.parametrize("kind", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_who_meet_a_state_at_the_same_moment_ask_once(serve, tmp_path, kind):
    server = serve(delay=0.05)
    if kind == "threads":
        meet: threading.Barrier = threading.Barrier(3)
        crowd = [threading.Thread(target=ask_in_a_process, args=(server.url, tmp_path / "b", meet)) for _ in range(3)]
    else:
        spawn = multiprocessing.get_context("spawn")
        meet = spawn.Barrier(3)
        crowd = [spawn.Process(target=ask_in_a_process, args=(server.url, tmp_path / "b", meet)) for _ in range(3)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()
    assert server.answered == len(read_records(tmp_path / "b")) == 4


LINES = [json.dumps({"state": state, "plans": {"explore": 1.0}}) for state in ("one", "two", "three é")]


def test_a_crash_in_any_byte_of_a_line_costs_that_line_only(tmp_path):
    path = tmp_path / "book"
    whole = f"{LINES[0]}\n{LINES[1]}".encode()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        complete = (cut >= len(LINES[0])) + (cut == len(whole))
        assert len(read_records(path)) == complete
        repair_last_line(path)
        append_line(path, LINES[2])
        assert path.read_text().splitlines() == [*LINES[:complete], LINES[2]]


@pytest.mark.slow
def test_kill_9_of_a_process_that_asks_loses_no_answer(serve, tmp_path):
    server, book = serve(delay=0.01), tmp_path / "b"
    program = (
        "from tests.llm.server import *\nfrom llm.endpoint import Endpoint\nfrom llm.replies import LiveReplies\n"
        f"replies = LiveReplies({str(book)!r}, Endpoint({server.url!r}, 'm'), PROMPT, samples=60)\n"
        f"print('ready', flush=True)\nreplies({STATE!r})"
    )
    moments = random.Random(0)
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE)
        process.stdout.readline()
        goal = server.answered + moments.randrange(1, 15)
        while server.answered < goal and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        before = len(read_records(book))
        assert before >= server.answered - 4 * 4  # at most what was under way, 4 workers in each process
    LiveReplies(book, Endpoint(server.url, "m"), PROMPT, samples=60)(STATE)
    assert len(read_records(book)) == 60
    assert sorted(record["sample"] for record in read_records(book)) == list(range(60))


BOOKS = sorted((ROOT / "replies").rglob("*-*.jsonl"))
PRONOUN = "pick up second red door"  # in the answer with "and open it"


def prompt_of(env):
    return Prompt.of(open_task(configure({"env": env})))


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_shipped_recordings_are_what_is_understood_of_the_raw_answers(path):
    """Plans that were recorded of half an answer, before such answers counted as none, stand as they were used."""
    records = read_records(path)
    for record in records:
        plans = read_answer(record, PROMPT)
        if "smollm2" not in path.name or isinstance(record["answer"], dict) or plans != {NO_PLAN: 1.0}:
            if PRONOUN in record["plans"] and "open it" in record["answer"]:
                assert plans == {"pick up second red door, open second red door": 1.0}
            else:
                assert record["plans"] == pytest.approx(plans)
    assert path.name == book_name(records[0]["model"], path.stem.rsplit("-", 1)[1])
    assert len({(record["model"], record["prompt"], record["temperature"]) for record in records}) == 1


def test_habitats_recording_is_what_is_understood_of_the_raw_answers():
    prompt = prompt_of("habitat-navpick")
    for record in read_records(ROOT / "navpick" / "replies" / "habitat.jsonl"):
        assert record["plans"] == read_answer(record, prompt)


@pytest.mark.parametrize("path", [path for path in BOOKS if path.parent.name == "replies"], ids=lambda path: path.stem)
def test_shipped_recordings_are_complete(path):
    mode = path.stem.rsplit("-", 1)[1]
    replies = LiveReplies(path, Endpoint("http://127.0.0.1:9/v1", read_records(path)[0]["model"]), PROMPT, mode)
    for task in TASKS:
        assert not replies.missing(list(read_replies(ROOT / "replies" / f"{task}.jsonl")))


def test_habitats_recording_is_of_todays_prompt():
    path = ROOT / "navpick" / "replies" / "habitat.jsonl"
    endpoint = Endpoint("http://127.0.0.1:9/v1", read_records(path)[0]["model"])
    replies = LiveReplies(path, endpoint, prompt_of("habitat-navpick"), examples=5)
    assert not replies.missing(list(read_replies(path)))


@pytest.mark.parametrize("mode", ["soft", "logprobs"])
@pytest.mark.parametrize("seed", range(12))
def test_faults_end_in_the_same_shares_or_in_a_clear_error_and_lose_no_answer(serve, tmp_path, seed, mode):
    chance = random.Random(seed)
    server = serve(faults=FAULTS, share=chance.choice((0.2, 0.6, 0.9)), seed=seed, most=chance.choice((1, 3)))
    if mode == "logprobs":  # there an answer needs no text
        server.faults = tuple(fault for fault in FAULTS if fault not in ("null", "empty", "infinite"))
    state = "The agent observes a red key, a blue key, a red door, and holds nothing."
    replies = LiveReplies(tmp_path / "b", Endpoint(server.url, "m", KEY), PROMPT, mode, samples=6, workers=3)
    try:
        replies(state)
    except LLMError as error:
        assert server.url in str(error)
        assert KEY not in str(error)
        assert "\n" not in str(error)
    assert len(read_records(tmp_path / "b")) == server.answered
    assert KEY.encode() not in (tmp_path / "b").read_bytes()
    server.share = 0.0  # it recovers: only what is missing is asked
    needed = 4 if mode == "logprobs" else 6
    assert set(replies(state)) == ({PLAN} if mode == "soft" else {"explore", PLAN, "go to blue key, pick up blue key",
                                                                 "go to red door, open red door"})  # fmt: skip
    assert server.answered == len(read_records(tmp_path / "b")) == needed
