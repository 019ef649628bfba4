"""Simulators in processes of their own, behind submit and result."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from navpick.dataset import HabitatError
from navpick.envs import HabitatEnv
from navpick.lab import NOISE, Settings, cure


def serve(pipe: Any) -> None:
    """Run a simulator in this process: answer what comes through the pipe until it is closed."""
    try:
        env = HabitatEnv(*pipe.recv())
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
        settings = settings._replace(folder=str(Path(settings.folder).resolve()))
        self.errors = tempfile.NamedTemporaryFile(prefix="habitat-", suffix=".log")  # noqa: SIM115
        self.pipe, theirs = Pipe()
        environment = {
            "OPENBLAS_NUM_THREADS": "1",  # more would only get in each other's way
            **os.environ,
            "NAVPICK_LOG": self.errors.name,  # a simulator that ends the process says there why
        }
        with open(self.errors.name, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "navpick.processes", str(theirs.fileno())],
                cwd=Path(__file__).resolve().parents[1], env=environment, pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL, stderr=log,
                start_new_session=True,  # Ctrl-C in a terminal is for the trainer
            )  # fmt: skip
        theirs.close()
        with self.watched():
            self.pipe.send((task, split, settings))
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
            code = self.process.wait()
            said = Path(self.errors.name).read_text(errors="replace").split("\n")
            words = [line for line in said if line.strip() and not any(noise in line for noise in NOISE)]
            last = words[-1] if words else "no word"
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise HabitatError(
                f"a simulator died ({how}): {last}; if it could not render, see that EGL works: a GPU driver, or Mesa"
            ) from None


if __name__ == "__main__":
    # habitat-sim and habitat-lab import torch where they find it, half of a simulator's memory, and do without
    # where they do not. A simulator does not need it.
    sys.modules["torch"] = None  # type: ignore[assignment]
    serve(Connection(int(sys.argv[1])))
