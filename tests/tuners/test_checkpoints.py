"""Which checkpoints of a running sweep are deleted, and when."""

import math
from types import SimpleNamespace

import pytest
from ray.tune import Checkpoint

from tuners.checkpoints import Checkpoints


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("tuners.checkpoints.monotonic", lambda: clock.now)
    return clock


class Session:
    """A run of Tune that saves checkpoints."""

    def __init__(self, folder, resume_from=None, mirror=None):
        self.checkpoints = Checkpoints(resume_from or {}, mirror)
        self.folder = folder / "tune" / "session-001"

    def save(self, job, *numbers):
        for number in numbers:
            path = self.folder / job / f"checkpoint_{number:06d}"
            path.mkdir(parents=True)
            (path / "state.safetensors").touch()
            self.checkpoints.add(job, Checkpoint(str(path)))

    def kept(self, job):
        """Numbers of the checkpoints that lie there, once every deletion asked for has ended."""
        if self.checkpoints._deleting is not None:
            self.checkpoints._deleting.shutdown()
        found = (self.folder / job).iterdir()
        return sorted(int(path.name.removeprefix("checkpoint_")) for path in found)


def test_the_last_two_of_each_job_stay(tmp_path):
    session = Session(tmp_path)
    session.save("a", 0, 1, 2, 3)
    session.save("b", 0, 1)
    session.checkpoints.delete_spent(ended=())
    assert (session.kept("a"), session.kept("b")) == ([2, 3], [0, 1])


def test_of_a_job_that_ended_two_stay_as_well(tmp_path):
    session = Session(tmp_path)
    session.save("a", 0, 1, 2)
    session.checkpoints.delete_spent(ended={"a"})
    session.checkpoints.delete_spent(ended={"a"})
    assert session.kept("a") == [1, 2]
    assert session.checkpoints._saved == {}, "a sweep has thousands"


@pytest.mark.parametrize(("known", "kept"), [(-1.0, [0, 1, 2, 3, 4, 5]), (0.0, [2, 3, 4, 5])])
def test_in_a_store_only_what_its_tables_are_two_beyond_is_deleted(tmp_path, clock, known, kept):
    """A new head has no other tables."""
    mirror = SimpleNamespace(has_tables_of=-math.inf)
    session = Session(tmp_path, mirror=mirror)
    session.save("a", 0, 1, 2, 3)
    session.checkpoints.delete_spent(ended=())
    mirror.has_tables_of = clock.now + known
    clock.now += 1.0
    session.save("a", 4, 5)  # of which they know nothing
    session.checkpoints.delete_spent(ended={"a"})
    assert session.kept("a") == kept


def test_the_rest_is_deleted_once_the_store_knows_of_the_end(tmp_path, clock):
    mirror = SimpleNamespace(has_tables_of=-math.inf)
    session = Session(tmp_path, mirror=mirror)
    session.save("a", 0, 1, 2)
    session.checkpoints.delete_spent(ended={"a"})
    mirror.has_tables_of = clock.now
    session.checkpoints.delete_spent(ended={"a"})
    assert session.kept("a") == [1, 2]


def test_where_a_job_is_tried_again_stays(tmp_path):
    """Each process that takes the job over begins there."""
    session = Session(tmp_path, {"a": "tune/session-001/a/checkpoint_000007"})
    session.save("a", 7, 8, 9, 10)
    session.save("b", 7, 8, 9, 10)
    session.checkpoints.delete_spent(ended=())
    assert (session.kept("a"), session.kept("b")) == ([7, 9, 10], [9, 10])


def test_a_checkpoint_that_cannot_be_deleted_is_left(tmp_path):
    def refuse(path):
        raise PermissionError(path)

    session = Session(tmp_path)
    checkpoint = SimpleNamespace(
        path="/runs/tune/session-001/a/x", filesystem=SimpleNamespace(delete_dir=refuse)
    )
    session.checkpoints.add("a", checkpoint)
    session.save("a", 1, 2, 3)
    session.checkpoints.delete_spent(ended=())
    assert session.kept("a") == [2, 3]
