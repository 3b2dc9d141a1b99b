"""Warnings about edges of the space and about terms: planted ones are told, others are not."""

import numpy as np
import pytest

from tests.tuners.report.tables import WINNER, Page, Tables, curve, search_values
from tests.tuners.small import SEGMENT
from tuners.config import TrialConfig, baseline
from tuners.default_spaces import hyperparameter_space
from tuners.report.advice import Edge, edge_lines, edges, warnings_of
from tuners.report.sweep_record import load_record
from tuners.report.term_advice import (
    TermStatistics,
    _interval,
    has_effect,
    term_effects,
    term_remark,
    term_statistics,
)
from tuners.report.write import write_report
from tuners.space import Choice, Uniform


def concluded(tmp_path, values, row=WINNER, **tables):
    """A record of a sweep with two trials of the search, won by the row whose values are given."""
    made = Tables(tmp_path, num_trials=2, **tables)
    made.trial("trial-000", curve(400.0), row="baseline")
    made.trial(WINNER, curve(800.0), values=values)
    made.trial("test-baseline-0", curve(400.0), phase="test", row="baseline")
    if row == WINNER:
        made.trial(f"test-{WINNER}-0", curve(800.0), phase="test", row=WINNER, values=values)
    return load_record(made.conclude(row, 800.0))


MIDDLE = search_values(4) | {"learning_rate": 1e-3, "reward.cos.weight": 0.75}


def test_a_winner_in_the_middle_has_no_edge(tmp_path):
    assert edges(concluded(tmp_path, MIDDLE)) == []


@pytest.mark.parametrize(
    ("changed", "edge"),
    [
        ({"learning_rate": 9e-3}, Edge("learning_rate", 9e-3, 1e-4, 1e-2, False)),
        ({"learning_rate": 1.2e-4}, Edge("learning_rate", 1.2e-4, 1e-4, 1e-2, True)),
        ({"reward.cos.weight": 0.5}, Edge("reward.cos.weight", 0.5, 0.5, 1.0, True)),
    ],
)
def test_a_winner_at_an_edge_is_told(tmp_path, changed, edge):
    assert edges(concluded(tmp_path, MIDDLE | changed)) == [edge]


@pytest.mark.parametrize(
    "changed",
    [
        {"learning_rate": 8e-3},  # 0.048 of two decades from the end, but 0.95 of a plain range
        {"reward.peak.weight": 0.999},  # no more than 1 is allowed where products are searched
        {"learning_rate": 8e-3, "reward.peak.weight": 0.001},  # nor less than 0
        {"reward.peak.weight": 1.0, "reward.peak.on": False},  # not in use
    ],
)
def test_what_is_near_but_inside_or_not_in_use_is_not_told(tmp_path, changed):
    found = [edge.name for edge in edges(concluded(tmp_path, MIDDLE | changed))]
    assert found == (["learning_rate"] if "learning_rate" in changed else [])


def test_a_weight_that_may_be_larger_is_told(tmp_path):
    space = {"reward.peak.weight": Uniform(0.0, 1.0)}  # of sums alone
    (edge,) = edges(concluded(tmp_path, {"reward.peak.weight": 0.951}, space=space))
    assert edge == Edge("reward.peak.weight", 0.951, 0.0, 1.0, False)


def test_the_report_says_it_in_words(tmp_path):
    record = concluded(tmp_path, MIDDLE | {"learning_rate": 9e-3})
    page = Page(write_report(record.spec.folder))
    (line,) = edge_lines(record)
    assert line in page.text
    assert line == (
        "The winner's learning_rate is 0.009, at the upper edge of what was searched"
        " (0.0001 to 0.01): better values may lie outside."
    )


def test_a_baseline_that_won_was_not_drawn_from_the_space(tmp_path):
    record = concluded(tmp_path, MIDDLE, row="baseline")
    assert record.winner == "baseline"
    assert edges(record) == []


@pytest.mark.parametrize(
    ("values", "name", "expected"),
    [
        ({}, "learning_rate", True),
        ({}, "reward.combine", True),
        ({}, "reward.peak.weight", True),
        ({"reward.peak.on": False}, "reward.peak.weight", False),
        ({"reward.peak.on": False}, "reward.peak.sharpness", False),
        ({"reward.peak.on": False}, "reward.peak.on", True),
        ({}, "reward.energy.weight", False),
        ({"reward.effort.weight": 0.1}, "reward.effort.weight", True),
        ({"reward.effort.weight": 0.1, "reward.combine": "product"}, "reward.effort.weight", False),
        ({"reward.combine": "product"}, "reward.effort.on", False),
        ({"reward.combine": "product"}, "reward.peak.on", True),
        ({}, "reward.effort.on", True),
        ({}, "reward.clip", False),
        ({"reward.combine": "product"}, "reward.clip", True),
        ({}, "init_log_std", True),
    ],
)
def test_which_parameters_have_an_effect(tmp_path, values, name, expected):
    config = Tables(tmp_path).spec.base.with_values({"reward.peak.weight": 0.5, **values})
    assert has_effect(config, name) is expected


