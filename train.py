"""LLM4Teach (Zhou et al., IJCAI 2024): train a small student with an LLM as its teacher. Algorithm 1, section 3.

    python train.py                                        # SimpleDoorKey with the recorded teacher
    python train.py --env LavaDoorKey --seed 1             # another task
    python train.py --method llm-only --env LavaDoorKey    # the teacher alone
    python train.py --env habitat-navpick                  # Nav & Pick on the real simulator, if Habitat is installed
    python train.py --teacher-url http://127.0.0.1:8000/v1 --teacher-model NAME    # an LLM of your own as teacher
    torchrun --nproc_per_node=4 train.py                   # four workers, DD-PPO; also with --resume
    python train.py --resume RUN_DIR                       # go on where a run was cut off
    python train.py --eval RUN_DIR --episodes 1000         # measure a finished run

A run folder holds config.json, metrics.csv and TensorBoard events, checkpoint.pt, and at the end student.pt,
eval.json, curve.png and play.gif. The data flows one way, from envs.py through teacher.py and options.py to ppo.py:

    observation -> text -> the options' mixture -> buffer -> loss
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache, partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, Callable, NamedTuple, NoReturn, Union

import numpy as np
import torch
from torch.distributions import Categorical
from tqdm import tqdm

import annealing
import ddppo
import envs
import habitat_envs
import habitat_options
import options
import ppo
import storage
import teacher as teachers

METHODS = ("llm4teach", "llm-only", "hierarchical", "ppo")
# Table 3, for each of METHODS: episode length, return, success. "llm-only" is the paper's "LLM soly".
PAPER = {
    "SimpleDoorKey": ((30.49, 0.81, 0.964), (22.28, 0.87, 1.0), (49.83, 0.70, 0.96), (143.99, 0.05, 0.101)),
    "LavaDoorKey": ((36.84, 0.75, 0.909), (15.79, 0.48, 0.546), (43.05, 0.63, 0.851), (149.61, 0.00, 0.05)),
    "ColoredDoorKey": ((36.27, 0.78, 0.94), (90.73, 0.40, 0.468), (42.69, 0.74, 0.958), (145.84, 0.03, 0.066)),
    "DivergedDoorKey": ((30.65, 0.53, 0.931), (50.10, 0.19, 0.372), (27.21, 0.59, 0.98), (59.63, 0.01, 0.019)),
    "habitat-navpick": ((233.45, 2.39, 0.69), (330.23, 2.18, 0.62), (534.68, -1.51, 0.12), (602.69, -6.72, 0.0)),
}


SETTINGS = habitat_envs.Settings()  # of a Habitat environment, where their sources are told


def setting(
    default: Any, help: str, choices: Sequence[str] = (), least: float = -math.inf, most: float = sys.float_info.max
) -> Any:
    """A field of Config with what `--help` says of it and what is allowed."""
    return field(default=default, metadata={"help": help, "choices": choices, "least": least, "most": most})


@dataclass(frozen=True)
class Config:
    """Every setting of a run, stored in its folder. Defaults are the paper's Table 1 unless the help says otherwise."""

    env: str = setting("SimpleDoorKey", "the task", choices=(*envs.TASKS, *habitat_envs.TASKS))
    method: str = setting(
        "llm4teach", "the paper's, its teacher alone, Matthews et al. 2022, plain PPO", choices=METHODS
    )
    seed: int = setting(0, "of all that is random in training; evaluation rooms stay the same", least=0, most=2**63)
    iterations: int = setting(1000, "training iterations; the paper trains past 2000", least=1)
    run_dir: str = setting("", "new folder for the run; by default under runs/, after task, method, seed and time")
    device: str = setting("cpu", "where the student lives, as torch names it: cpu, cuda, cuda:1")
    episodes: int = setting(1000, "evaluation episodes, in rooms never trained on", least=1)
    deterministic: bool = setting(False, "evaluate with the most probable action instead of a sampled one")

    options: str = setting(
        "paper",
        "paper, which walks through lava, or repaired; in Habitat scripted, or NAV.PT,PICK.PT: trained as tasks",
    )
    teacher_mode: str = setting(
        "soft",
        "shares of sampled plans, probabilities of lettered ones, the most frequent plan",
        choices=teachers.MODES,
    )
    replies: str = setting("", "reply book; by default replies/MODEL-MODE.jsonl, without a model replies/ENV.jsonl")
    teacher_model: str = setting("", "the LLM; by default the paper's, from its recorded answers")
    teacher_url: str = setting("", "OpenAI-compatible endpoint to ask for what the book lacks, http://.../v1")
    teacher_key_env: str = setting("OPENAI_API_KEY", "environment variable with its key, if it needs one")
    teacher_samples: int = setting(10, "answers per state in mode soft; mode hard asks for one", least=2)
    teacher_temperature: float = setting(0.7, "of these answers; mode hard asks at 0", least=0)
    teacher_examples: int = setting(
        len(teachers.EXAMPLES), "examples in the prompt; the paper has 1", least=0, most=len(teachers.EXAMPLES)
    )
    teacher_workers: int = setting(4, "requests at a time", least=1, most=64)
    teacher_max_requests: int = setting(0, "most requests a process makes, retries included; 0: no limit", least=0)
    teacher_prompt_price: float = setting(0.0, "of a million prompt tokens, to show what was paid", least=0)
    teacher_completion_price: float = setting(0.0, "of a million tokens of answers", least=0)

    anneal: str = setting("stepwise", "schedule of lambda: Eq. (3), or one of A.7", choices=tuple(annealing.SCHEDULES))
    lambda_0: float = setting(10.0, "lambda at the start")
    lambda_c: float = setting(0.1, "lambda that is held from i1 to i2")
    i1: int = setting(15, "iteration, in Habitat step, at which lambda reaches lambda_c; the paper's 1000, 5e6")
    i2: int = setting(
        100, "iteration, in Habitat step, at which the teacher leaves (hierarchical: never); the paper's 2000, 1e7"
    )
    uniform_coef: float = setting(
        0.1, "hierarchical: pull to uniform weights over options, times lambda; ours", least=0
    )

    student: str = setting(
        "small", "our net of 23,836 weights, the published of 843,576", choices=tuple(ppo.STUDENTS["grid"])
    )
    num_trajectories: int = setting(50, "whole episodes per iteration; the paper's is 10", least=1)
    epochs: int = setting(3, "passes over an iteration's steps", least=1)
    minibatch_size: int = setting(256, "most steps per gradient step; the paper's is 128", least=1)
    learning_rate: float = setting(1e-3, "Adam's at the start; it falls linearly to 0, which is ours", least=0)
    entropy_coef: float = setting(1e-3, "weight of the entropy bonus", least=0)
    value_coef: float = setting(0.5, "weight of the value loss", least=0)
    discount: float = setting(0.99, "discount factor per step", least=0, most=1)
    gae_lambda: float = setting(0.95, "lambda of the advantages; not in Table 1, so Table 2's", least=0, most=1)
    clip: float = setting(0.2, "PPO's clipping parameter", least=0)
    max_grad_norm: float = setting(0.5, "longer gradients are scaled down to this norm", least=0)

    habitat_data: str = setting("", "data set laid out like habitat-lab's data/; by default the home that we bring")
    action_std: float = setting(
        0.2, "standard deviation of an action's numbers at the start; ours", least=0.01, most=0.5
    )
    num_simulators: int = setting(4, "processes of a worker, each with a simulator; Table 2 has 10", least=1)
    max_steps: int = setting(
        SETTINGS.max_steps, "time limit; the paper's is not known, its Table 3 needs more than 602", least=1
    )
    pick_reward: float = setting(
        SETTINGS.pick_reward, "for picking the object up; habitat-lab's, the paper's number is lost"
    )
    dist_reward: float = setting(
        SETTINGS.dist_reward, "for a metre that the end effector comes nearer; habitat-lab's, too"
    )
    force_penalty: float = setting(SETTINGS.force_penalty, "where force ends the episode; habitat-lab's, too")
    slack_reward: float = setting(SETTINGS.slack_reward, "of every step; the paper's")
    success_reward: float = setting(SETTINGS.success_reward, "for success; habitat-lab's is 10")

    @property
    def family(self) -> Family:
        """What the task has in common with others of its kind."""
        return next(family for family in FAMILIES if self.env in family.tasks)

    @property
    def asks_llm(self) -> bool:
        """Whether an LLM may be asked, and not only its recorded answers."""
        return bool(self.teacher_url) and self.method in ("llm4teach", "llm-only")


