"""A table is shown wherever a page has its marker."""

from evidence.pages import write_table

PAGE = "Before.\n<!-- results/a.md -->\n{}<!-- end -->\nAfter. <!-- end -->\n"


def test_every_page_that_shows_a_table_is_brought_up_to_date(tmp_path):
    (tmp_path / "docs").mkdir()
    pages = {"README.md": PAGE, "docs/twice.md": PAGE + PAGE, "docs/never.md": "Nothing.\n", "docs/other.txt": PAGE}
    for name, text in pages.items():
        (tmp_path / name).write_text(text.format("old\n", "old\n"))
    for name in ("a", "b"):
        write_table(tmp_path / "results" / f"{name}.md", "Heading", f"{name} \\1\n", root=tmp_path)
    assert (tmp_path / "results" / "b.md").read_text() == "Heading\n\nb \\1\n"
    for name, text in pages.items():
        shown = "a \\1\n" if name.endswith(".md") else "old\n"
        assert (tmp_path / name).read_text() == text.format(shown, shown)


def test_a_marker_without_an_end_spoils_nothing(tmp_path):
    text = "<!-- results/a.md -->\nBetween.\n<!-- results/b.md -->\nold\n<!-- end -->\n"
    (tmp_path / "README.md").write_text(text)
    write_table(tmp_path / "results" / "a.md", "Heading", "a\n", root=tmp_path)
    assert (tmp_path / "README.md").read_text() == text
