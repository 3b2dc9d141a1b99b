"""What Tune calls during a sweep, called by hand with trials that are none."""

import copy
import math
import threading
from types import SimpleNamespace

import pytest
from ray import cloudpickle
from ray.tune import Checkpoint
from ray.tune.search import Searcher

from tests.tuners.small import SEGMENT, budget, small_spec
from tuners.adapter import RETRIES, InterruptStopper, PlanSearcher, SweepCallback
from tuners.checkpoints import Checkpoints
from tuners.errors import BadInput
from tuners.objectives import Outcome
from tuners.phases import Plan
from tuners.results import ResultsWriter, read_segments, read_trials
from tuners.schedulers import SCHEDULERS

FULL = 8 * SEGMENT


class Sweep:
    """A sweep's callback with everything it tells, and Tune's part by hand."""

    def __init__(self, folder, **changes):
        spec = small_spec(folder, **changes)
        spec.folder.mkdir()
        self.plan = Plan(spec)
        self.folder = spec.folder
        self.writer = ResultsWriter(spec.folder, "swingup")
        self.interrupted = threading.Event()
        self.checkpoints = Checkpoints({}, None)
        self.heard = []
        self.stopper = InterruptStopper(self.interrupted)
        self.running = self.stopper.running
        self.scheduler = SCHEDULERS[spec.scheduler](spec)
        self.callback = SweepCallback(
            self.plan,
            self.writer,
            self.scheduler,
            self.stopper,
            self.checkpoints,
            [lambda event, row: self.heard.append((event, row["trial"]))],
        )

    def start(self):
        trial = self.wait()
        self.callback.on_trial_start(0, [], trial)
        return trial

    def wait(self):
        """A trial that no worker has taken yet."""
        job = self.plan.next_job()
        return SimpleNamespace(
            trial_id=f"id of {job.name}",
            config={"job": job.name, "phase": job.phase},
            last_result=None,
            checkpoint=None,
            error_file=None,
            run_metadata=SimpleNamespace(num_failures=0),
        )

    def report(self, trial, segment, **columns):
        """A segment's report; ``done`` is what Tune makes of trainable and scheduler."""
        row = {
            "segment": segment,
            "env_steps": segment * SEGMENT,
            "objective": 10.0 * segment,
            "score": 7.0,
        }
        row |= {"final_score": 4.0, "steps_to_threshold": 0.5}
        row |= {"seed_scores": [1.0, 2.0], "diverged": False, "done": False, "time": 5.0} | columns
        row["done"] |= self.stopper(trial.trial_id, row)
        trial.last_result = row
        self.callback.on_trial_result(0, [], trial, row)
        return row

    def fail_for_good(self, trial):
        for _ in range(RETRIES):
            self.callback.on_trial_recover(0, [], trial)
            self.callback.on_step_end(0, [])
        self.callback.on_trial_error(0, [], trial)

    def complete(self, trial):
        self.callback.on_trial_complete(0, [], trial)

    def tables(self):
        self.writer.flush()
        trials = {row["trial"]: row for row in read_trials(self.folder)}
        return trials, read_segments(self.folder)


@pytest.fixture
def sweep(tmp_path):
    return Sweep(tmp_path)


def test_a_trial_that_starts_is_in_the_table(sweep):
    sweep.start()
    row = sweep.tables()[0]["trial-000"]
    assert (row["phase"], row["row"], row["seeds"]) == ("search", "baseline", [0, 1])
    assert row["status"] == "running"
    assert row["started"] > 1.7e9
    assert row["stop_reason"] is None
    assert sweep.running == {"trial-000"}
    assert sweep.heard == [("started", "trial-000")]


def test_a_trial_that_starts_again_is_still_the_same(sweep):
    trial = sweep.start()
    started = sweep.writer.trials["trial-000"]["started"]
    sweep.report(trial, 1)
    sweep.callback.on_trial_start(0, [], trial)
    assert sweep.writer.trials["trial-000"]["started"] == started
    assert sweep.heard == [("started", "trial-000"), ("segment", "trial-000")]


