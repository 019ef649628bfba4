"""The environments on the real simulator, if installed: in the home, and in the data set that HABITAT_DATA names."""

import gzip
import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT

import train
from harness.config import configure
from harness.report import record_episode
from harness.run_files import read_metrics
from harness.task import open_task
from llm.query import make_query
from navpick import dataset, envs, lab, options
from navpick.check import count_episodes
from navpick.layout import IMAGE_SIDE, MAX_DEPTH, SIZE, STAND_STILL, STOP, in_reach, read
from navpick.processes import ProcessEnv
from rollout import act_by_teacher, run_all

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("habitat_sim") is None, reason="habitat-sim is not installed; see environment.yml"
    ),
]
DATA_SETS = [dataset.HOME, *([Path(os.environ["HABITAT_DATA"])] if "HABITAT_DATA" in os.environ else [])]


@pytest.fixture(scope="module", params=DATA_SETS, ids=lambda path: path.name)
def env(request):
    with_simulator = envs.HabitatEnv("habitat-navpick", "val", lab.Settings(folder=str(request.param)))
    yield with_simulator
    with_simulator.close()


def follow_the_script(env, seed):
    """Play an episode with the means of the scripted options."""
    navigate, pick = (options.make_option(name, env.arm, start_anywhere=False) for name in options.OPTION_NAMES)
    observation, _ = env.reset(seed=seed)
    observations, rewards, ended = [observation], [], False
    while not ended:
        action = (pick if pick.can_start(observation) else navigate).policy(observation)[0]
        observation, reward, terminated, truncated, info = env.step(action)
        observations.append(observation)
        rewards.append(reward)
        ended = terminated or truncated
    return observations, rewards, info["success"]


def test_the_script_picks_in_three_rooms(env):
    for seed in (1, 21, 41):
        observations, rewards, success = follow_the_script(env, seed)
        assert success
        assert sum(rewards) > 1.0
        assert all(observation.shape == (SIZE,) for observation in observations)
        depths = np.stack(observations)[:, : IMAGE_SIDE**2]
        assert depths.min() >= 0
        assert depths.max() <= 1
        assert depths.std() > 0.01


def test_the_arm_of_the_urdf_is_the_arm_of_the_simulator(env):
    env.reset(seed=1)
    robot, random = env.sim.articulated_agent, np.random.default_rng(0)
    lower, upper = robot.arm_joint_limits
    np.testing.assert_allclose(np.clip(env.arm.lower, -10, 10), np.clip(lower, -10, 10), atol=1e-3)
    np.testing.assert_allclose(np.clip(env.arm.upper, -10, 10), np.clip(upper, -10, 10), atol=1e-3)
    for _ in range(20):
        angles = random.uniform(np.maximum(lower, -3), np.minimum(upper, 3))
        robot.arm_joint_pos = angles
        base = np.linalg.inv(np.array(robot.base_transformation))
        hand = base @ np.array(robot.ee_transform())
        cup = robot.sim_obj.get_link_scene_node(robot.params.ee_links[0])
        pose = env.arm.pose(angles)
        np.testing.assert_allclose(pose.rotation, hand[:3, :3], atol=1e-5)
        box = cup.cumulative_bb  # the tip is on the cup's surface, which the box of what is drawn may miss by 1 cm
        tip = np.linalg.inv(base @ np.array(cup.absolute_transformation())) @ [*pose.tip, 1.0]
        assert (tip[:3] > np.array(box.min) - 0.01).all()
        assert (tip[:3] < np.array(box.max) + 0.01).all()


def boxes_of_furniture(sim):
    """Of every link of what is articulated, the inverse of its place and its box."""
    robot = sim.articulated_agent.sim_obj.object_id
    for thing in sim.get_articulated_object_manager().get_objects_by_handle_substring().values():
        if thing.object_id != robot:
            for link in (-1, *thing.get_link_ids()):
                node = thing.get_link_scene_node(link)
                yield thing.handle, np.array(node.absolute_transformation().inverted()), node.cumulative_bb


