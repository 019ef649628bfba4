"""The options for Nav & Pick on hand-made readings, and where these stand in an observation."""

import numpy as np
import pytest

from navpick import options
from navpick.arm import read_arm
from navpick.dataset import HOME
from navpick.envs import way_round
from navpick.layout import (
    ARM,
    FORWARD,
    GRIP,
    HINTS,
    IMAGE_SIDE,
    NUM_ACTIONS,
    NUM_SENSORS,
    SENSORS,
    SIZE,
    STOP,
    TURN,
    read,
    sensor_slice,
)
from tests.navpick.readings import readings

FETCH = read_arm(HOME / "robots" / "fetch_suction.urdf")
AT_REST = np.array([-0.45, -1.08, 0.1, 0.935, -0.001, 1.573, 0.005])  # habitat-lab's


def test_the_layout_lays_readings_end_to_end():
    at = IMAGE_SIDE**2
    for name in (*SENSORS, *HINTS):
        place = sensor_slice(name)
        assert place.start == at
        at = place.stop
    assert at == SIZE
    assert (NUM_SENSORS, NUM_ACTIONS) == (19, 11)
    given = {name: np.arange(1, 1 + size) / 7 for name, (size, _) in SENSORS.items()}
    observation = readings(**given, path_length=6.0)
    for name, numbers in given.items():
        np.testing.assert_allclose(read(observation, name), numbers, rtol=1e-6)
    assert observation[sensor_slice("path_length")] == 2.0  # its scale is 3 m
    assert read(observation, "path_length") == 6.0
    assert np.count_nonzero(observation) == NUM_SENSORS + 1


def test_navigate_turns_to_the_corner_then_goes_then_turns_to_the_object():
    left = options.navigate(readings(corner_distance=2.0, corner_bearing=1.6, path_length=3.0))
    assert (left[TURN], left[FORWARD]) == (1.0, np.float32(options.CREEP))
    near = options.navigate(readings(corner_distance=0.3, corner_bearing=1.6, path_length=0.4))
    assert (near[TURN], near[FORWARD]) == (1.0, 0.0)  # on the spot
    slightly = options.navigate(readings(corner_distance=2.0, corner_bearing=0.1, path_length=3.0))
    assert 0.2 < slightly[TURN] < 0.5 < slightly[FORWARD] < 1.0
    ahead = options.navigate(readings(corner_distance=2.0, obj_start_gps_compass=(3.0, 1.0), path_length=3.0))
    assert (ahead[TURN], ahead[FORWARD]) == pytest.approx((0.0, 1.0), abs=1e-5)  # not yet to the object
    round_the_other_way = options.navigate(readings(corner_distance=2.0, corner_bearing=-4.0, path_length=3.0))
    assert (round_the_other_way[TURN], round_the_other_way[FORWARD]) == (-1.0, np.float32(options.CREEP))
    there = options.navigate(readings(corner_bearing=1.0))
    assert (there[TURN], there[FORWARD]) == (1.0, 0.0)
    for means in (left, slightly, ahead, there):
        assert means[STOP] < 0
        assert means[GRIP] > 0
        assert not means[ARM].any()


DEGREE = np.pi / 180


def test_the_way_round_does_not_face_away_from_the_object():
    # Hand-worked: the object is 150 degrees to the left, the corner 170 to the right. To the right the robot would face
    # away from the object on its way; so it turns 190 degrees to the left.
    assert way_round(-170 * DEGREE, 150 * DEGREE, lambda turned: 0) == pytest.approx(190 * DEGREE)
    assert way_round(20 * DEGREE, -10 * DEGREE, lambda turned: 0) == pytest.approx(20 * DEGREE)
    for corner, thing in np.random.default_rng(0).uniform(-np.pi, np.pi, (200, 2)):
        turned = way_round(corner, thing, lambda turned: 3)
        assert np.cos(turned) == pytest.approx(np.cos(corner))  # it ends at the corner
        assert np.sin(turned) == pytest.approx(np.sin(corner))
        on_the_way = thing - np.linspace(0, turned, 50)  # bearings of the object
        assert np.abs(on_the_way).max() <= np.pi + 1e-9


@pytest.mark.parametrize(("left", "right", "degrees"), [(2, 1, -170), (2, 2, 190), (1, 2, 190)])
def test_the_way_round_is_the_one_that_is_freer_for_the_arm(left, right, degrees):
    turned = way_round(-170 * DEGREE, 150 * DEGREE, lambda turned: left if turned > 0 else right)
    assert turned == pytest.approx(degrees * DEGREE)


def test_a_free_way_round_is_not_compared_with_the_other():
    looked = []
    way_round(-170 * DEGREE, 150 * DEGREE, lambda turned: looked.append(turned) or 0)
    assert looked == pytest.approx([190 * DEGREE])


