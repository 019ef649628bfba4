"""A disk that fills up, a small real one: one line says what is full, and nothing that was good is spoilt."""

import subprocess
from pathlib import Path

import pytest
import torch
from helpers import TRAIN, assert_same_run, tiny

import train
from harness.files import append
from llm.replies import append_line
from teacher import read_records

pytestmark = pytest.mark.usefixtures("tidy")
PAGE = 4096


def mount(folder, pages, again=""):
    size = f"{again}size={pages * PAGE}"
    return subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], capture_output=True).returncode


@pytest.fixture
def disk(tmp_path):
    """A folder on a disk of its own, which `mount` gives another size."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if mount(folder, 100):
        pytest.skip("wants to mount a small disk, which takes root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder, free):
    """Leave so many pages free."""
    (folder / "filler").write_bytes(bytes((100 - free) * PAGE))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's own
@pytest.mark.parametrize("free", [1, 2, 4, 60, 84, 88])
def test_a_run_ends_in_one_line_and_goes_on_once_there_is_room(free, disk, capsys, no_pictures):
    arguments = {"iterations": 3, "num_trajectories": 1}
    train.main(tiny("whole", **arguments))
    fill(disk, free)
    folder = disk / "run"
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        train.main(tiny(folder, **arguments))
    assert stopped.value.code == 2
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    assert "No space left on device: '" in errors.splitlines()[-1]
    if (folder / "metrics.csv").exists():
        assert (folder / "metrics.csv").read_bytes()[-1:] in (b"", b"\n")
    if (folder / "checkpoint.pt").exists():
        assert torch.load(folder / "checkpoint.pt", weights_only=True)["iteration"] in (1, 2, 3)
    mount(disk, 1000, "remount,")
    train.main(["--resume", str(folder)] if (folder / "config.json").exists() else tiny(folder, **arguments))
    assert_same_run(folder, Path("whole"))


@pytest.mark.slow
def test_nothing_but_the_line_is_said(disk):
    fill(disk, 1)
    done = subprocess.run([*TRAIN, *tiny(disk / "run")], capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.replace("\r", "\n").splitlines() if line and "it/s" not in line]
    assert "No space left on device" in line


@pytest.mark.parametrize("append", [append_line, lambda path, line: append(path, line + "\n")], ids=["book", "rows"])
def test_what_does_not_fit_is_not_begun(append, disk):
    path = disk / "book.jsonl"
    line = '{"state": "%s", "plans": {"wait": 1}}'
    append(path, line % "first")
    fill(disk, 1)
    before = path.read_bytes()
    with pytest.raises(OSError, match=r"No space left on device: .*book.jsonl"):
        append(path, line % ("n" * 3 * PAGE))
    assert path.read_bytes() == before
    append(path, line % "second")  # which fits
    assert [record["state"] for record in read_records(path)] == ["first", "second"]