def test_no_path_leads_through_furniture(env):
    """Points every 5 cm along the paths, at table height, lie in no piece's box."""
    for seed in range(1, 21, 2):
        env.reset(seed=seed)
        corners = [np.array(point) for point in env.shortest.points]
        for start, end in zip(corners, corners[1:]):
            for share in np.linspace(0, 1, 2 + int(np.linalg.norm(end - start) / 0.05)):
                spot = start + share * (end - start) + [0, 0.6, 0]
                for handle, inverse, box in boxes_of_furniture(env.sim):
                    x = (inverse @ [*spot, 1.0])[:3]
                    inside = (x > np.array(box.min) + 0.05).all() and (x < np.array(box.max) - 0.05).all()
                    assert not inside, f"episode {env.env.current_episode.episode_id}: through {handle} at {spot}"


def test_an_object_is_seen_where_a_ray_from_the_camera_meets_it_first(env):
    import habitat_sim
    import magnum

    agree, seen = [], []
    for seed in range(1, 60, 2):
        observation, _ = env.reset(seed=seed)
        camera = env.sim.agents[0].scene_node.subtree_sensors["head_depth"].object.absolute_transformation()
        target = env.objects[0]
        start, end = np.array(camera.translation), np.array(target.translation)
        ray = habitat_sim.geo.Ray(start.astype(np.float32), (end - start).astype(np.float32))
        robot = env.sim.articulated_agent.sim_obj.object_id  # the camera is inside its head
        hits = [hit.object_id for hit in env.sim.cast_ray(ray, 2.0).hits if hit.object_id != robot]
        x, y, z = camera.inverted().transform_point(magnum.Vector3(*end))
        in_view = z < 0 and max(abs(x), abs(y)) < -z and -z < MAX_DEPTH
        seen.append(bool(read(observation, "sees_target")[0]))
        agree.append(seen[-1] == (in_view and hits[:1] == [target.object_id]))
    assert 0 < np.mean(seen) < 1
    assert np.mean(agree) >= 0.8  # the ray sees one point, and the robot's own arm not at all


def test_success_is_rewarded_once_where_that_is_asked_for(env, monkeypatch):
    _, plain, _ = follow_the_script(env, 1)
    monkeypatch.setattr(env, "settings", env.settings._replace(success_reward=10.0))
    _, rewards, success = follow_the_script(env, 1)
    assert success
    assert sum(rewards) - sum(plain) == pytest.approx(10.0, abs=0.5)
    assert rewards[-1] == pytest.approx(plain[-1] + 10.0, abs=0.1)


def test_the_same_seed_starts_the_same_episode(env):
    first, again, other = (env.reset(seed=seed)[0] for seed in (5, 5, 7))
    np.testing.assert_allclose(first, again, atol=1e-5)
    assert np.abs(first - other).max() > 0.1


def test_training_asks_for_other_objects_too_and_evaluation_does_not(env):
    folder = Path(env.settings.folder)
    assert len(env.env.episodes) == count_episodes(dataset.find_files(folder, "val")[0])
    training = envs.HabitatEnv("habitat-navpick", "train", env.settings)
    episodes, given = training.env.episodes, count_episodes(dataset.find_files(folder, "train")[0])
    others = sum(len(episode.name_to_receptacle.keys() - episode.targets.keys()) for episode in episodes[:given])
    assert len(episodes) == given + others
    for number in range(given, given + min(2, others)):
        training.reset(seed=2 * number)
        assert [training.objects[0].handle] == list(episodes[number].targets)
    training.close()


def test_an_object_out_of_reach_is_named_and_why(env, monkeypatch):
    assert "warning" not in env.reset(seed=1)[1]
    offsets = env.arm.offsets.copy()
    offsets[2:, :3, 3] *= 0.2  # an arm of 20 cm
    monkeypatch.setattr(env, "arm", env.arm._replace(offsets=offsets, tip=env.arm.tip * 0.2))
    warning = env.reset(seed=1)[1]["warning"]
    assert env.objects[0].handle in warning
    assert "cannot be picked: the arm reaches" in warning
    assert len(env.places) == 1


