"""The commands behind `python teacher.py`: show, record, ask, score."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from harness.cli import InputError, Parser, errors_in_one_line
from harness.config import Config, configure
from harness.task import Task, open_task
from llm.answers import judge_letters
from llm.endpoint import LLMError
from llm.query import make_live_replies
from llm.replies import LiveReplies
from teacher import MODES, NO_PLAN, Shares, read_records, read_replies, show


def positive(text: str) -> int:
    """Read a number of at least one from the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def first_options(plans: Shares) -> Shares:
    """Return the share of each option that a plan begins with: what acts when nothing is finished."""
    firsts: Counter[str] = Counter()
    for plan, share in plans.items():
        firsts[plan.split(",")[0]] += share
    return firsts


def score(book: dict[str, Shares], reference: dict[str, Shares]) -> None:
    """Print two books state by state: the option that each begins with most often, and how much they have in common.

    common = sum_k min(p_k, q_k), 1 where the shares p and q of the first options are the same, 0 if they share none.
    """
    agreed, total = 0, 0.0
    print(f"{'book':26}{'reference':26}common  state")
    for state, plans in reference.items():
        ours, theirs = first_options(book[state]), first_options(plans)
        common = sum(min(ours[option], theirs[option]) for option in ours)
        best = [max(shares, key=lambda option: shares[option]) for shares in (ours, theirs)]
        tops = [f"{shares[option]:4.0%} {option}" for shares, option in zip((ours, theirs), best)]
        print(f"{tops[0]:26}{tops[1]:26}{common:6.0%}  {state}")
        agreed, total = agreed + (best[0] == best[1]), total + common
    print(f"{len(reference)} states: the same option first in {agreed}, {total / len(reference):.0%} in common")


def ask(replies: LiveReplies, state: str) -> None:
    """Query the LLM about one state and print prompt, raw answers, plans and shares."""
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


def record(replies: LiveReplies, states: Sequence[str]) -> None:
    """Query the LLM about all the states, with a progress bar, and print what it took."""
    from tqdm import tqdm

    with tqdm(total=len(replies.missing(states)), unit=" answers") as bar:
        replies.fill(states, bar.update)
    records = [record for record in read_records(replies.path) if record["state"] in states]
    paid = replies.statistics()
    names = ("requests", "prompt tokens", "completion tokens", "seconds waited")
    rows = {"states": len(states), **{name: paid[name] for name in names}}
    if any(replies.endpoint.prices):
        rows["cost"] = paid["cost"]
    rows["share unparsable"] = sum(NO_PLAN in record["plans"] for record in records) / len(records)
    for name, number in rows.items():
        print(f"{name:18}{number:12,.4g}" if isinstance(number, float) else f"{name:18}{number:12,}")
    print(f"of the {len(records)} answers on these states in {replies.path}")
    if replies.mode == "logprobs":
        print(judge_letters(records, replies.prompt.rotated_plans))


def read_states(path: str) -> list[str]:
    """Read state texts, JSON lines {"state": text} as a run leaves them; raises InputError."""
    try:
        lines = [json.loads(line) for line in Path(path).read_text().splitlines() if line.strip()]
        states = [line["state"] for line in lines]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f'--states is {path}: {error!r}; give JSON lines such as {{"state": "..."}}') from None
    if not states or not all(isinstance(state, str) for state in states):
        raise InputError(
            f"--states is {path}, which holds no state texts; a run with --unknown-state leaves such a file"
        )
    return list(dict.fromkeys(states))


def make_parser() -> Parser:
    """Return the parser of all commands."""
    import teacher

    parser = Parser(
        prog="teacher.py", description=teacher.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", title="commands", metavar="{show,record,ask,score}", required=True)
    shower = commands.add_parser("show", help="print a reply book")
    shower.add_argument("book", nargs="?", help="by default that of our first task")
    recorder = commands.add_parser("record", help="query for every state text that a task can reach")
    asker = commands.add_parser("ask", help="query about one state text; shows prompt, answers, plans and shares")
    asker.add_argument("state", help="as the task describes it")
    scorer = commands.add_parser("score", help="compare two reply books state by state")
    scorer.add_argument("book")
    scorer.add_argument("reference", nargs="?", help="by default the book that the task brings")
    recorder.add_argument("--states", help="file of state texts, JSON lines; by default all that the task can list")
    for command in (recorder, asker, scorer):
        command.add_argument(
            "--env", required=command is not asker, default=Config.env, help="the task whose states are meant"
        )
    for command in (recorder, asker):
        command.add_argument("--teacher-url", required=True, help="OpenAI-compatible endpoint, http://.../v1")
        command.add_argument("--teacher-model", required=True)
        command.add_argument("--teacher-mode", choices=MODES, default="soft")
        command.add_argument("--teacher-key-env", default="OPENAI_API_KEY", help="environment variable with its key")
        command.add_argument("--teacher-samples", type=positive, default=10, help="answers per state in mode soft")
        command.add_argument("--teacher-temperature", type=float, default=0.7, help="of mode soft")
        command.add_argument(
            "--teacher-examples", type=int, choices=range(6), default=5, help="most examples in the prompt"
        )
        command.add_argument("--teacher-workers", type=positive, default=4, help="requests at a time")
        command.add_argument("--teacher-max-requests", type=int, default=0, help="retries included; 0: no limit")
        command.add_argument("--teacher-prompt-price", type=float, default=0.0, help="of a million prompt tokens")
        command.add_argument(
            "--teacher-completion-price", type=float, default=0.0, help="of a million tokens of answers"
        )
        command.add_argument(
            "--replies", help="the book; by default MODEL-MODE.jsonl in the folder replies/ beside the task's file"
        )  # fmt: skip
    return parser


def compare(given: Any, task: Task) -> None:
    """Score a book beside a reference on the states of the task's own book; raises OSError or ValueError."""
    states = list(task.states())
    books = []
    for path in (given.book, given.reference or task.book):
        book = read_replies(path)
        lacks = [state for state in states if state not in book]
        if lacks:
            raise ValueError(f"{path} lacks {len(lacks)} states of {given.env}, the first is {lacks[0]!r}")
        books.append({state: book[state] for state in states})
    score(*books)


def main(arguments: Sequence[str] | None = None) -> None:
    """Show, record, ask or score."""
    with errors_in_one_line("teacher.py"):
        given = make_parser().parse_args(arguments)
        try:
            names = {f.name for f in fields(Config)}
            settings = {name: value for name, value in vars(given).items() if name in names and value is not None}
            task = open_task(configure(settings))
            if given.command == "show":
                show(read_replies(given.book or task.book))
            elif given.command == "score":
                compare(given, task)
            elif given.command == "ask":
                ask(make_live_replies(task), task.canonicalize(given.state)[0])
            else:
                states = read_states(given.states) if given.states else task.states()
                record(make_live_replies(task), states)
        except (OSError, ValueError, LLMError) as error:
            raise InputError(str(error)) from None
        except KeyboardInterrupt:
            print("teacher.py: stopped; the answers that came are kept, the same command goes on", file=sys.stderr)
            raise SystemExit(130) from None


if __name__ == "__main__":
    main()
