"""Every setting of a run: what it means, its default, what is allowed; and the command line made from that.

A task may add settings of its own: a dataclass derived from `Config`, named `config_class` in the task's class.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Callable

import torch

import annealing
import teacher
from harness.cli import InputError, Parser
from harness.files import read_text
from harness.find import BUILT_IN, find_task
from harness.workers import count_cores
from llm.secret import Secret

KEY_ENV = "OPENAI_API_KEY"
KEY_FIELD = re.compile(r"(?i)(?:api[-_]?key|authorization|access[-_]?token|secret|password)['\"]?\s*:")  # in a body
METHODS = ("llm4teach", "llm-only", "hierarchical", "ppo")
LARGEST: dict[Any, float] = {"int": 2**63 - 1, "float": torch.finfo(torch.float32).max}  # that torch computes with
KINDS: dict[str, Any] = {"int": int, "float": (int, float), "str": str, "bool": bool}


def setting(
    default: Any,
    help: str,
    choices: Sequence[str] = (),
    least: float = -math.inf,
    most: float = sys.float_info.max,
    group: str = "",
    path: bool = False,
    changeable: bool = False,
) -> Any:
    """Return a dataclass field with its help and what is allowed.

    `group`: the heading in --help that it opens; `path`: it names a file or folder, and is stored absolute;
    `changeable`: it may be another one where a run goes on or is measured.
    """
    metadata = {"help": help, "choices": choices, "least": least, "most": most}
    metadata |= {"group": group, "path": path, "changeable": changeable}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Config:
    """Every setting of a run, stored in its folder. Defaults are the paper's Table 1 unless the help says otherwise."""

    env: str = setting(
        next(iter(BUILT_IN)), "the task: one of ours, or your own as FILE.py:CLASS or MODULE:CLASS", group="the run"
    )
    method: str = setting(
        "llm4teach", "the paper's, its teacher alone, Matthews et al. 2022, plain PPO", choices=METHODS
    )
    seed: int = setting(0, "of all that is random, evaluation rooms included", least=0, most=2**63 - 1)
    iterations: int = setting(1000, "training iterations; the paper trains past 2000", least=1)
    run_dir: str = setting("", "new folder for the run; by default under runs/, after task, method, seed and time")
    workers: int = setting(
        1, "processes that train together, DD-PPO; 0: one a core, at most one an episode of an iteration", least=0,
        changeable=True,
    )  # fmt: skip
    device: str = setting(
        "cpu", "where the student lives, as torch names it: cpu, cuda, cuda:1; auto: cuda where torch sees a GPU",
        changeable=True,
    )  # fmt: skip
    episodes: int = setting(
        1000, "evaluation episodes, in rooms never trained on", least=1, most=10**6, changeable=True
    )
    deterministic: bool = setting(
        False, "evaluate with the most probable action instead of a sampled one", changeable=True
    )

    options: str = setting("", "which of the task's sets of options, if it has several", group="the teacher, Eq. (1)")
    teacher_mode: str = setting(
        "soft",
        "shares of sampled plans, one of them drawn at each step, probabilities of lettered ones, the most frequent "
        "plan; all plans alike: no LLM",
        choices=teacher.MODES,
    )
    replies: str = setting(
        "", "reply book; by default MODEL-MODE.jsonl, without a model the task's own, in replies/", path=True
    )
    unknown_state: str = setting(
        "stop", "at a state without an answer: end the run, or give no advice there", choices=("stop", "silent")
    )
    teacher_model: str = setting("", "the LLM; by default the one whose answers the task brings")
    teacher_url: str = setting(
        "", "OpenAI-compatible endpoint to query for what the book lacks, http://.../v1", changeable=True
    )
    teacher_key_env: str = setting(KEY_ENV, "environment variable with its key, if it needs one", changeable=True)
    teacher_samples: int = setting(10, "answers per state in mode soft; mode hard takes one", least=2, most=1000)
    teacher_temperature: float = setting(0.7, "of these answers; mode hard takes 0", least=0)
    teacher_examples: int = setting(5, "most examples in the prompt; the paper has 1", least=0, most=5)
    teacher_max_tokens: int = setting(
        6400, "most tokens of an answer, thoughts included; it begins with 400", least=1, changeable=True
    )
    teacher_body: str = setting(
        "", 'further fields of a request, as JSON: \'{"reasoning_effort": "low"}\'', changeable=True
    )
    teacher_workers: int = setting(4, "requests at a time", least=1, most=64, changeable=True)
    teacher_max_requests: int = setting(
        0, "most requests a process makes, retries included; 0: no limit", least=0, changeable=True
    )
    teacher_prompt_price: float = setting(
        0.0, "of a million prompt tokens, to show what was paid", least=0, changeable=True
    )
    teacher_completion_price: float = setting(0.0, "of a million tokens of answers", least=0, changeable=True)

    anneal: str = setting(
        "stepwise",
        "schedule of lambda: Eq. (3), or one of A.7",
        choices=tuple(annealing.SCHEDULES),
        group="its influence, Eq. (3)",
    )
    lambda_0: float = setting(10.0, "lambda at the start")
    lambda_c: float = setting(0.1, "lambda that is held from i1 to i2")
    i1: int = setting(15, "iteration, or environment step, at which lambda reaches lambda_c; the paper's 1000, 5e6")
    i2: int = setting(
        100, "iteration, or environment step, at which the teacher leaves (hierarchical: never); the paper's 2000, 1e7"
    )
    uniform_coef: float = setting(
        0.1, "hierarchical: pull to uniform weights over options, times lambda; ours", least=0
    )

    student: str = setting(
        "small",
        "which of the task's nets; ours, or the published one",
        group="the student and PPO, Eq. (2) and Table 1",
    )
    num_trajectories: int = setting(50, "whole episodes per iteration; the paper's is 10", least=1, most=10**5)
    epochs: int = setting(3, "passes over an iteration's steps", least=1)
    minibatch_size: int = setting(256, "most steps per gradient step; the paper's is 128", least=1)
    learning_rate: float = setting(1e-3, "Adam's at the start", least=0, most=1e30)
    anneal_learning_rate: bool = setting(True, "let it fall linearly to 0 at the end of the run, which is ours")
    entropy_coef: float = setting(1e-3, "weight of the entropy bonus", least=0)
    value_coef: float = setting(0.5, "weight of the value loss", least=0)
    discount: float = setting(0.99, "discount factor per step", least=0, most=1)
    gae_lambda: float = setting(0.95, "lambda of the advantages; not in Table 1, so Table 2's", least=0, most=1)
    clip: float = setting(0.2, "PPO's clipping parameter", least=0)
    max_grad_norm: float = setting(0.5, "longer gradients are scaled down to this norm", least=0)
    action_std: float = setting(
        0.2, "standard deviation of an action's numbers at the start; ours", least=0.01, most=0.5
    )

    @property
    def queries_llm(self) -> bool:
        """Whether an LLM may be queried, and not only its recorded answers."""
        return bool(self.teacher_url) and self.method in ("llm4teach", "llm-only")

    def fit_to_machine(self) -> Config:
        """Return the configuration with the number of workers and the device that it leaves to this machine."""
        auto = "cuda" if torch.cuda.is_available() else "cpu"
        return replace(
            self,
            workers=self.workers or min(count_cores(), self.num_trajectories),
            device=auto if self.device == "auto" else self.device,
        )


