"""Every kind of figure is drawn, also from few seeds and runs that never learn; the same runs give the same bytes."""

import numpy as np
import pytest
from PIL import Image

import reproduce
from evidence import draw
from evidence.draw import align_curves
from evidence.plan import BUDGETS
from evidence.tables import Cells


@pytest.mark.parametrize(
    ("name", "seeds"),
    [
        *(("fig3", 2), ("fig3", 5), ("fig4", 5), ("fig6", 2), ("fig7", 5)),  # all are draw_curves
        *(("aggregate", 2), ("aggregate", 5), ("robustness", 2), ("robustness", 5)),
    ],
)
def test_a_figure_is_drawn(name, seeds, tmp_path, make_results):
    target, groups = reproduce.TARGETS[name], reproduce.groups_of(name, BUDGETS["default"])
    results = make_results(groups, seeds, learns_at=lambda group: 1e7 if group.arm == "ppo" else 5e4)
    target.draw(tmp_path / name, Cells(results, "default"), groups)
    assert (tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    with Image.open(tmp_path / f"{name}.png") as figure:
        assert figure.width == 1200
        assert figure.height > 500


@pytest.mark.parametrize(
    ("few", "enough", "thin", "bands"),
    [([], ["ppo", "uniform"], False, True), (["ppo", "uniform"], [], True, False), (["ppo"], ["uniform"], True, True)],
)
def test_the_note_in_a_picture_names_the_lines_that_are_in_it(
    few, enough, thin, bands, tmp_path, make_results, monkeypatch
):
    notes = []

    def open_figure(path, titles, note, *axes):
        notes.append(note)
        return open_truly(path, titles, note, *axes)

    open_truly = draw.open_figure
    monkeypatch.setattr(draw, "open_figure", open_figure)
    task = [group for group in reproduce.groups_of("fig3", BUDGETS["default"]) if group.task == "SimpleDoorKey"]
    make_results([group for group in task if group.arm in few], 2)
    results = make_results([group for group in task if group.arm in enough], 5)
    draw.draw_tasks(tmp_path / "fig3", Cells(results, "default"), task)
    assert ("thin lines: single seeds" in notes[0]) == thin
    assert ("interquartile mean" in notes[0]) == bands


@pytest.mark.parametrize("name", ["fig7", "aggregate", "robustness"])  # each way to draw
def test_the_same_runs_give_the_same_bytes(name, tmp_path, make_results):
    target, groups = reproduce.TARGETS[name], reproduce.groups_of(name, BUDGETS["default"])
    results = make_results(groups, 5)
    made = []
    for call in ("first", "second"):
        target.draw(tmp_path / call, Cells(results, "default"), groups)
        made.append([(tmp_path / f"{call}.{form}").read_bytes() for form in ("png", "pdf")])
    assert made[0] == made[1]


def test_curves_begin_where_all_have_begun_and_go_on_with_their_last_value():
    early = np.array([[100, 0.0, 0.0], [300, 0.5, 0.4]])
    late = np.array([[200, 0.0, 0.0], [400, 0.5, 0.4], [600, 0.9, 0.8]])
    steps, heights = align_curves([early, late], "success")
    assert (steps[0], steps[-1]) == (200, 600)
    assert heights[:, 0].tolist() == pytest.approx([0.2, 0.0])
    assert heights[:, -1].tolist() == pytest.approx([0.4, 0.8])
