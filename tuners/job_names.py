"""Names of jobs: of Tune's trials, of rows in the tables, of folders and MLflow's runs.

A row of the final table is ``baseline``, ``task_score``, or the trial of the search that it stands
for.
"""

BASELINE = "baseline"
TASK_SCORE = "task_score"
_TRIAL = "trial-"


def trial_name(number: int) -> str:
    """Returns the name of a trial of the search, or of a member of a population."""
    return f"{_TRIAL}{number:03d}"


FIRST_TRIAL = trial_name(0)  # the baseline, or the one trial of train.py


def is_trial(row: str) -> bool:
    """Returns whether a row of the final table is a trial of the search."""
    return row.startswith(_TRIAL)


def trial_number(name: str) -> int:
    """Returns the number of a trial of the search, by its name or that of a job of a member."""
    return int(name.removeprefix(_TRIAL).partition("-g")[0])


def member_name(row: str, generation: int) -> str:
    """Returns the name of the job that trains a member in a generation."""
    return f"{row}-g{generation}"


def split_member(name: str) -> tuple[str, int]:
    """Returns the row and the generation of a member's job."""
    row, _, generation = name.rpartition("-g")
    return row, int(generation)


def job_name(phase: str, row: str, batch: int) -> str:
    """Returns the name of the job that trains a batch of the phase's seeds."""
    return f"{phase}-{row}-{batch}"


def split_batch(name: str) -> tuple[str, int]:
    """Returns phase and row, and the number of the batch, of such a job."""
    phase_and_row, _, batch = name.rpartition("-")
    return phase_and_row, int(batch)
