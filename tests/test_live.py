"""The live LLM behind a loopback server that misbehaves on purpose, and the reply book under crashes and crowds."""

import json
import multiprocessing
import os
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import train
from teacher import (
    EXAMPLES,
    NO_PLAN,
    PROMPT_VERSION,
    Endpoint,
    LiveReplies,
    LLMError,
    append_line,
    parse_plan,
    prompt,
    read_records,
    read_replies,
    rename_colors,
)

REPLIES = train.REPLIES
KEY = "sk-canary-1234567890"
STATE = "The agent observes a red key, and holds nothing."
ANSWER = "Scene: a key.\nReasoning: it is needed.\nDecision: go to red key, pick up red key"
FAULTS = ("429", "500", "503", "half", "html", "no choices", "null", "empty", "huge", "deep", "infinite", "hang up")


class Server(ThreadingHTTPServer):
    """An endpoint that draws each reply from `faults` and `answers` with its own generator."""

    daemon_threads = True

    def __init__(self, answers=(ANSWER,), faults=(), share=0.0, seed=0):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.faults, self.share, self.random = answers, faults, share, random.Random(seed)
        self.lock, self.bodies, self.headers, self.answered = threading.Lock(), [], [], 0
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request, client_address):
        """A client that hangs up on ten megabytes is what the test wants."""


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
        with server.lock:
            server.bodies.append(body)
            server.headers.append(self.headers["Authorization"])
            fault = server.random.choice(server.faults) if server.random.random() < server.share else ""
            answer = server.answers[server.answered % len(server.answers)]
            server.answered += not fault
        good = json.dumps({"choices": [{"message": {"content": answer}}],
                           "usage": {"prompt_tokens": 7, "completion_tokens": 3}})  # fmt: skip
        if fault == "429":
            self.reply(429, "slow down", Retry_After="0")
        elif fault.isdecimal():
            self.reply(int(fault), f"you sent {self.headers['Authorization']}")
        elif fault == "half":
            self.reply(200, good[:20], length=len(good))
        elif fault == "hang up":
            self.connection.close()
        else:
            texts = {
                "html": "<html>502</html>",
                "no choices": '{"choices": []}',
                "null": good.replace(json.dumps(answer), "null"),
                "empty": good.replace(json.dumps(answer), '""'),
                "deep": "[" * 500_000,
                "infinite": '{"usage": {"prompt_tokens": Infinity}, ' + good[1:].replace('"usage"', '"other"'),
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


def test_prompt_ends_with_the_state_and_examples_follow_their_own_format():
    messages = prompt(STATE)
    assert [m["role"] for m in messages] == ["user", "assistant"] * len(EXAMPLES) + ["user"]
    assert messages[-1]["content"] == f"State: {STATE}"
    for state, answer in EXAMPLES:
        assert parse_plan(answer) != NO_PLAN
        assert rename_colors(state)[0] != state  # no example is a state that could be asked


def test_shares_are_frequencies_and_a_state_is_asked_once(serve, tmp_path):
    server = serve(answers=(ANSWER, ANSWER, "Decision: explore", "Decision: sing"))
    book = tmp_path / "new" / "book.jsonl"
    first = LiveReplies(book, Endpoint(server.url, "m", KEY), samples=8, workers=3)
    shares = {"go to red key, pick up red key": 0.5, "explore": 0.25, NO_PLAN: 0.25}
    assert first(STATE) == first(STATE) == pytest.approx(shares)
    assert first.endpoint.requests == len(server.bodies) == 8
    tokens = {"prompt tokens": 7 * 8, "completion tokens": 3 * 8}
    assert first.bill == {"states asked": 1, "states found": 1, "answers": 8, "unparsable": 2, **tokens}
    assert server.headers == [f"Bearer {KEY}"] * 8
    assert {body["temperature"] for body in server.bodies} == {0.7}
    again = LiveReplies(book, Endpoint(server.url, "m"), samples=8)
    assert again(STATE) == pytest.approx(shares)
    assert again.endpoint.requests == 0
    assert read_replies(book)[STATE] == pytest.approx(shares)  # what --replies makes of it
    assert {record["answer"] for record in read_records(book)} >= {ANSWER, "Decision: sing"}
    more = LiveReplies(book, Endpoint(server.url, "m"), samples=10)
    more(STATE)
    assert more.endpoint.requests == 2  # only those that are missing


def test_answers_of_another_process_are_found(serve, tmp_path):
    server = serve()
    one, two = (LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), samples=3) for _ in range(2))
    assert one(STATE) == two(STATE)
    assert len(server.bodies) == 3


def test_one_sample_is_asked_for_at_temperature_0(serve, tmp_path):
    server = serve()
    assert LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), samples=1)(STATE)
    assert [body["temperature"] for body in server.bodies] == [0.0]


@pytest.mark.parametrize("change", [{"model": "other"}, {"samples": 1}])
def test_a_book_of_another_llm_is_refused(serve, tmp_path, change):
    server = serve()
    settings = {"model": "m", "samples": 2, **change}
    LiveReplies(tmp_path / "b", Endpoint(server.url, "m"), samples=2)(STATE)
    with pytest.raises(ValueError, match="name another book"):
        LiveReplies(tmp_path / "b", Endpoint(server.url, settings["model"]), samples=settings["samples"])


