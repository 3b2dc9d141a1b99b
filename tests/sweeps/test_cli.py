"""Command lines: flags from a dataclass, and every mistake in one plain line."""

import errno
import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import tyro._fmtlib
from rich.console import Console
from rich.table import Table

from sweeps import (
    balance_shapes,
    cli,
    compare,
    doctor,
    evaluate,
    export_best,
    hyperparam_search,
    joint_search,
    report,
    reward_search,
    track,
    train,
)
from tuners.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = {
    "reward_search": reward_search,
    "hyperparam_search": hyperparam_search,
    "joint_search": joint_search,
    "train": train,
    "export_best": export_best,
    "evaluate": evaluate,
    "balance_shapes": balance_shapes,
    "track": track,
    "report": report,
    "compare": compare,
    "doctor": doctor,
}
SHOWN_AS = {
    ("evaluate", "simulator"): "--in",
    **{(script, "sweep"): "NAME" for script in ("report", "export_best", "track")},
    ("compare", "sweeps"): "NAME OTHER",
}


@dataclass(frozen=True)
class Flags:
    """A script's flags."""

    sweep: str
    """Which one."""
    trials: int = 3
    """How many."""
    share: float = 0.5
    """How much."""
    register: tyro.conf.FlagConversionOff[bool] = True
    """Whether."""
    out: Path | None = None
    """Where to."""
    quick: bool = False
    """A switch."""


@pytest.fixture
def command(monkeypatch):
    """Sets the command line."""

    def give(*arguments):
        monkeypatch.setattr(sys, "argv", ["python sweeps/script.py", *map(str, arguments)])

    return give


def refused(capsys, call, *arguments, code=2):
    """The one line with which a call ends the program."""
    with pytest.raises(SystemExit) as ended:
        call(*arguments)
    assert ended.value.code == code
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    return line


def test_flags_are_read(command):
    command("--sweep", "mine", "--trials", "7", "--register", "False", "--out", "a/b", "--quick")
    assert cli.parse(Flags, None) == Flags("mine", 7, 0.5, False, Path("a/b"), True)


def test_names_with_a_dash_or_an_underscore_are_the_same(command):
    for name in ("--num-trials", "--num_trials"):
        command(name, "5")
        assert cli.parse(reward_search.Flags, None).num_trials == 5


@pytest.fixture(params=["ascii", "frames", "colours"])
def terminal(request, monkeypatch):
    """What tyro draws: as in a pipe of an old locale, a pipe, and a terminal."""
    monkeypatch.setattr(tyro._fmtlib, "_FORCE_UTF8_BOXES", request.param != "ascii")
    monkeypatch.setattr(tyro._fmtlib, "_FORCE_ANSI", request.param == "colours")


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sweep", "a", "--trails", "3"], ["--trails"]),
        (["--sweep", "a", "--trials", "many"], ["many", "--trials", "int"]),
        (["--sweep", "a", "--trials", "2.5"], ["2.5", "int"]),
        (["--sweep", "a", "--share", "half"], ["half", "float"]),
        (["--sweep", "a", "--register", "maybe"], ["maybe", "True", "False"]),
        (["--sweep", "a", "--trials"], ["--trials"]),
        (["--sweep"], ["--sweep"]),
        ([], ["--sweep"]),
        (["--sweep", "a", "stray"], ["stray"]),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_line(command, capsys, arguments, said):
    command(*arguments)
    line = refused(capsys, cli.parse, Flags, None)
    for words in said:
        assert words in line
    assert not set(line) & set("│╭╰─\x1b"), "no frame and no colour"
    assert "---" not in line, "no frame"
    assert "helptext" not in line


@pytest.mark.usefixtures("terminal")
def test_a_value_without_a_name_that_is_missing_is_named(command, capsys):
    command()
    line = refused(capsys, cli.parse, evaluate.Flags, None)
    assert "EXPORT" in line.upper().replace("EXPORT_BEST", "")
    assert "---" not in line


@pytest.mark.parametrize("columns", ["20", "300"])
def test_the_line_does_not_depend_on_the_terminal(command, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    command("--sweep", "a", "--trials", "many")
    line = refused(capsys, cli.parse, Flags, None)
    assert "many" in line
    assert "--trials" in line


@pytest.mark.parametrize(
    ("width", "lines"), [(40, ["0.11 M", "[0.10, 0.21]"]), (41, ["0.11 M [0.10, 0.21]"])]
)
def test_an_interval_is_never_broken(width, lines):
    def make_table(between):
        table = Table("column", box=None, pad_edge=False)
        table.add_column("x" * 15)
        table.add_row("a" * 20, between.join(("0.11 M", "[0.10, 0.21]")))
        return table

    page = io.StringIO()
    cli.print_table(Console(file=page, width=width), make_table)
    shown = [line.removeprefix("a" * 20).strip() for line in page.getvalue().splitlines()[1:]]
    assert shown == lines


def test_help_is_no_mistake(command, capsys):
    command("--help")
    with pytest.raises(SystemExit) as ended:
        cli.parse(Flags, "About the script.")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "About the script." in shown
    assert "How many." in shown


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_explains_itself_and_its_flags(command, capsys, name):
    script = SCRIPTS[name]
    command("--help")
    with pytest.raises(SystemExit) as ended:
        cli.parse(script.Flags, script.__doc__)
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert " ".join(script.__doc__.split())[:60] in shown
    for field in script.Flags.__dataclass_fields__:
        flag = SHOWN_AS.get((name, field), f"--{field.replace('_', '-')}")
        is_there = re.search(rf"(?<!\w)({flag}|--no-{flag[2:]}|{field.upper()})(?![\w-])", shown)
        assert is_there, flag


def run_with(error=None, returned=0):
    """Runs a script whose main raises ``error`` or returns a number."""

    def main(flags):
        if error is not None:
            raise error
        return returned

    cli.run(Flags, main, None)


@pytest.fixture
def valid(command):
    command("--sweep", "mine")


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1), (130, 130)])
def test_what_main_returns_is_the_exit_code(valid, returned, code):
    with pytest.raises(SystemExit) as ended:
        run_with(returned=returned)
    assert ended.value.code == code


