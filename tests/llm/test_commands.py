"""The commands of teacher.py: show, check, record, ask, score, reread."""

import json
import re
from pathlib import Path

import pytest

from llm.commands import main
from teacher import NO_PLAN, read_records, read_replies
from tests.llm.server import ANSWER, KEY, MODES, PLAN, STATE

REPLIES = Path(__file__).parents[2] / "replies"


def live(server, tmp_path, *more):
    return ["--teacher-url", server.url, "--teacher-model", "m", "--replies", str(tmp_path / "book.jsonl"), *more]


def test_record_asks_for_every_state_of_a_task_once(serve, tmp_path, capsys):
    server = serve(answers=(ANSWER, "Decision: sing"))
    command = ["record", "--env", "LavaDoorKey", *live(server, tmp_path, "--teacher-samples", "4"),
               "--teacher-prompt-price", "1000"]  # fmt: skip
    main(command)
    table = capsys.readouterr().out
    states = read_replies(REPLIES / "LavaDoorKey.jsonl")
    assert set(read_replies(tmp_path / "book.jsonl")) == set(states)
    assert len(server.bodies) == 4 * len(states) == 24
    for row in ("states +6", "requests +24", "prompt tokens +168", "completion tokens +72", r"cost +0\.168",
                r"seconds waited +\d", "12 of 24 answers were understood", "training will suffer: 50%"):  # fmt: skip
        assert re.search(row, table), table
    main(command)
    assert len(server.bodies) == 24
    assert re.search("requests +0", capsys.readouterr().out)


@pytest.mark.parametrize("mode", MODES)
def test_ask_shows_prompt_answers_and_shares(serve, tmp_path, capsys, mode):
    state = "The agent observes a green key, and holds nothing."
    main(["ask", state, *live(serve(), tmp_path, "--teacher-mode", mode, "--teacher-samples", "2")])
    shown = capsys.readouterr().out
    assert f"State: {STATE}" in shown  # green is the first colour, red
    assert shown.count("--- answer") == {"soft": 2, "hard": 1, "logprobs": 2}[mode]
    assert re.search(rf"{STATE}\n(.*\n)* +\d+\.0%  {PLAN}", shown.split("---")[-1])


