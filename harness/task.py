"""The door: what a task tells the rest of the code, with a default for all that is not its essence.

A task is a plain class; whatever of `Task` it does not define is mixed in by `open_task`. Our tasks (tasks.json) and a
user's own (docs/own_task.md) go through the same door.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Callable, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

import ppo
from harness.cli import InputError
from harness.config import Config, check_settings
from harness.find import find_task
from nets import mlp_student
from rollout import LocalEnv
from teacher import Option, OptionShapeError, read_replies, stack_policies

ESSENCE = ("make_env", "describe", "option_names", "make_option")
OFFERS = f"a task offers {', '.join(ESSENCE)}; see docs/own_task.md"


class TaskError(InputError):
    """A task does not offer what is needed, or offers something else."""


class Task(ABC):
    """What a task offers. `config` is the run's configuration, set before anything else is called."""

    config_class: ClassVar[type[Config]] = Config  # or one derived from it, with settings of the task's own
    defaults: ClassVar[Mapping[str, Any]] = {}  # settings that differ from Config's defaults
    config: Any  # of that class
    Error: ClassVar[type[Exception]] = TaskError  # raised by its environments where they cannot go on

    # ---- what a task must say

    option_names: Sequence[str] = ()  # of the options that the hierarchical baseline weighs and an LLM may choose from

    @abstractmethod
    def make_env(self, render_mode: str | None = None) -> gym.Env:
        """Return a new environment; with render_mode "rgb_array" its `render` returns a picture."""

    @abstractmethod
    def describe(self, observation: Any) -> str:
        """Return c(s), the state as text."""

    @abstractmethod
    def make_option(self, name: str) -> Option:
        """Return the option of that name; raises ValueError if there is none."""

    # ---- what an LLM is told, and how it is understood

    rules: str = ""  # the world and the goal
    option_help: str = ""  # the options, and what each does
    scene: str = "the state"  # what a state text holds: the LLM is to summarise it
    examples: ClassVar[
        Sequence[tuple[str, str]]
    ] = ()  # state texts, answers of three lines: Scene, Reasoning, Decision
    synonyms: ClassVar[Mapping[str, str]] = {}  # regular expression over words -> the words of option names

    def plans(self, state: str) -> Sequence[str]:
        """Return the menu: the plans that make sense in a state; by default each option alone."""
        return self.option_names

    def vocabulary(self, state: str) -> Sequence[str]:
        """Return every option name that an answer may use in a state; by default those of the baseline and the menu."""
        return [*self.option_names, *(name.strip() for plan in self.plans(state) for name in plan.split(","))]

    def canonicalize(self, state: str) -> tuple[str, Callable[[str], str]]:
        """Return the text that is asked about, and how a plan for it is put back into the words of `state`."""
        return state, str

    @property
    def book(self) -> Path:
        """The reply book that the task brings: replies/CLASS.jsonl beside its file."""
        return self.reply_folder / f"{type(self).__name__}.jsonl"

    @property
    def reply_folder(self) -> Path:
        """Where reply books of this task are kept."""
        return Path(inspect.getfile(type(self))).parent / "replies"

    def states(self) -> Sequence[str]:
        """Return every canonical state text, for `teacher.py record`; by default those of the task's own book."""
        if self.book.exists():
            return list(read_replies(self.book))
        raise InputError(
            f"the states of {self.config.env} cannot be listed; give --states FILE: a run with --unknown-state silent "
            "leaves such a file in its folder, unknown_states.jsonl"
        )

    # ---- how it is trained

    option_sets: Sequence[str] = ()  # what --options may be
    students: Sequence[str] = ("small",)  # what --student may be
    anneals_over_steps = False  # whether i1 and i2 are environment steps, not iterations
    paper: ClassVar[Mapping[str, tuple[float, float, float]]] = {}  # Table 3: method -> episode length, return, success

    @property
    def machine(self) -> Mapping[str, Any]:
        """What training uses of the machine beside workers and device, name -> value, printed when it starts."""
        return {}

    def name_options(self, state: str) -> Sequence[str]:
        """Return the names of the baseline's options in a state, as many in each."""
        return self.option_names

    @cached_property
    def spaces(self) -> tuple[Any, Any]:
        """The observation and the action space, read off an environment."""
        env = self.make_env()
        try:
            return env.observation_space, env.action_space
        finally:
            env.close()

    @property
    def num_actions(self) -> int | None:
        """How many actions there are to choose from; None where an action is numbers."""
        action_space = self.spaces[1]
        return int(action_space.n) if isinstance(action_space, spaces.Discrete) else None

    @property
    def idle_action(self) -> np.ndarray:
        """What to do where an action is numbers and the teacher has no advice."""
        return np.zeros(self.spaces[1].shape, np.float32)

    def make_student(self, num_teachers: int) -> ppo.Student:
        """Return a new student; by default an MLP on the observation, flattened; raises TaskError if it cannot be."""
        observation_space, action_space = self.spaces
        if not can_be_flattened(observation_space):
            raise TaskError(
                f"{self.config.env} observes {observation_space}, which cannot be flattened; an encode and a "
                "make_student of the task's own can take it"
            )
        gaussian = self.num_actions is None
        numbers = int(np.prod(action_space.shape)) if gaussian else int(self.num_actions or 0)
        std = self.config.action_std if gaussian else None
        return mlp_student(spaces.flatdim(observation_space), numbers, num_teachers, std=std)

    def encode(self, observations: Sequence[Any]) -> np.ndarray:
        """Return observations as one array (B, ...) for the student; by default each is flattened."""
        observation_space = self.spaces[0]
        if isinstance(observation_space, spaces.Box):
            return np.stack(observations)
        return np.stack([np.asarray(spaces.flatten(observation_space, observation)) for observation in observations])

    def make_envs(self, count: int, split: str, film: bool = False) -> list[list[Any]]:
        """Return `count` environments with submit and result, in groups that take turns in a rollout.

        split: "train" or "val"; their rooms differ by the seeds of the episodes already.  film: whether `picture` will
        be called.
        """
        envs = [self.make_env("rgb_array" if film else None) for _ in range(count)]
        if self.num_actions is None:
            envs = [gym.wrappers.ClipAction(env) for env in envs]
        return [[LocalEnv(env) for env in envs]]

    def picture(self, env: Any, observation: Any) -> np.ndarray | None:
        """Return a picture (H, W, 3) of an environment made with `film`, or None if it draws none."""
        if env.env.render_mode != "rgb_array":
            return None
        env.submit("render")
        return env.result()

    def check(self) -> None:
        """Raise InputError where the task cannot be run; by default its essence is tried in one episode."""
        inspect_task(self)


