"""Search spaces: what each form means, what is refused, and what is drawn."""

import math

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.tuners.small import refusal
from tuners.space import (
    Choice,
    LogUniform,
    OneMinusLogUniform,
    Uniform,
    grid,
    is_number,
    load_space,
    parse_space,
    sample,
)


@pytest.mark.parametrize(
    ("entry", "domain"),
    [
        ({"uniform": [0, 2]}, Uniform(0.0, 2.0)),
        ({"uniform": [-1.5, 0.25]}, Uniform(-1.5, 0.25)),
        ({"log_uniform": [0.001, 1]}, LogUniform(0.001, 1.0)),
        ({"one_minus_log_uniform": [0.9, 0.99]}, OneMinusLogUniform(0.9, 0.99)),
        ({"choice": [32, 64]}, Choice((32, 64))),
        ({"choice": [True, False]}, Choice((True, False))),
        ({"choice": [[64, 64], [32]]}, Choice(((64, 64), (32,)))),
        (0.5, Choice((0.5,))),
        (3, Choice((3,))),
        (False, Choice((False,))),
        ("product", Choice(("product",))),
    ],
)
def test_each_form_of_a_domain(entry, domain):
    parsed = parse_space({"x": entry})["x"]
    assert parsed == domain
    assert type(parsed) is type(domain)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"uniform": [2, 1]}, ["x", "uniform [2, 1]", "lower bound must be below"]),
        ({"uniform": [1, 1]}, ["uniform [1, 1]", "lower bound must be below"]),
        ({"log_uniform": [3, 0.5]}, ["log_uniform [3, 0.5]", "lower bound must be below"]),
        ({"log_uniform": [0, 1]}, ["log_uniform [0, 1]", "above 0"]),
        ({"log_uniform": [-1, 1]}, ["log_uniform [-1, 1]", "above 0"]),
        ({"one_minus_log_uniform": [0.9, 1]}, ["[0.9, 1]", "stay below 1"]),
        ({"uniform": [1]}, ["uniform [1]", "two finite numbers"]),
        ({"uniform": [1, 2, 3]}, ["uniform [1, 2, 3]", "two finite numbers"]),
        ({"uniform": {"low": 1}}, ["{'low': 1}", "two finite numbers"]),
        ({"uniform": 3}, ["uniform 3", "two finite numbers"]),
        ({"uniform": [0, math.inf]}, ["inf", "two finite numbers"]),
        ({"uniform": [math.nan, 1]}, ["nan", "two finite numbers"]),
        ({"uniform": ["1", 2]}, ["'1'", "two finite numbers"]),
        ({"log_uniform": ["1e-4", "1e-2"]}, ["two finite numbers", "has a point and a sign"]),
        ({"uniform": [False, True]}, ["False", "two finite numbers"]),
        ({"choice": []}, ["choice []", "at least one value"]),
        ({"choice": 7}, ["choice 7", "at least one value"]),
        ({"normal": [0, 1]}, ["'normal'", "uniform, log_uniform, one_minus_log_uniform, choice"]),
        ({"uniform": [0, 1], "choice": [1]}, ["uniform", "a plain value"]),
        ({}, ["{}", "a plain value"]),
        ([0, 1], ["[0, 1]", "a plain value"]),
        (None, ["None", "a plain value"]),
    ],
)
def test_an_ill_formed_domain_is_refused_in_one_line(entry, said):
    message = refusal(parse_space, {"x": entry})
    for words in ("x ", *said):
        assert words in message


@pytest.mark.parametrize("entries", [None, {}, [], "learning_rate", 3])
def test_a_space_is_a_mapping_that_holds_something(entries):
    assert "at least one parameter" in refusal(parse_space, entries)


def test_a_file_is_read(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text("learning_rate: {log_uniform: [1.0e-4, 1.0e-2]}\nreward.combine: product\n")
    assert load_space(path) == {
        "learning_rate": LogUniform(1e-4, 1e-2),
        "reward.combine": Choice(("product",)),
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"x: [1, 2", "not valid YAML"),
        (b"x: {uniform: [2, 1]}", "lower bound must be below"),
        (b"x: !!python/object/apply:os.getcwd []", "not valid YAML"),
        (b"\xff\xfe\x00bad", "not valid YAML"),
        (b"", "at least one parameter"),
        (b"- learning_rate", "at least one parameter"),
        (b"just a text", "at least one parameter"),
    ],
)
def test_a_file_that_holds_no_space_is_named(tmp_path, content, said):
    path = tmp_path / "space.yaml"
    path.write_bytes(content)
    message = refusal(load_space, path)
    assert str(path) in message
    assert said in message


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    message = refusal(load_space, tmp_path / "missing.yaml")
    assert "missing.yaml" in message
    assert "No such file" in message
    assert "Is a directory" in refusal(load_space, tmp_path)


