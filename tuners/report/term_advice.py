"""What the terms of a reward did: over training, and over the trials of a search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlcore.rewards.compose import MULTIPLIED
from rlcore.tasks import TASKS
from tuners.config import TrialConfig, value_of
from tuners.describe import active_terms, can_count
from tuners.job_names import BASELINE
from tuners.report.sweep_record import SweepRecord

NEVER_ACTIVE = 1e-3  # share of a reward's size
DWARFS = 10.0  # times the sum of the others
MIN_GROUP = 5
_PARTS = ("mean", "min", "max")
_HELPS = 0.5  # standard deviations between trials
_RESAMPLES = 2000


def has_effect(config: TrialConfig, name: str) -> bool:
    """Returns whether a searched parameter changes anything in this config.

    What belongs to a term that is switched off, or that cannot take part in a product, does not,
    but for the switch of one that can; clipping counts in a product alone, and a deviation only
    where actions have one.
    """
    head, _, rest = name.partition(".")
    term, _, key = rest.partition(".")
    if name == "init_log_std":
        return not TASKS[config.task].discrete
    if name == "reward.clip":
        return bool(value_of(config, "reward.combine") == "product")
    if head != "reward" or not key:
        return True
    return can_count(config, term) if key == "on" else term in active_terms(config)


@dataclass(frozen=True)
class TermStatistics:
    """What a term of a row's reward was over training.

    Attributes:
        name: of the term.
        weight: in the row's reward.
        first: mean of the unweighted term in the first segment.
        last: mean in the last.
        low: least value of all samples.
        high: greatest value of all samples.
        share: of the row's reward: the size of weight times mean, by the sum over all terms.
        span: weight times (high - low), by the same sum.
    """

    name: str
    weight: float
    first: float
    last: float
    low: float
    high: float
    share: float
    span: float


def term_statistics(record: SweepRecord, row: str) -> list[TermStatistics]:
    """Returns the statistics of each term with a weight in a row's reward.

    Over its trials of the latest phase it is in; none before a segment is reported.  Of a reward
    that was changed on the way, the weights are the last.
    """
    segments = row_segments(record, row)
    weights = {
        name: settings["weight"]
        for name, settings in active_terms(record.final_config(row)).items()
        if "weight" in settings
    }
    if not segments or not weights:
        return []
    steps = sorted({segment["env_steps"] for segment in segments})
    first, last = ([s for s in segments if s["env_steps"] == end] for end in (steps[0], steps[-1]))
    columns = {name: [_values(segments, name, part) for part in _PARTS] for name in weights}
    if not all(len(values) for parts in columns.values() for values in parts):
        return []
    sizes = {n: abs(w) * float(np.mean(np.abs(columns[n][0]))) for n, w in weights.items()}
    whole = sum(sizes.values()) or 1.0
    spans = {
        n: abs(w) * float(columns[n][2].max() - columns[n][1].min()) for n, w in weights.items()
    }
    return [
        TermStatistics(
            name,
            weight,
            first=float(_values(first, name, "mean").mean()),
            last=float(_values(last, name, "mean").mean()),
            low=float(columns[name][1].min()),
            high=float(columns[name][2].max()),
            share=sizes[name] / whole,
            span=spans[name] / whole,
        )
        for name, weight in weights.items()
    ]


def row_segments(record: SweepRecord, row: str) -> list[Mapping[str, Any]]:
    """Returns the segments of a row's trials in the latest phase it is in."""
    for phase in ("test", "validation", "search"):
        trials = [t["trial"] for t in record.in_phase(phase) if t["row"] == row]
        segments = [s for name in trials for s in record.segments.get(name, ())]
        if segments:
            return segments
    return []


def _values(segments: Sequence[Mapping[str, Any]], term: str, part: str) -> np.ndarray:
    found = [segment.get(f"term_{term}_{part}") for segment in segments]
    return np.array([value for value in found if value is not None and np.isfinite(value)])


def term_remark(term: TermStatistics, others: int, combine: str) -> str:
    """Returns what is wrong with a term, in plain words, or nothing.

    Args:
        term: over training.
        others: how many other terms the reward has.
        combine: how they are combined.
    """
    if term.span < NEVER_ACTIVE and term.share < NEVER_ACTIVE:
        return "is never active: it was next to nothing in all of training"
    if combine in ("sum", "mean") and others and term.share > DWARFS / (1.0 + DWARFS):
        return f"dwarfs the others: {term.share:.0%} of the reward's size is its own"
    if term.span < NEVER_ACTIVE:
        if combine in MULTIPLIED:
            return "is constant: as a factor it changes nothing but the reward's size"
        return "is constant: it pays for nothing but the length of an episode"
    return ""


