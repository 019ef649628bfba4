"""The commands behind `python teacher.py`: show, check, record, ask, score, reread."""

from __future__ import annotations

if __name__ == "__main__":
    from harness import terminal

    terminal.prepare()

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Callable

from harness.cli import InputError, Parser, errors_in_one_line
from harness.config import Config, add_settings, check_settings, configure
from harness.files import read_text
from harness.task import Task, open_task
from llm.check import check
from llm.endpoint import LLMError
from llm.judge import summarize, warnings
from llm.prompts import Prompt
from llm.query import make_live_replies
from llm.replies import read_answer
from teacher import Shares, read_records, read_replies, show


def first_options(plans: Shares) -> Shares:
    """Return the share of each option that a plan begins with: what acts when nothing is finished."""
    firsts: Counter[str] = Counter()
    for plan, share in plans.items():
        firsts[plan.split(",")[0]] += share
    return firsts


def show_book(given: Any, task: Task) -> None:
    """Print every state of a book with its plans and shares."""
    show(read_replies(getattr(given, "book", task.book)))


def score(given: Any, task: Task) -> None:
    """Compare two books on the states of the task's own: what each begins with most often, and what they share.

    common = sum_k min(p_k, q_k), 1 where the shares p and q of the first options are the same, 0 if they share none.
    Raises OSError or ValueError where a book cannot be read or lacks a state.
    """
    states = list(task.states())
    books = []
    for path in (given.book, getattr(given, "reference", task.book)):
        book = read_replies(path)
        lacks = [state for state in states if state not in book]
        if lacks:
            raise ValueError(f"{path} lacks {len(lacks)} states of {task.config.env}, the first is {lacks[0]!r}")
        books.append(book)
    agreed, total = 0, 0.0
    print(f"{'book':26}{'reference':26}common  state")
    for state in states:
        ours, theirs = (first_options(book[state]) for book in books)
        common = sum(min(ours[option], theirs[option]) for option in ours)
        best = [max(shares, key=lambda option: shares[option]) for shares in (ours, theirs)]
        tops = [f"{shares[option]:4.0%} {option}" for shares, option in zip((ours, theirs), best)]
        print(f"{tops[0]:26}{tops[1]:26}{common:6.0%}  {state}")
        agreed, total = agreed + (best[0] == best[1]), total + common
    print(f"{len(states)} states: the same option first in {agreed}, {total / len(states):.0%} in common")


def ask(given: Any, task: Task) -> None:
    """Query the LLM about one state and print prompt, raw answers, plans and shares."""
    replies, state = make_live_replies(task), task.canonicalize(given.state)[0]
    shares = replies(state)
    letters = replies.mode == "logprobs"
    prompt, examples = replies.prompt, replies.examples
    for message in prompt.letters(state, 0, examples) if letters else prompt.stages(state, examples):
        print(f"--- {message['role']}\n{message['content']}\n")
    for record in read_records(replies.path):
        if record["state"] == state:
            plans = ", or ".join(f"{share:.0%} {plan}" for plan, share in record["plans"].items())
            print(f"--- answer {record['sample']}\n{record['answer']}\n=> {plans}\n")
    show({state: shares})


def record(given: Any, task: Task) -> None:
    """Query the LLM about all states, with a progress bar, and print what it took and what the answers are worth."""
    from tqdm import tqdm

    states = read_states(given.states) if "states" in given else task.states()
    replies = make_live_replies(task)
    with tqdm(total=len(replies.missing(states)), unit=" answers") as bar:
        replies.fill(states, bar.update)
    records = [record for record in read_records(replies.path) if record["state"] in states]
    paid = replies.statistics()
    names = ("requests", "prompt tokens", "completion tokens", "seconds waited")
    rows = {"states": len(states), **{name: paid[name] for name in names}}
    if any(replies.endpoint.prices):
        rows["cost"] = paid["cost"]
    for name, number in rows.items():
        print(f"{name:18}{number:12,.4g}" if isinstance(number, float) else f"{name:18}{number:12,}")
    print(f"on these states in {replies.path}:")
    print("\n".join([summarize(records), *warnings(records, replies.prompt).values()]))


