"""The live LLM behind a loopback server that misbehaves on purpose, and the reply book under crashes and crowds."""

import json
import math
import multiprocessing
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import teacher as teachers
import train
from teacher import (
    EXAMPLES,
    NO_PLAN,
    Endpoint,
    LiveReplies,
    LLMError,
    append_line,
    book_path,
    choices,
    judge_letters,
    letter_shares,
    letters_prompt,
    mend,
    parse_plan,
    read_answer,
    read_records,
    read_replies,
    rename_colors,
    stages_prompt,
)

ROOT = teachers.REPLIES.parent
KEY = "sk-canary-1234567890"
STATE = "The agent observes a red key, and holds nothing."
PLAN = "go to red key, pick up red key"
ANSWER = f"Scene: a key.\nReasoning: it is needed.\nDecision: {PLAN}"
LETTERS = {"A": math.log(0.25), "B": math.log(0.5), " B": math.log(0.125), "The": math.log(0.125)}
FAULTS = ("429", "500", "503", "half", "html", "no choices", "null", "empty", "huge", "deep", "infinite", "hang up")


class Server(ThreadingHTTPServer):
    """An endpoint that draws each reply from `faults` and `answers` with its own generator.

    most: answers to one request.  refuses: a parameter, or (parameter, most), that is answered with 400.  letters:
    the top_logprobs of a first token.  message: what else stands in an answer's message.  room: tokens below which an
    answer is cut off.  delay: seconds before a reply.
    """

    daemon_threads = True

    def __init__(self, answers=(ANSWER,), faults=(), share=0.0, seed=0, most=1, refuses=(), letters=LETTERS,
                 message=None, room=0, delay=0.0):  # fmt: skip
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.faults, self.share, self.random = answers, faults, share, random.Random(seed)
        self.most, self.refuses, self.letters, self.message = most, dict(refuses), letters, message or {}
        self.room, self.delay = room, delay
        self.lock, self.bodies, self.headers, self.answered = threading.Lock(), [], [], 0
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request, client_address):
        """A client that hangs up on ten megabytes is what the test wants."""

    def choice(self, body):
        """One answer; the lock is held."""
        text = self.answers[self.answered % len(self.answers)]
        self.answered += 1
        if body.get("logprobs"):
            tops = self.letters and [{"token": t, "logprob": p, "bytes": None} for t, p in self.letters.items()]
            tops = tops and tops[: body["top_logprobs"]]
            logprobs = {"content": [{"token": "A", "logprob": -1, "top_logprobs": tops}]}
            return {"message": {"content": "A"}, "finish_reason": "length", "logprobs": self.letters and logprobs}
        if body.get("max_tokens", 10**9) < self.room:
            return {"message": {"content": "<think>Well, "}, "finish_reason": "length"}
        return {"message": {"content": text, **self.message}, "finish_reason": "stop"}


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def reply(self, status, text, length=None, **headers):
        content = text.encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length or len(content))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(server.delay)
        with server.lock:
            server.bodies.append(body)
            server.headers.append(self.headers["Authorization"])
            fault = server.random.choice(server.faults) if server.random.random() < server.share else ""
            refused = [name for name, most in server.refuses.items() if body.get(name, 0) > most]
            count = 0 if fault or refused else min(body.get("n", 1), server.most)
            good = json.dumps({"choices": [server.choice(body) for _ in range(count)],
                               "usage": {"prompt_tokens": 7, "completion_tokens": 3 * count}})  # fmt: skip
        if refused:
            instead = {"max_tokens": "Use 'max_completion_tokens' instead."}.get(refused[0], "")
            self.reply(400, f"Unsupported parameter: {refused[0]!r}. {instead}")
        elif fault == "429":
            self.reply(429, "slow down", Retry_After="0")
        elif fault.isdecimal():
            self.reply(int(fault), f"you sent {self.headers['Authorization']}")
        elif fault == "half":
            self.reply(200, '{"choices": [{"mess', length=500)
        elif fault == "hang up":
            self.connection.close()
        elif fault == "drip":
            self.reply(200, "", length=500)
            for _ in range(500):
                self.wfile.write(b" ")
                time.sleep(0.02)
        else:
            texts = {
                "html": "<html>502</html>",
                "no choices": '{"choices": []}',
                "null": '{"choices": [{"message": {"content": null}}]}',
                "empty": '{"choices": [{"message": {"content": ""}}]}',
                "deep": "[" * 500_000,
                "infinite": '{"usage": {"prompt_tokens": Infinity}, "choices": [{"message": {"content": "explore"}}]}',
                "huge": "x" * 10_000_000,
            }
            self.reply(200, texts.get(fault, good))


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setattr(Endpoint, "longest_pause", 0)
    servers = []

    def start(**how):
        servers.append(Server(**how))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("answer", "plan"),
    [
        (ANSWER, "go to red key, pick up red key"),
        ("Decision: Explore.", "explore"),
        ("**Decision:**\n- Go to the Red Key\n- Grab the red key", "go to red key, pick up red key"),
        ('decision: "unlock the second blue door" with the blue key', "open second blue door"),
        ("<think>Decision: explore</think>Decision: {drop blue key, walk to red key}", "drop blue key, go to red key"),
        ("I would say Decision: explore. No. Decision: open red door", "open red door"),
        ("go to red key", "go to red key"),
        ("Reasoning: go to red key, then the red door is", NO_PLAN),  # cut off
        ("<think>go to red key", NO_PLAN),  # cut off
        ("Decision: go to X", NO_PLAN),
        ("Decision: __import__('os').system('true')", NO_PLAN),
        ("", NO_PLAN),
    ],
)
def test_parse_plan(answer, plan):
    assert parse_plan(answer) == plan


