"""Every kind of figure is drawn, also from a single seed and from runs that never reach 90 %."""

import pytest
from PIL import Image

from evidence.draw import draw_fig3, draw_groups, draw_numbers
from evidence.plan import METHODS, TASKS

MODES = ("hard", "soft", "logprobs")


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize(
    ("draw", "groups"),
    [
        (draw_fig3, [f"{task}-{method}" for task in TASKS for method in METHODS]),
        (draw_groups, [f"DivergedDoorKey-{mode}" for mode in MODES]),
        (draw_numbers, [f"SimpleDoorKey-questions-{n}" for n in (0, 2)]),
    ],
    ids=["fig3", "groups", "numbers"],
)
def test_a_figure_is_drawn(draw, groups, seeds, tmp_path, make_run):
    rows, folders = [], {}
    for group in groups:
        for seed in range(seeds):
            folder = make_run(tmp_path / f"{group}-{seed}", [0.0, 0.5, 1.0])
            folders.setdefault(group, []).append(folder)
            numbers = {"success": 0.5 + seed / 10, "return": 0.4, "teacher_success": 0.3}
            row = {"group": group, "env": group.split("-")[0], "seed": seed, **numbers}
            rows.append({**row, "steps_to_90": 300 if group.endswith("2") else ""})
    draw(tmp_path / "figure.png", rows, folders)
    with Image.open(tmp_path / "figure.png") as figure:
        assert min(figure.size) > 300
