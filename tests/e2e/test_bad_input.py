"""Bad input ends with one plain line and exit code 2, before Ray starts, and leaves nothing behind.

The table runs in this process, which takes milliseconds a line; the last tests run a few lines of
it as a user does.
"""

import importlib
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from sweeps import cli, search
from tests.e2e.processes import Scripts
from tests.tuners.small import CONFIG, SEGMENT, small_spec
from tuners import single, tracking
from tuners.layout import SPEC_FILE

SCRIPTS = ("reward_search", "hyperparam_search", "train", "export_best", "evaluate", "track")

# What a script begins with once its input is good.
WHAT_COMES_NEXT = (
    (ray, "init"),
    (search, "start_compiling"),
    (tracking, "start_following"),
    (single, "Trial"),
)

SMOKE = "reward_search --preset smoke"
PARAMETER = "reward.cos.weight"

# A command line, and what its one line must hold: what was given, and what is allowed.
COMMANDS = {
    # flags
    "reward_search --no-such-flag": "no-such-flag",
    "reward_search --num-trails 4": "--num-trials",
    "reward_search --num-trials many": "many",
    "reward_search --num-trials": "num-trials",
    "reward_search --seed 1.5": "1.5",
    "reward_search something": "something",
    "train --no-such-flag": "no-such-flag",
    "train --budget soon": "soon",
    "export_best": "--sweep",
    "export_best --no-such-flag --sweep a": "no-such-flag",
    "export_best --sweep a --register maybe": "maybe",
    "evaluate": "Folder that export_best.py wrote",
    "evaluate . --no-such-flag": "no-such-flag",
    "evaluate . --episodes all": "all",
    "track": "--sweep",
    "track --sweep a --no-such-flag": "no-such-flag",
    # names in registries
    "reward_search --preset huge": "smoke, laptop",
    "reward_search --task pendulum": "swingup",
    f"{SMOKE} --scheduler sometimes": "asha, median, none",
    f"{SMOKE} --searcher oracle": "random, grid, tpe, gp, cmaes",
    f"{SMOKE} --searcher grid": "{choice: [...]}",
    f"{SMOKE} --searcher tpe --scheduler pbt": "searcher random",
    f"{SMOKE} --searcher cmaes --objective pareto --scheduler none": "pareto takes random",
    f"{SMOKE} --searcher cmaes": "give --scheduler none",
    f"{SMOKE} --spread-penalty 1 --objective pareto": "with pareto leave it out",
    f"{SMOKE} --spread-penalty 1 --seeds-per-trial 1": "at least 2 seeds_per_trial",
    f"{SMOKE} --scheduler pbt --objective pareto": "pareto takes asha, median or none",
    f"{SMOKE} --scheduler pbt --num-trials 1": "at least 2",
    f"{SMOKE} --objective return": "final_score, area, steps_to_threshold, pareto",
    f"{SMOKE} --spread-penalty -1": "from 0 to 10",
    f"{SMOKE} --warm-start no-such-sweep": "no-such-sweep",
    "reward_search --extend no-such-sweep --num-trials 2": "no-such-sweep",
    "reward_search --resume a --extend b": "--resume or --extend",
    "hyperparam_search --preset smoke --scheduler often": "asha, median, none, pbt",
    "train --preset huge": "smoke, laptop",
    "train --task pendulum": "swingup",
    "train --preset smoke --shape round": "baseline, task_score",
    # numbers
    f"{SMOKE} --num-trials 0": "num_trials is 0",
    f"{SMOKE} --num-trials -3": "num_trials is -3",
    f"{SMOKE} --budget 0": "budget is 0",
    f"{SMOKE} --budget -1000": "budget is -1000",
    f"{SMOKE} --budget {SEGMENT - 1}": f"one segment has {SEGMENT}",
    f"{SMOKE} --grace-period 0": "grace_period is 0",
    f"{SMOKE} --grace-period {SEGMENT + 1}": f"{SEGMENT} and {2 * SEGMENT}",
    f"{SMOKE} --grace-period {1000 * SEGMENT}": "budget",
    f"{SMOKE} --seeds-per-trial 0": "seeds_per_trial is 0",
    f"{SMOKE} --validation-seeds 3": "multiple of seeds_per_trial = 2",
    f"{SMOKE} --test-seeds 0": "test_seeds is 0",
    f"{SMOKE} --num-finalists 0": "num_finalists is 0",
    f"{SMOKE} --seed -1": "seed is -1",
    "train --preset smoke --budget -5": "budget is -5",
    f"train --preset smoke --budget {SEGMENT - 1}": f"one segment has {SEGMENT}",
    "train --preset smoke --seeds-per-trial 0": "seeds_per_trial is 0",
    "train --preset smoke --seed -1": "seed is -1",
    "train --preset smoke --video-every -1": "video_every is -1",
    "evaluate export --episodes 0": "episodes is 0",
    "evaluate export --seed -1": "seed is -1",
    # names of sweeps
    f"{SMOKE} --name a/b": "'a/b'",
    f"{SMOKE} --name ../b": "'../b'",
    f"{SMOKE} --name .hidden": "'.hidden'",
    f"{SMOKE} --name ''": "''",
    f"{SMOKE} --name taken": "--resume taken",
    "train --preset smoke --name a/b": "'a/b'",
    "train --preset smoke --name taken": "taken",
    # resuming
    "reward_search --resume unknown": "'unknown'",
    "reward_search --resume ../runs/taken/..": "no sweep",
    "reward_search --resume older": "code version 0123456789ab",
    "reward_search --resume damaged": "damaged/sweep.yaml is damaged",
    "reward_search --resume truncated": "truncated/sweep.yaml is damaged",
    "train --resume unknown": "'unknown'",
    "train --resume older": "code version 0123456789ab",
    "train --resume taken": "taken",
    # space files
    f"{SMOKE} --space missing.yaml": "missing.yaml",
    f"{SMOKE} --space runs": "runs",
    f"{SMOKE} --space binary.yaml": "binary.yaml",
    f"{SMOKE} --space broken.yaml": "broken.yaml",
    f"{SMOKE} --space empty.yaml": "empty.yaml",
    # places
    f"{SMOKE} --runs-dir file": "file is not a folder",
    f"{SMOKE} --runs-dir file/below": "file is not a folder",
    "train --preset smoke --runs-dir file/below": "file is not a folder",
    f"{SMOKE} --tracking-uri ftp://127.0.0.1/": "sqlite",
    f"{SMOKE} --tracking-uri mlruns": "sqlite",
    f"{SMOKE} --tracking-uri sqlite:///file/mlflow.db": "file is not a folder",
    f"{SMOKE} --tracking-uri sqlite:///runs": "runs",
    f"{SMOKE} --tracking-uri sqlite:///binary.yaml": "binary.yaml",
    f"{SMOKE} --tracking-uri http://": "http://",
    "train --preset smoke --tracking-uri ftp://127.0.0.1/": "sqlite",
    "train --preset smoke --tracking-uri sqlite:///file/mlflow.db": "file is not a folder",
    "track --sweep unknown": "'unknown'",
    "track --sweep taken --tracking-uri ftp://127.0.0.1/": "sqlite",
    "track --sweep taken --tracking-uri sqlite:///file/mlflow.db": "file is not a folder",
    # exports
    "export_best --sweep unknown": "'unknown'",
    "export_best --sweep taken --out new": "has not finished",
    "export_best --sweep taken --out export": "export exists",
    "export_best --sweep taken --out file": "file exists",
    "export_best --sweep taken --out file/new": "file is not a folder",
    "export_best --sweep taken --out new --tracking-uri ftp://127.0.0.1/": "sqlite",
    "evaluate missing": "missing",
    "evaluate file": "file",
    "evaluate runs": "config.yaml",
    "evaluate export": "policy.safetensors",
    "evaluate no_policy": "policy.safetensors",
    "evaluate other": "other",
    "train --config missing.yaml": "missing.yaml",
    "train --config runs": "runs",
    "train --config broken.yaml": "broken.yaml",
    "train --config space.yaml": "space.yaml",
}

