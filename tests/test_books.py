"""Reply books from elsewhere: read whatever wrote them, or refused in one line, in bounded time and memory."""

import json
import os
import subprocess
import sys

import pytest
from helpers import ROOT

import teacher
from llm.replies import append_line, repair_last_line

LINES = ['{"state": "é", "plans": {"wait": 1}}', '{"state": "t", "plans": {"wait": 0.5, "go": 0.5}}']


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"], ids=repr)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "mark"])
@pytest.mark.parametrize("last", [True, False], ids=["ended", "not ended"])
def test_a_book_of_any_system(end, mark, last, tmp_path):
    path = tmp_path / "book.jsonl"
    path.write_bytes(mark + (end.join(LINES) + end * last).encode())
    assert [record["state"] for record in teacher.read_records(path)] == ["é", "t"]
    repair_last_line(path)
    append_line(path, '{"state": "u", "plans": {"go": 1}}')
    assert [record["state"] for record in teacher.read_records(path)] == ["é", "t", "u"]


@pytest.mark.parametrize("end", ["\n", "\r"], ids=repr)
def test_a_last_line_that_was_cut_off_is_left_out_and_then_cut_off(end, tmp_path):
    path = tmp_path / "book.jsonl"
    for length in range(1, len(LINES[1])):
        path.write_bytes((LINES[0] + end).encode() + LINES[1].encode()[:length])
        assert len(teacher.read_records(path)) == 1
        repair_last_line(path)
        assert path.read_bytes() == (LINES[0] + end).encode()


@pytest.mark.parametrize(
    "text",
    [b"notes", b"{a: 1}", b"\x89PNG\r\n\x1a\n\x00", b"one\ntwo", b'{"model": "m", "sta', b'{\n  "a": 1\n}\n', b"\0"],
)
def test_a_file_that_is_no_book_stays_as_it_was(text, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=r"notes\.txt"):
        teacher.read_records(path)
    repair_last_line(path)
    assert path.read_bytes() == text


def record(state='"s"', plans='{"wait": 1}', more=""):
    return f'{{"state": {state}, "plans": {plans}{more}}}\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (record(more=f', "x": {"[" * 10_000}{"]" * 10_000}'), "line 1: RecursionError"),
        (record(more=', "x": ' + '{"a": ' * 10_000 + "1" + "}" * 10_000), "line 1: RecursionError"),
        (record(plans=f'{{"wait": {"9" * 4000}}}'), "line 1"),
        (record(plans=f'{{"wait": 0.{"9" * 4000}, "go": 1}}'), "add up to 1"),
        (record(plans='{"wait": 1e999}'), "add up to 1"),
        (record(plans='{"wait": NaN, "go": 1}'), "add up to 1"),
        (record(plans='{"wait": -Infinity, "go": Infinity}'), "positive"),
        (record(plans='{"wait": 1, "wait": 1}'), "stands twice"),
        (record(more=', "state": "t"'), "stands twice"),
        (record(state=f'["{"x" * 9000}"]'), "is not a text"),
        (record(plans=f'{{"{"x" * 90_000}": 2}}'), "add up to 1"),
        (record().encode("utf-16").decode("latin1"), "UTF-16"),
        (record().encode("utf-16-be").decode("latin1"), "UTF-16"),
        (record() + "x" * 2**24, "line of more than"),
    ],
    ids=range(14),
)
def test_a_book_that_is_none(text, says, tmp_path):
    path = tmp_path / "book.jsonl"
    path.write_bytes(text.encode("latin1"))
    with pytest.raises(ValueError, match=says) as raised:
        teacher.read_replies(path)
    (line,) = str(raised.value).splitlines()
    assert str(path) in line
    assert len(line) < 600


def test_what_never_ends_is_not_read(tmp_path):
    """In a process that may use half a gigabyte."""
    pipe, zeros, endless, one_line = (tmp_path / name for name in ("pipe", "zeros", "endless", "line"))
    os.mkfifo(pipe)
    zeros.symlink_to("/dev/zero")
    endless.touch()
    os.truncate(endless, 10**10)  # takes no room on the disk
    one_line.write_text('{"state": "')
    os.truncate(one_line, 10**10)
    limit = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (2**29, 2**29)); import teacher; teacher.main()"
    )
    for path in (pipe, zeros, endless, one_line):
        command = [sys.executable, "-c", limit, "show", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert str(path) in line


def test_what_is_shown_does_not_steer_the_terminal(tmp_path, capsys):
    path = tmp_path / "book.jsonl"
    evil = "\x1b]0;title\x07\x1b[2J\r\n\x9b31m\u202e\ud800"
    path.write_text(json.dumps({"state": evil + "café", "plans": {evil: 1}}))
    teacher.show(teacher.read_replies(path))
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 2
    assert all(character.isprintable() or character == "\n" for character in shown)
    assert "café" in shown
    assert r"\x1b[2J" in shown
