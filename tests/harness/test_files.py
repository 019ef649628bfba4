"""Two processes on one run folder, and folders of all kinds."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, assert_same_run, contents, refused, tiny

import train
from harness.files import atomically, hold

pytestmark = pytest.mark.usefixtures("tidy")
HOLDER = """
import sys
from pathlib import Path
from harness.files import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


@pytest.fixture
def held(finished):
    """A run folder that another process holds, and that process."""
    command = [sys.executable, "-c", HOLDER, str(finished)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    process.stdout.readline()
    yield finished, process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("flag", ["--resume", "--eval"])
def test_a_second_process_on_a_run_says_so_and_ends(flag, held, capsys):
    folder, _ = held
    before = contents(folder)
    line = refused(capsys, flag, folder)
    assert str(folder) in line
    assert "in use" in line
    assert contents(folder) == before


def test_a_lock_dies_with_its_process(held, finished_once, no_pictures):
    folder, process = held
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (folder / ".lock").exists()
    train.main(["--resume", str(folder)])
    assert_same_run(folder, finished_once)


def test_two_new_runs_in_one_empty_folder(capsys):
    Path("run").mkdir()
    with hold(Path("run")):
        assert "in use" in refused(capsys, *tiny("run"))
    assert [path.name for path in Path("run").iterdir()] == [".lock"]


@pytest.mark.parametrize("left", [[], [".lock"], [".lock", "config.json.part"]], ids=str)
@pytest.mark.parametrize("link", [False, True])
def test_a_folder_that_is_as_good_as_empty_is_taken(left, link, no_pictures, finished_once):
    Path("empty").mkdir()
    for name in left:
        Path("empty", name).write_text("")
    folder = Path("empty")
    if link:
        folder = Path("link")
        folder.symlink_to("empty")
    train.main(tiny(folder))
    assert_same_run(Path("empty"), finished_once)


@pytest.mark.parametrize("name", ["n" * 300, "a/" + "n" * 300, "dangling", "/proc/none/run", "a\udcff" * 200])
def test_a_folder_that_cannot_be(name, capsys):
    Path("dangling").symlink_to("nowhere/at/all")
    assert "cannot be made" in refused(capsys, *tiny(name))


def test_a_file_that_is_not_finished_leaves_nothing(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), atomically(path) as part:
        part.write_text("half, and \ud800")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]