def can_be_flattened(space: Any) -> bool:
    """Return whether gymnasium can flatten a space to a vector of fixed length."""
    if isinstance(space, spaces.Dict):
        return all(map(can_be_flattened, space.spaces.values()))
    if isinstance(space, (spaces.Tuple, spaces.OneOf)):
        return all(map(can_be_flattened, space.spaces))
    return isinstance(space, (spaces.Box, spaces.Discrete, spaces.MultiBinary, spaces.MultiDiscrete, spaces.Text))


def open_task(config: Any) -> Task:
    """Return the task that a configuration names, opened with it. Raises InputError."""
    cls = find_task(config.env)
    missing = [name for name in ESSENCE if not hasattr(cls, name) or getattr(cls, name) is getattr(Task, name)]
    if missing:
        raise TaskError(f"{config.env} has no {', no '.join(missing)}; {OFFERS}")
    if not issubclass(cls, Task):
        cls = type(cls.__name__, (cls, Task), {"__module__": cls.__module__, "__doc__": cls.__doc__})
    task = cls()
    task.config = config
    return task


def check_task(task: Task) -> None:
    """Raise InputError where the settings, the options, the student or the task cannot be used."""
    config = task.config
    check_settings(config)
    for name, value, allowed in (
        ("options", config.options, task.option_sets),
        ("student", config.student, task.students),
    ):
        if allowed and value not in allowed:
            raise InputError(f"--{name} is {value}; for {config.env} choose from {', '.join(allowed)}")
    task.check()