# A space file with one entry, and what its one line must hold.
SPACES: dict[str, tuple[Mapping[str, Any] | list[Any] | str, str]] = {
    "unknown term": ({"reward.cosine.weight": 1.0}, "reward.cos.weight"),
    "unknown parameter of a term": ({"reward.cos.sharpness": 1.0}, "reward.cos.weight"),
    "unknown parameter": ({"learning_rte": 1e-3}, "learning_rate"),
    "unknown constant": ({"task.pole_colour": 1.0}, "task.pole_mass"),
    "the score itself": ({"reward.task_score.weight": {"uniform": [0, 1]}}, "score itself"),
    "lower above upper": ({PARAMETER: {"uniform": [1.0, 0.5]}}, "below the upper"),
    "lower equal to upper": ({PARAMETER: {"uniform": [1.0, 1.0]}}, "below the upper"),
    "log range from 0": ({"learning_rate": {"log_uniform": [0, 1e-3]}}, "above 0"),
    "log range below 0": ({"learning_rate": {"log_uniform": [-1, 1e-3]}}, "above 0"),
    "one bound": ({PARAMETER: {"uniform": [1.0]}}, "[low, high]"),
    "three bounds": ({PARAMETER: {"uniform": [1, 2, 3]}}, "[low, high]"),
    "bounds that are words": ({PARAMETER: {"uniform": ["a", "b"]}}, "[low, high]"),
    "a bound that is no number": ({PARAMETER: {"uniform": [0, float("nan")]}}, "finite"),
    "an infinite bound": ({PARAMETER: {"uniform": [0, float("inf")]}}, "finite"),
    "unknown domain": (
        {PARAMETER: {"normal": [0, 1]}},
        "uniform, log_uniform, one_minus_log_uniform, choice",
    ),
    "two domains": ({PARAMETER: {"uniform": [0, 1], "choice": [1]}}, PARAMETER),
    "no choice": ({PARAMETER: {"choice": []}}, "at least one"),
    "a choice that is a number": ({PARAMETER: {"choice": 3}}, "at least one"),
    "a choice that is nothing": ({PARAMETER: {"choice": [None]}}, PARAMETER),
    "a choice that is a mapping": ({PARAMETER: {"choice": [{"a": 1}]}}, PARAMETER),
    "a list": ({PARAMETER: [0, 1]}, PARAMETER),
    "nothing": ({PARAMETER: None}, PARAMETER),
    "a list of names": ([PARAMETER], "map"),
    "a word": ("reward", "map"),
    "a switch that is a number": ({"reward.peak.on": {"choice": [0, 1]}}, "true, false"),
    "a weight that is a word": ({PARAMETER: "high"}, "number"),
    "unknown combination": ({"reward.combine": {"choice": ["sum", "max"]}}, "sum, mean, product"),
    "minibatches that do not divide": ({"num_minibatches": {"choice": [2, 5]}}, "the nearest"),
    "a range of minibatches": ({"num_minibatches": {"uniform": [2, 4]}}, "choice"),
    "half an environment": ({"num_envs": {"choice": [16.5]}}, "whole number"),
    "unknown activation": ({"activation": {"choice": ["sine"]}}, "tanh, relu, swish"),
    "widths that are a word": ({"hidden_sizes": {"choice": ["wide"]}}, "widths"),
    "seeds": ({"seeds_per_trial": {"choice": [1, 2]}}, "cannot be searched"),
    "a discount above 1": ({"gamma": {"uniform": [0.9, 1.1]}}, "at most 1"),
    "a learning rate of 0": ({"learning_rate": 0.0}, "above 0"),
    "a pole without mass": ({"task.pole_mass": 0.0}, "above 0"),
    "a product of weights above 1": (
        {"reward.combine": "product", PARAMETER: {"uniform": [0, 2]}},
        "within [0, 1]",
    ),
    "a longer segment than the budget": ({"updates_per_segment": {"choice": [2, 1000]}}, "budget"),
    "a segment that misses the grace period": (
        {"updates_per_segment": {"choice": [2, 3]}},
        "grace_period",
    ),
}