def test_prompts_end_with_the_state_and_examples_follow_their_own_format():
    for messages in (stages_prompt(STATE, len(EXAMPLES)), letters_prompt(STATE, 0, len(EXAMPLES))):
        assert [m["role"] for m in messages] == ["user", "assistant"] * len(EXAMPLES) + ["user"]
        assert messages[-1]["content"].startswith(f"State: {STATE}")
    for state, answer in EXAMPLES:
        assert parse_plan(answer) != NO_PLAN
        assert rename_colors(state)[0] != state  # no example is a state that could be asked
    (alone,) = stages_prompt(STATE, 0)
    assert alone["content"].startswith(teachers.RULES)
    assert alone["content"].endswith(f"State: {STATE}")


# ------------------------------------------------------------------------------------------------------------- letters


@pytest.mark.parametrize(
    ("state", "plans"),
    [
        ("The agent observes nothing, and holds nothing.", ["explore"]),
        (STATE, ["explore", PLAN]),
        ("The agent observes a red door, a second red door, and holds a red key.",
         ["explore", "drop red key", "go to red door, open red door", "go to second red door, open second red door"]),
        ("The agent observes a red key, a blue door, and holds a blue key.",
         ["explore", "drop blue key", PLAN, "go to blue door, open blue door"]),
    ],
)  # fmt: skip
def test_choices_and_their_rotations(state, plans):
    assert choices(state) == plans
    rotations = [choices(state, rotation) for rotation in range(len(plans))]
    assert all(sorted(letter) == sorted(plans) for letter in zip(*rotations))  # each plan has had each letter
    assert choices(state, len(plans)) == plans


def test_examples_of_the_letters_prompt_hand_worked():
    messages = letters_prompt(STATE, 1, len(EXAMPLES))
    # The right choices are number 1 of 4, 2 of 3, 1 of 4, 1 of 2, 0 of 2, where example n has its list turned by n.
    assert [m["content"] for m in messages if m["role"] == "assistant"] == ["B", "B", "D", "A", "A"]
    assert messages[-1]["content"] == f"State: {STATE}\nA. {PLAN}\nB. explore"