def test_initiation_and_termination():
    navigate, pick = (options.make_option(name, FETCH) for name in options.OPTION_NAMES)
    only_navigate, only_pick = (options.make_option(name, FETCH, start_anywhere=False) for name in options.OPTION_NAMES)
    far, near, holding = readings(path_length=2.0), readings(in_reach=1), readings(path_length=2.0, is_holding=1)
    assert [navigate.is_done(o) for o in (far, near)] == [False, True]
    assert all(option.can_start(o) for option in (navigate, pick) for o in (far, near, holding))
    assert [only_navigate.can_start(o) for o in (far, holding)] == [True, False]
    assert [only_pick.can_start(o) for o in (far, near, holding)] == [False, True, True]
    assert not any(pick.is_done(o) for o in (far, near, holding))
    assert navigate.policy(far).shape == (2, 11)
    with pytest.raises(ValueError, match="dance"):
        options.make_option("dance", FETCH)


@pytest.mark.parametrize("reach", [0, 1])
@pytest.mark.parametrize("holding", [0, 1])
def test_restricted_options_leave_one_so_that_every_answer_advises_the_same(reach, holding):
    state = readings(path_length=2.0, in_reach=reach, is_holding=holding)
    both = [options.make_option(name, FETCH, start_anywhere=False) for name in options.OPTION_NAMES]
    assert sum(option.can_start(state) and not option.is_done(state) for option in both) == 1


def seen_from(angles, thing, **more):
    """What the sensors read with the arm at these angles and an object there, in the base's frame."""
    pose = FETCH.pose(angles)
    ee = pose.tip - 0.1 * pose.pointing  # wherever a robot has its end effector
    return readings(joint=angles, ee_pos=ee, obj_start_sensor=pose.rotation.T @ (thing - ee), **more)


def follow(angles, thing, steps, **more):
    """The arm after some steps of pick."""
    for _ in range(steps):
        angles = angles + 0.0125 * options.pick(seen_from(angles, thing, **more), FETCH)[ARM]
    return angles


def test_pick_comes_down_a_cone_and_goes_on_to_the_bottom_of_a_cup():
    thing, angles = np.array([0.65, 0.0, 0.7]), AT_REST
    for _ in range(240):
        angles = follow(angles, thing, 1)
        tip = FETCH.pose(angles).tip
        aside, height = np.linalg.norm(tip[:2] - thing[:2]), tip[2] - thing[2]
        assert height > min(2 * aside - 0.1, 0.19)
    assert aside < 0.02
    assert -0.1 < height < -0.03


def test_a_centimetre_aside_calls_for_nearly_the_same_action():
    thing, angles = np.array([0.65, 0.0, 0.7]), AT_REST
    changes = []
    for _ in range(240):
        angles = follow(angles, thing, 1)
        here, *there = (
            options.pick(seen_from(angles, thing + np.array([x, y, 0.0])), FETCH)[ARM]
            for x, y in ((0, 0), (0.01, 0), (-0.01, 0), (0, 0.01), (0, -0.01))
        )
        changes.append(np.square(np.array(there) - here).sum(1).max())
    assert np.mean(changes) < 0.2


def test_pick_lifts_before_it_comes_back():
    thing = np.array([0.65, 0.0, 0.7])
    low = follow(AT_REST, thing, 240)
    before = FETCH.pose(low).tip
    held = {"is_holding": 1, "relative_resting_position": np.array([0.5, -0.2, 1.0]) - before}
    after = FETCH.pose(follow(low, thing, 10, **held)).tip
    assert after[2] - before[2] > 3 * np.linalg.norm((after - before)[:2])
    assert options.pick(seen_from(low, thing, **held), FETCH)[GRIP] > 0


def test_pick_turns_to_the_object_until_it_holds_it():
    aside = seen_from(AT_REST, np.array([0.65, 0.1, 0.7]), obj_start_gps_compass=(0.66, -0.15))
    assert options.pick(aside, FETCH)[TURN] == 0.5
    aside[sensor_slice("is_holding")] = 1.0
    assert options.pick(aside, FETCH)[TURN] == 0.0


def test_another_arm_is_moved_by_its_own_description(tmp_path):
    """The same readings, and a forearm 5 cm longer: the joints must go elsewhere."""
    text = (HOME / "robots" / "fetch_suction.urdf").read_text()
    assert 'xyz="0.197 0 0"' in text
    (tmp_path / "long.urdf").write_text(text.replace('xyz="0.197 0 0"', 'xyz="0.247 0 0"'))
    longer = read_arm(tmp_path / "long.urdf")
    np.testing.assert_allclose(longer.length - FETCH.length, 0.05, atol=1e-12)
    observation = seen_from(AT_REST, np.array([0.65, 0.0, 0.7]))
    assert np.abs(options.pick(observation, longer) - options.pick(observation, FETCH)).max() > 0.02
