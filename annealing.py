"""How much the student listens to its teacher: lambda_i of Eq. (2), over the iterations i (Eq. (3) and A.7).

    python annealing.py                 # prints the schedules and plots them to annealing.png

stepwise falls linearly from lambda_0 to lambda_c over the first i1 iterations, stays there until i2, and is 0 from
then on; A.7 compares it with a constant and a linear schedule. Where lambda is 0 the teacher is not asked any more.
In every schedule i2 is the iteration at which the teacher leaves.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Callable

Schedule = Callable[..., float]  # of (i, lambda_0, lambda_c, i1, i2)


def stepwise(i: int, lambda_0: float, lambda_c: float, i1: int, i2: int) -> float:
    """Return lambda_i of Eq. (3): lambda_0 - k * i for i < i1; lambda_c for i1 <= i < i2; 0 for i >= i2.

    k = (lambda_0 - lambda_c) / i1, the fall per iteration i, counted from 0.  lambda_0, lambda_c: first and held value.
    The paper's MiniGrid values of the four: 10, 0.1, 1000, 2000.
    """
    if i < i1:
        return lambda_0 - (lambda_0 - lambda_c) / i1 * i
    return lambda_c if i < i2 else 0.0


def constant(i: int, lambda_0: float, lambda_c: float, i1: int, i2: int) -> float:
    """Return lambda_c for i < i2, then 0: A.7's first schedule; `lambda_0` and `i1` play no part."""
    return lambda_c if i < i2 else 0.0


def linear(i: int, lambda_0: float, lambda_c: float, i1: int, i2: int) -> float:
    """Return lambda_0 * (1 - i / i2) for i < i2, then 0: A.7's second; `lambda_c` and `i1` play no part."""
    return lambda_0 * (1 - i / i2) if i < i2 else 0.0


SCHEDULES: dict[str, Schedule] = {"stepwise": stepwise, "constant": constant, "linear": linear}


def check_schedule(lambda_0: float, lambda_c: float, i1: int, i2: int) -> None:
    """Raise ValueError unless 0 <= lambda_c <= lambda_0 < infinity and 0 <= i1 <= i2."""
    if not 0 <= lambda_c <= lambda_0 < float("inf"):
        raise ValueError(
            f"lambda_0 is {lambda_0} and lambda_c is {lambda_c}; they must satisfy 0 <= lambda_c <= lambda_0"
        )
    if not 0 <= i1 <= i2:
        raise ValueError(f"i1 is {i1} and i2 is {i2}; they must satisfy 0 <= i1 <= i2")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print lambda at a few iterations for the paper's values, and plot the three schedules."""
    argparse.ArgumentParser(description=main.__doc__, usage=argparse.SUPPRESS).parse_args(arguments)
    os.environ["MPLBACKEND"] = "Agg"  # a notebook's may not be installed where this runs
    import matplotlib.pyplot as plt

    lambda_0, lambda_c, i1, i2 = 10.0, 0.1, 1000, 2000
    check_schedule(lambda_0, lambda_c, i1, i2)
    print("iteration " + "".join(f"{name:>10}" for name in SCHEDULES))
    for i in range(0, i2 + 501, 250):
        print(
            f"{i:9d} " + "".join(f"{schedule(i, lambda_0, lambda_c, i1, i2):10.3f}" for schedule in SCHEDULES.values())
        )
    figure, axes = plt.subplots(figsize=(7, 4))
    for (name, schedule), style in zip(SCHEDULES.items(), ("-", ":", "--")):
        axes.plot([schedule(i, lambda_0, lambda_c, i1, i2) for i in range(i2 + 501)], style, label=name)
    axes.set(
        xlabel="iteration",
        ylabel="lambda",
        ylim=(0, 2 * lambda_0),
        title="Annealing schedules (Eq. 3 and A.7)",
    )
    axes.set_yscale("symlog", linthresh=lambda_c)
    axes.legend()
    figure.savefig("annealing.png", dpi=150, bbox_inches="tight")
    print("plotted to annealing.png")


if __name__ == "__main__":
    main()
