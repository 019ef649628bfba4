"""The students' bodies for Habitat: weights counted by hand, shapes, what each input is for."""

from math import erf, sqrt

import pytest
import torch
from torch import nn

from navpick.layout import IMAGE_SIDE
from navpick.nets import STUDENTS, resnet18


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


NUM_ACTIONS, NUM_SENSORS, NUM_HINTS = 11, 19, 6
NAMES = [pytest.param(name, marks=[pytest.mark.slow] * (name == "paper")) for name in STUDENTS]


def observe(rows):
    return torch.cat([torch.rand(rows, IMAGE_SIDE**2), torch.randn(rows, NUM_SENSORS + NUM_HINTS)], 1)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_weights_of_the_small_student():
    student = STUDENTS["small"](NUM_ACTIONS, num_sensors=NUM_SENSORS)
    # convolutions 5 x 5 x 1, 3 x 3 x 16, 3 x 3 x 32; MLP (512 + 19 * 9 -> 256), (256 -> 256); actor, critic
    convolutions = 16 * 26 + 32 * 145 + 32 * 289
    assert count(student) == 261_111 == convolutions + 684 * 256 + 257 * 256 + 257 * 22 + 257


def test_the_guided_student_alone_reads_the_hints():
    observations = observe(4)
    others = observations.clone()
    others[:, IMAGE_SIDE**2 + NUM_SENSORS :] += 1.0
    small, guided = (STUDENTS[name](NUM_ACTIONS, num_sensors=NUM_SENSORS) for name in ("small", "guided"))
    assert torch.equal(small(observations).policy.mean, small(others).policy.mean)
    for hint in range(NUM_HINTS):
        others = observations.clone()
        others[:, IMAGE_SIDE**2 + NUM_SENSORS + hint] += 0.3
        assert not torch.equal(guided(observations).policy.mean, guided(others).policy.mean)
    assert count(guided) == 261_111 + NUM_HINTS * 9 * 256  # each with its 8 Fourier features


def test_weights_of_the_papers_student():
    student = STUDENTS["paper"](NUM_ACTIONS, num_sensors=NUM_SENSORS)
    # torchvision's resnet18 has 11,689,512: without its last layer, 513 * 1000, and two of three input channels
    assert count(student.body.vision) == 11_170_240 == 11_689_512 - 513 * 1000 - 2 * 64 * 7 * 7
    assert count(student) == 11_417_047 == 11_170_240 + 684 * 256 + 257 * 256 + 257 * 22 + 257


def test_resnet18_has_its_shapes_and_its_17_convolutions():
    net, x, shapes = resnet18(), torch.rand(2, 1, IMAGE_SIDE, IMAGE_SIDE), []
    for layer in net:
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    blocks = [(64, 16, 16)] * 3 + [(128, 8, 8)] * 2 + [(256, 4, 4)] * 2 + [(512, 2, 2)] * 2
    assert shapes == [(64, 32, 32)] * 2 + blocks + [(512, 1, 1), (512,)]
    kernels = [module.kernel_size for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert (kernels.count((7, 7)), kernels.count((3, 3)), kernels.count((1, 1))) == (1, 16, 3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_teachers", [1, 2])
def test_depth_students_speak_of_a_batch(name, num_teachers):
    student, observations = STUDENTS[name](NUM_ACTIONS, num_teachers, num_sensors=NUM_SENSORS), observe(3)
    policy, value, teacher_logits = student(observations)
    assert (policy.sample().shape, value.shape, teacher_logits.shape) == ((3, NUM_ACTIONS), (3,), (3, num_teachers))
    assert policy.log_prob(policy.sample()).shape == policy.entropy().shape == (3,)
    alone = student(observations[:1])  # a row does not depend on the others
    torch.testing.assert_close(alone.policy.mean[0], policy.mean[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(alone.value[0], value[0], atol=1e-5, rtol=1e-4)
    loss = policy.log_prob(torch.zeros(3, NUM_ACTIONS)).sum() + value.sum() + teacher_logits.sum()
    loss.backward()
    silent = {name for name, parameter in student.named_parameters() if parameter.grad is None}
    assert not silent


def test_depth_body_takes_the_image_row_by_row_and_then_the_sensors():
    student, observations = STUDENTS["small"](NUM_ACTIONS, num_sensors=NUM_SENSORS), observe(2)
    images, joined = [], []
    student.body.vision.register_forward_pre_hook(lambda _, inputs: images.append(inputs[0]))
    student.body.layers.register_forward_pre_hook(lambda _, inputs: joined.append(inputs[0]))
    student(observations)
    assert images[0].shape == (2, 1, IMAGE_SIDE, IMAGE_SIDE)
    assert images[0][1, 0, 5, 7] == observations[1, 5 * IMAGE_SIDE + 7]
    sensors = observations[:, IMAGE_SIDE**2 :][:, :NUM_SENSORS]
    at = joined[0].shape[1] - 9 * NUM_SENSORS
    assert torch.equal(joined[0][:, at : at + NUM_SENSORS], sensors)
    fourth = at + 3 * NUM_SENSORS  # behind the readings and the sines of pi x and 2 pi x
    torch.testing.assert_close(joined[0][:, fourth : fourth + NUM_SENSORS], torch.sin(4 * torch.pi * sensors))
    last = joined[0][:, -NUM_SENSORS:]
    torch.testing.assert_close(last, torch.cos(8 * torch.pi * sensors))
    with pytest.raises(RuntimeError, match="split"):
        student(observations[:, : IMAGE_SIDE**2 + NUM_SENSORS - 1])


@pytest.mark.parametrize("name", NAMES)
def test_an_untrained_student_hardly_ever_stops(name):
    policy = STUDENTS[name](NUM_ACTIONS, num_sensors=NUM_SENSORS, std=0.5)(observe(20)).policy
    stops = 1 - policy.base_dist.cdf(torch.zeros(20, NUM_ACTIONS))[:, -1].double()
    assert (1 - erf(4 / sqrt(2))) / 2 == pytest.approx(3.167e-5, rel=1e-3)  # the normal's mass beyond 4 deviations
    assert stops.tolist() == pytest.approx([3.167e-5] * 20, rel=0.2)
    assert policy.mean[:, :-1].abs().max() < 0.1  # the other ten know nothing yet


@pytest.mark.parametrize("name", NAMES)
def test_depth_student_comes_back_from_a_file(name, tmp_path):
    student, other = (STUDENTS[name](NUM_ACTIONS, 2, num_sensors=NUM_SENSORS) for _ in range(2))
    torch.nn.init.normal_(student.actor.weight)
    torch.save(student.state_dict(), tmp_path / "student.pt")
    other.load_state_dict(torch.load(tmp_path / "student.pt", weights_only=True))
    observations, actions = observe(2), torch.randn(2, NUM_ACTIONS)
    for ours, theirs in zip(student(observations), other(observations)):
        if isinstance(ours, torch.Tensor):
            assert torch.equal(ours, theirs)
        else:
            assert torch.equal(ours.log_prob(actions), theirs.log_prob(actions))
