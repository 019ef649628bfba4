"""The planned runs are ones that train.py accepts, and a faulty book is wrong as often as its name says."""

import random
from pathlib import Path

import numpy as np
import pytest

import reproduce
from evidence.plan import BUDGETS, flip, main_groups, plan_runs, withhold, write_faulty_book
from evidence.runs import flags
from harness.config import parse
from teacher import RecordedReplies, read_replies

BOOK = Path(__file__).parent.parent.parent / "replies" / "SimpleDoorKey.jsonl"


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
def test_every_planned_run_is_one_that_train_takes(budget):
    for target in reproduce.TARGETS.values():
        for run in plan_runs(target.groups(budget, Path("/books")), budget):
            assert "{" not in run.settings.get("replies", "")
            assert vars(parse(flags(run.settings))) == run.settings


def test_full_is_the_papers_protocol():
    runs = plan_runs(main_groups(BUDGETS["full"], Path()), BUDGETS["full"])
    taught = [run.settings for run in runs if run.group == "LavaDoorKey-llm4teach"]
    assert [settings["seed"] for settings in taught] == [0, 1, 2, 3, 4]
    paper = {"i1": 1000, "i2": 2000, "num_trajectories": 10, "minibatch_size": 128, "episodes": 1000}
    assert paper.items() <= taught[0].items()
    assert sum(run.group == "LavaDoorKey-ppo" for run in runs) == 3


def test_seeds_overrule_the_budget():
    runs = plan_runs(main_groups(BUDGETS["full"], Path()), BUDGETS["full"], seeds=2)
    assert len(runs) == 2 * 16


def test_flipped_answers():
    book = read_replies(BOOK)

    def wrong(share):
        answers = [(state, *plans) for state, plans in flip(book, share, random.Random(0))]
        assert len(answers) == 10 * len(book)
        return np.mean([plan not in book[state] for state, plan in answers])

    assert wrong(0.0) == 0.0
    assert 0.3 < wrong(0.5) < 0.7
    assert wrong(1.0) == 1.0


@pytest.mark.parametrize("count", [0, 2, 6])
def test_withheld_answers(count):
    replies = RecordedReplies(BOOK)
    book = dict(withhold(replies, count))
    answered = [state for state, plans in book.items() if plans == replies.book[state]]
    assert set(book) == set(replies.book)
    assert answered == list(book)[:count]
    assert all(book[state] == {"(not a plan)": 1.0} for state in list(book)[count:])
    assert not count or answered[0] == "The agent observes nothing, and holds nothing."


@pytest.mark.parametrize("name", ["flipped-50-seed1", "questions-2"])
def test_a_faulty_book_can_be_read(name, tmp_path):
    write_faulty_book(tmp_path / f"{name}.jsonl")
    assert set(read_replies(tmp_path / f"{name}.jsonl")) == set(read_replies(BOOK))
