"""What a machine can check of the README: every row of the equation map resolves, so that the map cannot drift."""

import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

import ppo
import train

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def equation_rows():
    section = README.split("## Equations and code")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_map_covers_every_equation_of_the_paper():
    covered = " ".join(row[0] for row in equation_rows())
    assert all(f"Eq. ({n})" in covered for n in (1, 2, 3))


@pytest.mark.parametrize("row", equation_rows(), ids=lambda row: f"{row[0]} {row[3]}")
def test_equation_row_resolves(row):
    paper, _, symbols, function, test, _ = row
    module, *path = function.strip("`").split(".")
    code = reduce(getattr, path, importlib.import_module(module))
    tag = re.match(r"Eq\. \((\d)\)", paper)
    if tag:
        assert tag[0] in code.__doc__
        assert f"test_eq{tag[1]}_" in test
    file, name = test.strip("`").split("::")
    assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")
    source = (ROOT / f"{module}.py").read_text(encoding="utf-8") + (ROOT / "envs.py").read_text(encoding="utf-8")
    for argument in re.findall(r"-> `([\w.]+)", symbols):
        assert argument.split(".")[-1] in source


def test_commands_in_the_readme_are_known_to_the_command_line():
    flags = {flag for line in re.findall(r"train\.py([^\n`]*)", README) for flag in re.findall(r"--[a-z0-9-]+", line)}
    known = {"--" + name.replace("_", "-") for name in train.Config.__dataclass_fields__} | {
        "--resume",
        "--eval",
        "--help",
    }
    assert flags
    assert flags <= known


def test_files_and_pictures_that_the_readme_names_exist():
    for name in re.findall(r"\]\(([\w./]+)\)", README):
        assert (ROOT / name).exists(), name


def test_weight_counts_in_the_readme():
    small = sum(p.numel() for p in ppo.small_student(7).parameters())
    paper = sum(p.numel() for p in ppo.paper_student(7).parameters())
    assert f"{small:,}" in README
    assert f"{paper:,}" in README
