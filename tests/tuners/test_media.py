"""Drawing in the background, with Ray's part played by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from ray.exceptions import WorkerCrashedError

from rlcore.video import save_recording
from tests.tuners.small import segment_row, small_spec, swing, trial_row
from tuners import media as module
from tuners.media import MediaQueue
from tuners.results import ResultsWriter


class FakeRay:
    """Actors that note what they are asked to draw; what is late or fails is set by the test."""

    def __init__(self):
        self.artists, self.asked, self.late, self.failing = 0, [], [], []

    def remote(self):
        self.artists += 1
        return SimpleNamespace(
            film_strip=self.method(self.artists, "film_strip"),
            video=self.method(self.artists, "video"),
            plots=self.method(self.artists, "plots"),
            report=self.method(self.artists, "report"),
        )

    def method(self, artist, kind):
        def remote(*arguments):
            self.asked.append((artist, kind, arguments))
            return arguments[-1].rpartition("/")[2] if len(arguments) > 1 else kind

        return SimpleNamespace(remote=remote)

    def wait(self, references, num_returns, timeout):
        assert num_returns == len(references)
        ready = [reference for reference in references if reference not in self.late]
        return ready, [reference for reference in references if reference in self.late]

    def get(self, reference):
        if reference in self.failing:
            raise WorkerCrashedError


@pytest.fixture
def ray(monkeypatch):
    """Ray's part, played by hand."""
    fake = FakeRay()
    monkeypatch.setattr(module, "_Artist", fake)
    monkeypatch.setattr(module.ray, "wait", fake.wait)
    monkeypatch.setattr(module.ray, "get", fake.get)
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
    checkpoint = str(tmp_path / "tune" / "x")
    assert ray.asked == [
        (1, "film_strip", (checkpoint, str(tmp_path / "media" / "trial-000.png"))),
        (1, "video", (checkpoint, str(tmp_path / "media" / "trial-000.mp4"))),
    ]
    assert queue.wait(1.0) == []


def test_the_processes_take_turns(tmp_path, ray, trial):
    queue = MediaQueue(tmp_path, processes=2)
    for number in range(4):
        queue.video(trial | {"trial": f"trial-{number:03d}"})
    assert [artist for artist, *_ in ray.asked] == [1, 2, 1, 2]


def test_nothing_is_drawn_twice(tmp_path, ray, trial):
    queue = MediaQueue(tmp_path)
    (tmp_path / "media" / "trial-000.png").write_bytes(b"drawn before the sweep was resumed")
    queue.film_strip(trial)
    queue.video(trial)
    queue.video(trial)
    assert [kind for _, kind, _ in ray.asked] == ["video"]


def test_a_trial_without_episodes_is_passed_over(tmp_path, ray, trial):
    queue = MediaQueue(tmp_path)
    queue.film_strip(trial_row("trial-001", checkpoint=None))
    queue.video(trial_row("trial-001", checkpoint="tune/missing"))
    assert ray.asked == []
    assert queue.wait(1.0) == []


def test_what_failed_or_took_too_long_has_a_line_each(tmp_path, ray, trial):
    ray.late, ray.failing = ["trial-000.mp4"], ["trial-000.png"]
    queue = MediaQueue(tmp_path)
    queue.film_strip(trial)
    queue.video(trial)
    late, failed = queue.wait(5.0)
    assert late == f"{tmp_path / 'media' / 'trial-000.mp4'} took longer than 5 s"
    assert failed.startswith(f"{tmp_path / 'media' / 'trial-000.png'} could not be drawn: ")
    assert "\n" not in failed
    assert queue.wait(5.0) == [], "it is not said twice"


def test_the_folders_are_there(tmp_path, ray):
    MediaQueue(tmp_path)
    MediaQueue(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"media", "plots"}


@pytest.fixture
def artist(monkeypatch):
    """The actor's own class, in this process, which stays as urgent as it is."""
    monkeypatch.setattr(module, "use_idle_time", lambda: None)
    return module._Artist.__ray_metadata__.modified_class()


def test_a_film_strip_is_drawn(tmp_path, trial, artist):
    path = tmp_path / "strip.png"
    artist.film_strip(str(tmp_path / "tune" / "x"), str(path))
    with Image.open(path) as strip:
        assert strip.height == 150
        assert np.ptp(np.asarray(strip)) > 100, "something is in it"


def test_a_video_is_drawn(tmp_path, trial, artist):
    path = tmp_path / "video.mp4"
    artist.video(str(tmp_path / "tune" / "x"), str(path))
    assert path.read_bytes()[4:8] == b"ftyp"


@pytest.fixture
def sweep(tmp_path):
    """The folder of a sweep with a few trials."""
    spec = small_spec(tmp_path)
    spec.folder.mkdir()
    spec.save()
    writer = ResultsWriter(spec.folder, "swingup")
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
    return spec.folder


def test_the_plots_of_a_sweep_are_drawn(sweep, artist):
    artist.plots(str(sweep))
    plots = sorted((sweep / "plots").iterdir())
    assert {"search.png", "test_curves.png", "slices.png"} <= {path.name for path in plots}
    for path in plots:
        with Image.open(path) as plot:
            assert plot.width >= 960
            assert len(plot.convert("RGB").getcolors(1_000_000)) > 20, "lines and letters are in it"


def test_the_report_of_a_sweep_is_written(sweep, artist):
    artist.report(str(sweep))
    assert "Not finished: 2 of 4 trials" in (sweep / "report.html").read_text()


def test_the_report_is_left_to_whoever_drew_the_plots(tmp_path, ray, trial):
    queue = MediaQueue(tmp_path, processes=2)
    queue.plots()
    queue.video(trial)
    queue.report()
    place = (str(tmp_path),)
    assert [ray.asked[0], ray.asked[2]] == [(1, "plots", place), (1, "report", place)]
    assert queue.wait(1.0) == []


def test_a_report_that_fails_is_a_line(tmp_path, ray):
    ray.failing = ["report"]
    queue = MediaQueue(tmp_path)
    queue.report()
    (line,) = queue.wait(1.0)
    assert line.startswith("the report could not be drawn: ")
