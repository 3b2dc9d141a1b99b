"""The final table as a person reads it: on the terminal, in the report and beside other sweeps."""

from collections.abc import Iterator

from tuners.phases import BASELINE, TASK_SCORE
from tuners.validate import COLUMNS, Comparison, Estimate


def row_label(row: str, winner: str | None) -> str:
    """Returns what a person reads for a row."""
    if row == winner:
        return "winner = baseline" if row == BASELINE else f"winner ({row})"
    return {BASELINE: "baseline", TASK_SCORE: "the score as reward"}.get(row, row)


def shown(cell: Estimate, unit: str) -> tuple[str, str]:
    """Returns an interquartile mean as a person reads it, and its interval."""
    digits = 2 if unit else 0
    return f"{cell.value:.{digits}f}{f' {unit}' if unit else ''}", interval(cell, digits)


def interval(cell: Estimate, digits: int = 0) -> str:
    """Returns an interval as a person reads it."""
    return f"[{cell.low:.{digits}f}, {cell.high:.{digits}f}]"


def estimate_lines(
    comparison: Comparison, winner: str | None
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yields the label of each row that was tested, winner first, and what is in its columns."""
    for row in dict.fromkeys([winner, BASELINE, TASK_SCORE, *comparison.estimates]):
        if row is not None and (cells := comparison.estimates.get(row)):
            yield (
                row_label(row, winner),
                [shown(cells[name], column.unit) for name, column in COLUMNS.items()],
            )


def improvement_line(comparison: Comparison, winner: str | None) -> list[str]:
    """Returns the line of how surely the winner is better, or nothing if that has no meaning."""
    if not comparison.improvement or winner == BASELINE:
        return []
    return ["P(winner is better)", *(f"{comparison.improvement[name]:.2f}" for name in COLUMNS)]