# What is different in Habitat by default; i1 and i2 are environment steps there.
HABITAT = {"options": "scripted", "iterations": 100, "episodes": 100, "num_trajectories": 8, "minibatch_size": 64,
           "i1": 240_000, "i2": 270_000}  # fmt: skip


def configure(given: dict[str, Any]) -> Config:
    """These settings, and for the rest what the task has by default."""
    return Config(**{**Config(env=given.get("env", Config.env)).family.defaults, **given})


def fail(message: str) -> NoReturn:
    """End with one line on stderr and exit code 2."""
    print(f"train.py: {message}", file=sys.stderr)
    raise SystemExit(2)


# -------------------------------------------------------------------------------- what differs: MiniGrid and Habitat


class Family(NamedTuple):
    """A kind of tasks; where these differ, and nowhere else, train.py asks the family of its task."""

    tasks: Collection[str]
    defaults: dict[str, Any]  # of Config, where they are others
    steps: bool  # whether i1 and i2 are environment steps, not iterations
    book: str  # reply book without --replies and --teacher-model; "": that of the task
    check: Callable[[Config], None]  # ends the run where its settings cannot be used
    make_rooms: Callable[..., Sequence[Any]]  # (config, how many at a time, "train" or "val", film=False)
    picture: Callable[[Any, np.ndarray], np.ndarray]  # of a room that can be filmed and what is observed there, RGB
    describe: Callable[[np.ndarray], str]  # c(s)
    option_names: Callable[[str], list[str]]  # of a task
    make_option: Callable[[Config], Callable[[str], teachers.Option]]
    num_actions: int | None  # to choose from; None: an action is numbers
    make_student: Callable[[Config, int], ppo.Student]  # with how many teachers


def check_minigrid(config: Config) -> None:
    """Whether the options are known."""
    if config.options not in options.OPTION_SETS:
        fail(f"--options is {config.options}; for {config.env} choose from {', '.join(options.OPTION_SETS)}")


def minigrid_rooms(config: Config, count: int, split: str, film: bool = False) -> Sequence[Any]:
    """A room for each episode; `split` is in their seeds, and all can be filmed."""
    return envs.make_rooms(config.env, count)


