"""A sweep in a store: what is fetched from there when, and the addresses that are refused."""

import io

import pytest

from tests.tuners.small import refusal, segment_row, small_spec, trial_row
from tuners import store as module
from tuners.results import ResultsWriter, read_segments, read_trials
from tuners.spec import load_spec, prepare
from tuners.store import (
    Store,
    address_of,
    at_hand,
    bring,
    check_address,
    check_store,
    count_sessions,
    fetch,
    fetch_checkpoints,
)


@pytest.fixture
def storage(tmp_path):
    return (tmp_path / "store" / "runs").as_uri()


@pytest.fixture
def sweep(tmp_path, storage):
    """A sweep that has begun, and whose folder in the store is empty."""
    spec = small_spec(tmp_path / "here", storage=storage)
    spec.folder.mkdir(parents=True)
    spec.save()
    return spec


def put(address, **files):
    for name, text in files.items():
        Store(address).put(io.BytesIO(text.encode()), name.replace("__", "/"))


def report(folder, *segments):
    writer = ResultsWriter(folder, "swingup")
    writer.put_trial(trial_row("trial-000"))
    for segment in segments:
        writer.add_segment(segment_row("trial-000", segment))
        writer.flush()


def send(folder, address, below="*"):
    """Puts files of a folder into the store."""
    for path in folder.rglob(below):
        if path.is_file():
            Store(address).put(io.BytesIO(path.read_bytes()), path.relative_to(folder).as_posix())


def test_a_file_is_there_under_its_name_alone(storage, tmp_path):
    put(storage, a="1", b__c="2", b__d__e="3")
    store = Store(storage)
    assert store.names() == ["a", "b/c", "b/d/e"]
    assert store.names("b") == ["b/c", "b/d/e"]
    assert store.names("b", recursive=False) == ["b/c", "b/d"]
    assert store.names("missing") == []
    assert store.has("b/c") and not store.has("b") and not store.has("c")
    store.get("b/d/e", tmp_path / "fetched" / "deep" / "e")
    assert (tmp_path / "fetched" / "deep" / "e").read_text() == "3"
    store.delete("a")
    assert store.names() == ["b/c", "b/d/e"]


def test_what_is_on_its_way_is_not_listed(storage, tmp_path):
    put(storage, a="1")
    (tmp_path / "store" / "runs" / "a.part").write_text("half")
    assert Store(storage).names() == ["a"]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("ftp://host/runs", "storage is 'ftp://host/runs'; it may begin with s3://, file://"),
        ("runs", "storage is 'runs'; it may begin with s3://"),
        ("s3://", "names no bucket"),
        ("s3:///runs", "names no bucket"),
        ("file://runs", "file:// and its absolute path"),
        ("s3://bucket/runs?region=x", "leave out what follows the path"),
        ("s3://key:secret@bucket/runs", "storage holds a key"),
        ("s3://key@bucket/runs", "storage holds a key"),
    ],
)
def test_an_address_that_cannot_be_one_is_refused(tmp_path, address, reason):
    assert reason in refusal(check_address, address)
    line = refusal(small_spec, tmp_path, storage=address)
    assert reason in line
    assert "secret" not in line


def test_a_query_may_hold_a_secret_which_is_not_printed():
    line = refusal(check_address, "s3://bucket/runs?secret_key=abcdef")
    assert "abcdef" not in line


def test_a_store_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    address = (tmp_path / "file" / "runs").as_uri()
    assert f"storage {address} cannot be used: " in refusal(check_store, address, None)


def test_a_store_that_can_be_written_is_left_as_it_was(storage):
    check_store(storage, "sweep")
    assert Store(storage).names() == []


def test_a_name_that_is_taken_in_the_store_is_refused(sweep, storage, tmp_path):
    send(sweep.folder, sweep.address)
    line = refusal(prepare, small_spec(tmp_path / "elsewhere", storage=storage), resume=False)
    assert f"sweep 'sweep' exists in {storage}" in line
    assert "--resume sweep" in line
    prepare(sweep, resume=True)


def test_an_address_outlives_the_file_of_the_sweep(sweep, storage):
    assert load_spec(sweep.folder).storage == storage
    assert address_of(sweep.folder) == sweep.address == f"{storage}/sweep"


def test_a_slash_at_the_end_changes_nothing(tmp_path, storage):
    assert small_spec(tmp_path, storage=f"{storage}/").address == f"{storage}/sweep"


def test_a_sweep_that_is_not_here_is_brought_but_for_its_checkpoints(sweep, tmp_path):
    report(sweep.folder, 1, 2)
    send(sweep.folder, sweep.address)
    checkpoint = {"tune/session-001/trial-000/checkpoint_000000/state.safetensors": "x"}
    put(sweep.address, **{"tune/optuna.journal": "study"}, **checkpoint)
    there = tmp_path / "there" / "sweep"
    assert bring(sweep.address, there)
    assert [row["segment"] for row in read_segments(there)] == [1, 2]
    assert read_trials(there) == read_trials(sweep.folder)
    assert (there / "tune" / "optuna.journal").read_text() == "study"
    assert not list(there.glob("tune/session-*"))
    assert not bring(sweep.address, there), "it is all there"


def test_a_sweep_is_brought_if_the_store_is_further_and_left_if_it_is_not(sweep, tmp_path):
    report(sweep.folder, 1)
    there = tmp_path / "there" / "sweep"
    send(sweep.folder, sweep.address)
    bring(sweep.address, there)
    report(sweep.folder, 2, 3)
    send(sweep.folder, sweep.address)
    assert bring(sweep.address, there)
    assert [row["segment"] for row in read_segments(there)] == [1, 2, 3]
    report(there, 4)
    assert not bring(sweep.address, there)
    assert [row["segment"] for row in read_segments(there)] == [1, 2, 3, 4]


