"""A trial's config: where names go, which values are refused, and what comes back from a file."""

import json
from dataclasses import asdict, replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rlcore import video
from rlcore.ppo.config import PPOConfig
from rlcore.tasks import TASKS
from tests.tuners.small import CONFIG, PPO, SEGMENT, refusal
from tuners import config
from tuners.config import (
    TrialConfig,
    baseline,
    check_space,
    check_value,
    load_config,
    route,
    value_of,
    values_in_space,
)
from tuners.default_spaces import hyperparameter_space, joint_space, reward_space
from tuners.space import Choice, LogUniform, Uniform, sample
from tuners.spec import make_spec
from tuners.tracking import flat_config


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("learning_rate", "hyperparameter"),
        ("init_log_std", "hyperparameter"),
        ("num_envs", "static"),
        ("hidden_sizes", "static"),
        ("reward.combine", "reward"),
        ("reward.peak.weight", "reward"),
        ("reward.peak.on", "reward"),
        ("reward.peak.sharpness", "reward"),
        ("task.gravity", "task"),
        ("task.rail", "task"),
    ],
)
def test_a_name_is_routed_by_its_form(name, where):
    assert route("swingup", name) == where


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("reward.peek.weight", ["reward.peak.weight", "reward.combine", "reward.gentle.on"]),
        ("reward.peak.height", ["reward.peak.sharpness"]),
        ("reward.peak", ["reward.peak.weight"]),
        ("task.mass", ["task.cart_mass", "task.pole_mass", "task.rail"]),
        ("task.horizon", ["task.cart_mass"]),
        ("lr", ["learning_rate", "gae_lambda", "num_envs", "reward.<term>.<parameter>"]),
        ("reward", ["learning_rate", "reward.<term>.<parameter>"]),
        ("reward.", ["learning_rate"]),
        ("budget", ["learning_rate"]),
        ("", ["learning_rate"]),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(name, listed):
    message = refusal(route, "swingup", name)
    assert f"'{name}'" in message
    for known in listed:
        assert known in message


def test_values_go_where_their_names_say():
    values = {
        "learning_rate": 0.01,
        "hidden_sizes": (8,),
        "reward.peak.weight": 0.25,
        "reward.combine": "product",
        "task.gravity": 1.6,
    }
    changed = CONFIG.with_values(values)
    assert changed.hyperparameters == {"learning_rate": 0.01}
    assert changed.ppo == replace(PPO, hidden_sizes=(8,))
    assert changed.reward == {**CONFIG.reward, "peak.weight": 0.25, "combine": "product"}
    assert changed.constants == {"gravity": 1.6}
    assert changed.budget == CONFIG.budget
    assert CONFIG.hyperparameters == {}, "the config itself stays"


def test_later_values_replace_earlier_ones():
    once = CONFIG.with_values({"gamma": 0.9, "clip_range": 0.3})
    assert once.with_values({"gamma": 0.99}).hyperparameters == {"gamma": 0.99, "clip_range": 0.3}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("learning_rate", 0.0, "above 0 and at most 1"),
        ("learning_rate", -1e-3, "above 0"),
        ("learning_rate", 2, "learning_rate is 2, but must be above 0 and at most 1"),
        ("learning_rate_end", -0.1, "at least 0"),
        ("gamma", 1.5, "gamma is 1.5, but must be at least 0 and at most 1"),
        ("gae_lambda", -0.1, "at least 0 and at most 1"),
        ("clip_range", 0, "above 0"),
        ("init_log_std", -2.5, "at least -2 and at most 0.5"),
        ("init_log_std", 0.75, "at most 0.5"),
        ("max_grad_norm", 0.0, "above 0"),
        ("adam_eps", 0.0, "above 0"),
        ("weight_decay", 2.0, "at most 1"),
        ("gamma", float("nan"), "finite number"),
        ("gamma", float("inf"), "finite number"),
        ("gamma", "0.9", "gamma is '0.9', but must be a finite number"),
        ("learning_rate", "1e-3", "finite number; in YAML a number with an exponent has a point"),
        ("gamma", True, "finite number"),
        ("gamma", None, "finite number"),
        ("gamma", [0.9], "finite number"),
        ("reward.combine", "max", "allowed: sum, mean, product"),
        ("reward.combine", 1, "allowed: sum, mean, product"),
        ("reward.peak.on", 1, "allowed: true, false"),
        ("reward.peak.on", "true", "allowed: true, false"),
        ("reward.peak.weight", "big", "finite number"),
        ("reward.peak.weight", 1e9, "at most 1e+06"),
        ("task.gravity", 0.0, "above 0"),
        ("task.cart_mass", -1.0, "above 0"),
        ("task.rail", True, "finite number"),
    ],
)
def test_a_value_out_of_range_is_refused(name, value, said):
    for call in (lambda: check_value("swingup", name, value), lambda: build_with(name, value)):
        message = refusal(call)
        assert message.startswith(name)
        assert said in message


