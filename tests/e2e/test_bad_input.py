"""Bad input ends with one plain line and exit code 2, before Ray starts, and leaves nothing behind.

The table runs in this process, which takes milliseconds a line; the last tests run a few lines of
it as a user does.
"""

import importlib
import os
import shlex
from pathlib import Path

import pytest

from tests.e2e.processes import Scripts
from tests.e2e.refusals import SECRET, assert_refused, everything_in, run_here
from tests.tuners.small import SEGMENT

SCRIPTS = (
    *("reward_search", "hyperparam_search", "joint_search", "balance_shapes", "train", "doctor"),
    *("export_best", "evaluate", "track", "report", "compare"),
)

LONG = "x" * 300  # longer than a name on disk can be

SMOKE = "reward_search --preset smoke"

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
    "export_best": "NAME",
    "export_best a --no-such-flag": "no-such-flag",
    "export_best --sweep a": "NAME is missing",
    "report --sweep a": "NAME is missing",
    "export_best a --register maybe": "maybe",
    "evaluate": "Folder that export_best.py wrote",
    "evaluate . --no-such-flag": "no-such-flag",
    "evaluate . --episodes all": "all",
    "track": "NAME",
    "track a --no-such-flag": "no-such-flag",
    # names in registries
    "reward_search --preset huge": "smoke, laptop",
    "reward_search --task no-such-task": "swingup",
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
    "train --task no-such-task": "swingup",
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
    "reward_search --resume taken --preset smoke --num-trials 9": (
        "--resume says all of that already: leave out --preset, --num-trials"
    ),
    "reward_search --extend taken --num-trials 9 --seed 3": "leave out --seed",
    "train --resume taken --budget 9": "leave out --budget",
    "train --config export/config.yaml --task balance": "leave out --task",
    "reward_search --resume unknown": "'unknown'",
    "reward_search --resume ../runs/taken/..": "'../runs/taken/..'",
    "reward_search --resume trained": "'trained' is a run of train.py",
    "hyperparam_search --extend trained --num-trials 3": "'trained' is a run of train.py",
    "reward_search --resume shapes": "'shapes' is a comparison of shapes",
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
    f"{SMOKE} --runs-dir s3://bucket/runs": "a search takes s3://bucket/runs as --storage",
    f"{SMOKE} --tracking-uri ftp://127.0.0.1/": "sqlite",
    f"{SMOKE} --tracking-uri mlruns": "sqlite",
    f"{SMOKE} --tracking-uri sqlite:///file/mlflow.db": "file is not a folder",
    f"{SMOKE} --tracking-uri sqlite:///runs": "runs",
    f"{SMOKE} --tracking-uri sqlite:///binary.yaml": "binary.yaml",
    f"{SMOKE} --tracking-uri http://": "http://",
    "train --preset smoke --tracking-uri ftp://127.0.0.1/": "sqlite",
    "train --preset smoke --tracking-uri sqlite:///file/mlflow.db": "file is not a folder",
    "track unknown": "'unknown'",
    "track taken --tracking-uri ftp://127.0.0.1/": "sqlite",
    "track taken --tracking-uri sqlite:///file/mlflow.db": "file is not a folder",
    # exports
    "export_best unknown": "'unknown'",
    "export_best taken --out new": "has not finished",
    "export_best trained --out new": "'trained' is a run of train.py",
    "compare taken shapes": "'shapes' is a comparison of shapes",
    f"{SMOKE} --warm-start trained": "'trained' is a run of train.py",
    "export_best taken --out export": "export exists",
    "export_best taken --out file": "file exists",
    "export_best taken --out file/new": "file is not a folder",
    "export_best taken --out new --tracking-uri ftp://127.0.0.1/": "sqlite",
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
    # the other scripts
    "hyperparam_search --no-such-flag": "no-such-flag",
    "hyperparam_search --preset smoke --task no-such-task": "swingup",
    "hyperparam_search --resume unknown": "'unknown'",
    "joint_search --no-such-flag": "no-such-flag",
    "joint_search --preset smoke --searcher oracle": "random, grid, tpe, gp, cmaes",
    "joint_search --preset smoke --name ..": "'..'",
    "joint_search --extend taken": "--num-trials",
    "joint_search --extend taken --num-trials 2": "--resume taken",
    "balance_shapes --no-such-flag": "no-such-flag",
    "balance_shapes --preset smoke --seeds 0": "seeds is 0",
    "balance_shapes --preset huge": "smoke, laptop",
    "balance_shapes --preset smoke --budget 1": "one segment has",
    "balance_shapes --preset smoke --name ../b": "'../b'",
    "balance_shapes --preset smoke --name taken": "taken",
    "balance_shapes --preset smoke --runs-dir file": "file is not a folder",
    "balance_shapes --preset smoke --tracking-uri ftp://127.0.0.1/": "sqlite",
    "balance_shapes --preset smoke --seed many": "many",
    "report": "NAME",
    "report done --no-such-flag": "no-such-flag",
    "report unknown": "'unknown'",
    "report ../runs/done": "'../runs/done'",
    "report damaged": "damaged/sweep.yaml is damaged",
    "report done --out runs": "runs is a folder",
    "report done --out file/page.html": "file is not a folder",
    f"report done --out {LONG}.html": "File name too long",
    "compare": "at least two sweeps",
    "compare done": "at least two sweeps",
    "compare done done": "'done' is given twice",
    "compare done unknown": "'unknown'",
    "compare done /etc": "'/etc'",
    "compare done balance": "cannot be compared",
    "compare done taken --out runs": "runs is a folder",
    "compare done taken --out file/page.html": "file is not a folder",
    "doctor --no-such-flag": "no-such-flag",
    "doctor --timeout 0": "timeout is 0",
    "doctor --timeout nan": "timeout is nan",
    "doctor --expect-gpus -1": "expect_gpus is -1",
    "doctor --tracking-uri ftp://127.0.0.1/": "sqlite",
    "doctor --storage ftp://host/runs": "it may begin with s3://, file://",
    "doctor --storage s3://": "names no bucket",
    "report done --runs-dir s3://bucket/runs": "must be a folder here",
    "export_best done --out new --runs-dir s3://bucket/runs": "must be a folder here",
    "doctor --runs-dir s3://bucket/runs": "a search takes s3://bucket/runs as --storage",
    "doctor --check missing.yaml": "missing.yaml",
    "doctor --check runs": "runs is no file",
    "doctor --address http://127.0.0.1:8265": "runs on a machine of the cluster",
    "doctor --address nowhere": "HOST:PORT",
    f"{SMOKE} --address http://127.0.0.1:8265": "runs on a machine of the cluster",
    f"{SMOKE} --address nowhere": "HOST:PORT",
    f"{SMOKE} --address 127.0.0.1:1": "no Ray cluster answers at",
    f"{SMOKE} --cluster missing.yaml": "missing.yaml",
    f"{SMOKE} --cluster space.yaml": "space.yaml",
    f"{SMOKE} --cluster cluster.yaml --address auto": "not both",
    # more numbers
    f"{SMOKE} --seed 1000000": "between 0 and 100000",
    f"{SMOKE} --num-trials 1000000000": "at most 1,000,000",
    f"{SMOKE} --budget 1e6": "1e6",
    f"{SMOKE} --spread-penalty nan": "nan",
    f"{SMOKE} --slots -1": "slots is -1",
    f"{SMOKE} --slots 5000": "between 0 and 1000",
    f"{SMOKE} --precision float16": "float32, tensorfloat32",
    f"{SMOKE} --media maybe": "maybe",
    f"{SMOKE} --test-seeds 20000": "at most 10000",
    f"{SMOKE} --seeds-per-trial 20000": "seeds_per_trial",
    "train --preset smoke --seeds-per-trial 10000000": "at most 1,000,000",
    "evaluate export --episodes 1.5": "1.5",
    "evaluate export --in atari": "gymnasium, dm_control",
    "evaluate export --in gymnasium --video a.mp4": "leave out --in",
    "evaluate export --video runs": "runs is a folder",
    "evaluate export --video a.gif": "a.gif, but must end in .mp4",
    "evaluate export --video file/a.mp4": "file is not a folder",
    # more places and names
    f"{SMOKE} --name {LONG}": "up to 100 letters",
    f"{SMOKE} --name 'a\\b'": "letters, digits",
    f"{SMOKE} --name ' a'": "letters, digits",
    f"{SMOKE} --name $HOME": "letters, digits",
    f"{SMOKE} --runs-dir {LONG}": "File name too long",
    f"{SMOKE} --space {LONG}.yaml": "File name too long",
    f"{SMOKE} --warm-start /etc": "'/etc'",
    f"{SMOKE} --warm-start ../runs/taken": "'../runs/taken'",
    f"{SMOKE} --warm-start balance": "of task balance",
    "reward_search --resume /etc": "'/etc'",
    "reward_search --extend ../taken --num-trials 1": "'../taken'",
    "train --resume ../runs/taken": "'../runs/taken'",
    "export_best ../runs/done": "'../runs/done'",
    "track /etc": "'/etc'",
    f"export_best done --out {LONG}": "File name too long",
    "export_best done --out dangling": "dangling exists",
    f"train --config {LONG}.yaml": "File name too long",
    f"evaluate {LONG}": "File name too long",
    f"{SMOKE} --storage ftp://host/runs": "it may begin with s3://, file://",
    f"{SMOKE} --storage runs": "it may begin with s3://, file://",
    f"{SMOKE} --storage s3://": "names no bucket",
    f"{SMOKE} --storage s3://bucket?region=x": "leave out what follows",
    f"{SMOKE} --storage s3://[/runs": "s3://[/runs",
    f"{SMOKE} --storage file://runs": "absolute path",
    f"{SMOKE} --storage s3://key:{SECRET}@bucket/runs": "AWS_SECRET_ACCESS_KEY",
    f"{SMOKE} --tracking-uri http://[": "http://[",
    f"{SMOKE} --tracking-uri http://host:port": "http://host:port",
    f"{SMOKE} --tracking-uri http://name@host": "NAME:PASSWORD",
    f"{SMOKE} --tracking-uri sqlite:mlflow.db": "sqlite:///FILE",
    f"{SMOKE} --tracking-uri sqlite:///{LONG}": "File name too long",
    f"{SMOKE} --tracking-uri ''": "sqlite",
    # what is given holds a password, and the line does not
    f"{SMOKE} --tracking-uri ftp://me:{SECRET}@host": "ftp://***@host",
    f"{SMOKE} --tracking-uri http://me:{SECRET}@host:port": "***@host:port",
    f"{SMOKE} --tracking-uri postgresql://me:{SECRET}@/mlflow": "names no host",
    f"{SMOKE} --tracking-uri mssql://?password={SECRET}": "names no host",
    f"{SMOKE} --cluster cluster.yaml --tracking-uri http://me:{SECRET}@host": "leave it out",
    f"{SMOKE} --cluster cluster.yaml --storage s3://key:{SECRET}@bucket": "leave it out",
    f"reward_search --tracking-url http://me:{SECRET}@host": "tracking-uri",
    f"doctor --storage s3://key:{SECRET}@bucket/runs": "AWS_SECRET_ACCESS_KEY",
    f"train --preset smoke --tracking-uri ftp://me:{SECRET}@host": "ftp://***@host",
    f"track taken --tracking-uri ftp://me:{SECRET}@host": "ftp://***@host",
}