# A config file: what is changed in a good one, and what the one line must hold.
CONFIGS: dict[str, tuple[Mapping[str, Any], str]] = {
    "unknown part": ({"rewards": {}}, "rewards"),
    "unknown task": ({"task": "pendulum"}, "swingup"),
    "a budget that is a word": ({"budget": "long"}, "budget"),
    "a budget below a segment": ({"budget": 3}, "one segment"),
    "unknown hyperparameter": ({"hyperparameters": {"momentum": 0.9}}, "momentum"),
    "a learning rate that is a word": ({"hyperparameters": {"learning_rate": "low"}}, "low"),
    "unknown term": ({"reward": {"cosine.weight": 1.0}}, "cosine"),
    "a reward that is a list": ({"reward": [1]}, "reward"),
    "unknown setting": ({"ppo": {"num_env": 4}}, "num_envs"),
    "minibatches that do not divide": ({"ppo": {"num_minibatches": 7}}, "the nearest"),
    "unknown constant": ({"constants": {"pole_colour": 1}}, "pole_mass"),
}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with sweeps, an export and files of all kinds in it."""
    monkeypatch.chdir(tmp_path)
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    Path("file").write_text("a regular file")
    Path("binary.yaml").write_bytes(bytes(range(256)))
    Path("broken.yaml").write_text("reward.cos.weight: {uniform: [0, 1\n\tnext: }")
    Path("empty.yaml").write_text("")
    Path("space.yaml").write_text(yaml.safe_dump({PARAMETER: {"uniform": [0.5, 1.0]}}))
    for name in ("taken", "older", "damaged", "truncated"):
        spec = small_spec(Path("runs"), name=name)
        spec.folder.mkdir(parents=True)
        spec.save()
    older = Path("runs/older") / SPEC_FILE
    entries = yaml.safe_load(older.read_text())
    older.write_text(yaml.safe_dump(entries | {"code_version": "0123456789ab"}))
    (Path("runs/damaged") / SPEC_FILE).write_text("spec: [")
    truncated = Path("runs/truncated") / SPEC_FILE
    truncated.write_text(truncated.read_text()[:100])
    for name in ("export", "no_policy", "other"):
        Path(name).mkdir()
        (Path(name) / "config.yaml").write_text(yaml.safe_dump(CONFIG.to_dict()))
    Path("export/policy.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0" + b"{" * 40)
    Path("other/config.yaml").write_text("not: a config")
    return tmp_path


def everything_in(folder: Path) -> dict[str, bytes | None]:
    """Content of each file, None for a folder, by path."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def run_here(command: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> tuple[Any, str, str]:
    """Exit code and output of a script, run in this process."""
    script, *arguments = shlex.split(command)

    def fail(*arguments: Any, **named: Any) -> None:
        raise AssertionError(f"nothing refused it: {capsys.readouterr()}")

    for owner, name in WHAT_COMES_NEXT:
        monkeypatch.setattr(owner, name, fail)
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *arguments])
    module = importlib.import_module(f"sweeps.{script}")
    with pytest.raises(SystemExit) as ended:
        cli.run(module.Flags, module.main, module.__doc__)
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def assert_refused(code: Any, stdout: str, stderr: str, fragment: str) -> None:
    assert code == 2, (stdout, stderr)
    assert stdout == ""
    assert stderr.count("\n") == 1
    assert stderr.startswith("error: ")
    assert not set("│╭╮╰╯─━┃") & set(stderr)
    assert "---" not in stderr  # a rule of tyro's box, where it draws in ASCII
    assert "Traceback" not in stderr
    assert fragment in stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_command_line_is_refused(command, workplace, monkeypatch, capsys):
    before = everything_in(workplace)
    assert_refused(*run_here(command, monkeypatch, capsys), COMMANDS[command])
    assert everything_in(workplace) == before