def flag(name: str) -> str:
    """Return a setting's name as the command line spells it."""
    return "--" + name.replace("_", "-")


def config_class(env: str) -> type[Config]:
    """Return the dataclass of a task's settings; raises InputError if there is no such task."""
    return getattr(find_task(env), "config_class", Config)


def default_config(env: str) -> Config:
    """Return a task's defaults, ours where it has none; raises InputError if there is no such task."""
    return config_class(env)(**{"env": env, **getattr(find_task(env), "defaults", {})})


def configure(given: dict[str, Any]) -> Config:
    """Return a configuration of these settings, the task's defaults for the rest, and ours where it has none."""
    return replace(default_config(given.get("env", Config.env)), **given).fit_to_machine()


def parse(arguments: Sequence[str] | None, description: str = "") -> argparse.Namespace:
    """Read the command line; the result holds only what was given. Raises InputError."""
    runs = Parser(prog="train.py", add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    runs.add_argument(
        "--resume",
        metavar="RUN_DIR",
        help="go on with a run; --iterations, what it uses of the machine, and where the LLM is may change",
    )
    runs.add_argument("--eval", metavar="RUN_DIR", help="measure a finished run's student, write its eval.json anew")
    start = Parser(prog="train.py", add_help=False, allow_abbrev=False, parents=[runs])
    start.add_argument("--env", default=Config.env)
    early, _ = start.parse_known_args(arguments)
    folder = getattr(early, "resume", None) or getattr(early, "eval", None)
    env = stored_config(Path(folder))["env"] if folder else early.env
    own = find_task(env)
    parser = Parser(
        prog="train.py",
        usage="python train.py [--resume RUN_DIR | --eval RUN_DIR] [SETTING ...]",
        description=description,
        epilog=f"Our tasks: {', '.join(BUILT_IN)}. Yours: docs/own_task.md. Defaults above are those of {env}.\n"
        f"Its nets for --student: {', '.join(getattr(own, 'students', [Config.student]))}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        parents=[runs],
    )
    add_settings(parser, every_setting(own), getattr(own, "defaults", {}))
    given = parser.parse_args(arguments)
    known = {f.name for f in fields(getattr(own, "config_class", Config))}
    foreign = sorted(vars(given).keys() - known - {"resume", "eval"})
    if foreign:
        raise InputError(f"{flag(foreign[0])} is a setting of another task, and not of {env}; leave it out")
    for f in fields(config_class(env)):
        if f.metadata["path"] and getattr(given, f.name, ""):  # a run may be resumed from another folder
            setattr(given, f.name, str(Path(getattr(given, f.name)).resolve()))
    return given


def add_settings(parser: argparse.ArgumentParser, settings: Sequence[Any], defaults: Mapping[str, Any]) -> None:
    """Add flags for settings to a parser, each in the group that it or one before it opens."""
    group = parser.add_argument_group()
    kinds: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "str": str}
    for f in settings:
        if f.metadata["group"]:
            group = parser.add_argument_group(f.metadata["group"])
        if f.type == "bool":
            group.add_argument(flag(f.name), action=argparse.BooleanOptionalAction, help=f.metadata["help"])
        else:
            default = defaults.get(f.name, f.default)
            text = f.metadata["help"] + (f" (default: {default})" if default != "" else "")
            group.add_argument(flag(f.name), type=kinds[str(f.type)], choices=f.metadata["choices"] or None, help=text)


