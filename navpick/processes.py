"""Simulators in processes of their own, behind submit and result."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from navpick.dataset import HabitatError
from navpick.envs import HabitatEnv
from navpick.lab import NOISE, Settings, cure


def serve(pipe: Any, task: str, split: str, settings: Settings, errors: str) -> None:
    """Run a simulator in this process: answer what comes through the pipe until it is closed."""
    os.dup2(os.open(errors, os.O_WRONLY | os.O_APPEND), 2)
    os.environ["NAVPICK_LOG"] = errors  # a simulator that ends the process says there why
    try:
        env = HabitatEnv(task, split, settings)
        pipe.send(None)
        while True:
            name, arguments = pipe.recv()
            pipe.send(getattr(env, name)(**arguments))
    except EOFError:
        pass
    except Exception as error:
        told = (f"the simulator failed: {error!r}", cure(error, otherwise=""))
        pipe.send(error if isinstance(error, HabitatError) else HabitatError("; ".join(filter(None, told))))


class ProcessEnv:
    """A `HabitatEnv` in a process of its own; HabitatError from whatever ends it, also where it aborts."""

    def __init__(self, task: str, split: str, settings: Settings) -> None:
        """Start the process, which ends with this object; the simulator is there once it answers to a first reset."""
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # for the child: more would only get in each other's way
        context = multiprocessing.get_context("spawn")
        self.errors = tempfile.NamedTemporaryFile(prefix="habitat-", suffix=".log")  # noqa: SIM115
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=serve, args=(theirs, task, split, settings, self.errors.name), daemon=True
        )
        resource_tracker.ensure_running()  # whose start would unblock the signal
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # for the child: Ctrl-C is for the trainer
        self.process.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self.started = False

    def submit(self, method: str, **arguments: Any) -> None:
        """Start a method call; `result` waits for what it returns."""
        with self.watched():
            if not self.started:
                self.result()
                self.started = True
            self.pipe.send((method, arguments))

    def result(self) -> Any:
        """Return the result; re-raise an error of the simulator process."""
        with self.watched():
            answer = self.pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Wrap the use of the pipe: where it breaks, the simulator died; report the last line of its error log."""
        try:
            yield
        except (EOFError, OSError):
            self.process.join(10)
            said = Path(self.errors.name).read_text(errors="replace").split("\n")
            words = [line for line in said if line.strip() and not any(noise in line for noise in NOISE)]
            last = words[-1] if words else "no word"
            code = self.process.exitcode or 0
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise HabitatError(
                f"a simulator died ({how}): {last}; if it could not render, see that EGL works: a GPU driver, or Mesa"
            ) from None
