"""A sweep's one typed description."""

import errno
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

from tuners.config import TrialConfig, check_space, static_configs
from tuners.errors import BadInput
from tuners.gpu import PRECISIONS
from tuners.layout import SPEC_FILE, sweep_address
from tuners.login import without_password
from tuners.names import check_name
from tuners.objectives import OBJECTIVES, PARETO, Objective
from tuners.outputs import (
    check_is_folder,
    check_programs_folder,
    check_tracking_uri,
    check_writable,
)
from tuners.presets import PRESETS, preset_for
from tuners.schedulers import SCHEDULERS
from tuners.searchers import check_installed, check_searcher
from tuners.space import Domain, Space, as_choice, grid, is_number, parse_stored_space
from tuners.spec_file import read_spec_file, write_spec_file
from tuners.store import check_address, check_store
from tuners.versions import code_version

DEFAULT_TRACKING_URI = "sqlite:///mlflow.db"
MAX_SEED = 100_000
MAX_PENALTY = 10
MAX_SLOTS = 1000
MAX_TRIALS = 1_000_000
MAX_SEEDS = 10_000  # in a phase


@dataclass(frozen=True)
class SweepSpec:
    """What a sweep searches, with which budget, and where its results go.

    Attributes:
        name: of the sweep, and of its folder under ``runs_dir``.
        preset: the preset it was made from, or "train": a run of train.py.
        base: the hand-tuned baseline, and what every trial has that the space does not change.
        space: the search space, name to domain.
        seed: decides every trial's values and every training seed.
        num_trials: trials of the search, the baseline included.
        searcher: name in ``tuners/searchers.py``.
        objective: what searcher and scheduler rank by, and finalists and winner are chosen by: name
            in ``tuners/objectives.py``.
        spread_penalty: standard deviations over seeds that the objective takes off their mean.
        scheduler: name in ``tuners/schedulers.py``.
        grace_period: env_steps before a trial may be stopped.
        reduction_factor: one in so many trials passes a rung.
        num_finalists: configurations trained again in validation, beside the baseline.
        validation_seeds: seeds of each of them.
        test_seeds: seeds of winner, baseline and "the score as reward" in the test.
        gpus_per_trial: GPUs a trial occupies that has a process of its own; 0 trains on the CPU.
        slots: trials in one program on each GPU; 1 gives each trial a process of its own, 0 takes
            as many as pay.
        precision: of products on a GPU; name in ``PRECISIONS``.
        tracking_uri: MLflow's store or server.
        runs_dir: folder that holds one folder a sweep.
        media: whether film strips, videos, plots and the report are made.
        storage: address of the folder in the shared store that holds one folder a sweep, if any.
        warm_start: the sweep whose best configurations the first trials have; for information.
        first_values: values of trials 1, 2, ...; what they leave out is the searcher's.
        earlier_seeds: of the sweeps by which ``first_values`` were chosen: that of ``warm_start``,
            and of those that it began with in turn.
        extensions: trials added, each time the finished sweep was extended.
    """

    name: str
    preset: str
    base: TrialConfig
    space: Mapping[str, Domain]
    seed: int = 0
    num_trials: int = 24
    searcher: str = "random"
    objective: str = "area"
    spread_penalty: float = 0.0
    scheduler: str = "asha"
    grace_period: int = 131_072
    reduction_factor: int = 3
    num_finalists: int = 3
    validation_seeds: int = 4
    test_seeds: int = 8
    gpus_per_trial: float = 0.0
    slots: int = 1
    precision: str = "float32"
    tracking_uri: str = DEFAULT_TRACKING_URI
    runs_dir: Path = Path("runs")
    media: bool = True
    storage: str | None = None
    warm_start: str | None = None
    first_values: Sequence[Mapping[str, Any]] = ()
    earlier_seeds: Sequence[int] = ()
    extensions: Sequence[int] = ()

    def __post_init__(self) -> None:
        """Refuses a sweep that could not run.

        Raises:
            BadInput: one plain line, what was given and what is allowed.
        """
        self._check_types()
        check_name(self.name)
        if without_password(self.tracking_uri) != self.tracking_uri:
            raise BadInput(
                "tracking_uri holds a password, which would be written to sweep.yaml: put"
                f" {without_password(self.tracking_uri)} there, and the whole into"
                " MLFLOW_TRACKING_URI"
            )
        for name in ("num_trials", "num_finalists", "validation_seeds", "test_seeds"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} is {getattr(self, name)}, but must be at least 1")
        if self.num_trials > MAX_TRIALS:
            raise BadInput(f"num_trials is {self.num_trials}, but must be at most {MAX_TRIALS:,}")
        if not 0 <= self.seed <= MAX_SEED:
            raise BadInput(f"seed is {self.seed}, but must be between 0 and {MAX_SEED}")
        if self.objective not in OBJECTIVES:
            raise BadInput(f"objective is '{self.objective}'; allowed: {', '.join(OBJECTIVES)}")
        if not (is_number(self.spread_penalty) and 0 <= self.spread_penalty <= MAX_PENALTY):
            raise BadInput(
                f"spread_penalty is {self.spread_penalty}, but must be from 0 to {MAX_PENALTY}"
            )
        if self.scheduler == "pbt" and self.searcher != "random":
            raise BadInput(
                f"searcher is '{self.searcher}', but scheduler pbt draws its first population with"
                " searcher random and searches by itself"
            )
        check_searcher(self.searcher, self.space, self.num_trials, self.objective, self.scheduler)
        self._check_objective()
        if self.scheduler not in SCHEDULERS:
            raise BadInput(f"scheduler is '{self.scheduler}'; allowed: {', '.join(SCHEDULERS)}")
        if not 0 <= self.slots <= MAX_SLOTS:
            raise BadInput(f"slots is {self.slots}, but must be between 0 and {MAX_SLOTS}")
        if self.precision not in PRECISIONS:
            raise BadInput(f"precision is '{self.precision}'; allowed: {', '.join(PRECISIONS)}")
        if self.reduction_factor < 2:
            raise BadInput(f"reduction_factor is {self.reduction_factor}, but must be at least 2")
        check_space(self.base, self.space)
        if self.storage is not None:
            check_address(self.storage)
        self._check_seeds()
        self._check_rungs()

    def _check_types(self) -> None:
        """Refuses what a damaged ``sweep.yaml`` may hold."""
        for entry in fields(self):
            value, kind = getattr(self, entry.name), cast(Any, entry.type)
            if kind is float:
                fits = isinstance(value, int | float) and not isinstance(value, bool)
            elif kind is int:
                fits = isinstance(value, int) and not isinstance(value, bool)
            else:
                fits = kind not in (bool, str, str | None) or isinstance(value, kind)
            if not fits:
                name = getattr(kind, "__name__", "str")
                raise BadInput(f"{entry.name} is {value!r}, but must be of type {name}")

    def _check_objective(self) -> None:
        if self.spread_penalty and self.objective == PARETO:
            raise BadInput("spread_penalty is of one objective; with pareto leave it out")
        if self.spread_penalty and self.base.ppo.seeds_per_trial == 1:
            raise BadInput("spread_penalty needs a spread: give at least 2 seeds_per_trial")
        if self.scheduler == "pbt" and self.objective == PARETO:
            raise BadInput("scheduler pbt has one objective; pareto takes asha, median or none")
        if self.scheduler == "pbt" and self.num_trials < 2:
            raise BadInput(f"num_trials is {self.num_trials}, but scheduler pbt needs at least 2")

    def _check_seeds(self) -> None:
        batch = self.base.ppo.seeds_per_trial
        if batch > MAX_SEEDS:
            raise BadInput(f"seeds_per_trial is {batch}, but must be at most {MAX_SEEDS}")
        for name in ("validation_seeds", "test_seeds"):
            given = getattr(self, name)
            if given > MAX_SEEDS:
                raise BadInput(f"{name} is {given}, but must be at most {MAX_SEEDS}")
            if given % batch:
                below = max(batch, given // batch * batch)
                raise BadInput(
                    f"{name} is {given}, but must be a multiple of seeds_per_trial = {batch}: all"
                    " phases train that many seeds side by side; the nearest are"
                    f" {below} and {below + batch}"
                )
        if "seeds_per_trial" in self.space:
            raise BadInput("seeds_per_trial cannot be searched: one number serves all phases")

    def _check_rungs(self) -> None:
        if self.scheduler == "none":
            return
        if not 0 < self.grace_period <= self.base.budget:
            raise BadInput(
                f"grace_period is {self.grace_period} env_steps, but must be above 0 and at most"
                f" the budget, {self.base.budget}: give both, or --scheduler none"
            )
        for config in static_configs(self.base, self.space):
            segment = config.ppo.steps_per_segment
            if self.grace_period % segment:
                below = max(segment, self.grace_period // segment * segment)
                raise BadInput(
                    f"grace_period is {self.grace_period}, but must be whole segments of {segment}"
                    f" env_steps; the nearest are {below} and {below + segment}"
                )

    @property
    def uses_gpu(self) -> bool:
        """Whether trials are trained on GPUs."""
        return self.gpus_per_trial > 0

    @property
    def is_search(self) -> bool:
        """Whether anything is searched; a run of train.py and a comparison of shapes are not."""
        return bool(self.space)

    @property
    def can_resume(self) -> bool:
        """Whether --resume can go on with it; a comparison of shapes takes half a minute."""
        return self.is_search or self.preset == "train"

    @property
    def trains_each_alone(self) -> bool:
        """Whether each trial has a process of its own, on the CPU."""
        return self.slots <= 1 and not self.uses_gpu

    @property
    def judge(self) -> Objective:
        """What trials are judged by."""
        return Objective(self.objective, self.spread_penalty)

    @property
    def folder(self) -> Path:
        """The sweep's own folder."""
        return self.runs_dir / self.name

    @property
    def address(self) -> str | None:
        """The sweep's own folder in the shared store."""
        return None if self.storage is None else sweep_address(self.storage, self.name)

    def seeds(self, phase: str) -> list[int]:
        """Returns the training seeds of a phase; those of other phases and sweep seeds differ."""
        counts = {
            "search": self.base.ppo.seeds_per_trial,
            "validation": self.validation_seeds,
            "test": self.test_seeds,
        }
        first = (len(counts) * self.seed + list(counts).index(phase)) * MAX_SEEDS
        return list(range(first, first + counts[phase]))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, as ``sweep.yaml`` has them."""
        entries = {f.name: getattr(self, f.name) for f in fields(self)}
        entries["base"] = self.base.to_dict()
        entries["space"] = {name: domain.to_yaml() for name, domain in self.space.items()}
        entries["runs_dir"] = str(self.runs_dir)
        entries["first_values"] = [dict(values) for values in self.first_values]
        for name in ("earlier_seeds", "extensions"):
            entries[name] = list(getattr(self, name))
        return entries

    def save(self, folder: Path | None = None) -> None:
        """Writes ``sweep.yaml``: this description, versions, and the code it was begun with.

        Of a sweep that is there already only the description is written anew.

        Args:
            folder: the sweep's own if not given.
        """
        write_spec_file(folder or self.folder, self.to_dict())


def make_spec(
    *,
    name: str,
    preset: str,
    task: str,
    reward: Mapping[str, Any],
    space: Mapping[str, Domain],
    **overrides: Any,
) -> SweepSpec:
    """Returns a preset's sweep with ``overrides``; those that are None are left as they are.

    ``budget`` and ``seeds_per_trial`` may be among them.

    Raises:
        BadInput: an unknown preset, or a sweep that could not run.
    """
    if preset not in PRESETS:
        raise BadInput(f"preset is '{preset}'; allowed: {', '.join(PRESETS)}")
    entries = preset_for(preset, task)
    base = TrialConfig(
        task=task,
        reward=reward,
        hyperparameters=entries.pop("hyperparameters"),
        ppo=entries.pop("ppo"),
        budget=entries.pop("budget"),
    )
    given = {key: value for key, value in overrides.items() if value is not None}
    if "seeds_per_trial" in given:
        base = base.with_values({"seeds_per_trial": given.pop("seeds_per_trial")})
    if "budget" in given:
        base = replace(base, budget=given.pop("budget"))
    base = base.with_values(_shared_values(space))
    if given.get("searcher") == "grid":
        given.setdefault("num_trials", 1 + len(grid(space)))
    return SweepSpec(name=name, preset=preset, base=base, space=space, **{**entries, **given})


def _shared_values(space: Space) -> dict[str, Any]:
    """Returns what decides how trials are measured: the baseline has it as well.

    Raises:
        BadInput: it varies.
    """
    deciding = [name for name in space if name.startswith("task.") or name == "evaluation_episodes"]
    values = {name: set(space[name].extremes()) for name in deciding}
    for name in deciding:
        if len(values[name]) > 1:
            raise BadInput(f"{name} must be one value: scores under others could not be compared")
    return {name: found.pop() for name, found in values.items()}


def prepare(spec: SweepSpec, *, resume: bool) -> None:
    """Makes the sweep's folder, or checks that it is there to be resumed.

    Raises:
        BadInput: the name is taken, a place cannot be written, the tracking URI cannot work, or the
            searcher is not installed.
    """
    check_installed(spec.searcher)
    check_tracking_uri(spec.tracking_uri)
    check_is_folder(spec.runs_dir)
    check_writable(spec.folder, "output folder")
    check_programs_folder()
    if spec.storage is not None:
        check_store(spec.storage, None if resume else spec.name)
    if resume:
        return
    goes_on = f", or --resume {spec.name}" * spec.can_resume
    taken = BadInput(f"sweep '{spec.name}' exists; take another name{goes_on}")
    if spec.folder.exists():
        raise taken
    spec.runs_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{spec.name}.", dir=spec.runs_dir) as beside:
        whole = Path(beside) / spec.name
        whole.mkdir()
        spec.save(whole)
        try:
            whole.rename(spec.folder)  # so that it is a sweep from its first moment
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            raise taken from error


def check_is_search(spec: SweepSpec) -> None:
    """Refuses what searched nothing: there is no winner, and nothing to compare it with.

    Raises:
        BadInput: what it is instead.
    """
    if not spec.is_search:
        what = "a run of train.py" if spec.preset == "train" else "a comparison of shapes"
        raise BadInput(f"'{spec.name}' is {what}, and no search")


def load_spec(folder: Path) -> SweepSpec:
    """Returns the spec of the sweep in ``folder``.

    Raises:
        BadInput: there is no such sweep, or its ``sweep.yaml`` is damaged, or of code that knew
            other names.
    """
    path = folder / SPEC_FILE
    written_by = code_version()
    if not os.path.isfile(path):
        known = sorted(path.parent.name for path in folder.parent.glob(f"*/{SPEC_FILE}"))
        listed = ", ".join(known[-5:]) or "none"
        raise BadInput(f"no sweep '{folder.name}' in {folder.parent}; the latest there: {listed}")
    try:
        stored = read_spec_file(folder)
        entries, written_by = stored["spec"], stored["code_version"]
        entries["base"] = TrialConfig.from_dict(entries["base"])
        entries["space"] = parse_stored_space(entries["space"])
        for name in ("earlier_seeds", "extensions"):
            entries[name] = tuple(entries[name])
        entries["first_values"] = tuple(
            {name: as_choice(value) for name, value in values.items()}
            for values in entries["first_values"]
        )
        # The folder may have been moved since it was begun.
        return SweepSpec(**{**entries, "runs_dir": folder.parent, "name": folder.name})
    except (BadInput, KeyError, TypeError, AttributeError) as error:
        why = error if isinstance(error, BadInput) else "it has other entries than it should"
        if written_by != code_version():
            raise BadInput(
                f"{path} is of code version {written_by}; this, {code_version()}, says: {why}"
            ) from error
        raise BadInput(f"{path} is damaged: {why}; restore it from a copy") from error
