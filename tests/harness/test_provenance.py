"""provenance.json: with what a run was made, and what it cost, however often it was cut off."""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from helpers import refused, tiny

import train
from harness import provenance
from harness.provenance import Provenance, find_commit

pytestmark = pytest.mark.usefixtures("tidy", "no_pictures")


def test_each_process_that_worked_on_a_run_has_an_entry():
    train.main(tiny("run"))
    (trained,) = json.loads(Path("run/provenance.json").read_text())
    assert trained["python"] == ".".join(map(str, sys.version_info[:3]))
    assert [trained["packages"][name] for name in ("torch", "numpy")] == [version("torch"), version("numpy")]
    assert trained["seconds"] > 0
    assert 50 < trained["memory_mib"] < 10_000
    assert (trained["requests"], trained["prompt_tokens"], trained["completion_tokens"]) == (0, 0, 0)
    train.main(["--eval", "run"])
    entries = json.loads(Path("run/provenance.json").read_text())
    assert entries[0] == trained
    assert len(entries) == 2


def test_the_llms_requests_and_tokens_are_those_of_all_workers(tmp_path):
    class Workers:
        rank = 0

        def gather(self, rows):
            return torch.cat([rows, torch.tensor([[100, 5, 60, 7]])])

    bill = {"llm/requests": 3, "llm/prompt tokens": 40.0, "llm/completion tokens": 2, "llm/cost": 0.5}
    entry = Provenance(tmp_path, lambda: bill)
    entry.write(Workers())
    bill["llm/requests"] = 4  # the evaluation, which is the first worker's, asks once more
    entry.write()
    (written,) = json.loads((tmp_path / "provenance.json").read_text())
    assert [written[name] for name in ("requests", "prompt_tokens", "completion_tokens")] == [9, 100, 9]
    assert written["memory_mib"] > 100


def test_a_file_that_cannot_be_read_ends_in_one_line(capsys):
    train.main(tiny("run"))
    Path("run/provenance.json").write_text("[{")
    assert "run/provenance.json cannot be read" in refused(capsys, "--eval", "run")


def test_without_git_there_is_no_commit(monkeypatch, tmp_path):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert find_commit() == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_commit() == ""


def test_a_commit_says_whether_the_code_differs(monkeypatch, tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        provenance.subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    for name in ("train.py", "results/a.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("old")
    git("init")
    git("add", ".")
    git("commit", "-m", "all")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    commit = find_commit()
    assert len(commit) == 7
    (tmp_path / "results" / "a.md").write_text("new")  # what a run made
    assert find_commit() == commit
    (tmp_path / "train.py").write_text("new")
    assert find_commit() == commit + "+"
