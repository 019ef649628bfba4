"""Reply books of faulty teachers, made from the recorded one: wrong answers, or answers to a few questions only.

    python -m evidence.books flipped-50-3      # runs/books/flipped-50-3.jsonl: half of the answers wrong, seed 3
    python -m evidence.books questions-2-0     # answers to two questions, drawn with seed 0

The same name always makes the same book. `reproduce.py robustness` trains with them.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from evidence.plan import BOOKS, FAULTY, ROOT
from harness.cli import InputError, Parser, errors_in_one_line
from harness.files import atomically
from teacher import NO_PLAN, Shares, read_replies


def write_faulty_book(path: Path) -> None:
    """Write the book `flipped-PERCENT-SEED.jsonl` or `questions-COUNT-SEED.jsonl`; raises InputError."""
    named = re.fullmatch(r"(flipped|questions)-(\d+)-(\d+)", path.stem)
    if not named:
        raise InputError(f"{path.stem} is not the name of a book; one is flipped-PERCENT-SEED or questions-COUNT-SEED")
    recorded = read_replies(ROOT / "replies" / f"{FAULTY}.jsonl")
    number, rng = int(named[2]), random.Random(int(named[3]))
    answers = flip(recorded, number / 100, rng) if named[1] == "flipped" else withhold(recorded, number, rng)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomically(path) as part:
        part.write_text("".join(json.dumps({"state": state, "plans": plans}) + "\n" for state, plans in answers))


def flip(book: dict[str, Shares], share: float, rng: random.Random) -> Iterator[tuple[str, Shares]]:
    """Yield ten answers for each state, drawn from its recorded ones; each is wrong with probability `share`.

    A wrong answer is an option that no recorded answer for the state begins with: explore, or go to, pick up, drop
    or open something that the state text names.
    """
    for state, shares in book.items():
        right = {recorded.split(", ")[0] for recorded in shares}
        things = re.findall(r"\w+ (?:key|door)", state)
        wrong = ["explore", *(f"{verb} {thing}" for thing in things for verb in ("go to", "pick up", "drop", "open"))]
        wrong = [option for option in wrong if option not in right] or [NO_PLAN]
        for answer in rng.choices(list(shares), list(shares.values()), k=10):
            yield state, {rng.choice(wrong) if rng.random() < share else answer: 1.0}


def withhold(book: dict[str, Shares], count: int, rng: random.Random) -> Iterator[tuple[str, Shares]]:
    """Yield the recorded answers to `count` questions, drawn at random; none of the others has a plan."""
    answered = rng.sample(list(book), min(count, len(book)))
    for state, shares in book.items():
        yield state, shares if state in answered else {NO_PLAN: 1.0}


@errors_in_one_line("evidence.books")
def main(arguments: Sequence[str] | None = None) -> None:
    """Write the books that are named."""
    parser = Parser(prog="-m evidence.books", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME", help="flipped-PERCENT-SEED or questions-COUNT-SEED")
    for name in parser.parse_args(arguments).names:
        write_faulty_book(BOOKS / f"{name}.jsonl")
        print(BOOKS / f"{name}.jsonl")


if __name__ == "__main__":
    main()