# Of the environment: a variable, its value, a command line, and what its one line must hold.
ENVIRONMENT = (
    (
        "SHAPESWEEP_PRESET",
        "huge",
        "reward_search",
        "SHAPESWEEP_PRESET is 'huge'; allowed: auto, smoke",
    ),
    ("SHAPESWEEP_RUNS_DIR", "file", SMOKE, "file is not a folder"),
    ("SHAPESWEEP_RUNS_DIR", "file/below", "train --preset smoke", "file is not a folder"),
    ("SHAPESWEEP_RUNS_DIR", "elsewhere", "report done", "'done'"),
    ("SHAPESWEEP_CACHE", "file", SMOKE, "/file is not a folder"),
    ("SHAPESWEEP_CACHE", "file/below", SMOKE, "/file/below cannot be written"),
    ("HOME", "file", SMOKE, "(SHAPESWEEP_CACHE) file/.cache/shapesweep cannot be written"),
    ("SHAPESWEEP_STORE", "ftp://host/team", SMOKE, "it may begin with s3://, file://"),
    ("SHAPESWEEP_STORE", f"s3://key:{SECRET}@bucket/team", SMOKE, "AWS_SECRET_ACCESS_KEY"),
    ("SHAPESWEEP_STORE", "s3:///team", "export_best unknown", "names no bucket"),
    ("MLFLOW_TRACKING_URI", "ftp://127.0.0.1/", SMOKE, "sqlite"),
    ("MLFLOW_TRACKING_URI", f"ftp://me:{SECRET}@host", SMOKE, "ftp://***@host"),
    ("MLFLOW_TRACKING_URI", "mlruns", "train --preset smoke", "sqlite"),
    ("MLFLOW_TRACKING_URI", "sqlite:///file/mlflow.db", "balance_shapes", "file is not a folder"),
    ("MLFLOW_TRACKING_URI", "http://host:port", "doctor", "http://host:port"),
    ("RAY_ADDRESS", "http://127.0.0.1:8265", SMOKE, "runs on a machine of the cluster"),
    ("RAY_ADDRESS", "nowhere", "doctor", "HOST:PORT"),
    ("RAY_ADDRESS", "127.0.0.1:1", SMOKE, "no Ray cluster answers at"),
    ("RAY_USAGE_STATS_ENABLED", "yes", SMOKE, "0, 1"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_command_line_is_refused(command, workplace, monkeypatch, capsys):
    before = everything_in(workplace)
    assert_refused(*run_here(command, monkeypatch, capsys), COMMANDS[command])
    assert everything_in(workplace) == before


@pytest.mark.parametrize(("variable", "value", "command", "fragment"), ENVIRONMENT)
def test_a_wrong_environment_is_refused(
    variable, value, command, fragment, workplace, monkeypatch, capsys
):
    monkeypatch.setenv(variable, value)
    before = everything_in(workplace)
    assert_refused(*run_here(command, monkeypatch, capsys), fragment)
    assert everything_in(workplace) == before


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_says_what_the_script_does_and_no_secret(script, workplace, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{SECRET}@host")
    monkeypatch.setenv("SHAPESWEEP_STORE", f"s3://key:{SECRET}@bucket")
    code, stdout, stderr = run_here(f"{script} --help", monkeypatch, capsys)
    module = importlib.import_module(f"sweeps.{script}")
    assert code in (0, None)
    assert not stderr
    assert SECRET not in stdout  # among the defaults
    assert module.__doc__.splitlines()[0][:60] in stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "reward_search --no-such-flag",
        f"{SMOKE} --name taken",
        f"{SMOKE} --tracking-uri ftp://127.0.0.1/",
        "reward_search --resume older",
        "train --config space.yaml",
        "export_best taken --out export",
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
