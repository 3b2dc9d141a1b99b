"""Small real sweeps, disturbed at random moments, and what must hold of each in the end.

    python -m tests.chaos.chaos --runs 100 --out chaos

Each run follows from its seed, which is printed.  Runs that are in the record of ``--out`` are not
done again, so the script may be ended and started again.  ``--table`` prints how often each fault
came.  A run takes about half a minute on two idle cores.  As root it has a disk to fill.
"""

import argparse
import json
import os
import random
import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlcore.checkpoint import is_whole
from tests.chaos.faults import FAULTS
from tests.chaos.world import NAME, PATIENCE, VARIANTS, World
from tests.e2e.processes import wait_until
from tests.e2e.record import assert_one_run_a_trial, assert_whole, curves, trials_once
from tuners.layout import COMPARISON_FILE, STATE_FILE
from tuners.results import read_segments
from tuners.versions import code_version

MOST_FAULTS = 3


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Attributes:
        seed: it follows from.
        variant: of sweep.
        faults: in their order.
        moments: when each comes, as a share of the reports of an undisturbed sweep.
    """

    seed: int
    variant: str
    faults: tuple[str, ...]
    moments: tuple[float, ...]


def make_plan(seed: int, *, as_root: bool) -> Plan:
    """Returns what a seed decides: the faults take turns, and others join them by chance."""
    draw = random.Random(seed)
    possible = [name for name, fault in FAULTS.items() if as_root or not fault.small_disk]
    first = possible[seed % len(possible)]
    variant = draw.choice(FAULTS[first].variants or tuple(VARIANTS))
    others = [name for name in possible if variant in (FAULTS[name].variants or VARIANTS)]
    faults = [first, *draw.choices(others, k=draw.randrange(MOST_FAULTS))]
    draw.shuffle(faults)
    moments = sorted(draw.uniform(0.02, 0.9) for _ in faults)
    return Plan(seed, variant, tuple(faults), tuple(moments))


class Reference:
    """Sweeps that nobody disturbed, one of each variant, made when first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / f"undisturbed-{code_version()}"

    def of(self, variant: str) -> Path:
        """Returns the folder of the variant's sweep."""
        place = self._folder / variant
        if not (place / "done").exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            world = World(place, VARIANTS[variant])
            try:
                code = world.wait_for_end()
            finally:
                world.close()
            assert code == 0, world.running.output
            (place / "done").touch()
        return place / "work" / "runs" / NAME


def run_one(plan: Plan, folder: Path, reference: Path) -> list[str]:
    """Disturbs a sweep and checks it in the end; returns the faults that came before its end.

    Raises:
        AssertionError: something that must hold does not.
    """
    expected = len(read_segments(reference))
    chosen = [FAULTS[name] for name in plan.faults]
    world = World(
        folder,
        VARIANTS[plan.variant],
        served=any(fault.served for fault in chosen),
        small_disk=any(fault.small_disk for fault in chosen),
    )
    draw = random.Random(plan.seed + 1)
    done = []
    try:
        for name, moment in zip(plan.faults, plan.moments, strict=True):
            if world.wait_for(max(1, int(moment * expected))):
                world.note_processes()
                FAULTS[name].do(world, draw)
                done.append(name)
        code = world.wait_for_end()
        assert code == 0, f"the driver ended with {code}:\n{world.running.output}"
        check(world, plan.variant, reference)
    finally:
        world.close()
    return done


def check(world: World, variant: str, reference: Path) -> None:
    """Checks what must hold of a sweep that went through.

    Raises:
        AssertionError: what does not.
    """
    world.watcher.close()
    assert_whole(world.folder)
    assert_nothing_lost(world)
    if "MLflow lacks" in world.running.output:
        world.scripts.succeed("track", NAME, seconds=PATIENCE)
    assert_one_run_a_trial(world.tracking_uri, world.folder)
    assert_same(world.folder, reference, VARIANTS[variant].compared)
    assert_tidy(world.folder)
    wait_until(lambda: not world.left_running(), f"ended: {world.left_running()}", 120.0)


