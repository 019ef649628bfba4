"""The paper's claims and our assertions, judged by results/."""

from evidence.claims import OWN, PAPER, assertions_table, claims_table, judge_claims
from evidence.plan import ARMS, BUDGETS, TASKS, doorkey, habitat_groups
from evidence.results import Results

GROUPS = [doorkey(task, arm) for task in TASKS for arm in ARMS]


def outcomes(results, claims=PAPER):
    return {(words, task, budget): outcome for _, words, task, budget, outcome, _ in judge_claims(results, claims)}


def test_claims_follow_the_numbers(make_results, tmp_path):
    words = "LLM4Teach is more sample-efficient than baseline RL"
    for ours, theirs, outcome in ((2e4, 1e5, "confirmed"), (1e5, 2e4, "refuted: higher")):
        arms = {"llm4teach": ours, "ppo": theirs}
        results = make_results(
            GROUPS, 5, learns_at=lambda g, arms=arms: arms.get(g.arm, 5e4), folder=tmp_path / outcome[:3]
        )
        assert outcomes(results)[words, "LavaDoorKey", "default"] == outcome
    struggles = outcomes(results)[
        "baseline RL struggles to complete tasks, even the simplest", "LavaDoorKey", "default"
    ]
    assert struggles == "refuted: higher"  # 98 % of the rooms


def test_a_method_that_never_learns_needs_more_steps(make_results):
    results = make_results(GROUPS, 5, learns_at=lambda group: 1e7 if group.arm == "ppo" else 5e4)
    words = "LLM4Teach is more sample-efficient than baseline RL"
    assert outcomes(results)[words, "LavaDoorKey", "default"] == "confirmed"


def test_few_seeds_are_no_verdict(make_results):
    assert set(outcomes(make_results(GROUPS, 4)).values()) == {"few seeds"}


def test_a_taught_student_is_compared_with_its_teacher_in_the_same_rooms(make_results):
    """Read the teacher's score from its students' runs: with learned options the LLM alone has no others."""
    taught = [group for group in habitat_groups(BUDGETS["default"]) if group.arm == "llm4teach"]
    words = "LLM4Teach succeeds more often than LLM soly"
    results = make_results(taught, 5)
    judged = {task: (outcome, numbers) for _, said, task, _, outcome, numbers in judge_claims(results, PAPER)
              if said == words}  # fmt: skip
    assert {"navpick-home-learned", "navpick-replicacad-learned"} <= set(judged)
    for row in results.rows.values():
        row["success"], row["teacher_success"] = row["teacher_success"], row["success"]
    turned = {task: outcome for _, said, task, _, outcome, _ in judge_claims(results, PAPER) if said == words}
    for task, (outcome, numbers) in judged.items():
        assert (outcome, turned[task]) == ("confirmed", "refuted: lower")
        student, teacher = (float(part.split(" ")[0]) for part in numbers.split(" against "))
        assert student > 90 > 70 > teacher


def test_the_quick_budget_speaks_where_no_other_does(make_results, tmp_path):
    quick = outcomes(make_results(GROUPS, 5, budget="quick"))
    assert {budget for *_, budget in quick} == {"quick"}
    both = outcomes(make_results(GROUPS, 5, budget="default"))  # into the same folder
    assert {budget for *_, budget in both} == {"default"}
    assert len(Results(tmp_path / "results").rows) == 2 * 5 * len(GROUPS)


def test_what_the_paper_says_has_a_place_and_what_we_say_has_none(make_results):
    assert all(claim.place for claim in PAPER)
    assert not any(claim.place for claim in OWN)
    results = make_results(GROUPS, 5)
    assert claims_table(results).startswith("| paper | claim |")
    assert assertions_table(results).startswith("| assertion | task |")
    assert "0.52; Table 3 of the same paper: 0.40 | ColoredDoorKey" in claims_table(results)
