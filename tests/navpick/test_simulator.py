"""The environments on the real simulator, where it is installed."""

import gzip
import importlib.util

import numpy as np
import pytest

import train
from harness.config import configure
from harness.report import record_episode
from harness.task import open_task
from llm.query import make_query
from navpick import envs, options
from navpick.layout import HINTS, IMAGE_SIDE, IN_REACH, SIZE, STOP, read
from navpick.processes import ProcessEnv
from rollout import act_by_teacher, run_all

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("habitat_sim") is None, reason="habitat-sim is not installed; see environment.yml"
    ),
]


@pytest.fixture(scope="module")
def env():
    with_simulator = envs.HabitatEnv("habitat-navpick", "val")
    yield with_simulator
    with_simulator.close()


def follow_the_script(env, seed):
    """Play an episode with the means of the scripted options."""
    observation, _ = env.reset(seed=seed)
    observations, rewards, ended = [observation], [], False
    while not ended:
        option = "pick" if options.OPTIONS["pick"].can_start(observation) else "navigate"
        action = options.OPTIONS[option].policy(observation)[0]
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
        position, _, _ = options.kinematics(read(observations[0], "joint"))
        np.testing.assert_allclose(position, read(observations[0], "ee_pos"), atol=1e-4)


def test_success_is_rewarded_once_where_that_is_asked_for(env, monkeypatch):
    _, plain, _ = follow_the_script(env, 1)
    monkeypatch.setattr(env, "settings", env.settings._replace(success_reward=10.0))
    _, rewards, success = follow_the_script(env, 1)
    assert success
    assert rewards[:-1] == pytest.approx(plain[:-1], abs=0.02)
    assert rewards[-1] == pytest.approx(plain[-1] + 10.0, abs=0.02)


def test_the_same_seed_starts_the_same_episode(env):
    first, again, other = (env.reset(seed=seed)[0] for seed in (5, 5, 7))
    np.testing.assert_allclose(first, again, atol=1e-5)
    assert np.abs(first - other).max() > 0.1


def test_navigation_goes_with_empty_hands_to_where_the_sensors_point():
    env = envs.HabitatEnv("habitat-nav", "val", envs.Settings(hints=False))
    for seed in range(1, 41, 2):
        observation, _ = env.reset(seed=seed)
        assert not options.holds(observation)
        distance, _ = read(observation, "obj_start_gps_compass")
        assert distance == pytest.approx(env.env.get_metrics()["dist_to_goal"], abs=1e-3)
        assert distance > 2.8  # over 3 m with the height of the table
    env.close()


def test_navigation_is_rewarded_for_the_way_and_the_turns_along_the_path():
    env = envs.HabitatEnv("habitat-nav", "val")
    observation, _ = env.reset(seed=1)
    to_go, rewards = [], []
    for _ in range(60):
        (ahead,), (left,) = read(observation, "corner_ahead"), read(observation, "corner_left")
        to_go.append(2.0 * read(observation, "path_length")[0] + abs(np.arctan2(left, ahead)))
        observation, reward, *_ = env.step(options.navigate(observation))
        rewards.append(reward)
    assert to_go[0] - to_go[-1] > 3
    np.testing.assert_allclose(rewards[:-1], -np.diff(to_go) - 0.005, atol=1e-4)
    env.close()


def test_without_a_teacher_only_the_hints_are_missing(env):
    blind = envs.HabitatEnv("habitat-navpick", "val", envs.Settings(hints=False))
    hinted, plain = (room.reset(seed=5)[0] for room in (env, blind))
    hints = slice(-len(HINTS), None)
    np.testing.assert_allclose(plain[: hints.start], hinted[: hints.start], atol=1e-5)
    assert hinted[hints].any()
    assert not plain[hints].any()
    blind.close()


def test_pick_starts_in_reach_of_the_object():
    env = envs.HabitatEnv("habitat-pick", "val")
    starts = [read(env.reset(seed=seed)[0], "obj_start_gps_compass") for seed in range(1, 20, 2)]
    assert max(distance for distance, _ in starts) < IN_REACH + 0.1  # where nothing nearer is free
    env.close()


def test_any_folder_will_do_to_run_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    elsewhere = envs.HabitatEnv("habitat-navpick", "val")
    assert elsewhere.reset(seed=5)[0].shape == (SIZE,)
    elsewhere.close()


def test_stop_ends_the_episode(env):
    env.reset(seed=1)
    stop = np.eye(11)[STOP]
    _, _, terminated, truncated, info = env.step(stop)
    assert (terminated, truncated, info["success"]) == (True, False, False)


def test_a_simulator_that_is_killed_ends_in_a_line():
    room = ProcessEnv("habitat-navpick", "val", envs.Settings())
    run_all([room], "reset", [{"seed": 1}])
    room.process.kill()
    room.process.join()
    with pytest.raises(envs.HabitatError, match=r"a simulator died \(signal 9\)"):
        run_all([room], "step", [{"action": np.zeros(11)}])


def test_a_machine_that_cannot_render_is_told_so(monkeypatch):
    monkeypatch.setenv("__EGL_VENDOR_LIBRARY_FILENAMES", "/nowhere")
    monkeypatch.setenv("__EGL_VENDOR_LIBRARY_DIRS", "/nowhere")
    room = ProcessEnv("habitat-navpick", "val", envs.Settings())
    with pytest.raises(envs.HabitatError, match=r"a simulator died \(exit code 1\).*see that EGL works"):
        run_all([room], "reset", [{"seed": 1}])


def test_a_film_shows_every_state_of_an_episode(tmp_path):
    task = open_task(configure({"env": "habitat-navpick", "max_steps": 20}))
    (room,) = (room for group in task.make_envs(1, "val", film=True) for room in group)
    act = act_by_teacher(train.make_teacher(task, make_query(task), tmp_path), task, greedy=True)
    pictures, success = record_episode(task, room, 1, act)
    assert (len(pictures), success) == (21, False)
    assert all(picture.shape == (384, 192, 3) and picture.dtype == np.uint8 for picture in pictures)
    behind, head = pictures[0][:192], pictures[0][192:]
    assert behind.std() > 1
    assert head.std() > 1
    assert (pictures[0] != pictures[20]).any()


def test_a_broken_episode_file_ends_in_a_line(tmp_path):
    (tmp_path / "datasets" / "val").mkdir(parents=True)
    (tmp_path / "robots").mkdir()
    (tmp_path / "datasets" / "val" / "rearrange_easy.json.gz").write_bytes(gzip.compress(b'{"episodes": [{}]}'))
    (tmp_path / "robots" / "fetch_suction.urdf").write_text("")
    room = ProcessEnv("habitat-navpick", "val", envs.Settings(folder=str(tmp_path)))
    with pytest.raises(envs.HabitatError, match="not a file of rearrangement episodes"):
        run_all([room], "reset", [{"seed": 1}])