def minigrid_picture(room: Any, observation: np.ndarray) -> np.ndarray:
    """The room from above; what was seen so far is lit."""
    return room.grid.render(24, tuple(room.agent_pos), room.agent_dir, highlight_mask=observation[:, :, 0] > 0)


def minigrid_option_names(task: str) -> list[str]:
    """Every option that makes sense: explore, and what can be done with each thing in the room."""
    verbs = {"key": ("go to", "pick up", "drop"), "door": ("go to", "open")}
    return ["explore", *(f"{verb} {thing}" for thing in envs.TASKS[task].things for verb in verbs[thing.split()[-1]])]


def check_habitat(config: Config) -> None:
    """Whether Habitat is installed, the data set is one, and the options are there."""
    try:
        habitat_envs.check(config.habitat_data or str(habitat_envs.HOME))
    except habitat_envs.HabitatError as error:
        fail(f"{config.env} cannot be played: {error}")
    learned_policies(config)


def habitat_rooms(config: Config, count: int, split: str, film: bool = False) -> Sequence[Any]:
    """As many simulators as may run at a time."""
    names = ("max_steps", "pick_reward", "dist_reward", "force_penalty", "slack_reward", "success_reward")
    settings = habitat_envs.Settings(
        folder=config.habitat_data or str(habitat_envs.HOME),
        gpu=torch.cuda.current_device() if torch.cuda.is_available() else -1,
        hints=config.method != "ppo",
        film=film,
        **{name: getattr(config, name) for name in names},
    )
    return [habitat_envs.Room(config.env, split, settings) for _ in range(min(count, config.num_simulators))]


def learned_policies(config: Config) -> dict[str, habitat_options.Policy]:
    """The frozen students of `--options nav.pt,pick.pt`, by the option that each takes over; {} if all are scripted."""
    if config.options == "scripted":
        return {}
    paths, names = config.options.split(","), list(habitat_options.OPTIONS)
    if len(paths) != len(names):
        fail(
            f"--options is {config.options}; for {config.env} give scripted, or a student.pt for each of "
            f"{', '.join(names)}, in this order and with a comma between them"
        )
    return {name: learned_policy(Path(path)) for name, path in zip(names, paths)}


def learned_policy(path: Path) -> habitat_options.Policy:
    """What a student that was trained in Habitat does: means and standard deviations, (2, 11), for an observation."""
    try:
        weights, misfit = storage.read_weights(path), ""
    except storage.RunFileError as error:
        fail(str(error))
    for make in ppo.STUDENTS["depth"].values():
        student = make(habitat_envs.NUM_ACTIONS, num_sensors=habitat_envs.NUM_SENSORS)
        try:
            student.load_state_dict(weights)
        except RuntimeError as error:
            misfit = storage.first_line(error)
            continue

        @torch.inference_mode()
        def policy(observation: np.ndarray, student: ppo.Student = student) -> np.ndarray:
            gaussian = student(torch.from_numpy(observation)[None]).policy
            return torch.cat([gaussian.mean, gaussian.stddev]).numpy()

        return policy
    fail(f"{path} is not the student.pt of an option ({misfit}); see python train.py --env habitat-nav --method ppo")


FAMILIES = (
    Family(
        tasks=envs.TASKS,
        defaults={},
        steps=False,
        book="",
        check=check_minigrid,
        make_rooms=minigrid_rooms,
        picture=minigrid_picture,
        describe=envs.describe,
        option_names=minigrid_option_names,
        make_option=lambda config: partial(options.make_option, option_set=config.options),
        num_actions=envs.NUM_ACTIONS,
        make_student=lambda config, num_teachers: ppo.STUDENTS["grid"][config.student](envs.NUM_ACTIONS, num_teachers),
    ),
    Family(
        tasks=habitat_envs.TASKS,
        defaults=HABITAT,
        steps=True,
        book="habitat",
        check=check_habitat,
        make_rooms=habitat_rooms,
        picture=lambda room, observation: each([room], "render", [{}])[0],
        describe=habitat_envs.describe,
        option_names=lambda task: list(habitat_options.OPTIONS),
        make_option=lambda config: partial(habitat_options.make_option, learned=learned_policies(config)),
        num_actions=None,
        make_student=lambda config, num_teachers: ppo.STUDENTS["depth"][config.student](
            habitat_envs.NUM_ACTIONS, num_teachers, num_sensors=habitat_envs.NUM_SENSORS, std=config.action_std
        ),
    ),
)


# ---------------------------------------------------------------------------------------------------- playing episodes


class Decision(NamedTuple):
    """What was chosen in a state, and what the update will want to know of the choice."""

    action: Any  # an int, or the numbers of a continuous action
    log_prob: float = 0.0
    value: float = 0.0
    advice: teachers.Advice | None = None


class Step(NamedTuple):
    """One transition; `truncated` means that the time limit cut the episode off, `success` that the task is done."""

    observation: np.ndarray
    decision: Decision
    reward: float
    after: np.ndarray
    terminated: bool
    truncated: bool
    success: bool


Act = Callable[[Sequence[np.ndarray]], Sequence[Decision]]


def ask(room: Any, name: str, arguments: dict[str, Any]) -> Callable[[], Any]:
    """Have a method of an environment called; what comes back waits for its answer, if the room is a process."""
    if isinstance(room, habitat_envs.Room):
        room.ask(name, arguments)
        return room.receive
    answer = getattr(room, name)(**arguments)
    return lambda: answer


