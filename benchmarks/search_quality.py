"""What searches find on a fixed budget: searchers, early stopping, and what is searched.

    python benchmarks/search_quality.py    # about 70 minutes on two cores; goes on if stopped

Each arm searches with the laptop preset's settings until BUDGET env_steps (all seeds counted) are
spent, validates its finalists and the baseline, and tests the winner, on seeds of its own for each
repeat.  One trial runs at a time, one repeat a core.  A table ends it: interquartile means over
repeats with bootstrap 95 % intervals.  Results are kept in runs/search_quality/.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.pinned import cores, run_pinned, work_if_asked
from rlcore.files import replacing
from tuners.config import baseline
from tuners.default_spaces import hyperparameter_space, joint_space, reward_space
from tuners.phases import BASELINE, NextJob, Plan
from tuners.space import Domain
from tuners.spec import SweepSpec, make_spec

TASK = "swingup"
REPEATS = 8
FIRST_SEED = 100
BUDGET = 16_800_000
FOLDER = Path("runs") / "search_quality"


class Arm(NamedTuple):
    """A way to search."""

    space: Callable[[str], dict[str, Domain]]
    searcher: str
    scheduler: str


ARMS: dict[str, Arm] = {
    "reward: random": Arm(reward_space, "random", "none"),
    "reward: random + ASHA": Arm(reward_space, "random", "asha"),
    "reward: TPE": Arm(reward_space, "tpe", "none"),
    "reward: TPE + ASHA": Arm(reward_space, "tpe", "asha"),
    "hyperparameters: TPE + ASHA": Arm(hyperparameter_space, "tpe", "asha"),
    "joint: random + ASHA": Arm(joint_space, "random", "asha"),
    "joint: TPE + ASHA": Arm(joint_space, "tpe", "asha"),
}


class BudgetPlan(Plan):
    """Begins trials until the budget is spent; tests the winner alone."""

    spent = 0

    @property
    def num_search_jobs(self) -> int:
        """Jobs of the search: those begun, and one more while there is budget."""
        begun = sum(job.phase == "search" for job in self.jobs.values())
        return begun + (self.spent < BUDGET)

    def _candidates(self) -> Iterator[NextJob]:
        yield from self._searches()
        for row in (BASELINE, *(self.finalists or ())):
            yield from self._batches("validation", row)
        if self.winner is not None:
            yield from self._batches("test", self.winner)


def search(arm: str, repeat: int) -> dict[str, Any]:
    """Returns what an arm found: the winner's test columns, and what it took."""
    from tuners.objectives import Outcome
    from tuners.schedulers import SCHEDULERS
    from tuners.stopping import replay
    from tuners.trial import Trial

    spec = spec_of(arm, repeat)
    plan, scheduler = BudgetPlan(spec), SCHEDULERS[spec.scheduler](spec)
    rows: dict[str, dict[str, Any]] = {}
    while (job := plan.next_job()) is not None:
        together = job.phase == "search"
        trial = Trial(job.config, list(job.seeds), spec.judge, fails_together=together)
        stopped = False
        while not (trial.last_row.get("done") or stopped):
            row = trial.advance() | {"trial": job.name, "phase": job.phase}
            if job.phase == "search":
                plan.spent += job.config.ppo.steps_per_segment * len(job.seeds)
                stopped = not row["done"] and bool(replay(scheduler, [row]))
        reason = "asha" if stopped else "diverged" if row["diverged"] else "budget"
        rows[job.name] = row
        plan.end(job.name, Outcome.from_row(row, reason))
    tested = [row for row in rows.values() if row["phase"] == "test"]
    columns = ("final_score", "area", "steps_to_threshold")
    winner = str(plan.winner)
    return {
        "winner": winner,
        "config": plan.config_of(winner).to_dict(),
        "trials": sum(job.phase == "search" for job in plan.jobs.values()),
        **{column: float(np.mean([row[column] for row in tested])) for column in columns},
    }


def spec_of(arm: str, repeat: int) -> SweepSpec:
    """Returns the laptop preset's sweep for an arm; its folder is empty."""
    way = ARMS[arm]
    spec = make_spec(
        name=name_of(arm, repeat),
        preset="laptop",
        task=TASK,
        reward=baseline(TASK),
        space=way.space(TASK),
        searcher=way.searcher,
        scheduler=way.scheduler,
        seed=FIRST_SEED + repeat,
        runs_dir=FOLDER,
    )
    shutil.rmtree(spec.folder, ignore_errors=True)
    return spec


def name_of(arm: str, repeat: int) -> str:
    """Returns the name of a sweep: "joint-TPE-ASHA-3"."""
    return "-".join([*re.findall(r"\w+", arm), str(repeat)])


def result_path(arm: str, repeat: int) -> Path:
    """Returns where the result of an arm's repeat lies."""
    return FOLDER / f"{name_of(arm, repeat)}.json"


def work(request: Any) -> None:
    """Runs the searches asked for, and writes each result."""
    for arm, repeat in request:
        found = search(arm, repeat)
        with replacing(result_path(arm, repeat)) as beside:
            beside.write_text(json.dumps({"arm": arm, **found}))
        shutil.rmtree(FOLDER / name_of(arm, repeat), ignore_errors=True)


def print_table(results: Mapping[str, list[dict[str, Any]]]) -> None:
    """Prints a line an arm."""
    from tuners.validate import estimate

    heads = ("final score", "area", "M steps to 800", "trials")
    print(f"{'':32}{'n':>3}" + "".join(f"{head:>24}" for head in heads))
    for arm, found in results.items():
        cells = ""
        columns = {"final_score": (1, 0), "area": (1, 0), "steps_to_threshold": (1, 2)}
        for column, (scale, digits) in {**columns, "trials": (1, 0)}.items():
            over = estimate(np.array([entry[column] * scale for entry in found]))
            shown = f"{over.value:.{digits}f} [{over.low:.{digits}f}, {over.high:.{digits}f}]"
            cells += f"{shown:>24}"
        print(f"{arm:32}{len(found):3}{cells}")


def main() -> None:
    """Runs what is not there yet, and prints the table."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    # Repeats first: stopped early, every arm has about as many.
    pairs = [(arm, repeat) for repeat in range(REPEATS) for arm in ARMS]
    missing = [pair for pair in pairs if not result_path(*pair).exists()]
    count = len(cores())
    run_pinned(__file__, [({core}, missing[i::count]) for i, core in enumerate(cores())])
    print_table(
        {
            arm: [json.loads(result_path(arm, repeat).read_text()) for repeat in range(REPEATS)]
            for arm in ARMS
        }
    )


if __name__ == "__main__" and not work_if_asked(work):
    main()
