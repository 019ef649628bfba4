"""Runs from end to end: what they leave behind, that they can be cut off and go on, bad input, and that they learn."""

import csv
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest
import storage
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import envs
import ppo
import teacher as teachers
import train

ROOT = Path(__file__).parents[1]
TRAIN = [sys.executable, str(ROOT / "train.py")]
# Two iterations of two short episodes, the first under lambda_0, the second under lambda_c.
TINY = {
    "env": "DivergedDoorKey",
    "method": "llm4teach",
    "seed": 0,
    "iterations": 2,
    "episodes": 2,
    "anneal": "stepwise",
    "lambda_0": 10.0,
    "lambda_c": 0.1,
    "i1": 1,
    "i2": 9,
    "num_trajectories": 2,
    "epochs": 1,
    "minibatch_size": 64,
    "learning_rate": 1e-3,
}


def tiny(run_dir, **changes):
    """A command line."""
    settings = {**TINY, **changes, "run_dir": run_dir}
    return [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", str(value))]


@pytest.fixture(autouse=True)
def tidy(tmp_path, monkeypatch):
    """Elsewhere, on one thread, and with the signals as they were afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train.os, "cpu_count", lambda: 1)
    torch.set_num_threads(1)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def no_pictures(monkeypatch):
    """The GIF takes longer than a tiny training."""
    monkeypatch.setattr(train, "draw_play", lambda *_: None)
    monkeypatch.setattr(storage, "draw_curve", lambda *_: None)


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    torch.set_num_threads(1)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    train.main(tiny(folder))
    for number, handler in handlers.items():
        signal.signal(number, handler)
    return folder


@pytest.fixture
def finished(finished_once, tmp_path):
    """A finished run of one's own."""
    folder = Path(shutil.copytree(finished_once, tmp_path / "finished"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "run_dir": str(folder)}, indent=2) + "\n")
    return folder


