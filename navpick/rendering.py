"""What renders: a CUDA device where habitat-sim can use it, else what EGL offers without one, which is mostly Mesa.

    python -m navpick.rendering 0       # draw on CUDA device 0; -1 asks for no CUDA device

A CUDA device that torch sees is often one that EGL does not see: in containers, and with drivers without graphics.
habitat-sim then ends the process, so a child process tries it first.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from harness.cli import InputError, Parser, errors_in_one_line

PROJECT = Path(__file__).resolve().parents[1]
PATIENCE = 60.0  # seconds that a child process has to draw
IMAGES = 100


class RenderingError(RuntimeError):
    """habitat-sim cannot draw there; the text says why."""


class Rendering(NamedTuple):
    """What draws, in the driver's words, and its depth images a second of an empty scene."""

    renderer: str
    speed: float


def choose_renderer(wanted: str) -> tuple[str, str]:
    """Return "cpu" or "cuda:N" for --renderer auto, cpu or cuda:N, and a line to print, or "".

    Call it once a command: trying a CUDA device takes seconds. Raises InputError for another word, and for a device
    that was named and cannot be used.
    """
    if wanted == "cpu":
        return wanted, ""
    if wanted == "auto":
        import torch  # not at the top: the child process does without

        if not torch.cuda.is_available():
            return "cpu", ""
        device = "cuda:0"
    elif re.fullmatch(r"cuda:\d+", wanted):
        device = wanted
    else:
        raise InputError(f"--renderer is {wanted}; give auto, cpu, or cuda:N with the number of a CUDA device")
    try:
        try_rendering(gpu_device_id(device))
    except RenderingError as error:
        why = f"habitat-sim cannot render on {device} ({error})"
    else:
        return device, ""
    if wanted != "auto":
        raise InputError(f"--renderer is {wanted}, but {why}; give auto or cpu")
    return "cpu", f"{why}; it renders without a CUDA device, on Mesa where no other driver is installed"


def gpu_device_id(renderer: str) -> int:
    """Return what habitat-sim's `gpu_device_id` gets for "cpu" or "cuda:N"."""
    return -1 if renderer == "cpu" else int(renderer[len("cuda:") :])


def try_rendering(gpu: int) -> Rendering:
    """Draw in a child process; raises RenderingError with the child's last words where it dies or takes too long."""
    try:
        child = subprocess.run(
            [sys.executable, "-m", "navpick.rendering", str(gpu)],
            cwd=PROJECT,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise RenderingError(f"no image after {PATIENCE:.0f} s") from None
    if child.returncode:
        said = [line.strip() for line in child.stderr.splitlines() if line.strip()]
        # Where EGL fails, the first of the last two lines has the cause.
        raise RenderingError("; ".join(said[-2:]) or f"it ended with code {child.returncode} and without a word")
    renderer, speed = (re.search(f"^{name}: (.*)$", child.stdout, re.MULTILINE) for name in ("Renderer", "images/s"))
    if not renderer or not speed:
        raise RenderingError(
            f"it did not say what draws, or how fast; it said {child.stdout.strip()[-200:] or 'nothing'}"
        )
    return Rendering(renderer[1], float(speed[1]))


def draw(gpu: int) -> float:
    """Draw depth images of an empty scene in this process; return how many a second."""
    import habitat_sim

    camera = habitat_sim.CameraSensorSpec()
    camera.uuid, camera.sensor_type, camera.resolution = "depth", habitat_sim.SensorType.DEPTH, [128, 128]
    agent = habitat_sim.agent.AgentConfiguration()
    agent.sensor_specifications = [camera]
    settings = habitat_sim.SimulatorConfiguration()
    settings.gpu_device_id, settings.scene_id = gpu, "NONE"
    simulator = habitat_sim.Simulator(habitat_sim.Configuration(settings, [agent]))
    simulator.get_sensor_observations()  # the first image takes longer
    start = time.perf_counter()
    for _ in range(IMAGES):
        simulator.get_sensor_observations()
    return IMAGES / (time.perf_counter() - start)


@errors_in_one_line("navpick.rendering")
def main(arguments: Sequence[str] | None = None) -> None:
    """Draw and print how fast; Magnum says which renderer it is."""
    parser = Parser(prog="-m navpick.rendering", description=main.__doc__)
    parser.add_argument("gpu", type=int, help="CUDA device, -1 for none")
    gpu = parser.parse_args(arguments).gpu
    os.environ.update(MAGNUM_LOG="default", HABITAT_SIM_LOG="quiet")
    os.environ.setdefault("LP_NUM_THREADS", "0")  # as in navpick/lab.py
    print(f"images/s: {draw(gpu)}")


if __name__ == "__main__":
    sys.tracebacklimit = 0  # an error is one line
    main()