def every_setting(own: type) -> list[Any]:
    """Return the settings that any task of ours has, and those of the task `own`, each once."""
    classes = [getattr(own, "config_class", Config), *(config_class(name) for name in BUILT_IN)]
    return list({f.name: f for one in classes for f in fields(one)}.values())


def stored_config(run_dir: Path) -> dict[str, Any]:
    """Return the settings in a run folder; raises InputError if there are none that can be used."""
    path = run_dir / "config.json"
    try:
        settings = json.loads(read_text(path))
        known = fields(config_class(settings["env"]))
        # Runs of earlier versions hold the settings of every task.
        foreign = {f.name for name in BUILT_IN for f in fields(config_class(name))} - {f.name for f in known}
        return asdict(config_class(settings["env"])(**{k: v for k, v in settings.items() if k not in foreign}))
    except FileNotFoundError:
        raise InputError(
            f"{run_dir} has no config.json, so it is not a run folder; --resume and --eval take one that train.py made"
        ) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error!r}; restore a copy or train again") from None


def check_settings(config: Config) -> None:
    """Raise InputError where a setting is of another type than its default, or out of range."""
    for f in fields(config):
        value, least, most = getattr(config, f.name), f.metadata["least"], f.metadata["most"]
        if not isinstance(value, KINDS[str(f.type)]):
            raise InputError(f"{f.name} is {value!r}; it must be of type {f.type}")
        if f.metadata["choices"] and value not in f.metadata["choices"]:
            raise InputError(f"{f.name} is {value!r}; choose from {', '.join(f.metadata['choices'])}")
        if f.type in LARGEST and LARGEST[f.type] < abs(value) < math.inf:
            raise InputError(f"{flag(f.name)} is {value}; it must be at most {LARGEST[f.type]:g}")
        if least > -math.inf and not least <= value <= most:
            allowed = f"from {least:g} to {most:g}" if most < sys.float_info.max else f"at least {least:g} and finite"
            raise InputError(f"{flag(f.name)} is {value}; it must be {allowed}")
    check_secrets(config)
    try:
        annealing.check_schedule(config.lambda_0, config.lambda_c, config.i1, config.i2)
    except ValueError as error:
        raise InputError(f"the schedule does not fit: {error}; see --lambda-0, --lambda-c, --i1 and --i2") from None


def check_secrets(config: Config) -> None:
    """Raise InputError where a key stands in the settings, which are kept in config.json; none of it is shown."""
    name = config.teacher_key_env
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) or (config.queries_llm and name not in (*os.environ, KEY_ENV)):
        raise InputError(
            "--teacher-key-env names no environment variable that is set; it takes a variable's name, such as "
            f"{KEY_ENV}, and not the key itself"
        )
    key = os.environ.get(name, "")
    for f in fields(config):
        text = str(getattr(config, f.name))
        if (len(key) >= Secret.shortest and key in text) or (f.name == "teacher_body" and KEY_FIELD.search(text)):
            raise InputError(
                f"{flag(f.name)} holds a key, and would keep it in config.json; leave the key to the environment "
                f"variable {KEY_ENV}, or the one that --teacher-key-env names"
            )