def test_a_world_may_be_without_friction():
    for name in ("task.hinge_damping", "task.cart_damping"):
        check_value("dmc_swingup", name, 0.0)
        assert "at least 0" in refusal(check_value, "dmc_swingup", name, -1e-9)


def build_with(name, value):
    return CONFIG.with_values({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("gamma", 0.0), ("gamma", 1), ("learning_rate", 1.0), ("init_log_std", -2.0)],
)
def test_the_ends_of_a_range_are_allowed(name, value):
    assert CONFIG.with_values({name: value}).hyperparameters == {name: value}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("num_envs", 0, "num_envs is 0, but must be a whole number of at least 1"),
        ("num_envs", 2.0, "whole number"),
        ("num_envs", True, "whole number"),
        ("activation", "gelu", "'gelu'; allowed: tanh, relu, swish"),
        ("hidden_sizes", [], "one or more widths"),
        ("hidden_sizes", [64, 0], "one or more widths"),
        ("hidden_sizes", 64, "must list the layers' widths"),
        ("hidden_sizes", "64", "must list the layers' widths"),
        ("normalize_reward", "maybe", "normalize_reward"),
        ("clip_value", 3, "clip_value"),
        ("action_repeat", 0, "action_repeat is 0"),
        ("action_repeat", 3, "action_repeat is 3, but must divide the 500 simulation steps"),
        ("reward.clip", 1, "allowed: true, false"),
    ],
)
def test_a_static_value_that_cannot_be_compiled_is_refused(name, value, said):
    assert said in refusal(CONFIG.with_values, {name: value})


def test_minibatches_that_do_not_divide_name_the_nearest_that_do():
    parts = {"num_minibatches": 7, "shuffle": "samples"}
    message = refusal(CONFIG.with_values, parts)
    assert "num_minibatches is 7" in message
    assert "num_envs x rollout_length = 512" in message
    assert "4 and 8" in message
    whole = {"num_minibatches": 5, "shuffle": "envs"}
    assert "num_envs = 16; the nearest are 4 and 8" in refusal(CONFIG.with_values, whole)


@pytest.mark.parametrize("budget", [SEGMENT - 1, 0, -5, 1.5 * SEGMENT, "1e6", None, True])
def test_a_budget_is_at_least_one_segment(budget):
    message = refusal(TrialConfig, ppo=PPO, budget=budget)
    assert f"budget is {budget} env_steps, but one segment has {SEGMENT}" in message
    assert "num_envs 16 x rollout_length 32 x updates_per_segment 2" in message


def test_a_budget_fits_what_the_trainer_counts_in():
    assert TrialConfig(ppo=PPO, budget=2**31 - 1).num_segments > 0
    assert "at most 2147483647 a seed" in refusal(TrialConfig, ppo=PPO, budget=2**31)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("reward.calm.margin", 0.0, "must be above 0"),
        ("reward.centred.margin", -1.0, "must be above 0"),
        ("reward.peak.sharpness", -0.1, "must be at least 0"),
    ],
)
def test_parameters_that_would_make_a_term_nan_are_refused(name, value, said):
    """Even one that has no weight: nothing times NaN is NaN."""
    assert said in refusal(CONFIG.with_values, {name: value})


