"""A small home of our own for Habitat's Nav & Pick (paper section 4.2), as ordinary Habitat data-set files.

    python -m navpick.home data/home        # writes the folder, the same content every time

Walled rooms with tables, objects of simple shapes on them, and a robot of boxes with the kinematics of the Fetch:

    home.scene_dataset_config.json          where the rest is
    stages/, scenes/                        a room each: floor, walls and tables in one mesh (GLB)
    objects/                                red box, blue can, ... (GLB)
    robots/fetch_suction.urdf               links and joints in the order that habitat-lab's FetchSuctionRobot counts
    datasets/{train,val}/rearrange_easy.json.gz    which objects lie where, which one to pick: RearrangeDataset-v0

Ten rooms with their placements are for training, the paper's ten specifications; ten others are for evaluation. Units
are metres; y points up.
"""

from __future__ import annotations

import gzip
import json
import math
import struct
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.cli import Parser, errors_in_one_line
from navpick.dataset import HOME

ROOMS = {"train": 10, "val": 10}
EPISODES = {"train": 100, "val": 100}  # equally many a room
WALL_HEIGHT, WALL_THICKNESS = 2.0, 0.1
COLORS = {"red": (0.8, 0.1, 0.1), "green": (0.1, 0.6, 0.2), "blue": (0.1, 0.2, 0.8), "yellow": (0.9, 0.8, 0.1)}
SHAPES = {"box": (0.06, 0.08, 0.06), "can": (0.06, 0.10, 0.06), "ball": (0.07, 0.07, 0.07)}  # width, height, depth


class Box(NamedTuple):
    """A box with its sides along the axes."""

    center: tuple[float, float, float]
    size: tuple[float, float, float]
    color: tuple[float, float, float]


class Table(NamedTuple):
    """A table top with a leg in each corner; `x`, `z`: its middle."""

    x: float
    z: float
    width: float
    depth: float
    height: float


class Room(NamedTuple):
    """A rectangle around the origin."""

    width: float
    depth: float
    boxes: list[Box]
    tables: list[Table]


# --------------------------------------------------------------------------------------------------------------- meshes

Mesh = tuple  # positions (V, 3), normals (V, 3), triangles (T, 3), colour


def box_mesh(box: Box) -> Mesh:
    """Return a box: six faces of two triangles."""
    positions: list[np.ndarray] = []
    normals: list[np.ndarray] = []
    triangles: list[list[int]] = []
    for axis in range(3):
        for side in (-1, 1):
            u, v = np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3]
            normal = side * np.eye(3)[axis]
            base = len(positions)
            positions += [(normal + a * u + b * v) / 2 for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
            normals += [normal] * 4
            order = ((0, 1, 2), (0, 2, 3)) if side > 0 else ((0, 2, 1), (0, 3, 2))
            triangles += [[base + k for k in triangle] for triangle in order]
    return np.array(positions) * box.size + box.center, np.array(normals), np.array(triangles), box.color


def round_mesh(size: tuple[float, float, float], color: tuple[float, float, float], ball: bool) -> Mesh:
    """Return a can or a ball, turned about the vertical axis from a profile; the middle is the origin."""
    if ball:
        angles = np.linspace(-math.pi / 2, math.pi / 2, 9)
        profile = [(math.cos(a), math.sin(a), math.cos(a), math.sin(a)) for a in angles]
    else:  # bottom, side, top, each with its own normals
        profile = [(0, -1, 0, -1), (1, -1, 0, -1), (1, -1, 1, 0), (1, 1, 1, 0), (1, 1, 0, 1), (0, 1, 0, 1)]
    turns = np.linspace(0, 2 * math.pi, 17)
    positions, normals, triangles = [], [], []
    for radius, height, out, up in profile:
        for turn in turns:
            positions.append((radius * math.cos(turn), height, radius * math.sin(turn)))
            normals.append((out * math.cos(turn), up, out * math.sin(turn)))
    for ring in range(len(profile) - 1):
        for k in range(len(turns) - 1):
            a, b = ring * len(turns) + k, (ring + 1) * len(turns) + k
            triangles += [[a, b, b + 1], [a, b + 1, a + 1]]
    return np.array(positions) * np.array(size) / 2, np.array(normals), np.array(triangles), color


def write_glb(path: Path, meshes: list[Mesh]) -> None:
    """Write a binary glTF 2.0 file with a primitive and a material for each mesh."""
    blob = b""
    views: list[dict[str, int]] = []
    accessors: list[dict[str, Any]] = []
    primitives: list[dict[str, Any]] = []
    materials: list[dict[str, Any]] = []
    for positions, normals, triangles, color in meshes:
        numbers = []
        for array, kind, target in ((positions, "VEC3", 34962), (normals, "VEC3", 34962), (triangles, "SCALAR", 34963)):
            data = array.astype("<u4" if kind == "SCALAR" else "<f4")
            accessor = {"bufferView": len(views), "componentType": 5125 if kind == "SCALAR" else 5126,
                        "count": data.size if kind == "SCALAR" else len(data), "type": kind}  # fmt: skip
            if array is positions:
                accessor |= {"min": data.min(0).tolist(), "max": data.max(0).tolist()}
            numbers.append(len(accessors))
            accessors.append(accessor)
            views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": data.nbytes, "target": target})
            blob += data.tobytes()
        primitives.append({"attributes": {"POSITION": numbers[0], "NORMAL": numbers[1]}, "indices": numbers[2],
                           "material": len(materials)})  # fmt: skip
        materials.append({"pbrMetallicRoughness": {"baseColorFactor": [*color, 1.0], "metallicFactor": 0.0}})
    tree = {
        "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": primitives}], "materials": materials, "accessors": accessors, "bufferViews": views,
        "buffers": [{"byteLength": len(blob)}],
    }  # fmt: skip
    text = json.dumps(tree, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(blob), b"BIN\0") + blob
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)


