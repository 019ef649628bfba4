"""PPO, advantages and Eq. (2) against numbers worked by hand and naive oracles."""

from math import log

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from ppo import (
    Batch,
    Output,
    clipped_policy_loss,
    gae,
    kl_to_teacher,
    llm4teach_loss,
    mix_teachers,
    normalize,
    update,
    weigh_teachers,
)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


# ------------------------------------------------------------------------------------------------- advantages, PPO


def flags(*values):
    return torch.tensor(values, dtype=torch.bool)


def test_gae_hand_worked():
    # discount 1/2, gae_lambda 1/2, so decay 1/4.  Trajectory 1: steps 0, 1, cut off by the time limit;
    # trajectory 2: steps 2, 3, 4, terminated.
    # delta_0 = 1 + 2 / 2 - 1 = 1         A_0 = 1 + 2 / 4 = 1.5
    # delta_1 = 0 + 8 / 2 - 2 = 2         A_1 = 2, bootstrapped from V = 8, nothing of trajectory 2 behind it
    # delta_2 = 0 + 6 / 2 - 4 = -1        A_2 = -1 - 3 / 4 = -1.75
    # delta_3 = 2 + 2 / 2 - 6 = -3        A_3 = -3 + 0 / 4 = -3
    # delta_4 = 2 + 0     - 2 = 0         A_4 = 0: V = 100 of the state it led to plays no part
    advantages = gae(
        rewards=torch.tensor([1.0, 0, 0, 2, 2]),
        values=torch.tensor([1.0, 2, 4, 6, 2]),
        next_values=torch.tensor([2.0, 8, 6, 2, 100]),
        terminated=flags(0, 0, 0, 0, 1),
        ended=flags(0, 1, 0, 0, 1),
        discount=0.5,
        gae_lambda=0.5,
    )
    assert advantages.tolist() == [1.5, 2.0, -1.75, -3.0, 0.0]


def naive_gae(lengths, rewards, values, next_values, terminated, discount, gae_lambda):
    """A_t = sum over l >= 0 of (discount gae_lambda)^l delta_{t+l}, within the trajectory of step t."""
    advantages, start = [], 0
    for length in lengths:
        for t in range(start, start + length):
            advantages.append(0.0)
            for u in range(t, start + length):
                bootstrap = 0.0 if terminated[u] else discount * next_values[u]
                advantages[t] += (discount * gae_lambda) ** (u - t) * (rewards[u] + bootstrap - values[u])
        start += length
    return advantages


@pytest.mark.parametrize(("discount", "gae_lambda"), [(0.99, 0.95), (1.0, 1.0), (0.9, 0.0), (0.0, 0.95)])
def test_gae_is_the_double_sum(discount, gae_lambda):
    rng = np.random.default_rng(0)
    for _ in range(20):
        lengths = rng.integers(1, 12, size=6)
        rewards, values, next_values = rng.normal(size=(3, lengths.sum()))
        ended = np.zeros(lengths.sum(), bool)
        ended[lengths.cumsum() - 1] = True
        terminated = ended & (rng.random(len(ended)) < 0.5)
        expected = naive_gae(lengths, rewards, values, next_values, terminated, discount, gae_lambda)
        columns = (torch.from_numpy(column) for column in (rewards, values, next_values, terminated, ended))
        np.testing.assert_allclose(gae(*columns, discount, gae_lambda).numpy(), expected, atol=1e-6)


def test_gae_bootstraps_where_cut_off_and_not_where_terminated():
    rewards, values, last_value = torch.zeros(4), torch.zeros(4), torch.tensor([0.0, 1, 0, 1])
    #                         trajectory 1: cut off | 2: terminated
    advantages = gae(rewards, values, last_value, flags(0, 0, 0, 1), flags(0, 1, 0, 1), 0.5, 1.0)
    assert advantages.tolist() == [0.25, 0.5, 0, 0]


def test_gae_nothing_leaks_over_a_border():
    def first_trajectory(*rewards_of_second):
        rewards = torch.tensor([1.0, 2, *rewards_of_second])
        values = torch.ones(5)
        return gae(rewards, values, values, flags(0, 0, 0, 0, 1), flags(0, 1, 0, 0, 1), 0.9, 0.9)[:2].tolist()

    assert first_trajectory(0, 0, 0) == first_trajectory(1e6, -1e6, 1e6)