def test_a_script_leaves_the_memory_of_a_gpu_to_trials(valid, monkeypatch):
    name = "XLA_PYTHON_CLIENT_PREALLOCATE"
    monkeypatch.delenv(name, raising=False)
    for given in ("false", "true"):
        with pytest.raises(SystemExit):
            run_with()
        assert os.environ[name] == given
        monkeypatch.setenv(name, "true")  # of a user who wants it so


def test_bad_input_is_one_line(valid, capsys):
    line = refused(capsys, run_with, BadInput("seed is -1,\n  but must be at least 0"))
    assert line == "error: seed is -1, but must be at least 0"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_full_disk_is_one_line(valid, capsys, number):
    error = OSError(number, os.strerror(number), "/runs/mine/trials.parquet")
    line = refused(capsys, run_with, error, code=1)
    assert line == f"error: {os.strerror(number)}: /runs/mine/trials.parquet"


def test_an_interruption_is_one_line(valid, capsys):
    assert refused(capsys, run_with, KeyboardInterrupt(), code=130) == "error: interrupted"


@pytest.mark.parametrize(
    "error", [ValueError("a mistake of ours"), TypeError("too"), OSError("says no more")]
)
def test_our_own_mistakes_keep_their_traceback(valid, error):
    with pytest.raises(type(error)) as raised:
        run_with(error)
    assert raised.value is error


def run_script(name, *arguments, cwd):
    """What a user meets: exit code, and what was written to stdout and stderr."""
    process = subprocess.run(
        [sys.executable, ROOT / "sweeps" / f"{name}.py", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"RAY_TMPDIR": str(cwd)},  # no cluster runs there
    )
    return process.returncode, process.stdout, process.stderr


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("reward_search", ["--num-trial", "3"], "--num-trial"),
        ("reward_search", ["--preset", "tiny"], "preset is 'tiny'; allowed: smoke, laptop"),
        ("export_best", [], "NAME"),
        ("train", ["--resume", "missing"], "no sweep 'missing' in runs; the latest there: none"),
        ("report", [], "NAME"),
        ("report", ["missing"], "no sweep 'missing' in runs; the latest there: none"),
        ("doctor", ["--tracking-uri", "ftp://host"], "tracking URI is 'ftp://host'; allowed"),
        ("doctor", ["--check", "missing.yaml"], "missing.yaml is no file; cluster.yaml and"),
        ("doctor", ["--address", "127.0.0.1:1"], "no Ray cluster answers at "),
        ("doctor", ["--address", "ray://10.0.0.1:10001"], "ray submit cluster.yaml"),
        ("doctor", ["--timeout", "0"], "timeout is 0 s, but must be above 0"),
        ("compare", ["one"], "give the names of at least two sweeps; given: one"),
    ],
)
def test_a_user_meets_one_line_and_no_file(tmp_path, name, arguments, said):
    code, out, err = run_script(name, *arguments, cwd=tmp_path)
    assert code == 2
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("variable", "value", "on_screen", "drawn"),
    [
        ("TERM", "xterm", True, True),
        ("TERM", "dumb", True, False),
        ("JPY_PARENT_PID", "1", True, False),
        ("FORCE_COLOR", "1", False, False),
        ("TERM", "xterm", False, False),
    ],
)
def test_only_a_screen_is_drawn_again_and_again(monkeypatch, variable, value, on_screen, drawn):
    """A coloured log was filled with frames; a screen that cannot draw showed nothing."""
    for name in ("FORCE_COLOR", "JPY_PARENT_PID", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(variable, value)
    page = io.StringIO()
    monkeypatch.setattr(page, "isatty", lambda: on_screen)
    monkeypatch.setattr(sys, "stdout", page)
    assert cli.make_console().is_interactive == drawn


MANY_LINES = """
from sweeps.cli import make_console
console = make_console()
while True:
    console.print("x" * 1000)
"""


def test_it_is_said_where_nobody_reads_any_more():
    """As after `| head`: a sweep would end without a word."""
    command = [sys.executable, "-c", MANY_LINES]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 1
    assert said.startswith("error: whoever read the output has gone")
    assert said.count("\n") == 1


def test_a_script_runs_without_an_output():
    """As cron or a shell's >&- leave it."""
    command = f"{sys.executable} -m sweeps.compare >&-"
    ended = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