@pytest.mark.parametrize(
    ("first_token", "rotation", "shares", "mass"),
    [
        (LETTERS, 0, {"explore": 2 / 7, PLAN: 5 / 7}, 0.875),  # 0.25 : 0.5 + 0.125
        (LETTERS, 1, {PLAN: 2 / 7, "explore": 5 / 7}, 0.875),
        ({"(A)": 0.0, "C": 0.0, "a": 0.0, "AB": 0.0, "": 0.0}, 0, {"explore": 1.0}, 1.0),
        ({"\u2581A": math.log(0.5), "\u0120B.": math.log(0.5)}, 0, {"explore": 0.5, PLAN: 0.5}, 1.0),
        ({"The": -0.1, "C": -3.0}, 0, {NO_PLAN: 1.0}, 0.0),
        ({"A": -5000.0}, 0, {NO_PLAN: 1.0}, 0.0),
        ({}, 0, {NO_PLAN: 1.0}, 0.0),
    ],
)
def test_letter_shares_hand_worked(first_token, rotation, shares, mass):
    found, total = letter_shares(first_token, STATE, rotation)
    assert found == pytest.approx(shares)
    assert total == pytest.approx(mass)


def test_letters_are_judged():
    def line(first_token, rotation):
        record = {"state": STATE, "sample": rotation, "answer": first_token}
        return {**record, "plans": read_answer(record)}

    biased = [line({"A": math.log(0.8), "B": math.log(0.1)}, rotation) for rotation in (0, 1)]  # always the first
    assert "90% of the probability, entropy 1.00 of chance's, hardly better" in judge_letters(biased)
    sure = [line({"B": 0.0}, 0), line({"A": 0.0}, 1)]
    assert judge_letters(sure) == "valid letters have 100% of the probability, entropy 0.00 of chance's"


def test_letters_are_asked_for_in_every_rotation_and_averaged(serve, tmp_path):
    server = serve()
    replies = LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), "logprobs")
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
    LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), "logprobs")(STATE)
    assert len(server.bodies) == 2


@pytest.mark.parametrize("letters", [None, {}])
def test_an_endpoint_without_log_probabilities(serve, tmp_path, letters):
    with pytest.raises(LLMError, match=r"gives no log-probabilities.*choose mode soft"):
        LiveReplies(tmp_path / "b", Endpoint(serve(letters=letters).url, "m"), "logprobs")(STATE)


# -------------------------------------------------------------------------------------------------- what endpoints do


def test_an_endpoint_that_shows_five_log_probabilities(serve, tmp_path, caplog):
    server = serve(refuses={"top_logprobs": 5})
    replies = LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), "logprobs", workers=1)
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
    replies = LiveReplies(tmp_path / "b", Endpoint(server.url, "m"))
    assert replies(STATE) == {PLAN: 0.5, "explore": 0.5}
    assert len(server.bodies) == replies.endpoint.bill["requests"] == requests
    assert server.answered == len(read_records(tmp_path / "b")) == 10  # none was thrown away
    assert len(caplog.records) == notes


def test_an_endpoint_with_another_name_for_the_limit(serve, tmp_path, caplog):
    server = serve(refuses={"max_tokens": 0})
    LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), "hard")(STATE)
    assert ["max_completion_tokens" in body for body in server.bodies] == [False, True]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thoughts_in_a_field_of_their_own_are_kept_and_not_followed(serve, tmp_path, field):
    server = serve(answers=("Decision: explore",), message={field: "Decision: open red door"})
    assert LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), "hard")(STATE) == {"explore": 1.0}
    (record,) = read_records(tmp_path / "b")
    assert record["answer"] == "<think>Decision: open red door</think>Decision: explore"


def test_thoughts_get_more_room(serve, tmp_path, caplog):
    server = serve(room=1000)
    assert LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), "hard")(STATE) == {PLAN: 1.0}
    assert [body["max_tokens"] for body in server.bodies] == [400, 1600]
    assert len(caplog.records) == 1
    endless = serve(room=10**6)
    assert LiveReplies(tmp_path / "c", Endpoint(endless.url, "m"), "hard")(STATE) == {NO_PLAN: 1.0}
    assert [body["max_tokens"] for body in endless.bodies] == [400, 1600, 6400]


# ------------------------------------------------------------------------------------------------------------ the book