def each(rooms: Sequence[Any], name: str, arguments: Sequence[dict[str, Any]]) -> list[Any]:
    """Call a method of every environment, each with its own arguments; rooms that are processes work side by side."""
    answers = [ask(room, name, own) for room, own in zip(rooms, arguments)]
    return [answer() for answer in answers]


def play(
    rooms: Sequence[Any], seeds: Sequence[int], act: Act, stop: Callable[[], bool] = lambda: False
) -> list[list[Step]]:
    """Play a whole episode for each seed, rooms in step with each other so that `act` decides for many at once.

    A room whose episode is over takes the next seed. Once `stop` says so, episodes that are not over are left where
    they are, and those that have not begun are left out. Rooms that are processes form two groups that take turns:
    while one is stepped, `act` decides for the other.
    """
    trajectories: list[list[Step]] = [[] for _ in seeds]
    queue = deque(range(len(seeds)))

    def turns(free: Sequence[Any]) -> Iterator[None]:
        """Of a group of rooms; each turn ends once they have been told what to do."""
        observations: dict[int, np.ndarray] = {}
        running: list[tuple[Any, int]] = []  # rooms with the numbers of their episodes
        while not (trajectories[0] and stop()):
            begun = [(room, queue.popleft()) for room in free[: len(queue)]]
            if begun:
                resets = each([room for room, _ in begun], "reset", [{"seed": seeds[k]} for _, k in begun])
                observations.update({k: observation for (_, k), (observation, _) in zip(begun, resets)})
                running += begun
            if not running:
                break
            decisions = act([observations[k] for _, k in running])
            answers = [ask(room, "step", {"action": d.action}) for (room, _), d in zip(running, decisions)]
            yield
            for (_, k), decision, answer in zip(running, decisions, answers):
                after, reward, terminated, truncated, info = answer()
                success = info.get("success", reward > 0)
                trajectories[k].append(Step(observations[k], decision, reward, after, terminated, truncated, success))
                observations[k] = after
            free = [room for room, k in running if is_over(trajectories[k])]
            running = [(room, k) for room, k in running if not is_over(trajectories[k])]

    groups = 2 if isinstance(rooms[0], habitat_envs.Room) else 1
    for _ in zip_longest(*(turns(rooms[group::groups]) for group in range(groups))):
        pass  # a turn for each group, until none has an episode left
    return [trajectory for trajectory in trajectories if trajectory]


def is_over(trajectory: list[Step]) -> bool:
    """Whether the episode has ended."""
    return trajectory[-1].terminated or trajectory[-1].truncated


Advise = Callable[[np.ndarray], teachers.Advice]


def student_acts(student: ppo.Student, teacher: Advise | None, device: torch.device, greedy: bool = False) -> Act:
    """Act by the student's policy, sampled or greedy; the teacher, if any, is asked in every state visited."""

    @torch.inference_mode()
    def act(observations: Sequence[np.ndarray]) -> list[Decision]:
        policy, values, _ = student(torch.from_numpy(np.stack(observations)).to(device))
        actions = policy.mode if greedy else policy.sample()  # continuous ones are clipped by the rooms, not here
        advice = [teacher(observation) if teacher else None for observation in observations]
        return list(map(Decision, actions.tolist(), policy.log_prob(actions).tolist(), values.tolist(), advice))

    return act


def teacher_acts(teacher: Advise, greedy: bool = False) -> Act:
    """Act by the teacher's mixture pi_T, sampled or greedy: the paper's "LLM soly"."""

    def choose(shares: torch.Tensor) -> torch.Tensor:
        return shares.argmax(-1) if greedy else Categorical(shares).sample()

    def act_gaussian(advice: teachers.Advice) -> Decision:
        if not len(advice.shares):
            return Decision(habitat_options.STAND_STILL)
        mean, deviation = torch.from_numpy(advice.policies)[choose(torch.from_numpy(advice.shares))]
        return Decision((mean if greedy else torch.normal(mean, deviation)).numpy())

    def act(observations: Sequence[np.ndarray]) -> list[Decision]:
        advice = [teacher(observation) for observation in observations]
        if advice[0].policies.ndim != 2:  # probabilities are (1, A)
            return [act_gaussian(a) for a in advice]
        probs = torch.from_numpy(np.concatenate([a.policies for a in advice]))
        return [Decision(action) for action in choose(probs).tolist()]

    return act


def evaluate(config: Config, act: Act) -> dict[str, Any]:
    """Mean return, length and success over `episodes` rooms that no run trains on, the same rooms every time."""
    torch.manual_seed(config.seed)
    seeds = envs.evaluation_seeds(config.episodes)
    together = min(100, config.episodes)
    rooms = config.family.make_rooms(config, together, "val")
    trajectories = [t for at in range(0, len(seeds), together) for t in play(rooms, seeds[at : at + together], act)]
    returns = np.array([sum(step.reward for step in trajectory) for trajectory in trajectories])
    return {
        "return": float(returns.mean()),
        "length": float(np.mean([len(trajectory) for trajectory in trajectories])),
        "success": float(np.mean([trajectory[-1].success for trajectory in trajectories])),
    }


# ------------------------------------------------------------------------------------------------------------ training


Teacher = Union[teachers.Teacher, teachers.EveryOption]