@pytest.mark.parametrize("seed", range(20))
def test_faults_end_in_the_same_shares_or_in_a_clear_error_and_lose_no_answer(serve, tmp_path, seed):
    server = serve(faults=FAULTS, share=random.Random(seed).choice((0.2, 0.6, 0.9)), seed=seed)
    replies = LiveReplies(tmp_path / "b", Endpoint(server.url, "m", KEY), samples=6, workers=3)
    try:
        assert replies(STATE) == {"go to red key, pick up red key": 1.0}
    except LLMError as error:
        assert server.url in str(error)
        assert KEY not in str(error)
        assert "\n" not in str(error)
    assert len(read_records(tmp_path / "b")) == server.answered
    assert KEY.encode() not in (tmp_path / "b").read_bytes()
    server.share = 0.0  # it recovers: only what is missing is asked
    before = server.answered
    assert replies(STATE) == {"go to red key, pick up red key": 1.0}
    assert server.answered == 6
    assert before <= 6


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_retried_and_then_named(serve, tmp_path, fault):
    server = serve(faults=(fault,), share=1.0)
    endpoint = Endpoint(server.url, "m", KEY)
    with pytest.raises(LLMError, match="no answer in 6 attempts") as raised:
        LiveReplies(tmp_path / "b", endpoint, samples=1)(STATE)
    assert endpoint.requests == 6
    assert KEY not in str(raised.value)


@pytest.mark.parametrize("status", ["400", "401", "404"])
def test_what_will_not_pass_is_not_retried(serve, tmp_path, status):
    server = serve(faults=(status,), share=1.0)
    with pytest.raises(LLMError, match=rf"status {status}.*\*\*\*.*check url, model and key"):
        Endpoint(server.url, "m", KEY).ask(prompt(STATE), 0.7)
    assert len(server.bodies) == 1


def test_a_long_retry_after_is_not_waited_for(serve, monkeypatch):
    server = serve(faults=("429",), share=1.0)
    monkeypatch.setattr(Endpoint, "longest_wait", 0.5)
    monkeypatch.setattr(Handler, "reply", lambda self, *a, Retry_After, reply=Handler.reply: reply(  # noqa: N803
        self, *a, Retry_After="86400"))  # fmt: skip
    with pytest.raises(LLMError, match="no answer in 1 attempts"):
        Endpoint(server.url, "m").ask(prompt(STATE), 0.7)


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


LINES = [json.dumps({"state": state, "plans": {"explore": 1.0}}) for state in ("one", "two", "three é")]


def test_a_crash_in_any_byte_of_a_line_costs_that_line_only(tmp_path):
    path = tmp_path / "book"
    whole = f"{LINES[0]}\n{LINES[1]}".encode()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        complete = (cut >= len(LINES[0])) + (cut == len(whole))
        assert len(read_records(path)) == complete
        append_line(path, LINES[2])
        assert path.read_text().splitlines() == [*LINES[:complete], LINES[2]]


@pytest.mark.parametrize("path", sorted(REPLIES.glob("*-*.jsonl")), ids=lambda path: path.stem)
def test_shipped_recordings_are_what_the_parser_makes_of_the_raw_answers(path):
    records = read_records(path)
    assert [record["plans"] for record in records] == [{parse_plan(record["answer"]): 1.0} for record in records]
    assert {record["prompt"] for record in records} == {PROMPT_VERSION}


def append_many(path, number):
    for k in range(50):
        append_line(path, json.dumps({"state": f"{number} {k} " + "x" * 5000, "plans": {"explore": 1.0}}))


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    path = tmp_path / "book"
    path.touch()
    crowd = [multiprocessing.Process(target=append_many, args=(path, number)) for number in range(4)]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join()
    assert len(read_replies(path)) == 200


def run(tmp_path, name, *more):
    """A short run of train.py with a reply book of its own; the rows of its metrics."""
    train.live_replies.cache_clear()  # as in a new process
    train.main(["--env", "SimpleDoorKey", "--iterations", "3", "--i1", "1", "--i2", "3", "--num-trajectories", "4",
                "--episodes", "5", "--run-dir", str(tmp_path / name), "--replies", str(tmp_path / "book.jsonl"),
                "--teacher-model", "m", "--teacher-samples", "2", *more])  # fmt: skip
    return (tmp_path / name / "metrics.csv").read_bytes()


def test_training_asks_each_state_once_and_hides_the_key(serve, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("MY_KEY", KEY)
    server = serve()
    flags = ("--teacher-url", server.url, "--teacher-key-env", "MY_KEY")
    first = run(tmp_path, "first", *flags)
    states = read_replies(tmp_path / "book.jsonl")
    assert len(server.bodies) == 2 * len(states) > 2
    assert run(tmp_path, "second", *flags) == first
    assert len(server.bodies) == 2 * len(states)  # nothing was asked again
    assert "LLM: 0 requests" in (shown := "".join(capfd.readouterr()))
    assert KEY not in shown
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


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


@pytest.mark.parametrize("flags", [("--teacher-url", "nonsense"), (), ("--teacher-url", "http://h/v1", "--seed", "x")])
def test_flags_that_do_not_fit(tmp_path, capfd, flags):
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path, "run", *flags)
    assert stopped.value.code == 2
    assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.mark.skipif("LLM4TEACH_TEST_URL" not in os.environ, reason="LLM4TEACH_TEST_URL names no real server to ask")
def test_a_real_server(tmp_path):
    endpoint = Endpoint(os.environ["LLM4TEACH_TEST_URL"], os.environ.get("LLM4TEACH_TEST_MODEL", "default"),
                        os.environ.get("OPENAI_API_KEY", ""))  # fmt: skip
    shares = LiveReplies(tmp_path / "b", endpoint, samples=3)(STATE)
    assert sum(shares.values()) == pytest.approx(1)
    assert read_records(tmp_path / "b")[0]["prompt"] == PROMPT_VERSION