def test_shares_are_frequencies_and_a_state_is_asked_once(serve, tmp_path):
    server = serve(answers=(ANSWER, ANSWER, "Decision: explore", "Decision: sing"))
    book = tmp_path / "new" / "book.jsonl"
    first = LiveReplies(book, Endpoint(server.url, "m", KEY, prices=(1.0, 10.0)), samples=8, workers=3)
    shares = {PLAN: 0.5, "explore": 0.25, NO_PLAN: 0.25}
    assert first(STATE) == first(STATE) == pytest.approx(shares)
    assert first.counts == {"states asked": 1, "states found": 1, "answers": 8, "unparsable": 2}
    assert first.endpoint.bill == {"requests": 8, "prompt tokens": 7 * 8, "completion tokens": 3 * 8}
    assert first.endpoint.cost == pytest.approx((56 * 1 + 24 * 10) / 1e6)
    assert server.headers == [f"Bearer {KEY}"] * 8
    assert {body["temperature"] for body in server.bodies} == {0.7}
    again = LiveReplies(book, Endpoint(server.url, "m"), samples=8)
    assert again(STATE) == pytest.approx(shares)
    assert again.endpoint.bill["requests"] == 0
    assert read_replies(book)[STATE] == pytest.approx(shares)  # what --replies makes of it
    assert {record["answer"] for record in read_records(book)} >= {ANSWER, "Decision: sing"}
    more = LiveReplies(book, Endpoint(server.url, "m"), samples=10)
    more(STATE)
    assert len(read_records(book)) == 10  # only those that were missing


def test_hard_is_one_answer_at_temperature_0(serve, tmp_path):
    server = serve()
    assert LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), "hard")(STATE)
    assert [body["temperature"] for body in server.bodies] == [0.0]


@pytest.mark.parametrize("change", [{"model": "o"}, {"mode": "hard"}, {"temperature": 1.0}, {"examples": 1}])
def test_a_book_of_another_llm_is_refused(serve, tmp_path, change):
    server, settings = serve(), dict(change)
    LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), samples=2)(STATE)
    endpoint = Endpoint(server.url, settings.pop("model", "m"))
    with pytest.raises(ValueError, match="name another book"):
        LiveReplies(tmp_path / "b", endpoint, **{"samples": 2, **settings})


def test_a_book_of_another_prompt_is_refused(serve, tmp_path, monkeypatch):
    server = serve()
    LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), "hard")(STATE)
    (record,) = read_records(tmp_path / "b")
    assert record["prompt"] == teachers.prompt_version(STATE, False, len(EXAMPLES))
    monkeypatch.setattr(teachers, "MINIGRID", teachers.MINIGRID._replace(rules="Guide the agent."))
    with pytest.raises(ValueError, match=r"'prompt': 'stages-5-\w{8}', .* not of .* name another book"):
        LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), "hard")


def ask_in_a_process(url, book, meet):
    meet.wait()
    LiveReplies(book, Endpoint(url, "m"), samples=4, workers=2)(STATE)


@pytest.mark.parametrize("kind", ["threads", "processes"])
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
        mend(path)
        append_line(path, LINES[2])
        assert path.read_text().splitlines() == [*LINES[:complete], LINES[2]]


