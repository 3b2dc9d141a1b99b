"""Shapes side by side: the jobs, and what is said of them.  Nothing is trained."""

import dataclasses

import pytest

from rlcore.rewards import SHAPES
from tests.tuners.small import small_spec
from tuners.config import TrialConfig, baseline
from tuners.objectives import Outcome
from tuners.shapes import ShapesPlan, summarise

THREE = ("survival", "product", "kinetic")


@pytest.fixture
def plan(tmp_path):
    spec = small_spec(tmp_path)
    base = TrialConfig(
        task="balance", reward=baseline("balance"), ppo=spec.base.ppo, budget=spec.base.budget
    )
    return ShapesPlan(dataclasses.replace(spec, base=base, space={}, test_seeds=4), THREE)


def test_every_shape_is_trained_on_the_same_seeds(plan):
    jobs = []
    while (job := plan.next_job()) is not None:
        jobs.append(job)
    assert [job.row for job in jobs] == [shape for shape in THREE for _ in range(2)]
    by_shape = {shape: [j.seeds for j in jobs if j.row == shape] for shape in THREE}
    assert by_shape["survival"] == by_shape["product"] == by_shape["kinetic"]
    for job in jobs:
        assert job.config.reward == SHAPES["balance"][job.row]
    assert not plan.finished
    for job in jobs:
        plan.end(job.name, Outcome(500.0, "budget"))
    assert plan.finished
    assert plan.winner is None
    assert plan.expected_env_steps() == 3 * 4 * plan.spec.base.full_length


def trial(shape, batch=0):
    name = f"test-{shape}-{batch}"
    ended = {"phase": "test", "status": "finished", "stop_reason": "budget"}
    return {"trial": name, "row": shape, "seeds": [0, 1], **ended}


def segment(shape, number, scores, shaped, agreement):
    return {
        "trial": f"test-{shape}-0",
        "env_steps": number * 100,
        "seed_scores": scores,
        "shaped_return": shaped,
        "return_score_correlation": agreement,
    }


def test_a_summary_by_hand():
    rows = [
        segment("survival", 1, [100.0, 200.0], 60.0, 1.0),
        segment("survival", 2, [400.0, 1000.0], 300.0, 0.5),
        segment("survival", 3, [700.0, 600.0], 310.0, None),
        segment("survival", 4, [1000.0, 800.0], 450.0, None),
    ]
    (found,) = summarise([trial("survival")], rows, ("survival", "product"), 500)
    assert found.shape == "survival"
    # The last three segments of each seed: 350 and 400 of 500 steps.
    assert found.episode_length == pytest.approx(375.0)
    assert (found.shortest, found.longest) == pytest.approx((350.0, 400.0))
    assert found.shaped_return == 450.0
    assert found.agreement == pytest.approx(0.75)


def test_a_shape_that_never_varied_has_no_agreement():
    rows = [segment("kinetic", 1, [10.0], None, None)]
    (found,) = summarise([trial("kinetic")], rows, ("kinetic",), 500)
    assert found.shaped_return is None
    assert found.agreement is None