def term_lines(record: SweepRecord, row: str) -> list[str]:
    """Returns a warning for each term of a row's reward that does nothing, or too much."""
    found = term_statistics(record, row)
    combine = value_of(record.final_config(row), "reward.combine")
    remarks = {term.name: term_remark(term, len(found) - 1, combine) for term in found}
    owner = "winner" if row == record.winner else record.row_label(row)
    return [f"In the {owner}'s reward, {name} {text}." for name, text in remarks.items() if text]


@dataclass(frozen=True)
class TermEffect:
    """The objective of trials with a term against that of those without it.

    Attributes:
        name: of the term.
        question: which two groups are compared.
        with_it: trials in the first group.
        without: trials in the second.
        difference: of their mean objectives.
        low: of its 90 % bootstrap interval.
        high: of the same.
        remark: what follows, if anything.
    """

    name: str
    question: str
    with_it: int
    without: int
    difference: float
    low: float
    high: float
    remark: str = ""


def term_effects(record: SweepRecord) -> list[TermEffect]:
    """Returns what each searched term did to the objective, over the trials that ended, at one age.

    A term that is in some trials and not in others: with against without, over trials whose way of
    combining would let it count.  A term that is always in: the heavier half of its weights
    against the lighter half.  Terms with fewer than ``MIN_GROUP`` trials on a side are left out.

    A term is of no use where, with 95 % confidence, it raises the mean objective by less than half
    the standard deviation between trials.  One that helps by that much is called so in one of
    twenty sweeps; one that does nothing, in two of five sweeps of 32 trials, and in most of 128.
    """
    routes = [name.split(".") for name in record.spec.space]
    names = sorted({route[1] for route in routes if route[0] == "reward" and len(route) == 3})
    drawn = [trial for trial in record.ended if trial["row"] != BASELINE]
    if not drawn:
        return []
    objective = np.array([record.compared(trial) for trial in drawn])
    rewards = [record.config(trial) for trial in drawn]
    found = (_effect(name, rewards, objective) for name in names)
    return [effect for effect in found if effect is not None]


def _effect(name: str, configs: Sequence[TrialConfig], objective: np.ndarray) -> TermEffect | None:
    """Returns what one term did, if there are enough trials on both sides."""
    weights = np.array([_weight(config, name) for config in configs])
    counts = np.array([can_count(config, name) for config in configs])
    is_in = (weights > 0) & counts
    if np.all(is_in == counts):  # in every trial that could have it
        question = "heavier half against lighter"
        heavy = weights > (np.median(weights[is_in]) if is_in.any() else 0.0)
        groups = objective[is_in & heavy], objective[is_in & ~heavy]
    else:
        question = "with against without"
        groups = objective[is_in], objective[counts & ~is_in]
    if min(map(len, groups)) < MIN_GROUP:
        return None
    low, high = _interval(*groups)
    difference = float(groups[0].mean() - groups[1].mean())
    margin = _HELPS * float(np.std(objective))
    remark = ""
    if question.startswith("with") and high < margin:
        little, better = ("little", "hardly") if low > 0 else ("no", "no")
        remark = f"of {little} use here: trials with it did {better} better ({difference:+.3g}"
    elif question.startswith("heavier") and high < margin and low > -margin:
        remark = f"of no use to tune: its weight makes little difference ({difference:+.3g}"
    if remark:
        remark += f" [{low:+.3g}, {high:+.3g}], {len(groups[0])} trials against {len(groups[1])})"
    with_it, without = map(len, groups)
    return TermEffect(name, question, with_it, without, difference, low, high, remark)


def _weight(config: TrialConfig, name: str) -> float:
    return abs(active_terms(config).get(name, {}).get("weight", 0.0))


def _interval(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Returns the 90 % bootstrap interval of the difference of two means."""
    generator = np.random.default_rng(0)
    means = [
        generator.choice(values, size=(_RESAMPLES, len(values))).mean(axis=1)
        for values in (ours, theirs)
    ]
    low, high = np.percentile(means[0] - means[1], [5.0, 95.0])
    return float(low), float(high)


def effect_lines(record: SweepRecord) -> list[str]:
    """Returns a line for each term that did not help the search."""
    return [f"The term {e.name} is {e.remark}." for e in term_effects(record) if e.remark]
