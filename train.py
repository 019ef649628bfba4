"""LLM4Teach (Zhou et al., IJCAI 2024): train a small student with an LLM as its teacher. Algorithm 1, section 3.

    python train.py                                        # our first task with its recorded teacher
    python train.py --env NAME --seed 1                    # another task of ours
    python train.py --env my_task.py:MyTask                # a task of your own, see docs/own_task.md
    python train.py --method llm-only                      # the teacher alone
    python train.py --teacher-url http://127.0.0.1:8000/v1 --teacher-model NAME    # an LLM of your own as teacher
    python train.py --workers 4                            # four processes that train together, DD-PPO
    python train.py --resume RUN_DIR                       # go on where a run was cut off
    python train.py --eval RUN_DIR --episodes 1000         # measure a finished run

A run folder holds config.json, provenance.json, metrics.csv and TensorBoard events, checkpoint.pt, and at the end
student.pt, eval.json, episodes.csv, curve.png and play.gif. The data flows one way:

    observation -> text -> the options' mixture -> buffer -> loss
"""

from __future__ import annotations

from harness import terminal

if __name__ == "__main__":  # before torch, whose import takes a second
    terminal.prepare()

import json
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Callable, Union

import numpy as np
import torch

import annealing
import ppo
import teacher as teachers
from harness.checks import not_finite
from harness.cli import InputError, errors_in_one_line
from harness.config import Config, config_class, configure, flag, parse, stored_config
from harness.files import hold
from harness.find import absolute_env
from harness.provenance import Provenance
from harness.report import report
from harness.run_files import Run, append_unknown_state, first_line, read_metrics, read_weights, write_config
from harness.task import Task, check_advice, check_task, open_task
from harness.workers import LostWorkerError, Workers, count_cores
from llm.endpoint import LLMError
from llm.query import Query, make_query
from llm.replies import LiveReplies
from rollout import NotFiniteError, Transition, act_by_student, act_by_teacher, rollout, training_seeds


def train(task: Task, run_dir: Path, workers: Workers, query: Query | None, provenance: Provenance) -> bool:
    """Run Algorithm 1 from the run folder's checkpoint on; return False if a signal stopped it before its end.

    Every worker runs this with its share of the episodes, and all take the same gradient steps.
    """
    config = task.config
    student, device = make_student(task, workers)
    optimizer = torch.optim.Adam(student.parameters(), lr=config.learning_rate, fused=True)
    teacher = None if config.method == "ppo" else make_teacher(task, query, run_dir)
    own_episodes = slice(workers.rank, None, workers.world_size)
    envs = task.make_envs(len(range(config.num_trajectories)[own_episodes]), "train")
    anneal = make_schedule(task)
    if workers.rank > 0:
        torch.manual_seed(config.seed + (workers.rank << 32) & 2**63 - 1)  # equal weights, but actions of its own
    run = Run(config, run_dir, student, optimizer, workers, device, provenance)
    for i in run.iterations():
        # Anneal the teacher's influence lambda_i, Eq. (3); at 0 the teacher is not queried any more.
        lambda_ = anneal(run.total_steps if task.anneals_over_steps else i) if teacher else 0.0
        left = 1 - i / config.iterations if config.anneal_learning_rate else 1.0
        optimizer.param_groups[0]["lr"] = config.learning_rate * left

        # Collect trajectories with the student's policy; in each state visited query the teacher for pi_T, Eq. (1).
        seeds = training_seeds(config.seed, i * config.num_trajectories, config.num_trajectories)[own_episodes]
        act = act_by_student(student, teacher if lambda_ > 0 else None, task, device)
        with workers.preemptible(i) as preempted:
            trajectories = rollout(envs, seeds, act, preempted)

        # Estimate advantages (GAE), and minimise L_RL + lambda_i * E[H(pi_T, pi_theta)], Eq. (2).
        batch = make_batch(trajectories, student, task, device, workers)
        steps = workers.sum(len(batch.actions))
        losses = ppo.update(
            student, optimizer, batch, lambda_, epochs=config.epochs, minibatch_size=config.minibatch_size,
            max_grad_norm=config.max_grad_norm, steps=steps, average_gradients=workers.average_gradients,
            clip=config.clip, value_coef=config.value_coef, entropy_coef=config.entropy_coef,
            uniform_coef=config.uniform_coef,
        )  # fmt: skip

        # Log and save: the end of an iteration is where a run can be cut off and go on.
        statistics = teacher.pop_statistics() if teacher and lambda_ > 0 else {}
        run.save(i, steps, lambda_, trajectories, {**losses, **statistics}, COLUMNS)
    return run.finished