def test_actions_that_are_a_choice_have_no_deviation():
    config = TrialConfig("balance", reward=baseline("balance"))
    assert not has_effect(config, "init_log_std")
    assert "init_log_std" not in hyperparameter_space("balance")
    assert "init_log_std" in hyperparameter_space("swingup")


def test_statistics_of_terms_by_hand(tmp_path):
    """The weights are 1 for cos and 0.5 for peak; a segment's mean of cos is -0.5, of peak 0.25."""
    values = MIDDLE | {"reward.cos.weight": 1.0, "reward.peak.weight": 0.5}
    values |= {"reward.peak.on": True, "reward.combine": "sum"}
    terms = {"cos": (-0.5, -1.0, 1.0), "peak": (0.25, 0.0, 0.5)}
    made = Tables(tmp_path, num_trials=1)
    zero = {f"reward.{name}.weight": 0.0 for name in ("position", "position_upright")}
    zero |= {f"reward.{name}.weight": 0.0 for name in ("spin_upright", "effort")}
    made.trial(WINNER, curve(800.0), values=values | zero, terms=terms)
    found = term_statistics(load_record(made.write()), WINNER)
    whole = 1.0 * 0.5 + 0.5 * 0.25
    assert found == [
        TermStatistics("cos", 1.0, -0.5, -0.5, -1.0, 1.0, 0.5 / whole, 2.0 / whole),
        TermStatistics("peak", 0.5, 0.25, 0.25, 0.0, 0.5, 0.125 / whole, 0.25 / whole),
    ]


def test_a_reward_that_was_changed_on_the_way_is_described_as_it_was_in_the_end(tmp_path):
    made = Tables(tmp_path, num_trials=1)
    later = [(4 * SEGMENT, {"reward.cos.weight": 0.25, "reward.combine": "product"})]
    made.trial(WINNER, curve(800.0), values={"reward.cos.weight": 1.0}, schedule=later)
    record = load_record(made.write())
    (cos,) = (term for term in term_statistics(record, WINNER) if term.name == "cos")
    assert cos.weight == 0.25
    assert record.final_config(WINNER).reward["combine"] == "product"


def statistics(share, span):
    return TermStatistics("cos", 1.0, 0.0, 0.0, 0.0, 0.0, share, span)


@pytest.mark.parametrize(
    ("share", "span", "others", "combine", "begins"),
    [
        (0.0, 0.0, 2, "sum", "is never active"),
        (0.0009, 0.0009, 2, "product", "is never active"),
        (0.4, 0.0, 2, "sum", "is constant: it pays"),
        (0.4, 0.0, 2, "product", "is constant: as a factor"),
        (0.92, 1.0, 2, "sum", "dwarfs the others: 92%"),
        (0.92, 1.0, 2, "mean", "dwarfs the others"),
        (0.90, 1.0, 2, "sum", ""),  # nine times the others
        (0.92, 1.0, 2, "product", ""),  # a factor is no summand
        (1.0, 1.0, 0, "sum", ""),  # there are no others
        (0.0, 0.5, 2, "sum", ""),  # nought on average, but it varies
    ],
)
def test_remarks_on_terms(share, span, others, combine, begins):
    said = term_remark(statistics(share, span), others, combine)
    assert said.startswith(begins)
    assert bool(said) == bool(begins)


def test_a_term_of_the_winner_that_is_never_active_is_told(tmp_path):
    values = MIDDLE | {"reward.combine": "sum", "reward.peak.on": True}
    terms = {"peak": (1e-5, 0.0, 1e-4)}
    made = Tables(tmp_path, num_trials=2)
    made.trial("trial-000", curve(400.0), row="baseline")
    made.trial(WINNER, curve(800.0), values=values, terms=terms)
    for row in ("baseline", WINNER):
        more = {"values": values, "terms": terms} if row == WINNER else {}
        made.trial(f"test-{row}-0", curve(700.0), phase="test", row=row, **more)
    record = load_record(made.conclude(WINNER, 800.0))
    lines = [line for line in warnings_of(record) if "peak" in line]
    assert lines == [
        "In the winner's reward, peak is never active: it was next to nothing in all of training."
    ]