def test_a_draw_depends_on_seed_and_number_alone():
    space = {"b": Uniform(0.0, 1.0), "a": LogUniform(1.0, 10.0)}
    drawn = [sample(space, 7, number) for number in range(5)]
    assert drawn[3] == sample(space, 7, 3)
    assert drawn[3] == sample(dict(reversed(space.items())), 7, 3)
    others = [*drawn[:3], drawn[4], sample(space, 8, 3)]
    assert all(drawn[3]["a"] != other["a"] for other in others)


def test_a_draw_by_hand():
    """Names in alphabetical order from one generator: the numbers a sweep on disk stands for."""
    generator = np.random.default_rng([7, 3])
    first, second = generator.uniform(0.0, 2.0), generator.integers(3)
    space = {"y": Choice(("p", "q", "r")), "x": Uniform(0.0, 2.0)}
    assert sample(space, 7, 3) == {"x": first, "y": "pqr"[second]}


@st.composite
def domains(draw):
    kind = draw(st.sampled_from(["uniform", "log_uniform", "choice"]))
    if kind == "choice":
        plain = st.one_of(st.booleans(), st.integers(-5, 5), st.sampled_from(["sum", "product"]))
        return {"choice": draw(st.lists(plain, min_size=1, max_size=4))}
    bounds = st.floats(1e-6 if kind == "log_uniform" else -1e6, 1e6)
    low, high = sorted(draw(st.lists(bounds, min_size=2, max_size=2, unique=True)))
    return {kind: [low, high]}


spaces = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), domains(), min_size=1)


@given(entries=spaces, seed=st.integers(0, 100_000), number=st.integers(0, 1000))
def test_what_is_drawn_lies_in_the_space(entries, seed, number):
    drawn = sample(parse_space(entries), seed, number)
    assert set(drawn) == set(entries)
    for name, entry in entries.items():
        ((kind, values),) = entry.items()
        if kind == "choice":
            assert drawn[name] in values
        else:
            assert values[0] <= drawn[name] <= values[1]


@pytest.mark.parametrize("low", [0.1, 0.3, 0.7, 1e-3, 7.0])
def test_a_narrow_log_range_is_not_left_by_rounding(low):
    """exp(log(low)) may differ from low in its last digit."""
    high = math.nextafter(low, math.inf)
    for number in range(20):
        drawn = sample({"x": LogUniform(low, high)}, 0, number)["x"]
        assert low <= drawn <= high


@given(entries=spaces)
def test_a_space_survives_yaml(entries):
    space = parse_space(entries)
    written = yaml.safe_dump({name: domain.to_yaml() for name, domain in space.items()})
    assert parse_space(yaml.safe_load(written)) == space


def test_a_log_range_is_drawn_evenly_over_its_decades():
    drawn = [sample({"x": LogUniform(1e-4, 1.0)}, 0, n)["x"] for n in range(2000)]
    share = np.mean(np.array(drawn) < 1e-2)
    assert abs(share - 0.5) < 0.06  # five standard deviations: fails in 1 of a million seeds


def test_distances_from_1_are_drawn_evenly_over_their_decades():
    drawn = [sample({"x": OneMinusLogUniform(0.0, 0.9999)}, 0, n)["x"] for n in range(2000)]
    share = np.mean(np.array(drawn) < 0.99)
    assert abs(share - 0.5) < 0.06  # five standard deviations: fails in 1 of a million seeds


@pytest.mark.parametrize(
    ("domain", "values"),
    [
        (Uniform(1.0, 3.0), (1.0, 2.0, 3.0)),
        (LogUniform(0.01, 1.0), (0.01, 0.1, 1.0)),
        (OneMinusLogUniform(0.0, 0.9999), (0.0, 0.99, 0.9999)),
    ],
)
def test_how_far_a_value_lies_in_its_range(domain, values):
    found = [domain.fraction(value) for value in values]
    np.testing.assert_allclose(found, [0.0, 0.5, 1.0], atol=1e-9)
    assert all(domain.contains(value) for value in values)
    assert not domain.contains(values[0] - 1e-3) and not domain.contains(values[-1] + 1e-3)
    assert not domain.contains("1") and not domain.contains(True)


def test_a_grid_by_hand():
    space = {"b": Choice((1, 2)), "a": Choice(("x", "y"))}
    assert [(point["a"], point["b"]) for point in grid(space)] == [
        *(("x", 1), ("x", 2), ("y", 1), ("y", 2))
    ]
    assert grid({}) == [{}]
    assert "needs x as {choice: [...]}" in refusal(grid, {"x": Uniform(0.0, 1.0)})
    huge = {f"x{n}": Choice(tuple(range(10))) for n in range(6)}
    assert refusal(grid, huge) == "the grid has 1000000 points, but may have at most 100000"


def test_a_choice_gives_every_value():
    assert {sample({"x": Choice((1, 2, 3))}, 0, n)["x"] for n in range(50)} == {1, 2, 3}


@pytest.mark.parametrize(
    ("value", "answer"),
    [(1, True), (-0.5, True), (True, False), ("1", False), (math.inf, False), (None, False)],
)
def test_what_counts_as_a_number(value, answer):
    assert is_number(value) is answer