def make_teacher(config: Config) -> Teacher:
    """Build the LLM's mixture of options, Eq. (1), or for the hierarchical baseline every option by itself."""
    family = config.family
    make_option = family.make_option(config)
    if config.method == "hierarchical":
        return teachers.EveryOption(family.option_names(config.env), family.describe, make_option)
    ask = live_replies(config) if config.teacher_url else recorded_replies(config)
    return teachers.Teacher(ask, family.describe, make_option, family.num_actions, config.teacher_mode)


def reply_book(config: Config) -> Path:
    """Where the answers of the configured LLM are."""
    if config.replies:
        return Path(config.replies)
    if config.teacher_model:
        return teachers.book_path(config.teacher_model, config.teacher_mode)
    if config.teacher_mode == "logprobs":
        fail(
            "--teacher-mode logprobs needs an LLM whose log-probabilities are known, and the paper's are not; "
            "name one with --teacher-model, or its book with --replies"
        )
    return teachers.REPLIES / f"{config.family.book or config.env}.jsonl"


def recorded_replies(config: Config) -> teachers.RecordedReplies:
    """The reply book of the configuration."""
    try:
        return teachers.RecordedReplies(reply_book(config))
    except (OSError, ValueError) as error:
        fail(f"the replies file cannot be used: {error}; --replies names a reply book such as those in replies/")


@cache  # one bill a process, for training and evaluation
def live_replies(config: Config) -> teachers.LiveReplies:
    """The LLM behind --teacher-url with its reply book."""
    if not config.teacher_model:
        fail("--teacher-url is given without --teacher-model; name the model that the endpoint serves")
    try:
        endpoint = teachers.Endpoint(
            config.teacher_url,
            config.teacher_model,
            os.environ.get(config.teacher_key_env, ""),
            config.teacher_max_requests,
            (config.teacher_prompt_price, config.teacher_completion_price),
        )
    except ValueError as error:
        fail(f"the LLM cannot be asked: {error}; see --teacher-url and --teacher-key-env")
    try:
        return teachers.LiveReplies(
            reply_book(config),
            endpoint,
            config.teacher_mode,
            config.teacher_samples,
            config.teacher_temperature,
            config.teacher_examples,
            config.teacher_workers,
        )
    except (OSError, ValueError) as error:
        fail(f"the replies file cannot be used: {error}; --replies names a book for this LLM's answers")