def assert_nothing_lost(world: World) -> None:
    """Each report that was durable at any time is there once, and as it was."""
    assert not world.watcher.changed, world.watcher.changed[0]
    rows = read_segments(world.folder)
    counts = Counter((row["trial"], row["env_steps"]) for row in rows)
    now = {(row["trial"], row["env_steps"]): repr(row) for row in rows}
    for key, text in world.watcher.seen.items():
        assert counts[key] == 1, f"{key} is there {counts[key]} times"
        assert now[key] == text, f"{key} was {text}, and is {now[key]}"


def assert_same(folder: Path, reference: Path, compared: str) -> None:
    """The curves are those of a sweep that nobody disturbed, and so is the winner."""
    if compared == "none":
        return
    ours, theirs = (curves(each, decisions=compared == "all") for each in (folder, reference))
    for row in ours.values():
        if row.get("stop_reason") == repr("interrupted"):  # where Ctrl-C came: no decision
            row["stop_reason"] = repr(None)
    if compared == "common":
        common = ours.keys() & theirs.keys()
        assert len(common) > 100, len(common)
        ours, theirs = ({key: each[key] for key in common} for each in (ours, theirs))
    assert ours == theirs
    if compared == "all" and (reference / COMPARISON_FILE).exists():
        assert _conclusion(folder) == _conclusion(reference)


def _conclusion(folder: Path) -> dict[str, Any]:
    comparison = json.loads((folder / COMPARISON_FILE).read_text())
    return {name: comparison[name] for name in ("winner", "table", "validation")}


def assert_tidy(folder: Path) -> None:
    """No unfinished file is left, and no half-written one has a name by which it is read."""
    assert not list(folder.rglob(".*.tmp"))
    for row in trials_once(folder).values():
        if row["checkpoint"] is not None:
            assert is_whole(folder / row["checkpoint"] / STATE_FILE), row["checkpoint"]


def run_all(seeds: Sequence[int], out: Path, *, as_root: bool) -> bool:
    """Does the runs that ``out`` has no record of; returns whether all in there held."""
    out.mkdir(parents=True, exist_ok=True)
    record, reference = out / "record.jsonl", Reference(out)
    known = {entry["seed"]: entry for entry in read_record(record)}
    for seed in seeds:
        if seed in known:
            continue
        plan = make_plan(seed, as_root=as_root)
        print(f"seed {seed}: {plan.variant}, {', '.join(plan.faults)}", flush=True)
        entry = {"seed": seed, "variant": plan.variant, "faults": plan.faults}
        folder, begun = out / f"run-{seed}", time.monotonic()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            entry |= {"done": run_one(plan, folder, reference.of(plan.variant)), "violation": None}
            shutil.rmtree(folder)
        except AssertionError:
            entry |= {"done": [], "violation": traceback.format_exc()[-4000:]}
            print(entry["violation"], flush=True)
        entry["seconds"] = round(time.monotonic() - begun)
        with record.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        known[seed] = entry
    return all(known[seed]["violation"] is None for seed in seeds)


def read_record(path: Path) -> list[dict[str, Any]]:
    """Returns the runs done so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def table(entries: Sequence[dict[str, Any]]) -> str:
    """Returns, in Markdown, how often each fault came and how often all held."""
    lines = ["| fault | runs | all held |", "|---|---|---|"]
    for name, fault in FAULTS.items():
        runs = [entry for entry in entries if name in entry["done"] or _failed(entry, name)]
        held = [entry for entry in runs if entry["violation"] is None]
        lines.append(f"| {fault.about} | {len(runs)} | {len(held)} |")
    return "\n".join(lines)


def _failed(entry: dict[str, Any], name: str) -> bool:
    return entry["violation"] is not None and name in entry["faults"]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=100, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--out", type=Path, default=Path("chaos"), help="folder of the record")
    parser.add_argument("--table", action="store_true", help="print the table and do nothing")
    given = parser.parse_args()
    if given.table:
        print(table(read_record(given.out / "record.jsonl")))
        return 0
    seeds = range(given.first, given.first + given.runs)
    return 0 if run_all(seeds, given.out, as_root=os.geteuid() == 0) else 1


if __name__ == "__main__":
    sys.exit(main())