def read_metrics(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def weights(folder):
    return torch.load(folder / "student.pt", weights_only=True)


def assert_same_run(folder, expected):
    """The same weights and the same metrics, to the last digit."""
    ours, theirs = weights(folder), weights(expected)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert (folder / "metrics.csv").read_bytes() == (expected / "metrics.csv").read_bytes()


# --------------------------------------------------------------------------------------------- what a run leaves behind


def check_run_folder(folder, settings):
    config = json.loads((folder / "config.json").read_text())
    assert config.keys() == {f.name for f in fields(train.Config)}
    assert {name: config[name] for name in settings} == settings

    rows = read_metrics(folder)
    assert [int(row["iteration"]) for row in rows] == list(range(settings["iterations"]))
    steps = [int(row["steps"]) for row in rows]
    assert all(0 < b - a <= 60 * settings["num_trajectories"] for a, b in zip([0, *steps], steps))

    events = EventAccumulator(str(folder))
    events.Reload()
    for name in ("return", "success", "lambda", "entropy", "steps_per_second"):
        assert [event.step for event in events.Scalars(name)] == steps
    assert [e.value for e in events.Scalars("entropy")] == pytest.approx([float(row["entropy"]) for row in rows])

    with Image.open(folder / "curve.png") as curve:
        assert min(curve.size) > 100
    with Image.open(folder / "play.gif") as film:
        assert film.n_frames > 3

    student = ppo.STUDENTS["grid"][config["student"]](
        envs.NUM_ACTIONS, len(train.minigrid_option_names(config["env"])) if config["method"] == "hierarchical" else 1
    )
    student.load_state_dict(weights(folder))
    result = json.loads((folder / "eval.json").read_text())
    check_result(result, settings)
    assert result["weights"] == sum(p.numel() for p in student.parameters())
    assert not list(folder.glob("*.part"))


def check_result(result, settings):
    for name in ("env", "method", "episodes"):
        assert result[name] == settings[name]
    assert result["seeds"] == [1, 2 * settings["episodes"] - 1]
    assert 0 <= result["return"] <= result["success"] <= 1
    assert 1 <= result["length"] <= 60


@pytest.mark.parametrize("method", ["llm4teach", "hierarchical", "ppo"])
def test_run_folder(method, tmp_path, capsys):
    train.main(tiny(tmp_path / "run", method=method))
    check_run_folder(tmp_path / "run", {**TINY, "method": method})
    assert ("teacher" in json.loads(Path("run/eval.json").read_text())) == (method == "llm4teach")
    printed = capsys.readouterr()
    assert "student" in printed.out
    assert f"paper, {method}" in printed.out
    for told in ("lambda", "return", "success", "distance to teacher" if method != "ppo" else "no teacher", "steps/s"):
        assert told in printed.err


def test_run_folder_of_the_paper_student(tmp_path):
    settings = {"student": "paper", "iterations": 1, "num_trajectories": 1, "episodes": 1}
    train.main(tiny(tmp_path / "run", **settings))
    check_run_folder(tmp_path / "run", {**TINY, **settings})
    assert json.loads(Path("run/eval.json").read_text())["weights"] == 843_576


def test_llm_only_writes_a_result_and_no_student(tmp_path, capsys):
    train.main(tiny(tmp_path / "run", method="llm-only"))
    check_result(json.loads(Path("run/eval.json").read_text()), {**TINY, "method": "llm-only"})
    assert {path.name for path in Path("run").iterdir()} == {"config.json", "eval.json"}
    assert "paper, llm-only" in capsys.readouterr().out


@pytest.mark.parametrize("deterministic", [False, True])
def test_llm_only_in_subprocess(deterministic, tmp_path):
    # the recorded teacher solves every SimpleDoorKey
    arguments = ["--env", "SimpleDoorKey", "--method", "llm-only", "--episodes", "20", "--run-dir", "run"]
    subprocess.run([*TRAIN, *arguments, *["--deterministic"] * deterministic], cwd=tmp_path, check=True, timeout=100)
    result = json.loads((tmp_path / "run" / "eval.json").read_text())
    assert result["success"] >= 0.9
    assert result["deterministic"] == deterministic


def test_eval_reproduces_the_numbers(finished, no_pictures):
    before = json.loads((finished / "eval.json").read_text())
    (finished / "eval.json").unlink()
    train.main(["--eval", str(finished)])
    assert json.loads((finished / "eval.json").read_text()) == before
    train.main(["--eval", str(finished), "--episodes", "3", "--deterministic"])
    after = json.loads((finished / "eval.json").read_text())
    assert (after["episodes"], after["seeds"], after["deterministic"]) == (3, [1, 5], True)
    assert weights(finished).keys() == ppo.small_student(envs.NUM_ACTIONS).state_dict().keys()


def test_eval_measures_the_students_weights(finished, monkeypatch, no_pictures):
    state = weights(finished)
    state["actor.bias"] = torch.tensor([0.0, 0, 1e4, 0, 0, 0, 0])  # forward, whatever it sees
    torch.save(state, finished / "student.pt")
    films = []
    watch = train.play
    monkeypatch.setattr(train, "play", lambda *arguments: films.append(watch(*arguments)) or films[-1])
    train.main(["--eval", str(finished)])
    assert {step.decision.action for trajectory in films[0] for step in trajectory} == {2}


# --------------------------------------------------------------------------------------------------------- the methods


def test_same_seed_same_metrics_other_seed_other_metrics(finished_once, no_pictures):
    train.main(tiny("again"))
    assert_same_run(Path("again"), finished_once)
    train.main(tiny("other", seed=1))
    assert (Path("other") / "metrics.csv").read_bytes() != (finished_once / "metrics.csv").read_bytes()


def test_ppo_never_builds_a_teacher(monkeypatch, no_pictures):
    def built(*_):
        raise AssertionError("a teacher was built")

    for part in (teachers.Teacher, teachers.EveryOption, teachers.RecordedReplies):
        monkeypatch.setattr(part, "__init__", built)
    monkeypatch.setattr(teachers, "read_replies", built)
    train.main(tiny("run", method="ppo"))
    assert [(row["lambda"], row["distance"], row["invalid_share"]) for row in read_metrics(Path("run"))] == [
        ("0.0", "", "")
    ] * 2


def test_teacher_is_not_asked_where_lambda_is_0(monkeypatch):
    asked = []
    answer = teachers.Teacher.__call__
    monkeypatch.setattr(teachers.Teacher, "__call__", lambda self, state: asked.append(1) or answer(self, state))
    monkeypatch.setattr(train, "report", lambda *_: None)
    train.main(tiny("run", iterations=4, i1=1, i2=2))
    rows = read_metrics(Path("run"))
    assert [float(row["lambda"]) for row in rows] == [10, 0.1, 0, 0]
    assert [row["distance"] != "" for row in rows] == [True, True, False, False]
    assert len(asked) == int(rows[1]["steps"])  # once in every state visited until then


def test_hierarchical_learns_weights_and_never_leaves_its_teachers(no_pictures):
    train.main(tiny("run", method="hierarchical", iterations=3, i2=1, learning_rate=0.01))
    assert [float(row["lambda"]) for row in read_metrics(Path("run"))] == [10, 0.1, 0.1]
    config = train.Config(**json.loads(Path("run/config.json").read_text()))
    student, _ = train.make_student(config, train.ddppo.World())  # before the training
    learned = weights(Path("run"))
    assert learned["over_teachers.weight"].shape == (len(train.minigrid_option_names("DivergedDoorKey")), 64)
    assert not torch.equal(learned["over_teachers.weight"], student.over_teachers.weight)


def test_settings_reach_the_update(monkeypatch, no_pictures):
    received = []
    update = ppo.update

    def spy(student, optimizer, batch, lambda_, **settings):
        received.append((lambda_, optimizer.param_groups[0]["lr"], settings))
        return update(student, optimizer, batch, lambda_, **settings)

    monkeypatch.setattr(ppo, "update", spy)
    chosen = {"epochs": 2, "minibatch_size": 50, "max_grad_norm": 0.4, "clip": 0.1, "value_coef": 0.6}
    chosen.update(entropy_coef=0.02, uniform_coef=0.3)
    train.main(tiny("run", learning_rate=0.01, **chosen))
    for _, _, settings in received:
        assert {name: settings[name] for name in chosen} == chosen
    assert [(lambda_, lr) for lambda_, lr, _ in received] == [(10, 0.01), (0.1, 0.005)]  # Adam's rate falls linearly


def test_training_and_evaluation_rooms_never_meet(monkeypatch, no_pictures):
    used = []
    play = train.play
    monkeypatch.setattr(train, "play", lambda rooms, seeds, *how: used.append(list(seeds)) or play(rooms, seeds, *how))
    for seed in (0, 1):
        train.main(tiny(f"run{seed}", seed=seed, iterations=3, method="ppo"))
    *training0, evaluation0 = used[:4]
    *training1, evaluation1 = used[4:]
    training = [seed for seeds in (*training0, *training1) for seed in seeds]
    assert len(training) == len(set(training)) == 2 * 3 * TINY["num_trajectories"]
    assert evaluation0 == evaluation1 == [1, 3]
    assert all(seed % 2 == 0 for seed in training)
    assert all(seed % 2 == 1 for seed in envs.evaluation_seeds(1000))


# ------------------------------------------------------------------------------------------------ cut off and going on


class KilledError(BaseException):
    """As a SIGKILL does, it ends everything at once."""


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_run_killed_around_any_write_goes_on_as_if_nothing_had_been(after, monkeypatch, no_pictures, tmp_path):
    """Die before and after every file that is replaced and every row that is written, one after the other."""
    monkeypatch.setattr(train, "report", lambda *_: None)
    arguments = {"iterations": 3, "num_trajectories": 1, "minibatch_size": 30}
    train.main(tiny("whole", **arguments))

    def mortal(function):
        def wrapped(*args, **kwargs):
            countdown[0] -= 1
            if countdown[0] == 0 and not after:
                raise KilledError
            result = function(*args, **kwargs)
            if countdown[0] == 0:
                raise KilledError
            return result

        return wrapped

    countdown = [0]
    monkeypatch.setattr(storage.os, "replace", mortal(storage.os.replace))
    monkeypatch.setattr(storage.Log, "write", mortal(storage.Log.write))
    for moment in range(2 if after else 3, 100):  # by the second the folder is there, with config.json: a run
        countdown[0] = moment
        folder = Path(f"cut{moment}")
        try:
            train.main(tiny(folder, **arguments))
        except KilledError:
            with (folder / "metrics.csv").open("a") as file:
                file.write("7,99")  # half a row
            countdown[0] = 0
            train.main(["--resume", str(folder)])
            assert_same_run(folder, Path("whole"))
        else:
            break
    assert moment > 2 + 2 * 3 + 3  # a row and a checkpoint an iteration; metrics.csv, config.json, student.pt


def wait_for(condition, process, seconds=60):
    until = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)