def test_segments_are_whole():
    config = TrialConfig(ppo=PPO, budget=3 * SEGMENT + SEGMENT // 2)
    assert config.num_segments == 3
    assert config.full_length == 3 * SEGMENT
    assert TrialConfig(ppo=PPO, budget=SEGMENT).num_segments == 1


def test_constants_that_no_film_could_show_are_refused():
    """Each trial failed, four times, when its film was to be drawn."""
    smallest, largest = video.SMALLEST, video.LARGEST
    for name, least, most in (
        ("rail", smallest, largest),
        ("half_length", smallest / 2, largest / 2),
    ):
        for value in (least, most):
            TrialConfig(constants={name: value})
        for value in (least / 2, most * 2):
            assert f"task.{name} is {value:g}" in refusal(TrialConfig, constants={name: value})


def test_an_unknown_task_is_refused():
    assert "'no-such-task'; allowed: swingup" in refusal(TrialConfig, task="no-such-task")


def test_a_config_in_plain_values():
    config = CONFIG.with_values({"gamma": 0.9, "hidden_sizes": [8, 4], "task.rail": 3.0})
    entries = config.to_dict()
    assert entries["hyperparameters"] == {"gamma": 0.9}
    assert entries["constants"] == {"rail": 3.0}
    assert entries["ppo"]["hidden_sizes"] == [8, 4]
    assert entries["reward"]["peak.weight"] == 1.5
    assert json.loads(json.dumps(entries)) == entries


def test_flat_names_are_those_of_a_search_space():
    config = CONFIG.with_values({"gamma": 0.9, "task.rail": 3.0})
    flat = flat_config(config.to_dict())
    assert flat["gamma"] == 0.9
    assert flat["task.rail"] == 3.0
    assert flat["reward.peak.weight"] == 1.5
    assert flat["num_envs"] == 16
    assert flat["task"] == "swingup"
    assert flat["budget"] == 8 * SEGMENT
    for name in flat:
        if name not in ("task", "budget"):
            route("swingup", name)


values = st.fixed_dictionaries(
    {},
    optional={
        "learning_rate": st.floats(1e-6, 1.0),
        "gamma": st.floats(0.0, 1.0),
        "init_log_std": st.floats(-2.0, 0.5),
        "num_minibatches": st.sampled_from([1, 2, 4, 8]),
        "hidden_sizes": st.lists(st.integers(1, 64), min_size=1, max_size=3).map(tuple),
        "activation": st.sampled_from(["tanh", "relu", "swish"]),
        "normalize_reward": st.booleans(),
        "reward.combine": st.sampled_from(["sum", "product"]),
        "reward.peak.weight": st.floats(0.0, 1.0),
        "reward.calm.on": st.booleans(),
        "reward.centred.margin": st.floats(0.1, 10.0),
        "task.gravity": st.floats(0.1, 30.0),
    },
)


@given(values=values)
def test_a_config_survives_yaml_and_json(values):
    config = CONFIG.with_values(values)
    assert TrialConfig.from_dict(yaml.safe_load(yaml.safe_dump(config.to_dict()))) == config
    assert TrialConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@given(values=values)
def test_values_given_are_the_values_in_the_config(values):
    flat = flat_config(CONFIG.with_values(values).to_dict())
    taken = {name: tuple(v) if isinstance(v := flat[name], list) else v for name in values}
    assert taken == values


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (None, "given: None"),
        ([1], "given: [1]"),
        ({"taks": "swingup"}, "given: taks"),
        ({"reward": [1]}, "reward is [1], but must map names to values"),
        ({"ppo": "default"}, "ppo is 'default', but must map names to values"),
        ({"hyperparameters": None}, "hyperparameters is None, but must map"),
        ({"ppo": {"num_env": 4}}, "unknown PPO setting 'num_env'; known: num_envs"),
        ({"ppo": {1: 4}}, "unknown PPO setting '1'"),
        ({"hyperparameters": {"gama": 0.9}}, "unknown parameter 'gama'"),
        ({"hyperparameters": {"num_envs": 4}}, "num_envs"),
        ({"hyperparameters": {"reward.cos.weight": 1.0}}, "reward.cos.weight"),
        ({"hyperparameters": {1: 2}}, "unknown parameter '1'"),
        ({"reward": {1: 2}}, "unknown reward parameter 'reward.1'"),
        ({"reward": {"combine": ["sum"]}}, "allowed: sum, mean, product"),
        ({"constants": {"mass": 2.0}}, "unknown task constant 'task.mass'"),
        ({"constants": {"gravity": "low"}}, "finite number"),
        ({"task": ["swingup"]}, "task is"),
        ({"task": None}, "task is"),
        ({"budget": "many"}, "budget is many"),
    ],
)
def test_entries_that_are_no_config_are_refused(entries, said):
    assert said in refusal(TrialConfig.from_dict, entries)