def test_normalize():
    # mean 2, deviations -1, 0, 1, standard deviation sqrt((1 + 0 + 1) / 2) = 1
    assert normalize(torch.tensor([1.0, 2, 3])).tolist() == pytest.approx([-1, 0, 1], abs=1e-6)
    normal = normalize(torch.randn(1000) * 7 + 5)
    assert (normal.mean().item(), normal.std().item()) == pytest.approx((0, 1), abs=1e-5)
    assert normalize(torch.full((4,), 3.0)).tolist() == [0, 0, 0, 0]


@pytest.mark.filterwarnings("ignore:std")
def test_normalize_of_a_single_step_is_finite():
    # an episode can end with its first step: into lava, with --num-trajectories 1
    assert normalize(torch.tensor([3.0])).isfinite().all()


@pytest.mark.parametrize(
    ("ratio", "advantage", "surrogate", "follows"),
    [
        # clip 0.2: ratios are held in 0.8 .. 1.2, and the lower of the two surrogates counts
        (1.5, 2.0, 2.4, False),  # likelier and good: min(3, 1.2 * 2), held back
        (0.5, 2.0, 1.0, True),  # less likely and good: min(1, 0.8 * 2 = 1.6), free to come back
        (1.5, -2.0, -3.0, True),  # likelier and bad: min(-3, 1.2 * -2 = -2.4), free to come back
        (0.5, -2.0, -1.6, False),  # less likely and bad: min(-1, 0.8 * -2), held back
        (1.1, 2.0, 2.2, True),  # inside: as it is
    ],
)
def test_clipped_policy_loss_hand_worked(ratio, advantage, surrogate, follows):
    log_probs = torch.tensor([log(0.3 * ratio)], requires_grad=True)
    loss = clipped_policy_loss(log_probs, torch.tensor([log(0.3)]), torch.tensor([advantage]), clip=0.2)
    assert loss.item() == pytest.approx(-surrogate, rel=1e-5)
    loss.backward()  # d(-r A) / d log r = -r A
    assert log_probs.grad.item() == pytest.approx(-ratio * advantage if follows else 0.0, rel=1e-5)


def test_clipped_policy_loss_is_a_mean():
    old, advantages = torch.full((4,), log(0.3)), torch.tensor([2.0, 2, -2, -2])
    log_probs = (0.3 * torch.tensor([1.5, 0.5, 1.5, 0.5])).log()
    # the four cases above: -(2.4 + 1 - 3 - 1.6) / 4 = 0.3
    assert clipped_policy_loss(log_probs, old, advantages, 0.2).item() == pytest.approx(0.3, rel=1e-5)


# ----------------------------------------------------------------------------------------------------------- Eq. (2)


def test_eq2_kl_hand_worked():
    student = Categorical(probs=torch.tensor([[0.5, 0.5], [0.25, 0.75], [0.25, 0.75]]))
    teacher = torch.tensor([[0.5, 0.5], [0.5, 0.5], [1.0, 0.0]])
    expected = [
        0.0,
        0.5 * log(0.5 / 0.25) + 0.5 * log(0.5 / 0.75),  # 0.1438
        log(4.0),  # 1 log(1 / 0.25) + 0 log 0
    ]
    assert kl_to_teacher(teacher, student).tolist() == pytest.approx(expected, abs=1e-6)


def test_eq2_kl_is_torchs():
    teacher, logits = (3 * torch.randn(100, 7)).softmax(-1), 3 * torch.randn(100, 7)
    expected = kl_divergence(Categorical(probs=teacher), Categorical(logits=logits))
    torch.testing.assert_close(kl_to_teacher(teacher, Categorical(logits=logits)), expected, rtol=1e-4, atol=1e-6)


def test_eq2_kl_with_zeros_in_the_teacher():
    teacher = torch.eye(7).requires_grad_()
    logits = torch.randn(7, 7, requires_grad=True)
    distance = kl_to_teacher(teacher, Categorical(logits=logits))
    # KL of a Dirac on a: -log pi_theta(a)
    torch.testing.assert_close(distance, -logits.log_softmax(-1).diag())
    distance.sum().backward()
    # its gradient by the logits: pi_theta - pi_T
    torch.testing.assert_close(logits.grad, logits.detach().softmax(-1) - torch.eye(7))
    assert teacher.grad.isfinite().all()


