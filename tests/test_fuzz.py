"""Command lines made from each parser's own description: refused in one line with exit code 2, or understood."""

import argparse
import os
import random
from importlib import import_module
from pathlib import Path

import pytest

from doorkey.task import DoorKey
from harness.workers import Workers

# Each command's module, and what comes after its arguments were checked, which is left out.
COMMANDS = {
    "train": ["run"],
    "llm.commands": ["ask", "check", "record"],
    "evidence.books": ["write_faulty_book"],
    "reproduce": ["run_unfinished", "Results"],
    "options": [],
    "envs": ["TASKS"],
    "annealing": ["check_schedule"],
    "ppo": ["Student"],
    "nets": ["small_student"],
    "harness.workers": ["torch"],
    "harness.report": ["draw_curve"],
    "navpick.home": ["write_home"],
    "navpick.check": ["Report"],
    "navpick.learned": ["write_weights"],
    "navpick.rendering": ["draw"],
    "benchmarks.faults": ["measure"],
    "benchmarks.habitat": ["ProcessEnv"],
    "benchmarks.throughput": ["random_stepping"],
    "benchmarks.workers": ["run"],
}
BAD = [
    "", " ", "-", "--", "nan", "inf", "-inf", "-1", "0", "0.5", "1e400", "-1e400", "9" * 30, "9" * 5000, "1_0", "١",
    "abc", "a,b", "a:b", "a.py:b", "line\nbreak", "\x1b[2J", "\0", "\ud800", "\udcff", "%s", "{}", "--env", "auto",
    "cuda:99", "file", "file/below", "folder", "folder/new", "n" * 300, "/proc/none/below", "/dev/null", "http://[::1",
    "http://127.0.0.1:9/v1", "pipe", ".",
]  # fmt: skip
GOOD = {"env": "SimpleDoorKey", "teacher_url": "http://127.0.0.1:9/v1", "target": "fig4", "gpu": "0"}
EACH = 8  # of the bad values, for an option


class Understood(BaseException):
    """The arguments were checked, and nothing was wrong with them."""


class Rest:
    """What comes after the arguments: whatever is done with it, they were understood."""

    def __call__(self, *_, **__):
        raise Understood

    __getattr__ = __call__


class Described(BaseException):
    """A command's parser."""


def describe(main, monkeypatch):
    """The parser of a command, caught before it parses."""

    def catch(parser, *_):
        if parser.add_help:  # not one that looks for --env first
            raise Described(parser)
        return argparse.Namespace(env="DivergedDoorKey"), []

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", catch)
        with pytest.raises(Described) as caught:
            main([])
    return caught.value.args[0]


def arguments_of(parser, before=()):
    """Each argument of a parser and its commands, with what must stand around it."""
    (commands,) = [a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)] or [{}]
    for name, command in commands.items():
        yield from arguments_of(command, [*before, name])
    actions = [action for action in parser._actions if not isinstance(action, argparse._SubParsersAction)]
    needed = {a.dest: [*a.option_strings[:1], GOOD.get(a.dest, "file")] for a in actions if a.required}
    if any(action.dest == "replies" for action in actions) and before:
        needed["replies"] = ["--replies", "book.jsonl"]
    for action in actions:
        others = [word for dest, words in needed.items() if dest != action.dest for word in words]
        yield action, [*before, *others]


def command_lines(parser, rng):
    yield []
    yield ["--no-such-option"]
    yield ["more", "words"]
    for action, others in arguments_of(parser):
        name = action.option_strings[:1]
        if action.nargs == 0:
            yield [*others, *name]
            continue
        for value in rng.sample(BAD, EACH):
            yield [*others, *name, value]
            if name:
                yield [*others, f"{name[0]}={value}"]
        if name:
            yield [*others, *name]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_line_is_refused_in_one_line_or_understood(command, tidy, monkeypatch, capsys):
    Path("folder").mkdir()
    Path("file").write_text("a text")
    os.mkfifo("pipe")
    module = import_module(command)
    parser = describe(module.main, monkeypatch)

    monkeypatch.setattr(Workers, "start", lambda *_: None)
    monkeypatch.setattr(DoorKey, "reply_folder", Path("books"))
    for name in COMMANDS[command]:
        monkeypatch.setattr(module, name, Rest())
    wrong, ends = [], set()
    for line in command_lines(parser, random.Random(0)):
        capsys.readouterr()
        try:
            module.main(line)
            ends.add("understood")
        except Understood:
            ends.add("understood")
        except SystemExit as end:
            errors = [text for text in capsys.readouterr().err.splitlines() if text.strip()]
            ends.add(end.code)
            if end.code not in (0, None) and (end.code != 2 or len(errors) != 1):
                wrong.append((line, end.code, errors))
        except BaseException as error:
            wrong.append((line, repr(error)[:200]))
    assert not wrong, "\n".join(map(str, wrong))
    assert 2 in ends
    if command in ("train", "llm.commands"):  # whatever --replies named
        assert Path("file").read_text() == "a text"
