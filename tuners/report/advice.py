"""What a reader should be warned of, in plain words."""

from dataclasses import dataclass, replace

from tuners.config import check_space, value_of
from tuners.errors import BadInput
from tuners.job_names import BASELINE
from tuners.report.hacking import hack_lines
from tuners.report.sweep_record import SweepRecord
from tuners.report.term_advice import effect_lines, has_effect, term_lines
from tuners.space import Choice

EDGE = 0.05  # of a range, as it is drawn


def warnings_of(record: SweepRecord) -> list[str]:
    """Returns a line for each thing to be wary of; the gravest first."""
    lines = hack_lines(record)
    if record.winner is not None:
        lines += edge_lines(record) + term_lines(record, record.winner)
    return lines + effect_lines(record)


@dataclass(frozen=True)
class Edge:
    """A value of the winner at an end of what was searched."""

    name: str
    value: float
    low: float
    high: float
    is_low: bool


def edges(record: SweepRecord) -> list[Edge]:
    """Returns the winner's searched numbers that lie within 5 % of an end of their range.

    Parameters of a term that the winner does not use are passed over, ends beyond which nothing is
    allowed, and a winner that is the baseline: it was not drawn from the space.
    """
    if record.winner is None or record.winner == BASELINE:
        return []
    config = record.final_config(record.winner)
    found = []
    for name, domain in record.spec.space.items():
        value = value_of(config, name)
        if isinstance(domain, Choice) or not has_effect(config, name):
            continue
        share = domain.fraction(value)
        is_low = share <= EDGE
        if (is_low or share >= 1.0 - EDGE) and _may_go_beyond(record, name, is_low=is_low):
            found.append(Edge(name, value, domain.low, domain.high, is_low))
    return found


def _may_go_beyond(record: SweepRecord, name: str, *, is_low: bool) -> bool:
    """Returns whether a space that goes a little further at one end could be searched."""
    domain = record.spec.space[name]
    assert not isinstance(domain, Choice)
    end, sign = (domain.low, -1.0) if is_low else (domain.high, 1.0)
    beyond = end + sign * 1e-4 * (abs(end) or 1.0)
    try:
        wider = replace(domain, **{"low" if is_low else "high": beyond})
        check_space(record.spec.base, {**record.spec.space, name: wider})
    except BadInput:
        return False
    return True


def edge_lines(record: SweepRecord) -> list[str]:
    """Returns a warning for each value of the winner at an edge."""
    return [
        f"The winner's {edge.name} is {edge.value:.3g}, at the"
        f" {'lower' if edge.is_low else 'upper'} edge of what was searched ({edge.low:g} to"
        f" {edge.high:g}): better values may lie outside."
        for edge in edges(record)
    ]
