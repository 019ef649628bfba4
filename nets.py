"""The students' bodies: an MLP for any observation, and for MiniGrid's memory our small net and the published one.

python nets.py                      # the weights of each, as counted in the README
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Callable

import torch
from torch import Tensor, nn

try:
    from ppo import DiagonalGaussian, Student, categorical
except ModuleNotFoundError:
    if __name__ != "__main__":
        raise
    print("nets.py: wants ppo.py beside it", file=sys.stderr)
    raise SystemExit(2) from None

# MiniGrid's indices of what can stand in a cell that is not empty: unseen, wall, door, key, lava.
SYMBOLS = (0, 2, 4, 5, 9)
DOOR, KEY = 4, 5
NUM_COLORS = 6
NO_AGENT = 4  # last plane of the memory, where the agent is not


def see_cells(size: int) -> tuple[Tensor, Tensor]:
    """Return how far ahead and how far to the right every cell of an N x N map is, for each place of an agent.

    Both are (N * N, 4, N * N): of every cell, for an agent that stands in a cell and looks in a direction.
    """
    cells = torch.cartesian_prod(torch.arange(size), torch.arange(size))
    relative = cells - cells[:, None]  # (N * N of the agent, N * N, 2)
    ahead = relative @ torch.tensor([[1, 0, -1, 0], [0, 1, 0, -1]])  # (N * N, N * N, 4 directions)
    right = relative @ torch.tensor([[0, -1, 0, 1], [1, 0, -1, 0]])
    return ahead.transpose(1, 2).contiguous(), right.transpose(1, 2).contiguous()


def find_agent(cells: Tensor) -> tuple[Tensor, Tensor]:
    """Return the agent's cell and where it looks, both (B,), in memories laid flat, (B, N * N, 4)."""
    agent = (cells[..., 3] != NO_AGENT).int().argmax(1)
    return agent, cells[torch.arange(len(cells)), agent, 3].long()


class EgocentricGrid(nn.Module):
    """The small student's body: the memory seen from where the agent stands and looks.

    Every cell that is not empty has a symbol c, one of five objects, at an offset p from the agent, turned so that the
    agent looks along the first axis. A table holds a learned code E_p of D numbers for every offset; the map becomes

        x_c = sum of E_p over the n_c cells p that show symbol c / sqrt(max(n_c, 1)),    (5, D) numbers

    a low-rank linear layer on the one-hot map: for a single key x_c is the code of its offset, for "unseen" a picture
    of what is left to explore, and the root keeps its last cell from drowning in the scale of the first hundred. The
    colours of keys and doors are summed up in the same way, with shorter codes and no root. The cells that the next
    actions depend on, 5 wide and from one behind to two ahead, are also given one-hot. Two tanh layers follow.

    Without the agent's view plain PPO does not learn SimpleDoorKey, and with it the published net does, too
    (docs/results.md; doorkey/ablations.py).
    """

    offsets: Tensor  # (N * N, 4, N * N): of every cell, for an agent that stands in a cell and looks in a direction
    near: Tensor  # which offsets are given one-hot
    symbols: Tensor  # (5, 1)
    colors: Tensor  # (NUM_COLORS, 1)

    def __init__(self, size: int = 10, code: int = 16, color_code: int = 4, hidden: int = 64) -> None:
        """`size`: N; offsets reach N - 2 cells each way, because the outermost cells are walls."""
        super().__init__()
        self.reach = size - 2
        self.side = 2 * self.reach + 1  # offsets form a square of side * side
        self.code = nn.Linear(self.side**2, code, bias=False)
        self.color_code = nn.Linear(self.side**2, color_code, bias=False)
        for table in (self.code, self.color_code):
            nn.init.normal_(table.weight, std=0.3)
        near = [
            (ahead + self.reach) * self.side + right + self.reach for ahead in range(-1, 3) for right in range(-2, 3)
        ]
        inputs = len(SYMBOLS) * (code + len(near)) + NUM_COLORS * color_code + 4
        self.layers = nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh())
        ahead, right = see_cells(size)
        offsets = (ahead + self.reach) * self.side + right + self.reach  # in 0 .. side * side - 1
        self.register_buffer("offsets", offsets, persistent=False)
        self.register_buffer("near", torch.tensor(near), persistent=False)
        self.register_buffer("symbols", torch.tensor(SYMBOLS, dtype=torch.uint8)[:, None], persistent=False)
        self.register_buffer("colors", torch.arange(NUM_COLORS, dtype=torch.uint8)[:, None], persistent=False)

    def turn(self, memory: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return a memory (B, N, N, 4) as its agent sees it.

        Objects and colours of keys and doors at every offset, both (B, side * side), then the agent's cell and where
        it looks, (B,).
        """
        cells = memory.flatten(1, 2)  # (B, N * N, 4)
        kind, color = cells[..., 0], cells[..., 1]
        agent, direction = find_agent(cells)
        offset = self.offsets[agent, direction]  # (B, N * N)
        kinds = memory.new_ones(len(memory), self.side**2)  # 1: empty
        kinds.scatter_(1, offset, kind)
        colors = torch.full_like(kinds, NUM_COLORS)
        colors.scatter_(1, offset, torch.where((kind == DOOR) | (kind == KEY), color, NUM_COLORS))
        return kinds, colors, agent, direction

    def forward(self, memory: Tensor) -> Tensor:
        """Return features (B, hidden) of memories (B, N, N, 4), uint8."""
        kinds, colors, agent, direction = self.turn(memory)
        symbols = (kinds[:, None] == self.symbols).float()  # (B, 5, side * side)
        palette = (colors[:, None] == self.colors).float()  # (B, NUM_COLORS, side * side)
        compass = nn.functional.one_hot(direction, 4)
        spread = symbols.sum(-1, keepdim=True).clamp_min(1).sqrt()  # (B, 5, 1)
        parts = (self.code(symbols) / spread, self.color_code(palette), self.show_near(symbols, agent), compass)
        return self.layers(torch.cat([part.flatten(1) for part in parts], dim=1))

    def show_near(self, symbols: Tensor, agent: Tensor) -> Tensor:
        """Return the symbols (B, 5, side * side) of the cells near the agent, one-hot; its cell (B,) is not needed."""
        return symbols[..., self.near]


class PaperBody(nn.Module):
    """The body of the published net: three 3 x 3 convolutions over the raw integers of the memory (B, N, N, 4)."""

    def __init__(self) -> None:
        """23,728 weights: the "24K" that the paper counts."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(4, 16, 3, padding=1), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Flatten(),
        )  # fmt: skip

    def forward(self, memory: Tensor) -> Tensor:
        """Return features (B, 64 * N * N) of memories (B, N, N, 4), uint8."""
        return self.layers(memory.permute(0, 3, 1, 2).float())