def test_a_report_becomes_a_row(sweep):
    trial = sweep.start()
    sweep.report(trial, 3, entropy=0.5, hostname="not a column")
    (row,) = sweep.tables()[1]
    assert (row["trial"], row["phase"], row["segment"]) == ("trial-000", "search", 3)
    assert (row["env_steps"], row["objective"], row["entropy"]) == (3 * SEGMENT, 30.0, 0.5)
    assert (row["done"], row["stop_reason"]) == (False, None)
    assert row["seed_scores"] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("segment", "columns", "reason"),
    [
        (8, {"done": True}, "budget"),
        (2, {"done": True}, "asha"),
        (2, {"done": True, "diverged": True, "objective": 0.0}, "diverged"),
        (8, {"done": True, "diverged": True, "objective": 0.0}, "diverged"),
    ],
)
def test_why_a_trial_ended(sweep, segment, columns, reason):
    trial = sweep.start()
    last = sweep.report(trial, segment, **columns)
    sweep.complete(trial)
    trials, segments = sweep.tables()
    row = trials["trial-000"]
    assert (row["status"], row["stop_reason"]) == ("finished", reason)
    assert row["env_steps"] == segment * SEGMENT
    assert row["objective"] == last["objective"]
    assert row["score"] == 7.0
    assert row["ended"] >= row["started"]
    assert (segments[0]["done"], segments[0]["stop_reason"]) == (True, reason)
    expected = Outcome(last["objective"], reason, segment * SEGMENT, 4.0, 0.5)
    assert sweep.plan.outcomes == {"trial-000": expected}
    assert sweep.running == set()
    assert sweep.heard[-1] == ("ended", "trial-000")


def test_a_trial_that_was_interrupted_stays_unfinished(sweep):
    trial = sweep.start()
    sweep.interrupted.set()
    sweep.report(trial, 2)
    sweep.complete(trial)
    trials, segments = sweep.tables()
    assert trials["trial-000"]["status"] == "running"
    assert (segments[0]["done"], segments[0]["stop_reason"]) == (False, "interrupted")
    assert sweep.plan.outcomes == {}
    assert sweep.running == set(), "the run can end"
    assert ("ended", "trial-000") not in sweep.heard


def test_an_interrupted_trial_below_the_cut_of_its_rung_is_finished(sweep):
    """It is what a resume would make of it; the table must say so from the beginning."""
    rung = int(min(sweep.scheduler.rungs)) // SEGMENT
    better, worse = sweep.start(), sweep.start()
    sweep.scheduler.on_trial_add(None, better)
    sweep.scheduler.on_trial_result(None, better, sweep.report(better, rung, objective=2.0))
    sweep.interrupted.set()
    sweep.report(worse, rung, objective=1.0)
    sweep.complete(worse)
    trials, segments = sweep.tables()
    assert (segments[1]["done"], segments[1]["stop_reason"]) == (True, "asha")
    assert (trials["trial-001"]["status"], trials["trial-001"]["stop_reason"]) == (
        "finished",
        "asha",
    )


def test_a_trial_that_ended_just_before_the_interruption_is_finished(sweep):
    trial = sweep.start()
    sweep.report(trial, 2, done=True)
    sweep.interrupted.set()
    sweep.complete(trial)
    assert sweep.tables()[0]["trial-000"]["stop_reason"] == "asha"


def test_a_trial_that_begins_after_the_interruption_is_not_waited_for(sweep):
    sweep.interrupted.set()
    sweep.start()
    assert sweep.stopper.stop_all()


def test_an_interrupted_trial_that_had_just_ended_is_finished(sweep):
    first, second = sweep.start(), sweep.start()
    sweep.interrupted.set()
    sweep.report(first, 8, done=True)
    sweep.report(second, 2, done=True, diverged=True)
    sweep.complete(first)
    sweep.complete(second)
    trials, _ = sweep.tables()
    assert trials["trial-000"]["stop_reason"] == "budget"
    assert trials["trial-001"]["stop_reason"] == "diverged"


@pytest.mark.parametrize("last", [None, {}])
def test_a_trial_taken_back_before_its_first_report_stays_unfinished(sweep, last):
    trial = sweep.start()
    trial.last_result = last
    sweep.complete(trial)
    assert sweep.tables()[0]["trial-000"]["status"] == "running"
    assert sweep.plan.outcomes == {}
    assert sweep.running == set()


def test_a_report_that_comes_again_is_passed_over(sweep):
    trial = sweep.start()
    sweep.report(trial, 1)
    sweep.report(trial, 1, score=99.0)
    sweep.report(trial, 2)
    _, segments = sweep.tables()
    assert [row["segment"] for row in segments] == [1, 2]
    assert segments[0]["score"] == 7.0
    assert [event for event, _ in sweep.heard] == ["started", "segment", "segment"]


