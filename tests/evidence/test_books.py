"""A faulty book is wrong, or silent, as often as its name says, and always the same."""

import random
from pathlib import Path

import numpy as np
import pytest

from evidence import books
from harness.cli import InputError
from teacher import NO_PLAN, read_replies

BOOK = read_replies(Path(__file__).parent.parent.parent / "replies" / "SimpleDoorKey.jsonl")


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.5, 0.3, 0.7), (1.0, 1, 1)])
def test_flipped_answers(share, least, most):
    answers = [(state, *plans) for state, plans in books.flip(BOOK, share, random.Random(0))]
    assert len(answers) == 10 * len(BOOK)
    assert least <= np.mean([plan not in BOOK[state] for state, plan in answers]) <= most


@pytest.mark.parametrize("count", [0, 2, 6, 99])
def test_withheld_answers(count):
    book = dict(books.withhold(BOOK, count, random.Random(1)))
    assert set(book) == set(BOOK)
    answered = [state for state in book if book[state] == BOOK[state]]
    assert len(answered) == min(count, len(BOOK))
    assert all(book[state] == {NO_PLAN: 1.0} for state in book if state not in answered)


def test_the_same_name_makes_the_same_book(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(books, "BOOKS", tmp_path / "books")
    books.main(["flipped-50-1", "questions-2-0"])
    names = [Path(line).name for line in capsys.readouterr().out.split()]
    assert names == ["flipped-50-1.jsonl", "questions-2-0.jsonl"]
    first = (tmp_path / "books" / "flipped-50-1.jsonl").read_bytes()
    books.write_faulty_book(tmp_path / "flipped-50-1.jsonl")
    books.write_faulty_book(tmp_path / "flipped-50-2.jsonl")
    assert (tmp_path / "flipped-50-1.jsonl").read_bytes() == first
    assert (tmp_path / "flipped-50-2.jsonl").read_bytes() != first
    assert set(read_replies(tmp_path / "flipped-50-2.jsonl")) == set(BOOK)


@pytest.mark.parametrize("name", ["flipped-50", "questions-x-0", "../flipped-1-1x"])
def test_another_name_is_refused(name, tmp_path):
    with pytest.raises(InputError, match="is not the name of a book"):
        books.write_faulty_book(tmp_path / f"{name}.jsonl")
