"""The final table as a person reads it: on the terminal, in the report and beside other sweeps."""

from collections.abc import Iterator

from tuners.job_names import BASELINE, TASK_SCORE
from tuners.spec import SweepSpec
from tuners.validate import COLUMNS, FEWEST_SEEDS, THRESHOLD, Column, Comparison, Estimate

COLUMN_TITLES = (
    *(column.title for column in COLUMNS.values()),
    f"seeds above {THRESHOLD:.0f}",
)


def row_label(row: str, winner: str | None) -> str:
    """Returns what a person reads for a row."""
    if row == winner:
        return "winner = baseline" if row == BASELINE else f"winner ({row})"
    return {BASELINE: "baseline", TASK_SCORE: "the score as reward"}.get(row, row)


def shown(cell: Estimate, column: Column, never: float) -> tuple[str, str]:
    """Returns an interquartile mean as a person reads it, and its interval.

    Args:
        cell: of the final table.
        column: that it is in.
        never: as ``AtEnd`` has it.
    """

    def text(value: float) -> str:
        if column.unit and value > never * (1 - 1e-9):
            return "never"
        return f"{value:.{2 if column.unit else 0}f}"

    value = text(cell.value)
    unit = f" {column.unit}" if column.unit and value != "never" else ""
    return f"{value}{unit}", f"[{text(cell.low)}, {text(cell.high)}]"


def interval(cell: Estimate, digits: int = 0) -> str:
    """Returns an interval as a person reads it."""
    return f"[{cell.low:.{digits}f}, {cell.high:.{digits}f}]"


def interval_name(test_seeds: int) -> str:
    """Returns what the intervals of a test are: of up to four seeds a bootstrap spans them all."""
    return "95 % interval" if test_seeds > 4 else "lowest, highest"


def estimate_lines(
    comparison: Comparison, winner: str | None
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yields each row that was tested, winner first: its label, a cell for each column title."""
    for row in dict.fromkeys([winner, BASELINE, TASK_SCORE, *comparison.estimates]):
        if row is not None and (cells := comparison.estimates.get(row)):
            stood = comparison.at_end[row]
            figures = [shown(cells[name], column, stood.never) for name, column in COLUMNS.items()]
            yield row_label(row, winner), [*figures, (f"{stood.above} of {stood.seeds}", "")]


def improvement_lines(comparison: Comparison) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yields a line for each row that the winner can be compared with: how surely it is better."""
    for row, label in {BASELINE: "baseline", TASK_SCORE: "score"}.items():
        if found := comparison.improvement.get(row):
            cells = [found[name] for name in COLUMNS]
            yield (
                f"P(beats {label})",
                [*((f"{cell.value:.2f}", interval(cell, digits=2)) for cell in cells), ("", "")],
            )


def verdict(comparison: Comparison, winner: str) -> str:
    """Returns what the test says about the winner, in one or two plain sentences."""
    against = _against_score(comparison)
    if winner == BASELINE and set(comparison.validated) <= {BASELINE}:
        return (
            "No configuration came to the validation on fresh seeds, so the hand-tuned baseline is"
            f" the winner: more trials, or a longer --grace-period, may help.{against}"
        )
    if winner == BASELINE:
        return (
            "No configuration found was better than the hand-tuned baseline on fresh seeds: the"
            f" baseline itself is the winner.{against}"
        )
    failed = [row for row in (winner, BASELINE) if row not in comparison.estimates]
    if failed:
        return f"Every test job of {' and '.join(failed)} failed: nothing can be said."
    if BASELINE not in comparison.improvement:
        return (
            "Whether the winner beats the baseline cannot be told from"
            f" {comparison.test_seeds} test seeds: it takes {FEWEST_SEEDS} or more."
        )
    better, worse = comparison.better_in(BASELINE), comparison.worse_in(BASELINE)
    tail = f" It is worse in: {', '.join(worse)}." if worse else ""
    if better:
        return f"The winner beats the baseline in: {', '.join(better)}.{tail}{against}"
    return (
        "The winner does not clearly beat the baseline on the test seeds in any column."
        f"{tail}{against}"
    )


def seen_before(spec: SweepSpec) -> str:
    """Returns a sentence where the test's seeds are no fresh ones: those of an extended sweep."""
    if not spec.extensions:
        return ""
    return f"The sweep was extended, {len(spec.extensions)} x, after a look at these test seeds."


def _against_score(comparison: Comparison) -> str:
    """Returns how the winner compares with the reward that nobody has to look for."""
    if TASK_SCORE not in comparison.improvement:
        return ""
    better, worse = comparison.better_in(TASK_SCORE), comparison.worse_in(TASK_SCORE)
    found = {"better": better, "worse": worse}
    said = "; ".join(f"{word} in: {', '.join(titles)}" for word, titles in found.items() if titles)
    return (
        " Compared with the score itself as the reward, which the search may not use, it is"
        f" {said or 'not clearly better or worse in any column'}."
    )