def test_a_trial_that_failed_for_good(sweep):
    trial = sweep.start()
    sweep.report(trial, 3)
    sweep.fail_for_good(trial)
    row = sweep.tables()[0]["trial-000"]
    assert (row["status"], row["stop_reason"], row["objective"]) == ("error", "error", 0.0)
    assert (row["env_steps"], row["score"]) == (3 * SEGMENT, 7.0)
    assert sweep.plan.outcomes == {"trial-000": Outcome(0.0, "error", 3 * SEGMENT, 4.0, 0.5)}
    assert sweep.running == set()
    assert sweep.heard[-1] == ("ended", "trial-000")


def test_what_a_trial_that_failed_had_reported_counts_no_more(sweep):
    """Else it might win a validation by its last report."""
    trial = sweep.start()
    row = sweep.report(trial, 3, seed_objectives=[9.0, 9.0])
    assert Outcome.from_row(row, "budget").seed_objectives == (9.0, 9.0)
    sweep.fail_for_good(trial)
    assert sweep.plan.outcomes["trial-000"].seed_objectives == ()
    assert sweep.tables()[0]["trial-000"]["seed_objectives"] is None


def test_a_trial_that_failed_before_its_first_report(sweep):
    trial = sweep.start()
    sweep.fail_for_good(trial)
    row = sweep.tables()[0]["trial-000"]
    assert (row["status"], row["env_steps"], row["checkpoint"]) == ("error", 0, None)


def test_a_trial_that_tune_gave_up_too_early_is_tried_again(sweep):
    """Its process died while it took it over: for Tune it had not begun."""
    trial, other = sweep.start(), sweep.start()
    path = sweep.folder.absolute() / "tune" / "session-001" / "trial-000" / "checkpoint_000000"
    trial.checkpoint = SimpleNamespace(path=str(path))
    sweep.callback.on_trial_error(0, [], trial)
    assert sweep.plan.outcomes == {}
    assert (sweep.plan.num_running, sweep.plan.finished) == (1, False)
    assert sweep.tables()[0]["trial-000"]["status"] == "running"
    expected = {"trial-000": "tune/session-001/trial-000/checkpoint_000000"}
    assert sweep.checkpoints.resume_from == expected
    again = sweep.start()
    assert again.config["job"] == "trial-000"
    assert sweep.plan.num_running == 2
    sweep.report(again, 8, done=True)
    sweep.complete(again)
    sweep.report(other, 8, done=True)
    sweep.complete(other)
    assert {row["status"] for row in sweep.tables()[0].values()} == {"finished"}


def test_a_process_that_dies_while_a_trial_takes_it_over_is_one_failure(sweep):
    """Tune tells of it twice in a step."""
    for _ in range(RETRIES):
        trial = sweep.start()
        sweep.callback.on_trial_recover(0, [], trial)
        sweep.callback.on_trial_error(0, [], trial)
        assert sweep.plan.outcomes == {}
        sweep.callback.on_step_end(0, [])
    assert [event for event, _ in sweep.heard].count("failed") == RETRIES
    sweep.callback.on_trial_error(0, [], sweep.start())
    assert sweep.plan.outcomes["trial-000"].stop_reason == "error"


def test_a_checkpoint_is_named_within_the_sweeps_folder(sweep):
    trial = sweep.start()
    path = sweep.folder.absolute() / "tune" / "session-001" / "trial-000" / "checkpoint_000000"
    trial.checkpoint = SimpleNamespace(path=str(path))
    sweep.report(trial, 8, done=True)
    sweep.complete(trial)
    checkpoint = sweep.tables()[0]["trial-000"]["checkpoint"]
    assert checkpoint == "tune/session-001/trial-000/checkpoint_000000"


def save(sweep, trial, *numbers):
    """Has Tune tell of checkpoints of a trial; returns where they lie."""
    folder = sweep.folder.absolute() / "tune" / "session-001" / trial.config["job"]
    for number in numbers:
        path = folder / f"checkpoint_{number:06d}"
        path.mkdir(parents=True)
        (path / "state.safetensors").touch()
        trial.checkpoint = Checkpoint(str(path))
        sweep.callback.on_checkpoint(0, [], trial, trial.checkpoint)
    return folder


