"""Is this cluster fit for a sweep?  Every node is asked; what is wrong is said in plain lines.

``examination.py`` is what runs on each node, ``faults.py`` judges what it found.
"""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tuners.cluster.examination import (
    DRIVER,
    NodeFacts,
    SharedStore,
    clock_offset,
    compare_store,
    examine,
    software,
    train_a_segment,
)
from tuners.cluster.faults import find_faults
from tuners.errors import in_a_line
from tuners.tracking_check import tracking_fault

_CLOCK_READINGS = 5
_LEAVE_WITHIN = 10.0


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        nodes: all nodes of the cluster, the head first.
        faults: a line for each fault; none if all is well.
    """

    nodes: Sequence[NodeFacts]
    faults: Sequence[str]


def diagnose(
    runs_dir: str | Path,
    tracking_uri: str | None,
    *,
    expect_gpus: int = 0,
    uses_gpus: bool = True,
    timeout: float = 60.0,
    trains: bool = True,
) -> Diagnosis:
    """Returns what is known of every node of the cluster that Ray has joined, and its faults.

    Args:
        runs_dir: the shared store: a folder, or a URI that Arrow knows.
        tracking_uri: MLflow's store or server; None leaves it out.
        expect_gpus: GPUs that JAX must have on all nodes together.
        uses_gpus: whether JAX must have on each node the GPUs that Ray has there.
        timeout: seconds that a node has for each answer.
        trains: whether each node compiles a small trainer and trains a segment.
    """
    place = str(runs_dir)
    if "://" not in place:
        place = str(Path(place).absolute())
    driver, nodes = _examine_all(SharedStore(place, uuid.uuid4().hex[:8]), timeout, trains)
    judged = nodes if uses_gpus else [replace(node, gpus=0.0) for node in nodes]
    faults = find_faults(driver, judged, expect_gpus)
    fault = "" if tracking_uri is None else tracking_fault(tracking_uri)
    return Diagnosis(nodes, faults + [fault] * bool(fault))


class Examiner:
    """A process on a node that no CPU is kept for; it does what the driver asks of it."""

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Returns what the function returns there."""
        return function(*arguments)


def _examine_all(
    store: SharedStore, timeout: float, trains: bool
) -> tuple[NodeFacts, list[NodeFacts]]:
    """Returns the facts of driver and nodes; each step is done on all nodes at once."""
    alive = _alive_nodes()
    facts = {name: _blank(name, entry) for name, entry in alive.items()}
    examiners = {name: _examiner_on(entry["NodeID"]) for name, entry in alive.items()}

    def ask(function: Any, *arguments: Any, failure: str = "error") -> None:
        asked = {
            name: examiners[name].run.remote(function, known, *arguments)
            for name, known in facts.items()
            if not known.error
        }
        facts.update(_answers(facts, asked, timeout, failure))

    # In a thread: a share whose server is away holds for ever who writes to it.
    store_error = _within(timeout, store.leave, DRIVER)
    driver = NodeFacts(DRIVER, versions=software(), store_error=store_error)
    try:
        ask(examine, store)
        for name, known in facts.items():
            facts[name] = _read_clock(known, examiners[name], timeout)
        wrote = [n.node for n in (driver, *facts.values()) if not (n.error or n.store_error)]
        ask(compare_store, store, wrote)
        driver = compare_store(driver, store, wrote)
        if trains:
            ask(train_a_segment, failure="train_error")
    finally:
        _leave(store, facts, examiners)
        if not store_error:
            store.remove()
    return driver, list(facts.values())


def _within(seconds: float, function: Callable[[str], str], argument: str) -> str:
    """Returns the function's answer, or that there was none."""
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(function(argument)), daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else f"no answer within {seconds:.0f} s"


def _alive_nodes() -> dict[str, Mapping[str, Any]]:
    """Returns what Ray says of each node by its name, the head first."""
    alive = [entry for entry in ray.nodes() if entry["Alive"]]
    addresses = Counter(entry["NodeManagerAddress"] for entry in alive)
    nodes = {}
    for entry in sorted(alive, key=lambda entry: not _is_head(entry)):
        name = entry["NodeManagerAddress"]
        if addresses[name] > 1:  # several on one machine
            name += f":{entry['NodeID'][:6]}"
        nodes[name + " (head)" * _is_head(entry)] = entry
    return nodes


def _is_head(entry: Mapping[str, Any]) -> bool:
    return "node:__internal_head__" in entry["Resources"]


def _blank(name: str, entry: Mapping[str, Any]) -> NodeFacts:
    resources = entry["Resources"]
    return NodeFacts(
        name,
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
        # FOLDER/session_.../sockets/raylet
        ray_folder=str(Path(entry["RayletSocketName"]).parents[2]),
    )


def _examiner_on(node_id: str) -> Any:
    here = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(Examiner).options(num_cpus=0, scheduling_strategy=here).remote()


def _answers(
    facts: Mapping[str, NodeFacts], asked: Mapping[str, Any], timeout: float, failure: str
) -> dict[str, NodeFacts]:
    """Returns what the nodes answer; why one does not is put into its ``failure``."""
    if not asked:
        return {}
    ready, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=timeout)
    answers = {}
    for name, answer in asked.items():
        try:
            if answer not in ready:
                raise TimeoutError(f"no answer within {timeout:.0f} s")
            answers[name] = ray.get(answer)
        except (RayError, TimeoutError) as error:
            found: dict[str, Any] = {failure: in_a_line(error)}
            answers[name] = replace(facts[name], **found)
    return answers


def _read_clock(node: NodeFacts, examiner: Any, timeout: float) -> NodeFacts:
    if node.error:
        return node
    readings = []
    try:
        for _ in range(_CLOCK_READINGS):
            asked = time.time()
            there = ray.get(examiner.run.remote(time.time), timeout=timeout)
            readings.append((asked, there, time.time()))
    except RayError as error:
        return replace(node, error=in_a_line(error))
    offset, doubt = clock_offset(readings)
    return replace(node, clock_offset=offset, clock_error=doubt)


def _leave(
    store: SharedStore, facts: Mapping[str, NodeFacts], examiners: Mapping[str, Any]
) -> None:
    """Has each node remove its file from the store, and ends the examiners."""
    removed = [
        examiner.run.remote(store.clean, name)
        for name, examiner in examiners.items()
        if not facts[name].error
    ]
    if removed:
        ray.wait(removed, num_returns=len(removed), timeout=_LEAVE_WITHIN)
    for examiner in examiners.values():
        ray.kill(examiner)
