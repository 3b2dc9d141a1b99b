"""What the search scripts share: from flags to a sweep, and from its result to the terminal."""

import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sweeps import places
from sweeps.cli import flags_given, make_console, print_table, refuse_beside
from sweeps.commands import on_sweep, program_here
from sweeps.search_flags import Flags, as_arguments
from tuners.ahead import refuse_untraceable, start_compiling
from tuners.config import baseline, static_configs
from tuners.describe import describe_change, likeness_to_score
from tuners.errors import BadInput
from tuners.final_table import (
    COLUMN_TITLES,
    estimate_lines,
    improvement_lines,
    interval_name,
    seen_before,
    verdict,
)
from tuners.gpu import INSTALL_CUDA, has_cuda
from tuners.job_names import BASELINE
from tuners.layout import MEDIA_FOLDER, MLFLOW_LOG, REPORT_FILE
from tuners.lock import driving
from tuners.login import masked, without_login
from tuners.objectives import gap_text
from tuners.presets import PRESETS
from tuners.ray_settings import apply_ray_settings, joins_cluster
from tuners.sequels import begin_with, extend, not_taken, seeds_spent
from tuners.space import Domain, load_space
from tuners.spec import SweepSpec, check_is_search, make_spec, prepare
from tuners.spec_file import check_code_version
from tuners.store import check_address
from tuners.tracking import run_link

if TYPE_CHECKING:
    from tuners.run import SweepResult


# Flags that say which sweep, and where; every other one is a setting of it.
_NOT_SETTINGS = {"preset", "task", "name", "resume", "extend", "warm_start", "space", "address"}
_NOT_SETTINGS |= {"cluster", "tracking_uri", "runs_dir", "storage"}


def run_search(
    flags: Flags,
    default_space: Callable[[str], Mapping[str, Domain]],
    script: str,
    searcher: str = "random",
) -> int:
    """Runs the sweep that the flags ask for and prints what it found; returns the exit code.

    Args:
        flags: from the command line.
        default_space: the space of a task that is searched unless a file gives another.
        script: the file that was started; named where a command is printed.
        searcher: what searches unless a flag names another; docs/search.md says why.
    """
    if flags.cluster is not None:
        return _submit(flags, flags.cluster, script)
    apply_ray_settings(flags.address)
    console = make_console()
    check_address_joinable(flags.address, f"sweeps/{Path(script).name}")
    spec = _make_spec(flags, default_space, searcher, console)
    try:
        with driving(spec.folder, is_new=flags.resume is None and flags.extend is None):
            if flags.extend is not None:
                spec = extend(spec, flags.num_trials)
            return _run(spec, console, flags.address)
    except KeyboardInterrupt:
        console.print(
            f"Interrupted. Everything known is in {spec.folder}; to go on:\n"
            f"  {on_sweep(Path(script).name, spec, '--resume')}"
        )
        return 130


def _run(spec: SweepSpec, console: Console, address: str | None) -> int:
    _print_plan(console, spec)
    begun = time.monotonic()
    configs = static_configs(spec.base, spec.space) if spec.trains_each_alone else ()
    compiling = start_compiling(spec.base, configs)
    from tuners.run import run_sweep  # Ray takes seconds to import

    refuse_untraceable(compiling)
    result = run_sweep(spec, console=console, address=address)
    print_result(console, spec, result, time.monotonic() - begun)
    return 0


def _submit(flags: Flags, cluster: Path, script: str) -> int:
    """Runs the search on a cluster's head; returns its exit code.

    Raises:
        BadInput: flags that mean nothing there, a mistaken file, or a cluster that is not up.
    """
    if flags.address is not None:
        raise BadInput("give --cluster or --address, not both")
    if flags.storage is not None:
        check_address(flags.storage)
    files = {}
    if flags.space is not None:
        load_space(flags.space)
        name = f"space-{time.strftime('%Y%m%d-%H%M%S')}.yaml"
        files[name] = flags.space
        flags = replace(flags, space=Path(name))
    from tuners.cluster.submit import run_on_cluster  # imports Ray

    arguments = as_arguments(replace(flags, cluster=None))
    return run_on_cluster(cluster, f"sweeps/{Path(script).name}", arguments, files)


