"""habitat-lab as Nav & Pick needs it: imported when it is needed, configured, its data set read.

habitat-lab and habitat-sim are imported by `import_habitat` only, so that everything else works without them.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib.util
import json
import math
import operator
import os
import re
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from navpick.dataset import HOME, HabitatError, check_dataset
from navpick.layout import IMAGE_SIDE

INSTALL = "conda env create -f environment.yml, and then conda activate llm4teach"
CURES = {  # what an error says where Habitat is installed and does not work -> what to do
    r"lib(EGL|OpenGL|GLdispatch)\.": "apt-get install libegl1 libopengl0, or conda install -c conda-forge libglvnd",
    "squeeze out": "pip install 'opencv-python<5', which habitat-lab was written for",
    r"numpy|_ARRAY_API": "pip install numpy==1.26.4, which habitat-lab was written for",
    "attribute 'sensors'": "pip install habitat-lab==0.3.320250127, which was written for this habitat-sim",
}
FILM_SIDE = 256
TASKS = {  # habitat-lab's configuration of each
    "habitat-navpick": "benchmark/rearrange/skills/pick.yaml",
    "habitat-pick": "benchmark/rearrange/skills/pick.yaml",
    "habitat-nav": "benchmark/rearrange/skills/nav_to_obj.yaml",
}
SENSORS = (
    "target_start_sensor", "target_start_gps_compass_sensor", "joint_sensor", "is_holding_sensor",
    "end_effector_sensor", "relative_resting_pos_sensor",
)  # fmt: skip
# Of habitat-lab's measures, what reward and success are made of and what those need; each takes time in every step.
MEASURES = (
    "articulated_agent_force", "force_terminate", "end_effector_to_object_distance", "end_effector_to_rest_distance",
    "pick_reward", "pick_success",
)  # fmt: skip
# habitat-sim looks for these maps at start-up and lights without them where they are not: computing image-based
# lighting takes 14 s of CPU.
LIGHTING = {"enable_ibl": False, "ibl_blut_filename": "none.png", "ibl_envmap_filename": "none.hdr"}
# What habitat-sim complains of at every load, and need not.
NOISE = ("duplicate static plugin", "none.png", "none.hdr", "location of uniform")


class Settings(NamedTuple):
    """The settings of an environment; the reward has the terms of paper section A.5.1."""

    folder: str = str(HOME)  # a data set, laid out like habitat-lab's `data/`
    max_steps: int = 650  # Table 3's 602.69 steps on average need more than 602; no shipped configuration has that
    pick_reward: float = 2.0  # once, for picking the object; the paper's number is lost, this is habitat-lab's
    dist_reward: float = 2.0  # a metre that the end effector comes nearer, in habitat-nav the base; habitat-lab's
    force_penalty: float = 1.0  # once, when force ends the episode, but not in habitat-nav; habitat-lab's
    slack_reward: float = -0.005  # every step; the paper's
    success_reward: float = 0.0  # once, for success; habitat-lab's is 10, with which the paper's returns do not fit
    gpu: int = -1  # device that renders; -1: no CUDA device
    film: bool = False  # whether `render` can be called; two more cameras cost time


def import_habitat() -> Any:
    """Import habitat-lab and habitat-sim silently, and return habitat-lab; raises HabitatError without them."""
    for name in ("MAGNUM_LOG", "HABITAT_SIM_LOG"):
        os.environ.setdefault(name, "quiet")
    os.environ.setdefault("HABITAT_LAB_LOG", "50")
    os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa's software renderer: threads of its own only get in the way
    try:
        with silence():
            import gym as _gym  # noqa: F401
            import habitat
            import habitat_sim  # noqa: F401

            import navpick.simulator  # noqa: F401
    except Exception as error:  # a build for another numpy, say, raises something else than ImportError
        raise HabitatError(f"Habitat cannot be imported ({error}): {cure(error)}") from None
    return habitat


def cure(error: Exception, otherwise: str = INSTALL) -> str:
    """Return what to do about an error of Habitat; `otherwise` where CURES has nothing for it."""
    return next((advice for pattern, advice in CURES.items() if re.search(pattern, str(error))), otherwise)


def check(folder: Path) -> None:
    """Raise HabitatError where Habitat is not installed, or a data set lacks what episodes of both splits need."""
    missing = [name for name in ("habitat", "habitat_sim") if importlib.util.find_spec(name) is None]
    if missing:
        raise HabitatError(f"Habitat is not installed (no {missing[0]}); {INSTALL}")
    for split in ("train", "val"):
        check_dataset(folder, split)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Send what is written to stderr, by C++ too, to the file that NAVPICK_LOG names, or nowhere.

    That is gym's deprecation notice, and habitat-sim's complaints of duplicate plugins and of the maps of LIGHTING.
    """
    kept, log = os.dup(2), os.open(os.environ.get("NAVPICK_LOG", os.devnull), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(log)


@contextlib.contextmanager
def working_folder() -> Iterator[None]:
    """Change to a temporary folder: in its data/ habitat-lab writes physics settings and habitat-sim reads LIGHTING."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        (data / "default.pbr_config.json").write_text(json.dumps(LIGHTING))
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(here)


def make_lab_env(task: str, split: str, settings: Settings) -> Any:
    """Return habitat-lab's environment of a task with our settings; HabitatError without Habitat or data set."""
    habitat = import_habitat()
    settings = settings._replace(folder=str(Path(settings.folder).resolve()))
    with working_folder():
        config, dataset = make_config(habitat, task, split, settings)
        with silence():
            return habitat.Env(config, dataset)


def make_config(habitat: Any, task: str, split: str, settings: Settings) -> tuple[Any, Any]:
    """Return habitat-lab's configuration of a task with ours on top, and the data set of a split."""
    from habitat.config import read_write

    folder = Path(settings.folder)
    path, robot = check_dataset(folder, split)
    agent = "habitat.simulator.agents.main_agent"
    cameras = ("third_rgb_sensor", "head_rgb_sensor") if settings.film else ()
    config = habitat.get_config(
        TASKS[task],
        [
            "habitat/task/rearrange/actions=fetch_suction_arm_base_stop",
            f"habitat/task/lab_sensors=[{','.join(SENSORS)}]",
            *(f"+habitat/simulator/sim_sensors@{agent}.sim_sensors.{camera}={camera}" for camera in cameras),
        ],
    )
    with read_write(config):
        lab = config.habitat
        lab.environment.max_episode_steps = settings.max_steps
        lab.dataset.data_path, lab.dataset.scenes_dir = str(path), str(folder)
        dataset = read_episodes(habitat, lab.dataset, folder)
        if split == "train":
            dataset.episodes += ask_for_the_others(dataset.episodes)
        simulator = lab.simulator
        simulator.type = "NavPickSim-v0"
        simulator.habitat_sim_v0.gpu_device_id = settings.gpu
        simulator.scene_dataset = dataset.episodes[0].scene_dataset_config
        simulator.additional_object_paths = dataset.episodes[0].additional_obj_config_paths
        simulator.habitat_sim_v0.allow_sliding = True  # else a robot sticks to the edges that shortest paths follow
        simulator.concur_render = False
        urdf = str(robot) if settings.film else drawn_by_collision_shapes(robot).name
        simulator.agents.main_agent.articulated_agent_urdf = urdf
        for name, sensor in simulator.agents.main_agent.sim_sensors.items():
            sensor.width = sensor.height = FILM_SIDE if "rgb" in name else IMAGE_SIDE
        measures = lab.task.measurements
        for name in list(measures):
            if name not in MEASURES:
                del measures[name]
        if task == "habitat-nav":
            lab.task.object_in_hand_sample_prob = 0.0  # else some go to where the object belongs, unsensed
        else:
            coefficients = {"pick_reward": settings.pick_reward, "dist_reward": settings.dist_reward}
            measures.pick_reward.update({**coefficients, "force_pen": 0.0, "force_end_pen": settings.force_penalty})
            # Start anywhere: the whole room is nearer than that, in any direction.
            lab.task.spawn_max_dist_to_obj, lab.task.base_angle_noise = 100.0, math.pi
    return config, dataset


def ask_for_the_others(episodes: Sequence[Any]) -> list[Any]:
    """Return copies of episodes, each of which asks for another of the objects that lie on a receptacle.

    So a small data set has more targets than a student can learn by heart. First comes one copy of every episode, then
    a second one.
    """
    others = []
    for episode in episodes:
        goal = next(iter(episode.targets.values()))
        for turn, name in enumerate(sorted(episode.name_to_receptacle.keys() - episode.targets.keys())):
            other = copy.copy(episode)
            other.targets = {name: goal}
            others.append((turn, other))
    return [other for _, other in sorted(others, key=operator.itemgetter(0))]


@functools.cache
def drawn_by_collision_shapes(urdf: Path) -> IO[bytes]:
    """Return a temporary copy of a robot's URDF in which links that have both are drawn by their collision meshes.

    The Fetch's arm has a hundred thousand triangles to look at, which take most of the time of a depth image, and a few
    hundred to bump into.
    """
    tree = ET.parse(urdf)
    for mesh in tree.iter("mesh"):
        mesh.set("filename", os.path.abspath(urdf.parent / mesh.attrib["filename"]))
    for link in tree.iter("link"):
        seen, felt = (
            [shape for shape in link.findall(kind) if shape.find("geometry/mesh") is not None]
            for kind in ("visual", "collision")
        )
        if seen and felt:
            for shape in seen:
                link.remove(shape)
            for shape in felt:
                ET.SubElement(link, "visual").extend(shape)
    drawn = tempfile.NamedTemporaryFile(suffix=".urdf")  # noqa: SIM115
    tree.write(drawn)
    drawn.flush()
    return drawn


def read_episodes(habitat: Any, config: Any, folder: Path) -> Any:
    """Return the data set of the configured file, with paths under `data/` turned into paths under `folder`.

    Raises HabitatError if the file is not one of rearrangement episodes.
    """

    def under_folder(text: str) -> str:
        return str(folder / text[len("data/") :]) if text.startswith("data/") else text

    try:
        dataset = habitat.make_dataset(config.type, config=config)
        for episode in dataset.episodes:
            episode.scene_dataset_config = under_folder(episode.scene_dataset_config)
            episode.scene_id = under_folder(episode.scene_id)
            episode.additional_obj_config_paths = list(map(under_folder, episode.additional_obj_config_paths))
    except Exception as error:  # a file of another kind can raise nearly anything
        raise HabitatError(f"{config.data_path} is not a file of rearrangement episodes: {error!r}") from None
    return dataset
