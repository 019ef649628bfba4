"""A program before anything large is imported: Ctrl-C, warnings, the standard streams, a notebook's way to draw.

    from harness import terminal

    if __name__ == "__main__":
        terminal.prepare()
    ...
    if __name__ == "__main__":
        terminal.run(main)  # or main(), where no other processes train with this one

Only programs do that. Imported, into a notebook or a test, a file leaves signals and streams as they are.
"""

from __future__ import annotations

import _signal as signal  # what `signal` wraps in enums, whose import takes longer than Ctrl-C should wait
import atexit
import io
import os
import sys
import warnings
from collections.abc import Callable


def prepare() -> None:
    """Set up signals, warnings, standard streams and matplotlib for a program."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a background job ignores it
        signal.signal(signal.SIGINT, stop)
    import threading

    report = threading.excepthook  # TensorBoard's thread may find the disk full: the next write raises it again
    threading.excepthook = lambda failed: None if issubclass(failed.exc_type, OSError) else report(failed)
    warnings.formatwarning = format_warning
    os.environ["MPLBACKEND"] = "Agg"  # a notebook's may be missing here, and then matplotlib cannot be imported
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # where a standard stream was closed, the next file would get its number, and every warning
    os.close(number)
    sys.stdout, sys.stderr = open_stream(1, sys.stdout), open_stream(2, sys.stderr)


format_with_place = warnings.formatwarning


def format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Return a UserWarning as one line below a progress bar; others, for programmers, with their place in the code."""
    with_place = format_with_place(message, category, filename, lineno, line)
    return f"\nwarning: {message}\n" if category is UserWarning else with_place


def stop(_number: int, _frame: object) -> None:
    """End at once, with one line and exit code 130: nothing is under way that would have to be saved."""
    os.write(2, f"{os.path.basename(sys.argv[0])}: stopped\n".encode(errors="replace"))
    os._exit(130)


def run(main: Callable[[], object]) -> None:
    """Run a program's main and end with its exit code, without the interpreter's tidying up.

    There the threads of torch's process groups abort now and then, and the exit code would be theirs.
    """
    code = 1  # of an exception that main does not catch

    def end() -> None:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)

    atexit.register(end)  # called after what is registered from here on, say by a user's task
    try:
        main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)  # a text is printed
        raise


def open_stream(number: int, stream: object) -> io.TextIOWrapper:
    """Return standard output or error anew: it writes what its encoding lacks as escapes, and needs no reader."""
    buffered = io.BufferedWriter(Stream(number, "w", closefd=False))  # type: ignore[type-var]
    encoding, at_once = getattr(stream, "encoding", "utf-8"), getattr(stream, "write_through", False)
    lines = getattr(stream, "line_buffering", True)
    return io.TextIOWrapper(buffered, encoding, "backslashreplace", line_buffering=lines, write_through=at_once)


class Stream(io.FileIO):
    """A standard stream: a program that trains or pays goes on when its reader, say `head`, is gone."""

    failed = False

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Write; without a reader do nothing. Raises OSError once: what stays in a buffer must not fail again."""
        try:
            return len(data) if self.failed else super().write(data)
        except OSError as error:
            self.failed = True
            if isinstance(error, BrokenPipeError):
                return len(data)
            error.filename = "standard output"
            raise
