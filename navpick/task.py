"""Nav & Pick as train.py sees it (paper section 4.2): the task, and its two options as tasks of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from harness.cli import InputError
from harness.config import Config, setting
from harness.task import Task
from harness.workers import count_cores
from navpick import envs, options
from navpick.arm import Arm, ArmError, read_arm
from navpick.dataset import HOME, HabitatError, find_files
from navpick.lab import Settings, check
from navpick.layout import NUM_ACTIONS, NUM_SENSORS, STAND_STILL
from navpick.learned import learned_policies
from navpick.nets import STUDENTS
from navpick.processes import ProcessEnv
from navpick.rendering import choose_renderer, gpu_device_id

SETTINGS = Settings()  # where the sources of the defaults are given


@dataclass(frozen=True)
class NavPickConfig(Config):
    """The settings of a run on Habitat."""

    habitat_data: str = setting(
        "", "data set laid out like habitat-lab's data/; by default the home that we bring",
        group="Habitat, section 4.2 and A.5", path=True,
    )  # fmt: skip
    num_simulators: int = setting(1, "of each worker, all in processes of their own; Table 2 has 10", least=1)
    renderer: str = setting(
        "auto", "what draws the images: cpu, cuda:N; auto: a CUDA device where habitat-sim can use it",
        changeable=True,
    )  # fmt: skip
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
    start_anywhere: bool = setting(
        True, "options can start in any state, as MiniGrid's do by A.4.1; else one alone can act in each"
    )

    def fit_to_machine(self) -> Config:
        """Return the configuration with workers, device and renderer chosen; raises InputError."""
        renderer, why = choose_renderer(self.renderer)
        if why:
            print(why)
        return Config.fit_to_machine(replace(self, renderer=renderer))


class NavPick(Task):
    """Start anywhere, pick up the object; see harness/task.py for what each name means."""

    config_class = NavPickConfig
    config: NavPickConfig
    Error = HabitatError
    lab_task = "habitat-navpick"
    # The learning rate is Table 2's; i1 and i2 are environment steps.
    defaults: ClassVar = {
        "workers": 0, "device": "auto", "options": "scripted", "iterations": 100, "episodes": 100,
        "num_trajectories": 8, "minibatch_size": 64, "learning_rate": 3e-4, "i1": 240_000, "i2": 270_000,
    }  # fmt: skip
    anneals_over_steps = True
    students = tuple(STUDENTS)
    option_names = options.OPTION_NAMES
    spaces = (envs.HabitatEnv.observation_space, envs.HabitatEnv.action_space)
    idle_action = STAND_STILL
    paper: ClassVar = {  # Table 3: episode length, return, success
        "llm4teach": (233.45, 2.39, 0.69),
        "llm-only": (330.23, 2.18, 0.62),
        "hierarchical": (534.68, -1.51, 0.12),
        "ppo": (602.69, -6.72, 0.0),
    }
    rules = """\
You guide a robot in a room. It wins by picking up the target object and bringing its arm back to rest.
It sees only what is ahead, and picks only what is in reach; to come near and to turn there it navigates."""
    option_help = """\
Options: navigate; pick. Navigate brings the robot to the target object. Pick grasps it, lifts it
and brings the arm back to rest, also where it is held already."""
    scene = "what is seen and held"
    examples: ClassVar = (
        (
            "The robot sees the target object far away, and holds nothing.",
            "Scene: the target object is seen but not in reach, nothing is held.\n"
            "Reasoning: The robot must come near the target object before it can pick it up.\n"
            "Decision: navigate, pick",
        ),
        (
            "The robot sees other objects, and holds the target object.",
            "Scene: the target object is held.\n"
            "Reasoning: The arm has to come back to rest with it, which is the rest of pick.\n"
            "Decision: pick",
        ),
    )
    synonyms: ClassVar = {
        "(?:navigate|go|move)(?: over)?(?: to)?(?: (?:target )?object)?|approach(?: (?:target )?object)?": "navigate",
        "(?:pick(?: up)?|grab|grasp|take)(?: (?:target )?object| it)?": "pick",
    }

    @property
    def book(self) -> Path:
        """The reply book that all three tasks share."""
        return self.reply_folder / "habitat.jsonl"

    def make_env(self, render_mode: str | None = None) -> Any:
        """Return an environment in this process, on the training episodes."""
        return envs.HabitatEnv(self.lab_task, "train", self.settings(film=render_mode is not None))

    def describe(self, observation: np.ndarray) -> str:
        """Return c(s), see `navpick.envs.describe`."""
        return envs.describe(observation)

    def make_option(self, name: str) -> options.Option:
        """Return a scripted option, or the learned one that --options names."""
        return options.make_option(name, self.arm, self.learned, self.config.start_anywhere)

    @property
    def folder(self) -> Path:
        """The data set."""
        return Path(self.config.habitat_data or HOME)

    @cached_property
    def arm(self) -> Arm:
        """The arm of the data set's robot, read once."""
        return read_arm(find_files(self.folder, "val")[1])

    @cached_property
    def learned(self) -> dict[str, options.Policy]:
        """The learned policies that --options names, read once."""
        return learned_policies(self.config.options, self.folder)

    def plans(self, state: str) -> Sequence[str]:
        """Return what can be done: go there and pick, or pick."""
        return ["navigate, pick", "pick"]

    def make_student(self, num_teachers: int) -> Any:
        """Return our small net, or the paper's ResNet18."""
        make = STUDENTS[self.config.student]
        return make(NUM_ACTIONS, num_teachers, num_sensors=NUM_SENSORS, std=self.config.action_std)

    @property
    def machine(self) -> dict[str, Any]:
        """How many simulators a worker trains with, and what they draw on."""
        return {"simulators of each worker": self.config.num_simulators, "renderer": self.config.renderer}

    def settings(self, film: bool) -> Settings:
        """Return the settings of an environment; `film`: with the cameras of a film."""
        names = ("max_steps", "pick_reward", "dist_reward", "force_penalty", "slack_reward", "success_reward")
        return Settings(
            folder=str(self.folder),
            gpu=gpu_device_id(self.config.renderer),
            film=film,
            **{name: getattr(self.config, name) for name in names},
        )

    def make_envs(self, count: int, split: str, film: bool = False) -> list[list[Any]]:
        """Return at most `count` simulators: to train, at most --num-simulators; to evaluate, at most one a core.

        They form two groups: while one is stepped, the student decides for the other.
        """
        count = min(count, count_cores() if split == "val" else self.config.num_simulators)
        simulators = [ProcessEnv(self.lab_task, split, self.settings(film)) for _ in range(count)]
        return [simulators[0::2], simulators[1::2]]

    def picture(self, env: Any, observation: np.ndarray) -> np.ndarray:
        """Return the robot from behind, and below what it sees, (H, W, 3)."""
        env.submit("render")
        return env.result()

    def check(self) -> None:
        """Raise InputError where Habitat is not installed, or data set or learned options cannot be read."""
        try:
            check(self.folder)
            _ = self.arm
        except (HabitatError, ArmError) as error:
            raise InputError(f"{self.config.env} cannot be played: {error}") from None
        _ = self.learned


class Pick(NavPick):
    """The option "pick" as a task: start where the object is in reach."""

    lab_task = "habitat-pick"
    paper: ClassVar = {}


class Nav(NavPick):
    """The option "navigate" as a task: at the end the object is in reach."""

    lab_task = "habitat-nav"
    paper: ClassVar = {}
