"""PPO with a distillation term: the student of LLM4Teach (paper section 3.3, Table 1).

    python ppo.py                       # plain PPO, lambda = 0, solves CartPole-v1 in about 20 seconds

L(theta) = L_RL(theta) + lambda * E[H(pi_T(. | s), pi_theta(. | s))], Eq. (2).  L_RL is clipped PPO (Schulman et al.
2017): policy, value and entropy terms. H is the KL divergence for categorical policies (MiniGrid) and the squared
Wasserstein-2 distance for Gaussian ones (Habitat); see `distance`.

Shapes: B observations in a batch, T steps, A actions to choose from or an action of D numbers, K teachers: the options,
or 1 where they are mixed already.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, Normal


def gae(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    ended: Tensor,
    discount: float,
    gae_lambda: float,
) -> Tensor:
    """Generalised advantage estimation (Schulman et al. 2016) over trajectories laid end to end.

    delta_t = r_t + discount * V(s_{t+1}) * (1 - terminated_t) - V(s_t)
    A_t = delta_t + discount * gae_lambda * (1 - ended_t) * A_{t+1}

    rewards, values, next_values: (T,) floats; next_values[t] is V of the state that step t led to, also at a
    trajectory's last step.
    terminated: (T,) bool, the task ended there: nothing follows, so nothing is bootstrapped.
    ended: (T,) bool, the trajectory's last step. Ended but not terminated means cut off by the time limit: the
    episode would have gone on, so its last step bootstraps from next_values.
    """
    deltas = rewards + discount * next_values.masked_fill(terminated, 0.0) - values
    decay = (discount * gae_lambda * ~ended).tolist()
    advantage, advantages = 0.0, deltas.tolist()
    for t in reversed(range(len(advantages))):
        advantage = advantages[t] = advantages[t] + decay[t] * advantage
    return torch.tensor(advantages, dtype=rewards.dtype, device=rewards.device)


def normalize(advantages: Tensor, everyone: Tensor | None = None) -> Tensor:
    """Zero mean, unit standard deviation over the batch, (T,); a single step's advantage becomes 0.

    everyone: the advantages of all workers, where there are several, to take mean and deviation over instead.
    """
    everyone = advantages if everyone is None else everyone
    deviation = everyone.std() if len(everyone) > 1 else everyone.new_ones(())
    return (advantages - everyone.mean()) / (deviation + 1e-8)


def clipped_policy_loss(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """PPO's surrogate -mean(min(r A, clip(r, 1 - clip, 1 + clip) A)); inputs (B,).

    r = pi_theta(a | s) / pi_old(a | s), the ratio of the probabilities now and when the action was taken.
    """
    ratio = (log_probs - old_log_probs).exp()
    return -torch.min(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages).mean()


def kl_to_teacher(teacher: Tensor, student: Categorical) -> Tensor:
    """H of Eq. (2) for categorical policies, KL(pi_T || pi_theta) = sum_a pi_T(a) log(pi_T(a) / pi_theta(a)), (B,).

    teacher: (B, A) probabilities, zeros allowed (0 log 0 = 0); gradients flow into both sides.
    """
    return (teacher * (teacher.clamp_min(1e-10).log() - student.logits)).sum(-1)


def mix_teachers(weights: Tensor, teachers: Tensor) -> Tensor:
    """sum_k w_k pi_k(. | s), (B, A), from weights (B, K) that add up to 1 and the teachers' policies (B, K, A)."""
    return (weights.unsqueeze(-1) * teachers).sum(-2)


