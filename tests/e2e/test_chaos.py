"""A slice of chaos: five runs with fixed seeds and faults, none of which waits for a minute."""

from pathlib import Path

import pytest

from tests.chaos.chaos import Plan, Reference, run_one
from tests.chaos.world import VARIANTS
from tests.e2e.conftest import LONG, PLAIN, Sweep

pytestmark = pytest.mark.slow

# `train.py` needs no Ray, so that a run of it takes a third of the time.
SLICE = {
    0: ("plain", ("worker_killed", "everything_killed")),
    1: ("plain", ("spec_flipped",)),
    2: ("train", ("driver_killed", "segments_cut", "terminated")),
    3: ("train", ("checkpoint_flipped", "clock_set_back")),
    4: ("train", ("leftovers", "resumed_while_it_runs", "trials_flipped")),
}


@pytest.fixture(scope="module")
def references(undisturbed: Sweep, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of sweeps that nobody disturbed."""
    trained = Reference(tmp_path_factory.mktemp("undisturbed")).of("train")
    return {"plain": undisturbed.folder, "train": trained}


@pytest.mark.parametrize("seed", SLICE)
def test_a_slice_of_chaos(seed: int, references: dict[str, Path], tmp_path: Path) -> None:
    variant, faults = SLICE[seed]
    moments = tuple((number + 1) / (len(faults) + 1) for number in range(len(faults)))
    plan = Plan(seed, variant, faults, moments)
    assert run_one(plan, tmp_path, references[variant]) == list(faults)


def test_the_slice_is_of_the_sweep_it_is_compared_with() -> None:
    assert VARIANTS["plain"].flags == (*LONG, *PLAIN, "--scheduler", "none")
