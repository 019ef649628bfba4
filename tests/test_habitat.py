"""Habitat: the data set that we bring, options on hand-made readings, and the real simulator where it is installed."""

import gzip
import importlib.util
import itertools
import json
import struct
from pathlib import Path

import habitat_envs
import habitat_home
import habitat_options
import numpy as np
import pytest
import storage
import torch

import ppo
import teacher as teachers
import train

ROOT = Path(train.__file__).parent
needs_simulator = pytest.mark.skipif(
    importlib.util.find_spec("habitat_sim") is None, reason="habitat-sim is not installed; see environment.yml"
)
ARM_AT_REST = np.array([-0.45, -1.08, 0.1, 0.935, -0.001, 1.573, 0.005])  # habitat-lab's


def readings(**given):
    """An observation with these readings, in metres and radians, the rest 0."""
    observation = np.zeros(habitat_envs.SIZE, np.float32)
    for name, numbers in given.items():
        first, size, scale = habitat_options.LAYOUT[name]
        observation[first : first + size] = np.asarray(numbers) / scale
    return observation


# ------------------------------------------------------------------------------------------------------- the data set


def content(path):
    """A file's bytes, or what is in it where packing may differ."""
    if path.name.endswith(".json.gz"):
        return json.loads(gzip.decompress(path.read_bytes()))
    return path.read_bytes()


def test_the_home_in_the_repository_is_what_the_generator_writes(tmp_path):
    habitat_home.write_home(tmp_path)
    names = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {path.relative_to(habitat_envs.HOME) for path in habitat_envs.HOME.rglob("*") if path.is_file()}
    assert len(names) > 60
    for name in names:
        if name.suffix != ".glb":  # the last bit of a sine may differ between machines
            assert content(tmp_path / name) == content(habitat_envs.HOME / name), name


@pytest.mark.parametrize("path", sorted(habitat_envs.HOME.rglob("*.glb")), ids=lambda path: path.stem)
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
    episodes = content(habitat_envs.HOME / "datasets" / split / "rearrange_easy.json.gz")["episodes"]
    assert len(episodes) == 100
    assert len({episode["scene_id"] for episode in episodes}) == 10
    for episode in episodes:
        assert episode["scene_id"].startswith(split)
        assert (habitat_envs.HOME / "scenes" / f"{episode['scene_id']}.scene_instance.json").exists()
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
    with pytest.raises(habitat_envs.HabitatError, match={"the folder": "not a folder"}.get(missing, "is missing")):
        habitat_envs.find_files(folder, "val")


@pytest.mark.skipif(importlib.util.find_spec("habitat_sim") is not None, reason="habitat-sim is installed")
def test_without_habitat_there_is_one_line(capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        train.main(["--env", "habitat-navpick", "--run-dir", str(tmp_path / "run")])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "Habitat is not installed" in line
    assert "conda env create -f environment.yml" in line


def test_options_of_another_family(capsys):
    with pytest.raises(SystemExit):
        train.check(train.Config(options="scripted"), train.ddppo.World())
    assert "choose from paper, repaired" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        train.learned_policies(train.Config(env="habitat-navpick", options="paper"))
    assert "a student.pt for each of navigate, pick" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ppo.STUDENTS["depth"])