def test_a_config_file_is_read_and_a_bad_one_named(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIG.to_dict()))
    assert load_config(path) == CONFIG
    for content in (b"ppo: [", b"ppo: 3", b"\xff\xfe", b"", b"task: no-such-task"):
        path.write_bytes(content)
        assert str(path) in refusal(load_config, path)
    message = refusal(load_config, tmp_path / "missing.yaml")
    assert "missing.yaml" in message
    assert "No such file" in message


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"learning_rate": Uniform(0.0, 0.1)}, "learning_rate is 0, but must be above 0"),
        ({"gamma": Uniform(0.5, 1.5)}, "gamma is 1.5"),
        ({"gamma": Choice((0.9, "high"))}, "gamma is 'high'"),
        ({"reward.peak.on": Uniform(0.0, 1.0)}, "allowed: true, false"),
        ({"reward.combine": Choice(("sum", "max"))}, "allowed: sum, mean, product"),
        ({"reward.peak.weigth": Uniform(0.0, 1.0)}, "unknown reward parameter"),
        ({"task.gravity": LogUniform(1.0, 1e9)}, "at most 1e+06"),
        ({"num_envs": Uniform(16.0, 64.0)}, "num_envs needs a compile per value"),
        ({"num_envs": Choice((16, 0))}, "num_envs is 0"),
        ({"num_minibatches": Choice((2, 7))}, "num_minibatches is 7"),
        ({"hidden_sizes": Choice(((8,), "8"))}, "must list the layers' widths"),
        ({"updates_per_segment": Choice((2, 64))}, "budget is"),
    ],
)
def test_a_space_from_which_nothing_could_be_trained_is_refused(space, said):
    assert said in refusal(check_space, CONFIG, space)


BASE = CONFIG.with_values({"shuffle": "envs"})


@pytest.mark.parametrize(
    "space",
    [
        # 16 environments split into 16, and 6 into 2, but 6 not into 16.
        {"num_envs": Choice((16, 6)), "num_minibatches": Choice((2, 16))},
        # Each of the two is within the budget, both together are not.
        {"num_envs": Choice((16, 128)), "updates_per_segment": Choice((2, 16))},
    ],
)
def test_values_that_do_not_go_together_are_refused(space):
    for name, domain in space.items():
        check_space(BASE, {name: domain})
    refusal(check_space, BASE, space)


def test_values_that_go_together_need_not_fit_the_base():
    """15 environments split into 3 and 5, though not into the base's 2."""
    space = {"num_envs": Choice((15,)), "num_minibatches": Choice((3, 5))}
    refusal(check_space, BASE, {"num_envs": Choice((15,))})
    check_space(BASE, space)


@pytest.mark.parametrize("name", ["reward.task_score.weight", "reward.task_score.on"])
def test_the_score_itself_is_not_searched(name):
    domain = Choice((True,)) if name.endswith(".on") else Uniform(0.0, 1.0)
    message = refusal(check_space, CONFIG, {name: domain})
    assert name in message
    assert "cannot be searched" in message


PRODUCT = {"reward.combine": Choice(("sum", "product"))}
UNIT_WEIGHTS = {"reward.cos.weight": Uniform(0.0, 1.0), "reward.peak.weight": Uniform(0.0, 1.0)}


@pytest.mark.parametrize("weight", [Uniform(0.5, 1.5), Uniform(-0.5, 1.0), Choice((0.5, 2.0))])
def test_a_weight_of_a_product_stays_in_the_unit_range(weight):
    space = {**UNIT_WEIGHTS, "reward.peak.weight": weight}
    check_space(CONFIG, space)  # terms are summed: any weight will do
    message = refusal(check_space, CONFIG, PRODUCT | space)
    assert "reward.peak.weight" in message
    assert "within [0, 1]" in message


