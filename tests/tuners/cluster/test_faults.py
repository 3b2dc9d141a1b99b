"""Each planted fault is one line, which says where, what was found, and what to do."""

from dataclasses import replace

import pytest

from tuners.cluster.examination import DRIVER, NodeFacts
from tuners.cluster.faults import find_faults

VERSIONS = {"python": "3.11.7", "ray": "2.60.0", "jax": "0.10.2", "flax": "0.12.1", "code": "abc"}
VERSIONS["jax_enable_x64"] = "False"
DRIVER_FACTS = NodeFacts(DRIVER, versions=VERSIONS)
WELL = NodeFacts(
    "w1",
    cpus=4.0,
    versions=VERSIONS,
    device="cpu",
    memory=8.0,
    disks={"/runs": 50.0, "/tmp/ray": 20.0},
    clock_offset=0.3,
    clock_error=0.01,
    train_seconds=3.0,
)
HEAD = replace(WELL, node="head", disks={"/runs": 50.0})
GPU = {"gpus": 1.0, "gpus_in_jax": 1, "device": "NVIDIA L4"}


def skewed(name, version):
    return {"versions": {**VERSIONS, name: version}}


PLANTED = {
    "python": (
        skewed("python", "3.12.1"),
        ["python is 3.12.1, wanted 3.11.7 as in the driver", "start Ray there with that Python"],
    ),
    "ray": (
        skewed("ray", "2.59.0"),
        ["ray is 2.59.0, wanted 2.60.0 as in the driver", "requirements.lock"],
    ),
    "jax": (skewed("jax", "0.11.0"), ["jax is 0.11.0, wanted 0.10.2", "requirements.lock"]),
    "another package": (skewed("flax", "0.12.9"), ["flax is 0.12.9, wanted 0.12.1"]),
    "code": (skewed("code", "def"), ["the code's version is def, wanted abc", "copy the project"]),
    "a setting of JAX": (
        skewed("jax_enable_x64", "True"),
        [
            "jax_enable_x64 is True, wanted False",
            "give JAX_ENABLE_X64 the same value there and here",
        ],
    ),
    "no version": ({"versions": {**VERSIONS, "jax": "not there"}}, ["jax is not there, wanted"]),
    "no code": (
        {"error": "ActorDiedError: ModuleNotFoundError: No module named 'tuners'"},
        ["could not be examined", "No module named 'tuners'", "copy the project"],
    ),
    "no answer": (
        {"error": "TimeoutError: no answer within 60 s"},
        ["could not be examined", "no answer within 60 s", "Ray's logs"],
    ),
    "a token too many": (
        {"error": "ActorDiedError: The actor never ran - it was cancelled before it started."},
        ["could not be examined", "RAY_AUTH_MODE"],
    ),
    "no device": (
        {"device_error": "RuntimeError: Unknown backend", "gpus": 1.0},
        ["JAX has no device: RuntimeError: Unknown backend"],
    ),
    "GPU absent": (
        {"gpus": 2.0},
        ["0 GPUs in JAX (which has: cpu), wanted 2 as Ray has", "requirements-cuda12.lock"],
    ),
    "GPU that does not start": (
        {"gpus": 1.0, "plugin_error": "Unable to load CUDA. Is it installed?"},
        ["(which has: cpu; its plug-in says: Unable to load CUDA. Is it installed?), wanted"],
    ),
    "GPU missing": ({**GPU, "gpus": 2.0}, ["1 GPU in JAX (which has: NVIDIA L4), wanted 2"]),
    "disk of the store": (
        {"disks": {"/runs": 0.4, "/tmp/ray": 20.0}},
        ["0.4 GB free on the disk of /runs, wanted 1 GB", "delete"],
    ),
    "disk of Ray": (
        {"disks": {"/runs": 40.0, "/tmp/ray": 0.0}},
        ["0.0 GB free on the disk of /tmp/ray"],
    ),
    "memory": (
        {"memory": 2.6},
        ["2.6 GB of memory free, wanted 4 GB, which is 1 GB a CPU", "--num-cpus 2"],
    ),
    "not writable": (
        {"store_error": "PermissionError: /runs"},
        ["cannot write to the store: PermissionError: /runs", "a store that every node can write"],
    ),
    "not shared": (
        {"unseen": (DRIVER, "head")},
        ["the store is not shared: it and driver, head do not read each other's files"],
    ),
    "clock ahead": ({"clock_offset": 3.26}, ["clock is 3.3 s ahead of the driver's", "NTP"]),
    "clock behind": ({"clock_offset": -7200.0}, ["clock is 7200.0 s behind the driver's"]),
    "trainer": (
        {"train_error": "XlaRuntimeError: INTERNAL", "train_seconds": None},
        ["the trainer does not run: XlaRuntimeError: INTERNAL", "sweeps/train.py"],
    ),
}


def test_a_cluster_that_is_well_has_no_faults():
    assert find_faults(DRIVER_FACTS, [HEAD, WELL]) == []
    assert find_faults(DRIVER_FACTS, [HEAD, replace(WELL, **GPU)], expect_gpus=1) == []


@pytest.mark.parametrize("name", PLANTED)
def test_each_planted_fault_is_one_line_that_names_the_node(name):
    changes, said = PLANTED[name]
    (line,) = find_faults(DRIVER_FACTS, [HEAD, replace(WELL, **changes)])
    assert line.startswith("w1: ")
    assert "\n" not in line
    for words in said:
        assert words in line


def test_faults_of_one_node_do_not_hide_one_another():
    sick = replace(
        WELL, **skewed("ray", "1.0.0"), memory=0.5, clock_offset=9.0, gpus=1.0, disks={"/runs": 0.1}
    )
    lines = find_faults(DRIVER_FACTS, [HEAD, sick])
    assert len(lines) == 5
    assert all(line.startswith("w1: ") for line in lines)


def test_too_few_gpus_in_all_is_a_fault_of_the_cluster():
    nodes = [HEAD, replace(WELL, **GPU)]
    (line,) = find_faults(DRIVER_FACTS, nodes, expect_gpus=3)
    assert line.startswith("all nodes: 1 GPU in JAX, wanted 3")


def test_a_store_that_the_driver_cannot_write_is_the_drivers_fault():
    (line,) = find_faults(replace(DRIVER_FACTS, store_error="full"), [HEAD, WELL])
    assert line.startswith("driver: cannot write to the store: full")


def test_a_clock_that_may_be_right_is_no_fault():
    slow_answer = replace(WELL, clock_offset=2.5, clock_error=0.6)
    assert find_faults(DRIVER_FACTS, [HEAD, slow_answer]) == []


def test_of_many_nodes_the_one_apart_is_named_once():
    nodes = [replace(WELL, node=f"w{number}") for number in range(6)]
    names = [DRIVER, *(node.node for node in nodes)]
    nodes = [replace(node, unseen=("w3",)) for node in nodes]
    nodes[3] = replace(nodes[3], unseen=tuple(name for name in names if name != "w3"))
    (line,) = find_faults(replace(DRIVER_FACTS, unseen=("w3",)), nodes)
    assert line.startswith("w3: the store is not shared")
    assert "driver, w0, w1 and 3 more" in line


def test_where_each_has_a_store_of_its_own_all_but_one_are_named():
    names = ["head", "w1", "w2"]
    nodes = [
        replace(WELL, node=name, unseen=tuple(other for other in names if other != name))
        for name in names
    ]
    lines = find_faults(DRIVER_FACTS, nodes)
    assert len({line.partition(":")[0] for line in lines}) == len(lines) == 2
