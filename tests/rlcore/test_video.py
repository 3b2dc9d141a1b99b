"""Recordings, their frames, and the files made of them."""

import dataclasses
import itertools
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from rlcore import video
from rlcore.video import (
    Recording,
    frames,
    load_recording,
    save_recording,
    score_so_far,
    write_film_strip,
    write_video,
)

REPOSITORY = Path(__file__).parents[2]
PANEL_LEFTS = (0, 420, 840)
UPRIGHT, RIGHT, HANGING, LEFT = 0.0, np.pi / 2, np.pi, 3 * np.pi / 2


def still_recording(steps=4, *, x=0.0, theta=0.0, action=0.0, rate=0.0, **changes):
    """Three equal episodes in which nothing moves."""
    states = np.zeros((steps + 1, 3, 4), np.float32)
    states[..., 0], states[..., 2] = x, theta
    fields = {
        "states": states,
        "actions": np.full((steps, 3), action, np.float32),
        "score_rates": np.full((steps, 3), rate, np.float32),
        "lengths": np.full(3, steps),
        "dt": 0.02,
        "rail": 2.4,
        "pole_length": 1.0,
    }
    return Recording(**fields | changes)


def moving_recording(steps=30, lengths=(30, 12, 30)):
    """Episodes that turn, roll and score; episode 1 leaves the rail at its end."""
    generator = np.random.default_rng(0)
    time = np.arange(steps + 1)[:, None]
    states = generator.normal(size=(steps + 1, 3, 4)).astype(np.float32)
    states[..., 0] = np.array([0.02, 2.45 / 12, -0.05]) * time
    states[..., 2] = np.array([np.pi, 1.0, 4.0]) + 0.1 * time
    lived = time[:-1] < np.array(lengths)
    return Recording(
        states=states,
        actions=generator.normal(size=(steps, 3)).astype(np.float32),
        score_rates=np.where(lived, generator.uniform(size=(steps, 3)), 0).astype(np.float32),
        lengths=np.array(lengths),
        dt=0.02,
        rail=2.4,
        pole_length=1.0,
    )


def panel(frame, episode=0):
    left = PANEL_LEFTS[episode]
    return frame[:, left : left + 400]


def first_panel(recording):
    return panel(next(frames(recording)))


def pixels_of(picture, colour, tolerance=12):
    """Rows and columns of the pixels near a colour."""
    distance = np.abs(picture.astype(int) - np.array(colour)).max(axis=-1)
    rows, columns = np.nonzero(distance <= tolerance)
    assert rows.size, f"no pixel is near {colour}"
    return rows, columns


def has_colour(picture, colour):
    return bool((np.abs(picture.astype(int) - np.array(colour)).max(axis=-1) <= 12).any())


def cart_column(picture):
    _, columns = pixels_of(picture[130:190], video._CART)
    return (columns.min() + columns.max()) / 2