def test_a_penalty_takes_no_part_in_products():
    check_space(CONFIG, PRODUCT | UNIT_WEIGHTS | {"reward.effort.weight": Uniform(0.0, 5.0)})


def test_a_base_whose_shape_is_a_product_is_held_to_it():
    base = CONFIG.with_values({"reward.combine": "product", "reward.peak.weight": 1.0})
    assert "within [0, 1]" in refusal(check_space, base, {"reward.calm.weight": Uniform(0.0, 3.0)})


def test_a_weight_that_the_base_brings_into_a_product_counts_too():
    """The baseline's peak.weight is 1.5: a factor of a drawn product would turn negative."""
    assert CONFIG.reward["peak.weight"] == 1.5
    message = refusal(check_space, CONFIG, PRODUCT)
    assert "reward.peak.weight" in message
    assert "within [0, 1]" in message


@pytest.mark.parametrize("task", sorted(TASKS))
@pytest.mark.parametrize("default_space", [reward_space, hyperparameter_space, joint_space])
def test_everything_a_default_space_draws_can_be_trained(task, default_space):
    space = default_space(task)
    entries = {"task": task, "reward": baseline(task), "space": space}
    base = make_spec(name="sweep", preset="laptop", **entries).base
    drawn = [base.with_values(sample(space, 0, number)) for number in range(100)]
    combined = {config.reward.get("combine", "sum") for config in drawn}
    searches_reward = default_space is not hyperparameter_space
    assert combined == ({"sum", "product", "geometric"} if searches_reward else {"sum"})


@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_default_settings_are_a_point_of_their_space(task):
    """So that a searcher learns from the baseline."""
    space = hyperparameter_space(task)
    entries = {"task": task, "reward": baseline(task), "space": space}
    base = make_spec(name="sweep", preset="laptop", **entries).base
    assert values_in_space(base, space) is not None


def test_a_default_space_exists_for_known_tasks_only():
    assert (
        "'no-such-task'; a default reward space (tuners/default_spaces.py) exists for: swingup"
        in refusal(reward_space, "no-such-task")
    )


def test_the_baseline_of_a_task():
    assert config.baseline("swingup")["peak.weight"] == 1.5
    config.baseline("swingup")["peak.weight"] = 0.0
    assert config.baseline("swingup")["peak.weight"] == 1.5


def test_configs_of_one_static_part_share_it():
    """The compiled program is found by it: values that are traced must not change it."""
    traced = {"gamma": 0.9, "reward.combine": "product", "task.gravity": 1.6}
    assert CONFIG.with_values(traced).ppo == CONFIG.ppo
    assert hash(CONFIG.with_values(traced).ppo) == hash(CONFIG.ppo)
    assert CONFIG.with_values({"epochs": 1}).ppo != CONFIG.ppo
    assert asdict(PPOConfig(**asdict(PPO))) == asdict(PPO)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_envs", 16),
        ("learning_rate", 0.002),
        ("reward.peak.weight", 1.5),
        ("reward.calm.weight", 0.0),
        ("reward.calm.on", True),
        ("reward.peak.sharpness", 10.0),
        ("reward.combine", "sum"),
        ("task.pole_mass", 0.1),
    ],
)
def test_what_a_config_has_under_a_name(name, value):
    """Where the config says nothing, the default that holds."""
    assert value_of(CONFIG, name) == value
    other = {bool: False, str: "product", int: 8, float: 0.001}[type(value)]
    assert value_of(CONFIG.with_values({name: other}), name) == other


def test_a_config_as_a_point_of_a_space():
    space = {"learning_rate": Uniform(0.001, 0.01), "reward.peak.weight": Uniform(0.0, 2.0)}
    expected = {"learning_rate": 0.002, "reward.peak.weight": 1.5}
    assert values_in_space(CONFIG, space) == expected
    assert values_in_space(CONFIG, {**space, "gamma": Uniform(0.5, 0.6)}) is None