def kept_in(folder):
    return sorted(int(path.name.removeprefix("checkpoint_")) for path in folder.iterdir())


def test_the_last_two_checkpoints_of_each_trial_are_kept(sweep):
    first, second = sweep.start(), sweep.start()
    folders = save(sweep, first, 0, 1, 2, 3), save(sweep, second, 0, 1)
    sweep.report(first, 8, done=True)
    sweep.complete(first)
    sweep.callback.on_step_end(0, [])
    assert [kept_in(folder) for folder in folders] == [[2, 3], [0, 1]]


def test_no_checkpoint_is_deleted_before_the_tables_are_written(sweep, monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("tuners.adapter.monotonic", lambda: clock.now)
    trial = sweep.start()
    folder = save(sweep, trial, 0, 1, 2)
    sweep.callback.on_step_end(0, [])
    assert kept_in(folder) == [1, 2]
    clock.now += 0.2
    save(sweep, trial, 3, 4)
    sweep.callback.on_step_end(0, [])
    assert kept_in(folder) == [1, 2, 3, 4]
    clock.now += 1.0
    sweep.callback.on_step_end(0, [])
    assert kept_in(folder) == [3, 4]


def test_checkpoints_of_a_trial_that_ended_are_forgotten(sweep):
    trial = sweep.start()
    save(sweep, trial, 0, 1)
    sweep.callback.on_step_end(0, [])
    assert sweep.checkpoints._saved
    sweep.report(trial, 8, done=True)
    sweep.complete(trial)
    sweep.callback._next_flush = -math.inf
    sweep.callback.on_step_end(0, [])
    assert not sweep.checkpoints._saved


def test_the_checkpoint_from_which_a_job_is_tried_again_stays(sweep):
    """Each process that takes the job over begins there."""
    trial = sweep.start()
    folder = save(sweep, trial, 7)
    sweep.callback.on_trial_error(0, [], trial)
    again = sweep.start()
    assert sweep.checkpoints.resume_from["trial-000"].endswith("checkpoint_000007")
    save(sweep, again, 8, 9, 10)
    sweep.callback.on_step_end(0, [])
    assert kept_in(folder) == [7, 9, 10]


def test_what_came_in_is_written_about_once_a_second(sweep, monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("tuners.adapter.monotonic", lambda: clock.now)
    trial = sweep.start()
    written = []
    for segment, moment in ((1, 1000.0), (2, 1000.5), (3, 1001.1)):
        clock.now = moment
        sweep.report(trial, segment)
        sweep.callback.on_step_end(0, [])
        written.append(len(read_segments(sweep.folder)))
    assert written == [1, 1, 3]


def test_where_writing_takes_long_it_is_done_less_often(sweep, monkeypatch):
    clock, moments = SimpleNamespace(now=1000.0), []
    monkeypatch.setattr("tuners.adapter.monotonic", lambda: clock.now)

    def flush():
        moments.append(clock.now)
        clock.now += 0.3

    monkeypatch.setattr(sweep.writer, "flush", flush)
    for _ in range(80):
        sweep.callback.on_step_end(0, [])
        clock.now += 0.125
    assert len(moments) == 4, "a tenth of ten seconds"


def test_why_a_trial_failed_that_is_tried_again_is_told(sweep, tmp_path):
    told = []
    sweep.callback._listeners.append(lambda event, row: told.append((event, row)))
    trial = sweep.start()
    trial.error_file = str(tmp_path / "error.txt")
    notice = (
        "--------------------\nFor simplicity, JAX has removed its internal frames from the ..."
    )
    (tmp_path / "error.txt").write_text(f"Failure # 1\n  a line\nOSError: bad luck\n{notice}\n\n")
    sweep.callback.on_trial_recover(0, [], trial)
    where = f"OSError: bad luck (the whole of it: {trial.error_file})"
    assert told[-1] == ("failed", {"trial": "trial-000", "reason": where})
    sweep.callback.on_trial_recover(0, [], trial)
    assert told[-1] == ("failed", {"trial": "trial-000", "reason": "OSError: bad luck"})
    (tmp_path / "error.txt").unlink()
    sweep.callback.on_trial_recover(0, [], trial)
    assert told[-1][1]["reason"] == "its process ended"
    assert sweep.tables()[0]["trial-000"]["status"] == "running"


def test_a_trial_that_waits_to_be_tried_again_holds_up_no_interruption(sweep):
    sweep.callback.on_trial_recover(0, [], sweep.start())
    sweep.interrupted.set()
    assert sweep.stopper.stop_all()


def test_a_trial_that_never_began_is_in_the_table_when_it_fails(sweep):
    """A row with gaps would make the whole table one that nobody can read."""
    sweep.fail_for_good(sweep.wait())
    row = sweep.tables()[0]["trial-000"]
    assert (row["phase"], row["row"], row["seeds"]) == ("search", "baseline", [0, 1])
    assert (row["status"], row["stop_reason"], row["env_steps"]) == ("error", "error", 0)


@pytest.mark.parametrize("hook", ["on_trial_recover", "on_trial_error"])
def test_a_full_disk_is_not_the_trials_fault(sweep, monkeypatch, hook):
    def full(folder):
        assert folder == sweep.folder
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tuners.adapter.check_room", full)
    trial = sweep.start()
    with pytest.raises(OSError, match="No space left"):
        getattr(sweep.callback, hook)(0, [], trial)
    assert sweep.tables()[0]["trial-000"]["status"] == "running"


def test_failures_count_from_the_last_new_report(sweep):
    """Who loses its machine once a day for a week is no bad trial."""
    trial = sweep.start()
    for segment in range(1, 2 * RETRIES + 1):
        sweep.callback.on_trial_recover(0, [], trial)
        sweep.callback.on_step_end(0, [])
        trial.run_metadata.num_failures = 1
        sweep.report(trial, segment)
        assert trial.run_metadata.num_failures == 0, "Tune counts too"
    for _ in range(RETRIES):
        sweep.callback.on_trial_recover(0, [], trial)
        sweep.callback.on_step_end(0, [])
        sweep.report(trial, 2 * RETRIES)  # trained once more
    sweep.callback.on_trial_error(0, [], trial)
    assert sweep.tables()[0]["trial-000"]["status"] == "error"


@pytest.fixture
def in_store(tmp_path, monkeypatch):
    """A sweep in a store that answers, or does not: ``answers`` says so at the time."""
    sweep = Sweep(tmp_path, storage="s3://bucket/runs")
    sweep.answers = sweep.comes_back = True
    clock = SimpleNamespace(now=0.0)

    def check(storage, fresh):
        if not sweep.answers:
            raise BadInput(f"storage {storage} cannot be used: no answer")

    def wait(seconds):
        sweep.durable = [row["segment"] for row in read_segments(sweep.folder)]
        sweep.answers = sweep.comes_back
        clock.now += seconds

    monkeypatch.setattr("tuners.store_wait.check_store", check)
    monkeypatch.setattr("tuners.store_wait.sleep", wait)
    monkeypatch.setattr("tuners.store_wait.monotonic", lambda: clock.now)
    return sweep


@pytest.mark.parametrize("hook", ["on_trial_recover", "on_trial_error"])
def test_a_store_that_is_away_is_told_of_and_what_came_in_is_durable_meanwhile(in_store, hook):
    trial = in_store.start()
    in_store.report(trial, 1)
    in_store.answers = False
    getattr(in_store.callback, hook)(0, [], trial)
    assert in_store.durable == [1]
    # That the trial failed, and what is waited for.
    assert [event for event, _ in in_store.heard[2:]] == ["failed", "failed"]


@pytest.mark.parametrize("hook", ["on_trial_recover", "on_trial_error"])
def test_a_store_that_stays_away_ends_the_sweep_and_no_trial(in_store, hook):
    in_store.answers = in_store.comes_back = False
    trial = in_store.start()
    with pytest.raises(OSError, match="no answer"):
        getattr(in_store.callback, hook)(0, [], trial)
    assert in_store.callback.store.fault == "storage s3://bucket/runs cannot be used: no answer"
    assert in_store.tables()[0]["trial-000"]["status"] == "running"


def test_an_interrupted_sweep_waits_for_no_store(in_store):
    in_store.answers = in_store.comes_back = False
    trial = in_store.start()
    in_store.interrupted.set()
    in_store.callback.on_trial_recover(0, [], trial)
    assert [event for event, _ in in_store.heard] == ["started", "failed"]


def test_a_worker_that_may_not_write_to_the_store_ends_the_sweep(in_store, tmp_path):
    """The driver may: nothing is wrong with it from here."""
    trial = in_store.start()
    trial.error_file = str(tmp_path / "error.txt")
    said = "OSError: When initiating multiple part upload: AWS Error ACCESS_DENIED"
    (tmp_path / "error.txt").write_text(f"Traceback\n{said}\n")
    with pytest.raises(OSError, match="ACCESS_DENIED"):
        in_store.fail_for_good(trial)
    assert in_store.callback.store.fault == f"trial-000 cannot use the store: {said}"
    assert in_store.tables()[0]["trial-000"]["status"] == "running"


@pytest.mark.parametrize(("searcher", "durable"), [("tpe", "finished"), ("random", None)])
def test_a_searcher_that_learns_hears_of_a_trial_once_it_is_durable(tmp_path, searcher, durable):
    """A kill between the two would leave it with what the sweep does not know."""
    sweep = Sweep(tmp_path, searcher=searcher)
    trial, known = sweep.start(), []
    end = sweep.plan.end

    def heard(name, outcome):
        rows = {row["trial"]: row["status"] for row in read_trials(sweep.folder)}
        known.append(rows.get(name))
        end(name, outcome)

    sweep.plan.end = heard
    sweep.report(trial, 2, done=True)
    sweep.complete(trial)
    assert known == [durable]


@pytest.fixture
def searcher(tmp_path):
    """A searcher, its plan, and the interruption."""
    plan, interrupted = Plan(small_spec(tmp_path)), threading.Event()
    return PlanSearcher(plan, lambda job: {"job": job.name}, interrupted), plan, interrupted


def test_tune_is_given_the_plans_jobs(searcher):
    searcher, plan, _ = searcher
    given = [searcher.suggest(str(i)) for i in range(8)]
    assert given[:2] == [{"job": "trial-000"}, {"job": "trial-001"}]
    assert given[7] is None, "ask again later"
    for name in list(plan.jobs):
        plan.end(name, budget(1.0))
        searcher.on_trial_complete("0")
    while (config := searcher.suggest("x")) != Searcher.FINISHED:
        plan.end(config["job"], budget(1.0))
    assert plan.finished


def test_a_searcher_that_learns_is_not_asked_ahead(sweep):
    """No more trials are out than there are workers for them."""
    plan = Plan(sweep.plan.spec)
    searcher = PlanSearcher(plan, lambda job: {"job": job.name}, threading.Event(), 2)
    assert searcher.suggest("a") == {"job": "trial-000"}
    assert searcher.suggest("b") == {"job": "trial-001"}
    assert searcher.suggest("c") is None
    plan.end("trial-000", Outcome(1.0, "budget"))
    assert searcher.suggest("c") == {"job": "trial-002"}
    assert searcher.suggest("d") is None
    for job in ("trial-001", "trial-002"):
        plan.end(job, budget(1.0))
    while plan.finalists is None:
        plan.end(searcher.suggest("e")["job"], budget(1.0))
    given = [searcher.suggest(str(i)) for i in range(3)]
    assert None not in given, "nothing is learned from validation"


def test_nothing_is_given_once_interrupted(searcher):
    searcher, plan, interrupted = searcher
    searcher.suggest("0")
    interrupted.set()
    assert searcher.suggest("1") == Searcher.FINISHED
    assert list(plan.jobs) == ["trial-000"]


def test_after_an_interruption_every_trial_stops_with_its_next_report():
    interrupted = threading.Event()
    stopper = InterruptStopper(interrupted)
    stopper.running.add("trial-000")
    assert not stopper("0", {})
    assert not stopper.stop_all()
    interrupted.set()
    assert stopper("0", {})
    assert not stopper.stop_all(), "a segment is still running"
    stopper.running.clear()
    assert stopper.stop_all()


def test_without_an_interruption_nothing_stops_though_nothing_runs():
    assert not InterruptStopper(threading.Event()).stop_all()


def test_tune_saves_nothing_of_the_sweep(sweep, searcher, tmp_path):
    """Its copies and pickles would be heavy, and old: a sweep resumes from its own tables."""
    for kept in (sweep.callback, searcher[0], InterruptStopper(threading.Event())):
        assert copy.deepcopy(kept) is kept
        assert vars(cloudpickle.loads(cloudpickle.dumps(kept))) == {}
    searcher[0].save(str(tmp_path / "state"))
    assert not (tmp_path / "state").exists()
