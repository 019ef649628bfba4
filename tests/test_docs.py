"""What a machine can check of README.md and docs/, so that it cannot drift: equations, commands, links and numbers."""

import importlib
import re
import shlex
import subprocess
import sys
from functools import reduce
from pathlib import Path

import pytest

import nets
import reproduce
import train
from harness import config
from llm.commands import make_parser
from llm.endpoint import Endpoint

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))
}
SHELL = {"env": "SimpleDoorKey", "mode": "soft", "model": "NAME", "seed": "0"}  # variables of loops in the commands
COMMAND = re.compile(r"(?:python|torchrun[^\n`;&]*?) (train|teacher|reproduce|options)\.py([^\n`;&]*)")


# ----------------------------------------------------------------------------------------------------------- equations


def equation_rows():
    section = README.split("## Equations and code")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip("|"))] for row in rows]


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
    source = (ROOT / f"{module}.py").read_text(encoding="utf-8")
    for argument in re.findall(r"-> `([\w.]+)", symbols):
        assert argument.split(".")[-1] in source


# ------------------------------------------------------------------------------------------------------------ commands


def code(text):
    """The code of a page: its blocks of shell, and what stands between backticks in a line."""
    blocks = re.findall(r"(?ms)^```sh\n(.*?)^```", text)
    lines = re.sub(r"(?ms)^```.*?^```", "", text)
    return blocks + re.findall(r"`([^`\n]+)`", lines)


def commands(text):
    """Script and arguments of every command of ours in a page."""
    for piece in code(text):
        for script, rest in COMMAND.findall(piece):
            filled = re.sub(r"\$(\w+)", lambda match: SHELL.get(match[1], match[0]), rest)
            yield script, shlex.split(filled, comments=True)


COMMANDS = sorted({(page, script, shlex.join(a)) for page, text in PAGES.items() for script, a in commands(text)})


def without_placeholders(arguments):
    """Arguments of train.py without what only a reader's machine has: a finished run, a task file of the reader's."""
    kept = list(arguments)
    for name in ("--resume", "--eval"):
        if name in kept:
            at = kept.index(name)
            del kept[at : at + 2]
    if "--env" in kept:
        at = kept.index("--env") + 1
        file, _, task = kept[at].rpartition(":")
        if file and not file.startswith("examples/"):
            kept[at] = "SimpleDoorKey"
        assert task, kept[at]
    return kept


@pytest.mark.parametrize(("page", "script", "arguments"), COMMANDS)
def test_a_command_is_known_to_the_command_line(page, script, arguments, monkeypatch):
    monkeypatch.chdir(ROOT)
    parsers = {"train": config.parse, "reproduce": reproduce.parse, "teacher": make_parser().parse_args}
    given = without_placeholders(shlex.split(arguments))
    if "--help" in given:
        with pytest.raises(SystemExit, match="0"):
            parsers[script](given)
    elif script in parsers and (given or script == "train"):
        parsers[script](given)


def test_every_flag_in_the_text_exists():
    scripts = (*ROOT.glob("*.py"), *ROOT.glob("benchmarks/*.py"), ROOT / "llm" / "commands.py")
    known = {flag for path in scripts for flag in re.findall(r'"(--[a-z-]+)"', path.read_text(encoding="utf-8"))}
    settings = config.every_setting(config.find_task("SimpleDoorKey"))
    known |= {config.flag(f.name) for f in settings}
    known |= {f"--no{config.flag(f.name)[1:]}" for f in settings if f.type == "bool"}
    known |= {"--resume", "--eval", "--help"}
    known |= {"--nproc_per_node", "--logdir", "--dist"}  # torchrun, tensorboard, pytest-xdist
    known |= {"--model", "--model_alias", "--n_ctx"}  # llama_cpp
    for page, text in PAGES.items():
        flags = {flag for piece in code(text) for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", piece)}
        assert flags <= known, page


# ----------------------------------------------------------------------------------------------------- files and links


def anchors(text):
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"(?m)^#+ (.+)$", re.sub(r"(?ms)^```.*?^```", "", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("page", sorted(PAGES.keys() - {"docs/own_task.md"}))  # its reader writes files
def test_files_and_folders_that_a_page_names_exist(page):
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"runs"}
    for name in re.findall(r"`([\w./-]+)`", PAGES[page]):
        in_folder = name.partition("/")[0] in folders and "/" in name and not re.search(r"[A-Z]{4}", name)
        metric = re.fullmatch(r"llm/[a-z ]+", name)
        if (in_folder and not metric) or re.fullmatch(r"\w+\.py", name):
            assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES)
def test_no_page_names_a_path_of_one_machine(page):
    assert not re.search(r"(?<![\w.])/(?:tmp|work|home|root|Users)\b", PAGES[page])


def test_every_page_can_be_reached_from_the_readme():
    for page in PAGES:
        assert page == "README.md" or f"]({page}" in README, page


# ------------------------------------------------------------------------------------------------------------- numbers


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 220


