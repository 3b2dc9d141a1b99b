"""Where sweeps are, by flag and environment."""

import pytest

from sweeps.places import default_storage, find_sweep, sweep_folder
from tests.tuners.small import refusal, segment_row, small_spec, trial_row
from tuners.mirror import Mirror
from tuners.results import ResultsWriter, read_segments
from tuners.store import Store


@pytest.mark.parametrize(
    ("store", "storage"),
    [
        ("s3://bucket/team", "s3://bucket/team/runs"),
        ("s3://bucket/", "s3://bucket/runs"),
        ("/shared/team", None),  # a folder: that is what runs_dir is for
        ("", None),
    ],
)
def test_the_storage_of_a_cluster_is_in_the_environment(monkeypatch, store, storage):
    monkeypatch.setenv("SHAPESWEEP_STORE", store)
    assert default_storage() == storage
    monkeypatch.delenv("SHAPESWEEP_STORE")
    assert default_storage() is None


@pytest.fixture
def spec(tmp_path):
    spec = small_spec(tmp_path / "here", storage=(tmp_path / "store" / "runs").as_uri())
    spec.folder.mkdir(parents=True)
    spec.save()
    assert Mirror(spec.folder, spec.address).close() == []
    return spec


def test_a_sweep_that_is_not_here_is_found_in_the_store(spec, tmp_path):
    found = find_sweep(tmp_path / "there", "sweep", spec.storage)
    assert found.folder == tmp_path / "there" / "sweep"
    assert found.to_dict() == spec.to_dict() | {"runs_dir": str(tmp_path / "there")}


def test_one_that_is_here_knows_its_store(spec):
    assert find_sweep(spec.runs_dir, "sweep", None).address == spec.address


def test_one_that_is_nowhere_is_refused(spec, tmp_path):
    for storage in (None, spec.storage):
        assert "no sweep 'missing'" in refusal(find_sweep, tmp_path, "missing", storage)
    assert "name is '../here'" in refusal(find_sweep, tmp_path, "../here", spec.storage)
    assert "it may begin with" in refusal(find_sweep, tmp_path, "missing", "ftp://host/runs")


def test_a_sweep_that_is_only_in_the_store_is_brought(spec, tmp_path):
    there = tmp_path / "there"
    assert not sweep_folder(there, "sweep", None).exists(), "no store is named"
    assert (sweep_folder(there, "sweep", spec.storage) / "sweep.yaml").exists()
    assert "no sweep 'missing'" in refusal(sweep_folder, there, "missing", spec.storage)


def test_one_that_got_further_in_the_store_is_brought_again(spec, tmp_path):
    there = tmp_path / "there"
    sweep_folder(there, "sweep", spec.storage)
    writer = ResultsWriter(spec.folder, "swingup")
    writer.put_trial(trial_row("trial-000"))
    writer.add_segment(segment_row("trial-000", 1))
    writer.flush()
    assert Mirror(spec.folder, spec.address).close() == []
    read = read_segments(sweep_folder(there, "sweep", spec.storage))
    assert [row["trial"] for row in read] == ["trial-000"]


def is_away(store):
    raise OSError("no answer")


def test_what_is_here_is_read_while_its_store_is_away(spec, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Store, "names", is_away)
    assert sweep_folder(spec.runs_dir, "sweep", spec.storage) == spec.folder
    said = capsys.readouterr().err
    assert said.startswith(f"warning: storage {spec.address} cannot be used: no answer")
    assert "no answer" in refusal(sweep_folder, tmp_path / "there", "sweep", spec.storage)


def test_a_sweep_of_another_store_is_read_without_this_one(spec):
    other = "s3://a-store-that-would-be-asked"
    assert sweep_folder(spec.runs_dir, "sweep", other) == spec.folder