def wasserstein_squared(teachers: Tensor, student: Distribution) -> Tensor:
    """W2^2 of Eq. (2) between diagonal Gaussians, |m_k - m|^2 + |s_k - s|^2, (B, K).

    W2^2(pi_k, pi_theta) is the least E|X - Y|^2 of all couplings: joint distributions with X ~ pi_k and Y ~ pi_theta.
    E|X - Y|^2 = |m_k - m|^2 + sum_d Var(X_d - Y_d). A covariance is at most the product of the standard deviations, so
    Var(X_d - Y_d) >= (s_kd - s_d)^2; the coupling X = m_k + (Y - m) s_k / s has equality in every d.

    teachers: (B, K, 2, D), means m_k and standard deviations s_k, which may be 0; student: m and s, (B, D).
    """
    means, deviations = teachers.unbind(-2)  # (B, K, D) each
    return (means - student.mean[:, None]).pow(2).sum(-1) + (deviations - student.stddev[:, None]).pow(2).sum(-1)


def distance(weights: Tensor, teachers: Tensor, policy: Distribution) -> Tensor:
    """H(pi_T, pi_theta) of Eq. (2) for pi_T = sum_k w_k pi_k, (B,); gradients flow into weights and policy.

    Categorical policy, teachers (B, K, A): KL(pi_T || pi_theta).

    Gaussian policy, teachers (B, K, 2, D): sum_k w_k W2^2(pi_k, pi_theta) >= W2^2(pi_T, pi_theta), which has no closed
    form. Let (X_k, Y_k) be an optimal coupling of pi_k and pi_theta, draw k with probability w_k and take that pair.
    Its X follows pi_T; its Y follows pi_theta whatever k is. So this is a coupling of pi_T and pi_theta, its E|X - Y|^2
    is the sum, and W2^2 is the least over all couplings. For K = 1 both are equal; in the mean m of pi_theta they
    always have the same gradient, 2 (m - sum_k w_k m_k). The bound is least at mean sum_k w_k m_k and standard
    deviation sum_k w_k s_k; what is left there is how much the teachers differ.

    weights: (B, K), rows add up to 1; a row of zeros, nobody with anything to say, has distance 0.
    """
    if isinstance(policy, Categorical):
        return kl_to_teacher(mix_teachers(weights, teachers), policy)
    return (weights * wasserstein_squared(teachers, policy)).sum(-1)