class Fixed(torch.nn.Module):
    """A student of free logits for every observation, which is the number of a row."""

    def __init__(self, rows, num_teachers=1):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.randn(rows, 4))
        self.values = torch.nn.Parameter(torch.randn(rows))
        self.weights = torch.nn.Parameter(torch.randn(rows, num_teachers))

    def forward(self, rows):
        return Output(Categorical(logits=self.logits[rows]), self.values[rows], self.weights[rows])


def random_batch(rows, num_teachers=1):
    return Batch(
        observations=torch.arange(rows),
        actions=torch.randint(4, (rows,)),
        log_probs=torch.rand(rows).log(),
        advantages=torch.randn(rows),
        returns=torch.randn(rows),
        prior=torch.ones(rows, num_teachers),
        teachers=torch.rand(rows, num_teachers, 4).softmax(-1),
    )


COEFFICIENTS = {"clip": 0.2, "value_coef": 0.5, "entropy_coef": 0.01, "uniform_coef": 0.3}


def rl_loss(student, batch):
    """L_RL written out for one row after the other."""
    policy, values, _ = student(batch.observations)
    total = 0.0
    for t, action in enumerate(batch.actions):
        probs = policy.probs[t]
        ratio = probs[action] / batch.log_probs[t].exp()
        surrogate = min(ratio * batch.advantages[t], min(max(ratio, 0.8), 1.2) * batch.advantages[t])
        total += -surrogate + 0.5 * (values[t] - batch.returns[t]) ** 2 + 0.01 * (probs * probs.log()).sum()
    return (total / len(batch.actions)).item()


def test_eq2_loss_hand_worked():
    # one row: pi_theta = (3/4, 1/4), V = 2; action 0 was taken with probability 3/4 (ratio 1), A = 3, R = 1
    policy = Categorical(probs=torch.tensor([[0.75, 0.25]]))
    batch = Batch(*map(torch.tensor, ([0], [0], [log(0.75)], [3.0], [1.0], [[1.0]], [[[0.0, 1.0]]])))
    loss, parts = llm4teach_loss(
        lambda _: Output(policy, torch.tensor([2.0]), torch.zeros(1, 1)), batch, 10.0, **COEFFICIENTS
    )
    entropy = -0.75 * log(0.75) - 0.25 * log(0.25)
    #                                   -r A,  0.5 (2 - 1)^2, entropy,         lambda * KL((0, 1) || (3/4, 1/4))
    assert loss.item() == pytest.approx(-3.0 + 0.5 * 1.0 - 0.01 * entropy + 10 * log(4), rel=1e-5)
    expected = {"policy_loss": -3.0, "value_loss": 1.0, "entropy": entropy, "distance": log(4)}
    expected |= {"approx_kl": 0.0, "clip_fraction": 0.0}  # the policy has not moved
    assert {name: part.item() for name, part in parts.items()} == pytest.approx(expected, rel=1e-5)


def test_how_far_the_policy_has_moved_hand_worked():
    # pi_theta = (1/2, 1/2); the actions were taken with probabilities 1/2, 1/4 and 0.45: ratios 1, 2 and 1.11
    policy = Categorical(probs=torch.full((3, 2), 0.5))
    old = torch.tensor([0.5, 0.25, 0.45]).log()
    batch = Batch(torch.zeros(3), torch.tensor([0, 1, 0]), old, torch.ones(3), torch.zeros(3), *2 * [torch.empty(3, 0)])
    output = Output(policy, torch.zeros(3), torch.zeros(3, 1))
    _, parts = llm4teach_loss(lambda _: output, batch, 0.0, **COEFFICIENTS)
    assert parts["approx_kl"].item() == pytest.approx((log(2) ** 2 + log(0.5 / 0.45) ** 2) / 3 / 2, rel=1e-5)
    assert parts["clip_fraction"].item() == pytest.approx(1 / 3)


@pytest.mark.parametrize("lambda_", [0.1, 10.0])
def test_eq2_loss_is_rl_plus_lambda_times_kl(lambda_):
    student, batch = Fixed(50), random_batch(50)
    loss, parts = llm4teach_loss(student, batch, lambda_, **COEFFICIENTS)
    distance = kl_divergence(Categorical(probs=batch.teachers[:, 0]), Categorical(logits=student.logits)).mean()
    assert parts["distance"].item() == pytest.approx(distance.item(), rel=1e-4)
    assert loss.item() == pytest.approx(rl_loss(student, batch) + lambda_ * distance.item(), rel=1e-4)


