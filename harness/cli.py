"""How every command speaks to its user: what cannot be used ends in one line on stderr and exit code 2."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

OWN_FILES: set[str] = set()  # of users' tasks that were imported


class InputError(Exception):
    """What the user gave cannot be used; the text says what arrived, what is allowed and what to do."""


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line."""

    def error(self, message: str) -> NoReturn:
        """Raise InputError with what is wrong and where to read on."""
        raise InputError(f"{message}; see python {self.prog} --help")


def exit_with_error(program: str, message: str) -> NoReturn:
    """End with one line on stderr and exit code 2."""
    print(f"{Path(program).name}: {' '.join(message.splitlines())}", file=sys.stderr)
    raise SystemExit(2)


@contextmanager
def errors_in_one_line(program: str) -> Iterator[None]:
    """Turn an InputError into one line on stderr and exit code 2.

    An exception raised by a user's task keeps its traceback, from the first line of the user's file on; exit code 1.
    """
    try:
        yield
    except InputError as error:
        exit_with_error(program, str(error))
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        first = next((n for n, frame in enumerate(frames) if frame.filename in OWN_FILES), None)
        if first is None:
            raise
        lines = traceback.format_list(frames[first:]) + traceback.format_exception_only(type(error), error)
        print("Traceback, from your task on:\n" + "".join(lines), end="", file=sys.stderr)
        raise SystemExit(1) from None
