"""Sweeps that go on: more trials for a finished one, or a start from another's best."""

from dataclasses import replace
from typing import Any

from tuners.config import TrialConfig, parse_config, value_of
from tuners.describe import active_terms
from tuners.errors import BadInput
from tuners.job_names import BASELINE
from tuners.layout import COMPARISON_FILE
from tuners.objectives import Outcome, ranked
from tuners.results import read_trials
from tuners.space import Choice, Domain
from tuners.spec import SweepSpec, check_is_search
from tuners.validate import read_comparison, read_conclusion


def extend(spec: SweepSpec, num_trials: int | None) -> SweepSpec:
    """Returns a finished sweep with more trials to search, and writes it to ``sweep.yaml``.

    Searcher and scheduler keep what they know; finalists, winner and test follow from all trials.

    Raises:
        BadInput: no number of trials, or the sweep is not finished.
    """
    if num_trials is None or num_trials < 1:
        raise BadInput("--extend needs --num-trials, the trials to add: a number of at least 1")
    if spec.scheduler == "pbt":
        raise BadInput(f"sweep '{spec.name}' is of scheduler pbt: its population trained together")
    if read_conclusion(spec.folder, spec.num_trials) is None:
        raise BadInput(f"sweep '{spec.name}' is not finished; first: --resume {spec.name}")
    extended = replace(
        spec,
        num_trials=spec.num_trials + num_trials,
        extensions=(*spec.extensions, num_trials),
    )
    extended.save()
    return extended


def begin_with(spec: SweepSpec, before: SweepSpec) -> SweepSpec:
    """Returns a sweep whose first trials have the best configurations of ``before``.

    ``not_taken`` says what this sweep's space has no place for.

    Raises:
        BadInput: ``before`` is no search or of another task, was judged by the same seeds, or has
            nothing to give.
    """
    check_is_search(before)
    if before.base.task != spec.base.task:
        raise BadInput(
            f"sweep '{before.name}' is of task {before.base.task}, but this one of {spec.base.task}"
        )
    spent = seeds_spent(before)
    if spec.seed in spent:
        raise BadInput(
            f"seed is {spec.seed}, as that of sweep '{before.name}' or of one that it began with:"
            " the best would be judged by the seeds that chose them; leave --seed out, or take"
            " another"
        )
    if spec.searcher == "grid":
        raise BadInput("searcher grid has a place for each of its points; leave --warm-start out")
    if spec.num_trials < 2:
        raise BadInput("num_trials is 1, the baseline; --warm-start needs at least 2")
    best = best_configs(before)
    if not best:
        raise BadInput(f"sweep '{before.name}' has no trial that came to its validation")
    found = [_inside(spec, config) for config in best]
    values = [entries for entries in found if entries][: spec.num_trials - 1]
    if not values:
        raise BadInput(f"sweep '{before.name}' has no trial that lies in this search space")
    return replace(spec, warm_start=before.name, first_values=tuple(values), earlier_seeds=spent)


def not_taken(spec: SweepSpec, before: SweepSpec) -> list[str]:
    """Returns what a sweep that begins with ``before`` does not have of its best, in words.

    A number outside this space begins at its edge; a choice that it does not offer is drawn by its
    searcher; a parameter that is not in it stays as the baseline has it.
    """
    moved, drawn, left = set(), set(), set()
    for config in best_configs(before)[: len(spec.first_values)]:
        inside, last = _inside(spec, config), config.at(config.full_length)
        off = tuple(name.removesuffix("on") for name in inside if inside[name] is False)
        for name in spec.space:
            if name not in inside:
                drawn.add(name)
            elif inside[name] != value_of(last, name) and not name.startswith(off):
                moved.add(name)
        for name in before.space:
            if name not in spec.space and value_of(last, name) != value_of(spec.base, name):
                left.add(name)
    said = {
        "outside this space, begun at its edge": moved,
        "not among its choices, drawn anew": drawn,
        "not in it, as in the baseline": left,
    }
    return [f"{how}: {', '.join(sorted(names))}" for how, names in said.items() if names]


def seeds_spent(before: SweepSpec) -> tuple[int, ...]:
    """Returns the seeds by which the best configurations of a sweep were chosen, in sequels too."""
    return (before.seed, *before.earlier_seeds)


def best_configs(spec: SweepSpec) -> list[TrialConfig]:
    """Returns the configurations of a sweep's validation, best first.

    Of a sweep that has not got so far, those that trained to the end; in both cases without the
    baseline.

    Raises:
        BadInput: a population that has not ended.
    """
    trials = [t for t in read_trials(spec.folder) if t["phase"] == "search"]
    configs = {t["row"]: parse_config(t["config"]) for t in trials if t["row"] != BASELINE}
    comparison = spec.folder / COMPARISON_FILE
    if comparison.exists():
        validated = read_comparison(spec.folder, "validation")["validation"]
        rows = [row for row in validated if row in configs]
    elif spec.scheduler == "pbt":
        raise BadInput(f"the population of sweep '{spec.name}' has not ended its search and test")
    else:
        full = {
            t["row"]: Outcome.from_row(t, "budget")
            for t in trials
            if t["stop_reason"] == "budget" and t["row"] in configs
        }
        rows = ranked(full, spec.objective)[: spec.num_finalists]
    return [configs[row] for row in rows]


def _inside(spec: SweepSpec, config: TrialConfig) -> dict[str, Any]:
    """Returns a configuration's values, numbers as near as the space has them, terms it lacks off.

    A choice that the space does not offer is left out.
    """
    last = config.at(config.full_length)
    values = {name: value_of(last, name) for name in spec.space}
    on = {f"reward.{term}.on" for term in active_terms(last)}
    values |= {name: False for name in values if name.endswith(".on") and name not in on}
    nearest = {name: _nearest(spec.space[name], value) for name, value in values.items()}
    return {name: value for name, value in nearest.items() if value is not None}


def _nearest(domain: Domain, value: Any) -> Any:
    if domain.contains(value):
        return value
    if isinstance(domain, Choice):
        return None
    return min(domain.extremes(), key=lambda edge: abs(edge - value))
