"""What cannot be used ends in one line on stderr and exit code 2, and changes nothing."""

import random
import re
import subprocess
from pathlib import Path

import pytest
import torch
from helpers import TRAIN, contents, refused, tiny

import envs
import nets
import train
from harness import run_files
from harness.config import config_class
from harness.task import open_task
from harness.workers import Workers

pytestmark = pytest.mark.usefixtures("tidy")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"env": "HardDoorKey"}, r"--env is 'HardDoorKey'; choose from SimpleDoorKey, "),
        ({"env": "nowhere.py:Mine"}, r"nowhere\.py is not a file.*--env"),
        ({"env": "nowhere.at.all:Mine"}, r"--env.*no module 'nowhere'"),
        ({"env": "envs:Nothing"}, r"envs\.py has no class 'Nothing'.*SimpleDoorKey"),
        ({"max_steps": 3}, r"--max-steps is a setting of another task.*DivergedDoorKey"),
        ({"unknown_state": "guess"}, r"--unknown-state.*guess.*silent"),
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
        ({"episodes": 0}, r"--episodes is 0.*from 1"),
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


def test_a_flag_of_another_task(tmp_path, capsys):
    line = refused(capsys, "--env", "SimpleDoorKey", "--max-steps", "3")
    assert re.search(r"--max-steps is a setting of another task.*SimpleDoorKey", line)
    assert not list(tmp_path.iterdir())


def test_a_flag_of_another_task_than_the_runs(finished, capsys):
    before = contents(finished)
    line = refused(capsys, "--resume", finished, "--max-steps", "3")
    assert re.search(r"--max-steps is a setting of another task.*DivergedDoorKey", line)
    assert contents(finished) == before


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
    [
        "",
        "{",
        "[]",
        "null",
        "\xff",
        '{"unknown": 1}',
        '{"iterations": 3}',
        '{"env": 3}',
        '{"env": ["x"]}',
        '{"env": "HardDoorKey"}',
        '{"env": "SimpleDoorKey", "unknown": 1}',
        '{"env": "SimpleDoorKey", "iterations": "many"}',
        '{"env": "SimpleDoorKey", "lambda_0": null}',
    ],
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
    settings = {**state["config"], **changes}
    config = config_class(settings["env"])(**settings)
    student, _ = train.make_student(open_task(config), Workers())
    optimizer = torch.optim.Adam(student.parameters())
    own = {"config": settings, "student": student.state_dict(), "optimizer": optimizer.state_dict()}
    run_files.write_weights(finished / "checkpoint.pt", {**state, **own})
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


@pytest.mark.slow
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
            run_files.read_weights(path)
            outcomes.add("read")
        except run_files.RunFileError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_eval_of_an_unfinished_run(finished, capsys):
    (finished / "student.pt").unlink()
    line = refused(capsys, "--eval", finished)
    assert "student.pt" in line
    assert "--resume" in line


def test_eval_of_another_student(finished, capsys):
    torch.save(nets.paper_student(envs.NUM_ACTIONS).state_dict(), finished / "student.pt")
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


@pytest.mark.slow
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