def test_rays_tell_whether_the_arm_meets_furniture_as_the_robot_turns(env):
    """Against the simulator's contacts, at random places and angles."""
    env.reset(seed=1)
    sim, robot, random = env.sim, env.sim.articulated_agent, np.random.default_rng(0)

    def arm_touches():
        sim.perform_discrete_collision_detection()
        to_base = robot.base_transformation.inverted()
        for contact in sim.get_physics_contact_points():
            ids = [contact.object_id_a, contact.object_id_b]
            if (robot.sim_obj.object_id in ids) and ids[0] != ids[1]:
                x, y, _ = to_base.transform_point(contact.position_on_a_in_ws)
                if math.hypot(x, y) > 0.35:  # beyond its base
                    return True
        return False

    free, met = [], []
    for _ in range(60):
        robot.base_pos = sim.pathfinder.get_random_navigable_point(island_index=sim.largest_island_idx)
        robot.base_rot = start = random.uniform(-math.pi, math.pi)
        sim.maybe_update_articulated_agent()
        turned = random.uniform(-math.pi, math.pi)
        free.append(env.in_the_way(turned) == 0)
        touched = []
        for angle in np.linspace(0, turned, 20):
            robot.base_rot = start + angle
            sim.maybe_update_articulated_agent()
            touched.append(arm_touches())
        met.append(any(touched))
    free, met = np.array(free), np.array(met)
    assert 0 < free.mean() < 1
    assert met[free].mean() < 0.1
    assert met[~free].mean() > 0.7


@pytest.mark.parametrize("folder", DATA_SETS, ids=lambda path: path.name)
def test_pick_starts_in_reach_of_the_object_and_is_not_paid_for_the_way_there(folder):
    env = envs.HabitatEnv("habitat-pick", "val", lab.Settings(folder=str(folder)))
    for seed in range(1, 20, 2):
        assert in_reach(env.reset(seed=seed)[0])
        assert env.step(STAND_STILL)[1] == pytest.approx(0.0, abs=0.05)
    env.close()


def test_from_what_is_in_reach_the_robot_may_turn_away_twice_as_far():
    env = envs.HabitatEnv("habitat-pick", "val")
    env.reset(seed=1)
    robot, place = env.sim.articulated_agent, env.places[0]
    x, _, z = np.array(env.objects[0].translation) - place
    for metres, radians, expected in (
        (0.0, 0.2, True), (0.0, 0.5, True), (0.0, 0.7, False), (0.0, 0.5, False), (0.0, -0.2, True), (5.0, 0.0, False),
    ):  # fmt: skip
        env.places = place[None] + [metres, 0.0, 0.0]
        robot.base_pos, robot.base_rot = place, math.atan2(-z, x) + radians
        env.sim.maybe_update_articulated_agent()
        assert in_reach(env.observe(env.env.task._get_observations(env.env.current_episode))) == expected
    env.close()


def test_navigation_is_rewarded_for_the_way_and_the_turns_along_the_path():
    env = envs.HabitatEnv("habitat-nav", "val")
    navigate = options.make_option("navigate", env.arm).policy
    observation, _ = env.reset(seed=1)
    assert not options.holds(observation)
    assert read(observation, "obj_start_gps_compass")[0] > 2.8  # over 3 m with the height of the table
    rewards, success, start = [], False, 2.0 * read(observation, "path_length")[0]
    start += abs(math.remainder(read(observation, "corner_bearing")[0], math.tau))
    while not success:
        observation, reward, terminated, _, info = env.step(navigate(observation)[0])
        success = info["success"]
        assert success == in_reach(observation)
        assert terminated == success
        rewards.append(reward)
    _, angle = read(observation, "obj_start_gps_compass")
    assert sum(rewards) + 0.005 * len(rewards) == pytest.approx(start - abs(angle), abs=1e-3)
    env.close()


