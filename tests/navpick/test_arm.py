"""The arm as a URDF describes it, on robots small enough to work out by hand, and the inverse kinematics."""

import re

import numpy as np
import pytest

from navpick.arm import TORSO_LIFT, ArmError, main, read_arm
from navpick.dataset import HOME

AT_REST = np.array([-0.45, -1.08, 0.1, 0.935, -0.001, 1.573, 0.005])  # habitat-lab's
HOME_ARM = read_arm(HOME / "robots" / "fetch_suction.urdf")


def urdf(tmp_path, joints, hand='<collision><geometry><box size="0.2 0.1 0.1"/></geometry></collision>'):
    """A robot of links in a row; `joints`: type, origin, rpy and axis of each. The base's inertia lies on its side."""
    links = ['<link name="link0"><inertial><origin rpy="1.5707963267948966 0 0"/></inertial></link>']
    for number, (kind, xyz, rpy, axis) in enumerate(joints, start=1):
        inside = hand if number == len(joints) else ""
        links.append(
            f'<link name="link{number}">{inside}</link><joint name="joint{number}" type="{kind}"><origin xyz="{xyz}" '
            f'rpy="{rpy}"/><parent link="link{number - 1}"/><child link="link{number}"/><axis xyz="{axis}"/>'
            '<limit lower="-2" upper="1.5"/></joint>'
        )
    path = tmp_path / "robot.urdf"
    path.write_text(f'<robot name="a">{"".join(links)}</robot>')
    return path


SEVEN = [("revolute", "0.1 0 0", "0 0 0", "0 0 1")] * 6 + [("revolute", "0.1 0 0", "0 0 0", "1 0 0")]


