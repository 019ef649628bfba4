"""The students' bodies for MiniGrid and the MLP, against cell-by-cell oracles and weights counted by hand."""

from math import exp

import numpy as np
import pytest
import torch

from doorkey.ablations import AbsoluteGrid, EgocentricPaperBody, IntegerGrid
from doorkey.task import STUDENTS
from envs import NUM_ACTIONS, TASKS
from nets import EgocentricGrid, mlp_student, paper_student, small_student


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


SIZE, REACH, SIDE = 10, 8, 17
UNSEEN, EMPTY, WALL, DOOR, KEY, LAVA = 0, 1, 2, 4, 5, 9
SYMBOLS = (UNSEEN, WALL, DOOR, KEY, LAVA)
AHEAD_OF = [(1, 0), (0, 1), (-1, 0), (0, -1)]  # east, south, west, north


def blank(x, y, direction):
    memory = np.zeros((SIZE, SIZE, 4), np.uint8)
    memory[:] = (EMPTY, 0, 0, 4)
    memory[x, y, 3] = direction
    return memory


def random_memory(rng):
    """Anything anywhere, the agent inside of the outermost cells."""
    memory = blank(*rng.integers(1, SIZE - 1, 2), rng.integers(4))
    memory[:, :, 0] = rng.choice([*SYMBOLS, EMPTY], (SIZE, SIZE))
    memory[:, :, 1] = rng.integers(0, 6, (SIZE, SIZE))
    return memory


def body_input(body, memories):
    """What the layers of the body are given."""
    caught = []
    handle = body.layers.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    with torch.no_grad():
        body(torch.from_numpy(np.stack(memories)))
    handle.remove()
    return caught[0]


def naive_body_input(body, memory):
    """The same, cell by cell: x_c = sum of E_p over the n_c cells p that show symbol c, over sqrt(max(n_c, 1))."""
    codes, color_codes = body.code.weight.detach(), body.color_code.weight.detach()  # (D, side * side)
    (ax, ay), *others = np.argwhere(memory[:, :, 3] != 4)
    assert not others
    direction = memory[ax, ay, 3]
    fx, fy = AHEAD_OF[direction]
    x = {symbol: torch.zeros(len(codes)) for symbol in SYMBOLS}
    count = dict.fromkeys(SYMBOLS, 0)
    palette = {color: torch.zeros(len(color_codes)) for color in range(6)}
    near = {(symbol, ahead, right): 0.0 for symbol in SYMBOLS for ahead in (-1, 0, 1, 2) for right in range(-2, 3)}
    for i in range(SIZE):
        for j in range(SIZE):
            kind, color = int(memory[i, j, 0]), int(memory[i, j, 1])
            ahead, right = (i - ax) * fx + (j - ay) * fy, (j - ay) * fx - (i - ax) * fy
            p = (ahead + REACH) * SIDE + right + REACH
            if kind != EMPTY:
                x[kind] += codes[:, p]
                count[kind] += 1
            if kind in (DOOR, KEY):
                palette[color] += color_codes[:, p]
            if (kind, ahead, right) in near:
                near[kind, ahead, right] = 1.0
    compass = [float(direction == d) for d in range(4)]
    sums = [x[symbol] / max(count[symbol], 1) ** 0.5 for symbol in SYMBOLS]
    return torch.cat([*sums, *palette.values(), torch.tensor([*near.values(), *compass])])


