"""The options against brute force, MiniGrid itself and rooms drawn by hand; explore is in test_explore.py."""

import numpy as np
import pytest
from minigrid.core.actions import Actions
from minigrid.core.world_object import Key, Lava
from rooms import EAST, NORTH, SOUTH, STEPS, WEST, brute_force, draw, follow, reveal, walkable

from envs import TASKS, SimpleDoorKeyEnv
from options import EMPTY, KEY, LAVA, OPTION_SETS, WALL, make_option, read_scene, shortest_path


def names(things=("key", "door")):
    return [f"{ordinal}{color} {thing}" for ordinal in ("", "second ") for color in ("red", "blue") for thing in things]


def faces(target):
    return lambda x, y, direction: (x + STEPS[direction][0], y + STEPS[direction][1]) == target


def random_memory(rng):
    """A walled room of random size and clutter, all of it seen, with the agent and a red key."""
    width, height = (int(side) for side in rng.integers(4, 11, size=2))
    clutter = rng.uniform(0, 0.6)
    kinds = rng.choice([WALL, KEY, LAVA, EMPTY], p=[clutter / 3] * 3 + [1 - clutter], size=(width, height))
    kinds[0], kinds[-1], kinds[:, 0], kinds[:, -1] = [WALL] * 4
    memory = np.zeros((width, height, 4), np.uint8)
    memory[:, :, 0], memory[:, :, 1], memory[:, :, 3] = kinds, 1, 4  # colour 1 is not red
    inner = [(x, y) for x in range(1, width - 1) for y in range(1, height - 1)]
    agent, target = (inner[i] for i in rng.choice(len(inner), 2, replace=False))
    memory[agent] = (EMPTY, 0, 0, rng.integers(4))
    memory[target] = (KEY, 0, 0, 4)
    return memory, target


@pytest.mark.parametrize("passable", [frozenset({EMPTY}), frozenset({EMPTY, LAVA})], ids=["repaired", "paper"])
def test_shortest_path_is_as_short_as_brute_force_says(passable):
    rng = np.random.default_rng(0)
    unreachable = 0
    for _ in range(400):
        memory, target = random_memory(rng)
        scene, goal = read_scene(memory), faces(target)
        free = {(x, y) for x, y in np.argwhere(np.isin(memory[:, :, 0], list(passable))).tolist()}
        expected = brute_force(free, scene.pose, goal)
        blind = shortest_path(scene, lambda pose, goal=goal: goal(*pose), passable)
        guided = shortest_path(
            scene,
            lambda pose, goal=goal: goal(*pose),
            passable,
            lambda pose, target=target: abs(pose[0] - target[0]) + abs(pose[1] - target[1]) - 1,
        )
        unreachable += expected is None
        for path in (blind, guided):
            assert (path is None) == (expected is None)
            if path is None:
                continue
            assert len(path) == expected
            x, y, direction = scene.pose
            for action in path:  # and it leads there, over free cells only
                if action == Actions.forward:
                    x, y = x + STEPS[direction][0], y + STEPS[direction][1]
                    assert (x, y) in free
                else:
                    direction = (direction + {Actions.right: 1, Actions.left: 3}[action]) % 4
            assert goal(x, y, direction)


@pytest.mark.parametrize("option_set", OPTION_SETS)
@pytest.mark.parametrize("task", TASKS)
def test_go_to_faces_its_object_by_a_shortest_path(task, option_set):
    env, gone, blocked = TASKS[task](max_steps=10_000), 0, 0
    for seed in range(60):
        env.reset(seed=seed)
        reveal(env)
        at = {(x, y): env.grid.get(x, y) for x in range(10) for y in range(10)}
        counted = {}
        for x, y in sorted(at, key=lambda cell: cell[::-1]):  # reading order
            thing = at[x, y]
            if thing is None or thing.type not in ("key", "door"):
                continue
            name = f"{thing.color} {thing.type}"
            counted[name] = counted.get(name, 0) + 1
            option = make_option(f"go to {'second ' if counted[name] > 1 else ''}{name}", option_set)
            free = {cell for cell, other in at.items() if other is None or other.type in walkable(option_set)}
            pose = (*(int(c) for c in env.agent_pos), env.agent_dir)
            expected = brute_force(free, pose, faces((x, y)))
            assert option.can_start(env.gen_obs())
            if expected is None:  # a key lies in front of the door
                assert option.policy(env.gen_obs()).argmax() == Actions.done
                blocked += 1
                continue
            actions, ended = follow(env, option)
            if ended:  # only over lava, and only in the paper's set
                assert option_set == "paper"
                assert env.grid.get(*env.agent_pos).type == "lava"
                break
            assert len(actions) == expected
            assert tuple(env.front_pos) == (x, y)
            gone += 1
    assert gone > 60
    assert (blocked > 0) == (task in ("SimpleDoorKey", "LavaDoorKey"))


