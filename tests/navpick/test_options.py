"""The options for Nav & Pick on hand-made readings, and where these stand in an observation."""

import numpy as np
import pytest

from navpick import options
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

ARM_AT_REST = np.array([-0.45, -1.08, 0.1, 0.935, -0.001, 1.573, 0.005])  # habitat-lab's


def test_the_layout_lays_readings_end_to_end():
    at = IMAGE_SIDE**2
    for name in (*SENSORS, *HINTS):
        place = sensor_slice(name)
        assert place.start == at
        at = place.stop
    assert at == SIZE
    assert (NUM_SENSORS, NUM_ACTIONS) == (19, 11)
    given = {name: np.arange(1, 1 + size) / 7 for name, (size, _) in SENSORS.items()}
    observation = readings(**given, path_length=5.0)
    for name, numbers in given.items():
        np.testing.assert_allclose(read(observation, name), numbers, rtol=1e-6)
    assert observation[sensor_slice("path_length")] == 5.0
    assert np.count_nonzero(observation) == NUM_SENSORS + 1


def test_the_jacobian_against_differences():
    angles, step = np.random.default_rng(0).uniform(-1, 1, 7), 1e-6
    position, rotation, jacobian = options.kinematics(angles)
    for joint in range(7):
        moved, turned, _ = options.kinematics(angles + step * np.eye(7)[joint])
        np.testing.assert_allclose((moved - position) / step, jacobian[:3, joint], atol=1e-5)
        spin = (turned - rotation) @ rotation.T / step  # skew: its entries are the angular velocity
        np.testing.assert_allclose([spin[2, 1], spin[0, 2], spin[1, 0]], jacobian[3:, joint], atol=1e-5)


@pytest.mark.slow
def test_the_arm_reaches_over_the_table_with_the_cup_down():
    random = np.random.default_rng(0)
    for _ in range(20):
        target = np.array([random.uniform(0.5, 0.75), random.uniform(-0.2, 0.2), random.uniform(0.65, 0.9)])
        angles = ARM_AT_REST.copy()
        for _ in range(600):
            step = options.move_arm(angles, target)
            assert np.abs(step).max() <= 1 + 1e-9
            angles += options.MAX_JOINT_STEP * step
        position, rotation, _ = options.kinematics(angles)
        np.testing.assert_allclose(position, target, atol=0.01)
        assert rotation[2, 0] < -0.98


def test_navigate_turns_to_the_corner_then_goes():
    far = {"obj_start_gps_compass": (3.0, 0.0), "path_length": 3.0}
    left = options.navigate(readings(corner_ahead=0.0, corner_left=2.0, **far))
    assert (left[TURN], left[FORWARD]) == (1.0, 0.0)
    slightly = options.navigate(readings(corner_ahead=2.0, corner_left=0.2, **far))
    assert 0.2 < slightly[TURN] < 0.5 < slightly[FORWARD] < 1.0
    ahead = options.navigate(readings(corner_ahead=2.0, corner_left=0.0, **far))
    assert (ahead[TURN], ahead[FORWARD]) == (0.0, 1.0)
    there = options.navigate(
        readings(corner_ahead=0.0, corner_left=0.0, obj_start_gps_compass=(0.6, -1.0), path_length=0.0)
    )
    assert (there[TURN], there[FORWARD]) == (1.0, 0.0)  # the compass counts clockwise
    beside = options.navigate(
        readings(corner_ahead=0.0, corner_left=0.3, obj_start_gps_compass=(0.7, 1.0), path_length=0.3)
    )
    # near the object it turns to that, and not to the corner
    assert (beside[TURN], beside[FORWARD]) == (-1.0, 0.0)
    for means in (left, slightly, ahead, there, beside):
        assert means[STOP] < 0
        assert means[GRIP] < 0
        assert not means[ARM].any()


def test_initiation_and_termination():
    navigate, pick = options.OPTIONS["navigate"], options.OPTIONS["pick"]
    far, near = readings(obj_start_gps_compass=(2.0, 0.0)), readings(obj_start_gps_compass=(0.6, 0.1))
    aside, holding = (
        readings(obj_start_gps_compass=(0.6, 1.0)),
        readings(obj_start_gps_compass=(2.0, 0.0), is_holding=1),
    )
    assert [navigate.is_done(o) for o in (far, near, aside)] == [False, True, False]
    assert [navigate.can_start(o) for o in (far, holding)] == [True, False]
    assert [pick.can_start(o) for o in (far, near, aside, holding)] == [False, True, False, True]
    assert navigate.policy(far).shape == (2, 11)
    with pytest.raises(ValueError, match="dance"):
        options.make_option("dance")


def test_pick_lifts_before_it_comes_back():
    position, rotation, _ = options.kinematics(ARM_AT_REST)
    thing = np.array([0.65, 0.0, 0.7])
    seen = {
        "joint": ARM_AT_REST,
        "obj_start_sensor": rotation.T @ (thing - position),
        "obj_start_gps_compass": (0.65, 0.0),
    }
    step = options.pick(readings(**seen))[ARM]
    after, _, _ = options.kinematics(ARM_AT_REST + 0.0125 * step)
    above = thing + np.array([0, 0, 0.12])
    assert np.linalg.norm(after - above) < np.linalg.norm(position - above)
    low = ARM_AT_REST.copy()
    for _ in range(400):
        low += 0.0125 * options.move_arm(low, thing)
    position, rotation, _ = options.kinematics(low)
    to_rest = np.array([0.5, 0.0, 1.0]) - position
    seen = {
        "joint": low,
        "obj_start_sensor": rotation.T @ (thing - position),
        "relative_resting_position": to_rest,
        "is_holding": 1,
    }
    step = options.pick(readings(**seen))[ARM]
    after, _, _ = options.kinematics(low + 0.0125 * step)
    assert after[2] - position[2] > 3 * np.linalg.norm((after - position)[:2])