def test_loading_leaves_no_file_and_says_nothing(tmp_path):
    code = "from navpick import envs; print(envs.HabitatEnv('habitat-navpick', 'val').reset(seed=5)[0].shape)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, f"({SIZE},)\n", "")
    assert list(tmp_path.iterdir()) == []


def test_stop_ends_the_episode(env):
    env.reset(seed=1)
    stop = np.eye(11)[STOP]
    _, _, terminated, truncated, info = env.step(stop)
    assert (terminated, truncated, info["success"]) == (True, False, False)


def test_a_simulator_that_is_killed_ends_in_a_line():
    room = ProcessEnv("habitat-navpick", "val", lab.Settings())
    run_all([room], "reset", [{"seed": 1}])
    room.process.kill()
    room.process.wait()
    with pytest.raises(dataset.HabitatError, match=r"a simulator died \(signal 9\)"):
        run_all([room], "step", [{"action": np.zeros(11)}])


def test_a_machine_that_cannot_render_is_told_so(monkeypatch):
    monkeypatch.setenv("__EGL_VENDOR_LIBRARY_FILENAMES", "/nowhere")
    monkeypatch.setenv("__EGL_VENDOR_LIBRARY_DIRS", "/nowhere")
    room = ProcessEnv("habitat-navpick", "val", lab.Settings())
    with pytest.raises(dataset.HabitatError, match=r"a simulator died \(exit code 1\).*see that EGL works"):
        run_all([room], "reset", [{"seed": 1}])


@pytest.mark.parametrize("folder", DATA_SETS, ids=lambda path: path.name)
def test_a_film_shows_every_state_of_an_episode_in_good_light(folder, tmp_path):
    task = open_task(configure({"env": "habitat-navpick", "max_steps": 20, "habitat_data": str(folder)}))
    (room,) = (room for group in task.make_envs(1, "val", film=True) for room in group)
    act = act_by_teacher(train.make_teacher(task, make_query(task), tmp_path), task, greedy=True)
    pictures, success = record_episode(task, room, 1, act)
    assert (len(pictures), success) == (21, False)
    side = lab.FILM_SIDE
    assert all(picture.shape == (2 * side, side, 3) and picture.dtype == np.uint8 for picture in pictures)
    behind, head = pictures[0][:side], pictures[0][side:]
    assert behind.std() > 1
    assert head.std() > 1
    assert (pictures[0] != pictures[20]).any()
    assert 90 < np.mean(pictures) < 200  # with habitat-sim's own lights and maps it was 60


def test_a_broken_episode_file_ends_in_a_line(tmp_path):
    shutil.copytree(dataset.HOME, tmp_path / "home")
    path, _ = dataset.find_files(tmp_path / "home", "val")
    content = json.loads(gzip.decompress(path.read_bytes()))
    del content["episodes"][0]["targets"]
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    room = ProcessEnv("habitat-navpick", "val", lab.Settings(folder=str(tmp_path / "home")))
    with pytest.raises(dataset.HabitatError, match="not a file of rearrangement episodes"):
        run_all([room], "reset", [{"seed": 1}])


@pytest.mark.parametrize("folder", DATA_SETS, ids=lambda path: path.name)
def test_a_short_training_on_two_workers_is_the_same_again(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    short = [
        "--env",
        "habitat-navpick",
        "--habitat-data",
        os.path.relpath(folder),
        "--workers",
        "2",
        "--iterations",
        "2",
    ]
    short += ["--num-trajectories", "2", "--max-steps", "40", "--episodes", "2"]
    for name in ("first", "again"):
        train.main([*short, "--run-dir", name])
    first, again = ((tmp_path / name / "metrics.csv").read_text() for name in ("first", "again"))
    assert first == again
    assert [row["steps"] for row in read_metrics(tmp_path / "first" / "metrics.csv")] == [80, 160]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    train.main(["--eval", "../first", "--episodes", "1"])
    assert not (tmp_path / "data").exists()
