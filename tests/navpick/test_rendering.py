"""What renders: chosen by a child process that tries it."""

import importlib.util
import subprocess
import sys

import pytest
import torch

from harness.cli import InputError
from navpick import rendering
from navpick.rendering import Rendering, RenderingError, choose_renderer, gpu_device_id, try_rendering

needs_habitat = pytest.mark.skipif(
    importlib.util.find_spec("habitat_sim") is None, reason="habitat-sim is not installed; see environment.yml"
)


@pytest.fixture
def gpus(monkeypatch):
    """A machine with a CUDA device that torch sees; the list holds those that were tried."""
    tried = []

    def remember(gpu):
        tried.append(gpu)
        return Rendering("a GPU", 1000.0)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(rendering, "try_rendering", remember)
    return tried


def fail(gpu):
    raise RenderingError(f"unable to find CUDA device {gpu} among 1 EGL devices in total")


def test_without_a_cuda_device_nothing_is_tried(gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_renderer("auto") == ("cpu", "")
    assert gpus == []


def test_cpu_is_not_tried(gpus):
    assert choose_renderer("cpu") == ("cpu", "")
    assert gpus == []


def test_a_cuda_device_that_draws_is_taken(gpus):
    assert choose_renderer("auto") == ("cuda:0", "")
    assert choose_renderer("cuda:3") == ("cuda:3", "")
    assert gpus == [0, 3]


def test_auto_goes_on_without_a_cuda_device_that_cannot_draw(gpus, monkeypatch):
    monkeypatch.setattr(rendering, "try_rendering", fail)
    renderer, line = choose_renderer("auto")
    assert renderer == "cpu"
    assert "cuda:0 (unable to find CUDA device 0 among 1 EGL devices in total)" in line
    assert "Mesa" in line
    assert "\n" not in line


def test_a_named_device_that_cannot_draw_is_an_error(gpus, monkeypatch):
    monkeypatch.setattr(rendering, "try_rendering", fail)
    with pytest.raises(InputError, match=r"--renderer is cuda:2, .*unable to find CUDA device 2.*; give auto or cpu"):
        choose_renderer("cuda:2")


@pytest.mark.parametrize("wanted", ["", "gpu", "cuda", "cuda:", "cuda:-1", "cuda:0,1"])
def test_other_words_are_an_error(wanted):
    with pytest.raises(InputError, match="give auto, cpu, or cuda:N"):
        choose_renderer(wanted)


def test_device_numbers_are_habitat_sims():
    assert [gpu_device_id(renderer) for renderer in ("cpu", "cuda:0", "cuda:12")] == [-1, 0, 12]


def test_the_last_words_of_a_child_that_dies(monkeypatch):
    run = subprocess.run

    def child(script):
        def dying(command, **options):
            return run([sys.executable, "-c", script], **options)

        monkeypatch.setattr(subprocess, "run", dying)
        with pytest.raises(RenderingError) as error:
            try_rendering(0)
        return str(error.value)

    assert child("import sys; sys.exit('noise\\nno CUDA device 0\\nno context')") == "no CUDA device 0; no context"
    assert child("print('images/s: 12.0')") == "it did not say what draws, or how fast; it said images/s: 12.0"
    assert child("import os; os.abort()") == "it ended with code -6 and without a word"
    monkeypatch.setattr(rendering, "PATIENCE", 0.5)
    assert "no image after" in child("import time; time.sleep(60)")


@needs_habitat
@pytest.mark.slow
def test_a_child_draws_without_a_cuda_device():
    drawn = try_rendering(-1)
    assert drawn.renderer
    assert drawn.speed > 0


@needs_habitat
@pytest.mark.slow
def test_a_cuda_device_that_nobody_has():
    with pytest.raises(RenderingError, match="CUDA device 99"):
        try_rendering(99)
