"""Drawing in the background, with Ray's part played by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from ray.exceptions import WorkerCrashedError

from rlcore.video import save_recording
from tests.tuners.small import segment_row, swing, trial_row
from tuners import media as module
from tuners.media import MediaQueue
from tuners.results import ResultsWriter


class FakeRay:
    """Draws nothing, in the order asked; what is in ``late`` never ends, and the clock moves on."""

    def __init__(self):
        self.now = 100.0
        self.asked = {"strip": [], "video": []}
        self.under_way, self.most_at_once = [], 0
        self.late, self.failing = set(), set()

    def task(self, kind):
        return SimpleNamespace(remote=lambda *arguments: self.begin(kind, arguments))

    def begin(self, kind, arguments):
        self.asked[kind].append(arguments)
        self.under_way.append(f"{kind} {arguments[1].rpartition('/')[2]}")
        self.most_at_once = max(self.most_at_once, len(self.under_way))
        return self.under_way[-1]

    def wait(self, references, num_returns, timeout):
        assert set(references) == set(self.under_way)
        ready = [reference for reference in references if reference not in self.late]
        if timeout == 0.0 or not ready:
            self.now += timeout
            return [], references
        self.now += 1.0
        return ready[:num_returns], references

    def get(self, reference):
        self.under_way.remove(reference)
        if reference in self.failing:
            raise WorkerCrashedError


@pytest.fixture
def ray(monkeypatch):
    """Ray's part, played by hand."""
    fake = FakeRay()
    monkeypatch.setattr(module, "_draw_film_strip", fake.task("strip"))
    monkeypatch.setattr(module, "_draw_video", fake.task("video"))
    monkeypatch.setattr(module.ray, "wait", fake.wait)
    monkeypatch.setattr(module.ray, "get", fake.get)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: fake.now))
    return fake


@pytest.fixture
def trial(tmp_path):
    """A trial that has ended, with its recording on disk."""
    (tmp_path / "tune" / "x").mkdir(parents=True)
    save_recording(tmp_path / "tune" / "x" / "recording.safetensors", swing(20, (20, 20, 20)))
    return trial_row("trial-000", checkpoint="tune/x")


def test_a_drawing_is_begun_with_paths_that_any_process_finds(tmp_path, ray, trial, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)
    queue = MediaQueue(tmp_path.relative_to(tmp_path.parent))
    queue.film_strip(trial)
    queue.video(trial)
    assert queue.wait(60.0) == []
    recording = str(tmp_path / "tune" / "x" / "recording.safetensors")
    assert ray.asked["strip"] == [(recording, str(tmp_path / "media" / "trial-000.png"))]
    assert ray.asked["video"] == [(recording, str(tmp_path / "media" / "trial-000.mp4"))]


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_no_more_are_under_way_than_asked_for(tmp_path, ray, trial, at_once):
    queue = MediaQueue(tmp_path, at_once)
    for number in range(6):
        queue.film_strip(trial | {"trial": f"trial-00{number}"})
    assert len(ray.under_way) == at_once, "it does not wait until all are asked for"
    assert queue.wait(60.0) == []
    assert [path.rpartition("/")[2] for _, path in ray.asked["strip"]] == [
        f"trial-00{number}.png" for number in range(6)
    ]
    assert ray.most_at_once == at_once


def test_a_trial_without_episodes_is_passed_over(tmp_path, ray, trial):
    queue = MediaQueue(tmp_path)
    queue.film_strip(trial_row("trial-001", checkpoint=None))
    queue.film_strip(trial_row("trial-001", checkpoint="tune/missing"))
    assert ray.asked["strip"] == []
    assert queue.wait(1.0) == []


def test_what_failed_has_a_line_and_the_rest_is_drawn(tmp_path, ray, trial):
    queue = MediaQueue(tmp_path)
    ray.failing = {"strip trial-000.png"}
    queue.film_strip(trial)
    queue.video(trial)
    (line,) = queue.wait(60.0)
    assert line.startswith(f"{tmp_path / 'media' / 'trial-000.png'} could not be drawn: ")
    assert "\n" not in line
    assert len(ray.asked["video"]) == 1
    assert queue.wait(60.0) == [], "it is not said twice"


def test_what_takes_too_long_has_a_line_and_so_has_what_waits_for_it(tmp_path, ray, trial):
    queue = MediaQueue(tmp_path)
    ray.late = {"strip trial-000.png"}
    queue.film_strip(trial)
    queue.video(trial)
    assert queue.wait(5.0) == [
        f"{tmp_path / 'media' / 'trial-000.png'} took longer than 5 s",
        f"{tmp_path / 'media' / 'trial-000.mp4'} took longer than 5 s",
    ]
    assert ray.now == 105.0
    assert ray.asked["video"] == []
    assert queue.wait(5.0) == []


def test_the_folders_are_there(tmp_path):
    MediaQueue(tmp_path)
    MediaQueue(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"media", "plots"}


@pytest.fixture
def drawn_here(monkeypatch):
    """The tasks run in this process, which stays as urgent as it is."""
    monkeypatch.setattr(module, "_be_nice", lambda: None)


def test_a_film_strip_is_drawn(tmp_path, trial, drawn_here):
    path = tmp_path / "strip.png"
    recording = tmp_path / "tune" / "x" / "recording.safetensors"
    module._draw_film_strip._function(str(recording), str(path))
    with Image.open(path) as strip:
        assert strip.height == 150
        assert np.ptp(np.asarray(strip)) > 100, "something is in it"


def test_a_video_is_drawn(tmp_path, trial, drawn_here):
    path = tmp_path / "video.mp4"
    recording = tmp_path / "tune" / "x" / "recording.safetensors"
    module._draw_video._function(str(recording), str(path))
    assert path.read_bytes()[4:8] == b"ftyp"


def test_the_plots_of_a_sweep_are_drawn(tmp_path, drawn_here):
    writer = ResultsWriter(tmp_path, "swingup")
    for name, phase, row, reason in (
        ("trial-000", "search", "baseline", "budget"),
        ("trial-001", "search", "trial-001", "diverged"),
        ("trial-002", "search", "trial-002", None),
        ("test-baseline-0", "test", "baseline", "budget"),
        ("test-trial-001-0", "test", "trial-001", "budget"),
    ):
        status = "finished" if reason else "running"
        writer.put_trial(trial_row(name, phase, row, status=status, stop_reason=reason))
        for segment in (1, 2, 3):
            writer.add_segment(segment_row(name, segment, phase))
    writer.flush()
    MediaQueue(tmp_path)
    module._draw_plots._function(str(tmp_path), ["trial-001", "baseline", "task_score"])
    plots = sorted((tmp_path / "plots").iterdir())
    assert [path.name for path in plots] == ["search.png", "test_curves.png"]
    for path in plots:
        with Image.open(path) as plot:
            assert plot.size == (960, 540)
            assert len(plot.getcolors(100_000)) > 20, "lines and letters are in it"