def test_egocentric_grid_is_a_sum_of_codes():
    rng, body = np.random.default_rng(0), EgocentricGrid()
    memories = [random_memory(rng) for _ in range(50)]
    expected = torch.stack([naive_body_input(body, memory) for memory in memories])
    torch.testing.assert_close(body_input(body, memories), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_egocentric_grid_is_a_sum_of_codes_in_real_rooms(task):
    rng, body = np.random.default_rng(0), EgocentricGrid()
    room = TASKS[task]()
    memories = []
    for seed in range(4):
        memories.append(room.reset(seed=seed)[0])
        for _ in range(30):
            memory, _, terminated, truncated, _ = room.step(int(rng.integers(NUM_ACTIONS)))
            memories.append(memory)
            if terminated or truncated:
                break
    expected = torch.stack([naive_body_input(body, memory) for memory in memories])
    torch.testing.assert_close(body_input(body, memories), expected, atol=1e-4, rtol=1e-4)


def random_scene(rng):
    """Everything within the 5 x 5 cells around the agent at 4, 4, emptiness elsewhere."""
    scene = random_memory(rng)
    memory = blank(4, 4, rng.integers(4))
    memory[2:7, 2:7, :2] = scene[2:7, 2:7, :2]
    return memory


def turn(memory):
    """A quarter to the right: the cell x, y goes to SIZE - 1 - y, x, and east becomes south."""
    turned = np.empty_like(memory)
    for x in range(SIZE):
        for y in range(SIZE):
            cell = memory[x, y].copy()
            if cell[3] != 4:
                cell[3] = (cell[3] + 1) % 4
            turned[SIZE - 1 - y, x] = cell
    return turned


def test_egocentric_grid_does_not_see_where_the_scene_stands_or_how_it_is_turned():
    rng, body = np.random.default_rng(0), EgocentricGrid()
    for _ in range(10):
        scene = random_scene(rng)
        moved = [np.roll(scene, shift, (0, 1)) for shift in ((0, 0), (3, 2), (-2, 1), (3, -2))]
        turned = [scene, turn(scene), turn(turn(scene)), turn(turn(turn(scene)))]
        inputs = body_input(body, moved + turned)
        compass, rest = inputs[:, -4:], inputs[:, :-4]
        torch.testing.assert_close(rest, rest[:1].expand_as(rest), atol=1e-5, rtol=1e-5)
        direction = int(scene[4, 4, 3])
        assert compass.argmax(-1).tolist() == [direction] * 4 + [(direction + k) % 4 for k in range(4)]


def test_egocentric_grid_sees_what_matters_and_not_what_does_not():
    body = EgocentricGrid()
    key, other_color, elsewhere, behind = (blank(4, 4, 0) for _ in range(4))
    key[8, 4, :2] = (KEY, 1)
    other_color[8, 4, :2] = (KEY, 2)
    elsewhere[8, 5, :2] = (KEY, 1)
    behind[0, 4, :2] = (KEY, 1)
    inputs = body_input(body, [key, other_color, elsewhere, behind])
    assert all(not torch.equal(inputs[0], other) for other in inputs[1:])
    wall, painted = blank(4, 4, 0), blank(4, 4, 0)
    wall[8, 4, :2], painted[8, 4, :2] = (WALL, 5), (WALL, 1)
    assert torch.equal(*body_input(body, [wall, painted]))  # the colour of walls


def test_egocentric_grid_shows_the_key_in_hand():
    held, nothing = blank(4, 4, 2), blank(4, 4, 2)
    held[4, 4, :2] = (KEY, 3)
    assert not torch.equal(*body_input(EgocentricGrid(), [held, nothing]))


def test_absolute_grid_has_a_code_for_each_cell_and_says_where_the_agent_stands():
    body = AbsoluteGrid()
    memories = [blank(4, 4, 0), blank(2, 3, 1)]
    for memory in memories:
        memory[7, 5, :2] = (KEY, 1)
    nothing, codes, color_codes = [0.0] * 16, body.code.weight[:, 75].tolist(), body.color_code.weight[:, 75].tolist()
    sums = [*nothing * 3, *codes, *nothing, *[0.0] * 4, *color_codes, *[0.0] * 16]  # the fourth symbol, second colour
    expected = [
        [*sums, *(float(cell == 44) for cell in range(100)), 1, 0, 0, 0],
        [*sums, *(float(cell == 23) for cell in range(100)), 0, 1, 0, 0],
    ]
    torch.testing.assert_close(body_input(body, memories), torch.tensor(expected))


def test_integer_grid_reads_the_turned_codes_as_quantities():
    body = IntegerGrid()
    memory = blank(4, 4, 0)
    memory[6, 4, :2] = (KEY, 1)  # two ahead: the last row of what is near, in its middle
    memory[3, 2, :2] = (DOOR, 5)  # behind and two to the left: the first of what is near
    key, door = (2 + REACH) * SIDE + REACH, (-1 + REACH) * SIDE - 2 + REACH
    objects, palette = torch.full((SIDE**2,), 0.1), torch.zeros(SIDE**2)
    objects[key], objects[door] = 0.5, 0.4
    palette[key], palette[door] = 2 / 6, 1.0
    near = [0.4, *[0.1] * 16, 0.5, *[0.1] * 2]
    compass = [1.0, 0, 0, 0]
    with torch.no_grad():
        expected = torch.cat([body.code(objects), body.color_code(palette), torch.tensor([*near, *compass])])
    torch.testing.assert_close(body_input(body, [memory])[0], expected)


@pytest.mark.parametrize("direction", range(4))
def test_published_net_on_the_agents_view_has_the_agent_in_the_middle_looking_along_the_first_axis(direction):
    body, x, y = EgocentricPaperBody(), 6, 3
    body.layers = torch.nn.Sequential(torch.nn.Identity())
    memory = blank(x, y, direction)
    (dx, dy), (rx, ry) = AHEAD_OF[direction], AHEAD_OF[(direction + 1) % 4]
    memory[x + 2 * dx, y + 2 * dy, :2] = (KEY, 1)  # two ahead
    memory[x - 3 * dx + rx, y - 3 * dy + ry, :2] = (DOOR, 5)  # three behind and one to the right
    turned = body(torch.from_numpy(memory[None]))[0].permute(1, 2, 0)
    expected = torch.from_numpy(blank(5, 5, direction)).float()
    expected[7, 5, :2] = torch.tensor([KEY, 1.0])
    expected[2, 6, :2] = torch.tensor([DOOR, 5.0])
    torch.testing.assert_close(turned, expected)


def test_on_the_agents_view_the_published_net_loses_nothing():
    rng = np.random.default_rng(0)
    body = EgocentricPaperBody()
    body.layers = torch.nn.Sequential(torch.nn.Identity())
    for _ in range(20):
        memory = random_memory(rng)
        turned = body(torch.from_numpy(memory[None]))[0].permute(1, 2, 0).reshape(-1, 4)
        assert sorted(map(tuple, turned.tolist())) == sorted(map(tuple, memory.reshape(-1, 4).astype(float).tolist()))
    assert count(STUDENTS["paper-view"](NUM_ACTIONS)) == count(STUDENTS["paper"](NUM_ACTIONS))


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_small_student_has_at_most_24000_weights():
    student = small_student(NUM_ACTIONS)
    assert count(student) <= 24_000
    assert count(student) == 23_836
    # 289 offsets * (16 + 4), (208 -> 64), (64 -> 64), actor (64 -> 7), critic (64 -> 1)
    assert count(student) == 289 * 20 + 209 * 64 + 65 * 64 + 65 * 7 + 65


def test_without_the_agents_view_the_small_student_has_as_many_weights():
    assert count(STUDENTS["small-absolute"](NUM_ACTIONS)) == 23_836


def test_paper_student_is_the_published_net():
    student = paper_student(NUM_ACTIONS)
    assert count(student) == 843_576
    assert count(student.body) == 23_728  # the "24K"


@pytest.mark.parametrize("name", STUDENTS)
@pytest.mark.parametrize("num_teachers", [1, 4])
def test_students_speak_of_a_batch(name, num_teachers):
    rng = np.random.default_rng(0)
    student = STUDENTS[name](NUM_ACTIONS, num_teachers)
    memories = torch.from_numpy(np.stack([random_memory(rng) for _ in range(3)]))
    policy, value, teacher_logits = student(memories)
    assert (policy.probs.shape, value.shape, teacher_logits.shape) == ((3, NUM_ACTIONS), (3,), (3, num_teachers))
    assert policy.probs.sum(-1).tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    for row in range(3):  # a row does not depend on the others
        alone = student(memories[row : row + 1])
        torch.testing.assert_close(alone.policy.probs[0], policy.probs[row], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(alone.value[0], value[row], atol=1e-5, rtol=1e-4)


def test_small_student_starts_near_the_uniform_policy():
    rng = np.random.default_rng(0)
    memories = torch.from_numpy(np.stack([random_memory(rng) for _ in range(20)]))
    probs = small_student(NUM_ACTIONS)(memories).policy.probs
    assert probs.max().item() < exp(0.2) / NUM_ACTIONS


def test_mlp_student_hand_counted():
    # (6 -> 64), (64 -> 64), actor (64 -> 3), critic (64 -> 1); with a standard deviation, one more number an action
    weights = 7 * 64 + 65 * 64 + 65 * 3 + 65
    assert count(mlp_student(6, 3)) == weights
    assert count(mlp_student(6, 3, std=0.2)) == weights + 3
    assert count(mlp_student(6, 3, num_teachers=4)) == weights + 65 * 4


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64, torch.float32])
def test_mlp_student_takes_observations_of_any_shape_and_number_type(dtype):
    observations = torch.ones(5, 2, 3, dtype=dtype)
    policy, value, teacher_logits = mlp_student(6, 3, num_teachers=2)(observations)
    assert (policy.probs.shape, value.shape, teacher_logits.shape) == ((5, 3), (5,), (5, 2))
    gaussian = mlp_student(6, 3, std=0.25)(observations).policy
    assert gaussian.stddev.tolist() == [[pytest.approx(0.25)] * 3] * 5
    assert gaussian.mean.abs().max() < 0.1
