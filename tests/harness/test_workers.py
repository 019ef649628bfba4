"""Several workers on gloo: what they gather and average against one process, and what becomes of the lost."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import torch
import torch.multiprocessing as mp
from helpers import ROOT
from torch import nn
from torch.distributions import Categorical

import ppo
import rollout
import train
from harness.cli import InputError
from harness.config import configure
from harness.run_files import read_metrics
from harness.task import open_task
from harness.workers import Workers


def work(rank, size, port, task, folder):
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    workers = Workers()
    workers.join()
    torch.save(task(workers), folder / f"{rank}.pt")
    workers.leave()
    os._exit(0)  # a process that leaves the interpreter with torch's threads around aborts now and then


def in_workers(size, task, folder):
    """What `task(workers)` returns in each of `size` processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(work, args=(size, port, task, folder), nprocs=size)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(size)]


def gather_all_sorts(workers):
    mine = torch.full((workers.rank * 2, 3), float(workers.rank), dtype=torch.float64)  # rank 0 has no rows
    state = torch.arange(4, dtype=torch.uint8)[None] + workers.rank
    return {
        "rows": workers.gather(mine),
        "bytes": workers.gather(state),
        "sum": workers.sum(workers.rank + 1),
        "mean": workers.mean({"a": workers.rank, "b": 2.0}),
        "text": workers.broadcast(f"said by {workers.rank}"),
    }


@pytest.mark.slow
def test_gather_sum_mean_and_broadcast(tmp_path):
    for found in in_workers(3, gather_all_sorts, tmp_path):
        assert found["rows"].tolist() == [[1.0] * 3] * 2 + [[2.0] * 3] * 4
        assert found["rows"].dtype == torch.float64
        assert found["bytes"].tolist() == [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]]
        assert (found["sum"], found["mean"], found["text"]) == (6, {"a": 1.0, "b": 2.0}, "said by 0")


def test_alone_nothing_is_sent():
    workers, rows = Workers(), torch.ones(2, 3)
    workers.join()
    assert workers.gather(rows) is rows
    assert (workers.sum(4), workers.mean({"a": 0.1}), workers.broadcast("x")) == (4, {"a": 0.1}, "x")
    with workers.preemptible(0) as cut_short:
        assert not cut_short()
    workers.leave()


def batch_and_student():
    torch.manual_seed(0)
    student = ppo.Student(nn.Linear(4, 8), 8, nn.Linear(8, 3), nn.Linear(8, 1))
    observations = torch.randn(50, 4)
    policy = Categorical(logits=torch.randn(50, 3))
    actions = policy.sample()
    advantages = torch.randn(50)
    teachers = torch.rand(50, 1, 3).softmax(-1)
    batch = ppo.Batch(
        observations, actions, policy.log_prob(actions), advantages, torch.randn(50), torch.ones(50, 1), teachers
    )
    return batch, student


def update(workers, rows, epochs=1, minibatch_size=50):
    """Weights after an update on some rows of the batch, advantages normalised over everybody's."""
    batch, student = batch_and_student()
    batch = ppo.Batch(*(field[rows] for field in batch))
    batch = batch._replace(advantages=ppo.normalize(batch.advantages, workers.gather(batch.advantages)))
    torch.manual_seed(workers.rank)
    ppo.update(
        student, torch.optim.Adam(student.parameters(), lr=1e-2), batch, 0.5, epochs=epochs,
        minibatch_size=minibatch_size, max_grad_norm=0.5, steps=workers.sum(len(batch.actions)),
        average_gradients=workers.average_gradients, clip=0.2, value_coef=0.5, entropy_coef=0.01, uniform_coef=0.1,
    )  # fmt: skip
    gradients = torch.cat([p.grad.flatten() for p in student.parameters()])
    return {"weights": nn.utils.parameters_to_vector(student.parameters()).detach(), "gradients": gradients}


def update_own_part(workers):
    own = slice(0, 13) if workers.rank == 0 else slice(13, None)
    return update(workers, own)


