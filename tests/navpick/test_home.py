"""The data set that we bring."""

import gzip
import itertools
import json
import struct

import numpy as np
import pytest

from navpick import dataset, home


def content(path):
    """A file's bytes, or what is in it where packing may differ."""
    if path.name.endswith(".json.gz"):
        return json.loads(gzip.decompress(path.read_bytes()))
    return path.read_bytes()


def test_the_home_in_the_repository_is_what_the_generator_writes(tmp_path):
    home.write_home(tmp_path)
    names = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {path.relative_to(dataset.HOME) for path in dataset.HOME.rglob("*") if path.is_file()}
    assert len(names) > 60
    for name in names:
        if name.suffix != ".glb":  # the last bit of a sine may differ between machines
            assert content(tmp_path / name) == content(dataset.HOME / name), name


@pytest.mark.parametrize("path", sorted(dataset.HOME.rglob("*.glb")), ids=lambda path: path.stem)
def test_meshes_are_closed_glb_files(path):
    blob = path.read_bytes()
    magic, version, size, length, kind = struct.unpack_from("<4sIII4s", blob)
    assert (magic, version, size, kind) == (b"glTF", 2, len(blob), b"JSON")
    tree = json.loads(blob[20 : 20 + length])
    start = 20 + length + 8
    for primitive in tree["meshes"][0]["primitives"]:
        arrays = []
        for accessor in (primitive["attributes"]["POSITION"], primitive["indices"]):
            view = tree["bufferViews"][tree["accessors"][accessor]["bufferView"]]
            raw = blob[start + view["byteOffset"] :][: view["byteLength"]]
            arrays.append(np.frombuffer(raw, "<f4" if len(arrays) == 0 else "<u4").reshape(-1, 3))
        corners = arrays[0][arrays[1]].astype(np.float64)
        corners -= arrays[0].mean(0)
        # A closed surface that looks outwards encloses a positive volume.
        assert (np.cross(corners[:, 0], corners[:, 1]) * corners[:, 2]).sum() / 6 > 0


@pytest.mark.parametrize("split", ["train", "val"])
def test_episodes(split):
    episodes = content(dataset.HOME / "datasets" / split / "rearrange_easy.json.gz")["episodes"]
    assert len(episodes) == 100
    assert len({episode["scene_id"] for episode in episodes}) == 10
    for episode in episodes:
        assert episode["scene_id"].startswith(split)
        assert (dataset.HOME / "scenes" / f"{episode['scene_id']}.scene_instance.json").exists()
        (target,) = episode["targets"]
        assert target.split("_:")[0] in [name.split(".")[0] for name, _ in episode["rigid_objs"]]
        places = [np.array(pose)[[0, 2], 3] for _, pose in episode["rigid_objs"]]
        assert len(places) == 3
        assert all(np.linalg.norm(a - b) > 0.25 for a, b in itertools.combinations(places, 2))


@pytest.mark.parametrize("missing", ["the folder", "the episodes", "the robot"])
def test_a_folder_that_is_no_data_set(tmp_path, missing):
    folder = tmp_path / "data"
    if missing != "the folder":
        (folder / "datasets" / "val").mkdir(parents=True)
    if missing == "the robot":
        (folder / "datasets" / "val" / "rearrange_easy.json.gz").write_bytes(b"")
    with pytest.raises(dataset.HabitatError, match={"the folder": "not a folder"}.get(missing, "is missing")):
        dataset.find_files(folder, "val")