def test_eq2_lambda_0_never_looks_at_the_teachers():
    student, batch = Fixed(50), random_batch(50)
    expected = rl_loss(student, batch)
    for nothing in (torch.empty(50, 0), torch.full((50, 1), torch.nan), None):
        batch = batch._replace(prior=nothing, teachers=nothing)
        loss, parts = llm4teach_loss(student, batch, 0.0, **COEFFICIENTS)
        assert loss.item() == pytest.approx(expected, rel=1e-4)
        assert "distance" not in parts


def test_mix_teachers_hand_worked():
    teachers = torch.tensor([[[1.0, 0, 0], [0, 0.5, 0.5]]])
    # 1/4 (1, 0, 0) + 3/4 (0, 1/2, 1/2)
    assert mix_teachers(torch.tensor([[0.25, 0.75]]), teachers).tolist() == [[0.25, 0.375, 0.375]]


def test_weigh_teachers_hand_worked():
    logits = torch.tensor([[log(3.0), 0.0, 50.0]] * 4)
    prior = torch.tensor([[1.0, 1, 0], [0.5, 0.5, 0], [0.25, 0.75, 0], [0, 0, 0]])
    weights, divergence = weigh_teachers(logits, prior)
    # 3 : 1 of those who can act; 3 * 1/4 : 1 * 3/4; nobody
    expected = torch.tensor([[0.75, 0.25, 0], [0.75, 0.25, 0], [0.5, 0.5, 0], [0, 0, 0]])
    torch.testing.assert_close(weights, expected)
    # KL((3/4, 1/4) || (1/2, 1/2)) twice, KL((1/2, 1/2) || (1/4, 3/4)), nothing
    to_even, to_prior = 0.75 * log(1.5) + 0.25 * log(0.5), 0.5 * log(2) + 0.5 * log(2 / 3)
    assert divergence.tolist() == pytest.approx([to_even, to_even, to_prior, 0], abs=1e-6)


def test_weigh_teachers_takes_the_prior_of_a_student_that_does_not_weigh():
    prior = torch.rand(50, 4) * (torch.rand(50, 4) < 0.7)
    prior = prior / prior.sum(-1, keepdim=True).clamp_min(1e-10)
    weights, divergence = weigh_teachers(torch.zeros(50, 1), prior)
    torch.testing.assert_close(weights, prior)
    torch.testing.assert_close(divergence, torch.zeros(50), atol=1e-6, rtol=0)
    assert (weights[prior == 0] == 0).all()


