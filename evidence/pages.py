"""Write tables below their headings, and bring the pages up to date that show them; for reproduce.py."""

from __future__ import annotations

import os
import re
from pathlib import Path

from evidence.plan import ROOT
from harness.files import atomically


def write_table(path: Path, heading: str, text: str, root: Path = ROOT) -> None:
    """Write a table below its heading, and bring README.md and docs/*.md up to date wherever they show it.

    A page shows a table between two lines, <!-- results/default/table3.md --> and <!-- end -->, any number of times.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomically(path) as part:
        part.write_text(f"{heading}\n\n{text}", encoding="utf-8")
    marker = f"<!-- {Path(os.path.relpath(path, root)).as_posix()} -->\n"
    shown = re.compile(re.escape(marker) + r"(?:(?!<!-- ).)*(?=<!-- end -->)", re.DOTALL)  # not past another marker
    for page in (*root.glob("README.md"), *root.glob("docs/*.md")):
        before = page.read_text(encoding="utf-8")
        after = shown.sub(lambda _: marker + text, before)
        if after != before:
            with atomically(page) as part:
                part.write_text(after, encoding="utf-8")