def test_score_hand_worked(tmp_path, capsys):
    states = list(read_replies(REPLIES / "SimpleDoorKey.jsonl"))
    for name, plans in (("ours", {"explore": 0.5, "go to red key, open red door": 0.25, "drop red key": 0.25}),
                        ("theirs", {"go to red key": 0.75, "explore": 0.25})):  # fmt: skip
        lines = [json.dumps({"state": state, "plans": plans}) for state in states]
        (tmp_path / name).write_text("\n".join(lines))
    main(["score", "--env", "SimpleDoorKey", str(tmp_path / "ours"), str(tmp_path / "theirs")])
    shown = capsys.readouterr().out.splitlines()
    assert re.match(r" 50% explore +75% go to red key +50%  The agent", shown[1])  # min(1/2, 1/4) + min(1/4, 3/4)
    assert shown[-1] == "6 states: the same option first in 0, 50% in common"
    main(["score", "--env", "SimpleDoorKey", str(REPLIES / "SimpleDoorKey.jsonl")])
    assert "the same option first in 6, 100% in common" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["show", "nowhere.jsonl"], "nowhere.jsonl"),
        (["score", "--env", "ColoredDoorKey", str(REPLIES / "LavaDoorKey.jsonl")], "lacks 8 states"),
        (["score", "--env", "Elsewhere", "b"], "choose from"),
        (["record", "--env", "LavaDoorKey"], "give --teacher-url, --teacher-model"),
        (["record", "--env", "LavaDoorKey", "--teacher-url", "nonsense", "--teacher-model", "m"], "must look like"),
        (
            ["ask", STATE, "--teacher-url", "http://h/v1", "--teacher-model", "m", "--teacher-samples", "0"],
            "from 2 to 1000",
        ),
        (["ask", STATE, "--teacher-url", "http://h/v1", "--teacher-model", "m", "--replies", "."], "directory"),
        (["sing"], "sing"),
    ],
)
def test_bad_input_ends_in_one_line(command, says, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(command)
    lines = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert len(lines) == 1
    assert says in lines[0]


def test_record_ends_in_one_line_and_keeps_what_came(serve, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = serve()
    with pytest.raises(SystemExit) as stopped:
        main(["record", "--env", "LavaDoorKey", *live(server, tmp_path, "--teacher-max-requests", "5")])
    assert stopped.value.code == 2
    assert "5 requests were made" in capfd.readouterr().err.splitlines()[-1]
    assert len(read_records(tmp_path / "book.jsonl")) == server.answered == 5
    server.faults, server.share = ("500",), 1.0
    with pytest.raises(SystemExit):
        main(["record", "--env", "LavaDoorKey", *live(server, tmp_path)])
    assert KEY not in "".join(capfd.readouterr())
    assert len(read_records(tmp_path / "book.jsonl")) == 5


def test_record_asks_for_the_states_in_a_file(serve, tmp_path, capsys):
    server = serve()
    states = tmp_path / "unknown_states.jsonl"
    states.write_text("".join(json.dumps({"state": state}) + "\n" for state in ("one", "two", "one")))
    main(["record", "--env", "LavaDoorKey", "--states", str(states), *live(server, tmp_path, "--teacher-samples", "2")])
    assert re.search("states +2", capsys.readouterr().out)
    assert set(read_replies(tmp_path / "book.jsonl")) == {"one", "two"}


@pytest.mark.parametrize(
    ("text", "says"),
    [(None, "FileNotFoundError"), ("", "holds no state texts"), ('{"plans": {}}', "KeyError"), ("[1]", "TypeError"),
     ('{"state": 3}', "holds no state texts"), ("nonsense", "JSONDecodeError")],
)  # fmt: skip
def test_a_file_that_holds_no_states(tmp_path, capsys, text, says):
    path = tmp_path / "states.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SystemExit) as stopped:
        main(["record", "--env", "LavaDoorKey", "--states", str(path), "--teacher-url", "http://h/v1",
              "--teacher-model", "m"])  # fmt: skip
    (line,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert says in line


def checked(server, tmp_path, capsys, *more):
    """Run check, and return its exit code and what it printed."""
    try:
        main(["check", "--env", "LavaDoorKey", *live(server, tmp_path, *more)])
        code = 0
    except SystemExit as stopped:
        code = stopped.code
    return code, "".join(capsys.readouterr())


@pytest.mark.parametrize("mode", MODES)
def test_check_says_that_a_run_would_work_and_what_it_would_take(serve, tmp_path, capsys, mode):
    server = serve(message={"reasoning": "Hm."}, letters={"A": -0.01, "B": -4.7})
    code, said = checked(server, tmp_path, capsys, "--teacher-mode", mode, "--teacher-prompt-price", "1000")
    assert not (tmp_path / "book.jsonl").exists()  # a run begins with a book of its own
    states = len(read_replies(REPLIES / "LavaDoorKey.jsonl"))
    requests = {"soft": 10 * states, "hard": states}.get(mode)
    if requests:
        assert code == 0, said
        assert f"{states}: {requests} requests, {7 * requests} prompt and {3 * requests} completion tokens" in said
        assert f"cost {7 * requests / 1000:.4g}" in said
        assert "thoughts       18 characters" in said  # with the marks around them
        assert "a run would work" in said
    else:  # always A: a bias and no preference
        assert code == 1
        assert "hardly better than chance" in said
    assert "2 of the first token" in said


@pytest.mark.parametrize(
    ("settings", "code", "says"),
    [
        ({"answers": (ANSWER, "Decision: sing")}, 1, r"understood; one that was not: 'Decision: sing'(.*\n)*.*suffer"),
        ({"room": 10**6}, 1, r"all answers were cut off at the token limit"),
        ({"letters": None}, 0, r"log-probs +none: .* gives no log-probabilities"),
        ({"refuses": {"temperature": 0}}, 0, r"not accepted .*temperature"),
        ({"most": 5}, 0, r"6: 6 requests, 42 prompt"),
        ({"faults": ("401",), "share": 1.0}, 2, r"refused model 'm'"),
    ],
)
def test_check_says_what_is_wrong(serve, tmp_path, capsys, settings, code, says):
    found, said = checked(serve(**settings), tmp_path, capsys)
    assert found == code, said
    assert re.search(says, said), said


def test_check_names_the_nearest_models(serve, tmp_path, capsys):
    server = serve()
    server.models = json.dumps({"data": [{"id": name} for name in ("qwen3-8b", "m2", "unlike")]})
    _, said = checked(server, tmp_path, capsys)
    assert re.search(r"model +m, not in the endpoint's list of models, where the nearest are: m2", said)
    server.models = server.models.replace("unlike", "m")
    assert "m, in the endpoint's list of models" in checked(server, tmp_path, capsys)[1]


def test_reread_shows_what_changes_and_writes_a_new_book(tmp_path, capsys):
    record = {"state": STATE, "plans": {PLAN: 1.0}, "answer": ANSWER, "sample": 0}
    cut = {**record, "answer": f"<think>Decision: {PLAN}", "sample": 1}
    by_hand = {"state": STATE, "plans": {"explore": 1.0}}
    book, new = tmp_path / "book.jsonl", tmp_path / "new.jsonl"
    book.write_text("".join(json.dumps(line) + "\n" for line in (record, cut, by_hand)))
    before = book.read_bytes()
    main(["reread", str(book), "--write", str(new)])
    said = capsys.readouterr().out
    assert "1 of 3 answers are understood differently" in said
    assert "<think>Decision" in said
    assert book.read_bytes() == before
    assert read_records(new) == [record, {**cut, "plans": {NO_PLAN: 1.0}}, by_hand]
    with pytest.raises(SystemExit) as stopped:
        main(["reread", str(book), "--write", str(new)])
    assert stopped.value.code == 2
    assert "stays as it is" in capsys.readouterr().err
