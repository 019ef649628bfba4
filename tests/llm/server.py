"""A loopback endpoint that misbehaves on purpose, and what its tests share."""

import json
import math
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from harness.config import configure
from harness.task import open_task
from llm.prompts import Prompt

KEY = "sk-canary-1234567890"
STATE = "The agent observes a red key, and holds nothing."
MODES = ("soft", "logprobs", "hard")  # that ask an LLM
PLAN = "go to red key, pick up red key"
ANSWER = f"Scene: a key.\nReasoning: it is needed.\nDecision: {PLAN}"
LETTERS = {"A": math.log(0.25), "B": math.log(0.5), " B": math.log(0.125), "The": math.log(0.125)}
FAULTS = ("429", "500", "503", "half", "html", "no choices", "null", "empty", "huge", "deep", "hang up")


PROMPT = Prompt.of(open_task(configure({"env": "SimpleDoorKey"})))


class Server(ThreadingHTTPServer):
    """An endpoint that draws each reply from `faults` and `answers` with its own generator.

    first: texts, or (status, text, headers), that are sent before anything else.  most: answers to one request.
    refuses: parameter -> the most that is not answered with 400 and `words`.  letters: the top_logprobs of a first
    token.  message: what else stands in an answer's message.  room: tokens below which an answer is cut off.  delay:
    seconds before a reply.  models: what GET gives.
    """

    daemon_threads = True

    def __init__(self, answers=(ANSWER,), faults=(), share=0.0, seed=0, first=(), most=1, refuses=(),
                 words="Unsupported parameter: {name!r}.", letters=LETTERS, message=None, room=0, delay=0.0,
                 models=None):  # fmt: skip
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.faults, self.share, self.random = answers, faults, share, random.Random(seed)
        self.first, self.most, self.refuses, self.words = list(first), most, dict(refuses), words
        self.letters, self.message, self.room, self.delay, self.models = letters, message or {}, room, delay, models
        self.lock, self.bodies, self.headers, self.answered = threading.Lock(), [], [], 0
        self.api_keys, self.paths = [], []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
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
        if body.get("max_tokens", body.get("max_completion_tokens", 0)) < self.room:
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

    def do_GET(self):
        self.server.paths.append(self.path)
        self.reply(404 if self.server.models is None else 200, self.server.models or "")

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(server.delay)
        with server.lock:
            server.bodies.append(body)
            server.headers.append(self.headers["Authorization"])
            server.api_keys.append(self.headers["api-key"])
            server.paths.append(self.path)
            said = server.first.pop(0) if server.first else None
            fault = server.random.choice(server.faults) if server.random.random() < server.share else ""
            refused = [name for name, most in server.refuses.items() if name in body and body[name] > most]
            count = 0 if said or fault or refused else min(body.get("n", 1), server.most)
            good = json.dumps({"choices": [server.choice(body) for _ in range(count)],
                               "usage": {"prompt_tokens": 7, "completion_tokens": 3 * count}})  # fmt: skip
        if said is not None:
            status, text, headers = (200, said, {}) if isinstance(said, str) else said
            self.reply(status, text, **headers)
        elif refused:
            self.reply(400, server.words.format(name=refused[0], most=server.refuses[refused[0]]))
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
                "huge": "x" * 10_000_000,
            }
            self.reply(200, texts.get(fault, good))
