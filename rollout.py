"""Rollouts: whole episodes, played by the student or its teacher (Algorithm 1, "collect trajectories").

A call to an environment is made with submit, and its result fetched later with result, so that environments in
processes of their own work side by side. Groups of environments take turns: while one is stepped, the policy decides
for the other.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

import numpy as np
import torch
from torch.distributions import Categorical

if TYPE_CHECKING:
    from teacher import Advice


class Decision(NamedTuple):
    """What was chosen in a state, and what the update needs to know about the choice."""

    action: Any  # an int, or the numbers of a continuous action
    log_prob: float = 0.0
    value: float = 0.0
    advice: Advice | None = None


class Transition(NamedTuple):
    """One step of an episode."""

    observation: Any
    action: Any
    log_prob: float
    value: float
    advice: Advice | None
    reward: float
    next_observation: Any
    terminated: bool  # the task ended here: nothing follows
    truncated: bool  # the time limit cut the episode off: it would have gone on
    success: bool  # info["success"] where the environment says it, else whether the reward is above 0


class NotFiniteError(ArithmeticError):
    """A number that training depends on is infinite or NaN."""


Act = Callable[[Sequence[Any]], Sequence[Decision]]  # observations of several environments -> a decision for each


class LocalEnv:
    """A gymnasium environment in this process, behind submit and result."""

    def __init__(self, env: Any) -> None:
        self.env = env
        self._result: Any = None

    def submit(self, method: str, **arguments: Any) -> None:
        """Call a method of the environment."""
        self._result = getattr(self.env, method)(**arguments)

    def result(self) -> Any:
        """Return what the last call returned."""
        return self._result


def run_all(envs: Sequence[Any], method: str, arguments: Sequence[dict[str, Any]]) -> list[Any]:
    """Call a method of every environment, each with its own arguments; those that are processes work side by side."""
    for env, own in zip(envs, arguments):
        env.submit(method, **own)
    return [env.result() for env, _ in zip(envs, arguments)]


def rollout(
    groups: Sequence[Sequence[Any]], seeds: Sequence[int], act: Act, stop: Callable[[], bool] = lambda: False
) -> list[list[Transition]]:
    """Play a whole episode for each seed, the environments of a group in step so that `act` decides for many at once.

    An environment whose episode is over takes the next seed. Once `stop` returns True, episodes that are not over are
    left where they are, and those that have not begun are left out. Returns the trajectories in the order of seeds.
    """
    trajectories: list[list[Transition]] = [[] for _ in seeds]
    queue = deque(range(len(seeds)))

    def turns(free: Sequence[Any]) -> Iterator[None]:
        """Play the episodes of a group; a turn ends once its environments are told to step."""
        observations: dict[int, Any] = {}
        running: list[tuple[Any, int]] = []  # environments with the numbers of their episodes
        while not (trajectories[0] and stop()):
            begun = [(env, queue.popleft()) for env in free[: len(queue)]]
            if begun:
                resets = run_all([env for env, _ in begun], "reset", [{"seed": seeds[k]} for _, k in begun])
                for (_, k), (observation, info) in zip(begun, resets):
                    observations[k] = observation
                    if "warning" in info:
                        warnings.warn(info["warning"], stacklevel=2)
                running += begun
            if not running:
                break
            decisions = act([observations[k] for _, k in running])
            for (env, _), decision in zip(running, decisions):
                env.submit("step", action=decision.action)
            yield
            for (env, k), decision in zip(running, decisions):
                next_observation, reward, terminated, truncated, info = env.result()
                success = info.get("success", reward > 0)
                trajectories[k].append(
                    Transition(observations[k], *decision, reward, next_observation, terminated, truncated, success)
                )
                observations[k] = next_observation
            free = [env for env, k in running if is_over(trajectories[k])]
            running = [(env, k) for env, k in running if not is_over(trajectories[k])]

    for _ in zip_longest(*(turns(group) for group in groups)):
        pass  # a turn for each group, until none has an episode left
    return [trajectory for trajectory in trajectories if trajectory]


def is_over(trajectory: Sequence[Transition]) -> bool:
    """Return whether the episode has ended."""
    return trajectory[-1].terminated or trajectory[-1].truncated


def act_by_student(
    student: Any, teacher: Callable[[Any], Advice] | None, task: Any, device: torch.device, greedy: bool = False
) -> Act:
    """Act by the student's policy, sampled or greedy; the teacher, if any, advises in every state visited.

    Raises NotFiniteError where the policy is not a number.
    """

    @torch.inference_mode()
    def act(observations: Sequence[Any]) -> list[Decision]:
        policy, values, _ = student(torch.from_numpy(task.encode(observations)).to(device))
        numbers = policy.logits if isinstance(policy, Categorical) else policy.mean
        if (numbers.sum() + values.sum()).isnan():
            raise NotFiniteError("the student's policy is not a number")
        actions = policy.mode if greedy else policy.sample()  # continuous ones are clipped by the environment, not here
        advice = [teacher(observation) if teacher else None for observation in observations]
        return list(map(Decision, actions.tolist(), policy.log_prob(actions).tolist(), values.tolist(), advice))

    return act


def act_by_teacher(teacher: Callable[[Any], Advice], task: Any, greedy: bool = False) -> Act:
    """Act by the teacher's mixture pi_T, sampled or greedy: the paper's "LLM soly"."""

    def choose(probabilities: torch.Tensor) -> torch.Tensor:
        return probabilities.argmax(-1) if greedy else Categorical(probabilities).sample()

    def act_gaussian(advice: Advice) -> Decision:
        if not len(advice.prior):
            return Decision(task.idle_action)
        mean, deviation = torch.from_numpy(advice.policies)[choose(torch.from_numpy(advice.prior))]
        return Decision((mean if greedy else torch.normal(mean, deviation)).numpy())

    def act(observations: Sequence[Any]) -> list[Decision]:
        advice = [teacher(observation) for observation in observations]
        if task.num_actions is None:
            return [act_gaussian(a) for a in advice]
        probabilities = torch.from_numpy(np.concatenate([a.policies for a in advice]))  # of each state (1, A)
        return [Decision(action) for action in choose(probabilities).tolist()]

    return act


class Episode(NamedTuple):
    """What an evaluation episode came to; truncated: the time limit cut it off."""

    room: int  # the seed that it was drawn from
    score: float  # the undiscounted return
    length: int
    success: bool
    truncated: bool


def evaluate(task: Any, act: Act) -> list[Episode]:
    """Play an episode in each of the run's evaluation rooms, which no run trains on, the same every time."""
    torch.manual_seed(task.config.seed)
    seeds = evaluation_seeds(task.config.seed, task.config.episodes)
    size = min(100, len(seeds))
    groups = task.make_envs(size, "val")
    trajectories = [t for at in range(0, len(seeds), size) for t in rollout(groups, seeds[at : at + size], act)]
    return [
        Episode(seed, sum(step.reward for step in t), len(t), bool(t[-1].success), not t[-1].terminated)
        for seed, t in zip(seeds, trajectories)
    ]


def training_seeds(run_seed: int, first: int, count: int) -> list[int]:
    """Return the seeds of training episodes first .. first + count - 1: distinct within and between runs, and even."""
    return [2 * (run_seed * 2**32 + number) for number in range(first, first + count)]


def evaluation_seeds(run_seed: int, count: int) -> list[int]:
    """Return the seeds of a run's evaluation episodes: other ones for each run seed, and odd, so that none trains.

    They lie far above 1, 3, 5, ..., on which settings were chosen while this was written.
    """
    first = 100_000_000 + 1_000_000 * run_seed
    return [2 * number + 1 for number in range(first, first + count)]
