"""What `python -m navpick.check` says, line by line, and how it ends."""

import importlib.util
from importlib import metadata

import pytest
import torch

from navpick import check, rendering
from navpick.dataset import HOME, HabitatError
from navpick.rendering import Rendering, RenderingError


@pytest.fixture
def installed(monkeypatch):
    """A machine on which everything works; what tests change of it is by name."""
    versions = {"numpy": "1.26.4", "gym": "0.23.0", "habitat-lab": "0.3.320260507"}

    def version(package):
        if package not in versions:
            raise metadata.PackageNotFoundError(package)
        return versions[package]

    def requires(package):
        return {"habitat-lab": ["numpy==1.26.4", "gym<0.23.1,>=0.22.0"], "habitat-sim": ["numpy<2.4,>=2.0.0"]}[package]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "requires", requires)
    monkeypatch.setattr(check, "run_python", lambda code: "0.3.3 True")
    monkeypatch.setattr(check, "choose_renderer", lambda wanted: ("cpu", ""))
    monkeypatch.setattr(check, "try_rendering", lambda gpu: Rendering("llvmpipe", 4000.0))
    monkeypatch.setattr(check, "play_episode", lambda settings: "29 random steps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return versions


def report(capsys, *arguments):
    """The lines, by name where they have one, the numbered sentences, and the exit code."""
    code = 0
    try:
        check.main(arguments)
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    assert err == ""
    found, _, sentences = out.partition("\n\n")
    return {line[:12].strip(): line[13:] for line in found.splitlines()}, sentences.splitlines(), code


def test_everything_works(installed, capsys):
    lines, sentences, code = report(capsys)
    assert list(lines) == [
        "Python", "torch", "numpy", "gym", "habitat-lab", "data set", "habitat-sim", "rendering", "episode",
        "everything w",
    ]  # fmt: skip
    assert lines["numpy"] == "1.26.4, but habitat-sim asks for <2.4,>=2.0.0"
    assert lines["gym"] == "0.23.0"
    assert lines["habitat-sim"] == "0.3.3, with Bullet"
    assert "100 train and 100 val episodes, fetch_suction.urdf" in lines["data set"]
    assert lines["rendering"].startswith("llvmpipe (cpu), 4,000 ")
    assert (sentences, code) == ([], 0)


def test_nothing_is_installed(installed, monkeypatch, capsys):
    def missing(code):
        raise HabitatError("ModuleNotFoundError: No module named 'habitat'")

    installed.clear()
    installed["numpy"] = "2.1.0"
    monkeypatch.setattr(metadata, "requires", metadata.version)
    monkeypatch.setattr(check, "run_python", missing)
    monkeypatch.setattr(check, "play_episode", None)
    lines, sentences, code = report(capsys)
    assert lines["numpy"] == "2.1.0"
    assert "rendering" not in lines
    assert "episode" not in lines
    assert [sentence[:15] for sentence in sentences] == ["1. gym is not i", "2. habitat-lab ", "3. habitat-sim "]
    assert all("conda env create -f environment.yml" in sentence for sentence in sentences)
    assert [lines[name] for name in ("gym", "habitat-lab", "habitat-sim")] == [f"wrong, see {n}." for n in (1, 2, 3)]
    assert code == 2


def test_numpy_that_habitat_lab_does_not_ask_for(installed, capsys):
    installed["numpy"] = "2.1.0"
    installed["gym"] = "0.26.2"
    lines, _, _ = report(capsys)
    assert lines["numpy"] == "2.1.0, but habitat-lab asks for ==1.26.4"
    assert lines["gym"] == "0.26.2, but habitat-lab asks for <0.23.1,>=0.22.0"


def test_a_build_without_bullet(installed, monkeypatch, capsys):
    monkeypatch.setattr(check, "run_python", lambda code: "0.3.3 False")
    _, sentences, code = report(capsys)
    assert "habitat-sim 0.3.3 was built without Bullet" in sentences[0]
    assert code == 2


def test_a_data_set_that_is_none(installed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(check, "play_episode", None)
    lines, (sentence,), code = report(capsys, "--habitat-data", str(tmp_path))
    assert "has no episodes" in sentence
    assert f"--data-path {tmp_path}" in sentence
    assert "rendering" in lines
    assert code == 2


def test_nothing_renders(installed, monkeypatch, capsys):
    def fail(gpu):
        raise RenderingError("WindowlessContext: Unable to create windowless context")

    monkeypatch.setattr(check, "try_rendering", fail)
    lines, (sentence,), code = report(capsys)
    assert "cannot render on cpu (WindowlessContext: Unable to" in sentence
    assert "libegl1" in sentence
    assert "episode" not in lines
    assert code == 2


def test_a_cuda_device_that_torch_sees_and_egl_does_not(installed, monkeypatch, capsys):
    monkeypatch.setattr(check, "choose_renderer", lambda wanted: ("cpu", f"{wanted}: cuda:0 cannot draw"))
    lines, _, code = report(capsys, "--renderer", "auto")
    assert "auto: cuda:0" in lines
    assert "(cpu)" in lines["rendering"]
    assert code == 0


def test_a_device_that_is_none_is_one_of_the_sentences(installed, monkeypatch, capsys):
    monkeypatch.setattr(check, "choose_renderer", rendering.choose_renderer)
    installed.pop("gym")
    lines, (no_gym, no_device), code = report(capsys, "--renderer", "tpu")
    assert no_gym.startswith("1. gym is not installed")
    assert no_device.startswith("2. --renderer is tpu; give auto, cpu")
    assert {"rendering", "episode"}.isdisjoint(lines)
    assert code == 2


def test_a_simulator_that_dies(installed, monkeypatch, capsys):
    def die(settings):
        raise HabitatError("a simulator died (signal 6): it said nothing")

    monkeypatch.setattr(check, "play_episode", die)
    _, sentences, code = report(capsys)
    assert sentences == ["1. a simulator died (signal 6): it said nothing"]
    assert code == 2


def test_episodes_that_cannot_be_won(installed, monkeypatch, capsys):
    reset = []

    def call(env, method, *, seed):
        reset.append((env, seed // 2))
        return None, {"warning": f"episode {seed // 2}: too far away"} if seed // 2 in (3, 40) else {}

    monkeypatch.setattr(check, "ProcessEnv", lambda task, split, settings: split)
    monkeypatch.setattr(check, "call", call)
    lines, _, code = report(capsys, "--episodes")
    assert reset == [(split, number) for split in ("train", "val") for number in range(100)]
    assert lines["train"] == lines["val"] == "98 of 100 can be won"
    assert code == 0


def test_code_in_a_child_process():
    assert check.run_python("print(1); print(2)") == "2"
    with pytest.raises(HabitatError, match=r"^ModuleNotFoundError: No module named 'nowhere'$"):
        check.run_python("import nowhere")
    with pytest.raises(HabitatError, match=r"^exit code -6$"):
        check.run_python("import os; os.abort()")


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("habitat_sim") is None, reason="habitat-sim is not installed; see environment.yml"
)
def test_the_real_thing(capsys, monkeypatch):
    monkeypatch.chdir(HOME.parent)  # a simulator starts in a folder of its own
    lines, sentences, code = report(capsys, "--renderer", "cpu", "--habitat-data", HOME.name)
    assert (sentences, code) == ([], 0)
    assert "The robot sees" in lines["episode"]


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("libEGL.so.1: cannot open shared object file: No such file or directory", "apt-get install libegl1"),
        ("libOpenGL.so.0: cannot open shared object file: No such file or directory", "libopengl0"),
        ("cannot select an axis to squeeze out which has size not equal to one", "opencv-python<5"),
        ("module 'numpy' has no attribute 'long'", "numpy==1.26.4"),
        ("A module compiled using NumPy 1.x cannot be run; _ARRAY_API not found", "numpy==1.26.4"),
        ("mutable default <class 'B'> for field b is not allowed: use default_factory", "conda env create"),
    ],
)
def test_what_cannot_be_imported_has_its_own_advice(installed, capsys, monkeypatch, error, advice):
    def fails(code):
        raise HabitatError(error)

    monkeypatch.setattr(check, "run_python", fails)
    _, sentences, code = report(capsys)
    assert code == 2
    for package, sentence in zip(("habitat-lab", "habitat-sim"), sentences):
        assert f"{package} cannot be imported ({error}): " in sentence
        assert advice in sentence