# ---------------------------------------------------------------------------------------------------------------- rooms


def make_room(random: np.random.Generator) -> Room:
    """Return a rectangle of 4.5 to 6.5 m with one or two tables that can be walked around."""
    width, depth = random.uniform(5.0, 6.5), random.uniform(4.5, 6.0)
    wall, floor, wood = (0.85, 0.85, 0.8), (0.5, 0.45, 0.4), (0.45, 0.3, 0.15)
    boxes = [Box((0, -0.05, 0), (width, 0.1, depth), floor)]
    for side in (-1, 1):
        middle = side * (width + WALL_THICKNESS) / 2
        boxes.append(Box((middle, WALL_HEIGHT / 2, 0), (WALL_THICKNESS, WALL_HEIGHT, depth), wall))
        middle = side * (depth + WALL_THICKNESS) / 2
        boxes.append(Box((0, WALL_HEIGHT / 2, middle), (width + 2 * WALL_THICKNESS, WALL_HEIGHT, WALL_THICKNESS), wall))
    tables: list[Table] = []
    for side in (-1, 1)[: random.integers(1, 3)]:
        table = Table(
            side * width / 4 + random.uniform(-0.2, 0.2), random.uniform(-0.5, 0.5), random.uniform(0.6, 0.9),
            random.uniform(0.9, 1.4), random.uniform(0.55, 0.7),
        )  # fmt: skip
        top = 0.04
        boxes.append(Box((table.x, table.height - top / 2, table.z), (table.width, top, table.depth), wood))
        for dx in (-1, 1):
            for dz in (-1, 1):
                corner = (table.x + dx * (table.width - 0.06) / 2, (table.height - top) / 2,
                          table.z + dz * (table.depth - 0.06) / 2)  # fmt: skip
                boxes.append(Box(corner, (0.06, table.height - top, 0.06), wood))
        tables.append(table)
    return Room(width, depth, boxes, tables)