def test_seven_joints_in_a_row_by_hand(tmp_path):
    arm = read_arm(urdf(tmp_path, SEVEN))
    straight = arm.pose(np.zeros(7))
    np.testing.assert_allclose(straight.tip, [0.8, 0, 0], atol=1e-12)  # seven links, and half a hand of 0.2 m
    np.testing.assert_allclose(straight.pointing, [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(straight.jacobian[:, 0], [0, 0.7, 0, 0, 0, 1], atol=1e-12)  # 0.7 m from the first joint
    bent = arm.pose(np.array([0, np.pi / 2, 0, 0, 0, 0, 0]))  # after 0.2 m to the left
    np.testing.assert_allclose(bent.tip, [0.2, 0.6, 0], atol=1e-12)
    np.testing.assert_allclose(bent.pointing, [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(bent.rotation, [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-12)
    assert arm.lower.tolist() == [-2.0] * 7
    assert arm.upper.tolist() == [1.5] * 7
    np.testing.assert_allclose(arm.shoulder, [0.2, 0, 0])
    assert arm.length == pytest.approx(0.6)


def test_what_stands_before_the_arm_is_held_where_habitat_lab_holds_it(tmp_path):
    torso = ("prismatic", "0 0 0.5", "0 0 0", "0 0 1")
    neck = ("revolute", "0 0 0.3", "0 0 0", "0 0 1")  # an eighth turning joint is not the arm's
    arm = read_arm(urdf(tmp_path, [torso, neck, *SEVEN]))
    np.testing.assert_allclose(arm.pose(np.zeros(7)).tip, [0.8, 0, 0.8 + TORSO_LIFT], atol=1e-12)


def test_a_turned_mount_and_a_hand_without_a_box(tmp_path):
    mounted = [("fixed", "0 0 1", "0 0 1.5707963267948966", "1 0 0"), *SEVEN]
    sphere = '<inertial><origin rpy="0 0 1.5707963267948966"/></inertial><collision><origin xyz="-0.3 0 0"/><geometry>'
    pose = read_arm(urdf(tmp_path, mounted, sphere + '<sphere radius="0.1"/></geometry></collision>')).pose(np.zeros(7))
    np.testing.assert_allclose(pose.tip, [0, 0.3, 1], atol=1e-12)  # behind the last joint: the hand looks back
    np.testing.assert_allclose(pose.pointing, [0, -1, 0], atol=1e-12)
    np.testing.assert_allclose(pose.rotation[:, 0], [-1, 0, 0], atol=1e-12)  # a quarter more, as its inertia lies
    mesh = read_arm(urdf(tmp_path, SEVEN, '<collision><geometry><mesh filename="a.stl"/></geometry></collision>'))
    np.testing.assert_allclose(mesh.pose(np.zeros(7)).tip, [0.7, 0, 0], atol=1e-12)  # meshes are not read


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("<robot", "cannot be read"),
        ("<robot/>", "cannot be read"),
        (
            "<robot><link name='a'/><link name='b'/><joint type='fixed'><parent link='a'/><child link='b'/></joint>"
            "<joint type='fixed'><parent link='b'/><child link='a'/></joint></robot>",
            "a hangs on itself",
        ),
        ("six joints", "6 turning joints"),
        (None, "No such"),
    ],
)
def test_a_robot_without_an_arm(tmp_path, content, said):
    path = urdf(tmp_path, SEVEN[:6])
    if content is None:
        path.unlink()
    elif content != "six joints":
        path.write_text(content)
    with pytest.raises(ArmError, match=said):
        read_arm(path)


def test_the_jacobian_against_differences():
    angles, step = np.random.default_rng(0).uniform(-1, 1, 7), 1e-6
    pose = HOME_ARM.pose(angles)
    for joint in range(7):
        moved = HOME_ARM.pose(angles + step * np.eye(7)[joint])
        np.testing.assert_allclose((moved.tip - pose.tip) / step, pose.jacobian[:3, joint], atol=1e-5)
        spin = (moved.rotation - pose.rotation) @ pose.rotation.T / step  # skew: its entries are the angular velocity
        np.testing.assert_allclose([spin[2, 1], spin[0, 2], spin[1, 0]], pose.jacobian[3:, joint], atol=1e-5)


def move(angles, target, steps, tilt=0.0):
    """Follow the arm's steps to `target`."""
    for _ in range(steps):
        change = HOME_ARM.steps_towards(angles, HOME_ARM.pose(angles), target, tilt)
        angles = angles + 0.0125 * change / max(0.05, np.abs(change).max())
        assert (angles >= HOME_ARM.lower).all()
        assert (angles <= HOME_ARM.upper).all()
    return HOME_ARM.pose(angles)


@pytest.mark.parametrize("tilt", [0.0, 0.6])
def test_the_arm_reaches_over_the_table_with_the_cup_as_it_should_point(tilt):
    random = np.random.default_rng(0)
    for _ in range(10):
        target = np.array([random.uniform(0.55, 0.7), random.uniform(-0.2, 0.2), random.uniform(0.65, 0.9)])
        pose = move(AT_REST, target, 400, tilt)
        np.testing.assert_allclose(pose.tip, target, atol=0.01)
        ahead = np.array([*target[:2], 0]) / np.linalg.norm(target[:2])
        assert pose.pointing @ (np.sin(tilt) * ahead - np.cos(tilt) * np.array([0, 0, 1])) > 0.97


def test_what_is_too_far_away_to_be_met_from_above_is_met_from_aside():
    target = np.array([1.05, 0.0, 0.85])
    pose = move(AT_REST, target, 400)
    np.testing.assert_allclose(pose.tip, target, atol=0.02)
    assert pose.pointing[2] > -0.9


def test_a_joint_at_its_limit_leaves_the_way_up_to_the_others():
    """The shoulder is as high as it goes and the elbow bent: without the limits' part the tip would sink."""
    angles = np.array([0.0, -1.221, 0.0, 2.2, 0.0, 0.0, 0.0])
    start = HOME_ARM.pose(angles)
    pose = move(angles, start.tip + np.array([0, 0, 0.25]), 200)
    np.testing.assert_allclose(pose.tip, start.tip + np.array([0, 0, 0.25]), atol=0.02)


def test_a_file_that_is_no_robot_ends_in_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sys.argv", ["arm.py", str(tmp_path / "robot.urdf")])
    with pytest.raises(SystemExit, match=r"^2$"):
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"navpick\.arm: .*robot\.urdf cannot be read as a robot \(.*\)$", line)
