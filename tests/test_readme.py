"""The README's examples as they stand there: a reward term, a space, and every command."""

import importlib
import re
import shlex
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import rlcore.rewards
from rlcore.rewards import make_reward_params, shaped_reward, swingup
from rlcore.tasks.dynamics import CartPoleState
from rlcore.tasks.swingup import SwingUp
from sweeps import cli
from tuners.config import TrialConfig, baseline, check_space
from tuners.results import segments_schema
from tuners.space import LogUniform, load_space

README = Path(__file__).parents[1] / "README.md"
BEFORE = CartPoleState.from_array(jnp.array([0.0, 0.0, 2.0, -1.0]))
AFTER = CartPoleState.from_array(jnp.array([0.0, 0.0, 1.0, -1.0]))


@pytest.fixture
def example(monkeypatch):
    """The term of the README, in the table for one test."""
    code = re.search(r"```python\n(# rlcore/rewards/swingup.py\n.*?)```", README.read_text(), re.S)
    assert code is not None
    terms = dict(swingup.TERMS)
    monkeypatch.setattr(swingup, "TERMS", terms)
    monkeypatch.setitem(rlcore.rewards.TERMS, "swingup", terms)
    exec(code[1], vars(swingup))
    return terms


def test_the_example_is_a_term_like_any_other(example):
    assert "rising" in example
    params = make_reward_params(example, {"rising.weight": 2.0})
    task, action, goes_on = SwingUp(), jnp.zeros(1), jnp.array(False)
    reward, values = shaped_reward(
        example, params, task, BEFORE, action, AFTER, goes_on, gamma=0.99
    )
    np.testing.assert_allclose(reward, 2 * (np.cos(1.0) - np.cos(2.0)), rtol=1e-6)
    np.testing.assert_allclose(values["rising"], np.cos(1.0) - np.cos(2.0), rtol=1e-6)


def test_the_example_can_be_searched_and_is_reported(example):
    check_space(TrialConfig(), {"reward.rising.weight": LogUniform(0.1, 1.0)})
    columns = segments_schema("swingup").names
    assert {"term_rising_mean", "term_rising_min", "term_rising_max"} <= set(columns)


def test_the_space_of_the_readme_can_be_searched(tmp_path):
    (example,) = re.findall(r"```yaml\n(reward\..*?)```", README.read_text(), re.S)
    path = tmp_path / "my.yaml"
    path.write_text(example)
    space = load_space(path)
    assert len(space) == example.count("\n")
    check_space(TrialConfig(reward=baseline("swingup")), space)


COMMANDS = sorted(
    {
        command.split("#")[0].strip().removesuffix("...").strip()
        for page in (README, *README.parent.glob("docs/*.md"))
        for command in re.findall(r"python (sweeps/[^`\n]*)", page.read_text())
    }
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_is_printed_has_flags_that_exist(command, monkeypatch):
    script, *arguments = shlex.split(command)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
    required = [field for field in fields(module.Flags) if field.default is MISSING]
    if arguments or not any(field.default_factory is MISSING for field in required):
        cli.parse(module.Flags, module.__doc__)


def test_there_are_commands():
    assert {command.split()[0] for command in COMMANDS} >= {
        f"sweeps/{name}.py" for name in ("reward_search", "train", "export_best", "doctor")
    }