def small_student(
    num_actions: int, num_teachers: int = 1, hidden: int = 64, body: type[EgocentricGrid] = EgocentricGrid
) -> Student:
    """Return our student for the MiniGrid tasks: the whole net, actor and critic, has 23,836 weights."""
    actor, critic = nn.Linear(hidden, num_actions), nn.Linear(hidden, 1)
    nn.init.orthogonal_(actor.weight, 0.01)  # starts near the uniform policy
    return Student(body(hidden=hidden), hidden, actor, critic, num_teachers)


def paper_student(
    num_actions: int, num_teachers: int = 1, size: int = 10, body: Callable[[], nn.Module] = PaperBody
) -> Student:
    """Return the net of the published code, 843,576 weights with seven actions and one teacher."""
    features = 64 * size * size

    def head(outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(features, 64), nn.ReLU(), nn.Linear(64, outputs))

    return Student(body(), features, head(num_actions), head(1), num_teachers)


class FlatBody(nn.Module):
    """Two tanh layers on a flattened observation of any number type."""

    def __init__(self, inputs: int, hidden: int) -> None:
        """`inputs`: numbers in an observation."""
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh())

    def forward(self, observations: Tensor) -> Tensor:
        """Return features (B, hidden) of observations (B, ...)."""
        return self.layers(observations.flatten(1).float())


def mlp_student(
    inputs: int, num_actions: int, num_teachers: int = 1, std: float | None = None, hidden: int = 64
) -> Student:
    """Return a student for any flat observation.

    num_actions: to choose from, or with `std`, a Gaussian's standard deviation at the start, the action's numbers.
    """
    actor = nn.Linear(hidden, num_actions)
    nn.init.orthogonal_(actor.weight, 0.01)  # starts near the uniform policy, or near 0
    nn.init.zeros_(actor.bias)
    policy = categorical if std is None else DiagonalGaussian(num_actions, std)
    return Student(FlatBody(inputs, hidden), hidden, actor, nn.Linear(hidden, 1), num_teachers, policy)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the number of weights of each student, for seven actions and one teacher."""
    argparse.ArgumentParser(description=main.__doc__, usage=argparse.SUPPRESS).parse_args(arguments)
    for name, student in (("small", small_student(7)), ("paper", paper_student(7)), ("mlp", mlp_student(10, 7))):
        print(f"{name:8}{sum(weights.numel() for weights in student.parameters()):9,} weights")


if __name__ == "__main__":
    main()