@pytest.mark.slow
def test_two_workers_take_the_gradient_step_of_one_on_the_joined_batch(tmp_path):
    one, two = in_workers(2, update_own_part, tmp_path)
    alone = update(Workers(), slice(None))
    for name, tensor in alone.items():
        assert torch.equal(one[name], two[name])
        torch.testing.assert_close(one[name], tensor, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(alone["gradients"], update(Workers(), slice(0, 13))["gradients"], rtol=1e-2)


def update_with_few_rows(workers):
    own = slice(0, 2) if workers.rank == 0 else slice(2, None)  # two rows for ten minibatches
    return update(workers, own, epochs=3, minibatch_size=5)


@pytest.mark.slow
def test_weights_stay_equal_also_where_a_worker_has_no_rows_in_a_minibatch(tmp_path):
    one, two = in_workers(2, update_with_few_rows, tmp_path)
    assert torch.equal(one["weights"], two["weights"])
    assert torch.isfinite(one["weights"]).all()


def collect_until_cut_short(workers):
    told = []
    with workers.preemptible(7) as cut_short:
        told.append(cut_short())  # nobody is done before all have asked
        workers.sum(0)
        if workers.rank == 2:
            deadline = time.monotonic() + 60
            while not cut_short() and time.monotonic() < deadline:
                time.sleep(0.01)
            told.append(cut_short())
    with workers.preemptible(8) as cut_short:
        told.append(cut_short())
        workers.sum(0)
    return told


@pytest.mark.slow
def test_the_last_of_three_is_cut_short_when_two_are_done(tmp_path):
    # 2 of 3 is more than 60 %, 1 of 3 is not; the next iteration counts anew
    assert in_workers(3, collect_until_cut_short, tmp_path) == [[False, False], [False, False], [False, True, False]]


def collect_without_a_store(workers):
    del workers.store
    with workers.preemptible(0) as cut_short:
        return [cut_short()]


@pytest.mark.slow
def test_of_two_nobody_is_cut_short_or_asks(tmp_path):
    assert in_workers(2, collect_without_a_store, tmp_path) == [[False], [False]]


def test_an_episode_that_is_cut_short_stays_in_the_batch_and_out_of_the_statistics():
    groups = open_task(configure({"env": "SimpleDoorKey"})).make_envs(2, "train")
    wander = lambda observations: [rollout.Decision(0) for _ in observations]  # noqa: E731
    answers = iter([False, False, False, True])
    trajectories = rollout.rollout(groups, [1, 3], wander, lambda: next(answers))
    assert [len(trajectory) for trajectory in trajectories] == [4, 4]  # asked after the first step on
    assert not any(map(rollout.is_over, trajectories))
    assert not trajectories[0][-1].terminated  # so it is bootstrapped


# ----------------------------------------------------------------------------------------------------------- torchrun


def torchrun(count, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={count}", "--master_port=0",
               "--rdzv_backend=c10d", "--rdzv_endpoint=127.0.0.1:0", str(ROOT / "train.py"), *arguments]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)


def tiny(folder):
    return ["--env", "SimpleDoorKey", "--iterations", "5", "--i1", "2", "--i2", "4", "--num-trajectories", "5",
            "--episodes", "4", "--run-dir", str(folder)]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two") / "run"
    process = torchrun(2, *tiny(folder))
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    return folder, output


@pytest.mark.slow
def test_two_workers_make_one_run(finished):
    folder, output = finished
    rows = read_metrics(folder / "metrics.csv")
    assert [row["iteration"] for row in rows] == list(range(5))
    assert rows[0]["steps"] == round(5 * rows[0]["length"])  # episodes of both workers, 3 and 2
    assert output.count("everything is in") == 1
    assert {"student.pt", "eval.json", "curve.png", "play.gif", "checkpoint.pt"} < {
        path.name for path in folder.iterdir()
    }


def kill_a_worker(process, folder, rows):
    """SIGKILL the second worker once there are so many rows."""
    while not (folder / "metrics.csv").exists() or len((folder / "metrics.csv").read_text().splitlines()) <= rows:
        assert process.poll() is None
        time.sleep(0.02)
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    os.kill(int(found.stdout.split()[-1]), signal.SIGKILL)


@pytest.mark.slow
def test_a_worker_that_dies_ends_the_run_in_a_line_and_it_can_go_on(finished, tmp_path):
    process = torchrun(2, *tiny(tmp_path / "run"))
    killer = threading.Thread(target=kill_a_worker, args=(process, tmp_path / "run", 2))
    killer.start()
    output = process.communicate(timeout=300)[0]
    killer.join()
    assert process.returncode != 0
    assert re.search(r"train\.py: another worker was lost.*--resume", output), output
    process = torchrun(2, "--resume", str(tmp_path / "run"))
    assert process.communicate(timeout=300)[0].count("everything is in") == 1
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == (finished[0] / "metrics.csv").read_bytes()


@pytest.mark.slow
def test_another_number_of_workers_goes_on(finished, tmp_path):
    folder = tmp_path / "run"
    subprocess.run(["cp", "-r", str(finished[0]), str(folder)], check=True)
    process = torchrun(3, "--resume", str(folder), "--iterations", "7")
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert len(read_metrics(folder / "metrics.csv")) == 7


def test_more_workers_than_episodes():
    with pytest.raises(InputError, match=r"^--num-trajectories is 2; 3 workers need at least one episode each$"):
        train.check_run(configure({"num_trajectories": 2, "workers": 3}), Workers())
    train.check_run(configure({"num_trajectories": 3, "workers": 3}), Workers())


@pytest.mark.slow
def test_a_bad_flag_is_told_once(tmp_path):
    process = torchrun(2, *tiny(tmp_path / "run"), "--clip", "-1")
    output = process.communicate(timeout=300)[0]
    assert process.returncode != 0
    assert output.count("train.py: --clip is -1.0") == 1