def inspect_task(task: Task) -> None:
    """Play an episode of at most 30 random steps with an own task and raise TaskError where something does not fit."""
    action_space = task.spaces[1]
    numbers = isinstance(action_space, spaces.Box) and len(action_space.shape) == 1
    if not numbers and not (isinstance(action_space, spaces.Discrete) and action_space.start == 0):
        raise TaskError(
            f"{task.config.env} has actions in {action_space}; allowed are Discrete from 0 and Box of one axis"
        )
    if (
        isinstance(task.option_names, str)
        or not task.option_names
        or not all(isinstance(n, str) for n in task.option_names)
    ):
        raise TaskError(
            f"{task.config.env} has option_names {task.option_names!r}; they are a tuple of texts, at least one"
        )
    env = task.make_env()
    try:
        play_and_inspect(task, env, action_space)
    finally:
        env.close()


def play_and_inspect(task: Task, env: gym.Env, action_space: Any) -> None:
    """Try reset, describe, every option and step until the episode ends or 30 steps are done."""
    env_name = task.config.env
    result: Any = env.reset(seed=0)
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
        raise TaskError(f"{env_name}: reset returns a {type(result).__name__}; gymnasium's returns (observation, info)")
    observation = result[0]
    options = {name: make_named_option(task, name) for name in task.option_names}
    rng = np.random.default_rng(0)
    for _ in range(30):
        state = task.describe(observation)
        if not isinstance(state, str):
            raise TaskError(f"{env_name}: describe returns {state!r}; it must return a text")
        for name, option in options.items():
            if option.can_start(observation) and not option.is_done(observation):
                check_policy(task, name, option, observation)
        if task.num_actions is None:
            action: Any = rng.uniform(np.maximum(action_space.low, -1), np.minimum(action_space.high, 1))
        else:
            action = int(rng.integers(task.num_actions))
        result = env.step(action)
        if not (isinstance(result, tuple) and len(result) == 5):
            count = len(result) if isinstance(result, tuple) else 1
            raise TaskError(
                f"{env_name}: step returns {count} values; gymnasium's returns 5, (observation, reward, terminated, "
                "truncated, info): this is an environment of the old gym API"
            )
        observation = result[0]
        if result[2] or result[3]:
            return


def make_named_option(task: Task, name: str) -> Option:
    """Return an option that the task names itself; raises TaskError if the task cannot make it or it lacks a method."""
    try:
        option = task.make_option(name)
    except (ValueError, KeyError) as error:
        raise TaskError(f"{task.config.env} names option {name!r} and cannot make it: {error!r}") from None
    lacks = [method for method in ("can_start", "policy", "is_done") if not callable(getattr(option, method, None))]
    if lacks:
        raise TaskError(f"{task.config.env}: option {name!r} has no {', no '.join(lacks)}; {OFFERS}")
    return option


def check_policy(task: Task, name: str, option: Option, observation: Any) -> None:
    """Raise TaskError where an option's policy has another shape than the actions, or is no distribution over them."""
    try:
        policy = stack_policies([option], observation, task.num_actions)[0]
    except OptionShapeError as error:
        raise TaskError(f"{task.config.env}: option {name!r}: {error}") from None
    if task.num_actions is None:
        numbers = task.spaces[1].shape[0]
        if policy.shape != (2, numbers) or not np.isfinite(policy).all() or (policy[1] < 0).any():
            raise TaskError(
                f"{task.config.env}: option {name!r} returns a policy of shape {policy.shape}, {policy.tolist()}; it "
                f"must be (2, {numbers}), finite means and standard deviations of at least 0"
            )
    elif not (policy >= 0).all() or abs(policy.sum() - 1) > 1e-4:
        raise TaskError(
            f"{task.config.env}: option {name!r} returns {policy.tolist()}; probabilities are at least 0 "
            "and add up to 1"
        )


def check_advice(task: Task, policies: np.ndarray, prior: np.ndarray) -> None:
    """Raise TaskError where an option's policy in a batch, (T, K, A) or (T, K, 2, D), is no distribution."""
    used = policies[prior > 0]
    sums_to_one = task.num_actions is None or bool((abs(used.sum(-1) - 1) < 1e-3).all())
    if not (np.isfinite(used).all() and sums_to_one):
        raise TaskError(f"{task.config.env}: an option's policy is not finite, or its probabilities do not add up to 1")
