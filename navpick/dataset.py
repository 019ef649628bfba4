"""What a data-set folder lacks, found without a simulator: episodes, rooms, furniture, objects and the robot.

habitat-sim says little about a file that is missing, and for some it ends the process. Here each is one line, with the
command that downloads it. Only what the episodes of a split need is looked for.
"""

from __future__ import annotations

import glob
import gzip
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn
from xml.etree import ElementTree

HOME = Path(__file__).resolve().parents[1] / "data" / "home"  # the home that this project brings
DOWNLOAD = "python -m habitat_sim.utils.datasets_download --uids rearrange_task_assets --data-path"
POINTER = b"version https://git-lfs"  # begins what stands in for a file that git-lfs has not fetched
ASSETS = ("render_asset", "collision_asset", "urdf_filepath")  # what a template, a JSON file, can name
FORMATS = {".dae", ".glb", ".gltf", ".obj", ".ply", ".stl", ".urdf"}  # an asset of no format is a built-in shape


def check_dataset(folder: Path, split: str) -> tuple[Path, Path]:
    """Return the episode file of a split and the robot's URDF, once all that they need has been found.

    Raises HabitatError with the first thing that is missing or cannot be read, and the command that downloads it.
    """
    path, robot = find_files(folder, split)
    files = Files(folder)
    try:
        files.check(robot, folder)
        episodes = files.parse(path, folder)["episodes"]
        if not episodes:
            files.fail(f"{path} has no episodes")
        for config, room in sorted({(e["scene_dataset_config"], e["scene_id"]) for e in episodes}):
            files.check_room(files.locate(config), room, path)
        objects = {
            (e["scene_dataset_config"], *e["additional_obj_config_paths"], name)
            for e in episodes
            for name, _ in e["rigid_objs"]
        }
        for config, *additional, name in sorted(objects):
            files.check_template(files.locate(config), "objects", name, path, additional)
        for number, episode in enumerate(episodes):
            if episode.get("targets") == {}:
                files.fail(f"episode {number} of {path} has no target")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        files.fail(f"{path}, or a file that it needs, is not laid out as Habitat's are: {error!r}")
    return path, robot


def find_files(folder: Path, split: str) -> tuple[Path, Path]:
    """Return the episode file of a split and the robot's URDF in a folder; raises HabitatError without them."""
    files = Files(folder)
    if not folder.is_dir():
        files.fail(f"{folder} is not a folder; a Habitat data set is one, laid out like habitat-lab's data/")
    episodes = search(folder, f"datasets/**/{split}/rearrange_easy.json.gz")
    robots = search(folder, "robots/**/*suction.urdf")
    if not episodes:
        files.fail(f"{folder} has no episodes: datasets/**/{split}/rearrange_easy.json.gz is missing")
    if not robots:
        files.fail(f"{folder} has no robot: robots/**/*suction.urdf, the Fetch with a suction cup, is missing")
    return episodes[-1], robots[0]


def search(folder: Path, pattern: str) -> list[Path]:
    """Return what a pattern finds in a folder, sorted; it follows links, of which the official download has some."""
    return sorted(map(Path, glob.glob(f"{glob.escape(str(folder))}/{pattern}", recursive=True)))


class HabitatError(RuntimeError):
    """Habitat is not there, a data set is not one, or a simulator died."""


class Files:
    """The files of a data-set folder, each looked at once; every method raises HabitatError for what is wrong."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checked: set[Path] = set()
        self.templates: dict[tuple[Path, str], list[Path]] = {}

    def fail(self, what: str) -> NoReturn:
        """Raise HabitatError with what is wrong and the command that downloads the data set."""
        command = "python -m navpick.home" if self.folder.resolve() == HOME else DOWNLOAD
        raise HabitatError(f"{what}; to get it: {command} {self.folder}")

    def locate(self, text: str) -> Path:
        """Return the path that an episode means: its `data/` is the folder."""
        return self.folder / text[len("data/") :] if text.startswith("data/") else Path(text)

    def need(self, path: Path, user: Path) -> None:
        """Look for a file that `user` names."""
        if not path.is_file():
            self.fail(f"{path} is missing, which {user} needs")
        with path.open("rb") as file:
            start = file.read(len(POINTER))
        if start == POINTER:
            self.fail(f"{path} is a git-lfs pointer, not the file itself: git lfs install, then download again")
        if not start:
            self.fail(f"{path} is empty")

    def parse(self, path: Path, user: Path) -> Any:
        """Return what is in a JSON file, packed or not, or the root of a URDF file."""
        self.need(path, user)
        try:
            content = path.read_bytes()
            if path.suffix == ".urdf":
                return ElementTree.fromstring(content)
            return json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
        except (OSError, EOFError, zlib.error, ValueError, ElementTree.ParseError) as error:
            self.fail(f"{path} is broken ({error})")

    def check(self, path: Path, user: Path) -> None:
        """Look for a mesh, a URDF file or a template that `user` names, and for the files that it names itself."""
        if path in self.checked:
            return
        self.checked.add(path)
        names = []
        if path.suffix == ".urdf":
            names = [mesh.get("filename", "") for mesh in self.parse(path, user).iter("mesh")]
        elif path.suffix == ".json":
            template = self.parse(path, user)
            names = [template[asset] for asset in ASSETS if asset in template]
        else:
            self.need(path, user)
        for name in names:
            if Path(name).suffix.lower() in FORMATS:
                self.check(path.parent / name, path)

    def check_room(self, config: Path, name: str, user: Path) -> None:
        """Look for a room of a scene data set, and for its stage and furniture."""
        path = self.check_template(config, "scene_instances", name, user)
        room = self.parse(path, user)
        self.check_template(config, "stages", room["stage_instance"]["template_name"], path)
        for kind in ("object", "articulated_object"):
            for instance in room.get(f"{kind}_instances", []):
                self.check_template(config, f"{kind}s", instance["template_name"], path)

    def check_template(self, config: Path, kind: str, name: str, user: Path, additional: Sequence[str] = ()) -> Path:
        """Return the file of a template, by part of its name as in habitat-sim, once what it names has been found."""
        places = [self.locate(text) for text in additional]
        paths = [*self.listed(config, kind), *(path for place in places for path in search(place, "*.json"))]
        fits = [path for path in paths if Path(name).name.lower() in path.name.lower()]
        if not fits:
            where = " and ".join(map(str, [config, *places]))
            self.fail(f"{user} needs {name}, which is not among the {kind.replace('_', ' ')} of {where}")
        path = min(fits, key=lambda path: len(path.name))  # "door1" also fits "door10", and is not that
        self.check(path, config)
        return path

    def listed(self, config: Path, kind: str) -> list[Path]:
        """Return the files that a scene data set lists as templates of a kind."""
        if (config, kind) not in self.templates:
            patterns = self.parse(config, self.folder).get(kind, {}).get("paths", {})
            self.templates[config, kind] = [
                path
                for suffix, places in patterns.items()
                for place in places
                for path in search(config.parent, f"{place}/*" if (config.parent / place).is_dir() else place)
                if path.suffix == suffix
            ]
        return self.templates[config, kind]
