"""Tune's view of a trial, called by hand as Tune does it."""

from types import SimpleNamespace

import pytest
from ray.tune.result import SHOULD_CHECKPOINT

from tests.tuners.small import CONFIG, SEGMENT
from tuners.gpu import UnusableGPU
from tuners.layout import STATE_FILE
from tuners.trainable import CheckpointClock, SegmentTrainable

JOB = {"job": "trial-003", "config": CONFIG.to_dict(), "seeds": [0, 1], "uses_gpu": False}
JOB |= {"phase": "search", "objective": ("area", 0.0), "until": None, "resume_from": None}
JOB |= {"checkpoint_seconds": 1.0}


@pytest.fixture
def pinned(monkeypatch):
    """How often the process was pinned, which a test's is not."""
    calls = []
    monkeypatch.setattr("tuners.trainable.pin_to_free_core", lambda: calls.append("pinned"))
    return calls


@pytest.fixture
def trainable(pinned):
    made = SegmentTrainable(JOB)
    yield made
    made.stop()


def test_its_process_is_pinned_to_a_core_once(trainable, pinned):
    assert trainable.reset_config(JOB)
    assert pinned == ["pinned"]


def test_a_checkpoint_is_due_a_second_after_the_last(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("tuners.trainable.time.monotonic", lambda: clock.now)
    marks = CheckpointClock(1.0)
    due = []
    for clock.now in (100.4, 100.9, 101.0, 101.9, 102.1):
        row = marks.mark({"score": 1.0})
        assert row["score"] == 1.0
        due.append(row[SHOULD_CHECKPOINT])
    assert due == [False, False, True, False, True]


def test_a_damaged_checkpoint_costs_the_way_but_not_the_curve(trainable, tmp_path, capfd):
    first, second = trainable.step(), trainable.step()
    trainable.save_checkpoint(str(tmp_path))
    state = tmp_path / STATE_FILE
    content = bytearray(state.read_bytes())
    content[-5] ^= 1
    state.write_bytes(content)
    trainable.load_checkpoint(str(tmp_path))
    again = [trainable.step(), trainable.step()]
    assert [row["env_steps"] for row in again] == [SEGMENT, 2 * SEGMENT]
    for row, before in zip(again, (first, second), strict=True):
        assert row["seed_scores"] == before["seed_scores"]
        assert row["policy_loss"] == before["policy_loss"]
    assert f"trial-003 begins again: {state} is damaged" in capfd.readouterr().err


def test_a_whole_checkpoint_is_gone_on_from(trainable, tmp_path):
    trainable.step()
    trainable.save_checkpoint(str(tmp_path))
    trainable.step()
    trainable.load_checkpoint(str(tmp_path))
    assert trainable.step()["env_steps"] == 2 * SEGMENT


def test_a_trial_of_a_gpu_does_not_train_on_a_cpu(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "")
    on_gpu = JOB | {"uses_gpu": True, "precision": "float32"}
    with pytest.raises(UnusableGPU):
        SegmentTrainable(on_gpu)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert SegmentTrainable(on_gpu).step()["env_steps"] == SEGMENT
