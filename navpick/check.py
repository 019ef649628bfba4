"""What Habitat needs, line by line as it is found: versions, data set, what renders, one episode of Nav & Pick.

    python -m navpick.check

Whatever can end a process, like a simulator without EGL, is tried in a child process, so that the report goes on. It
ends with "everything works", or with exit code 2 and a sentence for each thing that is wrong.
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from packaging.requirements import Requirement

from harness.cli import InputError, Parser, errors_in_one_line
from navpick.dataset import HOME, HabitatError, check_dataset, find_files
from navpick.envs import HabitatEnv, describe
from navpick.lab import INSTALL, Settings, cure
from navpick.layout import NO_STOP, STOP
from navpick.processes import ProcessEnv
from navpick.rendering import RenderingError, choose_renderer, gpu_device_id, try_rendering

WORKED = "docs/habitat.md says which versions worked together"
SPLITS = ("train", "val")


class Report:
    """Lines printed as they are found, and what is wrong, kept for the end."""

    def __init__(self) -> None:
        self.wrong: list[str] = []

    def look(self, name: str, find: Callable[..., str], *arguments: Any) -> bool:
        """Print what `find` returns and return True; where it raises an error, keep that and return False."""
        print(f"{name:<12} ", end="", flush=True)  # what takes long is named at once
        try:
            print(find(*arguments), flush=True)
        except (HabitatError, RenderingError) as error:
            self.wrong.append(str(error))
            print(f"wrong, see {len(self.wrong)}.", flush=True)
            return False
        return True


def run_python(code: str) -> str:
    """Return the last line that code prints in a child process; raises HabitatError with its last line of errors."""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", errors="replace")
    if child.returncode:
        raise HabitatError((child.stderr.splitlines() or [f"exit code {child.returncode}"])[-1])
    return child.stdout.splitlines()[-1]


def find_torch() -> str:
    """Return torch's version and the CUDA device that it sees."""
    return f"{torch.__version__}, {torch.cuda.get_device_name() if torch.cuda.is_available() else 'no CUDA device'}"


def find_sim() -> str:
    """Return habitat-sim's version; raises HabitatError where it cannot be imported or was built without Bullet."""
    try:
        version, bullet = run_python("import habitat_sim as s; print(s.__version__, s.built_with_bullet)").split()
    except HabitatError as error:
        raise HabitatError(f"habitat-sim cannot be imported ({error}): {cure(error)}; {WORKED}") from None
    if bullet != "True":
        raise HabitatError(
            f"habitat-sim {version} was built without Bullet, and nothing can be picked up without physics: "
            f"build it with Bullet, or {INSTALL}"
        )
    return f"{version}, with Bullet"


def find_lab() -> str:
    """Return habitat-lab's version; raises HabitatError where it cannot be imported."""
    try:
        run_python("import habitat; print()")
        return metadata.version("habitat-lab")
    except (HabitatError, metadata.PackageNotFoundError) as error:
        raise HabitatError(f"habitat-lab cannot be imported ({error}): {cure(error)}; {WORKED}") from None


def find_pinned(package: str) -> str:
    """Return a package's version, and what habitat-lab or habitat-sim asks for instead; HabitatError without it."""
    try:
        found = metadata.version(package)
    except metadata.PackageNotFoundError:
        raise HabitatError(f"{package} is not installed, and habitat-lab needs it: {INSTALL}") from None
    others = []
    for user in ("habitat-lab", "habitat-sim"):
        try:
            asked = [Requirement(text) for text in metadata.requires(user) or []]
        except metadata.PackageNotFoundError:
            continue
        others += [
            f", but {user} asks for {requirement.specifier}"
            for requirement in asked
            if requirement.name == package and found not in requirement.specifier
        ]
    return found + "".join(others)


def find_data(folder: Path) -> str:
    """Return where the data set is, its episodes and its robot; raises HabitatError where a file is missing."""
    counts = []
    for split in SPLITS:
        path, robot = check_dataset(folder, split)
        counts.append(f"{count_episodes(path)} {split}")
    return f"{folder}, {' and '.join(counts)} episodes, {robot.name}"


