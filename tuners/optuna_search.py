"""Optuna as a searcher: its samplers, on a study of its own in the sweep's folder.

The study holds each trial of the search once, under the sweep's own number.  Whatever it lacks is
put in from the sweep's tables, which are the truth.
"""

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState

from tuners.config import values_in_space
from tuners.errors import BadInput
from tuners.layout import STUDY_FILE
from tuners.objectives import PARETO, Outcome
from tuners.searchers import first_values
from tuners.space import Choice, Domain, LogUniform, OneMinusLogUniform

if TYPE_CHECKING:
    from tuners.spec import SweepSpec

MakeSampler = Callable[[int], optuna.samplers.BaseSampler]
_OUTSIDE = "the baseline lies outside the search space: samplers do not see it"

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def make_tpe(seed: int) -> optuna.samplers.BaseSampler:
    """Returns TPE; trials that still run count as bad, so that no two are alike."""
    return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


def make_gaussian_process(seed: int) -> optuna.samplers.BaseSampler:
    """Returns Bayesian optimisation with a Gaussian process; it needs torch."""
    return optuna.samplers.GPSampler(seed=seed)


def make_cma_es(seed: int) -> optuna.samplers.BaseSampler:
    """Returns CMA-ES."""
    return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)


class OptunaSearcher:
    """Proposes what a sampler of Optuna proposes.

    A proposal depends on the sweep's seed, the trial's number, and what the study holds: the
    sampler is made anew for each.
    """

    def __init__(self, spec: "SweepSpec", make_sampler: MakeSampler) -> None:
        """Opens the study in the sweep's folder, or begins it with the baseline as trial 0."""
        self._spec = spec
        self._make_sampler = make_sampler
        self._distributions = {
            name: distribution_of(domain) for name, domain in sorted(spec.space.items())
        }
        self._study = open_study(spec.folder, spec.objective)
        if not self._study.get_trials(deepcopy=False):
            self._add_baseline()

    def suggest(self, number: int) -> dict[str, Any]:
        """Returns a trial's values; those the study holds already, if an earlier run asked."""
        for missing in range(len(self._study.get_trials(deepcopy=False)), number + 1):
            self._begin(missing)
        asked = self._study.get_trials(deepcopy=False)[number]
        if len(asked.params) < len(self._distributions):  # fixed in part, or killed meanwhile
            self._study.sampler = self._make_sampler(_seed(self._spec.seed, number))
            trial = optuna.trial.Trial(self._study, asked._trial_id)
            for name, distribution in self._distributions.items():
                _decide(trial, name, distribution)
            asked = self._study.get_trials(deepcopy=False)[number]
        space = self._spec.space
        return {name: from_optuna(space[name], asked.params[name]) for name in space}

    def tell(self, number: int, outcome: Outcome) -> None:
        """Completes, prunes or fails a trial of the study, as it ended.

        One that diverged is worth nothing: of failed ones samplers learn nothing, and would go on
        proposing their like.  Where trials are stopped it is one that was stopped at once: TPE
        holds each that is complete for better than all that are not, until many are.
        """
        told = self._study.get_trials(deepcopy=False)[number]
        if told.state.is_finished():
            return
        diverged = outcome.stop_reason == "diverged"
        if outcome.stop_reason == "budget" or (diverged and self._spec.scheduler == "none"):
            self._study.tell(number, self._values(outcome))
            return
        if len(self._study.directions) == 1:
            trial = optuna.trial.Trial(self._study, told._trial_id)
            trial.report(outcome.objective, 0 if diverged else outcome.env_steps)
        failed = outcome.stop_reason == "error"
        self._study.tell(number, state=TrialState.FAIL if failed else TrialState.PRUNED)

    def restore(self, known: Mapping[int, Mapping[str, Any]]) -> None:
        """Puts in the trials that the study lacks, all as running; ``tell`` ends them."""
        held = len(self._study.get_trials(deepcopy=False))
        for number in range(held, 1 + max(known, default=0)):
            if number in known:
                self._add(known[number])
            else:
                self._begin(number)

    def _begin(self, number: int) -> None:
        self._study.sampler = self._make_sampler(_seed(self._spec.seed, number))
        first = first_values(self._spec.first_values, number)
        if first:  # as Optuna enqueues a trial, but begun in one step: ``suggest`` draws the rest
            space = self._spec.space
            fixed = {name: to_optuna(space[name], value) for name, value in first.items()}
            attributes = {"fixed_params": fixed}
            self._study.add_trial(
                optuna.trial.create_trial(state=TrialState.RUNNING, system_attrs=attributes)
            )
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a sampler that draws some values at random
            self._study.ask(self._distributions)

    def _add(self, values: Mapping[str, Any]) -> None:
        raw = {name: to_optuna(self._spec.space[name], value) for name, value in values.items()}
        self._study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.RUNNING, params=raw, distributions=self._distributions
            )
        )

    def _add_baseline(self) -> None:
        values = values_in_space(self._spec.base, self._spec.space)
        if values is not None:
            self._add(values)
            return
        attributes = {"why": _OUTSIDE}
        self._study.add_trial(
            optuna.trial.create_trial(state=TrialState.FAIL, user_attrs=attributes)
        )

    def _values(self, outcome: Outcome) -> float | list[float]:
        if len(self._study.directions) == 1:
            return outcome.objective
        score = outcome.final_score if outcome.stop_reason == "budget" else 0.0
        return [score, outcome.steps_to_threshold]