def test_kill_9_of_a_process_that_asks_loses_no_answer(serve, tmp_path):
    server, book = serve(delay=0.01), tmp_path / "b"
    program = (
        f"from teacher import *\nreplies = LiveReplies({str(book)!r}, Endpoint({server.url!r}, 'm'), samples=60)\n"
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
    LiveReplies(book, Endpoint(server.url, "m"), samples=60)(STATE)
    assert len(read_records(book)) == 60
    assert sorted(record["sample"] for record in read_records(book)) == list(range(60))


@pytest.mark.parametrize("path", sorted(teachers.REPLIES.rglob("*-*.jsonl")), ids=lambda path: path.stem)
def test_shipped_recordings_are_what_the_parser_makes_of_the_raw_answers(path):
    records = read_records(path)
    assert [record["plans"] for record in records] == [pytest.approx(read_answer(record)) for record in records]
    assert path.name == book_path(records[0]["model"], path.stem.rsplit("-", 1)[1]).name
    assert len({(record["model"], record["prompt"], record["temperature"]) for record in records}) == 1


@pytest.mark.parametrize("path", sorted(teachers.REPLIES.glob("*-*.jsonl")), ids=lambda path: path.stem)
def test_shipped_recordings_are_complete(path):
    mode = path.stem.rsplit("-", 1)[1]
    replies = LiveReplies(path, Endpoint("http://127.0.0.1:9/v1", read_records(path)[0]["model"]), mode)
    for task in train.envs.TASKS:
        assert not replies.missing(list(read_replies(teachers.REPLIES / f"{task}.jsonl")))


def test_habitats_recording_is_of_todays_prompt():
    path = teachers.REPLIES / "habitat.jsonl"
    replies = LiveReplies(path, Endpoint("http://127.0.0.1:9/v1", read_records(path)[0]["model"]))
    assert not replies.missing(list(read_replies(path)))


# ------------------------------------------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize("mode", ["soft", "logprobs"])
@pytest.mark.parametrize("seed", range(12))
def test_faults_end_in_the_same_shares_or_in_a_clear_error_and_lose_no_answer(serve, tmp_path, seed, mode):
    chance = random.Random(seed)
    server = serve(faults=FAULTS, share=chance.choice((0.2, 0.6, 0.9)), seed=seed, most=chance.choice((1, 3)))
    if mode == "logprobs":  # there an answer needs no text
        server.faults = tuple(fault for fault in FAULTS if fault not in ("null", "empty", "infinite"))
    state = "The agent observes a red key, a blue key, a red door, and holds nothing."
    replies = LiveReplies(tmp_path / "b", Endpoint(server.url, "m", KEY), mode, samples=6, workers=3)
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


@pytest.mark.parametrize("fault", [*FAULTS, "drip"])
def test_every_fault_is_retried_and_then_named(serve, tmp_path, fault, monkeypatch):
    server = serve(faults=(fault,), share=1.0)
    endpoint = Endpoint(server.url, "m", KEY)
    if fault == "drip":  # a byte now and then: no time-out of the socket ever comes
        monkeypatch.setattr(Endpoint, "longest_wait", 0.3)
    with pytest.raises(LLMError, match=f"no answer in {1 if fault == 'drip' else 6} attempts") as raised:
        LiveReplies(tmp_path / "b", endpoint, "hard")(STATE)
    assert endpoint.bill["requests"] == len(server.bodies)
    assert KEY not in str(raised.value)


def test_nobody_listens(tmp_path, monkeypatch):
    monkeypatch.setattr(Endpoint, "longest_pause", 0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(LLMError, match="no answer in 6 attempts, at last ConnectionError; is it running"):
        LiveReplies(tmp_path / "b", Endpoint(url, "m"), "hard")(STATE)


def test_a_silent_endpoint_times_out(tmp_path, monkeypatch):
    monkeypatch.setattr(Endpoint, "longest_pause", 0)
    monkeypatch.setattr(Endpoint, "timeout", (0.05, 0.05))
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts and says nothing
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with pytest.raises(LLMError, match="no answer in 6 attempts, at last ReadTimeout"):
            LiveReplies(tmp_path / "b", Endpoint(url, "m"), "hard")(STATE)


@pytest.mark.parametrize("status", ["400", "401", "404"])
def test_what_will_not_pass_is_not_retried(serve, status):
    server = serve(faults=(status,), share=1.0)
    with pytest.raises(LLMError, match=rf"status {status}.*\*\*\*.*check url, model and key"):
        Endpoint(server.url, "m", KEY).ask(stages_prompt(STATE, 5), 0.7)
    assert len(server.bodies) == 1


def test_a_long_retry_after_is_not_waited_for(serve, monkeypatch):
    server = serve(faults=("429",), share=1.0)
    monkeypatch.setattr(Endpoint, "longest_wait", 0.5)
    monkeypatch.setattr(Handler, "reply", lambda self, *a, Retry_After, reply=Handler.reply: reply(  # noqa: N803
        self, *a, Retry_After="86400"))  # fmt: skip
    with pytest.raises(LLMError, match="no answer in 1 attempts"):
        Endpoint(server.url, "m").ask(stages_prompt(STATE, 5), 0.7)


def test_the_bill_is_bounded(serve, tmp_path):
    server = serve()
    with pytest.raises(LLMError, match="5 requests were made"):
        LiveReplies(tmp_path / "b", Endpoint(server.url, "m", max_requests=5), samples=9)(STATE)
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


# -------------------------------------------------------------------------------------------------------- command lines


def live(server, tmp_path, *more):
    return ["--teacher-url", server.url, "--teacher-model", "m", "--replies", str(tmp_path / "book.jsonl"), *more]


def test_record_asks_for_every_state_of_a_task_once(serve, tmp_path, capsys):
    server = serve(answers=(ANSWER, "Decision: sing"))
    command = ["record", "--env", "LavaDoorKey", *live(server, tmp_path, "--teacher-samples", "4"),
               "--teacher-prompt-price", "1000"]  # fmt: skip
    teachers.main(command)
    table = capsys.readouterr().out
    states = read_replies(teachers.REPLIES / "LavaDoorKey.jsonl")
    assert set(read_replies(tmp_path / "book.jsonl")) == set(states)
    assert len(server.bodies) == 4 * len(states) == 24
    for row in ("states +6", "requests +24", "prompt tokens +168", "completion tokens +72", r"cost +0\.168",
                r"seconds waited +\d", r"share unparsable +0\.5"):  # fmt: skip
        assert re.search(row, table), table
    teachers.main(command)
    assert len(server.bodies) == 24
    assert re.search("requests +0", capsys.readouterr().out)


@pytest.mark.parametrize("mode", teachers.MODES)
def test_ask_shows_prompt_answers_and_shares(serve, tmp_path, capsys, mode):
    state = "The agent observes a green key, and holds nothing."
    teachers.main(["ask", state, *live(serve(), tmp_path, "--teacher-mode", mode, "--teacher-samples", "2")])
    shown = capsys.readouterr().out
    assert f"State: {STATE}" in shown  # green is the first colour, red
    assert shown.count("--- answer") == {"soft": 2, "hard": 1, "logprobs": 2}[mode]
    assert re.search(rf"{STATE}\n(.*\n)* +\d+\.0%  {PLAN}", shown.split("---")[-1])


def test_score_hand_worked(tmp_path, capsys):
    states = list(read_replies(teachers.REPLIES / "SimpleDoorKey.jsonl"))
    for name, plans in (("ours", {"explore": 0.5, "go to red key, open red door": 0.25, "drop red key": 0.25}),
                        ("theirs", {"go to red key": 0.75, "explore": 0.25})):  # fmt: skip
        lines = [json.dumps({"state": state, "plans": plans}) for state in states]
        (tmp_path / name).write_text("\n".join(lines))
    teachers.main(["score", "--env", "SimpleDoorKey", str(tmp_path / "ours"), str(tmp_path / "theirs")])
    shown = capsys.readouterr().out.splitlines()
    assert re.match(r" 50% explore +75% go to red key +50%  The agent", shown[1])  # min(1/2, 1/4) + min(1/4, 3/4)
    assert shown[-1] == "6 states: the same option first in 0, 50% in common"
    teachers.main(["score", "--env", "SimpleDoorKey", str(teachers.REPLIES / "SimpleDoorKey.jsonl")])
    assert "the same option first in 6, 100% in common" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["show", "nowhere.jsonl"], "nowhere.jsonl"),
        (["score", "--env", "ColoredDoorKey", str(teachers.REPLIES / "LavaDoorKey.jsonl")], "lacks 8 states"),
        (["score", "--env", "Elsewhere", "b"], "choose from"),
        (["record", "--env", "LavaDoorKey"], "--teacher-url, --teacher-model"),
        (["record", "--env", "LavaDoorKey", "--teacher-url", "nonsense", "--teacher-model", "m"], "must look like"),
        (
            ["ask", STATE, "--teacher-url", "http://h/v1", "--teacher-model", "m", "--teacher-samples", "0"],
            "at least 1",
        ),
        (["ask", STATE, "--teacher-url", "http://h/v1", "--teacher-model", "m", "--replies", "."], "directory"),
        (["sing"], "sing"),
    ],
)
def test_bad_input_ends_in_one_line(command, says, capsys):
    with pytest.raises(SystemExit) as stopped:
        teachers.main(command)
    lines = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert len(lines) == 1
    assert says in lines[0]