@pytest.mark.parametrize("option_set", OPTION_SETS)
def test_go_to_counts_the_unseen_as_free_until_it_is_seen(option_set):
    env = draw("####### #A....# #.....# #.....# #....r# #######", EAST)
    env.memory[5, 4, :3] = env.grid.get(5, 4).encode()
    actions, _ = follow(env, make_option("go to red key", option_set))
    assert (len(actions), actions.count(Actions.forward)) == (7, 6)  # 3 + 3 cells, one turn
    assert tuple(env.front_pos) == (5, 4)


def test_repaired_go_to_walks_around_lava_met_on_the_way():
    env = draw("######### #A..~..r# #.......# #########", EAST)
    env.memory[7, 1, :3] = env.grid.get(7, 1).encode()
    _, ended = follow(env, make_option("go to red key", "repaired"))
    assert not ended
    assert tuple(env.front_pos) == (7, 1)


def test_go_to_what_cannot_be_reached_waits():
    env = draw("###### #A.~r# #..#~# ######", EAST, see_all=True)
    option = make_option("go to red key", "repaired")
    assert option.can_start(env.gen_obs())
    assert not option.is_done(env.gen_obs())
    assert option.policy(env.gen_obs()).argmax() == Actions.done


def test_go_to_ends_when_the_object_is_held():
    env = draw("##### #A..# #...# #####", EAST, carrying=Key("red"), see_all=True)
    assert make_option("go to red key").is_done(env.gen_obs())
    assert not make_option("go to blue key").can_start(env.gen_obs())


CORRIDOR = "####### #A.~.r# #######"  # the key lies behind the lava
DETOUR = "####### #A.~.r# #.....# #######"


def test_paper_options_walk_through_lava():
    env = draw(DETOUR, EAST, see_all=True)
    actions, ended = follow(env, make_option("go to red key", "paper"))
    assert (actions, ended) == ([Actions.forward] * 2, True)
    env = draw("####### #A.~..# #.....# #.....# #######", EAST)
    assert follow(env, make_option("explore", "paper")) == ([Actions.forward] * 2, True)


def test_repaired_options_walk_around_lava():
    env = draw(DETOUR, EAST, see_all=True)
    actions, ended = follow(env, make_option("go to red key", "repaired"))
    # Down into the free row, along it and below the key: right, forward, left, 4 x forward, left; or the turn
    # comes a step later. Either way 1 + 4 cells are walked, and three turns are needed to face north.
    assert not ended
    assert (len(actions), actions.count(Actions.forward)) == (8, 5)
    assert tuple(env.front_pos) == (5, 1)
    env = draw(CORRIDOR, EAST, see_all=True)
    assert make_option("go to red key", "repaired").policy(env.gen_obs()).argmax() == Actions.done


@pytest.mark.parametrize("option_set", OPTION_SETS)
def test_pick_up_takes_the_key_ahead(option_set):
    env = draw("##### #Ar.# #...# #####", EAST)
    option = make_option("pick up red key", option_set)
    assert option.can_start(env.gen_obs())
    assert follow(env, option) == ([Actions.pickup], False)
    assert env.carrying.color == "red"
    assert env.grid.get(2, 1) is None


def test_paper_pick_up_is_one_action_whatever_the_hands_hold():
    env = draw("##### #Ab.# #...# #####", EAST, carrying=Key("red"))
    memory = env.gen_obs()
    option = make_option("pick up blue key", "paper")
    assert option.policy(memory).argmax() == Actions.pickup
    after, *_ = env.step(Actions.pickup)
    np.testing.assert_array_equal(after, memory)  # full hands take nothing: the option would try for ever
    assert not option.is_done(after)


