"""What a reader should be warned of, in plain words."""

from dataclasses import dataclass

from tuners.config import value_of
from tuners.phases import BASELINE
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

    Parameters of a term that the winner does not use are passed over, and so is a winner that is
    the baseline: it was not drawn from the space.
    """
    if record.winner is None or record.winner == BASELINE:
        return []
    config = record.config_of_row(record.winner).at(record.spec.base.full_length)
    found = []
    for name, domain in record.spec.space.items():
        value = value_of(config, name)
        if isinstance(domain, Choice) or not has_effect(config, name):
            continue
        share = domain.fraction(value)
        if share <= EDGE or share >= 1.0 - EDGE:
            found.append(Edge(name, value, domain.low, domain.high, share <= EDGE))
    return found


def edge_lines(record: SweepRecord) -> list[str]:
    """Returns a warning for each value of the winner at an edge."""
    return [
        f"The winner's {edge.name} is {edge.value:.3g}, at the"
        f" {'lower' if edge.is_low else 'upper'} edge of what was searched ({edge.low:g} to"
        f" {edge.high:g}): better values may lie outside."
        for edge in edges(record)
    ]
