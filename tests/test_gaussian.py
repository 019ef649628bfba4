"""Gaussian policies: Eq. (2) against numerical optimal transport, PPO and distillation."""

from itertools import permutations
from math import exp, log, pi, sqrt

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Categorical

from ppo import (
    Batch,
    DiagonalGaussian,
    Output,
    Student,
    distance,
    gae,
    kl_to_teacher,
    llm4teach_loss,
    mix_teachers,
    normalize,
    update,
    wasserstein_squared,
)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def gaussian(means, deviations):
    """The policy of given means (B, D) and standard deviations (D,)."""
    policy = DiagonalGaussian(len(deviations), 1.0).to(means.dtype)
    policy.log_std.data = torch.as_tensor(deviations, dtype=means.dtype).log()
    return policy(means)


# ----------------------------------------------------------------------------------------------------------- the policy


def test_diagonal_gaussian_hand_worked():
    policy = gaussian(torch.tensor([[0.0, 1.0]]), [1.0, 2.0])
    # at (1, 1): the density of a standard normal at 1, times that of one with s = 2 at its mean
    density = exp(-0.5) / sqrt(2 * pi) * 1 / (2 * sqrt(2 * pi))
    assert policy.log_prob(torch.tensor([[1.0, 1.0]])).tolist() == pytest.approx([log(density)])
    assert policy.entropy().tolist() == pytest.approx([0.5 * log(2 * pi * exp(1)) * 2 + log(2)])  # sum of log s
    assert policy.mode.tolist() == [[0, 1]]  # what a greedy student does
    assert policy.sample().shape == (1, 2)


# ------------------------------------------------------------------------------------- Eq. (2) and optimal transport


def test_eq2_wasserstein_hand_worked():
    student = gaussian(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), [3.0, 1.0])
    teachers = torch.tensor([
        [[[0.0, 0.0], [1.0, 2.0]], [[1.0, 2.0], [3.0, 1.0]]],
        [[[0.0, 0.0], [0.0, 0.0]], [[3.0, -4.0], [3.0, 1.0]]],
    ])  # fmt: skip
    expected = [
        [1 + 4 + (3 - 1) ** 2 + (1 - 2) ** 2, 0],  # 10, and the student itself
        [3**2 + 1, 9 + 16],  # from one certain action: E|Y - m|^2 = |s|^2; the same shape moved by 5
    ]
    assert torch.allclose(wasserstein_squared(teachers, student), torch.tensor(expected, dtype=torch.float), atol=1e-5)
    weights = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
    assert distance(weights, teachers, student).tolist() == pytest.approx([7.5, 17.5], rel=1e-5)


def quantiles(weights, means, deviations, levels):
    """The inverse of F(x) = sum_k w_k Phi((x - m_k) / s_k) at `levels`, by bisection."""
    low, high = (torch.full_like(levels, end) for end in (-100.0, 100.0))
    for _ in range(60):
        middle = (low + high) / 2
        below = (weights * torch.special.ndtr((middle[:, None] - means) / deviations)).sum(-1) < levels
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return low


def transport_1d(weights, means, deviations, mean, deviation):
    """W2^2 between a mixture and a Gaussian in one dimension: integral of (F^-1(u) - G^-1(u))^2 over u in (0, 1)."""
    levels = (torch.arange(50_000, dtype=torch.float64) + 0.5) / 50_000
    theirs = quantiles(weights, means, deviations, levels)
    return (theirs - (mean + deviation * torch.special.ndtri(levels))).pow(2).mean().item()


def bound_1d(weights, means, deviations, mean, deviation):
    teachers = torch.stack([means, deviations], -1)[None, :, :, None]  # (1, K, 2, 1)
    return distance(weights[None], teachers, gaussian(mean[None, None], deviation[None])).item()


def random_mixture(num_teachers, rng):
    draws = (rng.dirichlet(np.ones(num_teachers)), 2 * rng.normal(size=num_teachers), rng.uniform(0.2, 2, num_teachers))
    return [torch.from_numpy(draw) for draw in (*draws, np.array(rng.normal()), np.array(rng.uniform(0.2, 2)))]