def weigh_teachers(logits: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """w_k = shares_k exp(logit_k) / sum_j shares_j exp(logit_j), (B, K), and KL(w || shares / sum_j shares_j), (B,).

    LLM4Teach: equal logits, so w = shares, and the KL is 0. Hierarchical: shares are 1 where option k can act, else 0,
    so w is the student's softmax over those, and the KL is to uniform weights. Shares of 0 only: w and the KL are 0.

    shares: (B, K), each row adds up to 1 or counts who can act; logits: (B, K) or (B, 1).
    """
    silent = shares == 0
    log_shares = shares.log().masked_fill(silent, 0.0)
    log_weights = (logits + log_shares).masked_fill(silent, -1e9).log_softmax(-1)
    weights = log_weights.exp().masked_fill(silent, 0.0)
    return weights, shares.sum(-1).clamp_min(1).log() + (weights * (log_weights - log_shares)).sum(-1)


class Output(NamedTuple):
    """What the student says of a batch of observations."""

    policy: Distribution  # pi_theta(. | s)
    value: Tensor  # V(s), (B,)
    teacher_logits: Tensor  # (B, K), unnormalised log weights of its teachers; (B, 1) zeros: it does not weigh them


def categorical(logits: Tensor) -> Distribution:
    """A choice of A actions from logits (B, A)."""
    return Categorical(logits=logits, validate_args=False)


class DiagonalGaussian(nn.Module):
    """Actions of D independent normal numbers: means (B, D) from the state, one learned log s (D,) for all states."""

    def __init__(self, num_actions: int, std: float) -> None:
        """`num_actions`: D; `std`: s at the start."""
        super().__init__()
        self.log_std = nn.Parameter(torch.full((num_actions,), std).log())

    def forward(self, means: Tensor) -> Distribution:
        """The policy with these means; log_prob and entropy are (B,)."""
        return Independent(Normal(means, self.log_std.exp(), validate_args=False), 1, validate_args=False)


class Student(nn.Module):
    """Actor and critic on one body; for num_teachers > 1 also a policy over teachers (Matthews et al. 2022)."""

    def __init__(
        self,
        body: nn.Module,
        features: int,
        actor: nn.Module,
        critic: nn.Module,
        num_teachers: int = 1,
        policy: Callable[[Tensor], Distribution] = categorical,
    ) -> None:
        """`body`: observations (B, ...) -> (B, features); `actor`: -> what `policy` takes; `critic`: -> (B, 1)."""
        super().__init__()
        self.body, self.actor, self.critic, self.policy = body, actor, critic, policy
        self.num_teachers = num_teachers
        if num_teachers > 1:
            self.over_teachers = nn.Linear(features, num_teachers)

    def forward(self, observations: Tensor) -> Output:
        """Policy, value and teacher weights for observations (B, ...)."""
        features = self.body(observations)
        alone = features.new_zeros(len(features), 1)
        return Output(
            self.policy(self.actor(features)),
            self.critic(features).squeeze(-1),
            self.over_teachers(features) if self.num_teachers > 1 else alone,
        )


# MiniGrid's indices of what can stand in a cell that is not empty: unseen, wall, door, key, lava.
SYMBOLS = (0, 2, 4, 5, 9)
DOOR, KEY = 4, 5
NUM_COLORS = 6
NO_AGENT = 4  # last plane of the memory, where the agent is not


class EgocentricGrid(nn.Module):
    """The small student's body: the memory seen from where the agent stands and looks.

    Every cell that is not empty has a symbol c, one of five objects, at an offset p from the agent, turned so that the
    agent looks along the first axis. A table holds a learned code E_p of D numbers for every offset; the map becomes

        x_c = sum of E_p over the n_c cells p that show symbol c / sqrt(max(n_c, 1)),    (5, D) numbers

    a low-rank linear layer on the one-hot map: for a single key x_c is the code of its offset, for "unseen" a picture
    of what is left to explore, and the root keeps its last cell from drowning in the scale of the first hundred. The
    colours of keys and doors are summed up likewise, with shorter codes and no root. The cells that the next actions
    depend on, 5 wide and from one behind to two ahead, are given one-hot besides. Two tanh layers follow.
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
        cells = torch.cartesian_prod(torch.arange(size), torch.arange(size))
        relative = cells - cells[:, None]  # (N * N of the agent, N * N, 2)
        ahead = relative @ torch.tensor([[1, 0, -1, 0], [0, 1, 0, -1]])  # (N * N, N * N, 4 directions)
        right = relative @ torch.tensor([[0, -1, 0, 1], [1, 0, -1, 0]])
        offsets = (ahead + self.reach) * self.side + right + self.reach  # in 0 .. side * side - 1
        self.register_buffer("offsets", offsets.transpose(1, 2).contiguous(), persistent=False)
        self.register_buffer("near", torch.tensor(near), persistent=False)
        self.register_buffer("symbols", torch.tensor(SYMBOLS, dtype=torch.uint8)[:, None], persistent=False)
        self.register_buffer("colors", torch.arange(NUM_COLORS, dtype=torch.uint8)[:, None], persistent=False)

    def forward(self, memory: Tensor) -> Tensor:
        """Features (B, hidden) of memories (B, N, N, 4), uint8."""
        cells = memory.flatten(1, 2)  # (B, N * N, 4)
        kind, color = cells[..., 0], cells[..., 1]
        agent = (cells[..., 3] != NO_AGENT).int().argmax(1)  # (B,)
        direction = cells[torch.arange(len(cells)), agent, 3].long()  # (B,)
        offset = self.offsets[agent, direction]  # (B, N * N)
        turned = memory.new_ones(len(memory), self.side**2)  # 1: empty
        turned.scatter_(1, offset, kind)
        colors = torch.full_like(turned, NUM_COLORS)
        colors.scatter_(1, offset, torch.where((kind == DOOR) | (kind == KEY), color, NUM_COLORS))
        symbols = (turned[:, None] == self.symbols).float()  # (B, 5, side * side)
        palette = (colors[:, None] == self.colors).float()  # (B, NUM_COLORS, side * side)
        compass = nn.functional.one_hot(direction, 4)
        spread = symbols.sum(-1, keepdim=True).clamp_min(1).sqrt()  # (B, 5, 1)
        parts = (self.code(symbols) / spread, self.color_code(palette), symbols[..., self.near], compass)
        return self.layers(torch.cat([part.flatten(1) for part in parts], dim=1))


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
        """Features (B, 64 * N * N)."""
        return self.layers(memory.permute(0, 3, 1, 2).float())


def small_student(num_actions: int, num_teachers: int = 1, hidden: int = 64) -> Student:
    """Our student for the MiniGrid tasks: the whole net, actor and critic, has 23,836 weights."""
    actor, critic = nn.Linear(hidden, num_actions), nn.Linear(hidden, 1)
    nn.init.orthogonal_(actor.weight, 0.01)  # starts near the uniform policy
    return Student(EgocentricGrid(hidden=hidden), hidden, actor, critic, num_teachers)


def paper_student(num_actions: int, num_teachers: int = 1, size: int = 10) -> Student:
    """The net of the published code, 843,576 weights with seven actions and one teacher."""
    features = 64 * size * size

    def head(outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(features, 64), nn.ReLU(), nn.Linear(64, outputs))

    return Student(PaperBody(), features, head(num_actions), head(1), num_teachers)


IMAGE_SIDE = 128  # of Habitat's depth camera, in pixels


class DepthBody(nn.Module):
    """The body for Habitat: features of the depth image, joined with the other sensors, through a 2-layer MLP.

    An observation is one vector: the 128 x 128 depths in [0, 1], row by row, then S normalised sensor readings;
    what follows them is for the teacher only. A reading x goes in with sin and cos of pi x, 2 pi x, 4 pi x and 8 pi x,
    its Fourier features (Tancik et al. 2020): the arm's last centimetres decide, in readings that span metres.
    """

    FREQUENCIES = (1, 2, 4, 8)

    def __init__(self, vision: nn.Module, vision_features: int, num_sensors: int, hidden: int) -> None:
        """`vision`: images (B, 1, 128, 128) -> (B, vision_features); `num_sensors`: S."""
        super().__init__()
        self.sizes = [IMAGE_SIDE**2, num_sensors]
        self.vision = vision
        self.layers = nn.Sequential(
            nn.Linear(vision_features + num_sensors * (1 + 2 * len(self.FREQUENCIES)), hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.ReLU(),
        )  # fmt: skip

    def forward(self, observations: Tensor) -> Tensor:
        """Features (B, hidden) of observations (B, 128 * 128 + S)."""
        depths, sensors = observations[:, : sum(self.sizes)].split(self.sizes, dim=1)
        features = self.vision(depths.unflatten(1, (1, IMAGE_SIDE, IMAGE_SIDE)))
        waves = [
            wave(frequency * torch.pi * sensors) for frequency in self.FREQUENCIES for wave in (torch.sin, torch.cos)
        ]
        return self.layers(torch.cat([features, sensors, *waves], dim=1))


def normed_conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution and group norm (Wu & He 2018), which unlike batch norm treats every observation by itself."""
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
        """Images (B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        return torch.relu(self.shortcut(x) + self.residual(x))


def resnet18() -> nn.Sequential:
    """ResNet18 (He et al. 2016, Table 1) for one channel, up to the 512 averages, (B, 1, H, W) -> (B, 512)."""
    layers: list[nn.Module] = [normed_conv(1, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    for inputs, outputs, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)):
        layers += [ResidualBlock(inputs, outputs, stride), ResidualBlock(outputs, outputs, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def gaussian_student(body: nn.Module, features: int, num_actions: int, num_teachers: int, std: float) -> Student:
    """A student whose action is `num_actions` numbers; the last one ends the episode where it is above 0: "stop".

    It starts with standard deviation `std` and means near 0, but stop near -2. With a mean of 0, half of all first
    steps would be the last; now even at 0.5 the probability is 3.2e-5 a step (four deviations), 1.9% in 600 steps.
    """
    actor = nn.Linear(features, num_actions)
    nn.init.orthogonal_(actor.weight, 0.01)
    nn.init.zeros_(actor.bias)
    nn.init.constant_(actor.bias[-1:], -2.0)
    return Student(body, features, actor, nn.Linear(features, 1), num_teachers, DiagonalGaussian(num_actions, std))


def small_depth_student(num_actions: int, num_teachers: int = 1, *, num_sensors: int, std: float = 0.2) -> Student:
    """Our student for Habitat on CPUs, 258,295 weights with 11 actions, one teacher and 19 sensor readings."""
    vision = nn.Sequential(
        nn.AvgPool2d(4),  # 32 x 32
        nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(),  # 16 x 16
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),  # 8 x 8
        nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(),  # 4 x 4
    )  # fmt: skip
    return gaussian_student(DepthBody(vision, 32 * 4 * 4, num_sensors, 256), 256, num_actions, num_teachers, std)


def resnet18_student(num_actions: int, num_teachers: int = 1, *, num_sensors: int, std: float = 0.2) -> Student:
    """The paper's for Habitat, its "10M": 11,414,231 weights with 11 actions, one teacher and 19 sensor readings."""
    return gaussian_student(DepthBody(resnet18(), 512, num_sensors, 256), 256, num_actions, num_teachers, std)


# By what they look at: MiniGrid's memory, or Habitat's depth image and sensors.
STUDENTS: dict[str, dict[str, Callable[..., Student]]] = {
    "grid": {"small": small_student, "paper": paper_student},
    "depth": {"small": small_depth_student, "paper": resnet18_student},
}


class Batch(NamedTuple):
    """T steps of experience, trajectories laid end to end."""

    observations: Tensor  # (T, ...)
    actions: Tensor  # (T,), or (T, D) of a Gaussian policy
    log_probs: Tensor  # (T,), of the actions when they were taken
    advantages: Tensor  # (T,)
    returns: Tensor  # (T,), what V is fitted to
    shares: Tensor  # (T, K), Pr_LLM(k | c(s)) of Eq. (1), or 1 where teacher k can act; 0: it has nothing to say
    teachers: Tensor  # their policies: (T, K, A) probabilities, or (T, K, 2, D) means and standard deviations


def llm4teach_loss(
    student: Student,
    batch: Batch,
    lambda_: float,
    *,
    clip: float,
    value_coef: float,
    entropy_coef: float,
    uniform_coef: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """L(theta) = L_RL(theta) + lambda * E[H(pi_T, pi_theta)], Eq. (2), on a batch; returns the loss and its parts.

    L_RL = clipped policy loss + value_coef * mean((V - R)^2) - entropy_coef * entropy.  pi_T = sum_k w_k(s) pi_k with
    the shares of the LLM, or of the hierarchical baseline with weights that the student learns; there
    uniform_coef * KL(w || uniform) joins H. A state in which nobody has anything to say adds 0 to both.
    """
    policy, values, teacher_logits = student(batch.observations)
    parts = {
        "policy_loss": clipped_policy_loss(policy.log_prob(batch.actions), batch.log_probs, batch.advantages, clip),
        "value_loss": (values - batch.returns).pow(2).mean(),
        "entropy": policy.entropy().mean(),
    }
    loss = parts["policy_loss"] + value_coef * parts["value_loss"] - entropy_coef * parts["entropy"]
    if lambda_ > 0:
        weights, to_uniform = weigh_teachers(teacher_logits, batch.shares)
        parts["distance"] = distance(weights, batch.teachers, policy).mean()
        loss = loss + lambda_ * (parts["distance"] + uniform_coef * to_uniform.mean())
    return loss, {name: part.detach() for name, part in parts.items()}


def update(
    student: Student,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    lambda_: float,
    *,
    epochs: int,
    minibatch_size: int,
    max_grad_norm: float,
    steps: int | None = None,
    average_gradients: Callable[[list[nn.Parameter], int], None] | None = None,
    **coefficients: Any,
) -> dict[str, float]:
    """`epochs` passes of minibatch gradient steps on `llm4teach_loss`; returns the mean of each part of the loss.

    The batch is cut into minibatches of nearly equal size, at most `minibatch_size`, in a new random order each
    epoch.

    Several workers, each with its own batch, go through the same gradient steps (ddppo.py).  steps: in all their
    batches together.  average_gradients: given the student's weights and the number of rows that their gradients are
    means over, makes them means over all workers' rows.
    """
    history: list[dict[str, Tensor]] = []
    weights = list(student.parameters())
    for _ in range(epochs):
        order = torch.randperm(len(batch.actions)).to(batch.actions.device)
        for rows in order.tensor_split(-(-(steps or len(order)) // minibatch_size)):
            optimizer.zero_grad()
            if len(rows):
                loss, parts = llm4teach_loss(student, Batch(*(field[rows] for field in batch)), lambda_, **coefficients)
                loss.backward()
                history.append(parts)
            if average_gradients:
                average_gradients(weights, len(rows))
            nn.utils.clip_grad_norm_(student.parameters(), max_grad_norm)
            optimizer.step()
    return {name: torch.stack([parts[name] for parts in history]).mean().item() for name in history[0]}


def main() -> None:
    """Plain PPO on CartPole-v1, whole episodes as trajectories, until an iteration's mean return passes 475."""
    import gymnasium as gym

    torch.manual_seed(0)
    torch.set_num_threads(1)  # small nets run faster on one thread
    env = gym.make("CartPole-v1")
    body = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
    student = Student(body, 64, nn.Linear(64, 2), nn.Linear(64, 1))
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    steps = 0
    for iteration in range(200):
        rows = []
        for _ in range(10):
            observation, _ = env.reset(seed=None if steps else 0)
            ended = False
            while not ended:
                with torch.inference_mode():
                    policy, value, _ = student(torch.as_tensor(observation)[None])
                    action = policy.sample()
                after, reward, terminated, truncated, _ = env.step(action.item())
                ended, steps = terminated or truncated, steps + 1
                decided = (action.item(), policy.log_prob(action).item(), value.item())
                rows.append((observation, *decided, reward, after, terminated, ended))
                observation = after
        columns = [torch.as_tensor(np.array(column, dtype=np.float32)) for column in zip(*rows)]
        observations, actions, log_probs, values, rewards, afters, terminals, ends = columns
        with torch.no_grad():
            next_values = student(afters).value
        advantages = gae(rewards, values, next_values, terminals.bool(), ends.bool(), discount=0.99, gae_lambda=0.95)
        no_teacher = torch.zeros(len(rows), 0)
        batch = Batch(
            observations, actions.long(), log_probs, normalize(advantages), advantages + values, no_teacher, no_teacher
        )
        update(
            student, optimizer, batch, lambda_=0.0, epochs=10, minibatch_size=128, max_grad_norm=0.5,
            clip=0.2, value_coef=0.5, entropy_coef=0.0, uniform_coef=0.0,
        )  # fmt: skip
        mean = float(rewards.sum() / ends.sum())
        print(f"iteration {iteration:3d}  steps {steps:7d}  mean return {mean:6.1f}")
        if mean >= 475:
            print("solved")
            return
    raise SystemExit("not solved in 200 iterations")


if __name__ == "__main__":
    main()