def check_address_joinable(address: str | None, script: str) -> None:
    """Refuses, before anything is made, a cluster that ``script`` cannot join from here."""
    if joins_cluster(address):
        from tuners.cluster.joining import check_joinable  # imports Ray

        check_joinable(address, script)


def _make_spec(
    flags: Flags,
    default_space: Callable[[str], Mapping[str, Domain]],
    searcher: str,
    console: Console,
) -> SweepSpec:
    """Returns the sweep to run; its folder is there and fits.

    Raises:
        BadInput: flags that cannot be met.
    """
    goes_on = [name for name in ("resume", "extend") if getattr(flags, name) is not None]
    if len(goes_on) == 2:
        raise BadInput("give --resume or --extend, not both")
    if not goes_on:
        if flags.searcher is None and flags.scheduler != "pbt":  # which searches by itself
            flags = replace(flags, searcher=searcher)
        before = None if flags.warm_start is None else _find(flags, flags.warm_start)
        spec = _fresh(flags, default_space, before)
        prepare(spec, resume=False)
        if before is not None:
            for line in not_taken(spec, before):
                console.print(f"The best of '{before.name}' are taken but for what is {line}.")
        return spec
    (how,) = goes_on
    free = {how, "runs_dir", "storage", "address", *(["num_trials"] if how == "extend" else [])}
    refuse_beside(how, (name for name in flags_given(flags) if name not in free))
    spec = _find(flags, getattr(flags, how))
    check_is_search(spec)
    check_code_version(spec.folder)
    prepare(spec, resume=True)
    return spec


def _fresh(
    flags: Flags,
    default_space: Callable[[str], Mapping[str, Domain]],
    before: SweepSpec | None,
) -> SweepSpec:
    given = {name: value for name, value in vars(flags).items() if name not in _NOT_SETTINGS}
    if before is not None and flags.seed is None:
        given["seed"] = max(seeds_spent(before)) + 1  # those chose what it begins with
    space = load_space(flags.space) if flags.space is not None else default_space(flags.task)
    preset = pick_preset(flags.address) if flags.preset == "auto" else flags.preset
    spec = make_spec(
        name=f"{flags.task}-{time.strftime('%Y%m%d-%H%M%S')}" if flags.name is None else flags.name,
        preset=preset,
        task=flags.task,
        reward=baseline(flags.task),
        space=space,
        **_places(flags),
        **given,
    )
    return spec if before is None else begin_with(spec, before)


def _find(flags: Flags, name: str) -> SweepSpec:
    where = _places(flags)
    return places.find_sweep(where["runs_dir"], name, where["storage"])


def _places(flags: Flags) -> dict[str, Any]:
    """Returns where things go: what was given, or else what the environment says."""
    usual = {
        "tracking_uri": places.tracking_uri,
        "runs_dir": places.runs_dir,
        "storage": places.default_storage,
    }
    given = {name: getattr(flags, name) for name in usual}
    return {name: usual[name]() if value is None else value for name, value in given.items()}


def pick_preset(address: str | None) -> str:
    """Returns the preset for the machine or cluster at hand: SHAPESWEEP_PRESET, if that is set.

    Raises:
        BadInput: that is no preset.
    """
    if (given := os.environ.get("SHAPESWEEP_PRESET") or "auto") != "auto":
        if given not in PRESETS:
            raise BadInput(f"SHAPESWEEP_PRESET is '{given}'; allowed: auto, {', '.join(PRESETS)}")
        return given
    if joins_cluster(address):
        return "cluster"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1", "NoDevFiles")
    if hidden or os.environ.get("JAX_PLATFORMS") == "cpu":
        return "laptop"
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/dxg").exists():
        return "laptop"
    if has_cuda():
        return "gpu"
    print(
        "There is an NVIDIA GPU here, which the JAX installed here cannot use, so the CPU trains:"
        f" {INSTALL_CUDA}.",
        file=sys.stderr,
    )
    return "laptop"


