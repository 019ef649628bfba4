"""Nothing that is not finite is written, and a checkpoint or metrics.csv from elsewhere is read only if it fits."""

import copy
import math
import re

import pytest
import torch
from helpers import assert_same_run, contents, read_metrics, refused, tiny

import train
from harness import run_files

pytestmark = pytest.mark.usefixtures("tidy")


def group(state):
    return state["optimizer"]["param_groups"][0]


def moments(state):
    return state["optimizer"]["state"][0]


DAMAGE = {
    "a learning rate of NaN": lambda state: group(state).update(lr=math.nan),
    "a learning rate below 0": lambda state: group(state).update(lr=-1.0),
    "a learning rate that is a text": lambda state: group(state).update(lr="fast"),
    "other betas": lambda state: group(state).update(betas=(0.0, 1.0)),
    "an epsilon of infinity": lambda state: group(state).update(eps=math.inf),
    "two groups": lambda state: state["optimizer"]["param_groups"].append(copy.deepcopy(group(state))),
    "2**70 steps": lambda state: state.update(steps=2**70),
    "other steps than the rows": lambda state: state.update(steps=state["steps"] + 1),
    "steps that are true": lambda state: state.update(steps=True),
    "a negative iteration": lambda state: state.update(iteration=-1),
    "half an iteration": lambda state: state.update(iteration=1.5),
    "an iteration before the rows": lambda state: state.update(iteration=0, steps=0),
    "an iteration after the rows": lambda state: state.update(iteration=7),
    "no random state": lambda state: state.pop("random"),
    "a short random state": lambda state: state.update(random=state["random"][:, :99]),
    "a long random state": lambda state: state.update(random=state["random"].repeat(1, 2)),
    "a random state of floats": lambda state: state.update(random=state["random"].float()),
    "a flat random state": lambda state: state.update(random=state["random"][0]),
    "a random state of nothing": lambda state: state.update(random=torch.zeros_like(state["random"])),
    "a weight of NaN": lambda state: state["student"]["actor.weight"][0].fill_(math.nan),
    "double weights": lambda state: state["student"].update({"actor.bias": state["student"]["actor.bias"].double()}),
    "one weight less": lambda state: state["student"].pop("actor.weight"),
    "an infinite moment": lambda state: moments(state)["exp_avg"].fill_(math.inf),
    "a negative second moment": lambda state: moments(state)["exp_avg_sq"].fill_(-1.0),
    "a moment of another shape": lambda state: moments(state).update(exp_avg=torch.zeros(3)),
    "a moment of no weight": lambda state: state["optimizer"]["state"].update({99: moments(state)}),
    "a step of 2**70": lambda state: moments(state)["step"].fill_(2.0**70),
    "a step below 0": lambda state: moments(state)["step"].fill_(-1.0),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_checkpoint_from_elsewhere(damage, finished, capsys):
    path = finished / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    DAMAGE[damage](state)
    run_files.write_weights(path, state)
    before = contents(finished)
    assert "checkpoint.pt" in refused(capsys, "--resume", finished, "--iterations", "3")
    assert contents(finished) == before


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (r"\n1,.*\n$", "\n", r"1 rows.*after 2 iterations"),
        (r"(\n0,.*)(\n1,.*)", r"\2\1", r"rows are not those of iterations 0, 1"),
        (r"(\n1,.*)", r"\1\1", r"not those of iterations"),
        (r"\n1,(\d+),(.*)", r"\n1,\1,\2\n2,900000,\2\n3,900001,\2", r"4 rows.*after 2 iterations"),
        (r"\n1,\d+,", r"\n1,1,", r"steps"),
        (r"\n1,(\d+),", r"\n1,1\1,", r"steps"),
        (r"\n1,\d+,", r"\n1,many,", r"line 3.*many"),
        (r"\n1,(\d+),[^,]*", r"\n1,\1,nan", r"line 3.*lambda is nan"),
        (r"\n1,(\d+),[^,]*", r"\n1,\1,1e999", r"line 3.*lambda is inf"),
        (r"\n1,", "\n1,7,", r"line 3"),
        (r"\n1,\d+", "\n1", r"line 3"),
        (r"lambda,", "mu,", r"lambda"),
        (r"^", "\0", r"metrics.csv"),
        (r"\n1,\d+", "\n1," + "9" * 5000, r"line 3"),
        (r"^.*", "\ufeff", r"metrics.csv"),
    ],
    ids=range(15),
)
def test_rows_from_elsewhere(old, new, says, finished, capsys):
    path = finished / "metrics.csv"
    text = path.read_text().replace("\r\n", "\n")
    changed = re.sub(old, new, text, count=1)
    assert changed != text
    path.write_text(changed)
    before = contents(finished)
    line = refused(capsys, "--resume", finished, "--iterations", "3")
    assert re.search(says, line), line
    assert "metrics.csv" in line
    assert contents(finished) == before


def test_columns_of_another_version(finished, capsys, no_pictures):
    path = finished / "metrics.csv"
    path.write_text(path.read_text().replace("entropy,", "surprise,", 1))
    assert re.search(
        r"metrics.csv has columns .*surprise", refused_last(capsys, "--resume", finished, "--iterations", "3")
    )


def refused_last(capsys, *arguments):
    """The line with which a run ends that had begun."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        train.main([str(argument) for argument in arguments])
    assert stopped.value.code == 2
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    return errors.splitlines()[-1]


@pytest.mark.parametrize("rate", ["1e20", "1e30"])
@pytest.mark.parametrize("method", ["llm4teach", "ppo"])
def test_a_run_that_diverges_keeps_what_was_finite(rate, method, tmp_path, capsys, no_pictures):
    line = refused_last(capsys, *tiny("run", learning_rate=rate, method=method, iterations=5))
    said = re.search(r"iteration (\d): .*--learning-rate 1e\+\d+ is too large", line)
    assert said, line
    done = int(said[1])
    folder = tmp_path / "run"
    assert not (folder / "student.pt").exists()
    assert (f"checkpoint.pt is that of iteration {done - 1}" if done else "no checkpoint yet") in line
    assert not done or len(read_metrics(folder)) == done
    if done:
        state = torch.load(folder / "checkpoint.pt", weights_only=True)
        assert state["iteration"] == done
        assert all(torch.isfinite(weights).all() for weights in state["student"].values())


@pytest.mark.parametrize("reward", [math.nan, math.inf])
def test_a_reward_that_is_not_finite(reward, monkeypatch, capsys, no_pictures, tmp_path):
    """The run goes on from the iteration before, once the task is repaired, as if nothing had been."""
    train.main(tiny("whole", iterations=3))
    play = train.rollout

    def spoilt(*arguments):
        trajectories = play(*arguments)
        if (tmp_path / "cut" / "metrics.csv").exists() and len(read_metrics(tmp_path / "cut")) == 1:
            trajectories[0][-1] = trajectories[0][-1]._replace(reward=reward)
        return trajectories

    with monkeypatch.context() as patch:
        patch.setattr(train, "rollout", spoilt)
        line = refused_last(capsys, *tiny("cut", iterations=3))
    assert re.search(r"iteration 1: return.* not finite.*reward.*checkpoint.pt is that of iteration 0", line), line
    train.main(["--resume", "cut"])
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


def test_a_student_that_is_not_finite(finished, capsys):
    path = finished / "student.pt"
    weights = torch.load(path, weights_only=True)
    weights["actor.bias"][0] = math.nan
    run_files.write_weights(path, weights)
    assert re.search(r"student.pt.*actor.bias is not finite", refused(capsys, "--eval", finished))
