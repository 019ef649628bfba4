"""DD-PPO (Wijmans et al. 2020): decentralised, distributed, synchronous; no server, every worker learns.

    python train.py --workers 4                # four workers, each with its own rooms and the same student
    torchrun --nproc_per_node=4 train.py       # the same; with torchrun's other flags on several machines
    python -m harness.workers                  # two workers' averaged gradient beside that of their joined batch

A worker collects experience with its own rooms, then all go through the same gradient steps: each takes the gradient
on its own rows of a minibatch, and the mean over all rows of all workers is what every optimizer gets. Weights
that start equal stay equal, so they are never sent. Under torchrun slow workers are preempted: once a share of the
workers has collected its experience, the others stop where they are.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import IO, Any, Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from harness import terminal
from harness.cli import Parser, errors_in_one_line

SYNC_FRACTION = 0.6  # share of the workers that must be done before the others are preempted; Wijmans et al.'s


# In the environment of a worker that another one started: where that one's store listens.
STORE_PORT = "LLM4TEACH_STORE_PORT"


class LostWorkerError(RuntimeError):
    """Another worker is gone, or did not answer in time."""


@contextmanager
def peer_failures() -> Iterator[None]:
    """Turn errors of a collective operation into LostWorkerError: what fails there failed because of another worker."""
    try:
        yield
    except RuntimeError as error:
        reason = "it is gone" if "losed by peer" in str(error) or "reset by peer" in str(error) else str(error)
        raise LostWorkerError(f"another worker was lost: {reason}".splitlines()[0]) from None


def count_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_starter() -> None:
    """Wait until the process that started this one is gone, however it ended, and end, too."""
    os.read(0, 1)  # its end of this pipe closes with it
    os._exit(0)


class Workers:
    """All workers as one of them sees them; a single process is one worker, and sends nothing."""

    def __init__(self) -> None:
        """Read the environment in which torchrun, or the worker of rank 0, started this process."""
        self.rank, self.world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.local_rank = int(os.environ.get("LOCAL_RANK", 0))
        self.by_torchrun = "WORLD_SIZE" in os.environ and STORE_PORT not in os.environ
        self.store: Any = None
        self.started: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []  # by this one, each with its stderr
        if STORE_PORT in os.environ:
            threading.Thread(target=end_with_starter, daemon=True).start()
            self.store = dist.TCPStore("127.0.0.1", int(os.environ[STORE_PORT]))

    def start(self, command: Sequence[str], world_size: int) -> None:
        """Start, on this machine, the workers that are missing to that many; they end with this one."""
        if world_size == self.world_size:
            return
        self.store, self.world_size = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False), world_size
        for rank in map(str, range(1, world_size)):
            names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": str(world_size), STORE_PORT: str(self.store.port)}
            errors = tempfile.TemporaryFile()  # noqa: SIM115
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stderr=errors, env={**os.environ, **names},
                start_new_session=True,  # Ctrl-C is for the worker of rank 0
            )  # fmt: skip
            self.started.append((process, errors))

    def join(self, timeout: timedelta = timedelta(minutes=30)) -> None:
        """Join the process group of all workers.  `timeout`: how long one waits for the others, here and later."""
        if self.world_size == 1:
            return
        with peer_failures():
            if self.rank > 0 and self.store:
                self.store.add("ready", 1)
            while self.started and self.store.add("ready", 0) < len(self.started):
                if any(process.poll() is not None for process, _ in self.started):
                    raise RuntimeError("it ended before it began")
                time.sleep(0.02)
            own_gpus = int(os.environ.get("LOCAL_WORLD_SIZE", self.world_size)) <= torch.cuda.device_count()
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if own_gpus else "gloo", timeout=timeout, store=self.store, rank=self.rank,
                world_size=self.world_size,
            )  # fmt: skip
            self.store = dist.distributed_c10d._get_default_store()

    def leave(self) -> None:
        """Leave the process group, if this worker is in it, and end the workers that this one started."""
        if dist.is_initialized():
            dist.destroy_process_group()
        for process, _ in self.started:
            process.communicate()  # closes the pipe that they wait for

    def end_like_the_lost(self) -> None:
        """End with the words and the exit code of the worker whose error cost the others their connection, if any had.

        A worker that another one started ends without a word.
        """
        if self.rank > 0 and not self.by_torchrun:
            raise SystemExit(0)
        for process, errors in self.started:
            with suppress(subprocess.TimeoutExpired):
                if process.wait(10) > 0:
                    errors.seek(0)
                    sys.stderr.write(errors.read().decode(errors="replace"))
                    raise SystemExit(process.returncode)

    def broadcast(self, text: str) -> str:
        """Broadcast a text from rank 0."""
        texts = [text]
        if self.world_size > 1:
            with peer_failures():
                dist.broadcast_object_list(texts)
        return texts[0]

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows of all workers, (N, ...), in the order of ranks, from each one's (n, ...); n may differ."""
        if self.world_size == 1:
            return rows
        own = torch.tensor([len(rows)], device=rows.device)
        counts = [torch.zeros_like(own) for _ in range(self.world_size)]
        with peer_failures():
            dist.all_gather(counts, own)
            padded = rows.new_zeros(int(max(counts)), *rows.shape[1:])
            padded[: len(rows)] = rows
            pieces = [torch.empty_like(padded) for _ in counts]
            dist.all_gather(pieces, padded)
        return torch.cat([piece[:count] for piece, count in zip(pieces, counts)])

    def average_gradients(self, parameters: Iterable[nn.Parameter], rows: int) -> None:
        """Replace each worker's gradient, of a mean over its own `rows`, by that of the mean over all workers' rows.

        g = sum_r n_r g_r / sum_r n_r, the same sum in the same order for all; a worker without rows adds nothing.
        """
        if self.world_size == 1:
            return
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = torch.cat([gradient.flatten() for gradient in gradients] + [gradients[0].new_ones(1)]) * rows
        with peer_failures():
            dist.all_reduce(flat)
        at = 0
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = (flat[at : at + gradient.numel()] / flat[-1]).view_as(gradient)
            at += gradient.numel()

    def sum(self, number: int) -> int:
        """Sum a number over all workers."""
        return int(self.gather(torch.tensor([number])).sum())

    def mean(self, numbers: dict[str, float]) -> dict[str, float]:
        """Return the means over all workers, each of which brings the same names."""
        rows = self.gather(torch.tensor([list(numbers.values())], dtype=torch.float64))
        return dict(zip(numbers, rows.mean(0).tolist()))

    @contextmanager
    def preemptible(self, iteration: int) -> Iterator[Callable[[], bool]]:
        """Wrap a worker's collection; yields a function that returns whether it is among the last and should stop."""
        enough = math.ceil(SYNC_FRACTION * self.world_size)
        # With one worker or two nobody is preempted, and asking at every step costs time. On one machine all are
        # about as fast, and without preemption, which depends on timing, the same seed gives the same numbers.
        if enough == self.world_size or not self.by_torchrun:
            yield lambda: False
        else:
            done = f"workers done with iteration {iteration}"
            yield lambda: self.store.add(done, 0) >= enough
            self.store.add(done, 1)


def demo_gradient(workers: Workers, rows: Tensor, targets: Tensor) -> list[float]:
    """Return the gradient of a linear model's mean squared error, averaged over all workers."""
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    (model(rows).squeeze(-1) - targets).pow(2).mean().backward()
    workers.average_gradients(list(model.parameters()), len(rows))
    return [p.grad.flatten()[0].item() for p in model.parameters() if p.grad is not None]


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare the gradient that two workers average with that of one process on their joined rows."""
    with errors_in_one_line("harness.workers"):
        Parser(prog="-m harness.workers", description=main.__doc__).parse_args(arguments)
        workers = Workers()
        workers.start([sys.executable, "-m", "harness.workers"], 2)
        workers.join()
        torch.manual_seed(1)
        rows, targets = torch.randn(64, 8), torch.randn(64)
        own = slice(0, 20) if workers.rank == 0 else slice(20, None)
        print(f"worker {workers.rank} of 2       {demo_gradient(workers, rows[own], targets[own])}", flush=True)
        workers.leave()
        if workers.rank == 0:
            print(f"alone, joined rows  {demo_gradient(Workers(), rows, targets)}")


if __name__ == "__main__":
    terminal.run(main)