def reread(given: Any, task: Task) -> None:
    """Give a book's raw answers to the parser of today, print what changes, and write a new book if one is named.

    Lines without a raw answer stay as they are. Raises InputError if the new book is there already.
    """
    prompt, lines, changed = Prompt.of(task), [], 0
    for record in read_records(given.book):
        plans = read_answer(record, prompt) if "answer" in record else record["plans"]
        if any(abs(plans.get(plan, 0) - record["plans"].get(plan, 0)) > 1e-6 for plan in {**plans, **record["plans"]}):
            changed += 1
            print(f"{record['state']}\n  answer {record['answer']!r}\n  was    {record['plans']}\n  now    {plans}")
        lines.append(json.dumps({**record, "plans": plans}) + "\n")
    print(f"{changed} of {len(lines)} answers are understood differently")
    if "write" in given:
        try:
            with open(given.write, "x") as file:
                file.write("".join(lines))
        except FileExistsError:
            raise InputError(f"{given.write} is there already and stays as it is; give --write another name") from None
        print(f"the new book is {given.write}")


def read_states(path: str) -> list[str]:
    """Read state texts, JSON lines {"state": text} as a run leaves them; raises InputError."""
    try:
        lines = [json.loads(line) for line in read_text(Path(path)).splitlines() if line.strip()]
        states = [line["state"] for line in lines]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f'--states is {path}: {error!r}; give JSON lines such as {{"state": "..."}}') from None
    if not states or not all(isinstance(state, str) for state in states):
        raise InputError(
            f"--states is {path}, which holds no state texts; a run with --unknown-state leaves such a file"
        )
    return list(dict.fromkeys(states))


def make_parser() -> Parser:
    """Return the parser of all commands; what it returns holds only what was given."""
    import teacher

    parser = Parser(
        prog="teacher.py", description=teacher.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", title="commands", required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[Any, Task], None], help: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=help, description=help, allow_abbrev=False, argument_default=argparse.SUPPRESS
        )
        command.set_defaults(run=run)
        command.add_argument("--env", help=f"the task whose states are meant (default: {Config.env})")
        return command

    add("show", show_book, "print a reply book").add_argument("book", nargs="?", help="by default the task's own")
    add("check", check, "ask a handful of questions before a run is paid for, and report what the endpoint can do")
    add("record", record, "query for every state text that a task can reach").add_argument(
        "--states", help="file of state texts, JSON lines; by default all that the task can list"
    )
    add("ask", ask, "query about one state text; shows prompt, answers, plans and shares").add_argument(
        "state", help="as the task describes it"
    )
    scorer = add("score", score, "compare two reply books state by state")
    scorer.add_argument("book")
    scorer.add_argument("reference", nargs="?", help="by default the book that the task brings")
    rereader = add("reread", reread, "give a book's raw answers to the parser of today, and show what changes")
    rereader.add_argument("book")
    rereader.add_argument("--write", metavar="NEW", help="a new book for the plans of today")
    of_the_llm = [f for f in fields(Config) if f.name == "replies" or f.name.startswith("teacher_")]
    for name in ("check", "record", "ask"):
        add_settings(commands.choices[name], of_the_llm, {})
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the commands."""
    with errors_in_one_line("teacher.py"):
        given = make_parser().parse_args(arguments)
        try:
            names = {f.name for f in fields(Config)}
            config = configure({name: value for name, value in vars(given).items() if name in names})
            check_settings(config)
            if given.command in ("check", "record", "ask") and (
                not config.teacher_url or config.teacher_mode == "uniform"
            ):
                raise InputError(
                    f"{given.command} queries an LLM; give --teacher-url, --teacher-model and a mode that asks"
                )
            given.run(given, open_task(config))
        except (OSError, ValueError, LLMError) as error:
            raise InputError(str(error)) from None
        except KeyboardInterrupt:
            print("teacher.py: stopped; the answers that came are kept, the same command goes on", file=sys.stderr)
            raise SystemExit(130) from None


if __name__ == "__main__":
    main()
