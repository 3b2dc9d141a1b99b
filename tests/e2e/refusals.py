"""A place with sweeps and files of all kinds, and a script run there that must refuse its input."""

import importlib
import json
import os
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from sweeps import cli, search, shapes
from tests.tuners.small import CONFIG, segment_row, small_spec, trial_row
from tuners import following, single, tracking
from tuners.config import baseline
from tuners.layout import SPEC_FILE
from tuners.results import ResultsWriter
from tuners.spec import SweepSpec
from tuners.spec_file import read_spec_file, write_entries
from tuners.validate import COLUMNS

# What a script begins with once its input is good.
_WHAT_COMES_NEXT = (
    (ray, "init"),
    (search, "start_compiling"),
    (shapes, "start_compiling"),
    (following, "start_following"),
    (tracking.Follower, "finish"),
    (single, "Trial"),
)
# Of this project, of MLflow, Ray and AWS: what a test does not set is not there.
_ENVIRONMENT = ("SHAPESWEEP_", "MLFLOW_", "RAY_ADDRESS", "RAY_USAGE_STATS", "AWS_")
SECRET = "planted"  # in whatever is given
PARAMETER = "reward.cos.weight"
SAVED = "tune/session-001/validation-trial-001-0/checkpoint_000001"  # the winner's best
SEGMENTS = "segments.parquet/00000001-00000001.parquet"


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``workplace`` is a copy of."""
    folder = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        _fill()
    return folder


@pytest.fixture
def workplace(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with sweeps, an export and files of all kinds in it."""
    place = tmp_path / "place"
    shutil.copytree(template, place, symlinks=True)
    monkeypatch.chdir(place)
    for name in [name for name in os.environ if name.startswith(_ENVIRONMENT)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # where no other Ray of this machine is noted
    return place


def _fill() -> None:
    Path("file").write_text("a regular file")
    Path("dangling").symlink_to("nowhere")
    Path("binary.yaml").write_bytes(bytes(range(256)))
    Path("broken.yaml").write_text("reward.cos.weight: {uniform: [0, 1\n\tnext: }")
    Path("empty.yaml").write_text("")
    Path("cluster.yaml").write_text("")
    Path("space.yaml").write_text(yaml.safe_dump({PARAMETER: {"uniform": [0.5, 1.0]}}))
    for name in ("taken", "older", "damaged", "truncated"):
        _begin(small_spec(Path("runs"), name=name))
    _begin(small_spec(Path("runs"), name="balance", task="balance", reward=baseline("balance")))
    alone = {"space": {}, "scheduler": "none"}
    _begin(replace(small_spec(Path("runs"), name="trained", **alone), preset="train"))
    _begin(small_spec(Path("runs"), name="shapes", **alone))
    older = Path("runs/older")
    write_entries(older, read_spec_file(older) | {"code_version": "0123456789ab"})
    (Path("runs/damaged") / SPEC_FILE).write_text("spec: [")
    truncated = Path("runs/truncated") / SPEC_FILE
    truncated.write_text(truncated.read_text()[:100])
    _finish(small_spec(Path("runs"), name="done"))
    for name in ("export", "no_policy", "other"):
        Path(name).mkdir()
        (Path(name) / "config.yaml").write_text(yaml.safe_dump(CONFIG.to_dict()))
    Path("export/policy.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0" + b"{" * 40)
    Path("other/config.yaml").write_text("not: a config")


def _begin(spec: SweepSpec) -> None:
    spec.folder.mkdir(parents=True)
    spec.save()


def _finish(spec: SweepSpec) -> None:
    """Writes the files of a sweep that ended; its one checkpoint is damaged."""
    _begin(spec)
    (spec.folder / SAVED).mkdir(parents=True)
    (spec.folder / SAVED / "state.safetensors").write_bytes(b"damaged")
    writer = ResultsWriter(spec.folder, "swingup")
    jobs = {
        **{f"trial-{i:03d}": ("search", f"trial-{i:03d}" if i else "baseline") for i in range(4)},
        **{f"test-{row}-0": ("test", row) for row in ("baseline", "trial-001")},
        **{f"validation-{row}-0": ("validation", row) for row in ("baseline", "trial-001")},
    }
    for name, (phase, row) in jobs.items():
        last = segment_row(name, 8, phase, done=True, stop_reason="budget")
        for segment in range(1, 8):
            writer.add_segment(segment_row(name, segment, phase))
        writer.add_segment(last)
        ended = {key: last[key] for key in ("objective", "score", "final_score", "area")}
        ended |= {"steps_to_threshold": 0.01, "status": "finished", "stop_reason": "budget"}
        ended |= {"env_steps": last["env_steps"], "ended": 1010.0}
        writer.put_trial(trial_row(name, phase, row, **ended, checkpoint=None))
    writer.put_trial({"trial": "validation-trial-001-0", "checkpoint": SAVED})
    writer.flush()
    (spec.folder / "comparison.json").write_text(comparison())


def comparison(**changes: Any) -> str:
    """A sweep's ``comparison.json``, with some of it changed."""
    cell = {"value": 870.0, "low": 860.0, "high": 880.0}
    stood = {"above": 2, "seeds": 2, "never": 0.1}
    entries = {
        "sweep": "done",
        "num_trials": 4,
        "winner": "trial-001",
        "config": CONFIG.to_dict(),
        "table": {row: dict.fromkeys(COLUMNS, cell) for row in ("trial-001", "baseline")},
        "improvement": {"baseline": dict.fromkeys(COLUMNS, cell)},
        "over_tuning": 1.0,
        "validation": {"trial-001": 800.0, "baseline": 700.0},
        "best_trial": "validation-trial-001-0",
        "test_seeds": 2,
        "at_end": dict.fromkeys(("trial-001", "baseline"), stood),
    }
    return json.dumps(entries | changes)


def everything_in(folder: Path) -> dict[str, bytes | None]:
    """Content of each file, None for a folder, by path; without what says who drove a sweep."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name != "driver.lock"
    }


def run_here(command: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> tuple[Any, str, str]:
    """Exit code and output of a script, run in this process."""
    script, *arguments = shlex.split(command)

    def fail(*arguments: Any, **named: Any) -> None:
        raise AssertionError(f"nothing refused it: {capsys.readouterr()}")

    for owner, name in _WHAT_COMES_NEXT:
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
    assert SECRET not in stderr
    assert fragment in stderr, stderr