def test_record_ends_in_one_line_and_keeps_what_came(serve, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = serve()
    with pytest.raises(SystemExit) as stopped:
        teachers.main(["record", "--env", "LavaDoorKey", *live(server, tmp_path, "--teacher-max-requests", "5")])
    assert stopped.value.code == 2
    assert "5 requests were made" in capfd.readouterr().err.splitlines()[-1]
    assert len(read_records(tmp_path / "book.jsonl")) == server.answered == 5
    server.faults, server.share = ("500",), 1.0
    with pytest.raises(SystemExit):
        teachers.main(["record", "--env", "LavaDoorKey", *live(server, tmp_path)])
    assert KEY not in "".join(capfd.readouterr())
    assert len(read_records(tmp_path / "book.jsonl")) == 5


# ------------------------------------------------------------------------------------------------------------- training


def run(tmp_path, name, *more):
    """A short run of train.py with a reply book of its own; the rows of its metrics."""
    train.live_replies.cache_clear()  # as in a new process
    train.main(["--env", "SimpleDoorKey", "--iterations", "3", "--i1", "1", "--i2", "3", "--num-trajectories", "4",
                "--episodes", "5", "--run-dir", str(tmp_path / name), "--replies", str(tmp_path / "book.jsonl"),
                "--teacher-model", "m", "--teacher-samples", "2", *more])  # fmt: skip
    return (tmp_path / name / "metrics.csv").read_bytes()


@pytest.mark.parametrize("mode", teachers.MODES)
def test_training_asks_each_state_once_and_hides_the_key(serve, tmp_path, monkeypatch, capfd, mode):
    monkeypatch.setenv("MY_KEY", KEY)
    server = serve()
    flags = ("--teacher-url", server.url, "--teacher-key-env", "MY_KEY", "--teacher-mode", mode)
    first = run(tmp_path, "first", *flags)
    states = read_replies(tmp_path / "book.jsonl")
    needed = {"soft": 2 * len(states), "hard": len(states), "logprobs": sum(len(choices(state)) for state in states)}
    assert len(server.bodies) == needed[mode] > 2
    assert run(tmp_path, "second", *flags) == first
    assert run(tmp_path, "recorded", "--teacher-mode", mode) == first  # the book alone
    assert len(server.bodies) == needed[mode]  # nothing was asked again
    assert "LLM: 0 requests" in (shown := "".join(capfd.readouterr()))
    assert KEY not in shown
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


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


def test_a_model_names_its_book(tmp_path, monkeypatch):
    monkeypatch.setattr(teachers, "REPLIES", tmp_path)
    config = train.Config(teacher_model="some/model:1b", teacher_mode="logprobs")
    assert train.reply_book(config) == tmp_path / "some_model_1b-logprobs.jsonl"


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


@pytest.mark.skipif("LLM4TEACH_TEST_URL" not in os.environ, reason="LLM4TEACH_TEST_URL names no real server to ask")
@pytest.mark.parametrize("mode", teachers.MODES)
def test_a_real_server(tmp_path, mode):
    endpoint = Endpoint(os.environ["LLM4TEACH_TEST_URL"], os.environ.get("LLM4TEACH_TEST_MODEL", "default"),
                        os.environ.get("OPENAI_API_KEY", ""))  # fmt: skip
    replies = LiveReplies(tmp_path / "b", endpoint, mode, samples=3)
    assert sum(replies(STATE).values()) == pytest.approx(1)
    assert len(read_records(tmp_path / "b")) == {"soft": 3, "hard": 1, "logprobs": 2}[mode]
    asked = endpoint.bill["requests"]
    assert replies(STATE)
    assert endpoint.bill["requests"] == asked
