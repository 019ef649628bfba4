"""examples/first_steps.ipynb runs from top to bottom."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "first_steps.ipynb"
# Where a notebook would show a picture, it is opened.
DISPLAY = """
import sys, types
import matplotlib
import PIL.Image
matplotlib.use("Agg")
display = types.ModuleType("IPython.display")
display.Image = lambda filename, width=None: print("shown:", PIL.Image.open(filename).format)
sys.modules["IPython.display"] = display
"""


def test_the_notebook_is_small():
    assert NOTEBOOK.stat().st_size < 300_000


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    cells = [cell["source"] for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    script = tmp_path / "cells.py"
    script.write_text(DISPLAY + "\n".join("".join(lines) for lines in cells if not lines[0].startswith("%pip")) +
                      "\nprint('mixture adds up to', mixture.sum())\n")  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, cwd=NOTEBOOK.parent, timeout=500
    )
    assert done.returncode == 0, done.stderr
    assert re.findall(r"shown: (\w+)", done.stdout) == ["PNG", "GIF"]
    shown = re.findall(r'"(teacher \(llm-only\) .*?)\\n"', NOTEBOOK.read_text())
    assert len(shown) == 1
    assert shown[0] in done.stdout  # the student's numbers depend on the processor
    assert float(re.findall(r"mixture adds up to (\S+)", done.stdout)[0]) == pytest.approx(1)
