"""Ctrl-C at any moment, standard streams that are closed, full or without a reader, a notebook's way to draw."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import ROOT, TRAIN, assert_same_run, tiny

from harness.cli import InputError, errors_in_one_line

pytestmark = [pytest.mark.usefixtures("tidy"), pytest.mark.slow]
WHOLE = {"config.json", "metrics.csv", "checkpoint.pt", "student.pt", "eval.json", "curve.png", "play.gif"}
SHOW = [sys.executable, str(ROOT / "teacher.py"), "show"]


def start(*command, **how):
    """A process that Ctrl-C reaches also where these tests run in the background."""
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler), **how,
    )  # fmt: skip


def has_loaded(process, library):
    """Whether a process has come so far in its imports."""
    return library in Path(f"/proc/{process.pid}/maps").read_text()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into /proc for how far imports are")
@pytest.mark.parametrize("library", ["_json", "multiarray", "libtorch_cpu"])
@pytest.mark.parametrize(
    "command",
    [["train.py"], ["teacher.py", "show"], ["reproduce.py", "fig4"]],
    ids=lambda command: command[0],
)
def test_ctrl_c_while_importing(command, library):
    process = start(sys.executable, str(ROOT / command[0]), *command[1:])
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        if has_loaded(process, library):
            process.send_signal(signal.SIGINT)
            break
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, f"{command[0]}: stopped\n")
    assert not list(Path().iterdir())


def test_ctrl_c_twice_is_one_line(capsys):
    with pytest.raises(SystemExit) as stopped, errors_in_one_line("here"):
        raise KeyboardInterrupt
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "here: stopped\n"


def test_ctrl_c_raises_only_inside(monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with errors_in_one_line("here"):
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # a background job
        handler = signal.signal(signal.SIGINT, lambda *_: None) and signal.getsignal(signal.SIGINT)
        with errors_in_one_line("here"):
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_error_is_one_printable_line(capsys):
    with pytest.raises(SystemExit), errors_in_one_line("here"):
        raise InputError("a\nb\x1b[2J\ud800")
    assert capsys.readouterr().err == "here: a b\\x1b[2J\\ud800\n"


def test_an_os_error_is_one_line_and_an_own_error_is_not(capsys):
    with pytest.raises(SystemExit) as stopped, errors_in_one_line("here"):
        open("nowhere")  # noqa: SIM115
    assert stopped.value.code == 2
    assert "'nowhere'" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError), errors_in_one_line("here"):
        _ = 1 / 0


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", "2>&1 | :"])
def test_training_goes_on_whoever_reads(closed, finished_once):
    words = " ".join(["exec", *TRAIN, *tiny("run")])
    script = f"set -o pipefail; ( {words} ) {closed}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in Path("run").iterdir()} > WHOLE
    assert_same_run(Path("run"), finished_once)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_any_encoding(encoding):
    Path("book").write_text('{"state": "Zürich → 京都", "plans": {"gehe über": 1}}\n', encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([*SHOW, "book"], capture_output=True, env=environment, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode(encoding).splitlines()[0].endswith("\\u2192 \\u4eac\\u90fd")
    command = [*TRAIN, "--env", "nowhere → 京都:X"]
    done = subprocess.run(command, capture_output=True, env=environment, timeout=60)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


def test_a_book_is_shown_to_a_reader_who_has_seen_enough():
    book = ROOT / "replies" / "ColoredDoorKey.jsonl"
    script = f"set -o pipefail; ( exec {' '.join([*SHOW, str(book)])} ) | :"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no full device")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_that_is_printed_to_is_one_line(unbuffered, finished):
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered, "PYTHONPATH": str(ROOT)}
    for command in (
        [*SHOW, str(ROOT / "replies" / "ColoredDoorKey.jsonl")],
        [*TRAIN, "--eval", str(finished)],
        [sys.executable, "-m", "harness.report", str(finished)],
    ):
        with open("/dev/full", "w") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, timeout=100)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert "No space left" in line


def test_pictures_are_drawn_whatever_backend_a_notebook_left(finished):
    environment = {**os.environ, "MPLBACKEND": "module://no_such_package.backend", "PYTHONPATH": str(ROOT)}
    (finished / "curve.png").unlink(missing_ok=True)
    for command in (["-m", "harness.report", str(finished)], [str(ROOT / "annealing.py")]):
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, timeout=60)
        assert done.returncode == 0, done.stderr
    assert (finished / "curve.png").exists()
    assert Path("annealing.png").exists()


def test_a_warning_to_the_user_is_one_line_and_one_to_the_programmer_says_where():
    program = (
        "from harness import terminal; terminal.prepare(); import warnings; "
        "warnings.warn('the bowl is out of reach'); warnings.warn('overflow', RuntimeWarning)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stderr.splitlines() == ["", "warning: the bowl is out of reach", "<string>:1: RuntimeWarning: overflow"]


@pytest.mark.parametrize(
    ("main", "code", "errors"),
    [
        ("print('done')", 0, ""),
        ("raise SystemExit(130)", 130, ""),
        ("raise SystemExit", 0, ""),
        ("sys.exit('the map has no door')", 1, "the map has no door"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
    ],
)
def test_what_goes_wrong_in_the_tidying_up_does_not_change_the_exit_code(main, code, errors):
    program = f"""
import atexit, os, sys
from harness import terminal
class Threads:
    def __del__(self, abort=os.abort):
        abort()
kept = Threads()
def main():
    atexit.register(print, "a user's task says good-bye")
    {main}
terminal.run(main) if len(sys.argv) == 1 else main()
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == code
    assert "good-bye" in done.stdout.splitlines()[-1]
    assert done.stderr.splitlines()[-1:] == [errors][: bool(errors)]
    without = subprocess.run([*command, "main alone"], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert without.returncode == -signal.SIGABRT