@pytest.mark.parametrize(
    ("picture", "direction"),
    [
        ("##### #Ab.# #...# #...# #####", EAST),
        ("##### #b..# #A~.# #...# #####", NORTH),
        ("###### #A.b~# #..~.# #....# ######", SOUTH),
        ("##### #bA.# #####", WEST),  # room to drop only behind
    ],
)
def test_repaired_pick_up_with_full_hands_ends_holding_the_new_key(picture, direction):
    env = draw(picture, direction, carrying=Key("red"), see_all=True)
    actions, ended = follow(env, make_option("pick up blue key", "repaired"))
    assert not ended
    assert env.carrying.color == "blue"
    assert actions.count(Actions.drop) == actions.count(Actions.pickup) == 1
    reds = [thing for thing in env.grid.grid if thing is not None and thing.type == "key"]
    assert [thing.color for thing in reds] == ["red"]  # it lies in the room again


def test_repaired_pick_up_swaps_keys_in_drawn_rooms():
    env = TASKS["ColoredDoorKey"](max_steps=10_000)
    for seed in range(60):
        env.reset(seed=seed)
        reveal(env)
        for color in ("red", "blue", "red"):
            for verb in ("go to", "pick up"):
                _, ended = follow(env, make_option(f"{verb} {color} key", "repaired"))
                assert not ended
            assert env.carrying.color == color
            assert np.sum(env.grid.encode()[:, :, 0] == KEY) == 1


def test_paper_drop_is_one_action():
    env = draw("##### #A..# #...# #####", EAST, carrying=Key("red"))
    assert follow(env, make_option("drop red key", "paper")) == ([Actions.drop], False)
    assert env.grid.get(2, 1).type == "key"
    env = draw("##### #A..# #...# #####", WEST, carrying=Key("red"))  # a wall ahead: nothing happens, for ever
    memory = env.gen_obs()
    assert make_option("drop red key", "paper").policy(memory).argmax() == Actions.drop
    np.testing.assert_array_equal(env.step(Actions.drop)[0], memory)


@pytest.mark.parametrize(
    ("picture", "direction", "expected", "lies_at"),
    [
        ("##### #A..# #...# #####", EAST, [Actions.drop], (2, 1)),
        ("##### #A..# #~..# #####", SOUTH, [Actions.left, Actions.drop], (2, 1)),
        ("##### #A..# #~..# #####", NORTH, [Actions.right, Actions.drop], (2, 1)),
        ("##### #Ab.# #...# #####", EAST, [Actions.right, Actions.drop], (1, 2)),
        ("###### #A...# ######", WEST, [Actions.left, Actions.left, Actions.drop], (2, 1)),
    ],
)
def test_repaired_drop_seeks_the_nearest_free_cell(picture, direction, expected, lies_at):
    env = draw(picture, direction, carrying=Key("red"), see_all=True)
    actions, ended = follow(env, make_option("drop red key", "repaired"))
    assert (sorted(actions), ended) == (sorted(expected), False)
    assert actions[-1] == Actions.drop
    assert env.carrying is None
    assert env.grid.get(*lies_at).color == "red"


def test_repaired_drop_takes_no_more_actions_than_brute_force():
    env, turned, hemmed_in = SimpleDoorKeyEnv(max_steps=10_000), 0, 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        env.reset(seed=seed)
        for x in range(1, env.room[0] - 1):
            for y in range(1, env.room[1] - 1):
                if env.grid.get(x, y) is None and rng.random() < 0.7 and (x, y) != tuple(env.agent_pos):
                    env.grid.set(x, y, Lava())
        env.carrying = Key("red")
        reveal(env)
        free = {(x, y) for x in range(10) for y in range(10) if env.grid.get(x, y) is None} - {tuple(env.agent_pos)}
        pose = (*(int(c) for c in env.agent_pos), env.agent_dir)
        expected = brute_force(free, pose, lambda x, y, d, free=free: (x + STEPS[d][0], y + STEPS[d][1]) in free)
        option = make_option("drop red key", "repaired")
        if expected is None:
            hemmed_in += 1
            assert option.policy(env.gen_obs()).argmax() == Actions.done
            continue
        actions, _ = follow(env, option)
        assert len(actions) == expected + 1
        turned += expected > 0
    assert turned > 20
    assert hemmed_in > 5