def make_student(config: Config, world: ddppo.World) -> tuple[ppo.Student, torch.device]:
    """The student, on the worker's device; the same weights for all workers."""
    try:
        device = torch.device(config.device)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", world.local_rank)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        why = storage.first_line(error)
        fail(f"device {config.device!r} cannot be used ({why}); --device takes cpu, or cuda where there is a GPU")
    # A small net runs faster on one thread.
    torch.set_num_threads(1 if config.student == "small" else max(1, (os.cpu_count() or 1) // world.size))
    torch.manual_seed(config.seed)
    num_teachers = len(config.family.option_names(config.env)) if config.method == "hierarchical" else 1
    return config.family.make_student(config, num_teachers).to(device), device


def make_batch(
    trajectories: list[list[Step]], student: ppo.Student, config: Config, device: torch.device, world: ddppo.World
) -> ppo.Batch:
    """Lay the trajectories end to end and estimate advantages, normalised over all workers'."""
    steps = [step for trajectory in trajectories for step in trajectory]
    decisions = [step.decision for step in steps]
    with torch.no_grad():
        last_values = student(torch.from_numpy(np.stack([t[-1].after for t in trajectories])).to(device)).value.tolist()
    next_values = [v for t, last in zip(trajectories, last_values) for v in [*(s.decision.value for s in t[1:]), last]]
    values = torch.tensor([decision.value for decision in decisions])
    advantages = ppo.gae(
        torch.tensor([step.reward for step in steps]),
        values,
        torch.tensor(next_values),
        torch.tensor([step.terminated for step in steps]),
        torch.tensor([step is trajectory[-1] for trajectory in trajectories for step in trajectory]),
        config.discount,
        config.gae_lambda,
    )
    advice = [decision.advice for decision in decisions if decision.advice is not None]
    shares, policies = stack_advice(advice) if advice else (torch.empty(len(steps), 0), torch.empty(len(steps), 0, 0))
    batch = ppo.Batch(
        torch.from_numpy(np.stack([step.observation for step in steps])),
        torch.from_numpy(np.array([decision.action for decision in decisions])),
        torch.tensor([decision.log_prob for decision in decisions]),
        ppo.normalize(advantages, world.gather(advantages)),
        advantages + values,
        shares,
        policies,
    )
    return ppo.Batch(*(column.to(device) for column in batch))


def stack_advice(advice: Sequence[teachers.Advice]) -> tuple[torch.Tensor, torch.Tensor]:
    """Shares (T, K) and policies (T, K, ...) of T states; K is the most that speak in one, silence has share 0."""
    longest = max(advice, key=lambda a: len(a.shares))
    if not len(longest.shares):  # only where policies are Gaussians can there be silence everywhere
        longest = teachers.Advice(np.zeros(1), np.zeros((1, 2, habitat_envs.NUM_ACTIONS)))
    shares = np.zeros((len(advice), *longest.shares.shape), np.float32)
    policies = np.zeros((len(advice), *longest.policies.shape), np.float32)
    for t, a in enumerate(advice):
        if len(a.shares):
            shares[t, : len(a.shares)], policies[t, : len(a.shares)] = a
    return torch.from_numpy(shares), torch.from_numpy(policies)


# What the update and the teacher say of an iteration, empty where there is no teacher.
MEANS = ("distance", "policy_loss", "value_loss", "entropy", "invalid_share", "teacher_entropy")


def train(config: Config, run_dir: Path, world: ddppo.World) -> bool:
    """Algorithm 1, from the run folder's checkpoint on; False if a signal stopped it before the last iteration.

    Every worker of the world runs this, with its share of the rooms; rank 0 logs and saves.
    """
    student, device = make_student(config, world)
    optimizer = torch.optim.Adam(student.parameters(), lr=config.learning_rate)
    family = config.family
    rooms = family.make_rooms(config, len(range(world.rank, config.num_trajectories, world.size)), "train")
    teacher = None if config.method == "ppo" else make_teacher(config)
    never = sys.maxsize if family.steps else config.iterations
    i2 = never if config.method == "hierarchical" else config.i2
    anneal = partial(
        annealing.SCHEDULES[config.anneal], lambda_0=config.lambda_0, lambda_c=config.lambda_c, i1=config.i1, i2=i2
    )
    if world.rank > 0:
        torch.manual_seed(config.seed + (world.rank << 32) & 2**63 - 1)  # equal weights, but actions of its own
    first, total_steps = storage.load_checkpoint(run_dir, config, student, optimizer, world.rank, device)
    log = storage.Log(run_dir, first) if world.rank == 0 else None
    if log:
        storage.write_config(config, run_dir)
    started, steps_before = time.perf_counter(), total_steps
    progress = tqdm(
        range(first, config.iterations), initial=first, total=config.iterations, dynamic_ncols=True, disable=not log
    )
    with storage.stop_on_signal() as stop:
        for i in progress:
            # Anneal the teacher's influence, Eq. (3); at 0 it is not asked any more.
            lambda_ = anneal(total_steps if family.steps else i) if teacher else 0.0
            optimizer.param_groups[0]["lr"] = config.learning_rate * (1 - i / config.iterations)

            # Collect trajectories with the student's policy; in each state visited ask the teacher for pi_T, Eq. (1).
            seeds = envs.training_seeds(config.seed, i * config.num_trajectories, config.num_trajectories)
            act = student_acts(student, teacher if lambda_ > 0 else None, device)
            with world.collecting(i) as cut_short:
                trajectories = play(rooms, seeds[world.rank :: world.size], act, cut_short)

            # Estimate advantages, and minimise L_RL + lambda * E[H(pi_T, pi_theta)], Eq. (2).
            batch = make_batch(trajectories, student, config, device, world)
            steps = world.sum(len(batch.actions))
            losses = ppo.update(
                student, optimizer, batch, lambda_, epochs=config.epochs, minibatch_size=config.minibatch_size,
                max_grad_norm=config.max_grad_norm, steps=steps, average_gradients=world.average_gradients,
                clip=config.clip, value_coef=config.value_coef, entropy_coef=config.entropy_coef,
                uniform_coef=config.uniform_coef,
            )  # fmt: skip

            # Log and save: an iteration's end is where a run can be cut and go on.
            total_steps += steps
            advice = teacher.pop_statistics() if teacher and lambda_ > 0 else {}
            means = world.mean({**losses, **advice})
            episodes = [(sum(step.reward for step in t), t[-1].success, len(t)) for t in trajectories if is_over(t)]
            outcomes = world.gather(torch.tensor(episodes, dtype=torch.float64).view(-1, 3))
            returns, successes, lengths = outcomes.numpy().T
            random = world.gather(storage.random_state(device))
            if log:
                row = {
                    "iteration": i,
                    "steps": total_steps,
                    "lambda": lambda_,
                    "return": float(np.mean(returns)),
                    "success": float(np.mean(successes)),
                    "length": float(np.mean(lengths)),
                    **{name: means.get(name, "") for name in MEANS},
                }
                bill = live_replies(config).statistics() if config.asks_llm else {}
                speed = (total_steps - steps_before) / (time.perf_counter() - started)
                log.write(row, {"steps_per_second": speed, **{f"llm/{name}": number for name, number in bill.items()}})
                progress.set_postfix_str(log.summary(speed))
                storage.save_checkpoint(run_dir, config, i + 1, total_steps, student, optimizer, random)
            if world.sum(stop.is_set()):  # all stop after the same iteration
                progress.close()
                return False
    if log:
        storage.write_weights(run_dir / "student.pt", student.state_dict())
        log.events.close()
    return True


# ------------------------------------------------------------------------------------------------- pictures and tables


def film(room: Any, seed: int, act: Act, picture: Callable[[Any, np.ndarray], np.ndarray]) -> tuple[list[Any], bool]:
    """Pictures of all states of an episode, and whether it was a success."""
    pictures: list[np.ndarray] = []

    def watched(observations: Sequence[np.ndarray]) -> Sequence[Decision]:
        pictures.append(picture(room, observations[0]))
        return act(observations)

    (trajectory,) = play([room], [seed], watched)
    return [*pictures, picture(room, trajectory[-1].after)], trajectory[-1].success


def draw_play(run_dir: Path, config: Config, actors: dict[str, Act], num_rooms: int = 3) -> None:
    """play.gif: each actor in the same rooms, side by side; of long episodes not every step."""
    from PIL import Image, ImageDraw

    torch.manual_seed(config.seed)
    (room,) = config.family.make_rooms(config, 1, "val", film=True)
    frames: list[Image.Image] = []
    for seed in envs.evaluation_seeds(num_rooms):
        films = {name: film(room, seed, act, config.family.picture) for name, act in actors.items()}
        longest = max(len(pictures) for pictures, _ in films.values())
        every = 1 + longest // 100
        for t in range(0, longest + 3 * every, every):
            columns = []
            for name, (pictures, success) in films.items():
                now = min(t, len(pictures) - 1)
                text = f"{name}, step {now}" + (": done" if success else ": failed") * (now == len(pictures) - 1)
                column = Image.fromarray(np.pad(pictures[now], ((22, 0), (0, 12), (0, 0)), constant_values=255))
                ImageDraw.Draw(column).text((4, 5), text, fill="black")
                columns.append(np.asarray(column))
            frames.append(Image.fromarray(np.concatenate(columns, axis=1)).quantize(64))
    frames[0].save(run_dir / "play.gif", save_all=True, append_images=frames[1:], duration=180, loop=0)


def table(config: Config, result: dict[str, Any]) -> str:
    """The method measured, beside its teacher if that was measured too, beside the paper's row."""
    measured = {"student" if config.method != "llm-only" else "teacher (llm-only)": result}
    if "teacher" in result:
        measured["teacher (llm-only)"] = result["teacher"]
    lines = [f"{config.env}, {config.episodes} episodes", f"{'':26}{'length':>8}{'return':>8}{'success':>9}"]
    lines += [
        f"{name:26}{row['length']:8.2f}{row['return']:8.3f}{row['success']:9.1%}" for name, row in measured.items()
    ]
    if config.env in PAPER:
        length, reward, success = PAPER[config.env][METHODS.index(config.method)]
        lines.append(f"{'paper, ' + config.method:26}{length:8.2f}{reward:8.2f}{success:9.1%}")
    return "\n".join(lines)


def report(config: Config, run_dir: Path, world: ddppo.World) -> None:
    """Evaluate, print the table and write eval.json; with a student also play.gif and curve.png."""
    actors: dict[str, Act] = {}
    result: dict[str, Any] = {"env": config.env, "method": config.method, "episodes": config.episodes}
    seeds = envs.evaluation_seeds(config.episodes)
    result |= {
        "seeds": [seeds[0], seeds[-1]],
        "seed": config.seed,
        "deterministic": config.deterministic,
        "options": config.options,
    }
    if config.method != "llm-only":
        path = run_dir / "student.pt"
        if not path.exists():
            fail(f"{run_dir} has no student.pt: the run is not finished; python train.py --resume {run_dir}")
        student, device = make_student(config, world)
        try:
            student.load_state_dict(storage.read_weights(path))
        except RuntimeError as error:
            fail(f"{path} does not fit a {config.student} student for {config.env}: {storage.first_line(error)}")
        actors["student"] = student_acts(student, None, device, config.deterministic)
        result |= {"student": config.student, "weights": sum(p.numel() for p in student.parameters())}
        result |= evaluate(config, actors["student"])
    teacher = None if config.method == "ppo" else make_teacher(config)
    if isinstance(teacher, teachers.Teacher):
        actors["teacher"] = teacher_acts(teacher, config.deterministic)
        measured = evaluate(config, actors["teacher"]) | teacher.pop_statistics()
        result |= {"teacher": measured} if config.method == "llm4teach" else measured
        if teacher.invalid_plans:
            plans = ", ".join(f"{plan!r} {count}x" for plan, count in teacher.invalid_plans.most_common(3))
            print(f"{measured['invalid_share']:.1%} of the teacher's answers could not be followed; most often {plans}")
    with storage.atomically(run_dir / "eval.json") as part:
        part.write_text(json.dumps(result, indent=2) + "\n")
    print(table(config, result))
    if config.method != "llm-only":
        draw_play(run_dir, config, actors)
        storage.draw_curve(run_dir)


# -------------------------------------------------------------------------------------------------------- command line


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where to read on; exit code 2."""
        fail(f"{message}; see python train.py --help")


GROUPS = {  # the first setting under each heading of --help
    "env": "the run",
    "options": "the teacher, Eq. (1)",
    "anneal": "its influence, Eq. (3)",
    "student": "the student and PPO, Eq. (2) and Table 1",
    "habitat_data": "Habitat, section 4.2 and A.5",
}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; the result holds only what was given."""
    parser = Parser(
        usage="python train.py [--resume RUN_DIR | --eval RUN_DIR] [SETTING ...]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--resume", metavar="RUN_DIR", help="go on with a run; --iterations, --device and where the LLM is may change"
    )
    parser.add_argument("--eval", metavar="RUN_DIR", help="measure a finished run's student, write its eval.json anew")
    kinds: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "str": str}
    group = parser.add_argument_group()
    for f in fields(Config):
        if f.name in GROUPS:
            group = parser.add_argument_group(GROUPS[f.name])
        name, choices = "--" + f.name.replace("_", "-"), f.metadata["choices"]
        if f.type == "bool":
            group.add_argument(name, action=argparse.BooleanOptionalAction, help=f.metadata["help"])
        else:
            text = f.metadata["help"] + (f" (default: {f.default})" if f.default != "" else "")
            group.add_argument(name, type=kinds[str(f.type)], choices=choices or None, help=text)
    return parser.parse_args(arguments)


def check(config: Config, world: ddppo.World) -> None:
    """End with a clear line where a setting is out of range, or names a device or replies that cannot be used."""
    kinds: dict[str, Any] = {"int": int, "float": (int, float), "str": str, "bool": bool}
    for f in fields(Config):
        value, least, most = getattr(config, f.name), f.metadata["least"], f.metadata["most"]
        if not isinstance(value, kinds[str(f.type)]):
            fail(f"{f.name} is {value!r}; it must be of type {f.type}")
        if f.metadata["choices"] and value not in f.metadata["choices"]:
            fail(f"{f.name} is {value!r}; choose from {', '.join(f.metadata['choices'])}")
        if least > -math.inf and not least <= value <= most:
            allowed = f"from {least:g} to {most:g}" if most < sys.float_info.max else f"at least {least:g} and finite"
            fail(f"--{f.name.replace('_', '-')} is {value}; it must be {allowed}")
    try:
        annealing.check_schedule(config.lambda_0, config.lambda_c, config.i1, config.i2)
    except ValueError as error:
        fail(f"the schedule does not fit: {error}; see --lambda-0, --lambda-c, --i1 and --i2")
    config.family.check(config)
    if config.num_trajectories < world.size:
        fail(f"--num-trajectories is {config.num_trajectories}; {world.size} workers need at least one episode each")
    make_student(config, world)
    if config.method != "ppo":
        make_teacher(config)


def stored_config(run_dir: Path) -> dict[str, Any]:
    """The settings in a run folder."""
    try:
        settings = json.loads((run_dir / "config.json").read_text())
        return asdict(Config(**settings))
    except FileNotFoundError:
        fail(
            f"{run_dir} has no config.json, so it is not a run folder; --resume and --eval take one that train.py made"
        )
    except (OSError, ValueError, TypeError) as error:
        fail(f"{run_dir / 'config.json'} cannot be read: {error}; restore a copy or train again")


def prepare(arguments: Sequence[str] | None, world: ddppo.World) -> tuple[Config, bool]:
    """The configuration of a run whose folder is there, and whether it is only to be measured."""
    given = vars(parse(arguments))
    resume, measure = given.pop("resume", None), given.pop("eval", None)
    if resume is not None and measure is not None:
        fail("--resume and --eval were both given; give one")
    if given.get("replies"):  # a run may be resumed from another folder
        given["replies"] = str(Path(given["replies"]).resolve())
    if "," in given.get("options", ""):
        given["options"] = ",".join(str(Path(path).resolve()) for path in given["options"].split(","))
    if resume is not None or measure is not None:
        run_dir = Path(measure if resume is None else resume)
        stored = stored_config(run_dir)
        free = {"device", "episodes", "deterministic", "teacher_url", "teacher_key_env", "teacher_workers"}
        free |= {"teacher_max_requests", "teacher_prompt_price", "teacher_completion_price"}
        free |= {"iterations"} if measure is None else set()
        for name in sorted(given.keys() - free):
            if given[name] != stored[name]:
                flag = "--" + name.replace("_", "-")
                fail(f"{flag} is {given[name]} but {run_dir} has {stored[name]}; leave it out or start a new run")
        config = Config(**{**stored, **given, "run_dir": str(run_dir)})
    else:
        config = configure(given)
        name = f"{config.env}-{config.method}-seed{config.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
        run_dir = Path(config.run_dir or Path("runs") / name)
        config = replace(config, run_dir=str(run_dir))
    check(config, world)
    if resume is None and measure is None:
        if run_dir.exists():
            fail(f"{run_dir} exists and is not overwritten; choose another --run-dir or --resume {run_dir}")
        try:
            with storage.atomically(run_dir) as part:  # a folder that is there can be resumed
                part.mkdir(parents=True, exist_ok=True)
                storage.write_config(config, part)
        except OSError as error:
            fail(f"run folder {run_dir} cannot be made: {error.strerror}; choose a --run-dir that can be written to")
    return config, measure is not None


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, resume, or evaluate; the first worker reads the command line and measures."""
    world = ddppo.World()
    config, only_measure = prepare(arguments, world) if world.rank == 0 else (Config(), False)
    world.join()
    settings, only_measure = json.loads(world.broadcast(json.dumps((asdict(config), only_measure))))
    config = Config(**settings)
    run_dir = Path(config.run_dir)
    resuming = f"python train.py --resume {run_dir}"
    try:
        if not only_measure and config.method != "llm-only" and not train(config, run_dir, world):
            raise KeyboardInterrupt
        world.leave()
        if world.rank > 0:
            os._exit(0)  # tidying up, torch's threads abort now and then, and torchrun would stop rank 0 for it
        report(config, run_dir, world)
        if config.asks_llm:
            print(live_replies(config).summary())
        print(f"everything is in {run_dir}")
    except KeyboardInterrupt:
        print(f"stopped; what was trained is kept, go on with: {resuming}", file=sys.stderr)
        raise SystemExit(130) from None
    except OSError as error:
        fail(f"{error}; what was trained is kept: make room or give access, then {resuming}")
    except (teachers.UnknownStateError, teachers.LLMError) as error:
        fail(f"{error}; what was trained is kept, go on with: {resuming}")
    except habitat_envs.HabitatError as error:
        fail(f"{error}; what was trained is kept, go on with: {resuming}")
    except storage.RunFileError as error:
        fail(str(error))
    except ddppo.LostWorkerError as error:
        fail(f"{error}; what was trained is kept, go on with any number of workers: {resuming}")


if __name__ == "__main__":
    main()