def start(*arguments):
    return subprocess.Popen([*TRAIN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_sigkill_at_random_moments(no_pictures):
    arguments = {"iterations": 24, "num_trajectories": 4, "epochs": 3, "episodes": 1}
    train.main(tiny("whole", **arguments))
    rng, folder, kills = random.Random(0), Path("cut"), 0
    while kills < 4:
        already = len(read_metrics(folder)) if folder.exists() else 0
        process = start(*(["--resume", str(folder)] if folder.exists() else tiny(folder, **arguments)))
        goal = already + rng.randint(1, 5)
        wait_for(lambda goal=goal: (folder / "metrics.csv").exists() and len(read_metrics(folder)) >= goal, process)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        process.communicate()
        if process.returncode != -signal.SIGKILL:  # it was faster
            break
        kills += 1
    assert kills >= 2
    assert len(read_metrics(folder)) > kills
    train.main(["--resume", str(folder)])
    assert_same_run(folder, Path("whole"))


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(no_pictures):
    process = start(*tiny("run", iterations=100_000))
    wait_for(lambda: Path("run/metrics.csv").exists() and len(read_metrics(Path("run"))) >= 2, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    said = re.search(r"train.py --resume (\S+)$", errors.splitlines()[-1])
    assert said
    done = len(read_metrics(Path("run")))
    assert torch.load("run/checkpoint.pt", weights_only=True)["iteration"] == done
    train.main(["--resume", said[1], "--iterations", str(done + 1)])
    assert [int(row["iteration"]) for row in read_metrics(Path("run"))] == list(range(done + 1))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_within_an_iteration_loses_nothing(number, monkeypatch, no_pictures, capsys):
    train.main(tiny("whole", iterations=4))
    play = train.play

    def interrupted(*arguments):
        trajectories = play(*arguments)
        if read_metrics(Path("cut"))[-1:] and len(read_metrics(Path("cut"))) == 1:
            signal.raise_signal(number)  # within iteration 1
        return trajectories

    with monkeypatch.context() as patch:
        patch.setattr(train, "play", interrupted)
        with pytest.raises(SystemExit) as stopped:
            train.main(tiny("cut", iterations=4))
    assert stopped.value.code == 130
    assert "--resume cut" in capsys.readouterr().err
    assert len(read_metrics(Path("cut"))) == 2
    train.main(["--resume", "cut"])
    assert_same_run(Path("cut"), Path("whole"))


def test_resume_of_a_finished_run_changes_nothing_and_can_add_iterations(finished, finished_once, no_pictures):
    train.main(["--resume", str(finished)])
    assert_same_run(finished, finished_once)
    assert (finished / "eval.json").read_bytes() == (finished_once / "eval.json").read_bytes()
    train.main(["--resume", str(finished), "--iterations", "3"])
    assert len(read_metrics(finished)) == 3
    assert json.loads((finished / "config.json").read_text())["iterations"] == 3


def test_a_missing_answer_names_the_state_and_keeps_the_checkpoint(capsys, no_pictures):
    book = (ROOT / "replies" / "DivergedDoorKey.jsonl").read_text()
    Path("book.jsonl").write_text(book)
    train.main(tiny("run", replies="book.jsonl", num_trajectories=4, iterations=1))
    before = Path("run/checkpoint.pt").read_bytes(), Path("run/metrics.csv").read_bytes()
    Path("book.jsonl").write_text(book.splitlines()[0])  # nothing seen, nothing held
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        train.main(["--resume", "run", "--iterations", "2"])
    assert stopped.value.code == 2
    errors = capsys.readouterr().err
    (line,) = re.findall(r"train\.py: .*", errors)
    assert re.search(r"The agent observes a red (key|door), and holds nothing\.", line)
    assert "book.jsonl" in line
    assert "--resume run" in line
    assert "Traceback" not in errors
    assert (Path("run/checkpoint.pt").read_bytes(), Path("run/metrics.csv").read_bytes()) == before
    assert torch.load("run/checkpoint.pt", weights_only=True)["iteration"] == 1
    Path("book.jsonl").write_text(book)
    train.main(["--resume", "run", "--iterations", "2"])
    assert len(read_metrics(Path("run"))) == 2


def test_a_missing_answer_in_eval_is_one_line(finished, capsys, no_pictures):
    before = contents(finished)
    config = json.loads((finished / "config.json").read_text())
    Path("book.jsonl").write_text(json.dumps({"state": "never", "plans": {"explore": 1}}))
    (finished / "config.json").write_text(json.dumps({**config, "replies": "book.jsonl"}))
    assert "The agent observes" in refused(capsys, "--eval", str(finished))
    after = contents(finished)
    assert {path for path in before if before[path] != after[path]} == {Path("config.json")}


# ----------------------------------------------------------------------------------------------------------- bad input


def refused(capsys, *arguments):
    """The one line with which the command ends."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        train.main([str(argument) for argument in arguments])
    assert stopped.value.code == 2
    errors = capsys.readouterr().err
    (line,) = filter(str.strip, errors.splitlines())
    assert "Traceback" not in line
    return line


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"env": "HardDoorKey"}, r"--env.*HardDoorKey.*SimpleDoorKey"),
        ({"method": "sac"}, r"--method.*sac.*llm4teach"),
        ({"student": "huge"}, r"--student.*huge.*small"),
        ({"anneal": "cosine"}, r"--anneal.*cosine.*stepwise"),
        ({"options": "best"}, r"--options.*best.*repaired"),
        ({"lambda_0": -1, "lambda_c": -2}, r"lambda_0 is -1.0.*--lambda-0"),
        ({"lambda_c": -0.1}, r"lambda_c is -0.1"),
        ({"lambda_0": 0.1, "lambda_c": 1}, r"lambda_0 is 0.1 and lambda_c is 1.0"),
        ({"i1": -1}, r"i1 is -1.*--i1"),
        ({"i1": 5, "i2": 4}, r"i1 is 5 and i2 is 4"),
        ({"lambda_0": "nan"}, r"lambda_0 is nan"),
        ({"lambda_c": "nan"}, r"lambda_c is nan"),
        ({"lambda_0": "inf"}, r"lambda_0 is inf"),
        ({"learning_rate": "nan"}, r"--learning-rate is nan"),
        ({"clip": "nan"}, r"--clip is nan"),
        ({"discount": "inf"}, r"--discount is inf"),
        ({"max_grad_norm": "-1"}, r"--max-grad-norm is -1"),
        ({"episodes": 0}, r"--episodes is 0.*at least 1"),
        ({"iterations": 0}, r"--iterations is 0"),
        ({"iterations": "many"}, r"--iterations.*many"),
        ({"num_trajectories": 0}, r"--num-trajectories is 0"),
        ({"minibatch_size": 0}, r"--minibatch-size is 0"),
        ({"seed": -1}, r"--seed is -1"),
        ({"device": "cuda:99"}, r"device 'cuda:99'.*--device"),
        ({"device": "abacus"}, r"device 'abacus'.*--device"),
        ({"replies": "nowhere.jsonl"}, r"nowhere\.jsonl.*--replies"),
        ({"replies": "."}, r"replies file.*directory"),
    ],
    ids=str,
)
def test_bad_setting(changes, says, tmp_path, capsys):
    assert re.search(says, refused(capsys, *tiny("run", **changes)))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_no_such_device(tmp_path, capsys):
    assert "'cuda'" in refused(capsys, *tiny("run", device="cuda"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("device", ["meta"])
def test_a_device_that_does_not_compute(device, tmp_path, capsys):
    assert device in refused(capsys, *tiny("run", device=device))
    assert not list(tmp_path.iterdir())


def test_a_seed_too_large(tmp_path, capsys):
    assert "seed" in refused(capsys, *tiny("run", seed=2**64))
    assert not list(tmp_path.iterdir())


def test_unknown_flag_is_named(capsys, tmp_path):
    assert "--lambda" in refused(capsys, "--lambda", "3")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("book", "says"),
    [
        ("", r"holds no answers"),
        ("\n\n", r"holds no answers"),
        ("not json\n", r"line 1"),
        ('{"state": "s", "plans": {"explore": 1}}\n{"state": "t"}\n', r"line 2.*plans"),
        ('["s", "explore"]\n', r"line 1"),
        ('{"state": "s", "plans": ["explore"]}\n', r"line 1"),
        ('{"state": "s", "plans": {}}\n', r"line 1"),
        ('{"state": "s", "plans": {"explore": "all"}}\n', r"line 1"),
        ('{"state": "s", "plans": {"explore": NaN}}\n', r"line 1.*add up to 1"),
        ('{"state": "s", "plans": {"explore": 0.9}}\n', r"line 1.*0\.9.*add up to 1"),
        ('{"state": "s", "plans": {"explore": 1.5, "go to red key": -0.5}}\n', r"line 1.*positive"),
        ("\x00\xff\xfe", r"replies file"),
    ],
    ids=range(12),
)
def test_malformed_replies(book, says, tmp_path, capsys):
    Path("book.jsonl").write_bytes(book.encode("latin1"))
    line = refused(capsys, *tiny("run", replies="book.jsonl"))
    assert re.search(says, line)
    assert "book.jsonl" in line or "codec" in line
    assert {path.name for path in tmp_path.iterdir()} == {"book.jsonl"}


def test_existing_run_is_not_overwritten(finished, capsys):
    before = contents(finished)
    line = refused(capsys, *tiny(finished))
    assert "exists" in line
    assert "--resume" in line
    assert contents(finished) == before


def test_run_folder_that_cannot_be_made(capsys):
    Path("file").write_text("mine")
    for run_dir in ("file", "file/run", "file/deep/run"):
        assert "file" in refused(capsys, *tiny(run_dir))
    assert Path("file").read_text() == "mine"


@pytest.mark.parametrize("flag", ["--resume", "--eval"])
def test_no_run_folder(flag, tmp_path, capsys):
    Path("empty").mkdir()
    Path("file").write_text("mine")
    for folder in ("nowhere", "empty", "file"):
        assert re.search(rf"{folder}.*config\.json", refused(capsys, flag, folder))
    assert not list(Path("empty").iterdir())
    assert not Path("nowhere").exists()


def test_resume_and_eval_together(finished, capsys):
    before = contents(finished)
    assert re.search("--resume.*--eval", refused(capsys, "--resume", finished, "--eval", finished))
    assert contents(finished) == before


@pytest.mark.parametrize("flag", ["--resume", "--eval"])
@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("env", "LavaDoorKey", "DivergedDoorKey"),
        ("student", "paper", "small"),
        ("method", "ppo", "llm4teach"),
        ("seed", "5", "0"),
        ("lambda-0", "3", "10.0"),
    ],
)
def test_a_run_keeps_its_settings(flag, name, value, stored, finished, capsys):
    before = contents(finished)
    assert re.search(rf"--{name} is {value}.*{re.escape(stored)}", refused(capsys, flag, finished, f"--{name}", value))
    assert contents(finished) == before


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"unknown": 1}', '{"iterations": "many"}', '{"env": 3}', '{"lambda_0": null}', "\xff"],
)
@pytest.mark.parametrize("flag", ["--resume", "--eval"])
def test_corrupt_config(flag, text, finished, capsys):
    (finished / "config.json").write_bytes(text.encode("latin1"))
    before = contents(finished)
    assert refused(capsys, flag, finished)
    assert contents(finished) == before


@pytest.mark.parametrize("changes", [{"env": "LavaDoorKey"}, {"student": "paper"}, {"method": "ppo"}], ids=str)
def test_checkpoint_of_another_run(changes, finished, capsys):
    state = torch.load(finished / "checkpoint.pt", weights_only=True)
    config = train.Config(**{**state["config"], **changes})
    student, _ = train.make_student(config, train.ddppo.World())
    storage.save_checkpoint(
        finished,
        config,
        1,
        99,
        student,
        torch.optim.Adam(student.parameters()),
        storage.random_state(torch.device("cpu")),
    )
    before = contents(finished)
    line = refused(capsys, "--resume", finished)
    assert "checkpoint.pt" in line
    assert next(iter(changes.values())) in line
    assert contents(finished) == before


def damaged(whole):
    """Files that are no longer what torch.save wrote."""
    rng = random.Random(0)
    yield b""
    yield b"not a checkpoint"
    yield whole[:-1]
    yield from (whole[: rng.randrange(len(whole))] for _ in range(10))
    yield whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2)


@pytest.mark.parametrize(("flag", "file"), [("--resume", "checkpoint.pt"), ("--eval", "student.pt")])
def test_corrupt_or_truncated_weights(flag, file, finished, capsys):
    for damage in damaged((finished / file).read_bytes()):
        (finished / file).write_bytes(damage)
        before = contents(finished)
        assert file in refused(capsys, flag, finished)
        assert contents(finished) == before


@pytest.mark.parametrize(
    "thing", [[], {}, None, torch.zeros(3), {"student": {}}, {"student": None, "optimizer": 1}], ids=range(6)
)
def test_checkpoint_of_something_else(thing, finished, capsys):
    torch.save(thing, finished / "checkpoint.pt")
    before = contents(finished)
    assert "checkpoint.pt" in refused(capsys, "--resume", finished)
    assert contents(finished) == before


def test_a_refused_resume_changes_no_setting(finished, capsys):
    (finished / "checkpoint.pt").write_bytes(b"")
    before = contents(finished)
    assert "checkpoint.pt" in refused(capsys, "--resume", finished, "--iterations", "9")
    assert contents(finished) == before


def test_a_flipped_bit_is_noticed(finished, capsys, no_pictures):
    whole = bytearray((finished / "checkpoint.pt").read_bytes())
    state = torch.load(finished / "checkpoint.pt", weights_only=True)
    whole[whole.index(state["student"]["actor.weight"].numpy().tobytes())] ^= 1
    (finished / "checkpoint.pt").write_bytes(whole)
    assert "checkpoint.pt" in refused(capsys, "--resume", finished)


def test_damage_within_the_pickle_is_one_line(finished, capsys):
    """Bits turned in the part of the checkpoint that says what is where: read or refused, nothing else."""
    path, rng, outcomes = finished / "checkpoint.pt", random.Random(0), set()
    whole = path.read_bytes()
    at = whole.index(b"data.pkl")
    for _ in range(300):
        broken = bytearray(whole)
        broken[at + rng.randrange(6000)] ^= 1 << rng.randrange(8)
        path.write_bytes(broken)
        try:
            storage.read_weights(path)
            outcomes.add("read")
        except storage.RunFileError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


@pytest.mark.skipif(sys.platform == "win32", reason="no limits to set")
def test_a_full_disk_is_one_line():
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000)); import train; "
    command = [sys.executable, "-c", limited + "train.main(sys.argv[1:])", *tiny(Path.cwd() / "run", episodes=1)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert "Traceback" not in done.stderr
    assert done.returncode == 2
    assert "--resume" in done.stderr.splitlines()[-1]


def test_ctrl_c_while_measuring_ends_with_130(capsys, monkeypatch, no_pictures):
    def measured(*_):
        if not interrupted:
            interrupted.append(signal.raise_signal(signal.SIGINT))
        return {"return": 0.0, "length": 1.0, "success": 0.0}

    interrupted = []
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background process may have been told to ignore it
    monkeypatch.setattr(train, "evaluate", measured)
    with pytest.raises(SystemExit) as stopped:
        train.main(tiny("run"))
    assert stopped.value.code == 130
    assert "--resume run" in capsys.readouterr().err


def test_eval_of_an_unfinished_run(finished, capsys):
    (finished / "student.pt").unlink()
    line = refused(capsys, "--eval", finished)
    assert "student.pt" in line
    assert "--resume" in line


def test_eval_of_another_student(finished, capsys):
    torch.save(ppo.paper_student(envs.NUM_ACTIONS).state_dict(), finished / "student.pt")
    before = contents(finished)
    assert "student.pt" in refused(capsys, "--eval", finished)
    assert contents(finished) == before


@pytest.mark.parametrize("flag", ["--resume", "--eval"])
def test_an_empty_folder_name_does_not_start_a_default_run(flag, capsys, monkeypatch, tmp_path):
    def started(*_):
        raise AssertionError("a run was started")

    monkeypatch.setattr(train, "train", started)
    assert flag in refused(capsys, flag, "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [["--env", "HardDoorKey"], ["--resume", "nowhere"], ["--episodes", "0"], ["--run-dir", "file/run"]],
    ids=" ".join,
)
def test_bad_input_in_subprocess(arguments, tmp_path):
    (tmp_path / "file").write_text("mine")
    done = subprocess.run([*TRAIN, *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=100)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert arguments[1].split("/")[0] in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# ------------------------------------------------------------------------------------------------------ demonstrations


@pytest.mark.parametrize(
    ("script", "arguments", "says"),
    [
        ("annealing.py", [], r"stepwise.*\n[\s\S]*annealing\.png"),
        ("envs.py", [], r"SimpleDoorKey: The agent[\s\S]*DivergedDoorKey: The agent"),
        ("options.py", [], r"explore: \d+ actions, (done|the episode ended)"),
        ("options.py", ["--options", "repaired", "--gif", "out.gif"], r"explore: \d+ actions, done"),
        ("teacher.py", ["show", str(ROOT / "replies" / "LavaDoorKey.jsonl")], r"holds nothing\.\n +100.0%  explore"),
        ("ppo.py", [], r"solved\n$"),
    ],
    ids=["annealing", "envs", "options", "options-gif", "teacher", "ppo"],
)
def test_demo(script, arguments, says, tmp_path):
    command = [sys.executable, str(ROOT / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert re.search(says, done.stdout)
    if script == "annealing.py":
        with Image.open(tmp_path / "annealing.png") as plot:
            assert min(plot.size) > 100
    if "--gif" in arguments:
        with Image.open(tmp_path / "out.gif") as film:
            assert film.n_frames > 3


def test_teacher_demo_where_it_lies():
    done = subprocess.run([sys.executable, "teacher.py"], capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("The agent observes") >= 14  # ColoredDoorKey


@pytest.mark.parametrize(
    ("script", "arguments", "says"),
    [
        ("options.py", ["--do", "fly"], "fly"),
        ("options.py", ["--do", "open purple door"], "open purple door"),
        ("teacher.py", ["show", "nowhere.jsonl"], "nowhere.jsonl"),
        ("storage.py", ["nowhere"], "nowhere"),
        ("benchmarks/teachers.py", ["nowhere"], "give those of finished runs"),
    ],
)
def test_demo_with_bad_input(script, arguments, says, tmp_path):
    command = [sys.executable, str(ROOT / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=100)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("storage.py", r"iteration +\d+\n[\s\S]*\ndrawn: .*curve\.png\n$"),
        ("benchmarks/teachers.py", r"\n\| DivergedDoorKey \| the paper's \| soft \| 0 \| .*% \| never \|\n$"),
    ],
)
def test_scripts_that_read_a_finished_run(script, says, finished):
    done = subprocess.run([sys.executable, str(ROOT / script), str(finished)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(says, done.stdout)


def test_throughput_ends_with_a_ratio(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "throughput.py"), "--rounds", "1", "--iterations", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"ratio \d+\.\d\d", done.stdout.splitlines()[-1])
    assert not list(tmp_path.iterdir())


def test_help_reads_like_documentation():
    done = subprocess.run([*TRAIN, "--help"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0
    text = " ".join(done.stdout.split())
    for flag in ("resume", "eval", *(f.name.replace("_", "-") for f in fields(train.Config))):
        assert re.search(rf"^  --{flag}\b", done.stdout, re.MULTILINE)
    for f in fields(train.Config):
        assert f.metadata["help"] in text


# ------------------------------------------------------------------------------------------------------- does it learn?


def test_llm4teach_learns_simple_door_key_and_ppo_alone_does_not(no_pictures):
    settings = {
        "env": "SimpleDoorKey", "episodes": 100, "num_trajectories": 50, "epochs": 3, "minibatch_size": 256,
        "learning_rate": 1e-3, "entropy_coef": 1e-3, "value_coef": 0.5, "discount": 0.99, "gae_lambda": 0.95,
        "clip": 0.2, "max_grad_norm": 0.5, "student": "small", "options": "paper", "teacher_mode": "soft",
    }  # fmt: skip
    train.main(tiny("taught", **settings, iterations=14, i1=7, i2=14))
    steps = int(read_metrics(Path("taught"))[-1]["steps"])
    # PPO alone runs nearly every episode into the limit of 150 steps: as many environment steps in fewer iterations
    train.main(tiny("alone", **settings, method="ppo", iterations=-(-steps // (50 * 140))))
    assert int(read_metrics(Path("alone"))[-1]["steps"]) >= steps
    taught, alone = (json.loads((Path(run) / "eval.json").read_text()) for run in ("taught", "alone"))
    assert taught["success"] >= 0.9
    assert taught["return"] >= 0.6
    assert alone["success"] < 0.3