# ----------------------------------------------------------------------------------------- student, teacher, schedule

Teacher = Union[teachers.Teacher, teachers.EveryOption]
THREADS = torch.get_num_threads()  # a core each, or what OMP_NUM_THREADS says
UNKNOWN_STATES = "unknown_states.jsonl"
# Of metrics.csv, filled by update and teacher, empty where there is no teacher.
COLUMNS = [
    "distance", "policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction", "invalid_share",
    "teacher_entropy", "no_advice_share",
]  # fmt: skip


def make_student(task: Task, workers: Workers) -> tuple[ppo.Student, torch.device]:
    """Return the student, with the same weights for all workers, and the worker's device; raises InputError."""
    config = task.config
    try:
        device = torch.device(config.device)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", workers.local_rank % max(1, torch.cuda.device_count()))
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        why = first_line(error)
        raise InputError(
            f"device {config.device!r} cannot be used ({why}); --device takes cpu, or cuda where there is a GPU"
        ) from None
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    num_teachers = len(task.option_names) if config.method == "hierarchical" else 1
    student = task.make_student(num_teachers)
    # Threads make the updates of a large net faster; a small one's time goes into environments, which need the cores.
    if sum(weights.numel() for weights in student.parameters()) > 500_000:
        torch.set_num_threads(max(1, min(THREADS, count_cores() // workers.world_size)))
    return student.to(device), device


def make_teacher(task: Task, query: Query | None, run_dir: Path) -> Teacher:
    """Return the LLM's mixture of options, Eq. (1), or for the hierarchical baseline every option by itself."""
    config = task.config
    if query is None:
        return teachers.EveryOption(task.name_options, task.describe, task.make_option, task.num_actions)
    return teachers.Teacher(
        query, task.describe, task.make_option, task.num_actions, config.teacher_mode, task.canonicalize,
        config.unknown_state, partial(append_unknown_state, run_dir / UNKNOWN_STATES),
        draw=lambda shares: int(torch.tensor(shares).multinomial(1)),  # a checkpoint holds torch's random numbers
    )  # fmt: skip


def make_schedule(task: Task) -> Callable[[int], float]:
    """Return lambda as a function of the iteration or environment step; hierarchical keeps its teachers."""
    config = task.config
    never = sys.maxsize if task.anneals_over_steps else config.iterations
    return partial(
        annealing.SCHEDULES[config.anneal], lambda_0=config.lambda_0, lambda_c=config.lambda_c, i1=config.i1,
        i2=never if config.method == "hierarchical" else config.i2,
    )  # fmt: skip


def bill(query: Query | None) -> dict[str, float]:
    """Return what a live LLM was asked and paid, for TensorBoard and provenance.json."""
    statistics = query.statistics() if isinstance(query, LiveReplies) else {}
    return {f"llm/{name}": number for name, number in statistics.items()}


# ---------------------------------------------------------------------------------------------------------- the buffer


def make_batch(
    trajectories: list[list[Transition]], student: ppo.Student, task: Task, device: torch.device, workers: Workers
) -> ppo.Batch:
    """Return the trajectories laid end to end with their advantages, normalised over all workers' steps."""
    steps = [step for trajectory in trajectories for step in trajectory]  # T of them
    last = task.encode([trajectory[-1].next_observation for trajectory in trajectories])
    with torch.no_grad():
        last_values = student(torch.from_numpy(last).to(device)).value.tolist()
    next_values = [v for t, last in zip(trajectories, last_values) for v in [*(step.value for step in t[1:]), last]]
    values = torch.tensor([step.value for step in steps])
    advantages = ppo.gae(
        torch.tensor([step.reward for step in steps], dtype=torch.float32),
        values,
        torch.tensor(next_values),
        torch.tensor([step.terminated for step in steps]),
        torch.tensor([step is trajectory[-1] for trajectory in trajectories for step in trajectory]),
        task.config.discount,
        task.config.gae_lambda,
    )
    prior, policies = torch.empty(len(steps), 0), torch.empty(len(steps), 0, 0)
    if steps[0].advice is not None:
        prior, policies = stack_advice([step.advice for step in steps if step.advice is not None], task)
    batch = ppo.Batch(
        torch.from_numpy(task.encode([step.observation for step in steps])),
        torch.from_numpy(np.array([step.action for step in steps])),
        torch.tensor([step.log_prob for step in steps]),
        ppo.normalize(advantages, workers.gather(advantages)),
        advantages + values,
        prior,
        policies,
    )
    return ppo.Batch(*(column.to(device) for column in batch))


def stack_advice(advice: Sequence[teachers.Advice], task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    """Return priors (T, K) and policies (T, K, ...) of T states, K the most in one state; padding has prior 0."""
    longest = max(advice, key=lambda a: len(a.prior))
    if not len(longest.prior):  # only where policies are Gaussians can every state be without advice
        longest = teachers.Advice(np.zeros(1), np.zeros((1, 2, len(task.idle_action))))
    prior = np.zeros((len(advice), *longest.prior.shape), np.float32)
    policies = np.zeros((len(advice), *longest.policies.shape), np.float32)
    for t, a in enumerate(advice):
        if len(a.prior):
            prior[t, : len(a.prior)], policies[t, : len(a.prior)] = a
    check_advice(task, policies, prior)
    return torch.from_numpy(prior), torch.from_numpy(policies)


# -------------------------------------------------------------------------------------------------------- command line


def evaluate_and_report(task: Task, run_dir: Path, workers: Workers, query: Query | None) -> None:
    """Measure student and teacher, and write eval.json, play.gif and curve.png; raises InputError without a student."""
    config = task.config
    actors, about = {}, {}
    if config.method != "llm-only":
        path = run_dir / "student.pt"
        if not path.exists():
            raise InputError(
                f"{run_dir} has no student.pt: the run is not finished; python train.py --resume {run_dir}"
            )
        student, device = make_student(task, workers)
        weights = read_weights(path)
        for name in not_finite(weights):
            raise InputError(f"{path} cannot be used, {name} is not finite; restore a copy or train again")
        try:
            student.load_state_dict(weights)
        except RuntimeError as error:
            raise InputError(
                f"{path} does not fit a {config.student} student for {config.env}, or the task has changed its spaces "
                f"since: {first_line(error)}"
            ) from None
        actors["student"] = act_by_student(student, None, task, device, config.deterministic)
        about = {"student": config.student, "weights": sum(p.numel() for p in student.parameters())}
    teacher = make_teacher(task, query, run_dir) if query else None
    if teacher:
        actors["teacher"] = act_by_teacher(teacher, task, config.deterministic)
    report(task, run_dir, actors, about, teacher)
    unknown = run_dir / UNKNOWN_STATES
    if config.unknown_state == "silent" and unknown.exists():
        count = len(unknown.read_text().splitlines())
        print(f"warning: {count} states had no answer, and no advice was given there; {recording(task, unknown)}")
    if isinstance(query, LiveReplies):
        print(query.summary())
    print(f"everything is in {run_dir}")


def recording(task: Task, unknown: Path) -> str:
    """Return how states without an answer get one."""
    return f"record them with python teacher.py record --env {task.config.env} --states {unknown}"


def open_run(arguments: Sequence[str] | None, workers: Workers) -> tuple[Config, bool]:
    """Return the configuration of a run, whose folder is there, and whether it is only to be measured.

    Raises InputError.
    """
    given = vars(parse(arguments, __doc__))
    resume, measure = given.pop("resume", None), given.pop("eval", None)
    if resume is not None and measure is not None:
        raise InputError("--resume and --eval were both given; give one")
    if "env" in given:
        given["env"] = absolute_env(given["env"])
    if "," in given.get("options", ""):
        given["options"] = ",".join(str(Path(path).resolve()) for path in given["options"].split(","))
    if workers.by_torchrun:
        if given.get("workers", 0) not in (0, workers.world_size):
            raise InputError(
                f"--workers is {given['workers']} but torchrun started {workers.world_size}; leave out one or the other"
            )
        given["workers"] = workers.world_size
    if resume is not None or measure is not None:
        run_dir = Path(measure if resume is None else resume)
        stored = stored_config(run_dir)
        settings = config_class(stored["env"])
        changeable = {f.name for f in fields(settings) if f.metadata["changeable"]}
        changeable |= {"iterations"} if measure is None else set()
        for name in sorted(given.keys() - changeable):
            if given[name] != stored[name]:
                raise InputError(
                    f"{flag(name)} is {given[name]} but {run_dir} has {stored[name]}; leave it out or start a new run"
                )
        config = settings(**{**stored, **given, "run_dir": str(run_dir)}).fit_to_machine()
    else:
        config = configure(given)
        name = f"{config.env.rpartition(':')[2]}-{config.method}-seed{config.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
        run_dir = Path(config.run_dir or Path("runs") / name)
        config = replace(config, run_dir=str(run_dir))
    check_run(config, workers)
    if resume is None and measure is None:
        try:
            # What a start that was killed leaves is as good as empty.
            if run_dir.exists() and {path.name for path in run_dir.iterdir()} - {".lock", "config.json.part"}:
                raise InputError(
                    f"{run_dir} exists and is not overwritten; choose another --run-dir or --resume {run_dir}"
                )
            run_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"run folder {run_dir} cannot be made: {error.strerror}; choose a --run-dir that can be written to"
            ) from None
    return config, measure is not None


def check_run(config: Config, workers: Workers) -> None:
    """Raise InputError where a setting, the task, the device or the reply book cannot be used."""
    task = open_task(config)
    check_task(task)
    if config.num_trajectories < config.workers:
        raise InputError(
            f"--num-trajectories is {config.num_trajectories}; {config.workers} workers need at least one episode each"
        )
    make_student(task, workers)
    make_query(task)


def run(task: Task, workers: Workers, only_evaluate: bool) -> None:
    """Train, and let the first worker measure; raises InputError, and KeyboardInterrupt where a signal stopped it."""
    config = task.config
    run_dir = Path(config.run_dir)
    try:
        query = make_query(task)
        if trains(config, only_evaluate) and workers.rank == 0:
            machine = {"workers": config.workers, "cores": count_cores(), "device": config.device, **task.machine}
            print(", ".join(f"{name}: {value}" for name, value in machine.items()), flush=True)
        provenance = Provenance(run_dir, partial(bill, query))
        finished = not trains(config, only_evaluate) or train(task, run_dir, workers, query, provenance)
        workers.leave()
        if workers.rank > 0:
            return
        if not finished:
            raise KeyboardInterrupt
        evaluate_and_report(task, run_dir, workers, query)
        provenance.write()
    except teachers.UnknownStateError as error:
        raise InputError(f"{error}; {recording(task, run_dir / UNKNOWN_STATES)}; {resuming(config)}") from None
    except OSError as error:
        raise InputError(f"{error}; make room or give access; {resuming(config)}") from None
    except (LLMError, task.Error) as error:
        raise InputError(f"{error}; {resuming(config)}") from None
    except NotFiniteError as error:
        done = len(read_metrics(run_dir / "metrics.csv"))
        last = f"{run_dir / 'checkpoint.pt'} is that of iteration {done - 1}" if done else "there is no checkpoint yet"
        raise InputError(
            f"iteration {done}: {error}; most likely --learning-rate {config.learning_rate:g} is too large, or a "
            f"reward or an observation is not finite; {last}"
        ) from None


def trains(config: Config, only_evaluate: bool) -> bool:
    """Return whether there is something to train."""
    return not only_evaluate and config.method != "llm-only"


def resuming(config: Config) -> str:
    """Return how a run goes on that was cut off."""
    return f"what was trained is kept, go on with: python train.py --resume {config.run_dir}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, resume, or evaluate; the first worker reads the command line, starts the others and measures."""
    workers = Workers()
    with errors_in_one_line("train.py"):
        config, only_evaluate = open_run(arguments, workers) if workers.rank == 0 else (Config(), False)
        try:
            with hold(Path(config.run_dir)) if workers.rank == 0 else nullcontext():
                if workers.rank == 0 and not (Path(config.run_dir) / "config.json").exists():
                    write_config(config, Path(config.run_dir))  # from here on it can be resumed
                if workers.rank == 0 and trains(config, only_evaluate):
                    workers.start([sys.executable, __file__], config.workers)
                workers.join()
                settings, only_evaluate = json.loads(workers.broadcast(json.dumps((asdict(config), only_evaluate))))
                config = config_class(settings["env"])(**settings)
                run(open_task(config), workers, only_evaluate)
        except KeyboardInterrupt:
            print(f"stopped; {resuming(config)}", file=sys.stderr)
            raise SystemExit(130) from None
        except LostWorkerError as error:
            workers.end_like_the_lost()
            raise InputError(f"{error}; with any number of workers, {resuming(config)}") from None
        finally:
            workers.leave()


if __name__ == "__main__":
    terminal.run(main)
