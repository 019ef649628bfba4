"""The method and its harness know no task: no word of a task's world stands in their files."""

import re

import pytest
from helpers import ROOT

FILES = ["train.py", "rollout.py", "teacher.py", "ppo.py", "annealing.py", "llm/*.py", "harness/*.py"]
WORDS = re.compile(
    r"\b(?:DoorKey|SimpleDoorKey\w*|LavaDoorKey\w*|ColoredDoorKey\w*|DivergedDoorKey\w*|NavPick|COLORS|COLOR_\w+)\b"
    r"|(?i:\b(?:doors|lava|robots?|navigat\w*|navpick|habitat\w*|minigrid\w*|egocentric\w*|bowls?|mugs?|kitchen)\b)"
    r"|(?i:\b(?:red|blue|green|purple|yellow|gr[ae]y|second|locked|held) (?:keys?|doors?)\b)"
    r"|(?i:\b(?:go to|pick up|drop|open) (?:(?:a|the) )?(?:\w+ )?(?:keys?|doors?)\b)"
)
# A component is demonstrated by a little task of its own, and names the paper's tasks where a formula is for one.
PAPER = {
    ("ppo.py", "MiniGrid"): "which distance is for which of the paper's tasks",
    ("ppo.py", "Habitat"): "which distance is for which of the paper's tasks",
    ("annealing.py", "MiniGrid"): "for which of the paper's tasks its values are",
}
PATHS = sorted(path for pattern in FILES for path in ROOT.glob(pattern))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_word_of_a_task(path):
    name = path.relative_to(ROOT).as_posix()
    found = [
        f"{name}:{number}: {match[0]}"
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        for match in WORDS.finditer(line)
        if (name, match[0]) not in PAPER
    ]
    assert not found


def test_every_exception_is_still_needed():
    for name, word in PAPER:
        assert re.search(rf"\b{word}\b", (ROOT / name).read_text()), (name, word)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_task_is_imported(path):
    """Tasks come in by the door, by name."""
    text = path.read_text()
    assert not re.search(r"^\s*(?:from|import) (?:envs|options|navpick|minigrid|habitat\w*)\b", text, re.MULTILINE)


@pytest.mark.parametrize(
    "line", ["the doors of a room", "pick up red key", "import minigrid", "LavaDoorKeyEnv", "lava"]
)
def test_the_search_finds(line):
    assert WORDS.search(line)


@pytest.mark.parametrize("line", ["an API key", "for key, value in", "the door: what a task tells", "tab:blue"])
def test_the_search_lets_pass(line):
    assert not WORDS.search(line)