def test_eq2_many_teachers_hand_worked():
    # two teachers of three may speak; the student weighs them 3 : 1, logits (log 3, log 1), the third's 50 is masked
    student = Fixed(1, num_teachers=3)
    student.weights.data = torch.tensor([[log(3.0), 0.0, 50.0]])
    student.logits.data = torch.zeros(1, 4)
    teachers = torch.tensor([[[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]])
    batch = random_batch(1)._replace(prior=torch.tensor([[1.0, 1, 0]]), teachers=teachers)
    loss, parts = llm4teach_loss(student, batch, 2.0, **COEFFICIENTS)
    # mixture (3/4, 1/4, 0, 0) against (1/4, 1/4, 1/4, 1/4): 3/4 log 3 + 1/4 log 1
    distance = 0.75 * log(3)
    # KL((3/4, 1/4) || (1/2, 1/2)) = 3/4 log 3/2 + 1/4 log 1/2
    to_uniform = 0.75 * log(1.5) + 0.25 * log(0.5)
    assert parts["distance"].item() == pytest.approx(distance, rel=1e-5)
    assert loss.item() == pytest.approx(rl_loss(student, batch) + 2 * (distance + 0.3 * to_uniform), rel=1e-5)


def test_eq2_many_teachers_against_a_loop():
    rows, num_teachers = 60, 5
    student, batch = Fixed(rows, num_teachers), random_batch(rows, num_teachers)
    silent = torch.rand(rows, num_teachers) < 0.5
    silent[:, 2] = False  # somebody always speaks
    batch.prior[silent] = 0
    loss, _ = llm4teach_loss(student, batch, 3.0, **COEFFICIENTS)
    total = 0.0
    for t in range(rows):
        speaking = [k for k in range(num_teachers) if not silent[t, k]]
        weights = student.weights[t, speaking].softmax(-1)
        mixture = sum(weight * batch.teachers[t, k] for weight, k in zip(weights, speaking))
        total += kl_divergence(Categorical(probs=mixture), Categorical(logits=student.logits[t]))
        uniform = Categorical(probs=torch.ones(len(speaking)))
        total += 0.3 * kl_divergence(Categorical(probs=weights), uniform)
    assert loss.item() == pytest.approx(rl_loss(student, batch) + 3 * total.item() / rows, rel=1e-4)
    # the weights' gradient comes from both terms, and from nowhere else
    (ours,) = torch.autograd.grad(loss, student.weights)
    (theirs,) = torch.autograd.grad(3 * total / rows, student.weights)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_eq2_gradient_reaches_the_teacher_weights_and_no_nan():
    student, batch = Fixed(20, num_teachers=3), random_batch(20, num_teachers=3)
    batch.prior[:, 1] = 0  # never available
    batch.prior[:5, 2] = 0  # these rows have a single teacher left: nothing to weigh
    llm4teach_loss(student, batch, 3.0, **COEFFICIENTS)[0].backward()
    assert all(parameter.grad.isfinite().all() for parameter in student.parameters())
    assert (student.weights.grad[:, 1] == 0).all()
    assert (student.weights.grad[:5] == 0).all()
    assert (student.weights.grad[5:, [0, 2]] != 0).all()


@pytest.mark.parametrize("num_teachers", [1, 3])
def test_eq2_a_state_in_which_no_teacher_speaks_adds_nothing(num_teachers):
    student, batch = Fixed(4, num_teachers), random_batch(4, num_teachers)
    batch.prior[0] = 0
    coefficients = COEFFICIENTS | {"value_coef": 0.0, "entropy_coef": 0.0}
    batch = batch._replace(advantages=torch.zeros(4))  # so that L_RL = 0
    loss, _ = llm4teach_loss(student, batch, 1.0, **coefficients)
    loss.backward()
    others, _ = llm4teach_loss(student, Batch(*(column[1:] for column in batch)), 1.0, **coefficients)
    assert loss.item() == pytest.approx(others.item() * 3 / 4, rel=1e-5)
    assert all(p.grad is None or p.grad.isfinite().all() for p in student.parameters())
    assert (student.logits.grad[0] == 0).all()
    assert (student.logits.grad[1:] != 0).any(-1).all()


@pytest.mark.parametrize("num_teachers", [1, 3])
def test_update_moves_the_policy_towards_the_teacher(num_teachers):
    student, batch = Fixed(40, num_teachers), random_batch(40, num_teachers)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
    settings = {"epochs": 4, "minibatch_size": 16, "max_grad_norm": 0.5, **COEFFICIENTS}
    first = update(student, optimizer, batch, 10.0, **settings)
    for _ in range(20):
        last = update(student, optimizer, batch, 10.0, **settings)
    assert set(last) == {"policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction", "distance"}
    assert last["distance"] < 0.5 * first["distance"]


def test_update_learns_from_advantages_alone():
    student, batch = Fixed(1), random_batch(40)._replace(observations=torch.zeros(40, dtype=torch.long))
    batch = batch._replace(advantages=(batch.actions == 2).float(), teachers=torch.empty(40, 0, 0))
    with torch.no_grad():
        batch = batch._replace(log_probs=student(batch.observations).policy.log_prob(batch.actions))
    before = student.logits.detach().softmax(-1)[0, 2].item()
    optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
    losses = update(student, optimizer, batch, 0.0, epochs=4, minibatch_size=16, max_grad_norm=0.5, **COEFFICIENTS)
    assert "distance" not in losses
    assert student.logits.detach().softmax(-1)[0, 2].item() > before


@pytest.mark.parametrize(("rows", "largest", "cuts"), [(10, 4, [4, 3, 3]), (8, 4, [4, 4]), (3, 4, [3])])
def test_update_passes_over_every_row_once_an_epoch(rows, largest, cuts):
    class Recorder(Fixed):
        def forward(self, observations):
            seen.append(observations.tolist())
            return super().forward(observations)

    seen = []
    student = Recorder(rows)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.0)
    update(
        student, optimizer, random_batch(rows), 1.0, epochs=2, minibatch_size=largest, max_grad_norm=1, **COEFFICIENTS
    )
    assert [len(part) for part in seen] == cuts * 2
    epochs = [[row for part in parts for row in part] for parts in (seen[: len(cuts)], seen[len(cuts) :])]
    assert [sorted(epoch) for epoch in epochs] == [list(range(rows))] * 2
    assert rows < 4 or epochs[0] != epochs[1]  # a new order
