"""PPO with a distillation term: the student of LLM4Teach (paper section 3.3, Table 1).

    python ppo.py                       # plain PPO, lambda = 0, solves CartPole-v1 in about 20 seconds

L(theta) = L_RL(theta) + lambda * E[H(pi_T(. | s), pi_theta(. | s))], Eq. (2).  L_RL is clipped PPO (Schulman et al.
2017): policy, value and entropy terms. H is the KL divergence for categorical policies (MiniGrid) and the squared
Wasserstein-2 distance for Gaussian ones (Habitat); see `distance`.

Shapes: B observations in a batch, T steps, A actions to choose from or an action of D numbers, K teachers: the options,
or 1 where they are mixed already.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
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
    """Estimate advantages (GAE, Schulman et al. 2016) over trajectories laid end to end.

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


def normalize(advantages: Tensor, all_advantages: Tensor | None = None) -> Tensor:
    """Scale advantages (T,) to zero mean and unit standard deviation; a single step's advantage becomes 0.

    all_advantages: those of all workers, where there are several, to take mean and deviation over instead.
    """
    everything = advantages if all_advantages is None else all_advantages
    deviation = everything.std() if len(everything) > 1 else everything.new_ones(())
    return (advantages - everything.mean()) / (deviation + 1e-8)


def clipped_policy_loss(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """Return PPO's surrogate -mean(min(r A, clip(r, 1 - clip, 1 + clip) A)); inputs (B,).

    r = pi_theta(a | s) / pi_old(a | s), the ratio of the probabilities now and when the action was taken.
    """
    ratio = (log_probs - old_log_probs).exp()
    return -torch.min(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages).mean()


def kl_to_teacher(teacher: Tensor, student: Categorical) -> Tensor:
    """Return H of Eq. (2) for categorical policies, (B,): KL(pi_T || pi_theta).

    KL(pi_T || pi_theta) = sum_a pi_T(a) log(pi_T(a) / pi_theta(a)); gradients flow into both sides.

    teacher: (B, A) probabilities, zeros allowed (0 log 0 = 0).
    """
    return (teacher * (teacher.clamp_min(1e-10).log() - student.logits)).sum(-1)


def mix_teachers(weights: Tensor, teachers: Tensor) -> Tensor:
    """Return sum_k w_k pi_k(. | s), (B, A), of weights (B, K) that add up to 1 and policies (B, K, A)."""
    return (weights.unsqueeze(-1) * teachers).sum(-2)


def wasserstein_squared(teachers: Tensor, student: Distribution) -> Tensor:
    """Return W2^2 of Eq. (2) between diagonal Gaussians, |m_k - m|^2 + |s_k - s|^2, (B, K).

    W2^2(pi_k, pi_theta) is the least E|X - Y|^2 of all couplings: joint distributions with X ~ pi_k and Y ~ pi_theta.
    E|X - Y|^2 = |m_k - m|^2 + sum_d Var(X_d - Y_d). A covariance is at most the product of the standard deviations, so
    Var(X_d - Y_d) >= (s_kd - s_d)^2; the coupling X = m_k + (Y - m) s_k / s has equality in every d.

    teachers: (B, K, 2, D), means m_k and standard deviations s_k, which may be 0; student: m and s, (B, D).
    """
    means, deviations = teachers.unbind(-2)  # (B, K, D) each
    return (means - student.mean[:, None]).pow(2).sum(-1) + (deviations - student.stddev[:, None]).pow(2).sum(-1)


def distance(weights: Tensor, teachers: Tensor, policy: Distribution) -> Tensor:
    """Return H(pi_T, pi_theta) of Eq. (2) for pi_T = sum_k w_k pi_k, (B,).

    Gradients flow into weights and policy.

    Categorical policy, teachers (B, K, A): KL(pi_T || pi_theta).

    Gaussian policy, teachers (B, K, 2, D): sum_k w_k W2^2(pi_k, pi_theta) >= W2^2(pi_T, pi_theta), which has no closed
    form. Let (X_k, Y_k) be an optimal coupling of pi_k and pi_theta, draw k with probability w_k and take that pair.
    Its X follows pi_T; its Y follows pi_theta whatever k is. So this is a coupling of pi_T and pi_theta, its E|X - Y|^2
    is the sum, and W2^2 is the least over all couplings. For K = 1 both are equal; in the mean m of pi_theta they
    always have the same gradient, 2 (m - sum_k w_k m_k). The bound is least at mean sum_k w_k m_k and standard
    deviation sum_k w_k s_k; what is left there is how much the teachers differ.

    weights: (B, K), rows add up to 1; a row of zeros, a state without advice, has distance 0.
    """
    if isinstance(policy, Categorical):
        return kl_to_teacher(mix_teachers(weights, teachers), policy)
    return (weights * wasserstein_squared(teachers, policy)).sum(-1)


def weigh_teachers(logits: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
    """Return w_k = prior_k exp(logit_k) / sum_j prior_j exp(logit_j), (B, K), and KL(w || prior / sum_j prior_j), (B,).

    LLM4Teach: equal logits, so w = prior, Pr_LLM(k | c(s)), and the KL is 0. Hierarchical: the prior is 1 where option
    k can act, else 0, so w is the student's softmax over those, and the KL is to uniform weights. Without any advice,
    a row of zeros, w and the KL are 0: the state is masked.

    prior: (B, K); logits: (B, K) or (B, 1).
    """
    silent = prior == 0
    log_prior = prior.log().masked_fill(silent, 0.0)
    log_weights = (logits + log_prior).masked_fill(silent, -1e9).log_softmax(-1)
    weights = log_weights.exp().masked_fill(silent, 0.0)
    return weights, prior.sum(-1).clamp_min(1).log() + (weights * (log_weights - log_prior)).sum(-1)


class Output(NamedTuple):
    """The student's outputs for a batch of observations."""

    policy: Distribution  # pi_theta(. | s)
    value: Tensor  # V(s), (B,)
    teacher_logits: Tensor  # (B, K), unnormalised log weights of its teachers; (B, 1) zeros: it does not weigh them


def categorical(logits: Tensor) -> Distribution:
    """Return a choice of A actions from logits (B, A)."""
    return Categorical(logits=logits, validate_args=False)


class DiagonalGaussian(nn.Module):
    """Actions of D independent normal numbers: means (B, D) from the state, one learned log s (D,) for all states."""

    def __init__(self, num_actions: int, std: float) -> None:
        """`num_actions`: D; `std`: s at the start."""
        super().__init__()
        self.log_std = nn.Parameter(torch.full((num_actions,), std).log())

    def forward(self, means: Tensor) -> Distribution:
        """Return the policy with these means; log_prob and entropy are (B,)."""
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
        """Return policy, value and teacher weights for observations (B, ...)."""
        features = self.body(observations)
        alone = features.new_zeros(len(features), 1)
        return Output(
            self.policy(self.actor(features)),
            self.critic(features).squeeze(-1),
            self.over_teachers(features) if self.num_teachers > 1 else alone,
        )


class Batch(NamedTuple):
    """T steps of experience, trajectories laid end to end."""

    observations: Tensor  # (T, ...)
    actions: Tensor  # (T,), or (T, D) of a Gaussian policy
    log_probs: Tensor  # (T,), of the actions when they were taken
    advantages: Tensor  # (T,)
    returns: Tensor  # (T,), what V is fitted to
    prior: Tensor  # (T, K), Pr_LLM(k | c(s)) of Eq. (1), or 1 where teacher k can act; 0: no advice from it
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
    """Return L(theta) = L_RL(theta) + lambda * E[H(pi_T, pi_theta)], Eq. (2), on a batch, and its parts.

    L_RL = clipped policy loss + value_coef * mean((V - R)^2) - entropy_coef * entropy.  pi_T = sum_k w_k(s) pi_k with
    the probabilities of the LLM, or for the hierarchical baseline with weights that the student learns; there
    uniform_coef * KL(w || uniform) is added to H. A state without advice adds 0 to both.

    The parts also say how far the policy has moved since the actions were taken: approx_kl = mean(log(r)^2) / 2, which
    estimates KL(pi_old || pi_theta) for small steps, and clip_fraction, the share of ratios r outside 1 +- clip.
    """
    policy, values, teacher_logits = student(batch.observations)
    log_probs = policy.log_prob(batch.actions)
    log_ratios = (log_probs - batch.log_probs).detach()
    parts = {
        "policy_loss": clipped_policy_loss(log_probs, batch.log_probs, batch.advantages, clip),
        "value_loss": (values - batch.returns).pow(2).mean(),
        "entropy": policy.entropy().mean(),
        "approx_kl": log_ratios.pow(2).mean() / 2,
        "clip_fraction": ((log_ratios.exp() - 1).abs() > clip).float().mean(),
    }
    loss = parts["policy_loss"] + value_coef * parts["value_loss"] - entropy_coef * parts["entropy"]
    if lambda_ > 0:
        weights, to_uniform = weigh_teachers(teacher_logits, batch.prior)
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
    """Make `epochs` passes of minibatch gradient steps on `llm4teach_loss`; return the mean of each part of the loss.

    The batch is cut into minibatches of nearly equal size, at most `minibatch_size`, in a new random order each
    epoch.

    Several workers, each with its own batch, go through the same gradient steps (harness/workers.py).  steps: in all
    their batches together.  average_gradients: given the student's weights and the number of rows that their gradients
    are means over, makes them means over all workers' rows.
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Train plain PPO on CartPole-v1, a trajectory an episode, until an iteration's mean return passes 475."""
    argparse.ArgumentParser(description=main.__doc__, usage=argparse.SUPPRESS).parse_args(arguments)
    import gymnasium as gym

    torch.manual_seed(0)
    torch.set_num_threads(1)  # small nets run faster on one thread
    env = gym.make("CartPole-v1")
    body = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
    student = Student(body, 64, nn.Linear(64, 2), nn.Linear(64, 1))
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
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
                next_observation, reward, terminated, truncated, _ = env.step(action.item())
                ended, steps = terminated or truncated, steps + 1
                decided = (action.item(), policy.log_prob(action).item(), value.item())
                rows.append((observation, *decided, reward, next_observation, terminated, ended))
                observation = next_observation
        columns = [torch.as_tensor(np.array(column, dtype=np.float32)) for column in zip(*rows)]
        observations, actions, log_probs, values, rewards, next_observations, terminals, ends = columns
        with torch.no_grad():
            next_values = student(next_observations).value
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
