"""The students' bodies for Habitat: a small net for CPUs, with or without the hints, and the paper's ResNet18 (A.5)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from navpick.layout import IMAGE_SIDE, NUM_HINTS
from ppo import Student


class DepthBody(nn.Module):
    """The body for Habitat: features of the depth image, joined with the other sensors, through a 2-layer MLP.

    An observation is one vector: the 64 x 64 depths in [0, 1], row by row, then S normalised sensor readings;
    what follows them is not read. A reading x goes in with sin and cos of pi x, 2 pi x, 4 pi x and 8 pi x,
    its Fourier features (Tancik et al. 2020): the arm's last centimetres decide, in readings that span metres.
    """

    FREQUENCIES = (1, 2, 4, 8)
    frequencies: Tensor

    def __init__(self, vision: nn.Module, vision_features: int, num_sensors: int, hidden: int) -> None:
        """`vision`: images (B, 1, 64, 64) -> (B, vision_features); `num_sensors`: S."""
        super().__init__()
        self.sizes = [IMAGE_SIDE**2, num_sensors]
        self.vision = vision
        self.register_buffer("frequencies", torch.pi * torch.tensor(self.FREQUENCIES), persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(vision_features + num_sensors * (1 + 2 * len(self.FREQUENCIES)), hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.ReLU(),
        )  # fmt: skip

    def forward(self, observations: Tensor) -> Tensor:
        """Return features (B, hidden) of observations (B, 64 * 64 + S)."""
        depths, sensors = observations[:, : sum(self.sizes)].split(self.sizes, dim=1)
        features = self.vision(depths.unflatten(1, (1, IMAGE_SIDE, IMAGE_SIDE)))
        phases = (sensors[:, None] * self.frequencies[:, None]).flatten(1)
        return self.layers(torch.cat([features, sensors, phases.sin(), phases.cos()], dim=1))


def normed_conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution with group norm (Wu & He 2018), which unlike batch norm treats each observation alone."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(32, outputs))


class ResidualBlock(nn.Module):
    """relu(x + F(x)), F two 3 x 3 convolutions; where F changes the shape, a 1 x 1 convolution changes that of x."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            normed_conv(inputs, outputs, 3, stride), nn.ReLU(), normed_conv(outputs, outputs, 3)
        )
        self.shortcut = nn.Identity() if inputs == outputs else normed_conv(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        return torch.relu(self.shortcut(x) + self.residual(x))


def resnet18() -> nn.Sequential:
    """Return ResNet18 (He et al. 2016, Table 1) for one channel, up to the averages: (B, 1, H, W) -> (B, 512)."""
    layers: list[nn.Module] = [normed_conv(1, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    for inputs, outputs, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)):
        layers += [ResidualBlock(inputs, outputs, stride), ResidualBlock(outputs, outputs, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def gaussian(parameters: Tensor) -> Distribution:
    """Return actions of D independent normal numbers, from means and log standard deviations (B, 2 D).

    Both come from the state: where a base may stray, an arm at work may not.
    """
    means, log_deviations = parameters.chunk(2, dim=-1)
    return Independent(Normal(means, log_deviations.exp(), validate_args=False), 1, validate_args=False)


def gaussian_student(body: nn.Module, features: int, num_actions: int, num_teachers: int, std: float) -> Student:
    """A student whose action is `num_actions` numbers; the last one ends the episode where it is above 0: "stop".

    It starts with standard deviation `std` and means near 0, but stop near -2. With a mean of 0, half of all first
    steps would be the last; now even at 0.5 the probability is 3.2e-5 a step (four deviations), 1.9% in 600 steps.
    """
    actor = nn.Linear(features, 2 * num_actions)
    nn.init.orthogonal_(actor.weight, 0.01)
    means, log_deviations = actor.bias.data.chunk(2)
    means.zero_()
    means[-1] = -2.0
    log_deviations.fill_(math.log(std))
    return Student(body, features, actor, nn.Linear(features, 1), num_teachers, gaussian)


def small_depth_student(num_actions: int, num_teachers: int = 1, *, num_sensors: int, std: float = 0.2) -> Student:
    """Return our student for Habitat on CPUs, 261,111 weights with 11 actions, one teacher, 19 sensor readings."""
    vision = nn.Sequential(
        nn.AvgPool2d(2),  # 32 x 32
        nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(),  # 16 x 16
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),  # 8 x 8
        nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(),  # 4 x 4
    )  # fmt: skip
    return gaussian_student(DepthBody(vision, 32 * 4 * 4, num_sensors, 256), 256, num_actions, num_teachers, std)


def guided_student(num_actions: int, num_teachers: int = 1, *, num_sensors: int, std: float = 0.2) -> Student:
    """Return our small student, which reads the hints, too: it knows the shortest path, as its teacher does."""
    return small_depth_student(num_actions, num_teachers, num_sensors=num_sensors + NUM_HINTS, std=std)


def resnet18_student(num_actions: int, num_teachers: int = 1, *, num_sensors: int, std: float = 0.2) -> Student:
    """Return the paper's, its "10M": 11,417,047 weights with 11 actions, one teacher, 19 sensor readings."""
    return gaussian_student(DepthBody(resnet18(), 512, num_sensors, 256), 256, num_actions, num_teachers, std)


STUDENTS = {"small": small_depth_student, "guided": guided_student, "paper": resnet18_student}