def count_episodes(path: Path) -> int:
    """Return how many episodes are in a file that has been checked."""
    return len(json.loads(gzip.decompress(path.read_bytes()))["episodes"])


def find_renderer(device: str) -> str:
    """Return what draws and how fast; raises RenderingError where habitat-sim cannot draw."""
    try:
        drawn = try_rendering(gpu_device_id(device))
    except RenderingError as error:
        raise RenderingError(
            f"habitat-sim cannot render on {device} ({error}): EGL needs a GPU driver with graphics, or Mesa, "
            "for example apt-get install libegl1 libgl1-mesa-dri, and habitat-sim a headless build"
        ) from None
    return f"{drawn.renderer} ({device}), {drawn.speed:,.0f} depth images/s of an empty scene"


def call(env: ProcessEnv, method: str, **arguments: Any) -> Any:
    """Call a method of an environment; raises HabitatError where its process ends."""
    env.submit(method, **arguments)
    return env.result()


def play_episode(settings: Settings) -> str:
    """Return how soon an episode of random actions begins, how fast it is, and its end in words.

    Raises HabitatError where it fails.
    """
    begun = time.perf_counter()
    env = ProcessEnv("habitat-navpick", "val", settings)
    random = HabitatEnv.action_space
    random.seed(0)
    call(env, "reset", seed=1)
    start, steps, ended = time.perf_counter(), 0, False
    while not ended:
        action = random.sample()
        action[STOP] = NO_STOP
        observation, _, terminated, truncated, _ = call(env, "step", action=action)
        steps, ended = steps + 1, terminated or truncated
    speed = steps / (time.perf_counter() - start)
    return (
        f"begun after {start - begun:.1f} s, {steps} random steps, {speed:.0f} a second; at the end: "
        f"{describe(observation)}"
    )


def load_episodes(settings: Settings, split: str) -> str:
    """Return how many episodes of a split can be won, and why the others cannot; HabitatError where one fails."""
    env = ProcessEnv("habitat-navpick", split, settings)
    count = count_episodes(find_files(Path(settings.folder), split)[0])
    infos = [call(env, "reset", seed=2 * number)[1] for number in range(count)]  # seeds 2 n and 2 n + 1: episode n
    warnings = [info["warning"] for info in infos if "warning" in info]
    return "\n  ".join([f"{count - len(warnings)} of {count} can be won", *warnings])


@errors_in_one_line("navpick.check")
def main(arguments: Sequence[str] | None = None) -> None:
    """Report what is there; exit code 2 if something is wrong."""
    parser = Parser(prog="-m navpick.check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--habitat-data", type=Path, default=HOME, help="data set; by default the home that we bring")
    parser.add_argument("--renderer", default="auto", help="auto, cpu or cuda:N; auto takes a CUDA device that draws")
    parser.add_argument("--episodes", action="store_true", help="load every episode and list those that cannot be won")
    given = parser.parse_args(arguments)
    report = Report()
    report.look("Python", platform.python_version)
    report.look("torch", find_torch)
    report.look("numpy", find_pinned, "numpy")
    report.look("gym", find_pinned, "gym")
    report.look("habitat-lab", find_lab)
    report.look("data set", find_data, given.habitat_data)
    if report.look("habitat-sim", find_sim):
        try:
            device, why = choose_renderer(given.renderer)
        except InputError as error:
            report.wrong.append(str(error))
        else:
            if why:
                print(why, flush=True)
            report.look("rendering", find_renderer, device)
    if not report.wrong:
        settings = Settings(folder=str(given.habitat_data.resolve()), gpu=gpu_device_id(device))
        report.look("episode", play_episode, settings)
    if given.episodes and not report.wrong:
        for split in SPLITS:
            report.look(split, load_episodes, settings, split)
    if report.wrong:
        print("", *(f"{number}. {sentence}" for number, sentence in enumerate(report.wrong, 1)), sep="\n")
        raise SystemExit(2)
    print("everything works")


if __name__ == "__main__":
    main()