def searched(tmp_path, objective, space=None, count=24, by_hand=None):
    """A record of trials whose objective is a function of their values."""
    space = space or {
        "reward.peak.on": Choice((True, False)),
        "reward.energy.on": Choice((True, False)),
        "reward.energy.weight": Uniform(0.1, 1.0),
        "reward.cos.weight": Uniform(0.5, 1.0),
    }
    made = Tables(tmp_path, num_trials=count, space=space)
    if by_hand is not None:
        made.trial("trial-000", [by_hand] * 3, row="baseline")
    generator = np.random.default_rng(0)
    for number in range(1, count):
        values = {name: space[name].sample(generator) for name in sorted(space)}
        if "reward.energy.on" in space:  # in all combinations equally often
            values |= {"reward.peak.on": number % 2 == 0, "reward.energy.on": number // 2 % 2 == 0}
            values["reward.cos.weight"] = 0.5 + number // 4 % 8 / 16
        score = objective(values) + generator.normal(0.0, 10.0)
        made.trial(f"trial-{number:03d}", [score] * 3, values=values)
    return load_record(made.write())


def test_a_useless_term_is_told_and_a_useful_one_is_not(tmp_path):
    """peak gives 200 points; energy and the weight of cos do nothing; noise is 10."""
    record = searched(tmp_path, lambda v: 400.0 + 200.0 * v["reward.peak.on"], count=65)
    found = {effect.name: effect for effect in term_effects(record)}
    assert set(found) == {"peak", "energy", "cos"}
    assert found["peak"].remark == ""
    assert found["peak"].difference == pytest.approx(200.0, abs=15.0)
    assert found["peak"].low < found["peak"].difference < found["peak"].high
    assert found["energy"].remark.startswith("of no use")
    assert found["cos"].remark.startswith("of no use to tune")
    assert [line for line in warnings_of(record) if "of no use" in line] == [
        f"The term {name} is {found[name].remark}." for name in ("cos", "energy")
    ]


def test_a_term_that_helps_a_little_is_not_said_to_do_nothing(tmp_path):
    """Thirty points, beside the 200 of another term; half a deviation is fifty."""
    record = searched(
        tmp_path,
        lambda v: 400.0 + 200.0 * v["reward.peak.on"] + 30.0 * v["reward.energy.on"],
        count=513,
    )
    found = {effect.name: effect for effect in term_effects(record)}
    assert found["energy"].low > 0
    assert found["energy"].remark.startswith("of little use here: trials with it did hardly better")


def test_a_term_that_does_harm_is_of_no_use(tmp_path):
    record = searched(tmp_path, lambda values: 400.0 - 200.0 * values["reward.peak.on"])
    found = {effect.name: effect for effect in term_effects(record)}
    assert found["peak"].remark.startswith("of no use")
    assert found["peak"].high < 0


def test_a_term_that_is_always_in_is_judged_by_its_weight(tmp_path):
    record = searched(tmp_path, lambda values: 1000.0 * values["reward.cos.weight"])
    found = {effect.name: effect for effect in term_effects(record)}
    assert found["cos"].question == "heavier half against lighter"
    assert found["cos"].remark == ""
    assert found["cos"].low > 100


def test_a_weight_that_does_harm_is_worth_tuning(tmp_path):
    record = searched(tmp_path, lambda values: 1500.0 - 1000.0 * values["reward.cos.weight"])
    found = {effect.name: effect for effect in term_effects(record)}
    assert found["cos"].high < -100
    assert found["cos"].remark == ""


def test_the_interval_of_an_effect_is_one_of_90_percent():
    """Of two means of 4000 values each: 1.645 of their difference's deviation to either side."""
    generator = np.random.default_rng(1)
    ours, theirs = generator.normal(3.0, 1.0, 4000), generator.normal(1.0, 2.0, 4000)
    half = 1.645 * np.sqrt(np.var(ours) / 4000 + np.var(theirs) / 4000)
    difference = ours.mean() - theirs.mean()
    np.testing.assert_allclose(
        _interval(ours, theirs), [difference - half, difference + half], atol=0.1 * half
    )


def test_the_baseline_is_no_draw(tmp_path):
    """It was chosen by hand: with its 900 the term that it has would seem to help."""
    without = searched(tmp_path / "a", lambda values: 400.0)
    with_it = searched(tmp_path / "b", lambda values: 400.0, by_hand=900.0)
    assert term_effects(with_it) == term_effects(without)


def test_few_trials_say_nothing_of_a_term(tmp_path):
    record = searched(tmp_path, lambda values: 400.0, count=9)
    assert term_effects(record) == []


def test_a_penalty_is_judged_among_the_trials_that_can_have_it(tmp_path):
    """A product takes no part of effort: its trials are on neither side."""
    space = {
        "reward.combine": Choice(("sum", "product")),
        "reward.effort.on": Choice((True, False)),
        "reward.peak.weight": Uniform(0.0, 1.0),
    }
    record = searched(
        tmp_path, lambda v: 800.0 if v["reward.combine"] == "product" else 300.0, space, 40
    )
    sums = sum(record.config(t).reward["combine"] == "sum" for t in record.ended)
    effect = next(effect for effect in term_effects(record) if effect.name == "effort")
    assert effect.with_it + effect.without == sums
    assert abs(effect.difference) < 20
