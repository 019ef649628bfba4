"""The paper's claims, judged by rows of runs.csv."""

import pytest

from evidence.claims import claims_table, judge, judge_claims
from evidence.measure import write_rows


@pytest.mark.parametrize(
    ("ends", "outcome"), [((0.1, 0.2), "confirmed"), ((-0.2, -0.1), "refuted"), ((-1, 1), "unclear")]
)
def test_judge(ends, outcome):
    assert judge(*ends) == outcome


def test_claims_follow_the_numbers(make_row):
    def outcomes(ours, theirs):
        taught, plain = "LavaDoorKey-llm4teach", "LavaDoorKey-ppo"
        rows = [make_row(taught, seed=s, success=1.0, **{"return": ours + s / 1000}) for s in range(3)]
        rows += [make_row(plain, seed=s, success=0.9 + s / 100, **{"return": theirs - s / 1000}) for s in range(3)]
        return {claim: outcome for _, claim, _, outcome, _ in judge_claims(rows)}

    better, worse = outcomes(0.8, 0.5), outcomes(0.5, 0.8)
    assert better["LLM4Teach ends above ppo"] == "confirmed"
    assert worse["LLM4Teach ends above ppo"] == "refuted"
    assert better["baseline RL struggles: success below 50 %"] == "refuted"


def test_a_run_that_never_learns_counts_with_all_its_steps(make_row):
    taught, plain = "LavaDoorKey-llm4teach", "LavaDoorKey-ppo"
    rows = [make_row(taught, seed=s, success=1, steps_to_90=89.5e3 + 1e3 * s, **{"return": 1}) for s in range(2)]
    rows += [make_row(plain, seed=s, success=0, **{"return": 0}) for s in range(2)]
    outcome = ["LavaDoorKey", "confirmed", "90 ± 6k against never"]
    assert ["4.1.2", "LLM4Teach learns in fewer steps than ppo", *outcome] in judge_claims(rows)


def test_a_student_is_compared_with_its_faulty_teacher(make_row):
    group = "SimpleDoorKey-flipped-75"
    rows = [
        {**make_row(group, seed=s, success=0.9 + s / 100, teacher_success=0.5), "env": "SimpleDoorKey", "return": 0.0}
        for s in range(2)
    ]
    claim = "the student passes a teacher with 75 % wrong answers"
    numbers = "90.5 ± 6.4 % against 50.0 ± 0.0 %"
    assert ["4.1.2", claim, "SimpleDoorKey", "confirmed", numbers] in judge_claims(rows)


def test_the_full_budget_has_the_last_word(tmp_path, make_row):
    for budget, tasks in (("quick", ("LavaDoorKey", "ColoredDoorKey")), ("full", ("ColoredDoorKey",))):
        success = {"quick": 0.2, "full": 0.9}[budget]
        rows = [make_row(f"{task}-ppo", run=f"{task}-{s}", seed=s, success=success) for task in tasks for s in range(2)]
        (tmp_path / budget).mkdir()
        write_rows([{**row, "return": 0.0} for row in rows], tmp_path / budget / "runs.csv")
    lines = [line.strip("| ").split(" | ") for line in claims_table(tmp_path).splitlines()[2:]]
    assert [(task, outcome, budget) for _, _, task, outcome, _, budget in lines] == [
        ("LavaDoorKey", "confirmed", "quick"),
        ("ColoredDoorKey", "refuted", "full"),
    ]