@pytest.mark.parametrize("name", SPACES)
def test_a_wrong_space_file_is_refused(name, workplace, monkeypatch, capsys):
    entries, fragment = SPACES[name]
    (workplace / "wrong.yaml").write_text(yaml.safe_dump(entries))
    before = everything_in(workplace)
    assert_refused(*run_here(f"{SMOKE} --space wrong.yaml", monkeypatch, capsys), fragment)
    assert everything_in(workplace) == before


@pytest.mark.parametrize("name", CONFIGS)
def test_a_wrong_config_file_is_refused(name, workplace, monkeypatch, capsys):
    changes, fragment = CONFIGS[name]
    (workplace / "wrong.yaml").write_text(yaml.safe_dump(CONFIG.to_dict() | changes))
    before = everything_in(workplace)
    assert_refused(*run_here("train --config wrong.yaml", monkeypatch, capsys), fragment)
    assert everything_in(workplace) == before


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_names_every_flag_and_says_what_the_script_does(
    script, workplace, monkeypatch, capsys
):
    code, stdout, stderr = run_here(f"{script} --help", monkeypatch, capsys)
    module = importlib.import_module(f"sweeps.{script}")
    assert code in (0, None)
    assert not stderr
    assert module.__doc__.splitlines()[0][:60] in stdout
    for name in module.Flags.__dataclass_fields__:
        assert name.replace("_", "-") in stdout or name.upper() in stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "reward_search --no-such-flag",
        f"{SMOKE} --name taken",
        f"{SMOKE} --tracking-uri ftp://127.0.0.1/",
        "reward_search --resume older",
        "train --config space.yaml",
        "export_best --sweep taken --out export",
        "evaluate export",
    ],
)
def test_a_real_process_refuses_it_too(command, workplace, environment):
    before = everything_in(workplace)
    script, *arguments = shlex.split(command)
    finished = Scripts(workplace, dict(environment)).run(script, *arguments)
    assert_refused(finished.code, finished.stdout, finished.stderr, COMMANDS[command])
    left = {"stdout-0", "stderr-0"}  # the output itself
    assert {k: v for k, v in everything_in(workplace).items() if k not in left} == before


@pytest.mark.slow
def test_a_folder_that_one_may_not_write_is_refused(workplace, environment):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    Path("locked").mkdir(mode=0o500)
    scripts = Scripts(workplace, dict(environment))
    finished = scripts.run("reward_search", "--preset", "smoke", "--runs-dir", "locked/runs")
    assert_refused(finished.code, finished.stdout, finished.stderr, "locked")
