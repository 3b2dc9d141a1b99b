"""What a node finds out about itself, on this machine."""

import os
import platform
import shutil
import time
from importlib.metadata import version

import pytest

from tuners.cluster import examination
from tuners.cluster.examination import (
    GB,
    NodeFacts,
    SharedStore,
    clock_offset,
    compare_store,
    examine,
    free_memory,
    free_space,
    look_for_devices,
    train_a_segment,
)
from tuners.versions import program_version

NODE = NodeFacts("10.0.0.1:ab12 (head)", cpus=1.0)


@pytest.fixture(params=["runs", "a b/ü%20#?"])
def store(request, tmp_path):
    return SharedStore(str(tmp_path / request.param), "0123")


def test_a_store_that_two_share(store):
    assert store.leave("w1") == store.leave("w2") == ""
    assert store.unseen(["w1", "w2"]) == ()
    assert store.unseen(["w1", "w3"], patience=0.0) == ("w3",)


def test_nothing_is_left_in_a_store(store, tmp_path):
    assert store.leave("w1") == store.leave("w2") == ""
    store.clean("w1")
    assert store.unseen(["w1", "w2"], patience=0.0) == ("w1",)
    store.clean("w2")
    store.clean("w3")
    assert not [name for _, _, names in os.walk(tmp_path) for name in names]
    assert os.listdir(store.place) == []


def test_remove_takes_what_is_left(store):
    assert store.leave("w1") == ""
    store.remove()
    store.remove()
    assert os.listdir(store.place) == []


def test_a_file_of_another_examination_is_not_seen(tmp_path):
    assert SharedStore(str(tmp_path), "1").leave("w1") == ""
    assert SharedStore(str(tmp_path), "2").unseen(["w1"], patience=0.0) == ("w1",)


def test_an_empty_file_is_not_seen(tmp_path):
    store = SharedStore(str(tmp_path), "1")
    assert store.leave("w1") == ""
    (tmp_path / ".doctor-1" / "w1").write_bytes(b"")
    assert store.unseen(["w1"], patience=0.0) == ("w1",)


def test_a_file_that_comes_late_is_waited_for(tmp_path, monkeypatch):
    store = SharedStore(str(tmp_path), "1")
    monkeypatch.setattr(time, "sleep", lambda seconds: store.leave("w1"))
    assert store.unseen(["w1"]) == ()


def test_a_store_that_cannot_be_written_says_why(tmp_path):
    (tmp_path / "file").touch()
    found = examine(NODE, SharedStore(str(tmp_path / "file" / "runs"), "1"))
    assert "Not a directory" in found.store_error
    assert compare_store(found, SharedStore(str(tmp_path), "1"), ["w1"]).unseen == ()


def test_a_store_of_no_known_kind_says_so():
    assert "ftp" in SharedStore("ftp://host/folder", "1").leave("w1")


def test_this_machine_is_examined(tmp_path):
    found = examine(NODE, SharedStore(str(tmp_path / "runs"), "1"))
    assert found.versions["python"] == platform.python_version()
    assert found.versions["jax"] == version("jax")
    assert found.versions["ray"] == version("ray")
    assert found.versions["code"] == program_version()
    assert (found.device, found.gpus_in_jax, found.device_error) == ("cpu", 0, "")
    assert found.memory > 0.1
    assert found.store_error == ""
    assert compare_store(found, SharedStore(str(tmp_path / "runs"), "1"), [NODE.node]).unseen == ()


def test_jax_without_a_device_says_why(monkeypatch):
    def devices():
        raise RuntimeError("Unable to initialize backend 'cuda'")

    monkeypatch.setattr("jax.devices", devices)
    found = look_for_devices(NODE)
    assert found.device_error == "RuntimeError: Unable to initialize backend 'cuda'"


def test_free_space_is_that_of_the_nearest_folder_that_exists(tmp_path):
    (free,) = free_space([str(tmp_path / "a" / "b")]).values()
    assert free == pytest.approx(shutil.disk_usage(tmp_path).free / GB, abs=0.5)


def test_a_disk_is_named_once(tmp_path):
    first, second = str(tmp_path / "runs"), str(tmp_path / "ray")
    assert list(free_space([first, second])) == [first]


def test_free_memory_is_some_of_what_there_is():
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < free_memory() <= whole


def test_the_quickest_answer_tells_a_clock_best():
    samples = [(0.0, 5.9, 1.0), (10.0, 15.05, 10.1), (20.0, 25.3, 20.5)]
    offset, error = clock_offset(samples)
    assert offset == pytest.approx(5.0)
    assert error == pytest.approx(0.05)


def test_a_segment_is_trained():
    found = train_a_segment(NODE)
    assert found.train_error == ""
    assert found.train_seconds is not None and found.train_seconds > 0


def test_a_trainer_that_raises_says_why(monkeypatch):
    def broken(*arguments):
        raise RuntimeError("INTERNAL: no such instruction")

    monkeypatch.setattr("tuners.trial.Trial.advance", broken)
    found = train_a_segment(NODE)
    assert found.train_error == "RuntimeError: INTERNAL: no such instruction"
    assert found.train_seconds is None


def test_a_trainer_that_diverges_does_not_run(monkeypatch):
    monkeypatch.setattr("tuners.trial.Trial.advance", lambda trial: {"diverged": True})
    assert train_a_segment(NODE).train_error == "the numbers are not finite"


def test_examining_takes_no_memory_of_a_gpu_for_good(monkeypatch, tmp_path):
    monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE", raising=False)
    monkeypatch.setattr(examination, "look_for_devices", lambda node: node)
    examine(NODE, SharedStore(str(tmp_path), "1"))
    assert os.environ.pop("XLA_PYTHON_CLIENT_PREALLOCATE") == "false"