@pytest.mark.parametrize("option_set", OPTION_SETS)
def test_open_ends_the_episode_at_its_own_door_only(option_set):
    env = draw("##### #.AR# #...# #####", EAST, carrying=Key("red"))
    assert follow(env, make_option("open red door", option_set)) == ([Actions.toggle], True)
    assert env.grid.get(3, 1).is_open
    env = draw("##### #.AR# #...# #####", EAST, carrying=Key("blue"))
    option = make_option("open red door", option_set)
    memory, reward, terminated, *_ = env.step(option.policy(env.gen_obs()).argmax())
    assert (reward, terminated, env.grid.get(3, 1).is_open) == (0, False, False)
    assert not option.is_done(memory)


def test_second_counts_in_reading_order():
    env = draw("#####R# #A....# R.....# #######", EAST, see_all=True)
    scene = read_scene(env.gen_obs())
    assert scene.things == {"red door": (5, 0), "second red door": (0, 2)}
    assert not make_option("go to second red key").can_start(env.gen_obs())
    follow(env, make_option("go to second red door"))
    assert tuple(env.front_pos) == (0, 2)


@pytest.mark.parametrize("verb", ["go to", "pick up", "drop", "open"])
def test_an_option_starts_only_where_its_object_is_known(verb):
    option = make_option(f"{verb} red {'door' if verb == 'open' else 'key'}")
    assert not option.can_start(draw("##### #A.b# #..B# #####", EAST, see_all=True).gen_obs())
    assert option.can_start(draw("##### #A.r# #..R# #####", EAST, see_all=True).gen_obs())
    if verb != "open":  # the object in the hand is known, too
        assert option.can_start(draw("##### #A.b# #..B# #####", EAST, carrying=Key("red")).gen_obs())
    assert make_option("explore").can_start(draw("##### #A..# #####", EAST).gen_obs())


def test_drop_ends_when_the_hands_are_free_of_it():
    drop = make_option("drop red key")
    assert not drop.is_done(draw("##### #A..# #####", EAST, carrying=Key("red")).gen_obs())
    assert drop.is_done(draw("##### #A..# #####", EAST).gen_obs())
    assert drop.is_done(draw("##### #A..# #####", EAST, carrying=Key("blue")).gen_obs())


@pytest.mark.parametrize("option_set", OPTION_SETS)
def test_every_policy_is_a_dirac_distribution(option_set):
    rng = np.random.default_rng(2)
    every = [make_option(f"{verb} {name}", option_set) for verb in ("go to", "pick up", "drop", "open")
             for name in names()] + [make_option("explore", option_set)]  # fmt: skip
    taken = set()
    for task in TASKS.values():
        env = task()
        for seed in range(3):
            memory, _ = env.reset(seed=seed)
            for _ in range(40):
                for option in every:
                    distribution = option.policy(memory)
                    assert distribution.shape == (7,)
                    assert sorted(distribution.tolist()) == [0] * 6 + [1]
                    assert distribution.sum() == 1
                    taken.add(int(distribution.argmax()))
                memory, _, terminated, truncated, _ = env.step(rng.choice(5))
                if terminated or truncated:
                    break
    assert taken == set(Actions)


@pytest.mark.parametrize(
    "name",
    ["", "jump", "Explore", "explore the room", "go to", "go to red", "go to key", "go to red ball", "go to pink key",
     "open red door now", "pick up third red key", "go to second second red key", "(not a plan)", "red key"],
)  # fmt: skip
@pytest.mark.parametrize("option_set", OPTION_SETS)
def test_make_option_says_what_arrived_and_what_is_allowed(name, option_set):
    with pytest.raises(ValueError, match="go to / pick up / drop / open") as error:
        make_option(name, option_set)
    assert repr(name) in str(error.value)


def test_make_option_names_the_option_sets():
    with pytest.raises(ValueError, match="'best' is unknown; choose from paper, repaired"):
        make_option("explore", "best")
