"""Programs are traced, and compiled into the cache, before a worker asks for them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tuners.small import CONFIG, plant_mistake, refusal
from tuners.ahead import refuse_untraceable, start_compiling


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHAPESWEEP_CACHE", str(tmp_path / "programs"))
    return tmp_path / "programs"


@pytest.fixture
def mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each process that a test begins."""
    plant_mistake(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.fixture
def dead() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ended without a word, as one does that is killed."""
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as process:
        yield process


def test_the_program_of_a_config_is_in_the_cache_in_the_end(cache):
    with start_compiling(CONFIG, [CONFIG]) as process:
        refuse_untraceable(process)
        assert process.wait() == 0
    assert list(cache.glob("jit_train_segment*"))


def test_a_program_that_no_trial_can_be_trained_by_is_refused(cache, mistake):
    with start_compiling(CONFIG, [CONFIG]) as process:
        message = refusal(refuse_untraceable, process)
        assert process.wait() == 0
    assert message.startswith("swingup cannot be trained: rlcore/rewards/compose.py, line ")
    assert message.endswith("AttributeError: 'CartPoleState' object has no attribute 'thetta'")
    assert not cache.exists()


def test_a_process_that_says_nothing_refuses_nothing(dead):
    refuse_untraceable(dead)