@pytest.mark.parametrize("name", PAGES)
def test_no_line_of_prose_is_longer_than_a_screen(name):
    prose = re.sub(r"(?ms)^ *```.*?^ *```", "", PAGES[name])
    assert [line for line in prose.splitlines() if len(line) > 150 and not line.startswith("|")] == []


def test_lines_of_the_files_are_about_right():
    for name, told in re.findall(r"(?m)^\| `([\w./]+)` \|.*\| (\d+) \|[^|]*\|$", README):
        path = ROOT / name
        files = [path] if path.is_file() else path.rglob("*.py")
        lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)
        assert abs(lines - int(told)) <= max(30, lines // 5), f"{name} has {lines} lines, the README says {told}"


@pytest.mark.slow
def test_the_readmes_teacher_is_what_comes_out(tmp_path, capsys):
    (shown,) = re.findall(r"(?m)^teacher \(llm-only\) .*$", README)
    train.main(["--method", "llm-only", "--run-dir", str(tmp_path / "run")])
    assert shown in capsys.readouterr().out  # the student's numbers depend on the processor


@pytest.mark.slow
def test_counts_of_tests_are_those_that_there_are():
    told = {name: int(count) for count, name in re.findall(r"(\d+) tests, `([\w./]+)`", PAGES["docs/reliability.md"])}
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", *told]
    listed = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout.splitlines()
    assert len(told) == 7
    assert {name: sum(line.startswith(f"{name}::") for line in listed) for name in told} == told


def test_weight_counts_in_the_readme():
    for make in (nets.small_student, nets.paper_student):
        assert f"{sum(p.numel() for p in make(7).parameters()):,}" in README


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_those_of_the_results(page):
    for name, table in re.findall(r"(?s)<!-- (results/\S+\.md) -->\n(.*?)<!-- end -->", PAGES[page]):
        assert table.strip() in (ROOT / name).read_text(encoding="utf-8"), name


MEASURED = re.compile(
    r"(?<![\w.,/-])(\d[\d,]*(?:\.\d+)?)(?: ± [\d.]+)?[ -]?"
    r"(?:%|k\b|thousand|million|ms\b|MiB|GiB|MB|GB|s\b|seconds?|minutes?|hours?|times\b|images|steps)"
)
SETTINGS = {  # sections whose numbers were chosen, by the paper or by us, or are made up
    ("README.md", "Where we differ"),
    ("docs/differences.md", "The tasks"),
    ("docs/differences.md", "The student and its training"),
    ("docs/own_task.md", "What goes wrong"),
    ("docs/workers.md", "Several machines"),
}


def unsupported_numbers(text, tables):
    """Heading and numbers of every section that tells what no table has and no command in the section makes."""
    shown = re.sub(r"(?s)<!-- results/\S+ -->.*?<!-- end -->", "", text)
    first, *rest = re.split(r"(?m)^#{2,} (.*)$", shown)
    for heading, body in (("", first), *zip(rest[::2], rest[1::2])):
        numbers = MEASURED.findall(re.sub(r"(?ms)^```.*?^```|`[^`\n]*`", "", body))
        missing = [n for n in numbers if not re.search(rf"(?<![\d.,]){re.escape(n)}(?![\d.,]*\d)", tables)]
        if missing and not any("python " in piece for piece in code(body)):
            yield heading, missing


@pytest.mark.parametrize("page", PAGES)
def test_a_measured_number_is_a_tables_or_has_its_command_beside_it(page):
    tables = "\n".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("results/**/*.md")))
    found = dict(unsupported_numbers(PAGES[page], tables))
    assert {heading: numbers for heading, numbers in found.items() if (page, heading) not in SETTINGS} == {}


def test_a_number_from_nowhere_is_found():
    page = "# Page\n\n## Here\nIt takes 12 minutes and has 97.3 ± 1 %.\n\n## There\nIt has 5 %.\n"
    assert list(unsupported_numbers(page, "| 5 % |")) == [("Here", ["12", "97.3"])]
    assert list(unsupported_numbers(page, "| 12 | 197.3 | 5 |")) == [("Here", ["97.3"])]
    assert list(unsupported_numbers(page.replace("It takes", "`python it.py` takes"), "5")) == []
    table = "<!-- results/a.md -->\n97 %\n<!-- end -->\n"
    assert list(unsupported_numbers(table + "```sh\nsleep 12 minutes\n```\n", "")) == []


def test_every_metric_is_explained():
    told = PAGES["docs/metrics.md"]
    names = ["iteration", "steps", "lambda", "return", "success", "length", "steps_per_second"]
    names += train.COLUMNS
    names += [f"llm/{name}" for name in Endpoint("http://127.0.0.1:8000/v1", "NAME").bill]
    assert [name for name in names if f"`{name}`" not in told] == []


def test_the_citation_is_the_readmes():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert "cff-version: 1.2.0" in citation
    title, authors = (re.search(rf"{field} += {{(.*)}}", README)[1] for field in ("title", "author"))
    assert f'title: "{title}"' in citation
    for author in authors.split(" and "):
        family, given = author.split(", ")
        assert re.search(rf"given-names: {given}\n +family-names: {family}\n", citation), author