@pytest.mark.parametrize("seed", range(5))
def test_eq2_one_teacher_is_optimal_transport(seed):
    mixture = random_mixture(1, np.random.default_rng(seed))
    assert bound_1d(*mixture) == pytest.approx(transport_1d(*mixture), rel=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_eq2_mixture_is_bounded_by_no_less_than_optimal_transport(seed):
    weights, means, deviations, mean, deviation = random_mixture(3, np.random.default_rng(seed))
    exact, bound = (f(weights, means, deviations, mean, deviation) for f in (transport_1d, bound_1d))
    assert exact < bound
    # what the bound adds does not depend on the mean of the student, so both have the same gradient there
    moved = [f(weights, means, deviations, mean + 1.5, deviation) for f in (transport_1d, bound_1d)]
    assert moved[1] - bound == pytest.approx(moved[0] - exact, rel=1e-2, abs=1e-2)


def assignment(cost):
    """The least sum of cost[i, p(i)] over permutations p, by shortest augmenting paths (Jonker & Volgenant 1987)."""
    n = len(cost)
    row_price, column_price = np.zeros(n), np.zeros(n + 1)
    row_of = np.full(n + 1, -1)  # of a column; the last column is where each path starts
    for row in range(n):
        row_of[n], column = row, n
        shortest, before = np.full(n, np.inf), np.full(n, n)
        done = np.zeros(n + 1, bool)
        while row_of[column] >= 0:
            done[column] = True
            reduced = cost[row_of[column]] - row_price[row_of[column]] - column_price[:n]
            better = ~done[:n] & (reduced < shortest)
            shortest[better], before[better] = reduced[better], column
            step = shortest[~done[:n]].min()
            row_price[row_of[done]] += step
            column_price[done] -= step
            shortest[~done[:n]] -= step
            column = int(np.where(done[:n], np.inf, shortest).argmin())
        while column != n:
            row_of[column] = row_of[before[column]]
            column = before[column]
    return cost[row_of[:n], np.arange(n)].sum()


def test_the_assignment_is_the_best_permutation():
    rng = np.random.default_rng(0)
    for _ in range(10):
        cost = rng.normal(size=(6, 6))
        best = min(cost[range(6), list(permutation)].sum() for permutation in permutations(range(6)))
        assert assignment(cost) == pytest.approx(best)


def cloud(rng, counts, teachers):
    """counts[k] points of every Gaussian k, teachers (K, 2, D), made to have exactly its mean and deviations."""
    points = []
    for count, (mean, deviation) in zip(counts, teachers):
        if count == 0:
            continue
        z = rng.normal(size=(count, len(mean)))
        points.append(mean + deviation * (z - z.mean(0)) / z.std(0))
    return np.concatenate(points)


def transport_of_clouds(ours, theirs):
    """W2^2 of two equal numbers of points: the best matching."""
    return assignment(((ours[:, None] - theirs) ** 2).sum(-1)) / len(ours)


@pytest.mark.slow
def test_eq2_distance_against_an_assignment_in_two_dimensions():
    rng = np.random.default_rng(0)
    student = np.array([[[0.5, -1.0], [1.0, 0.3]]])
    teachers = np.array([[[-1.0, 1.0], [0.5, 1.0]], [[2.0, -1.0], [0.2, 0.6]]])
    policy = gaussian(torch.from_numpy(student[:, 0]), student[0, 1])
    points = cloud(rng, [240], student)
    for counts in ([240, 0], [0, 240], [180, 60], [80, 160]):
        weights = torch.tensor([counts], dtype=torch.float64) / 240
        bound = distance(weights, torch.from_numpy(teachers)[None], policy).item()
        exact = transport_of_clouds(cloud(rng, counts, teachers), points)
        if 0 in counts:
            assert exact == pytest.approx(bound, rel=0.03)
        else:
            assert 0 < exact < 0.95 * bound


def test_eq2_the_bound_is_least_at_the_barycentre_of_the_teachers():
    teachers = torch.tensor([[[[0.0, 4.0], [1.0, 0.5]], [[2.0, 0.0], [3.0, 0.1]]]])
    weights = torch.tensor([[0.25, 0.75]])
    # means 1/4 (0, 4) + 3/4 (2, 0), standard deviations 1/4 (1, 1/2) + 3/4 (3, 1/10)
    means, deviations = torch.tensor([[1.5, 1.0]], requires_grad=True), torch.tensor([2.5, 0.2])
    policy = DiagonalGaussian(2, 1.0)
    policy.log_std.data = deviations.log()
    least = distance(weights, teachers, policy(means))
    # 1/4 3/4 |(2, -4)|^2 + 1/4 3/4 |(2, -0.4)|^2: how much the two teachers differ
    assert least.item() == pytest.approx(0.1875 * (20 + 4.16), rel=1e-5)
    least.backward()
    assert torch.allclose(means.grad, torch.zeros(1, 2), atol=1e-5)
    assert torch.allclose(policy.log_std.grad, torch.zeros(2), atol=1e-5)


def test_eq2_the_policy_decides_which_distance():
    weights, probs = torch.rand(5, 3).softmax(-1), torch.rand(5, 3, 4).softmax(-1)
    student = Categorical(logits=torch.randn(5, 4))
    assert torch.equal(distance(weights, probs, student), kl_to_teacher(mix_teachers(weights, probs), student))
    gaussians, policy = torch.rand(5, 3, 2, 4), gaussian(torch.randn(5, 4), [0.5] * 4)
    for t in range(5):
        alone = gaussian(policy.mean[t : t + 1], [0.5] * 4)
        loop = sum(weights[t, k] * distance(torch.ones(1, 1), gaussians[t, k][None, None], alone) for k in range(3))
        assert distance(weights, gaussians, policy)[t].item() == pytest.approx(loop.item(), rel=1e-5)


# ------------------------------------------------------------------------------------------------------------- the loss


class Fixed(nn.Module):
    """A student of free means for every observation, which is the number of a row."""

    def __init__(self, rows, dims, num_teachers=1):
        super().__init__()
        self.means = nn.Parameter(torch.randn(rows, dims))
        self.values = nn.Parameter(torch.randn(rows))
        self.weights = nn.Parameter(torch.randn(rows, num_teachers))
        self.policy = DiagonalGaussian(dims, 0.5)

    def forward(self, rows):
        return Output(self.policy(self.means[rows]), self.values[rows], self.weights[rows])


def random_batch(rows, dims, prior):
    return Batch(
        observations=torch.arange(rows),
        actions=torch.randn(rows, dims),
        log_probs=torch.randn(rows),
        advantages=torch.zeros(rows),
        returns=torch.zeros(rows),
        prior=prior,
        teachers=torch.rand(rows, prior.shape[1], 2, dims),
    )


ONLY_DISTANCE = {"clip": 0.2, "value_coef": 0.0, "entropy_coef": 0.0, "uniform_coef": 0.0}


@pytest.mark.parametrize("num_teachers", [1, 3])
def test_eq2_gradient_reaches_means_deviations_and_weights(num_teachers):
    """num_teachers 1: the LLM's shares; 3: options that can act or not, which the student weighs."""
    student = Fixed(6, 2, num_teachers)
    prior = torch.tensor([[0.2, 0.8, 0]] * 6 if num_teachers == 1 else [[1.0, 1, 0]] * 6)
    prior[0] = 0
    batch = random_batch(6, 2, prior)
    loss, parts = llm4teach_loss(student, batch, 2.0, **ONLY_DISTANCE)
    loss.backward()
    weights = prior if num_teachers == 1 else (student.weights.exp() * prior)
    weights = (weights / weights.sum(-1, keepdim=True).clamp_min(1e-10)).detach()
    expected = torch.zeros(6)
    for t in range(6):
        for k in range(3):
            mean, deviation = batch.teachers[t, k]
            expected[t] += weights[t, k] * ((mean - student.means[t]) ** 2 + (deviation - 0.5) ** 2).sum().item()
    assert parts["distance"].item() == pytest.approx(expected.mean().item(), rel=1e-5)
    assert loss.item() == pytest.approx(2 * expected.mean().item(), rel=1e-5)
    assert student.policy.log_std.grad.abs().min() > 0
    # 2 (m - sum_k w_k m_k), times lambda over the number of rows; nothing in row 0, where nobody speaks
    by_means = 2 * (student.means.detach() - (weights[..., None] * batch.teachers[:, :, 0]).sum(1)) * 2 / 6
    by_means[0] = 0
    torch.testing.assert_close(student.means.grad, by_means)
    if num_teachers == 3:
        assert (student.weights.grad[1:, :2] != 0).all()
        assert (student.weights.grad[:, 2] == 0).all()
        assert (student.weights.grad[0] == 0).all()


def test_eq2_silent_teachers_may_hold_any_numbers():
    student, prior = Fixed(4, 2), torch.tensor([[0.5, 0.5, 0]] * 4)
    prior[0] = 0
    batch = random_batch(4, 2, prior)
    loss, _ = llm4teach_loss(student, batch, 1.0, **ONLY_DISTANCE)
    batch.teachers[prior == 0] = 1e6
    assert llm4teach_loss(student, batch, 1.0, **ONLY_DISTANCE)[0].item() == loss.item()


@pytest.mark.slow
def test_distillation_alone_finds_the_mean_of_a_mixture():
    student = Student(nn.Identity(), 1, nn.Linear(1, 2), nn.Linear(1, 1), policy=DiagonalGaussian(2, 1.0))
    states = torch.linspace(-1, 1, 64)[:, None]
    # teacher 1 (x, -1) with deviations (0.1, 0.4), teacher 2 (1, 3 x) with (0.3, 0.2); shares 1/4 and 3/4
    means = torch.stack([torch.cat([states, -torch.ones(64, 1)], 1), torch.cat([torch.ones(64, 1), 3 * states], 1)], 1)
    deviations = torch.tensor([[0.1, 0.4], [0.3, 0.2]]).expand(64, 2, 2)
    prior = torch.tensor([[0.25, 0.75]]).repeat(64, 1)
    batch = random_batch(64, 2, prior)._replace(observations=states, teachers=torch.stack([means, deviations], 2))
    optimizer = torch.optim.Adam(student.parameters(), lr=0.02)
    for _ in range(80):
        update(student, optimizer, batch, 1.0, epochs=4, minibatch_size=32, max_grad_norm=10, **ONLY_DISTANCE)
    policy = student(states).policy
    expected = torch.cat([states / 4 + 0.75, -0.25 + 2.25 * states], 1)
    torch.testing.assert_close(policy.mean.detach(), expected, atol=0.05, rtol=0)
    torch.testing.assert_close(policy.stddev[0].detach(), torch.tensor([0.25, 0.25]), atol=0.02, rtol=0)


def reach(student, episodes, length=6, greedy=False):
    """A point on a line is pushed by at most half a unit a step; each step costs its distance from 0."""
    position, steps = 4 * torch.rand(episodes, 1) - 2, []
    for _ in range(length):
        with torch.no_grad():
            policy, value, _ = student(position)
            action = policy.mode if greedy else policy.sample()
            after = position + 0.5 * action.clamp(-1, 1)
            steps.append((position, action, policy.log_prob(action), value, -after.abs().squeeze(-1), after))
        position = after
    # (episodes * length, ...): every episode's steps one after the other
    return [torch.stack(column, 1).flatten(0, 1) for column in zip(*steps)], position


@pytest.mark.slow
def test_ppo_with_a_gaussian_learns_to_reach_a_point():
    body = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh())
    student = Student(body, 32, nn.Linear(32, 1), nn.Linear(32, 1), policy=DiagonalGaussian(1, 0.5))
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    _, before = reach(student, 200, greedy=True)
    for _ in range(40):
        (observations, actions, log_probs, values, rewards, afters), _ = reach(student, 64)
        ended = torch.arange(len(rewards)) % 6 == 5  # cut off by the time limit
        with torch.no_grad():
            next_values = student(afters).value
        advantages = gae(rewards, values, next_values, torch.zeros_like(ended), ended, discount=0.9, gae_lambda=0.95)
        none = torch.zeros(len(rewards), 0)
        batch = Batch(
            observations, actions, log_probs, normalize(advantages), advantages + values, prior=none, teachers=none
        )
        update(
            student, optimizer, batch, 0.0, epochs=4, minibatch_size=128, max_grad_norm=0.5,
            clip=0.2, value_coef=0.5, entropy_coef=0.0, uniform_coef=0.0,
        )  # fmt: skip
    _, after = reach(student, 200, greedy=True)
    assert before.abs().mean() > 0.5
    assert after.abs().mean() < 0.1
