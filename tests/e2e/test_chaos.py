"""A slice of chaos: five sweeps, two faults each, with fixed seeds."""

from pathlib import Path

import pytest

from tests.chaos.chaos import Plan, run_one
from tests.chaos.world import VARIANTS
from tests.e2e.conftest import LONG, PLAIN, Sweep

pytestmark = pytest.mark.slow

SEEDS = range(5)
QUICK = (
    *("driver_killed", "segments_cut", "worker_killed", "checkpoint_flipped", "terminated"),
    *("spec_flipped", "clock_set_back", "leftovers", "resumed_while_it_runs", "everything_killed"),
)


def slice_plan(seed: int) -> Plan:
    """Two faults, neither of which waits for a minute, for a sweep whose curves must be equal."""
    return Plan(seed, "plain", QUICK[2 * seed : 2 * seed + 2], (0.2, 0.6))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_slice_of_chaos(seed: int, undisturbed: Sweep, tmp_path: Path) -> None:
    plan = slice_plan(seed)
    assert run_one(plan, tmp_path, undisturbed.folder) == list(plan.faults)


def test_the_slice_is_of_the_sweep_it_is_compared_with() -> None:
    assert VARIANTS["plain"].flags == (*LONG, *PLAIN, "--scheduler", "none")
    done = {name for seed in SEEDS for name in slice_plan(seed).faults}
    assert done == set(QUICK)