def open_study(folder: Path, objective: str) -> optuna.Study:
    """Returns the study of the sweep in ``folder``; it is made if it is not there."""
    path = folder / STUDY_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    # Left behind by a driver that was killed; a sweep has one driver at a time.
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    if path.exists():
        _cut_unfinished_line(path)
    directions = [StudyDirection.MAXIMIZE]
    if objective == PARETO:
        directions.append(StudyDirection.MINIMIZE)
    try:
        return optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(path))),
            study_name="sweep",
            directions=directions,
            load_if_exists=True,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{path} is damaged; delete it, and it is made again from the sweep's tables"
        ) from error


def _cut_unfinished_line(path: Path) -> None:
    """Takes off what a kill left of a line: Optuna refuses a journal that goes on behind it."""
    written = path.read_bytes()
    whole = written.rfind(b"\n") + 1
    if whole < len(written):
        with path.open("r+b") as file:
            file.truncate(whole)


def _decide(trial: optuna.trial.Trial, name: str, distribution: BaseDistribution) -> None:
    if isinstance(distribution, CategoricalDistribution):
        trial.suggest_categorical(name, distribution.choices)
    elif isinstance(distribution, FloatDistribution):
        trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)


def distribution_of(domain: Domain) -> BaseDistribution:
    """Returns a domain as Optuna has it."""
    if isinstance(domain, Choice):
        return CategoricalDistribution([_scalar(value) for value in domain.values])
    low, high = sorted(to_optuna(domain, end) for end in (domain.low, domain.high))
    is_log = isinstance(domain, LogUniform | OneMinusLogUniform)
    return FloatDistribution(low, high, log=is_log)


def to_optuna(domain: Domain, value: Any) -> Any:
    """Returns a value of the search space as Optuna's study holds it."""
    if isinstance(domain, OneMinusLogUniform):
        # Rounded as its bounds are: a value at a bound stays inside.
        return 1.0 - value
    return _scalar(value) if isinstance(domain, Choice) else float(value)


def from_optuna(domain: Domain, raw: Any) -> Any:
    """Returns the value of the search space that the study holds as ``raw``."""
    if isinstance(domain, Choice):
        return domain.values[[_scalar(value) for value in domain.values].index(raw)]
    value = 1.0 - raw if isinstance(domain, OneMinusLogUniform) else raw
    return min(max(float(value), domain.low), domain.high)


def _scalar(value: Any) -> Any:
    """Returns a choice as Optuna takes it: a list of widths as text."""
    return value if isinstance(value, str | bool | int | float) else json.dumps(value)


def _seed(sweep_seed: int, number: int) -> int:
    return int(np.random.SeedSequence([sweep_seed, number]).generate_state(1)[0])