def _print_plan(console: Console, spec: SweepSpec) -> None:
    length = f"{spec.base.full_length:,} env_steps ({spec.base.num_segments} segments)"
    console.print(
        Text.assemble(
            (spec.name, "bold"),
            f"  preset {spec.preset}: {spec.num_trials} trials x"
            f" {spec.base.ppo.seeds_per_trial} seeds, up to {length} each;"
            f" then {spec.validation_seeds} validation and {spec.test_seeds} test seeds",
        )
    )
    if spec.uses_gpu and os.environ.get("JAX_PLATFORMS") == "cpu":
        console.print("JAX_PLATFORMS is 'cpu' here: no trial will use a GPU.", style="yellow")


def print_result(console: Console, spec: SweepSpec, result: "SweepResult", seconds: float) -> None:
    """Prints the final table, the verdict, what changed in the reward, and what to run next."""
    plan, comparison = result.plan, result.comparison
    winner = plan.winner
    assert winner is not None
    console.print()
    print_table(console, lambda between: _final_table(result, between))
    console.print(f"\n{verdict(comparison, winner)}", style="bold")
    if remark := seen_before(spec):
        console.print(remark)
    if comparison.over_tuning is not None:
        console.print(
            f"Over-tuning gap ({spec.judge.title} in the search minus that in the test):"
            f" {gap_text(comparison.over_tuning)}.",
        )
    if winner != BASELINE:
        console.print("\nWhat changed:")
        for line in describe_change(spec.base, plan.config_of(winner)):
            console.print(f"  - {line}")
        jax.config.update("jax_platforms", "cpu")  # the driver's first use of it; a GPU may be full
        likeness = likeness_to_score(spec, winner)
        if likeness is not None:
            console.print(f"  - {likeness}")
    for failure in result.failures:
        console.print(masked(failure), style="yellow")
    console.print(f"\n{seconds:.0f} s in all; {_use(result)}.")
    _print_next(console, spec, result.tracked)


def _use(result: "SweepResult") -> str:
    """Returns in words how much of the machine's time was training."""
    if not result.utilisation:
        return "nothing was left to train"
    if result.slot_use is not None:
        return f"while packs trained, {result.slot_use:.0%} of their slots held a trial"
    return (
        f"the cores spent {result.utilisation:.0%} of the time between first and last training"
        " step inside segments"
    )


def _final_table(result: "SweepResult", between: str) -> Table:
    """Returns the test's table, with ``between`` a figure and its interval."""
    comparison, winner = result.comparison, result.plan.winner
    seeds = comparison.test_seeds
    table = Table(title=f"Test on {seeds} fresh seeds: interquartile mean [{interval_name(seeds)}]")
    table.add_column("")
    for title in COLUMN_TITLES:
        table.add_column(title, justify="right")
    for label, cells in estimate_lines(comparison, winner):
        table.add_row(label, *(between.join(filter(None, cell)) for cell in cells))
    table.add_section()
    for label, cells in improvement_lines(comparison):
        table.add_row(label, *(between.join(filter(None, cell)) for cell in cells))
    return table


def _print_next(console: Console, spec: SweepSpec, tracked: bool) -> None:
    if not tracked:
        console.print(
            f"MLflow lacks part of the sweep ({spec.folder / MLFLOW_LOG} says why); once it takes"
            f" it, run: {on_sweep('track.py', spec)}",
            style="yellow",
        )
    report = spec.folder / REPORT_FILE
    if report.exists():
        console.print(f"\nreport    {report}")
    console.print("\nNext:")
    link = run_link(spec.folder) or ""
    if spec.tracking_uri.startswith("http"):
        console.print(f"  compare   {without_login(spec.tracking_uri)}/{link}")
    else:
        store = shlex.quote(spec.tracking_uri)
        console.print(f"  compare   {program_here('mlflow')} ui --backend-store-uri {store}")
        console.print(f"            then http://127.0.0.1:5000/{link}")
    console.print(f"  export    {on_sweep('export_best.py', spec)} --out best")
    if any((spec.folder / MEDIA_FOLDER).glob("*.mp4")):
        console.print(f"  watch     {spec.folder / 'media'}/*.mp4")
