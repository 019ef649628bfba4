"""What habitat-lab is told, without it: how the robot is drawn, which objects are asked for in training."""

import xml.etree.ElementTree as ET
from types import SimpleNamespace

from navpick.lab import ask_for_the_others, drawn_by_collision_shapes

URDF = """<robot name="two_links">
  <link name="arm">
    <inertial><mass value="2"/></inertial>
    <visual><origin xyz="9 9 9"/><geometry><mesh filename="../meshes/arm.dae"/></geometry></visual>
    <collision><origin xyz="1 2 3"/><geometry><mesh filename="../meshes/arm.obj" scale="2 2 2"/></geometry></collision>
  </link>
  <link name="head">
    <visual><geometry><mesh filename="../meshes/head.dae"/></geometry></visual>
    <collision><geometry><sphere radius="0.2"/></geometry></collision>
  </link>
</robot>"""


def drawn(link):
    return [(shape.find("geometry")[0].attrib, shape.find("origin")) for shape in link.findall("visual")]


def test_a_link_is_drawn_by_its_collision_mesh_where_it_has_one(tmp_path):
    given = tmp_path / "robots" / "robot.urdf"
    given.parent.mkdir()
    given.write_text(URDF)
    copy = drawn_by_collision_shapes(given)
    arm, head = ET.parse(copy.name).iter("link")
    ((mesh, origin),) = drawn(arm)
    assert mesh == {"filename": str(tmp_path / "meshes" / "arm.obj"), "scale": "2 2 2"}
    assert origin.attrib == {"xyz": "1 2 3"}
    assert len(arm.findall("collision")) == 1
    assert arm.find("inertial/mass").attrib == {"value": "2"}
    assert drawn(head)[0][0] == {"filename": str(tmp_path / "meshes" / "head.dae")}  # a sphere says less than a mesh
    assert drawn_by_collision_shapes(given) is copy
    assert given.read_text() == URDF


def test_training_asks_for_every_object_on_a_receptacle():
    def episode(number, target, *objects):
        return SimpleNamespace(
            episode_id=number, targets={target: f"goal {number}"}, name_to_receptacle=dict.fromkeys(objects, "table")
        )

    episodes = [
        episode(0, "cup", "cup", "bowl", "box"),
        episode(1, "box", "box"),
        episode(2, "can"),  # no receptacle is named
        episode(3, "cup", "box", "cup"),
    ]
    others = ask_for_the_others(episodes)
    assert [(other.episode_id, other.targets) for other in others] == [
        (0, {"bowl": "goal 0"}),
        (3, {"box": "goal 3"}),
        (0, {"box": "goal 0"}),
    ]
    assert episodes[0].targets == {"cup": "goal 0"}
