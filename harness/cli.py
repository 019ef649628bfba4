"""How every command speaks to its user: what cannot be used ends in one line on stderr and exit code 2."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from teacher import printable

OWN_FILES: set[str] = set()  # of users' tasks that were imported


class InputError(Exception):
    """What the user gave cannot be used; the text says what arrived, what is allowed and what to do."""


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line."""

    def error(self, message: str) -> NoReturn:
        """Raise InputError with what is wrong and where to read on."""
        raise InputError(f"{message}; see python {self.prog} --help")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; refuse what no command line can hold, no file name, and an option without its value."""
        for argument in args or []:
            try:
                strange = b"\0" in os.fsencode(argument)
            except UnicodeEncodeError:
                strange = True
            if strange:
                self.error(f"{argument!r} has characters that no file name can have")
        given, rest = super().parse_known_args(args, namespace)
        empty = [name for name, value in vars(given).items() if value == []]  # of "--name=--"
        if empty:
            self.error(f"{empty[0]} has no value")
        return given, rest


def exit_with_error(program: str, message: str, code: int = 2) -> NoReturn:
    """End with one line on stderr."""
    print(f"{Path(program).name}: {printable(' '.join(message.splitlines()))}", file=sys.stderr)
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), 1
        )  # what a full disk refused, Python would write once more at its end
    raise SystemExit(code)


@contextmanager
def interruptible() -> Iterator[None]:
    """Have Ctrl-C raise KeyboardInterrupt in this block, which can then end tidily."""
    before = signal.getsignal(signal.SIGINT)
    try:
        if before is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def errors_in_one_line(program: str) -> Iterator[None]:
    """Turn an InputError, and an OSError, into one line on stderr and exit code 2; Ctrl-C into one and code 130.

    An exception raised by a user's task keeps its traceback, from the first line of the user's file on; exit code 1.
    """
    try:
        with interruptible():
            yield
            print(end="", flush=True)  # a disk may be full
    except InputError as error:
        exit_with_error(program, str(error))
    except KeyboardInterrupt:
        exit_with_error(program, "stopped", 130)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        first = next((n for n, frame in enumerate(frames) if frame.filename in OWN_FILES), None)
        if first is not None:
            lines = traceback.format_list(frames[first:]) + traceback.format_exception_only(type(error), error)
            print("Traceback, from your task on:\n" + "".join(lines), end="", file=sys.stderr)
            raise SystemExit(1) from None
        if isinstance(error, OSError):
            exit_with_error(program, f"{error}; give access, make room, or name another place")
        raise
