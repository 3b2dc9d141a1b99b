"""One run of train.py goes on from wherever it was ended."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.tuners.small import SEGMENT, segment_row, small_spec, trial_row
from tuners import single
from tuners.job_names import FIRST_TRIAL
from tuners.layout import film_strip_path, video_path
from tuners.results import ResultsWriter, read_segments, read_trials
from tuners.spec import prepare
from tuners.trial import Trial

SEGMENTS = 2


@pytest.fixture
def spec(tmp_path):
    spec = small_spec(tmp_path, space={}, budget=SEGMENTS * SEGMENT)
    prepare(spec, resume=False)
    return spec


def train(spec):
    """Trains to the end without MLflow; returns the env_steps it reported."""
    seen = []
    with ThreadPoolExecutor(1) as drawing:
        single._train(spec, 0, lambda row: seen.append(row["env_steps"]), drawing)
    return seen


def test_a_run_that_was_ended_before_its_last_row_still_gets_its_pictures(spec, monkeypatch):
    def killed(*_):
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(single, "_end", killed)
        with pytest.raises(SystemExit):
            train(spec)
    assert not film_strip_path(spec.folder, FIRST_TRIAL).exists()
    assert train(spec) == []
    (row,) = read_trials(spec.folder)
    assert (row["status"], row["stop_reason"]) == ("finished", "budget")
    assert row["env_steps"] == SEGMENTS * SEGMENT
    assert film_strip_path(spec.folder, FIRST_TRIAL).exists()
    assert video_path(spec.folder, FIRST_TRIAL).exists()


def test_a_run_that_diverged_is_not_trained_further(spec):
    trial = Trial(spec.base, spec.seeds("search"))
    trial.advance()
    single._checkpoint(spec.folder, trial)
    writer = ResultsWriter(spec.folder, "swingup")
    writer.put_trial(trial_row(FIRST_TRIAL))
    last = {"diverged": True, "done": True, "stop_reason": "diverged"}
    writer.add_segment(segment_row(FIRST_TRIAL, 1, **last))
    writer.flush()
    assert train(spec) == []
    (row,) = read_trials(spec.folder)
    assert (row["stop_reason"], row["env_steps"]) == ("diverged", SEGMENT)
    assert len(read_segments(spec.folder)) == 1