def assert_same(left, right):
    for field in dataclasses.fields(Recording):
        ours, theirs = getattr(left, field.name), getattr(right, field.name)
        if isinstance(ours, np.ndarray):
            assert ours.dtype == theirs.dtype, field.name
            assert ours.shape == theirs.shape, field.name
            assert ours.tobytes() == theirs.tobytes(), field.name
        else:
            assert ours == theirs, field.name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"states": np.zeros((4, 3, 4))}, r"`states` has shape \(4, 3, 4\).*\(5, 3, 4\)"),
        ({"states": np.zeros((5, 3, 4), int)}, "`states` has dtype int64.*floating-point"),
        ({"states": [[[0.0] * 4] * 3] * 5}, "`states` is a list.*NumPy array"),
        ({"states": np.full((5, 3, 4), np.nan, np.float32)}, "`states`.*not finite"),
        ({"actions": np.zeros((4, 2), np.float32)}, r"`actions` has shape \(4, 2\).*\(4, 3\)"),
        ({"actions": np.zeros((4, 3, 1), np.float32)}, r"`actions` has shape \(4, 3, 1\)"),
        ({"actions": np.zeros((0, 3), np.float32)}, r"`actions` has shape \(0, 3\).*\(1, 3\)"),
        ({"actions": np.array(0.0)}, r"`actions` has shape \(\)"),
        ({"actions": np.full((4, 3), np.inf, np.float32)}, "`actions`.*not finite"),
        ({"score_rates": np.zeros((5, 3), np.float32)}, r"`score_rates` has shape \(5, 3\)"),
        ({"score_rates": np.full((4, 3), 1.5, np.float32)}, r"`score_rates`.*outside \[0, 1\]"),
        ({"score_rates": np.full((4, 3), np.nan, np.float32)}, r"`score_rates`.*outside \[0, 1\]"),
        ({"lengths": np.array([4, 4])}, r"`lengths` has shape \(2,\)"),
        ({"lengths": np.array([4.0, 4.0, 4.0])}, "`lengths` has dtype float64.*integer"),
        ({"lengths": np.array([4, 0, 4])}, r"`lengths` is \[4, 0, 4\].*1 to 4"),
        ({"lengths": np.array([4, 5, 4])}, r"`lengths` is \[4, 5, 4\].*1 to 4"),
        ({"dt": 0.0}, "`dt` is 0.0.*positive"),
        ({"rail": float("nan")}, "`rail` is nan.*positive"),
        ({"pole_length": -1.0}, "`pole_length` is -1.0.*positive"),
    ],
)
def test_a_wrong_recording_is_refused_in_one_line(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        still_recording(**changes)
    assert "\n" not in str(caught.value)


def test_score_after_termination_is_refused():
    with pytest.raises(ValueError, match="zero after an episode's end"):
        still_recording(rate=0.5, lengths=np.array([4, 2, 4]))


def test_states_after_termination_may_be_anything():
    states = np.zeros((5, 3, 4), np.float32)
    states[3:, 1] = np.nan
    recording = still_recording(states=states, lengths=np.array([4, 2, 4]))
    assert len(list(frames(recording))) == 5


def test_score_so_far_counts_rates_over_the_horizon():
    rates = np.array([[1.0, 0.25], [0.5, 0.0], [0.0, 0.0], [1.0, 0.0]], np.float32)
    expected = [[0, 0], [250, 62], [375, 62], [375, 62], [625, 62]]
    np.testing.assert_array_equal(score_so_far(rates), expected)


def test_score_so_far_of_a_perfect_episode_is_1000():
    scores = score_so_far(np.ones((500, 3), np.float32))
    assert scores.shape == (501, 3)
    assert np.issubdtype(scores.dtype, np.integer)
    np.testing.assert_array_equal(scores[:, 0], 2 * np.arange(501))


def test_the_score_shown_is_the_score_so_far():
    early, late = np.zeros((2, 4, 3), np.float32)
    early[0], late[3] = 1, 1
    first = list(frames(still_recording(score_rates=early)))
    second = list(frames(still_recording(score_rates=late)))
    same = [np.array_equal(a, b) for a, b in zip(first, second, strict=True)]
    assert same == [True, False, False, False, True]


@pytest.mark.parametrize(
    ("dt", "steps", "count"),
    [(0.02, 10, 11), (0.01, 10, 6), (0.005, 10, 3), (0.04, 10, 11), (0.02, 1, 2)],
)
def test_a_frame_every_fiftieth_of_a_second(dt, steps, count):
    pictures = list(frames(still_recording(steps, dt=dt)))
    assert len(pictures) == count
    assert {picture.shape for picture in pictures} == {(300, 1240, 3)}
    assert {picture.dtype for picture in pictures} == {np.dtype(np.uint8)}


def test_frames_can_be_kept():
    pictures = list(frames(moving_recording()))
    assert not np.array_equal(pictures[0], pictures[-1])


def test_panels_are_separated_by_gaps():
    frame = next(frames(moving_recording()))
    for left in (400, 820):
        assert (frame[:, left : left + 20] == video._PAGE).all()
        assert (frame[:, left - 1] == video._PANEL).all()
        assert (frame[:, left + 20] == video._PANEL).all()


@pytest.mark.parametrize(
    ("theta", "column_sign", "row_sign"),
    [(UPRIGHT, 0, -1), (RIGHT, 1, 0), (HANGING, 0, 1), (LEFT, -1, 0)],
)
def test_the_pole_points_where_its_angle_says(theta, column_sign, row_sign):
    rows, columns = pixels_of(first_panel(still_recording(theta=theta)), video._POLE)
    middle_row, middle_column = 160, 200
    assert np.sign(round((rows.mean() - middle_row) / 10)) == row_sign
    assert np.sign(round((columns.mean() - middle_column) / 10)) == column_sign


def test_a_long_pole_on_a_short_rail_hangs_above_the_force():
    picture = first_panel(still_recording(theta=HANGING, rail=0.1))
    rows, _ = pixels_of(picture, video._POLE)
    assert rows.max() <= video._VIDEO_PANEL.force_y


def test_cart_and_pole_share_one_scale():
    step = cart_column(first_panel(still_recording(x=1.0)))
    scale = step - cart_column(first_panel(still_recording(x=0.0)))
    far_left = cart_column(first_panel(still_recording(x=-2.0)))
    assert far_left == pytest.approx(200 - 2 * scale, abs=1)

    slanted = first_panel(still_recording(x=1.0, theta=0.6))
    rows, columns = pixels_of(slanted, video._POLE)
    tip = np.argmin(rows)
    # The pole's round end reaches half its thickness (4 px) beyond the tip.
    assert rows[tip] == pytest.approx(160 - scale * np.cos(0.6) - 4, abs=1.5)
    assert columns[tip] == pytest.approx(step + scale * np.sin(0.6), abs=3)


@pytest.mark.parametrize("x", [-2.4, 2.4])
def test_the_pole_stays_in_its_panel_at_the_rails_end(x):
    for theta in np.linspace(0, 2 * np.pi, 9):
        frame = next(frames(still_recording(x=x, theta=theta)))
        assert (panel(frame)[:, [0, -1]] == video._PANEL).all()


@pytest.mark.parametrize("x", [-50.0, 50.0])
def test_a_cart_far_outside_touches_no_other_panel(x):
    states = np.zeros((5, 3, 4), np.float32)
    states[:, 1, 0] = x
    outside, inside = (next(frames(still_recording(**c))) for c in ({"states": states}, {}))
    for episode in (0, 2):
        np.testing.assert_array_equal(panel(outside, episode), panel(inside, episode))
    assert has_colour(panel(outside, 1), video._CART)
    assert (outside[:, 400:420] == video._PAGE).all()


def test_only_the_hanging_start_is_captioned_so():
    frame = next(frames(still_recording()))
    assert not np.array_equal(panel(frame, 0), panel(frame, 1))
    np.testing.assert_array_equal(panel(frame, 1), panel(frame, 2))
    np.testing.assert_array_equal(panel(frame, 0)[60:], panel(frame, 1)[60:])


def force_extent(action):
    _, columns = pixels_of(first_panel(still_recording(action=action)), video._FORCE)
    return columns.min() - 200, columns.max() - 200


def test_the_force_bar_shows_the_clipped_action():
    assert force_extent(3.0) == force_extent(1.0)
    assert force_extent(-9.0) == force_extent(-1.0)
    half, full = force_extent(0.5), force_extent(1.0)
    assert half[1] == pytest.approx(35, abs=4)
    assert full[1] == pytest.approx(70, abs=4)
    assert force_extent(-1.0)[0] == pytest.approx(-70, abs=4)


def test_an_episode_that_ends_stands_still_and_says_so():
    pictures = [panel(frame, 1) for frame in frames(moving_recording(30, (30, 12, 30)))]
    for before, after in itertools.pairwise(pictures[:13]):
        assert not np.array_equal(before, after)
    for later in pictures[13:]:
        np.testing.assert_array_equal(later, pictures[12])
    assert [has_colour(p, video._ALARM) for p in pictures] == [False] * 12 + [True] * 19
    assert has_colour(pictures[11], video._CART)
    assert not has_colour(pictures[12], video._CART), "the frozen state is dimmed"


def test_the_other_episodes_go_on():
    pictures = list(frames(moving_recording(30, (30, 12, 30))))
    for episode in (0, 2):
        assert not np.array_equal(panel(pictures[20], episode), panel(pictures[30], episode))
        assert not has_colour(panel(pictures[30], episode), video._ALARM)


def test_an_end_inside_the_rail_is_not_called_leaving_it():
    lengths = np.array([4, 2, 4])
    inside = list(frames(still_recording(lengths=lengths)))[-1]
    outside = list(frames(still_recording(lengths=lengths, x=2.41)))[-1]
    assert has_colour(panel(inside, 1), video._ALARM)
    assert not np.array_equal(panel(inside, 1)[:60], panel(outside, 1)[:60])


def decode(path):
    """Returns ffmpeg's line about the video stream, and the pictures."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-fps_mode", "passthrough"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    stream = next(line for line in done.stderr.decode().splitlines() if "Video:" in line)
    return stream, np.frombuffer(done.stdout, np.uint8).reshape(-1, 300, 1240, 3)


def test_the_video_decodes_to_the_frames(tmp_path):
    path = tmp_path / "episodes.mp4"
    recording = moving_recording()
    write_video(path, recording)
    stream, pictures = decode(path)
    for fact in ("Video: h264", " yuv420p", " 1240x300", " 50 fps"):
        assert fact in stream
    drawn = list(frames(recording))
    assert len(pictures) == len(drawn) == 31
    for shown, wanted in zip(pictures, drawn, strict=True):
        assert np.abs(shown.astype(int) - wanted).mean() < 3
    assert list(tmp_path.iterdir()) == [path]


def test_the_index_comes_before_the_pictures(tmp_path):
    write_video(tmp_path / "a.mp4", still_recording())
    content = (tmp_path / "a.mp4").read_bytes()
    assert content[4:8] == b"ftyp"
    assert 0 < content.index(b"moov") < content.index(b"mdat")


@pytest.mark.parametrize("count", [2, 8])
def test_the_film_strip_has_a_panel_a_moment(tmp_path, count):
    path = tmp_path / "strip.png"
    write_film_strip(path, moving_recording(), count=count)
    with Image.open(path) as strip:
        assert strip.format == "PNG"
        assert strip.size == (count * 200 + (count - 1) * 6, 150)
    assert list(tmp_path.iterdir()) == [path]


def strip_panels(path, count):
    pixels = np.asarray(Image.open(path))
    return [pixels[:, 206 * column : 206 * column + 200] for column in range(count)]


def test_the_film_strip_runs_from_start_to_end(tmp_path):
    steps = 30
    states = np.zeros((steps + 1, 3, 4), np.float32)
    states[:, 0, 2] = np.linspace(np.pi, 2 * np.pi, steps + 1)
    write_film_strip(tmp_path / "a.png", still_recording(steps, states=states), count=3)
    hanging, level, upright = strip_panels(tmp_path / "a.png", 3)
    hinge_row = 82
    assert pixels_of(hanging, video._POLE)[0].mean() > hinge_row + 8
    assert pixels_of(upright, video._POLE)[0].mean() < hinge_row - 8
    assert pixels_of(level, video._POLE)[0].mean() == pytest.approx(hinge_row, abs=1)


def test_the_film_strip_of_an_ended_episode_ends_with_it(tmp_path):
    write_film_strip(tmp_path / "a.png", moving_recording(), episode=1, count=4)
    alarms = [has_colour(p, video._ALARM) for p in strip_panels(tmp_path / "a.png", 4)]
    assert alarms == [False, False, False, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"episode": 3}, "`episode` is 3.*0 to 2"), ({"count": 1}, "`count` is 1.*at least 2")],
)
def test_a_wrong_film_strip_is_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_film_strip(tmp_path / "a.png", moving_recording(), **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_recording_comes_back_bit_for_bit(tmp_path):
    path = tmp_path / "episodes.safetensors"
    recording = dataclasses.replace(moving_recording(), dt=0.1 + 0.2, rail=1 / 3)
    save_recording(path, recording)
    assert_same(load_recording(path), recording)
    assert list(tmp_path.iterdir()) == [path]


def test_a_recording_of_another_layout_and_type_comes_back(tmp_path):
    whole = moving_recording()
    turned = dataclasses.replace(
        whole,
        states=np.asfortranarray(whole.states.astype(np.float64)),
        actions=np.repeat(whole.actions, 2, axis=0)[::2],
        lengths=whole.lengths.astype(np.int32),
    )
    save_recording(tmp_path / "a", turned)
    assert_same(load_recording(tmp_path / "a"), turned)


def assert_refused(path, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_recording(path)
    text = str(caught.value)
    assert str(path) in text
    assert "record the episodes again" in text
    assert "\n" not in text


def test_a_truncated_recording_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    save_recording(path, moving_recording())
    content = path.read_bytes()
    for size in [0, 1, 8, 9, 200, len(content) // 2, len(content) - 1]:
        path.write_bytes(content[:size])
        assert_refused(path, "damaged or not a recording")


def test_a_flipped_bit_never_passes_unseen(tmp_path):
    path = tmp_path / "a.safetensors"
    recording = moving_recording()
    save_recording(path, recording)
    content = path.read_bytes()
    generator = np.random.default_rng(1)
    header = int.from_bytes(content[:8], "little") + 8
    offsets = [*range(header), *generator.integers(header, len(content), 50).tolist()]
    for offset in offsets:
        broken = bytearray(content)
        broken[offset] ^= 1 << generator.integers(8)
        path.write_bytes(broken)
        try:
            loaded = load_recording(path)
        except ValueError as error:
            assert str(path) in str(error)
        else:
            assert_same(loaded, recording)


@pytest.mark.parametrize("content", [b"not a recording", b"\x89PNG\r\n\x1a\n" * 40, b"\0" * 99])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert_refused(tmp_path / "a", "damaged or not a recording")


def test_other_safetensors_are_refused(tmp_path):
    path = tmp_path / "policy.safetensors"
    path.write_bytes(safetensors.numpy.save({"w": np.zeros(3)}))
    assert_refused(path, "is not a recording of shapesweep")


def test_another_schema_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "_SCHEMA", "0")
    save_recording(tmp_path / "a", moving_recording())
    monkeypatch.undo()
    assert_refused(tmp_path / "a", "schema '0', not the '2'")


def test_a_missing_file_stays_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_recording(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        load_recording(tmp_path)


def break_drawing(monkeypatch):
    draw, calls = video._draw_panel, []

    def failing(layout, moment):
        calls.append(moment)
        if len(calls) > 5:
            raise RuntimeError("drawing failed")
        return draw(layout, moment)

    monkeypatch.setattr(video, "_draw_panel", failing)


def break_ffmpeg(monkeypatch, tmp_path_factory):
    fake = tmp_path_factory.mktemp("bin") / "ffmpeg"
    fake.write_text("#!/bin/sh\necho 'the disk is full' >&2\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(fake))


@pytest.fixture(params=["new", "replacing"])
def target(request, tmp_path):
    """A path and what must lie in its folder after a failed write."""
    path = tmp_path / "out"
    if request.param == "replacing":
        path.write_bytes(b"earlier")
    yield path
    left = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    assert left == ({"out": b"earlier"} if request.param == "replacing" else {})


def test_a_failure_while_drawing_leaves_no_video(target, monkeypatch):
    break_drawing(monkeypatch)
    with pytest.raises(RuntimeError, match="drawing failed"):
        write_video(target, moving_recording())


def test_a_failing_ffmpeg_leaves_no_video(target, monkeypatch, tmp_path_factory):
    break_ffmpeg(monkeypatch, tmp_path_factory)
    with pytest.raises(OSError, match="ffmpeg could not write a video in .*the disk is full"):
        write_video(target, moving_recording())


def test_a_failure_while_writing_leaves_no_film_strip(target, monkeypatch):
    def failing(image, file, format):
        Path(file).write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(Image.Image, "save", failing)
    with pytest.raises(OSError, match="the disk is full"):
        write_film_strip(target, moving_recording())


def test_a_failure_while_writing_leaves_no_recording(target, monkeypatch):
    def failing(path, content):
        with open(path, "wb") as file:
            file.write(content[:10])
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", failing)
        with pytest.raises(OSError, match="the disk is full"):
            save_recording(target, moving_recording())


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_video(tmp_path / "nowhere" / "a.mp4", moving_recording())


def test_rendering_needs_no_jax():
    program = (
        "import sys; import rlcore.video;"
        "heavy = {'jax', 'ray', 'mlflow'} & set(sys.modules); sys.exit(' '.join(heavy) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
