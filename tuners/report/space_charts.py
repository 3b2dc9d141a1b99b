"""Charts of the searched parameters: parallel coordinates, importance, slices."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tuners.config import value_of
from tuners.report.charts import (
    BLUE,
    DARK,
    GREY,
    Bars,
    Chart,
    Dots,
    Panel,
    Parallel,
    ParallelAxis,
    Ticks,
)
from tuners.report.result_charts import compared_title
from tuners.report.sweep_record import FAILED, SweepRecord
from tuners.report.term_advice import has_effect
from tuners.space import Choice, Domain, LogUniform, OneMinusLogUniform

MAX_AXES = 12  # more could not be told apart in a page
_COLUMNS = 4


def ranked_names(record: SweepRecord, shares: Mapping[str, float]) -> list[str]:
    """Returns the searched parameters, the most important first; fixed ones are left out."""
    names = [name for name, domain in record.spec.space.items() if len(set(domain.extremes())) > 1]
    return sorted(names, key=lambda name: -shares.get(name, 0.0))


def parallel_chart(record: SweepRecord, shares: Mapping[str, float]) -> Chart | None:
    """Returns the trials that ended as lines over the most important parameters."""
    names = ranked_names(record, shares)[:MAX_AXES]
    drawn = [trial for trial in record.ended if _lies_inside(record, trial, names)]
    if not names or len(drawn) < 2:
        return None
    axes = [_axis(record, name, drawn) for name in names]
    values = [record.compared(trial) for trial in drawn]
    left_out = len(ranked_names(record, shares)) - len(names)
    which = f"{len(names)} most important parameters, {left_out} are left out"
    return Chart(
        "parallel",
        f"{len(drawn)} trials by their {which if left_out else 'parameters'}",
        [Panel([Parallel(axes, values, compared_title(record))])],
        row_height=480,
        note="Drag along an axis to keep only the trials that pass there. They are compared at an"
        " age that all reached. Those outside the space, as a hand-tuned baseline may be, are left"
        " out.",
    )


def _lies_inside(record: SweepRecord, trial: Mapping[str, Any], names: Sequence[str]) -> bool:
    config = record.config(trial)
    return all(record.spec.space[name].contains(value_of(config, name)) for name in names)


def _axis(record: SweepRecord, name: str, trials: Sequence[Mapping[str, Any]]) -> ParallelAxis:
    domain = record.spec.space[name]
    values = [value_of(record.config(trial), name) for trial in trials]
    if isinstance(domain, Choice):
        places = _places(domain)
        shares = [places[domain.values.index(value)] for value in values]
        ticks = tuple(zip(places, map(_text, domain.values), strict=True))
        return ParallelAxis(short(name), shares, ticks)
    ends = ((0.0, f"{domain.low:g}"), (1.0, f"{domain.high:g}"))
    return ParallelAxis(short(name), [domain.fraction(value) for value in values], ends)


def _places(domain: Choice) -> list[float]:
    """Returns where on an axis each value stands: not at its ends, where lines would bundle."""
    count = len(domain.values)
    return [(index + 0.5) / count for index in range(count)]


def importance_chart(record: SweepRecord, shares: Mapping[str, float], count: int) -> Chart | None:
    """Returns a bar a parameter, the most important on top; ``count`` trials tell the shares."""
    if not shares:
        return None
    failed = sum(trial["stop_reason"] in FAILED for trial in record.ended)
    ordered = sorted(shares.items(), key=lambda item: item[1])
    heights = [float(place) for place in range(len(ordered))]
    panel = Panel(
        [Bars(heights, [share for _, share in ordered], BLUE)],
        x_title="share of the objective's variance",
        x_range=(0.0, 1.05 * ordered[-1][1]),
        y_range=(-0.7, len(ordered) - 0.3),
        y_ticks=tuple(zip(heights, (short(name) for name, _ in ordered), strict=True)),
    )
    return Chart(
        "importance",
        f"Which parameters went with the objective, in {count} trials",
        [panel],
        row_height=90 + 19 * len(ordered),
        note="fANOVA on a random forest; shares add up to 1. Trials are compared as in the charts"
        " of each parameter, at one age. Few trials tell little: a parameter"
        " without any effect gets a share too."
        + (f" {failed} failed or diverged: as the worst, they may decide much." if failed else ""),
    )


def slices_chart(record: SweepRecord, shares: Mapping[str, float]) -> Chart | None:
    """Returns each searched parameter against the objective, the most important first."""
    names = ranked_names(record, shares)
    if not names or not record.ended:
        return None
    compared = {trial["trial"]: record.compared(trial) for trial in record.ended}
    low, high = min(compared.values()), max(compared.values())
    space = 0.06 * ((high - low) or 1.0)
    panels = [
        _slice(record, name, compared, (low - space, high + space), number % _COLUMNS == 0)
        for number, name in enumerate(names)
    ]
    return Chart(
        "slices",
        f"Each parameter against {compared_title(record)}, a dot a trial",
        panels,
        columns=_COLUMNS,
        row_height=215,
        note="Hollow: the parameter had no effect there, as where its term was off or cannot take"
        " part in a product. Numbers drawn by their logarithm are on a log axis.",
    )


def _slice(
    record: SweepRecord,
    name: str,
    compared: Mapping[str, float],
    y_range: tuple[float, float],
    is_first: bool,
) -> Panel:
    domain = record.spec.space[name]
    groups: dict[tuple[bool, bool], list[Mapping[str, Any]]] = {}
    for trial in sorted(record.ended, key=lambda trial: _is_winner(record, trial)):
        if domain.contains(value_of(record.config(trial), name)):
            look = _is_winner(record, trial), has_effect(record.config(trial), name)
            groups.setdefault(look, []).append(trial)
    marks = [
        Dots(
            [_place(domain, value_of(record.config(t), name), t) for t in trials],
            [compared[t["trial"]] for t in trials],
            BLUE if is_winner else (DARK if counts else GREY),
            "winner" if is_winner else None,
            11.0 if is_winner else 7.0,
            opacity=0.75,
            is_hollow=not counts,
            about=[record.trial_label(t) for t in trials],
        )
        for (is_winner, counts), trials in groups.items()
    ]
    x_range, ticks = _slice_axis(domain)
    is_log = isinstance(domain, LogUniform | OneMinusLogUniform)
    title = short(name) if not isinstance(domain, OneMinusLogUniform) else f"1 − {short(name)}"
    y_title = record.spec.judge.title if is_first else ""
    return Panel(marks, title, "", y_title, is_log, x_range, y_range, ticks)


def _is_winner(record: SweepRecord, trial: Mapping[str, Any]) -> bool:
    return bool(trial["trial"] == record.search_name(record.winner))


def _place(domain: Domain, value: Any, trial: Mapping[str, Any]) -> float:
    """Returns where a value stands; dots of a choice are moved apart, each trial alike."""
    if isinstance(domain, Choice):
        number = int("".join(filter(str.isdigit, trial["trial"])) or 0)
        return domain.values.index(value) + 0.5 * ((0.618 * number) % 1.0 - 0.5)
    return 1.0 - value if isinstance(domain, OneMinusLogUniform) else float(value)


def _slice_axis(domain: Domain) -> tuple[tuple[float, float], Ticks | None]:
    """Returns the ends of an axis with a little room, and its ticks where they are no numbers."""
    if isinstance(domain, Choice):
        ticks = tuple((float(i), _text(value)) for i, value in enumerate(domain.values))
        return (-0.5, len(domain.values) - 0.5), ticks
    low, high = float(domain.low), float(domain.high)
    if isinstance(domain, OneMinusLogUniform):
        low, high = 1.0 - high, 1.0 - low
    if isinstance(domain, LogUniform | OneMinusLogUniform):
        room = (high / low) ** 0.05
        return (low / room, high * room), log_ticks(low, high)
    room = 0.05 * (high - low)
    return (low - room, high + room), None


def log_ticks(low: float, high: float) -> Ticks:
    """Returns powers of ten between two numbers; with 2 and 5 of each where there is only one."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits in ((1,), (1, 2, 5), range(1, 10)):
        found = [digit * 10.0**power for power in range(first, last + 1) for digit in digits]
        inside = [value for value in found if low <= value * (1 + 1e-9) and value <= high * 1.001]
        if len(inside) >= 2:
            break
    return tuple((value, f"{value:g}") for value in inside)


def short(name: str) -> str:
    """Returns a parameter's name without ``reward.``, which most of them have."""
    return name.removeprefix("reward.")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "×".join(map(str, value)) if isinstance(value, tuple) else str(value)