def make_episode(random: np.random.Generator, number: int, scene: str, room: Room) -> dict[str, Any]:
    """Return an episode: three different objects, 0.25 m apart and within 0.2 m of a table's edge; one is meant."""
    names = random.choice([f"{color}_{shape}" for color in COLORS for shape in SHAPES], 3, replace=False)
    places: list[tuple[float, float, Table]] = []
    while len(places) < len(names):
        table = room.tables[random.integers(len(room.tables))]
        half_width, half_depth = table.width / 2 - 0.08, table.depth / 2 - 0.08
        x, z = random.uniform(-half_width, half_width), random.uniform(-half_depth, half_depth)
        from_edge = min(table.width / 2 - abs(x), table.depth / 2 - abs(z))
        spot = (table.x + x, table.z + z)
        if from_edge <= 0.2 and all(math.dist(spot, place[:2]) > 0.25 for place in places):
            places.append((*spot, table))
    objects = []
    for name, (x, z, table) in zip(names, places):
        height = table.height + SHAPES[name.split("_")[1]][1] / 2 + 0.002
        objects.append([f"{name}.object_config.json", [[1, 0, 0, x], [0, 1, 0, height], [0, 0, 1, z], [0, 0, 0, 1]]])
    target = f"{names[0]}_:0000"
    return {
        "episode_id": str(number), "scene_id": scene, "scene_dataset_config": "data/home.scene_dataset_config.json",
        "additional_obj_config_paths": ["data/objects/"], "start_position": [0, 0, 0], "start_rotation": [0, 0, 0, 1],
        "info": {"object_labels": {target: "any_targets|0"}}, "ao_states": {}, "rigid_objs": objects,
        "targets": {target: objects[0][1]}, "markers": [], "target_receptacles": [], "goal_receptacles": [],
        "name_to_receptacle": {},
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- robot

# Joint: parent link, child link, type, origin, axis, limits. The kinematics are the Fetch's, as its maker publishes
# them. habitat-lab counts links depth first, with the joints of a link in alphabetical order, hence the small ones.
JOINTS = (
    ("bellows_joint", "base_link", "bellows_link", "fixed", (0, 0, 0), None, None),
    ("estop_joint", "base_link", "estop_link", "fixed", (-0.12465, 0.23892, 0.31127), None, None),
    ("l_wheel_joint", "base_link", "l_wheel_link", "continuous", (0.0012914, 0.18738, 0.055325), (0, 1, 0), None),
    ("laser_joint", "base_link", "laser_link", "fixed", (0.235, 0, 0.2878), None, None),
    ("r_wheel_joint", "base_link", "r_wheel_link", "continuous", (0.0012914, -0.18738, 0.055325), (0, 1, 0), None),
    ("torso_fixed_joint", "base_link", "torso_fixed_link", "fixed", (-0.086875, 0, 0.377425), None, None),
    ("torso_lift_joint", "base_link", "torso_lift_link", "prismatic", (-0.086875, 0, 0.37743), (0, 0, 1), (0, 0.38615)),
    ("bellows_joint2", "torso_lift_link", "bellows_link2", "fixed", (0, 0, 0), None, None),
    ("head_pan_joint", "torso_lift_link", "head_pan_link", "revolute", (0.053125, 0, 0.603), (0, 0, 1), (-1.57, 1.57)),
    ("head_tilt_joint", "head_pan_link", "head_tilt_link", "revolute", (0.14253, 0, 0.058), (0, 1, 0), (-0.76, 1.45)),
    ("head_camera_joint", "head_tilt_link", "head_camera_link", "fixed", (0.055, 0, 0.0225), None, None),
    ("head_camera_depth_joint", "head_camera_link", "head_camera_depth_frame", "fixed", (0, 0.045, 0), None, None),
    ("head_camera_depth_optical_joint", "head_camera_depth_frame", "head_camera_depth_optical_frame", "fixed",
     (0, 0, 0), None, None),
    ("head_camera_rgb_joint", "head_camera_link", "head_camera_rgb_frame", "fixed", (0, 0.02, 0), None, None),
    ("head_camera_rgb_optical_joint", "head_camera_rgb_frame", "head_camera_rgb_optical_frame", "fixed",
     (0, 0, 0), None, None),
    ("shoulder_pan_joint", "torso_lift_link", "shoulder_pan_link", "revolute", (0.119525, 0, 0.34858), (0, 0, 1),
     (-1.6056, 1.6056)),
    ("shoulder_lift_joint", "shoulder_pan_link", "shoulder_lift_link", "revolute", (0.117, 0, 0.06), (0, 1, 0),
     (-1.221, 1.518)),
    ("upperarm_roll_joint", "shoulder_lift_link", "upperarm_roll_link", "continuous", (0.219, 0, 0), (1, 0, 0), None),
    ("elbow_flex_joint", "upperarm_roll_link", "elbow_flex_link", "revolute", (0.133, 0, 0), (0, 1, 0),
     (-2.251, 2.251)),
    ("forearm_roll_joint", "elbow_flex_link", "forearm_roll_link", "continuous", (0.197, 0, 0), (1, 0, 0), None),
    ("wrist_flex_joint", "forearm_roll_link", "wrist_flex_link", "revolute", (0.1245, 0, 0), (0, 1, 0), (-2.16, 2.16)),
    ("wrist_roll_joint", "wrist_flex_link", "wrist_roll_link", "continuous", (0.1385, 0, 0), (1, 0, 0), None),
    ("gripper_axis", "wrist_roll_link", "gripper_link", "fixed", (0.16645, 0, 0), None, None),
    ("suction_joint", "gripper_link", "suction_link", "prismatic", (0, 0, 0), (1, 0, 0), (0, 0.001)),
)  # fmt: skip
# Link: middle and size of its box.
BODIES = {
    "base_link": ((0, 0, 0.2), (0.4, 0.4, 0.3)),  # inside the circle of 0.3 m that habitat-lab keeps free
    "l_wheel_link": ((0, 0, 0), (0.11, 0.04, 0.11)),
    "r_wheel_link": ((0, 0, 0), (0.11, 0.04, 0.11)),
    "torso_lift_link": ((-0.05, 0, 0.25), (0.2, 0.3, 0.6)),
    "head_pan_link": ((0.05, 0, 0.04), (0.16, 0.24, 0.08)),
    "head_tilt_link": ((0.05, 0, 0.02), (0.1, 0.2, 0.08)),
    "shoulder_pan_link": ((0.06, 0, 0.03), (0.16, 0.11, 0.11)),
    "shoulder_lift_link": ((0.11, 0, 0), (0.2, 0.1, 0.1)),
    "upperarm_roll_link": ((0.06, 0, 0), (0.13, 0.1, 0.1)),
    "elbow_flex_link": ((0.1, 0, 0), (0.19, 0.09, 0.09)),
    "forearm_roll_link": ((0.06, 0, 0), (0.12, 0.09, 0.09)),
    "wrist_flex_link": ((0.07, 0, 0), (0.13, 0.08, 0.08)),
    "wrist_roll_link": ((0.03, 0, 0), (0.06, 0.08, 0.08)),
    "gripper_link": ((-0.05, 0, 0), (0.1, 0.07, 0.07)),
    "suction_link": ((0.03, 0, 0), (0.06, 0.03, 0.03)),
}


def robot_urdf() -> str:
    """Return the robot's URDF: boxes on the links, the Fetch's joints."""
    robot = ET.Element("robot", name="fetch")

    def vector(numbers: tuple[float, ...]) -> str:
        return " ".join(map(str, numbers))

    def place(element: ET.Element, link: str, origin: tuple[float, float, float]) -> None:
        """Return where something is on a link; habitat-lab wants y up in the base's frame, and z up in all others."""
        x, y, z = origin
        base = link == "base_link"
        xyz, rpy = ((x, z, -y), (-math.pi / 2, 0, 0)) if base else (origin, (0, 0, 0))
        ET.SubElement(element, "origin", xyz=vector(xyz), rpy=vector(rpy))

    for name in ("base_link", *(joint[2] for joint in JOINTS)):
        link = ET.SubElement(robot, "link", name=name)
        inertial = ET.SubElement(link, "inertial")
        ET.SubElement(inertial, "mass", value="70" if name == "base_link" else "1" if name in BODIES else "0.01")
        inertia = "1" if name == "base_link" else "0.01"
        ET.SubElement(inertial, "inertia", ixx=inertia, iyy=inertia, izz=inertia, ixy="0", ixz="0", iyz="0")
        if name in BODIES:
            middle, size = BODIES[name]
            for part in ("visual", "collision"):
                element = ET.SubElement(link, part)
                place(element, name, middle)
                ET.SubElement(ET.SubElement(element, "geometry"), "box", size=vector(size))
                if part == "visual":  # without a material habitat-sim lights it by images, which takes 14 s of CPU
                    material = ET.SubElement(element, "material", name="grey")
                    ET.SubElement(material, "color", rgba="0.35 0.37 0.4 1")
    for name, parent, child, kind, origin, axis, limits in JOINTS:
        joint = ET.SubElement(robot, "joint", name=name, type=kind)
        ET.SubElement(joint, "parent", link=parent)
        ET.SubElement(joint, "child", link=child)
        place(joint, parent, origin)
        if axis:
            ET.SubElement(joint, "axis", xyz=vector(axis))
        if limits:
            ET.SubElement(joint, "limit", lower=str(limits[0]), upper=str(limits[1]), effort="100", velocity="2")
    return ET.tostring(robot, encoding="unicode") + "\n"


# ----------------------------------------------------------------------------------------------------------- the folder


def write_home(folder: Path) -> None:
    """Write the whole data set; raises OSError."""
    for name in ("stages", "scenes", "objects", "robots", *(f"datasets/{split}" for split in ROOMS)):
        (folder / name).mkdir(parents=True, exist_ok=True)

    def write_json(path: Path, content: Any) -> None:
        path.write_text(json.dumps(content, indent=1) + "\n")

    paths = {"stages": "stages/*.stage_config.json", "objects": "objects/*.object_config.json",
             "scene_instances": "scenes/*.scene_instance.json"}  # fmt: skip
    write_json(
        folder / "home.scene_dataset_config.json",
        {name: {"paths": {".json": [path]}} for name, path in paths.items()},
    )
    for color, rgb in COLORS.items():
        for shape, size in SHAPES.items():
            name = f"{color}_{shape}"
            mesh = box_mesh(Box((0, 0, 0), size, rgb)) if shape == "box" else round_mesh(size, rgb, shape == "ball")
            write_glb(folder / "objects" / f"{name}.glb", [mesh])
            write_json(
                folder / "objects" / f"{name}.object_config.json",
                {"render_asset": f"{name}.glb", "collision_asset": f"{name}.glb", "mass": 0.1, "margin": 0.0,
                 "friction_coefficient": 2.0, "rolling_friction_coefficient": 0.05, "up": [0, 1, 0],
                 "front": [0, 0, -1], "use_bounding_box_for_collision": True},
            )  # fmt: skip
    (folder / "robots" / "fetch_suction.urdf").write_text(robot_urdf())
    for split, count in ROOMS.items():
        random = np.random.default_rng(list(ROOMS).index(split))
        episodes: list[dict[str, Any]] = []
        for number in range(count):
            room, name = make_room(random), f"{split}_room_{number}"
            write_glb(folder / "stages" / f"{name}.glb", [box_mesh(box) for box in room.boxes])
            write_json(
                folder / "stages" / f"{name}.stage_config.json",
                {
                    "render_asset": f"{name}.glb",
                    "collision_asset": f"{name}.glb",
                    "margin": 0.0,
                    "up": [0, 1, 0],
                    "front": [0, 0, -1],
                },
            )
            write_json(
                folder / "scenes" / f"{name}.scene_instance.json",
                {"stage_instance": {"template_name": name}, "default_lighting": "", "object_instances": []},
            )
            for _ in range(EPISODES[split] // count):
                episodes.append(make_episode(random, len(episodes), name, room))
        text = json.dumps({"episodes": episodes}).encode()
        (folder / "datasets" / split / "rearrange_easy.json.gz").write_bytes(gzip.compress(text, mtime=0))


@errors_in_one_line("navpick.home")
def main(arguments: Sequence[str] | None = None) -> None:
    """Write the home."""
    parser = Parser(prog="-m navpick.home", description=main.__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=HOME)
    folder = parser.parse_args(arguments).folder
    write_home(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"wrote {folder}, {size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
