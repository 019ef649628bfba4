"""Which idea of the small student lets plain PPO succeed? Its body without one of two; the published net with one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nets import NUM_COLORS, EgocentricGrid, PaperBody, find_agent, see_cells


class AbsoluteGrid(EgocentricGrid):
    """The map as it lies, neither moved nor turned: a code belongs to a cell of the room, not to an offset.

    The hundred inputs that tell what is near the agent tell in which cell it stands. The number of weights is the same,
    but the codes of offsets that are no cell's are never used.
    """

    def __init__(self, size: int = 10, **others: int) -> None:
        """Take the same arguments as `EgocentricGrid`; `size` is N."""
        super().__init__(size, **others)
        self.offsets = torch.arange(size**2).expand_as(self.offsets)  # the same wherever the agent stands and looks

    def show_near(self, symbols: Tensor, agent: Tensor) -> Tensor:
        """Return the agent's cell (B,) one-hot, (B, N * N)."""
        return nn.functional.one_hot(agent, self.offsets.shape[-1])


class IntegerGrid(EgocentricGrid):
    """MiniGrid's codes read as quantities, as the published net reads them, on the map as the agent sees it."""

    def __init__(self, size: int = 10, code: int = 16, color_code: int = 4, hidden: int = 64) -> None:
        """Take the same arguments as `EgocentricGrid`; there are fewer inputs to the layers."""
        super().__init__(size, code, color_code, hidden)
        inputs = code + color_code + len(self.near) + 4
        self.layers = nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh())

    def forward(self, memory: Tensor) -> Tensor:
        """Return features (B, hidden) of memories (B, N, N, 4), uint8."""
        kinds, colors, _, direction = self.turn(memory)
        objects = kinds / 10.0  # the largest code is the agent's own, 10
        palette = (colors + 1) % (NUM_COLORS + 1) / NUM_COLORS  # 0 where there is neither a key nor a door
        compass = nn.functional.one_hot(direction, 4)
        return self.layers(
            torch.cat([self.code(objects), self.color_code(palette), objects[:, self.near], compass], dim=1)
        )


class EgocentricPaperBody(PaperBody):
    """The published net's body on the map as the agent sees it: in the middle, looking along the first axis.

    What leaves the map at one edge comes in at the other, so that nothing is lost and no weight is added.
    """

    places: Tensor  # (N * N, 4, N * N): where every cell comes to lie, by the agent's cell and direction

    def __init__(self, size: int = 10) -> None:
        """`size`: N."""
        super().__init__()
        x, y = ((steps + size // 2) % size for steps in see_cells(size))
        self.register_buffer("places", x * size + y, persistent=False)

    def forward(self, memory: Tensor) -> Tensor:
        """Return features (B, 64 * N * N) of memories (B, N, N, 4), uint8."""
        cells = memory.flatten(1, 2)  # (B, N * N, 4)
        places = self.places[find_agent(cells)][..., None].expand_as(cells)
        return super().forward(torch.empty_like(cells).scatter_(1, places, cells).view_as(memory))
