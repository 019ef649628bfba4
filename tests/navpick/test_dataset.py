"""A data set that lacks something is said in one line, with what to download."""

import gzip
import json
import os
import shutil

import pytest

from navpick.dataset import DOWNLOAD, HOME, HabitatError, check_dataset, find_files

EPISODES = "datasets/val/rearrange_easy.json.gz"
FRIDGE = (
    '<robot name="fridge"><link name="body"><visual><geometry><mesh filename="{}"/></geometry></visual></link></robot>'
)


def write_json(path, content):
    path.write_text(json.dumps(content))


def read_json(path):
    return json.loads(path.read_text())


@pytest.fixture
def folder(tmp_path):
    """The home with what it does without: a fridge in one room, and a robot that is drawn by a mesh."""
    folder = tmp_path / "data"
    shutil.copytree(HOME, folder)
    config = read_json(folder / "home.scene_dataset_config.json")
    write_json(
        folder / "home.scene_dataset_config.json",
        {**config, "articulated_objects": {"paths": {".urdf": ["urdf/*"]}}},
    )
    room = folder / "scenes" / "val_room_3.scene_instance.json"
    write_json(room, {**read_json(room), "articulated_object_instances": [{"template_name": "fridge"}]})
    (folder / "urdf").mkdir()
    (folder / "urdf" / "fridge.urdf").write_text(FRIDGE.format("meshes/door.glb"))
    (folder / "urdf" / "meshes").mkdir()
    (folder / "urdf" / "meshes" / "door.glb").write_bytes(b"glTF")
    robot = folder / "robots" / "fetch_suction.urdf"
    visual = '<visual><geometry><mesh filename="wheel.STL"/></geometry></visual>'
    robot.write_text(robot.read_text().replace("</robot>", f'<link name="more">{visual}</link></robot>'))
    (folder / "robots" / "wheel.STL").write_bytes(b"solid")
    return folder


def complaint(folder, split="val"):
    """The one line with which the check ends; it says what to do."""
    with pytest.raises(HabitatError) as error:
        check_dataset(folder, split)
    line = str(error.value)
    assert "\n" not in line
    assert line.endswith(f"; to get it: {DOWNLOAD} {folder}")
    return line


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_home_is_complete(split):
    assert check_dataset(HOME, split) == find_files(HOME, split)


def test_what_is_found(folder):
    assert check_dataset(folder, "val") == (folder / EPISODES, folder / "robots" / "fetch_suction.urdf")


@pytest.mark.parametrize(
    "lost",
    [
        EPISODES, "robots/fetch_suction.urdf", "robots/wheel.STL", "home.scene_dataset_config.json",
        "scenes/val_room_7.scene_instance.json", "stages/val_room_7.stage_config.json", "stages/val_room_7.glb",
        "objects/red_can.object_config.json", "objects/red_can.glb", "urdf/fridge.urdf", "urdf/meshes/door.glb",
    ],
)  # fmt: skip
def test_a_file_that_is_missing(lost, folder):
    (folder / lost).unlink()
    assert lost.rpartition("/")[2].split(".")[0].replace("fetch_", "") in complaint(folder)


def test_no_folder(folder):
    shutil.rmtree(folder)
    assert "is not a folder" in complaint(folder)


def test_the_rooms_of_the_other_split_are_not_needed(folder):
    (folder / "stages" / "val_room_7.glb").unlink()
    check_dataset(folder, "train")


@pytest.mark.parametrize("file", [EPISODES, "robots/fetch_suction.urdf", "stages/val_room_0.glb", "robots/wheel.STL"])
def test_a_file_that_git_lfs_has_not_fetched(file, folder):
    (folder / file).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1234\n")
    assert f"{folder / file} is a git-lfs pointer" in complaint(folder)


@pytest.mark.parametrize(
    "file",
    [EPISODES, "robots/fetch_suction.urdf", "home.scene_dataset_config.json", "objects/red_can.object_config.json"],
)
def test_a_file_that_is_cut_short(file, folder):
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: len(content) // 2])
    assert f"{folder / file} is broken (" in complaint(folder)
    (folder / file).write_bytes(b"")
    assert f"{folder / file} is empty" in complaint(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"episodes": []}, "has no episodes"),
        ({"rooms": 3}, "is not laid out as Habitat's are: KeyError('episodes')"),
        ([1, 2], "is not laid out"),
        ({"episodes": [{"episode_id": "0"}]}, "is not laid out as Habitat's are: KeyError('scene_dataset_config')"),
    ],
)
def test_a_file_of_something_else(content, said, folder):
    (folder / EPISODES).write_bytes(gzip.compress(json.dumps(content).encode()))
    assert said in complaint(folder)


def test_an_episode_without_a_target(folder):
    episodes = json.loads(gzip.decompress((folder / EPISODES).read_bytes()))
    episodes["episodes"][7]["targets"] = {}
    (folder / EPISODES).write_bytes(gzip.compress(json.dumps(episodes).encode()))
    assert f"episode 7 of {folder / EPISODES} has no target" in complaint(folder)


def test_links_are_followed(folder, tmp_path):
    """habitat-sim's download puts everything into versioned_data/ and links to it."""
    for name in ("robots", "datasets", "objects"):
        shutil.move(folder / name, tmp_path / name)
        (folder / name).mkdir()
        for path in (tmp_path / name).iterdir():
            os.symlink(path, folder / name / path.name, target_is_directory=path.is_dir())
    check_dataset(folder, "val")


def test_the_home_is_written_not_downloaded(monkeypatch, folder):
    monkeypatch.setattr("navpick.dataset.HOME", folder)
    (folder / "stages" / "val_room_7.glb").unlink()
    with pytest.raises(HabitatError, match=f"; to get it: python -m navpick.home {folder}$"):
        check_dataset(folder, "val")


def test_a_name_that_begins_another_is_not_taken_for_it(folder):
    (folder / "urdf" / "fridge_large.urdf").write_text(FRIDGE.format("nowhere.glb"))
    check_dataset(folder, "val")