def test_what_a_sweep_concludes_is_brought_although_its_last_segment_was(sweep, tmp_path):
    report(sweep.folder, 1)
    send(sweep.folder, sweep.address)
    there = tmp_path / "there" / "sweep"
    bring(sweep.address, there)
    (sweep.folder / "comparison.json").write_text("{}")
    send(sweep.folder, sweep.address)
    assert bring(sweep.address, there)
    assert (there / "comparison.json").exists()
    put(sweep.address, **{"media/a.mp4": "a video that was deleted here"})
    assert not bring(sweep.address, there)


def test_reports_that_the_store_never_had_give_way_to_those_that_came_after_them(sweep, tmp_path):
    """The sweep went on elsewhere, without them."""
    report(sweep.folder, 1)
    there = tmp_path / "there" / "sweep"
    send(sweep.folder, sweep.address)
    bring(sweep.address, there)
    for segment in (2, 3, 4):
        report(sweep.folder, segment)
    send(sweep.folder, sweep.address)
    (there / "segments.parquet" / "00000002-00000003.parquet").touch()
    assert bring(sweep.address, there)
    assert [row["segment"] for row in read_segments(there)] == [1, 2, 3, 4]


def test_a_driver_keeps_its_lock(sweep, tmp_path):
    put(sweep.address, **{"driver.lock": "of the machine before", "tune/study.lock": ""})
    report(sweep.folder, 1)
    send(sweep.folder, sweep.address)
    assert bring(sweep.address, tmp_path / "there")
    assert not list((tmp_path / "there").rglob("*.lock"))


def test_a_fetch_that_was_cut_off_is_done_again(sweep, tmp_path, monkeypatch):
    report(sweep.folder, 1, 2)
    send(sweep.folder, sweep.address)
    there, get = tmp_path / "there" / "sweep", Store.get

    def fail(store, name, path):
        if name.endswith("00000002-00000002.parquet"):
            raise OSError("the line is cut")
        get(store, name, path)

    with monkeypatch.context() as patch:
        patch.setattr(module.Store, "get", fail)
        assert "cannot be used: the line is cut" in refusal(bring, sweep.address, there)
    assert (there / "sweep.yaml").exists()
    assert bring(sweep.address, there)
    assert len(read_segments(there)) == 2


def test_a_sweep_that_goes_on_while_it_is_fetched_is_whole(sweep, tmp_path, monkeypatch):
    """The trials table that is fetched speaks of segments that came after the first look."""
    report(sweep.folder, 1)
    send(sweep.folder, sweep.address)
    there, get = tmp_path / "there" / "sweep", Store.get

    def get_while_written(store, name, path):
        if name == "trials.parquet":
            report(sweep.folder, 2)
            send(sweep.folder, sweep.address)
        get(store, name, path)

    monkeypatch.setattr(module.Store, "get", get_while_written)
    assert bring(sweep.address, there)
    assert [row["segment"] for row in read_segments(there)] == [1, 2]


def test_nothing_is_brought_of_a_sweep_that_is_nowhere(storage, tmp_path):
    assert not bring(f"{storage}/missing", tmp_path / "missing")
    assert not (tmp_path / "missing").exists()


def test_a_file_is_fetched_once(sweep):
    put(sweep.address, **{"tune/session-001/a/state.safetensors": "from the store"})
    path = fetch(sweep.folder, "tune/session-001/a/state.safetensors")
    assert path.read_text() == "from the store"
    path.write_text("from here")
    assert fetch(sweep.folder, "tune/session-001/a/state.safetensors").read_text() == "from here"
    assert not fetch(sweep.folder, "tune/missing").exists()


def test_without_a_store_nothing_is_fetched(tmp_path):
    spec = small_spec(tmp_path)
    spec.folder.mkdir()
    spec.save()
    assert address_of(spec.folder) is None
    assert not fetch(spec.folder, "tune/missing").exists()
    fetch_checkpoints(spec.folder, ["trial-000"])
    assert count_sessions(spec.folder) == 0


def test_the_checkpoints_of_some_trials_are_fetched(sweep):
    for folder in (
        "trial-000/checkpoint_1",
        "trial-001/checkpoint_1",
        "trial-001_0a7f/checkpoint_2",
    ):
        for name in ("state.safetensors", "recording.safetensors"):
            put(sweep.address, **{f"tune/session-001/{folder}/{name}": "x"})
    fetch_checkpoints(sweep.folder, ["trial-001"])
    found = sorted(
        path.relative_to(sweep.folder).as_posix() for path in sweep.folder.glob("tune/*/*/*/*")
    )
    assert found == [
        f"tune/session-001/{folder}/state.safetensors"
        for folder in ("trial-001/checkpoint_1", "trial-001_0a7f/checkpoint_2")
    ]


def test_sessions_are_counted_here_and_in_the_store(sweep):
    assert count_sessions(sweep.folder) == 0
    (sweep.folder / "tune" / "session-001").mkdir(parents=True)
    assert count_sessions(sweep.folder) == 1
    put(sweep.address, **{"tune/session-003/tuner.pkl": "x", "tune/optuna.journal": "x"})
    assert count_sessions(sweep.folder) == 3


def test_a_checkpoint_is_at_hand_wherever_it_is(sweep, tmp_path):
    put(sweep.address, **{"tune/a/state.safetensors": "x"})
    with at_hand(f"{sweep.address}/tune/a") as folder:
        assert [path.name for path in folder.iterdir()] == ["state.safetensors"]
    assert not folder.exists()
    with at_hand(str(tmp_path)) as folder:
        assert folder == tmp_path