def test_trained_students_take_the_place_of_the_script(kind, tmp_path):
    paths, students = [tmp_path / "nav.pt", tmp_path / "pick.pt"], []
    for path in paths:
        students.append(ppo.STUDENTS["depth"][kind](11, num_sensors=habitat_envs.NUM_SENSORS))
        torch.nn.init.normal_(students[-1].actor.weight)
        storage.write_weights(path, students[-1].state_dict())
    config = train.Config(env="habitat-navpick", options=",".join(map(str, paths)))
    make_option = config.family.make_option(config)
    observation = readings(gps_compass=(2.0, 0.1))
    for name, student in zip(habitat_options.OPTIONS, students):
        policy = student(torch.from_numpy(observation)[None]).policy
        mean, deviation = make_option(name).policy(observation)
        np.testing.assert_allclose(mean, policy.mean[0].detach(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(deviation, policy.stddev[0].detach(), rtol=1e-5)
        assert make_option(name).is_done is habitat_options.OPTIONS[name].is_done
    with pytest.raises(ValueError, match="dance"):
        make_option("dance")


@pytest.mark.parametrize("what", ["of another task", "no file", "no weights"])
def test_options_that_cannot_be_loaded(what, tmp_path, capsys):
    path = tmp_path / "nav.pt"
    if what == "of another task":
        storage.write_weights(path, ppo.small_student(7).state_dict())
    elif what == "no weights":
        path.write_text("a picture of a robot")
    with pytest.raises(SystemExit) as stopped:
        train.learned_policies(train.Config(env="habitat-navpick", options=f"{path},{path}"))
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line
    assert {"of another task": "not the student.pt of an option", "no file": "No such file"}.get(what, "") in line


# ------------------------------------------------------------------------------------------------------------- options


def test_the_layout_of_observations_is_the_same_in_both_files():
    names = {"joint": "joint", "is_holding": "is_holding", "object": "obj_start_sensor",
             "gps_compass": "obj_start_gps_compass", "to_rest": "relative_resting_position",
             "ee": "ee_pos"}  # fmt: skip
    for ours, theirs in names.items():
        first, size, scale = habitat_options.LAYOUT[ours]
        assert slice(first, first + size) == habitat_envs.place(theirs)
        assert scale == habitat_envs.SENSORS[theirs][1]
    first, size, _ = habitat_options.LAYOUT["corner"]
    assert (first, first + size) == (
        habitat_envs.place("corner_ahead").start, habitat_envs.place("corner_left").stop
    )  # fmt: skip
    assert habitat_options.LAYOUT["path_length"][0] == habitat_envs.place("path_length").start
    assert habitat_options.NUM_ACTIONS == habitat_envs.NUM_ACTIONS == 11
    assert (habitat_options.IN_REACH, habitat_options.AHEAD) == (habitat_envs.IN_REACH, habitat_envs.AHEAD)


def test_the_jacobian_against_differences():
    angles, step = np.random.default_rng(0).uniform(-1, 1, 7), 1e-6
    position, rotation, jacobian = habitat_options.kinematics(angles)
    for joint in range(7):
        moved, turned, _ = habitat_options.kinematics(angles + step * np.eye(7)[joint])
        np.testing.assert_allclose((moved - position) / step, jacobian[:3, joint], atol=1e-5)
        spin = (turned - rotation) @ rotation.T / step  # skew: its entries are the angular velocity
        np.testing.assert_allclose([spin[2, 1], spin[0, 2], spin[1, 0]], jacobian[3:, joint], atol=1e-5)


def test_the_arm_reaches_over_the_table_with_the_cup_down():
    random = np.random.default_rng(0)
    for _ in range(20):
        target = np.array([random.uniform(0.5, 0.75), random.uniform(-0.2, 0.2), random.uniform(0.65, 0.9)])
        angles = ARM_AT_REST.copy()
        for _ in range(600):
            step = habitat_options.move_arm(angles, target)
            assert np.abs(step).max() <= 1 + 1e-9
            angles += habitat_options.MAX_JOINT_STEP * step
        position, rotation, _ = habitat_options.kinematics(angles)
        np.testing.assert_allclose(position, target, atol=0.01)
        assert rotation[2, 0] < -0.98


def test_navigate_turns_to_the_corner_then_goes():
    far = {"gps_compass": (3.0, 0.0), "path_length": 3.0}
    left = habitat_options.navigate(readings(corner=(0.0, 2.0), **far))
    assert (left[habitat_options.TURN], left[habitat_options.FORWARD]) == (1.0, 0.0)
    slightly = habitat_options.navigate(readings(corner=(2.0, 0.2), **far))
    assert 0.2 < slightly[habitat_options.TURN] < 0.5 < slightly[habitat_options.FORWARD] < 1.0
    ahead = habitat_options.navigate(readings(corner=(2.0, 0.0), **far))
    assert (ahead[habitat_options.TURN], ahead[habitat_options.FORWARD]) == (0.0, 1.0)
    there = habitat_options.navigate(readings(corner=(0.0, 0.0), gps_compass=(0.6, -1.0), path_length=0.0))
    assert (there[habitat_options.TURN], there[habitat_options.FORWARD]) == (1.0, 0.0)  # the compass counts clockwise
    beside = habitat_options.navigate(readings(corner=(0.0, 0.3), gps_compass=(0.7, 1.0), path_length=0.3))
    # near the object it turns to that, and not to the corner
    assert (beside[habitat_options.TURN], beside[habitat_options.FORWARD]) == (-1.0, 0.0)
    for means in (left, slightly, ahead, there, beside):
        assert means[habitat_options.STOP] < 0
        assert means[habitat_options.GRIP] < 0
        assert not means[habitat_options.ARM].any()


def test_initiation_and_termination():
    navigate, pick = habitat_options.OPTIONS["navigate"], habitat_options.OPTIONS["pick"]
    far, near = readings(gps_compass=(2.0, 0.0)), readings(gps_compass=(0.6, 0.1))
    aside, holding = readings(gps_compass=(0.6, 1.0)), readings(gps_compass=(2.0, 0.0), is_holding=1)
    assert [navigate.is_done(o) for o in (far, near, aside)] == [False, True, False]
    assert [navigate.can_start(o) for o in (far, holding)] == [True, False]
    assert [pick.can_start(o) for o in (far, near, aside, holding)] == [False, True, False, True]
    assert navigate.policy(far).shape == (2, 11)
    with pytest.raises(ValueError, match="dance"):
        habitat_options.make_option("dance")


def test_pick_lifts_before_it_comes_back():
    position, rotation, _ = habitat_options.kinematics(ARM_AT_REST)
    thing = np.array([0.65, 0.0, 0.7])
    seen = {"joint": ARM_AT_REST, "object": rotation.T @ (thing - position), "gps_compass": (0.65, 0.0)}
    step = habitat_options.pick(readings(**seen))[habitat_options.ARM]
    after, _, _ = habitat_options.kinematics(ARM_AT_REST + 0.0125 * step)
    above = thing + np.array([0, 0, 0.12])
    assert np.linalg.norm(after - above) < np.linalg.norm(position - above)
    low = ARM_AT_REST.copy()
    for _ in range(400):
        low += 0.0125 * habitat_options.move_arm(low, thing)
    position, rotation, _ = habitat_options.kinematics(low)
    to_rest = np.array([0.5, 0.0, 1.0]) - position
    seen = {"joint": low, "object": rotation.T @ (thing - position), "to_rest": to_rest, "is_holding": 1}
    step = habitat_options.pick(readings(**seen))[habitat_options.ARM]
    after, _, _ = habitat_options.kinematics(low + 0.0125 * step)
    assert after[2] - position[2] > 3 * np.linalg.norm((after - position)[:2])


# ------------------------------------------------------------------------------------------------- teacher and student


def all_states():
    """Every state text: what is seen, what else, and what is held."""
    for near, target, others, holding in itertools.product((0, 1), repeat=4):
        observation = readings(gps_compass=(0.6 if near else 2.0, 0.0), is_holding=holding)
        observation[habitat_envs.place("sees_target")] = target
        observation[habitat_envs.place("sees_others")] = others
        yield habitat_envs.describe(observation)


def test_the_recorded_answers_know_every_state():
    book = teachers.read_replies(ROOT / "replies" / "habitat.jsonl")
    assert set(book) == set(all_states())
    assert len(book) == 8


@pytest.mark.parametrize(
    ("answer", "plan"),
    [
        ("Scene: ...\nReasoning: pick needs reach\nDecision: navigate, pick", "navigate, pick"),
        ("Decision: 1. Go to the target object 2. grab it", "navigate, pick"),
        ("Decision: wait", teachers.NO_PLAN),
        ("Reasoning: it should navigate", teachers.NO_PLAN),
    ],
)
def test_plans_of_the_robot(answer, plan):
    record = {"answer": answer, "state": "The robot sees no objects, and holds nothing."}
    assert teachers.read_answer(record) == {plan: 1.0}


def test_the_prompt_of_the_robot():
    messages = teachers.stages_prompt("The robot sees no objects, and holds nothing.", 5)
    assert messages[0]["content"].startswith(teachers.HABITAT_RULES)
    assert "key" not in json.dumps(messages)
    for state, answer in teachers.HABITAT_EXAMPLES:
        assert set(teachers.parse_plan(answer, state).split(", ")) <= set(habitat_options.OPTIONS)


def test_gaussian_options_stay_apart_in_the_advice_and_the_batch():
    shares = {"navigate, pick": 0.75, "pick": 0.2, "sing": 0.05}
    teacher = teachers.Teacher(lambda _: shares, lambda _: "a state", habitat_options.make_option, None)
    far, near = readings(gps_compass=(2.0, 0.0), corner=(1.0, 0.0), path_length=1.0), readings(gps_compass=(0.6, 0.0))
    assert teacher(far).shares.tolist() == [1.0]  # pick cannot start, singing is no option
    np.testing.assert_array_equal(teacher(far).policies[0], habitat_options.OPTIONS["navigate"].policy(far))
    assert teacher(near).shares.tolist() == [1.0]  # navigate is done, pick acts in both plans
    nobody = teachers.Teacher(lambda _: {"sing": 1.0}, lambda _: "", habitat_options.make_option, None)(far)
    assert len(nobody.shares) == 0
    every = teachers.EveryOption(list(habitat_options.OPTIONS), lambda _: "", habitat_options.make_option)(far)
    assert every.shares.tolist() == [1.0, 0.0]
    stacked, policies = train.stack_advice([teacher(far), nobody, every])
    assert stacked.tolist() == [[1, 0], [0, 0], [1, 0]]
    assert policies.shape == (3, 2, 2, 11)
    np.testing.assert_array_equal(policies[2], every.policies)
    none, empty = train.stack_advice([nobody, nobody])
    assert none.tolist() == [[0], [0]]
    weights, to_uniform = ppo.weigh_teachers(torch.zeros(2, 1), none)
    policy = ppo.DiagonalGaussian(11, 0.5)(torch.zeros(2, 11))
    assert ppo.distance(weights, empty, policy).tolist() == to_uniform.tolist() == [0, 0]


class CountingRoom:
    """An episode lasts as many steps as its seed says; the action is the reward."""

    def reset(self, *, seed):
        self.left = seed
        return np.full(1, seed, np.float32), {}

    def step(self, action):
        self.left -= 1
        return np.full(1, self.left, np.float32), float(action), self.left == 0, False, {"success": self.left % 2 == 0}


def test_two_rooms_play_five_episodes():
    together = []

    def act(observations):
        together.append(len(observations))
        return [train.Decision(1) for _ in observations]

    trajectories = train.play([CountingRoom(), CountingRoom()], [3, 1, 2, 4, 1], act)
    assert [len(trajectory) for trajectory in trajectories] == [3, 1, 2, 4, 1]
    assert [t[0].observation.item() for t in trajectories] == [3, 1, 2, 4, 1]
    assert together == [2, 2, 2, 2, 1, 1, 1]
    begun = train.play([CountingRoom()], [3, 1], act, lambda: True)
    assert [len(trajectory) for trajectory in begun] == [1]  # the second has not begun


def test_the_student_decides_for_one_group_while_the_other_is_stepped():
    waiting = set()

    class Process(habitat_envs.Room):
        def __init__(self):
            self.room = CountingRoom()

        def ask(self, name, arguments):
            assert self not in waiting
            waiting.add(self)
            self.answer = getattr(self.room, name)(**arguments)

        def receive(self):
            waiting.remove(self)
            return self.answer

    decided = []

    def act(observations):
        decided.append((len(observations), len(waiting)))
        return [train.Decision(1) for _ in observations]

    trajectories = train.play([Process(), Process(), Process()], [3, 1, 2, 4, 1], act)
    assert [len(trajectory) for trajectory in trajectories] == [3, 1, 2, 4, 1]
    # A group of two rooms and one of one; the latter's last episode is over first.
    assert decided == [(2, 0), (1, 2), (2, 1), (1, 2), (2, 1), (1, 2), (1, 1), (1, 0)]


# ------------------------------------------------------------------------------------------------- the real simulator


@pytest.fixture(scope="module")
def env():
    with_simulator = habitat_envs.HabitatEnv("habitat-navpick", "val")
    yield with_simulator
    with_simulator.close()


def follow_the_script(env, seed):
    """Play an episode with the means of the scripted options."""
    observation, _ = env.reset(seed=seed)
    observations, rewards, ended = [observation], [], False
    while not ended:
        option = "pick" if habitat_options.OPTIONS["pick"].can_start(observation) else "navigate"
        action = habitat_options.OPTIONS[option].policy(observation)[0]
        observation, reward, terminated, truncated, info = env.step(action)
        observations.append(observation)
        rewards.append(reward)
        ended = terminated or truncated
    return observations, rewards, info["success"]


@needs_simulator
def test_the_script_picks_in_three_rooms(env):
    for seed in (1, 21, 41):
        observations, rewards, success = follow_the_script(env, seed)
        assert success
        assert sum(rewards) > 1.0
        assert all(observation.shape == (habitat_envs.SIZE,) for observation in observations)
        depths = np.stack(observations)[:, : habitat_envs.IMAGE_SIDE**2]
        assert depths.min() >= 0
        assert depths.max() <= 1
        assert depths.std() > 0.01
        position, _, _ = habitat_options.kinematics(habitat_options.read(observations[0], "joint"))
        np.testing.assert_allclose(position, habitat_options.read(observations[0], "ee"), atol=1e-4)


@needs_simulator
def test_success_is_rewarded_once_where_that_is_asked_for(env, monkeypatch):
    _, plain, _ = follow_the_script(env, 1)
    monkeypatch.setattr(env, "settings", env.settings._replace(success_reward=10.0))
    _, rewards, success = follow_the_script(env, 1)
    assert success
    assert rewards[:-1] == pytest.approx(plain[:-1], abs=0.02)
    assert rewards[-1] == pytest.approx(plain[-1] + 10.0, abs=0.02)


@needs_simulator
def test_the_same_seed_starts_the_same_episode(env):
    first, again, other = (env.reset(seed=seed)[0] for seed in (5, 5, 7))
    np.testing.assert_allclose(first, again, atol=1e-5)
    assert np.abs(first - other).max() > 0.1


@needs_simulator
def test_navigation_goes_with_empty_hands_to_where_the_sensors_point():
    env = habitat_envs.HabitatEnv("habitat-nav", "val", habitat_envs.Settings(hints=False))
    for seed in range(1, 41, 2):
        observation, _ = env.reset(seed=seed)
        assert not habitat_options.holds(observation)
        distance, _ = habitat_options.read(observation, "gps_compass")
        assert distance == pytest.approx(env.env.get_metrics()["dist_to_goal"], abs=1e-3)
        assert distance > 2.8  # over 3 m with the height of the table
    env.close()


@needs_simulator
def test_navigation_is_rewarded_for_the_way_and_the_turns_along_the_path():
    env = habitat_envs.HabitatEnv("habitat-nav", "val")
    observation, _ = env.reset(seed=1)
    to_go, rewards = [], []
    for _ in range(60):
        ahead, left = habitat_options.read(observation, "corner")
        to_go.append(2.0 * habitat_options.read(observation, "path_length")[0] + abs(np.arctan2(left, ahead)))
        observation, reward, *_ = env.step(habitat_options.navigate(observation))
        rewards.append(reward)
    assert to_go[0] - to_go[-1] > 3
    np.testing.assert_allclose(rewards[:-1], -np.diff(to_go) - 0.005, atol=1e-4)
    env.close()


@needs_simulator
def test_without_a_teacher_only_the_hints_are_missing(env):
    blind = habitat_envs.HabitatEnv("habitat-navpick", "val", habitat_envs.Settings(hints=False))
    hinted, plain = (room.reset(seed=5)[0] for room in (env, blind))
    hints = slice(-len(habitat_envs.HINTS), None)
    np.testing.assert_allclose(plain[: hints.start], hinted[: hints.start], atol=1e-5)
    assert hinted[hints].any()
    assert not plain[hints].any()
    blind.close()


@needs_simulator
def test_pick_starts_in_reach_of_the_object():
    env = habitat_envs.HabitatEnv("habitat-pick", "val")
    starts = [habitat_options.read(env.reset(seed=seed)[0], "gps_compass") for seed in range(1, 20, 2)]
    assert max(distance for distance, _ in starts) < habitat_options.IN_REACH + 0.1  # where nothing nearer is free
    env.close()


@needs_simulator
def test_any_folder_will_do_to_run_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    elsewhere = habitat_envs.HabitatEnv("habitat-navpick", "val")
    assert elsewhere.reset(seed=5)[0].shape == (habitat_envs.SIZE,)
    elsewhere.close()


@needs_simulator
def test_stop_ends_the_episode(env):
    env.reset(seed=1)
    stop = np.eye(11)[habitat_options.STOP]
    _, _, terminated, truncated, info = env.step(stop)
    assert (terminated, truncated, info["success"]) == (True, False, False)


@needs_simulator
def test_a_simulator_that_is_killed_ends_in_a_line():
    room = habitat_envs.Room("habitat-navpick", "val", habitat_envs.Settings())
    train.each([room], "reset", [{"seed": 1}])
    room.process.kill()
    room.process.join()
    with pytest.raises(habitat_envs.HabitatError, match=r"a simulator died \(signal 9\)"):
        train.each([room], "step", [{"action": np.zeros(11)}])


@needs_simulator
def test_a_machine_that_cannot_render_is_told_so(monkeypatch):
    monkeypatch.setenv("__EGL_VENDOR_LIBRARY_FILENAMES", "/nowhere")
    monkeypatch.setenv("__EGL_VENDOR_LIBRARY_DIRS", "/nowhere")
    room = habitat_envs.Room("habitat-navpick", "val", habitat_envs.Settings())
    with pytest.raises(habitat_envs.HabitatError, match=r"a simulator died \(exit code 1\).*see that EGL works"):
        train.each([room], "reset", [{"seed": 1}])


@needs_simulator
def test_a_film_shows_every_state_of_an_episode():
    config = train.Config(**{**train.HABITAT, "env": "habitat-navpick", "max_steps": 20})
    (room,) = config.family.make_rooms(config, 1, "val", film=True)
    act = train.teacher_acts(train.make_teacher(config), greedy=True)
    pictures, success = train.film(room, 1, act, config.family.picture)
    assert (len(pictures), success) == (21, False)
    assert all(picture.shape == (384, 192, 3) and picture.dtype == np.uint8 for picture in pictures)
    behind, head = pictures[0][:192], pictures[0][192:]
    assert behind.std() > 1
    assert head.std() > 1
    assert (pictures[0] != pictures[20]).any()


@needs_simulator
def test_a_broken_episode_file_ends_in_a_line(tmp_path):
    (tmp_path / "datasets" / "val").mkdir(parents=True)
    (tmp_path / "robots").mkdir()
    (tmp_path / "datasets" / "val" / "rearrange_easy.json.gz").write_bytes(gzip.compress(b'{"episodes": [{}]}'))
    (tmp_path / "robots" / "fetch_suction.urdf").write_text("")
    room = habitat_envs.Room("habitat-navpick", "val", habitat_envs.Settings(folder=str(tmp_path)))
    with pytest.raises(habitat_envs.HabitatError, match="not a file of rearrangement episodes"):
        train.each([room], "reset", [{"seed": 1}])
