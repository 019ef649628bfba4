"""examples/first_steps.ipynb runs from top to bottom."""

import json
import sys
import types
from pathlib import Path

import matplotlib
import pytest
from PIL import Image

NOTEBOOK = Path(__file__).parents[2] / "examples" / "first_steps.ipynb"


def test_the_notebook_is_small():
    assert NOTEBOOK.stat().st_size < 100_000


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(monkeypatch):
    """Every cell is executed; where a notebook would show a picture, it is opened."""
    shown = []
    display = types.ModuleType("IPython.display")
    display.Image = lambda filename, width=None: shown.append(Image.open(filename).format)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.chdir(NOTEBOOK.parent)
    monkeypatch.syspath_prepend(str(NOTEBOOK.parents[1]))
    matplotlib.use("Agg")
    names = {}
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        if cell["cell_type"] == "code" and not cell["source"][0].startswith("%pip"):
            exec("".join(cell["source"]), names)
    assert shown == ["PNG", "GIF"]
    assert names["mixture"].sum() == pytest.approx(1)
