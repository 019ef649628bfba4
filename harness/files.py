"""Files that no crash, no full disk and no second process spoils."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.cli import InputError


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Add the file's name to an OSError that lacks one, as a disk that fills up while it is written to."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """Yield a path to write to, which then takes the place of `path`: a crash leaves the old file or the new, whole."""
    part = path.with_name(path.name + ".part")
    try:
        with named(path):
            yield part
            os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink()  # on a full disk half a file takes room
        raise


def append(path: Path, text: str, sync: bool = False) -> None:
    """Append a text, or nothing: where it does not fit the file stays as it was. `sync`: it is on disk at the end."""
    with named(path), path.open("ab", buffering=0) as file:
        before, rest = file.tell(), memoryview(text.encode())
        try:
            while rest:
                rest = rest[file.write(rest) :]
            if sync:
                os.fsync(file.fileno())
        except BaseException:
            file.truncate(before)
            raise


def read_text(path: Path) -> str:
    """Read a text; raises OSError, or ValueError if the file is no text or never ends, such as a pipe."""
    if path.exists() and not path.is_file():
        raise ValueError("it is not a file")
    return path.read_text(encoding="utf-8")


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold a run folder for this process, until the block or the process ends; InputError if another one has it."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"{folder} is in use: another process trains or measures this run; wait for it, or choose another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()
