"""What the numbers of a run must be like, before they are written and, where a file may come from elsewhere, read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

LARGEST = 2**63 - 1  # that a tensor and TensorBoard can count to
CUDA_STATE = 16  # bytes of a GPU's random numbers, behind those of the CPU


def not_finite(value: Any, name: str = "") -> Iterator[str]:
    """Yield the names, such as student.actor.weight, of what is not finite in dictionaries, lists and tensors."""
    if isinstance(value, (dict, list, tuple)):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from not_finite(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, torch.Tensor):
        if not torch.isfinite(value).all():
            yield name
    elif isinstance(value, float) and not math.isfinite(value):
        yield name


def check_state(state: dict[str, Any], student: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Raise an exception where a checkpoint holds what cannot have been written for this student and optimizer."""
    for name in ("iteration", "steps"):
        if type(state[name]) is not int or not 0 <= state[name] <= LARGEST:
            raise ValueError(f"{name} is {state[name]!r:.40}")
    for name in not_finite(state):
        raise ValueError(f"{name} is not finite")
    for name, weights in student.state_dict().items():
        if name in state["student"] and state["student"][name].dtype != weights.dtype:
            raise ValueError(f"student.{name} is of type {state['student'][name].dtype}")
    (own,), (stored,) = optimizer.param_groups, state["optimizer"]["param_groups"]
    if stored["lr"] < 0:
        raise ValueError(f"the learning rate is {stored['lr']}")
    for name in ("betas", "eps", "weight_decay", "amsgrad", "maximize"):
        if stored[name] != own[name]:
            raise ValueError(f"the optimizer's {name} is {stored[name]!r:.40}, not {own[name]}")
    for number, moments in state["optimizer"]["state"].items():
        shapes = {moments[name].shape for name in ("exp_avg", "exp_avg_sq")}
        if shapes != {own["params"][number].shape} or moments["exp_avg_sq"].min() < 0:
            raise ValueError(f"the optimizer's moments of weight {number} are not those of this student")
        if not 0 <= moments["step"] <= LARGEST:
            raise ValueError(f"the optimizer's step is {moments['step']}")
    on_cpu, random = len(torch.get_rng_state()), state["random"]
    if random.dtype != torch.uint8 or random.dim() != 2 or random.shape[1] not in (on_cpu, on_cpu + CUDA_STATE):
        raise ValueError(f"the random numbers' state is of shape {tuple(random.shape)} and type {random.dtype}")


def check_rows(rows: Sequence[dict[str, Any]], iterations: int, steps: int) -> None:
    """Raise ValueError unless rows are those of a run with a checkpoint after that many iterations and steps.

    A run that was killed can be a row ahead of its checkpoint.
    """
    if [row["iteration"] for row in rows] != list(range(len(rows))):
        raise ValueError("its rows are not those of iterations 0, 1, 2, ...")
    if not iterations <= len(rows) <= iterations + 1:
        raise ValueError(f"it has {len(rows)} rows, and checkpoint.pt was written after {iterations} iterations")
    counts = [0, *(row["steps"] for row in rows)]
    if any(after <= before for before, after in zip(counts, counts[1:])):
        raise ValueError("its steps do not increase")
    if counts[iterations] != steps:
        raise ValueError(f"it has {counts[iterations]} steps after {iterations} iterations, checkpoint.pt has {steps}")
